"""What a container's parent does while the container runs: pump its output into the log and to clients, wait for its end.

This module must stay light: a detached monitor is a fresh interpreter that imports of ours only activation.py and logfile.py
(at most 5 MB). It is the process that cloned the container's init, before and after that exec, so the exit status is its own child's.

    init ── stdout, stderr pipes or the terminal's master ──► Monitor ──► log
                                                              ▲   └─────► client (SOCK_SEQPACKET, while one is attached)
                                                              └── client: stdin, window size, signals, "I leave"

A detached container has a door, a socket at which one command at a time becomes its client (attach.py).

Messages are one byte of kind, then the payload:
    to the client    1, 2 output   r more stdin is welcome   P explained plan   N notice   S started (id; pid at the door)   X exit code
                     E failure (code, message, hint)
    from the client  i stdin       c end of stdin     w rows, columns (2 x u16)   s signal number   d leave the container running

The client sends no more stdin before it was asked for more: so what nobody reads stands in the way of no signal, and neither
side ever waits for the other to read.
"""

from __future__ import annotations

import _signal
import _struct as struct
import fcntl
import gc
import os
import select
import time

from minidocker.engine.activation import unpacked
from minidocker.engine.logfile import Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

    from minidocker.engine.activation import Activation
    from minidocker.engine.pulse import Pulse
    from minidocker.errors import MinidockerError

CHUNK = 65536
_MSG_DONTWAIT = 0x40
_TIOCSWINSZ = 0x5414
_TIOCGPTPEER = 0x5441
_PATIENCE = 2000  # milliseconds for a client to take the last of the output


class Left(Exception):
    """The client has left its container running: nothing of the client's is to be kept open from here on."""


class Monitor:
    """`pid` and `pidfd` of init; `sources` {stream: descriptor to read its output from}; `stdin` the descriptor that its input is written
    to, or -1; `terminal` the master when it has a terminal (then also the one source and stdin), or -1; `activations` the DNS of its
    networks that nobody has asked anything yet.

    `client` is the first one. When it ends without leaving, the container does where it is `tied`, and is left running where it is not.
    `door` listens for others, one at a time, or is -1. `once`: stdin ends when a client's does, as in a pipe."""

    def __init__(
        self, pid: int, pidfd: int, sources: dict[int, int], stdin: int, terminal: int, log: Log, client: _socket.socket | None,
        activations: list[Activation] | None = None, *, tied: bool = True, door: int = -1, once: bool = True,
        pulse: Pulse | None = None,
    ) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.sources = {descriptor: stream for stream, descriptor in sources.items()}
        self.stdin = stdin
        self.terminal = terminal
        self.log = log
        self.client = client
        self.activations = [] if activations is None else activations
        self.tied = tied
        self.door = door
        self.once = once
        self.settled = client is None  # it is nobody's already: a client that leaves is no reason to become so
        self.left = False
        self.typed = False  # whether the client passes stdin on, which so ends with it
        self.to_client: list[bytes] = []  # what it was too slow to take; while there is some its sources are not read
        self.to_stdin = bytearray()
        self.input_ended = False
        self.pulse = pulse
        self.poll = select.poll()
        for descriptor in self.sources:
            os.set_blocking(descriptor, False)
        if terminal >= 0:
            # as long as somebody holds the slave, reading the master never fails because a program closed its side for a moment
            self.slave = fcntl.ioctl(terminal, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        if stdin >= 0:
            os.set_blocking(stdin, False)

    def watch(self) -> int:
        """Pump until init has ended; returns its wait status (wait(2)). Raises Left, and may be called again, once the client has left and
        init has got all that was typed before.

        From here on SIGTERM is ignored: who asks everything to end (a host that goes down) asks the container, too, and what has become
        of that is written down before we go."""
        _signal.signal(_signal.SIGTERM, _signal.SIG_IGN)
        gc.freeze()  # what is there now stays: only what is made from here on is ever looked through
        gc.enable()
        while True:
            self._register()
            ready = dict(self.poll.poll(self.pulse.patience() if self.pulse else None))
            if self.pulse:
                self.pulse.beat(self.pulse.looking in ready)
            if self.client is not None and self.client.fileno() in ready:
                self._serve_client(ready[self.client.fileno()])
            for descriptor in [d for d in self.sources if d in ready]:
                self._pump(descriptor)
            if self.door in ready:
                self._open_door()
            if self.to_stdin and self.stdin in ready:
                self._feed()
            for activation in [a for a in self.activations if a.udp in ready or a.tcp in ready]:
                self.activations.remove(activation)
                activation.wake()
            if self.pidfd in ready:
                self._look_no_more()
                return self._end()
            if self.left and not self.to_stdin:
                self.left = False
                self._look_no_more()
                raise Left

    def _look_no_more(self) -> None:
        if self.pulse:
            self.pulse.stop()

    def _register(self) -> None:
        """Ask poll for what can be dealt with now, and nothing else: so a slow reader slows the container, not us."""
        wanted = {self.pidfd: select.POLLIN}
        if self.pulse and self.pulse.looking >= 0:
            wanted[self.pulse.looking] = select.POLLIN
        if self.door >= 0:
            wanted[self.door] = select.POLLIN
        if not self.to_client:
            for descriptor in self.sources:
                wanted[descriptor] = select.POLLIN
        if self.to_stdin and self.stdin >= 0:
            wanted[self.stdin] = wanted.get(self.stdin, 0) | select.POLLOUT
        for activation in self.activations:
            wanted[activation.udp] = wanted[activation.tcp] = select.POLLIN
        if self.client is not None:
            wanted[self.client.fileno()] = select.POLLIN | (select.POLLOUT if self.to_client else 0)
        self.poll = select.poll()
        for descriptor, events in wanted.items():
            self.poll.register(descriptor, events)

    def _pump(self, descriptor: int) -> int:
        """Read once; returns how many bytes, 0 when there is nothing (more) to read."""
        try:
            data = os.read(descriptor, CHUNK)
        except BlockingIOError:
            return 0
        if not data:
            os.close(descriptor)
            del self.sources[descriptor]
            return 0
        stream = self.sources[descriptor]
        self.log.write(stream, data)
        self._tell(b"%d" % stream + data)
        return len(data)

    def _tell(self, message: bytes) -> None:
        if self.client is None:
            return
        self.to_client.append(message)
        self._flush_client()

    def _flush_client(self) -> None:
        while self.client is not None and self.to_client:
            try:
                self.client.send(self.to_client[0], _MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                self._client_is_gone()
                return
            self.to_client.pop(0)

    def _serve_client(self, events: int) -> None:
        if events & select.POLLOUT:
            self._flush_client()
        if self.client is None or not events & (select.POLLIN | select.POLLHUP):
            return
        try:
            message = self.client.recv(CHUNK + 1)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        kind, payload = message[:1], message[1:]
        if not kind:
            self._client_is_gone()
        elif kind == b"i":
            self.typed = True
            if self.stdin >= 0:
                self.to_stdin += payload
                self._feed()
        elif kind == b"c":
            self._end_input()
        elif kind == b"w" and self.terminal >= 0:
            rows, columns = struct.unpack("HH", payload)
            fcntl.ioctl(self.terminal, _TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        elif kind == b"s":
            self.signal(payload[0])
        elif kind == b"d":
            self.left = not self.settled
            self._drop_client()

    def _end_input(self) -> None:
        if self.once:
            self.input_ended = True
            self._feed()

    def _open_door(self) -> None:
        """Another command would be the client. It is, unless there is one."""
        import _socket  # its 0.3 MB only where somebody comes

        door = _socket.socket(fileno=self.door)
        descriptor, _ = door._accept()  # type: ignore[attr-defined]
        door.detach()
        caller = _socket.socket(fileno=descriptor)
        if self.client is None:
            self.client, self.typed = caller, False
            self._tell(b"S%d" % self.pid)
        else:
            caller.send(b"E1\0another command is attached to the container already\0end that one, or type its detach keys", _MSG_DONTWAIT)
            caller.close()

    def _feed(self) -> None:
        while self.to_stdin and self.stdin >= 0:
            try:
                del self.to_stdin[: os.write(self.stdin, self.to_stdin[:CHUNK])]
            except BlockingIOError:
                return
            except OSError:  # nobody reads it any more: what is left has no reader, as in a shell's pipe
                self.to_stdin.clear()
                self.input_ended = True
            if not self.to_stdin and not self.input_ended:
                self._tell(b"r")
        if self.input_ended and self.stdin >= 0:
            if self.terminal >= 0:
                self.input_ended = False  # a terminal has no end of file but the character that the user types
                return
            os.close(self.stdin)
            self.stdin = -1

    def leave(self) -> None:
        """The container has ended, and leaves its networks' DNS to whoever is in them."""
        while self.activations:
            self.activations.pop().leave()

    def signal(self, number: int) -> None:
        try:
            _signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            return  # it ended meanwhile, and poll is about to say so

    def _drop_client(self) -> None:
        if self.client is not None:
            self.client.close()
        self.client = None
        self.to_client.clear()

    def _client_is_gone(self) -> None:
        """It ended without leaving: whoever wants a container to outlive its `run` says -d, or types the detach keys."""
        self._drop_client()
        if self.tied:
            self.signal(_signal.SIGKILL)
            return
        self.left = not self.settled
        if self.typed:
            self._end_input()

    def dismiss(self, status: int) -> None:
        """Tell the client how it has ended, as far as it listens."""
        self._tell(b"X%d" % exit_code_of(status))
        self._wait_for_client()

    def _end(self) -> int:
        """Init has ended, and with it all of its PID namespace: what is in the pipes now is the last of it. No more than they hold is
        read: another container may have been handed one, and write to it for ever."""
        _, status = os.waitpid(self.pid, 0)
        for descriptor in list(self.sources):
            left = capacity(descriptor)
            while left > 0 and (count := self._pump(descriptor)):
                left -= count
                self._wait_for_client()
        self._wait_for_client()
        return status

    def _wait_for_client(self) -> None:
        """One that is tied to the container may take its time; for another's sake no end goes unrecorded."""
        while self.client is not None and self.to_client:
            poll = select.poll()
            poll.register(self.client, select.POLLOUT)
            if not poll.poll(None if self.tied else _PATIENCE):
                self._drop_client()
            self._flush_client()


def capacity(descriptor: int) -> int:
    """How many bytes at most a pipe or a terminal holds."""
    try:
        return fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)
    except OSError:
        return 1 << 20  # a terminal: more than any holds (TTYB_DEFAULT_MEM_LIMIT, drivers/tty/tty_buffer.c)


def failure_message(error: MinidockerError) -> bytes:
    """The message E that the client raises again."""
    return f"E{error.exit_code}\0{error.message}\0{error.hint}".encode(errors="replace")


def exit_code_of(status: int) -> int:
    """Docker's exit code from a wait status: 128 + n for signal n."""
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def resident(arguments: list[str]) -> None:
    """The detached monitor after its exec: watch, note the end in the file `exit`, and exec the full interpreter to tidy up.

    `arguments`: pid, pidfd, stdout or terminal, stderr or -1, whether the first is a terminal, stdin or -1, whether that ends with a
    client's, the door, the log's limit, its number of files and its path, run directory, the activations (activation.py), then the
    command that tidies up, to which the wait status is added.
    """
    pid, pidfd, first, second, terminal, stdin, once, door, log_limit, log_files = (int(word) for word in arguments[:10])
    log_path, run_directory, *rest = arguments[10:]
    activations, finish = unpacked(rest)
    sources = {1: first} if second < 0 else {1: first, 2: second}
    master = first if terminal else -1
    watching = Monitor(pid, pidfd, sources, stdin, master, Log(log_path, log_limit, log_files), None, activations,
                       tied=False, door=door, once=bool(once), pulse=pulse_of(run_directory))  # fmt: skip
    status = watching.watch()
    watching.leave()
    note_end(run_directory, status)
    watching.dismiss(status)
    os.execv(finish[0], [*finish, str(status)])


def pulse_of(run_directory: str) -> Pulse | None:
    """What has the container's health looked at, None where nobody asked for that."""
    if not os.path.exists(f"{run_directory}/pulse"):
        return None
    from minidocker.engine.pulse import Pulse

    return Pulse(run_directory)


def expect_end(run_directory: str) -> None:
    """Make the file `exit`, empty: who has it open when the container ends learns how, whatever becomes of its name (waiting.py)."""
    os.close(os.open(f"{run_directory}/exit", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def note_end(run_directory: str, status: int) -> None:
    """What is known of the end, for the next command should tidying up be interrupted, and for those that wait for it: wait status,
    seconds since the epoch."""
    descriptor = os.open(f"{run_directory}/exit", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.write(descriptor, f"{status} {time.time()}".encode())
    os.close(descriptor)
