"""Elements of nftables sets and maps, added and deleted by nfnetlink messages of our own: a few hundredths of a millisecond in the
place of the nft program's four. Tables, sets and rules are nftables.py's.

    BATCH_BEGIN ─► NEWSETELEM, one or more a set ─► DELSETELEM, one or more a set ─► BATCH_END      one send, one transaction

An element's wire form (each box an attribute, nested; `value` is the fields one behind the other):

    LIST_ELEM [ KEY [ DATA_VALUE value ] DATA [ DATA_VALUE value ] ]          DATA only in a map

A field of a concatenation fills whole 32-bit registers, so it is padded with NULs to a multiple of 4 bytes; a field that is alone
is as long as it is. linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h; nft(8), "Element".
"""

from __future__ import annotations

import errno
from _socket import AF_INET, AF_INET6, htons, inet_pton
from _struct import Struct

from minidocker.errors import KernelError
from minidocker.kernel.netlink import NLA_F_NESTED, NLM_F_ACK, NLM_F_CREATE, Message, attribute, nest, netfilter, text
from minidocker.kernel.nftables import NFPROTO, quoted, table_exists
from minidocker.kernel.rtnetlink import mac_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NFNL_SUBSYS_NFTABLES, NFT_MSG_NEWSETELEM, NFT_MSG_DELSETELEM = 10, 12, 14
NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END = 16, 17
NFTA_SET_ELEM_LIST_TABLE, NFTA_SET_ELEM_LIST_SET, NFTA_SET_ELEM_LIST_ELEMENTS = 1, 2, 3
NFTA_LIST_ELEM = 1
NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_DATA = 1, 2
NFTA_DATA_VALUE = 1
IFNAMSIZ = 16

_NFGENMSG = Struct("=BBH")  # struct nfgenmsg: family, version, resource (in network order)
_PORT = Struct(">H")
_PROTOCOLS = {"tcp": b"\6", "udp": b"\x11", "sctp": b"\x84"}  # IANA's numbers
_ROOM = 0xFFFC - 4  # bytes for the elements of one message: their common attribute's length, header included, has 16 bits
_NO_NFTABLES = (errno.EPROTONOSUPPORT, errno.EOPNOTSUPP)  # the kernel has no nfnetlink, or it knows no such subsystem

Field = tuple[str, bytes]  # as nft reads it, as the kernel takes it


def ifname(name: str) -> Field:
    """An interface, of nft's type ifname."""
    return quoted(name), name.encode().ljust(IFNAMSIZ, b"\0")


def mac(address: str) -> Field:
    """``02:42:ac:11:00:02``, of type ether_addr."""
    return address, mac_bytes(address)


def ipv4(address: str) -> Field:
    """``172.17.0.2``, of type ipv4_addr. Raises OSError where it is none."""
    return address, inet_pton(AF_INET, address)


def ipv6(address: str) -> Field:
    """``fd00::2``, of type ipv6_addr. Raises OSError where it is none."""
    return address, inet_pton(AF_INET6, address)


def raw6(address: str) -> Field:
    """An IPv6 address as the 128 bits that a raw payload expression reads (nft(8), "Raw payload expression")."""
    value = inet_pton(AF_INET6, address)
    return f"0x{value.hex()}", value


def proto(name: str) -> Field:
    """tcp, udp or sctp, of type inet_proto. Raises KeyError for another."""
    return name, _PROTOCOLS[name]


def port(number: int) -> Field:
    """0 to 65535, of type inet_service."""
    return str(number), _PORT.pack(number)


class Element:
    """One element of the set or map named `set`: `key` the fields that find it, `data` what a map finds, () in a set."""

    __slots__ = ("data", "key", "set", "wire")

    def __init__(self, set: str, key: tuple[Field, ...], data: tuple[Field, ...] = ()) -> None:
        self.set = set
        self.key = key
        self.data = data
        self.wire = nest(NFTA_LIST_ELEM | NLA_F_NESTED, _value(NFTA_SET_ELEM_KEY, key), _value(NFTA_SET_ELEM_DATA, data) if data else b"")

    @property
    def text(self) -> str:
        """As nft reads it behind ``add element FAMILY TABLE``: ``ports { tcp . 8080 : 172.17.0.2 . 80 }``."""
        return f"{self.set} {{ {' : '.join(' . '.join(said for said, _ in side) for side in (self.key, self.data) if side)} }}"


def _value(type_: int, fields: tuple[Field, ...]) -> bytes:
    value = fields[0][1] if len(fields) == 1 else b"".join([wire + b"\0" * (-len(wire) & 3) for _, wire in fields])
    return nest(type_ | NLA_F_NESTED, attribute(NFTA_DATA_VALUE, value))


def change(family: str, table: str, add: Sequence[Element] = (), delete: Sequence[Element] = ()) -> None:
    """Add and then delete elements, as one transaction: all of it holds afterwards, or none of it.

    Raises KernelError naming the first set that would not: EEXIST where a map's key has other data already (an element that is
    there as it is asked for is no error), ENOENT where the table, the set or an element to delete is missing. A deletion looks at
    the key alone: see remove().
    """
    if add or delete:
        netfilter().transaction(batch(family, table, add, delete))


def remove(family: str, table: str, elements: Sequence[Element]) -> None:
    """Delete exactly these elements: what is gone already, the set or the whole table included, is no matter, and a key that has
    other data by now is another's and stays. One transaction, unless one of these is met."""
    parts: list[Sequence[Element]] = []
    try:
        # Each is added first, so that it is there to be deleted; that fails where the key has other data.
        change(family, table, elements, elements)
    except KernelError as error:
        # A transaction that fails costs an RCU grace period, 8 to 24 ms, one that does not some 15 us: so as few as can be fail.
        if error.errno == errno.ENOENT:
            sets = _by_set(elements)
            if len(sets) > 1 and table_exists(family, table):  # a set is missing; what is in others has to go all the same
                parts.extend(sets.values())
        elif error.errno == errno.EEXIST:
            if len(elements) > 1:
                parts.extend([element] for element in elements)
        elif error.errno not in _NO_NFTABLES:
            raise
    for part in parts:
        remove(family, table, part)


def batch(family: str, table: str, add: Sequence[Element], delete: Sequence[Element]) -> list[Message]:
    """The messages of one transaction. The last change asks for an acknowledgement; asked of the batch's end, older kernels give
    none."""
    changes = [
        (type_, flags, name, members)
        for type_, flags, elements in ((NFT_MSG_NEWSETELEM, NLM_F_CREATE, add), (NFT_MSG_DELSETELEM, 0, delete))
        for name, whole in _by_set(elements).items()
        for members in _lists(whole)
    ]  # fmt: skip
    what = f"change nftables table `{family} {table}`"
    subsystem = _NFGENMSG.pack(0, 0, htons(NFNL_SUBSYS_NFTABLES))
    messages = [Message.build(what, NFNL_MSG_BATCH_BEGIN, 0, subsystem)]
    for left, (type_, flags, name, members) in enumerate(changes, 1 - len(changes)):
        messages.append(Message.build(
            f"change nftables set `{family} {table} {name}`", NFNL_SUBSYS_NFTABLES << 8 | type_, flags if left else flags | NLM_F_ACK,
            _NFGENMSG.pack(NFPROTO[family], 0, 0), text(NFTA_SET_ELEM_LIST_TABLE, table), text(NFTA_SET_ELEM_LIST_SET, name),
            nest(NFTA_SET_ELEM_LIST_ELEMENTS | NLA_F_NESTED, members)))  # fmt: skip
    messages.append(Message.build(what, NFNL_MSG_BATCH_END, 0, subsystem))
    return messages


def _by_set(elements: Sequence[Element]) -> dict[str, list[Element]]:
    found: dict[str, list[Element]] = {}
    for element in elements:
        found.setdefault(element.set, []).append(element)
    return found


def _lists(members: Sequence[Element]) -> Iterator[bytes]:
    """Their wire forms, as many together as one message takes."""
    together = bytearray()
    for element in members:
        if len(together) + len(element.wire) > _ROOM:
            yield bytes(together)
            together.clear()
        together += element.wire
    yield bytes(together)
