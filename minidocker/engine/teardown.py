"""Ending a container, by its record alone: idempotent, tolerant of what is gone already, never stopping at the first error.

    released   what it holds of the kernel and of /run: its name under /run/netns first (a reused pid would make it a stranger's),
               then processes and cgroup, published ports, its line in the hosts file
    finish     that, then the record: exited, or with --rm gone with its files; the DNS of a network where it was the last; last its
               run directory with the monitor's lock
"""

from __future__ import annotations

import os

from minidocker.engine import wiring
from minidocker.engine.host import Host, pass_on_lock
from minidocker.errors import MinidockerError
from minidocker.network import names
from minidocker.plan import At, Plan, Step
from minidocker.runtime import resources
from minidocker.spec import fastjson
from minidocker.spec.records import BRIDGE
from minidocker.storage import containers, rootfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minidocker.spec.records import Endpoint, Network
    from minidocker.storage.state import State


def released(host: Host, record: containers.Record, places: list[tuple[Network, Endpoint]]) -> Plan:
    """What gives back what the container holds; `places` are those that it has in networks."""
    place = host.place(record.id, record.request)
    steps: list[Step] = [resources.KillAll(host.face, place.name), place.removal()]
    if record.request.mode != "host":
        steps.insert(0, names.UnnameNetns(record.name, record.netns, record.pid))
    if record.request.pidfile:
        from minidocker.engine import idfiles

        steps.insert(0, idfiles.RemovePid(record))
    return Plan(steps) + wiring.released(host, record.id, places)


def files_of(host: Host, record: containers.Record) -> Step:
    return rootfs.RemoveTree(host.data_directory(record.id), "its layer of the file system, and its files")


def ended(host: Host, record: containers.Record, places: list[tuple[Network, Endpoint]], files: bool) -> Plan:
    """All that is taken away when the container has ended, the DNS of a network where it was the last too; with `files` those as well."""
    plan = released(host, record, places)
    if files:
        plan += Plan([files_of(host, record)])
    if any(network.driver == BRIDGE for network, _ in places):
        from minidocker.engine import resolver

        plan += Plan([resolver.Settle(host, network.name) for network, _ in places if network.driver == BRIDGE])
    return plan + Plan([rootfs.RemoveTree(host.run_directory(record.id), "the state of its run")])


def finish(
    host: Host, record: containers.Record, exit_code: int | None, finished: float, error: str = "", by_policy: bool = False
) -> list[str]:
    """End the container; `exit_code` None when nobody saw its end. Returns what went wrong.

    With `by_policy` its restart policy may have it wait to be started again: it is "restarting" then, and its run directory with the lock
    is left to whoever waits."""
    moving = _end_moves(host, record)
    record.name = containers.name_of(host.state, record.id) or record.name  # who moved it may have renamed it, too
    try:
        return _finish(host, record, exit_code, finished, error, by_policy)
    finally:
        if moving >= 0:
            os.close(moving)


def _end_moves(host: Host, record: containers.Record) -> int:
    """Wait until nobody puts it into a network, or takes it out of one, and let nobody begin: what they did then is in the records. The
    lock, -1 where the run directory has gone with the boot."""
    try:
        return pass_on_lock(host.moving(record.id), wait=True)
    except FileNotFoundError:
        return -1


def _finish(host: Host, record: containers.Record, exit_code: int | None, finished: float, error: str, by_policy: bool) -> list[str]:
    state = host.state
    vanish = record.request.remove or record.status in (containers.CREATING, containers.REMOVING)
    oom_killed = _oom_killed(host, record)
    places = containers.endpoints(state, record).get(record.id, [])
    wait: float | None = None
    joined = wiring.places(host, record)
    troubles = released(host, record, joined).clear(At())
    if record.pid:
        _tell_of_end(host, record, exit_code, oom_killed, joined)
    if vanish:
        troubles += Plan([files_of(host, record)]).clear(At())
        if not troubles and record.request.mounts and (record.request.remove or record.status == containers.CREATING):
            from minidocker.engine import volumes

            troubles += volumes.forget(host, record.id)
        elif not troubles:
            containers.delete(state, record.id)
        if not troubles:
            host.event("container", "destroy", record.id, record.name, **record.request.labels)
    else:
        with state.transaction():
            wait = _wait(state, record, exit_code, finished) if by_policy and record.request.has_policy else None
            containers.release(state, record.id)
            containers.update(
                state, record.id, status=containers.EXITED, exit_code=exit_code, finished=finished, oom_killed=int(oom_killed),
                pid=0, netns=0, error="; ".join([error, *troubles] if error else troubles),
                addresses=fastjson.dumps({place.network: place.ip for place in places}),
            )  # fmt: skip
            if wait is not None:
                containers.update(state, record.id, status=containers.RESTARTING, restarts=record.restarts + 1, backoff=wait)
    if places:
        from minidocker.engine import resolver

        troubles += Plan(resolver.Settle(host, place.network) for place in places).clear(At())
    if wait is not None:
        return troubles
    # last: as long as the lock file is there nobody else takes this container for abandoned
    try:
        host.drop_run_directory(record.id)
    except MinidockerError as error:
        troubles.append(str(error))
    return troubles


def _tell_of_end(
    host: Host, record: containers.Record, exit_code: int | None, oom_killed: bool, joined: list[tuple[Network, Endpoint]]
) -> None:
    """Its events: docker's exitCode, but `unknown` when nobody saw it."""
    labels = record.request.labels
    if oom_killed:
        host.event("container", "oom", record.id, record.name, **labels)
    code = "unknown" if exit_code is None else str(exit_code)
    host.event("container", "die", record.id, record.name, **{**labels, "exitCode": code})
    for network, _ in joined:
        host.event("network", "disconnect", network.id, network.name, container=record.id, type=network.driver)


def _wait(state: State, record: containers.Record, exit_code: int | None, finished: float) -> float | None:
    from minidocker.engine import restarts

    return restarts.wait(state, record, exit_code, finished)


def _oom_killed(host: Host, record: containers.Record) -> bool:
    try:
        return host.face.oom_kills(host.place(record.id, record.request).counts) > 0
    except (OSError, MinidockerError):
        return False  # a cgroup that is gone tells nothing; what it told before is in the record
