"""fastjson says what json says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidocker.spec import fastjson

REPOSITORY = Path(__file__).resolve().parents[2]
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(values)
def test_what_is_written_is_what_json_writes_and_reads_back(value: object) -> None:
    text = fastjson.dumps(value)
    assert text == json.dumps(value)
    assert fastjson.loads(text) == json.loads(text)


@given(st.text())
def test_any_text_is_read_as_json_reads_it_or_refused(text: str) -> None:
    try:
        expected = json.loads(text)
    except ValueError:
        expected = ValueError
    if expected is ValueError:
        with pytest.raises(ValueError):
            fastjson.loads(text)
    else:
        assert fastjson.loads(text) == expected or expected != expected


def test_what_is_not_json_is_refused() -> None:
    with pytest.raises(TypeError):
        fastjson.dumps({"a": object()})
    with pytest.raises(ValueError):
        fastjson.loads("[1,")
    with pytest.raises(ValueError, match="follows"):
        fastjson.loads("1 2")


@pytest.mark.parametrize("text", ["{", "[1,", '{"a"', '{"a": 1,}', '"\\x"', '"\n"', "{1: 2}", '["\\ud800', "[", "-", "nul"])
def test_it_is_refused_where_json_was_never_loaded_too(text: str) -> None:
    """The scanner looks for json.decoder's exception among the modules that are loaded."""
    program = f"""if True:
        import sys
        sys.path.insert(0, {str(REPOSITORY)!r})
        from minidocker.spec import fastjson
        assert "json" not in sys.modules
        try:
            fastjson.loads({text!r})
        except ValueError as error:
            print("refused", error)"""
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True)
    assert done.stdout.startswith("refused "), done.stderr
