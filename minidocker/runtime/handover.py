"""How a container outlives the command that made it: `create` leaves, and another command, `start`, finds its first process waiting.

    create                      init                                        start
      │          ◄── READY ──    │
      │ state.json is written    │
      │ ──── LEFT ───────────►   │ accept(2) on DIRECTORY/start
      x                          │  ◄──────────────── connect, START ────    │
                                 │ startContainer hooks, privileges, execve  │
                                 │  ───── end of file, or FAILED ────────►   │ DIRECTORY/start is removed: it runs
An init whose `create` dies before LEFT meets end of file, and ends: there is none that no state.json tells of.
The socket is one of the file system's, below a directory of root's alone: an abstract one every process of a container on the host's
network could reach (CVE-2020-15257).
"""

from __future__ import annotations

import _socket
import os

from minidocker.errors import MinidockerError, StateError
from minidocker.runtime import sync

START_SOCKET = "start"


class Lasting:
    """What the OCI command line says of a container besides its configuration.

    `listener` the socket on which its first process waits for its start, None where that comes from its parent; `bundle` and `created`
    for its state; `preserve_fds` how many descriptors from 3 on go along; `pivot` whether by pivot_root(2); `keyring` whether it gets a
    session keyring of its own; `held` descriptors of ours that it must not keep open: a lock, a log.
    """

    __slots__ = ("bundle", "created", "held", "keyring", "listener", "pivot", "preserve_fds")

    def __init__(
        self,
        listener: _socket.socket | None = None,
        bundle: str = "",
        created: float = 0,
        preserve_fds: int = 0,
        pivot: bool = True,
        keyring: bool = True,
        held: tuple[int, ...] = (),
    ) -> None:
        self.listener = listener
        self.bundle = bundle
        self.created = created
        self.preserve_fds = preserve_fds
        self.pivot = pivot
        self.keyring = keyring
        self.held = held


def listen(directory: str) -> _socket.socket:
    """The socket on which init will wait, bound in `directory`."""
    socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    with _Short(directory) as short:
        socket.bind(f"{short}/{START_SOCKET}")
    socket.listen(4)
    return socket


def accept(listener: _socket.socket, channel: sync.Channel) -> None:
    """In the child: wait for somebody who says START; `channel` speaks to him from then on. Who leaves without a word is not heard."""
    while True:
        descriptor, _ = listener._accept()  # type: ignore[attr-defined]  # socket.accept would cost the import of `socket`
        caller = sync.Channel(_socket.socket(fileno=descriptor))
        message, _ = caller.receive()
        if message == sync.START:
            channel.close()
            channel.socket = caller.socket
            return
        caller.close()


def waits(directory: str) -> bool:
    """Whether a first process waits for its start there, that is listens; the socket file alone is also what a killed `start` leaves."""
    socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
    try:
        with _Short(directory) as short:
            socket.connect(f"{short}/{START_SOCKET}")
        return True
    except BlockingIOError:  # others are before us
        return True
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    finally:
        socket.close()


def start(directory: str, listens: bool = False) -> None:
    """Have the container's first process start its program; returns when execve has happened. Raises what kept it from happening.
    `listens`: its seccomp filter has a listener."""
    socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    try:
        with _Short(directory) as short:
            socket.connect(f"{short}/{START_SOCKET}")
    except (ConnectionRefusedError, FileNotFoundError):
        raise StateError("the container's first process has ended before it was started") from None
    ours = sync.Channel(socket)
    try:
        ours.send(sync.START)
        sync.until_started(ours, listens)
    except OSError as error:
        raise MinidockerError("the container's first process ended before it was started") from error
    finally:
        ours.close()
        os.unlink(f"{directory}/{START_SOCKET}")


class _Short:
    """A short path of a directory while it is in use: a socket's address has 107 bytes at most (unix(7))."""

    def __init__(self, directory: str) -> None:
        self.descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> str:
        return f"/proc/self/fd/{self.descriptor}"

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)
