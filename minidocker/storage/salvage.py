"""state.db that can no longer be trusted: whether it is damaged, and what can still be read of it. Cold.

A damaged database is never written. It is moved aside with its log, and its rows are copied one by one into a new one, each table from both
ends, as far as a page that cannot be read: the constraints of the new one judge them anew.
"""

from __future__ import annotations

import os
import time

from minidocker.errors import MinidockerError
from minidocker.storage.state import State, sqlite3

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_BESIDE = ("", "-wal", "-shm")


def damage(path: str) -> str:
    """What is wrong with the database in one line, "" where nothing is or there is none. Raises MinidockerError where that cannot be known:
    it is of a newer version, cannot be opened, or is locked."""
    if not os.path.exists(path):
        return ""
    try:
        state = State(path)
    except MinidockerError as error:
        return _said(error)
    try:
        found = [text for (text,) in state.rows("PRAGMA integrity_check(1)") if text != "ok"]
        found += [f"a row of {table} speaks of none in {parent}" for table, _, parent, _ in state.rows("PRAGMA foreign_key_check")]
    except MinidockerError as error:
        return _said(error)
    finally:
        state.close()
    return " ".join(found[0].split()) if found else ""


def _said(error: MinidockerError) -> str:
    cause = error.__cause__
    if getattr(cause, "sqlite_errorname", "").startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return str(cause)
    raise error


def restore(path: str) -> tuple[str, dict[str, int]]:
    """A new database with all that can be read of the damaged one: (where that is now, table -> rows). Raises MinidockerError; then the
    damaged one is where it was."""
    aside = time.strftime(f"{path}.damaged-%Y%m%d-%H%M%S")
    _move(path, aside)
    try:
        state = State(path)
        with state.transaction():
            saved = {table: _copy(aside, state, table) for table in _tables(state)}
        state.close()
    except BaseException:
        _move(aside, path)
        raise
    return aside, saved


def _move(old: str, new: str) -> None:
    for suffix in _BESIDE:
        if os.path.exists(old + suffix):
            os.rename(old + suffix, new + suffix)


def _tables(state: State) -> list[str]:
    """Those that others refer to first."""
    names = [name for (name,) in state.rows("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")]
    return sorted(names, key=lambda name: bool(state.rows(f"PRAGMA foreign_key_list({name})")))


def _copy(source: str, state: State, table: str) -> int:
    """How many rows were to be had."""
    columns = [row[1] for row in state.rows(f"PRAGMA table_info({table})")]
    keys = [row[1] for row in state.rows(f"PRAGMA table_info({table})") if row[5]] or ["rowid"]
    count = 0
    for row in _readable(source, table, columns, keys):
        names = ", ".join(row)
        try:
            query = f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({', '.join('?' * len(row))})"  # noqa: S608
            count += state.change(query, *row.values())
        except MinidockerError as error:
            if "constraint" not in str(error):
                raise
    return count


def _readable(source: str, table: str, columns: list[str], keys: list[str]) -> Iterator[dict[str, Any]]:
    """column -> value of each row that can be read, some of them twice; of the columns those that the damaged one has."""
    for direction in ("", " DESC"):
        connection = sqlite3.connect(source, isolation_level=None)
        try:
            had = [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[1] in columns]
            if had:
                order = ", ".join(key + direction for key in keys if key in had or key == "rowid") or had[0]
                query = f"SELECT {', '.join(had)} FROM {table} ORDER BY {order}"  # noqa: S608
                for row in connection.execute(query):
                    yield dict(zip(had, row, strict=True))
        except sqlite3.DatabaseError:
            pass  # from here on nothing can be read: what was there is the damage that is told
        finally:
            connection.close()
