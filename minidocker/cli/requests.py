"""Command lines as requests: each value checked by spec/parse*.py, then what contradicts itself refused. Nothing is touched.

The parsers of limits and of addresses are imported only when such an option was given: each file costs a start some 0.3 ms.
"""

from __future__ import annotations

import os

from minidocker.errors import UsageError
from minidocker.spec import parse
from minidocker.spec.records import DRIVERS, MACVLAN, MOST_NETWORKS, PTP
from minidocker.spec.request import Attachment, ExecRequest, NetworkRequest, RunRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeVar

    from minidocker.cli.call import Call

    T = TypeVar("T")

_LIMITS = (
    "memory", "memory_swap", "memory_reservation", "cpus", "cpu_shares", "cpuset_cpus", "pids_limit", "ulimit", "shm_size", "cgroup_conf",
    "log_opt",
)
_SHARED = ("device", "device_cgroup_rule", "sysctl", "group_add", "oom_score_adj", "ipc", "pid", "uts")
_ADDRESSES = ("ip", "ip6", "mac_address", "add_host", "dns", "dns_option", "publish", "expose")


def run_request(call: Call, environ: Mapping[str, str], cwd: str) -> RunRequest:
    """`minidocker run` as a RunRequest. Raises UsageError."""
    request = RunRequest(_command(call.arguments))
    request.name = _with(call, "name", lambda text: parse.name("--name", text))
    request.detach = call.flag("detach")
    request.remove = call.flag("rm")
    request.interactive = call.flag("interactive")
    request.tty = call.flag("tty")
    request.explain = call.flag("explain")
    request.dry_run = call.flag("dry_run")
    request.env = parse.environment(call.list("env_file"), call.list("env"), environ, read_file)
    request.workdir = _with(call, "workdir", lambda text: parse.absolute("--workdir", text))
    request.user = _with(call, "user", parse.user)
    request.hostname = _with(call, "hostname", lambda text: parse.hostname("--hostname", text))
    request.labels = dict(map(parse.label, call.list("label")))
    request.init = call.flag("init")
    request.publish_all = call.flag("publish_all")
    request.cgroup_parent = _with(call, "cgroup_parent", parse.cgroup_parent)
    request.cgroup_manager = _with(call, "cgroup_manager", lambda text: parse.choice("--cgroup-manager", text, ("cgroupfs", "systemd")))
    request.cgroupns = _with(call, "cgroupns", lambda text: parse.choice("--cgroupns", text, ("private", "host")))
    request.stop_signal = _with(call, "stop_signal", lambda text: parse.signal("--stop-signal", text)) or request.stop_signal
    request.stop_timeout = timeout(call, "stop_timeout")
    request.detach_keys = _with(call, "detach_keys", parse.detach_keys) or request.detach_keys
    request.cidfile = _with(call, "cidfile", lambda text: parse.host_path("--cidfile", text, cwd))
    request.pidfile = _with(call, "pidfile", lambda text: parse.host_path("--pidfile", text, cwd))
    _files(request, call, cwd)
    _network(request, call)
    _privileges(request, call, cwd)
    if any(key in call.given for key in _LIMITS):
        _limits(request, call)
    if any(key in call.given for key in _SHARED):
        _sharing(request, call)
    if "restart" in call.given:
        _restart(request, call)
    if any(key.startswith("health_") or key == "no_healthcheck" for key in call.given):
        from minidocker.spec import health

        request.health = health.check(call.given)
    request.asked = [cwd, *_spelled(call, request.env)]
    return request


# What a unit that makes the container anew says for itself, or has no use for.
_NOT_AGAIN = frozenset(("detach", "detach_keys", "rm", "name", "restart", "interactive", "tty", "explain", "dry_run", "cidfile", "env",
                        "env_file"))  # fmt: skip


def _spelled(call: Call, env: list[str]) -> list[str]:
    """The options and the command as words again, variables with the values that they had."""
    words = [f"--env={variable}" for variable in env]
    for key, value in sorted(call.given.items()):
        if key not in _NOT_AGAIN and value is not False:
            name = "--" + key.replace("_", "-")
            words += [name] if value is True else [f"{name}={one}" for one in ([value] if isinstance(value, str) else value)]
    return [*words, *call.arguments]


def _restart(request: RunRequest, call: Call) -> None:
    from minidocker.spec import restart

    request.restart, request.restart_most = restart.policy(call.text("restart") or "")
    if request.remove and request.restart != restart.NO:
        raise UsageError(f"--restart {request.restart} starts again what --rm removes", "leave out one of them")


def _files(request: RunRequest, call: Call, cwd: str) -> None:
    request.rootfs = _with(call, "rootfs", lambda text: parse.host_path("--rootfs", text, cwd))
    request.read_only = call.flag("read_only")
    paths = [text[:1] in ("/", ".") and ":" in text for text in call.list("volume")]
    request.volumes = [parse.volume(text, cwd) for text, path in zip(call.list("volume"), paths) if path]  # noqa: B905
    if "mount" in call.given or not all(paths):
        from minidocker.spec import parse_mounts

        request.mounts = [parse_mounts.volume(text) for text, path in zip(call.list("volume"), paths) if not path]  # noqa: B905
        request.mounts += [parse_mounts.mount(text, cwd) for text in call.list("mount")]
    request.tmpfs = [parse.tmpfs(text) for text in call.list("tmpfs")]
    seen: set[str] = set()
    targets = [volume[1] for volume in request.volumes] + [tmpfs[0] for tmpfs in request.tmpfs]
    for target in targets + [mount[2] for mount in request.mounts]:
        if target in seen:
            raise UsageError(f"two mounts on `{target}`", "give each --volume, --mount and --tmpfs a place of its own")
        seen.add(target)


def _network(request: RunRequest, call: Call) -> None:
    if texts := call.list("network"):
        request.mode, request.networks = _attachments(texts)
    if request.mode in ("none", "host") or request.mode.startswith("container:"):
        _refuse_without_network(request, call)
    else:
        request.networks[0].aliases += [parse.hostname("--network-alias", text) for text in call.list("network_alias")]
    request.dns_search = [parse.domain("--dns-search", text) for text in call.list("dns_search")]
    if any(key in call.given for key in _ADDRESSES):
        _addresses(request, call)


def _attachments(texts: list[str]) -> tuple[str, list[Attachment]]:
    """--network as (mode, networks in order)."""
    found: list[Attachment] = []
    mode = ""
    for text in texts:
        if text in ("none", "host") or text.startswith("container:"):
            mode = parse.network(text)
            continue
        if ":" in text or "=" in text:
            from minidocker.spec.parse_network import attachment

            found.append(attachment(text))
        else:
            found.append(Attachment(parse.network(text)))
        if found[-1].name in (one.name for one in found[:-1]):
            raise UsageError(f"--network `{found[-1].name}` is given twice", "aliases go together: NETWORK:alias=a,alias=b")
    if mode and len(texts) > 1:
        raise UsageError(f"--network {mode} stands alone", "leave out the other networks")
    if len(found) > MOST_NETWORKS:
        raise UsageError(f"--network given {len(found)} times: a container is in at most {MOST_NETWORKS} networks")
    return mode, found


def _addresses(request: RunRequest, call: Call) -> None:
    from minidocker.spec import parse_network

    if request.networks:  # what stands apart is for the first
        first = request.networks[0]
        for key, name, convert in (("ip", "ip", parse_network.container_address), ("ip6", "ip6", parse_network.container_address6),
                                   ("mac_address", "mac", parse_network.mac)):  # fmt: skip
            text = call.text(key)
            if text is not None and getattr(first, name):
                raise UsageError(f"--{key.replace('_', '-')} and --network {first.name}:{name}= say the same", "leave one out")
            if text is not None:
                setattr(first, name, convert(text))
    request.add_hosts = [parse_network.host_entry(text) for text in call.list("add_host")]
    request.dns = [parse_network.address("--dns", text) for text in call.list("dns")]
    request.dns_options = [parse_network.dns_option(text) for text in call.list("dns_option")]
    request.publish = list(dict.fromkeys(port for text in call.list("publish") for port in parse_network.publish(text)))
    request.expose = list(dict.fromkeys(port for text in call.list("expose") for port in parse_network.expose(text)))


def _refuse_without_network(request: RunRequest, call: Call) -> None:
    """What makes no sense without an interface of the container's own, nor in another container's namespace."""
    shared = ("hostname", "add_host", "dns", "dns_search", "dns_option", "expose") if request.mode.startswith("container:") else ()
    for key in ("ip", "ip6", "mac_address", "network_alias", "publish", "publish_all", *shared):
        if key in call.given:
            option = "--" + key.replace("_", "-")
            raise UsageError(f"{option} cannot be used with --network {request.mode}", f"leave out {option}, or name a network")


def _privileges(request: RunRequest, call: Call, cwd: str) -> None:
    request.privileged = call.flag("privileged")
    request.cap_add = [parse.capability("--cap-add", text) for text in call.list("cap_add")]
    request.cap_drop = [parse.capability("--cap-drop", text) for text in call.list("cap_drop")]
    for text in call.list("security_opt"):
        kind, value = parse.security_option(text, cwd)
        if isinstance(value, bool):
            request.no_new_privileges = value
        elif kind == "label":
            request.selinux = [] if value == "disable" else [*request.selinux, value]
        else:
            setattr(request, kind, value)


def _sharing(request: RunRequest, call: Call) -> None:
    from minidocker.spec import parse_sharing

    request.devices = [parse_sharing.device(text) for text in call.list("device")]
    request.device_rules = [parse_sharing.device_rule(text) for text in call.list("device_cgroup_rule")]
    request.sysctls = dict(map(parse_sharing.sysctl, call.list("sysctl")))
    request.group_add = [parse_sharing.group(text) for text in call.list("group_add")]
    request.oom_score_adj = _with(call, "oom_score_adj", parse_sharing.oom_score)
    for kind in ("ipc", "pid", "uts"):
        setattr(request, kind, parse_sharing.namespace(f"--{kind}", call.text(kind) or ""))


def _limits(request: RunRequest, call: Call) -> None:
    from minidocker.spec import parse_limits

    request.memory = _with(call, "memory", lambda text: parse_limits.memory("--memory", text))
    request.memory_reservation = _with(call, "memory_reservation", lambda text: parse_limits.memory("--memory-reservation", text))
    request.memory_swap = _with(call, "memory_swap", parse_limits.memory_swap)
    request.cpus = _with(call, "cpus", parse_limits.cpus)
    request.cpu_shares = _with(call, "cpu_shares", parse_limits.cpu_shares)
    request.cpuset_cpus = _with(call, "cpuset_cpus", parse_limits.cpuset)
    request.pids_limit = _with(call, "pids_limit", parse_limits.pids_limit)
    request.cgroup_conf = dict(map(parse_limits.cgroup_file, call.list("cgroup_conf")))
    request.ulimits = list({limit[0]: limit for limit in map(parse_limits.ulimit, call.list("ulimit"))}.values())
    request.shm_size = _with(call, "shm_size", parse_limits.shm_size) or request.shm_size
    logged = dict(map(parse_limits.log_option, call.list("log_opt")))
    request.log_size, request.log_files = logged.get("max-size"), logged.get("max-file")
    if request.memory_swap is not None and not request.memory:
        raise UsageError("--memory-swap is the limit of memory and swap together: it needs --memory", "add -m, as in -m 256m")
    if request.memory and request.memory_swap is not None and 0 <= request.memory_swap < request.memory:
        raise UsageError("--memory-swap is below --memory", "it is the limit of memory and swap together; -1 is no limit")
    if request.memory and request.memory_reservation and request.memory_reservation > request.memory:
        raise UsageError("--memory-reservation is above --memory", "the reservation is the lower, soft limit")


def exec_request(call: Call, environ: Mapping[str, str], cwd: str) -> ExecRequest:
    """`minidocker exec` as an ExecRequest. Raises UsageError."""
    request = ExecRequest(call.arguments[0], _command(call.arguments[1:]))
    request.detach = call.flag("detach")
    request.interactive = call.flag("interactive")
    request.tty = call.flag("tty")
    request.env = parse.environment(call.list("env_file"), call.list("env"), environ, read_file)
    request.workdir = _with(call, "workdir", lambda text: parse.absolute("--workdir", text))
    request.user = _with(call, "user", parse.user)
    request.detach_keys = _with(call, "detach_keys", parse.detach_keys) or request.detach_keys
    return request


def network_request(call: Call) -> NetworkRequest:
    """`minidocker network create` as a NetworkRequest. Raises UsageError."""
    from minidocker.spec import parse_subnet

    request = NetworkRequest(parse.name("network", call.arguments[0]))
    if request.name in ("none", "host"):
        raise UsageError(f"network `{request.name}`: the name has a meaning of its own in --network", "choose another name")
    request.driver = _with(call, "driver", lambda text: parse.choice("--driver", text, DRIVERS)) or request.driver
    request.ipv6 = call.flag("ipv6")
    parse_subnet.subnets(request, call.list("subnet"), call.list("gateway"))
    request.ip_range = _with(call, "ip_range", lambda text: parse_subnet.ip_range(text, request.subnet))
    for text in call.list("opt"):
        parse_subnet.driver_option(request, text)
    request.bridge = _with(call, "bridge", lambda text: parse_subnet.interface("--bridge", text)) or request.bridge
    request.mtu = _with(call, "mtu", parse_subnet.mtu) or request.mtu
    request.internal = call.flag("internal")
    request.isolated = call.flag("isolated") or request.isolated
    request.labels = dict(map(parse.label, call.list("label")))
    request.exist_ok = call.flag("exist_ok")
    _refuse_for_driver(request)
    if request.ipv6 and request.mtu is not None and request.mtu < parse_subnet.SMALLEST_MTU6:
        raise UsageError(f"--mtu {request.mtu} is too small for IPv6", f"at least {parse_subnet.SMALLEST_MTU6} bytes (RFC 8200)")
    return request


def _refuse_for_driver(request: NetworkRequest) -> None:
    """What a driver has no use for is refused, not passed over."""
    senseless: dict[str, object] = {}
    if request.driver == PTP:
        senseless = {"--gateway": request.gateway or request.gateway6, "--internal": request.internal, "--isolated": request.isolated}
    if request.driver != MACVLAN:
        senseless |= {"--opt parent=": request.parent, "--opt mode=": request.mode}
    else:
        senseless |= {"--isolated": request.isolated}
    if request.driver in (PTP, MACVLAN):
        senseless |= {"--bridge": request.bridge}
    for option, value in senseless.items():
        if value:
            why = _WHY.get((request.driver, option), "")
            raise UsageError(f"{option} has no meaning for a {request.driver} network", f"leave it out{why}")
    if request.driver == MACVLAN and not request.parent:
        raise UsageError("a macvlan network needs the host's interface that it is to be on", "-o parent=eth0")


_WHY = {
    (PTP, "--gateway"): ": it joins two containers, and there is no host between them",
    (PTP, "--internal"): ": it leads nowhere else anyway",
    (PTP, "--isolated"): ": it is there for its two containers to meet",
    (MACVLAN, "--isolated"): "; -o mode=private keeps its containers apart",
}


def attachment(call: Call) -> Attachment:
    """`minidocker network connect` as an Attachment. Raises UsageError."""
    from minidocker.spec import parse_network

    return Attachment(
        call.arguments[0],
        _with(call, "ip", parse_network.container_address) or "",
        _with(call, "ip6", parse_network.container_address6) or "",
        _with(call, "mac_address", parse_network.mac) or "",
        [parse.hostname("--alias", text) for text in call.list("alias")],
        _with(call, "gw_priority", lambda text: parse_network.priority("--gw-priority", text)) or 0,
    )


def timeout(call: Call, key: str) -> float | None:
    """The seconds of an option by which a container is to end; None when it was not given."""
    if (text := call.text(key)) is None:
        return None
    from minidocker.spec import parse_time

    return parse_time.timeout(text, "--" + key.replace("_", "-"))


def read_file(path: str) -> bytes:
    """The bytes of a file. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks: list[bytes] = []
        while chunk := os.read(descriptor, 1 << 16):
            chunks.append(chunk)
        return b"".join(chunks)
    finally:
        os.close(descriptor)


def _command(words: list[str]) -> list[str]:
    if not words[0]:
        raise UsageError("the COMMAND is empty", "the first word after the options is the program to run")
    return words


def _with(call: Call, key: str, convert: Callable[[str], T]) -> T | None:
    """The option's value by `convert`, None when it was not given."""
    text = call.text(key)
    return None if text is None else convert(text)
