"""From a request to an OCI configuration: everything is looked at, nothing is touched.

What it refuses, it refuses before the first write; what only a transaction can decide (names, leases, ports) comes after.
"""

from __future__ import annotations

import os
import stat

from minidocker.engine.host import Host
from minidocker.errors import NotFoundError, StateError, TargetNotExecutable, TargetNotFound, UnsupportedError, UsageError
from minidocker.kernel import devices as kernel_devices
from minidocker.kernel import process
from minidocker.runtime import filters, managers
from minidocker.spec import capabilities, config
from minidocker.spec import seccomp as default_seccomp
from minidocker.spec.request import RunRequest
from minidocker.storage import containers, rootfs, users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ONLINE_CPUS = "/sys/devices/system/cpu/online"
_INITS = ("/usr/bin/tini-static", "/usr/bin/catatonit", "/usr/bin/tini", "/usr/libexec/podman/catatonit")


class Prepared:
    """All that is decided before the first write. `around.netns` tells the kind of network: "" its own, None the host's, a path
    another container's; `joins` that container's record; `place` its cgroup's. `again`: it has been made before."""

    __slots__ = ("around", "id", "joins", "place", "request", "view")

    def __init__(self, host: Host, request: RunRequest, id: str, again: bool = False) -> None:
        self.id = id
        self.request = request
        directory = host.data_directory(id)
        self.view = rootfs.directory_view(request.rootfs, directory) if request.rootfs else rootfs.host_view(host.root, directory)
        self.around = config.Surroundings(self.view.lower, self.view.mounts)
        self.joins: containers.Record | None = None
        self._find_network(host)
        self._find_user()
        self._find_program()
        request.workdir = self.around.workdir  # what an exec starts from, too
        self._check_volumes(host)
        if request.cpus is not None or request.cpuset_cpus:
            check_cpus(request.cpus or 0, request.cpuset_cpus or "")
        if request.cidfile or request.pidfile:
            from minidocker.engine import idfiles

            idfiles.check(request, again)
        self._privileges()
        if request.shares:
            from minidocker.engine import sharing

            sharing.look(host, self)
        self.around.init = _find_init() if request.init else ""
        self.place = self._find_place(host)
        self.around.cgroups_path = self.place.path
        self.around.limits_swap = not request.memory or host.face.limits_swap()
        self.around.private_cgroupns = request.cgroupns != "host" if request.cgroupns else not request.privileged

    def _find_place(self, host: Host) -> managers.Place:
        request, default = self.request, managers.default(host.face)
        if request.cgroup_manager == managers.CGROUPFS != default:
            host.notice("systemd owns the cgroups here and knows nothing of those of --cgroup-manager cgroupfs: it may change them")
        request.cgroup_manager = request.cgroup_manager or default  # and for its next start
        return host.place(self.id, request)

    def _find_network(self, host: Host) -> None:
        request, around = self.request, self.around
        around.hostname = request.hostname or self.id[:12]
        around.sysctls = config.network_sysctls(os.path.isdir("/proc/sys/net/ipv6"))
        kind, _, name = request.mode.partition(":")
        if kind == "container":
            self.joins = _running(host, name)
            around.netns = f"/proc/{self.joins.pid}/ns/net"
            around.sysctls = {}
            around.hostname = request.hostname or self.joins.request.hostname or self.joins.short_id
        elif kind == "host":
            around.netns = None
            around.sysctls = {}
            around.hostname = request.hostname or os.uname().nodename
        if kind and (request.publish or request.publish_all):
            raise UsageError(f"-p needs a network of its own, and --net {request.mode} has none", "--net br0, or leave it out")

    def _find_user(self) -> None:
        root = os.open(self.view.lower, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            user = users.resolve(self.request.user, root)
        finally:
            os.close(root)
        self.around.uid, self.around.gid, self.around.groups, self.around.home = user.uid, user.gid, user.groups, user.home

    def _find_program(self) -> None:
        """A COMMAND that names a file of the host runs that file: it is bound in at its own path, and the working directory kept."""
        request = self.request
        name = request.command[0]
        self.around.workdir = request.workdir or "/"
        explicit = name.startswith(("./", "../"))
        if not ("/" in name if self.view.host else explicit):
            return
        directory = request.directory or _working_directory()
        path = os.path.normpath(os.path.join(directory, name))
        if not self.view.host and (self._in_rootfs(path) or not os.path.exists(path)):
            return
        check_program(path, name)
        if not self.view.shows(path):
            self.around.program = (path, path)
        if request.workdir is None:
            self.around.workdir = request.directory = directory  # for its next start, too, wherever that is asked for
        else:
            request.command[0] = path  # a relative one would be looked for below -w

    def _in_rootfs(self, path: str) -> bool:
        try:
            os.close(self.view.open(path))
        except OSError:
            return False
        return True

    def _check_volumes(self, host: Host) -> None:
        for source, _, _ in self.request.volumes:
            if not os.path.exists(source):
                raise NotFoundError(
                    f"the volume's source {source} does not exist", f"mkdir -p {source} (docker would make it; minidocker does not)"
                )
        if self.request.mounts:
            from minidocker.engine import volumes

            self.around.mounted = volumes.entries(host, self.request)

    def _privileges(self) -> None:
        request, around = self.request, self.around
        around.capabilities = granted_capabilities(request)
        around.seccomp = seccomp_profile(request, around.capabilities)
        around.security_labels = security_labels(request)

    def configuration(self, host: Host) -> dict[str, Any]:
        """The OCI configuration, once `around` is complete."""
        if self.request.privileged:
            self.around.devices = host_devices()
        document = config.configuration(self.request, self.around)
        if self.request.tty:
            set_console_size(document["process"])
        if self.request.shares:
            from minidocker.engine import sharing

            sharing.complete(document, self)
        if not self.request.privileged and not kernel_devices.how(host.face):
            _without_device_control(host, document)
        return document

    def filter(self, host: Host) -> tuple[bytes, int] | None:
        """The compiled seccomp program and its flags."""
        return filters.cached(self.around.seccomp, f"{host.root}/cache") if self.around.seccomp is not None else None


def set_console_size(process: dict[str, Any]) -> None:
    """The terminal begins with the size of the user's, before the program can ask for it."""
    from minidocker.kernel.terminal import window_size

    size = window_size()
    if size:
        process["consoleSize"] = {"height": size[0], "width": size[1]}


def granted_capabilities(request: RunRequest) -> list[str]:
    """The container's capabilities, of those that we hold ourselves."""
    held = process.bounding()
    available = [name for number, name in enumerate(capabilities.NAMES) if held >> number & 1]
    return capabilities.granted(request.cap_add, request.cap_drop, request.privileged, available)


def seccomp_profile(request: RunRequest, granted: list[str]) -> dict[str, Any] | None:
    """The container's profile, None for unconfined. Raises UsageError that names the file and the place in it."""
    if request.seccomp == "unconfined" or (request.privileged and request.seccomp is None):
        return None
    if not request.seccomp:
        return default_seccomp.default_profile(frozenset(granted), os.uname().machine)
    from minidocker.spec import seccomp_file

    return seccomp_file.load(request.seccomp, granted)


def security_labels(request: RunRequest) -> dict[str, str]:
    """OCI `apparmorProfile` and `selinuxLabel` of its process section, as far as asked for. Raises UnsupportedError."""
    found: dict[str, str] = {}
    if not request.apparmor and not request.selinux:
        return found
    from minidocker.kernel import lsm

    # where there is no AppArmor, all is unconfined
    if request.apparmor and (request.apparmor != "unconfined" or lsm.apparmor()):
        lsm.check_profile(request.apparmor)
        found["apparmorProfile"] = request.apparmor
    if request.selinux:
        context = lsm.context(request.selinux)
        lsm.check_context(context)
        found["selinuxLabel"] = context
    return found


def _without_device_control(host: Host, document: dict[str, Any]) -> None:
    """No v1 devices controller and no bpf(2): a container that could make device nodes could then use them."""
    document["linux"]["resources"]["devices"] = []
    for names in document["process"]["capabilities"].values():
        names[:] = [name for name in names if name != "CAP_MKNOD"]
    host.notice("device access cannot be limited here (no devices cgroup, no BPF), so the container cannot make device nodes either")


def _working_directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise NotFoundError("the working directory was removed", "a COMMAND of the host's keeps it: cd to one that is there") from None


def check_program(path: str, name: str) -> None:
    """Raises TargetNotFound or TargetNotExecutable unless the host's `path` can be a program."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise TargetNotFound(f"`{name}` does not exist", "a bare name is looked up in the container's PATH") from error
    if stat.S_ISDIR(mode):
        raise TargetNotExecutable(f"`{name}` is a directory, not a program")
    if not stat.S_ISREG(mode) or not mode & 0o111:
        raise TargetNotExecutable(f"`{name}` is not executable", f"chmod +x {name}")
    with open(path, "rb", buffering=0) as file:
        start = file.read(4)
    if start[:2] != b"#!" and start != b"\x7fELF":
        raise TargetNotExecutable(
            f"`{name}` is neither a binary nor does it begin with `#!`", "a script's first line says what runs it: #!/bin/sh"
        )


def _find_init() -> str:
    for path in _INITS:
        if os.path.exists(path):
            return path
    from minidocker.kernel import packages

    raise UnsupportedError("--init needs tini or catatonit, and neither is installed", packages.install("tini"))


def _running(host: Host, reference: str) -> containers.Record:
    record = containers.find(host.state, reference)
    if record.status != containers.RUNNING:
        raise StateError(f"container `{record.name}` is not running, so its network cannot be joined", f"it is {record.status}")
    try:
        inode = os.stat(f"/proc/{record.pid}/ns/net").st_ino
    except FileNotFoundError:
        inode = 0
    if inode != record.netns:  # its process has ended a moment ago, and the number may be a stranger's by now
        raise StateError(f"container `{record.name}` has just ended, so its network cannot be joined")
    return record


def host_devices() -> list[dict[str, Any]]:
    """Every device node of the host, for --privileged."""
    found = []
    for directory, names, files in os.walk("/dev"):
        names[:] = [name for name in names if directory != "/dev" or name not in ("pts", "shm", "mqueue", "hugepages")]
        for name in files:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            kind = "c" if stat.S_ISCHR(status.st_mode) else "b" if stat.S_ISBLK(status.st_mode) else ""
            if kind and path != "/dev/console":
                found.append({
                    "path": path, "type": kind, "major": os.major(status.st_rdev), "minor": os.minor(status.st_rdev),
                    "fileMode": stat.S_IMODE(status.st_mode), "uid": status.st_uid, "gid": status.st_gid,
                })  # fmt: skip
    return found


def check_cpus(number: float, chosen: str) -> None:
    """Refuse more CPUs than there are, and those (a list as cpuset(7) has it) that are not there: the kernel would take the first in
    silence, and say of the second only that the argument is invalid."""
    from minidocker.spec.parse_limits import cpu_numbers

    with open(_ONLINE_CPUS, "rb", buffering=0) as file:
        text = file.read().decode().strip()
    online = cpu_numbers(text)
    if number > len(online):
        raise UsageError(f"--cpus {number:g} is more than there are", f"from 0.01 to {len(online)} is possible here")
    if not cpu_numbers(chosen) <= online:
        raise UsageError(f"--cpuset-cpus {chosen}: not all of them are there", f"this machine has {text}")


def new_id() -> str:
    """64 hexadecimal digits. Not all of the first 12 are decimal: they become a host name, and resolvers take what is only digits for an
    address (inet_aton(3)) and never look it up."""
    while (id := os.urandom(32).hex())[:12].isdecimal():
        continue
    return id


def random_name() -> str:
    """A readable name: 40 x 40 of them, and a number behind it where it is taken."""
    first, second = os.urandom(2)
    return f"{_ADJECTIVES[first % len(_ADJECTIVES)]}_{_NOUNS[second % len(_NOUNS)]}"


_ADJECTIVES = (
    "agile", "amber", "ancient", "brave", "bright", "brisk", "calm", "clever", "cosmic", "crisp", "curious", "daring", "eager", "early",
    "fancy", "fierce", "gentle", "golden", "happy", "honest", "jolly", "keen", "kind", "lively", "lucky", "lunar", "merry", "mighty",
    "modest", "noble", "patient", "polite", "proud", "quick", "quiet", "rapid", "silver", "steady", "sunny", "swift",
)  # fmt: skip
_NOUNS = (
    "acorn", "albatross", "badger", "beacon", "birch", "bridge", "brook", "canyon", "cedar", "comet", "condor", "coral", "crane", "delta",
    "dolphin", "falcon", "fjord", "gecko", "glacier", "harbor", "heron", "ibex", "island", "lagoon", "lantern", "lynx", "maple", "meadow",
    "otter", "pebble", "pine", "planet", "raven", "reef", "river", "sparrow", "summit", "tern", "tundra", "willow",
)  # fmt: skip
