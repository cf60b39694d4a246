"""Docker's spellings that click does not know, rewritten before it parses.

    --rm=true  --rm         -e=A=1  -eA=1          "off" names are no option that can be typed: they hold an escape character
    --rm=false OFF(--rm)    -i=true -i
"""

from __future__ import annotations

from minidocker.cli import options
from minidocker.spec import parse

OFF = "\x1boff"


def off(name: str) -> str:
    """The inner name that turns a flag off: it has two dashes, as click takes one dash for letters in a row."""
    return "--" + name.lstrip("-") + OFF


def rewritten(table: tuple[options.Option, ...], interspersed: bool, words: list[str]) -> list[str]:
    """`words` in click's spelling; what stands for no option of the table stays as it is. Raises UsageError for `--rm=maybe`."""
    known = {name: option for option in table for name in option.names}
    found: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--" or (not interspersed and (len(word) < 2 or word[0] != "-")):
            found.append(word)
            break
        made, takes_next = _long(known, word) if word.startswith("--") else _short(known, word)
        found.extend(made)
        if takes_next and (value := next(rest, None)) is not None:
            found.append(value)
    found.extend(rest)
    return found


def _long(known: dict[str, options.Option], word: str) -> tuple[list[str], bool]:
    """The word or words for a long option, and whether its value is the next word."""
    name, equals, value = word.partition("=")
    option = known.get(name)
    if option is None:
        return [word], False
    if option.kind != options.FLAG:
        return [word], not equals
    return [_flag(name, option, value) if equals else name], False


def _short(known: dict[str, options.Option], word: str) -> tuple[list[str], bool]:
    """The same for letters in a row; a word that is not one stays as it is."""
    if word[:1] != "-":
        return [word], False
    for at in range(1, len(word)):
        option = known.get("-" + word[at])
        if option is None:
            return [word], False
        before, value = word[:at], word[at + 1 :]
        equals = len(value) > 1 and value[0] == "="
        if option.kind == options.FLAG and equals:
            return [before] * (at > 1) + [_flag("-" + word[at], option, value[1:])], False
        if option.kind != options.FLAG:
            return [word[: at + 1] + value[1:] if equals else word], not value
    return [word], False


def _flag(name: str, option: options.Option, value: str) -> str:
    return name if parse.boolean(name, value) else off(option.shown[-1])
