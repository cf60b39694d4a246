"""`container prune`, `system df` and `system prune`: what is counted, what goes, and what stays."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.e2e.support import Minidocker, Terminal


def df(md: Minidocker) -> dict[str, dict[str, Any]]:
    return {record["Type"]: record for record in json.loads(md("system", "df", "--format", "json").stdout)}


def kilobytes(path: Path) -> int:
    """By du(1), which counts as we say that we do."""
    return int(subprocess.run(["du", "-sxk", str(path)], capture_output=True, text=True, check=True).stdout.split()[0])


def test_df_counts_what_du_counts_and_what_could_be_given_back(md: Minidocker, busybox: Path) -> None:
    running = md.start("--net", "none", "--rootfs", busybox, "sh", "-c", "dd if=/dev/zero of=/big bs=1k count=900 2>&-; sleep 1000")
    md.run("--name", "over", "--net", "none", "--rootfs", busybox, "sh", "-c", "dd if=/dev/zero of=/big bs=1k count=300 2>&-; echo said")
    directory = md.root / "containers" / running
    while kilobytes(directory) < 900:
        time.sleep(0.02)
    found = df(md)
    layers, logs = found["Containers"], found["Logs"]
    assert (layers["TotalCount"], layers["Active"], logs["TotalCount"], logs["Active"]) == (2, 1, 2, 1)
    above = 1024 * kilobytes(md.root / "containers") - (layers["Size"] + logs["Size"])
    assert 0 <= above <= 4096  # the directory above them, which du counts, too
    assert 300 * 1024 <= layers["Reclaimable"] < 600 * 1024 and 0 < logs["Reclaimable"] <= 4096
    lines = md("system", "df").stdout.splitlines()
    assert lines[0].split() == ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]
    assert [line.split()[0] for line in lines[1:]][:2] == ["Containers", "Logs"]


def test_prune_takes_what_has_ended_and_nothing_else(md: Minidocker, busybox: Path) -> None:
    box = ("--net", "none", "--rootfs", busybox)
    running = md.start(*box, "sleep", "1000")
    md.run("--name", "old", *box, "true")
    md.run("--name", "kept", "--label", "keep=yes", *box, "true")
    md.run("--name", "new", "--label", "keep=no", *box, "true")
    ids = {record["Names"]: record["ID"] for record in md.ps()}
    assert md("container", "prune", "-f", "--filter", "label=keep=no").stdout.startswith(f"Deleted Containers:\n{ids['new']}\n\nTotal ")
    assert md("container", "prune", "-f", "--filter", "until=1h").stdout == "Total reclaimed space: 0B\n"
    assert "nobody to ask" in md.refused("container", "prune")
    removed = md("container", "prune", "-f").stdout.splitlines()
    assert set(removed[1:3]) == {ids["old"], ids["kept"]} and removed[-1].startswith("Total reclaimed space: ")
    assert [record["ID"] for record in md.ps()] == [running]
    assert os.listdir(md.root / "containers") == [running]


def test_system_prune_takes_networks_that_nobody_is_in(md: Minidocker, busybox: Path) -> None:
    md("network", "create", "--subnet", "10.77.1.0/24", "used")
    md("network", "create", "--subnet", "10.77.2.0/24", "unused")
    md.start("--net", "used", "--rootfs", busybox, "sleep", "1000")
    md.run("--net", "unused", "--rootfs", busybox, "true")
    assert "nobody to ask" in md.refused("system", "prune")
    done = md("system", "prune", "-f").stdout
    assert "Deleted Containers:\n" in done and "Deleted Networks:\nunused\n" in done and "Total reclaimed space: " in done
    assert [network["Name"] for network in json.loads(md("network", "ls", "--format", "json").stdout)] == ["used"]
    assert md("system", "prune", "-f").stdout == "Total reclaimed space: 0B\n"


def test_volumes_go_only_where_it_is_said_and_none_has_them(md: Minidocker, busybox: Path) -> None:
    box = ("--net", "none", "--rootfs", busybox)
    md.run("-v", "/kept", "-v", "named:/named", *box, "sh", "-c", "dd if=/dev/zero of=/kept/x bs=1k count=500 2>&-")
    kept = df(md)["Volumes"]
    assert (kept["TotalCount"], kept["Active"], kept["Reclaimable"]) == (2, 2, 0) and kept["Size"] >= 500 * 1024
    md("container", "prune", "-f")
    assert df(md)["Volumes"]["Reclaimable"] >= 500 * 1024 and "Volumes" not in md("system", "prune", "-f").stdout
    assert "contradict" in md.refused("system", "prune", "-f", "--volumes", "--filter", "label=x")
    done = md("system", "prune", "-f", "--volumes").stdout.splitlines()
    assert done[0] == "Deleted Volumes:" and len(done) == 4 and not done[-1].endswith(" 0B")
    assert md("volume", "ls", "-q").stdout == "named\n"


def test_on_a_terminal_it_asks_and_a_no_is_a_no(md: Minidocker, busybox: Path) -> None:
    md.run("--name", "old", "--net", "none", "--rootfs", busybox, "true")
    for answer, left in ((b"n\n", 1), (b"y\n", 0)):
        with Terminal(md.argv("container", "prune")) as terminal:
            terminal.until(b"[y/N] ")
            terminal.type(answer)
            assert terminal.wait() == 0
        assert len(md.ps()) == left
