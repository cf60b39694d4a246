"""Command lines as requests: each value checked by spec/parse*.py, then what contradicts itself refused. Nothing is touched.

The parsers of limits and of addresses are imported only when such an option was given: each file costs a start some 0.3 ms.
"""

from __future__ import annotations

import os

from minidocker.errors import UsageError
from minidocker.spec import parse
from minidocker.spec.request import ExecRequest, NetworkRequest, RunRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeVar

    from minidocker.cli.call import Call

    T = TypeVar("T")

_LIMITS = ("memory", "memory_swap", "memory_reservation", "cpus", "cpu_shares", "cpuset_cpus", "pids_limit", "ulimit", "shm_size")
_ADDRESSES = ("ip", "mac_address", "add_host", "dns", "dns_option", "publish", "expose")


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
    request.cgroup_parent = _with(call, "cgroup_parent", parse.cgroup_parent)
    request.cgroupns = _with(call, "cgroupns", lambda text: parse.choice("--cgroupns", text, ("private", "host")))
    request.stop_signal = _with(call, "stop_signal", lambda text: parse.signal("--stop-signal", text)) or request.stop_signal
    request.detach_keys = _with(call, "detach_keys", parse.detach_keys) or request.detach_keys
    _files(request, call, cwd)
    _network(request, call)
    _privileges(request, call, cwd)
    if any(key in call.given for key in _LIMITS):
        _limits(request, call)
    return request


def _files(request: RunRequest, call: Call, cwd: str) -> None:
    request.rootfs = _with(call, "rootfs", lambda text: parse.host_path("--rootfs", text, cwd))
    request.read_only = call.flag("read_only")
    request.volumes = [parse.volume(text, cwd) for text in call.list("volume")]
    request.tmpfs = [parse.tmpfs(text) for text in call.list("tmpfs")]
    seen: set[str] = set()
    for target in [volume[1] for volume in request.volumes] + [tmpfs[0] for tmpfs in request.tmpfs]:
        if target in seen:
            raise UsageError(f"two mounts on `{target}`", "give each --volume and --tmpfs a place of its own")
        seen.add(target)


def _network(request: RunRequest, call: Call) -> None:
    networks = call.list("network")
    if len(set(networks)) > 1:
        raise UsageError(f"--network given twice (`{networks[0]}`, `{networks[1]}`): a container has one network")
    if networks:
        request.network = parse.network(networks[0])
    request.network_aliases = [parse.hostname("--network-alias", text) for text in call.list("network_alias")]
    request.dns_search = [parse.domain("--dns-search", text) for text in call.list("dns_search")]
    if any(key in call.given for key in _ADDRESSES):
        _addresses(request, call)
    if request.network in ("none", "host") or request.network.startswith("container:"):
        _refuse_without_network(request, call)


def _addresses(request: RunRequest, call: Call) -> None:
    from minidocker.spec import parse_network

    request.ip = _with(call, "ip", parse_network.container_address)
    request.mac_address = _with(call, "mac_address", parse_network.mac)
    request.add_hosts = [parse_network.host_entry(text) for text in call.list("add_host")]
    request.dns = [parse_network.address("--dns", text) for text in call.list("dns")]
    request.dns_options = [parse_network.dns_option(text) for text in call.list("dns_option")]
    request.publish = list(dict.fromkeys(port for text in call.list("publish") for port in parse_network.publish(text)))
    request.expose = list(dict.fromkeys(port for text in call.list("expose") for port in parse_network.expose(text)))


def _refuse_without_network(request: RunRequest, call: Call) -> None:
    """What makes no sense without an interface of the container's own, nor in another container's namespace."""
    shared = ("hostname", "add_host", "dns", "dns_search", "dns_option", "expose") if request.network.startswith("container:") else ()
    for key in ("ip", "mac_address", "network_alias", "publish", *shared):
        if key in call.given:
            option = "--" + key.replace("_", "-")
            raise UsageError(f"{option} cannot be used with --network {request.network}", f"leave out {option}, or name a network")


def _privileges(request: RunRequest, call: Call, cwd: str) -> None:
    request.privileged = call.flag("privileged")
    request.cap_add = [parse.capability("--cap-add", text) for text in call.list("cap_add")]
    request.cap_drop = [parse.capability("--cap-drop", text) for text in call.list("cap_drop")]
    for text in call.list("security_opt"):
        _, value = parse.security_option(text, cwd)
        if isinstance(value, bool):
            request.no_new_privileges = value
        else:
            request.seccomp = value


def _limits(request: RunRequest, call: Call) -> None:
    from minidocker.spec import parse_limits

    request.memory = _with(call, "memory", lambda text: parse_limits.memory("--memory", text))
    request.memory_reservation = _with(call, "memory_reservation", lambda text: parse_limits.memory("--memory-reservation", text))
    request.memory_swap = _with(call, "memory_swap", parse_limits.memory_swap)
    request.cpus = _with(call, "cpus", parse_limits.cpus)
    request.cpu_shares = _with(call, "cpu_shares", parse_limits.cpu_shares)
    request.cpuset_cpus = _with(call, "cpuset_cpus", parse_limits.cpuset)
    request.pids_limit = _with(call, "pids_limit", parse_limits.pids_limit)
    request.ulimits = list({limit[0]: limit for limit in map(parse_limits.ulimit, call.list("ulimit"))}.values())
    request.shm_size = _with(call, "shm_size", parse_limits.shm_size) or request.shm_size
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
    from minidocker.spec import parse_network

    request = NetworkRequest(parse.name("network", call.arguments[0]))
    if request.name in ("none", "host"):
        raise UsageError(f"network `{request.name}`: the name has a meaning of its own in --network", "choose another name")
    request.driver = _with(call, "driver", lambda text: parse.choice("--driver", text, ("bridge",))) or request.driver
    request.subnet = _with(call, "subnet", parse_network.subnet)
    request.gateway = _with(call, "gateway", lambda text: parse_network.gateway(text, request.subnet))
    request.bridge = _with(call, "bridge", lambda text: parse_network.interface("--bridge", text))
    request.mtu = _with(call, "mtu", parse_network.mtu)
    request.internal = call.flag("internal")
    request.labels = dict(map(parse.label, call.list("label")))
    return request


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
