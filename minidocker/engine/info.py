"""What `info` tells about this host."""

from __future__ import annotations

import os

import minidocker
from minidocker.engine import reconcile
from minidocker.engine.host import Host
from minidocker.kernel import devices
from minidocker.spec import capabilities
from minidocker.storage import containers, networks

_TOOLS = ("nft", "ip", "tini", "catatonit", "setpriv", "mmdebstrap", "debootstrap")


def info(host: Host) -> dict[str, object]:
    """Version, paths, counts, the cgroup face and what it lacks, kernel features, tools."""
    from minidocker.kernel import lsm, process

    reconcile.look(host)
    records = containers.every(host.state)
    face = host.face
    held = process.bounding()
    guard = devices.how(face)
    return {
        "Version": minidocker.__version__,
        "Root": host.root,
        "RunRoot": host.run,
        "Containers": len(records),
        "Running": sum(record.status == containers.RUNNING for record in records),
        "Networks": [network.name for network in networks.every(host.state)],
        "Kernel": os.uname().release,
        "Architecture": os.uname().machine,
        "CgroupVersion": str(face.version),
        "CgroupControllers": sorted(face.of),
        "SwapLimit": face.limits_swap(),
        "DeviceControl": str(guard or "none"),
        "Seccomp": os.path.exists("/proc/sys/kernel/seccomp/actions_avail"),
        "AppArmor": lsm.apparmor(),
        "SELinux": lsm.selinux(),
        "LackingCapabilities": [name for number, name in enumerate(capabilities.NAMES) if not held >> number & 1],
        "Tools": {name: _where(name) for name in _TOOLS},
    }


def _where(name: str) -> str:
    for directory in (*os.environ.get("PATH", "").split(":"), "/usr/sbin", "/usr/bin", "/sbin", "/bin"):
        if os.access(f"{directory}/{name}", os.X_OK):
            return f"{directory}/{name}"
    return ""
