"""The small parser of the commands that must start fast: no click, no message, no import.

It knows well-formed use only. Whatever else there is (help, a misspelt option, a missing value, docker's rare `--rm=false`
and `-e=X`) it answers with None, and click takes the same words and reports: see `app.parse`, which a test holds equal.
"""

from __future__ import annotations

from minidocker.cli import options
from minidocker.cli.call import Call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minidocker.cli.options import Command, Option


def parse(words: list[str]) -> Call | None:
    """The call that `words` (argv without the program) spell, or None when this parser does not know."""
    root: str | None = None
    debug = False
    at = 0
    while at < len(words) and words[at].startswith("-"):
        word = words[at]
        at += 1
        if word == "--debug":
            debug = True
        elif word == "--root" and at < len(words):
            root = words[at]
            at += 1
        elif word.startswith("--root="):
            root = word[len("--root=") :]
        else:
            return None
    if words[at : at + 1] == ["container"]:  # docker's longer name: `container run`
        at += 1
        command = options.HOT_BELOW_CONTAINER.get(words[at]) if at < len(words) else None
    else:
        command = options.HOT.get(words[at]) if at < len(words) else None
    if command is None:
        return None
    scanned = _scan(command, words[at + 1 :])
    return None if scanned is None else Call(command, *scanned, root, debug)


def _scan(command: Command, words: list[str]) -> tuple[dict[str, bool | str | list[str]], list[str]] | None:
    """The options and the arguments of one command; None when anything is unknown or missing."""
    known = {name: option for option in command.options for name in option.names}
    given: dict[str, bool | str | list[str]] = {}
    arguments: list[str] = []
    rest = iter(words)
    for word in rest:
        if len(word) < 2 or word[0] != "-":
            arguments.append(word)
            if not command.interspersed:
                break
        elif word == "--":
            break
        elif not (_long(known, given, word, rest) if word[1] == "-" else _short(known, given, word, rest)):
            return None
    arguments.extend(rest)
    if len(arguments) < command.least or 0 <= command.most < len(arguments):
        return None
    return given, arguments


def _long(known: dict[str, Option], given: dict[str, bool | str | list[str]], word: str, rest: Iterator[str]) -> bool:
    """`--flag`, `--name value` or `--name=value`."""
    name, equals, value = word.partition("=")
    option = known.get(name)
    if option is None:
        return False
    if option.kind == options.FLAG:
        given[option.key] = True
        return not equals
    return _keep(given, option, value if equals else next(rest, None))


def _short(known: dict[str, Option], given: dict[str, bool | str | list[str]], word: str, rest: Iterator[str]) -> bool:
    """`-i`, `-it`, `-m512m`, `-m 512m`, `-itm512m`."""
    for at in range(1, len(word)):
        option = known.get("-" + word[at])
        if option is None:
            return False
        if option.kind != options.FLAG:
            value = word[at + 1 :]
            return not value.startswith("=") and _keep(given, option, value or next(rest, None))
        given[option.key] = True
    return True


def _keep(given: dict[str, bool | str | list[str]], option: Option, value: str | None) -> bool:
    """Note a value: the last one wins, a list keeps all. False when there is none."""
    if value is None:
        return False
    if option.kind == options.LIST:
        kept = given.setdefault(option.key, [])
        assert isinstance(kept, list)  # noqa: S101
        kept.append(value)
    else:
        given[option.key] = value
    return True
