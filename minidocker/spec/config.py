"""From what a user asked for to an OCI configuration (runtime-spec, config.md): a pure function of the request and of what
the engine found out about this host.
"""

from __future__ import annotations

from minidocker.spec.request import RunRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OCI_VERSION = "1.2.0"
# Where --init's program is bound: on the container's own /dev, as /sbin is the host's in the host view.
INIT = "/dev/init"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# What tells of the host or lets it be changed; hidden and write-protected unless --privileged.
MASKED_PATHS = [
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
    "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
]  # fmt: skip
READONLY_PATHS = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]

# Deny all, then what every container has: the default devices, terminals, and making nodes (mknod gives no access).
DEVICE_RULES: list[dict[str, Any]] = [
    {"allow": False, "access": "rwm"},
    {"allow": True, "type": "c", "access": "m"},
    {"allow": True, "type": "b", "access": "m"},
    *({"allow": True, "type": "c", "major": 1, "minor": minor, "access": "rwm"} for minor in (3, 5, 7, 8, 9)),
    {"allow": True, "type": "c", "major": 5, "minor": 0, "access": "rwm"},
    {"allow": True, "type": "c", "major": 5, "minor": 1, "access": "rwm"},
    {"allow": True, "type": "c", "major": 5, "minor": 2, "access": "rwm"},
    {"allow": True, "type": "c", "major": 136, "access": "rwm"},
]


class Surroundings:
    """What the engine found out and decided, that the configuration depends on.

    `root` the root directory; `mounts` those of the rootfs view, the first over "/" when it is an overlay; `files` (host path, container
    path, read-only) of hosts, hostname and resolv.conf; `uid`, `gid`, `groups`, `home` the user; `limits_swap` whether the kernel can;
    `netns` a path to join, "" for a new one, None for the host's; `capabilities` the set, sorted, with CAP_; `devices` OCI device
    entries for --privileged; `mounted` OCI entries of the request's `mounts`; `security_labels` of the process section (apparmorProfile,
    selinuxLabel); `init` the host path of an init to bind in, or ""; `program` (host path, container path) of a host program to bind in,
    or None; `shared` namespaces that are not its own, kind -> (path, inode), ("", 0) for the host's; `given` and `given_rules` the OCI
    devices and device rules of --device.
    """

    def __init__(self, root: str, mounts: list[dict[str, Any]]) -> None:
        self.root = root
        self.mounts = mounts
        self.files: list[tuple[str, str, bool]] = []
        self.uid = self.gid = 0
        self.groups: list[int] = []
        self.home = "/root"
        self.workdir = "/"
        self.hostname = ""
        self.netns: str | None = ""
        self.sysctls: dict[str, str] = {}
        self.capabilities: list[str] = []
        self.devices: list[dict[str, Any]] = []
        self.init = ""
        self.program: tuple[str, str] | None = None
        self.mounted: list[dict[str, Any]] = []
        self.shared: dict[str, tuple[str, int]] = {}
        self.given: list[dict[str, Any]] = []
        self.given_rules: list[dict[str, Any]] = []
        self.cgroups_path = ""
        self.private_cgroupns = True
        self.limits_swap = True
        self.seccomp: dict[str, Any] | None = None
        self.security_labels: dict[str, str] = {}


def configuration(request: RunRequest, around: Surroundings) -> dict[str, Any]:
    """The OCI configuration of one container."""
    privileged = request.privileged
    namespaces = [{"type": name} for name in ("pid", "mount", "ipc")]
    if around.netns is not None:
        namespaces.append({"type": "network", "path": around.netns} if around.netns else {"type": "network"})
    if around.hostname:
        namespaces.append({"type": "uts"})
    if around.private_cgroupns:
        namespaces.append({"type": "cgroup"})
    linux: dict[str, Any] = {
        "namespaces": namespaces,
        "cgroupsPath": around.cgroups_path,
        "resources": resources(request, around.limits_swap),
        "sysctl": around.sysctls,
        "devices": around.devices,
        "maskedPaths": [] if privileged else MASKED_PATHS,
        "readonlyPaths": [] if privileged else READONLY_PATHS,
    }
    if around.seccomp is not None:
        linux["seccomp"] = around.seccomp
    if any(option in ("shared", "rshared") for entry in around.mounted for option in entry["options"]):
        linux["rootfsPropagation"] = "shared"  # else they would have no peers outside
    return {
        "ociVersion": OCI_VERSION,
        "process": process(
            request.command,
            [*environment(request.tty, around.hostname, around.home), *request.env],
            around,
            terminal=request.tty,
            no_new_privileges=no_new_privileges(request),
            ulimits=request.ulimits,
            init=INIT if around.init else "",
        ),
        "root": {"path": around.root, "readonly": request.read_only},
        "hostname": around.hostname,
        "mounts": _mounts(request, around),
        "linux": linux,
    }


def no_new_privileges(request: RunRequest) -> bool:
    return not request.privileged if request.no_new_privileges is None else request.no_new_privileges


def process(
    args: list[str],
    env: list[str],
    around: Surroundings,
    *,
    terminal: bool,
    no_new_privileges: bool,
    ulimits: list[tuple[str, int, int]],
    init: str = "",
) -> dict[str, Any]:
    """The `process` section, for the first process and for an exec's alike; a later value of a variable replaces an earlier one."""
    last = {value.partition("=")[0]: value for value in env}
    # a process that is not root holds no capability unless it is given one in the ambient set, which nobody asks for: docker's rule
    effective = around.capabilities if around.uid == 0 else []
    return {
        "terminal": terminal,
        "user": {"uid": around.uid, "gid": around.gid, "additionalGids": around.groups, "umask": 0o022},
        "args": [init, "--", *args] if init else args,
        "env": list(last.values()),
        "cwd": around.workdir,
        "capabilities": {
            "bounding": around.capabilities, "effective": effective, "permitted": effective, "inheritable": [], "ambient": [],
        },
        "rlimits": [{"type": f"RLIMIT_{name.upper()}", "soft": soft, "hard": hard} for name, soft, hard in ulimits],
        "noNewPrivileges": no_new_privileges,
        **around.security_labels,
    }  # fmt: skip


def environment(terminal: bool, hostname: str, home: str) -> list[str]:
    """What every process gets before what the user asked for."""
    values = [f"PATH={DEFAULT_PATH}", f"HOSTNAME={hostname}", f"HOME={home}"]
    return [*values, "TERM=xterm"] if terminal else values


def resources(request: RunRequest, limits_swap: bool) -> dict[str, Any]:
    """`linux.resources`; only what was asked for, as each field asks for its controller."""
    memory: dict[str, Any] = {}
    if request.memory:
        memory["limit"] = request.memory
        # docker: without --memory-swap, as much swap as memory, where swap can be limited at all
        if request.memory_swap or limits_swap:
            memory["swap"] = request.memory_swap or 2 * request.memory
    if request.memory_reservation:
        memory["reservation"] = request.memory_reservation
    cpu: dict[str, Any] = {}
    if request.cpus:
        cpu["period"] = 100_000
        cpu["quota"] = round(request.cpus * 100_000)
    if request.cpu_shares:
        cpu["shares"] = request.cpu_shares
    if request.cpuset_cpus:
        cpu["cpus"] = request.cpuset_cpus
    found: dict[str, Any] = {"devices": [{"allow": True, "access": "rwm"}] if request.privileged else DEVICE_RULES}
    if memory:
        found["memory"] = memory
    if cpu:
        found["cpu"] = cpu
    if request.pids_limit and request.pids_limit > 0:
        found["pids"] = {"limit": request.pids_limit}
    if request.cgroup_conf:
        found["unified"] = request.cgroup_conf
    return found


def _mounts(request: RunRequest, around: Surroundings) -> list[dict[str, Any]]:
    kernel_ro = [] if request.privileged else ["ro"]
    listed = [
        *around.mounts,
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {
            "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "noexec", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        },
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", *kernel_ro]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", *kernel_ro]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
        {
            "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", f"size={request.shm_size}"],
        },
    ]  # fmt: skip
    for source, destination, readonly in around.files:
        listed.append(bind(source, destination, ["bind", "ro"] if readonly else ["bind"]))
    if around.init:
        listed.append(bind(around.init, INIT, ["bind", "ro", "nosuid", "nodev"]))
    asked = [tmpfs(destination, options.split(",")) for destination, options in request.tmpfs]
    for source, destination, readonly in request.volumes:
        asked.append(bind(source, destination, ["rbind", "rprivate", "rro"] if readonly else ["rbind", "rprivate"]))
    # what is on another comes after it, in whatever order they were asked for
    listed += sorted(asked + around.mounted, key=lambda entry: entry["destination"].count("/"))
    if around.program:
        listed.append(bind(*around.program, ["bind", "ro", "nosuid", "nodev"]))
    return listed


def network_sysctls(ipv6: bool = True) -> dict[str, str]:
    """What a container's network namespace is to be set to, under sysctl's names: no IPv6 unasked, ports below 1024 and ping for
    everybody in it. `ipv6`: whether the kernel has IPv6 at all (/proc/sys/net/ipv6)."""
    settings = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}
    if ipv6:
        for interfaces in ("all", "default"):
            settings[f"net.ipv6.conf.{interfaces}.disable_ipv6"] = "1"
            settings[f"net.ipv6.conf.{interfaces}.accept_ra"] = "0"
    return settings


def tmpfs(destination: str, options: list[str]) -> dict[str, Any]:
    words = ["nosuid", "nodev", "noexec", *filter(None, options)]
    return {"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": words}


def bind(source: str, destination: str, options: list[str]) -> dict[str, Any]:
    return {"destination": destination, "type": "bind", "source": source, "options": options}
