"""Our shell scripts: found by their first line, executable, and without fault in shellcheck's eyes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
PLACES = ("minidocker", "examples", "tests", "rootfs", ".ci")


def is_script(path: Path) -> bool:
    """Run or sourced by a shell."""
    if path.suffix == ".py" or path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        first = file.readline(100)
    return first.startswith((b"#!/bin/sh", b"#!/bin/bash", b"# shellcheck shell="))


SCRIPTS = [path for place in PLACES for path in sorted((REPOSITORY / place).rglob("*")) if is_script(path)]


def test_they_are_found() -> None:
    names = {str(path.relative_to(REPOSITORY)) for path in SCRIPTS}
    assert names >= {".ci/run", "tests/run", "examples/quickstart", "examples/lib/setup.sh", "minidocker/cli/bin/minidocker"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_each_is_executable_unless_it_is_sourced(script: Path) -> None:
    assert os.access(script, os.X_OK) == script.read_text().startswith("#!")


@pytest.mark.parametrize("script", [path for path in SCRIPTS if path.read_text().startswith("#!/bin/bash")], ids=lambda path: path.name)
def test_each_stops_at_the_first_failure(script: Path) -> None:
    assert "\nset -euo pipefail\n" in script.read_text()


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed (tests/run installs it)")
def test_shellcheck_finds_nothing() -> None:
    done = subprocess.run(["shellcheck", "-x", *SCRIPTS], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_lines_that_readme_installs_by_are_found_by_who_tries_them() -> None:
    def line(number: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run([REPOSITORY / "tests/distros/readme", str(number)], capture_output=True, text=True)

    first, second, third = (line(number).stdout for number in (1, 2, 3))
    assert first.startswith("apt-get install pipx ") and second.endswith(" pipx install .\n") and third.startswith("minidocker run ")
    assert line(4).returncode == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [(("--distro", "noble"), "no key"), (("--distro", "slackware"), "bookworm or trixie"), (("--distro",), "a name"),
     (("--shell", "true", "false"), "one command")],
    ids=str,
)  # fmt: skip
def test_the_virtual_machine_refuses_what_it_cannot_be(words: tuple[str, ...], says: str) -> None:
    done = subprocess.run([REPOSITORY / "tests/vm/run", *words], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1 and done.stdout == "" and says in done.stderr and done.stderr.count("\n") == 1
