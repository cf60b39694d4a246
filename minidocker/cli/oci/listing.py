"""state, list, ps, pause, resume: what is there, and stopping it for a while."""

from __future__ import annotations

import os
import time

from minidocker.cli import output
from minidocker.cli.oci import surroundings
from minidocker.errors import KernelError, NotFoundError, StateError, UsageError
from minidocker.runtime import state
from minidocker.spec import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minidocker.cli.oci.parse import Call
    from minidocker.kernel.cgroups import Face
    from minidocker.runtime.state import State
    from minidocker.runtime.store import Home

_FORMATS = ("table", "json")


def print_state(call: Call) -> int:
    """runtime.md, "State", in JSON; besides the specification's the keys that runc has."""
    with surroundings.store(call).find(call.arguments[0]) as home:
        output.say(fastjson.dumps(_described(home)))
    return 0


def _described(home: Home) -> dict[str, Any]:
    known = home.known()
    status = home.status(known)
    if known is None:
        return {"ociVersion": state.OCI_VERSION, "id": home.id, "status": status, "pid": 0, "bundle": "", "annotations": {}}
    if status == state.RUNNING and is_paused(known):
        status = state.PAUSED
    described = known.oci(status)
    described.setdefault("pid", 0)
    return {**described, "created": _instant(known.created)}


def is_paused(known: State) -> bool:
    """Whether the container's cgroup is frozen."""
    if not known.cgroup:
        return False
    from minidocker.kernel import cgroups

    face = cgroups.detect()
    freezer = face.of.get("freezer")
    return freezer is not None and os.path.exists(freezer.path(known.cgroup)) and _asked_to_stop(face, known.cgroup)


def _asked_to_stop(face: Face, name: str) -> bool:
    try:
        return face.is_frozen(name)
    except KernelError:
        return False  # deleted meanwhile


def _instant(seconds: float) -> str:
    """RFC 3339, UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1e9):09d}Z"


def containers(call: Call) -> int:
    """All containers: a table, JSON or the ids alone."""
    wanted = _format(call)
    store = surroundings.store(call)
    found = []
    for id in store.ids():
        try:
            with store.find(id) as home:
                known = home.known()
                found.append((_described(home), known.owner if known else 0))
        except NotFoundError:  # deleted since the list was read
            continue
    if call.flag("quiet"):
        output.say_text("".join(f"{described['id']}\n" for described, _ in found))
        return 0
    if wanted == "json":
        output.say(fastjson.dumps([{**described, "owner": _user(owner)} for described, owner in found]))
        return 0
    from minidocker.cli.table import Column, table

    headings = ("id", "pid", "status", "bundle", "created", "owner")
    rows = [{"created": "", "owner": _user(owner), **{key: str(value) for key, value in described.items()}} for described, owner in found]
    output.say_text(table([Column(heading.upper(), heading) for heading in headings], rows, None))
    return 0


def _user(uid: int) -> str:
    import pwd  # the host's own list of users: this is long before any container's file system

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


def _format(call: Call) -> str:
    wanted = call.text("format", "table")
    if wanted not in _FORMATS:
        raise UsageError(f"--format {wanted}: neither table nor json")
    return wanted


def processes(call: Call) -> int:
    """The processes of a container: their pids in JSON, or what ps(1) says of them, with the PS-OPTIONs given."""
    from minidocker.kernel import cgroups, procps

    wanted = _format(call)
    with surroundings.store(call).find(call.arguments[0]) as home:
        known = home.state()
        if not known.cgroup:
            raise StateError(f"list the processes of container `{home.id}`: it has no cgroup, which would tell of them")
        pids = cgroups.detect().pids(known.cgroup)
    if wanted == "json":
        output.say(fastjson.dumps(pids))
        return 0
    output.say_text(procps.options(pids, call.arguments[1:] or ["-ef"]))
    return 0


def pause(call: Call) -> int:
    """Stop every process of a running container, at once."""
    from minidocker.kernel import cgroups

    with surroundings.store(call).find(call.arguments[0]) as home:
        home.lock_or_fail("pause")
        cgroups.detect().freeze(surroundings.in_cgroup(home, "pause").cgroup)
    return 0


def resume(call: Call) -> int:
    """Let the processes of a paused container go on."""
    from minidocker.kernel import cgroups

    with surroundings.store(call).find(call.arguments[0]) as home:
        home.lock_or_fail("resume")
        known = surroundings.in_cgroup(home, "resume")
        if not is_paused(known):
            raise StateError(f"resume container `{home.id}`: it is not paused")
        cgroups.detect().thaw(known.cgroup)
    return 0
