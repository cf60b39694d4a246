"""examples/labs: each runs, prints what its pages say, and leaves nothing; also when it is interrupted, or has something in its way."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from tests import pretend
from tests.e2e.machine import visible
from tests.e2e.support import launcher

LABS = Path(__file__).resolve().parent.parent.parent / "examples/labs"
NAMES = sorted(path.stem for path in LABS.glob("[0-9]-*.md") if "." not in path.stem)

# What is another in each run, and what stands for it.
VARYING = (
    (r"net:\[\d+\]", "net:[INODE]"),
    (r"\bmd[0-9a-f]{8}\d+\b", "LINK"),
    (r"minidocker[:_][0-9a-f]{8}", "minidocker-TAG"),
    (r"\b[0-9a-f]{64}\b", "ID"),
    (r"\b(?!02:42|06:42)([0-9a-f]{2}:){5}[0-9a-f]{2}\b", "MAC"),  # a bridge's own; a container's follows its address
    (r"@if\d+", "@ifN"),
    (r":[3-6]\d{4}\b", ":PORT"),  # ip_local_port_range's
    (r"\((reachable|stale|delay|probe)\)", "(known)"),
    (r"counter packets \d+ bytes \d+", "counter"),
    (r"after \d+ (ms|milliseconds)", r"after N \1"),
    (r" +(?=\n)", ""),
)


@pytest.fixture(autouse=True)
def what_is_tested(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The minidocker under test, by a path."""
    command = tmp_path / "minidocker"
    command.write_text(f'#!/bin/sh\nexec {shlex.join(launcher())} "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("MINIDOCKER_BIN", str(command))
    monkeypatch.setenv("NO_COLOR", "1")


def constant(text: str) -> str:
    for pattern, word in VARYING:
        text = re.sub(pattern, word, text)
    return text.strip()


def page(path: Path) -> str:
    """The output that a page shows: its last block."""
    return path.read_text().rstrip().removesuffix("```").rpartition("```\n")[2]


def left() -> dict[str, object]:
    return {
        **visible(),
        "nftables": pretend.sh("nft list ruleset"),
        "directories": sorted(str(path) for path in Path("/var/tmp").glob("minidocker-lab*")),
    }


def run(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([LABS / name, *words], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("name", NAMES)
def test_it_does_what_its_pages_say_and_leaves_nothing(name: str) -> None:
    before = left()
    done = run(name, "--safe")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert left() == before
    for language in (".md", ".zh.md"):
        assert constant(done.stdout) == constant(page(LABS / f"{name}{language}")), language


def test_there_are_eight_and_the_index_has_them() -> None:
    assert len(NAMES) == 8 and [name[0] for name in NAMES] == list("12345678")
    for language in (".md", ".zh.md"):
        index = (LABS / f"README{language}").read_text()
        assert all(f"({name}{language})" in index for name in NAMES)


def test_on_the_host_itself_it_takes_down_what_it_made() -> None:
    """And is safe by itself where something is in its way."""
    before = left()
    done = run("3-bridge")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    after = left()
    # Our table may stay, empty of networks; forwarding was never ours to begin with.
    assert {**after, "nftables": ""} == {**before, "nftables": ""}
    pretend.sh("ip link add br9 type bridge")
    try:
        done = run("3-bridge")
        assert done.returncode == 0 and "an interface br9" in done.stderr and "pretend" in done.stderr, done.stderr
        assert constant(done.stdout) == constant(page(LABS / "3-bridge.md"))
    finally:
        pretend.sh("ip link del br9")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_still_cleans_up(number: signal.Signals) -> None:
    before = left()
    with subprocess.Popen([LABS / "3-bridge", "--safe"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          start_new_session=True) as child:  # fmt: skip
        assert child.stdout is not None
        for line in child.stdout:
            if "--name b" in line:
                os.killpg(child.pid, number)  # as a terminal does
                break
        child.stdout.read()
        assert child.wait(60) != 0
    assert left() == before


def test_any_other_argument_is_refused() -> None:
    done = run("1-namespace", "--unsafe")
    assert done.returncode == 1 and "unknown argument --unsafe" in done.stderr and done.stdout == ""
