"""Fixtures of the end-to-end tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.oci import Oci
from tests.e2e.support import REPOSITORY, Minidocker
from tests.e2e.world import two_neighbours


@pytest.fixture
def md(tmp_path: Path) -> Iterator[Minidocker]:
    """minidocker with a data root of its own; at the end all of it is removed, and nothing may be left."""
    minidocker = Minidocker(tmp_path / "root")
    yield minidocker
    minidocker.close()


@pytest.fixture(scope="session")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system with busybox in it, for --rootfs; never written."""
    place = tmp_path_factory.mktemp("rootfs") / "busybox"
    subprocess.run([REPOSITORY / "rootfs/busybox", place], check=True, timeout=60)
    return place


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """examples/server, built: `server NAME` answers every request on port 8081 with NAME."""
    place = tmp_path_factory.mktemp("server") / "server"
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-trimpath"}
    subprocess.run(["go", "build", "-o", place, "."], cwd=REPOSITORY / "examples/server", env=environment, check=True, timeout=120)
    return place


@pytest.fixture
def box(md: Minidocker, busybox: Path) -> Callable[..., subprocess.CompletedProcess[Any]]:
    """`box("-e", "A=1", "env")`: run busybox's programs in the foreground, without a network; gone afterwards."""
    return lambda *words, **options: md.run("--rm", "--net", "none", "--rootfs", busybox, *words, **options)


@pytest.fixture(scope="module")
def world() -> Iterator[None]:
    """Two other hosts on wires of their own (world.py). Ask for it before `md`, which looks for what is left over."""
    with two_neighbours():
        yield


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A directory of the host's that must stay as it is."""
    place = tmp_path / "victim"
    place.mkdir()
    (place / "file").write_text("precious")
    yield place
    assert os.listdir(place) == ["file"] and (place / "file").read_text() == "precious"


@pytest.fixture
def oci(tmp_path: Path, busybox: Path) -> Iterator[Oci]:
    """minidocker-oci with a root of its own; at the end all containers are deleted, and nothing may be left."""
    runtime = Oci(tmp_path, busybox)
    yield runtime
    runtime.close()
