"""This host as the engine sees it: one data root, what belongs to it in /run, its state, and what the kernel offers.

    ROOT/state.db                 records                          RUN = /run/minidocker/TAG, gone with the boot
    ROOT/containers/ID/           upper, work, log, files          RUN/containers/ID/{lock,state.json,exit,paused}
    ROOT/events                   what has happened (events.py)
    ROOT/hostview/, ROOT/cache/   skeletons, compiled filters      RUN/networks/NAME/{hosts,port}, RUN/network.lock
                                                                   RUN/resolvers/NAME, its DNS server's lock

TAG is a hash of the data root's real path: two roots on one host never meet in cgroups, nft tables or links.
"""

from __future__ import annotations

import _struct as struct
import binascii
import fcntl
import os
import time

from minidocker.errors import MinidockerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minidocker.kernel.cgroups import Face
    from minidocker.runtime.managers import Place
    from minidocker.spec.request import RunRequest
    from minidocker.storage.state import State

DEFAULT_ROOT = "/var/lib/minidocker"
_RUN = "/run/minidocker"
EVENTS_LIMIT = 1 << 20  # bytes of one of the two files of events
# struct flock on 64-bit Linux: l_type, l_whence, padding, l_start, l_len, l_pid, padding
_FLOCK = "hhiqqii"
_F_OFD_GETLK, _F_OFD_SETLK, _F_OFD_SETLKW = 36, 37, 38  # fcntl(2); the fcntl module has them only from Python 3.13 on


class Host:
    """`root` the data root, made when missing; `notice` is called with one-line messages that the user should see."""

    def __init__(self, root: str, notice: Callable[[str], None]) -> None:
        os.umask(0o022)  # whatever the caller's: files are made with the modes that are said here and there
        try:
            os.makedirs(root, exist_ok=True)
            self.root = os.path.realpath(root)
            self.tag = f"{binascii.crc32(os.fsencode(self.root)):08x}"
            self.run = f"{_RUN}/{self.tag}"
            # nobody else may get at a container's files: a setuid program among them is one of the host's (CVE-2021-41091)
            for directory in (f"{self.root}/containers", f"{self.run}/containers"):
                if not os.path.isdir(directory):
                    os.makedirs(directory, mode=0o700, exist_ok=True)
        except OSError as error:
            raise MinidockerError(
                f"use {root} as the data root: {(error.strerror or '').lower()}", "choose another with --root DIR"
            ) from error
        self.notice = notice
        self._state: State | None = None
        self._face: Face | None = None

    @property
    def state(self) -> State:
        """This process's own connection: after a fork a new one, as SQLite demands."""
        if self._state is None or self._state.pid != os.getpid():
            from minidocker.storage.state import State  # the command in the foreground of a `run` never needs it

            # kept, not closed, when it is the parent's: closing it here would disturb the parent's locks
            self._inherited = self._state
            self._state = State(f"{self.root}/state.db")
        return self._state

    @property
    def face(self) -> Face:
        """The cgroup hierarchies; looked at when first needed, as `ps` and `logs` need none."""
        if self._face is None:
            from minidocker.kernel import cgroups

            self._face = cgroups.detect()
        return self._face

    def data_directory(self, id: str) -> str:
        return f"{self.root}/containers/{id}"

    def run_directory(self, id: str) -> str:
        return f"{self.run}/containers/{id}"

    def moving(self, id: str) -> str:
        """The file whose lock is held by whoever puts the running container into a network or takes it out of one, or ends it."""
        return f"{self.run}/containers/{id}/moving"

    def paused(self, id: str) -> str:
        """The file that is there while somebody has stopped the running container's processes (pausing.py)."""
        return f"{self.run}/containers/{id}/paused"

    def is_paused(self, id: str) -> bool:
        return os.path.exists(self.paused(id))

    def log_file(self, id: str) -> str:
        return f"{self.root}/containers/{id}/log"

    def names_directory(self, network: str) -> str:
        """Where a network's hosts files are."""
        return f"{self.run}/networks/{network}"

    def place(self, id: str, request: RunRequest) -> Place:
        """Where the container's cgroup is, and who makes it. UsageError for a --cgroup-parent that the manager has no use for."""
        from minidocker.runtime import managers

        return managers.place(self.face, request.cgroup_manager, self.tag, id, request.cgroup_parent or "")

    def claim(self, id: str) -> int:
        """Take the container's lock (see `hold_lock`), making its run directory; -1 when a living process has it.

        One at a time, and `drop_run_directory` too: a run directory without its lock would be taken for abandoned between the two steps
        of making it.
        """
        turn = self._take_turn()
        try:
            os.makedirs(self.run_directory(id), 0o700, exist_ok=True)
            return hold_lock(f"{self.run_directory(id)}/lock")
        except BlockingIOError:
            return -1
        finally:
            os.close(turn)

    def drop_run_directory(self, id: str) -> None:
        """The last thing whoever has claimed a container does with it."""
        from minidocker.storage import rootfs

        turn = self._take_turn()
        try:
            rootfs.remove_tree(self.run_directory(id))
        finally:
            os.close(turn)

    def renew(self, id: str) -> int:
        """A run directory with nothing of the last run in it, for another start of a container that this process has claimed; its lock.
        Nobody finds the container unclaimed meanwhile, who asks `holder`, or claims it."""
        from minidocker.storage import rootfs

        turn = self._take_turn()
        try:
            rootfs.remove_tree(self.run_directory(id))
            os.mkdir(self.run_directory(id), 0o700)
            return hold_lock(f"{self.run_directory(id)}/lock")
        finally:
            os.close(turn)

    def holder(self, id: str) -> int:
        """The pid of who has claimed the container, 0 where nobody has."""
        turn = self._take_turn()
        try:
            return lock_holder(f"{self.run_directory(id)}/lock")
        finally:
            os.close(turn)

    def _take_turn(self) -> int:
        descriptor = os.open(f"{self.run}/containers", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return descriptor

    def event(self, type: str, action: str, id: str, name: str, /, **attributes: str) -> None:
        """Add a line to what `events` shows (events.py). What has happened has happened: that it cannot be written down is only told."""
        from minidocker.spec import fastjson

        event = {"time": time.time_ns(), "type": type, "action": action, "id": id, "name": name, "attributes": attributes}
        path = f"{self.root}/events"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, fastjson.dumps(event).encode() + b"\n")
                if os.lseek(descriptor, 0, os.SEEK_CUR) > EVENTS_LIMIT:
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
                    if os.stat(path).st_ino == os.fstat(descriptor).st_ino:  # else somebody was faster
                        os.rename(path, path + ".1")
            finally:
                os.close(descriptor)
        except OSError as error:
            self.notice(f"the event `{action}` of `{name}` could not be written to {path}: {(error.strerror or '').lower()}")

    @property
    def boot(self) -> str:
        """The boot id: what the kernel held under another one is gone."""
        with open("/proc/sys/kernel/random/boot_id", "rb", buffering=0) as file:
            return file.read().strip().decode()


def hold_lock(path: str) -> int:
    """Take the POSIX record lock by which a monitor's life is known; the descriptor must stay open.

    The lock belongs to the process: fork does not pass it on, execve keeps it, and it goes with the process however that ends
    (fcntl(2)). Closing any descriptor of the file in this process would let go of it too.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def lock_holder(path: str) -> int:
    """The pid of the living process that holds the lock, 0 when none does."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0, 0, 0)
        kind, _, _, _, _, pid, _ = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    finally:
        os.close(descriptor)
    return 0 if kind == fcntl.F_UNLCK else pid


def pass_on_lock(path: str, wait: bool = False) -> int:
    """Take an open file description lock (fcntl(2)): whoever inherits the descriptor has the lock, too, as long as it is open anywhere.
    The file is empty then. Raises BlockingIOError where somebody has it, unless it is to `wait`."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.fcntl(descriptor, _F_OFD_SETLKW if wait else _F_OFD_SETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0, 0, 0))
        os.ftruncate(descriptor, 0)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def is_locked(path: str) -> bool:
    """Whether anybody holds such a lock."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0, 0, 0)
        return bool(struct.unpack(_FLOCK, fcntl.fcntl(descriptor, _F_OFD_GETLK, asked))[0] != fcntl.F_UNLCK)
    finally:
        os.close(descriptor)
