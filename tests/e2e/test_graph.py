"""network graph, of a real host: what is drawn is what the kernel has."""

from __future__ import annotations

import json
import os
import re
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest

from minidocker.cli.table import cells_of
from tests import pretend
from tests.e2e.support import Minidocker, Terminal, poll
from tests.e2e.world import ask

_ESCAPES = re.compile(rb"\x1b\[[0-9;]*[a-zA-Z]")


@pytest.fixture
def joined(world: None, md: Minidocker) -> Iterator[Minidocker]:
    """`web` in two networks, published; `db` in one of them; and a bridge that is somebody else's."""
    pretend.sh("ip link add docker0 type bridge && ip addr add 172.30.0.1/16 dev docker0 && ip link set docker0 up && "
               "ip link add plug0 type veth peer name plug1 && ip link set plug0 master docker0 up")
    try:
        md("network", "create", "--internal", "--subnet", "10.77.0.0/24", "back")
        md.start("--name", "web", "--net", "br0", "--net", "back", "-p", "18080:80", "sleep", "1000")
        md.start("--name", "db", "--net", "back", "sleep", "1000")
        yield md
    finally:
        pretend.sh("ip link del docker0; ip link del plug0")


def test_the_tree(joined: Minidocker) -> None:
    lines = joined("network", "graph").stdout.splitlines()
    text = "\n".join(lines)
    place = joined.inspect("web")["NetworkSettings"]["Networks"]["br0"]
    assert lines[0] == f"{os.uname().nodename}  this host"
    assert "lan0  192.0.2.1/24  default by 192.0.2.2" in text and "br0  172.17.0.1/24  masqueraded outward" in text
    assert f"{place['HostLink']} ══ eth0  web  172.17.0.2  {place['MacAddress']}" in text
    assert "0.0.0.0:18080 ─► 80/tcp" in text and "internal: no way out" in text
    assert "docker0  172.30.0.1/16  not minidocker's" in text and "plug0" in text and "plug1" not in text.partition("routes")[2]
    assert [line.partition("─ ")[2] for line in lines[-20:] if "172.17.0.0/24 dev br0" in line] == ["172.17.0.0/24 dev br0"]
    only = joined("network", "graph", "back").stdout
    assert "db" in only and "docker0" not in only and "172.17.0.1/24" not in only
    assert "no such network: front" in joined.refused("network", "graph", "front", code=1)
    pretend.sh("ip link set back down; nft flush ruleset")
    text = joined("network", "graph").stdout
    assert "internal: no way out, down" in text and "NOT masqueraded" in text


def test_no_wider_than_the_terminal_and_in_colour_where_it_is_wanted(joined: Minidocker) -> None:
    for columns in (20, 57, 80):
        with Terminal(joined.argv("network", "graph"), columns=columns) as terminal:
            assert terminal.wait() == 0
            lines = _ESCAPES.sub(b"", terminal.shown).decode().splitlines()
        assert b"\x1b[" in terminal.shown and len(lines) > 10
        assert max(map(cells_of, lines)) <= columns
    with Terminal(joined.argv("network", "graph"), env={**os.environ, "NO_COLOR": "1"}) as terminal:
        assert terminal.wait() == 0
        assert b"\x1b" not in terminal.shown and b"br0" in terminal.shown


def test_files_and_formats(joined: Minidocker, tmp_path: Path) -> None:
    joined("network", "graph", "-o", tmp_path / "a.svg")
    drawn = ElementTree.parse(tmp_path / "a.svg").getroot()
    words = [element.text or "" for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"web", "db", "172.17.0.2", "0.0.0.0:18080 → 80/tcp", "docker0"} <= set(words)
    assert shutil.which("rsvg-convert"), "tests/run installs librsvg2-bin"
    joined("network", "graph", "-o", tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG\r\n")
    said = joined.refused("network", "graph", "--format", "png", "-o", tmp_path / "b.png", env={"PATH": "/nowhere"})
    assert "a PNG needs the program `rsvg-convert`" in said and not (tmp_path / "b.png").exists()
    assert joined("network", "graph", "--format", "dot").stdout.startswith("graph minidocker {")
    assert joined("network", "graph", "--format", "mermaid").stdout.startswith("flowchart TB\n")
    found = json.loads(joined("network", "graph", "--format", "json").stdout)
    back = next(one for one in found["networks"] if one["name"] == "back")
    assert [(one["container"], one["interface"], one["up"]) for one in back["endpoints"]] == [("db", "eth0", True), ("web", "eth1", True)]
    assert [one["ours"] for one in found["networks"] if one["name"] == "docker0"] == [False]
    for words_, said in (
        (("--format", "gif"), "--format `gif`"), (("--live", "--format", "svg"), "--live is for the tree"),
        (("-o", tmp_path / "no/a.svg"), "write "),
    ):  # fmt: skip
        assert said in joined.refused("network", "graph", *words_)


def test_live_follows_links_and_counts(joined: Minidocker) -> None:
    with Terminal(joined.argv("network", "graph", "--live"), rows=60, columns=120) as terminal:
        terminal.until(b"plug0")
        joined.start("--name", "late", "--net", "back", "sleep", "1000")
        terminal.until(b"late")
        poll(lambda: ask("udp", "172.17.0.2", 9, seconds=0.1), "packets go there")
        terminal.until("↓ ".encode())
        terminal.until(b"p/s")
        joined("rm", "-f", "late")
        terminal.until(b"\x1b[H\x1b[J")
        terminal.type(b"\x03")
        assert terminal.wait() == 0
