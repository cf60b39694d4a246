"""What users write, and the exact line they get when it is wrong."""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidocker.errors import UsageError
from minidocker.spec import parse, parse_limits, parse_network, parse_subnet, parse_time
from minidocker.spec.records import Port
from minidocker.spec.request import NetworkRequest

NOW = 1_700_000_000.0


def since(text: str) -> float:
    return parse_time.since(text, NOW, time.mktime)


def files(content: bytes) -> Callable[[str], bytes]:
    return lambda path: content


def environment(content: bytes) -> list[str]:
    return parse.environment(["e"], [], {"HOME": "/root"}, files(content))


def attachment(text: str) -> tuple[object, ...]:
    found = parse_network.attachment(text)
    return found.name, found.ip, found.ip6, found.mac, found.aliases, found.priority


def changes(request: NetworkRequest) -> dict[str, object]:
    """What was asked for beyond the defaults."""
    default = vars(NetworkRequest(request.name))
    return {name: value for name, value in vars(request).items() if value != default[name]}


def driver_option(text: str) -> dict[str, object]:
    request = NetworkRequest("lab")
    parse_subnet.driver_option(request, text)
    return changes(request)


def subnets(text: str) -> dict[str, object]:
    """SUBNET... via GATEWAY..., as the options come."""
    given, _, gateways = text.partition("via")
    request = NetworkRequest("lab")
    parse_subnet.subnets(request, given.split(), gateways.split())
    return changes(request)


def gateway(text: str) -> str:
    return parse_subnet.gateway(text, "10.9.0.0/24")


def ip_range(text: str) -> str:
    return parse_subnet.ip_range(text, "10.9.0.0/24")


def bridge_name(text: str) -> str:
    return parse_subnet.interface("--bridge", text)


def priority(text: str) -> int:
    return parse_network.priority("--gw-priority", text)


GOOD: list[tuple[Callable[[str], object], str, object]] = [
    (lambda t: parse.name("--name", t), "Web_1.a-b", "Web_1.a-b"),
    (lambda t: parse.name("--name", t), "a" * 63, "a" * 63),
    (parse.network, "none", "none"),
    (parse.network, "container:web", "container:web"),
    (lambda t: parse.hostname("--hostname", t), "a.b-c.example", "a.b-c.example"),
    (lambda t: parse.domain("--dns-search", t), ".", "."),
    (lambda t: parse.domain("--dns-search", t), "example.org.", "example.org."),
    (parse.normal, "//a/./b/../c//", "/a/c"),
    (parse.normal, "/../..", "/"),
    (lambda t: parse.volume(t, "/here"), "./a:/b", ("/here/a", "/b", False)),
    (lambda t: parse.volume(t, "/here"), "../a:/b/../c:ro", ("/a", "/c", True)),
    (lambda t: parse.volume(t, "/here"), ".:/b:rw", ("/here", "/b", False)),
    (parse.tmpfs, "/run", ("/run", "")),
    (parse.tmpfs, "/run/:size=64m,mode=755,noexec", ("/run", "size=64m,mode=755,noexec")),
    (parse.user, "1000:100", "1000:100"),
    (parse.user, "www-data", "www-data"),
    (parse.label, "a", ("a", "")),
    (parse.label, "a=b=c", ("a", "b=c")),
    (lambda t: parse.signal("--signal", t), "term", 15),
    (lambda t: parse.signal("--signal", t), "SIGUSR1", 10),
    (lambda t: parse.signal("--signal", t), "9", 9),
    (lambda t: parse.signal("--signal", t), "RTMIN+3", 37),
    (lambda t: parse.signal("--signal", t), "SIGRTMAX-1", 63),
    (parse.detach_keys, "ctrl-p,ctrl-q", b"\x10\x11"),
    (parse.detach_keys, "a,ctrl-@,ctrl-[,DEL,ctrl-_", b"a\x00\x1b\x7f\x1f"),
    (lambda t: parse.capability("--cap-add", t), "cap_net_admin", "NET_ADMIN"),
    (lambda t: parse.capability("--cap-add", t), "all", "ALL"),
    (lambda t: parse.security_option(t, "/h"), "no-new-privileges", ("no-new-privileges", True)),
    (lambda t: parse.security_option(t, "/h"), "no-new-privileges:false", ("no-new-privileges", False)),
    (lambda t: parse.security_option(t, "/h"), "seccomp=unconfined", ("seccomp", "unconfined")),
    (lambda t: parse.security_option(t, "/h"), "seccomp=p.json", ("seccomp", "/h/p.json")),
    (lambda t: parse.security_option(t, "/h"), "apparmor=docker-default", ("apparmor", "docker-default")),
    (lambda t: parse.security_option(t, "/h"), "apparmor:unconfined", ("apparmor", "unconfined")),
    (lambda t: parse.security_option(t, "/h"), "label=disable", ("label", "disable")),
    (lambda t: parse.security_option(t, "/h"), "label:type:svirt_t", ("label", "type:svirt_t")),
    (lambda t: parse.security_option(t, "/h"), "label=level:s0:c1,c2", ("label", "level:s0:c1,c2")),
    (parse.ps_filter, "label=a=b", ("label", "a=b")),
    (lambda t: parse_limits.size("-m", t), "1.5g", 3 << 29),
    (lambda t: parse_limits.size("-m", t), "512MiB", 512 << 20),
    (lambda t: parse_limits.size("-m", t), "10kb", 10 << 10),
    (lambda t: parse_limits.size("-m", t), "7b", 7),
    (lambda t: parse_limits.memory("-m", t), "6m", 6 << 20),
    (lambda t: parse_limits.memory("-m", t), "0", 0),
    (parse_limits.memory_swap, "-1", -1),
    (parse_limits.memory_swap, "0", None),
    (parse_limits.cpus, ".5", 0.5),
    (parse_limits.cpus, "0", None),
    (parse_limits.cpus, "0.01", 0.01),
    (parse_limits.cpu_shares, "0", None),
    (parse_limits.cpuset, "0-2,4", "0-2,4"),
    (parse_limits.cgroup_file, "memory.high=200m", ("memory.high", str(200 << 20))),
    (parse_limits.cgroup_file, "memory.high=max", ("memory.high", "max")),
    (parse_limits.cgroup_file, "io.max=8:0 rbps=9", ("io.max", "8:0 rbps=9")),
    (parse_limits.pids_limit, "-1", -1),
    (parse_limits.pids_limit, "0", 0),
    (parse_limits.ulimit, "nofile=1024", ("nofile", 1024, 1024)),
    (parse_limits.ulimit, "core=0:unlimited", ("core", 0, -1)),
    (parse_limits.ulimit, "memlock=-1", ("memlock", -1, -1)),
    (parse_network.container_address, "172.17.0.9", "172.17.0.9"),
    (parse_network.container_address6, "fd00:9::9", "fd00:9::9"),
    (parse_network.container_address6, "FD00:9:0:0::0009", "fd00:9::9"),
    (parse_network.container_address6, "2001:db8::192.0.2.9", "2001:db8::c000:209"),
    (parse_network.canonical6, "0:0:0:0:0:0:0:1", "::1"),
    (parse_network.canonical6, "172.17.0.9", "172.17.0.9"),
    (parse_network.packed6, "::1", bytes(15) + b"\1"),
    (parse_network.packed6, "fe80::1%eth0", None),
    (parse_network.packed6, "1::2::3", None),
    (parse_network.packed6, "::1\0", None),
    (parse_network.packed6, "::\u0661", None),
    (parse_network.packed6, "192.0.2.1", None),
    (parse_network.mac, "02-42-AC-11-00-09", "02:42:ac:11:00:09"),
    (attachment, "lab:ip=10.9.0.9", ("lab", "10.9.0.9", "", "", [], 0)),
    (
        attachment, "lab:ip=10.9.0.9,ip6=FD00:9:0::9,mac=02-42-AC-11-00-09,alias=db,alias=db.example,gw-priority=-7",
        ("lab", "10.9.0.9", "fd00:9::9", "02:42:ac:11:00:09", ["db", "db.example"], -7),
    ),
    (attachment, "name=lab", ("lab", "", "", "", [], 0)),
    (attachment, "alias=db,name=lab,ip6=fd00:9::9,mac-address=02:42:ac:11:00:09", ("lab", "", "fd00:9::9", "02:42:ac:11:00:09", ["db"], 0)),
    (attachment, "name=lab,gw_priority=2147483647", ("lab", "", "", "", [], 2147483647)),
    (priority, "0", 0),
    (priority, "-2147483647", -2147483647),
    (parse_network.host_entry, "db:192.0.2.7", ("db", "192.0.2.7")),
    (parse_network.host_entry, "db:::1", ("db", "::1")),
    (parse_network.host_entry, "db:[2001:db8::1]", ("db", "2001:db8::1")),
    (parse_network.publish, "80", [Port(0, 80)]),
    (parse_network.publish, "8080:80", [Port(8080, 80)]),
    (parse_network.publish, ":80/UDP", [Port(0, 80, "", "udp")]),
    (parse_network.publish, "127.0.0.1:8080:80/tcp", [Port(8080, 80, "127.0.0.1")]),
    (parse_network.publish, "127.0.0.1::80", [Port(0, 80, "127.0.0.1")]),
    (parse_network.publish, "[2001:DB8:0::1]:8080:80/sctp", [Port(8080, 80, "2001:db8::1", "sctp")]),
    (parse_network.publish, "[::]:8080:80", [Port(8080, 80, "::")]),
    (parse_network.publish, "[::]::80", [Port(0, 80, "::")]),
    (parse_network.publish, "0.0.0.0:8080:80", [Port(8080, 80, "0.0.0.0")]),
    (parse_network.publish, "9000-9001:80-81", [Port(9000, 80), Port(9001, 81)]),
    (parse_network.publish, "9000-9009:80/udp", [Port(9000, 80, "", "udp", 9009)]),
    (parse_network.publish, "127.0.0.1:9000-9001:80", [Port(9000, 80, "127.0.0.1", "tcp", 9001)]),
    (parse_network.publish, "9000-9000:80", [Port(9000, 80)]),
    (parse_network.publish, "80-81", [Port(0, 80), Port(0, 81)]),
    (parse_network.expose, "80-81/udp", [(80, "udp"), (81, "udp")]),
    (parse_subnet.subnet, "10.9.0.0/24", "10.9.0.0/24"),
    (parse_subnet.subnet, "FD00:9:0::/64", "fd00:9::/64"),
    (parse_subnet.subnet, "fd00::/16", "fd00::/16"),
    (parse_subnet.subnet, "fd00:9::/96", "fd00:9::/96"),
    (gateway, "10.9.0.254", "10.9.0.254"),
    (subnets, "10.9.0.0/24", {"subnet": "10.9.0.0/24"}),
    (subnets, "fd00:9::/64", {"subnet6": "fd00:9::/64", "ipv6": True}),
    (
        subnets, "fd00:9::/64 10.9.0.0/24 via 10.9.0.254 FD00:9::00fe",
        {"subnet": "10.9.0.0/24", "gateway": "10.9.0.254", "subnet6": "fd00:9::/64", "gateway6": "fd00:9::fe", "ipv6": True},
    ),
    (subnets, "fd00:9::/96 via fd00:9::ffff:ffff", {"subnet6": "fd00:9::/96", "gateway6": "fd00:9::ffff:ffff", "ipv6": True}),
    (ip_range, "10.9.0.128/25", "10.9.0.128/25"),
    (ip_range, "10.9.0.0/24", "10.9.0.0/24"),
    (ip_range, "10.9.0.7/32", "10.9.0.7/32"),
    (parse_subnet.mtu, "1400", 1400),
    (bridge_name, "br-lab", "br-lab"),
    (driver_option, "mtu=1400", {"mtu": 1400}),
    (driver_option, "com.docker.network.driver.mtu=1400", {"mtu": 1400}),
    (driver_option, "com.docker.network.bridge.name=br9", {"bridge": "br9"}),
    (driver_option, "com.docker.network.bridge.enable_icc=false", {"isolated": True}),
    (driver_option, "com.docker.network.bridge.enable_icc=true", {}),
    (driver_option, "parent=eth0.100", {"parent": "eth0.100"}),
    (driver_option, "macvlan_mode=vepa", {"mode": "vepa"}),
    (driver_option, "mode=private", {"mode": "private"}),
    (since, "1699999999.5", 1699999999.5),
    (since, "10s", NOW - 10),
    (since, "1h30m", NOW - 5400),
    (since, "1.5h", NOW - 5400),
    (since, "250ms", NOW - 0.25),
    (since, "2024-05-01T10:00:00Z", 1714557600.0),
    (since, "2024-05-01T12:00:00.5+02:00", 1714557600.5),
    (since, "2024-05-01t05:30:00-04:30", 1714557600.0),
    (parse_time.timeout, "2.5", 2.5),
    (parse_time.timeout, "-1", -1.0),
    (parse_time.tail, "all", None),
    (parse_time.tail, "0", 0),
    (environment, b"\xef\xbb\xbfA=1\r\nHOME\nB= x \nC=\n", ["A=1", "HOME=/root", "B= x ", "C="]),  # type: ignore[list-item]
]

NAME = "letters, digits, `_`, `.` and `-` are allowed, the first a letter or digit"
SIZE = "not a size; a number with b, k, m or g is allowed, as in 512m"
NETWORK = "NETWORK:KEY=VALUE,... with ip, ip6, mac, alias and gw-priority, none, host or container:NAME is allowed"
DRIVER_OPTIONS = (
    "there are com.docker.network.bridge.name=, com.docker.network.driver.mtu=, com.docker.network.bridge.enable_icc=, mtu=, parent=, "
    "macvlan_mode=, mode="
)
BAD: list[tuple[Callable[[str], object], str, str]] = [
    (lambda t: parse.name("--name", t), "a/b", f"--name `a/b`: {NAME}"),
    (lambda t: parse.name("--name", t), "", f"--name ``: {NAME}"),
    (lambda t: parse.name("--name", t), "-a", f"--name `-a`: {NAME}"),
    (lambda t: parse.name("--name", t), "é", f"--name `é`: {NAME}"),
    (lambda t: parse.name("--name", t), "a" * 300, f"--name `{'a' * 77}...`: 300 characters; at most 63 are allowed"),
    (parse.network, "bridge:x", "--network `bridge:x`: a network's name, none, host or container:NAME is allowed"),
    (parse.network, "container:", f"--network container: ``: {NAME}"),
    (parse.network, "", f"--network ``: {NAME}"),
    (lambda t: parse.hostname("--hostname", t), "a..b", "--hostname `a..b`: letters, digits, `-`, `_` and single dots are allowed"),
    (lambda t: parse.hostname("--hostname", t), "a" * 65, f"--hostname `{'a' * 65}`: 65 characters; at most 64 are allowed"),
    (lambda t: parse.volume(t, "/"), "/a", "--volume `/a`: SRC:DST or SRC:DST:ro is allowed"),
    (lambda t: parse.volume(t, "/"), "data:/a", "--volume `data:/a`: SRC `data` must start with / or ./"),
    (lambda t: parse.volume(t, "/"), "/a:b", "--volume `/a:b`: DST `b` must be an absolute path below /"),
    (lambda t: parse.volume(t, "/"), "/a:/b/..", "--volume `/a:/b/..`: DST `/b/..` must be an absolute path below /"),
    (lambda t: parse.volume(t, "/"), "/a:/b:z", "--volume `/a:/b:z`: mode `z` must be ro or rw"),
    (parse.tmpfs, "run", "--tmpfs `run`: PATH must be an absolute path below /"),
    (
        parse.tmpfs,
        "/run:huge",
        "--tmpfs `/run:huge`: option `huge` is unknown; size=, mode=, uid=, gid=, ro, noexec and such are allowed",
    ),
    (lambda t: parse.absolute("--workdir", t), "srv", "--workdir `srv`: a path in the container must be absolute"),
    (parse.user, "a:b:c", "--user `a:b:c`: USER or USER:GROUP, names or numbers, is allowed"),
    (parse.user, "99999999999", "--user `99999999999`: numbers from 0 to 2147483647 are allowed"),
    (parse.user, "-1", "--user `-1`: `-1` is neither a name nor a number"),
    (parse.label, "=b", "--label `=b`: KEY or KEY=VALUE is allowed"),
    (
        lambda t: parse.signal("--stop-signal", t),
        "FOO",
        "--stop-signal `FOO`: a signal's name (TERM, KILL, USR1, ...) or number (1 to 64) is allowed",
    ),
    (lambda t: parse.signal("-s", t), "0", "-s `0`: a signal's name (TERM, KILL, USR1, ...) or number (1 to 64) is allowed"),
    (lambda t: parse.signal("-s", t), "_DFL", "-s `_DFL`: a signal's name (TERM, KILL, USR1, ...) or number (1 to 64) is allowed"),
    (lambda t: parse.signal("-s", t), "RTMIN-1", "-s `RTMIN-1`: a signal's name (TERM, KILL, USR1, ...) or number (1 to 64) is allowed"),
    (parse.detach_keys, "ctrl-1", "--detach-keys `ctrl-1`: `ctrl-1` is not a key; `a` or `ctrl-a`, joined by commas, is allowed"),
    (parse.detach_keys, "", "--detach-keys ``: `` is not a key; `a` or `ctrl-a`, joined by commas, is allowed"),
    (lambda t: parse.capability("--cap-add", t), "NET_ADMN", "unknown capability `NET_ADMN`"),
    (
        lambda t: parse.security_option(t, "/"),
        "label=type:",
        "--security-opt `label=type:`: no-new-privileges[=true|false], seccomp=FILE|unconfined, apparmor=PROFILE|unconfined, label=disable "
        "and label=user|role|type|level:VALUE are allowed",
    ),
    (
        lambda t: parse.security_option(t, "/"),
        "no-new-privileges=no",
        "--security-opt no-new-privileges `no`: true or false is allowed",
    ),
    (parse.cgroup_parent, "a/../b", "--cgroup-parent `a/../b`: a path of cgroups without `..` is allowed"),
    (
        lambda t: parse.choice("--cgroupns", t, ("private", "host")),
        "x",
        "--cgroupns `x`: private or host is allowed",
    ),
    (parse.ps_filter, "id=3", "--filter `id=3`: name=, status=, network=, label= and health= with a value are allowed"),
    (parse.ps_filter, "health=ill", "--filter `health=ill`: health is one of starting, healthy, unhealthy, none"),
    (
        parse.ps_filter,
        "status=up",
        "--filter `status=up`: the status is one of created, running, paused, restarting, exited, dead",
    ),
    (lambda t: parse_limits.memory("--memory", t), "10x", f"--memory `10x`: {SIZE}"),
    (lambda t: parse_limits.memory("--memory", t), "", f"--memory ``: {SIZE}"),
    (lambda t: parse_limits.memory("--memory", t), "-1", f"--memory `-1`: {SIZE}"),
    (lambda t: parse_limits.memory("--memory", t), "1e3m", f"--memory `1e3m`: {SIZE}"),
    (lambda t: parse_limits.memory("--memory", t), "١m", f"--memory `١m`: {SIZE}"),
    (lambda t: parse_limits.memory("--memory", t), "5m", "--memory `5m`: a process needs at least 6m (0 is no limit)"),
    (lambda t: parse_limits.memory("--memory", t), "99999999t", "--memory `99999999t`: too large"),
    (parse_limits.log_option, "max-size=1023", "--log-opt `max-size=1023`: a file of the log needs at least 1k, as in max-size=10m"),
    (parse_limits.log_option, "max-file=0", "--log-opt `max-file=0`: a number from 1 to 1000 is allowed, as in max-file=3"),
    (parse_limits.log_option, "tag=a", "--log-opt `tag=a`: max-size=SIZE and max-file=N are allowed"),
    (parse_limits.shm_size, "0", "--shm-size `0`: at least 1 byte is needed"),
    (parse_limits.cpus, "half", "--cpus `half`: a number of CPUs is allowed, as in 0.5 or 2"),
    (parse_limits.cpus, "nan", "--cpus `nan`: a number of CPUs is allowed, as in 0.5 or 2"),
    (parse_limits.cpus, "0.001", "--cpus `0.001`: from 0.01 to 8192 is allowed (0 is no limit)"),
    (parse_limits.cpu_shares, "1", "--cpu-shares `1`: a whole number from 2 to 262144 is allowed (0 is the default)"),
    (parse_limits.cpuset, "3-1", "--cpuset-cpus `3-1`: CPU numbers and ranges are allowed, as in 0-2,4"),
    *((parse_limits.cgroup_file, bad, f"--cgroup-conf `{bad}`: FILE=VALUE is allowed, FILE one of cgroup v2's, as in memory.high=200m")
      for bad in ("memory.high", "memory.high=", "memory=5", "../memory.high=5", "memory./x=5", "=5", ".high=5")),
    (parse_limits.cgroup_file, "memory.high=2x", "--cgroup-conf `2x`: not a size; a number with b, k, m or g is allowed, as in 512m"),
    (parse_limits.cpuset, "1,,2", "--cpuset-cpus `1,,2`: CPU numbers and ranges are allowed, as in 0-2,4"),
    (parse_limits.pids_limit, "-2", "--pids-limit `-2`: a whole number up to 4194304 is allowed (-1 is no limit)"),
    (parse_limits.ulimit, "nofile=10:5", "--ulimit `nofile=10:5`: SOFT is above HARD"),
    (parse_limits.ulimit, "nofile=x", "--ulimit `nofile=x`: SOFT and HARD are whole numbers, or -1 for no limit"),
    (
        parse_limits.ulimit,
        "files=1",
        "--ulimit `files=1`: NAME=SOFT[:HARD] is allowed, NAME one of core cpu data fsize locks memlock msgqueue nice nofile nproc rss"
        " rtprio rttime sigpending stack",
    ),
    (parse_network.container_address, "172.17.0.256", "--ip `172.17.0.256`: an IPv4 address is allowed, as in 172.17.0.9"),
    (parse_network.container_address, "172.17.0.09", "--ip `172.17.0.09`: an IPv4 address is allowed, as in 172.17.0.9"),
    (
        parse_network.container_address,
        "127.0.0.1",
        "--ip `127.0.0.1`: no interface can have this address (unspecified, loopback, multicast or reserved)",
    ),
    (parse_network.container_address6, "172.17.0.9", "--ip6 `172.17.0.9`: an IPv6 address is allowed, as in fd00:9::9"),
    (parse_network.container_address6, "fd00::9%eth0", "--ip6 `fd00::9%eth0`: an IPv6 address is allowed, as in fd00:9::9"),
    (parse_network.container_address6, "fd00:9::9/64", "--ip6 `fd00:9::9/64`: an IPv6 address is allowed, as in fd00:9::9"),
    *((
        parse_network.container_address6, address,
        f"--ip6 `{address}`: no interface can be given this address (unspecified, loopback, link-local or multicast)",
    ) for address in ("::", "::1", "fe80::9", "ff02::1")),
    (attachment, "lab:", f"--network `lab:`: {NETWORK}"),
    (attachment, "lab:x", f"--network `lab:x`: {NETWORK}"),
    (attachment, "bridge:ipv4=10.0.0.1", f"--network `bridge:ipv4=10.0.0.1`: {NETWORK}"),
    (attachment, "lab:ip=10.9.0.9,", f"--network `lab:ip=10.9.0.9,`: {NETWORK}"),
    (attachment, "alias=db", "--network `alias=db`: name=NETWORK is needed"),
    (attachment, "name=", f"--network ``: {NAME}"),
    (attachment, "a/b:ip=10.9.0.9", f"--network `a/b`: {NAME}"),
    (attachment, "name=a,name=b", "--network `name=a,name=b`: `name` is given twice"),
    (attachment, "a:name=b", "--network `a:name=b`: `name` is given twice"),
    (attachment, "lab:ip=10.9.0.9,ip=10.9.0.9", "--network `lab:ip=10.9.0.9,ip=10.9.0.9`: `ip` is given twice"),
    (attachment, "lab:mac=02:42:ac:11:00:09,mac-address=02:42:ac:11:00:0a",
     "--network `lab:mac=02:42:ac:11:00:09,mac-address=02:42:ac:11:00:0a`: `mac-address` is given twice"),
    (attachment, "lab:ip=fd00::9", "--ip `fd00::9`: an IPv4 address is allowed, as in 172.17.0.9"),
    (attachment, "lab:mac=0:0:0:0:0:0", "--network mac `0:0:0:0:0:0`: six bytes in hexadecimal are allowed, as in 02:42:ac:11:00:09"),
    (attachment, "lab:alias=a..b", "--network alias `a..b`: letters, digits, `-`, `_` and single dots are allowed"),
    (attachment, "lab:gw-priority=high", "--network gw-priority `high`: a number from -2147483647 to 2147483647 is allowed"),
    (priority, "2147483648", "--gw-priority `2147483648`: a number from -2147483647 to 2147483647 is allowed"),
    (priority, "--1", "--gw-priority `--1`: a number from -2147483647 to 2147483647 is allowed"),
    (priority, "+1", "--gw-priority `+1`: a number from -2147483647 to 2147483647 is allowed"),
    (parse_network.mac, "02:42", "--mac-address `02:42`: six bytes in hexadecimal are allowed, as in 02:42:ac:11:00:09"),
    (
        parse_network.mac,
        "03:42:ac:11:00:09",
        "--mac-address `03:42:ac:11:00:09`: a multicast or all-zero address cannot be an interface's",
    ),
    (parse_network.host_entry, "db", "--add-host `db`: NAME:IP is allowed, as in db:192.0.2.7"),
    (parse_network.host_entry, "db:x", "--add-host `x`: an IPv4 or IPv6 address is allowed"),
    (lambda t: parse_network.address("--dns", t), "dns.example", "--dns `dns.example`: an IPv4 or IPv6 address is allowed"),
    (parse_network.publish, "x", "--publish `x`: `x` is not a port or a range; 1 to 65535 are allowed"),
    (parse_network.publish, "0:80", "--publish `0:80`: `0` is not a port or a range; 1 to 65535 are allowed"),
    (parse_network.publish, "80:80/icmp", "--publish `80:80/icmp`: the protocol is tcp, udp or sctp"),
    (
        parse_network.publish,
        "lo:80:80",
        "--publish `lo:80:80`: `lo` is not an IPv4 address ([HOSTIP:][HOSTPORT]:PORT; IPv6 in brackets)",
    ),
    (parse_network.publish, "80-82:80-81", "--publish `80-82:80-81`: 3 host ports for 2 of the container; the same number is needed"),
    (parse_network.publish, "80:80-81", "--publish `80:80-81`: 1 host ports for 2 of the container; the same number is needed"),
    (parse_network.publish, "82-80:80", "--publish `82-80:80`: `82-80` is not a port or a range; 1 to 65535 are allowed"),
    *((parse_network.publish, text, f"--publish `{text}`: an IPv6 host address is written [2001:db8::1]:8080:80")
      for text in ("[::1:80:80", "[::]80:80", "[192.0.2.1]:80:80", "[fe80::1%eth0]:80:80")),
    *((
        parse_network.publish, text,
        f"--publish `{text}`: the kernel leads nothing from ::1 to a container (it has no route_localnet for IPv6); "
        "127.0.0.1 or [::] is possible",
    ) for text in ("[::1]:8080:80", "[0:0:0::1]::80")),
    (
        parse_network.publish,
        "2001:db8::1:80:80",
        "--publish `2001:db8::1:80:80`: `2001:db8::1` is not an IPv4 address ([HOSTIP:][HOSTPORT]:PORT; IPv6 in brackets)",
    ),
    (parse_subnet.subnet, "10.9.0.0/31", "--subnet `10.9.0.0/31`: /8 to /30 are allowed"),
    (parse_subnet.subnet, "10.9.0.0/32", "--subnet `10.9.0.0/32`: /8 to /30 are allowed"),
    (parse_subnet.subnet, "10.9.0.0", "--subnet `10.9.0.0`: a subnet is allowed, as in 10.9.0.0/24 or fd00:9::/64"),
    (parse_subnet.subnet, "10.9.0.0/33", "--subnet `10.9.0.0/33`: a subnet is allowed, as in 10.9.0.0/24 or fd00:9::/64"),
    *((parse_subnet.subnet, text, f"--subnet `{text}`: an IPv6 subnet is allowed, as in fd00:9::/64")
      for text in ("fd00::", "fd00::/", "fd00::/129", "fd00::x/64", "fd00::%eth0/64")),
    *((parse_subnet.subnet, text, f"--subnet `{text}`: /16 to /96 are allowed; /64 is usual")
      for text in ("fd00::/97", "fd00::/15", "::/0")),
    (parse_subnet.subnet, "fd00:9::1/64", "--subnet `fd00:9::1/64`: host bits are set; fd00:9::/64 is the subnet of this address"),
    *((
        parse_subnet.subnet, text,
        f"--subnet `{text}`: containers cannot have these addresses (unspecified, loopback, link-local or multicast)",
    ) for text in ("fe80::/64", "ff02::/16", "::/64", "::ffff:0:0/96")),
    (parse_subnet.subnet, "10.9.0.7/24", "--subnet `10.9.0.7/24`: host bits are set; 10.9.0.0/24 is the subnet of this address"),
    (gateway, "10.9.1.1", "--gateway `10.9.1.1`: it must be a host's address in 10.9.0.0/24"),
    (gateway, "10.9.0.255", "--gateway `10.9.0.255`: it must be a host's address in 10.9.0.0/24"),
    (gateway, "10.9.0", "--gateway `10.9.0`: an IPv4 or IPv6 address is allowed, as in 10.9.0.1"),
    (lambda t: parse_subnet.gateway(t, None), "10.9.1.1", "--gateway `10.9.1.1`: --subnet is needed with it"),
    (subnets, "10.9.0.0/24 10.9.1.0/24", "--subnet `10.9.1.0/24`: one IPv4 and one IPv6 subnet are allowed"),
    (subnets, "fd00:9::/64 10.9.1.0/24 fd00:a::/64", "--subnet `fd00:a::/64`: one IPv4 and one IPv6 subnet are allowed"),
    (subnets, "10.9.0.0/24 via 10.9.0.1 10.9.0.2", "--gateway `10.9.0.2`: one IPv4 and one IPv6 gateway are allowed"),
    (subnets, "fd00:9::/64 via fd00:9::1 fd00:9::2", "--gateway `fd00:9::2`: one IPv4 and one IPv6 gateway are allowed"),
    (subnets, "10.9.0.0/24 via fd00:9::1", "--gateway `fd00:9::1`: an IPv6 --subnet is needed with it"),
    (subnets, "fd00:9::/64 via 10.9.0.1", "--gateway `10.9.0.1`: --subnet is needed with it"),
    (subnets, "fd00:9::/64 via fd00:9::", "--gateway `fd00:9::`: it must be a host's address in fd00:9::/64"),
    (subnets, "fd00:9::/64 via fd00:9:0:1::1", "--gateway `fd00:9:0:1::1`: it must be a host's address in fd00:9::/64"),
    (subnets, "fd00:9::/64 via fd00:8::1", "--gateway `fd00:8::1`: it must be a host's address in fd00:9::/64"),
    (subnets, "fd00:9::/64 via fd00:9::1%br0", "--gateway `fd00:9::1%br0`: an IPv4 or IPv6 address is allowed, as in fd00:9::1"),
    (ip_range, "10.9.0.0/23", "--ip-range `10.9.0.0/23`: it must lie in 10.9.0.0/24"),
    (ip_range, "10.9.1.0/25", "--ip-range `10.9.1.0/25`: it must lie in 10.9.0.0/24"),
    (ip_range, "10.9.0.1/25", "--ip-range `10.9.0.1/25`: host bits are set; 10.9.0.0/25 is the subnet of this address"),
    (ip_range, "10.0.0.0/7", "--ip-range `10.0.0.0/7`: /8 to /32 are allowed"),
    (ip_range, "fd00:9::/96", "--ip-range `fd00:9::/96`: an IPv4 range is allowed; IPv6 addresses follow from the IPv4 ones"),
    (lambda t: parse_subnet.ip_range(t, None), "10.9.0.0/25", "--ip-range `10.9.0.0/25`: --subnet is needed with it"),
    (parse_subnet.mtu, "67", "--mtu `67`: 68 to 65535 bytes are allowed"),
    (bridge_name, "a" * 16, f"--bridge `{'a' * 16}`: 1 to 15 characters without space, `/`, `:` and `%` are allowed"),
    (driver_option, "mtu", f"--opt `mtu`: {DRIVER_OPTIONS}"),
    (driver_option, "mtu=", f"--opt `mtu=`: {DRIVER_OPTIONS}"),
    (driver_option, "com.docker.network.bridge.host_binding_ipv4=",
     f"--opt `com.docker.network.bridge.host_binding_ipv4=`: {DRIVER_OPTIONS}"),
    (driver_option, "mtu=67", "--mtu `67`: 68 to 65535 bytes are allowed"),
    (driver_option, "mode=passthru", "--opt `mode=passthru`: the mode is bridge, private, vepa"),
    (driver_option, "parent=a:b", "--opt `a:b`: 1 to 15 characters without space, `/`, `:` and `%` are allowed"),
    (driver_option, "com.docker.network.bridge.enable_icc=maybe",
     "--opt com.docker.network.bridge.enable_icc `maybe`: true or false is allowed"),
    (
        since,
        "yesterday",
        "--since `yesterday`: a time (2024-05-01T10:00:00Z), seconds since 1970, or a duration (90s, 1h30m) is allowed",
    ),
    (
        since,
        "2024-02-30",
        "--since `2024-02-30`: a time (2024-05-01T10:00:00Z), seconds since 1970, or a duration (90s, 1h30m) is allowed",
    ),
    (parse_time.timeout, "soon", "--time `soon`: seconds up to 2000000 are allowed (-1 is for ever)"),
    (parse_time.timeout, "2000001", "--time `2000001`: seconds up to 2000000 are allowed (-1 is for ever)"),
    (parse_time.tail, "-5", "--tail `-5`: a number of lines, or all, is allowed"),
    (environment, b"A=1\nthis is junk\n", "env file `e`, line 2: `this is junk` is not NAME=VALUE"),  # type: ignore[list-item]
    (environment, b"export A=1", "env file `e`, line 1: `export A=1` is not NAME=VALUE"),  # type: ignore[list-item]
    (environment, b"\x7fELF\x02\0", "env file `e`, line 1: `\x7fELF\x02\0` is not NAME=VALUE"),  # type: ignore[list-item]
    (environment, b"A=1\nB=\xff", "env file `e`, line 2: not UTF-8 text"),  # type: ignore[list-item]
    (lambda t: parse.environment([], [t], {}, files(b"")), "=x", "--env `=x`: NAME=VALUE, or NAME to pass it on, is allowed"),
]


@pytest.mark.parametrize(("function", "text", "wanted"), GOOD, ids=[repr(row[1])[:40] for row in GOOD])
def test_taken(function: Callable[[str], object], text: str, wanted: object) -> None:
    assert function(text) == wanted


@pytest.mark.parametrize(("function", "text", "message"), BAD, ids=[repr(row[1])[:40] for row in BAD])
def test_refused(function: Callable[[str], object], text: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        function(text)


def test_an_env_file_that_is_missing_is_named() -> None:
    def missing(path: str) -> bytes:
        raise FileNotFoundError(2, "No such file or directory")

    with pytest.raises(UsageError, match="^read env file `gone`: no such file or directory$"):
        parse.environment(["gone"], [], {}, missing)


ALL = sorted({function for function, _, _ in GOOD + BAD if function is not environment}, key=id)  # type: ignore[operator]


@given(st.sampled_from(ALL), st.one_of(st.text(max_size=40), st.sampled_from([row[1] for row in GOOD + BAD if isinstance(row[1], str)])))
def test_no_text_makes_a_parser_fail_otherwise(function: Callable[[str], object], text: str) -> None:
    try:
        function(text)
    except UsageError as error:
        assert error.message


@given(st.binary(max_size=60))
def test_no_env_file_makes_the_parser_fail_otherwise(content: bytes) -> None:
    try:
        lines = environment(content)
    except UsageError:
        return
    assert all("=" in line and not line.startswith("=") for line in lines)


@given(st.integers(0, 1 << 40), st.sampled_from(["", "b", "k", "m", "g", "KiB", "mb"]))
def test_sizes_are_powers_of_1024(number: int, unit: str) -> None:
    power = " kmg".index(unit[:1].lower().replace("b", " ") or " ")
    wanted = number << 10 * power
    if wanted < 1 << 63:
        assert parse_limits.size("-m", f"{number}{unit}") == wanted


@given(st.integers(0, (1 << 32) - 1))
def test_addresses_round_trip(value: int) -> None:
    assert parse_network.packed(parse_network.dotted(value)) == value


@given(st.ip_addresses(v=6), st.data())
def test_ipv6_addresses_are_ipaddress_s(address: ipaddress.IPv6Address, data: st.DataObject) -> None:
    spelled = data.draw(st.sampled_from([str(address), address.exploded, str(address).upper()]))
    assert parse_network.packed6(spelled) == address.packed
    assert ipaddress.IPv6Address(parse_network.canonical6(spelled)) == address
    assert parse_network.canonical6(spelled) == parse_network.canonical6(str(address))


@given(st.text("0123456789abcdef:.%/ ", max_size=24))
def test_what_is_no_ipv6_address_is_ipaddress_s_too(text: str) -> None:
    try:
        wanted: bytes | None = ipaddress.IPv6Address(text).packed if "%" not in text else None
    except ValueError:
        wanted = None
    assert parse_network.packed6(text) == wanted


@given(st.ip_addresses(v=6), st.integers(0, 128))
def test_ipv6_subnets_are_ipaddress_s(address: ipaddress.IPv6Address, prefix: int) -> None:
    text = f"{address}/{prefix}"
    try:
        found = ipaddress.IPv6Network(parse_subnet.subnet(text))
    except UsageError:
        try:
            real = ipaddress.IPv6Network(text)
        except ValueError:
            return  # host bits
        assert not 16 <= prefix <= 96 or real.is_multicast or real.is_link_local or int(real.network_address) >> 64 == 0
        return
    assert found == ipaddress.IPv6Network(text)


@given(st.integers(1, 65535), st.integers(1, 65535), st.integers(0, 20), st.sampled_from(["tcp", "udp", "sctp"]))
def test_port_ranges_pair_up(host: int, inside: int, more: int, protocol: str) -> None:
    if max(host, inside) + more > 65535:
        return
    ports = parse_network.publish(f"{host}-{host + more}:{inside}-{inside + more}/{protocol}")
    assert all(port.host_last == 0 for port in ports)
    assert [(port.host_port - host, port.container_port - inside) for port in ports] == [(i, i) for i in range(more + 1)]


@given(
    st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1)).map(lambda t: t.replace(microsecond=0, tzinfo=UTC)),
    st.integers(-23 * 60, 23 * 60),
)
def test_rfc3339_as_the_standard_library_reads_it(moment: datetime, east: int) -> None:
    sign, minutes = "-" if east < 0 else "+", abs(east)
    local = moment + timedelta(minutes=east)
    text = f"{local:%Y-%m-%dT%H:%M:%S}{sign}{minutes // 60:02}:{minutes % 60:02}"
    if local.year >= 1970:
        assert since(text) == moment.timestamp()


def test_a_time_without_a_zone_is_local() -> None:
    assert since("2024-05-01T10:00") == time.mktime((2024, 5, 1, 10, 0, 0, 0, 0, -1))
    assert since("2024-05-01") == time.mktime((2024, 5, 1, 0, 0, 0, 0, 0, -1))


def test_the_numbers_of_a_list_of_cpus() -> None:
    assert parse_limits.cpu_numbers("0-2,4") == {0, 1, 2, 4}
    assert parse_limits.cpu_numbers("") == set()
