"""Hosts files changed in place under readers, and resolv.conf from what the host has."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from minidocker.network import names

A, B, C = "a" * 64, "b" * 64, "c" * 64


def alive(path: Path | str) -> list[str]:
    return [line for line in Path(path).read_text().splitlines() if line and not line.startswith("#")]


def line(ip: str, name: str, aliases: list[str], id: str) -> str:
    return names.hosts_lines([ip, ""], name, aliases, id)


def test_lines_come_and_go_in_the_same_file(tmp_path: Path) -> None:
    directory = str(tmp_path / "net")
    path = names.create(directory)
    inode = os.stat(path).st_ino
    names.add(directory, line("172.17.0.2", "one", ["web", "one"], A))
    names.add(directory, line("172.17.0.3", "two", [], B))
    assert Path(path).read_text() == f"127.0.0.1\tlocalhost\n172.17.0.2\tone web {A[:12]}\n172.17.0.3\ttwo {B[:12]}\n"
    names.remove(directory, A, ["172.17.0.2", ""])
    names.remove(directory, A, ["172.17.0.2", ""])
    assert Path(path).read_text() == f"127.0.0.1\tlocalhost\n#72.17.0.2\tone web {A[:12]}\n172.17.0.3\ttwo {B[:12]}\n"
    assert names.create(directory) == path
    assert os.stat(path).st_ino == inode
    assert os.stat(path).st_mode & 0o777 == 0o644


def test_a_line_for_each_address_and_the_full_name_first() -> None:
    assert names.hosts_lines(["10.9.0.2", "fd00:9::a09:2"], "web", ["db.example", "web", "db"], A) == (
        f"10.9.0.2\tdb.example web db {A[:12]}\nfd00:9::a09:2\tdb.example web db {A[:12]}\n")
    assert names.hosts_lines(["", "fd00:9::2"], "web", [], A) == f"fd00:9::2\tweb {A[:12]}\n"


def test_both_lines_go(tmp_path: Path) -> None:
    directory = str(tmp_path)
    path = names.create(directory)
    names.add(directory, names.hosts_lines(["10.9.0.2", "fd00:9::2"], "one", [], A))
    names.add(directory, names.hosts_lines(["10.9.0.22", "fd00:9::22"], "two", [], B))
    names.remove(directory, A, ["10.9.0.2", "fd00:9::2"])
    assert alive(path) == ["127.0.0.1\tlocalhost", f"10.9.0.22\ttwo {B[:12]}", f"fd00:9::22\ttwo {B[:12]}"]


def test_only_the_lines_with_its_addresses_go(tmp_path: Path) -> None:
    """One private file has lines of several networks, and the container may be in more than one of them."""
    directory = str(tmp_path)
    path = names.create(directory)
    for ip in ("10.9.0.2", "10.8.0.2"):
        names.add(directory, line(ip, "one", [], A))
    names.remove(directory, A, ["10.9.0.2"])
    assert alive(path) == ["127.0.0.1\tlocalhost", f"10.8.0.2\tone {A[:12]}"]
    names.remove(directory, B, ["10.8.0.2"])
    assert len(alive(path)) == 2, "another container's"


def test_a_private_file_gets_the_same_lines_and_goes_with_its_container(tmp_path: Path) -> None:
    directory, private = str(tmp_path / "net"), str(tmp_path / "own")
    shared = names.create(directory)
    names.add(directory, line("10.0.0.2", "one", [], A))
    names.create_private(private, [directory], B, [("db", "192.0.2.7"), ("db", "2001:db8::7")])
    names.add(directory, line("10.0.0.3", "two", [], B))
    own = ["127.0.0.1\tlocalhost", "192.0.2.7\tdb", "2001:db8::7\tdb"]
    assert alive(private) == [*own, f"10.0.0.2\tone {A[:12]}", f"10.0.0.3\ttwo {B[:12]}"]
    assert os.stat(private).st_mode & 0o777 == 0o644
    names.remove(directory, A, ["10.0.0.2"])
    assert len(alive(private)) == 4
    names.remove(directory, B, ["10.0.0.3"])
    assert os.listdir(directory) == ["hosts"], "its file goes with its own directory"
    names.add(directory, line("10.0.0.4", "three", [], C))
    assert alive(private) == own
    assert alive(shared) == ["127.0.0.1\tlocalhost", f"10.0.0.4\tthree {C[:12]}"]


def test_a_private_file_in_two_networks_gets_the_lines_of_both(tmp_path: Path) -> None:
    front, back, private = str(tmp_path / "front"), str(tmp_path / "back"), str(tmp_path / "own")
    names.create(back)
    names.add(back, names.hosts_lines(["10.8.0.2", "fd00:8::2"], "db", [], A))
    names.create_private(private, [front, back], B, [])
    inode = os.stat(private).st_ino
    assert [os.stat(f"{directory}/hosts.{B}").st_ino for directory in (front, back)] == [inode, inode]
    names.add(front, line("10.9.0.3", "web", [], B))
    names.add(back, line("10.8.0.3", "web", [], B))
    names.add(front, line("10.9.0.4", "proxy", [], C))
    base = ["127.0.0.1\tlocalhost", f"10.8.0.2\tdb {A[:12]}", f"fd00:8::2\tdb {A[:12]}"]
    assert alive(private) == [*base, f"10.9.0.3\tweb {B[:12]}", f"10.8.0.3\tweb {B[:12]}", f"10.9.0.4\tproxy {C[:12]}"]
    assert alive(f"{front}/hosts") == ["127.0.0.1\tlocalhost", f"10.9.0.3\tweb {B[:12]}", f"10.9.0.4\tproxy {C[:12]}"]
    assert alive(f"{back}/hosts") == [*base, f"10.8.0.3\tweb {B[:12]}"]
    names.remove(back, A, ["10.8.0.2", "fd00:8::2"])
    assert alive(private) == [base[0], f"10.9.0.3\tweb {B[:12]}", f"10.8.0.3\tweb {B[:12]}", f"10.9.0.4\tproxy {C[:12]}"]
    names.remove(front, B, ["10.9.0.3"])
    assert os.path.exists(f"{back}/hosts.{B}") and not os.path.exists(f"{front}/hosts.{B}")
    assert alive(private) == [base[0], f"10.8.0.3\tweb {B[:12]}", f"10.9.0.4\tproxy {C[:12]}"]
    names.remove(back, B, ["10.8.0.3"])
    assert sorted(os.listdir(front) + os.listdir(back)) == ["hosts", "hosts"]
    assert os.stat(private).st_ino == inode and os.stat(private).st_nlink == 1


def test_a_private_file_joins_and_leaves_a_network_where_it_stands(tmp_path: Path) -> None:
    front, back, private = str(tmp_path / "front"), str(tmp_path / "back"), str(tmp_path / "own")
    names.create_private(private, [front], A, [("x", "192.0.2.7")])
    names.add(front, line("10.9.0.2", "web", [], A))
    names.create(back)
    for ip, name, id in (("10.8.0.2", "db", B), ("10.8.0.3", "cache", C)):
        names.add(back, names.hosts_lines([ip, ip.replace("10.", "fd00::")], name, [], id))
    own = ["127.0.0.1\tlocalhost", "192.0.2.7\tx", f"10.9.0.2\tweb {A[:12]}"]
    inode = os.stat(private).st_ino
    names.join_private(private, back, A)
    names.add(back, line("10.8.0.4", "web", [], A))
    assert len(alive(private)) == len(own) + 5
    names.remove(back, A, ["10.8.0.4"])
    names.leave_private(private, back, [(B, "10.8.0.2"), (B, "fd00::8.0.2"), (C, "10.8.0.3"), (C, "fd00::8.0.3"), (C, "10.8.0.99")])
    assert alive(private) == own
    names.add(back, line("10.8.0.5", "late", [], B))
    assert alive(private) == own
    assert len(alive(f"{back}/hosts")) == 6, "the network's own file has nothing to do with it"
    assert os.stat(private).st_ino == inode


def test_a_link_that_a_killed_start_left_is_no_matter(tmp_path: Path) -> None:
    directory, private = str(tmp_path / "net"), str(tmp_path / "own")
    names.create_private(private, [directory], A, [("old", "192.0.2.7")])
    os.unlink(private)
    names.create_private(private, [directory], A, [])
    assert os.path.samefile(private, f"{directory}/hosts.{A}")
    assert alive(private) == ["127.0.0.1\tlocalhost"]


def test_a_private_file_is_made_with_the_network_it_is_in(tmp_path: Path) -> None:
    names.create_private(str(tmp_path / "own"), [str(tmp_path / "deep/net")], A, [])
    assert sorted(os.listdir(tmp_path / "deep/net")) == ["hosts", f"hosts.{A}"]


def test_a_name_that_ends_like_an_id_is_not_removed(tmp_path: Path) -> None:
    names.create(str(tmp_path))
    names.add(str(tmp_path), line("10.0.0.2", f"x{A[:12]}", [A[:12]], B))
    names.remove(str(tmp_path), A, ["10.0.0.2"])
    assert len(alive(tmp_path / "hosts")) == 2


def test_a_mostly_dead_file_is_compacted_in_place(tmp_path: Path) -> None:
    path = names.create(str(tmp_path))
    inode = os.stat(path).st_ino
    for n in range(200):
        names.add(str(tmp_path), line(f"10.0.0.{n}", f"c{n}", [], f"{n:064x}"[::-1]))
    for n in range(190):
        names.remove(str(tmp_path), f"{n:064x}"[::-1], [f"10.0.0.{n}"])
    assert os.stat(path).st_ino == inode
    assert len(Path(path).read_text().splitlines()) < 100
    assert alive(path) == ["127.0.0.1\tlocalhost"] + [f"10.0.0.{n}\tc{n} {f'{n:064x}'[::-1][:12]}" for n in range(190, 200)]


def test_removing_where_there_is_nothing(tmp_path: Path) -> None:
    names.remove(str(tmp_path / "absent"), A, ["10.0.0.2"])
    names.create(str(tmp_path / "net"))
    names.remove(str(tmp_path / "net"), A, [])
    assert alive(tmp_path / "net/hosts") == ["127.0.0.1\tlocalhost"]


def test_a_private_file_in_two_networks_loses_no_line_of_writers_in_both(tmp_path: Path) -> None:
    """They hold the locks of different directories."""
    directories, private = [str(tmp_path / "front"), str(tmp_path / "back")], str(tmp_path / "own")
    names.create_private(private, directories, A, [])

    def write(number: int) -> None:
        for n in range(100):
            identity = f"{number}{n:011d}".ljust(64, "f")
            names.add(directories[number], line(f"10.{number}.0.{n}", f"c{number}{n}", [], identity))
            if n % 10:
                names.remove(directories[number], identity, [f"10.{number}.0.{n}"])

    writers = [threading.Thread(target=write, args=(number,)) for number in (0, 1)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    theirs = [entry for directory in directories for entry in alive(f"{directory}/hosts")[1:]]
    assert sorted(alive(private)) == sorted(["127.0.0.1\tlocalhost", *theirs])
    assert len(theirs) == 20


def test_readers_never_see_a_torn_line_and_writers_lose_none(tmp_path: Path) -> None:
    directory = str(tmp_path)
    path = names.create(directory)
    wrong: list[str] = []
    done = threading.Event()

    def read() -> None:
        fd = os.open(path, os.O_RDONLY)
        while not done.is_set():
            for seen in os.pread(fd, 1 << 16, 0).decode().split("\n")[:-1]:
                if seen and not seen.startswith(("#", "127.0.0.1\tlocalhost", "10.")):
                    wrong.append(seen)
        os.close(fd)

    def write(start: int) -> None:
        for n in range(start, start + 100):
            identity = f"{n:012d}".ljust(64, "f")
            names.add(directory, line(f"10.0.{n // 250}.{n % 250}", f"c{n}", [], identity))
            if n % 10:
                names.remove(directory, identity, [f"10.0.{n // 250}.{n % 250}"])

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
