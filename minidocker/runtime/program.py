"""What the child of a container has to do for its program, an init and an exec alike: an OCI `process` section as steps."""

from __future__ import annotations

from minidocker.kernel.process import SECCOMP_FILTER_FLAG_NEW_LISTENER
from minidocker.runtime import init, privileges
from minidocker.runtime.handover import Lasting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minidocker.plan import Step
    from minidocker.runtime import sync
    from minidocker.runtime.seldom import Seldom


def confined(process: dict[str, Any]) -> list[Step]:
    """What asks for the profile or label that the program is to run under, while the host's own /proc is in sight; mostly nothing."""
    if process.get("apparmorProfile") or process.get("selinuxLabel"):
        from minidocker.runtime import confinement

        return confinement.steps(process)
    return []


def program_steps(
    process: dict[str, Any],
    channel: sync.Channel,
    filter: tuple[bytes, int] | None,
    die_with_parent: bool = False,
    lasting: Lasting | None = None,
    seldom: Seldom | None = None,
) -> list[Step]:
    """The last slice of a child, an init's and an exec's alike: find the program, wait, drop privileges, execve."""
    lasting = lasting or Lasting()
    program = init.FindProgram(process, channel, lasting.listener)
    detach = init.Detach(process["cwd"], channel, lasting.preserve_fds, die_with_parent)
    first, listening, starting = (seldom.privileged, seldom.listening, seldom.starting(filter, detach)) if seldom else ((), None, [])
    confinement = privileges.plan(process, filter, detach, first, listening, deferred=True).steps
    late = [step.filter for step in confinement if isinstance(step, privileges.Seccomp) and step.deferred]
    return [program, *starting, *confinement, init.Execute(process, program, *late)]


def asks_of_process(process: dict[str, Any], filter: tuple[bytes, int] | None) -> bool:
    """Whether a process does."""
    return bool(has_listener(filter) or process.get("scheduler") or process.get("ioPriority"))


def has_listener(filter: tuple[bytes, int] | None) -> bool:
    return filter is not None and bool(filter[1] & SECCOMP_FILTER_FLAG_NEW_LISTENER)
