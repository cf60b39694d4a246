"""network doctor: what should be, from the records, held against what is."""

from __future__ import annotations

from minidocker.engine import networks as management
from minidocker.engine import reconcile
from minidocker.engine.host import Host
from minidocker.network import doctor, forwarding, others
from minidocker.network.causes import Finding
from minidocker.spec.records import BRIDGE
from minidocker.storage import containers, networks


def examine(host: Host, reference: str | None) -> list[Finding]:
    """What is wrong, with one network or with all."""
    reconcile.look(host)
    chosen = [networks.find(host.state, reference)] if reference else networks.every(host.state)
    bridges = [network for network in chosen if network.driver == BRIDGE]
    found = list(doctor.of_host())
    if bridges:
        seen, uplinks = others.seen(host.tag), forwarding.guarded(management.recorded(host))
        for network in bridges:
            found += doctor.of_bridge(network, host.tag, uplinks, seen)
    names, gateways = {network.name for network in bridges}, [network.gateway for network in networks.every(host.state) if network.gateway]
    for group in containers.endpoints(host.state).values():
        for endpoint in group:
            if endpoint.network in names:
                found += doctor.of_ports(endpoint, gateways)
    return found
