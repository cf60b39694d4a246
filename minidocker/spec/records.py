"""Our own records as plain data: networks, endpoints, published ports. What state.db keeps and network/ is handed."""

from __future__ import annotations

BRIDGE, PTP, MACVLAN = "bridge", "ptp", "macvlan"
DRIVERS = (BRIDGE, PTP, MACVLAN)
MOST_NETWORKS = 16  # a container is in at once: one hexadecimal digit
ANY, ANY4, ANY6 = "", "0.0.0.0", "::"  # a port's address: every one, every IPv4 one, every IPv6 one


class Port:
    """One published port: `host_ip` ("" is every address, IPv4 and IPv6; "0.0.0.0" and "::" every one of a family), host and container
    port numbers, protocol tcp|udp|sctp. In a request `host_port` 0 leaves the choice to us, up to `host_last` from `host_port` on
    where a range was given to choose from."""

    __slots__ = ("container_port", "host_ip", "host_last", "host_port", "protocol")

    def __init__(self, host_port: int, container_port: int, host_ip: str = ANY, protocol: str = "tcp", host_last: int = 0) -> None:
        self.host_ip = host_ip
        self.host_port = host_port
        self.container_port = container_port
        self.protocol = protocol
        self.host_last = host_last

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Port) and self._all() == other._all()

    def __hash__(self) -> int:
        return hash(self._all())

    def _all(self) -> tuple[object, ...]:
        return self.host_ip, self.host_port, self.container_port, self.protocol, self.host_last

    @property
    def is_ipv4(self) -> bool:
        """Whether an IPv4 address is among those it is published on."""
        return ":" not in self.host_ip

    @property
    def is_ipv6(self) -> bool:
        """Whether an IPv6 address may be among them: it is where the container has one."""
        return self.host_ip == ANY or ":" in self.host_ip

    def __str__(self) -> str:
        """As docker's `ps` prints it: `0.0.0.0:8080->80/tcp`."""
        return f"{self.host}:{self.host_port}->{self.container_port}/{self.protocol}"

    @property
    def host(self) -> str:
        """The host's address as it is written before a port: `0.0.0.0`, `[::]`."""
        return f"[{self.host_ip}]" if ":" in self.host_ip else self.host_ip or ANY4

    __repr__ = __str__


class Network:
    """A network of ours.

    `id` 12 hex digits; `driver` one of DRIVERS; `subnet` "172.17.0.0/24"; `gateway` "172.17.0.1", "" for a ptp network; `bridge` the
    interface's name, "" where there is none; `mtu` bytes, 0 to inherit from the uplink; `created` seconds since the epoch; `subnet6`
    and `gateway6` the same for IPv6, "" without; `ip_range` the part of `subnet` that addresses are taken from, "" for all of it;
    `isolated` whether its containers cannot reach each other; `parent` the host's interface under a macvlan network, with its `mode`.
    """

    __slots__ = (
        "bridge", "created", "driver", "gateway", "gateway6", "id", "internal", "ip_range", "isolated", "labels", "mode", "mtu", "name",
        "parent", "subnet", "subnet6",
    )  # fmt: skip

    def __init__(
        self,
        id: str,
        name: str,
        subnet: str,
        gateway: str,
        bridge: str,
        driver: str = BRIDGE,
        mtu: int = 0,
        internal: bool = False,
        labels: dict[str, str] | None = None,
        created: float = 0.0,
        *,
        subnet6: str = "",
        gateway6: str = "",
        ip_range: str = "",
        isolated: bool = False,
        parent: str = "",
        mode: str = "",
    ) -> None:
        self.id = id
        self.name = name
        self.driver = driver
        self.subnet = subnet
        self.gateway = gateway
        self.bridge = bridge
        self.mtu = mtu
        self.internal = internal
        self.labels = labels or {}
        self.created = created
        self.subnet6 = subnet6
        self.gateway6 = gateway6
        self.ip_range = ip_range
        self.isolated = isolated
        self.parent = parent
        self.mode = mode


class Endpoint:
    """One container's place in one network.

    `generation` counts the container's starts, so that a link name is never one that the kernel has yet to let go of; `ip` dotted quad
    and `ip6` (or "") without prefix; `mac` aa:bb:..; `interface` its name inside ("eth0"); `priority` of its gateway against those of
    the container's other networks, the highest giving the default route, and of equals the lowest `interface`'s. `ports` are those
    published through it.
    """

    __slots__ = (
        "aliases", "container_id", "container_name", "generation", "interface", "ip", "ip6", "mac", "network", "ports", "priority",
    )  # fmt: skip

    def __init__(
        self,
        network: str,
        container_id: str,
        container_name: str,
        ip: str,
        mac: str,
        generation: int = 1,
        aliases: list[str] | None = None,
        ports: list[Port] | None = None,
        interface: str = "eth0",
        ip6: str = "",
        priority: int = 0,
    ) -> None:
        self.network = network
        self.container_id = container_id
        self.container_name = container_name
        self.ip = ip
        self.mac = mac
        self.generation = generation
        self.aliases = aliases or []
        self.ports = ports or []
        self.interface = interface
        self.ip6 = ip6
        self.priority = priority

    @property
    def number(self) -> int:
        """Which of the container's interfaces it is: 0 for eth0; at most MOST_NETWORKS - 1."""
        return int(self.interface[3:])

    @property
    def host_link(self) -> str:
        """The name of the veth's end on the host: md, 8 digits of the id, the generation in base 16; for another interface than eth0 its
        number, too. At most 15 bytes."""
        return f"md{self.container_id[:8]}{self.generation & 0xFFF:x}" + (f".{self.number:x}" if self.number else "")
