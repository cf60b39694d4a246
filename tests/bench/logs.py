"""Measures logs in a pretend host of its own; called by `logs` beside it.

A container prints lines as fast as it is let, into a log that keeps all of them: from its first to its last is how fast output gets in.
Then that log is read, whole: how fast it gets out. Each engine does both in every turn.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from tests import pretend
from tests.bench.measure import MINIDOCKER, REPOSITORY, docker, machine, output, remove_cgroups

MB = 1_000_000
LINE = "a line as programs print them, which has a hundred bytes with what ends it ".ljust(99, ".")
FORM = "yes '{line}' | head -c {size}"


class Engine:
    """One engine: `begin` of each of its command lines, and the words that give it the root file system."""

    def __init__(self, name: str, begin: str, options: list[str], image: list[str]) -> None:
        self.name = name
        self.begin = begin.split()
        self.options = options
        self.image = image

    def turn(self, size: int) -> tuple[float, float]:
        """MB a second in, and out."""
        script = FORM.format(line=LINE, size=size)
        begun = time.monotonic()
        output(*self.begin, "run", "-d", "--name", "talker", *self.options, *self.image, "sh", "-c", script)
        output(*self.begin, "wait", "talker")
        written = time.monotonic()
        with subprocess.Popen([*self.begin, "logs", "talker"], stdout=subprocess.PIPE) as reading:
            assert reading.stdout
            read = 0
            while part := reading.stdout.read(1 << 20):
                read += len(part)
        ended = time.monotonic()
        output(*self.begin, "rm", "talker")
        if read != size or reading.returncode:
            raise SystemExit(f"{self.name} printed {size} bytes and its log has {read}")
        return size / (written - begun) / MB, size / (ended - written) / MB


def measure(work: Path, rounds: int, size: int) -> str:
    rootfs = work / "rootfs"
    output(REPOSITORY / "rootfs/busybox", rootfs)
    kept = ["--log-opt", "max-size=4g"]
    engines = [Engine("minidocker", f"{MINIDOCKER} --root {work}/minidocker", [*kept, "--net", "none", "--rootfs", str(rootfs)], [])]
    with contextlib.ExitStack() as stack:
        commands = stack.enter_context(docker(work, rootfs))
        if commands:
            client = next(iter(commands.values())).partition(" run ")[0]
            engines.append(Engine("docker", client, [*kept, "--network", "none"], ["bench"]))
        turns: dict[str, list[tuple[float, float]]] = {engine.name: [] for engine in engines}
        for number in range(rounds + 1):
            for engine in engines:
                rates = engine.turn(size)
                if number:  # the first turn warms up
                    turns[engine.name].append(rates)
    lines = ["| | into the log, MB/s | out of it, MB/s |", "|---|---:|---:|"]
    for name, sample in turns.items():
        into, out = (statistics.median(side) for side in zip(*sample, strict=True))
        lines.append(f"| {name} | {into:.0f} | {out:.0f} |")
    if not commands:
        lines.append("\ndocker is not installed here.")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests/bench/logs", description="How fast logs are, beside docker's.")
    parser.add_argument("--rounds", type=int, default=7, help="turns in which each is measured (default 7)")
    parser.add_argument("--size", type=int, default=300, help="megabytes that the container prints (default 300)")
    parser.add_argument("--quick", action="store_true", help="two turns of 20 MB")
    options = parser.parse_args()
    rounds, size = (2, 20) if options.quick else (options.rounds, options.size)
    pretend.enter()
    work = Path(tempfile.mkdtemp(prefix="minidocker-bench-", dir="/var/tmp"))
    try:
        print(measure(work, rounds, size * MB))
        print(f"\nMedians of {rounds} turns of {size} MB in lines of {len(LINE) + 1} bytes, the container's start included. {machine(())}.")
    finally:
        remove_cgroups()
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
