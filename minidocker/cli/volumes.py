"""The commands on volumes."""

from __future__ import annotations

from minidocker.cli import listing, output
from minidocker.cli.containers import each
from minidocker.cli.table import Column, View
from minidocker.spec import parse, parse_mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minidocker.cli.call import Call

_COLUMNS = [Column("DRIVER", "Driver", drop=1), Column("VOLUME NAME", "Name", cut=False)]
# For a template: headings of what has no column of its own.
_MORE = [Column("MOUNTPOINT", "Mountpoint"), Column("LABELS", "Labels"), Column("SCOPE", "Scope"), Column("CONTAINERS", "Containers")]


def create(call: Call) -> int:
    """`volume create`: prints the name."""
    name = parse_mounts.volume_name("volume", call.arguments[0]) if call.arguments else ""
    labels = dict(map(parse.label, call.list("label")))
    host = call.host()
    from minidocker.engine import volumes

    output.say(volumes.create(host, name, labels))
    return 0


def ls(call: Call) -> int:
    """`volume ls`: the list, or the names, or each by a template."""
    filters = [parse_mounts.label_filter(text) for text in call.list("filter")]
    format = call.text("format")
    columns = _COLUMNS + _MORE if format is not None and format.startswith("table ") else _COLUMNS
    view = View(columns, format, call.flag("quiet"), False, "Name")
    host = call.host()
    from minidocker.engine import volumes

    view.print(volumes.ls(host, filters), lambda record: {key: listing.text(value) for key, value in record.items()})
    return 0


def inspect(call: Call) -> int:
    """`volume inspect`"""

    def lookup() -> Callable[[str], list[dict[str, object]]]:
        host = call.host()
        from minidocker.engine import volumes

        return lambda name: [volumes.inspect(host, name)]

    return listing.print_documents(call, lookup)


def remove(call: Call) -> int:
    """`volume rm`: each volume's name as it is gone."""
    host = call.host()
    from minidocker.engine import volumes

    return each(call.arguments, lambda name: volumes.remove(host, name, call.flag("force")))


def prune(call: Call) -> int:
    """`volume prune`: the names of those that are gone, and what they took up."""
    from minidocker.cli.space import confirmed, in_words

    filters = [parse_mounts.label_filter(text) for text in call.list("filter")]
    which = "volume" if call.flag("all") else "anonymous volume"
    if not confirmed(call, f"This removes every {which} that no container has."):
        return 0
    host = call.host()
    from minidocker.engine import volumes

    names, freed = volumes.prune(host, call.flag("all"), filters)
    if names:
        output.say("\n".join(["Deleted Volumes:", *names, ""]))
    output.say(f"Total reclaimed space: {in_words(freed)}")
    return 0
