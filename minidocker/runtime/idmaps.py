"""Mounts whose files belong to other users than on disk: options `idmap` and `ridmap` (mount_setattr(2), MOUNT_ATTR_IDMAP).

The map is that of a user namespace, made for this, which may be forgotten once the mount has it. Only who has power over the file system's
own user namespace may map: the parent, not the child in one of its own. So the parent clones the tree, maps it and passes it on.
"""

from __future__ import annotations

import os

from minidocker.errors import KernelError, UnsupportedError
from minidocker.kernel import mounts, namespaces
from minidocker.plan import FILESYSTEM, At, Step
from minidocker.runtime.mounts import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_EINVAL = 22


class Trees(Step):
    """Before the child is cloned, which inherits them: each mount's tree, mapped."""

    title = FILESYSTEM
    why = "who owns the files that are shared with it, in there"

    def __init__(self, mounts_: Sequence[Mount], linux: dict[str, Any]) -> None:
        self.mounts = mounts_
        self.linux = linux

    def shell(self) -> str:
        return "\n".join(f"# {mount.describe()}, id-mapped: mount -o X-mount.idmap=, util-linux 2.39" for mount in self.mounts)

    def describe(self) -> str:
        return "map the owners of what is mounted"

    def apply(self, at: At) -> None:
        for mount in self.mounts:
            mount.tree = self._mapped(mount)

    def _mapped(self, mount: Mount) -> int:
        maps = [mount.entry.get(key) or self.linux.get(key) or [] for key in ("uidMappings", "gidMappings")]
        recursive = "ridmap" in mount.words
        userns = user_namespace(*maps)
        try:
            tree = mount.open_source()
            try:
                mounts.set_idmap(tree, userns, recursive)
            except OSError as error:
                os.close(tree)
                action = f"map the owners of `{mount.source}` on `{mount.destination}`"
                if error.errno == _EINVAL:
                    raise UnsupportedError(f"{action}: its file system cannot be id-mapped, or is already") from error
                raise KernelError.of(action, error) from error
            return tree
        finally:
            os.close(userns)

    def undo(self, at: At) -> None:
        close(self.mounts)


class Closed(Step):
    """After the child is cloned the parent needs them no longer."""

    title = FILESYSTEM
    why = "they are the child's now"

    def __init__(self, mounts_: Sequence[Mount]) -> None:
        self.mounts = mounts_

    def shell(self) -> str:
        return "# (the trees are the child's)"

    def describe(self) -> str:
        return "close the mapped trees"

    def apply(self, at: At) -> None:
        close(self.mounts)


def close(mounts_: Sequence[Mount]) -> None:
    for mount in mounts_:
        if mount.tree >= 0:
            os.close(mount.tree)
            mount.tree = -1


def user_namespace(uids: Sequence[dict[str, int]], gids: Sequence[dict[str, int]]) -> int:
    """A descriptor of a new user namespace with these maps, that no process is in."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid, pidfd = namespaces.clone(namespaces.NEWUSER)
    if pid == 0:
        os.close(writer)
        os.read(reader, 1)  # until the other end is closed
        os._exit(0)
    try:
        os.close(reader)
        for file, entries in (("uid_map", uids), ("gid_map", gids)):
            text = "".join(f"{entry['containerID']} {entry['hostID']} {entry['size']}\n" for entry in entries)
            with open(f"/proc/{pid}/{file}", "wb", buffering=0) as stream:
                stream.write(text.encode())
        return namespaces.open_of(pid, "user")
    except OSError as error:
        raise KernelError.of("make a user namespace for an id-mapped mount", error) from error
    finally:
        os.close(writer)
        os.waitpid(pid, 0)
        os.close(pidfd)
