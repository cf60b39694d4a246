"""The shapes that an OCI configuration is made of: each reads one JSON value at its place, or says what is wrong with it there.

    Place ── what the value is found at: `process.rlimits[2].soft`
      .object(value) ─► Fields ── .integer("soft", 0, MOST) ... .rest()    what is there is taken once, checked and copied
      .wrong(found, allowed)  ─► UsageError("process.rlimits[2].soft: 10 is above hard 5")

Absent and null are the same thing (Go's encoders write either). What the specification does not know is let be (config.md,
"Extensibility": a runtime generates no error for an unknown property).
"""

from __future__ import annotations

from minidocker.errors import UsageError
from minidocker.spec import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from typing import Any

INT64 = (-(1 << 63), (1 << 63) - 1)
UINT64 = (0, (1 << 64) - 1)
UINT32 = (0, (1 << 32) - 1)
INT32 = (-(1 << 31), (1 << 31) - 1)
_SHOWN = 60


def shown(value: Any) -> str:
    """A value as an error message shows it: JSON, on one line, not too long."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "an array"
    text = repr(value) if isinstance(value, float) else fastjson.dumps(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


class Place:
    """Where in the document a value stands."""

    __slots__ = ("path",)

    def __init__(self, path: str = "") -> None:
        self.path = path

    def of(self, key: str) -> Place:
        """The place of member `key`; a key that is no plain word (a sysctl's name) is quoted: `linux.sysctl["net.core.somaxconn"]`."""
        if not key.isidentifier():
            return Place(f"{self.path}[{shown(key)}]")
        return Place(f"{self.path}.{key}" if self.path else key)

    def at(self, index: int) -> Place:
        return Place(f"{self.path}[{index}]")

    def wrong(self, found: str, hint: str = "") -> UsageError:
        return UsageError(f"{self.path or 'config'}: {found}", hint)

    # What a value can be.

    def object(self, value: Any) -> Fields:
        if not isinstance(value, dict):
            raise self.wrong(f"{shown(value)} is not an object")
        return Fields(self, value)

    def array(self, value: Any) -> Iterator[tuple[Place, Any]]:
        if not isinstance(value, list):
            raise self.wrong(f"{shown(value)} is not an array")
        for index, entry in enumerate(value):
            yield self.at(index), entry

    def string(self, value: Any) -> str:
        """A string that a system call can take: no NUL in it, and no half of a surrogate pair."""
        if not isinstance(value, str):
            raise self.wrong(f"{shown(value)} is not a string")
        if "\0" in value or any("\ud800" <= c <= "\udfff" for c in value):
            raise self.wrong(f"{shown(value)} has a character that no string of the kernel's can have")
        return value

    def path_inside(self, value: Any) -> str:
        """An absolute path in the container."""
        path = self.string(value)
        if not path.startswith("/"):
            raise self.wrong(f"{shown(path)} is not an absolute path")
        return path

    def word(self, value: Any, allowed: Collection[str], kind: str) -> str:
        word = self.string(value)
        if word not in allowed:
            from minidocker.spec.near import near

            close = near(word, allowed, edits=3)
            hint = "did you mean " + " or ".join(f"`{other}`" for other in close) + "?" if close else "one of " + ", ".join(allowed)
            raise self.wrong(f"{shown(word)} is no {kind}", hint)
        return word

    def integer(self, value: Any, least: int, most: int) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # JSON has one kind of number: 1e3 is 1000
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong(f"{shown(value)} is not a whole number")
        if not least <= value <= most:
            raise self.wrong(f"{value} is not from {least} to {most}")
        return value

    def boolean(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise self.wrong(f"{shown(value)} is neither true nor false")
        return value

    def strings(self, value: Any) -> list[str]:
        return [place.string(entry) for place, entry in self.array(value)]

    def texts(self, value: Any) -> dict[str, str]:
        """An object whose values are strings."""
        if not isinstance(value, dict):
            raise self.wrong(f"{shown(value)} is not an object")
        return {self.of(key).string(key): self.of(key).string(entry) for key, entry in value.items() if entry is not None}


class Fields:
    """An object being read: each method takes one member out of `given`, checks it, and keeps it in `taken`. A member that is absent or
    null is not taken, and an error where it is `required`."""

    __slots__ = ("given", "place", "taken")

    def __init__(self, place: Place, given: dict[str, Any]) -> None:
        self.place = place
        self.given = given
        self.taken: dict[str, Any] = {}

    def take(self, key: str, read: Callable[[Place, Any], Any], required: bool = False, default: Any = None) -> Any:
        """`read(place, value)` of a member; `default` (kept too, unless None) where it is not there."""
        value = self.given.get(key)
        if value is not None:
            self.taken[key] = read(self.place.of(key), value)
        elif required:
            raise self.place.of(key).wrong("missing: it is required")
        elif default is not None:
            self.taken[key] = default
        return self.taken.get(key)

    def string(self, key: str, required: bool = False, default: str | None = None) -> Any:
        return self.take(key, Place.string, required, default)

    def path(self, key: str, required: bool = False) -> Any:
        return self.take(key, Place.path_inside, required)

    def word(self, key: str, allowed: Collection[str], kind: str, required: bool = False) -> Any:
        return self.take(key, lambda place, value: place.word(value, allowed, kind), required)

    def integer(self, key: str, bounds: tuple[int, int], required: bool = False, default: int | None = None) -> Any:
        return self.take(key, lambda place, value: place.integer(value, *bounds), required, default)

    def boolean(self, key: str, required: bool = False, default: bool | None = None) -> Any:
        return self.take(key, Place.boolean, required, default)

    def strings(self, key: str, required: bool = False, default: list[str] | None = None) -> Any:
        return self.take(key, Place.strings, required, default)

    def list(self, key: str, read: Callable[[Place, Any], Any], default: list[Any] | None = None, required: bool = False) -> Any:
        """An array, each entry by `read`."""
        return self.take(key, lambda place, value: [read(at, entry) for at, entry in place.array(value)], required, default)

    def refuse(self, key: str, because: str, hint: str = "") -> None:
        if self.given.get(key):
            raise self.place.of(key).wrong(because, hint)


def unique(places: Iterator[tuple[Place, str]], what: str) -> None:
    """UsageError at the second of two that are the same."""
    seen: dict[str, str] = {}
    for place, value in places:
        if value in seen:
            raise place.wrong(f"{shown(value)}: a second {what}, the first is {seen[value]}")
        seen[value] = place.path


def processors(place: Place, value: Any) -> str:
    """A list of numbers and ranges, as cpuset(7)'s List format has it: `0-3,7`."""
    text = place.string(value)
    for part in text.replace(" ", "").split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or not first.isascii() or (dash and (not last.isdecimal() or not last.isascii())):
            raise place.wrong(f"{shown(text)} is not a list of numbers and ranges", "as in 0-3,7")
        if dash and int(last) < int(first):
            raise place.wrong(f"{shown(text)}: the range {part} ends before it begins")
    return text
