"""Which host ports a container publishes: those it asked for, and free ones where it left the choice to us."""

from __future__ import annotations

from minidocker.engine.host import Host
from minidocker.errors import ConflictError
from minidocker.network import publish
from minidocker.spec.records import Port
from minidocker.storage import containers

_EPHEMERAL = range(32768, 61000)


def chosen(host: Host, wanted: list[Port]) -> list[Port]:
    """`wanted` with a host port each. ConflictError, naming who has it, for one that a process of the host holds."""
    used = {(port.protocol, port.host_port) for group in containers.ports(host.state).values() for port in group}
    used |= {(port.protocol, port.host_port) for port in wanted}
    found = []
    for port in wanted:
        number = port.host_port or _free_port(port, used)
        used.add((port.protocol, number))
        found.append(Port(number, port.container_port, port.host_ip, port.protocol))
    publish.check_unheld(found)
    return found


def _free_port(port: Port, used: set[tuple[str, int]]) -> int:
    for number in _EPHEMERAL:
        if (port.protocol, number) not in used:
            try:
                publish.check_unheld([Port(number, port.container_port, port.host_ip, port.protocol)])
                return number
            except ConflictError:
                continue
    raise ConflictError(f"no host port is free between {_EPHEMERAL.start} and {_EPHEMERAL.stop - 1}", "name one: -p HOSTPORT:PORT")
