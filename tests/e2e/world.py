"""The rest of the world, as the network tests see it: two other hosts, servers to be asked, and the machine's whole state.

    near (192.0.2.2) ── lan0 192.0.2.1 ── this host ── lan1 198.51.100.1 ── far (198.51.100.2)
    the default route goes by near; neither has a route to a container network
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests import pretend
from tests.e2e.support import Minidocker, poll

HOST, NEAR, FAR = "192.0.2.1", "192.0.2.2", "198.51.100.2"
PORT = 8081

# Answers each request with the address it came from.
REPORTER = """
import socketserver, sys
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        while self.rfile.readline().strip():
            pass
        self.wfile.write(b"HTTP/1.0 200 OK\\r\\n\\r\\n" + self.client_address[0].encode())
socketserver.TCPServer.allow_reuse_address = True
socketserver.TCPServer((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
"""


@contextmanager
def two_neighbours() -> Iterator[None]:
    """The picture above; this host forwards nothing."""
    with pretend.outside("near", "192.0.2"):
        pretend.sh(
            """ip netns add far && ip link add lan1 type veth peer name eth0 netns far &&
            ip addr add 198.51.100.1/24 dev lan1 && ip link set lan1 up &&
            ip -n far addr add 198.51.100.2/24 dev eth0 && ip -n far link set eth0 up && ip -n far link set lo up &&
            ip -n far route add default via 198.51.100.1 && ip -n near route add 198.51.100.0/24 via 192.0.2.1 &&
            sysctl -qw net.ipv6.conf.lan0.disable_ipv6=1 net.ipv6.conf.lan1.disable_ipv6=1  # its addresses come seconds later"""
        )
        try:
            yield
        finally:
            pretend.sh("ip link del lan1; ip netns del far", check=False)


def fetch(url: str, place: str = "", seconds: float = 10) -> str:
    """What `url` answers, asked from the namespace `place` or from this host; "" when it does not answer in time."""
    where = f"ip netns exec {place} " if place else ""
    return pretend.sh(f"{where}curl -s --noproxy '*' --max-time {seconds} {url}", check=False).strip()


def fetch_inside(md: Minidocker, name: str, url: str, seconds: float = 10) -> str:
    """The same, asked from a container with the host's view."""
    return str(md("exec", name, "curl", "-s", "--noproxy", "*", "--max-time", seconds, url, check=False).stdout).strip()


@contextmanager
def reporter(port: int, place: str = "", address: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """A web server in the namespace `place`, or on this host, that answers with its client's address."""
    where = ["ip", "netns", "exec", place] if place else []
    process = subprocess.Popen([*where, sys.executable, "-I", "-c", REPORTER, address, str(port)])
    try:
        poll(lambda: fetch(f"http://{address or '127.0.0.1'}:{port}", place, 1), f"the reporter listens on {port}")
        yield process
    finally:
        process.kill()
        process.wait()


def serve(md: Minidocker, server: Path, name: str, *options: object) -> dict[str, Any]:
    """Run examples/server as NAME until it listens; NAME's place in its network, of `inspect`."""
    md.start("--name", name, *options, server, name)
    await_listening(md, name)
    [place] = md.inspect(name)["NetworkSettings"]["Networks"].values()
    return place  # type: ignore[no-any-return]


def await_listening(md: Minidocker, name: str) -> None:
    poll(lambda: "listen" in md.logs(name), f"{name} listens")


def ip_in(name: str, *arguments: str) -> list[dict[str, Any]]:
    """`ip -j ARGUMENTS` in a namespace of `ip netns`."""
    return json.loads(pretend.sh(f"ip -n {name} -d -j {' '.join(arguments)}") or "[]")  # type: ignore[no-any-return]


def state() -> dict[str, str]:
    """All of this host that a network could change, as text; whether a bridge has a carrier is left out, as it lags behind."""
    commands = {
        "links": "ip -o link | sed 's/link-netnsid [0-9]*//; s/<.*> //; s/state [A-Z]* //'",
        "addresses": "ip -o addr", "routes": "ip route show table all | sed 's/ linkdown//'; ip -6 route show table all",
        "rules": "ip rule; ip -6 rule", "neighbours": "ip neigh show nud permanent", "nft": "nft list ruleset", "netns": "ls /run/netns",
        "settings": "cd /proc/sys/net; grep -rs . ipv4/ip_forward $(find ipv4/conf ipv6/conf -name '*forwarding' -o -name route_localnet"
                    " -o -name disable_ipv6 -o -name accept_ra -o -name rp_filter | sort)",
        "mounts": "cut -d' ' -f4- /proc/self/mountinfo",
    }  # fmt: skip
    return {name: pretend.sh(command, check=False) for name, command in commands.items()}


def settled() -> dict[str, str]:
    """`state`, once the veths of containers that have ended are gone (the kernel takes some 50 ms) and nothing follows for a second (it
    looks after carriers that long)."""
    poll(lambda: not any(re.fullmatch("md[0-9a-f]{9,}", str(link["ifname"])) for link in pretend.ip("link")), "no container's veth is left")
    seen, since = state(), time.monotonic()

    def rests() -> bool:
        nonlocal seen, since
        now = state()
        if now != seen:
            seen, since = now, time.monotonic()
        return time.monotonic() - since > 1

    poll(rests, "the host comes to rest")
    return seen


def await_state(before: dict[str, str]) -> None:
    """Wait until the host is as it was."""
    def changed() -> dict[str, tuple[str, str]]:
        now = state()
        return {name: (before[name], now[name]) for name in now if now[name] != before[name]}

    poll(lambda: not changed(), f"the host is as before, but for {changed()}", 10)
