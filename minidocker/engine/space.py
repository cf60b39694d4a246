"""What containers take of the disk, and giving back what nobody uses: system df, container prune, system prune."""

from __future__ import annotations

import os

from minidocker.engine import lifecycle, reconcile, volumes
from minidocker.engine.host import Host
from minidocker.errors import NotFoundError, StateError
from minidocker.storage import containers, usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minidocker.storage.containers import Record


def df(host: Host) -> list[dict[str, Any]]:
    """A record for each kind of thing: Type, TotalCount, Active (how many are in use), Size and Reclaimable in bytes.

    A container's layer is what it has written and what was made for it; a log is a row of its own, as it may be most of it. The cache is
    shared by all containers and made anew when it is missing: it is nothing that prune gives back.
    """
    reconcile.look(host)
    layers, logs = _kind("Containers"), _kind("Logs")
    for record in containers.every(host.state):
        whole, log = size_of(host, record.id)
        _count(layers, whole - log, record)
        _count(logs, log, record)
    kept = _kind("Volumes")
    for _, size, having in volumes.sizes(host):
        kept["TotalCount"] += 1
        kept["Active"] += bool(having)
        kept["Size"] += size
        kept["Reclaimable"] += 0 if having else size
    cache = _kind("Cache")
    cache["Size"] = sum(usage.bytes_below(f"{host.root}/{name}") for name in ("cache", "hostview"))
    return [layers, logs, kept, cache]


def _kind(name: str) -> dict[str, Any]:
    return {"Type": name, "TotalCount": 0, "Active": 0, "Size": 0, "Reclaimable": 0}


def _count(kind: dict[str, Any], size: int, record: Record) -> None:
    in_use = not _is_over(record)
    kind["TotalCount"] += 1
    kind["Active"] += in_use
    kind["Size"] += size
    kind["Reclaimable"] += 0 if in_use else size


def _is_over(record: Record) -> bool:
    return record.status in containers.AT_REST


def size_of(host: Host, id: str) -> tuple[int, int]:
    """Bytes on disk of all that a container has, and of its log alone."""
    directory, log = host.data_directory(id), os.path.basename(host.log_file(id))
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return 0, 0  # it has just been removed
    logs = [name for name in names if name == log or name.startswith(log + ".")]
    return usage.bytes_below(directory), sum(usage.bytes_below(f"{directory}/{name}") for name in logs)


def prune(
    host: Host, wanted: Callable[[Record], bool] = lambda record: True, begun: Callable[[str], None] = lambda name: None
) -> tuple[list[str], int]:
    """Remove every container that has ended, or was never started, and is `wanted`: their ids, and the bytes that became free. `begun` is
    told each one's name."""
    reconcile.sweep(host)
    removed: list[str] = []
    free = 0
    for record in containers.every(host.state):
        if not _is_over(record) or not wanted(record):
            continue
        begun(record.name)
        size, _ = size_of(host, record.id)
        try:
            lifecycle.remove(host, record.id, force=False)
        except (NotFoundError, StateError):
            continue  # somebody else has removed it, or started it again, since we looked
        removed.append(record.id)
        free += size
    return removed, free


def filtered(labels: list[str], until: float | None) -> Callable[[Record], bool]:
    """What `prune` is to take: made before `until` (seconds since the epoch), and with every one of the labels KEY or KEY=VALUE."""

    def wanted(record: Record) -> bool:
        if until is not None and record.created >= until:
            return False
        own = record.request.labels
        pairs = (label.partition("=") for label in labels)
        return all(key in own and (not equals or own[key] == value) for key, equals, value in pairs)

    return wanted
