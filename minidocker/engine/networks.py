"""network create, rm, prune, reload; and a network's bridge made when its first container comes."""

from __future__ import annotations

import fcntl
import os

from minidocker.engine import reconcile, resolver
from minidocker.engine.design import designed, identical
from minidocker.engine.host import Host
from minidocker.errors import ConflictError, MinidockerError, NotFoundError, StateError, UsageError
from minidocker.network import bridge, forwarding, ipam, occupied, others, ownership
from minidocker.network.ruleset import Wanted
from minidocker.plan import At, Plan, silent
from minidocker.spec import fastjson
from minidocker.spec.records import BRIDGE, Network
from minidocker.spec.request import NetworkRequest
from minidocker.storage import containers, networks, rootfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from minidocker.plan import Tell

_SMALLEST_MTU6 = 1280
# What forwarding was before the first network; only true for the boot it was read in.
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


def create(host: Host, request: NetworkRequest, tell: Tell = silent) -> str:
    """Make a network and bring it up; returns its id. Refuses what overlaps, naming the owner, before anything is changed."""
    reconcile.sweep(host)
    with host.state.transaction() as state:  # of two at once, the second sees which subnet the first has chosen
        there = networks.get(state, request.name) if request.exist_ok else None
        if there is not None:
            if not identical(there, request):
                raise ConflictError(f"network `{request.name}` exists already, and is another than was asked for",
                                    f"minidocker network inspect {request.name} shows it")
            return there.id
        network = designed(host, request)
        networks.insert(state, network)
    try:
        bring_up(host, network, tell)
    except BaseException:
        with host.state.transaction() as state:
            networks.delete(state, network.name)
        raise
    host.event("network", "create", network.id, network.name, type=network.driver)
    return network.id


def bring_up(host: Host, network: Network, tell: Tell = silent) -> tuple[ownership.Ready, Plan]:
    """Make the network's bridge and rules where they are not there; returns how the bridge is, and the plan that was run for it."""
    ready = ownership.ready(network, host.tag)
    if network.driver != BRIDGE or ready.complete:
        tell(Plan)
        return ready, Plan()
    with Lock(host):
        plan, before = planned_up(host, network)
        if plan.steps:  # what it will change outside of the network is written down first
            networks.set_setting(host.state, _FORWARDING, fastjson.dumps({"boot": host.boot, "before": before}))
        tell(lambda: plan)
        plan.run(At())
    return ownership.ready(network, host.tag), plan


def planned_up(host: Host, network: Network) -> tuple[Plan, dict[str, str]]:
    """The plan that makes what is missing of the network, and the settings outside of it that the plan changes, as they are."""
    ready = ownership.ready(network, host.tag)
    if network.driver != BRIDGE or ready.complete:
        return Plan(), {}
    if ready.state == ownership.FOREIGN:
        raise ConflictError(
            f"a link called `{network.bridge}` exists already and is not minidocker's",
            f"remove it, or use another network: minidocker network create --bridge NAME {network.name}2",
        )
    if ready.state == ownership.ABSENT:
        _refuse_overlap(network)
    outward, seen = forwarding.observed(network, host.tag, recorded(host)), others.seen(host.tag)
    if network.subnet6 and outward.mtu < _SMALLEST_MTU6:
        raise UsageError(f"network `{network.name}`: the way out takes packets of {outward.mtu} bytes, and IPv6 needs {_SMALLEST_MTU6}",
                         "a network without --ipv6 will do")
    for line in others.advice(seen, network.bridge, bool(network.subnet6)):
        host.notice(line)
    _say_what_is_kept(host, outward)
    plan = bridge.up(network, host.tag, outward, seen, there=ready.state == ownership.OURS)
    if ready.state == ownership.OURS and not ready.firewall:
        # somebody flushed the ruleset: what is running needs its rules back, too
        plan += bridge.reload(host.tag, wanted(host, outward.before))
    return plan, outward.before


def _refuse_overlap(network: Network) -> None:
    for subnet, in_use in ((network.subnet, occupied.occupied), (network.subnet6, occupied.occupied6)):
        owner = ipam.overlap(subnet, in_use()) if subnet else ""
        if owner:
            raise ConflictError(
                f"network `{network.name}` has the subnet {subnet}, which now overlaps {owner}",
                f"minidocker network rm {network.name} lets it be made anew elsewhere",
            )


def _say_what_is_kept(host: Host, outward: forwarding.Outward) -> None:
    fresh = [link for link in outward.advertised if f"net/ipv6/conf/{link}/accept_ra" not in recorded(host)]
    if fresh:
        host.notice(f"a host that forwards IPv6 ignores router advertisements: accept_ra of {', '.join(fresh)} is 2 instead of 1 until the "
                    "last network goes")  # fmt: skip


def recorded(host: Host) -> dict[str, str]:
    text = networks.setting(host.state, _FORWARDING)
    saved = fastjson.loads(text) if text else {}
    before: dict[str, str] = saved.get("before", {}) if saved.get("boot") == host.boot else {}
    return before


def wanted(host: Host, before: dict[str, str]) -> Wanted:
    """All that should be in the nft tables."""
    every = networks.every(host.state)
    endpoints = [endpoint for group in containers.endpoints(host.state).values() for endpoint in group]
    return Wanted(every, forwarding.Outward(0, before), endpoints, resolver.elsewhere(host, every))


def remove(host: Host, reference: str, tell: Tell = silent) -> None:
    """Take a network down and forget it. StateError while containers are in it."""
    reconcile.sweep(host)
    with Lock(host), host.state.transaction() as state:
        # all in one transaction: a run that wants this network waits, and then finds it gone
        network = networks.find(state, reference)
        networks.delete(state, network.name)
        last = network.driver == BRIDGE and all(one.driver != BRIDGE for one in networks.every(state))
        plan = bridge.down(network, host.tag, recorded(host), last) if network.driver == BRIDGE else Plan()
        # before it is forgotten: afterwards nobody would know whose they were
        plan += Plan([rootfs.RemoveTree(host.names_directory(network.name), "its hosts files")])
        tell(lambda: plan)
        plan.run(At())
        if last:
            networks.set_setting(state, _FORWARDING, "")
    host.event("network", "destroy", network.id, network.name, type=network.driver)


def prune(host: Host) -> list[str]:
    """Remove every network that no container is in, nor would be at its next start; their names."""
    reconcile.sweep(host)
    kept = {attachment.name for record in containers.every(host.state) for attachment in record.request.networks}
    found = []
    for name in networks.unused(host.state):
        if name in kept or networks.find(host.state, name).id in kept:
            continue
        try:
            remove(host, name)
            found.append(name)
        except (NotFoundError, StateError):
            continue  # somebody else removed it, or uses it, since we looked
    return found


def reload(host: Host) -> None:
    """Make the firewall's rules, docker's hook and forwarding what they should be: after `nft flush ruleset`, a firewalld reload, a
    docker that came later. Whatever stood in our tables, one transaction puts the right things there."""
    reconcile.sweep(host)
    with Lock(host):
        up = [network for network in networks.every(host.state) if network.driver == BRIDGE
              and ownership.ready(network, host.tag).state == ownership.OURS]  # fmt: skip
        if not up:
            raise StateError("there is no network whose rules could be made anew", "minidocker network ls")
        before = dict(recorded(host))
        for network in up:
            before = forwarding.observed(network, host.tag, before).before
        networks.set_setting(host.state, _FORWARDING, fastjson.dumps({"boot": host.boot, "before": before}))
        seen = others.seen(host.tag)
        should_be = wanted(host, before)
        should_be.networks = up
        outward = forwarding.Outward(0, before)
        bridge.reload(host.tag, should_be, outward, up if seen.hook else ()).run(At())


def unmake(host: Host, network: Network) -> list[str]:
    """Remove the network that a failed run had made on first use, unless somebody else is in it by now; returns what went wrong."""
    try:
        remove(host, network.name)
    except (NotFoundError, StateError):
        return []  # gone already, or in use
    except MinidockerError as error:
        return [str(error)]
    return []
