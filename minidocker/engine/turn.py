"""One command at a time changes a running container, and it does not end meanwhile: who ends it waits for the same lock (teardown.py)."""

from __future__ import annotations

import os
import time

from minidocker.engine.host import Host, pass_on_lock
from minidocker.errors import StateError
from minidocker.storage.containers import Record

_PATIENCE, _PAUSE = 10.0, 0.01  # seconds that another command may take, and between two looks at it


class Turn:
    """`with Turn(host, record):`. Raises StateError where the container has just ended, or another command takes too long."""

    __slots__ = ("_descriptor", "_name", "_path")

    def __init__(self, host: Host, record: Record) -> None:
        self._path = host.moving(record.id)
        self._name = record.name

    def __enter__(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                self._descriptor = pass_on_lock(self._path)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StateError(f"another command is at work on container `{self._name}`", "try again") from None
                time.sleep(_PAUSE)
            except FileNotFoundError:
                raise StateError(f"container `{self._name}` has just ended") from None

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
