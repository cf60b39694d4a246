"""A container's life as the OCI runtime-spec has it (runtime.md): a plan, create, start, state, kill.

`Launch` holds the whole plan of one container, both actors' steps in the order in which they happen:

    cgroup ─ Spawn ─ AwaitNamespaces ─ (the caller's plan: its network) ─ AwaitReady                        the parent
               └─ join cgroup ─ Unshare ─ sysctls ─ Announce ─ mounts ─ pivot ─ FindProgram ⋯ privileges ─ Execute     the child
"""

from __future__ import annotations

import os

from minidocker.errors import MinidockerError, NotFoundError, StateError
from minidocker.kernel import process as k
from minidocker.kernel.cgroups import Face
from minidocker.kernel.namespaces import NEWUSER
from minidocker.plan import CHILD, PARENT, At, Plan, Step, undo
from minidocker.runtime import filesystem, init, mounts, namespaces, privileges, resources, sync
from minidocker.spec import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OCI_VERSION = "1.2.0"
_STATE_FILE = "state.json"


class Launch:
    """One start of one container.

    `spec` is a valid OCI configuration; `own` the ancestor of its cgroup that goes with its last child; `on_namespaces` the caller's
    steps for its network namespace; `filter` the compiled seccomp program and its flags, or None; `directory` where state.json
    is kept; `stdio` the descriptors that become 0, 1 and 2.
    """

    def __init__(
        self,
        id: str,
        spec: dict[str, Any],
        face: Face,
        *,
        directory: str,
        own: str = "",
        on_namespaces: Plan | None = None,
        filter: tuple[bytes, int] | None = None,
        stdio: tuple[int, int, int] = (0, 1, 2),
        die_with_parent: bool = False,
    ) -> None:
        self.id = id
        self.spec = spec
        self.directory = directory
        self.stdio = stdio
        self.at = At()
        self.ours, self.theirs = sync.pair()
        linux = spec["linux"]
        spaces = namespaces.Namespaces(linux["namespaces"])
        self.cgroup = resources.Cgroup(face, resources.cgroup_name(linux["cgroupsPath"], own, id), linux.get("resources", {}), own)
        self._spawn = namespaces.Spawn(spaces, self.cgroup, self._be_the_child, self.theirs)
        self._ready = namespaces.AwaitReady(self.ours)
        mapped: list[Step] = []
        if spaces.clone & NEWUSER:
            mapped = [namespaces.MapIds(linux["uidMappings"], linux["gidMappings"]), namespaces.Release(self.ours)]
        program, *rest = program_steps(spec["process"], self.theirs, filter, die_with_parent)
        # in the order a reader wants to meet them; each actor runs its own, the network and the mounts at the same time
        self.plan = Plan(
            [
                *self.cgroup.make().steps,
                self._spawn,
                *mapped,
                *self.cgroup.join(CHILD, born=True).steps,
                namespaces.Unshare(spaces, id, self.theirs),
                *([namespaces.Sysctls(linux["sysctl"])] if linux.get("sysctl") else []),
                namespaces.Announce(self.theirs),
                namespaces.AwaitNamespaces(self.ours),
                *(on_namespaces.steps if on_namespaces else []),
                *self._filesystem(face),
                program,
                self._ready,
                *rest,
            ]
        )
        self._done: list[Step] = []

    def _filesystem(self, face: Face) -> list[Step]:
        """From the child's new namespaces to its new root."""
        spec, linux, process = self.spec, self.spec["linux"], self.spec["process"]
        steps: list[Step] = []
        if spec.get("hostname") or spec.get("domainname"):
            steps.append(namespaces.HostName(spec.get("hostname", ""), spec.get("domainname", "")))
        listed = list(spec.get("mounts", []))
        over_root = listed.pop(0) if listed and listed[0]["destination"] == "/" else None
        steps.append(filesystem.Root(spec["root"]["path"], over_root))
        for entry in listed:
            steps.append(mounts.CgroupMount(entry, face) if entry.get("type") == "cgroup" else mounts.Mount(entry))
        steps.append(filesystem.Devices(linux.get("devices", [])))
        if process.get("terminal"):
            steps.append(filesystem.Terminal(self._send_terminal, process.get("consoleSize")))
        steps.append(filesystem.ProtectedPaths(linux.get("readonlyPaths", []), linux.get("maskedPaths", [])))
        steps.append(init.WorkingDirectory(process["cwd"]))
        steps.append(filesystem.Pivot(spec["root"].get("readonly", False)))
        return steps

    def _send_terminal(self, master: int) -> None:
        self.theirs.send(sync.TERMINAL, master)

    def _be_the_child(self) -> None:
        self.ours.close()
        init.become_child(self.plan, self.at, self.theirs, self.stdio)

    def create(self) -> None:
        """Bring the container to "created": set up, its program found, nothing of it running. Undoes itself on failure."""
        self._done = self.plan.run(self.at, PARENT)
        os.close(self.at.netns)
        self.at.netns = -1
        try:
            self._save()
        except OSError as error:
            self.abort()
            raise MinidockerError(f"write the container's state: {error.strerror}") from error

    def _save(self) -> None:
        state = {
            "ociVersion": OCI_VERSION,
            "id": self.id,
            "pid": self.at.pid,
            "startTime": k.start_time(self.at.pid),
            "bundle": self.directory,
            "cgroup": self.cgroup.name,
            "annotations": self.spec.get("annotations", {}),
        }
        path = f"{self.directory}/{_STATE_FILE}"
        with open(path + ".new", "wb", buffering=0) as file:
            file.write(fastjson.dumps(state).encode())
        os.rename(path + ".new", path)

    def start(self) -> None:
        """Let the program run; returns when execve has happened. Raises what kept it from happening, everything undone."""
        try:
            self.ours.send(sync.START)
            message, _ = self.ours.receive()
            if message:
                raise MinidockerError(f"the container's first process said {message!r} instead of starting")
        except (OSError, MinidockerError) as error:
            self.abort()
            if isinstance(error, OSError):
                raise MinidockerError("the container's first process ended before it was started") from error
            raise
        finally:
            self.ours.close()

    def abort(self) -> list[str]:
        """Undo the whole launch; returns what went wrong in that."""
        done, self._done = self._done, []
        return undo(done, self.at)

    @property
    def pidfd(self) -> int:
        return self._spawn.pidfd

    @property
    def terminal(self) -> int:
        """The master of its terminal, or -1."""
        return self._ready.terminal


def program_steps(
    process: dict[str, Any], channel: sync.Channel, filter: tuple[bytes, int] | None, die_with_parent: bool = False
) -> list[Step]:
    """The last slice of a child, an init's and an exec's alike: find the program, wait, drop privileges, execve."""
    program = init.FindProgram(process, channel)
    detach = init.Detach(process["cwd"], channel, die_with_parent=die_with_parent)
    return [program, *privileges.plan(process, filter, last=detach).steps, init.Execute(process, program)]


class State:
    """What state.json says, checked against the kernel: "running" only if that very process still lives."""

    __slots__ = ("cgroup", "pid", "start_time")

    def __init__(self, directory: str) -> None:
        try:
            with open(f"{directory}/{_STATE_FILE}", "rb", buffering=0) as file:
                saved = fastjson.loads(file.read().decode())
        except FileNotFoundError:
            raise NotFoundError("the container has no runtime state: it is not running") from None
        self.pid: int = saved["pid"]
        self.start_time: int = saved["startTime"]
        self.cgroup: str = saved["cgroup"]

    def open(self) -> int:
        """A pidfd of the container's first process. Raises StateError when it is gone, or its pid is another's by now."""
        pidfd = -1
        try:
            pidfd = k.pidfd_open(self.pid)
            # the order matters: the descriptor is held first, then what it holds is checked
            if k.start_time(self.pid) == self.start_time:
                return pidfd
            os.close(pidfd)
        except (ProcessLookupError, FileNotFoundError):
            if pidfd >= 0:
                os.close(pidfd)
        raise StateError("the container is not running")
