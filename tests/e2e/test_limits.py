"""Limits, proved by what happens at them and by the cgroup's own accounting, not by the files alone."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.support import Minidocker, poll

Box = Callable[..., subprocess.CompletedProcess[Any]]
V1 = Path("/sys/fs/cgroup/memory").is_dir()


def setting(md: Minidocker, id: str, controller: str, v1: str, v2: str) -> str:
    return (md.cgroup(id, controller) / (v1 if V1 else v2)).read_text().strip()


def start(md: Minidocker, busybox: Path, *options: object, command: tuple[str, ...] = ("sleep", "1000")) -> str:
    return md.start("--net", "none", "--rootfs", busybox, *options, *command)


def test_a_memory_hog_is_killed_at_its_limit_and_its_neighbour_lives(md: Minidocker, busybox: Path) -> None:
    start(md, busybox, "--name", "neighbour", "-m", "32m")
    done = md.run("--net", "none", "--rootfs", busybox, "--name", "hog", "-m", "16m", "tail", "/dev/zero", check=False)
    assert done.returncode == 137
    state = md.inspect("hog")["State"]
    assert (state["OOMKilled"], state["ExitCode"], state["Status"]) == (True, 137, "exited")
    assert md.inspect("neighbour")["State"]["Running"] and not md.inspect("neighbour")["State"]["OOMKilled"]
    assert md("exec", "neighbour", "echo", "lives").stdout == "lives\n"


def test_a_hog_that_is_a_child_dies_alone_and_it_is_noted(md: Minidocker, busybox: Path) -> None:
    md.run("--net", "none", "--rootfs", busybox, "--name", "parent", "-m", "16m", "sh", "-c", "tail /dev/zero; test $? = 137", check=False)
    state = md.inspect("parent")["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (0, True)
    md.run("--net", "none", "--rootfs", busybox, "--name", "killed", "sh", "-c", "exit 137", check=False)
    assert not md.inspect("killed")["State"]["OOMKilled"], "137 alone is no sign of it"


def test_a_detached_hog_too(md: Minidocker, busybox: Path) -> None:
    start(md, busybox, "--name", "hog", "-m", "16m", command=("tail", "/dev/zero"))
    state = md.wait("hog")["State"]
    assert (state["OOMKilled"], state["ExitCode"]) == (True, 137)


def test_what_stays_below_the_limit_runs(md: Minidocker, busybox: Path, box: Box) -> None:
    assert box("-m", "64m", "sh", "-c", "head -c 30000000 /dev/zero | tail | wc -c").stdout == "30000000\n"


def test_memory_settings(md: Minidocker, busybox: Path) -> None:
    id = start(md, busybox, "-m", "64m", "--memory-reservation", "32m")
    assert setting(md, id, "memory", "memory.limit_in_bytes", "memory.max") == str(64 << 20)
    assert setting(md, id, "memory", "memory.soft_limit_in_bytes", "memory.low") == str(32 << 20)
    host = md.inspect(id)["HostConfig"]
    assert (host["Memory"], host["MemoryReservation"]) == (64 << 20, 32 << 20)


@pytest.mark.parametrize("options", [("-m", "0"), ()], ids=str)
def test_zero_is_unlimited(md: Minidocker, busybox: Path, options: tuple[str, ...]) -> None:
    id = start(md, busybox, *options)
    limit = setting(md, id, "memory", "memory.limit_in_bytes", "memory.max")
    assert limit == "max" or int(limit) > 1 << 60
    assert md.inspect(id)["HostConfig"]["Memory"] == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("-m", "10x"), "--memory"),
        (("-m", "1k"), "6m"),
        (("-m", "-1"), "--memory"),
        (("--memory-swap", "64m"), "--memory"),
        (("-m", "64m", "--memory-swap", "32m"), "--memory-swap"),
        (("-m", "64m", "--memory-reservation", "128m"), "--memory-reservation"),
        (("--cpus", "1000000"), "--cpus"),
        (("--cpus", "x"), "--cpus"),
        (("--cpu-shares", "1"), "--cpu-shares"),
        (("--cpuset-cpus", "0-"), "--cpuset-cpus"),
        (("--cpuset-cpus", "8000"), "cpu"),
        (("--pids-limit", "-2"), "--pids-limit"),
        (("--ulimit", "nofile"), "--ulimit"),
        (("--ulimit", "nofile=9:1"), "SOFT"),
        (("--ulimit", "nonsense=1"), "--ulimit"),
        (("--shm-size", "0"), "--shm-size"),
        (("--cgroup-parent", "../x"), "--cgroup-parent"),
    ],
    ids=str,
)
def test_nonsense_is_refused_in_one_line(md: Minidocker, options: tuple[str, ...], says: str) -> None:
    assert says in md.refused("run", "--net", "none", *options, "true")
    assert not (md.root / "state.db").exists() or md.ps() == []


def test_swap(md: Minidocker, busybox: Path) -> None:
    """Limited where the kernel can, refused by name where it cannot; docker's default is as much again as memory."""
    if md("info", "--format", "{{.SwapLimit}}").stdout.strip() == "false":
        assert "swap" in md.refused("run", "--net", "none", "-m", "64m", "--memory-swap", "128m", "true")
        md.run("--rm", "--net", "none", "--rootfs", busybox, "-m", "64m", "true")
        return
    for options, v1, v2 in (((), 128, 64), (("--memory-swap", "96m"), 96, 32), (("--memory-swap", "64m"), 64, 0)):
        id = start(md, busybox, "-m", "64m", *options)
        assert setting(md, id, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max") == str((v1 if V1 else v2) << 20), options
    id = start(md, busybox, "-m", "64m", "--memory-swap", "-1")
    limit = setting(md, id, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max")
    assert limit == "max" or int(limit) > 1 << 60


def test_a_fork_bomb_stops_at_the_pids_limit(md: Minidocker, busybox: Path) -> None:
    # each generation doubles; what cannot be forked ends, the rest sleeps
    bomb = "bomb() { bomb | bomb & sleep 1000; }; { sleep 0.1; bomb; } & exec sleep 1000"
    start(md, busybox, "--name", "neighbour")
    id = start(md, busybox, "--pids-limit", "40", "--name", "bomb", command=("sh", "-c", bomb))
    pids = md.cgroup(id, "pids")
    assert (pids / "pids.max").read_text() == "40\n"
    poll(lambda: int((pids / "pids.events").read_text().split()[1]) > 0, "forks are refused")
    assert int((pids / "pids.current").read_text()) <= 40
    assert md("exec", "neighbour", "echo", "lives").stdout == "lives\n"
    md("rm", "-f", "bomb")


def test_the_pids_limit_counts_exactly(box: Box) -> None:
    script = "for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; wait"
    done = box("--pids-limit", "5", "sh", "-c", script, check=False)
    assert done.returncode != 0 and "fork" in done.stderr, "the sixth process"
    assert box("--pids-limit", "5", "sh", "-c", "for i in 1 2 3 4; do sleep 0 & done; wait; echo fine").stdout == "fine\n"
    for unlimited in ("-1", "0"):
        assert box("--pids-limit", unlimited, "echo", "fine").stdout == "fine\n"


def cpu_time(md: Minidocker, id: str) -> float:
    """Seconds of CPU that the container has used, by its cgroup."""
    if V1:
        return int((md.cgroup(id, "cpuacct") / "cpuacct.usage").read_text()) / 1e9
    return int((md.cgroup(id, "cpu") / "cpu.stat").read_text().split()[1]) / 1e6


def test_a_burner_gets_the_cpu_it_was_given(md: Minidocker, busybox: Path) -> None:
    """On a busy machine it may get less for a while, so the best of several spells counts; more than the quota it never gets."""
    id = start(md, busybox, "--cpus", "0.5", command=("sh", "-c", "while :; do :; done & while :; do :; done"))
    assert md.inspect(id)["HostConfig"]["NanoCpus"] == 500_000_000
    time.sleep(0.3)
    shares: list[float] = []
    for _ in range(10):
        begun, used = time.monotonic(), cpu_time(md, id)
        time.sleep(2)
        shares.append((cpu_time(md, id) - used) / (time.monotonic() - begun))
        if 0.45 <= shares[-1] <= 0.55:
            break
    assert 0.45 <= shares[-1] <= 0.55, shares
    assert max(shares) <= 0.60, shares


def test_cpu_shares_and_cpuset(md: Minidocker, busybox: Path, box: Box) -> None:
    id = start(md, busybox, "--cpu-shares", "512")
    assert setting(md, id, "cpu", "cpu.shares", "cpu.weight") in ("512", "59")
    for cpus, number in (("0", 1), ("0-1", 2)):
        if number <= (os.cpu_count() or 1):
            assert box("--cpuset-cpus", cpus, "nproc").stdout == f"{number}\n"
    id = start(md, busybox, "--cpuset-cpus", "0")
    assert md("exec", id, "nproc").stdout == "1\n"
    assert "Cpus_allowed_list:\t0\n" in md("exec", id, "cat", "/proc/self/status").stdout


def test_ulimits(md: Minidocker, busybox: Path, box: Box) -> None:
    options = ("--ulimit", "nofile=64:128", "--ulimit", "core=0", "--ulimit", "nproc=1000", "--ulimit", "memlock=65536")
    limits = {line[:25].strip(): line[25:].split()[:2] for line in box(*options, "cat", "/proc/self/limits").stdout.splitlines()}
    assert limits["Max open files"] == ["64", "128"]
    assert limits["Max core file size"] == ["0", "0"]
    assert limits["Max processes"] == ["1000", "1000"]
    assert limits["Max locked memory"] == ["65536", "65536"]
    id = start(md, busybox, "--ulimit", "nofile=64:128")
    assert md("exec", id, "sh", "-c", "ulimit -n; ulimit -Hn").stdout.split() == ["64", "128"]


def test_everything_of_the_container_is_in_its_cgroup(md: Minidocker, busybox: Path) -> None:
    id = start(md, busybox, "--name", "one", command=("sh", "-c", "sleep 1000 & sleep 1000; true"))
    md("exec", "-d", "one", "sleep", "999")
    for directory in md.cgroups(id) if V1 else [md.cgroup(id, "")]:
        poll(lambda d=directory: len((d / "cgroup.procs").read_text().split()) == 4, f"sh, three sleeps in {directory}")  # type: ignore[misc]
    assert md.cgroups(id)


def test_cgroup_parent(md: Minidocker, busybox: Path) -> None:
    parent = f"minidocker-test-{os.getpid()}"
    id = start(md, busybox, "--cgroup-manager", "cgroupfs", "--cgroup-parent", f"/{parent}", "-m", "64m")
    found = md.cgroups(id)
    try:
        assert found and all(f"/{parent}/minidocker-{md.tag}/{id}" in str(path) for path in found)
        md("rm", "-f", id)
        assert md.cgroups() == []
    finally:
        for path in Path("/sys/fs/cgroup").glob(f"**/{parent}"):
            path.rmdir()


def test_the_container_s_view_of_its_own_limits(box: Box) -> None:
    if V1:
        assert box("-m", "64m", "cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes").stdout.strip() == str(64 << 20)
    else:
        assert box("-m", "64m", "cat", "/sys/fs/cgroup/memory.max").stdout.strip() == str(64 << 20)
