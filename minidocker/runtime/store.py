"""Where the OCI command line keeps its containers: a directory each below --root, whose lock says that somebody changes it.

    ROOT/ID/          locked (flock(2)) by whoever creates, starts or deletes the container; gone with it
      state.json      state.py
      config.json     the configuration, checked and made whole (spec/oci_config.py): whoever joins later need not check it anew
      start           handover.py
    ROOT/@filters/    compiled seccomp filters; no container can have this name
"""

from __future__ import annotations

import fcntl
import os
import time

from minidocker.errors import ConflictError, KernelError, NotFoundError, StateError, UsageError
from minidocker.runtime import state
from minidocker.runtime.state import State
from minidocker.spec import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CONFIG = "config.json"
_LONGEST = 255  # of a name, NAME_MAX
_PAUSE = 0.01


def check(id: str) -> None:
    """UsageError for an id that is not letters, digits and `_+-.`, or would be another path."""
    if not id or id in (".", "..") or len(id) > _LONGEST or not all(c.isascii() and (c.isalnum() or c in "_+-.") for c in id):
        raise UsageError(f"`{id}` is not an id: letters, digits, `_`, `+`, `-` and `.`, at most {_LONGEST}")


class Store:
    """The containers below `root`."""

    __slots__ = ("root",)

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)

    def new(self, id: str) -> Home:
        """A locked directory for a container that is to be. ConflictError."""
        check(id)
        path = f"{self.root}/{id}"
        try:
            os.makedirs(self.root, 0o700, exist_ok=True)
            os.mkdir(path, 0o700)
        except FileExistsError:
            raise ConflictError(f"container `{id}` exists already", f"minidocker-oci delete {id}") from None
        except OSError as error:
            raise KernelError.of(f"make {path}", error) from error
        home = Home(id, path)
        home.lock()
        return home

    def find(self, id: str) -> Home:
        """NotFoundError."""
        check(id)
        try:
            return Home(id, f"{self.root}/{id}")
        except (FileNotFoundError, NotADirectoryError):
            raise NotFoundError(f"container `{id}` does not exist") from None

    def ids(self) -> list[str]:
        """All there are, sorted."""
        try:
            return sorted(name for name in os.listdir(self.root) if not name.startswith("@"))
        except FileNotFoundError:
            return []

    @property
    def filters(self) -> str:
        return f"{self.root}/@filters"


class Home:
    """One container's directory: `path`, and a descriptor of it that holds the lock once it is taken (`held`)."""

    __slots__ = ("descriptor", "held", "id", "path")

    def __init__(self, id: str, path: str) -> None:
        self.id = id
        self.path = path
        self.held = False
        self.descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)

    def lock(self, patience: float = 0) -> bool:
        """Whether the lock was had within `patience` seconds. NotFoundError when the container was deleted meanwhile."""
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    return False
                time.sleep(_PAUSE)
        self.held = True
        if os.fstat(self.descriptor).st_nlink == 0:
            raise NotFoundError(f"container `{self.id}` does not exist")
        return True

    def unlock(self) -> None:
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        self.held = False

    def lock_or_fail(self, verb: str, patience: float = 10) -> None:
        """StateError when somebody else holds it for so long."""
        if not self.lock(patience):
            raise StateError(f"{verb} container `{self.id}`: another command is at work on it")

    @property
    def is_locked(self) -> bool:
        """Whether another process holds the lock."""
        if self.held:
            return False
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        return False

    def state(self) -> State:
        """What is known of it. StateError where a crash has left an empty directory, or it is only just being made."""
        known = self.known()
        if known is None:
            raise StateError(f"container `{self.id}` is not completely made", f"minidocker-oci delete --force {self.id}")
        return known

    def known(self) -> State | None:
        try:
            return State(self.path)
        except NotFoundError:
            return None

    def status(self, known: State | None) -> str:
        """As `State.status`; what is neither made by anybody nor has a process is `stopped`: a creation that crashed."""
        found = known.status() if known else state.CREATING
        return state.STOPPED if found == state.CREATING and not self.is_locked else found

    def write_configuration(self, document: dict[str, Any]) -> None:
        try:
            with open(f"{self.path}/{_CONFIG}", "wb", buffering=0) as file:
                file.write(fastjson.dumps(document).encode())
        except OSError as error:
            raise KernelError.of(f"write {self.path}/{_CONFIG}", error) from error

    def configuration(self) -> dict[str, Any]:
        """What `write_configuration` got. NotFoundError where a crash has left none, or half of one."""
        try:
            with open(f"{self.path}/{_CONFIG}", "rb", buffering=0) as file:
                document: dict[str, Any] = fastjson.loads(file.read().decode())
                return document
        except (FileNotFoundError, ValueError):
            raise NotFoundError(f"container `{self.id}` was never completed", f"minidocker-oci delete --force {self.id}") from None

    def remove(self) -> None:
        """The last thing a container loses."""
        try:
            for name in os.listdir(self.descriptor):
                os.unlink(name, dir_fd=self.descriptor)
            os.rmdir(self.path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise KernelError.of(f"remove {self.path}", error) from error

    def close(self) -> None:
        os.close(self.descriptor)

    def __enter__(self) -> Home:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
