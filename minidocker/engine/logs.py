"""Reading a container's log: records of logfile.LOG_HEADER, the oldest file first."""

from __future__ import annotations

import _struct as struct
import fcntl
import gc
import os
import time

from minidocker.engine import reconcile
from minidocker.engine.host import Host
from minidocker.engine.logfile import LOG_HEADER, numbered
from minidocker.storage import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_HEADER = struct.calcsize(LOG_HEADER)
_BLOCK = 1 << 20
_POLL = 0.05  # seconds between looks at a log that is being followed


def copy(
    host: Host,
    reference: str,
    write: Callable[[int, bytes], None],
    follow: bool = False,
    tail: int | None = None,
    timestamps: bool = False,
    since: float | None = None,
) -> None:
    """Call `write(stream, bytes)` for the container's output, in order. `tail` lines from the end; `since` seconds since the epoch;
    `follow` until the container has ended."""
    reconcile.look(host)
    record = containers.find(host.state, reference)
    reader = Reader(host.log_file(record.id))
    stamped = Stamper(write) if timestamps else None
    emit = stamped.write if stamped else lambda _, stream, data: write(stream, data)
    for time_ns, stream, data in _last(reader.read(), since, tail):
        emit(time_ns, stream, data)
    gc.enable()
    while follow:
        current = containers.get(host.state, record.id)
        # first whether it runs, then what it wrote: so what it wrote before it ended is never missed
        pause = _POLL
        for time_ns, stream, data in reader.read():
            emit(time_ns, stream, data)
            pause = _POLL / 10  # there is more where this came from, and its writer may be about to wait for us
        if current is None or current.status not in (containers.RUNNING, containers.CREATING):
            return
        time.sleep(pause)


class Reader:
    """Reads records as they are appended, over rotations too: the file that is open is read to its end before the next one is opened.

    It has a lock on what it reads: the monitor lets no file go that somebody is at (logfile.py). Where its patience was not enough, and
    files went unread, a line says so."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.descriptor = -1
        self.rest = b""

    def read(self) -> Iterator[tuple[int, int, bytes]]:
        """All whole records that are there now and were not read before: (nanoseconds, stream, bytes)."""
        if self.descriptor < 0:
            files = _opened(self.path)
            if not files:
                return
            self._go_to(files, 0)
        while True:
            yield from self._records()
            if _is_at(self.path, self.descriptor):
                return
            files = _opened(self.path)
            at = _position(files, self.descriptor)
            dropped = not os.fstat(self.descriptor).st_nlink
            if not files or (at < 0 and not dropped) or at == len(files) - 1:  # it is about to rotate, or has been removed
                _close(files)
                return
            yield from self._records()  # what was written between the last read and the rotation
            if at < 0:
                yield time.time_ns(), 2, b"minidocker: output was rotated away here before it was read\n"
            self._go_to(files, at + 1)

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor = -1

    def _go_to(self, files: list[int], at: int) -> None:
        """Read on in one of `files`. Its lock comes before that of the last one goes: in between no file does."""
        following = files.pop(at)
        fcntl.flock(following, fcntl.LOCK_SH)
        _close(files)
        self.close()
        self.descriptor, self.rest = following, b""

    def _records(self) -> Iterator[tuple[int, int, bytes]]:
        while block := os.read(self.descriptor, _BLOCK):
            data, at = self.rest + block, 0
            while len(data) - at >= _HEADER:
                time_ns, stream, length = struct.unpack_from(LOG_HEADER, data, at)
                if len(data) - at < _HEADER + length:
                    break
                yield time_ns, stream, data[at + _HEADER : at + _HEADER + length]
                at += _HEADER + length
            self.rest = data[at:]


def _opened(path: str) -> list[int]:
    """Descriptors of the log's files, the oldest first. They are opened from the newest on: a rotation meanwhile moves one that is open to
    the next name, where it is not taken twice, and hides none."""
    found: list[int] = []
    oldest = max((int(name[4:]) for name in _names(path) if name[:4] == "log." and name[4:].isdecimal()), default=0)
    number = 0
    while number <= oldest + 1:
        try:
            descriptor = os.open(numbered(path, number), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            number += 1
            continue
        if _position(found, descriptor) < 0:
            found.insert(0, descriptor)
        else:
            os.close(descriptor)
        number += 1
    return found


def _is_at(path: str, descriptor: int) -> bool:
    try:
        return os.stat(path).st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False


def _names(path: str) -> list[str]:
    try:
        return os.listdir(os.path.dirname(path))
    except FileNotFoundError:
        return []  # the container has been removed


def _position(files: list[int], descriptor: int) -> int:
    """Which of `files` is the same as that of `descriptor`; -1 where none is."""
    inode = os.fstat(descriptor).st_ino
    return next((at for at, one in enumerate(files) if os.fstat(one).st_ino == inode), -1)


def _close(files: list[int]) -> None:
    for descriptor in files:
        os.close(descriptor)


def _last(records: Iterator[tuple[int, int, bytes]], since: float | None, tail: int | None) -> Iterator[tuple[int, int, bytes]]:
    """Those from `since` on, of them the last `tail` lines."""
    if since is not None:
        records = (record for record in records if record[0] >= since * 1e9)
    if tail is None:
        yield from records
        return
    kept: list[tuple[int, int, bytes]] = []
    lines = 0
    for record in records:
        kept.append(record)
        lines += record[2].count(b"\n")
        while kept and lines - kept[0][2].count(b"\n") > tail:
            lines -= kept.pop(0)[2].count(b"\n")
    # a last line without its newline is a line too
    excess = lines + (1 if kept and not kept[-1][2].endswith(b"\n") else 0) - tail
    for time_ns, stream, data in kept:
        while excess > 0 and data:
            _, newline, data = data.partition(b"\n")
            excess -= 1 if newline else 0
        if data:
            yield time_ns, stream, data


class Stamper:
    """Puts the time before each line, as RFC 3339 with nanoseconds. A line that comes in pieces gets the time of its first."""

    def __init__(self, write: Callable[[int, bytes], None]) -> None:
        self._write = write
        self.within_line = {1: False, 2: False}

    def write(self, time_ns: int, stream: int, data: bytes) -> None:
        stamp = rfc3339(time_ns).encode() + b" "
        lines = data.split(b"\n")
        ends = lines.pop()  # what follows the last newline: the beginning of a line, or nothing
        out = b""
        for line in lines:
            out += (b"" if self.within_line[stream] else stamp) + line + b"\n"
            self.within_line[stream] = False
        if ends:
            out += (b"" if self.within_line[stream] else stamp) + ends
            self.within_line[stream] = True
        self._write(stream, out)


def rfc3339(time_ns: int) -> str:
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanoseconds:09d}Z"
