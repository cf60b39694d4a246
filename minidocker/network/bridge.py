"""The managed bridge: made on first use, tagged as ours, taken down with its network.

    up    ─► create, tag ─► deny in nftables ─► forwarding on the bridge and the uplinks ─► gateway address, link up
    down  ─► forwarding as it was ─► link and ports away ─► its elements, or the whole table, away

Denying comes before forwarding and goes after it, so that at no instant this host is a router for anybody else. What `up` changes
outside of our own links and table is only the uplinks' forwarding; `observed` reads it before, the engine stores that before it
runs the plan, and hands it to `down` with the last network.
"""

from __future__ import annotations

import errno

from minidocker.errors import KernelError
from minidocker.kernel import sysctl as settings
from minidocker.kernel.netlink import Socket
from minidocker.kernel.rtnetlink import (
    IFF_LOOPBACK,
    Link,
    Route,
    address_add,
    bridge_create,
    link_delete,
    link_set,
    links_dump,
    routes_dump,
)
from minidocker.network import firewall, others, sysctl
from minidocker.network.firewall import Delete, Install, Remove, Rules
from minidocker.network.ipam import prefix_length
from minidocker.network.others import Admit, Seen, Withdraw
from minidocker.network.ownership import OURS, bridge_mac, inspect_link, link_alias, own_link, state_of
from minidocker.plan import NETWORK, At, Plan, Step, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from minidocker.spec.records import Endpoint, Network

DEFAULT_MTU = 1500


class Observed:
    """What `up` needs to know of the host: `mtu` of the way out; `before`, each uplink's forwarding (setting -> "0" or "1")
    as it was before the first network; `others` the foreign firewalls. `before` is what the engine stores."""

    __slots__ = ("before", "mtu", "others")

    def __init__(self, mtu: int, before: dict[str, str], others: Seen) -> None:
        self.mtu = mtu
        self.before = before
        self.others = others

    @property
    def guarded(self) -> list[str]:
        """The uplinks that forwarded nothing before: they go on forwarding nothing that is not ours."""
        return guarded(self.before)


def guarded(before: dict[str, str]) -> list[str]:
    """The uplinks in a stored `before` whose forwarding was off."""
    return [name.split("/")[3] for name, value in before.items() if value == "0"]


def observed(network: Network, tag: str, recorded: dict[str, str] | None = None) -> Observed:
    """Read what `up` needs to know. `recorded`: the stored values of networks that are up already; they go before what is read,
    which by now is what we set. What another data root of this host switched on counts as off. Cold: dumps routes and links,
    runs nft."""
    with Socket() as netlink:
        links = {link.index: link for link in map(Link, netlink.dump(links_dump()))}
        routes = [Route(body) for body in netlink.dump(routes_dump())]
    ways_out = _uplinks(routes, links)
    before = dict(recorded or {})
    set_by_others = firewall.guarded_by_others(tag)
    for link, _ in ways_out:
        name = settings.forwarding(link.name)
        value = settings.read(name)
        if value is not None:
            before.setdefault(name, "0" if link.name in set_by_others else value)
    mtu = network.mtu or (ways_out[0][1] if ways_out else DEFAULT_MTU)
    return Observed(mtu, before, others.seen(tag))


def _uplinks(routes: list[Route], links: dict[int, Link]) -> list[tuple[Link, int]]:
    """The links by which this host reaches others, through a gateway or next to it (a second LAN, a VPN), each with the MTU of that
    way, default routes first."""
    found: dict[int, tuple[Link, int]] = {}
    for route in sorted((r for r in routes if r.type == "unicast"), key=lambda r: (r.prefix, r.priority)):
        for index in route.devices:
            link = links.get(index)
            if link and not link.flags & IFF_LOOPBACK and not link.alias.startswith("minidocker:"):
                found.setdefault(index, (link, route.mtu or link.mtu))
    return list(found.values())


def up(network: Network, tag: str, observed: Observed) -> Plan:
    """Make the network, or what is missing of it. The plan refuses a foreign link of the bridge's name before it changes anything."""
    elements = firewall.network_elements(tag, network)
    wide = elements + firewall.uplink_elements(observed.guarded)
    ours = f"net/ipv6/conf/{network.bridge}"
    return Plan([
        CreateBridge(network, tag, network.mtu or observed.mtu),
        Install(tag, firewall.skeleton(tag) + firewall.adding(tag, wide),
                "masquerade outward; let nobody in from outside, between networks, or through this host", elements),
        sysctl.Set(f"{ours}/disable_ipv6", "1", "IPv6 was not asked for", optional=True),
        sysctl.Set(f"{ours}/accept_ra", "0", "and no router advertisement from a container is believed", optional=True),
        sysctl.Set(settings.forwarding(network.bridge), "1", "forward what containers send"),
        *(Forward(tag, name) for name in observed.guarded),
        *([Admit(network, tag)] if observed.others.hook else []),
        BringUp(network, tag),
    ])


def down(network: Network, tag: str, restore: dict[str, str], last: bool) -> Plan:
    """Take the network down, what is gone already tolerated. With the `last` one of the data root the uplinks' forwarding becomes what it
    was (`restore`: the stored `Observed.before`) and the nft table goes."""
    steps: list[Step] = []
    if last:
        steps += [StopForwarding(tag, name) for name in guarded(restore)]
    if others.may_have_hook():
        steps.append(Withdraw(network, tag))
    steps.append(RemoveBridge(network, tag))
    if last:
        steps.append(Delete(tag, "no network is left"))
    else:
        steps.append(Remove(tag, firewall.network_elements(tag, network), "its rules go with the network"))
    return Plan(steps)


def reload(tag: str, networks: Iterable[Network], before: dict[str, str], endpoints: Iterable[Endpoint]) -> Plan:
    """Rebuild the nft table from what should be, in one transaction: after somebody flushed the ruleset."""
    return Plan([Rules(tag, firewall.rebuilt(tag, networks, guarded(before), endpoints), "the table as it should be")])


def remove_link(name: str, alias: str) -> Plan:
    """Delete the link `name` if its alias is `alias` (link_alias(tag, id)); anything else of that name is left alone."""
    return Plan([RemoveLink(name, alias)])


class CreateBridge(Step):
    """Create the bridge and tag it, or find it there; refuse a foreign link of its name. Undone only where this made it."""

    title = NETWORK
    why = "a switch, tagged as ours; its MAC is pinned, it would follow its ports'"

    def __init__(self, network: Network, tag: str, mtu: int) -> None:
        self.network = network
        self.tag = tag
        self.mtu = mtu
        self.alias = link_alias(tag, network.id)
        self._made = False

    def shell(self) -> str:
        name = quote(self.network.bridge)
        return (f"ip link add {name} address {bridge_mac(self.network)} type bridge\n"
                f"ip link set {name} alias {quote(self.alias)} mtu {self.mtu}")

    def describe(self) -> str:
        return f"create bridge `{self.network.bridge}`"

    def apply(self, at: At) -> None:
        name = self.network.bridge
        with Socket() as netlink:
            if own_link(self.network, self.tag, netlink) is None:
                netlink.batch([bridge_create(name, bridge_mac(self.network))])
                self._made = True
            # Not in the same batch: had the creation failed on a foreign link, this would tag that.
            netlink.batch([link_set(name, alias=self.alias, mtu=self.mtu)])

    def undo(self, at: At) -> None:
        if self._made:
            RemoveBridge(self.network, self.tag).apply(at)


class Forward(Step):
    """Let an uplink forward: what comes back to containers arrives by it. The table drops there what is not theirs."""

    title = NETWORK
    why = "forward what comes back to them by the uplink"

    def __init__(self, tag: str, uplink: str) -> None:
        self.tag = tag
        self.uplink = uplink
        self.name = settings.forwarding(uplink)
        self._switched = False

    def shell(self) -> str:
        return f"sysctl -q -w {self.name}=1"

    def apply(self, at: At) -> None:
        if settings.read(self.name) == "0":
            settings.write(self.name, "1")
            self._switched = True

    def undo(self, at: At) -> None:
        if self._switched:  # else another network has it on, and needs it
            StopForwarding(self.tag, self.uplink).apply(at)


class StopForwarding(Step):
    """Make an uplink's forwarding what it was, off; unless the interface is gone, another data root has networks on it, or
    somebody has switched forwarding on for the whole host since: then it is theirs, and ours to leave on."""

    title = NETWORK
    why = "as it was before the first network"

    def __init__(self, tag: str, uplink: str) -> None:
        self.tag = tag
        self.uplink = uplink
        self.name = settings.forwarding(uplink)

    def shell(self) -> str:
        return f"sysctl -q -w {self.name}=0"

    def apply(self, at: At) -> None:
        if (settings.read(self.name) == "1" and settings.read(settings.FORWARDING_OF_ALL) == "0"
                and self.uplink not in firewall.guarded_by_others(self.tag)):
            settings.write(self.name, "0")


class BringUp(Step):
    """Give the bridge the gateway's address and bring it up."""

    title = NETWORK
    why = "this host is the network's gateway"

    def __init__(self, network: Network, tag: str) -> None:
        self.network = network
        self.tag = tag

    def shell(self) -> str:
        name = quote(self.network.bridge)
        return f"ip addr add {self.network.gateway}/{prefix_length(self.network.subnet)} dev {name}\nip link set {name} up"

    def apply(self, at: At) -> None:
        with Socket() as netlink:
            link = own_link(self.network, self.tag, netlink)
            if link is None:
                raise KernelError(f"bring up bridge `{self.network.bridge}`", errno.ENODEV)
            netlink.batch([address_add(link.index, self.network.gateway, prefix_length(self.network.subnet))], tolerate=(errno.EEXIST,))
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
