"""The part of Go's text/template that --format takes, and no more:

    text   {{.Field.Name}}   {{.}}   {{json .Field}}   {{.Field | json}}   {{index .Labels "a.b"}}   {{range .Networks}} ... {{end}}

Pure. Values print as Go prints them: true, 3, [a b], map[k:v], <no value>. Anything else in braces is refused, never ignored.
"""

from __future__ import annotations

from minidocker.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ALLOWED = 'fields ({{.State.Pid}}), {{json .State}}, {{index .Labels "a.b"}} and {{range .Args}}...{{end}} are allowed'


class Field:
    """One pair of braces: the names to follow from the top, then the keys to look up, which need not be there; and whether the value is
    shown as JSON."""

    __slots__ = ("as_json", "keys", "path")

    def __init__(self, path: tuple[str, ...], as_json: bool, keys: tuple[str, ...] = ()) -> None:
        self.path = path
        self.as_json = as_json
        self.keys = keys


class Range(Field):
    """What stands between {{range FIELD}} and its {{end}}, once for each element, a map's in the order of its keys."""

    __slots__ = ("parts",)

    def __init__(self, path: tuple[str, ...], parts: list[str | Field]) -> None:
        super().__init__(path, False)
        self.parts = parts


def compile(text: str) -> list[str | Field]:
    """The template's parts in order. Raises UsageError, which shows what was not understood."""
    pieces = _pieces(text)
    parts, ended = _until_end(pieces)
    if ended:
        raise UsageError(f"--format `{_short(text)}`: {{{{end}}}} without {{{{range}}}}")
    return parts


def _pieces(text: str) -> Iterator[tuple[bool, str]]:
    """(whether it stands in braces, text), one after the other."""
    rest = text
    while rest:
        before, braces, rest = rest.partition("{{")
        if before:
            yield False, before
        if braces:
            action, end, rest = rest.partition("}}")
            if not end:
                raise UsageError(f"--format `{_short(text)}`: {{{{ without }}}}")
            yield True, action


def _until_end(pieces: Iterator[tuple[bool, str]]) -> tuple[list[str | Field], bool]:
    """The parts up to {{end}}, or to the end of the text; whether it was {{end}}."""
    parts: list[str | Field] = []
    for in_braces, piece in pieces:
        words = piece.split() if in_braces else []
        if not in_braces:
            parts.append(piece)
        elif words == ["end"]:
            return parts, True
        elif len(words) == 2 and words[0] == "range":
            path = _path(words[1], piece)
            inner, ended = _until_end(pieces)
            if not ended:
                raise UsageError(f"--format: `{{{{{_short(piece)}}}}}` without {{{{end}}}}")
            parts.append(Range(path, inner))
        else:
            parts.append(_action(piece))
    return parts, False


def _action(action: str) -> Field:
    words = action.replace("|", " | ").split()
    if len(words) == 2 and words[0] == "json":
        return Field(_path(words[1], action), True)
    if len(words) == 3 and words[1:] == ["|", "json"]:
        return Field(_path(words[0], action), True)
    if len(words) == 1:
        return Field(_path(words[0], action), False)
    if len(words) > 2 and words[0] == "index":
        _, _, keys = action.partition(words[1])
        return Field(_path(words[1], action), False, _quoted(keys, action))
    raise UsageError(f"--format: `{{{{{_short(action)}}}}}` is not supported", _ALLOWED)


def _quoted(text: str, action: str) -> tuple[str, ...]:
    """"a" "b c" as two keys. There are no escapes in them."""
    pieces = text.split('"')
    if len(pieces) % 2 == 0 or "\\" in text or any(between.strip() for between in pieces[::2]):
        raise UsageError(f"--format: `{{{{{_short(action)}}}}}` is not supported", _ALLOWED)
    return tuple(pieces[1::2])


def _path(word: str, action: str) -> tuple[str, ...]:
    names = word.split(".")
    if word == ".":
        return ()
    if names[0] or not all(names[1:]) or any(c in word for c in "\"'`()$"):
        raise UsageError(f"--format: `{{{{{_short(action)}}}}}` is not supported", _ALLOWED)
    return tuple(names[1:])


def render(parts: list[str | Field], value: object) -> str:
    """The template applied to `value` (dicts, lists and scalars). Raises UsageError for a field that is not there."""
    return "".join(part if isinstance(part, str) else _show(part, value) for part in parts)


def _show(field: Field, value: object) -> str:
    found = _follow(field, value)
    if isinstance(field, Range):
        return "".join(render(field.parts, one) for one in _elements(field, found))
    for key in field.keys:
        found = found.get(key) if isinstance(found, dict) else None
    if field.keys and found is None:
        return ""  # as Go has it for a map of strings
    return to_json(found) if field.as_json else text_of(found)


def _elements(field: Field, found: object) -> list[object]:
    if found is None:
        return []
    if isinstance(found, dict):
        return [found[key] for key in sorted(found)]
    if isinstance(found, (list, tuple)):
        return list(found)
    raise UsageError(f"--format: `{{{{range .{'.'.join(field.path)}}}}}`: it is neither a list nor a map")


def _follow(field: Field, value: object) -> object:
    found = value
    for depth, name in enumerate(field.path):
        if not isinstance(found, dict):
            raise UsageError(f"--format: `.{'.'.join(field.path)}`: `{_where(field, depth)}` has no fields")
        if name not in found:
            hint = _meant(field, depth, found, value) + "there are: " + (", ".join(sorted(map(str, found))) or "none")
            raise UsageError(f"--format: `.{'.'.join(field.path)}`: no field `{name}` in `{_where(field, depth)}`", hint)
        found = found[name]
    return found


def _meant(field: Field, depth: int, there: dict[str, object], top: object) -> str:
    """The path that was perhaps meant: a field beside it that is spelt nearly so, or one of that name somewhere else."""
    from minidocker.spec.near import near

    name = field.path[depth].lower()
    beside = {str(key).lower(): str(key) for key in there}
    path = [*field.path[:depth], beside[close[0]]] if (close := near(name, beside)) else _somewhere(top, name)
    return f"did you mean `.{'.'.join(path)}`? " if path else ""


def _somewhere(value: object, name: str) -> list[str]:
    """The way to the nearest field with this name in small letters, by breadth; [] for none."""
    level: list[tuple[list[str], object]] = [([], value)]
    while level:
        below = [([*path, str(key)], inner) for path, one in level if isinstance(one, dict) for key, inner in one.items()]
        for path, _ in below:
            if path[-1].lower() == name:
                return path
        level = below
    return []


def _where(field: Field, depth: int) -> str:
    return "." + ".".join(field.path[:depth])


def text_of(value: object) -> str:
    """A value as Go's fmt prints it with %v."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{text_of(item)}" for key, item in sorted(value.items(), key=lambda pair: str(pair[0]))) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(map(text_of, value)) + "]"
    return str(value)


def to_json(value: object, indent: int | None = None) -> str:
    """JSON, compact like Go's unless an indent is given."""
    import json

    show: Callable[..., str] = json.dumps
    return show(value, indent=indent, separators=(",", ":") if indent is None else None, default=str)


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
