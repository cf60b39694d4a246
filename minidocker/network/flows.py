"""Stale flows of published UDP ports: what the kernel remembers of a sender that never pauses, it goes on doing.

A flow is translated as it was when its first packet came. So one that began before the port was published would go on past the
container, and one that was sent to a container that has gone would go on to nobody, or to whoever has its address next. Both are
forgotten: the next packet is looked at anew. (TCP begins anew by itself: its peer is told that there is no such connection.)
"""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, AF_UNSPEC

from minidocker.kernel import conntrack
from minidocker.kernel.netlink import Socket
from minidocker.kernel.rtnetlink import Address, addresses_dump
from minidocker.plan import NETWORK, At, Step
from minidocker.spec.records import ANY, ANY4, ANY6

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from minidocker.spec.records import Endpoint, Port


def any_udp(ports: Sequence[Port]) -> bool:
    return any(port.protocol == "udp" for port in ports)


class Forget(Step):
    """Delete the flows of the endpoint's published UDP ports: those that were sent to it, and those that were not."""

    title = NETWORK
    why = "senders who never pause are led anew"

    def __init__(self, endpoint: Endpoint) -> None:
        self.ips = [ip for ip in (endpoint.ip, endpoint.ip6) if ip]
        self.ports = [port for port in endpoint.ports if port.protocol == "udp"]
        self.family = AF_UNSPEC if endpoint.ip6 else AF_INET

    def shell(self) -> str:
        lines = []
        for port in self.ports:
            to = "" if port.host_ip in (ANY, ANY4, ANY6) else f"--orig-dst {port.host_ip} "
            for family, published in (("", port.is_ipv4), ("-f ipv6 ", port.is_ipv6 and self.family == AF_UNSPEC)):
                if published:
                    lines.append(f"conntrack -D {family}-p udp {to}--orig-port-dst {port.host_port} > /dev/null 2>&1 || :")
        return "\n".join(lines)

    def apply(self, at: At) -> None:
        conntrack.delete(stale(conntrack.flows(self.family), self.ips, self.ports, _own_addresses(self.family)))


def stale(flows: Sequence[conntrack.Flow], ips: Collection[str], ports: Sequence[Port], own: Collection[str]) -> list[conntrack.Flow]:
    """Of `flows`, those that were led to one of the container's `ports` (its addresses are `ips`), and those to where these are
    published that somebody else answers; `own` are the host's addresses. A flow through the host to such a port of another machine
    stays."""
    ours = {(ip, port.container_port) for ip in ips for port in ports}
    everywhere = {AF_INET: {port.host_port for port in ports if port.host_ip in (ANY, ANY4)},
                  AF_INET6: {port.host_port for port in ports if port.host_ip in (ANY, ANY6)}}
    somewhere = {(port.host_ip, port.host_port) for port in ports}
    return [
        flow for flow in flows
        if flow.protocol == conntrack.UDP and (
            (flow.answered_by, flow.answered_by_port) in ours
            or (flow.to, flow.to_port) in somewhere
            or (flow.to_port in everywhere[flow.family] and (flow.to in own or flow.to.startswith("127.")))
        )
    ]  # fmt: skip


def _own_addresses(family: int) -> set[str]:
    with Socket() as netlink:
        return {Address(body).ip for body in netlink.dump(addresses_dump(family))}
