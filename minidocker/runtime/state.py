"""What the runtime remembers of one container: state.json in a directory of its own, checked against the kernel.

    DIRECTORY/state.json    this; replaced by rename, so that whoever reads it reads a whole one
    DIRECTORY/start         the socket by which a container that is created waits for its start; gone once that has come (handover.py)
"""

from __future__ import annotations

import os

from minidocker.errors import NotFoundError, StateError
from minidocker.kernel import pidfd as k
from minidocker.runtime import handover
from minidocker.spec import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OCI_VERSION = "1.2.0"
CREATING, CREATED, RUNNING, STOPPED = "creating", "created", "running", "stopped"  # runtime-spec, runtime.md, "State"
PAUSED = "paused"  # ours besides, as it is runc's and crun's
CGROUPFS = "cgroupfs"  # State.manager: we made the cgroup by mkdir; what else there is managers.py knows
_FILE = "state.json"


class State:
    """`pid` and `start_time` of the container's first process, 0 before there is one; `bundle` and `annotations` as OCI has them;
    `cgroup` its name below the root of each hierarchy, "" for none, `own` the ancestor that goes with it, `manager` who made it;
    `created` seconds since the epoch; `keyring` the name of its session keyring, "" where it has none of its own; `owner` the user who
    made it; `hooks` those of OCI's that are still to come; `listens` whether its seccomp filter has a listener (notify.py)."""

    __slots__ = (
        "annotations", "bundle", "cgroup", "created", "directory", "hooks", "id", "keyring", "listens", "manager", "own", "owner", "pid",
        "start_time",
    )  # fmt: skip

    def __init__(self, directory: str) -> None:
        """What is written in `directory`. NotFoundError when there is nothing."""
        try:
            with open(f"{directory}/{_FILE}", "rb", buffering=0) as file:
                saved = fastjson.loads(file.read().decode())
        except FileNotFoundError:
            raise NotFoundError("the container has no runtime state: it is not running") from None
        self.directory = directory
        self.id: str = saved["id"]
        self.pid: int = saved["pid"]
        self.start_time: int = saved["startTime"]
        self.bundle: str = saved["bundle"]
        self.cgroup: str = saved["cgroup"]
        self.own: str = saved["own"]
        self.manager: str = saved["manager"]
        self.keyring: str = saved["keyring"]
        self.created: float = saved["created"]
        self.owner: int = saved["owner"]
        self.annotations: dict[str, str] = saved["annotations"]
        self.hooks: dict[str, list[dict[str, Any]]] = saved["hooks"]
        self.listens: bool = saved["listens"]

    @classmethod
    def new(cls, directory: str, id: str, **values: Any) -> State:
        """A state that is not written yet, before there is a process."""
        state = cls.__new__(cls)
        state.directory, state.id = directory, id
        state.pid = state.start_time = 0
        state.owner = os.geteuid()
        state.listens = False
        for name, value in values.items():
            setattr(state, name, value)
        return state

    def write(self) -> None:
        """Raises OSError."""
        saved = {
            "ociVersion": OCI_VERSION,
            "id": self.id,
            "pid": self.pid,
            "startTime": self.start_time,
            "bundle": self.bundle,
            "cgroup": self.cgroup,
            "own": self.own,
            "manager": self.manager,
            "keyring": self.keyring,
            "created": self.created,
            "owner": self.owner,
            "annotations": self.annotations,
            "hooks": self.hooks,
            "listens": self.listens,
        }
        path = f"{self.directory}/{_FILE}"
        with open(path + ".new", "wb", buffering=0) as file:
            file.write(fastjson.dumps(saved).encode())
        os.rename(path + ".new", path)

    def open(self) -> int:
        """A pidfd of the container's first process. Raises StateError when it is gone, or its pid is another's by now."""
        pidfd = -1
        try:
            pidfd = k.pidfd_open(self.pid) if self.pid else -1
            # the order matters: the descriptor is held first, then what it holds is checked
            if pidfd >= 0 and k.start_time(self.pid) == self.start_time:
                return pidfd
        except (ProcessLookupError, FileNotFoundError):
            pass
        if pidfd >= 0:
            os.close(pidfd)
        raise StateError("the container is not running")

    def status(self) -> str:
        """CREATED, RUNNING or STOPPED; CREATING before it has a process. Its first process is gone when it waits to be reaped, too."""
        if not self.pid:
            return CREATING
        try:
            pidfd = self.open()
        except StateError:
            return STOPPED
        try:
            if k.pidfd_ended(pidfd):
                return STOPPED
        finally:
            os.close(pidfd)
        return CREATED if handover.waits(self.directory) else RUNNING

    def oci(self, status: str) -> dict[str, Any]:
        """The state as runtime.md, "State", has it: for whoever asks, and for hooks."""
        state: dict[str, Any] = {"ociVersion": OCI_VERSION, "id": self.id, "status": status}
        if status != STOPPED:
            state["pid"] = self.pid
        return {**state, "bundle": self.bundle, "annotations": self.annotations}
