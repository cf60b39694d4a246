"""What a new network is to be: subnets, gateways, names, chosen or checked against all that this host has. Nothing is changed here."""

from __future__ import annotations

import os
import time

from minidocker.engine.host import Host
from minidocker.errors import ConflictError, UsageError
from minidocker.network import ipam, ipam6, occupied, ownership
from minidocker.spec.records import BRIDGE, MACVLAN, PTP, Network
from minidocker.spec.request import NetworkRequest
from minidocker.storage import networks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minidocker.network.ipam import Occupied

_RESERVED = ("none", "host", "bridge", "default", "container")
_LONGEST_LINK = 15
_CHOOSE = "choose another; without --subnet a free one is taken"


def designed(host: Host, request: NetworkRequest) -> Network:
    """The network that would be made. Raises ConflictError naming who has what it wants."""
    if request.name in _RESERVED or request.name.startswith("container:"):
        raise UsageError(f"a network cannot be called `{request.name}`", "that name means something to --net")
    network = _on_a_wire(host, request) if request.driver == MACVLAN else _of_our_own(host, request)
    networks.check_free(host.state, network)
    if network.ip_range:
        _refuse_empty_range(network)
    return network


def _refuse_empty_range(network: Network) -> None:
    try:
        ipam.allocate(network.subnet, (), "", network.gateway, network.ip_range)
    except ConflictError:
        raise UsageError(f"--ip-range {network.ip_range} has no address for a container",
                         f"of {network.subnet} the first and the last are none, nor is the gateway's") from None


def identical(network: Network, request: NetworkRequest) -> bool:
    """Whether `network` is what `request` asks for; what it leaves to us is whatever it is."""
    asked = {
        "driver": request.driver, "subnet": request.subnet, "gateway": request.gateway, "ip_range": request.ip_range or "",
        "gateway6": request.gateway6, "subnet6": request.subnet6 if request.ipv6 else "", "bridge": request.bridge,
        "mtu": request.mtu or 0, "internal": request.internal, "isolated": request.isolated, "labels": request.labels,
        "parent": request.parent or "", "mode": request.mode or "",
    }  # fmt: skip
    return all(value is None or getattr(network, name) == value for name, value in asked.items()) and request.ipv6 == bool(network.subnet6)


def _of_our_own(host: Host, request: NetworkRequest) -> Network:
    """A bridge network, or a cable between two."""
    id = os.urandom(6).hex()
    in_use = _ours(host) + occupied.occupied()
    subnet = _subnet(host, request, in_use)
    subnet6 = (request.subnet6 or ipam6.unique_local(id)) if request.ipv6 else ""
    if subnet6:
        _refuse_overlap(subnet6, _ours(host) + occupied.occupied6())
    gateway = gateway6 = link = ""
    if request.driver == BRIDGE:
        gateway = ipam.check_gateway(subnet, request.gateway) if request.gateway else ipam.gateway(subnet)
        gateway6 = (request.gateway6 or ipam6.gateway(subnet6)) if subnet6 else ""
        link = request.bridge or (request.name if len(request.name) <= _LONGEST_LINK else f"md-{id}")
        if ownership.inspect_link(link) is not None and not _is_ours(host, link):
            raise ConflictError(f"a link called `{link}` exists already and is not minidocker's",
                                "choose another: minidocker network create --bridge NAME ...")
    return Network(
        id, request.name, subnet, gateway, link, request.driver, request.mtu or 0, request.internal or request.driver == PTP,
        request.labels, time.time(), subnet6=subnet6, gateway6=gateway6, ip_range=request.ip_range or "", isolated=request.isolated,
    )  # fmt: skip


def _is_ours(host: Host, link: str) -> bool:
    """Whether a network of ours has the bridge: then check_free says whose."""
    return any(network.bridge == link for network in networks.every(host.state))


def _ours(host: Host) -> list[Occupied]:
    return [
        ipam.Occupied(subnet, f"network `{network.name}`") for network in networks.every(host.state)
        for subnet in (network.subnet, network.subnet6) if subnet
    ]  # fmt: skip


def _subnet(host: Host, request: NetworkRequest, in_use: list[Occupied]) -> str:
    if request.subnet:
        return _refuse_overlap(ipam.check_subnet(request.subnet), in_use)
    subnet, skipped = ipam.choose_subnet(ipam.DEFAULT_SUBNET, in_use)
    for passed_over, owner in skipped:
        if not any(network.owner == owner for network in _ours(host)):  # that one's subnet is no news
            host.notice(f"{passed_over} is in use here ({owner}): network {request.name} takes {subnet}")
    return subnet


def _refuse_overlap(subnet: str, in_use: list[Occupied]) -> str:
    owner = ipam.overlap(subnet, in_use)
    if owner:
        raise ConflictError(f"subnet {subnet} overlaps {owner}", _CHOOSE)
    return subnet


def _on_a_wire(host: Host, request: NetworkRequest) -> Network:
    """A macvlan network: the addresses are those of the wire, so the host's own interface is in the same subnet, and no other may be."""
    from minidocker.network.macvlan import DEFAULT_MODE, Parent

    parent_name = request.parent or ""
    parent = Parent(parent_name)
    subnet = ipam.check_subnet(request.subnet or parent.subnet) if request.subnet or parent.subnet else ""
    if not subnet:
        raise UsageError(f"`{parent_name}` has no IPv4 subnet that a macvlan network could take over",
                         "--subnet, --gateway and --ip-range say which")
    elsewhere = [entry for entry in occupied.occupied(but=parent_name) if ipam.prefix_length(entry.subnet) < 32]
    _refuse_overlap(subnet, _ours(host) + elsewhere)
    subnet6 = request.subnet6 or ""
    if request.ipv6 and not subnet6:
        raise UsageError("a macvlan network's IPv6 addresses are those of its wire", "--subnet 2001:db8:1::/64 says which")
    gateway = ipam.check_gateway(subnet, request.gateway or parent.gateway or ipam.gateway(subnet))
    return Network(
        os.urandom(6).hex(), request.name, subnet, gateway, "", MACVLAN, request.mtu or 0, request.internal, request.labels, time.time(),
        subnet6=subnet6, gateway6=(request.gateway6 or ipam6.gateway(subnet6)) if subnet6 else "", ip_range=request.ip_range or "",
        parent=parent_name, mode=request.mode or DEFAULT_MODE,
    )  # fmt: skip
