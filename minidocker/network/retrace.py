"""network explain: the commands that would make what is there now, read off the kernel and nothing else.

    look ─► Namespace (this host's, each container's) ─► Found ... ─► Plan ─► explain

Each Found is a Step that only speaks: nobody applies what stands already.
"""

from __future__ import annotations

from minidocker.errors import NotFoundError
from minidocker.kernel import netlink_live, nftables, sysctl
from minidocker.network import ruleset
from minidocker.network.forwarding import FORWARDING_OF_ALL6
from minidocker.network.inside import in_there
from minidocker.network.ownership import FAMILY, FRAMES, table
from minidocker.plan import NETWORK, Plan, Step, quote
from minidocker.spec import config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from minidocker.kernel.netlink_live import Interface, Namespace
    from minidocker.spec.records import Network


class Found(Step):
    """Something that is there, as the commands that would make it."""

    title = NETWORK

    def __init__(self, why: str, commands: Sequence[str], pid: int = 0) -> None:
        """`pid`: the process whose namespace it is in, 0 for the host's."""
        self.why = why
        self.commands = [in_there([command]).replace('"$PID"', str(pid)) for command in commands] if pid else list(commands)

    def shell(self) -> str:
        return "\n".join(self.commands)


class Member:
    """A running container: its name, the number of its first process, and what is in its network namespace."""

    def __init__(self, name: str, pid: int, netns: int) -> None:
        self.name = name
        self.pid = pid
        self.inside = netlink_live.look(netns)
        names = [key.replace(".", "/") for key in config.network_sysctls()]
        self.settings = netlink_live.settings(netns, names)


def network(record: Network, tag: str, members: Sequence[Member]) -> Plan:
    """A network with all that is in it: its bridge, if it has one, our tables, and the place of each container. Raises NotFoundError where
    it has a bridge, and that is not there."""
    host = netlink_live.look()
    plan = Plan()
    if record.bridge:
        link = host.by_name(record.bridge)
        if link is None:
            raise NotFoundError(f"network `{record.name}` has no bridge `{record.bridge}` now", "its next container makes it")
        plan += Plan([*_forwarding(host), *_bridge(link), *_tables(tag)])
    laid: set[str] = set()
    places = [(member, one) for member in members for one in member.inside.interfaces if one.name != "lo" and _is_of(record, one, host)]
    # before any interface is: it takes its settings from its namespace's
    plan += Plan(step for member in members if any(member is one for one, _ in places) for step in _itself(member))
    return plan + Plan(step for member, interface in places for step in _place(interface, member, host, members, laid))


def container(member: Member, tag: str, others: Sequence[Member]) -> Plan:
    """A container's whole network: its namespace's settings, lo, and its place in each of its networks, published ports included."""
    host = netlink_live.look()
    steps = _itself(member)
    addresses: set[str] = set()
    ports: set[str] = set()
    for interface in member.inside.interfaces:
        if interface.name == "lo":
            continue
        steps += _place(interface, member, host, [member, *others], set())
        addresses |= {ip for ip, *_ in interface.addresses}
        ends = [end for end in host.interfaces if _meet(end, interface)]
        ports |= {end.name for end in ends}
        bridges = [bridge for end in ends if (bridge := host.by_index(end.master)) is not None]
        local = [_setting(one) for bridge in bridges for one in bridge.settings if one[0].endswith("/route_localnet")]
        steps += [Found("a port published on 127.0.0.1 is answered from the bridge", local)] if local else []
    elements = _elements(tag, addresses | ports)
    return Plan([*steps, *([Found("what our tables hold of it: what it may send, and its published ports", elements)] if elements else [])])


def _is_of(record: Network, interface: Interface, host: Namespace) -> bool:
    """Whether a container's interface is its place in this network, by what it is joined to and by its address."""
    on = host.by_index(interface.other)
    if record.bridge:
        master = host.by_index(on.master) if on is not None and _meet(on, interface) else None
        return master is not None and master.name == record.bridge
    if record.parent:
        return interface.kind == "macvlan" and on is not None and on.name == record.parent
    if interface.kind != "veth" or (on is not None and _meet(on, interface) and on.master):
        return False
    from minidocker.network import ipam

    return any(ipam.overlap(f"{ip}/32", [ipam.Occupied(record.subnet, "")]) is not None for ip, *_ in interface.addresses if ":" not in ip)


def _bridge(link: Interface) -> list[Step]:
    name = quote(link.name)
    made = [f"ip link add {name} address {link.mac} type bridge",
            f"ip link set {name} alias {quote(link.alias)} mtu {link.mtu} group {link.group}"]  # fmt: skip
    return [
        Found("a switch, tagged as ours; its MAC is pinned, it would follow its ports'", made),
        Found("its settings, where they are not the defaults", list(map(_setting, link.settings))),
        Found("this host is the network's gateway", [*_addresses(link), *([f"ip link set {name} up"] if link.is_up else [])]),
    ]


def _tables(tag: str) -> list[Step]:
    name = table(tag)
    listed = [nftables.list_table(family, name) for family in (FAMILY, FRAMES) if nftables.table_exists(family, name)]
    why = "masquerade outward; let nobody in from outside, between networks, or through this host"
    return [Found(why, [f"nft -f - <<< {quote(''.join(listed))}"])] if listed else []


def _forwarding(host: Namespace) -> list[Step]:
    """What of the host besides our own links forwards, or listens to routers, otherwise than a new interface would."""
    ipv6 = [(name, value) for name in (FORWARDING_OF_ALL6, "net/ipv6/conf/default/forwarding") if (value := sysctl.read(name)) is not None]
    wide = ipv6 if ipv6 and ipv6[0][1] == "1" else []
    for interface in host.interfaces:
        if interface.name != "lo" and not interface.alias.startswith("minidocker:"):
            own = f"net/ipv6/conf/{interface.name}/forwarding"  # the setting of all has just changed it
            wide += [(own, sysctl.read(own) or "0")] if wide else []
            wide += [one for one in interface.settings if one[0].endswith(("/forwarding", "/accept_ra")) and one[0] != own]
    return [Found("who forwards, besides, and who listens to routers", list(map(_setting, wide)))] if wide else []


def _itself(member: Member) -> list[Step]:
    """The settings of a container's namespace, and lo."""
    lo = member.inside.by_name("lo")
    changed = [one for one in lo.settings if one[0].endswith("/disable_ipv6")] if lo else []
    commands = [*map(_setting, [*member.settings, *changed]), *(["ip link set lo up"] if lo and lo.is_up else [])]
    return [Found(f"the network namespace of `{member.name}`: its settings, and itself", commands, member.pid)]


def _place(interface: Interface, member: Member, host: Namespace, members: Sequence[Member], laid: set[str]) -> list[Step]:
    """How an interface of a container is joined to something, and how it is set. `laid`: MACs of cables that are there already."""
    steps = _joint(interface, member, host, members) if interface.mac not in laid else []
    laid |= {end.mac for one in members for end in one.inside.interfaces if _meet(end, interface)}
    name = quote(interface.name)
    commands = [f"ip link set {name} alias {quote(interface.alias)}"] if interface.alias else []
    commands += [*map(_setting, interface.settings), *_addresses(interface), *([f"ip link set {name} up"] if interface.is_up else [])]
    commands += [f"ip neigh replace {ip} lladdr {mac} dev {name} nud permanent" for ip, mac in interface.neighbours]
    for way in member.inside.routes:
        if way.interface == interface.index:
            via, metric = f" via {way.gateway}" if way.gateway else "", f" metric {way.metric}" if way.metric else ""
            commands.append(f"ip {'-6 ' * way.ipv6}route replace {way.to}{via} dev {name}{metric}")
    return [*steps, Found(f"`{interface.name}` of `{member.name}`: its address and the way out", commands, member.pid)]


def _joint(interface: Interface, member: Member, host: Namespace, members: Sequence[Member]) -> list[Step]:
    name, mtu = quote(interface.name), f"mtu {interface.mtu}"
    on = host.by_index(interface.other)
    if interface.kind == "macvlan" and on is not None:
        return [Found("an interface of its own on the host's wire",
                      [f"ip link add {name} {mtu} address {interface.mac} link {quote(on.name)} netns {member.pid} "
                       f"type macvlan mode {interface.macvlan_mode}"])]  # fmt: skip
    far = f"name {name} {mtu} address {interface.mac} netns {member.pid}"
    if on is not None and _meet(on, interface):
        return [Found("a cable: one end here, the other straight in the container's namespace", _host_end(on, far, host)),
                *_neighbours(on, interface, host)]  # fmt: skip
    for other in members:
        end = other.inside.by_index(interface.other)
        if other is not member and end is not None and _meet(end, interface):
            near = f"{quote(end.name)} mtu {end.mtu} address {end.mac} netns {other.pid}"
            return [Found("a cable between the two", [f"ip link add {near} type veth peer {far}"])]
    return [Found("a cable whose other end is in no namespace that is known here", [f"# {name}, a {interface.kind}"])]


def _host_end(end: Interface, far: str, host: Namespace) -> list[str]:
    name = quote(end.name)
    master = host.by_index(end.master)
    of = f" master {quote(master.name)}" if master else ""
    commands = [f"ip link add {name} mtu {end.mtu} address {end.mac}{of} type veth peer {far}",
                f"ip link set {name} alias {quote(end.alias)}" + f" addrgenmode {end.address_mode}" * bool(master)]  # fmt: skip
    commands += map(_setting, end.settings)
    flags = [word for word, on in (("isolated", end.isolated), ("hairpin", end.hairpin)) if on]
    commands += [f"ip link set {name} type bridge_slave {word} on" for word in flags]
    return [*commands, *([f"ip link set {name} up"] if end.is_up else [])]


def _neighbours(end: Interface, interface: Interface, host: Namespace) -> list[Step]:
    bridge = host.by_index(end.master)
    known = [(ip, mac) for ip, mac in bridge.neighbours if mac == interface.mac] if bridge else []
    if bridge is None or not known:
        return []
    commands = [f"ip neigh replace {ip} lladdr {mac} dev {quote(bridge.name)} nud permanent" for ip, mac in known]
    return [Found("who has its addresses, without asking", commands)]


def _meet(end: Interface, other: Interface) -> bool:
    """Whether the two are the ends of one cable. (Indices alone could meet by chance: they are each namespace's own.)"""
    return end.kind == other.kind == "veth" and end.other == other.index and other.other == end.index


def _setting(one: tuple[str, str]) -> str:
    return f"sysctl -qw {quote(f'{one[0]}={one[1]}')}"


def _addresses(interface: Interface) -> list[str]:
    return [f"ip addr add {ip}/{prefix} dev {quote(interface.name)}" + " nodad" * nodad for ip, prefix, nodad in interface.addresses]


def _elements(tag: str, marks: set[str]) -> list[str]:
    """The elements of our tables in which one of `marks`, names of ports and addresses, stands."""
    found = []
    for family in (FAMILY, FRAMES):
        if not nftables.table_exists(family, table(tag)):
            continue
        for item in nftables.list_table_json(family, table(tag)):
            one = item.get("set") or item.get("map") or {}
            for element in one.get("elem", ()):
                words = _words(element)
                if marks & set(words):
                    found.append(ruleset.adding(tag, [f"{one['name']} {{ {_shown(element, _types(one))} }}"], family).rstrip())
    return [f"nft {quote(line)}" for line in found]


def _types(one: dict[str, Any]) -> list[str]:
    types = one.get("type", "")
    return types if isinstance(types, list) else [types]


def _words(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [word for inner in value.values() for word in _words(inner)]
    return [word for inner in value for word in _words(inner)] if isinstance(value, list) else [str(value)]


def _shown(value: Any, types: Sequence[str]) -> str:
    """An element of nft's JSON (libnftables-json(5)) as nft has it typed: key, or key : value of a map."""
    if isinstance(value, list):
        key, target = value
        return f"{_shown(key, types)} : {_shown(target, ())}"
    parts = value.get("concat", [value]) if isinstance(value, dict) else [value]
    kinds = [*types, *[""] * (len(parts) - len(types))]
    return " . ".join(nftables.quoted(str(part)) if kind == "ifname" else str(part) for part, kind in zip(parts, kinds, strict=True))
