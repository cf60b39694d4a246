"""config-linux.md: control groups, their path and every resource, read back from the kernel; on v1, hybrid and v2."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.box import PARENT, Box, hierarchies

PATHS, MEMORY, CPU, PIDS = (f"config-linux.md#{name}" for name in ("cgroups-path", "memory", "cpu", "pids"))
BLOCK, HUGE, UNIFIED = (f"config-linux.md#{name}" for name in ("block-io", "huge-page-limits", "unified"))
MB = 1 << 20
V2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()
# What 512 shares, half the default, are on v2 is a runtime's choice: a line, or since runc 1.3 and crun 1.23 a curve through v2's default.
HALF = ("20", "59") if V2 else ("512",)


def controller(name: str) -> bool:
    """Whether a controller is there for containers, on v1 or v2."""
    found = Path("/sys/fs/cgroup", name).is_dir() or any(
        name in place.read_text().split() for place in Path("/sys/fs/cgroup").glob("cgroup.controllers")
    )
    return found


def disk() -> tuple[int, int]:
    """A whole disk's number: throttling is for those."""
    for directory in sorted(Path("/sys/block").iterdir()):
        if not directory.name.startswith(("loop", "ram", "zram")):
            major, _, minor = (directory / "dev").read_text().strip().partition(":")
            return int(major), int(minor)
    pytest.skip("there is no disk")


def limits(box: Box, **resources: Any) -> None:
    box.linux["resources"].update(resources)
    box.started()


@pytest.mark.spec(PATHS)
def test_an_absolute_path_is_below_the_mount_point(box: Box) -> None:
    box.started()
    assert box.cgroups()
    for place in box.cgroups():
        assert str(box.state()["pid"]) in (place / "cgroup.procs").read_text().split(), place


@pytest.mark.spec(PATHS)
def test_the_path_is_made_with_its_parents_and_goes_at_delete(box: Box) -> None:
    box.linux["cgroupsPath"] = f"{PARENT}/{box.id}/deep/er"
    box.started()
    places = [place / "deep/er" for place in box.cgroups() if (place / "deep/er").is_dir()]
    assert places
    box.command("delete", options=("--force",))
    assert not any(place.exists() for place in places)
    for place in places:  # whose parents are, is for each runtime to say
        for directory in (place.parent, place.parent.parent):
            if directory.exists():
                directory.rmdir()


@pytest.mark.spec(PATHS)
@pytest.mark.parametrize("path", ["relative/path", None])
def test_a_relative_path_or_none_is_the_runtimes_choice(box: Box, path: str | None) -> None:
    """The same place every time; and it is gone afterwards."""
    box.linux["cgroupsPath"] = f"{path}-{box.id}" if path else None
    if path is None:
        del box.linux["cgroupsPath"]
    found = []
    for _ in range(2):
        box.started()
        found.append(Path(f"/proc/{box.state()['pid']}/cgroup").read_text())
        places = [Path(f"{top}{line.split(':', 2)[2]}") for line in found[-1].splitlines() for top in hierarchies()]
        box.command("delete", options=("--force",))
        assert not [place for place in places if box.id in str(place) and place.is_dir()]
    assert found[0] == found[1] and box.id in found[0]


@pytest.mark.spec(PATHS)
def test_processes_that_the_container_starts_are_in_it(box: Box) -> None:
    assert f"{PARENT}/{box.id}" in box.sh("sh -c 'cat /proc/self/cgroup'")


@pytest.mark.spec("config-linux.md#control-groups")
def test_a_cgroup_namespace_hides_where_it_is(box: Box) -> None:
    box.namespace("cgroup")
    assert PARENT not in box.sh("cat /proc/self/cgroup")


@pytest.mark.spec(MEMORY)
def test_memory_limit(box: Box) -> None:
    limits(box, memory={"limit": 64 * MB})
    assert box.cgroup("memory/memory.limit_in_bytes", "memory.max") == str(64 * MB)


@pytest.mark.spec(MEMORY)
def test_memory_reservation(box: Box) -> None:
    limits(box, memory={"limit": 64 * MB, "reservation": 32 * MB})
    assert box.cgroup("memory/memory.soft_limit_in_bytes", "memory.low") == str(32 * MB)


@pytest.mark.spec(MEMORY)
@pytest.mark.skipif(not V2 and not Path("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists(), reason="swap is not accounted")
def test_memory_and_swap(box: Box) -> None:
    limits(box, memory={"limit": 64 * MB, "swap": 96 * MB})
    assert box.cgroup("memory/memory.memsw.limit_in_bytes", "memory.swap.max") == str((32 if V2 else 96) * MB)


@pytest.mark.spec(MEMORY)
@pytest.mark.parametrize("limit", [-1, 0], ids=["unlimited", "not set"])
@pytest.mark.differs(crun="takes 0 for a limit")
def test_no_memory_limit(box: Box, limit: int) -> None:
    limits(box, memory={"limit": limit})
    shown = box.cgroup("memory/memory.limit_in_bytes", "memory.max")
    assert shown == "max" or int(shown) > 1 << 60


@pytest.mark.spec(MEMORY)
@pytest.mark.skipif(V2, reason="of v1 alone")
def test_swappiness(box: Box) -> None:
    limits(box, memory={"swappiness": 30})
    assert box.cgroup("memory/memory.swappiness", "") == "30"


@pytest.mark.spec(MEMORY)
@pytest.mark.skipif(V2, reason="of v1 alone")
def test_the_oom_killer_is_disabled(box: Box) -> None:
    limits(box, memory={"limit": 64 * MB, "disableOOMKiller": True})
    assert box.cgroup("memory/memory.oom_control", "") == "oom_kill_disable 1"


@pytest.mark.spec(MEMORY)
def test_what_takes_more_than_its_memory_is_killed(box: Box) -> None:
    box.linux["resources"]["memory"] = {"limit": 16 * MB, "swap": 16 * MB}
    done = box.run("/bin/sh", "-c", "head -c 64m /dev/zero | tail -c 64m >/dev/null; exit $?")
    assert done.returncode == 137, done


@pytest.mark.spec(CPU)
def test_cpu_shares(box: Box) -> None:
    limits(box, cpu={"shares": 512})
    assert box.cgroup("cpu/cpu.shares", "cpu.weight") in HALF


@pytest.mark.spec(CPU)
def test_cpu_quota_and_period(box: Box) -> None:
    limits(box, cpu={"quota": 50000, "period": 200000})
    if V2:
        assert box.cgroup("", "cpu.max") == "50000 200000"
    else:
        assert (box.cgroup("cpu/cpu.cfs_quota_us", ""), box.cgroup("cpu/cpu.cfs_period_us", "")) == ("50000", "200000")


@pytest.mark.spec(CPU)
@pytest.mark.differs(crun="1.8 writes a number out of range")
def test_no_cpu_quota(box: Box) -> None:
    limits(box, cpu={"quota": -1})
    assert box.cgroup("cpu/cpu.cfs_quota_us", "cpu.max").split()[0] in ("-1", "max")


@pytest.mark.spec(CPU)
@pytest.mark.differs(runc="1.1 does not know it", crun="1.8 does not know it")
def test_cpu_burst(box: Box) -> None:
    limits(box, cpu={"quota": 50000, "period": 100000, "burst": 20000})
    assert box.cgroup("cpu/cpu.cfs_burst_us", "cpu.max.burst") == "20000"


@pytest.mark.spec(CPU)
@pytest.mark.differs(runc="1.1 knows it on v2 alone")
def test_cpu_idle(box: Box) -> None:
    limits(box, cpu={"idle": 1})
    assert box.cgroup("cpu/cpu.idle", "cpu.idle") == "1"


@pytest.mark.spec(CPU)
def test_cpuset(box: Box) -> None:
    cpu = min(os.sched_getaffinity(0))
    limits(box, cpu={"cpus": str(cpu), "mems": "0"})
    assert (box.cgroup("cpuset/cpuset.cpus", "cpuset.cpus"), box.cgroup("cpuset/cpuset.mems", "cpuset.mems")) == (str(cpu), "0")
    assert "Cpus_allowed_list:\t" + str(cpu) in Path(f"/proc/{box.state()['pid']}/status").read_text()


@pytest.mark.spec(CPU)
@pytest.mark.parametrize("cpu", [{"cpus": "9999"}, {"cpus": "x"}, {"quota": 1}, {"period": 2}], ids=str)
@pytest.mark.differs(crun="leaves the cgroup behind")
def test_what_the_kernel_does_not_take_is_an_error(box: Box, cpu: dict[str, Any]) -> None:
    box.linux["resources"]["cpu"] = cpu
    box.refused()


@pytest.mark.spec(PIDS)
@pytest.mark.parametrize(("limit", "shown"), [(20, "20"), (-1, "max")])
@pytest.mark.differs(crun="1.8 writes -1")
def test_pids_limit(box: Box, limit: int, shown: str) -> None:
    limits(box, pids={"limit": limit})
    assert box.cgroup("pids/pids.max", "pids.max") == shown


@pytest.mark.spec(PIDS)
def test_what_forks_more_than_it_may_fails(box: Box) -> None:
    box.linux["resources"]["pids"] = {"limit": 3}
    said = box.sh("(sleep 1 & sleep 1 & sleep 1 & sleep 1 & wait) 2>&1; true")
    assert "can't fork" in said


@pytest.mark.spec(BLOCK)
@pytest.mark.skipif(not V2 and not Path("/sys/fs/cgroup/blkio/blkio.throttle.read_bps_device").exists(), reason="no throttling here")
@pytest.mark.parametrize(("field", "file", "key"), [("throttleReadBpsDevice", "read_bps", "rbps"),
                                                    ("throttleWriteBpsDevice", "write_bps", "wbps"),
                                                    ("throttleReadIOPSDevice", "read_iops", "riops"),
                                                    ("throttleWriteIOPSDevice", "write_iops", "wiops")])  # fmt: skip
def test_throttling(box: Box, field: str, file: str, key: str) -> None:
    major, minor = disk()
    limits(box, blockIO={field: [{"major": major, "minor": minor, "rate": 1048576}]})
    shown = box.cgroup(f"blkio/blkio.throttle.{file}_device", "io.max")
    assert shown == f"{major}:{minor} 1048576" if not V2 else f"{key}=1048576" in shown


@pytest.mark.spec(BLOCK)
@pytest.mark.differs(crun="1.8 knows one of the files, and leaves the cgroup behind where there is another")
def test_a_weight_is_set_or_refused(box: Box) -> None:
    """Which of the files there is depends on the kernel's schedulers; the cgroup at the top has none of them. v2's own goes to 10000,
    onto which runc and crun stretch v1's 10 to 1000."""
    box.linux["resources"]["blockIO"] = {"weight": 500}
    if box.create("/bin/sleep", "1000").returncode != 0:
        box.refused()
        return
    files = {"blkio.weight": "500", "blkio.bfq.weight": "500", "io.weight": "4950", "io.bfq.weight": "500"}
    found = {name: file.read_text().split() for place in box.cgroups() for name in files if (file := place / name).exists()}
    assert any(files[name] in words for name, words in found.items()), found


@pytest.mark.spec(HUGE)
@pytest.mark.skipif(not Path("/sys/fs/cgroup/hugetlb").is_dir() and not V2, reason="no hugetlb controller with the others")
def test_huge_pages(box: Box) -> None:
    limits(box, hugepageLimits=[{"pageSize": "2MB", "limit": 4 * MB}])
    assert box.cgroup("hugetlb/hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max") == str(4 * MB)


@pytest.mark.spec(HUGE)
@pytest.mark.differs(crun="leaves the cgroup behind")
def test_a_size_of_huge_pages_that_does_not_exist_is_an_error(box: Box) -> None:
    box.linux["resources"]["hugepageLimits"] = [{"pageSize": "3MB", "limit": 4 * MB}]
    box.refused()


@pytest.mark.spec("config-linux.md#network")
@pytest.mark.skipif(controller("net_cls"), reason="for a host without net_cls")
@pytest.mark.differs(runc="1.1 goes on", crun="goes on")
def test_a_class_where_there_is_no_controller_for_it_is_an_error(box: Box) -> None:
    box.linux["resources"]["network"] = {"classID": 1048577}
    box.refused()


@pytest.mark.spec("config-linux.md#rdma")
@pytest.mark.skipif(controller("rdma"), reason="for a host without rdma")
@pytest.mark.differs(runc="1.1 goes on", crun="goes on")
def test_rdma_where_there_is_no_controller_for_it_is_an_error(box: Box) -> None:
    box.linux["resources"]["rdma"] = {"mlx5_1": {"hcaHandles": 3}}
    box.refused()


@pytest.mark.spec(UNIFIED)
@pytest.mark.skipif(not V2, reason="of v2 alone")
def test_unified_is_written_as_it_is(box: Box) -> None:
    limits(box, unified={"memory.high": str(32 * MB), "pids.max": "17"})
    assert (box.cgroup("", "memory.high"), box.cgroup("", "pids.max")) == (str(32 * MB), "17")


@pytest.mark.spec(UNIFIED)
@pytest.mark.parametrize("unified", [{"nosuch.max": "1"}, {"memory.high": "1048576"}] if not V2 else [{"nosuch.max": "1"}], ids=str)
@pytest.mark.differs(crun="leaves the cgroup behind")
def test_unified_without_its_controller_is_an_error(box: Box, unified: dict[str, str]) -> None:
    box.linux["resources"]["unified"] = unified
    box.refused()


@pytest.mark.spec("command line")
def test_update_changes_what_it_names(box: Box) -> None:
    limits(box, memory={"limit": 64 * MB}, pids={"limit": 100})
    box.command("update", options=("--pids-limit", "50", "--memory", str(32 * MB), "--cpu-quota", "40000", "--cpu-period", "100000"))
    assert box.cgroup("pids/pids.max", "pids.max") == "50"
    assert box.cgroup("memory/memory.limit_in_bytes", "memory.max") == str(32 * MB)
    assert box.cgroup("cpu/cpu.cfs_quota_us", "cpu.max").split()[0] == "40000"


@pytest.mark.spec("command line")
def test_update_reads_resources_from_a_file(box: Box) -> None:
    limits(box, pids={"limit": 100})
    (box.bundle / "resources.json").write_text('{"pids": {"limit": 60}, "cpu": {"shares": 512}}')
    box.command("update", options=("--resources", box.bundle / "resources.json"))
    assert box.cgroup("pids/pids.max", "pids.max") == "60"
    assert box.cgroup("cpu/cpu.shares", "cpu.weight") in HALF
