"""The OCI command line as a table: one text an option, which --help prints and the parser (parse.py) reads.

    "-b, --bundle DIR     what it is"      names, the last of them giving the key; a word in capitals: it takes a value
    "-e, --env NAME=VALUE...   ..."        may be given more than once
    "--rootless [MODE]    ..."             the value may be left out

The names are runc's, as the engines type them (conmon, containerd's go-runc).
"""

from __future__ import annotations

GLOBAL = """
--root DIR               where the state of containers is kept (default: /run/minidocker-oci)
--log FILE               append messages to FILE as well
--log-format FORMAT      of the lines in it: text (default) or json
--debug                  say more, and show the traceback of an error
--systemd-cgroup         have systemd make the cgroups
--cgroup-manager NAME    cgroupfs (default), systemd, or disabled: no cgroup at all
--rootless [MODE]        true: go without a cgroup where none can be made; false; auto (default): true unless root of the host
-v, --version            print the version and the specification's
-h, --help               print this
"""

_START = """
-b, --bundle DIR         the bundle: where config.json is (default: the working directory)
-f, --config FILE        the configuration (default: config.json in the bundle)
--pid-file FILE          write the pid of the container's first process to FILE
--console-socket PATH    a unix socket that gets the terminal's master
--preserve-fds N         pass descriptors 3 to 2+N on
--no-pivot               move the root over the old one instead of pivot_root(2), for a host that runs from its initial ramfs
--no-new-keyring         keep the session keyring of the caller
"""
_EXEC = """
-p, --process FILE       the process, as config.json has it, in JSON
-d, --detach             leave it running
--pid-file FILE          write its pid to FILE
--console-socket PATH    a unix socket that gets the terminal's master
-t, --tty                give it a terminal
--cwd DIR                its working directory
-e, --env NAME=VALUE...  add to its environment
-u, --user UID[:GID]     run it as this user
-g, --additional-gids GID...  be in this group too
-c, --cap CAPABILITY...  add a capability
--no-new-privs           gain no privileges by execve
--apparmor PROFILE       its AppArmor profile
--process-label LABEL    its SELinux label
--preserve-fds N         pass descriptors 3 to 2+N on
--ignore-paused          do not refuse when the container is paused: it starts with the others
"""
_UPDATE = """
-r, --resources FILE     linux.resources in JSON, - for stdin; other options are not looked at then
--memory BYTES           memory.limit
--memory-reservation BYTES  memory.reservation
--memory-swap BYTES      memory.swap: memory and swap together, -1 for no limit
--cpu-share N            cpu.shares
--cpu-quota USEC         cpu.quota
--cpu-period USEC        cpu.period
--cpu-burst USEC         cpu.burst
--cpu-idle N             cpu.idle
--cpu-rt-period USEC     cpu.realtimePeriod
--cpu-rt-runtime USEC    cpu.realtimeRuntime
--cpuset-cpus LIST       cpu.cpus
--cpuset-mems LIST       cpu.mems
--pids-limit N           pids.limit
--blkio-weight N         blockIO.weight
"""


class Command:
    """`function` of module `module` in this package does it; `usage` its arguments, `least` to `most` of them (-1: any number);
    `options` as above; `ends` whether the first argument ends the options, as what follows is another program's."""

    __slots__ = ("ends", "function", "least", "module", "most", "options", "summary", "usage")

    def __init__(
        self, where: str, summary: str, options: str = "", usage: str = "ID", least: int = 1, most: int = 1, ends: bool = False
    ) -> None:
        self.module, _, self.function = where.partition(".")
        self.summary = summary
        self.options = options
        self.usage = usage
        self.least = least
        self.most = most
        self.ends = ends


COMMANDS = {
    "create": Command("lifecycle.create", "make a container and leave it waiting for its start", _START),
    "start": Command("starting.start", "run the program of a container that was created"),
    "run": Command(
        "lifecycle.run",
        "create and start a container, and delete it when it has ended",
        _START + "-d, --detach             leave it running\n--keep                   do not delete it when it has ended\n",
    ),
    "state": Command("listing.print_state", "print the state of a container in JSON"),
    "kill": Command(
        "ending.kill",
        "send a signal to a container",
        "-a, --all                to all of its processes, not to the first alone",
        "ID [SIGNAL]",
        1,
        2,
    ),
    "delete": Command(
        "ending.delete",
        "remove a container that has ended",
        "-f, --force              kill it if it runs; no error if it is not there",
    ),
    "exec": Command("execute.execute", "run one more process in a container", _EXEC, "ID [COMMAND [ARG...]]", 1, -1, ends=True),
    "pause": Command("listing.pause", "stop all processes of a container"),
    "resume": Command("listing.resume", "let them go on"),
    "ps": Command(
        "listing.processes",
        "list the processes of a container",
        "-f, --format FORMAT      table (default) or json: the pids alone",
        "ID [PS-OPTION...]",
        1,
        -1,
        ends=True,
    ),
    "list": Command(
        "listing.containers",
        "list the containers",
        "-f, --format FORMAT      table (default) or json\n-q, --quiet              the ids alone",
        "",
        0,
        0,
    ),
    "update": Command("resources.update", "change the limits of a container", _UPDATE),
    "events": Command(
        "resources.events",
        "print what a container uses, again and again, and when it runs out of memory",
        "--stats                  once, and end\n--interval TIME          between two times (default: 5s)",
    ),
    "spec": Command(
        "describe.spec",
        "write a config.json to begin with",
        "-b, --bundle DIR         where to (default: the working directory)\n--rootless               one for a user who is not root",
        "",
        0,
        0,
    ),
    "features": Command("describe.features", "print what is supported, in JSON", "", "", 0, 0),
}
