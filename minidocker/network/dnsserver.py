"""A network's name server: one process with one loop, on the bridge's gateway address (see `dns` for what it answers).

    client ──UDP──► _datagrams ──┬─► dns.answer(hosts files) ──► client
    client ──TCP──► Connection ──┤
                                 └─► Forward, StreamForward ──► a resolver of the host's ──► client

It must stay light, as there is one for every network: it imports nothing else of ours. Nothing tells it of a change: on each query it
looks (stat) whether the hosts files and the host's resolv.conf are still those that it has read. It keeps nothing that a restart would
lose, and logs nowhere. Whatever a client does costs only that client: everything it may hold is counted, and given up after a while.
"""

from __future__ import annotations

import _signal
import errno
import fcntl
import os
import select
import time
from _socket import AF_INET, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_STREAM, socket

from minidocker.network import dns
from minidocker.network.dnsforward import Forward, StreamForward
from minidocker.network.dnshosts import File, Networks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    Handler = Callable[[int], None]  # is given poll(2)'s events

RESOLV_CONF = "/etc/resolv.conf"
_RESOLVERS = 3  # MAXNS of resolv.conf(5)

_FORWARDS = 512
_CONNECTIONS = 64
_SPARE = 16  # descriptors for everything else
_BURST = 32  # messages from one source before the others have their turn
_IDLE = 10.0  # seconds for a TCP client to send its next query, and to take its answer
_TICK = 0.1  # how late a deadline may be noticed


class Connection:
    """A client by TCP: queries and answers, each after its length in two bytes (RFC 1035, 4.2.2), answered in the order in which they
    came. No more is read from it while an answer is waited for, or waits for it."""

    __slots__ = ("_ended", "_forward", "_inbox", "_outbox", "_server", "_socket", "deadline", "source")

    def __init__(self, server: Server, connection: socket, source: str) -> None:
        self._server = server
        self._socket = connection
        self._inbox, self._outbox = bytearray(), bytearray()
        self._forward: Forward | None = None
        self._ended = False
        self.source = source
        self.deadline = time.monotonic() + _IDLE
        server.connections[self] = None
        server.watch(connection, self.ready, select.POLLIN)

    def ready(self, events: int) -> None:
        if self not in self._server.connections:
            return
        if events & (select.POLLERR | select.POLLHUP):
            self.close()
            return
        try:
            if events & select.POLLIN:
                data = self._socket.recv(dns.LARGEST)
                self._ended = not data
                self._inbox += data
            self._proceed()
        except BlockingIOError:
            return
        except OSError:
            self.close()

    def _proceed(self) -> None:
        """Answer what has come, as far as that goes, then wait for what stands in the way."""
        for _ in range(_BURST):
            if self._forward or len(self._outbox) > dns.LARGEST or (packet := dns.unframed(self._inbox)) is None:
                break
            self._consider(packet)
            if self not in self._server.connections:
                return
        if self._outbox:
            try:
                del self._outbox[: self._socket.send(self._outbox)]
            except BlockingIOError:
                pass
        if self._outbox or (not self._forward and dns.is_whole(self._inbox)):
            waits = select.POLLOUT
        elif self._forward:
            waits = 0
        elif self._ended:
            self.close()
            return
        else:
            waits = select.POLLIN
        self._server.poll.modify(self._socket, waits)

    def _consider(self, packet: bytes) -> None:
        self.deadline = time.monotonic() + _IDLE
        outcome = self._server.decide(packet, self.source, dns.LARGEST)
        if outcome is None:
            self.close()  # it would take the answer to its next query for the one that is missing
        elif isinstance(outcome, bytes):
            self._outbox += dns.framed(outcome)
        else:
            self._forward = StreamForward(self._server, packet, outcome, self.source, self._answered)
            self._forward.advance()

    def _answered(self, packet: bytes) -> None:
        """The forward's reply; it may come while `_proceed` is at work."""
        self._forward = None
        self.deadline = time.monotonic() + _IDLE
        self._outbox += dns.framed(packet)
        self._server.poll.modify(self._socket, select.POLLOUT)

    def drop(self) -> None:
        """Room is needed for another."""
        self.close()

    def close(self) -> None:
        if self._forward:
            self._forward.close()
        self._server.forget(self._socket)
        self._server.connections.pop(self, None)


def _make_room(held: Sequence[Forward | Connection]) -> None:
    """Give up the oldest of whoever has the most: one client's flood is to be its own loss."""
    counts: dict[str, int] = {}
    for one in held:
        counts[one.source] = counts.get(one.source, 0) + 1
    busiest = max(counts, key=counts.__getitem__)
    next(one for one in held if one.source == busiest).drop()


class Server:
    """`gateway` is where it serves, `subnets` whom; an `internal` one forwards nothing; `udp` is bound, `tcp` listens."""

    def __init__(self, networks: Networks, gateway: str, subnets: list[dns.Subnet], internal: bool, udp: socket, tcp: socket) -> None:
        self.poll = select.poll()
        self.forwards: dict[Forward, None] = {}  # the oldest first
        self.connections: dict[Connection, None] = {}
        self.silent: set[str] = set()  # resolvers that let the last query to them go by
        self._handlers: dict[int, Handler] = {}
        self._networks = networks
        self._gateway = gateway
        self._subnets = subnets
        self._internal = internal
        self._udp, self._tcp = udp, tcp
        self._resolv_conf = File(RESOLV_CONF)
        self._resolvers: list[str] = []
        descriptors = os.sysconf("SC_OPEN_MAX")
        self._most_connections = max(1, min(_CONNECTIONS, descriptors // 8))
        self._most_forwards = max(1, min(_FORWARDS, descriptors - _SPARE - self._most_connections))
        self._next_look = 0.0

    def run(self) -> NoReturn:
        self._udp.setblocking(False)
        self._tcp.setblocking(False)
        self.watch(self._udp, self._datagrams, select.POLLIN)
        self.watch(self._tcp, self._clients, select.POLLIN)
        while True:
            waits = self.forwards or self.connections
            ready = self.poll.poll(1000 * _TICK if waits else None)
            # all handlers first: one may close a descriptor, and open another of the same number, before its turn has come
            for handler, events in [(self._handlers[descriptor], events) for descriptor, events in ready]:
                handler(events)
            now = time.monotonic()
            if now >= self._next_look:
                self._next_look = now + _TICK
                self._expire(now)

    def _expire(self, now: float) -> None:
        for forward in [forward for forward in self.forwards if forward.deadline <= now]:
            forward.expire()
        for connection in [connection for connection in self.connections if connection.deadline <= now]:
            connection.close()

    def watch(self, what: socket, handler: Handler, events: int) -> None:
        self._handlers[what.fileno()] = handler
        self.poll.register(what, events)

    def forget(self, what: socket) -> None:
        """Close it, watched or not."""
        if self._handlers.pop(what.fileno(), None):
            self.poll.unregister(what)
        what.close()

    def take(self, forward: Forward) -> None:
        if len(self.forwards) >= self._most_forwards:
            _make_room(list(self.forwards))
        self.forwards[forward] = None

    def resolvers(self) -> list[str]:
        """The host's, but for ourselves: that would be a loop."""
        if self._resolv_conf.refresh():
            self._resolvers = [one for one in dns.nameservers(self._resolv_conf.content) if one != self._gateway][:_RESOLVERS]
            self.silent.clear()
        return self._resolvers

    def decide(self, packet: bytes, source: str, limit: int = 0) -> bytes | dns.Query | None:
        """What to send back to `source` (`limit` bytes at most; 0: as many as it says); a Query is to be forwarded; None: nothing.

        Strangers get nothing (a resolver that is open to all takes part in attacks, RFC 5358). The host's own queries are not forwarded:
        the host has its resolvers, and if we are one of them this would be a loop too.
        """
        client = self._client(source)
        query = dns.parse(packet) if client else None
        if not isinstance(query, dns.Query):
            return query
        found = dns.answer(query, self._networks.tables(client), self._subnets, limit or query.limit)
        if found is None and (self._internal or not self.resolvers()):
            return dns.respond(query, dns.NXDOMAIN)  # musl waits for 5 s on anything else
        if found is None and source == self._gateway:
            return dns.respond(query, dns.REFUSED)
        return found or query

    def _client(self, source: str) -> bytes:
        """The packed address of one whom we serve, b"" for a stranger's."""
        address = dns.packed(source)
        return address if any(dns.inside(address, subnet) for subnet in self._subnets) else b""

    def _datagrams(self, events: int) -> None:
        for _ in range(_BURST):
            try:
                packet, address = self._udp.recvfrom(dns.LARGEST)
            except OSError:  # BlockingIOError: there are no more. Any other is about one packet
                return
            outcome = self.decide(packet, address[0])
            if isinstance(outcome, bytes):
                self._sender(address)(outcome)
            elif outcome is not None:
                Forward(self, packet, outcome, address[0], self._sender(address)).advance()

    def _sender(self, address: tuple[str, int]) -> Callable[[bytes], None]:
        def send(packet: bytes) -> None:
            try:
                self._udp.sendto(packet, address)
            except OSError:  # it is gone, or its packets are dropped, or are too many: as on any wire, it may ask again
                return

        return send

    def _clients(self, events: int) -> None:
        for _ in range(_BURST):
            try:
                descriptor, address = self._tcp._accept()  # type: ignore[attr-defined]
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    time.sleep(0.01)  # the host has run out of something, and poll will say at once that there still is a client
                return
            client = socket(fileno=descriptor)
            client.setblocking(False)
            if not self._client(address[0]):
                client.close()
                continue
            if len(self.connections) >= self._most_connections:
                _make_room(list(self.connections))
            Connection(self, client, address[0])


def serve(arguments: list[str]) -> None:
    """Serve until killed. `arguments`: data root (for whoever looks at ps), directory of the networks' directories, network, gateway,
    subnet, IPv6 subnet or "", 1 when internal, descriptors of the UDP and the TCP socket (or "-" for one that it makes, at port 53), lock
    (see `_hold`)."""
    _, directory, network, gateway, subnet, subnet6, internal, udp, tcp, lock = arguments
    _signal.signal(_signal.SIGTERM, _signal.SIG_DFL)  # whoever asked first may ignore it, and what is ignored is inherited
    _hold(lock)
    subnets = [dns.subnet(text) for text in (subnet, subnet6) if text]
    datagrams, connections = _socket(SOCK_DGRAM, udp, gateway), _socket(SOCK_STREAM, tcp, gateway)
    Server(Networks(directory, network), gateway, subnets, internal == "1", datagrams, connections).run()


def _socket(kind: int, given: str, gateway: str) -> socket:
    if given != "-":
        return socket(fileno=int(given))
    made = socket(AF_INET, kind | SOCK_CLOEXEC)
    made.bind((gateway, 53))
    if kind == SOCK_STREAM:
        made.listen(_CONNECTIONS)
    return made


def _hold(lock: str) -> None:
    """Have a file locked for as long as we live, by which our life is known, and our pid in it. `lock` is a path, or a descriptor that
    came with its lock (that of an open file description, fcntl(2)); where somebody else has the lock, wait for it."""
    if lock.isdigit():
        descriptor = int(lock)
    else:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.lockf(descriptor, fcntl.LOCK_EX)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, b"%d" % os.getpid(), 0)
