"""network connect and disconnect: a container's places in networks while it runs, and those that it will have at its next start.

    connect     lock ─ lease, marked as half ─ bridge ─ interface, routes, ports ─ names, DNS ─ no longer half
    disconnect  lock ─ marked as half ─ names ─ ports, interface ─ the next way out ─ lease given back ─ DNS
Whoever finds a half one that nobody has the lock of takes it back (reconcile.py).
"""

from __future__ import annotations

import os

from minidocker.engine import leases, moving, namefiles, reconcile, resolver, wiring
from minidocker.engine.host import Host, pass_on_lock
from minidocker.engine.leases import Link, Owner
from minidocker.engine.turn import Turn
from minidocker.errors import ConflictError, MinidockerError, StateError, UsageError
from minidocker.network import endpoint, inside
from minidocker.plan import At, Plan, silent
from minidocker.spec.records import BRIDGE, MOST_NETWORKS, PTP, Endpoint, Network, Port
from minidocker.spec.request import DEFAULT_NETWORK, Attachment, NetworkRequest, RunRequest
from minidocker.storage import containers, networks
from minidocker.storage.containers import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minidocker.engine.moving import Members
    from minidocker.plan import Step, Tell


def connect(host: Host, attachment: Attachment, reference: str, tell: Tell = silent) -> None:
    """Put a container into a network: now, if it runs, and at every start."""
    reconcile.sweep(host)
    record = containers.find(host.state, reference)
    _refuse_mode(record)
    if attachment.name == DEFAULT_NETWORK and networks.get(host.state, DEFAULT_NETWORK) is None:
        from minidocker.engine import networks as management

        management.create(host, NetworkRequest(DEFAULT_NETWORK))  # on first use, as `run` does
    attachment.name = networks.find(host.state, attachment.name).name
    if record.status in containers.AT_REST:
        with host.state.transaction():
            record = _again(host, record.id, record.status)
            _add(host, record, attachment)
            leases.reserve(host, record)
        tell(Plan)
        return
    with Turn(host, record):
        record, network, place = _take(host, record.id, attachment)
        try:
            _join(host, record, network, place, tell)
        except BaseException:
            _take_back(host, record.id, network.name)
            raise
        containers.connected(host.state, record.id, network.name)
    host.event("network", "connect", network.id, network.name, container=record.id, type=network.driver)


def disconnect(host: Host, reference: str, name: str, force: bool, tell: Tell = silent) -> None:
    """Take a container out of a network: now, if it runs, and for every start. With `force` what fails is only told."""
    reconcile.sweep(host)
    record = containers.find(host.state, reference)
    network = networks.find(host.state, name)
    if record.status not in (containers.RUNNING, *containers.AT_REST):
        raise StateError(f"container `{record.name}` is {record.status}", "try again when it runs")
    if record.status in containers.AT_REST:
        with host.state.transaction():
            record = _again(host, record.id, record.status)
            _refuse_stranger(record, network)
            _drop(host, record, network)
            leases.reserve(host, record)
        tell(Plan)
        return
    with Turn(host, record):
        record = _again(host, record.id, containers.RUNNING)
        _refuse_stranger(record, network)
        containers.set_connecting(host.state, record.id, network.name)
        troubles = _take_back(host, record.id, network.name, tell)
        if troubles and not force:
            raise MinidockerError(f"disconnect `{record.name}` from network `{network.name}`: {'; '.join(troubles)}")
        for trouble in troubles:
            host.notice(f"disconnecting `{record.name}` from `{network.name}`: {trouble}")
    host.event("network", "disconnect", network.id, network.name, container=record.id, type=network.driver)


def undo(host: Host, id: str, network: str) -> None:
    """Take back what somebody was connecting, or disconnecting, when he was killed; unless somebody else is faster."""
    try:
        lock = pass_on_lock(host.moving(id))
    except (BlockingIOError, FileNotFoundError):
        return
    try:
        if (id, network) in containers.half_connected(host.state):
            for trouble in _take_back(host, id, network):
                host.notice(f"disconnecting {id[:12]} from `{network}`: {trouble}")
    finally:
        os.close(lock)


def _refuse_mode(record: Record) -> None:
    kind = record.request.mode.partition(":")[0]
    if kind in ("host", "container"):
        whose = "the host" if kind == "host" else "another container"
        raise UsageError(f"container `{record.name}` has the network of {whose}, and none of its own to be connected",
                         "run it with --net br0 or --net none")
    if record.status not in (containers.RUNNING, *containers.AT_REST):
        raise StateError(f"container `{record.name}` is {record.status}", "try again when it runs")


def _refuse_stranger(record: Record, network: Network) -> None:
    if _asked(record.request, network) is None:
        raise StateError(f"container `{record.name}` is not in network `{network.name}`",
                         f"minidocker network inspect {network.name} shows who is")


def _asked(request: RunRequest, network: Network) -> Attachment | None:
    return next((one for one in request.networks if one.name in (network.name, network.id)), None)


def _again(host: Host, id: str, status: str) -> Record:
    """The record as it is now that nobody else can change it. Raises StateError where it is no longer `status`."""
    record = containers.get(host.state, id)
    if record is None:
        raise StateError(f"container {id[:12]} has just been removed")
    if record.status != status:
        raise StateError(f"container `{record.name}` has just {'ended' if status == containers.RUNNING else 'been started'}")
    return record



def _add(host: Host, record: Record, attachment: Attachment) -> Network:
    """Note a network for the container's next start. In a transaction: what is refused is refused by what is true then."""
    request = record.request
    network = networks.find(host.state, attachment.name)
    if _asked(request, network) is not None:
        raise ConflictError(f"container `{record.name}` is in network `{network.name}` already")
    if len(request.networks) >= MOST_NETWORKS:
        raise UsageError(f"container `{record.name}` is in {MOST_NETWORKS} networks already, and there can be no more")
    request.mode = ""
    request.networks.append(attachment)
    containers.set_request(host.state, record.id, request)
    return network


def _drop(host: Host, record: Record, network: Network) -> None:
    """Note that its next start is without a network."""
    request = record.request
    request.networks = [one for one in request.networks if one.name not in (network.name, network.id)]
    containers.set_request(host.state, record.id, request)


def _take(host: Host, id: str, attachment: Attachment) -> tuple[Record, Network, Endpoint]:
    """The first write: the lease, and what is to be at the next start. Refuses what cannot be, before anything has changed."""
    with host.state.transaction() as state:
        record = _again(host, id, containers.RUNNING)
        network = _add(host, record, attachment)
        taken = {place.number for place in containers.endpoints(state, record).get(record.id, [])}
        number = next(n for n in range(MOST_NETWORKS) if n not in taken)
        owner = Owner(record.id, record.name, record.generation, record.request.hostname, record.addresses)
        leases.lease(host, network, attachment, owner, number, connecting=True)
        [place] = [one for one in containers.endpoints(state, record)[record.id] if one.network == network.name]
        if place.ports and network.driver != BRIDGE:
            raise UsageError(
                f"network `{network.name}` would give the default route, and by it the ports of `{record.name}` cannot be published",
                "give it a lower --gw-priority",
            )
    return record, network, place


def _join(host: Host, record: Record, network: Network, place: Endpoint, tell: Tell) -> None:
    netns = wiring.namespace(record)
    if netns < 0:
        raise StateError(f"container `{record.name}` has just ended")
    before, after = _members(host, record, but=network.name), _members(host, record)
    link = Link(network, place, default=_way_out(after) == network.name, default6=_way_out(after, ipv6=True) == network.name)
    try:
        made = wiring.bring_up(host, [link])
        if network.driver == PTP:
            link.peer = wiring.peer(host, link)
        plan = Plan()
        for _, old in before:
            if place.ports:  # they were at the network that gave the default route so far
                plan += endpoint.withdrawn(host.tag, _with_ports(old, place))
        plan += endpoint.attach(network, host.tag, place, link.ready, link.default, link.peer, link.default6)
        plan += Plan(_entering(host, record, network, place, before, after))
        tell(lambda: made + plan, record.pid)
        plan.run(At(pid=record.pid, netns=netns))
    finally:
        os.close(netns)


def _entering(host: Host, record: Record, network: Network, place: Endpoint, before: Members, after: Members) -> list[Step]:
    """Its names and its DNS, once it is in the network."""
    own = os.path.exists(moving.own_hosts(host, record))
    steps: list[Step] = [moving.JoinHosts(host, record, network) if own else moving.OwnHosts(host, record, after)]
    steps.append(namefiles.AddName(host.names_directory(network.name), place))
    if network.driver == BRIDGE and not resolver.is_answered(host, network):
        steps.append(moving.AnswerNow(host, network, record.id[:12], []))
    return steps + _resolv_conf(host, record, before, after)


def _with_ports(old: Endpoint, new: Endpoint) -> Endpoint:
    """The endpoint as it was while it had the ports."""
    return Endpoint(old.network, old.container_id, old.container_name, old.ip, old.mac, old.generation, old.aliases, new.ports,
                    old.interface, old.ip6, old.priority)  # fmt: skip


def _members(host: Host, record: Record, but: str = "") -> Members:
    places = containers.endpoints(host.state, record).get(record.id, [])
    return [(networks.find(host.state, place.network), place) for place in places if place.network != but]


def _way_out(members: Members, ipv6: bool = False) -> str:
    """The network that gives the default route, that of IPv6 when `ipv6`; "" for none."""
    found = containers.default([place for network, place in members if inside.leads_out(network) and (place.ip6 or not ipv6)])
    return found.network if found else ""


def _resolv_conf(host: Host, record: Record, before: Members, after: Members) -> list[Step]:
    was, now = (
        namefiles.resolv_conf(host, record.request, [(network, network.name == _way_out(members)) for network, _ in members])
        for members in (before, after)
    )  # fmt: skip
    return [moving.ResolvConf(f"{host.data_directory(record.id)}/resolv.conf", was, now)] if was != now else []


def _take_back(host: Host, id: str, name: str, tell: Tell = silent) -> list[str]:
    """Undo a place: in the kernel as far as it is there, and only then in the records, so that whoever comes after a kill in between finds
    it again. Never stops at the first error; returns all of them."""
    record = containers.get(host.state, id)
    members = _members(host, record) if record is not None else []
    left = next(((network, place) for network, place in members if network.name == name), None)
    if record is None or left is None:
        return []
    network, place = left
    netns = wiring.namespace(record)
    plan = _leaving(host, record, network, place, members, netns >= 0)
    tell(lambda: plan + Plan([resolver.Settle(host, name)]), record.pid)
    troubles = plan.clear(At(pid=record.pid, netns=netns))
    if netns >= 0:
        os.close(netns)
    with host.state.transaction() as state:
        containers.remove_endpoint(state, id, name)
        now = containers.get(state, id)
        if now is not None:
            _drop(host, now, network)
    return troubles + Plan([resolver.Settle(host, name)]).clear(At())


def _leaving(host: Host, record: Record, network: Network, place: Endpoint, members: Members, lives: bool) -> Plan:
    """What takes it out of a network: its names, what is on the host, and where it lives its interface and its next way out."""
    rest = [member for member in members if member[0].name != network.name]
    place.ports = containers.ports(host.state, record).get(record.id, [])
    shares = bool(record.request.networks) and record.request.networks[0].name in (network.name, network.id)
    steps: list[Step] = []
    if shares and record.pid and not os.path.exists(moving.own_hosts(host, record)):
        steps.append(moving.OwnHosts(host, record, members))
    plan = Plan([*steps, moving.LeaveHosts(host, record, network, place)]) + endpoint.detach(network, host.tag, place)
    if lives:
        plan += Plan([inside.Unplug(place)]) + _next_way_out(host, rest, place.ports)
        plan += Plan(_resolv_conf(host, record, members, rest))
    return plan


def _next_way_out(host: Host, members: Members, ports: list[Port]) -> Plan:
    """The default route and the published ports by the network that gives it now."""
    plan = Plan()
    way_out, way_out6 = _way_out(members), _way_out(members, ipv6=True)
    for network, place in members:
        if network.name in (way_out, way_out6):
            plan += Plan([inside.Reroute(network, place, network.name == way_out, network.name == way_out6)])
            if network.name == way_out and network.driver == BRIDGE:
                place.ports = ports
                plan += endpoint.published(network, host.tag, place)
    return plan
