"""A network's DNS before anybody has asked it: its sockets are bound and nobody listens, until the first question starts the server.

    monitor of the network's first container: binds, holds the lock ──first question──► server: has the sockets and the lock
                                              └─ ends, others are there ────────────────┘
                                              └─ ends, nobody is there ─► closed

So a network whose containers ask nothing costs no process, and a container that lives for a moment no time. This module is part of
a detached monitor and stays as light as that is.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


class Activation:
    """`udp` and `tcp` the descriptors of the bound sockets, `lock` that of the file whose lock says that they are held; `argv` the server;
    `hosts` the network's hosts file, and `own` the short id of the container whose monitor this is."""

    __slots__ = ("argv", "hosts", "lock", "own", "tcp", "udp")

    def __init__(self, udp: int, tcp: int, lock: int, hosts: str, own: str, argv: list[str]) -> None:
        self.udp = udp
        self.tcp = tcp
        self.lock = lock
        self.hosts = hosts
        self.own = own
        self.argv = argv

    def wake(self) -> None:
        """Start the server, and leave the sockets and the lock to it."""
        spawn(self.argv, (self.udp, self.tcp, self.lock))
        self.close()

    def leave(self) -> None:
        """This monitor's container has ended: whoever is left in the network will be answered."""
        if others(self.hosts, self.own):
            self.wake()
        else:
            self.close()

    def close(self) -> None:
        for descriptor in (self.udp, self.tcp, self.lock):
            os.close(descriptor)

    def packed(self) -> list[str]:
        """As words of a command line, its descriptors inheritable; `unpacked` reads them."""
        for descriptor in (self.udp, self.tcp, self.lock):
            os.set_inheritable(descriptor, True)
        return [str(self.udp), str(self.tcp), str(self.lock), self.hosts, self.own, str(len(self.argv)), *self.argv]


def unpacked(words: list[str]) -> tuple[list[Activation], list[str]]:
    """(the activations, what follows them) of a count and so many packed ones."""
    count, words = int(words[0]), words[1:]
    found = []
    for _ in range(count):
        end = 6 + int(words[5])
        found.append(Activation(int(words[0]), int(words[1]), int(words[2]), words[3], words[4], words[6:end]))
        words = words[end:]
    return found, words


def others(hosts: str, own: str) -> bool:
    """Whether a hosts file has another container's line than that of the one with the short id `own` (network/names.py)."""
    try:
        with open(hosts, "rb", buffering=0) as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return False
    ours = own.encode()
    return any(line[:1] != b"#" and len(words := line.split()) > 2 and words[-1] != ours for line in lines)


def spawn(argv: list[str], kept: tuple[int, ...], environment: dict[str, str] | None = None) -> None:
    """Start `argv` as nobody's child, with the descriptors `kept` and no others, and no environment but what is given."""
    pid = os.fork()
    if pid == 0:
        _exec_apart(argv, kept, environment or {})
    os.waitpid(pid, 0)


def _exec_apart(argv: list[str], kept: tuple[int, ...], environment: dict[str, str]) -> NoReturn:
    try:
        if os.fork():
            os._exit(0)
        os.setsid()
        os.chdir("/")
        null = os.open("/dev/null", os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        for descriptor in map(int, os.listdir("/proc/self/fd")):
            if descriptor in kept:
                os.set_inheritable(descriptor, True)
            elif descriptor > 2:
                _close(descriptor)
        os.execve(argv[0], argv, environment)
    finally:
        os._exit(127)


def _close(descriptor: int) -> None:
    try:
        os.close(descriptor)
    except OSError:  # the one by which the list was read
        return
