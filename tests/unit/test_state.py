"""state.db: what its constraints forbid, how it grows up, and what is said when the file or the disk is not as it should be."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidocker.errors import ConflictError, MinidockerError, NotFoundError, StateError
from minidocker.spec.near import distance, near
from minidocker.spec.records import Endpoint, Network, Port
from minidocker.spec.request import RunRequest
from minidocker.storage import containers, networks
from minidocker.storage.state import MIGRATIONS, State
from tests import pretend

BR0 = Network("0123456789ab", "br0", "172.17.0.0/24", "172.17.0.1", "br0", labels={"a": "b"}, created=5.0)
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
    assert containers.taken_ips(state, "br0") == {"172.17.0.2"}
    assert networks.last_ip(state, "br0") == "172.17.0.2"


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
    assert (containers.taken_ips(state, "br0"), containers.ports(state)) == (set(), {})
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
    ],
)
def test_networks_share_neither_name_nor_subnet_nor_bridge(state: State, other: Network, message: str) -> None:
    networks.insert(state, BR0)
    with pytest.raises(ConflictError) as caught:
        networks.insert(state, other)
    assert caught.value.message == message
    assert [network.name for network in networks.every(state)] == ["br0"]


# --- what is written is read ----------------------------------------------------------------------------------------------------------


def test_records_come_back_as_they_went(state: State) -> None:
    networks.insert(state, BR0)
    port = Port(80, 81, "127.0.0.1")
    record = add(state, "ab" * 32, "web", labels={"a": "ä\n"}, publish=[port], memory=1 << 40, volumes=[("/a", "/b", True)])
    read = record.request
    assert (read.labels, read.publish, read.memory) == ({"a": "ä\n"}, [port], 1 << 40)
    assert [tuple(volume) for volume in read.volumes] == [("/a", "/b", True)]
    network = networks.find(state, "0123456789ab")
    assert all(getattr(network, name) == getattr(BR0, name) for name in Network.__slots__)
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
            "networks", "containers", "endpoints", "ports", "settings",
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
    assert caught.value.hint == f"running containers go on; move {path} away to begin anew"
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
