"""What a network's own name server says: queries taken apart, answers put together. Pure: no socket, no file.

A server of our own and not aardvark-dns or dnsmasq: who asks decides what there is (the names of every network that this client is in),
no package has to be installed, and the hosts file that `names` keeps is all of its data, so that nobody notifies anybody.

    bytes ── parse ──► Query ── answer(tables) ──► bytes
               │                  └──► None: not a name of ours, to be forwarded as it came
               ├──► bytes: an error, to be sent back        └ respond() makes the other answers: SERVFAIL, NXDOMAIN
               └──► None: nothing is to be sent back

RFC 1035 (messages), 2181 (truncation), 3596 (AAAA, ip6.arpa), 6891 (EDNS), 7766 (TCP), 9619 (exactly one question).
"""

from __future__ import annotations

import _struct as struct
from _socket import AF_INET, AF_INET6, inet_pton

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from minidocker.network.dnshosts import Table

    Subnet = tuple[int, int, int]  # network part, bits of the host part, bytes of an address

IN = 1
A, PTR, AAAA, OPT, IXFR, AXFR, ANY = 1, 12, 28, 41, 251, 252, 255
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16

LARGEST = 65535  # bytes of a message: what a TCP length and a datagram can hold
_UDP_WITHOUT_EDNS = 512  # RFC 1035, 4.2.1
_UDP_LARGEST = 65507  # what one IPv4 packet holds
_UDP_SIZE = 1232  # what we say we take: fits the smallest packet that IPv6 allows
_HEX = b"0123456789abcdef"

_HEADER = struct.Struct("!6H")
_HEADER_SIZE = 12
_QR, _OPCODE, _AA, _TC, _RD, _RA, _CD, _RCODE = 0x8000, 0x7800, 0x0400, 0x0200, 0x0100, 0x0080, 0x0010, 0x000F
_RECORD = struct.Struct("!HHIH")  # type, class, ttl, length of the data
_OWNER = struct.pack("!H", 0xC000 | _HEADER_SIZE)  # a pointer to the question's name
_DO = 0x8000  # in the OPT's ttl
_LOCALHOST, _LOOPBACK = b"localhost", b"\x7f\0\0\1"


class Malformed(Exception):
    """No message by RFC 1035."""


class Query:
    """One question. `name` is in lower case, its labels joined by dots, without the last one; `question` the bytes as they came, so that
    an answer repeats the asker's capitals; `limit` the most bytes that it takes by UDP; `edns`: it has an OPT; `id` is two bytes."""

    __slots__ = ("edns", "flags", "id", "klass", "limit", "name", "option_flags", "question", "type", "version")

    def __init__(self, packet: bytes) -> None:
        _, self.flags, _, *counts = _HEADER.unpack_from(packet)
        self.id = packet[:2]
        self.name, end = _name(packet, _HEADER_SIZE)
        if end + 4 > len(packet):
            raise Malformed
        self.question = packet[_HEADER_SIZE : end + 4]
        self.type, self.klass = struct.unpack_from("!HH", packet, end)
        option = _option(packet, end + 4, counts)
        self.edns = option is not None
        size, flags = option or (0, 0)
        self.limit = min(max(_UDP_WITHOUT_EDNS, size), _UDP_LARGEST)  # RFC 6891, 6.2.3
        self.version = flags >> 16 & 0xFF
        self.option_flags = flags & _DO


def parse(packet: bytes) -> Query | bytes | None:
    """What came in: a Query; or the answer to what is none; or None for what gets no answer (no header, or itself an answer)."""
    if len(packet) < _HEADER_SIZE:
        return None
    id, flags, questions, *_ = _HEADER.unpack_from(packet)
    if flags & _QR:
        return None
    error = FORMERR
    if flags & _OPCODE:
        error = NOTIMP
    elif questions == 1:
        try:
            query = Query(packet)
        except Malformed:
            pass
        else:
            return respond(query, BADVERS) if query.version else query  # RFC 6891, 6.1.3
    return _HEADER.pack(id, _QR | flags & (_OPCODE | _RD) | error, 0, 0, 0, 0)


def _name(packet: bytes, at: int) -> tuple[bytes, int]:
    """The name at `at`, and where it ends. No pointer (RFC 1035, 4.1.4): before the question there is no name to point to."""
    labels = []
    start = at
    while True:
        if at >= len(packet) or at - start > 254:
            raise Malformed
        length = packet[at]
        if length > 63:
            raise Malformed
        at += 1
        if not length:
            break
        label = packet[at : at + length]
        if b"." in label or b"\\" in label:  # as a zone file has it (RFC 1035, 5.1): no two names read the same
            label = label.replace(b"\\", b"\\\\").replace(b".", b"\\.")
        labels.append(label)
        at += length
    return b".".join(labels).lower(), at


def _after_name(packet: bytes, at: int) -> int:
    """Where a record's name ends, which may do so with a pointer."""
    start = at
    while at < len(packet) and at - start <= 254:
        length = packet[at]
        if length >= 0xC0:
            return at + 2
        if length > 63:
            break
        at += 1 + length
        if not length:
            return at
    raise Malformed


def _option(packet: bytes, at: int, counts: list[int]) -> tuple[int, int] | None:
    """The class (a size) and ttl (flags) of the OPT among the additional records. `counts`: answers, authorities, additional."""
    found = None
    for section, count in enumerate(counts):
        for _ in range(count):
            owner, at = at, _after_name(packet, at)
            if at + _RECORD.size > len(packet):
                raise Malformed
            type, size, flags, length = _RECORD.unpack_from(packet, at)
            at += _RECORD.size + length
            if at > len(packet):
                raise Malformed
            if type == OPT and section == 2:
                if found or packet[owner]:  # one, of the root: RFC 6891, 6.1.1 and 6.1.2
                    raise Malformed
                found = size, flags
    return found


def respond(query: Query, rcode: int, records: Sequence[tuple[int, bytes]] = (), limit: int = _UDP_WITHOUT_EDNS) -> bytes:
    """An answer: `records` (type, data) about the question's name, as many as fit `limit` bytes; TC says that some did not, and even so
    those that did are there: a resolver that knows no TCP (musl before 1.2.4) has something to go by.

    No record of ours may be kept (ttl 0), and no SOA stands beside a "no", for the same reason (RFC 2308, 5).
    """
    flags = _QR | query.flags & (_RD | _CD) | _RA | rcode & _RCODE
    if rcode in (NOERROR, NXDOMAIN):
        flags |= _AA
    option = b""
    if query.edns:
        option = b"\0" + _RECORD.pack(OPT, _UDP_SIZE, rcode >> 4 << 24 | query.option_flags, 0)
    parts = [b"", query.question]
    room = limit - _HEADER_SIZE - len(query.question) - len(option)
    for type, data in records:
        room -= len(_OWNER) + _RECORD.size + len(data)
        if room < 0:
            flags |= _TC
            break
        parts.append(_OWNER + _RECORD.pack(type, IN, 0, len(data)) + data)
    parts[0] = query.id + struct.pack("!5H", flags, 1, len(parts) - 2, 0, len(option) and 1)
    return b"".join(parts) + option


def answer(query: Query, tables: Iterable[Table], subnets: Sequence[Subnet], limit: int) -> bytes | None:
    """The answer, at most `limit` bytes, from the first of `tables` that knows the name; None: the name is none of ours.

    A name of ours has no records but addresses, a reverse name none but PTR: asked for others, it is there and has none (RFC 2308, 2.2).
    An address of `subnets` that nobody has, no resolver outside can know of.
    """
    if query.type in (IXFR, AXFR):
        return respond(query, NOTIMP)  # a zone is no single message, and we have none (RFC 5936, 2.2.1)
    if query.klass != IN:
        return None
    name = query.name
    address = address_of(name)
    if name == _LOCALHOST:
        return respond(query, NOERROR, _records(query, _LOOPBACK, b""), limit)
    if address == _LOOPBACK:
        return respond(query, NOERROR, _pointer(query, encode(_LOCALHOST)), limit)
    for table in tables:
        if address:
            if target := table.name_of(address):
                return respond(query, NOERROR, _pointer(query, target), limit)
        elif found := table.find(name):
            return respond(query, NOERROR, _records(query, *found), limit)
    if address and any(inside(address, subnet) for subnet in subnets):
        return respond(query, NXDOMAIN)
    if name.endswith(b"." + _LOCALHOST):  # RFC 6761, 6.3: never sent out
        return respond(query, NOERROR, _records(query, _LOOPBACK, b""), limit)
    return None


def _records(query: Query, v4: bytes, v6: bytes) -> list[tuple[int, bytes]]:
    """The addresses asked for, beginning with another one from query to query, as docker does: many a client takes the first."""
    found = []
    if query.type in (A, ANY):
        found += [(A, v4[at : at + 4]) for at in range(0, len(v4), 4)]
    if query.type in (AAAA, ANY):
        found += [(AAAA, v6[at : at + 16]) for at in range(0, len(v6), 16)]
    first = int.from_bytes(query.id, "big") % (len(found) or 1)
    return found[first:] + found[:first]


def _pointer(query: Query, target: bytes) -> list[tuple[int, bytes]]:
    return [(PTR, target)] if query.type in (PTR, ANY) else []


def encode(name: bytes) -> bytes:
    """A name as a message has it (RFC 1035, 3.1); b"" for what cannot be one."""
    labels = name.split(b".")
    if len(name) > 253 or not all(0 < len(label) < 64 for label in labels):
        return b""
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def packed(address: str) -> bytes:
    """An IPv4 or IPv6 address as 4 or 16 bytes, b"" for what is none."""
    try:
        return inet_pton(AF_INET6 if ":" in address else AF_INET, address)
    except (OSError, ValueError):
        return b""


def address_of(name: bytes) -> bytes:
    """The packed address that a reverse name stands for (RFC 1035, 3.5; RFC 3596, 2.5); b"": it stands for none, or for many."""
    if name.endswith(b".in-addr.arpa") and b":" not in name:
        return packed(b".".join(name.split(b".")[-3::-1]).decode("latin-1"))
    if name.endswith(b".ip6.arpa"):
        nibbles = name.split(b".")[-3::-1]
        if len(nibbles) == 32 and all(len(nibble) == 1 and nibble in _HEX for nibble in nibbles):
            return bytes.fromhex(b"".join(nibbles).decode())
    return b""


def subnet(text: str) -> Subnet:
    """What `inside` takes, from ``10.1.0.0/24`` or ``fd00::/64``."""
    address, _, length = text.partition("/")
    key = packed(address)
    host_bits = 8 * len(key) - int(length)
    return int.from_bytes(key, "big") >> host_bits, host_bits, len(key)


def inside(address: bytes, subnet: Subnet) -> bool:
    network, host_bits, size = subnet
    return len(address) == size and int.from_bytes(address, "big") >> host_bits == network


def answers(packet: bytes, id: bytes, query: Query) -> bool:
    """Whether a message from a resolver is the answer to what we asked it as `id`, and not somebody's guess at one. Names are compared
    without regard to case, as a resolver may write them anew (RFC 4343). A resolver that could not read the question may leave it out."""
    if len(packet) < _HEADER_SIZE or packet[:2] != id:
        return False
    _, flags, questions, *_ = _HEADER.unpack_from(packet)
    if not flags & _QR or flags & _OPCODE:
        return False
    if not questions:
        return flags & _RCODE not in (NOERROR, NXDOMAIN)
    end = _HEADER_SIZE + len(query.question)
    theirs = packet[_HEADER_SIZE:end]
    return questions == 1 and theirs[-4:] == query.question[-4:] and theirs.lower() == query.question.lower()


def rcode_of(packet: bytes) -> int:
    """The outcome that a message of at least a header says, without EDNS's upper bits."""
    return packet[3] & _RCODE


def framed(packet: bytes) -> bytes:
    """A message as it goes by TCP, after its length in two bytes (RFC 1035, 4.2.2)."""
    return len(packet).to_bytes(2, "big") + packet


def is_whole(inbox: bytearray) -> bool:
    return len(inbox) >= 2 + int.from_bytes(inbox[:2], "big") and len(inbox) >= 2


def unframed(inbox: bytearray) -> bytes | None:
    """Take the first message out of what was received, None when it is not all there."""
    if not is_whole(inbox):
        return None
    end = 2 + int.from_bytes(inbox[:2], "big")
    packet = bytes(inbox[2:end])
    del inbox[:end]
    return packet


def nameservers(text: bytes) -> list[str]:
    """The resolvers that a resolv.conf names, IPv4 and IPv6 (also with %INTERFACE), in order (resolv.conf(5))."""
    found = []
    for line in text.decode("latin-1").splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver" and packed(words[1].partition("%")[0]):
            found.append(words[1])
    return found
