"""Manual pages (man(7)) from the table that --help is made from: a page a command, and minidocker(1) that names them."""

from __future__ import annotations

import os

from minidocker import __version__
from minidocker.cli import options, options_groups, output
from minidocker.cli.options import Command, Option
from minidocker.cli.options_cold import COMMANDS
from minidocker.errors import KernelError, NotFoundError
from minidocker.spec.near import near

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from minidocker.cli.call import Call

_TITLE = "Containers whose network is in plain view"
_STATUS = {
    "run": (
        ("125", "minidocker itself failed, or refused"), ("126", "the command cannot be executed"), ("127", "there is no such command"),
        ("128+n", "signal n has killed the command"), ("else", "the command's own exit status"),
    ),
}  # fmt: skip
_STATUS["exec"] = _STATUS["run"]
_USUAL = (
    ("0", "it is done"), ("1", "there is no such thing, or it is not in a state for this"), ("125", "minidocker itself failed, or refused"),
)  # fmt: skip
_SPECIAL = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"}


def manual(call: Call) -> int:
    """`man`: the page of a command, or with -o all pages as files in a directory."""
    directory = call.text("output")
    if directory is not None:
        write_all(directory)
        return 0
    words = " ".join(call.arguments)
    words = {longer: command.name for longer, command in options_groups.every()}.get(words, words)
    pages = _pages()
    if words not in pages:
        close = near(words, pages)
        raise NotFoundError(f"no such command: {words}", f"did you mean {' or '.join(close)}?" if close else "minidocker --help lists them")
    output.say_text(pages[words])
    return 0


def write_all(directory: str) -> None:
    """Each page as DIRECTORY/minidocker-NETWORK-CREATE.1; what is there is written anew. Raises KernelError."""
    try:
        os.makedirs(directory, exist_ok=True)
        for words, page in _pages().items():
            with open(f"{directory}/{_name(words)}.1", "w", encoding="utf-8") as file:
                file.write(page)
    except OSError as error:
        raise KernelError.of(f"write manual pages to {directory}", error) from error


def _pages() -> dict[str, str]:
    """Words after `minidocker` -> its page; "" is minidocker(1). What has a name at the top has its page there alone."""
    at_top = set(COMMANDS)
    found = {"": _overview()}
    for words, command in options_groups.every():
        if words == command.name or command not in at_top:
            found.setdefault(command.name, _page(command))
    return found


def _name(words: str) -> str:
    return "-".join(["minidocker", *words.split()])


def _overview() -> str:
    lines = [*_head("", _TITLE), ".SH SYNOPSIS", f".B minidocker\n{escaped('[OPTIONS] COMMAND')}"]
    lines += [*_options(options.GLOBAL), ".SH COMMANDS"]
    lines += _list((words, command.summary) for words, command in options_groups.every() if words == command.name)
    lines += [".SS Groups", *_list((group.name, group.summary) for group in options_groups.GROUPS)]
    lines += [".SH FILES", *_list((("/var/lib/minidocker", "the data root: state.db, and what containers have written"),
                                   ("/run/minidocker", "what goes with the boot: locks, names, the state of what runs")))]  # fmt: skip
    pages = sorted(_name(words) for words, command in options_groups.every() if words == command.name)
    lines += [".SH EXIT STATUS", *_list(_USUAL), ".SH SEE ALSO"]
    lines += [f".BR {escaped(page)} (1)" + "," * (page != pages[-1]) for page in pages]
    return "\n".join(lines) + "\n"


def _page(command: Command) -> str:
    lines = [*_head(command.name, command.summary), ".SH SYNOPSIS"]
    lines.append(f".B minidocker {command.name}\n{escaped(command.usage.removeprefix('minidocker ' + command.name).strip())}".rstrip())
    lines += _options(command.options)
    if command.examples:
        lines.append(".SH EXAMPLES")
        for why, example in command.examples:
            lines += [".PP", escaped(why[:1].upper() + why[1:]) + ":", ".PP", ".RS 4", ".EX", escaped(example), ".EE", ".RE"]
    lines += [".SH EXIT STATUS", *_list(_STATUS.get(command.name, _USUAL)), ".SH SEE ALSO", ".BR minidocker (1)"]
    return "\n".join(lines) + "\n"


def _head(words: str, summary: str) -> list[str]:
    title = f'.TH "{_name(words).upper()}" "1" "" "minidocker {__version__}" "{_TITLE}"'
    return [title, ".nh", ".ad l", ".SH NAME", f"{escaped(_name(words))} \\- {escaped(summary[:1].lower() + summary[1:])}"]


def _options(table: tuple[Option, ...]) -> list[str]:
    if not table:
        return []
    rows = []
    for option in table:
        names = ", ".join(f"\\fB{escaped(name)}\\fP" for name in option.shown)
        rows.append((f"{names} \\fI{escaped(option.metavar)}\\fP" if option.metavar else names, _sentence(option)))
    return [".SH OPTIONS", *(line for left, right in rows for line in (".TP", left, escaped(right)))]


def _sentence(option: Option) -> str:
    again = " May be repeated." if option.kind == options.LIST else ""
    return option.help.rstrip(".") + "." + again


def _list(rows: Iterable[tuple[str, str]]) -> list[str]:
    return [line for left, right in rows for line in (".TP", f"\\fB{escaped(left)}\\fP", escaped(right))]


def escaped(text: str) -> str:
    """Text that roff prints as it stands: no command at the beginning of a line, no escape, a minus that can be copied (groff_char(7))."""
    plain = "".join(_SPECIAL.get(character, character) for character in text)
    return "\\&" + plain if plain[:1] == "." else plain
