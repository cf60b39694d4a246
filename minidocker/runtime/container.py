"""A container's life as the OCI runtime-spec has it (runtime.md): a plan, create, start, state, kill.

`Launch` holds the whole plan of one container, both actors' steps in the order in which they happen:

    cgroup ─ Spawn ─ AwaitNamespaces ─ (the caller's plan: its network) ─ AwaitReady                        the parent
               └─ join cgroup ─ Unshare ─ sysctls ─ Announce ─ mounts ─ pivot ─ FindProgram ⋯ privileges ─ Execute     the child
"""

from __future__ import annotations

import os

from minidocker.errors import MinidockerError
from minidocker.kernel import process as k
from minidocker.kernel.cgroups import Face
from minidocker.kernel.namespaces import NEWUSER
from minidocker.plan import CHILD, PARENT, At, Plan, Step, undo
from minidocker.runtime import filesystem, init, mounts, namespaces, sync
from minidocker.runtime.handover import Lasting
from minidocker.runtime.managers import Manager
from minidocker.runtime.program import asks_of_process, confined, has_listener, program_steps
from minidocker.runtime.state import CREATING, State
from minidocker.runtime.terminal import Terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minidocker.runtime.seldom import Seldom


class Launch:
    """One start of one container.

    `spec` is a valid OCI configuration; `own` the ancestor of its cgroup that goes with its last child; `on_namespaces` the caller's
    steps for its network namespace; `manager` who makes its cgroup (None: we); `filter` the compiled seccomp program and its flags, or
    None; `directory` where state.json is kept; `stdio` the descriptors that become 0, 1 and 2. `lasting` has what a container has that
    outlives the command (handover.py): with a listener there, after `create` comes `leave`, not `start`.
    """

    def __init__(
        self,
        id: str,
        spec: dict[str, Any],
        face: Face,
        *,
        directory: str,
        own: str = "",
        manager: Manager | None = None,
        on_namespaces: Plan | None = None,
        filter: tuple[bytes, int] | None = None,
        stdio: tuple[int, int, int] = (0, 1, 2),
        die_with_parent: bool = False,
        lasting: Lasting | None = None,
    ) -> None:
        self.id = id
        self.spec = spec
        self.stdio = stdio
        self.lasting = lasting = lasting or Lasting()
        self.at = At()
        self.ours, self.theirs = sync.pair()
        linux = spec["linux"]
        spaces = namespaces.Namespaces(linux["namespaces"], linux.get("timeOffsets"))
        manager = manager or Manager(face)
        self.cgroup = manager.cgroup(manager.name(linux["cgroupsPath"], own, id), self._limits(face), own)
        self._spawn = namespaces.Spawn(spaces, self.cgroup, self._be_the_child, self.theirs, stdio[0] == 0)
        self._ready = namespaces.AwaitReady(self.ours)
        self._start = namespaces.Start(self.ours)
        self.state = self._state_in(directory, own, manager.word if face.hierarchies else "")
        self._start.listens = self.state.listens = has_listener(filter)
        self.seldom = self._seldom(filter)
        program, *rest = program_steps(spec["process"], self.theirs, filter, die_with_parent, lasting, self.seldom)
        rooted = self._filesystem(face, not any(entry["type"] == "cgroup" for entry in linux["namespaces"]))
        # in the order a reader wants to meet them; each actor runs its own, the network and the mounts at the same time
        self.plan = Plan(
            [
                *self.cgroup.make().steps,
                *(self.seldom.before if self.seldom else ()),
                self._spawn,
                *(self.seldom.after if self.seldom else ()),
                *self._mapped(spaces),
                *self.cgroup.join(CHILD, born=True).steps,
                namespaces.Unshare(spaces, self.state.keyring, self.theirs, spec["root"]["path"]),
                *([namespaces.Sysctls(linux["sysctl"])] if linux.get("sysctl") else []),
                namespaces.Announce(self.theirs),
                namespaces.AwaitNamespaces(self.ours),
                *self.cgroup.settled().steps,
                *(on_namespaces.steps if on_namespaces else []),
                *(self.seldom.network if self.seldom else ()),
                *rooted,
                program,
                self._ready,
                *rest,
                self._start,
            ]
        )
        self._done: list[Step] = []

    def _state_in(self, directory: str, own: str, manager: str) -> State:
        spec, lasting = self.spec, self.lasting
        return State.new(
            directory,
            self.id,
            bundle=lasting.bundle or directory,
            cgroup=self.cgroup.name if manager else "",
            own=own,
            manager=manager,
            keyring=f"_ses.{self.id}" if lasting.keyring else "",
            created=lasting.created,
            annotations=spec.get("annotations") or {},
            hooks={kind: hooks for kind, hooks in (spec.get("hooks") or {}).items() if kind in ("poststart", "poststop")},
        )

    def _limits(self, face: Face) -> dict[str, Any]:
        """`linux.resources`, with leave to make the nodes of `linux.devices`."""
        linux = self.spec["linux"]
        limits: dict[str, Any] = linux.get("resources", {})
        if not linux.get("devices") or "devices" not in face.of:
            return limits
        return {**limits, "devices": [*(limits.get("devices") or ()), *filesystem.made(linux["devices"])]}

    def _mapped(self, spaces: namespaces.Namespaces) -> list[Step]:
        linux = self.spec["linux"]
        if not spaces.clone & NEWUSER:
            return []
        return [namespaces.MapIds(linux["uidMappings"], linux["gidMappings"]), namespaces.Release(self.ours)]

    def _seldom(self, filter: tuple[bytes, int] | None) -> Seldom | None:
        """What few containers ask for; None for all others."""
        if not asks(self.spec, filter):
            return None
        from minidocker.runtime.seldom import Seldom

        linux = self.spec["linux"]
        seldom = Seldom(self.spec["process"], linux.get("seccomp"), self.theirs)
        seldom.of_process(self.state, CREATING, filter, linux)
        seldom.of_container(self.spec, self._ready, self.ours)
        return seldom

    def _filesystem(self, face: Face, shares_cgroups: bool) -> list[Step]:
        """From the child's new namespaces to its new root."""
        spec, linux, process = self.spec, self.spec["linux"], self.spec["process"]
        propagation = linux.get("rootfsPropagation", "")
        steps: list[Step] = [*self.seldom.first] if self.seldom else []
        if spec.get("hostname") or spec.get("domainname"):
            steps.append(namespaces.HostName(spec.get("hostname", ""), spec.get("domainname", "")))
        listed = list(spec.get("mounts", []))
        if linux.get("mountLabel"):
            from minidocker.runtime import confinement

            listed = confinement.labelled(listed, linux["mountLabel"])
        over_root = listed.pop(0) if listed and listed[0]["destination"] == "/" else None
        steps.append(filesystem.Root(spec["root"]["path"], over_root, propagation))
        shared = self.cgroup.name if shares_cgroups else ""
        below = [mounts.CgroupMount(entry, face, shared) if entry.get("type") == "cgroup" else mounts.Mount(entry) for entry in listed]
        steps.extend(below)
        steps.append(filesystem.Devices(linux.get("devices", [])))
        if process.get("terminal"):
            steps.append(Terminal(self._send_terminal, process.get("consoleSize")))
        steps.append(filesystem.ProtectedPaths(linux.get("readonlyPaths", []), linux.get("maskedPaths", []), below))
        steps.append(filesystem.WorkingDirectory(process["cwd"]))
        steps.extend(confined(process))
        if self.seldom:
            self.seldom.of_mounts(steps, linux)
            steps.extend(self.seldom.pivoting)
        steps.append(filesystem.Pivot(spec["root"]["path"], spec["root"].get("readonly", False), self.lasting.pivot, propagation))
        return steps

    def _send_terminal(self, master: int) -> None:
        self.theirs.send(sync.TERMINAL, master)

    def _be_the_child(self) -> None:
        self.ours.close()
        for descriptor in self.lasting.held:
            os.close(descriptor)
        init.become_child(self.plan, self.at, self.theirs, self.stdio)

    def create(self) -> None:
        """Bring the container to "created": set up, its program found, nothing of it running. Undoes itself on failure."""
        try:
            if self.lasting.listener is not None:
                self.state.write()  # so that what a crash leaves can be found and deleted
            self._done = self.plan.run(self.at, PARENT)
            os.close(self.at.netns)
            self.at.netns = -1
            self.state.pid, self.state.start_time = self.at.pid, k.start_time(self.at.pid)
            self.state.write()
        except OSError as error:
            self.abort()
            raise MinidockerError(f"write the container's state: {error.strerror}") from error

    def leave(self) -> None:
        """Let the container wait for its start by itself; this process is not needed any more."""
        self.ours.send(sync.LEFT)
        self.ours.close()

    def start(self) -> None:
        """Let the program run; returns when execve has happened. Raises what kept it from happening, everything undone."""
        try:
            self._start.apply(self.at)
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


def asks(spec: dict[str, Any], filter: tuple[bytes, int] | None) -> bool:
    """Whether the container wants something of runtime/seldom.py."""
    linux = spec["linux"]
    asked = spec.get("hooks") or linux.get("personality") or linux.get("memoryPolicy") or linux.get("netDevices")
    return bool(asked) or asks_of_process(spec["process"], filter) or any(
        entry.get("uidMappings") or "idmap" in entry.get("options", ()) or "ridmap" in entry.get("options", ())
        for entry in spec.get("mounts", ())
    )
