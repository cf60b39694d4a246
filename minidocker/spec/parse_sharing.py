"""What a container is given of this host or shares with it or with another: devices, kernel settings, groups, namespaces. Loaded only
where one of them is asked for. Pure, as parse.py is."""

from __future__ import annotations

from minidocker.errors import UsageError
from minidocker.spec import oci_linux
from minidocker.spec.parse import name, normal, number, refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PRIVATE, HOST, CONTAINER = "private", "host", "container:"
_ACCESS = frozenset("rwm")
_MOST_MAJOR, _MOST_MINOR = (1 << 12) - 1, (1 << 20) - 1  # MINORBITS, linux/kdev_t.h
_MOST_SCORE = 1000  # proc_pid_oom_score_adj(5)


def device(text: str) -> tuple[str, str, str]:
    """--device SRC[:DST[:ACCESS]] or SRC:ACCESS as (host path, container path, access of r, w and m)."""
    parts = text.split(":")
    if len(parts) == 2 and parts[1] and _ACCESS.issuperset(parts[1]):
        parts = [parts[0], parts[0], parts[1]]
    source, target, access = [*parts, *([parts[0]] if len(parts) == 1 else []), "rwm"][:3]
    if len(parts) > 3 or not source.startswith("/") or not target.startswith("/") or normal(target) == "/" or "\0" in text:
        raise refused("--device", text, "SRC[:DST[:rwm]], absolute paths, is allowed")
    if not access or not _ACCESS.issuperset(access) or len(set(access)) != len(access):
        raise refused("--device", text, f"access `{access}`: letters of rwm, each once, are allowed")
    return normal(source), normal(target), access


def device_rule(text: str) -> dict[str, Any]:
    """--device-cgroup-rule "c 1:3 rwm" as an OCI device rule; `*` is any number, `a` both types (cgroup-v1/devices.rst)."""
    words = text.split()
    major, _, minor = words[1].partition(":") if len(words) == 3 else ("", "", "")
    numbers = {key: number(word) for key, word in (("major", major), ("minor", minor)) if word != "*"}
    if len(words) != 3 or words[0] not in ("a", "b", "c") or None in numbers.values() or not _ACCESS.issuperset(words[2]):
        raise refused("--device-cgroup-rule", text, "TYPE MAJOR:MINOR ACCESS, as in `c 10:200 rwm`, is allowed; * is any number")
    if (numbers.get("major") or 0) > _MOST_MAJOR or (numbers.get("minor") or 0) > _MOST_MINOR:
        raise refused("--device-cgroup-rule", text, f"numbers up to {_MOST_MAJOR}:{_MOST_MINOR} are allowed")
    return {"allow": True, "type": words[0], **numbers, "access": words[2]}


def sysctl(text: str) -> tuple[str, str]:
    """--sysctl NAME=VALUE: only of a namespace that a container has of its own."""
    setting, equals, value = text.partition("=")
    parts = oci_linux.sysctl_path(setting).split("/")
    if not equals or not value or "\n" in value or len(parts) < 2 or any(part in ("", ".", "..") for part in parts):
        raise refused("--sysctl", text, "NAME=VALUE is allowed, as in net.core.somaxconn=1024")
    if setting in ("kernel.hostname", "kernel.domainname"):
        raise refused("--sysctl", text, "that is --hostname's to say")
    if oci_linux.namespace_of(setting) not in ("network", "ipc"):
        raise refused("--sysctl", text, "it is not of a namespace; net.*, fs.mqueue.* and kernel.shm*, msg*, sem are")
    return setting, value


def namespaces_agree(sysctls: dict[str, str], ipc: str, network: str) -> None:
    """UsageError for a setting that would be the host's, or another container's."""
    for setting in sysctls:
        kind = oci_linux.namespace_of(setting)
        mode = ipc if kind == "ipc" else network
        if mode == HOST or mode.startswith(CONTAINER):
            owner = "the host's" if mode == HOST else "that container's"
            option = "--ipc" if kind == "ipc" else "--net"
            message = f"--sysctl {setting} cannot be used with {option} {mode}: it is {owner}"
            raise UsageError(message, f"leave out {option}, or set it there")


def namespace(option: str, text: str) -> str:
    """--ipc, --pid and --uts: private (""), host or container:NAME."""
    if text in ("", PRIVATE):
        return ""
    if text.startswith(CONTAINER):
        name(f"{option} {CONTAINER}", text.removeprefix(CONTAINER))
    elif text != HOST:
        raise refused(option, text, "private, host or container:NAME is allowed")
    return text


def group(text: str) -> str:
    """--group-add: a name or a number."""
    if not text or not text.isprintable() or any(c in text for c in " :/,") or text[0] in "-+":
        raise refused("--group-add", text, "a group's name or number is allowed")
    return text


def oom_score(text: str) -> int:
    """--oom-score-adj: -1000 to 1000."""
    found = number(text.removeprefix("-"))
    if found is None or found > _MOST_SCORE:
        raise refused("--oom-score-adj", text, f"{-_MOST_SCORE} (never killed) to {_MOST_SCORE} (first) is allowed")
    return -found if text.startswith("-") else found
