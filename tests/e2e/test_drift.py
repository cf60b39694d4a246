"""What minidocker does and what it prints are the same (drift.py): of two fresh hosts the kernel says the same afterwards."""

from __future__ import annotations

import json
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e import drift
from tests.e2e.support import Minidocker, poll

SH = ("sh", "-c", drift.FACTS)
Words = tuple[str, ...]


def run(*options: str, name: str = "one") -> Words:
    return ("run", "--name", name, *options, *SH)


def create(*options: str) -> Words:
    return ("network", "create", *options)


SIX = create("--ipv6", "--subnet", "10.6.0.0/24", "--subnet", "fd00:6::/64", "six")
ROOTFS = ("--rootfs", "ROOTFS")
CASES: dict[str, list[Words]] = {
    "bridge": [run()],
    "bridge, ports": [run("-p", "8080:80", "-p", "127.0.0.1:5353:53/udp", "-p", "192.0.2.1:9000-9002:9000-9002")],
    "bridge, IPv6": [SIX, run("--net", "six")],
    "bridge, IPv6, ports, rootfs": [SIX, run("--net", "six", "-p", "8080:80", "-p", "[::]:53:53/udp", *ROOTFS)],
    "bridge, internal": [create("--internal", "--subnet", "10.7.0.0/24", "--bridge", "inner", "in"), run("--net", "in")],
    "bridge, isolated, MTU": [create("--isolated", "--mtu", "1400", "--subnet", "10.7.0.0/24", "apart"), run("--net", "apart")],
    "bridge, addresses": [run("--ip", "172.17.0.9", "--mac-address", "02:00:00:00:09:09", "--network-alias", "db", "--dns", "192.0.2.53",
                              "--add-host", "there:192.0.2.7")],
    "several bridges": [SIX, create("--internal", "--subnet", "10.7.0.0/24", "in"),
                        run("--net", "in", "--net", "six:alias=x,gw-priority=5", "--net", "br0", "-p", "8080:80")],
    "two on one bridge": [run(), run("-p", "8080:80", name="two")],
    "connect": [SIX, run("-p", "8080:80"), ("network", "connect", "--gw-priority", "5", "--alias", "x", "six", "one")],
    "disconnect": [create("--subnet", "10.7.0.0/24", "in"), run("--net", "in", "--net", "br0:gw-priority=5", "-p", "8080:80"),
                   ("network", "disconnect", "br0", "one")],
    "connect to a cable, to a wire": [
        create("-d", "ptp", "--subnet", "10.8.0.0/24", "cable"), create("-d", "macvlan", "-o", "parent=lan0", "lan"), run("--net", "none"),
        run("--net", "cable", name="two"), ("network", "connect", "cable", "one"), ("network", "connect", "lan", "one"),
        ("network", "disconnect", "cable", "two")],
    "stop, rm": [SIX, run("-p", "8080:80"), run("--net", "six", "--net", "br0", name="two"), ("stop", "-t", "0", "one"),
                 ("rm", "-f", "two"), ("network", "rm", "br0")],
    "the last network goes": [SIX, create("--subnet", "10.7.0.0/24", "in"), ("network", "rm", "six"), ("network", "rm", "in")],
    "ptp, the first": [create("-d", "ptp", "--subnet", "10.8.0.0/24", "cable"), run("--net", "cable")],
    "ptp, both, IPv6": [create("-d", "ptp", "--ipv6", "--subnet", "10.8.0.0/24", "--subnet", "fd00:8::/64", "cable"),
                        run("--net", "cable"), run("--net", "cable", name="two")],
    "macvlan": [create("-d", "macvlan", "-o", "parent=lan0", "--subnet", "192.0.2.0/24", "--ip-range", "192.0.2.64/26", "lan"),
                run("--net", "lan")],
    "macvlan, IPv6, private, rootfs": [
        create("-d", "macvlan", "-o", "parent=lan0", "-o", "mode=private", "--ipv6", "--subnet", "192.0.2.0/24", "--subnet",
               "2001:db8:1::/64", "--gateway", "192.0.2.2", "lan"), run("--net", "lan", *ROOTFS)],
    "bridge and macvlan": [create("-d", "macvlan", "-o", "parent=lan0", "lan"), run("--net", "br0", "--net", "lan")],
    "none": [run("--net", "none")],
    "host, rootfs": [run("--net", "host", *ROOTFS)],
    "another container's": [run(), run("--net", "container:one", name="two")],
    "limits": [run("-m", "64m", "--memory-reservation", "32m", "--cpus", "0.5", "--cpu-shares", "512", "--pids-limit", "50",
                   "--cpuset-cpus", "0", "--ulimit", "nofile=100:200", "--ulimit", "core=0", "--shm-size", "1m")],
    "limits, ptp, rootfs": [create("-d", "ptp", "--subnet", "10.8.0.0/24", "cable"),
                            run("--net", "cable", "-m", "64m", "--pids-limit", "50", "--ulimit", "nproc=50", *ROOTFS)],
    "limits, macvlan, volumes": [create("-d", "macvlan", "-o", "parent=lan0", "lan"),
                                 run("--net", "lan", "-m", "64m", "-v", "VOLUME:/data", "-v", "VOLUME/file:/mnt/file:ro")],
    "volumes, ports, rootfs": [run("-v", "VOLUME:/data:ro", "-v", "VOLUME:/other/place", "--tmpfs", "/scratch:size=1m,mode=700", "-p",
                                   "8080:80", *ROOTFS)],
    "volumes, ptp": [create("-d", "ptp", "--subnet", "10.8.0.0/24", "cable"), run("--net", "cable", "-v", "VOLUME:/data:ro")],
    "read-only": [run("--read-only", "--tmpfs", "/tmp", "-w", "/tmp")],
    "user": [run("-u", "65534:65533", "-e", "A=it's b", "-e", "A.B=c", "-h", "box", *ROOTFS)],
    "capabilities": [run("--cap-add", "NET_ADMIN", "--cap-drop", "CHOWN", "--security-opt", "no-new-privileges=false")],
    "privileged": [run("--privileged")],
    "host's cgroups": [run("--cgroupns", "host", "--cgroup-parent", "/minidocker-drift")],
}  # fmt: skip


@pytest.mark.parametrize("commands", CASES.values(), ids=CASES)
def test_what_is_printed_is_what_is_done(md: Minidocker, busybox: Path, tmp_path: Path, commands: list[Words]) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "file").touch()
    places = {"ROOTFS": str(busybox), "VOLUME": str(volume)}
    actual, typed = drift.Machine(md.root), drift.Machine(md.root)
    try:
        outputs: tuple[list[Path], list[Path]] = ([], [])
        for number, words in enumerate(commands, 1):
            words = tuple(re.sub("ROOTFS|VOLUME", lambda found: places[found[0]], word) if "@" not in word else word for word in words)
            if words[0] == "run":
                _run_both(md, actual, typed, words, outputs, tmp_path / str(number))
            else:
                _do_both(md, actual, typed, words, tmp_path / str(number))
        with ThreadPoolExecutor(2) as both:
            a, b = both.map(lambda one: drift.snapshot(*one, md), ((actual, outputs[0]), (typed, outputs[1])))
        assert len([name for name in a if name.endswith(" status")]) == len(outputs[0]) == len([one for one in commands if one[0] == "run"])
        differing = {name: drift.difference(a[name], b.get(name)) for name in a if a[name] != b.get(name)}
        assert not differing and a.keys() == b.keys(), "\n".join(f"{name}:\n{text}" for name, text in differing.items())
        for machine in (actual, typed):
            machine.sh(f"pkill -KILL -x -f 'sleep {drift.MARK}'; :")
        poll(lambda: not md.cgroups(), "no cgroup is left")
        poll(lambda: all(one.poll() is not None for machine in (actual, typed) for one in machine.background), "both have ended")
        if any(words[:2] == ("network", "connect") for words in commands):
            return  # a script takes away what it has made, and knows nothing of what came later
        # what either leaves behind when its containers have ended is the same, too
        with ThreadPoolExecutor(2) as both:
            a, b = both.map(drift.host, (actual, typed))
        differing = {name: drift.difference(a[name], b[name]) for name in a if a[name] != b[name]}
        assert not differing, "\n".join(f"{name}:\n{text}" for name, text in differing.items())
    finally:
        actual.close()
        typed.close()
        drift.remove_cgroups(md)


EXPLAINED: dict[str, tuple[list[Words], str]] = {
    "a bridge network": ([SIX, run("--net", "six", "-p", "8080:80"), run("--net", "six", name="two")], "six"),
    "an isolated one": ([create("--isolated", "--mtu", "1400", "--subnet", "10.7.0.0/24", "apart"), run("--net", "apart")], "apart"),
    "a cable, one end": ([create("-d", "ptp", "--subnet", "10.8.0.0/24", "cable"), run("--net", "cable")], "cable"),
    "a cable": ([create("-d", "ptp", "--subnet", "10.8.0.0/24", "cable"), run("--net", "cable"), run("--net", "cable", name="two")],
                "cable"),
    "macvlan": ([create("-d", "macvlan", "-o", "parent=lan0", "-o", "mode=private", "lan"), run("--net", "lan")], "lan"),
    "a container": ([SIX, create("-d", "macvlan", "-o", "parent=lan0", "lan"),
                     run("--net", "lan", "--net", "six:gw-priority=2", "-p", "127.0.0.1:8080:80/udp")], "one"),
}  # fmt: skip


@pytest.mark.parametrize(("commands", "asked"), EXPLAINED.values(), ids=EXPLAINED)
def test_what_network_explain_prints_makes_what_is_there(md: Minidocker, tmp_path: Path, commands: list[Words], asked: str) -> None:
    """Typed on a host where only processes with network namespaces of their own are; for a container, also its bridge. Somebody has
    changed something since: it is the kernel that is asked."""
    actual, typed = drift.Machine(md.root), drift.Machine(md.root)
    try:
        for number, words in enumerate(commands):
            if words[0] == "run":
                name = words[words.index("--name") + 1]
                actual.start(tmp_path / f"{number}", *md.argv("run", "--rm", *words[1:]))
                typed.background.append(subprocess.Popen(typed.argv("unshare", "--net", "sleep", drift.MARK), stdin=subprocess.DEVNULL,
                                                         text=True))  # fmt: skip
                for machine in (actual, typed):
                    [machine.pids[name]] = poll(lambda one=machine: set(one.inits()) - set(one.pids.values()), f"{name} sleeps")
            elif asked == "one":
                _do_both(md, actual, typed, words, tmp_path / str(number))
            else:
                actual.do(*md.argv(*words))
        drift.at_rest(actual)
        actual.sh(f"nsenter --target {actual.pids['one']} --net ip addr add 203.0.113.7/24 dev eth0")
        steps = drift.renamed(actual.do(*md.argv("network", "explain", asked)), actual, typed)
        typed.do("bash", "-euo", "pipefail", drift.write(tmp_path / "steps", steps))
        with ThreadPoolExecutor(2) as both:
            a, b = both.map(lambda machine: drift.snapshot(machine, [], md), (actual, typed))
        compared = [name for name in a if name not in ("host mounts", "host netns") and not name.endswith(" ns")]
        for found in (a, b):  # one cable may have come another way, and in another order
            found.update({name: drift.without_numbers(value) for name, value in found.items()})
        differing = {name: drift.difference(a[name], b[name]) for name in compared if a[name] != b[name]}
        assert not differing, "\n".join(f"{name}:\n{text}" for name, text in differing.items())
        assert "203.0.113.7/24" in steps and "1 link" in compared
        actual.sh(f"pkill -KILL -x -f 'sleep {drift.MARK}'; :")
        poll(lambda: not md.cgroups(), "no cgroup is left")
    finally:
        actual.close()
        typed.close()
        drift.remove_cgroups(md)


def test_network_explain_of_what_is_not_there(md: Minidocker) -> None:
    assert "no such network or container: nosuch" in md.refused("network", "explain", "nosuch", code=1)
    md.run("--name", "ended", "true")
    assert "not running" in md.refused("network", "explain", "ended", code=1)
    md("rm", "ended")


def _run_both(
    md: Minidocker, actual: drift.Machine, typed: drift.Machine, words: Words, outputs: tuple[list[Path], list[Path]], place: Path
) -> None:
    name = words[words.index("--name") + 1]
    script = actual.do(*md.argv("run", "--dry-run", *words[1:]))
    place.mkdir()
    shown = subprocess.run(["shellcheck", drift.write(place / "script", script)], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stdout
    for out in (outputs[0], outputs[1]):
        out.append(place / f"out{len(outputs[0]) + len(outputs[1])}")
    actual.start(outputs[0][-1], *md.argv("run", *words[1:]))
    script = drift.renamed(script, actual, typed)
    [container] = json.loads(actual.do(*md.argv("inspect", name)))
    drift.know(actual, container["Id"], name)
    drift.know(typed, re.search(rf"{md.root}/containers/([0-9a-f]{{64}})", script)[1], name)  # type: ignore[index]
    for network in json.loads(actual.do(*md.argv("network", "ls", "--format", "json"))):
        drift.know_network(actual, network["ID"], network["Name"])
        made = re.search(rf"ip link set {network['Bridge']} alias minidocker:[0-9a-f]+:([0-9a-f]+)", script)
        drift.know_network(typed, made[1] if made else network["ID"], network["Name"])
    typed.start(outputs[1][-1], "bash", drift.write(place / "renamed", script))
    for machine in (actual, typed):
        [machine.pids[name]] = poll(lambda one=machine: set(one.inits()) - set(one.pids.values()), f"{name} sleeps")


def _do_both(md: Minidocker, actual: drift.Machine, typed: drift.Machine, words: Words, place: Path) -> None:
    command = 2 if words[0] == "network" else 1
    argv = actual.argv(*md.argv(*words[:command], "--explain", *words[command:]))
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    # what a notice says is no step
    steps = re.sub(r"^minidocker: .*\n", "", done.stderr, flags=re.MULTILINE)
    how = "-euo" if words[0] == "network" else "-uo"  # what ends a container finds gone what the script, which ends as well, takes away
    typed.do("bash", how, "pipefail", drift.write(place, drift.renamed(steps, actual, typed)), check=how == "-euo")

