"""The virtual machine, asked and handled by its tests: modules, cgroup files, web servers in containers."""

from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path

from tests.e2e.support import Minidocker, poll
from tests.pretend import sh

ROOT = Path("/var/lib/minidocker")
UNIFIED = Path("/sys/fs/cgroup")
MEMO = Path("/opt/memo.json")  # what the tests before a reboot tell those after it


def modules() -> set[str]:
    """The names of the modules that are loaded."""
    return {line.split()[0] for line in Path("/proc/modules").read_text().splitlines()}


def modprobe(name: str, loaded: bool) -> None:
    sh(f"modprobe {'' if loaded else '-r'} {name}")


def cgroup_of(pid: int) -> Path:
    """The directory of the cgroup that process `pid` is in."""
    return UNIFIED / Path(f"/proc/{pid}/cgroup").read_text().strip().removeprefix("0::/")


def cgroup(md: Minidocker, name: str) -> Path:
    """The directory of a running container's cgroup."""
    return cgroup_of(md.inspect(name)["State"]["Pid"])


def keyed(path: Path) -> dict[str, int]:
    """A flat keyed file, lines of `KEY NUMBER`."""
    return {key: int(value) for key, value in map(str.split, path.read_text().splitlines())}


def fetch(url: str) -> str:
    """What a web server answers, asked from the host as soon as it listens."""
    def ask() -> str:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    return str(poll(ask, f"{url} answers", 60))


def remember(**what: object) -> None:
    """Leave word for the tests after the next reboot, whatever becomes of the power."""
    MEMO.write_text(json.dumps(what))
    os.sync()


def remembered() -> dict[str, object]:
    return json.loads(MEMO.read_text())  # type: ignore[no-any-return]
