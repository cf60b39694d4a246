"""top: a container's processes, those of its execs too, as the host's ps(1) has them, which needs nothing in the container."""

from __future__ import annotations

from minidocker.engine import reconcile
from minidocker.engine.host import Host
from minidocker.errors import StateError
from minidocker.kernel import procps
from minidocker.storage import containers


def top(host: Host, reference: str, words: list[str]) -> str:
    """Lines under their headings. `words` are names of ps's columns, or options of ps (none: -ef); pids are the host's. Raises StateError
    when it does not run."""
    reconcile.look(host)
    record = containers.find(host.state, reference)
    if record.status != containers.RUNNING:
        raise StateError(f"container `{record.name}` is not running", f"it is {record.status}")
    pids = host.face.pids(host.place(record.id, record.request).name)
    names = [name.lower() for word in words for name in word.split(",")]
    if names and procps.COLUMNS.issuperset(names):
        return procps.columns(pids, names)
    return procps.options(pids, words or ["-ef"])
