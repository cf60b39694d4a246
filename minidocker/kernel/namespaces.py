"""Namespaces: making, entering and identifying them (namespaces(7), clone(2), unshare(2), setns(2))."""

from __future__ import annotations

import errno
import os

from minidocker.errors import KernelError
from minidocker.kernel import foreign as ctypes
from minidocker.kernel import libc
from minidocker.kernel.foreign import c_uint64

NEWTIME = 0x00000080
NEWNS = 0x00020000
NEWCGROUP = 0x02000000
NEWUTS = 0x04000000
NEWIPC = 0x08000000
NEWUSER = 0x10000000
NEWPID = 0x20000000
NEWNET = 0x40000000

# OCI runtime-spec name -> (clone flag, file under /proc/PID/ns)
BY_OCI_NAME = {
    "user": (NEWUSER, "user"),
    "pid": (NEWPID, "pid"),
    "mount": (NEWNS, "mnt"),
    "uts": (NEWUTS, "uts"),
    "ipc": (NEWIPC, "ipc"),
    "network": (NEWNET, "net"),
    "cgroup": (NEWCGROUP, "cgroup"),
    "time": (NEWTIME, "time"),
}

_CLONE_PIDFD = 0x1000
_CLONE_PARENT = 0x8000
_CLONE_INTO_CGROUP = 0x200000000
_SIGCHLD = 17
_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219}.get(os.uname().machine, -1)
_KEYCTL_JOIN_SESSION_KEYRING = 1


class _CloneArguments(ctypes.Structure):
    """struct clone_args, clone(2)."""

    _fields_ = tuple(
        (name, c_uint64)
        for name in (
            "flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls", "set_tid", "set_tid_size", "cgroup",
        )
    )  # fmt: skip


def clone(flags: int, cgroup: int = -1, sibling: bool = False) -> tuple[int, int]:
    """fork with namespace `flags`, born in the v2 cgroup of descriptor `cgroup`: (0, -1) in the child, (pid, pidfd) in the parent.
    With `sibling` it is a child not of this process but of this one's parent.

    The child is the first process of a new PID namespace when NEWPID is among the flags. A raw clone3 and not os.fork after
    unshare: one call gives the pidfd without a race, and lets a new user namespace own the new PID namespace. The caller
    must have one thread.
    """
    pidfd = ctypes.c_int(-1)
    arguments = _CloneArguments(flags=flags | _CLONE_PIDFD, pidfd=ctypes.addressof(pidfd), exit_signal=_SIGCHLD)
    if sibling:
        arguments.flags |= _CLONE_PARENT
        arguments.exit_signal = 0  # it has this process's own
    if cgroup >= 0:
        arguments.flags |= _CLONE_INTO_CGROUP
        arguments.cgroup = cgroup
    pid = libc.syscall_holding_gil(libc.SYS.clone3, ctypes.byref(arguments), ctypes.sizeof(arguments))
    return pid, pidfd.value if pid else -1


def unshare(flags: int) -> None:
    libc.unshare(flags)


def setns(fd: int, flags: int) -> None:
    libc.setns(fd, flags)


def open_of(pid: int, name: str) -> int:
    """A descriptor of process `pid`'s namespace; `name` as under /proc/PID/ns."""
    return os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)


def inode_of(pid: int, name: str) -> int:
    """The inode number that identifies the namespace as long as it lives; 0 when the process is gone."""
    try:
        return os.stat(f"/proc/{pid}/ns/{name}").st_ino
    except (FileNotFoundError, ProcessLookupError):
        return 0


def join_keyring(name: str) -> None:
    """A session keyring of the container's own (keyctl(2)): the host's stays the host's. A kernel without keyrings has none to inherit.
    With "" the one that is there stays."""
    if not name:
        return
    try:
        libc.syscall(_KEYCTL, _KEYCTL_JOIN_SESSION_KEYRING, name.encode())
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise KernelError.of("join a session keyring of its own", error) from error


def sethostname(name: str) -> None:
    encoded = name.encode()
    libc.sethostname(encoded, len(encoded))


def setdomainname(name: str) -> None:
    encoded = name.encode()
    libc.setdomainname(encoded, len(encoded))
