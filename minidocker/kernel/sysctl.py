"""Kernel settings under /proc/sys (proc(5)). Names are written with slashes, as sysctl(8) also takes them: an interface's name may
hold dots (`eth0.100`). Those of net, ipc and uts are the settings of the namespaces of whoever opens them."""

from __future__ import annotations

import os

from minidocker.errors import KernelError
from minidocker.kernel import libc, procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_CLONE_NEWNET = 0x40000000

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
        fd = procfs.open_to_write(f"/proc/sys/{name}")
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise KernelError.of(f"set `{name}` to {value}", error) from error


def write_in(netns: int, values: Iterable[tuple[str, str]]) -> None:
    """Set each (name, value) of net/ in the network namespace behind descriptor `netns`: those of whoever opens them (net/net_sysctl in
    the kernel), so the thread goes there and comes back. Raises KernelError."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc.setns(netns, _CLONE_NEWNET)
        try:
            for name, value in values:
                write(name, value)
        finally:
            libc.go_home(home, _CLONE_NEWNET)
    finally:
        os.close(home)
