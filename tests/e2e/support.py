"""The command line under test, with a data root of its own, and the proof that it left nothing behind.

Tests call the launcher that MINIDOCKER_BIN names; without it, this checkout by this interpreter, started as the launcher starts it.
"""

from __future__ import annotations

import binascii
import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from tests import pretend

REPOSITORY = Path(__file__).resolve().parents[2]
# Time is not what is tested, and in a virtual machine all takes ten times as long: until somebody gives up.
PATIENCE = 120.0 if pretend.is_thrown_away() else 20.0
TIMEOUT = 3 * PATIENCE


def launcher() -> list[str]:
    """The beginning of every command line."""
    if "MINIDOCKER_BIN" in os.environ:
        return [os.environ["MINIDOCKER_BIN"]]
    dependencies = str(Path(click.__file__).parents[1])
    code = f"import sys; sys.path[:0] = {[str(REPOSITORY), dependencies]!r}; from minidocker.__main__ import start; start()"
    return [sys.executable, "-I", "-S", "-c", code]


def poll(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """Wait until `condition` returns something true, and return that; on a deadline that is far off, fail with `what`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.01)
    return found


class Background(subprocess.Popen[bytes]):
    """A process that a test which fails does not wait for. `line()` is its next line, with a deadline."""

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, *rest)

    def line(self, seconds: float = PATIENCE) -> str:
        """The next line on stdout, without its end."""
        assert self.stdout is not None
        found = b""
        deadline = time.monotonic() + seconds
        while not found.endswith(b"\n"):
            ready, _, _ = select.select([self.stdout], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"no line within {seconds:g} s but {found!r}"
            byte = os.read(self.stdout.fileno(), 1)
            if not byte:
                break
            found += byte
        return found.decode().rstrip("\r\n")


class Minidocker:
    """`md("ps", "-a")` runs any command, `md.run("--rm", "true")` is `md("run", "--rm", "true")`; both return a CompletedProcess with
    text (bytes when `input` is bytes or `text=False`). `check=True`, the default, demands exit code 0 and no word on stderr."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tag = f"{binascii.crc32(os.fsencode(os.path.realpath(root))):08x}"  # engine/host.py
        self.run_directory = Path("/run/minidocker") / self.tag
        self._before = self._shared()

    def argv(self, *words: object) -> list[str]:
        return [*launcher(), "--root", str(self.root), *map(str, words)]

    def __call__(
        self,
        *words: object,
        check: bool = True,
        input: str | bytes | None = None,
        text: bool = True,
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> subprocess.CompletedProcess[Any]:
        """`env` is added to the environment; other options are subprocess.run's."""
        settings: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": TIMEOUT, **options}
        settings.setdefault(*(("stdin", subprocess.DEVNULL) if input is None else ("input", input)))
        done: subprocess.CompletedProcess[Any] = subprocess.run(
            self.argv(*words), text=text and not isinstance(input, bytes), env={**os.environ, **(env or {})}, **settings
        )
        if check:
            assert done.returncode == 0 and not done.stderr, f"{words}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def run(self, *words: object, **options: Any) -> subprocess.CompletedProcess[Any]:
        """`minidocker run WORDS`."""
        return self("run", *words, **options)

    def start(self, *words: object, **options: Any) -> str:
        """`minidocker run -d WORDS`; the id. With a notice (a subnet passed over) allowed on stderr, use run."""
        return str(self.run("-d", *words, **options).stdout).strip()

    def open(self, *words: object, **options: Any) -> Background:
        """The command in the background, with pipes unless told otherwise."""
        pipes = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
        return Background(self.argv(*words), **{**pipes, **options})

    def refused(self, *words: object, code: int = 125, **options: Any) -> str:
        """Run what must fail with `code` and exactly one line, or one and a hint, on stderr; returns that text."""
        done = self(*words, check=False, **options)
        error = str(done.stderr)
        assert (done.returncode, done.stdout) == (code, ""), f"{words}: exit {done.returncode}\n{done.stdout}{error}"
        assert error.startswith("minidocker: ") and error.count("\n") <= 2 and "Traceback" not in error, error
        return error

    def ps(self, *words: object) -> list[dict[str, Any]]:
        """`ps -a --format json` as data."""
        return json.loads(self("ps", "-a", *words, "--format", "json").stdout or "[]")  # type: ignore[no-any-return]

    def inspect(self, name: str) -> dict[str, Any]:
        """The one document of `inspect NAME`."""
        [document] = json.loads(self("inspect", name).stdout)
        return document  # type: ignore[no-any-return]

    def logs(self, name: str) -> str:
        """Both streams of its log, stdout's first."""
        done = self("logs", name, check=False)
        assert done.returncode == 0, done.stderr
        return str(done.stdout) + str(done.stderr)

    def wait(self, name: str) -> dict[str, Any]:
        """Wait until the container has exited; its inspect document."""
        return poll(lambda: (d := self.inspect(name))["State"]["Status"] == "exited" and d, f"{name} exits")  # type: ignore[no-any-return]

    def cgroups(self, id: str = "") -> list[Path]:
        """This root's cgroup directories (of one container) in every hierarchy."""
        found = pretend.sh(f"find /sys/fs/cgroup -type d -path '*minidocker-{self.tag}*{id}*' 2>/dev/null", check=False)
        return [Path(line) for line in found.splitlines()]

    def cgroup(self, id: str, controller: str) -> Path:
        """The container's cgroup directory in the hierarchy of a v1 controller, or that of v2: a scope in a slice where systemd makes it,
        beside its monitor's."""
        v1 = Path("/sys/fs/cgroup", controller)
        if v1.is_dir():
            return v1 / f"minidocker-{self.tag}" / id
        every = [path for path in self.cgroups(id) if not path.name.endswith("-monitor.scope")]
        [found] = [path for path in every if not any(path in other.parents for other in every)]
        return found

    def close(self) -> None:
        """Remove all containers and networks; then nothing may be left of this data root but its files."""
        if (self.root / "state.db").exists():
            poll(self._remove_containers, "all containers are removed")
            networks = [network["Name"] for network in json.loads(self("network", "ls", "--format", "json").stdout or "[]")]
            if networks:
                self("network", "rm", *networks)
        self.assert_nothing_left()

    def _remove_containers(self) -> bool:
        """Whether none was left. One with --rm may go by itself between the two commands, so that rm does not find it."""
        containers = self("ps", "-aq", check=False).stdout.split()
        if containers:
            self("rm", "-f", *containers, check=False)
        return not containers

    def assert_nothing_left(self) -> None:
        """The kernel takes a moment for a veth whose namespace has died, and a killed process one to go."""
        deadline = time.monotonic() + PATIENCE / 2
        while (left := self.left()) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not left, f"left behind: {left}"

    def left(self) -> dict[str, Any]:
        """What there is of this root's in the kernel, in /run and among its containers' files; empty when nothing is."""
        found: dict[str, Any] = {
            "processes": self._processes(),
            "cgroups": [str(path) for path in self.cgroups()],
            "run": [str(path) for path in self.run_directory.glob("*/*")],
            "data": [str(path) for path in (self.root / "containers").glob("*")],
        }
        now = self._shared()
        for kind, before in self._before.items():
            found[kind] = sorted(now[kind] ^ before)
        return {kind: value for kind, value in found.items() if value}

    def _processes(self) -> list[str]:
        """Those that were started with this root, and those in its cgroups."""
        found = []
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                words = (directory / "cmdline").read_bytes().split(b"\0")
                cgroup = (directory / "cgroup").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            ours = os.fsencode(self.root)
            if f"minidocker-{self.tag}" in cgroup or any(word == ours or word.startswith(ours + b"/containers/") for word in words):
                found.append(f"{directory.name}: {b' '.join(words).decode(errors='replace')}")
        return found

    def _shared(self) -> dict[str, set[str]]:
        """What the pretend host has, whoever made it."""
        return {
            "links": {str(link["ifname"]) for link in pretend.ip("link")},
            "routes": set(pretend.sh("ip route show table all").splitlines()),
            "namespaces": set(os.listdir("/run/netns")) if os.path.isdir("/run/netns") else set(),
            "nftables": set(pretend.sh("nft list tables").splitlines()),
            "mounts": {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()
                       if str(self.root) in line or "minidocker" in line.split()[4]},
        }  # fmt: skip


class Terminal:
    """A command on a terminal of its own, as a user sits before one: what it shows is in `shown`, CRLF as it came."""

    def __init__(self, argv: list[str], rows: int = 24, columns: int = 80, **options: Any) -> None:
        # readline, which pytest loads, sets COLUMNS and LINES for children behind os.environ's back
        options.setdefault("env", {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")})
        self.master, slave = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(slave)
        self.process = subprocess.Popen(
            argv, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0), **options,
        )  # fmt: skip
        self.slave = slave
        self.shown = b""

    def resize(self, rows: int, columns: int) -> None:
        """As a terminal emulator whose window is drawn larger: the kernel then sends SIGWINCH."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def until(self, text: bytes, seconds: float = PATIENCE) -> bytes:
        """Read until `text` is shown; returns all up to and with it, and forgets that."""
        deadline = time.monotonic() + seconds
        while text not in self.shown:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.master], [], [], left)[0], f"{text!r} was not shown, but {self.shown!r}"
            self.shown += os.read(self.master, 65536)
        before, _, self.shown = self.shown.partition(text)
        return before + text

    def wait(self, seconds: float = PATIENCE) -> int:
        """Its exit code; meanwhile what it shows is read, as it would block otherwise."""
        deadline = time.monotonic() + seconds
        while (code := self.process.poll()) is None:
            assert time.monotonic() < deadline, f"it does not end; shown: {self.shown!r}"
            if select.select([self.master], [], [], 0.05)[0]:
                self.shown += os.read(self.master, 65536)
        while select.select([self.master], [], [], 0)[0]:
            self.shown += os.read(self.master, 65536)
        return code

    def is_restored(self) -> bool:
        """Whether the terminal's settings are what they were before the command."""
        return termios.tcgetattr(self.slave) == self.before

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.slave)
        os.close(self.master)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
