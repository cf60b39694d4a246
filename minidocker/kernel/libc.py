"""The C library by ctypes: one prototype a function, each failure an OSError with the kernel's errno.

Every function is resolved here, at import: after a process has entered a container's filesystem nothing may be
looked up or loaded any more (DESIGN.md, law 6).
"""

from __future__ import annotations

import errno
import os

from minidocker.kernel import foreign as ctypes
from minidocker.kernel.foreign import c_char_p, c_int, c_long, c_size_t, c_ulong, c_void_p

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)
# PyDLL keeps the interpreter's lock over the call: what clone needs, whose second return is in another process.
_LIBC_HOLDING_GIL = ctypes.PyDLL(None, use_errno=True)


def _checked(result: int, function: Any, arguments: tuple[Any, ...]) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def prototype(name: str, *argument_types: Any, library: Any = _LIBC) -> Callable[..., int]:
    """A C function returning int or long, -1 and errno on failure, as a Python callable that raises OSError."""
    function = getattr(library, name)
    function.restype = c_long if name == "syscall" else c_int
    if argument_types:
        function.argtypes = argument_types
    function.errcheck = _checked
    return function  # type: ignore[no-any-return]


unshare = prototype("unshare", c_int)
setns = prototype("setns", c_int, c_int)
mount = prototype("mount", c_char_p, c_char_p, c_char_p, c_ulong, c_char_p)
umount2 = prototype("umount2", c_char_p, c_int)
sethostname = prototype("sethostname", c_char_p, c_size_t)
setdomainname = prototype("setdomainname", c_char_p, c_size_t)
prctl = prototype("prctl", c_int, c_ulong, c_ulong, c_ulong, c_ulong)
capset = prototype("capset", c_void_p, c_void_p)
capget = prototype("capget", c_void_p, c_void_p)


_BY_MACHINE = {"x86_64": (155, 321, 317), "aarch64": (41, 280, 277), "riscv64": (41, 280, 277)}  # pivot_root, bpf, seccomp


class _Syscalls:
    """System calls without a wrapper in every C library we meet, by number (the same on all architectures from 424 on;
    pivot_root and bpf are looked up by machine)."""

    pivot_root, bpf, seccomp = _BY_MACHINE.get(os.uname().machine, (-1, -1, -1))
    pidfd_send_signal = 424
    open_tree = 428
    move_mount = 429
    fsopen = 430
    fsconfig = 431
    fsmount = 432
    pidfd_open = 434
    clone3 = 435
    close_range = 436
    openat2 = 437
    pidfd_getfd = 438
    mount_setattr = 442


SYS = _Syscalls

_syscall = prototype("syscall")
# The same C function with its own prototype object, so that the two do not share argument types.
_syscall_holding_gil = prototype("syscall", library=_LIBC_HOLDING_GIL)


def syscall(number: int, *arguments: Any) -> int:
    """The raw system call `number`; integers travel as C longs. Raises OSError."""
    if number < 0:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    return _syscall(c_long(number), *(c_long(a) if isinstance(a, int) else a for a in arguments))


def go_home(namespace: int, kind: int) -> None:
    """setns(2) to where the thread came from; tried once more where it fails (for want of memory), as all that this thread did then would
    be done in somebody else's namespace, and what it takes back be left here. Raises OSError."""
    try:
        setns(namespace, kind)
    except OSError:
        setns(namespace, kind)


def syscall_holding_gil(number: int, *arguments: Any) -> int:
    """`syscall`, without letting go of the interpreter's lock: for clone."""
    return _syscall_holding_gil(c_long(number), *(c_long(a) if isinstance(a, int) else a for a in arguments))
