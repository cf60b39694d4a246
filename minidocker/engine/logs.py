"""Reading a container's log: records of monitor.LOG_HEADER, in log.1 and then log."""

from __future__ import annotations

import _struct as struct
import gc
import os
import time

from minidocker.engine import reconcile
from minidocker.engine.host import Host
from minidocker.engine.monitor import LOG_HEADER
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
        for time_ns, stream, data in reader.read():
            emit(time_ns, stream, data)
        if current is None or current.status not in (containers.RUNNING, containers.CREATING):
            return
        time.sleep(_POLL)


class Reader:
    """Reads records as they are appended, over a rotation too: the file that was open is read to its end before the new one is."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.descriptor = -1
        self.rest = b""
        self.begun = False

    def read(self) -> Iterator[tuple[int, int, bytes]]:
        """All whole records that are there now and were not read before: (nanoseconds, stream, bytes)."""
        if not self.begun:
            self.begun = True
            if self._open(self.path + ".1"):
                yield from self._records()
        while True:
            if self.descriptor < 0 and not self._open(self.path):
                return
            yield from self._records()
            try:
                if os.stat(self.path).st_ino == os.fstat(self.descriptor).st_ino:
                    return
            except FileNotFoundError:
                return
            yield from self._records()  # what was written between the last read and the rotation
            os.close(self.descriptor)
            self.descriptor = -1

    def _open(self, path: str) -> bool:
        try:
            opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor, self.rest = opened, b""
        return True

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
