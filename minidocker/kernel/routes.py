"""What the kernel would do with a packet: its routing decision, its neighbours, its ports of bridges. Asked, never changed. Cold.

A decision about a packet that comes in (`iif`) is the same one that the packet itself would meet: forwarding and the reverse path filter
included. rtnetlink(7), linux/rtnetlink.h, net/ipv4/route.c (inet_rtm_getroute), linux/neighbour.h.
"""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from _struct import Struct

from minidocker.errors import KernelError
from minidocker.kernel.netlink import NLM_F_DUMP, Message, Socket, attribute, attributes, number, string
from minidocker.kernel.rtnetlink import (
    IFLA_BRPORT_ISOLATED,
    IFLA_INFO_SLAVE_DATA,
    IFLA_INFO_SLAVE_KIND,
    IFLA_LINK,
    IFLA_LINKINFO,
    NDA_DST,
    NDA_LLADDR,
    RT_TABLE_MAIN,
    RTA_DST,
    RTM_GETLINK,
    RTM_GETROUTE,
    Link,
    Route,
    link_get_index,
    links_dump,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

RTM_GETNEIGH = 30
RTA_SRC, RTA_IIF, RTA_PREFSRC, RTA_MARK = 2, 3, 7, 16
RTM_F_LOOKUP_TABLE, RTM_F_FIB_MATCH = 0x1000, 0x2000
_RTMSG, _NDMSG, _IFINFO_SIZE = Struct("=BBBBBBBBI"), Struct("=BxxxiHBB"), 16
_STATES = ((0x80, "permanent"), (0x40, "noarp"), (0x20, "failed"), (0x10, "probe"), (0x08, "delay"), (0x04, "stale"), (0x02, "reachable"),
           (0x01, "incomplete"))  # fmt: skip
UNANSWERED = ("failed", "incomplete")
RT_TABLE_LOCAL = 255


class Way(Route):
    """A routing decision, or the entry of the table that led to it: a Route, with `source`, the address that a packet of the host's own
    gets (""), and `device`, the index of the link it goes by (0: none)."""

    __slots__ = ("source",)

    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        family = body[0]
        found = attributes(body, _RTMSG.size)
        self.source = inet_ntop(family, found[RTA_PREFSRC]) if RTA_PREFSRC in found else ""

    @property
    def device(self) -> int:
        return self.devices[0] if self.devices else 0

    def text(self, names: dict[int, str]) -> str:
        """As `ip route` prints it."""
        to = "default" if self.prefix == 0 else self.destination if self.prefix in (32, 128) else f"{self.destination}/{self.prefix}"
        words = [to] if self.type == "unicast" else [self.type, to]
        words += ["via", self.gateway] if self.gateway else []
        words += [word for index in self.devices for word in ("dev", names.get(index, str(index)))]
        return " ".join(words + ([f"table {self.table}"] if self.table not in (0, RT_TABLE_MAIN, RT_TABLE_LOCAL) else []))


class Neighbour:
    """An entry of the table of neighbours; `state` as ip-neighbour(8) says it, `mac` "" where it is not known."""

    __slots__ = ("index", "ip", "mac", "state")

    def __init__(self, body: bytes) -> None:
        family, self.index, state, _, _ = _NDMSG.unpack_from(body)
        found = attributes(body, _NDMSG.size)
        self.ip = inet_ntop(family, found[NDA_DST]) if NDA_DST in found and family in (AF_INET, AF_INET6) else ""
        self.mac = found.get(NDA_LLADDR, b"").hex(":")
        self.state = next((name for bit, name in _STATES if state & bit), "none")


class Port(Link):
    """A link, with what a bridge makes of it: `isolated`, and `peer`, the index of a veth's other end or of what a link lies on."""

    __slots__ = ("isolated", "peer")

    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        found = attributes(body, _IFINFO_SIZE)
        info = attributes(found.get(IFLA_LINKINFO, b""))
        as_port = attributes(info.get(IFLA_INFO_SLAVE_DATA, b"")) if string(info.get(IFLA_INFO_SLAVE_KIND, b"")) == "bridge" else {}
        self.isolated = as_port.get(IFLA_BRPORT_ISOLATED, b"\0") != b"\0"
        self.peer = int.from_bytes(found.get(IFLA_LINK, b""), _ORDER)


_ORDER: Literal["little", "big"] = "little" if Struct("=H").pack(1)[0] else "big"


def decide(netlink: Socket, destination: str, source: str = "", iif: int = 0, mark: int = 0) -> tuple[Way, Way]:
    """(the decision, the entry of the table that it came by) for a packet to `destination`; one that comes in by the link `iif` needs its
    `source`. Raises KernelError: ENETUNREACH no route, EHOSTUNREACH also a link that does not forward, EXDEV or EINVAL a sender that is
    not believed."""
    return Way(netlink.get(route_get(destination, source, iif, mark))), Way(
        netlink.get(route_get(destination, source, iif, mark, RTM_F_FIB_MATCH)))


def route_get(destination: str, source: str = "", iif: int = 0, mark: int = 0, flags: int = 0) -> Message:
    """The question."""
    family = AF_INET6 if ":" in destination else AF_INET
    bits = 128 if family == AF_INET6 else 32
    parts = [attribute(RTA_DST, inet_pton(family, destination))]
    parts += [attribute(RTA_SRC, inet_pton(family, source))] if source else []
    parts += [number(RTA_IIF, iif)] if iif else []
    parts += [number(RTA_MARK, mark)] if mark else []
    return Message.build(f"find the way to `{destination}`", RTM_GETROUTE, 0,
                         _RTMSG.pack(family, bits, bits if source else 0, 0, 0, 0, 0, 0, flags | RTM_F_LOOKUP_TABLE), *parts)


def neighbours(netlink: Socket, family: int) -> list[Neighbour]:
    """Every one of a family."""
    asked = Message.build("list neighbours", RTM_GETNEIGH, NLM_F_DUMP, _NDMSG.pack(family, 0, 0, 0, 0))
    return [Neighbour(body) for body in netlink.dump(asked)]


def ports(netlink: Socket) -> dict[int, Port]:
    """Every link by its index."""
    return {port.index: port for port in map(Port, netlink.dump(links_dump()))}


def port(netlink: Socket, index: int) -> Port | None:
    """One link; None where it is gone."""
    try:
        return Port(netlink.get(link_get_index(index)))
    except KernelError:
        return None


# --- counters, and news of links --------------------------------------------------------------------------------------------------------

IFLA_STATS64, RTNLGRP_LINK = 23, 1
_COUNTERS = Struct("=QQQQ")  # the head of struct rtnl_link_stats64: packets received and sent, bytes received and sent


def counters(netlink: Socket) -> dict[int, tuple[int, int, int, int]]:
    """link index -> packets received and sent, bytes received and sent, since it was made."""
    asked = Message.build("count what links carry", RTM_GETLINK, NLM_F_DUMP, bytes(_IFINFO_SIZE))
    found = {}
    for body in netlink.dump(asked):
        stats = attributes(body, _IFINFO_SIZE).get(IFLA_STATS64, b"")
        if len(stats) >= _COUNTERS.size:
            found[Link(body).index] = _COUNTERS.unpack_from(stats)
    return found
