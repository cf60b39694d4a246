"""Writing below /proc, after a look whether it is procfs: a file that only looks like one would take what was meant for the kernel, and a
link to another of its files would give it to that (CVE-2019-16884, CVE-2019-19921, CVE-2025-52881)."""

from __future__ import annotations

import os
import sys

from minidocker.errors import KernelError
from minidocker.kernel import foreign as ctypes
from minidocker.kernel import libc

_MAGIC = 0x9FA0  # PROC_SUPER_MAGIC, statfs(2)
_STATFS = 256  # more than struct statfs has anywhere
_fstatfs = libc.prototype("fstatfs", ctypes.c_int, ctypes.c_void_p)


def is_procfs(descriptor: int) -> bool:
    """Whether what the descriptor refers to is on a procfs."""
    buffer = ctypes.create_string_buffer(_STATFS)
    _fstatfs(descriptor, buffer)
    word = ctypes.sizeof(ctypes.c_long)  # f_type comes first
    return int.from_bytes(buffer.raw[:word], sys.byteorder) == _MAGIC


def open_to_write(path: str) -> int:
    """A descriptor of a file below /proc to write to. OSError as open's; KernelError when it is on no procfs."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    if not is_procfs(descriptor):
        os.close(descriptor)
        raise KernelError(f"write `{path}`", 1, "it is not a file of procfs")
    return descriptor
