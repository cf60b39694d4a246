"""Control groups without a kernel: finding the hierarchies, what each OCI limit writes on v1 and v2, device rules as lists and as BPF."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidocker.errors import KernelError, UnsupportedError, UsageError
from minidocker.kernel import cgroupfs, cgroups, devices
from minidocker.plan import CHILD, At, Plan
from minidocker.runtime import limits, resources

NAME = "minidocker-ab12/c1"
V1 = "cpu,cpuacct cpuset memory devices freezer blkio pids hugetlb net_cls net_prio rdma"


def mounts(tmp_path: Path, v1: str = "", v2: str | None = None, more: str = "") -> cgroups.Face:
    """A Face of fake hierarchies below `tmp_path`: `v1` co-mounted controllers by commas; `v2` its controllers, None for no v2."""
    lines = ["23 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw"]
    for controllers in v1.split():
        (tmp_path / controllers).mkdir()
        lines.append(f"32 31 0:29 / {tmp_path}/{controllers} rw,nosuid shared:9 - cgroup cgroup rw,{controllers}")
    if v2 is not None:
        unified = tmp_path / "unified"
        unified.mkdir()
        (unified / "cgroup.controllers").write_text(v2 + "\n")
        lines.append(f"41 31 0:38 / {unified} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate")
    table = tmp_path / "mountinfo"
    table.write_text("\n".join([*lines, more]) + "\n")
    return cgroups.detect(str(table))


@pytest.fixture
def v1(tmp_path: Path) -> cgroups.Face:
    face = mounts(tmp_path, V1)
    (tmp_path / "memory/memory.memsw.limit_in_bytes").touch()
    return face


@pytest.fixture
def v2(tmp_path: Path) -> cgroups.Face:
    face = mounts(tmp_path, "", "cpuset cpu io memory hugetlb pids rdma")
    (tmp_path / "unified/system.slice").mkdir()
    for file in ("memory.max", "memory.swap.max"):
        (tmp_path / "unified/system.slice" / file).touch()
    return face


def test_detect_v1_with_controllers_mounted_together(tmp_path: Path) -> None:
    face = mounts(tmp_path, "cpu,cpuacct memory blkio", more="40 31 0:37 / /named rw - cgroup cgroup rw,xattr,name=systemd")
    assert face.version == 1
    assert face.of["cpu"] is face.of["cpuacct"]
    assert face.paths(NAME) == [f"{tmp_path}/{mount}/{NAME}" for mount in ("cpu,cpuacct", "memory", "blkio")]
    assert face.of["io"].controllers == {"blkio"}
    assert "/named" not in [hierarchy.mount for hierarchy in face.hierarchies]


def test_detect_v2_alone_does_what_it_does_not_list(tmp_path: Path) -> None:
    face = mounts(tmp_path, "", "cpu memory pids")
    assert face.version == 2
    assert face.paths(NAME) == [f"{tmp_path}/unified/{NAME}"]
    assert face.of["freezer"] is face.of["devices"] is face.of["cpuacct"] is face.unified
    with pytest.raises(UnsupportedError, match="controller cpuset is missing"):
        face.path(NAME, "cpuset")


def test_detect_hybrid_takes_each_controller_where_it_is(tmp_path: Path) -> None:
    face = mounts(tmp_path, "cpu,cpuacct devices freezer pids", "memory hugetlb")
    assert face.version == "hybrid"
    assert face.of["memory"].version == 2
    assert face.of["freezer"].version == 1
    assert face.paths(NAME)[1] == f"{tmp_path}/unified/{NAME}"


def test_a_hybrid_host_s_v2_hierarchy_is_used_only_for_what_it_has(tmp_path: Path) -> None:
    face = mounts(tmp_path, "cpu cpuacct cpuset memory devices freezer pids blkio", "hugetlb")
    names = [path.removeprefix(f"{tmp_path}/").removesuffix("/" + NAME) for path in face.paths(NAME)]
    assert names == ["cpu", "cpuacct", "memory", "pids", "devices", "freezer", "blkio"]
    assert face.paths(NAME, ["hugetlb", "cpuset"])[-2:] == [f"{tmp_path}/unified/{NAME}", f"{tmp_path}/cpuset/{NAME}"]


def test_detect_unescapes_mount_points_and_takes_the_first_of_two(tmp_path: Path) -> None:
    (tmp_path / "a b\\c").mkdir()
    line = f"1 1 0:1 / {tmp_path}/a\\040b\\134c rw - cgroup cgroup rw,pids"
    face = mounts(tmp_path, "", None, f"{line}\n1 1 0:1 / /elsewhere rw - cgroup cgroup rw,pids")
    assert [hierarchy.mount for hierarchy in face.hierarchies] == [f"{tmp_path}/a b\\c"]


def test_nothing_mounted_is_said_when_a_limit_is_asked_for(tmp_path: Path) -> None:
    face = mounts(tmp_path)
    assert face.version == 0
    assert resources.Cgroup(face, NAME, {}).make().steps == resources.Cgroup(face, NAME, {}).join().steps == []
    with pytest.raises(UnsupportedError, match="no cgroup hierarchy is mounted, so the memory controller is missing") as failure:
        resources.Cgroup(face, NAME, {"memory": {"limit": 1 << 20}})
    assert "mount -t cgroup2" in failure.value.hint


# What each option writes.

GOLDEN: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
    ("memory", {"memory": {"limit": 4096}}, ["memory.limit_in_bytes 4096"], ["memory.max 4096"]),
    ("memory unlimited", {"memory": {"limit": -1}}, ["memory.limit_in_bytes -1"], ["memory.max max"]),
    ("memory not asked for", {"memory": {"limit": 0, "swap": None}}, [], []),
    ("swap", {"memory": {"limit": 4096, "swap": 12288}},
     ["memory.limit_in_bytes 4096", "memory.memsw.limit_in_bytes 12288"], ["memory.max 4096", "memory.swap.max 8192"]),
    ("no swap", {"memory": {"limit": 4096, "swap": 4096}},
     ["memory.limit_in_bytes 4096", "memory.memsw.limit_in_bytes 4096"], ["memory.max 4096", "memory.swap.max 0"]),
    ("swap unlimited", {"memory": {"limit": 4096, "swap": -1}},
     ["memory.limit_in_bytes 4096", "memory.memsw.limit_in_bytes -1"], ["memory.max 4096", "memory.swap.max max"]),
    ("reservation", {"memory": {"reservation": 8192}}, ["memory.soft_limit_in_bytes 8192"], ["memory.low 8192"]),
    ("shares", {"cpu": {"shares": 1024}}, ["cpu.shares 1024"], ["cpu.weight 100"]),
    ("quota", {"cpu": {"quota": 50000}}, ["cpu.cfs_quota_us 50000"], ["cpu.max 50000 100000"]),
    ("quota and period", {"cpu": {"quota": 5000, "period": 10000}},
     ["cpu.cfs_period_us 10000", "cpu.cfs_quota_us 5000"], ["cpu.max 5000 10000"]),
    ("period", {"cpu": {"period": 20000}}, ["cpu.cfs_period_us 20000"], ["cpu.max max 20000"]),
    ("no quota", {"cpu": {"quota": -1}}, ["cpu.cfs_quota_us -1"], ["cpu.max max 100000"]),
    ("burst", {"cpu": {"quota": 5000, "burst": 1000}},
     ["cpu.cfs_quota_us 5000", "cpu.cfs_burst_us 1000"], ["cpu.max 5000 100000", "cpu.max.burst 1000"]),
    ("idle", {"cpu": {"idle": 1}}, ["cpu.idle 1"], ["cpu.idle 1"]),
    ("cpuset", {"cpu": {"cpus": "0-1,3", "mems": "0"}}, ["cpuset.cpus 0-1,3", "cpuset.mems 0"], ["cpuset.cpus 0-1,3", "cpuset.mems 0"]),
    ("pids", {"pids": {"limit": 7}}, ["pids.max 7"], ["pids.max 7"]),
    ("pids unlimited", {"pids": {"limit": -1}}, ["pids.max max"], ["pids.max max"]),
    ("weight", {"blockIO": {"weight": 500}}, ["blkio.weight 500 | blkio.bfq.weight 500"], ["io.bfq.weight 500 | io.weight 4950"]),
    ("weight of a device", {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 10}]}},
     ["blkio.weight_device 8:0 10 | blkio.bfq.weight_device 8:0 10"], ["io.bfq.weight 8:0 10 | io.weight 8:0 1"]),
    ("throttle", {"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 9}],
                              "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 0}]}},
     ["blkio.throttle.read_bps_device 8:0 9", "blkio.throttle.write_iops_device 8:16 0"], ["io.max 8:0 rbps=9", "io.max 8:16 wiops=max"]),
    ("huge pages", {"hugepageLimits": [{"pageSize": "2MB", "limit": 6}]},
     ["hugetlb.2MB.limit_in_bytes 6", "hugetlb.2MB.rsvd.limit_in_bytes 6"], ["hugetlb.2MB.max 6", "hugetlb.2MB.rsvd.max 6"]),
    ("rdma", {"rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 9}}},
     ["rdma.max mlx5_1 hca_handle=3 hca_object=9"], ["rdma.max mlx5_1 hca_handle=3 hca_object=9"]),
]  # fmt: skip


def written(face: cgroups.Face, asked: dict[str, Any]) -> list[str]:
    found = []
    for step in resources.Cgroup(face, NAME, asked).limits:
        assert isinstance(step, limits.SetFile | limits.SetMemory)
        assert step.directory.endswith(NAME) and step.why and step.title == "cgroup"
        choices = [step.writes[:1], step.writes[1:]] if isinstance(step, limits.SetMemory) else [step.choices]
        found += [" | ".join(f"{file} {value}" for file, value in choice) for choice in choices]
    return found


@pytest.mark.parametrize(("asked", "on_v1", "on_v2"), [pytest.param(*row[1:], id=row[0]) for row in GOLDEN])
def test_what_each_limit_writes(
    v1: cgroups.Face, asked: dict[str, Any], on_v1: list[str], on_v2: list[str], tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(devices, "how", lambda face: "")
    other = tmp_path_factory.mktemp("v2")
    face = mounts(other, "", "cpuset cpu io memory hugetlb pids rdma")
    assert written(v1, asked) == on_v1
    assert written(face, asked) == on_v2


def test_limits_of_v1_alone(v1: cgroups.Face) -> None:
    assert written(v1, {"memory": {"swappiness": 0, "disableOOMKiller": True}}) == ["memory.swappiness 0", "memory.oom_control 1"]
    assert written(v1, {"network": {"classID": 7, "priorities": [{"name": "eth0", "priority": 3}]}}) == [
        "net_cls.classid 7", "net_prio.ifpriomap eth0 3",
    ]  # fmt: skip
    asked = {"memory": {"kernel": 5, "kernelTCP": 6}, "cpu": {"realtimeRuntime": 7, "realtimePeriod": 8}, "blockIO": {
        "leafWeight": 11, "weightDevice": [{"major": 8, "minor": 0, "leafWeight": 12}]}}  # fmt: skip
    assert written(v1, asked) == [
        "memory.kmem.limit_in_bytes 5", "memory.kmem.tcp.limit_in_bytes 6", "cpu.rt_period_us 8", "cpu.rt_runtime_us 7",
        "blkio.leaf_weight 11", "blkio.leaf_weight_device 8:0 12",
    ]  # fmt: skip
    with pytest.raises(UnsupportedError, match="unified.memory.high: the memory controller is missing on cgroup v2"):
        written(v1, {"unified": {"memory.high": "5"}})


def test_limits_of_v2_alone(v2: cgroups.Face, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "how", lambda face: "")
    assert written(v2, {"unified": {"memory.high": "5", "cgroup.max.depth": "2"}}) == ["memory.high 5", "cgroup.max.depth 2"]
    for asked in ({"memory": {"swappiness": 0}}, {"memory": {"disableOOMKiller": True}}, {"memory": {"kernel": 5}},
                  {"cpu": {"realtimePeriod": 5}}, {"blockIO": {"leafWeight": 50}}):  # fmt: skip
        with pytest.raises(UnsupportedError, match="exists on cgroup v1 only"):
            written(v2, asked)
    with pytest.raises(UnsupportedError, match="controller net_cls is missing"):
        written(v2, {"network": {"classID": 7}})


@pytest.mark.parametrize(
    ("asked", "error", "says"),
    [
        ({"memory": {"limit": -2}}, UsageError, "limit -2"),
        ({"memory": {"limit": "4k"}}, UsageError, "limit '4k'"),
        ({"memory": {"swap": 5}}, UsageError, "needs memory.limit"),
        ({"memory": {"limit": -1, "swap": 5}}, UsageError, "needs memory.limit"),
        ({"memory": {"limit": 6, "swap": 5}}, UsageError, "is less than memory.limit 6"),
        ({"memory": {"useHierarchy": False}}, UnsupportedError, "useHierarchy"),
        ({"blockIO": {"weight": 9}}, UsageError, "weight 9 is not from 10 to 1000"),
        ({"hugepageLimits": [{"pageSize": "2../", "limit": 5}]}, UsageError, "page size"),
        ({"unified": {"../memory.max": "1"}}, UsageError, "is not the name"),
        ({"unified": {"memory": "1"}}, UsageError, "is not the name"),
        ({"intelRdt": {"x": 1}}, UnsupportedError, "intelRdt"),
        ({"devices": [{"allow": True, "type": "d"}]}, UsageError, "type 'd'"),
        ({"devices": [{"allow": True, "type": "c", "access": "rx"}]}, UsageError, "access 'rx'"),
        ({"devices": [{"allow": True, "type": "c", "major": -2}]}, UsageError, "major -2"),
        ({"devices": [{"allow": True, "type": "c", "minor": 1 << 20}]}, UsageError, "minor 1048576"),
    ],
)
def test_what_is_refused_before_anything_is_written(v1: cgroups.Face, asked: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        resources.Cgroup(v1, NAME, asked)


@pytest.mark.parametrize(("asked", "controller"), [
    ({"memory": {"limit": 1}}, "memory"), ({"cpu": {"shares": 2}}, "cpu"), ({"cpu": {"cpus": "0"}}, "cpuset"),
    ({"pids": {"limit": 1}}, "pids"), ({"blockIO": {"weight": 10}}, r"io \(blkio\)"),
    ({"hugepageLimits": [{"pageSize": "2MB", "limit": 1}]}, "hugetlb"),
])  # fmt: skip
def test_a_missing_controller_is_named(tmp_path: Path, asked: dict[str, Any], controller: str) -> None:
    face = mounts(tmp_path, "freezer devices")
    with pytest.raises(UnsupportedError, match=f"controller {controller} is missing"):
        resources.Cgroup(face, NAME, asked)


def test_what_asks_for_nothing_needs_no_controller(tmp_path: Path) -> None:
    asked = {"memory": {"limit": 0, "disableOOMKiller": False}, "cpu": {"shares": 0}, "pids": {"limit": 0}, "blockIO": {"weightDevice": []}}
    assert written(mounts(tmp_path, "freezer devices"), asked) == []


def test_a_limit_below_what_is_used_is_refused_on_v2_where_that_is_asked_for(
    v2: cgroups.Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "how", lambda face: "")
    step = resources.Cgroup(v2, NAME, {"memory": {"limit": 4096, "checkBeforeUpdate": True}}).limits[0]
    assert isinstance(step, limits.CheckUsage)
    Path(step.file).parent.mkdir(parents=True, exist_ok=True)
    Path(step.file).write_text("4096\n")
    step.apply(At())
    Path(step.file).write_text("4097\n")
    with pytest.raises(UsageError, match="limit memory to 4096: 4097 are in use"):
        step.apply(At())


def test_swap_is_refused_where_it_is_not_accounted(tmp_path: Path) -> None:
    face = mounts(tmp_path, "memory devices")
    assert written(face, {"memory": {"limit": 4096, "swap": -1}}) == ["memory.limit_in_bytes 4096"]
    with pytest.raises(UnsupportedError, match="swap accounting is missing"):
        resources.Cgroup(face, NAME, {"memory": {"limit": 4096, "swap": 4096}})


def test_a_v2_parent_that_does_not_have_the_controller_yet_gets_it_unless_it_is_systemds(
    v2: cgroups.Face, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "how", lambda face: "")
    (tmp_path / "unified/system.slice/cgroup.controllers").write_text("pids\n")  # from an earlier container that needed no more
    (tmp_path / "unified/system.slice/cgroup.subtree_control").write_text("pids\n")
    resources.Cgroup(v2, "system.slice/new/c1", {"memory": {"limit": 4096}})
    monkeypatch.setattr(cgroupfs, "_xattr", lambda directory, name: b"7" if name == "invocation_id" else b"")
    resources.Cgroup(v2, "system.slice/new/c1", {"pids": {"limit": 3}})
    with pytest.raises(UnsupportedError, match=r"cgroup .*/system.slice does not pass on memory and belongs to systemd"):
        resources.Cgroup(v2, "system.slice/new/c1", {"memory": {"limit": 4096}})


def test_devices_that_cannot_be_limited_are_refused_when_asked_for(v2: cgroups.Face, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "how", lambda face: "")
    assert [type(step) for step in resources.Cgroup(v2, NAME, {}).make().steps] == [resources.Make]
    with pytest.raises(UnsupportedError, match="device access cannot be limited"):
        resources.Cgroup(v2, NAME, {"devices": [{"allow": False, "access": "rwm"}]})


@pytest.mark.parametrize(("path", "name"), [("", "own/ID"), ("/a/b", "a/b"), ("x", "own/x"), ("/a//./b/", "a/b")])
def test_cgroups_path(path: str, name: str) -> None:
    assert resources.cgroup_name(path, "own", "ID") == name


@pytest.mark.parametrize(
    ("path", "error"), [("/../x", UsageError), ("a/../../b", UsageError), ("/", UsageError), ("s:p:n", UnsupportedError)]
)
def test_cgroups_path_refused(path: str, error: type[Exception]) -> None:
    with pytest.raises(error, match="cgroupsPath"):
        resources.cgroup_name(path, "own", "ID")


# Applying.


def test_a_file_that_the_kernel_has_under_either_name_is_written_once(tmp_path: Path) -> None:
    step = limits.SetFile(str(tmp_path), [("blkio.weight", "1"), ("blkio.bfq.weight", "2")], "why")
    with pytest.raises(UnsupportedError, match=r"set blkio.weight to 1: this kernel has no blkio.weight or blkio.bfq.weight"):
        step.apply(At())
    (tmp_path / "blkio.bfq.weight").touch()
    step.apply(At())
    assert (tmp_path / "blkio.bfq.weight").read_text() == "2"


def test_a_write_that_fails_is_named(tmp_path: Path) -> None:
    (tmp_path / "memory.limit_in_bytes").mkdir()
    with pytest.raises(KernelError, match=r"^set memory.limit_in_bytes to 4096: is a directory$"):
        limits.SetFile(str(tmp_path), [("memory.limit_in_bytes", "4096")], "why").apply(At())


@pytest.mark.parametrize(
    ("with_swap_now", "first"), [("9223372036854771712", "memory.limit_in_bytes"), ("99", "memory.memsw.limit_in_bytes")]
)
def test_memory_and_swap_are_written_in_the_order_the_kernel_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_swap_now: str, first: str
) -> None:
    (tmp_path / "memory.memsw.limit_in_bytes").write_text(with_swap_now)
    order: list[str] = []
    monkeypatch.setattr(limits, "write", lambda path, value: order.append(os.path.basename(path)))
    limits.SetMemory(str(tmp_path), 100, 200).apply(At())
    assert order[0] == first and len(order) == 2


def test_v2_controllers_are_passed_on_top_down_as_far_as_they_are_had(tmp_path: Path) -> None:
    for path, has in (("", "cpu memory pids"), ("own", "cpu memory"), ("own/c1", "")):
        (tmp_path / path).mkdir(exist_ok=True)
        (tmp_path / path / "cgroup.controllers").write_text(has)
        (tmp_path / path / "cgroup.subtree_control").write_text("pids" if path == "" else "")
    assert cgroupfs.pass_on(str(tmp_path), "own/c1", ["cpu", "memory", "pids"]) == ["cpu", "memory", "pids"]  # a fake enables nothing
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpu +memory"
    assert (tmp_path / "own/cgroup.subtree_control").read_text() == "+cpu +memory"
    assert (tmp_path / "own/c1/cgroup.subtree_control").read_text() == ""
    (tmp_path / "own/c1/cgroup.controllers").write_text("cpu memory pids")
    assert cgroupfs.pass_on(str(tmp_path), "own/c1", ["cpu", "memory"]) == []


@pytest.mark.parametrize(("attributes", "allowed"), [
    ({"trusted.invocation_id": b"1"}, False), ({"trusted.invocation_id": b"1", "user.delegate": b"1"}, True), ({}, True),
])  # fmt: skip
def test_a_unit_of_systemd_is_written_only_when_delegated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attributes: dict[str, bytes], allowed: bool
) -> None:
    for path, passed_on in (("", "pids"), ("a.service", ""), ("a.service/c1", "")):
        (tmp_path / path).mkdir(exist_ok=True)
        (tmp_path / path / "cgroup.controllers").write_text("pids" if path != "a.service/c1" else "")
        (tmp_path / path / "cgroup.subtree_control").write_text(passed_on)

    def getxattr(path: str, name: str) -> bytes:
        if name not in attributes:
            raise OSError(61, "no data")
        return attributes[name]

    monkeypatch.setattr(os, "getxattr", getxattr)
    if allowed:
        cgroupfs.pass_on(str(tmp_path), "a.service/c1", ["pids"])
    else:
        with pytest.raises(UnsupportedError, match="belongs to systemd") as failure:
            cgroupfs.pass_on(str(tmp_path), "a.service/c1", ["pids"])
        assert "Delegate=yes" in failure.value.hint
    assert (tmp_path / "a.service/cgroup.subtree_control").read_text() == ("+pids" if allowed else "")


def test_the_whole_plan_as_commands(v2: cgroups.Face, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "how", lambda face: devices.BPF)
    cgroup = resources.Cgroup(v2, NAME, {"memory": {"limit": 1 << 29}})
    root = f"{tmp_path}/unified"
    shown = "\n".join(step.shell() for step in (*cgroup.make().steps, *cgroup.join().steps))
    assert shown.splitlines()[:5] == [
        f"mkdir -p {root}/{NAME}",
        f"echo '+cpu +memory +pids +io' > {root}/cgroup.subtree_control",
        f"echo '+cpu +memory +pids +io' > {root}/minidocker-ab12/cgroup.subtree_control",
        f"echo 536870912 > {root}/{NAME}/memory.max",
        shown.splitlines()[4],
    ]
    assert "BPF_CGROUP_DEVICE" in shown and "allow c 1:3 rwm" in shown
    assert shown.splitlines()[5] == f"for file in {root}/{NAME}/cgroup.procs; do echo \"$PID\" > \"$file\"; done"
    assert Plan(cgroup.join(CHILD).steps).steps[0].shell() == f"for file in {root}/{NAME}/cgroup.procs; do echo 0 > \"$file\"; done"


# Conversions.


@given(st.integers(2, 262144), st.integers(2, 262144))
def test_shares_become_weights_in_range_and_in_order(a: int, b: int) -> None:
    low, high = limits.weight_of_shares(min(a, b)), limits.weight_of_shares(max(a, b))
    assert 1 <= low <= high <= 10000


def test_shares_at_their_ends_default_and_beyond() -> None:
    assert [limits.weight_of_shares(shares) for shares in (1, 2, 1024, 262144, 1 << 40)] == [1, 1, 100, 10000, 10000]


@given(st.integers(10, 1000), st.integers(10, 1000))
def test_blkio_weights_become_io_weights_in_range_and_in_order(a: int, b: int) -> None:
    assert 1 <= limits.weight_of_blkio(min(a, b)) <= limits.weight_of_blkio(max(a, b)) <= 10000
    assert (limits.weight_of_blkio(10), limits.weight_of_blkio(1000)) == (1, 10000)


@given(st.integers(1, 1 << 40), st.integers(0, 1 << 40))
def test_swap_alone_and_memory_make_both_together(limit: int, swap: int) -> None:
    assert limits.swap_alone(limit + swap, limit) == swap
    assert limits.swap_alone(-1, limit) == -1


# Device rules: BPF and v1's list against the plain reading of the specification.

_NUMBER = st.sampled_from([-1, 0, 1, 2])
_RULE = st.fixed_dictionaries({
    "allow": st.booleans(), "type": st.sampled_from(["a", "b", "c"]), "major": _NUMBER, "minor": _NUMBER,
    "access": st.sampled_from(["r", "w", "m", "rw", "rm", "rwm"]),
})  # fmt: skip
_EVERYTHING = [(kind, major, minor, access) for kind in "bc" for major in range(4) for minor in range(4) for access in range(1, 8)]
_BITS = {"m": 1, "r": 2, "w": 4}


def may(rules: list[dict[str, Any]], kind: str, major: int, minor: int, access: int) -> bool:
    """The model: for each kind of access asked for, the last rule that matches and speaks of it decides."""
    for letter, bit in _BITS.items():
        if access & bit:
            verdicts = [
                rule["allow"]
                for rule in rules
                if rule["type"] in ("a", kind) and rule["major"] in (-1, major) and rule["minor"] in (-1, minor)
                if letter in rule["access"]
            ]
            if not verdicts or not verdicts[-1]:
                return False
    return True


def interpret(code: bytes, kind: str, major: int, minor: int, access: int) -> int:
    """The subset of BPF that device programs are made of."""
    context = struct.pack("=III", access << 16 | {"b": 1, "c": 2}[kind], major, minor)
    registers = dict.fromkeys(range(11), 0)
    at = 0
    while True:
        operation, both, offset, constant = struct.unpack_from("=BBhi", code, at * 8)
        to, source = both & 15, both >> 4
        at += 1
        if operation == 0x61:
            assert source == 1
            registers[to] = struct.unpack_from("=I", context, offset)[0]
        elif operation == 0xBF:
            registers[to] = registers[source]
        elif operation == 0xB7:
            registers[to] = constant
        elif operation == 0x57:
            registers[to] &= constant
        elif operation == 0x77:
            registers[to] >>= constant
        elif operation == 0x55:
            at += offset if registers[to] != constant else 0
        elif operation == 0x45:
            at += offset if registers[to] & constant else 0
        elif operation == 0x05:
            at += offset
        else:
            assert operation == 0x95
            return registers[0]


@given(st.lists(_RULE, max_size=7))
def test_the_program_answers_as_the_rules_say(rules: list[dict[str, Any]]) -> None:
    code = devices.program(devices.parse(rules))
    for request in _EVERYTHING:
        assert interpret(code, *request) == may(rules, *request), request


def listed(lines: list[tuple[str, str]], kind: str, major: int, minor: int, access: int) -> bool:
    """What the v1 kernel answers: an exception must hold all that is asked for to allow it, or some of it to deny it."""
    allow_all = lines[0] == ("devices.allow", "a")
    assert allow_all or lines[0] == ("devices.deny", "a")
    for file, line in lines[1:]:
        assert file == ("devices.deny" if allow_all else "devices.allow")
        one, device, letters = line.split(" ")
        numbers = device.split(":")
        has = sum(_BITS[letter] for letter in letters)
        if one == kind and numbers[0] in ("*", str(major)) and numbers[1] in ("*", str(minor)):
            if allow_all and has & access:
                return False
            if not allow_all and not access & ~has:
                return True
    return allow_all


@given(st.lists(_RULE, max_size=7))
def test_the_list_of_v1_never_allows_more_and_is_exact_for_one_kind_of_access(rules: list[dict[str, Any]]) -> None:
    try:
        lines = devices.lines(devices.parse(rules))
    except UnsupportedError:
        return
    for kind, major, minor, access in _EVERYTHING:
        answer, expected = listed(lines, kind, major, minor, access), may(rules, kind, major, minor, access)
        assert expected or not answer
        if access in (1, 2, 4):
            assert answer == expected, (kind, major, minor, access)


def test_the_list_of_v1_is_plain_for_plain_rules() -> None:
    deny = {"allow": False, "access": "rwm"}
    null = {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rw"}
    assert devices.lines(devices.parse([null, deny])) == [("devices.deny", "a")]
    assert devices.lines(devices.parse([deny, null])) == [("devices.deny", "a"), ("devices.allow", "c 1:3 rw")]
    assert devices.lines(devices.parse([deny, null, {**null, "allow": False, "access": "w"}]))[1:] == [("devices.allow", "c 1:3 r")]
    but_null = devices.parse([{"allow": True}, {**null, "allow": False}])
    assert devices.lines(but_null) == [("devices.allow", "a"), ("devices.deny", "c 1:3 rw")]


def test_the_list_of_v1_reads_together_what_two_rules_allow() -> None:
    lines = devices.lines(devices.parse([
        {"allow": True, "type": "c", "major": 1, "access": "r"}, {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "w"},
    ]))  # fmt: skip
    assert lines[1:] == [("devices.allow", "c 1:* r"), ("devices.allow", "c 1:3 rw")]


def test_an_exception_to_an_exception_is_refused_on_v1() -> None:
    rules = [{"allow": True, "type": "c", "major": 1}, {"allow": False, "type": "c", "major": 1, "minor": 5}]
    with pytest.raises(UnsupportedError, match=r"cannot deny the devices `c 1:5 rwm` within `c 1:\* rwm`"):
        devices.lines(devices.parse(rules))


def test_every_container_has_the_default_devices(v1: cgroups.Face) -> None:
    rules = resources.Cgroup(v1, NAME, {"devices": [{"allow": False, "access": "rwm"}]}).rules
    code = devices.program(rules)
    for major, minor in ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, 44)):
        assert interpret(code, "c", major, minor, 7)
    for kind, major, minor in (("c", 1, 1), ("c", 1, 11), ("b", 8, 0), ("c", 10, 200), ("b", 1, 3)):
        assert not any(interpret(code, kind, major, minor, access) for access in range(1, 8))
