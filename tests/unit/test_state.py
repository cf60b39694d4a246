"""state.db: what its constraints forbid, how it grows up, and what is said when the file or the disk is not as it should be."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minidocker.errors import ConflictError, MinidockerError, NotFoundError, StateError
from minidocker.network import publish
from minidocker.spec.near import distance, near
from minidocker.spec.records import MACVLAN, PTP, Endpoint, Network, Port
from minidocker.spec.request import Attachment, RunRequest
from minidocker.storage import containers, networks
from minidocker.storage import state as state_module
from minidocker.storage.state import MIGRATIONS, State
from tests import pretend
from tests.unit.test_request import OLD

BR0 = Network("0123456789ab", "br0", "172.17.0.0/24", "172.17.0.1", "br0", labels={"a": "b"}, created=5.0)
SIX = Network("0123456789af", "six", "10.9.0.0/24", "10.9.0.1", "br6", mtu=1400, internal=False, created=6.0, subnet6="fd00:9::/64",
              gateway6="fd00:9::1", ip_range="10.9.0.128/25", isolated=True)  # fmt: skip
WIRE = Network("0123456789b0", "wire", "192.0.2.0/24", "192.0.2.9", "", MACVLAN, internal=True, created=7.0, parent="eth0", mode="vepa")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system of its own")


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    opened = State(str(tmp_path / "state.db"))
    yield opened
    opened.close()


@contextlib.contextmanager
def disk(at: Path, options: str = "size=1m") -> Iterator[Path]:
    """A file system of its own, small enough to be filled."""
    at.mkdir(exist_ok=True)
    pretend.sh(f"mount -t tmpfs -o {options} tmpfs {at}")
    try:
        yield at
    finally:
        pretend.sh(f"umount -l {at}")


def fill(directory: Path) -> None:
    """Leave no room at all."""
    with (directory / "filler").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))


def add(state: State, id: str, name: str, **attributes: object) -> containers.Record:
    request = RunRequest(["true"])
    for attribute, value in attributes.items():
        setattr(request, attribute, value)
    containers.insert(state, id, name, request, "boot", 1.0)
    record = containers.get(state, id)
    assert record is not None
    return record


def endpoint(network: str, letter: str, ip: str, number: int = 0, **more: object) -> Endpoint:
    """A place of the container called `letter`."""
    mac = f"02:42:{bytes(map(int, ip.split('.'))).hex(':')}"
    return Endpoint(network, letter * 64, letter, ip, mac, interface=f"eth{number}", **more)  # type: ignore[arg-type]


# --- what is taken is taken -----------------------------------------------------------------------------------------------------------


def test_a_name_has_one_owner(state: State) -> None:
    add(state, "a" * 64, "web")
    with pytest.raises(ConflictError) as caught:
        add(state, "b" * 64, "web")
    assert caught.value.message == "the name `web` is in use by container aaaaaaaaaaaa"
    assert [record.id for record in containers.every(state)] == ["a" * 64]


def test_the_constraint_holds_where_the_question_is_not_asked(state: State) -> None:
    add(state, "a" * 64, "web")
    with pytest.raises(ConflictError):
        state.change("INSERT INTO containers (id, name, status, request, boot, created) VALUES ('x', 'web', 'running', '{}', '', 0)")


def test_an_address_and_a_mac_have_one_owner_in_each_network(state: State) -> None:
    networks.insert(state, BR0)
    networks.insert(state, Network("0123456789ac", "two", "172.17.1.0/24", "172.17.1.1", "two"))
    for letter in "abcd":
        add(state, letter * 64, letter)
    containers.add_endpoint(state, Endpoint("br0", "a" * 64, "a", "172.17.0.2", "02:42:ac:11:00:02"))
    containers.add_endpoint(state, Endpoint("two", "d" * 64, "d", "172.17.1.2", "02:42:ac:11:00:02"))  # another wire, the same MAC
    with pytest.raises(ConflictError) as ip:
        containers.add_endpoint(state, Endpoint("br0", "b" * 64, "b", "172.17.0.2", "02:42:ac:11:00:03"))
    assert ip.value.message == "address 172.17.0.2 is in use by container `a`"
    with pytest.raises(ConflictError) as mac:
        containers.add_endpoint(state, Endpoint("br0", "c" * 64, "c", "172.17.0.4", "02:42:ac:11:00:02"))
    assert mac.value.message == "the MAC address 02:42:ac:11:00:02 is in use by container `a`"
    assert containers.taken(state, "br0", "ip") == {"172.17.0.2"}
    assert containers.taken(state, "br0", "mac") == {"02:42:ac:11:00:02"}
    assert networks.last_ip(state, "br0") == "172.17.0.2"


def test_an_ipv6_address_has_one_owner_and_none_is_no_address(state: State) -> None:
    networks.insert(state, SIX)
    for letter in "abcd":
        add(state, letter * 64, letter)
    containers.add_endpoint(state, endpoint("six", "a", "10.9.0.2", ip6="fd00:9::2"))
    with pytest.raises(ConflictError) as taken:
        containers.add_endpoint(state, endpoint("six", "b", "10.9.0.3", ip6="fd00:9::2"))
    assert (taken.value.message, taken.value.hint) == (
        "address fd00:9::2 is in use by container `a`", "take another, or leave --ip6 out")
    for letter, ip in (("c", "10.9.0.4"), ("d", "10.9.0.5")):
        containers.add_endpoint(state, endpoint("six", letter, ip))
    assert containers.taken(state, "six", "ip6") == {"fd00:9::2", ""}
    assert containers.taken(state, "six", "ip") == {"10.9.0.2", "10.9.0.4", "10.9.0.5"}, "the refused one has left nothing"


def test_an_interface_is_in_one_network(state: State) -> None:
    for network in (BR0, SIX):
        networks.insert(state, network)
    add(state, "a" * 64, "a")
    containers.add_endpoint(state, endpoint("br0", "a", "172.17.0.2"))
    with pytest.raises(ConflictError):
        containers.add_endpoint(state, endpoint("six", "a", "10.9.0.2"))
    containers.add_endpoint(state, endpoint("six", "a", "10.9.0.2", 1))
    with pytest.raises(ConflictError):
        containers.add_endpoint(state, endpoint("six", "a", "10.9.0.3", 2))
    assert containers.count_in(state, "six") == 1
    containers.remove_endpoint(state, "a" * 64, "br0")
    assert [place.interface for place in containers.endpoints(state)["a" * 64]] == ["eth1"], "the other keeps its name"


def test_what_is_half_connected_is_told(state: State) -> None:
    networks.insert(state, BR0)
    networks.insert(state, SIX)
    add(state, "a" * 64, "a")
    containers.add_endpoint(state, endpoint("br0", "a", "172.17.0.2"))
    assert containers.half_connected(state) == []
    containers.add_endpoint(state, endpoint("six", "a", "10.9.0.2", 1), connecting=True)
    assert containers.half_connected(state) == [("a" * 64, "six")]
    containers.connected(state, "a" * 64, "six")
    assert containers.half_connected(state) == []
    containers.set_connecting(state, "a" * 64, "br0")
    assert containers.half_connected(state) == [("a" * 64, "br0")]


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [
        (Port(80, 80), Port(80, 81), True),
        (Port(80, 80), Port(80, 80, "", "udp"), False),
        (Port(80, 80, "127.0.0.1"), Port(80, 80, "127.0.0.2"), False),
        (Port(80, 80, "127.0.0.1"), Port(80, 80, "127.0.0.1"), True),
        (Port(80, 80), Port(80, 80, "127.0.0.1"), True),
        (Port(80, 80, "127.0.0.1"), Port(80, 80), True),
        (Port(80, 80), Port(81, 80), False),
        (Port(80, 80, "0.0.0.0"), Port(80, 80, "::"), False),
        (Port(80, 80, "0.0.0.0"), Port(80, 80, "127.0.0.1"), True),
        (Port(80, 80, "2001:db8::1"), Port(80, 80, "::"), True),
        (Port(80, 80, "2001:db8::1"), Port(80, 80, "0.0.0.0"), False),
        (Port(80, 80), Port(80, 80, "::"), True),
    ],
)
def test_a_host_port_has_one_owner(state: State, first: Port, second: Port, clash: bool) -> None:
    add(state, "a" * 64, "a")
    add(state, "b" * 64, "b")
    containers.add_ports(state, "a" * 64, [first])
    if clash:
        with pytest.raises(ConflictError, match="is published by container `a` already"):
            containers.add_ports(state, "b" * 64, [second])
    else:
        containers.add_ports(state, "b" * 64, [second])
        assert containers.ports(state) == {"a" * 64: [first], "b" * 64: [second]}


HOST_IPS = ("", "0.0.0.0", "::", "127.0.0.1", "192.0.2.1", "2001:db8::1", "2001:db8::2")
PORTS = st.builds(Port, st.integers(80, 81), st.just(80), st.sampled_from(HOST_IPS), st.sampled_from(("tcp", "udp")))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    """A state with the containers a and b, for tests that roll back what they do."""
    opened = State(str(tmp_path_factory.mktemp("two") / "state.db"))
    for letter in "ab":
        add(opened, letter * 64, letter)
    yield opened
    opened.close()


class _Undone(Exception):
    """Rolls a transaction back."""


@settings(deadline=None)
@given(st.lists(PORTS, max_size=5), st.lists(PORTS, min_size=1, max_size=3))
@example([Port(80, 80, "::")], [Port(80, 80, "0.0.0.0"), Port(80, 80)])  # the other container is named before this one
def test_the_database_knows_as_well_as_we_do_which_ports_meet(two: State, held: list[Port], wanted: list[Port]) -> None:
    fresh: list[Port] = []
    for port in held:
        if publish.conflict([port], [(other, "") for other in fresh]) is None:
            fresh.append(port)
    with pytest.raises(_Undone), two.transaction():
        containers.add_ports(two, "a" * 64, fresh)
        for port in wanted:
            assert containers.port_holder(two, port) == ("a" if publish.conflict([port], [(other, "") for other in fresh]) else "")
        clash = publish.conflict(wanted, [(other, "a") for other in fresh])
        if clash is None:
            containers.add_ports(two, "b" * 64, wanted)
            assert containers.ports(two) == {id: ports for id, ports in (("a" * 64, fresh), ("b" * 64, wanted)) if ports}
        else:
            port, _, owner = clash
            with pytest.raises(ConflictError) as caught:
                containers.add_ports(two, "b" * 64, wanted)
            who = "container `a`" if owner else "this container itself"
            assert caught.value.message == (
                f"port {port.host_port}/{port.protocol} of {port.host_ip or 'all addresses'} is published by {who} already")
        raise _Undone


@pytest.mark.parametrize("one", HOST_IPS)
@pytest.mark.parametrize("other", HOST_IPS)
def test_every_two_addresses(two: State, one: str, other: str) -> None:
    with pytest.raises(_Undone), two.transaction():
        containers.add_ports(two, "a" * 64, [Port(80, 80, one)])
        assert bool(containers.port_holder(two, Port(80, 80, other))) == publish.meet(one, other)
        raise _Undone


# --- whose gateway it is ----------------------------------------------------------------------------------------------------------------


def test_ports_are_at_the_endpoint_that_gives_the_default_route(state: State) -> None:
    inside = Network("0123456789ad", "inside", "10.8.0.0/24", "10.8.0.1", "inside", internal=True)
    cable = Network("0123456789ae", "cable", "10.7.0.0/30", "", "", PTP)
    for network in (BR0, SIX, inside, cable):
        networks.insert(state, network)
    record = add(state, "a" * 64, "a")
    port = Port(80, 80)
    containers.add_ports(state, record.id, [port])

    def publishers(*places: Endpoint) -> list[str]:
        """The interfaces with the ports, of a container with these places."""
        for place in places:
            containers.add_endpoint(state, place)
        found = containers.endpoints(state)[record.id]
        assert [(place.interface, place.network, place.ports) for place in containers.endpoints(state, record)[record.id]] == [
            (place.interface, place.network, place.ports) for place in found], "of one container as of all"
        assert [place.number for place in found] == sorted(place.number for place in found), "eth0 first"
        for place in found:
            containers.remove_endpoint(state, record.id, place.network)
        return [place.interface for place in found if place.ports == [port]]

    br0, six = ("br0", "a", "172.17.0.2"), ("six", "a", "10.9.0.2")
    none, cabled = ("inside", "a", "10.8.0.2"), ("cable", "a", "10.7.0.1")
    assert publishers(endpoint(*br0)) == ["eth0"]
    assert publishers(endpoint(*br0, 1), endpoint(*six)) == ["eth0"], "of equals the first"
    assert publishers(endpoint(*br0), endpoint(*six, 1, priority=1)) == ["eth1"]
    assert publishers(endpoint(*br0, priority=-1), endpoint(*six, 1)) == ["eth1"]
    assert publishers(endpoint(*br0, 10), endpoint(*six, 9)) == ["eth9"], "numbers, not their digits"
    assert publishers(endpoint(*none, priority=9), endpoint(*cabled, 1, priority=9), endpoint(*six, 2)) == ["eth2"]
    assert publishers(endpoint(*none), endpoint(*cabled, 1)) == [], "neither leads out"


@given(st.lists(st.tuples(st.integers(0, 15), st.integers(-2, 2)), unique_by=lambda pair: pair[0]))
def test_the_default_is_the_highest_priority_and_of_equals_the_first(places: list[tuple[int, int]]) -> None:
    found = containers.default([endpoint("n", "a", "10.0.0.2", number, priority=priority) for number, priority in places])
    wanted = sorted(places, key=lambda pair: (-pair[1], pair[0]))[:1]
    assert ([(found.number, found.priority)] if found else []) == wanted


def test_a_container_goes_with_its_lease_and_ports(state: State) -> None:
    networks.insert(state, BR0)
    add(state, "a" * 64, "a")
    containers.add_endpoint(state, Endpoint("br0", "a" * 64, "a", "172.17.0.2", "02:42:ac:11:00:02"))
    containers.add_ports(state, "a" * 64, [Port(80, 80)])
    with pytest.raises(StateError) as caught:
        networks.delete(state, "br0")
    assert caught.value.message == "network `br0` has containers in it: a"
    containers.delete(state, "a" * 64)
    assert (containers.endpoints(state), containers.ports(state)) == ({}, {})
    networks.delete(state, "br0")
    assert networks.every(state) == []


def test_released_is_kept_without_lease_and_ports(state: State) -> None:
    networks.insert(state, BR0)
    record = add(state, "a" * 64, "a")
    containers.add_endpoint(state, Endpoint("br0", record.id, "a", "172.17.0.2", "02:42:ac:11:00:02"))
    containers.add_ports(state, record.id, [Port(80, 80)])
    containers.release(state, record.id)
    assert (containers.taken(state, "br0", "ip"), containers.ports(state)) == (set(), {})
    assert containers.get(state, record.id) is not None


def test_an_endpoint_needs_its_container_and_its_network(state: State) -> None:
    with pytest.raises(ConflictError, match="FOREIGN KEY"):
        containers.add_endpoint(state, Endpoint("br0", "a" * 64, "a", "172.17.0.2", "02:42:ac:11:00:02"))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Network("0", "br0", "10.0.0.0/24", "10.0.0.1", "x"), "network `br0` exists already"),
        (Network("0", "two", "172.17.0.0/24", "172.17.0.1", "x"), "subnet 172.17.0.0/24 is network `br0`'s already"),
        (Network("0", "two", "10.0.0.0/24", "10.0.0.1", "br0"), "bridge `br0` is network `br0`'s already"),
        (Network("0", "two", "10.0.0.0/24", "10.0.0.1", "x", subnet6="fd00:9::/64"), "subnet fd00:9::/64 is network `six`'s already"),
        (Network("0", "six", "10.0.0.0/24", "10.0.0.1", "br0"), "network `six` exists already"),
    ],
)
def test_networks_share_neither_name_nor_subnet_nor_bridge(state: State, other: Network, message: str) -> None:
    networks.insert(state, BR0)
    networks.insert(state, SIX)
    with pytest.raises(ConflictError) as caught:
        networks.insert(state, other)
    assert caught.value.message == message
    assert {network.name for network in networks.every(state)} == {"br0", "six"}


def test_what_a_network_has_not_it_shares_with_any(state: State) -> None:
    for number in range(3):
        networks.insert(state, Network(f"{number:012x}", f"n{number}", f"10.{number}.0.0/24", "", "", PTP))
        networks.insert(state, Network(f"{number:011x}f", f"b{number}", f"10.{number}.1.0/24", f"10.{number}.1.1", f"b{number}"))
    assert len(networks.every(state)) == 6
    with pytest.raises(ConflictError):  # where the question is not asked
        state.change("UPDATE networks SET bridge = 'b0' WHERE name = 'n1'")


def test_networks_that_no_container_is_in(state: State) -> None:
    networks.insert(state, BR0)
    networks.insert(state, SIX)
    add(state, "a" * 64, "a")
    containers.add_endpoint(state, endpoint("six", "a", "10.9.0.2"))
    assert networks.unused(state) == ["br0"]
    with pytest.raises(NotFoundError) as caught:
        networks.find(state, "none")
    assert caught.value.hint == "`none` is a mode of --network, and there is nothing to look at or to remove"


# --- what is written is read ----------------------------------------------------------------------------------------------------------


def test_records_come_back_as_they_went(state: State) -> None:
    networks.insert(state, BR0)
    port = Port(80, 81, "127.0.0.1")
    record = add(state, "ab" * 32, "web", labels={"a": "ä\n"}, publish=[port], memory=1 << 40, volumes=[("/a", "/b", True)])
    read = record.request
    assert (read.labels, read.publish, read.memory) == ({"a": "ä\n"}, [port], 1 << 40)
    assert [tuple(volume) for volume in read.volumes] == [("/a", "/b", True)]
    for wanted in (BR0, SIX, WIRE):
        if wanted is not BR0:
            networks.insert(state, wanted)
        network = networks.find(state, wanted.id)
        assert all(getattr(network, name) == getattr(wanted, name) for name in Network.__slots__)
    place = Endpoint("six", record.id, "web", "10.9.0.2", "02:42:0a:09:00:02", 1, ["db", "ä"], None, "eth3", "fd00:9::2", -5)
    containers.add_endpoint(state, place)
    [again] = containers.endpoints(state)[record.id]
    assert all(getattr(again, name) == getattr(place, name) for name in Endpoint.__slots__ if name != "ports")
    containers.update(state, record.id, addresses='{"six": "10.9.0.2"}')
    assert (record.addresses, containers.find(state, "web").addresses) == ({}, {"six": "10.9.0.2"})
    changed = record.request
    changed.networks = [Attachment("six", "10.9.0.2", priority=3), Attachment("br0")]
    containers.set_request(state, record.id, changed)
    assert [(one.name, one.priority) for one in containers.find(state, "web").request.networks] == [("six", 3), ("br0", 0)]
    assert containers.update(state, record.id, status=containers.EXITED, exit_code=3) == 1
    assert containers.update(state, "nobody", exit_code=3) == 0
    assert containers.unfinished(state) == [] and not containers.is_unfinished(state, record.id)


def test_found_by_name_id_and_unique_prefix(state: State) -> None:
    for id, name in (("abc" + "0" * 61, "web"), ("abd" + "0" * 61, "abc"), ("f00" + "0" * 61, "database")):
        add(state, id, name)
    assert containers.find(state, "web").name == "web"
    assert containers.find(state, "abc").id.startswith("abd"), "a name goes before a prefix"
    assert containers.find(state, "f").name == "database"
    with pytest.raises(ConflictError) as several:
        containers.find(state, "ab")
    assert several.value.message == "`ab` is the beginning of several containers' ids"
    none = "minidocker ps -a lists them"
    for wanted, hint in (("wwb", "did you mean web?"), ("data", "did you mean database?"), ("zzzzzzz", none), ("%", none)):
        with pytest.raises(NotFoundError) as caught:
            containers.find(state, wanted)
        assert caught.value.message == f"no such container: {wanted}"
        assert caught.value.hint == hint


def test_unknown_networks_have_near_misses(state: State) -> None:
    networks.insert(state, BR0)
    with pytest.raises(NotFoundError) as close:
        networks.find(state, "bro")
    assert (close.value.message, close.value.hint) == ("no such network: bro", "did you mean br0?")
    with pytest.raises(NotFoundError) as far:
        networks.find(state, "backend")
    assert far.value.hint == "minidocker network create backend makes it"


@given(st.text(max_size=8), st.lists(st.text(max_size=8), max_size=5))
def test_near_misses_are_of_the_names_and_near(wanted: str, names: list[str]) -> None:
    found = near(wanted, names)
    assert len(found) <= 3 and set(found) <= set(names)
    assert wanted not in names or found[0] == wanted


@given(st.text(max_size=6), st.text(max_size=6), st.text(max_size=6))
def test_distance_is_a_metric(a: str, b: str, c: str) -> None:
    assert (distance(a, b) == 0) == (a == b)
    assert distance(a, b) == distance(b, a) <= distance(a, c) + distance(c, b)


def test_settings(state: State) -> None:
    assert networks.setting(state, "x") == ""
    networks.set_setting(state, "x", "1")
    networks.set_setting(state, "x", "2")
    assert networks.setting(state, "x") == "2"


# --- transactions ---------------------------------------------------------------------------------------------------------------------


def test_all_of_a_transaction_or_nothing(state: State) -> None:
    with pytest.raises(RuntimeError), state.transaction():
        add(state, "a" * 64, "a")
        raise RuntimeError
    assert containers.every(state) == [] and not state.connection.in_transaction
    with pytest.raises(ConflictError), state.transaction():
        add(state, "a" * 64, "a")
        add(state, "b" * 64, "a")
    assert containers.every(state) == []
    with state.transaction():
        add(state, "a" * 64, "a")
    assert len(containers.every(state)) == 1


def test_a_killed_process_leaves_no_half_of_a_transaction(tmp_path: Path) -> None:
    path = str(tmp_path / "state.db")
    pid = os.fork()
    if pid == 0:
        state = State(path)
        state.change("BEGIN IMMEDIATE")
        add(state, "a" * 64, "a")
        os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
    state = State(path)
    assert containers.every(state) == []
    add(state, "b" * 64, "b")
    state.close()


def _first_use(path: str, number: int) -> str:
    try:
        state = State(path)
        with state.transaction():
            add(state, f"{number:064x}", f"n{number}")
    except Exception as error:
        return repr(error)
    return ""


def test_many_at_once_on_a_fresh_path(tmp_path: Path) -> None:
    """Making, migrating and switching to WAL at once: each of them waits for its turn and none is told "locked"."""
    context = multiprocessing.get_context("fork")
    for attempt in range(3):
        path = str(tmp_path / f"{attempt}.db")
        with context.Pool(16) as pool:
            assert set(pool.starmap(_first_use, [(path, number) for number in range(48)], chunksize=1)) == {""}
        state = State(path)
        assert len(containers.every(state)) == 48
        state.close()


# --- versions -------------------------------------------------------------------------------------------------------------------------


def schema(path: Path) -> list[tuple[str, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return sorted(connection.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL"))


def test_from_nothing_to_the_newest(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    State(str(path)).close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")} == {
            "networks", "containers", "endpoints", "ports", "settings", "volumes", "volume_uses",
        }  # fmt: skip


@pytest.mark.parametrize("version", range(len(MIGRATIONS)))
def test_every_older_version_becomes_the_newest(tmp_path: Path, version: int) -> None:
    newest, older = tmp_path / "newest.db", tmp_path / "older.db"
    State(str(newest)).close()
    with contextlib.closing(sqlite3.connect(older)) as connection:
        for migration in MIGRATIONS[:version]:
            connection.executescript(migration)
        connection.execute(f"PRAGMA user_version = {version}")
    State(str(older)).close()
    assert schema(older) == schema(newest)


def version_1(path: Path) -> None:
    """A database as the version with one network a container left it, with rows in every table."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(MIGRATIONS[0])
        connection.execute("PRAGMA foreign_keys = ON")
        for name, id, subnet, gateway, bridge in (("br0", "0123456789ab", "172.17.0.0/24", "172.17.0.1", "br0"),
                                                  ("lab", "0123456789ac", "10.9.0.0/24", "10.9.0.1", "lab0")):
            connection.execute(
                "INSERT INTO networks (name, id, driver, subnet, gateway, bridge, mtu, internal, labels, created, last_ip) "
                "VALUES (?, ?, 'bridge', ?, ?, ?, 1400, ?, ?, 5.5, ?)",
                (name, id, subnet, gateway, bridge, int(name == "lab"), '{"a": "b"}', gateway[:-1] + "7"))  # fmt: skip
        for letter, network, ip in (("a", "br0", "172.17.0.2"), ("b", "lab", "10.9.0.2"), ("c", "lab", "10.9.0.3")):
            request = {**OLD, "network": network, "name": letter}
            connection.execute(
                "INSERT INTO containers (id, name, status, request, boot, created, started, pid, generation, netns) "
                "VALUES (?, ?, 'running', ?, 'boot', 1.0, 2.0, 17, 3, 99)", (letter * 64, letter, json.dumps(request)))  # fmt: skip
            connection.execute("INSERT INTO endpoints (container, network, ip, mac, aliases) VALUES (?, ?, ?, ?, ?)",
                               (letter * 64, network, ip, f"02:42:00:00:00:0{letter}", '["db"]'))  # fmt: skip
            connection.execute("INSERT INTO ports (container, host_ip, host_port, container_port, protocol) VALUES (?, ?, 8080, 80, ?)",
                               (letter * 64, "" if letter == "a" else "127.0.0.1", "tcp" if letter < "c" else "udp"))  # fmt: skip
        connection.execute("INSERT INTO settings (name, value) VALUES ('forwarding', '{\"boot\": \"x\"}')")
        connection.execute("PRAGMA user_version = 1")


def rows(path: Path, table: str, columns: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"SELECT {columns} FROM {table} ORDER BY 1").fetchall()


def test_what_version_1_held_is_held_still(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    version_1(path)
    tables = {
        "networks": "name, id, driver, subnet, gateway, bridge, mtu, internal, labels, created, last_ip",
        "containers": "id, name, status, request, boot, created, started, finished, exit_code, oom_killed, error, pid, generation, netns",
        "endpoints": "container, network, ip, mac, aliases", "ports": "container, host_ip, host_port, container_port, protocol",
        "settings": "name, value",
    }  # fmt: skip
    before = {table: rows(path, table, columns) for table, columns in tables.items()}
    assert all(before.values())
    state = State(str(path))
    assert {table: rows(path, table, columns) for table, columns in tables.items()} == before
    assert state.rows("PRAGMA foreign_key_check") == [] and state.rows("PRAGMA integrity_check") == [("ok",)]
    assert [(network.name, network.subnet6, network.gateway6, network.ip_range, network.isolated, network.parent, network.mode)
            for network in networks.every(state)] == [(name, "", "", "", False, "", "") for name in ("br0", "lab")]  # fmt: skip
    places = containers.endpoints(state)
    assert [(place.network, place.interface, place.ip6, place.priority, place.generation, place.aliases, place.host_link)
            for id in sorted(places) for place in places[id]] == [
        (network, "eth0", "", 0, 3, ["db"], f"md{letter * 8}3") for letter, network in (("a", "br0"), ("b", "lab"), ("c", "lab"))]
    assert [place.ports for place in places["a" * 64]] == [[Port(8080, 80)]]
    assert places["b" * 64][0].ports == [], "lab is internal"
    for record in containers.every(state):
        assert [(one.name, one.aliases) for one in record.request.networks] == [("br0" if record.name == "a" else "lab", ["db"])]
        assert record.addresses == {}
    assert containers.half_connected(state) == []
    assert networks.last_ip(state, "lab") == "10.9.0.7"
    state.close()


def contents(connection: sqlite3.Connection) -> dict[str, list[dict[str, object]]]:
    """table -> its rows."""
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")]
    found = {}
    for table in tables:
        cursor = connection.execute(f"SELECT * FROM {table} ORDER BY 1")
        names = [column[0] for column in cursor.description]
        found[table] = [dict(zip(names, row, strict=True)) for row in cursor]
    return found


def fill_tables(connection: sqlite3.Connection) -> None:
    """A row in every table that has none; what refers to another speaks of one that is there."""
    for table, rows_ in contents(connection).items():
        if rows_:
            continue
        refers = {row[3]: row[2:5:2] for row in connection.execute(f"PRAGMA foreign_key_list({table})")}
        values: dict[str, object] = {}
        for _, column, kind, *_ in connection.execute(f"PRAGMA table_info({table})").fetchall():
            if column in refers:
                parent, key = refers[column]
                values[column] = connection.execute(f"SELECT {key} FROM {parent} ORDER BY 1 LIMIT 1").fetchone()[0]
            else:
                values[column] = {"INTEGER": 1, "REAL": 1.5}.get(kind, "{}")
        marks = ", ".join("?" * len(values))
        connection.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", tuple(values.values()))


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS) + 1))
def test_what_any_version_held_is_held_still(tmp_path: Path, version: int) -> None:
    """Whatever the versions to come are: each row of every table, with all that it said."""
    path = tmp_path / "state.db"
    version_1(path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for migration in MIGRATIONS[1:version]:
            connection.executescript(migration)
        fill_tables(connection)
        connection.execute(f"PRAGMA user_version = {version}")
        before = contents(connection)
    assert all(before.values())
    state = State(str(path))
    assert state.rows("PRAGMA foreign_key_check") == [] and state.rows("PRAGMA integrity_check") == [("ok",)]
    assert len(containers.every(state)) == 3 and len(networks.every(state)) == 2
    state.close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        after = contents(connection)
    for table, rows_ in before.items():
        assert [{column: row[column] for column in old} for old, row in zip(rows_, after[table], strict=True)] == rows_, table


def test_what_version_1_forbade_is_forbidden_still(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    version_1(path)
    for opening in ("migrating", "again"):
        state = State(str(path))
        assert state.rows("PRAGMA foreign_keys") == [(1,)], opening
        with pytest.raises(ConflictError, match="FOREIGN KEY"):
            state.change("DELETE FROM networks WHERE name = 'lab'")
        with pytest.raises(ConflictError, match="FOREIGN KEY"):
            state.change("UPDATE endpoints SET network = 'gone' WHERE network = 'lab'")
        for column in ("name", "subnet", "bridge", "id"):
            with pytest.raises(ConflictError):
                state.change(f"UPDATE networks SET {column} = (SELECT {column} FROM networks WHERE name = 'br0') WHERE name = 'lab'")
        with pytest.raises(ConflictError):
            state.change("UPDATE endpoints SET ip = '10.9.0.2' WHERE network = 'lab'")
        state.close()
    state = State(str(path))
    containers.delete(state, "b" * 64)
    assert set(containers.endpoints(state)) == set(containers.ports(state)) == {"a" * 64, "c" * 64}, "it goes with its lease and ports"
    networks.insert(state, Network("1", "one", "10.1.0.0/30", "", "", PTP))
    networks.insert(state, Network("2", "two", "10.2.0.0/30", "", "", PTP))
    state.close()


def test_a_migration_from_version_1_that_is_killed_has_not_been(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    version_1(path)
    before = schema(path), rows(path, "endpoints", "*"), rows(path, "networks", "*")

    class Connection:
        """Dies at the last statement of the migration."""

        def __init__(self, connection: sqlite3.Connection) -> None:
            self.connection = connection

        def execute(self, statement: str, *values: Any) -> object:
            if "ALTER TABLE containers" in statement:
                os.kill(os.getpid(), 9)
            return self.connection.execute(statement, *values)

        def __getattr__(self, name: str) -> object:
            return getattr(self.connection, name)

    pid = os.fork()
    if pid == 0:
        try:
            connect = state_module.sqlite3.connect
            state_module.sqlite3.connect = lambda *words, **options: Connection(connect(*words, **options))
            State(str(path))
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -9
    assert (schema(path), rows(path, "endpoints", "*"), rows(path, "networks", "*")) == before
    State(str(path)).close()
    assert len(rows(path, "endpoints", "*")) == 3


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.db"
    State(str(path)).close()
    before = schema(path)
    failing = "CREATE TABLE more (a TEXT); CREATE TABLE containers (a TEXT)"
    monkeypatch.setattr("minidocker.storage.state.MIGRATIONS", (*MIGRATIONS, failing))
    with pytest.raises(MinidockerError, match="table containers already exists"):
        State(str(path))
    assert schema(path) == before
    monkeypatch.undo()
    State(str(path)).close()


def test_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(MinidockerError) as caught:
        State(str(path))
    assert caught.value.message == f"{path} is of version 99, made by a newer minidocker; this one knows {len(MIGRATIONS)}"
    assert caught.value.hint == "use the newer minidocker, or another --root"
    assert path.read_bytes() == before


# --- what can be wrong with a file ------------------------------------------------------------------------------------------------------


def test_not_a_database(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_text("this is no database, but long enough to be read as one: " * 200)
    before = path.read_bytes()
    with pytest.raises(MinidockerError) as caught:
        State(str(path))
    assert caught.value.message == f"use the state in {path}: it is not a database"
    assert caught.value.hint == "running containers go on; minidocker system check --repair begins a new one"
    assert path.read_bytes() == before


def test_damaged(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    state = State(str(path))
    for number in range(200):
        add(state, f"{number:064x}", f"n{number}")
    state.close()
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    damaged = State(str(path))
    with pytest.raises(MinidockerError) as caught:
        containers.every(damaged)
    assert caught.value.message == f"use the state in {path}: it is damaged"
    damaged.close()


def test_a_directory_or_nothing_to_put_it_in(tmp_path: Path) -> None:
    (tmp_path / "state.db").mkdir()
    for path in (tmp_path / "state.db", tmp_path / "missing" / "state.db"):
        with pytest.raises(MinidockerError) as caught:
            State(str(path))
        assert caught.value.message == f"use the state in {path}: it cannot be opened"


@needs_root
def test_read_only(tmp_path: Path) -> None:
    with disk(tmp_path / "disk") as place:
        path = place / "state.db"
        state = State(str(path))
        add(state, "a" * 64, "a")
        state.close()
        pretend.sh(f"mount -o remount,ro {place}")
        for use in (lambda: add(State(str(path)), "b" * 64, "b"), lambda: State(str(place / "other.db"))):
            with pytest.raises(MinidockerError) as caught:
                use()
            assert caught.value.message.split(": ")[1] in ("it cannot be written", "it cannot be opened")
            assert "\n" not in caught.value.message and caught.value.hint


@needs_root
def test_a_full_disk_is_said_and_nothing_is_lost(tmp_path: Path) -> None:
    with disk(tmp_path / "disk") as place:
        path = place / "state.db"
        state = State(str(path))
        add(state, "a" * 64, "a")
        fill(place)
        with pytest.raises(MinidockerError) as caught, state.transaction():
            for number in range(500):
                add(state, f"{number:064x}", f"n{number}", labels={"x": "y" * 1000})
        assert caught.value.message == f"use the state in {path}: the disk is full"
        assert caught.value.hint == f"make room on the file system of {path}"
        assert [record.name for record in containers.every(state)] == ["a"]
        assert not state.connection.in_transaction
        (place / "filler").unlink()
        add(state, "b" * 64, "b")
        assert len(containers.every(state)) == 2
        state.close()


@needs_root
def test_a_disk_that_is_full_from_the_start(tmp_path: Path) -> None:
    with disk(tmp_path / "disk") as place:
        fill(place)
        path = place / "state.db"
        with pytest.raises(MinidockerError) as caught:
            State(str(path))
        assert "the disk is full" in caught.value.message
        (place / "filler").unlink()
        State(str(path)).close()


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_another_users_file(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    State(str(path)).close()
    path.chmod(0o600)
    code = f"""if True:
        import os, sys
        sys.path.insert(0, {str(Path(__file__).resolve().parents[2])!r})
        from minidocker.storage.state import State
        from minidocker.errors import MinidockerError
        os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
        try:
            State({str(path)!r})
        except MinidockerError as error:
            print(error.message)"""
    for directory in (tmp_path, *tmp_path.parents):
        if directory.is_relative_to("/tmp/pytest-of-root"):
            directory.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"use the state in {path}: it cannot be opened\n", "")
