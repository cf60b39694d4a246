"""Unit files: what their words mean to systemd is what was meant."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidocker.spec import systemd_unit as unit


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("web", "web"), ("", '""'), ("a b", '"a b"'), ("50%", "50%%"), ("$HOME", "$$HOME"), ('say "x"', '"say \\"x\\""'),
        ("a\\b", '"a\\\\b"'), ("it's", '"it\'s"'), ("two\nlines", '"two\\nlines"'), ("a;b", '"a;b"'), ("--env=A=1", "--env=A=1"),
    ],
)  # fmt: skip
def test_a_word(word: str, said: str) -> None:
    assert unit.quote(word) == said


@given(st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), max_size=9), min_size=1, max_size=5))
def test_words_come_back(words: list[str]) -> None:
    """Quotes and backslashes are a shell's; then systemd expands % and $, each of which stands for itself when doubled."""
    said = unit.line(words)
    assert [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(said)] == words
    assert "\n" not in said and all(run % 2 == 0 for character in "%$" for run in _runs(said, character))


def _runs(text: str, character: str) -> list[int]:
    """How long each run of a character is."""
    runs, length = [], 0
    for found in text + "\0":
        if found == character:
            length += 1
        elif length:
            runs.append(length)
            length = 0
    return runs


def test_a_container_that_is_never_killed_may_take_for_ever_to_stop() -> None:
    assert "TimeoutStopSec=infinity\n" in unit.container(["minidocker"], "/r", "web", -1)
    assert "TimeoutStopSec=23\n" in unit.container(["minidocker"], "/r", "web", 2.6)


@pytest.mark.parametrize("policy", ["no", "on-failure", "always", "unless-stopped"])
def test_systemd_has_the_policys_place(policy: str) -> None:
    said = {"unless-stopped": "always"}.get(policy, policy)
    text = unit.anew(["minidocker"], "/r", "web", ["true"], "/50%", policy, 10)
    assert f"Restart={said}\n" in text and "WorkingDirectory=/50%%\n" in text
    assert "ExecStart=minidocker run --rm --name=web true\n" in text
