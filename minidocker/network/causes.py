"""What can be wrong with a network, as data: each cause with what was found, why it matters and the command that mends it.

`network trace` names one of these when its probe dies, `network doctor` those that it finds without one. Pure: what is found is handed in.
`cause` is a word that programs can rely on.
"""

from __future__ import annotations

from minidocker.plan import quote
from minidocker.spec.records import PTP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minidocker.spec.records import Network

HOST = "host"
_RELOAD = "minidocker network reload"


class Finding:
    """`network` "" where it is the host's; `found`, `why` and `mend` one line each; `cause` the word for it."""

    __slots__ = ("cause", "found", "mend", "network", "why")

    def __init__(self, network: str, found: str, why: str, mend: str, cause: str = "") -> None:
        self.network = network
        self.found = found
        self.why = why
        self.mend = mend
        self.cause = cause


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
