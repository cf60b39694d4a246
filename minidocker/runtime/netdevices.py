"""OCI `linux.netDevices` (config-linux.md, "Network Devices"): interfaces of the host's that move into the container, addresses and all.

Whoever owns the container's namespace owns them from then on: they are not taken back. When that ends, the kernel gives hardware back
to the host and destroys what is virtual (network_namespaces(7)).
"""

from __future__ import annotations

import _struct as struct
import errno
import sys

from minidocker.errors import ConflictError, KernelError, NotFoundError
from minidocker.kernel import rtnetlink as rt
from minidocker.kernel.netlink import NLM_F_ACK, Message, Socket, attributes, number, text
from minidocker.plan import NETWORK, At, Step, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_IFA_FLAGS = 8
_IFA_F_PERMANENT = 0x80
_RT_SCOPE_UNIVERSE = 0
_IFADDR = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, prefix length, flags, scope, index
_IFINFO = struct.Struct("=BxHiII")  # struct ifinfomsg
_FAMILIES = (2, 10)  # AF_INET, AF_INET6


class NetDevices(Step):
    """Move each, named as in the configuration, into the network namespace of `at.netns`, with its lasting addresses, and set it up."""

    title = NETWORK
    why = "interfaces of the host's that are the container's from here on"

    def __init__(self, devices: dict[str, dict[str, str]]) -> None:
        self.devices = {name: device.get("name") or name for name, device in devices.items()}

    def shell(self) -> str:
        lines = []
        for name, inside in self.devices.items():
            lines.append(f"ip link set {quote(name)} netns $PID name {quote(inside)}")
            lines.append(f"nsenter --target $PID --net ip link set {quote(inside)} up  # and its addresses, as they were")
        return "\n".join(lines)

    def describe(self) -> str:
        return "move the network devices " + ", ".join(self.devices)

    def apply(self, at: At) -> None:
        with Socket() as host, Socket(at.netns) as there:
            for name, inside in self.devices.items():
                link = _find(host, name)
                if link is None:
                    raise NotFoundError(f"linux.netDevices: there is no network device `{name}`")
                if "%d" not in inside and _find(there, inside) is not None:
                    raise ConflictError(f"linux.netDevices: the container has a network device `{inside}` already")
                _move(host, there, link, inside, at.netns)


def _find(socket: Socket, name: str) -> rt.Link | None:
    try:
        return rt.Link(socket.get(rt.link_get(name)))
    except KernelError as error:
        if error.errno != errno.ENODEV:
            raise
        return None


def _move(host: Socket, there: Socket, link: rt.Link, inside: str, netns: int) -> None:
    addresses = _lasting(host, link.index)
    before = {rt.Link(body).index for body in there.dump(rt.links_dump())}
    move = Message.build(f"move network device `{link.name}` into the container as `{inside}`", rt.RTM_NEWLINK, NLM_F_ACK,
                         _IFINFO.pack(0, 0, link.index, 0, 0), text(rt.IFLA_IFNAME, inside), number(rt.IFLA_NET_NS_FD, netns))  # fmt: skip
    host.batch([move])
    moved = next(found for found in map(rt.Link, there.dump(rt.links_dump())) if found.index not in before)
    there.batch([rt.address_add(moved.index, ip, prefix) for ip, prefix in addresses] + [rt.link_set(moved.index, up=True)])


def _lasting(socket: Socket, index: int) -> list[tuple[str, int]]:
    """The link's permanent addresses of global scope: (address, prefix length)."""
    found = []
    for family in _FAMILIES:
        for body in socket.dump(rt.addresses_dump(family)):
            _, prefix, flags, scope, owner = _IFADDR.unpack_from(body)
            more = attributes(body, _IFADDR.size).get(_IFA_FLAGS)
            flags |= int.from_bytes(more, sys.byteorder) if more else 0
            if owner == index and scope == _RT_SCOPE_UNIVERSE and flags & _IFA_F_PERMANENT:
                found.append((rt.Address(body).ip, prefix))
    return found


def steps(linux: dict[str, Any]) -> list[Step]:
    return [NetDevices(linux["netDevices"])] if linux.get("netDevices") else []
