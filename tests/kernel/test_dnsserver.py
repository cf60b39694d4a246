"""Real name servers on real bridges: asked by UDP and TCP out of network namespaces, with resolvers of ours as the host's."""

from __future__ import annotations

import fcntl
import os
import random
import resource
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from dnslib import AAAA, EDNS0, QTYPE, RR, TXT, A, DNSError, DNSHeader, DNSQuestion, DNSRecord

from minidocker.kernel import libc
from minidocker.network import names
from tests.pretend import CLONE_NEWNET, sh

REPOSITORY = Path(__file__).resolve().parents[2]
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)
LIMIT_KB, GROWTH_KB = 6 * 1024, 1536  # of one that has just begun; what two thousand containers may add
TIMEOUT = 15.0  # for what must happen; how soon is not asserted
CODE = (
    f"import sys; sys.path.append({str(REPOSITORY)!r}); "
    "module = __import__(sys.argv[1], fromlist=['_']); getattr(module, sys.argv[2])(sys.argv[3:])"
)
F_OFD_SETLK = 37  # linux/fcntl.h
FIRST, SECOND = "10.77.0.1", "10.78.0.1"


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Sockets made in here are the namespace's, and stay so."""
    here, there = os.open("/proc/self/ns/net", os.O_RDONLY), os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    libc.setns(there, CLONE_NEWNET)
    try:
        yield
    finally:
        libc.setns(here, CLONE_NEWNET)
        os.close(here)
        os.close(there)


class Upstream:
    """A resolver of the host's at `address`: `behave` (the default: 192.0.2.1 for whatever is asked) makes of a query's bytes the messages
    that are sent back. What was asked is in `asked`: (bytes, port asked from, by TCP)."""

    def __init__(self, address: str, behave: Callable[[bytes], list[bytes]] | None = None) -> None:
        self.asked: list[tuple[bytes, int, bool]] = []
        self.behave = behave or (lambda packet: [record(packet, "192.0.2.1")])
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.udp = socket.socket(family, socket.SOCK_DGRAM)
        self.udp.bind((address, 53))
        self.tcp = socket.create_server((address, 53), family=family)
        self.waiting: list[socket.socket] = []  # connections that get no answer
        self.stop, self.stopped = socket.socketpair()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self.udp, self.tcp, self.stopped], [], [])
            if self.stopped in ready:
                return
            if self.udp in ready:
                packet, peer = self.udp.recvfrom(65535)
                self.asked.append((packet, peer[1], False))
                for answer in self.behave(packet):
                    self.udp.sendto(answer, peer)
            if self.tcp in ready:
                client, peer = self.tcp.accept()
                client.settimeout(TIMEOUT)
                if packet := received(client):
                    self.asked.append((packet, peer[1], True))
                    answers = self.behave(packet)
                    client.sendall(b"".join(map(framed, answers)))
                    if not answers:
                        self.waiting.append(client)
                        continue
                client.close()

    def close(self) -> None:
        self.stop.close()
        self.thread.join()
        for one in (self.udp, self.tcp, self.stopped, *self.waiting):
            one.close()


def silent(packet: bytes) -> list[bytes]:
    return []


def record(packet: bytes, *addresses: str) -> bytes:
    reply = DNSRecord.parse(packet).reply()
    for address in addresses:
        kind = ("AAAA", AAAA) if ":" in address else ("A", A)
        reply.add_answer(RR(reply.q.qname, getattr(QTYPE, kind[0]), rdata=kind[1](address), ttl=300))
    return bytes(reply.pack())


def failing(rcode: int) -> Callable[[bytes], list[bytes]]:
    def behave(packet: bytes) -> list[bytes]:
        reply = DNSRecord.parse(packet).reply()
        reply.header.rcode = rcode
        return [bytes(reply.pack())]

    return behave


def framed(packet: bytes) -> bytes:
    return struct.pack("!H", len(packet)) + packet


def received(stream: socket.socket) -> bytes:
    """The next message; b"" at the end of the stream."""
    with stream.makefile("rb", buffering=0) as file:
        data = file.read(2)
        while data and len(data) < 2 + struct.unpack_from("!H", data)[0]:
            more = file.read(2 + struct.unpack_from("!H", data)[0] - len(data))
            assert more
            data += more
    return bytes(data[2:])


def query(name: str, kind: str = "A", udp: int = 0, **header: Any) -> bytes:
    asked = DNSRecord(DNSHeader(**{"rd": 1, **header}), q=DNSQuestion(name, getattr(QTYPE, kind)))
    if udp:
        asked.add_ar(EDNS0(udp_len=udp))
    return bytes(asked.pack())


class Client:
    """One in namespace `place`, which asks the server at `server`."""

    def __init__(self, place: str, server: str, source: str = "0.0.0.0") -> None:
        self.place, self.server, self.source = place, server, source

    def udp(self) -> socket.socket:
        with inside(self.place):
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.settimeout(TIMEOUT)
        made.bind((self.source, 0))
        made.connect((self.server, 53))
        return made

    def tcp(self) -> socket.socket:
        with inside(self.place):
            made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.settimeout(TIMEOUT)
        made.bind((self.source, 0))
        made.connect((self.server, 53))
        return made

    def raw(self, packet: bytes, tcp: bool = False) -> bytes:
        with self.tcp() if tcp else self.udp() as wire:
            wire.sendall(framed(packet) if tcp else packet)
            return received(wire) if tcp else wire.recv(65535)

    def ask(self, name: str, kind: str = "A", tcp: bool = False, udp: int = 0) -> DNSRecord:
        answer = DNSRecord.parse(self.raw(query(name, kind, udp), tcp))
        assert str(answer.q.qname) == f"{name}."
        return answer

    def addresses(self, name: str, kind: str = "A", tcp: bool = False) -> set[str] | int:
        """What is said to the question: addresses or names, or the rcode of a failure."""
        answer = self.ask(name, kind, tcp, udp=4096)
        return int(answer.header.rcode) or {str(one.rdata) for one in answer.rr}


class Server:
    """A server process. What it takes for /etc is a directory of ours, so that each test has a resolv.conf of its own, or none."""

    def __init__(self, world: World, network: str, gateway: str, internal: bool = False, lock: int = -1) -> None:
        self.lock = world.directory.parent / f"{network}.lock"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.create_server((gateway, 53), backlog=64) as tcp:
            udp.bind((gateway, 53))
            arguments = ["/some/root", str(world.directory), network, gateway, f"{gateway}/24", "fd77::/64", str(int(internal)),
                         str(udp.fileno()), str(tcp.fileno()), str(self.lock) if lock < 0 else str(lock)]  # fmt: skip
            self.process = subprocess.Popen(
                ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc && exec "$@"', str(world.etc),
                 sys.executable, "-I", "-S", "-c", CODE, "minidocker.network.dnsserver", "serve", *arguments],
                pass_fds=[udp.fileno(), tcp.fileno(), *([lock] if lock >= 0 else [])], stderr=subprocess.PIPE,
            )  # fmt: skip

    def memory(self, what: str) -> int:
        """kB, of /proc/PID/smaps_rollup's `what`."""
        text = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(f"{what}:"))

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def close(self) -> None:
        """It must still be there, and never has it said a word."""
        assert self.process.poll() is None
        self.process.terminate()
        assert self.process.wait(TIMEOUT) == -signal.SIGTERM
        assert self.process.stderr is not None
        with self.process.stderr as errors:
            assert errors.read() == b""


class World:
    """Two bridges: clients `one` and `both` on the first, `both` and `two` on the second, each known in its networks' hosts files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "networks"
        self.etc = directory / "etc"
        self.etc.mkdir()
        if os.path.exists("/etc/ld.so.cache"):  # where an interpreter's library is found by it alone
            shutil.copy("/etc/ld.so.cache", self.etc)
        self.resolv_conf = self.etc / "resolv.conf"
        self.ids = {name: f"{number:x}" * 64 for number, name in enumerate(("one", "both", "two"), 10)}
        self.closing: list[Callable[[], None]] = []
        for network in ("first", "second"):
            names.create(f"{self.directory}/{network}")
        for network, ip, name in (("first", "10.77.0.2", "one"), ("first", "10.77.0.3", "both"), ("second", "10.78.0.3", "both"),
                                  ("second", "10.78.0.4", "two")):  # fmt: skip
            self.add(network, ip, name, self.ids[name])

    def add(self, network: str, ip: str, name: str, id: str, *aliases: str) -> None:
        names.add(f"{self.directory}/{network}", names.hosts_lines([ip], name, aliases, id))

    def remove(self, network: str, ip: str, id: str) -> None:
        names.remove(f"{self.directory}/{network}", id, [ip])

    def fill(self, network: str, part: int, count: int) -> None:
        """Many containers c256, c257 ... at 10.PART.1.0 and on, all with an alias in common."""
        with open(self.directory / network / "hosts", "a") as file:
            file.writelines(
                names.hosts_lines([f"10.{part}.{n >> 8}.{n & 255}"], f"c{n}", ["all"], f"{n:012x}") for n in range(256, 256 + count)
            )

    def serve(self, network: str = "first", gateway: str = FIRST, internal: bool = False, lock: int = -1) -> Server:
        server = Server(self, network, gateway, internal, lock)
        self.closing.append(server.close)
        return server

    def upstream(self, address: str, behave: Callable[[bytes], list[bytes]] | None = None) -> Upstream:
        upstream = Upstream(address, behave)
        self.closing.append(upstream.close)
        return upstream

    def resolvers(self, *addresses: str) -> None:
        """In place, as a resolv.conf that is bind-mounted would be; then a rename, as tools do it, is the same to the server."""
        self.resolv_conf.write_text("".join(f"nameserver {address}\n" for address in addresses))


@pytest.fixture(scope="module")
def wires() -> Iterator[None]:
    sh("""for n in 7 8; do ip link add dnsbr$n type bridge && ip addr add 10.7$n.0.1/24 dev dnsbr$n && ip link set dnsbr$n up; done
          plug() { ip link add $3 type veth peer name $4 netns $1 && ip link set $3 master dnsbr$2 up && ip -n $1 link set $4 up &&
                   ip -n $1 addr add 10.7$2.0.$5/24 dev $4; }
          for c in one both two; do ip netns add dns-$c && ip -n dns-$c link set lo up; done
          plug dns-one 7 dnsv1 eth0 2 && plug dns-both 7 dnsv2 eth0 3 && plug dns-both 8 dnsv3 eth1 3 && plug dns-two 8 dnsv4 eth0 4""")
    yield
    sh("""for c in one both two; do ip netns del dns-$c; done; for n in 7 8; do ip link del dnsbr$n; done""")


@pytest.fixture
def world(wires: None, tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    for close in reversed(made.closing):
        close()


ONE, BOTH, TWO = Client("dns-one", FIRST), Client("dns-both", FIRST), Client("dns-two", SECOND)
EITHER = pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])


@EITHER
def test_names_come_and_go_while_it_runs(world: World, tcp: bool) -> None:
    world.serve()
    assert ONE.addresses("web", tcp=tcp) == NXDOMAIN
    for round in range(20):
        id = f"{round:02x}" * 32
        world.add("first", "10.77.0.9", "web", id, "www")
        assert ONE.addresses("web", tcp=tcp) == ONE.addresses("www.first", tcp=tcp) == ONE.addresses(id[:12], tcp=tcp) == {"10.77.0.9"}
        assert ONE.addresses("9.0.77.10.in-addr.arpa", "PTR", tcp=tcp) == {"web."}
        assert ONE.addresses("web", "AAAA", tcp=tcp) == set()
        world.remove("first", "10.77.0.9", id)
        assert ONE.addresses("web", tcp=tcp) == NXDOMAIN
        assert ONE.addresses("9.0.77.10.in-addr.arpa", "PTR", tcp=tcp) == NXDOMAIN


@EITHER
def test_another_network_is_seen_by_whoever_is_in_both(world: World, tcp: bool) -> None:
    world.serve()
    world.serve("second", SECOND)
    assert ONE.addresses("two", tcp=tcp) == NXDOMAIN
    assert BOTH.addresses("two", tcp=tcp) == BOTH.addresses("two.second", tcp=tcp) == {"10.78.0.4"}
    assert BOTH.addresses("4.0.78.10.in-addr.arpa", "PTR", tcp=tcp) == {"two."}
    assert BOTH.addresses("both", tcp=tcp) == {"10.77.0.3"}
    assert BOTH.addresses("both.second", tcp=tcp) == {"10.78.0.3"}
    assert TWO.addresses("both", tcp=tcp) == {"10.78.0.3"}
    assert TWO.addresses("one", tcp=tcp) == NXDOMAIN
    world.remove("second", "10.78.0.3", world.ids["both"])
    assert BOTH.addresses("two", tcp=tcp) == NXDOMAIN
    world.add("second", "10.78.0.9", "one", world.ids["one"])
    assert ONE.addresses("two", tcp=tcp) == {"10.78.0.4"}


def test_what_is_cut_off_by_udp_is_whole_by_tcp(world: World) -> None:
    world.serve()
    world.fill("first", 77, 240)
    cut, larger = ONE.ask("all"), ONE.ask("all", udp=1232)
    assert (cut.header.tc, larger.header.tc) == (1, 1)
    assert 20 < len(cut.rr) < len(larger.rr) < 240
    assert len(ONE.ask("all", udp=4096).rr) == len(ONE.ask("all", tcp=True).rr) == 240


def test_it_holds_its_lock_as_long_as_it_lives(world: World) -> None:
    server = world.serve()
    assert ONE.addresses("one") == {"10.77.0.2"}
    with open(server.lock, "r+") as file:
        with pytest.raises(BlockingIOError):
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert int(file.read()) == server.process.pid
        world.closing.remove(server.close)
        server.close()
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        following = world.serve()
        with ONE.udp() as wire:  # it is waiting for us
            wire.send(query("one"))
            assert not select.select([wire], [], [], 0.3)[0]
            fcntl.lockf(file, fcntl.LOCK_UN)
            assert DNSRecord.parse(wire.recv(512)).short() == "10.77.0.2"
        assert following.process.poll() is None


def test_it_keeps_a_lock_that_it_is_handed(world: World) -> None:
    path = world.directory.parent / "lock"
    whole = struct.pack("hhiqqii", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0, 0, 0)  # struct flock
    with open(path, "w") as file:
        fcntl.fcntl(file, F_OFD_SETLK, whole)
        server = world.serve(lock=file.fileno())
    assert ONE.addresses("one") == {"10.77.0.2"}
    assert int(path.read_text()) == server.process.pid
    with open(path, "r+") as file:
        with pytest.raises(BlockingIOError):
            fcntl.fcntl(file, F_OFD_SETLK, whole)
        world.closing.remove(server.close)
        server.close()
        fcntl.fcntl(file, F_OFD_SETLK, whole)


@EITHER
@pytest.mark.parametrize("address", ["127.0.0.53", "127.0.0.99", "::1"])
def test_what_is_not_ours_is_forwarded_as_it_is(world: World, address: str, tcp: bool) -> None:
    upstream = world.upstream(address, lambda packet: [record(packet, "192.0.2.1", "192.0.2.2")])
    world.resolvers(address)
    world.serve()
    packet = query("Example.ORG", "HTTPS", udp=1400, id=0x1234, cd=1)
    answer = ONE.raw(packet, tcp)
    ((asked, _, by_tcp),) = upstream.asked
    assert (asked[2:], by_tcp) == (packet[2:], tcp)
    assert answer == packet[:2] + record(asked, "192.0.2.1", "192.0.2.2")[2:]
    for kind in ("A", "TXT", "NS", "SRV"):
        assert ONE.ask("example.org", kind, tcp).header.rcode == NOERROR
    assert ONE.addresses("one", tcp=tcp) == {"10.77.0.2"}
    assert len(upstream.asked) == 5


def test_nobody_can_guess_what_is_asked_upstream(world: World) -> None:
    upstream = world.upstream("127.0.0.53")
    world.resolvers("127.0.0.53")
    world.serve()
    for _ in range(40):
        assert ONE.raw(query("example.org", id=7))[:2] == b"\0\7"
    assert len({packet[:2] for packet, _, _ in upstream.asked}) > 35
    assert len({port for _, port, _ in upstream.asked}) > 35


def test_what_was_not_asked_for_is_no_answer(world: World) -> None:
    def forging(packet: bytes) -> list[bytes]:
        other = bytes([packet[0] ^ 1]) + packet[1:]
        forged = record(packet, "198.51.100.66")
        return [record(other, "198.51.100.66"), record(packet[:2] + query("example.com")[2:], "198.51.100.66"), packet, b"", b"x",
                forged[:20], packet[:2] + b"\x80\0" + bytes(8), record(packet, "192.0.2.1")]  # fmt: skip

    world.upstream("127.0.0.53", forging)
    world.resolvers("127.0.0.53")
    world.serve()
    assert ONE.addresses("example.org") == {"192.0.2.1"}


@EITHER
def test_a_resolver_that_is_not_there_is_followed_by_the_next(world: World, tcp: bool) -> None:
    world.upstream("127.0.0.54")
    world.resolvers("127.0.0.53", "2001:db8::53", "fe80::1%nothing", "127.0.0.54")  # three count
    world.serve()
    assert ONE.addresses("example.org", tcp=tcp) == SERVFAIL
    world.resolvers("127.0.0.53", "2001:db8::53", "127.0.0.54")
    assert ONE.addresses("example.org", tcp=tcp) == {"192.0.2.1"}
    world.resolvers("fe80::1%nothing", "127.0.0.54")
    assert ONE.addresses("example.org", tcp=tcp) == {"192.0.2.1"}


@EITHER
@pytest.mark.parametrize("rcode", [SERVFAIL, NOTIMP, REFUSED])
def test_a_resolver_that_will_not_is_followed_by_the_next(world: World, rcode: int, tcp: bool) -> None:
    first = world.upstream("127.0.0.53", failing(rcode))
    world.upstream("127.0.0.54")
    world.resolvers("127.0.0.53", "127.0.0.54")
    world.serve()
    assert ONE.addresses("example.org", tcp=tcp) == {"192.0.2.1"}
    assert len(first.asked) == 1
    world.resolvers("127.0.0.53")
    assert ONE.addresses("example.org", tcp=tcp) == rcode
    first.behave = failing(NXDOMAIN)
    world.resolvers("127.0.0.53", "127.0.0.54")
    assert ONE.addresses("example.org", tcp=tcp) == NXDOMAIN  # that is an answer


@EITHER
def test_a_silent_resolver_is_followed_by_the_next(world: World, tcp: bool) -> None:
    dead = world.upstream("127.0.0.53", silent)
    world.upstream("127.0.0.54")
    world.resolvers("127.0.0.53", "127.0.0.54")
    world.serve()
    for _ in range(3):
        assert ONE.addresses("example.org", tcp=tcp) == {"192.0.2.1"}
    assert len(dead.asked) == 3  # the host's order is kept: one that was silent is asked again
    dead.behave = lambda packet: [record(packet, "192.0.2.9")]
    assert ONE.addresses("example.org", tcp=tcp) == {"192.0.2.9"}


@EITHER
def test_where_all_are_silent_it_says_so(world: World, tcp: bool) -> None:
    for address in ("127.0.0.53", "127.0.0.54"):
        world.upstream(address, silent)
    world.resolvers("127.0.0.53", "127.0.0.54")
    world.serve()
    assert ONE.addresses("example.org", tcp=tcp) == SERVFAIL
    assert ONE.addresses("one", tcp=tcp) == {"10.77.0.2"}


@EITHER
def test_without_a_resolver_what_is_unknown_is_not_there(world: World, tcp: bool) -> None:
    upstream = world.upstream("127.0.0.53")
    server = world.serve()
    assert ONE.addresses("example.org", tcp=tcp) == NXDOMAIN  # there is no resolv.conf
    for text in ("", "search example.org\n", f"nameserver {FIRST}\n", "nameserver nonsense\n"):
        world.resolv_conf.write_text(text)
        assert ONE.addresses("example.org", tcp=tcp) == NXDOMAIN
        assert ONE.addresses("one", tcp=tcp) == {"10.77.0.2"}
    assert upstream.asked == []
    world.resolvers(FIRST, "127.0.0.53")
    assert ONE.addresses("example.org", tcp=tcp) == {"192.0.2.1"}
    fresh = world.etc / "resolv.conf.new"
    fresh.write_text("")
    fresh.rename(world.resolv_conf)
    assert ONE.addresses("example.org", tcp=tcp) == NXDOMAIN
    world.resolv_conf.unlink()
    assert ONE.addresses("example.org", tcp=tcp) == NXDOMAIN
    assert server.descriptors() < 10


@EITHER
def test_an_internal_network_forwards_nothing(world: World, tcp: bool) -> None:
    upstream = world.upstream("127.0.0.53")
    world.resolvers("127.0.0.53")
    world.serve(internal=True)
    assert ONE.addresses("one", tcp=tcp) == {"10.77.0.2"}
    for name, kind in (("example.org", "A"), ("example.org", "TXT"), ("1.2.0.192.in-addr.arpa", "PTR")):
        assert ONE.addresses(name, kind, tcp=tcp) == NXDOMAIN
    assert upstream.asked == []


def test_strangers_get_nothing_and_the_host_only_names(world: World) -> None:
    upstream = world.upstream("127.0.0.53")
    world.resolvers("127.0.0.53")
    world.serve()
    sh("ip netns exec dns-one ip addr add 192.0.2.77/32 dev lo; ip route add 192.0.2.77/32 via 10.77.0.2")
    try:
        stranger = Client("dns-one", FIRST, "192.0.2.77")
        with stranger.udp() as wire:
            wire.settimeout(0.3)
            wire.send(query("one"))
            with pytest.raises(TimeoutError):
                wire.recv(512)
        assert ended(stranger, framed(query("one")))
    finally:
        sh("ip route del 192.0.2.77/32; ip netns exec dns-one ip addr del 192.0.2.77/32 dev lo")
    for kind, answer in ((socket.SOCK_DGRAM, lambda wire: wire.recv(512)), (socket.SOCK_STREAM, received)):
        for name, rcode in (("one", NOERROR), ("example.org", REFUSED)):
            with socket.socket(socket.AF_INET, kind) as wire:
                wire.settimeout(TIMEOUT)
                wire.connect((FIRST, 53))
                wire.sendall(query(name) if kind == socket.SOCK_DGRAM else framed(query(name)))
                assert DNSRecord.parse(answer(wire)).header.rcode == rcode
    assert upstream.asked == []


def ended(client: Client, sent: bytes) -> bool:
    """Whether the server hangs up after this, without an answer."""
    with client.tcp() as wire:
        try:
            wire.sendall(sent)
            return wire.recv(1) == b""
        except ConnectionError:
            return True


def test_many_queries_by_one_connection(world: World) -> None:
    """In the order in which they came, however they are cut up (RFC 7766, 6.2.1.1 and 8)."""
    upstream = world.upstream("127.0.0.53")
    world.resolvers("127.0.0.53")
    world.serve()
    with ONE.tcp() as wire:
        sent = [query(name, id=id) for id, name in enumerate(["one", "example.org", "both", "one", "example.com"] * 60)]
        wire.sendall(b"".join(map(framed, sent)))
        wire.shutdown(socket.SHUT_WR)
        answers = [DNSRecord.parse(received(wire)) for _ in sent]
        assert [answer.header.id for answer in answers] == list(range(300))
        assert [answer.short() for answer in answers[:5]] == ["10.77.0.2", "192.0.2.1", "10.77.0.3", "10.77.0.2", "192.0.2.1"]
        assert received(wire) == b""
    assert len(upstream.asked) == 120
    with ONE.tcp() as wire:
        for byte in framed(query("one")) + framed(query("both")):
            wire.send(bytes([byte]))
            time.sleep(0.001)
        assert DNSRecord.parse(received(wire)).short() == "10.77.0.2"
        assert DNSRecord.parse(received(wire)).short() == "10.77.0.3"


def test_the_largest_message_passes(world: World) -> None:
    """64 KiB of TXT from the resolver, and as much of an own name with 4,000 addresses is cut (RFC 1035, 4.2.2)."""

    def large(packet: bytes) -> list[bytes]:
        reply = DNSRecord.parse(packet).reply()
        for _ in range(240):
            reply.add_answer(RR(reply.q.qname, QTYPE.TXT, rdata=TXT(["x" * 250]), ttl=1))
        return [bytes(reply.pack())]

    world.upstream("127.0.0.53", large)
    world.resolvers("127.0.0.53")
    world.serve()
    answer = ONE.raw(query("example.org", "TXT"), tcp=True)
    assert len(answer) > 60000
    assert len(DNSRecord.parse(answer).rr) == 240
    world.fill("first", 77, 5000)
    answer = ONE.raw(query("all"), tcp=True)
    assert 65500 < len(answer) <= 65535
    assert DNSRecord.parse(answer).header.tc == 1


def test_rubbish_by_tcp_ends_the_connection_or_is_said_to_be(world: World) -> None:
    world.serve()
    good = query("one")
    assert ended(ONE, framed(b""))
    assert ended(ONE, framed(good[:11]))
    assert ended(ONE, framed(good[:2] + b"\x80" + good[3:]))
    with ONE.tcp() as wire:
        wire.sendall(framed(good[:20]) + framed(good[:2] + b"\x28" + good[3:]) + framed(good))
        answers = [DNSRecord.parse(received(wire)) for _ in range(3)]
        assert [answer.header.rcode for answer in answers] == [FORMERR, NOTIMP, NOERROR]


def test_one_clients_flood_is_its_own_loss(world: World) -> None:
    """More queries and connections than are kept, to a resolver that says nothing: others are served, and it stays bounded."""
    world.upstream("127.0.0.53", silent)
    world.resolvers("127.0.0.53")
    server = world.serve()
    flood, patient = ONE.udp(), BOTH.udp()
    patient.send(query("example.net", id=77))
    connections = []
    for id in range(700):
        flood.send(query("example.org", id=id))
        if id % 7 == 0:
            connections.append(ONE.tcp())
            connections[-1].sendall(framed(query("example.org")) if id % 2 else b"\0")
        if id % 100 == 0:
            assert BOTH.addresses("one") == BOTH.addresses("one", tcp=True) == {"10.77.0.2"}
            assert server.descriptors() < 512 + 64 + 16
    assert DNSRecord.parse(patient.recv(512)).header.rcode == SERVFAIL  # after its time, and not given up for the flood's sake
    for wire in (flood, patient, *connections):
        wire.close()
    deadline = time.monotonic() + 30
    while server.descriptors() > 10:
        assert time.monotonic() < deadline, "nothing is left open"
        time.sleep(0.1)
    assert ONE.addresses("one") == {"10.77.0.2"}


@pytest.mark.slow
def test_a_client_that_does_not_read_is_given_up(world: World) -> None:
    server = world.serve()
    world.fill("first", 77, 240)
    with ONE.tcp() as wire:
        wire.setblocking(False)
        with pytest.raises((BlockingIOError, ConnectionError)):
            while True:
                wire.send(framed(query("all")) * 100)
                assert ONE.addresses("one") == {"10.77.0.2"}
        deadline = time.monotonic() + 40
        while server.descriptors() > 6:
            assert ONE.addresses("one") == {"10.77.0.2"}
            assert time.monotonic() < deadline, "it is dropped"
            time.sleep(0.2)


def test_few_descriptors_are_enough(world: World) -> None:
    world.upstream("127.0.0.53", silent)
    world.resolvers("127.0.0.53")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, before[1]))
    try:
        server = world.serve()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    with ONE.udp() as flood:
        held = [ONE.tcp() for _ in range(20)]
        for id in range(100):
            flood.send(query("example.org", id=id))
        assert BOTH.addresses("one") == BOTH.addresses("one", tcp=True) == {"10.77.0.2"}
        assert server.descriptors() <= 40
        for wire in held:
            wire.close()


def test_rubbish_at_the_real_socket(world: World) -> None:
    def reading(packet: bytes) -> list[bytes]:
        try:
            return [record(packet, "192.0.2.1")]
        except DNSError:
            return [packet[:2] + b"\x80\1" + bytes(8)]

    world.upstream("127.0.0.53", reading)
    world.resolvers("127.0.0.53")
    world.serve()
    source = random.Random(7766)
    seeds = [query(name, kind, udp=size) for name in ("one", "all", "example.org") for kind in ("A", "PTR", "ANY") for size in (0, 1232)]
    with ONE.udp() as wire:
        wire.setblocking(False)
        for count in range(3000):
            packet = bytearray(source.choice(seeds)) if count % 3 else bytearray(source.randbytes(source.randint(0, 300)))
            for _ in range(source.randint(0, 5)):
                if packet:
                    packet[source.randrange(len(packet))] = source.randrange(256)
            wire.send(packet[: source.randint(0, len(packet) + 20)])
            if count % 200 == 0:
                assert BOTH.addresses("one") == {"10.77.0.2"}
        wire.send(bytes(60000))
    for _ in range(60):
        with ONE.tcp() as wire:
            wire.sendall(source.randbytes(source.randint(1, 2000)))
    assert ONE.addresses("one") == ONE.addresses("one", tcp=True) == {"10.77.0.2"}
    assert ONE.addresses("example.org") == {"192.0.2.1"}


def test_memory(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """What it holds of its own, and counting its share of what it shares with other interpreters (proc(5)), with a thousand containers
    in its network and a thousand in another; after some thousand queries, local and forwarded."""
    world.upstream("127.0.0.53")
    world.resolvers("127.0.0.53")
    server = world.serve()
    other = world.serve("second", SECOND)
    assert (ONE.addresses("one"), TWO.addresses("two")) == ({"10.77.0.2"}, {"10.78.0.4"})
    said = [f"small: PSS {server.memory('Pss')} kB, anonymous {server.memory('Pss_Anon')} kB"]
    assert server.memory("Pss") <= LIMIT_KB
    before = server.memory("Pss_Anon")
    for network, part in (("first", 77), ("second", 78)):
        world.fill(network, part, 1000)
    with ONE.udp() as wire, BOTH.udp() as second:
        for n in range(3000):
            wire.send(query(f"c{256 + n % 1000}" if n % 3 else "example.org"))
            assert DNSRecord.parse(wire.recv(512)).short() in ("192.0.2.1", f"10.77.{256 + n % 1000 >> 8}.{256 + n % 1000 & 255}")
            if n % 100 == 0:
                second.send(query("two"))
                assert DNSRecord.parse(second.recv(512)).short() == "10.78.0.4"
    said.append(f"two thousand containers, three thousand queries: PSS {server.memory('Pss')} kB, anonymous {server.memory('Pss_Anon')} kB")
    with capsys.disabled():
        print("\n" + "\n".join(said))
    assert server.memory("Pss_Anon") <= before + GROWTH_KB
    assert other.process.poll() is None
