"""The text of our nftables tables, `inet minidocker_TAG` and `bridge minidocker_TAG`, and what stands in their sets for a network.

Networks, containers and published ports are elements of sets and maps, so the rules are the same for one network and for fifty, a
packet meets the same few of them, and a change is a few elements in one transaction. Everything goes with the two tables.

    frame into a bridge ─► bridge guard: does this port's container have that MAC and that address? ─► (bridged, or up to the host)
    packet in ─► guard (raw) ─► conntrack ─► a flow's first: prerouting: reach, published? ─► routing ─┬─► forward ─► postrouting ─► out
                                                                                                       └─► input ─► the host's sockets
    the host's own packet ─► output: published? ─► postrouting ─► out

The family is inet, not ip: what is denied by interface is denied to IPv6 too. Our verdicts are `drop` for what nobody asked to
have let in, and else silence: an `accept` ends only our own chain, so foreign policies stay in force.

What most packets meet stands first: a flow that both sides have answered ("assured") passes forward or input by one rule. Whom a
packet may reach is asked of a flow's first packet alone, in the nat hook: no other packet belongs to a flow that was denied, as the
addresses are part of what it is known by; and whatever conntrack does not know is dropped in forward, or asked in input. The sender is
asked of each, before conntrack: guard of those from outside; a container's by the frame, so that it is not asked of its packets again.
As guard meets every packet, it looks first at one byte, where IPv4 has the first of its destination (`@nh,128,8`) or source (`@nh,96,8`):
that is two expressions instead of the five of `ip daddr 127.0.0.0/8`, and an IPv6 packet that happens to have a 127 there is asked more.
"""

from __future__ import annotations

from minidocker.kernel import nfset
from minidocker.kernel.nfset import Element
from minidocker.kernel.nftables import quoted
from minidocker.network.ownership import FAMILY, FRAMES, GROUP, table
from minidocker.spec.records import BRIDGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from minidocker.network.forwarding import Outward
    from minidocker.spec.records import Endpoint, Network

_PACKETS = """\
	set bridges { type ifname; comment "bridges of ours"; }
	set same { type ifname . ifname; comment "in and out of one bridge of ours, unless its containers are isolated"; }
	set apart { type ifname . ifname; comment "the same of those whose containers are isolated"; }
	set internal { type ifname; comment "bridges with no way out"; }
	set subnets { type ipv4_addr; flags interval; comment "their subnets"; }
	set subnets6 { type ipv6_addr; flags interval; }
	set own { type ifname . ipv4_addr; flags interval; comment "each bridge with its subnet"; }
	set own6 { type ifname . ipv6_addr; flags interval; }
	set uplinks { type ifname; comment "forwarded nothing before we switched it on, and forwards nothing else now"; }
	set uplinks6 { type ifname; comment "forwarded no IPv6 before: see closed6"; }
	set advertised { type ifname; comment "believed router advertisements before, and go on doing so"; }
	map ports { type inet_proto . inet_service : ipv4_addr . inet_service; comment "published on every address"; }
	map ports6 { type inet_proto . inet_service : ipv6_addr . inet_service; }
	map ports_at { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; comment "published on one address"; }
	map ports6_at { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }
	set gateways { type ifname . ipv4_addr; comment "where a network's DNS is asked"; }
	map resolvers { type ifname . ipv4_addr : inet_service; comment "where it is, when port 53 was taken"; }

	chain guard {
		type filter hook prerouting priority raw; policy accept;
		iifgroup GROUP @nh,128,8 != 127 accept comment "a container's, and not to 127.0.0.0/8"
		iif "lo" accept
		@nh,128,8 127 ip daddr 127.0.0.0/8 drop
		@nh,96,8 127 ip saddr 127.0.0.0/8 drop
		ip saddr @subnets iifname != @bridges drop
		ip6 saddr @subnets6 iifname != @bridges drop
	}

	chain reach {
		iifname "lo" return
		iifname . ip daddr @own return
		iifname . ip6 daddr @own6 return
		ip daddr @subnets drop
		ip6 daddr @subnets6 drop
	}

	chain published {
		dnat ip to ip daddr . meta l4proto . th dport map @ports_at
		dnat ip to meta l4proto . th dport map @ports
		ip6 daddr ::1 return
		dnat ip6 to ip6 daddr . meta l4proto . th dport map @ports6_at
		dnat ip6 to meta l4proto . th dport map @ports6
	}

	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		jump reach
		udp dport 53 redirect to iifname . ip daddr map @resolvers
		tcp dport 53 redirect to iifname . ip daddr map @resolvers
		meta l4proto { tcp, udp } th dport 53 iifname . ip daddr @gateways accept
		fib daddr type local jump published
	}

	chain output {
		type nat hook output priority -100; policy accept;
		fib daddr type local jump published
	}

	chain input {
		type filter hook input priority filter; policy accept;
		ct status assured accept
		ct state invalid,untracked jump reach
		iifname @internal jump closed
	}

	chain closed {
		iifname . ip daddr != @own drop
		ip6 daddr != { fe80::/10, ff00::/8 } iifname . ip6 daddr != @own6 drop
	}

	chain forward {
		type filter hook forward priority filter; policy accept;
		ct status assured accept
		tcp flags & (syn | rst) == syn iifname @bridges tcp option maxseg size set rt mtu
		tcp flags & (syn | rst) == syn oifname @bridges tcp option maxseg size set rt mtu
		ct state established,related accept
		iifname . oifname @same accept
		iifname . oifname @apart drop
		iifname @internal drop
		ct status dnat accept
		oifname @bridges drop
		meta nfproto ipv4 iifname @uplinks drop
		meta nfproto ipv6 jump closed6
	}

	chain closed6 {
		CLOSED6
	}

	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		oifname @bridges ip saddr 127.0.0.0/8 masquerade
		oifname @bridges ip saddr @subnets ct status dnat masquerade
		oifname @bridges ip6 saddr @subnets6 ct status dnat masquerade
		oifname != "lo" oifname != @bridges ip saddr @subnets masquerade
		oifname != "lo" oifname != @bridges ip6 saddr @subnets6 masquerade
	}
"""

# Per port of a bridge: its container speaks with its own MAC and addresses alone, and is no router (CVE-2020-13401, CVE-2020-10749).
# "::" asks whether an address is taken, and joins groups; fragments' tails have no header to look at, and their heads were looked at:
# a head without the address that it advertises is no match, so what is to pass is named, not what is not.
_FRAMES = """\
	set ports { type ifname; comment "ports of bridges of ours"; }
	set senders { type ifname . ether_addr . ipv4_addr; comment "who may send from each"; }
	set senders6 { type ifname . ether_addr . ipv6_addr; }
	set targets6 { typeof iifname . @th,64,128; comment "what each may advertise as its neighbours' neighbour (RFC 4861, 4.4)"; }

	chain guard {
		type filter hook prerouting priority -300; policy accept;
		ether type ip iifname . ether saddr . ip saddr @senders accept
		iifname @ports jump check
	}

	chain check {
		ether type arp iifname . ether saddr . arp saddr ip @senders iifname . arp saddr ether . arp saddr ip @senders accept
		icmpv6 type { nd-router-advert, nd-redirect } drop
		icmpv6 type nd-neighbor-advert iifname . @th,64,128 @targets6 iifname . ether saddr . ip6 saddr @senders6 accept
		icmpv6 type nd-neighbor-advert drop
		ether type ip6 iifname . ether saddr . ip6 saddr @senders6 accept
		ether type ip6 ip6 saddr :: icmpv6 type { nd-neighbor-solicit, mld-listener-report, mld2-listener-report } accept
		drop
	}
"""


def skeleton(tag: str, closed6: bool) -> str:
    """The script that makes the tables, or gives them their rules anew; the elements of existing ones stay. `closed6`: the host forwarded
    no IPv6 before, and as the kernel does it for all interfaces, those that come later too, the rules keep it to our bridges."""
    parts = []
    packets = _PACKETS.replace("\t\tCLOSED6\n", "\t\tiifgroup != GROUP drop\n" if closed6 else "").replace("GROUP", str(GROUP))
    for family, body in ((FAMILY, packets), (FRAMES, _FRAMES)):
        name = f"{family} {table(tag)}"
        parts.append(f"add table {name}\nflush table {name}\ntable {name} {{\n{body}}}\n")
    return "".join(parts)


def deletion(tag: str) -> str:
    """The script that takes both tables away, there or not."""
    return "".join(f"add table {family} {table(tag)}\ndelete table {family} {table(tag)}\n" for family in (FAMILY, FRAMES))


def network_elements(network: Network) -> list[str]:
    """What makes the table of packets know a network: `SET { ELEMENT }`, each to be added or deleted."""
    bridge = quoted(network.bridge)
    elements = [f"bridges {{ {bridge} }}", f"subnets {{ {network.subnet} }}", f"own {{ {bridge} . {network.subnet} }}",
                f"gateways {{ {bridge} . {network.gateway} }}"]
    elements.append(f"{'apart' if network.isolated else 'same'} {{ {bridge} . {bridge} }}")
    if network.internal:
        elements.append(f"internal {{ {bridge} }}")
    if network.subnet6:
        elements += [f"subnets6 {{ {network.subnet6} }}", f"own6 {{ {bridge} . {network.subnet6} }}"]
    return elements


def uplink_elements(uplinks: Iterable[str], uplinks6: Iterable[str], advertised: Iterable[str]) -> list[str]:
    """The uplinks of each family that forwarded nothing before, and those that go on believing router advertisements."""
    sets = (("uplinks", uplinks), ("uplinks6", uplinks6), ("advertised", advertised))
    return [f"{which} {{ {quoted(name)} }}" for which, names in sets for name in names]


def sender_elements(endpoint: Endpoint) -> list[Element]:
    """What makes the table of frames know a container's port: who may send from it."""
    port, mac = nfset.ifname(endpoint.host_link), nfset.mac(endpoint.mac)
    elements = [Element("ports", (port,)), Element("senders", (port, mac, nfset.ipv4(endpoint.ip)))]
    if endpoint.ip6:
        from minidocker.network import ipam6

        for ip in (endpoint.ip6, ipam6.link_local(endpoint.mac)):
            elements += [Element("senders6", (port, mac, nfset.ipv6(ip))), Element("targets6", (port, nfset.raw6(ip)))]
    return elements


def resolver_element(network: Network, port: int) -> Element:
    """What leads questions to the gateway's port 53 to the network's DNS at another one."""
    return Element("resolvers", (nfset.ifname(network.bridge), nfset.ipv4(network.gateway)), (nfset.port(port),))


def adding(tag: str, elements: Iterable[str], family: str = FAMILY) -> str:
    """The script that adds `elements`."""
    return "".join(f"add element {family} {table(tag)} {element}\n" for element in elements)


def removing(tag: str, elements: Iterable[str], family: str = FAMILY) -> str:
    """The script that removes `elements`, present or not: each is added first, which only fails where it is another's."""
    name = f"{family} {table(tag)}"
    return "".join(f"add element {name} {element}\ndelete element {name} {element}\n" for element in elements)


def texts(elements: Iterable[Element]) -> list[str]:
    return [element.text for element in elements]


class Wanted:
    """All that should be in the tables: the networks, what is outward of them, the containers' endpoints, and the ports of those networks'
    DNS that are not at 53 (network name -> port)."""

    __slots__ = ("endpoints", "networks", "outward", "resolvers")

    def __init__(
        self, networks: Sequence[Network], outward: Outward, endpoints: Sequence[Endpoint], resolvers: dict[str, int]
    ) -> None:
        self.networks = [network for network in networks if network.driver == BRIDGE]
        self.outward = outward
        self.endpoints = list(endpoints)
        self.resolvers = resolvers
        self.keep(self.networks)

    def keep(self, networks: Iterable[Network]) -> None:
        """These networks alone, and who is in them."""
        self.networks = list(networks)
        names = {network.name for network in self.networks}
        self.endpoints = [endpoint for endpoint in self.endpoints if endpoint.network in names]


def elements(wanted: Wanted) -> tuple[list[str], list[str]]:
    """What should stand in the sets of the table of packets, and of that of frames."""
    from minidocker.network import publish

    outward = wanted.outward
    packets = uplink_elements(outward.guarded, outward.guarded6, outward.advertised)
    for network in wanted.networks:
        packets += network_elements(network)
        if network.name in wanted.resolvers:
            packets.append(resolver_element(network, wanted.resolvers[network.name]).text)
    for endpoint in wanted.endpoints:
        packets += texts(publish.elements(endpoint))
    return packets, [text for endpoint in wanted.endpoints for text in texts(sender_elements(endpoint))]


def rebuilt(tag: str, wanted: Wanted) -> str:
    """The script that makes both tables from what should be, in one transaction, whatever was there before."""
    packets, frames = elements(wanted)
    return deletion(tag) + skeleton(tag, wanted.outward.closed6) + adding(tag, packets) + adding(tag, frames, FRAMES)
