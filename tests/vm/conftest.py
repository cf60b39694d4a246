"""Fixtures of the tests in the virtual machine: minidocker as it was installed, with its own data root, /var/lib/minidocker."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import pretend
from tests.e2e.support import REPOSITORY, Minidocker
from tests.vm import machine

if not pretend.is_thrown_away():
    raise pytest.UsageError("these are for a machine that is thrown away: tests/vm/run tests/vm")

BUSYBOX = Path("/var/lib/busybox")  # where a reboot leaves it


@pytest.fixture(scope="session")
def busybox() -> Path:
    """A root file system with busybox in it, for --rootfs; never written."""
    if not BUSYBOX.exists():
        subprocess.run([REPOSITORY / "rootfs/busybox", BUSYBOX], check=True, timeout=120)
    return BUSYBOX


@pytest.fixture
def md() -> Iterator[Minidocker]:
    """The installed minidocker with the data root that it has by default; at the end all of it is removed, and nothing may be left."""
    minidocker = Minidocker(machine.ROOT)
    yield minidocker
    minidocker.close()


@pytest.fixture(params=["br_netfilter absent", "br_netfilter loaded"])
def br_netfilter(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Whether frames within a bridge meet the rules for packets, which this module has them do from the moment it is loaded."""
    loaded = request.param.endswith("loaded")
    machine.modprobe("br_netfilter", loaded)
    assert Path("/proc/sys/net/bridge/bridge-nf-call-iptables").exists() == loaded
    yield loaded
    machine.modprobe("br_netfilter", False)
