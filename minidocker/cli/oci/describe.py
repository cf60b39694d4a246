"""spec and features: a configuration to begin with, and what configurations may ask for (runtime-spec, features.md)."""

from __future__ import annotations

import os

from minidocker import __version__
from minidocker.cli import output
from minidocker.errors import ConflictError, KernelError
from minidocker.kernel import namespaces
from minidocker.runtime import mounts
from minidocker.runtime.state import OCI_VERSION
from minidocker.spec import capabilities, config, oci_config, oci_seccomp, seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minidocker.cli.oci.parse import Call

_CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
_QUIET = ["nosuid", "noexec", "nodev"]


def spec(call: Call) -> int:
    """Write config.json; one that is there already is left alone."""
    import json  # for its indentation

    path = f"{call.text('bundle', '.')}/config.json"
    text = json.dumps(_example(call.flag("rootless")), indent="\t") + "\n"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        raise ConflictError(f"`{path}` exists already", "remove it, or name another directory with --bundle") from None
    except OSError as error:
        raise KernelError.of(f"write `{path}`", error) from error
    output.write(descriptor, text.encode())
    os.close(descriptor)
    return 0


def _example(rootless: bool) -> dict[str, Any]:
    """A shell on the directory rootfs beside the file, with few privileges."""
    sets = ("bounding", "effective", "permitted")
    linux: dict[str, Any] = {
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        "namespaces": [{"type": name} for name in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
        "maskedPaths": config.MASKED_PATHS,
        "readonlyPaths": config.READONLY_PATHS,
    }
    listed = _mounts(rootless)
    if rootless:
        linux["namespaces"] = [one for one in linux["namespaces"] if one["type"] != "network"] + [{"type": "user"}]
        linux["uidMappings"] = [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]
        linux["gidMappings"] = [{"containerID": 0, "hostID": os.getegid(), "size": 1}]
        del linux["resources"]
    return {
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": [f"PATH={config.DEFAULT_PATH}", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {name: _CAPABILITIES for name in sets},
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "minidocker",
        "mounts": listed,
        "linux": linux,
    }


def _mounts(rootless: bool) -> list[dict[str, Any]]:
    terminals = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", *([] if rootless else ["gid=5"])]
    # a user who is not root has the host's network, and may mount no sysfs that shows it
    system = {"type": "none", "source": "/sys", "options": ["rbind", *_QUIET, "ro"]} if rootless else None
    return [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": _QUIET},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": terminals},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": [*_QUIET, "mode=1777", "size=65536k"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": _QUIET},
        {"destination": "/sys", **(system or {"type": "sysfs", "source": "sysfs", "options": [*_QUIET, "ro"]})},
        *([] if rootless else [{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": [*_QUIET, "ro"]}]),
    ]


def features(call: Call) -> int:
    """What this runtime knows, whatever this kernel has of it."""
    import json

    known = {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": f"{oci_config.VERSIONS[-1]}.0",
        "hooks": list(oci_config.HOOKS),
        "mountOptions": mounts.known_options(),
        "linux": {
            "namespaces": sorted(namespaces.BY_OCI_NAME),
            "capabilities": list(capabilities.NAMES),
            "cgroup": {"v1": True, "v2": True, "systemd": True, "systemdUser": False, "rdma": True},
            "seccomp": {
                "enabled": True,
                "actions": list(seccomp.ACTIONS),
                "operators": list(seccomp.OPERATORS),
                "archs": list(seccomp.ARCHITECTURES),
                "knownFlags": list(oci_seccomp.FLAGS),
                "supportedFlags": list(oci_seccomp.FLAGS),
            },
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": True},
        },
        "annotations": {"minidocker.version": __version__},
        "potentiallyUnsafeConfigAnnotations": [],
    }
    output.say(json.dumps(known, indent=2))
    return 0
