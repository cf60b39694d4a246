"""Which tracked flows are forgotten when a UDP port is published or withdrawn, and what a flow reads like on the wire."""

from __future__ import annotations

from _socket import inet_aton

from minidocker.kernel import conntrack
from minidocker.kernel.netlink import HEADER, attribute, attributes
from minidocker.network.flows import stale
from minidocker.spec.records import Port

OWN = {"192.0.2.1", "172.17.0.1"}
CONTAINER = "172.17.0.2"


def ends(kind: int, source: str, destination: str, source_port: int, destination_port: int, protocol: int) -> bytes:
    addresses = attribute(1, inet_aton(source)) + attribute(2, inet_aton(destination))
    numbers = [number.to_bytes(2, "big") for number in (source_port, destination_port)]
    ports = attribute(1, bytes([protocol])) + attribute(2, numbers[0]) + attribute(3, numbers[1])
    return attribute(kind | 0x8000, attribute(1 | 0x8000, addresses) + attribute(2 | 0x8000, ports))


def flow(to: str, port: int, answered_by: str = "", answered_port: int = 0, protocol: int = conntrack.UDP) -> conntrack.Flow:
    peer = "192.0.2.2"
    there = ends(conntrack.CTA_TUPLE_ORIG, peer, to, 4000, port, protocol)
    back = ends(conntrack.CTA_TUPLE_REPLY, answered_by or to, peer, answered_port or port, 4000, protocol)
    return conntrack.Flow(b"\2\0\0\0" + there + back + attribute(conntrack.CTA_ID, b"\1\2\3\4") + attribute(7, b"\0\0\0\x1e"))


def test_a_flow_is_read_and_named_by_its_first_direction_and_its_id() -> None:
    one = flow("192.0.2.1", 53, CONTAINER, 5300)
    assert (one.protocol, one.to, one.to_port) == (17, "192.0.2.1", 53)
    assert (one.answered_by, one.answered_by_port) == (CONTAINER, 5300)
    message = conntrack.flow_delete(one)
    assert HEADER.unpack_from(message)[1] == 1 << 8 | 2
    assert set(attributes(message, HEADER.size + 4)) == {conntrack.CTA_TUPLE_ORIG, conntrack.CTA_ID}


def test_a_flow_without_ports_or_addresses_is_read_as_zeros() -> None:
    one = conntrack.Flow(b"\2\0\0\0")
    assert (one.to, one.to_port, one.answered_by, one.protocol) == ("0.0.0.0", 0, "0.0.0.0", 0)


def test_what_was_led_to_the_container_or_past_it_is_stale() -> None:
    ports = [Port(53, 5300, "", "udp"), Port(54, 5400, "192.0.2.1", "udp")]
    gone = [
        flow("192.0.2.1", 53), flow("127.0.0.1", 53), flow("172.17.0.1", 53, "172.17.0.9", 5300),  # past it
        flow("192.0.2.1", 53, CONTAINER, 5300), flow("203.0.113.1", 99, CONTAINER, 5400),  # to it
        flow("192.0.2.1", 54),
    ]  # fmt: skip
    stays = [
        flow("9.9.9.9", 53), flow("172.17.0.1", 54), flow("192.0.2.1", 55), flow("192.0.2.1", 53, protocol=6),
        flow("192.0.2.1", 99, CONTAINER, 99),
    ]  # fmt: skip
    assert stale(gone + stays, CONTAINER, ports, OWN) == gone
