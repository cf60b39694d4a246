"""OCI `linux` (config-linux.md) but for its resources and seccomp, which have rooms of their own. Reads one section; see oci_shape.py."""

from __future__ import annotations

from minidocker.spec import oci_resources, oci_seccomp
from minidocker.spec.oci_shape import INT64, UINT32, Place, processors, shown, unique

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAMESPACES = ("pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time")
_PROPAGATIONS = ("shared", "slave", "private", "unbindable", "rshared", "rslave", "rprivate", "runbindable")
_CLOCKS = ("monotonic", "boottime")  # time_namespaces(7)
# The settings of an IPC namespace (ipc_namespaces(7)); those of a network namespace are all of net/, of a user namespace user/.
_IPC_SYSCTLS = (
    "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni",
    "kernel.shm_rmid_forced",
)  # fmt: skip
_UTS_SYSCTLS = {"kernel.hostname": "hostname", "kernel.domainname": "domainname"}
# set_mempolicy(2)
MEMORY_MODES = {
    "MPOL_DEFAULT": 0, "MPOL_PREFERRED": 1, "MPOL_BIND": 2, "MPOL_INTERLEAVE": 3, "MPOL_LOCAL": 4, "MPOL_PREFERRED_MANY": 5,
    "MPOL_WEIGHTED_INTERLEAVE": 6,
}  # fmt: skip
MEMORY_FLAGS = {"MPOL_F_STATIC_NODES": 1 << 15, "MPOL_F_RELATIVE_NODES": 1 << 14, "MPOL_F_NUMA_BALANCING": 1 << 13}
_LONGEST_LINK = 15  # IFNAMSIZ less its NUL, linux/if.h
_MOST_MAPPINGS = 340  # user_namespaces(7)


def section(place: Place, value: Any) -> dict[str, Any]:
    """`linux`, checked; namespaces, devices, sysctl, resources, cgroupsPath, maskedPaths and readonlyPaths are always there afterwards."""
    linux = place.object(value)
    linux.take("namespaces", _namespaces, default=[])
    for key in ("uidMappings", "gidMappings"):
        linux.take(key, _mappings)
    linux.take("timeOffsets", _offsets)
    linux.list("devices", _device, default=[])
    unique(((place.of("devices").at(i).of("path"), d["path"]) for i, d in enumerate(linux.taken["devices"])), "device of the path")
    linux.take("cgroupsPath", _cgroups_path, default="")
    linux.take("resources", oci_resources.section, default={})
    linux.take("sysctl", Place.texts, default={})
    linux.take("seccomp", oci_seccomp.section)
    linux.word("rootfsPropagation", _PROPAGATIONS, "propagation")
    for key in ("maskedPaths", "readonlyPaths"):
        linux.list(key, Place.path_inside, default=[])
    if not linux.string("mountLabel"):
        linux.taken.pop("mountLabel", None)
    linux.take("personality", _personality)
    linux.take("netDevices", _net_devices)
    linux.take("memoryPolicy", _memory_policy)
    linux.refuse("intelRdt", "minidocker does not do Intel's Resource Director Technology", "linux.resources limits memory and processors")
    _agree(place, linux.taken)
    return linux.taken


def mapping(place: Place, value: Any) -> dict[str, int]:
    """One range of ids: `containerID` to be `hostID` outside, and so on for `size`."""
    entry = place.object(value)
    inside, outside = (entry.integer(key, UINT32, required=True) for key in ("containerID", "hostID"))
    size = entry.integer("size", (1, UINT32[1]), required=True)
    for key, first in (("containerID", inside), ("hostID", outside)):
        if first + size > UINT32[1]:
            raise place.of("size").wrong(f"{size}: from {key} {first} on there are not so many ids")
    return entry.taken


def _namespaces(place: Place, value: Any) -> list[dict[str, str]]:
    entries = [_namespace(at, entry) for at, entry in place.array(value)]
    unique(((place.at(i).of("type"), entry["type"]) for i, entry in enumerate(entries)), "namespace of the type")
    return entries


def _namespace(place: Place, value: Any) -> dict[str, str]:
    entry = place.object(value)
    kind = entry.word("type", NAMESPACES, "type of namespace", required=True)
    if entry.given.get("path") == "":
        return entry.taken  # Go's empty string: a new one
    if entry.path("path") and kind == "mount":
        raise place.of("path").wrong("a mount namespace cannot be joined: its root would change for all who are in it", "leave it out")
    return entry.taken


def _mappings(place: Place, value: Any) -> list[dict[str, int]]:
    entries = [mapping(at, entry) for at, entry in place.array(value)]
    if len(entries) > _MOST_MAPPINGS:
        raise place.wrong(f"{len(entries)} mappings: the kernel takes {_MOST_MAPPINGS}")
    for key in ("containerID", "hostID"):
        ordered = sorted(range(len(entries)), key=lambda i: entries[i][key])
        for one, other in zip(ordered, ordered[1:], strict=False):  # noqa: RUF007  (itertools is an import)
            if entries[one][key] + entries[one]["size"] > entries[other][key]:
                raise place.at(other).of(key).wrong(f"{entries[other][key]} is in the range of {place.at(one).path} too")
    return entries


def _offsets(place: Place, value: Any) -> dict[str, dict[str, int]]:
    offsets = place.object(value)
    for clock in offsets.given:
        place.of(clock).word(clock, _CLOCKS, "clock of a time namespace")
        offsets.take(clock, _offset)
    return offsets.taken


def _offset(place: Place, value: Any) -> dict[str, int]:
    offset = place.object(value)
    offset.integer("secs", INT64, default=0)
    offset.integer("nanosecs", (0, 999_999_999), default=0)
    return offset.taken


def _device(place: Place, value: Any) -> dict[str, Any]:
    device = place.object(value)
    kind = device.word("type", ("c", "b", "u", "p"), "type of device", required=True)
    path = device.path("path", required=True)
    if path.rstrip("/").rpartition("/")[2] in ("", ".", ".."):
        raise place.of("path").wrong(f"{shown(path)} names no file")
    for key, most in (("major", (1 << 12) - 1), ("minor", (1 << 20) - 1)):  # MINORBITS, linux/kdev_t.h
        device.integer(key, (0, most), required=kind != "p", default=0)
    mode = device.integer("fileMode", UINT32)
    if mode is not None:
        device.taken["fileMode"] = mode & 0o7777  # some engines send the type's bits along
    for key in ("uid", "gid"):
        device.integer(key, (0, UINT32[1] - 1))
    return device.taken


def _cgroups_path(place: Place, value: Any) -> str:
    path = place.string(value)
    if ".." in path.split("/") or "\n" in path:
        raise place.wrong(f"{shown(path)} is not a path below the root of a cgroup hierarchy")
    return path


def _personality(place: Place, value: Any) -> dict[str, Any]:
    personality = place.object(value)
    personality.word("domain", ("LINUX", "LINUX32"), "execution domain", required=True)
    if personality.strings("flags"):
        raise place.of("flags").at(0).wrong(f"{shown(personality.taken['flags'][0])}: the specification has no flags")
    return personality.taken


def _net_devices(place: Place, value: Any) -> dict[str, dict[str, str]]:
    devices = place.object(value)
    for name in devices.given:
        _link_name(place.of(name), name)
        devices.take(name, _net_device)
        inside = devices.taken.get(name)
        if inside is not None and not inside.get("name"):
            inside["name"] = name
    unique(((place.of(name), d["name"]) for name, d in devices.taken.items() if "%d" not in d["name"]), "device of the name inside")
    return devices.taken


def _net_device(place: Place, value: Any) -> dict[str, str]:
    device = place.object(value)
    if device.string("name"):
        _link_name(place.of("name"), device.taken["name"].replace("%d", "0", 1))
    return device.taken


def _link_name(place: Place, name: str) -> None:
    """What dev_valid_name of the kernel's (net/core/dev.c) takes."""
    if not 0 < len(place.string(name).encode()) <= _LONGEST_LINK or name in (".", "..") or any(c in "/:%" or c.isspace() for c in name):
        raise place.wrong(f"{shown(name)} is no network device's name")


def _memory_policy(place: Place, value: Any) -> dict[str, Any]:
    policy = place.object(value)
    mode = policy.word("mode", tuple(MEMORY_MODES), "mode of a memory policy", required=True)
    if policy.given.get("nodes") != "":
        policy.take("nodes", processors)
    policy.list("flags", lambda at, entry: at.word(entry, tuple(MEMORY_FLAGS), "flag of a memory policy"), default=[])
    nodes = policy.taken.get("nodes", "")
    if mode in ("MPOL_DEFAULT", "MPOL_LOCAL") and nodes:
        raise place.of("nodes").wrong(f"{shown(nodes)}: {mode} takes none")
    if mode not in ("MPOL_DEFAULT", "MPOL_LOCAL", "MPOL_PREFERRED") and not nodes:
        raise place.of("nodes").wrong(f"missing: {mode} needs them")
    return policy.taken


def _agree(place: Place, linux: dict[str, Any]) -> None:
    """What the parts demand of the namespaces."""
    joined = {entry["type"]: entry.get("path", "") for entry in linux["namespaces"]}
    user = place.of("namespaces")
    for key in ("uidMappings", "gidMappings"):
        if linux.get(key) and "user" not in joined:
            raise place.of(key).wrong("there is no user namespace for it", 'add {"type": "user"} to linux.namespaces')
        if linux.get(key) and joined["user"]:
            raise place.of(key).wrong("the user namespace that is joined has its own")
        if "user" in joined and not joined["user"] and not linux.get(key):
            raise user.wrong(f"a new user namespace needs {place.of(key).path}")
    if linux.get("timeOffsets") and joined.get("time", "-"):
        why = "the time namespace that is joined has its own" if "time" in joined else "there is no time namespace for it"
        raise place.of("timeOffsets").wrong(why, 'add {"type": "time"} to linux.namespaces')
    if linux.get("netDevices") and "network" not in joined:
        raise place.of("netDevices").wrong("the network namespace is the host's", 'add {"type": "network"} to linux.namespaces')
    for name in linux["sysctl"]:
        _sysctl(place.of("sysctl").of(name), name, joined)


def _sysctl(place: Place, name: str, joined: dict[str, str]) -> None:
    """A setting must be of a namespace that is not the host's, or every container and the host would get it."""
    path = sysctl_path(name)
    parts = path.split("/")
    dotted = ".".join(parts)
    if len(parts) < 2 or any(part in ("", ".", "..") for part in parts):
        raise place.wrong(f"{shown(name)} is no setting's name", "as in net.ipv4.ip_forward")
    if dotted in _UTS_SYSCTLS:
        raise place.wrong(f"{dotted} has a field of its own", f"say {_UTS_SYSCTLS[dotted]}")
    kind = namespace_of(name)
    if not kind:
        raise place.wrong("it is the whole host's, not a namespace's", "of a namespace: net.*, kernel.shm* msg* sem, fs.mqueue.*, user.*")
    if kind not in joined:
        raise place.wrong(f"it would be the host's: there is no {kind} namespace", f'add {{"type": "{kind}"}} to linux.namespaces')


def namespace_of(name: str) -> str:
    """The kind of namespace that a setting is of, "" where it is the whole host's."""
    path = sysctl_path(name)
    kind = {"net": "network", "user": "user"}.get(path.partition("/")[0], "")
    return kind or ("ipc" if path.replace("/", ".") in _IPC_SYSCTLS or path.startswith("fs/mqueue/") else "")


def sysctl_path(name: str) -> str:
    """A setting's path below /proc/sys. As sysctl(8): the first separator is the separator, and the other of `.` and `/` stands for it
    inside a name (`net.ipv4.conf.eth0/100.forwarding`, `net/ipv4/conf/eth0.100/forwarding`)."""
    first = next((c for c in name if c in "./"), ".")
    return name if first == "/" else name.translate({ord("."): "/", ord("/"): "."})
