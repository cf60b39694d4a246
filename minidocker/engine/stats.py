"""stats: what containers use now, from two looks at each a moment apart: cgroup files of v1 or v2, and the counters of its interfaces."""

from __future__ import annotations

import errno
import os
import time

from minidocker.engine import reconcile
from minidocker.engine.host import Host
from minidocker.errors import KernelError
from minidocker.runtime import stats
from minidocker.storage import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from minidocker.storage.containers import Record

INTERVAL = 1.0  # seconds between two looks
_GONE = (errno.ENOENT, errno.ENODEV, errno.ESRCH)  # ENODEV: a cgroup that was removed while its file was open


class Sample:
    """One look at a running container: `at` on the monotonic clock, `used` as runtime/stats.py has it, `pressure` as the kernel has it
    (None without cgroup v2), `network` bytes (received, sent), None where the interfaces are not its own."""

    __slots__ = ("at", "network", "pressure", "used")

    def __init__(self, host: Host, record: Record) -> None:
        place = host.place(record.id, record.request)
        self.at = time.monotonic()
        self.used: dict[str, Any] = stats.collect(host.face, place.name)
        self.pressure = host.face.pressure(place.name)
        own = record.request.mode != "host" and not record.request.mode.startswith("container:")
        self.network = _network(record.pid) if own else None


def _network(pid: int) -> tuple[int, int]:
    """Bytes that the interfaces of the process's network namespace have received and sent, loopback's aside (proc_pid_net(5))."""
    with open(f"/proc/{pid}/net/dev", "rb", buffering=0) as file:
        lines = file.read().decode().splitlines()[2:]
    received = sent = 0
    for line in lines:
        name, _, numbers = line.partition(":")
        if name.strip() != "lo":
            counters = numbers.split()
            received, sent = received + int(counters[0]), sent + int(counters[8])
    return received, sent


def look(host: Host, record: Record) -> Sample | None:
    """None when it does not run, or has just ended."""
    if record.status != containers.RUNNING:
        return None
    try:
        return Sample(host, record)
    except FileNotFoundError:
        return None
    except KernelError as error:
        if error.errno in _GONE:
            return None
        raise


def watch(host: Host, references: list[str], every: bool) -> Iterator[list[dict[str, object]]]:
    """What the named containers, or those that run (`every`: all), use: one list an INTERVAL, without end. What does not run has None for
    each number. NotFoundError, before the first list."""
    reconcile.look(host)
    ids = [containers.find(host.state, reference).id for reference in references]
    before: dict[str, Sample | None] = {record.id: look(host, record) for record in _chosen(host, ids, every)}
    while True:
        time.sleep(INTERVAL)
        chosen = _chosen(host, ids, every)
        now = {record.id: look(host, record) for record in chosen}
        yield [document(record, before.get(record.id), now[record.id]) for record in chosen if now[record.id] or ids or every]
        before = now


def _chosen(host: Host, ids: list[str], every: bool) -> list[Record]:
    if ids:
        return [record for id in ids if (record := containers.get(host.state, id)) is not None]
    return [record for record in containers.every(host.state) if every or record.status == containers.RUNNING]


def document(record: Record, before: Sample | None, now: Sample | None) -> dict[str, object]:
    """One container as numbers: CPU in percent of one processor, the rest in bytes; None for what nobody counts here."""
    if now is None:
        return {"ID": record.id, "Name": record.name, **dict.fromkeys(("CPU", "Memory", "Network", "Block", "Pids", "Pressure"))}
    memory, pids, blocks = now.used.get("memory"), now.used.get("pids"), now.used.get("blkio")
    return {
        "ID": record.id,
        "Name": record.name,
        "CPU": _cpu(before, now),
        "Memory": None if memory is None else _memory(memory),
        "Network": None if now.network is None else {"Received": now.network[0], "Sent": now.network[1]},
        "Block": None if blocks is None else {"Read": _sum(blocks, "Read"), "Written": _sum(blocks, "Write")},
        "Pids": None if pids is None else {"Current": pids["current"], "Limit": pids["limit"] or None},
        "Pressure": now.pressure,
    }


def _cpu(before: Sample | None, now: Sample) -> float | None:
    if "cpu" not in now.used:
        return None
    if before is None or "cpu" not in before.used:
        return 0.0
    used = now.used["cpu"]["usage"]["total"] - before.used["cpu"]["usage"]["total"]
    return float(max(0, used)) / 1e7 / (now.at - before.at)


def _memory(memory: dict[str, Any]) -> dict[str, int]:
    """As docker and free(1) count: without the file cache that nobody has touched of late, which the kernel gives up first."""
    raw, usage = memory["raw"], memory["usage"].get("usage", 0)
    idle = raw.get("total_inactive_file", raw.get("inactive_file", 0))
    return {"Usage": usage - idle if idle < usage else usage, "Limit": min(memory["usage"].get("limit", 1 << 64), total_memory())}


def total_memory() -> int:
    """Of this host, bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _sum(blocks: dict[str, list[dict[str, Any]]], operation: str) -> int:
    return sum(int(entry["value"]) for entry in blocks["ioServiceBytesRecursive"] if entry["op"] == operation)
