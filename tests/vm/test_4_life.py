"""The life of containers under systemd: what survives whom, crashes, and what the next command makes of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e.support import Minidocker, poll
from tests.pretend import sh
from tests.vm import machine

pytestmark = pytest.mark.vm


def test_run_exec_logs_stop(md: Minidocker, busybox: Path) -> None:
    script = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.1; done"
    md.start("--net", "br0", "--name", "it", "--rootfs", busybox, "-m", "64m", "sh", "-c", script)
    poll(lambda: md.logs("it") == "up\n", "it is up", 60)
    assert md("exec", "it", "sh", "-c", "hostname -i; cat /proc/1/comm").stdout == "172.17.0.2\nsh\n"
    md("stop", "it")
    assert md.logs("it") == "up\nbye\n" and md.inspect("it")["State"]["ExitCode"] == 3
    md("start", "it")
    poll(lambda: md.logs("it") == "up\nbye\nup\n", "it is up again", 60)
    assert md("ps", "--format", "{{.Names}} {{.State}}").stdout == "it running\n"


def test_containers_outlive_the_unit_that_started_them(md: Minidocker, busybox: Path) -> None:
    """`systemd-run` stands for a login or a cron job: when it ends, systemd kills what is left in its cgroup. A container is elsewhere."""
    command = [*md.argv("run", "-d", "--name", "it", "--net", "br0", "-p", "8080:80", "--rootfs", busybox, "httpd", "-f", "-h", "/etc")]
    sh("systemd-run --quiet --wait --collect --unit session " + " ".join(command))
    assert machine.fetch("http://127.0.0.1:8080/passwd").startswith("root:")
    monitor = int(Path(f"/proc/{md.inspect('it')['State']['Pid']}/status").read_text().split("PPid:\t")[1].split()[0])
    assert "session.service" not in machine.cgroup_of(monitor).name
    assert md.inspect("it")["State"]["Running"]


def test_a_killed_monitor_is_found_by_the_next_command(md: Minidocker, busybox: Path) -> None:
    md.start("--net", "br0", "--name", "it", "-p", "8080:80", "--rootfs", busybox, "sleep", "10000")
    init = md.inspect("it")["State"]["Pid"]
    found = machine.cgroup(md, "it")
    monitor = int(Path(f"/proc/{init}/status").read_text().split("PPid:\t")[1].split()[0])
    os.kill(monitor, signal.SIGKILL)
    poll(lambda: not Path(f"/proc/{init}").exists(), "it dies with its monitor", 60)
    state = md.inspect("it")["State"]
    assert (state["Status"], state["Running"]) == ("exited", False) and state["Error"], state
    poll(lambda: not found.exists(), "its cgroup is removed", 60)
    assert [row["Ports"] for row in md.ps()] == [""]
    md("start", "it")
    assert md.inspect("it")["State"]["Running"] and "8080" in md("port", "it").stdout


def test_everything_of_ours_killed_at_once(md: Minidocker, busybox: Path) -> None:
    """As when the machine runs out of memory for good: monitors, containers and a command half way. One `ps` puts it right."""
    for name in ("one", "two"):
        md.start("--net", "br0", "--name", name, "--rootfs", busybox, "sleep", "10000")
    half = subprocess.Popen(md.argv("run", "--rm", "--net", "br0", "--name", "half", "--rootfs", busybox, "sleep", "10000"))
    poll(lambda: any(row["Names"] == "half" for row in md.ps()), "the third is on its way", 60)
    ours = [int(pid) for path in md.cgroups() for pid in (path / "cgroup.procs").read_text().split()]
    assert len(ours) >= 4, "two containers and their monitors"
    parents = {int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in ours}
    for pid in {half.pid, *parents, *ours} - {os.getpid(), 1}:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    half.wait()
    poll(lambda: {(row["Names"], row["State"]) for row in md.ps()} == {("one", "exited"), ("two", "exited")}, "put right")
    poll(lambda: md.cgroups() == [], "no cgroup is left", 60)
    poll(lambda: [link["ifname"] for link in json.loads(sh("ip -j link show type veth") or "[]")] == [], "no veth is left", 60)
