"""argv to a Call, by the table in commands.py. Pure, and without an import that costs: an engine calls us for every little thing.

Options are spelt as Go programs accept them: `--root DIR`, `--root=DIR`, `--force=true`, `-b DIR`, `-b=DIR`, `-fq`; what follows `--` is
arguments.
"""

from __future__ import annotations

from minidocker.cli.oci import commands
from minidocker.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

FLAG, VALUE, LIST, OPTIONAL = range(4)
_MODES = ("true", "false", "auto")  # which --rootless may have as its next word, too
_TRUE, _FALSE = ("1", "t", "T", "true", "TRUE", "True"), ("0", "f", "F", "false", "FALSE", "False")  # Go's strconv.ParseBool


class Call:
    """What was asked for: `name` of the command ("" for none, as `--version` needs none); `globals` and `options` by key, a list for
    LIST, True or a str for the rest; `arguments`."""

    __slots__ = ("arguments", "globals", "name", "options")

    def __init__(self, name: str, globals: dict[str, object], options: dict[str, object], arguments: list[str]) -> None:
        self.name = name
        self.globals = globals
        self.options = options
        self.arguments = arguments

    def text(self, key: str, default: str = "") -> str:
        value = self.options.get(key, default)
        return value if isinstance(value, str) else default

    def flag(self, key: str) -> bool:
        return self.options.get(key) is True

    def texts(self, key: str) -> list[str]:
        value = self.options.get(key)
        return value if isinstance(value, list) else []

    def number(self, key: str) -> int | None:
        """The value of --KEY as a whole number, None when it was not given. UsageError for anything else."""
        value = self.text(key)
        digits = value[1:] if value[:1] == "-" else value
        if not value and key not in self.options:
            return None
        if not (digits.isascii() and digits.isdecimal()) or len(digits) > 20:
            raise UsageError(f"--{key.replace('_', '-')} {value}: not a whole number")
        return int(value)


class Option:
    """One line of the table: `key`, `kind`, and the `spelling` that is shown."""

    __slots__ = ("key", "kind", "spelling")

    def __init__(self, words: list[str]) -> None:
        names = [word.rstrip(",") for word in words if word[0] == "-"]
        value = words[-1] if len(words) > len(names) else ""
        self.spelling = names[-1]
        self.key = self.spelling.lstrip("-").replace("-", "_")
        self.kind = FLAG if not value else OPTIONAL if value[0] == "[" else LIST if value.endswith("...") else VALUE


def table(text: str) -> dict[str, Option]:
    """The options that `text` (see commands.py) tells of, by every one of their names."""
    found: dict[str, Option] = {}
    for line in text.splitlines():
        words = line.partition("  ")[0].split()
        if words:
            option = Option(words)
            found.update((word.rstrip(","), option) for word in words if word[0] == "-")
    return found


def parse(words: list[str]) -> Call:
    """The call that `words` (argv without the program) spell. UsageError."""
    given: dict[str, object] = {}
    known = table(commands.GLOBAL)
    rest = iter(words)
    name = _options(known, given, rest)
    if name in _MODES and given.get("rootless") == "true":
        given["rootless"] = name
        name = _options(known, given, rest)
    if name is None or given.get("help") or given.get("version"):
        return Call("", given, {}, [])
    command = commands.COMMANDS.get(name)
    if command is None:
        raise _unknown("command", name, commands.COMMANDS)
    known = table(command.options + "\n-h, --help")
    options: dict[str, object] = {}
    arguments: list[str] = []
    while (word := _options(known, options, rest)) not in (None, "--"):
        arguments.append(str(word))
        if command.ends:
            break
    others = list(rest)
    arguments += others[1:] if command.ends and others[:1] == ["--"] else others
    if not options.get("help"):
        if len(arguments) < command.least:
            raise UsageError(f"{name}: {'the id of a container is' if not arguments else 'an argument is'} missing", _usage(name, command))
        if 0 <= command.most < len(arguments):
            raise UsageError(f"{name}: `{arguments[command.most]}` is one argument too many", _usage(name, command))
    return Call(name, given, options, arguments)


def _usage(name: str, command: commands.Command) -> str:
    return f"minidocker-oci {name} [OPTIONS] {command.usage}".rstrip()


def _options(known: dict[str, Option], given: dict[str, object], rest: Iterator[str]) -> str | None:
    """Take options into `given` up to the first word that is none, which is returned; None at the end, "--" for that itself."""
    for word in rest:
        if len(word) < 2 or word[0] != "-" or word == "--":
            return word
        name, equals, value = word.partition("=")
        if name in known:
            _take(known[name], given, value if equals else None, rest)
        elif word[1] != "-" and not equals and all("-" + letter in known and known["-" + letter].kind == FLAG for letter in word[1:]):
            for letter in word[1:]:
                given[known["-" + letter].key] = True
        else:
            raise _unknown("option", name, known)
    return None


def _take(option: Option, given: dict[str, object], value: str | None, rest: Iterator[str]) -> None:
    if option.kind == FLAG:
        if value is not None and value not in (*_TRUE, *_FALSE):
            raise UsageError(f"{option.spelling}={value}: neither true nor false")
        given[option.key] = value is None or value in _TRUE
        return
    if option.kind == OPTIONAL:
        given[option.key] = "true" if value is None else value
        return
    if value is None:
        value = next(rest, None)
    if value is None:
        raise UsageError(f"{option.spelling} needs a value")
    if option.kind == LIST:
        kept = given.setdefault(option.key, [])
        assert isinstance(kept, list)  # noqa: S101
        kept.append(value)
    else:
        given[option.key] = value


def _unknown(what: str, name: str, known: dict[str, Option] | dict[str, commands.Command]) -> UsageError:
    from minidocker.spec.near import near

    close = near(name, known)
    return UsageError(f"unknown {what} `{name}`", "did you mean " + " or ".join(f"`{word}`" for word in close) + "?" if close else "")
