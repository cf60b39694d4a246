"""Beside docker, the real one: its networks are nobody else's, while it runs and while it does not, and it never notices us."""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from minidocker.network import engines
from tests import pretend
from tests.e2e.support import TIMEOUT, Minidocker, poll

CGROUP = "minidocker-test-engines"
RUN = Path("/run/docker-test")  # a short path: a socket's has 108 bytes
# What dockerd sets in a network namespace and leaves behind.
SETTINGS = ("ipv4/ip_forward", "ipv6/conf/all/forwarding", "ipv6/conf/default/forwarding", "bridge/bridge-nf-call-iptables",
            "bridge/bridge-nf-call-ip6tables")  # fmt: skip


class Docker:
    """A daemon of our own, by its API: the client is another package in some distributions. Its data is where everybody's is."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.process: subprocess.Popen[bytes] | None = None
        programs = work / "bin"
        programs.mkdir()
        # It loads kernel modules, which would change bridges of the machine outside of the pretend host.
        (programs / "modprobe").symlink_to("/bin/true")
        for name in ("iptables", "ip6tables"):  # whatever the machine's alternative is: legacy rules cannot be seen by nft
            (programs / name).symlink_to(f"/usr/sbin/{name}-nft")
        self.environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
        (work / "daemon.json").write_text("{}")

    def start(self) -> None:
        words = ["-H", f"unix://{RUN}/socket", "--exec-root", RUN / "exec", "--pidfile", RUN / "pid", "--cgroup-parent", f"/{CGROUP}",
                 "--exec-opt", "native.cgroupdriver=cgroupfs", "--config-file", self.work / "daemon.json"]  # fmt: skip
        with (self.work / "log").open("ab") as log:
            self.process = subprocess.Popen(["dockerd", *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment)
        poll(self._answers, "dockerd answers", TIMEOUT)

    def _answers(self) -> bool:
        assert self.process and self.process.poll() is None, (self.work / "log").read_text()[-3000:]
        try:
            return bool(self.ask("GET", "/info"))
        except OSError:
            return False

    def stop(self) -> None:
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(TIMEOUT)
            finally:
                self.process.kill()  # its containerd dies with it
                self.process.wait()
                self.process = None

    def ask(self, method: str, path: str, body: Any = None, type: str = "application/json") -> Any:
        """One request of the API, the answer's JSON or text."""
        connection = http.client.HTTPConnection("docker", timeout=TIMEOUT)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(TIMEOUT)
        try:
            connection.sock.connect(f"{RUN}/socket")
            data = body if isinstance(body, bytes) else json.dumps(body) if body is not None else None
            connection.request(method, path, data, {"Content-Type": type})
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        assert answer.status < 400, f"{method} {path}: {answer.status} {text}"
        return json.loads(text) if answer.headers.get_content_type() == "application/json" and "\r\n" not in text else text

    def create(self, name: str, subnet: str) -> str:
        """`docker network create --subnet SUBNET NAME`; the link it makes."""
        made = self.ask("POST", "/networks/create", {"Name": name, "Driver": "bridge", "IPAM": {"Config": [{"Subnet": subnet}]}})
        return f"br-{made['Id'][:12]}"

    def load(self, busybox: Path) -> None:
        """An image called `image` with busybox alone in it."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.add(busybox, "busybox")
        self.ask("POST", "/images/create?fromSrc=-&repo=image", archive.getvalue(), "application/x-tar")

    def run(self, *words: str) -> int:
        """`docker run --rm image /busybox WORDS`; its exit code."""
        id = self.ask("POST", "/containers/create", {"Image": "image", "Cmd": ["/busybox", *words]})["Id"]
        self.ask("POST", f"/containers/{id}/start")
        code = self.ask("POST", f"/containers/{id}/wait")["StatusCode"]
        self.ask("DELETE", f"/containers/{id}")
        return int(code)


@contextmanager
def emptied(*directories: str) -> Iterator[None]:
    """Those of the machine hidden behind empty ones; whoever has docker has networks there that no test may meet."""
    made = [directory for directory in directories if not os.path.isdir(directory)]
    for directory in made:
        os.mkdir(directory)
    for directory in directories:
        pretend.sh(f"mount -t tmpfs tmpfs {directory}")
    try:
        yield
    finally:
        for directory in directories:
            pretend.sh(f"umount -l {directory}")
        for directory in made:
            os.rmdir(directory)


@contextmanager
def host_as_it_was() -> Iterator[None]:
    """Takes away what dockerd leaves in the pretend host: links, tables, settings, mounts, cgroups."""
    def seen() -> tuple[set[str], set[str]]:
        return {str(link["ifname"]) for link in pretend.ip("link")}, set(pretend.sh("nft list tables").splitlines())

    links, tables = seen()
    places = [Path("/proc/sys/net", name) for name in SETTINGS]
    settings = {place: place.read_text() for place in places if place.exists()}
    try:
        yield
    finally:
        now = seen()
        for link in now[0] - links:
            pretend.sh(f"ip link del {link}", check=False)
        for table in now[1] - tables:
            pretend.sh(f"nft delete {table}")
        for place, value in settings.items():
            place.write_text(value)
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for mount in reversed([mount for mount in mounts if mount.startswith((f"{RUN}/", engines.DOCKER_DATA + "/"))]):
            pretend.sh(f"umount -l {mount}", check=False)
        pretend.sh(f"find /sys/fs/cgroup -depth -type d -path '*/{CGROUP}*' -exec rmdir {{}} +; rm -rf {RUN}")
        assert seen() == (links, tables)


@pytest.fixture
def docker(md: Minidocker, tmp_path: Path, busybox: Path) -> Iterator[Docker]:
    """Running, with an image in it; gone before `md` looks for what is left over."""
    work = tmp_path / "docker"
    work.mkdir()
    RUN.mkdir()
    with ExitStack() as stack:
        stack.enter_context(emptied("/etc/docker", "/var/lib/docker"))
        stack.enter_context(host_as_it_was())
        daemon = Docker(work)
        stack.callback(daemon.stop)
        daemon.start()
        daemon.load((busybox / "bin/busybox").resolve())
        yield daemon


def state() -> tuple[str, str, str]:
    """Addresses, routes and rules of the host, without counters."""
    return (pretend.sh("ip -j addr"), pretend.sh("ip -j route show table all"),
            re.sub(r"packets \d+ bytes \d+", "", pretend.sh("nft list ruleset")))  # fmt: skip


def dockers() -> tuple[str, str]:
    """docker0's addresses and routes. Whether it has a carrier changes with its containers."""
    return pretend.sh("ip -4 addr show dev docker0 | grep inet"), pretend.sh("ip -4 route show table all dev docker0 | sed 's/ linkdown//'")


def way_to(address: str) -> str:
    [route] = json.loads(pretend.sh(f"ip -j route get {address}"))
    return str(route["dev"])


def refused(md: Minidocker, subnet: str, *options: str) -> str:
    """What `network create` says, which must change nothing."""
    before = state()
    said = md.refused("network", "create", "--subnet", subnet, *options, "mine", code=1)
    assert state() == before
    assert md("network", "ls", "-q").stdout == ""
    return said


def test_a_running_docker_keeps_its_networks_and_its_routes(md: Minidocker, docker: Docker) -> None:
    link = docker.create("web", "10.201.0.0/24")
    assert {("10.201.0.0/24", "docker network `web`"), ("172.17.0.0/16", "docker network `bridge` (docker0)")} <= set(engines.defined())
    for subnet in ("10.201.0.0/24", "10.201.0.128/25", "10.201.0.0/16"):
        assert f"subnet {subnet} overlaps route 10.201.0.0/24 dev {link}" in refused(md, subnet)
    # From the field: a bridge with 172.17.0.2/24 beside docker0's 172.17.0.1/16 took all that docker sent.
    assert "overlaps route 172.17.0.0/16 dev docker0" in refused(md, "172.17.0.0/24", "--gateway", "172.17.0.2")
    before = dockers()
    assert "172.17.0.1/16" in before[0] and way_to("172.17.0.2") == "docker0"
    ran = md.run("--rm", "true", check=False)
    assert ran.returncode == 0 and "172.17.0.0/24 is in use here (route 172.17.0.0/16 dev docker0)" in ran.stderr, ran.stderr
    assert dockers() == before and way_to("172.17.0.2") == "docker0"
    assert docker.run("ping", "-c", "1", "-W", "5", "172.17.0.1") == 0
    md("network", "rm", "br0")
    assert dockers() == before


def test_a_stopped_docker_finds_its_networks_free_when_it_comes_back(md: Minidocker, docker: Docker) -> None:
    link = docker.create("web", "10.201.0.0/24")
    docker.create("gone", "10.202.0.0/24")
    docker.ask("DELETE", "/networks/gone")
    before = dockers()
    docker.stop()
    pretend.sh(f"ip link del docker0 && ip link del {link}")
    for subnet in ("10.201.0.0/24", "10.201.0.128/25", "10.201.0.0/16"):
        assert f"subnet {subnet} overlaps docker network `web`" in refused(md, subnet)
    assert "overlaps docker network `bridge` (docker0)" in refused(md, "172.17.0.0/24", "--gateway", "172.17.0.2")
    ran = md.run("--rm", "true", check=False)
    assert ran.returncode == 0 and "172.17.0.0/24 is in use here (docker network `bridge` (docker0))" in ran.stderr, ran.stderr
    md("network", "create", "--subnet", "10.202.0.0/24", "free")
    docker.start()
    assert dockers() == before and way_to("172.17.0.2") == "docker0" and way_to("10.201.0.2") == link
    assert docker.run("ping", "-c", "1", "-W", "5", "172.17.0.1") == 0
    md("network", "rm", "br0", "free")
