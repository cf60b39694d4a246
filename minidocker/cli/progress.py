"""What takes long says so on a terminal, and only there: one line on stderr that is taken away again."""

from __future__ import annotations

import _signal
import time

from minidocker.cli import output
from minidocker.cli.table import cells_of, shorten, terminal_width

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

_AFTER = _EVERY = 1.0  # seconds


class Progress:
    """While its block runs, the line `TEXT: 3 s` from the first second on; `text` is asked each time. By a timer's signal, which interrupts
    whatever the engine waits in for as long as it takes to write the line (signal(7): waits are begun again)."""

    def __init__(self, text: Callable[[], str]) -> None:
        self.text = text
        self.shown = 0
        self.width = terminal_width(output.STDERR)

    def __enter__(self) -> None:
        if self.width is None:  # no terminal: nobody is told anything
            return
        self.begun = time.monotonic()
        self.before = _signal.signal(_signal.SIGALRM, self._tick)
        _signal.setitimer(_signal.ITIMER_REAL, _AFTER, _EVERY)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.width is None:
            return
        _signal.setitimer(_signal.ITIMER_REAL, 0)
        _signal.signal(_signal.SIGALRM, self.before)
        if self.shown:
            output.complain("\r" + " " * self.shown + "\r")

    def _tick(self, number: int, frame: Any) -> None:
        line = shorten(f"{output.printable(self.text())}: {time.monotonic() - self.begun:.0f} s", max(1, (self.width or 0) - 1))
        cells = cells_of(line)
        output.complain("\r" + line + " " * (self.shown - cells))
        self.shown = cells
