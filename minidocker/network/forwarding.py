"""What a network changes outside of our own links and tables: that packets are forwarded, and router advertisements still believed.

IPv4 forwards by interface: our bridge and the uplinks must both have it, or answers are dropped. IPv6 forwards by one setting for all
of the host (`all.forwarding`), which then makes it ignore router advertisements, its default route among them, unless accept_ra is 2
(ip-sysctl.rst). What was set before is read before the first change, kept by the engine, and put back with the last network; and what
forwarded nothing before is guarded: our table lets it forward nothing but what is ours.
"""

from __future__ import annotations

from _socket import AF_INET, AF_INET6

from minidocker.kernel import sysctl as settings
from minidocker.kernel.netlink import Socket
from minidocker.kernel.rtnetlink import IFF_LOOPBACK, Link, Route, links_dump, routes_dump
from minidocker.network import firewall, sysctl
from minidocker.plan import NETWORK, At, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minidocker.spec.records import Network

DEFAULT_MTU = 1500
FORWARDING_OF_ALL6 = "net/ipv6/conf/all/forwarding"
_FORWARDING4, _FORWARDING6, _ACCEPT_RA = "net/ipv4/conf/{}/forwarding", "net/ipv6/conf/{}/forwarding", "net/ipv6/conf/{}/accept_ra"
_DISABLE6 = "net/ipv6/conf/{}/disable_ipv6"
_NOT_UNICAST6 = ("fe80:", "ff")


class Outward:
    """How this host reaches the world: `mtu` of the way out; `before`, what the settings were before the first network (name -> value,
    as the engine stores it)."""

    __slots__ = ("before", "mtu")

    def __init__(self, mtu: int, before: dict[str, str]) -> None:
        self.mtu = mtu
        self.before = before

    @property
    def guarded(self) -> list[str]:
        """The uplinks that forwarded no IPv4 before."""
        return guarded(self.before)

    @property
    def closed6(self) -> bool:
        """Whether the host forwarded no IPv6 before, and so is to forward none but ours."""
        return closed6(self.before)

    @property
    def guarded6(self) -> list[str]:
        """The links that forwarded no IPv6 before; none where IPv6 was not asked for."""
        return guarded6(self.before)

    @property
    def advertised(self) -> list[str]:
        """The uplinks that believe router advertisements, and are to go on doing so."""
        return _advertised(self.before)


def guarded(before: dict[str, str]) -> list[str]:
    return [name.split("/")[3] for name, value in before.items() if value == "0" and name == _FORWARDING4.format(name.split("/")[3])]


def closed6(before: dict[str, str]) -> bool:
    return before.get(FORWARDING_OF_ALL6) == "0"


def guarded6(before: dict[str, str]) -> list[str]:
    if not closed6(before):
        return []
    links = (name.split("/")[3] for name, value in before.items() if value == "0" and name.startswith("net/ipv6/"))
    return [link for link in links if link not in ("all", "default") and before.get(_FORWARDING6.format(link)) == "0"]


def _advertised(before: dict[str, str]) -> list[str]:
    return [name.split("/")[3] for name, value in before.items() if value == "1" and name == _ACCEPT_RA.format(name.split("/")[3])]


def observed(network: Network, tag: str, recorded: dict[str, str]) -> Outward:
    """Read it. `recorded`: the stored values of networks that are up already; they go before what is read, which by now is what we set.
    What another data root of this host switched on counts as off. Cold: dumps routes and links, runs nft."""
    with Socket() as netlink:
        links = {link.index: link for link in map(Link, netlink.dump(links_dump()))}
        routes = [Route(body) for body in netlink.dump(routes_dump(AF_INET))]
        routes6 = [Route(body) for body in netlink.dump(routes_dump(AF_INET6))] if network.subnet6 else []
    ways_out = _uplinks(routes, links)
    by_others, by_others6, believed = firewall.guarded_by_others(tag)
    before = dict(recorded)
    for link, _ in ways_out:
        _note(before, _FORWARDING4.format(link.name), link.name in by_others)
    if network.subnet6:
        _note(before, FORWARDING_OF_ALL6, bool(by_others6))
        switched = recorded.get(FORWARDING_OF_ALL6) == "0"  # by us: what has come since has it on by that alone
        _note(before, _FORWARDING6.format("default"), switched or bool(by_others6))
        for link in filter(_foreign, links.values()):
            if link.name == network.bridge:
                continue  # ours, whose maker was killed before it had an alias
            _note(before, _FORWARDING6.format(link.name), switched or link.name in by_others6)
        for link, _ in ways_out + _uplinks(routes6, links):
            if settings.read(_DISABLE6.format(link.name)) == "1":
                continue  # it hears no advertisement
            name = _ACCEPT_RA.format(link.name)
            if before.get(_FORWARDING6.format(link.name)) == "0" and (settings.read(name) == "1" or link.name in believed):
                before.setdefault(name, "1")
    mtu = network.mtu or (ways_out[0][1] if ways_out else DEFAULT_MTU)
    return Outward(mtu, before)


def _note(before: dict[str, str], name: str, switched_on_by_others: bool) -> None:
    value = settings.read(name)
    if value is not None:
        before.setdefault(name, "0" if switched_on_by_others else value)


def _foreign(link: Link) -> bool:
    return not link.flags & IFF_LOOPBACK and not link.alias.startswith("minidocker:")


def _uplinks(routes: list[Route], links: dict[int, Link]) -> list[tuple[Link, int]]:
    """The links by which this host reaches others, through a gateway or next to it (a second LAN, a VPN), each with the MTU of that
    way, default routes first."""
    found: dict[int, tuple[Link, int]] = {}
    unicast = (r for r in routes if r.type == "unicast" and not r.destination.startswith(_NOT_UNICAST6))
    for route in sorted(unicast, key=lambda r: (r.prefix, r.priority)):
        for index in route.devices:
            link = links.get(index)
            if link and _foreign(link):
                found.setdefault(index, (link, route.mtu or link.mtu))
    return list(found.values())


def start(network: Network, tag: str, outward: Outward) -> list[Step]:
    """Let the bridge and the uplinks forward; the tables are there by now."""
    steps: list[Step] = [sysctl.Set(_FORWARDING4.format(network.bridge), "1", "forward what containers send")]
    steps += [Forward(tag, name) for name in outward.guarded]
    if network.subnet6 and outward.before.get(FORWARDING_OF_ALL6) == "0":
        steps += [KeepAdvertised(name) for name in outward.advertised]
        steps.append(Forward6(tag, outward.before))
    return steps


def stop(tag: str, before: dict[str, str]) -> list[Step]:
    """Put it back, with the last network."""
    steps: list[Step] = [StopForwarding(tag, name) for name in guarded(before)]
    if before.get(FORWARDING_OF_ALL6) == "0":
        steps.append(StopForwarding6(tag, before))
    return steps


class Forward(Step):
    """Let an uplink forward: what comes back to containers arrives by it. The table drops there what is not theirs."""

    title = NETWORK
    why = "forward what comes back to them by the uplink"

    def __init__(self, tag: str, uplink: str) -> None:
        self.tag = tag
        self.uplink = uplink
        self.name = _FORWARDING4.format(uplink)
        self._switched = False

    def shell(self) -> str:
        return f"sysctl -q -w {self.name}=1"

    def apply(self, at: At) -> None:
        if settings.read(self.name) == "0":
            settings.write(self.name, "1")
            self._switched = True

    def undo(self, at: At) -> None:
        if self._switched:  # else another network has it on, and needs it
            StopForwarding(self.tag, self.uplink).apply(at)


class StopForwarding(Step):
    """Make an uplink's forwarding what it was, off; unless the interface is gone, another data root has networks on it, or
    somebody has switched forwarding on for the whole host since: then it is theirs, and ours to leave on."""

    title = NETWORK
    why = "as it was before the first network"

    def __init__(self, tag: str, uplink: str) -> None:
        self.tag = tag
        self.uplink = uplink
        self.name = _FORWARDING4.format(uplink)

    def shell(self) -> str:
        return f"sysctl -q -w {self.name}=0"

    def apply(self, at: At) -> None:
        if (settings.read(self.name) == "1" and settings.read(settings.FORWARDING_OF_ALL) == "0"
                and self.uplink not in firewall.guarded_by_others(self.tag)[0]):
            settings.write(self.name, "0")


class KeepAdvertised(Step):
    """Have an uplink believe router advertisements though the host forwards."""

    title = NETWORK
    why = "a host that forwards IPv6 would lose the default route that its router advertises"

    def __init__(self, uplink: str) -> None:
        self.name = _ACCEPT_RA.format(uplink)
        self._switched = False

    def shell(self) -> str:
        return f"sysctl -q -w {self.name}=2"

    def apply(self, at: At) -> None:
        if settings.read(self.name) == "1":
            settings.write(self.name, "2")
            self._switched = True

    def undo(self, at: At) -> None:
        if self._switched:
            settings.write(self.name, "1")


class Forward6(Step):
    """Let the host forward IPv6: the kernel has one setting for all interfaces. The table drops what is not ours."""

    title = NETWORK
    why = "forward IPv6, which the kernel does for all interfaces or none"

    def __init__(self, tag: str, before: dict[str, str]) -> None:
        self.tag = tag
        self.before = before
        self._switched = False

    def shell(self) -> str:
        return "\n".join(f"sysctl -q -w {name}={value}" for name, value in self._values())

    def _values(self) -> list[tuple[str, str]]:
        """Who is to listen to routers as before, now or later, is told that it is no router itself: packets are forwarded all the same."""
        hosts = ["default"] if self.before.get(_FORWARDING6.format("default")) == "0" else []
        hosts += [name for name in guarded6(self.before) if name not in _advertised(self.before)]
        return [(FORWARDING_OF_ALL6, "1"), *((_FORWARDING6.format(name), "0") for name in hosts)]

    def apply(self, at: At) -> None:
        if settings.read(FORWARDING_OF_ALL6) == "0":
            self._switched = True
            for name, value in self._values():
                if settings.read(name) is not None:
                    settings.write(name, value)

    def undo(self, at: At) -> None:
        if self._switched:
            StopForwarding6(self.tag, self.before).apply(at)


class StopForwarding6(Step):
    """Forward no IPv6 again, unless another data root's networks need it; interfaces that had it on by themselves have it on again, and
    router advertisements are believed as they were."""

    title = NETWORK
    why = "as it was before the first network"

    def __init__(self, tag: str, before: dict[str, str]) -> None:
        self.tag = tag
        alone = [name for name, value in before.items() if value == "1" and name == _FORWARDING6.format(name.split("/")[3])]
        believed = [(_ACCEPT_RA.format(link), "1") for link in _advertised(before)]
        self.values = [(FORWARDING_OF_ALL6, "0"), *((name, "1") for name in alone), *believed]

    def shell(self) -> str:
        return "\n".join(f"sysctl -q -w {name}={value}" for name, value in self.values)

    def apply(self, at: At) -> None:
        if firewall.guarded_by_others(self.tag)[1]:
            return
        for name, value in self.values:
            if settings.read(name) is not None:  # the interface is there
                settings.write(name, value)
