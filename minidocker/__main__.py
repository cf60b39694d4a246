"""`python -m minidocker`, and what the launcher starts."""

from __future__ import annotations

import _signal
import gc
import os
import sys

# A command lives for milliseconds and makes little that refers to itself: looking for that would cost 2 ms while modules load.
# What lives longer (a monitor, a follower of logs) switches it on again.
gc.disable()
# Ctrl-C while modules load just ends us, without a traceback; afterwards it is the usual exception.
_INTERRUPTIBLE = _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler  # it is not in a script's background
if _INTERRUPTIBLE:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

from minidocker import imports  # noqa: E402

imports.shorten()


def start(face: str = "minidocker.cli") -> None:
    """Run a command line, `minidocker.cli` or `minidocker.cli.oci`, and leave at once: the interpreter's own way out costs milliseconds and
    frees what the kernel frees anyway."""
    _open_standard_streams()
    __import__(face)
    if _INTERRUPTIBLE:
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    code: int = sys.modules[face].main()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):  # the reader has gone, or the stream was closed before we started
            pass
    os._exit(code)


def _open_standard_streams() -> None:
    """A caller may have closed 0, 1 or 2 (`>&-`): what we open next must not take their place and get a container's output."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open("/dev/null", os.O_RDWR)  # gets the lowest free number: this one


if __name__ == "__main__":
    start()
