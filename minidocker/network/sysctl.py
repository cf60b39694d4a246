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
    """Set `name` to `value`, of a link that is ours and takes the setting with it. `optional`: a kernel without it needs it not."""

    title = NETWORK

    def __init__(self, name: str, value: str, why: str, optional: bool = False) -> None:
        self.name = name
        self.value = value
        self.why = why
        self.optional = optional

    def shell(self) -> str:
        return f"sysctl -q -w {self.name}={self.value}"

    def apply(self, at: At) -> None:
        if not self.optional or os.path.exists(f"/proc/sys/{self.name}"):
            write(self.name, self.value)
