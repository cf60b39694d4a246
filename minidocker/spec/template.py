"""The part of Go's text/template that --format takes: text, `{{.Field.Name}}`, `{{json .Field}}`, `{{.Field | json}}`, `{{.}}`.

Pure. Values print as Go prints them: true, 3, [a b], map[k:v], <no value>. Anything else in braces is refused, never ignored.
"""

from __future__ import annotations

from minidocker.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_ALLOWED = "fields ({{.Name}}, {{.State.Pid}}) and json ({{json .State}}) are allowed"


class Field:
    """One pair of braces: the names to follow from the top, and whether the value is shown as JSON."""

    __slots__ = ("as_json", "path")

    def __init__(self, path: tuple[str, ...], as_json: bool) -> None:
        self.path = path
        self.as_json = as_json


def compile(text: str) -> list[str | Field]:
    """The template's parts in order. Raises UsageError, which shows what was not understood."""
    parts: list[str | Field] = []
    rest = text
    while rest:
        before, braces, rest = rest.partition("{{")
        if before:
            parts.append(before)
        if braces:
            action, end, rest = rest.partition("}}")
            if not end:
                raise UsageError(f"--format `{_short(text)}`: {{{{ without }}}}")
            parts.append(_action(action))
    return parts


def _action(action: str) -> Field:
    words = action.replace("|", " | ").split()
    if len(words) == 2 and words[0] == "json":
        return Field(_path(words[1], action), True)
    if len(words) == 3 and words[1:] == ["|", "json"]:
        return Field(_path(words[0], action), True)
    if len(words) == 1:
        return Field(_path(words[0], action), False)
    raise UsageError(f"--format: `{{{{{_short(action)}}}}}` is not supported", _ALLOWED)


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
    found = value
    for depth, name in enumerate(field.path):
        if not isinstance(found, dict):
            raise UsageError(f"--format: `.{'.'.join(field.path)}`: `{_where(field, depth)}` has no fields")
        if name not in found:
            hint = _meant(field, depth, found, value) + "there are: " + (", ".join(sorted(map(str, found))) or "none")
            raise UsageError(f"--format: `.{'.'.join(field.path)}`: no field `{name}` in `{_where(field, depth)}`", hint)
        found = found[name]
    if not field.as_json:
        return text_of(found)
    return to_json(found)


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
