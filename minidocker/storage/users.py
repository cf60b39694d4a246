"""Who a container's process is: `-u USER[:GROUP]` against the passwd and group files of its root file system.

Those files may be hostile (a fifo, a link, gigabytes): they are opened inside the root, must be regular, and are read to a bound.
"""

from __future__ import annotations

import os
import stat

from minidocker.errors import NotFoundError, UsageError
from minidocker.kernel import mounts as k

_LARGEST = 1 << 20


class User:
    """uid, gid, supplementary gids and home directory."""

    __slots__ = ("gid", "groups", "home", "uid")

    def __init__(self, uid: int, gid: int, groups: list[int], home: str) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.home = home


def read_in_root(root: int, path: str) -> str:
    """The text of a regular file inside the root directory `root`, at most 1 MiB of it; "" when there is none."""
    try:
        found = k.open_in_root(root, path)
    except OSError:
        return ""
    try:
        # looked at before it is opened: to open a device is to do something to it (a watchdog starts), and we may what a container may not
        if not stat.S_ISREG(os.fstat(found).st_mode):
            return ""
        descriptor = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(found)
    try:
        data = b""
        while len(data) < _LARGEST and (more := os.read(descriptor, 65536)):
            data += more
        return data.decode(errors="replace")
    finally:
        os.close(descriptor)


def resolve(wanted: str | None, root: int) -> User:
    """`wanted` is USER[:GROUP], names or numbers; None is root. `root` a descriptor of the container's root directory."""
    return lookup(wanted or "0", read_in_root(root, "/etc/passwd"), read_in_root(root, "/etc/group"))


def lookup(wanted: str, passwd: str, group: str) -> User:
    """Pure. A number needs no entry, a name does. Raises NotFoundError or UsageError, naming it.

    The primary group is one of the supplementary ones too: a setgid program would otherwise be rid of what that group is denied
    (CVE-2022-36109).
    """
    user, _, group_name = wanted.partition(":")
    entry = next((f for f in _entries(passwd, 7) if f[0] == user), None)
    if entry is None and _is_number(user):
        uid = _number(user, "uid")
        entry = next((f for f in _entries(passwd, 7) if f[2] == user), None) or [user, "x", str(uid), "0", "", "/", ""]
    if entry is None:
        raise NotFoundError(f"no user `{user}` in the container's /etc/passwd", "a number needs no entry: -u 1000")
    uid, gid, home = _number(entry[2], "uid"), _number(entry[3], "gid"), entry[5] or "/"
    if group_name:
        gid = group_of(group_name, group)
        return User(uid, gid, [gid], home)
    member_of = [_number(f[2], "gid") for f in _entries(group, 4) if entry[0] in f[3].split(",")]
    return User(uid, gid, [gid, *(g for g in member_of if g != gid)], home)


def group_of(wanted: str, text: str) -> int:
    """The number of a group, by the text of a group file; a number needs no entry. Raises NotFoundError."""
    for fields in _entries(text, 4):
        if fields[0] == wanted:
            return _number(fields[2], "gid")
    if _is_number(wanted):
        return _number(wanted, "gid")
    raise NotFoundError(f"no group `{wanted}` in the container's /etc/group", "a number needs no entry")


def _entries(text: str, count: int) -> list[list[str]]:
    """The well-formed lines of a passwd(5) or group(5) file; others are passed over, as libc does."""
    numbers = slice(2, 4 if count == 7 else 3)
    lines = (line.split(":") for line in text.split("\n") if "\0" not in line)
    return [fields for fields in lines if len(fields) == count and all(map(_is_number, fields[numbers]))]


def _is_number(text: str) -> bool:
    """What int() takes and is no longer than an id can be."""
    return text.isascii() and text.isdigit() and len(text) <= 10


def _number(text: str, what: str) -> int:
    number = int(text)
    if number > 0xFFFFFFFE:
        raise UsageError(f"{what} {text} is out of range: at most {0xFFFFFFFE}")
    return number
