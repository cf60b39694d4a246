"""network doctor: each case is broken for real, is then the one finding, is mended by what was said, and is gone."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from minidocker.kernel import libc
from tests import pretend
from tests.e2e.support import Minidocker, poll

MNT_DETACH = 2

# A server that listens at port 80 at once, on an address or on all.
LISTEN = "import socket, sys, time; s = socket.create_server((sys.argv[1], 80)); print('ready', flush=True); time.sleep(1000)"


def findings(md: Minidocker, *words: object, host: bool = False) -> list[dict[str, str]]:
    """What the doctor finds with networks, or with the host; the exit code says whether there is anything. (Once it was asked for, the
    kernel lists a table of the other iptables for as long as the network namespace lives, which here is that of the whole suite.)"""
    done = md("network", "doctor", "--format", "json", *words, check=False)
    found: list[dict[str, str]] = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (1 if found else 0, "")
    return [one for one in found if (one["network"] == "") == host and one["cause"] != "legacy-iptables"]


@pytest.fixture(autouse=True)
def no_resolver(tmp_path: Path) -> Iterator[Path]:
    """The machine's own resolvers are out of reach here; each test names those that it has."""
    path = tmp_path / "resolv.conf"
    path.write_text("")
    libc.mount(os.fsencode(path), b"/etc/resolv.conf", None, pretend.MS_BIND, None)
    yield path
    libc.umount2(b"/etc/resolv.conf", MNT_DETACH)


@pytest.fixture
def web(world: None, md: Minidocker) -> Minidocker:
    serve(md, "web", "0.0.0.0", "-p", "18080:80")
    assert findings(md) == [] == findings(md, host=True)
    return md


def serve(md: Minidocker, name: str, address: str, *words: object) -> None:
    md.start("--name", name, *words, "python3", "-c", LISTEN, address)
    poll(lambda: "ready" in md("logs", name).stdout, f"{name} to listen")


def inside(name: str, command: str) -> str:
    return pretend.sh(f"ip netns exec {name} {command}")


def test_nothing_is_wrong(web: Minidocker) -> None:
    done = web("network", "doctor", check=False)
    if not json.loads(web("network", "doctor", "--format", "json", check=False).stdout):
        assert (done.returncode, done.stdout) == (0, "nothing is wrong\n")


BROKEN = [
    ("nft flush ruleset", "rules-gone", "our nftables rules are gone: somebody flushed the ruleset", "minidocker network reload"),
    ("sysctl -qw net.ipv4.conf.lan0.forwarding=0", "forwarding-off", "net/ipv4/conf/lan0/forwarding is 0", "minidocker network reload"),
    ("sysctl -qw net.ipv4.conf.br0.forwarding=0", "forwarding-off", "net/ipv4/conf/br0/forwarding is 0", "minidocker network reload"),
    ("ip link set br0 down", "bridge-down", "bridge `br0` is down", "ip link set br0 up"),
    ("ip netns exec web ip route del default", "no-route", "container `web` has no route to the world",
     "ip netns exec web ip route add default via 172.17.0.1 dev eth0"),
    ("ip netns exec web ip route replace default via 172.17.0.99 dev eth0", "wrong-gateway",
     "the default route of container `web` goes by 172.17.0.99, which is not the network's gateway (172.17.0.1)",
     "ip netns exec web ip route replace default via 172.17.0.1 dev eth0"),
    ("ip netns exec web ip addr replace 10.99.0.1/32 dev eth0 && ip netns exec web ip addr del 172.17.0.2/24 dev eth0", "address-missing",
     "`eth0` of container `web` has lost its address 172.17.0.2/24", "ip netns exec web ip addr add 172.17.0.2/24 dev eth0"),
    ("ip link set {link} mtu 1400", "mtu", "packets of 1500 bytes are lost: `{link}` of this host takes 1400, and nobody tells the sender",
     "ip link set {link} mtu 1500"),
    ("ip link set {link} down", "link-down", "`{link}` of this host is down", "ip link set {link} up"),
    ("ip link set {link} nomaster", "link-gone", "`{link}`, the host's end of container `web`, is not in bridge `br0`",
     "ip link set {link} master br0"),
    ("ip netns exec web ip link set eth0 address 02:00:00:00:00:01", "mac-changed",
     "`eth0` of container `web` has the hardware address 02:00:00:00:00:01, and was leased 02:42:ac:11:00:02",
     "ip netns exec web ip link set eth0 address 02:42:ac:11:00:02"),
]  # fmt: skip


@pytest.mark.parametrize(("broken", "cause", "found", "mend"), BROKEN, ids=[f"{case[1]} {case[0].split()[-1]}" for case in BROKEN])
def test_what_is_broken_is_named_with_what_mends_it(web: Minidocker, broken: str, cause: str, found: str, mend: str) -> None:
    """By hand, as it is said; and by --fix, where it is not the user's to decide."""
    [link] = [link["ifname"] for link in pretend.ip("link") if link.get("master") == "br0"]
    broken, found, mend = (text.format(link=link) for text in (broken, found, mend))
    for fix in (False, True)[: 1 if cause in ("link-gone", "mac-changed") else 2]:
        pretend.sh(broken)
        seen = [(one["network"], one["cause"], one["found"], one["mend"]) for one in findings(web)]
        assert ("br0", cause, found, mend) in seen and len({one[1] for one in seen} - {"no-route"}) <= 1
        if fix:
            done = web("network", "doctor", "--fix", check=False)
            assert f"mended: network `br0`: {found}\n" in done.stdout and done.stderr == ""
        elif mend.startswith("minidocker"):
            web(*mend.split()[1:])
        else:
            pretend.sh(mend)
            if cause == "address-missing":  # its routes went with it
                pretend.sh("ip netns exec web ip route replace default via 172.17.0.1 dev eth0")
        assert findings(web) == [] == findings(web, host=True)


def test_a_rule_or_an_element_that_somebody_took_away(web: Minidocker) -> None:
    table = f"inet minidocker_{web.tag}"
    for broken, found, cause in (
        (f"flush chain {table} postrouting", "chain postrouting has 0 rules, and should have 5", "no-masquerade"),
        (f"delete element {table} subnets {{ 172.17.0.0/24 }}", "set subnets lacks 172.17.0.0/24", "no-masquerade"),
        (f"delete element {table} ports {{ tcp . 18080 }}", "set ports lacks tcp . 18080 . 172.17.0.2 . 80", "rules-changed"),
        (f"add element {table} ports {{ tcp . 99 : 172.17.0.2 . 9 }}", "set ports has a stray tcp . 99 . 172.17.0.2 . 9", "rules-changed"),
        (f"add chain {table} theirs", "chain theirs is not of ours", "rules-changed"),
    ):
        pretend.sh(f"nft '{broken}'")
        [one] = findings(web, host=True)
        assert (one["found"], one["cause"]) == (f"{table} is not what it should be: {found}", cause)
        web(*one["mend"].split()[1:])
        assert findings(web, host=True) == [] == findings(web)


def test_a_bridge_that_is_gone(web: Minidocker) -> None:
    pretend.sh("ip link del br0")
    one = next(one for one in findings(web, "br0") if one["cause"] == "bridge-gone")
    assert one["found"] == "its bridge `br0` is not there"
    assert one["mend"] == "the next `minidocker run` in it makes it; running containers have to be restarted"
    web("restart", "-t", "0", "web")
    poll(lambda: findings(web) == [], "all to be well")


@pytest.mark.parametrize("address", ["127.0.0.1", None], ids=["loopback alone", "nowhere"])
def test_a_published_port_at_which_nobody_listens(world: None, md: Minidocker, address: str | None) -> None:
    if address:
        serve(md, "web", address, "-p", "18080:80")
    else:
        md.start("--name", "web", "-p", "18080:80", "sleep", "1000")
    [one] = findings(md)
    assert (one["network"], one["cause"]) == ("br0", "not-listening")
    assert one["found"] == "nobody listens at tcp port 80 of 172.17.0.2: it answers with a reset"


def test_two_that_have_one_address(web: Minidocker) -> None:
    web.start("--name", "other", "sleep", "1000")
    inside("other", "ip addr add 172.17.0.2/24 dev eth0")
    [one] = findings(web)
    assert (one["cause"], one["found"]) == ("duplicate", "172.17.0.2 is had by container `web` and by `other`")
    web("restart", "-t", "0", "other")
    assert findings(web) == []


def test_what_belongs_to_nobody(web: Minidocker) -> None:
    alias = f"minidocker:{web.tag}:{'0' * 64}"
    pretend.sh(f"ip link add left0 type bridge && ip link set left0 alias {alias}")
    [one] = findings(web, host=True)
    assert (one["cause"], one["mend"]) == ("leaked", "ip link del left0")
    web("network", "doctor", "--fix", check=False)
    assert "left0" not in [link["ifname"] for link in pretend.ip("link")] and findings(web, host=True) == []
    [parent] = {path for depth in ("", "*/") for path in Path("/sys/fs/cgroup").glob(f"{depth}minidocker-{web.tag}")
                if "pids" in str(path) or depth == ""}  # fmt: skip
    (parent / ("0" * 64)).mkdir()
    [one] = findings(web, host=True)
    assert (one["cause"], one["mend"]) == ("leaked", f"rmdir {parent}/{'0' * 64}")
    web("network", "doctor", "--fix", check=False)
    assert not (parent / ("0" * 64)).exists() and findings(web, host=True) == []


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
        [one] = [one for one in json.loads(web("network", "doctor", "--format", "json", check=False).stdout) if one["network"] == ""]
    assert one["found"] == "iptables-legacy has rules in filter"
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


def test_a_resolver_that_is_dead(web: Minidocker, no_resolver: Path) -> None:
    no_resolver.write_text("nameserver 192.0.2.2\nnameserver 127.0.0.53\n")
    assert [one["found"] for one in findings(web, host=True)] == [
        f"the resolver {server} of this host does not answer" for server in ("192.0.2.2", "127.0.0.53")]  # fmt: skip
    answering = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('192.0.2.2', 53)); print(1, flush=True)\n" \
        "while True:\n q, a = s.recvfrom(512); s.sendto(q[:2] + b'\\x80\\x05' + q[4:], a)"  # fmt: skip
    words = ["ip", "netns", "exec", "near", "python3", "-c", answering]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None and server.stdout.readline()
        assert [one["cause"] for one in findings(web, host=True)] == ["resolver-dead"], "one of them answers now"
        server.kill()


def test_a_router_that_does_not_answer(web: Minidocker) -> None:
    pretend.sh("ip route add default via 192.0.2.77 metric 500; ping -c 1 -W 1 -I lan0 192.0.2.77; true", check=False)
    try:
        poll(lambda: [one["cause"] for one in findings(web, host=True)] == ["arp-unanswered"], "the kernel to give up asking")
        [one] = findings(web, host=True)
        assert one["found"].startswith("nobody answers for 192.0.2.77 on `lan0` of this host")
    finally:
        pretend.sh("ip route del default via 192.0.2.77")
    assert findings(web, host=True) == []


def test_a_second_way_in_that_is_not_believed(web: Minidocker) -> None:
    pretend.sh("ip route add default via 198.51.100.2 dev lan1 metric 500; sysctl -qw net.ipv4.conf.lan1.rp_filter=1")
    try:
        [one] = findings(web, host=True)
        assert (one["cause"], one["mend"]) == ("rp-filter", "sysctl -w net/ipv4/conf/lan1/rp_filter=2")
        pretend.sh(one["mend"].replace("-w", "-qw"))
        assert findings(web, host=True) == []
    finally:
        pretend.sh("ip route del default via 198.51.100.2; sysctl -qw net.ipv4.conf.lan1.rp_filter=0")


def test_a_table_of_flows_that_is_nearly_full(web: Minidocker, tmp_path: Path) -> None:
    """The limit is the whole machine's, so it is the count that is made up here, over the kernel's own file."""
    most = int(Path("/proc/sys/net/netfilter/nf_conntrack_max").read_text())
    count = tmp_path / "count"
    count.write_text(f"{most - 1}\n")
    libc.mount(os.fsencode(count), b"/proc/sys/net/netfilter/nf_conntrack_count", None, pretend.MS_BIND, None)
    try:
        [one] = findings(web, host=True)
        assert (one["cause"], one["mend"]) == ("conntrack-full", f"sysctl -w net.netfilter.nf_conntrack_max={most * 2}")
    finally:
        libc.umount2(b"/proc/sys/net/netfilter/nf_conntrack_count", MNT_DETACH)
    assert findings(web, host=True) == []


def test_a_bridge_that_is_nearly_full(web: Minidocker) -> None:
    made = "\n".join(f"link add x{i} master br0 type veth peer name y{i}\nlink set y{i} master br0" for i in range(461))
    subprocess.run(["ip", "-batch", "-"], input=made, text=True, check=True)
    try:
        [one] = [one for one in findings(web) if one["cause"] == "bridge-full"]
        assert one["found"] == "its bridge `br0` has 923 ports, and can have 1023"
    finally:
        subprocess.run(["ip", "-batch", "-"], input="\n".join(f"link del x{i}" for i in range(461)), text=True, check=True)
    assert findings(web) == []


def test_only_the_network_that_was_asked_for(web: Minidocker) -> None:
    web("network", "create", "--subnet", "10.77.0.0/24", "back")
    pretend.sh("ip link set back down")
    assert findings(web, "br0") == []
    [one] = findings(web, "back")
    assert one["network"] == "back"
    text = web("network", "doctor", check=False).stdout
    assert text.splitlines()[-3:] == [
        "network `back`: bridge `back` is down", "  why:  its containers reach nothing, each other neither",
        "  mend: ip link set back up"]  # fmt: skip
    assert "no such network: front" in web.refused("network", "doctor", "front", code=1)


def test_the_host_s_own_doctor(md: Minidocker) -> None:
    done = md("doctor", check=False)
    checks = {check["name"]: check for check in json.loads(md("doctor", "--format", "json", check=False).stdout)}
    assert done.returncode == 0, "this host can run containers: the other tests do"
    for name in ("kernel", "namespaces", "user namespaces", "overlay", "seccomp", "cgroups", "controllers", "nftables"):
        assert checks[name]["state"] == "good" and f"✓ {name}: {checks[name]['found']}" in done.stdout
    assert checks["kernel"]["found"] == os.uname().release


def test_the_host_s_own_doctor_where_something_is_missing(md: Minidocker, tmp_path: Path) -> None:
    """/usr/sbin/nft covered by something that is no program."""
    libc.mount(b"/dev/null", b"/usr/sbin/nft", None, pretend.MS_BIND, None)
    try:
        done = md("doctor", check=False)
    finally:
        libc.umount2(b"/usr/sbin/nft", MNT_DETACH)
    assert done.returncode == 1
    assert "✗ nftables: nft is not installed\n    why:  bridge networks are guarded" in done.stdout
    assert "mend: apt-get install" in done.stdout
