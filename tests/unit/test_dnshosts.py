"""A name server's reading of hosts files that change under it; who sees which networks; what is forwarded; and what all that loads."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from dnslib import DNSRecord
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minidocker.network import dns, dnshosts, dnsserver, names
from minidocker.network.dnshosts import Hosts, Networks, Table

REPOSITORY = Path(__file__).resolve().parents[2]
SUBNETS = [dns.subnet("10.1.0.0/24"), dns.subnet("fd01::/64")]
WEB, DB = "a" * 12, "b" * 12


def query(name: str) -> bytes:
    return bytes(DNSRecord.question(name).pack())


def parsed(packet: bytes) -> dns.Query:
    found = dns.parse(packet)
    assert isinstance(found, dns.Query)
    return found


class Net:
    """A network's directory as `names` keeps it, beside others."""

    def __init__(self, directory: Path, name: str) -> None:
        self.path = str(directory / name)
        names.create(self.path)

    def add(self, ip: str, name: str, id: str, *aliases: str) -> None:
        names.add(self.path, names.hosts_lines([ip], name, aliases, id))

    def remove(self, id: str) -> None:
        """All of its lines."""
        lines = Path(f"{self.path}/hosts").read_text().splitlines()
        names.remove(self.path, id, [line.split()[0] for line in lines if line.endswith(f" {id[:12]}") and line[0] != "#"])

    def settle(self) -> None:
        """As if nothing had happened for a while."""
        past = time.time_ns() - 60 * 10**9
        os.utime(f"{self.path}/hosts", ns=(past, past))


def test_a_hosts_file_is_seen_as_it_changes(tmp_path: Path) -> None:
    net = Net(tmp_path, "one")
    hosts = Hosts(str(tmp_path), "one")
    assert hosts.table().find(b"a") is None
    net.add("10.1.0.2", "a", "a" * 64)
    assert hosts.table().find(b"a") == (b"\x0a\1\0\2", b"")
    net.remove("a" * 64)
    assert hosts.table().find(b"a") is None
    net.add("10.1.0.3", "a", "b" * 64)
    net.add("10.1.0.4", "b", "c" * 64)
    assert hosts.table().find(b"a") == (b"\x0a\1\0\3", b"")
    net.remove("b" * 64)
    net.add("10.1.0.5", "d", "d" * 64)  # it grew, and yet is not what it was and something more
    assert (hosts.table().find(b"a"), hosts.table().find(b"d")) == (None, (b"\x0a\1\0\5", b""))
    os.unlink(f"{net.path}/hosts")
    assert hosts.table().find(b"d") is None


def test_half_a_line_waits_for_its_other_half(tmp_path: Path) -> None:
    net = Net(tmp_path, "one")
    hosts = Hosts(str(tmp_path), "one")
    with open(f"{net.path}/hosts", "a") as file:
        for piece in (f"10.1.0.2\ta {WEB}\n10.1.0.3\tb", "b ", DB[:11], DB[11:], "\n"):
            assert hosts.table().find(b"bb") is None
            file.write(piece)
            file.flush()
            assert hosts.table().find(b"a") == (b"\x0a\1\0\2", b"")
    assert hosts.table().find(b"bb") == (b"\x0a\1\0\3", b"")


def test_only_what_changed_is_read_and_only_the_new_lines_are_taken_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net(tmp_path, "one")
    for number in range(2, 200):
        net.add(f"10.1.0.{number}", f"c{number}", f"{number:012x}")
    reads: list[str] = []
    lines: list[int] = []
    read, add = dnshosts._read, Table.add
    monkeypatch.setattr(dnshosts, "_read", lambda path: reads.append(path) or read(path))
    monkeypatch.setattr(Table, "add", lambda table, text: lines.append(text.count(b"\n")) or add(table, text))
    net.settle()
    hosts = Hosts(str(tmp_path), "one")
    for _ in range(10):
        assert hosts.table().find(b"c7")
    assert (len(reads), lines) == (2, [199])  # the second read is what the first is compared with
    net.add("10.1.0.200", "c200", f"{200:012x}")
    for _ in range(10):
        assert hosts.table().find(b"c200")
    assert lines == [199, 1]
    net.settle()
    assert hosts.table().find(b"c200")
    before = len(reads)
    assert all(hosts.table().find(b"c7") for _ in range(10))
    assert len(reads) == before


def test_a_change_within_one_tick_of_the_clock_is_seen(tmp_path: Path) -> None:
    """File stamps are as coarse as 10 ms: a line may die with the size, and the time of change, that the file had before."""
    net = Net(tmp_path, "one")
    hosts = Hosts(str(tmp_path), "one")
    net.add("10.1.0.2", "a", "a" * 64)
    status = os.stat(f"{net.path}/hosts")
    assert hosts.table().find(b"a")
    net.remove("a" * 64)
    os.utime(f"{net.path}/hosts", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert os.stat(f"{net.path}/hosts").st_size == status.st_size
    assert hosts.table().find(b"a") is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["add", "remove", "look", "settle"]), st.integers(2, 90)), max_size=300))
@example([("add", n) for n in range(2, 90)] + [("look", 2)] + [("remove", n) for n in range(2, 80)] + [("look", 2)])
def test_any_history_of_a_file_is_as_a_fresh_look_at_it(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]) -> None:
    directory = tmp_path_factory.mktemp("nets")
    net = Net(directory, "one")
    hosts = Hosts(str(directory), "one")
    live: dict[str, bytes] = {}
    for step, number in steps:
        id = f"{number:012x}"
        if step == "add" and id not in live:
            net.add(f"10.1.0.{number}", f"n{number}", id, "all")
            live[id] = bytes([10, 1, 0, number])
        elif step == "remove":
            net.remove(id)
            live.pop(id, None)
        elif step == "settle":
            net.settle()
            hosts.table()  # a stamp is trusted only when the file was quiet before and after it was taken
        elif step == "look":
            table = hosts.table()
            assert table.ids == {id.encode() for id in live}
            assert table.find(b"all") == ((b"".join(live.values()), b"") if live else None)
            assert table.id_of(bytes([10, 1, 0, number])) == (id.encode() if id in live else b"")


def test_a_client_sees_the_networks_that_it_is_in(tmp_path: Path) -> None:
    one, two, three = (Net(tmp_path, name) for name in ("one", "two", "three"))
    (tmp_path / "not a network").touch()
    (tmp_path / "empty").mkdir()
    networks = Networks(str(tmp_path), "one")
    one.add("10.1.0.2", "both", "a" * 64)
    one.add("10.1.0.3", "only", "b" * 64)
    two.add("10.2.0.2", "both", "a" * 64)
    two.add("10.2.0.3", "far", "c" * 64)
    three.add("10.3.0.2", "farther", "d" * 64)

    def seen(client: str, name: str) -> bool:
        question = parsed(query(name))
        return dns.answer(question, networks.tables(dns.packed(client)), [], 512) is not None

    assert seen("10.1.0.2", "far") and seen("10.1.0.2", "far.two") and not seen("10.1.0.2", "far.one") and not seen("10.1.0.2", "farther")
    assert not seen("10.1.0.3", "far") and not seen("10.1.0.99", "far") and seen("10.1.0.99", "both")
    three.add("10.3.0.3", "only", "b" * 64)
    assert seen("10.1.0.3", "farther")
    three.remove("b" * 64)
    assert not seen("10.1.0.3", "farther")
    two.remove("a" * 64)
    assert not seen("10.1.0.2", "far")
    four = Net(tmp_path, "four")
    four.add("10.4.0.2", "both", "a" * 64)
    four.add("10.4.0.3", "new", "e" * 64)
    assert seen("10.1.0.2", "new")
    one.remove("a" * 64)
    assert not seen("10.1.0.2", "new")


def server(tmp_path: Path, resolv_conf: str | None, internal: bool = False) -> dnsserver.Server:
    """One that is asked by `decide` alone, and has no sockets."""
    found = dnsserver.Server(Networks(str(tmp_path), "one"), "10.1.0.1", SUBNETS, internal, None, None)  # type: ignore[arg-type]
    found._resolv_conf = dnshosts.File(str(tmp_path / "resolv.conf"))
    if resolv_conf is not None:
        (tmp_path / "resolv.conf").write_text(resolv_conf)
    return found


def outcome(asked: dnsserver.Server, packet: bytes, source: str = "10.1.0.2") -> int | str | None:
    """The rcode, or forward, or None."""
    found = asked.decide(packet, source)
    if isinstance(found, dns.Query):
        return "forward"
    return None if found is None else int(DNSRecord.parse(found).header.rcode)


def test_what_is_decided(tmp_path: Path) -> None:
    Net(tmp_path, "one").add("10.1.0.2", "web", "a" * 64)
    unknown = query("example.org")
    asked = server(tmp_path, "nameserver 192.0.2.53\n")
    assert outcome(asked, query("web")) == dns.NOERROR
    assert outcome(asked, unknown) == "forward"
    assert outcome(asked, unknown, "10.1.0.1") == dns.REFUSED
    assert outcome(asked, query("web"), "10.1.0.1") == dns.NOERROR
    for stranger in ("10.2.0.2", "192.0.2.7", "fe80::1%eth0", "::1", "nonsense", ""):
        assert outcome(asked, query("web"), stranger) is None
    (tmp_path / "resolv.conf").write_text("nameserver 10.1.0.1\n")
    assert outcome(asked, unknown) == dns.NXDOMAIN
    (tmp_path / "resolv.conf").write_text("nameserver 10.1.0.1\nnameserver ::1\n")
    assert outcome(asked, unknown) == "forward"
    assert asked.resolvers() == ["::1"]
    (tmp_path / "resolv.conf").unlink()
    assert outcome(asked, unknown) == dns.NXDOMAIN
    assert outcome(server(tmp_path, "nameserver 192.0.2.53\n", internal=True), unknown) == dns.NXDOMAIN
    (tmp_path / "resolv.conf").write_text("".join(f"nameserver 192.0.2.{n}\n" for n in range(9)))
    assert len(server(tmp_path, None).resolvers()) == 3


def test_what_the_server_loads() -> None:
    """It is one process a network: every module counts."""
    code = f"import sys; sys.path.append({str(REPOSITORY)!r}); import minidocker.network.dnsserver; print(*sys.modules)"
    before, after = (
        set(subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True).stdout.split())
        for program in ("import sys; print(*sys.modules)", code)
    )
    ours = {"minidocker", "minidocker.network", *(f"minidocker.network.{name}" for name in ("dns", "dnsforward", "dnshosts", "dnsserver"))}
    standard = {"__future__", "_socket", "_struct", "errno", "fcntl", "os", "select", "time"}
    loaded = after - before
    assert ours <= loaded
    # what `os` brings, where the interpreter has not loaded it by itself
    assert loaded - ours - standard <= {"abc", "stat", "_stat", "posixpath", "genericpath", "_collections_abc", "os.path"}
