"""Other processes, by descriptors that stay theirs: pidfd_open(2), pidfd_send_signal(2). No ctypes: `state` and `kill` need no more."""

from __future__ import annotations

import _signal
import os
import select


def pidfd_open(pid: int) -> int:
    """A descriptor that stays this process's even when its pid is used again. Raises ProcessLookupError."""
    return os.pidfd_open(pid)


def pidfd_send_signal(pidfd: int, signal: int) -> None:
    _signal.pidfd_send_signal(pidfd, signal)


def pidfd_ended(pidfd: int, timeout: float | None = 0) -> bool:
    """Whether the process has ended, waiting up to `timeout` seconds (None: for ever) for it. Reaps nothing."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(None if timeout is None else max(0, int(timeout * 1000))))


def start_time(pid: int) -> int:
    """When `pid` started, in clock ticks since boot: with the pid, what tells a process from a later one of that number.

    Field 22 of /proc/PID/stat, proc_pid_stat(5); 0 when there is no such process.
    """
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        stat = os.read(fd, 4096)
    except ProcessLookupError:
        return 0
    finally:
        os.close(fd)
    # Field 2 is the command in parentheses and may itself hold spaces and parentheses: count from the last one.
    return int(stat.rpartition(b")")[2].split()[19])
