"""What users write, and the exact line they get when it is wrong."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidocker.errors import UsageError
from minidocker.spec import parse, parse_limits, parse_network, parse_time
from minidocker.spec.records import Port

NOW = 1_700_000_000.0


def since(text: str) -> float:
    return parse_time.since(text, NOW, time.mktime)


def files(content: bytes) -> Callable[[str], bytes]:
    return lambda path: content


def environment(content: bytes) -> list[str]:
    return parse.environment(["e"], [], {"HOME": "/root"}, files(content))


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
    (parse_limits.pids_limit, "-1", -1),
    (parse_limits.pids_limit, "0", 0),
    (parse_limits.ulimit, "nofile=1024", ("nofile", 1024, 1024)),
    (parse_limits.ulimit, "core=0:unlimited", ("core", 0, -1)),
    (parse_limits.ulimit, "memlock=-1", ("memlock", -1, -1)),
    (parse_network.container_address, "172.17.0.9", "172.17.0.9"),
    (parse_network.mac, "02-42-AC-11-00-09", "02:42:ac:11:00:09"),
    (parse_network.host_entry, "db:192.0.2.7", ("db", "192.0.2.7")),
    (parse_network.host_entry, "db:::1", ("db", "::1")),
    (parse_network.host_entry, "db:[2001:db8::1]", ("db", "2001:db8::1")),
    (parse_network.publish, "80", [Port(0, 80)]),
    (parse_network.publish, "8080:80", [Port(8080, 80)]),
    (parse_network.publish, ":80/UDP", [Port(0, 80, "", "udp")]),
    (parse_network.publish, "127.0.0.1:8080:80/tcp", [Port(8080, 80, "127.0.0.1")]),
    (parse_network.publish, "127.0.0.1::80", [Port(0, 80, "127.0.0.1")]),
    (parse_network.publish, "[::1]:8080:80/sctp", [Port(8080, 80, "::1", "sctp")]),
    (parse_network.publish, "9000-9001:80-81", [Port(9000, 80), Port(9001, 81)]),
    (parse_network.publish, "80-81", [Port(0, 80), Port(0, 81)]),
    (parse_network.expose, "80-81/udp", [(80, "udp"), (81, "udp")]),
    (parse_network.subnet, "10.9.0.0/24", "10.9.0.0/24"),
    (lambda t: parse_network.gateway(t, "10.9.0.0/24"), "10.9.0.254", "10.9.0.254"),
    (parse_network.mtu, "1400", 1400),
    (lambda t: parse_network.interface("--bridge", t), "br-lab", "br-lab"),
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
    (lambda t: parse.volume(t, "/"), "data:/a", "--volume `data:/a`: SRC `data` must start with / or ./ (there are no named volumes)"),
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
        "label=disable",
        "--security-opt `label=disable`: no-new-privileges[=true|false], seccomp=FILE and seccomp=unconfined are allowed",
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
    (parse.ps_filter, "id=3", "--filter `id=3`: name=, status=, network= and label= with a value are allowed"),
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
    (parse_limits.shm_size, "0", "--shm-size `0`: at least 1 byte is needed"),
    (parse_limits.cpus, "half", "--cpus `half`: a number of CPUs is allowed, as in 0.5 or 2"),
    (parse_limits.cpus, "nan", "--cpus `nan`: a number of CPUs is allowed, as in 0.5 or 2"),
    (parse_limits.cpus, "0.001", "--cpus `0.001`: from 0.01 to 8192 is allowed (0 is no limit)"),
    (parse_limits.cpu_shares, "1", "--cpu-shares `1`: a whole number from 2 to 262144 is allowed (0 is the default)"),
    (parse_limits.cpuset, "3-1", "--cpuset-cpus `3-1`: CPU numbers and ranges are allowed, as in 0-2,4"),
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
    (parse_network.publish, "80-82:80", "--publish `80-82:80`: 3 host ports for 1 of the container; the same number is needed"),
    (parse_network.publish, "[::1:80:80", "--publish `[::1:80:80`: an IPv6 host address is written [::1]:8080:80"),
    (parse_network.subnet, "10.9.0.0/31", "--subnet `10.9.0.0/31`: /8 to /30 are allowed"),
    (parse_network.subnet, "10.9.0.0/32", "--subnet `10.9.0.0/32`: /8 to /30 are allowed"),
    (parse_network.subnet, "10.9.0.0", "--subnet `10.9.0.0`: an IPv4 subnet is allowed, as in 10.9.0.0/24"),
    (
        parse_network.subnet,
        "fd00::/64",
        "--subnet `fd00::/64`: IPv6 subnets are not supported yet; an IPv4 subnet is allowed, as in 10.9.0.0/24",
    ),
    (parse_network.subnet, "10.9.0.7/24", "--subnet `10.9.0.7/24`: host bits are set; 10.9.0.0/24 is the subnet of this address"),
    (lambda t: parse_network.gateway(t, "10.9.0.0/24"), "10.9.1.1", "--gateway `10.9.1.1`: it must be a host's address in 10.9.0.0/24"),
    (lambda t: parse_network.gateway(t, "10.9.0.0/24"), "10.9.0.255", "--gateway `10.9.0.255`: it must be a host's address in 10.9.0.0/24"),
    (lambda t: parse_network.gateway(t, None), "10.9.1.1", "--gateway `10.9.1.1`: --subnet is needed with it"),
    (parse_network.mtu, "67", "--mtu `67`: 68 to 65535 bytes are allowed"),
    (
        lambda t: parse_network.interface("--bridge", t),
        "a" * 16,
        f"--bridge `{'a' * 16}`: 1 to 15 characters without space, `/`, `:` and `%` are allowed",
    ),
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


@given(st.integers(1, 65535), st.integers(1, 65535), st.integers(0, 20), st.sampled_from(["tcp", "udp", "sctp"]))
def test_port_ranges_pair_up(host: int, inside: int, more: int, protocol: str) -> None:
    if max(host, inside) + more > 65535:
        return
    ports = parse_network.publish(f"{host}-{host + more}:{inside}-{inside + more}/{protocol}")
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
