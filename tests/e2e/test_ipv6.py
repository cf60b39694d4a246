"""IPv6 where it was asked for, and nowhere else: addresses, ways in and out, whose advertisements are believed, what the host forwards; and
for both families what an uplink's MTU asks for."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dnslib
import pytest

from tests import pretend
from tests.e2e.support import Minidocker, poll
from tests.e2e.world import (
    ALL_NODES,
    ALL_NODES_MAC,
    FAR6,
    HOST,
    HOST6,
    NEAR,
    NEAR6,
    SILENT,
    Wire,
    advertisement,
    answer,
    answering,
    ask,
    await_state,
    datagram,
    frame,
    ip_in,
    state,
    with_ipv6,
    within,
)

BRIEFLY = 0.7
CHOOSE = "\n  hint: choose another; without --subnet a free one is taken\n"


@pytest.fixture(scope="module")
def six(world: None) -> Iterator[None]:
    """The neighbours have IPv6. Ask for it before `md`."""
    with with_ipv6():
        yield


def place_of(md: Minidocker, name: str) -> dict[str, Any]:
    [place] = md.inspect(name)["NetworkSettings"]["Networks"].values()
    return place  # type: ignore[no-any-return]


def network_of(md: Minidocker, name: str) -> dict[str, Any]:
    [network] = json.loads(md("network", "inspect", name).stdout)
    return network  # type: ignore[no-any-return]


def setting(name: str, place: str = "") -> str:
    return within(place, lambda: Path("/proc/thread-self/root/proc/sys/net/ipv6/conf", name).read_text().strip())


def addresses6(place: str = "", *where: str) -> list[str]:
    """Those of IPv6 as ADDRESS/PREFIX, without what the kernel gives by itself."""
    links = ip_in(place, "-6", "addr", "show", *where) if place else pretend.ip("-6 addr show", *where)
    return [f"{info['local']}/{info['prefixlen']}" for link in links for info in link.get("addr_info", [])  # type: ignore[attr-defined]
            if info["scope"] == "global"]  # fmt: skip


# --- where it was not asked for -------------------------------------------------------------------------------------------------------


def test_unasked_there_is_none(six: None, md: Minidocker) -> None:
    place = answer(md, "one", "-p", "8080:80")
    for link in ("all", "default", "lo", "eth0"):
        assert setting(f"{link}/disable_ipv6", "one") == "1", link
    assert pretend.sh("ip -n one -6 addr; ip -n one -6 route") == ""
    assert setting("br0/disable_ipv6") == "1" and pretend.sh(f"ip -6 addr show dev br0; ip -6 addr show dev {place['HostLink']}") == ""
    assert (place["GlobalIPv6Address"], place["GlobalIPv6PrefixLen"], place["IPv6Gateway"]) == ("", 0, "")
    assert setting("all/forwarding") == "0"
    assert (ask("tcp", HOST, 8080, "near"), ask("tcp", HOST6, 8080, "near")) == (f"one {NEAR}", "refused")
    assert md("port", "one").stdout == "80/tcp -> 0.0.0.0:8080\n"
    assert network_of(md, "br0")["EnableIPv6"] is False


def test_of_two_networks_that_alone_which_has_it(six: None, md: Minidocker) -> None:
    md("network", "create", "--subnet", "10.9.8.0/24", "four")
    md("network", "create", "--subnet", "10.9.9.0/24", "--subnet", "fd00:9:9::/64", "lab")
    for name, networks, with6 in (("one", ("four", "lab"), "eth1"), ("two", ("lab", "four"), "eth0")):
        md.start("--name", name, *(word for network in networks for word in ("--net", network)), "sleep", "1000")
        found = {link["ifname"] for link in ip_in(name, "-6", "addr") if link["ifname"] != "lo"}
        assert found == {with6}
        assert {link: setting(f"{link}/disable_ipv6", name) for link in ("eth0", "eth1")} == {
            "eth0": str(int(with6 != "eth0")), "eth1": str(int(with6 != "eth1"))}  # fmt: skip


def test_a_container_that_is_connected_later_has_it_there(six: None, md: Minidocker) -> None:
    md("network", "create", "--subnet", "10.9.8.0/24", "four")
    md("network", "create", "--subnet", "10.9.9.0/24", "--subnet", "fd00:9:9::/64", "lab")
    answer(md, "peer", "--net", "lab")
    answer(md, "one", "--net", "four")
    assert addresses6("one") == []
    md("network", "connect", "--ip6", "fd00:9:9::77", "lab", "one")
    assert addresses6("one") == ["fd00:9:9::77/64"]
    assert ask("udp", "fd00:9:9::77", 80, "peer").startswith("one fd00:9:9::")
    md("network", "disconnect", "lab", "one")
    assert addresses6("one") == []


def test_many_that_start_at_once_all_have_it(six: None, md: Minidocker) -> None:
    """What switches IPv6 off in a new namespace comes before what gives it an address, however the two actors are scheduled."""
    md("network", "create", "--ipv6", "--subnet", "10.9.9.0/24", "lab")
    started = [md.open("run", "-d", "--net", "lab", "--name", f"c{n}", "sleep", "1000") for n in range(8)]
    for process in started:
        _, error = process.communicate(timeout=60)
        assert (process.returncode, error) == (0, b"")
    for n in range(8):
        assert addresses6(f"c{n}") == [f"{place_of(md, f'c{n}')['GlobalIPv6Address']}/64"]


# --- what the host forwards and believes ----------------------------------------------------------------------------------------------


@contextmanager
def sysctl(name: str, value: str) -> Iterator[None]:
    path = Path("/proc/sys/net", name)
    before = path.read_text()
    path.write_text(value)
    try:
        yield
    finally:
        path.write_text(before)


@pytest.fixture
def meeting(six: None) -> Iterator[None]:
    """near has a route to far by this host, which far answers by; and one to our networks. far answers on port 9000."""
    pretend.sh(f"ip -n near route add 2001:db8:2::/64 via {HOST6}; ip -n near route add fd00:9:9::/64 via {HOST6}")
    try:
        with answering("far", 9000, place="far"):
            yield
    finally:
        pretend.sh("ip -n near route del 2001:db8:2::/64; ip -n near route del fd00:9:9::/64")


def test_neighbours_are_not_led_through_this_host(meeting: None, md: Minidocker) -> None:
    before = state()
    assert ask("tcp", FAR6, 9000, "near", BRIEFLY) == SILENT
    md("network", "create", "--subnet", "10.9.9.0/24", "--subnet", "fd00:9:9::/64", "lab")
    place = answer(md, "one", "--net", "lab", "-p", "8080:80")
    assert setting("all/forwarding") == "1"
    assert ask("tcp", FAR6, 9000, "one") == "far 2001:db8:2::1"
    assert ask("tcp", HOST6, 8080, "near") == f"one {NEAR6}"
    for protocol in ("tcp", "udp"):
        assert ask(protocol, FAR6, 9000, "near", BRIEFLY) == SILENT
    assert ask("tcp", place["GlobalIPv6Address"], 80, "near", BRIEFLY) == SILENT
    md("rm", "-f", "one")
    md("network", "rm", "lab")
    await_state(before)
    assert ask("tcp", FAR6, 9000, "near", BRIEFLY) == SILENT


def test_a_neighbour_that_comes_later_is_not_led_through_this_host_either(meeting: None, md: Minidocker) -> None:
    """The kernel forwards IPv6 from all interfaces or none, those that are plugged in while a network is up among them."""
    md("network", "create", "--subnet", "10.9.9.0/24", "--subnet", "fd00:9:9::/64", "lab")
    answer(md, "one", "--net", "lab", "-p", "8080:80")
    pretend.sh("""ip netns add late && ip link add lan2 type veth peer name eth0 netns late &&
        sysctl -qw net.ipv6.conf.lan2.accept_dad=0 net.ipv6.conf.lan2.accept_ra=0 &&
        ip netns exec late sysctl -qw net.ipv6.conf.eth0.accept_dad=0 &&
        ip addr add 2001:db8:3::1/64 dev lan2 nodad && ip link set lan2 up && ip -n late addr add 2001:db8:3::2/64 dev eth0 nodad &&
        ip -n late link set lo up && ip -n late link set eth0 up && ip -n late route add default via 2001:db8:3::1""")
    try:
        assert ask("tcp", "2001:db8:3::1", 8080, "late") == "one 2001:db8:3::2", "it is there"
        for protocol in ("tcp", "udp"):
            assert ask(protocol, FAR6, 9000, "late", BRIEFLY) == SILENT
        assert ask("tcp", place_of(md, "one")["GlobalIPv6Address"], 80, "late", BRIEFLY) == SILENT
        with answering("late", 9000, place="late"):
            assert ask("tcp", "2001:db8:3::2", 9000, "one") == "late 2001:db8:3::1"
    finally:
        pretend.sh("ip link del lan2; ip netns del late")


def test_a_router_stays_a_router(meeting: None, md: Minidocker) -> None:
    with sysctl("ipv6/conf/all/forwarding", "1"):
        before = state()
        assert ask("tcp", FAR6, 9000, "near") == f"far {NEAR6}"
        md("network", "create", "--subnet", "10.9.9.0/24", "--subnet", "fd00:9:9::/64", "lab")
        place = answer(md, "one", "--net", "lab")
        assert ask("tcp", FAR6, 9000, "near") == f"far {NEAR6}"
        assert ask("tcp", place["GlobalIPv6Address"], 80, "near", BRIEFLY) == SILENT
        md("rm", "-f", "one")
        md("network", "rm", "lab")
        await_state(before)
        assert ask("tcp", FAR6, 9000, "near") == f"far {NEAR6}"


def test_an_interface_that_forwarded_by_itself_does_so_afterwards(six: None, md: Minidocker) -> None:
    with sysctl("ipv6/conf/lan1/forwarding", "1"):
        before = state()
        md("network", "create", "--ipv6", "--subnet", "10.9.9.0/24", "lab")
        assert setting("all/forwarding") == setting("lan1/forwarding") == "1"
        md("network", "rm", "lab")
        await_state(before)
        assert (setting("all/forwarding"), setting("lan0/forwarding"), setting("lan1/forwarding")) == ("0", "0", "1")


LIFETIME = 3


@pytest.fixture
def advertised(six: None) -> Iterator[None]:
    """near advertises itself as a router, for three seconds each time, twice a second; that is this host's only default route."""
    pretend.sh(f"""ip -6 route del default via {NEAR6} && sysctl -qw net.ipv6.conf.lan0.accept_ra=1 &&
        ip -n near addr add fe80::1/64 dev eth0 nodad""")
    mac = str(ip_in("near", "link", "show", "eth0")[0]["address"])
    router, over = frame(ALL_NODES_MAC, mac, advertisement("fe80::1", mac, LIFETIME)), threading.Event()

    def advertise(wire: Wire) -> None:
        while not over.wait(0.5):
            wire.send(router)

    with Wire("near") as wire:
        thread = threading.Thread(target=advertise, args=(wire,))
        thread.start()
        try:
            poll(advertised_route, "the default route is believed")
            yield
        finally:
            over.set()
            thread.join()
            pretend.sh(f"""ip -n near addr del fe80::1/64 dev eth0; sysctl -qw net.ipv6.conf.lan0.accept_ra=0
                while ip -6 route del default proto ra; do :; done 2> /dev/null; ip route add default via {NEAR6}""")


def advertised_route() -> int:
    """Seconds that the advertised default route has left, 0 where it is gone."""
    found = re.search(r"via fe80::1 dev lan0 proto ra .*expires (\d+)sec", pretend.sh("ip -6 route show default"))
    return int(found[1]) + 1 if found else 0


def test_the_hosts_advertised_route_outlives_its_lifetime(advertised: None, md: Minidocker) -> None:
    before = state()["settings"]
    assert setting("lan0/accept_ra") == "1"
    created = md("network", "create", "--ipv6", "--subnet", "10.9.9.0/24", "lab", check=False)
    assert (created.returncode, created.stderr) == (
        0, "minidocker: a host that forwards IPv6 ignores router advertisements: accept_ra of lan0 is 2 instead of 1 until the last "
        "network goes\n",
    )  # fmt: skip
    assert (setting("lan0/accept_ra"), setting("all/forwarding")) == ("2", "1")
    assert setting("lan1/accept_ra") == "0", "which was not 1"
    assert advertised_route()
    assert md("network", "create", "--ipv6", "--subnet", "10.9.8.0/24", "back").stderr == "", "said once"
    answer(md, "one", "--net", "lab")
    pretend.sh(f"sleep {LIFETIME + 1}")
    assert advertised_route()
    with answering("near", 9000, place="near"):
        assert ask("tcp", NEAR6, 9000, "one") == f"near {HOST6}"
    md("rm", "-f", "one")
    md("network", "rm", "lab")
    assert setting("lan0/accept_ra") == "2", "there is another network yet"
    md("network", "rm", "back")
    assert state()["settings"] == before
    pretend.sh(f"sleep {LIFETIME + 1}")
    assert advertised_route(), "and so it does after the last network"


def test_nothing_is_said_of_it_without_ipv6(advertised: None, md: Minidocker) -> None:
    before = state()["settings"]
    assert md("network", "create", "--subnet", "10.9.9.0/24", "lab").stderr == ""
    assert (setting("lan0/accept_ra"), setting("all/forwarding")) == ("1", "0")
    md("network", "rm", "lab")
    assert state()["settings"] == before


# --- what is asked for in so many words -----------------------------------------------------------------------------------------------


def test_subnet_gateway_and_address_are_as_asked_for(six: None, md: Minidocker) -> None:
    md("network", "create", "--subnet", "fd00:9::/64", "--gateway", "fd00:9::fe", "--subnet", "10.9.9.0/24", "lab")
    assert network_of(md, "lab")["IPAM"]["Config"][1] == {"Subnet": "fd00:9::/64", "Gateway": "fd00:9::fe"}
    place = answer(md, "one", "--net", "lab", "--ip6", "fd00:9:0::99")
    assert (place["GlobalIPv6Address"], place["IPv6Gateway"]) == ("fd00:9::99", "fd00:9::fe")
    assert addresses6("one") == ["fd00:9::99/64"] and addresses6("", "dev", "lab") == ["fd00:9::fe/64"]
    assert ask("tcp", "fd00:9::99", 80) == "one fd00:9::fe"
    with answering("near", 9000, place="near"):
        assert ask("tcp", NEAR6, 9000, "one") == f"near {HOST6}"
    for ip6, error in (
        ("fd00:9::99", "address fd00:9::99 is in use by container `one`\n  hint: take another, or leave --ip6 out"),
        ("fd00:9::fe", "address `fd00:9::fe` is the gateway of subnet fd00:9::/64\n  hint: take another, or leave --ip6 out"),
        ("fd00:9:1::1", "address `fd00:9:1::1` is not a host address of subnet fd00:9::/64\n  hint: take one like fd00:9::99"),
        ("fd00:9::", "address `fd00:9::` is not a host address of subnet fd00:9::/64\n  hint: take one like fd00:9::99"),
    ):
        assert md.refused("run", "--rm", "--net", "lab", "--ip6", ip6, "true") == f"minidocker: {error}\n"
    answer(md, "two", "--net", "lab")
    assert ask("udp", "fd00:9::99", 80, "two") == f"one {place_of(md, 'two')['GlobalIPv6Address']}"


def test_an_ipv6_address_where_there_is_none(six: None, md: Minidocker) -> None:
    assert md.refused("run", "--rm", "--ip6", "fd00:9::99", "true") == (
        "minidocker: network `br0` has no IPv6 for --ip6 fd00:9::99\n  hint: minidocker network create --ipv6 NAME makes one\n")
    assert md.ps() == []


@pytest.mark.parametrize(
    ("taken", "subnet", "owner"),
    [
        ("", "2001:db8:1::/64", "route 2001:db8:1::/64 dev lan0"),
        ("", "2001:db8:1:0:1::/80", "route 2001:db8:1::/64 dev lan0"),
        ("route {} fd77::/32 dev lan0", "fd77:0:9::/64", "route fd77::/32 dev lan0"),
        ("route {} fd77::/64 via 2001:db8:1::2 table 77", "fd77::/48", "route fd77::/64 via 2001:db8:1::2 dev lan0 table 77"),
        ("route {} unreachable fd66::/16", "fd66:9::/64", "unreachable route fd66::/16 dev lo"),
        ("rule {} to fd55::/32 lookup 100", "fd55::/64", "rule to fd55::/32 lookup 100"),
        ("addr {} fd44::4/128 dev lan1", "fd44::/64", "route fd44::4/128 dev lan1"),
    ],
)
def test_a_subnet_that_somebody_has_is_refused_naming_him(six: None, md: Minidocker, taken: str, subnet: str, owner: str) -> None:
    pretend.sh("ip -6 " + taken.format("add") if taken else "true")
    try:
        before = state()
        for words in (("--subnet", subnet), ("--ipv6", "--subnet", subnet, "--internal"), ("-d", "ptp", "--subnet", subnet)):
            error = md.refused("network", "create", *words, "--subnet", "10.9.9.0/24", "lab", code=1)
            assert error == f"minidocker: subnet {subnet} overlaps {owner}{CHOOSE}"
        assert state() == before
        assert md("network", "ls", "-q").stdout == ""
    finally:
        pretend.sh("ip -6 " + taken.format("del") if taken else "true")


# --- MTU ------------------------------------------------------------------------------------------------------------------------------

MEGABYTE = 1 << 20
# Sends a megabyte to whoever says g, and takes one from whoever says p.
PORTER = """
import socket, threading
def carry(client):
    with client:
        if client.recv(1) == b"g":
            client.sendall(bytes(1 << 20))
            return
        left = 1 << 20
        while left and (data := client.recv(left)):
            left -= len(data)
        client.sendall(b"%d left" % left)
server = socket.create_server(("::", 7000), family=socket.AF_INET6, dualstack_ipv6=True, backlog=16)
while True:
    threading.Thread(target=carry, args=(server.accept()[0],)).start()
"""
AS_PROGRAM = ("/usr/bin/python3", "-I", "-c", PORTER)


def carries(address: str, port: int, place: str) -> bool:
    """Whether a megabyte passes each way between the namespace `place` and a PORTER."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for way in (b"g", b"p"):
        with within(place, lambda: socket.socket(family, socket.SOCK_STREAM)) as asking:
            asking.settimeout(20)
            asking.connect((address, port))
            asking.sendall(way + bytes(MEGABYTE) * (way == b"p"))
            left = MEGABYTE if way == b"g" else len(b"0 left")
            while left and (data := asking.recv(left)):
                left -= len(data)
            if left or (way == b"p" and data != b"0 left"):
                return False
    return True


@contextmanager
def porter_outside() -> Iterator[None]:
    process = subprocess.Popen(["ip", "netns", "exec", "near", *AS_PROGRAM])
    try:
        poll(lambda: ask("tcp", "127.0.0.1", 7000, "near", 0.05) == SILENT, "the porter listens")
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def mtu(bytes: int, *ends: str) -> Iterator[None]:
    pretend.sh("; ".join(f"ip {end} mtu {bytes}" for end in ends))
    try:
        yield
    finally:
        pretend.sh("; ".join(f"ip {end} mtu 1500" for end in ends))


OURS, THEIRS = "link set lan0", "-n near link set eth0"


def lab_with_porter(md: Minidocker) -> dict[str, Any]:
    md("network", "create", "--subnet", "10.9.9.0/24", "--subnet", "fd00:9:9::/64", "lab")
    md.start("--name", "one", "--net", "lab", "-p", "7001:7000", *AS_PROGRAM)
    poll(lambda: ask("tcp", "127.0.0.1", 7000, "one", 0.05) == SILENT, "the porter listens")
    return place_of(md, "one")


def test_the_uplinks_mtu_is_the_containers(six: None, md: Minidocker) -> None:
    with mtu(1400, OURS, THEIRS):
        link = lab_with_porter(md)["HostLink"]
        assert [one["mtu"] for one in ip_in("one", "link", "show", "eth0")] == [1400]
        assert [one["mtu"] for name in ("lab", link) for one in pretend.ip(f"link show dev {name}")] == [1400, 1400]
        with porter_outside():
            for address, own in ((NEAR, HOST), (NEAR6, HOST6)):
                assert carries(address, 7000, "one"), address
                assert carries(own, 7001, "near"), own


def test_the_mtu_of_the_route_goes_before_the_links(six: None, md: Minidocker) -> None:
    pretend.sh(f"ip route change default via {NEAR} mtu 1380")
    try:
        md("network", "create", "--subnet", "10.9.9.0/24", "lab")
        assert [one["mtu"] for one in pretend.ip("link show dev lab")] == [1380]
        pretend.sh(f"ip route change default via {NEAR} mtu 1200")
        before = state()
        assert md.refused("network", "create", "--ipv6", "--subnet", "10.9.8.0/24", "back", code=125) == (
            "minidocker: network `back`: the way out takes packets of 1200 bytes, and IPv6 needs 1280\n"
            "  hint: a network without --ipv6 will do\n"
        )
        assert state() == before
    finally:
        pretend.sh(f"ip route change default via {NEAR}")


def segment_sizes(wire: Wire, port: int) -> list[int]:
    """The largest segments that others have announced on this wire so far, for TCP connections from or to `port` (RFC 9293, 3.7.1)."""
    found = []
    wire.socket.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            data, (_, _, kind, _, _) = wire.socket.recvfrom(65536)
            if kind == socket.PACKET_OUTGOING:
                continue
            data = data[14:]
            tcp = data[20:] if data[0] >> 4 == 4 and data[9] == 6 else data[40:] if data[0] >> 4 == 6 and data[6] == 6 else b""
            if len(tcp) > 20 and tcp[13] & 2 and port in (int.from_bytes(tcp[:2], "big"), int.from_bytes(tcp[2:4], "big")):
                options = tcp[20 : (tcp[12] >> 4) * 4]
                found.append(int.from_bytes(options[options.index(b"\x02\x04") + 2 :][:2], "big"))
    return found


def test_segments_are_clamped_where_the_uplink_shrinks_afterwards(six: None, md: Minidocker) -> None:
    """And nobody is told: what says that a packet was too big is lost, the neighbour's interface takes 1,500 bytes, and sends no larger
    frames for its card to cut."""
    lab_with_porter(md)
    assert [one["mtu"] for one in ip_in("one", "link", "show", "eth0")] == [1500]
    pretend.sh("""nft -f - <<'END'
        table inet deaf { chain out { type filter hook output priority 0
            icmp type destination-unreachable drop; icmpv6 type packet-too-big drop; }; }
END
        ip -n near link set eth0 gso_max_segs 1""")
    try:
        with mtu(1400, OURS), porter_outside(), Wire("near") as near, Wire("one") as one:
            for address, own, size in ((NEAR, HOST, 1360), (NEAR6, HOST6, 1340)):
                assert carries(address, 7000, "one"), address
                assert set(segment_sizes(near, 7000)) == set(segment_sizes(one, 7000)) == {size}, address
                assert carries(own, 7001, "near"), own
                assert set(segment_sizes(near, 7001)) == set(segment_sizes(one, 7000)) == {size}, own
    finally:
        pretend.sh("nft delete table inet deaf; ip -n near link set eth0 gso_max_segs 65535")


# --- one network for all that follows: the tests above have the host to themselves -------------------------------------------------------


@pytest.fixture(scope="module")
def shared(six: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Minidocker]:
    """`web` and `mate` in network `front`, which has IPv6 and has chosen the subnet for it."""
    md = Minidocker(tmp_path_factory.mktemp("shared") / "root")
    try:
        md("network", "create", "--ipv6", "--subnet", "10.9.1.0/24", "front")
        for name in ("web", "mate"):
            answer(md, name, "--net", "front")
        yield md
    finally:
        md.close()


# --- addresses and routes -------------------------------------------------------------------------------------------------------------


def test_the_subnet_is_a_unique_local_one_that_follows_from_the_id(shared: Minidocker) -> None:
    network = network_of(shared, "front")
    id = network["Id"]
    subnet = ipaddress.IPv6Network(f"fd{id[:2]}:{id[2:6]}:{id[6:10]}:{id[10:]}::/64")
    assert network["EnableIPv6"] is True
    assert network["IPAM"]["Config"] == [
        {"Subnet": "10.9.1.0/24", "Gateway": "10.9.1.1", "IPRange": ""}, {"Subnet": str(subnet), "Gateway": str(subnet[1])},
    ]  # fmt: skip
    assert addresses6("", "dev", "front") == [f"{subnet[1]}/64"]
    members = {member["Name"]: member["IPv6Address"] for member in network["Containers"].values()}
    # ends in the IPv4 one
    assert members == {"web": f"{subnet[(10 << 24) + (9 << 16) + (1 << 8) + 2]}/64", "mate": f"{subnet[0x0A090103]}/64"}


def test_a_container_has_its_address_and_its_way_out(shared: Minidocker) -> None:
    place = place_of(shared, "web")
    assert addresses6("web") == [f"{place['GlobalIPv6Address']}/64"] and place["GlobalIPv6PrefixLen"] == 64
    [eth0] = [link for link in ip_in("web", "-6", "addr") if link["ifname"] == "eth0"]
    flags = [flag for info in eth0["addr_info"] for flag in ("tentative", "dynamic", "temporary", "dadfailed") if flag in info]
    assert flags == [], "of use at once, and for good"
    routes = {route["dst"]: route.get("gateway") for route in ip_in("web", "-6", "route") if route["dev"] == "eth0"}
    assert routes == {str(ipaddress.ip_interface(addresses6("web")[0]).network): None, "fe80::/64": None, "default": place["IPv6Gateway"]}
    shown = shared("network", "ls").stdout
    assert place["IPv6Gateway"] in shown
    [listed] = [one for one in shared.ps() if one["Names"] == "web"]
    assert listed["IP"] == f"{place['IPAddress']}, {place['GlobalIPv6Address']}"


def test_nobodys_advertisements_are_asked_for(shared: Minidocker) -> None:
    for link in ("front", place_of(shared, "web")["HostLink"]):
        assert setting(f"{link}/accept_ra") == "0", link
    for link in ("all", "default", "eth0"):
        assert setting(f"{link}/accept_ra", "web") == "0", link


@pytest.mark.parametrize("how", ["rogue", "host"])
def test_a_rogue_advertisement_does_nothing(shared: Minidocker, how: str) -> None:
    """From a stranger who is plugged into the bridge, and from the host's end of the container's own cable. A witness beside them believes
    it, and so shows that it was one to be believed."""
    pretend.sh("""for name in rogue witness; do
        ip netns add $name && ip link add ${name}0 type veth peer name eth0 netns $name &&
        sysctl -qw net.ipv6.conf.${name}0.disable_ipv6=1 && ip netns exec $name sysctl -qw net.ipv6.conf.eth0.accept_dad=0 &&
        ip -n $name link set eth0 up && ip link set ${name}0 master front up || exit; done""")
    link = place_of(shared, "web")["HostLink"]
    here = ["ip -6 addr show dev front", "ip -6 route"]
    here += [f"ip -n {name} -6 {what}" for name in ("web", "mate") for what in ("addr", "route")]
    try:
        before = [pretend.sh(command) for command in here]
        with Wire("rogue") as rogue, Wire("", link) as cable, Wire("web") as web:
            mac = str(ip_in("rogue", "link", "show", "eth0")[0]["address"])
            router = frame(ALL_NODES_MAC, mac, advertisement("fe80::bad", mac, 1800, "2001:db8:bad::"))
            then = frame(ALL_NODES_MAC, mac, datagram("fe80::bad", ALL_NODES, 9, b"and then"))
            rogue.send(router)
            poll(lambda: [one for one in addresses6("witness") if one.startswith("2001:db8:bad:")], "the witness believes it")
            assert [route["gateway"] for route in ip_in("witness", "-6", "route") if route["dst"] == "default"] == ["fe80::bad"]
            sender = rogue if how == "rogue" else cable
            sender.send(router, router, then)
            assert sum(data[54:56] == b"\x86\x00" for data in web.until(b"and then")) >= 2, "it has come to the container"
        assert [pretend.sh(command) for command in here] == before
    finally:
        pretend.sh("for name in rogue witness; do ip link del ${name}0; ip netns del $name; done", check=False)


def test_a_subnet_of_another_network_is_refused_naming_it(shared: Minidocker) -> None:
    subnet = ipaddress.IPv6Network(network_of(shared, "front")["IPAM"]["Config"][1]["Subnet"])
    before = state()
    for overlapping in (subnet, subnet.supernet(16), next(subnet.subnets(16))):
        assert shared.refused("network", "create", "--subnet", str(overlapping), "lab", code=1) == (
            f"minidocker: subnet {overlapping} overlaps network `front`{CHOOSE}")
    assert state() == before


# --- who speaks with whom -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_the_world_sees_the_host(shared: Minidocker, protocol: str) -> None:
    for address, name, seen in ((NEAR6, "near", HOST6), (FAR6, "far", "2001:db8:2::1")):
        with answering(name, 9000, place=name):
            assert ask(protocol, address, 9000, "web") == f"{name} {seen}"


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_host_and_containers_reach_each_other(shared: Minidocker, protocol: str) -> None:
    web, mate = place_of(shared, "web"), place_of(shared, "mate")
    assert ask(protocol, web["GlobalIPv6Address"], 80) == f"web {web['IPv6Gateway']}"
    assert ask(protocol, web["GlobalIPv6Address"], 80, "mate") == f"web {mate['GlobalIPv6Address']}"
    with answering("host", 9000):
        assert ask(protocol, web["IPv6Gateway"], 9000, "web") == f"host {web['GlobalIPv6Address']}"
    with answering("host", 9000):
        assert ask("tcp", HOST6, 9000, "web") == f"host {web['GlobalIPv6Address']}"


def test_a_mate_is_found_by_name(shared: Minidocker) -> None:
    address = place_of(shared, "mate")["GlobalIPv6Address"]
    for name in ("mate", shared.inspect("mate")["Id"][:12]):
        assert shared("exec", "web", "getent", "ahostsv6", name).stdout.split()[0] == address
    assert shared("exec", "web", "/usr/bin/python3", "-c", "import socket; print(socket.create_connection(('mate', 80)).recv(99).decode())"
                  ).stdout == f"mate {place_of(shared, 'web')['GlobalIPv6Address']}\n"  # fmt: skip
    with within("web", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asking:
        asking.settimeout(10)
        reverse, ip = ipaddress.ip_address(address).reverse_pointer, place_of(shared, "mate")["IPAddress"]
        for name, kind, found in (("mate", "AAAA", address), ("mate", "A", ip), (reverse, "PTR", "mate.")):
            asking.sendto(dnslib.DNSRecord.question(name, kind).pack(), ("10.9.1.1", 53))
            answers = dnslib.DNSRecord.parse(asking.recv(2000)).rr
            assert [str(one.rdata) for one in answers] == [found], (name, kind)


def test_each_family_has_its_default_route_by_the_first_network_that_has_it(six: None, md: Minidocker) -> None:
    """One of IPv4 alone before one of both: what is sent by IPv6 has its way out all the same, whatever comes and goes."""

    def routes() -> list[str]:
        return [words[4] for family in ("-4", "-6")
                if (words := md("exec", "one", "ip", family, "route", "show", "default").stdout.split())]  # fmt: skip

    md("network", "create", "four")
    for name in ("six", "seven"):
        md("network", "create", "--ipv6", name, check=False)
    md.start("--name", "one", "--net", "four", "--net", "six", "sleep", "1000")
    assert routes() == ["eth0", "eth1"]
    md("network", "connect", "--gw-priority", "2", "seven", "one")
    assert routes() == ["eth2", "eth2"]
    md("network", "disconnect", "seven", "one")
    assert routes() == ["eth0", "eth1"]
    md("network", "disconnect", "six", "one")
    assert routes() == ["eth0"]
