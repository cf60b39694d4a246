"""A container's place in a bridge network: a veth whose far end is made inside the container's network namespace.

    host namespace                                  container's namespace
    create veth (far end: MAC, MTU, name, netns)
    alias, up, permanent neighbour                  lo up, address, up, permanent neighbour, default route
    published ports: one nft transaction, if any

The veth ends with the namespace; `detach` takes back only what stays on the host.
"""

from __future__ import annotations

import errno
import os

from minidocker.errors import ConflictError, KernelError
from minidocker.kernel.netlink import Socket
from minidocker.kernel.rtnetlink import (
    LOOPBACK,
    address_add,
    default_route_add,
    link_announces,
    link_delete,
    link_set,
    neighbour_add,
    neighbour_delete,
    veth_create,
)
from minidocker.network.ipam import host_mac_of, prefix_length
from minidocker.network.ownership import OURS, Ready, bridge_mac, inspect_link, link_alias, own_link, state_of
from minidocker.plan import NETWORK, At, Plan, Step, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minidocker.spec.records import Endpoint, Network

_IPV6_MINIMUM_MTU = 1280  # below it the kernel gives an interface no IPv6 state that could be set (RFC 8200)
_INSIDE = "nsenter --net=/proc/$PID/ns/net"


def attach(network: Network, tag: str, endpoint: Endpoint, bridge: Ready | None = None) -> Plan:
    """Connect a container: its veth, its address and routes inside, its published ports. `bridge` is what `ready` found (else the
    bridge is looked up when the plan is run); `At.netns` is the container's namespace."""
    steps: list[Step] = [Connect(network, tag, endpoint, bridge), Configure(network, endpoint)]
    if endpoint.ports:
        from minidocker.network import firewall, flows, publish, sysctl  # only with -p

        if any(map(publish.reaches_loopback, endpoint.ports)):
            steps.append(sysctl.Set(f"net/ipv4/conf/{network.bridge}/route_localnet", "1",
                                    "a port published on 127.0.0.1 is answered from the bridge; the table drops all else for 127/8"))
        steps.append(firewall.Publish(tag, endpoint))
        if flows.any_udp(endpoint.ports):
            steps.append(flows.Forget(endpoint))
    return Plan(steps)


def detach(network: Network, tag: str, endpoint: Endpoint) -> Plan:
    """Take back what does not go with the container's namespace: its neighbour entry and its published ports. Idempotent."""
    steps: list[Step] = [Forget(network, tag, endpoint)]
    if endpoint.ports:
        from minidocker.network import firewall, flows, publish

        steps.append(firewall.Remove(tag, publish.elements(endpoint.ports, endpoint.ip), "its published ports"))
        if flows.any_udp(endpoint.ports):
            steps.append(flows.Forget(endpoint))
    return Plan(steps)


def loopback() -> Plan:
    """`--net none`: only lo, up."""
    return Plan([Loopback()])


class Connect(Step):
    """The veth, from the host's side."""

    title = NETWORK
    why = "a cable: one end in the bridge, the other straight in the container's namespace"

    def __init__(self, network: Network, tag: str, endpoint: Endpoint, bridge: Ready | None) -> None:
        self.network = network
        self.tag = tag
        self.endpoint = endpoint
        self.bridge = bridge
        self.alias = link_alias(tag, endpoint.container_id)

    def shell(self) -> str:
        e, name = self.endpoint, quote(self.endpoint.host_link)
        mtu = f"mtu {self._mtu} " if self._mtu else ""
        lines = [
            f"ip link add {name} {mtu}address {host_mac_of(e.ip)} master {quote(self.network.bridge)} type veth "
            f"peer name {quote(e.interface)} {mtu}address {e.mac} netns $PID",
            f"ip link set {name} alias {quote(self.alias)} addrgenmode none",
            f"ip link set {name} up",
            f"ip neigh replace {e.ip} lladdr {e.mac} dev {quote(self.network.bridge)} nud permanent",
        ]
        if e.ports:
            lines.insert(2, f"ip link set {name} type bridge_slave hairpin on")
        return "\n".join(lines)

    @property
    def _mtu(self) -> int:
        return self.network.mtu or (self.bridge.mtu if self.bridge else 0)

    def describe(self) -> str:
        return f"attach `{self.endpoint.container_name}` to bridge `{self.network.bridge}`"

    def apply(self, at: At) -> None:
        e = self.endpoint
        with Socket() as netlink:
            index, mtu = self._bridge(netlink)
            self._create(netlink, index, mtu, at.netns)
            no_link_local = mtu >= _IPV6_MINIMUM_MTU and os.path.exists("/proc/sys/net/ipv6")
            try:
                # Not in one batch with the creation: had that failed on a link of this name, these would change that link.
                netlink.batch([
                    link_set(e.host_link, alias=self.alias, no_link_local=no_link_local, hairpin=bool(e.ports)),
                    link_set(e.host_link, up=True),
                    neighbour_add(index, e.ip, e.mac),
                ])
            except KernelError:
                self._remove(netlink)
                raise

    def undo(self, at: At) -> None:
        with Socket() as netlink:
            self._remove(netlink)
        Forget(self.network, self.tag, self.endpoint).apply(at)

    def _bridge(self, netlink: Socket) -> tuple[int, int]:
        """The bridge's index, and the MTU for both ends."""
        if self.bridge is not None and self.bridge.index:
            return self.bridge.index, self._mtu
        link = own_link(self.network, self.tag, netlink)
        if link is None:
            raise KernelError(self.describe(), errno.ENODEV)
        return link.index, self.network.mtu or link.mtu

    def _create(self, netlink: Socket, index: int, mtu: int, netns: int) -> None:
        e = self.endpoint
        try:
            netlink.batch([veth_create(e.host_link, host_mac_of(e.ip), mtu, index, e.interface, e.mac, netns)])
        except KernelError as error:
            if error.errno == errno.EXFULL:
                raise ConflictError(f"{self.describe()}: the bridge is full, it takes 1,023 containers",
                                    "make another network: minidocker network create NAME") from error
            raise

    def _remove(self, netlink: Socket) -> None:
        link = inspect_link(self.endpoint.host_link, netlink)
        if link is not None and link.kind == "veth" and (link.alias == self.alias or link.mac == host_mac_of(self.endpoint.ip)):
            netlink.batch([link_delete(link.index, link.name)], tolerate=(errno.ENODEV,))


class Configure(Step):
    """The veth's far end, and lo, from inside the container's namespace. Its undo is that namespace's end."""

    title = NETWORK
    why = "the other end: its address and the way out"

    def __init__(self, network: Network, endpoint: Endpoint) -> None:
        self.network = network
        self.endpoint = endpoint

    def shell(self) -> str:
        name = quote(self.endpoint.interface)
        commands = [
            "ip link set lo up",
            f"sysctl -qw net.ipv4.conf.{self.endpoint.interface}.arp_notify=1",
            f"ip addr add {self.endpoint.ip}/{prefix_length(self.network.subnet)} dev {name}",
            f"ip link set {name} up",
            f"ip neigh replace {self.network.gateway} lladdr {bridge_mac(self.network)} dev {name} nud permanent",
        ]
        if not self.network.internal:
            commands.append(f"ip route add default via {self.network.gateway} dev {name}")
        return "\n".join(f"{_INSIDE} {command}" for command in commands)

    def describe(self) -> str:
        return f"configure `{self.endpoint.interface}` of `{self.endpoint.container_name}`"

    def apply(self, at: At) -> None:
        with Socket(at.netns) as netlink:
            link = inspect_link(self.endpoint.interface, netlink)
            if link is None:
                raise KernelError(self.describe(), errno.ENODEV)
            messages = [
                link_set(LOOPBACK, up=True),
                link_announces(link.index),
                address_add(link.index, self.endpoint.ip, prefix_length(self.network.subnet)),
                link_set(link.index, up=True),
                neighbour_add(link.index, self.network.gateway, bridge_mac(self.network)),
            ]
            if not self.network.internal:
                messages.append(default_route_add(link.index, self.network.gateway))
            netlink.batch(messages)


class Forget(Step):
    """Delete the host's neighbour entry of a container that goes."""

    title = NETWORK
    why = "its neighbour entry; the veth goes with the namespace"

    def __init__(self, network: Network, tag: str, endpoint: Endpoint) -> None:
        self.network = network
        self.tag = tag
        self.endpoint = endpoint

    def shell(self) -> str:
        return f"ip neigh del {self.endpoint.ip} dev {quote(self.network.bridge)}"

    def apply(self, at: At) -> None:
        with Socket() as netlink:
            bridge = inspect_link(self.network.bridge, netlink)
            if bridge is not None and state_of(self.network, self.tag, bridge) == OURS:
                netlink.batch([neighbour_delete(bridge.index, self.endpoint.ip)], tolerate=(errno.ENOENT,))


class Loopback(Step):
    """lo up in a namespace that has nothing else."""

    title = NETWORK
    why = "no network but itself"

    def shell(self) -> str:
        return f"{_INSIDE} ip link set lo up"

    def apply(self, at: At) -> None:
        with Socket(at.netns) as netlink:
            netlink.batch([link_set(LOOPBACK, up=True)])
