"""A capture as a file that others read: pcapng (draft-ietf-opsawg-pcapng), with what each interface and each packet is. Pure.

Blocks are in the machine's byte order, times in nanoseconds.
"""

from __future__ import annotations

from _struct import Struct

LINK_ETHERNET, LINK_RAW = 1, 101
LARGEST = 262_144  # bytes kept of a packet
INBOUND, OUTBOUND = 1, 2
_SECTION, _INTERFACE, _PACKET, _MAGIC = 0x0A0D0D0A, 1, 6, 0x1A2B3C4D
_COMMENT, _APPLICATION, _NAME, _DESCRIPTION, _RESOLUTION, _FLAGS = 1, 4, 2, 3, 9, 2


def _option(code: int, value: bytes) -> bytes:
    return Struct("=HH").pack(code, len(value)) + value + bytes(-len(value) % 4)


def _text(code: int, text: str) -> bytes:
    return _option(code, text.encode("utf-8", "replace")[:65_535]) if text else b""


def _block(kind: int, body: bytes, options: bytes) -> bytes:
    body += options + (bytes(4) if options else b"")
    size = Struct("=I").pack(len(body) + 12)
    return Struct("=I").pack(kind) + size + body + size


def section(application: str, comment: str) -> bytes:
    """What a file begins with."""
    return _block(_SECTION, Struct("=IHHq").pack(_MAGIC, 1, 0, -1), _text(_APPLICATION, application) + _text(_COMMENT, comment))


def interface(name: str, description: str, link: int) -> bytes:
    """One interface; those of a file are numbered from 0 in their order. `link` LINK_ETHERNET or LINK_RAW."""
    options = _text(_NAME, name) + _text(_DESCRIPTION, description) + _option(_RESOLUTION, b"\x09") + _text(_COMMENT, description)
    return _block(_INTERFACE, Struct("=HHI").pack(link, 0, LARGEST), options)


def packet(number: int, time: int, data: bytes, length: int, direction: int, comment: str = "") -> bytes:
    """One packet of interface `number`, seen at `time` (nanoseconds since the epoch), `length` bytes on the wire."""
    head = Struct("=IIIII").pack(number, time >> 32, time & 0xFFFFFFFF, len(data), length)
    return _block(_PACKET, head + data + bytes(-len(data) % 4), _option(_FLAGS, Struct("=I").pack(direction)) + _text(_COMMENT, comment))
