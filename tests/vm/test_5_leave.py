"""What runs when the machine goes down: the last tests before a reboot. test_6_after finds out what has become of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.e2e.support import Minidocker
from tests.pretend import sh
from tests.vm import machine

pytestmark = pytest.mark.vm


def test_leave_containers_running(busybox: Path) -> None:
    md = Minidocker(machine.ROOT)
    md("network", "create", "--subnet", "10.9.0.0/24", "back")
    start = ("--rootfs", busybox)
    md.start("--name", "web", "--net", "br0", "--net", "back", "-p", "8080:80", "-m", "64m", *start, "httpd", "-f", "-h", "/etc")
    md.start("--name", "db", "--net", "br0:ip=172.17.0.77", *start, "sh", "-c", "echo up; trap '' TERM; while :; do sleep 1; done")
    md.start("--rm", "--name", "passing", "--net", "br0", *start, "sleep", "10000")
    md.run("--name", "done", "--net", "none", *start, "sh", "-c", "echo over; exit 7", check=False)
    assert machine.fetch("http://127.0.0.1:8080/passwd").startswith("root:")
    machine.remember(
        cut=os.environ["START"] == "2",
        boot=Path("/proc/sys/kernel/random/boot_id").read_text(),
        started={name: md.inspect(name)["State"]["StartedAt"] for name in ("web", "db")},
        done=md.inspect("done")["State"],
    )
    assert {row["Names"] for row in md.ps() if row["State"] == "running"} == {"web", "db", "passing"}
    assert sh("nft list tables") and os.listdir("/run/minidocker")
