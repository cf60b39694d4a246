"""OCI `linux.resources` but for its devices: which cgroup file takes which value, on v1 and v2 (config-linux.md, "Control groups").

Absent, null and (where 0 could only mean "none") 0 are "not asked for"; -1 is unlimited. A field that cannot be given is refused, never
skipped. Each `Limits` method speaks of one controller: v1's files in the order the kernel wants them, and v2's.
"""

from __future__ import annotations

import errno

from minidocker.errors import KernelError, UnsupportedError, UsageError
from minidocker.kernel.cgroupfs import read, write
from minidocker.plan import CGROUP, At, Step, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minidocker.kernel.cgroups import Face

_UNLIMITED = -1
_DEFAULT_PERIOD = 100_000  # microseconds, cpu.max and cpu.cfs_period_us
_THROTTLES = {  # OCI's name: (v1's file, v2's key in io.max)
    "throttleReadBpsDevice": ("blkio.throttle.read_bps_device", "rbps"),
    "throttleWriteBpsDevice": ("blkio.throttle.write_bps_device", "wbps"),
    "throttleReadIOPSDevice": ("blkio.throttle.read_iops_device", "riops"),
    "throttleWriteIOPSDevice": ("blkio.throttle.write_iops_device", "wiops"),
}


def weight_of_shares(shares: int) -> int:
    """v1's cpu.shares (2..262144) as v2's cpu.weight (1..10000): the curve of runc 1.3 and crun 1.23, which takes the default, 1024, to
    the default, 100, and the ends to the ends."""
    from math import log2  # only where it is asked for: it is a file of its own to load

    shares = min(max(shares, 2), 262144)
    logarithm = log2(shares)
    exponent = (logarithm * logarithm + 125 * logarithm) / 612 - 7 / 34
    whole = 10.0**exponent
    return int(whole) if whole - int(whole) < 1e-9 else int(whole) + 1


def weight_of_blkio(weight: int) -> int:
    """v1's blkio.weight (10..1000) as v2's io.weight (1..10000), linearly."""
    return 1 + (weight - 10) * 9999 // 990


def swap_alone(swap: int, limit: int) -> int:
    """OCI's swap, which is memory and swap together, as v2 counts it: swap alone, bytes, -1 unlimited."""
    return _UNLIMITED if swap == _UNLIMITED else swap - limit


class Limits:
    """The steps that limit cgroup `name`, and the `controllers` they need (in order, none twice)."""

    def __init__(self, face: Face, name: str) -> None:
        self.face = face
        self.name = name
        self.steps: list[Step] = []
        self.controllers: list[str] = []

    def collect(self, resources: dict[str, Any]) -> None:
        """Add the steps for `linux.resources`. UsageError for nonsense, UnsupportedError for what cannot be given."""
        sections: dict[str, Callable[[Any], None]] = {
            "memory": self._memory, "cpu": self._cpu, "pids": self._pids, "blockIO": self._block_io, "hugepageLimits": self._huge_pages,
            "network": self._network, "rdma": self._rdma, "unified": self._unified,
        }  # fmt: skip
        for section, value in resources.items():
            if section == "devices" or not value:
                continue
            if section not in sections:
                raise UnsupportedError(f"linux.resources.{section} is not known")
            sections[section](value)

    def _is_v1(self, controller: str) -> bool:
        """Note that `controller` is needed; whether it is on v1. UnsupportedError where it is missing."""
        hierarchy = self.face.hierarchy(controller)
        if controller not in self.controllers:
            self.controllers.append(controller)
        return hierarchy.version == 1

    def _set(self, controller: str, why: str, *choices: tuple[str, object]) -> None:
        directory = self.face.path(self.name, controller)
        self.steps.append(SetFile(directory, [(file, str(value)) for file, value in choices], why))

    def _memory(self, memory: dict[str, Any]) -> None:
        _only(memory, "memory", "limit swap reservation kernel kernelTCP swappiness disableOOMKiller useHierarchy checkBeforeUpdate")
        if memory.get("useHierarchy") is False:
            raise UnsupportedError("memory.useHierarchy cannot be false: the kernel counts all that is below a cgroup")
        if not any(value or name == "swappiness" for name, value in memory.items() if value is not None):
            return  # nothing is asked for, so nothing is missing where there is no controller
        v1 = self._is_v1("memory")
        limit, swap, reservation = (_amount(memory, name) for name in ("limit", "swap", "reservation"))
        if swap > 0 and limit <= 0:
            raise UsageError("memory.swap is memory and swap together and needs memory.limit")
        if 0 < swap < limit:
            raise UsageError(f"memory.swap {swap}, memory and swap together, is less than memory.limit {limit}")
        if swap > 0 and not self.face.limits_swap():
            raise UnsupportedError("swap cannot be limited: the memory controller's swap accounting is missing",
                                   "boot with swapaccount=1, or do not limit swap")  # fmt: skip
        if memory.get("checkBeforeUpdate") and not v1 and limit > 0:
            self.steps.append(CheckUsage(self.face.path(self.name, "memory"), limit))
        if v1 and (swap > 0 or (swap < 0 and limit and self.face.limits_swap())):
            self.steps.append(SetMemory(self.face.path(self.name, "memory"), limit, swap))
        elif limit:
            file = "memory.limit_in_bytes" if v1 else "memory.max"
            self._set("memory", "what needs more is killed", (file, limit if v1 else _or_max(limit)))
        if not v1 and (swap > 0 or (swap < 0 and self.face.limits_swap())):
            self._set("memory", "swap, besides memory", ("memory.swap.max", _or_max(swap_alone(swap, limit))))
        if reservation:
            file = "memory.soft_limit_in_bytes" if v1 else "memory.low"
            self._set("memory", "kept to when the host is short of memory", (file, reservation if v1 else _or_max(reservation)))
        swappiness = memory.get("swappiness")
        if swappiness is not None:
            self._only_on_v1(v1, "memory.swappiness")
            self._set("memory", "how readily it is swapped out", ("memory.swappiness", swappiness))
        if memory.get("disableOOMKiller"):
            self._only_on_v1(v1, "memory.disableOOMKiller")
            self._set("memory", "out of memory, it waits and is not killed", ("memory.oom_control", 1))
        for field, file in (("kernel", "memory.kmem.limit_in_bytes"), ("kernelTCP", "memory.kmem.tcp.limit_in_bytes")):
            amount = _amount(memory, field)
            if amount > 0:  # unlimited is what it is
                self._only_on_v1(v1, f"memory.{field}")
                self._set("memory", "memory that the kernel takes for it", (file, amount))

    def _cpu(self, cpu: dict[str, Any]) -> None:
        _only(cpu, "cpu", "shares quota period burst realtimeRuntime realtimePeriod idle cpus mems")
        shares, quota, period, burst = (_amount(cpu, name) for name in ("shares", "quota", "period", "burst"))
        idle = cpu.get("idle")
        if shares or quota or period or burst or idle is not None:
            if self._is_v1("cpu"):
                values = (("cpu.shares", shares), ("cpu.cfs_period_us", period), ("cpu.cfs_quota_us", quota), ("cpu.cfs_burst_us", burst))
            else:
                weight = weight_of_shares(shares) if shares else 0
                bandwidth = f"{_or_max(quota or _UNLIMITED)} {period or _DEFAULT_PERIOD}" if quota or period else ""
                values = (("cpu.weight", weight), ("cpu.max", bandwidth), ("cpu.max.burst", burst))  # type: ignore[assignment]
            reasons = {"cpu.shares": "its part when processors are short", "cpu.weight": "its part when processors are short"}
            for file, value in values:
                if value:
                    self._set("cpu", reasons.get(file, "how long it may run in each period"), (file, value))
            if idle is not None:
                self._set("cpu", "runs when nothing else wants to", ("cpu.idle", idle))
        for field, file in (("realtimePeriod", "cpu.rt_period_us"), ("realtimeRuntime", "cpu.rt_runtime_us")):
            if cpu.get(field):
                self._only_on_v1(self._is_v1("cpu"), f"cpu.{field}")
                self._set("cpu", "how long its realtime processes may run in each period", (file, cpu[field]))
        for field, why in (("cpus", "the processors it may run on"), ("mems", "the memory nodes it may use")):
            if cpu.get(field):
                self._is_v1("cpuset")
                self._set("cpuset", why, (f"cpuset.{field}", cpu[field]))

    def _pids(self, pids: dict[str, Any]) -> None:
        _only(pids, "pids", "limit")
        limit = _amount(pids, "limit")
        if limit:
            self._is_v1("pids")
            self._set("pids", "how many processes and threads it may have", ("pids.max", _or_max(limit)))

    def _block_io(self, block: dict[str, Any]) -> None:
        _only(block, "blockIO", "weight leafWeight weightDevice " + " ".join(_THROTTLES))
        if not any(block.values()):
            return
        v1 = self._is_v1("io")
        if block.get("weight"):
            self._weight(v1, "", block["weight"])
        if block.get("leafWeight"):
            self._leaf_weight(v1, "", block["leafWeight"])
        for entry in block.get("weightDevice") or []:
            _only(entry, "blockIO.weightDevice", "major minor weight leafWeight")
            device = f"{entry['major']}:{entry['minor']} "
            if entry.get("leafWeight"):
                self._leaf_weight(v1, device, entry["leafWeight"])
            if entry.get("weight") or not entry.get("leafWeight"):
                self._weight(v1, device, entry.get("weight"))
        for field, (file, key) in _THROTTLES.items():
            for entry in block.get(field) or []:
                device, rate = f"{entry['major']}:{entry['minor']}", entry["rate"]
                choice = (file, f"{device} {rate}") if v1 else ("io.max", f"{device} {key}={rate or 'max'}")
                self._set("io", "how fast it may use the disk", choice)

    def _weight(self, v1: bool, device: str, weight: object) -> None:
        if not isinstance(weight, int) or not 10 <= weight <= 1000:
            raise UsageError(f"blockIO: weight {weight} is not from 10 to 1000")
        why = "its part when the disk is busy"
        if v1:
            suffix = "_device" if device else ""
            self._set("io", why, *((f"{file}{suffix}", f"{device}{weight}") for file in ("blkio.weight", "blkio.bfq.weight")))
        else:
            self._set("io", why, ("io.bfq.weight", f"{device}{weight}"), ("io.weight", f"{device}{weight_of_blkio(weight)}"))

    def _leaf_weight(self, v1: bool, device: str, weight: int) -> None:
        self._only_on_v1(v1, "blockIO.leafWeight")
        suffix = "_device" if device else ""
        self._set("io", "its own part beside its children's", (f"blkio.leaf_weight{suffix}", f"{device}{weight}"))

    def _huge_pages(self, limits: list[dict[str, Any]]) -> None:
        file = "limit_in_bytes" if self._is_v1("hugetlb") else "max"
        for entry in limits:
            _only(entry, "hugepageLimits", "pageSize limit")
            size = str(entry["pageSize"])
            if size[-2:] not in ("KB", "MB", "GB") or not size[:-2].isdecimal():
                raise UsageError(f"hugepageLimits: page size `{size}` is not like 2MB")
            for kind in ("", "rsvd."):  # used, and reserved by mmap: with the first alone the program meets SIGBUS
                self._set("hugetlb", f"how much it may have in pages of {size}", (f"hugetlb.{size}.{kind}{file}", entry["limit"]))

    def _network(self, network: dict[str, Any]) -> None:
        _only(network, "network", "classID priorities")
        if network.get("classID"):
            self._only_on_v1(self._is_v1("net_cls"), "network.classID")
            self._set("net_cls", "the class of its packets", ("net_cls.classid", network["classID"]))
        for entry in network.get("priorities") or []:
            self._only_on_v1(self._is_v1("net_prio"), "network.priorities")
            self._set("net_prio", "the priority of its packets", ("net_prio.ifpriomap", f"{entry['name']} {entry['priority']}"))

    def _rdma(self, rdma: dict[str, dict[str, Any]]) -> None:
        self._is_v1("rdma")
        for device, entry in rdma.items():
            _only(entry, f"rdma.{device}", "hcaHandles hcaObjects")
            keys = (("hca_handle", "hcaHandles"), ("hca_object", "hcaObjects"))
            given = [f"{key}={entry[field]}" for key, field in keys if entry.get(field) is not None]
            self._set("rdma", "what it may hold of the RDMA device", ("rdma.max", " ".join([device, *given])))

    def _unified(self, files: dict[str, str]) -> None:
        """v2's files by their own names."""
        for file, value in files.items():
            controller = file.partition(".")[0]
            if "/" in file or not controller or controller == file:
                raise UsageError(f"unified: `{file}` is not the name of a cgroup v2 file")
            needed = "freezer" if controller == "cgroup" else controller  # the freezer stands for what every v2 cgroup has
            if self._is_v1(needed):
                raise UnsupportedError(f"unified.{file}: the {controller} controller is missing on cgroup v2 here")
            self._set(needed, "as the configuration says", (file, value))

    def _only_on_v1(self, v1: bool, field: str) -> None:
        if not v1:
            raise UnsupportedError(f"{field} exists on cgroup v1 only")


def _only(section: dict[str, Any], name: str, fields: str) -> None:
    known = fields.split(" ")
    for field, value in section.items():
        if field not in known and value:
            raise UnsupportedError(f"linux.resources.{name}.{field} cannot be set")


def _amount(section: dict[str, Any], name: str) -> int:
    """A number, 0 for none, -1 for unlimited."""
    value = section.get(name) or 0
    if not isinstance(value, int) or value < _UNLIMITED:
        raise UsageError(f"linux.resources: {name} {value!r} is neither an amount nor -1, unlimited")
    return value


def _or_max(amount: int) -> str:
    return "max" if amount == _UNLIMITED else str(amount)


class SetFile(Step):
    """Write the value of the first of `choices`, (file, value), that exists in the cgroup's `directory`."""

    title = CGROUP

    def __init__(self, directory: str, choices: list[tuple[str, str]], why: str) -> None:
        self.directory = directory
        self.choices = choices
        self.why = why

    def shell(self) -> str:
        *first, last = (f"echo {quote(value)} > {quote(f'{self.directory}/{file}')}" for file, value in self.choices)
        tests = [f"if [ -e {quote(f'{self.directory}/{file}')} ]; then {command}; else " for (file, _), command in zip(self.choices, first)]  # noqa: B905
        return "".join(tests) + last + "; fi" * len(tests)

    def describe(self) -> str:
        file, value = self.choices[0]
        return f"set {file} to {value}"

    def apply(self, at: At) -> None:
        for file, value in self.choices:
            try:
                for line in value.splitlines():  # v2's nested keyed files take one line a write
                    write(f"{self.directory}/{file}", line)
                return
            except KernelError as error:
                if error.errno != errno.ENOENT:
                    raise
        missing = " or ".join(file for file, _ in self.choices)
        raise UnsupportedError(f"{self.describe()}: this kernel has no {missing}")


class CheckUsage(Step):
    """v1 refuses a limit below what is used; v2 kills. `checkBeforeUpdate` asks for v1's way."""

    title = CGROUP
    why = "a limit below what it uses now would kill it"

    def __init__(self, directory: str, limit: int) -> None:
        self.file = f"{directory}/memory.current"
        self.limit = limit

    def shell(self) -> str:
        return f'[ "$(cat {quote(self.file)})" -le {self.limit} ]'

    def describe(self) -> str:
        return f"limit memory to {self.limit}"

    def apply(self, at: At) -> None:
        used = int(read(self.file))
        if used > self.limit:
            raise UsageError(f"{self.describe()}: {used} are in use, and memory.checkBeforeUpdate is set")


class SetMemory(Step):
    """v1's limit of memory, and that of memory and swap together, which may at no moment be the lower one (EINVAL)."""

    title = CGROUP
    why = "what needs more is killed: memory, and memory and swap together"

    def __init__(self, directory: str, limit: int, with_swap: int) -> None:
        self.directory = directory
        self.writes = [("memory.limit_in_bytes", limit), ("memory.memsw.limit_in_bytes", with_swap)]

    def shell(self) -> str:
        return "\n".join(f"echo {value} > {quote(f'{self.directory}/{file}')}" for file, value in self.writes)

    def apply(self, at: At) -> None:
        limit = self.writes[0][1]
        rises = limit == _UNLIMITED or limit > int(read(f"{self.directory}/memory.memsw.limit_in_bytes"))
        for file, value in reversed(self.writes) if rises else self.writes:
            write(f"{self.directory}/{file}", str(value))
