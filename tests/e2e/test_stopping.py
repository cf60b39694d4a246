"""What is hard to end: deaf, frozen, stuck in the kernel, or very many."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import pretend
from tests.e2e.support import Minidocker, poll

MANY = int(os.environ.get("MINIDOCKER_MANY", "2000"))  # processes; ten thousand by hand


def freeze(md: Minidocker, id: str) -> None:
    """As another program would do it, or a `pause` that was killed."""
    directory = md.cgroup(id, "freezer")
    if (directory / "freezer.state").exists():
        (directory / "freezer.state").write_text("FROZEN")
        poll(lambda: (directory / "freezer.state").read_text().strip() == "FROZEN", "all of it stands")
    else:
        (directory / "cgroup.freeze").write_text("1")
        poll(lambda: "frozen 1" in (directory / "cgroup.events").read_text(), "all of it stands")


@pytest.mark.parametrize("words", [("stop", "-t", "1"), ("kill",), ("rm", "-f"), ("restart", "-t", "0")], ids=lambda words: words[0])
def test_what_was_frozen_ends(md: Minidocker, busybox: Path, words: tuple[str, ...]) -> None:
    id = md.start("--name", "one", "--net", "none", "--rootfs", busybox, "sh", "-c", "sleep 1000 & sleep 1000")
    freeze(md, id)
    md(*words, "one")
    rows = md.ps()
    if words[0] == "rm":
        assert rows == []
    elif words[0] == "restart":
        assert rows[0]["State"] == "running" and md("exec", "one", "echo", "well").stdout == "well\n"
    else:
        assert md.inspect("one")["State"]["ExitCode"] == 137


@pytest.fixture
def slow_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that can be frozen: who writes to it then is in a system call that no signal ends."""
    place = tmp_path / "disk"
    place.mkdir()
    pretend.sh(f"truncate -s 20M {place}.img && mkfs.ext4 -q {place}.img && mount -o loop {place}.img {place}")
    yield place
    pretend.sh(f"fsfreeze -u {place}; umount {place}", check=False)


@pytest.mark.slow
def test_one_that_no_signal_reaches_is_told_and_ends_when_it_can(md: Minidocker, busybox: Path, slow_disk: Path) -> None:
    script = "echo up; while :; do echo more > /disk/file; done"
    md.start("--name", "stuck", "--net", "none", "-v", f"{slow_disk}:/disk", "--rootfs", busybox, "sh", "-c", script)
    poll(lambda: (slow_disk / "file").exists(), "it writes")
    pretend.sh(f"fsfreeze -f {slow_disk}")
    pid = md.inspect("stuck")["State"]["Pid"]
    poll(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "D", "it is stuck")
    done = md("stop", "-t", "0", "stuck", check=False)
    assert done.returncode != 0 and done.stderr == (
        f"minidocker: container `stuck` does not die: its process {pid} is in an uninterruptible system call\n"
        f"  hint: cat /proc/{pid}/stack shows where; it ends when that does\n"
    )
    assert [row["State"] for row in md.ps()] == ["running"], "it is what it is"
    pretend.sh(f"fsfreeze -u {slow_disk}")
    assert md.wait("stuck")["State"]["ExitCode"] == 137, "the KILL has been waiting for it"


@pytest.mark.slow
def test_very_many_processes_go_in_one_kill(md: Minidocker, busybox: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Half of them in sessions of their own, which no signal to a group would reach; and one that came by `exec`."""
    script = f"i=0; while [ $i -lt {MANY // 2} ]; do sleep 1000 & setsid sleep 1000 & i=$((i+1)); done; echo up; wait"
    id = md.start("--name", "many", "--net", "none", "--rootfs", busybox, "sh", "-c", script)
    poll(lambda: md.logs("many") == "up\n", "all of them run", 120)
    md("exec", "-d", "many", "sleep", "1000")
    procs = md.cgroup(id, "pids") / "cgroup.procs"
    inside = procs.read_text().split()
    assert len(inside) >= MANY
    begun = time.monotonic()
    md("kill", "many", timeout=120)
    with capsys.disabled():
        print(f" {len(inside)} processes went in {time.monotonic() - begun:.1f} s", end="")
    assert md.inspect("many")["State"]["ExitCode"] == 137
    assert not [pid for pid in inside if os.path.exists(f"/proc/{pid}") and id in Path(f"/proc/{pid}/cgroup").read_text()]
    assert md.cgroups(id) == []
