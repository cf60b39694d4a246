"""Starting containers again that have ended, by their policies (spec/restart.py says which, and when).

    monitor ─► finish: "restarting" ─► waiter (backoff.py) ─► again: "starting" ─► monitor
       the same process throughout, which has the container's lock throughout: who finds that free starts another waiter, by `pick_up`

`cancel` ends this at whatever point it is: what the user has ended is marked in the record, in which all of these look before they go on.
"""

from __future__ import annotations

import os
import sys
import time

from minidocker.engine import interpreter
from minidocker.engine.host import Host
from minidocker.errors import MinidockerError, StateError
from minidocker.kernel import process
from minidocker.spec import restart
from minidocker.storage import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from minidocker.storage.state import State

_SIGKILL = 9
_PAUSE = 0.01
_PATIENCE = 10.0


def wait(state: State, record: containers.Record, exit_code: int | None, finished: float) -> float | None:
    """How long after its end the container is started again, None for not at all. What the user wants is read anew, in the transaction
    that ends it: the record may be from before."""
    request = record.request
    current = containers.get(state, record.id)
    if current is None or current.stopped:
        return None
    ran = finished - record.started if record.started else 0.0
    return restart.wait(request.restart, request.restart_most, record.restarts, record.backoff, ran, exit_code != 0)


def become_waiter(host: Host, record: containers.Record, placed: bool) -> NoReturn:
    """Exec what waits and starts the container again. This process has claimed it; `placed` tells whether it is where a monitor is to be
    (Manager.move_monitor)."""
    lock = host.renew(record.id)
    process.close_range(3, flags=process.CLOSE_RANGE_CLOEXEC)
    os.set_inheritable(lock, True)
    null = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.close(null)
    os.chdir("/")
    python = interpreter.command(interpreter.prctl())
    then = [*python, "minidocker.engine.restarts", "again", host.root, record.id, str(int(placed))]
    os.execv(sys.executable, [*python, "minidocker.engine.backoff", "wait", str(record.backoff), *then])


def again(arguments: list[str]) -> None:
    """What the waiter executes: data root, id, whether it is in its place. A start that fails is the end: the record says why."""
    import _socket

    from minidocker.engine import launch

    root, id, placed = arguments
    host = Host(root, lambda text: None)
    try:
        record = containers.get(host.state, id)
        if record is not None and record.status == containers.RESTARTING:
            record.request.detach, record.request.explain = True, False
            nobody, client = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)  # who listens to nothing
            launch.Session(host, record.request, client, id, waited=True, placed=placed == "1").live()
            nobody.close()
        else:
            host.drop_run_directory(id)
    except BaseException as error:
        # what had begun to start has its error in its record by now
        containers.end_wait(host.state, id, error.message if isinstance(error, MinidockerError) else f"internal error: {error!r}")
    finally:
        os._exit(0)


def pick_up(arguments: list[str]) -> None:
    """What `resume` starts: data root, id. Claims the container, unless somebody is faster, and waits."""
    root, id = arguments
    host = Host(root, lambda text: None)
    try:
        if host.claim(id) >= 0:
            record = containers.get(host.state, id)
            if record is not None and record.status == containers.RESTARTING:
                become_waiter(host, record, placed=False)
            host.drop_run_directory(id)
    finally:
        os._exit(0)


def resume(host: Host, id: str) -> None:
    """Start a waiter for a container that is to be restarted and whose monitor is gone."""
    from minidocker.engine import activation

    python = interpreter.command(interpreter.prctl())
    activation.spawn([*python, "minidocker.engine.restarts", "pick_up", host.root, id], (), dict(os.environ))


def cancel(host: Host, record: containers.Record) -> containers.Record:
    """The user ends the container: no policy starts it again. Where it waits to be, that is over when this returns; where it is just being
    started, it has been. Returns the record as it is then."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        containers.update(host.state, record.id, stopped=1)
        current = containers.get(host.state, record.id)
        if current is None:
            raise StateError(f"container `{record.name}` has just been removed")
        record = current
        if record.status == containers.RESTARTING and containers.end_wait(host.state, record.id):
            _end_waiter(host, record)
        elif record.status != containers.STARTING:
            break
        else:
            time.sleep(_PAUSE)
    return record


def _end_waiter(host: Host, record: containers.Record) -> None:
    """See that nobody has claimed it any more. Only the waiter is killed: whatever else has its lock lets go of it by itself."""
    deadline = time.monotonic() + _PATIENCE
    while (pid := host.holder(record.id)) and time.monotonic() < deadline:
        try:
            pidfd = process.pidfd_open(pid)
        except ProcessLookupError:
            continue
        if _is_waiter(pid) and host.holder(record.id) == pid:
            process.pidfd_send_signal(pidfd, _SIGKILL)
        process.pidfd_ended(pidfd, _PAUSE)
        os.close(pidfd)
    lock = host.claim(record.id)
    if lock >= 0:
        host.drop_run_directory(record.id)
        os.close(lock)


def _is_waiter(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb", buffering=0) as file:
            return b"\0minidocker.engine.backoff\0wait\0" in file.read()
    except (FileNotFoundError, ProcessLookupError):
        return False
