"""state.db: what must outlive a process. SQLite in WAL mode, one transaction a change, uniqueness by constraint.

A connection is never used on the far side of a fork,
and is seldom closed: closing the last one checkpoints (3 ms of fsync), ending the process does not, and the log is as
durable.
"""

from __future__ import annotations

import os
import sys

from minidocker.errors import ConflictError, MinidockerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

def _load_sqlite() -> Any:
    """`_sqlite3`, the module behind `sqlite3`, without 3 ms of adapters for dates and 5 ms of functools.

    It imports functools for lru_cache alone, which is C too and reached directly; so while it is being loaded a stand-in with just
    that answers to the name. Where functools is loaded already, or lru_cache is made of something else, nothing is put in its way.
    """
    if "functools" not in sys.modules:
        try:
            from _functools import _lru_cache_wrapper
        except ImportError:
            import functools  # noqa: F401  (another interpreter than CPython)
        else:
            stand_in = type(sys)("functools")
            stand_in.__dict__["lru_cache"] = lambda maxsize: lambda function: _lru_cache_wrapper(function, maxsize, False, tuple)
            sys.modules["functools"] = stand_in
            try:
                import _sqlite3
            finally:
                del sys.modules["functools"]
            return _sqlite3
    import _sqlite3

    return _sqlite3


sqlite3 = _load_sqlite()
_BUSY_MS = 60_000

# Each entry brings a database from its index's version to the next; user_version says which one it has.
MIGRATIONS = (
    """
    CREATE TABLE networks (
        name TEXT PRIMARY KEY, id TEXT NOT NULL UNIQUE, driver TEXT NOT NULL, subnet TEXT NOT NULL UNIQUE, gateway TEXT NOT NULL,
        bridge TEXT NOT NULL UNIQUE, mtu INTEGER NOT NULL, internal INTEGER NOT NULL, labels TEXT NOT NULL, created REAL NOT NULL,
        last_ip TEXT NOT NULL DEFAULT ''
    ) WITHOUT ROWID;
    CREATE TABLE containers (
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, status TEXT NOT NULL, request TEXT NOT NULL, boot TEXT NOT NULL,
        created REAL NOT NULL, started REAL NOT NULL DEFAULT 0, finished REAL NOT NULL DEFAULT 0, exit_code INTEGER,
        oom_killed INTEGER NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '', pid INTEGER NOT NULL DEFAULT 0,
        generation INTEGER NOT NULL DEFAULT 1, netns INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID;
    CREATE TABLE endpoints (
        container TEXT NOT NULL REFERENCES containers (id) ON DELETE CASCADE, network TEXT NOT NULL REFERENCES networks (name),
        ip TEXT NOT NULL, mac TEXT NOT NULL, aliases TEXT NOT NULL,
        PRIMARY KEY (container, network), UNIQUE (network, ip), UNIQUE (network, mac)
    ) WITHOUT ROWID;
    CREATE TABLE ports (
        container TEXT NOT NULL REFERENCES containers (id) ON DELETE CASCADE, host_ip TEXT NOT NULL, host_port INTEGER NOT NULL,
        container_port INTEGER NOT NULL, protocol TEXT NOT NULL, UNIQUE (protocol, host_port, host_ip)
    );
    CREATE INDEX ports_of ON ports (container);
    CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    """,
    # Several networks a container, networks without a bridge, IPv6. A table with a constraint that goes is made anew.
    """
    CREATE TABLE networks2 (
        name TEXT PRIMARY KEY, id TEXT NOT NULL UNIQUE, driver TEXT NOT NULL, subnet TEXT NOT NULL UNIQUE, gateway TEXT NOT NULL,
        bridge TEXT NOT NULL, mtu INTEGER NOT NULL, internal INTEGER NOT NULL, labels TEXT NOT NULL, created REAL NOT NULL,
        last_ip TEXT NOT NULL DEFAULT '', subnet6 TEXT NOT NULL DEFAULT '', gateway6 TEXT NOT NULL DEFAULT '',
        ip_range TEXT NOT NULL DEFAULT '', isolated INTEGER NOT NULL DEFAULT 0, parent TEXT NOT NULL DEFAULT '',
        mode TEXT NOT NULL DEFAULT ''
    ) WITHOUT ROWID;
    INSERT INTO networks2 (name, id, driver, subnet, gateway, bridge, mtu, internal, labels, created, last_ip)
        SELECT name, id, driver, subnet, gateway, bridge, mtu, internal, labels, created, last_ip FROM networks;
    DROP TABLE networks;
    ALTER TABLE networks2 RENAME TO networks;
    CREATE UNIQUE INDEX networks_bridge ON networks (bridge) WHERE bridge <> '';
    CREATE UNIQUE INDEX networks_subnet6 ON networks (subnet6) WHERE subnet6 <> '';
    ALTER TABLE endpoints ADD COLUMN ip6 TEXT NOT NULL DEFAULT '';
    ALTER TABLE endpoints ADD COLUMN interface INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE endpoints ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE endpoints ADD COLUMN connecting INTEGER NOT NULL DEFAULT 0;
    CREATE UNIQUE INDEX endpoints_ip6 ON endpoints (network, ip6) WHERE ip6 <> '';
    CREATE UNIQUE INDEX endpoints_interface ON endpoints (container, interface);
    ALTER TABLE containers ADD COLUMN addresses TEXT NOT NULL DEFAULT '{}';
    """,
    # Volumes, and which containers have them, ended ones too. One that is `removing` is gone but for its files.
    """
    CREATE TABLE volumes (
        name TEXT PRIMARY KEY, anonymous INTEGER NOT NULL, labels TEXT NOT NULL, created REAL NOT NULL, removing INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID;
    CREATE TABLE volume_uses (
        container TEXT NOT NULL REFERENCES containers (id) ON DELETE CASCADE, volume TEXT NOT NULL REFERENCES volumes (name),
        PRIMARY KEY (volume, container)
    ) WITHOUT ROWID;
    CREATE INDEX volume_uses_of ON volume_uses (container);
    """,
    # Restart policies: how often it was restarted, how long the last wait was (seconds), whether the user has ended it. What its health
    # check has found, as JSON.
    """
    ALTER TABLE containers ADD COLUMN restarts INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE containers ADD COLUMN backoff REAL NOT NULL DEFAULT 0;
    ALTER TABLE containers ADD COLUMN stopped INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE containers ADD COLUMN health TEXT NOT NULL DEFAULT '';
    """,
)


class State:
    """One connection to the database at `path`; made and migrated on first use. Raises MinidockerError."""

    __slots__ = ("connection", "path", "pid")

    def __init__(self, path: str) -> None:
        self.path = path
        self.pid = os.getpid()
        umask = os.umask(0o077)  # it holds what -e gives containers to know; SQLite gives the files beside it the same mode
        try:
            self.connection = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_MS / 1000)
            self.connection.execute("PRAGMA synchronous = NORMAL")
            self.connection.execute("PRAGMA foreign_keys = ON")
            self._migrate()
        except sqlite3.Error as error:
            raise self._translated(error) from error
        finally:
            os.umask(umask)

    def _migrate(self) -> None:
        (version,) = self.connection.execute("PRAGMA user_version").fetchone()
        if version == len(MIGRATIONS):
            return
        if version > len(MIGRATIONS):
            raise MinidockerError(
                f"{self.path} is of version {version}, made by a newer minidocker; this one knows {len(MIGRATIONS)}",
                "use the newer minidocker, or another --root",
            )
        turn = _take_turn(self.path)
        try:
            self.connection.execute("PRAGMA journal_mode = WAL")
            self.connection.execute("PRAGMA foreign_keys = OFF")  # a table made anew keeps its references
            with self.transaction():
                # another process may have been faster
                (version,) = self.connection.execute("PRAGMA user_version").fetchone()
                for migration in MIGRATIONS[version:]:
                    for statement in migration.split(";"):
                        self.connection.execute(statement)
                self.connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
            self.connection.execute("PRAGMA foreign_keys = ON")
        finally:
            os.close(turn)

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of a query, or of a change's RETURNING; a broken uniqueness is a ConflictError."""
        try:
            found: list[tuple[Any, ...]] = self.connection.execute(query, values).fetchall()
            return found
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def row(self, query: str, *values: Any) -> tuple[Any, ...] | None:
        found = self.rows(query, *values)
        return found[0] if found else None

    def change(self, statement: str, *values: Any) -> int:
        """Execute one statement; returns how many rows it touched."""
        try:
            return int(self.connection.execute(statement, values).rowcount)
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def transaction(self) -> Transaction:
        """`with state.transaction():` all of it or nothing; the write lock is taken at its start."""
        return Transaction(self)

    def close(self) -> None:
        self.connection.close()

    def _translated(self, error: Exception) -> MinidockerError:
        name = getattr(error, "sqlite_errorname", "") or ""
        if name.startswith("SQLITE_CONSTRAINT"):
            return ConflictError(str(error))
        explained = {
            "SQLITE_FULL": ("the disk is full", f"make room on the file system of {self.path}"),
            "SQLITE_READONLY": ("it cannot be written", "is the file system mounted read-only?"),
            "SQLITE_CANTOPEN": ("it cannot be opened", "do you have the rights to it? is the path right?"),
            "SQLITE_CORRUPT": ("it is damaged", "running containers go on; minidocker system check --repair saves what can be read"),
            "SQLITE_NOTADB": ("it is not a database", "running containers go on; minidocker system check --repair begins a new one"),
            "SQLITE_BUSY": ("another process has kept it locked for a minute", "is one of minidocker's processes stopped?"),
            "SQLITE_IOERR": ("the disk failed", f"look at the file system of {self.path}"),
        }
        for prefix, (cause, hint) in explained.items():
            if name.startswith(prefix):
                return MinidockerError(f"use the state in {self.path}: {cause}", hint)
        return MinidockerError(f"use the state in {self.path}: {error}")


def _take_turn(path: str) -> int:
    """Wait for a lock on the database's directory, held until the descriptor is closed. Of two that switch to WAL at once SQLite tells
    one "locked" without waiting, lest they wait for each other."""
    import fcntl

    descriptor = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


class Transaction:
    """BEGIN IMMEDIATE ... COMMIT, or ROLLBACK when an exception passes."""

    __slots__ = ("state",)

    def __init__(self, state: State) -> None:
        self.state = state

    def __enter__(self) -> State:
        self.state.change("BEGIN IMMEDIATE")
        return self.state

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            try:
                self.state.change("COMMIT")
            except MinidockerError:
                self._roll_back()
                raise
        else:
            self._roll_back()

    def _roll_back(self) -> None:
        # SQLite rolls back by itself on some failures (disk full); a second ROLLBACK is then an error of no interest
        if self.state.connection.in_transaction:
            self.state.change("ROLLBACK")
