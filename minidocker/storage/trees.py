"""Trees of files below descriptors: read from one, written to another or to a tar stream, and back.

Either tree may be a container's, whose processes rename and link what they like meanwhile. So nothing is looked up twice: an entry is
held by a descriptor before it is looked at, what is opened is what was looked at, and no link is followed below the top, nor from it but
inside the root (CVE-2018-15664). No device or fifo is opened. A tree is data: nothing of it is executed or loaded, nor is it ever this
process's root (CVE-2019-14271).
"""

from __future__ import annotations

import errno
import os
import stat

from minidocker.errors import KernelError, NotFoundError, StateError
from minidocker.kernel import mounts as kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CHUNK = 1 << 20
_MOST_LINKS = 40  # path_resolution(7)
_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# A copy is put together under this name and renamed then: nobody meets half a file under the true one.
_BESIDE = ".minidocker-cp-"


class Entry:
    """One file of a tree. `name` its path below the top, "" for the top itself; `link` where a symbolic link points, or the earlier name of
    the same file; `read(size)` gives the content of a regular one."""

    __slots__ = ("gid", "kind", "link", "mode", "mtime_ns", "name", "rdev", "read", "size", "uid")

    def __init__(self, name: str, status: os.stat_result | None = None) -> None:
        self.name = name
        self.link = ""
        self.read: Callable[[int], bytes] | None = None
        if status is not None:
            self.kind = stat.S_IFMT(status.st_mode)
            self.mode = stat.S_IMODE(status.st_mode)
            self.uid, self.gid, self.rdev = status.st_uid, status.st_gid, status.st_rdev
            self.size, self.mtime_ns = status.st_size, status.st_mtime_ns


class Place:
    """A path in a root directory, as far as it exists: `parent` a descriptor of the directory it is in, `name` there, `found` a descriptor
    of itself (O_PATH), -1 where there is nothing."""

    __slots__ = ("found", "name", "parent")

    def __init__(self, parent: int, name: str, found: int) -> None:
        self.parent = parent
        self.name = name
        self.found = found

    @property
    def is_directory(self) -> bool:
        return self.found >= 0 and stat.S_ISDIR(os.fstat(self.found).st_mode)


def locate(root: int, path: str, said: str, follow: bool = True) -> Place:
    """Look `path` up in the directory `root`, which no link leads out of; a link at its end is followed only with `follow`, or where a
    slash comes after it. `said` is what an error calls it. Raises NotFoundError for a directory on the way that is not there."""
    try:
        for _ in range(_MOST_LINKS):
            above, _, name = path.rstrip("/").rpartition("/")
            if name in ("", ".", "..") or path.endswith("/"):
                found = kernel.open_in_root(root, path or "/", os.O_PATH | os.O_DIRECTORY)
                return Place(found, "", found)
            parent = kernel.open_in_root(root, above or "/", os.O_PATH | os.O_DIRECTORY)
            try:
                found = os.open(name, _PATH, dir_fd=parent)
            except FileNotFoundError:
                return Place(parent, name, -1)
            if not follow or not stat.S_ISLNK(os.fstat(found).st_mode):
                return Place(parent, name, found)
            pointed = os.readlink("", dir_fd=found)
            os.close(found)
            os.close(parent)
            path = pointed if pointed.startswith("/") else f"{above}/{pointed}"
    except FileNotFoundError:
        raise NotFoundError(f"{said}: no such file or directory") from None
    except NotADirectoryError:
        raise NotFoundError(f"{said}: a part of it is no directory") from None
    except OSError as error:
        hint = "a link of /proc's that leads out of it is not followed" if error.errno == errno.ELOOP else ""
        raise KernelError(f"look up {said}", error.errno or 0, hint=hint) from error
    raise KernelError(f"look up {said}", errno.ELOOP)


def walk(top: int, apart: Callable[[int], bool], notice: Callable[[str], None]) -> Iterator[Entry]:
    """What the descriptor `top` (O_PATH) refers to, and all below it, directories before what is in them. What vanishes meanwhile is passed
    over. Nothing is read of a directory on another file system that `apart` says so of. An entry's content is read before the next."""
    seen: dict[tuple[int, int], str] = {}
    status = os.fstat(top)
    yield from _entry("", top, status, seen, notice)
    if not stat.S_ISDIR(status.st_mode):
        return
    # a descriptor and the names that are left of each directory on the way down
    way = [("", os.open(".", _DIRECTORY, dir_fd=top), status.st_dev, list[str]())]
    way[0][3].extend(sorted(os.listdir(way[0][1]), reverse=True))
    try:
        while way:
            prefix, directory, device, names = way[-1]
            if not names:
                os.close(way.pop()[1])
                continue
            name = names.pop()
            try:
                held = os.open(name, _PATH, dir_fd=directory)
            except FileNotFoundError:
                continue
            try:
                status = os.fstat(held)
                yield from _entry(prefix + name, held, status, seen, notice)
                if stat.S_ISDIR(status.st_mode) and (status.st_dev == device or not apart(held)):
                    below = os.open(".", _DIRECTORY, dir_fd=held)
                    way.append((f"{prefix}{name}/", below, status.st_dev, sorted(os.listdir(below), reverse=True)))
            finally:
                os.close(held)
    finally:
        for _, directory, _, _ in way:
            os.close(directory)


def _entry(
    name: str, held: int, status: os.stat_result, seen: dict[tuple[int, int], str], notice: Callable[[str], None]
) -> Iterator[Entry]:
    entry = Entry(name, status)
    if entry.kind == stat.S_IFSOCK:
        notice(f"`{name}` is a socket, and left out")
    elif entry.kind == stat.S_IFLNK:
        entry.link = os.readlink("", dir_fd=held)
        yield entry
    elif entry.kind == stat.S_IFREG:
        key = status.st_dev, status.st_ino
        if status.st_nlink > 1 and key in seen:
            entry.link = seen[key]
            yield entry
            return
        seen[key] = name
        # what is held is opened, and nothing that took its name meanwhile
        content = os.open(f"/proc/self/fd/{held}", os.O_RDONLY | os.O_CLOEXEC)
        entry.read = lambda size: os.read(content, size)
        try:
            yield entry
        finally:
            os.close(content)
    else:
        yield entry


class Writer:
    """Writes entries below a directory. `top` is the name that the top gets there, "" where that is the directory itself.

    `keep`: owners, set-id bits and all; else what is written is this user's, as if he had made it. With a `root` a directory on the way to
    an entry may be a link inside it (a tar stream's `bin/x` where /bin is one), else none is followed. `devices`: whether device
    nodes are made; else they are left out, with a notice. A directory and another file never replace each other.
    """

    def __init__(
        self, base: int, top: str, *, keep: bool, devices: bool, notice: Callable[[str], None], root: int = -1, path: str = ""
    ) -> None:
        self.base = base
        self.top = top
        self.keep = keep
        self.devices = devices
        self.notice = notice
        self.root = root  # with it `path` is where `base` is in it, and links are followed
        self.path = path
        self.files = self.bytes = 0
        self._times: list[tuple[str, int]] = []
        self._last = ("", -1)

    def put(self, entry: Entry) -> None:
        """Raises KernelError, StateError."""
        name = "/".join(filter(None, (self.top, entry.name)))
        try:
            if not name:
                return  # the directory itself, which is there
            above, _, last = name.rpartition("/")
            parent = self._parent(above)
            if entry.kind == stat.S_IFDIR:
                self._directory(parent, last, name, entry)
            elif entry.kind in (stat.S_IFCHR, stat.S_IFBLK) and not self.devices:
                self.notice(f"`{name}` is a device, and left out")
            else:
                self._file(parent, last, entry)
                self.files += 1
        except OSError as error:
            raise KernelError.of(f"write `{name}`", error) from error

    def finish(self) -> None:
        """The times of directories, which what was put into them has changed."""
        for name, mtime_ns in reversed(self._times):
            try:
                directory = self._open(name)
            except FileNotFoundError:
                continue  # somebody has removed it again
            except OSError as error:
                raise KernelError.of(f"set the time of `{name}`", error) from error
            os.utime(f"/proc/self/fd/{directory}", ns=(mtime_ns, mtime_ns))
            os.close(directory)
        self.close()

    def close(self) -> None:
        if self._last[1] >= 0:
            os.close(self._last[1])
            self._last = ("", -1)

    def _open(self, name: str) -> int:
        if self.root >= 0:
            return kernel.open_in_root(self.root, f"{self.path}/{name}", os.O_PATH | os.O_DIRECTORY)
        return kernel.open_in_root(self.base, name or ".", os.O_PATH | os.O_DIRECTORY, links=False)

    def _parent(self, name: str) -> int:
        """The directory that an entry is in; made where a stream does not speak of it."""
        if self._last[1] < 0 or self._last[0] != name:
            self.close()
            try:
                descriptor = self._open(name)
            except FileNotFoundError:
                above, _, last = name.rpartition("/")
                try:
                    os.mkdir(last, 0o755, dir_fd=self._parent(above))
                except FileExistsError:
                    pass  # somebody else has
                self.close()
                descriptor = self._open(name)
            self._last = name, descriptor
        return self._last[1]

    def _directory(self, parent: int, last: str, name: str, entry: Entry) -> None:
        try:
            os.mkdir(last, 0o700, dir_fd=parent)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(last, dir_fd=parent).st_mode):
                raise StateError(f"`{name}` is there already and no directory, and a directory does not replace it") from None
            return
        made = os.open(last, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        try:
            self._own(made, entry)
        finally:
            os.close(made)
        self._times.append((name, entry.mtime_ns))

    def _file(self, parent: int, last: str, entry: Entry) -> None:
        beside = _BESIDE + os.urandom(8).hex()
        try:
            if entry.kind == stat.S_IFREG and entry.link:
                above, _, first = "/".join(filter(None, (self.top, entry.link))).rpartition("/")
                there = self._open(above)
                try:
                    os.link(first, beside, src_dir_fd=there, dst_dir_fd=parent, follow_symlinks=False)
                finally:
                    os.close(there)
            elif entry.kind == stat.S_IFREG:
                self._content(parent, beside, entry)
            else:
                if entry.kind == stat.S_IFLNK:
                    os.symlink(entry.link, beside, dir_fd=parent)
                else:
                    os.mknod(beside, entry.kind | 0o600, entry.rdev, dir_fd=parent)
                made = os.open(beside, _PATH, dir_fd=parent)
                try:
                    self._own(made, entry)
                finally:
                    os.close(made)
                os.utime(beside, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)
            os.rename(beside, last, src_dir_fd=parent, dst_dir_fd=parent)
        except IsADirectoryError:
            raise StateError(f"`{last}` is a directory already, and no other file replaces it") from None
        finally:
            try:
                os.unlink(beside, dir_fd=parent)
            except FileNotFoundError:
                pass  # it has its true name; where that was the same file already, rename(2) leaves both

    def _content(self, parent: int, name: str, entry: Entry) -> None:
        target = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent)
        try:
            assert entry.read is not None  # noqa: S101  (a regular file that is no other's name)
            while chunk := entry.read(_CHUNK):
                self.bytes += len(chunk)
                if chunk.count(0) == len(chunk):
                    os.lseek(target, len(chunk), os.SEEK_CUR)  # a hole stays one
                    continue
                view = memoryview(chunk)
                while view:
                    view = view[os.write(target, view) :]
            os.ftruncate(target, os.lseek(target, 0, os.SEEK_CUR))
            self._own(target, entry)
            os.utime(target, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(target)

    def _own(self, made: int, entry: Entry) -> None:
        """Owner before mode, as a change of owner clears set-id bits. By /proc, as an O_PATH descriptor takes neither call."""
        at = f"/proc/self/fd/{made}"
        uid, gid = (entry.uid, entry.gid) if self.keep else (os.geteuid(), os.getegid())
        os.chown(at, uid, gid)
        if entry.kind != stat.S_IFLNK:  # which has none
            os.chmod(at, entry.mode if self.keep else entry.mode & 0o1777)
