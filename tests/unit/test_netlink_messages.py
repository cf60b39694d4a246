"""Our messages byte for byte against pyroute2's marshalling, and what we read against what it would send."""

from __future__ import annotations

import errno
import sys
from _struct import pack
from socket import AF_INET, AF_INET6, AF_UNSPEC

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink import NLA_F_NESTED, nlmsg
from pyroute2.netlink.nfnetlink.nftsocket import nft_chain_msg, nft_table_msg
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from minidocker.kernel import netlink, nftables
from minidocker.kernel import rtnetlink as rt

REQUEST, ACK, REPLACE, EXCL, CREATE, DUMP = 0x1, 0x4, 0x100, 0x200, 0x400, 0x300
NODAD = 0x02  # IFA_F_NODAD, linux/if_addr.h
MAC, PEER_MAC = "06:42:ac:11:00:02", "02:42:ac:11:00:02"


def marshalled(kind: type[nlmsg], type_: int, header_flags: int, attrs: list[object] | None = None, /, **fields: object) -> bytes:
    """The message as pyroute2 puts it on the wire."""
    message = kind()
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = attrs or []
    message["header"]["type"] = type_
    message["header"]["flags"] = header_flags | REQUEST
    message.encode()
    return bytes(message.data)


MTU_1450 = ("IFLA_MTU", 1450)
CASES = [
    (rt.link_get("br0"), marshalled(ifinfmsg, 18, 0, [("IFLA_EXT_MASK", 8), ("IFLA_IFNAME", "br0")])),
    (rt.link_get_index(7), marshalled(ifinfmsg, 18, 0, [("IFLA_EXT_MASK", 8)], index=7)),
    (
        rt.veth_create("md01234567f", MAC, 1450, 9, "eth0", PEER_MAC, 5),
        marshalled(ifinfmsg, 16, ACK | CREATE | EXCL, [
            ("IFLA_IFNAME", "md01234567f"), ("IFLA_ADDRESS", MAC), MTU_1450, ("IFLA_MASTER", 9),
            ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", {"attrs": [("VETH_INFO_PEER", {
                "attrs": [("IFLA_IFNAME", "eth0"), ("IFLA_ADDRESS", PEER_MAC), MTU_1450, ("IFLA_NET_NS_FD", 5)]})]})]})]),
    ),
    (
        rt.bridge_create("br0", MAC),
        marshalled(ifinfmsg, 16, ACK | CREATE | EXCL, [
            ("IFLA_IFNAME", "br0"), ("IFLA_ADDRESS", MAC), ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "bridge")]})]),
    ),
    (
        rt.link_set("md0", alias="minidocker:t:i", mtu=1450),
        marshalled(ifinfmsg, 16, ACK, [("IFLA_IFNAME", "md0"), ("IFLA_IFALIAS", "minidocker:t:i"), MTU_1450]),
    ),
    (
        rt.link_set("br0", alias="minidocker:t:i", mtu=1450, group=27748),
        marshalled(ifinfmsg, 16, ACK, [("IFLA_IFNAME", "br0"), ("IFLA_IFALIAS", "minidocker:t:i"), MTU_1450, ("IFLA_GROUP", 27748)]),
    ),
    (rt.link_set(3, up=True), marshalled(ifinfmsg, 16, ACK, index=3, flags=1, change=1)),
    (rt.link_set(3, up=False), marshalled(ifinfmsg, 16, ACK, index=3, flags=0, change=1)),
    (
        rt.link_set(3, hairpin=True),
        marshalled(ifinfmsg, 16, ACK, [("IFLA_LINKINFO", {"attrs": [
            ("IFLA_INFO_SLAVE_KIND", "bridge"), ("IFLA_INFO_SLAVE_DATA", {"attrs": [("IFLA_BRPORT_MODE", 1)]})]})], index=3),
    ),
    (
        rt.link_set(3, no_link_local=True),
        marshalled(ifinfmsg, 16, ACK, [("IFLA_AF_SPEC", {"attrs": [("AF_INET6", {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", 1)]})]})], index=3),
    ),
    (
        rt.link_set("md0.1", alias="minidocker:t:i", no_link_local=True, isolated=True),
        marshalled(ifinfmsg, 16, ACK, [
            ("IFLA_IFNAME", "md0.1"), ("IFLA_IFALIAS", "minidocker:t:i"),
            ("IFLA_AF_SPEC", {"attrs": [("AF_INET6", {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", 1)]})]}),
            ("IFLA_LINKINFO", {"attrs": [
                ("IFLA_INFO_SLAVE_KIND", "bridge"), ("IFLA_INFO_SLAVE_DATA", {"attrs": [("IFLA_BRPORT_ISOLATED", 1)]})]})]),
    ),
    (
        rt.link_set(3, hairpin=True, isolated=True),
        marshalled(ifinfmsg, 16, ACK, [("IFLA_LINKINFO", {"attrs": [
            ("IFLA_INFO_SLAVE_KIND", "bridge"),
            ("IFLA_INFO_SLAVE_DATA", {"attrs": [("IFLA_BRPORT_MODE", 1), ("IFLA_BRPORT_ISOLATED", 1)]})]})], index=3),
    ),
    (
        rt.veth_create("md01234567f.1", MAC, 1450, 0, "eth1", PEER_MAC, 5),
        marshalled(ifinfmsg, 16, ACK | CREATE | EXCL, [
            ("IFLA_IFNAME", "md01234567f.1"), ("IFLA_ADDRESS", MAC), MTU_1450,
            ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", {"attrs": [("VETH_INFO_PEER", {
                "attrs": [("IFLA_IFNAME", "eth1"), ("IFLA_ADDRESS", PEER_MAC), MTU_1450, ("IFLA_NET_NS_FD", 5)]})]})]})]),
    ),
    *((
        rt.macvlan_create(7, mode, "eth0", PEER_MAC, mtu, 5),
        marshalled(ifinfmsg, 16, ACK | CREATE | EXCL, [
            ("IFLA_IFNAME", "eth0"), ("IFLA_ADDRESS", PEER_MAC), *([("IFLA_MTU", mtu)] if mtu else []), ("IFLA_LINK", 7),
            ("IFLA_NET_NS_FD", 5), ("IFLA_LINKINFO", {"attrs": [
                ("IFLA_INFO_KIND", "macvlan"), ("IFLA_INFO_DATA", {"attrs": [("IFLA_MACVLAN_MODE", mode)]})]})]),
    ) for mode, mtu in (("bridge", 0), ("private", 1450), ("vepa", 9000))),
    (
        rt.link_move(7, "eth0", PEER_MAC, 5),
        marshalled(ifinfmsg, 16, ACK, [("IFLA_IFNAME", "eth0"), ("IFLA_ADDRESS", PEER_MAC), ("IFLA_NET_NS_FD", 5)], index=7),
    ),
    (rt.link_delete(4, "br0"), marshalled(ifinfmsg, 17, ACK, index=4)),
    (
        rt.address_add(3, "172.17.0.1", 24),
        marshalled(ifaddrmsg, 20, ACK | CREATE | EXCL, [("IFA_LOCAL", "172.17.0.1"), ("IFA_ADDRESS", "172.17.0.1")],
                   family=AF_INET, prefixlen=24, index=3),
    ),
    (
        rt.address_add(3, "fd00:9::1", 64),
        marshalled(ifaddrmsg, 20, ACK | CREATE | EXCL, [("IFA_LOCAL", "fd00:9::1"), ("IFA_ADDRESS", "fd00:9::1")],
                   family=AF_INET6, prefixlen=64, index=3, flags=NODAD),
    ),
    (
        rt.default_route(3, "172.17.0.1"),
        marshalled(rtmsg, 24, ACK | CREATE | REPLACE, [("RTA_GATEWAY", "172.17.0.1"), ("RTA_OIF", 3)],
                   family=AF_INET, table=254, proto=3, scope=0, type=1),
    ),
    (
        rt.default_route(3, "fd00:9::1"),
        marshalled(rtmsg, 24, ACK | CREATE | REPLACE, [("RTA_GATEWAY", "fd00:9::1"), ("RTA_OIF", 3)],
                   family=AF_INET6, table=254, proto=3, scope=0, type=1),
    ),
    (
        rt.neighbour_add(3, "172.17.0.2", PEER_MAC),
        marshalled(ndmsg, 28, ACK | CREATE | REPLACE, [("NDA_DST", "172.17.0.2"), ("NDA_LLADDR", PEER_MAC)],
                   family=AF_INET, ifindex=3, state=0x80),
    ),
    (
        rt.neighbour_add(3, "fd00:9::2", PEER_MAC),
        marshalled(ndmsg, 28, ACK | CREATE | REPLACE, [("NDA_DST", "fd00:9::2"), ("NDA_LLADDR", PEER_MAC)],
                   family=AF_INET6, ifindex=3, state=0x80),
    ),
    (rt.neighbour_delete(3, "172.17.0.2"), marshalled(ndmsg, 29, ACK, [("NDA_DST", "172.17.0.2")], family=AF_INET, ifindex=3)),
    (rt.neighbour_delete(3, "fd00:9::2"), marshalled(ndmsg, 29, ACK, [("NDA_DST", "fd00:9::2")], family=AF_INET6, ifindex=3)),
    (rt.links_dump(), marshalled(ifinfmsg, 18, DUMP, [("IFLA_EXT_MASK", 8)])),
    (rt.addresses_dump(), marshalled(ifaddrmsg, 22, DUMP, family=AF_INET)),
    (rt.routes_dump(), marshalled(rtmsg, 26, DUMP, family=AF_INET)),
    (rt.rules_dump(), marshalled(fibmsg, 34, DUMP, family=AF_INET)),
    (rt.addresses_dump(AF_INET6), marshalled(ifaddrmsg, 22, DUMP, family=AF_INET6)),
    (rt.addresses_dump(AF_UNSPEC), marshalled(ifaddrmsg, 22, DUMP, family=AF_UNSPEC)),
    (rt.routes_dump(AF_INET6), marshalled(rtmsg, 26, DUMP, family=AF_INET6)),
    (rt.rules_dump(AF_INET6), marshalled(fibmsg, 34, DUMP, family=AF_INET6)),
    (
        nftables.table_get("inet", "minidocker_ab"),
        marshalled(nft_table_msg, 10 << 8 | 1, 0, [("NFTA_TABLE_NAME", "minidocker_ab")], nfgen_family=1, version=0, res_id=0),
    ),
    (
        nftables.chain_get("ip", "filter", "DOCKER-USER"),
        marshalled(nft_chain_msg, 10 << 8 | 4, 0, [("NFTA_CHAIN_TABLE", "filter"), ("NFTA_CHAIN_NAME", "DOCKER-USER")],
                   nfgen_family=2, version=0, res_id=0),
    ),
]


def without_nested_flag(message: bytes) -> bytes:
    """pyroute2 marks some nests with NLA_F_NESTED and some not; to the kernel it is the same (it only looks at it where it is strict)."""
    return message.replace(pack("=H", AF_INET6 | NLA_F_NESTED), pack("=H", AF_INET6))


@pytest.mark.parametrize(("ours", "theirs"), CASES, ids=[case[0].what for case in CASES])
def test_bytes_are_pyroute2s(ours: netlink.Message, theirs: bytes) -> None:
    assert without_nested_flag(ours).hex(" ", 4) == without_nested_flag(theirs).hex(" ", 4)


def test_a_link_is_read() -> None:
    body = marshalled(ifinfmsg, 16, 0, [
        ("IFLA_IFNAME", "br0"), ("IFLA_ADDRESS", MAC), MTU_1450, ("IFLA_MASTER", 9), ("IFLA_IFALIAS", "minidocker:t:i"),
        ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "bridge")]})], index=7, flags=1)[16:]
    link = rt.Link(body)
    assert (link.index, link.name, link.mac, link.mtu, link.master, link.alias, link.kind, link.flags) == (
        7, "br0", MAC, 1450, 9, "minidocker:t:i", "bridge", 1)


def test_a_bare_link_is_read() -> None:
    link = rt.Link(marshalled(ifinfmsg, 16, 0, [("IFLA_IFNAME", "lo")], index=1)[16:])
    assert (link.name, link.alias, link.kind, link.master) == ("lo", "", "", 0)


@pytest.mark.parametrize(("kind", "attrs", "expected"), [
    (1, [("RTA_DST", "10.0.0.0"), ("RTA_OIF", 4), ("RTA_TABLE", 1000)], ("10.0.0.0", 1000, "unicast", [4], "", 0)),
    (7, [("RTA_DST", "172.16.0.0")], ("172.16.0.0", 254, "unreachable", [], "", 0)),
    (1, [("RTA_GATEWAY", "192.0.2.2"), ("RTA_OIF", 3), ("RTA_PRIORITY", 9)], ("0.0.0.0", 254, "unicast", [3], "192.0.2.2", 9)),
    (1, [("RTA_MULTIPATH", [{"hops": 0, "oif": 3, "attrs": [("RTA_GATEWAY", "192.0.2.2")]}, {"hops": 0, "oif": 5, "attrs": []}])],
     ("0.0.0.0", 254, "unicast", [3, 5], "", 0)),
])
def test_routes_are_read(kind: int, attrs: list[object], expected: tuple[object, ...]) -> None:
    route = rt.Route(marshalled(rtmsg, 24, 0, attrs, family=AF_INET, dst_len=12, table=254, type=kind)[16:])
    assert (route.destination, route.table, route.type, route.devices, route.gateway, route.priority) == expected
    assert route.prefix == 12


@pytest.mark.parametrize(("kind", "attrs", "expected"), [
    (1, [("RTA_DST", "fd00:9::"), ("RTA_OIF", 4)], ("fd00:9::", 254, "unicast", [4], "")),
    (1, [("RTA_GATEWAY", "fe80::1"), ("RTA_OIF", 3), ("RTA_TABLE", 1000)], ("::", 1000, "unicast", [3], "fe80::1")),
    (7, [("RTA_DST", "2001:db8::"), ("RTA_OIF", 1)], ("2001:db8::", 254, "unreachable", [1], "")),
])
def test_ipv6_routes_are_read(kind: int, attrs: list[object], expected: tuple[object, ...]) -> None:
    route = rt.Route(marshalled(rtmsg, 24, 0, attrs, family=AF_INET6, dst_len=48, table=254, type=kind)[16:])
    assert (route.destination, route.table, route.type, route.devices, route.gateway) == expected
    assert route.prefix == 48


def test_ipv6_addresses_and_rules_are_read() -> None:
    address = rt.Address(marshalled(ifaddrmsg, 20, 0, [("IFA_ADDRESS", "fd00:9::2")], family=AF_INET6, prefixlen=64, index=6)[16:])
    assert (address.ip, address.prefix, address.index) == ("fd00:9::2", 64, 6)
    rule = rt.Rule(marshalled(fibmsg, 32, 0, [("FRA_DST", "fd00::"), ("FRA_TABLE", 77)], family=AF_INET6, dst_len=8)[16:])
    assert (rule.destination, rule.prefix, rule.table) == ("fd00::", 8, 77)
    every = rt.Rule(marshalled(fibmsg, 32, 0, family=AF_INET6, table=254)[16:])
    assert (every.destination, every.prefix, every.table) == ("::", 0, 254)


def test_addresses_and_rules_are_read() -> None:
    address = rt.Address(marshalled(ifaddrmsg, 20, 0, [("IFA_ADDRESS", "10.8.0.9"), ("IFA_LOCAL", "10.8.0.5")],
                                    family=AF_INET, prefixlen=32, index=6)[16:])
    assert (address.ip, address.prefix, address.index) == ("10.8.0.5", 32, 6)  # ours, not the far end of a point-to-point link
    rule = rt.Rule(marshalled(fibmsg, 32, 0, [("FRA_DST", "10.0.0.0"), ("FRA_TABLE", 77)], family=AF_INET, dst_len=8)[16:])
    assert (rule.destination, rule.prefix, rule.table) == ("10.0.0.0", 8, 77)


@given(st.binary(max_size=200))
def test_attributes_of_junk_end(junk: bytes) -> None:
    for value in netlink.attributes(junk).values():
        assert value in junk


@given(st.dictionaries(st.integers(1, 0x3FFF), st.binary(max_size=40), max_size=8))
def test_attributes_come_back(values: dict[int, bytes]) -> None:
    assert netlink.attributes(b"".join(netlink.attribute(k, v) for k, v in values.items())) == values


@pytest.mark.parametrize("capped", [True, False])
def test_the_kernels_words_are_in_the_error(capped: bool) -> None:
    message = rt.link_set("x", up=True)
    header = bytes(message[:16]) if capped else bytes(message)
    body = pack("=i", -errno.EINVAL) + header + netlink.text(netlink.NLMSGERR_ATTR_MSG, "Invalid name")
    flags = netlink.NLM_F_ACK_TLVS | (netlink.NLM_F_CAPPED if capped else 0)
    failure = netlink._failure(message, netlink._with_text(body, flags))
    assert failure is not None
    assert str(failure) == "set up link `x`: invalid argument (Invalid name)"
    assert failure.errno == errno.EINVAL
    assert netlink._failure(message, pack("=i", 0) + header) is None


def test_a_links_sysctl_is_set_in_a_nest_of_its_own() -> None:
    """pyroute2 writes no IFLA_INET_CONF: AF_SPEC (26) { AF_INET (2) { CONF (1) { ARP_NOTIFY (22): 1 } } }, linux/if_link.h."""
    body = rt.link_announces(3)[netlink.HEADER.size + 16 :]
    for kind in (26, 2, 1):
        [(found, body)] = netlink.attributes(body).items()
        assert found == kind
    assert netlink.attributes(body) == {22: (1).to_bytes(4, sys.byteorder)}
