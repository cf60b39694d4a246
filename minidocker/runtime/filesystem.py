"""The rest of the container's file system: its root, /dev, the terminal, masked and read-only paths, and the pivot.

All of it happens before pivot_root, by descriptors below the new root: the host's own /dev/null and /proc serve, never
those of the root file system, which may be hostile.
"""

from __future__ import annotations

import errno
import os
import stat

from minidocker.errors import UsageError
from minidocker.kernel import mounts as k
from minidocker.plan import CHILD, FILESYSTEM, PARENT, At, Step, quote
from minidocker.runtime.mounts import Mount, make_in_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# runtime-spec, config-linux.md, "Default Devices"
DEFAULT_DEVICES = (
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
)
_LINKS = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
)
_TYPES = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}


class Root(Step):
    """The new root: mounts leave the host alone from here on, and the root becomes a mount point, as pivot_root wants.

    `entry` is a mount whose destination is "/" (the engine's overlay), mounted over `path` itself; without one the
    directory is bound onto itself.
    """

    actor = CHILD
    title = FILESYSTEM
    why = "what is mounted from here on stays in here; the root becomes a mount of its own, which pivot_root needs"

    def __init__(self, path: str, entry: dict[str, Any] | None, propagation: str = "") -> None:
        """`propagation`: OCI's linux.rootfsPropagation. With "shared" the mounts of this namespace stay the peers of the host's until the
        pivot, so that a bind mount that is to be shared is so with the host."""
        self.path = path
        self.mount = Mount(entry) if entry else None
        self.propagation = {"shared": k.MS_SHARED, "private": k.MS_PRIVATE, "unbindable": k.MS_PRIVATE}.get(
            propagation.removeprefix("r"), k.MS_SLAVE
        )
        self.stays_slave = propagation in ("slave", "rslave")

    def shell(self) -> str:
        path = quote(self.path)
        words = {k.MS_SHARED: "rshared", k.MS_PRIVATE: "rprivate"}
        lines = [f"ROOT={path}", f"mount --make-{words.get(self.propagation, 'rslave')} /"]
        if self.mount:
            lines.append(f"mount -t {self.mount.type} -o {quote(','.join(self.mount.words))} {quote(self.mount.source)} {path}")
        else:
            lines.append(f"mount --rbind {path} {path}")
        # pivot_root refuses a root whose parent mount is shared
        return "\n".join([*lines, "mount --make-private /" if self.path == "/" else 'mount --make-rprivate "$ROOT"'])

    def describe(self) -> str:
        return f"mount `{self.mount.type}` as the root file system on `{self.path}`" if self.mount else f"bind the root `{self.path}`"

    def apply(self, at: At) -> None:
        k.set_propagation("/", self.propagation | k.MS_REC)
        if self.propagation == k.MS_SHARED:
            self._keep_from_parent()
        if self.mount:
            options = self.mount.options
            k.mount(self.mount.source, self.path, self.mount.type, options.flags, options.data)
            at.root = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        else:
            # held already where only who we were before could reach it (namespaces.Unshare)
            target = at.root if at.root >= 0 else os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            at.root = k.open_tree("", recursive=True, directory=target)
            k.move_mount(at.root, target)
            os.close(target)
        if not self.stays_slave:
            k.set_attributes(at.root, 0, propagation=k.MS_PRIVATE, recursive=self.propagation == k.MS_SHARED)

    def _keep_from_parent(self) -> None:
        """The mount that the root lies on must not be shared: the host would get the root as a mount, and pivot_root refuses it."""
        with open("/proc/self/mountinfo", "rb", buffering=0) as file:
            points = {line.split(b" ")[4] for line in file.read().split(b"\n") if line}
        path = os.fsencode(os.path.realpath(self.path))
        while path not in points and path != b"/":
            path = os.path.dirname(path)
        k.set_propagation(os.fsdecode(path), k.MS_PRIVATE)


class Devices(Step):
    """Device nodes: the default ones and those of the configuration; where mknod is not allowed, the host's are bound in."""

    actor = CHILD
    title = FILESYSTEM
    why = "the devices every program may expect, and no others"

    def __init__(self, devices: list[dict[str, Any]]) -> None:
        nodes = [(path, stat.S_IFCHR | 0o666, os.makedev(major, minor), 0, 0) for path, major, minor in DEFAULT_DEVICES]
        for device in devices:
            number = os.makedev(device["major"], device["minor"]) if device["type"] != "p" else 0
            mode = _TYPES[device["type"]] | device.get("fileMode", 0o666)
            nodes.append((device["path"], mode, number, device.get("uid", 0), device.get("gid", 0)))
        self.nodes = nodes

    def shell(self) -> str:
        parents = dict.fromkeys(os.path.dirname(path) for path, *_ in self.nodes)
        lines = ["mkdir -p " + " ".join(f'"$ROOT"{quote(parent)}' for parent in parents)]
        for path, mode, number, uid, gid in self.nodes:
            kind = "p" if stat.S_ISFIFO(mode) else f"{'b' if stat.S_ISBLK(mode) else 'c'} {os.major(number)} {os.minor(number)}"
            target = f'"$ROOT"{quote(path)}'
            owner = f" && chown {uid}:{gid} {target}" if uid or gid else ""
            lines.append(f"[ -e {target} ] || mknod -m {stat.S_IMODE(mode):o} {target} {kind}{owner}")
        for path, pointed in _LINKS:
            lines.append(f'[ -e "$ROOT"{quote(path)} ] || ln -sf {quote(pointed)} "$ROOT"{quote(path)}')
        return "\n".join(lines)

    def describe(self) -> str:
        return "make the device nodes"

    def apply(self, at: At) -> None:
        directories: dict[str, int] = {}
        for path, mode, number, uid, gid in self.nodes:
            parent_path, _, name = path.rpartition("/")
            if parent_path not in directories:
                directories[parent_path] = make_in_root(at.root, parent_path or "/", directory=True)
            parent = directories[parent_path]
            try:
                os.mknod(name, mode, number, dir_fd=parent)
                if uid or gid:
                    os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)
            except FileExistsError:
                _check_node(path, os.stat(name, dir_fd=parent, follow_symlinks=False), mode, number, "the root file system")
            except PermissionError:
                _check_node(path, os.stat(path), mode, number, "the host")
                Mount({"destination": path, "type": "bind", "source": path, "options": ["bind"]}).apply(at)
        for path, target in _LINKS:
            parent_path, _, name = path.rpartition("/")
            try:
                os.symlink(target, name, dir_fd=directories[parent_path])
            except FileExistsError:
                continue
        for descriptor in directories.values():
            os.close(descriptor)


def made(devices: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Device rules that let the nodes of `linux.devices` be made, by a process that the container's rules hold for already. A node gives no
    access by itself."""
    return [
        {"allow": True, "type": "b" if device["type"] == "b" else "c", "major": device["major"], "minor": device["minor"], "access": "m"}
        for device in devices if device["type"] != "p"
    ]  # fmt: skip


def _check_node(path: str, found: os.stat_result, mode: int, number: int, where: str) -> None:
    """UsageError unless what is there is the device that is to be there (config-linux.md, "Devices")."""
    same = stat.S_IFMT(found.st_mode) == stat.S_IFMT(mode) and (stat.S_ISFIFO(mode) or found.st_rdev == number)
    if not same:
        wanted = "a fifo" if stat.S_ISFIFO(mode) else f"the device {os.major(number)}:{os.minor(number)}"
        raise UsageError(f"make `{path}`: {where} has something else there, which is not {wanted}", "remove it, or mount a tmpfs on /dev")


class WorkingDirectory(Step):
    """`process.cwd` made where it is missing, as docker does."""

    actor = CHILD
    title = FILESYSTEM
    why = "where the program will start"

    def __init__(self, cwd: str) -> None:
        self.cwd = cwd

    def shell(self) -> str:
        return f'mkdir -p "$ROOT"{quote(self.cwd)}'

    def apply(self, at: At) -> None:
        os.close(make_in_root(at.root, self.cwd, directory=True))


class ProtectedPaths(Step):
    """`linux.readonlyPaths` made read-only and `linux.maskedPaths` hidden; a path that does not exist needs neither."""

    actor = CHILD
    title = FILESYSTEM
    why = "parts of /proc and /sys that tell about or reach into the host"

    def __init__(self, readonly: list[str], masked: list[str], mounts: list[Mount]) -> None:
        """`mounts` are those before it: a path below one that is held is looked up from that, wherever it lies by now (CVE-2023-27561)."""
        self.readonly = readonly
        self.masked = masked
        self.mounts = mounts

    def shell(self) -> str:
        lines = []
        if self.readonly:
            words = " ".join(quote(path) for path in self.readonly)
            lines.append(
                f'for p in {words}; do [ ! -e "$ROOT$p" ] || '
                '{ mount --rbind "$ROOT$p" "$ROOT$p"; mount -o remount,bind,ro,nosuid,nodev,noexec "$ROOT$p"; }; done'
            )
        if self.masked:
            words = " ".join(quote(path) for path in self.masked)
            lines.append(
                f'for p in {words}; do if [ -d "$ROOT$p" ]; then '
                'mount -t tmpfs -o size=0,nr_inodes=1 none "$ROOT$p"; mount -o remount,bind,ro "$ROOT$p"; '
                'elif [ -e "$ROOT$p" ]; then mount --bind /dev/null "$ROOT$p"; fi; done'
            )
        return "\n".join(lines)

    def describe(self) -> str:
        return "mask and protect paths in /proc and /sys"

    def apply(self, at: At) -> None:
        for path in self.readonly:
            target = self._existing(at.root, path)
            if target >= 0:
                tree = k.open_tree("", recursive=True, directory=target)
                k.set_attributes(tree, k.ATTR_RDONLY, recursive=True)
                k.move_mount(tree, target)
                os.close(tree)
                os.close(target)
        empty = null = -1
        for path in self.masked:
            target = self._existing(at.root, path)
            if target < 0:
                continue
            if stat.S_ISDIR(os.fstat(target).st_mode):
                if empty < 0:
                    empty = k.detached_filesystem("tmpfs", {"size": "0", "nr_inodes": "1"}, k.ATTR_RDONLY)
                    tree = empty
                else:
                    tree = k.open_tree("", directory=empty)
            else:
                if null < 0:
                    null = k.open_tree("/dev/null")
                    _check_node("/dev/null", os.fstat(null), stat.S_IFCHR, os.makedev(1, 3), "the host")  # CVE-2025-31133
                    tree = null
                else:
                    tree = k.open_tree("", directory=null)
            k.move_mount(tree, target)
            os.close(target)
            if tree not in (empty, null):
                os.close(tree)
        for descriptor in (empty, null, *(mount.held for mount in self.mounts)):
            if descriptor >= 0:
                os.close(descriptor)

    def _existing(self, root: int, path: str) -> int:
        """An O_PATH descriptor, or -1."""
        for mount in reversed(self.mounts):
            if path.startswith(mount.destination.rstrip("/") + "/"):
                if mount.held >= 0 and ".." not in path.split("/"):
                    root, path = mount.held, path[len(mount.destination.rstrip("/")) :]
                break
        try:
            return k.open_in_root(root, path)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENXIO):
                return -1
            raise


# What the new root becomes when nothing of the host's is left in sight; private it is already, and a slave stays one.
_LAST = {
    "shared": k.MS_SHARED, "rshared": k.MS_SHARED | k.MS_REC, "rprivate": k.MS_PRIVATE | k.MS_REC,
    "unbindable": k.MS_UNBINDABLE, "runbindable": k.MS_UNBINDABLE | k.MS_REC,
}  # fmt: skip


class Pivot(Step):
    """pivot_root(2) onto the new root; the host's tree is let go of at once."""

    actor = CHILD
    typed = PARENT
    title = FILESYSTEM
    why = "from here on / is the container's for all that is in there, and the host's tree is not mounted anywhere in there any more"

    def __init__(self, root: str, readonly: bool, pivot: bool = True, propagation: str = "") -> None:
        """`pivot` False: the new root is moved over the old one instead, as must be on the initial ramfs, which nothing can pivot away.
        `propagation`: OCI's linux.rootfsPropagation, which the new root has in the end."""
        self.root = root
        self.readonly = readonly
        self.pivot = pivot
        self.propagation = propagation

    def shell(self) -> str:
        """Typed from outside when the process in there has become the user: so every tool is the host's, and none is needed in there."""
        there = 'nsenter --target "$PID" --mount'
        lines = [f"{there} mount -o remount,bind,ro {quote(self.root)}"] if self.readonly else []
        how = "pivot_root . ." if self.pivot else "mount --move . / && chroot ."
        return "\n".join(["heard", *lines, f"{there} bash -c {quote(f'cd {quote(self.root)} && {how}')}",
                          'umount --namespace "$PID" --lazy /', "echo >&9"])  # fmt: skip

    def describe(self) -> str:
        return "pivot into the root file system"

    def apply(self, at: At) -> None:
        if self.readonly:
            k.set_attributes(at.root, k.ATTR_RDONLY)
        os.fchdir(at.root)
        if not self.pivot:
            self._move(at.root)
            return
        shared = self.propagation in ("shared", "rshared")
        old = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) if shared else -1
        # pivot_root(2), NOTES: with both arguments "." the old root is stacked over the new one and unmounted from there
        k.pivot_root(".", ".")
        if shared:
            os.fchdir(old)
            os.close(old)
            k.set_propagation(".", k.MS_SLAVE | k.MS_REC)  # or the host's own mounts would be unmounted with it
        k.umount_lazily(".")
        os.chdir("/")
        if self.propagation in _LAST:
            k.set_propagation("/", _LAST[self.propagation])

    def _move(self, root: int) -> None:
        """The old root stays below the new one. Its /proc and /sys go first: while a whole one is mounted anywhere, the kernel would let
        a user namespace in there mount another, without what is masked (mount_namespaces(7))."""
        for path in ("/proc", "/sys"):
            try:
                k.umount_lazily(path)
            except OSError as error:
                if error.errno != errno.EINVAL:  # not a mount point
                    raise
        old = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        k.move_mount(root, old)
        os.close(old)
        os.chroot(".")
        os.chdir("/")
