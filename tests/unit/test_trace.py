"""The pure parts of a trace: everybody's rules by their handles, which way a packet goes, what is marked."""

from __future__ import annotations

import pytest

from minidocker.errors import UsageError
from minidocker.kernel import packet
from minidocker.kernel.packet import ICMP, TCP, UDP
from minidocker.network.trace_path import direction
from minidocker.network.trace_rules import Rules, Spec, Watch, script
from minidocker.spec import parse_view

LISTED = """
table inet mine { # handle 3
	set many { # handle 9
		type ipv4_addr
		elements = { 10.0.0.1, 10.0.0.2 }
	}

	chain through { # handle 1
		type filter hook forward priority filter; policy drop;
		iifname "br0" ip saddr { 10.0.0.1, 10.0.0.2,
			10.0.0.3 } accept # handle 4
		jump more # handle 5
		tcp dport 80 drop comment "# handle 7" # handle 6
	}

	chain more { # handle 2
		counter packets 0 bytes 0 # handle 4711
	}
}
table ip filter { # handle 4
	chain FORWARD { # handle 1
		type filter hook forward priority filter; policy accept;
	}
}
"""


def test_rules_by_their_handles() -> None:
    rules = Rules(LISTED)
    assert rules.text("inet", "mine", 4) == 'iifname "br0" ip saddr { 10.0.0.1, 10.0.0.2, 10.0.0.3 } accept'
    assert rules.text("inet", "mine", 6) == 'tcp dport 80 drop comment "# handle 7"'
    assert rules.text("inet", "mine", 4711) == "counter packets 0 bytes 0"
    assert rules.text("ip", "filter", 4) == "rule 4, which is gone"
    assert rules.hooks == {("inet", "mine", "through"): "forward", ("inet", "mine", "more"): "", ("ip", "filter", "FORWARD"): "forward"}


A, B = "172.17.0.2", "192.0.2.2"


def tcp(source: str, to: str, ports: tuple[int, int], flags: int) -> packet.Packet:
    body = bytearray(packet.syn(*ports, 7))
    body[13] = flags
    return packet.packet(packet.ip(source, to, TCP, bytes(body)))


@pytest.mark.parametrize(
    ("found", "way"),
    [
        (tcp(A, B, (40000, 80), 0x02), "forward"), (tcp(B, A, (80, 40000), 0x12), "answer"), (tcp(B, A, (80, 40000), 0x14), "answer"),
        (tcp(A, B, (40000, 80), 0x04), ""), (tcp(A, B, (40000, 80), 0x10), ""), (tcp(B, A, (80, 51234), 0x12), "answer"),
        (packet.packet(packet.ip(A, B, UDP, packet.datagram(40000, 80, b""))), ""),
        (packet.packet(packet.ip(B, A, ICMP, b"\x03\x03" + bytes(6))), "error"),
        (packet.packet(packet.ip(A, B, ICMP, packet.echo(40000, 1, b""))), ""),
    ],
)  # fmt: skip
def test_which_way_a_packet_of_tcp_goes(found: packet.Packet, way: str) -> None:
    assert direction(found, TCP, A, 40000) == way


def test_which_way_others_go() -> None:
    there = packet.packet(packet.ip(A, B, UDP, packet.datagram(40000, 80, b"")))
    back = packet.packet(packet.ip(B, A, UDP, packet.datagram(80, 40000, b"")))
    assert (direction(there, UDP, A, 40000), direction(back, UDP, A, 40000)) == ("forward", "answer")
    same = packet.packet(packet.ip(B, A, UDP, packet.datagram(40000, 40000, b"")))
    assert direction(same, UDP, A, 40000) == "answer"
    for kind, way in ((packet.ECHO_REQUEST, "forward"), (packet.ECHO_REPLY, "answer")):
        echo = bytearray(packet.echo(9, 1, b""))
        echo[0] = kind
        found = packet.packet(packet.ip(A, B, ICMP, bytes(echo)))
        assert direction(found, ICMP, A, 9) == way and direction(found, ICMP, A, 10) == ""


def test_what_is_marked() -> None:
    text = script("t", Spec(TCP, A, B, 40000, 80, False), host=True)
    assert text.count("flags owner") == 2 and "table bridge t {" in text
    assert f"ip saddr {A} ip daddr {B} tcp sport 40000 tcp dport 80 meta nftrace set 1" in text and "ct original" in text
    inside = script("t", Spec(TCP, A, B, 40000, 80, False), host=False)
    assert "ct " not in inside and "bridge" not in inside and A not in inside and "tcp sport 40000 meta nftrace" in inside
    heard = script("t", Watch(UDP, [A], [], [53], False), host=True)
    assert "meta nfproto ipv4 ip saddr { 172.17.0.2 } udp dport { 53 }" in heard and "ether type ip ip saddr" in heard
    assert "limit rate" in heard


@pytest.mark.parametrize(
    ("text", "found"),
    [("web", ("web", 0)), ("web:80", ("web", 80)), ("192.0.2.2:65535", ("192.0.2.2", 65535)), ("fd00::1", ("fd00::1", 0)),
     ("[fd00::1]:80", ("fd00::1", 80))],
)  # fmt: skip
def test_a_target(text: str, found: tuple[str, int]) -> None:
    assert parse_view.target(text) == found


@pytest.mark.parametrize("text", ["web:", "web:x", "web:0", "web:65536", ":80", "[web]:80", "[::1:80"])
def test_no_target(text: str) -> None:
    with pytest.raises(UsageError):
        parse_view.target(text)


def test_the_protocol_follows_from_the_port() -> None:
    assert [parse_view.protocol(None, 80), parse_view.protocol(None, 0), parse_view.protocol("udp", 53)] == ["tcp", "icmp", "udp"]
