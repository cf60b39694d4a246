"""Other engines' networks from their files, and bbolt databases: docker's own, and pages made by hand as bbolt makes them.

data/docker-20.10-local-kv.db.gz is what dockerd 20.10.24 left after: network create --subnet 10.201.0.0/24 web; create back;
create --subnet 10.202.0.0/24 gone; create -o com.docker.network.bridge.name=named0 --subnet 10.205.0.0/16 named;
create --ipv6 --subnet fd00:5::/64 --subnet 10.203.0.0/16 six; create --config-only --subnet 10.204.0.0/16 conf; n1 to n20 on
10.210.N.0/24; rm of every odd one and of `gone`.
"""

from __future__ import annotations

import gzip
import ipaddress
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minidocker.network import bbolt, engines

STORE = gzip.decompress((Path(__file__).parent / "data/docker-20.10-local-kv.db.gz").read_bytes())
BRIDGE = ("172.17.0.0/16", "docker network `bridge` (docker0)")
STORED = {
    BRIDGE, ("172.18.0.0/16", "docker network `back`"), ("10.201.0.0/24", "docker network `web`"),
    ("10.205.0.0/16", "docker network `named` (named0)"), ("10.203.0.0/16", "docker network `six`"),
    ("fd00:5::/64", "docker network `six`"), *((f"10.210.{n}.0/24", f"docker network `n{n}`") for n in range(2, 21, 2)),
}  # fmt: skip
BRANCH, LEAF, META = 1, 2, 4
BUCKET = 1


class Files:
    """Where the engines would have their files, in a directory of the test's own; `write("etc/cni/net.d/x.conf", {...})`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.podman, self.cni, self.docker = root / "etc/containers/networks", root / "etc/cni/net.d", root / "var/lib/docker"
        self.store = self.docker / engines.DOCKER_STORE

    def write(self, path: str | Path, content: Any) -> Path:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return place

    def install(self, program: str) -> None:
        self.write(f"bin/{program}", b"#!/bin/sh\n").chmod(0o755)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    for name in ("PODMAN_NETWORKS", "CNI_NETWORKS", "DOCKER_CONFIG", "DOCKER_DATA"):
        monkeypatch.setattr(engines, name, f"{tmp_path}{getattr(engines, name)}")
    for name in ("PODMAN_CONFIGS", "PODMAN_CONFIG_DIRECTORIES"):
        monkeypatch.setattr(engines, name, tuple(f"{tmp_path}{path}" for path in getattr(engines, name)))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    monkeypatch.setattr(bbolt, "_PAUSE", 0.0)
    return Files(tmp_path)


# ---- bbolt

def page(number: int, kind: int, count: int, body: bytes, size: int = 4096) -> bytes:
    """A page, padded; what does not fit overflows."""
    pages = -(-(16 + len(body)) // size)
    return (struct.pack("=QHHI", number, kind, count, pages - 1) + body).ljust(pages * size, b"\0")


def leaf(*items: tuple[int, bytes, bytes]) -> tuple[int, bytes]:
    """(count, body) of (flags, key, value)."""
    heads, data = b"", b""
    for index, (flags, key, value) in enumerate(items):
        heads += struct.pack("=IIII", flags, 16 * (len(items) - index) + len(data), len(key), len(value))
        data += key + value
    return len(items), heads + data


def branch(*items: tuple[bytes, int]) -> tuple[int, bytes]:
    """(count, body) of (key, child's page)."""
    heads, data = b"", b""
    for index, (key, child) in enumerate(items):
        heads += struct.pack("=IIQ", 16 * (len(items) - index) + len(data), len(key), child)
        data += key
    return len(items), heads + data


def meta(transaction: int, root: int, end: int, size: int = 4096) -> bytes:
    fields = struct.pack("=IIIIQQQQQ", 0xED0CDAED, 2, size, 0, root, 0, 2, end, transaction)
    return page(transaction % 2, META, 0, fields + struct.pack("=Q", bbolt.fnv1a(fields)), size)


def database(pages: bytes, root: int, size: int = 4096, transaction: int = 2) -> bytes:
    """`pages` from number 2 on, behind two metas of which the first counts (for an even transaction)."""
    end = 2 + len(pages) // size
    return meta(transaction, root, end, size) + meta(transaction - 1, 1, end, size) + pages


def inline(*items: tuple[int, bytes, bytes]) -> bytes:
    """The value of a bucket that has no page of its own."""
    count, body = leaf(*items)
    return struct.pack("=QQ", 0, 7) + struct.pack("=QHHI", 0, LEAF, count, 0) + body


def rooted(number: int) -> bytes:
    return struct.pack("=QQ", number, 0)


def store(value: bytes, key: str = "docker/network/v1.0/network/1/") -> bytes:
    """A store of docker's with one pair in it."""
    pair = inline((0, key.encode(), struct.pack("<Q", 5) + value))
    return database(page(2, LEAF, *leaf((BUCKET, b"libnetwork", pair))), 2)


def test_fnv1a_has_the_known_values() -> None:
    assert [bbolt.fnv1a(text) for text in (b"", b"a", b"foobar")] == [0xCBF29CE484222325, 0xAF63DC4C8601EC8C, 0x85944171F73967E8]


@pytest.mark.parametrize("size", [1024, 4096, 65536])
def test_branches_overflow_and_buckets_in_buckets_are_read(size: int) -> None:
    long = bytes(range(256)) * 300
    inner = inline((0, b"k", b"v"), (BUCKET, b"z", inline((0, b"y", b"x"))))
    pages = page(2, LEAF, *leaf((BUCKET, b"a", rooted(3)), (BUCKET, b"in", inner)), size)
    pages += page(3, BRANCH, *branch((b"b", 4), (b"m", 5)), size) + page(4, LEAF, *leaf((0, b"b", b"1"), (0, b"c", b"")), size)
    pages += page(5, BRANCH, *branch((b"m", 6)), size)
    pages += page(6, LEAF, *leaf((0, b"m", long), (BUCKET, b"n", inline()), (0, b"o", b"3")), size)
    data = database(pages, 2, size)
    assert bbolt.contents(data, b"a") == [(b"b", b"1"), (b"c", b""), (b"m", long), (b"o", b"3")]
    assert bbolt.contents(data, b"in") == [(b"k", b"v")]
    assert bbolt.contents(data, b"in", b"z") == [(b"y", b"x")]
    for path in ((b"a", b"n"), (), (b"none",), (b"in", b"k")):
        assert bbolt.contents(data, *path) == []


@given(st.dictionaries(st.binary(min_size=1, max_size=20), st.binary(max_size=900), max_size=60), st.integers(1, 9))
def test_what_is_put_in_comes_out_in_order(stored: dict[bytes, bytes], apiece: int) -> None:
    pairs = sorted(stored.items())
    chunks = [pairs[start : start + apiece] for start in range(0, len(pairs), apiece)]
    children: list[tuple[bytes, int]] = []
    pages, number = b"", 2
    for chunk in chunks:
        made = page(number, LEAF, *leaf(*((0, key, value) for key, value in chunk)), 1024)
        children.append((chunk[0][0], number))
        pages, number = pages + made, number + len(made) // 1024
    if children:
        top = page(number, BRANCH, *branch(*children), 1024)
        pages, number = pages + top, number + len(top) // 1024
    root = rooted(number - (len(top) // 1024)) if children else inline()
    pages += page(number, LEAF, *leaf((BUCKET, b"libnetwork", root)), 1024)
    assert bbolt.contents(database(pages, number, 1024), b"libnetwork") == pairs


def test_the_newest_meta_that_is_whole_counts() -> None:
    pages = page(2, LEAF, *leaf((0, b"old", b""))) + page(3, LEAF, *leaf((0, b"new", b"")))
    old, new = meta(8, 2, 4), meta(9, 3, 4)
    torn = new[:60] + b"\xff" + new[61:]
    assert bbolt.contents(old + new + pages) == [(b"new", b"")]
    assert bbolt.contents(old + torn + pages) == [(b"old", b"")]
    assert bbolt.contents(b"\xff" * 4096 + new + pages) == [(b"new", b"")]
    with pytest.raises(bbolt.Malformed, match="no valid meta"):
        bbolt.contents(b"\xff" * 4096 + torn + pages)


ONE = page(2, LEAF, *leaf((0, b"k", b"v")))


@pytest.mark.parametrize(("pages", "root"), [
    (ONE, 3), (ONE, 1), (ONE, 1 << 60),  # a root that is no page of the tree
    (page(3, LEAF, *leaf((0, b"k", b"v"))), 2),  # another page's place
    (page(2, META, 0, b""), 2), (page(2, LEAF | 16, 0, b""), 2),
    (page(2, BRANCH, *branch((b"k", 2))), 2), (page(2, BRANCH, *branch((b"k", 3), (b"l", 3))) + page(3, LEAF, *leaf()), 2),  # a circle
    (page(2, BRANCH, 0, b""), 2), (page(2, BRANCH, 60000, b""), 2), (page(2, LEAF, 60000, b""), 2),
    (page(2, LEAF, 1, struct.pack("=IIII", 0, 16, 1, 1 << 31)), 2), (page(2, LEAF, 1, struct.pack("=IIII", 0, 0, 4, 4)), 2),
    (page(2, LEAF, 2, struct.pack("=8I", 0, 32, 9, 9, 0, 16, 9, 9)), 2),  # two elements in one place
    (page(2, LEAF, *leaf((0, b"b", b""), (0, b"a", b""))), 2), (page(2, LEAF, *leaf((0, b"a", b""), (0, b"a", b""))), 2),
    (struct.pack("=QHHI", 2, LEAF, 0, 9).ljust(4096, b"\0"), 2), (struct.pack("=QHHI", 2, LEAF, 0, 0xFFFFFFFF).ljust(4096, b"\0"), 2),
])  # fmt: skip
def test_a_tree_that_cannot_be_is_malformed(pages: bytes, root: int) -> None:
    with pytest.raises(bbolt.Malformed):
        bbolt.contents(database(pages, root))


@pytest.mark.parametrize("value", [b"", b"short", rooted(0), rooted(9), rooted(2)])
def test_a_bucket_that_cannot_be_is_malformed(value: bytes) -> None:
    with pytest.raises(bbolt.Malformed):
        bbolt.contents(database(page(2, LEAF, *leaf((BUCKET, b"b", value))), 2), b"b")


def test_a_copy_into_which_somebody_writes_is_made_anew(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each commit changes a meta between the two reads; the last one leaves the file alone again."""
    place = files.write(files.store, database(ONE, 2))
    real, reads = os.pread, 0
    commits = 3

    def pread(descriptor: int, length: int, offset: int) -> bytes:
        nonlocal reads
        reads += 1
        data = real(descriptor, length, offset)
        if reads % 2 and reads <= 2 * commits:
            place.write_bytes(database(ONE, 2, transaction=2 + 2 * reads))
        return data

    monkeypatch.setattr(os, "pread", pread)
    descriptor = os.open(place, os.O_RDONLY)
    assert bbolt.pairs(descriptor) == [(b"k", b"v")]
    assert reads == 2 * (commits + 1)
    reads, commits = 0, 1000
    with pytest.raises(bbolt.Malformed, match="written while it was read"):
        bbolt.pairs(descriptor)
    assert engines.defined() == []
    os.close(descriptor)


# ---- docker

def test_docker_networks_are_read_from_its_store(files: Files) -> None:
    files.write(files.store, STORE)
    assert b"10.202.0.0/24" in STORE and b"10.204.0.0/16" in STORE, "a deleted network and a template, which nobody has"
    assert set(engines.defined()) == STORED


def test_the_store_is_found_where_the_configuration_says(files: Files) -> None:
    for key, place in (("data-root", "srv/docker"), ("graph", "srv/old")):
        files.write(f"{place}/{engines.DOCKER_STORE}", STORE)
        files.write("etc/docker/daemon.json", {key: str(files.root / place)})
        assert set(engines.defined()) == STORED
    files.write("etc/docker/daemon.json", {"data-root": str(files.root / "srv/none")})
    assert engines.defined() == []
    files.write("etc/docker/daemon.json", {})
    files.write(f"var/lib/docker/100000.100000/{engines.DOCKER_STORE}", STORE)
    assert set(engines.defined()) == STORED, "user namespaces are remapped"


def test_the_store_of_a_killed_docker_is_read_at_its_last_commit(files: Files) -> None:
    """The meta page that it was writing is torn: the one before counts."""
    newer = 4096 * (141 % 2)
    files.write(files.store, STORE[: newer + 70] + b"\xff\xff" + STORE[newer + 72 :])
    assert STORED - set(engines.defined()) == set()


def test_what_docker_is_deleting_is_nobodys(files: Files) -> None:
    """Nor is what it keeps under other keys, or under none of ours."""
    info = json.dumps([{"PoolID": "x", "IPAMData": json.dumps({"Pool": "10.1.0.0/16"})}])
    network = {"name": "n", "ipamV4Info": info, "generic": {"com.docker.network.generic": None}}
    files.write(files.store, store(json.dumps(network | {"inDelete": True}).encode()))
    assert engines.defined() == []
    files.write(files.store, store(json.dumps(network).encode(), "docker/network/v1.0/bridge/1/"))
    assert engines.defined() == []
    files.write(files.store, store(json.dumps(network).encode()))
    assert engines.defined() == [("10.1.0.0/16", "docker network `n`")]


def test_docker_configuration_names_the_default_bridge(files: Files) -> None:
    bridge = "docker network `bridge` (docker0)"
    config = {"bip": "192.168.3.1/24", "fixed-cidr": "192.168.3.128/25", "bip6": "fd00:3::1/64", "fixed-cidr-v6": "FD00:4::/64"}
    files.write("etc/docker/daemon.json", config)
    assert engines.defined() == [("192.168.3.0/24", bridge), ("fd00:3::/64", bridge), ("192.168.3.128/25", bridge), ("fd00:4::/64", bridge)]
    files.write("etc/docker/daemon.json", {"fixed-cidr": "10.1.0.0/16", "bridge": "br9"})
    assert engines.defined() == [("10.1.0.0/16", "docker network `bridge` (br9)")]
    files.write("etc/docker/daemon.json", {"fixed-cidr": "10.1.0.0/16", "bridge": "none"})
    assert engines.defined() == []


@pytest.mark.parametrize("broken", [
    b"", b"{}", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"bip": 5, "data-root": {}}', b'{"bip": "10.0.0.0"}', b'{"bip": "10.0.0.0/33"}',
    b'{"bip": "10.0.0.0/-1"}', b'{"bip": "010.0.0.0/8"}', b'{"bip": "a\\u0000/8"}', b'{"bip": "\\ud800/8"}', b'{"data-root": "a\\u0000b"}',
    b'{"bip": "10.0.0.0/\\u0661"}', b'{"subnets": {"subnet": 1}}', b'{"subnets": ["10.0.0.0/8", null]}', b'{"ipam": {"ranges": [[["x"]]]}}',
    b'{"name": ["x"], "ipam": {"subnet": null, "ranges": {"subnet": "10.0.0.0/8"}}}', b'{"plugins": 7, "ipam": 7}',
])  # fmt: skip
def test_what_makes_no_sense_is_passed_over(files: Files, broken: bytes) -> None:
    sound = ("10.9.0.0/16", "CNI network `sound`")
    files.write(files.cni / "99-sound.conf", {"name": "sound", "ipam": {"subnet": "10.9.0.0/16"}})
    for place in ("etc/docker/daemon.json", "etc/cni/net.d/1.conf", "etc/containers/networks/x.json", "etc/containers/containers.conf"):
        files.write(place, broken)
    files.write(files.store, broken)
    assert engines.defined() == [sound]


def test_what_is_no_file_is_passed_over(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory, a named pipe, a link to nothing, a file too large, in place of each."""
    def pipe(place: Path) -> None:
        os.mkfifo(place)

    def too_large(place: Path) -> None:
        with place.open("wb") as file:
            file.truncate(engines.LARGEST + 1)

    places = [files.cni / "a.conf", files.podman / "b.json", files.store, files.root / "etc/docker/daemon.json"]
    makers: list[Callable[[Path], None]] = [Path.mkdir, pipe, lambda place: place.symlink_to("/nonexistent"), too_large]
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        for make in makers:
            make(place)
            assert engines.defined() == []
            place.rmdir() if place.is_dir() else place.unlink()
    monkeypatch.setattr(os, "listdir", lambda _directory: ["vanished.conf", "vanished.json"])
    assert engines.defined() == []


WORDS = ("name", "subnets", "subnet", "plugins", "ipam", "ranges", "bip", "bridge", "data-root", "generic", "ipamV4Info", "IPAMData",
         "Pool")  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["x", "10.0.0.0/8", "fd00::1/64", "10.0.0.0/", '[{"IPAMData": "{}"}]']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=5),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary(max_size=300) | VALUES, where=st.integers(0, 5))
def test_no_content_of_any_file_is_an_error(files: Files, content: Any, where: int) -> None:
    places = ("etc/docker/daemon.json", "etc/cni/net.d/1.conflist", "etc/containers/networks/x.json", "etc/containers/containers.conf")
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    whole = {3: b"network_config_dir" + text, 5: store(text)}.get(where, text)
    place = files.write((*places, files.store, files.store)[where], whole)
    assert all(str(ipaddress.ip_network(subnet)) == subnet and owner for subnet, owner in engines.defined())
    place.unlink()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(STORE) - 1), st.binary(min_size=1, max_size=9)), min_size=1, max_size=9), st.integers(0, 40))
def test_no_damage_to_a_store_is_an_error(files: Files, damage: list[tuple[int, bytes]], cut: int) -> None:
    data = bytearray(STORE)
    for offset, written in damage:
        data[offset : offset + len(written)] = written
    files.write(files.store, bytes(data[: len(data) - cut * 4096 // 2] if cut < 32 else data))
    assert {owner.split("`")[0] for _, owner in engines.defined()} <= {"docker network "}
    files.store.unlink()


# ---- podman and CNI

def test_podman_networks_and_its_default_one(files: Files) -> None:
    default = ("10.88.0.0/16", "podman network `podman`")
    assert engines.defined() == []
    files.write("etc/containers/policy.json", {})
    assert engines.defined() == [], "skopeo has that file, too"
    files.install("podman")
    assert engines.defined() == [default]
    subnets = [{"subnet": "10.89.0.0/24", "gateway": "10.89.0.1"}, {"subnet": "fd00::/64"}]
    files.write(files.podman / "web.json", {"name": "web", "subnets": subnets})
    files.write(files.podman / "copy.json", {"name": "web", "subnets": [{"subnet": "10.99.0.0/24"}]})  # podman skips it
    files.write(files.podman / "web.json.bak", {"name": "web", "subnets": [{"subnet": "10.98.0.0/24"}]})
    assert engines.defined() == [("10.89.0.0/24", "podman network `web`"), ("fd00::/64", "podman network `web`"), default]
    files.write(files.podman / "podman.json", {"name": "podman", "subnets": [{"subnet": "10.77.0.0/16"}]})
    assert engines.defined()[0] == ("10.77.0.0/16", "podman network `podman`") and default not in engines.defined()


def test_containers_conf_moves_podman_networks(files: Files) -> None:
    files.install("buildah")
    files.write("usr/share/containers/containers.conf", b'[network]\n#default_subnet = "10.1.0.0/16"\n')
    assert engines.defined() == [("10.88.0.0/16", "podman network `podman`")]
    files.write("etc/containers/containers.conf", b'[network]\ndefault_subnet = "10.1.0.0/16"  # ours\n[engine]\ndefault_network = "x"\n')
    assert engines.defined() == [("10.1.0.0/16", "podman network `podman`")]
    other = files.root / "srv/networks"
    moved = f'network.network_config_dir = "{other}"\nnetwork.default_network="lan"'
    files.write("etc/containers/containers.conf.d/50-x.conf", moved.encode())
    files.write("etc/containers/containers.conf.d/60-x.conf", b"default_network = [")
    files.write(files.podman / "web.json", {"name": "web", "subnets": [{"subnet": "10.89.0.0/24"}]})
    files.write(other / "db.json", {"name": "db", "subnets": [{"subnet": "10.90.0.0/24"}]})
    files.write(other / "87-old.conflist", {"name": "old", "plugins": [{"type": "bridge", "ipam": {"subnet": "10.91.0.0/24"}}]})
    assert engines.defined() == [
        ("10.90.0.0/24", "podman network `db`"), ("10.1.0.0/16", "podman network `lan`"), ("10.91.0.0/24", "CNI network `old`"),
    ]  # fmt: skip


def test_cni_networks_have_subnets_anywhere_in_their_plugins(files: Files) -> None:
    files.write(files.cni / "10-cbr0.conflist", {"cniVersion": "1.0.0", "name": "cbr0", "plugins": [
        {"type": "bridge", "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.22.0.0/16"}, {"subnet": "10.23.5.9/16"}],
                                                                     [{"subnet": "fd00:22::/64"}]]}},
        {"type": "portmap"},
        {"type": "meta", "delegate": {"ipam": {"subnet": "10.24.0.0/16"}}},
    ]})  # fmt: skip
    files.write(files.cni / "20-one.conf", {"name": "one", "type": "bridge", "ipam": {"subnet": "10.25.0.0/24"}})
    files.write(files.cni / "30-nameless.json", {"type": "bridge", "ipam": {"subnet": "10.26.0.0/24"}})
    files.write(files.cni / "space/nerdctl-two.conflist", {"name": "two", "plugins": [{"ipam": {"subnet": "10.27.0.0/24"}}]})
    files.write(files.cni / "README", b'{"ipam": {"subnet": "10.28.0.0/24"}}')
    assert engines.defined() == [
        *((subnet, "CNI network `cbr0`") for subnet in ("10.22.0.0/16", "10.23.0.0/16", "fd00:22::/64", "10.24.0.0/16")),
        ("10.25.0.0/24", "CNI network `one`"), ("10.26.0.0/24", "CNI network `30-nameless.json`"), ("10.27.0.0/24", "CNI network `two`"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31mred", "\u202etfel", "\ud800"])
def test_a_name_cannot_make_more_than_a_word_of_a_message(files: Files, name: str) -> None:
    files.write(files.cni / "x.conf", {"name": name, "ipam": {"subnet": "10.1.0.0/16"}})
    [(_, owner)] = engines.defined()
    assert owner.isprintable() and owner == f"CNI network `{name!a}`"
