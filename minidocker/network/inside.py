"""The container's side of a network, done from its namespace: addresses, neighbours, the default route. Its undo is the namespace's end."""

from __future__ import annotations

import errno

from minidocker.errors import KernelError
from minidocker.kernel import sysctl
from minidocker.kernel.netlink import Socket
from minidocker.kernel.rtnetlink import (
    LOOPBACK,
    address_add,
    default_route,
    link_announces,
    link_delete,
    link_set,
    neighbour_add,
)
from minidocker.network.ipam import prefix_length
from minidocker.network.ownership import bridge_mac, inspect_link
from minidocker.plan import NETWORK, At, Step, quote
from minidocker.spec.records import BRIDGE, PTP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from minidocker.spec.records import Endpoint, Network

_INSIDE = 'nsenter --target "$PID" --net'


def in_there(commands: Sequence[str]) -> str:
    """`commands` as they are typed on the host for the container's namespace."""
    return "\n".join(f"{_INSIDE} {command}" for command in commands)


def leads_out(network: Network) -> bool:
    """Whether a container can have its default route by this network."""
    return network.driver != PTP and not network.internal


def _addresses(network: Network, endpoint: Endpoint) -> list[tuple[str, int]]:
    found = [(endpoint.ip, prefix_length(network.subnet))]
    return [*found, (endpoint.ip6, prefix_length(network.subnet6))] if endpoint.ip6 else found


def _gateways(network: Network, endpoint: Endpoint, ipv4: bool = True, ipv6: bool = True) -> list[str]:
    return [*([network.gateway] if ipv4 else []), *([network.gateway6] if endpoint.ip6 and ipv6 else [])]


def _ipv6_settings(interface: str) -> list[tuple[str, str]]:
    """IPv6 for this interface, by what was leased alone: nobody's advertisements, no search for who else has the address."""
    conf = f"net/ipv6/conf/{interface}"
    return [("net/ipv6/conf/lo/disable_ipv6", "0"), (f"{conf}/accept_ra", "0"), (f"{conf}/accept_dad", "0"), (f"{conf}/ndisc_notify", "1"),
            (f"{conf}/disable_ipv6", "0")]  # fmt: skip


class Configure(Step):
    """An interface of the container's, and lo, from inside its namespace; `default` says that its gateway gives the default route,
    `default6` (else the same) that it gives that of IPv6."""

    title = NETWORK
    why = "the other end: its address and the way out"

    def __init__(self, network: Network, endpoint: Endpoint, default: bool, default6: bool | None = None) -> None:
        self.network = network
        self.endpoint = endpoint
        out = leads_out(network)
        self.defaults = _gateways(network, endpoint, out and default, out and (default if default6 is None else default6))

    def shell(self) -> str:
        name = quote(self.endpoint.interface)
        commands = ["ip link set lo up", f"sysctl -qw net.ipv4.conf.{self.endpoint.interface}.arp_notify=1"]
        if self.endpoint.ip6:
            commands.append("sysctl -qw " + " ".join(f"{key}={value}" for key, value in _ipv6_settings(self.endpoint.interface)))
        addresses = _addresses(self.network, self.endpoint)
        commands += [f"ip addr add {ip}/{prefix} dev {name}" + " nodad" * (":" in ip) for ip, prefix in addresses]
        commands.append(f"ip link set {name} up")
        if self.network.driver == BRIDGE:
            commands += [f"ip neigh replace {gateway} lladdr {bridge_mac(self.network)} dev {name} nud permanent"
                         for gateway in _gateways(self.network, self.endpoint)]  # fmt: skip
        return in_there(commands + _default_commands(self.endpoint, self.defaults))

    def describe(self) -> str:
        return f"configure `{self.endpoint.interface}` of `{self.endpoint.container_name}`"

    def apply(self, at: At) -> None:
        if self.endpoint.ip6:
            sysctl.write_in(at.netns, _ipv6_settings(self.endpoint.interface))
        with Socket(at.netns) as netlink:
            link = inspect_link(self.endpoint.interface, netlink)
            if link is None:
                raise KernelError(self.describe(), errno.ENODEV)
            messages = [link_set(LOOPBACK, up=True), link_announces(link.index)]
            messages += [address_add(link.index, ip, prefix) for ip, prefix in _addresses(self.network, self.endpoint)]
            messages.append(link_set(link.index, up=True))
            if self.network.driver == BRIDGE:  # the bridge's MAC is ours to know; a ptp network has no gateway, a macvlan's is a stranger
                gateways = _gateways(self.network, self.endpoint)
                messages += [neighbour_add(link.index, gateway, bridge_mac(self.network)) for gateway in gateways]
            netlink.batch(messages + [default_route(link.index, gateway) for gateway in self.defaults])


def _default_commands(endpoint: Endpoint, gateways: Sequence[str]) -> list[str]:
    return [f"ip {'-6 ' * (':' in gateway)}route replace default via {gateway} dev {quote(endpoint.interface)}" for gateway in gateways]


class Reroute(Step):
    """Give a container its default route by another of its networks; `ipv4` and `ipv6` say of which families."""

    title = NETWORK
    why = "the default route goes by the network whose gateway has the highest priority, the first of equals"

    def __init__(self, network: Network, endpoint: Endpoint, ipv4: bool = True, ipv6: bool = True) -> None:
        self.endpoint = endpoint
        self.gateways = _gateways(network, endpoint, ipv4, ipv6)

    def shell(self) -> str:
        return in_there(_default_commands(self.endpoint, self.gateways))

    def describe(self) -> str:
        return f"set the default route of `{self.endpoint.container_name}`"

    def apply(self, at: At) -> None:
        with Socket(at.netns) as netlink:
            link = inspect_link(self.endpoint.interface, netlink)
            if link is None:
                raise KernelError(self.describe(), errno.ENODEV)
            netlink.batch([default_route(link.index, gateway) for gateway in self.gateways])


class Unplug(Step):
    """Delete an interface of a container that goes on without it; gone already is no matter."""

    title = NETWORK
    why = "the interface, and with it what leads there"

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    def shell(self) -> str:
        return in_there([f"ip link del {quote(self.endpoint.interface)}"])

    def apply(self, at: At) -> None:
        with Socket(at.netns) as netlink:
            link = inspect_link(self.endpoint.interface, netlink)
            if link is not None and link.mac == self.endpoint.mac:
                netlink.batch([link_delete(link.index, link.name)], tolerate=(errno.ENODEV,))


class Loopback(Step):
    """lo up in a namespace that has nothing else."""

    title = NETWORK
    why = "no network but itself"

    def shell(self) -> str:
        return in_there(["ip link set lo up"])

    def apply(self, at: At) -> None:
        with Socket(at.netns) as netlink:
            netlink.batch([link_set(LOOPBACK, up=True)])
