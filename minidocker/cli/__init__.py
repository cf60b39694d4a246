"""The command line: parse, one engine call, print.

    argv ─► hot.parse ─► Call ─┐
              │ None           ├─► containers | networks | system ─► engine
              └─► app.parse ───┘
                  (click: help, errors, every other command)
"""

from __future__ import annotations

import os
import sys

from minidocker.cli import output
from minidocker.errors import KernelError, MinidockerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minidocker.cli.call import Call

INTERRUPTED, BROKEN_PIPE = 128 + 2, 128 + 13  # as a shell sees a process that SIGINT or SIGPIPE has ended
INTERNAL = 125


def main(argv: list[str] | None = None) -> int:
    """Do what `argv` (without the program; sys.argv's by default) asks for and return the exit code.

    The only place that turns errors into lines on stderr and exit codes. stdout may still hold what click wrote: the caller flushes.
    """
    from minidocker.cli import hot  # not above: the OCI command line, which lives below this package, has no use for it

    words = sys.argv[1:] if argv is None else argv
    call: Call | None = None
    try:
        if "_MINIDOCKER_COMPLETE" in os.environ:
            from minidocker.cli import complete

            return complete.reply(words)
        call = hot.parse(words)
        if call is None:
            from minidocker.cli.app import parse

            parsed = parse(words)
            if isinstance(parsed, int):
                return parsed
            call = parsed
        return _function(call)(call)
    except MinidockerError as error:
        _traceback(words)
        output.report(error)
        return call.command.fails_with if call is not None and error.exit_code == 1 else error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return BROKEN_PIPE
    except OSError as error:  # a call that never fails, but for want of memory, of descriptors, of a disk
        _traceback(words)
        action = f"minidocker {call.command.name}" if call is not None else "minidocker"
        output.report(KernelError(action, error.errno or 0, str(error.filename or ""), "run it with --debug to see which call failed"))
        return INTERNAL
    except Exception as error:
        if not _traceback(words):
            output.internal(error)
        return INTERNAL


def _function(call: Call) -> Callable[[Call], int]:
    """The function in cli/ that does this command."""
    module = f"minidocker.cli.{call.command.group}"
    __import__(module)
    function: Callable[[Call], int] = getattr(sys.modules[module], call.command.function)
    return function


def _traceback(words: list[str]) -> bool:
    """Under --debug, print the traceback of the error in hand; whether it did."""
    before_command = iter(words)
    for word in before_command:
        if word == "--debug":
            import traceback

            traceback.print_exc()
            return True
        if word == "--root":
            next(before_command, None)
        elif not word.startswith("-"):
            break
    return False
