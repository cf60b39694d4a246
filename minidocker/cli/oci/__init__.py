"""The OCI runtime's command line, `minidocker-oci`: parse, one call of the runtime, print.

    argv ─► parse ─► Call ─► lifecycle | ending | execute | listing | resources | describe ─► runtime
                       └───► Store: the containers below --root

podman, containerd and docker run this; none of them is asked for, so no click, no engine, no database.
"""

from __future__ import annotations

import sys

from minidocker.cli.oci import parse, report
from minidocker.errors import MinidockerError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

INTERRUPTED, BROKEN_PIPE = 128 + 2, 128 + 13
# What these two exit with is their program's own, so a failure of ours is told from it as docker does; all others fail with 1.
_PASSING_ON = ("run", "exec")


def main(argv: list[str] | None = None) -> int:
    """Do what `argv` (without the program; sys.argv's by default) asks for; returns the exit code. The only place that turns errors into
    messages."""
    words = sys.argv[1:] if argv is None else argv
    call = None
    try:
        call = parse.parse(words)
        report.set_up(call.globals)
        if call.name and not call.options.get("help"):
            return _function(call)(call)
        from minidocker.cli.oci import usage

        return usage.show(call)
    except MinidockerError as error:
        report.failure(error)
        if isinstance(error, UsageError) and call is None:
            return 1
        return error.exit_code if call is not None and call.name in _PASSING_ON and error.exit_code != 1 else 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return BROKEN_PIPE
    except Exception as error:
        report.internal(error)
        return 1


def _function(call: parse.Call) -> Callable[[parse.Call], int]:
    """The function in this package that does the command."""
    from minidocker.cli.oci.commands import COMMANDS

    command = COMMANDS[call.name]
    module = f"{__name__}.{command.module}"
    __import__(module)
    function: Callable[[parse.Call], int] = getattr(sys.modules[module], command.function)
    return function
