"""What is damaged is known, and what can be read of it is saved."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minidocker.errors import MinidockerError
from minidocker.storage import containers, networks, salvage
from minidocker.storage.state import MIGRATIONS, State, sqlite3
from tests.unit.test_state import BR0, add

PAGE = 4096
MANY = 300


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Three hundred containers and a network, over many pages, with all of it in the file itself."""
    place = tmp_path / "state.db"
    state = State(str(place))
    networks.insert(state, BR0)
    for number in range(MANY):
        add(state, f"{number:064x}", f"n{number}", labels={"filler": "x" * 200})
    state.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    state.close()
    return place


def names(path: Path) -> set[str]:
    state = State(str(path))
    try:
        return {record.name for record in containers.every(state)}
    finally:
        state.close()


def test_what_is_sound_is_said_to_be(path: Path) -> None:
    assert salvage.damage(str(path)) == "" == salvage.damage(str(path) + "-that-is-not-there")
    assert not os.path.exists(str(path) + "-that-is-not-there")


def test_all_but_what_was_on_the_damaged_pages_is_saved(path: Path) -> None:
    content = path.read_bytes()
    middle = len(content) // PAGE // 2
    path.write_bytes(content[: middle * PAGE] + b"\xff" * PAGE + content[(middle + 1) * PAGE :])
    damaged = path.read_bytes()
    assert salvage.damage(str(path))
    aside, saved = salvage.restore(str(path))
    assert salvage.damage(str(path)) == ""
    found = names(path)
    assert len(found) == saved["containers"] and MANY / 3 < len(found) <= MANY, saved
    assert saved["networks"] == 1
    assert Path(aside).read_bytes() == damaged, "what was there is kept as it was"
    state = State(str(path))
    assert all(record.request.labels == {"filler": "x" * 200} for record in containers.every(state))
    state.close()


@pytest.mark.parametrize("content", [b"this is no database " * 500, b"\0" * 8192, b"SQLite format 3\0" + b"\xff" * 8176])
def test_of_what_is_no_database_nothing_is_saved_and_a_new_one_begun(tmp_path: Path, content: bytes) -> None:
    place = tmp_path / "state.db"
    place.write_bytes(content)
    assert salvage.damage(str(place))
    aside, saved = salvage.restore(str(place))
    assert not any(saved.values()) and names(place) == set()
    assert Path(aside).read_bytes() == content


def test_a_reference_to_nothing_is_damage_and_its_row_is_not_saved(path: Path) -> None:
    connection = sqlite3.connect(str(path))
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute("INSERT INTO ports VALUES ('nobody', '', 80, 80, 'tcp')")
    connection.commit()
    connection.close()
    assert salvage.damage(str(path)) == "a row of ports speaks of none in containers"
    _, saved = salvage.restore(str(path))
    assert (saved["containers"], saved["ports"]) == (MANY, 0) and salvage.damage(str(path)) == ""


def test_what_a_newer_version_made_is_no_damage(path: Path) -> None:
    connection = sqlite3.connect(str(path))
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(MinidockerError, match="made by a newer minidocker"):
        salvage.damage(str(path))
