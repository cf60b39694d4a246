"""The names in state.db for who must answer at once and change nothing, shell completion: no migration, no repair, no file made."""

from __future__ import annotations

import os

_AT_MOST = 0.2  # seconds to wait for a lock


def names(root: str) -> dict[str, list[tuple[str, str]]]:
    """"container": (name, status), "network": (name, subnet), "volume": (name, ""); nothing where there is no state, or none that can be
    read now."""
    path = f"{root}/state.db"
    found: dict[str, list[tuple[str, str]]] = {"container": [], "network": [], "volume": []}
    if not os.path.exists(path):
        return found
    from minidocker.storage.state import sqlite3

    queries = {
        "container": "SELECT name, status FROM containers ORDER BY name", "network": "SELECT name, subnet FROM networks ORDER BY name",
        "volume": "SELECT name, '' FROM volumes WHERE NOT anonymous AND NOT removing ORDER BY name",
    }  # fmt: skip
    try:
        connection = sqlite3.connect(path, timeout=_AT_MOST)
        connection.execute("PRAGMA query_only = 1")
        for kind, query in queries.items():
            found[kind] = [(str(name), str(about)) for name, about in connection.execute(query)]
        connection.close()
    except sqlite3.Error:
        return found  # who presses TAB wants no message: the command itself will say what is wrong
    return found
