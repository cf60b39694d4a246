"""Hosts files changed in place under readers, and resolv.conf from what the host has."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from minidocker.network import names

A, B = "a" * 64, "b" * 64


def alive(path: Path | str) -> list[str]:
    return [line for line in Path(path).read_text().splitlines() if line and not line.startswith("#")]


def test_lines_come_and_go_in_the_same_file(tmp_path: Path) -> None:
    directory = str(tmp_path / "net")
    path = names.create(directory)
    inode = os.stat(path).st_ino
    names.add(directory, names.hosts_line("172.17.0.2", "one", ["web", "one"], A))
    names.add(directory, names.hosts_line("172.17.0.3", "two", [], B))
    assert Path(path).read_text() == f"127.0.0.1\tlocalhost\n172.17.0.2\tone web {A[:12]}\n172.17.0.3\ttwo {B[:12]}\n"
    names.remove(directory, A)
    names.remove(directory, A)
    assert Path(path).read_text() == f"127.0.0.1\tlocalhost\n#72.17.0.2\tone web {A[:12]}\n172.17.0.3\ttwo {B[:12]}\n"
    assert names.create(directory) == path
    assert os.stat(path).st_ino == inode
    assert os.stat(path).st_mode & 0o777 == 0o644


def test_a_private_file_gets_the_same_lines_and_goes_with_its_container(tmp_path: Path) -> None:
    directory = str(tmp_path)
    shared = names.create(directory)
    names.add(directory, names.hosts_line("10.0.0.2", "one", [], A))
    private = names.create_private(directory, B, [("db", "192.0.2.7")])
    names.add(directory, names.hosts_line("10.0.0.3", "two", [], B))
    assert alive(private) == ["127.0.0.1\tlocalhost", "192.0.2.7\tdb", f"10.0.0.2\tone {A[:12]}", f"10.0.0.3\ttwo {B[:12]}"]
    names.remove(directory, A)
    assert len(alive(private)) == 3
    names.remove(directory, B)
    assert not os.path.exists(private)
    assert alive(shared) == ["127.0.0.1\tlocalhost"]


def test_a_name_that_ends_like_an_id_is_not_removed(tmp_path: Path) -> None:
    names.create(str(tmp_path))
    names.add(str(tmp_path), names.hosts_line("10.0.0.2", f"x{A[:12]}", [A[:12]], B))
    names.remove(str(tmp_path), A)
    assert len(alive(tmp_path / "hosts")) == 2


def test_a_mostly_dead_file_is_compacted_in_place(tmp_path: Path) -> None:
    path = names.create(str(tmp_path))
    inode = os.stat(path).st_ino
    for n in range(200):
        names.add(str(tmp_path), names.hosts_line(f"10.0.0.{n}", f"c{n}", [], f"{n:064x}"[::-1]))
    for n in range(190):
        names.remove(str(tmp_path), f"{n:064x}"[::-1])
    assert os.stat(path).st_ino == inode
    assert len(Path(path).read_text().splitlines()) < 100
    assert alive(path) == ["127.0.0.1\tlocalhost"] + [f"10.0.0.{n}\tc{n} {f'{n:064x}'[::-1][:12]}" for n in range(190, 200)]


def test_removing_where_there_is_nothing(tmp_path: Path) -> None:
    names.remove(str(tmp_path / "absent"), A)


def test_readers_never_see_a_torn_line_and_writers_lose_none(tmp_path: Path) -> None:
    directory = str(tmp_path)
    path = names.create(directory)
    wrong: list[str] = []
    done = threading.Event()

    def read() -> None:
        fd = os.open(path, os.O_RDONLY)
        while not done.is_set():
            for line in os.pread(fd, 1 << 16, 0).decode().split("\n")[:-1]:
                if line and not line.startswith(("#", "127.0.0.1\tlocalhost", "10.")):
                    wrong.append(line)
        os.close(fd)

    def write(start: int) -> None:
        for n in range(start, start + 100):
            identity = f"{n:012d}".ljust(64, "f")
            names.add(directory, names.hosts_line(f"10.0.{n // 250}.{n % 250}", f"c{n}", [], identity))
            if n % 10:
                names.remove(directory, identity)

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=(start,)) for start in (0, 1000, 2000)]
    reader.start()
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    done.set()
    reader.join()
    assert not wrong
    assert len(alive(path)) == 1 + 30


# ---- resolv.conf

STUB = "# systemd\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch corp.example\n"
REAL = "nameserver 192.0.2.53\nnameserver 2001:db8::53\nsearch corp.example\n"


def test_the_hosts_file_as_it_is() -> None:
    host = "nameserver 192.0.2.53\n; no\nnameserver 192.0.2.54\ndomain old.example\nsearch a.example b.example\noptions ndots:2\n"
    assert names.resolv_conf(host) == (
        "nameserver 192.0.2.53\nnameserver 192.0.2.54\nsearch a.example b.example\noptions ndots:2\n", [])


def test_the_stubs_real_upstreams() -> None:
    assert names.resolv_conf(STUB, REAL) == (
        "nameserver 192.0.2.53\nsearch corp.example\noptions edns0 trust-ad\n", ["2001:db8::53"])


def test_none_is_invented_and_the_lost_are_told() -> None:
    assert names.resolv_conf(STUB) == ("search corp.example\noptions edns0 trust-ad\n", ["127.0.0.53"])
    assert names.resolv_conf("nameserver 127.0.0.1\nnameserver ::1\n", REAL) == ("", ["127.0.0.1", "::1"])
    assert names.resolv_conf("nameserver 127.0.0.1\nnameserver 192.0.2.9\n") == ("nameserver 192.0.2.9\n", ["127.0.0.1"])
    assert names.resolv_conf("") == ("", [])


def test_what_is_asked_for_replaces_what_the_host_has() -> None:
    assert names.resolv_conf(STUB, REAL, ["192.0.2.1"], ["x.example"], ["ndots:5"]) == (
        "nameserver 192.0.2.1\nsearch x.example\noptions ndots:5\n", [])
    assert names.resolv_conf(STUB, REAL, ["192.0.2.1"], ["."])[0] == "nameserver 192.0.2.1\noptions edns0 trust-ad\n"


@given(st.text(max_size=200), st.text(max_size=200))
def test_any_text_is_read(host: str, upstream: str) -> None:
    text, _ = names.resolv_conf(host, upstream)
    assert text == "" or text.endswith("\n")
