"""Volumes as users know them: made, listed, removed; and what a container's `--mount` and `-v NAME:DST` become."""

from __future__ import annotations

import os

from minidocker.engine import reconcile
from minidocker.engine.host import Host
from minidocker.engine.logs import rfc3339
from minidocker.errors import ConflictError, MinidockerError, NotFoundError, UsageError
from minidocker.kernel import mounts as kernel
from minidocker.plan import FILESYSTEM, At, Plan, Step, quote
from minidocker.runtime import copyup
from minidocker.spec import config
from minidocker.spec.parse_mounts import BIND, TMPFS, VOLUME
from minidocker.spec.request import RunRequest
from minidocker.storage import rootfs, volumes
from minidocker.storage.state import State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DRIVER = "local"


# --- of a container -----------------------------------------------------------------------------------------------------------------------


def entries(host: Host, request: RunRequest) -> list[dict[str, Any]]:
    """The request's mounts as OCI entries; anonymous volumes get their names, which the request keeps for its next start. Raises
    NotFoundError for a host path that is not there, UsageError for one that cannot be shared."""
    request.mounts = [
        (kind, os.urandom(32).hex() if kind == VOLUME and not source else source, destination, options, fill)
        for kind, source, destination, options, fill in request.mounts
    ]
    found = []
    for kind, source, destination, options, _ in request.mounts:
        if kind == TMPFS:
            found.append(config.tmpfs(destination, options))
            continue
        if kind == BIND:
            if not os.path.exists(source):
                raise NotFoundError(f"--mount: the source {source} of a bind mount does not exist", f"mkdir -p {source}")
            _check_propagation(source, options)
        found.append(config.bind(volumes.data(host.root, source) if kind == VOLUME else source, destination, options))
    return found


def _check_propagation(source: str, options: list[str]) -> None:
    """What is to be shared with the host, or to follow it, must lie on a mount that the host shares (mount_namespaces(7))."""
    wanted = {"shared": ("shared:",), "slave": ("shared:", "master:")}
    for option in options:
        tags = wanted.get(option.removeprefix("r"))
        if tags is None:
            continue
        point, has = _mount_of(source)
        if not any(word.startswith(tags) for word in has):
            kind = option.removeprefix("r")
            raise UsageError(
                f"--mount bind-propagation={option}: {source} lies on the mount {point}, which is not a {kind} one",
                f"mount --make-shared {point}",
            )


def _mount_of(path: str) -> tuple[str, list[str]]:
    """The mount point that `path` lies on, and its propagation tags (proc_pid_mountinfo(5))."""
    best, tags = "", list[str]()
    path = os.path.realpath(path)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = line.split(" ")
            point = fields[4].encode("utf-8", "surrogateescape").decode("unicode_escape") if "\\" in fields[4] else fields[4]
            if (path + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best):
                best, tags = point, fields[6 : fields.index("-")]
    return best, tags


def take(state: State, id: str, request: RunRequest) -> None:
    """In the transaction that makes the container's record: it has its volumes from here on. Raises ConflictError."""
    for kind, name, _, _, _ in request.mounts:
        if kind == VOLUME:
            volumes.take(state, id, name, anonymous=len(name) == 64 and not set(name) - set("0123456789abcdef"))


def unborn(host: Host, id: str, request: RunRequest) -> Plan:
    """What takes away the volumes that a run would make without a name; in a transaction that is rolled back."""
    there = {volume.name for volume in volumes.every(host.state)}
    take(host.state, id, request)
    return removal(host, [name for name in volumes.alone(host.state, id) if name not in there])


def plan(host: Host, id: str, request: RunRequest, view: rootfs.View) -> Plan:
    """What makes a container's volumes ready."""
    # a volume is filled for a new container alone: one whose layers have never been mounted
    first = not os.path.exists(f"{host.data_directory(id)}/work/work")
    return Plan(
        Fill(host.root, name, view if fill and first else None, destination)
        for kind, name, destination, _, fill in request.mounts if kind == VOLUME
    )  # fmt: skip


class Fill(Step):
    """Make a volume's directory; an empty one begins with what the root file system has at its place."""

    title = FILESYSTEM

    def __init__(self, root: str, name: str, view: rootfs.View | None, destination: str) -> None:
        self.root = root
        self.name = name
        self.view = view
        self.destination = destination
        self.why = f"the volume {name}"

    def shell(self) -> str:
        data = quote(volumes.data(self.root, self.name))
        lines = [f"mkdir -p {data}", f"chmod 700 {quote(self.root)}/volumes {quote(volumes.directory(self.root, self.name))}"]
        if self.view is not None:
            lower = quote(self.view.lower + self.view.inside(self.destination))
            lines.append(f'[ ! -d {lower} ] || [ -n "$(ls -A {data})" ] || cp -a {lower}/. {data}')
        return "\n".join(lines)

    def describe(self) -> str:
        return f"make the volume `{self.name}`"

    def apply(self, at: At) -> None:
        lower = self._lower()
        try:
            volumes.fill(self.root, self.name, (lambda target: copyup.tree(lower, target)) if lower >= 0 else None)
        finally:
            if lower >= 0:
                os.close(lower)

    def _lower(self) -> int:
        """The directory whose content it begins with, -1 for none."""
        if self.view is None:
            return -1
        root = os.open(self.view.lower, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return kernel.open_in_root(root, self.destination, os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            return -1
        finally:
            os.close(root)


def removal(host: Host, names: list[str]) -> Plan:
    """What takes volumes away, said."""
    return Plan(rootfs.RemoveTree(volumes.directory(host.root, name), "an anonymous volume that no other container has") for name in names)


def forget(host: Host, id: str) -> list[str]:
    """Forget a container, and remove the anonymous volumes that it alone had; returns what went wrong."""
    volumes.delete_container(host.state, id)
    return volumes.settle(host.state, host.root)


def shown(host: Host, request: RunRequest) -> list[dict[str, object]]:
    """The request's mounts as docker's inspect shows them."""
    found: list[dict[str, object]] = []
    for kind, source, destination, options, _ in request.mounts:
        one: dict[str, object] = {"Type": kind}
        if kind == VOLUME:
            one |= {"Name": source, "Driver": DRIVER}
        one |= {"Source": volumes.data(host.root, source) if kind == VOLUME else source, "Destination": destination,
                "RW": not {"ro", "rro"} & set(options)}  # fmt: skip
        if kind == BIND:
            one["Propagation"] = options[1]
        found.append(one)
    return found


# --- by themselves ------------------------------------------------------------------------------------------------------------------------


def create(host: Host, name: str, labels: dict[str, str]) -> str:
    """Make a volume; "" for an anonymous one. One that is there with the same labels is left alone. Returns its name."""
    reconcile.look(host)
    with host.state.transaction() as state:
        there = volumes.get(state, name) if name else None
        if there is not None and labels and labels != there.labels:
            raise ConflictError(f"volume `{name}` exists with other labels", f"minidocker volume rm {name}, or choose another name")
        anonymous = not name
        name = name or os.urandom(32).hex()
        if there is None:
            volumes.insert(state, name, labels, anonymous)
    volumes.make(host.root, name)
    return name


def ls(host: Host, filters: list[tuple[str, str]]) -> list[dict[str, object]]:
    """The volumes that match: filters of one key are alternatives, different keys must all hold."""
    reconcile.look(host)
    having = volumes.users(host.state)
    wanted: dict[str, list[str]] = {}
    for key, value in filters:
        wanted.setdefault(key, []).append(value)
    return [
        {"Driver": DRIVER, "Name": volume.name, "Mountpoint": volumes.data(host.root, volume.name), "Scope": "local",
         "Labels": ",".join(f"{key}={value}" for key, value in volume.labels.items()), "Containers": having.get(volume.name, [])}
        for volume in volumes.every(host.state)
        if all(any(_matches(volume, key, value, having) for value in values) for key, values in wanted.items())
    ]  # fmt: skip


def _matches(volume: volumes.Volume, key: str, value: str, having: dict[str, list[str]]) -> bool:
    if key == "name":
        return value in volume.name
    if key == "driver":
        return value == DRIVER
    if key == "dangling":
        return (volume.name not in having) == (value[0] in "1tT")
    label, equals, text = value.partition("=")
    return label in volume.labels and (not equals or volume.labels[label] == text)


def inspect(host: Host, name: str) -> dict[str, object]:
    """Docker's inspect document of a volume, with the containers that have it. Raises NotFoundError."""
    reconcile.look(host)
    volume = volumes.find(host.state, name)
    return {
        "CreatedAt": rfc3339(int(volume.created * 1e9)), "Driver": DRIVER, "Labels": volume.labels,
        "Mountpoint": volumes.data(host.root, volume.name), "Name": volume.name, "Options": None, "Scope": "local",
        "Anonymous": volume.anonymous, "Containers": volumes.users(host.state).get(volume.name, []),
    }  # fmt: skip


def remove(host: Host, name: str, force: bool) -> None:
    """Remove a volume that no container has; `force`: one that is not there is no error. Raises NotFoundError, StateError."""
    reconcile.look(host)
    try:
        volumes.condemn(host.state, name)
    except NotFoundError:
        if not force:
            raise
        return
    if troubles := volumes.settle(host.state, host.root):
        raise MinidockerError("; ".join(troubles))


def prune(host: Host, every: bool, filters: list[tuple[str, str]]) -> tuple[list[str], int]:
    """Remove the volumes that no container has: the anonymous ones, or `every`. Returns their names, and the bytes that they took up."""
    names, freed = [], 0
    anonymous = {volume.name for volume in volumes.every(host.state) if volume.anonymous}
    for record in ls(host, [*filters, ("dangling", "true")]):
        name = str(record["Name"])
        if every or name in anonymous:
            taken = volumes.size(host.root, name)
            remove(host, name, force=True)
            names.append(name)
            freed += taken
    return names, freed


def sizes(host: Host) -> list[tuple[str, int, list[str]]]:
    """Each volume's name, the bytes that it takes up, and the containers that have it: for `system df`."""
    having = volumes.users(host.state)
    return [(volume.name, volumes.size(host.root, volume.name), having.get(volume.name, [])) for volume in volumes.every(host.state)]
