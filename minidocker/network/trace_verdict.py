"""Why a probe died: the last thing that was seen of it, and what the kernel says of the step that it did not make.

    nothing seen of it          it was never sent: no route, a link that is down
    a rule that dropped it      which, and whose
    the end of prerouting       routing: forwarding, the reverse path filter, no route; between ports of a bridge: --isolated
    the end of postrouting      the link that it left by: a bridge that is down, a neighbour that is silent, a wrong gateway, no masquerade
    the end of input            it arrived: refused, or no answer; then the same is asked of the answer
"""

from __future__ import annotations

import errno

from minidocker.errors import KernelError
from minidocker.kernel import sysctl
from minidocker.kernel.netns import Visit
from minidocker.kernel.packet import NAMES, TCP, UDP
from minidocker.kernel.probe import FAILED, REFUSED
from minidocker.kernel.routes import UNANSWERED
from minidocker.kernel.rtnetlink import IFF_UP
from minidocker.network import causes, dns, legacy, others
from minidocker.network.ownership import FAMILY, FRAMES, table
from minidocker.network.trace_path import ANSWER, ERROR, FORWARD, Passage, Place, next_hop
from minidocker.network.trace_rules import LAST
from minidocker.spec.records import BRIDGE, MACVLAN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minidocker.network.causes import Finding
    from minidocker.network.trace import Journey
    from minidocker.spec.records import Endpoint, Network



def verdict(journey: Journey) -> Finding:
    """The one cause; the journey has ended without an answer."""
    dead = _Dead(journey)
    way_back = dead.stopped(ANSWER) if dead.met(ANSWER) else None  # what was answered came through on its way there
    return dead.misled() or way_back or dead.stopped(FORWARD) or dead.beyond()


class _Dead:
    """A journey that ended, and what can be asked about it."""

    def __init__(self, journey: Journey) -> None:
        self.journey = journey
        self.host = next(place for place in journey.places if place.is_host)

    def met(self, way: str) -> list[Passage]:
        """What was seen in a direction, at the last place that saw anything."""
        order = self.journey.places if way == FORWARD else list(reversed(self.journey.places))
        for place in reversed(order):
            there = [one for one in self.journey.passages if one.place is place and one.direction == way]
            if there:
                return there
        return []

    def misled(self) -> Finding | None:
        """The host's own routes lead what is for a container elsewhere."""
        ends = {one.packet.destination for one in self.journey.passages if one.place is self.host} | {self.journey.target_address}
        ends |= {self.journey.source_address} - {""}
        for address in sorted(ends):
            network = self.network_of(address)
            if network is None or network.driver != BRIDGE or not self.concerns(address):
                continue
            bridge = self.host.link(network.bridge)
            if bridge is None:
                return causes.link_gone(network, causes.HOST, network.bridge)
            if not bridge.flags & IFF_UP:
                return causes.link_down(network, causes.HOST, network.bridge, is_bridge=True)
            try:
                decision, entry = self.host.decide(address)
            except KernelError:
                return causes.no_route(causes.HOST, address, network)
            if decision.device != bridge.index and decision.type == "unicast":
                return causes.overlap(network, address, entry.text(self.host.names()))
        return None

    def concerns(self, address: str) -> bool:
        """Whether an address is a container's or a sender's: what is for nobody is led astray by nothing."""
        return any(address in (endpoint.ip, endpoint.ip6) for place in self.journey.places for _, endpoint in place.members)

    def network_of(self, address: str) -> Network | None:
        packed = dns.packed(address)
        for network in self.journey.networks:
            subnet = network.subnet6 if ":" in address else network.subnet
            if subnet and dns.inside(packed, dns.subnet(subnet)):
                return network
        return None

    def stopped(self, way: str) -> Finding | None:
        """Where it was seen last, and why not further."""
        met = self.met(way)
        if not met:
            return self.never_sent() if way == FORWARD else None
        last = met[-1]
        if last.is_dropped:
            return self.by_rule(last)
        if last.marker != LAST:
            return causes.unseen(last.place.name, last.hook, self.legacy(last.place))
        if last.hook == "input" and last.family == "inet":
            return self.arrived(last) if way == FORWARD else None
        if last.family == "bridge" and last.hook == "input":
            return self.unrouted(last, self.host.links[last.iif].master if last.iif in self.host.links else last.iif)
        if last.family == "bridge":
            return self.within_bridge(last, way)
        if last.hook in ("postrouting", "output"):
            return self.left(last, way)
        return self.unrouted(last, last.iif)

    def never_sent(self) -> Finding | None:
        """The source's own kernel refused."""
        journey, place = self.journey, self.journey.places[0]
        if journey.source.kind in ("outside", "address") and place.is_host and journey.outcome.kind != FAILED:
            return causes.unseen(causes.HOST, "the link it came in by", self.legacy(place))
        down = next((one for one in place.members if not self.is_up(place, one[1].interface)), None)
        if down is not None:
            return causes.link_down(down[0], place.name, down[1].interface)
        return self.roadless(place, journey.target_address)

    def roadless(self, place: Place, address: str) -> Finding:
        """A place has no route; a network that is internal gives none."""
        for network, endpoint in place.members:
            down = self.down(network, endpoint)
            if down is not None:
                return down
        if place.members and all(network.internal for network, _ in place.members):
            return causes.internal(place.members[0][0], address)
        member = next(((network, endpoint) for network, endpoint in place.members if network.gateway and not network.internal), None)
        if member is None:
            return causes.no_route(place.name, address, place.members[0][0] if place.members else None)
        gateway = member[0].gateway6 if ":" in address else member[0].gateway
        return causes.no_route(place.name, address, member[0], gateway, member[1].interface)

    def is_up(self, place: Place, name: str) -> bool:
        link = place.link(name)
        return link is not None and bool(link.flags & IFF_UP)

    def down(self, network: Network, endpoint: Endpoint) -> Finding | None:
        """The cable between a container and its bridge, from the bridge on."""
        if network.driver != BRIDGE:
            return None
        for name, is_bridge in ((network.bridge, True), (endpoint.host_link, False)):
            link = self.host.link(name)
            if link is None:
                return causes.link_gone(network, causes.HOST, name)
            if not link.flags & IFF_UP:
                return causes.link_down(network, causes.HOST, name, is_bridge)
        return None

    def by_rule(self, last: Passage) -> Finding:
        """A rule of ours, which says what it is for by its sets, or of somebody else's."""
        journey, text = self.journey, last.steps[-1][1]
        chain, rule = f"{last.family} {last.table} {last.steps[-1][0]} at {last.hook}", text
        network = self.member_network(last)
        ours = last.place.is_host and last.table == table(journey.tag) and last.family in (FAMILY, FRAMES)
        if not ours:
            return causes.dropped(network, last.place.name, chain, rule, True, self.passing(last, network))
        target = journey.target_address
        if network is not None and ("@internal" in text or last.steps[-1][0] == "closed"):
            return causes.internal(network, target)
        if network is not None and "@apart" in text:
            return causes.isolated(network, last.packet.source, last.packet.destination)
        if "@bridges drop" in text or "@subnets" in text:
            inner = self.network_of(last.packet.destination)
            if inner is not None and inner is not self.network_of(last.packet.source):
                return causes.not_published(inner, last.packet.destination, last.packet.destination_port)
        return causes.dropped(network, causes.HOST, chain, rule, False, "minidocker network doctor")

    def member_network(self, last: Passage) -> Network | None:
        return self.network_of(last.packet.source) or self.network_of(last.packet.destination)

    def passing(self, last: Passage, network: Network | None) -> str:
        """What lets it pass a foreign chain."""
        key = (last.family, last.table, last.chain)
        if last.place.is_host and last.hook == "forward" and network is not None and network.bridge:
            return others.passing(key, ("ip", "filter", "ufw-before-forward") in last.place.rules.hooks, network.bridge)
        family = "ip6" if ":" in last.packet.source else "ip"
        return causes.at(last.place.name, f"nft insert rule {' '.join(key)} {family} saddr {last.packet.source} {family} daddr "
                                          f"{last.packet.destination} accept")  # fmt: skip

    def within_bridge(self, last: Passage, way: str) -> Finding:
        """Lost between two ports, or between a port and the bridge itself."""
        journey = self.journey
        shared = journey.shared
        if last.hook == "prerouting" and shared is not None and shared.isolated:
            return causes.isolated(shared, journey.places[0].name, journey.places[-1].name)
        for network, endpoint in (journey.places[-1] if way == FORWARD else journey.places[0]).members:
            if shared is None or network is shared:
                down = self.down(network, endpoint)
                if down is None and not self.is_up(journey.places[-1], endpoint.interface) and way == FORWARD:
                    down = causes.link_down(network, journey.places[-1].name, endpoint.interface)
                if down is not None:
                    return down
        return causes.unseen(causes.HOST, f"bridge {last.hook}", self.legacy(self.host))

    def left(self, last: Passage, way: str) -> Finding | None:
        """It left a place, and did not come to the next."""
        place, step = last.place, next_hop(last.place, [one for one in self.met(way) if one.place is last.place])
        link = place.name_of(last.oif)
        entry = place.neighbour(step, last.oif) if step else None
        unanswered = entry is not None and entry.state in UNANSWERED
        member = next((one for one in place.members if one[1].interface == link), None)
        if member is not None:
            return self.left_container(member, place, step, unanswered, entry.state if entry else "unknown")
        network = next((one for one in self.journey.networks if one.bridge == link), None)
        if network is not None:
            for inner, endpoint in self.journey.places[-1 if way == FORWARD else 0].members:
                down = self.down(inner, endpoint)
                inside = self.journey.places[-1 if way == FORWARD else 0]
                if down is None and not self.is_up(inside, endpoint.interface):
                    down = causes.link_down(inner, inside.name, endpoint.interface)
                if down is not None:
                    return down
        if network is not None and (misguided := self.misguided(way)) is not None:
            return misguided
        if unanswered and entry is not None:
            return causes.unanswered(network, place.name, step, link, entry.state)
        if network is None and way == FORWARD:
            return self.left_host(last, link)
        return None

    def left_container(self, member: tuple[Network, Endpoint], place: Place, step: str, unanswered: bool, state: str) -> Finding | None:
        network, endpoint = member
        down = self.down(network, endpoint)
        if down is not None:
            return down
        shared = self.journey.shared
        if shared is not None and shared.isolated and unanswered:
            return causes.isolated(shared, self.journey.places[0].name, self.journey.places[-1].name)
        misguided = self.misguided(FORWARD if place is self.journey.places[0] else ANSWER)
        if misguided is not None:
            return misguided
        if unanswered:
            return causes.unanswered(network, place.name, step, endpoint.interface, state)
        return causes.lost_outside(self.journey.target_address, network.parent) if network.driver == MACVLAN else None

    def misguided(self, way: str) -> Finding | None:
        """The sender's next hop is a neighbour, and none that is its network's gateway."""
        place = self.journey.places[0 if way == FORWARD else -1]
        address = self.journey.target_address if way == FORWARD else self.journey.source_address
        if not place.members:
            return None
        decision, _ = place.decide(address)
        for network, endpoint in place.members:
            right = network.gateway6 if ":" in address else network.gateway
            if place.name_of(decision.device) == endpoint.interface and right and decision.gateway not in ("", right):
                return causes.wrong_gateway(network, place.name, decision.gateway, right, endpoint.interface)
        return None

    def left_host(self, last: Passage, link: str) -> Finding:
        """Out into the world."""
        source = self.network_of(last.packet.source)
        if source is not None and self.network_of(last.packet.destination) is None and link != "lo":
            return causes.no_masquerade(source, last.packet.source, link)
        outcome = self.journey.outcome
        if outcome.kind == REFUSED:
            return causes.refused("", self.journey.target_address, NAMES.get(self.journey.protocol, ""), self.journey.port)
        if outcome.offender and outcome.errno != errno.EMSGSIZE:
            return causes.unreachable(outcome.offender, self.journey.target_address, outcome.icmp)
        return causes.lost_outside(self.journey.target_address, link)

    def unrouted(self, last: Passage, iif: int) -> Finding:
        """It came through prerouting by the link `iif`, and neither to input nor to forward."""
        place, packet = last.place, last.packet
        link, ipv6 = place.name_of(iif), ":" in packet.destination
        network = self.member_network(last)
        try:
            place.decide(packet.destination, packet.source, iif, last.mark)
        except KernelError:
            with Visit(place.netns):
                if sysctl.read("net/ipv6/conf/all/forwarding" if ipv6 else f"net/ipv4/conf/{link}/forwarding") == "0":
                    return causes.forwarding_off(network, link, ipv6)
                strict = max(int(sysctl.read(f"net/ipv4/conf/{name}/rp_filter") or 0) for name in ("all", link))
            try:
                back = place.decide(packet.source)[0].device
            except KernelError:
                back = 0
            if strict and not ipv6 and (back == 0 or (strict == 1 and back != iif)):
                return causes.rp_filter(network, place.name, link, packet.source, place.name_of(back) if back else "")
            return causes.no_route(place.name, packet.destination, network)
        return causes.unseen(place.name, "routing", self.legacy(place))

    def arrived(self, last: Passage) -> Finding | None:
        """It came to the target. A refusal, a silence, or an answer that died."""
        journey = self.journey
        name = "" if last.place.is_host and not journey.target.place else last.place.name
        if journey.outcome.kind == REFUSED or any(one.direction == ERROR and one.place is last.place for one in journey.passages):
            return causes.refused(name, journey.target_address, NAMES[journey.protocol], last.packet.destination_port)
        lost = self.stopped(ANSWER)
        if lost is not None:
            return lost
        if not self.met(ANSWER):
            try:
                way = last.place.decide(last.packet.source)[0]
            except KernelError:
                return self.roadless(last.place, last.packet.source)
            if journey.protocol == TCP and not last.place.is_host and not way.device:
                return self.roadless(last.place, last.packet.source)
        return causes.silent(last.place.name, journey.target_address, journey.protocol == UDP)

    def beyond(self) -> Finding:
        """Nothing of the above; what the kernel said to the sender."""
        outcome = self.journey.outcome
        if outcome.kind == REFUSED:
            target = self.journey.target
            return causes.refused(target.place.name if target.place else "", self.journey.target_address,
                                  NAMES[self.journey.protocol], self.journey.port)
        if outcome.offender:
            return causes.unreachable(outcome.offender, self.journey.target_address, outcome.icmp)
        met = self.met(FORWARD)
        return causes.unseen(met[-1].place.name if met else causes.HOST, "the link it left by", self.legacy(self.host))

    def legacy(self, place: Place) -> list[str]:
        """The other iptables, which nftables does not show."""
        with Visit(place.netns):
            return [program for program, _ in legacy.tables()]
