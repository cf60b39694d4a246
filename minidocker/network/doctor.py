"""What is wrong with a network, from the kernel's live state against what should be: each finding says what was found, why it matters and
what mends it. Looks, and changes nothing. Cold.

    doctor.py         a network: its bridge, its rules, its neighbours on this host       doctor_rules.py   our tables, element by element
    doctor_inside.py  a container's end of it                                             doctor_host.py    the host's ways out and tables
    causes.py         what each of them is called                                         doctor_mend.py    what --fix does
"""

from __future__ import annotations

from minidocker.kernel import rtnetlink, sysctl
from minidocker.network import causes, forwarding, ipam, occupied, others, ownership, publish
from minidocker.network.causes import Finding
from minidocker.network.doctor_mend import Mend

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from minidocker.spec.records import Endpoint, Network


def of_bridge(network: Network, tag: str, uplinks: Collection[str], seen: others.Seen) -> Iterator[Finding]:
    """What keeps the containers of a bridge network from the world, and it from them. `uplinks` are those that should forward."""
    ready = ownership.ready(network, tag)
    if ready.state != ownership.OURS:
        yield causes.bridge_gone(network, ready.state == ownership.ABSENT)
        return
    if not ready.is_up:
        mend = Mend(0, [rtnetlink.link_set(ready.index, up=True)])
        yield causes.link_down(network, causes.HOST, network.bridge, is_bridge=True).mended_by(mend)
    if not ready.firewall:
        yield causes.rules_gone(network)
    for setting in (f"net/ipv4/conf/{link}/forwarding" for link in (network.bridge, *uplinks)):
        if sysctl.read(setting) == "0":
            yield causes.not_forwarding(network, setting)
    if network.subnet6 and sysctl.read(forwarding.FORWARDING_OF_ALL6) == "0":
        yield causes.not_forwarding(network, forwarding.FORWARDING_OF_ALL6)
    for line in others.advice(seen, network.bridge, bool(network.subnet6)):
        found, _, rest = line.partition("; ")
        yield causes.foreign_drop(network, found, rest.partition(": ")[2])
    owner = ipam.overlap(network.subnet, occupied.occupied(but=network.bridge))
    if owner:
        yield causes.subnet_taken(network, owner)


def of_ports(endpoint: Endpoint, but: Collection[str]) -> Iterator[Finding]:
    """Processes of the host that have bound what the container publishes: they came later, or it had been refused. `but` are the addresses
    at which our own name servers listen."""
    for port in endpoint.ports:
        owner = publish.holder(port, but)
        if owner:
            yield causes.port_taken(endpoint.network, str(port), endpoint.container_name, owner)
