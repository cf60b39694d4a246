"""minidocker-oci under test: a root of its own, bundles of busybox, and the proof that nothing is left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from tests.e2e.support import REPOSITORY, TIMEOUT, Background, poll

PARENT = f"minidocker-oci-test-{os.getpid()}"
HIERARCHIES = "/sys/fs/cgroup"


def launcher() -> list[str]:
    """The beginning of every command line."""
    if "MINIDOCKER_BIN" in os.environ:
        return [str(Path(os.environ["MINIDOCKER_BIN"]).with_name("minidocker-oci"))]
    paths = [str(REPOSITORY), str(Path(click.__file__).parents[1])]
    code = f"import sys; sys.path[:0] = {paths!r}; from minidocker.__main__ import start; start('minidocker.cli.oci')"
    return [sys.executable, "-I", "-S", "-c", code]


class Oci:
    """`oci("state", "c")` runs any command and returns a CompletedProcess with text; `check=True`, the default, demands exit code 0."""

    def __init__(self, place: Path, rootfs: Path) -> None:
        self.place = place
        self.root = place / "oci-root"
        self.rootfs = rootfs
        self.cgroups = f"/{PARENT}/{place.name}"

    def argv(self, *words: object) -> list[str]:
        return [*launcher(), "--root", str(self.root), *map(str, words)]

    def __call__(self, *words: object, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        """Output goes to files: a container that stays would hold a pipe open."""
        out, error = self.place / "stdout", self.place / "stderr"
        with out.open("wb") as stdout, error.open("wb") as stderr:
            settings: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": stdout, "stderr": stderr, "timeout": TIMEOUT, **options}
            if "input" in settings:
                del settings["stdin"]
            done = subprocess.run(self.argv(*words), **settings)
        result = subprocess.CompletedProcess(done.args, done.returncode, out.read_text(), error.read_text(errors="replace"))
        if check:
            assert done.returncode == 0, f"{words}: exit {done.returncode}\n{result.stdout}{result.stderr}"
        return result

    def open(self, *words: object, **options: Any) -> Background:
        pipes = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
        return Background(self.argv(*words), **{**pipes, **options})

    def refused(self, *words: object, code: int = 1, **options: Any) -> str:
        """Run what must fail with `code` and one line on stderr; returns that line."""
        done = self(*words, check=False, **options)
        assert (done.returncode, done.stdout) == (code, ""), f"{words}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        assert done.stderr.startswith("minidocker-oci: ") and done.stderr.count("\n") == 1, done.stderr
        return done.stderr

    def state(self, id: str) -> dict[str, Any]:
        return json.loads(self("state", id).stdout)  # type: ignore[no-any-return]

    def status(self, id: str) -> str:
        return str(self.state(id)["status"])

    def until(self, id: str, status: str) -> None:
        poll(lambda: self.status(id) == status, f"{id} is {status}")

    def bundle(self, name: str, *args: str, **process: Any) -> Bundle:
        return Bundle(self, name, list(args), process)

    def running(self, name: str, *args: str, **process: Any) -> Bundle:
        """A container of that name that runs; `sleep` unless told otherwise."""
        bundle = self.bundle(name, *(args or ("sleep", "1000")), **process)
        bundle.create()
        self("start", name)
        return bundle

    def left(self) -> list[str]:
        """What is there of containers and cgroups."""
        found = list(self.root.iterdir()) if self.root.exists() else []
        for pattern in (f"*{self.cgroups}/*", f"{self.cgroups[1:]}/*"):
            found += filter(Path.is_dir, Path(HIERARCHIES).glob(pattern))
        return [str(path) for path in found if path.name != "@filters"]

    def close(self) -> None:
        for path in self.root.iterdir() if self.root.exists() else ():
            if path.name != "@filters":
                self("delete", "--force", path.name)
        left = self.left()
        for pattern in (f"*{self.cgroups}", f"*/{PARENT}", self.cgroups[1:], PARENT):
            for path in Path(HIERARCHIES).glob(pattern):
                if not any(child.is_dir() for child in path.iterdir()):
                    path.rmdir()
        assert not left, left


class Bundle:
    """A bundle in a directory of its own. `config` is what is written when it is created or run."""

    def __init__(self, oci: Oci, name: str, args: Sequence[str], process: dict[str, Any]) -> None:
        self.oci = oci
        self.name = name
        self.directory = oci.place / f"bundle-{name}"
        self.directory.mkdir(exist_ok=True)
        self.shared = self.directory / "shared"  # /shared in there
        self.shared.mkdir(exist_ok=True)
        sets = {name: ["CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_MKNOD"] for name in ("bounding", "effective", "permitted")}
        self.config: dict[str, Any] = {
            "ociVersion": "1.2.0",
            "process": {"args": list(args), "cwd": "/", "env": ["PATH=/bin:/sbin:/usr/bin"], "user": {"uid": 0, "gid": 0},
                        "capabilities": sets, "noNewPrivileges": True, **process},
            "root": {"path": str(oci.rootfs), "readonly": False},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666", "mode=620"]},
                {"destination": "/shared", "type": "bind", "source": str(self.shared), "options": ["bind"]},
                {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]},
            ],
            "linux": {
                "namespaces": [{"type": type} for type in ("pid", "mount", "ipc", "uts", "network")],
                "cgroupsPath": f"{oci.cgroups}/{name}",
                "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            },
        }  # fmt: skip

    def write(self) -> Path:
        (self.directory / "config.json").write_text(json.dumps(self.config))
        return self.directory

    def create(self, *options: object, **settings: Any) -> subprocess.CompletedProcess[str]:
        return self.oci("create", "--bundle", self.write(), *options, self.name, **settings)

    def run(self, *options: object, **settings: Any) -> subprocess.CompletedProcess[str]:
        return self.oci("run", "--bundle", self.write(), *options, self.name, **settings)

    def out(self, *options: object, **settings: Any) -> str:
        """What `run` prints, without the last newline."""
        return self.run(*options, **settings).stdout.rstrip("\n")
