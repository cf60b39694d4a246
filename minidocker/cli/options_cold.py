"""The rest of the table in options.py: the commands that click alone reads."""

from __future__ import annotations

from minidocker.cli.options import EXEC, EXPLAIN, LIST, LOGS, PS, RUN, SIGNALS, STOP, Command, Option
from minidocker.cli.options_files import CP, DIFF
from minidocker.cli.options_life import LIFE

START = Command(
    "start",
    "Start containers that are created or have ended",
    "containers",
    "start",
    (
        Option("-a, --attach", "Show its output, pass signals on, and end as it does"),
        Option("--detach-keys KEYS", "Keys that detach (default: its own)"),
        Option("-i, --interactive", "That, and pass stdin on to it"),
    ),
    "CONTAINER...",
    least=1,
    most=-1,
    examples=(("one that was made with `create -it`, in the foreground", "minidocker start -ai web"),),
)

RESTART = Command(
    "restart",
    "Stop containers and start them again",
    "containers",
    "restart",
    STOP.options[:1],
    "CONTAINER...",
    least=1,
    most=-1,
)

KILL = Command(
    "kill",
    "Send a signal to containers",
    "containers",
    "kill",
    (Option("-s, --signal SIGNAL", "Name or number (default KILL)", complete=SIGNALS),),
    "CONTAINER...",
    least=1,
    most=-1,
)

RM = Command(
    "rm",
    "Remove containers",
    "containers",
    "remove",
    (
        EXPLAIN,
        Option("-f, --force", "Kill them first when they run"),
        Option("-v, --volumes", "Remove their anonymous volumes too"),
    ),
    "CONTAINER...",
    least=1,
    most=-1,
)

INSPECT = Command(
    "inspect",
    "Show all that is known about containers, networks, volumes",
    "inspect",
    "inspect",
    (
        Option("-f, --format FORMAT", "json, or a template ('{{.State.Pid}}')", complete=("json",)),
        Option("--type TYPE", "container, network or volume (default: any)", complete=("container", "network", "volume")),
    ),
    "NAME...",
    least=1,
    most=-1,
    examples=(
        ("its address", "minidocker inspect -f '{{.NetworkSettings.Networks.br0.IPAddress}}' web"),
        ("what is mounted in it", "minidocker inspect -f '{{range .Mounts}}{{.Destination}} {{end}}' web"),
        ("how it was asked for", "minidocker inspect -f '{{json .Config}}' web"),
    ),
)

PORT = Command(
    "port",
    "Show where a container's ports are published",
    "containers",
    "port",
    (
        Option("--format FORMAT", "table, json, or a template ('{{.HostPort}}')", complete=("table", "json")),
        Option("-q, --quiet", "Show the host's addresses only"),
    ),
    "CONTAINER [PORT[/PROTOCOL]]",
    least=1,
    most=2,
    examples=(("the host's address for port 80 of web", "minidocker port web 80"),),
)

STATS = Command(
    "stats",
    "Show what containers use, live",
    "stats",
    "stats",
    (
        Option("-a, --all", "Show ended containers too"),
        Option("--format FORMAT", "table, json, or a template ('{{.Name}} {{.CPUPerc}}')", complete=("table", "json")),
        Option("--no-stream", "Show it once and end"),
        Option("--no-trunc", "Show ids in full"),
    ),
    "[CONTAINER...]",
    most=-1,
    examples=(("memory of each, once", "minidocker stats --no-stream --format '{{.Name}} {{.MemUsage}}'"),),
)

EVENTS = Command(
    "events",
    "Show what happens to containers and networks, as it happens",
    "events",
    "events",
    (
        Option("-f, --filter KEY=VALUE", "container=, event=, label=, network= or type=", LIST),
        Option("--format FORMAT", "json, or a template ('{{.Action}} {{.Actor.ID}}')", complete=("json",)),
        Option("--since TIME", "From this time on (2024-05-01T10:00:00Z, 90s, 1h30m)"),
        Option("--until TIME", "Up to this time"),
    ),
    examples=(("who has ended in the last hour, and how", "minidocker events --since 1h --until 0s -f event=die"),),
)

INFO = Command(
    "info",
    "Show this host as minidocker sees it",
    "system",
    "info",
    (Option("-f, --format FORMAT", "json, or a template", complete=("json",)),),
)

DOCTOR = Command(
    "doctor",
    "Say whether this host can run containers, and what mends it",
    "doctor",
    "host",
    (Option("--format FORMAT", "json", complete=("json",)),),
)

VERSION = Command(
    "version",
    "Show versions",
    "system",
    "version",
    (Option("-f, --format FORMAT", "json, or a template", complete=("json",)),),
    root=False,
)

COMPLETION = Command(
    "completion",
    "Print the completion script of a shell",
    "system",
    "completion",
    arguments="bash|zsh|fish",
    least=1,
    most=1,
    root=False,
    complete=("bash", "zsh", "fish"),
    examples=(("for this bash", 'eval "$(minidocker completion bash)"'),),
)

MAN = Command(
    "man",
    "Print the manual page of a command",
    "man",
    "manual",
    (Option("-o, --output DIR", "Write all pages into this directory"),),
    "[COMMAND...]",
    most=-1,
    root=False,
    examples=(
        ("read one", "minidocker man network create | man -l -"),
        ("all of them, for every user", "minidocker man -o /usr/local/share/man/man1"),
    ),
)

COMMANDS = (
    RUN, *LIFE, EXEC, PS, LOGS, START, STOP, RESTART, KILL, RM, INSPECT, CP, DIFF, PORT, STATS, EVENTS, INFO, DOCTOR, VERSION, COMPLETION,
    MAN,
)  # fmt: skip
