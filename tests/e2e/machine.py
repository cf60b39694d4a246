"""The whole machine as one value, to be compared before and after; and the family of processes that a test has started."""

from __future__ import annotations

import ctypes
import json
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any

from tests import pretend
from tests.e2e.support import Minidocker

_PR_SET_CHILD_SUBREAPER = 36
Picture = dict[str, Any]

# One shell for all of it: a picture is taken hundreds of times.
_ASK = """
ip -d -j link; echo; echo ---; ip -j addr; echo; echo ---; ip -j route show table all; echo; echo ---; ip -j rule; echo; echo ---
ip -j neigh show nud permanent; echo; echo ---; nft -s list ruleset; echo; echo ---
cd /proc/sys/net/ipv4; grep -s . ip_forward conf/*/forwarding conf/*/route_localnet
"""


def picture(md: Minidocker, family: Family | None = None) -> Picture:
    """All that a command could change, but for what is kept for the next one: the skeletons of hostview/, the compiled filters of cache/,
    which address was leased last, the lock of the networks."""
    *parts, nft, settings = pretend.sh(_ASK, check=False).split("---\n")
    links, addresses, routes, rules, neighbours = (json.loads(part.strip() or "[]") for part in parts)
    return {
        "links": sorted(map(_steady, links), key=str),
        "addresses": sorted(f"{link['ifname']}: {a['local']}/{a['prefixlen']}" for link in addresses if link for a in link["addr_info"]),
        "routes": sorted((sorted((k, str(v)) for k, v in route.items() if k != "flags") for route in routes), key=str),
        "rules": rules,
        "neighbours": sorted(map(str, neighbours)),
        "nft": nft.splitlines(),
        "settings": settings.splitlines(),
        "mounts": [line.split(" ", 3)[3] for line in Path("/proc/self/mountinfo").read_text().splitlines()],
        "cgroups": sorted(map(str, md.cgroups())),
        "netns": {name: os.readlink(path) if (path := f"/run/netns/{name}") and os.path.islink(path) else os.stat(path).st_ino
                  for name in os.listdir("/run/netns")},
        "run": files(md.run_directory, but=("network.lock",)),
        "data": files(md.root, but=("hostview", "cache", "state.db", "state.db-wal", "state.db-shm")),
        "records": records(md.root / "state.db"),
        "processes": family.others() if family else [],
    }  # fmt: skip


def visible() -> Picture:
    """What anybody sees of containers that were not cleaned up, whichever data root's."""
    mounts = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return {
        "links": sorted(str(link["ifname"]) for link in pretend.ip("link")),
        "routes": pretend.sh("ip route show table all type unicast"),
        "namespaces": sorted(os.listdir("/run/netns")),
        "mounts": sorted(mount for mount in mounts if "minidocker" in mount),
    }


def _steady(link: dict[str, Any]) -> dict[str, Any]:
    """Without what changes by itself: timers, and whether a bridge has a port that is up."""
    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: clean(v) for k, v in value.items() if "timer" not in k and k not in ("operstate", "link_netnsid")}
        return [v for v in value if v not in ("LOWER_UP", "NO-CARRIER")] if isinstance(value, list) else value

    return clean(link)  # type: ignore[no-any-return]


def files(top: Path, but: tuple[str, ...] = ()) -> list[str]:
    """Every path below `top`; `but` names of its entries are left out."""
    found = []
    for directory, names, others in os.walk(top):
        if directory == str(top):
            names[:] = [name for name in names if name not in but]
            others = [name for name in others if name not in but]
        found += [os.path.relpath(os.path.join(directory, name), top) for name in (*names, *others)]
    return sorted(found)


def records(database: Path) -> dict[str, list[Any]]:
    """What state.db says. The address that was leased last only moves on, and an empty setting is none."""
    if not database.exists():
        return {}
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        if connection.execute("PRAGMA user_version").fetchone() == (0,):
            return {}  # nobody has got as far as to make its tables
        return {
            "networks": connection.execute("SELECT name, id, subnet, gateway, bridge FROM networks ORDER BY name").fetchall(),
            "settings": connection.execute("SELECT * FROM settings WHERE value <> '' ORDER BY name").fetchall(),
            **{table: connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in ("containers", "endpoints", "ports")},
        }


def differences(before: Picture, after: Picture) -> dict[str, Any]:
    """What is there no longer, and what is new."""
    found = {}
    for kind in before:
        old, new = ([str(x) for x in (p[kind].items() if isinstance(p[kind], dict) else p[kind])] for p in (before, after))
        if before[kind] != after[kind]:
            found[kind] = {"gone": [x for x in old if x not in new], "new": [x for x in new if x not in old]}
    return found


def await_picture(md: Minidocker, before: Picture, family: Family | None = None, seconds: float = 2.0) -> None:
    """Veths go some 50 ms after their namespace, processes soon after they were killed; nothing else may take its time."""
    deadline = time.monotonic() + seconds
    while (now := picture(md, family)) != before:
        assert time.monotonic() < deadline, f"the machine has changed: {differences(before, now)}"
        time.sleep(0.01)


class Family:
    """All processes that a test starts: while this is entered, orphans become this process's children and are reaped.

    `mine` are the pids that somebody else waits for (subprocess.Popen).
    """

    def __init__(self) -> None:
        self.mine: set[int] = set()
        self._libc = ctypes.CDLL(None)

    def __enter__(self) -> Family:
        self._libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.mine = set(children(os.getpid()))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)

    def orphans(self) -> list[int]:
        """The living children that came to us from others."""
        found = []
        for pid in children(os.getpid()):
            if pid in self.mine:
                continue
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                found.append(pid)
        return found

    def others(self) -> list[str]:
        """The command lines of all that live and came from others."""
        return sorted(command_line(pid) for orphan in self.orphans() for pid in (orphan, *descendants(orphan)))


def children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def descendants(pid: int) -> list[int]:
    return [each for child in children(pid) for each in (child, *descendants(child))]


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def is_alive(pid: int) -> bool:
    """Neither gone nor a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
