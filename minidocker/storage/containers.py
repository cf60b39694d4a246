"""The records of containers, their endpoints (leases) and published ports, in state.db."""

from __future__ import annotations

from minidocker.errors import ConflictError, NotFoundError
from minidocker.spec import fastjson
from minidocker.spec.near import near
from minidocker.spec.records import Endpoint, Port
from minidocker.spec.request import RunRequest, from_data, to_data
from minidocker.storage.state import State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CREATING = "creating"
RUNNING = "running"
EXITED = "exited"
REMOVING = "removing"

_COLUMNS = "id, name, status, request, boot, created, started, finished, exit_code, oom_killed, error, pid, generation, netns"


class Record:
    """One container. Times are seconds since the epoch, 0 for "not yet"; `exit_code` None while it runs or when nobody saw its end;
    `netns` the inode of its network namespace; `boot` the boot id under which it was started."""

    __slots__ = (
        "_request", "_text", "boot", "created", "error", "exit_code", "finished", "generation", "id", "name", "netns", "oom_killed", "pid",
        "started", "status",
    )  # fmt: skip

    def __init__(self, row: tuple[Any, ...]) -> None:
        (self.id, self.name, self.status, self._text, self.boot, self.created, self.started, self.finished, self.exit_code,
         oom_killed, self.error, self.pid, self.generation, self.netns) = row  # fmt: skip
        self.oom_killed = bool(oom_killed)
        self._request: RunRequest | None = None

    @property
    def request(self) -> RunRequest:
        """What was asked for; read from JSON when it is first needed."""
        if self._request is None:
            self._request = from_data(fastjson.loads(self._text))
        return self._request

    @property
    def short_id(self) -> str:
        return str(self.id)[:12]


def insert(state: State, id: str, name: str, request: RunRequest, boot: str, created: float) -> None:
    """The first write of a container's life. Raises ConflictError naming the holder of the name."""
    holder = state.row("SELECT id FROM containers WHERE name = ?", name)
    if holder:
        raise ConflictError(f"the name `{name}` is in use by container {holder[0][:12]}", f"minidocker rm {name}, or choose another --name")
    state.change(
        "INSERT INTO containers (id, name, status, request, boot, created) VALUES (?, ?, ?, ?, ?, ?)",
        id, name, CREATING, fastjson.dumps(to_data(request)), boot, created,
    )  # fmt: skip


def update(state: State, id: str, **values: Any) -> int:
    """Set columns of one container; 0 when it is gone. The names come from our own code only."""
    assignments = ", ".join(f"{name} = ?" for name in values)
    return state.change(f"UPDATE containers SET {assignments} WHERE id = ?", *values.values(), id)  # noqa: S608


def delete(state: State, id: str) -> None:
    """Forget it, with its leases and ports."""
    state.change("DELETE FROM containers WHERE id = ?", id)


def every(state: State) -> list[Record]:
    """All containers, the latest first."""
    return [Record(row) for row in state.rows(f"SELECT {_COLUMNS} FROM containers ORDER BY created DESC, id")]  # noqa: S608


def unfinished(state: State) -> list[Record]:
    """Those that hold anything of the kernel's: all but the exited."""
    return [Record(row) for row in state.rows(f"SELECT {_COLUMNS} FROM containers WHERE status <> ?", EXITED)]  # noqa: S608


def get(state: State, id: str) -> Record | None:
    row = state.row(f"SELECT {_COLUMNS} FROM containers WHERE id = ?", id)  # noqa: S608
    return Record(row) if row else None


def find(state: State, reference: str) -> Record:
    """By name (`/name` too, as `inspect` prints it), full id or unique prefix of an id. Raises NotFoundError with near misses,
    ConflictError when several match."""
    reference = reference.removeprefix("/")
    query = f"SELECT {_COLUMNS} FROM containers WHERE name = ?1 OR id = ?1"  # noqa: S608
    row = state.row(query, reference) if reference.isascii() else None  # SQLite takes no text that is not UTF-8, and names are ASCII anyway
    if row:
        return Record(row)
    if reference and all(c in "0123456789abcdef" for c in reference):
        rows = state.rows(f"SELECT {_COLUMNS} FROM containers WHERE substr(id, 1, ?) = ? LIMIT 2", len(reference), reference)  # noqa: S608
        if len(rows) == 1:
            return Record(rows[0])
        if rows:
            raise ConflictError(f"`{reference}` is the beginning of several containers' ids", "give more of it")
    names = [name for (name,) in state.rows("SELECT name FROM containers")]
    close = near(reference, names)
    hint = f"did you mean {' or '.join(close)}?" if close else "minidocker ps -a lists them"
    raise NotFoundError(f"no such container: {reference}", hint)


def add_endpoint(state: State, endpoint: Endpoint) -> None:
    """Take the lease. Raises ConflictError naming who has the address or the MAC."""
    try:
        state.change(
            "INSERT INTO endpoints (container, network, ip, mac, aliases) VALUES (?, ?, ?, ?, ?)",
            endpoint.container_id, endpoint.network, endpoint.ip, endpoint.mac, fastjson.dumps(endpoint.aliases),
        )  # fmt: skip
    except ConflictError as error:
        raise _clash(state, endpoint) or error from error
    state.change("UPDATE networks SET last_ip = ? WHERE name = ?", endpoint.ip, endpoint.network)


def _clash(state: State, endpoint: Endpoint) -> ConflictError | None:
    """Who has what `endpoint` wants."""
    for column, value, what, option in (("ip", endpoint.ip, "address", "--ip"), ("mac", endpoint.mac, "the MAC address", "--mac-address")):
        holder = state.row(
            f"SELECT c.name FROM endpoints e JOIN containers c ON c.id = e.container WHERE e.network = ? AND e.{column} = ?",  # noqa: S608
            endpoint.network, value,
        )  # fmt: skip
        if holder:
            return ConflictError(f"{what} {value} is in use by container `{holder[0]}`", f"take another, or leave {option} out")
    return None


def endpoints(state: State, record: Record | None = None) -> dict[str, list[Endpoint]]:
    """container id -> its endpoints, of one container or of all."""
    query = (
        "SELECT e.network, e.container, c.name, e.ip, e.mac, c.generation, e.aliases "
        "FROM endpoints e JOIN containers c ON c.id = e.container"
    )
    rows = state.rows(query + " WHERE e.container = ?", record.id) if record else state.rows(query)
    published = ports(state, record)
    found: dict[str, list[Endpoint]] = {}
    for network, container, name, ip, mac, generation, aliases in rows:
        endpoint = Endpoint(network, container, name, ip, mac, generation, fastjson.loads(aliases), published.get(container))
        found.setdefault(container, []).append(endpoint)
    return found


def taken_ips(state: State, network: str) -> set[str]:
    return {ip for (ip,) in state.rows("SELECT ip FROM endpoints WHERE network = ?", network)}


def taken_macs(state: State, network: str) -> set[str]:
    return {mac for (mac,) in state.rows("SELECT mac FROM endpoints WHERE network = ?", network)}


def add_ports(state: State, id: str, published: list[Port]) -> None:
    """Take host ports. Raises ConflictError naming the holder: a wildcard and a single address overlap."""
    for port in published:
        holder = state.row(
            "SELECT c.name, p.host_ip FROM ports p JOIN containers c ON c.id = p.container WHERE p.protocol = ? AND p.host_port = ? "
            "AND (p.host_ip = '' OR ?3 = '' OR p.host_ip = ?3)",
            port.protocol, port.host_port, port.host_ip,
        )  # fmt: skip
        if holder:
            where = port.host_ip or "all addresses"
            raise ConflictError(
                f"port {port.host_port}/{port.protocol} of {where} is published by container `{holder[0]}` already",
                "choose another host port, or leave it out to have one chosen",
            )
        state.change(
            "INSERT INTO ports (container, host_ip, host_port, container_port, protocol) VALUES (?, ?, ?, ?, ?)",
            id, port.host_ip, port.host_port, port.container_port, port.protocol,
        )  # fmt: skip


def ports(state: State, record: Record | None = None) -> dict[str, list[Port]]:
    """container id -> its published ports, of one container or of all."""
    query = "SELECT container, host_port, container_port, host_ip, protocol FROM ports"
    rows = state.rows(query + " WHERE container = ?", record.id) if record else state.rows(query)
    found: dict[str, list[Port]] = {}
    for container, *fields in rows:
        found.setdefault(container, []).append(Port(*fields))
    return found


def release(state: State, id: str) -> None:
    """Give back its leases and ports."""
    state.change("DELETE FROM endpoints WHERE container = ?", id)
    state.change("DELETE FROM ports WHERE container = ?", id)


def is_unfinished(state: State, id: str) -> bool:
    return state.row("SELECT 1 FROM containers WHERE id = ? AND status <> ?", id, EXITED) is not None
