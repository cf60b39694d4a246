"""A container's place in a network: what joins it, and what has to be taken back when it goes.

In a bridge network that is a veth whose far end is made inside the container's network namespace:

    host namespace                                     container's namespace
    its port of the bridge: what may come in by it
    create veth (far end: MAC, MTU, name, netns)
    alias, up, permanent neighbours                    lo up, addresses, up, permanent neighbours, default route
    published ports: one nft transaction, if any

The veth ends with the namespace; `detach` takes back only what stays on the host. ptp.py and macvlan.py have the other two kinds.
"""

from __future__ import annotations

import errno
import os

from minidocker.errors import ConflictError, KernelError
from minidocker.kernel.netlink import Socket
from minidocker.kernel.rtnetlink import link_delete, link_set, neighbour_add, neighbour_delete, veth_create
from minidocker.kernel.sysctl import write
from minidocker.network import firewall, inside
from minidocker.network.ipam import host_mac_of
from minidocker.network.ownership import FAMILY, FRAMES, OURS, Ready, inspect_link, link_alias, own_link, state_of
from minidocker.network.ruleset import sender_elements
from minidocker.plan import NETWORK, At, Plan, Step, quote
from minidocker.spec.records import BRIDGE, PTP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minidocker.network.ptp import Peer
    from minidocker.spec.records import Endpoint, Network

_IPV6_MINIMUM_MTU = 1280  # below it the kernel gives an interface no IPv6 state that could be set (RFC 8200)


def attach(
    network: Network, tag: str, endpoint: Endpoint, bridge: Ready | None = None, default: bool = True, peer: Peer | None = None,
    default6: bool | None = None,
) -> Plan:
    """Connect a container: its interface, its addresses and routes inside, its published ports. `bridge` is what `ready` found (else the
    bridge is looked up when the plan is run); `default` says that it has its default route by this network, `default6` (else the same) that
    of IPv6; `peer` is the other container of a ptp network. `At.netns` is the container's namespace."""
    configure = inside.Configure(network, endpoint, default, default6)
    if network.driver == PTP:
        from minidocker.network import ptp

        return Plan([ptp.Cable(network, tag, endpoint, peer), configure])
    if network.driver != BRIDGE:
        from minidocker.network import macvlan

        return Plan([macvlan.Create(network, endpoint), configure])
    return Plan([firewall.Guard(tag, endpoint), Connect(network, tag, endpoint, bridge), configure]) + published(network, tag, endpoint)


def published(network: Network, tag: str, endpoint: Endpoint) -> Plan:
    """The container's published ports; its port of the bridge is there already."""
    if not endpoint.ports:
        return Plan()
    from minidocker.network import flows, publish, sysctl  # only with -p

    steps: list[Step] = []
    if any(map(publish.reaches_loopback, endpoint.ports)):
        steps.append(sysctl.Set(f"net/ipv4/conf/{network.bridge}/route_localnet", "1",
                                "a port published on 127.0.0.1 is answered from the bridge; the table drops all else for 127/8"))
    steps += [Hairpin(endpoint), firewall.Publish(tag, endpoint)]
    if flows.any_udp(endpoint.ports):
        steps.append(flows.Forget(endpoint))
    return Plan(steps)


def withdrawn(tag: str, endpoint: Endpoint) -> Plan:
    """Its published ports taken back. Idempotent."""
    if not endpoint.ports:
        return Plan()
    from minidocker.network import flows, publish

    steps: list[Step] = [firewall.Remove(tag, FAMILY, publish.elements(endpoint), "its published ports")]
    if flows.any_udp(endpoint.ports):
        steps.append(flows.Forget(endpoint))
    return Plan(steps)


def detach(network: Network, tag: str, endpoint: Endpoint) -> Plan:
    """Take back what does not go with the container's namespace: in a bridge network its neighbour entries, what may come in by its port,
    and its published ports. Idempotent."""
    if network.driver != BRIDGE:
        return Plan()
    return withdrawn(tag, endpoint) + Plan([
        Forget(network, tag, endpoint),
        firewall.Remove(tag, FRAMES, sender_elements(endpoint), "what was let in from its port"),
    ])  # fmt: skip


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
            f"peer name {quote(e.interface)} {mtu}address {e.mac} netns \"$PID\"",
            f"ip link set {name} alias {quote(self.alias)} addrgenmode none",
            f"sysctl -qw net/ipv6/conf/{e.host_link}/accept_ra=0",
        ]
        if self.network.isolated:
            lines.append(f"ip link set {name} type bridge_slave isolated on")
        lines.append(f"ip link set {name} up")
        bridge = quote(self.network.bridge)
        return "\n".join(lines + [f"ip neigh replace {ip} lladdr {e.mac} dev {bridge} nud permanent" for ip in _ips(e)])

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
            ipv6 = mtu >= _IPV6_MINIMUM_MTU and os.path.exists("/proc/sys/net/ipv6")
            try:
                # Not in one batch with the creation: had that failed on a link of this name, these would change that link.
                if ipv6:
                    write(f"net/ipv6/conf/{e.host_link}/accept_ra", "0")
                netlink.batch([
                    link_set(e.host_link, alias=self.alias, no_link_local=ipv6, isolated=self.network.isolated),
                    link_set(e.host_link, up=True),
                    *(neighbour_add(index, ip, e.mac) for ip in _ips(e)),
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


def _ips(endpoint: Endpoint) -> list[str]:
    return [endpoint.ip, *([endpoint.ip6] if endpoint.ip6 else [])]


class Hairpin(Step):
    """Let the bridge send back by a port what came in by it."""

    title = NETWORK
    why = "the container itself reaches its published ports, too"

    def __init__(self, endpoint: Endpoint) -> None:
        self.link = endpoint.host_link

    def shell(self) -> str:
        return f"ip link set {quote(self.link)} type bridge_slave hairpin on"

    def apply(self, at: At) -> None:
        with Socket() as netlink:
            netlink.batch([link_set(self.link, hairpin=True)])


class Forget(Step):
    """Delete the host's neighbour entries of a container that goes."""

    title = NETWORK
    why = "its neighbour entries; the veth goes with the namespace"

    def __init__(self, network: Network, tag: str, endpoint: Endpoint) -> None:
        self.network = network
        self.tag = tag
        self.endpoint = endpoint

    def shell(self) -> str:
        return "\n".join(f"ip neigh del {ip} dev {quote(self.network.bridge)}" for ip in _ips(self.endpoint))

    def apply(self, at: At) -> None:
        with Socket() as netlink:
            bridge = inspect_link(self.network.bridge, netlink)
            if bridge is not None and state_of(self.network, self.tag, bridge) == OURS:
                # EINVAL: somebody has switched the bridge's IPv6 off, and with it went what is to be deleted
                netlink.batch([neighbour_delete(bridge.index, ip) for ip in _ips(self.endpoint)], tolerate=(errno.ENOENT, errno.EINVAL))
