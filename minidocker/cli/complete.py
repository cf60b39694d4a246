"""What may stand where the cursor is, for the shells' completion: the table of options, and the names in state.db. No click: 25 ms.

    shell ── _MINIDOCKER_COMPLETE=bash minidocker WORD... CURRENT ──► VALUE[TAB]WHAT IT IS, a line each
                                                                     :file, :dir (the shell's own), :nospace

What an argument is says its name in the usage: CONTAINER, NETWORK, VOLUME, COMMAND. The scripts that ask are in shells.py.
"""

from __future__ import annotations

import os

from minidocker.cli import options, options_groups, output
from minidocker.cli.call import Call
from minidocker.cli.options import Command, Option
from minidocker.cli.options_cold import COMMANDS
from minidocker.errors import UsageError

Candidates = list[tuple[str, str]]

FILE, DIRECTORY, NO_SPACE = (":file", ""), (":dir", ""), (":nospace", "")
_HELP = Option("-h, --help", "Show this help")
_AT_TOP = (*options.GLOBAL, Option("-v, --version", "Show the version"), _HELP)
_BELOW = Option("--help", "Show this help")
# Commands that have no use for a container in another state: (the statuses that it has use for).
_STATES = {
    **dict.fromkeys(("exec", "attach", "kill", "stop", "pause", "top", "network trace"), ("running", "paused", "restarting")),
    "start": ("created", "exited"), "unpause": ("paused",),
}  # fmt: skip
_ENDS = ("outside", "the world"), ("host", "this host")  # of a trace, besides containers
_NEW = frozenset(("network create", "volume create"))  # whose NAME is not there yet


def answer(words: list[str], shell: str) -> str:
    """The lines for a command line's words after the program, the last of which, perhaps empty, is being typed."""
    words = _joined(words) if shell == "bash" else [*words]
    current = words.pop() if words else ""
    found = [one for one in _Cursor(current).walk(words) if one in (FILE, DIRECTORY, NO_SPACE) or one[0].startswith(current)]
    # bash splits words at = and :, and replaces what stands behind the last of them
    cut = max(current.rfind("="), current.rfind(":")) + 1 if shell == "bash" else 0
    return "".join(f"{value if value[:1] == ':' else value[cut:]}" + f"\t{what}" * bool(what) + "\n" for value, what in found)


def _joined(words: list[str]) -> list[str]:
    """`--network`, `=`, `container`, `:`, `web` as the one word that was typed."""
    found: list[str] = []
    for word in words:
        behind = found[-1] if found else ""
        if behind and (word in ("=", ":") or behind.endswith(("=", ":"))) and (behind[:2] == "--" or "=" not in word + behind):
            found[-1] += word
        else:
            found.append(word)
    return found


class _Cursor:
    """The way from the program to the word that is being typed."""

    def __init__(self, current: str) -> None:
        self.current = current
        self.root: str | None = None
        self._known: dict[str, list[tuple[str, str]]] | None = None

    def walk(self, words: list[str]) -> Candidates:
        """What may be the current word after these."""
        rest = iter(words)
        for word in rest:
            if word == "--root":
                self.root = next(rest, None)
                if self.root is None:
                    return [DIRECTORY]
            elif word.startswith("--root="):
                self.root = word.partition("=")[2]
            elif word[:1] != "-":
                return self._below(word, list(rest))
        if self.current[:1] == "-":
            return self._options(_AT_TOP)
        return [(command.name, command.summary) for command in COMMANDS] + [
            (group.name, group.summary) for group in options_groups.GROUPS
        ]

    def _below(self, word: str, rest: list[str]) -> Candidates:
        group = next((group for group in options_groups.GROUPS if group.name == word), None)
        if group is None:
            command = next((command for command in COMMANDS if command.name == word), None)
            return self._command(command, rest) if command else []
        if not rest:
            below = [(name, command.summary) for name, command in group.commands]
            return self._options((_BELOW,)) if self.current[:1] == "-" else below
        aliases = dict(group.aliases)
        command = dict(group.commands).get(aliases.get(rest[0], rest[0]))
        return self._command(command, rest[1:]) if command else []

    def _command(self, command: Command, words: list[str]) -> Candidates:
        known = {name: option for option in command.options for name in option.names}
        arguments: list[str] = []
        ended = False
        rest = iter(words)
        for word in rest:
            if ended or word[:1] != "-" or word == "-":
                arguments.append(word)
                ended = ended or not command.interspersed
            elif word == "--":
                ended = True
            elif (option := _takes_next(known, word)) is not None and next(rest, None) is None:
                return self._values(option, "")
        if ended or self.current[:1] != "-":
            return self._argument(command, arguments)
        name, equals, _ = self.current.partition("=")
        if equals and name in known and known[name].kind != options.FLAG:
            return self._values(known[name], name + "=")
        return self._options((*command.options, _BELOW))

    def _options(self, table: tuple[Option, ...]) -> Candidates:
        """The long names, the second ones where none of the first begins like this; the letters where but a dash is typed."""
        shown = [(option.shown[-1], option.help) for option in table]
        if any(name.startswith(self.current) for name, _ in shown):
            return shown
        return [(name, option.help) for option in table for name in option.names]

    def _values(self, option: Option, before: str) -> Candidates:
        """What an option may be given; `before` stands before it in the same word."""
        if option.complete:
            found = _fixed(option.complete)
        elif option.metavar.startswith("NETWORK"):
            shared = [(f"container:{name}", about) for name, about in self._names("container", ("running",))]
            found = [("none", "no network"), ("host", "this host's network"), *self._names("network"), *shared]
        elif option.metavar == "DIR":
            found = [DIRECTORY]
        elif option.metavar == "FILE":
            found = [FILE]
        elif option.metavar.startswith("SRC:DST"):
            found = [FILE, NO_SPACE, *((f"{name}:", "volume") for name, _ in self._names("volume"))]
        else:
            found = []
        return [one if one[0][:1] == ":" else (before + one[0], one[1]) for one in found]

    def _argument(self, command: Command, before: list[str]) -> Candidates:
        place = len(before)
        if command.name == "man":  # its words are a command's
            return self.walk(before) if place < 2 else []
        if command.name in _NEW or (0 <= command.most <= place):
            return []
        if "CONTAINER:" in command.arguments:  # cp
            return [FILE, NO_SPACE, *((f"{name}:", about) for name, about in self._names("container"))]
        if command.complete:
            return _fixed(command.complete)
        words = command.arguments.replace("[ARG...]", "COMMAND...").split()
        word = words[min(place, len(words) - 1)].strip("[].") if words else ""
        if place >= len(words) and not command.arguments.endswith(("...", "...]")):
            return []
        if command.name == "inspect":
            word = "CONTAINER|NETWORK|VOLUME"
        found: Candidates = []
        for kind in word.split("|"):
            if kind == "COMMAND":
                found.append(FILE)
            elif kind in ("FROM", "TO[:PORT"):
                found += [*self._names("container", _STATES["network trace"]), *_ENDS]
            elif kind in ("CONTAINER", "NETWORK", "VOLUME"):
                found += self._names(kind.lower(), _STATES.get(command.name, ()))
        return found

    def _names(self, kind: str, states: tuple[str, ...] = ()) -> list[tuple[str, str]]:
        """The names of one kind, of containers those in these states."""
        if self._known is None:
            from minidocker.storage import peek

            try:
                root = Call(options.RUN, {}, [], self.root).root_directory()
            except UsageError:
                return []
            self._known = peek.names(root)
        return [one for one in self._known[kind] if kind != "container" or not states or one[1] in states]


def _takes_next(known: dict[str, Option], word: str) -> Option | None:
    """The option whose value is the next word."""
    if word[:2] == "--":
        option = known.get(word)
        return option if option is not None and option.kind != options.FLAG else None
    for at in range(1, len(word)):
        option = known.get("-" + word[at])
        if option is None:
            return None
        if option.kind != options.FLAG:
            return option if at == len(word) - 1 else None
    return None


def _fixed(complete: tuple[str, ...] | str) -> Candidates:
    """What the table says itself: words, or the shell's own files or directories."""
    if isinstance(complete, str):
        return [FILE if complete == "file" else DIRECTORY]
    return [(word, "") for word in complete]


def reply(words: list[str]) -> int:
    """Print the answer to the shell that asks."""
    output.say_text(answer(words, os.environ["_MINIDOCKER_COMPLETE"]))
    return 0
