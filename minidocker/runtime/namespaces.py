"""Making the container's process and its namespaces, as Steps of both actors (runtime-spec, config-linux.md)."""

from __future__ import annotations

import os

from minidocker.errors import MinidockerError
from minidocker.kernel import namespaces as k
from minidocker.kernel import process, procfs, sysctl
from minidocker.plan import CHILD, EXEC, NAMESPACES, OUTSIDE, START, At, Step, inline, quote
from minidocker.runtime import sync
from minidocker.runtime.resources import Cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_UNSHARE_OPTION = {
    "mount": "--mount", "uts": "--uts", "ipc": "--ipc", "network": "--net", "cgroup": "--cgroup", "user": "--user", "time": "--time",
    "pid": "--pid",
}  # fmt: skip
_FILE_OPTION = {k.NEWNS: "mount", k.NEWUTS: "uts", k.NEWIPC: "ipc", k.NEWNET: "net", k.NEWCGROUP: "cgroup", k.NEWTIME: "time",
                k.NEWPID: "pid", k.NEWUSER: "user"}  # fmt: skip


class Namespaces:
    """`linux.namespaces`, sorted: what is made by clone, what by unshare, what is joined by path.

    `clone` and `unshare` are flags; `joined` is [(flag, path)] of those that the child joins; `inherited` likewise, of those that the
    parent is in while it clones: a PID namespace, which is joined by children alone, and all but the user's where there is one, in
    which the child would have no power over theirs any more. `offsets` is linux.timeOffsets.
    """

    __slots__ = ("changes_user", "clone", "enter_time", "inherited", "join", "joined", "make_process", "names", "offsets", "unshare")

    def __init__(self, entries: list[dict[str, Any]], offsets: dict[str, dict[str, int]] | None = None) -> None:
        self.clone = self.unshare = 0
        self.offsets = offsets or {}
        self.make_process: Callable[[int, int], tuple[int, int]] = k.clone
        self.changes_user = any(entry["type"] == "user" for entry in entries)
        self.joined: list[tuple[int, str]] = []
        self.inherited: list[tuple[int, str]] = []
        self.names: list[str] = []
        for entry in entries:
            flag = k.BY_OCI_NAME[entry["type"]][0]
            if entry.get("path"):
                self.joined.append((flag, entry["path"]))
            elif flag in (k.NEWPID, k.NEWUSER):
                self.clone |= flag
                self.names.append(entry["type"])
            else:
                self.unshare |= flag
                self.names.append(entry["type"])
        if self.joined or self.unshare & k.NEWTIME:
            from minidocker.runtime import joining  # most containers have all of their own, and the host's clocks

            self.join, self.enter_time = joining.join, joining.enter_time
            with_user = self.clone & k.NEWUSER or any(flag == k.NEWUSER for flag, _ in self.joined)
            self.inherited = [(flag, path) for flag, path in self.joined if flag == k.NEWPID or (with_user and flag != k.NEWUSER)]
            self.joined = [entry for entry in self.joined if entry not in self.inherited]
            owner = next((path for flag, path in self.joined if flag == k.NEWUSER), "")
            if owner and self.clone & k.NEWPID:
                # the user namespace has to own the PID namespace, or nobody in there may mount its /proc
                self.joined = [entry for entry in self.joined if entry[0] != k.NEWUSER]
                self.make_process = joining.Inside(owner).clone


class Spawn(Step):
    """Clone the child, which runs its own slice of the plan this step stands in; on cgroup v2 it is born in its cgroup."""

    title = NAMESPACES
    why = "a process of its own, first in a new PID namespace; when it dies, all that is in there dies"

    def __init__(
        self, namespaces: Namespaces, cgroup: Cgroup, child: Callable[[], None], theirs: sync.Channel, reads: bool = False
    ) -> None:
        """`reads`: whether its standard input is the caller's; only said."""
        self.namespaces = namespaces
        self.cgroup = cgroup
        self.child = child
        self.theirs = theirs
        self.reads = reads
        self.pidfd = -1

    def shell(self) -> str:
        return (
            'meet=$(mktemp -u)\nmkfifo "$meet" && exec 9<> "$meet" && rm "$meet"\nmkfifo "$meet" && exec 8<> "$meet"\n'
            f'INSIDE=$INSIDE PROGRAM=$PROGRAM env --default-signal bash -c "$OUTSIDE" {"<&0" if self.reads else "< /dev/null"} &\n'
            'CHILD=$!\n'
            'exec 8< "$meet" && rm "$meet"\n'  # its end is the end of what is read there
            'heard() { read -r _ <&8 || { wait "$CHILD"; exit 125; }; }'
        )

    def describe(self) -> str:
        return "clone the container's first process"

    def apply(self, at: At) -> None:
        cgroup = self.cgroup.descriptor()
        try:
            homes = [self.namespaces.join(path, flag, home=True) for flag, path in self.namespaces.inherited]
            try:
                at.pid, self.pidfd = self.namespaces.make_process(self.namespaces.clone, cgroup)
                if at.pid == 0:
                    self.child()  # never returns
            finally:
                for home, (flag, _) in zip(homes, self.namespaces.inherited):  # noqa: B905
                    k.setns(home, flag)
                    os.close(home)
        finally:
            if cgroup >= 0:
                os.close(cgroup)
        self.theirs.close()

    def undo(self, at: At) -> None:
        """Kill it and wait for it: its namespaces and mounts go with it."""
        try:
            os.kill(at.pid, 9)
            os.waitpid(at.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            return


class MapIds(Step):
    """`linux.uidMappings` and `gidMappings`, written by the parent (user_namespaces(7))."""

    title = NAMESPACES
    why = "which users in there are which users out here"

    def __init__(self, uids: list[dict[str, int]], gids: list[dict[str, int]]) -> None:
        self.maps = [(name, _map_text(entries)) for name, entries in (("uid_map", uids), ("gid_map", gids))]

    def shell(self) -> str:
        return "\n".join(f'printf %s {inline(text)} > "/proc/$PID/{name}"' for name, text in self.maps)

    def apply(self, at: At) -> None:
        for name, text in self.maps:
            try:
                descriptor = procfs.open_to_write(f"/proc/{at.pid}/{name}")
                try:
                    os.write(descriptor, text.encode())
                finally:
                    os.close(descriptor)
            except PermissionError:
                self._ask(at.pid, name, text)

    def _ask(self, pid: int, name: str, text: str) -> None:
        """newuidmap(1) and newgidmap(1), which may give an unprivileged user what /etc/subuid and /etc/subgid have for him."""
        tool = f"new{name.replace('_', '')}"
        status, _, said = process.run_tool([tool, str(pid), *text.split()])
        if status:
            raise MinidockerError(f"map the ids of the user namespace: {tool}: {said.decode(errors='replace').strip()}")


def _map_text(entries: list[dict[str, int]]) -> str:
    return "".join(f"{e['containerID']} {e['hostID']} {e['size']}\n" for e in entries)


class Release(Step):
    """Tell the child that its ids are mapped."""

    title = NAMESPACES
    why = "its ids are mapped and it may go on"

    def __init__(self, ours: sync.Channel) -> None:
        self.ours = ours

    def shell(self) -> str:
        return "# (unshare waits for the maps by itself)"

    def describe(self) -> str:
        return "let the container's first process go on"

    def apply(self, at: At) -> None:
        self.ours.send(sync.MAPPED)


class AwaitNamespaces(Step):
    """Wait until the child has made its namespaces and their settings, and hold its network namespace by a descriptor."""

    title = NAMESPACES
    why = "its network namespace exists from here on"

    def __init__(self, ours: sync.Channel) -> None:
        self.ours = ours

    def shell(self) -> str:
        return 'heard\nPID=$(pgrep -P "$CHILD")'

    def describe(self) -> str:
        return "wait for the container's namespaces"

    def apply(self, at: At) -> None:
        at.netns = self.ours.expect(sync.NAMESPACES)

    def undo(self, at: At) -> None:
        if at.netns >= 0:
            os.close(at.netns)
            at.netns = -1


class Unshare(Step):
    """The child, in its cgroup already, makes its namespaces and joins those given by path."""

    actor = CHILD
    typed = OUTSIDE
    title = NAMESPACES
    why = "its own mounts, host name, IPC and network; its own cgroup as the root of what it sees; a session of its own"

    def __init__(self, namespaces: Namespaces, keyring: str, theirs: sync.Channel, root: str = "/") -> None:
        self.namespaces = namespaces
        self.keyring = keyring
        self.theirs = theirs  # for the maps alone
        self.root = root

    def shell(self) -> str:
        joined = [*self.namespaces.inherited, *self.namespaces.joined]
        enter = "".join(f"nsenter {'--no-fork ' * (flag == k.NEWPID)}--{_FILE_OPTION[flag]}={quote(path)} " for flag, path in joined)
        options = " ".join(_UNSHARE_OPTION[name] for name in self.namespaces.names)
        mine = "exec 8> /proc/self/fd/8 9< /proc/self/fd/9"  # an end of each, so that either side hears of the other's end
        return f'{mine}\nexec {enter}unshare {options} --fork --kill-child setsid bash -c "$INSIDE"'

    def describe(self) -> str:
        return "make the namespaces " + ", ".join(self.namespaces.names)

    def apply(self, at: At) -> None:
        spaces = self.namespaces
        if spaces.clone & k.NEWUSER:
            self.theirs.expect(sync.MAPPED)
        for flag, path in spaces.joined:
            spaces.join(path, flag)
        if spaces.changes_user:
            # only now: as whom it is entered he may still enter our cgroup, and reach a root below directories that are ours alone
            k.unshare(spaces.unshare & k.NEWNS)
            at.root = os.open(self.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
            k.unshare(spaces.unshare & ~k.NEWNS)
        else:
            k.unshare(spaces.unshare)
        if spaces.unshare & k.NEWTIME:
            spaces.enter_time(spaces.offsets)
        k.join_keyring(self.keyring)


class Sysctls(Step):
    """`linux.sysctl`: written through the host's /proc before the pivot; net, ipc and uts ones are the writer's namespace's."""

    actor = CHILD
    title = NAMESPACES
    why = "kernel settings of its own namespaces"

    def __init__(self, sysctls: dict[str, str]) -> None:
        self.sysctls = sysctls
        if any("/" in name for name in sysctls):
            from minidocker.spec.oci_linux import sysctl_path

            self.paths = [(sysctl_path(name), value) for name, value in sysctls.items()]
        else:
            self.paths = [(name.replace(".", "/"), value) for name, value in sysctls.items()]

    def shell(self) -> str:
        return "\n".join(f"sysctl -qw {quote(f'{name}={value}')}" for name, value in self.sysctls.items())

    def apply(self, at: At) -> None:
        for path, value in self.paths:
            sysctl.write(path, value)


class Announce(Step):
    """Hand the network namespace to the parent, once it is set: `all.disable_ipv6` takes away what addresses there are (ip-sysctl.rst)."""

    actor = CHILD
    title = NAMESPACES
    why = "the network may be set up now, while the mounts are made"

    def __init__(self, theirs: sync.Channel) -> None:
        self.theirs = theirs

    def shell(self) -> str:
        return "echo >&8"

    def describe(self) -> str:
        return "hand the network namespace over"

    def apply(self, at: At) -> None:
        # handed over, not looked up by the parent: a child that fails soon is gone by then, and how it failed is what matters
        netns = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.theirs.send(sync.NAMESPACES, netns)
        os.close(netns)


class HostName(Step):
    """`hostname` and `domainname`, in the UTS namespace of its own."""

    actor = CHILD
    title = NAMESPACES
    why = "its own name"

    def __init__(self, hostname: str, domainname: str) -> None:
        self.hostname = hostname
        self.domainname = domainname

    def shell(self) -> str:
        lines = [f"hostname {quote(self.hostname)}"] if self.hostname else []
        return "\n".join(lines + ([f"domainname {quote(self.domainname)}"] if self.domainname else []))

    def apply(self, at: At) -> None:
        if self.hostname:
            k.sethostname(self.hostname)
        if self.domainname:
            k.setdomainname(self.domainname)


class AwaitReady(Step):
    """Wait until the child is set up; with a terminal, receive its master."""

    title = EXEC
    why = "the container stands, its program is found, nothing of it runs yet"

    def __init__(self, ours: sync.Channel) -> None:
        self.ours = ours
        self.terminal = -1

    def shell(self) -> str:
        return "heard"

    def describe(self) -> str:
        return "wait for the container's first process"

    def apply(self, at: At) -> None:
        self.until(sync.READY)

    def until(self, awaited: bytes) -> None:
        """Wait for this message; its terminal may come before."""
        message, descriptor = self.ours.receive()
        if message == sync.TERMINAL:
            self.terminal = descriptor
            message, _ = self.ours.receive()
        if message != awaited:
            raise MinidockerError("the container's first process ended before it was set up")

    def undo(self, at: At) -> None:
        if self.terminal >= 0:
            os.close(self.terminal)
            self.terminal = -1


class Start(Step):
    """Let the program run; done when execve has happened, which closes the child's end of the channel."""

    actor = START
    title = EXEC
    why = "let it go"

    def __init__(self, ours: sync.Channel) -> None:
        self.ours = ours
        self.listens = False

    def shell(self) -> str:
        return "echo >&9"

    def describe(self) -> str:
        return "start the program"

    def apply(self, at: At) -> None:
        self.ours.send(sync.START)
        sync.until_started(self.ours, self.listens)


class End(Step):
    """What is left of the container's first process."""

    title = NAMESPACES
    why = "with its first process all that is in its PID namespace dies, and what only that had: mounts, interfaces"

    def shell(self) -> str:
        return 'kill -KILL "$PID"'
