"""The commands on networks."""

from __future__ import annotations

from minidocker.cli import listing, output, requests
from minidocker.cli.containers import each
from minidocker.cli.space import confirmed
from minidocker.cli.table import SHORT_ID, Column, View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minidocker.cli.call import Call

_COLUMNS = [
    Column("NETWORK ID", "ID", cut=False),
    Column("NAME", "Name"),
    Column("DRIVER", "Driver", drop=1),
    Column("SUBNET", "Subnet", cut=False, drop=5),
    Column("GATEWAY", "Gateway", cut=False, drop=3),
    Column("BRIDGE", "Bridge", drop=2),
    Column("CONTAINERS", "Containers", cut=False, drop=4),
]


def ls(call: Call) -> int:
    """`network ls`"""
    view = View(_COLUMNS, call.text("format"), call.flag("quiet"), not call.flag("no_trunc"))
    host = call.host()
    from minidocker.engine import describe

    def row(record: dict[str, object]) -> dict[str, str]:
        values = {column.key: listing.text(record[column.key]) for column in _COLUMNS}
        return values if call.flag("no_trunc") else {**values, "ID": values["ID"][:SHORT_ID]}

    view.print(describe.ls(host), row)
    return 0


def inspect(call: Call) -> int:
    """`network inspect`"""

    def lookup() -> Callable[[str], list[dict[str, object]]]:
        host = call.host()
        from minidocker.engine import describe

        return lambda name: describe.inspect(host, [name])

    return listing.print_documents(call, lookup)


def create(call: Call) -> int:
    """`network create`: prints the id."""
    request = requests.network_request(call)
    host = call.host()
    from minidocker.engine import networks

    output.say(networks.create(host, request, call.teller()))
    return 0


def remove(call: Call) -> int:
    """`network rm`: each network's name as it is gone."""
    host = call.host()
    from minidocker.engine import networks

    return each(call.arguments, lambda name: networks.remove(host, name, call.teller()))


def connect(call: Call) -> int:
    """`network connect`"""
    attachment = requests.attachment(call)
    host = call.host()
    from minidocker.engine import connection

    connection.connect(host, attachment, call.arguments[1], call.teller())
    return 0


def disconnect(call: Call) -> int:
    """`network disconnect`"""
    host = call.host()
    from minidocker.engine import connection

    connection.disconnect(host, call.arguments[1], call.arguments[0], call.flag("force"), call.teller())
    return 0


def prune(call: Call) -> int:
    """`network prune`: the names of those that are gone."""
    if not confirmed(call, "This removes every network that no container uses."):
        return 0
    host = call.host()
    from minidocker.engine import networks

    for name in networks.prune(host):
        output.say(name)
    return 0


def reload(call: Call) -> int:
    """`network reload`"""
    host = call.host()
    from minidocker.engine import networks

    networks.reload(host)
    return 0


def explain(call: Call) -> int:
    """`network explain`: the commands that would make what is there."""
    host = call.host()
    from minidocker.engine import retrace

    output.say_text(retrace.explain(host, call.arguments[0]).explain())
    return 0
