"""system boot: what should be up comes up after the host has; and the units that have systemd do it."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from tests import pretend
from tests.e2e.machine import is_alive
from tests.e2e.support import Minidocker, poll
from tests.e2e.test_restart import monitor, waits


@pytest.fixture
def root(busybox: Path) -> list[object]:
    return ["--net", "none", "--rootfs", busybox]


def power_cut(md: Minidocker) -> None:
    """As it is after one: nothing of ours lives, /run is empty, and the records are of another boot."""
    pids = [monitor(md, row["Names"]) for row in md.ps()]
    inside = [md.inspect(row["Names"])["State"]["Pid"] for row in md.ps()]
    for pid in filter(None, pids):
        os.kill(pid, signal.SIGKILL)
    poll(lambda: not any(is_alive(pid) for pid in [*pids, *inside] if pid), "all have ended")
    shutil.rmtree(md.run_directory)
    with closing(sqlite3.connect(md.root / "state.db", isolation_level=None)) as database:
        database.execute("UPDATE containers SET boot = '00000000-0000-4000-8000-000000000000'")


def states(md: Minidocker) -> dict[str, str]:
    return {row["Names"]: row["State"] for row in md.ps()}


def test_what_should_be_up_comes_up(md: Minidocker, root: list[object]) -> None:
    up = ["sleep", "1000"]
    for name, policy in (("a", "always"), ("a-stopped", "always"), ("u", "unless-stopped"), ("u-stopped", "unless-stopped"),
                         ("f", "on-failure"), ("n", "no")):  # fmt: skip
        md.start("--name", name, "--restart", policy, *root, *up)
    md("create", "--name", "never", "--restart", "always", *root, *up)
    md("stop", "-t", "0", "a-stopped", "u-stopped")
    power_cut(md)
    done = md("system", "boot")
    assert sorted(done.stdout.split()) == ["a", "a-stopped", "u"], "as docker has it"
    assert states(md) == {"a": "running", "a-stopped": "running", "u": "running", "u-stopped": "exited", "f": "exited", "n": "exited",
                          "never": "created"}  # fmt: skip
    assert md.inspect("f")["State"]["Error"] == "the host went down" and md.inspect("f")["State"]["ExitCode"] is None
    md("stop", "-t", "0", "a")
    assert md("system", "boot").stdout == "", "once a boot: what was stopped since stays so"


def test_an_ordinary_command_before_it_starts_nothing_and_takes_nothing_away(md: Minidocker, root: list[object]) -> None:
    md.start("--name", "web", "--restart", "always", *root, "sleep", "1000")
    md.start("--name", "other", *root, "true")
    md.wait("other")
    power_cut(md)
    assert states(md) == {"web": "exited", "other": "exited"}
    assert md("system", "boot").stdout == "web\n"


def test_one_that_waited_to_be_started_again(md: Minidocker, root: list[object]) -> None:
    waits(md, root)
    power_cut(md)
    assert states(md) == {"web": "exited"}
    assert md("system", "boot").stdout == "web\n"
    assert md.inspect("web")["RestartCount"] == 0


def test_networks_ports_and_whose_network_is_joined(md: Minidocker, busybox: Path) -> None:
    md("network", "create", "lab")
    up = ["--restart", "always", "--rootfs", busybox, "sleep", "1000"]
    md.start("--name", "web", "--net", "lab", "-p", "18080:80", *up)
    md.start("--name", "side", "--net", "container:web", *up)
    address = md.inspect("web")["NetworkSettings"]["Networks"]["lab"]["IPAddress"]
    power_cut(md)
    for link in [name for link in pretend.ip("link") if (name := str(link["ifname"])).startswith("md")]:
        pretend.sh(f"ip link del {link}", check=False)
    md("ps", "-a")
    assert md("network", "inspect", "lab", "--format", "{{json .Containers}}").stdout.strip() in ("{}", "null", "[]"), "leases are free"
    assert md("system", "boot").stdout == "web\nside\n"
    assert md.inspect("web")["NetworkSettings"]["Networks"]["lab"]["IPAddress"] == address
    assert address in md("exec", "side", "ip", "-4", "addr").stdout


def test_one_that_cannot_start_does_not_keep_the_others_from_it(md: Minidocker, busybox: Path, tmp_path: Path) -> None:
    source = tmp_path / "gone"
    source.mkdir()
    up = ["--restart", "always", "--net", "none", "--rootfs", busybox]
    md.start("--name", "bad", *up, "-v", f"{source}:/x", "sleep", "1000")
    md.start("--name", "good", *up, "sleep", "1000")
    power_cut(md)
    source.rmdir()
    done = md("system", "boot", check=False)
    assert (done.returncode, done.stdout) == (1, "good\n") and str(source) in done.stderr


def execs(unit: str, key: str) -> list[str]:
    """The words of a line of a unit as systemd hands them on."""
    [line] = [line.partition("=")[2] for line in unit.splitlines() if line.startswith(key + "=")]
    return [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(line.removeprefix("-"))]


def verify(unit: str, place: Path) -> None:
    if not shutil.which("systemd-analyze"):
        return
    file = place / "web.service"
    file.write_text(unit)
    done = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and str(file) not in done.stderr, done.stderr


def test_units(md: Minidocker, root: list[object], tmp_path: Path) -> None:
    """Their lines do what they are to, told to us rather than to systemd, and systemd finds nothing wrong with them."""
    odd = ["-e", 'ODD=a $b %c "d"', "-l", "x=y z"]
    md.start("--name", "web", "--stop-timeout", "1", *odd, *root, "sh", "-c", 'trap "exit 3" TERM; sleep 9')
    at_boot, of_web, anew = (md("generate", "systemd", *words).stdout for words in ([], ["web"], ["--new", "web"]))
    for unit in (at_boot, of_web, anew):
        verify(unit, tmp_path)
    common = len(execs(of_web, "ExecStart")) - 2
    assert execs(at_boot, "ExecStart")[common:] == ["system", "boot"]
    assert execs(of_web, "ExecStart")[common:] == ["start", "web"] and execs(of_web, "ExecStop")[common:] == ["stop", "web"]
    assert f"--root={md.root}" in execs(of_web, "ExecStart")
    before = md.inspect("web")["Config"]
    assert execs(anew, "ExecStartPre")[common:] == ["rm", "-f", "web"]
    md(*execs(anew, "ExecStartPre")[common:])
    with md.open(*execs(anew, "ExecStart")[common:]) as running:
        poll(lambda: states(md).get("web") == "running", "it runs")
        after = md.inspect("web")["Config"]
        assert {key: after[key] for key in ("Env", "Cmd", "Labels")} == {key: before[key] for key in ("Env", "Cmd", "Labels")}
        md(*execs(anew, "ExecStop")[common:])
        assert running.wait(20) in (3, 137)
    assert states(md) == {}, "--rm"


def test_what_is_refused(md: Minidocker, root: list[object]) -> None:
    md.start("--rm", "--name", "web", *root, "sleep", "1000")
    assert "--new" in md.refused("generate", "systemd", "web", code=1)
    assert "no such container" in md.refused("generate", "systemd", "nosuch", code=1)
    assert "--new" in md.refused("generate", "systemd", "--new")
