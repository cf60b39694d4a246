"""A network's DNS server as the engine sees it: that there is one while a container is in the network, and none afterwards.

Whoever holds the lock RUN/resolvers/NETWORK has the sockets on the gateway's port 53: a monitor, until the first question comes
(activation.py), or the server (network/dnsserver.py), whose pid is in that file. Where port 53 is somebody else's, they are at another
port, which our table leads questions to.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import time
from _socket import (
    AF_INET,
    SO_REUSEADDR,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
    socket,
)

from minidocker.engine.activation import Activation
from minidocker.engine.host import Host, is_locked, pass_on_lock
from minidocker.errors import KernelError, MinidockerError
from minidocker.kernel import nfset, process
from minidocker.network import ruleset
from minidocker.network.ownership import FAMILY, table
from minidocker.plan import NETWORK, At, Plan, Step, quote
from minidocker.spec.records import BRIDGE
from minidocker.storage import containers, networks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from minidocker.spec.records import Network

DNS_PORT = 53
_BACKLOG = 64
_TRIES = 20  # for a port that is free for UDP and for TCP
_SERVER = "minidocker.network.dnsserver"
_SIGTERM = 15
_SIGKILL = 9
_PATIENCE = 5.0


class Answer(Step):
    """A network's DNS, by whoever has it already or else by this monitor: what it has to watch for is added to `activations`."""

    title = NETWORK
    why = "names are asked for at the gateway's port 53; a monitor starts this with the first question"

    def __init__(self, host: Host, network: Network, short_id: str, activations: list[Activation]) -> None:
        self.host = host
        self.network = network
        self.short_id = short_id
        self.activations = activations

    def shell(self) -> str:
        path = _path(self.host, self.network.name)
        command = " ".join(map(quote, _server(self.host, self.network, "-", "-", path)))
        return f"mkdir -p {quote(os.path.dirname(path))}\nsetsid {command} < /dev/null &> /dev/null &"

    def describe(self) -> str:
        return f"answer for the names of network `{self.network.name}`"

    def apply(self, at: At) -> None:
        activation = ensure(self.host, self.network, self.short_id)
        if activation is not None:
            self.activations.append(activation)


def plan(host: Host, every: Iterable[Network], short_id: str, activations: list[Activation]) -> Plan:
    """For each of the networks whose DNS nobody has yet."""
    return Plan(Answer(host, network, short_id, activations) for network in every
                if network.driver == BRIDGE and not is_answered(host, network))  # fmt: skip


def is_answered(host: Host, network: Network) -> bool:
    """Whether somebody has its DNS: a monitor until the first question comes, or the server."""
    return is_locked(_path(host, network.name))


def ensure(host: Host, network: Network, short_id: str) -> Activation | None:
    """Have the network's DNS answered; returns the sockets for the calling monitor to watch, None where somebody has them already."""
    with _Turn(host):
        path = _path(host, network.name)
        return None if is_locked(path) else _bound(host, network, short_id, pass_on_lock(path))


def _bound(host: Host, network: Network, short_id: str, lock: int) -> Activation:
    directory = host.names_directory(network.name)
    try:
        udp, tcp, port = _bind(network.gateway)
    except OSError as error:
        os.close(lock)
        raise KernelError.of(f"listen for DNS of network `{network.name}` on {network.gateway}", error) from error
    _forget_port(host, network.name, network)  # of one that was killed
    if port != DNS_PORT:
        os.makedirs(directory, mode=0o755, exist_ok=True)
        with open(f"{directory}/port", "wb", buffering=0) as file:
            file.write(b"%d" % port)
        nfset.change(FAMILY, table(host.tag), [ruleset.resolver_element(network, port)])
    return Activation(udp, tcp, lock, f"{directory}/hosts", short_id, _server(host, network, str(udp), str(tcp), str(lock)))


def _server(host: Host, network: Network, udp: str, tcp: str, lock: str) -> list[str]:
    """Its command line (dnsserver.serve)."""
    from minidocker.engine import interpreter

    directory = os.path.dirname(host.names_directory(network.name))
    return [
        *interpreter.command(), _SERVER, "serve", host.root, directory, network.name, network.gateway, network.subnet, network.subnet6,
        str(int(network.internal)), udp, tcp, lock,
    ]  # fmt: skip


def _bind(ip: str) -> tuple[int, int, int]:
    """Descriptors of a UDP and a listening TCP socket on `ip`, and their port: 53, or any other where that is taken."""
    for attempt in range(_TRIES):
        udp, tcp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK), socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK)
        try:
            tcp.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
            udp.bind((ip, DNS_PORT if attempt == 0 else 0))
            port: int = udp.getsockname()[1]
            tcp.bind((ip, port))
            tcp.listen(_BACKLOG)
            return udp.detach(), tcp.detach(), port
        except OSError as error:
            udp.close()
            tcp.close()
            if error.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def settle(host: Host, name: str) -> None:
    """After a container has left network `name`: end its DNS with the last one; start it anew where whoever had it was killed."""
    with _Turn(host):
        path = _path(host, name)
        if not os.path.exists(path):
            return
        network = networks.get(host.state, name)
        if network is not None and containers.is_lively(host.state, name):
            if not is_locked(path) and network.driver == BRIDGE:
                _bound(host, network, "", pass_on_lock(path)).wake()
            return
        _end(host, name, network, path)


class Settle(Step):
    """`settle`, when the container has left."""

    title = NETWORK
    why = "the network's DNS, with its last container"

    def __init__(self, host: Host, name: str) -> None:
        self.host = host
        self.name = name

    def shell(self) -> str:
        path, hosts = quote(_path(self.host, self.name)), quote(f"{self.host.names_directory(self.name)}/hosts")
        return f"[ \"$(grep -c '^[^#]' {hosts})\" -gt 1 ] || {{ kill \"$(cat {path})\" && rm {path}; }}"

    def apply(self, at: At) -> None:
        settle(self.host, self.name)


def elsewhere(host: Host, every: list[Network]) -> dict[str, int]:
    """network name -> port of those DNS that are not at port 53."""
    found = {}
    for network in every:
        port = _port(host, network.name)
        if port and os.path.exists(_path(host, network.name)):
            found[network.name] = port
    return found


def _port(host: Host, name: str) -> int:
    try:
        with open(f"{host.names_directory(name)}/port", "rb", buffering=0) as file:
            return int(file.read() or 0)
    except FileNotFoundError:
        return 0


def _end(host: Host, name: str, network: Network | None, path: str) -> None:
    """A monitor that has the sockets for a container that has left is asked to start the server first: it cannot be ended itself."""
    deadline = time.monotonic() + _PATIENCE
    while is_locked(path):
        server = _pid(path)
        if server:
            _terminate(server)
        elif network is not None and time.monotonic() < deadline:
            _knock(network.gateway, _port(host, name) or DNS_PORT)
            time.sleep(0.005)
        else:
            raise MinidockerError(f"the DNS of network `{name}` does not end: see who has {path} open")
    _forget_port(host, name, network)
    os.unlink(path)


def _forget_port(host: Host, name: str, network: Network | None) -> None:
    port = _port(host, name)
    if port:
        if network is not None:
            nfset.remove(FAMILY, table(host.tag), [ruleset.resolver_element(network, port)])
        os.unlink(f"{host.names_directory(name)}/port")


def _pid(path: str) -> int:
    """The pid of the server that has the lock, 0 where it is none (yet)."""
    with open(path, "rb", buffering=0) as file:
        pid = int(file.read() or 0)
    try:
        with open(f"/proc/{pid}/cmdline", "rb", buffering=0) as file:
            return pid if _SERVER.encode() in file.read().split(b"\0") else 0
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _knock(ip: str, port: int) -> None:
    knocking = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC)
    try:
        knocking.sendto(b"", (ip, port))
    finally:
        knocking.close()


def _terminate(pid: int) -> None:
    try:
        pidfd = process.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        process.pidfd_send_signal(pidfd, _SIGTERM)
        if not poll.poll(_PATIENCE * 1000):  # stopped, say
            process.pidfd_send_signal(pidfd, _SIGKILL)
            poll.poll(_PATIENCE * 1000)
    except ProcessLookupError:
        return
    finally:
        os.close(pidfd)


def _directory(host: Host) -> str:
    return f"{host.run}/resolvers"


def _path(host: Host, name: str) -> str:
    return f"{_directory(host)}/{name}"


class _Turn:
    """One at a time decides who has a network's DNS."""

    __slots__ = ("_directory", "_fd")

    def __init__(self, host: Host) -> None:
        self._directory = _directory(host)

    def __enter__(self) -> None:
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        self._fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._fd)
