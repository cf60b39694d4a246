"""What a network's name server answers, with dnslib as the oracle; and that no bytes make it raise."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterator
from typing import Any

import pytest
from dnslib import EDNS0, QTYPE, DNSHeader, DNSLabel, DNSQuestion, DNSRecord
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minidocker.network import dns, names
from minidocker.network.dnshosts import Table

SUBNETS = [dns.subnet("10.1.0.0/24"), dns.subnet("fd01::/64")]
WEB, DB, DUAL = "a" * 12, "b" * 12, "0123456789ab"
HOSTS = (
    "127.0.0.1\tlocalhost\n"
    f"10.1.0.2\tweb www {WEB}\n"
    f"#0.1.0.9\tgone {'c' * 12}\n"
    f"10.1.0.3\tDb www {DB}\n"
    f"10.1.0.4\tdual.example.org dual {DUAL}\n"
    f"fd01::4\tdual.example.org dual {DUAL}\n"
)


def table_of(text: str, network: str = "Net0") -> Table:
    table = Table(network)
    table.add(text.encode())
    return table


TABLE = table_of(HOSTS)


def query(name: str, type: str = "A", *, edns: dict[str, Any] | None = None, **header: Any) -> bytes:
    label = DNSLabel([word.encode() for word in name.split(".") if word])
    record = DNSRecord(DNSHeader(**{"rd": 1, **header}), q=DNSQuestion(label, getattr(QTYPE, type)))
    if edns is not None:
        record.add_ar(EDNS0(**edns))
    return bytes(record.pack())


def parsed(packet: bytes) -> dns.Query:
    found = dns.parse(packet)
    assert isinstance(found, dns.Query)
    return found


def ask(packet: bytes, *tables: Table, limit: int = 0) -> DNSRecord | None:
    """The answer as dnslib reads it."""
    question = parsed(packet)
    answer = dns.answer(question, tables or [TABLE], SUBNETS, limit or question.limit)
    return None if answer is None else DNSRecord.parse(answer)


def records(answer: DNSRecord | None) -> set[tuple[str, str]]:
    assert answer is not None
    assert all(record.ttl == 0 and record.rclass == 1 and record.rname == answer.q.qname for record in answer.rr)
    return {(QTYPE[record.rtype], str(record.rdata)) for record in answer.rr}


@pytest.mark.parametrize(
    ("name", "type", "expected"),
    [
        ("web", "A", {("A", "10.1.0.2")}),
        ("WEB", "A", {("A", "10.1.0.2")}),
        ("db", "A", {("A", "10.1.0.3")}),
        (WEB, "A", {("A", "10.1.0.2")}),
        ("www", "A", {("A", "10.1.0.2"), ("A", "10.1.0.3")}),
        ("web.net0", "A", {("A", "10.1.0.2")}),
        (f"{DB}.NET0", "A", {("A", "10.1.0.3")}),
        ("dual.example.org", "A", {("A", "10.1.0.4")}),
        ("dual.example.org.net0", "AAAA", {("AAAA", "fd01::4")}),
        ("dual", "AAAA", {("AAAA", "fd01::4")}),
        ("dual", "ANY", {("A", "10.1.0.4"), ("AAAA", "fd01::4")}),
        ("web", "AAAA", set()),
        ("web", "MX", set()),
        ("web", "HTTPS", set()),
        ("dual", "SOA", set()),
        ("localhost", "A", {("A", "127.0.0.1")}),
        ("localhost", "AAAA", set()),
        ("web.localhost", "A", {("A", "127.0.0.1")}),
        ("2.0.1.10.in-addr.arpa", "PTR", {("PTR", "web.")}),
        ("3.0.1.10.IN-ADDR.ARPA", "PTR", {("PTR", "Db.")}),
        ("2.0.1.10.in-addr.arpa", "A", set()),
        ("2.0.1.10.in-addr.arpa", "ANY", {("PTR", "web.")}),
        ("4." + "0." * 27 + "1.0.d.f.ip6.arpa", "PTR", {("PTR", "dual.example.org.")}),
        ("1.0.0.127.in-addr.arpa", "PTR", {("PTR", "localhost.")}),
    ],
)
def test_what_is_known(name: str, type: str, expected: set[tuple[str, str]]) -> None:
    answer = ask(query(name, type))
    assert records(answer) == expected
    assert answer is not None
    assert (answer.header.rcode, answer.header.aa, answer.header.ra, answer.header.rd, answer.header.tc) == (0, 1, 1, 1, 0)


@pytest.mark.parametrize(
    ("name", "type"),
    [
        ("gone", "A"),
        ("c" * 12, "A"),
        ("web.net1", "A"),
        ("webnet0", "A"),
        ("x.web", "A"),
        ("net0", "A"),
        ("example.org", "A"),
        ("", "NS"),
        ("2.1.10.in-addr.arpa", "PTR"),
        ("2.0.1.10.in-addr.arpa.net0", "PTR"),
        ("02.0.1.10.in-addr.arpa", "PTR"),
        ("256.0.1.10.in-addr.arpa", "PTR"),
        ("x.2.0.1.10.in-addr.arpa", "PTR"),
        ("::1.in-addr.arpa", "PTR"),
        ("2.0.2.10.in-addr.arpa", "PTR"),
        ("in-addr.arpa", "PTR"),
        ("4." + "0." * 26 + "1.0.d.f.ip6.arpa", "PTR"),
        ("4." + "0." * 26 + "00.1.0.d.f.ip6.arpa", "PTR"),
        ("4." + "g." * 27 + "1.0.d.f.ip6.arpa", "PTR"),
        ("mylocalhost", "A"),
    ],
)
def test_what_is_not_ours_is_forwarded(name: str, type: str) -> None:
    assert ask(query(name, type)) is None


@pytest.mark.parametrize("name", ["9.0.1.10.in-addr.arpa", "1.0.1.10.in-addr.arpa", "5." + "0." * 27 + "1.0.d.f.ip6.arpa"])
def test_an_address_of_our_own_that_nobody_has_is_nobodys(name: str) -> None:
    answer = ask(query(name, "PTR"))
    assert answer is not None
    assert (answer.header.rcode, answer.rr) == (dns.NXDOMAIN, [])


def test_names_are_labels_and_not_what_they_look_like() -> None:
    """A label may hold a dot, and a backslash (RFC 2181, 11)."""
    for label in (b"web.net0", b"dual.example.org", b"web\\.net0"):
        packet = query("x").replace(b"\x01x", bytes([len(label)]) + label)
        assert ask(packet) is None
    assert parsed(query("x").replace(b"\x01x", b"\x05a.b\\C")).name == b"a\\.b\\\\c"


def test_the_first_table_that_knows_the_name_answers_and_no_other_is_looked_at() -> None:
    other = table_of(f"10.2.0.2\tweb other {WEB}\n", "net1")
    assert records(ask(query("web"), TABLE, other)) == {("A", "10.1.0.2")}
    assert records(ask(query("web.net1"), TABLE, other)) == {("A", "10.2.0.2")}
    assert records(ask(query("other"), TABLE, other)) == {("A", "10.2.0.2")}
    assert records(ask(query("2.0.2.10.in-addr.arpa", "PTR"), TABLE, other)) == {("PTR", "web.")}

    def tables() -> Iterator[Table]:
        yield TABLE
        raise AssertionError("looked further")

    question = parsed(query("web"))
    assert dns.answer(question, tables(), SUBNETS, question.limit)


def test_an_answer_repeats_id_question_and_flags() -> None:
    packet = query("wEb", id=0xBEEF, rd=0, cd=1)
    answer = dns.answer(parsed(packet), [TABLE], [], 512)
    assert answer is not None
    assert answer[:2] == b"\xbe\xef"
    assert answer[12 : len(packet)] == packet[12:]
    header = DNSRecord.parse(answer).header
    assert (header.rd, header.cd, header.ad, header.z) == (0, 1, 0, 0)


def test_other_classes_and_zone_transfers_are_not_ours() -> None:
    packet = query("web")
    assert ask(packet[:-1] + b"\x03") is None  # CHAOS
    assert ask(packet[:-1] + b"\xff") is None
    for type in ("AXFR", "IXFR"):
        answer = ask(query("example.org", type))
        assert answer is not None
        assert answer.header.rcode == dns.NOTIMP


def test_edns_is_answered_with_edns() -> None:
    answer = ask(query("web", edns={"udp_len": 4096, "flags": "do"}))
    assert answer is not None
    (option,) = answer.ar
    assert (option.rtype, str(option.rname), option.rclass, option.edns_do, option.edns_ver, option.edns_rcode) == (41, ".", 1232, 1, 0, 0)
    plain = ask(query("web"))
    assert plain is not None
    assert plain.ar == []
    refused = dns.parse(query("web", edns={"version": 1}))
    assert isinstance(refused, bytes)
    again = DNSRecord.parse(refused)
    assert (again.ar[0].edns_rcode, again.ar[0].edns_ver, again.header.rcode, again.rr) == (1, 0, 0, [])  # BADVERS is 1 << 4


@pytest.mark.parametrize(("size", "limit"), [(0, 512), (100, 512), (512, 512), (1232, 1232), (65535, 65507)])
def test_udp_size(size: int, limit: int) -> None:
    assert parsed(query("web", edns={"udp_len": size})).limit == limit
    assert parsed(query("web")).limit == 512


@pytest.mark.parametrize("family", ["A", "AAAA"])
@pytest.mark.parametrize("edns", [None, {"udp_len": 512}, {"udp_len": 700}, {"udp_len": 4096}])
def test_what_does_not_fit_is_cut_between_records(family: str, edns: dict[str, Any] | None) -> None:
    addresses = [f"10.1.0.{n}" if family == "A" else f"fd01::{n:x}" for n in range(1, 101)]
    table = table_of("".join(f"{ip}\tn{n} all {n:012x}\n" for n, ip in enumerate(addresses)))
    packet = query("all", family, edns=edns)
    question = parsed(packet)
    raw = dns.answer(question, [table], SUBNETS, question.limit)
    assert raw is not None
    answer = DNSRecord.parse(raw)
    one = 12 + (4 if family == "A" else 16)
    whole = len(packet) + 100 * one
    assert answer.header.tc == (whole > question.limit)
    if answer.header.tc:
        assert question.limit - one < len(raw) <= question.limit
    else:
        assert {address for _, address in records(answer)} == set(addresses)
    assert {address for _, address in records(answer)} <= set(addresses)
    assert len(records(ask(packet, table, limit=dns.LARGEST))) == 100


def test_every_address_is_first_at_times() -> None:
    firsts = {str(answer.rr[0].rdata) for id in range(4) if (answer := ask(query("www", id=id)))}
    assert firsts == {"10.1.0.2", "10.1.0.3"}


def rcode(packet: bytes) -> int | None:
    """What `parse` alone says: the rcode of its error, None when it drops the packet, -1 when it is a query."""
    found = dns.parse(packet)
    if isinstance(found, dns.Query):
        return -1
    if found is None:
        return None
    answer = DNSRecord.parse(found)
    assert (answer.header.id, answer.header.qr, answer.questions) == (int.from_bytes(packet[:2], "big"), 1, [])
    return int(answer.header.rcode)


GOOD = query("web")
LONG = b"".join(bytes([63]) + b"x" * 63 for _ in range(3))


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (GOOD, -1),
        (GOOD + b"rubbish at the end", -1),
        (b"", None),
        (GOOD[:11], None),
        (GOOD[:2] + b"\x81" + GOOD[3:], None),  # an answer
        (GOOD[:2] + b"\x28" + GOOD[3:], dns.NOTIMP),  # an update
        (GOOD[:2] + b"\x08" + GOOD[3:12], dns.NOTIMP),
        (GOOD[:4] + b"\0\0" + GOOD[6:], dns.FORMERR),
        (GOOD[:4] + b"\0\2" + GOOD[6:] * 2, dns.FORMERR),
        (GOOD[:4] + b"\xff\xff" + GOOD[6:], dns.FORMERR),
        *((GOOD[:length], dns.FORMERR) for length in range(12, len(GOOD))),
        (GOOD[:12] + b"\xc0\x0c\0\1\0\1", dns.FORMERR),
        (GOOD[:12] + b"\3web\xc0\x0c\0\1\0\1", dns.FORMERR),
        (GOOD[:12] + b"\x40" + b"x" * 64 + b"\0\0\1\0\1", dns.FORMERR),
        (GOOD[:12] + b"\x80" + b"x" * 128 + b"\0\0\1\0\1", dns.FORMERR),
        (GOOD[:12] + LONG + b"\x3d" + b"y" * 61 + b"\0\0\1\0\1", -1),  # 255 bytes
        (GOOD[:12] + LONG + b"\x3e" + b"y" * 62 + b"\0\0\1\0\1", dns.FORMERR),
        (GOOD[:12] + b"\1x" * 127 + b"\0\0\1\0\1", -1),
        (GOOD[:12] + b"\1x" * 128 + b"\0\0\1\0\1", dns.FORMERR),
        (GOOD[:12] + b"\1x" * 30000, dns.FORMERR),
        (GOOD[:12] + b"\0\0\1\0\1", -1),  # the root
        (GOOD[:10] + b"\0\1" + GOOD[12:], dns.FORMERR),  # a record is announced and missing
        (GOOD[:6] + b"\xff\xff" + GOOD[8:] + b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4abcd", dns.FORMERR),
        (GOOD[:6] + b"\0\1" + GOOD[8:] + b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4abcd", -1),
        (GOOD[:6] + b"\0\1" + GOOD[8:] + b"\xc0\x0c\0\1\0\1\0\0\0\0\0\5abcd", dns.FORMERR),
        (GOOD[:10] + b"\0\1" + GOOD[12:] + b"\0\0\x29\x10\0\0\0\0\0\0\0", -1),
        (GOOD[:10] + b"\0\2" + GOOD[12:] + b"\0\0\x29\x10\0\0\0\0\0\0\0" * 2, dns.FORMERR),
        (GOOD[:10] + b"\0\1" + GOOD[12:] + b"\1x\0\0\x29\x10\0\0\0\0\0\0\0", dns.FORMERR),
        (GOOD[:10] + b"\0\1" + GOOD[12:] + b"\1x" * 128 + b"\0\0\x29\x10\0\0\0\0\0\0\0", dns.FORMERR),
        (GOOD[:10] + b"\0\1" + GOOD[12:] + b"\x41x\0\0\x29\x10\0\0\0\0\0\0\0", dns.FORMERR),
    ],
)
def test_what_is_malformed_is_said_to_be(packet: bytes, expected: int | None) -> None:
    assert rcode(packet) == expected


def plain(answer: bytes, asked: dns.Query) -> bytes:
    """With x for what is not ASCII in the question's name: a label may hold any byte (RFC 2181, 11), but not for dnslib."""
    end = 12 + len(asked.question) - 4
    assert answer[12:end] == asked.question[:-4]
    return answer[:12] + bytes(byte if byte < 128 else 0x78 for byte in answer[12:end]) + answer[end:]


def whatever_it_says(packet: bytes) -> None:
    """Through everything that a client's packet goes through; what comes out is a message by dnslib's reading."""
    found = dns.parse(packet)
    if isinstance(found, dns.Query):
        errors = [dns.respond(found, dns.SERVFAIL), dns.respond(found, dns.NXDOMAIN)]
        for answer in (dns.answer(found, [TABLE], SUBNETS, found.limit), *errors):
            if answer is not None:
                read = DNSRecord.parse(plain(answer, found))
                assert (answer[:2], read.header.qr, len(read.questions)) == (packet[:2], 1, 1)
                assert len(answer) <= found.limit
                assert dns.answers(answer, packet[:2], found)
    elif found is not None:
        bad_version = found[5]  # the one error that repeats the question, as it could be read
        assert DNSRecord.parse(plain(found, dns.Query(packet)) if bad_version else found).header.qr == 1


@settings(deadline=None)
@given(st.binary(max_size=600))
def test_any_bytes(packet: bytes) -> None:
    whatever_it_says(packet)


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from([1, 28, 12, 255, 65]))
def test_any_bytes_after_a_header(rest: bytes, type: int) -> None:
    whatever_it_says(b"\x12\x34\x01\0\0\1\0\0\0\0\0\1" + rest)
    whatever_it_says(b"\x12\x34\x01\0\0\1\0\0\0\0\0\1\3web\0" + type.to_bytes(2, "big") + b"\0\1" + rest)


NAMES = ["web", "www", "db", "dual", "dual.example.org", WEB, DB, "gone", "localhost", "a.localhost", "example.org",
         "2.0.1.10.in-addr.arpa", "9.0.1.10.in-addr.arpa", "4." + "0." * 27 + "1.0.d.f.ip6.arpa", "web.net0", ""]  # fmt: skip


@st.composite
def queries(draw: st.DrawFn) -> bytes:
    name = "".join(draw(st.sampled_from([c.lower(), c.upper()])) for c in draw(st.sampled_from(NAMES)))
    size = draw(st.integers(0, 65535))
    edns = draw(st.sampled_from([None, {"udp_len": size}, {"udp_len": size, "flags": "do"}]))
    kind = draw(st.sampled_from(["A", "AAAA", "PTR", "ANY", "MX", "TXT", "HTTPS", "NS"]))
    return query(name, kind, edns=edns, id=draw(st.integers(0, 65535)), rd=draw(st.integers(0, 1)))


@settings(deadline=None)
@given(queries(), st.data())
def test_mutated_and_truncated_queries(packet: bytes, data: st.DataObject) -> None:
    whatever_it_says(packet)
    changed = bytearray(packet)
    for _ in range(data.draw(st.integers(1, 6))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    whatever_it_says(bytes(changed))
    whatever_it_says(packet[: data.draw(st.integers(0, len(packet)))])
    at = data.draw(st.integers(0, len(packet)))
    whatever_it_says(packet[:at] + data.draw(st.binary(max_size=40)) + packet[at:])


LABELS = st.sampled_from(["a", "b", "c", "A", "a.b", "x-y", "b.c.d"])
CONTAINERS = st.lists(st.tuples(LABELS, st.lists(LABELS, max_size=3), st.booleans()), max_size=8)


ASKED = st.sampled_from(["a", "B", "c", "a.b", "A.B", "x-y", "a.net0", "a.b.NET0", "b.c.d", "d"])


@settings(deadline=None)
@given(CONTAINERS, ASKED, st.sampled_from(["A", "AAAA", "ANY"]))
def test_answers_are_those_of_a_simple_model(containers: list[tuple[str, list[str], bool]], name: str, kind: str) -> None:
    text = names.hosts_header()
    wanted: set[tuple[str, str]] = set()
    known = False
    for number, (first, aliases, dual) in enumerate(containers, 2):
        id = f"{number:012x}" + "e" * 52
        called = {word.lower() for word in [first, *aliases]}
        called |= {f"{word}.net0" for word in called}
        for type, ip in [("A", f"10.1.0.{number}"), *([("AAAA", f"fd01::{number:x}")] if dual else [])]:
            text += names.hosts_lines([ip], first, aliases, id)
            if name.lower() in called:
                known = True
                wanted |= {(type, ip)} if kind in (type, "ANY") else set()
    # a whole name that somebody has goes before a NAME.NETWORK; here nobody is called after the network
    answer = ask(query(name, kind, edns={"udp_len": 4096}), table_of(text))
    assert (answer is not None) == known
    if known:
        assert records(answer) == wanted


@settings(deadline=None)
@given(st.ip_addresses())
def test_reverse_names(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert dns.address_of(address.reverse_pointer.encode()) == dns.packed(str(address)) == address.packed


@settings(deadline=None)
@given(st.ip_addresses(v=4), st.integers(0, 32), st.ip_addresses(v=4))
def test_subnets(address: ipaddress.IPv4Address, length: int, network: ipaddress.IPv4Address) -> None:
    text = str(ipaddress.ip_network((network, length), strict=False))
    assert dns.inside(address.packed, dns.subnet(text)) == (address in ipaddress.ip_network(text))
    assert not dns.inside(b"", dns.subnet(text))
    assert not dns.inside(bytes(16), dns.subnet(text))


def test_what_cannot_be_a_name_is_none_in_a_message() -> None:
    assert dns.encode(b"a.bc") == b"\1a\2bc\0"
    for bad in (b"", b".", b"a..b", b"x" * 64, b".a", b"a.", b".".join([b"x" * 50] * 5)):
        assert dns.encode(bad) == b""
    table = table_of(f"10.1.0.2\t{'x' * 64} a..b ok {WEB}\n10.1.0.3\t{'x' * 64} {DB}\n")
    assert records(ask(query("2.0.1.10.in-addr.arpa", "PTR"), table)) == {("PTR", "ok.")}
    assert records(ask(query("3.0.1.10.in-addr.arpa", "PTR"), table)) == {("PTR", f"{DB}.")}


@pytest.mark.parametrize(
    "line",
    ["", "#0.1.0.2\tx aaaaaaaaaaaa", "10.1.0.2\tx", "10.1.0.2\taaaaaaaaaaaa", "10.1.0.2 x aaaaaaaaaaaa", "10.1.0\tx aaaaaaaaaaaa", "\t",
     "\t\t\t", "10.1.0.2\tx aaaaaaaaaaag", "10.1.0.2\tx aaaaaaaaaaa", "10.1.0.2\tx aaaaaaaaaaaaa", "é\tx aaaaaaaaaaaa",
     "1::2::3\tx aaaaaaaaaaaa", "127.0.0.1\tlocalhost x"],
)  # fmt: skip
def test_a_line_that_is_no_containers_is_passed_over(line: str) -> None:
    table = table_of(f"{line}\n10.1.0.5\tlast {WEB}\n")
    assert ask(query("x"), table) is None
    assert records(ask(query("last"), table)) == {("A", "10.1.0.5")}
    assert table.ids == {WEB.encode()}


def test_an_answer_from_a_resolver_is_checked() -> None:
    question = parsed(query("Example.org", "HTTPS"))  # its type 65 is an A in ASCII: case does not matter in names alone
    good = b"\x12\x34\x81\x80" + query("Example.org", "HTTPS")[4:]
    assert dns.answers(good, b"\x12\x34", question)
    assert dns.answers(good.replace(b"Example", b"eXAMPLE"), b"\x12\x34", question)
    assert not dns.answers(good, b"\x12\x35", question)
    assert not dns.answers(good[:11], b"\x12\x34", question)
    assert not dns.answers(good[:-1], b"\x12\x34", question)
    assert not dns.answers(good.replace(b"Example", b"Exampel"), b"\x12\x34", question)
    assert not dns.answers(good.replace(b"\0\x41\0\1", b"\0\x61\0\1"), b"\x12\x34", question)
    assert not dns.answers(b"\x12\x34\x01\x80" + good[4:], b"\x12\x34", question)  # a query
    assert not dns.answers(b"\x12\x34\xa9\x80" + good[4:], b"\x12\x34", question)  # of another kind
    assert not dns.answers(good[:5] + b"\2" + good[6:], b"\x12\x34", question)
    assert dns.answers(b"\x12\x34\x80\x01" + bytes(8), b"\x12\x34", question)  # it could not read the question, so does not repeat it
    assert not dns.answers(b"\x12\x34\x80\x00" + bytes(8), b"\x12\x34", question)
    assert not dns.answers(b"\x12\x34\x80\x03" + bytes(8), b"\x12\x34", question)


@settings(deadline=None)
@given(st.binary(max_size=100))
@example(b"")
def test_any_bytes_from_a_resolver(packet: bytes) -> None:
    dns.answers(packet, packet[:2], parsed(GOOD))


@settings(deadline=None)
@given(st.lists(st.binary(max_size=50), max_size=6), st.lists(st.integers(1, 7), min_size=1))
def test_framing(packets: list[bytes], sizes: list[int]) -> None:
    stream = b"".join(map(dns.framed, packets))
    inbox = bytearray()
    found = []
    turn = 0
    while stream:
        inbox += stream[: sizes[turn % len(sizes)]]
        stream = stream[sizes[turn % len(sizes)] :]
        turn += 1
        while (packet := dns.unframed(inbox)) is not None:
            found.append(packet)
    assert (found, inbox) == (packets, b"")
    assert dns.unframed(bytearray(b"\0")) is None
    assert dns.unframed(bytearray(dns.framed(bytes(65535))[:-1])) is None


def test_nameservers() -> None:
    text = b"""# a comment\nnameserver 192.0.2.1\n  nameserver\t::1 rest\nnameserver fe80::1%eth0\nnameserver nonsense\nnameserver
;nameserver 1.1.1.1\nnameserver 300.0.0.1\nnameservers 192.0.2.9\nsearch example.org\n\xff\xfe\noptions ndots:1"""
    assert dns.nameservers(text) == ["192.0.2.1", "::1", "fe80::1%eth0"]
    assert dns.nameservers(b"") == []


def test_it_is_quick_enough_to_be_fuzzed_at_random() -> None:
    """A seed of its own, and many more packets than hypothesis would try: nothing raises."""
    source = random.Random(20240229)
    seeds = [query(name, kind, edns=edns) for name in NAMES for kind in ("A", "PTR", "ANY") for edns in (None, {"udp_len": 1232})]
    for _ in range(4000):
        packet = bytearray(source.choice(seeds))
        for _ in range(source.randint(0, 5)):
            packet[source.randrange(len(packet))] = source.randrange(256)
        whatever_it_says(bytes(packet[: source.randint(0, len(packet) + 20)]))
