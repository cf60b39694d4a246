"""Start and stop, again and again: what stays is as large as it was. Short here; MINIDOCKER_SOAK=5000 by hand, and then with the kernel's
memory, which others have a part in as well."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests import pretend
from tests.e2e.machine import Family, Picture, await_picture, command_line, picture
from tests.e2e.support import Minidocker, poll
from tests.kernel.test_dnsserver import Client

ROUNDS = int(os.environ.get("MINIDOCKER_SOAK", "40"))
WARM = 10  # rounds before the first look: allocators and caches fill
SPARE = 2048  # kB that a process that goes on may grow by
SLAB = 40  # kB of the kernel's own memory that a round may cost by hand: RCU and others' work come and go


@pytest.mark.slow
def test_nothing_grows(md: Minidocker, busybox: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside a container that stays, whose monitor and whose network's DNS server see all others come and go."""
    with Family() as family:
        options = ["--net", "front", "--rootfs", busybox]
        md("network", "create", "--subnet", "10.78.0.0/24", "front")
        md.start("--name", "stays", *options, "sleep", "100000")
        assert Client("stays", "10.78.0.1").addresses("stays")
        poll(lambda: any(" serve " in line for line in family.others()), "its network's DNS is served")

        def go(count: int) -> float:
            begun = time.monotonic()
            for number in range(count):
                md.start("--name", "goes", *options, "-p", "18080:80", "sleep", "100000")
                if number % 5 == 0:
                    assert Client("stays", "10.78.0.1").addresses("goes")
                md("stop", "-t", "0", "goes")
                md("rm", "goes")
            return time.monotonic() - begun

        go(WARM)
        before, sizes, slab = stable(md, family), processes(family), kernel()
        took = go(ROUNDS)
        await_picture(md, before, family, 10)
        now = processes(family)
        with capsys.disabled():
            print(f"\n  {ROUNDS} starts and stops in {took:.0f} s", end="")
            for pid, (what, memory, descriptors) in now.items():
                print(f"\n  {what}: {sizes[pid][1]} -> {memory} kB, {sizes[pid][2]} -> {descriptors} descriptors", end="")
            print(f"\n  the kernel: {slab} -> {kernel()} kB of slab that is not given back; state.db {database(md)} kB")
        assert set(now) == set(sizes)
        for pid, (what, memory, descriptors) in now.items():
            assert memory <= sizes[pid][1] + SPARE and descriptors == sizes[pid][2], what
        if ROUNDS >= 1000:
            assert kernel() - slab < ROUNDS * SLAB
        assert database(md) < 8192  # with its log, which is written from the start again at 4 MB


def stable(md: Minidocker, family: Family) -> Picture:
    poll(lambda: len(pretend.ip("link show type veth")) == 1, "the last one's cable is gone")
    return picture(md, family)


def processes(family: Family) -> dict[int, tuple[str, int, int]]:
    """pid -> (which, kB resident, open descriptors) of ours that go on."""
    found = {}
    for pid in family.orphans():
        status = Path(f"/proc/{pid}/status").read_text()
        which = "the monitor" if " resident " in command_line(pid) else "the DNS server"
        found[pid] = (which, int(status.split("VmRSS:")[1].split()[0]), len(os.listdir(f"/proc/{pid}/fd")))
    return found


def kernel() -> int:
    """kB of slab that cannot be given back, of the whole machine."""
    return int(Path("/proc/meminfo").read_text().split("SUnreclaim:")[1].split()[0])


def database(md: Minidocker) -> int:
    return sum(path.stat().st_size for path in md.root.glob("state.db*")) >> 10
