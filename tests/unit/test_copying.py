"""`cp`: what the two sides mean, and tar streams that come back as they went."""

from __future__ import annotations

import io
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidocker.cli.copying import inside, outside, side
from minidocker.errors import MinidockerError, UsageError
from minidocker.storage import tarstream
from minidocker.storage.trees import Entry


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("web:/a", ("web", "/a")), ("web:a/b", ("web", "a/b")), ("web:/a:b", ("web", "/a:b")), ("/a:b", ("", "/a:b")),
        ("./a:b", ("", "./a:b")), ("../a:b", ("", "../a:b")), ("a", ("", "a")), ("-", ("", "-")), (".", ("", ".")),
    ],
)  # fmt: skip
def test_a_side(text: str, made: tuple[str, str]) -> None:
    assert side(text) == made


def test_a_side_is_whole() -> None:
    for text in (":", ":/a", "web:"):
        with pytest.raises(UsageError, match="CONTAINER:PATH is needed"):
            side(text)
    assert (inside("a/."), inside("/a"), outside("-", "/h"), outside("a/", "/h"), outside("/a", "/h")) == ("/a/.", "/a", "-", "/h/a/", "/a")


def entry(name: str, kind: int, content: bytes = b"", link: str = "") -> Entry:
    made = Entry(name)
    made.kind, made.mode, made.uid, made.gid, made.rdev = kind, 0o644, 1, 2, 0
    made.mtime_ns, made.link, made.size = 5 * 10**9, link, len(content)
    if kind == stat.S_IFREG and not link:
        made.read = io.BytesIO(content).read
    return made


parts = st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=120).filter(lambda part: part not in (".", ".."))


@given(st.lists(st.tuples(st.lists(parts, min_size=1, max_size=3).map("/".join), st.binary(max_size=2000)), max_size=5),
       st.booleans())  # fmt: skip
def test_a_stream_comes_back(files: list[tuple[str, bytes]], surrogates: bool) -> None:
    files = [(name + "\udcff" * surrogates, content) for name, content in files if not any(0xD800 <= ord(c) < 0xE000 for c in name)]
    stream = io.BytesIO()
    entries = [entry("", stat.S_IFDIR), *(entry(name, stat.S_IFREG, content) for name, content in files)]
    assert tarstream.write(stream, entries, "top") == len(entries)
    stream.seek(0)
    found = []
    for one in tarstream.read(stream, lambda text: pytest.fail(text)):
        content = one.read(1 << 20) if one.read is not None else b""
        found.append((one.name, content, one.kind, one.mode, one.uid, one.gid, one.mtime_ns))
    rest = (0o644, 1, 2, 5 * 10**9)
    assert found == [("top", b"", stat.S_IFDIR, *rest), *((f"top/{name}", content, stat.S_IFREG, *rest) for name, content in files)]


def test_a_file_that_shrinks_is_filled_up_and_one_that_grows_is_cut() -> None:
    shrunk, grown = entry("a", stat.S_IFREG, b"abc"), entry("b", stat.S_IFREG, b"abc")
    shrunk.size, grown.size = 5, 2
    stream = io.BytesIO()
    tarstream.write(stream, [shrunk, grown], "t")
    stream.seek(0)
    assert [one.read(9) for one in tarstream.read(stream, print) if one.read is not None] == [b"abc\0\0", b"ab"]


@given(st.binary(max_size=1500))
def test_any_bytes_are_a_stream_or_refused(data: bytes) -> None:
    try:
        for one in tarstream.read(io.BytesIO(data), lambda text: None):
            assert ".." not in one.name.split("/") and not one.name.startswith("/")
    except MinidockerError as error:
        assert "tar stream" in error.message
