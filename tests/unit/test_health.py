"""Health checks: what is asked for, and what a container is after each look."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidocker.errors import UsageError
from minidocker.spec import health

ASKED: dict[str, Any] = health.check({"health_cmd": "true"})


def look(code: int, at: float = 100.0) -> dict[str, Any]:
    return {"start": at, "end": at + 1, "code": code, "output": ""}


def after(codes: list[int], asked: dict[str, Any] = ASKED, started: float = 0.0) -> dict[str, Any]:
    state = health.beginning()
    for number, code in enumerate(codes):
        state = health.judged(state, look(code, 100.0 + number), asked, started)
    return state


def test_what_is_asked_for() -> None:
    assert ASKED == {"command": "true", "interval": 30.0, "timeout": 30.0, "start_period": 0.0, "retries": 3}
    given = {"health_cmd": "x", "health_interval": "500ms", "health_timeout": "0", "health_start_period": "1m30s", "health_retries": "0"}
    assert health.check(given) == {"command": "x", "interval": 0.5, "timeout": 30.0, "start_period": 90.0, "retries": 3}
    assert health.check({"no_healthcheck": True}) == {"none": True}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"health_interval": "5s"}, "needs its command"), ({"health_cmd": ""}, "needs its command"),
        ({"health_cmd": "x", "health_interval": "5"}, "--health-interval"),
        ({"health_cmd": "x", "health_timeout": "-1s"}, "--health-timeout"),
        ({"health_cmd": "x", "health_interval": "1us"}, "--health-interval"),
        ({"health_cmd": "x", "health_retries": "-1"}, "--health-retries"),
        ({"health_cmd": "x", "health_start_period": "soon"}, "--health-start-period"),
        ({"health_cmd": "x", "no_healthcheck": True}, "--no-healthcheck"),
    ],
)  # fmt: skip
def test_what_is_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        health.check(given)
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("codes", "status", "streak"),
    [
        ([], "starting", 0), ([1], "starting", 1), ([1, 1], "starting", 2), ([1, 1, 1], "unhealthy", 3), ([0], "healthy", 0),
        ([0, 1, 1], "healthy", 2), ([0, 1, 1, -1], "unhealthy", 3), ([1, 1, 1, 0], "healthy", 0), ([1, 1, 0, 1], "healthy", 1),
    ],
)  # fmt: skip
def test_what_it_is_after(codes: list[int], status: str, streak: int) -> None:
    state = after(codes)
    assert (state["status"], state["streak"]) == (status, streak)


def test_in_the_start_period_no_failure_counts_and_success_ends_it() -> None:
    asked = {**ASKED, "start_period": 1000.0}
    assert after([1] * 9, asked)["status"] == "starting" and after([1] * 9, asked)["streak"] == 0
    assert after([1, 0, 1, 1, 1], asked)["status"] == "unhealthy"
    assert after([1, 1, 1], asked, started=-1000.0)["status"] == "unhealthy"


@given(st.lists(st.integers(-1, 2), max_size=20))
def test_the_last_five_are_kept(codes: list[int]) -> None:
    state = after(codes)
    assert [one["code"] for one in state["log"]] == codes[-5:]
    assert state["status"] != "healthy" or state["streak"] < 3
