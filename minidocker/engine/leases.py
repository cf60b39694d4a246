"""What a container takes for itself before it is: addresses in its networks, and ports of the host. All in the transaction that
records it, so that of two who want the same the second is refused, and nothing has happened.
"""

from __future__ import annotations

from minidocker.engine.host import Host
from minidocker.errors import ConflictError, UsageError
from minidocker.network import inside, ipam
from minidocker.spec.records import BRIDGE, MACVLAN, PTP, Endpoint, Network, Port
from minidocker.spec.request import DEFAULT_NETWORK, Attachment, NetworkRequest, RunRequest
from minidocker.storage import containers, networks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minidocker.network import ownership
    from minidocker.network.ptp import Peer


class Link:
    """A container's place in one network. `made`: this run made the network; `default`: its gateway gives the default route, `default6`:
    that of IPv6; `ready`: how the bridge is; `peer`: the other container of a ptp network."""

    __slots__ = ("default", "default6", "endpoint", "made", "network", "peer", "ready")

    def __init__(
        self, network: Network, endpoint: Endpoint, made: bool = False, default: bool = False, default6: bool = False
    ) -> None:
        self.network = network
        self.endpoint = endpoint
        self.made = made
        self.default = default
        self.default6 = default6
        self.ready: ownership.Ready | None = None
        self.peer: Peer | None = None


class Owner:
    """The container that takes: `previous` what it had before (network name -> address), to be had again where it is free; `ports` those
    that were kept for it."""

    __slots__ = ("generation", "hostname", "id", "name", "ports", "previous")

    def __init__(
        self, id: str, name: str, generation: int = 1, hostname: str | None = None, previous: dict[str, str] | None = None,
        ports: list[Port] | None = None,
    ) -> None:  # fmt: skip
        self.id = id
        self.name = name
        self.generation = generation
        self.hostname = hostname
        self.previous = previous or {}
        self.ports = ports or []


def again(host: Host, record: containers.Record, generation: int, hostname: str | None) -> Owner:
    """The owner of a container that is to take anew: what one that is only created has kept so far is free from here on, and its again."""
    if record.status != containers.CREATED:
        return Owner(record.id, record.name, generation, hostname, record.addresses)
    places = containers.endpoints(host.state, record).get(record.id, [])
    ports = containers.ports(host.state, record).get(record.id, [])
    containers.release(host.state, record.id)
    return Owner(record.id, record.name, generation, hostname, {place.network: place.ip for place in places}, ports)


def reserve(host: Host, record: containers.Record) -> None:
    """Keep for a container that is only created what its request asks for now, in place of what it had. Raises what is taken."""
    if record.status == containers.CREATED:
        take(host, record.request, again(host, record, record.generation, record.request.hostname))


def take(host: Host, request: RunRequest, owner: Owner) -> list[Link]:
    """Take an address in each of its networks and the host ports. Raises what is taken."""
    links: list[Link] = []
    for number, attachment in enumerate(request.networks):
        network, made = _find(host, attachment.name)
        if any(link.network.name == network.name for link in links):
            raise UsageError(f"network `{network.name}` is given twice, by name and by id", "leave one out")
        links.append(Link(network, lease(host, network, attachment, owner, number), made))
    _choose_default(links)
    if request.publish or request.publish_all:
        _take_ports(host, request, owner, links)
    return links


def _find(host: Host, name: str) -> tuple[Network, bool]:
    """The network, and whether it was made for this: the default one is, on first use."""
    network = networks.get(host.state, name)
    if network is not None:
        return network, False
    if name != DEFAULT_NETWORK:
        return networks.find(host.state, name, DEFAULT_NETWORK), False
    from minidocker.engine.design import designed

    network = designed(host, NetworkRequest(DEFAULT_NETWORK))
    networks.insert(host.state, network)
    return network, True


def lease(host: Host, network: Network, asked: Attachment, owner: Owner, number: int, connecting: bool = False) -> Endpoint:
    """Take an address in one network, for interface `number`. Raises ConflictError when it is taken, or the network is full."""
    state = host.state
    if network.driver == PTP and containers.count_in(state, network.name) >= 2:
        raise ConflictError(f"network `{network.name}` joins two containers, and has two",
                            "it is one cable; for more there is: minidocker network create NAME")
    ip = ipam.check_address(network.subnet, network.gateway, asked.ip) if asked.ip else _free(host, network, asked, owner)
    if asked.ip in _strangers(network):
        raise ConflictError(f"address {asked.ip} is this host's own on `{network.parent}`", "take another, or leave --ip out")
    ip6 = _address6(network, asked, ip)
    aliases = list(asked.aliases)
    if owner.hostname and owner.hostname != owner.name:
        aliases.append(owner.hostname)
    mac = asked.mac or ipam.mac_of(ip)
    endpoint = Endpoint(network.name, owner.id, owner.name, ip, mac, owner.generation, aliases, None, f"eth{number}", ip6, asked.priority)
    containers.add_endpoint(state, endpoint, connecting)
    return endpoint


def _free(host: Host, network: Network, asked: Attachment, owner: Owner) -> str:
    """The address it had before where nobody has it, else the next free one; passed over what goes with a MAC or an IPv6 address that
    somebody chose."""
    state = host.state
    taken = containers.taken(state, network.name, "ip") | _strangers(network)
    macs = set() if asked.mac else containers.taken(state, network.name, "mac")
    ip6s = set() if asked.ip6 or not network.subnet6 else containers.taken(state, network.name, "ip6")

    def fits(ip: str) -> bool:
        return ipam.mac_of(ip) not in macs and (not ip6s or _address6(network, asked, ip) not in ip6s)

    previous = owner.previous.get(network.name, "")
    if previous and previous not in taken and ipam.usable(network.subnet, network.gateway, network.ip_range, previous) and fits(previous):
        return previous
    ip = networks.last_ip(state, network.name)
    while not fits(ip := ipam.allocate(network.subnet, taken, ip, network.gateway, network.ip_range)):
        taken.add(ip)
    return ip


def _strangers(network: Network) -> set[str]:
    """On a wire that is not ours: the host's own addresses. Who else is there the user says, by --ip-range."""
    if network.driver != MACVLAN:
        return set()
    from minidocker.network.macvlan import Parent

    return set(Parent(network.parent).addresses)


def _address6(network: Network, asked: Attachment, ip: str) -> str:
    if not network.subnet6:
        if asked.ip6:
            raise UsageError(f"network `{network.name}` has no IPv6 for --ip6 {asked.ip6}",
                             "minidocker network create --ipv6 NAME makes one")
        return ""
    from minidocker.network import ipam6

    if asked.ip6:
        return ipam6.check_address(network.subnet6, network.gateway6, asked.ip6)
    return ipam6.of_container(network.subnet6, ip)


def _choose_default(links: list[Link]) -> None:
    out = [link.endpoint for link in links if inside.leads_out(link.network)]
    way_out, way_out6 = containers.default(out), containers.default([endpoint for endpoint in out if endpoint.ip6])
    for link in links:
        link.default, link.default6 = link.endpoint is way_out, link.endpoint is way_out6


def publisher(links: list[Link]) -> Link:
    """The link by which ports are published: what answers comes back by the default route. Raises UsageError where that is no bridge."""
    for link in links:
        if link.default and link.network.driver == BRIDGE:
            return link
    names = ", ".join(f"`{link.network.name}` is {_kind(link.network)}" for link in links)
    raise UsageError(f"-p needs a bridge network with a way out for the default route, and {names or 'there is no network'}",
                     "leave out -p, or add --net br0 (and gw-priority= where another gives the default route)")


def _kind(network: Network) -> str:
    if network.driver == PTP:
        return "a cable between two containers"
    if network.driver == MACVLAN:
        return "on a wire where all its ports are reached anyway"
    return "internal" if network.internal else "a bridge"


def _take_ports(host: Host, request: RunRequest, owner: Owner, links: list[Link]) -> None:
    from minidocker.engine.ports import chosen

    link = publisher(links)
    link.endpoint.ports = chosen(host, owner.ports or wanted(request), link.endpoint)
    containers.add_ports(host.state, owner.id, link.endpoint.ports)


def wanted(request: RunRequest) -> list[Port]:
    """The ports to publish: those asked for, and with -P those that are exposed and not asked for."""
    if not request.publish_all:
        return request.publish
    asked = {(port.container_port, port.protocol) for port in request.publish}
    return request.publish + [Port(0, number, "", protocol) for number, protocol in request.expose if (number, protocol) not in asked]
