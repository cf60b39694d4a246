"""The networks of containers under attack: commands killed before any of their effects, and many at once; one command then puts all right.

A killed command is either whole, and works, or nothing of it is left.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import click
import pytest

from tests import pretend
from tests.e2e.machine import Family, Picture, await_picture, command_line, descendants, differences, picture, records
from tests.e2e.support import REPOSITORY, Minidocker, poll
from tests.e2e.test_addresses import but_names, create, ip_of, said, sleeping, way_out
from tests.e2e.test_concurrency import Done, at_once, command, failures
from tests.e2e.test_crash import family  # noqa: F401  (a fixture)
from tests.e2e.test_dns import resolv_conf, reverse, servers  # noqa: F401  (a fixture)
from tests.e2e.test_names import hosts, monitor_of
from tests.e2e.test_publish import elements
from tests.e2e.world import PORT, fetch, ip_in, serve
from tests.kernel.test_dnsserver import NXDOMAIN, Client

# Runs the command line and kills it before its N-th effect: a call that can change something outside of the process. Whoever is forked
# goes on counting, so a monitor has its turn as well. With -N it is stopped instead (SIGSTOP). With a file for N, all effects are written
# into that and nothing happens.
KILLER = f"""
import os, sys
sys.path[:0] = {[str(REPOSITORY), str(Path(click.__file__).parents[1])]!r}
signal, goal = (19, sys.argv.pop(1)[1:]) if sys.argv[1].startswith("-") else (9, sys.argv.pop(1))
effects = set("write pwrite unlink rename mkdir makedirs rmdir symlink link ftruncate fork open execve execv posix_spawn dup2 chmod fchmod "
              "send sendto sendmsg sendall bind listen flock lockf execute pidfd_send_signal _exit _checked".split())
seen, kill, pid, write = 0, os.kill, os.getpid, os.write
outside = ("__main__.py", "imports.py")
last = int(goal) if goal.isdigit() else 0
file = -1 if last else os.open(goal, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)
def look(frame, event, what):
    global seen
    if event == "c_call":
        name = what.__name__
    elif event == "call":
        name = frame.f_code.co_name
        if name == "become_child":
            sys.setprofile(None)  # the container's own first process
        if name != "_checked":
            return
        frame = frame.f_back
        if frame.f_code.co_name == "bounding":  # it asks, 41 times
            return
    else:
        return
    if name not in effects or "/minidocker/" not in frame.f_code.co_filename or frame.f_code.co_filename.endswith(outside):
        return
    seen += 1
    if seen == last:
        kill(pid(), signal)
    if not last:
        sys.setprofile(None)
        trail = []
        while frame is not None and len(trail) < 6:
            trail.append(os.path.basename(frame.f_code.co_filename)[:-3] + "." + frame.f_code.co_name)
            frame = frame.f_back
        try:
            write(file, f"{{pid()}} {{seen}} {{name}} {{' < '.join(trail)}}\\n".encode())
        except OSError:
            pass  # it has closed all that it does not know, as what is about to exec does
        sys.setprofile(look)
from minidocker.__main__ import start
sys.setprofile(look)
start()
"""


class Injector:
    """Commands of one data root that are killed before their N-th effect."""

    def __init__(self, md: Minidocker, family: Family) -> None:  # noqa: F811
        self.md = md
        self.family = family

    def argv(self, goal: object, words: tuple[object, ...]) -> list[str]:
        own = self.md.argv(*words)
        return [sys.executable, "-I", "-S", "-c", KILLER, str(goal), *own[own.index("--root"):]]

    def effects(self, file: Path, *words: object) -> list[str]:
        """Run the command to its end; a line for each effect of each of its processes: pid, number, call, callers."""
        file.unlink(missing_ok=True)
        done = subprocess.run(self.argv(file, words), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return file.read_text().splitlines()

    def kill(self, number: int, *words: object) -> None:
        """Run it until it, or its monitor, has been killed. Whoever goes on is waited for until he watches or has ended."""
        process = subprocess.Popen(self.argv(number, words), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.family.mine.add(process.pid)
        process.wait(60)
        self.family.mine.discard(process.pid)
        self._await_rest()

    def pause(self, number: int, *words: object) -> Paused:
        """Run it, stopped before its N-th effect, or ended."""
        return Paused(self, number, words)

    def interleave(self, number: int, words: tuple[object, ...], meanwhile: Callable[[], Done]) -> tuple[Done, Done]:
        """Stop a command before its N-th effect, begin `meanwhile`, and let it go on when that has ended or waits for it."""
        first = self.pause(number, *words)
        results: list[Done] = []
        second = threading.Thread(target=lambda: results.append(meanwhile()))
        second.start()
        second.join(0.6)
        done = first.go_on()
        second.join()
        self._await_rest()
        if results[0].returncode == 0 and results[0].stderr.startswith("minidocker: "):
            results[0].returncode = 1  # the family, which reaps orphans, has been faster, and subprocess takes what it cannot know for 0
        return done, results[0]

    def _await_rest(self) -> None:
        poll(lambda: all(" resident " in line or " serve " in line for line in map(command_line, self.family.orphans())), "all is at rest")


class Paused:
    """A command that stands still. What it has forked stops before its own N-th effect as well."""

    def __init__(self, injector: Injector, number: int, words: tuple[object, ...]) -> None:
        self._family = injector.family
        self._words = words
        self._process = subprocess.Popen(
            injector.argv(f"-{number}", words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._family.mine.add(self._process.pid)
        poll(lambda: self._stopped() or self._process.poll() is not None, "it stops, or ends")

    def _stopped(self) -> list[int]:
        own = (self._process.pid, *descendants(self._process.pid), *self._family.orphans())
        return [pid for pid in own if state_of(pid) == "T" and " -c \nimport os, sys\n" in command_line(pid)]

    def go_on(self) -> Done:
        """To its end."""
        deadline = time.monotonic() + 60
        while (stopped := self._stopped()) or self._process.poll() is None:
            for pid in stopped:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            time.sleep(0.01)
            assert time.monotonic() < deadline, f"it does not end: {self._words}"
        out, error = self._process.communicate()
        self._family.mine.discard(self._process.pid)
        return Done(self._words, self._process.returncode, out.decode(), error.decode())


def state_of(pid: int) -> str:
    """R, S, T, Z ...; "" when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


Scene = Callable[[], tuple[list[str], Callable[[int], None]]]


def at_instants(scene: Scene, count: int, before_writing: int = 0) -> None:
    """`scene` sets up and returns a command's effects, and what strikes before the one with a number: `count` of them are drawn, besides
    the last `before_writing` ones before the first change of the records: there is decided by what was read. What fails says before
    which it was."""
    effects, strike = scene()
    known = numbered(effects)
    writes = next((number for number, what in sorted(known.items()) if what.startswith("execute state.change")), 0)
    seed = int(os.environ.get("MINIDOCKER_SEED", "1"))  # another one tries other instants: MINIDOCKER_SEED=$RANDOM pytest ...
    drawn = random.Random(seed).sample(sorted(known), min(count, len(known)))
    for number in [number for number in known if writes - before_writing < number <= writes] + drawn:
        try:
            strike(number)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, before effect {number}, {known[number]}: {error}") from error


def numbered(effects: list[str]) -> dict[int, str]:
    return {int(line.split()[1]): " ".join(line.split()[2:]) for line in reversed(effects)}


class Stage:
    """`victim` serves in `front`, published at 18080 of the host; `back` is there, with somebody in it or not."""

    def __init__(self, md: Minidocker, family: Family, server: Path, inhabited: bool) -> None:  # noqa: F811
        self.md = md
        self.family = family
        self.inhabited = inhabited
        self.injector = Injector(md, family)
        create(md, "front", "10.77.0.0/24")
        create(md, "back", "10.77.1.0/24", *(["--ipv6", "--subnet", "fd77::/64"] if inhabited else []))
        serve(md, server, "victim", "--net", "front", "-p", f"18080:{PORT}")
        if inhabited:
            sleeping(md, "other", "--net", "back")
            assert Client("other", "10.77.1.1").addresses("other") == {"10.77.1.2"}
        assert Client("victim", "10.77.0.1").addresses("victim") == {"10.77.0.2"}
        self.connect = ("network", "connect", "--gw-priority", "1", "--alias", "v", "back", "victim")
        self.disconnect = ("network", "disconnect", "back", "victim")
        self.file = md.root.parent / "effects"

    def last_of_connect(self) -> int:
        """The number of the effect by which a second `connect` says that it is no longer half."""
        for _ in range(2):
            effects = self.injector.effects(self.file, *self.connect)
            self.md(*self.disconnect)
        pid = effects[0].split()[0]
        return max(int(line.split()[1]) for line in effects if line.split()[0] == pid and "< containers.connected <" in line)

    def picture(self) -> Picture:
        """Of the machine, and of the victim from inside. Of its hosts file only what counts."""
        shown = but_names(picture(self.md, self.family))
        shown["inside"] = [ip_in("victim", *what.split()) for what in ("-4 route", "-6 route", "neigh show nud permanent")]
        shown["inside"] += [(link["ifname"], link["address"], link["mtu"], link["flags"], sorted(a["local"] for a in link["addr_info"]))
                            for link in ip_in("victim", "addr") if link["ifname"] != "lo"]  # fmt: skip
        shown["resolv.conf"] = self.md("exec", "victim", "cat", "/etc/resolv.conf").stdout
        shown["hosts"] = {name: sorted(hosts(self.md, name).items()) for name in ("victim", *["other"] * self.inhabited)}
        return shown

    def is_connected(self) -> bool:
        """By the records; a half one there may not be."""
        rows = self.md.ps()
        with closing(sqlite3.connect(self.md.root / "state.db")) as state:
            assert state.execute("SELECT count(*) FROM endpoints WHERE connecting").fetchone() == (0,)
        return "back" in next(row["Networks"] for row in rows if row["Names"] == "victim")

    def assert_connected(self) -> None:
        place = self.md.inspect("victim")["NetworkSettings"]["Networks"]["back"]
        ip, link = place["IPAddress"], place["HostLink"]
        assert way_out("victim") == [("10.77.1.1", "eth1")]
        assert [a["local"] for one in ip_in("victim", "-4", "addr", "show", "dev", "eth1") for a in one["addr_info"]] == [ip]
        assert len(elements(self.md)) == 1 and f'"{ip}"' in elements(self.md)[0], elements(self.md)
        frames = pretend.sh(f"nft list table bridge minidocker_{self.md.tag}")
        assert f'"{link}" . {place["MacAddress"]} . {ip}' in frames
        assert ip in [neighbour["dst"] for neighbour in pretend.ip("neigh show nud permanent dev back")]
        assert "nameserver 10.77.1.1\n" in self.md("exec", "victim", "cat", "/etc/resolv.conf").stdout
        for asker in ("victim", *["other"] * self.inhabited):
            for name in ("victim.back", "v"):
                assert Client(asker, "10.77.1.1").addresses(name) == {ip}
        assert fetch("http://127.0.0.1:18080") == "victim"


def assert_picture(stage: Stage, before: Picture) -> None:
    deadline = time.monotonic() + 10
    while (now := stage.picture()) != before:
        assert time.monotonic() < deadline, f"the machine has changed: {differences(before, now)}"
        time.sleep(0.05)


INHABITED = pytest.mark.parametrize("inhabited", [False, True], ids=["an empty network", "somebody there"])


@pytest.mark.slow
@INHABITED
@pytest.mark.parametrize("kind", ["connect", "first connect", "disconnect"])
def test_killed_while_a_container_is_moved(
    md: Minidocker, family: Family, server: Path, kind: str, inhabited: bool  # noqa: F811
) -> None:
    """It is in the network or not; its way out, its published ports and its DNS are those of where it is."""

    def scene() -> tuple[list[str], Callable[[int], None]]:
        stage = Stage(md, family, server, inhabited)
        words = stage.disconnect if kind == "disconnect" else stage.connect

        def prepare() -> None:
            if kind == "first connect":  # of this start
                md("restart", "-t", "0", "victim")
                poll(lambda: fetch("http://127.0.0.1:18080", "", 2) == "victim", "it serves")
                Client("victim", "10.77.0.1").addresses("victim")

        for one in (stage.connect, stage.disconnect):  # what is kept for the next time is there
            md(*one)
        before = stage.picture()
        prepare()
        if kind == "disconnect":
            md(*stage.connect)
        effects = stage.injector.effects(stage.file, *words)
        if kind != "disconnect":
            md(*stage.disconnect)

        def strike(number: int) -> None:
            nonlocal before
            prepare()
            if kind == "first connect":
                before = stage.picture()
            if kind == "disconnect":
                md(*stage.connect)
            stage.injector.kill(number, *words)
            md("ps")
            if stage.is_connected():
                stage.assert_connected()
                md(*stage.disconnect)
            assert_picture(stage, before)

        return effects, strike

    at_instants(scene, 5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["create", "rm", "create the first", "rm the last"])
def test_killed_while_a_network_is_made_or_removed(md: Minidocker, family: Family, busybox: Path, kind: str) -> None:  # noqa: F811
    """It is there and works, or nothing of it is."""
    injector = Injector(md, family)
    verb, _, alone = kind.partition(" ")
    make = ("network", "create", "--subnet", "10.77.5.0/24", "--ipv6", "--subnet", "fd77:5::/64", "new")
    use = ("run", "--rm", "--net", "new", "--rootfs", busybox, "true")

    def made() -> None:
        assert md(*make, check=False).returncode == 0
        md(*use)

    def scene() -> tuple[list[str], Callable[[int], None]]:
        md.run("--rm", "--net", "none", "--rootfs", busybox, "true")
        if not alone:
            create(md, "front", "10.77.0.0/24")
        made()
        md("network", "rm", "new")
        before = picture(md, family)
        if verb == "rm":
            made()
        words = make if verb == "create" else ("network", "rm", "new")
        effects = injector.effects(md.root.parent / "effects", *words)
        if verb == "create":
            md("network", "rm", "new")

        def strike(number: int) -> None:
            if verb == "rm":
                made()
            injector.kill(number, *words)
            md("ps")
            if records(md.root / "state.db")["networks"][-1:] and "new" in md("network", "ls", "--format", "{{.Name}}").stdout.split():
                md(*use)
                md("network", "rm", "new")
            await_picture(md, before, family, 10)

        return effects, strike

    at_instants(scene, 4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["restart", "start", "run -d", "run"])
def test_killed_while_a_container_of_two_networks_comes_or_goes(
    md: Minidocker, family: Family, server: Path, kind: str  # noqa: F811
) -> None:
    """The command, its monitor, or both. The container runs and is whole, or holds nothing; a start makes it whole."""

    def scene() -> tuple[list[str], Callable[[int], None]]:
        stage = Stage(md, family, server, True)
        options = ("--name", "victim", "--net", "front", "--net", "back:gw-priority=1,alias=v", "-p", f"18080:{PORT}")
        run = ("run", "-d", *options, server, "victim")
        words = {"restart": ("restart", "-t", "0", "victim"), "start": ("start", "victim"), "run -d": run,
                 "run": ("run", *options, "true")}[kind]  # fmt: skip

        def prepare() -> None:
            if kind in ("restart", "start"):
                md(*run)
            if kind == "start":
                md("stop", "-t", "0", "victim")

        for _ in range(2):  # what a bridge keeps of a container with ports is there
            md("rm", "-f", "victim", check=False)
            poll(lambda: len(pretend.ip("link show master front")) == 0, "its cable is gone")
            gone = but_names(picture(md, family))
            prepare()
            effects = stage.injector.effects(stage.file, *words)
        md("rm", "-f", "victim")

        def strike(number: int) -> None:
            prepare()
            stage.injector.kill(number, *words)
            rows = {row["Names"]: row for row in md.ps()}
            if "victim" in rows and kind != "run":
                if rows["victim"]["State"] != "running":
                    assert rows["victim"]["State"] == "exited"
                    held = records(md.root / "state.db")
                    assert len(held["endpoints"]) == 1 and held["ports"] == []
                    assert "victim" not in hosts(md, "other") and not os.path.lexists("/run/netns/victim")
                    md("start", "victim")
                poll(lambda: fetch("http://127.0.0.1:18080", "", 2) == "victim", "it serves")
                stage.assert_connected()
            md("rm", "-f", "victim", check=False)
            await_picture_but_names(md, gone, family)

        return effects, strike

    at_instants(scene, 3)


def await_picture_but_names(md: Minidocker, before: Picture, family: Family) -> None:  # noqa: F811
    deadline = time.monotonic() + 10
    while (now := but_names(picture(md, family))) != before:
        assert time.monotonic() < deadline, f"the machine has changed: {differences(before, now)}"
        time.sleep(0.02)


# --- two at once ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("end", ["stop", "rm"])
@pytest.mark.parametrize("kind", ["connect", "disconnect"])
def test_a_container_ends_while_it_is_moved(
    md: Minidocker, family: Family, server: Path, kind: str, end: str  # noqa: F811
) -> None:
    """Either command may fail for the other's sake, with a word; nothing of the container stays but its record."""

    def scene() -> tuple[list[str], Callable[[int], None]]:
        stage = Stage(md, family, server, True)
        words = stage.connect if kind == "connect" else stage.disconnect
        last = {"stop": ("stop", "-t", "0", "victim"), "rm": ("rm", "-f", "victim")}[end]
        run = ("run", "-d", "--name", "victim", "--net", "front", "-p", f"18080:{PORT}", server, "victim")

        def prepare() -> None:
            md(*run)
            if kind == "disconnect":
                md(*stage.connect)

        for _ in range(2):
            md("rm", "-f", "victim")
            poll(lambda: len(pretend.ip("link show master front")) == 0, "its cable is gone")
            gone = but_names(picture(md, family))
            prepare()
            effects = stage.injector.effects(stage.file, *words)
        md("rm", "-f", "victim")

        def strike(number: int) -> None:
            prepare()
            moved, ended = stage.injector.interleave(number, words, lambda: md(*last, check=False))
            told = (moved.returncode, moved.stderr, ended.returncode, ended.stderr)
            for one in (moved, ended):
                assert one.returncode == 0 or one.stderr.startswith("minidocker: "), told
                assert "Traceback" not in one.stderr and one.stderr.count("\n") <= 2, told
            assert ended.returncode == 0 and "constraint" not in moved.stderr, told
            [state] = [row["State"] for row in md.ps() if row["Names"] == "victim"] or ["gone"]
            assert state == ("gone" if end == "rm" else "exited"), told
            held = records(md.root / "state.db")
            assert len(held["endpoints"]) == 1 and held["ports"] == []
            assert Client("other", "10.77.1.1").addresses("v") == NXDOMAIN
            assert "v" not in hosts(md, "other")
            if end != "rm":
                md("rm", "victim")
            await_picture_but_names(md, gone, family)

        return effects, strike

    at_instants(scene, 3)


BUSY = "minidocker: another command is at work on container `victim`\n  hint: try again\n"


@pytest.mark.slow
@pytest.mark.parametrize("state", ["running", "exited"])
def test_two_connects_of_one_container(md: Minidocker, family: Family, server: Path, state: str) -> None:  # noqa: F811
    """Both get what they asked for, or one is told to try again; and what they got is there after a restart."""

    def scene() -> tuple[list[str], Callable[[int], None]]:
        stage = Stage(md, family, server, True)
        create(md, "side", "10.77.2.0/24")
        words, other = ("network", "connect", "back", "victim"), ("network", "connect", "side", "victim")
        if state == "exited":
            md("stop", "-t", "0", "victim")
        effects = stage.injector.effects(stage.file, *words)
        md("network", "disconnect", "back", "victim")

        def strike(number: int) -> None:
            first, second = stage.injector.interleave(number, words, lambda: md(*other, check=False))
            for one in (first, second):
                assert (one.returncode, one.stderr) in ((0, ""), (1, BUSY))
            wanted = {"front"} | {name for name, one in (("back", first), ("side", second)) if one.returncode == 0}
            assert len(wanted) > 1
            if state == "running":
                assert set(md.inspect("victim")["NetworkSettings"]["Networks"]) == wanted
                assert len(ip_in("victim", "link")) == 1 + len(wanted)
                md("restart", "-t", "0", "victim")
            else:
                md("start", "victim")
            assert set(md.inspect("victim")["NetworkSettings"]["Networks"]) == wanted
            if state == "exited":
                md("stop", "-t", "0", "victim")
            for name in wanted - {"front"}:
                md("network", "disconnect", name, "victim")

        return effects, strike

    at_instants(scene, 2, before_writing=6)


@pytest.mark.slow
def test_the_same_connect_twice_at_once(md: Minidocker, family: Family, server: Path) -> None:  # noqa: F811
    """One is told that it is in already, or that another is at it."""

    def scene() -> tuple[list[str], Callable[[int], None]]:
        stage = Stage(md, family, server, True)
        effects = stage.injector.effects(stage.file, *stage.connect)
        md(*stage.disconnect)
        already = "minidocker: container `victim` is in network `back` already\n"

        def strike(number: int) -> None:
            both = stage.injector.interleave(number, stage.connect, lambda: md(*stage.connect, check=False))
            assert sorted(one.returncode for one in both) == [0, 1]
            assert next(one.stderr for one in both if one.returncode) in (already, BUSY)
            assert stage.is_connected()
            stage.assert_connected()
            md(*stage.disconnect)
            assert not stage.is_connected()

        return effects, strike

    at_instants(scene, 2, before_writing=6)


@pytest.mark.slow
def test_no_command_takes_back_what_another_has_just_finished(md: Minidocker, family: Family, server: Path) -> None:  # noqa: F811
    """`ps` sees a half connected container, and goes on when that is connected."""

    stage = Stage(md, family, server, True)
    last = stage.last_of_connect()
    half = stage.injector.pause(last, *stage.connect)
    effects = stage.injector.effects(stage.file, "ps")
    assert half.go_on().returncode == 0
    assert stage.is_connected()
    md(*stage.disconnect)
    for number in sorted(numbered(effects)):
        half = stage.injector.pause(last, *stage.connect)
        looks = stage.injector.pause(number, "ps")
        done = [(one.returncode, one.stderr) for one in (half.go_on(), looks.go_on())]
        assert done == [(0, ""), (0, "")], number
        assert stage.is_connected(), f"ps stood before its effect {number}"
        stage.assert_connected()
        md(*stage.disconnect)


@pytest.mark.slow
def test_two_commands_finish_what_a_killed_one_has_left(md: Minidocker, family: Family, server: Path) -> None:  # noqa: F811
    """And one of them connects the container anew: that stands, whatever the other still believes."""

    def scene() -> tuple[list[str], Callable[[int], None]]:
        stage = Stage(md, family, server, True)
        last = stage.last_of_connect()
        stage.injector.kill(last, *stage.connect)
        effects = stage.injector.effects(stage.file, "ps")

        def strike(number: int) -> None:
            stage.injector.kill(last, *stage.connect)
            looked, moved = stage.injector.interleave(number, ("ps",), lambda: md(*stage.connect, check=False))
            assert [(one.returncode, one.stderr) for one in (looked, moved)] == [(0, ""), (0, "")]
            assert stage.is_connected()
            stage.assert_connected()
            md(*stage.disconnect)

        return effects, strike

    at_instants(scene, 4)


@pytest.mark.slow
def test_a_network_is_removed_while_a_container_is_connected(md: Minidocker, family: Family, server: Path) -> None:  # noqa: F811
    """Whoever comes second is refused: it is in use, or there is no such network."""

    def scene() -> tuple[list[str], Callable[[int], None]]:
        stage = Stage(md, family, server, False)
        effects = stage.injector.effects(stage.file, *stage.connect)
        md(*stage.disconnect)
        md("network", "rm", "back")
        before = stage.picture()
        md("network", "create", "--subnet", "10.77.1.0/24", "back")
        used = said("network `back` has containers in it: victim", "stop them first: minidocker stop victim")
        missing = "minidocker: no such network: back\n"

        def strike(number: int) -> None:
            moved, removed = stage.injector.interleave(number, stage.connect, lambda: md("network", "rm", "back", check=False))
            if removed.returncode == 0:
                assert moved.returncode == 1 and moved.stderr.startswith(missing), moved.stderr
            else:
                assert (removed.returncode, removed.stderr, moved.returncode, moved.stderr) == (1, used, 0, "")
                assert stage.is_connected()
                stage.assert_connected()
                md(*stage.disconnect)
                md("network", "rm", "back")
            assert_picture(stage, before)
            md("network", "create", "--subnet", "10.77.1.0/24", "back")

        return effects, strike

    at_instants(scene, 2, before_writing=6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["start", "run"])
def test_a_container_is_disconnected_while_it_starts(md: Minidocker, family: Family, server: Path, kind: str) -> None:  # noqa: F811
    """What the records say of its networks is what it has; whatever it got goes with it."""

    def scene() -> tuple[list[str], Callable[[int], None]]:
        stage = Stage(md, family, server, True)
        run = ("run", "-d", "--name", "victim", "--net", "front", "--net", "back:gw-priority=1,alias=v", "-p", f"18080:{PORT}",
               server, "victim")  # fmt: skip
        words = run if kind == "run" else ("start", "victim")

        def prepare() -> None:
            if kind == "start":
                md(*run)
                md("stop", "-t", "0", "victim")

        for _ in range(2):
            md("rm", "-f", "victim", check=False)
            poll(lambda: len(pretend.ip("link show master front")) == 0, "its cable is gone")
            gone = but_names(picture(md, family))
            prepare()
            effects = stage.injector.effects(stage.file, *words)
        md("rm", "-f", "victim")

        def strike(number: int) -> None:
            prepare()
            begun, moved = stage.injector.interleave(number, words, lambda: md(*stage.disconnect, check=False))
            for one in (begun, moved):
                assert one.returncode == 0 or (one.stderr.startswith("minidocker: ") and one.stderr.count("\n") <= 2), one.stderr
            assert begun.returncode == 0, (begun.stderr, moved.returncode, moved.stderr)
            networks = set(md.inspect("victim")["NetworkSettings"]["Networks"])
            assert networks == ({"front"} if moved.returncode == 0 else {"front", "back"}), moved.stderr
            assert len(ip_in("victim", "link")) == 1 + len(networks)
            assert ("v" in hosts(md, "other")) == ("back" in networks)
            md("rm", "-f", "victim")
            await_picture_but_names(md, gone, family)

        return effects, strike

    at_instants(scene, 3)


@pytest.mark.slow
def test_twenty_containers_are_moved_at_once(md: Minidocker, family: Family, busybox: Path) -> None:  # noqa: F811
    """Into a network, out of it, and into it again while others leave: nobody fails for another's sake."""
    many = 20
    create(md, "front", "10.77.0.0/24")
    create(md, "back", "10.77.1.0/24")
    names = [f"c{n}" for n in range(many)]
    run = ["run", "-d", "--net", "front", "--rootfs", busybox]
    assert failures(at_once([command(md, *run, "--name", name, "sleep", "1000") for name in names])) == []
    md("network", "connect", "back", "c0")
    md("network", "disconnect", "back", "c0")  # a bridge is another after its first port
    before = but_names(picture(md, family))
    assert failures(at_once([command(md, "network", "connect", "back", name) for name in names])) == []
    places = {name: md.inspect(name)["NetworkSettings"]["Networks"]["back"] for name in names}
    assert len({place["IPAddress"] for place in places.values()}) == len({place["MacAddress"] for place in places.values()}) == many
    for name in names:
        assert Client("c0", "10.77.1.1").addresses(f"{name}.back") == {places[name]["IPAddress"]}
        [eth1] = [link for link in ip_in(name, "addr") if link["ifname"] == "eth1"]
        assert [address["local"] for address in eth1["addr_info"]] == [places[name]["IPAddress"]]
    half = names[::2]
    assert failures(at_once([command(md, "network", "disconnect", "back", name) for name in half])) == []
    swap = [("connect" if name in half else "disconnect", name) for name in names]
    assert failures(at_once([command(md, "network", verb, "back", name) for verb, name in swap])) == []
    assert set(json.loads(md("network", "inspect", "back").stdout)[0]["Containers"]) == {md.inspect(name)["Id"] for name in half}
    assert failures(at_once([command(md, "network", "disconnect", "back", name) for name in half])) == []
    await_picture_but_names(md, before, family)
    assert servers(md) == {} or set(servers(md).values()) == {"front"}


# --- all of it --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command_", [("ps",), ("run", "--rm", "--net", "front", "true"), ("network", "ls")])
def test_all_monitors_and_servers_are_killed(md: Minidocker, family: Family, server: Path, command_: tuple[str, ...]) -> None:  # noqa: F811
    """One command later only records are left, and they start again."""
    create(md, "front", "10.77.0.0/24")
    create(md, "back", "10.77.1.0/24", "--ipv6", "--subnet", "fd77::/64")
    create(md, "cable", "10.77.2.0/30", "--driver", "ptp")
    md.run("--rm", "--net", "front", "-p", "18079:80", "true")
    md.run("--rm", "--net", "back", "-p", "18079:80", "true")
    poll(lambda: not pretend.ip("link show master front") and not pretend.ip("link show master back"), "their cables are gone")
    before = but_names(picture(md, family))
    md.start("--name", "victim", "--net", "front", "--net", "cable", "-p", f"18080:{PORT}", server, "victim")
    for name in ("one", "two"):
        sleeping(md, name, "--net", "back", "--net", "front:gw-priority=1", "-p", "80/udp")
    sleeping(md, "three", "--net", "cable")
    md("network", "connect", "--gw-priority", "5", "back", "victim")
    for name, gateway in (("victim", "10.77.0.1"), ("one", "10.77.1.1")):
        Client(name, gateway).addresses("two")
    assert sorted(servers(md).values()) == ["back", "front"] and len(elements(md)) == 3
    for pid in [*servers(md), *(monitor_of(md, name) for name in ("victim", "one", "two", "three"))]:
        os.kill(pid, signal.SIGKILL)
    poll(lambda: not family.orphans(), "all are dead")
    md(*command_)
    rows = md.ps()
    assert {row["State"] for row in rows} == {"exited"} and len(rows) == 4
    held = records(md.root / "state.db")
    assert held["endpoints"] == held["ports"] == []
    assert os.listdir("/run/netns") == [] or not set(os.listdir("/run/netns")) & {"victim", "one", "two", "three"}
    assert os.listdir(md.run_directory / "resolvers") == [] and os.listdir(md.run_directory / "containers") == []
    for network in ("front", "back"):
        lines = (md.run_directory / "networks" / network / "hosts").read_text().splitlines()
        assert [line for line in lines if line and not line.startswith("#")] == ["127.0.0.1\tlocalhost"]
        assert os.listdir(md.run_directory / "networks" / network) == ["hosts"]

    def kernel(shown: Picture) -> Picture:
        return {kind: value for kind, value in but_names(shown).items() if kind not in ("data", "records")}

    poll(lambda: kernel(picture(md, family)) == kernel(before), "all of it has gone")
    md("start", "victim", "one", "two", "three")
    poll(lambda: fetch("http://127.0.0.1:18080", "", 2) == "victim", "it serves")
    assert Client("one", "10.77.1.1").addresses("victim.back") == {ip_of(md, "victim", "back")}
