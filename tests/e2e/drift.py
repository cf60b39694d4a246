"""Two fresh hosts side by side: in one minidocker does it, in the other its printed script; and all that the kernel then says of each.

    actual    commands are run as they are ── before each, what it would print is kept ─► typed
    typed     what was printed is run, nothing else

Both have a pretend uplink, lan0, to a router that is nobody, and the same empty data root and /run.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.e2e.support import Minidocker, poll

MARK = "918273"
# The last words of every container: what a program sees of its own, and then a long sleep that is found by its seconds.
FACTS = (
    "for f in status mountinfo cgroup uid_map gid_map limits; do echo \"@ $f\"; cat /proc/self/$f; done; echo '@ env'; env | sort; "
    "echo '@ files'; umask; pwd; cat /etc/hosts /etc/resolv.conf /etc/hostname; echo '@ end'; exec sleep " + MARK
)
_FRESH = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private", "bash", "-c")
_SETUP = """
mount -t tmpfs tmpfs /run; mkdir -p "$1" /run/netns; mount -t tmpfs tmpfs "$1"; ip link set lo up
ip link add lan0 address 02:00:00:00:00:01 type veth peer name lan1 address 02:00:00:00:00:02
ip addr add 192.0.2.1/24 dev lan0; ip link set lan0 addrgenmode none up; ip link set lan1 addrgenmode none up
ip route add default via 192.0.2.2; ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev lan0 nud permanent
echo ready; exec sleep 1000
"""
# What the kernel says, by name: of the host, and of each container's network namespace.
_OF_A_NAMESPACE = {
    "link": "ip -d -j link", "addr": "ip -d -j addr",
    "route": "ip -d -j route show table all", "route6": "ip -6 -d -j route show table all",
    "rule": "ip -d -j rule", "rule6": "ip -6 -d -j rule", "neigh": "ip -d -j neigh", "neigh6": "ip -6 -d -j neigh",
    "sysctl": "cd /proc/sys/net && grep -rs . core ipv4 ipv6 2> /dev/null | sort",
}
_OF_THE_HOST = {
    **_OF_A_NAMESPACE, "bridge link": "bridge -d -j link", "bridge fdb": "bridge -d -j fdb", "bridge vlan": "bridge -d -j vlan",
    "nft": "nft -j list ruleset", "mounts": "cat /proc/self/mountinfo", "netns": "ls /run/netns",
    "forward": "cat /proc/sys/net/ipv4/ip_forward",
}


class Machine:
    """One fresh host: `do` runs a command in it."""

    def __init__(self, root: Path) -> None:
        self.process = subprocess.Popen([*_FRESH, _SETUP, "_", root], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None and self.process.stdout.readline() == "ready\n"
        self.pid = int(subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=True).stdout)
        self.background: list[subprocess.Popen[str]] = []
        self.names: dict[str, str] = {}  # what has an id here -> what it is called in both
        self.pids: dict[str, int] = {}  # of the containers' first processes, by name

    def argv(self, *words: object) -> list[str]:
        return ["nsenter", "--target", str(self.pid), "--net", "--mount", "--pid", *map(str, words)]

    def do(self, *words: object, check: bool = True) -> str:
        done = subprocess.run(self.argv(*words), capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
        assert not check or done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def sh(self, command: str, check: bool = True) -> str:
        return self.do("bash", "-c", command, check=check)

    def start(self, out: Path, *words: object) -> None:
        """Run a container in the background; done when it has told its facts."""
        with out.open("w") as file:
            self.background.append(subprocess.Popen(self.argv(*words), stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                                    text=True))  # fmt: skip
        running = self.background[-1]
        poll(lambda: "@ end" in out.read_text() or running.poll() is not None, f"{words} is up")
        assert running.poll() is None, out.read_text()

    def inits(self) -> list[int]:
        """The containers' first processes, in the order of their starts, as this host numbers them."""
        return [int(pid) for pid in self.sh(f"pgrep -x -f 'sleep {MARK}'", check=False).split()]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for one in self.background:
            one.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def at_rest(machine: Machine) -> None:
    """Wait until carriers and IPv6 addresses are what they will be: nothing has changed for a while."""
    def shown() -> str:
        return machine.sh("ip -o link; ip -o addr; ip route show table all; ip -6 route show table all | sed 's/expires.*//'")

    seen, since, deadline = shown(), time.monotonic(), time.monotonic() + 20
    while time.monotonic() - since < 1:
        assert time.monotonic() < deadline, "the host does not come to rest"
        time.sleep(0.1)
        if (now := shown()) != seen:
            seen, since = now, time.monotonic()


def snapshot(machine: Machine, outputs: list[Path], md: Minidocker) -> dict[str, Any]:
    """All that is compared: the host, each container from outside, what each told of itself, and its cgroup files."""
    found = host(machine)
    for number, pid in enumerate(machine.inits(), 1):
        for name, command in _OF_A_NAMESPACE.items():
            found[f"{number} {name}"] = machine.do("nsenter", "--target", pid, "--net", "bash", "-c", command, check=False)
        found[f"{number} ns"] = machine.sh(f"for n in $(ls /proc/{pid}/ns); do [ /proc/{pid}/ns/$n -ef /proc/1/ns/$n ] && echo $n; done",
                                           check=False)  # fmt: skip
    for number, out in enumerate(outputs, 1):
        for name, text in re.findall(r"^@ (\w+)\n(.*?)(?=^@ |\Z)", out.read_text(), re.MULTILINE | re.DOTALL):
            if name != "end":  # what comes then is of the end
                found[f"{number} {name}"] = text
    for id, name in list(machine.names.items()):
        if len(id) == 64:
            found[f"{name} cgroup files"] = cgroup_files(md, id)
    return {name: text if name.startswith("host ") else normal(name, text, machine.names) for name, text in found.items()}


def host(machine: Machine) -> dict[str, Any]:
    """The host's part of it."""
    at_rest(machine)
    return {f"host {name}": normal(f"host {name}", machine.sh(command, check=False), machine.names)
            for name, command in _OF_THE_HOST.items()}  # fmt: skip


# What counts or passes, or is of the processes themselves (their number differs: the script's unshare is in the cgroup, too).
_COUNTERS = re.compile(r"usage|failcnt|stat$|procs$|tasks$|events|pressure|peak|current|cpu.idle|clone_children")


def cgroup_files(md: Minidocker, id: str) -> str:
    """Every setting of the container's cgroups: what can be written, and devices.list, which tells what was."""
    lines = []
    for directory in md.cgroups(id):
        for file in sorted(directory.iterdir()):
            if file.is_file() and (file.stat().st_mode & 0o200 or file.name == "devices.list") and not _COUNTERS.search(file.name):
                try:
                    lines.append(f"{directory.parents[1].name}/{file.name} {file.read_text().strip()}")
                except OSError:
                    continue  # for writing alone
    return "\n".join(lines)


# --- what may differ ---------------------------------------------------------------------------------------------------------------------

# Lines of /proc/PID/status that count or pass (memory, scheduling), and those of the filter that the script leaves out. FDSize is how many
# descriptors the process ever had room for.
_PASSING = re.compile(r"^(Vm|Rss|HugetlbPages|SigQ|FDSize|voluntary|nonvoluntary|Seccomp|Speculation|Pid|Tgid|NSpid|NStgid|PPid)")
# Timers that run: a bridge's, and how long ago a neighbour was seen.
_TIMERS = {"hello_timer", "tcn_timer", "topology_change_timer", "gc_timer", "hold_timer", "message_age_timer", "forward_delay_timer",
           "used", "updated", "confirmed", "refcnt", "valid_life_time", "preferred_life_time"}  # fmt: skip


def normal(name: str, text: str, names: dict[str, str]) -> Any:
    """The text without what may differ: ids, and what counts or passes."""
    for id in sorted(names, key=len, reverse=True):
        text = text.replace(id, names[id])
    kind = name.split(" ", 1)[1]
    if kind in ("status",):
        return [line for line in text.splitlines() if not _PASSING.match(line)]
    if kind in ("mountinfo", "mounts"):
        # a mount's and its parent's number, and that of a file system without a device, are handed out as they come
        return [" ".join(["ID PARENT DEVICE", *line.split()[3:]]) for line in text.splitlines()]
    if kind == "sysctl":
        # a path's order of the directory; the stable secret and what is random of a namespace are not settings
        return sorted(line for line in text.splitlines() if "/random" not in line and "stable_secret" not in line)
    if kind in ("neigh", "neigh6"):  # in the order of a hash table with a seed of its own
        return sorted(_data(json.loads(text)), key=str)
    if kind == "nft":  # the elements of a set likewise; its order is no order
        return _data(json.loads(text, object_hook=_sorted_elements))
    if kind == "bridge fdb":  # less what the bridge has learned of packets, which is forgotten again
        return sorted((entry for entry in json.loads(text) if entry["state"] == "permanent"), key=str)
    if text.startswith(("[", "{")) and text.strip() != "[":  # bridge(8) of a host without VLANs ends there
        return _data(json.loads(text))
    return text.splitlines()


def _sorted_elements(found: dict[str, Any]) -> dict[str, Any]:
    return {key: sorted(value, key=str) if key == "elem" else value for key, value in found.items()}


def _data(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _data(inner) for key, inner in value.items() if key not in _TIMERS}
    if isinstance(value, list):
        return [_data(inner) for inner in value]
    return value


def renamed(script: str, there: Machine, here: Machine) -> str:
    """`script`, made on one host, with the ids and the process numbers that things have on another."""
    ids = {called: id for id, called in here.names.items()}
    for id, called in there.names.items():
        script = script.replace(id, ids.get(called, id))
    for called, pid in there.pids.items():
        script = re.sub(rf"(/proc/|--target |netns |kill -\w+ |--pid=){pid}\b", rf"\g<1>{here.pids[called]}", script)
    return script


def know(machine: Machine, id: str, called: str) -> None:
    """Note a container's or a network's id, in its three lengths."""
    for length, suffix in ((64, ""), (12, "-12"), (8, "-8")):
        machine.names[id[:length]] = f"{called}{suffix}"


def know_network(machine: Machine, id: str, called: str) -> None:
    """A network's id, and the MAC of its bridge, which follows from it."""
    first = int(id[:2], 16) & 0xFC | 0x02
    octets = [f"{first:02x}", *(id[i : i + 2] for i in range(2, 12, 2))]
    machine.names[id] = called
    machine.names[":".join(octets)] = f"MAC-{called}"
    machine.names["8000." + ":".join(f"{int(octet, 16):x}" for octet in octets)] = f"8000.MAC-{called}"  # as ip(8) writes a bridge's id


def difference(one: Any, other: Any) -> str:
    """What only one of the two has, each with the way to it."""
    a, b = dict(_leaves(one, "")), dict(_leaves(other, ""))
    lines = [f"  {way}: done {a.get(way)!r}, typed {b.get(way)!r}" for way in {**a, **b} if a.get(way) != b.get(way)]
    return "\n".join(lines[:40])


def without_numbers(value: Any) -> Any:
    """Without the numbers of interfaces and of namespaces."""
    if isinstance(value, dict):
        return {key: without_numbers(inner) for key, inner in value.items() if key not in ("ifindex", "link_index", "link_netnsid")}
    return [without_numbers(inner) for inner in value] if isinstance(value, list) else value


def _leaves(value: Any, way: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{way}.{key}")
    elif isinstance(value, list) and value:
        for key, inner in enumerate(value):
            yield from _leaves(inner, f"{way}[{key}]")
    else:
        yield way, value


def remove_cgroups(md: Minidocker) -> None:
    """Those of containers whose host was switched off before they had ended."""
    def removed() -> bool:
        for directory in sorted(md.cgroups(), reverse=True):
            try:
                directory.rmdir()
            except OSError:
                return False
        return True

    poll(removed, "the cgroups can be removed")


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    os.chmod(path, 0o755)
    return path
