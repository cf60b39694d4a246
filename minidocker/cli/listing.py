"""How containers are listed and objects inspected: records of the engine as columns, as JSON, by templates."""

from __future__ import annotations

import time

from minidocker.cli import output
from minidocker.cli.table import SHORT_ID, Column, View, shorten
from minidocker.errors import MinidockerError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minidocker.cli.call import Call

COMMAND_CELLS = 20

_COLUMNS = [
    Column("CONTAINER ID", "ID", cut=False),
    Column("COMMAND", "Command", drop=2),
    Column("CREATED", "RunningFor", drop=1),
    Column("STATUS", "Status", drop=6),
    Column("NETWORK", "Networks", drop=4),
    Column("IP", "IP", cut=False, drop=5),
    Column("PORTS", "Ports", drop=3),
    Column("NAMES", "Names"),
]
# For `table {{.State}}`: headings of what has no column of its own.
_MORE = [Column("STATE", "State"), Column("CREATED AT", "CreatedAt"), Column("LABELS", "Labels")]
_AGES = ((60, 1, "second"), (3600, 60, "minute"), (48 * 3600, 3600, "hour"), (14 * 86400, 86400, "day"), (60 * 86400, 7 * 86400, "week"),
         (730 * 86400, 30 * 86400, "month"))  # fmt: skip


def containers_view(call: Call) -> View:
    """The view that `ps`'s options ask for."""
    format = call.text("format")
    columns = _COLUMNS + _MORE if format is not None and format.startswith("table ") else _COLUMNS
    return View(columns, format, call.flag("quiet"), not call.flag("no_trunc"))


def row(record: dict[str, object], now: float, full: bool) -> dict[str, str]:
    """One container as text: the columns of the table, which are the fields of a template."""
    id, command, created = text(record["ID"]), text(record["Command"]), seconds(record["CreatedAt"])
    return {
        "ID": id if full else id[:SHORT_ID],
        "Command": quoted(command if full else shorten(command, COMMAND_CELLS)),
        "RunningFor": ago(now - created),
        "CreatedAt": time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(created)),
        "Status": text(record["Status"]),
        "State": text(record["State"]),
        "Networks": text(record["Networks"]),
        "IP": text(record["IP"]),
        "Ports": text(record["Ports"]),
        "Names": text(record["Names"]),
        "Labels": text(record["Labels"]),
    }


def json_record(record: dict[str, object]) -> dict[str, object]:
    """One container for `--format json`: nothing cut, the time in RFC 3339."""
    return {**record, "CreatedAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds(record["CreatedAt"])))}


def text(value: object) -> str:
    """A record's value in a column: lists joined by commas, dicts as k=v."""
    if isinstance(value, dict):
        return ",".join(f"{key}={item}" if item != "" else str(key) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def seconds(value: object) -> float:
    """A record's time, in seconds since the epoch."""
    return float(value) if isinstance(value, (int, float)) else 0.0


def quoted(command: str) -> str:
    """A command in double quotes, as Go's strconv.Quote."""
    return '"' + output.printable(command.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def ago(age: float) -> str:
    """`3 seconds ago`, in docker's steps."""
    if age < 1:
        return "Less than a second ago"
    for limit, unit, name in _AGES:
        if age < limit:
            return _count(int(age // unit), name)
    return _count(int(age // (365 * 86400)), "year")


def _count(number: int, unit: str) -> str:
    if number == 1 and unit in ("minute", "hour"):
        return f"About {'an' if unit == 'hour' else 'a'} {unit} ago"
    return f"{number} {unit}{'s' if number != 1 else ''} ago"


def print_documents(call: Call, lookup: Callable[[], Callable[[str], list[dict[str, object]]]]) -> int:
    """`inspect` of containers and networks. `lookup` gives, once the format is known to be good, what finds one object by name.

    Those that are found are printed; those that are not are reported, and the exit code is 1.
    """
    from minidocker.spec import template

    format = call.text("format")
    parts = None if format is None or format == "json" else template.compile(format)
    find = lookup()
    documents: list[dict[str, object]] = []
    errors: list[MinidockerError] = []
    for reference in call.arguments:
        try:
            documents.extend(find(reference))
        except UsageError:
            raise
        except MinidockerError as error:
            errors.append(error)
    if parts is not None:
        output.say_text("".join(template.render(parts, document) + "\n" for document in documents))
    else:
        output.say(template.to_json(documents, indent=None if format else 4))
    for failure in errors:
        output.report(failure)
    return 1 if errors else 0
