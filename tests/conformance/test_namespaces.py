"""config-linux.md: namespaces new, joined and inherited; mappings of users; offsets of clocks."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.conformance.box import Box
from tests.pretend import sh

NAMESPACES, MAPPINGS = "config-linux.md#namespaces", "config-linux.md#user-namespace-mappings"
OFFSETS = "config-linux.md#offset-for-time-namespace"
KINDS = {"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "mount": "mnt", "cgroup": "cgroup"}
MAPPING = [{"containerID": 0, "hostID": 100000, "size": 65536}]


def inside(box: Box, kind: str) -> str:
    return box.sh(f"exec readlink /proc/self/ns/{kind}")


def here(kind: str) -> str:
    return os.readlink(f"/proc/self/ns/{kind}")


def with_users(box: Box) -> None:
    """A user namespace, and a root that its users can reach."""
    box.namespace("user")
    box.linux["uidMappings"] = box.linux["gidMappings"] = [dict(entry) for entry in MAPPING]
    sh(f"chown -R -h 100000:100000 {box.root}/etc {box.root}/tmp; chown 100000:100000 {box.root}")
    for directory in (box.bundle, *box.bundle.parents[:3]):
        directory.chmod(0o755)


@pytest.mark.spec(NAMESPACES)
@pytest.mark.parametrize(("type", "kind"), KINDS.items(), ids=KINDS)
def test_a_new_namespace(box: Box, type: str, kind: str) -> None:
    box.namespace(type)
    assert inside(box, kind) != here(kind)


@pytest.mark.spec(NAMESPACES)
@pytest.mark.parametrize("type", ["pid", "network", "ipc", "uts", "cgroup"])
def test_what_is_not_listed_is_inherited(box: Box, type: str) -> None:
    box.without(type)
    if type == "network":  # a sysfs shows a network, and is for its owner to mount
        box.config["mounts"] = [entry for entry in box.config["mounts"] if entry["type"] != "sysfs"]
    assert inside(box, KINDS[type]) == here(KINDS[type])


@pytest.mark.spec(NAMESPACES)
@pytest.mark.parametrize("type", ["pid", "network", "ipc", "uts", "cgroup"])
def test_a_namespace_is_joined_by_its_path(box: Box, other: Box, type: str) -> None:
    other.namespace("cgroup")
    other.started()
    path = f"/proc/{other.state()['pid']}/ns/{KINDS[type]}"
    box.namespace(type, path=path)
    assert inside(box, KINDS[type]) == os.readlink(path)
    assert other.state()["status"] == "running"


@pytest.mark.spec(NAMESPACES)
def test_a_network_namespace_that_has_a_name(box: Box) -> None:
    sh("ip netns add conformance && ip -n conformance link add mine0 type veth peer name mine1")
    try:
        box.namespace("network", path="/run/netns/conformance")
        assert "mine0" in box.sh("ip link")
        assert "mine0" in sh("ip -n conformance link")
    finally:
        sh("ip netns del conformance")


@pytest.mark.spec(NAMESPACES)
def test_a_joined_pid_namespace_shows_its_processes(box: Box, other: Box) -> None:
    other.started("/bin/sleep", "4242")
    box.namespace("pid", path=f"/proc/{other.state()['pid']}/ns/pid")
    assert "sleep 4242" in box.sh("ps")


@pytest.mark.spec(NAMESPACES)
@pytest.mark.parametrize("path", ["/no/such/namespace", "/etc/passwd", "/proc/self/ns/uts", "proc/self/ns/net"])
def test_a_path_that_is_no_network_namespace_is_an_error(box: Box, path: str) -> None:
    box.namespace("network", path=path)
    box.refused()


@pytest.mark.spec(NAMESPACES)
@pytest.mark.differs(crun="goes on")
def test_a_namespace_given_twice_is_an_error(box: Box) -> None:
    box.linux["namespaces"].append({"type": "uts"})
    box.refused()


@pytest.mark.spec(NAMESPACES)
def test_a_namespace_of_no_kind_is_an_error(box: Box) -> None:
    box.linux["namespaces"].append({"type": "nosuch"})
    box.refused()


@pytest.mark.spec(NAMESPACES)
def test_a_new_network_has_a_loopback_and_nothing_else(box: Box) -> None:
    assert box.sh("ls /sys/class/net") == "lo"


@pytest.mark.spec(MAPPINGS)
def test_users_are_mapped(box: Box) -> None:
    with_users(box)
    assert box.sh("cat /proc/self/uid_map; id -u; id -g").split() == ["0", "100000", "65536", "0", "0"]


@pytest.mark.spec(MAPPINGS)
def test_a_file_that_a_mapped_user_makes_is_the_hosts_users(box: Box) -> None:
    with_users(box)
    box.process["user"] = {"uid": 5, "gid": 6}
    box.sh("touch /tmp/file")
    made = (box.root / "tmp/file").stat()
    assert (made.st_uid, made.st_gid) == (100005, 100006)


@pytest.mark.spec(MAPPINGS)
def test_the_process_is_the_mapped_user_on_the_host(box: Box) -> None:
    with_users(box)
    box.started()
    assert Path(f"/proc/{box.state()['pid']}").stat().st_uid == 100000


@pytest.mark.spec(MAPPINGS)
def test_several_ranges(box: Box) -> None:
    with_users(box)
    box.linux["uidMappings"] = box.linux["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 10},
                                                           {"containerID": 1000, "hostID": 200000, "size": 5}]  # fmt: skip
    assert [line.split() for line in box.sh("cat /proc/self/uid_map").splitlines()] == [["0", "100000", "10"], ["1000", "200000", "5"]]


@pytest.mark.spec(MAPPINGS)
def test_devices_are_there_for_mapped_users(box: Box) -> None:
    with_users(box)
    assert box.sh("echo x > /dev/null; head -c 3 /dev/zero | wc -c") == "3"


@pytest.mark.spec(MAPPINGS)
@pytest.mark.differs(runc="1.1 wants mappings as well")
def test_a_user_namespace_is_joined_by_its_path(box: Box, other: Box) -> None:
    with_users(other)
    other.started()
    with_users(box)
    pid = other.state()["pid"]
    del box.linux["uidMappings"], box.linux["gidMappings"]
    box.namespace("user", path=f"/proc/{pid}/ns/user")
    assert inside(box, "user") == os.readlink(f"/proc/{pid}/ns/user")


@pytest.mark.spec(MAPPINGS)
def test_a_user_that_is_not_mapped_is_an_error(box: Box) -> None:
    with_users(box)
    box.process["user"] = {"uid": 70000, "gid": 0}
    box.not_run()


@pytest.mark.spec(OFFSETS)
@pytest.mark.differs(runc="1.1 does not know time namespaces", crun="1.8 loses its child")
def test_clocks_are_set_off(box: Box) -> None:
    box.namespace("time")
    box.linux["timeOffsets"] = {"monotonic": {"secs": 172800, "nanosecs": 5}, "boottime": {"secs": 604800}}
    found = {line.split()[0]: line.split()[1:] for line in box.sh("cat /proc/self/timens_offsets").splitlines()}
    assert found == {"monotonic": ["172800", "5"], "boottime": ["604800", "0"]}


@pytest.mark.spec(OFFSETS)
@pytest.mark.differs(runc="1.1 does not know time namespaces", crun="1.8 loses its child")
def test_the_uptime_is_that_of_the_container(box: Box) -> None:
    box.namespace("time")
    box.linux["timeOffsets"] = {"boottime": {"secs": 1000000}}
    assert float(box.sh("cat /proc/uptime").split()[0]) - time.clock_gettime(time.CLOCK_BOOTTIME) > 999000


@pytest.mark.spec(OFFSETS)
@pytest.mark.differs(runc="1.1 does not know it", crun="1.8 does not look")
def test_offsets_without_a_time_namespace_are_an_error(box: Box) -> None:
    box.linux["timeOffsets"] = {"boottime": {"secs": 1}}
    box.refused()
