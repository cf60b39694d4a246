"""network doctor: each case is broken for real, is then the one finding, is mended by what was said, and is gone."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import pretend
from tests.e2e.support import Minidocker


def findings(md: Minidocker, *words: object, host: bool = False) -> list[dict[str, str]]:
    """What the doctor finds with networks, or with the host; the exit code says whether there is anything. (Once it was asked for, the
    kernel lists a table of the other iptables for as long as the network namespace lives, which here is that of the whole suite.)"""
    done = md("network", "doctor", "--format", "json", *words, check=False)
    found: list[dict[str, str]] = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (1 if found else 0, "")
    return [one for one in found if (one["network"] == "") == host]


@pytest.fixture
def web(world: None, md: Minidocker) -> Minidocker:
    md.start("--name", "web", "-p", "18080:80", "sleep", "1000")
    assert findings(md) == []
    return md


def test_nothing_is_wrong(web: Minidocker) -> None:
    done = web("network", "doctor", check=False)
    if not findings(web, host=True):
        assert (done.returncode, done.stdout) == (0, "nothing is wrong\n")


@pytest.mark.parametrize(
    ("broken", "found", "mend"),
    [
        ("nft flush ruleset", "our nftables rules are gone: somebody flushed the ruleset", "minidocker network reload"),
        ("sysctl -qw net.ipv4.conf.lan0.forwarding=0", "net/ipv4/conf/lan0/forwarding is 0", "minidocker network reload"),
        ("sysctl -qw net.ipv4.conf.br0.forwarding=0", "net/ipv4/conf/br0/forwarding is 0", "minidocker network reload"),
        ("ip link set br0 down", "its bridge `br0` is down", "ip link set br0 up"),
    ],
)
def test_what_is_broken_is_named_with_what_mends_it(web: Minidocker, broken: str, found: str, mend: str) -> None:
    pretend.sh(broken)
    assert [(one["network"], one["found"], one["mend"]) for one in findings(web)] == [("br0", found, mend)]
    if mend.startswith("minidocker"):
        web(*mend.split()[1:])
    else:
        pretend.sh(mend)
    assert findings(web) == []


def test_a_bridge_that_is_gone(web: Minidocker) -> None:
    pretend.sh("ip link del br0")
    [one] = findings(web, "br0")
    assert one["found"] == "its bridge `br0` is not there"
    assert one["mend"] == "the next `minidocker run` in it makes it; running containers have to be restarted"
    web("restart", "-t", "0", "web")
    assert findings(web) == []


def test_a_process_that_binds_a_published_port_later(web: Minidocker) -> None:
    comm = Path("/proc/self/comm").read_text().strip()
    with socket.socket() as late:
        late.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        late.bind(("0.0.0.0", 18080))
        late.listen()
        [one] = findings(web)
    assert one["found"] == f"port 0.0.0.0:18080->80/tcp of container `web` is bound by process {os.getpid()} ({comm}), too"
    assert one["mend"] == "stop it, or have it listen elsewhere"
    assert findings(web) == []


def test_a_vpn_that_came_up_over_our_subnet(web: Minidocker) -> None:
    pretend.sh("ip route add 172.17.0.0/25 via 192.0.2.2 table 100")
    try:
        [one] = findings(web)
        assert one["found"] == "its subnet 172.17.0.0/24 overlaps route 172.17.0.0/25 via 192.0.2.2 dev lan0 table 100"
    finally:
        pretend.sh("ip route flush table 100")
    assert findings(web) == []


@contextmanager
def legacy() -> Iterator[None]:
    pretend.sh("iptables-legacy -A FORWARD -j DROP")
    try:
        yield
    finally:
        pretend.sh("iptables-legacy -D FORWARD -j DROP")


def test_rules_of_the_other_iptables(web: Minidocker) -> None:
    assert shutil.which("iptables-legacy"), "tests/run installs docker.io, which brings it"
    with legacy():
        [one] = findings(web, host=True)
    assert (one["network"], one["found"]) == ("", "iptables-legacy has rules in filter")
    assert one["mend"].startswith("iptables-legacy-save shows them")


def test_a_foreign_drop(web: Minidocker) -> None:
    pretend.sh("nft add table inet mine && nft 'add chain inet mine through { type filter hook forward priority 0; policy drop; }'")
    try:
        [one] = findings(web)
        assert one["found"] == "inet mine through of another firewall drops what containers of `br0` send"
        pretend.sh(one["mend"])
        assert findings(web) == []
    finally:
        pretend.sh("nft delete table inet mine")


def test_only_the_network_that_was_asked_for(web: Minidocker) -> None:
    web("network", "create", "--subnet", "10.77.0.0/24", "back")
    pretend.sh("ip link set back down")
    assert findings(web, "br0") == []
    [one] = findings(web, "back")
    assert one["network"] == "back"
    text = web("network", "doctor", check=False).stdout
    assert text.splitlines()[-3:] == [
        "network `back`: its bridge `back` is down", "  why:  its containers reach nothing, each other neither",
        "  mend: ip link set back up"]  # fmt: skip
    assert "no such network: front" in web.refused("network", "doctor", "front", code=1)
