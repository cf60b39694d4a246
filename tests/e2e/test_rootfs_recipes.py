"""rootfs/busybox: what it makes, that it makes it whole or not at all, and what it refuses."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

RECIPES = Path(__file__).resolve().parent.parent.parent / "rootfs"


def recipe(name: str, *arguments: object, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [RECIPES / name, *map(str, arguments)], cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60
    )


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("rootfs") / "busybox"
    done = recipe("busybox", place)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return place


def test_it_holds_what_a_container_mounts_on_and_programs_read(tree: Path) -> None:
    for directory in ("proc", "sys", "dev", "run", "etc", "var", "usr/bin"):
        assert (tree / directory).is_dir()
    modes = {name: stat.S_IMODE((tree / name).stat().st_mode) for name in (".", "root", "tmp", "bin/busybox")}
    assert modes == {".": 0o755, "root": 0o700, "tmp": 0o1777, "bin/busybox": 0o755}
    assert (tree / "etc/passwd").read_text().startswith("root:x:0:0:root:/root:/bin/sh\n")
    assert "nogroup:x:65534:" in (tree / "etc/group").read_text()
    assert not (tree / "linuxrc").is_symlink()


def test_its_programs_run_and_need_nothing_else(tree: Path) -> None:
    script = "id -un; echo one two | awk '{ print $2 }'; nc --help >/dev/null 2>&1; echo $?; [ -x /bin/true ] && /bin/true && echo fine"
    done = subprocess.run(["chroot", tree, "/bin/sh", "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.split()) == (0, ["root", "two", "0", "fine"]), done.stderr


def test_every_applet_is_a_link_to_the_one_program(tree: Path) -> None:
    listed = subprocess.run(["/bin/busybox", "--list-full"], capture_output=True, text=True, check=True).stdout.split()
    for applet in set(listed) - {"bin/busybox", "linuxrc"}:
        assert os.readlink(tree / applet) == "/bin/busybox"


def test_an_empty_directory_is_filled_and_a_relative_name_will_do(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert recipe("busybox", "empty/", cwd=tmp_path).returncode == 0
    assert (tmp_path / "empty/bin/sh").is_symlink()
    assert recipe("busybox", "new one", cwd=tmp_path).returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "new one"]


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").touch()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("full", "file", "link", "/", ".", "missing/below"):
        for which in ("busybox", "debian"):
            done = recipe(which, name, cwd=tmp_path)
            assert done.returncode == 1 and done.stderr.startswith(f"{which}: "), (name, done.stderr)
            assert done.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "full", "link", "mine"]


def test_a_recipe_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "chroot").write_text("#!/bin/sh\nexit 3\n")
    (tools / "chroot").chmod(0o755)
    (tmp_path / "place").mkdir()
    done = recipe("busybox", tmp_path / "place/new", PATH=f"{tools}:{os.environ['PATH']}")
    assert done.returncode == 3
    assert list((tmp_path / "place").iterdir()) == []


@pytest.mark.parametrize("arguments", [(), ("",), ("a", "b"), ("--help",)])
def test_a_call_that_makes_no_sense_is_told_the_usage(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = recipe("busybox", *arguments, cwd=tmp_path)
    assert done.returncode == 1 and "usage: rootfs/busybox DIR" in done.stderr
    assert list(tmp_path.iterdir()) == []
