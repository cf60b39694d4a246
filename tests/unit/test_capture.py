"""Dissection, the filter language, and the lines: of real packets what they are, of anything at all no traceback."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as some

from minidocker.errors import UsageError
from minidocker.kernel import packet
from minidocker.kernel.packet import ICMP, ICMP6, TCP, UDP
from minidocker.network import capture_file, capture_filter, capture_text

A, B, A6, B6 = "172.17.0.2", "192.0.2.2", "fd00::2", "2001:db8::2"
MAC, OTHER = "02:42:ac:11:00:02", "06:42:ac:11:00:01"


def framed(body: bytes) -> bytes:
    return packet.ethernet(OTHER, MAC, body)


def arp(operation: int) -> bytes:
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + bytes.fromhex(MAC.replace(":", "")) + socket.inet_aton(A)
    return b"\xff" * 6 + bytes.fromhex(MAC.replace(":", "")) + b"\x08\x06" + body + bytes(6) + socket.inet_aton("172.17.0.1")


def name(text: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in text.split(".")) + b"\0"


QUESTION = struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + name("web.lab") + struct.pack("!HH", 1, 1)
REPLY = (struct.pack("!HHHHHH", 7, 0x8180, 1, 2, 0, 0) + name("web.lab") + struct.pack("!HH", 1, 1)
         + b"\xc0\x0c" + struct.pack("!HHIH", 5, 1, 60, 4) + b"\x01a\xc0\x10" + b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4)
         + socket.inet_aton(A))  # fmt: skip
NXDOMAIN = struct.pack("!HHHHHH", 7, 0x8183, 1, 0, 0, 0) + name("nosuch") + struct.pack("!HH", 28, 1)
UNREACHABLE = b"\x03\x03" + bytes(6)
TOO_BIG = b"\x03\x04" + bytes(4) + struct.pack("!H", 1400)
SYN = packet.ip(A, B, TCP, packet.syn(41812, 80, 7))
FRAMES = {
    "syn": (framed(SYN), f"{A}:41812 > {B}:80 tcp [S] seq 7 win 65535 len 0"),
    "udp": (framed(packet.ip(A, B, UDP, packet.datagram(5000, 6000, b"abc"))), f"{A}:5000 > {B}:6000 udp len 3"),
    "udp6": (framed(packet.ip(A6, B6, UDP, packet.datagram(5000, 6000, b"abc"))), f"[{A6}]:5000 > [{B6}]:6000 udp len 3"),
    "echo": (framed(packet.ip(A, B, ICMP, packet.echo(9, 1, b"12345678"))), f"{A} > {B} icmp echo request id 9 seq 1 len 8"),
    "echo6": (framed(packet.ip(A6, B6, ICMP6, packet.echo(9, 1, b"", True))), f"{A6} > {B6} icmp6 echo request id 9 seq 1 len 0"),
    "port": (framed(packet.ip(B, A, ICMP, UNREACHABLE)), f"{B} > {A} icmp port unreachable"),
    "big": (framed(packet.ip(B, A, ICMP, TOO_BIG)), f"{B} > {A} icmp fragmentation needed, mtu 1400"),
    "asks": (arp(1), f"arp who has 172.17.0.1? tell {A}"), "says": (arp(2), f"arp {A} is at {MAC}"),
    "dns": (framed(packet.ip(A, B, UDP, packet.datagram(5000, 53, QUESTION))), f"{A}:5000 > {B}:53 udp dns 7 A? web.lab"),
    "answer": (framed(packet.ip(B, A, UDP, packet.datagram(53, 5000, REPLY))), f"{B}:53 > {A}:5000 udp dns 7 web.lab CNAME a.lab, A {A}"),
    "none": (framed(packet.ip(B, A, UDP, packet.datagram(53, 5000, NXDOMAIN))), f"{B}:53 > {A}:5000 udp dns 7 NXDOMAIN AAAA? nosuch"),
    "gre": (framed(packet.ip(A, B, 47, b"1234")), f"{A} > {B} proto 47 len 4"),
    "other": (framed(SYN)[:12] + b"\x88\xcc" + b"lldp", f"{MAC} > {OTHER} ethertype 0x88cc"),
    "vlan": (framed(SYN)[:12] + b"\x81\x00\x00\x05" + framed(SYN)[12:], f"{A}:41812 > {B}:80 tcp [S] seq 7 win 65535 len 0"),
    "short": (framed(SYN)[:40], f"{A} > {B} tcp no whole tcp header"),
}  # fmt: skip


@pytest.mark.parametrize("which", FRAMES)
def test_a_line_says_what_it_is(which: str) -> None:
    data, text = FRAMES[which]
    assert capture_text.line(packet.frame(data)) == text


@pytest.mark.parametrize(
    ("words", "passes"),
    [
        ("", set(FRAMES)), ("arp", {"asks", "says"}), ("ip6", {"udp6", "echo6"}), ("icmp", {"echo", "port", "big"}),
        ("proto icmp", {"echo", "port", "big", "echo6"}), ("icmp6 or arp", {"echo6", "asks", "says"}), ("port 80", {"syn", "vlan"}),
        ("src port 53", {"answer", "none"}), ("dst port 5000-6000", {"udp", "udp6", "answer", "none"}),
        ("host fd00:0::2", {"udp6", "echo6"}), ("host web and tcp", {"syn", "vlan", "short"}),
        ("src host 192.0.2.2 and not dns", {"port", "big"}), ("src net 192.0.2.0/24 && ! dns", {"port", "big"}),
        ("net fd00::/8", {"udp6", "echo6"}), ("not (ip or ip6 or arp)", {"other"}),
        ("(tcp)or(arp and not udp)", {"syn", "vlan", "short", "asks", "says"}),
        ("udp and port 53 or arp", {"dns", "answer", "none", "asks", "says"}), ("udp and (port 53 or arp)", {"dns", "answer", "none"}),
        ("dst host 172.17.0.1", {"asks", "says"}), ("tcp port 80", {"syn", "vlan"}),
        ("not ip src host 172.17.0.2 and ip", {"answer", "none", "port", "big"}),
        ("sctp", set()),
    ],
)  # fmt: skip
def test_the_filter_lets_pass_what_it_says(words: str, passes: set[str]) -> None:
    for spelled in ([words], words.split()):
        test = capture_filter.parse(spelled, {"web": [A, A6]})
        assert {which for which, (data, _) in FRAMES.items() if test(packet.frame(data))} == passes


@pytest.mark.parametrize(
    "words",
    ["and", "tcp udp", "host", "host nobody", "host 1.2.3", "net 10.0.0.0", "net 10.0.0.0/33", "port x", "port 90-80", "port 70000", "src",
     "src tcp", "(tcp", "tcp)", "not", "proto", "proto 6", "tcp and", "()", "! " * 60 + "tcp", "(" * 60 + "tcp" + ")" * 60],
)  # fmt: skip
def test_a_filter_that_makes_no_sense_is_refused_in_one_line(words: str) -> None:
    with pytest.raises(UsageError) as refused:
        capture_filter.parse([words], {})
    assert "\n" not in refused.value.message and refused.value.message.startswith("filter: ") and refused.value.hint


WORDS = ["host", "net", "port", "src", "dst", "proto", "and", "or", "not", "(", ")", "!", "&&", "||", "tcp", "arp", "dns", A, A6,
         "10.0.0.0/8", "80", "1-9", "web", "", "🐳", "\0", "-1", "99999999999999999999", "::/0"]  # fmt: skip


@given(some.lists(some.sampled_from(WORDS) | some.text(max_size=8), max_size=30), some.binary(max_size=120))
def test_any_filter_is_read_or_refused(words: list[str], data: bytes) -> None:
    try:
        test = capture_filter.parse(words, {"web": [A]})
    except UsageError:
        return
    assert test(packet.frame(data)) in (True, False)
    assert all(test(packet.frame(frame)) in (True, False) for frame, _ in FRAMES.values())


@given(some.binary(max_size=200))
def test_any_bytes_are_a_line(data: bytes) -> None:
    for found in (packet.frame(data), packet.packet(data)):
        assert capture_text.line(found)
    assert capture_text.dns(data).startswith("dns ")


@given(some.sampled_from(sorted(FRAMES)), some.integers(0, 150), some.integers(0, 255), some.integers(0, 150))
def test_a_packet_that_is_damaged_or_cut_is_a_line(which: str, at: int, byte: int, end: int) -> None:
    data = bytearray(FRAMES[which][0])
    data[at % len(data)] = byte
    for found in (packet.frame(bytes(data)), packet.frame(bytes(data[:end]))):
        assert capture_text.line(found)
        capture_filter.parse(["host 1.2.3.4 or net fd00::/8 or port 1-9 or dns"], {})(found)


@given(some.binary(max_size=60))
def test_names_that_go_round_come_to_an_end(rest: bytes) -> None:
    data = struct.pack("!HHHHHH", 7, 0x8180, 1, 3, 0, 0) + b"\xc0\x0c" + rest
    assert capture_text.dns(data).startswith("dns 7 ")


def test_checksums_are_right() -> None:
    """A checksum over what includes it is zero (RFC 1071)."""
    pseudo = socket.inet_aton(A) + socket.inet_aton(B) + struct.pack("!II", len(SYN) - 20, TCP)
    assert packet.checksum(SYN[:20]) == 0 and packet.checksum(pseudo + SYN[20:]) == 0
    assert packet.checksum(packet.echo(1, 1, b"abc")) == 0


def test_blocks_are_whole() -> None:
    made = (capture_file.section("m", "c") + capture_file.interface("eth0", "web", capture_file.LINK_ETHERNET)
            + capture_file.packet(0, 1_700_000_000_123_456_789, b"12345", 5, capture_file.INBOUND, "ü"))  # fmt: skip
    kinds = []
    while made:
        kind, size = struct.unpack_from("=II", made)
        assert size % 4 == 0 and struct.unpack_from("=I", made, size - 4)[0] == size
        kinds.append(kind)
        made = made[size:]
    assert kinds == [0x0A0D0D0A, 1, 6]
