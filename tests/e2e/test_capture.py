"""network capture: what passes a container's or a network's interfaces, as lines and as a file that others read."""

from __future__ import annotations

import json
import re
import shutil
import signal
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests import pretend
from tests.e2e.support import Background, Minidocker, poll
from tests.e2e.world import answer, ask

WEB, OTHER = "172.17.0.2", "172.17.0.3"


@pytest.fixture
def two(world: None, md: Minidocker) -> Minidocker:
    answer(md, "web")
    md.start("--name", "other", "sleep", "1000")
    return md


def await_socket(running: Background, place: str = "") -> None:
    """Until the capture's socket is there: /proc/net/packet of its namespace has a line for each."""
    where = f"ip netns exec {place} " if place else ""
    poll(lambda: len(pretend.sh(f"{where}cat /proc/net/packet").splitlines()) > 1, "the socket is there")
    assert running.poll() is None


def end(running: Background) -> tuple[str, str]:
    running.send_signal(signal.SIGINT)
    out, error = running.communicate(timeout=20)
    assert running.returncode == 0
    return out.decode(), error.decode()


def test_lines_of_a_container(two: Minidocker) -> None:
    with two.open("network", "capture", "web", "-c", "3", "tcp", "port", "80") as running:
        await_socket(running, "web")
        assert ask("tcp", WEB, 80, "other") == f"web {OTHER}"
        out, error = running.communicate(timeout=20)
    assert running.returncode == 0 and error == b"minidocker: 3 packets\n"
    lines = out.decode().splitlines()
    assert re.fullmatch(rf"\d\d:\d\d:\d\d\.\d{{6}} eth0 ← {OTHER}:\d+ > {WEB}:80 tcp \[S\] seq \d+ win \d+ len 0", lines[0]), lines
    assert "eth0 → " in lines[1] and "[S.]" in lines[1] and len(lines) == 3


def test_names_of_containers_and_dns_in_a_filter(two: Minidocker) -> None:
    with two.open("network", "capture", "other", "host web or dns") as running:
        await_socket(running, "other")
        two("exec", "other", "getent", "hosts", "nosuch.example", check=False)
        assert ask("tcp", WEB, 80, "other").startswith("web")
        out, _ = end(running)
    assert f"> {WEB}:80 tcp [S]" in out


def test_a_network_sees_each_packet_once(two: Minidocker) -> None:
    with two.open("network", "capture", "br0", "icmp") as running:
        await_socket(running)
        pretend.sh(f"ip netns exec other ping -c 1 -W 5 {WEB} && ping -c 1 -W 5 {WEB}")
        out, error = end(running)
    ends = [(line.split()[3], line.split()[5], " request " in line) for line in out.splitlines()]
    assert ends == [(OTHER, WEB, True), (WEB, OTHER, False), ("172.17.0.1", WEB, True), (WEB, "172.17.0.1", False)]
    links = {line.split()[1] for line in out.splitlines()}
    assert links == {"br0", *(two.inspect(name)["NetworkSettings"]["Networks"]["br0"]["HostLink"] for name in ("web", "other"))}
    assert error == "minidocker: 4 packets\n"


def tshark(path: Path, *words: str) -> list[dict[str, Any]]:
    assert shutil.which("tshark"), "tests/run installs it"
    done = subprocess.run(["tshark", "-r", str(path), "-T", "json", *words], capture_output=True, text=True, timeout=60, check=True)
    return [one["_source"]["layers"] for one in json.loads(done.stdout)]


def test_a_file_that_tshark_reads(two: Minidocker, tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    two("network", "create", "--subnet", "10.77.0.0/24", "back")
    two("network", "connect", "back", "web")
    two.start("--name", "behind", "--net", "back", "sleep", "1000")
    with two.open("network", "capture", "web", "-w", path, "tcp") as running:
        await_socket(running, "web")
        assert ask("tcp", WEB, 80, "other") == f"web {OTHER}"
        assert ask("tcp", "10.77.0.2", 80, "behind").startswith("web")
        assert end(running)[0] == ""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = tshark(path)
    assert [one["tcp"]["tcp.flags"] for one in found[:2]] == ["0x0002", "0x0012"]
    assert {one["frame"]["frame.interface_id_tree"]["frame.interface_name"] for one in found} == {"eth0", "eth1"}
    descriptions = {one["frame"]["frame.interface_id_tree"]["frame.interface_description"] for one in found}
    assert descriptions == {f"container web, network br0, {WEB}", "container web, network back, 10.77.0.2"}
    text = subprocess.run(["tshark", "-r", str(path), "-T", "fields", "-e", "frame.comment", "-e", "ip.dst"], capture_output=True,
                          text=True, check=True).stdout.splitlines()  # fmt: skip
    assert text[0] == f"from container web, network br0, {WEB}\t{WEB}" and text[1].startswith("to container web")


def test_into_a_pipe_and_by_one_interface(two: Minidocker) -> None:
    with two.open("network", "capture", "-w", "-", "-i", "lo", "-c", "2", "web", "icmp") as running:
        await_socket(running, "web")
        pretend.sh("ip netns exec web ping -c 1 127.0.0.1")
        out, _ = running.communicate(timeout=20)
    read = subprocess.run(["tshark", "-r", "-", "-T", "fields", "-e", "icmp.type"], input=out, capture_output=True, check=True)
    assert read.stdout.split() == [b"8", b"0"]


def test_it_ends_with_the_container(two: Minidocker) -> None:
    with two.open("network", "capture", "other", "tcp") as running:
        await_socket(running, "other")
        two("rm", "-f", "other")
        out, error = running.communicate(timeout=20)
    assert (running.returncode, out, error) == (0, b"", b"")


def test_what_makes_no_sense_is_refused(two: Minidocker, tmp_path: Path) -> None:
    two("network", "create", "-d", "ptp", "cable")
    for words, code, said in (
        (("nobody",), 1, "no such container or network: nobody"), (("web", "tcp", "udp"), 125, "filter: `and` or `or` must stand"),
        (("web", "-c", "0"), 125, "--count `0`"), (("web", "-i", "eth7"), 1, "there is no interface `eth7` there"),
        (("cable",), 125, "this host has no end of it"), (("web", "-w", tmp_path / "no/a"), 125, "write "),
        (("web", "host", "nobody"), 125, "the name of a container"),
    ):  # fmt: skip
        done = two("network", "capture", *words, check=False)
        assert said in done.stderr and done.returncode == code and "Traceback" not in done.stderr, done.stderr
    two("stop", "-t", "0", "other")
    assert "container `other` is exited" in two.refused("network", "capture", "other", code=1)
