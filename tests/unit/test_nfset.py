"""Elements of nftables sets: what nft would read, and the bytes against what nft sends and pyroute2's marshalling."""

from __future__ import annotations

import errno
from _struct import error, pack, unpack_from
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink import nlmsg
from pyroute2.netlink.nfnetlink import nfgen_msg
from pyroute2.netlink.nfnetlink.nftsocket import nft_set_elem_list_msg

from minidocker.errors import KernelError
from minidocker.kernel import nfset
from minidocker.kernel.netlink import HEADER, NLA_F_NESTED, NLM_F_ACK, Message, attributes, string
from minidocker.kernel.nfset import Element, Field, ifname, ipv4, ipv6, mac, port, proto

REQUEST, ACK, CREATE = 0x1, 0x4, 0x400
MAC = "02:42:ac:11:00:02"
NEW, DELETE = 10 << 8 | 12, 10 << 8 | 14
INET, BRIDGE = 1, 7

BR0 = b"br0" + bytes(13)
# element, what nft reads, the key's bytes, the data's
CASES = [
    (Element("bridges", (ifname("br0"),)), 'bridges { "br0" }', BR0, b""),
    (Element("numbers", (port(53),)), "numbers { 53 }", b"\0\x35", b""),
    (Element("same", (ifname("br0"), ifname("fifteen-letters"))), 'same { "br0" . "fifteen-letters" }',
     BR0 + b"fifteen-letters\0", b""),
    (Element("own", (ifname("br0"), mac(MAC), ipv4("172.17.0.2"))), f'own {{ "br0" . {MAC} . 172.17.0.2 }}',
     BR0 + b"\x02\x42\xac\x11\0\x02\0\0" + b"\xac\x11\0\x02", b""),
    (Element("own6", (ifname("br0"), mac(MAC), ipv6("fd00::2"))), f'own6 {{ "br0" . {MAC} . fd00::2 }}',
     BR0 + b"\x02\x42\xac\x11\0\x02\0\0" + b"\xfd" + bytes(14) + b"\2", b""),
    (Element("ports", (proto("tcp"), port(8080)), (ipv4("172.17.0.2"), port(80))), "ports { tcp . 8080 : 172.17.0.2 . 80 }",
     b"\6\0\0\0\x1f\x90\0\0", b"\xac\x11\0\2\0\x50\0\0"),
    (Element("ports_at", (ipv4("192.0.2.1"), proto("udp"), port(53)), (ipv4("172.17.0.2"), port(5300))),
     "ports_at { 192.0.2.1 . udp . 53 : 172.17.0.2 . 5300 }", b"\xc0\0\2\1\x11\0\0\0\0\x35\0\0", b"\xac\x11\0\2\x14\xb4\0\0"),
    (Element("ports6", (proto("sctp"), port(1)), (ipv6("fd00::2"), port(2))), "ports6 { sctp . 1 : fd00::2 . 2 }",
     b"\x84\0\0\0\0\1\0\0", b"\xfd" + bytes(14) + b"\2\0\2\0\0"),
    (Element("dns", (ifname("br0"), ipv4("172.17.0.1")), (port(5353),)), 'dns { "br0" . 172.17.0.1 : 5353 }',
     BR0 + b"\xac\x11\0\1", b"\x14\xe9"),
]  # fmt: skip


def marshalled(kind: type[nlmsg], type_: int, flags: int, family: int, resource: int, attrs: list[object]) -> bytes:
    """The message as pyroute2 puts it on the wire."""
    message = kind()
    message["nfgen_family"], message["version"], message["res_id"], message["attrs"] = family, 0, resource, attrs
    message["header"]["type"], message["header"]["flags"] = type_, flags | REQUEST
    message.encode()
    return bytes(message.data)


def pyroute2s(type_: int, flags: int, table: str, set_: str, *elements: tuple[bytes, bytes], family: int = INET) -> bytes:
    """The message of these (key, data)."""
    listed = [
        {"attrs": [("NFTA_SET_ELEM_KEY", {"attrs": [("NFTA_DATA_VALUE", key)]}),
                   *([("NFTA_SET_ELEM_DATA", {"attrs": [("NFTA_DATA_VALUE", data)]})] if data else [])]}
        for key, data in elements
    ]  # fmt: skip
    return marshalled(nft_set_elem_list_msg, type_, flags, family, 0, [
        ("NFTA_SET_ELEM_LIST_TABLE", table), ("NFTA_SET_ELEM_LIST_SET", set_), ("NFTA_SET_ELEM_LIST_ELEMENTS", listed),
    ])  # fmt: skip


def like_pyroute2(data: bytes, depth: int = 0) -> bytes:
    """Our attributes without NLA_F_NESTED, and an elements' list numbered (depth 1), as pyroute2 has them; the kernel looks at neither."""
    found = b""
    number = 0
    while data:
        length, type_ = unpack_from("=HH", data)
        number += 1
        value = like_pyroute2(data[4:length], depth + 1) if type_ & NLA_F_NESTED else data[4:length]
        found += pack("=HH", length, number if depth == 1 else type_ & ~NLA_F_NESTED) + value + bytes(-length & 3)
        data = data[(length + 3) & ~3 :]
    return found


def compared(message: Message) -> str:
    return (message[:20] + like_pyroute2(message[20:])).hex(" ", 4)


def members(message: Message) -> list[bytes]:
    """The elements in a message, as on the wire."""
    rest = attributes(message, 20)[nfset.NFTA_SET_ELEM_LIST_ELEMENTS]
    found = []
    while rest:
        length = (unpack_from("=H", rest)[0] + 3) & ~3
        found.append(rest[:length])
        rest = rest[length:]
    return found


@pytest.mark.parametrize(("element", "text", "key", "data"), CASES, ids=[case[1] for case in CASES])
def test_an_element_is_what_nft_reads_and_pyroute2_sends(element: Element, text: str, key: bytes, data: bytes) -> None:
    assert element.text == text
    _, added, _ = nfset.batch("inet", "minidocker_ab", [element], [])
    assert compared(added) == pyroute2s(NEW, CREATE | ACK, "minidocker_ab", element.set, (key, data)).hex(" ", 4)
    _, deleted, _ = nfset.batch("inet", "minidocker_ab", [], [element])
    assert compared(deleted) == pyroute2s(DELETE, ACK, "minidocker_ab", element.set, (key, data)).hex(" ", 4)


def test_an_element_is_what_nft_sends() -> None:
    """`strace -e sendmsg -xx nft add element inet t p '{ tcp . 8080 : 172.17.0.2 . 80 }'`, its attribute ELEMENTS."""
    sent = "24000180" "10000180" "0c000100" "06000000" "1f900000" "10000280" "0c000100" "ac110002" "00500000"
    assert Element("p", (proto("tcp"), port(8080)), (ipv4("172.17.0.2"), port(80))).wire.hex() == sent


def test_a_batch_is_adds_then_deletes_each_set_once_between_begin_and_end() -> None:
    a, b, c, d = (Element(name, (port(number),)) for name, number in (("x", 1), ("y", 2), ("x", 3), ("y", 4)))
    begin, *changes, end = nfset.batch("bridge", "t", [a, b, c], [d])
    for message, type_ in ((begin, 16), (end, 17)):
        assert message.hex() == marshalled(nfgen_msg, type_, 0, 0, 10, []).hex()
        assert message.what == "change nftables table `bridge t`"
    assert [compared(message) for message in changes] == [wire.hex(" ", 4) for wire in (
        pyroute2s(NEW, CREATE, "t", "x", (b"\0\1", b""), (b"\0\3", b""), family=BRIDGE),
        pyroute2s(NEW, CREATE, "t", "y", (b"\0\2", b""), family=BRIDGE),
        pyroute2s(DELETE, ACK, "t", "y", (b"\0\4", b""), family=BRIDGE),
    )]  # fmt: skip
    assert [message.what for message in changes] == [f"change nftables set `bridge t {name}`" for name in "xyy"]


FIELDS = st.lists(st.binary(min_size=1, max_size=20).map(lambda wire: ("", wire)), min_size=1, max_size=5)


@given(FIELDS, FIELDS)
def test_fields_are_padded_where_there_are_several(key: list[Field], data: list[Field]) -> None:
    element = attributes(Element("s", tuple(key), tuple(data)).wire)[nfset.NFTA_LIST_ELEM]
    for type_, fields in ((nfset.NFTA_SET_ELEM_KEY, key), (nfset.NFTA_SET_ELEM_DATA, data)):
        value = attributes(attributes(element)[type_])[nfset.NFTA_DATA_VALUE]
        if len(fields) == 1:
            assert value == fields[0][1]
            continue
        for _, wire in fields:
            field, value = value[: len(wire) + -len(wire) % 4], value[len(wire) + -len(wire) % 4 :]
            assert (field[: len(wire)], field[len(wire) :]) == (wire, bytes(len(field) - len(wire)))
        assert value == b""


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.integers(1, 9000)), min_size=1, max_size=40), st.integers(0, 40))
def test_as_few_messages_as_hold_the_elements(sizes: list[tuple[str, int]], adds: int) -> None:
    elements = [Element(name, (("", bytes([number]) * size),)) for number, (name, size) in enumerate(sizes)]
    batch = nfset.batch("inet", "t", elements[:adds], elements[adds:])[1:-1]
    flags = [HEADER.unpack_from(message)[2] for message in batch]
    assert [bool(flag & NLM_F_ACK) for flag in flags] == [False] * (len(batch) - 1) + [True]
    seen: dict[tuple[int, str], list[bytes]] = {}
    for before, message in pairwise([None, *batch]):
        length, type_, *_ = HEADER.unpack_from(message)
        assert length == len(message) <= 20 + 0xFFFC + 2 * 8
        kind = type_, string(attributes(message, 20)[nfset.NFTA_SET_ELEM_LIST_SET])
        if kind in seen:  # only because the one before was full, and it was of the same set
            assert before is not None
            assert sum(map(len, members(before))) + len(members(message)[0]) > 0xFFF8
            assert string(attributes(before, 20)[nfset.NFTA_SET_ELEM_LIST_SET]) == kind[1]
        seen.setdefault(kind, []).extend(members(message))
    assert sorted(type_ for type_, _ in seen) == [type_ for type_, _ in seen]
    for type_, part in ((NEW, elements[:adds]), (DELETE, elements[adds:])):
        for name in "xyz":
            assert seen.get((type_, name), []) == [element.wire for element in part if element.set == name]


@pytest.mark.parametrize("bad", [lambda: ipv4("172.17.1"), lambda: ipv4("fd00::2"), lambda: ipv6("172.17.0.2"), lambda: proto("icmp"),
                                 lambda: mac("02:4"), lambda: port(65536), lambda: port(-1)])
def test_what_is_no_such_value_is_refused(bad: Callable[[], Field]) -> None:
    with pytest.raises((OSError, KeyError, ValueError, error)):
        bad()


@pytest.mark.parametrize("number", [errno.EPROTONOSUPPORT, errno.EOPNOTSUPP, errno.EPERM])
def test_without_nftables_there_is_nothing_to_remove(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise KernelError("open a netlink socket", number)

    monkeypatch.setattr(nfset, "netfilter", refuse)
    one = [Element("x", (port(1),))]
    if number == errno.EPERM:
        with pytest.raises(KernelError):
            nfset.remove("inet", "t", one)
    else:
        nfset.remove("inet", "t", one)
    with pytest.raises(KernelError):
        nfset.change("inet", "t", one)


def test_nothing_to_do_opens_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nfset, "netfilter", lambda: pytest.fail("a socket was opened"))
    nfset.change("inet", "t")
    nfset.remove("inet", "t", [])
