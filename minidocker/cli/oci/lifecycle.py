"""create and run (runtime-spec, runtime.md, "Operations")."""

from __future__ import annotations

import time

from minidocker.cli.oci import bundle, console, files, report, starting, surroundings
from minidocker.errors import MinidockerError, UsageError
from minidocker.kernel.terminal import hold_signals
from minidocker.runtime import filters, handover, privileges, stub
from minidocker.runtime.container import Launch
from minidocker.runtime.store import Home

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minidocker.cli.oci.parse import Call


def create(call: Call) -> int:
    """Returns when the container's first process stands ready and its pid file is written; the program runs only after `start`."""
    home, _ = _create(call, detached=True)
    home.close()
    return 0


def _create(call: Call, detached: bool) -> tuple[Home, Launch]:
    """The container, created, its lock held. All that can be is checked first; what was made is undone on failure."""
    document, directory = bundle.load(call.text("bundle", "."), call.text("config"))
    if stub.sees_us(document, joins=False):
        stub.execute_read_only()
    process = document["process"]
    lacking = privileges.unavailable(process)
    if lacking:  # config-linux.md, "Capabilities": MUST be logged as a warning
        report.warn(f"process.capabilities: {', '.join(lacking)} cannot be given here, and the container goes without")
    terminal = console.Socket.of(call, bool(process.get("terminal")), detached)
    pid_file = files.pid_file(call)
    preserved = files.preserved(call, process)
    manager, own = surroundings.manager(call)
    store = surroundings.store(call)
    profile = document["linux"].get("seccomp")
    filter = filters.cached(profile, store.filters) if profile else None
    home = store.new(call.arguments[0])
    try:
        home.write_configuration(document)
        lasting = handover.Lasting(
            listener=handover.listen(home.path),
            bundle=directory,
            created=time.time(),
            preserve_fds=preserved,
            pivot=not call.flag("no_pivot"),
            keyring=not call.flag("no_new_keyring"),
            held=(home.descriptor, *report.descriptors()),
        )
        launch = Launch(
            home.id, document, manager.face, directory=home.path, own=own, manager=manager, filter=filter, lasting=lasting
        )  # fmt: skip
        try:
            launch.create()
        except MinidockerError:
            _never_completed(launch)
            raise
        try:
            terminal.send(launch.terminal)
            files.write_pid(pid_file, launch.at.pid)
            launch.leave()
        except (OSError, MinidockerError):
            launch.abort()
            _never_completed(launch)
            raise
    except BaseException:
        home.remove()
        raise
    return home, launch


def _never_completed(launch: Launch) -> None:
    from minidocker.cli.oci import ending

    ending.after(launch.state)


def run(call: Call) -> int:
    """create and start; without --detach wait for the end, passing signals and the terminal on, and delete it. Returns its exit code."""
    if call.flag("detach") and call.flag("keep"):
        raise UsageError("--keep: a detached container is kept anyway")
    home, launch = _create(call, call.flag("detach"))
    if not call.flag("detach"):
        hold_signals()
    with home:
        try:
            starting.let_run(home)
        except MinidockerError:
            _delete(home)
            raise
        if call.flag("detach"):
            return 0
        home.unlock()
        report.debug(f"container `{home.id}` runs as process {launch.at.pid}")
        code = console.carry(launch.at.pid, launch.pidfd, launch.terminal)
        if not call.flag("keep"):
            home.lock_or_fail("delete")
            _delete(home)
        return code


def _delete(home: Home) -> None:
    from minidocker.cli.oci import ending

    ending.remove(home, kill=True)
