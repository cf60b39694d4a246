"""Trees of files (trees.py) as tar streams (tar(5)), by Python's tarfile: it reads and writes the format, and touches no file."""

from __future__ import annotations

import os
import stat
import tarfile

from minidocker.errors import MinidockerError
from minidocker.storage.trees import Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import IO, TypeVar

    T = TypeVar("T")

_TYPES = {
    stat.S_IFREG: tarfile.REGTYPE, stat.S_IFDIR: tarfile.DIRTYPE, stat.S_IFLNK: tarfile.SYMTYPE, stat.S_IFIFO: tarfile.FIFOTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE, stat.S_IFBLK: tarfile.BLKTYPE,
}  # fmt: skip
_KINDS = {number: kind for kind, number in _TYPES.items()} | {tarfile.AREGTYPE: stat.S_IFREG, tarfile.CONTTYPE: stat.S_IFREG}
_LARGEST_PROC = 16 << 20  # of a file that says it is empty and is not, as those of /proc do


def write(stream: IO[bytes], entries: Iterable[Entry], top: str) -> int:
    """Write entries as GNU tar does, the top as `top`; returns how many. A file that shrinks meanwhile is filled up with zeros, as what it
    was to have stands before it."""
    count = 0
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.GNU_FORMAT, encoding="utf-8", errors="surrogateescape") as tar:
        for entry in entries:
            info = tarfile.TarInfo(f"{top}/{entry.name}" if entry.name else top)
            info.mode, info.uid, info.gid, info.mtime = entry.mode, entry.uid, entry.gid, entry.mtime_ns // 10**9
            info.type = _TYPES[entry.kind]
            if entry.kind == stat.S_IFREG and entry.link:
                info.type, info.linkname = tarfile.LNKTYPE, f"{top}/{entry.link}"
            elif entry.kind == stat.S_IFLNK:
                info.linkname = entry.link
            elif entry.kind in (stat.S_IFCHR, stat.S_IFBLK):
                info.devmajor, info.devminor = os.major(entry.rdev), os.minor(entry.rdev)
            content = _Content(entry) if entry.read is not None else None
            info.size = content.size if content is not None else 0
            tar.addfile(info, content)  # type: ignore[arg-type]
            count += 1
    return count


class _Content:
    """What tarfile reads of a file: just so many bytes as its header says."""

    def __init__(self, entry: Entry) -> None:
        assert entry.read is not None  # noqa: S101
        self.read_more = entry.read
        self.ahead = b""
        self.size = entry.size
        if not self.size:
            while len(self.ahead) < _LARGEST_PROC and (more := self.read_more(1 << 16)):
                self.ahead += more
            self.size = len(self.ahead)

    def read(self, size: int) -> bytes:
        found, self.ahead = self.ahead[:size], self.ahead[size:]
        while len(found) < size:
            more = self.read_more(size - len(found))
            if not more:
                return found + bytes(size - len(found))
            found += more
        return found


def read(stream: IO[bytes], notice: Callable[[str], None]) -> Iterator[Entry]:
    """The entries of a stream, compressed or not. Raises MinidockerError for what is no tar stream, ends in the middle, or names what lies
    above it."""
    tar = _told(lambda: tarfile.open(fileobj=stream, mode="r|*", encoding="utf-8", errors="surrogateescape"))  # noqa: SIM115
    with tar:
        while (info := _told(tar.next)) is not None:
            entry = _entry(tar, info, notice)
            if entry is not None:
                yield entry


def _told(read: Callable[[], T]) -> T:
    """What goes wrong in a stream, in our words."""
    try:
        return read()
    except (tarfile.TarError, EOFError, ValueError, ArithmeticError) as error:
        raise MinidockerError(f"read the tar stream: {error}", "is it whole? `tar t` shows what is in it") from error
    except OSError as error:  # those of gzip and bzip2 have no number
        raise MinidockerError(f"read the tar stream: {(error.strerror or str(error)).lower()}") from error


def _entry(tar: tarfile.TarFile, info: tarfile.TarInfo, notice: Callable[[str], None]) -> Entry | None:
    entry = Entry(_inside(info.name))
    entry.mode, entry.uid, entry.gid, entry.size = stat.S_IMODE(info.mode), info.uid, info.gid, info.size
    entry.mtime_ns, entry.rdev = int(info.mtime * 10**9), 0
    if info.islnk():
        entry.kind, entry.link = stat.S_IFREG, _inside(info.linkname)
    elif info.isreg():
        content = tar.extractfile(info)
        assert content is not None  # noqa: S101
        entry.kind, entry.read = stat.S_IFREG, lambda size: _told(lambda: content.read(size))
    elif info.type in _KINDS:
        entry.kind = _KINDS[info.type]
        entry.link = info.linkname if info.issym() else ""
        if info.ischr() or info.isblk():
            entry.rdev = os.makedev(info.devmajor, info.devminor)
    else:
        notice(f"`{info.name}` is of a kind that is not known, and left out")
        return None
    return entry


def _inside(name: str) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise MinidockerError(f"the tar stream has `{name}`, which lies above it", "it and what comes after it is not written")
    return "/".join(parts)
