"""One real packet, sent by an ordinary socket of a network namespace, and what came of it; or put in as if it had come in by a link.

    Probe     TCP's first segment, a UDP datagram or an ICMP echo request; ICMP errors are read from the socket (ip(7), IP_RECVERR)
    Arrival   the same as a frame that a link seems to have received: by a cable of our own whose far end leads every frame there

The cable of an Arrival hangs in a namespace that nothing but a descriptor of this process holds: it goes with the process, however that
ends. What leads there is three instructions (bpf_redirect with BPF_F_INGRESS at the tcx hook: Linux 6.6, bpf-helpers(7)).
"""

from __future__ import annotations

import errno
import os
from _socket import (
    AF_INET,
    AF_INET6,
    AF_PACKET,
    IPPROTO_IP,
    IPPROTO_IPV6,
    MSG_DONTWAIT,
    SO_ERROR,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_RAW,
    SOCK_STREAM,
    SOL_SOCKET,
    inet_ntop,
    socket,
)
from _struct import Struct

from minidocker.errors import KernelError, UnsupportedError
from minidocker.kernel import foreign as ctypes
from minidocker.kernel import libc, namespaces, netns, packet
from minidocker.kernel.netlink import Socket
from minidocker.kernel.packet import ICMP6, TCP, UDP
from minidocker.kernel.rtnetlink import Link, link_get, link_set, veth_create

ANSWERED, REFUSED, FAILED, SILENT = "answered", "refused", "failed", "silent"
_MSG_ERRQUEUE, _SO_LINGER = 0x2000, 13
_IP_RECVERR, _IP_MTU_DISCOVER, _IP_PMTUDISC_PROBE = 11, 10, 3
_IPV6_RECVERR, _IPV6_MTU_DISCOVER = 25, 23
_EXTENDED_ERROR = Struct("=IBBBBII")  # struct sock_extended_err: errno, origin, type, code, -, info, data; the offender's address follows
_OFFENDER = {2: (AF_INET, 4, 4), 10: (AF_INET6, 8, 16)}  # family: where in its sockaddr the address is
_ICMP_ORIGINS = (2, 3)
_EMPTY = 28  # of an IPv4 packet around a datagram or an echo request without payload; 20 more for IPv6


class Outcome:
    """`kind` ANSWERED, REFUSED (a reset, or ICMP's port unreachable), FAILED (`errno`; `offender` who said so by ICMP, "" where the kernel
    itself did, with `icmp` type and code) or SILENT."""

    __slots__ = ("errno", "icmp", "kind", "offender")

    def __init__(self, kind: str, number: int = 0, offender: str = "", icmp: tuple[int, int] = (0, 0)) -> None:
        self.kind = kind
        self.errno = number
        self.offender = offender
        self.icmp = icmp


class Probe:
    """A probe of `protocol` (packet.TCP, UDP, ICMP, ICMP6) from `source` to `destination`, whose socket is in the namespace behind `where`.
    `port` is the source port, or the echo's identifier: known before anything is sent. `size` bytes of the whole packet, that no router
    may cut (0: as small as it gets)."""

    def __init__(self, where: int, protocol: int, source: str, destination: str, destination_port: int, size: int = 0) -> None:
        self.protocol, self.destination, self.destination_port = protocol, destination, destination_port
        self.family = AF_INET6 if ":" in destination else AF_INET
        kind = {TCP: SOCK_STREAM, UDP: SOCK_DGRAM}.get(protocol, SOCK_RAW)
        self.payload = bytes(max(0, size - _EMPTY - 20 * (self.family == AF_INET6)))
        try:
            with netns.Visit(where):
                self.socket = socket(self.family, kind | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol if kind == SOCK_RAW else 0)
            self._set_up(source, bool(size))
        except OSError as error:
            raise KernelError.of(f"prepare a probe from {source or 'any address'}", error) from error
        self.port = int.from_bytes(os.urandom(2), "big") | 1 if kind == SOCK_RAW else int(self.socket.getsockname()[1])

    def _set_up(self, source: str, whole: bool) -> None:
        level, errors, discover = (
            (IPPROTO_IPV6, _IPV6_RECVERR, _IPV6_MTU_DISCOVER) if self.family == AF_INET6 else (IPPROTO_IP, _IP_RECVERR, _IP_MTU_DISCOVER)
        )
        self.socket.setsockopt(level, errors, 1)
        if whole:
            self.socket.setsockopt(level, discover, _IP_PMTUDISC_PROBE)
        self.socket.bind((source, 0))
        if self.protocol != TCP:  # from here on it hears of this destination alone
            self.socket.connect((self.destination, self.destination_port))
        else:
            self.socket.setsockopt(SOL_SOCKET, _SO_LINGER, Struct("=ii").pack(1, 0))  # what was only asked ends with a reset

    def fire(self) -> Outcome | None:
        """Send it; an Outcome where the kernel refuses at once."""
        try:
            if self.protocol == TCP:
                self.socket.connect((self.destination, self.destination_port))
            elif self.protocol == UDP:
                self.socket.send(self.payload or b"?")
            else:
                self.socket.send(packet.echo(self.port, 1, self.payload or bytes(8), self.family == AF_INET6))
        except OSError as error:
            if error.errno != errno.EINPROGRESS:
                return self._error() or Outcome(FAILED, error.errno or 0)
        return None

    def outcome(self) -> Outcome | None:
        """What came of it, None as long as nothing has; never waits."""
        failed = self._error()
        if failed is not None:
            return failed
        if self.protocol == TCP:
            return self._connected()
        while True:
            try:
                data = self.socket.recv(65536, MSG_DONTWAIT)
            except BlockingIOError:
                return None
            except OSError as error:
                return _of(error.errno or 0)
            if self.protocol == UDP or self._is_mine(data):
                return Outcome(ANSWERED)

    def _connected(self) -> Outcome | None:
        number = self.socket.getsockopt(SOL_SOCKET, SO_ERROR)
        if number:
            return _of(number)
        try:
            self.socket.getpeername()
        except OSError:
            return None
        return Outcome(ANSWERED)

    def _is_mine(self, data: bytes) -> bool:
        """A raw socket of IPv4 hears all ICMP, with the IP header; one of IPv6 without."""
        body = data if self.family == AF_INET6 else data[(data[0] & 15) * 4 :]
        reply = packet.ECHO_REPLY6 if self.family == AF_INET6 else packet.ECHO_REPLY
        return len(body) >= 8 and body[0] == reply and int.from_bytes(body[4:6], "big") == self.port

    def _error(self) -> Outcome | None:
        try:
            _, told, _, _ = self.socket.recvmsg(2048, 512, _MSG_ERRQUEUE | MSG_DONTWAIT)
        except OSError:
            return None
        for _, kind, data in told:
            if kind in (_IP_RECVERR, _IPV6_RECVERR) and len(data) >= _EXTENDED_ERROR.size:
                number, origin, type_, code, _, _, _ = _EXTENDED_ERROR.unpack_from(data)
                return _of(number, _offender(data[_EXTENDED_ERROR.size :]), (type_, code)) if origin in _ICMP_ORIGINS else _of(number)
        return None

    def fileno(self) -> int:
        return self.socket.fileno()

    def close(self) -> None:
        self.socket.close()


def _of(number: int, offender: str = "", icmp: tuple[int, int] = (0, 0)) -> Outcome:
    return Outcome(REFUSED if number == errno.ECONNREFUSED else FAILED, number, offender, icmp)


def _offender(address: bytes) -> str:
    family = int.from_bytes(address[:2], "little" if Struct("=H").pack(1)[0] else "big")
    if family not in _OFFENDER:
        return ""
    kind, at, size = _OFFENDER[family]
    return inet_ntop(kind, address[at : at + size])


# --- as if it had come in by a link -----------------------------------------------------------------------------------------------------

_BPF_PROG_LOAD, _BPF_LINK_CREATE, _BPF_PROG_TYPE_SCHED_CLS, _BPF_TCX_INGRESS = 5, 28, 3, 46
_MOVE, _CALL, _EXIT, _REDIRECT, _INGRESS = 0xB7, 0x85, 0x95, 23, 1
_INSTRUCTION = Struct("=BBhi")


class Arrival:
    """A way to have this host's link with the index `link` receive frames that nobody sent. Raises UnsupportedError on a kernel without
    the hook."""

    def __init__(self, link: int) -> None:
        with netns.Visit(None):
            namespaces.unshare(namespaces.NEWNET)
            self._far = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._redirect = -1
        name = f"mdtrace{os.getpid() % 10**7}"
        try:
            with Socket() as netlink, Socket(self._far) as far:
                netlink.batch([veth_create(name, "06:42:00:00:00:01", 65535, 0, "eth0", "06:42:00:00:00:02", self._far)])
                near = Link(netlink.get(link_get(name))).index
                self._redirect = _lead(near, link)
                netlink.batch([link_set(near, up=True, no_link_local=True)])
                far.batch([link_set("eth0", up=True)])
            with netns.Visit(self._far):
                self._socket = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0)
            self._socket.bind(("eth0", 0))
        except BaseException:
            self.close()
            raise

    def receive(self, frame: bytes) -> None:
        """The link receives `frame`."""
        try:
            self._socket.send(frame)
        except OSError as error:
            raise KernelError.of("put a packet in", error) from error

    def close(self) -> None:
        """The cable goes with its namespace, and what leads there with its descriptor."""
        for descriptor in (self._redirect, self._far):
            if descriptor >= 0:
                os.close(descriptor)
        if hasattr(self, "_socket"):
            self._socket.close()


def _lead(near: int, link: int) -> int:
    """Every frame that comes in by `near` goes on as if it had come in by `link`, as long as the descriptor returned is open."""
    program = b"".join((
        _INSTRUCTION.pack(_MOVE, 1, 0, link), _INSTRUCTION.pack(_MOVE, 2, 0, _INGRESS), _INSTRUCTION.pack(_CALL, 0, 0, _REDIRECT),
        _INSTRUCTION.pack(_EXIT, 0, 0, 0),
    ))  # fmt: skip
    code, license = ctypes.create_string_buffer(program, len(program)), ctypes.create_string_buffer(b"GPL")
    try:
        loaded = _bpf(_BPF_PROG_LOAD, Struct("=IIQQ").pack(_BPF_PROG_TYPE_SCHED_CLS, 4, ctypes.addressof(code), ctypes.addressof(license)))
        try:
            return _bpf(_BPF_LINK_CREATE, Struct("=IIII").pack(loaded, near, _BPF_TCX_INGRESS, 0) + bytes(16))
        finally:
            os.close(loaded)
    except OSError as error:
        cause = os.strerror(error.errno or 0).lower()
        raise UnsupportedError(f"put a packet in as if it came from outside: {cause} (it takes Linux 6.6)",
                               "connect from there, and watch with --listen") from error


def _bpf(command: int, attributes: bytes) -> int:
    return libc.syscall(libc.SYS.bpf, command, ctypes.create_string_buffer(attributes, len(attributes)), len(attributes))


def crafted(protocol: int, source: str, destination: str, port: int, destination_port: int) -> bytes:
    """The IP packet that a Probe of these would send."""
    if protocol == TCP:
        body = packet.syn(port, destination_port, int.from_bytes(os.urandom(4), "big"))
    elif protocol == UDP:
        body = packet.datagram(port, destination_port, b"?")
    else:
        body = packet.echo(port, 1, bytes(8), protocol == ICMP6)
    return packet.ip(source, destination, protocol, body)

