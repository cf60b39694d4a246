"""Links, addresses, routes and neighbours as netlink messages: pure functions that return bytes, and what reads the answers.

Nothing here opens a socket (netlink.py does). One link is asked for by its name or index, never found in a dump: a dump's cost
grows with the machine. An address is text; its colon tells the family. rtnetlink(7), linux/if_link.h, linux/rtnetlink.h,
linux/neighbour.h.
"""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, AF_UNSPEC, inet_ntop, inet_pton
from _struct import Struct

from minidocker.kernel.netlink import (
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Message,
    attribute,
    attributes,
    nest,
    number,
    string,
    text,
)

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_GETADDR = 20, 22
RTM_NEWROUTE, RTM_GETROUTE = 24, 26
RTM_NEWNEIGH, RTM_DELNEIGH = 28, 29
RTM_GETRULE = 34

IFF_UP, IFF_LOOPBACK = 0x1, 0x8
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_LINKINFO = 1, 3, 4, 5, 10, 18
IFLA_IFALIAS, IFLA_AF_SPEC, IFLA_GROUP, IFLA_NET_NS_FD, IFLA_EXT_MASK = 20, 26, 27, 28, 29
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE = 8, 1
IFLA_INET_CONF, IPV4_DEVCONF_ARP_NOTIFY = 1, 22
IFLA_BRPORT_MODE, IFLA_BRPORT_ISOLATED = 4, 33
IFLA_MACVLAN_MODE = 1
MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4}
VETH_INFO_PEER = 1
RTEXT_FILTER_SKIP_STATS = 8
IFA_ADDRESS, IFA_LOCAL, IFA_F_NODAD = 1, 2, 0x02
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_METRICS, RTA_MULTIPATH, RTA_TABLE = 1, 4, 5, 6, 8, 9, 15
RTAX_MTU = 2
RT_TABLE_MAIN, RTPROT_BOOT, RTN_UNICAST = 254, 3, 1
NDA_DST, NDA_LLADDR = 1, 2
NUD_PERMANENT = 0x80
FRA_DST, FRA_TABLE = 1, 15
LOOPBACK = 1  # lo's index in every network namespace

_IFINFO = Struct("=BxHiII")      # struct ifinfomsg: family, type, index, flags, change
_IFADDR = Struct("=BBBBI")       # struct ifaddrmsg: family, prefix length, flags, scope, index
_RTMSG = Struct("=BBBBBBBBI")    # struct rtmsg: family, dst length, src length, tos, table, protocol, scope, type, flags
_NDMSG = Struct("=BxxxiHBB")     # struct ndmsg: family, index, state, flags, type
_NEXTHOP = Struct("=HBBi")       # struct rtnexthop: length, flags, hops, index
_U32 = Struct("=I")

_ROUTE_TYPES = ("none", "unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit", "throw", "nat")


def mac_bytes(mac: str) -> bytes:
    """``02:42:ac:11:00:02`` as six bytes."""
    return bytes.fromhex(mac.replace(":", ""))


def link_get(name: str) -> Message:
    """Ask for one link by name, without its counters."""
    return Message.build(f"look up link `{name}`", RTM_GETLINK, 0, _ifinfo(), number(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS),
                         text(IFLA_IFNAME, name))


def link_get_index(index: int) -> Message:
    """Ask for one link by index, without its counters."""
    return Message.build(f"look up link {index}", RTM_GETLINK, 0, _ifinfo(index), number(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS))


def veth_create(name: str, mac: str, mtu: int, master: int, peer: str, peer_mac: str, netns: int) -> Message:
    """Make a veth: `name` here, a port of the link with index `master` (0: of none), and `peer` straight in the namespace behind
    descriptor `netns`. Both are down: the kernel cannot make a peer up, and our end must not be up before it is set up."""
    far = _ifinfo() + text(IFLA_IFNAME, peer) + attribute(IFLA_ADDRESS, mac_bytes(peer_mac)) + number(IFLA_MTU, mtu) + \
        number(IFLA_NET_NS_FD, netns)
    return Message.build(
        f"create veth `{name}` with its peer `{peer}` in the container", RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
        _ifinfo(), text(IFLA_IFNAME, name), attribute(IFLA_ADDRESS, mac_bytes(mac)), number(IFLA_MTU, mtu),
        number(IFLA_MASTER, master) if master else b"",
        nest(IFLA_LINKINFO, text(IFLA_INFO_KIND, "veth"), nest(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, far))),
    )


def macvlan_create(parent: int, mode: str, name: str, mac: str, mtu: int, netns: int) -> Message:
    """Make a macvlan on the link with index `parent`, straight in the namespace behind descriptor `netns`; `mtu` 0 is the parent's."""
    return Message.build(
        f"create macvlan `{name}` in the container", RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
        _ifinfo(), text(IFLA_IFNAME, name), attribute(IFLA_ADDRESS, mac_bytes(mac)), number(IFLA_MTU, mtu) if mtu else b"",
        number(IFLA_LINK, parent), number(IFLA_NET_NS_FD, netns),
        nest(IFLA_LINKINFO, text(IFLA_INFO_KIND, "macvlan"), nest(IFLA_INFO_DATA, number(IFLA_MACVLAN_MODE, MACVLAN_MODES[mode]))),
    )


def link_move(index: int, name: str, mac: str, netns: int) -> Message:
    """Move a link into the namespace behind descriptor `netns`, where it is called `name` and has the hardware address `mac`; down."""
    return Message.build(f"move a link into the container as `{name}`", RTM_NEWLINK, NLM_F_ACK, _ifinfo(index), text(IFLA_IFNAME, name),
                         attribute(IFLA_ADDRESS, mac_bytes(mac)), number(IFLA_NET_NS_FD, netns))


def bridge_create(name: str, mac: str) -> Message:
    """Make a bridge whose MAC is pinned: one set here does not follow the lowest of the ports'."""
    return Message.build(f"create bridge `{name}`", RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, _ifinfo(),
                         text(IFLA_IFNAME, name), attribute(IFLA_ADDRESS, mac_bytes(mac)),
                         nest(IFLA_LINKINFO, text(IFLA_INFO_KIND, "bridge")))


def link_set(
    link: str | int, *, up: bool | None = None, alias: str | None = None, mtu: int = 0, no_link_local: bool = False, hairpin: bool = False,
    isolated: bool = False, group: int = 0,
) -> Message:
    """Change the link with this name or index: bring it up or down, set its alias and MTU; `no_link_local` keeps the kernel from
    giving it an IPv6 address (without IPv6 in the kernel: EAFNOSUPPORT); `hairpin` lets a bridge send a frame back out of the
    port it came in by, `isolated` lets it send none from the port to another that is isolated; `group` is a number that rules know several
    links by."""
    flags = IFF_UP if up else 0
    port = (attribute(IFLA_BRPORT_MODE, b"\1") if hairpin else b"") + (attribute(IFLA_BRPORT_ISOLATED, b"\1") if isolated else b"")
    return Message.build(
        f"set up link `{link}`", RTM_NEWLINK, NLM_F_ACK,
        _IFINFO.pack(AF_UNSPEC, 0, link if isinstance(link, int) else 0, flags, 0 if up is None else IFF_UP),
        text(IFLA_IFNAME, link) if isinstance(link, str) else b"",
        text(IFLA_IFALIAS, alias) if alias is not None else b"",
        number(IFLA_MTU, mtu) if mtu else b"",
        number(IFLA_GROUP, group) if group else b"",
        nest(IFLA_AF_SPEC, nest(AF_INET6, attribute(IFLA_INET6_ADDR_GEN_MODE, bytes([IN6_ADDR_GEN_MODE_NONE])))) if no_link_local else b"",
        nest(IFLA_LINKINFO, text(IFLA_INFO_SLAVE_KIND, "bridge"), nest(IFLA_INFO_SLAVE_DATA, port)) if port else b"",
    )


def link_announces(index: int) -> Message:
    """Have the link's IPv4 addresses announced whenever it comes up (a gratuitous ARP; ip-sysctl.rst, arp_notify)."""
    return Message.build(f"set up link `{index}`", RTM_NEWLINK, NLM_F_ACK, _ifinfo(index),
                         nest(IFLA_AF_SPEC, nest(AF_INET, nest(IFLA_INET_CONF, number(IPV4_DEVCONF_ARP_NOTIFY, 1)))))


def link_delete(index: int, name: str) -> Message:
    """Delete the link with this index; `name` is for the error."""
    return Message.build(f"delete link `{name}`", RTM_DELLINK, NLM_F_ACK, _ifinfo(index))


def address_add(index: int, ip: str, prefix: int) -> Message:
    """Give a link an address, and with it the route to its subnet. EEXIST where it has it. An IPv6 address is not looked for on the
    wire first (RFC 4862, section 5.4): it follows from a lease, and would be of no use for a second."""
    family, packed = _packed(ip)
    return Message.build(f"add address `{ip}/{prefix}`", RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
                         _IFADDR.pack(family, prefix, IFA_F_NODAD if family == AF_INET6 else 0, 0, index),
                         attribute(IFA_LOCAL, packed), attribute(IFA_ADDRESS, packed))


def default_route(index: int, gateway: str) -> Message:
    """`default via gateway` in the main table, in the place of any other."""
    family, packed = _packed(gateway)
    return Message.build(f"set the default route to `{gateway}`", RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE,
                         _RTMSG.pack(family, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, 0, RTN_UNICAST, 0),
                         attribute(RTA_GATEWAY, packed), number(RTA_OIF, index))


def neighbour_add(index: int, ip: str, mac: str) -> Message:
    """A permanent neighbour entry, in the place of any other: no ARP, and outside of the 1,024 that the kernel will keep."""
    family, packed = _packed(ip)
    return Message.build(f"add neighbour `{ip}`", RTM_NEWNEIGH, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE,
                         _NDMSG.pack(family, index, NUD_PERMANENT, 0, 0), attribute(NDA_DST, packed), attribute(NDA_LLADDR, mac_bytes(mac)))


def neighbour_delete(index: int, ip: str) -> Message:
    """ENOENT where there is none."""
    family, packed = _packed(ip)
    return Message.build(f"delete neighbour `{ip}`", RTM_DELNEIGH, NLM_F_ACK, _NDMSG.pack(family, index, 0, 0, 0),
                         attribute(NDA_DST, packed))


def links_dump() -> Message:
    """Every link. Cold paths only."""
    return Message.build("list links", RTM_GETLINK, NLM_F_DUMP, _ifinfo(), number(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS))


def addresses_dump(family: int = AF_INET) -> Message:
    """Every address of a family. Cold paths only."""
    return Message.build("list addresses", RTM_GETADDR, NLM_F_DUMP, _IFADDR.pack(family, 0, 0, 0, 0))


def routes_dump(family: int = AF_INET) -> Message:
    """Every route of a family in every table. Cold paths only."""
    return Message.build("list routes", RTM_GETROUTE, NLM_F_DUMP, _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))


def rules_dump(family: int = AF_INET) -> Message:
    """Every policy rule of a family. Cold paths only."""
    return Message.build("list rules", RTM_GETRULE, NLM_F_DUMP, _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))


class Link:
    """A link as the kernel tells it: `kind` "bridge", "veth", "" for hardware; `master` the index of its bridge, 0 for none."""

    __slots__ = ("alias", "flags", "index", "kind", "mac", "master", "mtu", "name")

    def __init__(self, body: bytes) -> None:
        _, _, self.index, self.flags, _ = _IFINFO.unpack_from(body)
        found = attributes(body, _IFINFO.size)
        self.name = string(found.get(IFLA_IFNAME, b""))
        self.alias = string(found.get(IFLA_IFALIAS, b""))
        self.mac = found.get(IFLA_ADDRESS, b"").hex(":")
        self.mtu = _u32(found.get(IFLA_MTU))
        self.master = _u32(found.get(IFLA_MASTER))
        self.kind = string(attributes(found.get(IFLA_LINKINFO, b"")).get(IFLA_INFO_KIND, b""))


class Address:
    """An address of a link."""

    __slots__ = ("index", "ip", "prefix")

    def __init__(self, body: bytes) -> None:
        family, self.prefix, _, _, self.index = _IFADDR.unpack_from(body)
        found = attributes(body, _IFADDR.size)
        self.ip = inet_ntop(family, found.get(IFA_LOCAL) or found[IFA_ADDRESS])


class Route:
    """A route: `destination` "0.0.0.0" or "::" with `prefix` 0 is a default route; `gateway` "" where it is direct; `devices` the
    indices of its links (several for a multipath route, none for unreachable and its like); `mtu` 0 where the route sets none."""

    __slots__ = ("destination", "devices", "gateway", "mtu", "prefix", "priority", "table", "type")

    def __init__(self, body: bytes) -> None:
        family, self.prefix, _, _, table, _, _, kind, _ = _RTMSG.unpack_from(body)
        found = attributes(body, _RTMSG.size)
        self.destination = inet_ntop(family, found.get(RTA_DST, _unspecified(family)))
        self.table = _u32(found.get(RTA_TABLE)) or table
        self.type = _ROUTE_TYPES[kind] if kind < len(_ROUTE_TYPES) else str(kind)
        self.priority = _u32(found.get(RTA_PRIORITY))
        self.mtu = _u32(attributes(found.get(RTA_METRICS, b"")).get(RTAX_MTU))
        self.gateway = inet_ntop(family, found[RTA_GATEWAY]) if RTA_GATEWAY in found else ""
        self.devices = [_u32(found[RTA_OIF])] if RTA_OIF in found else _nexthops(found.get(RTA_MULTIPATH, b""))


class Rule:
    """A policy rule: the destination it is for ("0.0.0.0"/0 or "::"/0 is any) and the table it sends to."""

    __slots__ = ("destination", "prefix", "table")

    def __init__(self, body: bytes) -> None:
        family, self.prefix, _, _, table, *_ = _RTMSG.unpack_from(body)
        found = attributes(body, _RTMSG.size)
        self.destination = inet_ntop(family, found.get(FRA_DST, _unspecified(family)))
        self.table = _u32(found.get(FRA_TABLE)) or table


def _packed(ip: str) -> tuple[int, bytes]:
    """(family, bytes) of an address."""
    family = AF_INET6 if ":" in ip else AF_INET
    return family, inet_pton(family, ip)


def _unspecified(family: int) -> bytes:
    return bytes(16 if family == AF_INET6 else 4)


def _ifinfo(index: int = 0) -> bytes:
    return _IFINFO.pack(AF_UNSPEC, 0, index, 0, 0)


def _u32(value: bytes | None) -> int:
    return int(_U32.unpack(value)[0]) if value else 0


def _nexthops(data: bytes) -> list[int]:
    """The links of a multipath route."""
    found, offset = [], 0
    while offset + _NEXTHOP.size <= len(data):
        length, _, _, index = _NEXTHOP.unpack_from(data, offset)
        found.append(index)
        offset += max((length + 3) & ~3, _NEXTHOP.size)
    return found
