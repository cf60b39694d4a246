"""What is said besides results: on stderr, and in the file of --log, a line a message.

    text    time="2026-01-31T12:00:00Z" level=error msg="..."
    json    {"level": "error", "msg": "...", "time": "2026-01-31T12:00:00Z"}

podman, containerd and docker read the last error there, or stderr, and look for the words by which the kernel and Go call an error.
"""

from __future__ import annotations

import os
import time

from minidocker.cli import output
from minidocker.errors import MinidockerError, TargetNotExecutable, TargetNotFound, UsageError

_PROGRAM = "minidocker-oci"


class _Log:
    descriptor = -1
    json = False
    debug = False


def set_up(options: dict[str, object]) -> None:
    """--log, --log-format, --debug. UsageError, MinidockerError."""
    _Log.debug = options.get("debug") is True
    format = options.get("log_format", "text")
    if format not in ("text", "json"):
        raise UsageError(f"--log-format {format}: neither text nor json")
    _Log.json = format == "json"
    path = options.get("log")
    if isinstance(path, str) and path:
        try:
            _Log.descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise MinidockerError(f"open the log `{path}`: {(error.strerror or '').lower()}") from error


def descriptors() -> tuple[int, ...]:
    """What the log holds open."""
    return (_Log.descriptor,) if _Log.descriptor >= 0 else ()


def failure(error: MinidockerError) -> None:
    """An error: a line on stderr and in the log, the hint with it."""
    message = _in_engines_words(error)
    # what helps with a program that is not there is said to a user of minidocker, who has the host's programs, too
    hint = f" ({error.hint})" if error.hint and not isinstance(error, TargetNotFound) else ""
    _traceback()
    _log("error", message + hint)
    output.complain(f"{_PROGRAM}: {output.printable(message)}{output.printable(hint)}\n")


def internal(error: BaseException) -> None:
    """An error that is nobody's but ours."""
    message = f"internal error: {type(error).__name__}: {error}"
    _traceback()
    _log("error", message)
    output.complain(f"{_PROGRAM}: {output.printable(message)}\n")


def warn(message: str) -> None:
    """What the caller should know though nothing failed."""
    if _Log.descriptor >= 0:
        _log("warning", message)
    else:
        output.complain(f"{_PROGRAM}: {output.printable(message)}\n")


def debug(message: str) -> None:
    """What --debug shows."""
    if _Log.debug and _Log.descriptor >= 0:
        _log("debug", message)
    elif _Log.debug:
        output.complain(f"{_PROGRAM}: {output.printable(message)}\n")


def _in_engines_words(error: MinidockerError) -> str:
    """podman and docker exit with 127 or 126 when they find these words."""
    if isinstance(error, TargetNotFound):
        words = "executable file not found in $PATH" if "is not found" in error.message else "no such file or directory"
    elif isinstance(error, TargetNotExecutable):
        words = "permission denied"
    else:
        return error.message
    return error.message if words in error.message else f"{error.message}: {words}"


def _traceback() -> None:
    if _Log.debug:
        import traceback

        debug(traceback.format_exc())


def _log(level: str, message: str) -> None:
    if _Log.descriptor < 0:
        return
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    from minidocker.spec import fastjson

    if _Log.json:
        line = fastjson.dumps({"level": level, "msg": message, "time": now})
    else:
        line = f'time="{now}" level={level} msg={fastjson.dumps(message)}'
    try:
        os.write(_Log.descriptor, line.encode("utf-8", "surrogateescape") + b"\n")
    except OSError:
        return  # a full disk; stderr has it too
