"""cp: docker's rules of where things go, running and ended containers, tar streams, and file systems that are hostile."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.support import Minidocker, poll


@pytest.fixture
def web(md: Minidocker, busybox: Path) -> str:
    """A running container."""
    md.start("--name", "web", "--net", "none", "--rootfs", busybox, "-v", "data:/data", "--tmpfs", "/scratch", "sleep", "1000")
    return "web"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A directory of the host's with something to copy."""
    place = tmp_path / "here"
    (place / "tree/sub").mkdir(parents=True)
    (place / "tree/file").write_text("of the host\n")
    os.link(place / "tree/file", place / "tree/same")
    (place / "tree/sub/link").symlink_to("/etc/shadow")
    os.mkfifo(place / "tree/fifo")
    with (place / "tree/sparse").open("wb") as file:
        file.seek(8 << 20)
        file.write(b"end")
    (place / "setuid").write_text("#!/bin/sh\n")
    os.chown(place / "setuid", 12, 34)
    (place / "setuid").chmod(0o4755)
    os.utime(place / "tree/file", (1e9, 1e9))
    os.utime(place / "tree", (1e9, 1e9))
    return place


def inside(md: Minidocker, *words: object) -> str:
    return str(md("exec", "web", *words).stdout)


def members(stream: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(stream)) as tar:
        return tar.getmembers()


def test_a_directory_there_and_back(md: Minidocker, web: str, here: Path) -> None:
    assert md("cp", here / "tree", "web:/tmp").stdout == ""
    assert inside(md, "sh", "-c", "cd /tmp/tree; cat file; ls; readlink sub/link; stat -c '%h %Y' file; stat -c %Y .") == (
        "of the host\nfifo\nfile\nsame\nsparse\nsub\n/etc/shadow\n2 1000000000\n1000000000\n")
    md("cp", "web:/tmp/tree", "back", cwd=here)
    back = here / "back"
    assert sorted(os.listdir(back)) == ["fifo", "file", "same", "sparse", "sub"] and os.readlink(back / "sub/link") == "/etc/shadow"
    assert stat.S_ISFIFO(os.lstat(back / "fifo").st_mode) and os.path.samefile(back / "file", back / "same")
    assert (back / "sparse").read_bytes() == (here / "tree/sparse").read_bytes() and (back / "sparse").stat().st_blocks < 8192
    assert back.stat().st_mtime == (back / "file").stat().st_mtime == 1e9


@pytest.mark.parametrize("state", ["running", "ended"])
def test_where_things_go(md: Minidocker, web: str, here: Path, state: str) -> None:
    """docker-cp(1): the target is there as a directory, as a file, or not."""
    inside(md, "sh", "-c", "mkdir -p /a/dir; echo old > /a/file; ln -s dir /a/way; ln -s nowhere /a/dangling")
    if state == "ended":
        md("stop", "-t", "0", "web")
    for source, target, made in (
        ("setuid", "web:/a/dir", "/a/dir/setuid"), ("setuid", "web:/a/dir/", "/a/dir/setuid"), ("setuid", "web:/a/new", "/a/new"),
        ("setuid", "web:/a/file", "/a/file"), ("setuid", "web:/a/way", "/a/dir/setuid"), ("setuid", "web:/a/dangling", "/a/nowhere"),
        ("tree/.", "web:/a/dir", "/a/dir/file"), ("tree", "web:/a/dir", "/a/dir/tree/file"), ("tree", "web:/a/made", "/a/made/file"),
        ("tree/.", "web:/a/made2/", "/a/made2/file"), ("./tree/sub/../file", "web:data/x", "/data/x"),
    ):  # fmt: skip
        md("cp", source, target, cwd=here)
        content = subprocess.run(md.argv("cp", f"web:{made}", "-"), capture_output=True, check=True).stdout
        [member] = members(content)
        assert member.name == made.rpartition("/")[2] and member.size in (10, 12), (source, target)
    assert "`web:/a/file` is a file" in md.refused("cp", here / "tree", "web:/a/file", code=1)
    assert "no such file" in md.refused("cp", here / "setuid", "web:/none/x", code=1)
    assert "no such file" in md.refused("cp", here / "setuid", "web:/a/none/", code=1)
    assert "no such file" in md.refused("cp", "web:/a/none", ".", code=1)
    (here / "d/file").mkdir(parents=True)
    md("cp", here / "d", "web:/a/dir2")
    assert "is a directory already" in md.refused("cp", f"{here}/tree/.", "web:/a/dir2", code=1)
    assert (md.root / "volumes/data/_data/x").read_text() == "of the host\n", "a volume is written, whether it runs or not"
    if state == "ended":
        md("start", "web")
        assert inside(md, "cat", "/a/made2/file", "/data/x") == "of the host\n" * 2


def test_owners_and_set_id_bits_are_kept_with_a_alone(md: Minidocker, web: str, here: Path) -> None:
    md("cp", here / "setuid", "web:/plain")
    md("cp", "-a", here / "setuid", "web:/kept")
    assert inside(md, "stat", "-c", "%u:%g %a", "/plain", "/kept") == "0:0 755\n12:34 4755\n"
    md("cp", "web:/kept", here / "plain")
    md("cp", "--archive", "web:/kept", here / "kept")
    assert [(s.st_uid, s.st_gid, s.st_mode & 0o7777) for s in (os.stat(here / "plain"), os.stat(here / "kept"))] == [
        (0, 0, 0o755), (12, 34, 0o4755)]


def test_a_link_at_the_end_is_followed_with_l_alone(md: Minidocker, web: str, here: Path) -> None:
    inside(md, "sh", "-c", "echo text > /file; ln -s /file /link")
    md("cp", "web:/link", here / "link")
    md("cp", "-L", "web:/link", here / "copy")
    assert os.readlink(here / "link") == "/file" and (here / "copy").read_text() == "text\n"


def test_tar_streams(md: Minidocker, web: str, here: Path) -> None:
    stream = subprocess.run(["tar", "cz", "tree", "setuid"], cwd=here, capture_output=True, check=True).stdout
    md("cp", "-a", "-", "web:/tmp", input=stream)
    assert inside(md, "sh", "-c", "cat /tmp/tree/same; stat -c %u:%a /tmp/setuid") == "of the host\n12:4755\n"
    out = subprocess.run(md.argv("cp", "web:/tmp/tree", "-"), capture_output=True, check=True).stdout
    names = {member.name: member for member in members(out)}
    assert set(names) == {"tree", "tree/fifo", "tree/file", "tree/same", "tree/sparse", "tree/sub", "tree/sub/link"}
    assert names["tree/same"].islnk() and names["tree/sub/link"].linkname == "/etc/shadow"
    (here / "merged").mkdir()
    subprocess.run(["tar", "x"], cwd=here / "merged", input=out, check=True)
    assert (here / "merged/tree/same").read_text() == "of the host\n"
    inside(md, "sh", "-c", "mkdir /usr/there && ln -s usr/there /way")
    stream = subprocess.run(["tar", "c", "--transform", "s,^,way/,", "setuid"], cwd=here, capture_output=True, check=True).stdout
    md("cp", "-", "web:/", input=stream)
    assert inside(md, "ls", "/usr/there") == "setuid\n", "a directory of the root file system may be a link in it"
    assert "must be a directory" in md.refused("cp", "-", "web:/none", input="", code=1)
    for junk in (b"no tar at all" * 100, stream[:520]):
        done = md("cp", "-", "web:/tmp", input=junk, check=False)
        assert done.returncode == 125 and b"read the tar stream" in done.stderr


@pytest.mark.parametrize("name", ["../out", "/../../out", "a/../../../out"])
def test_a_tar_stream_that_leads_out_is_refused(md: Minidocker, web: str, victim: Path, name: str) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    done = md("cp", "-", "web:/tmp", input=buffer.getvalue(), check=False)
    assert done.returncode == 125 and b"lies above it" in done.stderr


def test_a_tar_streams_links_lead_nowhere_else(md: Minidocker, web: str, victim: Path) -> None:
    """A link out, and then a file through it; a hard link to a file of the host's."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for kind, name, target in ((tarfile.SYMTYPE, "way", str(victim)), (tarfile.REGTYPE, "way/file", "")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, target, 3 * (kind == tarfile.REGTYPE)
            tar.addfile(member, io.BytesIO(b"bad"))
    md("cp", "-", "web:/tmp", input=buffer.getvalue(), check=False)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo("hard")
        member.type, member.linkname = tarfile.LNKTYPE, str(victim / "file")
        tar.addfile(member)
    assert md("cp", "-", "web:/tmp", input=buffer.getvalue(), check=False).returncode != 0
    assert "hard" not in inside(md, "ls", "/tmp")


def test_devices_stay_inside_and_the_kernels_file_systems_are_not_copied(md: Minidocker, web: str, here: Path) -> None:
    inside(md, "sh", "-c", "mkdir /d && mknod /d/disk b 8 0 && mkfifo /d/fifo && echo x > /d/x")
    done = md("cp", "web:/d", here / "d", check=False)
    assert done.returncode == 0 and "`d/disk` is a device, and left out" in done.stderr and sorted(os.listdir(here / "d")) == ["fifo", "x"]
    md("cp", "web:/", here / "all", check=False)
    assert os.listdir(here / "all/proc") == os.listdir(here / "all/sys") == [] and (here / "all/etc/passwd").exists()
    md("cp", "web:/proc/meminfo", here / "meminfo")
    assert "MemTotal" in (here / "meminfo").read_text(), "though it says that it is empty"
    assert b"MemTotal" in subprocess.run(md.argv("cp", "web:/proc/meminfo", "-"), capture_output=True, check=True).stdout
    assert "a link of /proc's" in md.refused("cp", "web:/proc/1/root/etc/passwd", here / "x")


def test_what_is_read_only_stays_so(md: Minidocker, busybox: Path, here: Path) -> None:
    words = ("--name", "web", "--read-only", "--net", "none", "--rootfs", busybox, "-v", "data:/data", "-v", f"{here}:/ro:ro")
    md.start(*words, "sleep", "1000")
    for state in ("running", "ended"):
        for target in ("/x", "/ro/x"):
            assert "read-only file system" in md.refused("cp", here / "setuid", f"web:{target}"), (state, target)
        md("cp", here / "setuid", f"web:/data/{state}")
        md("stop", "-t", "0", "web")
    assert sorted(os.listdir(md.root / "volumes/data/_data")) == ["ended", "running"]
    assert not (here / "x").exists()


def test_a_container_that_is_only_created(md: Minidocker, busybox: Path, here: Path) -> None:
    md("create", "--name", "web", "--net", "none", "--rootfs", busybox, "-v", "data:/etc", "cat", "/file", "/etc/passwd", "/etc/file")
    md("cp", here / "tree/file", "web:/file")
    md("cp", here / "tree/file", "web:/etc/file")
    md("start", "web")
    md.wait("web")
    said = md.logs("web")
    assert said.startswith("of the host\n") and "root:" in said and said.endswith("of the host\n")


def test_it_says_what_it_wants(md: Minidocker, web: str, here: Path) -> None:
    assert "neither is a container's" in md.refused("cp", "a", "b")
    assert "both are containers'" in md.refused("cp", "web:/a", "web:/b")
    assert "CONTAINER:PATH is needed" in md.refused("cp", "web:", "b")
    assert "no such container: none" in md.refused("cp", "none:/a", "b", code=1)
    (here / "a:b").write_text("colon")
    md("cp", "./a:b", "web:/c", cwd=here)
    assert inside(md, "cat", "/c") == "colon"
    assert "minidocker cp web:/var/log -" in md("cp", "--help").stdout


# --- hostile containers -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def racing(md: Minidocker, busybox: Path, victim: Path) -> Iterator[None]:
    """A container that turns a directory into a link to the victim's path and back, as fast as it can."""
    swap = f"while :; do mv d e; ln -s {victim} d; mv tree/x y; ln -s {victim} tree/x; rm d tree/x; mv e d; mv y tree/x; done"
    script = f"mkdir -p /w/d /w/tree/x; cd /w; echo inside > d/file; echo inside > tree/x/file; echo up; {swap}"
    md.start("--name", "web", "--net", "none", "--rootfs", busybox, "sh", "-c", script)
    poll(lambda: "up" in md.logs("web"), "it races")
    yield
    md("rm", "-f", "web")


def test_a_swapped_link_leads_nowhere_else(md: Minidocker, racing: None, here: Path, victim: Path) -> None:
    """CVE-2018-15664, in both directions, at the path itself and in the middle of a tree."""
    outcomes = set()
    for attempt in range(12):
        target = here / f"out{attempt}"
        md("cp", "web:/w/d/file", target, check=False)
        outcomes.add(target.read_text() if target.exists() else "")
        md("cp", here / "setuid", "web:/w/d/file", check=False)
        md("cp", "web:/w/tree", here / f"tree{attempt}", check=False)
        md("cp", f"{here}/tree/.", "web:/w/tree/x", check=False)
        md("cp", here / "tree", "web:/w/d", check=False)
    assert "precious" not in outcomes
    for path in here.rglob("*"):
        assert path.is_symlink() or not path.is_file() or "precious" not in path.read_bytes().decode("latin-1"), path


def test_links_out_of_the_root_stay_in_it(md: Minidocker, web: str, here: Path, victim: Path) -> None:
    inside(md, "sh", "-c", f"ln -s {victim} /abs; ln -s ../../../../../../../../..{victim} /rel; ln -s /proc/1/root /magic; ln -s / /self")
    for link in ("abs", "rel", "magic"):
        done = md("cp", "-L", f"web:/{link}/file", here / "stolen", check=False)
        assert done.returncode != 0 and not (here / "stolen").exists(), link
        md("cp", here / "setuid", f"web:/{link}/file", check=False)
        md("cp", f"{here}/tree/.", f"web:/{link}", check=False)
    md("stop", "-t", "0", "web")
    for link in ("abs", "rel"):
        assert md("cp", f"web:/{link}/file", here / "stolen", check=False).returncode != 0
        md("cp", here / "setuid", f"web:/{link}/file", check=False)
    assert not (here / "stolen").exists()


def test_what_is_copied_out_is_not_written_through_a_link_of_the_hosts(md: Minidocker, web: str, here: Path, victim: Path) -> None:
    """A directory of the container's of the name of a link here."""
    inside(md, "sh", "-c", "mkdir -p /t/way && echo bad > /t/way/file")
    (here / "t").mkdir()
    (here / "t/way").symlink_to(victim)
    assert "no directory" in md.refused("cp", "web:/t", here, code=1)


@pytest.mark.parametrize("state", ["running", "ended"])
def test_nothing_of_the_container_is_executed_or_loaded(md: Minidocker, busybox: Path, here: Path, state: str) -> None:
    """CVE-2019-14271: no library is loaded, no program run, no namespace or root of it entered."""
    tree = here / "root"
    subprocess.run(["cp", "-a", busybox, tree], check=True)
    for path in ("lib/libnss_files.so.2", "usr/lib/python3/dist-packages/tarfile.py", "usr/lib/x86_64-linux-gnu/libnss_files.so.2"):
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text("hostile")
    md.start("--name", "web", "--net", "none", "--rootfs", tree, "sleep", "1000")
    if state == "ended":
        md("stop", "-t", "0", "web")
    stream = subprocess.run(["tar", "cz", "tree"], cwd=here, capture_output=True, check=True).stdout
    log, calls = here / "strace", "trace=execve,execveat,setns,chroot,pivot_root,mmap"
    for source, target in (("web:/etc", "-"), ("web:/etc", here / "etc"), (here / "tree", "web:/tmp"), ("-", "web:/tmp")):
        traced = ["strace", "-f", "-y", "-o", log, "-e", calls, *md.argv("cp", source, target)]
        subprocess.run(traced, input=stream, stdout=subprocess.DEVNULL, check=True)
        lines = log.read_text().splitlines()
        launcher, *python = [line.split('"')[1] for line in lines if "execve" in line]
        assert launcher == md.argv()[0] and len(python) <= 1 and all(Path(path).name.startswith("python3") for path in python)
        assert not [line for line in lines if any(name in line for name in ("setns(", "chroot(", "pivot_root("))]
        loaded = [line for line in lines if "PROT_EXEC" in line and "</" in line]
        assert loaded and not [line for line in loaded if str(here) in line or "libnss" in line or str(md.root) in line]


def test_a_name_that_is_no_text_and_a_deep_tree(md: Minidocker, web: str, here: Path) -> None:
    name = b"\xff\n\xe4 name"
    os.makedirs(os.fsencode(here) + b"/odd/" + name)
    (here / "odd" / os.fsdecode(name) / "x").write_text("found")
    md("cp", here / "odd", "web:/odd")
    deep = "/".join(["d"] * 300)
    inside(md, "sh", "-c", f"mkdir -p /odd/{deep} && echo down > /odd/{deep}/file")
    md("cp", "web:/odd", here / "back")
    assert (here / "back" / os.fsdecode(name) / "x").read_text() == "found" and (here / "back" / deep / "file").read_text() == "down\n"
    out = subprocess.run(md.argv("cp", "web:/odd", "-"), capture_output=True, check=True).stdout
    (here / "tarred").mkdir()
    subprocess.run(["tar", "x"], cwd=here / "tarred", input=out, check=True)
    assert (here / "tarred/odd" / os.fsdecode(name) / "x").read_text() == "found"


def test_a_killed_copy_leaves_the_container_as_it_was(md: Minidocker, web: str, here: Path) -> None:
    md("stop", "-t", "0", "web")
    mounts = Path("/proc/self/mountinfo").read_text()
    with md.open("cp", "-", "web:/tmp") as copying:
        poll(lambda: list(md.run_directory.glob("containers/*/lock")), "it has the container in its hands")
        assert "another `cp`" in md.refused("cp", "web:/etc/passwd", here, code=1)
        time.sleep(0.05)
        copying.kill()
    assert md("start", "web").stdout == "web\n"
    assert Path("/proc/self/mountinfo").read_text() == mounts
    assert inside(md, "ls", "-A", "/tmp") == ""
