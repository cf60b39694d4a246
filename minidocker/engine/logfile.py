"""A container's log as its monitor writes it: bounded, rotated, and never in the container's way for long.

    log        records of LOG_HEADER and the bytes as they were read     the newest; full, it becomes log.1, that log.2 ...
    log.N      the oldest of `files`, which goes when the newest is full

Whoever reads a file of them holds a shared flock(2) on it (logs.Reader), so the oldest is not taken from under a reader who is at it: the
monitor waits for him, a second at most, and then for that file no more. So `logs -f` loses nothing where it keeps up, and one that is
stopped holds a container up for a second in all.

Like all that a resident monitor loads, this imports nothing of weight.
"""

from __future__ import annotations

import _struct as struct
import errno
import fcntl
import os
import time

LOG_LIMIT = 32 << 20
LOG_FILES = 2
LOG_HEADER = "<QBI"  # nanoseconds since the epoch, stream (1 or 2), length
PATIENCE = 1.0  # seconds that a reader may keep the oldest file from going
_PAUSE = 0.002


def numbered(path: str, number: int) -> str:
    """The name of the log's file that is `number` rotations old."""
    return f"{path}.{number}" if number else path


class Log:
    """The container's output, in at most `files` files that end with the record that brings them to `limit` bytes. A full disk costs
    output, never the container: a line in the log says how much."""

    __slots__ = ("descriptor", "files", "limit", "lost", "path", "size")

    def __init__(self, path: str, limit: int = LOG_LIMIT, files: int = LOG_FILES) -> None:
        self.path = path
        self.limit = limit
        self.files = files
        self.lost = 0
        self.descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self.size = os.fstat(self.descriptor).st_size

    def write(self, stream: int, data: bytes) -> None:
        try:
            if self.lost:
                self._append(2, b"minidocker: %d bytes of output were lost here: the log could not be written\n" % self.lost)
                self.lost = 0
            self._append(stream, data)
        except OSError:
            self.lost += len(data)

    def _append(self, stream: int, data: bytes) -> None:
        if self.size >= self.limit:
            self._rotate()
        header = struct.pack(LOG_HEADER, time.time_ns(), stream, len(data))
        written = os.writev(self.descriptor, (header, data))
        if written < len(header) + len(data):
            # half a record would make all that follows unreadable
            os.ftruncate(self.descriptor, self.size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.size += written

    def _rotate(self) -> None:
        """The new file is there before the oldest goes: where there is no room for it, all stays as it is for another try."""
        fresh = os.open(self.path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o640)
        try:
            self._await_reader()
            for number in range(self.files - 1, 0, -1):
                _rename(numbered(self.path, number - 1), numbered(self.path, number))
            os.rename(self.path + ".new", self.path)
        except OSError:
            os.close(fresh)
            raise
        os.close(self.descriptor)
        self.descriptor, self.size = fresh, 0

    def _await_reader(self) -> None:
        """Wait until nobody reads the oldest file, or patience is out: it goes then, so it is waited for once."""
        try:
            oldest = os.open(numbered(self.path, self.files - 1), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        deadline = time.monotonic() + PATIENCE
        try:
            while not _is_free(oldest) and time.monotonic() < deadline:
                time.sleep(_PAUSE)
        finally:
            os.close(oldest)


def _is_free(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _rename(old: str, new: str) -> None:
    """Nothing where there is none: there are not so many yet, or one rename of an earlier rotation failed."""
    try:
        os.rename(old, new)
    except FileNotFoundError:
        return
