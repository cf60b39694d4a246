"""Kernel settings under /proc/sys as steps. Names are written with slashes, as sysctl(8) also takes them: an interface's name
may hold dots (`eth0.100`)."""

from __future__ import annotations

import os

from minidocker.errors import KernelError
from minidocker.plan import NETWORK, At, Step

FORWARDING_OF_ALL = "net/ipv4/conf/all/forwarding"


def forwarding(interface: str) -> str:
    """The setting that lets packets that came in by `interface` be forwarded."""
    return f"net/ipv4/conf/{interface}/forwarding"


def read(name: str) -> str | None:
    """The setting's value, None where the kernel has no such setting (or the interface is gone)."""
    try:
        fd = os.open(f"/proc/sys/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KernelError.of(f"read setting `{name}`", error) from error
    try:
        return os.read(fd, 4096).decode().strip()
    finally:
        os.close(fd)


def write(name: str, value: str) -> None:
    """Set it. Raises KernelError."""
    try:
        fd = os.open(f"/proc/sys/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise KernelError.of(f"set `{name}` to {value}", error) from error


class Set(Step):
    """Set `name` to `value`; undone by writing `before`, where that is given. `optional`: a kernel without it needs it not."""

    title = NETWORK

    def __init__(self, name: str, value: str, why: str, before: str = "", optional: bool = False) -> None:
        self.name = name
        self.value = value
        self.why = why
        self.before = before
        self.optional = optional

    def shell(self) -> str:
        return f"sysctl -q -w {self.name}={self.value}"

    def apply(self, at: At) -> None:
        if not self.optional or os.path.exists(f"/proc/sys/{self.name}"):
            write(self.name, self.value)

    def undo(self, at: At) -> None:
        if self.before:
            restore(self.name, self.before)


class Restore(Step):
    """Give a setting its recorded value back."""

    title = NETWORK

    def __init__(self, name: str, value: str) -> None:
        self.name = name
        self.value = value
        self.why = "as it was before the first network"

    def shell(self) -> str:
        return f"sysctl -q -w {self.name}={self.value}"

    def apply(self, at: At) -> None:
        restore(self.name, self.value)


def restore(name: str, value: str) -> None:
    """Write `value` back, unless the interface is gone, or somebody has switched forwarding on for the whole host since: then
    it is theirs, and ours to leave on."""
    if read(name) is None or (name.endswith("/forwarding") and read(FORWARDING_OF_ALL) == "1"):
        return
    write(name, value)
