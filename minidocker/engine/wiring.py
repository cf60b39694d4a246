"""How one container is joined to the world: the plans of its places in networks, and what of them is taken back when it ends.

The engine's side of network/: records and state here, plans there. What it takes in the first transaction: leases.py; its hosts,
hostname and resolv.conf: namefiles.py; its networks' DNS: resolver.py.
"""

from __future__ import annotations

import os

from minidocker.engine.host import Host
from minidocker.engine.leases import Link
from minidocker.engine.prepare import Prepared
from minidocker.network import endpoint, inside, names, ownership
from minidocker.plan import Plan
from minidocker.spec.records import BRIDGE, PTP, Network
from minidocker.storage import containers, networks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minidocker.engine.activation import Activation
    from minidocker.network.ptp import Peer
    from minidocker.spec.records import Endpoint


def bring_up(host: Host, links: list[Link]) -> Plan:
    """Make the networks' bridges where they are missing; returns what was done for it."""
    done = Plan()
    for link in links:
        if link.network.driver != BRIDGE:
            continue
        link.ready = ownership.ready(link.network, host.tag)
        if not link.ready.complete:
            from minidocker.engine import networks as management  # only for the first container of a network

            link.ready, plan = management.bring_up(host, link.network)
            done += plan
    return done


def planned_up(host: Host, links: list[Link]) -> Plan:
    """What `bring_up` would do."""
    from minidocker.engine import networks as management
    from minidocker.network import forwarding

    done = Plan()
    for link in links:
        if link.network.driver == BRIDGE:
            plan, before = management.planned_up(host, link.network)
            link.ready = ownership.ready(link.network, host.tag)
            # what the bridge will have
            link.ready.mtu = link.ready.mtu or forwarding.observed(link.network, host.tag, before).mtu
            done += plan
    return done


def answer(host: Host, links: list[Link], id: str, activations: list[Activation]) -> Plan:
    """Have the DNS of its networks answered: by this monitor's starting it, where nobody has it yet."""
    bridges = [link.network for link in links if link.network.driver == BRIDGE]
    if not bridges:
        return Plan()
    from minidocker.engine import resolver

    return resolver.plan(host, bridges, id[:12], activations)


def plan(host: Host, prepared: Prepared, links: list[Link]) -> Plan:
    """The steps for the container's new network namespace."""
    if prepared.around.netns != "":
        return Plan()
    if not links:
        return Plan([inside.Loopback()])
    made = Plan()
    for link in links:
        if link.network.driver == PTP:
            link.peer = peer(host, link)
        made += endpoint.attach(link.network, host.tag, link.endpoint, link.ready, link.default, link.peer, link.default6)
    return made


def peer(host: Host, link: Link) -> Peer | None:
    """The other container of a ptp network; its namespace is held open until this process ends."""
    from minidocker.network import ptp

    for id, group in containers.endpoints(host.state).items():
        for place in group:
            if place.network == link.network.name and id != link.endpoint.container_id:
                record = containers.get(host.state, id)
                return ptp.Peer(place, record.pid if record else 0, namespace(record) if record else -1)
    return None


def namespace(record: containers.Record) -> int:
    """A descriptor of a running container's network namespace, -1 where it has none (any more)."""
    if not record.pid:
        return -1
    try:
        descriptor = os.open(f"/proc/{record.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return -1
    if os.fstat(descriptor).st_ino != record.netns:  # its process has ended, and the number may be a stranger's by now
        os.close(descriptor)
        return -1
    return descriptor


def places(host: Host, record: containers.Record) -> list[tuple[Network, Endpoint]]:
    """The container's places in networks by the records, each with all of its published ports: one that ended while its default route
    moved may have them at either, first where they should be."""
    found = containers.endpoints(host.state, record).get(record.id, [])
    ports = containers.ports(host.state, record).get(record.id, []) if found else []
    found.sort(key=lambda place: not place.ports)
    for place in found:
        place.ports = ports
    known = [(networks.get(host.state, place.network), place) for place in found]
    return [(network, place) for network, place in known if network is not None]


def released(host: Host, id: str, places: list[tuple[Network, Endpoint]]) -> Plan:
    """What takes back what of the container's networks does not go with its namespace. Idempotent."""
    plan = Plan()
    for network, place in places:
        plan += Plan([names.Leave(host.names_directory(network.name), id, [place.ip, place.ip6])])
        plan += endpoint.detach(network, host.tag, place)
    return plan


def unmake(host: Host, links: list[Link]) -> list[str]:
    """Remove the network that a failed run had made on first use; returns what went wrong."""
    troubles: list[str] = []
    made: list[Network] = [link.network for link in links if link.made]
    for network in made:
        from minidocker.engine import networks as management

        troubles += management.unmake(host, network)
    return troubles
