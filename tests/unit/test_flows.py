"""Which tracked flows are forgotten when a UDP port is published or withdrawn, and what a flow reads like on the wire."""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_pton

import pytest

from minidocker.kernel import conntrack
from minidocker.kernel.netlink import HEADER, attribute, attributes
from minidocker.network.flows import Forget, stale
from minidocker.spec.records import Endpoint, Port

OWN = {"192.0.2.1", "172.17.0.1", "127.0.0.1", "2001:db8::1", "fd00::1", "::1"}
CONTAINER, CONTAINER6 = "172.17.0.2", "fd00::2"
BOTH = (CONTAINER, CONTAINER6)


def family_of(address: str) -> int:
    return AF_INET6 if ":" in address else AF_INET


def ends(kind: int, source: str, destination: str, source_port: int, destination_port: int, protocol: int) -> bytes:
    family = family_of(destination)
    first = {AF_INET: 1, AF_INET6: 3}[family]
    addresses = attribute(first, inet_pton(family, source)) + attribute(first + 1, inet_pton(family, destination))
    numbers = [number.to_bytes(2, "big") for number in (source_port, destination_port)]
    ports = attribute(1, bytes([protocol])) + attribute(2, numbers[0]) + attribute(3, numbers[1])
    return attribute(kind | 0x8000, attribute(1 | 0x8000, addresses) + attribute(2 | 0x8000, ports))


def flow(to: str, port: int, answered_by: str = "", answered_port: int = 0, protocol: int = conntrack.UDP) -> conntrack.Flow:
    peer = "2001:db8::2" if ":" in to else "192.0.2.2"
    there = ends(conntrack.CTA_TUPLE_ORIG, peer, to, 4000, port, protocol)
    back = ends(conntrack.CTA_TUPLE_REPLY, answered_by or to, peer, answered_port or port, 4000, protocol)
    start = bytes([family_of(to), 0, 0, 0])
    return conntrack.Flow(start + there + back + attribute(conntrack.CTA_ID, b"\1\2\3\4") + attribute(7, b"\0\0\0\x1e"))


@pytest.mark.parametrize(("to", "answered_by"), [("192.0.2.1", CONTAINER), ("2001:db8::1", CONTAINER6)])
def test_a_flow_is_read_and_named_by_its_first_direction_and_its_id(to: str, answered_by: str) -> None:
    one = flow(to, 53, answered_by, 5300)
    assert (one.family, one.protocol, one.to, one.to_port) == (family_of(to), 17, to, 53)
    assert (one.answered_by, one.answered_by_port) == (answered_by, 5300)
    message = conntrack.flow_delete(one)
    assert HEADER.unpack_from(message)[1] == 1 << 8 | 2
    assert message[HEADER.size] == family_of(to)
    assert set(attributes(message, HEADER.size + 4)) == {conntrack.CTA_TUPLE_ORIG, conntrack.CTA_ID}
    assert f"`{to}` port 53" in message.what


@pytest.mark.parametrize(("family", "nothing"), [(AF_INET, "0.0.0.0"), (AF_INET6, "::")])
def test_a_flow_without_ports_or_addresses_is_read_as_zeros(family: int, nothing: str) -> None:
    one = conntrack.Flow(bytes([family, 0, 0, 0]))
    assert (one.to, one.to_port, one.answered_by, one.protocol) == (nothing, 0, nothing, 0)


def test_what_was_led_to_the_container_or_past_it_is_stale() -> None:
    ports = [Port(53, 5300, "", "udp"), Port(54, 5400, "192.0.2.1", "udp"), Port(55, 5500, "2001:db8::1", "udp")]
    gone = [
        flow("192.0.2.1", 53), flow("127.0.0.1", 53), flow("127.9.9.9", 53), flow("172.17.0.1", 53, "172.17.0.9", 5300),  # past it
        flow("2001:db8::1", 53), flow("::1", 53), flow("fd00::1", 53, "fd00::9", 5300),
        flow("192.0.2.1", 53, CONTAINER, 5300), flow("203.0.113.1", 99, CONTAINER, 5400),  # to it
        flow("2001:db8::1", 53, CONTAINER6, 5300), flow("2001:db8:1::1", 99, CONTAINER6, 5500),
        flow("192.0.2.1", 54), flow("2001:db8::1", 55),
    ]  # fmt: skip
    stays = [
        flow("9.9.9.9", 53), flow("172.17.0.1", 54), flow("192.0.2.1", 55), flow("192.0.2.1", 53, protocol=6),
        flow("192.0.2.1", 99, CONTAINER, 99),
        flow("2001:db8:9::9", 53), flow("fd00::1", 55), flow("2001:db8::1", 54), flow("2001:db8::1", 53, protocol=6),
        flow("2001:db8::1", 99, CONTAINER6, 99),
    ]  # fmt: skip
    assert stale(gone + stays, BOTH, ports, OWN) == gone


@pytest.mark.parametrize(("host_ip", "families"), [("", (AF_INET, AF_INET6)), ("0.0.0.0", (AF_INET,)), ("::", (AF_INET6,))])
def test_every_address_of_a_family_is_no_address_of_the_other(host_ip: str, families: tuple[int, ...]) -> None:
    seen = [flow("192.0.2.1", 53), flow("2001:db8::1", 53)]
    assert [one.family for one in stale(seen, BOTH, [Port(53, 5300, host_ip, "udp")], OWN)] == list(families)


def udp(host_ip: str = "", protocol: str = "udp") -> Port:
    return Port(53, 5300, host_ip, protocol)


@pytest.mark.parametrize(("ip6", "ports", "commands"), [
    ("", [udp()], ["-p udp --orig-port-dst 53"]),
    (CONTAINER6, [udp()], ["-p udp --orig-port-dst 53", "-f ipv6 -p udp --orig-port-dst 53"]),
    (CONTAINER6, [udp("0.0.0.0"), udp(protocol="tcp")], ["-p udp --orig-port-dst 53"]),
    (CONTAINER6, [udp("::")], ["-f ipv6 -p udp --orig-port-dst 53"]),
    (CONTAINER6, [udp("192.0.2.1"), udp("2001:db8::1")],
     ["-p udp --orig-dst 192.0.2.1 --orig-port-dst 53", "-f ipv6 -p udp --orig-dst 2001:db8::1 --orig-port-dst 53"]),
])  # fmt: skip
def test_the_commands_that_do_the_same(ip6: str, ports: list[Port], commands: list[str]) -> None:
    step = Forget(Endpoint("br0", "e" * 64, "web", CONTAINER, "02:42:ac:11:00:02", ports=ports, ip6=ip6))
    assert step.shell() == "\n".join(f"conntrack -D {command} > /dev/null 2>&1 || :" for command in commands)
