"""`minidocker doctor`: whether this host can run containers, and what does not work on it. Each check says what was found, why it matters
and what mends it."""

from __future__ import annotations

import os

from minidocker.engine import info
from minidocker.engine.host import Host
from minidocker.kernel import sysctl
from minidocker.kernel.packages import install

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

GOOD, OFF, BAD = "good", "off", "bad"
_NAMESPACES = ("net", "pid", "mnt", "ipc", "uts", "cgroup")
_OLDEST = (5, 12)  # mount_setattr(2)


class Check:
    """`name` of what was looked at, `state` GOOD, OFF (something does not work without it) or BAD (nothing does), `found`; and, where it is
    not good, `why` it matters and what to do, `mend`; "" where there is no more to say."""

    __slots__ = ("found", "mend", "name", "state", "why")

    def __init__(self, name: str, state: str, found: str, why: str = "", mend: str = "") -> None:
        self.name, self.state, self.found, self.why, self.mend = name, state, found, why, mend


def examine(host: Host) -> list[Check]:
    """All checks, in order."""
    found: dict[str, Any] = info.info(host)
    checks = [*_kernel(found), *_cgroups(found), *_tools(found)]
    said = {check.found for check in checks}
    for line in found["Off"]:
        what, _, rest = line.partition(": ")
        why, _, mend = rest.partition("; ")
        if why not in said:
            checks.append(Check(what, OFF, why, "", mend))
    return checks


def _kernel(found: dict[str, Any]) -> Iterator[Check]:
    release = found["Kernel"]
    numbers = tuple(int("".join(filter(str.isdigit, part)) or 0) for part in release.split(".")[:2])
    yield _check("kernel", numbers >= _OLDEST, release, "mount_setattr(2) came with 5.12", "boot a newer one")
    lacking = [name for name in _NAMESPACES if not os.path.exists(f"/proc/self/ns/{name}")]
    yield _check("namespaces", not lacking, "all six" if not lacking else f"not {', '.join(lacking)}", "they are what a container is",
                 "a kernel with CONFIG_NAMESPACES and its like")
    most = sysctl.read("user/max_user_namespaces") or "0"
    users = os.path.exists("/proc/self/ns/user") and most != "0"
    yield Check("user namespaces", GOOD if users else OFF, f"up to {most}" if users else "none",
                "" if users else "containers with uids of their own (the OCI command line's mappings) need them",
                "" if users else "sysctl -w user.max_user_namespaces=10000")
    yield _check("overlay", found["Overlay"], "there" if found["Overlay"] else "the kernel has no overlay file system",
                 "a container's root file system is one", "modprobe overlay")
    library = found["Libraries"]["libseccomp"]
    said = "the kernel has no seccomp" if not found["Seccomp"] else f"libseccomp {library}" if library else "libseccomp is not installed"
    there = bool(found["Seccomp"] and library)
    yield _check("seccomp", there, said, "without it only --security-opt seccomp=unconfined starts", install("libseccomp"))


def _cgroups(found: dict[str, Any]) -> Iterator[Check]:
    version, controllers = found["CgroupVersion"], found["CgroupControllers"]
    yield _check("cgroups", version != "0", f"{'v1 and v2' if version == 'hybrid' else 'v' + version}, made by {found['CgroupManager']}"
                 if version != "0" else "none are mounted", "a container's processes are limited, counted and found by its cgroup",
                 "mount -t cgroup2 cgroup2 /sys/fs/cgroup")
    lacking = [name for name in ("memory", "cpu", "pids") if name not in controllers]
    yield Check("controllers", OFF if lacking else GOOD, f"not {', '.join(lacking)}" if lacking else ", ".join(controllers),
                "limits that need them are refused" if lacking else "", "boot with cgroup_enable=memory, say" if lacking else "")


def _tools(found: dict[str, Any]) -> Iterator[Check]:
    nft = found["Tools"]["nft"]
    yield _check("nftables", bool(nft["Path"]), f"{nft['Path']} {nft['Version']}" if nft["Path"] else "nft is not installed",
                 "bridge networks are guarded, masqueraded and published by it", install("nftables"))


def _check(name: str, good: bool, found: str, why: str, mend: str) -> Check:
    return Check(name, GOOD, found) if good else Check(name, BAD, found, why, mend)
