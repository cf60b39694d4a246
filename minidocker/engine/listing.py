"""ps, inspect and port: records as docker shows them."""

from __future__ import annotations

import time

from minidocker.engine import reconcile
from minidocker.engine.host import Host
from minidocker.engine.logs import rfc3339
from minidocker.errors import NotFoundError, UsageError
from minidocker.network import ipam
from minidocker.spec import fastjson
from minidocker.spec.records import ANY4, ANY6, Endpoint, Port
from minidocker.storage import containers, networks
from minidocker.storage.containers import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minidocker.spec.request import RunRequest

_STATUSES = ("created", "running", "paused", "restarting", "exited", "removing", "dead")


def ps(host: Host, all: bool, filters: list[tuple[str, str]]) -> list[dict[str, object]]:
    """The containers, latest first: the running ones, or all. Filters of one name are alternatives, different names must all hold."""
    reconcile.look(host)
    endpoints = containers.endpoints(host.state, reserved=True)
    ports = containers.ports(host.state)
    wanted: dict[str, list[str]] = {}
    for name, value in filters:
        if name not in ("name", "status", "network", "label", "id", "health"):
            raise UsageError(f"unknown filter `{name}`", "there are name, id, status, network, label and health")
        if name == "status" and value not in _STATUSES:
            raise UsageError(f"unknown status `{value}`", "there are " + ", ".join(_STATUSES))
        wanted.setdefault(name, []).append(value)
    rows = []
    for record in containers.every(host.state):
        if not (all or "status" in wanted or record.status in (containers.RUNNING, containers.RESTARTING)):
            continue
        own = endpoints.get(record.id, [])
        word = state_word(host, record)
        if wanted and not _matches(record, word, own, wanted):
            continue
        row = _row(record, own, ports.get(record.id, []))
        if word != record.status:
            row |= {"State": word, "Status": f"{row['Status']} (Paused)"}
        rows.append(row)
    return rows


def state_word(host: Host, record: Record) -> str:
    """Docker's word for what it is: the record's status, but `paused` of one that runs and stands still."""
    return "paused" if record.status == containers.RUNNING and host.is_paused(record.id) else str(record.status)


def published(host: Host, reference: str, wanted: tuple[int, str] | None) -> list[Port]:
    """The container's published ports, by container port; those of `wanted` (port, protocol) alone, NotFoundError where there is none."""
    reconcile.look(host)
    record = containers.find(host.state, reference)
    places = containers.endpoints(host.state, record).get(record.id, [])
    found = [port for place in places for port in shown(place.ports, place)]
    if wanted is not None:
        found = [port for port in found if (port.container_port, port.protocol) == wanted]
        if not found:
            raise NotFoundError(
                f"port {wanted[0]}/{wanted[1]} of `{record.name}` is not published", f"minidocker port {record.name} shows which are"
            )
    return sorted(found, key=lambda port: (port.container_port, port.protocol, port.host_port))


def _matches(record: Record, word: str, endpoints: list[Endpoint], wanted: dict[str, list[str]]) -> bool:
    request = record.request
    attached = [endpoint.network for endpoint in endpoints] or [request.network]
    tests: dict[str, Callable[[str], bool]] = {
        "name": lambda value: value in record.name,
        "id": lambda value: record.id.startswith(value),
        "status": lambda value: word == value,
        "network": lambda value: value in attached,
        "health": lambda value: value == (_health(record)["Status"] if request.has_check else "none"),
        "label": lambda value: request.labels.get(value.partition("=")[0]) is not None
        and ("=" not in value or request.labels[value.partition("=")[0]] == value.partition("=")[2]),
    }
    return all(any(tests[name](value) for value in values) for name, values in wanted.items())


def _row(record: Record, endpoints: list[Endpoint], ports: list[Port]) -> dict[str, object]:
    request = record.request
    return {
        "ID": record.id,
        "Names": record.name,
        "Command": " ".join(request.command),
        "CreatedAt": record.created,
        "Status": status_text(record, time.time()),
        "State": record.status,
        "Networks": ", ".join(endpoint.network for endpoint in endpoints) or request.network,
        "IP": ", ".join(ip for endpoint in endpoints for ip in (endpoint.ip, endpoint.ip6) if ip),
        "Ports": ", ".join([str(port) for port in shown(ports, publisher(endpoints))]
                           + [f"{number}/{protocol}" for number, protocol in request.expose]),
        "Labels": ",".join(f"{name}={value}" for name, value in request.labels.items()),
    }


def publisher(endpoints: list[Endpoint]) -> Endpoint | None:
    """The place by which the container's ports are published."""
    return next((endpoint for endpoint in endpoints if endpoint.ports), None)


def status_text(record: Record, now: float) -> str:
    """"Up 3 seconds", "Exited (0) 2 minutes ago"."""
    if record.status == containers.RUNNING:
        return f"Up {duration(now - record.started)}{health_text(record)}"
    if record.status in (containers.EXITED, containers.RESTARTING):
        code = "unknown" if record.exit_code is None else record.exit_code
        return f"{str(record.status).capitalize()} ({code}) {duration(now - record.finished)} ago"
    return str(record.status).capitalize()


def health_text(record: Record) -> str:
    """What is said of its health after the rest, with the space before it: " (healthy)", docker's " (health: starting)"."""
    status = _health(record)["Status"] if record.request.has_check else ""
    return {"": "", "starting": " (health: starting)"}.get(status, f" ({status})")


def _health(record: Record) -> dict[str, Any]:
    from minidocker.spec import health

    known: dict[str, Any] = fastjson.loads(record.health) if record.health else health.beginning()
    return {
        "Status": known["status"], "FailingStreak": known["streak"],
        "Log": [{"Start": _time(look["start"]), "End": _time(look["end"]), "ExitCode": look["code"], "Output": look["output"]}
                for look in known["log"]],
    }  # fmt: skip


def _health_config(asked: dict[str, Any]) -> dict[str, Any]:
    """Docker's Healthcheck, in nanoseconds."""
    if "command" not in asked:
        return {"Test": ["NONE"]}
    times = {"Interval": asked["interval"], "Timeout": asked["timeout"], "StartPeriod": asked["start_period"]}
    return {"Test": ["CMD-SHELL", asked["command"]], **{key: int(value * 1e9) for key, value in times.items()}, "Retries": asked["retries"]}


def duration(seconds: float) -> str:
    """In words, as docker rounds them."""
    if seconds < 1:
        return "Less than a second"
    for limit, unit, name in ((60, 1, "second"), (3600, 60, "minute"), (48 * 3600, 3600, "hour"), (14 * 86400, 86400, "day"),
                              (60 * 86400, 7 * 86400, "week"), (2 * 365 * 86400, 30 * 86400, "month")):  # fmt: skip
        if seconds < limit:
            count = int(seconds // unit)
            return f"{count} {name}{'s' if count != 1 else ''}"
    return f"{int(seconds // (365 * 86400))} years"


def inspect(host: Host, references: list[str]) -> list[dict[str, object]]:
    """Docker's inspect documents. Raises NotFoundError for the first that does not exist."""
    reconcile.look(host)
    return [document(host, containers.find(host.state, reference)) for reference in references]


def document(host: Host, record: Record) -> dict[str, object]:
    request = record.request
    endpoints = containers.endpoints(host.state, record).get(record.id, [])
    running, restarting = record.status == containers.RUNNING, record.status == containers.RESTARTING
    return {
        "Id": record.id,
        "Name": "/" + record.name,
        "Created": _time(record.created),
        "Path": request.command[0],
        "Args": request.command[1:],
        "State": {
            "Status": state_word(host, record),
            "Running": running or restarting, "Restarting": restarting, "Paused": host.is_paused(record.id), "Pid": record.pid,
            "ExitCode": 0 if running or record.status == containers.CREATED else record.exit_code,
            "OOMKilled": record.oom_killed, "Error": record.error, "StartedAt": _time(record.started), "FinishedAt": _time(record.finished),
            **({"Health": _health(record)} if request.has_check else {}),
        },
        "RestartCount": record.restarts,
        "AppArmorProfile": request.apparmor,
        "Config": {
            "Hostname": request.hostname or record.short_id, "User": request.user or "", "Env": request.env, "Cmd": request.command,
            "Tty": request.tty, "OpenStdin": request.interactive, "WorkingDir": request.workdir or "", "Labels": request.labels,
            **({"Healthcheck": _health_config(request.health)} if request.health else {}),
            "StopSignal": _signal_name(request.stop_signal), "StopTimeout": request.stop_timeout,
            "ExposedPorts": {
                f"{number}/{protocol}": {}
                for number, protocol in (*request.expose, *((port.container_port, port.protocol) for port in request.publish))
            },
        },
        "HostConfig": _host_config(host, record),
        "Mounts": [
            {"Type": "bind", "Source": source, "Destination": destination, "RW": not readonly}
            for source, destination, readonly in request.volumes
        ] + _mounts(host, request)
        + [{"Type": "tmpfs", "Source": "", "Destination": destination, "RW": True} for destination, _ in request.tmpfs],
        "NetworkSettings": {
            "Networks": {endpoint.network: _endpoint(host, endpoint) for endpoint in endpoints},
            "Ports": _bindings(endpoints, request.expose),
            "SandboxKey": f"/run/netns/{record.name}" if running and request.mode != "host" else "",
        },
        "LogPath": host.log_file(record.id),
    }  # fmt: skip


def _mounts(host: Host, request: RunRequest) -> list[dict[str, object]]:
    """Those of --mount and the volumes."""
    if not request.mounts:
        return []
    from minidocker.engine import volumes

    return volumes.shown(host, request)


def _host_config(host: Host, record: Record) -> dict[str, Any]:
    request = record.request
    place = host.place(record.id, request)
    return {
        "NetworkMode": request.network, "Memory": request.memory or 0, "MemorySwap": request.memory_swap or 0,
        "MemoryReservation": request.memory_reservation or 0, "NanoCpus": round((request.cpus or 0) * 1e9),
        "CpuShares": request.cpu_shares or 0, "CpusetCpus": request.cpuset_cpus or "", "PidsLimit": request.pids_limit or 0,
        "CapAdd": request.cap_add, "CapDrop": request.cap_drop, "PortBindings": _port_bindings(request.publish),
        "SecurityOpt": _security_options(request),
        "Binds": [f"{source}:{destination}" + ":ro" * readonly for source, destination, readonly in request.volumes],
        "Privileged": request.privileged, "ReadonlyRootfs": request.read_only, "ShmSize": request.shm_size, "AutoRemove": request.remove,
        "RestartPolicy": {"Name": request.restart, "MaximumRetryCount": request.restart_most},
        "Dns": request.dns, "DnsSearch": request.dns_search, "DnsOptions": request.dns_options, "Init": request.init,
        "ExtraHosts": [f"{name}:{ip}" for name, ip in request.add_hosts], "Ulimits": [
            {"Name": name, "Soft": soft, "Hard": hard} for name, soft, hard in request.ulimits
        ],
        "Cgroup": "/" + place.name, "CgroupParent": request.cgroup_parent or "", "CgroupManager": place.manager.word,
        "CgroupConf": request.cgroup_conf, **_shared(request), "ContainerIDFile": request.cidfile or "", "PidFile": request.pidfile or "",
        "Rootfs": request.rootfs or "", "LogConfig": {"Type": "local", "Config": {
            name: str(value) for name, value in (("max-size", request.log_size), ("max-file", request.log_files)) if value
        }},
    }  # fmt: skip


def _shared(request: RunRequest) -> dict[str, Any]:
    """What it is given of the host, or shares (sharing.py)."""
    return {
        "Devices": [
            {"PathOnHost": source, "PathInContainer": target, "CgroupPermissions": access} for source, target, access in request.devices
        ],
        "DeviceCgroupRules": request.device_rules, "Sysctls": request.sysctls, "GroupAdd": request.group_add,
        "OomScoreAdj": request.oom_score_adj or 0, "IpcMode": request.ipc or "private", "PidMode": request.pid, "UTSMode": request.uts,
    }  # fmt: skip


def _security_options(request: RunRequest) -> list[str]:
    """As they would be written."""
    words = [f"{kind}={value}" for kind, value in (("seccomp", request.seccomp), ("apparmor", request.apparmor)) if value]
    words += [f"label={part}" for part in request.selinux]
    if request.no_new_privileges is not None:
        words.append(f"no-new-privileges={str(request.no_new_privileges).lower()}")
    return words


def _port_bindings(asked: list[Port]) -> dict[str, list[dict[str, str]]]:
    """What was asked for: an empty HostPort is one that was left to us."""
    found: dict[str, list[dict[str, str]]] = {}
    for port in asked:
        bindings = found.setdefault(f"{port.container_port}/{port.protocol}", [])
        bindings.append({"HostIp": port.host_ip, "HostPort": str(port.host_port or "")})
    return found


def _signal_name(number: int) -> str:
    """SIGTERM; SIGRTMIN+3 for a real-time signal."""
    import signal  # cold: inspect alone

    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"


def _endpoint(host: Host, endpoint: Endpoint) -> dict[str, Any]:
    network = networks.find(host.state, endpoint.network)
    return {
        "NetworkID": network.id, "IPAddress": endpoint.ip, "IPPrefixLen": ipam.prefix_length(network.subnet), "Gateway": network.gateway,
        "GlobalIPv6Address": endpoint.ip6, "GlobalIPv6PrefixLen": ipam.prefix_length(network.subnet6) if endpoint.ip6 else 0,
        "IPv6Gateway": network.gateway6, "MacAddress": endpoint.mac, "Aliases": endpoint.aliases, "GwPriority": endpoint.priority,
        "Interface": endpoint.interface, "HostLink": endpoint.host_link if network.bridge else "",
    }  # fmt: skip


def _bindings(endpoints: list[Endpoint], exposed: list[tuple[int, str]]) -> dict[str, Any]:
    found: dict[str, Any] = {f"{number}/{protocol}": None for number, protocol in exposed}
    for endpoint in endpoints:
        for port in shown(endpoint.ports, endpoint):
            key = f"{port.container_port}/{port.protocol}"
            found[key] = [*(found.get(key) or []), {"HostIp": port.host_ip, "HostPort": str(port.host_port)}]
    return found


def shown(ports: list[Port], endpoint: Endpoint | None) -> list[Port]:
    """As docker shows them: one that is published on every address as one of IPv4 and, where the container has IPv6, one of that."""
    found = []
    for port in ports:
        addresses = [port.host_ip] if port.host_ip else [ANY4, ANY6] if endpoint is not None and endpoint.ip6 else [ANY4]
        found += [Port(port.host_port, port.container_port, address, port.protocol) for address in addresses]
    return found


def _time(seconds: float) -> str:
    """Docker's zero time stands for "not yet"."""
    return rfc3339(int(seconds * 1e9)) if seconds else "0001-01-01T00:00:00Z"
