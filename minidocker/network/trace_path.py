"""A probe's path, put together from what nftables told of it: first who stands on the way, then the chains it met, then the hops.

    Event (one rule of one packet)  ─►  Passage (one packet through one base chain)  ─►  Hop (one line of the answer)
"""

from __future__ import annotations

from minidocker.errors import KernelError
from minidocker.kernel import nftables, routes
from minidocker.kernel.netlink import Socket
from minidocker.kernel.netns import Visit
from minidocker.kernel.packet import ACK, ICMP, ICMP6, RST, SYN, TCP
from minidocker.network.causes import HOST
from minidocker.network.trace_rules import FIRST, LAST, Rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from minidocker.kernel.nftrace import Event
    from minidocker.kernel.packet import Packet
    from minidocker.kernel.routes import Way
    from minidocker.spec.records import Endpoint, Network

FORWARD, ANSWER, ERROR = "forward", "answer", "error"


class Place:
    """One network namespace on the way: `name` "host" or the container's, `netns` a descriptor, `members` the container's networks with
    its endpoint in each (none of the host's). `look` reads its links and rules, as they are then."""

    __slots__ = ("links", "members", "name", "netns", "rules")

    def __init__(self, name: str, netns: int, members: Sequence[tuple[Network, Endpoint]] = ()) -> None:
        self.name = name
        self.netns = netns
        self.members = members
        self.links: dict[int, routes.Port] = {}
        self.rules = Rules("")

    @property
    def is_host(self) -> bool:
        return self.name == HOST and not self.members

    def look(self) -> None:
        with self.socket() as netlink:
            self.links = routes.ports(netlink)
        with Visit(self.netns):
            self.rules = Rules(nftables.list_ruleset_text())

    def socket(self) -> Socket:
        return Socket(self.netns)

    def link(self, name: str) -> routes.Port | None:
        return next((link for link in self.links.values() if link.name == name), None)

    def name_of(self, index: int) -> str:
        return self.links[index].name if index in self.links else str(index)

    def names(self) -> dict[int, str]:
        return {index: link.name for index, link in self.links.items()}

    def decide(self, destination: str, source: str = "", iif: int = 0, mark: int = 0) -> tuple[Way, Way]:
        """(decision, entry of the table). Raises KernelError where there is no way."""
        with self.socket() as netlink:
            return routes.decide(netlink, destination, source, iif, mark)

    def neighbour(self, address: str, link: int) -> routes.Neighbour | None:
        from _socket import AF_INET, AF_INET6

        with self.socket() as netlink:
            known = routes.neighbours(netlink, AF_INET6 if ":" in address else AF_INET)
        return next((one for one in known if one.ip == address and one.index == link), None)


class Passage:
    """One packet through one base chain. `marker` FIRST or LAST where the chain is ours and only says that the packet came so far, "" for
    everybody else's; `steps` the rules that matched, as (chain, text, verdict); `verdict` the last one; `direction` FORWARD, ANSWER or
    ERROR (ICMP about the probe)."""

    __slots__ = ("chain", "direction", "family", "hook", "iif", "mark", "marker", "oif", "packet", "place", "steps", "table", "verdict")

    def __init__(self, place: Place, event: Event, packet: Packet, ours: str) -> None:
        self.place = place
        self.family, self.table, self.chain = event.family, event.table, event.chain
        self.hook = place.rules.hooks.get((event.family, event.table, event.chain), "")
        self.packet = packet
        self.iif, self.oif, self.mark = event.iif, event.oif, event.mark
        self.marker = event.chain.partition("_")[0] if event.table == ours else ""
        if self.marker:
            self.hook = event.chain.partition("_")[2]
        self.steps: list[tuple[str, str, str]] = []
        self.verdict = ""
        self.direction = ""

    @property
    def name(self) -> str:
        return f"{self.family} {self.table} {self.chain}"

    @property
    def is_dropped(self) -> bool:
        return self.verdict == "drop"

    def add(self, event: Event) -> None:
        """One more of its packet's events."""
        if event.kind == "policy":
            text = f"policy {event.verdict}"
        elif event.kind == "return" or not event.handle:
            return  # the end of a chain
        else:
            text = self.place.rules.text(event.family, event.table, event.handle)
        self.verdict = event.verdict
        self.steps.append((event.chain, text, event.verdict))


def passages(place: Place, events: Iterable[Event], ours: str) -> list[Passage]:
    """The events of one place, as they came, by the chain that the packet was in; `ours` is the name of our tables."""
    found: list[Passage] = []
    last: dict[int, Passage] = {}
    for event in events:
        if event.packet is not None:
            last[event.id] = Passage(place, event, event.packet, ours)
            found.append(last[event.id])
        if event.id in last:
            last[event.id].add(event)
    return found


def direction(packet: Packet, protocol: int, source: str, port: int) -> str:
    """Which way a packet goes that may be the probe's (`port` is its source port, or the echo's number); "" for a stranger, and for
    packets of the same flow that came after."""
    if packet.protocol in (ICMP, ICMP6):
        if not packet.is_echo:
            return ERROR
        return "" if packet.protocol != protocol or packet.number != port else FORWARD if packet.code >> 8 in (8, 128) else ANSWER
    if packet.protocol != protocol or (protocol == TCP and not packet.flags & (SYN | RST)):
        return ""
    if protocol == TCP and packet.flags & (SYN | ACK) == SYN:
        return FORWARD
    if protocol == TCP and packet.flags & SYN:
        return ANSWER
    if packet.source_port == port and (packet.destination_port != port or packet.source == source):
        return "" if protocol == TCP else FORWARD  # our own reset, when we had the answer
    return ANSWER


def of_probe(found: Iterable[Passage], protocol: int, source: str, port: int) -> list[Passage]:
    """Those that are the probe's, each chain once: what was sent again is no news."""
    kept, seen = [], set()
    for passage in found:
        passage.direction = direction(passage.packet, protocol, source, port)
        key = passage.place.name, passage.name, passage.direction
        if passage.direction and key not in seen:
            seen.add(key)
            kept.append(passage)
    return kept


class Hop:
    """One line of the path: `kind` "route", "in", "rules", "nat", "neighbour", "out"; `text` what it was, `steps` the rules; `dropped`
    where it ended."""

    __slots__ = ("direction", "dropped", "kind", "place", "steps", "text")

    def __init__(self, place: str, direction: str, kind: str, text: str, steps: Sequence[str] = (), dropped: bool = False) -> None:
        self.place, self.direction, self.kind, self.text, self.steps, self.dropped = place, direction, kind, text, list(steps), dropped

    def data(self) -> dict[str, object]:
        """For JSON."""
        return {"place": self.place, "direction": self.direction, "kind": self.kind, "text": self.text, "rules": self.steps,
                "dropped": self.dropped}  # fmt: skip


def hops(places: Sequence[Place], found: Sequence[Passage], way: str) -> list[Hop]:
    """The path in one direction, through `places` in the order in which they are met."""
    made: list[Hop] = []
    for place in places:
        made += _of_place(place, [one for one in found if one.place is place and one.direction == way], way)
    return made


def _of_place(place: Place, met: list[Passage], way: str) -> list[Hop]:
    made: list[Hop] = []
    before: Passage | None = None
    bridged = any(one.family == "bridge" and one.hook == "forward" for one in met)
    for one in met:
        if before is None or (before.hook in ("postrouting", "output") and one.hook == "prerouting"):  # the latter: by lo
            made += _entered(place, one, way)
        if before is not None:
            made += _translated(place, before.packet, one.packet, way)
        if one.marker == FIRST and one.family == "bridge" and one.hook == "forward":
            made.append(Hop(place.name, way, "bridge", f"passes it from {place.name_of(one.iif)} to {place.name_of(one.oif)}"))
        if one.marker == FIRST and one.family == "inet" and one.hook in ("input", "forward") and not bridged:
            made.append(route(place, way, one.packet.destination, one.packet.source, one.iif, one.mark))
        if not one.marker:
            steps = [("" if chain == one.chain else f"{chain}: ") + text for chain, text, _ in one.steps]
            made.append(Hop(place.name, way, "rules", f"{one.hook} {one.name}", steps, one.is_dropped))
        before = one
    if before is not None and before.hook in ("postrouting", "output") and before.marker == LAST:
        made += _left(place, met, way, bridged)
    return made


def _entered(place: Place, one: Passage, way: str) -> list[Hop]:
    if one.hook == "prerouting" and one.iif:
        link = place.links.get(one.iif)
        master = f" (a port of {place.name_of(link.master)})" if link is not None and link.master else ""
        return [Hop(place.name, way, "in", f"{place.name_of(one.iif)}{master}: {describe(one.packet)}")]
    if one.hook == "output":
        return [route(place, way, one.packet.destination, "", 0, one.mark), Hop(place.name, way, "send", describe(one.packet))]
    return []


def _translated(place: Place, before: Packet, now: Packet, way: str) -> list[Hop]:
    made = []
    for what, old, new in (("source", _end(before, True), _end(now, True)), ("destination", _end(before, False), _end(now, False))):
        if old != new and before.protocol == now.protocol:
            made.append(Hop(place.name, way, "nat", f"{what} {old} becomes {new}"))
    return made


def _end(packet: Packet, source: bool) -> str:
    address, port = (packet.source, packet.source_port) if source else (packet.destination, packet.destination_port)
    return f"[{address}]:{port}" if port and ":" in address else f"{address}:{port}" if port else address


def describe(packet: Packet) -> str:
    """`172.17.0.2:41812 > 192.0.2.2:80 tcp S`."""
    more = f" {packet.flag_letters}" if packet.protocol == TCP else f" type {packet.code >> 8}" if packet.protocol in (ICMP, ICMP6) else ""
    return f"{_end(packet, True)} > {_end(packet, False)} {packet.name}{more}"


def route(place: Place, way: str, destination: str, source: str, iif: int = 0, mark: int = 0) -> Hop:
    """The routing decision, and the entry of the table that it came by."""
    try:
        decision, entry = place.decide(destination, source if iif else "", iif, mark)
    except KernelError as error:
        return Hop(place.name, way, "route", f"to {destination}: {error}", dropped=True)
    names = place.names()
    if decision.type == "local":
        return Hop(place.name, way, "route", f"{destination} is here")
    by = entry if entry.type == "unicast" else decision
    mtu = f", mtu {decision.mtu}" if decision.mtu else ""
    return Hop(place.name, way, "route", f"{destination} by `{by.text(names)}`{mtu}")


def _left(place: Place, met: list[Passage], way: str, bridged: bool) -> list[Hop]:
    made, last = [], met[-1]
    if not bridged and last.family == "inet" and last.hook == "postrouting":
        step = next_hop(place, met)
        if step and place.name_of(last.oif) != "lo":
            entry = place.neighbour(step, last.oif)
            known = f"{step} is at {entry.mac or 'nowhere'} ({entry.state})" if entry else f"{step} is not known"
            made.append(Hop(place.name, way, "neighbour", known, dropped=entry is not None and entry.state in routes.UNANSWERED))
    link = place.links.get(last.oif)
    more = f", mtu {link.mtu}" if link else ""
    return [*made, Hop(place.name, way, "out", f"{place.name_of(last.oif)}{more}")]


def next_hop(place: Place, met: list[Passage]) -> str:
    """To whom a packet that leaves is handed: its route's gateway, or whom it is for; "" where there is no way. What was forwarded is
    asked about as it was then, before its sender was translated."""
    forwarded = next((one for one in met if one.family == "inet" and one.hook == "forward"), None)
    last = met[-1]
    try:
        if forwarded is not None:
            decision, _ = place.decide(forwarded.packet.destination, forwarded.packet.source, forwarded.iif, forwarded.mark)
        else:
            decision, _ = place.decide(last.packet.destination, mark=last.mark)
    except KernelError:
        return ""
    return decision.gateway or last.packet.destination
