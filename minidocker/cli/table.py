"""Lists as docker prints them: columns that fit the terminal, templates, JSON, ids."""

from __future__ import annotations

import os

from minidocker.cli import output
from minidocker.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minidocker.spec.template import Field

GAP, NARROW_GAP = 3, 2
SHORTEST = 10  # a column of text is not cut below this; rather, a whole column goes
SHORT_ID = 12


class Column:
    """A heading, the key of the row's value, and what may happen on a narrow terminal: `cut` says it is text that may be shortened,
    `drop` the order in which columns go when that is not enough (0: never)."""

    __slots__ = ("cut", "drop", "heading", "key")

    def __init__(self, heading: str, key: str, cut: bool = True, drop: int = 0) -> None:
        self.heading = heading
        self.key = key
        self.cut = cut
        self.drop = drop


def table(columns: list[Column], rows: list[dict[str, str]], width: int | None) -> str:
    """Aligned lines under their headings, each at most `width` cells (None: as wide as they come)."""
    cells = [[column.heading for column in columns], *[[output.printable(row[column.key]) for column in columns] for row in rows]]
    widths = [max(map(cells_of, column)) for column in zip(*cells, strict=True)]
    shown, gap = list(range(len(columns))), GAP
    if width is not None and sum(widths) + gap * (len(widths) - 1) > width:
        gap = NARROW_GAP
        shown = _fit(columns, widths, width)
    lines = [(" " * gap).join(pad(shorten(row[i], widths[i]), widths[i]) for i in shown).rstrip() + "\n" for row in cells]
    return "".join(lines)


def _fit(columns: list[Column], widths: list[int], width: int) -> list[int]:
    """Which columns to show; `widths` is changed to what each then gets. The widest text gives way first, then whole columns go."""
    shown = list(range(len(columns)))
    while True:
        excess = sum(widths[i] for i in shown) + NARROW_GAP * (len(shown) - 1) - width
        text = [i for i in shown if columns[i].cut and widths[i] > SHORTEST]
        going = [i for i in shown if columns[i].drop]
        if excess <= 0 or not (text or going):
            return shown
        if excess <= sum(widths[i] - SHORTEST for i in text) or not going:
            widths[max(text, key=widths.__getitem__)] -= 1
        else:
            shown.remove(min(going, key=lambda i: columns[i].drop))


def cells_of(text: str) -> int:
    """How many cells of a terminal `text` takes."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def shorten(text: str, most: int) -> str:
    """`text` in at most `most` cells, an ellipsis for what is cut."""
    if cells_of(text) <= most:
        return text
    while text and cells_of(text) > most - 1:
        text = text[:-1]
    return text + "…"


def pad(text: str, width: int) -> str:
    """`text` filled up with spaces."""
    return text + " " * (width - cells_of(text))


def terminal_width(descriptor: int = output.STDOUT) -> int | None:
    """The columns of the terminal on `descriptor`, those that COLUMNS says where it says any; None when it is none."""
    try:
        columns = os.get_terminal_size(descriptor).columns
    except OSError:
        return None
    said = os.environ.get("COLUMNS", "")
    return int(said) if said.isascii() and said.isdecimal() and int(said) else columns or None


class View:
    """How a list of records is to be printed. `rows` gives what templates and tables show, `records` what JSON shows; of each record `key`
    is what --quiet shows."""

    __slots__ = ("columns", "format", "key", "parts", "quiet", "truncate")

    def __init__(self, columns: list[Column], format: str | None, quiet: bool, truncate: bool, key: str = "ID") -> None:
        """Raises UsageError for a format that is not understood, before the engine is asked for anything."""
        if quiet and format is not None:
            raise UsageError("--quiet and --format contradict each other", "leave one out")
        self.columns = columns
        self.format = (format or "table").replace("\\t", "\t").replace("\\n", "\n")
        self.quiet = quiet
        self.truncate = truncate
        self.key = key
        self.parts: list[str | Field] = []
        if self.format not in ("table", "json"):
            from minidocker.spec import template

            self.parts = template.compile(self.format.removeprefix("table "))

    def print(self, records: list[dict[str, object]], row: Callable[[dict[str, object]], dict[str, str]]) -> None:
        """Print the list; `row` makes a record's columns, as text."""
        if self.quiet:
            output.say_text("".join(row(record)[self.key] + "\n" for record in records))
        elif self.format == "table":
            width = terminal_width() if self.truncate else None
            output.say_text(table(self.columns, [row(record) for record in records], width))
        elif self.format == "json":
            from minidocker.spec import template

            output.say(template.to_json(records, indent=4))
        else:
            self._print_template([row(record) for record in records])

    def _print_template(self, rows: list[dict[str, str]]) -> None:
        from minidocker.spec import template

        lines = [template.render(self.parts, row) for row in rows]
        if self.format.startswith("table "):
            lines.insert(0, template.render(self.parts, {column.key: column.heading for column in self.columns}))
            lines = _tabbed(lines)
        output.say_text("".join(line + "\n" for line in lines))


def _tabbed(lines: list[str]) -> list[str]:
    """Lines whose tabs separate columns, aligned."""
    split = [line.split("\t") for line in lines]
    count = max(map(len, split))
    widths = [max((cells_of(cells[i]) for cells in split if i < len(cells)), default=0) for i in range(count)]
    return [(" " * GAP).join(pad(cell, widths[i]) for i, cell in enumerate(cells)).rstrip() for cells in split]
