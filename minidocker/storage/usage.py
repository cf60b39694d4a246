"""How much of the disk lies below a directory."""

from __future__ import annotations

import os

from minidocker.errors import KernelError

_BLOCK = 512  # what st_blocks counts in, whatever the file system's own blocks are (stat(2))


def bytes_below(path: str) -> int:
    """The bytes on disk of all that is below `path`, that included, as du(1) counts them: a file with several names once, other file
    systems not at all, and what is removed meanwhile neither. 0 where there is no such directory."""
    try:
        top = os.lstat(path)
    except FileNotFoundError:
        return 0
    total, seen, waiting = top.st_blocks, set[int](), [path]
    while waiting:
        try:
            entries = os.scandir(waiting.pop())
        except (FileNotFoundError, NotADirectoryError):
            continue  # it has just gone
        except OSError as error:
            raise KernelError.of(f"look how large {path} is", error) from error
        with entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if status.st_dev != top.st_dev or (status.st_nlink > 1 and status.st_ino in seen):
                    continue
                if status.st_nlink > 1:
                    seen.add(status.st_ino)
                total += status.st_blocks
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
    return total * _BLOCK
