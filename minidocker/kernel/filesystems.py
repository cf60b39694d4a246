"""Which file system a descriptor is on: fstatfs(2), by the numbers of linux/magic.h."""

from __future__ import annotations

from minidocker.kernel import foreign as ctypes
from minidocker.kernel import libc
from minidocker.kernel.foreign import c_int, c_long, c_uint64, c_void_p

# What shows the kernel itself, and no files that somebody has written.
_OF_THE_KERNEL = frozenset((
    0x9FA0,      # proc
    0x62656572,  # sysfs
    0x27E0EB,    # cgroup
    0x63677270,  # cgroup2
    0x1CD1,      # devpts
    0x64626720,  # debugfs
    0x74726163,  # tracefs
    0x73636673,  # securityfs
    0xCAFE4A11,  # bpf
))  # fmt: skip


class _Statfs(ctypes.Structure):
    """struct statfs of 64-bit Linux, statfs(2); 120 bytes of which only the type is looked at."""

    _fields_ = (("type", c_long), *((f"rest{number}", c_uint64) for number in range(15)))


_fstatfs = libc.prototype("fstatfs", c_int, c_void_p)


def is_the_kernels(descriptor: int) -> bool:
    """Whether what `descriptor` refers to is procfs, sysfs, cgroups or such."""
    found = _Statfs()
    _fstatfs(descriptor, ctypes.byref(found))
    return found.type & 0xFFFFFFFF in _OF_THE_KERNEL
