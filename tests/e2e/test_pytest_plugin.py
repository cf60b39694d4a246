"""The pytest plugin, by pytest itself in a process of its own: what its fixtures make goes, also when pytest is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.e2e.support import REPOSITORY, Background, Minidocker, poll

CONFTEST = """
import minidocker, pytest

@pytest.fixture(scope="session")
def minidocker_client():
    return minidocker.Client({root!r})
"""
TESTS = """
import os, time
import pytest

def test_a_container_in_a_network_of_the_test(minidocker_run, minidocker_network, minidocker_client):
    a, b = (minidocker_run(["sleep", "1000"], rootfs={busybox!r}, label={{"x": "1"}}, cap_add="NET_RAW") for _ in "ab")
    assert set(a.ips) == set(b.ips) == {{minidocker_network.name}}
    assert a.exec(["ping", "-c", "1", b.ip]).exit_code == 0
    done = minidocker_run(["echo", "said"], detach=False, rm=True, rootfs={busybox!r})
    assert (done.exit_code, done.stdout) == (0, "said\\n")
    assert len(minidocker_client.networks.list()) == 1

def test_nothing_is_left_of_the_test_before(minidocker_run, minidocker_client):
    assert minidocker_client.containers.list(all=True) == minidocker_client.networks.list() == []
    minidocker_run(["sleep", "1000"], net="none", rootfs={busybox!r})
    assert minidocker_client.networks.list() == []

def test_that_fails(minidocker_run):
    minidocker_run(["sleep", "1000"], rootfs={busybox!r})
    assert False
"""
WAITS = """
import time

def test_waits(minidocker_run):
    minidocker_run(["sleep", "1000"], name="in-{name}", rootfs={busybox!r})
    print("ready", flush=True)
    time.sleep(1000)
"""
NEXT = """
def test_next(minidocker_run):
    minidocker_run(["true"], net="none", rootfs={busybox!r})
"""
ENVIRONMENT = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(REPOSITORY)}
PYTEST = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "minidocker.pytest_plugin", "-p", "no:cacheprovider"]


@pytest.fixture
def project(md: Minidocker, tmp_path: Path) -> Path:
    """A project whose conftest.py names the data root of `md`."""
    place = tmp_path / "project"
    place.mkdir()
    (place / "conftest.py").write_text(CONFTEST.format(root=str(md.root)))
    (place / "pytest.ini").write_text("[pytest]\n")
    return place


def waiting(project: Path, busybox: Path, name: str) -> Background:
    """A pytest that has a container and a network, and waits."""
    file = project / f"test_{name}.py"
    file.write_text(WAITS.format(busybox=str(busybox), name=name))
    process = Background([*PYTEST, str(file)], cwd=project, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while "ready" not in (line := process.line()):
        assert line or process.poll() is None, "it did not come to its test"
    return process


def networks(md: Minidocker) -> list[str]:
    return [network["Name"] for network in json.loads(md("network", "ls", "--format", "json").stdout)]


def is_gone(md: Minidocker, name: str) -> bool:
    return not [record for record in md.ps() if record["Names"] == name]


def watcher_of(process: Background) -> int:
    """The pid of the pytest's one child: it has waited for all helpers."""
    [child] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert b"minidocker.api.keeping" in Path(f"/proc/{child}/cmdline").read_bytes()
    return int(child)


def test_each_test_has_its_own_and_leaves_nothing(md: Minidocker, busybox: Path, project: Path) -> None:
    (project / "test_fixtures.py").write_text(TESTS.format(busybox=str(busybox)))
    done = subprocess.run(PYTEST, cwd=project, env=ENVIRONMENT, capture_output=True, text=True)
    assert "1 failed, 2 passed" in done.stdout and done.returncode == 1, done.stdout + done.stderr
    assert md.ps() == [] and networks(md) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_when_pytest_is_killed_its_containers_and_networks_go(md: Minidocker, busybox: Path, project: Path, number: int) -> None:
    with waiting(project, busybox, "one") as process:
        assert [record["State"] for record in md.ps()] == ["running"] and len(networks(md)) == 1
        process.send_signal(number)
        process.wait()
        poll(lambda: md.ps() == [] and networks(md) == [], "the watcher removes them")


def test_when_the_watcher_is_killed_too_the_next_use_removes_them(md: Minidocker, busybox: Path, project: Path) -> None:
    with waiting(project, busybox, "other") as living, waiting(project, busybox, "one") as process:
        os.kill(watcher_of(process), signal.SIGKILL)
        process.kill()
        process.wait()
        assert not is_gone(md, "in-one")
        (project / "test_next.py").write_text(NEXT.format(busybox=str(busybox)))
        done = subprocess.run([*PYTEST, "test_next.py"], cwd=project, env=ENVIRONMENT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
        assert is_gone(md, "in-one") and not is_gone(md, "in-other")  # what lives has kept its own
        assert len(networks(md)) == 1
        living.kill()
        poll(lambda: md.ps() == [] and networks(md) == [], "its watcher removes the rest")


def test_the_example(md: Minidocker) -> None:
    environment = {**ENVIRONMENT, "MINIDOCKER_ROOT": str(md.root)}
    place = REPOSITORY / "examples/pytest"
    done = subprocess.run([*PYTEST, "--rootdir=.", "."], cwd=place, env=environment, capture_output=True, text=True)
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    assert md.ps() == [] and networks(md) == []


def test_pytest_finds_it_where_minidocker_is_installed() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"minidocker": "minidocker.pytest_plugin"}
