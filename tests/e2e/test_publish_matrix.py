"""-p from everywhere to everywhere: each cell of who asks, by which address, protocol and family; what must not get in by any way; and who
has a port already."""

from __future__ import annotations

import json
import os
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
    BROADCAST,
    HOST,
    HOST6,
    NEAR,
    NEAR6,
    REFUSED,
    SILENT,
    Wire,
    answer,
    answering,
    ask,
    datagram,
    frame,
    packet,
    syn,
    with_ipv6,
    within,
)

PUBLISHED, LOCAL, AT_HOST, SERVICE = 8080, 8081, 8082, 8090  # everywhere; on 127.0.0.1; on the LAN address alone; the host's own
BRIEFLY = 0.7  # for what never answers
PROTOCOLS, FAMILIES = ("tcp", "udp"), ("v4", "v6")
WEB, SIBLING, OTHER = ("10.9.1.10", "fd00:9:1::10"), ("10.9.1.11", "fd00:9:1::11"), ("10.9.2.10", "fd00:9:2::10")
GATEWAY = ("10.9.1.1", "fd00:9:1::1")
SCTP, HONEST_PORT = 132, 5555

each_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)
each_family = pytest.mark.parametrize("family", FAMILIES)


@contextmanager
def every_refusal_told() -> Iterator[None]:
    """The kernel tells one peer of so many closed UDP ports a second alone (icmp(7)), and here there are more."""
    names = ("net.ipv4.icmp_ratelimit", "net.ipv6.icmp.ratelimit")
    before = [pretend.sh(f"sysctl -n {name}").strip() for name in names]
    pretend.sh("sysctl -qw " + " ".join(f"{name}=0" for name in names))
    try:
        yield
    finally:
        pretend.sh("sysctl -qw " + " ".join(map("=".join, zip(names, before, strict=True))))


@pytest.fixture(scope="module")
def shared(world: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Minidocker]:
    """`web` publishes its port 80 in every way, `sibling` is in its network, `other` in another one; all have IPv6."""
    with ExitStack() as stack:
        stack.enter_context(with_ipv6())
        stack.enter_context(every_refusal_told())
        md = Minidocker(tmp_path_factory.mktemp("shared") / "root")
        stack.callback(md.close)
        for name, number in (("front", 1), ("back", 2)):
            md("network", "create", "--subnet", f"10.9.{number}.0/24", "--subnet", f"fd00:9:{number}::/64", name)
        ports = [f"{PUBLISHED}:80", f"127.0.0.1:{LOCAL}:80", f"{HOST}:{AT_HOST}:80", f"[{HOST6}]:{AT_HOST}:80"]
        options = [word for port in ports for protocol in PROTOCOLS for word in ("-p", f"{port}/{protocol}")]
        at = [("--ip", ip, "--ip6", ip6) for ip, ip6 in (WEB, SIBLING, OTHER)]
        answer(md, "web", "--net", "front", *at[0], *options, "-p", f"{PUBLISHED}:80/sctp", ports=(80, 81))
        answer(md, "sibling", "--net", "front", *at[1])
        answer(md, "other", "--net", "back", *at[2])
        yield md


def of(pair: tuple[str, str], family: str) -> str:
    return pair[FAMILIES.index(family)]


# --- who reaches a published port, and whom the server sees ---------------------------------------------------------------------------

# asks from -> (by which address, seen as): the peer itself where it comes from outside, this host where its own way back leads through it
CELLS = {
    "host-by-loopback": ("", ("127.0.0.1", "::1"), (GATEWAY[0], REFUSED)),
    "host-by-lan-address": ("", (HOST, HOST6), (HOST, HOST6)),
    "host-by-gateway-address": ("", GATEWAY, GATEWAY),
    "lan-peer": ("near", (HOST, HOST6), (NEAR, NEAR6)),
    "hairpin": ("web", (HOST, HOST6), GATEWAY),
    "hairpin-by-gateway-address": ("web", GATEWAY, GATEWAY),
    "sibling": ("sibling", (HOST, HOST6), GATEWAY),
    "sibling-by-gateway-address": ("sibling", GATEWAY, GATEWAY),
    "other-network": ("other", (HOST, HOST6), GATEWAY),
}


@each_family
@each_protocol
@pytest.mark.parametrize("cell", CELLS)
def test_a_port_published_everywhere(shared: Minidocker, cell: str, protocol: str, family: str) -> None:
    place, addresses, seen = CELLS[cell]
    expected = of(seen, family)
    assert ask(protocol, of(addresses, family), PUBLISHED, place) == (expected if expected == REFUSED else f"web {expected}")


@each_family
@each_protocol
@pytest.mark.parametrize("cell", CELLS)
def test_a_port_published_on_the_lan_address(shared: Minidocker, cell: str, protocol: str, family: str) -> None:
    """Reached by that, and refused at once by any other."""
    place, addresses, seen = CELLS[cell]
    found = ask(protocol, of(addresses, family), AT_HOST, place)
    assert found == (f"web {of(seen, family)}" if of(addresses, family) in (HOST, HOST6) else REFUSED)


@each_family
@each_protocol
@pytest.mark.parametrize("cell", CELLS)
def test_a_port_published_on_loopback(shared: Minidocker, cell: str, protocol: str, family: str) -> None:
    """Reached from this host alone, by that address; refused at once by any other."""
    place, addresses, _ = CELLS[cell]
    found = ask(protocol, of(addresses, family), LOCAL, place)
    assert found == (f"web {GATEWAY[0]}" if of(addresses, family) == "127.0.0.1" else REFUSED)


@each_family
@each_protocol
@pytest.mark.parametrize("cell", [cell for cell in CELLS if "gateway" not in cell])
def test_a_port_that_is_not_published_is_refused_at_once(shared: Minidocker, cell: str, protocol: str, family: str) -> None:
    place, addresses, _ = CELLS[cell]
    assert ask(protocol, of(addresses, family), 81, place) == REFUSED


@each_family
@each_protocol
def test_the_containers_own_address_is_reached_from_host_and_network_alone(shared: Minidocker, protocol: str, family: str) -> None:
    for port in (80, 81):
        for place, seen in (("", GATEWAY), ("sibling", SIBLING), ("web", WEB)):
            assert ask(protocol, of(WEB, family), port, place) == f"web {of(seen, family)}"
    assert ask(protocol, of(WEB, family), 80, "other", BRIEFLY) == SILENT


@each_family
@each_protocol
def test_a_static_route_of_a_peer_leads_it_nowhere(shared: Minidocker, protocol: str, family: str) -> None:
    subnet, via = ("10.9.1.0/24", HOST) if family == "v4" else ("fd00:9:1::/64", HOST6)
    pretend.sh(f"ip -n near route add {subnet} via {via}")
    try:
        with answering("host", SERVICE):
            assert ask(protocol, of(WEB, family), 80, "near", BRIEFLY) == SILENT
            assert ask(protocol, of(GATEWAY, family), SERVICE, "near", BRIEFLY) == SILENT
            assert ask(protocol, of(GATEWAY, family), PUBLISHED, "near", BRIEFLY) == SILENT
            assert ask(protocol, of((HOST, HOST6), family), SERVICE, "near").startswith("host "), "what is the host's own is none of ours"
    finally:
        pretend.sh(f"ip -n near route del {subnet}")


# --- frames forged on the LAN ---------------------------------------------------------------------------------------------------------

# (source, to, port): what is to be judged by its destination, by its source, or by both
FORGED = {
    "v4": [
        (NEAR, "127.0.0.1", LOCAL), (NEAR, "127.0.0.1", PUBLISHED), (NEAR, "127.0.0.1", SERVICE), (NEAR, "127.1.2.3", SERVICE),
        ("127.0.0.1", "127.0.0.1", LOCAL), ("127.0.0.1", HOST, PUBLISHED), ("127.0.0.1", WEB[0], 80),
        (NEAR, WEB[0], 80), (NEAR, WEB[0], 81), (NEAR, "10.9.1.255", 80), (NEAR, GATEWAY[0], SERVICE), (NEAR, GATEWAY[0], PUBLISHED),
        (SIBLING[0], WEB[0], 80), (SIBLING[0], HOST, PUBLISHED), (GATEWAY[0], WEB[0], 80), (OTHER[0], WEB[0], 80), (HOST, WEB[0], 80),
        (WEB[0], HOST, PUBLISHED), (WEB[0], HOST, SERVICE), (SIBLING[0], HOST, SERVICE), (SIBLING[0], "127.0.0.1", SERVICE),
    ],
    "v6": [
        (NEAR6, "::1", LOCAL), (NEAR6, "::1", PUBLISHED), (NEAR6, "::1", SERVICE), ("::1", HOST6, PUBLISHED), ("::1", WEB[1], 80),
        (NEAR6, WEB[1], 80), (NEAR6, WEB[1], 81), (NEAR6, GATEWAY[1], SERVICE), (NEAR6, GATEWAY[1], PUBLISHED), ("fe80::bad", WEB[1], 80),
        (SIBLING[1], WEB[1], 80), (SIBLING[1], HOST6, PUBLISHED), (GATEWAY[1], WEB[1], 80), (OTHER[1], WEB[1], 80), (HOST6, WEB[1], 80),
        (WEB[1], HOST6, PUBLISHED), (WEB[1], HOST6, SERVICE), (SIBLING[1], HOST6, SERVICE),
    ],
}  # fmt: skip


@contextmanager
def bound(address: str, port: int, kind: socket.SocketKind = socket.SOCK_STREAM, only6: bool = True) -> Iterator[socket.socket]:
    """This process has the port, and listens where it can."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, kind) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only6)
        listener.bind((address, port))
        if kind == socket.SOCK_STREAM:
            listener.listen()
        yield listener


@contextmanager
def takes_answers(family: str) -> Iterator[None]:
    """Somebody at the near end to whom what answers an honest datagram is welcome: else it says that nobody is."""
    with within("near", lambda: socket.socket(socket.AF_INET if family == "v4" else socket.AF_INET6, socket.SOCK_DGRAM)) as taking:
        taking.bind((of((NEAR, NEAR6), family), HONEST_PORT))
        yield


def is_talk(data: bytes) -> bool:
    """Whether a frame is more than the search for a neighbour."""
    kind, inside = data[12:14], data[14:]
    return kind == b"\x08\x00" or (kind == b"\x86\xdd" and not (inside[6] == socket.IPPROTO_ICMPV6 and 133 <= inside[40] <= 137))


@each_family
def test_forged_frames_from_the_lan_reach_nothing(shared: Minidocker, family: str) -> None:
    """Each at this host's MAC and at everybody's. An honest datagram follows on the same wire: when that has come, so would have they."""
    lan0 = str(pretend.ip("link show dev lan0")[0]["address"])
    near = str(json.loads(pretend.sh("ip -n near -j link show dev eth0"))[0]["address"])
    honest = datagram(of((NEAR, NEAR6), family), of((HOST, HOST6), family), PUBLISHED, b"honest", HONEST_PORT)
    with ExitStack() as stack:
        stack.enter_context(takes_answers(family))
        lan, web = stack.enter_context(Wire("near")), stack.enter_context(Wire("web"))
        services = [stack.enter_context(bound(of(("0.0.0.0", "::"), family), SERVICE, kind))
                    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)]  # fmt: skip
        lan.send(frame(lan0, near, honest))
        web.until(b"honest")
        lan.until(b"web ")  # this is how an answer looks
        for source, to, port in FORGED[family]:
            for mac in (lan0, BROADCAST):
                lan.send(frame(mac, near, datagram(source, to, port, b"forged")), frame(mac, near, syn(source, to, port, b"fake")))
        lan.send(frame(lan0, near, honest))
        assert [data.hex(" ") for data in web.until(b"honest") if is_talk(data)] == []
        assert [data.hex(" ") for data in lan.until(b"web ") if is_talk(data)] == []
        for service in services:
            service.setblocking(False)
            with pytest.raises(BlockingIOError):
                service.accept() if service.type == socket.SOCK_STREAM else service.recv(100)


def test_a_fragment_forged_on_the_lan_reaches_nothing(shared: Minidocker) -> None:
    """Of which only the first has ports to look at."""
    lan0 = str(pretend.ip("link show dev lan0")[0]["address"])
    near = str(json.loads(pretend.sh("ip -n near -j link show dev eth0"))[0]["address"])
    with takes_answers("v4"), Wire("near") as lan, Wire("web") as web:
        for to in (WEB[0], "127.0.0.1"):
            whole = datagram(NEAR, to, 80, b"forged" * 10)
            body = whole[20:]
            for part, offset in ((body[:32], 0x2000), (body[32:], 4)):
                header = bytearray(packet(NEAR, to, socket.IPPROTO_UDP, part)[:20])
                header[6:8], header[10:12] = struct.pack("!H", offset), b"\0\0"
                total = sum(struct.unpack("!10H", header))
                header[10:12] = struct.pack("!H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF)
                lan.send(frame(lan0, near, bytes(header) + part))
        lan.send(frame(lan0, near, datagram(NEAR, HOST, PUBLISHED, b"honest", HONEST_PORT)))
        assert [data.hex(" ") for data in web.until(b"honest") if is_talk(data)] == []


# --- sctp -----------------------------------------------------------------------------------------------------------------------------


def crc32c(data: bytes) -> int:
    """RFC 9260, appendix A."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def sctp(source_port: int, to_port: int, tag: int, chunk: bytes) -> bytes:
    body = struct.pack("!HHII", source_port, to_port, tag, 0) + chunk
    return body[:8] + struct.pack("<I", crc32c(body)) + body[12:]


def has_sctp() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, SCTP).close()
    except OSError:
        return False
    return True


@each_family
def test_sctp(shared: Minidocker, family: str) -> None:
    """By the kernel's own where it has one; else the first two messages of an association, made by hand and looked at: where they arrive,
    and whether their checksums, over ports that were translated, are right."""
    listed = json.loads(pretend.sh(f"nft -j list map inet minidocker_{shared.tag} ports{'6' * (family == 'v6')}"))["nftables"][1]["map"]
    assert [{"concat": ["sctp", PUBLISHED]}, {"concat": [of(WEB, family), 80]}] in listed["elem"]
    kind, way_in = (socket.AF_INET, HOST) if family == "v4" else (socket.AF_INET6, HOST6)
    if has_sctp():
        with within("web", lambda: socket.socket(kind, socket.SOCK_STREAM, SCTP)) as server, \
                within("near", lambda: socket.socket(kind, socket.SOCK_STREAM, SCTP)) as client:  # fmt: skip
            server.bind((of(WEB, family), 80))
            server.listen()
            client.settimeout(10)
            client.connect((way_in, PUBLISHED))
            assert server.accept()[1][0] == of((NEAR, NEAR6), family)
        return
    with within("web", lambda: socket.socket(kind, socket.SOCK_RAW, SCTP)) as server, \
            within("near", lambda: socket.socket(kind, socket.SOCK_RAW, SCTP)) as client:  # fmt: skip
        server.settimeout(10)
        client.settimeout(10)
        client.sendto(sctp(4000, PUBLISHED, 0, struct.pack("!BBHIIHHI", 1, 0, 20, 77, 65536, 1, 1, 1)), (way_in, 0))
        data, (address, *_) = server.recvfrom(2000)
        came = data[20:] if family == "v4" else data
        assert address == of((NEAR, NEAR6), family)
        assert struct.unpack("!HH", came[:4]) == (4000, 80) and came == sctp(4000, 80, 0, came[12:])
        # an INIT ACK and its state cookie
        server.sendto(sctp(80, 4000, 77, struct.pack("!BBHIIHHIHH4s", 2, 0, 28, 88, 65536, 1, 1, 1, 7, 8, b"cook")), (address, 0))
        data, (address, *_) = client.recvfrom(2000)
        came = data[20:] if family == "v4" else data
        assert address == way_in
        assert struct.unpack("!HH", came[:4]) == (PUBLISHED, 4000) and came == sctp(PUBLISHED, 4000, 77, came[12:])


# --- ranges, choices, and what is shown -----------------------------------------------------------------------------------------------


@pytest.fixture
def lab(shared: Minidocker, md: Minidocker) -> Minidocker:
    """Another data root, with a network `lab` of both families."""
    md("network", "create", "--subnet", "10.9.9.0/24", "--subnet", "fd00:9:9::/64", "lab")
    return md


def shown(md: Minidocker, name: str) -> str:
    return str({container["Names"]: container["Ports"] for container in md.ps()}[name])


def test_a_range_is_as_many_ports(lab: Minidocker) -> None:
    answer(lab, "page", "--net", "lab", "-p", "8000-8002:80-82", "-p", "8000-8002:80-82/udp", ports=(80, 81, 82))
    for host_port in (8000, 8001, 8002):
        for protocol in PROTOCOLS:
            for address, peer in ((HOST, NEAR), (HOST6, NEAR6)):
                assert ask(protocol, address, host_port, "near") == f"page {peer}"
    assert ask("tcp", HOST, 8003, "near") == REFUSED
    lines = [f"{inside}/{protocol} -> {address}:{inside + 7920}" for inside in (80, 81, 82) for protocol in PROTOCOLS
             for address in ("0.0.0.0", "[::]")]  # fmt: skip
    assert lab("port", "page").stdout.splitlines() == lines
    assert lab("port", "page", "81").stdout == "0.0.0.0:8001\n[::]:8001\n"
    assert lab("port", "page", "82/udp").stdout == "0.0.0.0:8002\n[::]:8002\n"
    pairs = [(protocol, port) for protocol in PROTOCOLS for port in (80, 81, 82)]
    assert shown(lab, "page") == ", ".join(
        f"{address}:{port + 7920}->{port}/{protocol}" for protocol, port in pairs for address in ("0.0.0.0", "[::]"))
    ports = lab.inspect("page")["NetworkSettings"]["Ports"]
    assert ports["82/udp"] == [{"HostIp": "0.0.0.0", "HostPort": "8002"}, {"HostIp": "::", "HostPort": "8002"}]


def test_of_a_host_range_for_one_port_a_free_one_is_taken(lab: Minidocker) -> None:
    """Whoever has one already: a process of either family, a container."""
    with bound("0.0.0.0", 9000), bound("::", 9001):
        answer(lab, "one", "--net", "lab", "-p", "9000-9003:80")
        assert lab("port", "one").stdout == "80/tcp -> 0.0.0.0:9002\n80/tcp -> [::]:9002\n"
        answer(lab, "two", "--net", "lab", "-p", "9000-9003:80")
        assert lab("port", "two").stdout == "80/tcp -> 0.0.0.0:9003\n80/tcp -> [::]:9003\n"
        assert (ask("tcp", HOST, 9002, "near"), ask("tcp", HOST6, 9003, "near")) == (f"one {NEAR}", f"two {NEAR6}")
        assert lab.refused("run", "--rm", "--net", "lab", "-p", "9000-9003:80", "true") == (
            "minidocker: no host port is free between 9000 and 9003\n  hint: name one: -p HOSTPORT:PORT\n")
        lab.run("--rm", "--net", "lab", "-p", "9000-9003:80/udp", "true")


def test_everything_exposed_is_published(lab: Minidocker) -> None:
    answer(lab, "page", "--net", "lab", "-P", "--expose", "80-81", "--expose", "80/udp", "-p", "7000:81", ports=(80, 81))
    lines = lab("port", "page").stdout.splitlines()
    numbers = {line.partition(" -> ")[0]: int(line.rpartition(":")[2]) for line in lines}
    assert sorted(line.rpartition(":")[0] for line in lines) == sorted(
        f"{port} -> {address}" for port in ("80/tcp", "80/udp", "81/tcp") for address in ("0.0.0.0", "[::]"))
    assert numbers["81/tcp"] == 7000 and numbers["80/tcp"] >= 32768 and numbers["80/udp"] >= 32768
    for key, number in numbers.items():
        for address, peer in ((HOST, NEAR), (HOST6, NEAR6)):
            assert ask(key.partition("/")[2], address, number, "near") == f"page {peer}"
    assert lab("port", "page", "80").stdout == f"0.0.0.0:{numbers['80/tcp']}\n[::]:{numbers['80/tcp']}\n"


def test_exposed_alone_is_not_published(lab: Minidocker) -> None:
    answer(lab, "page", "--net", "lab", "--expose", "80")
    assert lab("port", "page").stdout == ""
    assert shown(lab, "page") == "80/tcp"
    assert ask("tcp", HOST, 80, "near") == REFUSED


def test_what_is_shown_of_single_addresses(lab: Minidocker) -> None:
    ports = (f"[{HOST6}]:7001:80", "127.0.0.1:7001:80", "[::]:7002:80", "0.0.0.0:7003:80")
    answer(lab, "page", "--net", "lab", *(word for port in ports for word in ("-p", port)))
    assert lab("port", "page").stdout.splitlines() == [
        f"80/tcp -> [{HOST6}]:7001", "80/tcp -> 127.0.0.1:7001", "80/tcp -> [::]:7002", "80/tcp -> 0.0.0.0:7003",
    ]  # fmt: skip
    assert shown(lab, "page") == f"[{HOST6}]:7001->80/tcp, 127.0.0.1:7001->80/tcp, [::]:7002->80/tcp, 0.0.0.0:7003->80/tcp"
    assert [ask("tcp", HOST6, port, "near") for port in (7001, 7002, 7003)] == [f"page {NEAR6}", f"page {NEAR6}", REFUSED]
    assert [ask("tcp", HOST, port, "near") for port in (7001, 7002, 7003)] == [REFUSED, REFUSED, f"page {NEAR}"]
    lab("stop", "-t", "0", "page")
    assert (lab("port", "page").stdout, shown(lab, "page")) == ("", "")


# --- who has a port already -----------------------------------------------------------------------------------------------------------

WANTED, CHOOSE = 7500, "\n  hint: choose another host port, or leave it out to have one chosen\n"


@pytest.mark.parametrize(
    ("had", "asked", "of_what"),
    [
        ("", "", "all addresses"), ("", "0.0.0.0:", "0.0.0.0"), ("", "[::]:", "::"), ("", f"{HOST}:", HOST), ("", f"[{HOST6}]:", HOST6),
        ("0.0.0.0:", "", "all addresses"), ("[::]:", "", "all addresses"), (f"{HOST}:", "", "all addresses"),
        (f"[{HOST6}]:", "", "all addresses"), ("127.0.0.1:", "0.0.0.0:", "0.0.0.0"), ("0.0.0.0:", "127.0.0.1:", "127.0.0.1"),
        (f"[{HOST6}]:", "[::]:", "::"), ("[::]:", f"[{HOST6}]:", HOST6), (f"{HOST}:", f"{HOST}:", HOST),
    ],
)  # fmt: skip
def test_a_port_of_another_container_is_refused(shared: Minidocker, had: str, asked: str, of_what: str) -> None:
    shared.start("--name", "holder", "--net", "front", "-p", f"{had}{WANTED}:80", "sleep", "1000")
    try:
        before = pretend.sh("nft list ruleset")
        error = shared.refused("run", "--rm", "--net", "back", "-p", f"{asked}{WANTED}:80", "true")
        assert error == f"minidocker: port {WANTED}/tcp of {of_what} is published by container `holder` already{CHOOSE}"
        assert pretend.sh("nft list ruleset") == before
        shared.run("--rm", "--net", "back", "-p", f"{asked}{WANTED}:80/udp", "true")
    finally:
        shared("rm", "-f", "holder")


@pytest.mark.parametrize("first", FAMILIES)
def test_one_has_the_port_of_ipv4_and_another_that_of_ipv6(shared: Minidocker, first: str) -> None:
    ways = {"v4": "0.0.0.0", "v6": "[::]"}
    second = "v6" if first == "v4" else "v4"
    try:
        answer(shared, first, "--net", "front", "-p", f"{ways[first]}:{WANTED}:80")
        answer(shared, second, "--net", "back", "-p", f"{ways[second]}:{WANTED}:80")
        assert ask("tcp", HOST, WANTED, "near") == f"v4 {NEAR}"
        assert ask("tcp", HOST6, WANTED, "near") == f"v6 {NEAR6}"
        assert ask("tcp", "127.0.0.1", WANTED).startswith("v4 ") and ask("tcp", "::1", WANTED) == REFUSED
    finally:
        shared("rm", "-f", first, second)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=PROTOCOLS)
@pytest.mark.parametrize(
    ("has", "asked"),
    [
        ("0.0.0.0", ""), ("127.0.0.1", ""), (HOST, ""), ("::", ""), ("::1", ""), (HOST6, ""), ("0.0.0.0", "127.0.0.1:"),
        ("0.0.0.0", "0.0.0.0:"), ("::", "[::]:"), ("::", f"[{HOST6}]:"), (HOST6, "[::]:"), (HOST6, f"[{HOST6}]:"), ("both", "0.0.0.0:"),
        ("both", "[::]:"), ("both", f"{HOST}:"),
    ],
)  # fmt: skip
def test_a_port_of_a_process_is_refused_naming_it(shared: Minidocker, kind: socket.SocketKind, has: str, asked: str) -> None:
    protocol = PROTOCOLS[kind == socket.SOCK_DGRAM]
    comm = Path("/proc/self/comm").read_text().strip()
    before = pretend.sh("nft list ruleset")
    with bound("::" if has == "both" else has, WANTED, kind, has != "both"):
        error = shared.refused("run", "--rm", "--net", "front", "-p", f"{asked}{WANTED}:80/{protocol}", "true")
    assert error == (
        f"minidocker: publish {asked or '0.0.0.0:'}{WANTED}->80/{protocol}: the port is in use by process {os.getpid()} ({comm})\n"
        "  hint: stop it, or publish on another port\n"
    )
    assert pretend.sh("nft list ruleset") == before
    shared.run("--rm", "--net", "front", "-p", f"{asked}{WANTED}:80/{protocol}", "true")


@pytest.mark.parametrize(
    ("has", "asked"), [("::", "0.0.0.0:"), ("0.0.0.0", "[::]:"), (HOST6, "127.0.0.1:"), ("127.0.0.1", f"{HOST}:"), ("::1", f"[{HOST6}]:")]
)
def test_a_process_elsewhere_is_in_nobodys_way(shared: Minidocker, has: str, asked: str) -> None:
    with bound(has, WANTED):
        shared.run("--rm", "--net", "front", "-p", f"{asked}{WANTED}:80", "true")


def test_where_there_is_no_ipv6_a_process_of_ipv6_is_in_nobodys_way(world: None, md: Minidocker) -> None:
    with bound("::", WANTED):
        md.run("--rm", "-p", f"{WANTED}:80", "true")
    with bound("::", WANTED, only6=False):
        assert f"publish 0.0.0.0:{WANTED}->80/tcp: the port is in use by process {os.getpid()} (" in md.refused(
            "run", "--rm", "-p", f"{WANTED}:80", "true")


# --- what is not possible -------------------------------------------------------------------------------------------------------------


def test_ipv6_loopback_is_refused(md: Minidocker) -> None:
    for text in ("[::1]:80:80", "[0:0::1]:80:80/udp", "[::1]::80"):
        assert md.refused("run", "--rm", "-p", text, "true") == (
            f"minidocker: --publish `{text}`: the kernel leads nothing from ::1 to a container (it has no route_localnet for IPv6); "
            "127.0.0.1 or [::] is possible\n"
        )
    assert md.ps() == []


BRIDGE_NEEDED = "minidocker: -p needs a bridge network with a way out for the default route, and `{0}` is {1}\n" \
    "  hint: leave out -p, or add --net br0 (and gw-priority= where another gives the default route)\n"  # fmt: skip


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--internal",), "internal"), (("-d", "ptp"), "a cable between two containers"),
        (("-d", "macvlan", "-o", "parent=lan1"), "on a wire where all its ports are reached anyway"),
    ],
    ids=["internal", "ptp", "macvlan"],
)  # fmt: skip
def test_a_network_that_leads_no_port_to_its_containers(world: None, md: Minidocker, options: tuple[str, ...], why: str) -> None:
    md("network", "create", *options, "net")
    before = pretend.sh("nft list ruleset; ip -o link; ip route show table all")
    for words in (("-p", "8080:80"), ("-p", "127.0.0.1::80/udp"), ("-P", "--expose", "80")):
        assert md.refused("run", "--rm", "--net", "net", *words, "true") == BRIDGE_NEEDED.format("net", why)
    assert md.ps() == []
    assert pretend.sh("nft list ruleset; ip -o link; ip route show table all") == before


def test_beside_a_network_that_leads_out_they_are_no_hindrance(world: None, md: Minidocker) -> None:
    md("network", "create", "--internal", "--subnet", "10.9.8.0/24", "inner")
    answer(md, "page", "--net", "inner", "--net", "br0", "-p", "8080:80")
    assert ask("tcp", HOST, 8080, "near") == f"page {NEAR}"


def test_an_ipv6_address_for_a_network_without(world: None, md: Minidocker) -> None:
    for text, port in (("[::]:8080:80", "[::]:8080->80/tcp"), ("[2001:db8:1::1]:8080:80/udp", "[2001:db8:1::1]:8080->80/udp")):
        assert md.refused("run", "--rm", "-p", text, "true") == (
            f"minidocker: publish {port}: network `br0` has no IPv6\n  hint: minidocker network create --ipv6 NAME makes one\n")
    assert md.ps() == []


def test_an_address_that_the_host_has_not(shared: Minidocker) -> None:
    for address, text, family in (("203.0.113.1", "203.0.113.1", "-4"), ("2001:db8:9::1", "[2001:db8:9::1]", "-6")):
        assert shared.refused("run", "--rm", "--net", "front", "-p", f"{text}:{WANTED}:80", "true") == (
            f"minidocker: publish {text}:{WANTED}->80/tcp: this host has no address `{address}`\n"
            f"  hint: see them with: ip -br {family} address\n"
        )


def elements(md: Minidocker) -> dict[str, Any]:
    """The maps of published ports, by name, that are not empty."""
    listed = json.loads(pretend.sh(f"nft -j list table inet minidocker_{md.tag}"))["nftables"]
    return {item["map"]["name"]: item["map"]["elem"] for item in listed if item.get("map", {}).get("elem")}


def test_what_is_published_is_an_element_a_family_and_goes_with_the_container(lab: Minidocker) -> None:
    place = answer(lab, "page", "--net", "lab", "-p", "8080:80", "-p", f"{HOST}:8081:80/udp", "-p", f"[{HOST6}]:8082:80/udp")
    ip, ip6 = place["IPAddress"], place["GlobalIPv6Address"]
    assert elements(lab) == {
        "ports": [[{"concat": ["tcp", 8080]}, {"concat": [ip, 80]}]], "ports6": [[{"concat": ["tcp", 8080]}, {"concat": [ip6, 80]}]],
        "ports_at": [[{"concat": [HOST, "udp", 8081]}, {"concat": [ip, 80]}]],
        "ports6_at": [[{"concat": [HOST6, "udp", 8082]}, {"concat": [ip6, 80]}]],
    }  # fmt: skip
    lab("rm", "-f", "page")
    assert elements(lab) == {}
