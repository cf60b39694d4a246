"""The caller's side of a program in the foreground: its terminal, and the signals that are passed on."""

from __future__ import annotations

import _signal
import _struct as struct
import fcntl
import os
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_TIOCGWINSZ = 0x5413
_TIOCSWINSZ = 0x5414
_signalled = -1  # where each signal leaves a byte, once `catch_signals` was called
FORWARDED_SIGNALS = (
    _signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM, _signal.SIGUSR1, _signal.SIGUSR2, _signal.SIGALRM, _signal.SIGCONT,
)  # fmt: skip


def hold_signals() -> None:
    """Have the signals that are forwarded wait until there is somebody to forward them to: `catch_signals`."""
    _signal.pthread_sigmask(_signal.SIG_BLOCK, FORWARDED_SIGNALS)


def catch_signals(handler: Callable[[int, Any], None]) -> None:
    """Have `handler` called for every signal that is forwarded; SIGHUP is none of them under nohup(1). Those that were held come now.

    Whoever waits for descriptors from here on does so by `wait`."""
    global _signalled
    if _signalled < 0:
        _signalled, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        _signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in FORWARDED_SIGNALS:
        if number != _signal.SIGHUP or _signal.getsignal(number) != _signal.SIG_IGN:
            _signal.signal(number, handler)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, FORWARDED_SIGNALS)


def wait(*descriptors: int, writing: tuple[int, ...] = ()) -> set[int]:
    """Those of `descriptors` that can be read or have come to their end, and of `writing` that take more; none when it was a signal that
    ended the waiting.

    A signal that arrives just before poll(2) would interrupt nothing, and its handler, which is called between two steps of the
    interpreter, would wait until something else happens: so each leaves a byte in a pipe (signal(3py), set_wakeup_fd)."""
    poll = select.poll()
    for descriptor in (*descriptors, *([_signalled] if _signalled >= 0 else [])):
        poll.register(descriptor, select.POLLIN)
    for descriptor in writing:
        poll.register(descriptor, select.POLLOUT)
    ready = {descriptor for descriptor, _ in poll.poll()}
    if _signalled in ready:
        os.read(_signalled, 4096)
        ready.remove(_signalled)
    return ready


def raw_terminal() -> Callable[[], None] | None:
    """Put the user's terminal into raw mode (cfmakeraw(3)); returns what puts it back, None when there is no terminal.

    Only for a user whose keys are passed on: Ctrl-C must stop whatever does not get it as a key.
    """
    import termios  # a terminal's only

    if not os.isatty(0):
        return None
    before = termios.tcgetattr(0)
    raw = termios.tcgetattr(0)
    raw[0] &= ~(termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP)
    raw[0] &= ~(termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON)
    raw[1] &= ~termios.OPOST
    raw[2] = raw[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    raw[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    termios.tcsetattr(0, termios.TCSADRAIN, raw)
    return lambda: termios.tcsetattr(0, termios.TCSADRAIN, before)


def window_size() -> tuple[int, int] | None:
    """(rows, columns) of the user's terminal, None when there is none."""
    try:
        rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(0, _TIOCGWINSZ, b"\0" * 8))
    except OSError:
        return None
    return rows, columns


def set_window_size(terminal: int, rows: int, columns: int) -> None:
    """TIOCSWINSZ, ioctl_tty(2)."""
    fcntl.ioctl(terminal, _TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
