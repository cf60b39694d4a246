"""config.md, Mounts: order, destinations, sources, and every option of a mount."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conformance.box import Box, bind, mount
from tests.pretend import sh

MOUNTS = "config.md#mounts"
OPTIONS = "config-linux.md#mount-options"

FLAGS = [("nosuid", "nosuid"), ("nodev", "nodev"), ("noexec", "noexec"), ("ro", "ro"), ("rw", "rw"), ("noatime", "noatime"),
         ("relatime", "relatime"), ("nodiratime", "nodiratime"), ("nosymfollow", "nosymfollow")]  # fmt: skip
CLEARED = [("nosuid", "suid"), ("nodev", "dev"), ("noexec", "exec"), ("ro", "rw")]


@pytest.fixture
def volume(box: Box) -> Path:
    """A directory of the host with a file in it."""
    made = box.bundle / "volume"
    made.mkdir()
    (made / "file").write_text("content")
    return made


@pytest.mark.spec(OPTIONS)
@pytest.mark.parametrize(("option", "flag"), FLAGS, ids=[option for option, _ in FLAGS])
@pytest.mark.differs(runc="1.1 does not know nosymfollow", crun="1.8 does not know nosymfollow")
def test_a_flag_of_a_new_file_system(box: Box, option: str, flag: str) -> None:
    box.mount(mount("/m", "tmpfs", option))
    assert flag in box.mounted("/m")["flags"]


@pytest.mark.spec(OPTIONS)
@pytest.mark.parametrize(("option", "flag"), [pair for pair in FLAGS if pair[0] != "relatime"], ids=lambda value: str(value))
@pytest.mark.differs(runc="1.1 does not know nosymfollow", crun="1.8 does not know nosymfollow")
def test_a_flag_of_a_bind_mount(box: Box, volume: Path, option: str, flag: str) -> None:
    box.mount(bind(volume, "/m", "bind", option))
    assert flag in box.mounted("/m")["flags"]


@pytest.mark.spec(OPTIONS)
@pytest.mark.parametrize(("first", "last"), CLEARED, ids=lambda value: str(value))
@pytest.mark.differs(crun="1.8 only adds flags")
def test_the_last_of_two_contrary_options_holds(box: Box, first: str, last: str) -> None:
    box.mount(mount("/m", "tmpfs", first, last))
    assert first not in box.mounted("/m")["flags"]


@pytest.mark.spec(OPTIONS)
def test_strictatime_is_neither_noatime_nor_relatime(box: Box) -> None:
    box.mount(mount("/m", "tmpfs", "strictatime"))
    assert not {"noatime", "relatime"} & box.mounted("/m")["flags"]


@pytest.mark.spec(OPTIONS)
@pytest.mark.parametrize(("option", "shown"), [("size=64k", "size=64k"), ("mode=711", "mode=711"), ("nr_inodes=100", "nr_inodes=100"),
                                               ("uid=7", "uid=7"), ("gid=8", "gid=8"), ("sync", "sync"),
                                               ("dirsync", "dirsync")])  # fmt: skip
def test_what_is_no_flag_goes_to_the_file_system(box: Box, option: str, shown: str) -> None:
    box.mount(mount("/m", "tmpfs", option))
    assert shown in box.mounted("/m")["super"]


@pytest.mark.spec(OPTIONS)
def test_an_option_that_the_file_system_does_not_have_is_an_error(box: Box) -> None:
    box.mount(mount("/m", "tmpfs", "nosuchoption"))
    box.refused()


@pytest.mark.spec(OPTIONS)
@pytest.mark.parametrize("option", ["defaults", "rw"])
@pytest.mark.differs(runc="1.1 hands it to the file system")
def test_defaults(box: Box, option: str) -> None:
    box.mount(mount("/m", "tmpfs", option))
    assert "rw" in box.mounted("/m")["flags"]


@pytest.mark.spec(OPTIONS)
@pytest.mark.parametrize(("option", "below"), [("bind", False), ("rbind", True)])
def test_bind_leaves_the_mounts_below_and_rbind_takes_them(box: Box, volume: Path, option: str, below: bool) -> None:
    (volume / "sub").mkdir()
    sh(f"mount -t tmpfs tmpfs {volume}/sub && touch {volume}/sub/deep")
    try:
        box.mount(bind(volume, "/m", option))
        assert box.sh("cat /m/file; echo; ls /m/sub").split() == ["content", *(["deep"] if below else [])]
    finally:
        sh(f"umount {volume}/sub")


@pytest.mark.spec(OPTIONS)
@pytest.mark.parametrize(("option", "flag"), [("rro", "ro"), ("rnosuid", "nosuid"), ("rnodev", "nodev"), ("rnoexec", "noexec"),
                                              ("rnoatime", "noatime")])  # fmt: skip
@pytest.mark.differs(crun="1.8 cannot make rnoatime")
def test_recursive_options_hold_for_the_mounts_below(box: Box, volume: Path, option: str, flag: str) -> None:
    (volume / "sub").mkdir()
    sh(f"mount -t tmpfs tmpfs {volume}/sub")
    try:
        box.mount(bind(volume, "/m", "rbind", option))
        assert flag in box.mounted("/m/sub")["flags"] and flag in box.mounted("/m")["flags"]
    finally:
        sh(f"umount {volume}/sub")
    assert flag not in sh(f"findmnt -no OPTIONS -T {volume}").split(",")


@pytest.mark.spec(OPTIONS)
def test_ro_does_not_hold_for_the_mounts_below(box: Box, volume: Path) -> None:
    (volume / "sub").mkdir()
    sh(f"mount -t tmpfs tmpfs {volume}/sub")
    try:
        box.mount(bind(volume, "/m", "rbind", "ro"))
        assert box.sh("touch /m/sub/x && ls /m/sub; touch /m/x 2>&1; true").startswith("x\n")
    finally:
        sh(f"umount {volume}/sub")


@pytest.mark.spec(OPTIONS)
@pytest.mark.parametrize(("option", "optional"), [("private", ""), ("rprivate", ""), ("shared", "shared"), ("rshared", "shared"),
                                                  ("slave", "master"), ("rslave", "master"), ("unbindable", "unbindable"),
                                                  ("runbindable", "unbindable")])  # fmt: skip
def test_a_mounts_propagation(box: Box, volume: Path, option: str, optional: str) -> None:
    sh(f"mount --bind {volume} {volume} && mount --make-shared {volume}")
    try:
        box.linux["rootfsPropagation"] = "slave"
        box.mount(bind(volume, "/m", "rbind", option))
        found = [word.partition(":")[0] for word in box.mounted("/m")["optional"]]
        assert optional in found if optional else found == []
    finally:
        sh(f"umount -l {volume}")


@pytest.mark.spec(OPTIONS)
def test_tmpcopyup_copies_what_lies_below(box: Box) -> None:
    (box.root / "data").mkdir()
    (box.root / "data/file").write_text("content")
    (box.root / "data/file").chmod(0o640)
    os.chown(box.root / "data/file", 7, 8)
    box.mount(mount("/data", "tmpfs", "tmpcopyup", "mode=755"))
    assert box.sh("cat /data/file; echo; stat -c '%a %u %g' /data/file; echo new > /data/file") == "content\n640 7 8"
    assert (box.root / "data/file").read_text() == "content"


@pytest.mark.spec(OPTIONS)
@pytest.mark.differs(runc="1.1 does not know it")
def test_an_id_mapped_mount(box: Box, volume: Path) -> None:
    os.chown(volume / "file", 1000, 1000)
    box.namespace("user")
    box.linux["uidMappings"] = box.linux["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    sh(f"chown 100000:100000 {box.root}; chmod 755 {box.bundle} {box.bundle.parent}; chown 100000 {volume}")
    entry = bind(volume, "/m", "bind", "idmap")
    entry["uidMappings"] = entry["gidMappings"] = [{"containerID": 1000, "hostID": 100005, "size": 1}]
    box.mount(entry)
    assert box.sh("stat -c '%u %g' /m/file") == "5 5"


@pytest.mark.spec(MOUNTS)
def test_mounts_are_made_in_the_order_listed(box: Box, volume: Path) -> None:
    box.mount(mount("/a/b", "tmpfs"), mount("/a", "tmpfs"), bind(volume, "/a/b"))
    assert box.sh("cat /a/b/file") == "content"
    lines = [line.split()[4] for line in box.sh("exec cat /proc/self/mountinfo").splitlines()]
    assert [place for place in lines if place.startswith("/a")] in (["/a/b", "/a", "/a/b"], ["/a", "/a/b"])


@pytest.mark.spec(MOUNTS)
def test_a_later_mount_covers_an_earlier_one(box: Box, volume: Path) -> None:
    box.mount(bind(volume, "/m"), mount("/m", "tmpfs"))
    assert box.sh("ls /m") == ""


@pytest.mark.spec(MOUNTS)
def test_a_source_is_relative_to_the_bundle(box: Box, volume: Path) -> None:
    box.mount(bind("volume", "/m"))
    assert box.sh("cat /m/file") == "content"


@pytest.mark.spec(MOUNTS)
@pytest.mark.parametrize("options", [("bind",), ("rbind", "ro")], ids=str)
@pytest.mark.parametrize("type", ["bind", "none", ""])
def test_what_makes_a_bind_mount_is_its_option_whatever_its_type(box: Box, volume: Path, type: str, options: tuple[str, ...]) -> None:
    entry = bind(volume, "/m", *options)
    entry["type"] = type
    if not type:
        del entry["type"]
    box.mount(entry)
    assert box.sh("cat /m/file") == "content"


@pytest.mark.spec(MOUNTS)
def test_a_file_is_bound_and_its_destination_made(box: Box, volume: Path) -> None:
    box.mount(bind(volume / "file", "/not/there/yet"), bind(volume / "file", "/etc/hosts", "bind", "ro"))
    assert box.sh("cat /not/there/yet /etc/hosts; (echo x > /etc/hosts) 2>&1; true").startswith("contentcontent")
    assert (volume / "file").read_text() == "content"


@pytest.mark.spec(MOUNTS)
def test_a_write_reaches_the_source(box: Box, volume: Path) -> None:
    box.mount(bind(volume, "/m"))
    box.sh("echo new > /m/new")
    assert (volume / "new").read_text() == "new\n"


@pytest.mark.spec(MOUNTS)
def test_a_source_that_does_not_exist_is_an_error(box: Box) -> None:
    box.mount(bind("/no/such/source", "/m"))
    assert "/no/such/source" in box.refused()
    assert not Path("/no/such").exists()


@pytest.mark.spec(MOUNTS)
def test_a_file_system_that_does_not_exist_is_an_error(box: Box) -> None:
    box.mount(mount("/m", "nosuchfs"))
    box.refused()


@pytest.mark.spec(MOUNTS)
def test_a_destination_that_is_not_absolute_is_below_the_root(box: Box) -> None:
    """Deprecated since 1.1, and allowed."""
    box.process["cwd"] = "/usr"
    box.mount(mount("m", "tmpfs"))
    assert box.mounted("/m")["type"] == "tmpfs"


@pytest.mark.spec(MOUNTS)
@pytest.mark.parametrize("link", ["/inside", "../../../../../../inside", "inside"])
def test_a_destination_is_resolved_inside_the_root(box: Box, volume: Path, link: str) -> None:
    (box.root / "inside").mkdir()
    (box.root / "link").symlink_to(link)
    box.mount(bind(volume, "/link"))
    assert box.sh("cat /inside/file") == "content"


@pytest.mark.spec(MOUNTS)
def test_a_destination_through_a_link_out_of_the_root_touches_nothing_of_the_host(box: Box, volume: Path, tmp_path: Path) -> None:
    (box.root / "link").symlink_to(tmp_path / "host")
    box.mount(bind(volume, "/link/made"))
    assert box.run("/bin/true").returncode in (0, 1)
    assert not (tmp_path / "host").exists()


@pytest.mark.spec(MOUNTS)
def test_a_destination_with_dots_stays_inside(box: Box, volume: Path) -> None:
    box.mount(bind(volume, "/a/../../../m"))
    assert box.sh("cat /m/file") == "content"


@pytest.mark.spec(MOUNTS)
def test_a_new_devpts_is_the_containers_own(box: Box) -> None:
    assert box.sh("ls /dev/pts; stat -c %a /dev/pts/ptmx") == "ptmx\n666"


@pytest.mark.spec(MOUNTS)
def test_proc_shows_the_containers_processes_alone(box: Box) -> None:
    assert box.sh("ls /proc | grep -x '[0-9]*' | head -1; echo $$") == "1\n1"


@pytest.mark.spec("config-linux.md#control-groups")
@pytest.mark.parametrize("option", ["ro", "rw"])
def test_a_cgroup_mount_shows_the_containers_own(box: Box, option: str) -> None:
    """v1 has a directory for each controller in it, v2 the files of one."""
    box.mount(mount("/sys/fs/cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", option))
    box.namespace("cgroup")
    shown = box.sh("""d=/sys/fs/cgroup; [ -d $d/memory ] && d=$d/memory; cat $d/cgroup.procs; mkdir $d/below 2>&1 && rmdir $d/below
                      stat -f -c %T /sys/fs/cgroup >/dev/null""")
    pids, _, said = shown.partition("\n")
    assert pids == "1" and ("Read-only" in said) == (option == "ro")
