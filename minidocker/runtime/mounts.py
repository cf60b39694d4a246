"""The mounts of an OCI configuration as Steps of the child, in the listed order (runtime-spec, config.md, "Mounts").

Each destination is looked up inside the root being built by openat2(RESOLVE_IN_ROOT) and mounted on by descriptor, so
that no link in a hostile root file system leads a mount out of it; what is missing is created.
"""

from __future__ import annotations

import errno
import os
import stat

from minidocker.errors import KernelError, UsageError
from minidocker.kernel import mounts as k
from minidocker.kernel.cgroups import Face
from minidocker.plan import CHILD, FILESYSTEM, At, Step, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# option -> (mount(2) flag, is it cleared, mount_setattr(2) attribute or 0 where mount_setattr has none)
_FLAGS: dict[str, tuple[int, bool, int]] = {
    "ro": (k.MS_RDONLY, False, k.ATTR_RDONLY),
    "rw": (k.MS_RDONLY, True, k.ATTR_RDONLY),
    "nosuid": (k.MS_NOSUID, False, k.ATTR_NOSUID),
    "suid": (k.MS_NOSUID, True, k.ATTR_NOSUID),
    "nodev": (k.MS_NODEV, False, k.ATTR_NODEV),
    "dev": (k.MS_NODEV, True, k.ATTR_NODEV),
    "noexec": (k.MS_NOEXEC, False, k.ATTR_NOEXEC),
    "exec": (k.MS_NOEXEC, True, k.ATTR_NOEXEC),
    "nosymfollow": (k.MS_NOSYMFOLLOW, False, k.ATTR_NOSYMFOLLOW),
    "symfollow": (k.MS_NOSYMFOLLOW, True, k.ATTR_NOSYMFOLLOW),
    "nodiratime": (k.MS_NODIRATIME, False, k.ATTR_NODIRATIME),
    "diratime": (k.MS_NODIRATIME, True, k.ATTR_NODIRATIME),
    "sync": (k.MS_SYNCHRONOUS, False, 0),
    "async": (k.MS_SYNCHRONOUS, True, 0),
    "dirsync": (k.MS_DIRSYNC, False, 0),
    "mand": (k.MS_MANDLOCK, False, 0),
    "nomand": (k.MS_MANDLOCK, True, 0),
    "silent": (k.MS_SILENT, False, 0),
    "loud": (k.MS_SILENT, True, 0),
    "lazytime": (k.MS_LAZYTIME, False, 0),
    "nolazytime": (k.MS_LAZYTIME, True, 0),
    "iversion": (k.MS_I_VERSION, False, 0),
    "noiversion": (k.MS_I_VERSION, True, 0),
    "defaults": (0, False, 0),
}
# access time modes are one field in mount_setattr, not flags: the value that replaces the field
_ATIMES: dict[str, tuple[int, int]] = {
    "relatime": (k.MS_RELATIME, 0),
    "noatime": (k.MS_NOATIME, k.ATTR_NOATIME),
    "strictatime": (k.MS_STRICTATIME, k.ATTR_STRICTATIME),
    "atime": (0, 0),
    "norelatime": (0, 0),
    "nostrictatime": (0, 0),
}
_PROPAGATIONS: dict[str, int] = {
    "private": k.MS_PRIVATE,
    "rprivate": k.MS_PRIVATE | k.MS_REC,
    "slave": k.MS_SLAVE,
    "rslave": k.MS_SLAVE | k.MS_REC,
    "shared": k.MS_SHARED,
    "rshared": k.MS_SHARED | k.MS_REC,
    "unbindable": k.MS_UNBINDABLE,
    "runbindable": k.MS_UNBINDABLE | k.MS_REC,
}


_OURS = ("idmap", "ridmap", "tmpcopyup", "remount")

# Why a container has a mount of this type.
_REASONS = {
    "bind": "seen in there as it is out here",
    "proc": "the processes of its own PID namespace",
    "sysfs": "the network interfaces of its own network namespace, and the machine's devices",
    "devpts": "terminals of its own",
    "mqueue": "the message queues of its own IPC namespace",
}


_MOST_LINKS = 40  # path_resolution(7)
# What is dangerous in these is masked later on. A link here could lead elsewhere by then, and the whole of it stay within reach at the
# first place (CVE-2019-19921); nor may it be renamed meanwhile (CVE-2023-27561): they are held, and masked by what is held.
_GUARDED_TYPES = ("proc", "sysfs")
_GUARDED_SOURCES = ("/proc", "/sys")


class Options:
    """OCI mount options, sorted by the system call that takes them.

    `flags` for mount(2); `set`/`clear` and their recursive twins `rset`/`rclear` for mount_setattr(2); `propagation` mount(2)
    flags, each set by a call of its own; `bind` "", "bind" or "rbind"; `ours` those that no system call takes (idmap, ridmap, tmpcopyup,
    remount); `data` what is left, for the file system.
    """

    __slots__ = ("bind", "clear", "data", "flags", "ours", "propagation", "rclear", "rset", "set")

    def __init__(self, options: list[str]) -> None:
        self.flags = self.set = self.clear = self.rset = self.rclear = 0
        self.propagation: list[int] = []
        self.bind = ""
        self.ours: list[str] = []
        data = []
        for option in options:
            if option in ("bind", "rbind"):
                self.bind = option
            elif option in _PROPAGATIONS:
                self.propagation.append(_PROPAGATIONS[option])
            elif option in _FLAGS:
                self._take(*_FLAGS[option])
            elif option in _ATIMES:
                self.flags |= _ATIMES[option][0]
                self.set, self.clear = self.set & ~k.ATTR_ATIME | _ATIMES[option][1], self.clear | k.ATTR_ATIME
            elif option[:1] == "r" and option[1:] in _FLAGS and _FLAGS[option[1:]][2]:
                _, cleared, attribute = _FLAGS[option[1:]]
                self.rset, self.rclear = _switched(self.rset, self.rclear, attribute, cleared)
            elif option[:1] == "r" and option[1:] in _ATIMES:
                self.rset, self.rclear = self.rset & ~k.ATTR_ATIME | _ATIMES[option[1:]][1], self.rclear | k.ATTR_ATIME
            elif option in _OURS:
                self.ours.append(option)
            else:
                data.append(option)
        self.data = ",".join(data)

    def _take(self, flag: int, cleared: bool, attribute: int) -> None:
        self.flags = self.flags & ~flag if cleared else self.flags | flag
        self.set, self.clear = _switched(self.set, self.clear, attribute, cleared)


def known_options() -> list[str]:
    """Every option that `Options` knows by itself; what else there is goes to the file system."""
    recursive = [name for name, (_, _, attribute) in _FLAGS.items() if attribute]
    return sorted({"bind", "rbind", *_PROPAGATIONS, *_FLAGS, *_ATIMES, *_OURS, *("r" + name for name in (*recursive, *_ATIMES))})


def _switched(on: int, off: int, bit: int, cleared: bool) -> tuple[int, int]:
    """The later of two contradicting options wins."""
    return (on & ~bit, off | bit) if cleared else (on | bit, off & ~bit)


class Mount(Step):
    """One entry of `mounts`: {"destination", "type", "source", "options"}."""

    actor = CHILD
    title = FILESYSTEM
    directory = False  # of a bind mount: its source will be one, though it is not there yet

    def __init__(self, entry: dict[str, Any]) -> None:
        self.entry = entry
        self.destination: str = entry["destination"]
        self.options = Options(entry.get("options", []))
        self.tree = -1  # what is to be mounted, where it was made before (idmaps.py)
        self.held = -1  # what was mounted, where that is procfs or sysfs; filesystem.ProtectedPaths closes it
        self.words: list[str] = entry.get("options", [])
        bound = entry.get("type") == "bind" or self.options.bind
        self.type: str = "bind" if bound else entry.get("type", "none")
        self.source: str = entry.get("source") or self.type
        ours = self.options.ours
        if self.type == "bind" and self.options.data:
            raise UsageError(f"{self.describe()}: `{self.options.data}` is no option of a bind mount")
        if "tmpcopyup" in ours and self.type != "tmpfs":
            raise UsageError(f"{self.describe()}: tmpcopyup is an option of tmpfs")
        if self.is_mapped and self.type != "bind":
            raise UsageError(f"{self.describe()}: only a bind mount can be id-mapped here")
        if "tmpcopyup" in ours:
            from minidocker.runtime import copyup  # now: after the pivot nothing is loaded any more

            self.copy = copyup.copy
        self.why = self.why or _REASONS.get(self.type) or f"its own `{self.destination}`, which goes with it"

    def shell(self) -> str:
        target = f'"$ROOT"{quote(self.destination)}'
        lines = []
        if self.type == "bind":
            # a file needs a file to be mounted on
            directory = self.directory or os.path.isdir(self.source)
            lines.append(f"mkdir -p {target}" if directory else f"[ -e {target} ] || install -D -m 644 /dev/null {target}")
            how = "--rbind" if self.options.bind == "rbind" else "--bind"
            lines.append(f"mount {how} {quote(self.source)} {target}")
            attributes = ",".join(w for w in self.words if w in _FLAGS or w in _ATIMES)
            if attributes:
                lines.append(f"mount -o remount,bind,{attributes} {target}")
            recursive = ",".join(w[1:] for w in self.words if w[:1] == "r" and (w[1:] in _FLAGS or w[1:] in _ATIMES))
            if recursive:
                lines.append(f'findmnt -nlRo TARGET -M {target} | while read -r m; do mount -o remount,bind,{recursive} "$m"; done')
        else:
            given = [w for w in self.words if w not in _PROPAGATIONS]
            closes = self.type in _GUARDED_TYPES and "ro" in given  # read-only is the mount then, not what is mounted
            words = ",".join(w for w in given if w != "ro" or not closes)
            lines.append(f"mkdir -p {target}")
            lines.append(f"mount -t {quote(self.type)}{' -o ' + quote(words) if words else ''} {quote(self.source)} {target}")
            if closes:
                lines.append(f"mount -o remount,bind,{quote(','.join(given))} {target}")
        lines.extend(f"mount --make-{word} {target}" for word in self.words if word in _PROPAGATIONS)
        return "\n".join(lines)

    @property
    def is_mapped(self) -> bool:
        """Whether its files are shown as other users' (idmaps.py)."""
        return bool(self.entry.get("uidMappings")) or "idmap" in self.options.ours or "ridmap" in self.options.ours

    def describe(self) -> str:
        return f"mount `{self.source}` on `{self.destination}`"

    def apply(self, at: At) -> None:
        if "remount" in self.options.ours:
            self._remount(at.root)
        elif self.type == "bind":
            self._bind(at.root)
        elif "tmpcopyup" in self.options.ours:
            self._mount_copy(at.root)
        else:
            self._mount(at.root, self.options.flags)

    def _mount(self, root: int, flags: int) -> None:
        target = make_in_root(root, self.destination, directory=True)
        if self.type in _GUARDED_TYPES:
            os.close(target)
            self._mount_guarded(root)
            return
        try:
            k.mount(self.source, f"/proc/self/fd/{target}", self.type, flags, self.options.data)
        finally:
            os.close(target)
        if self.options.rset or self.options.rclear or self.options.propagation:
            mounted = k.open_in_root(root, self.destination)
            self._finish(mounted)
            os.close(mounted)

    def _mount_guarded(self, root: int) -> None:
        target = self._open_without_links(root)
        try:
            words = (word.partition("=") for word in self.options.data.split(",") if word)
            self.held = k.detached_filesystem(
                self.type, {"source": self.source, **{key: value for key, _, value in words}}, self.options.set
            )  # fmt: skip
            k.move_mount(self.held, target)
        finally:
            os.close(target)
        self._finish(self.held)

    def _remount(self, root: int) -> None:
        """Change what is mounted there already: of a bind mount its own attributes, else the file system's too."""
        options = self.options
        mounted = k.open_in_root(root, self.destination)
        try:
            if self.type == "bind":
                k.set_attributes(mounted, options.set, options.clear)
            else:
                k.mount(self.source, f"/proc/self/fd/{mounted}", "", options.flags | k.MS_REMOUNT, options.data)
            self._finish(mounted)
        finally:
            os.close(mounted)

    def _mount_copy(self, root: int) -> None:
        os.close(make_in_root(root, self.destination, directory=True))
        below = k.open_in_root(root, self.destination, os.O_RDONLY | os.O_DIRECTORY)
        self._mount(root, self.options.flags & ~k.MS_RDONLY)
        mounted = k.open_in_root(root, self.destination, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.copy(below, mounted, self.destination)
            if self.options.flags & k.MS_RDONLY:
                k.set_attributes(mounted, k.ATTR_RDONLY)
        finally:
            os.close(below)
            os.close(mounted)

    def _open_without_links(self, root: int) -> int:
        try:
            return k.open_in_root(root, self.destination, links=False)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            action = f"mount `{self.type}` on `{self.destination}`"
            raise UsageError(f"{action}: the root file system has a link there", "make it a directory") from error

    def open_source(self) -> int:
        """What is bound, as a tree that is mounted nowhere yet."""
        return k.open_tree(self.source, recursive=self.options.bind == "rbind")

    def _bind(self, root: int) -> None:
        tree, self.tree = self.tree, -1
        if tree < 0:
            tree = self.open_source()
        try:
            if self.options.set or self.options.clear:
                k.set_attributes(tree, self.options.set, self.options.clear)
            self._finish(tree)
            directory = stat.S_ISDIR(os.fstat(tree).st_mode)
            target = make_in_root(root, self.destination, directory)
            try:
                if directory != stat.S_ISDIR(os.fstat(target).st_mode):
                    kinds = "a directory cannot be mounted on a file" if directory else "a file cannot be mounted on a directory"
                    raise UsageError(f"mount `{self.source}` on `{self.destination}`: {kinds}")
                k.move_mount(tree, target)
            finally:
                os.close(target)
            if self.source.rstrip("/") in _GUARDED_SOURCES:
                self.held = tree
        finally:
            if self.held < 0:
                os.close(tree)

    def _finish(self, mounted: int) -> None:
        options = self.options
        if options.rset or options.rclear:
            k.set_attributes(mounted, options.rset, options.rclear, recursive=True)
        for propagation in options.propagation:
            k.set_attributes(mounted, 0, propagation=propagation & ~k.MS_REC, recursive=bool(propagation & k.MS_REC))


def make_in_root(root: int, path: str, directory: bool, links: int = 0) -> int:
    """An O_PATH descriptor of `path` inside `root`, created (with its parents, mode 0755) when it is missing; where it is a link to
    what is missing (a Debian's /etc/resolv.conf), that is created. `links` is how many were followed so far."""
    try:
        return k.open_in_root(root, path)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise KernelError.of(f"look up `{path}` in the root file system", error) from error
    parent_path, _, name = path.rstrip("/").rpartition("/")
    parent = make_in_root(root, parent_path or "/", directory=True)
    if name in (".", ".."):  # there now, as what it is of is
        os.close(parent)
        return k.open_in_root(root, path)
    try:
        if directory:
            os.mkdir(name, 0o755, dir_fd=parent)
        else:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644, dir_fd=parent))
    except FileExistsError:
        if links == _MOST_LINKS:
            raise KernelError(f"make mount point `{path}` in the root file system", errno.ELOOP) from None
        pointed = os.readlink(name, dir_fd=parent)
        return make_in_root(root, pointed if pointed[:1] == "/" else f"{parent_path}/{pointed}", directory, links + 1)
    except OSError as error:
        raise KernelError.of(f"make mount point `{path}` in the root file system", error) from error
    finally:
        os.close(parent)
    return k.open_in_root(root, path)


class CgroupMount(Mount):
    """`type: cgroup`: the container's view of its control groups, one mount a hierarchy; inside a cgroup namespace each shows
    the container's own cgroup as its root (runtime-spec, config-linux.md, "Default Filesystems").
    """

    why = "programs read their limits here"

    def __init__(self, entry: dict[str, Any], face: Face, shared: str = "") -> None:
        """`shared`: the container's cgroup where it has no cgroup namespace, in which a mount would show the host's root: its own
        directory is bound then."""
        super().__init__(entry)
        hierarchies = face.used()
        alone = len(hierarchies) == 1 and hierarchies[0].version == 2
        self.parts: list[Mount] = []
        self.links: list[tuple[str, str]] = []  # cpu -> cpu,cpuacct, as programs expect where several share a hierarchy
        if hierarchies and not alone:
            writable = [word for word in self.words if word != "ro"]
            self.parts.append(_part("tmpfs", self.destination, [*writable, "mode=755", "size=64k"]))
        for hierarchy in hierarchies:
            name = hierarchy.mount.rpartition("/")[2]
            destination = self.destination if alone else f"{self.destination}/{name}"
            self.links += [(controller, name) for controller in name.split(",") if controller != name]
            if shared:
                self.parts.append(_part("bind", destination, ["bind", *self.words], hierarchy.path(shared)))
                self.parts[-1].directory = True
            elif hierarchy.version == 2:
                self.parts.append(_part("cgroup2", destination, self.words))
            else:
                names = sorted("blkio" if controller == "io" else controller for controller in hierarchy.controllers)
                self.parts.append(_part("cgroup", destination, [*self.words, ",".join(names)]))
        # the tmpfs that holds several is made read-only when they are on it
        self.closes = len(self.parts) > 1 and "ro" in self.words

    def shell(self) -> str:
        lines = [part.shell() for part in self.parts]
        lines += [f'ln -s {quote(name)} "$ROOT"{quote(f"{self.destination}/{controller}")}' for controller, name in self.links]
        if self.closes:
            lines.append(f'mount -o remount,bind,ro "$ROOT"{quote(self.destination)}')
        return "\n".join(lines)

    def apply(self, at: At) -> None:
        for part in self.parts:
            part.apply(at)
        if not self.closes and not self.links:
            return
        mounted = k.open_in_root(at.root, self.destination)
        for controller, name in self.links:
            os.symlink(name, controller, dir_fd=mounted)
        if self.closes:
            k.set_attributes(mounted, k.ATTR_RDONLY)
        os.close(mounted)


def _part(fstype: str, destination: str, options: list[str], source: str = "") -> Mount:
    return Mount({"destination": destination, "type": fstype, "source": source or fstype, "options": options})
