"""Limits on cgroup v2 alone, under systemd: the values in the kernel's files, and what happens at them."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.support import Minidocker, poll
from tests.pretend import sh
from tests.vm import machine

pytestmark = pytest.mark.vm


@pytest.fixture
def start(md: Minidocker, busybox: Path) -> Callable[..., Path]:
    """Start a container called `it` without a network, `command` or a long sleep; its cgroup."""
    def start(*options: object, command: tuple[str, ...] = ("sleep", "10000"), name: str = "it") -> Path:
        md.start("--net", "none", "--name", name, "--rootfs", busybox, *options, *command)
        return machine.cgroup(md, name)

    return start


def test_every_limit_is_in_its_file(md: Minidocker, start: Callable[..., Path]) -> None:
    found = start("-m", "64m", "--memory-swap", "128m", "--memory-reservation", "32m", "--cpus", "0.5", "--cpu-shares", "512",
                  "--cpuset-cpus", "0", "--pids-limit", "20")  # fmt: skip
    values = {file: (found / file).read_text().strip() for file in (
        "memory.max", "memory.swap.max", "memory.low", "cpu.max", "cpu.weight", "cpuset.cpus", "cpuset.cpus.effective", "pids.max")}
    assert values == {
        "memory.max": str(64 << 20), "memory.swap.max": str(64 << 20), "memory.low": str(32 << 20), "cpu.max": "50000 100000",
        "cpu.weight": "59", "cpuset.cpus": "0", "cpuset.cpus.effective": "0", "pids.max": "20",
    }  # fmt: skip
    assert md("exec", "it", "nproc").stdout == "1\n"


def test_the_cgroup_is_ours_alone(start: Callable[..., Path]) -> None:
    """Neither below a cgroup that systemd manages, nor with processes where controllers are passed on."""
    found = start("-m", "64m")
    ancestors = [parent for parent in found.parents if machine.UNIFIED in parent.parents]
    assert ancestors, found
    for ancestor in ancestors:
        assert (ancestor / "cgroup.procs").read_text() == "", f"processes in {ancestor}, which has children"
    sh("systemctl daemon-reload")
    assert (found / "memory.max").read_text() == f"{64 << 20}\n", "systemd leaves it alone"
    assert Path("/proc/self/cgroup").read_text() == "0::/system.slice/guest.service\n", "and who started it stays where it was"
    assert (machine.UNIFIED / "system.slice/guest.service/cgroup.subtree_control").read_text().strip() == ""


def test_a_memory_hog_dies_by_its_own_memory_events(md: Minidocker, start: Callable[..., Path], busybox: Path) -> None:
    neighbour = start("-m", "32m", name="neighbour")
    found = start("-m", "16m", "--memory-swap", "16m", name="parent", command=("sh", "-c", "sleep 2; tail /dev/zero; sleep 10000"))
    poll(lambda: machine.keyed(found / "memory.events")["oom_kill"] == 1, "the hog is killed", 60)
    assert md.inspect("parent")["State"]["Running"], "the hog was a child"
    assert machine.keyed(neighbour / "memory.events")["oom_kill"] == 0
    hog = ("--name", "hog", "-m", "16m", "--memory-swap", "16m", "--rootfs", busybox, "tail", "/dev/zero")
    done = md.run("--net", "none", *hog, check=False)
    assert done.returncode == 137
    state = md.inspect("hog")["State"]
    assert (state["OOMKilled"], state["ExitCode"]) == (True, 137)


def test_cpu_max_holds(start: Callable[..., Path]) -> None:
    """What it got by cpu.stat, over what the clock says: never more than its half, whatever the machine is busy with."""
    found = start("--cpus", "0.5", command=("sh", "-c", "while :; do :; done & while :; do :; done"))
    time.sleep(1)
    shares = []
    for _ in range(6):
        begun, used = time.monotonic(), machine.keyed(found / "cpu.stat")["usage_usec"]
        time.sleep(3)
        shares.append((machine.keyed(found / "cpu.stat")["usage_usec"] - used) / 1e6 / (time.monotonic() - begun))
        if 0.4 <= shares[-1] <= 0.55:
            break
    assert 0.4 <= shares[-1] <= 0.55 and max(shares) <= 0.6, shares
    assert machine.keyed(found / "cpu.stat")["nr_throttled"] > 0


def test_a_fork_bomb_stops_at_pids_max(md: Minidocker, start: Callable[..., Path]) -> None:
    bomb = "bomb() { bomb | bomb & sleep 1000; }; { sleep 0.1; bomb; } & exec sleep 1000"
    found = start("--pids-limit", "30", command=("sh", "-c", bomb))
    poll(lambda: machine.keyed(found / "pids.events")["max"] > 0, "forks are refused", 60)
    assert int((found / "pids.current").read_text()) <= 30
    md("rm", "-f", "it")
    assert not found.exists()


def test_kill_is_the_kernels_own(md: Minidocker, start: Callable[..., Path]) -> None:
    """Those who fork all the time die at once, by cgroup.kill, whose absence nobody would notice but here."""
    forks = "while :; do sleep 1000 & sleep 0.01; kill $!; done"
    found = start(command=("sh", "-c", f"{{ {forks}; }} & {{ {forks}; }} & {forks}"))
    assert (found / "cgroup.kill").exists()
    pids = [int(pid) for pid in (found / "cgroup.procs").read_text().split()]
    md("rm", "-f", "it")
    assert pids and not found.exists()


def test_devices_are_guarded_by_a_program(md: Minidocker, start: Callable[..., Path], tmp_path: Path) -> None:
    """mknod(1) is allowed; opening is decided by the BPF program on the cgroup, for what exec brings in too."""
    script = ("mknod /tmp/kmsg c 1 11 && head -c 1 /tmp/kmsg 2>&1; mknod /tmp/disk b 254 0 && head -c 1 /tmp/disk 2>&1; "
              "rm -f /tmp/null; mknod /tmp/null c 1 3 && echo x >/tmp/null && echo null; rm -f /tmp/*")  # fmt: skip
    start()
    for _ in range(2):
        said = md("exec", "it", "sh", "-c", script, check=False)
        text = str(said.stdout) + str(said.stderr)
        assert text.count("Operation not permitted") == 2 and text.endswith("null\n"), text
    md("rm", "-f", "it")
    start("--privileged")
    assert md("exec", "it", "sh", "-c", "mknod /tmp/kmsg c 1 11 && head -c 1 /tmp/kmsg >/dev/null && echo open").stdout == "open\n"


def test_inside_its_cgroup_is_the_root_and_read_only(md: Minidocker, start: Callable[..., Path]) -> None:
    start("-m", "64m")
    assert md("exec", "it", "cat", "/proc/self/cgroup").stdout == "0::/\n"
    assert md("exec", "it", "cat", "/sys/fs/cgroup/memory.max").stdout == f"{64 << 20}\n"
    assert "Read-only" in md("exec", "it", "mkdir", "/sys/fs/cgroup/x", check=False).stderr


# What the OCI command line alone can ask for.


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[int]:
    """A loop device of 64 MB, by its number."""
    image = tmp_path / "image"
    image.write_bytes(b"")
    os.truncate(image, 64 << 20)
    path = sh(f"losetup --find --show {image}").strip()
    yield os.stat(path).st_rdev
    sh(f"losetup -d {path}")


class Oci:
    """minidocker-oci with one bundle: `start(...)` creates and starts container `it`, the words go to any other command."""

    def __init__(self, directory: Path, rootfs: Path) -> None:
        self.bundle = directory
        self.rootfs = rootfs

    def __call__(self, *words: str, check: bool = True) -> str:
        """Its stdout; into files, as the container may keep them open."""
        with open(self.bundle / "out", "w+") as out, open(self.bundle / "err", "w+") as err:
            done = subprocess.run(["minidocker-oci", *words], stdin=subprocess.DEVNULL, stdout=out, stderr=err, timeout=60)
        text = (self.bundle / "out").read_text()
        assert not check or done.returncode == 0, text + (self.bundle / "err").read_text()
        return text

    def start(self, arguments: list[str], resources: dict[str, Any]) -> Path:
        """Its cgroup."""
        namespaces = [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "network", "cgroup")]
        capabilities = {kind: ["CAP_MKNOD", "CAP_DAC_OVERRIDE"] for kind in ("bounding", "effective", "permitted")}
        (self.bundle / "config.json").write_text(json.dumps({
            "ociVersion": "1.2.0", "root": {"path": str(self.rootfs), "readonly": True},
            "process": {"args": arguments, "cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["PATH=/bin"], "capabilities": capabilities},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
                       {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]}],
            "linux": {"namespaces": namespaces, "resources": resources, "cgroupsPath": "/minidocker-vm/it"},
        }))  # fmt: skip
        self("create", "--bundle", str(self.bundle), "it")
        self("start", "it")
        return machine.cgroup_of(json.loads(self("state", "it"))["pid"])


@pytest.fixture
def oci(tmp_path: Path, busybox: Path) -> Iterator[Oci]:
    oci = Oci(tmp_path, busybox)
    yield oci
    oci("delete", "--force", "it", check=False)
    assert not (machine.UNIFIED / "minidocker-vm/it").exists()
    parent = machine.UNIFIED / "minidocker-vm"
    if parent.exists():
        parent.rmdir()


def test_io_max_on_a_loop_device(oci: Oci, disk: int) -> None:
    """4 MB at 1 MB a second, written past the page cache, take four seconds, less what may be burst."""
    major, minor = os.major(disk), os.minor(disk)
    number = f"{major}:{minor}"
    rate = [{"major": major, "minor": minor, "rate": 1 << 20}]
    write = f"mknod /dev/disk b {major} {minor} && time dd if=/dev/zero of=/dev/disk bs=256k count=16 oflag=direct; sleep 1000"
    allow = [{"allow": False, "access": "rwm"}, {"allow": True, "type": "b", "major": major, "minor": minor, "access": "rwm"}]
    begun = time.monotonic()
    found = oci.start(["sh", "-c", write], {"blockIO": {"throttleWriteBpsDevice": rate}, "devices": allow})
    assert (found / "io.max").read_text() == f"{number} rbps=max wbps={1 << 20} riops=max wiops=max\n"

    def written() -> int:
        counts = [line.split() for line in (found / "io.stat").read_text().splitlines() if line.startswith(number)]
        return sum(int(word.removeprefix("wbytes=")) for line in counts for word in line if word.startswith("wbytes="))

    poll(lambda: written() >= 4 << 20, "it is written", 60)
    assert time.monotonic() - begun >= 3, "faster than its limit"


def test_pause_is_the_freezer(oci: Oci) -> None:
    found = oci.start(["sh", "-c", "while :; do :; done"], {})
    oci("pause", "it")
    assert (found / "cgroup.freeze").read_text() == "1\n" and machine.keyed(found / "cgroup.events")["frozen"] == 1
    used = machine.keyed(found / "cpu.stat")["usage_usec"]
    time.sleep(1)
    assert machine.keyed(found / "cpu.stat")["usage_usec"] == used, "it stands still"
    assert json.loads(oci("state", "it"))["status"] == "paused"
    oci("resume", "it")
    poll(lambda: machine.keyed(found / "cpu.stat")["usage_usec"] > used, "it goes on", 30)


def test_values_of_v2_as_they_are(oci: Oci) -> None:
    """linux.resources.unified is written file by file."""
    found = oci.start(["sleep", "1000"], {"unified": {"memory.high": "50331648", "memory.oom.group": "1", "pids.max": "12"}})
    assert [(found / file).read_text() for file in ("memory.high", "memory.oom.group", "pids.max")] == ["50331648\n", "1\n", "12\n"]
