"""Which host ports a container publishes: those it asked for, and free ones where it left the choice to us."""

from __future__ import annotations

import os

from minidocker.engine.host import Host
from minidocker.engine.resolver import DNS_PORT
from minidocker.errors import ConflictError, UsageError
from minidocker.network import others, publish
from minidocker.spec.records import BRIDGE, Endpoint, Port
from minidocker.storage import containers, networks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_EPHEMERAL = range(32768, 61000)
_TOLD = "told"  # the setting that says under which boot something was said


def chosen(host: Host, wanted: list[Port], endpoint: Endpoint) -> list[Port]:
    """`wanted` with a host port each. ConflictError, naming who has it, for one that a process of the host holds."""
    used = {(port.protocol, port.host_port) for port in wanted if not port.host_last}
    found = []
    for port in wanted:
        if ":" in port.host_ip and not endpoint.ip6:
            raise UsageError(f"publish {port}: network `{endpoint.network}` has no IPv6", "minidocker network create --ipv6 NAME makes one")
        number = port.host_port
        if not number or port.host_last:
            number = _free(host, port, used, bool(endpoint.ip6))
        used.add((port.protocol, number))
        found.append(Port(number, port.container_port, port.host_ip, port.protocol))
    publish.check_unheld(found, bool(endpoint.ip6), _own_dns(host, found))
    return found


def _own_dns(host: Host, ports: list[Port]) -> list[str]:
    """Where our own name servers listen, who are asked by containers alone: at port 53 of each gateway."""
    if not any(port.host_port == DNS_PORT for port in ports):
        return []
    return [network.gateway for network in networks.every(host.state) if network.driver == BRIDGE]


def _free(host: Host, port: Port, used: set[tuple[str, int]], ipv6: bool) -> int:
    candidates = range(port.host_port, port.host_last + 1) if port.host_last else _from_somewhere(_EPHEMERAL)
    for number in candidates:
        one = Port(number, port.container_port, port.host_ip, port.protocol)
        if (port.protocol, number) in used or containers.port_holder(host.state, one):
            continue
        try:
            publish.check_unheld([one], ipv6)
            return number
        except ConflictError:
            continue
    first, last = (port.host_port, port.host_last) if port.host_last else (_EPHEMERAL.start, _EPHEMERAL.stop - 1)
    raise ConflictError(f"no host port is free between {first} and {last}", "name one: -p HOSTPORT:PORT")


def _from_somewhere(numbers: range) -> Iterable[int]:
    """All of them, from a random one on: where many are taken the first free one is not looked for from the beginning each time."""
    start = numbers.start + int.from_bytes(os.urandom(4), "little") % len(numbers)
    yield from range(start, numbers.stop)
    yield from range(numbers.start, start)


def say_who_is_blind(host: Host) -> None:
    """Once a boot: that a firewall which is active here does not see published ports, as they are led to containers before it looks."""
    name = others.blind()
    told = f"{_TOLD}.{name}"
    if name and networks.setting(host.state, told) != host.boot:
        networks.set_setting(host.state, told, host.boot)
        host.notice(f"published ports are reached from outside whatever {name} says, which does not see them; "
                    "-p 127.0.0.1:HOSTPORT:PORT publishes for this host alone")  # fmt: skip
