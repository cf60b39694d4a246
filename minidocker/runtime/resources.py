"""OCI `linux.resources` and `linux.cgroupsPath` as steps (runtime-spec, config-linux.md, "Control groups").

    Cgroup(face, name, resources)   refuses here, before anything is written, what this kernel cannot give
      .make()  Make ─ SetMemory ─ SetFile ... ─ GuardDevices          before the container's first process exists
      .join()  Join                                                   by that process itself (CHILD), or by its parent

A limit is one write of one cgroup file; which file, and in which unit, differs between v1 and v2, controller by controller.
"""

from __future__ import annotations

import os

from minidocker.errors import UnsupportedError, UsageError
from minidocker.kernel import cgroups
from minidocker.plan import CGROUP, CHILD, OUTSIDE, PARENT, At, Plan, Step, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minidocker.kernel import devices
    from minidocker.kernel.cgroups import Face, Hierarchy

# What every container may use besides what its configuration allows: the devices that the runtime-spec has every runtime supply
# (config-linux.md, "Default Devices"), a terminal, and its pseudo-terminals (major 136).
DEFAULT_DEVICES: list[dict[str, Any]] = [
    *({"allow": True, "type": "c", "major": 1, "minor": minor, "access": "rwm"} for minor in (3, 5, 7, 8, 9)),
    *({"allow": True, "type": "c", "major": 5, "minor": minor, "access": "rwm"} for minor in (0, 1, 2)),
    {"allow": True, "type": "c", "major": 136, "access": "rwm"},
]


def cgroup_name(path: str, own: str, id: str) -> str:
    """The cgroup that `linux.cgroupsPath` means, below the root of every hierarchy: an absolute path as it is, a relative one below
    `own` ("minidocker-ab12"), none at all OWN/ID. UsageError for what leads elsewhere."""
    if not path:
        return f"{own}/{id}"
    if path.count(":") == 2 and not path.startswith("/"):
        raise UnsupportedError(f"cgroupsPath `{path}` is for systemd to make", "--systemd-cgroup, or a path: /PARENT/NAME")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or not parts or any("\n" in part or "\0" in part for part in parts):
        raise UsageError(f"cgroupsPath `{path}` is not a path below the root of a cgroup hierarchy")
    return "/".join(parts if path.startswith("/") else [own, *parts])


class Cgroup:
    """One container's cgroup: `name` as `cgroup_name` gives it, `resources` OCI's linux.resources, `own` the ancestor that is ours and
    goes with its last child. Raises UnsupportedError, naming the controller, for a limit that the kernel cannot give."""

    def __init__(self, face: Face, name: str, resources: dict[str, Any], own: str = "") -> None:
        self.face = face
        self.name = name
        self.own = own
        self.limits: list[Step] = []
        self.controllers: tuple[str, ...] = ()
        if any(key != "devices" for key in resources):
            from minidocker.runtime.limits import Limits  # most containers have none

            limits = Limits(face, name)
            limits.collect(resources)
            self.limits, self.controllers = limits.steps, tuple(limits.controllers)
        self.require()
        from minidocker.kernel import devices  # who joins a cgroup limits nothing

        self.rules = devices.parse([*(resources.get("devices") or []), *DEFAULT_DEVICES])
        self.guard = devices.how(face)
        self.device_list = devices.lines(self.rules) if self.guard == devices.LIST else []
        if not self.guard and resources.get("devices"):
            raise UnsupportedError("device access cannot be limited: neither cgroup v1's devices controller nor bpf(2) on cgroup v2",
                                   "leave out linux.resources.devices and the capability MKNOD")  # fmt: skip

    def require(self) -> None:
        """UnsupportedError, naming it, when a controller that is needed cannot be had."""
        self.face.require(self.name, self.controllers)

    def make(self) -> Plan:
        """Make it, with its limits and device rules. Empty where no hierarchy is mounted."""
        if not self.face.hierarchies:
            return Plan()
        steps: list[Step] = [*self.begin(), *self.limits]
        if self.guard:
            steps.append(GuardDevices(self.face.path(self.name, "devices"), self.rules, self.device_list))
        return Plan(steps)

    def begin(self) -> list[Step]:
        return [Make(self)]

    def settled(self) -> Plan:
        """What is done once the container's first process is in it."""
        return Plan()

    def join(self, actor: str = PARENT, born: bool = False) -> Plan:
        """Put the container's first process (`at.pid`) into it; with actor CHILD the process does so itself, which saves 8 ms on v1
        and must come before it makes namespaces. `born`: clone3 has put it into the v2 cgroup already (see `descriptor`)."""
        used = self.face.used(self.controllers)
        return Plan([Join(self.name, used, actor, born)] if used else [])

    def descriptor(self) -> int:
        """The v2 cgroup's directory opened for clone3(CLONE_INTO_CGROUP), -1 where the container is in none. The caller closes it."""
        used = self.face.used(self.controllers)
        return self.face.descriptor(self.name) if any(hierarchy.version == 2 for hierarchy in used) else -1


class Make(Step):
    title = CGROUP
    why = "what the kernel accounts, limits and freezes together"

    def __init__(self, cgroup: Cgroup) -> None:
        self.cgroup = cgroup

    def shell(self) -> str:
        face, name, also = self.cgroup.face, self.cgroup.name, self.cgroup.controllers
        lines = ["mkdir -p " + " ".join(map(quote, face.paths(name, also)))]
        parts = name.split("/")
        for hierarchy in face.used(also):
            downwards = ["/".join((hierarchy.mount, *parts[:depth])) for depth in range(len(parts) + 1)]  # from the root down to it
            if hierarchy.version == 2:
                enable = quote(" ".join("+" + controller for controller in face.enabled(hierarchy, also)))
                lines += [f"echo {enable} > {quote(parent)}/cgroup.subtree_control" for parent in downwards[:-1] if enable != "''"]
            elif "cpuset" in also and "cpuset" in hierarchy.controllers:
                for file in ("cpuset.cpus", "cpuset.mems"):
                    copies = " ".join(f"{quote(directory)}/{file}" for directory in downwards[1:])
                    lines.append(f"tee {copies} < {hierarchy.mount}/{file} > /dev/null")
        return "\n".join(lines)

    def describe(self) -> str:
        return f"make cgroup `{self.cgroup.name}`"

    def apply(self, at: At) -> None:
        self.cgroup.face.create(self.cgroup.name, self.cgroup.controllers, self.cgroup.own)

    def undo(self, at: At) -> None:
        self.cgroup.face.remove(self.cgroup.name, self.cgroup.own)


class Join(Step):
    title = CGROUP
    why = "from here on it is counted and limited, and all that it starts"

    def __init__(self, name: str, used: list[Hierarchy], actor: str, born: bool) -> None:
        self.name = name
        self.used = used
        self.actor = actor
        self.typed = OUTSIDE if actor == CHILD else ""
        self.born = born

    def shell(self) -> str:
        if self.actor == PARENT:
            files = " ".join(quote(f"{hierarchy.path(self.name)}/cgroup.procs") for hierarchy in self.used)
            return f'for file in {files}; do echo "$PID" > "$file"; done'
        files = " ".join(quote(cgroups.entrance(hierarchy, self.name)) for hierarchy in self.used)
        return f'for file in {files}; do echo 0 > "$file"; done'

    def describe(self) -> str:
        return f"join cgroup `{self.name}`"

    def apply(self, at: At) -> None:
        for hierarchy in self.used:
            if self.born and hierarchy.version == 2:
                continue
            if self.actor == PARENT:
                cgroups.move(hierarchy, self.name, at.pid)
            else:
                cgroups.enter(hierarchy, self.name)


class GuardDevices(Step):
    """Deny every device but those that the rules allow."""

    title = CGROUP
    why = "devices it may make, read and write; no other"

    def __init__(self, directory: str, rules: list[devices.Rule], device_list: list[tuple[str, str]]) -> None:
        self.directory = directory
        self.rules = rules
        self.device_list = device_list  # v1's; empty on v2, which has a program instead

    def shell(self) -> str:
        if self.device_list:
            return "\n".join(f"echo {quote(line)} > {quote(f'{self.directory}/{file}')}" for file, line in self.device_list)
        said = "; ".join(f"{'allow' if rule.allow else 'deny'} {rule}" for rule in self.rules)
        return f"# by bpf(2), for which there is no command: BPF_PROG_ATTACH of BPF_CGROUP_DEVICE to {self.directory}: deny all; {said}"

    def describe(self) -> str:
        return f"limit the devices of cgroup {self.directory}"

    def apply(self, at: At) -> None:
        from minidocker.kernel import devices

        if self.device_list:
            devices.apply_list(self.directory, self.device_list)
        else:
            devices.attach(self.directory, devices.program(self.rules))


class KillAll(Step):
    """End what is in a cgroup, and wait until nothing is."""

    title = CGROUP
    why = "whatever it has started, and nobody has ended"

    def __init__(self, face: Face, name: str) -> None:
        self.face = face
        self.name = name

    def shell(self) -> str:
        file = quote(f"{self.face.paths(self.name)[0]}/cgroup.procs")
        return (f'while read -r pid; do kill -KILL "$pid"; done < {file}\n'
                f"while grep -q . {file}; do sleep 0.01; done")  # fmt: skip

    def describe(self) -> str:
        return f"end the processes of cgroup `{self.name}`"

    def apply(self, at: At) -> None:
        self.face.kill(self.name)


class Freeze(Step):
    """Stop every process of a cgroup, and wait until all have stopped. KernelError (ETIMEDOUT), all going on, if one does not."""

    title = CGROUP
    why = "its processes stand still, all of them, wherever they are"

    def __init__(self, face: Face, name: str) -> None:
        self.face = face
        self.name = name

    def shell(self) -> str:
        file, frozen, _ = _freezer(self.face, self.name)
        return f"echo {frozen} > {quote(file)}"

    def describe(self) -> str:
        return f"freeze cgroup `{self.name}`"

    def apply(self, at: At) -> None:
        self.face.freeze(self.name)


class Thaw(Step):
    """Let the processes of a cgroup go on; then the file `mark`, which says that they do not, is wrong."""

    title = CGROUP
    why = "its processes go on where they were"

    def __init__(self, face: Face, name: str, mark: str) -> None:
        self.face = face
        self.name = name
        self.mark = mark

    def shell(self) -> str:
        file, _, thawed = _freezer(self.face, self.name)
        return f"echo {thawed} > {quote(file)}\nrm -f {quote(self.mark)}"

    def describe(self) -> str:
        return f"thaw cgroup `{self.name}`"

    def apply(self, at: At) -> None:
        self.face.thaw(self.name)
        try:
            os.unlink(self.mark)
        except FileNotFoundError:
            return


def _freezer(face: Face, name: str) -> tuple[str, str, str]:
    """(the file that says whether a cgroup is frozen, what is written there to freeze it, and what to thaw it)."""
    freezer = face.hierarchy("freezer")
    if freezer.version == 1:
        return f"{freezer.path(name)}/freezer.state", "FROZEN", "THAWED"
    return f"{freezer.path(name)}/cgroup.freeze", "1", "0"


class RemoveCgroup(Step):
    """Remove a cgroup, and with the last one `own`, the ancestor that is ours."""

    title = CGROUP
    why = "its cgroup, in each hierarchy that has it"

    def __init__(self, face: Face, name: str, own: str) -> None:
        self.face = face
        self.name = name
        self.own = own

    def shell(self) -> str:
        hierarchies = " ".join(quote(hierarchy.mount) for hierarchy in self.face.hierarchies)
        commands = [f'[ ! -d "$at"/{quote(self.name)} ] || rmdir "$at"/{quote(self.name)}']
        if self.own:
            commands.append(f'[ ! -d "$at"/{quote(self.own)} ] || rmdir --ignore-fail-on-non-empty "$at"/{quote(self.own)}')
        return f"for at in {hierarchies}; do {'; '.join(commands)}; done"

    def describe(self) -> str:
        return f"remove cgroup `{self.name}`"

    def apply(self, at: At) -> None:
        self.face.remove(self.name, self.own)
