"""Where the network is measured: a pretend host with minidocker under a data root of its own, and what is left of it looked after.

Everything a run starts is known by its data root, which is in the command line of each of our processes, in the name of our cgroups
(its hash) and of our nft tables; links and names under /run/netns are in namespaces that go with this process.
"""

from __future__ import annotations

import binascii
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests import pretend
from tests.bench import measure
from tests.bench.measure import output

__all__ = ["Place", "made", "markdown", "output", "stopwatch"]

_PATIENCE = 60.0  # seconds that removing everything may take


class Place(measure.Ours):
    """minidocker in the pretend host: `work` a directory on a real disk, `rootfs` a busybox with the Go server."""

    def __init__(self, work: Path) -> None:
        super().__init__(work, work / "rootfs")
        self.work = work
        self.root = work / "minidocker"
        self.root.mkdir()
        self.tag = f"{binascii.crc32(os.fsencode(os.path.realpath(self.root))):08x}"
        output(measure.REPOSITORY / "rootfs/busybox", self.rootfs)
        shutil.copy(measure.REPOSITORY / "examples/server/server", self.rootfs / "server")

    def true(self, *options: object) -> str:
        """The command line of a run of `true`, gone when it ends."""
        return " ".join(map(str, [self.command, "run", "--rm", *options, "--rootfs", self.rootfs, "true"]))

    def detach(self, name: str, *words: object) -> None:
        """Run in the background: options, then the command."""
        self("run", "-d", "--name", name, *words)

    def remove(self, *names: str) -> None:
        self("rm", "-f", *names)

    def address(self, name: str) -> str:
        return self("ps", "-f", f"name={name}", "--format", "{{.IP}}").splitlines()[0]

    def pid(self, name: str) -> int:
        """The container's first process."""
        return int(self("inspect", "--format", "{{.State.Pid}}", name))

    # What there is of ours.

    def processes(self) -> dict[int, list[str]]:
        """pid -> command line of our monitors and DNS servers, and the containers' first processes (`[container]`)."""
        found, parents = {}, {}
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                words = Path(f"/proc/{entry}/cmdline").read_bytes().decode(errors="replace").split("\0")
                parents[int(entry)] = int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            if any(str(self.root) in word for word in words) and int(entry) != os.getpid():
                found[int(entry)] = words
        return found | {pid: ["[container]"] for pid, parent in parents.items() if parent in found and pid not in found}

    def dns_servers(self) -> list[int]:
        return [pid for pid, words in self.processes().items() if "minidocker.network.dnsserver" in words and "serve" in words
                and "resident" not in words]  # fmt: skip

    def cgroups(self) -> list[Path]:
        """Ours, in every hierarchy, the innermost first."""
        tops = [top for depth in ("", "*/") for top in Path("/sys/fs/cgroup").glob(f"{depth}minidocker-{self.tag}")]
        return [path for top in tops for path in (*sorted((p for p in top.rglob("*") if p.is_dir()), reverse=True), top)]

    def left(self) -> dict[str, int]:
        """How much there is of each kind that a container takes."""
        ruleset = json.loads(output("nft", "-j", "list", "ruleset") or "{}").get("nftables", [])
        elements = [item for entry in ruleset for kind in ("set", "map") for item in entry.get(kind, {}).get("elem", ())]
        containers = Path(f"/run/minidocker/{self.tag}/containers")
        return {
            "links": len(output("ip", "-o", "link").splitlines()),
            "names under /run/netns": len(os.listdir("/run/netns")),
            "cgroups": len(self.cgroups()),
            "mounts": len(Path("/proc/self/mountinfo").read_text().splitlines()),
            "nft elements": len(elements),
            "processes": len(self.processes()),
            "run directories": len(os.listdir(containers)) if containers.exists() else 0,
        }

    def end(self) -> None:
        """Remove every container, as a user does; then what that has left, which is said, as it is a fault."""
        self._tidy("ps", "-aq", then=("rm", "-f"))
        self._tidy("network", "ls", "-q", then=("network", "rm"))
        processes = _until_none(self.processes)
        for pid, words in processes.items():
            print(f"left behind, and killed: process {pid} {' '.join(words)[:200]}", file=sys.stderr)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if processes:
            _until_none(self.processes)
        for directory in self.cgroups():
            print(f"left behind, and removed: {directory}", file=sys.stderr)
            with contextlib.suppress(OSError):
                directory.rmdir()

    def _tidy(self, *listing: str, then: tuple[str, ...]) -> None:
        """Whatever `listing` names is given to the command `then`; in a session of its own, where no Ctrl-C of ours gets."""
        words = self.command.split()
        done = subprocess.run([*words, *listing], capture_output=True, text=True, start_new_session=True)
        if done.returncode == 0 and done.stdout.split():
            words += [*then, *done.stdout.split()]
            try:
                done = subprocess.run(words, capture_output=True, text=True, start_new_session=True, timeout=_PATIENCE)
            except subprocess.TimeoutExpired:
                print(f"minidocker {' '.join(then)} did not end within {_PATIENCE:.0f} s", file=sys.stderr)
        if done.returncode:
            print(f"cleaning up: {done.stderr}", file=sys.stderr)


def _until_none(look, patience: float = 2.0):  # type: ignore[no-untyped-def]
    """What `look` still finds after `patience` seconds."""
    deadline = time.monotonic() + patience
    while (found := look()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


@contextlib.contextmanager
def made() -> Iterator[Place]:
    """The pretend host and all that is in it, gone afterwards however this ends but by SIGKILL."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    pretend.enter()
    work = Path(tempfile.mkdtemp(prefix="minidocker-bench-", dir="/var/tmp"))
    place = None
    try:
        place = Place(work)
        with pretend.outside():
            yield place
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: None)  # one is enough, and two leave nothing behind either; not SIG_IGN, which is inherited
        if place is not None:
            place.end()
        shutil.rmtree(work)


def stopwatch(*command: object) -> float:
    """Seconds that a command takes; it must succeed."""
    words = [str(word) for word in command]
    begin = time.perf_counter()
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    end = time.perf_counter()
    if done.returncode:
        raise SystemExit(f"{' '.join(words[:20])}: exit {done.returncode}\n{done.stderr.decode(errors='replace')}")
    return end - begin


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table; the first column is text, the others are numbers."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])
