"""A hostile container with NET_RAW and NET_ADMIN: whatever frames it makes and whatever routes it gives itself, it speaks for nobody but
itself, and reaches nothing that a well-behaved one in its place would not."""

from __future__ import annotations

import ipaddress
import json
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import pretend
from tests.e2e.support import Minidocker
from tests.e2e.world import (
    ALL_NODES,
    ALL_NODES_MAC,
    ARP,
    BROADCAST,
    HOST,
    HOST6,
    IPV6,
    NEAR,
    NEAR6,
    SILENT,
    VLAN,
    Wire,
    advertisement,
    answer,
    answering,
    answers,
    ask,
    datagram,
    frame,
    ip_in,
    neighbour,
    octets,
    packet,
    syn,
    with_ipv6,
    within,
)

BRIEFLY = 0.7
SERVICE, LOCAL = 8090, 8081  # the host's own; published on 127.0.0.1
ICMPV6 = socket.IPPROTO_ICMPV6

# Sends each line of its input, a frame in hexadecimal, by eth0: what CAP_NET_RAW is for.
SENDER = """
import socket, sys
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind(("eth0", 0))
for line in sys.stdin:
    wire.send(bytes.fromhex(line))
"""
HOSTILE = ("--cap-add", "NET_RAW", "--cap-add", "NET_ADMIN")


def local(mac: str) -> str:
    """The link-local address that goes with a MAC (RFC 4291, appendix A)."""
    own = octets(mac)
    return str(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + bytes([own[0] ^ 2]) + own[1:3] + b"\xff\xfe" + own[3:]))


class Actor:
    """A container's place in its network, and what of it frames are made of."""

    def __init__(self, place: dict[str, Any]) -> None:
        self.mac, self.ip, self.ip6 = place["MacAddress"], place["IPAddress"], place["GlobalIPv6Address"]
        self.local = local(self.mac)


class Stage:
    """Networks `front` (mallory, victim, friend), `back` (other), `apart` (isolated: one, two) and `inner` (internal: caged)."""

    def __init__(self, md: Minidocker) -> None:
        self.md = md
        for name, number, options in (("front", 1, ()), ("back", 2, ()), ("apart", 3, ("--isolated",)), ("inner", 4, ("--internal",))):
            subnets = ("--subnet", f"10.9.{number}.0/24", "--subnet", f"fd00:9:{number}::/64")
            md("network", "create", *options, *subnets, name)
        self.actors: dict[str, Actor] = {}
        for name, network, options in (
            ("mallory", "front", HOSTILE), ("victim", "front", ()), ("friend", "front", ("-p", f"127.0.0.1:{LOCAL}:80", "-p", "8080:80")),
            ("other", "back", ()), ("one", "apart", HOSTILE), ("two", "apart", ()), ("caged", "inner", HOSTILE), ("mate", "inner", ()),
        ):  # fmt: skip
            self.actors[name] = Actor(answer(md, name, "--net", network, *options))
        self.bridge = {name: str(pretend.ip(f"link show dev {name}")[0]["address"]) for name in ("front", "back", "apart", "inner")}

    def __getattr__(self, name: str) -> Actor:
        return self.actors[name]

    def send(self, name: str, *frames: bytes) -> None:
        """From inside the container NAME, with its own capabilities."""
        lines = "".join(f"{one.hex()}\n" for one in frames)
        self.md("exec", "-i", name, "/usr/bin/python3", "-I", "-c", SENDER, input=lines)

    def inside(self, name: str, command: str) -> None:
        """A shell's command in the container NAME, which must succeed."""
        self.md("exec", name, "sh", "-ec", command)


@pytest.fixture(scope="module")
def stage(world: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with ExitStack() as stack:
        stack.enter_context(with_ipv6())
        md = Minidocker(tmp_path_factory.mktemp("stage") / "root")
        stack.callback(md.close)
        made = Stage(md)
        assert [md.inspect(name)["HostConfig"]["CapAdd"] for name in ("mallory", "one", "caged")] == [["NET_RAW", "NET_ADMIN"]] * 3
        yield made


def arp(operation: int, mac: str, ip: str, to_mac: str, to_ip: str) -> bytes:
    """RFC 826: 1 who has `to_ip`, 2 `ip` is at `mac`."""
    addresses = [octets(mac), socket.inet_aton(ip), octets(to_mac), socket.inet_aton(to_ip)]
    return struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + b"".join(addresses)


def entries(stage: Stage) -> list[list[str]]:
    """(address, MAC) of all that the host, on `front`, and its containers believe of who is where."""
    shown = pretend.sh("ip neigh show dev front; for name in victim friend; do ip -n $name neigh; done")
    return [[line.split()[0], found[1]] for line in shown.splitlines() if (found := re.search(r"lladdr (\S+)", line))]


def assert_nobody_is_believed_elsewhere(stage: Stage) -> None:
    right = {ip: actor.mac for actor in stage.actors.values() for ip in (actor.ip, actor.ip6, actor.local)}
    right |= dict.fromkeys(("10.9.1.1", "fd00:9:1::1", local(stage.bridge["front"])), stage.bridge["front"])
    assert [entry for entry in entries(stage) if right.get(entry[0]) != entry[1]] == []
    members = [actor for actor in (stage.mallory, stage.victim, stage.friend)]
    permanent = {line.split()[0] for line in pretend.sh("ip neigh show dev front nud permanent").splitlines()}
    assert permanent >= {ip for actor in members for ip in (actor.ip, actor.ip6)}


def solicitation(source: str, to: str, target: str, mac: str) -> bytes:
    """A neighbour solicitation (RFC 4861, 4.3)."""
    body = struct.pack("!BBHI", 135, 0, 0, 0) + ipaddress.ip_address(target).packed + b"\x01\x01" + octets(mac)
    return packet(source, to, ICMPV6, body)


def behind_options(inside: bytes) -> bytes:
    """The IPv6 packet with a header of destination options, which say nothing, before its own."""
    header, body = inside[:40], inside[40:]
    options = bytes([header[6], 0, 1, 4, 0, 0, 0, 0])
    return header[:4] + struct.pack("!HB", len(body) + 8, 60) + header[7:] + options + body


def in_fragments(inside: bytes) -> list[bytes]:
    """The IPv6 packet in two, of which the first has only eight bytes of what is in it (RFC 8200, 4.5): of a message its type, of one
    behind options nothing of it."""
    header, body = inside[:40], inside[40:]
    made = []
    for offset, more, part in ((0, 1, body[:8]), (1, 0, body[8:])):
        fragment = struct.pack("!BBHI", header[6], 0, offset << 3 | more, 666)
        made.append(header[:4] + struct.pack("!HB", len(part) + 8, 44) + header[7:] + fragment + part)
    return made


STRANGER, ROUTER, ROUTER6 = "02:66:66:66:66:66", "10.9.1.1", "fd00:9:1::1"


def forged(stage: Stage) -> dict[str, list[bytes]]:
    """All that mallory sends to victim, or to everybody with him, by what it pretends."""
    m, v, f, bridge = stage.mallory, stage.victim, stage.friend, stage.bridge["front"]

    def says(source: str, mac: str = m.mac) -> bytes:
        return frame(v.mac, mac, datagram(source, v.ip6 if ":" in source else v.ip, 80, b"fake"))

    def tells(operation: int, mac: str, ip: str, sender: str = m.mac, to: str = v.mac) -> bytes:
        return frame(to, sender, arp(operation, mac, ip, v.mac, v.ip), ARP)

    def at_mine(target: str, source: str) -> bytes:
        return neighbour(source, v.ip6, target, m.mac)

    def to_all(packet: bytes, mac: str = m.mac) -> bytes:
        return frame(ALL_NODES_MAC, mac, packet)

    router = advertisement(m.local, m.mac, 1800, "2001:db8:bad::")
    redirect = struct.pack("!BBHI", 137, 0, 0, 0) + ipaddress.ip_address(m.ip6).packed + ipaddress.ip_address(NEAR6).packed
    return {
        "a neighbour's MAC": [says(m.ip, f.mac), says(f.ip, f.mac), says(m.ip6, f.mac), says(f.ip6, f.mac)],
        "the bridge's MAC": [says(m.ip, bridge), says(ROUTER, bridge), says(ROUTER6, bridge)],
        "a stranger's MAC": [says(m.ip, STRANGER), says(m.ip6, STRANGER), frame(BROADCAST, STRANGER, b"fake" * 20, 0x88B5)],
        "a protocol of its own": [frame(v.mac, m.mac, b"fake" * 20, 0x88B5), frame(BROADCAST, m.mac, b"fake" * 20, 0x0842),
                                  frame("01:80:c2:00:00:00", m.mac, b"\x42\x42\x03" + bytes(35), 38)],
        "a neighbour's address": [says(f.ip), says(f.ip6), says(f.local), frame(v.mac, m.mac, syn(f.ip, v.ip, 80, b"fake"))],
        "the victim's own address": [says(v.ip), says(v.ip6), says(v.ip, v.mac), says(v.local, v.mac)],
        "the gateway's address": [says(ROUTER), says(ROUTER6), says(local(bridge))],
        "an address from outside": [says(NEAR), says(NEAR6), says("10.9.2.2"), says("fd00:9:2::a09:202")],
        "no address": [says("127.0.0.1"), says("::1"), says("0.0.0.0"), says("::"), says("255.255.255.255"), says("ff02::1")],
        "by ARP, the gateway": [tells(operation, m.mac, ROUTER, to=to) for operation in (1, 2) for to in (v.mac, BROADCAST)],
        "by ARP, a sibling": [tells(operation, m.mac, f.ip, to=to) for operation in (1, 2) for to in (v.mac, BROADCAST)],
        "by ARP, with the sibling's MAC": [tells(2, f.mac, f.ip, f.mac), tells(2, f.mac, f.ip), tells(2, m.mac, f.ip, f.mac)],
        "by ARP, itself at another's MAC": [tells(2, f.mac, m.ip), tells(2, m.mac, m.ip, f.mac), tells(2, STRANGER, m.ip)],
        "by ARP, nobody": [tells(1, m.mac, "0.0.0.0", to=BROADCAST), tells(2, m.mac, "10.9.1.200")],
        "by ARP, in a VLAN": [frame(v.mac, m.mac, struct.pack("!HH", 1, ARP) + arp(2, m.mac, ROUTER, v.mac, v.ip), VLAN)],
        "a router": [to_all(router), frame(v.mac, m.mac, router), to_all(router, bridge), to_all(advertisement("fe80::1", m.mac, 1800))],
        "a router, behind options": [to_all(behind_options(router))],
        "a router, in a VLAN": [frame(ALL_NODES_MAC, m.mac, struct.pack("!HH", 1, IPV6) + router, VLAN)],
        "a router that redirects": [frame(v.mac, m.mac, packet(source, v.ip6, ICMPV6, redirect)) for source in (m.local, local(bridge))],
        "by ND, the gateway": [frame(v.mac, m.mac, at_mine(ROUTER6, source)) for source in (m.ip6, m.local, ROUTER6, local(bridge))],
        "by ND, a sibling": [frame(v.mac, m.mac, at_mine(f.ip6, source)) for source in (m.ip6, m.local, f.ip6, f.local)],
        "by ND, a sibling, to all": [to_all(neighbour(m.ip6, ALL_NODES, target, m.mac)) for target in (f.ip6, f.local)],
        "by ND, a sibling, behind options": [frame(v.mac, m.mac, behind_options(at_mine(f.ip6, m.ip6)))],
        "by ND, a sibling that asks": [frame(v.mac, m.mac, solicitation(source, v.ip6, v.ip6, m.mac)) for source in (f.ip6, f.local)],
    }


PRETENCES = (
    "a neighbour's MAC", "the bridge's MAC", "a stranger's MAC", "a protocol of its own", "a neighbour's address",
    "the victim's own address", "the gateway's address", "an address from outside", "no address", "by ARP, the gateway",
    "by ARP, a sibling", "by ARP, with the sibling's MAC", "by ARP, itself at another's MAC", "by ARP, nobody", "by ARP, in a VLAN",
    "a router", "a router, behind options", "a router, in a VLAN", "a router that redirects", "by ND, the gateway", "by ND, a sibling",
    "by ND, a sibling, to all", "by ND, a sibling, behind options", "by ND, a sibling that asks",
)  # fmt: skip


@contextmanager
def br_netfilter(value: str) -> Iterator[None]:
    paths = [Path("/proc/sys/net/bridge", f"bridge-nf-call-{name}") for name in ("iptables", "ip6tables", "arptables")]
    before = [path.read_text() for path in paths]
    for path in paths:
        path.write_text(value)
    try:
        yield
    finally:
        for path, value in zip(paths, before, strict=True):
            path.write_text(value)


both = pytest.mark.parametrize("filtered", ["0", "1"], ids=["br_netfilter-off", "br_netfilter-on"])


@both
@pytest.mark.parametrize("pretence", PRETENCES)
def test_nothing_forged_arrives_at_a_neighbour(stage: Stage, pretence: str, filtered: str) -> None:
    """An honest datagram follows on the same wire: when that has come, so would have what was before it."""
    every = forged(stage)
    assert tuple(every) == PRETENCES
    frames = every[pretence]
    tag = 4 if "VLAN" in pretence else 0  # the kernel takes it from what it shows
    with br_netfilter(filtered):
        assert_not_told(stage, frames, [one[14 + tag :] for one in frames])


@both
@pytest.mark.parametrize("hidden", [False, True], ids=["its type in the first", "its type in the second"])
@pytest.mark.parametrize("what", ["a router", "a sibling"])
def test_nothing_is_told_in_fragments(stage: Stage, what: str, hidden: bool, filtered: str) -> None:
    """Which br_netfilter, where it is on, puts together behind the guard, so that the neighbour cannot tell any more that it was fragments:
    he would not believe those (RFC 6980)."""
    m, v, f = stage.mallory, stage.victim, stage.friend
    told = advertisement(m.local, m.mac, 1800, "2001:db8:bad::") if what == "a router" else neighbour(m.ip6, v.ip6, f.ip6, m.mac)
    parts = in_fragments(behind_options(told) if hidden else told)
    frames = [frame(v.mac if what == "a sibling" else ALL_NODES_MAC, m.mac, part) for part in parts]
    with br_netfilter(filtered):
        # a head that has but options may come: without a message in it the rest is thrown away (RFC 8200, 4.5)
        assert_not_told(stage, frames, [] if hidden else [frames[0][14:], told[40:52]])


def assert_not_told(stage: Stage, frames: list[bytes], told: list[bytes]) -> None:
    """Of `frames`, sent by mallory, nothing that has one of `told` in it arrives at victim, and nobody is believed elsewhere then."""
    m, v, f = stage.mallory, stage.victim, stage.friend
    for name in ("victim", "friend"):  # whatever another test made them believe
        pretend.sh(f"ip -n {name} neigh flush dev eth0; ip -n {name} -6 neigh flush dev eth0")
    for asks, of in (("victim", f), ("friend", v)):
        for ip in (of.ip, of.ip6):
            assert ask("udp", ip, 80, asks) != SILENT, "they know each other, which is to be undone"
    before = pretend.sh("ip -n victim -6 route; ip -n victim -6 addr")
    with Wire("victim") as wire:
        stage.send("mallory", *frames, frame(v.mac, m.mac, datagram(m.ip, v.ip, 80, b"honest", 5555)))
        arrived = wire.until(b"honest")
    assert [data.hex(" ") for data in arrived for one in told if one in data] == []
    assert_nobody_is_believed_elsewhere(stage)
    assert pretend.sh("ip -n victim -6 route; ip -n victim -6 addr") == before
    for ip, seen in ((f.ip, v.ip), (f.ip6, v.ip6)):
        assert ask("udp", ip, 80, "victim") == f"friend {seen}"


def test_nothing_forged_arrives_at_the_host(stage: Stage) -> None:
    """The same for the bridge's own address, and nobody is where he was not."""
    m, f, gateway = stage.mallory, stage.friend, stage.bridge["front"]
    before = pretend.sh("ip -6 route; ip -6 addr show dev front")
    advert = advertisement(m.local, m.mac, 1800, "2001:db8:bad::")
    with ExitStack() as stack:
        services = [stack.enter_context(socket.socket(family, socket.SOCK_DGRAM)) for family in (socket.AF_INET, socket.AF_INET6)]
        services[1].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        for service in services:
            service.bind(("", SERVICE))
            service.settimeout(10)
        honest = [datagram(source, to, SERVICE, b"honest") for source, to in ((m.ip, "10.9.1.1"), (m.ip6, "fd00:9:1::1"))]
        lies = [(f.ip, ROUTER, m.mac), (f.ip, HOST, f.mac), (NEAR, HOST, m.mac), (f.ip6, ROUTER6, m.mac), (f.local, ROUTER6, m.mac)]
        stage.send(
            "mallory",
            *(frame(gateway, mac, datagram(source, to, SERVICE, b"fake")) for source, to, mac in lies),
            frame(gateway, m.mac, arp(2, m.mac, f.ip, gateway, ROUTER), ARP),
            frame(BROADCAST, m.mac, arp(1, m.mac, f.ip, BROADCAST, f.ip), ARP),
            frame(gateway, m.mac, arp(2, m.mac, "10.9.1.200", gateway, ROUTER), ARP),
            frame(BROADCAST, m.mac, arp(1, m.mac, ROUTER, BROADCAST, ROUTER), ARP),
            frame(gateway, m.mac, neighbour(m.ip6, ROUTER6, f.ip6, m.mac)),
            frame(gateway, m.mac, neighbour(m.ip6, ROUTER6, "fd00:9:1::200", m.mac)),
            frame(ALL_NODES_MAC, m.mac, neighbour(m.local, ALL_NODES, f.ip6, m.mac)),
            frame(ALL_NODES_MAC, m.mac, neighbour(m.local, ALL_NODES, ROUTER6, m.mac)),
            frame(ALL_NODES_MAC, m.mac, advert), frame(ALL_NODES_MAC, m.mac, behind_options(advert)),
            *(frame(gateway, m.mac, one) for one in honest),
        )
        assert [service.recv(100) for service in services] == [b"honest", b"honest"], "and nothing before it"
    assert pretend.sh("ip -6 route; ip -6 addr show dev front") == before
    assert_nobody_is_believed_elsewhere(stage)


def test_it_cannot_take_a_neighbours_address_or_mac(stage: Stage) -> None:
    """By configuring them, as CAP_NET_ADMIN lets it: what then comes from it goes nowhere, and what is meant for the other comes to him."""
    m, v, f = stage.mallory, stage.victim, stage.friend
    stage.inside("mallory", f"ip addr add {f.ip}/24 dev eth0; ip -6 addr add {f.ip6}/64 dev eth0 nodad")
    try:
        with within("mallory", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asking:
            asking.bind((f.ip, 0))
            asking.settimeout(BRIEFLY)
            asking.sendto(b"?", (v.ip, 80))
            with pytest.raises(TimeoutError):
                asking.recv(100)
        for protocol in ("tcp", "udp"):
            for ip, seen in ((f.ip, v.ip), (f.ip6, v.ip6)):
                assert ask(protocol, ip, 80, "victim") == f"friend {seen}"
            assert ask(protocol, f.ip, 80).startswith("friend ")
        assert ask("tcp", "127.0.0.1", LOCAL) == "friend 10.9.1.1"
    finally:
        stage.inside("mallory", f"ip addr del {f.ip}/24 dev eth0; ip -6 addr del {f.ip6}/64 dev eth0")
    stage.inside("mallory", f"ip link set eth0 address {f.mac}")
    try:
        assert ask("tcp", v.ip, 80, "mallory", BRIEFLY) == SILENT
        assert ask("udp", v.ip, 80, "friend") == f"victim {f.ip}", "what is meant for the other still comes to him"
    finally:
        stage.inside("mallory", f"ip link set eth0 address {m.mac}")
    assert_nobody_is_believed_elsewhere(stage)
    assert ask("tcp", v.ip, 80, "mallory") == f"victim {m.ip}"


def test_the_hosts_loopback_is_out_of_reach(stage: Stage) -> None:
    """Though route_localnet is on for the bridge, as a port is published on 127.0.0.1 (CVE-2020-8558)."""
    assert pretend.sh("cat /proc/sys/net/ipv4/conf/front/route_localnet") == "1\n"
    m, gateway = stage.mallory, stage.bridge["front"]
    with ExitStack() as stack:
        stream = stack.enter_context(socket.create_server(("127.0.0.1", SERVICE)))
        services = [stack.enter_context(socket.socket(family, socket.SOCK_DGRAM)) for family in (socket.AF_INET, socket.AF_INET6)]
        for service, address in zip(services, ("127.0.0.1", "::1"), strict=True):
            service.bind((address, SERVICE))
        wire = stack.enter_context(Wire("mallory"))
        judge = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        judge.bind(("10.9.1.1", SERVICE))
        judge.settimeout(10)
        frames = []
        for source, to in ((m.ip, "127.0.0.1"), (m.ip, "127.9.9.9"), ("127.0.0.1", "127.0.0.1"),
                           (m.ip6, "::1"), (m.local, "::1"), ("::1", "::1")):  # fmt: skip
            for port in (SERVICE, LOCAL):
                frames += [frame(gateway, m.mac, one) for one in (datagram(source, to, port, b"fake"), syn(source, to, port, b"fake"))]
        stage.send("mallory", *frames, frame(gateway, m.mac, datagram(m.ip, "10.9.1.1", SERVICE, b"honest")))
        assert judge.recv(100) == b"honest"
        judge.sendto(b"answer", (m.ip, 80))
        heard = [data for data in wire.until(b"answer") if data[12:14] == b"\x08\x00" or data[14 + 6 : 14 + 7] in b"\x06\x11"]
        assert [data.hex(" ") for data in heard] == []
        for quiet in (stream, *services):
            quiet.setblocking(False)
            with pytest.raises(BlockingIOError):
                quiet.accept() if quiet is stream else quiet.recv(100)
    # and as one that is at home nowhere, so that its own 127.0.0.1 is not asked
    stage.inside("mallory", "ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.0/8 via 10.9.1.1")
    try:
        with answering("host", SERVICE):
            for port in (SERVICE, LOCAL):
                assert ask("tcp", "127.0.0.1", port, "mallory", BRIEFLY) in (SILENT, "EINVAL", "ENETUNREACH")
    finally:
        stage.inside("mallory", "ip route del 127.0.0.0/8 via 10.9.1.1; ip addr add 127.0.0.1/8 dev lo")


OTHERS = ("10.9.2.0/24", "fd00:9:2::/64", "10.9.3.0/24", "fd00:9:3::/64", "10.9.4.0/24", "fd00:9:4::/64")


def own_gateway(subnet: str) -> str:
    return ROUTER6 if ":" in subnet else ROUTER


@pytest.mark.parametrize("how", ["by its gateway", "by neighbours made up"])
def test_routes_lead_it_into_no_other_network(stage: Stage, how: str) -> None:
    """Nor to its gateway's address."""
    containers = [ip for actor in (stage.other, stage.two, stage.mate) for ip in (actor.ip, actor.ip6)]
    gateways = [str(ipaddress.ip_network(subnet)[1]) for subnet in OTHERS]
    if how == "by its gateway":
        made = [f"route add {subnet} via {own_gateway(subnet)}" for subnet in OTHERS]
    else:
        made = [f"route add {subnet} dev eth0" for subnet in OTHERS]
        made += [f"neigh add {ip} lladdr {stage.bridge['front']} dev eth0 nud permanent" for ip in (*containers, *gateways)]
    with answering("host", SERVICE):
        assert ask("tcp", ROUTER, SERVICE, "mallory") == f"host {stage.mallory.ip}", "its own gateway, it does reach"
        stage.inside("mallory", "; ".join(f"ip {one}" for one in made))
        try:
            asked = [(address, port) for addresses, port in ((containers, 80), (gateways, SERVICE)) for address in addresses]
            assert answers((protocol, *one, "mallory") for protocol in ("tcp", "udp") for one in asked) == {}
        finally:
            stage.inside("mallory", "; ".join(f"ip {one.replace(' add ', ' del ').partition(' nud')[0]}" for one in reversed(made)))


def test_two_networks_do_not_meet(stage: Stage) -> None:
    pairs = [("victim", "other"), ("other", "victim"), ("victim", "mate"), ("two", "other"), ("other", "two"), ("other", "mate")]
    asked = [(protocol, ip, 80, asks) for asks, of in pairs for ip in (stage.actors[of].ip, stage.actors[of].ip6)
             for protocol in ("tcp", "udp")]  # fmt: skip
    assert answers(asked) == {}
    inner = [(protocol, ip, 80, "mate") for ip in (stage.victim.ip, stage.victim.ip6) for protocol in ("tcp", "udp")]
    assert set(answers(inner).values()) == {"ENETUNREACH"}, "an internal network has no default route"


def test_pings_do_not_pass_between_networks(stage: Stage) -> None:
    for asks, of in (("victim", "other"), ("other", "victim")):
        for ip in (stage.actors[of].ip, stage.actors[of].ip6):
            assert "100% packet loss" in pretend.sh(f"ip netns exec {asks} ping -c 2 -i 0.2 -W 0.4 {ip}", check=False)
    for ip in (stage.friend.ip, stage.friend.ip6):
        assert " 0% packet loss" in pretend.sh(f"ip netns exec victim ping -c 1 -W 10 {ip}", check=False)


def test_an_internal_network_reaches_nothing_outside(stage: Stage) -> None:
    """With default routes added by hand, to its gateway and to whoever else might lead on."""
    caged = stage.caged
    assert ask("tcp", stage.mate.ip, 80, "caged") == f"mate {caged.ip}"
    assert [route["dst"] for route in ip_in("caged", "route")] == ["10.9.4.0/24"]
    routes = ("default via 10.9.4.1", "default via fd00:9:4::1")
    stage.inside("caged", "; ".join(f"ip route add {route}" for route in routes))
    try:
        with answering("near", 9000, place="near"), answering("host", SERVICE):
            assert ask("tcp", "10.9.4.1", SERVICE, "caged") == f"host {caged.ip}", "its gateway's own address"
            beyond = [(NEAR, 9000), (NEAR6, 9000), (HOST, SERVICE), (HOST6, SERVICE), (HOST, 8080), (HOST6, 8080), (ROUTER, SERVICE),
                      (ROUTER6, SERVICE), (stage.friend.ip, 80), (stage.friend.ip6, 80)]  # fmt: skip
            assert answers((protocol, *one, "caged") for protocol in ("tcp", "udp") for one in beyond) == {}
            # nor does anybody come in from outside
            pretend.sh(f"ip -n near route add 10.9.4.0/24 via {HOST}; ip -n near route add fd00:9:4::/64 via {HOST6}")
            assert answers((protocol, ip, 80, "near") for protocol in ("tcp", "udp") for ip in (caged.ip, caged.ip6)) == {}
    finally:
        stage.inside("caged", "; ".join(f"ip route del {route}" for route in routes))
        pretend.sh("ip -n near route del 10.9.4.0/24; ip -n near route del fd00:9:4::/64", check=False)


def test_isolated_siblings_do_not_meet(stage: Stage) -> None:
    """Not on the wire, and not by way of the gateway, whose MAC a sibling's address is said to be at."""
    one, two = stage.one, stage.two
    with answering("near", 9000, place="near"):
        for protocol in ("tcp", "udp"):
            assert ask(protocol, NEAR, 9000, "one") == f"near {HOST}", "to the world they do get"
            assert ask(protocol, two.ip, 80) == "two 10.9.3.1", "and the host to both"
            assert ask(protocol, one.ip, 80) == "one 10.9.3.1"
    asked = [(protocol, ip, 80, "one") for protocol in ("tcp", "udp") for ip in (two.ip, two.ip6)]
    assert answers(asked) == {}
    for mac in (stage.bridge["apart"], two.mac):
        stage.inside("one", "; ".join(f"ip neigh replace {ip} lladdr {mac} dev eth0 nud permanent" for ip in (two.ip, two.ip6)))
        try:
            assert answers(asked) == {}, mac
        finally:
            stage.inside("one", "; ".join(f"ip neigh del {ip} dev eth0" for ip in (two.ip, two.ip6)))


def test_no_frame_of_an_isolated_sibling_arrives(stage: Stage) -> None:
    one, two, gateway = stage.one, stage.two, stage.bridge["apart"]
    with Wire("two") as wire:
        stage.send(
            "one",
            *(frame(mac, one.mac, datagram(one.ip, two.ip, 80, b"fake")) for mac in (two.mac, gateway, BROADCAST)),
            *(frame(mac, one.mac, datagram(one.ip6, two.ip6, 80, b"fake")) for mac in (two.mac, gateway, "33:33:00:00:00:01")),
            frame(BROADCAST, one.mac, datagram(one.ip, "10.9.3.255", 80, b"fake")),
            frame(BROADCAST, one.mac, arp(1, one.mac, one.ip, BROADCAST, two.ip), ARP),
            frame(ALL_NODES_MAC, one.mac, neighbour(one.ip6, ALL_NODES, one.ip6, one.mac)),
        )
        assert ask("udp", two.ip, 80) == "two 10.9.3.1"
        assert [data.hex(" ") for data in wire.until(b"?") if data[6:12] == octets(one.mac) or b"fake" in data] == []


def test_of_the_port_guard_there_is_an_entry_a_container(stage: Stage) -> None:
    """What the frames above are judged by: MAC and addresses, both of IPv6 among them, and the port."""
    listed = json.loads(pretend.sh(f"nft -j list table bridge minidocker_{stage.md.tag}"))["nftables"]
    sets = {item["set"]["name"]: item["set"]["elem"] for item in listed if item.get("set", {}).get("elem")}
    places = {name: next(iter(stage.md.inspect(name)["NetworkSettings"]["Networks"].values()))["HostLink"] for name in stage.actors}
    assert sorted(sets["ports"]) == sorted(places.values())
    entries = [tuple(element["concat"]) for name in ("senders", "senders6") for element in sets[name]]
    assert sorted(entries) == sorted(
        (places[name], actor.mac, ip) for name, actor in stage.actors.items() for ip in (actor.ip, actor.ip6, actor.local))
