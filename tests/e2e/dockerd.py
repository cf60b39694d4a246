"""A dockerd of the test's own, driven by its API, and the host put back as it was before it."""

from __future__ import annotations

import http.client
import io
import json
import os
import signal
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from minidocker.network import engines
from tests import pretend
from tests.e2e.support import TIMEOUT, poll

# What dockerd sets in a network namespace and leaves behind.
SETTINGS = ("ipv4/ip_forward", "ipv6/conf/all/forwarding", "ipv6/conf/default/forwarding", "bridge/bridge-nf-call-iptables",
            "bridge/bridge-nf-call-ip6tables")  # fmt: skip


def programs(directory: Path) -> str:
    """A PATH for an engine that changes nothing of the machine: it loads no kernel module, and its rules can be seen by nft."""
    directory.mkdir()
    (directory / "modprobe").symlink_to("/bin/true")
    for name in ("iptables", "ip6tables"):  # whatever the machine's alternative is
        (directory / name).symlink_to(f"/usr/sbin/{name}-nft")
    return f"{directory}:{os.environ['PATH']}"


class Docker:
    """A daemon of our own, by its API: the client is another package in some distributions. Its data is where everybody's is, unless
    `words` say otherwise; `run` is a short path, as a socket's has 108 bytes; `before` begins its command line."""

    def __init__(self, work: Path, run: Path, cgroup: str, *words: object, before: tuple[str, ...] = ()) -> None:
        self.work = work
        self.run_directory = run
        self.process: subprocess.Popen[bytes] | None = None
        self.environment = {**os.environ, "PATH": programs(work / "bin")}
        (work / "daemon.json").write_text("{}")
        self.argv = [*before, "dockerd", "-H", f"unix://{run}/socket", "--exec-root", run / "exec", "--pidfile", run / "pid",
                     "--cgroup-parent", f"/{cgroup}", "--exec-opt", "native.cgroupdriver=cgroupfs",
                     "--config-file", work / "daemon.json", *words]  # fmt: skip

    def start(self) -> None:
        with (self.work / "log").open("ab") as log:
            self.process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment)
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

    def request(self, method: str, path: str, body: Any = None, type: str = "application/json") -> tuple[int, bytes, bool]:
        """One request of the API: the status, the answer, whether that is JSON."""
        connection = http.client.HTTPConnection("docker", timeout=TIMEOUT)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(TIMEOUT)
        try:
            connection.sock.connect(f"{self.run_directory}/socket")
            data = body if isinstance(body, bytes) else json.dumps(body) if body is not None else None
            connection.request(method, path, data, {"Content-Type": type})
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers.get_content_type() == "application/json"
        finally:
            connection.close()

    def ask(self, method: str, path: str, body: Any = None, type: str = "application/json") -> Any:
        """One request that must succeed, the answer's JSON or text."""
        status, answer, is_json = self.request(method, path, body, type)
        text = answer.decode()
        assert status < 400, f"{method} {path}: {status} {text}"
        return json.loads(text) if is_json and "\r\n" not in text else text

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
        os.makedirs(directory)
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
def host_as_it_was(run: Path, cgroup: str) -> Iterator[None]:
    """Takes away what an engine leaves in the pretend host: links, tables, settings, mounts below `run`, cgroups."""
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
        for mount in reversed([mount for mount in mounts if mount.startswith((f"{run}/", engines.DOCKER_DATA + "/"))]):
            pretend.sh(f"umount -l {mount}", check=False)
        pretend.sh(f"find /sys/fs/cgroup -depth -type d -path '*/{cgroup}*' -exec rmdir {{}} +; rm -rf {run}")
        assert seen() == (links, tables)
