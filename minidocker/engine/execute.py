"""exec: one more process in a running container, with this command as its parent."""

from __future__ import annotations

import _signal
import _struct as struct
import fcntl
import os
import select

from minidocker.engine import client, prepare, reconcile
from minidocker.engine.host import Host
from minidocker.engine.monitor import CHUNK, exit_code_of
from minidocker.errors import StateError, UsageError
from minidocker.kernel import namespaces
from minidocker.kernel import process as kernel
from minidocker.runtime import filters
from minidocker.runtime.container import State
from minidocker.runtime.enter import Entry
from minidocker.spec import config
from minidocker.spec.request import ExecRequest, RunRequest
from minidocker.storage import containers, users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TIOCSWINSZ = 0x5414


def execute(host: Host, request: ExecRequest) -> int:
    """Run a command in a running container; returns its exit code, 0 at once with -d. Raises StateError when it is not running."""
    if request.tty and request.interactive and not os.isatty(0):
        raise UsageError("-t with -i needs a terminal as the standard input", "leave out -t")
    reconcile.sweep(host)
    record = containers.find(host.state, request.container)
    if record.status != containers.RUNNING:
        raise StateError(f"container `{record.name}` is not running", f"it is {record.status}")
    state = State(host.run_directory(record.id))
    process, profile = _process(record, state, request)
    filter = filters.cached(profile, f"{host.root}/cache") if profile is not None else None
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    stdio = (null, null, null) if request.detach else (0 if request.interactive else null, 1, 2)
    entry = Entry(record.id, state, process, host.face, filter, stdio, request.detach)
    # a signal that comes while the program is being started waits until there is somebody to forward it to
    _signal.pthread_sigmask(_signal.SIG_BLOCK, client.FORWARDED_SIGNALS)
    entry.run()
    if request.detach:
        if entry.terminal >= 0:
            _keep(entry.terminal, null)
        return 0
    if entry.terminal >= 0:
        return _relay(entry, request)
    _forward_signals(entry)
    kernel.pidfd_ended(entry.pidfd, None)
    return exit_code_of(os.waitpid(entry.pid, 0)[1])


def _process(record: containers.Record, state: State, request: ExecRequest) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The OCI process section, and the seccomp profile: the container's own privileges, for another command and perhaps user."""
    made: RunRequest = record.request
    around = config.Surroundings("", [])
    root = os.open(f"/proc/{state.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        user = users.resolve(request.user if request.user is not None else made.user, root)
    finally:
        os.close(root)
    around.uid, around.gid, around.groups, around.home = user.uid, user.gid, user.groups, user.home
    around.workdir = request.workdir or made.workdir or "/"
    around.capabilities = prepare.granted_capabilities(made)
    hostname = made.hostname or record.short_id
    env = [*config.environment(request.tty, hostname, around.home), *made.env, *request.env]
    process = config.process(
        request.command, env, around, terminal=request.tty, no_new_privileges=config.no_new_privileges(made), ulimits=made.ulimits
    )
    if request.tty:
        prepare.set_console_size(process)
    return process, prepare.seccomp_profile(made, around.capabilities)


def _keep(terminal: int, null: int) -> None:
    """Fork a process that holds the terminal of one that was left, and reads what it writes, until nobody has it open: it would be hung up
    otherwise."""
    namespaces.setns(namespaces.open_of(os.getpid(), "pid"), namespaces.NEWPID)  # our children are the host's again
    if os.fork() != 0:
        return
    os.setsid()
    for standard in (0, 1, 2):
        os.dup2(null, standard)
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

    for number in client.FORWARDED_SIGNALS:
        _signal.signal(number, forward)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, client.FORWARDED_SIGNALS)


def _relay(entry: Entry, request: ExecRequest) -> int:
    """Carry between the user's terminal and the process's until it ends; its exit code, or 0 when the user leaves it."""
    restore = client.raw_terminal()
    _forward_signals(entry)
    _resize(entry)
    _signal.signal(_signal.SIGWINCH, lambda number, frame: _resize(entry))
    keys = client.KeySequence(request.detach_keys if request.interactive else b"")
    reads_stdin = request.interactive
    try:
        while True:
            poll = select.poll()
            for descriptor in (entry.terminal, entry.pidfd, *([0] if reads_stdin else [])):
                poll.register(descriptor, select.POLLIN)
            ready = {descriptor for descriptor, _ in poll.poll()}
            if entry.terminal in ready and _show(entry):
                continue  # all it wrote before it ended is shown before its end is looked at
            if entry.pidfd in ready:
                return exit_code_of(os.waitpid(entry.pid, 0)[1])
            if 0 in ready:
                data = os.read(0, CHUNK)
                reads_stdin = bool(data)
                passed, left = keys.feed(data)
                client.write_all(entry.terminal, passed)
                if left:
                    _keep(entry.terminal, os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC))
                    return 0
    finally:
        if restore:
            restore()


def _show(entry: Entry) -> bool:
    """Whether there was something to show. EIO: no process has the terminal open (any more)."""
    try:
        data = os.read(entry.terminal, CHUNK)
    except OSError:
        kernel.pidfd_ended(entry.pidfd, 0.02)
        return False
    client.write_all(1, data)
    return bool(data)


def _resize(entry: Entry) -> None:
    size = client.window_size()
    if size:
        fcntl.ioctl(entry.terminal, _TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
