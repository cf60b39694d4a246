"""Who makes a container's cgroup, changes its limits and takes it away: we ourselves, or systemd when that owns the tree.

    of("cgroupfs", face) ──► Manager   by mkdir and write, wherever the path says                    cgroups(7)
    of("systemd", face)  ──► Scopes    a transient scope over D-Bus, limits as its properties        systemd's CGROUP_DELEGATION.md

Both answer the same questions, so that nobody else asks which it is. They differ in what `linux.cgroupsPath` looks like: a path, or
"slice:prefix:name". What is asked of a cgroup by its name (its processes, what it counts, freezing, killing) is the Face's.
"""

from __future__ import annotations

import os

from minidocker.errors import UnsupportedError, UsageError
from minidocker.plan import At, Plan, Step
from minidocker.runtime import resources
from minidocker.runtime.resources import Cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minidocker.kernel.cgroups import Face

CGROUPFS, SYSTEMD = "cgroupfs", "systemd"
CHOICES = (CGROUPFS, SYSTEMD)
_BOOTED = "/run/systemd/system"  # sd_booted(3)


def default(face: Face) -> str:
    """The manager where none is asked for: systemd where it is the init and cgroups are v2 alone, as docker and podman have it."""
    return SYSTEMD if face.version == 2 and os.path.isdir(_BOOTED) else CGROUPFS


def of(word: str, face: Face) -> Manager:
    """The manager called `word`. It says what is where anywhere; `cgroup` refuses what this host cannot give."""
    return Scopes(face) if word == SYSTEMD else Manager(face)


class Manager:
    """cgroupfs."""

    word = CGROUPFS

    def __init__(self, face: Face) -> None:
        self.face = face

    def path(self, tag: str, id: str, parent: str) -> tuple[str, str]:
        """Where the engine's containers are: (cgroupsPath, the ancestor that goes with its last container). `tag` is the data root's,
        `parent` what the user asked for, or "". UsageError for one of the wrong form."""
        if parent.endswith(".slice") and default(self.face) == SYSTEMD:
            raise UsageError(f"--cgroup-parent {parent} is a slice of systemd's, and the cgroup manager is cgroupfs",
                             "--cgroup-manager systemd, or a path: /PARENT")  # fmt: skip
        own = f"{parent.strip('/')}/minidocker-{tag}".lstrip("/")
        return f"/{own}/{id}", own

    def name(self, path: str, own: str, id: str) -> str:
        """The cgroup that `linux.cgroupsPath` means, below the root of every hierarchy. UsageError, UnsupportedError."""
        return resources.cgroup_name(path, own, id)

    def cgroup(self, name: str, asked: dict[str, Any], own: str) -> Cgroup:
        """How to make it. UnsupportedError for what cannot be had here."""
        return Cgroup(self.face, name, asked, own)

    def move_monitor(self, name: str, own: str, pid: int) -> None:
        """See that the container's parent, process `pid`, does not end with what it was started from. There is nothing to do where nobody
        but us ends cgroups."""

    def counts(self, name: str, own: str) -> str:
        """The cgroup whose counters outlive the last process of `name`, until it is removed."""
        return name

    def removal(self, name: str, own: str) -> Step:
        """What removes it, its processes dead or dying, and `own` with its last child; what is gone already is no error."""
        return resources.RemoveCgroup(self.face, name, own)

    def remove(self, name: str, own: str) -> None:
        """The same, done."""
        self.removal(name, own).apply(At())

    def update(self, name: str, asked: dict[str, Any]) -> Plan:
        """Change the limits of a cgroup that is there. UnsupportedError for one that needs a controller which it was made without."""
        return Plan(self._limits(name, asked))

    def _limits(self, name: str, asked: dict[str, Any]) -> list[Step]:
        from minidocker.runtime.limits import Limits

        if asked.get("devices"):
            raise UnsupportedError("the devices of a running container cannot be changed", "leave out linux.resources.devices")
        limits = Limits(self.face, name)
        limits.collect(asked)
        for controller in limits.controllers:
            hierarchy = self.face.hierarchy(controller)
            if not os.path.isdir(hierarchy.path(name)):
                raise UnsupportedError(f"the container is in no cgroup of {controller}: it was created without such a limit",
                                       "give it one when it is created")  # fmt: skip
        self._reach(name, limits.controllers)
        return limits.steps

    def _reach(self, name: str, controllers: list[str]) -> None:
        """UnsupportedError for a controller that the cgroup, which is there, does not get."""
        self.face.pass_on(name, controllers)


class Scopes(Manager):
    """systemd: each container a transient scope.

    The engine's are in a slice of their own each, minidocker-TAG-ID.slice: systemd removes a scope's cgroup with its last process, and
    what that counted of memory killings would be gone before anybody could read it; a slice stays until it is stopped. Those above it
    go when nothing needs them any more.
    """

    word = SYSTEMD

    def path(self, tag: str, id: str, parent: str) -> tuple[str, str]:
        from minidocker.kernel.systemd import slice_path

        above = slice_path(parent).rpartition("/")[2].removesuffix(".slice") if parent else ""
        unit = f"{above + '-' if above else ''}minidocker-{tag}-{id}.slice"
        return f"{unit}:minidocker:{id}", slice_path(unit)

    def name(self, path: str, own: str, id: str) -> str:
        from minidocker.kernel.systemd import check_name, slice_path

        slice, prefix, name = (path or f":minidocker:{id}").split(":") if not path or path.count(":") == 2 else ("", "", "")
        if not name or "/" in path:
            raise UsageError(f"cgroupsPath `{path}` is not for systemd to make", "give SLICE:PREFIX:NAME, as in machine.slice:web:1")
        if name.endswith(".slice"):
            raise UnsupportedError(f"cgroupsPath `{path}` asks for a slice: a container is a scope", "leave out .slice from the name")
        unit = f"{prefix}-{name}.scope" if prefix else f"{name}.scope"
        check_name(unit)
        return f"{slice_path(slice or 'system.slice')}/{unit}".lstrip("/")

    def cgroup(self, name: str, asked: dict[str, Any], own: str) -> Cgroup:
        from minidocker.runtime.scope import Scope

        return Scope(self.face, name, asked, own)

    def move_monitor(self, name: str, own: str, pid: int) -> None:
        from minidocker.runtime import scope

        scope.move_monitor(self.face, name, own, pid)

    def counts(self, name: str, own: str) -> str:
        return own or name

    def removal(self, name: str, own: str) -> Step:
        from minidocker.runtime.scope import StopScope

        return StopScope(self.face, name, own)

    def _reach(self, name: str, controllers: list[str]) -> None:
        from minidocker.runtime.scope import check_controllers

        check_controllers(self.face, name, controllers)

    def update(self, name: str, asked: dict[str, Any]) -> Plan:
        from minidocker.runtime import scope

        limits = self._limits(name, asked)
        return Plan([scope.SetProperties(name, asked), *limits])


class Place:
    """Where one container's cgroup is: `path` as OCI's cgroupsPath, `name` below the root of every hierarchy, `own` the ancestor that goes
    with it."""

    __slots__ = ("manager", "name", "own", "path")

    def __init__(self, manager: Manager, path: str, name: str, own: str) -> None:
        self.manager = manager
        self.path = path
        self.name = name
        self.own = own

    @property
    def counts(self) -> str:
        """The cgroup whose counters outlive its last process."""
        return self.manager.counts(self.name, self.own)

    def removal(self) -> Step:
        """What removes it, its processes dead or dying; what is gone already is no error."""
        return self.manager.removal(self.name, self.own)


def place(face: Face, word: str | None, tag: str, id: str, parent: str) -> Place:
    """The place of a container of the engine's; `word` None for one from before there was a choice."""
    manager = of(word or CGROUPFS, face)
    path, own = manager.path(tag, id, parent)
    return Place(manager, path, manager.name(path, own, id), own)
