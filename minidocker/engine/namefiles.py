"""A container's hosts, hostname and resolv.conf, and its lines in the hosts files of its networks.

In one network all containers share one hosts file, so that a new name costs the same however many there are; it is read-only, or one
could rename the others. Who is in several, or has --add-host, has a file of its own, which is the same file (a hard link) in each of
its networks, where whoever comes and goes is written into it, too.
"""

from __future__ import annotations

import os

from minidocker.engine.host import Host
from minidocker.engine.leases import Link
from minidocker.engine.prepare import Prepared
from minidocker.network import names
from minidocker.plan import FILESYSTEM, At, Plan, Step, inline, quote
from minidocker.spec.records import BRIDGE
from minidocker.spec.request import RunRequest
from minidocker.storage import containers, rootfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minidocker.spec.records import Endpoint, Network


def bind(host: Host, prepared: Prepared, links: list[Link]) -> dict[str, str]:
    """Say in `prepared` which files are bound over the container's three; returns host path -> text of those that are its own."""
    request, directory = prepared.request, host.data_directory(prepared.id)
    own = {f"{directory}/hostname": prepared.around.hostname + "\n"}
    hostname = (f"{directory}/hostname", "/etc/hostname", False)
    if prepared.joins is not None:
        prepared.around.files = [hostname, *_of_another(host, prepared.joins)]
        return own
    own[f"{directory}/resolv.conf"] = resolv_conf(host, request, [(link.network, link.default) for link in links])
    if links:
        hosts, shared = hosts_path(host, prepared.id, request), True
    else:
        hosts, shared = f"{directory}/hosts", False
        text = _read("/etc/hosts") if request.mode == "host" else names.hosts_header()
        own[hosts] = text + "".join(f"{ip}\t{name}\n" for name, ip in request.add_hosts)
    prepared.around.files = [(hosts, "/etc/hosts", shared), hostname, (f"{directory}/resolv.conf", "/etc/resolv.conf", False)]
    return own


def _of_another(host: Host, joined: containers.Record) -> list[tuple[str, str, bool]]:
    """The hosts and resolv.conf of the container whose network is joined."""
    directory = host.data_directory(joined.id)
    hosts = f"{directory}/hosts" if os.path.exists(f"{directory}/hosts") else _hosts_of(host, joined)
    paths = ((hosts, "/etc/hosts"), (f"{directory}/resolv.conf", "/etc/resolv.conf"))
    return [(path, destination, True) for path, destination in paths if os.path.exists(path)]


def _hosts_of(host: Host, record: containers.Record) -> str:
    own = f"{host.run_directory(record.id)}/{names.HOSTS}"
    return own if os.path.exists(own) else f"{host.names_directory(record.request.network)}/{names.HOSTS}"


def hosts_path(host: Host, id: str, request: RunRequest) -> str:
    """The hosts file of a container in a network."""
    if _has_own(request):
        return f"{host.run_directory(id)}/{names.HOSTS}"
    return f"{host.names_directory(request.network)}/{names.HOSTS}"


def _has_own(request: RunRequest) -> bool:
    return bool(request.add_hosts) or len(request.networks) > 1


def plan(host: Host, prepared: Prepared, links: list[Link]) -> Plan:
    """The container's directory, its volumes, its own files, and its names in its networks' hosts files."""
    steps: list[Step] = [] if prepared.request.rootfs else [rootfs.MakeSkeleton(prepared.view.lower)]
    if prepared.request.mounts:
        from minidocker.engine import volumes

        steps += volumes.plan(host, prepared.id, prepared.request, prepared.view).steps
    steps.append(MakeFiles(host.data_directory(prepared.id), bind(host, prepared, links)))
    if links and _has_own(prepared.request):
        directories = [host.names_directory(link.network.name) for link in links]
        steps.append(OwnHosts(hosts_path(host, prepared.id, prepared.request), directories, prepared.id, prepared.request.add_hosts))
    steps += [AddName(host.names_directory(link.network.name), link.endpoint) for link in links]
    return Plan(steps)


def resolv_conf(host: Host, request: RunRequest, members: list[tuple[Network, bool]]) -> str:
    """Its text: the DNS of a bridge network, best of that which gives the default route (`members`: network, whether it does). With --dns,
    and without such a network, the servers that can be reached."""
    text = _read("/etc/resolv.conf")
    if request.mode == "host" and not (request.dns or request.dns_search or request.dns_options):
        return text
    bridges = sorted((member for member in members if member[0].driver == BRIDGE), key=lambda member: (not member[1], member[0].internal))
    dns = request.dns or [network.gateway for network, _ in bridges[:1]]
    made, dropped = names.resolv_conf(text, _read("/run/systemd/resolve/resolv.conf"), dns, request.dns_search, request.dns_options)
    if bridges and not request.dns and "ndots:" not in made:
        made += "options ndots:0\n"  # a neighbour's name is asked for as it is, not first in every search domain
    if dropped and "nameserver" not in made and request.mode != "none":
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
        self.needs = [(f"[ ! -e {quote(directory)} ]", "this container is there already")]

    def shell(self) -> str:
        lines = [f"mkdir -p {quote(self.directory)}/upper {quote(self.directory)}/work", f"chmod 700 {quote(self.directory)}"]
        return "\n".join(lines + [f"printf %s {inline(text)} > {quote(path)}" for path, text in self.files.items()])

    def apply(self, at: At) -> None:
        rootfs.make_layers(self.directory)
        for path, text in self.files.items():
            with open(path, "wb", buffering=0) as file:
                file.write(text.encode())
                os.fchmod(file.fileno(), 0o644)


class OwnHosts(Step):
    """A hosts file for one container alone, which gets the lines of all its networks."""

    title = FILESYSTEM
    why = "a hosts file of its own, as no other is in just these networks"

    def __init__(self, path: str, directories: list[str], id: str, add_hosts: list[tuple[str, str]]) -> None:
        self.path = path
        self.directories = directories
        self.id = id
        self.add_hosts = add_hosts

    def shell(self) -> str:
        header = inline(names.hosts_header())
        lines = [f"mkdir -p {quote(os.path.dirname(self.path))} {' '.join(map(quote, self.directories))}"]
        lines += [f"[ -e {quote(d)}/{names.HOSTS} ] || printf %s {header} > {quote(d)}/{names.HOSTS}" for d in self.directories]
        skip = names.hosts_header().count("\n") + 1
        theirs = "; ".join(f"tail -n +{skip} {quote(d)}/{names.HOSTS}" for d in self.directories)
        lines.append(f"{{ printf %s {inline(names.hosts_header(self.add_hosts))}; {theirs}; }} > {quote(self.path)}")
        return "\n".join(lines + [f"ln {quote(self.path)} {quote(d)}/{names.HOSTS}.{self.id}" for d in self.directories])

    def apply(self, at: At) -> None:
        os.makedirs(os.path.dirname(self.path), 0o700, exist_ok=True)
        names.create_private(self.path, self.directories, self.id, self.add_hosts)


class AddName(Step):
    """The container's lines in the hosts file of a network."""

    title = FILESYSTEM
    why = "its neighbours find it by name from here on"

    def __init__(self, directory: str, place: Endpoint) -> None:
        self.directory = directory
        self.lines = names.hosts_lines([place.ip, place.ip6], place.container_name, place.aliases, place.container_id)

    def shell(self) -> str:
        hosts = quote(f"{self.directory}/{names.HOSTS}")
        lines = [f"mkdir -p {quote(self.directory)}", f"[ -e {hosts} ] || printf %s {inline(names.hosts_header())} > {hosts}"]
        return "\n".join([*lines, f"printf %s {inline(self.lines)} | tee -a {hosts}* > /dev/null"])

    def apply(self, at: At) -> None:
        names.create(self.directory)
        names.add(self.directory, self.lines)
