"""The hosts files that `names` keeps, as a network's name server reads them: on every query looked at, and read again only when changed.

    Networks ── this network's Hosts ─┐
             └─ the others' Hosts ────┴─► Table: by name, by address

The cost of a query does not grow with the network: new lines are added to its Table, and only a line that died or a file that was
compacted makes a new one.
"""

from __future__ import annotations

import os
import time

from minidocker.network import dns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_SETTLED = 2_000_000_000  # nanoseconds
_REREADS = 4
_SHORT_ID = 12  # names.hosts_lines
_HEX = b"0123456789abcdef"


class Table:
    """Who is in a network, by name and by address: the live lines of its hosts file (see `names`). `ids`: their short ids."""

    __slots__ = ("_by_address", "_suffix", "_v4", "_v6", "ids")

    def __init__(self, network: str) -> None:
        self._suffix = b"." + network.encode(errors="surrogateescape").lower()
        self._v4: dict[bytes, bytes] = {}  # lower-case name -> packed addresses, one after the other
        self._v6: dict[bytes, bytes] = {}
        self._by_address: dict[bytes, bytes] = {}  # packed address -> the words of its line
        self.ids: set[bytes] = set()

    def add(self, lines: bytes) -> None:
        """More of the file, whole lines. What is no container's line (a comment, localhost, what a killed writer left) is passed over."""
        for line in lines.split(b"\n"):
            if line.startswith(b"#"):
                continue
            address, _, names = line.partition(b"\t")
            names = names.strip()
            words = names.lower().split()
            if len(words) < 2 or len(words[-1]) != _SHORT_ID or words[-1].strip(_HEX):
                continue
            key = dns.packed(address.decode("latin-1"))
            if not key:
                continue
            addresses = self._v4 if len(key) == 4 else self._v6
            for word in dict.fromkeys(words):
                addresses[word] = addresses.get(word, b"") + key
            self._by_address[key] = names
            self.ids.add(words[-1])

    def find(self, name: bytes) -> tuple[bytes, bytes] | None:
        """The IPv4 and the IPv6 addresses of NAME or NAME.NETWORK, each packed and one after the other; None: nobody's name."""
        for key in (name, name.removesuffix(self._suffix)):
            if key in self._v4 or key in self._v6:
                return self._v4.get(key, b""), self._v6.get(key, b"")
        return None

    def name_of(self, address: bytes) -> bytes:
        """The first name of the container with this packed address, as it is written in a message; b"" when nobody has it."""
        for word in self._by_address.get(address, b"").split():
            if name := dns.encode(word):
                return name
        return b""

    def id_of(self, address: bytes) -> bytes:
        """The short id of the container with this packed address, b"" when nobody has it."""
        return self._by_address.get(address, b"")[-_SHORT_ID:]


class File:
    """A file's content, read again only when it may have changed. What is not there, or cannot be read, is empty."""

    __slots__ = ("_seen", "content", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self.content = b""
        self._seen: tuple[int, int, int] | None = None

    def refresh(self) -> bool:
        """Whether the content is another than it was."""
        stamp = _stamp(self.path)
        if stamp is not None and stamp == self._seen:
            return False
        self._seen = stamp
        content = _read(self.path)
        if content == self.content:
            return False
        for _ in range(_REREADS):  # a file that is being compacted (`names`) may be met half old, half new
            again = _read(self.path)
            if again == content:
                break
            content = again
        self.content = content
        return True


def _stamp(path: str) -> tuple[int, int, int] | None:
    """What is another after every change; None when it is not there, or was changed a moment ago. For a second change may come within
    the same tick of the clock that the kernel stamps files with (up to 10 ms), and the stamp is put on before the bytes are."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    if time.time_ns() - status.st_mtime_ns < _SETTLED:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _read(path: str) -> bytes:
    parts = []
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while part := os.read(descriptor, 65536):
                parts.append(part)
        finally:
            os.close(descriptor)
    except OSError:
        return b""
    return b"".join(parts)


class Hosts(File):
    """The hosts file of `network`, and once asked for, the table that is made from it: at its end new lines are added to the table, any
    other change makes a new one."""

    __slots__ = ("_absent", "_indexed", "_network", "_table")

    def __init__(self, directory: str, network: str) -> None:
        super().__init__(f"{directory}/{network}/hosts")
        self._network = network
        self._absent: set[bytes] = set()  # ids that were looked for: so that a network whose names nobody needs has no table
        self._forget()

    def _forget(self) -> None:
        self._table: Table | None = None
        self._indexed = b""

    def table(self) -> Table:
        self._look()
        return self._index()

    def has(self, id: bytes) -> bool:
        """Whether the container with this short id is in the network."""
        self._look()
        if self._table is None:
            if id in self._absent:
                return False
            if b" " + id + b"\n" not in self.content:
                self._absent.add(id)
                return False
        return id in self._index().ids

    def _look(self) -> None:
        if self.refresh():
            self._absent.clear()
            if not self.content.startswith(self._indexed):
                self._forget()

    def _index(self) -> Table:
        if self._table is None:
            self._table = Table(self._network)
        end = self.content.rfind(b"\n") + 1  # a line of which only a part is there yet has its turn when the rest is
        if end > len(self._indexed):
            self._table.add(self.content[len(self._indexed) : end])
            self._indexed = self.content[:end]
        return self._table


class Networks:
    """Every network's hosts file under `directory`, as the clients of one network may see them."""

    def __init__(self, directory: str, network: str) -> None:
        self._directory = directory
        self._network = network
        self._own = Hosts(directory, network)
        self._others: dict[str, Hosts] = {}
        self._listed: tuple[int, int, int] | None = None

    def tables(self, client: bytes) -> Iterator[Table]:
        """This network's, then those of the others that the container with the packed address `client` is in too: looked for only when
        this one does not know the name."""
        own = self._own.table()
        yield own
        if id := own.id_of(client):
            for hosts in self._elsewhere():
                if hosts.has(id):
                    yield hosts.table()

    def _elsewhere(self) -> Iterable[Hosts]:
        stamp = _stamp(self._directory)
        if stamp is None or stamp != self._listed:
            self._listed = stamp
            try:
                names = sorted(os.listdir(self._directory))
            except OSError:
                names = []
            self._others = {n: self._others.get(n) or Hosts(self._directory, n) for n in names if n != self._network}
        return self._others.values()
