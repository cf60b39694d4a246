"""A fault at any point of any command, then one command: the machine is as if it had never begun, or the container is whole and runs.

`kill` ends the process that is at the point (the command, its monitor, or what tidies up after it), `fail` has that one call fail. Here the
points at which a step of a plan or a change of state.db has just been done, and some calls that fail; all of them: MINIDOCKER_FAULTS=all.
"""

from __future__ import annotations

import json
import os
import socket
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests import pretend
from tests.e2e.machine import Family, Picture, command_line, differences, picture
from tests.e2e.support import Minidocker, poll
from tests.e2e.test_addresses import but_names
from tests.faults.injector import Injector, Point

T = TypeVar("T")
ALL = os.environ.get("MINIDOCKER_FAULTS") == "all"
SAMPLE = 6  # calls that fail, of each command
SEED = int(os.environ.get("MINIDOCKER_SEED", "1"))
PUBLISHED = 18080

COMMANDS = {
    "run": ["run", "--name", "victim", "@options", "true"],
    "run -d": ["run", "-d", "--name", "victim", "@options", "@server"],
    "stop": ["stop", "-t", "0", "victim"],
    "rm": ["rm", "-f", "victim"],
    "connect": ["network", "connect", "back", "victim"],
    "disconnect": ["network", "disconnect", "back", "victim"],
    "exec": ["exec", "victim", "true"],
    "restart": ["restart", "-t", "0", "victim"],
    "network rm": ["network", "rm", "again"],
}
# What may be met by each kind of call: no room, no memory, too many of them, somebody else at it, a disk that fails, an interruption that
# nobody has seen to (those of the os module are Python's to see to).
ERRORS = {
    "execute": ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_BUSY"),
    "fork": ("EAGAIN", "ENOMEM"),
    "_native": ("ENOMEM", "EBUSY", "EINTR", "ENOSPC", "EPERM"),
    "write": ("ENOSPC", "EIO", "EDQUOT"),
    "mkdir": ("ENOSPC", "EIO", "EROFS"),
    "open": ("EMFILE", "ENOSPC", "EIO", "ENOMEM"),
    "rmdir": ("EBUSY", "EIO"),
    "unlink": ("EBUSY", "EIO"),
    "send": ("ENOBUFS", "ENOMEM"),
}
ANY = ("ENOMEM", "EIO")


@pytest.fixture
def family() -> Iterator[Family]:
    with Family() as family:
        yield family


class Scene:
    """One command on a machine with two networks, and what it needs to be there."""

    def __init__(self, md: Minidocker, family: Family, busybox: Path, name: str) -> None:
        self.md = md
        self.family = family
        self.name = name
        self.injector = Injector(md, family)
        options: list[object] = ["--net", "front", "-p", f"{PUBLISHED}:8081", "-p", f"{PUBLISHED}:9/udp", "--rootfs", busybox]
        said: dict[str, list[object]] = {"@options": options, "@server": ["httpd", "-f", "-p", "8081", "-h", "/"]}
        self.start, self.words = ([word for each in COMMANDS[of] for word in said.get(each, [each])] for of in ("run -d", name))
        for network, subnet in (("front", "10.77.0.0/24"), ("back", "10.77.1.0/24")):
            md("network", "create", "--subnet", subnet, network)
        md(*self.start)
        md("network", "connect", "back", "victim")
        self.answers()
        md("restart", "-t", "0", "victim")
        md("rm", "-f", "victim")  # what the first of each kind makes, and keeps for the next, is there
        poll(lambda: not pretend.ip("link show type veth"), "the cables are gone")
        self.before = self.picture()

    def picture(self) -> Picture:
        return {**but_names(picture(self.md, self.family)), "conntrack": self.flows()}

    def flows(self) -> list[str]:
        """Those that are led to what is published: who sends there without a pause would be led to nobody for ever."""
        tracked = Path("/proc/net/nf_conntrack").read_text().splitlines()
        return [line for line in tracked if " udp " in line and f"dport={PUBLISHED} " in line]

    def prepare(self, run: Callable[..., object]) -> None:
        """`run` starts what will be there; it is of the order's making where its end is."""
        if self.name == "network rm":
            self.md("network", "create", "--subnet", "10.77.9.0/24", "again")
        elif not self.name.startswith("run"):
            run(*self.start)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"?", ("127.0.0.1", PUBLISHED))
            assert run != self.md or self.flows(), "it is led there"
        if self.name == "disconnect":
            self.md("network", "connect", "back", "victim")

    def points(self) -> list[Point]:
        """Of the command itself, and of what comes to its end by it."""
        self.prepare(self.injector.points)
        earlier = len(self.injector.listed()) if self.name in ("stop", "rm", "restart") else 0
        order = self.injector.order_to_list(anew=not earlier)
        done = self.injector.run(order, *self.words)
        assert done.returncode == 0, done.stderr
        found = self.injector.listed()[earlier:]
        self.clear()
        return found

    def strike(self, order: list[str], point: Point) -> None:
        """The fault, the one command, and a look at the machine."""
        later = point.role in ("resident", "finish_resident")
        self.prepare((lambda *words: self.injector.run(order, *words)) if later else self.md)
        done = self.injector.run(order, *self.words)
        told = f"exit {done.returncode}, {done.stderr!r}"
        assert "Traceback" not in done.stderr and "internal error" not in done.stderr, told
        try:
            self.settle()
        except AssertionError as error:
            raise AssertionError(f"{told}; then: {error}") from error

    def settle(self) -> None:
        """`ps` is the one command. What it shows to run is whole; of what it does not only the record is left."""
        rows, running, monitors = self.look()
        if running and not monitors:  # it was about to end when it was looked at, and has by now
            rows, running, monitors = self.look()
        assert {row["State"] for row in rows} <= {"running", "exited"}, rows
        assert len(running) == len(monitors), "a container runs if and only if its monitor lives"
        if running:
            self.assert_whole(running[0]["Networks"])
        elif rows:
            self.await_picture(("data", "records"))
            if not (self.words[0] == "run" and self.words[1] != "-d"):
                self.md("start", "victim")
                self.assert_whole(self.md.ps()[0]["Networks"])
        self.clear()

    def look(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
        """The rows of `ps -a`, those of them that run, and the monitors that watch."""
        self.injector.rest()
        shown = self.md("ps", "-a", "--format", "json", check=False)
        assert shown.returncode == 0, shown.stderr
        rows = json.loads(shown.stdout or "[]")
        monitors = [line for line in map(command_line, self.family.orphans()) if " resident " in line]
        return rows, [row for row in rows if row["State"] == "running"], monitors

    def assert_whole(self, networks: str) -> None:
        """It answers where it is published, runs what it is told to, and has an interface in each network that its record speaks of."""
        if self.name != "run":
            self.answers()
        assert self.md("exec", "victim", "echo", "well").stdout == "well\n"
        places = self.md.inspect("victim")["NetworkSettings"]["Networks"]
        assert sorted(places) == sorted(networks.split(", ")), (places, networks)
        inside = {address["local"] for link in json.loads(pretend.sh("ip -n victim -4 -j addr")) for address in link["addr_info"]}
        assert inside == {"127.0.0.1", *(place["IPAddress"] for place in places.values())}, (inside, places)

    def answers(self) -> None:
        fetch = f"curl -s -o /dev/null --noproxy '*' --max-time 5 -w '%{{http_code}}' http://127.0.0.1:{PUBLISHED}/"
        poll(lambda: pretend.sh(fetch, check=False) in ("200", "404"), "it answers where it is published")

    def clear(self) -> None:
        """Remove what there still is: then the machine is as before."""
        if self.md.ps():
            self.md("rm", "-f", "victim")
        if self.name == "network rm" and "again" in self.md("network", "ls", "-q").stdout + self.md("network", "ls").stdout:
            self.md("network", "rm", "again")
        self.await_picture()

    def await_picture(self, but: tuple[str, ...] = ()) -> None:
        """Cables and killed processes go a moment after."""
        deadline = time.monotonic() + 5
        while found := {kind: what for kind, what in differences(self.before, self.picture()).items() if kind not in but}:
            assert time.monotonic() < deadline, f"the machine has changed: {found}"
            time.sleep(0.01)


def stepwise(points: list[Point]) -> list[Point]:
    """Those that come right after a step of a plan, or after a change of state.db, and the first of each process."""
    found: list[Point] = []
    last: dict[str, Point] = {}
    for point in points:
        if point.changes:
            before = last.get(point.role)
            if before is None or before.step != point.step or before.writes:
                found.append(point)
            last[point.role] = point
    return found


def errors(point: Point) -> tuple[str, ...]:
    """What it may fail with. That the ancestor of all our cgroups is busy says that others are in it, and is no failure."""
    return ANY if point.trail.startswith("cgroupfs.prune ") else ERRORS.get(point.call, ANY)


def assert_all(scene: Scene, strikes: list[tuple[list[str], Point]]) -> list[str]:
    """Every strike, whatever becomes of the others; what went wrong."""
    troubles = []
    for order, point in strikes:
        try:
            scene.strike(order, point)
        except AssertionError as error:
            troubles.append(f"{' '.join(order[:1] + order[3:])} at {point}: {error}")
            scene.md("rm", "-f", "victim", check=False)
            try:
                scene.clear()
            except AssertionError as error:
                return [*troubles, f"and it cannot be gone on: {error}"]
    return troubles


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_after_each_step(
    md: Minidocker, family: Family, busybox: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = Scene(md, family, busybox, name)
    every = [point for point in scene.points() if point.changes]
    chosen = every if ALL else stepwise(every)
    begun = time.monotonic()
    troubles = assert_all(scene, [(["kill", point.role, str(point.number)], point) for point in chosen])
    with capsys.disabled():
        print(f"\n  {name}: killed at {len(chosen)} of {len(every)} points in {time.monotonic() - begun:.0f} s", end="")
    assert not troubles, "\n".join([f"{len(troubles)} of {len(chosen)}", *troubles])


def draw(many: Sequence[T], what: object) -> T:
    """One of them, by the seed and `what` it is for alone: the same as long as that is the same, whatever else has changed."""
    return many[zlib.crc32(f"{SEED} {what}".encode()) % len(many)]


def drawn(name: str, points: list[Point]) -> list[Point]:
    """SAMPLE of the calls, each at the first of its points."""
    calls = {f"{name} {point.role} {point.call} {point.trail}": point for point in reversed(points)}
    lots = sorted(calls, key=lambda call: zlib.crc32(f"{SEED} {call}".encode()))
    return [calls[call] for call in lots[:SAMPLE]]


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_calls_that_fail(md: Minidocker, family: Family, busybox: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    scene = Scene(md, family, busybox, name)
    every = [point for point in scene.points() if point.fallible]
    chosen = every if ALL else drawn(name, every)
    begun = time.monotonic()
    strikes = [(["fail", point.role, str(point.number), draw(errors(point), point.trail)], point) for point in chosen]
    troubles = assert_all(scene, strikes)
    with capsys.disabled():
        print(f"\n  {name}: {len(chosen)} of {len(every)} calls failed (seed {SEED}) in {time.monotonic() - begun:.0f} s", end="")
    assert not troubles, "\n".join([f"{len(troubles)} of {len(chosen)}", *troubles])
