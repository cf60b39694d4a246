"""The managed bridge on a pretend host with a LAN peer: who reaches whom, who must not, and that everything goes again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from minidocker.errors import ConflictError, KernelError, UsageError
from minidocker.kernel import nftables
from minidocker.kernel import sysctl as settings
from minidocker.kernel.netlink import Socket
from minidocker.kernel.rtnetlink import veth_create
from minidocker.network import bridge, endpoint, firewall, ipam, names, ownership, publish
from minidocker.plan import At
from minidocker.spec import config
from minidocker.spec.records import Endpoint, Network, Port
from tests import pretend
from tests.pretend import sh

TAG = "ab12cd34"
LAN, PEER = "192.0.2.1", "192.0.2.2"
BRIDGE_NF = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")

SERVER = """
import socket, sys
kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}[sys.argv[3]]
s = socket.socket(socket.AF_INET, kind)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((sys.argv[1], int(sys.argv[2])))
if kind == socket.SOCK_STREAM: s.listen(64)
print("ready", flush=True)
while True:
    if kind == socket.SOCK_STREAM:
        c, peer = s.accept(); c.sendall(peer[0].encode()); c.close()
    else:
        _, peer = s.recvfrom(100); s.sendto(peer[0].encode(), peer)
"""
CLIENT = """
import socket, sys
kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}[sys.argv[3]]
s = socket.socket(socket.AF_INET, kind); s.settimeout(float(sys.argv[4]))
try:
    s.connect((sys.argv[1], int(sys.argv[2])))
    if kind == socket.SOCK_DGRAM: s.send(b"?")
    print(s.recv(100).decode(), end="")
except OSError as error:
    print(type(error).__name__, end="")
"""
UNREACHED = ("TimeoutError", "OSError")  # dropped, or EHOSTUNREACH: anything but an answer, and anything but a refusal


def python(where: str, program: str, *words: str) -> list[str]:
    return [*(["ip", "netns", "exec", where] if where else []), sys.executable, "-I", "-S", "-c", program, *words]


class World:
    """What one test builds; everything ends with it."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[str]] = []
        self.recorded: dict[str, str] = {}
        self.links: list[tuple[str, int]] = []
        self.descriptors: list[int] = []

    def network(self, number: int = 0, **options: object) -> Network:
        subnet = f"172.17.{number}.0/24"
        return Network(f"{number:x}23456789abc", f"br{number}", subnet, ipam.gateway(subnet), f"br{number}", **options)  # type: ignore[arg-type]

    def up(self, network: Network) -> None:
        observed = bridge.observed(network, TAG, self.recorded)
        self.recorded = observed.before
        bridge.up(network, TAG, observed).run(At())

    def down(self, network: Network, last: bool = True) -> None:
        bridge.down(network, TAG, self.recorded, last).run(At())

    def namespace(self, name: str) -> At:
        """A process in a network namespace of its own, and a name for `ip netns`."""
        process = subprocess.Popen(["unshare", "-n", "sleep", "1000"], text=True)
        self.processes.append(process)
        here = os.stat("/proc/self/ns/net").st_ino
        path = f"/proc/{process.pid}/ns/net"
        while os.stat(path).st_ino == here:
            time.sleep(0.002)
        assert names.publish_netns(name, process.pid)
        self.links.append((name, os.stat(path).st_ino))
        for setting, value in config.network_sysctls().items():
            sh(f"ip netns exec {name} sysctl -q -w '{setting}={value}'")
        self.descriptors.append(os.open(path, os.O_RDONLY))
        return At(pid=process.pid, netns=self.descriptors[-1])

    def endpoint(self, network: Network, number: int, ports: list[Port] | None = None) -> Endpoint:
        ip = network.subnet.replace("0/24", str(number))
        identity = f"{network.id[0]}{number:02x}".ljust(64, "e")
        return Endpoint(network.name, identity, f"c{network.id[0]}{number}", ip, ipam.mac_of(ip), ports=ports)

    def attach(self, network: Network, number: int, ports: list[Port] | None = None) -> Endpoint:
        """A container with the last part `number` in its address, known to `ip netns` by its name."""
        place = self.endpoint(network, number, ports)
        at = self.namespace(place.container_name)
        endpoint.attach(network, TAG, place, ownership.ready(network, TAG)).run(at)
        return place

    def serve(self, where: str, port: int = 80, protocol: str = "tcp", address: str = "0.0.0.0") -> None:
        """A server that answers each client with the client's address."""
        server = subprocess.Popen(python(where, SERVER, address, str(port), protocol), stdout=subprocess.PIPE, text=True)
        self.processes.append(server)
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"

    def ask(self, where: str, address: str, port: int = 80, protocol: str = "tcp", patience: float = 5) -> str:
        """What the server answers, or the exception's name."""
        return subprocess.run(python(where, CLIENT, address, str(port), protocol, str(patience)),
                              capture_output=True, text=True, check=True).stdout

    def cannot(self, where: str, address: str, port: int = 80) -> bool:
        return self.ask(where, address, port, patience=0.6) in UNREACHED

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
        for fd in self.descriptors:
            os.close(fd)
        for name, inode in self.links:
            names.withdraw_netns(name, inode)
        for link in pretend.ip("link"):
            if str(link.get("ifalias", "")).startswith("minidocker:"):
                sh(f"ip link del {link['ifname']}", check=False)
        deadline = time.monotonic() + 20
        while any(str(link["ifname"]).startswith("md") for link in pretend.ip("link")):  # they go with their namespaces
            assert time.monotonic() < deadline
            time.sleep(0.01)
        sh(f"nft delete table inet {firewall.table(TAG)}", check=False)
        for name in self.recorded:
            if settings.read(name) is not None:
                settings.write(name, "0")


@pytest.fixture
def world() -> Iterator[World]:
    with pretend.outside():
        made = World()
        try:
            yield made
        finally:
            made.close()


@pytest.fixture(params=["bridge-nf-call 0", "bridge-nf-call 1"])
def either(request: pytest.FixtureRequest) -> Iterator[None]:
    """With br_netfilter's calls off and on; where it is absent, once without."""
    if not BRIDGE_NF.exists():
        if request.param.endswith("1"):
            pytest.skip("br_netfilter is not loaded")
        yield
        return
    before = BRIDGE_NF.read_text()
    BRIDGE_NF.write_text(request.param[-1])
    yield
    BRIDGE_NF.write_text(before)


def state() -> dict[str, object]:
    """Everything a network may touch on the host."""
    settings = {
        str(path): path.read_text()
        for family, setting in (("ipv4", "forwarding"), ("ipv4", "route_localnet"), ("ipv6", "forwarding"),
                                ("ipv6", "disable_ipv6"), ("ipv6", "accept_ra"), ("ipv4", "rp_filter"))
        for path in sorted(Path(f"/proc/sys/net/{family}/conf").glob(f"*/{setting}"))
    }
    neighbours = [n for n in pretend.ip("-4 neigh") if "PERMANENT" in n["state"]]  # type: ignore[operator]
    return {
        "links": pretend.ip("link"), "addresses": pretend.ip("-4 addr"), "routes": pretend.ip("-4 route show table all"),
        "rules": pretend.ip("rule"), "neighbours": neighbours, "nft": json.loads(sh("nft -j list ruleset")), "sysctl": settings,
    }


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
    nftables.apply(f"delete table inet {firewall.table(TAG)}\n")  # it is the table that keeps them out
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
        nftables.apply(f"delete table inet {firewall.table(TAG)}\n")
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
        nftables.apply(f"delete table inet {firewall.table(TAG)}\n")
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
        assert bridge.guarded(world.recorded) == []
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
    nftables.apply(f"delete table inet {firewall.table(TAG)}\n")
    assert world.ask(one.container_name, "127.0.0.1", 9000) == one.ip


def test_packets_for_loopback_from_the_lan_are_dropped(world: World) -> None:
    net = world.network()
    world.up(net)
    settings.write("net/ipv4/conf/lan0/route_localnet", "1")  # as a host may have it for a reason of its own
    world.serve("", 9000, address="127.0.0.1")
    sh("ip -n outside addr del 127.0.0.1/8 dev lo; ip netns exec outside sysctl -q -w net.ipv4.conf.eth0.route_localnet=1; "
       f"ip -n outside route add 127.0.0.1/32 via {LAN} src {PEER}")
    assert world.cannot("outside", "127.0.0.1", 9000)
    nftables.apply(f"delete table inet {firewall.table(TAG)}\n")
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

def test_down_leaves_the_host_as_up_found_it(world: World) -> None:
    before = state()
    a, b = world.network(0), world.network(1, mtu=1400)
    world.up(a)
    world.up(b)
    world.up(a)  # again: nothing more
    one, two = world.attach(a, 2, [Port(8080, 80), Port(8081, 81, LAN)]), world.attach(b, 2)
    endpoint.detach(a, TAG, one).run(At())
    world.down(a, last=False)
    assert settings.read(settings.forwarding("lan0")) == "1"
    world.serve("outside")
    assert world.ask(two.container_name, PEER) == LAN
    endpoint.detach(b, TAG, two).run(At())
    world.down(b)
    world.down(b)  # again: nothing less
    assert state() == before


def test_a_failed_up_undoes_itself(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = state()
    net = world.network()
    plan = bridge.up(net, TAG, bridge.observed(net, TAG))
    monkeypatch.setattr(plan.steps[-1], "apply", lambda at: (_ for _ in ()).throw(KernelError("test", 1)))
    with pytest.raises(KernelError):
        plan.run(At())
    assert state() == before


def test_a_failed_second_network_leaves_the_first_one_working(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = world.network(0), world.network(1)
    world.up(a)
    one = world.attach(a, 2, [Port(8080, 80)])
    rules = sh("nft list ruleset")
    plan = bridge.up(b, TAG, bridge.observed(b, TAG, world.recorded))
    monkeypatch.setattr(plan.steps[-1], "apply", lambda at: (_ for _ in ()).throw(KernelError("test", 1)))
    with pytest.raises(KernelError):
        plan.run(At())
    assert sh("nft list ruleset") == rules
    assert ownership.ready(b, TAG).state == ownership.ABSENT
    world.serve("outside")
    assert world.ask(one.container_name, PEER) == LAN


def test_two_data_roots_share_an_uplink(world: World) -> None:
    """The one that goes first leaves forwarding to the other, the one that goes last switches it off."""
    before = state()
    a, b = world.network(0), world.network(1)
    world.up(a)
    theirs = bridge.observed(b, "another")
    bridge.up(b, "another", theirs).run(At())
    world.down(a)
    assert settings.read(settings.forwarding("lan0")) == "1"
    assert ownership.ready(b, "another").complete
    bridge.down(b, "another", theirs.before, last=True).run(At())
    assert state() == before


def test_a_failed_attach_undoes_itself(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    net = world.network()
    world.up(net)
    before = state()
    place = world.endpoint(net, 2, [Port(8080, 80)])
    plan = endpoint.attach(net, TAG, place)
    monkeypatch.setattr(plan.steps[1], "apply", lambda at: (_ for _ in ()).throw(KernelError("test", 1)))
    with pytest.raises(KernelError):
        plan.run(world.namespace("c02"))
    after = state()
    assert [link["ifname"] for link in pretend.ip("link")] == [link["ifname"] for link in before["links"]]  # type: ignore[attr-defined]
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


def test_after_a_flush_the_table_is_missed_and_rebuilt_the_same(world: World) -> None:
    net = world.network()
    world.up(net)
    one = world.attach(net, 2, [Port(8080, 80)])
    before = sh("nft list ruleset")
    sh("nft flush ruleset")
    assert not ownership.ready(net, TAG).firewall
    bridge.reload(TAG, [net], world.recorded, [one]).run(At())
    assert sh("nft list ruleset") == before
    bridge.reload(TAG, [net], world.recorded, [one]).run(At())
    assert sh("nft list ruleset") == before


def test_forwarding_that_somebody_switched_on_since_stays_on(world: World) -> None:
    net = world.network()
    world.up(net)
    sh("sysctl -q -w net.ipv4.ip_forward=1")
    try:
        world.down(net)
        assert settings.read(settings.forwarding("lan0")) == "1"
    finally:
        sh("sysctl -q -w net.ipv4.ip_forward=0")


# ---- what is made, as iproute2 sees it

def test_what_is_made_is_what_was_asked_for(world: World) -> None:
    sh("ip link set lan0 mtu 1400")
    net = world.network()
    world.up(net)
    one = world.attach(net, 2, [Port(8080, 80)])
    two = world.attach(net, 3)
    br, = pretend.ip("addr show br0")
    assert (br["address"], br["mtu"], br["ifalias"]) == (ownership.bridge_mac(net), 1400, f"minidocker:{TAG}:{net.id}")
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


def test_the_explained_commands_do_the_same(world: World) -> None:
    """What --explain prints, run by bash, makes what the plans make."""
    net = world.network()

    def made(name: str) -> object:
        inside = ["-n", name]
        links = [*pretend.ip("addr show br0"), *pretend.ip(f"addr show {world.endpoint(net, 2).host_link}")]
        there = [*pretend.ip(*inside, "addr"), *pretend.ip(*inside, "route show table all")]
        for link in [*links, *there]:
            for changing in ("ifindex", "link_index", "link_netnsid", "linkinfo"):
                link.pop(changing, None)
        neighbours = [*pretend.ip("neigh show nud permanent"), *pretend.ip(*inside, "neigh show nud permanent")]
        forwards = [settings.read(settings.forwarding(link)) for link in ("br0", "lan0")]
        return links, there, neighbours, sh("nft list ruleset"), forwards, settings.read("net/ipv4/conf/br0/route_localnet")

    place = world.endpoint(net, 2, [Port(8080, 80)])
    observed = bridge.observed(net, TAG)
    plan = bridge.up(net, TAG, observed) + endpoint.attach(net, TAG, place, None)
    plan.run(world.namespace("planned"))
    by_plan = made("planned")
    endpoint.detach(net, TAG, place).run(At())
    bridge.down(net, TAG, observed.before, last=True).run(At())
    at = world.namespace("typed")
    script = "\n".join(step.shell() for step in plan.steps)
    subprocess.run(["bash", "-euc", script], env={**os.environ, "PID": str(at.pid)}, check=True)
    world.recorded = observed.before
    assert made("typed") == by_plan


def test_loopback_only(world: World) -> None:
    at = world.namespace("none")
    endpoint.loopback().run(at)
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
