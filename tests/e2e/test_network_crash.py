"""The networks of containers under attack: commands killed before any of their effects, and many at once; one command then puts all right.

A killed command is either whole, and works, or nothing of it is left.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import click
import pytest

from tests import pretend
from tests.e2e.machine import Family, Picture, await_picture, command_line, descendants, differences, is_alive, picture, records
from tests.e2e.support import REPOSITORY, Minidocker, poll
from tests.e2e.test_addresses import but_names, create, ip_of, said, sleeping, way_out
from tests.e2e.test_concurrency import at_once, command, failures
from tests.e2e.test_crash import family  # noqa: F401  (a fixture)
from tests.e2e.test_dns import resolv_conf, reverse, servers  # noqa: F401  (a fixture)
from tests.e2e.test_names import hosts, monitor_of
from tests.e2e.test_publish import elements
from tests.e2e.world import PORT, fetch, ip_in, serve
from tests.kernel.test_dnsserver import NXDOMAIN, Client

# Runs the command line and kills it before its N-th effect: a call that can change something outside of the process. Whoever is forked
# goes on counting, so a monitor has its turn as well. With a file for N, all effects are written into that and nobody is killed.
KILLER = f"""
import os, sys
sys.path[:0] = {[str(REPOSITORY), str(Path(click.__file__).parents[1])]!r}
goal = sys.argv.pop(1)
effects = set("write pwrite unlink rename mkdir makedirs rmdir symlink link ftruncate fork open execve execv posix_spawn dup2 chmod fchmod "
              "send sendto sendmsg sendall bind listen flock lockf execute pidfd_send_signal _exit _checked".split())
seen, kill, pid, write, opened, shut = 0, os.kill, os.getpid, os.write, os.open, os.close
outside = ("__main__.py", "imports.py")
last = int(goal) if goal.isdigit() else 0
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
        kill(pid(), 9)
    if not last:
        sys.setprofile(None)
        trail = []
        while frame is not None and len(trail) < 6:
            trail.append(os.path.basename(frame.f_code.co_filename)[:-3] + "." + frame.f_code.co_name)
            frame = frame.f_back
        file = opened(goal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        write(file, f"{{pid()}} {{seen}} {{name}} {{' < '.join(trail)}}\\n".encode())
        shut(file)
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
        poll(lambda: all(" resident " in line or " serve " in line for line in map(command_line, self.family.orphans())), "all is at rest")


Scene = Callable[[], tuple[list[str], Callable[[int], None]]]


def at_instants(scene: Scene, count: int) -> None:
    """`scene` sets up and returns a command's effects, and what strikes before the one with a number: `count` of them are drawn anew each
    time. What fails says before which it was."""
    effects, strike = scene()
    known = numbered(effects)
    seed = int(os.environ.get("MINIDOCKER_SEED", random.randrange(1 << 32)))
    for number in random.Random(seed).sample(sorted(known), min(count, len(known))):
        try:
            strike(number)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, killed before effect {number}, {known[number]}: {error}") from error


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

    def picture(self) -> Picture:
        """Of the machine, and of the victim from inside. Of its hosts file only what counts."""
        shown = but_names(picture(self.md, self.family))
        shown["inside"] = [ip_in("victim", *what.split()) for what in ("addr", "-4 route", "-6 route", "neigh show nud permanent")]
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
    deadline = time.monotonic() + 3
    while (now := stage.picture()) != before:
        assert time.monotonic() < deadline, f"the machine has changed: {differences(before, now)}"
        time.sleep(0.05)


INHABITED = pytest.mark.parametrize("inhabited", [False, True], ids=["an empty network", "somebody there"])


@pytest.mark.slow
@INHABITED
@pytest.mark.parametrize("kind", ["connect", "disconnect"])
def test_killed_while_a_container_is_moved(
    md: Minidocker, family: Family, server: Path, kind: str, inhabited: bool  # noqa: F811
) -> None:
    """It is in the network or not; its way out, its published ports and its DNS are those of where it is."""

    def scene() -> tuple[list[str], Callable[[int], None]]:
        stage = Stage(md, family, server, inhabited)
        words = stage.connect if kind == "connect" else stage.disconnect
        for one in (stage.connect, stage.disconnect):  # what is kept for the next time is there
            md(*one)
        before = stage.picture()
        if kind == "disconnect":
            md(*stage.connect)
        effects = stage.injector.effects(stage.file, *words)
        if kind == "connect":
            md(*stage.disconnect)

        def strike(number: int) -> None:
            if kind == "disconnect":
                md(*stage.connect)
            stage.injector.kill(number, *words)
            md("ps")
            if stage.is_connected():
                stage.assert_connected()
                md(*stage.disconnect)
            assert_picture(stage, before)

        return effects, strike

    at_instants(scene, 10)


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
            await_picture(md, before, family)

        return effects, strike

    at_instants(scene, 8)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["restart", "start", "run -d", "run"])
def test_killed_while_a_container_of_two_networks_comes_or_goes(
    md: Minidocker, family: Family, server: Path, kind: str  # noqa: F811
) -> None:
    """The command, its monitor, or both. The container runs and is whole, or holds nothing; a start makes it whole."""

    def scene() -> tuple[list[str], Callable[[int], None]]:
        stage = Stage(md, family, server, True)
        words = {"restart": ("restart", "-t", "0", "victim"), "start": ("start", "victim")}.get(kind)
        networks = ("--net", "front", "--net", "back:gw-priority=1,alias=v", "-p", f"18080:{PORT}")
        run = ("run", *["-d"] * (kind != "run"), "--name", "victim", *networks, *((server, "victim") if kind != "run" else ("true",)))
        words = words or run
        md("rm", "-f", "victim")
        poll(lambda: len(pretend.ip("link show master front")) == 0, "its cable is gone")
        gone = but_names(picture(md, family))
        if kind in ("restart", "start"):
            md("run", "-d", *run[2:])
        if kind == "start":
            md("stop", "-t", "0", "victim")
        effects = stage.injector.effects(stage.file, *words)
        md("rm", "-f", "victim", check=False)

        def strike(number: int) -> None:
            if kind in ("restart", "start"):
                md("run", "-d", *run[2:])
            if kind == "start":
                md("stop", "-t", "0", "victim")
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

    at_instants(scene, 10)


def await_picture_but_names(md: Minidocker, before: Picture, family: Family) -> None:  # noqa: F811
    deadline = time.monotonic() + 3
    while (now := but_names(picture(md, family))) != before:
        assert time.monotonic() < deadline, f"the machine has changed: {differences(before, now)}"
        time.sleep(0.02)
