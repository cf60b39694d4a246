"""What a container takes before it is: addresses in each of its networks, the way out, ports; and what is shown of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from minidocker.engine import design, host, leases, listing
from minidocker.engine.leases import Owner
from minidocker.errors import ConflictError, MinidockerError, NotFoundError, UsageError
from minidocker.network import publish
from minidocker.spec.records import MACVLAN, PTP, Endpoint, Network, Port
from minidocker.spec.request import Attachment, NetworkRequest, RunRequest
from minidocker.storage import containers, networks
from minidocker.storage.state import State

FRONT = Network("0123456789ab", "front", "10.9.0.0/24", "10.9.0.1", "br9", subnet6="fd00:9::/64", gateway6="fd00:9::1", created=1.0)
BACK = Network("0123456789ac", "back", "10.8.0.0/29", "10.8.0.1", "br8", internal=True, created=2.0)
PLAIN = Network("0123456789ad", "plain", "10.7.0.0/24", "10.7.0.1", "br7", ip_range="10.7.0.128/25", created=3.0)
CABLE = Network("0123456789ae", "cable", "10.6.0.0/30", "", "", PTP, internal=True, created=4.0)
WIRE = Network("0123456789af", "wire", "10.5.0.0/24", "10.5.0.1", "", MACVLAN, parent="lan0", created=5.0)


class Host:
    """As much of the engine's host as is looked at."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.taken = 0

    def take(self, *attachments: Attachment | str, previous: dict[str, str] | None = None, **more: object) -> list[leases.Link]:
        """What a container in these networks gets; recorded, as its record is first."""
        self.taken += 1
        owner = Owner(f"{self.taken:064x}", f"c{self.taken}", previous=previous)
        request = RunRequest(["true"])
        request.networks = [Attachment(one) if isinstance(one, str) else one for one in attachments]
        for key, value in more.items():
            setattr(request, key, value)
        with self.state.transaction():
            containers.insert(self.state, owner.id, owner.name, request, "boot", 1.0)
            return leases.take(self, request, owner)  # type: ignore[arg-type]


@pytest.fixture
def state_(tmp_path: Path) -> Iterator[State]:
    opened = State(str(tmp_path / "state.db"))
    for network in (FRONT, BACK, PLAIN, CABLE, WIRE):
        networks.insert(opened, network)
    yield opened
    opened.close()


@pytest.fixture
def here(state_: State, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Where the wire is nobody's and every port is free."""
    monkeypatch.setattr(leases, "_strangers", lambda network: set())
    monkeypatch.setattr(publish, "check_unheld", lambda *words: None)
    return Host(state_)


def places(links: list[leases.Link]) -> list[tuple[str, str, str, str, bool]]:
    return [(link.endpoint.network, link.endpoint.interface, link.endpoint.ip, link.endpoint.ip6, link.default) for link in links]


def test_an_address_of_each_family_in_each_network(here: Host) -> None:
    assert places(here.take("back", "front", "cable")) == [
        ("back", "eth0", "10.8.0.2", "", False), ("front", "eth1", "10.9.0.2", "fd00:9::a09:2", True),
        ("cable", "eth2", "10.6.0.1", "", False)]
    assert places(here.take("front")) == [("front", "eth0", "10.9.0.3", "fd00:9::a09:3", True)]
    assert places(here.take("plain"))[0][2] == "10.7.0.128", "from the range"


def test_by_id_as_well_and_not_twice(here: Host) -> None:
    assert places(here.take("0123456789ab"))[0][0] == "front"
    with pytest.raises(UsageError, match="network `front` is given twice, by name and by id"):
        here.take("front", "0123456789ab")
    assert containers.count_in(here.state, "front") == 1, "and nothing is left of it"
    with pytest.raises(NotFoundError, match="no such network: frnt") as caught:
        here.take("frnt")
    assert caught.value.hint == "did you mean front?"


@pytest.mark.parametrize(
    ("attachments", "default"),
    [
        (["plain", "front"], "plain"),
        ([Attachment("plain", priority=-1), Attachment("front")], "front"),
        ([Attachment("plain"), Attachment("wire", priority=1)], "wire"),
        ([Attachment("back", priority=9), Attachment("cable", priority=9), Attachment("plain", priority=-9)], "plain"),
        (["back", "cable"], ""),
    ],
)
def test_the_way_out_is_by_one_of_them(here: Host, attachments: list[Attachment | str], default: str) -> None:
    assert [link.network.name for link in here.take(*attachments) if link.default] == [default][: bool(default)]


def test_what_is_chosen_is_had_and_passed_over_by_others(here: Host) -> None:
    [link] = here.take(Attachment("front", "10.9.0.7", "fd00:9::99", "02:42:0a:09:00:02", ["db"]), hostname="h")
    assert (link.endpoint.ip, link.endpoint.ip6, link.endpoint.mac, link.endpoint.aliases) == (
        "10.9.0.7", "fd00:9::99", "02:42:0a:09:00:02", ["db"])
    here.take(Attachment("front", ip6="fd00:9::a09:9"))
    got = [here.take("front")[0].endpoint.ip for _ in range(300 - 60)]
    assert "10.9.0.2" not in got, "its MAC would be the one that somebody chose"
    assert "10.9.0.9" not in got, "its IPv6 address would be"
    assert "10.9.0.7" not in got and len(set(got)) == len(got)


def test_the_one_it_had_before_where_it_is_free(here: Host) -> None:
    here.take("back")  # has 10.8.0.2 by now
    links = here.take("front", "back", previous={"front": "10.9.0.77", "back": "10.8.0.2"})
    assert [link.endpoint.ip for link in links] == ["10.9.0.77", "10.8.0.3"]
    [link] = here.take(Attachment("front", "10.9.0.88"), previous={"front": "10.9.0.78"})
    assert link.endpoint.ip == "10.9.0.88", "what is asked for goes before"


def test_one_that_is_of_the_network_no_more_is_not_had_again(here: Host) -> None:
    """The network was removed while nobody ran in it, and made anew with another subnet, gateway or range."""
    for previous in ("10.77.0.5", "10.8.0.1", "10.8.0.0"):
        [link] = here.take("back", previous={"back": previous})
        assert link.endpoint.ip in ("10.8.0.2", "10.8.0.3", "10.8.0.4")


def test_one_whose_mac_or_ipv6_address_somebody_has_by_now_is_not_had_again(here: Host) -> None:
    here.take(Attachment("front", mac="02:42:0a:09:00:4d"), Attachment("plain"))
    here.take(Attachment("front", ip6="fd00:9::a09:4e"))
    for previous in ("10.9.0.77", "10.9.0.78"):
        [link] = here.take("front", previous={"front": previous})
        assert link.endpoint.ip != previous


@pytest.mark.parametrize(
    ("attachment", "message"),
    [
        (Attachment("back", ip6="fd00:9::9"), "network `back` has no IPv6 for --ip6 fd00:9::9"),
        (Attachment("front", ip6="fd00:8::9"), "address `fd00:8::9` is not a host address of subnet fd00:9::/64"),
        (Attachment("front", ip6="fd00:9::1"), "address `fd00:9::1` is the gateway of subnet fd00:9::/64"),
        (Attachment("front", "10.9.0.1"), "address `10.9.0.1` is the gateway of subnet 10.9.0.0/24"),
        (Attachment("front", "10.9.1.1"), "address `10.9.1.1` is outside of subnet 10.9.0.0/24"),
        (Attachment("front", "10.9.0.50"), "address 10.9.0.50 is in use by container `c1`"),
        (Attachment("front", ip6="fd00:9::50"), "address fd00:9::50 is in use by container `c1`"),
        (Attachment("front", mac="02:42:00:00:00:50"), "the MAC address 02:42:00:00:00:50 is in use by container `c1`"),
    ],
)
def test_what_cannot_be_had_is_refused_and_leaves_nothing(here: Host, attachment: Attachment, message: str) -> None:
    here.take(Attachment("front", "10.9.0.50", "fd00:9::50", "02:42:00:00:00:50"))
    with pytest.raises(MinidockerError) as caught:
        here.take("back", attachment) if attachment.name != "back" else here.take(attachment)
    assert caught.value.message == message
    assert (containers.count_in(here.state, "front"), containers.count_in(here.state, "back")) == (1, 0)
    assert len(containers.every(here.state)) == 1


def test_a_cable_is_for_two(here: Host) -> None:
    assert [here.take("cable")[0].endpoint.ip for _ in range(2)] == ["10.6.0.1", "10.6.0.2"]
    with pytest.raises(ConflictError, match="network `cable` joins two containers, and has two"):
        here.take("cable")


def test_a_full_network_is_said(here: Host) -> None:
    for _ in range(5):
        here.take("back")
    with pytest.raises(ConflictError) as caught:
        here.take("back")
    assert caught.value.message == "subnet 10.8.0.0/29 is full: all of its 5 addresses for containers are in use"


# --- ports ------------------------------------------------------------------------------------------------------------------------------


def test_ports_are_at_the_way_out(here: Host) -> None:
    links = here.take("back", Attachment("plain", priority=-1), "front", publish=[Port(80, 80)])
    assert [link.endpoint.ports for link in links] == [[], [], [Port(80, 80)]]
    assert [place.ports for place in next(iter(containers.endpoints(here.state).values()))] == [[], [], [Port(80, 80)]]


NEEDS = "-p needs a bridge network with a way out for the default route, and"


@pytest.mark.parametrize(
    ("attachments", "message"),
    [
        (["back"], f"{NEEDS} `back` is internal"),
        (["cable"], f"{NEEDS} `cable` is a cable between two containers"),
        (["wire"], f"{NEEDS} `wire` is on a wire where all its ports are reached anyway"),
        ([Attachment("wire", priority=1), "front"],
         f"{NEEDS} `wire` is on a wire where all its ports are reached anyway, `front` is a bridge"),
        ([], f"{NEEDS} there is no network"),
    ],
)
def test_without_such_a_network_they_are_refused(here: Host, attachments: list[Attachment | str], message: str) -> None:
    for publish_, all_ in (([Port(80, 80)], False), ([], True)):
        with pytest.raises(UsageError) as caught:
            here.take(*attachments, publish=publish_, publish_all=all_, expose=[(80, "tcp")])
        assert caught.value.message == message
    assert containers.ports(here.state) == {} and containers.every(here.state) == []


def test_all_that_is_exposed_on_free_ports(here: Host) -> None:
    [link] = here.take("front", publish=[Port(80, 80)], publish_all=True, expose=[(80, "tcp"), (80, "udp"), (53, "udp")])
    first, *rest = link.endpoint.ports
    assert first == Port(80, 80)
    assert [(port.container_port, port.protocol, port.host_ip) for port in rest] == [(80, "udp", ""), (53, "udp", "")]
    assert all(32768 <= port.host_port < 61000 for port in rest) and len({port.host_port for port in rest}) == 2


def test_one_of_a_range_the_first_that_is_free(here: Host) -> None:
    def taken(*asked: Port) -> list[tuple[int, int]]:
        return [(port.host_port, port.host_last) for port in here.take("front", publish=list(asked))[0].endpoint.ports]

    assert taken(Port(8000, 80, "127.0.0.1", "tcp", 8002)) == [(8000, 0)]
    assert taken(Port(8000, 80, host_last=8002), Port(8001, 81)) == [(8002, 0), (8001, 0)], "what is named goes first"
    assert taken(Port(8000, 80, "192.0.2.1", "tcp", 8002)) == [(8000, 0)], "another address's"
    assert taken(Port(8000, 80, "", "udp", 8002)) == [(8000, 0)], "another protocol's"
    with pytest.raises(ConflictError) as caught:
        taken(Port(8000, 80, "", "tcp", 8002))
    assert (caught.value.message, caught.value.hint) == ("no host port is free between 8000 and 8002", "name one: -p HOSTPORT:PORT")


def test_ipv6_needs_a_network_with_it(here: Host) -> None:
    with pytest.raises(UsageError, match=r"publish \[::\]:80->80/tcp: network `plain` has no IPv6"):
        here.take("plain", publish=[Port(80, 80, "::")])
    assert here.take("front", publish=[Port(80, 80, "::")])[0].endpoint.ports == [Port(80, 80, "::")]


# --- what is shown ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host_ip", "ip6", "addresses"),
    [
        ("", "", ["0.0.0.0"]), ("", "fd00:9::2", ["0.0.0.0", "::"]), ("0.0.0.0", "fd00:9::2", ["0.0.0.0"]), ("::", "fd00:9::2", ["::"]),
        ("127.0.0.1", "fd00:9::2", ["127.0.0.1"]),
    ],
)
def test_a_port_of_every_address_is_shown_for_each_family_there_is(host_ip: str, ip6: str, addresses: list[str]) -> None:
    place = Endpoint("front", "a" * 64, "a", "10.9.0.2", "02:42:0a:09:00:02", ip6=ip6)
    assert listing.shown([Port(8080, 80, host_ip)], place) == [Port(8080, 80, address) for address in addresses]
    assert listing.shown([Port(8080, 80)], None) == [Port(8080, 80, "0.0.0.0")]


# --- a network that is there already ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "same"),
    [
        ({}, True),
        ({"subnet": "10.9.0.0/24", "subnet6": "fd00:9::/64", "gateway": "10.9.0.1", "gateway6": "fd00:9::1", "bridge": "br9"}, True),
        ({"ipv6": False}, False), ({"subnet": "10.9.1.0/24"}, False), ({"subnet6": "fd00:8::/64"}, False), ({"gateway": "10.9.0.2"}, False),
        ({"bridge": "br0"}, False), ({"driver": "ptp"}, False), ({"internal": True}, False), ({"isolated": True}, False),
        ({"mtu": 1400}, False), ({"labels": {"a": "b"}}, False), ({"ip_range": "10.9.0.0/25"}, False), ({"gateway6": "fd00:9::2"}, False),
    ],
)
def test_whether_it_is_what_is_asked_for(asked: dict[str, object], same: bool) -> None:
    request = NetworkRequest("front")
    request.ipv6 = True
    for name, value in asked.items():
        setattr(request, name, value)
    assert design.identical(FRONT, request) == same


def test_a_lock_that_is_passed_on_is_held_as_long_as_anybody_has_it(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    assert not host.is_locked(path)
    (tmp_path / "lock").write_text("17")
    assert not host.is_locked(path)
    mine = host.pass_on_lock(path)
    assert host.is_locked(path) and (tmp_path / "lock").read_text() == ""
    with pytest.raises(BlockingIOError):
        host.pass_on_lock(path)
    theirs = os.dup(mine)
    os.close(mine)
    assert host.is_locked(path), "whoever looked has not let go of it"
    os.close(theirs)
    assert not host.is_locked(path)
    os.close(host.pass_on_lock(path))
