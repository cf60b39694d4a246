"""How containers find each other and the world by name: a hosts file per network, resolv.conf, and the `ip netns` link.

The hosts file is one for the whole network, bind-mounted read-only into every container as the same inode, so a line appended to
it is seen by all at once, and adding the five-hundredth container costs what the first did. It is therefore only ever changed
in place: appended to, a line made a comment by its first byte, or written over as a whole. `hosts.ID` beside it is the private file of
a container that has --add-host or is in several networks: one file, linked into each of their directories, that gets the lines of all.
All changes happen under a lock on the directory, and on the file. The network's DNS answers from these files, too.
"""

from __future__ import annotations

import errno
import fcntl
import os

from minidocker.errors import KernelError
from minidocker.network.occupied import nameservers
from minidocker.plan import FILESYSTEM, NETWORK, START, At, Step, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

HOSTS = "hosts"
NETNS_DIRECTORY = "/run/netns"  # ip-netns(8)
STUB_RESOLVERS = ("127.0.0.53", "127.0.0.54")  # systemd-resolved(8)
SHORT_ID = 12
_COMPACT_FROM = 64  # dead lines: below, a file is too small to matter


def hosts_header(extra: Sequence[tuple[str, str]] = ()) -> str:
    """What a hosts file begins with; `extra` are --add-host's (name, ip)."""
    lines = ["127.0.0.1\tlocalhost", *(f"{ip}\t{name}" for name, ip in extra)]
    return "".join(f"{line}\n" for line in lines)


def hosts_lines(ips: Sequence[str], name: str, aliases: Sequence[str], container_id: str) -> str:
    """A container's lines, one for each of its addresses ("" is none): its name, its aliases, its short id last (by which `remove` finds
    it). A full domain name comes first: what stands there is the canonical name, which `hostname -f` prints (hosts(5))."""
    words = sorted(dict.fromkeys([name, *aliases]), key=lambda word: "." not in word)
    return "".join(f"{ip}\t{' '.join(words)} {container_id[:SHORT_ID]}\n" for ip in ips if ip)


def create(directory: str) -> str:
    """The path of the network's hosts file, made if it is not there."""
    os.makedirs(directory, mode=0o755, exist_ok=True)
    path = f"{directory}/{HOSTS}"
    with _Locked(directory):
        if not os.path.exists(path):
            _write(path, hosts_header().encode())
    return path


def create_private(path: str, directories: Sequence[str], container_id: str, extra: Sequence[tuple[str, str]]) -> None:
    """Make a hosts file for one container alone: `extra` (name, ip) and, now and later, every line of the networks' whose directories
    these are."""
    header = hosts_header().encode()
    for directory in directories:
        create(directory)
    with open(path, "wb", buffering=0) as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(hosts_header(extra).encode())
    for directory in directories:
        with _Locked(directory):
            _link_private(path, directory, container_id, header)


def join_private(path: str, directory: str, container_id: str) -> None:
    """Have a container's private file get another network's lines, too."""
    create(directory)
    with _Locked(directory):
        _link_private(path, directory, container_id, hosts_header().encode())


def _link_private(path: str, directory: str, container_id: str, header: bytes) -> None:
    with open(f"{directory}/{HOSTS}", "rb") as shared:
        lines = shared.read().removeprefix(header).splitlines(keepends=True)
    _append(path, b"".join(line for line in lines if not line.startswith(b"#")))
    link = f"{directory}/{HOSTS}.{container_id}"
    try:
        os.unlink(link)  # of a start that was killed
    except FileNotFoundError:
        pass
    os.link(path, link)


def add(directory: str, lines: str) -> None:
    """Append `lines` (hosts_lines') to the network's hosts file and the private ones."""
    with _Locked(directory):
        for path in _files(directory):
            _append(path, lines.encode())


def remove(directory: str, container_id: str, ips: Sequence[str]) -> None:
    """Make the container's lines with these addresses comments in every file, and take its private file out. Idempotent."""
    if not os.path.isdir(directory):
        return
    own = f"{directory}/{HOSTS}.{container_id}"
    with _Locked(directory):
        for path in _files(directory):
            for ip in filter(None, ips):
                _comment_out(path, f"{ip}\t".encode(), f" {container_id[:SHORT_ID]}\n".encode())
        try:
            os.unlink(own)
        except FileNotFoundError:
            pass


def rename(directory: str, container_id: str, ips: Sequence[str], lines: str) -> None:
    """Have `lines` (hosts_lines') in every file in place of the container's others with these addresses. Idempotent. In between it is found
    by what it was called before and by what it is called now."""
    kept = lines.encode().splitlines(keepends=True)
    with _Locked(directory):
        for path in _files(directory):
            _append(path, lines.encode())
            for ip in filter(None, ips):
                _comment_out(path, f"{ip}\t".encode(), f" {container_id[:SHORT_ID]}\n".encode(), kept)


def leave_private(path: str, directory: str, members: Sequence[tuple[str, str]]) -> None:
    """Make the lines of a network that its container has left comments in a private file: `members` (container id, address)."""
    with _Locked(directory):
        for container_id, ip in members:
            _comment_out(path, f"{ip}\t".encode(), f" {container_id[:SHORT_ID]}\n".encode())


class _Locked:
    """The directory's lock, held by one process at a time; it goes with the process."""

    __slots__ = ("_directory", "_fd")

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def __enter__(self) -> None:
        try:
            self._fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        except OSError as error:
            raise KernelError.of(f"lock `{self._directory}`", error) from error

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _files(directory: str) -> list[str]:
    return [f"{directory}/{name}" for name in os.listdir(directory) if name == HOSTS or name.startswith(f"{HOSTS}.")]


def _write(path: str, content: bytes) -> None:
    """Make a file that everybody may read whatever our umask; whole, or not there under its name."""
    unfinished = f"{os.path.dirname(path)}/.{os.path.basename(path)}"
    fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, content)
        os.fchmod(fd, 0o644)
    finally:
        os.close(fd)
    os.rename(unfinished, path)


def _append(path: str, lines: bytes) -> None:
    fd = _open_locked(path)
    try:
        end = os.fstat(fd).st_size
        if end and os.pread(fd, 1, end - 1) != b"\n":
            lines = b"\n" + lines
        os.pwrite(fd, lines, end)
    finally:
        os.close(fd)


def _open_locked(path: str) -> int:
    """A private file is written by those who hold the locks of different directories."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def _comment_out(path: str, beginning: bytes, ending: bytes, kept: Sequence[bytes] = ()) -> None:
    """Turn the lines with this beginning and ending, but for those that are `kept`, into comments by one byte each: a reader sees the line
    or a comment, never a part of it."""
    fd = _open_locked(path)
    try:
        content = os.pread(fd, os.fstat(fd).st_size, 0)
        at = content.find(b"\n" + beginning)
        while at != -1:
            end = content.find(b"\n", at + 1)
            line = content[at + 1 : end + 1]
            if line.endswith(ending) and line not in kept:
                os.pwrite(fd, b"#", at + 1)
            at = content.find(b"\n" + beginning, at + 1)
        _compact(fd)
    finally:
        os.close(fd)


def _compact(fd: int) -> None:
    """Drop the comments when they are most of the file. One write covers all of the old content, the rest filled with empty lines, so
    that a reader in between never meets the tail of a line."""
    content = os.pread(fd, os.fstat(fd).st_size, 0)
    lines = content.splitlines(keepends=True)
    live = [line for line in lines if not line.startswith(b"#")]
    if len(lines) - len(live) < max(_COMPACT_FROM, len(live)):
        return
    kept = b"".join(live)
    os.pwrite(fd, kept + b"\n" * (len(content) - len(kept)), 0)
    os.ftruncate(fd, len(kept))


def resolv_conf(
    host: str, upstream: str = "", dns: Sequence[str] = (), search: Sequence[str] = (), options: Sequence[str] = ()
) -> tuple[str, list[str]]:
    """A container's resolv.conf, and the host's nameservers that were left out since a container cannot reach them.

    `host` is the host's file, `upstream` the text of /run/systemd/resolve/resolv.conf: where the host has only systemd's stub, its
    real upstreams are taken. `dns`, `search` (["."]: none) and `options` replace what the host has. No server is invented:
    where none is left, the container has none. resolv.conf(5).
    """
    dropped: list[str] = []
    servers = list(dns)
    if not servers:
        given = _values(host, "nameserver")
        if given and all(server in STUB_RESOLVERS for server in given) and upstream:
            given = _values(upstream, "nameserver")
        reachable = nameservers("".join(f"nameserver {server}\n" for server in given))
        servers = [server for server in reachable if not server.startswith("127.")]
        dropped = [server for server in given if server not in servers]
    domains = list(search) or _last(host, "search", "domain")
    lines = [f"nameserver {server}" for server in servers]
    if domains and domains != ["."]:
        lines.append(f"search {' '.join(domains)}")
    flags = list(options) or _last(host, "options")
    if flags:
        lines.append(f"options {' '.join(flags)}")
    return "".join(f"{line}\n" for line in lines), dropped


def _values(text: str, keyword: str) -> list[str]:
    """The second word of every line that begins with `keyword`."""
    return [words[1] for words in map(str.split, text.splitlines()) if len(words) > 1 and words[0] == keyword]


def _last(text: str, *keywords: str) -> list[str]:
    """What follows the last of the lines that begin with one of `keywords`: only that one counts."""
    found = [words[1:] for words in map(str.split, text.splitlines()) if words and words[0] in keywords]
    return found[-1] if found else []


def publish_netns(name: str, pid: int) -> bool:
    """Make `ip netns exec NAME` work: a link to the process's namespace, which keeps nothing alive. False, and nothing changed,
    where the name is taken by somebody else's entry."""
    target = f"/proc/{pid}/ns/net"
    path = f"{NETNS_DIRECTORY}/{name}"
    try:
        os.makedirs(NETNS_DIRECTORY, mode=0o755, exist_ok=True)
        os.symlink(target, path)
    except FileExistsError:
        return _link(path) == target
    except OSError as error:
        raise KernelError.of(f"link `{path}`", error) from error
    return True


def withdraw_netns(name: str, inode: int, pid: int = 0) -> bool:
    """Remove the link if it is ours: it names the process that the record does (`pid`, which may be a stranger's by now), or still leads to
    the namespace with this inode, or to a process that is gone. False if there was nothing of ours."""
    path = f"{NETNS_DIRECTORY}/{name}"
    target = _link(path)
    if not (target.startswith("/proc/") and target.endswith("/ns/net")):
        return False
    try:
        if target != f"/proc/{pid}/ns/net" and os.stat(path).st_ino != inode:
            return False
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ESRCH):
            raise KernelError.of(f"look up `{path}`", error) from error
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def _link(path: str) -> str:
    """Where the symbolic link leads, "" if it is none."""
    try:
        return os.readlink(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINVAL):
            return ""
        raise KernelError.of(f"read link `{path}`", error) from error


class NameNetns(Step):
    """The namespace under /run/netns by the container's name, as long as that is free."""

    actor = START
    title = NETWORK
    why = "`ip netns exec NAME` works in there"

    def __init__(self, name: str) -> None:
        self.path = f"{NETNS_DIRECTORY}/{name}"
        self.name = name

    def shell(self) -> str:
        path = quote(self.path)
        return f'mkdir -p {NETNS_DIRECTORY}\n[ -e {path} ] || ln -s "/proc/$PID/ns/net" {path}'

    def apply(self, at: At) -> None:
        publish_netns(self.name, at.pid)


class UnnameNetns(Step):
    """That name again, if it is this container's: a reused pid would make it a stranger's."""

    title = NETWORK
    why = "its name of `ip netns`"

    def __init__(self, name: str, inode: int, pid: int) -> None:
        self.name = name
        self.inode = inode
        self.pid = pid

    def shell(self) -> str:
        path = quote(f"{NETNS_DIRECTORY}/{self.name}")
        return f'[ "$(readlink {path})" != "/proc/{self.pid or "$PID"}/ns/net" ] || rm {path}'

    def apply(self, at: At) -> None:
        withdraw_netns(self.name, self.inode, self.pid)


class Leave(Step):
    """A container's lines in the hosts files of a network, made comments."""

    title = FILESYSTEM
    why = "its neighbours do not find it any more"

    def __init__(self, directory: str, container_id: str, ips: Sequence[str]) -> None:
        self.directory = directory
        self.container_id = container_id
        self.ips = [ip for ip in ips if ip]

    def shell(self) -> str:
        """Into the same file, which containers have mounted."""
        out = " ".join(f"-e {quote(f'/^{ip}	.* {self.container_id[:SHORT_ID]}$/d')}" for ip in self.ips)
        files = f"{quote(self.directory)}/{HOSTS}"
        return (f'for file in {files}*; do text=$(sed {out} "$file") && echo "$text" > "$file"; done\n'
                f"rm -f {files}.{self.container_id}")  # fmt: skip

    def describe(self) -> str:
        return f"take {self.container_id[:SHORT_ID]} out of `{self.directory}`"

    def apply(self, at: At) -> None:
        remove(self.directory, self.container_id, self.ips)
