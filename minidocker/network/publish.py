"""Published ports: what they are in nftables, whether two of them meet, and who on the host has one already."""

from __future__ import annotations

import errno
import os
from _socket import AF_INET, IPPROTO_SCTP, SO_REUSEADDR, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_STREAM, SOL_SOCKET, inet_aton, socket

from minidocker.errors import ConflictError, KernelError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from minidocker.spec.records import Port

_ANY = ("", "0.0.0.0")
_PROC_STATE = {"tcp": "0A", "udp": "07"}  # TCP_LISTEN; an unconnected UDP socket (proc_net_tcp, net/tcp_states.h)


def elements(ports: Iterable[Port], ip: str) -> list[str]:
    """`SET { ELEMENT }` for each port of the container that has `ip`: exact matches, so that the thousandth costs as the first."""
    return [_element(port, ip) for port in ports]


def _element(port: Port, ip: str) -> str:
    key = f"{port.protocol} . {port.host_port}"
    target = f"{ip} . {port.container_port}"
    return f"ports {{ {key} : {target} }}" if port.host_ip in _ANY else f"ports_at {{ {port.host_ip} . {key} : {target} }}"


def reaches_loopback(port: Port) -> bool:
    """Whether the host's 127.0.0.0/8 is among the addresses it is published on."""
    return port.host_ip in _ANY or port.host_ip.startswith("127.")


def conflict(wanted: Iterable[Port], held: Iterable[tuple[Port, str]]) -> tuple[Port, Port, str] | None:
    """The first of `wanted` that meets one of `held` (port, owner) or an earlier one of its own (owner ""), as
    (wanted, other, owner). A port published on every address meets one on any single address."""
    seen: dict[tuple[str, int], list[tuple[Port, str]]] = {}
    for port, owner in held:
        seen.setdefault((port.protocol, port.host_port), []).append((port, owner))
    for port in wanted:
        others = seen.setdefault((port.protocol, port.host_port), [])
        for other, owner in others:
            if port.host_ip in _ANY or other.host_ip in _ANY or port.host_ip == other.host_ip:
                return port, other, owner
        others.append((port, ""))
    return None


def check_unheld(ports: Sequence[Port]) -> None:
    """Raise for the first port that a process of the host has bound (ConflictError, naming it), or whose address the host does
    not have (UsageError). Costs a bind and a close a port; only where that fails is /proc read."""
    for port in ports:
        try:
            _try_to_bind(port)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise UsageError(f"publish {port}: this host has no address `{port.host_ip}`",
                                 "see them with: ip -br -4 address") from error
            if error.errno != errno.EADDRINUSE:
                raise KernelError.of(f"publish {port}", error) from error
            owner = holder(port)
            if owner:
                raise ConflictError(f"publish {port}: the port is in use by {owner}", "stop it, or publish on another port") from error


def _try_to_bind(port: Port) -> None:
    kind, protocol = {"tcp": (SOCK_STREAM, 0), "udp": (SOCK_DGRAM, 0), "sctp": (SOCK_STREAM, IPPROTO_SCTP)}[port.protocol]
    try:
        probe = socket(AF_INET, kind | SOCK_CLOEXEC, protocol)
    except OSError as error:
        if error.errno in (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT):
            return  # a kernel without SCTP: nobody can have the port
        raise
    try:
        if port.protocol != "udp":  # so that connections in TIME_WAIT do not count; for UDP it would hide those who set it too
            probe.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        probe.bind((port.host_ip or "0.0.0.0", port.host_port))
    finally:
        probe.close()


def holder(port: Port) -> str:
    """The host's process that listens where `port` would be published: ``process 812 (nginx)``; "" when nobody listens (what is
    bound there is the near end of a connection, which a publication leaves alone). Reads /proc."""
    inodes = _listeners(port)
    if not inodes:
        return ""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                if os.readlink(f"/proc/{pid}/fd/{fd}") in inodes:
                    return f"process {pid} ({_command(pid)})"
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended, or closed that descriptor, while we looked
    return "a process that is hidden from here (another PID namespace, or the kernel's own)"


def _listeners(port: Port) -> set[str]:
    """The sockets bound where `port` would be, as links in /proc/PID/fd read."""
    if port.protocol not in _PROC_STATE:
        return set()
    found = set()
    for family in ("", "6"):
        for line in _lines(f"/proc/self/net/{port.protocol}{family}"):
            words = line.split()
            address, number = words[1].split(":")
            if int(number, 16) == port.host_port and words[3] == _PROC_STATE[port.protocol] and _meets(address, port.host_ip):
                found.add(f"socket:[{words[9]}]")
    return found


def _meets(address: str, host_ip: str) -> bool:
    """Whether a socket's address (hexadecimal words in the machine's byte order) is `host_ip`, or either is every address."""
    if host_ip in _ANY or not address.strip("0"):
        return True
    mapped = len(address) == 32 and address[:24] == _native(bytes(10) + b"\xff\xff")
    return (len(address) == 8 or mapped) and address[-8:] == _native(inet_aton(host_ip))


def _native(data: bytes) -> str:
    """Bytes in network order as /proc/net prints them: 32-bit words in the machine's order."""
    import sys

    return "".join(f"{int.from_bytes(data[i : i + 4], sys.byteorder):08X}" for i in range(0, len(data), 4))


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii") as file:
            return file.readlines()[1:]
    except FileNotFoundError:
        return []  # a kernel without IPv6


def _command(pid: str) -> str:
    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
        return file.read().strip()
