"""network explain: a network, or a running container's, as it is now. The records say only who is asked for, the kernel what there is."""

from __future__ import annotations

import os

from minidocker.engine import reconcile, wiring
from minidocker.engine.host import Host
from minidocker.errors import NotFoundError, StateError
from minidocker.network import retrace
from minidocker.network.retrace import Member
from minidocker.plan import Plan
from minidocker.storage import containers, networks


def explain(host: Host, reference: str) -> Plan:
    """The plan that would make what is there. A network's name goes before a container's. Raises NotFoundError, StateError."""
    reconcile.look(host)
    try:
        network = networks.find(host.state, reference)
    except NotFoundError as unknown:
        try:
            record = containers.find(host.state, reference)
        except NotFoundError:
            raise NotFoundError(f"no such network or container: {reference}", unknown.hint) from None
        return _container(host, record)
    places = containers.endpoints(host.state)
    return retrace.network(network, host.tag, _members(host, {id for id, group in places.items()
                                                              if any(place.network == network.name for place in group)}))  # fmt: skip


def _container(host: Host, record: containers.Record) -> Plan:
    if record.status != containers.RUNNING:
        raise StateError(f"container `{record.name}` is not running, and has no network now", f"it is {record.status}")
    places = containers.endpoints(host.state)
    shared = {place.network for place in places.get(record.id, [])}
    near = {id for id, group in places.items() if id != record.id and any(place.network in shared for place in group)}
    own = _members(host, {record.id})
    if not own:
        raise StateError(f"container `{record.name}` has just ended")
    return retrace.container(own[0], host.tag, _members(host, near))


def _members(host: Host, ids: set[str]) -> list[Member]:
    """Those that run, in the order of their starts."""
    found = []
    records = sorted((record for record in containers.every(host.state) if record.id in ids), key=lambda record: record.started)
    for record in records:
        netns = wiring.namespace(record)
        if netns >= 0:
            found.append(Member(record.name, record.pid, netns))
            os.close(netns)
    return found
