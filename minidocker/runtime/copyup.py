"""A copy of what the root file system has at a place: for mount option `tmpcopyup`, with which a tmpfs begins so, and for a new volume.

The source is the root file system's, so nothing in it is trusted: entries are opened below a descriptor and never through a link, a fifo
or device is made anew and not opened, and a tmpfs's own size limits how much is copied.
"""

from __future__ import annotations

import os
import stat

from minidocker.errors import KernelError

_CHUNK = 1 << 20


def copy(source: int, target: int, destination: str) -> None:
    """All that is in the directory behind descriptor `source` into that behind `target`. KernelError (ENOSPC: the tmpfs is full)."""
    try:
        tree(source, target)
    except OSError as error:
        raise KernelError.of(f"copy what the root file system has in `{destination}` to the tmpfs there", error) from error


def tree(source: int, target: int) -> None:
    """The same, for whoever has words of his own for what goes wrong. Raises OSError."""
    _attributes(os.fstat(source), target)
    _directory(source, target)


def _directory(source: int, target: int) -> None:
    for name in os.listdir(source):
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
            os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
        elif stat.S_ISDIR(status.st_mode):
            os.mkdir(name, 0o700, dir_fd=target)
            _below(source, target, name, os.O_RDONLY | os.O_DIRECTORY, os.O_RDONLY | os.O_DIRECTORY)
        elif stat.S_ISREG(status.st_mode):
            _below(source, target, name, os.O_RDONLY | os.O_NONBLOCK, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        else:
            os.mknod(name, status.st_mode, status.st_rdev, dir_fd=target)
            os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)


def _below(source: int, target: int, name: str, reading: int, writing: int) -> None:
    """One directory with all that is in it, or one file."""
    from_ = os.open(name, reading | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
    try:
        to = os.open(name, writing | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=target)
        try:
            status = os.fstat(from_)
            if stat.S_ISDIR(status.st_mode):
                _directory(from_, to)
            elif stat.S_ISREG(status.st_mode):
                while os.sendfile(to, from_, None, _CHUNK):
                    pass
            _attributes(status, to)
        finally:
            os.close(to)
    finally:
        os.close(from_)


def _attributes(status: os.stat_result, target: int) -> None:
    """Owner before mode, as a change of owner clears setuid; times last."""
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
