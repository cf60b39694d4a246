"""Netlink against the kernel: batches, errors by name with the kernel's own words, sockets in other namespaces, dumps, nft."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from _socket import AF_INET, AF_INET6, AF_UNSPEC
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from minidocker.errors import KernelError, UnsupportedError
from minidocker.kernel import libc, nftables
from minidocker.kernel import rtnetlink as rt
from minidocker.kernel.netlink import Message, Socket
from minidocker.kernel.nftables import NftError
from minidocker.network.ipam import Occupied, overlap
from minidocker.network.occupied import nameservers, occupied, occupied6
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
    with Socket() as netlink, pytest.raises(KernelError, match=r"^set the default route to `10\.9\.9\.9`: network is unreachable \(.+\)$"):
        netlink.batch([rt.link_set(bridge.index, up=True), rt.default_route(bridge.index, "10.9.9.9")])


@pytest.mark.parametrize(("family", "network", "prefix"), [(4, "10.7.0.", 24), (6, "fd00:7::", 64)])
def test_a_default_route_takes_the_place_of_another(bridge: rt.Link, family: int, network: str, prefix: int) -> None:
    sh("sysctl -q -w net.ipv6.conf.brt.disable_ipv6=0")
    with Socket() as netlink:
        netlink.batch([rt.link_set(bridge.index, up=True), rt.address_add(bridge.index, f"{network}1", prefix)])
        for gateway in (f"{network}2", f"{network}3"):
            netlink.batch([rt.default_route(bridge.index, gateway)])
            assert [(route["gateway"], route["dev"]) for route in pretend.ip(f"-{family} route show default")] == [(gateway, "brt")]


def test_an_ipv6_address_is_of_use_at_once(bridge: rt.Link) -> None:
    sh("sysctl -q -w net.ipv6.conf.brt.disable_ipv6=0")
    with Socket() as netlink:
        netlink.batch([rt.link_set(bridge.index, up=True), rt.address_add(bridge.index, "fd00:7::1", 64),
                       rt.neighbour_add(bridge.index, "fd00:7::2", PEER_MAC)])  # fmt: skip
        [address] = [a for a in pretend.ip("-6 addr show brt")[0]["addr_info"] if a["scope"] == "global"]  # type: ignore[attr-defined]
        assert (address["local"], address["prefixlen"], address.get("nodad"), address.get("tentative")) == ("fd00:7::1", 64, True, None)
        assert [(n["dst"], n["lladdr"]) for n in pretend.ip("-6 neigh show nud permanent dev brt")] == [("fd00:7::2", PEER_MAC)]
        netlink.batch([rt.neighbour_delete(bridge.index, "fd00:7::2")])
        assert pretend.ip("-6 neigh show nud permanent dev brt") == []


def test_a_link_goes_into_another_namespace_with_another_name(bridge: rt.Link, elsewhere: int) -> None:
    sh("ip link add vt0 type veth peer name vt1 && ip link set vt0 up")
    try:
        with Socket() as netlink, Socket(elsewhere) as there:
            netlink.batch([rt.link_move(rt.Link(netlink.get(rt.link_get("vt0"))).index, "eth0", PEER_MAC, elsewhere)])
            link = rt.Link(there.get(rt.link_get("eth0")))
            assert (link.mac, link.kind, link.flags & rt.IFF_UP) == (PEER_MAC, "veth", 0)
            with pytest.raises(KernelError, match="no such device"):
                netlink.get(rt.link_get("vt0"))
    finally:
        sh("ip link del vt1")


@pytest.mark.parametrize("mode", ["bridge", "private", "vepa"])
def test_a_macvlan_straight_into_another_namespace(elsewhere: int, mode: str) -> None:
    sh("ip link add vt0 mtu 1400 type veth peer name vt1 && ip link set vt0 up && ip link set vt1 up")
    try:
        with Socket() as netlink:
            parent = rt.Link(netlink.get(rt.link_get("vt0"))).index
            netlink.batch([rt.macvlan_create(parent, mode, "eth0", PEER_MAC, 0, elsewhere),
                           rt.macvlan_create(parent, mode, "eth1", MAC, 1300, elsewhere)])  # fmt: skip
        made = {str(link["ifname"]): link for link in pretend.ip("-n", "elsewhere", "link")}
        assert [(made[name]["address"], made[name]["mtu"], made[name]["linkinfo"]["info_data"]["mode"]) for name in ("eth0", "eth1")] == [  # type: ignore[index]
            (PEER_MAC, 1400, mode), (MAC, 1300, mode)]
    finally:
        sh("ip link del vt0")


def test_isolated_ports_of_a_bridge(bridge: rt.Link) -> None:
    sh("ip link add vt0 master brt type veth peer name vt1 && ip link add vt2 master brt type veth peer name vt3")
    try:
        with Socket() as netlink:
            netlink.batch([rt.link_set("vt0", isolated=True, hairpin=True), rt.link_set("vt2", isolated=False)])
        for name, isolated in (("vt0", True), ("vt2", False)):
            data = pretend.ip(f"link show {name}")[0]["linkinfo"]["info_slave_data"]  # type: ignore[index]
            assert (data["isolated"], data["hairpin"]) == (isolated, isolated)
    finally:
        sh("ip link del vt0; ip link del vt2")


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


def test_the_way_home_is_tried_again(elsewhere: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who stayed in the other namespace would do there what he does next."""
    home = os.stat("/proc/thread-self/ns/net").st_ino
    met: list[int] = []

    def setns(namespace: int, kind: int, real: Callable[[int, int], int] = libc.setns) -> int:
        if os.fstat(namespace).st_ino == home and not met:
            met.append(namespace)
            raise OSError(errno.ENOMEM, "no memory")
        return real(namespace, kind)

    monkeypatch.setattr(libc, "setns", setns)
    with Socket(elsewhere):
        pass
    assert met and os.stat("/proc/thread-self/ns/net").st_ino == home


def test_dumps_are_what_pyroute2_finds(bridge: rt.Link) -> None:
    sh("""sysctl -q -w net.ipv6.conf.brt.disable_ipv6=0 net.ipv6.conf.brt.accept_dad=0
          ip link set brt up; ip addr add 10.7.0.1/24 dev brt; ip route add 10.8.0.0/16 dev brt table 1000
          ip route add unreachable 172.16.0.0/12; ip rule add to 10.66.0.0/16 lookup 77
          ip addr add fd00:7::1/64 dev brt; ip route add fd00:8::/32 dev brt table 1000; ip -6 route add default via fd00:7::2
          ip route add unreachable fd00:9::/64; ip -6 rule add to fd00:66::/32 lookup 77""")
    try:
        with IPRoute() as oracle, Socket() as netlink:
            links = {(link.index, link.name, link.mac) for link in map(rt.Link, netlink.dump(rt.links_dump()))}
            assert links == {(m["index"], m.get("ifname"), m.get("address") or "") for m in oracle.get_links()}
            for family, every, known in ((AF_INET, "0.0.0.0", "10.7.0.1"), (AF_INET6, "::", "fd00:7::1")):
                addresses = {(a.ip, a.prefix, a.index) for a in map(rt.Address, netlink.dump(rt.addresses_dump(family)))}
                assert addresses == {(m.get("local") or m.get("address"), m["prefixlen"], m["index"])
                                     for m in oracle.get_addr(family=family)}
                assert known in {ip for ip, _, _ in addresses}
                routes = {(r.destination, r.prefix, r.table, r.gateway) for r in map(rt.Route, netlink.dump(rt.routes_dump(family)))}
                assert routes == {(m.get("dst") or every, m["dst_len"], m.get("table"), m.get("gateway") or "")
                                  for m in oracle.get_routes(family=family)}
                assert 1000 in {table for _, _, table, _ in routes}
                rules = {(r.destination, r.prefix, r.table) for r in map(rt.Rule, netlink.dump(rt.rules_dump(family)))}
                assert rules == {(m.get("dst") or every, m["dst_len"], m.get("table")) for m in oracle.get_rules(family=family)}
                assert 77 in {table for _, _, table in rules}
            both = {rt.Address(body).ip for body in netlink.dump(rt.addresses_dump(AF_UNSPEC))}
            assert both >= {"10.7.0.1", "fd00:7::1"}
    finally:
        sh("ip route del unreachable 172.16.0.0/12; ip rule del to 10.66.0.0/16 lookup 77; "
           "ip -6 route del unreachable fd00:9::/64; ip -6 rule del to fd00:66::/32 lookup 77")


def test_what_is_occupied_is_named(bridge: rt.Link, tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text("nameserver 10.44.0.53\nnameserver fe80::1%eth0\nsearch x\n")
    with pretend.outside():
        sh("""ip link set brt up; ip addr add 172.18.0.1/16 dev brt; ip route add 10.8.0.0/16 via 192.0.2.2 table 1000
              ip route add unreachable 172.24.0.0/13; ip route add 0.0.0.0/1 dev lan0; ip rule add to 10.66.0.0/16 lookup 77""")
        try:
            found = occupied((str(tmp_path / "absent"), str(tmp_path / "resolv.conf")))
            without = occupied((), "lan0")
        finally:
            sh("ip route del unreachable 172.24.0.0/13; ip rule del to 10.66.0.0/16 lookup 77; ip route flush table 1000")
    assert overlap("172.18.5.0/24", found) == "route 172.18.0.0/16 dev brt"
    assert overlap("10.8.3.0/24", found) == "route 10.8.0.0/16 via 192.0.2.2 dev lan0 table 1000"
    assert overlap("172.25.0.0/24", found) == "unreachable route 172.24.0.0/13"
    assert overlap("10.66.1.0/24", found) == "rule to 10.66.0.0/16 lookup 77"
    assert overlap("10.44.0.0/24", found) == "nameserver 10.44.0.53"
    assert overlap("192.0.2.0/25", found) == "route 192.0.2.0/24 dev lan0"
    assert overlap("172.17.0.0/24", found) == ""  # neither the default route nor a VPN's half of it
    assert overlap("192.0.2.0/25", without) == "", "what is on a macvlan's own parent"
    assert overlap("172.18.5.0/24", without) == "route 172.18.0.0/16 dev brt"
    assert overlap("10.44.0.0/24", without) == ""
    assert all(":" not in entry.subnet for entry in found)


def test_what_is_occupied_of_ipv6_is_named(bridge: rt.Link) -> None:
    sh("""sysctl -q -w net.ipv6.conf.brt.disable_ipv6=0 net.ipv6.conf.brt.accept_dad=0
          ip link set brt up; ip addr add fd00:18::1/48 dev brt
          ip -6 route add 2001:db8::/32 via fd00:18::2 table 1000; ip -6 route add unreachable fd00:24::/32
          ip -6 route add default via fd00:18::2; ip -6 route add 2000::/3 dev brt; ip -6 rule add to fd00:66::/32 lookup 77""")
    try:
        found = occupied6()
    finally:
        sh("ip -6 route del unreachable fd00:24::/32; ip -6 rule del to fd00:66::/32 lookup 77; ip -6 route flush table 1000")
    assert overlap("fd00:18:0:5::/64", found) == "route fd00:18::/48 dev brt"
    assert overlap("2001:db8:9::/64", found) == "route 2001:db8::/32 via fd00:18::2 dev brt table 1000"
    assert overlap("fd00:24:1::/64", found).startswith("unreachable route fd00:24::/32")
    assert overlap("fd00:66:1::/64", found) == "rule to fd00:66::/32 lookup 77"
    assert overlap("fd00:99::/64", found) == overlap("2001:db9::/64", found) == ""  # neither the default route nor the half of it
    assert all(":" in entry.subnet and not entry.subnet.startswith(("fe80:", "ff", "::1/")) for entry in found)


def test_nameservers() -> None:
    assert nameservers("nameserver 1.2.3.4\n#nameserver 5.6.7.8\nnameserver\nnameserver ::1\n nameserver 9.9.9.9 # x\n") == [
        "1.2.3.4", "9.9.9.9"]
    assert occupied(("/nonexistent",)) is not None
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


def test_a_chain_is_found_without_nft(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nftables.apply(f"add chain inet {table} one\n")
    monkeypatch.setattr(nftables, "_nft", lambda *_: pytest.fail("nft was run"))
    assert nftables.chain_exists("inet", table, "one")
    assert not nftables.chain_exists("inet", table, "two")
    assert not nftables.chain_exists("ip", table, "one") and not nftables.chain_exists("inet", "absent", "one")


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
import minidocker.network.endpoint, minidocker.network.names, minidocker.network.publish, minidocker.network.inside; print(*sys.modules)"""
    loaded = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True).stdout.split()
    dear = {"pyroute2", "click", "re", "enum", "typing", "socket", "json", "subprocess", "collections", "contextlib", "ipaddress"}
    assert not dear & set(loaded)
