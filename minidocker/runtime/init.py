"""The child: a container's first process (and the first process of an exec) from its birth to execve.

After the pivot nothing is imported, loaded or looked up but by raw system calls: everything it needs is in memory when it
is cloned (DESIGN.md, law 6). Its failures travel to the parent over the channel; it never writes to the user's terminal.
"""

from __future__ import annotations

import _signal
import errno
import os
import select
import stat

from minidocker.errors import KernelError, MinidockerError, TargetNotExecutable, TargetNotFound
from minidocker.kernel import libc
from minidocker.plan import CHILD, EXEC, PROGRAM, At, Plan, Step, quote
from minidocker.runtime import handover, stub, sync
from minidocker.runtime.privileges import exportable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Any, NoReturn

    from minidocker.kernel.process import Filter

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
_SIGKILL = 9
_LARGEST_FD = 0xFFFFFFFF
_MOST_OF_PASSWD = 1 << 20


def become_child(plan: Plan, at: At, channel: sync.Channel, stdio: tuple[int, int, int]) -> NoReturn:
    """Run the child's slice of `plan`, which ends in execve; on failure send it to the parent and exit."""
    try:
        # whoever could ptrace or read this process's /proc files could use what it holds of the host (CVE-2016-9962)
        libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
        os.setsid()
        _reset_signals()
        os.umask(0)
        for standard, descriptor in enumerate(stdio):
            os.dup2(descriptor, standard)
        plan.run(at, CHILD)
        os._exit(0)  # a plan without an Execute at its end has nothing more to do
    except MinidockerError as error:
        _report(channel, error)
    except BaseException as error:
        _report(channel, MinidockerError(f"internal error in the container's first process: {error!r}"))
    os._exit(1)


def _report(channel: sync.Channel, error: MinidockerError) -> None:
    try:
        channel.send_failure(error)
    except OSError:
        os._exit(1)  # the parent is gone: nobody is left to tell


def _reset_signals() -> None:
    """Python ignores SIGPIPE and catches SIGINT; the program to run gets the defaults, and no blocked signals."""
    for number in (_signal.SIGPIPE, _signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP, _signal.SIGQUIT, _signal.SIGWINCH, _signal.SIGXFSZ):
        _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


class FindProgram(Step):
    """Find the program in the container, tell the parent that all is ready, and wait for START.

    The search is execvp's (exec(3)), by stat alone; what is found is kept in `path`.
    """

    actor = CHILD
    typed = PROGRAM
    title = EXEC
    why = "a program that is missing is an error now, before anything runs"

    def __init__(self, process: dict[str, Any], channel: sync.Channel, listener: _socket.socket | None = None) -> None:
        self.name: str = process["args"][0]
        self.cwd: str = process["cwd"]
        search = [v[5:] for v in process.get("env", []) if v.startswith("PATH=")]
        self.search = (search[-1] if search else DEFAULT_PATH).split(":")
        self.channel = channel
        self.listener = listener
        self.path = self.name
        # as runc and crun, on whom docker and podman leave it; the caller must not have to read a hostile file
        self.uid = -1 if any(v.startswith("HOME=") for v in process.get("env", [])) else process.get("user", {}).get("uid", 0)
        self.home = b""

    def shell(self) -> str:
        if "/" in self.name:
            found = f"[ -e {quote(self.name if self.name[0] == '/' else f'{self.cwd}/{self.name}')} ]"
        else:
            found = f"PATH={quote(':'.join(self.search))} type -P {quote(self.name)} > /dev/null"
        trouble = quote(f"{self.name}: not found in the container")
        meet = "echo >&8\nread -r _ <&9"
        return f"{meet}\ncd /\n{found} || {{ echo {trouble} >&2; exit 127; }}\n{meet}\nexec 8<&- 9<&-"

    def describe(self) -> str:
        return f"find `{self.name}`"

    def apply(self, at: At) -> None:
        trouble = self._trouble_with(os.path.join(self.cwd, self.name)) if "/" in self.name else self._search()
        if trouble:
            raise trouble
        if self.uid >= 0:
            self.home = _home_of(self.uid)
        self.channel.send(sync.READY)
        if self.listener is None:
            self.channel.expect(sync.START)
        else:
            self.channel.expect(sync.LEFT)
            handover.accept(self.listener, self.channel)

    def _search(self) -> MinidockerError | None:
        worst: MinidockerError = TargetNotFound(
            f"`{self.name}` is not found in the container",
            f"its PATH is {':'.join(self.search)}; a program of the host is named by a path: ./{self.name}",
        )
        for directory in self.search:
            self.path = f"{directory or '.'}/{self.name}"
            trouble = self._trouble_with(self.path)
            if trouble is None:
                return None
            if isinstance(trouble, TargetNotExecutable):
                worst = trouble
        return worst

    def _trouble_with(self, path: str) -> MinidockerError | None:
        try:
            mode = os.stat(path).st_mode
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return TargetNotFound(f"`{path}` does not exist in the container")
            return TargetNotExecutable(f"look at `{path}` in the container: {os.strerror(error.errno or 0).lower()}")
        if stat.S_ISDIR(mode):
            return TargetNotExecutable(f"`{path}` is a directory, not a program")
        if not stat.S_ISREG(mode) or not mode & 0o111:
            return TargetNotExecutable(f"`{path}` is not executable", f"chmod +x {path}")
        return None


def _home_of(uid: int) -> bytes:
    """The home of `uid` in the container's /etc/passwd, "/" where it says none. Whatever lies there can neither hang nor swamp us."""
    try:
        descriptor = os.open("/etc/passwd", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return b"/"
    try:
        text = os.read(descriptor, _MOST_OF_PASSWD) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    except OSError:
        return b"/"
    finally:
        os.close(descriptor)
    wanted = b"%d" % uid
    for line in text.split(b"\n"):
        fields = line.split(b":")
        if len(fields) >= 7 and fields[2] == wanted and fields[5][:1] == b"/":
            return fields[5]
    return b"/"


class Detach(Step):
    """The last things before execve that a seccomp filter might forbid: descriptors, directory, the tie to the parent."""

    actor = CHILD
    typed = PROGRAM
    title = EXEC
    why = "no descriptor of ours goes along; the working directory is the container's"

    def __init__(self, cwd: str, channel: sync.Channel, preserve_fds: int = 0, die_with_parent: bool = False) -> None:
        self.cwd = cwd
        self.channel = channel
        self.first = 3 + preserve_fds
        self.die_with_parent = die_with_parent

    def shell(self) -> str:
        return f"cd {quote(self.cwd)}"

    def describe(self) -> str:
        return f"change to the working directory `{self.cwd}`"

    def apply(self, at: At) -> None:
        # all but the channel, and before the last chdir: a directory of the host that was left open would be a way out
        # (CVE-2024-21626)
        keep = self.channel.fileno()
        if keep > self.first:
            libc.syscall(libc.SYS.close_range, self.first, keep - 1, 0)
        libc.syscall(libc.SYS.close_range, max(keep + 1, self.first), _LARGEST_FD, 0)
        os.chdir(self.cwd)
        if not os.getcwd().startswith("/"):  # getcwd(3): "(unreachable)" is a directory outside the root
            raise MinidockerError(f"the working directory `{self.cwd}` leads out of the container")
        if self.die_with_parent:
            libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
            # had the parent died just before, no signal would come: the channel's other end tells
            poll = select.poll()
            poll.register(keep, select.POLLHUP)
            if any(events & select.POLLHUP for _, events in poll.poll(0)):
                os._exit(1)


class Execute(Step):
    """execve(2)."""

    actor = CHILD
    typed = PROGRAM
    title = EXEC
    why = "the program takes over this process, and has the environment that it is given alone"

    def __init__(self, process: dict[str, Any], program: FindProgram, filter: Filter | None = None) -> None:
        """By the stub (stub.py), as the container may reach our interpreter otherwise; `filter` is loaded by that."""
        self.args: list[str] = process["args"]
        self.env = [os.fsencode(v) for v in process.get("env", [])]
        self.environment = {name: value for name, _, value in (v.partition(b"=") for v in self.env)}
        self.program = program
        self.filter = filter

    def shell(self) -> str:
        env = " ".join(quote(variable) for variable in map(os.fsdecode, self.env) if exportable(variable))
        words = " ".join(quote(word) for word in self.args)
        # bash would export its SHLVL again at exec; an array is never exported
        return f"unset OLDPWD PWD SHLVL _\ndeclare -a SHLVL\nexport {env}\nexec {words}"

    def describe(self) -> str:
        return f"execute `{self.args[0]}`"

    def apply(self, at: At) -> None:
        path = self.program.path
        if self.program.home:
            self.environment[b"HOME"] = self.program.home
        try:
            stub.execute(path, self.args, self.environment, self.program.channel.fileno(), self.filter)
        except OSError as error:
            raise exec_failure(path, error) from error


def exec_failure(path: str, error: OSError) -> MinidockerError:
    if error.errno == errno.ENOENT:
        return TargetNotFound(
            f"execute `{path}`: its interpreter does not exist in the container", "look at its `#!` line, or at its ELF loader"
        )
    if error.errno == errno.ENOEXEC:
        return TargetNotExecutable(f"execute `{path}`: it is neither a binary for this machine nor does it begin with `#!`")
    if error.errno in (errno.EACCES, errno.EPERM, errno.ELOOP, errno.EISDIR, errno.ENOTDIR, errno.ETXTBSY):
        return TargetNotExecutable(f"execute `{path}`: {os.strerror(error.errno).lower()}")
    return KernelError.of(f"execute `{path}`", error)
