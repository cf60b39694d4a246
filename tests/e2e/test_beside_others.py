"""Beside what else has a hand in this host's network: libvirt's bridge, ufw, firewalld, somebody's own rules, a VPN's routes. Theirs
stays as it is, byte for byte; what of it is in our way is said once, with what to type; what somebody has is not taken."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dnslib
import pytest

from tests import pretend
from tests.e2e.support import Minidocker, poll
from tests.e2e.world import (
    FAR,
    FAR6,
    HOST,
    HOST6,
    NEAR,
    NEAR6,
    REFUSED,
    SILENT,
    answer,
    answering,
    answers,
    ask,
    await_state,
    settled,
    state,
    with_ipv6,
    within,
)

PUBLISHED = 18080
BRIEFLY = 0.7
BR_NETFILTER = ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables", "bridge-nf-call-arptables")
PROTOCOLS = ("tcp", "udp")


@pytest.fixture(scope="module")
def six(world: None) -> Iterator[None]:
    """The neighbours have IPv6. Ask for it before `md`."""
    with with_ipv6():
        yield


@contextmanager
def loaded(ruleset: str) -> Iterator[Callable[[], str]]:
    """Somebody's tables; the function lists them as they are."""
    pretend.sh(f"nft -f - <<'END'\n{ruleset}\nEND")
    tables = re.findall(r"(?m)^table (\w+ \w+)", ruleset)
    try:
        yield lambda: "".join(pretend.sh(f"nft list table {table}") for table in tables)
    finally:
        pretend.sh("; ".join(f"nft delete table {table}" for table in tables))


@contextmanager
def setting(name: str, value: str) -> Iterator[None]:
    path = Path("/proc/sys/net", name)
    before = path.read_text()
    path.write_text(value)
    try:
        yield
    finally:
        path.write_text(before)


def resolves(place: str, name: str, gateway: str) -> bool:
    """Whether the network's DNS tells the container `place` where `name` is."""
    with within(place, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asking:
        asking.settimeout(BRIEFLY)
        for _ in range(3):  # the first question starts the server
            try:
                asking.sendto(dnslib.DNSRecord.question(name).pack(), (gateway, 53))
                return bool(dnslib.DNSRecord.parse(asking.recv(2000)).rr)
            except (TimeoutError, ConnectionRefusedError):
                continue
    return False


# --- libvirt --------------------------------------------------------------------------------------------------------------------------

# Without its counters.
LIBVIRT = """
table ip libvirt_network {
    chain forward { type filter hook forward priority filter; policy accept
        jump guest_cross; jump guest_input; jump guest_output; }
    chain guest_output { ip saddr 192.168.122.0/24 iif "virbr0" accept; iif "virbr0" reject; }
    chain guest_input { oif "virbr0" ip daddr 192.168.122.0/24 ct state established,related accept; oif "virbr0" reject; }
    chain guest_cross { iif "virbr0" oif "virbr0" accept; }
    chain guest_nat { type nat hook postrouting priority srcnat; policy accept
        ip saddr 192.168.122.0/24 ip daddr 224.0.0.0/24 return
        ip saddr 192.168.122.0/24 ip daddr 255.255.255.255 return
        meta l4proto tcp ip saddr 192.168.122.0/24 ip daddr != 192.168.122.0/24 masquerade to :1024-65535
        meta l4proto udp ip saddr 192.168.122.0/24 ip daddr != 192.168.122.0/24 masquerade to :1024-65535
        ip saddr 192.168.122.0/24 ip daddr != 192.168.122.0/24 masquerade; }
}
"""


@contextmanager
def libvirt() -> Iterator[Callable[[], str]]:
    """virbr0 with the guests g1 (192.168.122.11) and g2, which answer on port 9000. libvirt has the host forward, too."""
    with ExitStack() as stack:
        stack.callback(pretend.sh, "ip link del virbr0; for g in g1 g2; do ip link del $g; ip netns del $g; done", check=False)
        pretend.sh("""ip link add virbr0 type bridge && ip addr add 192.168.122.1/24 dev virbr0 && ip link set virbr0 up
            for n in 1 2; do
                ip netns add g$n && ip link add g$n type veth peer name eth0 netns g$n && ip link set g$n master virbr0 up &&
                ip -n g$n addr add 192.168.122.1$n/24 dev eth0 && ip -n g$n link set eth0 up && ip -n g$n link set lo up &&
                ip -n g$n route add default via 192.168.122.1 || exit
            done
            sysctl -qw net.ipv6.conf.{virbr0,g1,g2}.disable_ipv6=1 net.ipv6.conf.virbr0.accept_ra=0""")
        shown = stack.enter_context(loaded(LIBVIRT))
        for name in ("g1", "g2"):
            stack.enter_context(answering(name, 9000, place=name))
        yield shown


def assert_guests_work() -> None:
    for protocol in PROTOCOLS:
        assert ask(protocol, "192.168.122.12", 9000, "g1") == "g2 192.168.122.11"
        assert ask(protocol, FAR, 9000, "g1") == "far 198.51.100.1"
        assert ask(protocol, "192.168.122.11", 9000).startswith("g1 ")
    assert " 0% packet loss" in pretend.sh("ip netns exec g2 ping -c 1 -W 10 192.168.122.11", check=False)


@pytest.mark.parametrize("filtered", ["0", "1"], ids=["br_netfilter-off", "br_netfilter-on"])
def test_libvirts_guests_are_undisturbed(six: None, md: Minidocker, filtered: str) -> None:
    with ExitStack() as stack:
        for name in BR_NETFILTER:
            stack.enter_context(setting(f"bridge/{name}", filtered))
        stack.enter_context(setting("ipv4/ip_forward", "1"))
        theirs = stack.enter_context(libvirt())
        stack.enter_context(answering("far", 9000, place="far"))
        assert_guests_work()
        rules, before = theirs(), settled()
        md("network", "create", "--internal", "inner")
        md("network", "create", "--isolated", "apart")
        md("network", "create", "--ipv6", "six")
        alice = answer(md, "alice", "-p", f"{PUBLISHED}:80")["IPAddress"]
        answer(md, "bob")
        answer(md, "carol", "--net", "six", "-p", f"127.0.0.1:{PUBLISHED + 1}:80")
        assert_guests_work()
        for protocol in PROTOCOLS:
            assert ask(protocol, alice, 80, "bob").startswith("alice "), "bridged"
            assert ask(protocol, FAR, 9000, "alice") == "far 198.51.100.1"
        for asks in ("near", "bob", "alice", "g1", ""):
            assert ask("tcp", HOST, PUBLISHED, asks).startswith("alice "), asks
        assert ask("tcp", "127.0.0.1", PUBLISHED + 1).startswith("carol ")
        assert answers((protocol, alice, 80, "g1") for protocol in PROTOCOLS) == {}, "what is not published is not for guests either"
        assert ask("tcp", "192.168.122.11", 9000, "alice") == REFUSED, "libvirt lets nobody in, and says so"
        assert theirs() == rules
        md("rm", "-f", "alice", "bob", "carol")
        md("network", "rm", "br0", "inner", "apart", "six")
        await_state(before)
        assert theirs() == rules
        assert_guests_work()


def test_libvirt_may_come_and_go_meanwhile(six: None, md: Minidocker) -> None:
    """Its tables are made beside ours, and taken away; ours go on, and are as they were."""
    with setting("ipv4/ip_forward", "1"), answering("far", 9000, place="far"):
        answer(md, "alice", "-p", f"{PUBLISHED}:80")
        ours = pretend.sh("nft list ruleset")
        with libvirt():
            assert_guests_work()
            assert ask("tcp", HOST, PUBLISHED, "near") == f"alice {NEAR}"
            assert ask("tcp", FAR, 9000, "alice") == "far 198.51.100.1"
        assert pretend.sh("nft list ruleset") == ours
        assert ask("tcp", HOST, PUBLISHED, "near") == f"alice {NEAR}"


# --- firewalls that let pass what they know -------------------------------------------------------------------------------------------

# As `ufw enable` leaves it, the rules by iptables: what matters of it.
UFW = "".join(
    f"""
table {family} filter {{
    chain {ufw}-user-input {{ tcp dport 22 accept; }}
    chain {ufw}-user-forward {{ }}
    chain {ufw}-before-input {{ iifname "lo" accept; ct state established,related accept; {icmp}; jump {ufw}-user-input; }}
    chain {ufw}-before-forward {{ ct state established,related accept; jump {ufw}-user-forward; }}
    chain {ufw}-after-input {{ udp dport 137 return; }}
    chain INPUT {{ type filter hook input priority filter; policy drop; jump {ufw}-before-input; jump {ufw}-after-input; }}
    chain FORWARD {{ type filter hook forward priority filter; policy drop; jump {ufw}-before-forward; }}
    chain OUTPUT {{ type filter hook output priority filter; policy accept; }}
}}"""
    for family, ufw, icmp in (("ip", "ufw", "icmp type echo-request accept"), ("ip6", "ufw6", "meta l4proto ipv6-icmp accept"))
)
# What the program does with these words.
UFW_PROGRAM = """
ufw() {
    case "$*" in
        "route allow in on "*) rule="user-forward iifname $5 accept" ;;
        "route allow out on "*) rule="user-forward oifname $5 accept" ;;
        "allow in on "*" to any port 53") rule="user-input iifname $4 meta l4proto { tcp, udp } th dport 53 accept" ;;
        *) return 1 ;;
    esac
    nft add rule ip filter "ufw-$rule" && nft add rule ip6 filter "ufw6-$rule"
}
"""

FIREWALLD = """
table inet firewalld {
    chain filter_INPUT { type filter hook input priority filter + 10; policy accept
        ct state { established, related } accept; ct status dnat accept; iifname "lo" accept; ct state invalid drop
        jump filter_INPUT_ZONES; reject with icmpx admin-prohibited; }
    chain filter_FORWARD { type filter hook forward priority filter + 10; policy accept
        ct state { established, related } accept; ct status dnat accept; iifname "lo" accept; ct state invalid drop
        jump filter_FORWARD_ZONES; reject with icmpx admin-prohibited; }
    chain filter_INPUT_ZONES { iifname "lan0" goto filter_IN_public; goto filter_IN_public; }
    chain filter_FORWARD_ZONES { iifname "lan0" goto filter_FWD_public; goto filter_FWD_public; }
    chain filter_IN_public { jump filter_IN_public_allow; meta l4proto { icmp, ipv6-icmp } accept; reject with icmpx admin-prohibited; }
    chain filter_IN_public_allow { tcp dport 22 accept; }
    chain filter_FWD_public { meta l4proto { icmp, ipv6-icmp } accept; reject with icmpx admin-prohibited; }
    chain filter_IN_trusted { jump filter_IN_trusted_allow; accept; }
    chain filter_IN_trusted_allow { }
    chain filter_FWD_trusted { jump filter_FWD_trusted_allow; accept; }
    chain filter_FWD_trusted_allow { }
}
"""
# The same interface again is no error of it, but ALREADY_ENABLED, a warning.
FIREWALLD_PROGRAM = """
firewall-cmd() {
    [[ $1 == --zone=trusted && $2 == --add-interface=* ]] || return 1
    ! nft list chain inet firewalld filter_INPUT_ZONES | grep -q "\\"${2#*=}\\"" || return 0
    nft insert rule inet firewalld filter_INPUT_ZONES iifname "${2#*=}" goto filter_IN_trusted &&
    nft insert rule inet firewalld filter_FORWARD_ZONES iifname "${2#*=}" goto filter_FWD_trusted
}
"""

OWN = """
table inet mine {
    chain inward { type filter hook input priority filter; policy drop
        ct state established,related accept; iifname "lo" accept; icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
        tcp dport 22 accept; }
    chain through { type filter hook forward priority filter; policy drop
        ct state established,related accept; }
}
"""
OWN_REJECTING = """
table ip old {
    chain inward { type filter hook input priority filter; policy accept
        ct state established,related accept; iifname "lo" accept; tcp dport 22 accept; reject; }
    chain through { type filter hook forward priority filter; policy accept
        ct state established,related accept; drop; }
}
"""
LEGACY = """
table ip filter {
    chain INPUT { type filter hook input priority filter; policy drop; ct state established,related accept; iifname "lo" accept; }
    chain FORWARD { type filter hook forward priority filter; policy drop; ct state established,related accept; }
}
"""
# Of the machine's own iptables that could be another, or none.
IPTABLES_PROGRAM = """
iptables() {
    [[ $1 == -I ]] || return 1
    case "$3 $5" in
        "-i -j") nft insert rule ip filter "$2" iifname "$4" accept ;;
        "-o -j") nft insert rule ip filter "$2" oifname "$4" accept ;;
        "-i -p") nft insert rule ip filter "$2" iifname "$4" "$6" dport "$8" accept ;;
        *) return 1 ;;
    esac
}
"""

IP6TABLES_PROGRAM = IPTABLES_PROGRAM.replace("iptables()", "ip6tables()").replace("ip filter", "ip6 filter")

SENDS = "minidocker: {0} of another firewall drops what containers of `br0` send; to let it pass: {1}\n"
ASKS = "minidocker: {0} of another firewall drops what containers of `br0` ask this host, their DNS among it; to let that pass: {1}\n"
BLIND = ("minidocker: published ports are reached from outside whatever {0} says, which does not see them; "
         "-p 127.0.0.1:HOSTPORT:PORT publishes for this host alone\n")  # fmt: skip
TRUST = "firewall-cmd --zone=trusted --add-interface=br0"

# its rules, its program, what is said of it, and whether published ports are reached before anything is typed
FIREWALLS = {
    "ufw": (
        UFW, UFW_PROGRAM,
        SENDS.format("ip filter FORWARD", "ufw route allow in on br0 && ufw route allow out on br0")
        + ASKS.format("ip filter INPUT", "ufw allow in on br0 to any port 53") + BLIND.format("ufw"), False,
    ),
    "firewalld": (
        FIREWALLD, FIREWALLD_PROGRAM,
        SENDS.format("inet firewalld filter_FORWARD", TRUST) + ASKS.format("inet firewalld filter_INPUT", TRUST)
        + BLIND.format("firewalld"), True,
    ),
    "nft": (
        OWN, "",
        SENDS.format("inet mine through", "nft insert rule inet mine through iifname br0 accept && "
                     "nft insert rule inet mine through oifname br0 accept")
        + ASKS.format("inet mine inward", "nft insert rule inet mine inward iifname br0 meta l4proto { tcp, udp } th dport 53 accept"),
        False,
    ),
    "nft-that-ends-all": (
        OWN_REJECTING, "",
        SENDS.format("ip old through", "nft insert rule ip old through iifname br0 accept && "
                     "nft insert rule ip old through oifname br0 accept")
        + ASKS.format("ip old inward", "nft insert rule ip old inward iifname br0 meta l4proto { tcp, udp } th dport 53 accept"), False,
    ),
    "iptables": (
        LEGACY, IPTABLES_PROGRAM,
        SENDS.format("ip filter FORWARD", "iptables -I FORWARD -i br0 -j ACCEPT && iptables -I FORWARD -o br0 -j ACCEPT")
        + ASKS.format("ip filter INPUT", "iptables -I INPUT -i br0 -p udp --dport 53 -j ACCEPT && "
                      "iptables -I INPUT -i br0 -p tcp --dport 53 -j ACCEPT"), False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("firewall", FIREWALLS)
def test_what_is_in_our_way_is_said_once_with_what_to_type(six: None, md: Minidocker, firewall: str) -> None:
    ruleset, program, said, open_before = FIREWALLS[firewall]
    words = ("run", "-d", "-p", f"{PUBLISHED}:80", "/usr/bin/python3", "-I", "-c", "import time; time.sleep(1000)")
    with loaded(ruleset) as theirs, answering("far", 9000, place="far"):
        rules = theirs()
        done = md(*words, check=False)
        assert (done.returncode, done.stderr) == (0, said)
        md("rm", "-f", done.stdout.strip())
        answer(md, "alice", "-p", f"{PUBLISHED}:80")  # and with no word on stderr
        bob = answer(md, "bob")["IPAddress"]
        for way in ("tcp", "udp"):
            assert ask(way, FAR, 9000, "alice", BRIEFLY) in (SILENT, REFUSED, "EHOSTUNREACH"), "it was true"
        assert resolves("alice", "bob", "172.17.0.1") is False
        assert ask("tcp", HOST, PUBLISHED, "near", BRIEFLY) == (f"alice {NEAR}" if open_before else SILENT)
        with setting(f"bridge/{BR_NETFILTER[0]}", "0"):
            assert ask("tcp", bob, 80, "alice").startswith("bob "), "what does not leave the bridge does not meet it"
        assert theirs() == rules
        for line in said.splitlines():
            command = line.partition("pass: ")[2]
            if command:
                pretend.sh(f"{program}\n{command}")
        rules = theirs()
        for way in ("tcp", "udp"):
            assert ask(way, FAR, 9000, "alice") == "far 198.51.100.1"
            for filtered in ("0", "1"):
                with setting(f"bridge/{BR_NETFILTER[0]}", filtered):
                    assert ask(way, bob, 80, "alice").startswith("bob ")
        assert resolves("alice", "bob", "172.17.0.1")
        assert ask("tcp", HOST, PUBLISHED, "near") == f"alice {NEAR}"
        assert ask("tcp", HOST, 22, "near", BRIEFLY) == REFUSED or firewall == "iptables", "the host itself is as open as before"
        md("rm", "-f", "alice", "bob")
        md("network", "rm", "br0")
        assert theirs() == rules, "and stays as it was typed"
        answer(md, "alice", "-p", f"{PUBLISHED}:80")  # not a word at the next bring-up
        assert theirs() == rules


@pytest.mark.parametrize("firewall", ["ufw", "ip6tables"])
def test_a_firewall_of_ipv6_is_named_for_a_network_with_ipv6(six: None, md: Minidocker, firewall: str) -> None:
    """And what is typed lets it pass; of a network without IPv6 it is not spoken."""
    ruleset, program = (UFW, UFW_PROGRAM) if firewall == "ufw" else (LEGACY.replace("ip filter", "ip6 filter"), IP6TABLES_PROGRAM)
    says = {
        "ufw": "ufw route allow in on six && ufw route allow out on six",
        "ip6tables": "ip6tables -I FORWARD -i six -j ACCEPT && ip6tables -I FORWARD -o six -j ACCEPT",
    }[firewall]
    with loaded(ruleset), answering("far", 9000, place="far"):
        assert "ip6" not in md("network", "create", "--subnet", "10.9.9.0/24", "four", check=False).stderr
        said = md("network", "create", "--subnet", "10.9.8.0/24", "--ipv6", "six", check=False).stderr
        expected = SENDS.format("ip6 filter FORWARD", says).replace("`br0`", "`six`")
        assert expected in said and said.count("ip6 ") == 1
        answer(md, "alice", "--net", "six")
        assert ask("tcp", FAR6, 9000, "alice", BRIEFLY) == SILENT
        pretend.sh(f"{program}\n{says}")
        assert ask("tcp", FAR6, 9000, "alice") == "far 2001:db8:2::1"
        md("rm", "-f", "alice")
        md("network", "rm", "six")
        assert "ip6" not in md("network", "create", "--subnet", "10.9.8.0/24", "--ipv6", "six", check=False).stderr


def test_what_is_blind_is_not_spoken_of_where_nothing_is_published(six: None, md: Minidocker) -> None:
    with loaded(FIREWALLD):
        done = md.run("--rm", "true", check=False)
        assert done.stderr == SENDS.format("inet firewalld filter_FORWARD", TRUST) + ASKS.format("inet firewalld filter_INPUT", TRUST)
        done = md.run("--rm", "-p", f"{PUBLISHED}:80", "true", check=False)
        assert (done.returncode, done.stderr) == (0, BLIND.format("firewalld"))
        assert md.run("--rm", "-p", f"{PUBLISHED}:80", "true").stderr == "", "once a boot"


# --- after somebody flushed everything ------------------------------------------------------------------------------------------------


@contextmanager
def port_53_taken() -> Iterator[None]:
    """By somebody's own resolver on every address of this host."""
    with ExitStack() as stack:
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            taken = stack.enter_context(socket.socket(socket.AF_INET, kind))
            taken.bind(("0.0.0.0", 53))
            if kind == socket.SOCK_STREAM:
                taken.listen()
        yield


@contextmanager
def generations() -> Iterator[Callable[[], int]]:
    """How many transactions nftables has seen since."""
    with subprocess.Popen(["nft", "monitor"], stdout=subprocess.PIPE, text=True) as monitor:
        assert monitor.stdout
        os.set_blocking(monitor.stdout.fileno(), False)
        seen = ""

        def so_far(mark: str) -> bool:
            nonlocal seen
            seen += monitor.stdout.read() or ""  # type: ignore[union-attr]
            return mark in seen

        def reached(mark: str) -> None:
            def tried() -> bool:
                pretend.sh(f"nft add table ip {mark} && nft delete table ip {mark}")
                return so_far(f"delete table ip {mark}")

            poll(tried, f"nft monitor tells of {mark}")

        def count() -> int:
            reached("over")
            between = seen[seen.rindex("delete table ip begun") : seen.index("add table ip over")]
            return len(re.findall(r"new generation", between)) - 1  # that of the deletion

        try:
            reached("begun")
            yield count
        finally:
            monitor.send_signal(signal.SIGTERM)


@pytest.fixture
def full(six: None, md: Minidocker) -> Iterator[Minidocker]:
    """Networks of every kind with containers, every way to publish, DNS at another port than 53."""
    with port_53_taken():
        md("network", "create", "--subnet", "10.9.1.0/24", "--subnet", "fd00:9:1::/64", "six")
        md("network", "create", "--internal", "--subnet", "10.9.2.0/24", "--ipv6", "inner")
        md("network", "create", "--isolated", "--subnet", "10.9.3.0/24", "apart")
        md("network", "create", "-d", "ptp", "--subnet", "10.9.4.0/24", "cable")
        answer(md, "alice", "--net", "six", "--net", "inner", "-p", f"{PUBLISHED}:80", "-p", f"{PUBLISHED}:80/udp", "-p", "8000-8009:80-89")
        answer(md, "bob", "--net", "six", "-p", f"127.0.0.1:{PUBLISHED + 1}:80", "-p", f"[{HOST6}]:{PUBLISHED + 1}:80/sctp")
        answer(md, "carol", "-p", f"{HOST}:{PUBLISHED + 2}:80", "--net", "br0", "--net", "cable")
        answer(md, "dave", "--net", "apart")
        yield md


def assert_all_is_well() -> None:
    with answering("far", 9000, place="far"):
        assert ask("tcp", HOST, PUBLISHED, "near") == f"alice {NEAR}"
        assert ask("udp", HOST6, PUBLISHED, "near") == f"alice {NEAR6}"
        assert ask("tcp", "127.0.0.1", PUBLISHED + 1) == "bob 10.9.1.1"
        assert ask("tcp", HOST, PUBLISHED + 2, "bob").startswith("carol ")
        assert ask("tcp", FAR, 9000, "dave") == "far 198.51.100.1"
        assert ask("tcp", FAR6, 9000, "bob") == "far 2001:db8:2::1"
    assert resolves("bob", "alice", "10.9.1.1")


def test_reload_gives_back_every_byte_in_one_transaction(full: Minidocker) -> None:
    assert_all_is_well()
    before = pretend.sh("nft list ruleset")
    assert re.search(r'"six" \. 10\.9\.1\.1 : \d+', before), "DNS is led to another port"
    assert before.count(".. ") == 0 and "sctp . 18081" in before and "sctp . " in before
    pretend.sh("nft flush ruleset")
    assert ask("tcp", HOST, PUBLISHED, "near", BRIEFLY) != f"alice {NEAR}"
    with generations() as transactions:
        assert full("network", "reload").stdout == ""
        assert transactions() == 1
    assert pretend.sh("nft list ruleset") == before
    assert_all_is_well()
    full("network", "reload")
    assert pretend.sh("nft list ruleset") == before, "and where nothing is missing nothing changes"


def test_reload_puts_right_what_somebody_put_wrong(full: Minidocker) -> None:
    before = pretend.sh("nft list ruleset")
    table = f"inet minidocker_{full.tag}"
    for change in (f"delete element {table} ports {{ tcp . {PUBLISHED} }}", f"flush chain {table} forward", f"add chain {table} foreign",
                   f"insert rule {table} forward accept", f"delete table bridge minidocker_{full.tag}", f"delete table {table}",
                   f"add element {table} bridges {{ \"lan0\" }}"):  # fmt: skip
        pretend.sh(f"nft '{change}'")
        assert pretend.sh("nft list ruleset") != before, change
        full("network", "reload")
        assert pretend.sh("nft list ruleset") == before, change
    assert_all_is_well()


def test_reload_leaves_others_alone_and_one_delete_a_table_takes_all_of_ours(full: Minidocker) -> None:
    ours = pretend.sh("nft list ruleset")
    with loaded(LIBVIRT.replace("iif ", "iifname ").replace("oif ", "oifname ")) as theirs:
        rules = theirs()
        full("network", "reload")
        assert theirs() == rules
        pretend.sh(f"nft delete table inet minidocker_{full.tag} && nft delete table bridge minidocker_{full.tag}")
        assert pretend.sh("nft list ruleset") == rules
        full("network", "reload")
        assert theirs() == rules
    assert pretend.sh("nft list ruleset") == ours


# --- settings of others ---------------------------------------------------------------------------------------------------------------


def settings() -> dict[str, str]:
    """All of /proc/sys/net that can be read, but for what counts by itself."""
    found = {}
    for directory, _, names in os.walk("/proc/sys/net"):
        for name in names:
            path = os.path.join(directory, name)
            try:
                found[path.removeprefix("/proc/sys/net/")] = Path(path).read_text()
            except OSError:
                continue  # to be written alone, or not set (stable_secret)
    found.pop("netfilter/nf_conntrack_count", None)
    return found


def differences(before: dict[str, str], now: dict[str, str]) -> dict[str, tuple[str, str]]:
    return {name: (before.get(name, "").strip(), now.get(name, "").strip()) for name in before.keys() | now.keys()
            if before.get(name) != now.get(name)}  # fmt: skip


OURS = re.compile(r"ipv[46]/(conf|neigh)/(br0|six|md[0-9a-f]{9,}(\.\w)?)/")


@pytest.mark.parametrize("odd", [False, True], ids=["usual", "odd"])
def test_no_setting_of_anybodys_is_touched_but_forwarding(six: None, md: Minidocker, odd: bool) -> None:
    """`odd`: a host that has some of it on by itself, for an interface or for those to come."""
    with ExitStack() as stack:
        for name in ("ipv6/conf/default/forwarding", "ipv6/conf/lan1/forwarding", "ipv4/conf/lan1/forwarding") if odd else ():
            stack.enter_context(setting(name, "1"))
        before = settings()
        answer(md, "alice", "-p", f"{PUBLISHED}:80")
        changed = {name: values for name, values in differences(before, settings()).items() if not OURS.match(name)}
        links = ("lan0",) if odd else ("lan0", "lan1")
        assert changed == {f"ipv4/conf/{link}/forwarding": ("0", "1") for link in links}
        md("network", "create", "--ipv6", "six")
        answer(md, "bob", "--net", "six", "-p", f"{PUBLISHED + 1}:80")
        changed = {name: values for name, values in differences(before, settings()).items() if not OURS.match(name)}
        assert [name for name in changed if not name.endswith("/forwarding")] == []
        assert changed["ipv6/conf/all/forwarding"] == ("0", "1")
        md("rm", "-f", "alice", "bob")
        md("network", "rm", "br0", "six")
        poll(lambda: not any(OURS.match(name) for name in settings()), "the last veth is gone")
        assert differences(before, settings()) == {}


# --- what somebody has is not taken ---------------------------------------------------------------------------------------------------


@contextmanager
def taken(how: str) -> Iterator[None]:
    """By `ip HOW` with "add", or by a nameserver in resolv.conf."""
    with ExitStack() as stack:
        if how.startswith("nameserver"):
            path = Path("/run/resolv.conf")
            path.write_text(f"{how}\n")
            pretend.sh(f"mount --bind {path} /etc/resolv.conf")
            stack.callback(pretend.sh, f"umount -l /etc/resolv.conf; rm {path}")
        else:
            pretend.sh(f"ip {how.format('add')}")
            stack.callback(pretend.sh, f"ip {how.format('del')}")
        yield


def everything() -> tuple[dict[str, str], dict[str, str]]:
    return state(), settings()


CLAIMS = [  # (how, subnets that overlap, owner)
    ("route {} 10.77.0.0/16 dev lan1 table 77", ("10.77.5.0/24", "10.77.0.0/16", "10.0.0.0/8"), "route 10.77.0.0/16 dev lan1 table 77"),
    ("route {} 10.77.0.0/16 via 192.0.2.2", ("10.77.5.0/24", "10.76.0.0/15"), "route 10.77.0.0/16 via 192.0.2.2 dev lan0"),
    ("route {} unreachable 172.16.0.0/12", ("172.16.0.0/24", "172.31.255.0/24"), "unreachable route 172.16.0.0/12"),
    ("route {} blackhole 10.77.0.0/24 table 77", ("10.77.0.128/25",), "blackhole route 10.77.0.0/24 table 77"),
    ("rule {} to 10.78.0.0/16 lookup 78", ("10.78.9.0/24",), "rule to 10.78.0.0/16 lookup 78"),
    ("nameserver 10.79.0.53", ("10.79.0.0/24", "10.79.0.52/30"), "nameserver 10.79.0.53"),
    ("addr {} 10.80.0.9/32 dev lan1", ("10.80.0.0/24",), "address 10.80.0.9/32 dev lan1"),
    ("addr {} 10.81.0.9/24 dev lan1", ("10.81.0.0/24", "10.81.0.128/25"), "route 10.81.0.0/24 dev lan1"),
]


@pytest.mark.parametrize(("how", "subnets", "owner"), CLAIMS, ids=[owner for _, _, owner in CLAIMS])
def test_what_somebody_has_is_refused_and_nothing_has_changed(
    six: None, md: Minidocker, how: str, subnets: tuple[str, ...], owner: str
) -> None:
    with taken(how):
        before = everything()
        for subnet in subnets:
            for options in ((), ("--internal",), ("-d", "ptp")):
                assert md.refused("network", "create", *options, "--subnet", subnet, "lab", code=1) == (
                    f"minidocker: subnet {subnet} overlaps {owner}\n  hint: choose another; without --subnet a free one is taken\n")
        assert everything() == before
        assert md("network", "ls", "-q").stdout == ""
    md("network", "create", "--subnet", subnets[0], "lab")


@pytest.mark.parametrize(
    ("how", "owner", "instead"),
    [
        ("route {} 172.17.0.0/16 dev lan1 table 77", "route 172.17.0.0/16 dev lan1 table 77", "172.18.0.0/24"),
        ("route {} unreachable 172.16.0.0/12", "unreachable route 172.16.0.0/12", "10.64.0.0/24"),
        ("rule {} to 172.17.0.0/20 lookup 78", "rule to 172.17.0.0/20 lookup 78", "172.17.16.0/24"),
        ("nameserver 172.17.0.53", "nameserver 172.17.0.53", "172.17.1.0/24"),
        ("addr {} 172.17.0.9/32 dev lan1", "address 172.17.0.9/32 dev lan1", "172.17.1.0/24"),
    ],
)
def test_what_somebody_has_is_passed_over(six: None, md: Minidocker, how: str, owner: str, instead: str) -> None:
    with taken(how):
        theirs = pretend.sh("ip route show table all; ip rule; ip addr show dev lan1")
        done = md.run("--rm", "true", check=False)
        assert (done.returncode, done.stderr) == (0, f"minidocker: 172.17.0.0/24 is in use here ({owner}): network br0 takes {instead}\n")
        [network] = json.loads(md("network", "inspect", "br0").stdout)
        assert network["IPAM"]["Config"][0]["Subnet"] == instead
        assert set(theirs.splitlines()) <= set(pretend.sh("ip route show table all; ip rule; ip addr show dev lan1").splitlines())
        md("network", "rm", "br0")
