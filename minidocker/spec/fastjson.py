"""JSON (RFC 8259) without the 9 ms that importing `json` costs: the same C code, reached directly.

`json` imports `re` for what its C half does not need. Where an interpreter has no `_json`, `json` itself serves.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _plain_default(value: object) -> object:
    raise TypeError(f"{type(value).__name__} is not JSON")


_encode: Any
_scan: Any
try:
    import _json

    class _Context:
        """What the scanner reads its settings from."""

        strict = True
        object_hook = None
        object_pairs_hook = None
        parse_float = float
        parse_int = int
        parse_constant = float
        memo: dict[str, str] = {}  # noqa: RUF012  (the scanner's own protocol; it clears it after each use)

    # markers, default, encoder, indent, separators, sort_keys, skipkeys, allow_nan
    _encode = _json.make_encoder(None, _plain_default, _json.encode_basestring_ascii, None, ": ", ", ", False, False, False)
    _scan = _json.make_scanner(_Context())  # type: ignore[arg-type]
except (ImportError, TypeError):  # pragma: no cover  (another interpreter than CPython, or a CPython that changed them)
    import json

    _encode = lambda value, _level: (json.dumps(value, allow_nan=False),)  # noqa: E731

    _scan = json.JSONDecoder().raw_decode


def dumps(value: Any) -> str:
    """`value` as JSON text. Raises TypeError or ValueError for what is not JSON."""
    return "".join(_encode(value, 0))


def loads(text: str) -> Any:
    """The value that `text` says. Raises ValueError."""
    text = text.strip(" \t\r\n")
    try:
        value, end = _scan(text, 0)
    except StopIteration as error:
        raise ValueError(f"not JSON at character {error.value}") from None
    except SystemError:
        # the scanner's own exception is json's; where that is not loaded the scanner fails without one
        import json

        return json.loads(text)
    if end != len(text):
        raise ValueError(f"something follows the JSON value at character {end}")
    return value
