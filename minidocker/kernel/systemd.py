"""systemd as the owner of the cgroup tree: units made, changed and ended by its D-Bus interface (org.freedesktop.systemd1(5)).

A unit's place in the tree follows from its name alone (systemd.slice(5)): "a-b.slice" is a.slice/a-b.slice, and a scope is in its slice.
Talked to as systemctl does as root: by systemd's own socket, with no bus between that might not run.
"""

from __future__ import annotations

import os
import time

from minidocker.errors import KernelError, MinidockerError, UnsupportedError, UsageError
from minidocker.kernel.dbus import Connection, DBusError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Property = tuple[str, str, Any]  # name, D-Bus signature, value

SOCKET = "/run/systemd/private"
_BOOTED = "/run/systemd/system"
_NAME = "org.freedesktop.systemd1"
_ROOT = "/org/freedesktop/systemd1"
_MANAGER = f"{_NAME}.Manager"
_LONGEST_NAME = 255  # UNIT_NAME_MAX, the NUL not counted
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@")
_JOB_PATIENCE = 60.0  # a stop may wait for processes that do not die


def booted() -> bool:
    """Whether systemd is the init of this machine (sd_booted(3))."""
    return os.path.isdir(_BOOTED)


def slice_path(unit: str) -> str:
    """The cgroup of a slice, below the root: "a-b.slice" -> "a.slice/a-b.slice", "-.slice" -> "". UsageError for what is no slice."""
    stem = unit.removesuffix(".slice")
    if unit == "-.slice":
        return ""
    parts = stem.split("-")
    if stem == unit or not all(parts):
        raise UsageError(f"`{unit}` is not the name of a slice of systemd's", "as in machine.slice, or a-b.slice for one in a.slice")
    check_name(unit)
    return "/".join("-".join(parts[:depth]) + ".slice" for depth in range(1, len(parts) + 1))


def check_name(unit: str) -> None:
    """UsageError for what systemd would not take as the name of a unit (systemd.unit(5))."""
    if not _LETTERS.issuperset(unit) or len(unit) > _LONGEST_NAME or unit.startswith("."):
        raise UsageError(f"`{unit}` is not a name that a unit of systemd's can have",
                         f"letters, digits and :-_.\\@, at most {_LONGEST_NAME} in all")  # fmt: skip


class Systemd:
    """A connection. UnsupportedError when systemd does not run here, KernelError and DBusError for what then goes wrong."""

    def __init__(self) -> None:
        if not booted():
            raise UnsupportedError("systemd does not run here, so it can make no cgroup", "--cgroup-manager cgroupfs")
        try:
            self.connection = Connection(SOCKET)
        except OSError as error:
            raise KernelError.of(f"connect to systemd at {SOCKET}", error) from error

    def __enter__(self) -> Systemd:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def _call(self, member: str, signature: str, *values: Any) -> list[Any]:
        try:
            return self.connection.call(_NAME, _ROOT, _MANAGER, member, signature, *values)
        except OSError as error:
            raise KernelError.of(f"call {member} of systemd", error) from error

    def start_transient(self, unit: str, properties: Sequence[Property], also: Sequence[tuple[str, Sequence[Property]]] = ()) -> None:
        """StartTransientUnit, and wait until it has started. A failed unit of that name is forgotten first; `also` are units that it
        starts with it, each with the properties that it gets if it is not there. DBusError (see `exists`)."""
        others = [(other, _variants(its)) for other, its in also]
        values: tuple[Any, ...] = (unit, "replace", _variants(properties), others)
        try:
            job = self._call("StartTransientUnit", "ssa(sv)a(sa(sv))", *values)
        except DBusError as error:
            if not exists(error) or not self.reset_failed(unit):
                raise
            job = self._call("StartTransientUnit", "ssa(sv)a(sa(sv))", *values)
        self._wait(job[0], f"start {unit}")

    def stop(self, unit: str) -> None:
        """StopUnit, and wait until it has stopped: all that is in it is ended. One that is not there is no error."""
        try:
            job = self._call("StopUnit", "ss", unit, "replace")
        except DBusError as error:
            if error.name != f"{_NAME}.NoSuchUnit":
                raise
            return
        self._wait(job[0], f"stop {unit}")

    def reset_failed(self, unit: str) -> bool:
        """ResetFailedUnit: forget a unit that has failed; False where there is none."""
        try:
            self._call("ResetFailedUnit", "s", unit)
        except DBusError as error:
            if error.name != f"{_NAME}.NoSuchUnit":
                raise
            return False
        return True

    def set_properties(self, unit: str, properties: Sequence[Property]) -> None:
        """SetUnitProperties, until the next boot at most (`runtime`)."""
        self._call("SetUnitProperties", "sba(sv)", unit, True, _variants(properties))

    def version(self) -> str:
        """As `systemctl --version` has it: "252.38-1~deb12u1"."""
        values = self.connection.call(_NAME, _ROOT, "org.freedesktop.DBus.Properties", "Get", "ss", _MANAGER, "Version")
        return str(values[0][1])

    def _wait(self, job: str, action: str) -> None:
        """Until systemd says how `job` came out: JobRemoved(id, job, unit, result), which goes to direct connections unasked."""
        deadline = time.monotonic() + _JOB_PATIENCE
        while True:
            try:
                _, path, _, result = self.connection.signal("JobRemoved", deadline)
            except OSError as error:
                raise KernelError.of(f"wait for systemd to {action}", error) from error
            if path == job:
                break
        if result != "done":
            raise MinidockerError(f"systemd could not {action}: {result}", f"journalctl -u {action.partition(' ')[2]}")


def _variants(properties: Sequence[Property]) -> list[tuple[str, tuple[str, Any]]]:
    return [(name, (kind, value)) for name, kind, value in properties]


def exists(error: DBusError) -> bool:
    """Whether StartTransientUnit failed because there is a unit of that name."""
    return error.name == f"{_NAME}.UnitExists"
