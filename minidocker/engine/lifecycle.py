"""stop, kill and rm."""

from __future__ import annotations

import os
import select
import time

from minidocker.engine import reconcile
from minidocker.engine.host import Host, lock_holder
from minidocker.errors import MinidockerError, NotFoundError, StateError
from minidocker.kernel import process
from minidocker.plan import NAMESPACES, At, Plan, Step, silent
from minidocker.runtime.state import State
from minidocker.storage import containers, rootfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minidocker.plan import Tell

_SIGKILL = 9
_STOP_TIMEOUT = 10.0
# A killed container's processes are gone in milliseconds; one in an uninterruptible system call may take as long as its disk does.
_KILL_TIMEOUT = 10.0
_PAUSE = 0.01


class AskToEnd(Step):
    """Send a container's first process its stop signal, and kill it, and what else is in its cgroup, where it takes too long."""

    title = NAMESPACES
    why = "its first process is asked to end, and killed where it does not; with it all that is in its PID namespace ends"

    def __init__(self, host: Host, record: containers.Record, pidfd: int, seconds: float) -> None:
        self.host = host
        self.record = record
        self.pidfd = pidfd
        self.seconds = seconds

    def shell(self) -> str:
        ask = f'kill -{self.record.request.stop_signal} "$PID"'
        if self.seconds == 0:  # to timeout(1) that is for ever
            return f'{ask}\nkill -KILL "$PID"'
        wait = f"timeout {self.seconds:g} " if self.seconds > 0 else ""
        return f'{ask}\n{wait}tail --pid="$PID" -f /dev/null || kill -KILL "$PID"'

    def describe(self) -> str:
        return f"stop `{self.record.name}`"

    def apply(self, at: At) -> None:
        try:
            process.pidfd_send_signal(self.pidfd, self.record.request.stop_signal)
            if not process.pidfd_ended(self.pidfd, None if self.seconds < 0 else self.seconds):
                _kill_all(self.host, self.record, self.pidfd)
        except ProcessLookupError:
            return  # it ended just now: waiting for its monitor is all that is left


def stop(host: Host, reference: str, timeout: float | None, tell: Tell = silent) -> None:
    """Ask the container to end by its stop signal, and kill it after `timeout` seconds (None: those of --stop-timeout, else 10). One that
    has ended is left alone."""
    reconcile.sweep(host)
    record = for_good(host, containers.find(host.state, reference))
    if record.status != containers.RUNNING:
        return
    try:
        pidfd = State(host.run_directory(record.id)).open()
    except (NotFoundError, StateError):
        _wait_for_monitor(host, record)  # it is ending by itself at this moment
        return
    try:
        seconds = next((given for given in (timeout, record.request.stop_timeout) if given is not None), _STOP_TIMEOUT)
        plan = Plan([*_thawing(host, record), AskToEnd(host, record, pidfd, seconds)])
        gone = record.request.remove
        tell(lambda: plan + _monitors(host, record, gone) + (_volumes(host, record) if gone else Plan()), record.pid)
        host.event("container", "kill", record.id, record.name, **{**record.request.labels, "signal": str(record.request.stop_signal)})
        plan.run(At(pid=record.pid))
    finally:
        os.close(pidfd)
    _wait_for_monitor(host, record)
    host.event("container", "stop", record.id, record.name, **record.request.labels)


def kill(host: Host, reference: str, number: int) -> None:
    """Send signal `number` to the container's first process. Raises StateError when it is not running."""
    reconcile.sweep(host)
    record = containers.find(host.state, reference)
    if number in (_SIGKILL, record.request.stop_signal):
        waited = record.status == containers.RESTARTING
        record = for_good(host, record)
        if waited and record.status == containers.EXITED:
            return
    if record.status != containers.RUNNING:
        raise StateError(f"container `{record.name}` is not running", f"it is {record.status}")
    pidfd = State(host.run_directory(record.id)).open()
    try:
        host.event("container", "kill", record.id, record.name, **{**record.request.labels, "signal": str(number)})
        if number == _SIGKILL:
            _kill_all(host, record, pidfd)
        else:
            process.pidfd_send_signal(pidfd, number)
            if number == record.request.stop_signal:
                Plan(_thawing(host, record)).run(At(pid=record.pid))
    finally:
        os.close(pidfd)
    if number == _SIGKILL:
        _wait_for_monitor(host, record)


def _thawing(host: Host, record: containers.Record) -> list[Step]:
    """What is frozen heeds no signal."""
    if not host.is_paused(record.id):
        return []
    from minidocker.engine import pausing

    return pausing.thawing(host, record)


def _monitors(host: Host, record: containers.Record, files: bool) -> Plan:
    """What its monitor does when the container has ended."""
    from minidocker.engine import teardown, wiring  # with all of the network: only for who asks

    return teardown.ended(host, record, wiring.places(host, record), files)


def _removal(host: Host, record: containers.Record, volumes: bool) -> Plan:
    """All that is done to remove it, whoever does it."""
    if record.status == containers.RUNNING:
        from minidocker.runtime.namespaces import End

        plan = Plan([End()]) + _monitors(host, record, files=True)
    else:
        plan = Plan([rootfs.RemoveTree(host.data_directory(record.id), "its layer of the file system, its files and its log")])
    return plan + _volumes(host, record) if volumes or record.request.remove else plan


def _volumes(host: Host, record: containers.Record) -> Plan:
    """The removal of those that go with it."""
    if not record.request.mounts:
        return Plan()
    from minidocker.engine.volumes import removal
    from minidocker.storage.volumes import alone

    return removal(host, alone(host.state, record.id))


def for_good(host: Host, record: containers.Record) -> containers.Record:
    """The user ends it: its restart policy has no say from here on. The record as it is then."""
    if not record.request.has_policy:
        return record
    from minidocker.engine import restarts

    return restarts.cancel(host, record)


def remove(host: Host, reference: str, force: bool, tell: Tell = silent, volumes: bool = False) -> None:
    """Remove a container and its files; a running one only with `force`; with `volumes` the anonymous ones that it alone has."""
    reconcile.look(host)
    record = containers.find(host.state, reference)
    if not force and record.status in (containers.CREATING, containers.RUNNING, containers.RESTARTING):
        does = "is restarting" if record.status == containers.RESTARTING else "is running"
        raise StateError(f"container `{record.name}` {does}", f"minidocker stop {record.name}, or rm -f")
    tell(lambda: _removal(host, record, volumes), record.pid)
    deadline = time.monotonic() + _KILL_TIMEOUT
    while not _remove_ended(host, record.id, volumes):
        if time.monotonic() > deadline:
            raise StateError(f"container `{record.name}` is still {record.status}", "another minidocker is at work on it: try again")
        current = containers.get(host.state, record.id)
        if current is None:
            return  # with --rm its monitor has done it, or another rm
        record = current
        try:
            if record.status in (containers.RUNNING, containers.RESTARTING):
                kill(host, record.id, _SIGKILL)
            else:
                time.sleep(_PAUSE)  # its monitor is about to get it running, or somebody is about to remove it
        except (NotFoundError, StateError):
            _wait_for_monitor(host, record)


def remover(
    host: Host, references: list[str], force: bool, tell: Tell = silent, volumes: bool = False
) -> Callable[[str], None]:
    """What removes one of `references`. Of several running ones all are ended first, by their monitors' death, and tidied up after in this
    process: five hundred in turn would be five hundred interpreters that start only to tidy up."""
    together = _end_together(host, references, tell, volumes) if force and len(references) > 1 else {}

    def one(reference: str) -> None:
        if reference not in together or containers.get(host.state, together[reference]) is not None:
            remove(host, reference, force, tell, volumes)

    return one


def _end_together(host: Host, references: list[str], tell: Tell, volumes: bool) -> dict[str, str]:
    """Kill the monitors of those that run, which are marked as about to be removed before, and finish them; reference -> id."""
    reconcile.look(host)
    ended: dict[str, str] = {}
    monitors: list[int] = []
    for reference in references:
        try:
            record = containers.find(host.state, reference)
        except MinidockerError:
            continue  # told when its turn comes
        if record.status != containers.RUNNING:
            continue
        pidfd = _monitor(host, record)
        if pidfd >= 0:
            tell(lambda record=record: _removal(host, record, volumes), record.pid)
            if volumes and record.request.mounts:
                record.request.remove = True  # whoever finishes it takes its anonymous volumes away then, too
                containers.set_request(host.state, record.id, record.request)
            containers.update(host.state, record.id, status=containers.REMOVING)
            process.pidfd_send_signal(pidfd, _SIGKILL)
            ended[reference] = record.id
            monitors.append(pidfd)
    for pidfd in monitors:
        process.pidfd_ended(pidfd, _KILL_TIMEOUT)
        os.close(pidfd)
    reconcile.look(host)
    return ended


def _monitor(host: Host, record: containers.Record) -> int:
    """A pidfd of the container's monitor, -1 where it has just ended."""
    lock = f"{host.run_directory(record.id)}/lock"
    pid = lock_holder(lock)
    try:
        pidfd = process.pidfd_open(pid) if pid else -1
    except ProcessLookupError:
        return -1
    if pidfd >= 0 and lock_holder(lock) != pid:  # held first, then asked again whose it is
        os.close(pidfd)
        return -1
    return pidfd


def _remove_ended(host: Host, id: str, volumes: bool = False) -> bool:
    """Remove a container that has ended; False when it has not, or a living process has it in its hands."""
    lock = host.claim(id)
    if lock < 0:
        return False
    try:
        record = containers.get(host.state, id)
        ended = record is None or record.status in containers.AT_REST
        if ended and record is not None:
            # its files before its record, which is all that says where they are; on a full disk they make the room to forget it
            rootfs.remove_tree(host.data_directory(id))
            if record.request.mounts and (volumes or record.request.remove):
                from minidocker.engine.volumes import forget

                if troubles := forget(host, id):
                    raise MinidockerError("; ".join(troubles))
            else:
                containers.delete(host.state, id)
            host.event("container", "destroy", id, record.name, **record.request.labels)
        if ended:
            host.drop_run_directory(id)
    finally:
        os.close(lock)
    if not ended:
        reconcile.sweep(host)  # its monitor is gone, and nobody has finished it yet
    return ended


def _kill_all(host: Host, record: containers.Record, pidfd: int) -> None:
    """SIGKILL to init, with which all of its PID namespace goes, and then to whatever else is in the cgroup (exec'd processes)."""
    host.face.thaw(host.place(record.id, record.request).name)
    try:
        process.pidfd_send_signal(pidfd, _SIGKILL)
    except ProcessLookupError:
        return
    if not process.pidfd_ended(pidfd, _KILL_TIMEOUT):
        raise MinidockerError(
            f"container `{record.name}` does not die: its process {record.pid} is in an uninterruptible system call",
            f"cat /proc/{record.pid}/stack shows where; it ends when that does",
        )


def _wait_for_monitor(host: Host, record: containers.Record) -> None:
    """Wait until the container's monitor has written down its end and gone; if it died before it could, do its work."""
    deadline = time.monotonic() + _KILL_TIMEOUT
    while time.monotonic() < deadline:
        pid = lock_holder(f"{host.run_directory(record.id)}/lock")
        if not pid:
            break
        try:
            pidfd = process.pidfd_open(pid)
        except ProcessLookupError:
            continue
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.poll((deadline - time.monotonic()) * 1000)
        os.close(pidfd)
    reconcile.sweep(host)
