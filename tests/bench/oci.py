"""Measures OCI runtimes in a pretend host of its own; called by `oci` beside it.

Each runtime gets the same bundle: what `runc spec` proposes, `true` on a busybox root file system. They take turns, so that what the
machine does meanwhile falls on all alike; beside the time that passed stands the time that processors worked, which a busy machine
changes less.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
from pathlib import Path

from tests import pretend
from tests.bench.measure import MINIDOCKER, REPOSITORY, apart, bundle, machine, output, remove_cgroups

OURS = "minidocker-oci"


class Runtime:
    """One runtime with a root and a bundle of its own; `begin` of each of its command lines."""

    def __init__(self, name: str, work: Path, rootfs: Path) -> None:
        self.name = name
        program = str(Path(MINIDOCKER).with_name(OURS)) if name == OURS else name
        self.begin = f"{program} --root {work}/root-{name}"
        self.bundle = bundle(work / f"{name}-bundle", rootfs)

    def commands(self) -> dict[str, str]:
        whole = f"{self.begin} create --bundle {self.bundle} b && {self.begin} start b && {self.begin} delete --force b"
        return {
            "run": f"{self.begin} run --bundle {self.bundle} b",
            "create, start, delete": f"sh -c '{whole}'",
            "exec": f"{self.begin} exec kept true",
        }

    def keep(self) -> None:
        """A container for `exec`."""
        file = self.bundle / "config.json"
        usual = file.read_text()
        spec = json.loads(usual)
        spec["process"]["args"] = ["sleep", "100000"]
        spec["linux"]["cgroupsPath"] += "-kept"
        file.write_text(json.dumps(spec))
        output(*apart(self.name + " "), "sh", "-c", f"{self.begin} run --detach --bundle {self.bundle} kept < /dev/null > /dev/null 2>&1")
        file.write_text(usual)

    def clean(self) -> None:
        output(*apart(self.name + " "), *self.begin.split(), "delete", "--force", "kept")


def measure(runtimes: list[Runtime], what: str, rounds: int, runs: int) -> dict[str, tuple[list[float], list[float]]]:
    """For each runtime the milliseconds of every run, and of each turn those that processors worked for one."""
    times: dict[str, tuple[list[float], list[float]]] = {runtime.name: ([], []) for runtime in runtimes}
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        for _ in range(rounds):
            for runtime in runtimes:
                command = runtime.commands()[what]
                bench = ["hyperfine", "-N", "-w", "2", "-r", str(runs), "--style", "none", "--export-json", report.name, command]
                output(*apart(runtime.name + " "), *bench)
                (result,) = json.loads(Path(report.name).read_text())["results"]
                passed, worked = times[runtime.name]
                passed += [1000 * seconds for seconds in result["times"]]
                worked.append(1000 * (result["user"] + result["system"]))
    return times


def table(all_times: dict[str, dict[str, tuple[list[float], list[float]]]]) -> str:
    lines = ["| | runtime | median, ms | of runc's | processor time, ms | of runc's |", "|---|---|---:|---:|---:|---:|"]
    for what, times in all_times.items():
        runc = [statistics.median(sample) for sample in times["runc"]]
        for name, samples in times.items():
            passed, worked = (statistics.median(sample) for sample in samples)
            lines.append(f"| {what} | {name} | {passed:.1f} | {passed / runc[0]:.2f} | {worked:.1f} | {worked / runc[1]:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests/bench/oci", description="What an OCI runtime costs, ours beside others.")
    parser.add_argument("--rounds", type=int, default=7, help="turns in which each is measured (default 7)")
    parser.add_argument("--runs", type=int, default=10, help="runs in one turn (default 10)")
    parser.add_argument("--quick", action="store_true", help="two turns of three")
    options = parser.parse_args()
    rounds, runs = (2, 3) if options.quick else (options.rounds, options.runs)
    pretend.enter()
    work = Path(tempfile.mkdtemp(prefix="minidocker-bench-", dir="/var/tmp"))
    try:
        rootfs = work / "rootfs"
        output(REPOSITORY / "rootfs/busybox", rootfs)
        runtimes = [Runtime(name, work, rootfs) for name in ("runc", "crun", OURS)]
        for runtime in runtimes:
            runtime.keep()
        try:
            print(table({what: measure(runtimes, what, rounds, runs) for what in runtimes[0].commands()}))
        finally:
            for runtime in runtimes:
                runtime.clean()
        print(f"\nMedians of {rounds * runs} runs in {rounds} turns. {machine(('runc', 'crun'))}; load {os.getloadavg()[0]:.1f}.")
        print("Wanted: at most 1.2 of runc's, below it if it can be.")
    finally:
        remove_cgroups()
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
