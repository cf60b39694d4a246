"""exec: one more process in a running container (runtime-spec has no such operation; every runtime does).

    parent (the command)                        child
      │ setns(pid), clone3  ───────────────────►  │ in the container's cgroup: by clone3 on v2, by its own hand on v1
      │                                           │ setns(mount, uts, ipc, network, cgroup) by init's pidfd, all at once
      │            ◄── [TERMINAL + fd], READY ──  │ its program was found
      │ ───────── START ───────────────────────►  │ privileges, seccomp, execve

The child is born non-dumpable: no process in there may ptrace it or read what it holds (CVE-2016-9962).

A detached one is a grandchild, whose parent ends at once: the container's init inherits it, as in there whatever becomes an orphan.
The host's first process, which would inherit a child, may not reap it, and the kernel lets no init end before its last process is reaped.
"""

from __future__ import annotations

import errno
import os

from minidocker.errors import KernelError, MinidockerError
from minidocker.kernel import libc, mounts
from minidocker.kernel import namespaces as k
from minidocker.kernel.cgroups import Face
from minidocker.plan import CHILD, NAMESPACES, At, Plan, Step
from minidocker.runtime import init, resources, sync
from minidocker.runtime.handover import Lasting
from minidocker.runtime.program import asks_of_process, confined, has_listener, program_steps
from minidocker.runtime.state import RUNNING, State
from minidocker.runtime.terminal import Terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

_FLAGS = {"mnt": k.NEWNS, "uts": k.NEWUTS, "ipc": k.NEWIPC, "net": k.NEWNET, "cgroup": k.NEWCGROUP, "user": k.NEWUSER, "time": k.NEWTIME}


class Join(Step):
    """setns(2) by pidfd into every namespace of init's that is not ours already."""

    actor = CHILD
    title = NAMESPACES
    why = "see what the container sees"

    def __init__(self, pid: int, pidfd: int, keyring: str) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.keyring = keyring
        self.names = [name for name in _FLAGS if k.inode_of(pid, name) != k.inode_of(os.getpid(), name)]

    def shell(self) -> str:
        return f"nsenter --target {self.pid} --pid " + " ".join("--mount" if name == "mnt" else f"--{name}" for name in self.names)

    def describe(self) -> str:
        return "enter the container's namespaces"

    def apply(self, at: At) -> None:
        flags = 0
        for name in self.names:
            flags |= _FLAGS[name]
        k.setns(self.pidfd, flags)
        k.join_keyring(self.keyring)
        at.root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


class Entry:
    """One exec. `process` the OCI process section, `stdio` what becomes 0, 1 and 2; `terminal`, and unless it is `detached` `pid` and
    `pidfd`, are there after `run`."""

    def __init__(
        self,
        id: str,
        state: State,
        process: dict[str, Any],
        face: Face,
        filter: tuple[bytes, int] | None,
        stdio: tuple[int, int, int],
        detached: bool = False,
        preserve_fds: int = 0,
        seccomp: dict[str, Any] | None = None,
    ) -> None:
        """`seccomp` is the profile that `filter` was made of, for a listener that is named in it."""
        self.container = state.open()
        self.stdio = stdio
        self.listens = has_listener(filter)
        self.detached = detached
        self.at = At()
        self.ours, self.theirs = sync.pair()
        used = [hierarchy for hierarchy in face.hierarchies if os.path.isdir(hierarchy.path(state.cgroup))]
        self.cgroup = face.descriptor(state.cgroup) if any(hierarchy.version == 2 for hierarchy in used) else -1
        terminal = [Terminal(self._send_terminal, process.get("consoleSize"), console=False)] if process.get("terminal") else []
        seldom = None
        if asks_of_process(process, filter):
            from minidocker.runtime.seldom import Seldom

            seldom = Seldom(process, seccomp, self.theirs)
            seldom.of_process(state, RUNNING, filter)
        affine = process.get("execCPUAffinity") or {}
        self.plan = Plan(
            [
                *affinity(affine.get("initial")),
                resources.Join(state.cgroup, used, CHILD, born=True),
                *affinity(affine.get("final")),
                *confined(process),
                *(seldom.first if seldom else ()),
                Join(state.pid, self.container, state.keyring),
                *terminal,
                *program_steps(process, self.theirs, filter, lasting=Lasting(preserve_fds=preserve_fds), seldom=seldom),
            ]
        )
        self.pidfd = self.pid = self.terminal = -1

    def _send_terminal(self, master: int) -> None:
        self.theirs.send(sync.TERMINAL, master)

    def run(self, ready: Callable[[], None] | None = None) -> None:
        """Start the program; returns when execve has happened. Raises what kept it from happening, an error of `ready` too, which is called
        when all but the start is done."""
        libc.prctl(init.PR_SET_DUMPABLE, 0, 0, 0, 0)
        k.setns(self.container, k.NEWPID)  # of this process only its future children change
        self.pid, self.pidfd = k.clone(0, self.cgroup)
        if self.pid == 0:
            if self.detached and k.clone(0)[0]:
                os._exit(0)
            self.ours.close()
            init.become_child(self.plan, self.at, self.theirs, self.stdio)
        if self.detached:
            os.waitpid(self.pid, 0)
        self.theirs.close()
        try:
            self._until_started(ready)
        except MinidockerError:
            self.ours.close()  # it ends, should it be waiting for its start
            if not self.detached:
                os.waitpid(self.pid, 0)  # it ends by itself; for the same reason it is not left to others
            raise
        self.ours.close()
        os.close(self.container)

    def _until_started(self, ready: Callable[[], None] | None) -> None:
        message, descriptor = self.ours.receive()
        if message == sync.TERMINAL:
            self.terminal = descriptor
            message, _ = self.ours.receive()
        if message != sync.READY:
            raise MinidockerError("the process ended before it was set up", "has the container ended meanwhile?")
        if ready is not None:
            ready()
        self.ours.send(sync.START)
        sync.until_started(self.ours, self.listens)


def affinity(cpus: str | None) -> list[Step]:
    """One of `process.execCPUAffinity` as steps: mostly none."""
    if not cpus:
        return []
    from minidocker.runtime.scheduling import Affinity

    return [Affinity(cpus)]


def bind_file(container: int, source: str, destination: str) -> None:
    """Bind a file of the host's, read-only, over `destination` in a running container, and over what was bound there before;
    `container` is a pidfd of its first process. Raises KernelError."""
    try:
        tree = mounts.open_tree(source)
        mounts.set_attributes(tree, mounts.ATTR_RDONLY)
        pid, pidfd = k.clone(0)
        if pid == 0:
            _bind_in(container, tree, destination)
        os.close(pidfd)
        os.close(tree)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(container)
    if code:
        raise KernelError(f"bind `{source}` over the container's `{destination}`", code)


def _bind_in(container: int, tree: int, destination: str) -> NoReturn:
    """The child: of the container it enters the mounts alone, so nobody in there sees it. Exits with an errno. What is covered stays: to
    take it away first would leave the container without the file, were this killed in between."""
    try:
        libc.prctl(init.PR_SET_DUMPABLE, 0, 0, 0, 0)
        k.setns(container, k.NEWNS)
        mounts.move_mount(tree, os.open(destination, os.O_PATH | os.O_CLOEXEC))
    except OSError as error:
        os._exit(error.errno or 1)
    except MinidockerError:
        os._exit(errno.EIO)
    os._exit(0)
