"""Restart policies: what is asked for, and when it is done."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidocker.errors import UsageError
from minidocker.spec import restart


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("no", ("no", 0)), ("", ("no", 0)), ("always", ("always", 0)), ("unless-stopped", ("unless-stopped", 0)),
        ("on-failure", ("on-failure", 0)), ("on-failure:3", ("on-failure", 3)), ("on-failure:0", ("on-failure", 0)),
    ],
)  # fmt: skip
def test_a_policy(text: str, found: tuple[str, int]) -> None:
    assert restart.policy(text) == found


@pytest.mark.parametrize("text", ["never", "always:3", "no:1", "on-failure:", "on-failure:-1", "on-failure:x", "on-failure:1:2", ":3"])
def test_what_is_no_policy(text: str) -> None:
    with pytest.raises(UsageError):
        restart.policy(text)


def test_each_wait_is_twice_the_last_one_up_to_a_minute() -> None:
    waits: list[float] = []
    last = 0.0
    for count in range(12):
        found = restart.wait("always", 0, count, last, 0.5, True)
        assert found is not None
        last = found
        waits.append(last)
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60.0, 60.0]


def test_ten_seconds_up_begin_anew() -> None:
    assert restart.wait("always", 0, 8, 25.6, 9.9, True) == 51.2
    assert restart.wait("always", 0, 8, 25.6, 10.0, True) == 0.1


@pytest.mark.parametrize(
    ("name", "most", "restarts", "failed", "again"),
    [
        ("no", 0, 0, True, False), ("always", 0, 9, False, True), ("unless-stopped", 0, 9, False, True), ("on-failure", 0, 99, True, True),
        ("on-failure", 0, 0, False, False), ("on-failure", 2, 1, True, True), ("on-failure", 2, 2, True, False),
    ],
)  # fmt: skip
def test_whether_it_is_started_again(name: str, most: int, restarts: int, failed: bool, again: bool) -> None:
    assert (restart.wait(name, most, restarts, 0.0, 0.0, failed) is not None) is again


@given(st.sampled_from(restart.POLICIES), st.integers(0, 9), st.integers(0, 99), st.floats(0, 60), st.floats(0, 1e6), st.booleans())
def test_a_wait_is_within_its_bounds(name: str, most: int, restarts: int, last: float, ran: float, failed: bool) -> None:
    found = restart.wait(name, most, restarts, last, ran, failed)
    assert found is None or 0 < found <= restart.LONGEST_WAIT
