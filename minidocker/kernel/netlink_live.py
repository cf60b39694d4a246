"""What there is in a network namespace now: links, addresses, neighbours, routes and settings, by pyroute2. Cold; changes nothing.

rtnetlink(7), linux/if_link.h; the settings are /proc/sys/net/{ipv4,ipv6}/conf (ip-sysctl.rst).
"""

from __future__ import annotations

import os

from minidocker.errors import KernelError
from minidocker.kernel import sysctl
from minidocker.kernel.netns import Visit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PERMANENT = 0x80  # NUD_PERMANENT
_NODAD, _LINK_SCOPE, _BY_KERNEL, _MAIN = 0x02, 253, 2, 254  # IFA_F_NODAD, RT_SCOPE_LINK, RTPROT_KERNEL, RT_TABLE_MAIN
_ADDRESS_MODES = {0: "eui64", 1: "none", 2: "stable_secret", 3: "random"}
_MACVLAN_MODES = {1: "private", 2: "vepa", 4: "bridge", 8: "passthru"}
# What follows from other things that are said, or is a secret.
_NO_SETTINGS = ("mtu", "stable_secret", "addr_gen_mode")


class Interface:
    """One link: `addresses` [(ip, prefix, whether nobody is asked who else has it)], `neighbours` the permanent [(ip, mac)], `settings`
    those that are not the namespace's defaults [(name, value)]; `other` the index of its other end, or of the link it is on, 0 for none;
    `modes` of its address generation ("eui64"), and of a macvlan; `hairpin` and `isolated` of a port of a bridge."""

    def __init__(self, link: Any) -> None:
        self.index: int = link["index"]
        self.name: str = link.get_attr("IFLA_IFNAME")
        self.is_up = bool(link["flags"] & 1)
        self.mac: str = link.get_attr("IFLA_ADDRESS") or ""
        self.mtu: int = link.get_attr("IFLA_MTU")
        self.alias: str = link.get_attr("IFLA_IFALIAS") or ""
        self.group: int = link.get_attr("IFLA_GROUP") or 0
        self.master: int = link.get_attr("IFLA_MASTER") or 0
        self.other: int = link.get_attr("IFLA_LINK") or 0
        self.kind: str = link.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") or ""
        mode = link.get_nested("IFLA_AF_SPEC", "AF_INET6", "IFLA_INET6_ADDR_GEN_MODE")
        self.address_mode = _ADDRESS_MODES.get(mode or 0, "eui64")
        macvlan = link.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA", "IFLA_MACVLAN_MODE") if self.kind == "macvlan" else 0
        self.macvlan_mode = macvlan if isinstance(macvlan, str) else _MACVLAN_MODES.get(macvlan, "")
        self.hairpin = bool(link.get_nested("IFLA_LINKINFO", "IFLA_INFO_SLAVE_DATA", "IFLA_BRPORT_MODE"))
        self.isolated = bool(link.get_nested("IFLA_LINKINFO", "IFLA_INFO_SLAVE_DATA", "IFLA_BRPORT_ISOLATED"))
        self.addresses: list[tuple[str, int, bool]] = []
        self.neighbours: list[tuple[str, str]] = []
        self.settings: list[tuple[str, str]] = []


class Way:
    """A route that somebody has set: `to` "default" or a subnet, `gateway` or "", the `interface`'s index, `metric` 0 for none."""

    def __init__(self, route: Any) -> None:
        to = route.get_attr("RTA_DST")
        self.ipv6 = route["family"] == 10
        self.to = f"{to}/{route['dst_len']}" if to else "default"
        self.gateway: str = route.get_attr("RTA_GATEWAY") or ""
        self.interface: int = route.get_attr("RTA_OIF") or 0
        metric = route.get_attr("RTA_PRIORITY") or 0
        self.metric: int = 0 if self.ipv6 and metric == 1024 else metric  # what the kernel takes where none is given


class Namespace:
    """All of one network namespace; `interfaces` in the order in which they came."""

    def __init__(self, interfaces: list[Interface], routes: list[Way]) -> None:
        self.interfaces = interfaces
        self.routes = routes

    def by_index(self, index: int) -> Interface | None:
        return next((one for one in self.interfaces if one.index == index), None)

    def by_name(self, name: str) -> Interface | None:
        return next((one for one in self.interfaces if one.name == name), None)


def look(netns: int | None = None) -> Namespace:
    """Look at the network namespace of a descriptor, None for this process's. Raises KernelError."""
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    with Visit(netns):
        try:
            with IPRoute() as netlink:
                interfaces = [Interface(link) for link in netlink.get_links()]
                found = {one.index: one for one in interfaces}
                for address in netlink.get_addr():
                    if address["scope"] != _LINK_SCOPE and address["index"] in found:
                        flags = address.get_attr("IFA_FLAGS") or 0
                        ip = address.get_attr("IFA_LOCAL") or address.get_attr("IFA_ADDRESS")
                        found[address["index"]].addresses.append((ip, address["prefixlen"], bool(flags & _NODAD)))
                for one in netlink.get_neighbours():
                    if one["state"] & PERMANENT and one["ifindex"] in found and one.get_attr("NDA_LLADDR"):
                        found[one["ifindex"]].neighbours.append((one.get_attr("NDA_DST"), one.get_attr("NDA_LLADDR")))
                routes = [Way(route) for route in netlink.get_routes()
                          if route["table"] == _MAIN and route["proto"] != _BY_KERNEL and route["type"] == 1]  # fmt: skip
        except NetlinkError as error:
            raise KernelError("look at the interfaces of a network namespace", error.code) from error
        for one in interfaces:
            one.settings = _settings(one.name)
    return Namespace(interfaces, routes)


def _settings(interface: str) -> list[tuple[str, str]]:
    found = []
    for family in ("ipv4", "ipv6"):
        directory = f"net/{family}/conf/{interface}"
        if not os.path.isdir(f"/proc/sys/{directory}"):
            continue
        for name in sorted(os.listdir(f"/proc/sys/{directory}")):
            if name in _NO_SETTINGS or not os.stat(f"/proc/sys/{directory}/{name}").st_mode & 0o200:
                continue
            value = sysctl.read(f"{directory}/{name}")
            if value is not None and value != sysctl.read(f"net/{family}/conf/default/{name}"):
                found.append((f"{directory}/{name}", value))
    return found


def settings(netns: int, names: list[str]) -> list[tuple[str, str]]:
    """Those of the settings `names` (with slashes) that a namespace has, with their values."""
    with Visit(netns):
        read = [(name, sysctl.read(name)) for name in names]
    return [(name, value) for name, value in read if value is not None]
