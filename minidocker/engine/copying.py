"""cp: files into and out of a container, running or not.

A running one's files are reached by its first process's root in /proc, mounts and all; of one at rest the same mounts are made in a
mount namespace of this process's own, while its lock is held. Either way the container's root is a descriptor here, and paths are looked
up inside it (storage/trees.py); this process enters nothing of the container's.
"""

from __future__ import annotations

import os

from minidocker.engine import reconcile, volumes
from minidocker.engine.host import Host
from minidocker.errors import KernelError, NotFoundError, StateError, UsageError
from minidocker.kernel import filesystems, namespaces, process
from minidocker.kernel import mounts as kernel
from minidocker.plan import At
from minidocker.runtime import filesystem
from minidocker.runtime.mounts import Mount
from minidocker.runtime.state import State
from minidocker.spec import config
from minidocker.storage import containers, rootfs, trees

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

STREAM = "-"


class Copied:
    """How much was copied."""

    __slots__ = ("bytes", "files")

    def __init__(self, files: int, bytes: int) -> None:
        self.files = files
        self.bytes = bytes


class Root:
    """`with Root(host, reference) as root:` a descriptor of the container's root directory, with all that is mounted in it."""

    def __init__(self, host: Host, reference: str) -> None:
        reconcile.sweep(host)
        self.host = host
        self.record = containers.find(host.state, reference)
        self.lock = self.descriptor = -1

    def __enter__(self) -> int:
        self.descriptor = self._running()
        if self.descriptor < 0:
            self._at_rest()
        return self.descriptor

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
        if self.lock >= 0:
            self.host.drop_run_directory(self.record.id)
            os.close(self.lock)

    def _running(self) -> int:
        """-1 where it does not run."""
        try:
            state = State(self.host.run_directory(self.record.id))
            pidfd = state.open()
        except (NotFoundError, StateError):
            return -1
        try:
            root = os.open(f"/proc/{state.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            if process.pidfd_ended(pidfd):  # held first, then asked whether it was still that process's
                os.close(root)
                return -1
        except (FileNotFoundError, ProcessLookupError):
            return -1
        finally:
            os.close(pidfd)
        return root

    def _at_rest(self) -> None:
        host, record = self.host, self.record
        self.lock = host.claim(record.id)
        if self.lock < 0:
            raise StateError(f"container `{record.name}` is just starting or ending, or another `cp` is at work on it", "try again")
        current = containers.get(host.state, record.id)
        if current is None or current.status not in containers.AT_REST:
            raise StateError(f"container `{record.name}` is {'gone' if current is None else current.status}", "try again")
        request, directory = current.request, host.data_directory(record.id)
        rootfs.make_layers(directory)
        view = rootfs.directory_view(request.rootfs, directory) if request.rootfs else rootfs.host_view(host.root, directory)
        mounted = volumes.entries(host, request) if request.mounts else []
        if request.mounts:
            volumes.plan(host, record.id, request, view).run(At())
        bound = [config.bind(source, destination, ["rbind", "rro"] if readonly else ["rbind"])
                 for source, destination, readonly in request.volumes]  # fmt: skip
        below = sorted(bound + [entry for entry in mounted if entry["type"] == "bind"], key=lambda entry: entry["destination"].count("/"))
        at = At()
        try:
            namespaces.unshare(namespaces.NEWNS)
            filesystem.Root(view.lower, view.mounts[0]).apply(at)
            for entry in [*view.mounts[1:], *below]:
                Mount(entry).apply(at)
            if request.read_only:
                kernel.set_attributes(at.root, kernel.ATTR_RDONLY)
        except OSError as error:
            raise KernelError.of(f"mount what `{record.name}` has", error) from error
        finally:
            self.descriptor = at.root


def out(
    host: Host, reference: str, source: str, target: str, *, keep: bool = False, follow: bool = False, stream: int = 1,
    notice: Callable[[str], None],
) -> Copied:  # fmt: skip
    """Copy `source` of the container to `target` of this host, or as a tar stream to the descriptor `stream`. `keep` owners and set-id
    bits; `follow` a link at the source's end. Raises NotFoundError, StateError, KernelError."""
    said = f"`{reference}:{source}`"
    if target == STREAM:
        from minidocker.storage import tarstream  # before anything of the container is looked at

        with Root(host, reference) as root, os.fdopen(os.dup(stream), "wb", buffering=1 << 16) as file:
            place = _source(root, source, said, follow)
            entries = trees.walk(place.found, filesystems.is_the_kernels, notice)
            return Copied(tarstream.write(file, entries, _name(source, place)), 0)
    here = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)  # before this process has mounts of its own
    with Root(host, reference) as root:
        return _copy(_source(root, source, said, follow), source, said, here, target, f"`{target}`", keep, False, notice)


def into(
    host: Host, reference: str, source: str, target: str, *, keep: bool = False, follow: bool = False, stream: int = 0,
    notice: Callable[[str], None],
) -> Copied:  # fmt: skip
    """Copy `source` of this host, or the tar stream from the descriptor `stream`, to `target` in the container. As `out`."""
    said = f"`{reference}:{target}`"
    if source == STREAM:
        from minidocker.storage import tarstream

        with Root(host, reference) as root, os.fdopen(os.dup(stream), "rb", buffering=1 << 16) as file:
            place = trees.locate(root, target, said)
            if not place.is_directory:
                raise StateError(f"{said} must be a directory that is there, for a tar stream", "make it, or name the one above it")
            writer = trees.Writer(place.found, "", keep=keep, devices=True, notice=notice, root=root, path=target)
            return _write(writer, tarstream.read(file, notice))
    here = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    place = _source(here, source, f"`{source}`", follow)
    with Root(host, reference) as root:
        return _copy(place, source, f"`{source}`", root, target, said, keep, True, notice)


def _source(root: int, path: str, said: str, follow: bool) -> trees.Place:
    place = trees.locate(root, path, said, follow)
    if place.found < 0:
        raise NotFoundError(f"{said}: no such file or directory")
    return place


def _name(path: str, place: trees.Place) -> str:
    """What a source is called: its last part, `.` where only its content is meant."""
    return place.name or ("." if _is_content(path) else path.rstrip("/").rpartition("/")[2]) or "."


def _is_content(path: str) -> bool:
    return path.rstrip("/").rpartition("/")[2] in ("", ".", "..")


def _copy(
    place: trees.Place, source: str, source_said: str, root: int, target: str, said: str, keep: bool, devices: bool,
    notice: Callable[[str], None],
) -> Copied:  # fmt: skip
    """By docker's rules (docker-cp(1)): into a directory that is there under the source's own name, or with `/.` at the source's end its
    content; else as the target, in a directory that must be there."""
    # what is to become a directory may be written as one
    where = trees.locate(root, (target.rstrip("/") or "/") if place.is_directory else target, said)
    if where.is_directory:
        base, top = where.found, "" if place.is_directory and _is_content(source) else _name(source, place)
    elif where.found >= 0 and place.is_directory:
        raise StateError(f"{said} is a file, and {source_said} a directory", "name a directory, or what is not there yet")
    else:
        base, top = where.parent, where.name
    writer = trees.Writer(base, top, keep=keep, devices=devices, notice=notice)
    return _write(writer, trees.walk(place.found, filesystems.is_the_kernels, notice))


def _write(writer: trees.Writer, entries: Iterator[trees.Entry]) -> Copied:
    try:
        for entry in entries:
            writer.put(entry)
        writer.finish()
    finally:
        writer.close()
    return Copied(writer.files, writer.bytes)


def check(source: str, target: str) -> None:
    """UsageError for what cannot be meant."""
    if source == STREAM and os.isatty(0):
        raise UsageError("a tar stream is to be read, and stdin is a terminal", "tar cf - FILES | minidocker cp - CONTAINER:DIR")
    if target == STREAM and os.isatty(1):
        raise UsageError("a tar stream is nothing for a terminal", "minidocker cp CONTAINER:PATH - | tar xf -")
