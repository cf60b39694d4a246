"""The guard of each port of a bridge: a hostile container's forged frames reach neither its neighbour nor the host, its honest ones do.

What is sent and what arrives is on AF_PACKET, so nothing of the kernel's own stands between: each frame carries its number, and after
all of them comes an honest one that says so.
"""

from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Callable

import pytest

from minidocker.network import endpoint, ipam6, ownership
from minidocker.network.ownership import bridge_mac
from minidocker.plan import At
from minidocker.spec.records import Endpoint, Network
from tests.kernel.world import TAG, World, python
from tests.pretend import sh

LISTEN = """
import re, socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)); s.bind((sys.argv[1], 3)); s.settimeout(20)
print("ready", flush=True)
seen = set()
while True:
    frame, address = s.recvfrom(2000)
    if address[2] == socket.PACKET_OUTGOING: continue
    if found := re.search(rb"<(\\d{4}|end.)>", frame):
        if found[1] == b"end.": break
        seen.add(int(found[1]))
print(*sorted(seen))
"""
SEND = """
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind((sys.argv[1], 0))
for frame in sys.argv[2:]: s.send(bytes.fromhex(frame))
"""
IPV4, ARP, IPV6 = 0x0800, 0x0806, 0x86DD
ALL_NODES = "ff02::1"
EVERYBODY = "ff:ff:ff:ff:ff:ff"
STRANGER = "02:42:de:ad:be:ef"
RS, RA, NS, NA, REDIRECT, MLD_REPORT, MLD2_REPORT, ECHO = 133, 134, 135, 136, 137, 131, 143, 128


Frame = Callable[[bytes], bytes]  # the whole with a mark of six bytes in it
Frames = dict[str, Frame]
END = b"<end.>"


def octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def packed6(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6, address)


def checksum(data: bytes) -> bytes:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


def ethernet(source: str, kind: int, payload: Frame, vlan: bool = False) -> Frame:
    header = octets(EVERYBODY) + octets(source) + (b"\x81\x00\x00\x01" if vlan else b"") + struct.pack("!H", kind)
    return lambda mark: (header + payload(mark)).ljust(60, b"\0")


def plain(data: bytes) -> Frame:
    return lambda mark: data + mark


def ip4(source: str, destination: str, fragment: int = 0) -> Frame:
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 34, 1, fragment, 64, socket.IPPROTO_UDP, 0, socket.inet_aton(source),
                         socket.inet_aton(destination))  # fmt: skip
    return plain(header[:10] + checksum(header) + header[12:] + struct.pack("!HHHH", 9, 9, 14, 0))


def arp(operation: int, sender: str, ip: str, target: str, of: str = "00:00:00:00:00:00") -> Frame:
    addresses = octets(sender) + socket.inet_aton(ip) + octets(of) + socket.inet_aton(target)
    return plain(struct.pack("!HHBBH", 1, IPV4, 6, 4, operation) + addresses)


def ip6(source: str, destination: str, after: int, payload: bytes) -> bytes:
    return struct.pack("!IHBB", 6 << 28, len(payload), after, 255) + packed6(source) + packed6(destination) + payload


def udp6(source: str, destination: str) -> Frame:
    return lambda mark: ip6(source, destination, socket.IPPROTO_UDP, struct.pack("!HHHH", 9, 9, 14, 0) + mark)


def piece6(source: str, destination: str, offset: int) -> Frame:
    """A fragment of a UDP packet: next header, offset in bytes and 1 for more to come (RFC 8200, section 4.5)."""
    fragment = struct.pack("!BBHI", socket.IPPROTO_UDP, 0, offset, 7)
    return lambda mark: ip6(source, destination, socket.IPPROTO_FRAGMENT, fragment + struct.pack("!HHHH", 9, 9, 14, 0) + mark + bytes(2))


def icmp6(source: str, kind: int, body: bytes = bytes(4), options: bytes = b"") -> Frame:
    """To everybody on the wire, behind `options`: the number of a header and that header. The mark is in an option that nobody knows."""

    def whole(mark: bytes) -> bytes:
        rest = body + b"\xfd\x01" + mark
        pseudo = packed6(source) + packed6(ALL_NODES) + struct.pack("!II", len(rest) + 4, socket.IPPROTO_ICMPV6)
        message = struct.pack("!BB", kind, 0) + checksum(pseudo + struct.pack("!BBH", kind, 0, 0) + rest) + rest
        return ip6(source, ALL_NODES, options[0] if options else socket.IPPROTO_ICMPV6, options[1:] + message)

    return whole


def advertised(target: str, mac: str) -> bytes:
    """The body of a neighbour's advertisement that takes the place of what was known: flags, target, its MAC."""
    return struct.pack("!I", 0x20000000) + packed6(target) + b"\x02\x01" + octets(mac)


ROUTER_ALERT = bytes([0, socket.IPPROTO_ICMPV6, 0, 5, 2, 0, 0, 1, 0])  # hop-by-hop options (RFC 2711) before ICMPv6
PADDING = bytes([60, socket.IPPROTO_ICMPV6, 0, 1, 4, 0, 0, 0, 0])  # destination options before ICMPv6


class Wire:
    """A bridge with a hostile container, its neighbour and the host, each of whom tells what arrives."""

    def __init__(self, world: World, net: Network, hostile: Endpoint, neighbour: Endpoint) -> None:
        self.world = world
        self.net = net
        self.hostile = hostile
        self.neighbour = neighbour

    def arrive(self, frames: Frames, interface: str = "eth0", at: Endpoint | None = None) -> tuple[set[str], set[str]]:
        """Which of the frames that the hostile container sends reach the neighbour, and which the host's bridge."""
        hostile = at or self.hostile
        listening = [self._listen(self.neighbour.container_name, "eth0"), self._listen("", self.net.bridge)]
        named = list(frames)
        sent = [frame(b"<%04d>" % number) for number, frame in enumerate(frames.values())]
        sent.append(ethernet(hostile.mac, IPV4, ip4(hostile.ip, self.neighbour.ip))(END))
        subprocess.run(python(hostile.container_name, SEND, interface, *[frame.hex() for frame in sent]), check=True)
        found = []
        for listener in listening:
            told, _ = listener.communicate(timeout=20)
            found.append({named[int(number)] for number in told.split()})
        return found[0], found[1]

    def _listen(self, where: str, link: str) -> subprocess.Popen[str]:
        listener = subprocess.Popen(python(where, LISTEN, link), stdout=subprocess.PIPE, text=True)
        self.world.processes.append(listener)
        assert listener.stdout is not None
        assert listener.stdout.readline() == "ready\n"
        return listener


def wire(world: World, **options: object) -> Wire:
    net = world.network(**options)  # type: ignore[arg-type]
    world.up(net)
    return Wire(world, net, world.attach(net, 2), world.attach(net, 3))


@pytest.fixture
def both(world: World) -> Wire:
    """With both families."""
    return wire(world, ipv6=True)


def of_ipv4(wire: Wire) -> tuple[Frames, Frames]:
    """(honest frames, forged ones)"""
    net, me, other = wire.net, wire.hostile, wire.neighbour
    honest = {
        "a packet": ethernet(me.mac, IPV4, ip4(me.ip, other.ip)),
        "to everybody": ethernet(me.mac, IPV4, ip4(me.ip, "255.255.255.255")),
        "who has?": ethernet(me.mac, ARP, arp(1, me.mac, me.ip, other.ip)),
        "an answer": ethernet(me.mac, ARP, arp(2, me.mac, me.ip, other.ip, other.mac)),
        "here I am": ethernet(me.mac, ARP, arp(1, me.mac, me.ip, me.ip)),
    }
    forged = {
        "the neighbour's address": ethernet(me.mac, IPV4, ip4(other.ip, net.gateway)),
        "the gateway's address": ethernet(me.mac, IPV4, ip4(net.gateway, other.ip)),
        "a free address": ethernet(me.mac, IPV4, ip4(net.gateway[:-1] + "99", other.ip)),
        "an address from outside": ethernet(me.mac, IPV4, ip4("198.51.100.9", other.ip)),
        "no address": ethernet(me.mac, IPV4, ip4("0.0.0.0", "255.255.255.255")),
        "loopback's": ethernet(me.mac, IPV4, ip4("127.0.0.1", other.ip)),
        "a stranger's MAC": ethernet(STRANGER, IPV4, ip4(me.ip, other.ip)),
        "the neighbour's MAC": ethernet(other.mac, IPV4, ip4(me.ip, other.ip)),
        "all of the neighbour's": ethernet(other.mac, IPV4, ip4(other.ip, net.gateway)),
        "all of the gateway's": ethernet(bridge_mac(net), IPV4, ip4(net.gateway, other.ip)),
        "the gateway is me": ethernet(me.mac, ARP, arp(2, me.mac, net.gateway, other.ip, other.mac)),
        "the neighbour is me": ethernet(me.mac, ARP, arp(2, me.mac, other.ip, net.gateway, bridge_mac(net))),
        "the gateway is there, unasked": ethernet(me.mac, ARP, arp(1, me.mac, net.gateway, net.gateway)),
        "I am somewhere else": ethernet(me.mac, ARP, arp(2, STRANGER, me.ip, other.ip, other.mac)),
        "somebody asks from nowhere": ethernet(me.mac, ARP, arp(1, me.mac, "0.0.0.0", me.ip)),
        "from a stranger's MAC": ethernet(STRANGER, ARP, arp(1, me.mac, me.ip, other.ip)),
        "RARP": ethernet(me.mac, 0x8035, arp(3, me.mac, me.ip, me.ip)),
        "LLDP": ethernet(me.mac, 0x88CC, plain(bytes(40))),
        "in a VLAN": ethernet(me.mac, IPV4, ip4(me.ip, other.ip), vlan=True),
        "forged in a VLAN": ethernet(me.mac, IPV4, ip4(other.ip, other.ip), vlan=True),
        "of no known kind": ethernet(me.mac, 0x9999, plain(bytes(40))),
        "802.3": ethernet(me.mac, 46, plain(b"\x42\x42\x03" + bytes(37))),
    }
    return honest, forged


def of_ipv6(wire: Wire) -> tuple[Frames, Frames]:
    net, me, other = wire.net, wire.hostile, wire.neighbour
    mine, its, gateway = ipam6.link_local(me.mac), ipam6.link_local(other.mac), ipam6.link_local(bridge_mac(net))

    def icmp(*arguments: object) -> Frame:
        return ethernet(me.mac, IPV6, icmp6(*arguments))  # type: ignore[arg-type]

    honest = {
        "a packet": ethernet(me.mac, IPV6, udp6(me.ip6, other.ip6)),
        "on the wire": ethernet(me.mac, IPV6, udp6(mine, its)),
        "ping": icmp(me.ip6, ECHO),
        "who has?": icmp(me.ip6, NS, bytes(4) + packed6(other.ip6)),
        "here I am": icmp(me.ip6, NA, advertised(me.ip6, me.mac)),
        "and on the wire": icmp(mine, NA, advertised(mine, me.mac)),
        "is it taken?": icmp("::", NS, bytes(4) + packed6(me.ip6)),
        "I join": icmp("::", MLD2_REPORT, bytes(4), ROUTER_ALERT),
        "I join, the old way": icmp(mine, MLD_REPORT, bytes(20), ROUTER_ALERT),
        "who routes?": icmp(mine, RS),
    }
    forged = {
        "the neighbour's address": ethernet(me.mac, IPV6, udp6(other.ip6, net.gateway6)),
        "the neighbour's on the wire": ethernet(me.mac, IPV6, udp6(its, mine)),
        "the gateway's address": ethernet(me.mac, IPV6, udp6(net.gateway6, other.ip6)),
        "a free address": ethernet(me.mac, IPV6, udp6(net.gateway6 + "234", other.ip6)),
        "an address from outside": ethernet(me.mac, IPV6, udp6("2001:db8:9::9", other.ip6)),
        "no address": ethernet(me.mac, IPV6, udp6("::", other.ip6)),
        "loopback's": ethernet(me.mac, IPV6, udp6("::1", other.ip6)),
        "a stranger's MAC": ethernet(STRANGER, IPV6, udp6(me.ip6, other.ip6)),
        "all of the neighbour's": ethernet(other.mac, IPV6, udp6(other.ip6, net.gateway6)),
        "all of the gateway's": ethernet(bridge_mac(net), IPV6, udp6(net.gateway6, other.ip6)),
        "I am a router": icmp(mine, RA, bytes(12)),
        "I am a router, by my address": icmp(me.ip6, RA, bytes(12)),
        "the gateway is a router": ethernet(bridge_mac(net), IPV6, icmp6(gateway, RA, bytes(12))),
        "I am a router, behind an option": icmp(mine, RA, bytes(12), ROUTER_ALERT),
        "I am a router, behind another": icmp(mine, RA, bytes(12), PADDING),
        "go another way": icmp(mine, REDIRECT, bytes(36)),
        "somebody asks who routes": icmp("::", RS),
        "ping from nowhere": icmp("::", ECHO),
        "in a VLAN": ethernet(me.mac, IPV6, udp6(me.ip6, other.ip6), vlan=True),
        "a router in a VLAN": ethernet(me.mac, IPV6, icmp6(mine, RA, bytes(12)), vlan=True),
    }
    return honest, forged


Family = Callable[[Wire], tuple[Frames, Frames]]
FAMILIES: list[Family] = [of_ipv4, of_ipv6]


@pytest.mark.parametrize("family", FAMILIES)
def test_forged_frames_arrive_nowhere_and_honest_ones_do(both: Wire, either: None, family: Family) -> None:
    honest, forged = family(both)
    neighbour, host = both.arrive({**{f"honest: {name}": frame for name, frame in honest.items()}, **forged})
    assert neighbour == host == {f"honest: {name}" for name in honest}


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_the_guard_that_keeps_them_back(both: Wire, unfiltered: None, family: Family) -> None:
    sh(f"nft delete table bridge {ownership.table(TAG)}")
    honest, forged = family(both)
    neighbour, _ = both.arrive({**honest, **forged})
    assert neighbour == {*honest, *forged}


def test_packets_in_pieces_are_judged_piece_by_piece(both: Wire, unfiltered: None) -> None:
    """A tail has no header but the IP one. (Where br_netfilter puts them together nothing arrives in pieces.)"""
    net, me, other = both.net, both.hostile, both.neighbour
    frames = {
        f"{'honest' if honest else 'forged'} {piece}": ethernet(me.mac, IPV4, ip4(source, other.ip, offset))
        for piece, offset in (("head", 0x2000), ("middle", 0x2002), ("tail", 4))
        for honest, source in ((True, me.ip), (False, net.gateway))
    }
    frames |= {
        f"{'honest' if honest else 'forged'} {piece} of IPv6": ethernet(me.mac, IPV6, piece6(source, other.ip6, offset))
        for piece, offset in (("head", 1), ("tail", 8)) for honest, source in ((True, me.ip6), (False, net.gateway6))
    }  # fmt: skip
    honest = {name for name in frames if name.startswith("honest")}
    assert both.arrive(frames) == (honest, honest)


def test_a_network_without_ipv6_has_none_on_its_wire(world: World) -> None:
    four = wire(world)
    me = four.hostile
    six = ipam6.link_local(me.mac)
    frames = {
        "a packet": ethernet(me.mac, IPV6, udp6(six, "ff02::1")), "who has?": ethernet(me.mac, IPV6, icmp6(six, NS, bytes(20))),
        "I am a router": ethernet(me.mac, IPV6, icmp6(six, RA, bytes(12))),
    }  # fmt: skip
    assert four.arrive({**frames, "IPv4": ethernet(me.mac, IPV4, ip4(me.ip, four.neighbour.ip))}) == ({"IPv4"}, {"IPv4"})


def test_a_hostile_sibling_cannot_be_another_to_ipv6_neighbours(both: Wire) -> None:
    """Advertised by its own honest address, with a neighbour's as the target: what forged ARP is to IPv4. Whoever knows the neighbour would
    send to the hostile container from then on (RFC 4861, section 7.2.5: the override flag).
    """
    me, other, net = both.hostile, both.neighbour, both.net
    third = both.world.attach(net, 4)
    claims = {
        target: ethernet(me.mac, IPV6, icmp6(source, NA, advertised(target, me.mac)))
        for source, target in ((me.ip6, third.ip6), (ipam6.link_local(me.mac), ipam6.link_local(third.mac)), (me.ip6, net.gateway6))
    }
    mine = ethernet(me.mac, IPV6, icmp6(me.ip6, NA, advertised(me.ip6, me.mac)))
    sh(f"ip netns exec {other.container_name} ping -6 -q -c1 -W2 {third.ip6}")
    arrived, _ = both.arrive({**claims, "mine": mine})
    known = sh(f"ip -n {other.container_name} -6 neigh show {third.ip6}").split("lladdr ")[1].split()[0]
    assert (known, arrived) == (third.mac, {"mine"})


def test_a_container_that_makes_itself_another_is_heard_no_more(both: Wire) -> None:
    """Its own kernel sends, once somebody in it has changed its addresses."""
    world, me, other = both.world, both.hostile, both.neighbour
    for address in ("0.0.0.0", "::"):
        world.serve(other.container_name, address=address)
    assert (world.ask(me.container_name, other.ip), world.ask(me.container_name, other.ip6)) == (me.ip, me.ip6)
    name = me.container_name
    sh(f"ip -n {name} addr add 172.17.0.99/24 dev eth0; ip -n {name} addr del {me.ip}/24 dev eth0; "
       f"ip -n {name} -6 addr add fd00:17:1::99/64 dev eth0 nodad; ip -n {name} -6 addr del {me.ip6}/64 dev eth0")
    assert world.cannot(name, other.ip) and world.cannot(name, other.ip6)
    sh(f"ip -n {name} addr del 172.17.0.99/24 dev eth0; ip -n {name} addr add {me.ip}/24 dev eth0")
    assert world.ask(name, other.ip) == me.ip
    sh(f"ip -n {name} link set eth0 down; ip -n {name} link set eth0 address {STRANGER}; ip -n {name} link set eth0 up")
    assert world.cannot(name, other.ip)


def test_each_of_two_interfaces_has_what_is_its_own(world: World) -> None:
    """A container in two networks cannot send in the one with what it has in the other."""
    a, b = world.network(0, ipv6=True), world.network(1, ipv6=True)
    world.up(a)
    world.up(b)
    first, second = world.endpoint(a, 2), world.endpoint(b, 2, interface=1, owner="c02")
    at = world.namespace("c02")
    world.join(a, first, at)
    world.join(b, second, at, default=False)
    neighbour = world.attach(b, 3)
    frames = {
        "its own": ethernet(second.mac, IPV4, ip4(second.ip, neighbour.ip)),
        "the other's address": ethernet(second.mac, IPV4, ip4(first.ip, neighbour.ip)),
        "the other's MAC": ethernet(first.mac, IPV4, ip4(second.ip, neighbour.ip)),
        "all of the other's": ethernet(first.mac, IPV4, ip4(first.ip, neighbour.ip)),
        "of IPv6": ethernet(second.mac, IPV6, udp6(first.ip6, neighbour.ip6)),
    }
    assert Wire(world, b, second, neighbour).arrive(frames, "eth1") == ({"its own"}, {"its own"})


def test_a_port_is_judged_from_its_first_frame_to_its_last(both: Wire) -> None:
    """What may come in stands there before the cable does, and is gone with the container; another's port is as it was."""
    world, net, me = both.world, both.net, both.hostile
    table = f"bridge {ownership.table(TAG)}"
    assert me.host_link in sh(f"nft list set {table} ports")
    endpoint.detach(net, TAG, me).run(At())
    for name in ("ports", "senders", "senders6"):
        assert me.host_link not in sh(f"nft list set {table} {name}")
        assert both.neighbour.host_link in sh(f"nft list set {table} {name}")
    steps = endpoint.attach(net, TAG, world.endpoint(net, 9), ownership.ready(net, TAG)).steps
    steps[0].apply(At())
    assert world.endpoint(net, 9).host_link in sh(f"nft list set {table} ports")
    assert ownership.inspect_link(world.endpoint(net, 9).host_link) is None
    steps[0].undo(At())
    assert world.endpoint(net, 9).host_link not in sh(f"nft list set {table} ports")


def test_a_foreign_bridge_is_not_judged(both: Wire) -> None:
    sh("""ip link add theirs type bridge && ip link set theirs up
          for n in 1 2; do ip netns add t$n; ip link add th$n type veth peer name eth0 netns t$n; ip link set th$n master theirs up
          ip -n t$n addr add 10.5.0.$n/24 dev eth0; ip -n t$n link set eth0 up; done""")
    try:
        sh("ip netns exec t1 ping -q -c1 -W5 10.5.0.2")
    finally:
        sh("ip netns del t1; ip netns del t2; ip link del theirs")
