"""stats without a kernel: from counters to numbers, from numbers to docker's columns."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidocker.cli import stats as view
from minidocker.engine import stats
from minidocker.kernel.cgroups import Face, Hierarchy

RECORD: Any = SimpleNamespace(id="ab" * 32, name="web")


def sample(at: float = 0.0, cpu: int = 0, **used: Any) -> Any:
    counted = {"cpu": {"usage": {"total": cpu}}, **used}
    return SimpleNamespace(at=at, used=counted, network=(1500, 20), pressure=None)


def test_processor_time_is_a_share_of_the_time_between_two_looks() -> None:
    found = stats.document(RECORD, sample(10.0, 5_000_000_000), sample(12.0, 8_000_000_000))
    assert found["CPU"] == 150.0
    assert stats.document(RECORD, None, sample(12.0, 8))["CPU"] == 0.0, "the first look has nothing to compare with"
    assert stats.document(RECORD, sample(10.0, 9), sample(12.0, 8))["CPU"] == 0.0, "started again in between"


@pytest.mark.parametrize(("raw", "usage"), [
    ({"inactive_file": 300}, 700), ({"total_inactive_file": 400, "inactive_file": 1}, 600), ({}, 1000), ({"inactive_file": 1000}, 1000),
])  # fmt: skip
def test_memory_is_without_idle_cache(raw: dict[str, int], usage: int) -> None:
    memory = {"raw": raw, "usage": {"usage": 1000, "limit": 4096}}
    assert stats.document(RECORD, None, sample(memory=memory))["Memory"] == {"Usage": usage, "Limit": 4096}
    memory["usage"]["limit"] = (1 << 64) - 1
    assert stats.document(RECORD, None, sample(memory=memory))["Memory"] == {"Usage": usage, "Limit": stats.total_memory()}


def test_disks_are_added_up_and_what_is_not_counted_is_none() -> None:
    counted = ((0, "Read", 5), (16, "Read", 7), (0, "Write", 1))
    entries = [{"major": 8, "minor": minor, "op": op, "value": value} for minor, op, value in counted]
    found = stats.document(RECORD, None, sample(blkio={"ioServiceBytesRecursive": entries}, pids={"current": 3, "limit": 0}))
    assert found["Block"] == {"Read": 12, "Written": 1} and found["Pids"] == {"Current": 3, "Limit": None}
    assert found["Memory"] is None and found["Pressure"] is None
    assert set(stats.document(RECORD, None, None).values()) == {RECORD.id, RECORD.name, None}


def test_a_row_is_docker_s() -> None:
    record = {
        "ID": RECORD.id, "Name": "web", "CPU": 12.345, "Memory": {"Usage": 3 << 19, "Limit": 64 << 20},
        "Network": {"Received": 1500, "Sent": 0}, "Block": {"Read": 12_345_678, "Written": 999}, "Pids": {"Current": 2, "Limit": None},
        "Pressure": {"cpu": {"some": {"avg10": 1.5}}, "memory": {"some": {"avg10": 0.0}, "full": {"avg10": 0.0}}},
    }  # fmt: skip
    assert view.row(record, False) == {
        "ID": "ab" * 6, "Container": RECORD.id, "Name": "web", "CPUPerc": "12.35%" if f"{12.345:.2f}" == "12.35" else "12.34%",
        "MemUsage": "1.5MiB / 64MiB", "MemPerc": "2.34%", "NetIO": "1.5kB / 0B", "BlockIO": "12.3MB / 999B", "PIDs": "2",
        "Pressure": "1.50% / 0.00% / --",
    }  # fmt: skip
    nothing = view.row(stats.document(RECORD, None, None), True)
    assert nothing["CPUPerc"] == nothing["PIDs"] == nothing["Pressure"] == "--" and nothing["MemUsage"] == "-- / --"
    assert nothing["ID"] == RECORD.id


@given(st.integers(0, 1 << 50))
def test_a_size_has_no_exponent_and_says_what_it_is(number: int) -> None:
    for units, step, digits in ((view._BINARY, 1024, 4), (view.DECIMAL, 1000, 3)):
        text = view.size(number, units, step, digits)
        digits_of = text.rstrip("KMGTPiBk")
        assert "e" not in text
        assert abs(float(digits_of) * step ** units.index(text[len(digits_of) :]) - number) <= 0.01 * number


def test_pressure_is_read_where_v2_has_the_cgroup(tmp_path: Path) -> None:
    face = Face([Hierarchy(str(tmp_path), 2, ["memory"])])
    assert face.pressure("a/c1") is None and Face([]).pressure("a/c1") is None
    (tmp_path / "a/c1").mkdir(parents=True)
    assert face.pressure("a/c1") == {}, "a kernel without PSI"
    text = "some avg10=0.25 avg60=1.00 avg300=0.00 total=1234\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
    (tmp_path / "a/c1/memory.pressure").write_text(text)
    assert face.pressure("a/c1") == {"memory": {
        "some": {"avg10": 0.25, "avg60": 1.0, "avg300": 0.0, "total": 1234.0},
        "full": {"avg10": 0.0, "avg60": 0.0, "avg300": 0.0, "total": 0.0},
    }}  # fmt: skip
