"""After a real reboot with containers up: nothing of the last boot is taken for true, and nothing is invented about it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.support import Minidocker
from tests.pretend import sh
from tests.vm import machine

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def before() -> dict[str, Any]:
    """What the tests before the reboot saw; that there was one."""
    found: dict[str, Any] = machine.remembered()
    assert found["boot"] != Path("/proc/sys/kernel/random/boot_id").read_text()
    return found


@pytest.fixture(scope="module")
def md(before: dict[str, Any]) -> Iterator[Minidocker]:
    """The data root as the last boot left it; all of it is removed after the last test."""
    md = Minidocker(machine.ROOT)
    yield md
    md.close()


def test_the_first_command_tells_the_truth(md: Minidocker, before: dict[str, Any]) -> None:
    """Nothing but the disk knows of containers: no cgroup, no link, no module. Looking makes none of it again."""
    assert not os.path.exists("/run/minidocker") and "bridge" not in machine.modules()
    rows = {row["Names"]: row for row in md.ps()}
    assert {name: row["State"] for name, row in rows.items()} == {"web": "exited", "db": "exited", "done": "exited"}, "--rm has gone"
    assert all(row["Ports"] == "" for row in rows.values())
    assert md.cgroups() == [] and "bridge" not in machine.modules()
    assert [link["ifname"] for link in json.loads(sh("ip -j link"))] == ["lo"]


def test_what_was_over_stays_as_it_was(md: Minidocker, before: dict[str, Any]) -> None:
    assert md.inspect("done")["State"] == before["done"]
    assert md.logs("done") == "over\n"


@pytest.mark.parametrize("name", ["web", "db"])
def test_what_was_running_ended_with_the_machine(md: Minidocker, before: dict[str, Any], name: str) -> None:
    """A monitor is stopped after its container, so an orderly end is known: neither heeds SIGTERM, so both were killed. If the power was
    cut nobody saw it, and nothing is invented."""
    state = md.inspect(name)["State"]
    assert (state["Running"], state["Pid"], state["StartedAt"], state["OOMKilled"]) == (False, 0, before["started"][name], False)
    assert (state["ExitCode"], state["Error"]) == ((None, "the host went down") if before["cut"] else (137, "")), state
    assert not any(md.inspect(name)["NetworkSettings"]["Ports"].values())


def test_nobody_has_their_addresses_and_ports(md: Minidocker, busybox: Path) -> None:
    """Another may have what the stopped ones had."""
    done = md.run("--rm", "--net", "br0:ip=172.17.0.77", "-p", "8080:80", "--rootfs", busybox, "hostname", "-i")
    assert done.stdout == "172.17.0.77\n"


def test_they_start_again_as_they_were(md: Minidocker) -> None:
    """The networks are made anew by the first that needs them."""
    md("start", "web", "db")
    assert machine.fetch("http://127.0.0.1:8080/passwd").startswith("root:")
    networks = md.inspect("web")["NetworkSettings"]["Networks"]
    assert set(networks) == {"br0", "back"} and networks["back"]["IPAddress"].startswith("10.9.0.")
    assert md.inspect("db")["NetworkSettings"]["Networks"]["br0"]["IPAddress"] == "172.17.0.77"
    ask = "printf 'GET /passwd HTTP/1.0\\r\\n\\r\\n' | nc -w 20 web 80"
    assert "\nroot:" in md("exec", "db", "sh", "-c", ask).stdout, "by name"
    assert (machine.cgroup(md, "web") / "memory.max").read_text() == f"{64 << 20}\n"
    assert md.logs("db").count("up\n") == 2, "the log goes on where it was"
