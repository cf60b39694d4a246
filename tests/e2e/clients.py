"""What the tests of real clients share: the runtime they are given, and a host that is clean after them.

CLIENTS_RUNTIME names another runtime, by its path, to prove a test with: each of these passes with runc.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import pretend
from tests.conformance.runtimes import ours
from tests.e2e.dockerd import host_as_it_was
from tests.e2e.support import poll


def runtime(directory: Path) -> str:
    """The path of the runtime under test."""
    return os.environ.get("CLIENTS_RUNTIME") or ours(directory)


@contextmanager
def guests(run: Path, cgroup: str) -> Iterator[None]:
    """Room for an engine: `run` is its short directory in /run. Afterwards no process and no cgroup below `cgroup` is left."""
    run.mkdir(parents=True)
    with host_as_it_was(run, cgroup):
        try:
            yield
        finally:
            poll(lambda: not processes(cgroup), f"all processes below {cgroup} have ended: {processes(cgroup)}")


def processes(cgroup: str) -> list[str]:
    """The pids in the cgroups below a top one of the test's own, in any hierarchy."""
    return sorted(set(pretend.sh(f"cat /sys/fs/cgroup/{{,*/}}{cgroup}*/{{,*/,*/*/,*/*/*/}}cgroup.procs 2>/dev/null", check=False).split()))
