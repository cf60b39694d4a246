"""Elements that we add and delete, as nft lists them, beside the same ones added by nft; and what happens where it cannot be done."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from minidocker.errors import KernelError
from minidocker.kernel import libc, netlink, nfset, nftables
from minidocker.kernel.netlink import Socket
from minidocker.kernel.nfset import Element, ifname, ipv4, ipv6, mac, port, proto
from tests import pretend
from tests.pretend import sh

ROOT = Path(__file__).resolve().parent.parent.parent

SETS = """
	set bridges { type ifname; }
	set pairs { type ifname . ifname; }
	set own { type ifname . ether_addr . ipv4_addr; }
	set own6 { type ifname . ether_addr . ipv6_addr; }
	map ports { type inet_proto . inet_service : ipv4_addr . inet_service; }
	map ports_at { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
	map ports6 { type inet_proto . inet_service : ipv6_addr . inet_service; }
	map ports6_at { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }
	map dns { type ifname . ipv4_addr : inet_service; }
	map dns6 { type ifname . ipv6_addr : inet_service; }
"""
MAC = "02:42:ac:11:00:02"
ONE_OF_EACH = [
    Element("bridges", (ifname("br0"),)),
    Element("bridges", (ifname("fifteen-letters"),)),
    Element("pairs", (ifname("br0"), ifname("br1"))),
    Element("own", (ifname("br0"), mac(MAC), ipv4("172.17.0.2"))),
    Element("own6", (ifname("br0"), mac(MAC), ipv6("fd00::242:acff:fe11:2"))),
    Element("ports", (proto("tcp"), port(8080)), (ipv4("172.17.0.2"), port(80))),
    Element("ports", (proto("sctp"), port(65535)), (ipv4("172.17.0.2"), port(1))),
    Element("ports_at", (ipv4("192.0.2.1"), proto("udp"), port(53)), (ipv4("172.17.0.3"), port(5300))),
    Element("ports6", (proto("udp"), port(53)), (ipv6("fd00::3"), port(5300))),
    Element("ports6_at", (ipv6("2001:db8::1"), proto("tcp"), port(443)), (ipv6("fd00::3"), port(8443))),
    Element("dns", (ifname("br0"), ipv4("172.17.0.1")), (port(40053),)),
    Element("dns6", (ifname("br0"), ipv6("fd00::1")), (port(40053),)),
]  # fmt: skip


def published(number: int, ip: str = "172.17.0.2") -> Element:
    return Element("ports", (proto("tcp"), port(number)), (ipv4(ip), port(80)))


class Table:
    """A table with SETS, and another, `twin`, with the same."""

    def __init__(self, family: str) -> None:
        self.family = family
        for name in ("probe", "twin"):
            sh(f"nft -f - <<< 'table {family} {name} {{{SETS}}}'")

    def add(self, *elements: Element) -> None:
        nfset.change(self.family, "probe", elements)

    def delete(self, *elements: Element) -> None:
        nfset.change(self.family, "probe", delete=elements)

    def remove(self, *elements: Element) -> None:
        nfset.remove(self.family, "probe", elements)

    def holds(self, name: str = "probe") -> dict[str, list[str]]:
        """The elements of each set that has any, sorted, as nft's JSON has them."""
        listed = json.loads(sh(f"nft -j list table {self.family} {name}"))["nftables"]
        sets = [item.get("set") or item["map"] for item in listed if "set" in item or "map" in item]
        return {it["name"]: sorted(json.dumps(element) for element in it["elem"]) for it in sets if it.get("elem")}


@pytest.fixture(params=["inet", "bridge"])
def table(request: pytest.FixtureRequest) -> Iterator[Table]:
    yield Table(request.param)
    sh(f"nft delete table {request.param} probe; nft delete table {request.param} twin", check=False)


def test_what_we_add_is_what_nft_adds(table: Table) -> None:
    table.add(*ONE_OF_EACH)
    sh("nft -f - <<'END'\n" + "\n".join(f"add element {table.family} twin {element.text}" for element in ONE_OF_EACH) + "\nEND")
    held = table.holds()
    assert sum(map(len, held.values())) == len(ONE_OF_EACH)
    assert held == table.holds("twin")


def test_nft_deletes_what_we_add_and_we_what_nft_adds(table: Table) -> None:
    table.add(*ONE_OF_EACH)
    sh("nft -f - <<'END'\n" + "\n".join(f"delete element {table.family} probe {element.text}" for element in ONE_OF_EACH) + "\nEND")
    assert table.holds() == {}
    sh("nft -f - <<'END'\n" + "\n".join(f"add element {table.family} probe {element.text}" for element in ONE_OF_EACH) + "\nEND")
    table.delete(*ONE_OF_EACH)
    assert table.holds() == {}


@pytest.mark.parametrize("table", ["inet"], indirect=True)
def test_the_packets_meet_our_elements(table: Table) -> None:
    """A key is found by the bytes of a packet, so its padding is the kernel's: one comes in by lo and is counted where it is found."""
    sh(f"""nft -f - <<'END'
table {table.family} probe {{
	chain met {{ type filter hook input priority 0
		iifname @bridges iifname . meta l4proto . th dport . ip daddr @four counter
		iifname . ip daddr @local counter
	}}
	set four {{ type ifname . inet_proto . inet_service . ipv4_addr; }}
	set local {{ type ifname . ipv4_addr; }}
}}
END""")
    table.add(Element("bridges", (ifname("lo"),)), Element("four", (ifname("lo"), proto("udp"), port(4000), ipv4("127.0.0.9"))),
              Element("local", (ifname("lo"), ipv4("127.0.0.9"))))
    sh("echo x > /dev/udp/127.0.0.9/4000; echo x > /dev/udp/127.0.0.8/4000")
    listed = sh(f"nft list chain {table.family} probe met")
    assert listed.count("counter packets 1 ") == 2


def test_adding_and_removing_can_be_repeated(table: Table) -> None:
    table.add(*ONE_OF_EACH)
    once = table.holds()
    table.add(*ONE_OF_EACH)
    assert table.holds() == once
    table.add(*ONE_OF_EACH, ONE_OF_EACH[0])
    table.remove(*ONE_OF_EACH[:5])
    table.remove(*ONE_OF_EACH[:6], ONE_OF_EACH[0])
    assert sum(map(len, table.holds().values())) == len(ONE_OF_EACH) - 6
    table.remove(*ONE_OF_EACH)
    table.remove(*ONE_OF_EACH)
    assert table.holds() == {}


def test_one_transaction_adds_and_deletes(table: Table) -> None:
    table.add(published(1))
    nfset.change(table.family, "probe", [published(2)], [published(1)])
    assert table.holds() == {"ports": ['[{"concat": ["tcp", 2]}, {"concat": ["172.17.0.2", 80]}]']}


@pytest.mark.parametrize(("bad", "number", "name"), [
    (published(1, "172.17.0.9"), errno.EEXIST, "ports"),
    (Element("absent", (ifname("br0"),)), errno.ENOENT, "absent"),
    (Element("bridges", (ipv4("172.17.0.2"),)), errno.EINVAL, "bridges"),
    (Element("ports", (proto("tcp"), port(7))), errno.EINVAL, "ports"),
    (Element("bridges", (ifname("br0"),), (port(7),)), errno.EINVAL, "bridges"),
])  # fmt: skip
def test_of_a_transaction_with_one_bad_element_nothing_is_done(table: Table, bad: Element, number: int, name: str) -> None:
    table.add(published(1), published(2))
    before = table.holds()
    for elements in ([bad, *ONE_OF_EACH], [*ONE_OF_EACH, bad], [*ONE_OF_EACH[:3], bad, *ONE_OF_EACH[3:]]):
        with pytest.raises(KernelError) as failure:
            nfset.change(table.family, "probe", elements, [published(2)])
        assert failure.value.errno == number
        assert failure.value.action == f"change nftables set `{table.family} probe {name}`"
        assert table.holds() == before


def test_deleting_what_is_not_there_is_an_error_and_nothing_is_done(table: Table) -> None:
    table.add(*ONE_OF_EACH)
    before = table.holds()
    with pytest.raises(KernelError, match=rf"^change nftables set `{table.family} probe own`: no such file or directory"):
        nfset.change(table.family, "probe", [published(9)],
                     [*ONE_OF_EACH, Element("own", (ifname("br9"), mac(MAC), ipv4("172.17.0.2")))])
    assert table.holds() == before


def test_the_first_of_several_failures_is_told(table: Table) -> None:
    table.add(published(1))
    with pytest.raises(KernelError, match="probe ports`: file exists"):
        table.add(published(1, "172.17.0.9"), Element("absent", (port(1),)), Element("own", (port(1),)))
    with pytest.raises(KernelError, match="probe absent`: no such file or directory"):
        table.add(Element("absent", (port(1),)), published(1, "172.17.0.9"))


def test_the_first_of_more_failures_than_the_receive_buffer_holds_is_told(table: Table) -> None:
    bad = [Element(f"absent{number}", (port(1),)) for number in range(3000)]
    with Socket(protocol=netlink.NETLINK_NETFILTER) as netfilter:
        with pytest.raises(KernelError, match="probe absent0`: no such file or directory"):
            netfilter.transaction(nfset.batch(table.family, "probe", bad, []))
        netfilter.transaction(nfset.batch(table.family, "probe", ONE_OF_EACH, []))
    assert sum(map(len, table.holds().values())) == len(ONE_OF_EACH)


def test_only_what_is_exactly_ours_is_removed(table: Table) -> None:
    """Two ports of ours are another container's by now, and a set and a table have gone."""
    theirs = [published(n, "172.17.0.9") for n in (17, 400)]
    table.add(*theirs, *(published(n) for n in range(500) if n not in (17, 400)), *ONE_OF_EACH)
    sh(f"nft delete set {table.family} probe pairs")
    table.remove(*ONE_OF_EACH, *(published(n) for n in range(500)))
    assert table.holds() == {"ports": [f'[{{"concat": ["tcp", {n}]}}, {{"concat": ["172.17.0.9", 80]}}]' for n in (17, 400)]}
    table.remove(*theirs)
    assert table.holds() == {}
    sh(f"nft delete table {table.family} probe")
    table.remove(*ONE_OF_EACH)
    with pytest.raises(KernelError, match="no such file or directory"):
        table.add(ONE_OF_EACH[0])


def test_ten_thousand_ports_in_one_transaction(table: Table) -> None:
    many = [published(number) for number in range(1, 10_001)]
    udp = [Element("ports", (proto("udp"), port(number)), (ipv4("172.17.0.2"), port(80))) for number in range(1, 10_001)]
    table.add(*many)
    assert len(table.holds()["ports"]) == 10_000
    with pytest.raises(KernelError) as failure:
        table.add(*udp, published(10_000, "172.17.0.9"))
    assert failure.value.errno == errno.EEXIST
    assert len(table.holds()["ports"]) == 10_000
    nfset.change(table.family, "probe", udp, many[:9_000])
    assert len(table.holds()["ports"]) == 11_000
    table.remove(*many, *udp)
    assert table.holds() == {}


def test_a_send_that_has_no_room_says_so(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a user namespace, where root gets no more than net.core.wmem_max: an error that can be read, no hang."""
    monkeypatch.setattr(Socket, "_make_room", lambda *_: None)
    many = nfset.batch(table.family, "probe", [published(number) for number in range(1, 10_001)], [])
    with Socket(protocol=netlink.NETLINK_NETFILTER) as netfilter, \
            pytest.raises(KernelError, match=rf"^change nftables table `{table.family} probe`: message too long"):
        netfilter.transaction(many)
    assert table.holds() == {}


def elsewhere(program: str, *before: str) -> str:
    """What a process of its own prints that adds `elements` to the table `inet probe` after `program`."""
    whole = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from minidocker.errors import KernelError
from minidocker.kernel.nfset import Element, change, ifname, ipv4, port, proto
{program}
try: change("inet", "probe", elements)
except KernelError as error: print(error)
"""
    return subprocess.run([*before, sys.executable, "-c", whole], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("table", ["inet"], indirect=True)
def test_who_may_not_is_told(table: Table) -> None:
    said = elsewhere("import os; os.setgroups([]); os.setgid(65534); os.setuid(65534); elements = [Element('bridges', (ifname('x'),))]")
    assert said == "change nftables table `inet probe`: operation not permitted\n"
    assert table.holds() == {}


def test_root_of_a_user_namespace_has_room_for_five_thousand() -> None:
    """SO_SNDBUFFORCE is refused there; what net.core.wmem_max lets through is no less than twice what a socket begins with."""
    said = elsewhere(f"""
import os, subprocess
subprocess.run(["nft", "-f", "-"], input={f"table inet probe {{{SETS}}}"!r}, text=True, check=True)
elements = [Element("ports", (proto("tcp"), port(number)), (ipv4("172.17.0.2"), port(80))) for number in range(5000)]
change("inet", "probe", elements)
print(subprocess.run(["nft", "list", "map", "inet", "probe", "ports"], capture_output=True, text=True).stdout.count("172.17.0.2"))
""", "unshare", "--user", "--map-root-user", "--net")
    assert said == "5000\n"


def test_a_transaction_that_nobody_answers_is_no_success(table: Table) -> None:
    quiet = nfset.batch(table.family, "probe", ONE_OF_EACH, [])[:1]  # nothing in it asks for an acknowledgement
    with Socket(protocol=netlink.NETLINK_NETFILTER) as netfilter, pytest.raises(KernelError, match="no answer"):
        netfilter.transaction(quiet)


@pytest.mark.parametrize("table", ["inet"], indirect=True)
def test_the_socket_is_one_for_each_process_and_network_namespace(table: Table) -> None:
    kept = netlink.netfilter()
    with pytest.raises(KernelError):
        table.add(Element("absent", (port(1),)), Element("absent6", (port(1),)))
    table.add(*ONE_OF_EACH)
    assert netlink.netfilter() is kept
    for flags, answer in ((0, "True True"), (pretend.CLONE_NEWNET, "True False")):
        received, sent = os.pipe()
        pid = os.fork()
        if pid == 0:
            if flags:
                libc.unshare(flags)
            own = netlink.netfilter()
            nfset.remove("inet", "probe", ONE_OF_EACH[:1])
            os.write(sent, f"{own is not kept} {nftables.table_exists('inet', 'probe')}".encode())
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert os.read(received, 100).decode() == answer
        os.close(received)
        os.close(sent)
    assert len(table.holds()["bridges"]) == 1
    table.remove(*ONE_OF_EACH)
    assert netlink.netfilter() is kept
