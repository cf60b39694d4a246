"""Our own records as plain data: networks, endpoints, published ports. What state.db keeps and network/ is handed."""

from __future__ import annotations


class Port:
    """One published port: `host_ip` ("" is every address), host and container port numbers, protocol tcp|udp|sctp."""

    __slots__ = ("container_port", "host_ip", "host_port", "protocol")

    def __init__(self, host_port: int, container_port: int, host_ip: str = "", protocol: str = "tcp") -> None:
        self.host_ip = host_ip
        self.host_port = host_port
        self.container_port = container_port
        self.protocol = protocol

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Port) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __str__(self) -> str:
        """As docker's `ps` prints it: `0.0.0.0:8080->80/tcp`."""
        return f"{self.host_ip or '0.0.0.0'}:{self.host_port}->{self.container_port}/{self.protocol}"

    __repr__ = __str__


class Network:
    """A network of ours.

    `id` 12 hex digits; `driver` "bridge"; `subnet` "172.17.0.0/24"; `gateway` "172.17.0.1"; `bridge` the interface's name; `mtu` bytes,
    0 to inherit from the uplink; `created` seconds since the epoch.
    """

    __slots__ = ("bridge", "created", "driver", "gateway", "id", "internal", "labels", "mtu", "name", "subnet")

    def __init__(
        self,
        id: str,
        name: str,
        subnet: str,
        gateway: str,
        bridge: str,
        driver: str = "bridge",
        mtu: int = 0,
        internal: bool = False,
        labels: dict[str, str] | None = None,
        created: float = 0.0,
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


class Endpoint:
    """One container's place in one network.

    `generation` counts the container's starts, so that a link name is never one that the kernel has yet to let go of;
    `ip` dotted quad without prefix; `mac` aa:bb:..; `interface` its name inside ("eth0").
    """

    __slots__ = ("aliases", "container_id", "container_name", "generation", "interface", "ip", "mac", "network", "ports")

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

    @property
    def host_link(self) -> str:
        """The name of the veth's end on the host: md, 8 digits of the id, the generation in base 16; at most 15 bytes."""
        return f"md{self.container_id[:8]}{self.generation & 0xFFFF:x}"
