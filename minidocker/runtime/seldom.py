"""What few containers ask for, gathered: steps by the place in the plan (container.py) that they have. Loaded only where something is.

    before ─ Spawn ─ after ...  network ─ first ─ (mounts) ─ pivoting ─ Pivot ─ FindProgram ─ starting ─ privileged ⋯ Execute
"""

from __future__ import annotations

from minidocker.kernel import process as kernel
from minidocker.runtime import privileges
from minidocker.runtime.mounts import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from minidocker.plan import Step
    from minidocker.runtime import sync
    from minidocker.runtime.namespaces import AwaitReady
    from minidocker.runtime.state import State

_AT_CREATE = ("prestart", "createRuntime", "createContainer")


class Seldom:
    """The steps, each list empty unless it was asked for; `listening` makes the step that loads a seccomp filter with a listener."""

    def __init__(self, process: dict[str, Any], seccomp: dict[str, Any] | None, channel: sync.Channel) -> None:
        self.before: list[Step] = []
        self.after: list[Step] = []
        self.network: list[Step] = []
        self.first: list[Step] = []
        self.pivoting: list[Step] = []
        self.privileged: list[Step] = []
        self.listening: Callable[[kernel.Filter], Step] | None = None
        self.hooks: Sequence[dict[str, Any]] = ()
        self.process = process
        self.seccomp = seccomp
        self.channel = channel
        self.status = ""
        self.state: State | None = None

    def told(self) -> dict[str, Any]:
        """The container's state, as hooks and listeners are told of it."""
        assert self.state is not None  # noqa: S101  (both ways of making one set it)
        return self.state.oci(self.status)

    def of_process(self, state: State, status: str, filter: tuple[bytes, int] | None, linux: dict[str, Any] | None = None) -> None:
        """What the process itself asks for."""
        from minidocker.runtime import hooks, notify, scheduling

        self.state, self.status = state, status
        self.privileged = scheduling.steps(self.process, linux)
        if filter and filter[1] & kernel.SECCOMP_FILTER_FLAG_NEW_LISTENER and self.seccomp:
            seccomp = self.seccomp
            self.first = [hooks.KnowOneself()]
            self.listening = lambda loaded: notify.Listening(loaded, self.channel, seccomp, self.told)

    def of_container(self, spec: dict[str, Any], ready: AwaitReady, ours: sync.Channel) -> None:
        """What the container asks for, but for its mounts."""
        from minidocker.runtime import hooks, netdevices

        self.network = netdevices.steps(spec["linux"])
        given: dict[str, Any] = spec.get("hooks") or {}
        self.hooks = given.get("startContainer") or ()
        if any(given.get(kind) for kind in (*_AT_CREATE, "startContainer")):
            self.first = [hooks.KnowOneself()]
        in_runtime = [*(given.get("prestart") or ()), *(given.get("createRuntime") or ())]
        if in_runtime:
            self.pivoting += [hooks.AwaitRuntime(self.channel), hooks.InRuntime(in_runtime, self.told, ready, ours)]
        if given.get("createContainer"):
            self.pivoting.append(hooks.InContainer(given["createContainer"], self.told))

    def of_mounts(self, steps: Sequence[Step], linux: dict[str, Any]) -> None:
        """Id-mapped ones are prepared by the parent."""
        mapped = [step for step in steps if isinstance(step, Mount) and step.is_mapped]
        if mapped:
            from minidocker.runtime import idmaps

            self.before, self.after = [idmaps.Trees(mapped, linux)], [idmaps.Closed(mapped)]

    def starting(self, filter: tuple[bytes, int] | None, detach: Step) -> list[Step]:
        """startContainer hooks, confined as the program will be; what they ask nobody for is refused to them (ENOSYS)."""
        if not self.hooks:
            return []
        from minidocker.runtime import hooks

        confinement = privileges.plan(self.process, filter, last=detach, first=self.privileged).steps
        return [hooks.BeforeProgram(self.hooks, self.told, confinement)]
