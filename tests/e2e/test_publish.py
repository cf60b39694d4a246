"""-p, TCP: who reaches a published port, whose address the server sees, and who has a port already."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import pretend
from tests.e2e.support import Minidocker, poll
from tests.e2e.world import HOST, NEAR, PORT, REPORTER, fetch, fetch_inside, serve

PUBLISHED = 18081

# Says on its output how many datagrams have come, once for every ten.
LISTENER = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 5300))
n = 0
while s.recv(100):
    n += 1
    if n % 10 == 0:
        print(n, flush=True)
"""
# One socket, a datagram every 20 ms, for ever.
SENDER = """
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    s.sendto(b"x", ("192.0.2.1", 5353))
    time.sleep(0.02)
"""


def serve_reporter(md: Minidocker, *options: object) -> None:
    """A web server that answers with its client's address, run by the host's own python."""
    md.start("--name", "reporter", *options, "/usr/bin/python3", "-I", "-c", REPORTER, "", str(PORT))
    [place] = md.inspect("reporter")["NetworkSettings"]["Networks"].values()
    poll(lambda: fetch(f"http://{place['IPAddress']}:{PORT}"), "the reporter listens")


def elements(md: Minidocker) -> list[str]:
    """What is published, as nft prints it."""
    listed = json.loads(pretend.sh(f"nft -j list table inet minidocker_{md.tag}"))["nftables"]
    maps = [item["map"] for item in listed if "map" in item]
    return [json.dumps(element) for one in maps if one["name"] in ("ports", "ports_at") for element in one.get("elem", [])]


@contextmanager
def bound(address: str, port: int) -> Iterator[None]:
    """This process listens there."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen()
        yield


def test_a_published_port_is_reached_from_everywhere(world: None, md: Minidocker, server: Path) -> None:
    ip = serve(md, server, "alice", "-p", f"{PUBLISHED}:{PORT}")["IPAddress"]
    serve(md, server, "bob")
    assert fetch(f"http://{HOST}:{PUBLISHED}", "near") == "alice"
    for address in (HOST, "127.0.0.1", "127.0.0.9", "172.17.0.1", "198.51.100.1", "localhost"):
        assert fetch(f"http://{address}:{PUBLISHED}") == "alice", address
    for caller in ("bob", "alice"):  # a sibling; and the container itself, its packets turned round in the bridge
        for address in (HOST, "172.17.0.1"):
            assert fetch_inside(md, caller, f"http://{address}:{PUBLISHED}") == "alice", (caller, address)
    assert fetch(f"http://{ip}:{PORT}") == "alice"
    assert fetch(f"http://{HOST}:{PORT}", "near", 1) == ""


def test_the_server_sees_who_asks(world: None, md: Minidocker) -> None:
    serve_reporter(md, "-p", f"{PUBLISHED}:8081")
    assert fetch(f"http://{HOST}:{PUBLISHED}", "near") == NEAR
    assert fetch(f"http://{HOST}:{PUBLISHED}") == HOST


def test_one_address_alone(world: None, md: Minidocker, server: Path) -> None:
    serve(md, server, "alice", "-p", f"127.0.0.1:{PUBLISHED}:{PORT}")
    serve(md, server, "bob", "-p", f"{HOST}:{PUBLISHED}:{PORT}")
    assert fetch(f"http://127.0.0.1:{PUBLISHED}") == "alice"
    assert fetch(f"http://{HOST}:{PUBLISHED}") == fetch(f"http://{HOST}:{PUBLISHED}", "near") == "bob"
    assert "203.0.113.1" in md.refused("run", "--rm", "-p", f"203.0.113.1:{PUBLISHED + 1}:{PORT}", "true")


def test_a_free_port_is_chosen(world: None, md: Minidocker, server: Path) -> None:
    serve(md, server, "alice", "-p", str(PORT))
    serve(md, server, "bob", "-p", str(PORT))
    shown = {container["Names"]: container["Ports"] for container in md.ps()}
    numbers = {name: int(text.partition("->")[0].rpartition(":")[2]) for name, text in shown.items()}
    assert numbers["alice"] != numbers["bob"]
    for name, number in numbers.items():
        assert number >= 32768 and shown[name] == f"0.0.0.0:{number}->{PORT}/tcp"
        assert fetch(f"http://{HOST}:{number}", "near") == name
        ports = md.inspect(name)["NetworkSettings"]["Ports"]
        assert ports[f"{PORT}/tcp"][0]["HostPort"] == str(number)


def test_port_says_where_a_container_is_published(md: Minidocker) -> None:
    options = ("-p", "18443:443", "-p", f"127.0.0.1:{PUBLISHED}:80", "-p", f"{PUBLISHED + 1}:80", "-p", "5353:53/udp")
    md.start("--name", "web", *options, "sleep", "1000")
    assert md("port", "web").stdout.splitlines() == [
        "53/udp -> 0.0.0.0:5353", f"80/tcp -> 127.0.0.1:{PUBLISHED}", f"80/tcp -> 0.0.0.0:{PUBLISHED + 1}", "443/tcp -> 0.0.0.0:18443",
    ]  # fmt: skip
    assert md("port", "web", "80").stdout.splitlines() == [f"127.0.0.1:{PUBLISHED}", f"0.0.0.0:{PUBLISHED + 1}"]
    assert md("port", "web", "53/UDP").stdout == "0.0.0.0:5353\n"
    refusal = "minidocker: port 53/tcp of `web` is not published\n  hint: minidocker port web shows which are\n"
    assert md.refused("port", "web", "53", code=1) == refusal
    assert "one port, not a range" in md.refused("port", "web", "53-54")
    assert "the protocol is tcp, udp or sctp" in md.refused("port", "web", "53/icmp")
    assert "no such container: nobody" in md.refused("port", "nobody", code=1)
    md("stop", "-t", "0", "web")
    assert md("port", "web").stdout == ""


def test_a_port_of_another_container_is_refused_naming_it(world: None, md: Minidocker, server: Path) -> None:
    serve(md, server, "alice", "-p", f"{PUBLISHED}:{PORT}")
    before = ([one["Names"] for one in md.ps()], elements(md))
    for option in (f"{PUBLISHED}:80", f"127.0.0.1:{PUBLISHED}:80"):
        refusal = md.refused("run", "--rm", "--name", "bob", "-p", option, "true")
        assert "alice" in refusal and str(PUBLISHED) in refusal
    refusal = md.refused("run", "--rm", "-p", f"{PUBLISHED + 1}:80", "-p", f"{PUBLISHED + 1}:81", "true")
    assert str(PUBLISHED + 1) in refusal
    assert ([one["Names"] for one in md.ps()], elements(md)) == before


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", HOST])
def test_a_port_of_a_process_of_the_host_is_refused_naming_it(world: None, md: Minidocker, address: str) -> None:
    with bound(address, PUBLISHED):
        refusal = md.refused("run", "--rm", "-p", f"{PUBLISHED}:80", "true")
        comm = Path("/proc/self/comm").read_text().strip()
        assert f"({comm})" in refusal and str(PUBLISHED) in refusal
        assert md.ps() == []
        if address == "127.0.0.1":
            md.run("--rm", "-p", f"{HOST}:{PUBLISHED}:80", "true")
    md.run("--rm", "-p", f"{PUBLISHED}:80", "true")


@pytest.mark.parametrize("way", ["stop", "rm", "end", "kill"])
def test_afterwards_the_port_is_free(world: None, md: Minidocker, server: Path, way: str) -> None:
    serve(md, server, "alice", "-p", f"{PUBLISHED}:{PORT}", "-p", f"127.0.0.1:{PUBLISHED + 1}:{PORT}")
    assert len(elements(md)) == 2
    md(*{"stop": ("stop", "alice"), "rm": ("rm", "-f", "alice"), "end": ("kill", "-s", "TERM", "alice"), "kill": ("kill", "alice")}[way])
    if way in ("end", "kill"):
        md.wait("alice")
    assert elements(md) == []
    assert fetch(f"http://{HOST}:{PUBLISHED}", "near", 1) == fetch(f"http://127.0.0.1:{PUBLISHED}") == ""
    with bound("0.0.0.0", PUBLISHED):
        pass
    serve(md, server, "bob", "-p", f"{PUBLISHED}:{PORT}")
    assert fetch(f"http://{HOST}:{PUBLISHED}", "near") == "bob"


def test_a_port_is_free_after_a_start_that_failed(world: None, md: Minidocker) -> None:
    md.refused("run", "--name", "alice", "-p", f"{PUBLISHED}:80", "no-such-program", code=127)
    assert md.ps() == []
    md.run("--rm", "-p", f"{PUBLISHED}:80", "true")
    assert elements(md) == []


def test_a_sender_that_never_pauses_is_led_to_whoever_has_the_port_now(world: None, md: Minidocker) -> None:
    """What the kernel tracked before the port was published, or for the container that had it before, does not keep it away."""

    def receives(name: str) -> None:
        md.start("--name", name, "-p", "5353:5300/udp", "/usr/bin/python3", "-I", "-c", LISTENER)
        poll(lambda: "10\n" in md("logs", name).stdout, f"{name} gets what is sent", 5)

    sender = subprocess.Popen(["ip", "netns", "exec", "near", sys.executable, "-I", "-c", SENDER])
    try:
        time.sleep(0.5)  # it is known to the kernel by now, as a flow to this host
        receives("first")
        md("rm", "-f", "first")
        receives("second")
    finally:
        sender.kill()
        sender.wait()
