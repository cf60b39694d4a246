"""How the kernel treats the process: OCI's `process.scheduler`, `ioPriority`, `execCPUAffinity`, `linux.memoryPolicy`, `personality`.

Rare, so that this is loaded only where one of them is asked for. sched_setattr(2), ioprio_set(2), sched_setaffinity(2),
set_mempolicy(2), personality(2): all are the calling thread's, and inherited.
"""

from __future__ import annotations

import _struct as struct
import errno
import os

from minidocker.errors import KernelError
from minidocker.kernel import libc
from minidocker.plan import CHILD, PRIVILEGES, At, Step
from minidocker.spec.oci_linux import MEMORY_FLAGS, MEMORY_MODES
from minidocker.spec.oci_process import IO_CLASSES, POLICIES, SCHEDULER_FLAGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NUMBERS = {  # sched_setattr, ioprio_set, set_mempolicy, personality
    "x86_64": (314, 251, 238, 135), "aarch64": (274, 30, 237, 92), "riscv64": (274, 30, 237, 92),
}  # fmt: skip
_SCHED_SETATTR, _IOPRIO_SET, _SET_MEMPOLICY, _PERSONALITY = _NUMBERS.get(os.uname().machine, (-1,) * 4)
# struct sched_attr, sched_setattr(2): size, policy, flags, nice, priority, runtime, deadline, period, and the two clamps
_ATTRIBUTES = struct.Struct("=IIQiIQQQII")
_IOPRIO_WHO_PROCESS = 1
_CLASS_SHIFT = 13
_PER_LINUX, _PER_LINUX32 = 0x0000, 0x0008
_MOST_NODES = 1024  # MAX_NUMNODES of common kernels; longer masks are refused


def steps(process: dict[str, Any], linux: dict[str, Any] | None = None) -> list[Step]:
    """Those that `process` (and for a container's first process `linux`) asks for."""
    found: list[Step] = []
    if linux and linux.get("personality"):
        found.append(Personality(linux["personality"]["domain"]))
    if linux and linux.get("memoryPolicy"):
        found.append(MemoryPolicy(linux["memoryPolicy"]))
    if process.get("scheduler"):
        found.append(Scheduler(process["scheduler"]))
    if process.get("ioPriority"):
        found.append(IoPriority(process["ioPriority"]))
    return found


def processors(text: str) -> set[int]:
    """`0-3,7` as numbers."""
    found: set[int] = set()
    for part in text.replace(" ", "").split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


class Scheduler(Step):
    actor = CHILD
    title = PRIVILEGES
    why = "when it gets a processor"

    def __init__(self, scheduler: dict[str, Any]) -> None:
        self.scheduler = scheduler
        flags = 0
        for flag in scheduler.get("flags", []):
            flags |= SCHEDULER_FLAGS[flag]
        amounts = (scheduler.get(key, 0) for key in ("runtime", "deadline", "period"))
        numbers = (POLICIES[scheduler["policy"]], flags, scheduler.get("nice", 0), scheduler.get("priority", 0), *amounts)
        self.attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, *numbers, 0, 0)

    def shell(self) -> str:
        given = self.scheduler
        policy = given["policy"][6:].lower()
        amounts = "".join(f"--sched-{key} {given[key]} " for key in ("runtime", "deadline", "period") if given.get(key))
        lines = [f"chrt --{policy} {amounts}--pid {given.get('priority', 0)} $$"]
        return "\n".join(lines + ([f"renice -n {given['nice']} -p $$"] if given.get("nice") else []))

    def describe(self) -> str:
        return f"set the scheduling policy {self.scheduler['policy']}"

    def apply(self, at: At) -> None:
        try:
            libc.syscall(_SCHED_SETATTR, 0, self.attributes, 0)
        except OSError as error:
            hint = "it needs CAP_SYS_NICE, and for realtime on cgroup v1 a share of cpu.rt_runtime_us" if error.errno == errno.EPERM else ""
            raise KernelError(self.describe(), error.errno or 0, hint=hint) from error


class IoPriority(Step):
    actor = CHILD
    title = PRIVILEGES
    why = "when it gets the disk"

    def __init__(self, priority: dict[str, Any]) -> None:
        self.number = IO_CLASSES[priority["class"]]
        self.level: int = priority.get("priority", 0)

    def shell(self) -> str:
        return f"ionice -c {self.number} -n {self.level} -p $$"

    def apply(self, at: At) -> None:
        libc.syscall(_IOPRIO_SET, _IOPRIO_WHO_PROCESS, 0, self.number << _CLASS_SHIFT | self.level)


class MemoryPolicy(Step):
    actor = CHILD
    title = PRIVILEGES
    why = "on which nodes it gets its memory"

    def __init__(self, policy: dict[str, Any]) -> None:
        self.policy = policy
        self.mode = MEMORY_MODES[policy["mode"]]
        for flag in policy.get("flags", []):
            self.mode |= MEMORY_FLAGS[flag]
        mask = 0
        for node in processors(policy["nodes"]) if policy.get("nodes") else ():
            if node >= _MOST_NODES:
                raise KernelError(f"set the memory policy: node {node}", errno.EINVAL)
            mask |= 1 << node
        self.mask = mask.to_bytes(_MOST_NODES // 8, "little") if mask else None

    def shell(self) -> str:
        return f"# the memory policy {self.policy['mode']} is left out: numactl starts a program with one and changes none"

    def describe(self) -> str:
        return f"set the memory policy {self.policy['mode']}"

    def apply(self, at: At) -> None:
        libc.syscall(_SET_MEMPOLICY, self.mode, self.mask, _MOST_NODES + 1 if self.mask else 0)


class Personality(Step):
    actor = CHILD
    title = PRIVILEGES
    why = "what uname(2) tells it that the machine is"

    def __init__(self, domain: str) -> None:
        self.domain = domain

    def shell(self) -> str:
        return f"# personality {self.domain}: by setarch, which starts a program with one"

    def describe(self) -> str:
        return f"set the personality {self.domain}"

    def apply(self, at: At) -> None:
        libc.syscall(_PERSONALITY, _PER_LINUX32 if self.domain == "LINUX32" else _PER_LINUX)


class Affinity(Step):
    """One of `process.execCPUAffinity`: `initial` before the process is in the container's cgroup, `final` when it is."""

    actor = CHILD
    title = PRIVILEGES
    why = "on which processors the process that joins runs"

    def __init__(self, cpus: str) -> None:
        self.cpus = cpus

    def shell(self) -> str:
        return f"taskset -pc {self.cpus} $$"

    def describe(self) -> str:
        return f"run on the processors {self.cpus}"

    def apply(self, at: At) -> None:
        os.sched_setaffinity(0, processors(self.cpus))
