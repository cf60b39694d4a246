"""The nftables tables' text, what stands in them for networks, containers and published ports, and which ports meet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidocker.network import bridge, endpoint, firewall, forwarding, others, ownership, publish, ruleset
from minidocker.plan import Step
from minidocker.spec import config
from minidocker.spec.records import MACVLAN, PTP, Endpoint, Network, Port

NET = Network("3fa9c1d2e4b5", "br0", "172.17.0.0/24", "172.17.0.1", "br0")
SIX = Network("4fa9c1d2e4b5", "six", "10.9.0.0/24", "10.9.0.1", "br6", subnet6="fd00:9::/64", gateway6="fd00:9::1")
ALONE = others.Seen([], "ab")
MAC = "02:42:ac:11:00:02"
HOST_IPS = ("", "0.0.0.0", "127.0.0.1", "192.0.2.1", "::", "2001:db8::1")
PORTS = st.builds(Port, st.integers(1, 3), st.just(80), st.sampled_from(HOST_IPS), st.sampled_from(["tcp", "udp"]))


@pytest.fixture(autouse=True)
def nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """No kernel is asked whether docker is here."""
    monkeypatch.setattr(others, "may_have_hook", lambda: False)


def place(ports: list[Port] | None = None, ip6: str = "", network: Network = NET, **more: object) -> Endpoint:
    return Endpoint(network.name, "c" * 64, "one", "172.17.0.2", MAC, ports=ports, ip6=ip6, **more)  # type: ignore[arg-type]


def said(steps: list[Step]) -> list[str]:
    return [step.shell() for step in steps]


# ---- what a network, a container and a port are in the tables

def test_a_network_is_a_few_elements() -> None:
    assert ruleset.network_elements(NET) == [
        'bridges { "br0" }', "subnets { 172.17.0.0/24 }", 'own { "br0" . 172.17.0.0/24 }', 'gateways { "br0" . 172.17.0.1 }',
        'same { "br0" . "br0" }']
    inner = Network("3fa9c1d2e4b5", "in", "10.0.0.0/24", "10.0.0.1", "br1", internal=True)
    assert ruleset.network_elements(inner)[-1] == 'internal { "br1" }'
    assert ruleset.network_elements(SIX) == [
        'bridges { "br6" }', "subnets { 10.9.0.0/24 }", 'own { "br6" . 10.9.0.0/24 }', 'gateways { "br6" . 10.9.0.1 }',
        'same { "br6" . "br6" }', "subnets6 { fd00:9::/64 }", 'own6 { "br6" . fd00:9::/64 }']
    apart = Network("3fa9c1d2e4b5", "in", "10.0.0.0/24", "10.0.0.1", "br1", isolated=True)
    assert ruleset.network_elements(apart)[-1] == 'apart { "br1" . "br1" }', "nor by way of the gateway"


def test_uplinks_are_guarded_by_family() -> None:
    assert ruleset.uplink_elements(["eth0", "eth0.100"], ["eth0"], ["eth0"]) == [
        'uplinks { "eth0" }', 'uplinks { "eth0.100" }', 'uplinks6 { "eth0" }', 'advertised { "eth0" }']
    assert ruleset.uplink_elements([], [], []) == []


@pytest.mark.parametrize(("all6", "closed"), [("", False), ("1", False), ("0", True)])
def test_a_host_that_forwarded_no_ipv6_forwards_none_but_ours(all6: str, closed: bool) -> None:
    """Whether or not it had an uplink when the first network came: one that comes later is led through no more than those."""
    before = {"net/ipv6/conf/all/forwarding": all6} if all6 else {}
    for more in ({}, {"net/ipv6/conf/lan0/forwarding": "0"}):
        up = "\n".join(said(bridge.up(SIX, "ab", forwarding.Outward(1500, before | more), ALONE).steps))
        assert ("iifgroup != " in up) == closed


def test_a_containers_port_lets_in_what_it_was_given_alone() -> None:
    link = "mdcccccccc1"
    four = [f'ports {{ "{link}" }}', f'senders {{ "{link}" . {MAC} . 172.17.0.2 }}']
    assert ruleset.texts(ruleset.sender_elements(place())) == four
    assert ruleset.texts(ruleset.sender_elements(place(ip6="fd00:9::2"))) == [
        *four,
        f'senders6 {{ "{link}" . {MAC} . fd00:9::2 }}', f'targets6 {{ "{link}" . 0xfd000009000000000000000000000002 }}',
        f'senders6 {{ "{link}" . {MAC} . fe80::42:acff:fe11:2 }}', f'targets6 {{ "{link}" . 0xfe800000000000000042acfffe110002 }}']
    assert f'ports {{ "{link}.3" }}' in ruleset.texts(ruleset.sender_elements(place(interface="eth3")))


def test_published_ports_are_exact_matches() -> None:
    ports = [Port(8080, 80), Port(53, 5353, "127.0.0.1", "udp"), Port(1, 2, "0.0.0.0"), Port(9, 9, "::", "sctp"), Port(7, 7, "2001:db8::1")]
    four = ["ports { tcp . 8080 : 172.17.0.2 . 80 }", "ports_at { 127.0.0.1 . udp . 53 : 172.17.0.2 . 5353 }",
            "ports { tcp . 1 : 172.17.0.2 . 2 }"]  # fmt: skip
    assert ruleset.texts(publish.elements(place(ports))) == four
    assert ruleset.texts(publish.elements(place(ports, "fd00:9::2"))) == [
        four[0], "ports6 { tcp . 8080 : fd00:9::2 . 80 }", *four[1:],
        "ports6 { sctp . 9 : fd00:9::2 . 9 }", "ports6_at { 2001:db8::1 . tcp . 7 : fd00:9::2 . 7 }"]


def test_a_networks_dns_elsewhere_than_at_port_53() -> None:
    assert ruleset.resolver_element(NET, 40053).text == 'resolvers { "br0" . 172.17.0.1 : 40053 }'


# ---- the scripts

def test_both_tables_are_made_and_keep_their_elements() -> None:
    text = ruleset.skeleton("ab", closed6=False)
    assert text.startswith("add table inet minidocker_ab\nflush table inet minidocker_ab\ntable inet minidocker_ab {\n")
    assert "\nadd table bridge minidocker_ab\nflush table bridge minidocker_ab\ntable bridge minidocker_ab {\n" in text
    assert "delete" not in text
    assert text.count("{") == text.count("}")
    for kind in ("set", "map"):  # a set is not flushed with the rules, and each that an element is put into is there
        assert {line.split()[1] for line in text.splitlines() if line.startswith(f"\t{kind} ")} == {
            "set": {"bridges", "same", "apart", "internal", "subnets", "subnets6", "own", "own6", "uplinks", "uplinks6", "advertised",
                    "gateways", "ports", "senders", "senders6", "targets6"},
            "map": {"ports", "ports6", "ports_at", "ports6_at", "resolvers"},
        }[kind]  # fmt: skip


def test_the_order_of_judging() -> None:
    """No verdict `accept` before what denies, in the chains where that matters."""
    chains = {part.split()[0]: part.partition("\n\t}")[0] for part in ruleset.skeleton("ab", closed6=True).split("\tchain ")[1:]}
    frames = [line.strip() for line in chains["check"].splitlines()]
    assert frames.index("icmpv6 type { nd-router-advert, nd-redirect } drop") < next(
        i for i, line in enumerate(frames) if line.startswith("ether type ip6"))
    assert frames[-1] == "drop", "what is not said is denied"
    forward = [line.strip() for line in chains["forward"].splitlines()]
    assert forward.index("iifname . oifname @apart drop") < forward.index("ct status dnat accept")
    assert forward[-1] == "meta nfproto ipv6 jump closed6" and "iifgroup != 27748 drop" in chains["closed6"]
    assert "iifgroup !=" not in ruleset.skeleton("ab", closed6=False), "a host that forwarded IPv6 before goes on doing so"
    assert forward.index("iifname @internal drop") < forward.index("ct status dnat accept") < forward.index("oifname @bridges drop")
    assert chains["published"].index("ip6 daddr ::1 return") < chains["published"].index("ports6")
    prerouting = chains["prerouting"]
    assert prerouting.index("@resolvers") < prerouting.index("@gateways accept") < prerouting.index("jump published"), "DNS before -p 53"


def test_both_tables_go_whether_they_are_there_or_not() -> None:
    assert ruleset.deletion("ab").splitlines() == [
        "add table inet minidocker_ab", "delete table inet minidocker_ab", "add table bridge minidocker_ab",
        "delete table bridge minidocker_ab"]


def test_what_is_removed_is_added_first() -> None:
    assert ruleset.adding("ab", ["a { 1 }", "b { 2 }"]) == (
        "add element inet minidocker_ab a { 1 }\nadd element inet minidocker_ab b { 2 }\n")
    assert ruleset.adding("ab", [], "bridge") == ""
    assert ruleset.removing("ab", ["a { 1 }"], "bridge") == (
        "add element bridge minidocker_ab a { 1 }\ndelete element bridge minidocker_ab a { 1 }\n")


def outward(four: str, six: str) -> forwarding.Outward:
    """A host that forwarded nothing before, with one uplink of each family."""
    return forwarding.Outward(1500, {f"net/ipv4/conf/{four}/forwarding": "0", "net/ipv6/conf/all/forwarding": "0",
                                     f"net/ipv6/conf/{six}/forwarding": "0"})


def test_a_rebuilt_table_starts_from_nothing() -> None:
    wanted = ruleset.Wanted([NET, SIX], outward("lan0", "lan1"), [place([Port(8080, 80)])], {"six": 40053})
    script = ruleset.rebuilt("ab", wanted)
    assert script.startswith(ruleset.deletion("ab") + ruleset.skeleton("ab", closed6=True))
    assert script.removeprefix(ruleset.deletion("ab") + ruleset.skeleton("ab", closed6=True)).splitlines() == [
        *(f"add element inet minidocker_ab {element}" for element in (
            'uplinks { "lan0" }', 'uplinks6 { "lan1" }', *ruleset.network_elements(NET), *ruleset.network_elements(SIX),
            'resolvers { "br6" . 10.9.0.1 : 40053 }', "ports { tcp . 8080 : 172.17.0.2 . 80 }")),
        *(f"add element bridge minidocker_ab {element}" for element in ruleset.texts(ruleset.sender_elements(place()))),
    ]  # fmt: skip


def test_what_has_no_bridge_is_not_in_the_tables() -> None:
    cable = Network("1fa9c1d2e4b5", "cable", "10.1.0.0/30", "", "", PTP)
    wire = Network("2fa9c1d2e4b5", "wire", "192.0.2.0/24", "192.0.2.9", "", MACVLAN, parent="lan0")
    places = [place(), place(network=cable), place(network=wire)]
    wanted = ruleset.Wanted([cable, NET, wire], forwarding.Outward(1500, {}), places, {})
    assert wanted.networks == [NET] and wanted.endpoints == places[:1]
    for network in (cable, wire):
        assert endpoint.detach(network, "ab", place([Port(80, 80)], network=network)).steps == []
        steps = endpoint.attach(network, "ab", place(network=network)).steps
        assert not any("nft" in text for text in said(steps))


# ---- the plans

def test_nothing_published_means_no_transaction_for_it() -> None:
    attach, detach = endpoint.attach(NET, "ab", place()).steps, endpoint.detach(NET, "ab", place()).steps
    assert [type(step) for step in attach if isinstance(step, firewall.Change)] == [firewall.Guard]
    assert [step.family for step in detach if isinstance(step, firewall.Remove)] == [ownership.FRAMES]
    assert endpoint.published(NET, "ab", place()).steps == endpoint.withdrawn("ab", place()).steps == []


def test_a_thousand_ports_are_one_transaction() -> None:
    many = place([Port(n, n) for n in range(1, 1001)], "fd00:9::2")
    rules = [step for step in endpoint.attach(NET, "ab", many).steps if isinstance(step, firewall.Publish)]
    assert len(rules) == 1
    assert len(rules[0].elements) == 2000
    assert rules[0].shell().count("\n") == 2000
    removed = [step for step in endpoint.detach(NET, "ab", many).steps if isinstance(step, firewall.Remove)]
    assert [(step.family, len(step.elements)) for step in removed] == [(ownership.FAMILY, 2000), (ownership.FRAMES, 6)]


def test_the_guard_stands_before_the_cable_and_goes_after_it() -> None:
    steps = endpoint.attach(NET, "ab", place([Port(80, 80)])).steps
    assert [type(step).__name__ for step in steps] == ["Guard", "Connect", "Configure", "Set", "Hairpin", "Publish"]
    assert [type(step).__name__ for step in endpoint.detach(NET, "ab", place([Port(80, 80)])).steps] == ["Remove", "Forget", "Remove"]


def test_an_isolated_networks_port_is_isolated() -> None:
    apart = Network("3fa9c1d2e4b5", "br0", "172.17.0.0/24", "172.17.0.1", "br0", isolated=True)
    isolates = "type bridge_slave isolated on"
    assert isolates in "\n".join(said(endpoint.attach(apart, "ab", place()).steps))
    assert isolates not in "\n".join(said(endpoint.attach(NET, "ab", place()).steps))


@pytest.mark.parametrize(("host_ip", "set_there"), [
    ("", True), ("0.0.0.0", True), ("127.0.0.1", True), ("192.0.2.1", False), ("::", False), ("2001:db8::1", False),
])
def test_route_localnet_only_where_loopback_needs_it(host_ip: str, set_there: bool) -> None:
    steps = endpoint.attach(SIX, "ab", place([Port(80, 80, host_ip)], "fd00:9::2", SIX)).steps
    assert any("route_localnet" in text for text in said(steps)) == set_there


def test_the_default_route_is_by_one_network_that_leads_out() -> None:
    def routes(network: Network, default: bool, ip6: str = "") -> list[str]:
        text = "\n".join(said(endpoint.attach(network, "ab", place(ip6=ip6), default=default).steps))
        return [line.partition("net ")[2] for line in text.splitlines() if "route replace" in line]

    assert routes(NET, True) == ["ip route replace default via 172.17.0.1 dev eth0"]
    assert routes(SIX, True, "fd00:9::2") == [
        "ip route replace default via 10.9.0.1 dev eth0", "ip -6 route replace default via fd00:9::1 dev eth0"]
    assert routes(NET, False) == []
    assert routes(Network("3fa9c1d2e4b5", "in", "10.0.0.0/24", "10.0.0.1", "br1", internal=True), True) == []
    assert routes(Network("1fa9c1d2e4b5", "cable", "10.1.0.0/30", "", "", PTP), True) == []
    wire = Network("2fa9c1d2e4b5", "wire", "192.0.2.0/24", "192.0.2.9", "", MACVLAN, parent="lan0")
    assert routes(wire, True) == ["ip route replace default via 192.0.2.9 dev eth0"]


BEFORE = {"net/ipv4/conf/lan0/forwarding": "0"}
BEFORE6 = {**BEFORE, "net/ipv6/conf/all/forwarding": "0", "net/ipv6/conf/lan0/forwarding": "0", "net/ipv6/conf/lan0/accept_ra": "1"}


@pytest.mark.parametrize(("network", "before"), [(NET, BEFORE), (SIX, BEFORE6)])
def test_denying_comes_before_forwarding(network: Network, before: dict[str, str]) -> None:
    steps = bridge.up(network, "ab", forwarding.Outward(1500, before), ALONE).steps
    texts = said(steps)
    rules = next(i for i, text in enumerate(texts) if text.startswith("nft"))
    assert all(i > rules for i, text in enumerate(texts) if "forwarding" in text and text.startswith("sysctl"))
    assert all(step.why and step.title == "network" for step in steps)
    assert 'uplinks { "lan0" }' in texts[rules]
    assert ('uplinks6 { "lan0" }' in texts[rules]) == bool(network.subnet6)
    down = said(bridge.down(network, "ab", before, last=True).steps)
    assert down[-1] == "nft delete table inet minidocker_ab\nnft delete table bridge minidocker_ab", "and goes after it"


def test_an_uplink_that_forwarded_before_is_neither_set_nor_guarded_nor_restored() -> None:
    before = {"net/ipv4/conf/lan0/forwarding": "1"}
    text = "\n".join(said(bridge.up(NET, "ab", forwarding.Outward(1500, before), ALONE).steps))
    assert "lan0" not in text
    assert "lan0" not in "\n".join(said(bridge.down(NET, "ab", before, last=True).steps))


def test_the_bridge_has_ipv6_where_it_was_asked_for_alone() -> None:
    def settings(network: Network) -> list[str]:
        return [text.removeprefix("sysctl -q -w net/ipv6/conf/") for text in said(bridge.up(network, "ab", forwarding.Outward(1500, {}),
                ALONE).steps) if "ipv6" in text and text.startswith("sysctl")]  # fmt: skip

    assert settings(NET) == ["br0/accept_ra=0", "br0/disable_ipv6=1"]
    assert settings(SIX) == ["br6/accept_ra=0", "br6/disable_ipv6=0", "br6/accept_dad=0"]
    assert said(bridge.up(SIX, "ab", forwarding.Outward(1500, {}), ALONE).steps)[-1] == (
        "ip addr add 10.9.0.1/24 dev br6\nip addr add fd00:9::1/64 dev br6 nodad\nip link set br6 up")


def test_a_reload_says_what_all_networks_need() -> None:
    wanted = ruleset.Wanted([NET, SIX], outward("lan0", "lan0"), [place()], {})
    seen = others.Seen([base("ip", "filter", "FORWARD", "drop"), plain("filter", "DOCKER-USER")], "ab")
    steps = bridge.reload("ab", wanted, forwarding.Outward(0, BEFORE6), [NET, SIX] if seen.hook else ()).steps
    assert [type(step).__name__ for step in steps] == [
        "Rules", "Admit", "Admit", "Set", "Forward", "Set", "Forward", "KeepAdvertised", "Forward6"]
    assert [type(step).__name__ for step in bridge.reload("ab", wanted).steps] == ["Rules"]


def test_the_bridges_mac_is_unicast_and_of_the_network() -> None:
    assert ownership.bridge_mac(NET) == "3e:a9:c1:d2:e4:b5"
    assert ownership.bridge_mac(Network("ffffffffffff", "x", "", "", "x")) == "fe:ff:ff:ff:ff:ff"


def test_container_sysctls() -> None:
    assert config.network_sysctls()["net.ipv6.conf.all.disable_ipv6"] == "1"
    assert config.network_sysctls(ipv6=False) == {
        "net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}


# ---- which ports meet

def test_a_wildcard_meets_every_address() -> None:
    one, lan, local = Port(80, 80), Port(80, 81, "192.0.2.1"), Port(80, 82, "127.0.0.1")
    assert publish.conflict([lan], [(one, "web")]) == (lan, one, "web")
    assert publish.conflict([one], [(local, "web")]) == (one, local, "web")
    assert publish.conflict([lan], [(local, "web")]) is None
    assert publish.conflict([Port(80, 80, protocol="udp")], [(one, "web")]) is None
    assert publish.conflict([lan, one], []) == (one, lan, "")


def addresses(host_ip: str) -> set[str]:
    """All that a port's address stands for, of a world of four."""
    one = {"127.0.0.1", "192.0.2.1", "2001:db8::1", "2001:db8::2"}
    return {"": one, "0.0.0.0": {ip for ip in one if ":" not in ip}, "::": {ip for ip in one if ":" in ip}}.get(host_ip, {host_ip})


@pytest.mark.parametrize("one", HOST_IPS)
@pytest.mark.parametrize("other", HOST_IPS)
def test_addresses_meet_when_they_have_one_in_common(one: str, other: str) -> None:
    assert publish.meet(one, other) == bool(addresses(one) & addresses(other))


@given(st.lists(PORTS, max_size=4), st.lists(PORTS, max_size=4))
def test_conflict_is_pairwise_overlap(wanted: list[Port], held: list[Port]) -> None:
    def meet(a: Port, b: Port) -> bool:
        return (a.protocol, a.host_port) == (b.protocol, b.host_port) and bool(addresses(a.host_ip) & addresses(b.host_ip))

    expected = any(meet(w, h) for w in wanted for h in held) or any(meet(a, b) for i, a in enumerate(wanted) for b in wanted[:i])
    assert (publish.conflict(wanted, [(h, "x") for h in held]) is not None) == expected


def base(family: str, table: str, chain: str, policy: str, hook: str = "forward") -> dict[str, object]:
    return {"chain": {"family": family, "table": table, "name": chain, "hook": hook, "type": "filter", "policy": policy}}


def plain(table: str, chain: str) -> dict[str, object]:
    return {"chain": {"family": "ip", "table": table, "name": chain}}


def rule(family: str, table: str, chain: str, *expr: dict[str, object]) -> dict[str, object]:
    return {"rule": {"family": family, "table": table, "chain": chain, "expr": list(expr)}}


def test_docker_alone_needs_its_hook_and_no_advice() -> None:
    seen = others.Seen([base("ip", "filter", "FORWARD", "drop"), plain("filter", "DOCKER-USER")], "ab")
    assert seen.hook and others.advice(seen, "br0") == []
    steps = bridge.up(NET, "ab", forwarding.Outward(1500, {}), seen).steps
    [admit] = [step for step in steps if isinstance(step, others.Admit)]
    assert 'insert rule ip filter DOCKER-USER iifname "br0" counter accept comment "minidocker:ab:3fa9c1d2e4b5"' in admit.shell()
    assert not any(isinstance(step, others.Admit) for step in bridge.up(NET, "ab", forwarding.Outward(1500, {}), ALONE).steps)


def test_a_hook_of_a_docker_that_drops_nothing_is_left_alone() -> None:
    assert not others.Seen([base("ip", "filter", "FORWARD", "accept"), plain("filter", "DOCKER-USER")], "ab").hook


DROPS = "of another firewall drops what containers of `br0` send; to let it pass:"


@pytest.mark.parametrize(
    ("ruleset", "says"),
    [
        ([base("ip", "filter", "FORWARD", "drop")],
         f"ip filter FORWARD {DROPS} iptables -I FORWARD -i br0 -j ACCEPT && iptables -I FORWARD -o br0 -j ACCEPT"),
        ([base("ip", "filter", "FORWARD", "drop"), plain("filter", "ufw-before-forward")],
         f"ip filter FORWARD {DROPS} ufw route allow in on br0 && ufw route allow out on br0"),
        ([base("inet", "firewalld", "filter_FORWARD", "accept"),
          rule("inet", "firewalld", "filter_FORWARD", {"jump": {"target": "x"}}),
          rule("inet", "firewalld", "filter_FORWARD", {"counter": None}, {"reject": {"type": "icmpx"}})],
         f"inet firewalld filter_FORWARD {DROPS} firewall-cmd --zone=trusted --add-interface=br0"),
        ([base("inet", "mine", "through", "drop")],
         f"inet mine through {DROPS} nft insert rule inet mine through iifname br0 accept && "
         "nft insert rule inet mine through oifname br0 accept"),
    ],
)  # fmt: skip
def test_another_firewall_that_drops_is_named_with_what_to_type(ruleset: list[dict[str, object]], says: str) -> None:
    assert others.advice(others.Seen(ruleset, "ab"), "br0") == [says]


REFUSES = "of another firewall drops what containers of `br0` ask this host, their DNS among it; to let that pass:"


@pytest.mark.parametrize(
    ("ruleset", "says"),
    [
        ([base("ip", "filter", "INPUT", "drop", "input")],
         f"ip filter INPUT {REFUSES} iptables -I INPUT -i br0 -p udp --dport 53 -j ACCEPT && "
         "iptables -I INPUT -i br0 -p tcp --dport 53 -j ACCEPT"),
        ([base("ip", "filter", "INPUT", "drop", "input"), plain("filter", "ufw-before-forward")],
         f"ip filter INPUT {REFUSES} ufw allow in on br0 to any port 53"),
        ([base("inet", "firewalld", "filter_INPUT", "accept", "input"), rule("inet", "firewalld", "filter_INPUT", {"drop": None})],
         f"inet firewalld filter_INPUT {REFUSES} firewall-cmd --zone=trusted --add-interface=br0"),
        ([base("inet", "mine", "in", "drop", "input")],
         f"inet mine in {REFUSES} nft insert rule inet mine in iifname br0 meta l4proto {{ tcp, udp }} th dport 53 accept"),
    ],
)  # fmt: skip
def test_a_firewall_that_keeps_containers_from_this_host_is_named_too(ruleset: list[dict[str, object]], says: str) -> None:
    assert others.advice(others.Seen(ruleset, "ab"), "br0") == [says]


def comes_in_by(name: str) -> dict[str, object]:
    return {"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": name}}


def test_a_firewall_that_has_a_rule_for_the_bridge_is_not_named_again() -> None:
    closed = base("inet", "mine", "in", "drop", "input")
    admits = rule("inet", "mine", "in", comes_in_by("br0"), {"accept": None})
    assert others.advice(others.Seen([closed, admits], "ab"), "br0") == []
    for other in (
        rule("inet", "mine", "in", comes_in_by("br1"), {"accept": None}), rule("inet", "mine", "in", comes_in_by("br0"), {"drop": None}),
        rule("inet", "another", "in", comes_in_by("br0"), {"accept": None}),
    ):  # fmt: skip
        assert len(others.advice(others.Seen([closed, other], "ab"), "br0")) == 1


ACCEPTS = ({"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "br0"}}, {"accept": None})
LEADS = ({"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "br0"}}, {"goto": {"target": "trusted"}})


@pytest.mark.parametrize(
    ("rules", "silent"),
    [
        ([rule("inet", "mine", "through", *ACCEPTS)], True),
        ([rule("inet", "mine", "through", {"jump": {"target": "more"}}), rule("inet", "mine", "more", *ACCEPTS)], True),
        ([rule("inet", "mine", "through", *LEADS), rule("inet", "mine", "trusted", {"counter": None}, {"accept": None})], True),
        ([rule("inet", "mine", "through", *LEADS), rule("inet", "mine", "trusted", {"drop": None})], False),
        ([rule("inet", "mine", "elsewhere", *ACCEPTS)], False),
        ([rule("inet", "other", "through", *ACCEPTS)], False),
    ],
)
def test_who_lets_the_bridge_pass_already_is_not_told_to(rules: list[dict[str, object]], silent: bool) -> None:
    """By a rule of that chain, or of one that it leads to; a rule of another chain, at another hook, lets nothing pass here."""
    seen = others.Seen([base("inet", "mine", "through", "drop"), *rules], "ab")
    assert (others.advice(seen, "br0") == []) == silent


def test_what_passes_is_not_named() -> None:
    ruleset = [
        base("inet", "a", "through", "accept"), rule("inet", "a", "through", {"match": {}}, {"drop": None}),
        base("inet", "minidocker_ab", "forward", "drop"),
        base("bridge", "b", "through", "drop"), plain("filter", "x"),
    ]  # fmt: skip
    assert others.advice(others.Seen(ruleset, "ab"), "br0") == []
