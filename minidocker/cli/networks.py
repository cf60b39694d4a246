"""The commands on networks."""

from __future__ import annotations

from minidocker.cli import listing, output, requests
from minidocker.cli.containers import each
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
    from minidocker.engine import networks

    def row(record: dict[str, object]) -> dict[str, str]:
        values = {column.key: listing.text(record[column.key]) for column in _COLUMNS}
        return values if call.flag("no_trunc") else {**values, "ID": values["ID"][:SHORT_ID]}

    view.print(networks.ls(host), row)
    return 0


def inspect(call: Call) -> int:
    """`network inspect`"""

    def lookup() -> Callable[[str], list[dict[str, object]]]:
        host = call.host()
        from minidocker.engine import networks

        return lambda name: networks.inspect(host, [name])

    return listing.print_documents(call, lookup)


def create(call: Call) -> int:
    """`network create`: prints the id."""
    request = requests.network_request(call)
    host = call.host()
    from minidocker.engine import networks

    output.say(networks.create(host, request))
    return 0


def remove(call: Call) -> int:
    """`network rm`: each network's name as it is gone."""
    host = call.host()
    from minidocker.engine import networks

    return each(call.arguments, lambda name: networks.remove(host, name))
