"""What the global options decide: where the containers are kept, and who makes their cgroups."""

from __future__ import annotations

import os

from minidocker.errors import StateError, UsageError
from minidocker.runtime import state
from minidocker.runtime.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minidocker.cli.oci.parse import Call
    from minidocker.kernel import cgroups
    from minidocker.runtime import managers
    from minidocker.runtime.state import State
    from minidocker.runtime.store import Home

_ROOT = "minidocker-oci"
_OWN_CGROUP = "minidocker-oci"  # below it is what asks for no absolute place; it goes with its last child

def store(call: Call) -> Store:
    """The containers below --root: /run/minidocker-oci, for a user who is not root XDG_RUNTIME_DIR's."""
    root = call.globals.get("root")
    if isinstance(root, str) and root:
        return Store(root)
    if os.geteuid() == 0:
        return Store(f"/run/{_ROOT}")
    directory = os.environ.get("XDG_RUNTIME_DIR")
    if not directory:
        raise UsageError("where are the containers to be kept? XDG_RUNTIME_DIR is not set", "--root DIR")
    return Store(f"{directory}/{_ROOT}")


def in_cgroup(home: Home, verb: str) -> State:
    """The record of a container that runs, or is about to, and has a cgroup: what `verb` is done by. StateError."""
    known = home.state()
    status = home.status(known)
    if status not in (state.CREATED, state.RUNNING):
        raise StateError(f"{verb} container `{home.id}`: container not running: it is {status}")
    if not known.cgroup:
        raise StateError(f"{verb} container `{home.id}`: it has no cgroup")
    return known


def manager(call: Call) -> tuple[managers.Manager, str]:
    """Who makes the cgroup of a new container, and the ancestor that goes with it; one of a Face without hierarchies where it is to have
    none. UsageError."""
    from minidocker.kernel import cgroups
    from minidocker.runtime import managers

    word = call.globals.get("cgroup_manager", "systemd" if call.globals.get("systemd_cgroup") is True else managers.CGROUPFS)
    if word not in (*managers.CHOICES, "disabled"):
        raise UsageError(f"--cgroup-manager {word}: none of {', '.join(managers.CHOICES)} and disabled")
    face = cgroups.Face([]) if word == "disabled" else cgroups.detect().with_all()
    if word == "disabled" or _goes_without(call, face):
        return managers.of(managers.CGROUPFS, cgroups.Face([])), ""
    return managers.of(str(word), face), "" if word == managers.SYSTEMD else _OWN_CGROUP


def _goes_without(call: Call, found: cgroups.Face) -> bool:
    """--rootless: whether no cgroup can be made, and that is to be no error."""
    mode = call.globals.get("rootless", "auto")
    if mode not in ("true", "false", "auto"):
        raise UsageError(f"--rootless {mode}: neither true, false nor auto")
    if mode == "false" or (mode == "auto" and os.geteuid() == 0 and not _in_user_namespace()):
        return False
    return not all(os.access(hierarchy.mount, os.W_OK) for hierarchy in found.used())


def _in_user_namespace() -> bool:
    with open("/proc/self/uid_map", "rb", buffering=0) as file:
        return file.read().split() != [b"0", b"0", b"4294967295"]
