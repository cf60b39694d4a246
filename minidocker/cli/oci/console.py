"""Terminals: the master handed to an engine (--console-socket), or carried between the caller's terminal and the container's."""

from __future__ import annotations

import _signal
import _socket
import _struct as struct
import os

from minidocker.cli import output
from minidocker.errors import KernelError, UsageError
from minidocker.kernel import process as kernel
from minidocker.kernel import terminal as user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minidocker.cli.oci.parse import Call

_CHUNK = 1 << 16


class Socket:
    """The socket of --console-socket; `path` "" is none."""

    def __init__(self, path: str) -> None:
        self.path = path

    @classmethod
    def of(cls, call: Call, terminal: bool, detached: bool) -> Socket:
        """UsageError where the option and the process' `terminal` do not go together."""
        path = call.text("console_socket")
        if path and not terminal:
            raise UsageError("--console-socket without a terminal: process.terminal is false")
        if path and not detached:
            raise UsageError("--console-socket without --detach")
        if terminal and detached and not path:
            raise UsageError("process.terminal is true, and nobody is left to have the terminal", "--console-socket PATH")
        if path and not os.path.exists(path):
            raise UsageError(f"--console-socket {path}: there is no such socket")
        return cls(path)

    def send(self, master: int) -> None:
        """Hand the terminal's master over by SCM_RIGHTS (unix(7)); nothing where there is no socket. KernelError."""
        if not self.path:
            return
        socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        held = -1
        try:
            held = os.open(self.path, os.O_PATH | os.O_CLOEXEC)  # its path may be longer than an address can be
            socket.connect(f"/proc/self/fd/{held}")
            socket.sendmsg([b"/dev/ptmx"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", master))])
        except OSError as error:
            raise KernelError.of(f"hand the terminal to `{self.path}`", error) from error
        finally:
            socket.close()
            if held >= 0:
                os.close(held)


def carry(pid: int, pidfd: int, terminal: int) -> int:
    """Stay with our child until it ends, passing signals to it and, with a `terminal`, bytes; returns its exit code, 128+N for signal N."""
    def forward(number: int, frame: Any) -> None:
        try:
            kernel.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            return

    user.catch_signals(forward)
    if terminal < 0:
        while pidfd not in user.wait(pidfd):
            pass
        return _wait(pid)
    _resize(terminal)
    _signal.signal(_signal.SIGWINCH, lambda number, frame: _resize(terminal))
    restore = user.raw_terminal()
    try:
        _relay(terminal, pidfd)
    finally:
        if restore:
            restore()
    return _wait(pid)


def _wait(pid: int) -> int:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code if code >= 0 else 128 - code


def _relay(terminal: int, pidfd: int) -> None:
    """Carry bytes until the process has ended and what it wrote is shown."""
    reads_stdin = True
    while True:
        ready = user.wait(terminal, pidfd, *([0] if reads_stdin else []))
        if terminal in ready and _show(terminal, pidfd):
            continue
        if pidfd in ready:
            return
        if 0 in ready:
            data = os.read(0, _CHUNK)
            reads_stdin = bool(data)
            output.write(terminal, data or b"\4")  # the end of what is typed is a key, too


def _show(terminal: int, pidfd: int) -> bool:
    """Whether there was something to show. EIO: no process has the terminal open (any more)."""
    try:
        data = os.read(terminal, _CHUNK)
    except OSError:
        kernel.pidfd_ended(pidfd, 0.02)
        return False
    output.write(output.STDOUT, data)
    return bool(data)


def _resize(terminal: int) -> None:
    size = user.window_size()
    if size:
        user.set_window_size(terminal, *size)
