"""Throughput, beside a bridge that was made by hand on the same machine: its namespaces and rules are another pretend host, so that
neither's packets meet the other's rules.

    pretend host ── br0 ── containers, -p          ─┐ each with an `outside` on a veth
    netns hand ──── br9 ── hand-1 ... hand-3, dnat ─┘
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from tests import pretend
from tests.bench import measure
from tests.bench.place import Place, markdown, output

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    Where = tuple[str, list[str]]  # a namespace to ask from, and whom

_IPERF, _HTTP = 5201, 8081
_OUTSIDE = "192.0.2.1"  # the host, as those outside know it
_SERVERS = (1, 2, 3)
_WANTED = 0.95
_CONNECTIONS = 16

_HAND = """
ip netns add hand && ip netns add hand-out && ip -n hand link set lo up
ip -n hand link add br9 type bridge && ip -n hand addr add 10.60.0.1/24 dev br9 && ip -n hand link set br9 up
ip -n hand link add lan0 type veth peer name eth0 netns hand-out
ip -n hand addr add 192.0.2.1/24 dev lan0 && ip -n hand link set lan0 up
ip -n hand-out addr add 192.0.2.2/24 dev eth0 && ip -n hand-out link set eth0 up && ip -n hand-out link set lo up
for i in 1 2 3; do
    ip netns add hand-$i
    ip -n hand link add p$i master br9 type veth peer name eth0 netns hand-$i && ip -n hand link set p$i up
    ip -n hand-$i addr add 10.60.0.1$i/24 dev eth0 && ip -n hand-$i link set eth0 up && ip -n hand-$i link set lo up
    ip -n hand-$i route add default via 10.60.0.1
done
ip netns exec hand sysctl -qw net.ipv4.conf.br9.forwarding=1 net.ipv4.conf.lan0.forwarding=1
ip netns exec hand nft -f - <<END
table ip hand {
    map ports { type inet_service : ipv4_addr . inet_service;
        elements = { 5201 : 10.60.0.11 . 5201, 9001 : 10.60.0.11 . 8081, 9002 : 10.60.0.12 . 8081, 9003 : 10.60.0.13 . 8081 }; }
    chain prerouting { type nat hook prerouting priority dstnat; fib daddr type local dnat to tcp dport map @ports; }
    chain postrouting { type nat hook postrouting priority srcnat; ip saddr 10.60.0.0/24 oifname != "br9" masquerade; }
}
END
"""
_UNDO = "for name in hand hand-out hand-1 hand-2 hand-3; do ip netns del $name; done"


@contextlib.contextmanager
def by_hand() -> Iterator[None]:
    try:
        pretend.sh("set -e\n" + _HAND)
        yield
    finally:
        pretend.sh(_UNDO, check=False)


@contextlib.contextmanager
def running(*commands: list[str], log: Path | None = None) -> Iterator[None]:
    """Programs in the background, ended afterwards; what they print goes through a pipe to one `cat` each into `log`, or nowhere."""
    started: list[subprocess.Popen[bytes]] = []
    nowhere = subprocess.DEVNULL
    try:
        for command in commands:
            program = subprocess.Popen(command, stdin=nowhere, stdout=subprocess.PIPE if log else nowhere, stderr=nowhere)
            started.append(program)
            if log and program.stdout:
                with log.open("ab") as file, program.stdout:
                    started.append(subprocess.Popen(["cat"], stdin=program.stdout, stdout=file))
        yield
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait()


def inside(netns: str, *words: object) -> list[str]:
    return [*(["nsenter", f"--net=/run/netns/{netns}"] if netns else []), *map(str, words)]


class Pairs:
    """Numbers of ours and of those by hand, in turns; in every other turn the other one is first."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, list[float]]] = {}

    def take(self, title: str, turn: int, **how) -> None:  # type: ignore[no-untyped-def]
        for name in list(how)[:: -1 if turn % 2 else 1]:
            self.found.setdefault(title, {}).setdefault(name, []).append(how[name]())

    def rows(self, scale: float, form: str) -> list[list[str]]:
        rows = []
        for title, by_name in self.found.items():
            hand = by_name["hand"]
            for name, values in by_name.items():
                ratios = [value / other for value, other in zip(values, hand, strict=True)]
                spread = f"{min(ratios):.2f} - {max(ratios):.2f}"
                of = ["", ""] if name == "hand" else [f"{median(ratios):.3f}", spread]
                rows.append([f"{title}, {_NAMES[name]}", format(median(values) / scale, form), *of])
        return rows


_NAMES = {"ours": "minidocker", "bare": "minidocker, the client from the host by nsenter", "hand": "by hand"}


def throughput(place: Place, options: argparse.Namespace) -> None:
    """iperf3."""
    pairs = Pairs()
    with by_hand(), running(inside("hand-1", "iperf3", "-s"), inside("hand-out", "iperf3", "-s"), inside("outside", "iperf3", "-s")):
        place.detach("to", "-p", f"{_IPERF}:{_IPERF}", "iperf3", "-s")
        place.detach("from", "sleep", 100000)
        address, client = place.address("to"), [*place.command.split(), "exec", "from"]

        def test(before: list[str], server: str, *more: object):  # type: ignore[no-untyped-def]
            return lambda: _iperf(before, server, options.seconds, *more)

        for turn in range(options.rounds):
            pairs.take("container to container", turn, ours=test(client, address), bare=test(inside("from"), address),
                       hand=test(inside("hand-2"), "10.60.0.11"))
            for title, more in (("from outside to a published port", []), ("to outside from a published port", ["-R"])):
                pairs.take(title, turn, ours=test(inside("outside"), _OUTSIDE, *more), hand=test(inside("hand-out"), _OUTSIDE, *more))
            pairs.take("container to outside, masqueraded", turn, ours=test(client, "192.0.2.2"), hand=test(inside("hand-2"), "192.0.2.2"))
        place.remove("to", "from")
    print("## Throughput, iperf3, one TCP connection\n")
    print(markdown(["path", "median, Gbit/s", "of that by hand", "least and most"], pairs.rows(1e9, ".2f")))
    print(f"\nAt least {_WANTED} of it. {options.rounds} turns of {options.seconds} s; the ratios are those within a turn, their median.\n")


def _iperf(before: list[str], server: str, seconds: int, *more: object) -> float:
    """Bits a second that arrived; a server that is still busy with the test before is asked again."""
    for _ in range(40):
        words = [*before, "iperf3", "-c", server, "-J", "-t", seconds, "-O", 1, *more]
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        report = json.loads(done.stdout) if done.stdout.startswith("{") else {}
        if done.returncode == 0 and "end" in report and "sum_received" in report["end"]:
            return float(report["end"]["sum_received"]["bits_per_second"])
        time.sleep(0.25)
    raise SystemExit(f"{' '.join(map(str, words))}: {report.get('error', '')} {done.stderr}")


def requests(place: Place, options: argparse.Namespace) -> None:
    """wrk against three of examples/server, their output thrown away, and then kept."""
    pairs = Pairs()
    with by_hand():
        for kept in (False, True):
            servers = [inside(f"hand-{i}", measure.REPOSITORY / "examples/server/server", f"s{i}") for i in _SERVERS]
            with running(*servers, log=place.work / "hand.log" if kept else None):
                for i in _SERVERS:
                    words = ["/server", f"s{i}"] if kept else ["sh", "-c", f"exec /server s{i} > /dev/null"]
                    place.detach(f"s{i}", "-p", f"900{i}:{_HTTP}", "--rootfs", place.rootfs, *words)
                ours = [f"{place.address(f's{i}')}:{_HTTP}" for i in _SERVERS]
                hands = [f"10.60.0.1{i}:{_HTTP}" for i in _SERVERS]
                published = [f"{_OUTSIDE}:900{i}" for i in _SERVERS]
                how = "output kept" if kept else "output thrown away"
                for turn in range(options.rounds):
                    _take(pairs, f"to their addresses, {how}", turn, options, ("", ours), ("hand", hands))
                    _take(pairs, f"from outside to published ports, {how}", turn, options, ("outside", published), ("hand-out", published))
                place.remove(*(f"s{i}" for i in _SERVERS))
    print("## Requests to three of examples/server, wrk\n")
    print(markdown(["path", "median, requests/s of all three", "of that by hand", "least and most"], pairs.rows(1, ",.0f")))
    print(f"\nAt least {_WANTED} of it where the output is thrown away: there it is the network alone. The server prints a line for each "
          "request; kept, our monitor logs it with the time, and by hand `cat` writes it to a file.\n"
          f"{options.rounds} turns of {options.seconds} s, a wrk for each with {_CONNECTIONS} connections.\n")  # fmt: skip


def _take(pairs: Pairs, title: str, turn: int, options: argparse.Namespace, ours: Where, hand: Where) -> None:
    pairs.take(title, turn, ours=lambda: _wrk(*ours, options.seconds), hand=lambda: _wrk(*hand, options.seconds))


def _wrk(netns: str, servers: list[str], seconds: int) -> float:
    """Requests a second that all of `servers` answered, each asked by a wrk of its own from `netns`."""
    for server in servers:  # they may only just have begun to listen, and the first connection is another's cost
        output(*inside(netns, "curl", "-sf", "--retry", 20, "--retry-connrefused", "--retry-delay", 0, "-o", "/dev/null", f"http://{server}/"))
    words = ["wrk", "-t", 1, "-c", _CONNECTIONS, "-d", f"{seconds}s"]
    asking = [subprocess.Popen(inside(netns, *words, f"http://{server}/"), stdout=subprocess.PIPE, text=True) for server in servers]
    told = [process.communicate()[0] for process in asking]
    if any("Non-2xx" in text or "Socket errors" in text for text in told):
        print("wrk met errors:\n" + "\n".join(told), file=sys.stderr)
    return sum(float(re.search(r"Requests/sec:\s*([\d.]+)", text).group(1)) for text in told)  # type: ignore[union-attr]
