"""A cache of compiled seccomp filters, so that a container's start need not load libseccomp, nor our compiler.

    cached(profile, directory) ─┬─ hit: one small file, checked, handed out         0.2 ms
                                └─ miss: runtime/seccomp.py compiles ─► written beside, renamed
"""

from __future__ import annotations

import marshal
import os
import stat
import sys

from minidocker import __version__

try:
    from _blake2 import blake2b  # what hashlib would give, less 7 ms
except ImportError:
    from hashlib import blake2b

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LIBRARY = "libseccomp.so.2"
_MAGIC = b"mdBPF\x01"
_HEADER = len(_MAGIC) + 4 + 16  # magic, flags, checksum; the instructions follow
_LARGEST = _HEADER + 8 * 0xFFFF
_KEPT = 64  # entries


def cached(profile: dict[str, Any], directory: str) -> tuple[bytes, int]:
    """(BPF, seccomp(2) flags) of an OCI profile, from `directory` where possible.

    An entry that is damaged, or that another user could have written, is compiled anew; a directory that cannot be written is
    gone without. Raises what seccomp.compile raises.
    """
    name = _key(profile)
    path = f"{directory}/{name}.bpf"
    entry = _read(path)
    if entry is None:
        from minidocker.runtime import seccomp  # only now: the compiler is of no use where there is an entry

        entry = seccomp.compile(profile)
        _write(directory, path, *entry)
    return entry


def _key(profile: dict[str, Any]) -> str:
    """What the compiled filter depends on: the profile, this code, libseccomp, the machine, the kernel (some actions)."""
    system = os.uname()
    # Version 2 of marshal writes the same value the same way each time; later ones depend on who else refers to its parts.
    content = marshal.dumps((profile, __version__, _MAGIC, _library_identity(), system.machine, system.release), 2)
    return blake2b(content, digest_size=16).hexdigest()


def _library_identity() -> tuple[int, ...]:
    """What changes when the package is upgraded, without loading it; empty when it lies where only the loader finds it."""
    triplet = getattr(sys.implementation, "_multiarch", "")
    for directory in (f"/usr/lib/{triplet}", "/usr/lib64", "/usr/lib", f"/lib/{triplet}", "/lib64", "/lib"):
        try:
            found = os.stat(f"{directory}/{_LIBRARY}")
        except OSError:
            continue
        return found.st_ino, found.st_size, found.st_mtime_ns
    return ()


def _checksum(key: str, flags: bytes, bpf: bytes) -> bytes:
    return blake2b(key.encode() + flags + bpf, digest_size=16).digest()


def _read(path: str) -> tuple[bytes, int] | None:
    """The entry, or None where there is none that can be trusted."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022 or status.st_size > _LARGEST:
            return None
        entry = os.read(fd, _LARGEST)
    finally:
        os.close(fd)
    magic, flags, checksum, bpf = entry[:6], entry[6:10], entry[10:_HEADER], entry[_HEADER:]
    key = path.rpartition("/")[2].partition(".")[0]
    if magic != _MAGIC or not bpf or len(bpf) % 8 or checksum != _checksum(key, flags, bpf):
        return None
    return bpf, int.from_bytes(flags, "little")


def _write(directory: str, path: str, bpf: bytes, flags: int) -> None:
    packed = flags.to_bytes(4, "little")
    key = path.rpartition("/")[2].partition(".")[0]
    try:
        os.makedirs(directory, 0o700, exist_ok=True)
        _replace(path, _MAGIC + packed + _checksum(key, packed, bpf) + bpf)
        _prune(directory)
    except OSError:
        # A cache that cannot be written (read-only, full) costs some milliseconds a start and nothing else; what was half
        # written fails its checksum.
        return


def _replace(path: str, content: bytes) -> None:
    temporary = f"{path}.{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(fd, content)
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
    finally:
        os.close(fd)


def _prune(directory: str) -> None:
    """Keep the youngest entries: each upgrade of libseccomp, the kernel or minidocker leaves the former ones behind."""
    with os.scandir(directory) as found:
        entries = sorted((entry.stat(follow_symlinks=False).st_mtime_ns, entry.path) for entry in found)
    for _, path in entries[:-_KEPT]:
        os.unlink(path)
