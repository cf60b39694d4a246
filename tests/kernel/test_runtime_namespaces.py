"""Namespaces made and joined, their clocks, ids and settings (config-linux.md, "Namespaces"), and network devices that move."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minidocker.errors import ConflictError, KernelError, MinidockerError, NotFoundError
from minidocker.kernel import namespaces
from tests.kernel.launched import OWN, Container, configuration, make_rootfs, run
from tests.pretend import sh

KINDS = {"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup"}
MAPPING = [{"containerID": 0, "hostID": 100000, "size": 1000}]


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    return make_rootfs(tmp_path)


@pytest.fixture
def other(rootfs: Path, tmp_path: Path) -> Iterator[Container]:
    """A container whose namespaces others join."""
    directory = tmp_path / "other"
    directory.mkdir()
    spec = configuration(rootfs, "sleep 100")
    container = Container(spec, directory).start()
    yield container
    os.kill(container.launch.at.pid, 9)
    container.finish()


def replaced(spec: dict[str, Any], kind: str, path: str) -> dict[str, Any]:
    spec["linux"]["cgroupsPath"] = f"/{OWN}/two"
    found = [entry for entry in spec["linux"]["namespaces"] if entry["type"] != kind]
    spec["linux"]["namespaces"] = [*found, {"type": kind, "path": path}]
    return spec


@pytest.mark.parametrize("kind", KINDS)
def test_a_namespace_is_joined_by_path(rootfs: Path, tmp_path: Path, other: Container, kind: str) -> None:
    path = f"/proc/{other.launch.at.pid}/ns/{KINDS[kind]}"
    inode = os.stat(path).st_ino
    mine = {name: os.stat(f"/proc/self/ns/{name}").st_ino for name in (*KINDS.values(), "pid_for_children")}
    spec = replaced(configuration(rootfs, f"readlink /proc/self/ns/{KINDS[kind]}; echo $$"), kind, path)
    found, pid = run(spec, tmp_path).split()
    assert found == f"{KINDS[kind]}:[{inode}]"
    assert (pid == "1") == (kind != "pid")
    assert mine == {name: os.stat(f"/proc/self/ns/{name}").st_ino for name in mine}, "we are where we were"


def test_a_path_of_another_kind_is_refused(rootfs: Path, tmp_path: Path, other: Container) -> None:
    spec = replaced(configuration(rootfs, "true"), "network", f"/proc/{other.launch.at.pid}/ns/uts")
    with pytest.raises(MinidockerError) as raised:
        run(spec, tmp_path)
    assert str(raised.value).startswith("join the network namespace `/proc/") and raised.value.hint == "it is no network namespace"


def test_what_is_no_namespace_at_all_neither_hangs_nor_passes(rootfs: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (str(tmp_path / "fifo"), "/etc/passwd", "/nosuch"):
        with pytest.raises(KernelError, match="join the pid namespace"):
            run(replaced(configuration(rootfs, "true"), "pid", path), tmp_path)


def owned(rootfs: Path) -> None:
    for directory, _, files in os.walk(rootfs):
        for name in ("", *files):
            os.lchown(os.path.join(directory, name), 100000, 100000)


def test_with_a_user_namespace_others_are_joined_all_the_same(rootfs: Path, tmp_path: Path, other: Container) -> None:
    owned(rootfs)
    path = f"/proc/{other.launch.at.pid}/ns/net"
    spec = replaced(configuration(rootfs, "readlink /proc/self/ns/net; id -u", uidMappings=MAPPING, gidMappings=MAPPING), "network", path)
    spec["linux"]["namespaces"].append({"type": "user"})
    assert run(spec, tmp_path).split() == [f"net:[{os.stat(path).st_ino}]", "0"]


def test_a_user_namespace_is_joined(rootfs: Path, tmp_path: Path) -> None:
    owned(rootfs)
    first = configuration(rootfs, "sleep 100", uidMappings=MAPPING, gidMappings=MAPPING)
    first["linux"]["namespaces"].append({"type": "user"})
    directory = tmp_path / "first"
    directory.mkdir()
    container = Container(first, directory).start()
    try:
        path = f"/proc/{container.launch.at.pid}/ns/user"
        spec = replaced(configuration(rootfs, "readlink /proc/self/ns/user; id -u; cat /proc/self/uid_map; hostname"), "user", path)
        spec["hostname"] = "joined"
        found = run(spec, tmp_path).split()
        assert found == [f"user:[{os.stat(path).st_ino}]", "0", "0", "100000", "1000", "joined"]
    finally:
        os.kill(container.launch.at.pid, 9)
        container.finish()


def test_clocks_of_its_own(rootfs: Path, tmp_path: Path) -> None:
    spec = configuration(rootfs, "cat /proc/self/timens_offsets; read up _ < /proc/uptime; echo $up",
                         timeOffsets={"monotonic": {"secs": 1000, "nanosecs": 5}, "boottime": {"secs": 1_000_000}})  # fmt: skip
    spec["linux"]["namespaces"].append({"type": "time"})
    words = run(spec, tmp_path).split()
    assert words[:6] == ["monotonic", "1000", "5", "boottime", "1000000", "0"]
    assert float(words[6]) > float(Path("/proc/uptime").read_text().split()[0]) + 900_000
    assert os.stat("/proc/self/ns/time").st_ino == os.stat("/proc/self/ns/time_for_children").st_ino


def test_a_clock_before_the_beginning_of_time_is_refused(rootfs: Path, tmp_path: Path) -> None:
    spec = configuration(rootfs, "true", timeOffsets={"boottime": {"secs": -(1 << 40)}})
    spec["linux"]["namespaces"].append({"type": "time"})
    with pytest.raises(MinidockerError, match="set the clocks of the time namespace"):
        run(spec, tmp_path)


def test_names_and_settings(rootfs: Path, tmp_path: Path) -> None:
    settings = {"net.core.somaxconn": "77", "net/ipv4/ip_forward": "1", "kernel.shmmni": "88", "fs.mqueue.msg_max": "9"}
    files = " ".join(f"/proc/sys/{name.replace('.', '/')}" for name in settings)
    spec = configuration(rootfs, f"cat {files} /proc/sys/kernel/domainname", sysctl=settings)
    spec["hostname"], spec["domainname"] = "h", "d.example"
    assert run(spec, tmp_path).split() == ["77", "1", "88", "9", "d.example"]


def test_a_setting_that_lies_on_no_procfs_is_not_written(rootfs: Path, tmp_path: Path) -> None:
    """CVE-2019-16884, CVE-2025-52881: what is written is the kernel's, or the container is not made."""
    sh("mount -t tmpfs tmpfs /proc/sys/kernel && echo 1 > /proc/sys/kernel/shmmni")
    try:
        with pytest.raises(MinidockerError) as raised:
            run(configuration(rootfs, "true", sysctl={"kernel.shmmni": "77"}), tmp_path)
        assert "write `/proc/sys/kernel/shmmni`" in str(raised.value) and "not a file of procfs" in str(raised.value)
        assert Path("/proc/sys/kernel/shmmni").read_text() == "1\n"
    finally:
        sh("umount /proc/sys/kernel")


def test_a_network_device_moves_in_with_its_addresses(rootfs: Path, tmp_path: Path) -> None:
    sh("ip link add moved type veth peer name remains1 && ip address add 192.0.2.7/24 dev moved && ip link set moved up")
    spec = configuration(rootfs, "ip -o -4 address show; ip link show inner", netDevices={"moved": {"name": "inner"}})
    found = run(spec, tmp_path)
    assert "inet 192.0.2.7/24" in found and ",UP" in found.partition("inner@")[2]
    assert not os.path.exists("/sys/class/net/moved")


def test_a_network_device_gets_the_next_free_name(rootfs: Path, tmp_path: Path) -> None:
    sh("ip link add renamed type veth peer name remains2")
    spec = configuration(rootfs, "ip link show net0", netDevices={"renamed": {"name": "net%d"}})
    assert "net0@" in run(spec, tmp_path)


def test_a_network_device_that_is_not_there_or_whose_name_is_taken(rootfs: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no network device `nosuch0`"):
        run(configuration(rootfs, "true", netDevices={"nosuch0": {}}), tmp_path)
    sh("ip link add stays type veth peer name remains3")
    try:
        with pytest.raises(ConflictError, match="the container has a network device `lo` already"):
            run(configuration(rootfs, "true", netDevices={"stays": {"name": "lo"}}), tmp_path)
        sh("ip link show stays")
    finally:
        sh("ip link delete stays")


def test_every_kind_has_its_file() -> None:
    assert {kind: file for kind, (_, file) in namespaces.BY_OCI_NAME.items() if kind in KINDS} == KINDS


def test_a_root_below_a_directory_of_the_host_s_root_alone_is_reached(rootfs: Path, tmp_path: Path) -> None:
    owned(rootfs)
    spec = configuration(rootfs, "id -u; stat -c %u /", uidMappings=MAPPING, gidMappings=MAPPING)
    spec["linux"]["namespaces"].append({"type": "user"})
    tmp_path.chmod(0o700)
    assert run(spec, tmp_path).split() == ["0", "0"]
