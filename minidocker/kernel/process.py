"""What a process may do and how it is told apart from another: capabilities, limits, seccomp, pidfds.

prctl(2) goes through python-prctl's C module (its Python face would build forty properties at import); what that module refuses
to pass on, ambient capabilities and capabilities younger than it, goes through libc. Everything is resolved at import.
"""

from __future__ import annotations

import _struct
import errno
import os

import _prctl

from minidocker.errors import KernelError, UnsupportedError
from minidocker.kernel import foreign as ctypes
from minidocker.kernel import libc, procfs
from minidocker.kernel.pidfd import pidfd_ended as pidfd_ended
from minidocker.kernel.pidfd import pidfd_open as pidfd_open
from minidocker.kernel.pidfd import pidfd_send_signal as pidfd_send_signal
from minidocker.kernel.pidfd import start_time as start_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# getrlimit(2), asm-generic/resource.h: the numbers of x86, arm, riscv and s390
RLIMITS = {
    "RLIMIT_CPU": 0, "RLIMIT_FSIZE": 1, "RLIMIT_DATA": 2, "RLIMIT_STACK": 3, "RLIMIT_CORE": 4, "RLIMIT_RSS": 5, "RLIMIT_NPROC": 6,
    "RLIMIT_NOFILE": 7, "RLIMIT_MEMLOCK": 8, "RLIMIT_AS": 9, "RLIMIT_LOCKS": 10, "RLIMIT_SIGPENDING": 11, "RLIMIT_MSGQUEUE": 12,
    "RLIMIT_NICE": 13, "RLIMIT_RTPRIO": 14, "RLIMIT_RTTIME": 15,
}  # fmt: skip
RLIM_INFINITY = (1 << 64) - 1

# seccomp(2)
SECCOMP_FILTER_FLAG_LOG = 1 << 1
SECCOMP_FILTER_FLAG_SPEC_ALLOW = 1 << 2
SECCOMP_FILTER_FLAG_NEW_LISTENER = 1 << 3
SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV = 1 << 5

CLOSE_RANGE_CLOEXEC = 1 << 2

# prctl(2)
_PR_SET_PDEATHSIG = 1
_PR_GET_DUMPABLE = 3
_PR_SET_DUMPABLE = 4
_PR_SET_KEEPCAPS = 8
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_GET_SECUREBITS = 27
_PR_SET_SECUREBITS = 28
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_GET_NO_NEW_PRIVS = 39
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_PR_CAP_AMBIENT_CLEAR_ALL = 4

_LINUX_CAPABILITY_VERSION_3 = 0x20080522
_CAPABILITY_HEADER = _struct.pack("=Ii", _LINUX_CAPABILITY_VERSION_3, 0)
_SECCOMP_SET_MODE_FILTER = 1
_SIGPIPE, _SIGXFSZ, _SIGKILL = 13, 25, 9
_P_PIDFD = 3

_rlimit = ctypes.c_uint64 * 2
_prlimit = libc.prototype("prlimit64", ctypes.c_int, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p)


# --- capabilities: numbers, and sets of them as masks (names are in spec/capabilities.py) -------------------------------------------


def bounding() -> int:
    """This thread's bounding set; asked bit by bit, as /proc need not be mounted where we are."""
    bits = 0
    for number in range(64):
        try:
            # -1, EINVAL: past the last capability this kernel knows
            bits |= libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0) << number
        except OSError:
            break
    return bits


def drop_from_bounding(number: int) -> None:
    """PR_CAPBSET_DROP. Needs CAP_SETPCAP."""
    if number <= _prctl.CAP_LAST_CAP:
        _prctl.prctl(_PR_CAPBSET_DROP, number)
    else:
        libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)


def capabilities() -> tuple[int, int, int]:
    """(effective, permitted, inheritable) of this thread, as masks (capget(2))."""
    data = ctypes.create_string_buffer(24)
    libc.capget(_CAPABILITY_HEADER, data)
    low_e, low_p, low_i, high_e, high_p, high_i = _struct.unpack("=6I", data.raw)
    return low_e | high_e << 32, low_p | high_p << 32, low_i | high_i << 32


def set_capabilities(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) of this thread, masks."""
    low = 0xFFFFFFFF
    sets = (effective & low, permitted & low, inheritable & low, effective >> 32, permitted >> 32, inheritable >> 32)
    libc.capset(_CAPABILITY_HEADER, _struct.pack("=6I", *sets))


def clear_ambient() -> None:
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)


def raise_ambient(number: int) -> None:
    """The capability must be permitted and inheritable."""
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number, 0, 0)


# --- flags of the process -----------------------------------------------------------------------------------------------------------


def set_no_new_privileges() -> None:
    """No execve gains anything any more: no setuid bit, no file capability. There is no way back."""
    _prctl.prctl(_PR_SET_NO_NEW_PRIVS, 1)


def no_new_privileges() -> bool:
    return bool(_prctl.prctl(_PR_GET_NO_NEW_PRIVS))


def set_parent_death_signal(signal: int) -> None:
    """Have `signal` sent when the parent thread dies. Cleared by a change of credentials: set it after the last one."""
    _prctl.prctl(_PR_SET_PDEATHSIG, signal)


def set_dumpable(dumpable: bool) -> None:
    """A process that is not dumpable cannot be ptraced, nor its /proc/PID entered, by another user's process of less privilege."""
    _prctl.prctl(_PR_SET_DUMPABLE, int(dumpable))


def dumpable() -> bool:
    return bool(_prctl.prctl(_PR_GET_DUMPABLE))


def keep_capabilities(keep: bool) -> None:
    """Keep the permitted set when all user ids change from 0; execve clears the flag."""
    _prctl.prctl(_PR_SET_KEEPCAPS, int(keep))


def set_securebits(bits: int) -> None:
    """SECBIT_* of capabilities(7). Needs CAP_SETPCAP."""
    _prctl.prctl(_PR_SET_SECUREBITS, bits)


def securebits() -> int:
    return int(_prctl.prctl(_PR_GET_SECUREBITS))


def set_child_subreaper(reaper: bool) -> None:
    """Orphaned descendants become this process's children instead of init's."""
    _prctl.prctl(_PR_SET_CHILD_SUBREAPER, int(reaper))


def set_user(uid: int, gid: int, groups: Sequence[int] = ()) -> None:
    """Become `uid`:`gid` for good, real, effective and saved: groups first, as what they need goes with the user id."""
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def set_oom_score_adjustment(pid: int, score: int) -> None:
    """-1000 (never killed) to 1000 (first). Going below what the process was given needs CAP_SYS_RESOURCE."""
    fd = procfs.open_to_write(f"/proc/{pid}/oom_score_adj")
    try:
        os.write(fd, b"%d" % score)
    finally:
        os.close(fd)


# --- limits -------------------------------------------------------------------------------------------------------------------------


def rlimit(number: int, pid: int = 0) -> tuple[int, int]:
    """(soft, hard) of `pid`, 0 for this process; RLIM_INFINITY is no limit."""
    limits = _rlimit()
    _prlimit(pid, number, None, ctypes.byref(limits))
    return limits[0], limits[1]


def set_rlimit(number: int, soft: int, hard: int, pid: int = 0) -> None:
    """prlimit(2). Raising a hard limit needs CAP_SYS_RESOURCE."""
    _prlimit(pid, number, ctypes.byref(_rlimit(soft, hard)), None)


# --- seccomp ------------------------------------------------------------------------------------------------------------------------


class _Program(ctypes.Structure):
    """struct sock_fprog, seccomp(2)."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


class Filter:
    """A seccomp filter ready to be loaded: nothing is left to allocate or look up when `load` runs."""

    __slots__ = ("_instructions", "_program", "flags", "length")

    def __init__(self, bpf: bytes, flags: int = 0) -> None:
        """`bpf`: an array of struct sock_filter, 8 bytes each; `flags`: SECCOMP_FILTER_FLAG_*."""
        self.length = len(bpf) // 8
        if len(bpf) % 8 or not 0 < self.length <= 0xFFFF:
            raise KernelError(f"load a seccomp filter of {len(bpf)} bytes", errno.EINVAL)
        self.flags = flags
        self._instructions = ctypes.create_string_buffer(bpf, len(bpf))
        self._program = _Program(self.length, ctypes.addressof(self._instructions))

    @property
    def instructions(self) -> bytes:
        return bytes(self._instructions)

    def load(self) -> int:
        """Put this thread, and all it forks, under the filter. Needs no_new_privs or CAP_SYS_ADMIN; there is no way back. With
        NEW_LISTENER among the flags, the descriptor (close-on-exec) by which its questions are answered."""
        return libc.syscall(libc.SYS.seccomp, _SECCOMP_SET_MODE_FILTER, self.flags, ctypes.byref(self._program))


# --- descriptors, other processes ---------------------------------------------------------------------------------------------------


def close_range(first: int, last: int = 0xFFFFFFFF, flags: int = 0) -> None:
    """Close descriptors `first` to `last`, or with CLOSE_RANGE_CLOEXEC mark them to be closed by execve."""
    libc.syscall(libc.SYS.close_range, first, last, flags)


def pidfd_wait(pidfd: int) -> int:
    """Wait for and reap the child: its exit status, or 128 and the number of the signal that killed it."""
    result = os.waitid(_P_PIDFD, pidfd, os.WEXITED)
    assert result is not None  # noqa: S101  (None is waitid's answer to WNOHANG alone)
    return result.si_status if result.si_code == os.CLD_EXITED else 128 + result.si_status


def run_tool(
    argv: Sequence[str], stdin: bytes = b"", timeout: float = 60.0, environment: dict[str, str] | None = None
) -> tuple[int, bytes, bytes]:
    """Run a program of the host's (looked up in PATH): (exit status, stdout, stderr); 128+n when signal n killed it.

    Input and output are memory files, so nothing can block on a full pipe and no thread or poll loop is needed. Raises
    UnsupportedError when it is not installed and KernelError when it does not end in `timeout` seconds (it is killed then).
    """
    files = [os.memfd_create(name, os.MFD_CLOEXEC) for name in ("stdin", "stdout", "stderr")]
    try:
        _write_all(files[0], stdin)
        os.lseek(files[0], 0, os.SEEK_SET)
        status = _run(argv, files, timeout, dict(os.environ) if environment is None else environment)
        return status, _contents(files[1]), _contents(files[2])
    finally:
        for fd in files:
            os.close(fd)


def _run(argv: Sequence[str], files: Sequence[int], timeout: float, environment: dict[str, str]) -> int:
    actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(files)]
    try:
        # The interpreter ignores these two signals, and being ignored is inherited.
        pid = os.posix_spawnp(argv[0], list(argv), environment, file_actions=actions, setsigdef=(_SIGPIPE, _SIGXFSZ))
    except FileNotFoundError:
        raise UnsupportedError(f"run `{argv[0]}`: not installed", f"install the package that has `{argv[0]}`") from None
    except OSError as error:
        raise KernelError.of(f"run `{argv[0]}`", error) from error
    pidfd = pidfd_open(pid)
    try:
        ended = pidfd_ended(pidfd, timeout)
        if not ended:
            pidfd_send_signal(pidfd, _SIGKILL)
        status = pidfd_wait(pidfd)
    finally:
        os.close(pidfd)
    if not ended:
        raise KernelError(f"run `{argv[0]}`", errno.ETIMEDOUT, f"killed after {timeout:g} s")
    return status


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _contents(fd: int) -> bytes:
    size = os.fstat(fd).st_size
    parts = []
    offset = 0
    while offset < size:
        part = os.pread(fd, size - offset, offset)
        if not part:
            break
        parts.append(part)
        offset += len(part)
    return b"".join(parts)
