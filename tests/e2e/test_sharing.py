"""What a container is given of the host or shares with another: devices, kernel settings, groups, namespaces, the OOM score."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.support import Minidocker, poll

Box = Callable[..., subprocess.CompletedProcess[Any]]


@pytest.fixture
def options(busybox: Path) -> tuple[object, ...]:
    return ("--net", "none", "--rootfs", busybox)


@pytest.fixture
def other(md: Minidocker, options: tuple[object, ...]) -> str:
    """A running container to share with."""
    md.start("--name", "other", "--hostname", "otherhost", *options, "sh", "-c", "echo shared > /dev/shm/file; echo up; sleep 1000")
    poll(lambda: "up" in md.logs("other"), "it runs")
    return "other"


def test_a_device(md: Minidocker, box: Box, options: tuple[object, ...]) -> None:
    show = "stat -c '%F %t:%T' /dev/given; head -c 1 /dev/given > /dev/null && echo read; (: > /dev/given) && echo written"
    assert box("sh", "-c", "mknod /tmp/given c 1 11 && head -c 1 /tmp/given", check=False).returncode != 0, "what is not given is denied"
    done = box("--device", "/dev/loop-control:/dev/given:w", "sh", "-c", show, check=False).stdout.splitlines()
    assert done == ["character special file a:ed", "written"]
    done = box("--device", "/dev/loop-control:/dev/given:r", "sh", "-c", show, check=False).stdout.splitlines()
    assert done[0] == "character special file a:ed" and "written" not in done
    assert box("--device", "/dev/loop-control", "sh", "-c", ": > /dev/loop-control && echo written").stdout == "written\n"
    names = sorted(entry.name for entry in Path("/dev/net").iterdir())
    assert box("--device", "/dev/net:/dev/nets", "ls", "/dev/nets").stdout.split() == names, "all of a directory"
    make = "mknod /tmp/d c 10 237 && : > /tmp/d && echo written"
    assert box("--device-cgroup-rule", "c 10:237 w", "sh", "-c", make).stdout == "written\n"
    assert "no device" in md.refused("run", *options, "--device", "/etc/passwd", "true")
    assert "no such file" in md.refused("run", *options, "--device", "/dev/none", "true")
    md.run("--name", "one", *options, "--device", "/dev/loop-control:/dev/given:rw", "ls", "/dev/given")
    assert md.inspect("one")["HostConfig"]["Devices"] == [
        {"PathOnHost": "/dev/loop-control", "PathInContainer": "/dev/given", "CgroupPermissions": "rw"}]
    md("start", "one")
    assert md.wait("one")["State"]["ExitCode"] == 0, "and at its next start"
    assert box("--privileged", "--device", "/dev/null:/dev/given", "stat", "-c", "%t:%T", "/dev/given").stdout == "1:3\n"


def test_kernel_settings(md: Minidocker, box: Box, options: tuple[object, ...]) -> None:
    before = {name: Path("/proc/sys", name).read_text() for name in ("kernel/shmmax", "net/core/somaxconn", "net/ipv4/ip_forward")}
    words = [word for setting in ("kernel.shmmax=12345", "net.core.somaxconn=77", "net.ipv4.ip_unprivileged_port_start=99")
             for word in ("--sysctl", setting)]  # fmt: skip
    paths = ("kernel/shmmax", "net/core/somaxconn", "net/ipv4/ip_unprivileged_port_start")
    assert box(*words, "cat", *(f"/proc/sys/{path}" for path in paths)).stdout.split() == ["12345", "77", "99"]
    assert {name: Path("/proc/sys", name).read_text() for name in before} == before
    assert "not of a namespace" in md.refused("run", *options, "--sysctl", "vm.swappiness=1", "true")
    assert "it is the host's" in md.refused("run", "--net", "host", "--sysctl", "net.core.somaxconn=9", "true")
    assert "set `net/none` to 1" in md.refused("run", *options, "--sysctl", "net.none=1", "true")


def test_groups_and_the_oom_score(md: Minidocker, box: Box, options: tuple[object, ...]) -> None:
    assert sorted(box("--group-add", "1234", "--group-add", "root", "-u", "5:6", "id", "-G").stdout.split()) == ["0", "1234", "6"]
    assert "no group `none`" in md.refused("run", *options, "--group-add", "none", "true")
    md.start("--name", "one", *options, "--group-add", "1234", "--oom-score-adj", "500", "sleep", "1000")
    assert md("exec", "one", "id", "-G").stdout.split() == ["0", "1234"]
    assert md("exec", "one", "cat", "/proc/1/oom_score_adj").stdout == "500\n"
    config = md.inspect("one")["HostConfig"]
    assert (config["GroupAdd"], config["OomScoreAdj"]) == (["1234"], 500)
    if not int(Path("/proc/self/status").read_text().partition("CapEff:\t")[2].split()[0], 16) >> 24 & 1:
        error = md.refused("run", *options, "--oom-score-adj", "-999", "true")
        assert "set the OOM score adjustment to -999" in error and "CAP_SYS_RESOURCE" in error


def inode(md: Minidocker, kind: str, *words: object) -> str:
    return str(md.run("--rm", *words, "readlink", f"/proc/self/ns/{kind}").stdout).strip()


def test_the_hosts_namespaces(md: Minidocker, options: tuple[object, ...]) -> None:
    for kind in ("ipc", "pid", "uts"):
        own = os.readlink(f"/proc/self/ns/{kind}")
        assert inode(md, kind, *options, f"--{kind}", "host") == own != inode(md, kind, *options, f"--{kind}", "private")
    assert md.run("--rm", *options, "--uts", "host", "hostname").stdout.strip() == os.uname().nodename
    assert "--hostname cannot be used" in md.refused("run", *options, "--uts", "host", "--hostname", "x", "true")
    place = Path("/dev/shm/minidocker-test")
    place.write_text("of the host")
    try:
        assert md.run("--rm", *options, "--ipc", "host", "cat", place).stdout == "of the host"
    finally:
        place.unlink()
    assert str(os.getpid()) in [line.split()[0] for line in md.run("--rm", *options, "--pid", "host", "ps").stdout.splitlines()]
    assert "cannot be used with --ipc host" in md.refused("run", *options, "--ipc", "host", "--sysctl", "kernel.shmmax=1", "true")


def test_with_the_hosts_pids_all_of_it_ends_all_the_same(md: Minidocker, options: tuple[object, ...]) -> None:
    md.start("--name", "one", *options, "--pid", "host", "sh", "-c", "setsid sleep 54321 & echo up; exec sleep 54322")
    poll(lambda: "up" in md.logs("one"), "it runs")
    assert "54321" in md("exec", "one", "ps").stdout
    md("stop", "-t", "0", "one")
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if b"5432" in _read(path)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def test_another_containers_namespaces(md: Minidocker, other: str, options: tuple[object, ...]) -> None:
    pid = md.inspect(other)["State"]["Pid"]
    for kind in ("ipc", "pid", "uts"):
        assert inode(md, kind, *options, f"--{kind}", f"container:{other}") == os.readlink(f"/proc/{pid}/ns/{kind}")
    with_all = [word for kind in ("ipc", "pid", "uts") for word in (f"--{kind}", f"container:{other}")]
    assert md.run("--rm", *options, *with_all, "sh", "-c", "hostname; cat /dev/shm/file; ps").stdout.split("\n", 3)[:2] == [
        "otherhost", "shared"]
    md.start("--name", "joined", *options, *with_all, "sh", "-c", "echo back > /dev/shm/back; echo up; sleep 1000")
    poll(lambda: "up" in md.logs("joined"), "it runs")
    assert md("exec", other, "cat", "/dev/shm/back").stdout == "back\n"
    assert "sleep 1000" in md("exec", "joined", "ps").stdout and md("exec", "joined", "hostname").stdout == "otherhost\n"
    config = md.inspect("joined")["HostConfig"]
    assert (config["IpcMode"], config["PidMode"], config["UTSMode"]) == ("container:other",) * 3
    assert "--sysctl kernel.shmmax cannot be used" in md.refused(
        "run", *options, "--ipc", f"container:{other}", "--sysctl", "kernel.shmmax=1", "true")
    md("stop", "-t", "0", other)
    md.wait("joined")  # with the first process of a PID namespace all that are in it end
    assert "container `other` is not running" in md.refused("start", "joined", code=1)
    assert "no such container: none" in md.refused("run", *options, "--pid", "container:none", "true")


def test_a_link_where_the_others_shm_is_to_be_leads_nowhere(md: Minidocker, options: tuple[object, ...], victim: Path) -> None:
    md.start("--name", "other", "--privileged", *options, "sh", "-c",
             f"umount /dev/shm; rmdir /dev/shm; ln -s {victim} /dev/shm; echo up; sleep 1000")  # fmt: skip
    poll(lambda: "up" in md.logs("other"), "it runs")
    assert "look up `/dev/shm`" in md.refused("run", *options, "--ipc", "container:other", "ls", "/dev/shm")


def test_the_script_joins_what_the_run_does(md: Minidocker, other: str, options: tuple[object, ...], tmp_path: Path) -> None:
    pid = md.inspect(other)["State"]["Pid"]
    words = (*options, "--pid", f"container:{other}", "--uts", f"container:{other}", "--sysctl", "kernel.shmmax=12345",
             "--device", "/dev/loop-control:/dev/given", "--oom-score-adj", "500")  # fmt: skip
    command = "readlink /proc/self/ns/pid; hostname; cat /proc/sys/kernel/shmmax; stat -c %t:%T /dev/given; cat /proc/self/oom_score_adj"
    done = md.run("--rm", *words, "sh", "-c", command).stdout
    assert done.split() == [os.readlink(f"/proc/{pid}/ns/pid"), "otherhost", "12345", "a:ed", "500"]
    (tmp_path / "script").write_text(md.run("--dry-run", *words, "sh", "-c", command).stdout)
    typed = subprocess.run(["bash", tmp_path / "script"], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert (typed.returncode, typed.stdout) == (0, done), typed.stderr
    assert "cannot show --ipc" in md.refused("run", "--dry-run", *options, "--ipc", f"container:{other}", "true")
