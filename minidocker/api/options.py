"""Options as keyword arguments: the names of the command line with underscores, `net` and other second names too.

    Flag    True                          --rm
    Value   "512m", 0.5                   --memory 512m
    Many    "A=1", ["A=1", "B=2"],        --env A=1 --env B=2
            {"A": "1"}, {8080: 80}        a mapping is joined as the option's own pairs are: A=1, 8080:80

The classes are for type checkers; what the table in cli/options.py has is taken whether it stands here or not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from minidocker.cli import options
from minidocker.errors import UsageError
from minidocker.spec.near import near

Flag = bool
Value = str | int | float
Many = str | Sequence[Value] | Mapping[Any, Any]
# What says how the command line itself goes on, and has no meaning to a program.
_OF_THE_COMMAND = ("explain", "dry_run", "detach_keys")


class CreateOptions(TypedDict, total=False):
    """What `minidocker run --help` says of each."""

    add_host: Many
    cap_add: Many
    cap_drop: Many
    cgroup_conf: Many
    cgroup_manager: Value
    cgroup_parent: Value
    cgroupns: Value
    cidfile: Value
    cpu_shares: Value
    cpus: Value
    cpuset_cpus: Value
    device: Many
    device_cgroup_rule: Many
    dns: Many
    dns_option: Many
    dns_search: Many
    env: Many
    env_file: Many
    expose: Many
    group_add: Many
    health_cmd: Value
    health_interval: Value
    health_retries: Value
    health_start_period: Value
    health_timeout: Value
    hostname: Value
    init: Flag
    interactive: Flag
    ip6: Value
    ip: Value
    ipc: Value
    label: Many
    log_opt: Many
    mac_address: Value
    memory: Value
    memory_reservation: Value
    memory_swap: Value
    mount: Many
    name: Value
    net: Many
    network: Many
    network_alias: Many
    no_healthcheck: Flag
    oom_score_adj: Value
    pid: Value
    pidfile: Value
    pids_limit: Value
    privileged: Flag
    publish: Many
    publish_all: Flag
    read_only: Flag
    restart: Value
    rm: Flag
    rootfs: Value
    security_opt: Many
    shm_size: Value
    stop_signal: Value
    stop_timeout: Value
    sysctl: Many
    tmpfs: Many
    tty: Flag
    ulimit: Many
    user: Value
    uts: Value
    volume: Many
    workdir: Value


class ExecOptions(TypedDict, total=False):
    """What `minidocker exec --help` says of each."""

    detach: Flag
    env: Many
    env_file: Many
    tty: Flag
    user: Value
    workdir: Value


class NetworkOptions(TypedDict, total=False):
    """What `minidocker network create --help` says of each."""

    bridge: Value
    driver: Value
    exist_ok: Flag
    gateway: Many
    internal: Flag
    ip_range: Value
    ipv6: Flag
    isolated: Flag
    label: Many
    mtu: Value
    opt: Many
    subnet: Many


class ConnectOptions(TypedDict, total=False):
    """What `minidocker network connect --help` says of each."""

    alias: Many
    gw_priority: Value
    ip: Value
    ip6: Value
    mac_address: Value


def given(command: options.Command, keywords: Mapping[str, Any]) -> dict[str, bool | str | list[str]]:
    """Keyword arguments as a command line's options (see cli/call.py). Raises UsageError for one that `command` does not have."""
    known = {
        name[2:].replace("-", "_"): option
        for option in command.options for name in option.names
        if name.startswith("--") and option.key not in _OF_THE_COMMAND
    }  # fmt: skip
    found: dict[str, bool | str | list[str]] = {}
    for name, value in keywords.items():
        option = known.get(name)
        if option is None:
            close = near(name, known)
            hint = "did you mean " + " or ".join(f"`{one}`" for one in close) + "?" if close else f"see `minidocker {command.name} --help`"
            raise UsageError(f"unknown option `{name}`", hint)
        if value is None or value is False:
            continue
        if option.key in found:
            raise UsageError(f"`{name}` is given twice, by two of its names", "leave one out")
        found[option.key] = _converted(option, name, value)
    return found


def _converted(option: options.Option, name: str, value: object) -> bool | str | list[str]:
    if option.kind == options.FLAG:
        if value is not True:
            raise UsageError(f"`{name}` is a flag, and {value!r} is neither True nor False")
        return True
    if option.kind == options.VALUE:
        return _text(name, value)
    if isinstance(value, Mapping):
        return [_pair(option, name, key, item) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return [_text(name, item) for item in value]
    return [_text(name, value)]


def _text(name: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise UsageError(f"`{name}`: {value!r} is neither text nor a number")
    return str(value)


def _pair(option: options.Option, name: str, key: object, value: object) -> str:
    separator = next((character for character in option.metavar if character in "=:"), "")
    if not separator:
        raise UsageError(f"`{name}` takes no pairs", f"a list, as for --{option.key.replace('_', '-')} {option.metavar}")
    return _text(name, key) if value is None else f"{_text(name, key)}{separator}{_text(name, value)}"
