"""Throughput, beside a bridge that was made by hand on the same machine: its namespaces and rules are another pretend host, so that
neither's packets meet the other's rules.

    pretend host ─ br0 ─┬ containers, -p               ─ outside ┐
                                                                 ├ both know the host as 192.0.2.1
    netns hand ─── br9 ─┼ containers with --net none,  ─ hand-out┘
                        │   wired by hand: `by hand`
                        └ namespaces by hand: `bare`

`by hand` differs from ours in the network alone. `bare` programs run without a container, so it is the scheduler that decides about them:
the kernel shares processors between sessions and cgroups (sched(7), autogroup), and servers that are alone in theirs get more of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from tests import pretend
from tests.bench import measure
from tests.bench.place import Place, markdown

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    Result = tuple[float, float]  # units a second, seconds of processor time a unit
    Where = tuple[str, list[str], list[int]]  # a namespace to ask from, whom, and their pids

_OUTSIDE, _BEYOND = "192.0.2.1", "192.0.2.2"  # the host as those outside know it, and who is there
_HTTP = 8081
_WANTED = 0.95
_CONNECTIONS = 16

# br9 has containers 1 to 3 at .11 to .13, and namespaces hand-1 to hand-3 at .21 to .23. Published: iperf3, and the servers.
_HAND = """set -e
ip netns add hand && ip netns add hand-out && ip -n hand link set lo up
ip -n hand link add br9 type bridge && ip -n hand addr add 10.60.0.1/24 dev br9 && ip -n hand link set br9 up
ip -n hand link add lan0 type veth peer name eth0 netns hand-out
ip -n hand addr add 192.0.2.1/24 dev lan0 && ip -n hand link set lan0 up
ip -n hand-out addr add 192.0.2.2/24 dev eth0 && ip -n hand-out link set eth0 up && ip -n hand-out link set lo up
ip netns exec hand sysctl -qw net.ipv4.conf.br9.forwarding=1 net.ipv4.conf.lan0.forwarding=1
ip netns exec hand nft -f - <<END
table ip hand {
    map ports { type inet_service : ipv4_addr . inet_service
        elements = { 5201 : 10.60.0.11 . 5201, 5301 : 10.60.0.21 . 5201,
                     9001 : 10.60.0.11 . 8081, 9002 : 10.60.0.12 . 8081, 9003 : 10.60.0.13 . 8081,
                     9101 : 10.60.0.21 . 8081, 9102 : 10.60.0.22 . 8081, 9103 : 10.60.0.23 . 8081 }
    }
    chain prerouting { type nat hook prerouting priority dstnat; fib daddr type local dnat to tcp dport map @ports; }
    chain postrouting { type nat hook postrouting priority srcnat; ip saddr 10.60.0.0/24 oifname != "br9" masquerade; }
}
END
for i in 1 2 3; do ip netns add hand-$i; done
"""
_WIRE = """set -e
ip -n hand link add {port} master br9 type veth peer name eth0 netns {name} && ip -n hand link set {port} up
ip -n {name} addr add {ip}/24 dev eth0 && ip -n {name} link set eth0 up && ip -n {name} link set lo up
ip -n {name} route add default via 10.60.0.1
"""


@contextlib.contextmanager
def by_hand() -> Iterator[None]:
    try:
        pretend.sh(_HAND)
        for i in (1, 2, 3):
            wire(f"hand-{i}", f"10.60.0.2{i}")
        yield
    finally:
        pretend.sh("for name in hand hand-out hand-1 hand-2 hand-3; do ip netns del $name; done", check=False)


def wire(name: str, ip: str) -> None:
    """Connect a network namespace under /run/netns, a container's or another, to the bridge made by hand."""
    pretend.sh(_WIRE.format(name=name, ip=ip, port=f"p{ip.rpartition('.')[2]}"))


@contextlib.contextmanager
def running(*commands: list[str]) -> Iterator[list[int]]:
    """Programs in the background, ended afterwards; what they print goes nowhere. Yields their pids."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            started.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        yield [process.pid for process in started]
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait()


def inside(netns: str, *words: object) -> list[str]:
    return [*(["nsenter", f"--net=/run/netns/{netns}"] if netns else []), *map(str, words)]


def pinned(processor: int, *words: object) -> list[str]:
    """A command that keeps to one processor, where there are two: who asks to 0 and who answers to 1, or the scheduler's luck of the
    moment would be measured."""
    return [*(["taskset", hex(1 << processor)] if (os.cpu_count() or 1) > 1 else []), *map(str, words)]


class Compared:
    """Results (rate, seconds of processor time for one unit) of ours and of those by hand in turns, in every third turn of bare ones, too;
    every other turn goes backwards."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, list[Result]]] = {}

    def take(self, title: str, turn: int, ours: Callable[[], Result], hand: Callable[[], Result], bare: Callable[[], Result]) -> None:
        ways = [("ours", ours), ("hand", hand), *([("bare", bare)] if turn % 3 == 0 else [])]
        for name, way in ways[:: -1 if turn % 2 else 1]:
            self.found.setdefault(title, {}).setdefault(name, []).append(way())

    def table(self, unit: str, scale: float, form: str) -> str:
        rows = []
        for title, by_name in self.found.items():
            rates = {name: format(median(rate for rate, _ in results) / scale, form) for name, results in by_name.items()}
            ours, hand = by_name["ours"], by_name["hand"]
            ratios = sorted(one[0] / other[0] for one, other in zip(ours, hand, strict=True))
            work = median(other[1] / one[1] for one, other in zip(ours, hand, strict=True))
            quarter = len(ratios) // 4
            half = f"{ratios[quarter]:.2f} - {ratios[-1 - quarter]:.2f}"
            rows.append([title, rates["ours"], rates["hand"], f"{median(ratios):.3f}", half, f"{work:.3f}", rates["bare"]])
        head = ["path", f"minidocker, {unit}", "network by hand", "ratio", "half of the ratios", "by processor time", "no containers"]
        return markdown(head, rows)


_READ = """
At least {wanted} of the same containers with a network by hand: the median of the ratios within a turn. By processor time: how little of it
went into one unit, of who asks and who answers together; of the two it is the one that other programs on this machine disturb less.
{turns} turns of {seconds} s. Without containers: namespaces and network by hand, in every third turn.
"""


def read(options: argparse.Namespace) -> str:
    return _READ.format(wanted=_WANTED, turns=options.turns, seconds=options.seconds)


def throughput(place: Place, options: argparse.Namespace) -> None:
    """iperf3."""
    compared = Compared()
    serve = pinned(1, "iperf3", "-s")
    client = [*place.command.split(), "exec"]
    with by_hand(), running(*(inside(name, *serve) for name in ("hand-1", "hand-out", "outside"))):
        place.detach("to", "-p", "5201:5201", *serve)
        place.detach("from", "sleep", 100000)
        for name, ip, words in (("hand-to", "10.60.0.11", serve), ("hand-from", "10.60.0.12", ["sleep", 100000])):
            place.detach(name, "--net", "none", *words)
            wire(name, ip)

        def test(before: list[str], server: str, *more: object) -> Callable[[], Result]:
            return lambda: _iperf(before, server, options.seconds, *more)

        address, ours, hand, bare = place.address("to"), [*client, "from"], [*client, "hand-from"], inside("hand-2")
        for turn in range(options.turns):
            compared.take("container to container", turn, test(ours, address), test(hand, "10.60.0.11"), test(bare, "10.60.0.21"))
            for title, more in (("outside to published port", []), ("published port to outside", ["-R"])):
                port = ["-p", 5301, *more]
                compared.take(title, turn, test(inside("outside"), _OUTSIDE, *more), test(inside("hand-out"), _OUTSIDE, *more),
                              test(inside("hand-out"), _OUTSIDE, *port))  # fmt: skip
            compared.take("container to outside, masqueraded", turn, test(ours, _BEYOND), test(hand, _BEYOND), test(bare, _BEYOND))
        place.remove("to", "from", "hand-to", "hand-from")
    print("## Throughput, iperf3, one TCP connection\n")
    print(compared.table("Gbit/s", 1e9, ".2f"))
    print(read(options))


def _iperf(before: list[str], server: str, seconds: int, *more: object) -> Result:
    """The unit is a bit that arrived. A server that is still busy with the test before is asked again."""
    words = [*before, *pinned(0, "iperf3", "-c", server, "-J", "-t", seconds, *more)]
    for _ in range(40):
        done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        report = json.loads(done.stdout) if done.stdout.startswith("{") else {}
        if done.returncode == 0 and "sum_received" in report.get("end", {}):
            end = report["end"]
            rate, busy = end["sum_received"]["bits_per_second"], end["cpu_utilization_percent"]
            return rate, (busy["host_total"] + busy["remote_total"]) / 100 / rate
        time.sleep(0.25)
    raise SystemExit(f"{' '.join(words)}: {report.get('error', '')} {done.stderr}")


def requests(place: Place, options: argparse.Namespace) -> None:
    """wrk against three of examples/server, their output thrown away, and then kept."""
    compared = Compared()
    numbers = (1, 2, 3)
    commands = [inside(f"hand-{i}", *pinned(1, measure.REPOSITORY / "examples/server/server", f"s{i}")) for i in numbers]
    with by_hand(), running(*commands) as bare_pids:
        for kept in (False, True):
            for i in numbers:
                words = pinned(1, "/server", f"s{i}")
                words = words if kept else ["sh", "-c", f"exec {' '.join(words)} > /dev/null"]
                place.detach(f"s{i}", "-p", f"900{i}:{_HTTP}", "--rootfs", place.rootfs, *words)
                place.detach(f"hand-s{i}", "--net", "none", "--rootfs", place.rootfs, *words)
                wire(f"hand-s{i}", f"10.60.0.1{i}")
            pids, hand_pids = ([place.pid(f"{name}{i}") for i in numbers] for name in ("s", "hand-s"))
            addresses = [f"{place.address(f's{i}')}:{_HTTP}" for i in numbers]
            hands, bares = ([f"10.60.0.{ten}{i}:{_HTTP}" for i in numbers] for ten in (1, 2))
            published, of_bare = ([f"{_OUTSIDE}:9{hundred}0{i}" for i in numbers] for hundred in (0, 1))
            how = "output kept" if kept else "output thrown away"
            for turn in range(options.turns):
                _take(compared, f"to their addresses, {how}", turn, options,
                      ("", addresses, pids), ("hand", hands, hand_pids), ("hand", bares, bare_pids))  # fmt: skip
                _take(compared, f"outside to published ports, {how}", turn, options,
                      ("outside", published, pids), ("hand-out", published, hand_pids), ("hand-out", of_bare, bare_pids))  # fmt: skip
            place.remove(*(f"{name}{i}" for i in numbers for name in ("s", "hand-s")))
    print("## Requests to three of examples/server, wrk\n")
    print(compared.table("requests/s", 1, ",.0f"))
    print(read(options) + f"A wrk for each server with {_CONNECTIONS} connections. The server prints a line for each request: kept, the "
          "monitors log it with the time; that of the ones without containers is thrown away in any case.\n")  # fmt: skip


def _take(compared: Compared, title: str, turn: int, options: argparse.Namespace, *where: Where) -> None:
    ours, hand, bare = (lambda one=one: _wrk(*one, options.seconds) for one in where)
    compared.take(title, turn, ours, hand, bare)


def _wrk(netns: str, servers: list[str], pids: list[int], seconds: int) -> Result:
    """The unit is a request. Each of `servers` is asked by a wrk of its own from `netns`."""
    for server in servers:
        _await(netns, server)
    words = pinned(0, "wrk", "-t", 1, "-c", _CONNECTIONS, "-d", f"{seconds}s")
    before = sum(map(_on_a_processor, pids)) + _of_children()
    asking = [subprocess.Popen(inside(netns, *words, f"http://{server}/"), stdout=subprocess.PIPE, text=True) for server in servers]
    told = [process.communicate()[0] for process in asking]
    used = sum(map(_on_a_processor, pids)) + _of_children() - before
    if any("Non-2xx" in text or "Socket errors" in text for text in told):
        print("wrk met errors:\n" + "\n".join(told), file=sys.stderr)
    rate = sum(float(re.search(r"Requests/sec:\s*([\d.]+)", text).group(1)) for text in told)  # type: ignore[union-attr]
    return rate, used / seconds / rate


def _await(netns: str, server: str) -> None:
    """It may only just have begun to listen; and the first connection is no measure of the others."""
    for _ in range(100):
        done = subprocess.run(inside(netns, "curl", "-sf", "-m", 2, "-o", "/dev/null", f"http://{server}/"))
        if done.returncode == 0:
            return
        time.sleep(0.05)
    raise SystemExit(f"http://{server}/ does not answer: curl ended with {done.returncode}")


def _on_a_processor(pid: int) -> float:
    """Seconds that a process has been on a processor (proc_pid_schedstat(5)), with all that the kernel did there for it."""
    return sum(int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0]) for task in os.listdir(f"/proc/{pid}/task")) / 1e9


def _of_children() -> float:
    """Seconds of those that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
