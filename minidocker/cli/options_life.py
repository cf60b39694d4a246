"""The part of the table in options.py that is about a container's life between its making and its end: for click alone."""

from __future__ import annotations

from minidocker.cli.options import EXPLAIN, RUN, Command, Option

# what says how the command itself goes on, and is of no use where nothing runs yet
_OF_THE_COMMAND = ("detach", "detach_keys", "dry_run", "explain")

CREATE = Command(
    "create",
    "Make a container, and do not start it yet",
    "life",
    "create",
    tuple(option for option in RUN.options if option.key not in _OF_THE_COMMAND),
    "COMMAND [ARG...]",
    least=1,
    most=-1,
    interspersed=False,
    fails_with=125,
    complete="file",
    examples=(("its name, address and ports are kept for it until it is started", "minidocker create --name web -p 80:8081 ./server web"),),
)

PAUSE = Command(
    "pause",
    "Stop all processes of containers where they are",
    "life",
    "pause",
    (EXPLAIN,),
    "CONTAINER...",
    least=1,
    most=-1,
    examples=(("what it does to the freezer", "minidocker pause --explain web"),),
)

UNPAUSE = Command("unpause", "Let paused containers go on", "life", "unpause", (EXPLAIN,), "CONTAINER...", least=1, most=-1,
                  examples=(("both go on", "minidocker unpause web db"),))  # fmt: skip

WAIT = Command("wait", "Wait until containers have ended, and print their exit codes", "life", "wait", (), "CONTAINER...", least=1, most=-1,
               examples=(("what a script does next depends on it", 'test "$(minidocker wait job)" = 0'),))  # fmt: skip

ATTACH = Command(
    "attach",
    "Join a container that runs in the background, and end as it does",
    "life",
    "attach",
    (
        Option("--detach-keys KEYS", "Keys that detach (default: its own)"),
        Option("--no-stdin", "Show its output only"),
        Option("--sig-proxy BOOL", "Pass signals on to it (default true)", complete=("true", "false")),
    ),
    "CONTAINER",
    least=1,
    most=1,
    examples=(("to look, so that ctrl-c ends the looking alone", "minidocker attach --no-stdin --sig-proxy=false web"),),
)

_LIMITS = ("cpu_shares", "cpus", "cpuset_cpus", "memory", "memory_reservation", "memory_swap", "pids_limit")

UPDATE = Command(
    "update",
    "Change the limits of containers, also while they run",
    "life",
    "update",
    (*(option for option in RUN.options if option.key in _LIMITS), EXPLAIN),
    "CONTAINER...",
    least=1,
    most=-1,
    examples=(("half a gigabyte and one processor, at once and from now on", "minidocker update -m 512m --cpus 1 web"),),
)

RENAME = Command("rename", "Call a container by another name", "life", "rename", (EXPLAIN,), "CONTAINER NEW", least=2, most=2,
                 examples=(("its neighbours find it by that at once", "minidocker rename web front"),))  # fmt: skip

TOP = Command(
    "top",
    "Show the processes of a container, as ps does",
    "life",
    "top",
    (),
    "CONTAINER [COLUMN...|PS-OPTION...]",
    least=1,
    most=-1,
    interspersed=False,
    examples=(("columns of ps", "minidocker top web pid,user,rss args"), ("options of ps", "minidocker top web aux")),
)

LIFE = (CREATE, PAUSE, UNPAUSE, WAIT, ATTACH, UPDATE, RENAME, TOP)
