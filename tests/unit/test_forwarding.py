"""What a network changes on the host beyond its own links, computed from what was set before, and put back by the same."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidocker.network import forwarding
from minidocker.network.forwarding import Outward
from minidocker.plan import Step
from minidocker.spec.records import Network

FOUR = Network("3fa9c1d2e4b5", "br0", "172.17.0.0/24", "172.17.0.1", "br0")
SIX = Network("4fa9c1d2e4b5", "six", "10.9.0.0/24", "10.9.0.1", "br6", subnet6="fd00:9::/64", gateway6="fd00:9::1")


def conf(family: int, link: str, setting: str) -> str:
    return f"net/ipv{family}/conf/{link}/{setting}"


def said(steps: list[Step]) -> list[str]:
    """NAME=VALUE of each sysctl."""
    return [line.removeprefix("sysctl -q -w ") for step in steps for line in step.shell().splitlines()]


BEFORE = {
    conf(4, "lan0", "forwarding"): "0", conf(4, "eth0.100", "forwarding"): "0", conf(4, "vpn", "forwarding"): "1",
    conf(6, "all", "forwarding"): "0", conf(6, "default", "forwarding"): "0", conf(6, "lan0", "forwarding"): "0",
    conf(6, "eth0.100", "forwarding"): "0",
    conf(6, "vpn", "forwarding"): "1", conf(6, "lan0", "accept_ra"): "1",
}  # fmt: skip
ONLY_4 = {name: value for name, value in BEFORE.items() if "ipv4" in name}


def test_what_forwarded_nothing_before_is_guarded() -> None:
    outward = Outward(1500, BEFORE)
    assert outward.guarded == forwarding.guarded(BEFORE) == ["lan0", "eth0.100"]
    assert outward.guarded6 == forwarding.guarded6(BEFORE) == ["lan0", "eth0.100"]
    assert outward.advertised == ["lan0"]


def test_where_ipv6_was_not_asked_for_or_forwarded_before_nothing_of_it_is_guarded() -> None:
    assert forwarding.guarded6(ONLY_4) == []
    assert forwarding.guarded6({**BEFORE, conf(6, "all", "forwarding"): "1"}) == []


def test_an_interface_with_a_settings_name() -> None:
    """An interface may be called `forwarding`, `accept_ra` or `conf`."""
    names = ("forwarding", "accept_ra", "conf", "ipv6", "0", "a.b.c")
    before = {conf(4, name, "forwarding"): "0" for name in names}
    before |= {conf(6, "all", "forwarding"): "0"} | {conf(6, name, "forwarding"): "0" for name in names}
    before |= {conf(6, name, "accept_ra"): "1" for name in names[:3]}
    assert forwarding.guarded(before) == list(names)
    assert forwarding.guarded6(before) == list(names)
    assert Outward(1500, before).advertised == list(names[:3])


def test_start_and_stop_of_ipv4() -> None:
    assert said(forwarding.start(FOUR, "ab", Outward(1500, ONLY_4))) == [
        "net/ipv4/conf/br0/forwarding=1", "net/ipv4/conf/lan0/forwarding=1", "net/ipv4/conf/eth0.100/forwarding=1"]
    assert said(forwarding.stop("ab", ONLY_4)) == ["net/ipv4/conf/lan0/forwarding=0", "net/ipv4/conf/eth0.100/forwarding=0"]


def test_start_and_stop_of_ipv6() -> None:
    """Advertisements are kept before the host forwards, as then the kernel forgets the route that it has from one; all goes back, and what
    forwarded by itself has it again, which the one setting for all takes from it."""
    assert said(forwarding.start(SIX, "ab", Outward(1500, BEFORE))) == [
        "net/ipv4/conf/br6/forwarding=1", "net/ipv4/conf/lan0/forwarding=1", "net/ipv4/conf/eth0.100/forwarding=1",
        "net/ipv6/conf/lan0/accept_ra=2", "net/ipv6/conf/all/forwarding=1", "net/ipv6/conf/default/forwarding=0",
        "net/ipv6/conf/eth0.100/forwarding=0"]
    assert said(forwarding.stop("ab", BEFORE)) == [
        "net/ipv4/conf/lan0/forwarding=0", "net/ipv4/conf/eth0.100/forwarding=0",
        "net/ipv6/conf/all/forwarding=0", "net/ipv6/conf/vpn/forwarding=1", "net/ipv6/conf/lan0/accept_ra=1"]


def test_a_network_without_ipv6_changes_nothing_of_ipv6() -> None:
    assert not any("ipv6" in line for line in said(forwarding.start(FOUR, "ab", Outward(1500, BEFORE))))


def test_a_host_that_forwarded_ipv6_before_is_left_as_it_is() -> None:
    before = {**BEFORE, conf(6, "all", "forwarding"): "1"}
    before.pop(conf(6, "lan0", "accept_ra"))
    assert not any("ipv6" in line for line in said(forwarding.start(SIX, "ab", Outward(1500, before)) + forwarding.stop("ab", before)))


def test_nothing_recorded_is_nothing_to_put_back() -> None:
    assert forwarding.stop("ab", {}) == []


LINKS = ("lan0", "vpn", "all", "default")
BEFORES = st.dictionaries(
    st.sampled_from([conf(family, link, setting) for family, link, setting in product((4, 6), LINKS, ("forwarding", "accept_ra"))]),
    st.sampled_from(["0", "1"]))


@given(BEFORES)
def test_what_start_sets_stop_puts_back(before: dict[str, str]) -> None:
    """Of what was recorded: each setting that the one changes is what it was after the other."""
    host = dict(before)
    for steps in (forwarding.start(SIX, "ab", Outward(1500, before)), forwarding.stop("ab", before)):
        for line in said(steps):
            name, _, value = line.partition("=")
            if name == conf(6, "all", "forwarding") and host.get(name) != value:  # the kernel sets all interfaces with it
                host |= {other: value for other in host if "ipv6" in other and other.endswith("/forwarding")}
            host[name] = value
    host.pop(conf(4, "br6", "forwarding"))
    assert host == before


@pytest.mark.parametrize("mtu", [1280, 9000])
def test_every_step_says_why(mtu: int) -> None:
    steps = forwarding.start(SIX, "ab", Outward(mtu, BEFORE)) + forwarding.stop("ab", BEFORE)
    assert all(step.why and step.title == "network" for step in steps)
