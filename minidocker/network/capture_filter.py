"""Which packets a capture shows: a small language. Pure.

    EXPRESSION   TEST, not EXPRESSION, EXPRESSION and EXPRESSION, EXPRESSION or EXPRESSION, ( EXPRESSION ); also !, && and ||
    TEST         host ADDRESS      net SUBNET      port N, port N-M         each also after `src` or `dst`
                 proto NAME        or the NAME alone: ip, ip6, arp, tcp, udp, icmp, icmp6, sctp, dns
                 tcp port 80       a NAME and one of the first three together

`not` binds closest, then `and`, then `or`. ADDRESS is IPv4 or IPv6, or the name of a container. `icmp` is both families' ICMP where it
stands in `proto icmp`, as in `icmp or icmp6`. A later fragment of a packet has no ports, and no test of ports holds for it.
"""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_pton

from minidocker.errors import UsageError
from minidocker.kernel.packet import ETH_ARP, ICMP, ICMP6, SCTP, TCP, UDP
from minidocker.spec.parse import number
from minidocker.spec.parse_network import LARGEST_PORT, packed, packed6

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from minidocker.kernel.packet import Packet

    Test = Callable[[Packet], bool]
    Pick = Callable[[Packet], tuple[str, ...]]

DEEPEST = 50  # parentheses and nots in one another
_DNS = 53
_NAMES = ("ip", "ip6", "arp", "tcp", "udp", "icmp", "icmp6", "sctp", "dns")
_AND, _OR, _NOT = ("and", "&&"), ("or", "||"), ("not", "!")
_AFTER_A_PROTOCOL = ("src", "dst", "host", "net", "port")
_HINT = "a filter is like: host 172.17.0.2 and tcp port 80; see minidocker network capture --help"


def parse(words: Sequence[str], containers: Mapping[str, Sequence[str]]) -> Test:
    """The test that the words spell; none let everything pass. `containers` has the addresses of those that may be named. Raises
    UsageError."""
    tokens = _tokens(" ".join(words))
    if not tokens:
        return lambda packet: True
    reader = _Reader(tokens, containers)
    test = reader.either(0)
    if reader.next():
        raise reader.wrong("`and` or `or` must stand before it")
    return test


def _tokens(text: str) -> list[str]:
    for sign in ("(", ")", "!", "&&", "||"):
        text = text.replace(sign, f" {sign} ")
    return text.split()


class _Reader:
    """The words from left to right."""

    def __init__(self, tokens: list[str], containers: Mapping[str, Sequence[str]]) -> None:
        self.tokens = tokens
        self.containers = containers
        self.at = 0

    def next(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        token = self.next()
        self.at += 1
        return token

    def wrong(self, why: str) -> UsageError:
        token = self.next()
        where = f"at `{token if len(token) <= 40 else token[:39] + '…'}`" if token else "at its end"
        return UsageError(f"filter: {why} ({where}, word {min(self.at, len(self.tokens)) + 1})", _HINT)

    def either(self, depth: int) -> Test:
        tests = [self.both(depth)]
        while self.next() in _OR:
            self.take()
            tests.append(self.both(depth))
        return tests[0] if len(tests) == 1 else lambda packet: any(test(packet) for test in tests)

    def both(self, depth: int) -> Test:
        tests = [self.one(depth)]
        while self.next() in _AND:
            self.take()
            tests.append(self.one(depth))
        return tests[0] if len(tests) == 1 else lambda packet: all(test(packet) for test in tests)

    def one(self, depth: int) -> Test:
        if depth > DEEPEST:
            raise self.wrong(f"deeper than {DEEPEST} levels")
        if self.next() in _NOT:
            self.take()
            inner = self.one(depth + 1)
            return lambda packet: not inner(packet)
        if self.next() == "(":
            self.take()
            inner = self.either(depth + 1)
            if self.next() != ")":
                raise self.wrong("a parenthesis is not closed")
            self.take()
            return inner
        return self.test()

    def test(self) -> Test:
        way = self.take() if self.next() in ("src", "dst") else ""
        kind = self.next()
        if kind in ("host", "net", "port"):
            self.take()
            return {"host": self.host, "net": self.net, "port": self.port}[kind](way)
        if way:
            raise self.wrong(f"after `{way}` comes host, net or port")
        if kind == "proto":
            self.take()
        of_protocol = self.protocol(kind == "proto")
        if self.next() not in _AFTER_A_PROTOCOL:
            return of_protocol
        rest = self.test()
        return lambda packet: of_protocol(packet) and rest(packet)

    def host(self, way: str) -> Test:
        name = self.next()
        addresses = _address(name) or self.containers.get(name)
        if not addresses:
            raise self.wrong("`host` needs an IPv4 or IPv6 address, or the name of a container in a network")
        self.take()
        wanted, pick = frozenset(addresses), _addresses(way)
        return lambda packet: not wanted.isdisjoint(pick(packet))

    def net(self, way: str) -> Test:
        address, _, bits = self.next().partition("/")
        plain, length = _address(address), number(bits)
        family = AF_INET6 if ":" in address else AF_INET
        size = 128 if family == AF_INET6 else 32
        if not plain or length is None or length > size:
            raise self.wrong("`net` needs a subnet, as in 172.17.0.0/24 or fd00::/8")
        self.take()
        shift = size - length
        wanted, pick = int.from_bytes(inet_pton(family, plain[0]), "big") >> shift, _addresses(way)

        def inside(text: str) -> bool:
            return (":" in text) == (family == AF_INET6) and int.from_bytes(inet_pton(family, text), "big") >> shift == wanted

        return lambda packet: any(inside(text) for text in pick(packet) if text)

    def port(self, way: str) -> Test:
        first, dash, last = self.next().partition("-")
        low, high = number(first), number(last) if dash else number(first)
        if low is None or high is None or not low <= high <= LARGEST_PORT:
            raise self.wrong("`port` needs a number or a range, as in 80 or 8000-8099")
        self.take()
        start, end = low, high

        def holds(packet: Packet) -> bool:
            if packet.protocol not in (TCP, UDP, SCTP) or packet.fragment or packet.fault:
                return False
            ends = ((packet.source_port,) if way != "dst" else ()) + ((packet.destination_port,) if way != "src" else ())
            return any(start <= port <= end for port in ends)

        return holds

    def protocol(self, said: bool) -> Test:
        name = self.next()
        if name not in _NAMES:
            raise self.wrong(f"expected host, net, port, proto, or one of {', '.join(_NAMES)}")
        self.take()
        if said and name == "icmp":
            return lambda packet: packet.protocol in (ICMP, ICMP6) and packet.kind != ETH_ARP
        return _PROTOCOLS[name]


def _address(text: str) -> list[str]:
    """An address as dissection writes it."""
    if packed(text) is not None:
        return [text]
    value = packed6(text)
    if value is None:
        return []
    from _socket import inet_ntop

    return [inet_ntop(AF_INET6, value)]


def _addresses(way: str) -> Pick:
    if way == "src":
        return lambda packet: (packet.source,)
    if way == "dst":
        return lambda packet: (packet.destination,)
    return lambda packet: (packet.source, packet.destination)


def is_dns(packet: Packet) -> bool:
    """Whether it goes to or comes from a nameserver's port."""
    return packet.protocol in (TCP, UDP) and _DNS in (packet.source_port, packet.destination_port)


_PROTOCOLS: dict[str, Test] = {
    "ip": lambda packet: packet.family == AF_INET, "ip6": lambda packet: packet.family == AF_INET6,
    "arp": lambda packet: packet.kind == ETH_ARP, "tcp": lambda packet: packet.protocol == TCP,
    "udp": lambda packet: packet.protocol == UDP, "icmp": lambda packet: packet.protocol == ICMP,
    "icmp6": lambda packet: packet.protocol == ICMP6, "sctp": lambda packet: packet.protocol == SCTP, "dns": is_dns,
}  # fmt: skip
