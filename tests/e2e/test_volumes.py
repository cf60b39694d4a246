"""Volumes and --mount: what is kept and for how long, what an empty volume begins with, who may see and remove it."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests import pretend
from tests.e2e.support import Minidocker


def names(md: Minidocker, *words: object) -> list[str]:
    return str(md("volume", "ls", "-q", *words).stdout).split()


def volume(md: Minidocker, name: str) -> dict[str, Any]:
    [document] = json.loads(md("volume", "inspect", name).stdout)
    return document  # type: ignore[no-any-return]


@pytest.fixture
def options(busybox: Path) -> tuple[object, ...]:
    return ("--net", "none", "--rootfs", busybox)


@pytest.fixture
def tree(busybox: Path, tmp_path: Path) -> Path:
    """A root file system with a directory to begin a volume with."""
    place = tmp_path / "tree"
    subprocess.run(["cp", "-a", busybox, place], check=True)
    (place / "seed/sub").mkdir(parents=True)
    (place / "seed/file").write_text("from the root file system\n")
    (place / "seed/sub/link").symlink_to("/etc/shadow")
    (place / "seed").chmod(0o750)
    os.chown(place / "seed", 12, 34)
    return place


def test_a_named_volume_outlives_its_containers(md: Minidocker, options: tuple[object, ...]) -> None:
    md.run("--rm", *options, "-v", "data:/data", "sh", "-c", "echo kept > /data/file")
    assert md.run("--rm", *options, "-v", "data:/other:ro", "cat", "/other/file").stdout == "kept\n"
    done = md.run("--rm", *options, "-v", "data:/data:ro", "touch", "/data/x", check=False)
    assert done.returncode == 1 and "Read-only file system" in done.stderr
    assert md.run("--rm", "--net", "none", "-v", "data:/srv/data", "cat", "/srv/data/file").stdout == "kept\n", "in the host view, too"
    assert names(md) == ["data"]
    place = Path(volume(md, "data")["Mountpoint"])
    assert (place / "file").read_text() == "kept\n" and place == md.root / "volumes/data/_data"
    assert (md.root / "volumes").stat().st_mode & 0o777 == 0o700, "a setuid program in it is nobody else's (CVE-2021-41091)"
    assert md("volume", "rm", "data").stdout == "data\n"
    assert not list((md.root / "volumes").iterdir()) and names(md) == []


def test_an_empty_volume_begins_with_what_the_root_file_system_has_there(md: Minidocker, tree: Path) -> None:
    words = ("--rm", "--net", "none", "--rootfs", tree)
    script = "cat /seed/file; readlink /seed/sub/link; stat -c %u:%g:%a /seed; rm /seed/file; echo mine > /seed/own"
    assert md.run(*words, "-v", "data:/seed", "sh", "-c", script).stdout.split("\n")[:3] == [
        "from the root file system", "/etc/shadow", "12:34:750"]
    assert (tree / "seed/file").exists()
    assert md.run(*words, "-v", "data:/seed", "ls", "/seed").stdout.split() == ["own", "sub"], "what is in use is not filled again"
    md("volume", "create", "made")
    assert md.run(*words, "-v", "made:/seed:ro", "ls", "/seed").stdout.split() == ["file", "sub"]
    assert md.run(*words, "-v", "bare:/seed:nocopy", "ls", "/seed").stdout == ""
    assert md.run(*words, "--mount", "src=bare2,dst=/seed,volume-nocopy", "ls", "/seed").stdout == ""
    assert md.run(*words, "-v", "nowhere:/not/there", "ls", "/not/there").stdout == ""
    assert md.run(*words, "-v", "/seed", "ls", "/seed").stdout.split() == ["file", "sub"]


def test_a_hostile_root_file_system_gives_a_volume_nothing_of_the_hosts(md: Minidocker, tree: Path, victim: Path) -> None:
    (tree / "out").symlink_to(victim)
    os.mkfifo(tree / "seed/fifo")
    (tree / "seed/up").symlink_to("../../../../../../../../etc")
    words = ("--rm", "--net", "none", "--rootfs", tree)
    assert md.run(*words, "-v", "data:/out", "ls", "/out").stdout == ""
    assert md.run(*words, "-v", "two:/seed", "sh", "-c", "[ -p /seed/fifo ] && readlink /seed/up").stdout == f"{'../' * 8}etc\n"


def test_a_volume_that_was_filled_in_part_is_filled_anew(md: Minidocker, tree: Path) -> None:
    md("volume", "create", "data")
    place = md.root / "volumes/data"
    (place / "_data/half").write_text("of it")
    (place / "filling").touch()
    assert md.run("--rm", "--net", "none", "--rootfs", tree, "-v", "data:/seed", "ls", "/seed").stdout.split() == ["file", "sub"]
    assert os.listdir(place) == ["_data"]


def test_an_anonymous_volume_goes_with_rm_and_rm_v(md: Minidocker, options: tuple[object, ...]) -> None:
    md.run("--rm", *options, "-v", "/data", "-v", "named:/n", "touch", "/data/x")
    assert names(md) == ["named"]
    for name in ("one", "two", "three", "four"):
        md.run("--name", name, *options, "-v", "/data", "sh", "-c", "echo $HOSTNAME >> /data/x")
    kept = names(md, "-f", "name=" + volume_of(md, "one"))
    assert kept == [volume_of(md, "one")] and len(kept[0]) == 64 and volume(md, kept[0])["Anonymous"]
    md("start", "one")
    md.wait("one")
    assert len((Path(volume(md, kept[0])["Mountpoint"]) / "x").read_text().split()) == 2, "the next start has the same one"
    md("rm", "one")
    assert kept[0] in names(md), "rm alone leaves it"
    md("rm", "-v", "two")
    assert len(names(md)) == 4
    md("rm", "-v", "three", "four")
    assert names(md) == sorted(["named", kept[0]])
    for name in ("five", "six"):
        md.start("--name", name, *options, "-v", "/data", "sleep", "1000")
    md("rm", "-f", "five", "six", "-v")
    assert names(md) == sorted(["named", kept[0]]) == sorted(os.listdir(md.root / "volumes"))


def volume_of(md: Minidocker, container: str) -> str:
    [mount] = md.inspect(container)["Mounts"]
    return str(mount["Name"])


def test_an_anonymous_volume_that_two_share_goes_with_the_last(md: Minidocker, options: tuple[object, ...]) -> None:
    md.start("--rm", "--name", "one", *options, "-v", "/data", "sleep", "1000")
    shared = volume_of(md, "one")
    md.start("--rm", "--name", "two", *options, "-v", f"{shared}:/d", "sleep", "1000")
    md("stop", "-t", "0", "one")
    assert names(md) == [shared]
    md("stop", "-t", "0", "two")
    assert names(md) == [] and os.listdir(md.root / "volumes") == []


def test_one_in_use_is_not_removed(md: Minidocker, options: tuple[object, ...]) -> None:
    md.run("--name", "ended", *options, "-v", "data:/d", "true")
    for force in ([], ["-f"]):
        assert "volume `data` is in use by ended" in md.refused("volume", "rm", *force, "data", code=1)
    md("rm", "ended")
    md("volume", "rm", "data")
    assert "no such volume: data" in md.refused("volume", "rm", "data", code=1)
    assert md("volume", "rm", "-f", "data").stdout == "data\n"


def test_one_that_a_killed_command_was_removing_goes_with_the_next(md: Minidocker, options: tuple[object, ...]) -> None:
    md("volume", "create", "data")
    with sqlite3.connect(md.root / "state.db") as connection:
        connection.execute("UPDATE volumes SET removing = 1")
    connection.close()
    md("ps")
    assert names(md) == [] and os.listdir(md.root / "volumes") == []


def test_create_ls_inspect_prune(md: Minidocker, options: tuple[object, ...]) -> None:
    assert md("volume", "create", "--label", "a=b", "--label", "c", "one").stdout == "one\n"
    assert md("volume", "create", "one").stdout == "one\n", "it is there already"
    assert "other labels" in md.refused("volume", "create", "--label", "a=x", "one", code=1)
    anonymous = md("volume", "create").stdout.strip()
    md("volume", "create", "two")
    assert volume(md, "one")["Labels"] == {"a": "b", "c": ""} and volume(md, "one")["Driver"] == "local"
    assert md("volume", "inspect", "-f", "{{.Name}} {{.Scope}}", "one").stdout == "one local\n"
    assert names(md) == sorted([anonymous, "one", "two"])
    assert names(md, "-f", "label=a") == names(md, "--filter", "label=a=b", "-f", "name=o") == ["one"]
    assert names(md, "-f", "label=a=c") == []
    md.run("--name", "has", *options, "-v", "two:/d", "true")
    assert names(md, "-f", "dangling=false") == ["two"] and names(md, "-f", "dangling=true") == sorted([anonymous, "one"])
    table = md("volume", "ls").stdout.splitlines()
    assert table[0].split() == ["DRIVER", "VOLUME", "NAME"] and table[-1].split() == ["local", "two"]
    assert md("volume", "ls", "--format", "{{.Name}}:{{.Labels}}", "-f", "name=one").stdout == "one:a=b,c=\n"
    assert [v["Name"] for v in json.loads(md("volume", "ls", "--format", "json").stdout)] == sorted([anonymous, "one", "two"])
    assert "nobody to ask" in md.refused("volume", "prune")
    assert anonymous in md("volume", "prune", "-f").stdout and names(md) == ["one", "two"]
    assert names(md) == ["one", "two"] and md("volume", "prune", "-af", "--filter", "label=z").stdout == "Total reclaimed space: 0B\n"
    (md.root / "volumes/one/_data/file").write_bytes(b"x" * 5000)
    assert "Deleted Volumes:\none\n" in (said := md("volume", "prune", "-af").stdout) and "space: 0B" not in said
    assert names(md) == ["two"]
    for wrong in ("..", "a/b", ".hidden", "-x", ""):
        md.refused("volume", "create", "--", wrong)
    assert "no such volume: ../two" in md.refused("volume", "rm", "../two", code=1)


def test_a_volumes_name_in_run_is_no_path(md: Minidocker, options: tuple[object, ...]) -> None:
    for wrong in ("..x/../..:/d", "a/b:/d", "_x:/d"):
        assert "--volume" in md.refused("run", *options, "-v", wrong, "true")
    assert "two mounts on `/d`" in md.refused("run", *options, "-v", "a:/d", "--mount", "type=tmpfs,dst=/d", "true")
    assert not (md.root / "volumes").exists() and names(md) == []


def test_mount(md: Minidocker, options: tuple[object, ...], tmp_path: Path) -> None:
    host = tmp_path / "host"
    (host / "sub").mkdir(parents=True)
    (host / "sub/file").write_text("of the host\n")
    bind = f"type=bind,src={host},dst=/b"
    words = ("--rm", *options)
    assert md.run(*words, "--mount", bind, "sh", "-c", "cat /b/sub/file; touch /b/new").stdout == "of the host\n"
    assert (host / "new").exists()
    assert md.run(*words, "--mount", f"{bind},readonly", "touch", "/b/x", check=False).returncode == 1
    assert md.run(*words, "--mount", "type=bind,src=./host,dst=/b", "ls", "/b", cwd=tmp_path).stdout.split() == ["new", "sub"]
    error = md.refused("run", *options, "--mount", f"type=bind,src={host}/none,dst=/b", "true")
    assert "does not exist" in error and f"mkdir -p {host}/none" in error and not (host / "none").exists()
    line = md.run(*words, "--mount", "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=0700", "sh", "-c",
                  "grep ' /t ' /proc/mounts; stat -c %a /t").stdout  # fmt: skip
    assert "size=1024k" in line and "nosuid,nodev,noexec" in line and line.endswith("700\n")
    # what lies on another comes after it
    md.run(*words, "--mount", "type=bind,src=sub,dst=/a/b", "--mount", "src=data,dst=/a", "-v", "deep:/a/b/c", "sh", "-c",
           "cat /a/b/file && touch /a/x /a/b/c/y", cwd=host)  # fmt: skip
    assert sorted(os.listdir(md.root / "volumes/data/_data")) == ["b", "x"] and os.listdir(md.root / "volumes/deep/_data") == ["y"]


def test_a_mounts_propagation(md: Minidocker, options: tuple[object, ...], tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    bind = f"type=bind,src={place},dst=/b,bind-propagation="
    pretend.sh(f"mount -t tmpfs tmpfs {place} && mount --make-private {place} && mkdir {place}/sub")
    try:
        for kind in ("shared", "slave"):
            assert f"is not a {kind} one" in md.refused("run", *options, "--mount", bind + kind, "true")
        pretend.sh(f"mount --make-shared {place}")
        before = Path("/proc/self/mountinfo").read_text()
        md.start("--name", "one", *options, "--mount", bind + "rslave", "sleep", "1000")
        pretend.sh(f"mount -t tmpfs tmpfs {place}/sub && touch {place}/sub/seen")
        assert md("exec", "one", "ls", "/b/sub").stdout == "seen\n"
        pretend.sh(f"umount {place}/sub")
        assert md("exec", "one", "ls", "/b/sub").stdout == ""
        md.run("--rm", "--privileged", *options, "--mount", bind + "rshared", "sh", "-c", "mount -t tmpfs x /b/sub && touch /b/sub/inside")
        assert os.listdir(place / "sub") == ["inside"]
        pretend.sh(f"umount {place}/sub")
        assert Path("/proc/self/mountinfo").read_text() == before
        md.run("--rm", "--privileged", *options, "--mount", bind + "rprivate", "sh", "-c", "mount -t tmpfs x /b/sub && touch /b/sub/inside")
        assert os.listdir(place / "sub") == []
    finally:
        pretend.sh(f"umount -l {place}")


def test_a_script_makes_the_volume(md: Minidocker, tree: Path, tmp_path: Path) -> None:
    mounts = ("-v", "data:/seed", "--mount", "type=tmpfs,dst=/t")
    script = md.run("--dry-run", "--net", "none", "--rootfs", tree, *mounts, "ls", "/seed").stdout
    assert names(md) == [] and not (md.root / "volumes").exists()
    path = tmp_path / "script"
    path.write_text(script)
    done = subprocess.run(["bash", path], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.split()) == (0, ["file", "sub"]), done.stderr
    assert sorted(os.listdir(md.root / "volumes/data/_data")) == ["file", "sub"]
    kept = md("volume", "create").stdout.strip()
    words = ("--net", "none", "--rootfs", tree, "-v", "/seed", "-v", f"{kept}:/kept", "ls", "/seed")
    path.write_text(md.run("--dry-run", *words).stdout)
    assert subprocess.run(["bash", path], capture_output=True, text=True, timeout=60, check=True).stdout.split() == ["file", "sub"]
    assert sorted(os.listdir(md.root / "volumes")) == sorted(["data", kept]), "what had no name goes with the container"


def test_explain_tells_of_the_volumes_that_go(md: Minidocker, options: tuple[object, ...]) -> None:
    md.run("--name", "one", *options, "-v", "/data", "-v", "named:/n", "true")
    place = md.root / "volumes" / next(name for name in names(md) if name != "named")
    done = md("rm", "--explain", "-v", "one", check=False)
    assert done.returncode == 0 and f"rm -rf {place}" in done.stderr and "volumes/named" not in done.stderr and not place.exists()
    md.start("--rm", "--name", "two", *options, "-v", "/data", "sleep", "1000")
    place = md.root / "volumes" / volume_of(md, "two")
    done = md("stop", "-t", "0", "--explain", "two", check=False)
    assert done.returncode == 0 and f"rm -rf {place}" in done.stderr and not place.exists()
