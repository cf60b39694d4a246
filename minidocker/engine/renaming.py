"""rename: a container by another name, also while it runs: for its neighbours and their DNS, for `ip netns`, and for the containers that
were made to share its network."""

from __future__ import annotations

from minidocker.engine import reconcile
from minidocker.engine.host import Host
from minidocker.engine.turn import Turn
from minidocker.errors import ConflictError, StateError
from minidocker.network import names, renames
from minidocker.plan import At, Plan, Step, silent
from minidocker.storage import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minidocker.plan import Tell

_SHARED = ("mode", "ipc", "pid", "uts")  # of a request: what may be container:NAME


def rename(host: Host, reference: str, name: str, tell: Tell = silent) -> None:
    """ConflictError where it has the name already, or another container has."""
    reconcile.sweep(host)
    record = containers.find(host.state, reference)
    if record.name == name:
        raise ConflictError(f"container `{name}` has that name already")
    if record.status in containers.AT_REST:
        _rename(host, record, name, tell)
    elif record.status == containers.RUNNING:
        with Turn(host, record):
            _rename(host, record, name, tell)
    else:
        raise StateError(f"container `{record.name}` is {record.status}", "try again in a moment")
    host.event("container", "rename", record.id, name, **{**record.request.labels, "oldName": record.name})


def _rename(host: Host, record: containers.Record, name: str, tell: Tell) -> None:
    """All of it in one transaction: its neighbours know it by the name that is in the record. Who is killed in the middle has changed what
    they know alone, which the next rename, or its end, puts right."""
    with host.state.transaction() as state:
        now = containers.get(state, record.id)
        if now is None or now.status != record.status:
            raise StateError(f"container `{record.name}` has just {'been removed' if now is None else 'become ' + now.status}", "try again")
        containers.check_name(state, name, "name")
        plan = Plan(_steps(host, now, name) if now.status == containers.RUNNING else [])
        tell(lambda: plan, now.pid)
        containers.update(state, now.id, name=name)
        _lead_on(host, now, name)
        plan.run(At(pid=now.pid))


def _steps(host: Host, record: containers.Record, name: str) -> list[Step]:
    steps: list[Step] = []
    for place in containers.endpoints(host.state, record).get(record.id, []):
        ips = [place.ip, place.ip6]
        old, new = (names.hosts_lines(ips, called, place.aliases, record.id) for called in (record.name, name))
        steps.append(renames.Rename(host.names_directory(place.network), record.id, ips, old, new))
    if record.request.mode != "host":
        steps.append(renames.RenameNetns(record.name, name, record.netns, record.pid))
    return steps


def _lead_on(host: Host, record: containers.Record, name: str) -> None:
    """Those that share a namespace of it find it at their next start, too."""
    for other in containers.every(host.state):
        led = [field for field in _SHARED if getattr(other.request, field) == f"container:{record.name}"]
        for field in led:
            setattr(other.request, field, f"container:{name}")
        if led:
            containers.set_request(host.state, other.id, other.request)
