"""What the network, and what published ports, add to a start."""

from __future__ import annotations

from statistics import median, quantiles

from tests.bench.measure import time_all
from tests.bench.place import Place, markdown, stopwatch

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

_NONE, _BR0 = "--net none", "--net br0"
_ALLOWED = 5.0  # ms that a bridge, and a first published port, may add


class Turns:
    """The times of some commands, kept apart by turn: what one adds to another is the median of the differences within a turn, so that
    what the machine does from turn to turn falls out."""

    def __init__(self, runs: int) -> None:
        self.runs = runs
        self.times: dict[str, list[list[float]]] = {}

    def take(self, commands: dict[str, str]) -> None:
        for title, sample in time_all(commands, 1, self.runs).items():
            self.times.setdefault(title, []).append(sample)

    def note(self, title: str, milliseconds: float) -> None:
        self.times.setdefault(title, []).append([milliseconds])

    def median(self, title: str) -> float:
        return median(self._all(title))

    def added(self, title: str, to: str) -> float:
        return median(median(one) - median(other) for one, other in zip(self.times[title], self.times[to], strict=True))

    def ratio(self, title: str, to: str) -> float:
        return median(median(one) / median(other) for one, other in zip(self.times[title], self.times[to], strict=True))

    def spread(self, title: str) -> str:
        sample = sorted(self._all(title))
        low, *_, high = quantiles(sample, n=10) if len(sample) >= 10 else (sample[0], sample[-1])
        return f"{low:.1f} - {high:.1f}"

    def row(self, title: str, *more: str) -> list[str]:
        """Of a table: the title, the median, `more`, the spread."""
        return [title, f"{self.median(title):.1f}", *more, self.spread(title)]

    def _all(self, title: str) -> list[float]:
        return [one for turn in self.times[title] for one in turn]


def start(place: Place, options: argparse.Namespace) -> None:
    """--net br0 beside --net none."""
    turns = Turns(options.runs)
    none, br0 = place.true(_NONE), place.true(_BR0)
    first = "the first container of a network (it makes the bridge and the tables)"
    alone, none_beside, beside = f"{_BR0}, nobody else there", f"{_NONE}, beside 1 container", f"{_BR0}, beside 1 container"
    for _ in range(options.rounds):
        turns.note(first, 1000 * stopwatch(*br0.split()))
        turns.take({_NONE: none, alone: br0})
        place.start("c1")
        turns.take({none_beside: none, beside: br0})
        place.remove("c1")
        place("network", "rm", "br0")
    print("## What the network adds to a start\n")
    pairs = ((_NONE, ""), (alone, _NONE), (none_beside, ""), (beside, none_beside), (first, _NONE))
    rows = [turns.row(title, f"{turns.added(title, to):+.1f}" if to else "") for title, to in pairs]
    print(markdown(["`run --rm ... --rootfs BUSYBOX true`", "median, ms", "adds, ms", "p10 - p90"], rows))
    print(f"\nA bridge may add {_ALLOWED:.0f} ms. {_of(options)}\n")


def ports(place: Place, options: argparse.Namespace) -> None:
    """-p."""
    few(place, options)
    flat(place, options)


def few(place: Place, options: argparse.Namespace) -> None:
    """The first published port, and the next ones."""
    turns = Turns(options.runs)
    more = (10, 100, 1000)
    titles = {count: f"{count:,} more" for count in more}
    commands = {"none": place.true(), "the first": place.true("-p", "8080:80")}
    for count in more:
        commands[titles[count]] = place.true("-p", "8080:80", "-p", f"20000-{19999 + count}:20000-{19999 + count}")
    for _ in range(options.rounds):
        turns.take(commands)
    print("## What published ports add to a start\n")
    rows = [turns.row("none", "", ""), turns.row("the first", f"{turns.added('the first', 'none'):+.1f}", "")]
    for count, title in titles.items():
        added = turns.added(title, "the first")
        rows.append(turns.row(title, f"{added:+.1f}", f"{added / count:.3f}"))
    print(markdown(["`run --rm -p ... true`", "median, ms", "adds, ms", "for each port, ms", "p10 - p90"], rows))
    print(f"\nThe first may add {_ALLOWED:.0f} ms; the others are beside the first. {_of(options)}\n")


def flat(place: Place, options: argparse.Namespace) -> None:
    """A start beside a container that publishes many ports."""
    turns = Turns(options.runs)
    published = (0, 1000, 10_000)
    for _ in range(options.rounds):
        for count in published:
            words = ["-p", f"20000-{19999 + count}:20000-{19999 + count}"] if count else []
            run = [*place.command.split(), "run", "-d", "--name", "holder", *words, "--rootfs", place.rootfs, "sleep", 100000]
            turns.note(f"holder {count}", 1000 * stopwatch(*run))
            turns.take({f"plain {count}": place.true(), f"-p {count}": place.true("-p", "8080:80")})
            turns.note(f"rm {count}", 1000 * stopwatch(*place.command.split(), "rm", "-f", "holder"))
    print("## The same beside a container that publishes many\n")
    rows = []
    for count in published:
        none, one = f"plain {count}", f"-p {count}"
        numbers = [turns.median(none), turns.median(one), turns.median(f"holder {count}"), turns.median(f"rm {count}")]
        rows.append([f"{count:,}", *(f"{number:.1f}" for number in numbers[:2]), f"{turns.added(one, none):+.1f}",
                     f"{turns.ratio(one, '-p 0'):.2f}", *(f"{number:.0f}" for number in numbers[2:])])  # fmt: skip
    head = ["ports published by another", "`run --rm true`, ms", "`run --rm -p 8080:80 true`, ms", "-p adds, ms", "-p, of that beside none",
            "that other's start, ms", "its `rm -f`, ms"]  # fmt: skip
    print(markdown(head, rows))
    print(f"\n{_of(options)} The other's start and removal once in each turn.\n")


def _of(options: argparse.Namespace) -> str:
    return f"Medians of {options.rounds * options.runs} runs in {options.rounds} turns; what is added, of the differences in each turn."
