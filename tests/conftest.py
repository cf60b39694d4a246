"""The suite runs in a *pretend host*: private network and mount namespaces that this file makes before any test is collected.

No packet can leave it (only its own loopback and what tests add), /run and /var/lib/minidocker are empty file systems
of its own, and /sys shows its own interfaces. Cgroups are not namespaced: tests work under a data root of
their own, whose hash names the cgroup subtree, and the suite fails if one is left behind.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from minidocker.kernel import libc
from tests import pretend

# Where other engines keep the networks that are defined on this machine: a new network of ours keeps clear of those, and what somebody
# has defined here must not decide which subnets the tests get, nor whether they pass.
OTHER_ENGINES = ("/var/lib/docker", "/etc/docker", "/etc/cni/net.d", "/etc/containers/networks")

# Time is never asserted: on a loaded machine an example takes what it takes.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# Those that mean the virtual machine, which tests/vm/run boots: they do as they please with what the machine has.
collect_ignore = [] if pretend.is_thrown_away() else ["vm"]


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell's job in the background ignores it, and so would all that tests start
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.geteuid() == 0 and not pretend.is_thrown_away():
        pretend.enter()
        for directory in filter(os.path.isdir, OTHER_ENGINES):
            libc.mount(b"tmpfs", directory.encode(), b"tmpfs", 0, b"mode=755")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Privileged tests never skip themselves silently: without root they fail at once, by name."""
    if os.geteuid() != 0 and any("tests/unit" not in str(item.path) for item in items):
        raise pytest.UsageError("tests/kernel, tests/e2e and tests/conformance need root; as a user run: pytest tests/unit")
