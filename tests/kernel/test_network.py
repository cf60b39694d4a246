"""The managed bridge on a pretend host with a LAN peer: who reaches whom, who must not, and that everything goes again."""

from __future__ import annotations

import os
import subprocess

import pytest

from minidocker.errors import ConflictError, KernelError, UsageError
from minidocker.kernel import nfset, nftables
from minidocker.kernel import sysctl as settings
from minidocker.kernel.netlink import Socket
from minidocker.kernel.rtnetlink import veth_create
from minidocker.network import bridge, endpoint, forwarding, inside, ipam, names, others, ownership, publish, ruleset
from minidocker.plan import At
from minidocker.spec.records import Port
from tests import pretend
from tests.kernel.world import LAN, LAN6, PEER, PEER6, TAG, World, python, state, without_tables
from tests.pretend import sh

# ---- who reaches whom

def test_host_siblings_and_outside(world: World, either: None) -> None:
    net = world.network()
    world.up(net)
    one, two = world.attach(net, 2), world.attach(net, 3)
    world.serve(one.container_name)
    assert world.ask("", one.ip) == net.gateway
    assert world.ask(two.container_name, one.ip) == two.ip
    world.serve("", 9000)
    assert world.ask(one.container_name, net.gateway, 9000) == one.ip
    world.serve("outside")
    assert world.ask(one.container_name, PEER) == LAN  # masqueraded
    world.serve("outside", 53, "udp")
    assert world.ask(one.container_name, PEER, 53, "udp") == LAN
    sh(f"ip netns exec {one.container_name} ping -q -c1 -W2 {PEER}")


def test_the_lan_cannot_reach_in_not_even_with_a_route(world: World, either: None) -> None:
    net = world.network()
    world.up(net)
    one = world.attach(net, 2)
    world.serve(one.container_name)
    sh(f"ip -n outside route add 172.17.0.0/24 via {LAN}")
    assert world.cannot("outside", one.ip)
    world.serve("", 9000, address=net.gateway)
    assert world.cannot("outside", net.gateway, 9000)
    without_tables()  # it is they who keep them out
    assert world.ask("outside", one.ip) == PEER
    assert world.ask("outside", net.gateway, 9000) == PEER


def test_forged_source_addresses_are_dropped(world: World) -> None:
    net = world.network()
    world.up(net)
    world.attach(net, 2)
    hits = "nft add table ip probe; nft 'add chain ip probe c { type filter hook prerouting priority mangle; }'; nft add rule ip probe c "
    sh(hits + "iifname lan0 ip saddr 172.17.0.0/24 counter; " + hits + "iifname br0 ip saddr 10.0.0.0/8 counter")
    try:
        sh("ip -n outside addr add 172.17.0.2/32 dev lo && ip -n c02 addr add 10.9.9.9/32 dev eth0")
        sh(f"ip netns exec outside ping -q -c1 -W0.2 -I 172.17.0.2 {LAN}", check=False)
        sh(f"ip netns exec c02 ping -q -c1 -W0.2 -I 10.9.9.9 {net.gateway}", check=False)
        assert sh("nft list chain ip probe c").count("counter packets 0 ") == 2
        without_tables()
        sh(f"ip netns exec outside ping -q -c1 -W0.2 -I 172.17.0.2 {LAN}", check=False)
        sh(f"ip netns exec c02 ping -q -c1 -W0.2 -I 10.9.9.9 {net.gateway}", check=False)
        assert sh("nft list chain ip probe c").count("counter packets 0 ") == 0
    finally:
        sh("nft delete table ip probe")


def test_the_host_does_not_become_a_router_for_its_lan(world: World) -> None:
    sh("""ip netns add far && ip link add lan1 type veth peer name eth0 netns far && ip addr add 198.51.100.1/24 dev lan1 &&
          ip link set lan1 up && ip -n far addr add 198.51.100.2/24 dev eth0 && ip -n far link set eth0 up &&
          ip -n far route add default via 198.51.100.1 && ip -n outside route add 198.51.100.0/24 via 192.0.2.1""")
    try:
        world.serve("far")
        net = world.network()
        world.up(net)
        one = world.attach(net, 2)
        assert world.cannot("outside", "198.51.100.2")
        assert world.ask(one.container_name, "198.51.100.2") == "198.51.100.1"
        assert world.cannot("outside", "198.51.100.2")
        without_tables()
        assert world.ask("outside", "198.51.100.2") == PEER
    finally:
        sh("ip link del lan1; ip netns del far", check=False)


def test_a_second_lan_without_a_gateway_reaches_published_ports(world: World) -> None:
    sh("""ip netns add far && ip link add lan1 type veth peer name eth0 netns far && ip addr add 198.51.100.1/24 dev lan1 &&
          ip link set lan1 up && ip -n far addr add 198.51.100.2/24 dev eth0 && ip -n far link set eth0 up""")
    try:
        net = world.network()
        world.up(net)
        one = world.attach(net, 2, [Port(8080, 80)])
        world.serve(one.container_name)
        assert world.ask("far", "198.51.100.1", 8080) == "198.51.100.2"
    finally:
        sh("ip link del lan1; ip netns del far", check=False)


def test_a_host_that_forwarded_before_goes_on_forwarding(world: World) -> None:
    sh("""ip netns add far && ip link add lan1 type veth peer name eth0 netns far && ip addr add 198.51.100.1/24 dev lan1 &&
          ip link set lan1 up && ip -n far addr add 198.51.100.2/24 dev eth0 && ip -n far link set eth0 up &&
          ip -n far route add default via 198.51.100.1 && ip -n outside route add 198.51.100.0/24 via 192.0.2.1 &&
          sysctl -q -w net.ipv4.ip_forward=1""")
    try:
        world.serve("far")
        net = world.network()
        world.up(net)
        assert forwarding.guarded(world.recorded) == []
        assert world.ask("outside", "198.51.100.2") == PEER
        world.down(net)
        assert world.ask("outside", "198.51.100.2") == PEER
    finally:
        sh("ip link del lan1; ip netns del far; sysctl -q -w net.ipv4.ip_forward=0", check=False)


def test_two_networks_cannot_reach_each_other_but_by_a_published_port(world: World, either: None) -> None:
    a, b = world.network(0), world.network(1)
    world.up(a)
    world.up(b)
    one = world.attach(a, 2, [Port(8080, 80)])
    two = world.attach(b, 2)
    world.serve(one.container_name)
    assert world.cannot(two.container_name, one.ip)
    assert world.ask(two.container_name, LAN, 8080) == a.gateway
    world.serve(two.container_name)
    assert world.ask("", two.ip) == b.gateway


def test_an_internal_network_reaches_nothing_outside(world: World) -> None:
    net = world.network(internal=True)
    world.up(net)
    one, two = world.attach(net, 2), world.attach(net, 3)
    world.serve("outside")
    world.serve(two.container_name)
    assert world.ask(one.container_name, two.ip) == one.ip
    assert world.ask(one.container_name, PEER) == "OSError"  # no route: refused at once
    sh(f"ip -n {one.container_name} route add default via {net.gateway}")
    assert world.cannot(one.container_name, PEER)


# ---- published ports

@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_published_port_from_everywhere(world: World, either: None, protocol: str) -> None:
    net = world.network()
    world.up(net)
    one, two = world.attach(net, 2, [Port(8080, 80, protocol=protocol)]), world.attach(net, 3)
    world.serve(one.container_name, 80, protocol)
    assert world.ask("outside", LAN, 8080, protocol) == PEER            # the server sees the real client
    assert world.ask("", LAN, 8080, protocol) == LAN                    # the host by its LAN address
    assert world.ask("", "127.0.0.1", 8080, protocol) == net.gateway    # the host by loopback
    assert world.ask("", net.gateway, 8080, protocol) == net.gateway
    assert world.ask(two.container_name, LAN, 8080, protocol) == net.gateway      # a sibling
    assert world.ask(two.container_name, net.gateway, 8080, protocol) == net.gateway
    assert world.ask(one.container_name, LAN, 8080, protocol) == net.gateway      # hairpin: itself
    assert world.ask(one.container_name, net.gateway, 8080, protocol) == net.gateway


def test_a_port_on_one_address_is_on_no_other(world: World) -> None:
    net = world.network()
    world.up(net)
    one = world.attach(net, 2, [Port(8080, 80, "127.0.0.1"), Port(8081, 80, LAN)])
    world.serve(one.container_name)
    assert world.ask("", "127.0.0.1", 8080) == net.gateway
    assert world.ask("outside", LAN, 8080) == "ConnectionRefusedError"
    assert world.ask("outside", LAN, 8081) == PEER
    assert world.ask("", "127.0.0.1", 8081) == "ConnectionRefusedError"


def test_packets_for_loopback_from_a_container_are_dropped(world: World) -> None:
    """CVE-2020-8558: route_localnet, which -p needs, must not open the host's 127.0.0.0/8 to containers."""
    net = world.network()
    world.up(net)
    one = world.attach(net, 2, [Port(8080, 80)])
    assert settings.read("net/ipv4/conf/br0/route_localnet") == "1"
    world.serve("", 9000, address="127.0.0.1")
    forge = f"ip netns exec {one.container_name} "
    sh(f"{forge} ip addr del 127.0.0.1/8 dev lo; {forge} sysctl -q -w net.ipv4.conf.eth0.route_localnet=1; "
       f"{forge} ip route add 127.0.0.1/32 via {net.gateway} src {one.ip}")
    assert world.cannot(one.container_name, "127.0.0.1", 9000)
    without_tables()
    assert world.ask(one.container_name, "127.0.0.1", 9000) == one.ip


def test_packets_for_loopback_from_the_lan_are_dropped(world: World) -> None:
    net = world.network()
    world.up(net)
    settings.write("net/ipv4/conf/lan0/route_localnet", "1")  # as a host may have it for a reason of its own
    world.serve("", 9000, address="127.0.0.1")
    sh("ip -n outside addr del 127.0.0.1/8 dev lo; ip netns exec outside sysctl -q -w net.ipv4.conf.eth0.route_localnet=1; "
       f"ip -n outside route add 127.0.0.1/32 via {LAN} src {PEER}")
    assert world.cannot("outside", "127.0.0.1", 9000)
    without_tables()
    assert world.ask("outside", "127.0.0.1", 9000) == PEER


def test_a_withdrawn_port_is_refused_and_another_containers_stays(world: World) -> None:
    net = world.network()
    world.up(net)
    one = world.attach(net, 2, [Port(8080, 80)])
    two = world.endpoint(net, 3, [Port(8080, 80), Port(8081, 81)])
    with pytest.raises(ConflictError, match="published by another container"):
        endpoint.attach(net, TAG, two, ownership.ready(net, TAG)).run(world.namespace("two"))
    world.serve(one.container_name)
    endpoint.detach(net, TAG, two).run(At())
    assert world.ask("outside", LAN, 8080) == PEER
    for _ in range(2):
        endpoint.detach(net, TAG, one).run(At())
    assert world.ask("outside", LAN, 8080) == "ConnectionRefusedError"
    assert ownership.inspect_link(two.host_link) is None


# ---- nothing is left, and nothing foreign is touched

def a_router(name: str) -> str:
    """A link that forwards IPv6 by itself."""
    return (f"ip link add {name} type veth peer name {name}1 && ip link set {name}1 up && ip link set {name} up && "
            f"sysctl -q -w net.ipv6.conf.{name}.forwarding=1")


@pytest.mark.parametrize("ipv6", [(False, False), (True, True), (False, True), (True, False)], ids=str)
def test_down_leaves_the_host_as_up_found_it(world6: World, ipv6: tuple[bool, bool]) -> None:
    world = world6
    sh(f"sysctl -q -w net.ipv6.conf.lan0.accept_ra=1; {a_router('vpn')}")
    try:
        _up_and_down(world, ipv6)
    finally:
        sh("ip link del vpn")


def _up_and_down(world: World, ipv6: tuple[bool, bool]) -> None:
    before = state()
    a, b = world.network(0, ipv6[0]), world.network(1, ipv6[1], mtu=1400)
    world.up(a)
    world.up(b)
    world.up(a)  # again: nothing more
    one, two = world.attach(a, 2, [Port(8080, 80), Port(8081, 81, LAN)]), world.attach(b, 2)
    endpoint.detach(a, TAG, one).run(At())
    world.down(a, last=False)
    assert settings.read(settings.forwarding("lan0")) == "1"
    world.serve("outside")
    assert world.ask(two.container_name, PEER) == LAN
    if any(ipv6):
        assert (settings.read("net/ipv6/conf/all/forwarding"), settings.read("net/ipv6/conf/lan0/accept_ra")) == ("1", "2")
    if ipv6[1]:
        world.serve("outside", address="::")
        assert world.ask(two.container_name, PEER6) == LAN6
    endpoint.detach(b, TAG, two).run(At())
    world.down(b)
    world.down(b)  # again: nothing less
    assert state() == before


@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "both"])
def test_a_failed_up_undoes_itself(world6: World, monkeypatch: pytest.MonkeyPatch, ipv6: bool) -> None:
    sh(f"sysctl -q -w net.ipv6.conf.lan0.accept_ra=1; {a_router('vpn')}")
    try:
        before = state()
        net = world6.network(ipv6=ipv6)
        for number in range(len(bridge.up(net, TAG, forwarding.observed(net, TAG, {}), others.seen(TAG)).steps)):
            plan = bridge.up(net, TAG, forwarding.observed(net, TAG, {}), others.seen(TAG))
            monkeypatch.setattr(plan.steps[number], "apply", lambda at: (_ for _ in ()).throw(KernelError("test", 1)))
            with pytest.raises(KernelError):
                plan.run(At())
            assert state() == before, plan.steps[number].describe()
    finally:
        sh("ip link del vpn")


def test_a_failed_second_network_leaves_the_first_one_working(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = world.network(0), world.network(1)
    world.up(a)
    one = world.attach(a, 2, [Port(8080, 80)])
    rules = sh("nft list ruleset")
    plan = bridge.up(b, TAG, forwarding.observed(b, TAG, world.recorded), others.seen(TAG))
    monkeypatch.setattr(plan.steps[-1], "apply", lambda at: (_ for _ in ()).throw(KernelError("test", 1)))
    with pytest.raises(KernelError):
        plan.run(At())
    assert sh("nft list ruleset") == rules
    assert ownership.ready(b, TAG).state == ownership.ABSENT
    world.serve("outside")
    assert world.ask(one.container_name, PEER) == LAN


@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "both"])
def test_two_data_roots_share_an_uplink(world6: World, ipv6: bool) -> None:
    """The one that goes first leaves forwarding to the other, the one that goes last switches it off."""
    world = world6
    sh("sysctl -q -w net.ipv6.conf.lan0.accept_ra=1")
    before = state()
    a, b = world.network(0, ipv6), world.network(1, ipv6)
    world.up(a)
    theirs = forwarding.observed(b, "another", {})
    bridge.up(b, "another", theirs, others.seen("another")).run(At())
    world.down(a)
    assert settings.read(settings.forwarding("lan0")) == "1"
    if ipv6:
        assert (settings.read("net/ipv6/conf/all/forwarding"), settings.read("net/ipv6/conf/lan0/accept_ra")) == ("1", "2")
    assert ownership.ready(b, "another").complete
    bridge.down(b, "another", theirs.before, last=True).run(At())
    assert state() == before


@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "both"])
@pytest.mark.parametrize("failing", ["Guard", "Connect", "Configure", "Set", "Hairpin", "Publish"])
def test_a_failed_attach_undoes_itself(world: World, monkeypatch: pytest.MonkeyPatch, failing: str, ipv6: bool) -> None:
    net = world.network(ipv6=ipv6)
    world.up(net)
    before = state()
    place = world.endpoint(net, 2, [Port(8080, 80)])
    plan = endpoint.attach(net, TAG, place)
    [step] = [step for step in plan.steps if type(step).__name__ == failing]
    monkeypatch.setattr(step, "apply", lambda at: (_ for _ in ()).throw(KernelError("test", 1)))
    with pytest.raises(KernelError):
        plan.run(world.namespace("c02"))
    after = state()
    assert [link["ifname"] for link in pretend.ip("link")] == [link["ifname"] for link in before["links"]]  # type: ignore[attr-defined]
    assert [link["ifname"] for link in pretend.ip("-n c02 link")] == ["lo"]
    assert after["neighbours"] == before["neighbours"]
    assert after["nft"] == before["nft"]


@pytest.mark.parametrize("kind", ["type bridge", "type veth peer name other"])
def test_a_foreign_link_of_the_bridges_name_is_refused_and_untouched(world: World, kind: str) -> None:
    net = world.network()
    sh(f"ip link add br0 {kind} && ip addr add 10.1.1.1/24 dev br0 && ip link set br0 up")
    try:
        assert ownership.ready(net, TAG).state == ownership.FOREIGN
        before = pretend.ip("addr show br0")[0]["addr_info"], sh("nft list ruleset"), settings.read(settings.forwarding("lan0"))
        with pytest.raises(ConflictError, match="a link called `br0` exists already and was not made by minidocker"):
            world.up(net)
        world.recorded = {}
        world.down(net)
        bridge.remove_link("br0", ownership.link_alias(TAG, net.id)).run(At())
        endpoint.detach(net, TAG, world.endpoint(net, 2)).run(At())
        assert (pretend.ip("addr show br0")[0]["addr_info"], sh("nft list ruleset"), settings.read(settings.forwarding("lan0"))) == before
    finally:
        sh("ip link del br0")


def test_another_roots_bridge_is_foreign(world: World) -> None:
    net = world.network()
    world.up(net)
    assert ownership.ready(net, TAG).complete
    assert ownership.ready(net, "another").state == ownership.FOREIGN


def test_a_bridge_whose_maker_died_before_the_alias_is_ours(world: World) -> None:
    net = world.network()
    sh(f"ip link add br0 address {ownership.bridge_mac(net)} type bridge")
    assert ownership.ready(net, TAG).state == ownership.OURS
    assert not ownership.ready(net, TAG).complete
    world.up(net)
    assert pretend.ip("link show br0")[0]["ifalias"] == f"minidocker:{TAG}:{net.id}"


def test_a_foreign_forward_policy_is_untouched_and_in_force(world: World) -> None:
    nftables.apply("add table ip theirs\nadd chain ip theirs f { type filter hook forward priority filter; policy drop; }\n")
    try:
        theirs = sh("nft list table ip theirs")
        net = world.network()
        world.up(net)
        one = world.attach(net, 2)
        world.serve("outside")
        assert world.cannot(one.container_name, PEER)
        world.down(net)
        assert sh("nft list table ip theirs") == theirs
    finally:
        sh("nft delete table ip theirs")


def test_after_a_flush_the_tables_are_missed_and_rebuilt_the_same(world6: World) -> None:
    world = world6
    nets = [world.network(0), world.network(1, ipv6=True), world.network(2, ipv6=True, isolated=True, internal=True)]
    for net in nets:
        world.up(net)
    ports = [Port(8080, 80), Port(53, 5353, "127.0.0.1", "udp"), Port(9, 9, "::", "sctp"), Port(7, 7, LAN6), Port(8, 8, "0.0.0.0")]
    places = [world.attach(nets[0], 2, ports[:2]), world.attach(nets[1], 2, ports[2:]), world.attach(nets[1], 3), world.attach(nets[2], 2)]
    before = sh("nft list ruleset")
    reload = bridge.reload(TAG, world.wanted(nets, places))
    for there in ("", f"inet {ownership.table(TAG)}", f"bridge {ownership.table(TAG)}"):
        sh(f"nft delete table {there}" if there else "nft flush ruleset")
        assert not ownership.ready(nets[0], TAG).firewall
        reload.run(At())
        assert sh("nft list ruleset") == before
    reload.run(At())
    assert sh("nft list ruleset") == before
    table = ownership.table(TAG)
    sh(f"nft add element inet {table} ports '{{ tcp . 1 : 172.17.0.9 . 1 }}'; nft flush chain inet {table} forward; "
       f"nft delete element bridge {table} ports '{{ {places[0].host_link} }}'")
    reload.run(At())
    assert sh("nft list ruleset") == before, "whatever stood there"


def test_a_reload_forwards_again(world6: World) -> None:
    """docker's and firewalld's start may have set any of it."""
    world = world6
    sh("sysctl -q -w net.ipv6.conf.lan0.accept_ra=1")
    net = world.network(ipv6=True)
    world.up(net)
    one = world.attach(net, 2)

    def settings_() -> dict[str, str]:
        """But those of bridges' ports, which have no addresses."""
        return {name: value for name, value in state()["sysctl"].items() if "/conf/md" not in name}  # type: ignore[attr-defined]

    before = settings_(), sh("nft list ruleset")
    sh("nft flush ruleset; sysctl -q -w net.ipv4.conf.lan0.forwarding=0 net.ipv4.conf.br0.forwarding=0 "
       "net.ipv6.conf.all.forwarding=0 net.ipv6.conf.lan0.accept_ra=1")
    bridge.reload(TAG, world.wanted([net], [one]), forwarding.Outward(0, world.recorded)).run(At())
    assert (settings_(), sh("nft list ruleset")) == before


def test_a_networks_dns_elsewhere_is_led_to(world: World) -> None:
    """Port 53 of the gateway is the DNS's, also where a container has published it."""
    net = world.network()
    world.up(net)
    one, two = world.attach(net, 2, [Port(53, 5353, protocol="udp")]), world.attach(net, 3)
    world.serve("", 5300, "udp", net.gateway)
    world.serve(one.container_name, 5353, "udp")
    nfset.change(ownership.FAMILY, ownership.table(TAG), [ruleset.resolver_element(net, 5300)])
    assert world.ask(two.container_name, net.gateway, 53, "udp") == two.ip, "the DNS sees who asks"
    assert world.ask("outside", LAN, 53, "udp") == PEER
    before = sh("nft list ruleset")
    sh("nft flush ruleset")
    bridge.reload(TAG, world.wanted([net], [one, two], {net.name: 5300})).run(At())
    assert sh("nft list ruleset") == before
    nfset.remove(ownership.FAMILY, ownership.table(TAG), [ruleset.resolver_element(net, 5300)])
    world.serve("", 53, "udp", net.gateway)
    assert world.ask(two.container_name, net.gateway, 53, "udp") == two.ip, "nor does a published port take its place"


def test_forwarding_that_somebody_switched_on_since_stays_on(world: World) -> None:
    net = world.network()
    world.up(net)
    sh("sysctl -q -w net.ipv4.ip_forward=1")
    try:
        world.down(net)
        assert settings.read(settings.forwarding("lan0")) == "1"
    finally:
        sh("sysctl -q -w net.ipv4.ip_forward=0")


def test_interfaces_that_have_gone_since_are_no_matter(world6: World) -> None:
    sh(f"ip link add gone type bridge && ip link set gone up && ip addr add 198.51.100.1/24 dev gone && {a_router('vpn')}")
    net = world6.network(ipv6=True)
    world6.up(net)
    assert {"net/ipv4/conf/gone/forwarding", "net/ipv6/conf/gone/forwarding", "net/ipv6/conf/vpn/forwarding"} <= set(world6.recorded)
    sh("ip link del gone; ip link del vpn")
    world6.down(net)
    assert settings.read("net/ipv6/conf/all/forwarding") == "0"


# ---- what is made, as iproute2 sees it

def test_what_is_made_is_what_was_asked_for(world: World) -> None:
    sh("ip link set lan0 mtu 1400")
    net = world.network()
    world.up(net)
    one = world.attach(net, 2, [Port(8080, 80)])
    two = world.attach(net, 3)
    assert settings.read("net/ipv6/conf/br0/disable_ipv6") == "1"
    br, = pretend.ip("addr show br0")
    assert (br["address"], br["mtu"], br["ifalias"]) == (ownership.bridge_mac(net), 1400, f"minidocker:{TAG}:{net.id}")
    assert br["group"] == str(ownership.GROUP)
    assert [(a["family"], a["local"], a["prefixlen"]) for a in br["addr_info"]] == [("inet", "172.17.0.1", 24)]  # type: ignore[attr-defined]
    host, = pretend.ip(f"addr show {one.host_link}")
    assert (host["address"], host["mtu"], host["master"], host["ifalias"], host["addr_info"]) == (
        ipam.host_mac_of(one.ip), 1400, "br0", f"minidocker:{TAG}:{one.container_id}", [])
    assert pretend.ip(f"link show {one.host_link}")[0]["inet6_addr_gen_mode"] == "none"
    assert host["linkinfo"]["info_slave_data"]["hairpin"] is True  # type: ignore[index]
    assert pretend.ip(f"link show {two.host_link}")[0]["linkinfo"]["info_slave_data"]["hairpin"] is False  # type: ignore[index]
    inside = {str(link["ifname"]): link for link in pretend.ip("-n", one.container_name, "addr")}
    assert (inside["eth0"]["address"], inside["eth0"]["mtu"]) == (one.mac, 1400)
    assert [a["local"] for a in inside["eth0"]["addr_info"]] == [one.ip]  # type: ignore[attr-defined]
    assert [a["local"] for a in inside["lo"]["addr_info"]] == ["127.0.0.1"]  # type: ignore[attr-defined]
    assert pretend.ip("-n", one.container_name, "route show default")[0]["gateway"] == net.gateway
    gateway, = pretend.ip("-n", one.container_name, "neigh")
    assert (gateway["dst"], gateway["lladdr"], gateway["state"]) == (net.gateway, ownership.bridge_mac(net), ["PERMANENT"])
    assert {(n["dst"], n["lladdr"]) for n in pretend.ip("neigh show nud permanent dev br0")} == {(e.ip, e.mac) for e in (one, two)}


@pytest.mark.parametrize("options", [{}, {"ipv6": True}, {"ipv6": True, "isolated": True, "internal": True, "mtu": 1400}],
                         ids=["IPv4", "both", "isolated"])
def test_the_explained_commands_do_the_same(world6: World, options: dict[str, object]) -> None:
    """What --explain prints, run by bash, makes what the plans make."""
    world = world6
    net = world.network(**options)  # type: ignore[arg-type]

    def made(name: str) -> object:
        inside, host_link = ["-n", name], world.endpoint(net, 2).host_link
        links = [*pretend.ip("addr show br0"), *pretend.ip(f"addr show {host_link}")]
        slaves = [link["linkinfo"].get("info_slave_data", {}) for link in links]  # type: ignore[attr-defined]
        ports = [[slave.get(key) for key in ("isolated", "hairpin")] for slave in slaves]
        there = [*pretend.ip(*inside, "addr"), *pretend.ip(*inside, "route show table all")]
        there += [route for route in pretend.ip(*inside, "-6 route") if not str(route["dst"]).startswith("fe80:")]
        for link in [*links, *there]:
            for changing in ("ifindex", "link_index", "link_netnsid", "linkinfo"):
                link.pop(changing, None)
            addresses = link.get("addr_info", [])
            link["addr_info"] = [address for address in addresses if address["scope"] != "link"]  # type: ignore[attr-defined]
        neighbours = [*pretend.ip("neigh show nud permanent"), *pretend.ip(*inside, "neigh show nud permanent")]
        forwards = [settings.read(settings.forwarding(link)) for link in ("br0", "lan0")]
        six = [settings.read(f"net/ipv6/conf/{link}/{setting}") for link in ("all", "lan0", "br0", host_link)
               for setting in ("forwarding", "accept_ra", "accept_dad", "disable_ipv6")]  # fmt: skip
        conf = [sh(f"ip netns exec {name} sysctl net.ipv{family}.conf.eth0.{setting}") for family, setting in (
            (4, "arp_notify"), (6, "accept_ra"), (6, "accept_dad"), (6, "ndisc_notify"), (6, "disable_ipv6"))]  # fmt: skip
        rest = settings.read("net/ipv4/conf/br0/route_localnet"), ports, six, conf
        return links, there, neighbours, sh("nft list ruleset"), forwards, rest

    sh("sysctl -q -w net.ipv6.conf.lan0.accept_ra=1")
    place = world.endpoint(net, 2, [Port(8080, 80)])
    outward = forwarding.observed(net, TAG, {})
    plan = bridge.up(net, TAG, outward, others.seen(TAG)) + endpoint.attach(net, TAG, place, None)
    plan.run(world.namespace("planned"))
    by_plan = made("planned")
    endpoint.detach(net, TAG, place).run(At())
    bridge.down(net, TAG, outward.before, last=True).run(At())
    at = world.namespace("typed")
    script = "\n".join(step.shell() for step in plan.steps)
    subprocess.run(["bash", "-euc", script], env={**os.environ, "PID": str(at.pid)}, check=True)
    world.recorded = outward.before
    assert made("typed") == by_plan


def test_loopback_only(world: World) -> None:
    at = world.namespace("none")
    inside.Loopback().apply(at)
    assert [(link["ifname"], link["operstate"]) for link in pretend.ip("-n none link")] == [("lo", "UNKNOWN")]


def test_large_transfers_pass_a_narrow_uplink(world: World) -> None:
    """MSS clamping: the far side's answers fit a way of 1,400 bytes without any ICMP."""
    net = world.network(mtu=1500)
    sh("ip link set lan0 mtu 1400")
    world.up(net)
    one = world.attach(net, 2)
    server = "import socket; s=socket.create_server(('0.0.0.0', 80)); print('ready', flush=True); c,_=s.accept(); " \
             "print(c.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG), flush=True); c.sendall(bytes(1<<20)); c.close()"
    process = subprocess.Popen(python("outside", server), stdout=subprocess.PIPE, text=True)
    world.processes.append(process)
    assert process.stdout is not None
    process.stdout.readline()
    client = "import socket; s=socket.create_connection(('192.0.2.2', 80), 5); n=0\n" \
             "while (d := s.recv(65536)): n += len(d)\nprint(n)"
    got = subprocess.run(python(one.container_name, client), capture_output=True, text=True, check=True)
    assert int(got.stdout) == 1 << 20
    assert int(process.stdout.readline()) <= 1360


def test_the_1024th_container_of_a_bridge_is_refused_clearly(world: World) -> None:
    """BR_MAX_PORTS is 1,024 with number 0 unused."""
    net = world.network()
    world.up(net)
    crowd = world.namespace("crowd")
    index = ownership.ready(net, TAG).index
    with Socket() as netlink:
        netlink.batch([veth_create(f"md{n}", ipam.host_mac_of(f"10.0.{n >> 8}.{n & 255}"), 1500, index, f"e{n}",
                                   ipam.mac_of(f"10.0.{n >> 8}.{n & 255}"), crowd.netns) for n in range(1023)])
    place = world.endpoint(net, 2)
    with pytest.raises(ConflictError) as full:
        endpoint.attach(net, TAG, place, ownership.ready(net, TAG)).run(world.namespace("last"))
    assert str(full.value) == "attach `c02` to bridge `br0`: the bridge is full, it takes 1,023 containers"
    assert ownership.inspect_link(place.host_link) is None


# ---- who has a port

def test_a_process_that_has_the_port_is_named(world: World) -> None:
    world.serve("", 9000, address="127.0.0.1")
    holder = f"process {world.processes[-1].pid} \\(python"
    for host_ip in ("", "127.0.0.1", "0.0.0.0"):
        with pytest.raises(ConflictError, match=f"the port is in use by {holder}"):
            publish.check_unheld([Port(9000, 80, host_ip)])
    publish.check_unheld([Port(9000, 80, LAN), Port(9000, 80, protocol="udp"), Port(9001, 80)])
    world.serve("", 9002, "udp", LAN)
    with pytest.raises(ConflictError, match=r"publish 192.0.2.1:9002->80/udp: the port is in use by process"):
        publish.check_unheld([Port(9002, 80, LAN, "udp")])


def test_the_near_end_of_a_connection_does_not_hold_its_port(world: World) -> None:
    import socket

    world.serve("outside")
    with socket.create_connection((PEER, 80)) as connection:
        publish.check_unheld([Port(connection.getsockname()[1], 80)])


def test_an_address_the_host_does_not_have(world: World) -> None:
    with pytest.raises(UsageError, match=r"publish 203.0.113.9:80->80/tcp: this host has no address `203.0.113.9`"):
        publish.check_unheld([Port(80, 80, "203.0.113.9")])


# ---- the ip netns link

def test_the_netns_link_of_a_stranger_is_left_alone(world: World) -> None:
    at = world.namespace("mine")
    assert "mine" in sh("ip netns list")
    inode = os.stat("/run/netns/mine").st_ino
    assert not names.publish_netns("outside", at.pid)
    assert not names.publish_netns("mine", os.getpid())
    assert not names.withdraw_netns("outside", os.stat("/run/netns/outside").st_ino)
    assert not names.withdraw_netns("mine", inode + 1)
    world.processes[0].kill()
    world.processes[0].wait()
    assert names.withdraw_netns("mine", inode)
    assert not names.withdraw_netns("mine", inode)
    assert "outside" in sh("ip netns list")
