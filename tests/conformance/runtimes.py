"""The runtimes under test: ours always, others when they are installed, or those that CONFORMANCE_RUNTIME names."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

REPOSITORY = Path(__file__).resolve().parents[2]
OURS = "minidocker-oci"
PEERS = ("runc", "crun")
UNIFIED = "/sys/fs/cgroup/unified"


@dataclass
class Runtime:
    """`runtime("state", "id")` runs any command of it, with a root of its own. `argv` begins each command line."""

    name: str
    argv: list[str]
    root: Path = field(default=Path("/run/conformance"))

    def line(self, *words: object) -> list[str]:
        return [*self.argv, "--root", str(self.root), *map(str, words)]

    def __call__(self, *words: object, timeout: float = 60, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run it to its end and return what it printed: into files, as a container that stays would hold pipes open. Its stdin is an empty
        file: crun gives what it is to the container's user, and that would be the machine's /dev/null."""
        with tempfile.TemporaryFile() as nothing, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error:
            settings: dict[str, Any] = {"stdin": nothing, "stdout": out, "stderr": error, **options}
            done = subprocess.run(self.line(*words), timeout=timeout, **settings)
            out.seek(0)
            error.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, out.read().decode(), error.read().decode(errors="replace"))


def ours(directory: Path) -> str:
    """The path of our runtime's launcher; one that starts this checkout is written into `directory` where nothing is installed."""
    if "MINIDOCKER_BIN" in os.environ:
        return str(Path(os.environ["MINIDOCKER_BIN"]).with_name(OURS))
    paths = [str(REPOSITORY), str(Path(click.__file__).parents[1])]
    code = f"import sys; sys.path[:0] = {paths!r}; from minidocker.__main__ import start; start('minidocker.cli.oci')"
    launcher = directory / OURS
    launcher.write_text(f"#!/bin/sh\nexec {shlex.join([sys.executable, '-I', '-S', '-c', code])} \"$@\"\n")
    launcher.chmod(0o755)
    return str(launcher)


def chosen() -> list[str]:
    """Names, or paths, of the runtimes to test: CONFORMANCE_RUNTIME's words, else ours and those peers that are there."""
    return os.environ.get("CONFORMANCE_RUNTIME", "").split() or [OURS, *filter(shutil.which, PEERS)]


@contextmanager
def no_unified() -> Iterator[None]:
    """The v2 half of a hybrid host taken away, in this private mount namespace: crun 1.8 cannot work beside it, nor podman. There is
    something else to write into in its place, as crun makes its directories there all the same."""
    if not os.path.ismount(UNIFIED):
        yield
        return
    subprocess.run(["umount", "-l", UNIFIED], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", UNIFIED], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", UNIFIED], check=True)
        subprocess.run(["mount", "-t", "cgroup2", "cgroup2", UNIFIED], check=True)
