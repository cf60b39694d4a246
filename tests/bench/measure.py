"""Measures starts in a pretend host of its own; called by `start` beside it.

Commands take turns: each round measures every one of them, so that what the machine does meanwhile falls on all alike.
Data roots lie on a real disk, as a user's do. Containers and cgroups (under /minidocker-bench) are removed at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(REPOSITORY))

from tests import pretend  # noqa: E402

MINIDOCKER = os.environ.get("MINIDOCKER_BIN", "minidocker")
CGROUP = "/minidocker-bench"
RUNC = "runc run, no network"
DOCKER = "docker run, bridge"


def output(*command: object) -> str:
    """The stdout of a command that must succeed; what it said is in the failure."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def time_all(commands: dict[str, str], rounds: int, runs: int) -> dict[str, list[float]]:
    """Milliseconds of every run of each command, in `rounds` turns of `runs` runs."""
    times: dict[str, list[float]] = {title: [] for title in commands}
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        for number in range(rounds):
            for title, command in commands.items():
                warm = 2 if number == 0 else 1
                output(*apart(command), "hyperfine", "-N", "-w", warm, "-r", runs, "--style", "none", "--export-json", report.name, command)
                times[title] += [1000 * seconds for seconds in json.loads(Path(report.name).read_text())["results"][0]["times"]]
    return times


def apart(command: str) -> list[str]:
    """crun refuses a hybrid of cgroups where v2 has controllers of its own: it is measured where v2 is not mounted."""
    if command.startswith("crun ") and os.path.ismount("/sys/fs/cgroup/unified"):
        return ["unshare", "-m", "sh", "-c", 'umount /sys/fs/cgroup/unified && exec "$@"', "sh"]
    return []


def bundle(place: Path, rootfs: Path) -> Path:
    """An OCI bundle that runs `true` on `rootfs`: what `runc spec` proposes, its own cgroup parent, no terminal."""
    place.mkdir()
    output("runc", "spec", "--bundle", place)
    file = place / "config.json"
    spec = json.loads(file.read_text())
    spec["process"].update(terminal=False, args=["true"])
    spec["root"] = {"path": str(rootfs), "readonly": True}
    spec["linux"]["cgroupsPath"] = f"{CGROUP}/{place.name}"
    file.write_text(json.dumps(spec))
    return place


def peers(work: Path, rootfs: Path) -> dict[str, str]:
    commands = {"bwrap": f"bwrap --unshare-all --ro-bind {rootfs} / --proc /proc --dev /dev --tmpfs /tmp true"}
    for name in ("crun", "runc"):
        commands[f"{name} run, no network"] = f"{name} --root {work}/state-{name} run --bundle {bundle(work / name, rootfs)} bench"
    if shutil.which("podman"):
        # by runc: Debian's crun refuses what podman asks of it on a hybrid host
        podman = f"podman --runtime runc --root {work}/podman --runroot /run/podman-bench --cgroup-manager cgroupfs"
        rest = f"--ulimit nofile=1024:1024 --ulimit nproc=1000:1000 --cgroup-parent {CGROUP} --rootfs {rootfs} true"
        commands["podman run, no network"] = f"{podman} run --rm --network none {rest}"
        commands["podman run, bridge"] = f"{podman} run --rm --network bridge {rest}"
    return commands


@contextlib.contextmanager
def docker(work: Path, rootfs: Path) -> Iterator[dict[str, str]]:
    """docker's rows, from a daemon of our own in this pretend host; none where none is installed."""
    program = shutil.which("dockerd")
    if program is None:
        yield {}
        return
    socket = f"unix://{work}/docker.sock"
    place = ["--data-root", f"{work}/docker", "--exec-root", "/run/docker-bench", "--pidfile", f"{work}/docker.pid"]
    with (work / "dockerd.log").open("w") as log:
        daemon = subprocess.Popen([program, "-H", socket, *place, "--cgroup-parent", CGROUP], stdout=log, stderr=log)
    client = f"docker -H {socket}"
    try:
        for _ in range(300):
            if subprocess.run([*client.split(), "info"], capture_output=True).returncode == 0:
                break
            if daemon.poll() is not None:
                raise SystemExit("dockerd did not start:\n" + (work / "dockerd.log").read_text()[-2000:])
            time.sleep(0.1)
        output("bash", "-c", f"tar -C {rootfs} -c . | {client} import - bench")
        yield {
            "docker run, no network": f"{client} run --rm --network none bench true",
            DOCKER: f"{client} run --rm bench true",
        }
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(60)


class Ours:
    """minidocker under a data root of its own."""

    def __init__(self, work: Path, rootfs: Path) -> None:
        self.rootfs = rootfs
        self.command = f"{MINIDOCKER} --root {work}/minidocker"

    def __call__(self, *arguments: object) -> str:
        return output(*self.command.split(), *arguments)

    def start(self, name: str) -> None:
        self("run", "-d", "--net", "br0", "--name", name, "--rootfs", self.rootfs, "sleep", "100000")

    def starts(self) -> dict[str, str]:
        run = f"{self.command} run --rm"
        return {
            "minidocker run --net none --rootfs": f"{run} --net none --rootfs {self.rootfs} true",
            "minidocker run --net br0 --rootfs": f"{run} --net br0 --rootfs {self.rootfs} true",
            "minidocker run --net none": f"{run} --net none true",
            "minidocker run --net br0": f"{run} --net br0 true",
        }

    def beside(self, count: int) -> dict[str, str]:
        """What may depend on how many containers there are; the first is called c1."""
        others = f"beside {count} container{'s' if count > 1 else ''}"
        return {
            f"minidocker run --net br0 --rootfs, {others}": self.starts()["minidocker run --net br0 --rootfs"],
            f"minidocker exec, {others}": f"{self.command} exec c1 true",
            f"minidocker ps, {others}": f"{self.command} ps",
        }

    def monitor_pss(self, name: str) -> float:
        """MB of memory that are the monitor's alone, counting its share of what it shares (proc(5), smaps_rollup)."""
        init = self("inspect", "--format", "{{.State.Pid}}", name)
        (monitor,) = (line.split()[1] for line in Path(f"/proc/{init}/status").read_text().splitlines() if line.startswith("PPid:"))
        (pss,) = (line.split()[1] for line in Path(f"/proc/{monitor}/smaps_rollup").read_text().splitlines() if line.startswith("Pss:"))
        return int(pss) / 1024

    def clean(self) -> None:
        ids = self("ps", "-aq").split()
        if ids:
            self("rm", "-f", *ids)


def machine(tools: tuple[str, ...] = ("runc", "crun", "bwrap")) -> str:
    model = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    versions = [f"Linux {os.uname().release}"]
    python = Path(MINIDOCKER).parent / "python3"
    versions.append(output(python if python.exists() else sys.executable, "-V"))
    versions += [output(tool, "--version").splitlines()[0] for tool in tools]
    return f"{os.cpu_count()} x {model or os.uname().machine}; " + ", ".join(versions)


def table(times: dict[str, list[float]], runc: float) -> str:
    lines = ["| command | median, ms | of runc's | p10 - p90 |", "|---|---:|---:|---|"]
    for title, sample in times.items():
        low, *_, high = statistics.quantiles(sample, n=10)
        median = statistics.median(sample)
        ratio = f"{median / runc:.2f}" if " run" in title or title == "bwrap" else ""
        lines.append(f"| {title} | {median:.1f} | {ratio} | {low:.1f} - {high:.1f} |")
    return "\n".join(lines)


def measure(work: Path, options: argparse.Namespace) -> None:
    rootfs = work / "rootfs"
    output(REPOSITORY / "rootfs/busybox", rootfs)
    ours = Ours(work, rootfs)
    notes: list[str] = []
    with contextlib.ExitStack() as stack:
        commands = peers(work, rootfs) | stack.enter_context(docker(work, rootfs))
        notes += [f"{name} is not installed here." for name in ("docker", "podman") if not any(name in title for title in commands)]
        if options.peers:
            times = time_all(commands, options.rounds, options.runs)
        else:
            stack.callback(ours.clean)
            times = time_all(commands | ours.starts(), options.rounds, options.runs)
            ours.start("c1")
            one = time_all(ours.beside(1), options.rounds, options.runs)
            notes.append(f"The monitor of a detached container: {ours.monitor_pss('c1'):.1f} MB PSS while it is the only one.")
            for number in range(2, options.many + 1):
                ours.start(f"c{number}")
            many = time_all(ours.beside(options.many), options.rounds, options.runs)
            first, last = statistics.median(next(iter(one.values()))), statistics.median(next(iter(many.values())))
            notes.append(f"A start beside {options.many} containers costs {last / first:.2f} of one beside a single one;")
            notes[-1] += f" the monitor is then {ours.monitor_pss('c1'):.1f} MB PSS."
            times |= one | many
    if DOCKER in times and not options.peers:
        ratio = statistics.median(times["minidocker run --net br0"]) / statistics.median(times[DOCKER])
        notes.append(f"`minidocker run --net br0` takes {ratio:.2f} of docker's time with its bridge.")
    print(table(times, statistics.median(times[RUNC])))
    print(f"\nMedians of {options.rounds * options.runs} runs, in turns, of `true` on a busybox root file system. {machine()}.")
    print("\n".join(notes))


def remove_cgroups() -> None:
    """Ours, in every hierarchy; they are empty by now."""
    for top in {*Path("/sys/fs/cgroup").glob("*" + CGROUP), *Path("/sys/fs/cgroup").glob(CGROUP[1:])}:
        for directory in sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True):
            directory.rmdir()
        top.rmdir()


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests/bench/start", description="What a start costs, beside other runtimes.")
    parser.add_argument("--rounds", type=int, default=5, help="turns in which every command is measured (default 5)")
    parser.add_argument("--runs", type=int, default=10, help="runs of a command in one turn (default 10)")
    parser.add_argument("--many", type=int, default=200, help="how many containers are many (default 200)")
    parser.add_argument("--peers", action="store_true", help="measure the other runtimes alone")
    options = parser.parse_args()
    pretend.enter()
    work = Path(tempfile.mkdtemp(prefix="minidocker-bench-", dir="/var/tmp"))
    try:
        measure(work, options)
    finally:
        remove_cgroups()
        for place in reversed([line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {work}/" in line]):
            subprocess.run(["umount", "-l", place], check=True)  # podman keeps its store mounted
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
