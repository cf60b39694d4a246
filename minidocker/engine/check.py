"""system check: state.db, the records in it and the kernel held against each other; what is left over is listed, and taken away. Cold.

What a crash has left every command puts right before it begins; this finds what no record speaks of, which is what a lost or damaged
state.db leaves behind. A container that runs is never touched, recorded or not.
"""

from __future__ import annotations

import os

from minidocker.engine import doctor, reconcile
from minidocker.engine.host import Host, lock_holder
from minidocker.errors import MinidockerError
from minidocker.kernel import mounts, nftables
from minidocker.kernel.netlink import Socket
from minidocker.kernel.rtnetlink import Link, links_dump
from minidocker.network import doctor_host, names, ownership
from minidocker.network.causes import Finding
from minidocker.plan import At, Plan, quote
from minidocker.runtime import resources
from minidocker.spec.records import BRIDGE
from minidocker.storage import containers, networks, rootfs, salvage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_REPAIR = "minidocker system check --repair"
_LOST = "state.db.damaged-"


def examine(host: Host) -> list[Finding]:
    """What is wrong; where state.db is damaged, that alone: there is nothing to compare with. Raises MinidockerError where it cannot be
    read for another reason."""
    path = f"{host.root}/state.db"
    damaged = salvage.damage(path)
    if damaged:
        found = Finding("", f"state.db is damaged: {damaged}", "what containers and networks there are is known from it alone; those that "
                        "run go on", _REPAIR, "state-damaged")  # fmt: skip
        return [found.mended_by(lambda: _restore(host, path))]
    reconcile.look(host)
    seen = _Seen(host)
    records = {record.id: record for record in containers.every(host.state)}
    strays = {id: pid for id, pid in seen.monitors.items() if id not in records}
    known = {*records, *strays}
    return [*_of_strays(strays), *_of_records(host, records), *_of_mounts(host, known), *_of_files(host, seen, known, bool(strays)),
            *_of_kernel(host, seen, records, strays), *_of_names()]  # fmt: skip


class _Seen:
    """What there is, looked at before the records are read: whatever is made meanwhile has its record first."""

    def __init__(self, host: Host) -> None:
        self.monitors = {}  # id -> pid, of those that have got as far as to have a process
        for id in os.listdir(f"{host.run}/containers"):
            pid = lock_holder(f"{host.run_directory(id)}/lock")
            if pid and os.path.exists(f"{host.run_directory(id)}/state.json"):
                self.monitors[id] = pid
        self.files = sorted(os.listdir(f"{host.root}/containers"))
        parent = f"{host.run}/networks"
        self.networks = sorted(os.listdir(parent)) if os.path.isdir(parent) else []
        self.cgroups = doctor.cgroups(host)
        with Socket() as netlink:
            self.links = [Link(body) for body in netlink.dump(links_dump())]


def _restore(host: Host, path: str) -> None:
    aside, saved = salvage.restore(path)
    unread = [record for record in containers.every(host.state) if not _is_read(record)]
    for record in unread:
        containers.delete(host.state, record.id)
    kept = {table: saved.get(table, 0) for table in ("containers", "networks")}
    kept["containers"] -= len(unread)
    host.notice(f"saved of state.db: containers {kept['containers']}, networks {kept['networks']}; what it was is in {aside}")


def _is_read(record: containers.Record) -> bool:
    try:
        return bool(record.request.command)
    except (ValueError, KeyError, TypeError, AttributeError):
        return False  # a page that was written over with something that is a row, and no record


def _of_strays(strays: dict[str, int]) -> Iterator[Finding]:
    for id, pid in strays.items():
        yield Finding("", f"container {id[:12]} runs, and no record speaks of it", "no command finds it, and its addresses may be given "
                      "to others", f"kill -KILL {pid}, which is its monitor, ends it; then {_REPAIR}", "stray")  # fmt: skip


def _of_records(host: Host, records: dict[str, containers.Record]) -> Iterator[Finding]:
    for record in records.values():
        if record.status in containers.AT_REST and not os.path.isdir(host.data_directory(record.id)):
            yield Finding("", f"the files of container `{record.name}` are gone", "it cannot be what it was when it is started",
                          f"minidocker rm {record.name}", "files-gone")  # fmt: skip


def _of_files(host: Host, seen: _Seen, known: set[str], strays: bool) -> Iterator[Finding]:
    """Directories below the data root and in /run. While a damaged state.db is kept, whoever repairs it by hand needs the former; a stray
    may need the latter."""
    saved = [name for name in os.listdir(host.root) if name.startswith(_LOST)]
    for id in seen.files:
        if id not in known:
            found = _tree(host.data_directory(id))
            if saved:
                found.fix, found.mend = None, f"look what is in it, and {found.mend}; or rm {host.root}/{_LOST}*, and {_REPAIR}"
            yield found
    every = {network.name for network in networks.every(host.state)}
    for name in seen.networks:
        if name not in every:
            found = _tree(f"{host.run}/networks/{name}")
            if strays:
                found.fix = None
            yield found


def _tree(path: str) -> Finding:
    return _left(f"the directory {path}", f"rm -r {quote(path)}", lambda: rootfs.remove_tree(path))


def _left(what: str, mend: str, fix: Callable[[], object]) -> Finding:
    def take_away() -> None:
        fix()

    return Finding("", f"{what} is left over: no record speaks of it", "it takes room, and a name", mend, "left-over").mended_by(take_away)


def _of_kernel(host: Host, seen: _Seen, records: dict[str, containers.Record], strays: dict[str, int]) -> Iterator[Finding]:
    """Cgroups, links and nft tables that bear our mark. Where strays run, their networks may be among the links."""
    running = {id for id, record in records.items() if record.status not in containers.AT_REST}
    for id, paths in seen.cgroups.items():
        if id not in running and id not in strays:
            own = f"minidocker-{host.tag}"
            end = Plan([resources.KillAll(host.face, f"{own}/{id}"), resources.RemoveCgroup(host.face, f"{own}/{id}", own)])
            mend = f"cat {quote(paths[0] + '/cgroup.procs')} | xargs -r kill -KILL; rmdir {' '.join(paths)}"
            yield _left(f"the cgroup of container {id[:12]}", mend, _All(end))
    every = networks.every(host.state)
    for found in doctor_host.leaked(host.tag, {network.id for network in every} | running | {*strays}, seen.links):
        if strays:
            found.fix = None
        yield found
    if not strays and not any(network.driver == BRIDGE for network in every):
        for family in (ownership.FAMILY, ownership.FRAMES):
            if nftables.table_exists(family, ownership.table(host.tag)):
                yield _table(family, ownership.table(host.tag))


def _table(family: str, name: str) -> Finding:
    command = f"delete table {family} {name}"
    return _left(f"the nftables table {family} {name}", f"nft {command}", lambda: nftables.apply(command))


class _All:
    """A plan that takes away, as a fix."""

    __slots__ = ("plan",)

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def __call__(self) -> None:
        for trouble in self.plan.clear(At()):
            raise MinidockerError(trouble)


def _of_names() -> Iterator[Finding]:
    """Names of network namespaces that lead nowhere: no mark says whose they were, so they are told alone."""
    for name in sorted(os.listdir(names.NETNS_DIRECTORY)) if os.path.isdir(names.NETNS_DIRECTORY) else ():
        path = f"{names.NETNS_DIRECTORY}/{name}"
        if os.path.islink(path) and not os.path.exists(path):
            yield Finding("", f"the name {path} leads to a process that has ended", "no container of that name is known to `ip netns`",
                          f"rm {quote(path)}", "name-of-nothing")  # fmt: skip


def _of_mounts(host: Host, known: set[str]) -> Iterator[Finding]:
    """On this host a container has no mount: they are in its own namespace."""
    top = f"{host.root}/containers/"
    for line in reversed(_mountinfo()):
        place = line.split()[4].encode().decode("unicode_escape")
        if place.startswith(top) and place[len(top) :].partition("/")[0] not in known:
            yield _mount(place)


def _mount(place: str) -> Finding:
    return _left(f"the mount on {place}", f"umount -l {quote(place)}", lambda: mounts.umount_lazily(place))


def _mountinfo() -> list[str]:
    with open("/proc/self/mountinfo") as file:
        return file.read().splitlines()
