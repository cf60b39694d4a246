"""update and events: a container's limits, and what it uses of them."""

from __future__ import annotations

import os
import time

from minidocker.cli import output
from minidocker.cli.oci import bundle, surroundings
from minidocker.errors import UsageError
from minidocker.kernel import cgroups
from minidocker.kernel import process as kernel
from minidocker.plan import At
from minidocker.runtime import managers, stats
from minidocker.spec import fastjson, oci_config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minidocker.cli.oci.parse import Call
    from minidocker.kernel.cgroups import Face
    from minidocker.runtime.state import State

# option -> where in linux.resources
_FLAGS = {
    "memory": ("memory", "limit"), "memory_reservation": ("memory", "reservation"), "memory_swap": ("memory", "swap"),
    "cpu_share": ("cpu", "shares"), "cpu_quota": ("cpu", "quota"), "cpu_period": ("cpu", "period"), "cpu_burst": ("cpu", "burst"),
    "cpu_idle": ("cpu", "idle"), "cpu_rt_period": ("cpu", "realtimePeriod"), "cpu_rt_runtime": ("cpu", "realtimeRuntime"),
    "cpuset_cpus": ("cpu", "cpus"), "cpuset_mems": ("cpu", "mems"), "pids_limit": ("pids", "limit"), "blkio_weight": ("blockIO", "weight"),
}  # fmt: skip
_TEXTS = ("cpuset_cpus", "cpuset_mems")
_OOM_PAUSE = 0.5  # seconds between two looks for what the kernel has killed
_DEFAULT_INTERVAL = "5s"


def update(call: Call) -> int:
    """Change the limits of a container that has not ended; what is not named stays."""
    asked = _resources(call)
    with surroundings.store(call).find(call.arguments[0]) as home:
        home.lock_or_fail("update")
        known = surroundings.in_cgroup(home, "update")
        # containerd's CRI sends all that the container has; only what differs would be a change
        if asked.get("devices") and asked["devices"] == home.configuration()["linux"]["resources"].get("devices"):
            del asked["devices"]
        managers.of(known.manager, cgroups.detect()).update(known.cgroup, asked).run(At())
    return 0


def _resources(call: Call) -> dict[str, Any]:
    if call.text("resources"):
        return oci_config.resources(bundle.read(call.text("resources")))
    asked: dict[str, dict[str, Any]] = {}
    for option, (section, field) in _FLAGS.items():
        value = call.text(option) if option in _TEXTS else call.number(option)
        if value not in (None, ""):
            asked.setdefault(section, {})[field] = value
    if not asked:
        raise UsageError("update: what is to change? neither --resources nor a limit is given")
    return oci_config.resources(fastjson.dumps(asked))


def events(call: Call) -> int:
    """A line of JSON each time: "stats" at every interval, "oom" when the kernel has killed a process for want of memory; until the
    container ends. With --stats one line."""
    with surroundings.store(call).find(call.arguments[0]) as home:
        known = surroundings.in_cgroup(home, "watch")
        interval = _interval(call.text("interval", _DEFAULT_INTERVAL))
        pidfd = known.open()
    face = cgroups.detect()
    if call.flag("stats"):
        _say("stats", known, stats.collect(face, known.cgroup))
        return 0
    killed = _oom_kills(face, known)
    due = time.monotonic()
    while not kernel.pidfd_ended(pidfd, min(_OOM_PAUSE, max(0.0, due - time.monotonic()))):
        now = _oom_kills(face, known)
        if now > killed:
            _say("oom", known, None)
            killed = now
        if time.monotonic() >= due:
            _say("stats", known, stats.collect(face, known.cgroup))
            due += interval
    os.close(pidfd)
    return 0


def _oom_kills(face: Face, known: State) -> int:
    return face.oom_kills(known.cgroup) if "memory" in face.of else 0


def _say(kind: str, known: State, data: dict[str, Any] | None) -> None:
    output.say(fastjson.dumps({"type": kind, "id": known.id, **({"data": data} if data is not None else {})}))


def _interval(text: str) -> float:
    from minidocker.spec.parse_time import duration

    seconds = duration(text)
    if not seconds:
        raise UsageError(f"--interval {text}: not a time, as 500ms, 5s or 1m")
    return seconds
