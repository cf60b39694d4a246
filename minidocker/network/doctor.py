"""What is wrong with a network, from the kernel's live state against what should be: each finding says what was found, why it matters and
what mends it. Looks, and changes nothing. Cold."""

from __future__ import annotations

from minidocker.kernel import sysctl
from minidocker.network import forwarding, ipam, occupied, others, ownership, publish
from minidocker.network.causes import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from minidocker.spec.records import Endpoint, Network

_LEGACY = (("/proc/net/ip_tables_names", "iptables-legacy"), ("/proc/net/ip6_tables_names", "ip6tables-legacy"))
_RELOAD = "minidocker network reload"


def of_host() -> Iterator[Finding]:
    """What concerns every network."""
    for path, program in _LEGACY:
        tables = _read(path).split()
        if tables:
            yield Finding(
                "", f"{program} has rules in {', '.join(tables)}",
                "they judge packets beside nftables, and no `nft list ruleset` shows them; docker and we use nftables",
                f"{program}-save shows them, {program} -F TABLE empties one; update-alternatives --set iptables /usr/sbin/iptables-nft",
            )  # fmt: skip


def of_bridge(network: Network, tag: str, uplinks: Collection[str], seen: others.Seen) -> Iterator[Finding]:
    """What keeps the containers of a bridge network from the world, and it from them. `uplinks` are those that should forward."""
    name = network.name
    ready = ownership.ready(network, tag)
    if ready.state != ownership.OURS:
        what = "is not there" if ready.state == ownership.ABSENT else "is not ours"
        yield Finding(name, f"its bridge `{network.bridge}` {what}", "its containers reach nothing, each other neither",
                      "the next `minidocker run` in it makes it; running containers have to be restarted")
        return
    if not ready.is_up:
        yield Finding(name, f"its bridge `{network.bridge}` is down", "its containers reach nothing, each other neither",
                      f"ip link set {network.bridge} up")
    if not ready.firewall:
        yield Finding(name, "our nftables rules are gone: somebody flushed the ruleset",
                      "nothing is masqueraded, no port is published, and nobody is kept out", _RELOAD)
    for setting in (f"net/ipv4/conf/{link}/forwarding" for link in (network.bridge, *uplinks)):
        if sysctl.read(setting) == "0":
            yield Finding(name, f"{setting} is 0", "packets between containers and the world are dropped there", _RELOAD)
    if network.subnet6 and sysctl.read(forwarding.FORWARDING_OF_ALL6) == "0":
        yield Finding(name, f"{forwarding.FORWARDING_OF_ALL6} is 0", "IPv6 packets between containers and the world are dropped", _RELOAD)
    for line in others.advice(seen, network.bridge, bool(network.subnet6)):
        found, _, rest = line.partition("; ")
        yield Finding(name, found, "every firewall of a host has its say, and one drop is enough", rest.partition(": ")[2])
    owner = ipam.overlap(network.subnet, occupied.occupied(but=network.bridge))
    if owner:
        yield Finding(name, f"its subnet {network.subnet} overlaps {owner}", "what is sent there goes to the one or to the other",
                      f"make it anew elsewhere: minidocker network rm {name}, then network create --subnet SUBNET {name}")


def of_ports(endpoint: Endpoint, but: Collection[str]) -> Iterator[Finding]:
    """Processes of the host that have bound what the container publishes: they came later, or it had been refused. `but` are the addresses
    at which our own name servers listen."""
    for port in endpoint.ports:
        owner = publish.holder(port, but)
        if owner:
            yield Finding(
                endpoint.network, f"port {port} of container `{endpoint.container_name}` is bound by {owner}, too",
                "what is sent there is led to the container, and that process waits in vain", "stop it, or have it listen elsewhere",
            )  # fmt: skip


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except FileNotFoundError:
        return ""  # a kernel without it
