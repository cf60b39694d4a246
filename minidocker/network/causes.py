"""What can be wrong with a network, as data: each cause with what was found, why it matters and the command that mends it.

`network trace` names one of these when its probe dies, `network doctor` those that it finds without one. Pure: what is found is handed in.
`cause` is a word that programs can rely on.
"""

from __future__ import annotations

from minidocker.plan import quote
from minidocker.spec.records import PTP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from minidocker.spec.records import Network

HOST = "host"
_RELOAD = "minidocker network reload"


class Finding:
    """`network` "" where it is the host's; `found`, `why` and `mend` one line each; `cause` the word for it; `fix` does what `mend` says,
    None where that is for the user to decide."""

    __slots__ = ("cause", "fix", "found", "mend", "network", "why")

    def __init__(self, network: str, found: str, why: str, mend: str, cause: str = "") -> None:
        self.network = network
        self.found = found
        self.why = why
        self.mend = mend
        self.cause = cause
        self.fix: Callable[[], None] | None = None

    def mended_by(self, fix: Callable[[], None]) -> Finding:
        self.fix = fix
        return self


def at(place: str, command: str) -> str:
    """`command` as it is typed on the host for a place: the host itself, or a container, which `ip netns` knows by its name."""
    return command if place == HOST else f"ip netns exec {quote(place)} {command}"


def said(place: str) -> str:
    return "this host" if place == HOST else f"container `{place}`"


def _name(network: Network | None) -> str:
    return network.name if network else ""


def no_route(place: str, address: str, network: Network | None, gateway: str = "", interface: str = "") -> Finding:
    """A place has no way to an address."""
    mend = f"ip route add default via {gateway} dev {interface}" if gateway else f"ip route add {address} via GATEWAY"
    return Finding(_name(network), f"{said(place)} has no route to {address}",
                   "a packet for which no route is found is not even sent (ENETUNREACH)", at(place, mend), "no-route")


def internal(network: Network, address: str) -> Finding:
    """What --internal is for; and a cable between two leads nowhere else, either."""
    kind = "a cable for two" if network.driver == PTP else "--internal"
    return Finding(network.name, f"network `{network.name}` is {kind}: nothing leads from it to {address}",
                   "its containers reach each other and nobody else", "put the container into another network too: "
                   "minidocker network connect NETWORK CONTAINER", "internal")  # fmt: skip


def isolated(network: Network, one: str, other: str) -> Finding:
    """What --isolated is for."""
    return Finding(network.name, f"network `{network.name}` is --isolated: its bridge passes nothing from `{one}` to `{other}`",
                   "its containers reach the world and not each other, their ARP included",
                   "put both into a network that is not: minidocker network connect NETWORK CONTAINER", "isolated")  # fmt: skip


def link_down(network: Network | None, place: str, link: str, is_bridge: bool = False) -> Finding:
    """A link that is down; a bridge takes all its containers with it."""
    what = f"bridge `{link}` is down" if is_bridge else f"`{link}` of {said(place)} is down"
    why = "its containers reach nothing, each other neither" if is_bridge else "nothing passes it, and its routes are gone with it"
    return Finding(_name(network), what, why, at(place, f"ip link set {quote(link)} up"), "bridge-down" if is_bridge else "link-down")


def link_gone(network: Network | None, place: str, link: str) -> Finding:
    """A link that should be there."""
    return Finding(_name(network), f"`{link}` of {said(place)} is not there", "there is no cable to go by",
                   "restart the container: minidocker restart CONTAINER", "link-gone")


def wrong_gateway(network: Network | None, place: str, gateway: str, right: str, interface: str) -> Finding:
    """A default route by somebody who is no gateway."""
    return Finding(_name(network), f"the default route of {said(place)} goes by {gateway}, which is not the network's gateway ({right})",
                   "what leaves the subnet is sent to somebody who does not pass it on",
                   at(place, f"ip route replace default via {right} dev {interface}"), "wrong-gateway")  # fmt: skip


def unanswered(network: Network | None, place: str, address: str, link: str, state: str) -> Finding:
    """Nobody says that he has an address."""
    asked = "neighbour solicitation" if ":" in address else "ARP"
    return Finding(_name(network), f"nobody answers for {address} on `{link}` of {said(place)} ({asked} unanswered: {state})",
                   "without its hardware address no frame can be sent to it",
                   f"is it up, and is that its address? look with: {at(place, f'ip neigh show {address} dev {link}')}", "arp-unanswered")


def refused(place: str, target: str, protocol: str, port: int) -> Finding:
    """A port at which nobody listens; told by who has the address."""
    how = "it answers with a reset" if protocol == "tcp" else "it answers with ICMP port unreachable"
    look = at(place, f"ss -l{'t' if protocol == 'tcp' else 'u'}n 'sport = {port}'") if place else f"on {target}: ss -ln"
    return Finding("", f"nobody listens at {protocol} port {port} of {target}: {how}",
                   "the network is whole: the packet arrived and was answered",
                   f"start the server, and have it listen on 0.0.0.0 and not on 127.0.0.1; see {look}", "not-listening")


def dropped(network: Network | None, place: str, chain: str, rule: str, foreign: bool, mend: str) -> Finding:
    """A rule, or a policy, that dropped or rejected the packet."""
    verb = "rejected" if "reject" in rule else "dropped"
    hook = chain.rpartition(" at ")[2]
    cause = "foreign-forward-drop" if foreign and hook == "forward" else "foreign-drop" if foreign else "dropped-by-rule"
    why = ("every firewall of a host has its say, and one drop is enough" if foreign
           else "our table keeps out what nobody asked to have let in")  # fmt: skip
    return Finding(_name(network), f"{verb} on {said(place)} by {chain}: {rule}", why, mend, cause)


def unseen(place: str, hook: str, legacy: list[str]) -> Finding:
    """Gone within a hook, and no rule of nftables did it."""
    by = f"{' and '.join(legacy)} has rules" if legacy else "something that nftables does not show (a BPF program, tc, a module)"
    look = "; ".join(f"{program}-save" for program in legacy) or "bpftool net; tc filter show"
    return Finding("", f"lost on {said(place)} within {hook}, by no rule of nftables: {by}", "what judges packets beside nftables is in no "
                   "`nft list ruleset`", look, "unseen-drop")  # fmt: skip


def forwarding_off(network: Network | None, link: str, ipv6: bool) -> Finding:
    """A link that takes in no packet for others."""
    setting = f"net/ipv6/conf/{'all' if ipv6 else link}/forwarding" if ipv6 else f"net/ipv4/conf/{link}/forwarding"
    return Finding(_name(network), f"{setting} is 0: this host forwards nothing that comes in by `{link}`",
                   "packets between containers and the world are dropped there", _RELOAD, "forwarding-off")


def rp_filter(network: Network | None, place: str, link: str, source: str, other: str) -> Finding:
    """The reverse path filter (RFC 3704; ip-sysctl.rst)."""
    back = f"by `{other}`" if other else "by no link"
    return Finding(_name(network),
                   f"the reverse path filter of `{link}` of {said(place)} drops what comes from {source}: the way back is {back}",
                   "rp_filter 1 believes a sender only on the link by which it would be answered",
                   at(place, f"sysctl -w net/ipv4/conf/{link}/rp_filter=2"), "rp-filter")  # fmt: skip


def no_masquerade(network: Network | None, source: str, link: str) -> Finding:
    """A private sender that left untranslated."""
    return Finding(_name(network), f"the packet left by `{link}` as from {source}: no rule masqueraded it",
                   f"nobody out there has a route to {source}, so no answer finds its way back", _RELOAD, "no-masquerade")


def overlap(network: Network, address: str, route: str) -> Finding:
    """Another route that takes what is a network's."""
    return Finding(network.name, f"subnet {network.subnet} of network `{network.name}` is overlapped: {address} goes by `{route}`",
                   f"what is for its containers does not go to bridge `{network.bridge}`",
                   f"take that route away, or make the network anew elsewhere: minidocker network rm {network.name}", "overlap")


def mtu(network: Network | None, size: int, place: str, link: str, most: int) -> Finding:
    """Packets that are too big somewhere, and nobody tells the sender."""
    return Finding(_name(network), f"packets of {size} bytes are lost: `{link}` of {said(place)} takes {most}, and nobody tells the sender",
                   "small packets pass, so connections open and then hang", at(place, f"ip link set {quote(link)} mtu {size}"), "mtu")


def not_published(network: Network | None, target: str, port: int) -> Finding:
    """Asked from outside, and not published."""
    what = f"port {port} of {target}" if port else target
    return Finding(_name(network), f"{what} is not published: nothing from outside is let in to it",
                   "containers are reached from outside by published ports alone", "run it with -p PORT:PORT", "not-published")


def silent(place: str, target: str, udp: bool) -> Finding:
    """It arrived, and that was all."""
    why = "a UDP server answers only if it wants to" if udp else "the program is there and does not accept, or its queue is full"
    return Finding("", f"the packet arrived at {said(place)} and no answer was sent by {target}", why, at(place, "ss -lntu"), "no-answer")


def lost_outside(target: str, link: str) -> Finding:
    """It left this host."""
    return Finding("", f"the packet left this host by `{link}` and no answer came back from {target}",
                   "what happens out there cannot be seen from here: it is down, or filters, or has no route back",
                   f"ask there: tcpdump -n host {target}", "no-answer-outside")


def unreachable(offender: str, target: str, code: tuple[int, int]) -> Finding:
    """A router said so, by ICMP."""
    return Finding("", f"{offender} says that {target} cannot be reached (ICMP type {code[0]} code {code[1]})",
                   "a router or a firewall on the way refuses it", f"look there: at {offender}", "unreachable")


def rules_gone(network: Network) -> Finding:
    """After `nft flush ruleset`."""
    return Finding(network.name, "our nftables rules are gone: somebody flushed the ruleset",
                   "nothing is masqueraded, no port is published, and nobody is kept out", _RELOAD, "rules-gone")


def rules_changed(table: str, what: str, leads_out: bool) -> Finding:
    """Somebody has changed one of our tables; `leads_out`: what masquerades is concerned."""
    why = ("without it a packet leaves with an address to which no answer finds its way" if leads_out
           else "it lets pass, or leads, something else than was asked for")  # fmt: skip
    return Finding("", f"{table} is not what it should be: {what}", why, _RELOAD, "no-masquerade" if leads_out else "rules-changed")


def bridge_gone(network: Network, absent: bool) -> Finding:
    """Its bridge is not there, or is a stranger's."""
    return Finding(network.name, f"its bridge `{network.bridge}` is not {'there' if absent else 'ours'}",
                   "its containers reach nothing, each other neither",
                   "the next `minidocker run` in it makes it; running containers have to be restarted", "bridge-gone")


def not_forwarding(network: Network, setting: str) -> Finding:
    """A setting that forwards nothing."""
    return Finding(network.name, f"{setting} is 0", "packets between containers and the world are dropped there", _RELOAD, "forwarding-off")


def foreign_drop(network: Network, found: str, mend: str) -> Finding:
    """Another firewall drops what it does not know."""
    return Finding(network.name, found, "every firewall of a host has its say, and one drop is enough", mend, "foreign-forward-drop")


def subnet_taken(network: Network, owner: str) -> Finding:
    """A VPN that came up over our subnet, say."""
    return Finding(network.name, f"its subnet {network.subnet} overlaps {owner}", "what is sent there goes to the one or to the other",
                   f"make it anew elsewhere: minidocker network rm {network.name}, then network create --subnet SUBNET {network.name}",
                   "overlap")  # fmt: skip


def port_taken(network: str, port: str, container: str, owner: str) -> Finding:
    """A process has bound what is published."""
    return Finding(network, f"port {port} of container `{container}` is bound by {owner}, too",
                   "what is sent there is led to the container, and that process waits in vain", "stop it, or have it listen elsewhere",
                   "port-taken")  # fmt: skip


def legacy(program: str, tables: Sequence[str]) -> Finding:
    """The other iptables."""
    return Finding("", f"{program} has rules in {', '.join(tables)}",
                   "they judge packets beside nftables, and no `nft list ruleset` shows them; docker and we use nftables",
                   f"{program}-save shows them, {program} -F TABLE empties one; update-alternatives --set iptables /usr/sbin/iptables-nft",
                   "legacy-iptables")  # fmt: skip


def conntrack_full(count: int, most: int) -> Finding:
    """Of flows that are tracked."""
    return Finding("", f"{count} of {most} flows are tracked: the table is nearly full",
                   "when it is, packets of new flows are dropped, and the kernel's log says `nf_conntrack: table full`",
                   f"sysctl -w net.netfilter.nf_conntrack_max={most * 2}", "conntrack-full")


def bridge_full(network: Network, ports: int, most: int) -> Finding:
    """Of ports."""
    return Finding(network.name, f"its bridge `{network.bridge}` has {ports} ports, and can have {most}",
                   "a container more than that is refused", "minidocker network create another, and put new ones there", "bridge-full")


def resolver_dead(server: str) -> Finding:
    """It is asked when containers ask for what their network does not know."""
    return Finding("", f"the resolver {server} of this host does not answer",
                   "names of the world are not found in containers, or only after its timeout",
                   "see /etc/resolv.conf; minidocker run --dns SERVER takes another", "resolver-dead")


def address_missing(network: Network, place: str, address: str, link: str) -> Finding:
    """It was leased, and is gone."""
    return Finding(network.name, f"`{link}` of {said(place)} has lost its address {address}", "what is sent there is answered by nobody",
                   at(place, f"ip addr add {address} dev {link}"), "address-missing")


def mac_changed(network: Network, place: str, link: str, mac: str, leased: str) -> Finding:
    """Its port takes but the leased one."""
    return Finding(network.name, f"`{link}` of {said(place)} has the hardware address {mac}, and was leased {leased}",
                   "its port of the bridge takes no frame from another", at(place, f"ip link set {link} address {leased}"), "mac-changed")


def duplicate(network: Network, what: str, one: str, other: str) -> Finding:
    """Two have one address, or one MAC."""
    return Finding(network.name, f"{what} is had by container `{one}` and by `{other}`", "who is sent something there is a matter of luck",
                   f"restart the one that was not leased it: minidocker restart {other}", "duplicate")


def unplugged(network: Network, place: str, link: str, there: bool) -> Finding:
    """The host's end of its cable."""
    what = f"is not in bridge `{network.bridge}`" if there else "is not there"
    mend = f"ip link set {link} master {network.bridge}" if there else f"minidocker restart {place}"
    return Finding(network.name, f"`{link}`, the host's end of {said(place)}, {what}", "nothing gets to it, and nothing from it", mend,
                   "link-gone")  # fmt: skip


def leaked(kind: str, name: str, mend: str) -> Finding:
    """What no record speaks of."""
    return Finding("", f"{kind} `{name}` is ours, and no container or network has it any more", "it takes room, and a name", mend,
                   "leaked")  # fmt: skip
