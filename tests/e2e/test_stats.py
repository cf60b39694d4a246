"""`stats` on real containers: what they do is what it says."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path
from typing import Any

from tests.e2e.support import Minidocker, poll


def stats(md: Minidocker, *words: str) -> dict[str, dict[str, Any]]:
    return {record["Name"]: record for record in json.loads(md("stats", "--no-stream", "--format", "json", *words).stdout)}


def test_what_a_container_does_is_what_it_says(md: Minidocker, busybox: Path) -> None:
    script = "dd if=/dev/zero of=/dev/shm/x bs=1M count=24 2> /dev/null; while :; do :; done"
    id = md.start("--name", "busy", "--net", "br0", "--rootfs", busybox, "-m", "64m", "--pids-limit", "9", "sh", "-c", script)
    md.start("--name", "idle", "--net", "none", "--rootfs", busybox, "sleep", "1000")
    found = poll(lambda: (now := stats(md)) and now["busy"]["Memory"]["Usage"] >= 24 << 20 and now, "it has its memory", 60)
    busy, idle = found["busy"], found["idle"]
    assert 24 << 20 <= busy["Memory"]["Usage"] <= busy["Memory"]["Limit"] == 64 << 20
    assert busy["CPU"] > 10 * idle["CPU"] and busy["CPU"] <= 110, "one loop is one processor at most"
    assert busy["Pids"] == {"Current": 1, "Limit": 9} and idle["Pids"] == {"Current": 1, "Limit": None}
    assert idle["Network"] == {"Received": 0, "Sent": 0}, "loopback does not count"
    before = busy["Network"]["Received"]
    address = md.inspect("busy")["NetworkSettings"]["Networks"]["br0"]["IPAddress"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(3):
            sender.sendto(bytes(1000), (address, 9))
    received = stats(md, "busy")["busy"]["Network"]["Received"]
    assert received >= before + 3000
    unified = md.cgroup(id, "memory")
    assert (busy["Pressure"] is None) == (not (unified / "memory.pressure").exists())


def test_formats_names_and_what_has_ended(md: Minidocker, busybox: Path) -> None:
    md.start("--name", "up", "--net", "none", "--rootfs", busybox, "sleep", "1000")
    md.start("--name", "ended", "--net", "none", "--rootfs", busybox, "true")
    md.wait("ended")
    lines = md("stats", "--no-stream").stdout.splitlines()
    assert lines[0].split()[:6] == ["CONTAINER", "ID", "NAME", "CPU", "%", "MEM"] and len(lines) == 2 and " up " in lines[1]
    assert md("stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}").stdout == "up 1\n"
    assert md("stats", "--no-stream", "-a", "--format", "{{.Name}} {{.PIDs}} {{.NetIO}}").stdout == "ended -- -- / --\nup 1 0B / 0B\n"
    refused = md("stats", "--no-stream", "nobody", check=False)
    assert refused.returncode == 1 and "no such container: nobody" in refused.stderr
    refused = md("stats", "--format", "{{.Nothing}}", check=False)
    assert refused.returncode == 125 and "no field `Nothing`" in refused.stderr


def test_it_goes_on_until_it_is_interrupted_or_nothing_is_left(md: Minidocker, busybox: Path) -> None:
    md.start("--name", "up", "--net", "none", "--rootfs", busybox, "sleep", "1000")
    with md.open("stats", "--format", "{{.Name}}", "up") as watching:
        assert [watching.line(), watching.line()] == ["up", "up"]
        watching.send_signal(signal.SIGINT)
        assert watching.wait(20) == 130
    with md.open("stats", "--format", "{{.Name}}", "up") as watching:
        assert watching.line() == "up"
        md("rm", "-f", "up")
        assert watching.wait(20) == 0
