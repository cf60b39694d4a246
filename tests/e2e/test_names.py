"""Names: containers find each other by hosts file, people find their namespaces by `ip netns`."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests import pretend
from tests.e2e.support import Minidocker, poll
from tests.e2e.world import PORT, fetch_inside, ip_in, serve

NETNS = Path("/run/netns")


def hosts(md: Minidocker, name: str) -> dict[str, str]:
    """The names that a container's /etc/hosts knows, each with its address."""
    lines = [line.split() for line in md("exec", name, "cat", "/etc/hosts").stdout.splitlines() if not line.startswith("#")]
    return {word: words[0] for words in lines if words for word in words[1:]}


def monitor_of(md: Minidocker, name: str) -> int:
    """The parent of the container's init."""
    pid = md.inspect(name)["State"]["Pid"]
    return int(re.search(r"PPid:\s*(\d+)", Path(f"/proc/{pid}/status").read_text())[1])  # type: ignore[index]


def test_a_neighbour_is_found_by_name_alias_hostname_and_short_id(md: Minidocker, server: Path) -> None:
    ip = serve(md, server, "alice", "--network-alias", "web", "--network-alias", "www", "--hostname", "box")["IPAddress"]
    id = md.inspect("alice")["Id"]
    md.start("--name", "bob", "sleep", "100")
    for name in ("alice", "web", "www", "box", id[:12], ip):
        assert fetch_inside(md, "bob", f"http://{name}:{PORT}") == "alice"


def test_a_full_domain_name_is_the_canonical_one(md: Minidocker) -> None:
    words = ("--rm", "--name", "alice", "--hostname", "www.example.org", "--network-alias", "web")
    done = md.run(*words, "sh", "-c", "hostname -f; hostname -s; getent hosts alice")
    assert done.stdout.split()[:6] == ["www.example.org", "www", "172.17.0.2", "www.example.org", "alice", "web"]


def test_a_name_comes_to_running_containers_at_once_and_goes_with_its_container(md: Minidocker) -> None:
    md.start("--name", "first", "sleep", "100")
    md.start("--name", "private", "--add-host", "db:10.1.2.3", "sleep", "100")
    assert "second" not in hosts(md, "first")
    md.start("--name", "second", "--network-alias", "other", "sleep", "100")
    for name in ("first", "private"):
        known = hosts(md, name)
        assert (known["second"], known["other"], known["localhost"]) == ("172.17.0.4", "172.17.0.4", "127.0.0.1")
    assert hosts(md, "private")["db"] == "10.1.2.3" and "db" not in hosts(md, "first")
    md("stop", "-t", "0", "second")
    for name in ("first", "private"):
        assert not {"second", "other"} & set(hosts(md, name))
    md.run("--name", "third", "--rm", "true")
    assert set(hosts(md, "first")) == {"localhost", "first", "private"} | {md.inspect(name)["Id"][:12] for name in ("first", "private")}


def test_a_container_cannot_rename_the_others(md: Minidocker) -> None:
    done = md.run("--rm", "sh", "-c", "echo 10.6.6.6 bank >> /etc/hosts", check=False)
    assert done.returncode != 0 and "Read-only" in done.stderr


@pytest.mark.parametrize("link", ["../run/systemd/resolve/stub-resolv.conf", "/run/resolv.conf"])
def test_resolv_conf_may_be_a_link_to_what_is_not_there(md: Minidocker, busybox: Path, tmp_path: Path, link: str) -> None:
    """As in the root file system of a Debian with systemd-resolved."""
    tree = tmp_path / "tree"
    shutil.copytree(busybox, tree, symlinks=True)
    (tree / "etc/resolv.conf").symlink_to(link)
    assert "192.0.2.53" in md.run("--rm", "--net", "none", "--dns", "192.0.2.53", "--rootfs", tree, "cat", "/etc/resolv.conf").stdout
    (tree / "etc/resolv.conf").unlink()
    (tree / "etc/resolv.conf").symlink_to("resolv.conf")
    assert "/etc/resolv.conf" in md.refused("run", "--rm", "--net", "none", "--rootfs", tree, "true")


@pytest.mark.slow
def test_a_hundred_names_are_all_there(md: Minidocker, busybox: Path) -> None:
    """The file grows in place: who has seen it small sees it whole."""
    md.start("--name", "first", "sleep", "1000")
    count = 100
    for at in range(0, count, 10):
        words = [("--name", f"c{n}", "--network-alias", f"alias-{n}") for n in range(at, at + 10)]
        started = [md.open("run", "-d", "--rootfs", busybox, *options, "sleep", "1000") for options in words]
        for process in started:
            _, error = process.communicate(timeout=60)
            assert (process.returncode, error) == (0, b"")
    known = hosts(md, "first")
    shown = {container["Names"]: container["IP"] for container in md.ps()}
    assert len({known[f"c{n}"] for n in range(count)}) == count
    for n in range(count):
        assert known[f"c{n}"] == known[f"alias-{n}"] == shown[f"c{n}"]
    assert set(os.listdir(NETNS)) == {"first", *(f"c{n}" for n in range(count))}
    md("rm", "-f", *(f"c{n}" for n in range(count)))
    assert not [name for name in hosts(md, "first") if re.fullmatch(r"c\d{1,2}|alias-.*", name)], "but for its short id"


def test_ip_netns_knows_every_container_by_name(md: Minidocker) -> None:
    md.start("--name", "one", "sleep", "100")
    md.start("--name", "two", "--net", "none", "sleep", "100")
    assert {line.split()[0] for line in pretend.sh("ip netns list").splitlines()} == {"one", "two"}
    assert [link["ifname"] for link in ip_in("two", "link")] == ["lo"]
    assert "172.17.0.2" in pretend.sh("ip -n one addr")
    assert pretend.sh("ip netns exec one readlink /proc/self/ns/net") == md("exec", "one", "readlink", "/proc/self/ns/net").stdout
    md("stop", "-t", "0", "one")
    assert os.listdir(NETNS) == ["two"]
    md("rm", "-f", "two")
    assert os.listdir(NETNS) == []


def test_the_link_pins_nothing(md: Minidocker) -> None:
    """A mount there would keep the namespace, and its veth, alive; a link does not."""
    md.start("--name", "one", "sleep", "100")
    assert (NETNS / "one").is_symlink() and "/run/netns/one" not in Path("/proc/self/mountinfo").read_text()


def test_net_host_has_no_entry(md: Minidocker) -> None:
    md.start("--name", "one", "--net", "host", "sleep", "100")
    assert os.listdir(NETNS) == []
    assert md.inspect("one")["NetworkSettings"]["SandboxKey"] == ""


def test_an_entry_of_somebody_elses_is_left_alone(md: Minidocker) -> None:
    pretend.sh("ip netns add one")
    try:
        inode = (NETNS / "one").stat().st_ino
        md.start("--name", "one", "sleep", "100")
        assert md.inspect("one")["State"]["Status"] == "running"
        assert (NETNS / "one").stat().st_ino == inode
        md("rm", "-f", "one")
        assert (NETNS / "one").stat().st_ino == inode
    finally:
        pretend.sh("ip netns del one")


@pytest.mark.parametrize("command", [("ps",), ("run", "--rm", "true"), ("network", "ls"), ("network", "create", "back")])
def test_after_the_monitor_was_killed_one_command_tidies_up(md: Minidocker, command: tuple[str, ...]) -> None:
    md.start("--name", "other", "sleep", "100")
    md.start("--name", "one", "-p", "18081:8081", "sleep", "100")
    pid = md.inspect("one")["State"]["Pid"]
    os.kill(monitor_of(md, "one"), signal.SIGKILL)
    poll(lambda: not Path(f"/proc/{pid}").exists(), "the container dies with its monitor")
    md(*command)
    assert os.listdir(NETNS) == ["other"]
    assert "one" not in hosts(md, "other")
    assert "18081" not in pretend.sh("nft list ruleset")
    [left] = [container for container in md.ps() if container["Names"] == "one"]
    assert left["Status"].startswith("Exited")


def test_a_reused_pid_makes_the_entry_a_strangers(md: Minidocker) -> None:
    """What /proc/PID/ns/net leads to is compared with what was recorded: a stranger's namespace is not ours to take a name from."""
    md.start("--name", "one", "sleep", "100")
    os.kill(monitor_of(md, "one"), signal.SIGKILL)
    (NETNS / "one").unlink()
    (NETNS / "one").symlink_to(f"/proc/{os.getpid()}/ns/net")
    try:
        md("ps")
        assert os.readlink(NETNS / "one") == f"/proc/{os.getpid()}/ns/net"
    finally:
        (NETNS / "one").unlink()


def test_killing_a_foreground_run_leaves_no_name(md: Minidocker) -> None:
    process = md.open("run", "--name", "one", "sleep", "100")
    poll(lambda: (NETNS / "one").is_symlink(), "the entry is there")
    process.kill()
    process.communicate(timeout=20)
    deadline = time.monotonic() + 20
    while os.listdir(NETNS) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert os.listdir(NETNS) == []
