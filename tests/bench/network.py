"""Measures what the network costs, in a pretend host of its own; called by `network` beside it.

What is compared takes turns in one run, so that what the machine does meanwhile falls on all alike. Nothing is asserted: a table says
what was measured, and the line under it what is wanted. Whatever was started is removed at the end, however that comes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

from tests.bench import network_flow, network_many, network_starts, place
from tests.bench.measure import MINIDOCKER
from tests.bench.place import output

PARTS = {
    "start": network_starts.start,
    "ports": network_starts.ports,
    "throughput": network_flow.throughput,
    "requests": network_flow.requests,
    "many": network_many.many,
    "names": network_many.many,
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/bench/network", description="What the network costs.")
    parser.add_argument("--only", action="append", choices=PARTS, dest="parts", help="one part, or several (again and again)")
    parser.add_argument("--rounds", type=int, help="turns in which starts and DNS are measured (default 7)")
    parser.add_argument("--runs", type=int, help="runs of a command in one turn (default 10)")
    parser.add_argument("--many", type=int, help="how many containers are many (default 500)")
    parser.add_argument("--turns", type=int, help="turns in which throughput is measured (default 15)")
    parser.add_argument("--seconds", type=int, help="of each measurement of throughput (default 2)")
    parser.add_argument("--questions", type=int, help="asked of DNS in one turn (default 2000)")
    parser.add_argument("--quick", action="store_true", help="little of each")
    options = parser.parse_args()
    usual = {"rounds": (7, 2), "runs": (10, 3), "many": (500, 30), "turns": (15, 2), "seconds": (2, 1), "questions": (2000, 200)}
    for name, (number, quick) in usual.items():
        if getattr(options, name) is None:
            setattr(options, name, quick if options.quick else number)
    options.parts = options.parts or list(PARTS)
    return options


def machine() -> str:
    versions = [f"Linux {os.uname().release}", output(sys.executable, "-V"), output(MINIDOCKER, "--version")]
    versions += [output(tool, "--version").splitlines()[0] for tool in ("iperf3", "nft")]
    commit = subprocess.run(["git", "-C", str(place.measure.REPOSITORY), "log", "-1", "--format=%h"], capture_output=True, text=True).stdout
    return f"{os.cpu_count()} processors; {', '.join(versions)}; commit {commit.strip() or 'unknown'} and what was changed since"


def main() -> None:
    options = arguments()
    begin = time.monotonic()
    with place.made() as here:
        try:
            for part in dict.fromkeys(PARTS[name] for name in PARTS if name in options.parts):
                part(here, options)
                sys.stdout.flush()
        except KeyboardInterrupt:
            sys.exit(130)
    print(f"{machine()}. All of it took {time.monotonic() - begin:.0f} s.")


if __name__ == "__main__":
    main()
