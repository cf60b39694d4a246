"""The rest of the world, as the network tests see it: two other hosts, servers to be asked, and the machine's whole state.

    near (192.0.2.2) ── lan0 192.0.2.1 ── this host ── lan1 198.51.100.1 ── far (198.51.100.2)
    the default route goes by near; neither has a route to a container network
"""

from __future__ import annotations

import errno
import ipaddress
import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from minidocker.kernel import libc
from tests import pretend
from tests.e2e.support import Minidocker, poll

T = TypeVar("T")

HOST, NEAR, FAR = "192.0.2.1", "192.0.2.2", "198.51.100.2"
PORT = 8081

# Answers each request with the address it came from.
REPORTER = """
import socketserver, sys
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        while self.rfile.readline().strip():
            pass
        self.wfile.write(b"HTTP/1.0 200 OK\\r\\n\\r\\n" + self.client_address[0].encode())
socketserver.TCPServer.allow_reuse_address = True
socketserver.TCPServer((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
"""


@contextmanager
def two_neighbours() -> Iterator[None]:
    """The picture above; this host forwards nothing."""
    with pretend.outside("near", "192.0.2"):
        pretend.sh(
            """ip netns add far && ip link add lan1 type veth peer name eth0 netns far &&
            ip addr add 198.51.100.1/24 dev lan1 && ip link set lan1 up &&
            ip -n far addr add 198.51.100.2/24 dev eth0 && ip -n far link set eth0 up && ip -n far link set lo up &&
            ip -n far route add default via 198.51.100.1 && ip -n near route add 198.51.100.0/24 via 192.0.2.1 &&
            sysctl -qw net.ipv6.conf.lan0.disable_ipv6=1 net.ipv6.conf.lan1.disable_ipv6=1  # its addresses come seconds later"""
        )
        try:
            yield
        finally:
            pretend.sh("ip link del lan1; ip netns del far", check=False)


def fetch(url: str, place: str = "", seconds: float = 10) -> str:
    """What `url` answers, asked from the namespace `place` or from this host; "" when it does not answer in time."""
    where = f"ip netns exec {place} " if place else ""
    return pretend.sh(f"{where}curl -s --noproxy '*' --max-time {seconds} {url}", check=False).strip()


def fetch_inside(md: Minidocker, name: str, url: str, seconds: float = 10) -> str:
    """The same, asked from a container with the host's view."""
    return str(md("exec", name, "curl", "-s", "--noproxy", "*", "--max-time", seconds, url, check=False).stdout).strip()


@contextmanager
def reporter(port: int, place: str = "", address: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """A web server in the namespace `place`, or on this host, that answers with its client's address."""
    where = ["ip", "netns", "exec", place] if place else []
    process = subprocess.Popen([*where, sys.executable, "-I", "-c", REPORTER, address, str(port)])
    try:
        poll(lambda: fetch(f"http://{address or '127.0.0.1'}:{port}", place, 1), f"the reporter listens on {port}")
        yield process
    finally:
        process.kill()
        process.wait()


def serve(md: Minidocker, server: Path, name: str, *options: object) -> dict[str, Any]:
    """Run examples/server as NAME until it listens; NAME's place in its network, of `inspect`."""
    md.start("--name", name, *options, server, name)
    await_listening(md, name)
    [place] = md.inspect(name)["NetworkSettings"]["Networks"].values()
    return place  # type: ignore[no-any-return]


def await_listening(md: Minidocker, name: str) -> None:
    poll(lambda: "listen" in md.logs(name), f"{name} listens")


def ip_in(name: str, *arguments: str) -> list[dict[str, Any]]:
    """`ip -j ARGUMENTS` in a namespace of `ip netns`."""
    return json.loads(pretend.sh(f"ip -n {name} -d -j {' '.join(arguments)}") or "[]")  # type: ignore[no-any-return]


def state() -> dict[str, str]:
    """All of this host that a network could change, as text; whether a bridge has a carrier is left out, as it lags behind."""
    commands = {
        "links": "ip -o link | sed 's/link-netnsid [0-9]*//; s/<.*> //; s/state [A-Z]* //'",
        "addresses": "ip -o addr", "routes": "ip route show table all | sed 's/ linkdown//'; ip -6 route show table all",
        "rules": "ip rule; ip -6 rule", "neighbours": "ip neigh show nud permanent", "nft": "nft list ruleset", "netns": "ls /run/netns",
        "settings": "cd /proc/sys/net; grep -rs . ipv4/ip_forward $(find ipv4/conf ipv6/conf -name '*forwarding' -o -name route_localnet"
                    " -o -name disable_ipv6 -o -name accept_ra -o -name rp_filter | sort)",
        "mounts": "cut -d' ' -f4- /proc/self/mountinfo",
    }  # fmt: skip
    return {name: pretend.sh(command, check=False) for name, command in commands.items()}


def settled() -> dict[str, str]:
    """`state`, once the veths of containers that have ended are gone (the kernel takes some 50 ms) and nothing follows for a second (it
    looks after carriers that long)."""
    poll(lambda: not any(re.fullmatch("md[0-9a-f]{9,}", str(link["ifname"])) for link in pretend.ip("link")), "no container's veth is left")
    seen, since = state(), time.monotonic()

    def rests() -> bool:
        nonlocal seen, since
        now = state()
        if now != seen:
            seen, since = now, time.monotonic()
        return time.monotonic() - since > 1

    poll(rests, "the host comes to rest")
    return seen


def await_state(before: dict[str, str]) -> None:
    """Wait until the host is as it was."""
    def changed() -> dict[str, tuple[str, str]]:
        now = state()
        return {name: (before[name], now[name]) for name in now if now[name] != before[name]}

    poll(lambda: not changed(), f"the host is as before, but for {changed()}", 10)


# --- IPv6 on the same wires -----------------------------------------------------------------------------------------------------------

HOST6, NEAR6, FAR6 = "2001:db8:1::1", "2001:db8:1::2", "2001:db8:2::2"
_WIRES6 = (("lan0", "near", "2001:db8:1::"), ("lan1", "far", "2001:db8:2::"))


@contextmanager
def with_ipv6() -> Iterator[None]:
    """IPv6 for the picture above, of use at once: the host's ::1 on each wire, the neighbour's ::2, the default route by near. No router
    advertises itself, so the host is told not to listen (a network with IPv6 would say that it goes on listening)."""
    for link, place, prefix in _WIRES6:
        pretend.sh(
            f"""sysctl -qw net.ipv6.conf.{link}.accept_ra=0 net.ipv6.conf.{link}.accept_dad=0 net.ipv6.conf.{link}.disable_ipv6=0 &&
            ip addr add {prefix}1/64 dev {link} nodad && ip -n {place} addr add {prefix}2/64 dev eth0 nodad &&
            ip -n {place} route add default via {prefix}1"""
        )
    pretend.sh(f"ip route add default via {NEAR6}")
    try:
        yield
    finally:
        for link, place, prefix in _WIRES6:  # with its addresses and routes
            pretend.sh(f"sysctl -qw net.ipv6.conf.{link}.disable_ipv6=1; ip -n {place} addr del {prefix}2/64 dev eth0", check=False)


# --- asked by this process, with a socket of another namespace ------------------------------------------------------------------------

REFUSED, SILENT = "refused", "no answer"

# NAME PORT...: answers whatever comes, by TCP and UDP, IPv4 and IPv6, with its name and the client's address.
ANSWERER = """
import selectors, socket, sys
chosen = selectors.DefaultSelector()
for port in map(int, sys.argv[2:]):
    for family, every in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            server = socket.socket(family, kind)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            server.bind((every, port))
            if kind == socket.SOCK_STREAM:
                server.listen()
            chosen.register(server, selectors.EVENT_READ)
while True:
    for key, _ in chosen.select():
        server = key.fileobj
        if server.type == socket.SOCK_STREAM:
            client, (address, *_) = server.accept()
            client.sendall(f"{sys.argv[1]} {address}".encode())
            client.close()
        else:
            _, client = server.recvfrom(100)
            server.sendto(f"{sys.argv[1]} {client[0]}".encode(), client)
"""


def within(place: str, make: Callable[[], T]) -> T:
    """`make()` by a thread in the network namespace that /run/netns calls `place`, "" for this host: a socket stays where it was made."""
    if not place:
        return make()

    def there() -> T:
        netns = os.open(f"/run/netns/{place}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            libc.setns(netns, pretend.CLONE_NEWNET)
        finally:
            os.close(netns)
        return make()

    with ThreadPoolExecutor(1) as one:
        return one.submit(there).result()


def ask(protocol: str, address: str, port: int, place: str = "", seconds: float = 10) -> str:
    """What answers there (an ANSWERER: its name, and the address that it sees), asked by "tcp" or "udp" from the namespace `place`; else
    REFUSED, SILENT, or the error's name."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}[protocol]
    with within(place, lambda: socket.socket(family, kind)) as asking:
        asking.settimeout(seconds)
        try:
            asking.connect((address, port))
            if protocol == "udp":
                asking.send(b"?")
            return asking.recv(200).decode()
        except TimeoutError:
            return SILENT
        except ConnectionRefusedError:
            return REFUSED
        except OSError as error:
            return errno.errorcode[error.errno or 0]


def answers(asked: Iterable[tuple[str, str, int, str]], seconds: float = 0.7) -> dict[tuple[str, str, int, str], str]:
    """What came of each of (protocol, address, port, place), asked all at once; without those that stayed SILENT."""
    each = list(asked)
    with ThreadPoolExecutor(len(each)) as many:
        found = many.map(lambda one: ask(*one, seconds=seconds), each)
        return {one: text for one, text in zip(each, found, strict=True) if text != SILENT}


def answer(md: Minidocker, name: str, *options: object, ports: Sequence[int] = (80,)) -> dict[str, Any]:
    """Run an ANSWERER as the container NAME until it answers; NAME's place in its first network, of `inspect`."""
    md.start("--name", name, *options, "/usr/bin/python3", "-I", "-c", ANSWERER, name, *ports)
    poll(lambda: ask("tcp", "127.0.0.1", ports[-1], name, 1).startswith(name), f"{name} answers")
    return next(iter(md.inspect(name)["NetworkSettings"]["Networks"].values()))  # type: ignore[no-any-return]


@contextmanager
def answering(name: str, *ports: int, place: str = "") -> Iterator[None]:
    """The same in the namespace `place`, or on this host."""
    where = ["ip", "netns", "exec", place] if place else []
    process = subprocess.Popen([*where, "/usr/bin/python3", "-I", "-c", ANSWERER, name, *map(str, ports)])
    try:
        poll(lambda: ask("tcp", "127.0.0.1", ports[-1], place, 1).startswith(name), f"{name} answers")
        yield
    finally:
        process.kill()
        process.wait()


# --- frames made by hand --------------------------------------------------------------------------------------------------------------

BROADCAST = "ff:ff:ff:ff:ff:ff"
ARP, IPV4, IPV6, VLAN = 0x0806, 0x0800, 0x86DD, 0x8100
_CHECKSUM_AT = {socket.IPPROTO_TCP: 16, socket.IPPROTO_UDP: 6, socket.IPPROTO_ICMPV6: 2}


def octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def frame(to: str, source: str, payload: bytes, kind: int = 0) -> bytes:
    """An Ethernet frame; its type follows from an IP packet."""
    return octets(to) + octets(source) + struct.pack("!H", kind or {4: IPV4, 6: IPV6}[payload[0] >> 4]) + payload


def packet(source: str, to: str, protocol: int, body: bytes, hops: int = 255) -> bytes:
    """An IPv4 or IPv6 packet; the checksums are filled in."""
    addresses = ipaddress.ip_address(source).packed + ipaddress.ip_address(to).packed
    at = _CHECKSUM_AT.get(protocol)
    if at is not None:
        value = _checksum(addresses + struct.pack("!II", len(body), protocol) + body)
        body = body[:at] + struct.pack("!H", value) + body[at + 2 :]
    if ":" in to:
        return struct.pack("!IHBB", 6 << 28, len(body), protocol, hops) + addresses + body
    header = struct.pack("!BBHIBBH", 0x45, 0, 20 + len(body), 0, hops, protocol, 0) + addresses
    return header[:10] + struct.pack("!H", _checksum(header)) + header[12:] + body


def datagram(source: str, to: str, port: int, data: bytes, source_port: int = 4444) -> bytes:
    return packet(source, to, socket.IPPROTO_UDP, struct.pack("!HHHH", source_port, port, 8 + len(data), 0) + data)


def syn(source: str, to: str, port: int, sequence: bytes, source_port: int = 4444) -> bytes:
    """The beginning of a TCP connection; four bytes of the caller's as its sequence number."""
    return packet(source, to, socket.IPPROTO_TCP, struct.pack("!HH4sIBBHHH", source_port, port, sequence, 0, 5 << 4, 2, 65535, 0, 0))


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total >> 16) + (total & 0xFFFF)
    return ~total & 0xFFFF


class Wire:
    """The link `name` of the namespace `place` as its driver sees it: frames go out as they are, and those that come in are kept."""

    def __init__(self, place: str, name: str = "eth0") -> None:
        self.socket = within(place, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
        self.socket.bind((name, 3))  # ETH_P_ALL
        self.socket.settimeout(10)

    def send(self, *frames: bytes) -> None:
        for one in frames:
            self.socket.send(one)

    def until(self, mark: bytes) -> list[bytes]:
        """What has come in before the first frame with `mark` in it: frames of one wire keep their order."""
        found = []
        while True:
            data, (_, _, kind, _, _) = self.socket.recvfrom(65536)
            if kind == socket.PACKET_OUTGOING:
                continue
            if mark in data:
                return found
            found.append(data)

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


# --- neighbour discovery --------------------------------------------------------------------------------------------------------------

ALL_NODES, ALL_NODES_MAC = "ff02::1", "33:33:00:00:00:01"


def advertisement(source: str, mac: str, lifetime: int, prefix: str = "") -> bytes:
    """A router's: the default route by `source` for `lifetime` seconds, and where given a /64 to make addresses from (RFC 4861, 4.2)."""
    body = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, lifetime, 0, 0) + b"\x01\x01" + octets(mac)
    if prefix:
        body += struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 3600, 3600, 0) + ipaddress.ip_address(prefix).packed
    return packet(source, ALL_NODES, socket.IPPROTO_ICMPV6, body)


def neighbour(source: str, to: str, target: str, mac: str) -> bytes:
    """A neighbour advertisement: `target` is at `mac`, whatever was known before (RFC 4861, 4.4; solicited and override set)."""
    body = struct.pack("!BBHI", 136, 0, 0, 0x60000000) + ipaddress.ip_address(target).packed + b"\x02\x01" + octets(mac)
    return packet(source, to, socket.IPPROTO_ICMPV6, body)
