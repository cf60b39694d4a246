"""What has happened to containers and networks, from the file that Host.event adds lines to: past events, and those to come.

    ROOT/events      one JSON object a line, the oldest first: time (nanoseconds since the epoch), type, action, id, name, attributes
    ROOT/events.1    what came before it

A file rather than a table of state.db: who adds to it waits for nobody, so a hundred starts at once do not stand in line for it, and at
its limit the older half goes with one rename.
"""

from __future__ import annotations

import gc
import os
import time

from minidocker.engine import reconcile
from minidocker.engine.host import Host
from minidocker.errors import UsageError
from minidocker.spec import fastjson
from minidocker.storage import containers, networks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

FILTERS = ("container", "event", "label", "network", "type")
_POLL = 0.05
_BLOCK = 1 << 16


def watch(host: Host, since: float | None, until: float | None, filters: list[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """Events as the file has them, the oldest first: those after `since`, or, without, only those to come; none after `until` (both
    seconds since the epoch). Does not end before `until`. Filters of one name are alternatives, different names must all hold."""
    reader = Reader(f"{host.root}/events")
    if since is None and until is None:
        reader.skip()
    reconcile.look(host)  # what a crash left is told of, too
    wanted = _wanted(host, filters)
    gc.enable()
    while True:
        asked = time.time()
        for event in reader.read():
            seconds = event["time"] / 1e9
            if (since is None or seconds >= since) and (until is None or seconds <= until) and _matches(event, wanted):
                yield event
        if until is not None and asked > until:
            return
        time.sleep(_POLL if until is None else min(_POLL, max(0.0, until - asked) + 0.001))


class Reader:
    """Reads lines as they are added, on over the renaming of the file."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.descriptor = -1
        self.rest = b""
        for name in (path + ".1", path):
            if self._open(name):
                break

    def skip(self) -> None:
        """Pass over all that is there now."""
        for _ in self.read():
            continue

    def read(self) -> Iterator[dict[str, Any]]:
        """All whole lines that are there and were not read before."""
        while self.descriptor >= 0 or self._open(self.path):
            # first whether there is a newer file, then what this one has: who had it open then may add to it still, until the next look
            renamed = self._is_old()
            yield from self._lines()
            if not renamed or not self._open(self.path):
                return

    def _is_old(self) -> bool:
        try:
            return os.stat(self.path).st_ino != os.fstat(self.descriptor).st_ino
        except FileNotFoundError:
            return False

    def _open(self, path: str) -> bool:
        try:
            opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor, self.rest = opened, b""
        return True

    def _lines(self) -> Iterator[dict[str, Any]]:
        while block := os.read(self.descriptor, _BLOCK):
            *lines, self.rest = (self.rest + block).split(b"\n")
            for line in lines:
                try:
                    event = fastjson.loads(line.decode())
                except ValueError:
                    continue  # the disk was full in the middle of it
                yield event


def _wanted(host: Host, filters: list[tuple[str, str]]) -> dict[str, list[str]]:
    """The filters by name, a container's and a network's names joined by the ids of those that are there."""
    found: dict[str, list[str]] = {}
    for name, value in filters:
        if name not in FILTERS:
            raise UsageError(f"unknown filter `{name}`", "there are " + ", ".join(FILTERS))
        found.setdefault(name, []).append(value)
    for value in list(found.get("container", ())):
        found["container"] += [record.id for record in containers.every(host.state) if record.name == value]
    for value in list(found.get("network", ())):
        found["network"] += [network.id for network in networks.every(host.state) if network.name == value]
    return found


def _matches(event: dict[str, Any], wanted: dict[str, list[str]]) -> bool:
    attributes = event["attributes"]
    tests: dict[str, Callable[[str], bool]] = {
        "container": lambda value: any(is_of(value, *pair) for pair in _containers(event)),
        "network": lambda value: event["type"] == "network" and is_of(value, event["id"], event["name"]),
        "event": lambda value: value in (event["action"], event["action"].partition(":")[0]),
        "type": lambda value: event["type"] == value,
        "label": lambda value: value.partition("=")[0] in attributes
        and ("=" not in value or attributes[value.partition("=")[0]] == value.partition("=")[2]),
    }
    return all(any(tests[name](value) for value in values) for name, values in wanted.items())


def _containers(event: dict[str, Any]) -> list[tuple[str, str]]:
    """The container that an event is about, as (id, name); a network's may be of one, too."""
    if event["type"] == "container":
        return [(event["id"], event["name"])]
    return [(event["attributes"]["container"], "")] if "container" in event["attributes"] else []


def is_of(reference: str, id: str, name: str) -> bool:
    """Whether a user who says `reference` may mean it: by its name, or the beginning of its id, four digits at least."""
    return reference == name or (len(reference) >= 4 and id.startswith(reference))
