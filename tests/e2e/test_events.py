"""events: what happens to containers and networks, when it has and as it does."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.support import Minidocker, poll
from tests.e2e.test_restart import monitor


def past(md: Minidocker, *words: object) -> list[dict[str, Any]]:
    """What has happened so far."""
    lines = md("events", "--since", "1h", "--until", "0s", "--format", "json", *words).stdout.splitlines()
    return [json.loads(line) for line in lines]


def told(events: list[dict[str, Any]]) -> list[str]:
    return [f"{event['Type']} {event['Action']} {event['Actor']['Attributes']['name']}" for event in events]


@pytest.fixture
def root(busybox: Path) -> list[object]:
    return ["--net", "none", "--rootfs", busybox]


def test_a_life(md: Minidocker, busybox: Path) -> None:
    md("network", "create", "lab")
    md.start("--name", "web", "--net", "lab", "-l", "tier=front", "--rootfs", busybox, "sleep", "1000")
    md("kill", "-s", "WINCH", "web")
    md("pause", "web")
    md("unpause", "web")
    md("restart", "-t", "0", "web")
    md("rm", "-f", "web")
    md("network", "rm", "lab")
    run = ["network connect lab", "container start web"]
    end = ["container kill web", "container die web", "network disconnect lab"]
    assert told(past(md)) == [
        "network create lab", "container create web", *run, "container kill web", "container pause web", "container unpause web",
        *end, "container stop web", *run, "container restart web", *end, "container destroy web", "network destroy lab",
    ]  # fmt: skip
    [first, second] = past(md, "-f", "event=die")
    assert first["Actor"]["Attributes"] == {"name": "web", "tier": "front", "exitCode": "137"}
    assert (first["status"], first["id"], first["scope"]) == ("die", first["Actor"]["ID"], "local")
    assert first["time"] == first["timeNano"] // 10**9 and first["timeNano"] < second["timeNano"]
    assert [event["Actor"]["Attributes"]["signal"] for event in past(md, "-f", "event=kill")] == ["28", "15", "9"]


def test_connecting_a_running_container(md: Minidocker, busybox: Path) -> None:
    id = md.start("--name", "web", "--net", "none", "--rootfs", busybox, "sleep", "1000")
    md("network", "create", "lab")
    md("network", "connect", "lab", "web")
    md("network", "disconnect", "lab", "web")
    events = past(md, "-f", "type=network", "-f", "container=web")
    assert [event["Action"] for event in events] == ["connect", "disconnect"]
    assert {event["Actor"]["Attributes"]["container"] for event in events} == {id}


def test_renaming(md: Minidocker, root: list[object]) -> None:
    id = md.start("--name", "old", *root, "sleep", "1000")
    md("rename", "old", "new")
    [event] = past(md, "-f", "event=rename")
    assert event["Actor"] == {"ID": id, "Attributes": {"name": "new", "oldName": "old"}}


def test_filters(md: Minidocker, root: list[object]) -> None:
    id = md.start("--name", "a", "-l", "x=1", *root, "true")
    md.start("--name", "b", "-l", "x=2", *root, "true")
    for name in ("a", "b"):
        md.wait(name)
    assert told(past(md, "-f", "container=a")) == told(past(md, "-f", f"container={id[:12]}")) == [
        "container create a", "container start a", "container die a"]  # fmt: skip
    assert told(past(md, "-f", "label=x=2", "-f", "event=start", "-f", "event=die")) == ["container start b", "container die b"]
    assert past(md, "-f", "type=network") == []
    template = "{{.Type}} {{.Actor.Attributes.name}}"
    assert md("events", "--since", "1h", "--until", "0s", "-f", "event=start", "--format", template).stdout == "container a\ncontainer b\n"
    text = md("events", "--since", "1h", "--until", "0s", "-f", "event=die", "-f", "container=a").stdout
    assert f" container die {id} (exitCode=0, name=a, x=1)\n" in text


def test_what_is_refused(md: Minidocker) -> None:
    assert "nonsense" in md.refused("events", "--until", "0s", "-f", "nonsense=1", code=125)
    assert "--until" in md.refused("events", "--until", "yesterday", code=125)
    assert "KEY=VALUE" in md.refused("events", "-f", "die", code=125)


def test_live_until_ctrl_c(md: Minidocker, root: list[object]) -> None:
    md.start("--name", "before", *root, "true")
    md.wait("before")
    with md.open("events", "--format", "{{.Action}} {{.Actor.Attributes.name}}") as watching:
        # the reader has skipped what was there once it has the file open
        file = str(md.root / "events")
        poll(lambda: file in {os.readlink(entry.path) for entry in os.scandir(f"/proc/{watching.pid}/fd") if os.path.lexists(entry.path)},
             "it watches")  # fmt: skip
        md.start("--name", "now", *root, "sh", "-c", "exit 4")
        assert [watching.line() for _ in range(3)] == ["create now", "start now", "die now"]
        watching.send_signal(signal.SIGINT)
        assert watching.wait(20) == 130
        assert watching.stderr is not None and watching.stderr.read() == b""


def test_until_a_time_to_come(md: Minidocker, root: list[object]) -> None:
    md.run("--rm", "--name", "one", *root, "true")
    events = past(md)
    assert told(events) == ["container create one", "container start one", "container die one", "container destroy one"]
    middle = events[1]["timeNano"] / 1e9
    early = md("events", "--until", f"{middle:.9f}", "--format", "{{.Action}}").stdout.split()
    late = md("events", "--since", f"{middle:.9f}", "--until", "0s", "--format", "{{.Action}}").stdout.split()
    assert early + late in (["create", "start", "die", "destroy"], ["create", "start", "start", "die", "destroy"])


def test_the_end_of_a_killed_monitors_container_is_told_by_the_next_command(md: Minidocker, root: list[object]) -> None:
    md.start("--name", "web", *root, "sleep", "1000")
    os.kill(monitor(md, "web"), signal.SIGKILL)
    poll(lambda: md("ps", "-q").stdout == "", "it is gone")
    [died] = past(md, "-f", "event=die")
    assert died["Actor"]["Attributes"]["exitCode"] == "unknown"


def test_out_of_memory(md: Minidocker, root: list[object]) -> None:
    md.start("--name", "big", "-m", "16m", *root, "sh", "-c", "x=$(cat /dev/zero | tr '\\0' x)", check=False)
    md.wait("big")
    assert told(past(md, "-f", "container=big"))[-2:] == ["container oom big", "container die big"]


def test_what_was_written_before_the_file_was_full(md: Minidocker, root: list[object]) -> None:
    """The file is bounded: at a mebibyte it becomes events.1, and both are read."""
    md.run("--rm", "--name", "early", *root, "true")
    with (md.root / "events").open("ab") as file:
        file.write(b'{"time": 1, "cut off by a full disk\n')
        file.truncate((1 << 20) - 10)
        file.seek(0, os.SEEK_END)
        file.write(b"\n")
    md.run("--rm", "--name", "late", *root, "true")
    assert (md.root / "events.1").exists() and (md.root / "events").stat().st_size < 4096
    assert told(past(md, "-f", "event=start")) == ["container start early", "container start late"]
