"""Tracked flows of both families, listed, chosen and forgotten, over the pretend host's own loopback."""

from __future__ import annotations

import socket
from _socket import AF_INET, AF_INET6
from collections.abc import Iterator

import pytest

from minidocker.kernel import conntrack
from minidocker.network.flows import Forget
from minidocker.plan import At
from minidocker.spec.records import Endpoint, Port
from tests.pretend import sh

# the host's addresses, and the container's: all of them are the loopback's, and what is sent to port 53 is led from there to 5300
HOST, HOST6, CONTAINER, CONTAINER6 = "192.0.2.1", "2001:db8::1", "172.17.0.2", "fd00::2"


@pytest.fixture(autouse=True)
def tracking() -> Iterator[None]:
    conntrack.delete(conntrack.flows())  # what other tests left
    for address in (HOST, HOST6, CONTAINER, CONTAINER6):
        sh(f"ip addr add {address} dev lo")
    sh(f"""nft -f - <<'END'
table inet probe {{
	chain output {{ type nat hook output priority -100
		ip daddr {HOST} udp dport 53 dnat ip to {CONTAINER}:5300
		ip6 daddr {HOST6} udp dport 53 dnat ip6 to [{CONTAINER6}]:5300
	}}
}}
END""")
    yield
    conntrack.delete(conntrack.flows())
    sh("nft delete table inet probe")
    for address in (HOST, HOST6, CONTAINER, CONTAINER6):
        sh(f"ip addr del {address} dev lo")


def send(address: str, port: int) -> None:
    with socket.socket(AF_INET6 if ":" in address else AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"?", (address, port))


def tracked(family: int = socket.AF_UNSPEC) -> set[tuple[int, str, int, str, int]]:
    return {(it.family, it.to, it.to_port, it.answered_by, it.answered_by_port)
            for it in conntrack.flows(family) if it.protocol == conntrack.UDP}


def test_flows_of_both_families_are_listed_and_forgotten() -> None:
    for address in (HOST, HOST6):
        for port in (53, 54):
            send(address, port)
    four = {(AF_INET, HOST, 53, CONTAINER, 5300), (AF_INET, HOST, 54, HOST, 54)}
    six = {(AF_INET6, HOST6, 53, CONTAINER6, 5300), (AF_INET6, HOST6, 54, HOST6, 54)}
    assert tracked(AF_INET) == four
    assert tracked(AF_INET6) == six
    assert tracked() == four | six
    doomed = [it for it in conntrack.flows() if it.protocol == conntrack.UDP and it.to_port == 53]
    conntrack.delete(doomed)
    conntrack.delete(doomed)  # gone already
    assert tracked() == {(AF_INET, HOST, 54, HOST, 54), (AF_INET6, HOST6, 54, HOST6, 54)}


@pytest.mark.parametrize(("ip6", "host_ip", "left"), [
    (CONTAINER6, "", set()), ("", "", {HOST6}), (CONTAINER6, "0.0.0.0", {HOST6}), (CONTAINER6, "::", {HOST}),
    (CONTAINER6, HOST, {HOST6}), (CONTAINER6, HOST6, {HOST}),
])  # fmt: skip
def test_what_a_container_leaves_behind_is_forgotten(ip6: str, host_ip: str, left: set[str]) -> None:
    """Port 54 is published, too, after its senders began: their flows are led past the container."""
    for address in (HOST, HOST6):
        for port in (54, 55):
            send(address, port)
    ports = [Port(54, 5400, host_ip, "udp")]
    Forget(Endpoint("br0", "e" * 64, "web", CONTAINER, "02:42:ac:11:00:02", ports=ports, ip6=ip6)).apply(At())
    assert {to for _, to, port, _, _ in tracked() if port == 54} == left
    assert {to for _, to, port, _, _ in tracked() if port == 55} == {HOST, HOST6}
    for address in (HOST, HOST6):
        send(address, 53)
    Forget(Endpoint("br0", "e" * 64, "web", CONTAINER, "02:42:ac:11:00:02", ports=[Port(99, 5300, "", "udp")], ip6=ip6)).apply(At())
    assert {to for _, to, port, _, _ in tracked() if port == 53} == (set() if ip6 else {HOST6})
