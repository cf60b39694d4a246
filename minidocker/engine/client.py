"""The command in the foreground: a monitor's first client. It carries bytes, the window's size and signals, and nothing else."""

from __future__ import annotations

import _signal
import _struct as struct
import os

from minidocker.engine.monitor import CHUNK
from minidocker.errors import MinidockerError, TargetNotExecutable, TargetNotFound
from minidocker.kernel.terminal import catch_signals, raw_terminal, wait, window_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable
    from typing import Any

# After so many interrupts the user wants out, whatever PID 1 thinks of signals: the client goes, and the container with it.
_INTERRUPTS = 3
_BY_EXIT_CODE = {127: TargetNotFound, 126: TargetNotExecutable}


def raise_failure(payload: bytes) -> None:
    code, message, hint = payload.decode(errors="replace").split("\0", 2)
    error = _BY_EXIT_CODE.get(int(code), MinidockerError)(message, hint)
    error.exit_code = int(code)
    raise error


class Client:
    """`socket` to the monitor; `interactive` passes stdin on, and with `tty` puts the user's terminal into raw mode meanwhile;
    `proxy` passes signals on; `write(descriptor, data)` shows output."""

    def __init__(
        self,
        socket: _socket.socket,
        *,
        interactive: bool,
        tty: bool,
        detach_keys: bytes,
        write: Callable[[int, bytes], None],
        explain: Callable[[str], None],
        notice: Callable[[str], None],
        proxy: bool = True,
    ) -> None:
        self.socket = socket
        self.reads_stdin = interactive
        self.may_send = True  # the monitor has passed on what it got of stdin
        self.tty = tty
        self.keys = KeySequence(detach_keys if tty and interactive else b"")
        self.write = write
        self.explain = explain
        self.notice = notice
        self.interrupts = 0
        self.proxy = proxy
        self.has_left = False
        self.exit_code: int | None = None
        self.id = ""

    def until_started(self) -> str:
        """Wait for the container to run, pass explanations and notices on; returns its id. Raises what kept it from running."""
        while not self.id:
            self._receive()
        return self.id

    def run(self) -> int:
        """Carry until the container ends or the user leaves it; returns its exit code (0 when left)."""
        restore = raw_terminal() if self.tty and self.reads_stdin else None
        self._catch_signals()
        try:
            if self.tty:
                self._send_size()
            while self.exit_code is None:
                for descriptor in wait(self.socket.fileno(), *([0] if self.reads_stdin and self.may_send else [])):
                    if descriptor == 0:
                        self._read_stdin()
                    else:
                        self._receive()
        finally:
            if restore:
                restore()
        return self.exit_code

    def _receive(self) -> None:
        try:
            message = self.socket.recv(CHUNK * 4)
        except ConnectionResetError:
            # the monitor ended with something of ours unread; what it sent before that is still there (unix(7))
            message = self.socket.recv(CHUNK * 4)
        kind, payload = message[:1], message[1:]
        if kind in (b"1", b"2"):
            self.write(int(kind), payload)
        elif kind == b"r":
            self.may_send = True
        elif kind == b"X":
            self.exit_code = int(payload)
        elif kind == b"S":
            self.id = payload.decode()
        elif kind == b"E":
            raise_failure(payload)
        elif kind == b"P":
            self.explain(os.fsdecode(payload))
        elif kind == b"N":
            self.notice(os.fsdecode(payload))
        else:
            raise MinidockerError("the container's monitor ended, so its exit status is unknown", "minidocker ps -a shows what is left")

    def _read_stdin(self) -> None:
        data = os.read(0, CHUNK)
        if not data:
            self.reads_stdin = False
            self._send(b"c")
            return
        passed, left = self.keys.feed(data)
        if passed:
            self.may_send = False
            self._send(b"i" + passed)
        if left:
            self._send(b"d")
            self.exit_code = 0
            self.has_left = True

    def _send(self, message: bytes) -> None:
        try:
            self.socket.send(message)
        except (BrokenPipeError, ConnectionResetError):
            self.reads_stdin = False  # the monitor has ended; its last messages say how

    def _catch_signals(self) -> None:
        def forward(number: int, frame: Any) -> None:
            if number == _signal.SIGINT:
                self.interrupts += 1
                if self.interrupts >= _INTERRUPTS:
                    raise KeyboardInterrupt  # poll would go on waiting after a handler that returns
            self._send(b"s" + bytes([number]))

        if self.proxy:
            catch_signals(forward)
        if self.tty:
            _signal.signal(_signal.SIGWINCH, lambda number, frame: self._send_size())

    def _send_size(self) -> None:
        size = window_size()
        if size:
            self._send(b"w" + struct.pack("HH", *size))


class KeySequence:
    """Finds the detach keys in what is typed. Keys that may be the beginning of the sequence are held back until it is decided."""

    __slots__ = ("held", "keys")

    def __init__(self, keys: bytes) -> None:
        self.keys = keys
        self.held = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """(what to pass on, whether the sequence is complete)."""
        if not self.keys:
            return data, False
        data = self.held + data
        at = data.find(self.keys)
        if at >= 0:
            self.held = b""
            return data[:at], True
        for length in range(min(len(self.keys) - 1, len(data)), 0, -1):
            if data.endswith(self.keys[:length]):
                self.held = data[-length:]
                return data[:-length], False
        self.held = b""
        return data, False
