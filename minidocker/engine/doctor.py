"""network doctor: what should be, from the records, held against what is."""

from __future__ import annotations

import os

from minidocker.engine import networks as management
from minidocker.engine import reconcile, wiring
from minidocker.engine.host import Host
from minidocker.errors import KernelError, MinidockerError
from minidocker.kernel.netlink import Socket
from minidocker.kernel.rtnetlink import Link, links_dump
from minidocker.network import causes, doctor, doctor_host, doctor_inside, doctor_rules, forwarding, occupied, others, ownership
from minidocker.network.causes import Finding
from minidocker.network.doctor_inside import Inside
from minidocker.spec.records import BRIDGE, Network
from minidocker.storage import containers, networks

# What `network reload` mends, all at once.
_BY_RELOAD = ("rules-gone", "rules-changed", "no-masquerade", "forwarding-off")


def examine(host: Host, reference: str | None = None) -> list[Finding]:
    """What is wrong, with one network or with all, and with the host where all were asked for."""
    reconcile.look(host)
    every = networks.every(host.state)
    chosen = [networks.find(host.state, reference)] if reference else every
    bridges = [network for network in chosen if network.driver == BRIDGE]
    with Socket() as netlink:
        links = [Link(body) for body in netlink.dump(links_dump())]
    found = [] if reference else _of_host(host, every, links)
    if bridges:
        seen, before = others.seen(host.tag), management.recorded(host)
        for network in bridges:
            found += doctor.of_bridge(network, host.tag, forwarding.guarded(before), seen)
        found += doctor_host.of_bridges(bridges, links)
        if not reference:
            wanted = management.wanted(host, before)
            wanted.keep(network for network in bridges if ownership.ready(network, host.tag).state == ownership.OURS)
            found += doctor_rules.of_tables(host.tag, wanted)
    gateways = [network.gateway for network in every if network.gateway]
    found += _of_containers(host, {network.name: network for network in chosen}, gateways, links)
    for finding in found:
        if finding.cause in _BY_RELOAD:
            finding.fix = lambda: management.reload(host)
    return found


def _of_host(host: Host, every: list[Network], links: list[Link]) -> list[Finding]:
    found = [*doctor_host.of_tables(), *doctor_host.of_ways_out(links)]
    if any(network.driver == BRIDGE and not network.internal for network in every):
        found += doctor_host.of_resolvers(occupied.RESOLV_CONF[:1])
    running = {record.id for record in containers.unfinished(host.state)}
    found += doctor_host.leaked(host.tag, {network.id for network in every} | running, links)
    for id, paths in cgroups(host).items():
        if id not in running:
            finding = causes.leaked("the cgroup of container", id[:12], f"rmdir {' '.join(paths)}")
            found.append(finding.mended_by(_Remove(paths)))
    return found


class _Remove:
    """Directories that are empty."""

    __slots__ = ("paths",)

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def __call__(self) -> None:
        for path in self.paths:
            os.rmdir(path)


def cgroups(host: Host) -> dict[str, list[str]]:
    """id -> the cgroups below our own parent that have its name, one in each hierarchy."""
    found: dict[str, list[str]] = {}
    for parent in sorted({hierarchy.path(f"minidocker-{host.tag}") for hierarchy in host.face.hierarchies}):
        if os.path.isdir(parent):
            for entry in os.scandir(parent):
                if entry.is_dir(follow_symlinks=False):
                    found.setdefault(entry.name, []).append(entry.path)
    return found


def _of_containers(host: Host, chosen: dict[str, Network], gateways: list[str], links: list[Link]) -> list[Finding]:
    found: list[Finding] = []
    every: list[Inside] = []
    ports = {link.name: link for link in links}
    for id, group in containers.endpoints(host.state).items():
        members = [(chosen[endpoint.network], endpoint) for endpoint in group if endpoint.network in chosen]
        for network, endpoint in members:
            if network.driver == BRIDGE:
                found += doctor.of_ports(endpoint, gateways)
        record = containers.get(host.state, id)
        netns = wiring.namespace(record) if members and record is not None and record.status == containers.RUNNING else -1
        if netns >= 0 and record is not None:
            try:
                every.append(Inside(record.name, record.pid, netns, members, ports))
            finally:
                os.close(netns)
            # what gives it its default route may be in a network that was not asked for
            if len(members) < len(group):
                every[-1].defaults_unknown = True
    for inside in every:
        found += inside.examine()
    return found + list(doctor_inside.duplicates(every))


def fix(findings: list[Finding]) -> list[str]:
    """Mend what is ours to mend; returns what went wrong, a line each. The same repair is done once."""
    troubles, done = [], set()
    for finding in findings:
        key = "reload" if finding.cause in _BY_RELOAD else finding.mend
        if finding.fix is None or key in done:
            continue
        done.add(key)
        try:
            finding.fix()
        except MinidockerError as error:
            troubles.append(f"{finding.found}: {error}")
        except OSError as error:
            troubles.append(f"{finding.found}: {KernelError.of(finding.mend, error)}")
    return troubles
