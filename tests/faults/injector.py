"""Commands of one data root that run under hook.py: their points listed, killed or made to fail at one of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import click

from tests.e2e.machine import Family, command_line
from tests.e2e.support import PATIENCE, REPOSITORY, Minidocker, poll

HOOK = (Path(__file__).parent / "hook.py").read_text()
PATHS = [str(REPOSITORY), str(Path(click.__file__).parents[1])]


class Point(NamedTuple):
    """One call that a command, or another of its processes, does; `step` numbers the steps of plans that were run before."""

    role: str
    number: int
    step: int
    writes: bool  # the state
    changes: bool
    fallible: bool
    call: str
    trail: str

    def __str__(self) -> str:
        return f"{self.role} {self.number}, {self.call}: {self.trail}"


class Injector:
    """`family` adopts and reaps whatever the commands leave running."""

    def __init__(self, md: Minidocker, family: Family) -> None:
        self.md = md
        self.family = family
        self._file = md.root.parent / "points"

    def argv(self, order: list[str], words: tuple[object, ...]) -> list[str]:
        own = self.md.argv(*words)
        program = f"TEXT = {HOOK!r}; PATHS = {PATHS!r}; ORDER = {order!r}\nexec(TEXT)\nfrom minidocker.__main__ import start\nstart()"
        return [sys.executable, "-I", "-S", "-c", program, *own[own.index("--root") :]]

    def run(self, order: list[str], *words: object) -> subprocess.CompletedProcess[str]:
        """To its end, and until what goes on without it is at rest: monitors that watch."""
        process = subprocess.Popen(
            self.argv(order, words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.family.mine.add(process.pid)
        out, error = process.communicate(timeout=3 * PATIENCE)
        self.family.mine.discard(process.pid)
        self.rest()
        return subprocess.CompletedProcess(list(map(str, words)), process.returncode, out, error)

    def rest(self) -> None:
        poll(lambda: all(" resident " in line or " serve " in line for line in map(command_line, self.family.orphans())), "all is at rest")

    def points(self, *words: object) -> list[Point]:
        """Those of one whole command, in the order in which they come."""
        done = self.run(self.order_to_list(), *words)
        assert done.returncode == 0, done.stderr
        return self.listed()

    def order_to_list(self, anew: bool = True) -> list[str]:
        if anew:
            self._file.unlink(missing_ok=True)
        return ["list", str(self._file)]

    def listed(self) -> list[Point]:
        """What has been listed by now, by those that go on as well."""
        found = []
        for line in self._file.read_text().splitlines():
            role, number, step, marks, call, trail = line.split(" ", 5)
            found.append(Point(role, int(number), int(step), marks[0] == "W", marks[1] == "C", marks[2] == "F", call, trail))
        return found
