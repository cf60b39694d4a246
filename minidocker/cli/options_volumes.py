"""The part of the table in options.py that is about volumes."""

from __future__ import annotations

from minidocker.cli.options import LIST, Command, Option

_FILTER = Option("--filter KEY=VALUE", "Only where name or label match", LIST)

VOLUME_CREATE = Command(
    "volume create",
    "Make a volume",
    "volumes",
    "create",
    (Option("--label KEY[=VALUE]", "Set a label", LIST),),
    "[NAME]",
    most=1,
    examples=(("a volume, and a container with it", "minidocker volume create data && minidocker run -v data:/data ls /data"),),
)

VOLUME_LS = Command(
    "volume ls",
    "List volumes",
    "volumes",
    "ls",
    (
        Option("-f, --filter KEY=VALUE", "Where name, label, driver, dangling match", LIST),
        Option("--format FORMAT", "table, json, or a template ('{{.Name}}')", complete=("table", "json")),
        Option("-q, --quiet", "Show names only"),
    ),
    examples=(("those that no container has", "minidocker volume ls -q -f dangling=true"),),
)

VOLUME_INSPECT = Command(
    "volume inspect",
    "Show all that is known about volumes",
    "volumes",
    "inspect",
    (Option("-f, --format FORMAT", "json, or a template ('{{.Mountpoint}}')", complete=("json",)),),
    "VOLUME...",
    least=1,
    most=-1,
    examples=(("where its files are", "minidocker volume inspect -f '{{.Mountpoint}}' data"),),
)

VOLUME_RM = Command(
    "volume rm",
    "Remove volumes that no container has",
    "volumes",
    "remove",
    (Option("-f, --force", "One that is not there is no error"),),
    "VOLUME...",
    least=1,
    most=-1,
    examples=(("all that no container has", "minidocker volume rm $(minidocker volume ls -q -f dangling=true)"),),
)

VOLUME_PRUNE = Command(
    "volume prune",
    "Remove the anonymous volumes that no container has",
    "volumes",
    "prune",
    (Option("-a, --all", "Those with a name too"), _FILTER, Option("-f, --force", "Do not ask")),
    examples=(("those of a test, named ones too", "minidocker volume prune -af --filter label=test"),),
)

VOLUME_COMMANDS = (VOLUME_LS, VOLUME_INSPECT, VOLUME_CREATE, VOLUME_RM, VOLUME_PRUNE)
