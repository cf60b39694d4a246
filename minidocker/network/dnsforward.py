"""Queries that are not ours to answer, on their way to the host's own resolvers.

One that is silent, or says that it cannot or will not, is followed by the next, and the last by SERVFAIL: never is a client left waiting.
"""

from __future__ import annotations

import errno
import os
import select
import time
from _socket import AF_INET, AF_INET6, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK, SOCK_STREAM, if_nametoindex, socket

from minidocker.network import dns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minidocker.network.dnsserver import Server

    Address = tuple[str, int] | tuple[str, int, int, int]

_PORT = 53
_PATIENCE = 2.0  # seconds for a resolver
_IMPATIENCE = 0.3  # the same for one that was silent the last time, where there is another


class Forward:
    """One query on its way to the host's resolvers, one after the other, until `reply` gets an answer or SERVFAIL. Each is asked with
    an id and from a port that nobody can guess (RFC 5452), and the kernel passes on only what comes from whom we asked: connect(2)."""

    __slots__ = ("_id", "_packet", "_query", "_reply", "_resolver", "_resolvers", "_server", "_socket", "deadline", "source")
    kind = SOCK_DGRAM

    def __init__(self, server: Server, packet: bytes, query: dns.Query, source: str, reply: Callable[[bytes], None]) -> None:
        self._server = server
        self._packet = packet
        self._query = query
        self._reply = reply
        self._resolvers = list(server.resolvers())
        self._socket: socket | None = None
        self.source = source
        server.take(self)

    def advance(self) -> None:
        """Ask the next resolver. One that cannot be reached is as good as one that refuses."""
        self._hang_up()
        while self._resolvers:
            self._resolver = self._resolvers.pop(0)
            self._id = os.urandom(2)
            hurry = self._resolvers and self._resolver in self._server.silent
            self.deadline = time.monotonic() + (_IMPATIENCE if hurry else _PATIENCE)
            try:
                family, address = _destination(self._resolver)
                self._socket = socket(family, self.kind | SOCK_NONBLOCK | SOCK_CLOEXEC)
                self._begin(self._socket, address, self._id + self._packet[2:])
            except OSError:
                self._hang_up()
                continue
            return
        self._finish(dns.respond(self._query, dns.SERVFAIL))

    def _begin(self, to: socket, address: Address, packet: bytes) -> None:
        to.connect(address)
        to.send(packet)
        self._server.watch(to, self.ready, select.POLLIN)

    def ready(self, events: int) -> None:
        if self._socket is None:
            return
        try:
            packet = self._socket.recv(dns.LARGEST)
        except BlockingIOError:
            return
        except OSError:  # ECONNREFUSED and its like: an ICMP message came back (udp(7))
            self.advance()
            return
        if dns.answers(packet, self._id, self._query):
            self._answered(packet)

    def _answered(self, packet: bytes) -> None:
        self._server.silent.discard(self._resolver)
        if self._resolvers and dns.rcode_of(packet) in (dns.SERVFAIL, dns.NOTIMP, dns.REFUSED):
            self.advance()  # as glibc does (resolv/res_send.c)
        else:
            self._finish(self._query.id + packet[2:])

    def expire(self) -> None:
        """Its deadline has passed."""
        self._server.silent.add(self._resolver)
        self.advance()

    def drop(self) -> None:
        """Room is needed for another."""
        self._finish(dns.respond(self._query, dns.SERVFAIL))

    def _finish(self, packet: bytes) -> None:
        self.close()
        self._reply(packet)

    def close(self) -> None:
        self._hang_up()
        self._server.forwards.pop(self, None)

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._server.forget(self._socket)
            self._socket = None


class StreamForward(Forward):
    """The same by TCP, for a client that asked by TCP."""

    __slots__ = ("_inbox", "_outbox")
    kind = SOCK_STREAM

    def _begin(self, to: socket, address: Address, packet: bytes) -> None:
        self._inbox, self._outbox = bytearray(), bytearray(dns.framed(packet))
        error = to.connect_ex(address)
        if error not in (0, errno.EINPROGRESS):
            raise OSError(error, os.strerror(error))
        self._server.watch(to, self.ready, select.POLLOUT)

    def ready(self, events: int) -> None:
        if self._socket is None:
            return
        try:
            if self._outbox:
                del self._outbox[: self._socket.send(self._outbox)]
                if not self._outbox:
                    self._server.poll.modify(self._socket, select.POLLIN)
                return
            data = self._socket.recv(dns.LARGEST)
        except BlockingIOError:
            return
        except OSError:
            self.advance()
            return
        self._inbox += data
        packet = dns.unframed(self._inbox)
        if packet is not None and dns.answers(packet, self._id, self._query):
            self._answered(packet)
        elif packet is not None or not data:
            self.advance()


def _destination(resolver: str) -> tuple[int, Address]:
    """Family and socket address. OSError: the interface after % is not there."""
    if ":" not in resolver:
        return AF_INET, (resolver, _PORT)
    address, _, interface = resolver.partition("%")
    return AF_INET6, (address, _PORT, 0, if_nametoindex(interface) if interface else 0)
