"""A macvlan network: containers on the wire of one of the host's interfaces, each with a MAC of its own, as if they were plugged in there.

Nothing of it passes the host's own network: no bridge, no masquerading, no published ports. The kernel lets a container and the
host itself not speak with each other over the parent.
"""

from __future__ import annotations

from _socket import AF_INET

from minidocker.errors import NotFoundError
from minidocker.kernel.netlink import Socket
from minidocker.kernel.rtnetlink import Address, Link, Route, addresses_dump, macvlan_create, routes_dump
from minidocker.network.inside import Unplug
from minidocker.network.ownership import inspect_link
from minidocker.plan import NETWORK, At, Step, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minidocker.spec.records import Endpoint, Network

DEFAULT_MODE = "bridge"


class Parent:
    """The host's interface under the network, as it is: its `subnet` there ("" where it has no IPv4 address), the `gateway` by it ("" for
    none) and the host's own `addresses` on it."""

    __slots__ = ("addresses", "gateway", "link", "subnet")

    def __init__(self, name: str) -> None:
        """Raises NotFoundError where the host has no such interface. Cold: dumps addresses and routes."""
        with Socket() as netlink:
            self.link = parent_link(name, netlink)
            own = [a for a in map(Address, netlink.dump(addresses_dump(AF_INET))) if a.index == self.link.index]
            routes = [r for r in map(Route, netlink.dump(routes_dump(AF_INET))) if self.link.index in r.devices and r.type == "unicast"]
        self.addresses = [address.ip for address in own]
        direct = [f"{r.destination}/{r.prefix}" for r in routes if not r.gateway and r.prefix]
        self.subnet = next((subnet for subnet in direct), "")
        self.gateway = next((r.gateway for r in routes if r.gateway and not r.prefix), "")


def parent_link(name: str, netlink: Socket) -> Link:
    link = inspect_link(name, netlink)
    if link is None:
        raise NotFoundError(f"this host has no interface `{name}`", "ip -br link shows which there are")
    return link


class Create(Step):
    """The interface, made on the parent and straight in the container's namespace; it goes with that."""

    title = NETWORK
    why = "an interface of its own on the host's wire"

    def __init__(self, network: Network, endpoint: Endpoint) -> None:
        self.network = network
        self.endpoint = endpoint

    def shell(self) -> str:
        mtu = f"mtu {self.network.mtu} " if self.network.mtu else ""
        return (f"ip link add {quote(self.endpoint.interface)} {mtu}address {self.endpoint.mac} link {quote(self.network.parent)} "
                f'netns "$PID" type macvlan mode {self.network.mode or DEFAULT_MODE}')

    def describe(self) -> str:
        return f"connect `{self.endpoint.container_name}` to `{self.network.parent}`"

    def apply(self, at: At) -> None:
        e = self.endpoint
        with Socket() as netlink:
            parent = parent_link(self.network.parent, netlink)
            mode = self.network.mode or DEFAULT_MODE
            netlink.batch([macvlan_create(parent.index, mode, e.interface, e.mac, self.network.mtu, at.netns)])

    def undo(self, at: At) -> None:
        """In a container that goes on without it; of one that does not the namespace's end is enough."""
        Unplug(self.endpoint).apply(at)
