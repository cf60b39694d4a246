"""Ending a container, by its record alone: idempotent, tolerant of what is gone already, never stopping at the first error.

    release    what it holds of the kernel and of /run: its name under /run/netns first (a reused pid would make it a stranger's),
               then processes and cgroup, published ports, its line in the hosts file
    finish     release, then the record: exited, or with --rm gone with its files; the DNS of a network where it was the last; last its
               run directory with the monitor's lock
"""

from __future__ import annotations

import os

from minidocker.engine import wiring
from minidocker.engine.host import Host, pass_on_lock
from minidocker.errors import KernelError, MinidockerError
from minidocker.network import names
from minidocker.spec import fastjson
from minidocker.storage import containers, rootfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def release(host: Host, record: containers.Record) -> list[str]:
    """Give back what the container holds; returns what went wrong, one line each."""
    troubles: list[str] = []
    place = host.place(record.id, record.request)
    for step in (
        lambda: names.withdraw_netns(record.name, record.netns, record.pid),
        lambda: host.face.kill(place.name),
        lambda: place.manager.remove(place.name, place.own),
        lambda: wiring.release(host, record),
    ):
        _attempt(step, troubles)
    return troubles


def _attempt(step: Callable[[], object], troubles: list[str]) -> None:
    try:
        step()
    except OSError as error:
        troubles.append(str(KernelError.of("clean up", error)))
    except MinidockerError as error:
        troubles.append(str(error))


def finish(host: Host, record: containers.Record, exit_code: int | None, finished: float, error: str = "") -> list[str]:
    """End the container for good; `exit_code` None when nobody saw its end. Returns what went wrong."""
    moving = _end_moves(host, record)
    try:
        return _finish(host, record, exit_code, finished, error)
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


def _finish(host: Host, record: containers.Record, exit_code: int | None, finished: float, error: str) -> list[str]:
    state = host.state
    vanish = record.request.remove or record.status in (containers.CREATING, containers.REMOVING)
    oom_killed = _oom_killed(host, record)
    places = containers.endpoints(state, record).get(record.id, [])
    troubles = release(host, record)
    if vanish:
        _attempt(lambda: rootfs.remove_tree(host.data_directory(record.id)), troubles)
        if not troubles:
            containers.delete(state, record.id)
    else:
        with state.transaction():
            containers.release(state, record.id)
            containers.update(
                state, record.id, status=containers.EXITED, exit_code=exit_code, finished=finished, oom_killed=int(oom_killed),
                pid=0, netns=0, error="; ".join([error, *troubles] if error else troubles),
                addresses=fastjson.dumps({place.network: place.ip for place in places}),
            )  # fmt: skip
    if places:
        from minidocker.engine import resolver

        for place in places:
            _attempt(lambda name=place.network: resolver.settle(host, name), troubles)  # type: ignore[misc]
    # last: as long as the lock file is there nobody else takes this container for abandoned
    _attempt(lambda: host.drop_run_directory(record.id), troubles)
    return troubles


def _oom_killed(host: Host, record: containers.Record) -> bool:
    try:
        return host.face.oom_kills(host.place(record.id, record.request).counts) > 0
    except (OSError, MinidockerError):
        return False  # a cgroup that is gone tells nothing; what it told before is in the record
