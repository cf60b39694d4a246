"""Tables at every width, ages, and writing to slow and closed ends."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidocker.cli import listing, output, table
from minidocker.cli.networks import _COLUMNS as NETWORK_COLUMNS
from minidocker.errors import KernelError

LONG = {
    "ID": "0123456789ab", "Command": '"./server a name to…"', "RunningFor": "Less than a second ago",
    "Status": "Exited (137) 3 seconds ago", "Networks": "a-network-of-some-name", "IP": "255.255.255.255",
    "Ports": "0.0.0.0:8080->80/tcp, 0.0.0.0:8081->81/tcp",
    "Names": "a-rather-long-name-of-a-container",
}  # fmt: skip


@pytest.mark.parametrize("ip", ["255.255.255.255", "172.17.0.2, fd3f:a9c1:d2e4:b5::ac11:2, 10.9.0.2"])
@pytest.mark.parametrize("width", range(40, 201))
def test_the_table_fits_every_terminal(width: int, ip: str) -> None:
    lines = table.table(listing._COLUMNS, [{**LONG, "IP": ip}, {**LONG, "Names": "b", "Ports": ""}], width).splitlines()
    assert max(map(len, lines)) <= width
    assert lines[0].startswith("CONTAINER ID") and "NAMES" in lines[0]
    assert lines[1].startswith("0123456789ab") and "a-rather" in lines[1]
    assert lines[1].find("a-rather") == lines[2].rindex("b") == lines[0].find("NAMES")


IPV6 = {"Subnet": "172.17.100.0/24, fd3f:a9c1:d2e4:b5::/64", "Gateway": "172.17.100.1, fd3f:a9c1:d2e4:b5::1"}


@pytest.mark.parametrize("more", [{}, IPV6], ids=["IPv4", "both"])
@pytest.mark.parametrize("width", range(40, 201, 7))
def test_networks_fit_too(width: int, more: dict[str, str]) -> None:
    row = {
        "ID": "0123456789ab", "Name": "n" * 60, "Driver": "bridge", "Subnet": "172.17.100.0/24", "Gateway": "172.17.100.1",
        "Bridge": "br0123456789abc", "Containers": "1000", **more,
    }  # fmt: skip
    lines = table.table(NETWORK_COLUMNS, [row], width).splitlines()
    assert max(map(len, lines)) <= width


def test_wide_terminals_and_files_cut_nothing() -> None:
    for width in (None, 500):
        line = table.table(listing._COLUMNS, [LONG], width).splitlines()[1]
        assert all(value in line for value in LONG.values())


def test_addresses_and_ids_are_never_cut() -> None:
    for width in range(40, 201):
        line = table.table(listing._COLUMNS, [LONG], width).splitlines()[1]
        assert LONG["ID"] in line and ("255." not in line or LONG["IP"] in line)


@given(st.lists(st.tuples(st.text(), st.text()), max_size=5), st.integers(10, 120))
def test_any_text_keeps_to_one_line(rows: list[tuple[str, str]], width: int) -> None:
    columns = [table.Column("A", "a"), table.Column("B", "b")]
    lines = table.table(columns, [{"a": a, "b": b} for a, b in rows], width).split("\n")
    assert len(lines) == len(rows) + 2 and lines[-1] == ""
    assert all(line.isprintable() for line in lines)
    if width >= 2 * table.SHORTEST + table.NARROW_GAP:
        assert all(table.cells_of(line) <= width for line in lines)


def test_wide_characters_count_two_cells() -> None:
    assert table.shorten("日本語", 5) == "日本…"
    assert table.pad("日", 4) == "日  "
    assert table.shorten("abc", 3) == "abc"


@pytest.mark.parametrize(
    ("age", "wanted"),
    [
        (-5, "Less than a second ago"),
        (0.9, "Less than a second ago"),
        (1, "1 second ago"),
        (59.9, "59 seconds ago"),
        (60, "About a minute ago"),
        (120, "2 minutes ago"),
        (3600, "About an hour ago"),
        (47 * 3600, "47 hours ago"),
        (48 * 3600, "2 days ago"),
        (14 * 86400, "2 weeks ago"),
        (60 * 86400, "2 months ago"),
        (730 * 86400, "2 years ago"),
    ],
)
def test_ages(age: float, wanted: str) -> None:
    assert listing.ago(age) == wanted


def test_the_width_is_the_terminals() -> None:
    master, slave = pty.openpty()
    try:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 77, 0, 0))
        assert table.terminal_width(slave) == 77
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 0, 0, 0, 0))
        assert table.terminal_width(slave) is None
    finally:
        os.close(master)
        os.close(slave)


def test_no_terminal_has_no_width() -> None:
    reader, writer = os.pipe()
    assert table.terminal_width(writer) is None
    os.close(reader)
    os.close(writer)


def test_all_is_written_to_a_slow_non_blocking_end() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    data = os.urandom(1 << 18)
    got = bytearray()

    def drain() -> None:
        while chunk := os.read(reader, 4096):
            got.extend(chunk)

    thread = threading.Thread(target=drain)
    thread.start()
    output.write(writer, data)
    os.close(writer)
    thread.join()
    os.close(reader)
    assert bytes(got) == data


def test_a_closed_pipe_is_told_from_other_failures() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        output.write(writer, b"x")
    os.close(writer)
    full = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(KernelError, match=r"^write to \d+: no space left on device$"):
        output.write(full, b"x")
    os.close(full)


@given(st.text())
def test_messages_are_one_printable_line(text: str) -> None:
    assert output.printable(text).isprintable()
