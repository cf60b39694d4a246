"""Netlink against the kernel: batches, errors by name with the kernel's own words, sockets in other namespaces, dumps, nft."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from minidocker.errors import KernelError, UnsupportedError
from minidocker.kernel import nftables
from minidocker.kernel import rtnetlink as rt
from minidocker.kernel.netlink import Message, Socket
from minidocker.kernel.nftables import NftError
from minidocker.network.ipam import Occupied, overlap
from minidocker.network.occupied import nameservers, occupied
from tests import pretend
from tests.pretend import sh

MAC, PEER_MAC = "06:42:0a:00:00:02", "02:42:0a:00:00:02"


@pytest.fixture
def bridge() -> Iterator[rt.Link]:
    with Socket() as netlink:
        netlink.batch([rt.bridge_create("brt", MAC)])
        yield rt.Link(netlink.get(rt.link_get("brt")))
    sh("ip link del brt", check=False)


@pytest.fixture
def elsewhere() -> Iterator[int]:
    sh("ip netns add elsewhere")
    fd = os.open("/run/netns/elsewhere", os.O_RDONLY)
    yield fd
    os.close(fd)
    sh("ip netns del elsewhere")


def test_the_first_failure_is_named_and_the_rest_was_worked_through(bridge: rt.Link) -> None:
    with Socket() as netlink:
        with pytest.raises(KernelError) as failure:
            netlink.batch([
                rt.address_add(bridge.index, "10.0.0.1", 24),
                rt.neighbour_delete(bridge.index, "10.0.0.9"),
                rt.link_delete(999999, "gone"),
                rt.address_add(bridge.index, "10.0.1.1", 24),
            ])
        assert str(failure.value) == "delete neighbour `10.0.0.9`: no such file or directory"
        assert failure.value.errno == errno.ENOENT
        assert [a["local"] for a in pretend.ip("-4 addr show brt")[0]["addr_info"]] == ["10.0.0.1", "10.0.1.1"]  # type: ignore[attr-defined]
        netlink.batch([rt.neighbour_delete(bridge.index, "10.0.0.9")], tolerate=(errno.ENOENT,))
        assert rt.Link(netlink.get(rt.link_get("brt"))).index == bridge.index  # nothing stale is left in the socket


def test_the_kernels_own_words_are_in_the_error(bridge: rt.Link) -> None:
    with Socket() as netlink, pytest.raises(KernelError, match=r"^add the default route via `10\.9\.9\.9`: network is unreachable \(.+\)$"):
        netlink.batch([rt.link_set(bridge.index, up=True), rt.default_route_add(bridge.index, "10.9.9.9")])


def test_a_batch_larger_than_one_send(bridge: rt.Link) -> None:
    with Socket() as netlink:
        netlink.batch([rt.neighbour_add(bridge.index, f"10.0.{n // 250}.{n % 250}", PEER_MAC) for n in range(500)])
    assert len(pretend.ip("neigh show nud permanent dev brt")) == 500


def test_no_such_link() -> None:
    with Socket() as netlink, pytest.raises(KernelError, match="^look up link `nowhere`: no such device"):
        netlink.get(rt.link_get("nowhere"))


def test_a_junk_message_is_an_error_not_a_hang() -> None:
    with Socket() as netlink, pytest.raises(KernelError):
        netlink.batch([Message.build("send junk", rt.RTM_NEWLINK, 0x4, b"\1")])


def test_a_veth_straight_into_another_namespace(bridge: rt.Link, elsewhere: int) -> None:
    here = os.stat("/proc/thread-self/ns/net").st_ino
    with Socket() as netlink:
        netlink.batch([rt.veth_create("vt0", MAC, 1400, bridge.index, "eth0", PEER_MAC, elsewhere)])
    with Socket(elsewhere) as there:
        assert os.stat("/proc/thread-self/ns/net").st_ino == here
        link = rt.Link(there.get(rt.link_get("eth0")))
        assert (link.mac, link.mtu, link.kind, link.flags & rt.IFF_UP) == (PEER_MAC, 1400, "veth", 0)
        assert [rt.Link(body).name for body in there.dump(rt.links_dump())] == ["lo", "eth0"]
    near = pretend.ip("link show vt0")[0]
    assert (near["address"], near["mtu"], near["master"]) == (MAC, 1400, "brt")


def test_dumps_are_what_pyroute2_finds(bridge: rt.Link) -> None:
    sh("""ip link set brt up; ip addr add 10.7.0.1/24 dev brt; ip route add 10.8.0.0/16 dev brt table 1000
          ip route add unreachable 172.16.0.0/12; ip rule add to 10.66.0.0/16 lookup 77""")
    try:
        with IPRoute() as oracle, Socket() as netlink:
            links = {(link.index, link.name, link.mac) for link in map(rt.Link, netlink.dump(rt.links_dump()))}
            assert links == {(m["index"], m.get("ifname"), m.get("address") or "") for m in oracle.get_links()}
            addresses = {(a.ip, a.prefix, a.index) for a in map(rt.Address, netlink.dump(rt.addresses_dump()))}
            assert addresses == {(m.get("local"), m["prefixlen"], m["index"]) for m in oracle.get_addr(family=2)}
            routes = {(r.destination, r.prefix, r.table, r.gateway) for r in map(rt.Route, netlink.dump(rt.routes_dump()))}
            assert routes == {(m.get("dst") or "0.0.0.0", m["dst_len"], m.get("table"), m.get("gateway") or "")
                              for m in oracle.get_routes(family=2)}
            rules = {(r.destination, r.prefix, r.table) for r in map(rt.Rule, netlink.dump(rt.rules_dump()))}
            assert rules == {(m.get("dst") or "0.0.0.0", m["dst_len"], m.get("table")) for m in oracle.get_rules(family=2)}
    finally:
        sh("ip route del unreachable 172.16.0.0/12; ip rule del to 10.66.0.0/16 lookup 77")


def test_what_is_occupied_is_named(bridge: rt.Link, tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text("nameserver 10.44.0.53\nnameserver fe80::1%eth0\nsearch x\n")
    with pretend.outside():
        sh("""ip link set brt up; ip addr add 172.18.0.1/16 dev brt; ip route add 10.8.0.0/16 via 192.0.2.2 table 1000
              ip route add unreachable 172.24.0.0/13; ip route add 0.0.0.0/1 dev lan0; ip rule add to 10.66.0.0/16 lookup 77""")
        try:
            found = occupied(str(tmp_path / "resolv.conf"))
        finally:
            sh("ip route del unreachable 172.24.0.0/13; ip rule del to 10.66.0.0/16 lookup 77; ip route flush table 1000")
    assert overlap("172.18.5.0/24", found) == "route 172.18.0.0/16 dev brt"
    assert overlap("10.8.3.0/24", found) == "route 10.8.0.0/16 via 192.0.2.2 dev lan0 table 1000"
    assert overlap("172.25.0.0/24", found) == "unreachable route 172.24.0.0/13"
    assert overlap("10.66.1.0/24", found) == "rule to 10.66.0.0/16 lookup 77"
    assert overlap("10.44.0.0/24", found) == "nameserver 10.44.0.53"
    assert overlap("192.0.2.0/25", found) == "route 192.0.2.0/24 dev lan0"
    assert overlap("172.17.0.0/24", found) == ""  # neither the default route nor a VPN's half of it


def test_nameservers() -> None:
    assert nameservers("nameserver 1.2.3.4\n#nameserver 5.6.7.8\nnameserver\nnameserver ::1\n nameserver 9.9.9.9 # x\n") == [
        "1.2.3.4", "9.9.9.9"]
    assert occupied("/nonexistent") is not None
    assert Occupied("10.0.0.0/8", "x").owner == "x"


# ---- nftables

@pytest.fixture
def table() -> Iterator[str]:
    nftables.apply("add table inet probe\n")
    yield "probe"
    sh("nft delete table inet probe", check=False)


def test_a_table_is_found_without_nft(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nftables, "_nft", lambda *_: pytest.fail("nft was run"))
    assert nftables.table_exists("inet", table)
    assert not nftables.table_exists("ip", table)
    assert not nftables.table_exists("inet", "absent")


def test_a_script_is_one_transaction(table: str) -> None:
    with pytest.raises(NftError) as failure:
        nftables.apply(f"add chain inet {table} one\nadd rule inet {table} absent accept\n")
    assert str(failure.value) == "change nftables: Could not process rule: No such file or directory"
    assert "one" not in nftables.list_table("inet", table)


def test_a_clash_is_known_from_other_errors(table: str) -> None:
    nftables.apply(f"add map inet {table} m {{ type inet_service : ipv4_addr; elements = {{ 1 : 10.0.0.1 }}; }}\n")
    with pytest.raises(NftError) as failure:
        nftables.apply(f"add element inet {table} m {{ 1 : 10.0.0.2 }}\n")
    assert failure.value.clash
    with pytest.raises(NftError) as failure:
        nftables.apply(f"add element inet {table} absent {{ 1 : 10.0.0.2 }}\n")
    assert not failure.value.clash


def test_a_large_script_and_a_large_listing(table: str) -> None:
    nftables.apply(f"add set inet {table} s {{ type inet_service; }}\n" +
                   "".join(f"add element inet {table} s {{ {n} }}\n" for n in range(1, 10001)))
    sets = [item["set"] for item in nftables.list_table_json("inet", table) if "set" in item]
    assert len(sets[0]["elem"]) == 10000


def test_without_nft(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    nftables.apply("")  # found in /usr/sbin all the same
    monkeypatch.setattr(nftables, "_SBIN", ())
    with pytest.raises(UnsupportedError, match="the program `nft` is missing") as failure:
        nftables.apply("")
    assert failure.value.hint == "apt-get install nftables"


def test_the_hot_modules_import_nothing_dear() -> None:
    program = f"""import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})
import minidocker.network.endpoint, minidocker.network.names, minidocker.network.publish; print(*sys.modules)"""
    loaded = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True).stdout.split()
    dear = {"pyroute2", "click", "re", "enum", "typing", "socket", "json", "subprocess", "collections", "contextlib", "ipaddress"}
    assert not dear & set(loaded)
