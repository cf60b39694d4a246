"""Beside docker, the real one: its networks are nobody else's, while it runs and while it does not, and it never notices us."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from minidocker.network import engines
from tests import pretend
from tests.e2e.dockerd import Docker, emptied, host_as_it_was
from tests.e2e.support import Minidocker

CGROUP = "minidocker-test-engines"
RUN = Path("/run/docker-test")


@pytest.fixture
def docker(md: Minidocker, tmp_path: Path, busybox: Path) -> Iterator[Docker]:
    """Running, with an image in it; gone before `md` looks for what is left over."""
    work = tmp_path / "docker"
    work.mkdir()
    RUN.mkdir()
    with ExitStack() as stack:
        stack.enter_context(emptied("/etc/docker", "/var/lib/docker"))
        stack.enter_context(host_as_it_was(RUN, CGROUP))
        daemon = Docker(work, RUN, CGROUP)
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
