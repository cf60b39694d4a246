"""Scopes without systemd: limits as properties, places as names, what is asked of systemd and in which order."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidocker.errors import ConflictError, MinidockerError, UnsupportedError, UsageError
from minidocker.kernel import devices, systemd
from minidocker.kernel.cgroups import Face, Hierarchy
from minidocker.kernel.dbus import DBusError
from minidocker.plan import At
from minidocker.runtime import managers, scope, unitproperties
from minidocker.runtime.resources import DEFAULT_DEVICES
from minidocker.spec.config import DEVICE_RULES

MAX = (1 << 64) - 1
GOLDEN: list[tuple[str, dict[str, Any], list[str]]] = [
    ("nothing", {}, []),
    ("memory", {"memory": {"limit": 4096}}, ["MemoryMax=4096"]),
    ("memory unlimited", {"memory": {"limit": -1}}, ["MemoryMax=infinity"]),
    ("swap", {"memory": {"limit": 4096, "swap": 12288}}, ["MemoryMax=4096", "MemorySwapMax=8192"]),
    ("no swap", {"memory": {"limit": 4096, "swap": 4096}}, ["MemoryMax=4096", "MemorySwapMax=0"]),
    ("swap unlimited", {"memory": {"limit": 4096, "swap": -1}}, ["MemoryMax=4096", "MemorySwapMax=infinity"]),
    ("reservation", {"memory": {"reservation": 8192}}, ["MemoryLow=8192"]),
    ("shares", {"cpu": {"shares": 1024}}, ["CPUWeight=100"]),
    ("quota", {"cpu": {"quota": 50000}}, ["CPUQuota=50%"]),
    ("quota of a period", {"cpu": {"quota": 15000, "period": 10000}}, ["CPUQuota=150%", "CPUQuotaPeriodSec=10000us"]),
    ("a quota of less than a percent", {"cpu": {"quota": 1000, "period": 1000000}}, ["CPUQuota=1%", "CPUQuotaPeriodSec=1000000us"]),
    ("period alone", {"cpu": {"period": 20000}}, ["CPUQuota=", "CPUQuotaPeriodSec=20000us"]),
    ("no quota", {"cpu": {"quota": -1}}, ["CPUQuota="]),
    ("cpuset", {"cpu": {"cpus": "0-2,9", "mems": "0"}}, ["AllowedCPUs=0,1,2,9", "AllowedMemoryNodes=0"]),
    ("pids", {"pids": {"limit": 7}}, ["TasksMax=7"]),
    ("pids unlimited", {"pids": {"limit": -1}}, ["TasksMax=infinity"]),
    ("weight", {"blockIO": {"weight": 500}}, ["IOWeight=4950"]),
    ("weight of a device", {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 10}]}}, ["IODeviceWeight=/dev/block/8:0 1"]),
    ("throttle", {"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 9}, {"major": 8, "minor": 16, "rate": 7}],
                              "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 0}]}},
     ["IOReadBandwidthMax=/dev/block/8:0 9", "IOReadBandwidthMax=/dev/block/8:16 7", "IOWriteIOPSMax=/dev/block/8:16 infinity"]),
    ("v2's own names", {"unified": {"memory.high": "5", "memory.min": "max", "memory.swap.max": "0", "cpu.max": "max 20000",
                                    "cpu.weight": "3", "cpuset.cpus": "1", "pids.max": "max"}},
     ["MemoryHigh=5", "MemoryMin=infinity", "MemorySwapMax=0", "CPUQuota=", "CPUQuotaPeriodSec=20000us", "CPUWeight=3", "AllowedCPUs=1",
      "TasksMax=infinity"]),
    ("what no property says", {"unified": {"memory.oom.group": "1", "io.latency": "8:0 target=10", "cpu.weight": "idle", "cpu.max": "5x",
                                                                                "cpuset.cpus": "a", "memory.high": "-1"},
                               "hugepageLimits": [{"pageSize": "2MB", "limit": 6}], "cpu": {"burst": 5, "idle": 1}}, []),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "said"), [pytest.param(*row[1:], id=row[0]) for row in GOLDEN])
def test_limits_as_properties(asked: dict[str, Any], said: list[str]) -> None:
    assert unitproperties.said(unitproperties.of_resources(asked)) == said


def test_their_types_are_what_systemd_takes() -> None:
    """org.freedesktop.systemd1(5), "Scope Unit Objects"."""
    types = {name: kind for row in GOLDEN for name, kind, _ in unitproperties.of_resources(row[1])}
    assert {kind for name, kind in types.items() if name.startswith(("Memory", "CPU", "Tasks", "IOWeight"))} == {"t"}
    assert types["AllowedCPUs"] == types["AllowedMemoryNodes"] == "ay"
    assert {types[name] for name in ("IODeviceWeight", "IOReadBandwidthMax", "IOWriteIOPSMax")} == {"a(st)"}


@given(st.integers(1000, 10**7), st.integers(1000, 10**6))
def test_a_quota_is_never_less_than_was_asked_for_and_at_most_a_percent_more(quota: int, period: int) -> None:
    (_, _, per_second), _ = unitproperties.of_resources({"cpu": {"quota": quota, "period": period}})
    assert per_second % 10_000 == 0
    assert 0 <= per_second * period - quota * 1_000_000 < 10_001 * period


@given(st.sets(st.integers(0, 300), min_size=1))
def test_a_mask_has_the_bits_of_its_numbers(numbers: set[int]) -> None:
    text = ",".join(map(str, numbers))
    mask = unitproperties.mask(text)
    assert {n for n in range(len(mask) * 8) if mask[n // 8] >> n % 8 & 1} == numbers
    assert mask[-1] != 0


# Devices.


def devices_of(*rules: dict[str, Any]) -> list[str]:
    return unitproperties.said(unitproperties.of_devices(devices.parse(rules)))


def test_devices_that_are_allowed_one_by_one() -> None:
    assert devices_of(*DEVICE_RULES) == [
        "DevicePolicy=strict", "DeviceAllow=char-* m", "DeviceAllow=block-* m",
        *(f"DeviceAllow=/dev/char/1:{minor} rwm" for minor in (3, 5, 7, 8, 9)),
        *(f"DeviceAllow=/dev/char/5:{minor} rwm" for minor in (0, 1, 2)), "DeviceAllow=char-136 rwm",
    ]  # fmt: skip
    assert devices_of(*DEVICE_RULES) == devices_of(*DEVICE_RULES, *DEFAULT_DEVICES), "none is said twice"


@pytest.mark.parametrize("rules", [
    ({"allow": True, "access": "rwm"},),
    ({"allow": True, "access": "rwm"}, {"allow": False, "type": "c", "major": 1, "minor": 3, "access": "w"}),
    ({"allow": False, "access": "rw"},),
    ({"allow": True, "type": "c", "minor": 5, "access": "r"},),
])  # fmt: skip
def test_what_systemd_cannot_say_is_left_to_our_own_program(rules: tuple[dict[str, Any], ...]) -> None:
    assert devices_of(*rules) == ["DevicePolicy=auto"]


def test_what_was_allowed_before_all_was_denied_is_forgotten() -> None:
    early = {"allow": True, "type": "c", "major": 9, "minor": 9, "access": "r"}
    deny = {"allow": False, "access": "rwm"}
    assert devices_of(early, deny, {"allow": True, "type": "b", "access": "rwm"}) == ["DevicePolicy=strict", "DeviceAllow=block-* rwm"]


# Places.


@pytest.fixture
def face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Face:
    monkeypatch.setattr(systemd, "booted", lambda: True)
    monkeypatch.setattr(devices, "how", lambda face: "")
    root = tmp_path / "cgroup"
    root.mkdir()
    (root / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    return Face([Hierarchy(str(root), 2, ["cpuset", "cpu", "io", "memory", "pids"])])


@pytest.mark.parametrize(("path", "name"), [
    ("machine.slice:web:1", "machine.slice/web-1.scope"), (":web:1", "system.slice/web-1.scope"), ("-.slice::x", "x.scope"),
    ("a-b.slice:cri-containerd:0f", "a.slice/a-b.slice/cri-containerd-0f.scope"), ("", "system.slice/minidocker-ID.scope"),
])  # fmt: skip
def test_a_scope_s_cgroup(face: Face, path: str, name: str) -> None:
    assert managers.of("systemd", face).name(path, "", "ID") == name


@pytest.mark.parametrize("path", ["/a/b", "a", "a:b", "a.slice:b:", "a:b:c", "a.slice:b:c/d", "a.slice:b:c d", "a.slice:b:c:d"])
def test_what_is_no_place_of_systemd_s(face: Face, path: str) -> None:
    with pytest.raises(UsageError):
        managers.of("systemd", face).name(path, "", "ID")


def test_a_slice_for_a_container_is_refused(face: Face) -> None:
    with pytest.raises(UnsupportedError, match="asks for a slice"):
        managers.of("systemd", face).name("a.slice:b:c.slice", "", "ID")


def test_the_engine_s_places(face: Face) -> None:
    place = managers.place(face, "systemd", "ab12", "77", "")
    own = "minidocker.slice/minidocker-ab12.slice/minidocker-ab12-77.slice"
    assert (place.path, place.own) == ("minidocker-ab12-77.slice:minidocker:77", own)
    assert place.name == f"{own}/minidocker-77.scope" and place.counts == own
    place = managers.place(face, "systemd", "ab12", "77", "lab-web.slice")
    assert place.name == ("lab.slice/lab-web.slice/lab-web-minidocker.slice/lab-web-minidocker-ab12.slice/"
                          "lab-web-minidocker-ab12-77.slice/minidocker-77.scope")  # fmt: skip
    for before in ("cgroupfs", None):
        place = managers.place(face, before, "ab12", "77", "/lab")
        assert (place.path, place.own) == ("/lab/minidocker-ab12/77", "lab/minidocker-ab12")
        assert place.name == place.counts == "lab/minidocker-ab12/77"
    with pytest.raises(UsageError, match="is not the name of a slice"):
        managers.place(face, "systemd", "ab12", "77", "/lab")


def test_a_slice_is_no_parent_for_our_own_cgroups(face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(managers, "default", lambda face: managers.SYSTEMD)
    with pytest.raises(UsageError, match="is a slice of systemd's"):
        managers.place(face, "cgroupfs", "ab12", "77", "lab.slice")


def test_the_default_is_systemd_only_where_it_is_the_init_and_v2_stands_alone(
    face: Face, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(managers, "_BOOTED", str(tmp_path))
    v1 = Hierarchy("/x", 1, ["cpu"])
    assert [managers.default(one) for one in (face, Face([v1]), Face([v1, Hierarchy("/y", 2, [])]), Face([]))] == [
        "systemd", "cgroupfs", "cgroupfs", "cgroupfs"]  # fmt: skip
    monkeypatch.setattr(managers, "_BOOTED", str(tmp_path / "none"))
    assert managers.default(face) == "cgroupfs"


# Doing it.


class Fake:
    """In the place of `Systemd`: notes what is asked, makes and removes the directories, raises `error` at a start."""

    said: ClassVar[list[tuple[Any, ...]]] = []
    root = Path()
    error: Exception | None = None
    controllers = "cpuset cpu io memory pids"

    def __enter__(self) -> Fake:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def start_transient(self, unit: str, properties: list[Any], also: list[Any] = []) -> None:  # noqa: B006
        values = {name: value for name, _, value in properties}
        self.said.append(("start", unit, values.get("Slice"), [name for name, _ in also]))
        if self.error is not None:
            raise self.error
        os.kill(values["PIDs"][0], 0)  # it lives
        directory = self.root / systemd.slice_path(values["Slice"]) / unit
        directory.mkdir(parents=True)
        (directory / "cgroup.controllers").write_text(self.controllers + "\n")

    def stop(self, unit: str) -> None:
        self.said.append(("stop", unit))
        for directory, _, files in os.walk(self.root, topdown=False):
            if unit in directory.split("/"):
                for file in files:
                    os.unlink(f"{directory}/{file}")
                os.rmdir(directory)

    def reset_failed(self, unit: str) -> bool:
        self.said.append(("reset", unit))
        return False

    def set_properties(self, unit: str, properties: list[Any]) -> None:
        self.said.append(("set", unit, *unitproperties.said(properties)))


@pytest.fixture
def fake(face: Face, monkeypatch: pytest.MonkeyPatch) -> type[Fake]:
    class Mine(Fake):
        said: ClassVar[list[tuple[Any, ...]]] = []
        root = Path(face.unified.mount) if face.unified else Path()

    monkeypatch.setattr(scope, "Systemd", Mine)
    return Mine


def children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


def test_a_scope_is_kept_by_a_process_of_ours_until_the_container_s_is_in_it(face: Face, fake: type[Fake]) -> None:
    place = managers.place(face, "systemd", "ab12", "77", "")
    cgroup = place.manager.cgroup(place.name, {}, place.own)
    before = children()
    done = cgroup.make().run(At())
    assert fake.said == [("start", "minidocker-77.scope", "minidocker-ab12-77.slice", ["minidocker.slice", "minidocker-ab12.slice"])]
    assert len(children()) == len(before) + 1
    cgroup.settled().run(At())
    assert children() == before
    done[0].undo(At())
    assert fake.said[1:] == [("stop", "minidocker-77.scope"), ("stop", "minidocker-ab12-77.slice"), ("reset", "minidocker-77.scope")]
    place.removal().apply(At())
    assert len(fake.said) == 4, "what is gone is not asked for again"


def test_file_systems_stay_until_the_container_and_its_monitor_have_ended(
    face: Face, fake: type[Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What starts after them stops before them: else /opt, a mount of its own, is gone before a monitor can write down the end."""
    asked: dict[str, dict[str, Any]] = {}
    monkeypatch.setattr(fake, "start_transient", lambda _, unit, properties, also: asked.update({unit: {n: v for n, _, v in properties}}))
    place = managers.place(face, "systemd", "ab12", "77", "")
    place.manager.move_monitor(place.name, place.own, os.getpid())
    container = scope.Scope(face, place.name, {}, place.own)
    both = asked["minidocker-77-monitor.scope"], {name: value for name, _, value in container.properties}
    assert [one["After"] for one in both] == [["local-fs.target", "remote-fs.target"]] * 2
    assert both[0]["Before"] == ["minidocker-77.scope"], "and the monitor outlives its container"


@pytest.mark.parametrize(("error", "kind", "says"), [
    (DBusError("org.freedesktop.systemd1.UnitExists", "x"), ConflictError, "systemd has a unit a-1.scope already"),
    (DBusError("org.freedesktop.DBus.Error.InvalidArgs", "Value bad"), MinidockerError, "have systemd start a-1.scope: Value bad"),
])  # fmt: skip
def test_a_start_that_fails_leaves_no_process(face: Face, fake: type[Fake], error: Exception, kind: type[Exception], says: str) -> None:
    fake.error = error
    manager = managers.of("systemd", face)
    before = children()
    with pytest.raises(kind, match=says):
        manager.cgroup(manager.name("a.slice:a:1", "", ""), {}, "").make().run(At())
    assert children() == before


def test_a_controller_that_systemd_does_not_pass_on_is_named(face: Face, fake: type[Fake]) -> None:
    fake.controllers = "cpu memory pids"
    manager = managers.of("systemd", face)
    with pytest.raises(UnsupportedError, match=r"controller cpuset does not reach a-1\.scope"):
        manager.cgroup("a.slice/a-1.scope", {"cpu": {"cpus": "0"}}, "").make().run(At())
    (Path(str(fake.root)) / "cgroup.controllers").write_text("cpu memory pids\n")
    with pytest.raises(UnsupportedError, match="controller cpuset is missing"):
        manager.cgroup("a.slice/a-1.scope", {"cpu": {"cpus": "0"}}, "")


def test_where_it_cannot_be_it_is_refused_before_anything_is_done(face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    hybrid = Face([Hierarchy("/x", 1, ["cpu"]), Hierarchy("/y", 2, [])])
    with pytest.raises(UnsupportedError, match="needs cgroup v2 alone, and this host has v1 and v2"):
        managers.of("systemd", hybrid).cgroup("a.slice/a.scope", {}, "")
    monkeypatch.setattr(systemd, "booted", lambda: False)
    with pytest.raises(UnsupportedError, match="needs systemd as the init") as error:
        managers.of("systemd", face).cgroup("a.slice/a.scope", {}, "")
    assert error.value.hint == "--cgroup-manager cgroupfs"


def test_a_change_goes_to_systemd_and_to_the_files(face: Face, fake: type[Fake]) -> None:
    manager = managers.of("systemd", face)
    directory = fake.root / "a.slice/a-1.scope"
    with pytest.raises(UnsupportedError, match="in no cgroup of memory"):
        manager.update("a.slice/a-1.scope", {"memory": {"limit": 4096}})
    directory.mkdir(parents=True)
    for file in ("cgroup.controllers", "memory.max", "cpu.weight"):
        (directory / file).write_text("cpu memory")
    manager.update("a.slice/a-1.scope", {"memory": {"limit": 4096}, "cpu": {"shares": 1024}}).run(At())
    assert fake.said == [("set", "a-1.scope", "MemoryMax=4096", "CPUWeight=100")]
    assert (directory / "memory.max").read_text().startswith("4096") and (directory / "cpu.weight").read_text().startswith("100")
    with pytest.raises(UnsupportedError, match="controller cpuset does not reach"):
        manager.update("a.slice/a-1.scope", {"cpu": {"cpus": "0"}})
    with pytest.raises(UnsupportedError, match="devices of a running container"):
        manager.update("a.slice/a-1.scope", {"devices": [{"allow": False}]})


def test_as_commands(face: Face) -> None:
    place = managers.place(face, "systemd", "ab12", "77", "")
    start, limit = place.manager.cgroup(place.name, {"memory": {"limit": 1 << 29}}, place.own).make().steps
    lines = start.shell().splitlines()
    assert lines[1] == "for SLICE in minidocker.slice minidocker-ab12.slice; do", "those above go when nothing needs them"
    assert lines[5].startswith("  'ssa(sv)a(sa(sv))' minidocker-ab12-77.slice fail 0 ")
    assert lines[6] == "systemd-run --quiet --scope --collect --slice=minidocker-ab12-77.slice --unit=minidocker-77.scope \\"
    assert "  -p MemoryMax=536870912 \\" in lines and "  -p Delegate=yes \\" in lines
    assert limit.shell().endswith("minidocker-77.scope/memory.max")
    assert place.removal().shell() == "systemctl --quiet stop minidocker-77.scope minidocker-ab12-77.slice"
