"""wait: the exit codes of containers, of those that run once they have ended."""

from __future__ import annotations

import os
import time

from minidocker.engine import reconcile
from minidocker.engine.host import Host
from minidocker.engine.monitor import exit_code_of
from minidocker.errors import MinidockerError, StateError
from minidocker.kernel import process
from minidocker.runtime.state import State
from minidocker.storage import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_PAUSE = 0.01  # seconds between two looks whether it is written down


def ending(host: Host, reference: str) -> Callable[[], int]:
    """What waits for the container's end and returns its exit code, 0 of one that never ran; made before any is waited for, as with --rm
    its record goes with it. Raises NotFoundError now; then StateError where nobody has seen how it ended."""
    reconcile.sweep(host)
    record = containers.find(host.state, reference)
    while record.status not in (containers.RUNNING, *containers.AT_REST):  # it is about to be the one or the other
        time.sleep(_PAUSE)
        record = containers.find(host.state, record.id)
    if record.status == containers.CREATED:
        return lambda: 0
    if record.status == containers.EXITED:
        return lambda: _known(record.name, record.exit_code)
    return Run(host, record).code


class Run:
    """One run of a container, held as long as it goes on: its first process, and the file in which its monitor notes the end, which can be
    read when it has no name any more."""

    def __init__(self, host: Host, record: containers.Record) -> None:
        self.host = host
        self.record = record
        self.pidfd = self.end = -1
        try:
            self.pidfd = State(host.run_directory(record.id)).open()
            self.end = os.open(f"{host.run_directory(record.id)}/exit", os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, MinidockerError):
            return  # it is just ending, and its record will say how

    def code(self) -> int:
        """Wait until it has ended, and that is written down. Raises StateError where nobody has seen it."""
        if self.pidfd >= 0:
            process.pidfd_ended(self.pidfd, None)
        last = self.settle()
        noted = os.pread(self.end, 64, 0).split() if self.end >= 0 else []
        if noted:
            return exit_code_of(int(noted[0]))
        return _known(self.record.name, last.exit_code if last is not None else None)

    def settle(self) -> containers.Record | None:
        """Wait until its record says that this run is over; the record then, None when that has gone with it."""
        while True:
            now = containers.get(self.host.state, self.record.id)
            if now is None or now.status != containers.RUNNING or now.started != self.record.started:
                return now
            if not self.host.holder(now.id):
                reconcile.sweep(self.host)  # its monitor was killed
            time.sleep(_PAUSE)


def _known(name: str, code: int | None) -> int:
    if code is None:
        raise StateError(f"container `{name}` has ended, and nobody has seen how: its exit status is unknown", "its monitor was killed")
    return code
