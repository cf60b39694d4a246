"""A bundle and the container that a runtime makes of it: what a test changes is `config`, what it looks at comes from inside."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.conformance.runtimes import Runtime
from tests.e2e.support import poll

PARENT = f"/minidocker-conformance-{os.getpid()}"  # every test's cgroup is below it
PATH = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
CAPABILITIES = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_MKNOD", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW",
                "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT"]  # fmt: skip
_numbers = itertools.count(1)


def config(cgroups_path: str) -> dict[str, Any]:
    """A config.json that every runtime takes: busybox as root, namespaces of its own but for users, cgroups and time."""
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/true"],
            "env": [PATH],
            "cwd": "/",
            "capabilities": {name: list(CAPABILITIES) for name in ("bounding", "effective", "permitted")},
        },
        "root": {"path": "rootfs"},
        "mounts": [
            mount("/proc", "proc"),
            mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
            mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
            mount("/dev/shm", "tmpfs", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
            mount("/dev/mqueue", "mqueue", "nosuid", "noexec", "nodev"),
            mount("/sys", "sysfs", "nosuid", "noexec", "nodev", "ro"),
        ],
        "linux": {
            "namespaces": [{"type": type} for type in ("pid", "network", "ipc", "uts", "mount")],
            "cgroupsPath": cgroups_path,
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        },
    }


def mount(destination: str, type: str, *options: str, source: object = None) -> dict[str, Any]:
    return {"destination": destination, "type": type, "source": str(source or type), "options": list(options)}


def bind(source: object, destination: str, *options: str) -> dict[str, Any]:
    return mount(destination, "bind", *(options or ("bind",)), source=source)


class Box:
    """One bundle in a directory of its own, under one runtime. `config` is written when the container is made."""

    def __init__(self, runtime: Runtime, directory: Path, rootfs: Path) -> None:
        self.runtime = runtime
        self.bundle = directory
        self.id = f"box-{os.getpid()}-{next(_numbers)}"
        self.config = config(f"{PARENT}/{self.id}")
        self.root = directory / "rootfs"
        shutil.copytree(rootfs, self.root, symlinks=True, copy_function=os.link)  # busybox itself is never written
        for file in ("passwd", "group", "hosts"):
            (self.root / "etc" / file).unlink()
            shutil.copy(rootfs / "etc" / file, self.root / "etc" / file)
        self.stdout, self.stderr = directory / "stdout", directory / "stderr"

    @property
    def process(self) -> dict[str, Any]:
        return self.config["process"]  # type: ignore[no-any-return]

    @property
    def linux(self) -> dict[str, Any]:
        return self.config["linux"]  # type: ignore[no-any-return]

    def mount(self, *mounts: dict[str, Any]) -> None:
        self.config["mounts"] += mounts

    def namespace(self, type: str, **more: str) -> None:
        """A new namespace of a type, in place of what the config had of it; with `path` one to join."""
        self.without(type)
        self.linux["namespaces"].append({"type": type, **more})

    def without(self, type: str) -> None:
        self.linux["namespaces"] = [entry for entry in self.linux["namespaces"] if entry["type"] != type]

    def write(self) -> None:
        (self.bundle / "config.json").write_text(json.dumps(self.config))

    # In the foreground

    def run(self, *args: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """`run`: the process in the foreground, and the container gone after it."""
        if args:
            self.process["args"] = list(args)
        self.write()
        return self.runtime("run", "--bundle", self.bundle, self.id, **options)

    def sh(self, script: str, **options: Any) -> str:
        """What a shell script in the container prints, without the last newline; it must succeed."""
        done = self.run("/bin/sh", "-c", script, **options)
        assert done.returncode == 0, f"exit {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout.rstrip("\n")

    def status(self, *names: str) -> list[str]:
        """Those fields of the process's /proc/self/status."""
        found = dict(line.split(":\t", 1) for line in self.sh("exec cat /proc/self/status").splitlines() if ":\t" in line)
        return [found[name].strip() for name in names]

    def mounted(self, destination: str) -> dict[str, Any]:
        """The topmost mount there, as the container sees it: type, source, flags, super options, optional fields."""
        lines = [line for line in self.sh("exec cat /proc/self/mountinfo").splitlines() if line.split()[4] == destination]
        assert lines, f"nothing is mounted on {destination}"
        before, _, after = lines[-1].partition(" - ")
        fields, (type, source, options) = before.split(), after.split(" ", 2)
        return {"type": type, "source": source, "flags": set(fields[5].split(",")), "super": set(options.split(",")),
                "root": fields[3], "optional": fields[6:]}  # fmt: skip

    # Step by step

    def create(self, *args: str, options: tuple[object, ...] = (), **more: Any) -> subprocess.CompletedProcess[str]:
        """`create`, unchecked; what the process prints goes to the files `stdout` and `stderr`."""
        if args:
            self.process["args"] = list(args)
        self.write()
        with self.stdout.open("wb") as out, self.stderr.open("wb") as error:
            return self.runtime("create", "--bundle", self.bundle, *options, self.id, stdout=out, stderr=error, **more)

    def created(self, *args: str, options: tuple[object, ...] = (), **more: Any) -> None:
        """`create`, which must succeed."""
        done = self.create(*args, options=options, **more)
        assert done.returncode == 0, f"create: exit {done.returncode}: {self.stderr.read_text()}"

    def started(self, *args: str, **more: Any) -> None:
        """`create` and `start`; with no words a process that stays."""
        self.created(*(args or ("/bin/sleep", "1000")), **more)
        self.command("start")

    def command(self, name: str, *words: object, options: tuple[object, ...] = (), **more: Any) -> str:
        """`NAME OPTIONS ID WORDS`, which must succeed; its stdout."""
        done = self.runtime(name, *options, self.id, *words, **more)
        assert done.returncode == 0, f"{name}: exit {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def fails(self, name: str, *words: object, options: tuple[object, ...] = ()) -> str:
        """The same, which must fail and say why."""
        done = self.runtime(name, *options, self.id, *words)
        assert done.returncode != 0 and done.stderr and "Traceback" not in done.stderr, f"{name}: {done}"
        return done.stderr

    def exec(self, script: str, *options: object) -> str:
        """What a shell script prints that is run in the container by `exec`."""
        return self.command("exec", "/bin/sh", "-c", script, options=options).rstrip("\n")

    def state(self) -> dict[str, Any]:
        return json.loads(self.command("state"))  # type: ignore[no-any-return]

    def until(self, status: str) -> dict[str, Any]:
        """Wait until the container is in that state."""
        return poll(lambda: (state := self.state())["status"] == status and state, f"{self.id} is {status}")  # type: ignore[no-any-return]

    def wait(self) -> str:
        """Wait until the process has ended; what it has printed."""
        self.until("stopped")
        return self.stdout.read_text().rstrip("\n")

    def refused(self) -> str:
        """`create` must fail, say why, and leave nothing behind; returns what it said."""
        before = Path("/proc/self/mountinfo").read_text()
        done = self.create(*self.process.get("args", []))
        said = self.stderr.read_text()
        assert done.returncode != 0, "it was created"
        assert said.strip() and "Traceback" not in said, said
        assert self.runtime("state", self.id).returncode != 0, "there is a container"
        assert Path("/proc/self/mountinfo").read_text() == before
        left = self.cgroups()
        for directory in left:
            remove(directory)
        assert not left, f"left behind: {left}"
        return said

    def not_run(self) -> None:
        """`run` must fail before the process runs: where runtimes find the fault at create, or at start."""
        self.process["args"] = ["/bin/sh", "-c", "echo ran"]
        done = self.run()
        assert done.returncode != 0 and "ran" not in done.stdout and "Traceback" not in done.stderr, done

    # Cgroups

    def cgroups(self) -> list[Path]:
        """Its cgroup directories in all hierarchies."""
        return [path for top in hierarchies() if (path := Path(f"{top}{PARENT}/{self.id}")).is_dir()]

    def cgroup(self, v1: str, v2: str) -> str:
        """The first line of a cgroup file: `v1` is CONTROLLER/FILE, `v2` what holds the same on the unified hierarchy."""
        controller, _, file = v1.partition("/")
        if controller and Path("/sys/fs/cgroup", controller).is_dir():
            return Path(f"/sys/fs/cgroup/{controller}{PARENT}/{self.id}/{file}").read_text().partition("\n")[0]
        return Path(f"/sys/fs/cgroup{PARENT}/{self.id}/{v2}").read_text().partition("\n")[0]

    def close(self) -> None:
        """Remove the container whatever became of it; then nothing of it may be there."""
        if not self.runtime.root.is_dir() or (self.runtime.root / self.id).exists():  # where every runtime known keeps its state
            self.runtime("delete", "--force", self.id)
        left: list[Path] = []
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and (left := self.cgroups()):
            time.sleep(0.02)
        for directory in left:
            remove(directory)
        mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(self.bundle) in line]
        shutil.rmtree(self.root, ignore_errors=True)
        assert not left and not mounts, f"left behind: {left} {mounts}"


def hierarchies() -> list[Path]:
    """Where each cgroup hierarchy is mounted."""
    return [path for path in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()) if (path / "cgroup.procs").exists()]


def remove(directory: Path) -> None:
    """A cgroup with all below it, and what runs there ended."""
    for below, _, _ in os.walk(directory, topdown=False):
        for pid in Path(below, "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), 9)
        poll(lambda place=below: not Path(place, "cgroup.procs").read_text(), f"{below} is empty")
        os.rmdir(below)
