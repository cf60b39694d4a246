"""The commands in their groups: the whole of the table in options.py, as click, completion and the manual pages see it."""

from __future__ import annotations

from minidocker.cli.options import Command
from minidocker.cli.options_cold import COMMANDS
from minidocker.cli.options_networks import NETWORK_COMMANDS
from minidocker.cli.options_system import CONTAINER_COMMANDS, GENERATE_SYSTEMD, SYSTEM_COMMANDS
from minidocker.cli.options_volumes import VOLUME_COMMANDS


class Group:
    """A word with commands below it. `commands` is (name below it, command): the command's own last word, or another for what has a name at
    the top, too; `aliases` (alias, name) are taken and not shown."""

    __slots__ = ("aliases", "commands", "name", "summary")

    def __init__(
        self, name: str, summary: str, commands: tuple[Command, ...], names: dict[str, str] | None = None,
        aliases: tuple[tuple[str, str], ...] = (),
    ) -> None:  # fmt: skip
        self.name = name
        self.summary = summary
        self.commands = tuple(((names or {}).get(command.name) or command.name.rpartition(" ")[2], command) for command in commands)
        self.aliases = aliases


# At the top and not about containers alone: everything else there stands below `container`, too.
_OF_THE_HOST = frozenset(("inspect", "events", "info", "doctor", "version", "completion", "man"))
GROUPS = (
    Group(
        "container", "The commands on containers, by docker's longer names",
        tuple(command for command in COMMANDS if command.name not in _OF_THE_HOST) + CONTAINER_COMMANDS,
        {"ps": "ls"}, (("ps", "ls"), ("list", "ls"), ("remove", "rm")),
    ),
    Group("network", "Make, list and remove networks", NETWORK_COMMANDS, aliases=(("list", "ls"), ("remove", "rm"))),
    Group("volume", "Keep files that outlive containers", VOLUME_COMMANDS, aliases=(("list", "ls"), ("remove", "rm"))),
    Group("generate", "Write what other programs read of a container", (GENERATE_SYSTEMD,)),
    Group("system", "What minidocker takes of this host, and giving it back", SYSTEM_COMMANDS),
)  # fmt: skip


def every() -> list[tuple[str, Command]]:
    """(words after `minidocker`, command) of all that is shown, groups after what stands at the top."""
    found = [(command.name, command) for command in COMMANDS]
    return found + [(f"{group.name} {name}", command) for group in GROUPS for name, command in group.commands]
