"""The protocol between a container's parent and its first process, over one SOCK_SEQPACKET pair.

    parent (the monitor)                        child (the container's init)
      │ clone3(NEWPID)  ───────────────────────►  │ into its cgroup: by clone3 itself on v2, by its own hand on v1
      │                                           │ unshare(mount, uts, ipc, network, cgroup), sysctls
      │                    ◄── NAMESPACES + fd ─  │ its network namespace
      │ network, into its namespace               │ mounts, /dev, pivot_root              (both at once)
      │                    ◄── TERMINAL + fd ───  │ with -t: the master of its terminal
      │                    ◄── READY ───────────  │ everything is mounted and the program was found
      │ ───────── START ───────────────────────►  │ rlimits, capabilities, seccomp, then execve
      │                    ◄── end of file ─────  │ execve closed the child's end: the program runs
      │
      │                    ◄── FAILED ──────────  │ at any time: exit code, message, hint; the child then exits

With a new user namespace the child waits for MAPPED before anything: its id maps are written from outside.
A child that meets end of file has lost its parent and ends.
"""

from __future__ import annotations

import _socket
import _struct as struct

from minidocker.errors import MinidockerError, TargetNotExecutable, TargetNotFound

NAMESPACES = b"N"
MAPPED = b"M"
TERMINAL = b"T"
READY = b"R"
START = b"S"
LEFT = b"L"  # instead of START: whoever starts it comes later, by a socket of its own (handover.py)
MOUNTED = b"P"  # with createRuntime hooks alone (hooks.py): all is mounted, nothing pivoted yet
HOOKED = b"H"
LISTENER = b"U"  # with SCMP_ACT_NOTIFY alone (notify.py): a seccomp listener is about to be there
DELIVERED = b"D"
EXECUTED_NOT = b"X"  # the stub's way to say that execve failed (stub.py)
FAILED = b"F"

_LARGEST = 16384
_BY_EXIT_CODE = {127: TargetNotFound, 126: TargetNotExecutable}


class Channel:
    """One end of the pair; messages keep their boundaries."""

    __slots__ = ("socket",)

    def __init__(self, socket: _socket.socket) -> None:
        self.socket = socket

    def fileno(self) -> int:
        return self.socket.fileno()

    def close(self) -> None:
        self.socket.close()

    def send(self, message: bytes, fd: int = -1) -> None:
        ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", fd))] if fd >= 0 else []
        self.socket.sendmsg([message], ancillary, _socket.MSG_NOSIGNAL)

    def send_failure(self, error: MinidockerError) -> None:
        text = f"{error.exit_code}\0{error.message}\0{error.hint}".encode(errors="replace")
        self.send(FAILED + text[: _LARGEST - 1])

    def receive(self) -> tuple[bytes, int]:
        """(message, descriptor or -1); (b"", -1) is the end of file. Raises what the other side sent as FAILED."""
        data, ancillary, _, _ = self.socket.recvmsg(_LARGEST, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
        if data[:1] == FAILED:
            raise _failure(data)
        if data[:1] == EXECUTED_NOT:
            from minidocker.runtime import stub

            raise stub.failure(data)
        fd = struct.unpack("i", ancillary[0][2])[0] if ancillary else -1
        return data, fd

    def expect(self, message: bytes) -> int:
        """Receive exactly `message`; returns the descriptor that came with it, or -1. The other side's end is an error of its own."""
        got, fd = self.receive()
        if got != message:
            raise MinidockerError("the container's first process ended before it was set up" if not got else f"unexpected {got!r}")
        return fd


def _failure(data: bytes) -> MinidockerError:
    code, message, hint = (*data[1:].decode(errors="replace").split("\0", 2), "", "")[:3]
    return _BY_EXIT_CODE.get(int(code) if code.isdecimal() else 0, MinidockerError)(message, hint)


def until_started(channel: Channel, listens: bool = False) -> None:
    """What comes after START, until execve has closed the other end. Raises what kept that from happening. `listens`: a listener may
    come; nobody else is to make us take descriptors from processes and hand them to sockets."""
    message, descriptor = channel.receive()
    if message == LISTENER and listens:
        from minidocker.runtime import notify  # rare

        notify.hand_over(channel, descriptor)
        message, _ = channel.receive()
    if message:
        raise MinidockerError(f"the container's first process said {message!r} instead of starting")


def pair() -> tuple[Channel, Channel]:
    """(parent's end, child's end), both close-on-exec."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    return Channel(ours), Channel(theirs)
