"""What a container uses, in the words of `runc events` (its types/events.go), which containerd's shim and cAdvisor read; v1 and v2 alike.

A section is there where its controller is; a file that this kernel lacks is left out.
"""

from __future__ import annotations

import errno
import os

from minidocker.errors import KernelError
from minidocker.kernel.cgroupfs import keyed, read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minidocker.kernel.cgroups import Face

_TICK_NS = 10_000_000  # USER_HZ is 100 on every architecture Linux has now
_UNLIMITED = (1 << 64) - 1
_BLKIO = {"ioServiceBytesRecursive": "io_service_bytes", "ioServicedRecursive": "io_serviced"}
_IO_STAT = {"rbytes": ("ioServiceBytesRecursive", "Read"), "wbytes": ("ioServiceBytesRecursive", "Write"),
            "rios": ("ioServicedRecursive", "Read"), "wios": ("ioServicedRecursive", "Write")}  # fmt: skip


def collect(face: Face, name: str) -> dict[str, Any]:
    """The statistics of cgroup `name`; times in nanoseconds, memory in bytes, no limit as 2^64-1."""
    found: dict[str, Any] = {}
    sections: tuple[tuple[str, str, Callable[[str, int], Any]], ...] = (
        ("cpu", "cpuacct", _cpu), ("memory", "memory", _memory), ("pids", "pids", _pids), ("blkio", "io", _block_io),
        ("hugetlb", "hugetlb", _huge_pages),
    )  # fmt: skip
    for section, controller, reader in sections:
        hierarchy = face.of.get(controller)
        if hierarchy is not None and os.path.isdir(hierarchy.path(name)):
            found[section] = reader(hierarchy.path(name), hierarchy.version)
    cpu = face.of.get("cpu")
    if cpu is not None and "cpu" in found and os.path.isdir(cpu.path(name)):
        found["cpu"]["throttling"] = _throttling(cpu.path(name), cpu.version)
    return found


def _cpu(directory: str, version: int) -> dict[str, Any]:
    if version == 2:
        stat = keyed(f"{directory}/cpu.stat")
        usage = {key: stat.get(f"{word}_usec", 0) * 1000 for key, word in (("total", "usage"), ("kernel", "system"), ("user", "user"))}
        return {"usage": usage}
    ticks = keyed(f"{directory}/cpuacct.stat")
    percpu = [int(word) for word in read(f"{directory}/cpuacct.usage_percpu").split()]
    return {
        "usage": {
            "total": int(read(f"{directory}/cpuacct.usage")),
            "percpu": percpu,
            "kernel": ticks.get("system", 0) * _TICK_NS,
            "user": ticks.get("user", 0) * _TICK_NS,
        }
    }


def _throttling(directory: str, version: int) -> dict[str, int]:
    stat = keyed(f"{directory}/cpu.stat")
    time = stat.get("throttled_usec", 0) * 1000 if version == 2 else stat.get("throttled_time", 0)
    return {"periods": stat.get("nr_periods", 0), "throttledPeriods": stat.get("nr_throttled", 0), "throttledTime": time}


def _memory(directory: str, version: int) -> dict[str, Any]:
    raw = keyed(f"{directory}/memory.stat")
    if version == 2:
        usage = {"usage": _number(f"{directory}/memory.current"), "limit": _number(f"{directory}/memory.max"),
                 "max": _number(f"{directory}/memory.peak"), "failcnt": keyed(f"{directory}/memory.events").get("max", 0)}  # fmt: skip
        swap = {"usage": _number(f"{directory}/memory.swap.current"), "limit": _number(f"{directory}/memory.swap.max")}
        return {"cache": raw.get("file", 0), "usage": _present(usage), "swap": _present(swap), "raw": raw}
    kinds = {"usage": "", "swap": "memsw.", "kernel": "kmem.", "kernelTCP": "kmem.tcp."}
    files = {"usage": "usage_in_bytes", "max": "max_usage_in_bytes", "limit": "limit_in_bytes", "failcnt": "failcnt"}
    found: dict[str, Any] = {"cache": raw.get("cache", 0), "raw": raw}
    for kind, prefix in kinds.items():
        found[kind] = _present({key: _number(f"{directory}/memory.{prefix}{file}") for key, file in files.items()})
    return found


def _pids(directory: str, version: int) -> dict[str, int]:
    limit = _number(f"{directory}/pids.max")
    return {"current": int(read(f"{directory}/pids.current")), "limit": 0 if limit in (None, _UNLIMITED) else int(limit or 0)}


def _block_io(directory: str, version: int) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {key: [] for key in _BLKIO}
    if version == 2:
        for line in read(f"{directory}/io.stat").splitlines():
            device, *pairs = line.split()
            for key, _, value in (pair.partition("=") for pair in pairs):
                if key in _IO_STAT:
                    kind, operation = _IO_STAT[key]
                    found[kind].append(_entry(device, operation, int(value)))
        return found
    for kind, file in _BLKIO.items():
        text = _text(f"{directory}/blkio.bfq.{file}_recursive") or _text(f"{directory}/blkio.throttle.{file}_recursive")
        for line in (text or "").splitlines():
            words = line.split()
            if len(words) == 3:  # the last line is a total
                found[kind].append(_entry(words[0], words[1], int(words[2])))
    return found


def _entry(device: str, operation: str, value: int) -> dict[str, Any]:
    major, _, minor = device.partition(":")
    return {"major": int(major), "minor": int(minor), "op": operation, "value": value}


def _huge_pages(directory: str, version: int) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    suffix = "current" if version == 2 else "usage_in_bytes"
    for file in sorted(os.listdir(directory)):
        parts = file.split(".", 2)
        if parts[0] == "hugetlb" and parts[2:] == [suffix]:
            base = f"{directory}/hugetlb.{parts[1]}"
            found[parts[1]] = _present(
                {
                    "usage": _number(f"{base}.{suffix}"),
                    "max": None if version == 2 else _number(f"{base}.max_usage_in_bytes"),
                    "failcnt": keyed(f"{base}.events").get("max", 0) if version == 2 else _number(f"{base}.failcnt"),
                }
            )
    return found


def _present(values: dict[str, int | None]) -> dict[str, int]:
    return {key: value for key, value in values.items() if value is not None}


def _number(path: str) -> int | None:
    """A file that holds one number, or `max`; None where there is no such file."""
    text = _text(path)
    if text is None:
        return None
    return _UNLIMITED if text.strip() == "max" else int(text)


def _text(path: str) -> str | None:
    try:
        return read(path)
    except KernelError as error:
        if error.errno in (errno.ENOENT, errno.EOPNOTSUPP):  # EOPNOTSUPP: swap or kernel memory is not counted
            return None
        raise
