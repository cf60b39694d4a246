"""What a container sees as its root file system, always an overlay with a private upper layer that goes with the container:

    --rootfs DIR       lower: DIR, never written
    the host view      lower: a skeleton of ours (below), and the host's programs bound over it read-only and nosuid

The skeleton is made once for each shape a host's root directory can have, and holds none of the host's data but its tables of service
and protocol names.
"""

from __future__ import annotations

import binascii
import os
import stat

from minidocker.errors import MinidockerError, NotFoundError, UsageError
from minidocker.kernel import mounts as k
from minidocker.plan import FILESYSTEM, At, Step, inline, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Where the host's programs and libraries live; on most hosts all but /usr and /opt are links into /usr.
PROGRAM_DIRECTORIES = ("/usr", "/opt", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix", "/gnu")
# What programs of the host need of its /etc: live, so bound; /etc/ssl itself may hold private keys
_BOUND_FILES = (
    "/etc/ld.so.cache", "/etc/alternatives", "/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/pki/tls/certs", "/etc/pki/ca-trust",
)  # fmt: skip
_COPIED_FILES = ("/etc/services", "/etc/protocols", "/etc/mime.types")
_READ_ONLY = ["rbind", "rprivate", "rro", "rnosuid", "rnodev"]
_DIRECTORIES = (
    ("dev", 0o755), ("etc", 0o755), ("etc/ssl", 0o755), ("etc/pki", 0o755), ("etc/pki/tls", 0o755), ("home", 0o755), ("mnt", 0o755),
    ("proc", 0o555), ("root", 0o700), ("run", 0o755), ("run/lock", 0o1777), ("srv", 0o755), ("sys", 0o555), ("tmp", 0o1777), ("var", 0o755),
    ("var/cache", 0o755), ("var/lib", 0o755), ("var/log", 0o755), ("var/spool", 0o755), ("var/tmp", 0o1777),
)  # fmt: skip
_LINKS = (("var/run", "/run"), ("var/lock", "/run/lock"), ("etc/mtab", "../proc/self/mounts"), ("etc/os-release", "../usr/lib/os-release"))
_FILES = (
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
                   "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"),
    ("etc/group", "root:x:0:\ndaemon:x:1:\ntty:x:5:\nnogroup:x:65534:\n"),
    ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\nnetworks: files\nprotocols: files\nservices: files\n"),
    ("etc/host.conf", "multi on\n"),  # of a name's addresses in hosts all, not the first alone: IPv4 and IPv6
    ("etc/hosts", ""),
    ("etc/hostname", ""),
    ("etc/resolv.conf", ""),
)  # fmt: skip
_VERSION = 2
_MOST_STEPS = 4096  # of a path's walk; a link may lead back to itself


class View:
    """A root file system before it is mounted: `lower` the directory below the overlay, `mounts` OCI entries, the overlay's first;
    `shows` whether a path of the host is seen at the same place inside (only programs are)."""

    __slots__ = ("host", "lower", "mounts")

    def __init__(self, lower: str, mounts: list[dict[str, Any]], host: bool) -> None:
        self.lower = lower
        self.mounts = mounts
        self.host = host

    def shows(self, path: str) -> bool:
        return self.host and any(path.startswith(directory + "/") for directory in PROGRAM_DIRECTORIES)

    def inside(self, path: str) -> str:
        """`path` free of links, as the container sees them: for commands that would follow them to where they lead out here."""
        done: list[str] = []
        left = path.split("/")[::-1]
        for _ in range(_MOST_STEPS):
            if not left:
                return "/" + "/".join(done)
            part = left.pop()
            if part == "..":
                done = done[:-1]
            elif part not in ("", "."):
                at = "/".join([self.lower, *done, part])
                target = os.readlink(at) if os.path.islink(at) else ""
                if not target:
                    done.append(part)
                left += target.split("/")[::-1]
                if target[:1] == "/":
                    done = []
        raise UsageError(f"too many links in {path} of {self.lower}")

    def open(self, path: str) -> int:
        """An O_PATH descriptor of `path` in the lower directory, no link leading out of it. Raises OSError."""
        root = os.open(self.lower, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return k.open_in_root(root, path)
        finally:
            os.close(root)


def host_view(data_root: str, directory: str) -> View:
    """The host's programs over a skeleton; `directory` is the container's own, for the upper layer."""
    layout = _layout()
    lower = _skeleton(data_root, layout)
    bound = [path for path, kind in layout if kind == "directory"]
    entries = [_overlay(lower, directory)]
    entries += [{"destination": path, "type": "bind", "source": path, "options": _READ_ONLY} for path in bound]
    entries += [
        {"destination": path, "type": "bind", "source": path, "options": _READ_ONLY} for path in _BOUND_FILES if os.path.exists(path)
    ]
    return View(lower, entries, host=True)


def directory_view(rootfs: str, directory: str) -> View:
    """`--rootfs DIR`. Raises NotFoundError or UsageError."""
    if not os.path.exists(rootfs):
        raise NotFoundError(f"the root file system {rootfs} does not exist", "rootfs/busybox and rootfs/debian build some")
    if not os.path.isdir(rootfs):
        raise UsageError(f"the root file system {rootfs} is not a directory")
    if os.path.samefile(rootfs, "/"):
        raise UsageError("the root file system is the host's own, secrets and all", "leave out --rootfs for a view of the host's programs")
    return View(rootfs, [_overlay(rootfs, directory)], host=False)


def make_layers(directory: str) -> None:
    """The container's own directory with the overlay's upper and work directories; of a container that has run before they are there."""
    try:
        for path, mode in ((directory, 0o700), (f"{directory}/upper", 0o755), (f"{directory}/work", 0o700)):
            try:
                os.mkdir(path, mode)
            except FileExistsError:
                continue
    except OSError as error:
        raise MinidockerError(f"make the container's directory {directory}: {(error.strerror or '').lower()}") from error


def _overlay(lower: str, directory: str) -> dict[str, Any]:
    options = [f"lowerdir={_escaped(lower, ':')}", f"upperdir={_escaped(directory)}/upper", f"workdir={_escaped(directory)}/work"]
    return {"destination": "/", "type": "overlay", "source": "overlay", "options": options}


def _escaped(path: str, also: str = "") -> str:
    """A path as overlayfs' option parser wants it: a comma ends an option, a colon a lower directory."""
    for character in "\\," + also:
        path = path.replace(character, "\\" + character)
    return path


def _layout() -> list[tuple[str, str]]:
    """The shape of the host's root directory."""
    return [(path, _kind(path)) for path in PROGRAM_DIRECTORIES]


def _kind(path: str) -> str:
    """"directory", "" for absent, or where the link points."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return ""
    return os.readlink(path) if stat.S_ISLNK(mode) else "directory"


def _skeleton(data_root: str, layout: list[tuple[str, str]]) -> str:
    key = binascii.crc32(repr((_VERSION, layout)).encode())
    path = f"{data_root}/hostview/{key:08x}"
    if not os.path.isdir(path):
        _build(path, layout)
    return path


class MakeSkeleton(Step):
    """The skeleton at `path`. It stands already when a plan is made (`host_view`); a script may run where it does not."""

    title = FILESYSTEM
    why = "what is under the host's programs: an empty tree with an /etc of its own"

    def __init__(self, path: str) -> None:
        self.path = path

    def shell(self) -> str:
        """The tree as it is."""
        directories, modes, others = [], [], []
        for directory, names, files in os.walk(self.path):
            directories.append(quote(directory))
            mode = stat.S_IMODE(os.stat(directory).st_mode)
            if mode != 0o755:
                modes.append(f"  chmod {mode:o} {quote(directory)}")
            for path in (f"{directory}/{name}" for name in [*names, *files]):
                if os.path.islink(path):
                    others.append(f"  ln -s {quote(os.readlink(path))} {quote(path)}")
                elif path.removeprefix(self.path) in _COPIED_FILES:
                    others.append(f"  cp {path.removeprefix(self.path)} {quote(path)}")
                elif os.path.isfile(path):
                    with open(path, encoding="utf-8") as file:
                        others.append(f"  printf %s {inline(file.read())} > {quote(path)}")
        return "\n".join([f"[ -d {quote(self.path)} ] || {{", "  mkdir -p " + " ".join(directories), *modes, *others, "}"])

    def apply(self, at: At) -> None:
        if not os.path.isdir(self.path):
            _build(self.path, _layout())


def _build(path: str, layout: list[tuple[str, str]]) -> None:
    """Built beside its place and renamed into it: seen whole or not at all, and twice at once does no harm."""
    beside = f"{path}.{os.getpid()}"
    os.makedirs(beside, mode=0o755)
    for name, mode in _DIRECTORIES:
        os.mkdir(f"{beside}/{name}")
        os.chmod(f"{beside}/{name}", mode)  # whatever the umask; 1777 among them
    for absolute, kind in layout:
        if kind == "directory":
            os.mkdir(beside + absolute, 0o755)
        elif kind:
            os.symlink(kind, beside + absolute)
    for name, target in _LINKS:
        os.symlink(target, f"{beside}/{name}")
    for name, text in _FILES:
        _write(f"{beside}/{name}", text.encode())
    for absolute in _COPIED_FILES:
        if os.path.exists(absolute):
            with open(absolute, "rb") as file:
                _write(beside + absolute, file.read())
    if os.path.islink("/etc/localtime"):
        os.symlink(os.readlink("/etc/localtime"), f"{beside}/etc/localtime")
    for absolute in _BOUND_FILES:
        if os.path.isdir(absolute):
            os.makedirs(beside + absolute, exist_ok=True)
        elif os.path.exists(absolute):
            _write(beside + absolute, b"")
    try:
        os.rename(beside, path)
    except OSError:
        remove_tree(beside)
        if not os.path.isdir(path):
            raise


def _write(path: str, data: bytes) -> None:
    with open(path, "wb", buffering=0) as file:
        file.write(data)
    os.chmod(path, 0o644)


def remove_tree(path: str) -> None:
    """Remove the directory `path` and all below it, by descriptors, following no link; what is gone already is gone.

    A directory that is not empty is first moved up into `path` itself, so that neither its depth nor the length of its name matters.
    Its inode's number is its name there, which no other has, not even one that was moved when this was begun before.
    """
    try:
        top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        waiting = [name for name in os.listdir(top) if not _is_removed(top, name)]
        while waiting:
            name = waiting.pop()
            directory = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
            for entry in os.listdir(directory):
                if not _is_removed(directory, entry):
                    waiting.append(f".removing-{os.lstat(entry, dir_fd=directory).st_ino}")
                    os.rename(entry, waiting[-1], src_dir_fd=directory, dst_dir_fd=top)
            os.close(directory)
            _is_removed(top, name)
        os.rmdir(path)
    except OSError as error:
        raise MinidockerError(f"remove {path}: {(error.strerror or '').lower()}") from error
    finally:
        os.close(top)


class RemoveTree(Step):
    """`remove_tree`."""

    title = FILESYSTEM

    def __init__(self, directory: str, why: str) -> None:
        self.directory = directory
        self.why = why

    def shell(self) -> str:
        return f"rm -rf {quote(self.directory)}"

    def apply(self, at: At) -> None:
        remove_tree(self.directory)


def _is_removed(directory: int, name: str) -> bool:
    """Remove one entry unless it is a directory that is not empty."""
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return True
    except (IsADirectoryError, PermissionError) as refused:
        try:
            os.rmdir(name, dir_fd=directory)
        except NotADirectoryError:
            raise refused from None
        except OSError as error:
            if error.errno in (39, 17):  # ENOTEMPTY, EEXIST
                return False
            raise
    return True
