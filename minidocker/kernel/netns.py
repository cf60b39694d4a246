"""Going into another network namespace for a moment, to open a socket there or run a program. Cold."""

from __future__ import annotations

import os

from minidocker.kernel import libc, namespaces


class Visit:
    """The calling thread in another network namespace for the length of a `with` (None: where it is). The process must have no other
    thread that minds."""

    __slots__ = ("_home", "_netns")

    def __init__(self, netns: int | None) -> None:
        self._netns = netns

    def __enter__(self) -> None:
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        if self._netns is not None:
            namespaces.setns(self._netns, namespaces.NEWNET)

    def __exit__(self, *_: object) -> None:
        libc.go_home(self._home, namespaces.NEWNET)
        os.close(self._home)
