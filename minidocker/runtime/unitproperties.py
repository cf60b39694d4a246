"""OCI `linux.resources` as properties of a systemd unit (systemd.resource-control(5), org.freedesktop.systemd1(5)). Pure.

What a property says is systemd's to keep: it writes the cgroup's files by it, again whenever it is reloaded. What none says (huge pages,
RDMA, bursts, most of `unified`) is written by us alone, which the unit's Delegate=yes allows; see scope.py.
"""

from __future__ import annotations

from minidocker.kernel import devices
from minidocker.runtime.limits import swap_alone, weight_of_blkio, weight_of_shares

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minidocker.kernel.systemd import Property

INFINITY = (1 << 64) - 1
_PERIOD = 100_000  # microseconds, when a quota comes without one
# systemd keeps a quota as a whole percentage, and forgets the rest when it is reloaded: of a second's microseconds, 1 % is this many.
_PERCENT = 10_000
_THROTTLES = {
    "throttleReadBpsDevice": "IOReadBandwidthMax", "throttleWriteBpsDevice": "IOWriteBandwidthMax",
    "throttleReadIOPSDevice": "IOReadIOPSMax", "throttleWriteIOPSDevice": "IOWriteIOPSMax",
}  # fmt: skip
_UNIFIED = {  # v2's file: property
    "memory.min": "MemoryMin", "memory.low": "MemoryLow", "memory.high": "MemoryHigh", "memory.max": "MemoryMax",
    "memory.swap.max": "MemorySwapMax", "pids.max": "TasksMax", "cpu.weight": "CPUWeight",
}  # fmt: skip
_UNIFIED_SETS = {"cpuset.cpus": "AllowedCPUs", "cpuset.mems": "AllowedMemoryNodes"}


def of_resources(resources: dict[str, Any]) -> list[Property]:
    """The properties for all of `linux.resources` but its devices; checked already (see `limits`)."""
    memory, cpu, block = (resources.get(section) or {} for section in ("memory", "cpu", "blockIO"))
    found: list[Property] = []
    limit, swap = memory.get("limit") or 0, memory.get("swap") or 0
    for name, amount in (
        ("MemoryMax", limit),
        ("MemoryLow", memory.get("reservation") or 0),
        ("CPUWeight", weight_of_shares(cpu["shares"]) if cpu.get("shares") else 0),
        ("TasksMax", (resources.get("pids") or {}).get("limit") or 0),
    ):
        if amount:
            found.append((name, "t", _or_infinity(amount)))
    if swap:
        found.append(("MemorySwapMax", "t", _or_infinity(swap_alone(swap, limit))))
    if cpu.get("quota") or cpu.get("period"):
        found += _bandwidth(cpu.get("quota") or -1, cpu.get("period") or 0)
    for field, name in (("cpus", "AllowedCPUs"), ("mems", "AllowedMemoryNodes")):
        if cpu.get(field):
            found.append((name, "ay", mask(cpu[field])))
    found += _block(block)
    for file, value in (resources.get("unified") or {}).items():
        found += _of_file(file, value.strip())
    return found


def _or_infinity(amount: int) -> int:
    return INFINITY if amount < 0 else amount


def _bandwidth(quota: int, period: int) -> list[Property]:
    """Microseconds in each `period` microseconds as what it comes to in a second, rounded up to a whole percentage."""
    per_second = INFINITY
    if quota > 0:
        per_second = -(-quota * 1_000_000 // (period or _PERIOD))
        per_second += -per_second % _PERCENT
    found: list[Property] = [("CPUQuotaPerSecUSec", "t", per_second)]
    return [*found, ("CPUQuotaPeriodUSec", "t", period)] if period else found


def mask(numbers: str) -> bytes:
    """A list as cpuset(7) has it, "0-2,4", as a bit mask, the lowest eight in the first byte. ValueError for what is none."""
    bits = 0
    for part in numbers.split(","):
        low, _, high = part.strip().partition("-")
        for number in range(int(low), int(high or low) + 1):
            bits |= 1 << number
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")


def _block(block: dict[str, Any]) -> list[Property]:
    found: list[Property] = []
    if block.get("weight"):
        found.append(("IOWeight", "t", weight_of_blkio(block["weight"])))
    weights = [(_node(entry), weight_of_blkio(entry["weight"])) for entry in block.get("weightDevice") or []]
    if weights:
        found.append(("IODeviceWeight", "a(st)", weights))
    for field, name in _THROTTLES.items():
        if block.get(field):
            found.append((name, "a(st)", [(_node(entry), entry["rate"] or INFINITY) for entry in block[field]]))
    return found


def _node(entry: dict[str, Any]) -> str:
    """The block device in a form that systemd takes without looking it up."""
    return f"/dev/block/{entry['major']}:{entry['minor']}"


def _of_file(file: str, value: str) -> list[Property]:
    """One of `unified`; nothing where no property says it, nor for a value of a form that only the kernel can judge."""
    try:
        if file in _UNIFIED:
            return [(_UNIFIED[file], "t", INFINITY if value == "max" else _whole(value))]
        if file in _UNIFIED_SETS:
            return [(_UNIFIED_SETS[file], "ay", mask(value))]
        if file == "cpu.max":
            quota, _, period = value.partition(" ")
            return _bandwidth(-1 if quota == "max" else _whole(quota), _whole(period or "0"))
    except ValueError:
        pass
    return []


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) > INFINITY:
        raise ValueError(text)
    return int(text)


_LEFT_TO_US: list[Property] = [("DevicePolicy", "s", "auto"), ("DeviceAllow", "a(ss)", [])]


def of_devices(rules: list[devices.Rule]) -> list[Property]:
    """DevicePolicy and DeviceAllow, which can only allow: rules that deny part of what they allowed before are left to our own program,
    which guards the cgroup besides systemd's; a device is open only where both let it pass."""
    allowed: list[devices.Rule] = []
    for rule in rules:
        if rule.allow and rule.major < 0 <= rule.minor:
            return _LEFT_TO_US
        if rule.allow:
            allowed.append(rule)
        elif rule.is_every_device and rule.access == devices.FULL:
            allowed = [one for one in allowed if one.type != rule.type]
        else:
            return _LEFT_TO_US
    if {one.type for one in allowed if one.is_every_device and one.access == devices.FULL} == {"b", "c"}:
        return _LEFT_TO_US
    said = [(_device(rule), str(rule).rpartition(" ")[2]) for rule in allowed]
    return [("DevicePolicy", "s", "strict"), ("DeviceAllow", "a(ss)", list(dict.fromkeys(said)))]


def _device(rule: devices.Rule) -> str:
    """As DeviceAllow takes it: a node by its numbers, or all of one major number by that."""
    kind = "char" if rule.type == "c" else "block"
    if rule.minor >= 0:
        return f"/dev/{kind}/{rule.major}:{rule.minor}"
    return f"{kind}-{'*' if rule.major < 0 else rule.major}"


def said(properties: list[Property]) -> list[str]:
    """The properties as `systemd-run -p` takes them: ["MemoryMax=1024", "DeviceAllow=/dev/char/1:3 rwm"]."""
    words: list[str] = []
    for name, kind, value in properties:
        if kind.startswith("a("):
            words += [f"{name}={key} {_text('t' if kind == 'a(st)' else 's', amount)}" for key, amount in value]
        elif name == "CPUQuotaPerSecUSec":
            words.append("CPUQuota=" + ("" if value == INFINITY else f"{value // _PERCENT}%"))
        elif name.endswith("USec"):
            words.append(f"{name.removesuffix('USec')}Sec={value}us")
        else:
            words.append(f"{name}={_text(kind, value)}")
    return words


def _text(kind: str, value: Any) -> str:
    if kind == "b":
        return "yes" if value else "no"
    if kind == "ay":
        return ",".join(str(number) for number in range(len(value) * 8) if value[number // 8] >> number % 8 & 1)
    return "infinity" if value == INFINITY else str(value)
