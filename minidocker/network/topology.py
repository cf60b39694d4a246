"""How this host and its containers are joined, as data: what the kernel has now, with our records' names on it. Read, never changed. Cold.

    Topology ─┬─ Uplink           a way out of this host: its addresses, and the gateway of a default route by it
              ├─ Segment          a bridge, a cable or a wire that several share; ours, or somebody else's
              │    └─ Joint       one end of it: a container's interface, or a foreign port
              └─ routes           the main table, as `ip route` prints it
"""

from __future__ import annotations

import os
from _socket import AF_INET, AF_INET6

from minidocker.kernel import routes
from minidocker.kernel.netlink import Socket
from minidocker.kernel.rtnetlink import IFF_LOOPBACK, IFF_UP, RT_TABLE_MAIN, Address, Route, addresses_dump, routes_dump
from minidocker.network import ownership
from minidocker.spec.records import BRIDGE, MACVLAN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from minidocker.kernel.routes import Port
    from minidocker.spec.records import Endpoint, Network

_NO_UPLINKS = ("veth", "bridge")


class Uplink:
    """`name` of the link, its `addresses` with prefixes, `gateways` of default routes by it, whether it `is_up`, its `index` and `mac`."""

    __slots__ = ("addresses", "gateways", "index", "is_up", "mac", "name")

    def __init__(self, port: Port, addresses: list[str], gateways: list[str]) -> None:
        self.name, self.index, self.mac, self.is_up = port.name, port.index, port.mac, bool(port.flags & IFF_UP)
        self.addresses, self.gateways = addresses, gateways


class Joint:
    """`container` whose `interface` it is, "" where it is nobody's that we know; `link` the host's end ("" where there is none) with its
    `index`, 0 where it is not there; `addresses`, `mac`, `ports` published by it, as (host's, container's) texts; `is_up` on the host."""

    __slots__ = ("addresses", "container", "index", "interface", "is_up", "link", "mac", "ports")

    def __init__(self, link: str, container: str = "", interface: str = "", addresses: Sequence[str] = (), mac: str = "",
                 ports: Sequence[tuple[str, str]] = ()) -> None:
        self.link, self.container, self.interface, self.mac = link, container, interface, mac
        self.addresses, self.ports = list(addresses), list(ports)
        self.index, self.is_up = 0, False


class Segment:
    """`name` of the network, or of a foreign link; `driver` "bridge", "ptp", "macvlan", or a foreign link's kind; `link` its interface on
    the host ("" for a cable), `index` 0 where that is not there; `addresses` of it, `subnets`; `notes` what is special about it; `ours`."""

    __slots__ = ("addresses", "driver", "index", "is_up", "joints", "link", "name", "notes", "ours", "subnets")

    def __init__(self, name: str, driver: str, link: str, ours: bool) -> None:
        self.name, self.driver, self.link, self.ours = name, driver, link, ours
        self.addresses: list[str] = []
        self.subnets: list[str] = []
        self.notes: list[str] = []
        self.joints: list[Joint] = []
        self.index, self.is_up = 0, False

    def found(self, port: Port | None, addresses: dict[int, list[str]]) -> None:
        """Its link, as the kernel has it."""
        if port is not None:
            self.index, self.is_up = port.index, bool(port.flags & IFF_UP)
            self.addresses = addresses.get(port.index, [])


class Topology:
    """All of it; `host` is this host's name."""

    __slots__ = ("host", "routes", "segments", "uplinks")

    def __init__(self, host: str) -> None:
        self.host = host
        self.uplinks: list[Uplink] = []
        self.segments: list[Segment] = []
        self.routes: list[str] = []

    def data(self) -> dict[str, object]:
        """For JSON."""
        return {
            "host": self.host, "routes": self.routes,
            "uplinks": [{"link": one.name, "up": one.is_up, "mac": one.mac, "addresses": one.addresses, "gateways": one.gateways}
                        for one in self.uplinks],
            "networks": [{
                "name": one.name, "driver": one.driver, "link": one.link, "up": one.is_up, "ours": one.ours, "subnets": one.subnets,
                "addresses": one.addresses, "notes": one.notes, "endpoints": [{
                    "container": joint.container, "interface": joint.interface, "link": joint.link, "up": joint.is_up,
                    "addresses": joint.addresses, "mac": joint.mac, "published": [{"host": outer, "container": inner}
                                                                                   for outer, inner in joint.ports],
                } for joint in one.joints],
            } for one in self.segments],
        }  # fmt: skip


def read(networks: Iterable[Network], endpoints: Iterable[Endpoint], tag: str, only: Sequence[str] = ()) -> Topology:
    """See what there is; `only` names the networks to be shown, and then nothing foreign is."""
    with Socket() as netlink:
        ports = routes.ports(netlink)
        addresses: dict[int, list[str]] = {}
        for family in (AF_INET, AF_INET6):
            for address in (Address(body) for body in netlink.dump(addresses_dump(family))):
                if not address.ip.startswith("fe80:"):
                    addresses.setdefault(address.index, []).append(f"{address.ip}/{address.prefix}")
        table = [routes.Way(body) for family in (AF_INET, AF_INET6) for body in netlink.dump(routes_dump(family))]
    found = Topology(os.uname().nodename)
    joints: dict[str, list[Joint]] = {}
    for endpoint in endpoints:
        joints.setdefault(endpoint.network, []).append(_joint(endpoint))
    masked = ownership.installed(tag)
    by_name = {port.name: port for port in ports.values()}
    for network in networks:
        if not only or network.name in only:
            found.segments.append(_segment(network, joints.get(network.name, []), by_name, addresses, masked))
    names = {index: port.name for index, port in ports.items()}
    shown = {segment.index for segment in found.segments}
    found.routes = [way.text(names) for way in table if way.table == RT_TABLE_MAIN and not way.destination.startswith(("fe80:", "ff"))
                    and (not only or way.prefix == 0 or shown.intersection(way.devices))]  # fmt: skip
    ours = {segment.link for segment in found.segments if segment.driver == BRIDGE} | {network.bridge for network in networks}
    found.uplinks = [Uplink(port, addresses.get(port.index, []), _gateways(table, port.index)) for port in ports.values()
                     if _is_uplink(port, addresses)]  # fmt: skip
    if not only:
        found.segments += _foreign(ports, addresses, ours)
    return found


def _is_uplink(port: Port, addresses: dict[int, list[str]]) -> bool:
    """A link by which the host itself has an address, and that is neither a bridge nor a port or a cable of ours."""
    if port.flags & IFF_LOOPBACK or port.master or port.kind == "bridge" or port.alias.startswith("minidocker:"):
        return False
    return port.kind not in _NO_UPLINKS or port.index in addresses


def _gateways(table: Iterable[Route], index: int) -> list[str]:
    return [way.gateway for way in table if way.prefix == 0 and way.table == RT_TABLE_MAIN and index in way.devices and way.gateway]


def _joint(endpoint: Endpoint) -> Joint:
    published = [(f"{port.host}:{port.host_port}", f"{port.container_port}/{port.protocol}") for port in endpoint.ports]
    return Joint(endpoint.host_link, endpoint.container_name, endpoint.interface, [ip for ip in (endpoint.ip, endpoint.ip6) if ip],
                 endpoint.mac, published)


def _segment(network: Network, joints: list[Joint], ports: dict[str, Port], addresses: dict[int, list[str]], masked: bool) -> Segment:
    segment = Segment(network.name, network.driver, network.bridge or network.parent, True)
    segment.subnets = [subnet for subnet in (network.subnet, network.subnet6) if subnet]
    segment.found(ports.get(segment.link), addresses)
    segment.joints = sorted(joints, key=lambda joint: (joint.container, joint.interface))
    for joint in segment.joints:
        port = ports.get(joint.link)
        if network.driver != BRIDGE or port is None:
            joint.link = joint.link if port is not None else ""
        if port is not None:
            joint.index, joint.is_up = port.index, bool(port.flags & IFF_UP)
    if network.driver == BRIDGE:
        segment.notes = ["internal: no way out"] if network.internal else ["masqueraded outward"] if masked else ["NOT masqueraded"]
        segment.notes += ["isolated: not to each other"] if network.isolated else []
        segment.notes += [] if segment.index else ["its bridge is not there"]
        segment.notes += [] if segment.is_up or not segment.index else ["down"]
    elif network.driver == MACVLAN:
        segment.notes = [f"macvlan ({network.mode or 'bridge'}) on {network.parent}"]
        segment.addresses = []
    else:
        segment.notes = ["a cable, nothing of the host"]
    return segment


def _foreign(ports: dict[int, Port], addresses: dict[int, list[str]], ours: set[str]) -> list[Segment]:
    """Other engines' bridges, and by hand: what is plugged into them is known by its name alone."""
    found = []
    for port in ports.values():
        if port.kind == "bridge" and port.name not in ours:
            segment = Segment(port.name, "bridge", port.name, False)
            segment.found(port, addresses)
            segment.notes = ["of another data root" if port.alias.startswith("minidocker:") else "not minidocker's"]
            for plugged in ports.values():
                if plugged.master == port.index:
                    joint = Joint(plugged.name, mac=plugged.mac)
                    joint.index, joint.is_up = plugged.index, bool(plugged.flags & IFF_UP)
                    segment.joints.append(joint)
            found.append(segment)
    return found
