"""network trace: whom the ends name, from the records and the host's own links; then network/trace.py."""

from __future__ import annotations

import os
from _socket import AF_INET, AF_INET6

from minidocker.engine import reconcile, wiring
from minidocker.engine.host import Host
from minidocker.errors import NotFoundError, StateError, UsageError
from minidocker.kernel.netlink import Socket
from minidocker.kernel.packet import ICMP, ICMP6, NUMBERS
from minidocker.kernel.rtnetlink import Address, Route, addresses_dump, routes_dump
from minidocker.network import causes, trace
from minidocker.network.trace import ADDRESS, CONTAINER, OUTSIDE, End, Journey
from minidocker.network.trace_path import Place
from minidocker.network.trace_rules import Watch
from minidocker.spec import parse_network
from minidocker.storage import containers, networks
from minidocker.storage.containers import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minidocker.network.trace_path import Passage

_MAIN = 254


class Request:
    """`source` and `target` as they were typed, `port` 0 for none, `protocol` "tcp", "udp" or "icmp"."""

    __slots__ = ("port", "protocol", "source", "target")

    def __init__(self, source: str, target: str, port: int, protocol: str) -> None:
        self.source, self.target, self.port, self.protocol = source, target, port, protocol


class Ends:
    """Who the ends are. The descriptors of their namespaces close with it."""

    def __init__(self, host: Host, request: Request) -> None:
        reconcile.look(host)
        self.host = host
        self.request = request
        self.places: dict[str, Place] = {}
        self.networks = networks.every(host.state)
        self.by_container = containers.endpoints(host.state)
        self.here = self._place(causes.HOST, os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        with Socket() as netlink:
            self.own = {Address(body).ip for family in (AF_INET, AF_INET6) for body in netlink.dump(addresses_dump(family))}
            self.routes = [Route(body) for family in (AF_INET, AF_INET6) for body in netlink.dump(routes_dump(family))]
        try:
            self.source, self.target = self._end(request.source), self._end(request.target)
            self._settle()
        except BaseException:
            self.close()
            raise

    def _place(self, name: str, netns: int, record: Record | None = None) -> Place:
        members = [(network, endpoint) for endpoint in self.by_container.get(record.id, []) for network in self.networks
                   if network.name == endpoint.network] if record else []  # fmt: skip
        self.places[name] = Place(name, netns, members)
        return self.places[name]

    def _end(self, text: str) -> End:
        if text == causes.HOST:
            return End(text, trace.HOST, self.here)
        if text == OUTSIDE:
            return End(text, OUTSIDE, None)
        if parse_network.packed(text) is not None or parse_network.packed6(text) is not None:
            return self._of_address(parse_network.canonical6(text))
        try:
            return self._container(text, containers.find(self.host.state, text))
        except NotFoundError as error:
            raise NotFoundError(error.message, error.hint + "; or give `host`, `outside` or an address") from error

    def _of_address(self, address: str) -> End:
        if address in self.own or address.startswith("127."):
            return End(address, trace.HOST, self.here, address)
        for id, places in self.by_container.items():
            if any(address in (one.ip, one.ip6) for one in places):
                record = containers.get(self.host.state, id)
                if record is not None and record.status == containers.RUNNING:
                    end = self._container(address, record)
                    end.address = address
                    return end
        return End(address, ADDRESS, None, address)

    def _container(self, text: str, record: Record) -> End:
        if record.status != containers.RUNNING:
            raise StateError(f"container `{record.name}` is {record.status}", "it has a network only while it runs")
        kind, _, other = record.request.mode.partition(":")
        if kind == "container":
            return self._container(text, containers.find(self.host.state, other))
        if kind == "host":
            return End(text, trace.HOST, self.here)
        name = record.short_id if record.name == causes.HOST else record.name  # who is called as the host is called is known by his id
        if name in self.places:
            return End(text, CONTAINER, self.places[name])
        netns = wiring.namespace(record)
        if netns < 0:
            raise StateError(f"container `{record.name}` has just ended")
        return End(text, CONTAINER, self._place(name, netns, record))

    def _settle(self) -> None:
        """Addresses for those ends that were named otherwise."""
        source, target = self.source, self.target
        if source.place is None and target.place is None:
            raise UsageError("both ends are outside of this host", "one of them must be a container, `host`, or an address of this host")
        if source.place is target.place and source.kind == CONTAINER:
            raise UsageError("both ends are the same container", "trace from another, or from `host`")
        six = ":" in (source.address or target.address)
        for end in (source, target):
            if end.kind == OUTSIDE:
                end.address = self._gateway(six)
        target.address = target.address or self._address_of_target(six)
        if source.address and (":" in source.address) != (":" in target.address):
            raise UsageError(f"`{source.text}` and `{target.text}` are of two families", "give both as IPv4 or both as IPv6")

    def _gateway(self, six: bool) -> str:
        """Who speaks for the world: the next router, the one of whom this host knows that he is there."""
        ways = [route for route in self.routes if route.prefix == 0 and route.gateway and route.table == _MAIN
                and (":" in route.gateway) == six]  # fmt: skip
        if not ways:
            raise StateError("this host has no default route by a gateway, so nobody speaks for `outside`", "give an address instead")
        return min(ways, key=lambda route: route.priority).gateway

    def _address_of_target(self, six: bool) -> str:
        source, target = self.source, self.target
        mine = {network.name for network, _ in source.place.members} if source.place else set()
        if target.kind == CONTAINER and target.place is not None:
            members = sorted(target.place.members, key=lambda one: one[0].name not in mine)
            found = next((endpoint.ip6 if six else endpoint.ip for _, endpoint in members), "")
            if not found:
                raise StateError(f"container `{target.text}` has no address to send to", "it is in no network, or has no IPv6")
            return found
        if source.place is not None and source.kind == CONTAINER:
            gateway = next((network.gateway6 if six else network.gateway for network, _ in source.place.members if network.gateway), "")
            if gateway:
                return gateway
        if source.place is not None:
            return "::1" if six else "127.0.0.1"
        return self.here.decide(source.address)[0].source

    def journey(self) -> Journey:
        """What is to be tried; a port that a container publishes leads on into that container."""
        protocol = NUMBERS[self.request.protocol]
        protocol = ICMP6 if protocol == ICMP and ":" in self.target.address else protocol
        places = [place for place in (self.source.place, self.here, self.target.place) if place is not None]
        if self.target.place is self.here and (behind := self._behind()) is not None:
            places.append(behind)
        return Journey(self.source, self.target, protocol, self.request.port, list(dict.fromkeys(places)), self.networks, self.host.tag)

    def _behind(self) -> Place | None:
        for id, ports in containers.ports(self.host.state).items():
            for port in ports:
                if (port.host_port, port.protocol) == (self.request.port, self.request.protocol):
                    record = containers.get(self.host.state, id)
                    if record is not None and record.status == containers.RUNNING:
                        return self._container(record.name, record).place
        return None

    def watch(self) -> Watch:
        """Whom --listen hears: what the ends have for addresses, and the ports that lead to the one asked for."""
        six = ":" in self.target.address
        sources, targets = _addresses(self.source, six), _addresses(self.target, six)
        asked = [self.request.port] if self.request.port else []
        if self.target.place is not None and asked:
            published = [port for _, endpoint in self.target.place.members for port in endpoint.ports
                         if port.container_port == self.request.port and port.protocol == self.request.protocol]  # fmt: skip
            asked += [port.host_port for port in published]
            targets = [] if published else targets
        protocol = NUMBERS[self.request.protocol]
        return Watch(ICMP6 if six and protocol == ICMP else protocol, sources, targets, sorted(set(asked)), six)

    def close(self) -> None:
        for place in self.places.values():
            os.close(place.netns)

    def __enter__(self) -> Ends:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _addresses(end: End, six: bool) -> list[str]:
    """What an end can be seen as; none for anybody."""
    if end.place is not None and end.place.members:
        return [one for _, endpoint in end.place.members for one in (endpoint.ip6 if six else endpoint.ip,) if one]
    return [end.address] if end.kind == ADDRESS else []


def once(host: Host, request: Request) -> Journey:
    """Send one probe."""
    with Ends(host, request) as ends:
        return trace.probe(ends.journey())


def listen(host: Host, request: Request) -> Iterator[Passage]:
    """Watch real traffic between the ends."""
    with Ends(host, request) as ends:
        yield from trace.watch(ends.journey().places, ends.watch())
