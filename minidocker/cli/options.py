"""The command line as one table, read by the hot parser (`hot.py`) and by click (`app.py`): here what both read.

Plain data: nothing here parses, checks or prints. An option's `key` is the name its value is found under in `Call.given`,
the same by both ways; its value is True for a flag, a str for a value, a list of str for what may be repeated.
"""

from __future__ import annotations

FLAG = "flag"
VALUE = "value"
LIST = "list"


class Option:
    """One option. `spelling` is "-m, --memory SIZE", the last long name giving the key; `aliases` are accepted and not shown in the
    help; `complete` is a tuple of words, or "file" or "dir", for shell completion."""

    __slots__ = ("complete", "help", "key", "kind", "metavar", "names", "shown")

    def __init__(
        self, spelling: str, help: str, kind: str = "", aliases: tuple[str, ...] = (), complete: tuple[str, ...] | str = ()
    ) -> None:
        words = spelling.split()
        self.shown = tuple(word.rstrip(",") for word in words if word[0] == "-")
        self.metavar = words[-1] if len(words) > len(self.shown) else ""
        self.names = self.shown + aliases
        self.key = self.shown[-1][2:].replace("-", "_")
        self.kind = kind or (VALUE if self.metavar else FLAG)
        self.help = help
        self.complete = complete


class Command:
    """One command. `group` is the module of cli/ that has `function`; `arguments` its usage text; `least` and `most` how many arguments
    it takes (-1: any number); `interspersed` whether options may follow arguments; `fails_with` replaces exit code 1."""

    __slots__ = (
        "arguments", "complete", "examples", "fails_with", "function", "group", "interspersed", "least", "most", "name", "options", "root",
        "summary",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        summary: str,
        group: str,
        function: str,
        options: tuple[Option, ...] = (),
        arguments: str = "",
        least: int = 0,
        most: int = 0,
        interspersed: bool = True,
        fails_with: int = 1,
        root: bool = True,
        examples: tuple[tuple[str, str], ...] = (),
        complete: tuple[str, ...] | str = (),
    ) -> None:
        self.name = name
        self.summary = summary
        self.group = group
        self.function = function
        self.options = options
        self.arguments = arguments
        self.least = least
        self.most = most
        self.interspersed = interspersed
        self.fails_with = fails_with
        self.root = root
        self.examples = examples
        self.complete = complete

    @property
    def usage(self) -> str:
        """`minidocker run [OPTIONS] COMMAND [ARG...]`"""
        return self.usage_as(self.name)

    def usage_as(self, name: str) -> str:
        """The usage by another name that it has."""
        return " ".join(["minidocker", name, *["[OPTIONS]"] * bool(self.options), *[self.arguments] * bool(self.arguments)])


SIGNALS = ("HUP", "INT", "QUIT", "KILL", "USR1", "USR2", "TERM", "CONT", "STOP", "WINCH")

GLOBAL = (
    Option("--root DIR", "Where state is kept (MINIDOCKER_ROOT, /var/lib/minidocker)", complete="dir"),
    Option("--debug", "Show the traceback of an error"),
)

EXPLAIN = Option("--explain", "Show each step as a command, on stderr")

RUN = Command(
    "run",
    "Run a command in a new container",
    "containers",
    "run",
    (
        Option("--add-host NAME:IP", "Add a line to the container's /etc/hosts", LIST),
        Option("--cap-add CAP", "Give a capability (NET_ADMIN, ..., or ALL)", LIST),
        Option("--cap-drop CAP", "Take a capability away (or ALL)", LIST),
        Option("--cgroup-conf FILE=VALUE", "Set a file of cgroup v2 (memory.high=200m)", LIST),
        Option("--cgroup-manager NAME", "Who makes the cgroup: cgroupfs or systemd", complete=("cgroupfs", "systemd")),
        Option("--cgroup-parent PATH", "Put its cgroup under this one, or slice"),
        Option("--cgroupns MODE", "Cgroup namespace: private or host", complete=("private", "host")),
        Option("--cidfile FILE", "Write its id to a new file", complete="file"),
        Option("-c, --cpu-shares N", "CPU weight against others (2 to 262144)"),
        Option("--cpus N", "CPUs it may use (0.5 is half of one)"),
        Option("--cpuset-cpus LIST", "CPUs it may run on (0-2,4)"),
        Option("-d, --detach", "Run in the background and print the id"),
        Option("--detach-keys KEYS", "Keys that detach (default ctrl-p,ctrl-q)"),
        Option("--device SRC[:DST[:rwm]]", "Give a device, or a directory of them", LIST),
        Option("--device-cgroup-rule RULE", "Allow devices ('c 10:200 rwm')", LIST),
        Option("--dns IP", "Name server to use", LIST),
        Option("--dns-option OPTION", "Option for /etc/resolv.conf", LIST, aliases=("--dns-opt",)),
        Option("--dns-search DOMAIN", "Search domain (. for none)", LIST),
        Option("--dry-run", "Print the script of all steps; do nothing"),
        Option("-e, --env NAME[=VALUE]", "Set a variable, or pass it on", LIST),
        Option("--env-file FILE", "Read variables from a file", LIST, complete="file"),
        EXPLAIN,
        Option("--expose PORT[/PROTO]", "Note a port as used by the container", LIST),
        Option("--group-add GROUP", "Another group of the user", LIST),
        Option("--health-cmd COMMAND", "Shell command that tells whether it is well"),
        Option("--health-interval TIME", "Time between two checks (default 30s)"),
        Option("--health-retries N", "Failures until it is unhealthy (default 3)"),
        Option("--health-start-period TIME", "Failures do not count so long at first"),
        Option("--health-timeout TIME", "A check may take so long (default 30s)"),
        Option("-h, --hostname NAME", "Host name in the container"),
        Option("--init", "Run a small init as process 1"),
        Option("-i, --interactive", "Pass stdin on to the command"),
        Option("--ip ADDRESS", "IPv4 address (172.17.0.9)"),
        Option("--ip6 ADDRESS", "IPv6 address (fd00:9::9)"),
        Option("--ipc MODE", "IPC: private, host or container:NAME"),
        Option("-l, --label KEY[=VALUE]", "Set a label", LIST),
        Option("--log-opt KEY=VALUE", "max-size= of a log file (32m), max-file= (2)", LIST),
        Option("--mac-address MAC", "Hardware address (02:42:ac:11:00:09)"),
        Option("-m, --memory SIZE", "Memory limit (512m; at least 6m; 0: none)"),
        Option("--memory-reservation SIZE", "Soft memory limit, under pressure"),
        Option("--memory-swap SIZE", "Limit of memory plus swap (-1: no limit)"),
        Option("--mount type=TYPE,...", "bind, volume or tmpfs: type=,src=,dst=,ro", LIST),
        Option("--name NAME", "Name of the container (default: random)"),
        Option("--network NETWORK[:ip=...]", "A network, none, host or container:NAME", LIST, aliases=("--net",)),
        Option("--network-alias NAME", "Another name in the network", LIST, aliases=("--net-alias",)),
        Option("--pidfile FILE", "Write the pid of its first process to a file", complete="file"),
        Option("--oom-score-adj N", "Killed sooner (1000) or later (-1000)"),
        Option("--pid MODE", "Processes: private, host or container:NAME"),
        Option("--no-healthcheck", "Check nothing"),
        Option("--pids-limit N", "Limit of processes (-1: no limit)"),
        Option("--privileged", "Give all capabilities and devices"),
        Option("-p, --publish [[IP:]PORT:]PORT", "Publish a port or a range", LIST),
        Option("-P, --publish-all", "Publish what is exposed, on free ports"),
        Option("--read-only", "Mount the root file system read-only"),
        Option("--restart POLICY", "no, on-failure[:N], always, unless-stopped",
               complete=("no", "on-failure", "always", "unless-stopped")),
        Option("--rm", "Remove the container when it ends"),
        Option("--rootfs DIR", "Root file system (default: the host view)", complete="dir"),
        Option("--security-opt OPTION", "seccomp=, apparmor=, label= and others", LIST),
        Option("--shm-size SIZE", "Size of /dev/shm (default 64m)"),
        Option("--stop-signal SIGNAL", "Signal that `stop` sends (default TERM)", complete=SIGNALS),
        Option("--sysctl NAME=VALUE", "A kernel setting of its namespaces", LIST),
        Option("--tmpfs PATH[:OPTIONS]", "Mount a tmpfs (/run:size=64m,mode=755)", LIST),
        Option("--stop-timeout SECONDS", "Seconds `stop` waits (default 10; -1: ever)"),
        Option("-t, --tty", "Give the command a terminal"),
        Option("--ulimit NAME=SOFT[:HARD]", "Set a resource limit (nofile=1024:4096)", LIST),
        Option("-u, --user USER[:GROUP]", "Run as this user and group"),
        Option("--uts MODE", "Host name: private, host or container:NAME"),
        Option("-v, --volume SRC:DST[:ro]", "Mount a path of the host, or a volume", LIST),
        Option("-w, --workdir DIR", "Working directory (absolute)"),
    ),
    "COMMAND [ARG...]",
    least=1,
    most=-1,
    interspersed=False,
    fails_with=125,
    complete="file",
    examples=(
        ("a program of the host, in a container on network br0", "minidocker run ./server alice"),
        ("a shell to look around in, gone when it ends", "minidocker run --rm -it bash"),
        ("in two networks, with a name in the second", "minidocker run --net br0 --net back:alias=db ./server db"),
        ("in the background, half a CPU and 256 MiB at most", "minidocker run -d --name web --cpus 0.5 -m 256m ./server web"),
        ("the host's port 80 to the container's 8081", "minidocker run -d -p 80:8081 ./server web"),
        ("another root file system, and a directory of the host in it", "minidocker run --rm --rootfs ./debian -v ./src:/src:ro ls /src"),
        ("a volume that outlives it", "minidocker run -d -v data:/var/lib/data ./server db"),
        ("with a look at its health every ten seconds", "minidocker run -d --health-cmd ./check --health-interval 10s ./server web"),
        ("started again whenever it fails, five times at most", "minidocker run -d --restart on-failure:5 ./server web"),
        ("what would be done, as a script", "minidocker run --dry-run ./server alice"),
    ),
)

EXEC = Command(
    "exec",
    "Run a command in a running container",
    "containers",
    "execute",
    (
        Option("-d, --detach", "Do not wait for the command"),
        Option("--detach-keys KEYS", "Keys that detach (default ctrl-p,ctrl-q)"),
        Option("-e, --env NAME[=VALUE]", "Set a variable, or pass it on", LIST),
        Option("--env-file FILE", "Read variables from a file", LIST, complete="file"),
        Option("-i, --interactive", "Pass stdin on to the command"),
        Option("-t, --tty", "Give the command a terminal"),
        Option("-u, --user USER[:GROUP]", "Run as this user and group"),
        Option("-w, --workdir DIR", "Working directory (absolute)"),
    ),
    "CONTAINER COMMAND [ARG...]",
    least=2,
    most=-1,
    interspersed=False,
    examples=(("a shell in the container web", "minidocker exec -it web sh"),),
)

PS = Command(
    "ps",
    "List containers",
    "containers",
    "ps",
    (
        Option("-a, --all", "Show ended containers too"),
        Option("-f, --filter KEY=VALUE", "name=, status=, network=, label= or health=", LIST),
        Option("--format FORMAT", "table, json, or a template ('{{.Names}} {{.IP}}')", complete=("table", "json")),
        Option("--no-trunc", "Show ids and commands in full"),
        Option("-q, --quiet", "Show ids only"),
    ),
    examples=(
        ("names and addresses", "minidocker ps --format '{{.Names}} {{.IP}}'"),
        ("ended containers", "minidocker ps -a -f status=exited"),
    ),
)

LOGS = Command(
    "logs",
    "Show what a container has printed",
    "containers",
    "logs",
    (
        Option("-f, --follow", "Go on as more is printed"),
        Option("--since TIME", "From this time on (2024-05-01T10:00:00Z, 90s, 1h30m)"),
        Option("-n, --tail N", "Only the last N lines (all: every line)"),
        Option("-t, --timestamps", "Show the time of each line"),
    ),
    "CONTAINER",
    least=1,
    most=1,
)

STOP = Command(
    "stop",
    "Stop containers: their stop signal, then KILL",
    "containers",
    "stop",
    (
        Option("-t, --time SECONDS", "Wait this long before KILL (default 10; -1: for ever)", aliases=("--timeout",)),
        EXPLAIN,
    ),
    "CONTAINER...",
    least=1,
    most=-1,
)

# The hot parser knows these; a well-formed use of them loads neither click nor anything it needs. The others: options_cold.py.
HOT = {command.name: command for command in (RUN, PS, EXEC, LOGS, STOP)}
HOT_BELOW_CONTAINER = {**HOT, "ls": PS, "list": PS}
