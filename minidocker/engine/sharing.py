"""What a container is given of this host or shares with it or with another: --device, --sysctl, --group-add, --oom-score-adj, --ipc, --pid,
--uts. Loaded only where one of them was asked for.

A namespace is joined by the path of a process that may end meanwhile, and its number become a stranger's: so its inode is kept, and before
anything of the container runs it is looked whether the container is where it was to be.
"""

from __future__ import annotations

import os
import stat

from minidocker.engine.host import Host
from minidocker.errors import NotFoundError, StateError, UsageError
from minidocker.kernel import namespaces
from minidocker.kernel.pidfd import pidfd_ended
from minidocker.runtime import joining, stub
from minidocker.runtime.mounts import Mount
from minidocker.runtime.state import State
from minidocker.spec import config
from minidocker.spec.parse_sharing import CONTAINER, HOST, namespaces_agree
from minidocker.spec.request import RunRequest
from minidocker.storage import containers, users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minidocker.engine.prepare import Prepared
    from minidocker.runtime.container import Launch

_SHM = "/dev/shm"
_KINDS = ("ipc", "pid", "uts")


def look(host: Host, prepared: Prepared) -> None:
    """Check all of it and say it in `prepared.around`; nothing is changed. Raises UsageError, NotFoundError, StateError."""
    request, around = prepared.request, prepared.around
    namespaces_agree(request.sysctls, request.ipc, request.mode)
    if request.dry_run and request.ipc.startswith(CONTAINER):
        raise UsageError(f"--dry-run cannot show --ipc {request.ipc}", "no command copies its /dev/shm out of its mount namespace")
    around.sysctls = {**around.sysctls, **request.sysctls}
    for kind in _KINDS:
        mode: str = getattr(request, kind)
        if mode == HOST:
            around.shared[kind] = "", 0
        elif mode:
            around.shared[kind] = _of_another(host, kind, mode)
    if request.uts:
        if request.hostname:
            raise UsageError(f"--hostname cannot be used with --uts {request.uts}", "leave out one of them")
        around.hostname = os.uname().nodename if request.uts == HOST else _hostname(host, request.uts)
    root = os.open(prepared.view.lower, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        around.groups = with_groups(around.groups, request, root)
    finally:
        os.close(root)
    for source, target, access in request.devices:
        found = list(_nodes(source, target))
        if not found:
            raise UsageError(f"--device {source} is no device, nor a directory with any", "-v mounts other files")
        around.given += found
        around.given_rules += [
            {"allow": True, "type": node["type"], "major": node["major"], "minor": node["minor"], "access": access} for node in found
        ]
    around.given_rules += request.device_rules


def _of_another(host: Host, kind: str, mode: str) -> tuple[str, int]:
    """The path of a namespace of a running container's, and its inode."""
    record = _running(host, mode.removeprefix(CONTAINER), f"--{kind} {mode}")
    pidfd = State(host.run_directory(record.id)).open()
    try:
        inode = namespaces.inode_of(record.pid, kind)
        if not inode or pidfd_ended(pidfd):
            raise StateError(f"container `{record.name}` has just ended, so its namespaces cannot be joined")
    finally:
        os.close(pidfd)
    return f"/proc/{record.pid}/ns/{kind}", inode


def _running(host: Host, reference: str, said: str) -> containers.Record:
    record = containers.find(host.state, reference)
    if record.status != containers.RUNNING:
        raise StateError(f"{said}: container `{record.name}` is not running, so its namespaces cannot be joined", f"it is {record.status}")
    return record


def _hostname(host: Host, mode: str) -> str:
    record = containers.find(host.state, mode.removeprefix(CONTAINER))
    return record.request.hostname or str(record.short_id)


def with_groups(groups: list[int], request: RunRequest, root: int) -> list[int]:
    """Those of --group-add besides; names are the container's, whose root directory `root` is."""
    if not request.group_add:
        return groups
    text = users.read_in_root(root, "/etc/group")
    return list(dict.fromkeys([*groups, *(users.group_of(wanted, text) for wanted in request.group_add)]))


def _nodes(source: str, target: str) -> list[dict[str, Any]]:
    """The device at `source`, or all that are below it, as OCI devices at `target`."""
    try:
        status = os.stat(source)
    except OSError as error:
        raise NotFoundError(f"--device {source}: {(error.strerror or '').lower()}", "ls /dev shows what there is") from error
    if stat.S_ISDIR(status.st_mode):
        found = []
        for directory, _, files in os.walk(source):
            for name in sorted(files):
                path = f"{directory}/{name}"
                if stat.S_IFMT(os.lstat(path).st_mode) in (stat.S_IFCHR, stat.S_IFBLK):
                    found += _nodes(path, target + path[len(source) :])
        return found
    if stat.S_IFMT(status.st_mode) not in (stat.S_IFCHR, stat.S_IFBLK):
        return []
    return [{
        "path": target, "type": "c" if stat.S_ISCHR(status.st_mode) else "b", "major": os.major(status.st_rdev),
        "minor": os.minor(status.st_rdev), "fileMode": stat.S_IMODE(status.st_mode), "uid": status.st_uid, "gid": status.st_gid,
    }]  # fmt: skip


def complete(document: dict[str, Any], prepared: Prepared) -> None:
    """Say it in the OCI configuration."""
    request, around, linux = prepared.request, prepared.around, document["linux"]
    linux["namespaces"] = [
        {**entry, **({"path": around.shared[entry["type"]][0]} if entry["type"] in around.shared else {})}
        for entry in linux["namespaces"] if request_mode(request, entry["type"]) != HOST
    ]  # fmt: skip
    if request.uts:
        document["hostname"] = ""  # it has one already
    if request.ipc:
        document["mounts"] = [_shared_shm(entry, request) if entry["destination"] == _SHM else entry for entry in document["mounts"]]
    given = {node["path"]: node for node in around.given}
    linux["devices"] = [node for node in linux["devices"] if node["path"] not in given] + list(given.values())
    if not request.privileged:
        linux["resources"]["devices"] = [*linux["resources"]["devices"], *around.given_rules]
    if request.oom_score_adj is not None:
        document["process"]["oomScoreAdj"] = request.oom_score_adj


def request_mode(request: RunRequest, kind: str) -> str:
    return str(getattr(request, kind)) if kind in _KINDS else ""


def _shared_shm(entry: dict[str, Any], request: RunRequest) -> dict[str, Any]:
    """POSIX shared memory goes with an IPC namespace as the others do (shm_overview(7)), but for a --tmpfs or -v there."""
    if entry["type"] != "tmpfs" or entry["source"] != "shm":
        return entry
    return config.bind(_SHM, _SHM, ["bind", "rprivate", "nosuid", "nodev", "noexec"])


def lend(host: Host, prepared: Prepared, launch: Launch) -> None:
    """With --ipc container:NAME its /dev/shm is that one's, which is copied out of its mount namespace. To be called before
    `launch.create`, and `check` after it."""
    if not prepared.request.ipc.startswith(CONTAINER):
        return
    record = _running(host, prepared.request.ipc.removeprefix(CONTAINER), f"--ipc {prepared.request.ipc}")
    pidfd = State(host.run_directory(record.id)).open()
    try:
        for step in launch.plan.steps:
            if isinstance(step, Mount) and step.destination == _SHM and step.source == _SHM:
                step.tree = joining.mounted_in(record.pid, pidfd, _SHM)
    finally:
        os.close(pidfd)


def check(prepared: Prepared, launch: Launch) -> None:
    """Raises StateError unless the container, of which nothing runs yet, has joined what it was to join."""
    for step in launch.plan.steps:
        if isinstance(step, Mount) and step.destination == _SHM and step.tree >= 0:
            os.close(step.tree)
            step.tree = -1
    for kind, (path, inode) in prepared.around.shared.items():
        if path and namespaces.inode_of(launch.at.pid, kind) != inode:
            raise StateError(f"--{kind} {request_mode(prepared.request, kind)}: that container has just ended")


def protect(request: RunRequest) -> None:
    """Who joins another container's PID namespace meets its processes, which may be allowed to trace (stub.py)."""
    if request.pid.startswith(CONTAINER):
        stub.execute_read_only()
