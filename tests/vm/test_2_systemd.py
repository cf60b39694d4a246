"""systemd as the owner of the cgroups: scopes and slices as it sees them, limits that it keeps, and what of them is left: nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from minidocker.errors import ConflictError, UnsupportedError
from minidocker.kernel import cgroups
from minidocker.plan import At
from minidocker.runtime import managers
from tests.e2e.oci import Oci
from tests.e2e.support import Minidocker, poll
from tests.pretend import sh
from tests.vm import machine

pytestmark = pytest.mark.vm

NAME = "machine.slice/minidocker-test.scope"


def shown(unit: str, *properties: str) -> dict[str, str]:
    """Properties of a unit, as systemd tells them."""
    lines = sh(f"systemctl show {unit} " + " ".join(f"-p {name}" for name in properties)).splitlines()
    return dict(line.split("=", 1) for line in lines)


def units() -> list[str]:
    return [line.split()[0] for line in sh("systemctl list-units --all --plain --no-legend 'minidocker*'").splitlines()]


def contents(cgroup: Path, *files: str) -> list[str]:
    return [(cgroup / file).read_text().strip() for file in files]


@pytest.fixture
def sleeper(md: Minidocker, busybox: Path) -> Path:
    """A container `it` with limits of each kind; its cgroup."""
    md.start("--net", "none", "--name", "it", "--rootfs", busybox, "-m", "64m", "--memory-swap", "96m", "--memory-reservation", "32m",
             "--cpus", "0.5", "--cpu-shares", "512", "--cpuset-cpus", "0", "--pids-limit", "9", "sleep", "10000")  # fmt: skip
    return machine.cgroup(md, "it")


LIMITS = ("memory.max", "memory.swap.max", "memory.low", "cpu.max", "cpu.weight", "cpuset.cpus", "pids.max")
VALUES = [str(64 << 20), str(32 << 20), str(32 << 20), "50000 100000", "59", "0", "9"]


def test_a_container_is_a_scope_in_a_slice_of_ours(md: Minidocker, sleeper: Path) -> None:
    host = md.inspect("it")["HostConfig"]
    id = md.inspect("it")["Id"]
    assert host["CgroupManager"] == "systemd" and host["Cgroup"] == "/" + str(sleeper.relative_to(machine.UNIFIED))
    assert list(sleeper.relative_to(machine.UNIFIED).parts) == [
        "minidocker.slice", f"minidocker-{md.tag}.slice", f"minidocker-{md.tag}-{id}.slice", f"minidocker-{id}.scope"]  # fmt: skip
    seen = shown(sleeper.name, "Delegate", "ControlGroup", "Slice", "ActiveState")
    assert seen == {"Delegate": "yes", "ControlGroup": host["Cgroup"], "Slice": sleeper.parent.name, "ActiveState": "active"}
    assert os.getxattr(sleeper, "trusted.delegate") == b"1", "that is what lets us write there"
    assert [path.name for path in machine.UNIFIED.glob("minidocker*")] == ["minidocker.slice"], "and nowhere else"


def test_the_limits_are_the_unit_s_properties_and_survive_a_reload(sleeper: Path) -> None:
    assert contents(sleeper, *LIMITS) == VALUES
    seen = shown(sleeper.name, "MemoryMax", "MemorySwapMax", "MemoryLow", "CPUQuotaPerSecUSec", "CPUWeight", "AllowedCPUs", "TasksMax")
    assert seen == {"MemoryMax": VALUES[0], "MemorySwapMax": VALUES[1], "MemoryLow": VALUES[2], "CPUQuotaPerSecUSec": "500ms",
                    "CPUWeight": "59", "AllowedCPUs": "0", "TasksMax": "9"}  # fmt: skip
    sh("systemctl daemon-reload")
    sh("systemctl daemon-reexec")
    assert contents(sleeper, *LIMITS) == VALUES
    sh(f"systemctl set-property --runtime {sleeper.name} TasksMax=8")
    assert contents(sleeper, *LIMITS) == [*VALUES[:-1], "8"], "one change of the user's, and only that"


def test_devices_are_systemd_s_to_know_and_the_kernel_s_to_refuse(md: Minidocker, sleeper: Path) -> None:
    seen = shown(sleeper.name, "DevicePolicy")
    assert seen == {"DevicePolicy": "strict"}
    allowed = sh(f"systemctl show {sleeper.name} -p DeviceAllow")
    assert "DeviceAllow=/dev/char/1:3 rwm" in allowed and "DeviceAllow=char-* m" in allowed
    assert md("exec", "it", "sh", "-c", "head -c 3 /dev/zero | wc -c; mknod /disk b 254 0 && echo made").stdout == "3\nmade\n"
    assert "not permitted" in md("exec", "it", "head", "-c", "1", "/disk", check=False).stderr
    sh("systemctl daemon-reload")
    assert "not permitted" in md("exec", "it", "head", "-c", "1", "/disk", check=False).stderr
    md.run("--rm", "--privileged", "--net", "none", "python3", "-c", "open('/dev/vda', 'rb').read(1)")


def test_what_a_container_was_is_gone_with_it(md: Minidocker, sleeper: Path, busybox: Path) -> None:
    assert len(units()) == 5, "two slices, and this one's; its scope and its monitor's"
    md.start("--net", "none", "--name", "other", "--rootfs", busybox, "sleep", "10000")
    md("rm", "-f", "it")
    assert not sleeper.parent.exists() and machine.cgroup(md, "other").exists()
    md("rm", "-f", "other")
    poll(lambda: units() == [], "its slices are stopped as nothing needs them", 60)
    assert not (machine.UNIFIED / "minidocker.slice").exists()
    assert md.run("--rm", "--net", "none", "--rootfs", busybox, "echo", "again").stdout == "again\n"
    poll(lambda: units() == [], "so after a run in the foreground", 60)


def test_whoever_stops_the_scope_has_stopped_the_container(md: Minidocker, busybox: Path) -> None:
    """As systemd does at a shutdown: TERM, which the container may answer; its monitor sees how it ends."""
    md.start("--net", "none", "--name", "it", "--rootfs", busybox, "sh", "-c", "trap 'exit 7' TERM; echo up; while :; do sleep 0.1; done")
    poll(lambda: md.logs("it") == "up\n", "it is up", 60)
    sh(f"systemctl stop {machine.cgroup(md, 'it').name}")
    state = md.wait("it")["State"]
    assert (state["ExitCode"], state["Error"]) == (7, "")


def test_a_slice_of_the_user_s_and_what_is_none(md: Minidocker, busybox: Path) -> None:
    md.start("--net", "none", "--name", "it", "--rootfs", busybox, "--cgroup-parent", "lab-web.slice", "sleep", "10000")
    assert machine.cgroup(md, "it").relative_to(machine.UNIFIED).parts[:2] == ("lab.slice", "lab-web.slice")
    md("rm", "-f", "it")
    refused = md.refused("run", "--rm", "--net", "none", "--rootfs", busybox, "--cgroup-parent", "/lab", "true")
    assert "`/lab` is not the name of a slice of systemd's" in refused


def test_our_own_cgroups_when_asked_for(md: Minidocker, busybox: Path) -> None:
    options = ("--name", "it", "--net", "none", "--rootfs", busybox, "-m", "64m", "--cgroup-manager", "cgroupfs")
    done = md("run", "-d", *options, "sleep", "10000", check=False)
    assert done.returncode == 0 and "systemd owns the cgroups here" in done.stderr
    found = machine.cgroup(md, "it")
    assert found == machine.UNIFIED / f"minidocker-{md.tag}" / done.stdout.strip()
    assert contents(found, "memory.max") == [str(64 << 20)] and units() == []


def test_stats_and_info(md: Minidocker, sleeper: Path) -> None:
    [record] = json.loads(md("stats", "--no-stream", "--format", "json").stdout)
    assert set(record["Pressure"]) == {"cpu", "memory", "io"} and record["Memory"]["Limit"] == 64 << 20
    assert record["Pids"] == {"Current": 1, "Limit": 9}
    info = json.loads(md("info", "--format", "json").stdout)
    assert (info["CgroupManager"], info["Pressure"], info["DeviceControl"]) == ("systemd", True, "bpf")
    assert sh("systemctl --version").split()[1] == info["Systemd"].split(".")[0].split("~")[0]
    assert info["Tools"]["nft"]["Version"] in sh("nft --version")
    assert sh("dpkg-query -Wf '${Version}' libseccomp2").startswith(info["Libraries"]["libseccomp"])
    assert not [line for line in info["Off"] if "systemd" in line or "cgroup" in line]


# What `minidocker-oci --systemd-cgroup` is made of.


def test_every_limit_of_oci_s_in_a_scope_and_changed() -> None:
    face = cgroups.detect()
    manager = managers.of("systemd", face)
    device = Path("/sys/block/vda/dev").read_text().strip()
    major, minor = map(int, device.split(":"))
    asked = {
        "memory": {"limit": 64 << 20, "swap": 64 << 20}, "unified": {"memory.high": str(48 << 20), "memory.oom.group": "1"},
        "cpu": {"quota": 30000, "period": 20000, "cpus": "0", "mems": "0"},
        "blockIO": {"throttleReadBpsDevice": [{"major": major, "minor": minor, "rate": 1 << 20}]},
    }  # fmt: skip
    cgroup = manager.cgroup(manager.name("machine.slice:minidocker:test", "", ""), asked, "")
    made = cgroup.make().run(At())
    try:
        found = machine.UNIFIED / NAME
        assert contents(found, "memory.max", "memory.swap.max", "memory.high", "memory.oom.group", "cpu.max", "cpuset.mems", "io.max") == [
            str(64 << 20), "0", str(48 << 20), "1", "30000 20000", "0", f"{device} rbps=1048576 wbps=max riops=max wiops=max"]  # fmt: skip
        manager.update(NAME, {"memory": {"limit": 128 << 20}, "pids": {"limit": 7}}).run(At())
        sh("systemctl daemon-reload")
        assert contents(found, "memory.max", "pids.max", "memory.high") == [str(128 << 20), "7", str(48 << 20)]
        with pytest.raises(ConflictError, match=r"systemd has a unit minidocker-test\.scope already"):
            manager.cgroup(NAME, {}, "").make().run(At())
        assert found.exists(), "the one that has it is left alone"
    finally:
        for step in reversed(made):
            step.undo(At())
    assert not (machine.UNIFIED / NAME).exists() and "minidocker-test.scope" not in units()
    manager.remove(NAME, "")


def test_minidocker_oci_with_systemd_cgroup(tmp_path: Path, busybox: Path) -> None:
    oci = Oci(tmp_path, busybox)
    bundle = oci.bundle("c1", "sleep", "1000")
    bundle.config["linux"]["cgroupsPath"] = "machine.slice:minidocker:test"
    bundle.config["linux"]["resources"]["memory"] = {"limit": 64 << 20}
    oci("--systemd-cgroup", "create", "--bundle", bundle.write(), "c1")
    found = machine.cgroup_of(oci.state("c1")["pid"])
    assert found == machine.UNIFIED / NAME and contents(found, "memory.max") == [str(64 << 20)]
    oci("start", "c1")
    oci("update", "--memory", str(96 << 20), "c1")
    assert shown(found.name, "MemoryMax", "Delegate") == {"MemoryMax": str(96 << 20), "Delegate": "yes"}
    oci("delete", "--force", "c1")
    assert not found.exists() and "minidocker-test.scope" not in units()
    refused = oci("--systemd-cgroup", "create", "--bundle", oci.bundle("c2", "true").write(), "c2", check=False)
    assert refused.returncode != 0 and "is not for systemd to make" in refused.stderr


def test_a_controller_that_systemd_does_not_pass_on_is_named() -> None:
    manager = managers.of("systemd", cgroups.detect())
    size = sorted(path.name.split("-")[1] for path in Path("/sys/kernel/mm/hugepages").iterdir())[-1]
    size = f"{int(size.removesuffix('kB')) // 1024}MB"
    with pytest.raises(UnsupportedError, match=r"the cgroup controller hugetlb (does not reach|is missing)"):
        manager.cgroup(NAME, {"hugepageLimits": [{"pageSize": size, "limit": 1 << 30}]}, "").make().run(At())
    assert "hugetlb" not in (machine.UNIFIED / "cgroup.subtree_control").read_text()
    assert "minidocker-test.scope" not in units()
