"""The part of the table in options.py that is about the whole of minidocker: `system ...`."""

from __future__ import annotations

from minidocker.cli.options import Command
from minidocker.cli.options_cold import INFO

SYSTEM_COMMANDS: tuple[Command, ...] = (INFO,)
