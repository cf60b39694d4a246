"""What is printed and how: bytes out whole, messages in one line."""

from __future__ import annotations

import os

from minidocker.errors import KernelError, MinidockerError

STDOUT, STDERR = 1, 2


def write(descriptor: int, data: bytes) -> None:
    """Write all of `data`, waiting when the other end is slow. BrokenPipeError passes; other failures are a KernelError."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:  # somebody made our stdout non-blocking
            import select

            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            poll.poll()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise KernelError.of("write to " + {STDOUT: "stdout", STDERR: "stderr"}.get(descriptor, str(descriptor)), error) from error


def say(text: str) -> None:
    """One line, or several, on stdout; a newline is added."""
    write(STDOUT, (text + "\n").encode("utf-8", "surrogateescape"))


def say_text(text: str) -> None:
    """Text that ends its own lines, on stdout."""
    write(STDOUT, text.encode("utf-8", "surrogateescape"))


def explain(text: str) -> None:
    """What --explain shows, on stderr."""
    write(STDERR, (text if text.endswith("\n") else text + "\n").encode("utf-8", "surrogateescape"))


def notice(text: str) -> None:
    """Something the user should know though nothing failed."""
    complain(f"minidocker: {printable(text)}\n")


def report(error: MinidockerError) -> None:
    """An error as one line on stderr, and one for its hint."""
    complain(f"minidocker: {printable(error.message)}\n" + (f"  hint: {printable(error.hint)}\n" if error.hint else ""))


def internal(error: BaseException) -> None:
    """An error that is nobody's but ours."""
    complain(f"minidocker: internal error: {type(error).__name__}: {printable(str(error))} (run with --debug for the traceback)\n")


def printable(text: str) -> str:
    """`text` in one line that cannot move the cursor: what is not printable stands as its escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def complain(text: str) -> None:
    try:
        write(STDERR, text.encode("utf-8", "surrogateescape"))
    except (OSError, MinidockerError):
        pass  # with stderr gone there is nobody left to tell
