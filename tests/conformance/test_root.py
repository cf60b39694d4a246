"""config.md: root, hostname and domainname; config-linux.md: propagation of the root, masked and read-only paths, default file systems."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conformance.box import Box, bind, mount
from tests.pretend import sh

ROOT, HOSTNAME, DOMAINNAME = "config.md#root", "config.md#hostname", "config.md#domainname"
MASKED, READONLY = "config-linux.md#masked-paths", "config-linux.md#readonly-paths"
PROPAGATION = "config-linux.md#rootfs-mount-propagation"


@pytest.mark.spec(ROOT)
@pytest.mark.parametrize("absolute", [True, False])
def test_the_root_is_absolute_or_relative_to_the_bundle(box: Box, absolute: bool) -> None:
    box.config["root"]["path"] = str(box.root) if absolute else "rootfs"
    (box.root / "mark").write_text("here")
    assert box.sh("cat /mark") == "here"


@pytest.mark.spec(ROOT)
def test_the_root_may_have_another_name(box: Box) -> None:
    box.root.rename(box.bundle / "other")
    box.root = box.bundle / "other"
    box.config["root"]["path"] = "other"
    assert box.sh("echo ran") == "ran"


@pytest.mark.spec(ROOT)
@pytest.mark.parametrize("kind", ["missing", "a file", "not given", "empty"])
def test_a_root_that_is_no_directory_is_an_error(box: Box, kind: str) -> None:
    (box.bundle / "file").write_text("")
    box.config["root"]["path"] = {"missing": "nowhere", "a file": "file", "empty": ""}.get(kind)
    if kind == "not given":
        del box.config["root"]
    box.refused()


@pytest.mark.spec(ROOT)
def test_the_root_is_writable_by_default(box: Box) -> None:
    box.sh("echo written > /file")
    assert (box.root / "file").read_text() == "written\n"


@pytest.mark.spec(ROOT)
def test_a_read_only_root_cannot_be_written_while_mounts_can(box: Box) -> None:
    box.config["root"]["readonly"] = True
    box.mount(mount("/tmp", "tmpfs"))
    assert "Read-only" in box.sh("touch /file 2>&1; touch /tmp/file /dev/shm/file")
    assert not (box.root / "file").exists()


@pytest.mark.spec(ROOT)
def test_a_read_only_root_stays_so_for_the_host_it_is_on(box: Box) -> None:
    box.config["root"]["readonly"] = True
    box.started()
    (box.root / "file").write_text("from the host")
    assert box.exec("cat /file") == "from the host"


@pytest.mark.spec(ROOT)
def test_nothing_of_the_host_is_seen(box: Box) -> None:
    seen = [line.split() for line in box.sh("exec cat /proc/self/mountinfo").splitlines()]
    assert {fields[4] for fields in seen} >= {"/", "/proc", "/dev", "/sys"}
    assert not [fields for fields in seen if str(box.bundle.parent) in fields[4] or fields[4].startswith("/run")]
    assert box.sh(f"ls -d {box.bundle} 2>&1; true").endswith("No such file or directory")


@pytest.mark.spec("config-linux.md#default-filesystems")
def test_the_default_file_systems_are_what_was_asked_for(box: Box) -> None:
    expected = {"/proc": "proc", "/sys": "sysfs", "/dev/pts": "devpts", "/dev/shm": "tmpfs", "/dev/mqueue": "mqueue"}
    for destination, type in expected.items():
        assert box.mounted(destination)["type"] == type


@pytest.mark.spec(HOSTNAME)
def test_the_hostname_is_the_containers(box: Box) -> None:
    before = os.uname().nodename
    box.config["hostname"] = "mrsdalloway"
    assert box.sh("hostname; cat /proc/sys/kernel/hostname") == "mrsdalloway\nmrsdalloway"
    assert os.uname().nodename == before


@pytest.mark.spec(HOSTNAME)
def test_a_hostname_without_a_uts_namespace_is_an_error_and_the_host_keeps_its_own(box: Box) -> None:
    before = os.uname().nodename
    box.without("uts")
    box.config["hostname"] = "mrsdalloway"
    box.refused()
    assert os.uname().nodename == before


@pytest.mark.spec(DOMAINNAME)
@pytest.mark.differs(runc="1.1 does not know it")
def test_the_domainname_is_the_containers(box: Box) -> None:
    before = Path("/proc/sys/kernel/domainname").read_text()
    box.config["domainname"] = "example.org"
    assert box.sh("cat /proc/sys/kernel/domainname") == "example.org"
    assert Path("/proc/sys/kernel/domainname").read_text() == before


@pytest.mark.spec(MASKED)
def test_a_masked_file_is_empty_and_a_masked_directory_too(box: Box) -> None:
    (box.root / "secret").write_text("secret")
    (box.root / "hidden").mkdir()
    (box.root / "hidden/below").write_text("secret")
    box.linux["maskedPaths"] = ["/secret", "/hidden", "/proc/timer_list"]
    said = box.sh("cat /secret; ls -A /hidden; cat /proc/timer_list; (touch /hidden/x) 2>/dev/null; true")
    assert said == ""
    assert (box.root / "secret").read_text() == "secret" and not (box.root / "hidden/x").exists()


@pytest.mark.spec(MASKED)
def test_a_masked_path_that_does_not_exist_is_passed_over(box: Box) -> None:
    box.linux["maskedPaths"] = ["/no/such/path", "/proc/nosuchfile"]
    assert box.sh("ls -d /no 2>&1; true").endswith("No such file or directory")


@pytest.mark.spec(READONLY)
def test_a_read_only_path_cannot_be_written_and_can_be_read(box: Box) -> None:
    (box.root / "data").mkdir()
    (box.root / "data/file").write_text("content")
    box.linux["readonlyPaths"] = ["/data", "/proc/sys", "/no/such/path"]
    said = box.sh("cat /data/file; echo; for f in /data/file /data/new /proc/sys/net/ipv4/ip_forward; do (echo 1 > $f) 2>&1; done; true")
    assert said.splitlines()[0] == "content" and said.count("Read-only file system") == 3


@pytest.mark.spec(READONLY)
@pytest.mark.differs(crun="1.8 loses them")
def test_a_read_only_path_keeps_the_flags_of_its_mount(box: Box) -> None:
    box.mount(mount("/tmp", "tmpfs", "nosuid", "nodev", "noexec"))
    box.linux["readonlyPaths"] = ["/tmp"]
    assert box.mounted("/tmp")["flags"] >= {"ro", "nosuid", "nodev", "noexec"}


@pytest.mark.spec(MASKED)
@pytest.mark.parametrize("field", ["maskedPaths", "readonlyPaths"])
@pytest.mark.differs(runc="joins it to the root", crun="joins it to the root")
def test_a_path_that_is_not_absolute_is_an_error(box: Box, field: str) -> None:
    box.linux[field] = ["proc/kcore"]
    assert f"linux.{field}[0]" in box.refused()


@pytest.mark.spec(PROPAGATION)
@pytest.mark.differs(runc="1.1 makes the root private after all", crun="makes the mount that the root lies on private: a slave of nobody")
@pytest.mark.parametrize(("value", "optional"), [("private", ""), ("shared", "shared"), ("slave", "master"), ("unbindable", "unbindable")])
def test_the_roots_propagation(box: Box, value: str, optional: str) -> None:
    sh(f"mount --bind {box.bundle} {box.bundle} && mount --make-shared {box.bundle}")
    try:
        box.linux["rootfsPropagation"] = value
        found = [word.partition(":")[0] for word in box.mounted("/")["optional"]]
        assert optional in found if optional else found == []
    finally:
        sh(f"umount -l {box.bundle}")


@pytest.mark.spec(PROPAGATION)
@pytest.mark.parametrize("value", ["slave", "private"])
@pytest.mark.differs(runc="makes the mount that the root lies on private", crun="makes the mount that the root lies on private")
def test_a_mount_of_the_host_reaches_a_slave_alone(box: Box, value: str) -> None:
    sh(f"mount --bind {box.bundle} {box.bundle} && mount --make-shared {box.bundle}")
    try:
        (box.root / "late").mkdir()
        box.linux["rootfsPropagation"] = value
        box.started()
        sh(f"mount -t tmpfs tmpfs {box.root}/late && touch {box.root}/late/file")
        assert box.exec("ls /late") == ("file" if value == "slave" else "")
        box.command("delete", options=("--force",))
    finally:
        sh(f"umount -l {box.root}/late; umount -l {box.bundle}", check=False)


@pytest.mark.spec(PROPAGATION)
@pytest.mark.differs(crun="takes any word")
def test_a_propagation_that_does_not_exist_is_an_error(box: Box) -> None:
    box.linux["rootfsPropagation"] = "sideways"
    box.refused()


@pytest.mark.spec(PROPAGATION)
def test_mounts_of_the_container_never_reach_the_host(box: Box) -> None:
    (box.bundle / "volume").mkdir()
    before = Path("/proc/self/mountinfo").read_text()
    box.mount(bind(box.bundle / "volume", "/volume", "rbind", "rprivate"))
    for name in ("bounding", "effective", "permitted"):
        box.process["capabilities"][name].append("CAP_SYS_ADMIN")
    box.started()
    box.exec("mount -t tmpfs tmpfs /volume && touch /volume/inside")
    assert Path("/proc/self/mountinfo").read_text() == before and not os.listdir(box.bundle / "volume")
