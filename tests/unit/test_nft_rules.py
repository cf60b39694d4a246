"""The nftables table's text, published ports as its elements, and which ports meet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidocker.network import bridge, endpoint, firewall, others, publish
from minidocker.spec import config
from minidocker.spec.records import Endpoint, Network, Port

NET = Network("3fa9c1d2e4b5", "br0", "172.17.0.0/24", "172.17.0.1", "br0")
ALONE = others.Seen([], "ab")
PORTS = st.builds(Port, st.integers(1, 3), st.just(80), st.sampled_from(["", "0.0.0.0", "127.0.0.1", "192.0.2.1"]),
                  st.sampled_from(["tcp", "udp"]))


def test_a_network_is_a_few_elements() -> None:
    assert firewall.network_elements("ab", NET) == [
        'bridges { "br0" }', 'same { "br0" . "br0" }', "subnets { 172.17.0.0/24 }", 'own { "br0" . 172.17.0.0/24 }']
    inner = Network("3fa9c1d2e4b5", "in", "10.0.0.0/24", "10.0.0.1", "br1", internal=True)
    assert firewall.network_elements("ab", inner)[-1] == 'internal { "br1" }'


def test_published_ports_are_exact_matches() -> None:
    assert publish.elements([Port(8080, 80), Port(53, 5353, "127.0.0.1", "udp"), Port(1, 2, "0.0.0.0")], "172.17.0.2") == [
        "ports { tcp . 8080 : 172.17.0.2 . 80 }",
        "ports_at { 127.0.0.1 . udp . 53 : 172.17.0.2 . 5353 }",
        "ports { tcp . 1 : 172.17.0.2 . 2 }",
    ]


def test_nothing_published_means_no_transaction() -> None:
    place = Endpoint("br0", "c" * 64, "one", "172.17.0.2", "02:42:ac:11:00:02")
    assert not any(isinstance(step, firewall.Rules) for step in endpoint.attach(NET, "ab", place).steps)
    assert not any(isinstance(step, firewall.Remove) for step in endpoint.detach(NET, "ab", place).steps)


def test_a_thousand_ports_are_one_transaction() -> None:
    place = Endpoint("br0", "c" * 64, "one", "172.17.0.2", "02:42:ac:11:00:02", ports=[Port(n, n) for n in range(1, 1001)])
    rules = [step for step in endpoint.attach(NET, "ab", place).steps if isinstance(step, firewall.Rules)]
    assert len(rules) == 1
    assert rules[0].script.count("\n") == 1000


@pytest.mark.parametrize(("host_ip", "set_there"), [("", True), ("0.0.0.0", True), ("127.0.0.1", True), ("192.0.2.1", False)])
def test_route_localnet_only_where_loopback_needs_it(host_ip: str, set_there: bool) -> None:
    place = Endpoint("br0", "c" * 64, "one", "172.17.0.2", "02:42:ac:11:00:02", ports=[Port(80, 80, host_ip)])
    assert any("route_localnet" in step.shell() for step in endpoint.attach(NET, "ab", place).steps) == set_there


def test_denying_comes_before_forwarding() -> None:
    steps = bridge.up(NET, "ab", bridge.Observed(1500, {"net/ipv4/conf/lan0/forwarding": "0"}, ALONE)).steps
    said = [step.shell() for step in steps]
    rules = next(i for i, text in enumerate(said) if text.startswith("nft"))
    assert all(i > rules for i, text in enumerate(said) if "forwarding" in text and text.startswith("sysctl"))
    assert all(step.why and step.title == "network" for step in steps)
    assert '"lan0"' in said[rules]


def test_an_uplink_that_forwarded_before_is_neither_set_nor_guarded_nor_restored() -> None:
    before = {"net/ipv4/conf/lan0/forwarding": "1"}
    text = "\n".join(step.shell() for step in bridge.up(NET, "ab", bridge.Observed(1500, before, ALONE)).steps)
    assert "lan0" not in text
    assert "lan0" not in "\n".join(step.shell() for step in bridge.down(NET, "ab", before, last=True).steps)


def test_an_uplink_with_dots_in_its_name() -> None:
    assert bridge.guarded({"net/ipv4/conf/eth0.100/forwarding": "0", "net/ipv4/conf/eth1/forwarding": "1"}) == ["eth0.100"]


def test_the_bridges_mac_is_unicast_and_of_the_network() -> None:
    assert bridge.bridge_mac(NET) == "3e:a9:c1:d2:e4:b5"
    assert bridge.bridge_mac(Network("ffffffffffff", "x", "", "", "x")) == "fe:ff:ff:ff:ff:ff"


def test_a_rebuilt_table_starts_from_nothing() -> None:
    place = Endpoint("br0", "c" * 64, "one", "172.17.0.2", "02:42:ac:11:00:02", ports=[Port(8080, 80)])
    script = firewall.rebuilt("ab", [NET], ["lan0"], [place])
    assert script.startswith("add table inet minidocker_ab\ndelete table inet minidocker_ab\nadd table inet minidocker_ab\n")
    assert script.endswith("add element inet minidocker_ab ports { tcp . 8080 : 172.17.0.2 . 80 }\n")


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


@given(st.lists(PORTS, max_size=4), st.lists(PORTS, max_size=4))
def test_conflict_is_pairwise_overlap(wanted: list[Port], held: list[Port]) -> None:
    def meet(a: Port, b: Port) -> bool:
        every = ("", "0.0.0.0")
        return (a.protocol, a.host_port) == (b.protocol, b.host_port) and (
            a.host_ip in every or b.host_ip in every or a.host_ip == b.host_ip)

    expected = any(meet(w, h) for w in wanted for h in held) or any(meet(a, b) for i, a in enumerate(wanted) for b in wanted[:i])
    assert (publish.conflict(wanted, [(h, "x") for h in held]) is not None) == expected


def base(family: str, table: str, chain: str, policy: str) -> dict[str, object]:
    return {"chain": {"family": family, "table": table, "name": chain, "hook": "forward", "type": "filter", "policy": policy}}


def plain(table: str, chain: str) -> dict[str, object]:
    return {"chain": {"family": "ip", "table": table, "name": chain}}


def rule(family: str, table: str, chain: str, *expr: dict[str, object]) -> dict[str, object]:
    return {"rule": {"family": family, "table": table, "chain": chain, "expr": list(expr)}}


def test_docker_alone_needs_its_hook_and_no_advice() -> None:
    seen = others.Seen([base("ip", "filter", "FORWARD", "drop"), plain("filter", "DOCKER-USER")], "ab")
    assert seen.hook and others.advice(seen, "br0") == []
    steps = bridge.up(NET, "ab", bridge.Observed(1500, {}, seen)).steps
    [admit] = [step for step in steps if isinstance(step, others.Admit)]
    assert 'insert rule ip filter DOCKER-USER iifname "br0" counter accept comment "minidocker:ab:3fa9c1d2e4b5"' in admit.shell()
    assert not any(isinstance(step, others.Admit) for step in bridge.up(NET, "ab", bridge.Observed(1500, {}, ALONE)).steps)


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


def test_what_passes_is_not_named() -> None:
    ruleset = [
        base("inet", "a", "through", "accept"), rule("inet", "a", "through", {"match": {}}, {"drop": None}),
        base("inet", "minidocker_ab", "forward", "drop"),
        base("bridge", "b", "through", "drop"), plain("filter", "x"),
    ]  # fmt: skip
    assert others.advice(others.Seen(ruleset, "ab"), "br0") == []
