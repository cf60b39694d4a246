"""How one container is joined to the world: its lease and ports, its network plan, its hosts, hostname and resolv.conf.

The engine's side of network/: records and state here, plans there.
"""

from __future__ import annotations

import os

from minidocker.engine.host import Host
from minidocker.engine.prepare import Prepared
from minidocker.errors import MinidockerError, NotFoundError, StateError
from minidocker.network import endpoint, ipam, names, ownership
from minidocker.plan import FILESYSTEM, At, Plan, Step, quote
from minidocker.spec.records import Endpoint, Network, Port
from minidocker.spec.request import NetworkRequest
from minidocker.storage import containers, networks, rootfs

DEFAULT_NETWORK = "br0"


class Link:
    """A container's place in a network: both None for --net none, host and container:NAME. `made`: this run made the network."""

    __slots__ = ("endpoint", "made", "network", "ready")

    def __init__(self, network: Network | None, endpoint: Endpoint | None, made: bool) -> None:
        self.network = network
        self.endpoint = endpoint
        self.made = made
        self.ready: ownership.Ready | None = None


def register(host: Host, prepared: Prepared, name: str) -> Link:
    """Inside the transaction that records the container: take an address and the host ports. Raises what is taken."""
    request, state = prepared.request, host.state
    if prepared.around.netns != "" or request.network == "none":
        return Link(None, None, False)
    network = networks.get(state, request.network)
    made = network is None and request.network == DEFAULT_NETWORK
    if network is None:
        network = _designed(host) if made else networks.find(state, request.network, DEFAULT_NETWORK)
    if request.ip:
        ip = ipam.check_address(network.subnet, network.gateway, request.ip)
    else:
        taken = containers.taken_ips(state, network.name)
        ip = ipam.allocate(network.subnet, taken, networks.last_ip(state, network.name), network.gateway)
        macs = set() if request.mac_address else containers.taken_macs(state, network.name)
        while ipam.mac_of(ip) in macs:  # somebody chose the MAC that goes with this address
            taken.add(ip)
            ip = ipam.allocate(network.subnet, taken, ip, network.gateway)
    ports: list[Port] = []
    if request.publish:
        from minidocker.engine.ports import chosen

        ports = chosen(host, request.publish)
    if made:
        networks.insert(state, network)
    aliases = list(request.network_aliases)
    if request.hostname and request.hostname != name:
        aliases.append(request.hostname)
    place = Endpoint(network.name, prepared.id, name, ip, request.mac_address or ipam.mac_of(ip), 1, aliases, ports)
    containers.add_endpoint(state, place)
    containers.add_ports(state, prepared.id, ports)
    return Link(network, place, made)


def _designed(host: Host) -> Network:
    from minidocker.engine import networks as management

    return management.designed(host, NetworkRequest(DEFAULT_NETWORK))


def bring_up(host: Host, link: Link) -> Plan:
    """Make the network's bridge where it is missing; returns what was done for it."""
    if link.network is None:
        return Plan()
    link.ready = ownership.ready(link.network, host.tag)
    if link.ready.complete:
        return Plan()
    from minidocker.engine import networks as management  # only for the first container of a network

    link.ready, plan = management.bring_up(host, link.network)
    return plan


def planned_up(host: Host, link: Link) -> Plan:
    """What `bring_up` would do."""
    if link.network is None:
        return Plan()
    from minidocker.engine import networks as management
    from minidocker.network import bridge

    plan, _ = management.planned_up(host, link.network)
    link.ready = ownership.ready(link.network, host.tag)
    link.ready.mtu = link.ready.mtu or bridge.observed(link.network, host.tag).mtu  # what the bridge will have
    return plan


def plan(host: Host, prepared: Prepared, link: Link) -> Plan:
    """The steps for the container's new network namespace."""
    if link.network is not None and link.endpoint is not None:
        return endpoint.attach(link.network, host.tag, link.endpoint, link.ready)
    return endpoint.loopback() if prepared.around.netns == "" else Plan()


def disconnect(host: Host, record: containers.Record) -> None:
    """Take back what of the container's network does not go with its namespace. Idempotent."""
    for place in containers.endpoints(host.state, record).get(record.id, []):
        names.remove(host.names_directory(place.network), record.id)
        network = networks.get(host.state, place.network)
        if network is not None:
            endpoint.detach(network, host.tag, place).run(At())


def unmake(host: Host, link: Link) -> list[str]:
    """Remove the network that a failed run had made on first use, unless somebody else is in it by now; returns what went wrong."""
    if link.network is None:
        return []
    from minidocker.engine import networks as management

    try:
        management.remove(host, link.network.name)
    except (NotFoundError, StateError):
        return []  # gone already, or in use
    except MinidockerError as error:
        return [str(error)]
    return []


# --- hosts, hostname, resolv.conf ---------------------------------------------------------------------------------------------------------


def name_files(host: Host, prepared: Prepared, link: Link) -> dict[str, str]:
    """Say in `prepared` which files are bound over the container's three; returns host path -> text of those that are its own.

    In a network all share one hosts file, so that a new name costs the same however many there are; it is read-only, or one
    container could rename the others.
    """
    request, directory = prepared.request, host.data_directory(prepared.id)
    own = {f"{directory}/hostname": prepared.around.hostname + "\n"}
    if prepared.joins is not None:
        joined = host.data_directory(prepared.joins.id)
        three = ((f"{joined}/hosts", "/etc/hosts"), (f"{joined}/resolv.conf", "/etc/resolv.conf"))
        paths = [(path, destination) for path, destination in three if os.path.exists(path)]
        if prepared.joins.request.network not in ("none", "host") and not os.path.exists(f"{joined}/hosts"):
            paths.append((hosts_path(host, prepared.joins), "/etc/hosts"))
        prepared.around.files = [(f"{directory}/hostname", "/etc/hostname", False), *((a, b, True) for a, b in paths)]
        return own
    own[f"{directory}/resolv.conf"] = _resolv_conf(host, prepared)
    if link.network is not None:
        private = f".{prepared.id}" if request.add_hosts else ""
        hosts, shared = f"{host.names_directory(link.network.name)}/{names.HOSTS}{private}", True
    else:
        hosts, shared = f"{directory}/hosts", False
        on_host = request.network == "host"
        text = _read("/etc/hosts") if on_host else names.hosts_header()
        own[hosts] = text + "".join(f"{ip}\t{name}\n" for name, ip in request.add_hosts)
    prepared.around.files = [
        (hosts, "/etc/hosts", shared), (f"{directory}/hostname", "/etc/hostname", False),
        (f"{directory}/resolv.conf", "/etc/resolv.conf", False),
    ]  # fmt: skip
    return own


def hosts_path(host: Host, record: containers.Record) -> str:
    private = f".{record.id}" if record.request.add_hosts else ""
    return f"{host.names_directory(record.request.network)}/{names.HOSTS}{private}"


def files(host: Host, prepared: Prepared, link: Link) -> Plan:
    """The container's directory, its own files, and its name in its network's hosts file."""
    steps: list[Step] = [] if prepared.request.rootfs else [rootfs.MakeSkeleton(prepared.view.lower)]
    steps.append(MakeFiles(host.data_directory(prepared.id), name_files(host, prepared, link)))
    if link.network is not None and link.endpoint is not None:
        steps.append(AddName(host.names_directory(link.network.name), link.endpoint, prepared.request.add_hosts))
    return Plan(steps)


def _resolv_conf(host: Host, prepared: Prepared) -> str:
    request = prepared.request
    text = _read("/etc/resolv.conf")
    if request.network == "host" and not (request.dns or request.dns_search or request.dns_options):
        return text
    made, dropped = names.resolv_conf(text, _read("/run/systemd/resolve/resolv.conf"), request.dns, request.dns_search, request.dns_options)
    if dropped and "nameserver" not in made and request.network != "none":
        host.notice(f"the host's nameserver {', '.join(dropped)} cannot be reached from a container, which so has none; --dns gives it one")
    return made


def _read(path: str) -> str:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


class MakeFiles(Step):
    """The container's own directory and files; its record says what to remove."""

    title = FILESYSTEM
    why = "the container's own layer of the file system, and its files"

    def __init__(self, directory: str, files: dict[str, str]) -> None:
        self.directory = directory
        self.files = files

    def shell(self) -> str:
        lines = [f"mkdir -p {quote(self.directory)}/upper {quote(self.directory)}/work"]
        return "\n".join(lines + [f"printf %s {quote(text)} > {quote(path)}" for path, text in self.files.items()])

    def apply(self, at: At) -> None:
        rootfs.make_layers(self.directory)
        for path, text in self.files.items():
            with open(path, "wb", buffering=0) as file:
                file.write(text.encode())
                os.fchmod(file.fileno(), 0o644)


class AddName(Step):
    """The container's line in the hosts file of its network."""

    title = FILESYSTEM
    why = "its neighbours find it by name from here on"

    def __init__(self, directory: str, place: Endpoint, add_hosts: list[tuple[str, str]]) -> None:
        self.directory = directory
        self.id = place.container_id
        self.line = names.hosts_line(place.ip, place.container_name, place.aliases, place.container_id)
        self.add_hosts = add_hosts

    def shell(self) -> str:
        hosts = quote(f"{self.directory}/{names.HOSTS}")
        header = names.hosts_header()
        lines = [f"mkdir -p {quote(self.directory)}", f"[ -e {hosts} ] || printf %s {quote(header)} > {hosts}"]
        if self.add_hosts:
            others = f"tail -n +{header.count(chr(10)) + 1} {hosts}"
            lines.append(f"{{ printf %s {quote(names.hosts_header(self.add_hosts))}; {others}; }} > {hosts}.{self.id}")
        return "\n".join([*lines, f"printf %s {quote(self.line)} | tee -a {hosts}* > /dev/null"])

    def apply(self, at: At) -> None:
        names.create(self.directory)
        if self.add_hosts:
            names.create_private(self.directory, self.id, self.add_hosts)
        names.add(self.directory, self.line)
