"""One call of the engine from somebody's program: a helper process does it, and this one waits.

    this process                              helper: a fresh interpreter, in a session of its own
    ├── memory file 3 ──── what is asked ───► reads it (again, where exec has executed it anew from a read-only mount)
    ├── socket 4      ──── one byte: go ────► begins
    │                 ◄── notices, outcome ── {"value": ...} or {"error": [...]}, a line each
    └── pipes 1, 2    ◄── what a container or a command in one has written

Why not here: the engine forks (a monitor), joins namespaces, sets the umask and forwards signals, which in a process with threads and
handlers of its own would be an outrage. The helper is waited for by its pidfd, which is open before it may end; so neither a SIGCHLD
handler that reaps whatever it finds, nor SIGCHLD ignored, nor a number given to another process matters.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import os
import select
import signal
import socket
import sys
import time
import warnings
from typing import Any, NoReturn

from minidocker import errors
from minidocker.api.result import Notice
from minidocker.errors import KernelError, MinidockerError

REQUEST, CHANNEL = 3, 4
_CHUNK = 1 << 16
_MOST_LEFT = 1 << 20  # bytes that are still read of a pipe when the call is over: no pipe holds more by default (pipe(7))
# What an interpreter or its program may have ignored, which execve passes on.
_TO_DEFAULT = (signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Answer:
    """What a call gave: its value, and what was written meanwhile."""

    __slots__ = ("stderr", "stdout", "value")

    def __init__(self, value: Any, stdout: bytes, stderr: bytes) -> None:
        self.value = value
        self.stdout = stdout
        self.stderr = stderr


class Expired(MinidockerError):
    """There was no answer in time."""


def ask(what: dict[str, Any], stdin: bytes | None = None, timeout: float | None = None) -> Answer:
    """Have the helper do `what` (see serving.py). Raises what the engine raised, and Expired after `timeout` seconds. Where this is
    interrupted, or there was no answer in time, the helper is killed, and a container in its foreground ends with it."""
    if os.geteuid() != 0:
        raise MinidockerError("minidocker must be run as root", "use sudo")
    with contextlib.ExitStack() as open_files:
        request = _memory({**what, "caller": os.getpid()}, open_files)
        ours, theirs = socket.socketpair()
        open_files.callback(ours.close)
        pipes = [os.pipe(), os.pipe()]
        for reading, _ in pipes:
            open_files.callback(os.close, reading)
            os.set_blocking(reading, False)
        ends = [os.open("/dev/null", os.O_RDONLY) if stdin is None else _memory(stdin, None), *(writing for _, writing in pipes)]
        try:
            helper = _Helper((*ends, request, theirs.fileno()))
        finally:
            theirs.close()
            for end in ends:
                os.close(end)
        open_files.callback(helper.end)
        ours.send(b"!")
        return _listen(ours, helper, [reading for reading, _ in pipes], None if timeout is None else time.monotonic() + timeout)


def _memory(content: dict[str, Any] | bytes, open_files: contextlib.ExitStack | None) -> int:
    """A file in memory at its beginning; closed with `open_files`."""
    descriptor = os.memfd_create("minidocker")
    if open_files is not None:
        open_files.callback(os.close, descriptor)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content if isinstance(content, bytes) else json.dumps(content).encode("ascii"))
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def spawn(module: str, function: str, descriptors: tuple[int, ...], words: tuple[str, ...] = ()) -> int:
    """Start an interpreter that calls `function` of ours, with these descriptors as 0, 1, 2 and so on, and `words` in its argv; its pid."""
    code = f"import sys; sys.path += {_places()!r}; import {module}; {module}.{function}()"
    try:
        return os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", "-c", code, *words],
            os.environ,
            file_actions=_actions(descriptors),
            setsid=True,  # Ctrl-C is this process's to hear
            setsigmask=(),
            setsigdef=_TO_DEFAULT,
        )
    except OSError as error:
        raise KernelError.of(f"run {sys.executable}", error) from error


class _Helper:
    """The process. It does nothing before it is told to go, so its pidfd is its own."""

    def __init__(self, descriptors: tuple[int, ...]) -> None:
        self.pidfd = os.pidfd_open(spawn("minidocker.api.serving", "serve", descriptors))

    def end(self) -> None:
        """Kill it, if it has not ended, and reap it, if nobody else has."""
        try:
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        except (ProcessLookupError, ChildProcessError):
            return  # this program's own handler has
        finally:
            os.close(self.pidfd)


def _actions(descriptors: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """What makes `descriptors` 0, 1, 2, ... over there: first out of each other's way, then to their places."""
    away = max(*descriptors, len(descriptors)) + 1
    aside = [(os.POSIX_SPAWN_DUP2, descriptor, away + place) for place, descriptor in enumerate(descriptors)]
    home = [(os.POSIX_SPAWN_DUP2, away + place, place) for place in range(len(descriptors))]
    return [*aside, *home, *((os.POSIX_SPAWN_CLOSE, away + place) for place in range(len(descriptors)))]  # type: ignore[list-item]


@functools.cache
def _places() -> list[str]:
    """Where a fresh interpreter imports minidocker from, and what that needs: where they are found here."""
    found = [os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))]
    for name in ("prctl", "_prctl", "click", "pyroute2"):
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise MinidockerError(f"{sys.executable} cannot import {name}", "pip install minidocker, in this interpreter's environment")
        found.append(os.path.dirname(os.path.dirname(spec.origin) if spec.submodule_search_locations else spec.origin))
    return list(dict.fromkeys(found))


def _listen(channel: socket.socket, helper: _Helper, pipes: list[int], deadline: float | None) -> Answer:
    """Collect until there is an outcome, or will be none."""
    written: list[list[bytes]] = [[], []]
    lines, outcome, gone = b"", None, False
    poll = select.poll()
    for descriptor in (channel.fileno(), helper.pidfd, *pipes):
        poll.register(descriptor, select.POLLIN)
    while outcome is None and not gone:
        ready = {descriptor for descriptor, _ in poll.poll(None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000)}
        if not ready:
            raise Expired("there was no answer in time")
        gone = helper.pidfd in ready  # looked at before what it said: that is all there then
        for place, descriptor in enumerate(pipes):
            if descriptor in ready and not _collect(descriptor, written[place], _CHUNK):
                poll.unregister(descriptor)
        if channel.fileno() in ready:
            lines += channel.recv(_CHUNK)
            outcome, lines = _outcome(lines)
    while outcome is None and (data := channel.recv(_CHUNK, socket.MSG_DONTWAIT)):
        outcome, lines = _outcome(lines + data)
    for place, descriptor in enumerate(pipes):
        _collect(descriptor, written[place], _MOST_LEFT)
    if outcome is None:
        raise MinidockerError("minidocker's helper process was killed", "a container that it ran in the foreground has ended with it")
    if "error" in outcome:
        _raise(outcome["error"])
    return Answer(outcome["value"], b"".join(written[0]), b"".join(written[1]))


def _collect(descriptor: int, found: list[bytes], most: int) -> bool:
    """Read what is in a pipe, about `most` bytes at most; False at its end."""
    try:
        while most > 0:
            data = os.read(descriptor, _CHUNK)
            if not data:
                return False
            found.append(data)
            most -= len(data)
    except BlockingIOError:
        pass  # it is empty for now
    return True


def _outcome(lines: bytes) -> tuple[dict[str, Any] | None, bytes]:
    """The outcome if it is among the lines, and what is left of them; notices are passed on."""
    *whole, rest = lines.split(b"\n")
    for line in whole:
        message: dict[str, Any] = json.loads(line)
        if "notice" not in message:
            return message, rest
        warnings.warn(message["notice"], Notice, stacklevel=6)
    return None, rest


def _raise(parts: dict[str, Any]) -> NoReturn:
    """The engine's error, of its own class."""
    kind = getattr(errors, parts["class"], MinidockerError)
    error = kind.__new__(kind)
    Exception.__init__(error, parts["message"])
    for name, value in parts.items():
        if name != "class":
            setattr(error, name, value)
    raise error
