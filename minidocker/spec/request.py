"""What a user asked for, parsed and checked in form but not yet against any state: plain data from cli/ to engine/."""

from __future__ import annotations

from minidocker.spec.records import BRIDGE, Port

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


DEFAULT_NETWORK = "br0"


class Attachment:
    """One network that a container is to be in: `name` (or id), and what was asked for there; None and "" are left to us.
    `priority` decides whose gateway gives the default route."""

    __slots__ = ("aliases", "ip", "ip6", "mac", "name", "priority")

    def __init__(self, name: str, ip: str = "", ip6: str = "", mac: str = "", aliases: list[str] | None = None, priority: int = 0) -> None:
        self.name = name
        self.ip = ip
        self.ip6 = ip6
        self.mac = mac
        self.aliases = aliases or []
        self.priority = priority


class RunRequest:
    """`minidocker run` as data. Sizes are bytes, times seconds; None is "not asked for", 0 is unlimited where docker has it so."""

    def __init__(self, command: list[str]) -> None:
        self.command = command                          # COMMAND [ARG...], never empty
        self.name: str | None = None                    # [a-zA-Z0-9][a-zA-Z0-9_.-]*, at most 63 characters
        self.detach = False
        self.remove = False                             # --rm
        self.interactive = False
        self.tty = False
        self.env: list[str] = []                        # "NAME=value", from -e and --env-file, in order, already resolved
        self.workdir: str | None = None                 # absolute
        self.directory = ""                             # where it was asked for, when COMMAND is a path of the host's
        self.user: str | None = None                    # "user[:group]", names or numbers
        self.hostname: str | None = None
        self.volumes: list[tuple[str, str, bool]] = []  # (host path, container path, read-only)
        self.tmpfs: list[tuple[str, str]] = []          # (container path, mount options)
        self.mounts: list[tuple[str, str, str, list[str], bool]] = []  # --mount, -v NAME:DST and -v DST: parse_mounts.py
        self.rootfs: str | None = None                  # --rootfs DIR, absolute
        self.read_only = False
        self.mode = ""                                  # "" for networks, else none | host | container:NAME
        self.networks = [Attachment(DEFAULT_NETWORK)]   # in order; with a mode none
        self.add_hosts: list[tuple[str, str]] = []      # (host name, ip)
        self.dns: list[str] = []
        self.dns_search: list[str] = []
        self.dns_options: list[str] = []
        self.publish: list[Port] = []
        self.publish_all = False                        # -P: all that is exposed
        self.expose: list[tuple[int, str]] = []         # (port, protocol)
        self.memory: int | None = None
        self.memory_swap: int | None = None             # memory and swap together; -1 unlimited
        self.memory_reservation: int | None = None
        self.cpus: float | None = None
        self.cpu_shares: int | None = None
        self.cpuset_cpus: str | None = None             # "0-1,3", checked in form
        self.pids_limit: int | None = None              # -1 or 0 unlimited
        self.ulimits: list[tuple[str, int, int]] = []   # ("nofile", soft, hard); -1 unlimited
        self.shm_size = 64 << 20
        self.cgroup_parent: str | None = None
        self.cgroup_conf: dict[str, str] = {}           # cgroup v2 file: value
        self.cgroup_manager: str | None = None          # cgroupfs | systemd; None: the host's way, once it is prepared that
        self.cgroupns: str | None = None                # private | host
        self.detach_keys = b"\x10\x11"                  # ctrl-p ctrl-q, as bytes typed
        self.cap_add: list[str] = []                    # "NET_ADMIN" (no CAP_ prefix, upper case) or "ALL"
        self.cap_drop: list[str] = []
        self.privileged = False
        self.no_new_privileges: bool | None = None      # None: on unless privileged
        self.seccomp: str | None = None                 # None: the default profile; "unconfined"; else a file's path
        self.labels: dict[str, str] = {}
        self.apparmor = ""                              # the AppArmor profile; "": the one we run under
        self.selinux: list[str] = []                    # "user:U", "role:R", "type:T", "level:L": parts of the SELinux context
        self.log_size: int | None = None                # bytes of a file of the log
        self.log_files: int | None = None               # how many of them
        self.stop_signal = 15
        self.stop_timeout: float | None = None          # seconds until `stop` kills it; -1: never
        self.cidfile: str | None = None                 # absolute, as the next
        self.pidfile: str | None = None
        self.init = False
        self.explain = False
        self.dry_run = False
        self._live_once()
        self._share_nothing()

    def _share_nothing(self) -> None:
        self.devices: list[tuple[str, str, str]] = []   # (host path, container path, access of r, w, m)
        self.device_rules: list[dict[str, Any]] = []    # OCI's
        self.sysctls: dict[str, str] = {}
        self.group_add: list[str] = []                  # names or numbers, the container's
        self.oom_score_adj: int | None = None
        self.ipc = self.pid = self.uts = ""             # "" its own, else host | container:NAME

    def _live_once(self) -> None:
        self.restart = "no"                             # spec/restart.py: a policy
        self.restart_most = 0                           # on-failure: how often at most; 0 as often as it takes
        self.asked: list[str] = []                      # the working directory, then the words of `run` that make it anew

        self.health: dict[str, Any] = {}                # spec/health.py

    @property
    def has_check(self) -> bool:
        """Whether somebody is to look at its health; only then is anything of that loaded."""
        return "command" in self.health

    @property
    def has_policy(self) -> bool:
        """Whether it may be started again by itself; only then is anything of that loaded."""
        return self.restart != "no"

    @property
    def shares(self) -> bool:
        """Whether it is given or shares anything of engine/sharing.py; only then is that loaded."""
        given = self.devices or self.device_rules or self.sysctls or self.group_add or self.ipc or self.pid or self.uts
        return bool(given) or self.oom_score_adj is not None

    @property
    def network(self) -> str:
        """The mode, or the name of the first network, as docker's NetworkMode; none where it was disconnected from the last one."""
        return self.mode or (self.networks[0].name if self.networks else "none")


class ExecRequest:
    """`minidocker exec` as data."""

    def __init__(self, container: str, command: list[str]) -> None:
        self.container = container
        self.command = command
        self.detach = False
        self.interactive = False
        self.tty = False
        self.env: list[str] = []
        self.workdir: str | None = None
        self.user: str | None = None
        self.detach_keys = b"\x10\x11"


class NetworkRequest:
    """`minidocker network create` as data."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.driver = BRIDGE
        self.subnet: str | None = None      # "10.9.0.0/24", host bits zero
        self.gateway: str | None = None
        self.ip_range: str | None = None    # a part of the subnet
        self.ipv6 = False
        self.subnet6: str | None = None     # with `ipv6`; the default is made from the network's id
        self.gateway6: str | None = None
        self.bridge: str | None = None      # the interface's name; the default is made from the network's
        self.mtu: int | None = None
        self.internal = False
        self.isolated = False
        self.parent: str | None = None      # macvlan: the host's interface
        self.mode: str | None = None        # macvlan: bridge, private, vepa
        self.labels: dict[str, str] = {}
        self.exist_ok = False               # an identical network that exists is no error


def to_data(request: RunRequest) -> dict[str, object]:
    """The request as JSON-able data, for state.db; `from_data` reads it back."""
    data = dict(vars(request))
    data["networks"] = [[n.name, n.ip, n.ip6, n.mac, n.aliases, n.priority] for n in request.networks]
    data["publish"] = [[p.host_port, p.container_port, p.host_ip, p.protocol, p.host_last] for p in request.publish]
    data["detach_keys"] = request.detach_keys.decode("latin-1")
    return data


def from_data(data: dict[str, Any]) -> RunRequest:
    """The request that `to_data` wrote; a field that an older version did not know keeps its default."""
    request = RunRequest(data["command"])
    for name, value in _renamed(data).items():
        setattr(request, name, value)
    request.networks = [Attachment(*fields) for fields in request.networks]  # type: ignore[misc]
    request.publish = [Port(*fields) for fields in data["publish"]]
    request.detach_keys = data["detach_keys"].encode("latin-1")
    for name in ("volumes", "mounts", "tmpfs", "add_hosts", "expose", "ulimits", "devices"):
        setattr(request, name, [tuple(entry) for entry in getattr(request, name)])
    return request


def _renamed(data: dict[str, Any]) -> dict[str, Any]:
    """As it is written now: once there was one network a container, in fields of its own."""
    if "networks" in data:
        return data
    network, ip, mac, aliases = (data.pop(name) for name in ("network", "ip", "mac_address", "network_aliases"))
    mode = network if network in ("none", "host") or network.startswith("container:") else ""
    return {**data, "mode": mode, "networks": [] if mode else [[network, ip or "", "", mac or "", aliases, 0]]}
