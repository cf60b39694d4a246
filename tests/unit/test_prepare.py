"""What the engine chooses for a new container: its id."""

from __future__ import annotations

import os

import pytest

from minidocker.engine.prepare import new_id


def test_an_id_whose_short_form_would_read_as_an_address_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    digits, letters = bytes.fromhex("776622413787" + "ab" * 26), bytes.fromhex("77662241378a" + "00" * 26)
    sources = iter([digits, digits, letters])
    monkeypatch.setattr(os, "urandom", lambda count: next(sources)[:count])
    assert new_id() == letters.hex()
