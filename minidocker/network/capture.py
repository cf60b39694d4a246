"""Packets as they pass the interfaces of one network namespace: nothing is installed there, one socket is opened in it (packet(7)). Cold.

Of a container all of its interfaces are heard, of a bridge network its ports: what containers send as it comes in by their port, and what
the host sends into the network as it leaves by the bridge. So each packet is seen once.
"""

from __future__ import annotations

import select
import time
from _socket import AF_PACKET, SO_RCVBUF, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_RAW, SOL_SOCKET, htons, socket
from _struct import Struct

from minidocker.errors import KernelError, NotFoundError
from minidocker.kernel import packet, routes
from minidocker.kernel.netlink import Socket
from minidocker.kernel.netns import Visit
from minidocker.kernel.rtnetlink import IFF_LOOPBACK
from minidocker.network.capture_file import INBOUND, LARGEST, LINK_ETHERNET, LINK_RAW, OUTBOUND

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from minidocker.kernel.packet import Packet

_ETH_P_ALL, _OUTGOING = 3, 4
_SO_RCVBUFFORCE, _SO_TIMESTAMPNS, _BUFFER = 33, 35, 16 << 20
_ETHERNETS = (1, 772)  # linux/if_arp.h: ARPHRD_ETHER, ARPHRD_LOOPBACK; of others the packet is taken as IP
_TIME = Struct("=qq")
_LOOK = 1.0  # seconds between two looks at whether it still goes on


class Seen:
    """One packet: `interface` its name, `time` nanoseconds since the epoch, `data` the frame (an IP packet where `link` is LINK_RAW) of
    which `length` bytes were on the wire, `outbound` whether it left by the interface, `packet` what is in it."""

    __slots__ = ("data", "interface", "length", "link", "outbound", "packet", "time")

    def __init__(self, interface: str, when: int, data: bytes, length: int, link: int, outbound: bool) -> None:
        self.interface, self.time, self.data, self.length, self.link, self.outbound = interface, when, data, length, link, outbound
        self.packet: Packet = packet.frame(data) if link == LINK_ETHERNET else packet.packet(data)

    @property
    def direction(self) -> int:
        return OUTBOUND if self.outbound else INBOUND


class Capture:
    """Hears one namespace (None: this one). `interface` names one of it; else all are heard but lo, or with `bridge` that bridge and its
    ports. Raises NotFoundError, KernelError."""

    def __init__(self, netns: int | None, interface: str = "", bridge: str = "") -> None:
        self._netns, self._interface, self._bridge = netns, interface, bridge
        self._kept: dict[str, bool] = {}
        self._netlink = Socket(netns)
        try:
            names = [port.name for port in routes.ports(self._netlink).values()]
            for name in filter(None, (interface, bridge)):
                if name not in names:
                    raise NotFoundError(f"there is no interface `{name}` there", f"it has {', '.join(names)}")
            with Visit(netns):  # without a protocol it hears nothing until it is bound, with one every interface at once
                self._socket = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0 if interface else htons(_ETH_P_ALL))
            self._prepare()
        except OSError as error:
            raise KernelError.of("open a socket for packets", error) from error

    def _prepare(self) -> None:
        self._socket.setsockopt(SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        try:
            self._socket.setsockopt(SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        except PermissionError:  # root of a user namespace
            self._socket.setsockopt(SOL_SOCKET, SO_RCVBUF, _BUFFER)
        if self._interface:
            self._socket.bind((self._interface, _ETH_P_ALL))

    def packets(self, goes_on: Callable[[], bool], stop: int) -> Iterator[Seen]:
        """Each as it comes, as long as `goes_on` says so, which is asked once a second; once there is something to be read from the
        descriptor `stop`, those that had come by then."""
        last = 0.0  # when it ends though more comes; 0 as long as nobody has asked it to
        while not last or time.monotonic() < last:
            ready = select.select([self._socket.fileno(), stop], [], [], 0 if last else _LOOK)[0]
            if stop in ready and not last:
                last = time.monotonic() + _LOOK
            if self._socket.fileno() in ready:
                seen = self._read()
                if seen is not None:
                    yield seen
            elif last or not goes_on():
                return

    def _read(self) -> Seen | None:
        """The next one, where it is one that is wanted."""
        try:
            data, told, _, (name, _, kind, hardware, *_) = self._socket.recvmsg(LARGEST, 64)
        except BlockingIOError:
            return None
        except OSError as error:
            raise KernelError.of(f"read packets of `{self._interface}`", error) from error  # ENETDOWN: it is gone, or down
        outbound = kind == _OUTGOING
        if not self._wants(name, outbound):
            return None
        link = LINK_ETHERNET if hardware in _ETHERNETS else LINK_RAW
        seconds, nanoseconds = next((_TIME.unpack(value) for _, _, value in told if len(value) == _TIME.size), (0, 0))
        return Seen(name, seconds * 10**9 + nanoseconds, data, len(data), link, outbound)

    def _wants(self, name: str, outbound: bool) -> bool:
        if name not in self._kept:
            port = next((one for one in routes.ports(self._netlink).values() if one.name == name), None)
            if self._bridge:
                bridge = next((one for one in routes.ports(self._netlink).values() if one.name == self._bridge), None)
                kept = bridge is not None and port is not None and (port.master == bridge.index or name == self._bridge)
            else:
                kept = bool(self._interface) or (port is not None and not port.flags & IFF_LOOPBACK)
            self._kept[name] = kept
        if self._bridge:
            return self._kept[name] and outbound == (name == self._bridge)
        return self._kept[name] and not (outbound and name == "lo")  # what goes out by lo comes in by it, too

    def lost(self) -> int:
        """How many the kernel could not keep for us since this was last asked (PACKET_STATISTICS)."""
        return int(Struct("=II").unpack(self._socket.getsockopt(263, 6, 8))[1])

    def close(self) -> None:
        self._socket.close()
        self._netlink.close()
