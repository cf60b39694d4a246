"""The files and directories of one cgroup hierarchy: reading, writing, making and removing them. `cgroups` composes these."""

from __future__ import annotations

import errno
import os
import time

from minidocker.errors import ConflictError, KernelError, UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def write(path: str, value: str, action: str = "") -> None:
    """One open, write and close of a cgroup file. KernelError, named `action` (``set FILE to VALUE``)."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, value.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise KernelError.of(action or f"set {os.path.basename(path)} to {value}", error) from error


def read(path: str) -> str:
    """A cgroup file, whole. KernelError."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.readall().decode()
    except OSError as error:
        raise KernelError.of(f"read {path}", error) from error


def words(path: str) -> list[str]:
    """A space- or newline-separated file."""
    return read(path).split()


def keyed(path: str) -> dict[str, int]:
    """A flat keyed file, lines of `KEY NUMBER`."""
    return {key: int(value) for key, _, value in (line.partition(" ") for line in read(path).splitlines())}


def processes(directory: str) -> list[int]:
    """The processes of the cgroup at `directory` and of those below it, as our PID namespace numbers them; none if it is gone."""
    found: list[int] = []
    for cgroup in tree(directory):
        try:
            found.extend(pid for pid in map(int, words(f"{cgroup}/cgroup.procs")) if pid)  # 0: not of our PID namespace
        except KernelError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):  # ENODEV: removed while it was open
                raise
    return found


def children(directory: str) -> list[str]:
    """The cgroups directly below `directory`; none if it is gone."""
    try:
        with os.scandir(directory) as entries:
            return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def tree(directory: str) -> Iterator[str]:
    """`directory` and all cgroups below it, parents first."""
    yield directory
    for child in children(directory):
        yield from tree(child)


def make(directory: str) -> bool:
    """Make a cgroup and its parents; whether it is new. ConflictError when it exists and holds processes."""
    for _ in range(100):
        try:
            os.mkdir(directory)
            return True
        except FileExistsError:
            if processes(directory):
                raise ConflictError(f"cgroup {directory} exists and holds processes") from None
            return False
        except FileNotFoundError:
            # No parent yet, or no longer: whoever removes the last cgroup of a parent removes that too, so this may take another turn.
            try:
                os.makedirs(os.path.dirname(directory), exist_ok=True)
            except (FileNotFoundError, FileExistsError):  # existed, and was gone when it was looked at
                pass
            except OSError as error:
                raise KernelError.of(f"make cgroup {os.path.dirname(directory)}", error) from error
        except OSError as error:
            raise KernelError.of(f"make cgroup {directory}", error) from error
    raise KernelError(f"make cgroup {directory}", errno.ENOENT)


def remove(directory: str, deadline: float) -> None:
    """Remove a cgroup and those below it; "gone already" is no error. Waits for exiting processes until `deadline` (monotonic)."""
    pause = 0.0005
    while True:
        try:
            os.rmdir(directory)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                raise KernelError.of(f"remove cgroup {directory}", error) from error
            below = children(directory)
            for child in below:
                remove(child, deadline)
            if below:
                continue
            if time.monotonic() >= deadline:
                count = len(processes(directory))
                raise KernelError(f"remove cgroup {directory}", errno.EBUSY, f"{count} processes in it") from error
        time.sleep(pause)
        pause = min(pause * 2, 0.02)


def prune(mount: str, name: str, own: str) -> None:
    """Remove the empty ancestors of cgroup `name` up to and including `own`; stops at one that is in use. "" is none."""
    parent = os.path.dirname(name)
    while own and (parent == own or parent.startswith(own + "/")):
        try:
            os.rmdir(f"{mount}/{parent}")
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno in (errno.EBUSY, errno.ENOTEMPTY):  # a sibling lives there
                return
            raise KernelError.of(f"remove cgroup {mount}/{parent}", error) from error
        parent = os.path.dirname(parent)


def fill_cpuset(mount: str, name: str) -> None:
    """A new v1 cpuset has no processors and no memory nodes, and takes no process until it has: copy its parent's, top-down."""
    for file in ("cpuset.cpus", "cpuset.mems"):
        directory, inherited = mount, read(f"{mount}/{file}").strip()
        for part in name.split("/"):
            directory += "/" + part
            own = read(f"{directory}/{file}").strip()
            if not own:
                write(f"{directory}/{file}", inherited)
            inherited = own or inherited


def pass_on(mount: str, name: str, wanted: list[str]) -> list[str]:
    """Have the controllers `wanted` reach v2 cgroup `name`, as far as its ancestors have them; returns those that do not.

    cgroup-v2.rst, "Enabling and Disabling": by cgroup.subtree_control of each ancestor, top-down. Once a child has a controller enabled
    for its own children, nobody (systemd on a reload) can take it away above.
    """
    present = words(f"{mount}/{name}/cgroup.controllers")
    if all(controller in present for controller in wanted):
        return []
    directory = mount
    for part in name.split("/"):
        given, enabled = words(f"{directory}/cgroup.controllers"), words(f"{directory}/cgroup.subtree_control")
        lacking = [controller for controller in wanted if controller in given and controller not in enabled]
        if lacking:
            if directory != mount:
                _refuse_undelegated(directory, lacking)
            value = " ".join("+" + controller for controller in lacking)
            write(f"{directory}/cgroup.subtree_control", value, f"enable {', '.join(lacking)} below cgroup {directory}")
        directory += "/" + part
    present = words(f"{mount}/{name}/cgroup.controllers")
    return [controller for controller in wanted if controller not in present]


def refuse_withheld(mount: str, name: str, wanted: list[str]) -> None:
    """UnsupportedError when `pass_on` would not get one of the controllers `wanted` to the children of v2 cgroup `name`, which may not
    exist yet: what the root has can be enabled all the way down, but for where systemd owns a cgroup on the way."""
    given = words(f"{mount}/cgroup.controllers")
    for controller in wanted:
        if controller not in given:
            raise UnsupportedError(f"the cgroup controller {controller} is missing in cgroup {mount}")
    directory = mount
    for part in name.split("/") if name else []:
        directory += "/" + part
        if not os.path.exists(directory):
            return
        enabled = words(f"{directory}/cgroup.subtree_control")
        _refuse_undelegated(directory, [controller for controller in wanted if controller not in enabled])


def _refuse_undelegated(directory: str, controllers: list[str]) -> None:
    """A unit's cgroup is systemd's alone unless it was delegated (systemd's CGROUP_DELEGATION.md); its xattrs say which it is."""
    if controllers and _xattr(directory, "invocation_id") and _xattr(directory, "delegate") != b"1":
        raise UnsupportedError(
            f"cgroup {directory} does not pass on {', '.join(controllers)} and belongs to systemd",
            "set Delegate=yes on its unit, or choose another --cgroup-parent",
        )


def _xattr(directory: str, name: str) -> bytes:
    for space in ("trusted", "user"):  # systemd writes user.* from version 251 on
        try:
            return os.getxattr(directory, f"{space}.{name}")
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.ENOTSUP, errno.EPERM):
                raise KernelError.of(f"read attribute {space}.{name} of cgroup {directory}", error) from error
    return b""


def until(condition: Callable[[], bool], deadline: float) -> bool:
    """Whether `condition` came true before `deadline` (monotonic); asked at growing intervals of at most 10 ms."""
    pause = 0.0005
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(pause)
        pause = min(pause * 2, 0.01)
    return True
