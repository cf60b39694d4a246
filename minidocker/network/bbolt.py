"""The pairs of a bbolt database (go.etcd.io/bbolt, once boltdb: docker keeps its networks in one), read while its owner may write it.

    file     pages of one size; 0 and 1 are metas, of which the newer valid one counts
    page     id u64, flags u16, count u16, overflow u32; its body goes on over `overflow` pages more
    meta     magic, version, page size, flags u32; root bucket's page, its sequence, freelist, end of the pages, transaction u64;
             FNV-1a of all that, u64
    branch   count x (position, key size u32, child's page u64), then the keys
    leaf     count x (flags, position, key size, value size u32), then keys and values; positions count from their own element
    bucket   a leaf's value with flag 1: root page, sequence u64; with root 0 the bucket's only leaf page follows at once

Numbers are in the byte order of the machine that wrote them. (bbolt: internal/common/page.go, meta.go, bucket.go.) A writer never
changes a page that the newest meta leads to; it writes others, and then the other meta. So what a copy's newest meta leads to is whole
if that meta is still the newest when the copy is made. A lock is neither taken nor looked at: dockerd holds it as long as it runs.
Cold path.
"""

from __future__ import annotations

import os
import stat
import time
from _struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST = 64 << 20  # bytes; docker keeps some 6,000 for a network
TRIES = 5
_PAUSE = 0.01  # seconds, between tries: a transaction takes about one fsync

_MAGIC, _VERSION = 0xED0CDAED, 2
_BRANCH_PAGE, _LEAF_PAGE = 1, 2
_IS_BUCKET = 1
_PAGE = Struct("=QHHI")
_META = Struct("=IIIIQQQQQQ")
_BRANCH = Struct("=IIQ")
_LEAF = Struct("=IIII")
_BUCKET = Struct("=QQ")
_CHECKSUM = Struct("=Q")
_PAGE_SIZES = [1 << shift for shift in range(10, 17)]


class Malformed(ValueError):
    """These bytes are no bbolt database, or one that was written while it was read."""


def pairs(descriptor: int, *path: bytes) -> list[tuple[bytes, bytes]]:
    """The (key, value) pairs of the bucket that `path` leads to, in order of the keys; [] where there is no such bucket.

    `descriptor` is of a regular file, open for reading. Raises Malformed, after some tries, and OSError.
    """
    for left in reversed(range(TRIES)):
        try:
            return contents(_copy(descriptor), *path)
        except Malformed:
            if not left:
                raise
            time.sleep(_PAUSE)
    raise AssertionError  # the last try has returned or raised


def contents(data: bytes, *path: bytes) -> list[tuple[bytes, bytes]]:
    """`pairs` of a database that is in memory."""
    tree = _Tree(data)
    page = tree.page(tree.root)
    for name in path:
        value = next((value for flags, key, value in tree.elements(page) if flags & _IS_BUCKET and key == name), None)
        if value is None:
            return []
        page = tree.bucket(value)
    return [(key, value) for flags, key, value in tree.elements(page) if not flags & _IS_BUCKET]


def _copy(descriptor: int) -> bytes:
    """All of the file, of one moment: whoever commits meanwhile writes a meta, and then it is Malformed."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
        raise Malformed(f"no regular file of at most {LARGEST} bytes")
    data = os.pread(descriptor, status.st_size, 0)
    metas = _newest_meta(data)[1] * 2
    if os.pread(descriptor, metas, 0) != data[:metas]:
        raise Malformed("written while it was read")
    return data


def _newest_meta(data: bytes) -> tuple[int, int, int, int]:
    """(transaction, page size, root bucket's page, end of the pages) of the valid meta with the higher transaction."""
    first = _meta(data, 0)
    # Where the second is follows from the first; if that one is torn, it is tried where it may be.
    found = [meta for size in ([first[1]] if first else _PAGE_SIZES) if (meta := _meta(data, size)) and meta[1] == size]
    if first:
        found.append(first)
    if not found:
        raise Malformed("no valid meta page")
    return max(found)


def _meta(data: bytes, offset: int) -> tuple[int, int, int, int] | None:
    start = offset + _PAGE.size
    if len(data) < start + _META.size:
        return None
    magic, version, size, _, root, _, _, end, transaction, checksum = _META.unpack_from(data, start)
    if (magic, version) != (_MAGIC, _VERSION) or checksum != fnv1a(data[start : start + _META.size - _CHECKSUM.size]):
        return None
    return (transaction, size, root, end) if size in _PAGE_SIZES else None


def fnv1a(data: bytes) -> int:
    """The 64-bit FNV-1a hash (draft-eastlake-fnv) of `data`."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


class _Tree:
    """The pages of one copy. Each can be had once, and no two of their elements share a byte: whatever the bytes say, no walk takes more
    time or memory than the file is long."""

    __slots__ = ("data", "end", "root", "seen", "size")

    def __init__(self, data: bytes) -> None:
        _, self.size, self.root, self.end = _newest_meta(data)
        self.data = data
        self.seen: set[int] = set()

    def page(self, number: int) -> bytes:
        """The page with this number, what it overflows into included."""
        offset = number * self.size
        if not 2 <= number < self.end or offset + _PAGE.size > len(self.data):
            raise Malformed(f"page {number} is not in the file")
        identity, _, _, overflow = _PAGE.unpack_from(self.data, offset)
        after = number + overflow + 1
        if identity != number or after > self.end or after * self.size > len(self.data):
            raise Malformed(f"page {number} is another's, or cut off")
        run = range(number, after)
        if not self.seen.isdisjoint(run):
            raise Malformed(f"page {number} is in two places")
        self.seen.update(run)
        return self.data[offset : after * self.size]

    def bucket(self, value: bytes) -> bytes:
        """The root page of the bucket that a leaf element's value says."""
        if len(value) < _BUCKET.size:
            raise Malformed("a bucket without a header")
        root, _ = _BUCKET.unpack_from(value)
        return self.page(root) if root else value[_BUCKET.size :]

    def elements(self, page: bytes) -> Iterator[tuple[int, bytes, bytes]]:
        """(flags, key, value) of every leaf element at or below `page`."""
        stack = [page]
        last = None
        while stack:
            page = stack.pop()
            if len(page) < _PAGE.size:
                raise Malformed("a page without a header")
            _, kind, count, _ = _PAGE.unpack_from(page)
            if kind == _BRANCH_PAGE:
                stack += [self.page(child) for child in reversed(_children(page, count))]
            elif kind == _LEAF_PAGE:
                for flags, key, value in _leaf(page, count):
                    if last is not None and key <= last:
                        raise Malformed("keys out of order")
                    last = key
                    yield flags, key, value
            else:
                raise Malformed(f"a page of kind {kind} in a tree")


def _children(page: bytes, count: int) -> list[int]:
    """The page numbers in a branch page. Its keys only say where to search; all is read here."""
    if not count or _PAGE.size + count * _BRANCH.size > len(page):
        raise Malformed("a branch page with no element, or too many")
    return [_BRANCH.unpack_from(page, _PAGE.size + index * _BRANCH.size)[2] for index in range(count)]


def _leaf(page: bytes, count: int) -> Iterator[tuple[int, bytes, bytes]]:
    """(flags, key, value) of a leaf page's elements."""
    free = _PAGE.size + count * _LEAF.size  # whatever lies before is taken
    if free > len(page):
        raise Malformed("a leaf page with too many elements")
    for element in range(_PAGE.size, free, _LEAF.size):
        flags, position, key_size, value_size = _LEAF.unpack_from(page, element)
        key = element + position
        value = key + key_size
        if key < free or value + value_size > len(page):
            raise Malformed("an element that is not in its page")
        free = value + value_size
        yield flags, page[key:value], page[value:free]
