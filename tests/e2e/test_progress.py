"""On a terminal what takes long says so, tables fit, and colours obey NO_COLOR; in a pipe there is nothing but the answer."""

from __future__ import annotations

import os
from pathlib import Path

from tests.e2e.support import Minidocker, Terminal


def test_a_stop_that_takes_long_shows_it_on_a_terminal_alone(md: Minidocker, busybox: Path) -> None:
    for name in ("one", "two"):
        md.start("--name", name, "--net", "none", "--rootfs", busybox, "sh", "-c", "trap '' TERM; while :; do sleep 1; done")
    assert md("stop", "-t", "2", "one").stdout == "one\n"  # and no word on stderr, which `md` demands
    md("start", "one")
    with Terminal(md.argv("stop", "-t", "2", "two", "one")) as terminal:
        terminal.until(b"\r1 of 2: two: 1 s")
        terminal.until(b"\r" + b" " * len("1 of 2: two: 2 s") + b"\rtwo\r\n")  # taken away before the answer
        terminal.until(b"\r2 of 2: one: 1 s")
        assert terminal.wait() == 0
        assert terminal.shown.endswith(b"\rone\r\n")


def test_a_table_is_as_wide_as_columns_says_on_a_terminal(md: Minidocker, busybox: Path) -> None:
    md.run("--name", "name" * 15, "--net", "none", "--rootfs", busybox, "true")
    whole = max(map(len, md("ps", "-a").stdout.splitlines()))
    assert whole > 120 and max(map(len, md("ps", "-a", env={"COLUMNS": "50"}).stdout.splitlines())) == whole  # a pipe gets all of it
    for said, columns, widest in (("50", 200, 50), ("", 70, 70), ("0", 70, 70), ("wide", 70, 70)):
        with Terminal(md.argv("ps", "-a"), columns=columns, env={**os.environ, "COLUMNS": said}) as terminal:
            assert terminal.wait() == 0
            assert widest - 20 < max(map(len, terminal.shown.decode().splitlines())) <= widest


def test_every_listing_has_ids_and_json(md: Minidocker, busybox: Path) -> None:
    md("network", "create", "--subnet", "10.77.8.0/24", "lab")
    md("volume", "create", "data")
    md.run("--net", "none", "--rootfs", busybox, "true")
    for words in (("ps", "-a"), ("container", "ls", "-a"), ("network", "ls"), ("volume", "ls")):
        assert len(md(*words, "-q").stdout.splitlines()) == 1 and md(*words, "--format", "json").stdout.startswith("[")
    for words in (("stats", "--no-stream"), ("system", "df")):
        assert md(*words, "--format", "json").stdout.startswith("[")
