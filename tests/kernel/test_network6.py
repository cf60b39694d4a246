"""IPv6 on the managed bridge: who reaches whom, published ports, and the host's own settings kept and put back."""

from __future__ import annotations

import time

import pytest

from minidocker.errors import ConflictError
from minidocker.kernel import sysctl as settings
from minidocker.network import bridge, endpoint, forwarding, inside, ownership, publish
from minidocker.plan import At
from minidocker.spec.records import Endpoint, Network, Port
from tests import pretend
from tests.kernel.world import FAR6, LAN, LAN6, PEER, PEER6, TAG, World, far, python, state, without_tables
from tests.pretend import sh

FORWARDS, BELIEVES = "net/ipv6/conf/all/forwarding", "net/ipv6/conf/lan0/accept_ra"

# A router's advertisement, with the lifetime of its default route in seconds.
ADVERTISE = """
import socket, struct, sys
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
s.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, int(sys.argv[1]), 0, 0), ("ff02::1", 0, 0, socket.if_nametoindex("eth0")))
"""


@pytest.fixture
def net(world6: World) -> Network:
    made = world6.network(ipv6=True)
    world6.up(made)
    return made


def pair(world: World, net: Network, ports: list[Port] | None = None) -> tuple[Endpoint, Endpoint]:
    return world.attach(net, 2, ports), world.attach(net, 3)


# ---- who reaches whom

def test_host_siblings_and_outside(world6: World, net: Network, either: None) -> None:
    one, two = pair(world6, net)
    world6.serve(one.container_name, address="::")
    assert world6.ask("", one.ip6) == net.gateway6
    assert world6.ask(two.container_name, one.ip6) == two.ip6
    world6.serve("", 9000, address="::")
    assert world6.ask(one.container_name, net.gateway6, 9000) == one.ip6
    world6.serve("outside", address="::")
    assert world6.ask(one.container_name, PEER6) == LAN6  # masqueraded
    world6.serve("outside", 53, "udp", "::")
    assert world6.ask(one.container_name, PEER6, 53, "udp") == LAN6
    sh(f"ip netns exec {one.container_name} ping -6 -q -c1 -W2 {PEER6}")
    world6.serve("outside")
    assert world6.ask(one.container_name, PEER) == LAN  # and IPv4 as without


def test_all_is_known_without_asking(world6: World, net: Network) -> None:
    """Addresses are of use at once, neighbours are permanent, and nobody's advertisements are believed."""
    one, _ = pair(world6, net)
    name = one.container_name
    inside_ = {str(link["ifname"]): link for link in pretend.ip("-n", name, "-6 addr")}
    [own] = [a for a in inside_["eth0"]["addr_info"] if a["scope"] == "global"]  # type: ignore[attr-defined]
    assert (own["local"], own["prefixlen"], own.get("tentative")) == (one.ip6, 64, None)
    assert [a["local"] for a in inside_["lo"]["addr_info"]] == ["::1"]  # type: ignore[attr-defined]
    [default] = pretend.ip("-n", name, "-6 route show default")
    assert (default["gateway"], default["dev"]) == (net.gateway6, "eth0")
    neighbours = pretend.ip("-n", name, "-6 neigh show nud permanent")
    assert [(n["dst"], n["lladdr"]) for n in neighbours] == [(net.gateway6, ownership.bridge_mac(net))]
    assert (one.ip6, one.mac) in {(n["dst"], n["lladdr"]) for n in pretend.ip("-6 neigh show nud permanent dev br0")}
    [own] = [a for a in pretend.ip("-6 addr show br0")[0]["addr_info"] if a["scope"] == "global"]  # type: ignore[attr-defined]
    assert (own["local"], own["prefixlen"], own.get("tentative")) == (net.gateway6, 64, None)
    assert settings.read("net/ipv6/conf/br0/accept_ra") == settings.read(f"net/ipv6/conf/{one.host_link}/accept_ra") == "0"
    assert sh(f"ip netns exec {name} sysctl -n net.ipv6.conf.eth0.accept_ra net.ipv6.conf.eth0.ndisc_notify") == "0\n1\n"
    assert pretend.ip(f"-6 addr show {one.host_link}") in ([], [{}])


def test_a_container_without_a_lease_of_ipv6_has_none(world6: World) -> None:
    net = world6.network()
    world6.up(net)
    one = world6.attach(net, 2)
    assert [link for link in pretend.ip("-n", one.container_name, "-6 addr") if link] == []
    assert [link for link in pretend.ip("-6 addr show br0") if link] == []


def test_the_lan_cannot_reach_in_not_even_with_a_route(world6: World, net: Network, either: None) -> None:
    one = world6.attach(net, 2, [Port(8080, 81)])
    world6.serve(one.container_name, address="::")
    sh(f"ip -n outside -6 route add {net.subnet6} via {LAN6}")
    assert world6.cannot("outside", one.ip6)
    world6.serve("", 9000, address=net.gateway6)
    assert world6.cannot("outside", net.gateway6, 9000)
    without_tables()  # it is they who keep them out
    assert world6.ask("outside", one.ip6) == PEER6
    assert world6.ask("outside", net.gateway6, 9000) == PEER6


def test_forged_source_addresses_are_dropped(world6: World, net: Network) -> None:
    world6.attach(net, 2)
    sh(f"""nft add table ip6 probe; nft 'add chain ip6 probe c {{ type filter hook prerouting priority mangle; }}'
           nft add rule ip6 probe c iifname lan0 ip6 saddr {net.subnet6} counter
           nft add rule ip6 probe c iifname br0 ip6 saddr 2001:db8:9::/64 counter""")
    try:
        [lan0] = pretend.ip("link show lan0")
        sh(f"ip -n outside addr add fd00:17:1::9/128 dev lo nodad; ip -n c02 addr add 2001:db8:9::9/128 dev eth0 nodad; "
           f"ip -n outside neigh replace {LAN6} lladdr {lan0['address']} dev eth0 nud permanent")
        pings = (f"ip netns exec outside ping -6 -q -c1 -W0.2 -I fd00:17:1::9 {LAN6}; "
                 f"ip netns exec c02 ping -6 -q -c1 -W0.2 -I 2001:db8:9::9 {net.gateway6}")  # fmt: skip
        sh(pings, check=False)
        assert sh("nft list chain ip6 probe c").count("counter packets 0 ") == 2
        without_tables()
        sh(pings, check=False)
        assert sh("nft list chain ip6 probe c").count("counter packets 0 ") == 0
    finally:
        sh("nft delete table ip6 probe")


def test_the_host_does_not_become_a_router_for_its_lans(world6: World) -> None:
    with far("lan1"):
        world6.serve("far", address="::")
        net = world6.network(ipv6=True)
        world6.up(net)
        one = world6.attach(net, 2)
        assert world6.cannot("outside", FAR6)
        assert world6.ask(one.container_name, FAR6) == "2001:db8:1::1"
        assert world6.cannot("outside", FAR6)
        without_tables()
        assert world6.ask("outside", FAR6) == PEER6


def test_a_host_that_forwarded_before_goes_on_forwarding(world6: World) -> None:
    with far("lan1"):
        sh("sysctl -q -w net.ipv6.conf.all.forwarding=1")
        world6.serve("far", address="::")
        net = world6.network(ipv6=True)
        world6.up(net)
        assert forwarding.guarded6(world6.recorded) == []
        assert world6.ask("outside", FAR6) == PEER6
        world6.down(net)
        assert world6.ask("outside", FAR6) == PEER6


@pytest.mark.parametrize("again", [False, True], ids=["", "another network since"])
@pytest.mark.parametrize(("address", "there"), [("0.0.0.0", PEER), ("::", PEER6)], ids=["IPv4", "IPv6"])
def test_nor_for_a_lan_that_comes_later(world6: World, net: Network, address: str, there: str, again: bool) -> None:
    """A VPN, a WLAN: the kernel forwards IPv6 from every interface when it does so from one."""
    other = world6.network(1, ipv6=True)
    world6.serve("outside", address=address)
    with far("late"):
        if again:
            world6.up(other)
        assert world6.cannot("far", there)
        if there == PEER6:
            without_tables()  # it is they who keep it out
            assert world6.ask("far", there) == FAR6


def test_a_lan_that_comes_later_is_as_it_was_when_the_last_network_goes(world6: World, net: Network) -> None:
    other = world6.network(1, ipv6=True)
    with far("late"):
        world6.up(other)
        world6.down(net, last=False)
        world6.down(other)
        assert [settings.read(f"net/ipv{family}/conf/late/forwarding") for family in (4, 6)] == ["0", "0"]


@pytest.mark.parametrize("later", [False, True], ids=["there before", "comes later"])
def test_an_interface_that_has_heard_no_router_yet_goes_on_listening(world6: World, later: bool) -> None:
    """One that forwards, as all do where the host forwards, believes none with accept_ra 1, the kernel's default."""
    net, link = world6.network(ipv6=True), "ip link add idle type veth peer name idle1 && ip link set idle1 up && ip link set idle up"
    try:
        for step in (lambda: sh(link), lambda: world6.up(net))[:: -1 if later else 1]:
            step()
        forwards, believes = (settings.read(f"net/ipv6/conf/idle/{name}") for name in ("forwarding", "accept_ra"))
        assert (forwards, believes) in (("0", "1"), ("0", "2"), ("1", "2"))
        world6.down(net)
        assert [settings.read(f"net/ipv6/conf/idle/{name}") for name in ("forwarding", "accept_ra")] == ["0", "1"]
    finally:
        sh("ip link del idle")


def test_two_networks_cannot_reach_each_other_but_by_a_published_port(world6: World, net: Network, either: None) -> None:
    other = world6.network(1, ipv6=True)
    world6.up(other)
    one, two = world6.attach(net, 2, [Port(8080, 80)]), world6.attach(other, 2)
    world6.serve(one.container_name, address="::")
    assert world6.cannot(two.container_name, one.ip6)
    assert world6.cannot(two.container_name, net.gateway6, 80)
    assert world6.ask(two.container_name, LAN6, 8080) == net.gateway6


def test_an_internal_network_reaches_nothing_outside(world6: World) -> None:
    net = world6.network(ipv6=True, internal=True)
    world6.up(net)
    one, two = pair(world6, net)
    world6.serve("outside", address="::")
    world6.serve(two.container_name, address="::")
    assert world6.ask(one.container_name, two.ip6) == one.ip6
    assert world6.ask(one.container_name, PEER6) == "OSError"  # no route: refused at once
    sh(f"ip -n {one.container_name} -6 route add default via {net.gateway6}")
    assert world6.cannot(one.container_name, PEER6)
    world6.serve("", 9000, address="::")
    assert world6.cannot(one.container_name, LAN6, 9000), "nor the host but by the gateway's address"
    assert world6.ask(one.container_name, net.gateway6, 9000) == one.ip6


# ---- published ports

@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_published_port_from_everywhere(world6: World, net: Network, either: None, protocol: str) -> None:
    one, two = pair(world6, net, [Port(8080, 80, protocol=protocol)])
    world6.serve(one.container_name, 80, protocol, "::")
    assert world6.ask("outside", LAN6, 8080, protocol) == PEER6            # the server sees the real client
    assert world6.ask("", LAN6, 8080, protocol) == LAN6                    # the host by its LAN address
    assert world6.ask("", net.gateway6, 8080, protocol) == net.gateway6
    assert world6.ask(two.container_name, LAN6, 8080, protocol) == net.gateway6      # a sibling
    assert world6.ask(two.container_name, net.gateway6, 8080, protocol) == net.gateway6
    assert world6.ask(one.container_name, LAN6, 8080, protocol) == net.gateway6      # hairpin: itself
    assert world6.ask(one.container_name, net.gateway6, 8080, protocol) == net.gateway6
    assert world6.ask("", "::1", 8080, protocol) == "ConnectionRefusedError"         # at once: the kernel leads nothing from ::1 away
    world6.serve(one.container_name, 80, protocol)
    assert world6.ask("outside", LAN, 8080, protocol) == PEER                        # and of IPv4
    assert world6.ask("", "127.0.0.1", 8080, protocol) == net.gateway


def test_a_port_of_one_family_or_address_is_of_no_other(world6: World, net: Network) -> None:
    one = world6.attach(net, 2, [Port(8080, 80, "::"), Port(8081, 80, "0.0.0.0"), Port(8082, 80, LAN6)])
    world6.serve(one.container_name, address="::")
    world6.serve(one.container_name)
    for port, four, six, gateway6 in ((8080, False, True, True), (8081, True, False, False), (8082, False, True, False)):
        assert world6.ask("outside", LAN, port) == (PEER if four else "ConnectionRefusedError")
        assert world6.ask("outside", LAN6, port) == (PEER6 if six else "ConnectionRefusedError")
        assert world6.ask("", net.gateway6, port) == (net.gateway6 if gateway6 else "ConnectionRefusedError")


def test_withdrawn_ports_are_refused(world6: World, net: Network) -> None:
    one = world6.attach(net, 2, [Port(8080, 80), Port(8082, 80, LAN6)])
    world6.serve(one.container_name, address="::")
    assert world6.ask("outside", LAN6, 8082) == PEER6
    for _ in range(2):
        endpoint.withdrawn(TAG, one).run(At())
    assert {world6.ask("outside", LAN6, port) for port in (8080, 8082)} == {"ConnectionRefusedError"}
    endpoint.published(net, TAG, one).run(At())
    assert world6.ask("outside", LAN6, 8080) == PEER6


def test_a_port_that_is_another_containers_is_refused_in_either_family(world6: World, net: Network) -> None:
    world6.attach(net, 2, [Port(8080, 80, "::")])
    before = sh("nft list ruleset")
    clash = world6.endpoint(net, 3, [Port(8081, 80), Port(8080, 80)])
    with pytest.raises(ConflictError, match="published by another container"):
        endpoint.attach(net, TAG, clash, ownership.ready(net, TAG)).run(world6.namespace("clash"))
    assert sh("nft list ruleset") == before


@pytest.mark.parametrize(("host_ip", "clash"), [("", True), ("::", True), (LAN6, True), ("0.0.0.0", False), ("192.0.2.1", False)])
def test_a_process_that_has_the_port_is_named(world6: World, host_ip: str, clash: bool) -> None:
    for protocol, address in (("tcp", "::"), ("udp", LAN6)):
        world6.serve("", 9000, protocol, address)
        port = Port(9000, 80, host_ip, protocol)
        holder = f"process {world6.processes[-1].pid} (python"
        if clash:
            with pytest.raises(ConflictError) as caught:
                publish.check_unheld([port], ipv6=True)
            assert caught.value.message.startswith(f"publish {port}: the port is in use by {holder}")
        else:
            publish.check_unheld([port], ipv6=True)
    publish.check_unheld([Port(9000, 80), Port(9000, 80, protocol="udp")])  # where the container has no IPv6 it is of IPv4 alone


def test_an_address_the_host_does_not_have(world6: World) -> None:
    with pytest.raises(Exception, match=r"publish \[2001:db8::99\]:80->80/tcp: this host has no address `2001:db8::99`") as caught:
        publish.check_unheld([Port(80, 80, "2001:db8::99")])
    assert caught.value.hint == "see them with: ip -br -6 address"  # type: ignore[attr-defined]


# ---- the host's own settings

def test_a_host_that_forwards_keeps_its_routers_route(world6: World) -> None:
    """Forwarding makes the kernel forget what it has from advertisements, and hear no more (ip-sysctl.rst, accept_ra)."""
    settings.write(BELIEVES, "1")
    sh("ip -6 route del default")
    router = "fe80::2"

    def default() -> list[tuple[object, object]]:
        return [(route["gateway"], route["protocol"]) for route in pretend.ip("-6 route show default")]

    def advertise(lifetime: int, wanted: list[tuple[object, object]]) -> None:
        deadline = time.monotonic() + 20
        while default() != wanted:
            assert time.monotonic() < deadline, default()
            sh(" ".join(map(_quoted, python("outside", ADVERTISE, str(lifetime)))))
            time.sleep(0.01)

    advertise(1800, [(router, "ra")])
    net = world6.network(ipv6=True)
    world6.up(net)
    assert (settings.read(FORWARDS), settings.read(BELIEVES)) == ("1", "2")
    assert default() == [(router, "ra")]
    advertise(0, [])
    advertise(1800, [(router, "ra")])  # heard while it forwards
    one = world6.attach(net, 2)
    world6.serve("outside", address="::")
    assert world6.ask(one.container_name, PEER6) == LAN6
    world6.down(net)
    assert (settings.read(FORWARDS), settings.read(BELIEVES)) == ("0", "1")
    assert default() == [(router, "ra")]


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


@pytest.mark.parametrize("believed", ["0", "1", "2"])
def test_what_a_host_believes_is_what_it_believed(world6: World, believed: str) -> None:
    settings.write(BELIEVES, believed)
    net = world6.network(ipv6=True)
    world6.up(net)
    assert settings.read(BELIEVES) == {"0": "0", "1": "2", "2": "2"}[believed]
    world6.down(net)
    assert settings.read(BELIEVES) == believed


def test_ipv6_comes_with_the_network_that_needs_it_and_goes_with_the_last(world6: World) -> None:
    settings.write(BELIEVES, "1")
    before = state()
    four, six = world6.network(0), world6.network(1, ipv6=True)
    world6.up(four)
    assert (settings.read(FORWARDS), settings.read(BELIEVES)) == ("0", "1")
    world6.up(six)
    assert (settings.read(FORWARDS), settings.read(BELIEVES)) == ("1", "2")
    assert forwarding.guarded6(world6.recorded) == ["lan0"]
    world6.up(four)
    world6.down(four, last=False)
    assert (settings.read(FORWARDS), settings.read(BELIEVES)) == ("1", "2")
    world6.down(six)
    assert state() == before


def test_a_bridge_whose_ipv6_somebody_switched_off_is_taken_down_all_the_same(world6: World, net: Network) -> None:
    one = world6.attach(net, 2)
    settings.write("net/ipv6/conf/br0/disable_ipv6", "1")
    endpoint.detach(net, TAG, one).run(At())
    bridge.down(net, TAG, world6.recorded, last=True).run(At())
    assert ownership.inspect_link("br0") is None


# ---- several networks

def two_networks(world: World) -> tuple[Network, Network, Endpoint, Endpoint, At]:
    """A container with eth0 in the first, which gives the default route, and eth1 in the second."""
    a, b = world.network(0, ipv6=True), world.network(1, ipv6=True)
    world.up(a)
    world.up(b)
    first, second = world.endpoint(a, 2), world.endpoint(b, 2, interface=1, owner="c02")
    at = world.namespace("c02")
    world.join(a, first, at)
    world.join(b, second, at, default=False)
    return a, b, first, second, at


def ways_out(name: str) -> list[tuple[object, object]]:
    return [(route["gateway"], route["dev"]) for family in ("-4", "-6") for route in pretend.ip("-n", name, family, "route show default")]


def test_two_networks_and_the_default_route_by_one(world6: World) -> None:
    a, b, first, second, _ = two_networks(world6)
    assert ways_out("c02") == [(a.gateway, "eth0"), (a.gateway6, "eth0")]
    sibling = world6.attach(b, 3)
    for address in ("0.0.0.0", "::"):
        world6.serve(sibling.container_name, address=address)
        world6.serve("outside", address=address)
        world6.serve("c02", 81, address=address)
    assert (world6.ask("c02", sibling.ip), world6.ask("c02", sibling.ip6)) == (second.ip, second.ip6)
    assert (world6.ask("c02", PEER), world6.ask("c02", PEER6)) == (LAN, LAN6)
    assert (world6.ask("", first.ip, 81), world6.ask("", second.ip6, 81)) == (a.gateway, b.gateway6)
    assert world6.cannot(sibling.container_name, first.ip), "it is no way from one network into the other"
    assert {str(link["ifname"]) for link in pretend.ip("link") if str(link["ifname"]).startswith("md")} >= {
        first.host_link, second.host_link}


def test_the_way_out_goes_over_to_another_network(world6: World) -> None:
    _, b, first, second, at = two_networks(world6)
    for family_ in ("0.0.0.0", "::"):
        world6.serve("outside", address=family_)
    for _ in range(2):
        inside.Reroute(b, second).apply(at)
        assert ways_out("c02") == [(b.gateway, "eth1"), (b.gateway6, "eth1")]
    assert (world6.ask("c02", PEER), world6.ask("c02", PEER6)) == (LAN, LAN6)
    a = world6.network(0, ipv6=True)
    inside.Reroute(a, first).apply(at)
    assert ways_out("c02") == [(a.gateway, "eth0"), (a.gateway6, "eth0")]


def test_a_container_leaves_a_network_and_goes_on(world6: World) -> None:
    a, b, first, second, at = two_networks(world6)
    def of_the_host() -> list[object]:
        return [sh("nft list ruleset"), *(pretend.ip(f"-{family} neigh show nud permanent dev br1") for family in (4, 6))]

    before = of_the_host()
    third = world6.endpoint(b, 9, interface=2, owner="c02")
    world6.join(b, third, at, default=False)
    for _ in range(2):
        endpoint.detach(b, TAG, third).run(At())
        inside.Unplug(third).apply(at)
    assert of_the_host() == before
    assert {str(link["ifname"]) for link in pretend.ip("-n c02 link")} == {"lo", "eth0", "eth1"}
    assert ownership.inspect_link(third.host_link) is None
    endpoint.detach(a, TAG, first).run(At())
    inside.Unplug(first).apply(at)
    assert ways_out("c02") == []
    inside.Reroute(b, second).apply(at)
    world6.serve("outside", address="::")
    assert world6.ask("c02", PEER6) == LAN6


def test_an_interface_that_is_another_is_not_unplugged(world6: World) -> None:
    net = world6.network(ipv6=True)
    world6.up(net)
    at = world6.namespace("c02")
    place, stranger = world6.endpoint(net, 2), world6.endpoint(net, 9)
    world6.join(net, place, at)
    inside.Unplug(stranger).apply(at)  # of the same name, with another MAC
    assert {str(link["ifname"]) for link in pretend.ip("-n c02 link")} == {"lo", "eth0"}


def test_the_next_network_takes_the_default_route_when_it_is_joined(world6: World) -> None:
    a, b = world6.network(0, ipv6=True), world6.network(1)
    world6.up(a)
    world6.up(b)
    at = world6.namespace("c02")
    world6.join(a, world6.endpoint(a, 2), at)
    world6.join(b, world6.endpoint(b, 2, interface=1, owner="c02"), at, default=True)
    assert (b.gateway, "eth1") in ways_out("c02") and (a.gateway, "eth0") not in ways_out("c02")
