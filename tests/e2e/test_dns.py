"""Names by DNS: every kind of resolver finds what is in its networks, nothing else, and at once; whoever answers comes and goes unseen."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dnslib
import pytest

from minidocker.kernel import libc
from tests import pretend
from tests.e2e.machine import is_alive
from tests.e2e.support import Minidocker, poll
from tests.e2e.test_names import hosts, monitor_of
from tests.e2e.world import FAR, HOST, NEAR, PORT, serve
from tests.kernel.test_dnsserver import NOERROR, NXDOMAIN, SERVFAIL, Client, Upstream, inside, query, record

MNT_DETACH = 2
LIMIT_KB = 6 * 1024  # a server's PSS
BR0 = "172.17.0.1"
OUTSIDE, OUTSIDE_IP = "www.example.org", "203.0.113.9"

# Go's own resolver, without libc's: each argument is a name or, with digits and dots alone, an address.
LOOKUP = """
package main

import (
	"fmt"
	"net"
	"os"
	"sort"
	"strings"
)

func main() {
	for _, word := range os.Args[1:] {
		look := net.LookupHost
		if net.ParseIP(word) != nil {
			look = net.LookupAddr
		}
		found, err := look(word)
		if e, ok := err.(*net.DNSError); ok {
			fmt.Println("not found:", e.IsNotFound)
			continue
		}
		sort.Strings(found)
		fmt.Println(strings.Join(found, " "))
	}
}
"""

PYTHON = """
import socket, sys
for word in sys.argv[1:]:
    if word.replace(".", "").isdigit() and word.count(".") == 3:
        print(socket.gethostbyaddr(word)[0])
    else:
        try:
            print(*sorted({found[4][0] for found in socket.getaddrinfo(word, None)}))
        except socket.gaierror as error:
            print("not found:", error.errno == socket.EAI_NONAME)
"""


@pytest.fixture(scope="session")
def lookup(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Go program above, static."""
    place = tmp_path_factory.mktemp("lookup")
    (place / "lookup.go").write_text(LOOKUP)
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-trimpath"}
    subprocess.run(["go", "build", "-o", "lookup", "lookup.go"], cwd=place, env=environment, check=True, timeout=180)
    return place / "lookup"


@pytest.fixture(autouse=True)
def resolv_conf(tmp_path: Path) -> Iterator[Path]:
    """What this host has for /etc/resolv.conf during a test: nothing, unless the test writes it."""
    file = tmp_path / "resolv.conf"
    file.touch()
    libc.mount(os.fsencode(file), b"/etc/resolv.conf", None, pretend.MS_BIND, None)
    try:
        yield file
    finally:
        libc.umount2(b"/etc/resolv.conf", MNT_DETACH)


@contextmanager
def upstream(address: str, place: str = "") -> Iterator[Upstream]:
    """A resolver that knows one address, whatever it is asked for."""
    with ExitStack() as stack:
        if place:
            stack.enter_context(inside(place))
        made = Upstream(address, lambda packet: [record(packet, OUTSIDE_IP)])
    try:
        yield made
    finally:
        made.close()


@contextmanager
def port_53_taken() -> Iterator[None]:
    """This process has it, on every address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.create_server(("0.0.0.0", 53)):
        udp.bind(("0.0.0.0", 53))
        yield


def reverse(ip: str) -> str:
    return ".".join(reversed(ip.split("."))) + ".in-addr.arpa"


def servers(md: Minidocker) -> dict[int, str]:
    """pid -> network of each name server of this root."""
    found = {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if b"serve" in words and b"resident" not in words and os.fsencode(md.root) in words and is_alive(pid):
            assert b"minidocker.network.dnsserver" in words
            found[pid] = words[words.index(b"serve") + 3].decode()
    return found


def pss(pid: int) -> int:
    """kB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def subnets(md: Minidocker, *names: str) -> None:
    """Networks NAME on 10.77.N.0/24, N from 0 on."""
    for number, name in enumerate(names):
        md("network", "create", "--subnet", f"10.77.{number}.0/24", name)


def test_every_kind_of_resolver_finds_a_neighbour_by_every_name(
    md: Minidocker, server: Path, busybox: Path, lookup: Path, tmp_path: Path
) -> None:
    """The asker's hosts file is empty: what it knows it was told by DNS."""
    (tmp_path / "hosts").touch()
    ip = serve(md, server, "alice", "--network-alias", "web", "--hostname", "box")["IPAddress"]
    names = ("alice", "web", "box", "Alice.BR0", md.inspect("alice")["Id"][:12])
    md.start("--name", "asker", "-v", f"{tmp_path}/hosts:/etc/hosts:ro", "-v", f"{lookup.parent}:/lookup:ro", "sleep", "1000")
    assert hosts(md, "asker") == {}

    def said(*words: object) -> list[str]:
        return str(md("exec", "asker", *words).stdout).splitlines()

    assert said("/lookup/lookup", *names, "nobody", ip) == [ip] * len(names) + ["not found: true", "alice."]
    assert said("python3", "-Ic", PYTHON, *names, "nobody", ip) == [ip] * len(names) + ["not found: True", "alice"]
    assert {line.split()[0] for line in said("getent", "ahosts", *names)} == {ip}
    assert said("getent", "hosts", ip)[0].split() == [ip, "alice"]
    assert md("exec", "asker", "getent", "hosts", "nobody", check=False).returncode == 2
    raw = Client("asker", BR0)
    for tcp in (False, True):
        for name in names:
            assert raw.addresses(name, tcp=tcp) == {ip}
        assert raw.addresses(reverse(ip), "PTR", tcp=tcp) == {"alice."}
        assert raw.addresses("nobody", tcp=tcp) == NXDOMAIN

    md.start("--name", "small", "--rootfs", busybox, "-v", f"{tmp_path}/hosts:/etc/hosts:ro", "sleep", "1000")
    for name in names:
        assert f"Address: {ip}" in md("exec", "small", "nslookup", name).stdout
        assert md("exec", "small", "wget", "-qO-", f"http://{name}:{PORT}").stdout == "alice\n"
    assert "name = alice" in md("exec", "small", "nslookup", ip).stdout
    assert "NXDOMAIN" in md("exec", "small", "nslookup", "nobody", check=False).stdout


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_a_running_container_sees_at_once_who_comes_and_who_goes(md: Minidocker, tcp: bool) -> None:
    md.start("--name", "asker", "sleep", "1000")
    asker = Client("asker", BR0)
    for number in range(3, 6):
        ip = f"172.17.0.{number}"
        assert asker.addresses("alice", tcp=tcp) == asker.addresses("web", tcp=tcp) == NXDOMAIN
        md.start("--name", "alice", "--network-alias", "web", "sleep", "1000")
        assert asker.addresses("alice", tcp=tcp) == asker.addresses("web", tcp=tcp) == {ip}
        assert asker.addresses(reverse(ip), "PTR", tcp=tcp) == {"alice."}
        assert hosts(md, "asker")["alice"] == ip
        md("rm", "-f", "alice")
        assert asker.addresses("alice", tcp=tcp) == asker.addresses("web", tcp=tcp) == NXDOMAIN
        assert asker.addresses(reverse(ip), "PTR", tcp=tcp) == NXDOMAIN
        assert "alice" not in hosts(md, "asker")


def test_who_is_in_two_networks_knows_both_and_nobody_else_does(md: Minidocker) -> None:
    subnets(md, "front", "back")
    md.start("--name", "one", "--net", "front", "sleep", "1000")
    md.start("--name", "both", "--net", "front", "--net", "back:alias=db", "sleep", "1000")
    md.start("--name", "two", "--net", "back", "sleep", "1000")
    both, one, two = Client("both", "10.77.0.1"), Client("one", "10.77.0.1"), Client("two", "10.77.1.1")
    for tcp in (False, True):
        assert both.addresses("one", tcp=tcp) == {"10.77.0.2"}
        assert both.addresses("two", tcp=tcp) == both.addresses("two.back", tcp=tcp) == {"10.77.1.3"}
        assert both.addresses(reverse("10.77.1.3"), "PTR", tcp=tcp) == {"two."}
        assert one.addresses("both", tcp=tcp) == {"10.77.0.3"}
        assert two.addresses("both", tcp=tcp) == two.addresses("db", tcp=tcp) == {"10.77.1.2"}
        for asker, name, ip in ((one, "two", "10.77.1.3"), (two, "one", "10.77.0.2")):
            assert asker.addresses(name, tcp=tcp) == asker.addresses(reverse(ip), "PTR", tcp=tcp) == NXDOMAIN
        assert one.addresses("db", tcp=tcp) == NXDOMAIN, "an alias in one network is none in the other"
    known = {name: set(hosts(md, name)) for name in ("one", "both", "two")}
    assert {"one", "both", "two"} <= known["both"]
    assert "two" not in known["one"] and "one" not in known["two"]
    assert {"both"} <= known["one"] & known["two"]
    for name, found in (("one", True), ("two", True), ("nobody", False)):
        assert (md("exec", "both", "getent", "hosts", name, check=False).returncode == 0) == found


def test_connect_and_disconnect_change_at_once_what_resolves(md: Minidocker) -> None:
    subnets(md, "front", "back")
    md.start("--name", "one", "--net", "front", "sleep", "1000")
    md.start("--name", "mover", "--net", "front", "sleep", "1000")
    md.start("--name", "two", "--net", "back", "sleep", "1000")
    mover, one, two = Client("mover", "10.77.0.1"), Client("one", "10.77.0.1"), Client("two", "10.77.1.1")
    for _ in range(3):
        assert mover.addresses("two") == two.addresses("mover") == two.addresses("m") == NXDOMAIN
        md("network", "connect", "--alias", "m", "--ip", "10.77.1.9", "back", "mover")
        assert mover.addresses("two") == {"10.77.1.2"}
        assert two.addresses("mover") == two.addresses("m") == {"10.77.1.9"}
        assert two.addresses(reverse("10.77.1.9"), "PTR") == {"mover."}
        assert hosts(md, "two")["m"] == "10.77.1.9"
        assert md("exec", "mover", "getent", "hosts", "two").stdout.split()[:2] == ["10.77.1.2", "two"]
        assert one.addresses("two") == NXDOMAIN
        md("network", "disconnect", "back", "mover")
        assert "m" not in hosts(md, "two")
    assert mover.addresses("two") == two.addresses("mover") == NXDOMAIN
    assert md("exec", "mover", "getent", "hosts", "two", check=False).returncode == 2


def test_resolv_conf_follows_the_networks_unless_the_container_wrote_its_own(md: Minidocker) -> None:
    """In place: a program that has the file open, or bound elsewhere, sees it."""
    subnets(md, "front", "back")
    for name in ("plain", "own"):
        md.start("--name", name, "--net", "front", "sleep", "1000")
    md.start("--name", "none", "--net", "none", "sleep", "1000")

    def read(name: str) -> str:
        return str(md("exec", name, "cat", "/etc/resolv.conf").stdout)

    file = {name: md.root / "containers" / md.inspect(name)["Id"] / "resolv.conf" for name in ("plain", "own", "none")}
    inodes = {name: path.stat().st_ino for name, path in file.items()}
    assert "nameserver 10.77.0.1\n" in read("plain") and read("none") == ""
    md("exec", "own", "sh", "-c", "echo nameserver 192.0.2.99 > /etc/resolv.conf")
    for name in ("plain", "own", "none"):
        md("network", "connect", "--gw-priority", "7", "back", name)
    assert "nameserver 10.77.1.1\n" in read("plain") and "10.77.0.1" not in read("plain")
    assert read("own") == "nameserver 192.0.2.99\n"
    assert "nameserver 10.77.1.1\n" in read("none")
    assert md("exec", "none", "getent", "hosts", "plain").stdout.split()[:2] == ["10.77.1.2", "plain"]
    for name in ("plain", "own", "none"):
        md("network", "disconnect", "back", name)
    assert "nameserver 10.77.0.1\n" in read("plain") and "10.77.1.1" not in read("plain")
    assert (read("own"), read("none")) == ("nameserver 192.0.2.99\n", "")
    assert {name: path.stat().st_ino for name, path in file.items()} == inodes


def test_who_has_left_a_network_knows_nobody_there_any_more(md: Minidocker) -> None:
    """By its hosts file neither, whichever network was the first."""
    subnets(md, "front", "back")
    md.start("--name", "one", "--net", "front", "sleep", "1000")
    md.start("--name", "two", "--net", "back", "sleep", "1000")
    md.start("--name", "mover", "--net", "front", "sleep", "1000")
    md("network", "connect", "back", "mover")
    md("network", "disconnect", "front", "mover")
    assert Client("mover", "10.77.1.1").addresses("one") == NXDOMAIN
    assert md("exec", "mover", "getent", "hosts", "two").stdout.split()[:2] == ["10.77.1.2", "two"]
    assert md("exec", "mover", "getent", "hosts", "one", check=False).returncode == 2
    md.start("--name", "late", "--net", "front", "sleep", "1000")
    assert md("exec", "mover", "getent", "hosts", "late", check=False).returncode == 2


def test_the_host_s_stub_answers_in_containers(md: Minidocker, busybox: Path, lookup: Path, resolv_conf: Path) -> None:
    """As with systemd-resolved: 127.0.0.53 is no address that a container reaches, but its network's DNS does."""
    with upstream("127.0.0.53") as stub:
        resolv_conf.write_text("nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n")
        text = f"nameserver {BR0}\nsearch lan\noptions edns0 trust-ad\noptions ndots:0\n"
        assert md.run("--rm", "cat", "/etc/resolv.conf").stdout == text
        assert md.run("--rm", "getent", "hosts", OUTSIDE).stdout.split() == [OUTSIDE_IP, OUTSIDE]
        assert md.run("--rm", lookup, OUTSIDE, "alice").stdout.splitlines() == [OUTSIDE_IP, OUTSIDE_IP]
        assert f"Address: {OUTSIDE_IP}" in md.run("--rm", "--rootfs", busybox, "nslookup", OUTSIDE).stdout
        md.start("--name", "asker", "sleep", "1000")
        asker = Client("asker", BR0)
        assert asker.addresses(OUTSIDE) == asker.addresses(OUTSIDE, tcp=True) == {OUTSIDE_IP}
        assert {by_tcp for _, _, by_tcp in stub.asked} == {True, False}
        asked = len(stub.asked)
        assert asker.addresses("asker") == {md.ps()[0]["IP"]}
        assert len(stub.asked) == asked, "what is ours is not asked of others"
        resolv_conf.write_text("")
        assert asker.addresses(OUTSIDE) == NXDOMAIN
        resolv_conf.write_text("nameserver 127.0.0.53\n")
        assert asker.addresses(OUTSIDE) == {OUTSIDE_IP}, "another resolver of the host's counts from the next question on"
    assert asker.addresses(OUTSIDE) == SERVFAIL, "nobody is there"


def test_no_resolver_is_invented(md: Minidocker, busybox: Path, lookup: Path, world: None) -> None:
    """The host has none: what is not ours is not there, said at once; and nobody is asked."""
    md.start("--name", "alice", "sleep", "1000")
    with on_the_wire("lan0") as frames:
        assert md.run("--rm", "cat", "/etc/resolv.conf").stdout == f"nameserver {BR0}\noptions ndots:0\n"
        md.start("--name", "asker", "sleep", "1000")
        asker = Client("asker", BR0)
        for tcp in (False, True):
            assert asker.addresses("alice", tcp=tcp) == {"172.17.0.2"}
            for name in (OUTSIDE, "nobody", reverse("203.0.113.9")):
                assert asker.ask(name, "PTR" if "arpa" in name else "A", tcp=tcp).header.rcode == NXDOMAIN
        assert md("exec", "asker", "getent", "hosts", OUTSIDE, check=False).returncode == 2
        assert md.run("--rm", lookup, OUTSIDE).stdout == "not found: true\n"
        assert "NXDOMAIN" in md.run("--rm", "--rootfs", busybox, "nslookup", OUTSIDE, check=False).stdout
    assert frames == []


@contextmanager
def on_the_wire(link: str) -> Iterator[list[bytes]]:
    """The IPv4 packets that leave by `link` meanwhile, there when it is over."""
    frames: list[bytes] = []
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0003)) as sniffer:
        sniffer.bind((link, 0x0003))
        yield frames
        while select.select([sniffer], [], [], 0.2)[0]:
            data, (_, protocol, kind, *_) = sniffer.recvfrom(65535)
            if protocol == 0x0800 and kind == socket.PACKET_OUTGOING:
                frames.append(data)


def test_from_an_internal_network_no_question_leaves(world: None, md: Minidocker, resolv_conf: Path, lookup: Path, busybox: Path) -> None:
    resolv_conf.write_text(f"nameserver {NEAR}\n")
    md("network", "create", "--internal", "--subnet", "10.77.0.0/24", "back")
    with upstream(NEAR, "near") as near, on_the_wire("lan0") as frames:
        md.start("--name", "alice", "--net", "back", "sleep", "1000")
        md.start("--name", "asker", "--net", "back", "sleep", "1000")
        asker = Client("asker", "10.77.0.1")
        for tcp in (False, True):
            assert asker.addresses("alice", tcp=tcp) == {"10.77.0.2"}
            assert asker.addresses(OUTSIDE, tcp=tcp) == asker.addresses(OUTSIDE, "AAAA", tcp=tcp) == NXDOMAIN
            assert asker.addresses("9.113.0.203.in-addr.arpa", "PTR", tcp=tcp) == NXDOMAIN
        assert md("exec", "asker", "getent", "hosts", "alice").stdout.split()[:2] == ["10.77.0.2", "alice"]
        assert md("exec", "asker", "getent", "hosts", OUTSIDE, check=False).returncode == 2
        assert md.run("--rm", "--net", "back", lookup, OUTSIDE, "alice").stdout.splitlines() == ["not found: true", "10.77.0.2"]
        assert "NXDOMAIN" in md.run("--rm", "--net", "back", "--rootfs", busybox, "nslookup", OUTSIDE, check=False).stdout
        with inside("asker"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as past, pytest.raises(OSError, match="unreachable"):
            past.sendto(query(OUTSIDE), (NEAR, 53))
        pretend.sh("ip -n asker route add default via 10.77.0.1")  # who has the right to can try
        with inside("asker"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as past:
            past.settimeout(0.5)
            for there in (NEAR, HOST, FAR):
                past.sendto(query(OUTSIDE), (there, 53))
            with pytest.raises(TimeoutError):
                past.recv(512)
    assert (near.asked, frames) == ([], [])


def test_a_name_without_ipv6_has_none_and_is_there(md: Minidocker, busybox: Path) -> None:
    assert md("network", "create", "--ipv6", "--subnet", "10.77.1.0/24", "six", check=False).returncode == 0  # it may speak of accept_ra
    md.start("--name", "four", "sleep", "1000")
    md.start("--name", "both", "--net", "six", "sleep", "1000")
    place = md.inspect("both")["NetworkSettings"]["Networks"]["six"]
    four, both = Client("four", BR0), Client("both", "10.77.1.1")
    for tcp in (False, True):
        answer = four.ask("four", "AAAA", tcp=tcp)
        assert (answer.header.rcode, answer.rr, answer.header.aa) == (NOERROR, [], 1)
        assert four.addresses("nobody", "AAAA", tcp=tcp) == NXDOMAIN
        assert both.addresses("both", "AAAA", tcp=tcp) == {place["GlobalIPv6Address"]}
        assert both.addresses("both", tcp=tcp) == {"10.77.1.2"}
    assert "1 packets received" in md.run("--rm", "--rootfs", busybox, "--cap-add", "NET_RAW", "ping", "-c", "1", "four").stdout
    assert set(md("exec", "both", "getent", "ahosts", "both.six").stdout.split()) >= {place["GlobalIPv6Address"], "10.77.1.2"}


# --- port 53, and firewalls -------------------------------------------------------------------------------------------------------------


def test_where_port_53_is_somebody_elses_dns_works_all_the_same(md: Minidocker, busybox: Path) -> None:
    """Questions are led to another port; answers come from where they were asked."""
    with port_53_taken():
        for name in ("alice", "asker"):
            md.start("--name", name, "sleep", "1000")
        asker = Client("asker", BR0)
        for tcp in (False, True):
            assert asker.addresses("alice", tcp=tcp) == {"172.17.0.2"}
            assert asker.addresses("nobody", tcp=tcp) == NXDOMAIN
        assert "172.17.0.2" in md.run("--rm", "--rootfs", busybox, "nslookup", "alice").stdout
        before = pretend.sh("nft list ruleset")
        assert 'elements = { "br0" . 172.17.0.1 : ' in before
        pretend.sh("nft flush ruleset")
        md("network", "reload")
        assert pretend.sh("nft list ruleset") == before
        for tcp in (False, True):
            assert asker.addresses("alice", tcp=tcp) == {"172.17.0.2"}
        pretend.sh("nft flush ruleset")
        md.run("--rm", "true")
        assert asker.addresses("alice") == {"172.17.0.2"}
        assert pretend.sh("nft list ruleset") == before
        md("rm", "-f", "alice", "asker")
        assert "172.17.0.1 :" not in pretend.sh("nft list ruleset")
        md.start("--name", "asker", "sleep", "1000")
        assert asker.addresses("asker") == {md.ps()[0]["IP"]}


@pytest.mark.parametrize("free", [False, True], ids=["still taken", "free again"])
def test_a_killed_server_at_another_port_is_followed_by_one_that_is_asked(md: Minidocker, free: bool) -> None:
    with ExitStack() as stack:
        stack.enter_context(port_53_taken())
        for name in ("alice", "asker"):
            md.start("--name", name, "sleep", "1000")
        asker = Client("asker", BR0)
        assert asker.addresses("alice") == {"172.17.0.2"}
        [pid] = servers(md)
        if free:
            stack.close()
        os.kill(pid, signal.SIGKILL)
        md("ps")
        for tcp in (False, True):
            assert asker.addresses("alice", tcp=tcp) == {"172.17.0.2"}


def test_own_names_resolve_whatever_the_host_s_firewall_drops(md: Minidocker) -> None:
    """By the hosts file; the run says which rule drops the questions, and what it says to type helps."""
    pretend.sh("nft add table inet mine && nft 'add chain inet mine guard { type filter hook input priority 0; policy drop; }'")
    try:
        before = pretend.sh("nft list table inet mine")
        done = md.run("-d", "--name", "alice", "sleep", "1000", check=False)
        advice = "nft insert rule inet mine guard iifname br0 meta l4proto { tcp, udp } th dport 53 accept"
        assert (done.returncode, done.stderr) == (
            0,
            "minidocker: inet mine guard of another firewall drops what containers of `br0` ask this host, their DNS among it; "
            f"to let that pass: {advice}\n",
        )
        md.start("--name", "asker", "sleep", "1000")
        assert set(md("exec", "asker", "getent", "ahosts", "alice").stdout.split()) >= {"172.17.0.2", "alice"}
        assert md("exec", "asker", "getent", "hosts", "172.17.0.2").stdout.split()[:2] == ["172.17.0.2", "alice"]
        assert pretend.sh("nft list table inet mine") == before
        with Client("asker", BR0).udp() as wire:
            wire.settimeout(0.5)
            wire.send(query("alice"))
            with pytest.raises(TimeoutError):
                wire.recv(512)
        pretend.sh(advice)
        for tcp in (False, True):
            assert Client("asker", BR0).addresses("alice", tcp=tcp) == {"172.17.0.2"}
    finally:
        pretend.sh("nft delete table inet mine")


ANSWERER = f"""
import socket, sys
sys.path.append("/library")
from dnslib import A, DNSRecord, RR
wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
wire.bind(("", 53))
print("listens", flush=True)
while True:
    packet, peer = wire.recvfrom(512)
    answer = DNSRecord.parse(packet).reply()
    answer.add_answer(RR(answer.q.qname, rdata=A("{OUTSIDE_IP}")))
    wire.sendto(answer.pack(), peer)
"""


@pytest.mark.parametrize("asked", [False, True], ids=["published first", "asked first"])
def test_a_published_name_server_stands_beside_the_network_s_own(world: None, md: Minidocker, asked: bool) -> None:
    md.start("--name", "asker", "sleep", "1000")
    asker, outside = Client("asker", BR0), Client("near", HOST)
    if asked:
        assert asker.addresses("asker") == {"172.17.0.2"}
    library = Path(dnslib.__file__).parents[1]
    md.start("--name", "dns", "-p", "53:53/udp", "-v", f"{library}:/library:ro", "/usr/bin/python3", "-c", ANSWERER)
    poll(lambda: "listens" in md.logs("dns"), "it listens")
    for _ in range(2):
        assert outside.addresses("asker") == outside.addresses(OUTSIDE) == {OUTSIDE_IP}
        assert asker.addresses("asker") == {"172.17.0.2"} and asker.addresses("dns") == {"172.17.0.3"}
        assert asker.addresses(OUTSIDE) == NXDOMAIN
        assert asker.addresses("dns", tcp=True) == {"172.17.0.3"}
        assert Client("asker", HOST).addresses("asker") == {OUTSIDE_IP}, "by the host's other address a container reaches it, too"
    md("rm", "-f", "dns")
    assert asker.addresses("dns") == NXDOMAIN


# --- the server's life ------------------------------------------------------------------------------------------------------------------


def test_the_first_question_starts_one_server_a_network_and_its_last_container_ends_it(
    md: Minidocker, capsys: pytest.CaptureFixture[str]
) -> None:
    subnets(md, "front", "back")
    for name, network in (("a1", "front"), ("a2", "front"), ("b1", "back"), ("b2", "back")):
        md.start("--name", name, "--net", network, "sleep", "1000")
    assert servers(md) == {}
    assert Client("a2", "10.77.0.1").addresses("a1") == {"10.77.0.2"}
    assert list(servers(md).values()) == ["front"]
    assert Client("b1", "10.77.1.1").addresses("b2", tcp=True) == {"10.77.1.3"}
    started = servers(md)
    assert sorted(started.values()) == ["back", "front"]
    for name, gateway in (("a1", "10.77.0.1"), ("a2", "10.77.0.1"), ("b1", "10.77.1.1"), ("b2", "10.77.1.1")):
        for word in ("a1", "b1", "nobody", "b2"):
            Client(name, gateway).addresses(word)
    assert servers(md) == started
    sizes = {network: pss(pid) for pid, network in started.items()}
    with capsys.disabled():
        print(f"\nPSS of a network's DNS server: {', '.join(f'{size} kB ({network})' for network, size in sizes.items())}")
    assert max(sizes.values()) < LIMIT_KB
    md("rm", "-f", "a1")
    assert servers(md) == started, "somebody is there"
    md("stop", "-t", "0", "a2")
    assert list(servers(md).values()) == ["back"]
    md("network", "disconnect", "back", "b1")
    assert list(servers(md).values()) == ["back"]
    md("network", "disconnect", "back", "b2")
    assert servers(md) == {} and os.listdir(md.run_directory / "resolvers") == []
    md("start", "a2")
    assert servers(md) == {}
    assert Client("a2", "10.77.0.1").addresses("a2") == {"10.77.0.3"}
    assert list(servers(md).values()) == ["front"]


def test_whoever_ignores_sigterm_can_end_what_he_starts(md: Minidocker) -> None:
    """A script that cleans up with its signals ignored (`trap '' TERM`) starts the server by its `rm`, and what is ignored is inherited."""
    md.start("--name", "a", "sleep", "1000")
    subprocess.run(["sh", "-c", 'trap "" TERM; exec "$@"', "sh", *md.argv("rm", "-f", "a")], check=True, timeout=30, capture_output=True)
    assert servers(md) == {}


def test_a_container_that_asks_nothing_leaves_nobody_to_be_ended(md: Minidocker) -> None:
    for _ in range(3):
        md.run("--rm", "true")
        assert servers(md) == {} and os.listdir(md.run_directory / "resolvers") == []


@pytest.mark.parametrize("asked", [False, True], ids=["nobody has asked", "asked"])
@pytest.mark.parametrize("end", ["stop", "rm", "kill the monitor", "disconnect"])
def test_it_outlives_whoever_had_its_sockets(md: Minidocker, asked: bool, end: str) -> None:
    """The first container's monitor has them until the first question."""
    md.start("--name", "first", "sleep", "1000")
    md.start("--name", "other", "sleep", "1000")
    other = Client("other", BR0)
    if asked:
        assert other.addresses("first") == {"172.17.0.2"}
    if end == "kill the monitor":
        pid = md.inspect("first")["State"]["Pid"]
        os.kill(monitor_of(md, "first"), signal.SIGKILL)
        poll(lambda: not is_alive(pid), "the container dies with its monitor")
        md("ps")
    else:
        md(*{"stop": ("stop", "-t", "0"), "rm": ("rm", "-f"), "disconnect": ("network", "disconnect", "br0")}[end], "first")
    for tcp in (False, True):
        assert other.addresses("first", tcp=tcp) == NXDOMAIN
        assert other.addresses("other", tcp=tcp) == {"172.17.0.3"}
    assert len(servers(md)) == 1
    md("rm", "-f", "other")
    assert servers(md) == {}


@pytest.mark.parametrize("command", [("ps",), ("run", "--rm", "true"), ("network", "ls"), ("exec", "alice", "true")])
def test_a_killed_server_is_followed_by_another(md: Minidocker, command: tuple[str, ...]) -> None:
    md.start("--name", "alice", "sleep", "1000")
    asker = Client("alice", BR0)
    assert asker.addresses("alice") == {"172.17.0.2"}
    for _ in range(2):
        [pid] = servers(md)
        os.kill(pid, signal.SIGKILL)
        poll(lambda pid=pid: not is_alive(pid), "it is dead")
        md(*command)
        assert asker.addresses("alice") == asker.addresses("alice", tcp=True) == {"172.17.0.2"}


def test_a_foreground_run_has_the_sockets_as_well(md: Minidocker) -> None:
    with md.open("run", "--rm", "--name", "first", "sh", "-c", "echo up; read line") as run:
        assert run.line() == "up"
        md.start("--name", "other", "sleep", "1000")
        other = Client("other", BR0)
        run.communicate(b"\n")
    assert other.addresses("other") == {"172.17.0.3"} and other.addresses("first") == NXDOMAIN
