"""Events: their file, how it is read over its renaming, and how they are shown."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from minidocker.cli import events as shown
from minidocker.engine import events, host

EVENT = {
    "time": 1_700_000_000_123_456_789, "type": "container", "action": "die", "id": "ab12", "name": "web", "attributes": {"exitCode": "3"},
}  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> host.Host:
    monkeypatch.setattr(host, "_RUN", str(tmp_path / "run"))
    return host.Host(str(tmp_path / "root"), pytest.fail)


def test_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        assert shown.line(EVENT) == "2023-11-15T03:43:20.123456789+05:30 container die ab12 (exitCode=3, name=web)"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_label_cannot_move_the_cursor() -> None:
    assert "\x1b" not in shown.line({**EVENT, "attributes": {"x": "\x1b[2J"}})


def test_what_is_added_is_read_once_and_over_the_renaming(place: host.Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "EVENTS_LIMIT", 1000)
    reader = events.Reader(f"{place.root}/events")
    seen: list[str] = []
    for number in range(100):
        place.event("container", "start", f"{number}", "web", type="x")
        if number % 3 == 0:
            seen += [event["id"] for event in reader.read()]
    seen += [event["id"] for event in reader.read()]
    assert seen == [str(number) for number in range(100)]
    sizes = [os.path.getsize(f"{place.root}/{name}") for name in ("events", "events.1") if os.path.exists(f"{place.root}/{name}")]
    assert sum(sizes) < 2500


def test_one_who_comes_late_reads_both_files(place: host.Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "EVENTS_LIMIT", 300)
    for number in range(4):
        place.event("container", "start", f"{number}", "web")
    found = [event["id"] for event in events.Reader(f"{place.root}/events").read()]
    assert found == ["0", "1", "2", "3"][-len(found) :] and len(found) >= 3


def test_that_it_cannot_be_written_is_told_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_RUN", str(tmp_path / "run"))
    told: list[str] = []
    here = host.Host(str(tmp_path / "root"), told.append)
    (tmp_path / "root/events").mkdir()
    here.event("container", "start", "ab", "web")
    assert len(told) == 1 and "`start` of `web`" in told[0]


@pytest.mark.parametrize(("said", "meant"), [("web", True), ("ab12cd", True), ("ab12", True), ("ab", False), ("we", False), ("b1", False)])
def test_whom_a_reference_means(said: str, meant: bool) -> None:
    assert events.is_of(said, "ab12cd", "web") is meant
