"""`container prune`, `system df` and `system prune`: what is taken of the disk, and what nobody uses given back."""

from __future__ import annotations

import os
import time

from minidocker.cli import output
from minidocker.cli.stats import DECIMAL, size
from minidocker.cli.table import Column, View
from minidocker.errors import UsageError
from minidocker.spec.parse import refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minidocker.cli.call import Call
    from minidocker.engine.host import Host
    from minidocker.storage.containers import Record

_COLUMNS = [
    Column("TYPE", "Type"),
    Column("TOTAL", "TotalCount", cut=False),
    Column("ACTIVE", "Active", cut=False),
    Column("SIZE", "Size", cut=False),
    Column("RECLAIMABLE", "Reclaimable", cut=False),
]


def confirmed(call: Call, what: str) -> bool:
    """Whether -f was given or the user says yes; without a terminal there is nobody to ask. Raises UsageError there."""
    if call.flag("force"):
        return True
    if not os.isatty(0):
        raise UsageError(f"{what} Without a terminal there is nobody to ask", "-f does it without asking")
    os.write(2, f"{what} Go on? [y/N] ".encode())
    return os.read(0, 64).strip().lower() in (b"y", b"yes")


def df(call: Call) -> int:
    """`system df`"""
    view = View(_COLUMNS, call.text("format"), False, truncate=True)
    host = call.host()
    from minidocker.engine import space

    def row(record: dict[str, Any]) -> dict[str, str]:
        free, all = record["Reclaimable"], record["Size"]
        share = f" ({100 * free // all}%)" if all else ""
        return {
            "Type": record["Type"], "TotalCount": str(record["TotalCount"]), "Active": str(record["Active"]),
            "Size": in_words(all), "Reclaimable": in_words(free) + share,
        }  # fmt: skip

    view.print(space.df(host), row)
    return 0


def prune_containers(call: Call) -> int:
    """`container prune`: the ids of those that are gone, and what became free."""
    wanted = _filter(call)
    if not confirmed(call, "This removes every container that has ended."):
        return 0
    host = call.host()
    removed, free = _prune(host, wanted)
    _say("Deleted Containers", removed)
    output.say(f"Total reclaimed space: {in_words(free)}")
    return 0


def prune(call: Call) -> int:
    """`system prune`: containers that have ended, then networks that no container is in, and with --volumes what they kept files in."""
    wanted = _filter(call)
    volumes_too = call.flag("volumes")
    if volumes_too and call.list("filter"):
        raise UsageError("--volumes and --filter contradict each other: a filter says which containers go, and nothing else then does",
                         "minidocker volume prune has a filter of its own")  # fmt: skip
    what = "every container that has ended, every network that no container uses, and every anonymous volume that none has"
    if not volumes_too:
        what = "every container that has ended and every network that no container uses"
    if not confirmed(call, f"This removes {what}."):
        return 0
    host = call.host()
    from minidocker.engine import networks

    removed, free = _prune(host, wanted)
    _say("Deleted Containers", removed)
    _say("Deleted Networks", networks.prune(host) if not call.list("filter") else [])
    if volumes_too:
        from minidocker.engine import volumes

        names, freed = volumes.prune(host, False, [])
        _say("Deleted Volumes", names)
        free += freed
    output.say(f"Total reclaimed space: {in_words(free)}")
    return 0


def _prune(host: Host, wanted: Callable[[], Callable[[Record], bool]]) -> tuple[list[str], int]:
    from minidocker.cli.progress import Progress
    from minidocker.engine import space

    names: list[str] = []
    with Progress(lambda: f"removing the {len(names)}. container: {names[-1]}" if names else "looking for containers"):
        return space.prune(host, wanted(), names.append)


def _say(heading: str, names: list[str]) -> None:
    """As docker shows what it has removed: a paragraph, and none where that is nothing."""
    if names:
        output.say("\n".join([heading + ":", *names, ""]))


def in_words(number: int) -> str:
    """Bytes as docker shows disk space: 12.3kB."""
    return size(number, DECIMAL, 1000, 4)


def _filter(call: Call) -> Callable[[], Callable[[Record], bool]]:
    """--filter, checked; it gives what the engine is to ask of each container. Raises UsageError."""
    labels: list[str] = []
    until: float | None = None
    for text in call.list("filter"):
        key, _, value = text.partition("=")
        if key not in ("label", "until") or not value:
            raise refused("--filter", text, "label=KEY[=VALUE] and until=TIME are allowed")
        if key == "label":
            labels.append(value)
        else:
            from minidocker.spec import parse_time

            until = parse_time.since(value, time.time(), time.mktime)

    def make() -> Callable[[Record], bool]:
        from minidocker.engine import space

        return space.filtered(labels, until)

    return make
