"""A container's cgroup as a transient scope of systemd's.

    StartScope ─ SetFile ... ─ GuardDevices ─ Spawn ─ ... ─ AwaitNamespaces ─ LetGo
      a process of ours, for systemd starts no scope without one              that process ends: init is in there by now

The limits are said twice: as the unit's properties, so that systemd, which writes the files again whenever it is reloaded, keeps to them;
and by our own hand to the files, exactly and with the kernel's own answer (systemd only logs what it could not set, and keeps a quota as
a whole percentage). The unit has Delegate=yes, so both may: nothing is written where systemd rules alone.
"""

from __future__ import annotations

import _signal
import errno
import os
import time

from minidocker.errors import ConflictError, KernelError, MinidockerError, UnsupportedError
from minidocker.kernel import libc, process, systemd
from minidocker.kernel.cgroupfs import until, words
from minidocker.kernel.dbus import DBusError
from minidocker.kernel.systemd import Systemd
from minidocker.plan import CGROUP, At, Plan, Step, quote
from minidocker.runtime import unitproperties
from minidocker.runtime.resources import Cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, NoReturn

    from minidocker.kernel.cgroups import Face
    from minidocker.kernel.systemd import Property

_PR_SET_PDEATHSIG = 1
_PATIENCE = 2.0  # seconds for a cgroup to go once its unit has stopped
# What starts after these is stopped before them when the host goes down: while a container ends it has its files, and its monitor, which
# writes down how, has ours, though /opt or /var be mounts of their own.
_MOUNTS = ["local-fs.target", "remote-fs.target"]
_STOP_MICROSECONDS = 10_000_000  # between TERM and KILL when systemd itself stops it, at a shutdown for instance: what `stop` gives, too


class Scope(Cgroup):
    """One container's scope and its cgroup `name`, which ends in the unit's name; `own` the slice that is this container's alone, or ""."""

    def __init__(self, face: Face, name: str, resources: dict[str, Any], own: str = "") -> None:
        if not systemd.booted():
            raise UnsupportedError("the cgroup manager systemd needs systemd as the init of this host", "--cgroup-manager cgroupfs")
        if face.version != 2:
            raise UnsupportedError(f"the cgroup manager systemd needs cgroup v2 alone, and this host has {_found(face)}",
                                   "--cgroup-manager cgroupfs, or boot with systemd.unified_cgroup_hierarchy=1")  # fmt: skip
        super().__init__(face, name, resources, own)
        self.properties = [*_FIXED, ("Slice", "s", os.path.basename(os.path.dirname(name)) or "-.slice"),
                           *unitproperties.of_resources(resources), *unitproperties.of_devices(self.rules)]  # fmt: skip
        self.start = StartScope(self)

    def require(self) -> None:
        self.face.require("scope", self.controllers)  # systemd has them reach it; whether the root has them is what can be seen before

    def begin(self) -> list[Step]:
        return [self.start]

    def settled(self) -> Plan:
        return Plan([LetGo(self.start)])


def _found(face: Face) -> str:
    return "none" if not face.version else "v1 and v2" if face.version == "hybrid" else f"v{face.version}"


_FIXED: list[Property] = [
    ("Description", "s", "minidocker container"), ("Delegate", "b", True), ("CollectMode", "s", "inactive-or-failed"),
    ("TimeoutStopUSec", "t", _STOP_MICROSECONDS), ("After", "as", _MOUNTS),
    ("MemoryAccounting", "b", True), ("IOAccounting", "b", True), ("TasksAccounting", "b", True), ("CPUAccounting", "b", True),
]  # fmt: skip
_SLICE: list[Property] = [("Description", "s", "minidocker containers"), ("StopWhenUnneeded", "b", True)]


class StartScope(Step):
    """Have systemd make the scope, and the slices above it that are not there."""

    title = CGROUP
    why = "what the kernel accounts, limits and freezes together, made by systemd, to whom the tree belongs, and handed over to us"

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.unit = os.path.basename(scope.name)
        self.keeper = 0

    def shell(self) -> str:
        shown = [entry for entry in self.scope.properties if entry[0] not in ("Slice", "CollectMode", "After")]
        options = "".join(f" \\\n  -p {quote(word)}" for word in unitproperties.said(shown))
        slice = next(value for name, _, value in self.scope.properties if name == "Slice")
        slices = _slices_shell(self.scope.own) if self.scope.own else ""
        return (
            f"{slices}systemd-run --quiet --scope --collect --slice={quote(slice)} --unit={quote(self.unit)}{options} \\\n"
            "  sleep 60 &\nKEEPER=$!\n"
            f"until [ -d {quote(self.scope.face.path(self.scope.name, 'freezer'))} ]; do kill -0 \"$KEEPER\"; sleep 0.01; done"
        )

    def describe(self) -> str:
        return f"start {self.unit}"

    def apply(self, at: At) -> None:
        self.keeper = _keeper()
        try:
            with Systemd() as manager:
                properties = [*self.scope.properties, ("PIDs", "au", [self.keeper])]
                manager.start_transient(self.unit, properties, _slices_above(self.scope.face, self.scope.own))
            self._check()
        except BaseException as error:
            self.let_go()
            if isinstance(error, DBusError) and systemd.exists(error):
                raise ConflictError(f"systemd has a unit {self.unit} already", f"systemctl status {self.unit}") from error
            if isinstance(error, DBusError):
                raise MinidockerError(f"have systemd start {self.unit}: {error}") from error
            raise

    def _check(self) -> None:
        """That it is where it is looked for, and has what its limits need."""
        directory = self.scope.face.path(self.scope.name, "freezer")
        if not os.path.isdir(directory):
            raise UnsupportedError(f"systemd made {self.unit}, but not as cgroup {directory}", "is this itself in a container?")
        check_controllers(self.scope.face, self.scope.name, self.scope.controllers)

    def undo(self, at: At) -> None:
        self.let_go()
        StopScope(self.scope.face, self.scope.name, self.scope.own).apply(at)

    def let_go(self) -> None:
        if self.keeper:
            os.kill(self.keeper, 9)  # a child that is not yet waited for: the number is nobody else's
            os.waitpid(self.keeper, 0)
            self.keeper = 0


def check_controllers(face: Face, name: str, controllers: Iterable[str]) -> None:
    """UnsupportedError for one that systemd has not had reach the scope: it knows cpu, cpuset, io, memory and pids."""
    if face.unified is None:
        return
    given = words(f"{face.unified.path(name)}/cgroup.controllers")
    for controller in controllers:
        if controller not in given and controller in face.unified.controllers:
            unit = os.path.basename(name)
            raise UnsupportedError(f"the cgroup controller {controller} does not reach {unit}: systemd does not pass it on",
                                   "leave out the limit, or --cgroup-manager cgroupfs")  # fmt: skip


def _above(own: str) -> list[str]:
    """The slices above the slice `own`, a container's alone; outermost first."""
    parts = own.split("/")[:-1]
    return ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]


def _slices_above(face: Face, own: str) -> list[tuple[str, list[Property]]]:
    """Those of them that are not there: they are to go with the last scope in them. systemd would make them by itself, and keep them."""
    return [(os.path.basename(path), _SLICE) for path in _above(own) if not os.path.isdir(face.path(path, "freezer"))]


def _slices_shell(own: str) -> str:
    """The same and `own` by a call of busctl(1), for a person to type; systemd-run(1) cannot say what goes when it is not needed."""
    names = " ".join(quote(os.path.basename(path)) for path in _above(own))
    return (
        f"SLICES=()\nfor SLICE in {names}; do\n"
        '  systemctl --quiet is-active "$SLICE" || SLICES+=("$SLICE" 1 StopWhenUnneeded b true)\ndone\n'
        "busctl --quiet call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager StartTransientUnit \\\n"
        f"  'ssa(sv)a(sa(sv))' {quote(os.path.basename(own))} fail 0 \"$((${{#SLICES[@]}} / 5))\" \"${{SLICES[@]}}\"\n"
    )


def move_monitor(face: Face, name: str, own: str, pid: int) -> None:
    """Give the monitor of the container `name` a scope of its own beside it: whatever unit it was started from (a login, a cron job), it
    does not end with that. When the host goes down it is stopped after its container, whose end it sees."""
    unit = os.path.basename(name)
    slice = os.path.basename(os.path.dirname(own))
    properties: list[Property] = [
        ("Description", "s", "minidocker monitor"), ("Slice", "s", slice), ("CollectMode", "s", "inactive-or-failed"),
        ("Before", "as", [unit]), ("After", "as", _MOUNTS), ("PIDs", "au", [pid]),
    ]  # fmt: skip
    monitor = f"{unit.removesuffix('.scope')}-monitor.scope"
    try:
        with Systemd() as manager:
            manager.start_transient(monitor, properties, _slices_above(face, own))
    except DBusError as error:
        raise MinidockerError(f"have systemd start {monitor}: {error}") from error


def _keeper() -> int:
    """A child that does nothing until it is killed, or this process ends."""
    parent = os.getpid()
    pid = os.fork()
    if not pid:
        _wait(parent)
    return pid


def _wait(parent: int) -> NoReturn:
    try:
        libc.prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0)
        process.close_range(0)
        while os.getppid() == parent:
            _signal.pause()
    finally:
        os._exit(0)


class LetGo(Step):
    """The scope's first process goes, as the container's is in it."""

    title = CGROUP
    why = "the container's own process keeps the scope from here on"

    def __init__(self, start: StartScope) -> None:
        self.start = start

    def shell(self) -> str:
        return 'kill "$KEEPER"'

    def apply(self, at: At) -> None:
        self.start.let_go()


class SetProperties(Step):
    """Change the limits of a scope that runs."""

    title = CGROUP
    why = "so that systemd keeps to it when it is reloaded"

    def __init__(self, name: str, resources: dict[str, Any]) -> None:
        self.unit = os.path.basename(name)
        self.properties = unitproperties.of_resources(resources)

    def shell(self) -> str:
        return " ".join(["systemctl set-property --runtime", quote(self.unit), *map(quote, unitproperties.said(self.properties))])

    def describe(self) -> str:
        return f"change {self.unit}"

    def apply(self, at: At) -> None:
        if not self.properties:
            return
        try:
            with Systemd() as manager:
                manager.set_properties(self.unit, self.properties)
        except DBusError as error:
            raise MinidockerError(f"have systemd change {self.unit}: {error}") from error


class StopScope(Step):
    """End the scope and whatever is in it, and the slice `own`; what is gone already is no error.

    KernelError when systemd cannot be reached, MinidockerError when it could not stop it."""

    title = CGROUP
    why = "the scope, and with it its cgroup"

    def __init__(self, face: Face, name: str, own: str) -> None:
        self.face = face
        self.unit = os.path.basename(name)
        self.units = [self.unit, *([os.path.basename(own)] if own else [])]
        self.paths = [path for path in (name, own) if path]

    def shell(self) -> str:
        return f"systemctl --quiet stop {' '.join(map(quote, self.units))}"

    def describe(self) -> str:
        return f"stop {self.unit}"

    def apply(self, at: At) -> None:
        if not self._left():  # a scope goes by itself with its last process
            return
        with Systemd() as manager:
            for unit in self.units:
                manager.stop(unit)
            manager.reset_failed(self.unit)
        if not until(lambda: not self._left(), time.monotonic() + _PATIENCE):
            raise KernelError(f"remove cgroup {self._left()[0]}", errno.EBUSY, "systemd has stopped its unit and left it there")

    def _left(self) -> list[str]:
        directories = [self.face.unified.path(path) for path in self.paths] if self.face.unified else []
        return [directory for directory in directories if os.path.isdir(directory)]
