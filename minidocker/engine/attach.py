"""attach: a command becomes the client of a monitor whose container runs in the background, by way of a socket in its run directory.

Whoever is at the door when another one is the client is told so. A client that ends, however it does, leaves the container running.
"""

from __future__ import annotations

import _socket
import os

from minidocker.errors import StateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minidocker.engine.host import Host

_DOOR = "attach"
_CALLERS = 8


def door(run_directory: str) -> int:
    """Make the socket; the descriptor that listens."""
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    try:
        os.unlink(f"{run_directory}/{_DOOR}")  # of a start that was killed
    except FileNotFoundError:
        pass
    listener.bind(f"{run_directory}/{_DOOR}")
    listener.listen(_CALLERS)
    return listener.detach()


def attach(
    host: Host, reference: str, write: Callable[[int, bytes], None], *, stdin: bool = True, proxy: bool = True, keys: bytes | None = None,
) -> int:  # fmt: skip
    """Carry between the user and a container that runs, until it ends or the user leaves it: its exit code, 0 when left. stdin is passed on
    if the container was made with -i; `keys` leave it, None for its own."""
    from minidocker.engine import reconcile, waiting
    from minidocker.engine.client import Client
    from minidocker.storage import containers

    reconcile.sweep(host)
    record = containers.find(host.state, reference)
    if record.status != containers.RUNNING:
        raise StateError(f"container `{record.name}` is not running", f"it is {record.status}")
    if host.is_paused(record.id):
        raise StateError(f"container `{record.name}` is paused", f"minidocker unpause {record.name}")
    request = record.request
    interactive = stdin and request.interactive
    if interactive and request.tty and not os.isatty(0):
        raise StateError(f"container `{record.name}` has a terminal, and the standard input is none", "--no-stdin shows its output alone")
    run = waiting.Run(host, record)
    client = Client(
        _enter(host.run_directory(record.id), record.name), interactive=interactive, tty=request.tty,
        detach_keys=request.detach_keys if keys is None else keys, write=write, explain=host.notice, notice=host.notice, proxy=proxy,
    )  # fmt: skip
    client.until_started()
    code = client.run()
    if not client.has_left:
        run.settle()
    return code


def _enter(run_directory: str, name: str) -> _socket.socket:
    socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    try:
        socket.connect(f"{run_directory}/{_DOOR}")
    except (FileNotFoundError, ConnectionRefusedError):
        socket.close()
        raise StateError(f"container `{name}` is attached to the command that runs it, and ends with that",
                         f"minidocker logs -f {name} shows its output") from None
    return socket
