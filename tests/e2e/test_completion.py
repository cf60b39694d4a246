"""Completion in the shells themselves, with the names that there are."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.support import Minidocker, Terminal

BASH = """
eval "$(minidocker completion bash)"
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_minidocker_completion minidocker 2>/dev/null  # compopt has something to say to nobody who completes
printf '%s\\n' "${COMPREPLY[@]}"
"""
FISH = "minidocker completion fish | source; complete -C $argv[1]"


@pytest.fixture
def shell(md: Minidocker, busybox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with two files; `minidocker` is on PATH, and has two containers and a network."""
    place = tmp_path / "here"
    (place / "bin").mkdir(parents=True)
    program = place / "bin" / "minidocker"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(md.argv())} "$@"\n')
    program.chmod(0o755)
    (place / "server.py").touch()
    (place / "data").mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    md("network", "create", "--subnet", "10.77.7.0/24", "backbone")
    md("create", "--name", "web1", "--net", "none", "--rootfs", busybox, "true")
    md("create", "--name", "web2", "--net", "none", "--rootfs", busybox, "true")
    monkeypatch.chdir(place)
    yield place


def lines(argv: list[str]) -> list[str]:
    done = subprocess.run(argv, capture_output=True, text=True)
    assert not done.stderr, done.stderr
    return done.stdout.splitlines()


def test_bash(shell: Path) -> None:
    def complete(*words: str) -> list[str]:
        return lines(["bash", "--norc", "-c", BASH, "bash", "minidocker", *words])

    assert complete("rm", "w") == ["web1", "web2"] and complete("start", "web2") == ["web2"] and complete("stop", "w") == [""]
    assert complete("run", "--net", "ba") == complete("run", "--net", "=", "ba") == ["backbone"]
    assert complete("run", "--privil") == ["--privileged"] and complete("network", "inspe") == ["inspect"]
    with Terminal(["bash", "--norc", "--noprofile", "-i"], env={**os.environ, "PS1": "$ ", "TERM": "dumb"}) as terminal:
        terminal.type(b'eval "$(minidocker completion bash)"; echo re""ady\n')
        terminal.until(b"ready")
        terminal.type(b"echo minidocker; minidocker inspect -f '{{.Na")  # where nothing is offered, nothing is broken
        terminal.type(b"me}}' web\t1 backb\t\n")
        terminal.until(b"\r\n/web1\r\nbackbone\r\n")
        terminal.type(b"minidocker run --rm --net none ./ser\t")
        terminal.until(b"./server.py")


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
def test_fish(shell: Path) -> None:
    def complete(line: str) -> list[str]:
        return lines(["fish", "--no-config", "-c", FISH, "minidocker " + line])

    assert complete("rm w") == ["web1\tcreated", "web2\tcreated"]
    assert complete("run --net=ba") == ["--net=backbone\t10.77.7.0/24"]
    assert complete("run --rootfs da") == ["data/\tDirectory"]
    assert complete("run --rm ./ser") == ["./server.py"]


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh(shell: Path) -> None:
    with Terminal(["zsh", "-f", "-i"], env={**os.environ, "PS1": "> ", "TERM": "dumb"}) as terminal:
        terminal.type(b"autoload -U compinit && compinit -u -D; source <(minidocker completion zsh); echo re''ady\n")
        terminal.until(b"ready\r\n")
        terminal.type(b"minidocker inspect -f '{{.Name}}' backb\t\n")
        terminal.until(b"\r\nbackbone\r\n")
        terminal.type(b"minidocker run --rootfs da\t")
        terminal.until(b"data/")
        terminal.type(b"\x15minidocker rm w\t\t")  # ^U: the line anew
        terminal.until(b"web1  -- created")
