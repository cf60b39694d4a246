"""--cidfile and --pidfile: who a container is and which process, for whoever asks a file. Steps, as everything else that is done."""

from __future__ import annotations

import os

from minidocker.errors import ConflictError, NotFoundError
from minidocker.plan import FILESYSTEM, START, At, Step, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minidocker.spec.request import RunRequest
    from minidocker.storage.containers import Record


def check(request: RunRequest, again: bool) -> None:
    """Raises ConflictError for a --cidfile that is there already, unless it is `again` that the container starts; NotFoundError for a
    directory that is not."""
    for path in filter(None, (request.cidfile, request.pidfile)):
        directory = os.path.dirname(path)
        if not os.path.isdir(directory):
            raise NotFoundError(f"write {path}: {directory} does not exist", f"mkdir -p {directory}")
    if request.cidfile and not again and os.path.lexists(request.cidfile):
        raise ConflictError(f"the --cidfile {request.cidfile} exists already", "remove it, if its container is gone, or name another")


def steps(request: RunRequest, id: str, again: bool) -> list[Step]:
    """What writes them once the program runs."""
    found: list[Step] = [WritePid(request.pidfile)] if request.pidfile else []
    return [*found, WriteId(request.cidfile, id)] if request.cidfile and not again else found


class WriteId(Step):
    """The id into a file that nobody has made yet."""

    actor = START
    title = FILESYSTEM
    why = "its id, for whoever wants it from a file"

    def __init__(self, path: str, id: str) -> None:
        self.path = path
        self.id = id
        self.needs = [(f"[ ! -e {quote(path)} ]", f"{path} exists already")]

    def shell(self) -> str:
        return f"printf %s {self.id} > {quote(self.path)}"

    def apply(self, at: At) -> None:
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            raise ConflictError(f"the --cidfile {self.path} exists already") from None
        try:
            os.write(descriptor, self.id.encode())
        finally:
            os.close(descriptor)

    def undo(self, at: At) -> None:
        """It is ours to remove where it says that id."""
        if _read(self.path) == self.id:
            os.unlink(self.path)


class WritePid(Step):
    """The pid of its first process, as the host has it, into a file; whoever reads that sees all of it or what was there before."""

    actor = START
    title = FILESYSTEM
    why = "its first process, for whoever wants it from a file"

    def __init__(self, path: str) -> None:
        self.path = path

    def shell(self) -> str:
        return f'printf %s "$PID" > {quote(self.path)}'

    def apply(self, at: At) -> None:
        with open(f"{self.path}.new", "wb", buffering=0) as file:
            file.write(b"%d" % at.pid)
        os.rename(f"{self.path}.new", self.path)


class RemovePid(Step):
    """That file again, where it names this container's process: a pid that is nobody's now would soon be a stranger's."""

    title = FILESYSTEM
    why = "the file with its pid, which is nobody's now"

    def __init__(self, record: Record) -> None:
        self.path = record.request.pidfile or ""
        self.pid = record.pid

    def shell(self) -> str:
        path = quote(self.path)
        return f'[ "$(cat {path})" != {self.pid or chr(34) + "$PID" + chr(34)} ] || rm {path}'

    def apply(self, at: At) -> None:
        if self.pid and _read(self.path) == str(self.pid):
            os.unlink(self.path)


def _read(path: str) -> str:
    """The text of a file, "" where there is none."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(128).decode(errors="replace")
    except OSError:
        return ""
