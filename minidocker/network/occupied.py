"""Which addresses somebody on this host has already: routes of every table, addresses, policy rules, nameservers.

Cold path: read in full before a subnet is given to a network, so that a new bridge never takes away a VPN's, a LAN's or
another engine's route.
"""

from __future__ import annotations

from _socket import AF_INET, AF_INET6

from minidocker.errors import UsageError
from minidocker.kernel.netlink import Socket
from minidocker.kernel.rtnetlink import (
    RT_TABLE_MAIN,
    Address,
    Link,
    Route,
    Rule,
    addresses_dump,
    links_dump,
    routes_dump,
    rules_dump,
)
from minidocker.network import ipam
from minidocker.network.ipam import Occupied

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

RT_TABLE_LOCAL = 255
# Where a resolver of the host's own is asked first, its upstreams are in the second (systemd-resolved(8)).
RESOLV_CONF = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")
WIDEST_OCCUPIED6 = 16  # a route wider than this (::/0, 2000::/3) is a way out, not a network that somebody has


def occupied(resolv_conf: Sequence[str] = RESOLV_CONF, but: str = "") -> list[Occupied]:
    """Every IPv4 range in use, each with its owner in words: ``route 172.17.0.0/16 dev docker0``, ``address 10.0.0.5/24 dev eth0``,
    ``nameserver 10.1.1.1``; what is on the link called `but` is left out. Default routes, and a VPN's halves of one, are no overlap
    and not listed."""
    servers = [server for path in resolv_conf for server in nameservers(read(path)) if not server.startswith("127.")]
    found = _of_the_host(AF_INET, but) + [Occupied(f"{server}/32", f"nameserver {server}") for server in dict.fromkeys(servers)]
    found += [entry for entry in _of_engines() if ":" not in entry.subnet]
    return [entry for entry in sorted(found, key=_order) if ipam.prefix_length(entry.subnet) >= ipam.WIDEST_OCCUPIED]


def occupied6() -> list[Occupied]:
    """The same for IPv6."""
    found = [entry for entry in _of_the_host(AF_INET6, "") if not entry.subnet.startswith(("fe80:", "ff", "::1/"))]
    found += [entry for entry in _of_engines() if ":" in entry.subnet]
    return [entry for entry in sorted(found, key=_order) if ipam.prefix_length(entry.subnet) >= WIDEST_OCCUPIED6]


def _of_engines() -> list[Occupied]:
    from minidocker.network import engines  # `run` loads this module, for `nameservers` alone

    return [Occupied(subnet, owner) for subnet, owner in engines.defined()]


def _of_the_host(family: int, but: str) -> list[Occupied]:
    with Socket() as netlink:
        names = {link.index: link.name for link in map(Link, netlink.dump(links_dump()))}
        addresses = [Address(body) for body in netlink.dump(addresses_dump(family))]
        routes = [Route(body) for body in netlink.dump(routes_dump(family))]
        rules = [Rule(body) for body in netlink.dump(rules_dump(family))]
    found = [Occupied(f"{a.ip}/{a.prefix}", f"address {a.ip}/{a.prefix} dev {names.get(a.index, a.index)}")
             for a in addresses if names.get(a.index) != but]  # fmt: skip
    elsewhere = (route for route in routes if not but or [names.get(device) for device in route.devices] != [but])
    found += [Occupied(f"{r.destination}/{r.prefix}", _route_text(r, names)) for r in _foreign(elsewhere)]
    return found + [Occupied(f"{r.destination}/{r.prefix}", f"rule to {r.destination}/{r.prefix} lookup {r.table}") for r in rules]


def nameservers(text: str) -> list[str]:
    """The IPv4 nameservers of a resolv.conf (resolv.conf(5)), in order."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or words[0] != "nameserver":
            continue
        try:
            ipam.number(words[1])
        except UsageError:
            continue  # IPv6, or what no resolver would read either: no IPv4 address is lost with it
        found.append(words[1])
    return found


def _foreign(routes: Iterable[Route]) -> list[Route]:
    """Without what the kernel adds for each address: the addresses themselves say it better."""
    return [route for route in routes if route.type != "broadcast" and (route.table != RT_TABLE_LOCAL or route.prefix not in (32, 128))]


def _order(entry: Occupied) -> tuple[int, int]:
    """Routes first: they are what a user can find and remove."""
    kinds = ("route", "unreachable", "blackhole", "prohibit", "address", "rule")
    word = entry.owner.partition(" ")[0]
    return kinds.index(word) if word in kinds else len(kinds), -ipam.prefix_length(entry.subnet)


def _route_text(route: Route, names: dict[int, str]) -> str:
    """As `ip route` would begin the line."""
    kind = "route" if route.type in ("unicast", "local") else f"{route.type} route"
    words = [f"{kind} {route.destination}/{route.prefix}"]
    if route.gateway:
        words.append(f"via {route.gateway}")
    words += [f"dev {names.get(device, device)}" for device in route.devices]
    if route.table not in (RT_TABLE_MAIN, RT_TABLE_LOCAL):
        words.append(f"table {route.table}")
    return " ".join(words)


def read(path: str) -> str:
    """A resolv.conf."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""  # resolv.conf(5): without the file the resolver asks the local host
