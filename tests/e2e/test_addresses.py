"""Addresses and networks: one owner each, whoever is killed; what is refused says why; the default route and the ports that follow it."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import pretend
from tests.e2e.machine import Picture, children, is_alive, picture, records
from tests.e2e.support import Minidocker, poll
from tests.e2e.test_concurrency import MANY, at_once, command, failures
from tests.e2e.test_names import monitor_of
from tests.e2e.test_publish import elements
from tests.e2e.world import HOST, PORT, fetch, fetch_inside, ip_in, serve

Place = dict[str, Any]


def create(md: Minidocker, name: str, subnet: str, *options: object) -> str:
    """`network create`; the id. It may say a word of accept_ra."""
    done = md("network", "create", "--subnet", subnet, *options, name, check=False)
    assert done.returncode == 0, done.stderr
    return str(done.stdout).strip()


def place(md: Minidocker, name: str, network: str) -> Place:
    found: Place = md.inspect(name)["NetworkSettings"]["Networks"][network]
    return found


def ip_of(md: Minidocker, name: str, network: str = "br0") -> str:
    return str(place(md, name, network)["IPAddress"])


def sleeping(md: Minidocker, name: str, *options: object) -> str:
    return md.start("--name", name, *options, "sleep", "1000")


def way_out(name: str) -> list[tuple[str, str]]:
    """The container's default routes, as (gateway, interface)."""
    return [(route["gateway"], route["dev"]) for route in ip_in(name, "-4", "route", "show", "default")]


def but_names(shown: Picture) -> Picture:
    """Without the hosts files of networks, which stay as long as these do, and what is kept for containers that have been connected."""
    skipped, kept = ("networks", "resolvers"), ("/moving", "/hosts", "/hosts.new")
    return {**shown, "run": [path for path in shown["run"] if not path.startswith(skipped) and not path.endswith(kept)]}


def said(message: str, hint: str) -> str:
    return f"minidocker: {message}\n  hint: {hint}\n"


# --- leases -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_fifty_at_once_share_no_address_in_either_network(md: Minidocker, busybox: Path) -> None:
    create(md, "front", "10.77.0.0/26")
    create(md, "back", "10.77.1.0/26", "--ipv6")
    run = ["run", "-d", "--net", "front", "--net", "back", "--rootfs", busybox]
    done = at_once([command(md, *run, "--name", f"c{n}", "sleep", "1000") for n in range(MANY)])
    assert failures(done) == []
    documents = json.loads(md("inspect", *(f"c{n}" for n in range(MANY))).stdout)
    for network in ("front", "back"):
        places = [document["NetworkSettings"]["Networks"][network] for document in documents]
        assert len({one["IPAddress"] for one in places}) == len({one["MacAddress"] for one in places}) == MANY
    assert len({document["NetworkSettings"]["Networks"]["back"]["GlobalIPv6Address"] for document in documents}) == MANY
    for number, document in enumerate(documents):
        inside = {link["ifname"]: link for link in ip_in(f"c{number}", "addr")}
        for network, interface in (("front", "eth0"), ("back", "eth1")):
            one = document["NetworkSettings"]["Networks"][network]
            assert inside[interface]["address"] == one["MacAddress"]
            assert one["IPAddress"] in [address["local"] for address in inside[interface]["addr_info"]]


def test_the_address_of_a_killed_run_is_free_after_one_command(md: Minidocker, busybox: Path) -> None:
    """In a network with room for one."""
    create(md, "tiny", "10.77.0.0/30")
    run = ("run", "--name", "one", "--net", "tiny", "--rootfs", busybox)
    with md.open(*run, "sh", "-c", "echo up; sleep 1000") as process:
        assert process.line() == "up"
        assert ip_of(md, "one", "tiny") == "10.77.0.2"
        process.kill()
    md("rm", "-f", "one")
    md.start(*run[1:], "sleep", "1000")
    pid = md.inspect("one")["State"]["Pid"]
    os.kill(monitor_of(md, "one"), signal.SIGKILL)
    poll(lambda: not is_alive(pid), "it dies with its monitor")
    md("ps")
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    begun = time.monotonic()
    md.run("--rm", *run[3:], "true")
    takes = time.monotonic() - begun
    for _ in range(10):
        with md.open("run", "--rm", *run[3:], "sleep", "1000") as process:
            time.sleep(chance.uniform(0, takes))
            monitors = children(process.pid)
            process.kill()
            for monitor in monitors:
                os.kill(monitor, signal.SIGKILL)
        md("ps")
        assert records(md.root / "state.db")["endpoints"] == [], f"seed {seed}"
        assert md.run("--rm", *run[3:], "hostname", "-i").stdout == "10.77.0.2\n", f"seed {seed}"


def test_a_restart_keeps_the_address(md: Minidocker) -> None:
    create(md, "front", "10.77.0.0/24")
    sleeping(md, "first", "--net", "front")
    sleeping(md, "chosen", "--net", "front:ip=10.77.0.77", "--mac-address", "02:00:00:00:00:77")
    sleeping(md, "second", "--net", "front")
    for way in (("restart", "-t", "0"), ("stop", "-t", "0")):
        for name in ("first", "chosen", "second"):
            md(*way, name)
        for name in ("second", "first", "chosen") if way[0] == "stop" else ():
            md("start", name)
        assert [ip_of(md, name, "front") for name in ("first", "chosen", "second")] == ["10.77.0.2", "10.77.0.77", "10.77.0.78"]
        assert place(md, "chosen", "front")["MacAddress"] == "02:00:00:00:00:77"
        for name, ip in (("first", "10.77.0.2"), ("chosen", "10.77.0.77"), ("second", "10.77.0.78")):
            assert [a["local"] for link in ip_in(name, "-4", "addr", "show", "dev", "eth0") for a in link["addr_info"]] == [ip]


def test_an_address_that_was_taken_meanwhile_is_another_s(md: Minidocker) -> None:
    create(md, "front", "10.77.0.0/24")
    sleeping(md, "any", "--net", "front")
    sleeping(md, "chosen", "--net", "front", "--ip", "10.77.0.9")
    md("stop", "-t", "0", "any", "chosen")
    sleeping(md, "heir", "--net", "front", "--ip", "10.77.0.2")
    sleeping(md, "other", "--net", "front", "--ip", "10.77.0.9")
    md("start", "any")
    assert ip_of(md, "any", "front") == "10.77.0.10"
    assert md.refused("start", "chosen", code=1) == said(
        "address 10.77.0.9 is in use by container `other`", "take another, or leave --ip out"
    )
    assert md.inspect("chosen")["State"]["Status"] == "exited"
    md("rm", "-f", "other", "heir")
    md("start", "chosen")
    assert ip_of(md, "chosen", "front") == "10.77.0.9"
    md("restart", "-t", "0", "any")
    assert ip_of(md, "any", "front") == "10.77.0.10", "what it had last"


def test_after_a_boot_every_address_is_free(md: Minidocker, busybox: Path) -> None:
    """Also those of a container that was in several networks, and of one that was only being connected."""
    create(md, "front", "10.77.0.0/30")
    create(md, "back", "10.77.1.0/30")
    sleeping(md, "both", "--net", "front", "--net", "back", "--rootfs", busybox, "-p", "18080:80")
    monitor, pid = monitor_of(md, "both"), md.inspect("both")["State"]["Pid"]
    os.kill(monitor, signal.SIGKILL)
    poll(lambda: not is_alive(monitor) and not is_alive(pid), "all is dead")
    pretend.sh(f"ip link del front; ip link del back; nft flush ruleset; rm -rf {md.run_directory} /run/netns/both; "
               f"find /sys/fs/cgroup -depth -type d -path '*minidocker-{md.tag}*' -exec rmdir {{}} +")  # fmt: skip
    with closing(sqlite3.connect(md.root / "state.db")) as connection, connection:
        connection.execute("UPDATE containers SET boot = '00000000-0000-4000-8000-000000000000'")
        connection.execute("UPDATE endpoints SET connecting = 1 WHERE network = 'back'")
        now = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        connection.execute("UPDATE settings SET value = replace(value, ?, '0')", (now,))
    [row] = md.ps()
    assert row["State"] == "exited" and row["Status"].startswith("Exited (unknown)")
    assert records(md.root / "state.db")["endpoints"] == records(md.root / "state.db")["ports"] == []
    sleeping(md, "heir", "--net", "front:ip=10.77.0.2", "--net", "back:ip=10.77.1.2", "-p", "18080:80")
    assert "subnet 10.77.0.0/30 is full: its only address for containers is in use" in md.refused("start", "both", code=1)
    md("rm", "-f", "heir")
    md("start", "both")
    assert (ip_of(md, "both", "front"), ip_of(md, "both", "back")) == ("10.77.0.2", "10.77.1.2")


# --- refusals ---------------------------------------------------------------------------------------------------------------------------


def test_a_full_subnet_says_so_and_how_to_widen_it(md: Minidocker) -> None:
    create(md, "small", "10.77.0.0/29")
    for number in range(5):
        sleeping(md, f"c{number}", "--net", "small")
    before = picture(md)
    refusal = said("subnet 10.77.0.0/29 is full: all of its 5 addresses for containers are in use",
                   "remove containers, or make a wider network: minidocker network create --subnet 10.77.0.0/28 NAME")  # fmt: skip
    assert md.refused("run", "--rm", "--net", "small", "true") == refusal
    create(md, "other", "10.77.1.0/24")
    sleeping(md, "late", "--net", "other")
    assert md.refused("network", "connect", "small", "late", code=1) == refusal
    md("rm", "-f", "late")
    md("network", "rm", "other")
    assert {**picture(md), "nft": 0} == {**before, "nft": 0}
    md("rm", "-f", "c2")
    assert md.run("--rm", "--net", "small", "hostname", "-i").stdout == "10.77.0.4\n"


def test_an_ip_range_is_kept_to(md: Minidocker) -> None:
    create(md, "ranged", "10.77.0.0/24", "--ip-range", "10.77.0.64/30")
    for number in range(4):
        sleeping(md, f"c{number}", "--net", "ranged")
    assert [ip_of(md, f"c{number}", "ranged") for number in range(4)] == [f"10.77.0.{n}" for n in (64, 65, 66, 67)]
    assert md.refused("run", "--rm", "--net", "ranged", "true") == said(
        "range 10.77.0.64/30 of subnet 10.77.0.0/24 is full: all of its 4 addresses for containers are in use",
        "remove containers, or make a wider network: minidocker network create --subnet 10.77.0.0/24 NAME",
    )
    assert md.run("--rm", "--net", "ranged", "--ip", "10.77.0.9", "hostname", "-i").stdout == "10.77.0.9\n", "who asks may have any"
    assert "10.77.1.0/24" in md.refused("network", "create", "--subnet", "10.77.1.0/24", "--ip-range", "10.77.2.0/28", "no")


def test_the_1024th_port_of_a_bridge_is_refused(md: Minidocker) -> None:
    """1,023 is what the kernel gives one (BR_MAX_PORTS). Cables with both ends in it take two each, and are down."""
    create(md, "wide", "10.77.0.0/21")
    sleeping(md, "last", "--net", "wide")
    lines = [f"link add a{n} group 77 type veth peer name b{n}\nlink set a{n} master wide\nlink set b{n} group 77 master wide"
             for n in range(511)]  # fmt: skip
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True, timeout=120)
    try:
        assert len(pretend.ip("link show master wide")) == 1023
        before = picture(md)
        refusal = said("attach `late` to bridge `wide`: the bridge is full, it takes 1,023 containers",
                       "make another network: minidocker network create NAME")  # fmt: skip
        assert md.refused("run", "--rm", "--name", "late", "--net", "wide", "-p", "18080:80", "true") == refusal
        assert picture(md) == before
        create(md, "other", "10.78.0.0/24")
        sleeping(md, "late", "--net", "other", "-p", "18080:80")
        before = picture(md)
        assert md.refused("network", "connect", "--gw-priority", "1", "wide", "late", code=1) == refusal
        assert but_names(picture(md)) == but_names(before)
        pretend.sh("ip link del a0")
        md("network", "connect", "wide", "late")
        md("rm", "-f", "late")
    finally:
        pretend.sh("ip link del group 77")


def test_what_somebody_has_is_refused_naming_him(md: Minidocker) -> None:
    create(md, "front", "10.77.0.0/24", "--ipv6", "--subnet", "fd77::/64")
    mac = "02:00:00:00:00:99"
    sleeping(md, "holder", "--net", "front", "--ip", "10.77.0.9", "--ip6", "fd77::99", "--mac-address", mac)
    before = records(md.root / "state.db")
    for option, value, what in (("--ip", "10.77.0.9", "address 10.77.0.9"), ("--ip6", "fd77::99", "address fd77::99"),
                                ("--mac-address", mac, f"the MAC address {mac}")):  # fmt: skip
        refusal = said(f"{what} is in use by container `holder`", f"take another, or leave {option} out")
        assert md.refused("run", "--rm", "--net", "front", option, value, "true") == refusal
    assert records(md.root / "state.db") == before
    sleeping(md, "late", "--net", "none")
    for option, value, what in (("--ip", "10.77.0.9", "address 10.77.0.9"), ("--ip6", "fd77::99", "address fd77::99"),
                                ("--mac-address", mac, f"the MAC address {mac}")):  # fmt: skip
        refusal = said(f"{what} is in use by container `holder`", f"take another, or leave {option} out")
        assert md.refused("network", "connect", option, value, "front", "late", code=1) == refusal
    assert ip_in("late", "-4", "addr", "show", "dev", "lo") and len(ip_in("late", "link")) == 1
    assert md.refused("network", "connect", "front", "holder", code=1).startswith(
        "minidocker: container `holder` is in network `front` already\n"
    )


def test_addresses_that_nobody_can_have_are_refused(md: Minidocker) -> None:
    create(md, "front", "10.77.0.0/24", "--gateway", "10.77.0.5", "--ipv6", "--subnet", "fd77::/64")
    for option, value, message, hint in (
        ("--ip", "10.78.0.9", "address `10.78.0.9` is outside of subnet 10.77.0.0/24", "take one of 10.77.0.1 to 10.77.0.254"),
        ("--ip", "10.77.0.0", "address `10.77.0.0` is the network address of subnet 10.77.0.0/24", "take one of 10.77.0.1 to 10.77.0.254"),
        ("--ip", "10.77.0.255", "address `10.77.0.255` is the broadcast address of subnet 10.77.0.0/24",
         "take one of 10.77.0.1 to 10.77.0.254"),
        ("--ip", "10.77.0.5", "address `10.77.0.5` is the gateway of subnet 10.77.0.0/24", "take another, or leave --ip out"),
        ("--ip6", "fd78::9", "address `fd78::9` is not a host address of subnet fd77::/64", "take one like fd77::99"),
        ("--ip6", "fd77::1", "address `fd77::1` is the gateway of subnet fd77::/64", "take another, or leave --ip6 out"),
    ):  # fmt: skip
        assert md.refused("run", "--rm", "--net", "front", option, value, "true") == said(message, hint)
    create(md, "four", "10.78.0.0/24")
    assert md.refused("run", "--rm", "--net", "four", "--ip6", "fd77::9", "true") == said(
        "network `four` has no IPv6 for --ip6 fd77::9", "minidocker network create --ipv6 NAME makes one"
    )
    assert records(md.root / "state.db")["endpoints"] == []


def test_create_again(md: Minidocker) -> None:
    id = create(md, "front", "10.77.0.0/24", "--internal", "--label", "a=b")
    before = picture(md)
    again = ("network", "create", "--exist-ok", "--internal", "--label", "a=b")
    assert md(*again, "front").stdout.strip() == md(*again, "--subnet", "10.77.0.0/24", "front").stdout.strip() == id
    other = said("network `front` exists already, and is another than was asked for", "minidocker network inspect front shows it")
    for options in (
        ("--subnet", "10.78.0.0/24"), ("--subnet", "10.77.0.0/24", "--gateway", "10.77.0.9"), ("--mtu", "1400"), ("--ipv6",),
        ("--isolated",), ("--bridge", "front2"), ("--label", "a=c"), ("--driver", "ptp"),
        ("--ip-range", "10.77.0.0/28", "--subnet", "10.77.0.0/24"),
    ):  # fmt: skip
        given = [word for word in again if "ptp" not in options or word != "--internal"]
        assert md.refused(*given, *options, "front", code=1) == other, options
    assert md.refused("network", "create", "--exist-ok", "front", code=1) == other, "neither internal nor labelled"
    assert md.refused("network", "create", "--internal", "--label", "a=b", "front", code=1) == said(
        "network `front` exists already", "minidocker network rm front, or choose another name"
    )
    for subnet in ("10.77.0.0/24", "10.77.0.128/25", "10.76.0.0/15"):
        assert md.refused("network", "create", "--subnet", subnet, "back", code=1) == said(
            f"subnet {subnet} overlaps network `front`", "choose another; without --subnet a free one is taken"
        )
    assert picture(md) == before
    done = at_once([command(md, "network", "create", "--exist-ok", "same")] * 6)
    assert failures(done) == [] and len({one.stdout for one in done}) == 1


def test_a_network_in_use_is_neither_removed_nor_pruned(md: Minidocker) -> None:
    for number, name in enumerate(("used", "waiting", "free", "connected")):
        create(md, name, f"10.77.{number}.0/24")
    sleeping(md, "two", "--net", "used")
    sleeping(md, "one", "--net", "used")
    sleeping(md, "stopped", "--net", "waiting")
    md("network", "connect", "connected", "stopped")
    md("stop", "-t", "0", "stopped")
    assert md.refused("network", "rm", "used", code=1) == said(
        "network `used` has containers in it: one, two", "stop them first: minidocker stop one two"
    )
    assert md("network", "prune", "-f").stdout == "free\n"
    assert [network["Name"] for network in json.loads(md("network", "ls", "--format", "json").stdout)] == ["used", "waiting", "connected"]
    assert not pretend.ip("link show type bridge | grep -w free || echo '[]'")
    md("start", "stopped")
    assert set(md.inspect("stopped")["NetworkSettings"]["Networks"]) == {"waiting", "connected"}
    md("rm", "-f", "stopped", "one", "two")
    assert md("network", "prune", "-f").stdout.split() == ["connected", "used", "waiting"]


# --- the way out ------------------------------------------------------------------------------------------------------------------------


def test_the_first_network_gives_the_default_route(md: Minidocker) -> None:
    create(md, "front", "10.77.0.0/24")
    create(md, "back", "10.77.1.0/24")
    create(md, "shut", "10.77.2.0/24", "--internal")
    for name, networks, out in (
        ("a", ("front", "back"), ("10.77.0.1", "eth0")), ("b", ("back", "front"), ("10.77.1.1", "eth0")),
        ("c", ("shut", "front"), ("10.77.0.1", "eth1")), ("d", ("front", "back:gw-priority=1"), ("10.77.1.1", "eth1")),
        ("e", ("front:gw-priority=-1", "back"), ("10.77.1.1", "eth1")), ("f", ("shut:gw-priority=9", "front"), ("10.77.0.1", "eth1")),
    ):  # fmt: skip
        sleeping(md, name, *(word for network in networks for word in ("--net", network)))
        assert way_out(name) == [out], name
        md("restart", "-t", "0", name)
        assert way_out(name) == [out], name
    sleeping(md, "g", "--net", "shut")
    assert way_out("g") == []


def test_a_higher_priority_takes_the_way_out_and_gives_it_back(md: Minidocker) -> None:
    create(md, "front", "10.77.0.0/24")
    create(md, "back", "10.77.1.0/24")
    create(md, "shut", "10.77.2.0/24", "--internal")
    sleeping(md, "one", "--net", "front")
    md("network", "connect", "shut", "one")
    assert way_out("one") == [("10.77.0.1", "eth0")]
    md("network", "connect", "--gw-priority", "5", "back", "one")
    assert way_out("one") == [("10.77.1.1", "eth2")]
    for _ in range(2):
        md("restart", "-t", "0", "one")
        assert way_out("one") == [("10.77.1.1", "eth2")]
        assert {name: one["Interface"] for name, one in md.inspect("one")["NetworkSettings"]["Networks"].items()} == {
            "front": "eth0", "shut": "eth1", "back": "eth2",
        }  # fmt: skip
    md("network", "disconnect", "back", "one")
    assert way_out("one") == [("10.77.0.1", "eth0")]
    md("network", "disconnect", "front", "one")
    assert way_out("one") == []
    md("network", "connect", "back", "one")
    assert way_out("one") == [("10.77.1.1", "eth0")], "the lowest number that is free"
    md("restart", "-t", "0", "one")
    assert [gateway for gateway, _ in way_out("one")] == ["10.77.1.1"]


def test_published_ports_follow_the_way_out(world: None, md: Minidocker, server: Path) -> None:
    create(md, "front", "10.77.0.0/24")
    create(md, "back", "10.77.1.0/24")
    serve(md, server, "alice", "--net", "front", "-p", f"18081:{PORT}", "-p", f"127.0.0.1:18082:{PORT}")
    sleeping(md, "sibling", "--net", "back")

    def reached(ip: str) -> None:
        targets = elements(md)
        assert len(targets) == 2 and all(f'"{ip}"' in target for target in targets), targets
        for _ in range(2):
            assert fetch(f"http://{HOST}:18081", "near") == "alice"
            assert fetch("http://127.0.0.1:18082") == "alice"
            assert fetch_inside(md, "sibling", f"http://{HOST}:18081") == "alice"
            assert fetch_inside(md, "alice", f"http://{HOST}:18081") == "alice", "itself"

    reached("10.77.0.2")
    md("network", "connect", "--gw-priority", "1", "back", "alice")
    reached("10.77.1.3")
    md("restart", "-t", "0", "alice")
    poll(lambda: md.logs("alice").count("listen") == 2, "it listens again")
    reached(ip_of(md, "alice", "back"))
    md("network", "disconnect", "back", "alice")
    reached(ip_of(md, "alice", "front"))
    md("network", "connect", "back", "alice")
    reached(ip_of(md, "alice", "front"))
    md("network", "disconnect", "front", "alice")
    reached(ip_of(md, "alice", "back"))
    md("network", "disconnect", "back", "alice")
    assert elements(md) == []
    assert fetch(f"http://{HOST}:18081", "near", 1) == ""
    md("network", "connect", "front", "alice")
    reached(ip_of(md, "alice", "front"))
    create(md, "cable", "10.77.9.0/30", "--driver", "ptp")
    before = picture(md)
    md("network", "connect", "--gw-priority", "9", "cable", "alice")
    reached(ip_of(md, "alice", "front"))
    md("network", "disconnect", "cable", "alice")
    assert but_names(picture(md)) == but_names(before)


# --- ptp and macvlan --------------------------------------------------------------------------------------------------------------------


def test_a_cable_joins_two_and_no_third(md: Minidocker, server: Path) -> None:
    create(md, "cable", "10.77.0.0/29", "--driver", "ptp")
    before = picture(md)
    serve(md, server, "one", "--net", "cable")
    serve(md, server, "two", "--net", "cable")

    def both_ways() -> None:
        for asks, asked in (("one", "two"), ("two", "one")):
            assert fetch_inside(md, asks, f"http://{ip_of(md, asked, 'cable')}:{PORT}") == asked
            assert fetch_inside(md, asks, f"http://{asked}:{PORT}") == asked
            assert way_out(asks) == []

    both_ways()
    assert not pretend.ip("link show type bridge || true") and [link["ifname"] for link in pretend.ip("link")] == ["lo", *lans()]
    refusal = said("network `cable` joins two containers, and has two",
                   "it is one cable; for more there is: minidocker network create NAME")  # fmt: skip
    assert md.refused("run", "--rm", "--net", "cable", "true") == refusal
    sleeping(md, "third", "--net", "none")
    assert md.refused("network", "connect", "cable", "third", code=1) == refusal
    md("rm", "-f", "third")
    for end in (("stop", "-t", "0", "two"), ("kill", "two")):
        md(*end)
        md.wait("two")
        poll(lambda: "eth0" not in [link["ifname"] for link in ip_in("one", "link")], "the cable goes with either end")
        md("start", "two")
        poll(lambda: md.logs("two").count("listen") > 1, "it listens again")
        both_ways()
    md("restart", "-t", "0", "one")
    poll(lambda: md.logs("one").count("listen") > 1, "it listens again")
    both_ways()
    md("network", "disconnect", "cable", "two")
    assert md.run("--rm", "--net", "cable", "--name", "guest", "curl", "-s", f"http://one:{PORT}").stdout == "one\n"
    md("network", "connect", "cable", "two")
    both_ways()
    md("rm", "-f", "one", "two")
    poll(lambda: but_names(picture(md)) == but_names(before), "all has gone")


def lans() -> list[str]:
    return [str(link["ifname"]) for link in pretend.ip("link") if str(link["ifname"]).startswith("lan")]


@contextmanager
def a_wire() -> Iterator[None]:
    """mac0 of this host, 198.18.5.1 and .2, and `wired` at 198.18.5.9 on the other end."""
    pretend.sh("""ip netns add wired && ip link add mac0 type veth peer name eth0 netns wired &&
                  ip link set mac0 addrgenmode none &&
                  ip addr add 198.18.5.1/24 dev mac0 && ip addr add 198.18.5.2/24 dev mac0 && ip link set mac0 up &&
                  ip -n wired addr add 198.18.5.9/24 dev eth0 && ip -n wired link set eth0 up && ip -n wired link set lo up""")
    try:
        yield
    finally:
        pretend.sh("ip link del mac0; ip netns del wired", check=False)


@pytest.fixture
def wire() -> Iterator[None]:
    with a_wire():
        yield


def test_macvlan_containers_are_on_the_host_s_wire(wire: None, md: Minidocker, server: Path) -> None:
    md("network", "create", "-d", "macvlan", "-o", "parent=mac0", "--subnet", "198.18.5.0/24", "--ip-range", "198.18.5.0/29", "lan")
    for name, ip in (("one", "198.18.5.3"), ("two", "198.18.5.4")):
        assert serve(md, server, name, "--net", "lan")["IPAddress"] == ip, "neither the gateway's nor the host's own"
    assert fetch("http://198.18.5.3:8081", "wired") == "one" and fetch("http://198.18.5.4:8081", "wired") == "two"
    for asks, asked in (("one", "two"), ("two", "one")):
        assert fetch_inside(md, asks, f"http://{asked}:{PORT}") == asked
    [link] = [link for link in ip_in("one", "addr") if link["ifname"] == "eth0"]
    assert link["linkinfo"]["info_kind"] == "macvlan" and link["address"] == place(md, "one", "lan")["MacAddress"]
    md("restart", "-t", "0", "one")
    poll(lambda: md.logs("one").count("listen") > 1, "it listens again")
    assert fetch("http://198.18.5.3:8081", "wired") == "one"
    for _ in range(3):
        md.start("--net", "lan", "sleep", "1000")
    assert md.refused("run", "--rm", "--net", "lan", "true").startswith("minidocker: range 198.18.5.0/29 of subnet 198.18.5.0/24 is full: ")
    sleeping(md, "late", "--net", "none")
    md("network", "connect", "--ip", "198.18.5.77", "lan", "late")
    assert fetch_inside(md, "late", f"http://198.18.5.3:{PORT}") == "one"
    md("network", "disconnect", "lan", "late")
    assert [one["ifname"] for one in ip_in("late", "link")] == ["lo"]


def test_the_host_s_own_address_on_the_wire_is_never_a_container_s(wire: None, md: Minidocker) -> None:
    md("network", "create", "-d", "macvlan", "-o", "parent=mac0", "lan")
    for option in ("--ip", "198.18.5.2"), ("--ip", "198.18.5.1"):
        assert option[1] in md.refused("run", "--rm", "--net", "lan", *option, "true")
    assert md.run("--rm", "--net", "lan", "hostname", "-i").stdout == "198.18.5.3\n"


def test_a_macvlan_network_needs_its_parent(wire: None, md: Minidocker) -> None:
    missing = said("this host has no interface `nope0`", "ip -br link shows which there are")
    assert md.refused("network", "create", "-d", "macvlan", "-o", "parent=nope0", "lan", code=1) == missing
    assert md.refused("network", "create", "-d", "macvlan", "lan") == said(
        "a macvlan network needs the host's interface that it is to be on", "-o parent=eth0"
    )
    md("network", "create", "-d", "macvlan", "-o", "parent=mac0", "lan")
    pretend.sh("ip link set mac0 name mac1")
    try:
        refusal = md.refused("run", "--rm", "--net", "lan", "true", code=125)
        assert refusal == said("this host has no interface `mac0`", "ip -br link shows which there are")
        assert md.ps() == []
    finally:
        pretend.sh("ip link set mac1 name mac0")
