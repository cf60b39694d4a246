"""SCMP_ACT_NOTIFY: system calls that somebody outside decides on (config-linux.md, "Seccomp"; seccomp_unotify(2)).

    container's first process                     whoever said START                    the agent at listenerPath
      │ LISTENER + a memory file ─────────────►     │ (path, number, state)
      │ seccomp(NEW_LISTENER): descriptor `number`  │ pidfd_getfd(number) until it is there
      │                                             │ ──── state + SCM_RIGHTS ────────────►  │ (closed after it)
      │ recvmsg: DELIVERED  ◄───────────────────    │
      │ execve                                      │

The descriptor is fetched, not sent: under a filter that asks about sendmsg(2) nothing could be sent before somebody answers. Even a
filter that asks about recvmsg(2) does no harm: by then the agent is there to answer. Two calls are made under the filter, recvmsg and
execve, and a filter that forbids either ends the start with an error.
"""

from __future__ import annotations

import _socket
import _struct as struct
import os
import time

from minidocker.errors import KernelError, MinidockerError
from minidocker.kernel import libc, process
from minidocker.plan import CHILD, PRIVILEGES, At, Step
from minidocker.runtime import sync
from minidocker.spec import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_PATIENCE = 10.0  # seconds until a filter that was announced is there, and until an agent takes its descriptor
_PAUSE = 0.0005
_LINK = "anon_inode:seccomp notify"
_LARGEST = 1 << 24


class Listening(Step):
    """Load a filter that has a listener, and have the listener taken, before anything runs under it."""

    actor = CHILD
    title = PRIVILEGES
    why = "some system calls are somebody else's to decide on"

    def __init__(
        self, filter: process.Filter, channel: sync.Channel, seccomp: dict[str, Any], state: Callable[[], dict[str, Any]]
    ) -> None:
        """`seccomp` OCI's linux.seccomp; `state` the container's (runtime.md, "State")."""
        self.filter = filter
        self.channel = channel
        self.seccomp = seccomp
        self.state = state

    def shell(self) -> str:
        return f"# the seccomp filter, {self.filter.length} BPF instructions, is left out: no stock tool loads one, nor has a listener"

    def describe(self) -> str:
        return "load the seccomp filter and hand its listener over"

    def apply(self, at: At) -> None:
        state = {**self.state(), "pid": at.pid}
        told = {"ociVersion": state["ociVersion"], "fds": ["seccompFd"], "pid": at.pid, "state": state}
        if self.seccomp.get("listenerMetadata"):
            told["metadata"] = self.seccomp["listenerMetadata"]
        # a new descriptor is the lowest that is free: the listener's will be this one's, closed just before
        number = os.memfd_create("listener", os.MFD_CLOEXEC)
        document = {"path": self.seccomp["listenerPath"], "number": number, "state": told}
        os.write(number, fastjson.dumps(document).encode())
        self.channel.send(sync.LISTENER, number)
        os.close(number)
        self.filter.load()
        self.channel.expect(sync.DELIVERED)


def hand_over(channel: sync.Channel, announcement: int) -> None:
    """A listener was announced, in the memory file behind descriptor `announcement`: take it to its agent, and say so. Raises what
    kept it from happening; the container's first process ends when `channel` is closed."""
    try:
        announced = fastjson.loads(os.pread(announcement, _LARGEST, 0).decode())
    finally:
        os.close(announcement)
    listener = _fetch(announced["state"]["pid"], announced["number"])
    try:
        deliver(announced["path"], listener, announced["state"])
    finally:
        os.close(listener)
    channel.send(sync.DELIVERED)


def _fetch(pid: int, number: int) -> int:
    """The descriptor `number` of process `pid`, as soon as it is a seccomp listener."""
    action = "take the container's seccomp listener"
    deadline = time.monotonic() + _PATIENCE
    try:
        pidfd = process.pidfd_open(pid)
    except OSError as error:
        raise KernelError.of(action, error) from error
    try:
        while not process.pidfd_ended(pidfd) and time.monotonic() < deadline:
            try:
                if os.readlink(f"/proc/{pid}/fd/{number}") == _LINK:
                    return libc.syscall(libc.SYS.pidfd_getfd, pidfd, number, 0)
            except FileNotFoundError:
                pass
            except OSError as error:
                raise KernelError.of(action, error) from error
            time.sleep(_PAUSE)
    finally:
        os.close(pidfd)
    raise MinidockerError(f"{action}: there is none", "the filter could not be loaded, or ended the process")


def deliver(path: str, listener: int, state: dict[str, Any]) -> None:
    """Send the container process state, and with it the descriptor, to the agent that listens at `path`: one connection, one message."""
    socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        socket.settimeout(_PATIENCE)
        socket.connect(path)
        data = memoryview(fastjson.dumps(state).encode())
        ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", listener))]
        sent = socket.sendmsg([data], ancillary, _socket.MSG_NOSIGNAL)
        while sent < len(data):
            sent += socket.send(data[sent:], _socket.MSG_NOSIGNAL)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise MinidockerError(f"hand the seccomp listener to `{path}`: {why.lower()}", "is its agent listening there?") from error
    finally:
        socket.close()
