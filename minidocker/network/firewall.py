"""The one nftables table of a data root: `table inet minidocker_<tag>`.

Networks and published ports are elements of its sets and maps, so the rules are the same for one network and for fifty, a
packet meets the same few of them, and a change is a few elements in one transaction. Everything goes with one `delete table`.

    packet in ─► guard (raw) ─► conntrack ─► prerouting: published? ─► routing ─┬─► forward ─► postrouting: masquerade ─► out
                                                                               └─► the host's own sockets
    the host's own packet ─► output: published? ─► postrouting ─► out

The family is inet, not ip: what is denied by interface is denied to IPv6 too. Our verdicts are `drop` for what nobody asked to
have let in, and else silence: an `accept` ends only our own chain, so foreign policies stay in force.
"""

from __future__ import annotations

from minidocker.errors import ConflictError
from minidocker.kernel import nftables
from minidocker.kernel.nftables import NftError, quoted
from minidocker.network import publish
from minidocker.network.ownership import FAMILY, installed, table
from minidocker.plan import NETWORK, At, Step, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from minidocker.spec.records import Endpoint, Network

_BODY = """\
	set bridges { type ifname; comment "bridges of ours"; }
	set same { type ifname . ifname; comment "in and out of one bridge of ours"; }
	set internal { type ifname; comment "bridges with no way out"; }
	set subnets { type ipv4_addr; flags interval; comment "their subnets"; }
	set own { type ifname . ipv4_addr; flags interval; comment "each bridge with its subnet"; }
	set uplinks { type ifname; comment "forwarded nothing before we switched it on, and forwards nothing else now"; }
	map ports { type inet_proto . inet_service : ipv4_addr . inet_service; comment "published on every address"; }
	map ports_at { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; comment "published on one address"; }

	chain guard {
		type filter hook prerouting priority raw; policy accept;
		iifname "lo" accept
		ip daddr 127.0.0.0/8 drop
		ip saddr 127.0.0.0/8 drop
		iifname @bridges iifname . ip saddr != @own drop
		ip saddr @subnets iifname . ip saddr != @own drop
		ip daddr @subnets iifname . ip daddr != @own drop
	}

	chain published {
		dnat ip to ip daddr . meta l4proto . th dport map @ports_at
		dnat ip to meta l4proto . th dport map @ports
	}

	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		fib daddr type local jump published
	}

	chain output {
		type nat hook output priority -100; policy accept;
		fib daddr type local jump published
	}

	chain forward {
		type filter hook forward priority filter; policy accept;
		iifname . oifname @same accept
		iifname @bridges tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu
		oifname @bridges tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu
		ct state established,related accept
		iifname @internal drop
		ct status dnat accept
		oifname @bridges drop
		iifname @uplinks drop
	}

	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		oifname @bridges ip saddr 127.0.0.0/8 masquerade
		oifname @bridges ip saddr @subnets ct status dnat masquerade
		oifname != "lo" oifname != @bridges ip saddr @subnets masquerade
	}
"""


def skeleton(tag: str) -> str:
    """The script that makes the table, or gives it its rules anew; the elements of an existing one stay."""
    name = f"{FAMILY} {table(tag)}"
    return f"add table {name}\nflush table {name}\ntable {name} {{\n{_BODY}}}\n"


def network_elements(tag: str, network: Network) -> list[str]:
    """What makes the table know a network: `SET { ELEMENT }`, each to be added or deleted."""
    bridge = quoted(network.bridge)
    elements = [
        f"bridges {{ {bridge} }}",
        f"same {{ {bridge} . {bridge} }}",
        f"subnets {{ {network.subnet} }}",
        f"own {{ {bridge} . {network.subnet} }}",
    ]
    if network.internal:
        elements.append(f"internal {{ {bridge} }}")
    return elements


def adding(tag: str, elements: Iterable[str]) -> str:
    """The script that adds `elements`."""
    return "".join(f"add element {FAMILY} {table(tag)} {element}\n" for element in elements)


def removing(tag: str, elements: Iterable[str]) -> str:
    """The script that removes `elements`, present or not: each is added first, which only fails where it is another's."""
    name = f"{FAMILY} {table(tag)}"
    return "".join(f"add element {name} {element}\ndelete element {name} {element}\n" for element in elements)


def uplink_elements(uplinks: Sequence[str]) -> list[str]:
    return [f"uplinks {{ {quoted(name)} }}" for name in uplinks]


def rebuilt(tag: str, networks: Iterable[Network], uplinks: Sequence[str], endpoints: Iterable[Endpoint]) -> str:
    """The script that makes the whole table from what should be, in one transaction, whatever was there before."""
    elements = uplink_elements(uplinks)
    for network in networks:
        elements += network_elements(tag, network)
    for endpoint in endpoints:
        elements += publish.elements(endpoint.ports, endpoint.ip)
    name = f"{FAMILY} {table(tag)}"
    return f"add table {name}\ndelete table {name}\n{skeleton(tag)}{adding(tag, elements)}"


class Rules(Step):
    """One nft transaction; undone by removing the elements it added."""

    title = NETWORK

    def __init__(self, tag: str, script: str, why: str, added: Sequence[str] = ()) -> None:
        self.tag = tag
        self.script = script
        self.why = why
        self.added = list(added)

    def shell(self) -> str:
        return _typed(self.script)

    def describe(self) -> str:
        return f"change nftables table `{table(self.tag)}`"

    def apply(self, at: At) -> None:
        nftables.apply(self.script)

    def undo(self, at: At) -> None:
        remove(self.tag, self.added)


class Publish(Rules):
    """The container's published ports, in one transaction."""

    def __init__(self, tag: str, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        elements = publish.elements(endpoint.ports, endpoint.ip)
        super().__init__(tag, adding(tag, elements), "its published ports", elements)

    def apply(self, at: At) -> None:
        try:
            nftables.apply(self.script)
        except NftError as error:
            if not error.clash:
                raise
            ports = ", ".join(map(str, self.endpoint.ports))
            raise ConflictError(f"publish {ports}: a port is published by another container already",
                                "see which: minidocker ps") from error


class Install(Rules):
    """Make the table and add a network to it; undone to nothing at all where this was the first network."""

    def undo(self, at: At) -> None:
        remove(self.tag, self.added)
        if installed(self.tag) and not _has_bridges(self.tag):
            nftables.apply(f"delete table {FAMILY} {table(self.tag)}\n")


class Remove(Step):
    """Take elements out of the table; what is gone already, the whole table included, is no matter."""

    title = NETWORK

    def __init__(self, tag: str, elements: Sequence[str], why: str) -> None:
        self.tag = tag
        self.elements = list(elements)
        self.why = why

    def shell(self) -> str:
        return _typed(removing(self.tag, self.elements))

    def apply(self, at: At) -> None:
        remove(self.tag, self.elements)


class Delete(Step):
    """Delete the whole table, if it is there."""

    title = NETWORK

    def __init__(self, tag: str, why: str) -> None:
        self.tag = tag
        self.why = why

    def shell(self) -> str:
        return f"nft delete table {FAMILY} {table(self.tag)}"

    def apply(self, at: At) -> None:
        if installed(self.tag):
            nftables.apply(f"delete table {FAMILY} {table(self.tag)}\n")


def remove(tag: str, elements: Sequence[str]) -> None:
    """Remove `elements` in one transaction; where one of them has become another's, that one stays and the others go."""
    if not elements or not installed(tag):
        return
    try:
        nftables.apply(removing(tag, elements))
    except NftError as error:
        if not error.clash:
            raise
        if len(elements) > 1:
            for element in elements:
                remove(tag, [element])


def guarded_by_others(tag: str) -> set[str]:
    """The uplinks that networks of other data roots on this host keep from forwarding what is not theirs. Cold."""
    found: set[str] = set()
    for name in nftables.tables(FAMILY):
        if name.startswith(table("")) and name != table(tag):
            found.update(_elements(name, "uplinks"))
    return found


def _has_bridges(tag: str) -> bool:
    """Cold: whether any network is left in the table."""
    return bool(_elements(table(tag), "bridges"))


def _elements(table_name: str, set_name: str) -> list[str]:
    """The elements of a set of strings. Cold."""
    listed = nftables.list_table_json(FAMILY, table_name)
    return [str(element) for item in listed if item.get("set", {}).get("name") == set_name for element in item["set"].get("elem", ())]


def _typed(script: str) -> str:
    """As a here-string, not a here-document: it may be indented where it is shown."""
    return f"nft -f - <<< {quote(script)}"
