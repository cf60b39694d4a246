"""exec: one more process in a running container, with this command as its parent."""

from __future__ import annotations

import _signal
import os
import sys

from minidocker.engine import client, prepare, reconcile
from minidocker.engine.host import Host, lock_holder
from minidocker.engine.monitor import CHUNK, capacity, exit_code_of
from minidocker.errors import StateError, UsageError
from minidocker.kernel import mounts, namespaces, terminal
from minidocker.kernel import process as kernel
from minidocker.runtime import filters
from minidocker.runtime.enter import Entry
from minidocker.runtime.state import State
from minidocker.spec import config
from minidocker.spec.request import ExecRequest, RunRequest
from minidocker.storage import containers, users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def execute(host: Host, request: ExecRequest, write: Callable[[int, bytes], None]) -> int:
    """Run a command in a running container; returns its exit code, 0 at once with -d. What comes by way of a terminal is passed to
    `write(descriptor, data)`. Raises StateError when the container is not running."""
    if request.tty and request.interactive and not os.isatty(0):
        raise UsageError("-t with -i needs a terminal as the standard input", "leave out -t")
    reconcile.sweep(host)
    record = containers.find(host.state, request.container)
    if record.status != containers.RUNNING:
        raise StateError(f"container `{record.name}` is not running", f"it is {record.status}")
    if host.is_paused(record.id):  # what joins its cgroup stands still, too
        raise StateError(f"container `{record.name}` is paused, and so would be what is started in it", f"minidocker unpause {record.name}")
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    streams = Streams(null, null, null, write) if request.detach else Streams(0 if request.interactive else null, 1, 2, write)
    if not request.tty:
        streams.spare_terminals()
    entry = enter(host, record, request, streams.theirs())
    # a signal that comes while the program is being started waits until there is somebody to forward it to
    terminal.hold_signals()
    entry.run()
    if request.detach:
        if entry.terminal >= 0:
            _keep(entry.terminal, null)
        return 0
    if entry.terminal >= 0:
        return _relay(entry, request, write)
    _forward_signals(entry)
    streams.carry(entry.pidfd)
    return exit_code_of(os.waitpid(entry.pid, 0)[1])


def enter(host: Host, record: containers.Record, request: ExecRequest, stdio: tuple[int, int, int]) -> Entry:
    """What is to be run in the running container `record`, with its standard streams."""
    state = State(host.run_directory(record.id))
    _protect_interpreter(lock_holder(f"{host.run_directory(record.id)}/lock"))
    process, profile = _process(record, state, request)
    filter = filters.cached(profile, f"{host.root}/cache") if profile is not None else None
    return Entry(record.id, state, process, host.face, filter, stdio, request.detach)


def _protect_interpreter(monitor: int) -> None:
    """Keep the container from writing to our interpreter, which it can reach in /proc by having us execute that again (CVE-2019-5736).

    The kernel lets nobody write to what is being executed, and a container's `monitor` executes its interpreter as long as the container
    lives. Where ours is another one (Python was upgraded meanwhile) it is executed anew, from a mount of it that is read-only.
    """
    try:
        same = os.path.samefile("/proc/self/exe", f"/proc/{monitor}/exe")
    except (FileNotFoundError, ProcessLookupError):
        raise StateError("the container has just ended") from None
    if same or os.statvfs("/proc/self/exe").f_flag & os.ST_RDONLY:
        return
    tree = mounts.open_tree("/proc/self/exe")
    mounts.set_attributes(tree, mounts.ATTR_RDONLY)
    os.execv(f"/proc/self/fd/{tree}", sys.orig_argv)


def _process(record: containers.Record, state: State, request: ExecRequest) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The OCI process section, and the seccomp profile: the container's own privileges, for another command and perhaps user."""
    made: RunRequest = record.request
    around = config.Surroundings("", [])
    root = os.open(f"/proc/{state.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        user = users.resolve(request.user if request.user is not None else made.user, root)
        around.uid, around.gid, around.groups, around.home = user.uid, user.gid, user.groups, user.home
        if made.group_add:
            from minidocker.engine.sharing import with_groups

            around.groups = with_groups(around.groups, made, root)
    finally:
        os.close(root)
    around.workdir = request.workdir or made.workdir or "/"
    around.capabilities = prepare.granted_capabilities(made)
    around.security_labels = prepare.security_labels(made)
    hostname = made.hostname or record.short_id
    env = [*config.environment(request.tty, hostname, around.home), *made.env, *request.env]
    process = config.process(
        request.command, env, around, terminal=request.tty, no_new_privileges=config.no_new_privileges(made), ulimits=made.ulimits
    )
    if request.tty:
        prepare.set_console_size(process)
    return process, prepare.seccomp_profile(made, around.capabilities)


class Streams:
    """A process's standard streams: the user's own, but a pipe instead of each that is a terminal.

    Whoever has the user's terminal open can read what is typed there, passwords too, and a process may stay behind in the container when
    its command has long ended. -t gives it a terminal of its own.
    """

    def __init__(self, stdin: int, stdout: int, stderr: int, write: Callable[[int, bytes], None]) -> None:
        self.ends = [stdin, stdout, stderr]
        self.write = write
        self.stdin = -1
        self.outputs: dict[int, int] = {}  # pipe -> the user's
        self.waiting = b""

    def spare_terminals(self) -> None:
        if os.isatty(self.ends[0]):
            self.ends[0], self.stdin = os.pipe()
            os.set_blocking(self.stdin, False)
        pipes: dict[int, int] = {}  # one for each terminal, so that what stdout and stderr get stays in order
        for standard in (1, 2):
            if os.isatty(self.ends[standard]):
                terminal = os.fstat(self.ends[standard]).st_rdev
                if terminal not in pipes:
                    reading, pipes[terminal] = os.pipe()
                    os.set_blocking(reading, False)
                    self.outputs[reading] = self.ends[standard]
                self.ends[standard] = pipes[terminal]

    def theirs(self) -> tuple[int, int, int]:
        return self.ends[0], self.ends[1], self.ends[2]

    def carry(self, pidfd: int) -> None:
        """Carry between pipes and terminals until the process has ended; what it wrote before that is shown."""
        for descriptor in set(self.ends) - {0, 1, 2}:
            os.close(descriptor)
        while True:
            feeds = self.stdin >= 0
            reading = (0,) if feeds and not self.waiting else ()
            ready = terminal.wait(pidfd, *self.outputs, *reading, writing=(self.stdin,) if feeds and self.waiting else ())
            for descriptor in [d for d in self.outputs if d in ready or pidfd in ready]:
                self._show(descriptor, capacity(descriptor) if pidfd in ready else 1)
            if pidfd in ready:
                return
            if 0 in ready or self.stdin in ready:
                self._feed()

    def _show(self, descriptor: int, most: int) -> None:
        """Show what is in a pipe; of `most` bytes no more is begun: another process may write to it for ever."""
        try:
            while most > 0 and (data := os.read(descriptor, CHUNK)):
                self.write(self.outputs[descriptor], data)
                most -= len(data)
        except BlockingIOError:
            return
        if most > 0:
            os.close(descriptor)
            del self.outputs[descriptor]

    def _feed(self) -> None:
        try:
            if not self.waiting:
                self.waiting = os.read(0, CHUNK)
            if self.waiting:
                self.waiting = self.waiting[os.write(self.stdin, self.waiting) :]
                return
        except BlockingIOError:
            return
        except OSError:  # EPIPE: nobody reads it any more; EIO: the user's terminal has gone
            self.waiting = b""
        os.close(self.stdin)
        self.stdin = -1


def _keep(terminal: int, null: int) -> None:
    """Fork a process that holds the terminal of one that was left, and reads what it writes, until nobody has it open: it would be hung up
    otherwise."""
    namespaces.setns(namespaces.open_of(os.getpid(), "pid"), namespaces.NEWPID)  # our children are the host's again
    if os.fork() != 0:
        return
    os.setsid()
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    terminal = os.dup2(terminal, 3)
    kernel.close_range(4)  # and keeps nothing else of the caller's: no lock, no pipe, no directory
    os.chdir("/")
    try:
        while os.read(terminal, CHUNK):
            pass
    except OSError:  # EIO: the last process has closed it
        pass
    os._exit(0)


def _forward_signals(entry: Entry) -> None:
    def forward(number: int, frame: Any) -> None:
        try:
            kernel.pidfd_send_signal(entry.pidfd, number)
        except ProcessLookupError:
            return

    terminal.catch_signals(forward)


def _relay(entry: Entry, request: ExecRequest, write: Callable[[int, bytes], None]) -> int:
    """Carry between the user's terminal and the process's until it ends; its exit code, or 0 when the user leaves it."""
    restore = terminal.raw_terminal() if request.interactive else None
    _forward_signals(entry)
    _resize(entry)
    _signal.signal(_signal.SIGWINCH, lambda number, frame: _resize(entry))
    keys = client.KeySequence(request.detach_keys if request.interactive else b"")
    reads_stdin = request.interactive
    try:
        while True:
            ready = terminal.wait(entry.terminal, entry.pidfd, *([0] if reads_stdin else []))
            if entry.terminal in ready and _show(entry, write):
                continue  # all it wrote before it ended is shown before its end is looked at
            if entry.pidfd in ready:
                return exit_code_of(os.waitpid(entry.pid, 0)[1])
            if 0 in ready:
                data = os.read(0, CHUNK)
                reads_stdin = bool(data)
                passed, left = keys.feed(data)
                write(entry.terminal, passed)
                if left:
                    _keep(entry.terminal, os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC))
                    return 0
    finally:
        if restore:
            restore()


def _show(entry: Entry, write: Callable[[int, bytes], None]) -> bool:
    """Whether there was something to show. EIO: no process has the terminal open (any more)."""
    try:
        data = os.read(entry.terminal, CHUNK)
    except OSError:
        kernel.pidfd_ended(entry.pidfd, 0.02)
        return False
    write(1, data)
    return bool(data)


def _resize(entry: Entry) -> None:
    size = terminal.window_size()
    if size:
        terminal.set_window_size(entry.terminal, *size)
