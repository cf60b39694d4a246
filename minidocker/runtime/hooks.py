"""OCI hooks (config.md, "POSIX-platform Hooks"; runtime.md, "Lifecycle"): programs that are told of a container, with its state on stdin.

    kind                      when                                     where                          on failure
    prestart, createRuntime   mounted, before pivot_root               the runtime's namespaces       the container is not made
    createContainer           then                                     the container's, the runtime's files   likewise
    startContainer            after START, before the program          the container's, as the program will be, its files   likewise
    poststart                 when the program runs                    the runtime's                  a warning
    poststop                  when the container is deleted            the runtime's                  a warning

The child waits for the parent's hooks (MOUNTED, then HOOKED, sync.py), as they may mount into its root. A hook that takes longer than
its `timeout` is killed. Its output goes nowhere but into the error, should it fail.
"""

from __future__ import annotations

import errno
import os

from minidocker.errors import KernelError, MinidockerError
from minidocker.kernel import namespaces as k
from minidocker.kernel import process
from minidocker.plan import CHILD, EXEC, FILESYSTEM, At, Step, quote
from minidocker.runtime import sync
from minidocker.spec import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

    from minidocker.runtime.namespaces import AwaitReady

_SHOWN = 300  # bytes of what a hook that failed said
_SIGKILL = 9
_RESET = (13, 25)  # SIGPIPE and SIGXFSZ, which the interpreter ignores; being ignored is inherited


def run(hooks: Sequence[dict[str, Any]], state: dict[str, Any]) -> None:
    """Run them in order, each with `state` (runtime.md, "State") on its stdin. Raises MinidockerError for the first that fails."""
    for hook in hooks:
        _run(hook, state, _spawn)


def run_each(hooks: Sequence[dict[str, Any]], state: dict[str, Any]) -> list[str]:
    """The same for hooks whose failure is a warning: all are run; returns what went wrong, one line each."""
    troubles = []
    for hook in hooks:
        try:
            _run(hook, state, _spawn)
        except MinidockerError as error:
            troubles.append(str(error))
    return troubles


class Hooks(Step):
    """Hooks as a step: `kinds` of them, the state as `state` tells it."""

    title = FILESYSTEM

    def __init__(self, kind: str, hooks: Sequence[dict[str, Any]], state: Callable[[], dict[str, Any]]) -> None:
        self.kind = kind
        self.hooks = hooks
        self.state = state

    def shell(self) -> str:
        lines = []
        for hook in self.hooks:
            command = " ".join(map(quote, [hook["path"], *hook.get("args", [])[1:]]))
            limit = f"timeout {hook['timeout']} " if hook.get("timeout") else ""
            environment = "".join(quote(entry) + " " for entry in hook.get("env", []))
            lines.append(f"env -i {environment}{limit}{command} <<< {quote(fastjson.dumps(self.state()))}")
        return "\n".join(lines)

    def describe(self) -> str:
        return f"run the {self.kind} hooks"

    def told(self, at: At) -> dict[str, Any]:
        return {**self.state(), "pid": at.pid}


class InRuntime(Hooks):
    """prestart and createRuntime: the parent's, while the child waits before its pivot."""

    why = "who was asked to be told may still change what the container will see"

    def __init__(
        self, hooks: Sequence[dict[str, Any]], state: Callable[[], dict[str, Any]], ready: AwaitReady, ours: sync.Channel
    ) -> None:
        super().__init__("createRuntime", hooks, state)
        self.ready = ready
        self.ours = ours

    def apply(self, at: At) -> None:
        self.ready.until(sync.MOUNTED)
        run(self.hooks, self.told(at))
        self.ours.send(sync.HOOKED)


class AwaitRuntime(Step):
    """The child's side of InRuntime."""

    actor = CHILD
    title = FILESYSTEM
    why = "the runtime's hooks come first"

    def __init__(self, theirs: sync.Channel) -> None:
        self.theirs = theirs

    def shell(self) -> str:
        return "# (the hooks above run now)"

    def describe(self) -> str:
        return "wait for the createRuntime hooks"

    def apply(self, at: At) -> None:
        self.theirs.send(sync.MOUNTED)
        self.theirs.expect(sync.HOOKED)


class KnowOneself(Step):
    """The child's pid as its parent sees it, which after the pivot nothing tells any more."""

    actor = CHILD
    title = EXEC
    why = "what is told of it is told by the host's number"

    def shell(self) -> str:
        return "# (its pid is $PID)"

    def describe(self) -> str:
        return "read its own pid"

    def apply(self, at: At) -> None:
        at.pid = int(os.readlink("/proc/self"))


class InContainer(Hooks):
    """createContainer: the child's own, in its namespaces, with the host's files still there."""

    actor = CHILD
    why = "in the container's namespaces, before its root is changed"

    def __init__(self, hooks: Sequence[dict[str, Any]], state: Callable[[], dict[str, Any]]) -> None:
        super().__init__("createContainer", hooks, state)

    def apply(self, at: At) -> None:
        run(self.hooks, self.told(at))


class BeforeProgram(Hooks):
    """startContainer: programs of the container's, so confined by the very steps that confine its own program (`confinement`)."""

    actor = CHILD
    title = EXEC
    why = "programs of the container's, which may do what it may and no more"

    def __init__(
        self, hooks: Sequence[dict[str, Any]], state: Callable[[], dict[str, Any]], confinement: Sequence[Step]
    ) -> None:
        super().__init__("startContainer", hooks, state)
        self.confinement = confinement

    def apply(self, at: At) -> None:
        for hook in self.hooks:
            _run(hook, self.told(at), lambda hook, files: self._clone(hook, files, at))

    def _clone(self, hook: dict[str, Any], files: Sequence[int], at: At) -> int:
        pid, pidfd = k.clone(0)
        if pid == 0:
            self._become(hook, files, at)
        return pidfd

    def _become(self, hook: dict[str, Any], files: Sequence[int], at: At) -> NoReturn:
        """The hook's process, from its birth to its end."""
        try:
            for standard, descriptor in enumerate(files):
                os.dup2(descriptor, standard)
            for step in self.confinement:
                if step.actor == CHILD:
                    step.apply(at)
            os.execve(hook["path"], hook.get("args") or [hook["path"]], _environment(hook))
        except (OSError, MinidockerError) as error:
            os.write(2, str(error).encode(errors="replace"))
        os._exit(127)


def _run(hook: dict[str, Any], state: dict[str, Any], begin: Callable[[dict[str, Any], Sequence[int]], int]) -> None:
    """One hook, from `begin`, which starts it with three descriptors as 0, 1 and 2 and returns its pidfd. Memory files serve: nothing can
    block on a full pipe, nor outlive the hook in who holds its output open."""
    files = [os.memfd_create(name, os.MFD_CLOEXEC) for name in ("state", "said")]
    try:
        os.write(files[0], fastjson.dumps(state).encode())
        os.lseek(files[0], 0, os.SEEK_SET)
        pidfd = begin(hook, (files[0], files[1], files[1]))
        try:
            ended = process.pidfd_ended(pidfd, hook.get("timeout"))
            if not ended:
                process.pidfd_send_signal(pidfd, _SIGKILL)
            status = process.pidfd_wait(pidfd)
        finally:
            os.close(pidfd)
        if ended and status == 0:
            return
        said = os.pread(files[1], _SHOWN, max(0, os.fstat(files[1]).st_size - _SHOWN)).decode(errors="replace").strip()
        why = f"it exited with {status}" if ended else f"killed after {hook['timeout']} s"
        raise MinidockerError(f"run hook `{hook['path']}`: {why}" + (": " + " ".join(said.split()) if said else ""))
    finally:
        for descriptor in files:
            os.close(descriptor)


def _spawn(hook: dict[str, Any], files: Sequence[int]) -> int:
    actions: list[tuple[int, ...]] = [(os.POSIX_SPAWN_DUP2, descriptor, number) for number, descriptor in enumerate(files)]
    actions += [(os.POSIX_SPAWN_CLOSE, descriptor) for descriptor in _passed_on()]
    try:
        pid = os.posix_spawn(
            hook["path"], hook.get("args") or [hook["path"]], _environment(hook), file_actions=actions, setsigdef=_RESET, setsigmask=()
        )
    except OSError as error:
        raise KernelError.of(f"run hook `{hook['path']}`", error) from error
    return process.pidfd_open(pid)


def _passed_on() -> list[int]:
    """The descriptors that execve would leave open: what our caller gave us is not the hook's."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > 2 and os.get_inheritable(int(name)):
                found.append(int(name))
        except OSError as error:
            if error.errno != errno.EBADF:  # the directory's own, closed by now
                raise
    return found


def _environment(hook: dict[str, Any]) -> dict[str, str]:
    return {name: value for name, _, value in (entry.partition("=") for entry in hook.get("env", []))}
