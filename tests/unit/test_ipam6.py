"""IPv6 subnets and addresses against the standard ipaddress module, and every refusal's words."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidocker.errors import UsageError
from minidocker.network import ipam6

SUBNET = "fd00:9::/64"


@st.composite
def subnets(draw: st.DrawFn, longest: int = ipam6.LONGEST) -> ipaddress.IPv6Network:
    address = draw(st.ip_addresses(v=6, network="fc00::/7"))
    return ipaddress.IPv6Network((int(address), draw(st.integers(16, longest))), strict=False)


@given(st.ip_addresses(v=6))
def test_addresses_are_ipaddress_s(address: ipaddress.IPv6Address) -> None:
    assert ipam6.number(str(address)) == ipam6.number(address.exploded) == int(address)
    assert ipaddress.IPv6Address(ipam6.text(int(address))) == address
    assert ipam6.text(ipam6.number(ipam6.text(int(address)))) == ipam6.text(int(address)), "there is one way to write it"


@given(st.text("0123456789abcdef:./%", max_size=20))
def test_junk_is_refused_in_one_line(text: str) -> None:
    try:
        assert int(ipaddress.IPv6Address(text)) == ipam6.number(text)
    except UsageError as refused:
        assert (refused.message, refused.hint) == (f"`{text}` is not an IPv6 address", "write it like fd00:9::2")
    except ValueError:
        with pytest.raises(UsageError):
            ipam6.number(text)


@pytest.mark.parametrize("text", ["", "10.0.0.1", "fe80::1%eth0", "::\0", "fd00::/64", "\ud800"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        ipam6.number(text)


@given(st.binary(min_size=6, max_size=6))
def test_a_networks_own_subnet_is_unique_local_and_follows_from_its_id(id: bytes) -> None:
    """RFC 4193, section 3.1: fd, 40 bits of global id, 16 of subnet id."""
    subnet = ipaddress.IPv6Network(ipam6.unique_local(id.hex()))
    assert subnet.prefixlen == 64 and subnet.network_address in ipaddress.IPv6Network("fd00::/8")
    packed = subnet.network_address.packed
    assert packed[:1] == b"\xfd" and packed[1:6] == id[:5] and packed[6:] == b"\0" + id[5:] + bytes(8)


def test_two_networks_differ_in_every_part_of_their_ids() -> None:
    assert ipam6.unique_local("3fa9c1d2e4b5") == "fd3f:a9c1:d2e4:b5::/64"
    assert len({ipam6.unique_local(f"{1 << bit:012x}") for bit in range(48)}) == 48


@given(subnets(), st.ip_addresses(v=4))
def test_a_containers_address_is_in_the_subnet_and_ends_in_its_ipv4_one(subnet: ipaddress.IPv6Network, ip: ipaddress.IPv4Address) -> None:
    address = ipaddress.IPv6Address(ipam6.of_container(str(subnet), str(ip)))
    assert address in subnet
    assert address.packed[12:] == ip.packed
    assert int(address) - int(subnet.network_address) == int(ip)
    if ip.packed[0]:  # no address of a container's subnet begins with 0
        assert str(address) != str(ipaddress.IPv6Address(ipam6.gateway(str(subnet))))


@given(subnets())
def test_the_gateway_is_the_first_address_after_the_anycast_one(subnet: ipaddress.IPv6Network) -> None:
    assert ipaddress.IPv6Address(ipam6.gateway(str(subnet))) == subnet.network_address + 1


@given(subnets(), st.ip_addresses(v=6), st.booleans())
def test_an_address_is_taken_when_it_is_a_hosts(subnet: ipaddress.IPv6Network, address: ipaddress.IPv6Address, inside: bool) -> None:
    if inside:
        address = ipaddress.IPv6Address(int(subnet.network_address) | int(address) & int(subnet.hostmask))
    gateway = ipam6.gateway(str(subnet))
    if address in subnet and address not in (subnet.network_address, ipaddress.IPv6Address(gateway)):
        got = ipam6.check_address(str(subnet), gateway, address.exploded)
        assert ipaddress.IPv6Address(got) == address and got == ipam6.text(int(address))
    else:
        with pytest.raises(UsageError):
            ipam6.check_address(str(subnet), gateway, str(address))


@pytest.mark.parametrize(("ip", "message", "hint"), [
    ("fd00:9::", f"address `fd00:9::` is not a host address of subnet {SUBNET}", "take one like fd00:9::99"),
    ("fd00:9:0:1::9", f"address `fd00:9:0:1::9` is not a host address of subnet {SUBNET}", "take one like fd00:9::99"),
    ("FD00:9::1", f"address `FD00:9::1` is the gateway of subnet {SUBNET}", "take another, or leave --ip6 out"),
    ("ten", "`ten` is not an IPv6 address", "write it like fd00:9::2"),
])
def test_refused_addresses(ip: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as refused:
        ipam6.check_address(SUBNET, "fd00:9::1", ip)
    assert (str(refused.value), refused.value.hint) == (message, hint)


def test_without_a_gateway_every_host_address_is_a_containers() -> None:
    assert ipam6.check_address(SUBNET, "", "fd00:9::1") == "fd00:9::1"


@given(subnets(128), subnets(128), st.booleans())
def test_overlapping_is_ipaddress_s(one: ipaddress.IPv6Network, other: ipaddress.IPv6Network, near: bool) -> None:
    if near:  # else two at random never do
        other = ipaddress.IPv6Network((int(one.network_address) + 1, other.prefixlen), strict=False)
    assert ipam6.overlapping(str(one), str(other)) == one.overlaps(other)


@given(st.binary(min_size=6, max_size=6))
def test_a_link_local_address_is_the_macs_modified_eui64(octets: bytes) -> None:
    """RFC 4291, appendix A."""
    address = ipaddress.IPv6Address(ipam6.link_local(octets.hex(":")))
    assert address in ipaddress.IPv6Network("fe80::/64")
    identifier = address.packed[8:]
    assert (identifier[0] ^ octets[0], identifier[1:3], identifier[3:5], identifier[5:]) == (2, octets[1:3], b"\xff\xfe", octets[3:])


def test_the_example_that_everybody_knows() -> None:
    assert ipam6.link_local("02:42:ac:11:00:02") == "fe80::42:acff:fe11:2"
