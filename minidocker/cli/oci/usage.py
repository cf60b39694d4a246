"""--help and --version."""

from __future__ import annotations

from minidocker import __version__
from minidocker.cli import output
from minidocker.cli.oci import commands, parse
from minidocker.runtime.state import OCI_VERSION

_HEAD = """\
minidocker-oci: run containers as the OCI runtime-spec has them, for podman, containerd and docker.

usage: minidocker-oci [OPTIONS] COMMAND [ARG...]
"""


def show(call: parse.Call) -> int:
    """The version, or the help of a command or of all; a bare `minidocker-oci` is an error that shows it."""
    if call.globals.get("version"):
        output.say(f"minidocker-oci version {__version__}\nspec: {OCI_VERSION}")
        return 0
    if call.name:
        command = commands.COMMANDS[call.name]
        text = f"{command.summary}\n\nusage: minidocker-oci {call.name} [OPTIONS] {command.usage}".rstrip()
        output.say(text + "\n\noptions:\n" + _indented(command.options + "\n-h, --help               print this"))
        return 0
    listed = "\n".join(f"{name:<24} {command.summary}" for name, command in commands.COMMANDS.items())
    output.say(f"{_HEAD}\noptions:\n{_indented(commands.GLOBAL)}\n\ncommands:\n{_indented(listed)}")
    return 0 if call.globals.get("help") else 1


def _indented(text: str) -> str:
    return "\n".join("  " + line for line in text.strip().splitlines())
