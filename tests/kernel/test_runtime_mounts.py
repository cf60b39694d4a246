"""runtime/mounts.py, filesystem.py, idmaps.py, copyup.py: what a configuration's mounts and root become (config.md, "Mounts")."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minidocker.errors import MinidockerError, UsageError
from minidocker.kernel import cgroups, libc
from tests.kernel.launched import OWN, configuration, make_rootfs, run
from tests.pretend import sh


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    return make_rootfs(tmp_path)


@pytest.fixture(scope="module", autouse=True)
def private_mounts() -> None:
    """`ip netns add`, in another file's tests, makes /run/netns a shared mount, and the kernel has no way to make it the same one again."""
    libc.mount(None, b"/", None, 1 << 18 | 1 << 14, None)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    mounts, descriptors = Path("/proc/self/mountinfo").read_text(), len(os.listdir("/proc/self/fd"))
    yield
    assert Path("/proc/self/mountinfo").read_text() == mounts
    face = cgroups.detect()
    assert [path for path in face.paths(OWN) if os.path.exists(path)] == []
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 4, "but for what the error of a launch that failed still holds"


def mounted(rootfs: Path, script: str, *entries: dict[str, Any], **linux: Any) -> dict[str, Any]:
    spec = configuration(rootfs, script, **linux)
    spec["mounts"] += entries
    return spec


def tmpfs(destination: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": list(options)}


def bind(source: Path | str, destination: str, *options: str, **more: Any) -> dict[str, Any]:
    return {"destination": destination, "type": "bind", "source": str(source), "options": list(options) or ["bind"], **more}


def test_options_are_the_kernel_s_and_the_file_system_s(rootfs: Path, tmp_path: Path) -> None:
    entry = tmpfs("/tmp", "nosuid", "noexec", "nodev", "noatime", "mode=1750", "size=64k")
    line = run(mounted(rootfs, "grep ' /tmp ' /proc/mounts; stat -c %a /tmp", entry), tmp_path).split()
    assert {"nosuid", "nodev", "noexec", "noatime", "size=64k", "mode=1750"} <= set(line[3].split(","))
    assert line[-1] == "1750"


def test_mounts_run_in_the_listed_order(rootfs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("inside")
    entries = (tmpfs("/a"), bind(tmp_path / "file", "/a/b/file"), tmpfs("/c"), tmpfs("/c/d"))
    assert run(mounted(rootfs, "cat /a/b/file; grep -c ' /c' /proc/mounts", *entries), tmp_path) == "inside2\n"
    assert (rootfs / "a").is_dir() and not (rootfs / "a/b").exists(), "made in the tmpfs that was mounted before"


def test_dots_and_what_is_missing_lead_nowhere_else(rootfs: Path, tmp_path: Path) -> None:
    entries = (tmpfs("/a/../../../m", "size=64k"), tmpfs("/b/./c/../d"))
    assert run(mounted(rootfs, "grep -c -E ' /(m|b/d) ' /proc/mounts", *entries), tmp_path) == "2\n"


def test_a_recursive_option_reaches_below_and_a_plain_one_does_not(rootfs: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "below").mkdir(parents=True)
    sh(f"mount -t tmpfs tmpfs {source}/below")
    try:
        script = "touch /data/x 2>/dev/null && echo top; touch /data/below/x 2>/dev/null && echo below; true"
        assert run(mounted(rootfs, script, bind(source, "/data", "rbind", "ro")), tmp_path) == "below\n"
        assert run(mounted(rootfs, script, bind(source, "/data", "rbind", "rro")), tmp_path) == ""
        line = run(mounted(rootfs, "grep /data/below /proc/mounts", bind(source, "/data", "rbind", "rnoexec", "rnosuid")), tmp_path)
        assert {"noexec", "nosuid"} <= set(line.split()[3].split(","))
    finally:
        sh(f"umount {source}/below")


@pytest.mark.parametrize(("option", "tag"), [("shared", "shared:"), ("slave", ""), ("private", ""), ("unbindable", "unbindable")])
def test_propagation_of_a_mount(rootfs: Path, tmp_path: Path, option: str, tag: str) -> None:
    line = run(mounted(rootfs, "grep ' /tmp ' /proc/self/mountinfo", tmpfs("/tmp", option)), tmp_path)
    tags = line.partition(" - ")[0].split()[6:]
    assert [found for found in tags if found.startswith(tag)] if tag else tags == []


def test_remount_changes_what_is_there(rootfs: Path, tmp_path: Path) -> None:
    entries = (tmpfs("/tmp", "size=64k"), tmpfs("/tmp", "remount", "noexec", "size=128k"))
    words = run(mounted(rootfs, "grep ' /tmp ' /proc/mounts", *entries), tmp_path).split()
    assert len(words) == 6 and {"noexec", "size=128k"} <= set(words[3].split(","))
    entries = (bind(rootfs / "etc", "/tmp", "bind"), bind("/", "/tmp", "bind", "remount", "ro"))
    assert run(mounted(rootfs, "touch /tmp/x 2>/dev/null || echo refused", *entries), tmp_path) == "refused\n"


def test_a_tmpfs_begins_with_a_copy(rootfs: Path, tmp_path: Path) -> None:
    etc = rootfs / "etc"
    (etc / "sub").mkdir(mode=0o700)
    (etc / "sub/file").write_text("text")
    os.chown(etc / "sub/file", 5, 6)
    (etc / "sub/file").chmod(0o4644)
    (etc / "link").symlink_to("/nosuch")
    os.mkfifo(etc / "fifo")
    etc.chmod(0o751)
    script = "cat /etc/sub/file; readlink /etc/link; stat -c '%n %a %u:%g %F' /etc /etc/sub /etc/sub/file /etc/fifo; touch /etc/new"
    found = run(mounted(rootfs, script, tmpfs("/etc", "tmpcopyup", "size=64k")), tmp_path)
    assert found.splitlines() == [
        "text/nosuch", "/etc 751 0:0 directory", "/etc/sub 700 0:0 directory", "/etc/sub/file 4644 5:6 regular file",
        "/etc/fifo 644 0:0 fifo",
    ]  # fmt: skip
    assert not (etc / "new").exists()
    assert run(mounted(rootfs, "touch /etc/x 2>/dev/null || cat /etc/sub/file", tmpfs("/etc", "tmpcopyup", "ro")), tmp_path) == "text"


def test_a_copy_that_does_not_fit_is_refused(rootfs: Path, tmp_path: Path) -> None:
    with open(rootfs / "etc/gigabytes", "wb") as file:
        file.truncate(8 << 30)
    with pytest.raises(MinidockerError, match="copy what the root file system has in `/etc` to the tmpfs there: no space left on device"):
        run(mounted(rootfs, "true", tmpfs("/etc", "tmpcopyup", "size=64k")), tmp_path)


def test_an_id_mapped_mount_shows_other_owners(rootfs: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("x")
    os.chown(source / "file", 1000, 1001)
    maps = {
        "uidMappings": [{"containerID": 1000, "hostID": 5, "size": 1}, {"containerID": 0, "hostID": 0, "size": 1}],
        "gidMappings": [{"containerID": 1001, "hostID": 6, "size": 1}, {"containerID": 0, "hostID": 0, "size": 1}],
    }
    script = "stat -c %u:%g /data/file; touch /data/new"
    assert run(mounted(rootfs, script, bind(source, "/data", "bind", "idmap", **maps)), tmp_path) == "5:6\n"
    assert (source / "new").stat().st_uid == 0
    assert run(mounted(rootfs, "stat -c %u:%g /data/file", bind(source, "/data", "rbind", "ridmap", **maps)), tmp_path) == "5:6\n"


def test_what_cannot_be_id_mapped_is_refused(rootfs: Path, tmp_path: Path) -> None:
    maps = {key: [{"containerID": 0, "hostID": 5, "size": 1}] for key in ("uidMappings", "gidMappings")}
    with pytest.raises(MinidockerError, match="map the owners of `/proc` on `/data`: its file system cannot be id-mapped"):
        run(mounted(rootfs, "true", bind("/proc", "/data", "bind", "idmap", **maps)), tmp_path)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (bind("/etc", "/data", "bind", "colour=red"), "mount `/etc` on `/data`: `colour=red` is no option of a bind mount"),
        ({"destination": "/a", "type": "proc", "options": ["tmpcopyup"]}, "mount `proc` on `/a`: tmpcopyup is an option of tmpfs"),
        (tmpfs("/a", "idmap"), "mount `tmpfs` on `/a`: only a bind mount can be id-mapped here"),
    ],
)
def test_no_option_is_ignored(rootfs: Path, tmp_path: Path, entry: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        run(mounted(rootfs, "true", entry), tmp_path)
    assert str(raised.value) == message


def test_without_a_cgroup_namespace_the_container_s_own_cgroup_is_what_it_sees(rootfs: Path, tmp_path: Path) -> None:
    entry = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]}
    spec = mounted(rootfs, "cd /sys/fs/cgroup/pids 2>/dev/null || cd /sys/fs/cgroup; cat cgroup.procs; cat pids.max; "
                           "(echo 1 > cgroup.procs) 2>/dev/null || echo refused", entry)  # fmt: skip
    spec["linux"]["namespaces"] = [entry for entry in spec["linux"]["namespaces"] if entry["type"] != "cgroup"]
    spec["linux"]["resources"] = {"pids": {"limit": 23}}
    lines = run(spec, tmp_path).split()
    assert lines[0] == "1" and lines[-2:] == ["23", "refused"], "its own directory, not the host's root"


@pytest.mark.parametrize(
    ("value", "tag"), [("", ""), ("private", ""), ("shared", "shared:"), ("rshared", "shared:"), ("unbindable", "unbindable")]
)
def test_the_root_s_propagation(rootfs: Path, tmp_path: Path, value: str, tag: str) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    libc.mount(None, b"/", None, 1 << 20 | 1 << 14, None)  # a host whose mounts are shared, as systemd has it
    shared = Path("/proc/self/mountinfo").read_text()
    try:
        spec = configuration(rootfs, "grep -m1 ' / / \\| / ' /proc/self/mountinfo", **({"rootfsPropagation": value} if value else {}))
        tags = run(spec, tmp_path).partition(" - ")[0].split()[6:]
        assert Path("/proc/self/mountinfo").read_text() == shared, "nothing of it reached the host"
    finally:
        libc.mount(None, b"/", None, 1 << 18 | 1 << 14, None)
        assert len(Path("/proc/self/mountinfo").read_text().splitlines()) == len(before.splitlines())
        restore(before)
    assert [found for found in tags if found.startswith(tag)] if tag else tags == []


def test_a_slave_root_stays_one(rootfs: Path, tmp_path: Path) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    libc.mount(None, b"/", None, 1 << 20 | 1 << 14, None)
    try:
        tags = run(configuration(rootfs, "grep -m1 ' / ' /proc/self/mountinfo", rootfsPropagation="slave"), tmp_path)
    finally:
        libc.mount(None, b"/", None, 1 << 18 | 1 << 14, None)
        restore(before)
    assert "master:" in tags


def restore(before: str) -> None:
    """Make shared again what was (with new peers): the text of mountinfo has to be the same for `nothing_left`, so none was."""
    assert "shared:" not in before and "master:" not in before


# Devices, masks, the root itself.


def test_devices_are_made_and_what_else_lies_there_is_an_error(rootfs: Path, tmp_path: Path) -> None:
    devices = [
        {"type": "c", "path": "/dev/fuse", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 3, "gid": 4},
        {"type": "p", "path": "/dev/sub/pipe"},
    ]
    script = "stat -c '%n %F %t:%T %a %u:%g' /dev/fuse /dev/sub/pipe /dev/null; readlink /dev/ptmx"
    found = run(configuration(rootfs, script, devices=devices), tmp_path).splitlines()
    assert found == ["/dev/fuse character special file a:e5 640 3:4", "/dev/sub/pipe fifo 0:0 666 0:0",
                     "/dev/null character special file 1:3 666 0:0", "pts/ptmx"]  # fmt: skip
    os.mknod(rootfs / "zero", 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    run(configuration(rootfs, "test -c /zero", devices=[{"type": "c", "path": "/zero", "major": 1, "minor": 5}]), tmp_path)
    (rootfs / "etc/null").write_text("not a device")
    other = [{"type": "c", "path": "/etc/null", "major": 1, "minor": 3}]
    with pytest.raises(MinidockerError, match="make `/etc/null`: the root file system has something else there, .* not the device 1:3"):
        run(configuration(rootfs, "true", devices=other), tmp_path)


def test_a_hostile_dev_null_in_the_root_is_not_taken_for_the_real_one(rootfs: Path, tmp_path: Path) -> None:
    """CVE-2025-31133: what paths are masked with is the host's /dev/null, and the root's own must be one."""
    spec = configuration(rootfs, "true")
    spec["mounts"].pop()
    (rootfs / "dev/null").symlink_to("/proc/sysrq-trigger")
    with pytest.raises(MinidockerError, match="make `/dev/null`: the root file system has something else there"):
        run(spec, tmp_path)


def test_masked_and_read_only_paths(rootfs: Path, tmp_path: Path) -> None:
    (rootfs / "etc/secret").write_text("x")
    (rootfs / "tmp/sub").mkdir()
    (rootfs / "tmp/sub/file").write_text("x")
    script = """cat /etc/secret; ls /tmp/sub; touch /etc/x 2>/dev/null || echo refused
                (echo > /proc/sys/kernel/hostname) 2>/dev/null || echo refused"""
    spec = configuration(rootfs, script, maskedPaths=["/etc/secret", "/tmp/sub", "/nosuch"], readonlyPaths=["/etc", "/proc/sys", "/nosuch"])
    assert run(spec, tmp_path) == "refused\nrefused\n"


def test_a_read_only_root(rootfs: Path, tmp_path: Path) -> None:
    spec = configuration(rootfs, "touch /x 2>/dev/null || echo refused; touch /dev/x && echo written")
    spec["root"]["readonly"] = True
    assert run(spec, tmp_path) == "refused\nwritten\n"
    assert stat.S_ISDIR((rootfs / "proc").stat().st_mode)
