"""Namespaces that are there already, by path, and time namespaces, which are entered by a second step (setns(2), time_namespaces(7))."""

from __future__ import annotations

import errno
import os

from minidocker.errors import KernelError, MinidockerError
from minidocker.kernel import libc, mounts, process, procfs
from minidocker.kernel import namespaces as k
from minidocker.runtime import init, sync

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def join(path: str, flag: int, home: bool = False) -> int:
    """Join it; with `home`, returns a descriptor of where this process, or for a PID namespace its children, was before."""
    kind = next(kind for kind, (known, _) in k.BY_OCI_NAME.items() if known == flag)
    back = -1
    try:
        if home:
            name = {k.NEWPID: "pid_for_children", k.NEWTIME: "time_for_children"}.get(flag) or k.BY_OCI_NAME[kind][1]
            back = k.open_of(os.getpid(), name)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            k.setns(descriptor, flag)
        finally:
            os.close(descriptor)
    except OSError as error:
        hint = f"it is no {kind} namespace" if error.errno == errno.EINVAL else ""
        raise KernelError(f"join the {kind} namespace `{path}`", error.errno or 0, hint=hint) from error
    return back


def mounted_in(pid: int, pidfd: int, path: str) -> int:
    """A detached copy of what is mounted at `path` in the root directory of process `pid`, no link followed. The kernel makes one only for
    who is in that mount namespace: a helper of ours, which enters nothing else of the process's. Raises KernelError."""
    ours, theirs = sync.pair()
    try:
        root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            mounted = mounts.open_in_root(root, path, links=False)
        finally:
            os.close(root)
    except OSError as error:
        raise KernelError.of(f"look up `{path}` of process {pid}", error) from error
    helper, helper_pidfd = k.clone(0)
    if helper == 0:
        _lend(pidfd, mounted, theirs, path)
    theirs.close()
    os.close(mounted)
    os.close(helper_pidfd)
    try:
        return ours.expect(sync.MOUNTED)
    finally:
        ours.close()
        os.waitpid(helper, 0)


def _lend(pidfd: int, mounted: int, channel: sync.Channel, path: str) -> NoReturn:
    """The helper."""
    try:
        libc.prctl(init.PR_SET_DUMPABLE, 0, 0, 0, 0)
        k.setns(pidfd, k.NEWNS)
        channel.send(sync.MOUNTED, mounts.open_tree("", directory=mounted))
    except OSError as error:
        channel.send_failure(KernelError.of(f"copy the mount at `{path}`", error))
    os._exit(0)


def enter_time(offsets: dict[str, dict[str, int]]) -> None:
    """The time namespace that was made for children; its clocks are set before anybody is in it (time_namespaces(7))."""
    if offsets:
        text = "".join(f"{clock} {offset.get('secs', 0)} {offset.get('nanosecs', 0)}\n" for clock, offset in offsets.items())
        descriptor = procfs.open_to_write("/proc/self/timens_offsets")
        try:
            os.write(descriptor, text.encode())
        except OSError as error:
            hint = "no clock can be set before the start of time" if error.errno == errno.ERANGE else ""
            raise KernelError("set the clocks of the time namespace", error.errno or 0, hint=hint) from error
        finally:
            os.close(descriptor)
    # by "self": our own number is another in the host's /proc
    own = os.open("/proc/self/ns/time_for_children", os.O_RDONLY | os.O_CLOEXEC)
    k.setns(own, k.NEWTIME)
    os.close(own)


class Inside:
    """As kernel.namespaces.clone, the child's new namespaces owned by the user namespace at `path`, which the child is in.

    There is no way back out of a user namespace: a helper goes in, and makes the child as its sibling.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def clone(self, flags: int, cgroup: int) -> tuple[int, int]:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        helper, pidfd = k.clone(0, cgroup)
        if helper == 0:
            return self._enter_and_clone(flags, writer)
        os.close(writer)
        os.close(pidfd)
        said = os.read(reader, 4096).decode(errors="replace")
        os.close(reader)
        os.waitpid(helper, 0)
        if not said.isdecimal():
            raise MinidockerError(said or f"join the user namespace `{self.path}`: the process that was to do it has ended")
        return int(said), process.pidfd_open(int(said))

    def _enter_and_clone(self, flags: int, writer: int) -> tuple[int, int]:
        """The helper: returns in the child alone."""
        try:
            join(self.path, k.NEWUSER)
            pid, _ = k.clone(flags, sibling=True)
            if pid == 0:
                return 0, -1
            said = str(pid)
        except (OSError, MinidockerError) as error:
            said = str(error)
        os.write(writer, said.encode(errors="replace")[:4096])
        os._exit(0)
