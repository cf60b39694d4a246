"""network trace: each case is broken for real and then named, by the one cause, with what mends it; and nothing of a trace stays."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests import pretend
from tests.e2e.support import Minidocker, poll
from tests.e2e.world import FAR, NEAR, answer, answering, ask

WEB, OTHER = "172.17.0.2", "172.17.0.3"


def trace(md: Minidocker, *words: object) -> dict[str, Any]:
    """The answer as data; the exit code says whether all is well, and no table of ours is left."""
    done = md("network", "trace", *words, "--format", "json", check=False)
    assert done.stderr == "", done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if found["outcome"] == "answered" and found["finding"] is None else 1)
    assert "trace" not in pretend.sh("nft list tables") and "mdtrace" not in pretend.sh("ip -o link")
    return found


def cause(md: Minidocker, *words: object) -> tuple[str, str]:
    """(cause, what mends it)."""
    finding = trace(md, *words)["finding"]
    assert finding is not None
    assert all(finding[key] for key in ("found", "why", "mend"))
    return finding["cause"], finding["mend"]


def hops(found: dict[str, Any], kind: str, place: str = "", direction: str = "") -> list[str]:
    return [hop["text"] for hop in found["hops"] if hop["kind"] == kind and place in ("", hop["place"])
            and direction in ("", hop["direction"])]  # fmt: skip


@pytest.fixture
def two(world: None, md: Minidocker) -> Minidocker:
    """`web` answers on port 80, published on 18080; `other` is in the same network."""
    answer(md, "web", "-p", "18080:80")
    md.start("--name", "other", "sleep", "1000")
    return md


@contextmanager
def drop(hook: str, rule: str = "", policy: str = "drop") -> Iterator[None]:
    pretend.sh(f"nft add table inet mine && nft 'add chain inet mine here {{ type filter hook {hook} priority -150; policy {policy}; }}'")
    try:
        if rule:
            pretend.sh(f"nft 'add rule inet mine here {rule}'")
        yield
    finally:
        pretend.sh("nft delete table inet mine")


def test_an_answer_with_its_whole_path(two: Minidocker) -> None:
    found = trace(two, "other", "web:80")
    assert (found["from"]["address"], found["to"]["address"], found["protocol"], found["outcome"]) == (OTHER, WEB, "tcp", "answered")
    assert {hop["place"] for hop in found["hops"]} == {"other", "host", "web"}
    assert hops(found, "route", "other", "forward") == [f"{WEB} by `172.17.0.0/24 dev eth0`"]
    [back] = hops(found, "send", "web", "answer")
    assert back.startswith(f"{WEB}:80 > {OTHER}:") and back.endswith("tcp S.")
    assert any("@senders accept" in rule for hop in found["hops"] for rule in hop["rules"])
    text = two("network", "trace", "other", "web:80").stdout
    assert text.endswith("✓ answered\n") and "\x1b" not in text


def test_out_to_the_world_and_translated(two: Minidocker) -> None:
    with answering("far", 8000, place="far"):
        found = trace(two, "web", f"{FAR}:8000")
    assert hops(found, "nat", "host", "forward")[0].startswith(f"source {WEB}:")
    assert "becomes 198.51.100.1:" in hops(found, "nat", "host", "forward")[0]
    assert any("masquerade" in rule for hop in found["hops"] for rule in hop["rules"])
    assert hops(found, "nat", "host", "answer")[0].startswith("destination 198.51.100.1:")
    assert hops(found, "neighbour", "host", "forward")[0].startswith(f"{FAR} is at ")
    assert (found["conntrack"]["from"][0], found["conntrack"]["answered_to"][0]) == (WEB, "198.51.100.1")
    assert trace(two, "web", "outside")["to"]["address"] == NEAR


def test_in_from_the_world_by_a_published_port(two: Minidocker) -> None:
    found = trace(two, "outside", "host:18080")
    assert (found["outcome"], found["from"]["address"]) == ("answered", NEAR)
    assert hops(found, "nat", "host", "forward") == [f"destination 192.0.2.1:18080 becomes {WEB}:80"]
    assert hops(found, "in", "host", "forward")[0].startswith("lan0: ") and hops(found, "in", "web", "forward")
    assert cause(two, "outside", f"{WEB}:80")[0] == "not-published"
    assert cause(two, "outside", "host:18081")[0] == "not-listening"


def test_from_the_host_by_udp_and_by_ping(two: Minidocker) -> None:
    assert trace(two, "host", "web:80", "--proto", "udp")["outcome"] == "answered"
    assert trace(two, "host", "web")["protocol"] == "icmp"
    assert trace(two, "web", "host")["to"]["address"] == "172.17.0.1"
    assert trace(two, "host", "host:18080")["hops"][-1]["place"] == "host"


def test_not_listening_and_dropped_are_two(two: Minidocker) -> None:
    found = trace(two, "other", "web:81")
    assert (found["outcome"], found["finding"]["cause"]) == ("refused", "not-listening")
    assert "ip netns exec web ss -ltn" in found["finding"]["mend"]
    assert cause(two, "other", "web:81", "--proto", "udp")[0] == "not-listening"
    pretend.sh("""ip netns exec web nft 'add table inet own; add chain inet own in { type filter hook input priority 0; };
                  add rule inet own in tcp dport 80 drop'""")
    found = trace(two, "other", "web:80")
    assert (found["outcome"], found["finding"]["cause"]) == ("silent", "foreign-drop")
    assert found["finding"]["found"] == "dropped on container `web` by inet own in at input: tcp dport 80 drop"
    pretend.sh(found["finding"]["mend"])
    assert trace(two, "other", "web:80")["outcome"] == "answered"


def test_no_route_in_the_container(two: Minidocker) -> None:
    pretend.sh("ip -n web route del default")
    name, mend = cause(two, "web", "outside")
    assert (name, mend) == ("no-route", "ip netns exec web ip route add default via 172.17.0.1 dev eth0")
    pretend.sh(mend)
    assert trace(two, "web", "outside")["outcome"] == "answered"


def test_no_route_back(two: Minidocker) -> None:
    """It arrives, and its answer is not even sent."""
    pretend.sh("ip -n web route del default")
    name, mend = cause(two, "outside", "host:18080")
    assert (name, mend) == ("no-route", "ip netns exec web ip route add default via 172.17.0.1 dev eth0")


def test_a_bridge_that_is_down(two: Minidocker) -> None:
    pretend.sh("ip link set br0 down")
    for ends in (("web", "outside"), ("other", "web:80"), ("host", "web:80")):
        assert cause(two, *ends) == ("bridge-down", "ip link set br0 up")
    pretend.sh("ip link set br0 up")
    assert trace(two, "other", "web:80")["outcome"] == "answered"


def test_an_interface_that_is_down(two: Minidocker) -> None:
    pretend.sh("ip -n web link set eth0 down")
    assert cause(two, "web", "outside") == ("link-down", "ip netns exec web ip link set eth0 up")
    assert cause(two, "host", "web:80") == ("link-down", "ip netns exec web ip link set eth0 up")


@pytest.mark.parametrize("rule", ["", "oifname lan1 reject", "oifname lan1 tcp dport 8000 drop"])
def test_a_foreign_forward_drop(two: Minidocker, rule: str) -> None:
    with answering("far", 8000, place="far"), drop("forward", rule, "accept" if rule else "drop"):
        finding = trace(two, "web", f"{FAR}:8000")["finding"]
        assert (finding["cause"], finding["network"]) == ("foreign-forward-drop", "br0")
        verb = "rejected" if "reject" in rule else "dropped"
        said = finding["found"].replace("reject with icmpx port-unreachable", "reject").replace('"', "")
        assert said == f"{verb} on this host by inet mine here at forward: {rule or 'policy drop'}"
        pretend.sh(finding["mend"])
        assert trace(two, "web", f"{FAR}:8000")["outcome"] == "answered"


def test_missing_masquerade(two: Minidocker) -> None:
    pretend.sh(f"nft flush chain inet minidocker_{two.tag} postrouting")
    name, mend = cause(two, "web", "outside")
    assert (name, mend) == ("no-masquerade", "minidocker network reload")
    two("network", "reload")
    assert trace(two, "web", "outside")["outcome"] == "answered"


@pytest.mark.parametrize("link", ["br0", "lan1"])
def test_forwarding_off(two: Minidocker, link: str) -> None:
    pretend.sh(f"sysctl -qw net.ipv4.conf.{link}.forwarding=0")
    with answering("far", 8000, place="far"):
        finding = trace(two, "web", f"{FAR}:8000")["finding"]
        assert finding["cause"] == "forwarding-off" and f"net/ipv4/conf/{link}/forwarding is 0" in finding["found"]
        two("network", "reload")
        assert trace(two, "web", f"{FAR}:8000")["outcome"] == "answered"


def test_the_reverse_path_filter(two: Minidocker) -> None:
    """An answer that comes in by another link than it would be sent by: what containers send is marked, and routed by that."""
    pretend.sh(f"""ip -n far addr add 203.0.113.5/32 dev lo && ip route add 203.0.113.5 via {FAR} dev lan1 table 100 &&
                   ip rule add fwmark 7 lookup 100 && sysctl -qw net.ipv4.conf.lan1.rp_filter=1""")
    try:
        with drop("prerouting", "iifname br0 ip daddr 203.0.113.5 meta mark set 7", "accept"):
            name, mend = cause(two, "web", "203.0.113.5")
            assert (name, mend) == ("rp-filter", "sysctl -w net/ipv4/conf/lan1/rp_filter=2")
            pretend.sh(mend)
            found = trace(two, "web", "203.0.113.5")
            assert (found["outcome"], hops(found, "neighbour", "host")[0].split()[0]) == ("answered", FAR)
    finally:
        pretend.sh("ip -n far addr del 203.0.113.5/32 dev lo; ip rule del fwmark 7; ip route flush table 100; "
                   "sysctl -qw net.ipv4.conf.lan1.rp_filter=0")


def test_a_wrong_gateway(two: Minidocker) -> None:
    pretend.sh(f"ip -n web route replace default via {OTHER} dev eth0")
    name, mend = cause(two, "web", "outside")
    assert (name, mend) == ("wrong-gateway", "ip netns exec web ip route replace default via 172.17.0.1 dev eth0")
    pretend.sh(mend)
    assert trace(two, "web", "outside")["outcome"] == "answered"
    pretend.sh("ip -n web route replace default via 172.17.0.99 dev eth0")
    assert cause(two, "web", "outside")[0] == "wrong-gateway"


def test_arp_unanswered(two: Minidocker) -> None:
    found = trace(two, "web", "172.17.0.99")["finding"]
    assert found["cause"] == "arp-unanswered" and "nobody answers for 172.17.0.99 on `eth0` of container `web`" in found["found"]
    found = trace(two, "host", "192.0.2.77:80")["finding"]
    assert found["cause"] == "arp-unanswered" and "192.0.2.77 on `lan0` of this host" in found["found"]


def test_an_overlapping_subnet(two: Minidocker) -> None:
    pretend.sh(f"ip route add {WEB}/32 via {NEAR}")
    try:
        for ends in (("host", "web:80"), ("web", "outside"), ("outside", "host:18080")):
            found = trace(two, *ends)["finding"]
            assert found["cause"] == "overlap" and f"`{WEB} via {NEAR} dev lan0`" in found["found"], ends
    finally:
        pretend.sh(f"ip route del {WEB}/32")
    assert trace(two, "host", "web:80")["outcome"] == "answered"


def test_isolated_and_internal(two: Minidocker) -> None:
    two("network", "create", "--isolated", "apart")
    two("network", "create", "--internal", "inner")
    for name, network in (("i1", "apart"), ("i2", "apart"), ("n1", "inner")):
        two.start("--name", name, "--net", network, "sleep", "1000")
    assert cause(two, "i1", "i2")[0] == "isolated"
    assert trace(two, "i1", "outside")["outcome"] == "answered"
    assert cause(two, "n1", "outside")[0] == "internal"
    gateway = json.loads(two("network", "inspect", "inner").stdout)[0]["IPAM"]["Config"][0]["Gateway"]
    pretend.sh(f"ip -n n1 route add default via {gateway}")
    assert cause(two, "n1", "outside")[0] == "internal"
    assert cause(two, "i1", "web:80")[0] in ("not-published", "dropped-by-rule")


def test_a_packet_that_is_too_large_for_a_link(two: Minidocker) -> None:
    link = two.inspect("web")["NetworkSettings"]["Networks"]["br0"]["HostLink"]
    pretend.sh(f"ip link set {link} mtu 1300")
    found = trace(two, "other", "web:80")
    assert (found["outcome"], found["finding"]["cause"]) == ("answered", "mtu")
    assert found["finding"]["found"] == f"packets of 1500 bytes are lost: `{link}` of this host takes 1300, and nobody tells the sender"
    pretend.sh(found["finding"]["mend"])
    assert trace(two, "other", "web:80")["finding"] is None


def test_a_router_that_tells_of_a_smaller_link_is_no_fault(two: Minidocker) -> None:
    pretend.sh("ip link set lan0 mtu 1400")
    try:
        found = trace(two, "web", "outside")
        assert found["finding"] is None
        assert found["notes"] == ["`lan0` takes packets of 1400 bytes alone; the sender of larger ones is told"]
    finally:
        pretend.sh("ip link set lan0 mtu 1500")


def test_ipv6(world: None, md: Minidocker) -> None:
    md("network", "create", "--ipv6", "six", check=False)
    answer(md, "web", "--net", "six")
    md.start("--name", "other", "--net", "six", "sleep", "1000")
    address = md.inspect("web")["NetworkSettings"]["Networks"]["six"]["GlobalIPv6Address"]
    assert trace(md, "other", f"[{address}]:80")["outcome"] == "answered"
    assert trace(md, "other", address)["outcome"] == "answered"
    assert cause(md, "other", f"[{address}]:81")[0] == "not-listening"


def test_what_is_killed_leaves_nothing(two: Minidocker) -> None:
    with two.open("network", "trace", "web", "172.17.0.99") as running:
        poll(lambda: "trace" in pretend.sh("nft list tables"), "the tables are there")
        running.send_signal(signal.SIGKILL)
    poll(lambda: "trace" not in pretend.sh("nft list tables"), "the tables are gone")
    with two.open("network", "trace", "outside", f"{WEB}:80") as running:
        poll(lambda: "mdtrace" in pretend.sh("ip -o link"), "the cable is there")
        os.kill(running.pid, signal.SIGKILL)
    poll(lambda: "trace" not in pretend.sh("nft list tables; ip -o link"), "tables and cable are gone")
    with two.open("network", "trace", "web", "172.17.0.99") as running:
        poll(lambda: "trace" in pretend.sh("nft list tables"), "the tables are there")
        running.send_signal(signal.SIGINT)
        assert running.wait() == 130
    poll(lambda: "trace" not in pretend.sh("nft list tables"), "the tables are gone")


def test_real_traffic_is_watched(two: Minidocker) -> None:
    with two.open("network", "trace", "outside", "web:80", "--listen") as running:
        poll(lambda: pretend.sh("nft list tables; ip netns exec web nft list tables").count("inet minidocker_trace") == 2, "both are there")
        assert ask("tcp", "192.0.2.1", 18080, "near") == f"web {NEAR}"
        lines = []
        while not any(" web input" in line and line.endswith("came through (inet)") for line in lines):
            lines.append(running.line())
        running.send_signal(signal.SIGINT)
        assert running.wait() == 0
    assert any("published: " in line or "ports" in line for line in lines), lines
    assert "trace" not in pretend.sh("nft list tables")


def test_real_traffic_outward_and_its_answers(two: Minidocker) -> None:
    """As data, one line a chain: the sender is translated, and the answer back."""
    with two.open("network", "trace", "web", "outside", "--listen", "--format", "json") as running:
        poll(lambda: pretend.sh("nft list tables; ip netns exec web nft list tables").count("inet minidocker_trace") == 2, "both are there")
        pretend.sh(f"ip netns exec web ping -c 1 -W 5 {NEAR} && ip netns exec other ping -c 1 -W 5 {NEAR}")
        seen: list[dict[str, Any]] = []
        wanted = {(place, "prerouting", f"{NEAR} > {WEB} icmp type 0") for place in ("host", "web")}
        while not wanted <= {(one["place"], one["hook"], one["packet"]) for one in seen}:
            seen.append(json.loads(running.line()))
        running.send_signal(signal.SIGINT)
        assert running.wait() == 0
    assert any("masquerade" in rule for one in seen for rule in one["rules"]) and not [one for one in seen if OTHER in one["packet"]]


def test_what_makes_no_sense_is_refused(two: Minidocker) -> None:
    for words, said in (
        (("web", "web:80"), "both ends are the same container"), (("outside", NEAR), "both ends are outside of this host"),
        (("web", "other", "--proto", "tcp"), "--proto tcp needs a port"), (("web", "other:80", "--proto", "icmp"), "has no ports"),
        (("web", "other:0"), "TO `other:0`"), (("web", "other", "--proto", "sctp"), "--proto `sctp`"),
    ):  # fmt: skip
        assert said in two.refused("network", "trace", *words)
    assert "no such container: nobody" in two.refused("network", "trace", "nobody", "web", code=1)
    two("stop", "-t", "0", "other")
    assert "container `other` is exited" in two.refused("network", "trace", "web", "other", code=1)


def test_what_nftables_does_not_show(two: Minidocker) -> None:
    assert shutil.which("iptables-legacy"), "tests/run installs docker.io, which brings it"
    pretend.sh("iptables-legacy -A FORWARD -d 198.51.100.2 -j DROP")
    try:
        found = trace(two, "web", FAR)["finding"]
        assert found["cause"] == "unseen-drop"
        assert found["found"] == "lost on this host within forward, by no rule of nftables: iptables-legacy has rules"
        assert found["mend"] == "iptables-legacy-save"
    finally:
        pretend.sh("iptables-legacy -D FORWARD -d 198.51.100.2 -j DROP")
    assert trace(two, "web", FAR)["outcome"] == "answered"


def test_by_a_published_port_from_within(two: Minidocker) -> None:
    """There and back by the port it came from, and translated twice."""
    for source in ("other", "web"):
        found = trace(two, source, "192.0.2.1:18080")
        assert found["outcome"] == "answered", source
        assert hops(found, "nat", "host", "forward")[0] == f"destination 192.0.2.1:18080 becomes {WEB}:80"
        assert hops(found, "nat", "host", "forward")[1].startswith(f"source {WEB if source == 'web' else OTHER}:")


def test_cables_and_the_hosts_own_wire(two: Minidocker) -> None:
    two("network", "create", "-d", "ptp", "cable")
    two("network", "create", "-d", "macvlan", "-o", "parent=lan0", "--subnet", "192.0.2.0/24", "--gateway", NEAR, "lan")
    answer(two, "left", "--net", "cable")
    two.start("--name", "right", "--net", "cable", "sleep", "1000")
    two.start("--name", "wire", "--net", "lan", "--ip", "192.0.2.50", "sleep", "1000")
    two.start("--name", "alone", "--net", "none", "sleep", "1000")
    left = two.inspect("left")["NetworkSettings"]["Networks"]["cable"]["IPAddress"]
    assert trace(two, "right", "left:80")["to"]["address"] == left
    assert cause(two, "right", f"{left}:81")[0] == "not-listening"
    found = trace(two, "right", "outside")["finding"]
    assert found["cause"] == "internal" and "network `cable` is a cable for two" in found["found"]
    assert trace(two, "wire", "outside")["outcome"] == "answered"
    assert cause(two, "wire", "203.0.113.9")[0] == "no-answer-outside"
    assert cause(two, "alone", "outside")[0] == "no-route"
    assert "has no address to send to" in two.refused("network", "trace", "host", "alone", code=1)


def test_a_container_that_is_called_as_the_host_is(two: Minidocker) -> None:
    id = two.start("--name", "host", "sleep", "1000")
    assert trace(two, "other", "host")["to"]["address"] == "172.17.0.1"
    found = trace(two, "other", id[:12])
    assert (found["outcome"], found["to"]["address"]) == ("answered", "172.17.0.4") and hops(found, "in", id[:12])
