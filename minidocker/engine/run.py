"""run: a monitor is forked, and this process is its first client.

The fork comes before most of the engine is loaded: the monitor loads it while the command gets ready to be its client, and what is small is
forked faster.
"""

from __future__ import annotations

import _socket
import os

from minidocker.engine.client import Client
from minidocker.engine.host import Host
from minidocker.errors import StateError, UsageError
from minidocker.spec.request import RunRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minidocker.storage.containers import Record


def run(host: Host, request: RunRequest, write: Callable[[int, bytes], None], explain: Callable[[str], None]) -> int:
    """Run in the foreground, its output passed to `write(descriptor, data)`; returns docker's exit code. Raises what kept the container
    from starting."""
    if request.tty and request.interactive and not os.isatty(0):
        raise UsageError("-t with -i needs a terminal as the standard input", "leave out -t")
    client = _fork_monitor(host, request, write, explain)
    client.until_started()
    return client.run()


def detach(host: Host, request: RunRequest, write: Callable[[int, bytes], None], explain: Callable[[str], None]) -> str:
    """Run in the background; returns the container's id once its program runs."""
    request.detach = True
    return _fork_monitor(host, request, write, explain).until_started()


def start(host: Host, reference: str, explain: Callable[[str], None]) -> None:
    """Start a container that is created, or that has ended again, in the background: the same request, its own file system, the addresses
    that it had where they are free. One that runs is left alone."""
    record = _to_start(host, reference)
    if record is not None:
        request = record.request
        request.detach, request.explain = True, False
        _fork_monitor(host, request, lambda descriptor, data: None, explain, record.id).until_started()


def start_attached(
    host: Host, reference: str, write: Callable[[int, bytes], None], explain: Callable[[str], None], stdin: bool, keys: bytes | None
) -> int:
    """The same, as its client from the first byte on, with `stdin` if it was made with -i: its exit code, or 0 when the user leaves it. To
    one that runs already this attaches."""
    record = _to_start(host, reference)
    if record is None:
        from minidocker.engine import attach

        return attach.attach(host, reference, write, stdin=stdin, keys=keys)
    request = record.request
    request.detach = request.explain = False
    request.detach_keys = request.detach_keys if keys is None else keys
    if stdin and request.tty and request.interactive and not os.isatty(0):
        raise UsageError("-i needs a terminal as the standard input of a container that has one", "leave out -i")
    client = _fork_monitor(host, request, write, explain, record.id, stdin)
    client.until_started()
    return client.run()


def _to_start(host: Host, reference: str) -> Record | None:
    """The record, None of one that runs. Raises StateError for one that is in between, or paused."""
    from minidocker.engine import reconcile
    from minidocker.storage import containers

    reconcile.sweep(host)
    record = containers.find(host.state, reference)
    if record.status == containers.RUNNING and host.is_paused(record.id):
        raise StateError(f"container `{record.name}` is paused", f"minidocker unpause {record.name}")
    if record.status == containers.RUNNING:
        return None
    if record.status not in containers.AT_REST:
        raise StateError(f"container `{record.name}` is {record.status}", "try again in a moment")
    return record


def restart(host: Host, reference: str, timeout: float | None, explain: Callable[[str], None]) -> None:
    """Stop a container, if it runs, and start it again."""
    from minidocker.engine import lifecycle, reconcile
    from minidocker.storage import containers

    reconcile.sweep(host)
    record = containers.find(host.state, reference)
    if record.request.remove:
        raise StateError(f"container `{record.name}` was run with --rm, and is gone when it stops", "run it without --rm")
    lifecycle.stop(host, record.id, timeout)
    start(host, record.id, explain)
    host.event("container", "restart", record.id, record.name, **record.request.labels)


def script(host: Host, request: RunRequest) -> str:
    """The bash script that would do it; nothing is done."""
    from minidocker.engine import launch

    plan, afterwards = launch.planned(host, request)
    return plan.script(afterwards)


def _fork_monitor(
    host: Host, request: RunRequest, write: Callable[[int, bytes], None], explain: Callable[[str], None], id: str = "", stdin: bool = True
) -> Client:
    if request.pid:
        from minidocker.engine.sharing import protect

        protect(request)
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        from minidocker.engine import launch

        ours.close()
        launch.become_monitor(host, request, theirs, id)
    theirs.close()
    return Client(
        ours, interactive=request.interactive and stdin, tty=request.tty, detach_keys=request.detach_keys,
        write=write, explain=explain, notice=host.notice,
    )  # fmt: skip
