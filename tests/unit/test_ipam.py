"""Subnets, addresses and MACs against the standard ipaddress module, and every refusal's words."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidocker.errors import ConflictError, MinidockerError, UsageError
from minidocker.network import ipam
from minidocker.network.ipam import Occupied

PRIVATE = st.sampled_from(["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]).map(ipaddress.IPv4Network)


@st.composite
def subnets(draw: st.DrawFn, smallest: int = 30, widest: int = 8) -> ipaddress.IPv4Network:
    block = draw(PRIVATE)
    bits = draw(st.integers(max(widest, block.prefixlen), smallest))
    address = draw(st.integers(int(block.network_address), int(block.broadcast_address)))
    return ipaddress.IPv4Network((address, bits), strict=False)


@pytest.mark.parametrize(("subnet", "message", "hint"), [
    ("10.9.0.0/31", "subnet `10.9.0.0/31` has no room for a gateway and a container", "the smallest is a /30"),
    ("10.9.0.0/32", "subnet `10.9.0.0/32` has no room for a gateway and a container", "the smallest is a /30"),
    ("fd00::/24", "`fd00::` is not an IPv4 address", "write it like 172.17.0.2"),
    ("fd00::/64", "subnet `fd00::/64`: not of the form ADDRESS/PREFIX", "write it like 10.9.0.0/24"),
    ("10.9.0.5/24", "subnet `10.9.0.5/24` has host bits set", "did you mean 10.9.0.0/24?"),
    ("127.1.0.0/16", "subnet `127.1.0.0/16` lies in the loopback addresses (127.0.0.0/8)", None),
    ("224.1.0.0/16", "subnet `224.1.0.0/16` lies in the multicast addresses (224.0.0.0/4)", None),
    ("169.254.0.0/24", "subnet `169.254.0.0/24` lies in the link-local addresses (169.254.0.0/16)", None),
    ("0.0.0.0/8", "subnet `0.0.0.0/8` lies in the addresses of \"this network\" (0.0.0.0/8)", None),
    ("255.255.255.0/24", "subnet `255.255.255.0/24` lies in reserved addresses (240.0.0.0/4)", None),
    ("0.0.0.0/0", "subnet `0.0.0.0/0` is wider than any private network", None),
    ("10.9.0.0", "subnet `10.9.0.0`: not of the form ADDRESS/PREFIX", "write it like 10.9.0.0/24"),
    ("10.9.0.0/", "subnet `10.9.0.0/`: not of the form ADDRESS/PREFIX", None),
    ("10.9.0.0/33", "subnet `10.9.0.0/33`: not of the form ADDRESS/PREFIX", None),
    ("10.9.0.0/024", "subnet `10.9.0.0/024`: not of the form ADDRESS/PREFIX", None),
    ("10.9.0/24", "`10.9.0` is not an IPv4 address", "write it like 172.17.0.2"),
    ("10.9.0.256/24", "`10.9.0.256` is not an IPv4 address", None),
    ("10.09.0.0/24", "`10.09.0.0` is not an IPv4 address", None),
    ("١٠.9.0.0/24", "`١٠.9.0.0` is not an IPv4 address", None),
])
def test_refused_subnets(subnet: str, message: str, hint: str | None) -> None:
    with pytest.raises(UsageError) as refused:
        ipam.check_subnet(subnet)
    assert str(refused.value) == message
    assert hint is None or refused.value.hint == hint


@given(subnets())
def test_private_subnets_are_taken(subnet: ipaddress.IPv4Network) -> None:
    assert ipam.check_subnet(str(subnet)) == str(subnet)
    assert ipam.gateway(str(subnet)) == str(next(subnet.hosts()))


@given(st.text(max_size=20))
def test_junk_is_refused_in_one_line(text: str) -> None:
    try:
        assert ipaddress.IPv4Network(ipam.check_subnet(text))
    except UsageError as refused:
        assert refused.message


@given(st.ip_addresses(v=4))
def test_addresses_are_ipaddress_s(address: ipaddress.IPv4Address) -> None:
    assert ipam.number(str(address)) == int(address)
    assert ipam.dotted(int(address)) == str(address)


@given(subnets(smallest=30, widest=26), st.data())
def test_an_allocated_address_is_a_free_host_address(subnet: ipaddress.IPv4Network, data: st.DataObject) -> None:
    hosts = [str(host) for host in subnet.hosts()]
    gateway = data.draw(st.sampled_from(["", *hosts]))
    parts = list(subnet.subnets(new_prefix=data.draw(st.integers(subnet.prefixlen, 32))))
    within = data.draw(st.sampled_from(["", *map(str, parts)]))
    inside = [host for host in hosts if not within or ipaddress.ip_address(host) in ipaddress.ip_network(within)]
    taken = data.draw(st.sets(st.sampled_from(hosts)))
    last = data.draw(st.sampled_from(["", *hosts]))
    free = [host for host in inside if host not in taken and host != gateway]
    if free:
        got = ipam.allocate(str(subnet), taken, last, gateway, within)
        assert got in free
        assert ipam.check_address(str(subnet), gateway, got) == got
        later = [host for host in free if last in inside and ipam.number(host) > ipam.number(last)]
        assert got == (later or free)[0]
    else:
        with pytest.raises(ConflictError, match="is full"):
            ipam.allocate(str(subnet), taken, last, gateway, within)


@given(subnets(smallest=30, widest=26), st.data())
def test_a_usable_address_is_one_that_could_be_allocated(subnet: ipaddress.IPv4Network, data: st.DataObject) -> None:
    hosts = [str(host) for host in subnet.hosts()]
    gateway = data.draw(st.sampled_from(["", *hosts]))
    within = data.draw(st.sampled_from(["", *map(str, subnet.subnets(new_prefix=data.draw(st.integers(subnet.prefixlen, 32))))]))
    ip = data.draw(st.sampled_from([str(address) for address in subnet]) | st.just("203.0.113.9"))
    could = ip in hosts and ip != gateway and (not within or ipaddress.ip_address(ip) in ipaddress.ip_network(within))
    assert ipam.usable(str(subnet), gateway, within, ip) == could
    if could:
        assert ipam.allocate(str(subnet), set(hosts) - {ip}, "", gateway, within) == ip


def test_a_freed_address_rests_until_all_others_were_used() -> None:
    last, seen = "", []
    for _ in range(10):
        last = ipam.allocate("10.0.0.0/29", [], last, "10.0.0.1")
        seen.append(last)
    assert seen[:5] == [f"10.0.0.{n}" for n in range(2, 7)]
    assert seen[5:] == seen[:5]


def test_a_range_is_gone_round_too() -> None:
    last, seen = "", []
    for _ in range(9):
        last = ipam.allocate("10.0.0.0/24", ["10.0.0.130"], last, "10.0.0.129", "10.0.0.128/29")
        seen.append(last)
    assert seen == [f"10.0.0.{n}" for n in (128, 131, 132, 133, 134, 135, 128, 131, 132)]
    assert ipam.allocate("10.0.0.0/24", [], "10.0.0.9", "10.0.0.1", "10.0.0.128/25") == "10.0.0.128", "the last one was chosen outside"
    assert ipam.allocate("10.0.0.0/24", [], "", "10.0.0.1", "10.0.0.0/25") == "10.0.0.2", "the network's own address is nobody's"
    assert ipam.allocate("10.0.0.0/24", [], "10.0.0.254", "10.0.0.1", "10.0.0.128/25") == "10.0.0.128", "nor is the broadcast address"


def test_another_gateway_is_never_allocated() -> None:
    assert ipam.allocate("10.0.0.0/29", [], "", "10.0.0.3") == "10.0.0.1"
    assert ipam.allocate("10.0.0.0/29", [], "10.0.0.2", "10.0.0.3") == "10.0.0.4"


def test_without_a_gateway_the_first_address_is_a_containers() -> None:
    assert ipam.allocate("10.0.0.0/30", []) == "10.0.0.1"
    assert ipam.allocate("10.0.0.0/30", ["10.0.0.1"]) == "10.0.0.2"
    assert ipam.check_address("10.0.0.0/30", "", "10.0.0.1") == "10.0.0.1"


REMOVE = "remove containers, or make a wider network: minidocker network create --subnet"


@pytest.mark.parametrize(("arguments", "message", "hint"), [
    (("10.0.0.8/30", ["10.0.0.10"], "", "10.0.0.9"), "subnet 10.0.0.8/30 is full: its only address for containers is in use",
     f"{REMOVE} 10.0.0.8/29 NAME"),
    (("10.0.0.8/30", ["10.0.0.9", "10.0.0.10"]), "subnet 10.0.0.8/30 is full: all of its 2 addresses for containers are in use",
     f"{REMOVE} 10.0.0.8/29 NAME"),
    (("10.0.0.4/30", ["10.0.0.5", "10.0.0.6"], "10.0.0.6"), "subnet 10.0.0.4/30 is full: all of its 2 addresses for containers are in use",
     f"{REMOVE} 10.0.0.0/29 NAME"),
    (("10.0.0.0/24", ["10.0.0.130", "10.0.0.131"], "", "10.0.0.1", "10.0.0.130/31"),
     "range 10.0.0.130/31 of subnet 10.0.0.0/24 is full: all of its 2 addresses for containers are in use", f"{REMOVE} 10.0.0.0/24 NAME"),
    (("10.0.0.0/24", ["10.0.0.131"], "", "10.0.0.130", "10.0.0.130/31"),
     "range 10.0.0.130/31 of subnet 10.0.0.0/24 is full: its only address for containers is in use", f"{REMOVE} 10.0.0.0/24 NAME"),
    (("10.0.0.0/24", ["10.0.0.7"], "", "10.0.0.1", "10.0.0.7/32"),
     "range 10.0.0.7/32 of subnet 10.0.0.0/24 is full: its only address for containers is in use", f"{REMOVE} 10.0.0.0/24 NAME"),
])  # fmt: skip
def test_what_is_full_says_how_to_widen_it(arguments: tuple[str, ...], message: str, hint: str) -> None:
    with pytest.raises(ConflictError) as full:
        ipam.allocate(*arguments)
    assert (str(full.value), full.value.hint) == (message, hint)


@pytest.mark.parametrize(("ip", "message", "kind"), [
    ("10.0.0.0", "address `10.0.0.0` is the network address of subnet 10.0.0.0/24", UsageError),
    ("10.0.0.255", "address `10.0.0.255` is the broadcast address of subnet 10.0.0.0/24", UsageError),
    ("10.0.0.1", "address `10.0.0.1` is the gateway of subnet 10.0.0.0/24", UsageError),
    ("10.0.1.2", "address `10.0.1.2` is outside of subnet 10.0.0.0/24", UsageError),
    ("ten", "`ten` is not an IPv4 address", UsageError),
])
def test_refused_addresses(ip: str, message: str, kind: type[MinidockerError]) -> None:
    with pytest.raises(kind) as refused:
        ipam.check_address("10.0.0.0/24", "10.0.0.1", ip)
    assert str(refused.value) == message


def test_a_gateway_must_be_a_host_address() -> None:
    assert ipam.check_gateway("10.0.0.0/24", "10.0.0.254") == "10.0.0.254"
    with pytest.raises(UsageError, match=r"gateway `10.0.0.255` is not a host address of subnet 10.0.0.0/24"):
        ipam.check_gateway("10.0.0.0/24", "10.0.0.255")


@given(st.ip_addresses(v=4), st.ip_addresses(v=4))
def test_macs_follow_addresses(one: ipaddress.IPv4Address, other: ipaddress.IPv4Address) -> None:
    macs = {ipam.mac_of(str(one)), ipam.host_mac_of(str(one)), ipam.mac_of(str(other)), ipam.host_mac_of(str(other))}
    assert len(macs) == (2 if one == other else 4)
    for mac in macs:
        assert int(mac[:2], 16) & 3 == 2  # locally administered, not multicast


def test_the_mac_is_dockers() -> None:
    assert ipam.mac_of("172.17.0.2") == "02:42:ac:11:00:02"


@st.composite
def subnets6(draw: st.DrawFn, longest: int = 128) -> ipaddress.IPv6Network:
    """Out of few blocks, so that some overlap."""
    value = draw(st.sampled_from(["fd00::", "fd00:0:0:1::", "2001:db8::"]).map(ipaddress.IPv6Address)) + draw(st.integers(0, 1 << 34))
    return ipaddress.IPv6Network((int(value), draw(st.integers(16, longest))), strict=False)


@given(st.lists(subnets() | subnets6(), min_size=1, max_size=8))
def test_overlap_of_both_families_is_ipaddress_s(every: list[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> None:
    wanted, *others = every
    expected = next((str(other) for other in others if wanted.version == other.version and wanted.overlaps(other)), "")
    assert ipam.overlap(str(wanted), [Occupied(str(other), str(other)) for other in others]) == expected


@given(subnets(), st.lists(subnets(), max_size=5))
def test_overlap_is_ipaddress_s(subnet: ipaddress.IPv4Network, others: list[ipaddress.IPv4Network]) -> None:
    expected = next((f"owner of {other}" for other in others if subnet.overlaps(other)), "")
    assert ipam.overlap(str(subnet), [Occupied(str(other), f"owner of {other}") for other in others]) == expected


def test_the_default_subnet_if_it_is_free() -> None:
    assert ipam.choose_subnet(ipam.DEFAULT_SUBNET, []) == ("172.17.0.0/24", [])
    assert ipam.choose_subnet(ipam.DEFAULT_SUBNET, [Occupied("172.17.1.0/24", "route")]) == ("172.17.0.0/24", [])


def test_docker0_moves_us_on_and_is_named() -> None:
    docker0 = Occupied("172.17.0.0/16", "route 172.17.0.0/16 dev docker0")
    assert ipam.choose_subnet("172.17.0.0/24", [docker0]) == ("172.18.0.0/24", [("172.17.0.0/24", docker0.owner)])
    unreachable = Occupied("172.16.0.0/12", "unreachable route 172.16.0.0/12")
    chosen, skipped = ipam.choose_subnet("172.17.0.0/24", [docker0, unreachable])
    assert chosen == "10.64.0.0/24"
    assert [owner for _, owner in skipped][:2] == [docker0.owner, unreachable.owner]


def test_the_docker0_address_that_took_a_site_down() -> None:
    """A bridge address of 172.17.0.2/24 inside of docker0's 172.17.0.0/16 takes its route away."""
    assert ipam.overlap("172.17.0.0/24", [Occupied("172.17.0.1/16", "address 172.17.0.1/16 dev docker0")]) == \
        "address 172.17.0.1/16 dev docker0"


@given(st.lists(subnets(smallest=32, widest=8), max_size=8), st.integers(20, 28))
def test_a_chosen_subnet_is_free_and_of_the_size(occupied: list[ipaddress.IPv4Network], bits: int) -> None:
    try:
        chosen, skipped = ipam.choose_subnet(f"172.17.0.0/{bits}", [Occupied(str(o), str(o)) for o in occupied])
    except ConflictError:
        everything = list(ipaddress.collapse_addresses(occupied))
        assert all(any(ipaddress.IPv4Network(block).overlaps(o) for o in everything) for block in ipam.POOL)
        return
    got = ipaddress.IPv4Network(chosen)
    assert got.prefixlen == bits
    assert any(got.subnet_of(ipaddress.IPv4Network(block)) for block in ipam.POOL)
    assert not any(got.overlaps(o) for o in occupied)
    assert (chosen == f"172.17.0.0/{bits}") == (not skipped)


def test_nothing_free_is_said() -> None:
    with pytest.raises(ConflictError, match=r"no /24 is free in 10.0.0.0/23"):
        ipam.choose_subnet("10.0.0.0/24", [Occupied("10.0.0.0/8", "all of it")], ["10.0.0.0/23"])
