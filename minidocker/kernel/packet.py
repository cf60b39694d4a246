"""Packets as they are on the wire: what is in a frame, and a few packets made by hand. Pure.

Reading never fails: what is cut off, or makes no sense, is left at its default, and `fault` says so. RFC 791, 8200, 826, 9293, 768, 792,
4443; IEEE 802.1Q.
"""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from _struct import Struct

ETH_IPV4, ETH_ARP, ETH_IPV6, ETH_VLAN, ETH_QINQ = 0x0800, 0x0806, 0x86DD, 0x8100, 0x88A8
ICMP, TCP, UDP, ICMP6, SCTP = 1, 6, 17, 58, 132
NAMES = {ICMP: "icmp", TCP: "tcp", UDP: "udp", ICMP6: "icmp6", SCTP: "sctp"}
NUMBERS = {name: number for number, name in NAMES.items()}
ECHO_REPLY, ECHO_REQUEST, ECHO_REQUEST6, ECHO_REPLY6 = 0, 8, 128, 129
SYN, RST, ACK = 0x02, 0x04, 0x10
# IPv6's extension headers that say what follows, and how long they are themselves: hop-by-hop, routing, destination options, mobility.
_EXTENSIONS, _FRAGMENT, _LARGEST_CHAIN = (0, 43, 60, 135), 44, 8
_ETHERNET = 14
_PORTS, _TCP, _ECHO, _U16 = Struct("!HH"), Struct("!HHIIBBH"), Struct("!BBHHH"), Struct("!H")
_FLAG_LETTERS = ((SYN, "S"), (0x01, "F"), (RST, "R"), (0x08, "P"), (ACK, "."), (0x20, "U"))


class Packet:
    """`kind` the Ethernet type (0: unknown) and `family` AF_INET, AF_INET6 or 0; addresses are texts, "" where there are none; for ARP
    `source` and `destination` are the sender's and the target's IPv4 address, and `code` its operation. `protocol` is IANA's number, -1
    where none was found. Ports are 0 where the protocol has none. `code` is ICMP's type * 256 + code, `number` an echo's identifier;
    `flags` TCP's. `length` bytes of the IP packet as its header says; `payload` what the transport carries, as far as it is there;
    `fragment` whether it is a later part of a packet, without ports; `fault` "" or what is wrong with it."""

    __slots__ = (
        "ack", "code", "destination", "destination_mac", "destination_port", "family", "fault", "flags", "fragment", "kind", "length",
        "number", "payload", "protocol", "sequence", "source", "source_mac", "source_port", "vlan", "window",
    )  # fmt: skip

    def __init__(self) -> None:
        self.source_mac = self.destination_mac = self.source = self.destination = self.fault = ""
        self.kind = self.family = self.source_port = self.destination_port = self.flags = self.code = self.number = self.length = 0
        self.sequence = self.ack = self.window = self.vlan = 0
        self.protocol = -1
        self.payload = b""
        self.fragment = False

    @property
    def name(self) -> str:
        """The protocol's name, or its number: `tcp`, `arp`, `proto 47`."""
        if self.kind == ETH_ARP:
            return "arp"
        if self.protocol < 0:
            return f"ethertype 0x{self.kind:04x}"
        return NAMES.get(self.protocol) or f"proto {self.protocol}"

    @property
    def is_echo(self) -> bool:
        types = {ICMP: (ECHO_REQUEST, ECHO_REPLY), ICMP6: (ECHO_REQUEST6, ECHO_REPLY6)}
        return self.code >> 8 in types.get(self.protocol, ())

    @property
    def flag_letters(self) -> str:
        """TCP's flags as tcpdump writes them: `S`, `S.`, `R`, `P.`."""
        return "".join(letter for bit, letter in _FLAG_LETTERS if self.flags & bit) or "none"


def frame(data: bytes) -> Packet:
    """An Ethernet frame."""
    packet = Packet()
    if len(data) < _ETHERNET:
        packet.fault = "shorter than an Ethernet header"
        return packet
    packet.destination_mac, packet.source_mac = data[:6].hex(":"), data[6:12].hex(":")
    packet.kind, at = _U16.unpack_from(data, 12)[0], _ETHERNET
    while packet.kind in (ETH_VLAN, ETH_QINQ) and len(data) >= at + 4:
        packet.vlan, packet.kind = _U16.unpack_from(data, at)[0] & 0xFFF, _U16.unpack_from(data, at + 2)[0]
        at += 4
    _network(packet, data[at:])
    return packet


def packet(data: bytes) -> Packet:
    """An IP packet without a link's header."""
    found = Packet()
    found.kind = {4: ETH_IPV4, 6: ETH_IPV6}.get(data[0] >> 4, 0) if data else 0
    _network(found, data)
    return found


def _network(packet: Packet, data: bytes) -> None:
    reader = {ETH_IPV4: _ipv4, ETH_IPV6: _ipv6, ETH_ARP: _arp}.get(packet.kind)
    if reader is not None:
        reader(packet, data)


def _arp(packet: Packet, data: bytes) -> None:
    if len(data) < 28 or data[2:6] != b"\x08\x00\x06\x04":
        packet.fault = "no ARP for IPv4 over Ethernet"
        return
    packet.code = _U16.unpack_from(data, 6)[0]
    packet.source_mac = packet.source_mac or data[8:14].hex(":")
    packet.payload = data[8:14]
    packet.source, packet.destination = inet_ntop(AF_INET, data[14:18]), inet_ntop(AF_INET, data[24:28])


def _ipv4(packet: Packet, data: bytes) -> None:
    header = (data[0] & 15) * 4 if data else 0
    if len(data) < 20 or data[0] >> 4 != 4 or header < 20:
        packet.fault = "no whole IPv4 header"
        return
    packet.family, packet.protocol = AF_INET, data[9]
    packet.length = _U16.unpack_from(data, 2)[0]
    packet.source, packet.destination = inet_ntop(AF_INET, data[12:16]), inet_ntop(AF_INET, data[16:20])
    packet.fragment = bool(_U16.unpack_from(data, 6)[0] & 0x1FFF)
    if not packet.fragment:
        _transport(packet, data[header : max(packet.length, header)])


def _ipv6(packet: Packet, data: bytes) -> None:
    if len(data) < 40 or data[0] >> 4 != 6:
        packet.fault = "no whole IPv6 header"
        return
    packet.family = AF_INET6
    packet.length = 40 + _U16.unpack_from(data, 4)[0]
    packet.source, packet.destination = inet_ntop(AF_INET6, data[8:24]), inet_ntop(AF_INET6, data[24:40])
    following, at = data[6], 40
    for _ in range(_LARGEST_CHAIN):
        if following not in (*_EXTENSIONS, _FRAGMENT) or len(data) < at + 8:
            break
        if following == _FRAGMENT:
            packet.fragment = bool(_U16.unpack_from(data, at + 2)[0] & 0xFFF8)
            size = 8
        else:
            size = (data[at + 1] + 1) * 8
        following, at = data[at], at + size
        if packet.fragment:
            break
    packet.protocol = following
    if not packet.fragment:
        _transport(packet, data[at : packet.length if packet.length > 40 else len(data)])


def _transport(packet: Packet, data: bytes) -> None:
    least = {TCP: 20, UDP: 8, SCTP: 12, ICMP: 4, ICMP6: 4}.get(packet.protocol)
    if least is None:
        packet.payload = data
        return
    if len(data) < least:
        packet.fault = f"no whole {packet.name} header"
        return
    if packet.protocol in (ICMP, ICMP6):
        packet.code = _U16.unpack_from(data)[0]
        packet.payload = data[4:]
        if packet.is_echo and len(data) >= _ECHO.size:
            _, _, _, packet.number, packet.sequence = _ECHO.unpack_from(data)
            packet.payload = data[8:]
        return
    packet.source_port, packet.destination_port = _PORTS.unpack_from(data)
    if packet.protocol == TCP:
        _, _, packet.sequence, packet.ack, offset, packet.flags, packet.window = _TCP.unpack_from(data)
        packet.payload = data[max(20, (offset >> 4) * 4) :]
    else:
        packet.payload = data[least:]


# --- made by hand -----------------------------------------------------------------------------------------------------------------------


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    total: int = sum(Struct(f"!{(len(data) + 1) // 2}H").unpack(data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total >> 16) + (total & 0xFFFF)
    return ~total & 0xFFFF


def echo(number: int, sequence: int, payload: bytes, ipv6: bool = False) -> bytes:
    """An ICMP echo request. For IPv6 the checksum is left to who sends it: the kernel, or `ip`."""
    kind = ECHO_REQUEST6 if ipv6 else ECHO_REQUEST
    whole = _ECHO.pack(kind, 0, 0, number, sequence) + payload
    return whole if ipv6 else whole[:2] + _U16.pack(checksum(whole)) + whole[4:]


def syn(source_port: int, destination_port: int, sequence: int) -> bytes:
    """The first segment of a connection, with room for its checksum; it offers segments of 1,460 bytes."""
    return Struct("!HHIIBBHHH").pack(source_port, destination_port, sequence, 0, 6 << 4, SYN, 65535, 0, 0) + b"\x02\x04\x05\xb4"


def datagram(source_port: int, destination_port: int, payload: bytes) -> bytes:
    """A UDP datagram, with room for its checksum."""
    return Struct("!HHHH").pack(source_port, destination_port, 8 + len(payload), 0) + payload


_CHECKSUM_AT = {TCP: 16, UDP: 6, ICMP6: 2}


def ip(source: str, destination: str, protocol: int, body: bytes) -> bytes:
    """An IP packet of 64 hops around `body`, whose checksum is filled in where it covers the addresses."""
    family = AF_INET6 if ":" in destination else AF_INET
    addresses = inet_pton(family, source) + inet_pton(family, destination)
    at = _CHECKSUM_AT.get(protocol)
    if at is not None:
        value = checksum(addresses + Struct("!II").pack(len(body), protocol) + body) or 0xFFFF
        body = body[:at] + _U16.pack(value) + body[at + 2 :]
    if family == AF_INET6:
        return Struct("!IHBB").pack(6 << 28, len(body), protocol, 64) + addresses + body
    header = Struct("!BBHHHBBH").pack(0x45, 0, 20 + len(body), 1, 0x4000, 64, protocol, 0) + addresses
    return header[:10] + _U16.pack(checksum(header)) + header[12:] + body


def ethernet(destination: str, source: str, body: bytes) -> bytes:
    """A frame around an IP packet."""
    kind = ETH_IPV6 if body[0] >> 4 == 6 else ETH_IPV4
    return bytes.fromhex(destination.replace(":", "")) + bytes.fromhex(source.replace(":", "")) + _U16.pack(kind) + body
