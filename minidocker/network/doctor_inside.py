"""What is wrong inside of a container's network namespace, and with the links that lead there: what it has, held against what it was
leased. Looks, and changes nothing. Cold."""

from __future__ import annotations

from _socket import AF_INET, AF_INET6

from minidocker.kernel import rtnetlink
from minidocker.kernel.netlink import Socket
from minidocker.kernel.rtnetlink import IFF_UP, RT_TABLE_MAIN, Address, Link, Route
from minidocker.network import causes, publish
from minidocker.network.causes import Finding
from minidocker.network.doctor_mend import Mend
from minidocker.network.inside import leads_out
from minidocker.network.ipam import prefix_length

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from minidocker.spec.records import Endpoint, Network, Port


class Inside:
    """A running container's network as the kernel has it: `name`, `pid` of its first process, `members` (network, endpoint) the places it
    was leased, `links` by name, `addresses` and `routes`, and the host's `ports` by name."""

    def __init__(self, name: str, pid: int, netns: int, members: list[tuple[Network, Endpoint]], ports: dict[str, Link]) -> None:
        self.name, self.pid, self.members, self.ports = name, pid, members, ports
        with Socket(netns) as netlink:
            self.links = {link.name: link for link in map(Link, netlink.dump(rtnetlink.links_dump()))}
            self.addresses = [Address(body) for family in (AF_INET, AF_INET6) for body in netlink.dump(rtnetlink.addresses_dump(family))]
            routes = [Route(body) for family in (AF_INET, AF_INET6) for body in netlink.dump(rtnetlink.routes_dump(family))]
        self.defaults_unknown = False  # it is in networks that are not among `members`
        self.defaults = [route for route in routes if route.prefix == 0 and route.table == RT_TABLE_MAIN and route.gateway]

    def examine(self) -> Iterator[Finding]:
        """All of it."""
        for network, endpoint in self.members:
            link = self.links.get(endpoint.interface)
            if link is None:
                yield causes.link_gone(network, self.name, endpoint.interface)
                continue
            if not link.flags & IFF_UP:
                mend = Mend(self.pid, [rtnetlink.link_set(link.index, up=True)])
                yield causes.link_down(network, self.name, link.name).mended_by(mend)
            yield from self._addresses(network, endpoint, link)
            yield from self._outer_end(network, endpoint, link)
        if not self.defaults_unknown:
            yield from self._ways_out()
        for network, endpoint in self.members:
            yield from (self._listens(network, endpoint, port) for port in endpoint.ports if self._nobody(port))

    def _addresses(self, network: Network, endpoint: Endpoint, link: Link) -> Iterator[Finding]:
        had = {address.ip for address in self.addresses if address.index == link.index}
        for ip, subnet in ((endpoint.ip, network.subnet), (endpoint.ip6, network.subnet6)):
            if ip and ip not in had:
                length = prefix_length(subnet)
                mend = Mend(self.pid, [rtnetlink.address_add(link.index, ip, length)])
                yield causes.address_missing(network, self.name, f"{ip}/{length}", link.name).mended_by(mend)
        if link.mac != endpoint.mac:
            yield causes.mac_changed(network, self.name, link.name, link.mac, endpoint.mac)

    def _outer_end(self, network: Network, endpoint: Endpoint, link: Link) -> Iterator[Finding]:
        """The host's end of its cable, where it has one."""
        if not network.bridge:
            return
        port, bridge = self.ports.get(endpoint.host_link), self.ports.get(network.bridge)
        if port is None or (bridge is not None and port.master != bridge.index):
            yield causes.unplugged(network, self.name, endpoint.host_link, port is not None)
            return
        if not port.flags & IFF_UP:
            mend = Mend(0, [rtnetlink.link_set(port.index, up=True)])
            yield causes.link_down(network, causes.HOST, port.name).mended_by(mend)
        if port.mtu < link.mtu:
            mend = Mend(0, [rtnetlink.link_set(port.index, mtu=link.mtu)])
            yield causes.mtu(network, link.mtu, causes.HOST, port.name, port.mtu).mended_by(mend)

    def _ways_out(self) -> Iterator[Finding]:
        """One default route of each family, by the gateway of the network that is to give it."""
        for six in (False, True):
            candidates = [(network, place) for network, place in self.members
                          if leads_out(network) and (place.ip6 if six else network.gateway)]  # fmt: skip
            if not candidates:
                continue
            network, endpoint = max(candidates, key=lambda one: (one[1].priority, -one[1].number))
            gateway, link = network.gateway6 if six else network.gateway, self.links.get(endpoint.interface)
            if link is None or not gateway:
                continue
            ways = [route for route in self.defaults if (":" in route.gateway) == six]
            mend = Mend(self.pid, [rtnetlink.default_route(link.index, gateway)])
            if not ways:
                yield causes.no_route(self.name, "the world", network, gateway, link.name).mended_by(mend)
            elif gateway not in {way.gateway for way in ways}:
                yield causes.wrong_gateway(network, self.name, ways[0].gateway, gateway, link.name).mended_by(mend)

    def _nobody(self, port: Port) -> bool:
        """Whether no socket of the container would take what is published: none, or one of its loopback alone."""
        if port.protocol not in publish.LISTED:
            return False  # the kernel may have no SCTP, and then no list of it
        return not any(number == port.container_port and not publish.is_loopback(address)
                       for address, number, _ in publish.listening(port.protocol, self.pid))  # fmt: skip

    def _listens(self, network: Network, endpoint: Endpoint, port: Port) -> Finding:
        finding = causes.refused(self.name, endpoint.ip, port.protocol, port.container_port)
        finding.network = network.name
        return finding


def duplicates(every: Iterable[Inside]) -> Iterator[Finding]:
    """Addresses and MACs that two containers of one network have; the one that was leased it is named first."""
    seen: dict[tuple[str, str], tuple[str, bool]] = {}
    for inside in every:
        for network, endpoint in inside.members:
            link = inside.links.get(endpoint.interface)
            if link is None:
                continue
            mine = [address.ip for address in inside.addresses if address.index == link.index and not address.ip.startswith("fe80:")]
            for what in (*mine, link.mac):
                leased = what in (endpoint.ip, endpoint.ip6, endpoint.mac)
                other, others_lease = seen.setdefault((network.name, what), (inside.name, leased))
                if other != inside.name:
                    yield causes.duplicate(network, what, *((other, inside.name) if others_lease else (inside.name, other)))
