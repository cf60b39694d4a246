"""Control groups v1, v2 and hybrid behind one face: cgroups(7), Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/.

    detect() ──► Face ── of["memory"] ──► Hierarchy(mount="/sys/fs/cgroup/memory", version=1)      hybrid
                     └── of["hugetlb"] ─► Hierarchy(mount="/sys/fs/cgroup/unified", version=2)

A cgroup is named by its path below the root of every hierarchy ("minidocker-ab12/ID"). A Face keeps no state of its own: whatever it
says about a cgroup it reads, so that another process may make, another watch and a third remove one.

What it costs (Linux 6.18, hybrid, 2 cores, medians in ms; each v1 controller in a hierarchy of its own):

                   cpu  cpuacct  memory  devices  freezer  blkio  pids  | cpuset            | unified
    mkdir         .065     .030    .080     .030     .025   .040  .025  | .034 + .27 copying | .037
    rmdir         .060     .028    .046     .021     .020   .033  .022  | .037               | .030
    join, by a write of the pid to cgroup.procs by the parent: 8 for the first hierarchy (up to 24), .03 for each after it
    join, by a write of 0 to tasks by the process itself:       .41 for all seven
    join of a v2 cgroup, by a write to cgroup.procs: 8 (by another process), 15 (by itself); by clone3(CLONE_INTO_CGROUP): nothing

The first write to cgroup.procs after a pause takes the global cgroup_threadgroup_rwsem for writing and so waits for an RCU grace
period. A thread that moves itself alone, which only v1's `tasks` can say, is exempt from Linux 5.5 on; clone3 is on v2. So the seven that
limits, statistics and pause need are always joined (1 ms together, made, joined and removed) and joined by the child itself (`enter`);
cpuset and, on a hybrid host, the v2 hierarchy only when a limit asks for them. None is made lazily: to move running processes costs
those 8 ms and races with their forks.
"""

from __future__ import annotations

import errno
import os
import time

from minidocker.errors import KernelError, UnsupportedError
from minidocker.kernel import cgroupfs
from minidocker.kernel.cgroupfs import keyed, read, until, words, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# Joined by every container wherever they are mounted. "io" is v2's name of what v1 calls blkio, here for both.
ALWAYS = ("cpu", "cpuacct", "memory", "pids", "devices", "freezer", "io")

_V1_CONTROLLERS = frozenset((
    "blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "memory", "misc", "net_cls", "net_prio", "perf_event", "pids",
    "rdma",
))  # fmt: skip
_SIGKILL = 9
# What every v2 cgroup can do though cgroup.controllers does not list it: cpu.stat counts, cgroup.freeze stops, BPF guards devices.
_V2_CORE = ("cpuacct", "freezer", "devices")


class Hierarchy:
    """One mounted hierarchy: `mount` its directory, `version` 1 or 2, `controllers` those it has, by the kernel's names (v2: those its
    root offers)."""

    __slots__ = ("controllers", "mount", "version")

    def __init__(self, mount: str, version: int, controllers: Iterable[str]) -> None:
        self.mount = mount
        self.version = version
        self.controllers = frozenset(controllers)

    def path(self, name: str) -> str:
        return f"{self.mount}/{name}"


class Usage:
    """What a cgroup has used: `cpu_ns` nanoseconds, `memory_bytes`, `pids` tasks now. None where no controller counts it."""

    __slots__ = ("cpu_ns", "memory_bytes", "pids")

    def __init__(self, cpu_ns: int | None, memory_bytes: int | None, pids: int | None) -> None:
        self.cpu_ns = cpu_ns
        self.memory_bytes = memory_bytes
        self.pids = pids


def detect(mountinfo: str = "/proc/self/mountinfo") -> Face:
    """The cgroup hierarchies mounted here (proc_pid_mountinfo(5)); with none, a Face of version 0, not an error."""
    with open(mountinfo, "rb", buffering=0) as file:
        table = file.read()
    hierarchies = []
    for line in table.split(b"\n"):
        if b" - cgroup" not in line:
            continue
        before, _, after = line.partition(b" - ")
        mount = _unescape(before.split(b" ")[4])
        kind, *_, options = after.split(b" ")
        if kind == b"cgroup2":
            hierarchies.append(Hierarchy(mount, 2, words(f"{mount}/cgroup.controllers")))
        elif kind == b"cgroup":
            names = _V1_CONTROLLERS.intersection(options.decode().split(","))
            if names:  # a hierarchy without controllers (name=systemd) is its owner's
                hierarchies.append(Hierarchy(mount, 1, names))
    return Face(hierarchies)


class Face:
    """The hierarchies as one. `version` 1, 2, "hybrid", or 0 when none is mounted; `of` the hierarchy of each controller ("io" for
    blkio); `unified` the v2 hierarchy or None; `hierarchies` all that have controllers, each once; `always` the controllers whose
    hierarchies every container is in."""

    __slots__ = ("always", "hierarchies", "of", "unified", "version")

    def __init__(self, mounted: Iterable[Hierarchy]) -> None:
        self.always: tuple[str, ...] = ALWAYS
        self.of: dict[str, Hierarchy] = {}
        self.unified: Hierarchy | None = None
        self.hierarchies: list[Hierarchy] = []
        for hierarchy in mounted:
            if (hierarchy.version == 2 and self.unified) or not hierarchy.controllers.isdisjoint(self.of):
                continue  # mounted a second time
            self.hierarchies.append(hierarchy)
            if hierarchy.version == 2:
                self.unified = hierarchy
            for controller in hierarchy.controllers:
                self.of["io" if controller == "blkio" else controller] = hierarchy
        if self.unified:
            for core in _V2_CORE:
                self.of.setdefault(core, self.unified)
        versions = {hierarchy.version for hierarchy in self.hierarchies}
        self.version: int | str = "hybrid" if len(versions) == 2 else versions.pop() if versions else 0

    def with_all(self) -> Face:
        """Itself, from now on for containers that are in every v1 hierarchy, as engines have it from other OCI runtimes: a Java machine
        looks for cpuset, and an engine limits afterwards what nothing limited at first."""
        self.always = (*ALWAYS, *(name for name, hierarchy in self.of.items() if hierarchy.version == 1 and name not in ALWAYS))
        return self

    # Where a cgroup is.

    def hierarchy(self, controller: str) -> Hierarchy:
        """The hierarchy that has `controller`. UnsupportedError, naming it, where there is none."""
        try:
            return self.of[controller]
        except KeyError:
            pass
        label = "io (blkio)" if controller == "io" else controller
        if not self.of:
            raise UnsupportedError(f"no cgroup hierarchy is mounted, so the {label} controller is missing",
                                   "mount one: mount -t cgroup2 cgroup2 /sys/fs/cgroup")
        raise UnsupportedError(f"the cgroup controller {label} is missing: not in this kernel, disabled at boot, or not mounted")

    def used(self, also: Iterable[str] = ()) -> list[Hierarchy]:
        """The hierarchies a container is in: those of `always`, and those of the controllers in `also` (UnsupportedError)."""
        hierarchies: list[Hierarchy] = []
        for controller in self.always:
            hierarchy = self.of.get(controller)
            if hierarchy is not None and hierarchy not in hierarchies:
                hierarchies.append(hierarchy)
        for controller in also:
            hierarchy = self.hierarchy(controller)
            if hierarchy not in hierarchies:
                hierarchies.append(hierarchy)
        return hierarchies

    def paths(self, name: str, also: Iterable[str] = ()) -> list[str]:
        """The directories of cgroup `name` in each hierarchy `used`."""
        return [hierarchy.path(name) for hierarchy in self.used(also)]

    def path(self, name: str, controller: str) -> str:
        """The directory of cgroup `name` that has the files of `controller`. UnsupportedError where there is none."""
        return self.hierarchy(controller).path(name)

    def require(self, name: str, controllers: Iterable[str]) -> None:
        """UnsupportedError, naming it, when a cgroup `name`, made or not, cannot have one of `controllers`."""
        on_v2 = [c for c in controllers if self.hierarchy(c).version == 2 and c not in _V2_CORE]
        if not on_v2 or self.unified is None:
            return
        cgroupfs.refuse_withheld(self.unified.mount, os.path.dirname(name), on_v2)

    def limits_swap(self) -> bool:
        """Whether swap can be limited: v1 with swap accounting, v2 with memory.swap.max."""
        memory = self.of.get("memory")
        if memory is None:
            return False
        if memory.version == 1:
            return os.path.exists(f"{memory.mount}/memory.memsw.limit_in_bytes")
        for child in cgroupfs.children(memory.mount):  # the root itself has no limits to look for
            if os.path.exists(f"{child}/memory.max"):
                return os.path.exists(f"{child}/memory.swap.max")
        return os.path.exists("/proc/swaps")

    # Its life.

    def create(self, name: str, also: Iterable[str] = (), own: str = "") -> None:
        """Make cgroup `name`, and its parents, in the hierarchies `used`, with the controllers of `also` enabled.

        On failure what was made is removed again (`own` as for `remove`). ConflictError when it exists and holds processes.
        """
        also = tuple(also)
        made: list[str] = []
        try:
            for hierarchy in self.used(also):
                if cgroupfs.make(hierarchy.path(name)):
                    made.append(hierarchy.mount)
                if hierarchy.version == 2:
                    self._enable(hierarchy, name, also)
                elif self.of.get("cpuset") is hierarchy:
                    cgroupfs.fill_cpuset(hierarchy.mount, name)
        except BaseException:
            for mount in reversed(made):
                os.rmdir(f"{mount}/{name}")
                cgroupfs.prune(mount, name, own)
            raise

    def pass_on(self, name: str, controllers: Iterable[str]) -> None:
        """Have v2's of `controllers` reach cgroup `name`, which is there, as `create` does. UnsupportedError, naming it, for one that
        does not."""
        if self.unified and any(controller in self.unified.controllers for controller in controllers):
            self._enable(self.unified, name, tuple(controllers))

    def _enable(self, hierarchy: Hierarchy, name: str, also: tuple[str, ...]) -> None:
        for controller in cgroupfs.pass_on(hierarchy.mount, name, self.enabled(hierarchy, also)):
            if controller in also:
                raise UnsupportedError(f"the cgroup controller {controller} does not reach cgroup `{name}`: a parent does not have it")

    def enabled(self, hierarchy: Hierarchy, also: Iterable[str] = ()) -> list[str]:
        """The controllers that `create` enables on v2: those it has of ALWAYS and of `also`."""
        wanted = dict.fromkeys((*ALWAYS, *also))
        return [controller for controller in wanted if controller in hierarchy.controllers and self.of[controller] is hierarchy]

    def add(self, name: str, pid: int, also: Iterable[str] = ()) -> None:
        """Move process `pid` into cgroup `name`. Takes 8 ms (see above): `enter` is for the process itself."""
        for hierarchy in self.used(also):
            move(hierarchy, name, pid)

    def enter(self, name: str, also: Iterable[str] = ()) -> None:
        """Move the calling, single-threaded process into cgroup `name`, before it makes a cgroup namespace."""
        for hierarchy in self.used(also):
            enter(hierarchy, name)

    def descriptor(self, name: str) -> int:
        """The v2 directory of cgroup `name` opened for clone3's CLONE_INTO_CGROUP. UnsupportedError without v2."""
        if self.unified is None:
            raise UnsupportedError("cgroup v2 is not mounted")
        return os.open(self.unified.path(name), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def remove(self, name: str, own: str = "", patience: float = 2.0) -> None:
        """Remove cgroup `name` and what was made below it, from every hierarchy; what is gone already is no error.

        Then its empty parents up to and including `own`, the ancestor that is ours ("minidocker-ab12"; "" is none). Processes that are
        exiting are waited for, `patience` seconds in all. KernelError (EBUSY) if it still has some then.
        """
        deadline = time.monotonic() + patience
        for hierarchy in self.hierarchies:
            cgroupfs.remove(hierarchy.path(name), deadline)
            cgroupfs.prune(hierarchy.mount, name, own)

    # Its processes.

    def _home(self, name: str) -> str:
        """The directory of `name` that is asked for its processes: the one that can freeze them, so that list and freezer agree."""
        hierarchy = self.of.get("freezer") or next(iter(self.used()), None)
        if hierarchy is None:
            raise UnsupportedError("no cgroup hierarchy is mounted", "mount one: mount -t cgroup2 cgroup2 /sys/fs/cgroup")
        return hierarchy.path(name)

    def pids(self, name: str) -> list[int]:
        """The processes of cgroup `name` and of those below it, as our PID namespace numbers them; none if it is gone."""
        return cgroupfs.processes(self._home(name))

    def kill(self, name: str, patience: float = 10.0) -> None:
        """SIGKILL every process of cgroup `name` and wait until none is left. KernelError (ETIMEDOUT) after `patience` seconds."""
        deadline = time.monotonic() + patience
        while True:
            self._signal_all(name)
            if until(lambda: not self.pids(name), min(deadline, time.monotonic() + 0.5)):
                return
            if time.monotonic() >= deadline:
                raise KernelError(f"kill every process of cgroup `{name}`", errno.ETIMEDOUT, f"{len(self.pids(name))} left")

    def _signal_all(self, name: str) -> None:
        home = self._home(name)
        if os.path.exists(f"{home}/cgroup.kill"):  # v2, Linux 5.14: atomic against fork
            write(f"{home}/cgroup.kill", "1")
            return
        freezes = "freezer" in self.of and os.path.exists(home)
        if freezes:  # nothing forks while the list is read; one who cannot freeze in time is caught by the caller's next round
            self._ask_to_freeze(name)
            until(lambda: self.is_frozen(name), time.monotonic() + 0.5)
        try:
            for pid in self.pids(name):
                try:
                    os.kill(pid, _SIGKILL)
                except ProcessLookupError:
                    pass
        finally:
            if freezes:
                self.thaw(name)

    def freeze(self, name: str, patience: float = 10.0) -> None:
        """Stop every process of cgroup `name` and wait until all are. KernelError (ETIMEDOUT), thawed again, if one does not stop."""
        self._ask_to_freeze(name)
        if not until(lambda: self.is_frozen(name), time.monotonic() + patience):
            self.thaw(name)
            raise KernelError(f"freeze cgroup `{name}`", errno.ETIMEDOUT)

    def _ask_to_freeze(self, name: str) -> None:
        v1 = self.hierarchy("freezer").version == 1
        write(f"{self._home(name)}/{'freezer.state' if v1 else 'cgroup.freeze'}", "FROZEN" if v1 else "1")

    def thaw(self, name: str) -> None:
        """Let the processes of cgroup `name` go on."""
        v1 = self.hierarchy("freezer").version == 1
        write(f"{self._home(name)}/{'freezer.state' if v1 else 'cgroup.freeze'}", "THAWED" if v1 else "0")

    def is_frozen(self, name: str) -> bool:
        """Whether every process of cgroup `name` has stopped."""
        if self.hierarchy("freezer").version == 1:
            return words(f"{self._home(name)}/freezer.state") == ["FROZEN"]
        return keyed(f"{self._home(name)}/cgroup.events").get("frozen") == 1

    # What it counts.

    def oom_kills(self, name: str) -> int:
        """How many processes of cgroup `name` the kernel has killed for want of memory. UnsupportedError without the controller."""
        memory = self.hierarchy("memory")
        return keyed(f"{memory.path(name)}/{'memory.oom_control' if memory.version == 1 else 'memory.events'}").get("oom_kill", 0)

    def usage(self, name: str) -> Usage:
        """What cgroup `name` has used and uses."""
        cpu, memory, pids = self.of.get("cpuacct"), self.of.get("memory"), self.of.get("pids")
        cpu_ns = None
        if cpu and cpu.version == 1:
            cpu_ns = int(read(f"{cpu.path(name)}/cpuacct.usage"))
        elif cpu:
            cpu_ns = keyed(f"{cpu.path(name)}/cpu.stat")["usage_usec"] * 1000
        memory_file = "memory.usage_in_bytes" if memory and memory.version == 1 else "memory.current"
        return Usage(
            cpu_ns,
            int(read(f"{memory.path(name)}/{memory_file}")) if memory else None,
            int(read(f"{pids.path(name)}/pids.current")) if pids else None,
        )


    def pressure(self, name: str) -> dict[str, dict[str, dict[str, float]]] | None:
        """How much the tasks of cgroup `name` have waited for processors, memory and disks (accounting/psi.rst): {"cpu": {"some":
        {"avg10": percent, "avg60": .., "avg300": .., "total": microseconds}, "full": ..}, "memory": .., "io": ..}. None where v2 does not
        have the cgroup; without what the kernel does not count (CONFIG_PSI, psi=0)."""
        directory = self.unified.path(name) if self.unified else ""
        if not directory or not os.path.isdir(directory):
            return None
        found = {}
        for kind in ("cpu", "memory", "io"):
            try:
                lines = read(f"{directory}/{kind}.pressure").splitlines()
            except KernelError as error:
                if error.errno not in (errno.ENOENT, errno.EOPNOTSUPP):
                    raise
                continue
            found[kind] = {who: {key: float(value) for key, _, value in (word.partition("=") for word in words.split())}
                           for who, _, words in (line.partition(" ") for line in lines)}  # fmt: skip
        return found


def move(hierarchy: Hierarchy, name: str, pid: int) -> None:
    """Move process `pid`, all its threads, into cgroup `name` of one hierarchy."""
    directory = hierarchy.path(name)
    write(f"{directory}/cgroup.procs", str(pid), f"move process {pid} into cgroup {directory}")


def enter(hierarchy: Hierarchy, name: str) -> None:
    """Move the calling, single-threaded process into cgroup `name` of one hierarchy."""
    write(entrance(hierarchy, name), "0", f"enter cgroup {hierarchy.path(name)}")


def entrance(hierarchy: Hierarchy, name: str) -> str:
    """The file to which a process writes 0 to move itself: v1's `tasks` moves one thread and so needs no global lock."""
    return f"{hierarchy.path(name)}/{'tasks' if hierarchy.version == 1 else 'cgroup.procs'}"


def _unescape(path: bytes) -> str:
    r"""A path as the mount table writes it: space, tab, newline and backslash as \ooo."""
    first, *rest = path.split(b"\\")
    return os.fsdecode(first + b"".join(bytes((int(part[:3], 8),)) + part[3:] for part in rest))
