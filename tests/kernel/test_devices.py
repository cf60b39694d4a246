"""Device access on the real kernel, by v1's list and by BPF on v2: what is denied is refused, what is allowed works."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minidocker.kernel import cgroups, devices
from minidocker.plan import At
from minidocker.runtime import resources

OWN = f"minidocker-test-devices-{os.getpid()}"
NAME = f"{OWN}/c1"
EPERM = "EPERM"


@pytest.fixture(params=[devices.LIST, devices.BPF])
def face(request: pytest.FixtureRequest) -> Iterator[cgroups.Face]:
    """A face whose device access is limited in the one way or the other."""
    detected = cgroups.detect()
    face = cgroups.Face([h for h in detected.hierarchies if h.version == (1 if request.param == devices.LIST else 2)])
    if devices.how(face) != request.param:
        pytest.skip(f"this host cannot limit devices by {request.param}")
    yield face
    assert [h.path(OWN) for h in detected.hierarchies if os.path.exists(h.path(OWN))] == []


def inside(face: cgroups.Face, rules: list[dict[str, Any]], attempts: list[tuple[str, int, int, int]], tmp_path: Path) -> list[str]:
    """What becomes of `attempts`, each ("open", open flags, major, minor) or ("mknod", S_IF*, major, minor), in a cgroup with `rules`."""
    for number, (what, _, major, minor) in enumerate(attempts):
        if what == "open":
            os.mknod(tmp_path / str(number), stat.S_IFCHR | 0o600, os.makedev(major, minor))
    cgroup = resources.Cgroup(face, NAME, {"devices": rules}, OWN)
    cgroup.make().run(At())
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            face.enter(NAME)
            os.write(writer, ",".join(_attempt(tmp_path / str(number), *one) for number, one in enumerate(attempts)).encode())
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader) as answers:
        said = answers.read().split(",")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    face.remove(NAME, OWN)
    return said


def _attempt(path: Path, what: str, how: int, major: int, minor: int) -> str:
    try:
        if what == "mknod":
            os.mknod(path, how | 0o600, os.makedev(major, minor))
        else:
            os.close(os.open(path, how))
    except PermissionError:
        return EPERM
    return "ok"


def test_nothing_but_the_default_devices_by_default(face: cgroups.Face, tmp_path: Path) -> None:
    attempts = [
        ("open", os.O_RDWR, 1, 3), ("open", os.O_RDONLY, 1, 9), ("mknod", stat.S_IFCHR, 1, 5),
        ("open", os.O_RDONLY, 1, 11), ("mknod", stat.S_IFCHR, 1, 1), ("mknod", stat.S_IFBLK, 7, 0), ("mknod", stat.S_IFBLK, 1, 3),
        ("mknod", stat.S_IFIFO, 0, 0),
    ]  # fmt: skip
    assert inside(face, [{"allow": False, "access": "rwm"}], attempts, tmp_path) == ["ok"] * 3 + [EPERM] * 4 + ["ok"]


def test_each_kind_of_access_is_decided_by_itself(face: cgroups.Face, tmp_path: Path) -> None:
    kmsg = {"allow": True, "type": "c", "major": 1, "minor": 11}
    attempts = [("open", os.O_RDONLY, 1, 11), ("open", os.O_WRONLY, 1, 11), ("open", os.O_RDWR, 1, 11), ("mknod", stat.S_IFCHR, 1, 11)]
    assert inside(face, [{**kmsg, "access": "r"}], attempts, tmp_path) == ["ok", EPERM, EPERM, EPERM]
    for path in tmp_path.iterdir():
        path.unlink()
    assert inside(face, [{**kmsg, "access": "rm"}], attempts, tmp_path) == ["ok", EPERM, EPERM, "ok"]


def test_the_last_matching_rule_wins(face: cgroups.Face, tmp_path: Path) -> None:
    kmsg = {"type": "c", "major": 1, "minor": 11, "access": "rwm"}
    attempts = [("open", os.O_RDONLY, 1, 11), ("open", os.O_RDONLY, 1, 3), ("mknod", stat.S_IFBLK, 7, 0)]
    assert inside(face, [{"allow": True}, {"allow": False, **kmsg}], attempts, tmp_path) == [EPERM, "ok", "ok"]
    for path in tmp_path.iterdir():
        path.unlink()
    assert inside(face, [{"allow": True}, {"allow": False}, {"allow": True, **kmsg}], attempts, tmp_path) == ["ok", "ok", EPERM]


def test_a_privileged_container_may_all(face: cgroups.Face, tmp_path: Path) -> None:
    attempts = [("open", os.O_RDONLY, 1, 11), ("mknod", stat.S_IFBLK, 7, 0), ("mknod", stat.S_IFCHR, 10, 200)]
    assert inside(face, [{"allow": True, "access": "rwm"}], attempts, tmp_path) == ["ok"] * 3


def test_the_kernel_takes_a_long_program() -> None:
    rules = devices.parse([
        {"allow": number % 2 == 1, "type": "abc"[number % 3], "major": number % 50, "minor": number,
         "access": ("rwm", "rw", "m")[number % 3]}
        for number in range(200)
    ])  # fmt: skip
    os.close(devices.load(devices.program(rules)))


def test_every_shape_of_rule_passes_the_verifier() -> None:
    """Rules that settle everything leave others unreachable, which the verifier might refuse."""
    for allow in (True, False):
        for access in ("rwm", "r", "rw"):
            for major in (-1, 1):
                rules = devices.parse([{"allow": not allow, "access": access}, {"allow": allow, "major": major, "access": access}] * 2)
                os.close(devices.load(devices.program(rules)))


def test_where_nothing_is_mounted_the_caller_is_told() -> None:
    assert devices.how(cgroups.Face([])) == ""
