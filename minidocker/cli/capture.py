"""`network capture`: packets as lines, or as a pcapng file."""

from __future__ import annotations

import os
import time

from minidocker import __version__
from minidocker.cli import output
from minidocker.errors import KernelError, UsageError
from minidocker.spec import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minidocker.cli.call import Call
    from minidocker.engine.capture import Session
    from minidocker.network.capture import Seen


def capture(call: Call) -> int:
    """`network capture`: until Ctrl-C, so many packets, or the container's end."""
    count = call.text("count")
    most = parse.number(count) if count is not None else 0
    if most is None or (count is not None and most < 1):
        raise parse.refused("--count", count or "", "a number of packets from 1 on")
    path = call.text("write")
    if path == "-" and os.isatty(output.STDOUT):
        raise UsageError("a capture is nothing for a terminal", "-w FILE.pcapng writes it to a file")
    host = call.host()
    from minidocker.engine.capture import Session

    stop = _on_interrupt()
    session = Session(host, call.arguments[0], call.text("interface") or "", call.arguments[1:])
    seen = 0
    try:
        writer = Writer(path, call.arguments) if path is not None else None
        for one in session.packets(most, stop):
            seen += 1
            if writer is None:
                output.say(_line(one))
            else:
                writer.write(one, session)
    finally:
        if seen or path is not None:
            _tell(seen, session.capture.lost())
        session.close()
    return 0


def _on_interrupt() -> int:
    """A descriptor that can be read from once somebody has pressed Ctrl-C: what had come until then is shown before it ends. Pressed again
    it ends at once."""
    import signal

    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def stop(number: int, _: object) -> None:
        os.write(writing, b".")
        signal.signal(number, signal.default_int_handler)

    signal.signal(signal.SIGINT, stop)
    return reading


def _tell(seen: int, lost: int) -> None:
    text = f"{seen} packet{'s' * (seen != 1)}"
    output.notice(text + (f"; the kernel could not keep {lost} more" if lost else ""))


def _line(one: Seen) -> str:
    from minidocker.network import capture_text

    seconds, rest = divmod(one.time, 10**9)
    clock = time.strftime("%H:%M:%S", time.localtime(seconds))
    return output.printable(f"{clock}.{rest // 1000:06d} {one.interface} {'→' if one.outbound else '←'} {capture_text.line(one.packet)}")


class Writer:
    """A file that is whole after each packet: who kills us finds what was seen until then."""

    def __init__(self, path: str, arguments: list[str]) -> None:
        from minidocker.network import capture_file

        self.file = capture_file
        self.numbers: dict[tuple[str, int], int] = {}
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            self.descriptor = output.STDOUT if path == "-" else os.open(path, flags, 0o600)  # packets are nobody else's to read
        except OSError as error:
            raise KernelError.of(f"write {path}", error) from error
        output.write(self.descriptor, capture_file.section(f"minidocker {__version__}", f"network capture {' '.join(arguments)}"))

    def write(self, one: Seen, session: Session) -> None:
        """One packet, and before the first of an interface what that is."""
        data = b""
        key = one.interface, one.link
        who = session.who.get(one.interface, "")
        if key not in self.numbers:
            self.numbers[key] = len(self.numbers)
            data = self.file.interface(one.interface, who, one.link)
        sender = f"{'to' if one.outbound else 'from'} {who}" if who else ""
        output.write(self.descriptor, data + self.file.packet(self.numbers[key], one.time, one.data, one.length, one.direction, sender))
