"""`system boot` and `generate systemd`: what happens to containers when the host comes up."""

from __future__ import annotations

import os
import sys

from minidocker.cli import output
from minidocker.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minidocker.cli.call import Call


def boot(call: Call) -> int:
    """`system boot`: the name of each container as it is up; 1 when any failed to start."""
    from minidocker.cli.containers import each

    host = call.host()
    from minidocker.engine import boot as booting
    from minidocker.engine import run as runs

    names = [booting.name(host, id) for id in booting.due(host)]
    return each(names, lambda name: runs.start(host, name, output.explain))


def systemd(call: Call) -> int:
    """`generate systemd`: the unit file."""
    if call.flag("new") and not call.arguments:
        raise UsageError("--new is about a container", "minidocker generate systemd --new NAME")
    host = call.host()
    from minidocker.engine.boot import unit

    program = _program() + ([] if call.root is None and "MINIDOCKER_ROOT" not in os.environ else [f"--root={host.root}"])
    output.say_text(unit(host, call.arguments[0] if call.arguments else None, call.flag("new"), program))
    return 0


def _program() -> list[str]:
    """How we were called, as systemd can."""
    path = os.path.abspath(sys.argv[0])
    return [path] if os.path.isfile(path) and os.access(path, os.X_OK) else [sys.executable, "-m", "minidocker"]
