"""A console socket, as an engine listens on it, and the terminal whose master comes over it."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class Master:
    """The engine's end of a container's terminal."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def read(self, until: bytes, seconds: float = 20) -> bytes:
        """All that is shown up to and with `until`."""
        shown = b""
        deadline = time.monotonic() + seconds
        while until not in shown:
            ready, _, _ = select.select([self.descriptor], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{until!r} was not shown, but {shown!r}"
            shown += os.read(self.descriptor, 4096)
        return shown


@contextmanager
def console(directory: Path) -> Iterator[tuple[Path, Callable[[], Master]]]:
    """A socket's path, and what waits for the descriptor that is sent there: exactly one, of a terminal's master."""
    path = directory / "console"
    opened: list[int] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        here = os.getcwd()
        os.chdir(directory)  # a path of more than 108 bytes can only be bound relatively
        try:
            listener.bind("console")
        finally:
            os.chdir(here)
        listener.listen(1)
        listener.settimeout(20)

        def master() -> Master:
            connection, _ = listener.accept()
            with connection:
                _, descriptors, _, _ = socket.recv_fds(connection, 4096, 4)
            opened.extend(descriptors)
            assert len(descriptors) == 1 and os.isatty(descriptors[0])
            return Master(descriptors[0])

        try:
            yield path, master
        finally:
            for descriptor in opened:
                os.close(descriptor)
