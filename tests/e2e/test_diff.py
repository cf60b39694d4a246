"""diff: what a container has added, changed and deleted, and nothing that was made for it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.support import Minidocker


@pytest.fixture
def tree(busybox: Path, tmp_path: Path) -> Path:
    """A root file system with something to change."""
    place = tmp_path / "tree"
    subprocess.run(["cp", "-a", busybox, place], check=True)
    for path in ("d/kept", "d/gone", "d/sub/deep", "opaque/old", "opaque/both", "mode/x", "kind/x", "only/changed"):
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_text("of the root file system\n")
    (place / "link").symlink_to("d")
    return place


def diff(md: Minidocker, name: str = "one") -> list[str]:
    return str(md("diff", name).stdout).splitlines()


SCRIPT = """
echo more >> d/sub/deep; rm d/gone; echo new > d/new; mkdir -p made/below; ln -sfn kept link
rm -r opaque; mkdir opaque; echo again > opaque/both; echo new > opaque/fresh
chmod 700 mode; rm -r kind; echo file > kind; echo y >> only/changed; mkfifo pipe; mkdir gone && rmdir gone
"""
CHANGES = [
    "C /d", "D /d/gone", "A /d/new", "C /d/sub/deep", "C /kind", "C /link", "A /made", "A /made/below", "C /mode", "C /only/changed",
    "C /opaque", "C /opaque/both", "A /opaque/fresh", "D /opaque/old", "A /pipe",
]  # fmt: skip


def test_added_changed_deleted(md: Minidocker, tree: Path) -> None:
    md.run("--name", "one", "--net", "none", "--rootfs", tree, "-w", "/", "sh", "-c", SCRIPT)
    assert diff(md) == CHANGES
    assert json.loads(md("diff", "--format", "json", "one").stdout) == [{"Kind": line[0], "Path": line[2:]} for line in CHANGES]
    md("start", "one")
    md.wait("one")
    assert [line for line in diff(md) if "gone" in line] == ["D /d/gone"]


def test_of_a_running_one_and_of_one_that_is_only_created(md: Minidocker, tree: Path) -> None:
    md.start("--name", "one", "--net", "none", "--rootfs", tree, "sleep", "1000")
    assert diff(md) == []
    md("exec", "one", "sh", "-c", SCRIPT)
    assert diff(md) == CHANGES
    md("create", "--name", "two", "--net", "none", "--rootfs", tree, "true")
    assert diff(md, "two") == []
    assert "no such container" in md.refused("diff", "none", code=1)


def test_what_was_made_for_it_is_none_of_its_changes(md: Minidocker, tree: Path, tmp_path: Path) -> None:
    mounts = ("-v", f"{tmp_path}:/bound/deep", "-v", "data:/d/data", "--tmpfs", "/scratch", "--mount", "type=tmpfs,dst=/only/t",
              "-v", "/d/sub")  # fmt: skip
    md.run("--name", "one", "--net", "none", "--rootfs", tree, *mounts, "touch", "/bound/deep/x", "/d/data/x", "/scratch/x", "/d/sub/new")
    assert diff(md) == []
    md.run("--name", "two", "--net", "none", "--rootfs", tree, *mounts, "touch", "/bound/x", "/d/x")
    assert diff(md, "two") == ["A /bound", "A /bound/x", "C /d", "A /d/x"]


def test_the_host_view_has_a_layer_too(md: Minidocker, tmp_path: Path) -> None:
    """Over the tree under the host's programs, which are read-only."""
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho x > /etc/mine; rm /etc/host.conf; touch /tmp/y\n")
    program.chmod(0o755)
    md.run("--name", "one", "--net", "none", program, cwd=tmp_path)
    assert diff(md) == ["C /etc", "D /etc/host.conf", "A /etc/mine", "C /tmp", "A /tmp/y"]


def test_hostile_names_and_links(md: Minidocker, tree: Path, victim: Path) -> None:
    name = "$(printf 'a\\nD etc\\033[2J')"
    script = f'mkdir w && cd w && touch "{name}" && ln -s {victim} out && cd .. && rm -r d && ln -s {victim} d'
    md.run("--name", "one", "--net", "none", "--rootfs", tree, "sh", "-c", script)
    assert diff(md) == ["C /d", "A /w", "A /w/a\\nD etc\\x1b[2J", "A /w/out"]
    place = next((md.root / "containers").glob("*/upper"))
    os.symlink(victim, place / "planted")
    assert "A /planted" in diff(md)
