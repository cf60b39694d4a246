"""`stats`: the numbers of engine/stats.py in docker's columns, once or live."""

from __future__ import annotations

import os

from minidocker.cli import output
from minidocker.cli.table import SHORT_ID, Column, View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minidocker.cli.call import Call

NOT_COUNTED = "--"
_COLUMNS = [
    Column("CONTAINER ID", "ID", cut=False),
    Column("NAME", "Name"),
    Column("CPU %", "CPUPerc", cut=False),
    Column("MEM USAGE / LIMIT", "MemUsage", cut=False, drop=6),
    Column("MEM %", "MemPerc", cut=False, drop=5),
    Column("NET I/O", "NetIO", cut=False, drop=3),
    Column("BLOCK I/O", "BlockIO", cut=False, drop=2),
    Column("PIDS", "PIDs", cut=False, drop=4),
    Column("PRESSURE CPU / MEM / IO", "Pressure", cut=False, drop=1),
]
_CLEAR = "\x1b[H\x1b[J"  # home, erase to the end of the screen (console_codes(4))
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB")


def stats(call: Call) -> int:
    """Live until it is interrupted, or until none of the named containers is left; with --no-stream once."""
    view = View(_COLUMNS, call.text("format"), False, not call.flag("no_trunc"))
    host = call.host()
    from minidocker.engine.stats import watch

    clear = os.isatty(output.STDOUT) and view.format == "table" and not call.flag("no_stream")
    for records in watch(host, call.arguments, call.flag("all")):
        if call.arguments and not records:
            break
        if clear:
            output.say_text(_CLEAR)
        view.print(records, lambda record: row(record, call.flag("no_trunc")))
        if call.flag("no_stream"):
            break
    return 0


def row(record: dict[str, Any], full: bool) -> dict[str, str]:
    """One container as text, under docker's names for a template."""
    memory, network, block, pids, pressure = (record[key] for key in ("Memory", "Network", "Block", "Pids", "Pressure"))
    return {
        "ID": record["ID"] if full else record["ID"][:SHORT_ID],
        "Container": record["ID"],
        "Name": record["Name"],
        "CPUPerc": NOT_COUNTED if record["CPU"] is None else f"{record['CPU']:.2f}%",
        "MemUsage": _pair(memory, "Usage", "Limit", _BINARY, 1024, 4),
        "MemPerc": NOT_COUNTED if memory is None else f"{100 * memory['Usage'] / memory['Limit']:.2f}%",
        "NetIO": _pair(network, "Received", "Sent", DECIMAL, 1000, 3),
        "BlockIO": _pair(block, "Read", "Written", DECIMAL, 1000, 3),
        "PIDs": NOT_COUNTED if pids is None else str(pids["Current"]),
        "Pressure": NOT_COUNTED if pressure is None else " / ".join(_share(pressure, kind) for kind in ("cpu", "memory", "io")),
    }


def _pair(numbers: dict[str, int] | None, first: str, second: str, units: tuple[str, ...], step: int, digits: int) -> str:
    if numbers is None:
        return f"{NOT_COUNTED} / {NOT_COUNTED}"
    return " / ".join(size(numbers[key], units, step, digits) for key in (first, second))


def size(number: int, units: tuple[str, ...], step: int, digits: int) -> str:
    """In the largest unit that leaves a whole part, with so many digits, as docker prints sizes: 1.5MiB, 12.3kB."""
    value, unit = float(number), 0
    while value >= step - 0.5 and unit < len(units) - 1:
        value /= step
        unit += 1
    return f"{value:.{digits}g}{units[unit]}"


def _share(pressure: dict[str, dict[str, dict[str, float]]], kind: str) -> str:
    """How much of the last ten seconds some of its tasks waited for it."""
    some = pressure.get(kind, {}).get("some")
    return NOT_COUNTED if some is None else f"{some['avg10']:.2f}%"
