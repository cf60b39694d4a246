"""Many containers on one bridge: their starts, their end, what their keepers weigh; and the names that the network's DNS answers."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from statistics import median, quantiles

from tests.bench import asker
from tests.bench.place import Place, markdown, output, stopwatch

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

NETWORK = "many"
_SUBNET, _GATEWAY = "10.50.0.0/22", "10.50.0.1"
_WINDOW = 32
_EVERY = 2  # starts between two looks at how fast the machine is
_PATIENCE = 60.0


def many(place: Place, options: argparse.Namespace) -> None:
    """Start them one after another, ask DNS beside them, remove them in one command."""
    place("network", "create", "--subnet", _SUBNET, "--gateway", _GATEWAY, NETWORK)
    before = place.left()
    _start_one(place, 1)
    asked = {1: Asked(place, options, 1)}
    small = _weights(place)
    crowd = _Crowd(place, options.many)
    asked[options.many] = Asked(place, options, options.many)
    big = _weights(place)
    if "many" in options.parts:
        crowd.print()
        print(f"PSS of a monitor: {small[0]} as the only one, {big[0]} beside {options.many} (the median). "
              f"Of the network's DNS server: {small[1]} and {big[1]}.\n")  # fmt: skip
    if "names" in options.parts:
        print_names(asked, options)
    took, gone = _remove_all(place, before)
    if "many" in options.parts:
        _print_end(options.many, took, gone)
    place("network", "rm", NETWORK)


def _start_one(place: Place, number: int) -> float:
    """Milliseconds."""
    words = ["run", "-d", "--net", NETWORK, "--name", f"c{number}", "--rootfs", place.rootfs, "sleep", 100000]
    return 1000 * stopwatch(*place.command.split(), *words)


class _Crowd:
    """`times` of each start in ms, from the second container on; `machine` of a program that has nothing to do with them, at times."""

    def __init__(self, place: Place, count: int) -> None:
        self.times: list[float] = []
        self.machine: list[float] = []
        for number in range(2, count + 1):
            if number % _EVERY == 0:
                self.machine.append(1000 * stopwatch(sys.executable, "-I", "-S", "-c", "import json, sqlite3"))
            self.times.append(_start_one(place, number))

    def print(self) -> None:
        some = min(50, len(self.times) // 2)
        first, last = median(self.times[:some]), median(self.times[-some:])
        looks = max(1, some // _EVERY)
        drift = median(self.machine[-looks:]) / median(self.machine[:looks])
        print(f"## {len(self.times) + 1} containers on one bridge\n")
        rows = [[f"the first {some}", f"{first:.1f}", ""], [f"the last {some}", f"{last:.1f}", f"{last / first:.2f}"]]
        print(markdown(["`run -d --rootfs BUSYBOX sleep 100000`", "median, ms", "of the first"], rows))
        print(f"\nAt most 1.5. The machine itself: an interpreter with json and sqlite3, started in between, took {drift:.2f} of its first "
              "time at the end.")  # fmt: skip


def _weights(place: Place) -> tuple[str, str]:
    """PSS of a monitor (the median) and of the DNS server, as text."""
    servers = place.dns_servers()
    monitors = [pid for pid, words in place.processes().items() if "resident" in words]
    weighed = [f"{median(map(_pss, pids)):.1f} MB" if pids else "none is there" for pids in (monitors, servers)]
    return weighed[0], weighed[1]


def _pss(pid: int) -> float:
    """MB that are a process's alone, counting its share of what it shares (proc(5), smaps_rollup)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def _remove_all(place: Place, before: dict[str, int]) -> tuple[float, dict[str, tuple[int, float]]]:
    """Seconds of `rm -f` of all in one command; and of each kind of what they took how many of it were left when that returned, and how
    many seconds after its start they were gone."""
    ids = place("ps", "-aq").split()
    begin = time.perf_counter()
    took = stopwatch(*place.command.split(), "rm", "-f", *ids)
    left: dict[str, int] = {}
    gone: dict[str, float] = {}
    while len(gone) < len(before) and time.perf_counter() - begin < took + _PATIENCE:
        now = place.left()
        at = time.perf_counter() - begin
        left = left or {kind: now[kind] - count for kind, count in before.items()}
        for kind, count in before.items():
            if now[kind] <= count:
                gone.setdefault(kind, at)
            else:
                gone.pop(kind, None)
        time.sleep(0.02)
    return took, {kind: (max(0, left[kind]), gone.get(kind, float("inf"))) for kind in before}


def _print_end(count: int, took: float, gone: dict[str, tuple[int, float]]) -> None:
    print(f"### Their removal, `rm -f` of {count} in one command\n")
    rows = [["the command", "", f"{took:.2f}"]]
    rows += [[kind, str(left), f"{at:.2f}" if at < took + _PATIENCE else "never"] for kind, (left, at) in gone.items()]
    rows.append(["all of it", "", f"{max(at for _, at in gone.values()):.2f}"])
    print(markdown(["what", "left when the command returned", "gone, s after the command's start"], rows))
    print("\nAt most 5 s in all. Looked at from the command's return on, so what was gone before has its time.\n")


class Asked:
    """What the DNS of the network said beside `count` containers."""

    def __init__(self, place: Place, options: argparse.Namespace, count: int) -> None:
        self.place = place
        names = [f"c{number}" for number in range(1, count + 1)]
        self.answered = not self._ask(1, 1, names)["wrong"]  # the first starts it
        self.one: list[float] = []
        self.rates: list[float] = []
        self.changed: list[float] = []
        self.wrong = 0
        if not self.answered or "names" not in options.parts:
            return
        for _ in range(options.rounds):
            one = self._ask(options.questions, 1, names)
            self.one += one["latencies"]
            together = self._ask(options.questions * 2, _WINDOW, names)
            self.rates.append(len(together["latencies"]) / together["took"])
            self.wrong += one["wrong"] + together["wrong"]
            for number in range(5):  # one more container, and the first answer after it
                self._another(number)

    def _ask(self, count: int, window: int, names: list[str]) -> dict:  # type: ignore[type-arg]
        words = [sys.executable, "-I", "-S", asker.__file__, _GATEWAY, count, window, *names]
        return json.loads(output("nsenter", "--net=/run/netns/c1", *words))  # type: ignore[no-any-return]

    def _another(self, number: int) -> None:
        name = f"new{number}"
        self.place.detach(name, "--net", NETWORK, "--rootfs", self.place.rootfs, "sleep", 100000)
        answer = self._ask(1, 1, [name])
        self.wrong += answer["wrong"]
        self.changed += answer["latencies"]
        self.place.remove(name)


def print_names(asked: dict[int, Asked], options: argparse.Namespace) -> None:
    print("## A name asked of the network's DNS, by UDP\n")
    if not all(one.answered for one in asked.values()):
        print("No DNS server answers here: skipped.\n")
        return
    rows = []
    for count, one in asked.items():
        low, *_, high = quantiles(one.one, n=100)
        rows.append([str(count), f"{median(one.one):.3f}", f"{low:.3f} - {high:.3f}", f"{median(one.rates):,.0f}",
                     f"{median(one.changed):.2f}" if one.changed else "", str(one.wrong)])  # fmt: skip
    head = ["containers", "median, ms", "p1 - p99", f"a second, {_WINDOW} at a time", "the first after a new one, ms", "wrong or lost"]
    print(markdown(head, rows))
    print(f"\n{options.rounds} x {options.questions:,} questions one after another, and twice as many {_WINDOW} at a time, "
          "from a container, for every name in turn; the asker is a Python program too, and shares the processors.\n")  # fmt: skip


