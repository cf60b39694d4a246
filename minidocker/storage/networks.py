"""The records of networks in state.db."""

from __future__ import annotations

from minidocker.errors import ConflictError, NotFoundError, StateError
from minidocker.spec import fastjson
from minidocker.spec.near import near
from minidocker.spec.records import Network
from minidocker.storage.state import State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_COLUMNS = "id, name, subnet, gateway, bridge, driver, mtu, internal, labels, created, subnet6, gateway6, ip_range, isolated, parent, mode"


def _network(row: tuple[Any, ...]) -> Network:
    id, name, subnet, gateway, bridge, driver, mtu, internal, labels, created, subnet6, gateway6, ip_range, isolated, parent, mode = row
    return Network(
        id, name, subnet, gateway, bridge, driver, mtu, bool(internal), fastjson.loads(labels), created,
        subnet6=subnet6, gateway6=gateway6, ip_range=ip_range, isolated=bool(isolated), parent=parent, mode=mode,
    )  # fmt: skip


def check_free(state: State, network: Network) -> None:
    """Raises ConflictError when the name, the subnet or the bridge is another network's."""
    holder = state.row(
        "SELECT name, subnet, bridge, subnet6 FROM networks WHERE name = ?1 OR subnet = ?2 OR (bridge = ?3 AND ?3 <> '') "
        "OR (subnet6 = ?4 AND ?4 <> '') ORDER BY name <> ?1",
        network.name, network.subnet, network.bridge, network.subnet6,
    )  # fmt: skip
    if holder and holder[0] == network.name:
        raise ConflictError(f"network `{network.name}` exists already", f"minidocker network rm {network.name}, or choose another name")
    if holder:
        what = f"bridge `{network.bridge}`" if network.bridge and holder[2] == network.bridge else f"subnet {network.subnet6}"
        what = f"subnet {network.subnet}" if holder[1] == network.subnet else what
        raise ConflictError(f"{what} is network `{holder[0]}`'s already")


def insert(state: State, network: Network) -> None:
    """Raises ConflictError as `check_free` does."""
    check_free(state, network)
    state.change(
        f"INSERT INTO networks ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
        network.id, network.name, network.subnet, network.gateway, network.bridge, network.driver, network.mtu, int(network.internal),
        fastjson.dumps(network.labels), network.created, network.subnet6, network.gateway6, network.ip_range, int(network.isolated),
        network.parent, network.mode,
    )  # fmt: skip


def every(state: State) -> list[Network]:
    return [_network(row) for row in state.rows(f"SELECT {_COLUMNS} FROM networks ORDER BY created")]  # noqa: S608


def get(state: State, name: str) -> Network | None:
    row = state.row(f"SELECT {_COLUMNS} FROM networks WHERE name = ?", name)  # noqa: S608
    return _network(row) if row else None


def find(state: State, reference: str, also: str = "") -> Network:
    """By name or id. Raises NotFoundError with near misses; `also` is a name that would do, too."""
    query = f"SELECT {_COLUMNS} FROM networks WHERE name = ?1 OR id = ?1"  # noqa: S608
    row = state.row(query, reference) if reference.isascii() else None  # SQLite takes no text that is not UTF-8, and names are ASCII anyway
    if row:
        return _network(row)
    known = {name for (name,) in state.rows("SELECT name FROM networks")} | ({also} if also else set())
    close = near(reference, known)
    hint = f"did you mean {' or '.join(close)}?" if close else f"minidocker network create {reference} makes it"
    if reference in ("none", "host"):
        hint = f"`{reference}` is a mode of --network, and there is nothing to look at or to remove"
    raise NotFoundError(f"no such network: {reference}", hint)


def last_ip(state: State, name: str) -> str:
    """The address that was leased last: the next search begins after it."""
    row = state.row("SELECT last_ip FROM networks WHERE name = ?", name)
    return row[0] if row else ""


def unused(state: State) -> list[str]:
    """The names of networks that no container is in."""
    return [name for (name,) in state.rows("SELECT name FROM networks WHERE name NOT IN (SELECT network FROM endpoints) ORDER BY name")]


def delete(state: State, name: str) -> None:
    """Raises StateError naming the containers that are in it."""
    users = state.rows("SELECT c.name, c.status FROM endpoints e JOIN containers c ON c.id = e.container WHERE e.network = ?", name)
    if users:
        names = ", ".join(sorted(user for user, _ in users))
        # one that is only created has an address there, and nothing to be stopped
        hint = "remove them first: minidocker rm -f" if "created" in [status for _, status in users] else "stop them first: minidocker stop"
        raise StateError(f"network `{name}` has containers in it: {names}", f"{hint} {names.replace(',', '')}")
    state.change("DELETE FROM networks WHERE name = ?", name)


def setting(state: State, name: str) -> str:
    row = state.row("SELECT value FROM settings WHERE name = ?", name)
    return row[0] if row else ""


def set_setting(state: State, name: str, value: str) -> None:
    state.change("INSERT INTO settings (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2", name, value)
