"""run --restart: what ends is started again by its monitor, as its policy says, until the user ends it."""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests import pretend
from tests.e2e.machine import is_alive
from tests.e2e.support import Minidocker, poll


def count(md: Minidocker, name: str) -> int:
    return int(md.inspect(name)["RestartCount"])


def monitor(md: Minidocker, name: str) -> int:
    """The pid of who has the container's lock, 0 when nobody has."""
    lock = md.run_directory / "containers" / md.inspect(name)["Id"] / "lock"
    try:
        with lock.open("rb+") as file:
            # struct flock (fcntl(2)): type, whence, padding, start, length, pid
            answer = fcntl.fcntl(file, fcntl.F_GETLK, bytes.fromhex("01000000") + bytes(28))
    except FileNotFoundError:
        return 0
    return 0 if answer[:2] == b"\2\0" else int.from_bytes(answer[24:28], "little")


def waits(md: Minidocker, root: list[object], code: int = 7) -> dict[str, Any]:
    """Start `web`, which always starts again, and have it end after so many restarts that it now waits for a minute; its State."""
    md.start("--name", "web", "--restart", "always", *root, "sh", "-c", f"trap 'exit {code}' HUP; echo up; sleep 1000 & wait")
    poll(lambda: "up" in md.logs("web"), "it runs")
    with closing(sqlite3.connect(md.root / "state.db", isolation_level=None)) as database:
        database.execute("UPDATE containers SET restarts = 9, backoff = 51.2")
    md("kill", "-s", "HUP", "web")
    return poll(lambda: (s := md.inspect("web")["State"])["Status"] == "restarting" and s, "web waits")  # type: ignore[no-any-return]


@pytest.fixture
def root(busybox: Path) -> list[object]:
    return ["--net", "none", "--rootfs", busybox]


def test_on_failure_starts_again_so_often_and_no_more(md: Minidocker, root: list[object]) -> None:
    md.start("--name", "web", "--restart", "on-failure:2", *root, "sh", "-c", "echo run; exit 3")
    poll(lambda: count(md, "web") == 2 and md.inspect("web")["State"]["Status"] == "exited", "it is given up")
    time.sleep(1)  # the next wait would have been 0.4 s
    document = md.inspect("web")
    assert (document["RestartCount"], document["State"]["Status"], document["State"]["ExitCode"]) == (2, "exited", 3)
    assert document["HostConfig"]["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 2}
    assert md.logs("web") == "run\n" * 3, "one log, three runs"


def test_on_failure_leaves_success_alone(md: Minidocker, root: list[object]) -> None:
    md.start("--name", "web", "--restart", "on-failure", *root, "true")
    document = md.wait("web")
    time.sleep(0.5)
    assert md.inspect("web")["State"]["Status"] == "exited"
    assert document["RestartCount"] == 0


def test_always_starts_success_again_with_nothing_of_the_last_run(md: Minidocker, root: list[object]) -> None:
    """Also signals are what they were: its monitor ignores SIGTERM while it runs."""
    look = "grep -E 'Sig(Ign|Blk)' /proc/self/status; ls /proc/self/fd | wc -l"
    md.start("--name", "web", "--restart", "always", *root, "sh", "-c", look)
    poll(lambda: count(md, "web") >= 2 and md.logs("web").count("SigIgn") >= 3, "it has run three times")
    md("stop", "web")
    lines = md.logs("web").splitlines()
    assert lines[:3] == lines[3:6] == lines[6:9] and "SigIgn:\t0000000000000000" in lines


def test_ps_says_that_it_waits(md: Minidocker, root: list[object]) -> None:
    state = waits(md, root)
    assert (state["Restarting"], state["Running"], state["Pid"], state["ExitCode"]) == (True, True, 0, 7)
    status = md("ps", "--format", "{{.Status}}").stdout
    assert status.startswith("Restarting (7) ") and status.endswith(" ago\n"), "without -a, too"
    assert md("ps", "-q", "-f", "status=restarting").stdout.strip() == md.inspect("web")["Id"][:12]


def test_waiting_costs_little_and_holds_nothing(md: Minidocker, root: list[object]) -> None:
    waits(md, root)
    pid = monitor(md, "web")
    assert b"\0minidocker.engine.backoff\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
    resident = next(line for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines() if line.startswith("Pss_Anon"))
    assert int(resident.split()[1]) < 5000, resident
    held = {os.path.basename(os.readlink(entry.path)) for entry in os.scandir(f"/proc/{pid}/fd")}
    assert held == {"null", "lock"}, "nothing of the last run"
    assert not md.cgroups(md.inspect("web")["Id"])


@pytest.mark.parametrize("words", [("stop",), ("kill",), ("rm", "-f")])
def test_who_waits_is_ended_at_once(md: Minidocker, root: list[object], words: tuple[str, ...]) -> None:
    waits(md, root)
    pid = monitor(md, "web")
    assert md(*words, "web").stdout == "web\n"
    assert not is_alive(pid) and not any(md.run_directory.glob("containers/*"))
    if words[0] == "rm":
        assert md.ps() == []
    else:
        assert md("ps", "-a", "--format", "{{.Status}}").stdout.startswith("Exited (7) ")
        assert "stopped" not in md.inspect("web")["State"]["Error"]


def test_rm_without_force_refuses_one_that_waits(md: Minidocker, root: list[object]) -> None:
    waits(md, root)
    assert "container `web` is restarting" in md.refused("rm", "web", code=1)


@pytest.mark.parametrize("policy", ["always", "unless-stopped", "on-failure"])
@pytest.mark.parametrize("words", [("stop", "-t", "0"), ("kill",), ("kill", "-s", "TERM")])
def test_what_the_user_ends_stays_ended(md: Minidocker, root: list[object], policy: str, words: tuple[str, ...]) -> None:
    md.start("--name", "web", "--restart", policy, *root, "sh", "-c", "trap 'exit 9' TERM; echo up; sleep 1000 & wait")
    poll(lambda: "up" in md.logs("web"), "it runs")
    md(*words, "web")
    document = md.wait("web")
    time.sleep(0.4)
    assert md.inspect("web")["State"] == document["State"]
    assert document["RestartCount"] == 0


def test_a_signal_that_is_no_end_does_not_end_its_policy(md: Minidocker, root: list[object]) -> None:
    md.start("--name", "web", "--restart", "always", *root, "sh", "-c", "trap 'exit 4' HUP; echo up; sleep 1000 & wait")
    poll(lambda: "up" in md.logs("web"), "it runs")
    md("kill", "-s", "HUP", "web")
    poll(lambda: count(md, "web") == 1 and md.inspect("web")["State"]["Status"] == "running", "it runs again")


def test_start_begins_to_count_anew(md: Minidocker, root: list[object]) -> None:
    md.start("--name", "web", "--restart", "on-failure:1", *root, "false")
    poll(lambda: count(md, "web") == 1 and md.inspect("web")["State"]["Status"] == "exited", "it is given up")
    md("start", "web")
    poll(lambda: count(md, "web") == 1 and md.inspect("web")["State"]["Status"] == "exited", "it is given up again")
    assert md("restart", "web").stdout == "web\n"


def test_it_gets_its_network_again(md: Minidocker, busybox: Path) -> None:
    md("network", "create", "lab")
    md.start("--name", "web", "--net", "lab", "--rootfs", busybox, "--restart", "always", "-p", "18080:80",
             "sh", "-c", "ip -4 -o addr show eth0; sleep 0.3; exit 1")  # fmt: skip
    poll(lambda: count(md, "web") >= 2 and md.logs("web").count("inet ") >= 3, "it has run three times")
    assert len(set(md.logs("web").splitlines())) == 1, "the same address each time"
    md("rm", "-f", "web")
    assert "18080" not in pretend.sh("nft list ruleset")
    md("network", "rm", "lab")


def test_in_the_foreground_the_command_ends_with_the_first_run(md: Minidocker, root: list[object]) -> None:
    done = md.run("--name", "web", "--restart", "on-failure:1", *root, "sh", "-c", "echo run; exit 3", check=False)
    assert (done.returncode, done.stdout) == (3, "run\n")
    poll(lambda: count(md, "web") == 1 and md.inspect("web")["State"]["Status"] == "exited", "it has been started again, once")
    assert md.logs("web") == "run\nrun\n"


def test_a_monitor_that_was_killed_is_reported_and_its_container_started_again(md: Minidocker, root: list[object]) -> None:
    md.start("--name", "web", "--restart", "unless-stopped", *root, "sleep", "1000")
    md.start("--name", "plain", *root, "sleep", "1000")
    inside = [int(md.inspect(name)["State"]["Pid"]) for name in ("web", "plain")]
    for name in ("web", "plain"):
        os.kill(monitor(md, name), signal.SIGKILL)
    poll(lambda: not any(map(is_alive, inside)), "their containers are dead with them")
    status = {row["Names"]: row["Status"] for row in md.ps()}
    assert status["web"].startswith("Restarting (unknown) ") and status["plain"].startswith("Exited (unknown) ")
    poll(lambda: md.inspect("web")["State"]["Status"] == "running", "it runs again")
    assert (count(md, "web"), md.inspect("plain")["State"]["Error"]) == (1, "its monitor was killed")
    md("exec", "web", "true")


def test_who_waits_was_killed_and_the_next_command_has_it_wait_on(md: Minidocker, root: list[object]) -> None:
    waits(md, root)
    pid = monitor(md, "web")
    os.kill(pid, signal.SIGKILL)
    poll(lambda: not is_alive(pid), "it is gone")
    assert md.inspect("web")["State"]["Status"] == "restarting"
    poll(lambda: monitor(md, "web") not in (0, pid), "another waits")
    assert count(md, "web") == 10, "it is the same restart"
    md("restart", "web")
    assert (md.inspect("web")["State"]["Status"], count(md, "web")) == ("running", 0)


def test_a_restart_that_fails_says_why(md: Minidocker, busybox: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    md.start("--name", "web", "--restart", "always", "--net", "none", "--rootfs", busybox, "-v", f"{source}:/data", "sleep", "0.5")
    source.rmdir()
    document = md.wait("web")
    assert str(source) in document["State"]["Error"]


def test_what_is_refused(md: Minidocker, root: list[object]) -> None:
    assert "--rm" in md.refused("run", "--rm", "--restart", "always", *root, "true")
    assert "on-failure" in md.refused("run", "--restart", "always:3", *root, "true")
    assert md.run("--rm", "--restart", "no", *root, "true").stdout == ""
