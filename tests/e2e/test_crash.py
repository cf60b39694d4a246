"""SIGKILL at any instant, then one command, and nothing is left behind (DESIGN, law 4)."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests import pretend
from tests.e2e.machine import Family, Picture, await_picture, children, command_line, is_alive, picture, records
from tests.e2e.support import Background, Minidocker, poll

ROUNDS = 200
KINDS = {
    "run": 15, "run --rm": 15, "run -p": 15, "run -d": 18, "run -d --rm": 18, "run -d -p": 18, "stop": 35, "rm -f": 35, "network rm": 31,
}  # fmt: skip


@pytest.fixture
def family() -> Iterator[Family]:
    with Family() as family:
        yield family


class Crash:
    """One command that is killed half way."""

    def __init__(self, md: Minidocker, family: Family, words: list[object], name: str) -> None:
        self.md = md
        self.family = family
        self.name = name
        before = set(family.orphans())
        self.command: Background = md.open(*words)
        family.mine.add(self.command.pid)
        self._before = before

    def monitors(self) -> list[int]:
        """The monitors of the containers that are there: the command's children, and those whose command has gone."""
        own = [pid for pid in children(self.command.pid) if command_line(pid).startswith(command_line(self.command.pid)[:40])]
        return [*own, *self.family.orphans()]

    def phase(self) -> str:
        """How far things were, by the record: what the next command will have to go by."""
        database = self.md.root / "state.db"
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            row = connection.execute("SELECT status, id FROM containers WHERE name = ?", (self.name,)).fetchone()
        if row is None:
            return "no record"
        if row[0] == "creating" and (self.md.run_directory / "containers" / row[1] / "state.json").exists():
            return "created"
        return "creating, in its cgroup" if row[0] == "creating" and self.md.cgroups(row[1]) else str(row[0])

    def kill(self, victims: str, delay: float) -> str:
        """Kill the command, the monitor or both after `delay` seconds; returns the phase that was hit."""
        time.sleep(delay)
        self.command.poll()
        monitors = self.monitors()
        if victims != "monitor" or not monitors:
            self.command.kill()
        if victims != "command":
            for pid in monitors:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        phase = self.phase()
        for stream in (self.command.stdin, self.command.stdout, self.command.stderr):
            assert stream is not None
            stream.close()
        poll(lambda: self.command.poll() is not None, "the command has ended")
        self.family.mine.discard(self.command.pid)
        # a monitor that was left alive ends what it has begun, by itself; a container that runs goes on
        poll(lambda: all(map(watches, self.family.orphans())), "monitors end or watch")
        return phase


def watches(pid: int) -> bool:
    """Whether it is a monitor that watches: one whose container has just ended is about to write that down, and then to go."""
    return " resident " in command_line(pid) and any(map(is_alive, children(pid)))


def settle(md: Minidocker, family: Family, before: Picture) -> None:
    """The one command, after which nothing is left but what a record speaks of; and after `rm` not that either."""
    rows = json.loads(md("ps", "-a", "--format", "json", check=False).stdout or "[]")
    running = [row["Names"] for row in rows if row["State"] == "running"]
    assert {row["State"] for row in rows} <= {"running", "exited"}
    assert len(running) == len(family.orphans()), "a container runs if and only if its monitor lives"
    if not running:
        kernel = {kind: value for kind, value in before.items() if kind not in ("data", "records")}

        def same() -> bool:
            now = picture(md, family)
            leases = now["records"]["endpoints"] + now["records"]["ports"]
            return not leases and all(now[kind] == value for kind, value in kernel.items())

        if rows:
            poll(same, f"all but the record has gone: {rows}", 2)
    if rows:
        md("rm", "-f", *(row["Names"] for row in rows))
    await_picture(md, before, family)


class Killer:
    """Crashes commands of each kind, at an instant drawn from all of the time that such a command takes here and now."""

    def __init__(self, md: Minidocker, family: Family, busybox: Path, chance: random.Random) -> None:
        self.md = md
        self.family = family
        self.chance = chance
        self.root = ("--net", "br0", "--rootfs", busybox)
        md.run("--rm", *self.root, "-p", "18080:80", "true")  # br0 was there before, as were the skeleton and the compiled filter
        self.takes = {verb: self._measure(verb) for verb in ("run", "stop", "rm", "network")}
        self.before = picture(md, family)

    def _measure(self, verb: str) -> float:
        self.prepare(verb)
        begun = time.monotonic()
        self.md(*({"run": self.words("run -d")}.get(verb) or self.words({"stop": "stop", "rm": "rm -f", "network": "network rm"}[verb])))
        took = time.monotonic() - begun
        if verb in ("run", "stop"):
            self.md("rm", "-f", "victim")
        return took

    def prepare(self, verb: str) -> None:
        """What the command needs to be there."""
        if verb in ("stop", "rm"):
            self.md.start("--name", "victim", *self.root, "-p", "18080:80", "sleep", "1000")
        elif verb == "network":
            self.md("network", "create", "again")

    def words(self, kind: str) -> list[object]:
        if kind == "network rm":
            return ["network", "rm", "again"]
        if not kind.startswith("run"):
            return [*kind.replace("stop", "stop -t 0").split(), "victim"]
        return [*kind.replace("-p", "-p 18080:80").split(), "--name", "victim", *self.root, "sleep", "1000"]

    def strike(self, kind: str) -> tuple[str, str, str]:
        """One crash, one command after it, one look at the machine; returns the command, who was killed, and how far things were."""
        verb = kind.partition(" ")[0]
        self.prepare(verb)
        victims = "command" if verb == "network" else self.chance.choice(("command", "monitor", "both"))
        delay = self.chance.uniform(0, 1.15 * self.takes[verb])
        phase = Crash(self.md, self.family, self.words(kind), "victim").kill(victims, delay)
        if verb == "network":
            phase = "removed"
            if any(network[0] == "again" for network in records(self.md.root / "state.db")["networks"]):
                phase = "network recorded" if any(link["ifname"] == "again" for link in pretend.ip("link")) else "network half gone"
                self.md("network", "rm", "again")
        settle(self.md, self.family, self.before)
        return kind, victims, phase


@pytest.mark.slow
def test_killed_at_random_instants_nothing_is_left(
    md: Minidocker, family: Family, busybox: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("MINIDOCKER_SEED", random.randrange(1 << 32)))
    chance = random.Random(seed)
    kinds = [kind for kind, count in KINDS.items() for _ in range(count)]
    assert len(kinds) == ROUNDS
    chance.shuffle(kinds)
    killer = Killer(md, family, busybox, chance)
    hit: Counter[tuple[str, str, str]] = Counter()
    started = time.monotonic()
    for number, kind in enumerate(kinds):
        try:
            hit[killer.strike(kind)] += 1
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, round {number}, {kind}: {error}") from error
    with capsys.disabled():
        print(f"\n{ROUNDS} crashes in {time.monotonic() - started:.0f} s (seed {seed})")
        for (kind, victims, phase), count in sorted(hit.items()):
            print(f"  {kind:12} {victims:8} killed, then: {phase:24} {count:3}")
    reached = {phase.partition(",")[0] for _, _, phase in hit}
    assert {"no record", "creating", "running", "network recorded"} <= reached


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["run", "create"])
def test_killed_while_a_network_is_made(md: Minidocker, family: Family, busybox: Path, kind: str) -> None:
    """What is half made of a network belongs to its record: the next use completes it, `network rm` removes all of it."""
    run = ["run", "--rm", "--net", "br0", "--rootfs", busybox]
    words = [*run, "--name", "victim", "true"] if kind == "run" else ["network", "create", "br0"]
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    with pretend.outside():
        pretend.sh("sysctl -qw net.ipv6.conf.lan0.disable_ipv6=1")  # its address comes seconds later
        md(*run, "true")  # makes what is kept
        md("network", "rm", "br0")
        begun = time.monotonic()
        md(*words)
        takes = time.monotonic() - begun
        md("network", "rm", "br0")
        before = picture(md, family)
        for number in range(20):
            try:
                Crash(md, family, list(words), "victim").kill("both", chance.uniform(0, takes))
                rows = md.ps()
                assert [row for row in rows if row["State"] != "exited"] == []
                if number % 2:
                    md(*run, "true")
                if records(md.root / "state.db")["networks"]:
                    md("network", "rm", "br0")
                await_picture(md, before, family)
            except AssertionError as error:
                raise AssertionError(f"seed {seed}, round {number}: {error}") from error


# --- one by one -------------------------------------------------------------------------------------------------------------------------


def monitor_of(md: Minidocker, family: Family, name: str) -> int:
    pid = md.inspect(name)["State"]["Pid"]
    [monitor] = [orphan for orphan in family.orphans() if pid in children(orphan)]
    return monitor


@pytest.mark.parametrize("detached", [True, False])
def test_who_asks_all_to_end_is_told_the_end_of_each(md: Minidocker, family: Family, busybox: Path, detached: bool) -> None:
    """A host that goes down sends SIGTERM to monitors as to containers: what has become of the container is still written down."""
    words = ("--name", "web", "--net", "none", "--rootfs", busybox, "sh", "-c", "trap 'echo bye; exit 3' TERM; while :; do sleep 0.1; done")
    command = None if detached else md.open("run", *words)
    if command:
        family.mine.add(command.pid)
    else:
        md.start(*words)
    poll(lambda: [row["State"] for row in md.ps()] == ["running"], "it runs")
    pid = md.inspect("web")["State"]["Pid"]
    monitor = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    poll(lambda: int(Path(f"/proc/{monitor}/status").read_text().split("SigIgn:")[1].split()[0], 16) >> 14 & 1, "the monitor watches")
    os.kill(monitor, signal.SIGTERM)
    assert md.inspect("web")["State"]["Running"]
    poll(lambda: int(Path(f"/proc/{pid}/status").read_text().split("SigCgt:")[1].split()[0], 16) >> 14 & 1, "its shell has set the trap")
    os.kill(pid, signal.SIGTERM)
    state = md.wait("web")["State"]
    assert (state["ExitCode"], state["Error"]) == (3, "") and md.logs("web") == "bye\n"
    if command:
        with command:
            assert command.wait(20) == 3


def test_a_container_of_an_earlier_boot(md: Minidocker, family: Family, busybox: Path) -> None:
    """As it is after a power cut: /run is empty and the record speaks of a boot that is over (tests/vm does it with the machine)."""
    md.start("--name", "web", "--net", "none", "--rootfs", busybox, "sleep", "1000")
    pid, monitor = md.inspect("web")["State"]["Pid"], monitor_of(md, family, "web")
    os.kill(monitor, signal.SIGKILL)
    poll(lambda: not is_alive(pid), "it is dead, before any other command")
    with closing(sqlite3.connect(md.root / "state.db")) as database, database:
        database.execute("UPDATE containers SET boot = 'another'")
    state = md.inspect("web")["State"]
    assert (state["ExitCode"], state["Running"], state["Error"]) == (None, False, "the host went down")


def test_a_killed_monitor_takes_its_container_along(md: Minidocker, family: Family, busybox: Path) -> None:
    md.start("--name", "web", "--rootfs", busybox, "-p", "18080:80", "sh", "-c", "sleep 1000 & sleep 1000")
    address = md.ps()[0]["IP"]
    procs = md.cgroup(md.inspect("web")["Id"], "freezer") / "cgroup.procs"
    inside = poll(lambda: len(pids := procs.read_text().split()) == 2 and pids, "both of its processes run")
    os.kill(monitor_of(md, family, "web"), signal.SIGKILL)
    poll(lambda: not any(is_alive(int(pid)) for pid in inside), "its processes are dead, before any other command")
    [row] = md.ps()
    assert row["State"] == "exited" and row["Status"].startswith("Exited (unknown)")
    state = md.inspect("web")["State"]
    assert (state["ExitCode"], state["Running"], state["Pid"], state["Error"]) == (None, False, 0, "its monitor was killed")
    assert md.cgroups(row["ID"]) == [] and not os.path.lexists("/run/netns/web")
    md.start("--name", "heir", "--rootfs", busybox, "--ip", address, "-p", "18080:80", "sleep", "1000")
    md("rm", "web")


def test_a_killed_monitor_of_a_container_with_rm_leaves_no_record(md: Minidocker, family: Family, busybox: Path) -> None:
    md.start("--rm", "--name", "web", "--rootfs", busybox, "sleep", "1000")
    os.kill(monitor_of(md, family, "web"), signal.SIGKILL)
    assert md.ps() == []
    assert list((md.root / "containers").iterdir()) == []


def test_a_killed_client_ends_its_container(md: Minidocker, family: Family, busybox: Path) -> None:
    deaf = "trap '' TERM INT HUP; echo up; while true; do sleep 1; done"
    with md.open("run", "--name", "web", "--rootfs", busybox, "sh", "-c", deaf) as command:
        family.mine.add(command.pid)
        assert command.line() == "up"
        command.kill()
    state = md.wait("web")["State"]
    assert state["ExitCode"] == 137
    poll(lambda: not family.orphans(), "the monitor has gone")


def test_the_client_says_that_its_monitor_was_killed(md: Minidocker, family: Family, busybox: Path) -> None:
    with md.open("run", "--name", "web", "--rootfs", busybox, "sh", "-c", "echo up; sleep 1000") as command:
        family.mine.add(command.pid)
        assert command.line() == "up"
        [monitor] = children(command.pid)
        os.kill(monitor, signal.SIGKILL)
        assert command.wait(20) == 125
        assert command.stderr is not None
        assert command.stderr.read().decode() == (
            "minidocker: the container's monitor ended, so its exit status is unknown\n  hint: minidocker ps -a shows what is left\n"
        )
    assert md.ps()[0]["Status"].startswith("Exited (unknown)")


def test_what_the_monitor_noted_of_the_end_is_kept(md: Minidocker, family: Family, busybox: Path) -> None:
    """Killed between the container's end and its record's: the exit code is known all the same."""
    id = md.start("--name", "web", "--rootfs", busybox, "sleep", "1000")
    os.kill(monitor_of(md, family, "web"), signal.SIGKILL)
    (md.run_directory / "containers" / id / "exit").write_text(f"{3 << 8} 1000000000.0")
    state = md.inspect("web")["State"]
    assert (state["ExitCode"], state["FinishedAt"], state["Error"]) == (3, "2001-09-09T01:46:40.000000000Z", "")


def test_stop_kills_what_ignores_its_signal(md: Minidocker, busybox: Path) -> None:
    md.start("--name", "deaf", "--rootfs", busybox, "sh", "-c", "trap '' TERM; echo up; while true; do sleep 1; done")
    poll(lambda: "up" in md.logs("deaf"), "it is up")
    begun = time.monotonic()
    md("stop", "-t", "1", "deaf")
    assert time.monotonic() - begun >= 1
    assert md.inspect("deaf")["State"]["ExitCode"] == 137
    md.start("--name", "default", "--rootfs", busybox, "sh", "-c", "echo up; exec sleep 1000")  # PID 1 ignores what it does not catch
    md("stop", "-t", "0", "default")
    assert md.inspect("default")["State"]["ExitCode"] == 137


def test_after_a_boot_all_containers_have_exited_and_their_leases_are_free(md: Minidocker, family: Family, busybox: Path) -> None:
    """As it is after a power cut: the records say running, under another boot id, and nothing of it is there."""
    kept = md.start("--name", "kept", "--rootfs", busybox, "-p", "18080:80", "sleep", "1000")
    md.start("--name", "gone", "--rm", "--rootfs", busybox, "sleep", "1000")
    [network] = records(md.root / "state.db")["networks"]
    address = md.inspect("kept")["NetworkSettings"]["Networks"]["br0"]["IPAddress"]
    for monitor in family.orphans():
        os.kill(monitor, signal.SIGKILL)
    poll(lambda: not family.orphans(), "the monitors are gone")
    poll(lambda: not [c for c in md.cgroups() if (c / "cgroup.procs").read_text()], "and so are the containers")
    pretend.sh(f"ip link del br0; nft flush ruleset; rm -rf {md.run_directory} /run/netns/kept /run/netns/gone; "
               f"find /sys/fs/cgroup -depth -type d -path '*minidocker-{md.tag}*' -exec rmdir {{}} +")  # fmt: skip
    with closing(sqlite3.connect(md.root / "state.db")) as connection, connection:
        connection.execute("UPDATE containers SET boot = '00000000-0000-4000-8000-000000000000'")
        now = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        connection.execute("UPDATE settings SET value = replace(value, ?, '0')", (now,))
    [row] = md.ps()
    assert (row["ID"], row["State"]) == (kept, "exited") and row["Status"].startswith("Exited (unknown)")
    assert records(md.root / "state.db")["endpoints"] == records(md.root / "state.db")["ports"] == []
    md.start("--name", "heir", "--rootfs", busybox, "--ip", address, "-p", "18080:80", "sleep", "1000")
    assert records(md.root / "state.db")["networks"] == [network], "br0 has come back as it was"


def test_a_reused_pid_is_nobody_of_ours(md: Minidocker, family: Family, busybox: Path) -> None:
    """The record and /run speak of a pid that is now a stranger's: the stranger is neither killed nor shown by `ip netns`."""
    id = md.start("--name", "web", "--rootfs", busybox, "sleep", "1000")
    monitor = monitor_of(md, family, "web")
    os.kill(monitor, signal.SIGKILL)
    poll(lambda: not family.orphans(), "monitor and container are gone")
    with Background(["unshare", "--net", "sleep", "1000"]) as stranger:
        family.mine.add(stranger.pid)
        poll(lambda: os.readlink(f"/proc/{stranger.pid}/ns/net") != os.readlink("/proc/self/ns/net"), "the stranger's own network")
        with closing(sqlite3.connect(md.root / "state.db")) as connection, connection:
            connection.execute("UPDATE containers SET pid = ?", (stranger.pid,))
        saved = md.run_directory / "containers" / id / "state.json"
        saved.write_text(json.dumps({**json.loads(saved.read_text()), "pid": stranger.pid}))
        os.unlink("/run/netns/web")
        os.symlink(f"/proc/{stranger.pid}/ns/net", "/run/netns/web")
        md("stop", "web")
        assert md.ps()[0]["State"] == "exited"
        assert stranger.poll() is None, "alive"
        assert not os.path.lexists("/run/netns/web"), "our link would lead to a stranger"
        stranger.kill()
