"""What the tests of networks build: networks, containers as a process and its namespace, servers and clients in them, and the host before
and after. Imported by the tests beside it; the fixtures are in conftest.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minidocker.kernel import sysctl as settings
from minidocker.network import bridge, endpoint, forwarding, ipam, ipam6, names, others, ownership
from minidocker.network.ptp import Peer
from minidocker.network.ruleset import Wanted
from minidocker.plan import At
from minidocker.spec import config
from minidocker.spec.records import BRIDGE, Endpoint, Network, Port
from tests import pretend
from tests.pretend import sh

TAG = "ab12cd34"
LAN, PEER = "192.0.2.1", "192.0.2.2"
LAN6, PEER6 = "2001:db8::1", "2001:db8::2"
FAR, FAR6 = "198.51.100.2", "2001:db8:1::2"

SERVER = """
import socket, sys
kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}[sys.argv[3]]
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
s = socket.socket(family, kind)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
if family == socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
s.bind((sys.argv[1], int(sys.argv[2])))
if kind == socket.SOCK_STREAM: s.listen(64)
print("ready", flush=True)
while True:
    if kind == socket.SOCK_STREAM:
        c, peer = s.accept(); c.sendall(peer[0].encode()); c.close()
    else:
        _, peer = s.recvfrom(100); s.sendto(peer[0].encode(), peer)
"""
CLIENT = """
import socket, sys
kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}[sys.argv[3]]
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, kind); s.settimeout(float(sys.argv[4]))
try:
    s.connect((sys.argv[1], int(sys.argv[2])))
    if kind == socket.SOCK_DGRAM: s.send(b"?")
    print(s.recv(100).decode(), end="")
except OSError as error:
    print(type(error).__name__, end="")
"""
UNREACHED = ("TimeoutError", "OSError")  # dropped, or EHOSTUNREACH: anything but an answer, and anything but a refusal


def python(where: str, program: str, *words: str) -> list[str]:
    return [*(["ip", "netns", "exec", where] if where else []), sys.executable, "-I", "-S", "-c", program, *words]


def without_tables() -> None:
    """Delete our tables, to show that it is they who keep somebody out."""
    sh("".join(f"nft delete table {family} {ownership.table(TAG)};" for family in (ownership.FAMILY, ownership.FRAMES)))


def link_local(link: str, number: int, where: str = "") -> str:
    """The command that gives a link another link-local address, one that is of use at once: the kernel tries its own for a second first."""
    ip = f"ip -n {where}" if where else "ip"
    return f"{ip} -6 addr flush dev {link} scope link && {ip} addr add fe80::{number}/64 dev {link} nodad"


@contextmanager
def far(link: str) -> Iterator[None]:
    """Another host yet, `far`, on a LAN of its own: this host's `link` there, and `outside` has a route to it by this host."""
    sh(f"""ip netns add far && ip link add {link} type veth peer name eth0 netns far &&
           ip addr add 198.51.100.1/24 dev {link} && ip addr add 2001:db8:1::1/64 dev {link} nodad && ip link set {link} up &&
           ip -n far addr add 198.51.100.2/24 dev eth0 && ip -n far addr add {FAR6}/64 dev eth0 nodad && ip -n far link set eth0 up &&
           {link_local(link, 1)} && {link_local('eth0', 2, 'far')} &&
           ip -n far route add default via 198.51.100.1 && ip -n far -6 route add default via 2001:db8:1::1 &&
           ip -n outside route add 198.51.100.0/24 via {LAN} && ip -n outside -6 route add 2001:db8:1::/64 via {LAN6}""")
    try:
        yield
    finally:
        sh(f"ip link del {link}; ip netns del far", check=False)


class World:
    """What one test builds; everything ends with it."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[str]] = []
        self.recorded: dict[str, str] = {}
        self.links: list[tuple[str, int]] = []
        self.descriptors: list[int] = []
        self.before = {name: settings.read(name) for name in (settings.FORWARDING_OF_ALL, "net/ipv6/conf/all/forwarding")}

    def network(self, number: int = 0, ipv6: bool = False, **options: object) -> Network:
        subnet = f"172.17.{number}.0/24"
        if ipv6:
            options = {"subnet6": f"fd00:17:{number + 1:x}::/64", "gateway6": f"fd00:17:{number + 1:x}::1", **options}
        return Network(f"{number:x}23456789abc", f"br{number}", subnet, ipam.gateway(subnet), f"br{number}", **options)  # type: ignore[arg-type]

    def up(self, network: Network) -> None:
        outward = forwarding.observed(network, TAG, self.recorded)
        self.recorded = outward.before
        bridge.up(network, TAG, outward, others.seen(TAG)).run(At())

    def down(self, network: Network, last: bool = True) -> None:
        bridge.down(network, TAG, self.recorded, last).run(At())

    def wanted(self, networks: list[Network], endpoints: list[Endpoint], resolvers: dict[str, int] | None = None) -> Wanted:
        return Wanted(networks, forwarding.Outward(0, self.recorded), endpoints, resolvers or {})

    def namespace(self, name: str) -> At:
        """A process in a network namespace of its own, and a name for `ip netns`."""
        process = subprocess.Popen(["unshare", "-n", "sleep", "1000"], text=True)
        self.processes.append(process)
        here = os.stat("/proc/self/ns/net").st_ino
        path = f"/proc/{process.pid}/ns/net"
        while os.stat(path).st_ino == here:
            time.sleep(0.002)
        assert names.publish_netns(name, process.pid)
        self.links.append((name, os.stat(path).st_ino))
        for setting, value in config.network_sysctls().items():
            sh(f"ip netns exec {name} sysctl -q -w '{setting}={value}'")
        self.descriptors.append(os.open(path, os.O_RDONLY))
        return At(pid=process.pid, netns=self.descriptors[-1])

    def ended(self, name: str, at: At) -> None:
        """The container called `name` ends: its process, and with that the last that holds its namespace."""
        process = next(process for process in self.processes if process.pid == at.pid)
        process.kill()
        process.wait()
        self.processes.remove(process)
        self.descriptors.remove(at.netns)
        os.close(at.netns)
        link = next(link for link in self.links if link[0] == name)
        self.links.remove(link)
        assert names.withdraw_netns(*link)

    def endpoint(self, network: Network, number: int, ports: list[Port] | None = None, interface: int = 0, owner: str = "") -> Endpoint:
        """`owner` is the name of a container that is in another network, too."""
        ip = network.subnet.replace("0/24", str(number))
        name = owner or f"c{network.id[0]}{number}"
        ip6 = ipam6.of_container(network.subnet6, ip) if network.subnet6 else ""
        identity = name[1:].encode().hex()[:8].ljust(64, "e")
        return Endpoint(network.name, identity, name, ip, ipam.mac_of(ip), ports=ports, interface=f"eth{interface}", ip6=ip6)

    def attach(self, network: Network, number: int, ports: list[Port] | None = None) -> Endpoint:
        """A container with the last part `number` in its address, known to `ip netns` by its name."""
        place = self.endpoint(network, number, ports)
        self.join(network, place, self.namespace(place.container_name))
        return place

    def join(self, network: Network, place: Endpoint, at: At, default: bool = True, peer: Peer | None = None) -> None:
        ready = ownership.ready(network, TAG) if network.driver == BRIDGE else None
        endpoint.attach(network, TAG, place, ready, default, peer).run(at)

    def serve(self, where: str, port: int = 80, protocol: str = "tcp", address: str = "0.0.0.0") -> None:
        """A server that answers each client with the client's address."""
        server = subprocess.Popen(python(where, SERVER, address, str(port), protocol), stdout=subprocess.PIPE, text=True)
        self.processes.append(server)
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"

    def ask(self, where: str, address: str, port: int = 80, protocol: str = "tcp", patience: float = 5) -> str:
        """What the server answers, or the exception's name."""
        return subprocess.run(python(where, CLIENT, address, str(port), protocol, str(patience)),
                              capture_output=True, text=True, check=True).stdout

    def cannot(self, where: str, address: str, port: int = 80) -> bool:
        return self.ask(where, address, port, patience=0.6) in UNREACHED

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
        for fd in self.descriptors:
            os.close(fd)
        for name, inode in self.links:
            names.withdraw_netns(name, inode)
        for link in pretend.ip("link"):
            if str(link.get("ifalias", "")).startswith("minidocker:"):
                sh(f"ip link del {link['ifname']}", check=False)
        deadline = time.monotonic() + 20
        while any(str(link["ifname"]).startswith("md") for link in pretend.ip("link")):  # they go with their namespaces
            assert time.monotonic() < deadline
            time.sleep(0.01)
        for family in (ownership.FAMILY, ownership.FRAMES):
            sh(f"nft delete table {family} {ownership.table(TAG)}", check=False)
        for name, value in (*self.recorded.items(), *self.before.items()):  # those of all interfaces last: they set the others
            if value is not None and settings.read(name) is not None:
                if name in self.before:
                    settings.write(name, str(1 - int(value)))  # what has the value already sets nothing
                settings.write(name, value)


def state() -> dict[str, object]:
    """Everything a network may touch on the host. Of IPv6 without what the kernel adds by itself in its own time: link-local addresses."""
    values = {
        str(path): path.read_text()
        for family, setting in (("ipv4", "forwarding"), ("ipv4", "route_localnet"), ("ipv6", "forwarding"), ("ipv6", "disable_ipv6"),
                                ("ipv6", "accept_ra"), ("ipv6", "accept_dad"), ("ipv4", "rp_filter"), ("ipv4", "arp_notify"))
        for path in sorted(Path(f"/proc/sys/net/{family}/conf").glob(f"*/{setting}"))
    }  # fmt: skip
    neighbours = [n for family in (4, 6) for n in pretend.ip(f"-{family} neigh") if "PERMANENT" in n["state"]]  # type: ignore[operator]
    routes6 = [route for route in pretend.ip("-6 route show table all") if not str(route["dst"]).startswith(("fe80:", "ff00:"))]
    return {
        "links": pretend.ip("link"), "addresses": pretend.ip("-4 addr") + pretend.ip("-6 addr show scope global"),
        "routes": pretend.ip("-4 route show table all") + routes6, "rules": pretend.ip("rule") + pretend.ip("-6 rule"),
        "neighbours": neighbours, "nft": json.loads(sh("nft -j list ruleset")), "sysctl": values,
    }  # fmt: skip
