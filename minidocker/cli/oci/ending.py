"""kill and delete (runtime-spec, runtime.md, "Operations")."""

from __future__ import annotations

import _signal
import os

from minidocker.cli.oci import report, surroundings
from minidocker.errors import NotFoundError, StateError, UsageError
from minidocker.kernel import pidfd as kernel
from minidocker.runtime import state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minidocker.cli.oci.parse import Call
    from minidocker.runtime.state import State
    from minidocker.runtime.store import Home

_LAST_SIGNAL = 64
_PATIENCE = 10.0  # seconds, for a process that was killed to be gone


def kill(call: Call) -> int:
    """Send a signal, SIGTERM unless another is named, to the first process, or with --all to every one."""
    number = signal_number(call.arguments[1] if len(call.arguments) > 1 else "TERM")
    with surroundings.store(call).find(call.arguments[0]) as home:
        known = home.state()
        if call.flag("all") and known.cgroup:
            _signal_all(known, number)
            return 0
        status = home.status(known)
        if status not in (state.CREATED, state.RUNNING):
            # containerd and docker look for three of the words
            raise StateError(f"kill container `{home.id}`: container not running: it is {status}")
        pidfd = known.open()
        try:
            kernel.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            raise StateError(f"kill container `{home.id}`: container not running: it has just ended") from None
        finally:
            os.close(pidfd)
        if number == _signal.SIGKILL and known.cgroup:
            _let_die(known)
    return 0


def _signal_all(known: State, number: int) -> None:
    from minidocker.kernel import cgroups

    face = cgroups.detect()
    if number == _signal.SIGKILL:
        face.kill(known.cgroup)
        return
    for pid in face.pids(known.cgroup):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _let_die(known: State) -> None:
    """What v1's freezer holds does not even die."""
    from minidocker.kernel import cgroups

    face = cgroups.detect()
    freezer = face.of.get("freezer")
    if freezer is not None and freezer.version == 1 and os.path.exists(freezer.path(known.cgroup)) and face.is_frozen(known.cgroup):
        face.thaw(known.cgroup)


def signal_number(name: str) -> int:
    """`TERM`, `SIGTERM`, `15`, `RTMIN+3`. UsageError."""
    if name.isascii() and name.isdecimal():
        number = int(name)
    else:
        word, plus, more = name.upper().removeprefix("SIG").partition("+")
        number = getattr(_signal, f"SIG{word}", -1) if word.isalnum() else -1
        if plus:
            number = int(number) + int(more) if word == "RTMIN" and more.isascii() and more.isdecimal() else -1
    if not 0 <= int(number) <= _LAST_SIGNAL:
        raise UsageError(f"`{name}` is not a signal", "a name, as TERM or SIGTERM, or a number up to 64")
    return int(number)


def delete(call: Call) -> int:
    """Remove what was made for a container that has ended; with --force end it first, and be content where there is nothing."""
    id, force = call.arguments[0], call.flag("force")
    try:
        home = surroundings.store(call).find(id)
    except NotFoundError:
        if force:
            return 0
        raise
    with home:
        try:
            if not home.lock(_PATIENCE if not force else 0.5):
                _interrupt(home, force)
        except NotFoundError:  # somebody else has deleted it while we waited
            if force:
                return 0
            raise
        status = home.status(home.known())
        if status != state.STOPPED and not force:
            raise StateError(f"cannot delete container `{id}` that is not stopped: it is {status}", f"minidocker-oci delete --force {id}")
        remove(home, kill=force)
    return 0


def _interrupt(home: Home, force: bool) -> None:
    """Another command is at work: with `force` end what is there of the container, upon which that one fails and undoes what it did."""
    known = home.known()
    if force and known and known.cgroup:
        from minidocker.kernel import cgroups

        cgroups.detect().kill(known.cgroup)
    home.lock_or_fail("delete", _PATIENCE)


def remove(home: Home, kill: bool) -> None:
    """Remove all that a container has, its lock held; `kill` what is left of it. A process that it left behind in the PID namespace of
    another is killed anyway: it would keep the cgroup."""
    known = home.known()
    if known:
        if kill:
            _kill_first(known)
        if known.cgroup:
            _remove_cgroup(known)
        after(known)
    home.remove()


def _remove_cgroup(known: State) -> None:
    from minidocker.kernel import cgroups

    face = cgroups.detect()
    if face.pids(known.cgroup):
        face.kill(known.cgroup)
    if known.manager == state.CGROUPFS:  # as mostly, and without what another manager would load
        face.remove(known.cgroup, known.own)
        return
    from minidocker.runtime import managers

    managers.of(known.manager, face).remove(known.cgroup, known.own)


def _kill_first(known: State) -> None:
    """Where there is no cgroup, and where its processes are in none we see."""
    try:
        pidfd = known.open()
    except StateError:
        return
    try:
        if not kernel.pidfd_ended(pidfd):
            kernel.pidfd_send_signal(pidfd, _signal.SIGKILL)
            if known.cgroup:
                _let_die(known)
            if not kernel.pidfd_ended(pidfd, _PATIENCE):
                raise StateError(f"delete container `{known.id}`: its first process {known.pid} does not end, though it was killed")
    except ProcessLookupError:
        return
    finally:
        os.close(pidfd)


def after(known: State) -> None:
    """The poststop hooks: one that fails is told of, the others follow (runtime.md, "Lifecycle", 13)."""
    if known.hooks.get("poststop"):
        from minidocker.runtime import hooks

        for trouble in hooks.run_each(known.hooks["poststop"], known.oci(state.STOPPED)):
            report.warn(f"container `{known.id}`: poststop: {trouble}")
