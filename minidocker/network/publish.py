"""Published ports: what they are in nftables, whether two of them meet, and who on the host has one already."""

from __future__ import annotations

import errno
import os
from _socket import (
    AF_INET,
    AF_INET6,
    IPPROTO_IPV6,
    IPPROTO_SCTP,
    IPV6_V6ONLY,
    SO_REUSEADDR,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_STREAM,
    SOL_SOCKET,
    inet_pton,
    socket,
)

from minidocker.errors import ConflictError, KernelError, UsageError
from minidocker.kernel import nfset
from minidocker.kernel.nfset import Element
from minidocker.spec.records import ANY, ANY4, ANY6, Port

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from minidocker.spec.records import Endpoint

_EVERY = (ANY, ANY4, ANY6)
LISTED = {"tcp": "0A", "udp": "07"}  # TCP_LISTEN; an unconnected UDP socket (proc_net_tcp, net/tcp_states.h)


def elements(endpoint: Endpoint) -> list[Element]:
    """An element for each port and family of the container: exact matches, so that the thousandth costs as the first."""
    found = []
    for port in endpoint.ports:
        if port.is_ipv4:
            found.append(_element(port, "", nfset.ipv4, endpoint.ip))
        if port.is_ipv6 and endpoint.ip6:
            found.append(_element(port, "6", nfset.ipv6, endpoint.ip6))
    return found


def _element(port: Port, family: str, address: Callable[[str], nfset.Field], ip: str) -> Element:
    key = (nfset.proto(port.protocol), nfset.port(port.host_port))
    target = (address(ip), nfset.port(port.container_port))
    if port.host_ip in _EVERY:
        return Element(f"ports{family}", key, target)
    return Element(f"ports{family}_at", (address(port.host_ip), *key), target)


def reaches_loopback(port: Port) -> bool:
    """Whether the host's 127.0.0.0/8 is among the addresses it is published on."""
    return port.host_ip in (ANY, ANY4) or port.host_ip.startswith("127.")


def meet(one: str, other: str) -> bool:
    """Whether two ports' addresses have one in common."""
    if ANY in (one, other) or one == other:
        return True
    return (":" in one) == (":" in other) and (one in _EVERY or other in _EVERY)


def conflict(wanted: Iterable[Port], held: Iterable[tuple[Port, str]]) -> tuple[Port, Port, str] | None:
    """The first of `wanted` that meets one of `held` (port, owner) or an earlier one of its own (owner ""), as
    (wanted, other, owner). A port published on every address meets one on any single address."""
    seen: dict[tuple[str, int], list[tuple[Port, str]]] = {}
    for port, owner in held:
        seen.setdefault((port.protocol, port.host_port), []).append((port, owner))
    for port in wanted:
        others = seen.setdefault((port.protocol, port.host_port), [])
        for other, owner in others:
            if meet(port.host_ip, other.host_ip):
                return port, other, owner
        others.append((port, ""))
    return None


def check_unheld(ports: Sequence[Port], ipv6: bool = False, but: Collection[str] = ()) -> None:
    """Raise for the first port that a process of the host has bound (ConflictError, naming it), or whose address the host does
    not have (UsageError); `ipv6` says whether a port of every address is one of the IPv6 ones, too; `but` are addresses of our own,
    where somebody of ours listens in spite of it. Costs a bind and a close a port; only where that fails is /proc read."""
    for port in ports:
        try:
            for address in _addresses(port, ipv6):
                _try_to_bind(port, address)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                family = "-6" if ":" in port.host_ip else "-4"
                raise UsageError(f"publish {port}: this host has no address `{port.host_ip}`",
                                 f"see them with: ip -br {family} address") from error
            if error.errno != errno.EADDRINUSE:
                raise KernelError.of(f"publish {port}", error) from error
            owner = holder(port, but)
            if owner:
                raise ConflictError(f"publish {port}: the port is in use by {owner}", "stop it, or publish on another port") from error


def _addresses(port: Port, ipv6: bool) -> list[str]:
    if port.host_ip != ANY:
        return [port.host_ip]
    return [ANY4, ANY6] if ipv6 else [ANY4]


def _try_to_bind(port: Port, address: str) -> None:
    kind, protocol = {"tcp": (SOCK_STREAM, 0), "udp": (SOCK_DGRAM, 0), "sctp": (SOCK_STREAM, IPPROTO_SCTP)}[port.protocol]
    is_ipv6 = ":" in address
    try:
        probe = socket(AF_INET6 if is_ipv6 else AF_INET, kind | SOCK_CLOEXEC, protocol)
    except OSError as error:
        if error.errno in (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT, errno.EAFNOSUPPORT):
            return  # a kernel without SCTP, or without IPv6: nobody can have the port
        raise
    try:
        if is_ipv6:
            probe.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 1)
        if port.protocol != "udp":  # so that connections in TIME_WAIT do not count; for UDP it would hide those who set it too
            probe.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        probe.bind((address, port.host_port))
    finally:
        probe.close()


def holder(port: Port, but: Collection[str] = ()) -> str:
    """The host's process that listens where `port` would be published: ``process 812 (nginx)``; "" when nobody listens (what is
    bound there is the near end of a connection, which a publication leaves alone). Reads /proc."""
    inodes = _listeners(port, {_native(inet_pton(AF_INET, address)) for address in but})
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


def _listeners(port: Port, but: set[str]) -> set[str]:
    """The sockets bound where `port` would be, as links in /proc/PID/fd read, but for those at these addresses."""
    return {f"socket:[{inode}]" for address, number, inode in listening(port.protocol)
            if number == port.host_port and address not in but and _meets(address, port.host_ip)}  # fmt: skip


def listening(protocol: str, pid: int = 0) -> Iterator[tuple[str, int, str]]:
    """(address, port, inode) of the sockets that listen in the network namespace of process `pid` (0: ours), none where the protocol is not
    LISTED. The address is as /proc/net has it, see `_native`."""
    for family in ("", "6") if protocol in LISTED else ():
        for line in _lines(f"/proc/{pid or 'self'}/net/{protocol}{family}"):
            words = line.split()
            address, number = words[1].split(":")
            if words[3] == LISTED[protocol]:
                yield address, int(number, 16), words[9]


def is_loopback(address: str) -> bool:
    """Whether an address of `listening` is 127.0.0.1 or ::1."""
    return address in (_native(inet_pton(AF_INET, "127.0.0.1")), _native(inet_pton(AF_INET6, "::1")))


def _meets(address: str, host_ip: str) -> bool:
    """Whether a socket's address (hexadecimal words in the machine's byte order) is `host_ip`, or either is every address. (An IPv6
    socket of every address may be one of IPv4, too: whether it is, the bind has shown.)"""
    if host_ip in _EVERY or not address.strip("0"):
        return True
    if ":" in host_ip:
        return address == _native(inet_pton(AF_INET6, host_ip))
    mapped = len(address) == 32 and address[:24] == _native(bytes(10) + b"\xff\xff")
    return (len(address) == 8 or mapped) and address[-8:] == _native(inet_pton(AF_INET, host_ip))


def _native(data: bytes) -> str:
    """Bytes in network order as /proc/net prints them: 32-bit words in the machine's order."""
    import sys

    return "".join(f"{int.from_bytes(data[i : i + 4], sys.byteorder):08X}" for i in range(0, len(data), 4))


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii") as file:
            return file.readlines()[1:]
    except (FileNotFoundError, ProcessLookupError):
        return []  # a kernel without IPv6, or it has just ended


def _command(pid: str) -> str:
    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
        return file.read().strip()
