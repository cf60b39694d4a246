"""network ls and inspect: records of networks as docker shows them."""

from __future__ import annotations

from minidocker.engine import reconcile
from minidocker.engine.host import Host
from minidocker.engine.logs import rfc3339
from minidocker.network import ipam
from minidocker.spec.records import Endpoint, Network
from minidocker.storage import containers, networks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def ls(host: Host) -> list[dict[str, object]]:
    """The networks, as `network ls` shows them."""
    reconcile.look(host)
    counts: dict[str, int] = {}
    for group in containers.endpoints(host.state).values():
        for endpoint in group:
            counts[endpoint.network] = counts.get(endpoint.network, 0) + 1
    return [
        {"ID": network.id, "Name": network.name, "Driver": network.driver, "Subnet": _both(network.subnet, network.subnet6),
         "Gateway": _both(network.gateway, network.gateway6), "Bridge": network.bridge or network.parent,
         "Containers": counts.get(network.name, 0)}
        for network in networks.every(host.state)
    ]  # fmt: skip


def _both(ipv4: str, ipv6: str) -> str:
    return ", ".join(filter(None, (ipv4, ipv6)))


def inspect(host: Host, references: list[str]) -> list[dict[str, object]]:
    """Docker's inspect documents of networks."""
    reconcile.look(host)
    groups = containers.endpoints(host.state)
    documents: list[dict[str, object]] = []
    for network in (networks.find(host.state, reference) for reference in references):
        members = {id: _member(network, e) for id, group in groups.items() for e in group if e.network == network.name}
        config = [{"Subnet": network.subnet, "Gateway": network.gateway, "IPRange": network.ip_range}]
        if network.subnet6:
            config.append({"Subnet": network.subnet6, "Gateway": network.gateway6})
        documents.append({
            "Name": network.name, "Id": network.id, "Created": rfc3339(int(network.created * 1e9)), "Scope": "local",
            "Driver": network.driver, "EnableIPv6": bool(network.subnet6), "Internal": network.internal, "Isolated": network.isolated,
            "Bridge": network.bridge, "IPAM": {"Driver": "default", "Config": config}, "Containers": members,
            "Options": {name: value for name, value in (("parent", network.parent), ("mode", network.mode)) if value},
            "Labels": network.labels, "Mtu": network.mtu,
        })  # fmt: skip
    return documents


def _member(network: Network, e: Endpoint) -> dict[str, Any]:
    return {
        "Name": e.container_name, "IPv4Address": f"{e.ip}/{ipam.prefix_length(network.subnet)}",
        "IPv6Address": f"{e.ip6}/{ipam.prefix_length(network.subnet6)}" if e.ip6 else "", "MacAddress": e.mac, "Interface": e.interface,
        "HostLink": e.host_link if network.bridge else "",
    }  # fmt: skip
