"""A packet as one line. Pure; whatever a packet holds, a line comes of it."""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_ntop

from minidocker.kernel.packet import ETH_ARP, ICMP, ICMP6, TCP, UDP
from minidocker.network.capture_filter import is_dns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minidocker.kernel.packet import Packet

_ICMP = {0: "echo reply", 3: "unreachable", 4: "source quench", 5: "redirect", 8: "echo request", 11: "time exceeded",
         12: "parameter problem"}  # fmt: skip
_ICMP6 = {1: "unreachable", 2: "packet too big", 3: "time exceeded", 4: "parameter problem", 128: "echo request", 129: "echo reply",
          130: "multicast listener query", 131: "multicast listener report", 133: "router solicitation", 134: "router advertisement",
          135: "neighbour solicitation", 136: "neighbour advertisement", 137: "redirect", 143: "multicast listener report"}  # fmt: skip
_UNREACHABLE = {0: "network", 1: "host", 2: "protocol", 3: "port", 4: "fragmentation needed", 9: "network prohibited",
                10: "host prohibited", 13: "prohibited"}  # fmt: skip
_UNREACHABLE6 = {0: "no route", 1: "prohibited", 3: "address", 4: "port"}
_TYPES = {1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 41: "OPT", 65: "HTTPS", 255: "ANY"}
_RCODES = {1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
_LONGEST_NAME, _MOST_JUMPS, _MOST_RECORDS = 255, 20, 8


def line(packet: Packet) -> str:
    """`172.17.0.2:41812 > 192.0.2.2:80 tcp [S] seq 7 win 64240 len 0`, `arp who has 172.17.0.1? tell 172.17.0.2`."""
    if packet.kind == ETH_ARP:
        return _arp(packet)
    if not packet.family:
        vlan = f" vlan {packet.vlan}" if packet.vlan else ""
        return f"{packet.source_mac} > {packet.destination_mac}{vlan} {packet.fault or packet.name}"
    ends = f"{_end(packet.source, packet.source_port)} > {_end(packet.destination, packet.destination_port)}"
    if packet.fragment:
        return f"{ends} {packet.name} a later fragment, {packet.length} bytes"
    if packet.fault:
        return f"{ends} {packet.name} {packet.fault}"
    return f"{ends} {_transport(packet)}"


def _end(address: str, port: int) -> str:
    return address if not port else f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _arp(packet: Packet) -> str:
    if packet.fault:
        return f"arp {packet.fault}"
    mac = packet.payload.hex(":")
    if packet.code == 1:
        same = packet.source == packet.destination
        return f"arp {packet.source} is at {mac}, says itself" if same else f"arp who has {packet.destination}? tell {packet.source}"
    return f"arp {packet.source} is at {mac}" if packet.code == 2 else f"arp operation {packet.code}"


def _transport(packet: Packet) -> str:
    length = len(packet.payload)
    if packet.protocol == TCP:
        ack = f" ack {packet.ack}" if packet.flags & 0x10 else ""
        text = f"tcp [{packet.flag_letters}] seq {packet.sequence}{ack} win {packet.window} len {length}"
        return text + (f" {dns(packet.payload[2:])}" if is_dns(packet) and length > 2 else "")
    if packet.protocol == UDP:
        return f"udp {dns(packet.payload)}" if is_dns(packet) else f"udp len {length}"
    if packet.protocol in (ICMP, ICMP6):
        return _icmp(packet)
    return f"{packet.name} len {length}"


def _icmp(packet: Packet) -> str:
    kind, code = packet.code >> 8, packet.code & 0xFF
    six = packet.protocol == ICMP6
    name = (_ICMP6 if six else _ICMP).get(kind, f"type {kind} code {code}")
    if packet.is_echo:
        return f"{packet.name} {name} id {packet.number} seq {packet.sequence} len {len(packet.payload)}"
    if name == "unreachable":
        what = (_UNREACHABLE6 if six else _UNREACHABLE).get(code, f"code {code}")
        mtu = f", mtu {int.from_bytes(packet.payload[2:4], 'big')}" if not six and code == 4 and len(packet.payload) >= 4 else ""
        return f"{packet.name} {what}{mtu}" if what.startswith("frag") else f"{packet.name} {what} unreachable"
    if six and kind == 2 and len(packet.payload) >= 4:
        return f"{packet.name} {name}, mtu {int.from_bytes(packet.payload[:4], 'big')}"
    if six and kind in (135, 136) and len(packet.payload) >= 20:
        return f"{packet.name} {name} {inet_ntop(AF_INET6, packet.payload[4:20])}"
    return f"{packet.name} {name}"


# --- DNS (RFC 1035, section 4) ------------------------------------------------------------------------------------------------------------


def dns(data: bytes) -> str:
    """`dns 7 A? web`, `dns 7 web A 172.17.0.2`, `dns 7 NXDOMAIN AAAA? web`."""
    if len(data) < 12:
        return f"dns cut off, len {len(data)}"
    id, flags, questions, answers = (int.from_bytes(data[at : at + 2], "big") for at in (0, 2, 4, 6))
    try:
        name, at = _name(data, 12) if questions else ("", 12)
        kind = int.from_bytes(data[at : at + 2], "big")
        if not flags & 0x8000:
            return f"dns {id} {_type(kind)}? {name}" if questions else f"dns {id} asks nothing"
        rcode = flags & 15
        if rcode or not answers:
            return f"dns {id} {_RCODES.get(rcode, f'rcode {rcode}' if rcode else 'no answer')} {_type(kind)}? {name}"
        found = _answers(data, at + 4, answers)
    except (ValueError, IndexError):
        return f"dns {id} malformed, len {len(data)}"
    more = answers - len(found)
    return f"dns {id} {name} {', '.join(found)}" + (f" and {more} more" if more > 0 else "")


def _answers(data: bytes, at: int, count: int) -> list[str]:
    found = []
    for _ in range(min(count, _MOST_RECORDS)):
        _, at = _name(data, at)
        kind, size = int.from_bytes(data[at : at + 2], "big"), int.from_bytes(data[at + 8 : at + 10], "big")
        at += 10
        value = data[at : at + size]
        if len(value) != size or at > len(data):
            raise ValueError("cut off")
        if (kind, size) in ((1, 4), (28, 16)):
            found.append(f"{_type(kind)} {inet_ntop(AF_INET if kind == 1 else AF_INET6, value)}")
        elif kind in (2, 5, 12):
            found.append(f"{_type(kind)} {_name(data, at)[0]}")
        else:
            found.append(_type(kind))
        at += size
    return found


def _type(kind: int) -> str:
    return _TYPES.get(kind, f"TYPE{kind}")


def _name(data: bytes, at: int) -> tuple[str, int]:
    """A name, with its pointers followed, and what comes after it. ValueError, IndexError where it makes no sense."""
    labels: list[str] = []
    after, jumps, length = -1, 0, 0
    while data[at]:
        if data[at] >= 0xC0:
            after = at + 2 if after < 0 else after
            at = (data[at] & 0x3F) << 8 | data[at + 1]
            jumps += 1
            if jumps > _MOST_JUMPS:
                raise ValueError("goes round")
            continue
        label = data[at + 1 : at + 1 + data[at]]
        length += len(label) + 1
        if length > _LONGEST_NAME:
            raise ValueError("too long")
        labels.append(label.decode("ascii", "replace"))
        at += 1 + data[at]
    return ".".join(labels) or ".", at + 1 if after < 0 else after
