"""examples/quickstart, as a newcomer runs it: it works, again too, and leaves the machine as it was, also when interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests import pretend
from tests.e2e.machine import visible

QUICKSTART = Path(__file__).resolve().parent.parent.parent / "examples/quickstart"

pytestmark = pytest.mark.skipif("MINIDOCKER_BIN" not in os.environ, reason="needs the venv that tests/run makes")


def left() -> dict[str, object]:
    """What a container leaves behind if it leaves anything."""
    return {
        **visible(),
        "nftables": pretend.sh("nft list tables"),
        "containers": pretend.sh(f"{os.environ['MINIDOCKER_BIN']} ps -aq"),
        "networks": pretend.sh(f"{os.environ['MINIDOCKER_BIN']} network ls"),
        "cgroups": pretend.sh("find /sys/fs/cgroup -mindepth 1 -type d -path '*minidocker*'"),
    }


def test_three_servers_answer_and_nothing_is_left_twice() -> None:
    subprocess.run([QUICKSTART], capture_output=True, timeout=120)  # what the first run ever makes, if only a table, may stay
    before = left()
    for _ in range(2):
        done = subprocess.run([QUICKSTART], capture_output=True, text=True, timeout=120, env={**os.environ, "NO_COLOR": "1"})
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        lines = [line.strip() for line in done.stdout.splitlines()]
        for name in ("server1", "server2", "server3"):
            assert lines.count(name) == 2, "each answers the host once and a neighbour once"
        assert sum(line.endswith(("server1", "server2", "server3")) and "Up" in line for line in lines) == 3
        assert left() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_half_way_it_still_cleans_up(number: signal.Signals) -> None:
    before = left()
    with subprocess.Popen([QUICKSTART], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if "--name server2" in line:
                os.killpg(child.pid, number)  # as a terminal does
                break
        child.stdout.read()
        assert child.wait(60) == 128 + number
    assert left() == before


def test_a_name_in_use_is_left_to_its_owner() -> None:
    minidocker = os.environ["MINIDOCKER_BIN"]
    pretend.sh(f"{minidocker} run -d --net none --name server2 sleep 1000")
    try:
        done = subprocess.run([QUICKSTART], capture_output=True, text=True, timeout=60)
        assert done.returncode == 1 and "server2 already" in done.stderr
        assert pretend.sh(f"{minidocker} inspect --format '{{{{.State.Status}}}}' server2").strip() == "running"
    finally:
        pretend.sh(f"{minidocker} rm -f server2")
