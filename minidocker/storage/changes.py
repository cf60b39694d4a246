"""What a container has changed: its own layer, an overlay's upper directory, beside what lies below (kernel: filesystems/overlayfs.rst).

A file that is gone is a whiteout there (a character device 0:0); a directory that was removed and made again is opaque (an attribute), and
hides what is below. The layer is the container's to write, so its names and links are data: directories are opened one below the other.
"""

from __future__ import annotations

import os
import stat

from minidocker.errors import KernelError

ADDED, CHANGED, DELETED = "A", "C", "D"
_OPAQUE = "trusted.overlay.opaque"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def between(upper: str, lower: str, hidden: frozenset[str]) -> list[tuple[str, str]]:
    """(kind, path) of all that differs, a directory before what is in it. `hidden` are mount points, which were made for the container and
    not by it. As docker has it a directory is changed where its owner or mode is, or something is added to it or deleted from it."""
    try:
        above, below = os.open(upper, _DIRECTORY), os.open(lower, _DIRECTORY & ~os.O_NOFOLLOW)
        try:
            return _below(above, below, "", hidden)[0]
        finally:
            os.close(above)
            os.close(below)
    except OSError as error:
        raise KernelError.of(f"compare {upper} with {lower}", error) from error


def _below(upper: int, lower: int, prefix: str, hidden: frozenset[str]) -> tuple[list[tuple[str, str]], bool]:
    """What differs in one directory, and whether mount points were made in it; `lower` -1 where there is none below."""
    found: list[tuple[str, str]] = []
    made = False
    names = sorted(os.listdir(upper))
    if lower >= 0 and _is_opaque(upper):
        names = sorted({*names, *os.listdir(lower)})
    for name in names:
        path = f"{prefix}/{name}"
        now, before = _status(name, upper), _status(name, lower)
        if now is None or (stat.S_ISCHR(now.st_mode) and now.st_rdev == 0):
            if before is not None:
                found.append((DELETED, path))
        elif stat.S_ISDIR(now.st_mode):
            inside, points = _directory(upper, lower, name, path, now, before, hidden)
            found += inside
            made = made or points
        elif path in hidden:
            made = made or before is None
        else:
            found.append((ADDED if before is None else CHANGED, path))
    return found, made


def _directory(
    upper: int, lower: int, name: str, path: str, now: os.stat_result, before: os.stat_result | None, hidden: frozenset[str]
) -> tuple[list[tuple[str, str]], bool]:
    """A directory and what is in it; and whether it is there for mount points alone."""
    was = before is not None and stat.S_ISDIR(before.st_mode)
    try:
        above = os.open(name, _DIRECTORY, dir_fd=upper)
    except (FileNotFoundError, NotADirectoryError):
        return [], False  # the container is at work
    below = os.open(name, _DIRECTORY, dir_fd=lower) if was else -1
    try:
        inside, points = _below(above, below, path, hidden)
    finally:
        os.close(above)
        if below >= 0:
            os.close(below)
    if path in hidden:
        return inside, before is None
    if before is None:
        return ([], True) if points and not inside else ([(ADDED, path), *inside], False)
    # not by those of the mount points in it that were made
    changed = not was or _owned(now) != _owned(before) or (now.st_mtime_ns != before.st_mtime_ns and not points)
    changed = changed or any(kind != CHANGED and place.rpartition("/")[0] == path for kind, place in inside)
    return [*([(CHANGED, path)] if changed else []), *inside], False


def _owned(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_mode, status.st_uid, status.st_gid


def _status(name: str, directory: int) -> os.stat_result | None:
    if directory < 0:
        return None
    try:
        return os.lstat(name, dir_fd=directory)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_opaque(directory: int) -> bool:
    try:
        return os.getxattr(directory, _OPAQUE) == b"y"
    except OSError:  # ENODATA, or a file system without attributes, on which there are no opaque directories either
        return False
