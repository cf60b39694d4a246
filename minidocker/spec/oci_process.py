"""OCI `process` (config.md, "Process"): who runs what, with which limits and privileges. Reads one section; see oci_shape.py."""

from __future__ import annotations

from minidocker.spec.oci_shape import INT32, UINT64, Place, processors, shown, unique

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# getrlimit(2)
_RLIMITS = tuple(
    "RLIMIT_" + name
    for name in (
        "AS", "CORE", "CPU", "DATA", "FSIZE", "LOCKS", "MEMLOCK", "MSGQUEUE", "NICE", "NOFILE", "NPROC", "RSS", "RTPRIO", "RTTIME",
        "SIGPENDING", "STACK",
    )
)  # fmt: skip
SETS = ("bounding", "effective", "inheritable", "permitted", "ambient")
# sched(7): the policies, and sched_setattr(2)'s flags
POLICIES = {
    "SCHED_OTHER": 0, "SCHED_FIFO": 1, "SCHED_RR": 2, "SCHED_BATCH": 3, "SCHED_ISO": 4, "SCHED_IDLE": 5, "SCHED_DEADLINE": 6,
}  # fmt: skip
SCHEDULER_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01, "SCHED_FLAG_RECLAIM": 0x02, "SCHED_FLAG_DL_OVERRUN": 0x04, "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10, "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20, "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}  # fmt: skip
# ioprio_set(2)
IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
_IDS = (0, (1 << 32) - 2)  # 2^32-1 is "no change" to setresuid(2)


def section(place: Place, value: Any) -> dict[str, Any]:
    """`process`, checked; what it always has afterwards: args, cwd, env, user, terminal, noNewPrivileges."""
    process = place.object(value)
    process.boolean("terminal", default=False)
    process.take("consoleSize", _console_size)
    process.take("user", _user, default={"uid": 0, "gid": 0})
    process.path("cwd", required=True)
    args = process.strings("args", required=True)
    if not args:
        raise place.of("args").wrong("empty: its first entry is the program")
    if not args[0]:
        raise place.of("args").at(0).wrong("empty: it is the program")
    for at, entry in place.of("env").array(process.strings("env", default=[])):
        variable(at, entry)
    process.take("rlimits", _rlimits)
    process.take("capabilities", _capabilities)
    process.boolean("noNewPrivileges", default=False)
    process.integer("oomScoreAdj", (-1000, 1000))
    for label in ("apparmorProfile", "selinuxLabel"):
        if not process.string(label):
            process.taken.pop(label, None)
    process.take("ioPriority", _io_priority)
    process.take("scheduler", _scheduler)
    process.take("execCPUAffinity", _affinity)
    return process.taken


def variable(place: Place, entry: str) -> None:
    """NAME=VALUE, environ(7)."""
    if entry.partition("=")[0] == "" or "=" not in entry:
        raise place.wrong(f"{shown(entry)} is not NAME=VALUE")


def _console_size(place: Place, value: Any) -> dict[str, int]:
    size = place.object(value)
    for key in ("height", "width"):
        size.integer(key, (0, 0xFFFF), required=True)  # struct winsize, ioctl_tty(2)
    return size.taken


def _user(place: Place, value: Any) -> dict[str, Any]:
    user = place.object(value)
    user.integer("uid", _IDS, default=0)
    user.integer("gid", _IDS, default=0)
    user.integer("umask", (0, 0o777))
    user.list("additionalGids", lambda at, entry: at.integer(entry, *_IDS))
    return user.taken


def _rlimits(place: Place, value: Any) -> list[dict[str, Any]]:
    limits = [_rlimit(at, entry) for at, entry in place.array(value)]
    unique(((place.at(i).of("type"), limit["type"]) for i, limit in enumerate(limits)), "limit of the kind")
    return limits


def _rlimit(place: Place, value: Any) -> dict[str, Any]:
    limit = place.object(value)
    limit.word("type", _RLIMITS, "limit", required=True)
    soft, hard = (limit.integer(key, UINT64, required=True) for key in ("soft", "hard"))
    if soft > hard:
        raise place.of("soft").wrong(f"{soft} is above hard {hard}")
    return limit.taken


def _capabilities(place: Place, value: Any) -> dict[str, list[str]]:
    """Names the kernel lacks are warned of, not refused (config.md, 1.1 on); what is not even of the form is refused."""
    capabilities = place.object(value)
    for name in SETS:
        for at, entry in place.of(name).array(capabilities.strings(name, default=[])):
            if not entry.startswith("CAP_") or not entry[4:].replace("_", "").isalnum() or entry != entry.upper():
                raise at.wrong(f"{shown(entry)} is not a capability's name", "as in CAP_CHOWN, capabilities(7)")
    taken: dict[str, list[str]] = capabilities.taken
    for i, entry in enumerate(taken["effective"]):
        if entry not in taken["permitted"]:
            raise place.of("effective").at(i).wrong(f"{entry} is not in permitted", "the kernel allows no other (capset(2))")
    return taken


def _io_priority(place: Place, value: Any) -> dict[str, Any]:
    priority = place.object(value)
    priority.word("class", tuple(IO_CLASSES), "class of input and output", required=True)
    priority.integer("priority", (0, 7), default=0)
    return priority.taken


def _scheduler(place: Place, value: Any) -> dict[str, Any]:
    scheduler = place.object(value)
    policy = scheduler.word("policy", tuple(POLICIES), "scheduling policy", required=True)
    nice = scheduler.integer("nice", INT32)
    if nice is not None and not -20 <= nice <= 19:
        raise place.of("nice").wrong(f"{nice} is not from -20 to 19")
    scheduler.list("flags", lambda at, entry: at.word(entry, tuple(SCHEDULER_FLAGS), "flag of the scheduler"))
    priority = scheduler.integer("priority", INT32)
    for key in ("runtime", "deadline", "period"):
        amount = scheduler.integer(key, UINT64)
        if amount and policy != "SCHED_DEADLINE":
            raise place.of(key).wrong(f"{amount}: it goes with SCHED_DEADLINE, not with {policy}")
    realtime = policy in ("SCHED_FIFO", "SCHED_RR")
    if realtime and not 1 <= (priority or 0) <= 99:
        raise place.of("priority").wrong(f"{priority or 0} is not from 1 to 99, as {policy} wants")
    if priority and not realtime:
        raise place.of("priority").wrong(f"{priority}: it goes with SCHED_FIFO and SCHED_RR, not with {policy}")
    return scheduler.taken


def _affinity(place: Place, value: Any) -> dict[str, str]:
    affinity = place.object(value)
    for key in ("initial", "final"):
        if affinity.given.get(key) != "":
            affinity.take(key, processors)
    return affinity.taken


