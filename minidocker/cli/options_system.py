"""The part of the table in options.py that is about the whole of minidocker, `system ...`, and what it gives back: `container prune`."""

from __future__ import annotations

from minidocker.cli.options import LIST, Command, Option
from minidocker.cli.options_cold import INFO, INSPECT

_FORCE = Option("-f, --force", "Do not ask")
_FILTER = Option("--filter KEY=VALUE", "Only containers: label=KEY[=VALUE], until=24h", LIST)

CONTAINER_PRUNE = Command(
    "container prune",
    "Remove the containers that have ended",
    "space",
    "prune_containers",
    (_FILTER, _FORCE),
    examples=(("those that were made more than a day ago, in a script", "minidocker container prune -f --filter until=24h"),),
)

SYSTEM_BOOT = Command(
    "system boot",
    "Start what should be up again after the host came up",
    "boot",
    "boot",
    examples=(("what systemd is to do at each boot", "minidocker generate systemd > /etc/systemd/system/minidocker.service"),),
)

GENERATE_SYSTEMD = Command(
    "generate systemd",
    "Print a unit that starts a container at boot",
    "boot",
    "systemd",
    (Option("--new", "Make it anew each time, in the foreground of the unit"),),
    "[CONTAINER]",
    most=1,
    examples=(
        ("the container web", "minidocker generate systemd web > /etc/systemd/system/web.service"),
        ("all whose restart policy says so", "minidocker generate systemd > /etc/systemd/system/minidocker.service"),
    ),
)

SYSTEM_CHECK = Command(
    "system check",
    "Say what is wrong with the records, and what is left over",
    "doctor",
    "state",
    (Option("--format FORMAT", "json", complete=("json",)), Option("--repair", "Save what can be read, take away what is left over")),
    examples=(("after a disk that failed", "minidocker system check --repair"),),
)

SYSTEM_DF = Command(
    "system df",
    "Show what takes how much of the disk",
    "space",
    "df",
    (Option("--format FORMAT", "table, json, or a template ('{{.Type}} {{.Size}}')", complete=("table", "json")),),
    examples=(("what `system prune` would give back", "minidocker system df --format '{{.Type}}: {{.Reclaimable}}'"),),
)

SYSTEM_PRUNE = Command(
    "system prune",
    "Remove ended containers and networks that none uses",
    "space",
    "prune",
    (_FILTER, _FORCE, Option("--volumes", "Anonymous volumes that no container has, too")),
    examples=(("without asking", "minidocker system prune -f"),),
)

CONTAINER_INSPECT = Command(
    "container inspect",
    "Show all that is known about containers",
    "containers",
    "inspect",
    INSPECT.options[:1],
    "CONTAINER...",
    least=1,
    most=-1,
    examples=(("its exit code", "minidocker container inspect -f '{{.State.ExitCode}}' web"),),
)

CONTAINER_COMMANDS: tuple[Command, ...] = (CONTAINER_INSPECT, CONTAINER_PRUNE)
SYSTEM_COMMANDS: tuple[Command, ...] = (SYSTEM_BOOT, SYSTEM_CHECK, SYSTEM_DF, SYSTEM_PRUNE, INFO)
