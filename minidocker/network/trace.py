"""network trace: one real probe, and each hop of its way with the kernel's own evidence; or real traffic, watched.

    ends ─► addresses ─► tables that mark the probe (trace_rules) ─► the probe ─► what was told of it (trace_path) ─► why it died
                                                                                                                       (trace_verdict)

What is put into the kernel for it goes with the process, however that ends: tables that the kernel takes back with our socket, and for a
probe from outside a cable in a namespace that nobody else holds.
"""

from __future__ import annotations

import os
import select
import time

from minidocker.errors import KernelError, UsageError
from minidocker.kernel import conntrack
from minidocker.kernel.netns import Visit
from minidocker.kernel.nftables import Owned
from minidocker.kernel.nftrace import Listener
from minidocker.kernel.packet import ICMP, ICMP6, TCP, ethernet
from minidocker.kernel.probe import ANSWERED, FAILED, REFUSED, SILENT, Arrival, Outcome, Probe, crafted
from minidocker.network import causes
from minidocker.network.trace_path import ANSWER, ERROR, FORWARD, Hop, Passage, Place, hops, of_probe, passages, route
from minidocker.network.trace_rules import LAST, Spec, Watch, script
from minidocker.network.trace_verdict import verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from minidocker.kernel.nftrace import Event
    from minidocker.kernel.routes import Port
    from minidocker.network.causes import Finding
    from minidocker.spec.records import Network

PATIENCE, SETTLE, PMTU_PATIENCE = 2.5, 0.15, 1.0  # seconds
CONTAINER, HOST, OUTSIDE, ADDRESS = "container", "host", "outside", "address"


class End:
    """One end: `text` as it was given; `kind` CONTAINER, HOST, OUTSIDE or ADDRESS; `place` its namespace where it is one of ours;
    `address` the address to be used, "" to be found out."""

    __slots__ = ("address", "kind", "place", "text")

    def __init__(self, text: str, kind: str, place: Place | None, address: str = "") -> None:
        self.text, self.kind, self.place, self.address = text, kind, place, address


class Journey:
    """One probe: `places` from the source's to the target's, `passages` what was seen of it, `outcome`, `finding` (None: it was answered,
    and nothing is wrong), `path` its hops, `flow` how connection tracking has it on the host, and `notes`, what else there is to say."""

    def __init__(self, source: End, target: End, protocol: int, port: int, places: Sequence[Place], networks: Sequence[Network],
                 tag: str) -> None:
        self.source, self.target, self.protocol, self.port = source, target, protocol, port
        self.places, self.networks, self.tag = list(places), networks, tag
        self.source_address, self.target_address = source.address, target.address
        self.passages: list[Passage] = []
        self.outcome = Outcome(SILENT)
        self.finding: Finding | None = None
        self.flow: conntrack.Flow | None = None
        self.notes: list[str] = []
        self.path: list[Hop] = []

    @property
    def shared(self) -> Network | None:
        """The network of both ends that the target's address is in: there the bridge passes packets on by itself."""
        if len(self.places) < 3 or self.source.place is None or self.target.place is None:
            return None
        theirs = {network.name for network, endpoint in self.target.place.members if self.target_address in (endpoint.ip, endpoint.ip6)}
        return next((network for network, _ in self.source.place.members if network.name in theirs), None)

    @property
    def is_answered(self) -> bool:
        return self.outcome.kind == ANSWERED

    def draw(self) -> None:
        """The hops there, and those of the answer, while the namespaces can be asked."""
        there = hops(self.places, self.passages, FORWARD)
        if not there and self.places:
            there = [route(self.places[0], FORWARD, self.target_address, "")]
        self.path = there + hops(list(reversed(self.places)), self.passages, ANSWER)


class Ears:
    """What tells of marked packets at each place, while it is open."""

    def __init__(self, places: Sequence[Place], spec: Spec) -> None:
        self.name = f"minidocker_trace_{os.getpid()}"
        self.places = list({place.netns: place for place in places}.values())
        self.listeners: list[Listener] = []
        self.tables: list[Owned] = []
        self.told: list[list[Event]] = [[] for _ in self.places]
        try:
            for place in self.places:
                self.listeners.append(Listener(place.netns))
                with Visit(place.netns):
                    self.tables.append(Owned())
                    self.tables[-1].apply(script(self.name, spec, place.is_host))
                place.look()
        except BaseException:
            self.close()
            raise

    def hear(self, seconds: float, *others: int) -> None:
        """Wait for news, of ours or at another descriptor, at most so long; take what there is of ours."""
        ready, _, _ = select.select([*(one.fileno() for one in self.listeners), *others], [], [], max(0.0, seconds))
        if ready:
            for told, listener in zip(self.told, self.listeners, strict=True):
                told += listener.events()

    def passages(self) -> list[Passage]:
        return [one for place, told in zip(self.places, self.told, strict=True) for one in passages(place, told, self.name)]

    def close(self) -> None:
        for listener in self.listeners:
            listener.close()
        for tables in self.tables:
            tables.close()


def probe(journey: Journey) -> Journey:
    """Send it and see; fills in `journey`. Raises UsageError, KernelError, UnsupportedError."""
    for place in journey.places:
        place.look()
    if journey.source.place is None:
        _from_outside(journey)
    else:
        _from_inside(journey, journey.source.place)
    if not journey.is_answered:
        journey.finding = verdict(journey)
    elif journey.source.place is not None:
        journey.finding = _whole_packets(journey, journey.source.place)
    journey.draw()
    return journey


def _from_inside(journey: Journey, place: Place) -> None:
    source = journey.source_address
    try:
        decision, _ = place.decide(journey.target_address)
        source = source or decision.source
    except KernelError as error:  # it is not even sent, and that is what there is to say
        journey.outcome = Outcome(FAILED, error.errno)
        return
    journey.source_address = source
    sender = Probe(place.netns, journey.protocol, source, journey.target_address, journey.port)
    spec = Spec(journey.protocol, source, journey.target_address, sender.port, journey.port, ":" in journey.target_address)
    try:
        ears = Ears(journey.places, spec)
        try:
            outcome = sender.fire()
            deadline = time.monotonic() + PATIENCE
            while outcome is None and time.monotonic() < deadline:
                ears.hear(min(0.2, deadline - time.monotonic()), sender.fileno())
                outcome = sender.outcome()
            journey.outcome = outcome or journey.outcome
            ears.hear(SETTLE)
            journey.passages = of_probe(ears.passages(), journey.protocol, source, sender.port)
            journey.flow = _tracked(journey, sender.port)
        finally:
            ears.close()
    finally:
        sender.close()


def _tracked(journey: Journey, port: int) -> conntrack.Flow | None:
    """How the host's connection tracking has the probe."""
    host = next(place for place in journey.places if place.is_host)
    family = 10 if ":" in journey.target_address else 2
    with Visit(host.netns):
        for flow in conntrack.flows(family):
            ports = (port, journey.port) if journey.protocol not in (ICMP, ICMP6) else (0, 0)
            if (flow.protocol, flow.source, flow.to, flow.source_port, flow.to_port) == (
                    journey.protocol, journey.source_address, journey.target_address, *ports):  # fmt: skip
                return flow
    return None


def _from_outside(journey: Journey) -> None:
    """The host seems to receive it by the link that leads to the source."""
    host = journey.places[0]
    source = journey.source_address
    decision, _ = host.decide(source)
    link = host.links.get(decision.device)
    if link is None or decision.type != "unicast":
        raise UsageError(f"`{journey.source.text}` is this host's own", "trace from `host`")
    neighbour = host.neighbour(decision.gateway or source, link.index)
    port = 49152 + int.from_bytes(os.urandom(2), "big") % 16384
    body = crafted(journey.protocol, source, journey.target_address, port, journey.port)
    spec = Spec(journey.protocol, source, journey.target_address, port, journey.port, ":" in source)
    ears = Ears(journey.places, spec)
    try:
        arrival = Arrival(link.index)
        try:
            sender = neighbour.mac if neighbour is not None and neighbour.mac else "06:42:00:00:00:02"
            arrival.receive(ethernet(link.mac, sender, body))
            deadline = time.monotonic() + PATIENCE
            while time.monotonic() < deadline and journey.outcome.kind == SILENT:
                ears.hear(min(0.2, deadline - time.monotonic()))
                journey.passages = of_probe(ears.passages(), journey.protocol, source, port)
                journey.outcome = _seen_to_leave(journey.passages, host, link.index)
            ears.hear(SETTLE)
        finally:
            arrival.close()
        journey.passages = of_probe(ears.passages(), journey.protocol, source, port)
        journey.flow = _tracked(journey, port)
    finally:
        ears.close()


def _seen_to_leave(found: Sequence[Passage], host: Place, link: int) -> Outcome:
    """What came of a probe from outside: what goes back by the link, or up from this host itself."""
    for one in found:
        if one.place is host and one.marker == LAST and one.hook == "postrouting" and one.oif == link:
            if one.direction == ERROR or (one.direction == ANSWER and one.packet.protocol == TCP and not one.packet.flags & 2):
                return Outcome(REFUSED)
            if one.direction == ANSWER:
                return Outcome(ANSWERED)
    return Outcome(SILENT)


def _whole_packets(journey: Journey, place: Place) -> Finding | None:
    """Where a link on the way takes less than the first one, a packet as large as that takes is tried, too: by an echo, as TCP would not
    send one before it has a connection; so only where an echo is answered at all."""
    first = place.links.get(place.decide(journey.target_address)[0].device)
    smallest = min(_links(journey), key=lambda one: (one[1].mtu, one[1].kind == "bridge"), default=None)
    if first is None or smallest is None or smallest[1].mtu >= first.mtu or first.name == "lo":
        return None
    if not _echo(journey, place, 0):
        journey.notes.append(f"`{smallest[1].name}` takes packets of {smallest[1].mtu} bytes alone; whether larger ones get lost was not "
                             "tried, as no echo is answered")  # fmt: skip
        return None
    if _echo(journey, place, first.mtu):
        journey.notes.append(f"`{smallest[1].name}` takes packets of {smallest[1].mtu} bytes alone; the sender of larger ones is told")
        return None
    network = next((network for network, endpoint in place.members if endpoint.interface == first.name), None)
    return causes.mtu(network, first.mtu, smallest[0].name, smallest[1].name, smallest[1].mtu)


def _echo(journey: Journey, place: Place, size: int) -> bool:
    """Whether an echo of that size is answered, or its sender told that it is too large."""
    kind = ICMP6 if ":" in journey.target_address else ICMP
    sender = Probe(place.netns, kind, journey.source_address, journey.target_address, 0, size)
    try:
        outcome = sender.fire()
        deadline = time.monotonic() + PMTU_PATIENCE
        while outcome is None and time.monotonic() < deadline:
            select.select([sender], [], [], 0.05)
            outcome = sender.outcome()
        return outcome is not None and (outcome.kind == ANSWERED or size > 0)
    finally:
        sender.close()


def _links(journey: Journey) -> list[tuple[Place, Port]]:
    """The links that it went by, there."""
    indices = [(one.place, index) for one in journey.passages if one.direction == FORWARD for index in (one.iif, one.oif)]
    return [(place, place.links[index]) for place, index in indices if index in place.links and place.links[index].name != "lo"]


def watch(places: Sequence[Place], spec: Watch) -> Iterator[Passage]:
    """Real traffic as it is, packet by packet and chain by chain, until the caller has enough."""
    for place in places:
        place.look()
    ears = Ears(places, spec)
    try:
        while True:
            ears.hear(1.0)
            ears.hear(SETTLE)
            yield from (one for one in ears.passages() if not one.marker or one.marker == LAST)
            ears.told = [[] for _ in ears.places]
    finally:
        ears.close()
