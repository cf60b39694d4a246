"""network create, rm, ls, inspect; and the managed default network, made on first use."""

from __future__ import annotations

import fcntl
import os
import time

from minidocker.engine import reconcile
from minidocker.engine.host import Host
from minidocker.errors import ConflictError, UnsupportedError, UsageError
from minidocker.network import bridge, ipam, occupied, ownership
from minidocker.network import others as firewalls
from minidocker.plan import At, Plan
from minidocker.spec import fastjson
from minidocker.spec.records import Network
from minidocker.spec.request import NetworkRequest
from minidocker.storage import containers, networks, rootfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

_RESERVED = ("none", "host", "bridge", "default")
_LONGEST_LINK = 15
# What the uplinks' forwarding was before the first network; only true for the boot it was read in.
_FORWARDING = "forwarding"


class Lock:
    """Held while networks are made or taken down; ends with the process."""

    __slots__ = ("descriptor", "path")

    def __init__(self, host: Host) -> None:
        self.path = f"{host.run}/network.lock"

    def __enter__(self) -> None:
        self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self.descriptor, fcntl.LOCK_EX)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self.descriptor)


def create(host: Host, request: NetworkRequest) -> str:
    """Make a network and bring it up; returns its id. Refuses what overlaps, naming the owner, before anything is changed."""
    if request.driver != "bridge":
        raise UnsupportedError(f"network driver `{request.driver}` is not supported", "there is bridge")
    reconcile.sweep(host)
    with host.state.transaction() as state:  # of two at once, the second sees which subnet the first has chosen
        network = designed(host, request)
        networks.insert(state, network)
    try:
        bring_up(host, network)
    except BaseException:
        with host.state.transaction() as state:
            networks.delete(state, network.name)
        raise
    return network.id


def designed(host: Host, request: NetworkRequest) -> Network:
    """The network that would be made: subnet, gateway, bridge chosen or checked; nothing is changed."""
    if request.name in _RESERVED or request.name.startswith("container:"):
        raise UsageError(f"a network cannot be called `{request.name}`", "that name means something to --net")
    ours = [ipam.Occupied(network.subnet, f"network `{network.name}`") for network in networks.every(host.state)]
    in_use = ours + occupied.occupied()
    if request.subnet:
        subnet = ipam.check_subnet(request.subnet)
        owner = ipam.overlap(subnet, in_use)
        if owner:
            raise ConflictError(f"subnet {subnet} overlaps {owner}", "choose another; without --subnet a free one is taken")
    else:
        subnet, skipped = ipam.choose_subnet(ipam.DEFAULT_SUBNET, in_use)
        for passed_over, owner in skipped:
            if not any(network.owner == owner for network in ours):  # that one's subnet is no news
                host.notice(f"{passed_over} is in use here ({owner}): network {request.name} takes {subnet}")
    gateway = ipam.check_gateway(subnet, request.gateway) if request.gateway else ipam.gateway(subnet)
    id = os.urandom(6).hex()
    link = request.bridge or (request.name if len(request.name) <= _LONGEST_LINK else f"md-{id}")
    network = Network(id, request.name, subnet, gateway, link, "bridge", request.mtu or 0, request.internal, request.labels, time.time())
    networks.check_free(host.state, network)
    if ownership.inspect_link(link) is not None:
        raise ConflictError(
            f"a link called `{link}` exists already and is not minidocker's", "choose another: minidocker network create --bridge NAME ..."
        )
    return network


def bring_up(host: Host, network: Network) -> tuple[ownership.Ready, Plan]:
    """Make the network's bridge and rules where they are not there; returns how the bridge is, and the plan that was run for it."""
    ready = ownership.ready(network, host.tag)
    if ready.complete:
        return ready, Plan()
    with Lock(host):
        plan, before = planned_up(host, network)
        if plan.steps:  # what it will change outside of the network is written down first
            networks.set_setting(host.state, _FORWARDING, fastjson.dumps({"boot": host.boot, "before": before}))
        plan.run(At())
    return ownership.ready(network, host.tag), plan


def planned_up(host: Host, network: Network) -> tuple[Plan, dict[str, str]]:
    """The plan that makes what is missing of the network, and the settings outside of it that the plan changes, as they are."""
    ready = ownership.ready(network, host.tag)
    if ready.complete:
        return Plan(), {}
    if ready.state == ownership.FOREIGN:
        raise ConflictError(
            f"a link called `{network.bridge}` exists already and is not minidocker's",
            f"remove it, or use another network: minidocker network create --bridge NAME {network.name}2",
        )
    if ready.state == ownership.ABSENT:
        owner = ipam.overlap(network.subnet, occupied.occupied())
        if owner:
            raise ConflictError(
                f"network `{network.name}` has the subnet {network.subnet}, which now overlaps {owner}",
                f"minidocker network rm {network.name} lets it be made anew elsewhere",
            )
    seen = bridge.observed(network, host.tag, _recorded(host))
    for line in firewalls.advice(seen.others, network.bridge):
        host.notice(line)
    plan = bridge.up(network, host.tag, seen)
    if ready.state == ownership.OURS and not ready.firewall:
        # somebody flushed the ruleset: what is running needs its published ports back, too
        others = [one for one in networks.every(host.state) if one.name != network.name]
        endpoints = [endpoint for group in containers.endpoints(host.state).values() for endpoint in group]
        plan += bridge.reload(host.tag, [*others, network], seen.before, endpoints)
    return plan, seen.before


def _recorded(host: Host) -> dict[str, str]:
    text = networks.setting(host.state, _FORWARDING)
    saved = fastjson.loads(text) if text else {}
    before: dict[str, str] = saved.get("before", {}) if saved.get("boot") == host.boot else {}
    return before


def remove(host: Host, reference: str) -> None:
    """Take a network down and forget it. StateError while containers are in it."""

    reconcile.sweep(host)
    with Lock(host), host.state.transaction() as state:
        # all in one transaction: a run that wants this network waits, and then finds it gone
        network = networks.find(state, reference)
        networks.delete(state, network.name)
        last = not networks.every(state)
        bridge.down(network, host.tag, _recorded(host), last).run(At())
        if last:
            networks.set_setting(state, _FORWARDING, "")
    rootfs.remove_tree(host.names_directory(network.name))


def ls(host: Host) -> list[dict[str, object]]:
    """The networks, as `network ls` shows them."""
    reconcile.look(host)
    counts: dict[str, int] = {}
    for group in containers.endpoints(host.state).values():
        for endpoint in group:
            counts[endpoint.network] = counts.get(endpoint.network, 0) + 1
    return [
        {"ID": network.id, "Name": network.name, "Driver": network.driver, "Subnet": network.subnet, "Gateway": network.gateway,
         "Bridge": network.bridge, "Containers": counts.get(network.name, 0)}
        for network in networks.every(host.state)
    ]  # fmt: skip


def inspect(host: Host, references: list[str]) -> list[dict[str, object]]:
    """Docker's inspect documents of networks."""
    from minidocker.engine.logs import rfc3339

    reconcile.look(host)
    groups = containers.endpoints(host.state)
    documents: list[dict[str, object]] = []
    for network in (networks.find(host.state, reference) for reference in references):
        members = {
            id: {
                "Name": e.container_name, "IPv4Address": f"{e.ip}/{ipam.prefix_length(network.subnet)}", "MacAddress": e.mac,
                "HostLink": e.host_link,
            }
            for id, group in groups.items() for e in group if e.network == network.name
        }  # fmt: skip
        documents.append({
            "Name": network.name, "Id": network.id, "Created": rfc3339(int(network.created * 1e9)), "Scope": "local",
            "Driver": network.driver, "EnableIPv6": False, "Internal": network.internal, "Bridge": network.bridge,
            "IPAM": {"Driver": "default", "Config": [{"Subnet": network.subnet, "Gateway": network.gateway}]},
            "Containers": members, "Labels": network.labels, "Mtu": network.mtu,
        })  # fmt: skip
    return documents
