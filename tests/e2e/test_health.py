"""run --health-cmd: a container's monitor has its health looked at, and what was found is in ps, inspect and events."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.machine import children, command_line
from tests.e2e.support import Minidocker, poll
from tests.e2e.test_events import past
from tests.e2e.test_restart import monitor

FAST = ["--health-interval", "100ms"]


@pytest.fixture
def root(busybox: Path) -> list[object]:
    return ["--net", "none", "--rootfs", busybox]


def health(md: Minidocker, name: str = "web") -> dict[str, Any]:
    return md.inspect(name)["State"]["Health"]  # type: ignore[no-any-return]


def until(md: Minidocker, status: str, name: str = "web") -> dict[str, Any]:
    return poll(lambda: (found := health(md, name))["Status"] == status and found, f"{name} is {status}")  # type: ignore[no-any-return]


def test_from_starting_to_unhealthy_to_healthy(md: Minidocker, root: list[object]) -> None:
    check = "echo looked; test -e /ok"
    md.start("--name", "web", "--health-cmd", check, *FAST, "--health-retries", "2", *root, "sleep", "1000")
    found = until(md, "unhealthy")
    assert found["FailingStreak"] >= 2 and {entry["ExitCode"] for entry in found["Log"]} == {1}
    assert md("ps", "--format", "{{.Status}}").stdout.endswith(" (unhealthy)\n")
    md("exec", "web", "touch", "/ok")
    found = until(md, "healthy")
    assert found["FailingStreak"] == 0 and found["Log"][-1]["ExitCode"] == 0 and found["Log"][-1]["Output"] == "looked\n"
    assert found["Log"][-1]["Start"] < found["Log"][-1]["End"]
    assert md("ps", "--format", "{{.Status}}").stdout.endswith(" (healthy)\n")
    assert md("ps", "-q", "-f", "health=healthy").stdout and not md("ps", "-q", "-f", "health=unhealthy").stdout
    poll(lambda: len(health(md)["Log"]) == 5, "five are kept")
    assert [event["Action"] for event in past(md, "-f", "event=health_status")] == ["health_status: unhealthy", "health_status: healthy"]
    assert md.inspect("web")["Config"]["Healthcheck"] == {
        "Test": ["CMD-SHELL", check], "Interval": 100_000_000, "Timeout": 30_000_000_000, "StartPeriod": 0, "Retries": 2}  # fmt: skip


def test_before_the_first_look(md: Minidocker, root: list[object]) -> None:
    md.start("--name", "web", "--health-cmd", "true", *root, "sleep", "1000")
    assert health(md) == {"Status": "starting", "FailingStreak": 0, "Log": []}
    assert md("ps", "--format", "{{.Status}}").stdout.endswith(" (health: starting)\n")


def test_one_that_takes_too_long_is_killed(md: Minidocker, root: list[object]) -> None:
    slow = ["--health-timeout", "200ms", "--health-retries", "1"]
    md.start("--name", "web", "--health-cmd", "exec sleep 777", *FAST, *slow, *root, "sleep", "1000")
    found = until(md, "unhealthy")
    assert found["Log"][0]["ExitCode"] == -1 and "longer than 0.2 s" in found["Log"][0]["Output"]
    assert md("exec", "web", "ps").stdout.count("sleep 777") <= 1, "none is left over"


def test_a_start_period(md: Minidocker, root: list[object]) -> None:
    patient = ["--health-retries", "1", "--health-start-period", "10m"]
    md.start("--name", "web", "--health-cmd", "false", *FAST, *patient, *root, "sleep", "1000")
    poll(lambda: len(health(md)["Log"]) >= 3, "three have failed")
    assert (health(md)["Status"], health(md)["FailingStreak"]) == ("starting", 0)


def test_what_it_says_is_bounded_and_may_be_anything(md: Minidocker, root: list[object]) -> None:
    noisy = "head -c 100000 /dev/zero | tr '\\0' x; printf '\\377'"
    md.start("--name", "web", "--health-cmd", noisy, *FAST, *root, "sleep", "1000")
    assert until(md, "healthy")["Log"][0]["Output"] == "x" * 4096


def test_its_privileges_are_those_of_the_container(md: Minidocker, root: list[object]) -> None:
    look = "id -u; echo $A; grep -E 'Sig(Ign|Blk)' /proc/self/status; ls /proc/self/fd"
    md.start("--name", "web", "-u", "1000:1000", "-e", "A=b", "--health-cmd", look, *FAST, *root, "sleep", "1000")
    said = until(md, "healthy")["Log"][0]["Output"].split("\n")
    assert said[:4] == ["1000", "b", "SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"]
    assert said[4:-1] == ["0", "1", "2", "3"], "3 is the directory itself"


def test_a_paused_container_is_left_alone_and_a_start_begins_anew(md: Minidocker, root: list[object]) -> None:
    md.start("--name", "web", "--health-cmd", "true", *FAST, *root, "sleep", "1000")
    until(md, "healthy")
    md("pause", "web")
    seen = health(md)
    last = poll(lambda: (now := health(md)) == seen or seen.update(now), "nobody looks any more")
    assert last and health(md)["Status"] == "healthy"
    md("unpause", "web")
    poll(lambda: health(md)["Log"][-1] != seen["Log"][-1], "it is looked at again")
    md("stop", "-t", "0", "web")
    assert health(md)["Status"] == "healthy", "as it was when it ended"


def test_who_looks_goes_with_the_container(md: Minidocker, root: list[object]) -> None:
    md.start("--name", "web", "--health-cmd", "sleep 1000", *FAST, *root, "sleep", "1000")
    watcher = monitor(md, "web")
    [looker] = poll(lambda: [pid for pid in children(watcher) if "healthcheck" in command_line(pid)], "somebody looks")
    md("kill", "web")
    md.wait("web")
    poll(lambda: not Path(f"/proc/{looker}").exists(), "nobody looks")


def test_a_killed_monitor_with_a_look_under_way(md: Minidocker, root: list[object]) -> None:
    md.start("--name", "web", "--restart", "always", "--health-cmd", "sleep 1000", *FAST, *root, "sleep", "1000")
    watcher = monitor(md, "web")
    poll(lambda: [pid for pid in children(watcher) if "healthcheck" in command_line(pid)], "somebody looks")
    os.kill(watcher, signal.SIGKILL)
    poll(lambda: md.inspect("web")["RestartCount"] == 1 and md.inspect("web")["State"]["Status"] == "running", "it runs again")


def test_in_the_foreground(md: Minidocker, root: list[object]) -> None:
    words = ["--rm", "-i", "--name", "web", "--health-cmd", "echo secret", *FAST, *root, "sh", "-c", "read x; echo $x"]
    with md.open("run", *words) as running:
        poll(lambda: md("inspect", "web", check=False).returncode == 0, "it is there")
        until(md, "healthy")
        shown, _ = running.communicate(b"bye\n", timeout=20)
    assert shown == b"bye\n", "what a look says is not the container's"


def test_without_a_check_nothing_is_loaded_for_it(md: Minidocker, root: list[object]) -> None:
    md.start("--name", "web", *root, "sleep", "1000")
    md.start("--name", "none", "--no-healthcheck", *root, "sleep", "1000")
    for name in ("web", "none"):
        document = md.inspect(name)
        assert "Health" not in document["State"]
        assert not (md.run_directory / "containers" / document["Id"] / "pulse").exists()
    assert md.inspect("none")["Config"]["Healthcheck"] == {"Test": ["NONE"]} and "Healthcheck" not in md.inspect("web")["Config"]


def test_what_is_refused(md: Minidocker, root: list[object]) -> None:
    assert "--health-cmd" in md.refused("run", "--health-interval", "5s", *root, "true")
    assert "--no-healthcheck" in md.refused("run", "--no-healthcheck", "--health-cmd", "true", *root, "true")
    assert "--health-timeout" in md.refused("run", "--health-cmd", "true", "--health-timeout", "5", *root, "true")
