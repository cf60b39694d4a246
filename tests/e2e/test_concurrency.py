"""Many commands at once: names, addresses and ports have one owner each, nobody fails for another's sake, nothing is left."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests import pretend
from tests.e2e.machine import Picture, records, visible
from tests.e2e.support import Minidocker, poll

MANY = 50
Done = subprocess.CompletedProcess[Any]


def at_once(calls: Sequence[Callable[[], Done]]) -> list[Done]:
    """Begin all of `calls` together; their results in order."""
    results: dict[int, Done] = {}
    start = threading.Barrier(len(calls))

    def call(at: int) -> None:
        start.wait()
        results[at] = calls[at]()

    threads = [threading.Thread(target=call, args=(at,)) for at in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[at] for at in range(len(calls))]


def command(md: Minidocker, *words: object) -> Callable[[], Done]:
    return lambda: md(*words, check=False, timeout=120)


def failures(done: list[Done]) -> list[tuple[int, str]]:
    return [(one.returncode, one.stderr) for one in done if one.returncode or one.stderr]


def network_of(name: str, document: dict[str, Any]) -> tuple[str, str]:
    place = document["NetworkSettings"]["Networks"][name]
    return place["IPAddress"], place["MacAddress"]


def answer_of(ip: str) -> str:
    return str(poll(lambda: pretend.sh(f"curl -s --noproxy '*' --max-time 5 http://{ip}:8081/", check=False).strip(), f"{ip} answers"))


@pytest.mark.slow
def test_fifty_at_once_on_a_fresh_root(md: Minidocker, busybox: Path) -> None:
    serve = ["--net", "br0", "--rootfs", busybox, "sh", "-c", "mkdir /www; hostname > /www/index.html; exec httpd -f -p 8081 -h /www"]
    done = at_once([command(md, "run", "-d", "--name", f"c{n}", "--hostname", f"c{n}", *serve) for n in range(MANY)])
    assert failures(done) == []
    documents = json.loads(md("inspect", *(f"c{n}" for n in range(MANY))).stdout)
    places = [network_of("br0", document) for document in documents]
    assert len({ip for ip, _ in places}) == len({mac for _, mac in places}) == MANY
    assert [one.stdout.strip() for one in done] == [document["Id"] for document in documents]
    for number, (ip, mac) in enumerate(places):
        assert answer_of(ip) == f"c{number}"
        [inside] = json.loads(pretend.sh(f"ip -n c{number} -j addr show dev eth0"))
        assert (inside["address"], [a["local"] for a in inside["addr_info"]]) == (mac, [ip])
    [bridge] = pretend.ip("link show type bridge")
    assert (bridge["ifname"], len(pretend.ip("link show master br0"))) == ("br0", MANY)
    removed = at_once([command(md, "rm", "-f", f"c{n}") for n in range(MANY)])
    assert failures(removed) == []
    assert md.ps() == []
    poll(lambda: not pretend.ip("link show master br0"), "all veths are gone")
    rows = records(md.root / "state.db")
    assert rows["containers"] == rows["endpoints"] == []
    assert md.cgroups() == []


@pytest.mark.slow
def test_many_come_and_go_on_two_networks_while_others_look(md: Minidocker, busybox: Path) -> None:
    """Thirty here, a hundred by MINIDOCKER_MANY=100: each run and each removal at once, with `ps` and `inspect` in between."""
    many = int(os.environ.get("MINIDOCKER_MANY", "30"))
    for name, subnet in (("front", "10.77.0.0/24"), ("back", "10.77.1.0/24")):
        md("network", "create", "--subnet", subnet, name)
        md.run("--rm", "--net", name, "--rootfs", busybox, "true")
    poll(lambda: not pretend.ip("link show type veth"), "their cables are gone")
    before = but_waiting(visible())
    names = [f"c{n}" for n in range(many)]
    run = ["run", "-d", "--net", "front", "--net", "back", "--rootfs", busybox]
    looks = [command(md, "ps", "-a"), command(md, "inspect", *names[::10]), command(md, "ps", "-q"), command(md, "network", "ls")]
    *done, one, two, three, four = at_once([*(command(md, *run, "--name", name, "sleep", "1000") for name in names), *looks])
    assert failures(done) == [] == failures([one, three, four])
    assert all("no such container" in line for line in two.stderr.splitlines() if "hint" not in line), two.stderr
    documents = json.loads(md("inspect", *names).stdout)
    assert [one.stdout.strip() for one in done] == [document["Id"] for document in documents]
    for network in ("front", "back"):
        places = [network_of(network, document) for document in documents]
        assert len({ip for ip, _ in places}) == len({mac for _, mac in places}) == many
    assert {document["State"]["Status"] for document in documents} == {"running"} and len(md.ps()) == many
    *removed, one, _, three, four = at_once([*(command(md, "rm", "-f", name) for name in names), *looks])
    assert failures(removed) == [] == failures([one, three, four])
    assert md.ps() == [] and md.cgroups() == [] and list((md.root / "containers").iterdir()) == []
    rows = records(md.root / "state.db")
    assert rows["containers"] == rows["endpoints"] == rows["ports"] == []
    poll(lambda: not pretend.ip("link show type veth"), "their cables are gone")
    assert but_waiting(visible()) == before


def but_waiting(shown: Picture) -> Picture:
    """Without whether a bridge has noticed yet that its last port has gone."""
    return {**shown, "routes": shown["routes"].replace(" linkdown", "")}


def test_two_first_runs_make_one_br0(md: Minidocker, busybox: Path) -> None:
    for _ in range(5):
        done = at_once([command(md, "run", "--rm", "--net", "br0", "--rootfs", busybox, "hostname", "-i")] * 2)
        assert failures(done) == []
        assert len(pretend.ip("link show type bridge")) == 1
        assert len(records(md.root / "state.db")["networks"]) == 1
        md("network", "rm", "br0")


def test_first_runs_and_network_rm(md: Minidocker, busybox: Path) -> None:
    """A run either gets the network or makes it anew; `network rm` either removes it or says who is in it, or that it is gone."""
    run = command(md, "run", "--rm", "--net", "br0", "--rootfs", busybox, "true")
    for _ in range(6):
        *runs, removal = at_once([run, run, run, command(md, "network", "rm", "br0")])
        assert failures(runs) == []
        assert removal.returncode == 0 or "has containers in it" in removal.stderr or "no such network" in removal.stderr


def test_one_wins_the_name(md: Minidocker, busybox: Path) -> None:
    for _ in range(3):
        done = at_once([command(md, "run", "-d", "--name", "web", "--net", "br0", "--rootfs", busybox, "sleep", "1000")] * 6)
        [winner] = [one for one in done if one.returncode == 0]
        for loser in done:
            if loser is not winner:
                assert (loser.returncode, loser.stdout) == (125, "")
                assert loser.stderr.startswith(f"minidocker: the name `web` is in use by container {winner.stdout[:12]}\n")
        assert [row["Names"] for row in md.ps()] == ["web"]
        md("rm", "-f", "web")


def test_one_wins_the_port(md: Minidocker, busybox: Path) -> None:
    for _ in range(3):
        run = ["run", "-d", "--net", "br0", "-p", "18080:80", "--rootfs", busybox]
        done = at_once([command(md, *run, "--name", f"c{n}", "sleep", "1000") for n in range(4)])
        [winner] = [n for n in range(4) if done[n].returncode == 0]
        for number, one in enumerate(done):
            if number != winner:
                assert (one.returncode, one.stdout) == (125, "")
                assert one.stderr.startswith(f"minidocker: port 18080/tcp of all addresses is published by container `c{winner}` already\n")
        assert [row["Names"] for row in md.ps()] == [f"c{winner}"]
        md("rm", "-f", f"c{winner}")


def test_one_wins_the_address(md: Minidocker, busybox: Path) -> None:
    done = at_once([command(md, "run", "-d", "--net", "br0", "--ip", "172.17.0.9", "--rootfs", busybox, "sleep", "1000")] * 4)
    assert sorted(one.returncode for one in done) == [0, 125, 125, 125]
    assert all("172.17.0.9" in one.stderr and "is in use by" in one.stderr for one in done if one.returncode)


def test_removed_twice_at_once(md: Minidocker, busybox: Path) -> None:
    """One removes it; the others find it gone, before or while they look."""
    for _ in range(5):
        md.start("--name", "web", "--net", "br0", "--rootfs", busybox, "sleep", "1000")
        done = at_once([command(md, "rm", "-f", "web")] * 4)
        assert any(one.returncode == 0 for one in done)
        assert all(one.stderr.startswith("minidocker: no such container: web\n") for one in done if one.returncode)
        assert md.ps() == []


def test_stopped_twice_at_once(md: Minidocker, busybox: Path) -> None:
    for _ in range(3):
        md.start("--name", "web", "--net", "br0", "--rootfs", busybox, "sh", "-c", "trap 'exit 5' TERM; while true; do sleep 0.05; done")
        assert failures(at_once([command(md, "stop", "web")] * 4 + [command(md, "ps")] * 4)) == []
        assert md.inspect("web")["State"]["Status"] == "exited"
        md("rm", "web")


def test_whoever_looks_on_changes_no_end(md: Minidocker, busybox: Path) -> None:
    """A container that ends by itself keeps its exit code however many commands reconcile at that moment."""
    for code in range(10, 20):
        md.start("--name", "web", "--net", "none", "--rootfs", busybox, "sh", "-c", f"sleep 0.1; exit {code}")
        assert failures(at_once([command(md, "ps", "-a")] * 6)) == []
        state = md.wait("web")["State"]
        assert (state["ExitCode"], state["Error"]) == (code, "")
        md("rm", "web")


def test_removed_while_it_starts(md: Minidocker, busybox: Path) -> None:
    """`rm -f` of what another command is just starting: it is removed, or not there yet; never is it half there."""
    for _ in range(8):
        run, remove = at_once([
            command(md, "run", "-d", "--name", "web", "--net", "br0", "--rootfs", busybox, "sleep", "1000"), command(md, "rm", "-f", "web"),
        ])  # fmt: skip
        assert run.returncode == 0, run.stderr
        assert remove.returncode == 0 or remove.stderr.startswith("minidocker: no such container: web")
        rows = md.ps()
        assert [row["State"] for row in rows] == ([] if remove.returncode == 0 else ["running"])
        if rows:
            md("rm", "-f", "web")


def test_many_networks_at_once(md: Minidocker) -> None:
    """Each gets a subnet of its own, and none is refused as another was faster."""
    done = at_once([command(md, "network", "create", f"n{n}") for n in range(8)])
    assert failures(done) == []
    networks = json.loads(md("network", "ls", "--format", "json").stdout)
    assert len({network["Subnet"] for network in networks}) == len(networks) == 8
    assert failures(at_once([command(md, "network", "rm", f"n{n}") for n in range(8)])) == []
