"""Volumes: their records in state.db, and their files below the data root.

    ROOT/volumes/NAME/_data      what a container sees; 0700 above it, as a setuid program among it is the host's as well (CVE-2021-41091)
    ROOT/volumes/NAME/filling    while what the root file system has at its place is being copied into it

A volume that containers have, ended ones too, cannot be deleted (a foreign key). One to be removed is marked so first, then its files go,
then its record: whatever is killed in between, `settle` finishes it.
"""

from __future__ import annotations

import fcntl
import os
import time

from minidocker.errors import ConflictError, KernelError, MinidockerError, NotFoundError, StateError
from minidocker.spec import fastjson
from minidocker.spec.near import near
from minidocker.storage import containers, rootfs
from minidocker.storage.state import State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_COLUMNS = "name, anonymous, labels, created"
_DATA, _FILLING = "_data", "filling"


class Volume:
    """`anonymous`: nobody gave it its name; it goes with its last container's `--rm` or `rm -v`. `created` seconds since the epoch."""

    __slots__ = ("anonymous", "created", "labels", "name")

    def __init__(self, row: tuple[Any, ...]) -> None:
        self.name: str = row[0]
        self.anonymous = bool(row[1])
        self.labels: dict[str, str] = fastjson.loads(row[2])
        self.created: float = row[3]


def directory(root: str, name: str) -> str:
    """The volume's own directory below the data root."""
    return f"{root}/volumes/{name}"


def data(root: str, name: str) -> str:
    """What containers see of it."""
    return f"{root}/volumes/{name}/{_DATA}"


# --- records ------------------------------------------------------------------------------------------------------------------------------


def every(state: State) -> list[Volume]:
    """All volumes, by name."""
    return [Volume(row) for row in state.rows(f"SELECT {_COLUMNS} FROM volumes WHERE NOT removing ORDER BY name")]  # noqa: S608


def get(state: State, name: str) -> Volume | None:
    row = state.row(f"SELECT {_COLUMNS} FROM volumes WHERE name = ? AND NOT removing", name) if name.isascii() else None  # noqa: S608
    return Volume(row) if row else None


def find(state: State, name: str) -> Volume:
    """Raises NotFoundError with near misses."""
    found = get(state, name)
    if found is None:
        close = near(name, [volume.name for volume in every(state)])
        hint = f"did you mean {' or '.join(close)}?" if close else "minidocker volume ls lists them"
        raise NotFoundError(f"no such volume: {name}", hint)
    return found


def insert(state: State, name: str, labels: dict[str, str], anonymous: bool = False) -> None:
    """Raises ConflictError when there is one of the name."""
    if state.row("SELECT 1 FROM volumes WHERE name = ?", name):
        raise ConflictError(f"volume `{name}` exists already, or is just being removed")
    state.change(
        "INSERT INTO volumes (name, anonymous, labels, created) VALUES (?, ?, ?, ?)",
        name, int(anonymous), fastjson.dumps(labels), time.time(),
    )  # fmt: skip


def take(state: State, id: str, name: str, anonymous: bool) -> None:
    """The container has the volume from here on, which is made where it is not there. In the transaction that makes the container."""
    if get(state, name) is None:
        insert(state, name, {}, anonymous)
    state.change("INSERT OR IGNORE INTO volume_uses (container, volume) VALUES (?, ?)", id, name)


def users(state: State) -> dict[str, list[str]]:
    """volume -> the names of the containers that have it, ended ones too."""
    found: dict[str, list[str]] = {}
    for volume, name in state.rows("SELECT u.volume, c.name FROM volume_uses u JOIN containers c ON c.id = u.container ORDER BY c.name"):
        found.setdefault(volume, []).append(name)
    return found


def condemn(state: State, name: str) -> None:
    """Mark it as about to be removed. Raises NotFoundError, StateError naming the containers that have it."""
    with state.transaction():
        volume = find(state, name)
        if having := users(state).get(volume.name):
            names = ", ".join(having)
            raise StateError(f"volume `{name}` is in use by {names}", "remove them first: minidocker rm " + names.replace(",", ""))
        state.change("UPDATE volumes SET removing = 1 WHERE name = ?", volume.name)


def alone(state: State, id: str) -> list[str]:
    """The anonymous volumes that the container alone has."""
    return [name for (name,) in state.rows(
        "SELECT v.name FROM volumes v JOIN volume_uses u ON u.volume = v.name WHERE u.container = ?1 AND v.anonymous "
        "AND NOT EXISTS (SELECT 1 FROM volume_uses o WHERE o.volume = v.name AND o.container <> ?1)", id,
    )]  # fmt: skip


def delete_container(state: State, id: str) -> None:
    """Forget a container; the anonymous volumes that no other has are marked as about to be removed."""
    with state.transaction():
        had = [name for (name,) in state.rows("SELECT volume FROM volume_uses WHERE container = ?", id)]
        containers.delete(state, id)
        for name in had:
            state.change(
                "UPDATE volumes SET removing = 1 WHERE name = ?1 AND anonymous "
                "AND NOT EXISTS (SELECT 1 FROM volume_uses WHERE volume = ?1)", name,
            )  # fmt: skip


# --- files --------------------------------------------------------------------------------------------------------------------------------


def make(root: str, name: str) -> None:
    """Its directories, where they are missing."""
    try:
        for path, mode in ((f"{root}/volumes", 0o700), (directory(root, name), 0o700), (data(root, name), 0o755)):
            try:
                os.mkdir(path, mode)
            except FileExistsError:
                continue
    except OSError as error:
        raise KernelError.of(f"make the volume `{name}` in {root}/volumes", error) from error


def fill(root: str, name: str, copy: Callable[[int], None] | None) -> None:
    """Make its directories; into a volume that is empty `copy` (None: nothing) puts its first files, by a descriptor. What a killed
    process has copied in part is thrown away before. Of two that would fill it at once the second waits, and finds it full."""
    make(root, name)
    place = os.open(directory(root, name), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(place, fcntl.LOCK_EX)
        if os.path.exists(f"{directory(root, name)}/{_FILLING}"):
            rootfs.remove_tree(data(root, name))
            make(root, name)
            os.unlink(_FILLING, dir_fd=place)
        if copy is not None and not os.listdir(data(root, name)):
            os.close(os.open(_FILLING, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=place))
            target = os.open(_DATA, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
            try:
                copy(target)
            finally:
                os.close(target)
            os.unlink(_FILLING, dir_fd=place)
    except OSError as error:
        raise KernelError.of(f"copy what the root file system has there into the volume `{name}`", error) from error
    finally:
        os.close(place)


def settle(state: State, root: str) -> list[str]:
    """Remove the files, then the records of those that are marked; returns what went wrong. One at a time: what one process finds
    marked another may have removed meanwhile, and somebody have made again under the same name."""
    if not os.path.isdir(f"{root}/volumes"):
        os.mkdir(f"{root}/volumes", 0o700)
    turn = os.open(f"{root}/volumes", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    troubles = []
    try:
        fcntl.flock(turn, fcntl.LOCK_EX)
        for (name,) in state.rows("SELECT name FROM volumes WHERE removing"):
            try:
                rootfs.remove_tree(directory(root, name))
                state.change("DELETE FROM volumes WHERE name = ?", name)
            except MinidockerError as error:
                troubles.append(str(error))
    finally:
        os.close(turn)
    return troubles


def size(root: str, name: str) -> int:
    """The bytes that its files take up on the disk, as du(1) counts: a file of several names once, and no link followed."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for _, _, files, descriptor in os.fwalk(data(root, name), follow_symlinks=False):
        for entry in (*files, "."):
            try:
                status = os.lstat(entry, dir_fd=descriptor)
            except FileNotFoundError:
                continue  # a container is at work in it
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                total += status.st_blocks * 512
    return total
