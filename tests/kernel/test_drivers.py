"""The other kinds of networks: isolated bridges, a cable between two containers, an interface on the host's own wire."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from minidocker.errors import ConflictError, KernelError, NotFoundError
from minidocker.network import endpoint, inside, ipam, macvlan, ownership, ptp
from minidocker.plan import At, Plan
from minidocker.spec.records import MACVLAN, PTP, Endpoint, Network, Port
from tests import pretend
from tests.kernel.world import LAN, LAN6, PEER, PEER6, TAG, World, state
from tests.pretend import sh


def eventually(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def links(where: str) -> set[str]:
    return {str(link["ifname"]) for link in pretend.ip("-n", where, "link")}


# ---- isolated

@pytest.fixture
def apart(world6: World) -> tuple[Network, Endpoint, Endpoint]:
    net = world6.network(ipv6=True, isolated=True)
    world6.up(net)
    return net, world6.attach(net, 2, [Port(8080, 80)]), world6.attach(net, 3)


def test_isolated_containers_reach_the_host_and_outside_but_not_each_other(
    world6: World, apart: tuple[Network, Endpoint, Endpoint], either: None,
) -> None:  # fmt: skip
    net, one, two = apart
    for address in ("0.0.0.0", "::"):
        world6.serve(one.container_name, address=address)
        world6.serve("outside", address=address)
        world6.serve("", 9000, address=address)
    for own, gateway in ((one.ip, net.gateway), (one.ip6, net.gateway6)):
        assert world6.cannot(two.container_name, own)
        assert world6.ask("", own) == gateway
        assert world6.ask(two.container_name, gateway, 9000) in (two.ip, two.ip6)
    assert (world6.ask(two.container_name, PEER), world6.ask(two.container_name, PEER6)) == (LAN, LAN6)


def test_not_even_by_way_of_the_gateway(world6: World, apart: tuple[Network, Endpoint, Endpoint], either: None) -> None:
    net, one, two = apart
    for place, other in ((one, two), (two, one)):
        sh(f"ip -n {place.container_name} route add {other.ip}/32 via {net.gateway}; "
           f"ip -n {place.container_name} -6 route add {other.ip6}/128 via {net.gateway6}")
    for address in ("0.0.0.0", "::"):
        world6.serve(one.container_name, address=address)
    assert world6.cannot(two.container_name, one.ip) and world6.cannot(two.container_name, one.ip6)
    sh(f"nft add element inet {ownership.table(TAG)} same '{{ br0 . br0 }}'")  # it is the table that keeps them apart there
    assert world6.ask(two.container_name, one.ip) == two.ip
    assert world6.ask(two.container_name, one.ip6) == two.ip6


def test_an_isolated_containers_published_port_is_for_the_others(
    world6: World, apart: tuple[Network, Endpoint, Endpoint], either: None,
) -> None:  # fmt: skip
    """No traffic between its containers is none, by a published port neither: as docker without icc."""
    _, one, two = apart
    for address in ("0.0.0.0", "::"):
        world6.serve(one.container_name, address=address)
    for own, there in ((LAN, PEER), (LAN6, PEER6)):
        assert world6.ask("outside", own, 8080) == there
        assert world6.ask("", own, 8080) == own
        assert world6.cannot(two.container_name, own, 8080)
    other = world6.network(1)
    world6.up(other)
    assert world6.ask(world6.attach(other, 2).container_name, LAN, 8080) == "172.17.0.1", "who is in another network may"


def test_isolation_is_of_its_own_network_alone(world6: World, apart: tuple[Network, Endpoint, Endpoint]) -> None:
    other = world6.network(1)
    world6.up(other)
    one, two = world6.attach(other, 2), world6.attach(other, 3)
    world6.serve(one.container_name)
    assert world6.ask(two.container_name, one.ip) == two.ip


# ---- a cable

class Pair:
    """A ptp network of two containers, by the names c1 and c2."""

    def __init__(self, world: World, ipv6: bool = False, mtu: int = 0) -> None:
        six = {"subnet6": "fd00:1::/64"} if ipv6 else {}
        self.world = world
        self.net = Network("123456789abc", "cable", "10.1.0.0/24", "", "", PTP, mtu, internal=True, **six)  # type: ignore[arg-type]
        self.at: dict[int, At] = {}

    def place(self, number: int, generation: int = 1) -> Endpoint:
        ip = f"10.1.0.{number}"
        ip6 = f"fd00:1::a01:{number}" if self.net.subnet6 else ""
        return Endpoint(self.net.name, f"{number}" * 64, f"c{number}", ip, ipam.mac_of(ip), generation, ip6=ip6)

    def plan(self, number: int, generation: int = 1, other_generation: int = 1) -> Plan:
        other = 3 - number
        peer = None
        if other in self.at:
            peer = ptp.Peer(self.place(other, other_generation), self.at[other].pid, self.at[other].netns)
        return endpoint.attach(self.net, TAG, self.place(number, generation), None, False, peer)

    def come(self, number: int, generation: int = 1, other_generation: int = 1) -> None:
        at = self.world.namespace(f"c{number}")
        self.plan(number, generation, other_generation).run(at)
        self.at[number] = at

    def go(self, number: int) -> None:
        self.world.ended(f"c{number}", self.at.pop(number))

    def talk(self) -> None:
        """Each reaches the other."""
        for number, other in ((1, 2), (2, 1)):
            sh(f"ip netns exec c{number} ping -q -c1 -W5 10.1.0.{other}")
            if self.net.subnet6:
                sh(f"ip netns exec c{number} ping -6 -q -c1 -W5 fd00:1::a01:{other}")


def interface(name: str) -> dict[str, object]:
    [found] = pretend.ip("-n", name, "addr show eth0")
    return found


def test_the_first_has_its_end_and_no_carrier(world: World) -> None:
    cable = Pair(world, ipv6=True, mtu=1400)
    before = state()
    cable.come(1)
    found = interface("c1")
    assert (found["address"], found["mtu"], "NO-CARRIER" in found["flags"], "UP" in found["flags"]) == (  # type: ignore[operator]
        cable.place(1).mac, 1400, True, True)
    assert {a["local"] for a in found["addr_info"]} == {"10.1.0.1", "fd00:1::a01:1"}  # type: ignore[attr-defined]
    [waiting] = pretend.ip(f"link show {cable.place(1).host_link}")
    assert (waiting["ifalias"], "UP" in waiting["flags"]) == (f"minidocker:{TAG}:{'1' * 64}", False)  # type: ignore[operator]
    assert pretend.ip("-n c1 route show default") == []
    assert state()["nft"] == before["nft"]


@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "both"])
def test_the_second_takes_the_other_end(world: World, ipv6: bool) -> None:
    before = state()
    cable = Pair(world, ipv6)
    cable.come(1)
    cable.come(2)
    cable.talk()
    assert links("c1") == links("c2") == {"lo", "eth0"}
    assert (interface("c1")["address"], interface("c2")["address"]) == (cable.place(1).mac, cable.place(2).mac)
    assert state() == before, "nothing of it is on the host"
    assert all(not pretend.ip("-n", name, family, "route show default") for name in ("c1", "c2") for family in ("-4", "-6"))


@pytest.mark.parametrize("gone", [1, 2])
def test_when_one_ends_and_comes_again_the_cable_is_laid_anew(world: World, gone: int) -> None:
    before = state()
    cable = Pair(world, ipv6=True)
    cable.come(1)
    cable.come(2)
    for generation in (2, 3):
        cable.go(gone)
        left = 3 - gone
        eventually(lambda left=left: links(f"c{left}") == {"lo"})  # type: ignore[misc]
        cable.come(gone, generation)
        cable.talk()
        assert state() == before


def test_one_who_comes_while_the_old_cable_is_dying(world: World) -> None:
    """The other's end of the old cable is there still, as its namespace takes some time to go."""
    cable = Pair(world)
    cable.come(1)
    cable.come(2)
    del cable.at[1]
    at = world.namespace("again")  # the old one lives on
    cable.plan(1, 2).run(at)
    sh("ip netns exec again ping -q -c1 -W5 10.1.0.2")
    assert links("c2") == links("again") == {"lo", "eth0"}


def test_the_first_ends_alone_and_its_cable_with_it(world: World) -> None:
    before = state()
    cable = Pair(world)
    cable.come(1)
    cable.go(1)
    eventually(lambda: ownership.inspect_link(cable.place(1).host_link) is None)
    assert state() == before
    cable.come(2)
    cable.come(1, 2)
    cable.talk()


def test_both_end_and_come_in_the_other_order(world: World) -> None:
    cable = Pair(world)
    cable.come(1)
    cable.come(2)
    cable.go(1)
    cable.go(2)
    cable.come(2, 2)
    cable.come(1, 2, 2)
    cable.talk()


def test_a_peer_that_is_not_up_yet_finds_its_end_here(world: World) -> None:
    """Its lease is taken, its namespace is not made: the cable's other end waits, as for nobody."""
    cable = Pair(world)
    at = world.namespace("c1")
    endpoint.attach(cable.net, TAG, cable.place(1), None, False, ptp.Peer(cable.place(2), 0, -1)).run(at)
    cable.at[1] = at
    assert ownership.inspect_link(cable.place(1).host_link) is not None
    cable.come(2)
    cable.talk()


def test_a_strangers_link_of_that_name_is_not_taken(world: World) -> None:
    cable = Pair(world)
    cable.come(1)
    cable.come(2)
    cable.go(2)
    eventually(lambda: links("c1") == {"lo"})
    name = cable.place(1).host_link
    sh(f"ip link add {name} type bridge && ip link set {name} alias somebody")
    try:
        at = world.namespace("c2")
        plan = cable.plan(2, 2)
        assert plan.steps[0].shell().startswith("ip link add"), "nor shown to be taken"
        plan.run(at)
        cable.at[2] = at
        cable.talk()
        assert pretend.ip(f"link show {name}")[0]["ifalias"] == "somebody"
    finally:
        sh(f"ip link del {name}")


@pytest.mark.parametrize("waiting", [False, True], ids=["a new cable", "the end that waits"])
def test_what_fails_is_undone_and_can_be_tried_again(world: World, monkeypatch: pytest.MonkeyPatch, waiting: bool) -> None:
    cable = Pair(world)
    if waiting:
        cable.come(1)
    before = state()
    at = world.namespace("c2")
    plan = cable.plan(2)
    monkeypatch.setattr(plan.steps[-1], "apply", lambda at: (_ for _ in ()).throw(KernelError("test", 1)))
    with pytest.raises(KernelError):
        plan.run(at)
    assert links("c2") == {"lo"}
    if not waiting:
        assert state() == before
    else:  # the cable went with its end; the next one lays another
        assert links("c1") == {"lo"}
    cable.plan(2).run(at)
    cable.at[2] = at
    if not waiting:
        cable.come(1)
    cable.talk()


@pytest.mark.parametrize("case", ["alone", "waiting", "anew"])
def test_the_commands_that_are_shown_do_the_same(world: World, case: str) -> None:
    def typed(plan: Plan, at: At) -> None:
        script = "\n".join(step.shell() for step in plan.steps)
        subprocess.run(["bash", "-euc", script], env={**os.environ, "PID": str(at.pid)}, check=True)

    def made() -> object:
        found = [*pretend.ip("-n c2 addr"), *pretend.ip("-n c2 route"), *pretend.ip("link")]
        if 1 in cable.at:
            found += [*pretend.ip("-n c1 addr"), *pretend.ip("-n c1 route")]
        for link in found:
            for changing in ("ifindex", "link_index", "link_netnsid", "addr_info"):
                value = link.pop(changing, [])
                if changing == "addr_info":
                    link["ips"] = sorted(a["local"] for a in value if a.get("scope") != "link")  # type: ignore[attr-defined]
        return found

    results = []
    for run in (lambda plan, at: plan.run(at), typed):
        cable = Pair(world, ipv6=True)
        if case != "alone":
            cable.come(1)
        if case == "anew":
            cable.come(2)
            cable.go(2)
            eventually(lambda: links("c1") == {"lo"})
        at = world.namespace("c2")
        plan = cable.plan(2, 2)
        assert (case == "waiting") == plan.steps[0].why.startswith("the other end")
        run(plan, at)
        cable.at[2] = at
        eventually(lambda: "LOWER_UP" in interface("c2")["flags"] or case == "alone")  # type: ignore[operator]
        results.append(made())
        for number in list(cable.at):
            cable.go(number)
        eventually(lambda: not any(str(link["ifname"]).startswith("md") for link in pretend.ip("link")))
    assert results[0] == results[1]


# ---- on the host's own wire

@pytest.fixture
def wire(world6: World) -> Iterator[Network]:
    yield Network("223456789abc", "wire", "192.0.2.0/24", PEER, "", MACVLAN, parent="lan0", mode="bridge", subnet6="2001:db8::/64",
                  gateway6=PEER6)  # fmt: skip


def on(wire: Network, number: int) -> Endpoint:
    ip = f"192.0.2.{number}"
    return Endpoint(wire.name, f"{number:x}".ljust(64, "f"), f"w{number}", ip, ipam.mac_of(ip), ip6=f"2001:db8::c000:2{number:02x}")


def joined(world: World, wire: Network, number: int) -> Endpoint:
    place = on(wire, number)
    world.join(wire, place, world.namespace(place.container_name))
    return place


def test_containers_on_a_wire_reach_each_other_and_who_else_is_there(world6: World, wire: Network) -> None:
    before = state()
    one, two = joined(world6, wire, 10), joined(world6, wire, 11)
    for address in ("0.0.0.0", "::"):
        world6.serve(one.container_name, address=address)
        world6.serve("outside", address=address)
    assert (world6.ask(two.container_name, one.ip), world6.ask(two.container_name, one.ip6)) == (two.ip, two.ip6)
    assert (world6.ask(two.container_name, PEER), world6.ask(two.container_name, PEER6)) == (two.ip, two.ip6), "nothing is masqueraded"
    assert (world6.ask("outside", one.ip), world6.ask("outside", one.ip6)) == (PEER, PEER6)
    assert world6.cannot("", one.ip), "the kernel lets the host itself not speak with them"
    found = interface(one.container_name)
    assert (found["address"], found["mtu"], found["linkinfo"]["info_kind"]) == (one.mac, 1500, "macvlan")  # type: ignore[index]
    assert [(route["gateway"], route["dev"]) for route in pretend.ip("-n", one.container_name, "route show default")] == [(PEER, "eth0")]
    assert pretend.ip("-n", one.container_name, "neigh show nud permanent") == [], "the gateway is a stranger, and asked for"
    after = state()
    for part in ("routes", "nft", "sysctl", "neighbours", "rules"):
        assert after[part] == before[part]


def test_private_ones_are_kept_apart(world6: World, wire: Network) -> None:
    wire.mode = "private"
    one, two = joined(world6, wire, 10), joined(world6, wire, 11)
    for name in (one.container_name, "outside"):
        world6.serve(name)
    assert world6.cannot(two.container_name, one.ip)
    assert world6.ask(two.container_name, PEER) == two.ip


def test_an_internal_one_has_no_way_out(world6: World, wire: Network) -> None:
    wire.internal = True
    one = joined(world6, wire, 10)
    assert all(not pretend.ip("-n", one.container_name, family, "route show default") for family in ("-4", "-6"))


def test_its_mtu_is_the_networks_or_the_parents(world6: World, wire: Network) -> None:
    sh("ip link set lan0 mtu 1450")
    assert interface(joined(world6, wire, 10).container_name)["mtu"] == 1450
    wire.mtu = 1400
    assert interface(joined(world6, wire, 11).container_name)["mtu"] == 1400


def test_it_goes_with_its_namespace_or_when_it_is_unplugged(world6: World, wire: Network) -> None:
    before = state()
    place = on(wire, 10)
    at = world6.namespace(place.container_name)
    for _ in range(2):
        world6.join(wire, place, at)
        assert endpoint.detach(wire, TAG, place).steps == [], "nothing of it is on the host"
        inside.Unplug(place).apply(at)
        assert links(place.container_name) == {"lo"}
    world6.join(wire, place, at)
    world6.ended(place.container_name, at)
    eventually(lambda: state()["links"] == before["links"])  # the parent hears everything as long as there is one


def test_what_fails_is_undone(world6: World, wire: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    place = on(wire, 10)
    at = world6.namespace(place.container_name)
    plan = endpoint.attach(wire, TAG, place)
    monkeypatch.setattr(plan.steps[-1], "apply", lambda at: (_ for _ in ()).throw(KernelError("test", 1)))
    with pytest.raises(KernelError):
        plan.run(at)
    assert links(place.container_name) == {"lo"}


def test_a_parent_that_is_not_there_is_named(world6: World, wire: Network) -> None:
    wire.parent = "eth7"
    place = on(wire, 10)
    for use in (lambda: macvlan.Parent("eth7"), lambda: endpoint.attach(wire, TAG, place).run(world6.namespace("w10"))):
        with pytest.raises(NotFoundError) as caught:
            use()
        assert (caught.value.message, caught.value.hint) == ("this host has no interface `eth7`", "ip -br link shows which there are")


def test_what_a_parent_is_like(world6: World) -> None:
    parent = macvlan.Parent("lan0")
    assert (parent.subnet, parent.gateway, parent.addresses, parent.link.name) == ("192.0.2.0/24", PEER, [LAN], "lan0")
    sh("ip addr add 10.7.0.5/16 dev lan0; ip route del default")
    parent = macvlan.Parent("lan0")
    assert (parent.gateway, parent.addresses) == ("", [LAN, "10.7.0.5"])
    assert parent.subnet in ("192.0.2.0/24", "10.7.0.0/16")
    sh("ip addr flush dev lan0")
    parent = macvlan.Parent("lan0")
    assert (parent.subnet, parent.gateway, parent.addresses) == ("", "", [])


def test_the_macvlan_command_that_is_shown_does_the_same(world6: World, wire: Network) -> None:
    def made(name: str) -> object:
        found = [*pretend.ip("-n", name, "addr"), *pretend.ip("-n", name, "route"), *pretend.ip("-n", name, "-6 route show default")]
        for link in found:
            for changing in ("ifindex", "link_index", "link_netnsid", "addr_info", "linkinfo"):
                value = link.pop(changing, [])
                if changing == "addr_info":
                    link["ips"] = sorted(a["local"] for a in value if a.get("scope") != "link")  # type: ignore[attr-defined]
        return found

    place = on(wire, 10)
    planned, by_hand = world6.namespace("planned"), world6.namespace("typed")
    plan = endpoint.attach(wire, TAG, place)
    plan.run(planned)
    by_plan = made("planned")
    inside.Unplug(place).apply(planned)
    script = "\n".join(step.shell() for step in plan.steps)
    subprocess.run(["bash", "-euc", script], env={**os.environ, "PID": str(by_hand.pid)}, check=True)
    assert made("typed") == by_plan


def test_two_of_the_same_mac_are_refused(world6: World, wire: Network) -> None:
    joined(world6, wire, 10)
    place = on(wire, 11)
    place.mac = on(wire, 10).mac
    with pytest.raises((KernelError, ConflictError), match="address already in use"):
        endpoint.attach(wire, TAG, place).run(world6.namespace("w11"))
