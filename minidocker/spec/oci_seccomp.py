"""OCI `linux.seccomp` (config-linux.md, "Seccomp"), checked. Reads one section; see oci_shape.py; runtime/seccomp.py compiles it."""

from __future__ import annotations

from minidocker.spec.oci_shape import UINT64, Fields, Place, shown
from minidocker.spec.seccomp import ACTIONS, ARCHITECTURES, OPERATORS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FLAGS = tuple("SECCOMP_FILTER_FLAG_" + flag for flag in ("TSYNC", "LOG", "SPEC_ALLOW", "WAIT_KILLABLE_RECV"))
_NOTIFY = "SCMP_ACT_NOTIFY"
_CARRIES = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
_MOST_ERRNO = 0xFFFF  # SECCOMP_RET_DATA, seccomp(2)
_LAST_ARGUMENT = 5


def section(place: Place, value: Any) -> dict[str, Any]:
    seccomp = place.object(value)
    _action(seccomp, "defaultAction", "defaultErrnoRet")
    if seccomp.taken["defaultAction"] == _NOTIFY:
        raise place.of("defaultAction").wrong(f"{_NOTIFY} for every call would stop the container before its listener is known")
    seccomp.list("architectures", lambda at, entry: at.word(entry, tuple(ARCHITECTURES), "architecture"))
    seccomp.list("flags", lambda at, entry: at.word(entry, FLAGS, "flag of seccomp(2)"))
    for key in ("listenerPath", "listenerMetadata"):
        if not seccomp.string(key):
            seccomp.taken.pop(key, None)
    if "listenerPath" in seccomp.taken:
        place.of("listenerPath").path_inside(seccomp.taken["listenerPath"])
    elif "listenerMetadata" in seccomp.taken:
        raise place.of("listenerMetadata").wrong("there is no listenerPath to send it to")
    seccomp.list("syscalls", _rule, default=[])
    notified = [i for i, rule in enumerate(seccomp.taken["syscalls"]) if rule["action"] == _NOTIFY]
    if notified and "listenerPath" not in seccomp.taken:
        raise place.of("listenerPath").wrong(f"missing: syscalls[{notified[0]}] has the action {_NOTIFY}")
    if "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" in seccomp.taken.get("flags", ()) and not notified:
        raise place.of("flags").wrong(f"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV goes with {_NOTIFY}, which no rule has")
    return seccomp.taken


def _action(fields: Fields, key: str, carried: str) -> None:
    action = fields.word(key, tuple(ACTIONS), "action of a filter", required=True)
    if fields.integer(carried, (0, _MOST_ERRNO)) is not None and action not in _CARRIES:
        number = fields.taken[carried]
        raise fields.place.of(carried).wrong(f"{number}: {action} carries no number", "only " + " and ".join(_CARRIES) + " do")


def _rule(place: Place, value: Any) -> dict[str, Any]:
    rule = place.object(value)
    names = rule.strings("names", required=True)
    if not names:
        raise place.of("names").wrong("empty: it names the system calls")
    for i, name in enumerate(names):
        if not name or not name.isascii() or not name.replace("_", "").isalnum():
            raise place.of("names").at(i).wrong(f"{shown(name)} is no system call's name")
    _action(rule, "action", "errnoRet")
    rule.list("args", _argument, default=[])
    return rule.taken


def _argument(place: Place, value: Any) -> dict[str, Any]:
    argument = place.object(value)
    argument.integer("index", (0, _LAST_ARGUMENT), required=True)
    argument.integer("value", UINT64, required=True)
    argument.integer("valueTwo", UINT64, default=0)
    argument.word("op", tuple(OPERATORS), "operator", required=True)
    return argument.taken
