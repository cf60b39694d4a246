"""What cannot be done is said in one line, with a hint where there is something to try, and leaves the machine as it was."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests import pretend
from tests.e2e.machine import Family, Picture, await_picture, differences, picture
from tests.e2e.support import REPOSITORY, Minidocker, poll

SEARCHED = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ONLINE = Path("/sys/devices/system/cpu/online").read_text().strip()
CHOOSE = "choose another: minidocker network create --bridge NAME ..."


@pytest.fixture
def family() -> Iterator[Family]:
    with Family() as family:
        yield family


@pytest.fixture(scope="module")
def md(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Minidocker]:
    """One for all tests: what they refuse changes nothing, and each takes back what it makes. It has been used before."""
    minidocker = Minidocker(tmp_path_factory.mktemp("root") / "root")
    minidocker.run("--rm", "true")
    minidocker("network", "rm", "br0")
    yield minidocker
    minidocker.close()


@pytest.fixture(autouse=True)
def nothing_left(md: Minidocker) -> Iterator[None]:
    yield
    md.close()


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A working directory with things that are no programs."""
    here = tmp_path / "here"
    (here / "empty").mkdir(parents=True)
    (here / "directory").mkdir()
    for name, content, mode in (
        ("plain", "hello\n", 0o644), ("noshebang", "echo hello\n", 0o755), ("badinterpreter", "#!/no/such/interpreter\n", 0o755),
        ("junk.env", "A=1\nexport B=2\n", 0o644), ("text.env", "this is text\n", 0o644), ("nothing", "", 0o755),
    ):  # fmt: skip
        (here / name).write_text(content)
        (here / name).chmod(mode)
    (here / "binary.env").write_bytes(b"A=1\n\xff\xfe\n")
    return here


class Unchanged:
    """`with Unchanged(...)`: whatever is done, the machine is as it was before, at once but for what dies in the kernel's own time."""

    def __init__(self, md: Minidocker, family: Family) -> None:
        self.md = md
        self.family = family

    def __enter__(self) -> Picture:
        self.before = picture(self.md, self.family)
        return self.before

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            await_picture(self.md, self.before, self.family)


def says(message: str, hint: str = "") -> str:
    return f"minidocker: {message}\n" + (f"  hint: {hint}\n" if hint else "")


# --- run, on a machine where nothing runs yet -------------------------------------------------------------------------------------------

NOT_IN_PATH = f"its PATH is {SEARCHED}; a program of the host is named by a path: ./prog"
LONG = "x" * 300
REFUSED = {
    # name: (words, exit code, message, hint)
    "unknown network": (["--net", "backend", "true"], 125, "no such network: backend", "minidocker network create backend makes it"),
    "near miss": (["--net", "bro", "true"], 125, "no such network: bro", "did you mean br0?"),
    "no such container's network": (["--net", "container:web", "true"], 125, "no such container: web", "minidocker ps -a lists them"),
    "malformed --ip": (["--ip", "10.9", "true"], 125, "--ip `10.9`: an IPv4 address is allowed, as in 172.17.0.9", ""),
    "IPv6 --ip": (["--ip", "fd00::2", "true"], 125, "--ip `fd00::2`: an IPv4 address is allowed, as in 172.17.0.9", ""),
    "foreign --ip": (["--ip", "192.0.2.7", "true"], 125, "address `192.0.2.7` is outside of subnet 172.17.0.0/24",
                     "take one of 172.17.0.1 to 172.17.0.254"),
    "the gateway's --ip": (["--ip", "172.17.0.1", "true"], 125, "address `172.17.0.1` is the gateway of subnet 172.17.0.0/24",
                           "take another, or leave --ip out"),
    "the broadcast --ip": (["--ip", "172.17.0.255", "true"], 125, "address `172.17.0.255` is the broadcast address of subnet 172.17.0.0/24",
                           "take one of 172.17.0.1 to 172.17.0.254"),
    "--ip without a network": (["--net", "none", "--ip", "172.17.0.2", "true"], 125, "--ip cannot be used with --network none",
                               "leave out --ip, or name a network"),
    "memory 10x": (["-m", "10x", "true"], 125, "--memory `10x`: not a size; a number with b, k, m or g is allowed, as in 512m", ""),
    "memory too small": (["-m", "1m", "true"], 125, "--memory `1m`: a process needs at least 6m (0 is no limit)", ""),
    "missing rootfs": (["--rootfs", "missing", "true"], 125, "the root file system HERE/missing does not exist",
                       "rootfs/busybox and rootfs/debian build some"),
    "rootfs is a file": (["--rootfs", "plain", "true"], 125, "the root file system HERE/plain is not a directory", ""),
    "rootfs without the program": (["--rootfs", "empty", "prog"], 127, "`prog` is not found in the container", NOT_IN_PATH),
    "rootfs without the path": (["--rootfs", "empty", "/prog"], 127, "`/prog` does not exist in the container", ""),
    "not in PATH": (["prog"], 127, "`prog` is not found in the container", NOT_IN_PATH),
    "no such file": (["./missing"], 127, "`./missing` does not exist", "a bare name is looked up in the container's PATH"),
    "a directory": (["./directory"], 126, "`./directory` is a directory, not a program", ""),
    "not executable": (["./plain"], 126, "`./plain` is not executable", "chmod +x ./plain"),
    "a script without a shebang": (["./noshebang"], 126, "`./noshebang` is neither a binary nor does it begin with `#!`",
                                   "a script's first line says what runs it: #!/bin/sh"),
    "an empty program": (["./nothing"], 126, "`./nothing` is neither a binary nor does it begin with `#!`",
                         "a script's first line says what runs it: #!/bin/sh"),
    "a missing interpreter": (["./badinterpreter"], 127, "execute `./badinterpreter`: its interpreter does not exist in the container",
                              "look at its `#!` line, or at its ELF loader"),
    "-v source missing": (["-v", "/no/source:/x", "true"], 125, "the volume's source /no/source does not exist",
                          "mkdir -p /no/source (docker would make it; minidocker does not)"),
    "relative -v target": (["-v", "/tmp:x", "true"], 125, "--volume `/tmp:x`: DST `x` must be an absolute path below /", ""),
    "junk in the env file": (["--env-file", "junk.env", "true"], 125, "env file `junk.env`, line 2: `export B=2` is not NAME=VALUE",
                             "lines are taken literally: no `export`, no spaces around the name"),
    "text as the env file": (["--env-file", "text.env", "true"], 125, "env file `text.env`, line 1: `this is text` is not NAME=VALUE",
                             "lines are taken literally: no `export`, no spaces around the name"),
    "bytes in the env file": (["--env-file", "binary.env", "true"], 125, "env file `binary.env`, line 2: not UTF-8 text", ""),
    "no env file": (["--env-file", "missing.env", "true"], 125, "read env file `missing.env`: no such file or directory", ""),
    "name with /": (["--name", "a/b", "true"], 125,
                    "--name `a/b`: letters, digits, `_`, `.` and `-` are allowed, the first a letter or digit", ""),
    "name of 300": (["--name", LONG, "true"], 125, f"--name `{LONG[:77]}...`: 300 characters; at most 63 are allowed", ""),
    "no command": ([], 125, "`minidocker run` needs COMMAND [ARG...]", "usage: minidocker run [OPTIONS] COMMAND [ARG...]"),
    "unknown option": (["--frob", "true"], 125, "`minidocker run`: unknown option `--frob`", "did you mean `--rm`?"),
    "unknown user": (["-u", "nosuch", "true"], 125, None, None),
    "CPU that is not there": (
        ["--cpuset-cpus", "0,4000", "true"], 125, "--cpuset-cpus 0,4000: not all of them are there", f"this machine has {ONLINE}",
    ),
    "more CPUs than there are": (
        ["--cpus", "4000.5", "true"], 125, "--cpus 4000.5 is more than there are", f"from 0.01 to {os.cpu_count()} is possible here",
    ),
    "half a CPU set": (["--cpuset-cpus", "1-", "true"], 125, "--cpuset-cpus `1-`: CPU numbers and ranges are allowed, as in 0-2,4", ""),
    "unknown capability": (["--cap-add", "NET_ADMN", "true"], 125, None, None),
    "seccomp file missing": (["--security-opt", "seccomp=missing.json", "true"], 125, None, None),
    "-t -i without a terminal": (["-it", "true"], 125, "-i with -t needs a terminal, and stdin is none", "leave out -t"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_run_refuses(md: Minidocker, family: Family, here: Path, case: str) -> None:
    words, code, message, hint = REFUSED[case]  # the message None: its wording is its own test's
    for way in ([],) if words[:1] in (["--net"], ["-it"]) else ([], ["-d"]):
        with Unchanged(md, family):
            said = md.refused("run", *way, *words, code=code, cwd=here)
        if message is not None:
            assert said == says(message, hint or "").replace("HERE", str(here))


# --- run, beside a container and its network --------------------------------------------------------------------------------------------


def test_run_refuses_what_others_have(md: Minidocker, family: Family) -> None:
    md("network", "create", "--subnet", "10.9.0.0/29", "small")
    id = md.start("--net", "small", "--name", "web", "-p", "127.0.0.1:18080:80", "--mac-address", "02:00:00:00:00:09", "sleep", "1000")
    address = md.ps()[0]["IP"]
    with Unchanged(md, family):
        for words, message, hint in (
            (["--name", "web"], f"the name `web` is in use by container {id[:12]}", "minidocker rm web, or choose another --name"),
            (["--ip", address], f"address {address} is in use by container `web`", "take another, or leave --ip out"),
            (["--mac-address", "02:00:00:00:00:09"], "the MAC address 02:00:00:00:00:09 is in use by container `web`",
             "take another, or leave --mac-address out"),
            (["-p", "18080:80"], "port 18080/tcp of all addresses is published by container `web` already",
             "choose another host port, or leave it out to have one chosen"),
        ):  # fmt: skip
            assert md.refused("run", "--net", "small", *words, "true") == says(message, hint)
        assert md.refused("run", "--net", "smal", "true") == says("no such network: smal", "did you mean small?")
        assert md.refused("run", "--net", "container:wep", "true") == says("no such container: wep", "did you mean web?")
        assert md.refused("rm", "web", code=1) == says("container `web` is running", "minidocker stop web, or rm -f")
        assert md.refused("rm", "wb", code=1) == says("no such container: wb", "did you mean web?")
        assert md.refused("network", "rm", "small", code=1) == says(
            "network `small` has containers in it: web", "stop them first: minidocker stop web"
        )
        assert md.refused("network", "create", "--subnet", "10.10.0.0/24", "small", code=1) == says(
            "network `small` exists already", "minidocker network rm small, or choose another name"
        )


@pytest.mark.parametrize(("subnet", "room", "wider"), [
    ("10.9.0.0/30", "its only address for containers is", "10.9.0.0/29"),
    ("10.9.0.0/29", "all of its 5 addresses for containers are", "10.9.0.0/28"),
])  # fmt: skip
def test_a_full_subnet(md: Minidocker, family: Family, subnet: str, room: str, wider: str) -> None:
    md("network", "create", "--subnet", subnet, "small")
    for _ in range(5 if subnet.endswith("29") else 1):
        md.start("--net", "small", "sleep", "1000")
    with Unchanged(md, family):
        assert md.refused("run", "--net", "small", "true") == says(
            f"subnet {subnet} is full: {room} in use",
            f"remove containers, or make a wider network: minidocker network create --subnet {wider} NAME",
        )
    md("rm", "-f", md.ps()[0]["ID"])
    md.run("--rm", "--net", "small", "true")


# --- network create ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "message"), [
    ("--subnet 10.9.1.0/31", "--subnet `10.9.1.0/31`: /8 to /30 are allowed"),
    ("--subnet 10.9.1.0/32", "--subnet `10.9.1.0/32`: /8 to /30 are allowed"),
    ("--subnet 10.9.1.0/33", "--subnet `10.9.1.0/33`: a subnet is allowed, as in 10.9.0.0/24 or fd00:9::/64"),
    ("--subnet 10.9.1.0", "--subnet `10.9.1.0`: a subnet is allowed, as in 10.9.0.0/24 or fd00:9::/64"),
    ("--subnet fd00::/127", "--subnet `fd00::/127`: /16 to /96 are allowed; /64 is usual"),
    ("--subnet fd00::1/64", "--subnet `fd00::1/64`: host bits are set; fd00::/64 is the subnet of this address"),
    ("--subnet fe80::/64", "--subnet `fe80::/64`: containers cannot have these addresses (unspecified, loopback, link-local or multicast)"),
    ("--subnet 10.9.1.0/24 --subnet 10.9.2.0/24", "--subnet `10.9.2.0/24`: one IPv4 and one IPv6 subnet are allowed"),
    ("--subnet 10.9.1.0/24 --ip-range 10.9.2.0/25", "--ip-range `10.9.2.0/25`: it must lie in 10.9.1.0/24"),
    ("--ip-range 10.9.2.0/25", "--ip-range `10.9.2.0/25`: --subnet is needed with it"),
    ("-o colour=red", "--opt `colour=red`: there are com.docker.network.bridge.name=, com.docker.network.driver.mtu=, "
                      "com.docker.network.bridge.enable_icc=, mtu=, parent=, macvlan_mode=, mode="),
    ("-o mode=passthru -o parent=x -d macvlan", "--opt `mode=passthru`: the mode is bridge, private, vepa"),
    ("--subnet 10.9.1.1/24", "--subnet `10.9.1.1/24`: host bits are set; 10.9.1.0/24 is the subnet of this address"),
    ("--subnet 127.1.0.0/16",
     "--subnet `127.1.0.0/16`: no interface can have these addresses (unspecified, loopback, multicast or reserved)"),
    ("--subnet 10.9.1.0/24 --gateway 10.9.2.1", "--gateway `10.9.2.1`: it must be a host's address in 10.9.1.0/24"),
    ("--subnet 10.9.1.0/24 --gateway 10.9.1.255", "--gateway `10.9.1.255`: it must be a host's address in 10.9.1.0/24"),
    ("--gateway 10.9.2.1", "--gateway `10.9.2.1`: --subnet is needed with it"),
    ("--mtu 10", "--mtu `10`: 68 to 65535 bytes are allowed"),
    ("--mtu x", "--mtu `x`: 68 to 65535 bytes are allowed"),
    ("--mtu 65536", "--mtu `65536`: 68 to 65535 bytes are allowed"),
    ("--bridge a/b", "--bridge `a/b`: 1 to 15 characters without space, `/`, `:` and `%` are allowed"),
])  # fmt: skip
def test_network_create_refuses(md: Minidocker, family: Family, words: str, message: str) -> None:
    with Unchanged(md, family):
        assert md.refused("network", "create", *words.split(), "n") == says(message)


@pytest.mark.parametrize(("words", "message", "hint"), [
    ("-d ptp --gateway 10.9.1.1 --subnet 10.9.1.0/24", "--gateway has no meaning for a ptp network",
     "leave it out: it joins two containers, and there is no host between them"),
    ("-d ptp --internal", "--internal has no meaning for a ptp network", "leave it out: it leads nowhere else anyway"),
    ("-d ptp --isolated", "--isolated has no meaning for a ptp network", "leave it out: it is there for its two containers to meet"),
    ("-d ptp --bridge x", "--bridge has no meaning for a ptp network", "leave it out"),
    ("-d macvlan", "a macvlan network needs the host's interface that it is to be on", "-o parent=eth0"),
    ("-d macvlan -o parent=lo0 --bridge x", "--bridge has no meaning for a macvlan network", "leave it out"),
    ("-d macvlan -o parent=lo0 --isolated", "--isolated has no meaning for a macvlan network",
     "leave it out; -o mode=private keeps its containers apart"),
    ("-o parent=lan0", "--opt parent= has no meaning for a bridge network", "leave it out"),
    ("--ipv6 --mtu 1000", "--mtu 1000 is too small for IPv6", "at least 1280 bytes (RFC 8200)"),
])  # fmt: skip
def test_network_create_refuses_what_a_driver_cannot(md: Minidocker, family: Family, words: str, message: str, hint: str) -> None:
    with Unchanged(md, family):
        assert md.refused("network", "create", *words.split(), "n") == says(message, hint)


@contextlib.contextmanager
def commands(make: str, undo: str) -> Iterator[None]:
    """Something on this host that is not ours."""
    pretend.sh(make)
    try:
        yield
    finally:
        pretend.sh(undo)


@pytest.mark.parametrize("kind", ["type bridge", "type veth peer name br0peer"])
def test_a_foreign_br0_is_refused_and_left_alone(md: Minidocker, family: Family, kind: str) -> None:
    with commands(f"ip link add br0 {kind} && ip link set br0 up && ip addr add 10.55.0.1/24 dev br0", "ip link del br0"):
        refused = says("a link called `br0` exists already and is not minidocker's", CHOOSE)
        with Unchanged(md, family):
            assert md.refused("run", "true") == refused
            assert md.refused("run", "-d", "true") == refused
            assert md.refused("network", "create", "br0", code=1) == refused
            assert md.refused("network", "create", "--bridge", "br0", "n", code=1) == refused
        md("network", "create", "--bridge", "br1", "br0")  # as the hint says
        md.run("--rm", "true")


IN_THE_WAY = {
    "docker0": ("ip link add docker0 type bridge && ip addr add 172.17.0.1/16 dev docker0 && ip link set docker0 up", "ip link del docker0",
                "route 172.17.0.0/16 dev docker0", "172.18.0.0/24", "172.17.5.0/24"),
    "an unreachable route": ("ip route add unreachable 172.16.0.0/12", "ip route del unreachable 172.16.0.0/12",
                             "unreachable route 172.16.0.0/12", "10.64.0.0/24", "172.20.0.0/16"),
    "a VPN's route in a table of its own": ("ip link add tun9 type veth peer name tun9p && ip link set tun9 up && ip link set tun9p up && "
                                            "ip route add 172.17.0.0/25 dev tun9 table 77", "ip link del tun9",
                                            "route 172.17.0.0/25 dev tun9 table 77", "172.17.1.0/24", "172.17.0.0/24"),
}  # fmt: skip


@pytest.mark.parametrize("case", IN_THE_WAY)
def test_a_subnet_in_use_is_passed_over_or_refused(md: Minidocker, family: Family, here: Path, case: str) -> None:
    make, undo, owner, taken, explicit = IN_THE_WAY[case]
    with commands(make, undo):
        with Unchanged(md, family):
            assert md.refused("network", "create", "--subnet", explicit, "n", code=1) == says(
                f"subnet {explicit} overlaps {owner}", "choose another; without --subnet a free one is taken"
            )
        with Unchanged(md, family):
            done = md.run("--rm", "true", check=False)
            assert (done.returncode, done.stdout) == (0, "")
            assert done.stderr == says(f"172.17.0.0/24 is in use here ({owner}): network br0 takes {taken}")
            assert md.run("--rm", "true").stderr == "", "said once"
            assert [route["dst"] for route in pretend.ip("route show dev br0")] == [taken]
            md("network", "rm", "br0")


def test_a_nameserver_in_the_way_is_passed_over(md: Minidocker, family: Family, here: Path, tmp_path: Path) -> None:
    resolv = tmp_path / "resolv.conf"
    resolv.write_text("nameserver 172.17.0.53\n")
    with commands(f"mount --bind {resolv} /etc/resolv.conf", "umount /etc/resolv.conf"), Unchanged(md, family):
        assert md.refused("network", "create", "--subnet", "172.17.0.0/24", "n", code=1) == says(
            "subnet 172.17.0.0/24 overlaps nameserver 172.17.0.53", "choose another; without --subnet a free one is taken"
        )
        done = md.run("--rm", "true", check=False)
        assert (done.returncode, done.stdout) == (0, "")
        assert done.stderr == says("172.17.0.0/24 is in use here (nameserver 172.17.0.53): network br0 takes 172.17.1.0/24")
        md("network", "rm", "br0")


# --- the host -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", ["run true", "run -d true", "ps", "network create n", "rm x", "stop x"])
def test_not_root(md: Minidocker, family: Family, words: str) -> None:
    """As nobody: the interpreter is started by root, as nobody may not get at it in every checkout, and drops its rights first."""
    code = f"""if True:
        import os, pkgutil, sys
        sys.path[:0] = {[str(REPOSITORY), str(Path(click.__file__).parents[1])]!r}
        import minidocker
        from minidocker.__main__ import start
        for module in pkgutil.walk_packages(minidocker.__path__, "minidocker."):
            __import__(module.name)
        os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
        start()"""
    with Unchanged(md, family):
        done = subprocess.run([sys.executable, "-I", "-c", code, "--root", str(md.root), *words.split()], capture_output=True, text=True)
    command = " ".join(words.split()[:2]) if words.startswith("network") else words.split()[0]
    assert (done.returncode, done.stdout, done.stderr) == (125, "", says(f"`minidocker {command}` must be run as root", "use sudo"))


def test_without_nft(md: Minidocker, family: Family) -> None:
    """A network cannot be had, and the failed first use of br0 leaves none; without one, containers run."""
    refused = says("the program `nft` is missing: bridges, masquerading and published ports need it", "apt-get install nftables")
    nft = os.path.realpath(str(shutil.which("nft")))
    with Unchanged(md, family), commands(f"mount --bind /dev/null {nft}", f"umount {nft}"):
        assert md.refused("run", "true") == refused
        assert md.refused("run", "-d", "true") == refused
        assert md.refused("network", "create", "n") == refused
        assert md.run("--rm", "--net", "none", "echo", "hello").stdout == "hello\n"


@contextlib.contextmanager
def disk(at: Path, options: str) -> Iterator[Path]:
    at.mkdir(exist_ok=True)
    with commands(f"mount -t tmpfs -o {options} tmpfs {at}", f"umount -l {at}"):
        yield at


@contextlib.contextmanager
def root_on(place: Path) -> Iterator[Minidocker]:
    """minidocker with its data root on a disk of its own, which is left empty of containers before it goes, whatever happens."""
    minidocker = Minidocker(place / "root")
    try:
        yield minidocker
    finally:
        pretend.sh(f"mount -o remount,rw {place}")
        (place / "filler").unlink(missing_ok=True)
        minidocker.close()


def fill(directory: Path) -> Path:
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


def test_a_root_on_a_read_only_file_system(family: Family, tmp_path: Path) -> None:
    with disk(tmp_path / "disk", "size=16m,ro") as place, root_on(place) as fresh:
        for words in (["run", "true"], ["ps"], ["network", "create", "n"]):
            with Unchanged(fresh, family):
                assert fresh.refused(*words) == says(
                    f"use {fresh.root} as the data root: read-only file system", "choose another with --root DIR"
                )
        pretend.sh(f"mount -o remount,rw {place}")
        fresh.run("--rm", "true")
        fresh("network", "rm", "br0")
        pretend.sh(f"mount -o remount,ro {place}")
        for words in (["run", "true"], ["run", "--net", "none", "true"], ["run", "-d", "true"], ["network", "create", "n"]):
            with Unchanged(fresh, family):
                assert fresh.refused(*words) == says(
                    f"use the state in {fresh.root}/state.db: it cannot be written", "is the file system mounted read-only?"
                )
        assert fresh.ps() == []


@pytest.mark.parametrize("used_before", [False, True])
def test_a_full_disk(family: Family, tmp_path: Path, used_before: bool) -> None:
    with disk(tmp_path / "disk", "size=2m") as place, root_on(place) as md:
        if used_before:
            md.run("--rm", "true")
            md("network", "rm", "br0")
        else:
            (place / "root").mkdir()
        filler = fill(place)
        refused = says(f"use the state in {md.root}/state.db: the disk is full", f"make room on the file system of {md.root}/state.db")
        assert md.refused("run", "true") == refused  # makes its run directory, where /run/minidocker was empty
        for words in (["run", "true"], ["run", "--net", "none", "true"], ["run", "-d", "true"], ["network", "create", "n"]):
            with Unchanged(md, family):
                assert md.refused(*words) == refused
        filler.unlink()
        assert md.run("--rm", "echo", "room again").stdout == "room again\n"


def test_a_disk_that_fills_up_while_a_container_runs(family: Family, tmp_path: Path) -> None:
    """Its output is lost and it lives; its end is written down as soon as there is room; nothing is left of it."""
    with disk(tmp_path / "disk", "size=4m") as place, root_on(place) as md:
        md.start("--name", "web", "sh", "-c", "echo before; while ! test -e /tmp/go; do sleep 0.05; done; seq 100000; exit 7")
        poll(lambda: md.logs("web") == "before\n", "its first line is in the log")
        filler = fill(place)
        md("exec", "web", "sh", "-c", ": > /tmp/go", check=False)
        if not (next((place / "root/containers").iterdir()) / "upper/tmp/go").exists():
            filler.unlink()
            md("exec", "web", "sh", "-c", ": > /tmp/go")
            filler = fill(place)
        refused = says(f"use the state in {md.root}/state.db: the disk is full", f"make room on the file system of {md.root}/state.db")
        stopped = md("stop", "-t", "0", "web", check=False)
        assert (stopped.returncode, stopped.stderr) in ((0, ""), (1, refused))
        filler.unlink()
        state = md.wait("web")["State"]
        assert state["ExitCode"] in (7, 137)
        assert md.logs("web").startswith("before\n")


def test_on_a_full_disk_one_can_look_and_make_room(family: Family, tmp_path: Path) -> None:
    with disk(tmp_path / "disk", "size=4m") as place, root_on(place) as md:
        md.run("--name", "large", "--net", "none", "sh", "-c", "head -c 500000 /dev/zero > /tmp/data; echo said")
        filler = fill(place)
        assert [one["Names"] for one in md.ps("-a")] == ["large"]
        assert md.logs("large") == "said\n"
        assert md("rm", "large").stdout == "large\n"
        assert md.ps("-a") == []
        filler.unlink()


def test_a_root_that_is_a_file(md: Minidocker, family: Family, here: Path) -> None:
    with Unchanged(md, family):
        said = Minidocker(here / "plain").refused("ps")
    assert said == says(f"use {here}/plain as the data root: file exists", "choose another with --root DIR")


def test_what_is_not_a_database(md: Minidocker, family: Family, here: Path) -> None:
    other = Minidocker(here / "other")
    other.root.mkdir()
    (other.root / "state.db").write_bytes(b"no database" * 1000)
    before = os.stat(other.root / "state.db")
    for words in (["ps"], ["run", "true"], ["network", "ls"]):
        assert other.refused(*words) == says(
            f"use the state in {other.root}/state.db: it is not a database",
            "running containers go on; minidocker system check --repair begins a new one",
        )
    assert (other.root / "state.db").stat().st_mtime_ns == before.st_mtime_ns
    (other.root / "state.db").unlink()
    assert other.ps() == []
    other.close()


def test_a_picture_sees_what_changes(md: Minidocker, family: Family) -> None:
    """The proof that the comparison above can fail: each kind of change shows."""
    before = picture(md, family)
    md.start("--name", "web", "-p", "18080:80", "sleep", "1000")
    found = differences(before, picture(md, family))
    assert set(found) == set(before) - {"rules", "mounts"}
    with commands("ip rule add prio 77 from 10.1.2.3 lookup main && mount -t tmpfs tmpfs /mnt", "umount /mnt; ip rule del prio 77"):
        assert {"rules", "mounts"} <= set(differences(before, picture(md, family)))
