"""What is wrong with this host's own network in ways that concern every container: its ways out, its resolvers, its tables. Cold."""

from __future__ import annotations

import os
import select
import time
from _socket import AF_INET, AF_INET6, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK, socket

from minidocker.kernel import routes, sysctl
from minidocker.kernel.netlink import Socket
from minidocker.kernel.rtnetlink import RT_TABLE_MAIN, Link, Route, link_delete, routes_dump
from minidocker.network import causes, dns, legacy, occupied
from minidocker.network.causes import Finding
from minidocker.network.doctor_mend import Mend

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from minidocker.spec.records import Network

_COUNT, _MAX = "net/netfilter/nf_conntrack_count", "net/netfilter/nf_conntrack_max"
_NEARLY = 0.9
_MOST_PORTS = 1023  # BR_MAX_PORTS less the unused port 0 (net/bridge/br_private.h)
_QUESTION = b"\1\0\0\1\0\0\0\0\0\0" + b"\0" + b"\0\2\0\1"  # what are the root's name servers? recursion desired (RFC 1035, 4.1)
_PATIENCE = 1.0  # seconds for an answer, twice


def of_tables() -> Iterator[Finding]:
    """Packet filters that nobody sees, and flows that do not fit any more."""
    for program, tables in legacy.tables():
        yield causes.legacy(program, tables)
    count, most = int(sysctl.read(_COUNT) or 0), int(sysctl.read(_MAX) or 0)
    if most and count >= most * _NEARLY:
        yield causes.conntrack_full(count, most)


def of_bridges(networks: Sequence[Network], links: Sequence[Link]) -> Iterator[Finding]:
    """Bridges that take few more. `links`: all of this host."""
    by_name = {link.name: link for link in links}
    for network in networks:
        bridge = by_name.get(network.bridge)
        ports = sum(link.master == bridge.index for link in links) if bridge else 0
        if ports >= _MOST_PORTS * _NEARLY:
            yield causes.bridge_full(network, ports, _MOST_PORTS)


def of_ways_out(links: Sequence[Link]) -> Iterator[Finding]:
    """Routers that do not answer, and ways in that are not believed: several ways out, of which one is taken, and strict filters."""
    names = {link.index: link.name for link in links}
    with Socket() as netlink:
        ways = [route for route in map(Route, netlink.dump(routes_dump(AF_INET)))
                if route.prefix == 0 and route.table == RT_TABLE_MAIN and route.devices]  # fmt: skip
        known = {(one.index, one.ip): one.state for one in routes.neighbours(netlink, AF_INET)}
    ways.sort(key=lambda route: route.priority)
    for way in ways:
        link, state = names.get(way.devices[0], "?"), known.get((way.devices[0], way.gateway), "")
        if state in routes.UNANSWERED:
            yield causes.unanswered(None, causes.HOST, way.gateway, link, state)
        best = names.get(ways[0].devices[0], "?")
        if link != best and _strict(link):
            yield causes.rp_filter(None, causes.HOST, link, "beyond its subnet", best)


def _strict(link: str) -> bool:
    """Whether the reverse path filter is: the greater of the two counts (ip-sysctl.rst)."""
    return max(int(sysctl.read(f"net/ipv4/conf/{name}/rp_filter") or 0) for name in ("all", link)) == 1


def of_resolvers(files: Sequence[str]) -> Iterator[Finding]:
    """Each of the host's resolvers is asked something; those that are silent. `files` as /etc/resolv.conf."""
    servers = list(dict.fromkeys(server for path in files for server in dns.nameservers(occupied.read(path).encode())))
    answered: set[str] = set()
    for _ in range(2):
        answered |= _ask([server for server in servers if server not in answered])
    for server in servers:
        if server not in answered:
            yield causes.resolver_dead(server)


def _ask(servers: Sequence[str]) -> set[str]:
    """Who of them answers within the patience."""
    answered, asked, poll = set(), {}, select.poll()
    for server in servers:
        asking = socket(AF_INET6 if ":" in server else AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK)
        try:
            asking.connect((server.partition("%")[0], 53))
            asking.send(os.urandom(2) + _QUESTION)
        except OSError:
            asking.close()  # no way there: silent, as far as containers are concerned
            continue
        asked[asking.fileno()] = server, asking
        poll.register(asking.fileno(), select.POLLIN)
    deadline = time.monotonic() + _PATIENCE
    while asked and (left := deadline - time.monotonic()) > 0:
        for descriptor, _ in poll.poll(left * 1000):
            server, asking = asked.pop(descriptor)
            poll.unregister(descriptor)
            try:
                asking.recv(512)
                answered.add(server)
            except OSError:
                pass  # told by ICMP that nobody listens there
            asking.close()
    for _, asking in asked.values():
        asking.close()
    return answered


def leaked(tag: str, owners: Collection[str], links: Sequence[Link]) -> Iterator[Finding]:
    """Links that bear our mark and belong to nobody any more. `owners`: ids of networks, and of containers that run."""
    for link in links:
        mark, _, owner = link.alias.rpartition(":")
        if mark == f"minidocker:{tag}" and owner not in owners:
            yield causes.leaked("link", link.name, f"ip link del {link.name}").mended_by(Mend(0, [link_delete(link.index, link.name)]))
