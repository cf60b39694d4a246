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

CREATED = "created"  # by `create`: it has its name, addresses and ports, and nothing of the kernel's
CREATING = "creating"
RUNNING = "running"
EXITED = "exited"
RESTARTING = "restarting"  # it has ended, and its monitor waits to start it again by its policy
STARTING = "starting"  # again: unlike one that is being created, it is not gone if that fails
REMOVING = "removing"
AT_REST = (CREATED, EXITED)  # what holds nothing of the kernel's, and can be started

_COLUMNS = (
    "id, name, status, request, boot, created, started, finished, exit_code, oom_killed, error, pid, generation, netns, addresses, "
    "restarts, backoff, stopped, health"
)


class Record:
    """One container. Times are seconds since the epoch, 0 for "not yet"; `exit_code` None while it runs or when nobody saw its end;
    `restarts` how often its policy has started it again, and `backoff` how many seconds after its end; `stopped` whether the user has ended
    it; `health` JSON (spec/health.py); `netns` the inode of its network namespace; `boot` the boot id under which it was started;
    `addresses` (network name -> address) what it had when it last ran."""

    __slots__ = (
        "_addresses", "_request", "_text", "backoff", "boot", "created", "error", "exit_code", "finished", "generation", "health", "id",
        "name", "netns", "oom_killed", "pid", "restarts", "started", "status", "stopped",
    )  # fmt: skip

    def __init__(self, row: tuple[Any, ...]) -> None:
        (self.id, self.name, self.status, self._text, self.boot, self.created, self.started, self.finished, self.exit_code,
         oom_killed, self.error, self.pid, self.generation, self.netns, self._addresses, self.restarts, self.backoff, stopped,
         self.health) = row  # fmt: skip
        self.oom_killed, self.stopped = bool(oom_killed), bool(stopped)
        self._request: RunRequest | None = None

    @property
    def request(self) -> RunRequest:
        """What was asked for; read from JSON when it is first needed."""
        if self._request is None:
            self._request = from_data(fastjson.loads(self._text))
        return self._request

    @property
    def addresses(self) -> dict[str, str]:
        found: dict[str, str] = fastjson.loads(self._addresses)
        return found

    @property
    def short_id(self) -> str:
        return str(self.id)[:12]


def insert(state: State, id: str, name: str, request: RunRequest, boot: str, created: float, status: str = CREATING) -> None:
    """The first write of a container's life. Raises ConflictError naming the holder of the name."""
    check_name(state, name, "--name")
    state.change(
        "INSERT INTO containers (id, name, status, request, boot, created) VALUES (?, ?, ?, ?, ?, ?)",
        id, name, status, fastjson.dumps(to_data(request)), boot, created,
    )  # fmt: skip


def check_name(state: State, name: str, what: str) -> None:
    """Raise ConflictError naming the holder of a name; `what` the user chose it by."""
    holder = state.row("SELECT id FROM containers WHERE name = ?", name)
    if holder:
        raise ConflictError(f"the name `{name}` is in use by container {holder[0][:12]}", f"minidocker rm {name}, or choose another {what}")


def update(state: State, id: str, **values: Any) -> int:
    """Set columns of one container; 0 when it is gone. The names come from our own code only."""
    assignments = ", ".join(f"{name} = ?" for name in values)
    return state.change(f"UPDATE containers SET {assignments} WHERE id = ?", *values.values(), id)  # noqa: S608


def set_health(state: State, record: Record, health: dict[str, Any]) -> bool:
    """What a look at its health has found; False where that run of it has ended."""
    query = "UPDATE containers SET health = ? WHERE id = ? AND status = ? AND generation = ?"
    return state.change(query, fastjson.dumps(health), record.id, RUNNING, record.generation) > 0


def waiting(state: State, record: Record) -> Record | None:
    """The record as it is now of one that waits to be started again, else None."""
    current = get(state, record.id) if record.request.has_policy else None
    return current if current is not None and current.status == RESTARTING else None


def end_wait(state: State, id: str, error: str = "") -> bool:
    """One that waits to be started again has ended for good; False when it does not wait (any more)."""
    query = "UPDATE containers SET status = ?, error = coalesce(nullif(?, ''), error) WHERE id = ? AND status = ?"
    return state.change(query, EXITED, error, id, RESTARTING) > 0


def delete(state: State, id: str) -> None:
    """Forget it, with its leases and ports."""
    state.change("DELETE FROM containers WHERE id = ?", id)


def every(state: State) -> list[Record]:
    """All containers, the latest first."""
    return [Record(row) for row in state.rows(f"SELECT {_COLUMNS} FROM containers ORDER BY created DESC, id")]  # noqa: S608


def unfinished(state: State) -> list[Record]:
    """Those that hold anything of the kernel's: all but those at rest."""
    return [Record(row) for row in state.rows(f"SELECT {_COLUMNS} FROM containers WHERE status NOT IN (?, ?)", *AT_REST)]  # noqa: S608


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


def add_endpoint(state: State, endpoint: Endpoint, connecting: bool = False) -> None:
    """Take the lease; `connecting` marks one that a running container is only about to get. Raises ConflictError naming who has the
    address or the MAC."""
    try:
        state.change(
            "INSERT INTO endpoints (container, network, ip, mac, aliases, ip6, interface, priority, connecting) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            endpoint.container_id, endpoint.network, endpoint.ip, endpoint.mac, fastjson.dumps(endpoint.aliases), endpoint.ip6,
            endpoint.number, endpoint.priority, int(connecting),
        )  # fmt: skip
    except ConflictError as error:
        raise _clash(state, endpoint) or error from error
    state.change("UPDATE networks SET last_ip = ? WHERE name = ?", endpoint.ip, endpoint.network)


def _clash(state: State, endpoint: Endpoint) -> ConflictError | None:
    """Who has what `endpoint` wants."""
    for column, value, what, option in (
        ("ip", endpoint.ip, "address", "--ip"), ("ip6", endpoint.ip6, "address", "--ip6"),
        ("mac", endpoint.mac, "the MAC address", "--mac-address"),
    ):  # fmt: skip
        holder = state.row(
            f"SELECT c.name FROM endpoints e JOIN containers c ON c.id = e.container WHERE e.network = ? AND e.{column} = ?",  # noqa: S608
            endpoint.network, value,
        )  # fmt: skip
        if holder and value:
            return ConflictError(f"{what} {value} is in use by container `{holder[0]}`", f"take another, or leave {option} out")
    return None


def endpoints(state: State, record: Record | None = None, reserved: bool = False) -> dict[str, list[Endpoint]]:
    """container id -> its places, eth0 first, of one container or of all; with `reserved` also of those that are only created, and have
    nothing there yet. Its ports are at the one that gives it its default route."""
    query = (
        "SELECT e.container, e.network, c.name, e.ip, e.mac, c.generation, e.aliases, e.interface, e.ip6, e.priority, "
        "n.internal = 0 AND n.driver <> 'ptp' "
        "FROM endpoints e JOIN containers c ON c.id = e.container JOIN networks n ON n.name = e.network"
    )
    if record is not None:
        rows = state.rows(query + " WHERE e.container = ?", record.id)
    else:
        rows = state.rows(query + ("" if reserved else f" WHERE c.status <> '{CREATED}'"))
    published = ports(state, record)
    found: dict[str, list[tuple[Endpoint, bool]]] = {}
    for container, network, name, ip, mac, generation, aliases, interface, ip6, priority, out in rows:
        endpoint = Endpoint(network, container, name, ip, mac, generation, fastjson.loads(aliases), None, f"eth{interface}", ip6, priority)
        found.setdefault(container, []).append((endpoint, bool(out)))
    for id, places in found.items():
        places.sort(key=lambda place: place[0].number)
        way_out = default([endpoint for endpoint, out in places if out])
        if way_out is not None:
            way_out.ports = published.get(id, [])
    return {id: [endpoint for endpoint, _ in places] for id, places in found.items()}


def default(candidates: list[Endpoint]) -> Endpoint | None:
    """Of the endpoints that lead out, the one that gives the default route: of the highest priority, the first of equals."""
    return max(candidates, key=lambda endpoint: (endpoint.priority, -endpoint.number), default=None)


def remove_endpoint(state: State, id: str, network: str) -> None:
    state.change("DELETE FROM endpoints WHERE container = ? AND network = ?", id, network)


def set_connecting(state: State, id: str, network: str) -> None:
    """A running container is only half in a network from here on: it is about to leave it."""
    state.change("UPDATE endpoints SET connecting = 1 WHERE container = ? AND network = ?", id, network)


def connected(state: State, id: str, network: str) -> None:
    """A running container has got what it was to get."""
    state.change("UPDATE endpoints SET connecting = 0 WHERE container = ? AND network = ?", id, network)


def set_request(state: State, id: str, request: RunRequest) -> None:
    """What it is to be at its next start."""
    state.change("UPDATE containers SET request = ? WHERE id = ?", fastjson.dumps(to_data(request)), id)


def half_connected(state: State) -> list[tuple[str, str]]:
    """(container id, network) of what somebody is connecting, or was when he was killed."""
    return [(id, network) for id, network in state.rows("SELECT container, network FROM endpoints WHERE connecting")]


def count_in(state: State, network: str) -> int:
    """How many containers have a place in a network."""
    return int(state.rows("SELECT count(*) FROM endpoints WHERE network = ?", network)[0][0])


def is_lively(state: State, network: str) -> bool:
    """Whether anybody is in a network: not only created to be in it."""
    query = "SELECT 1 FROM endpoints e JOIN containers c ON c.id = e.container WHERE e.network = ? AND c.status <> ? LIMIT 1"
    return state.row(query, network, CREATED) is not None


def taken(state: State, network: str, column: str) -> set[str]:
    """What is leased in a network; `column` is ip, ip6 or mac."""
    return {value for (value,) in state.rows(f"SELECT {column} FROM endpoints WHERE network = ?", network)}  # noqa: S608


def add_ports(state: State, id: str, published: list[Port]) -> None:
    """Take host ports. Raises ConflictError naming the holder: a wildcard and a single address overlap."""
    for port in published:
        holder = port_holder(state, port, id)
        if holder:
            who = f"container `{holder}`" if holder != name_of(state, id) else "this container itself"
            raise ConflictError(
                f"port {port.host_port}/{port.protocol} of {port.host_ip or 'all addresses'} is published by {who} already",
                "choose another host port, or leave it out to have one chosen",
            )
        state.change(
            "INSERT INTO ports (container, host_ip, host_port, container_port, protocol) VALUES (?, ?, ?, ?, ?)",
            id, port.host_ip, port.host_port, port.container_port, port.protocol,
        )  # fmt: skip


def port_holder(state: State, port: Port, asking: str = "") -> str:
    """The name of the container that has a host port, or one on an address among the same; "" for none. Where there are several,
    another's than the one with the id `asking`."""
    holder = state.row(
        "SELECT c.name FROM ports p JOIN containers c ON c.id = p.container WHERE p.protocol = ?1 AND p.host_port = ?2 AND ("
        "p.host_ip IN ('', ?3) OR ?3 = '' OR ((instr(p.host_ip, ':') > 0) = (instr(?3, ':') > 0) "
        "AND (p.host_ip IN ('0.0.0.0', '::') OR ?3 IN ('0.0.0.0', '::')))) ORDER BY c.id = ?4",
        port.protocol, port.host_port, port.host_ip, asking,
    )  # fmt: skip
    return holder[0] if holder else ""


def name_of(state: State, id: str) -> str:
    """What a container is called now, "" when it is gone."""
    row = state.row("SELECT name FROM containers WHERE id = ?", id)
    return row[0] if row else ""


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
    return state.row("SELECT 1 FROM containers WHERE id = ? AND status NOT IN (?, ?)", id, *AT_REST) is not None
