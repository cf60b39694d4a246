"""What `info` tells about this host: who makes cgroups and which controllers there are, what the kernel has, which tools were found, and
what is therefore off. Off is a function of the rest, each line what does not work and why, with what would mend it."""

from __future__ import annotations

import os
import sys

import minidocker
from minidocker.engine import reconcile
from minidocker.engine.host import Host
from minidocker.errors import MinidockerError
from minidocker.kernel import devices
from minidocker.runtime import managers
from minidocker.spec import capabilities
from minidocker.storage import containers, networks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minidocker.kernel.cgroups import Face

# tool -> how it is asked for its version
_TOOLS = {
    "nft": "--version", "ip": "-V", "tini": "--version", "catatonit": "--version", "setpriv": "--version", "mmdebstrap": "--version",
    "debootstrap": "--version",
}  # fmt: skip
_LIMITS = {  # controller: what it is needed for
    "memory": "--memory, --memory-swap and --memory-reservation", "cpu": "--cpus and --cpu-shares", "cpuset": "--cpuset-cpus",
    "pids": "--pids-limit", "io": "block I/O in stats",
}  # fmt: skip
_PATIENCE = 5.0  # seconds for a tool that is asked for its version


def info(host: Host) -> dict[str, object]:
    """Version, paths, counts, then what was found and what is off."""
    reconcile.look(host)
    records = containers.every(host.state)
    found = {**_cgroups(host.face), **_kernel(), "Libraries": _libraries(), "Tools": {name: _tool(name) for name in _TOOLS}}
    return {
        "Version": minidocker.__version__,
        "Root": host.root,
        "RunRoot": host.run,
        "Containers": len(records),
        "Running": sum(record.status == containers.RUNNING for record in records),
        "Networks": [network.name for network in networks.every(host.state)],
        "Kernel": os.uname().release,
        "Architecture": os.uname().machine,
        **found,
        "Off": off(found),
    }


def _cgroups(face: Face) -> dict[str, Any]:
    return {
        "CgroupVersion": str(face.version),
        "CgroupManager": managers.default(face),
        "CgroupControllers": sorted(face.of),
        "Systemd": _systemd(),
        "SwapLimit": face.limits_swap(),
        "Pressure": face.version == 2 and os.path.exists("/proc/pressure/memory"),
        "DeviceControl": devices.how(face) or "none",
    }


def _systemd() -> str:
    """Its version, "" where it is not the init."""
    from minidocker.kernel import systemd

    if not systemd.booted():
        return ""
    with systemd.Systemd() as manager:
        return manager.version()


def _kernel() -> dict[str, Any]:
    from minidocker.kernel import lsm, process

    held = process.bounding()
    return {
        "Overlay": _has_file_system("overlay"),
        "IPv6": os.path.isdir("/proc/sys/net/ipv6"),
        "Seccomp": os.path.exists("/proc/sys/kernel/seccomp/actions_avail"),
        "AppArmor": lsm.apparmor(),
        "SELinux": lsm.selinux(),
        "LackingCapabilities": [name for number, name in enumerate(capabilities.NAMES) if not held >> number & 1],
    }


def _has_file_system(name: str) -> bool:
    """Whether the kernel has it, or can load it (proc_filesystems(5), modules.dep(5))."""
    with open("/proc/filesystems", "rb", buffering=0) as file:
        if name in file.read().decode().split():
            return True
    try:
        with open(f"/lib/modules/{os.uname().release}/modules.dep", "rb", buffering=0) as file:
            return f"/{name}.ko" in file.read().decode(errors="replace")
    except FileNotFoundError:
        return False


def _libraries() -> dict[str, str]:
    """Versions; "" for what is not installed."""
    from minidocker.kernel import foreign as ctypes

    found = {"python": ".".join(map(str, sys.version_info[:3])), "libseccomp": ""}
    try:
        version = ctypes.CDLL("libseccomp.so.2").seccomp_version
    except OSError:
        return found
    version.restype = ctypes.c_void_p
    numbers = (ctypes.c_uint * 3).from_address(version())
    return {**found, "libseccomp": ".".join(map(str, numbers))}


def _tool(name: str) -> dict[str, str]:
    """{"Path": .., "Version": ..}, both "" where it is not installed."""
    for directory in (*os.environ.get("PATH", "").split(":"), "/usr/sbin", "/usr/bin", "/sbin", "/bin"):
        path = f"{directory}/{name}"
        if directory and os.access(path, os.X_OK) and os.path.isfile(path):
            return {"Path": path, "Version": _version(path, _TOOLS[name])}
    return {"Path": "", "Version": ""}


def _version(path: str, option: str) -> str:
    """The number in the first line of what a tool says of itself: "iproute2-6.1.0," and "v1.0.6" are 6.1.0 and 1.0.6."""
    from minidocker.kernel import process

    try:
        _, output, errors = process.run_tool([path, option], timeout=_PATIENCE)
    except MinidockerError:
        return "unknown"  # a tool that does not start is told of by whoever needs it
    return number_in((output or errors).decode(errors="replace").partition("\n")[0]) or "unknown"


def number_in(line: str) -> str:
    """The first word of a line that has a version in it, without what stands around: "" where there is none."""
    for word in line.replace("(", " ").replace(")", " ").split():
        number = word.rpartition("-")[2] if word.rpartition("-")[2][:1].isdigit() else word
        number = number.removeprefix("v").rstrip(",;")
        if number[:1].isdigit() and "." in number:
            return number
    return ""


def off(found: dict[str, Any]) -> list[str]:
    """What does not work on a host where that was found."""
    from minidocker.kernel.packages import install

    tools, libraries = found["Tools"], found["Libraries"]
    lines = [f"{what}: no cgroup controller {name}" for name, what in _LIMITS.items() if name not in found["CgroupControllers"]]
    if found["CgroupVersion"] != "2":
        lines.append(f"--cgroup-manager systemd: it needs cgroup v2 alone, and this is {_face(found['CgroupVersion'])}")
    elif not found["Systemd"]:
        lines.append("--cgroup-manager systemd: systemd is not the init")
    if "memory" in found["CgroupControllers"] and not found["SwapLimit"]:
        lines.append("--memory-swap: swap is not accounted; boot with swapaccount=1")
    if not found["Pressure"]:
        lines.append("pressure in stats: " + ("the kernel does not count it; boot with psi=1" if found["CgroupVersion"] == "2" else
                                              "only cgroup v2 counts it"))  # fmt: skip
    if found["DeviceControl"] == "none":
        lines.append("device nodes made in containers: access to devices cannot be limited (no cgroup v1 devices, no bpf(2))")
    if not found["Overlay"]:
        lines.append("run: the kernel has no overlay file system")
    if not found["Seccomp"] or not libraries["libseccomp"]:
        why = f"libseccomp is not installed; {install('libseccomp')}" if found["Seccomp"] else "the kernel has no seccomp"
        lines.append(f"run without --security-opt seccomp=unconfined: {why}")
    if not tools["nft"]["Path"]:
        lines.append(f"bridge networks and published ports: nft is not installed; {install('nftables')}")
    if not (tools["tini"]["Path"] or tools["catatonit"]["Path"]):
        lines.append(f"--init: neither tini nor catatonit is installed; {install('tini')}")
    if not found["IPv6"]:
        lines.append("network create --ipv6: the kernel has no IPv6, or it is disabled at boot")
    if found["LackingCapabilities"]:
        lines.append(f"--cap-add and --privileged: not {', '.join(found['LackingCapabilities'])}, which we do not have ourselves")
    return lines


def _face(version: str) -> str:
    return {"0": "a host without cgroups", "hybrid": "v1 and v2"}.get(version, f"v{version}")
