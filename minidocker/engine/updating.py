"""update: other limits for a container, at once where it runs, and for its next starts."""

from __future__ import annotations

from minidocker.engine import reconcile
from minidocker.engine.host import Host
from minidocker.engine.prepare import check_cpus
from minidocker.engine.turn import Turn
from minidocker.errors import StateError, UsageError
from minidocker.plan import At, Plan, silent
from minidocker.storage import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minidocker.plan import Tell
    from minidocker.spec.request import RunRequest

_UNLIMITED = -1
_DEFAULT_SHARES = 1024  # cgroup v1's cpu.shares of a new cgroup; v2's weight of 100
_PERIOD = 100_000  # microseconds, as config.resources has it


def update(host: Host, reference: str, limits: dict[str, Any], tell: Tell = silent) -> None:
    """Set those of a RunRequest's limits that are in `limits` (None and 0 are no limit). UsageError for what contradicts the others."""
    reconcile.sweep(host)
    record = containers.find(host.state, reference)
    if record.status in containers.AT_REST:
        tell(Plan)
        _update(host, record, limits, silent)
    elif record.status == containers.RUNNING:
        with Turn(host, record):
            _update(host, record, limits, tell)
    else:
        raise StateError(f"container `{record.name}` is {record.status}", "try again in a moment")


def _update(host: Host, record: containers.Record, limits: dict[str, Any], tell: Tell) -> None:
    """In one transaction, so that what the kernel refuses is not kept either."""
    with host.state.transaction() as state:
        now = containers.get(state, record.id)
        if now is None or now.status != record.status:
            raise StateError(f"container `{record.name}` has just {'been removed' if now is None else 'become ' + now.status}", "try again")
        request = now.request
        for name, value in limits.items():
            setattr(request, name, value)
        _check(request)
        plan = Plan()
        if now.status == containers.RUNNING:
            place = host.place(now.id, request)
            plan = place.manager.update(place.name, resources(request, limits, host.face.limits_swap()))
            tell(lambda: plan, now.pid)
        containers.set_request(state, now.id, request)
        plan.run(At(pid=now.pid))


def _check(request: RunRequest) -> None:
    swap = request.memory_swap
    if swap is not None and not request.memory:
        raise UsageError("the limit of memory and swap together needs one of memory", "-m SIZE, or --memory-swap 0 with -m 0")
    if request.memory and swap is not None and 0 <= swap < request.memory:
        raise UsageError(f"--memory-swap, which is {swap}, would be below --memory {request.memory}", "give both; -1 is no limit of swap")
    if request.memory and request.memory_reservation and request.memory_reservation > request.memory:
        reservation = request.memory_reservation
        raise UsageError(f"--memory-reservation, which is {reservation}, would be above --memory {request.memory}", "give both")
    check_cpus(request.cpus or 0, request.cpuset_cpus or "")


def resources(request: RunRequest, changed: dict[str, Any], limits_swap: bool) -> dict[str, Any]:
    """OCI `linux.resources` for those of the limits that have changed: what was a limit and is none any more is said to be unlimited."""
    found: dict[str, dict[str, Any]] = {}
    memory, cpu = found.setdefault("memory", {}), found.setdefault("cpu", {})
    if "memory" in changed or "memory_swap" in changed:
        memory["limit"] = request.memory or _UNLIMITED
        if request.memory_swap or limits_swap:  # as config.resources: without --memory-swap, as much swap as memory
            memory["swap"] = request.memory_swap or 2 * request.memory if request.memory else _UNLIMITED
    if "memory_reservation" in changed:
        memory["reservation"] = request.memory_reservation or _UNLIMITED
    if "cpus" in changed:
        cpu["period"], cpu["quota"] = _PERIOD, round(request.cpus * _PERIOD) if request.cpus else _UNLIMITED
    if "cpu_shares" in changed:
        cpu["shares"] = request.cpu_shares or _DEFAULT_SHARES
    if "cpuset_cpus" in changed:
        cpu["cpus"] = request.cpuset_cpus
    if "pids_limit" in changed:
        found["pids"] = {"limit": request.pids_limit if (request.pids_limit or 0) > 0 else _UNLIMITED}
    return {section: fields for section, fields in found.items() if fields}
