"""The managed bridge: made on first use, tagged as ours, taken down with its network.

    up    ─► create, tag ─► deny in nftables ─► forwarding on the bridge and the uplinks ─► gateway addresses, link up
    down  ─► forwarding as it was ─► link and ports away ─► its elements, or the whole tables, away

Denying comes before forwarding and goes after it, so that at no instant this host is a router for anybody else. What `up` changes
outside of our own links and tables is only forwarding (forwarding.py): it is read before, the engine stores it before it runs the
plan, and hands it to `down` with the last network.
"""

from __future__ import annotations

import errno

from minidocker.errors import KernelError
from minidocker.kernel.netlink import Socket
from minidocker.kernel.rtnetlink import Link, address_add, bridge_create, link_delete, link_set, links_dump
from minidocker.network import firewall, forwarding, others, ruleset, sysctl
from minidocker.network.forwarding import Outward
from minidocker.network.ipam import prefix_length
from minidocker.network.others import Admit, Seen, Withdraw
from minidocker.network.ownership import GROUP, OURS, bridge_mac, inspect_link, link_alias, own_link, state_of
from minidocker.plan import NETWORK, At, Plan, Step, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from minidocker.spec.records import Network


def up(network: Network, tag: str, outward: Outward, seen: Seen, there: bool = False) -> Plan:
    """Make the network, or what is missing of it; `there`: not the bridge. The plan refuses a foreign link of the bridge's name before it
    changes anything."""
    elements = ruleset.network_elements(network)
    wide = elements + ruleset.uplink_elements(outward.guarded, outward.guarded6, outward.advertised)
    ours = f"net/ipv6/conf/{network.bridge}"
    ipv6 = [sysctl.Set(f"{ours}/accept_ra", "0", "no router advertisement from a container is believed", optional=not network.subnet6)]
    if network.subnet6:
        ipv6 += [sysctl.Set(f"{ours}/disable_ipv6", "0", "IPv6, whatever the host has for its other interfaces"),
                 sysctl.Set(f"{ours}/accept_dad", "0", "its addresses are nobody else's, and of use at once")]
    else:
        ipv6.append(sysctl.Set(f"{ours}/disable_ipv6", "1", "IPv6 was not asked for", optional=True))
    return Plan([
        CreateBridge(network, tag, network.mtu or outward.mtu, there),
        firewall.Install(tag, ruleset.skeleton(tag, outward.closed6) + ruleset.adding(tag, wide),
                         "masquerade outward; let nobody in from outside, between networks, or through this host", elements),
        *ipv6,
        *forwarding.start(network, tag, outward),
        *([Admit(network, tag)] if seen.hook else []),
        BringUp(network, tag),
    ])


def down(network: Network, tag: str, restore: dict[str, str], last: bool) -> Plan:
    """Take the network down, what is gone already tolerated. With the `last` one of the data root the host's forwarding becomes what it
    was (`restore`: the stored `Outward.before`) and the nft tables go."""
    steps: list[Step] = forwarding.stop(tag, restore) if last else []
    if others.may_have_hook():
        steps.append(Withdraw(network, tag))
    steps.append(RemoveBridge(network, tag))
    steps.append(firewall.Delete(tag) if last else firewall.RemoveRules(tag, ruleset.network_elements(network)))
    return Plan(steps)


def reload(tag: str, wanted: ruleset.Wanted, outward: Outward | None = None, hooks: Iterable[Network] = ()) -> Plan:
    """Rebuild the nft tables from what should be, in one transaction, after somebody flushed the ruleset; docker's hook for `hooks`, and
    forwarding where `outward` says what to forward."""
    steps: list[Step] = [firewall.Rules(tag, ruleset.rebuilt(tag, wanted), "the tables as they should be")]
    steps += [Admit(network, tag) for network in hooks]
    if outward is not None:
        steps += [step for network in wanted.networks for step in forwarding.start(network, tag, outward)]
    return Plan(steps)


def remove_link(name: str, alias: str) -> Plan:
    """Delete the link `name` if its alias is `alias` (link_alias(tag, id)); anything else of that name is left alone."""
    return Plan([RemoveLink(name, alias)])


class CreateBridge(Step):
    """Create the bridge and tag it, or find it there; refuse a foreign link of its name. Undone only where this made it."""

    title = NETWORK
    why = "a switch, tagged as ours; its MAC is pinned, it would follow its ports'"

    def __init__(self, network: Network, tag: str, mtu: int, there: bool = False) -> None:
        self.network = network
        self.tag = tag
        self.mtu = mtu
        self.there = there
        name = network.bridge
        self.needs = () if there else ((f"! ip link show dev {quote(name)} &> /dev/null", f"there is a link called {name} already"),)
        self.alias = link_alias(tag, network.id)
        self._made = False

    def shell(self) -> str:
        name = quote(self.network.bridge)
        lines = [] if self.there else [f"ip link add {name} address {bridge_mac(self.network)} type bridge"]
        return "\n".join([*lines, f"ip link set {name} alias {quote(self.alias)} mtu {self.mtu} group {GROUP}"])

    def describe(self) -> str:
        return f"create bridge `{self.network.bridge}`"

    def apply(self, at: At) -> None:
        name = self.network.bridge
        with Socket() as netlink:
            if own_link(self.network, self.tag, netlink) is None:
                netlink.batch([bridge_create(name, bridge_mac(self.network))])
                self._made = True
            # Not in the same batch: had the creation failed on a foreign link, this would tag that.
            netlink.batch([link_set(name, alias=self.alias, mtu=self.mtu, group=GROUP)])

    def undo(self, at: At) -> None:
        if self._made:
            RemoveBridge(self.network, self.tag).apply(at)


class BringUp(Step):
    """Give the bridge the gateway's addresses and bring it up."""

    title = NETWORK
    why = "this host is the network's gateway"

    def __init__(self, network: Network, tag: str) -> None:
        self.network = network
        self.tag = tag

    def shell(self) -> str:
        name = quote(self.network.bridge)
        lines = [f"ip addr add {ip}/{prefix} dev {name}" + " nodad" * (":" in ip) for ip, prefix in self._addresses()]
        return "\n".join([*lines, f"ip link set {name} up"])

    def _addresses(self) -> list[tuple[str, int]]:
        n = self.network
        found = [(n.gateway, prefix_length(n.subnet))]
        return [*found, (n.gateway6, prefix_length(n.subnet6))] if n.subnet6 else found

    def apply(self, at: At) -> None:
        with Socket() as netlink:
            link = own_link(self.network, self.tag, netlink)
            if link is None:
                raise KernelError(f"bring up bridge `{self.network.bridge}`", errno.ENODEV)
            netlink.batch([address_add(link.index, ip, prefix) for ip, prefix in self._addresses()], tolerate=(errno.EEXIST,))
            netlink.batch([link_set(link.index, up=True)])


class RemoveBridge(Step):
    """Delete the bridge, and those of our veths still in it: their namespaces die on their own time, `network rm` waits for them."""

    title = NETWORK
    why = "the bridge, and with it the address and the route"

    def __init__(self, network: Network, tag: str) -> None:
        self.network = network
        self.tag = tag

    def shell(self) -> str:
        return f"ip link del {quote(self.network.bridge)}"

    def apply(self, at: At) -> None:
        with Socket() as netlink:
            bridge = inspect_link(self.network.bridge, netlink)
            if bridge is None or state_of(self.network, self.tag, bridge) != OURS:
                return
            ports = [link for link in map(Link, netlink.dump(links_dump()))
                     if link.master == bridge.index and link.alias.startswith(link_alias(self.tag, ""))]
            netlink.batch([link_delete(link.index, link.name) for link in (*ports, bridge)], tolerate=(errno.ENODEV,))


class RemoveLink(Step):
    """Delete a link by name if it has our alias."""

    title = NETWORK
    why = "left over"

    def __init__(self, name: str, alias: str) -> None:
        self.name = name
        self.alias = alias

    def shell(self) -> str:
        return f"ip link del {quote(self.name)}"

    def apply(self, at: At) -> None:
        with Socket() as netlink:
            link = inspect_link(self.name, netlink)
            if link is not None and link.alias == self.alias:
                netlink.batch([link_delete(link.index, link.name)], tolerate=(errno.ENODEV,))
