"""pause and unpause: all of a container's processes stand still in the freezer, those of its execs too, and go on where they were.

What says that they do is a file in its run directory, made before anything is frozen and removed when nothing is any more: it goes with
the run, and who was killed in between has left at worst a container that is called paused and is not, which `unpause` puts right.
"""

from __future__ import annotations

import os

from minidocker.engine import reconcile
from minidocker.engine.host import Host
from minidocker.engine.turn import Turn
from minidocker.errors import KernelError, MinidockerError, StateError
from minidocker.plan import At, Plan, Step, silent
from minidocker.runtime.resources import Freeze, Thaw
from minidocker.storage import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minidocker.plan import Tell


def pause(host: Host, reference: str, tell: Tell = silent) -> None:
    """Stop all of its processes. StateError when it does not run, or is paused already."""
    record = _running(host, reference)
    plan = Plan([Freeze(host.face, _cgroup(host, record))])
    with Turn(host, record):
        if host.is_paused(record.id) and _is_frozen(host, record):
            raise StateError(f"container `{record.name}` is paused already", f"minidocker unpause {record.name}")
        tell(lambda: plan, record.pid)
        os.close(os.open(host.paused(record.id), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        try:
            plan.run(At(pid=record.pid))
        except MinidockerError:
            os.unlink(host.paused(record.id))
            raise
    host.event("container", "pause", record.id, record.name, **record.request.labels)


def unpause(host: Host, reference: str, tell: Tell = silent) -> None:
    """Let them go on. StateError when it does not run, or is not paused."""
    record = _running(host, reference)
    with Turn(host, record):
        if not host.is_paused(record.id) and not _is_frozen(host, record):
            raise StateError(f"container `{record.name}` is not paused")
        plan = Plan(thawing(host, record))
        tell(lambda: plan, record.pid)
        plan.run(At(pid=record.pid))
    host.event("container", "unpause", record.id, record.name, **record.request.labels)


def thawing(host: Host, record: containers.Record) -> list[Step]:
    """What lets it go on, so that it can end."""
    return [Thaw(host.face, _cgroup(host, record), host.paused(record.id))]


def _running(host: Host, reference: str) -> containers.Record:
    reconcile.sweep(host)
    record = containers.find(host.state, reference)
    if record.status != containers.RUNNING:
        raise StateError(f"container `{record.name}` is not running", f"it is {record.status}")
    return record


def _cgroup(host: Host, record: containers.Record) -> str:
    return host.place(record.id, record.request).name


def _is_frozen(host: Host, record: containers.Record) -> bool:
    try:
        return host.face.is_frozen(_cgroup(host, record))
    except (OSError, KernelError):
        return False  # it has just ended, and its cgroup is gone
