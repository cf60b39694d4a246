"""The network of `run`: addresses, who reaches whom and who does not, networks by the command line, and nothing left behind."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests import pretend
from tests.e2e.support import Minidocker
from tests.e2e.world import FAR, HOST, NEAR, PORT, await_state, fetch, fetch_inside, ip_in, reporter, serve, settled, state

NAMES = ("alice", "bob", "carol")


def setting(name: str, value: str | None = None) -> str:
    path = Path("/proc/sys/net", name)
    if value is not None:
        path.write_text(value)
    return path.read_text().strip()


def test_three_servers_on_one_port_answer_the_host_and_each_other(world: None, md: Minidocker, server: Path) -> None:
    places = {name: serve(md, server, name) for name in NAMES}
    assert [place["IPAddress"] for place in places.values()] == ["172.17.0.2", "172.17.0.3", "172.17.0.4"]
    for name, place in places.items():
        assert fetch(f"http://{place['IPAddress']}:{PORT}") == name
        for neighbour in NAMES:
            assert fetch_inside(md, name, f"http://{neighbour}:{PORT}") == neighbour
            assert fetch_inside(md, name, f"http://{places[neighbour]['IPAddress']}:{PORT}") == neighbour
    assert md.logs("alice").count("req") == 1 + 2 * len(NAMES)


def test_a_container_has_eth0_as_recorded_and_lo_and_a_way_out(world: None, md: Minidocker) -> None:
    md.start("--name", "one", "sleep", "100")
    [place] = md.inspect("one")["NetworkSettings"]["Networks"].values()
    links = {link["ifname"]: link for link in ip_in("one", "addr")}
    assert set(links) == {"lo", "eth0"}
    assert "UP" in links["lo"]["flags"] and "UP" in links["eth0"]["flags"]
    assert links["eth0"]["address"] == place["MacAddress"]
    [address] = links["eth0"]["addr_info"]
    assert (address["local"], address["prefixlen"]) == (place["IPAddress"], place["IPPrefixLen"]) == ("172.17.0.2", 24)
    assert [info["local"] for info in links["lo"]["addr_info"] if info["family"] == "inet"] == ["127.0.0.1"]
    routes = {route["dst"]: route for route in ip_in("one", "-4", "route")}
    assert routes["default"]["gateway"] == place["Gateway"] == "172.17.0.1"
    assert set(routes) == {"default", "172.17.0.0/24"}
    for file, word in (("/etc/hosts", "172.17.0.2\tone "), ("/etc/hosts", "127.0.0.1\tlocalhost"), ("/etc/resolv.conf", "nameserver")):
        assert word in md("exec", "one", "cat", file).stdout


def test_br0_is_tagged_as_ours_and_holds_the_gateway(world: None, md: Minidocker) -> None:
    md.run("--rm", "true")
    [bridge] = pretend.ip("addr show dev br0")
    [network] = json.loads(md("network", "inspect", "br0").stdout)
    assert bridge["ifalias"] == f"minidocker:{md.tag}:{network['Id']}"
    assert bridge["linkinfo"]["info_kind"] == "bridge"  # type: ignore[index]
    addresses: list[dict[str, Any]] = bridge["addr_info"]  # type: ignore[assignment]
    assert [(a["local"], a["prefixlen"]) for a in addresses if a["family"] == "inet"] == [("172.17.0.1", 24)]
    assert "UP" in bridge["flags"]  # type: ignore[operator]


def test_the_world_sees_the_host_and_not_the_container(world: None, md: Minidocker) -> None:
    for address, place, seen in ((NEAR, "near", HOST), (FAR, "far", "198.51.100.1")):
        with reporter(9000, place, address):
            url = f"http://{address}:9000"
            assert md.run("--rm", "curl", "-s", "--max-time", "10", url).stdout == seen


def test_nobody_is_let_in_or_through(world: None, md: Minidocker, server: Path) -> None:
    """Forwarding was off: the host must not become a router for a neighbour who points routes at it."""
    assert setting("ipv4/ip_forward") == "0"
    pretend.sh(f"ip -n near route add 172.17.0.0/24 via {HOST}; ip -n far route add 172.17.0.0/24 via 198.51.100.1")
    try:
        with reporter(9000, "far", FAR), reporter(9000, "near", NEAR):
            assert fetch(f"http://{FAR}:9000", "near", 1) == ""
            ip = serve(md, server, "alice")["IPAddress"]
            assert fetch_inside(md, "alice", f"http://{FAR}:9000") == "198.51.100.1"
            assert fetch(f"http://{FAR}:9000", "near", 1) == ""
            assert fetch(f"http://{NEAR}:9000", "far", 1) == ""
            assert fetch(f"http://{ip}:{PORT}", "near", 1) == ""
            assert fetch(f"http://{ip}:{PORT}", "far", 1) == ""
            assert fetch("http://172.17.0.1:9000", "near", 1) == ""
        assert setting("ipv4/ip_forward") == "0"
    finally:
        pretend.sh("ip -n near route del 172.17.0.0/24; ip -n far route del 172.17.0.0/24")


def test_a_router_stays_a_router(world: None, md: Minidocker) -> None:
    """Forwarding was on: others' traffic through this host is none of our business, before, meanwhile and after."""
    setting("ipv4/ip_forward", "1")
    try:
        with reporter(9000, "far", FAR):
            assert fetch(f"http://{FAR}:9000", "near") == NEAR
            md.start("--name", "one", "sleep", "100")
            assert fetch(f"http://{FAR}:9000", "near") == NEAR
            md("rm", "-f", "one")
            md("network", "rm", "br0")
            assert fetch(f"http://{FAR}:9000", "near") == NEAR
        assert setting("ipv4/ip_forward") == "1"
        assert setting("ipv4/conf/lan0/forwarding") == setting("ipv4/conf/lan1/forwarding") == "1"
    finally:
        setting("ipv4/ip_forward", "0")


@pytest.mark.parametrize("filtered", ["0", "1"])
def test_bridged_frames_pass_with_and_without_br_netfilter(world: None, md: Minidocker, server: Path, filtered: str) -> None:
    before = setting("bridge/bridge-nf-call-iptables")
    setting("bridge/bridge-nf-call-iptables", filtered)
    try:
        ip = serve(md, server, "alice", "-p", f"{PORT}:{PORT}")["IPAddress"]
        serve(md, server, "bob")
        assert fetch_inside(md, "bob", f"http://alice:{PORT}") == "alice"
        assert fetch_inside(md, "bob", f"http://172.17.0.1:{PORT}") == "alice"
        assert fetch_inside(md, "alice", f"http://172.17.0.1:{PORT}") == "alice"
        assert fetch(f"http://{ip}:{PORT}") == "alice"
        assert fetch(f"http://{HOST}:{PORT}", "near") == "alice"
    finally:
        setting("bridge/bridge-nf-call-iptables", before)


def test_two_networks_do_not_meet(world: None, md: Minidocker, server: Path) -> None:
    ip = serve(md, server, "alice")["IPAddress"]
    md("network", "create", "back")
    serve(md, server, "bob", "--net", "back")
    assert fetch_inside(md, "bob", f"http://{ip}:{PORT}", 1) == ""
    assert fetch_inside(md, "bob", f"http://alice:{PORT}", 1) == ""


def test_net_none_has_only_lo(md: Minidocker) -> None:
    links = json.loads(md.run("--rm", "--net", "none", "ip", "-j", "addr").stdout)
    assert [link["ifname"] for link in links] == ["lo"] and "UP" in links[0]["flags"]


def test_net_host_is_the_hosts(world: None, md: Minidocker) -> None:
    assert md.run("--rm", "--net", "host", "readlink", "/proc/self/ns/net").stdout == pretend.sh("readlink /proc/self/ns/net")


def test_net_container_shares_one_namespace_and_its_names(world: None, md: Minidocker, server: Path) -> None:
    ip = serve(md, server, "alice")["IPAddress"]
    serve(md, server, "bob")
    joined = ("--rm", "--net", "container:alice")
    assert md.run(*joined, "curl", "-s", f"http://127.0.0.1:{PORT}").stdout == "alice\n"
    assert md.run(*joined, "curl", "-s", f"http://bob:{PORT}").stdout == "bob\n"
    assert ip in md.run(*joined, "ip", "addr").stdout
    assert "-p" in md.refused("run", *joined, "-p", "80:80", "true")
    assert "alicia" in md.refused("run", "--rm", "--net", "container:alicia", "true")


def test_the_network_of_a_stranger_with_a_reused_pid_is_not_joined(md: Minidocker) -> None:
    md.start("--net", "none", "--name", "one", "sleep", "1000")
    with sqlite3.connect(md.root / "state.db") as state:  # as if its process had another namespace
        state.execute("UPDATE containers SET netns = netns + 1")
    state.close()
    assert "`one` has just ended, so its network cannot be joined" in md.refused("run", "--rm", "--net", "container:one", "true")


def test_address_mac_and_alias_are_as_asked_for(world: None, md: Minidocker, server: Path) -> None:
    place = serve(md, server, "alice", "--ip", "172.17.0.77", "--mac-address", "02:00:00:00:00:77", "--network-alias", "web")
    assert (place["IPAddress"], place["MacAddress"]) == ("172.17.0.77", "02:00:00:00:00:77")
    [eth0] = [link for link in ip_in("alice", "addr") if link["ifname"] == "eth0"]
    assert (eth0["address"], eth0["addr_info"][0]["local"]) == ("02:00:00:00:00:77", "172.17.0.77")
    serve(md, server, "bob")
    assert fetch_inside(md, "bob", f"http://web:{PORT}") == "alice"
    assert "alice" in md.refused("run", "--rm", "--ip", "172.17.0.77", "true")
    md.refused("run", "--rm", "--ip", "10.0.0.5", "true")
    md.refused("run", "--rm", "--ip", "172.17.0.1", "true")


def test_a_neighbour_follows_an_address_to_its_next_owner_at_once(world: None, md: Minidocker, server: Path) -> None:
    """The MAC follows the address; where another was asked for, the new owner announces itself (a gratuitous ARP)."""
    serve(md, server, "asks")
    for mac in ("02:00:00:00:00:01", "02:00:00:00:00:02", ""):
        serve(md, server, "owner", "--ip", "172.17.0.9", *(["--mac-address", mac] if mac else []))
        assert fetch_inside(md, "asks", f"http://172.17.0.9:{PORT}", 1) == "owner", mac
        assert pretend.sh("ip netns exec owner cat /proc/sys/net/ipv4/conf/eth0/arp_notify") == "1\n"
        md("rm", "-f", "owner")


def test_networks_by_the_command_line(world: None, md: Minidocker) -> None:
    id = md("network", "create", "--subnet", "10.9.0.0/24", "--gateway", "10.9.0.254", "--label", "a=b", "back").stdout.strip()
    [shown] = json.loads(md("network", "ls", "--format", "json").stdout)
    assert (shown["Name"], shown["Subnet"], shown["Gateway"], shown["Containers"]) == ("back", "10.9.0.0/24", "10.9.0.254", 0)
    assert "back" in md("network", "ls").stdout and "10.9.0.0/24" in md("network", "ls").stdout
    md.start("--name", "one", "--net", "back", "sleep", "100")
    md.start("--name", "two", "--net", "back", "sleep", "100")
    [document] = json.loads(md("network", "inspect", "back").stdout)
    assert (document["Id"], document["Labels"]) == (id, {"a": "b"})
    members = {member["Name"]: member["IPv4Address"] for member in document["Containers"].values()}
    assert members == {"one": "10.9.0.1/24", "two": "10.9.0.2/24"}
    refusal = md.refused("network", "rm", "back", code=1)
    assert "one" in refusal and "two" in refusal
    assert pretend.ip("link show dev back")
    md("rm", "-f", "one", "two")
    md("network", "rm", "back")
    assert md("network", "ls", "--format", "json").stdout.strip() in ("", "[]")
    assert "back" in md("network", "inspect", "back", check=False).stderr
    assert "mode of --network" in md.refused("network", "rm", "none", code=1), "and no word of making it, which is refused"


def test_a_subnet_in_use_is_passed_over_and_said_so(world: None, md: Minidocker) -> None:
    pretend.sh("ip link add docker0 type bridge && ip addr add 172.17.0.1/16 dev docker0 && "
               "sysctl -qw net.ipv6.conf.docker0.disable_ipv6=1 && ip link set docker0 up")  # its own address would come seconds later
    try:
        done = md.run("--rm", "ip", "-br", "-4", "addr", "show", "eth0", check=False)
        assert done.returncode == 0, done.stderr
        assert "172.17.0.0/24" in done.stderr and "docker0" in done.stderr
        [network] = json.loads(md("network", "inspect", "br0").stdout)
        subnet = network["IPAM"]["Config"][0]["Subnet"]
        assert subnet in done.stderr and not subnet.startswith("172.17.")
        assert subnet.rpartition(".")[0] in done.stdout
        before = settled()
        refusal = md.refused("network", "create", "--subnet", "172.17.5.0/24", "back", code=1)
        assert "172.17.0.0/16" in refusal and "docker0" in refusal
        await_state(before)
    finally:
        pretend.sh("ip link del docker0")


DOCKER = """
table ip filter {
    chain DOCKER-USER { counter return; }
    chain FORWARD { type filter hook forward priority filter; policy drop; jump DOCKER-USER; }
}
"""


def test_beside_docker_both_work_and_its_chain_is_as_before_afterwards(world: None, md: Minidocker, server: Path) -> None:
    pretend.sh(f"nft -f - <<'END'\n{DOCKER}\nEND")
    try:
        before = pretend.sh("nft -s list table ip filter")
        with reporter(9000, "far", FAR):
            serve(md, server, "alice", "-p", f"18081:{PORT}")
            serve(md, server, "bob")
            assert fetch_inside(md, "alice", f"http://{FAR}:9000") == "198.51.100.1"
            assert fetch_inside(md, "alice", f"http://bob:{PORT}") == "bob"
            assert fetch(f"http://{HOST}:18081", "near") == "alice"
            assert fetch(f"http://{FAR}:9000", "near", 1) == "", "docker's policy stands for everybody else"
        listed = pretend.sh("nft -s list chain ip filter DOCKER-USER")
        tag = f'comment "minidocker:{md.tag}:'
        assert listed.count(tag) == 2 and 'iifname "br0" counter accept' in listed and 'oifname "br0" counter accept' in listed
        md("rm", "-f", "alice", "bob")
        md("network", "rm", "br0")
        assert pretend.sh("nft -s list table ip filter") == before
    finally:
        pretend.sh("nft delete table ip filter")


def test_a_firewall_that_drops_is_named_and_left_alone(world: None, md: Minidocker) -> None:
    pretend.sh("nft add table inet mine && nft 'add chain inet mine through { type filter hook forward priority 0; policy drop; }'")
    try:
        before = pretend.sh("nft list table inet mine")
        done = md.run("--rm", "true", check=False)
        assert (done.returncode, done.stderr) == (
            0,
            "minidocker: inet mine through of another firewall drops what containers of `br0` send; to let it pass: "
            "nft insert rule inet mine through iifname br0 accept && nft insert rule inet mine through oifname br0 accept\n",
        )
        assert md.run("--rm", "true").stderr == "", "said once"
        assert pretend.sh("nft list table inet mine") == before
    finally:
        pretend.sh("nft delete table inet mine")


def test_a_foreign_br0_is_refused_and_left_alone(world: None, md: Minidocker) -> None:
    pretend.sh("ip link add br0 type bridge && ip addr add 10.77.0.1/24 dev br0")
    try:
        before = state()
        assert "br0" in md.refused("run", "--rm", "true")
        assert state() == before
    finally:
        pretend.sh("ip link del br0")


def test_a_flushed_ruleset_comes_back_with_what_is_published(world: None, md: Minidocker, server: Path) -> None:
    serve(md, server, "alice", "-p", f"18081:{PORT}")
    before = pretend.sh("nft list ruleset")
    pretend.sh("nft flush ruleset")
    assert fetch(f"http://{HOST}:18081", "near", 1) == ""
    md.run("--rm", "true")
    assert pretend.sh("nft list ruleset") == before
    assert fetch(f"http://{HOST}:18081", "near") == "alice"


@pytest.mark.parametrize("forwarding", ["0", "1"])
def test_after_the_last_network_the_host_is_as_before(world: None, md: Minidocker, server: Path, forwarding: str) -> None:
    setting("ipv4/ip_forward", forwarding)
    try:
        before = state()
        md("network", "create", "--subnet", "10.9.0.0/24", "back")
        serve(md, server, "alice", "-p", f"18081:{PORT}")
        serve(md, server, "bob", "--net", "back", "-p", f"127.0.0.1:18082:{PORT}")
        assert fetch("http://127.0.0.1:18081") == "alice"
        assert fetch("http://127.0.0.1:18082") == "bob"
        assert state() != before
        md("stop", "alice")
        md("rm", "-f", "alice", "bob")
        md("network", "rm", "br0", "back")
        await_state(before)
    finally:
        setting("ipv4/ip_forward", "0")
