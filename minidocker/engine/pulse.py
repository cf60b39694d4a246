"""When a container's health is looked at: the part of its monitor that only the monitor of one with a health check loads.

    RUN/containers/ID/pulse     seconds between two looks, then the command that looks once (healthcheck.py), a NUL after each

Like all that a monitor loads, this imports nothing of weight: each look is a process of its own.
"""

from __future__ import annotations

import _signal
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def write(run_directory: str, seconds: float, command: list[str]) -> None:
    descriptor = os.open(f"{run_directory}/pulse", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    os.write(descriptor, b"".join(os.fsencode(word) + b"\0" for word in (str(seconds), *command)))
    os.close(descriptor)


class Pulse:
    """`looking` is the pidfd of the process that looks, -1 while none does."""

    __slots__ = ("command", "due", "looking", "pid", "seconds")

    def __init__(self, run_directory: str) -> None:
        with open(f"{run_directory}/pulse", "rb", buffering=0) as file:
            words = file.read().split(b"\0")[:-1]
        self.seconds, self.command = float(words[0]), words[1:]
        self.due = time.monotonic() + self.seconds
        self.pid = 0
        self.looking = -1

    def patience(self) -> float | None:
        """How many milliseconds until there is something to do; None while somebody looks, whose end poll tells."""
        return None if self.looking >= 0 else max(0.0, self.due - time.monotonic()) * 1000

    def beat(self, ended: bool) -> None:
        """`ended` when the process that looks has; the next one comes so long after it."""
        if ended:
            self._reap()
            self.due = time.monotonic() + self.seconds
        elif self.looking < 0 and time.monotonic() >= self.due:
            self.pid = os.fork()
            if self.pid == 0:
                self._become()
            self.looking = os.pidfd_open(self.pid)

    def stop(self) -> None:
        """Look no more."""
        if self.looking >= 0:
            _signal.pidfd_send_signal(self.looking, _signal.SIGKILL)
            self._reap()

    def _reap(self) -> None:
        os.waitpid(self.pid, 0)
        os.close(self.looking)
        self.looking = -1

    def _become(self) -> NoReturn:
        try:
            _signal.signal(_signal.SIGTERM, _signal.SIG_DFL)  # which a monitor ignores
            null = os.open("/dev/null", os.O_RDWR)
            for standard in (0, 1, 2):
                os.dup2(null, standard)
            os.closerange(3, max(map(int, os.listdir("/proc/self/fd"))) + 1)
            os.execv(self.command[0], self.command)
        finally:
            os._exit(127)
