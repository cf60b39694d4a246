"""OCI `linux.resources` (config-linux.md, "Control groups"), checked; which file takes which is runtime/limits.py's. See oci_shape.py.

What is left of a section is what was asked for: a controller is needed by that alone, and one that is missing is missed by nobody else.
So absent, null and what only could mean "none" (false, an empty list, memory limits of 0) are gone afterwards.
"""

from __future__ import annotations

from minidocker.spec.oci_shape import INT64, UINT32, UINT64, Fields, Place, processors, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_AMOUNT = (-1, INT64[1])  # -1 is unlimited
_NUMBERS = {"major": (1 << 12) - 1, "minor": (1 << 20) - 1}  # MINORBITS, linux/kdev_t.h
_WEIGHT = (10, 1000)


def section(place: Place, value: Any) -> dict[str, Any]:
    resources = place.object(value)
    resources.list("devices", _rule)
    for key, read in (
        ("memory", _memory), ("cpu", _cpu), ("pids", _pids), ("blockIO", _block_io), ("network", _network), ("rdma", _rdma),
    ):  # fmt: skip
        resources.take(key, read)
    resources.list("hugepageLimits", _huge_pages)
    resources.take("unified", _unified)
    return {key: read for key, read in resources.taken.items() if read}


def _asked(fields: Fields) -> dict[str, Any]:
    return {key: value for key, value in fields.taken.items() if value is not False and value != []}


def _rule(place: Place, value: Any) -> dict[str, Any]:
    rule = place.object(value)
    rule.boolean("allow", required=True)
    if rule.given.get("type") != "":
        rule.word("type", ("a", "b", "c"), "type of device")
    for key, most in _NUMBERS.items():
        rule.integer(key, (-1, most))  # -1: any, as older engines write it
    access = rule.string("access")
    if access and set(access) - set("rwm"):
        raise place.of("access").wrong(f"{shown(access)} is not made of r, w and m")
    return rule.taken


def _memory(place: Place, value: Any) -> dict[str, Any]:
    memory = place.object(value)
    for key in ("limit", "reservation", "swap", "kernel", "kernelTCP"):
        if memory.integer(key, _AMOUNT) == 0:
            memory.taken.pop(key)
    memory.integer("swappiness", (0, 100))
    for key in ("disableOOMKiller", "useHierarchy", "checkBeforeUpdate"):
        memory.boolean(key)
    limit, swap = memory.taken.get("limit", 0), memory.taken.get("swap", 0)
    if swap > 0 and limit <= 0:
        raise place.of("swap").wrong(f"{swap}: it is memory and swap together, and there is no limit of memory", "say limit too")
    if 0 < swap < limit:
        raise place.of("swap").wrong(f"{swap}, memory and swap together, is below limit {limit}")
    if memory.taken.get("useHierarchy") is False:
        raise place.of("useHierarchy").wrong("false: the kernel counts all that is below a cgroup")
    memory.taken.pop("useHierarchy", None)
    if not limit:
        memory.taken.pop("checkBeforeUpdate", None)
    return _asked(memory)


def _cpu(place: Place, value: Any) -> dict[str, Any]:
    cpu = place.object(value)
    for key, bounds in (
        ("shares", UINT64), ("quota", _AMOUNT), ("burst", UINT64), ("period", UINT64), ("realtimeRuntime", INT64),
        ("realtimePeriod", UINT64),
    ):  # fmt: skip
        if cpu.integer(key, bounds) == 0 and key != "realtimeRuntime":
            cpu.taken.pop(key)
    quota, burst = cpu.taken.get("quota", 0), cpu.taken.get("burst", 0)
    if 0 < quota < burst:
        raise place.of("burst").wrong(f"{burst} is above quota {quota}")
    cpu.integer("idle", (0, 1))
    for key in ("cpus", "mems"):
        if cpu.given.get(key) != "":
            cpu.take(key, processors)
    return _asked(cpu)


def _pids(place: Place, value: Any) -> dict[str, Any]:
    pids = place.object(value)
    limit = pids.integer("limit", INT64)
    return {"limit": limit if limit > 0 else -1} if limit else {}  # a negative one is unlimited: docker's --pids-limit=-1


def _block_io(place: Place, value: Any) -> dict[str, Any]:
    block = place.object(value)
    for key in ("weight", "leafWeight"):
        if block.given.get(key) != 0:
            block.integer(key, _WEIGHT)
    block.list("weightDevice", _weight_device)
    for kind in ("ReadBps", "WriteBps", "ReadIOPS", "WriteIOPS"):
        block.list(f"throttle{kind}Device", _throttle)
    return _asked(block)


def _weight_device(place: Place, value: Any) -> dict[str, int]:
    device = _disk(place, value)
    for key in ("weight", "leafWeight"):
        device.integer(key, _WEIGHT)
    if not {"weight", "leafWeight"} & set(device.taken):
        raise place.wrong("neither weight nor leafWeight is there: one is required")
    return device.taken


def _throttle(place: Place, value: Any) -> dict[str, int]:
    device = _disk(place, value)
    device.integer("rate", UINT64, required=True)
    return device.taken


def _disk(place: Place, value: Any) -> Fields:
    device = place.object(value)
    for key, most in _NUMBERS.items():
        device.integer(key, (0, most), required=True)
    return device


def _huge_pages(place: Place, value: Any) -> dict[str, Any]:
    entry = place.object(value)
    size = entry.string("pageSize", required=True)
    if size[-2:] not in ("KB", "MB", "GB") or not size[:-2].isdecimal() or not size.isascii() or size[0] == "0":
        raise place.of("pageSize").wrong(f"{shown(size)} is no size of pages", "as in 2MB")
    entry.integer("limit", UINT64, required=True)
    return entry.taken


def _network(place: Place, value: Any) -> dict[str, Any]:
    network = place.object(value)
    if network.integer("classID", UINT32) == 0:
        network.taken.pop("classID")
    network.list("priorities", _priority)
    return _asked(network)


def _priority(place: Place, value: Any) -> dict[str, Any]:
    entry = place.object(value)
    name = entry.string("name", required=True)
    if not name or any(c.isspace() for c in name):
        raise place.of("name").wrong(f"{shown(name)} is no interface's name")
    entry.integer("priority", UINT32, required=True)
    return entry.taken


def _rdma(place: Place, value: Any) -> dict[str, Any]:
    rdma = place.object(value)
    for device in rdma.given:
        if not device or any(c.isspace() or c == "=" for c in device):
            raise place.of(device).wrong(f"{shown(device)} is no device's name")
        rdma.take(device, _rdma_device)
    return rdma.taken


def _rdma_device(place: Place, value: Any) -> dict[str, int]:
    device = place.object(value)
    for key in ("hcaHandles", "hcaObjects"):
        device.integer(key, UINT32)
    if not device.taken:
        raise place.wrong("neither hcaHandles nor hcaObjects is there: one is required")
    return device.taken


def _unified(place: Place, value: Any) -> dict[str, str]:
    files = place.texts(value)
    for name in files:
        controller, dot, rest = name.partition(".")
        if "/" in name or not controller or not dot or not rest:
            raise place.of(name).wrong(f"{shown(name)} is not the name of a cgroup v2 file", "as in memory.high")
    return files
