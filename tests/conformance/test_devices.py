"""config-linux.md: devices, default devices, the allowed device list; sysctl; personality."""

from __future__ import annotations

import os
import platform
import stat
from pathlib import Path

import pytest

from tests.conformance.box import Box, bind

DEVICES, DEFAULT = "config-linux.md#devices", "config-linux.md#default-devices"
ALLOWED, SYSCTL = "config-linux.md#allowed-device-list", "config-linux.md#sysctl"
RANDOM = {"type": "c", "major": 1, "minor": 8}
FUSE = os.makedev(10, 229)
OPEN = "(: < /fuse) 2>&1; true"
ZERO = {"type": "c", "major": 1, "minor": 5}


@pytest.mark.spec(DEFAULT)
@pytest.mark.parametrize(("name", "number"), [("null", "1,3"), ("zero", "1,5"), ("full", "1,7"), ("random", "1,8"), ("urandom", "1,9"),
                                              ("tty", "5,0")])  # fmt: skip
def test_a_default_device(box: Box, name: str, number: str) -> None:
    major, minor = number.split(",")
    assert box.sh(f"stat -L -c '%F %t,%T %a' /dev/{name}") == f"character special file {int(major):x},{int(minor):x} 666"


@pytest.mark.spec(DEFAULT)
def test_the_default_devices_work(box: Box) -> None:
    assert box.sh("echo x > /dev/null; head -c 2 /dev/zero | wc -c; head -c 5 /dev/urandom | wc -c; (echo x > /dev/full) 2>&1; true"
                  ).split("\n")[:2] == ["2", "5"]  # fmt: skip


@pytest.mark.spec(DEFAULT)
def test_ptmx_is_that_of_the_containers_devpts(box: Box) -> None:
    assert box.sh("stat -L -c '%t,%T' /dev/ptmx") == "5,2"
    assert box.sh("readlink /dev/ptmx || echo bound").endswith(("pts/ptmx", "bound"))


@pytest.mark.spec(DEFAULT)
def test_the_standard_streams_have_their_links(box: Box) -> None:
    """Not in the list of devices, but of the Linux ABI: runtime-linux.md, "Dev symbolic links"."""
    links = box.sh("cd /dev; for link in fd stdin stdout stderr; do readlink $link; done").split()
    assert links == ["/proc/self/fd", *(f"/proc/self/fd/{n}" for n in range(3))]


@pytest.mark.spec(DEVICES)
def test_a_device_with_its_mode_and_owner(box: Box) -> None:
    box.linux["devices"] = [{"path": "/dev/mine", **RANDOM, "fileMode": 0o640, "uid": 7, "gid": 8}]
    box.linux["resources"]["devices"].append({"allow": True, "access": "rwm", **RANDOM})
    assert box.sh("stat -c '%F %t,%T %a %u %g' /dev/mine; head -c 4 /dev/mine | wc -c").splitlines() == [
        "character special file 1,8 640 7 8", "4"]  # fmt: skip


@pytest.mark.spec(DEVICES)
@pytest.mark.parametrize(("device", "shown"), [({"type": "b", "major": 7, "minor": 200}, "block special file 7,c8"),
                                               ({"type": "u", "major": 1, "minor": 5}, "character special file 1,5"),
                                               ({"type": "p"}, "fifo 0,0")], ids=lambda value: str(value)[:12])  # fmt: skip
@pytest.mark.differs(crun="1.8 does not know `u`")
def test_a_device_of_every_type(box: Box, device: dict[str, object], shown: str) -> None:
    box.linux["devices"] = [{"path": "/dev/deep/er/mine", **device}]
    assert box.sh("stat -c '%F %t,%T' /dev/deep/er/mine") == shown


@pytest.mark.spec(DEVICES)
def test_a_device_outside_of_dev(box: Box) -> None:
    box.linux["devices"] = [{"path": "/opt/mine", **ZERO}]
    assert box.sh("stat -c %t,%T /opt/mine") == "1,5"


@pytest.mark.spec(DEVICES)
@pytest.mark.differs(runc="goes on", crun="goes on")
def test_a_file_in_a_devices_place_is_an_error(box: Box) -> None:
    (box.root / "mine").write_text("a file")
    box.linux["devices"] = [{"path": "/mine", **ZERO}]
    box.refused()
    assert (box.root / "mine").read_text() == "a file"


@pytest.mark.spec(DEVICES)
def test_the_same_device_that_is_already_there_is_taken(box: Box) -> None:
    os.mknod(box.root / "mine", 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    box.linux["devices"] = [{"path": "/mine", **ZERO}]
    assert box.sh("head -c 2 /mine | wc -c") == "2"


@pytest.mark.spec(DEVICES)
@pytest.mark.differs(crun="goes on")
def test_a_device_of_no_type_is_an_error(box: Box) -> None:
    box.linux["devices"] = [{"path": "/dev/mine", "type": "x", "major": 1, "minor": 5}]
    box.refused()


@pytest.mark.spec(ALLOWED)
def test_what_is_not_allowed_cannot_be_opened(box: Box) -> None:
    """/dev/fuse, 10:229, can be opened by anybody where the list does not forbid it."""
    os.mknod(box.root / "fuse", 0o666 | stat.S_IFCHR, FUSE)
    assert "not permitted" in box.sh(OPEN)
    box.linux["resources"]["devices"].append({"allow": True, "type": "c", "major": 10, "minor": 229, "access": "r"})
    assert "not permitted" not in box.sh(OPEN)


@pytest.mark.spec(ALLOWED)
def test_access_is_by_read_and_write(box: Box) -> None:
    os.mknod(box.root / "fuse", 0o666 | stat.S_IFCHR, FUSE)
    box.linux["resources"]["devices"].append({"allow": True, "type": "c", "major": 10, "minor": 229, "access": "r"})
    said = box.sh("(: < /fuse) && echo read; (: > /fuse) 2>&1; true")
    assert said.startswith("read\n") and said.count("not permitted") == 1


@pytest.mark.spec(ALLOWED)
def test_entries_hold_in_the_order_listed(box: Box) -> None:
    os.mknod(box.root / "fuse", 0o666 | stat.S_IFCHR, FUSE)
    entry = {"type": "c", "major": 10, "minor": 229, "access": "rwm"}
    box.linux["resources"]["devices"] += [{"allow": True, **entry}, {"allow": False, **entry}]
    assert "not permitted" in box.sh(OPEN)


@pytest.mark.spec(ALLOWED)
def test_numbers_that_are_left_out_are_all(box: Box) -> None:
    os.mknod(box.root / "fuse", 0o666 | stat.S_IFCHR, FUSE)
    box.linux["resources"]["devices"].append({"allow": True, "type": "c", "major": 10, "access": "r"})
    assert "not permitted" not in box.sh(OPEN)


@pytest.mark.spec(ALLOWED)
def test_the_default_devices_are_allowed_whatever_the_list_says(box: Box) -> None:
    box.linux["resources"]["devices"] = [{"allow": False, "access": "rwm"}]
    done = box.run("/bin/sh", "-c", "for d in null zero full random urandom tty; do head -c 0 /dev/$d 2>&1 | grep permitted; done; true")
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.spec(ALLOWED)
def test_everything_is_allowed_when_the_list_says_so(box: Box) -> None:
    os.mknod(box.root / "fuse", 0o666 | stat.S_IFCHR, FUSE)
    box.linux["resources"]["devices"] = [{"allow": True, "access": "rwm"}]
    assert "not permitted" not in box.sh(OPEN)


@pytest.mark.spec(SYSCTL)
def test_sysctls_of_the_containers_namespaces(box: Box) -> None:
    before = Path("/proc/sys/kernel/shm_rmid_forced").read_text()
    box.linux["sysctl"] = {"net.ipv4.ip_forward": "1", "net.core.somaxconn": "256", "kernel.shm_rmid_forced": "1"}
    assert box.sh("cd /proc/sys; cat net/ipv4/ip_forward net/core/somaxconn kernel/shm_rmid_forced").split() == ["1", "256", "1"]
    assert Path("/proc/sys/kernel/shm_rmid_forced").read_text() == before


@pytest.mark.spec(SYSCTL)
@pytest.mark.parametrize("name", ["vm.swappiness", "kernel.panic", "net.no.such"])
def test_a_sysctl_that_is_the_hosts_or_not_there_is_an_error(box: Box, name: str) -> None:
    before = Path("/proc/sys/vm/swappiness").read_text()
    box.linux["sysctl"] = {name: "1"}
    box.refused()
    assert Path("/proc/sys/vm/swappiness").read_text() == before


@pytest.mark.spec(SYSCTL)
@pytest.mark.parametrize(("type", "name"), [("network", "net.ipv4.ip_forward"), ("ipc", "kernel.shmmax")])
def test_a_sysctl_without_its_own_namespace_is_an_error(box: Box, type: str, name: str) -> None:
    before = Path("/proc/sys", *name.split(".")).read_text()
    box.without(type)
    if type == "network":
        box.config["mounts"] = [entry for entry in box.config["mounts"] if entry["type"] != "sysfs"]
    box.linux["sysctl"] = {name: "1"}
    box.refused()
    assert Path("/proc/sys", *name.split(".")).read_text() == before


@pytest.mark.spec("config-linux.md#personality")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="for x86_64")
@pytest.mark.parametrize(("domain", "machine"), [("LINUX", "x86_64"), ("LINUX32", "i686")])
@pytest.mark.differs(runc="1.1 does not know it")
def test_personality(box: Box, domain: str, machine: str) -> None:
    box.linux["personality"] = {"domain": domain}
    assert box.sh("uname -m") == machine


@pytest.mark.spec("config-linux.md#intelrdt")
@pytest.mark.skipif(Path("/sys/fs/resctrl/schemata").exists(), reason="for a machine without resctrl")
@pytest.mark.differs(runc="1.1 goes on", crun="goes on")
def test_intel_rdt_without_resctrl_is_an_error(box: Box) -> None:
    box.linux["intelRdt"] = {"closID": "guaranteed"}
    box.refused()


@pytest.mark.spec("config.md#mounts")
def test_a_device_node_on_a_nodev_mount_cannot_be_opened(box: Box) -> None:
    (box.bundle / "volume").mkdir()
    os.mknod(box.bundle / "volume/zero", 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    box.mount(bind(box.bundle / "volume", "/m", "bind", "nodev"))
    assert "denied" in box.sh("head -c 1 /m/zero 2>&1 >/dev/null; true")
