"""Whose a link or a table is: the marks by which we know our own, and how far a network of ours is there.

A bridge and a veth of ours carry an alias with the data root's tag and their owner's id; the table has the tag in its name. What
bears no mark of ours is never touched, whatever it is called.
"""

from __future__ import annotations

import errno

from minidocker.errors import ConflictError, KernelError
from minidocker.kernel import nftables
from minidocker.kernel.netlink import Socket
from minidocker.kernel.rtnetlink import IFF_UP, Link, link_get

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minidocker.spec.records import Network

ABSENT, OURS, FOREIGN = "absent", "ours", "foreign"
FAMILY, FRAMES = "inet", "bridge"  # of the table that judges packets, and of the one that judges frames

# The interface group (ip-link(8)) of every bridge of ours, whichever data root's: a rule that is for all others needs no list of them.
GROUP = 27748  # "md"


class Ready:
    """A network's bridge as it is: `state` ABSENT, OURS or FOREIGN; `index` and `mtu` of the link, `is_up`, and whether our nft
    tables are there (`firewall`): somebody may have flushed it."""

    __slots__ = ("firewall", "index", "is_up", "mtu", "state")

    def __init__(self, state: str, link: Link | None, firewall: bool) -> None:
        self.state = state
        self.index = link.index if link else 0
        self.mtu = link.mtu if link else 0
        self.is_up = bool(link and link.flags & IFF_UP)
        self.firewall = firewall

    @property
    def complete(self) -> bool:
        """Nothing is left for `up` to do."""
        return self.state == OURS and self.is_up and self.firewall


def table(tag: str) -> str:
    """The name of both tables."""
    return f"minidocker_{tag}"


def installed(tag: str) -> bool:
    """Whether both tables are there: somebody may have flushed the whole ruleset."""
    return all(nftables.table_exists(family, table(tag)) for family in (FAMILY, FRAMES))


def link_alias(tag: str, owner: str) -> str:
    """The alias by which a link is ours: the data root's tag, and the id of its network or container."""
    return f"minidocker:{tag}:{owner}"


def bridge_mac(network: Network) -> str:
    """The bridge's MAC, from the network's id (12 hex digits): pinned, and so known to containers without asking."""
    first = int(network.id[:2], 16) & 0xFC | 0x02  # locally administered, unicast
    return f"{first:02x}:" + ":".join(network.id[i : i + 2] for i in range(2, 12, 2))


def inspect_link(name: str, netlink: Socket | None = None) -> Link | None:
    """The link called `name`, None if there is none: one message and its answer."""
    if netlink is None:
        with Socket() as netlink:
            return inspect_link(name, netlink)
    try:
        return Link(netlink.get(link_get(name)))
    except KernelError as error:
        if error.errno == errno.ENODEV:
            return None
        raise


def state_of(network: Network, tag: str, link: Link | None) -> str:
    """Whose the bridge is. One without an alias is ours if it has our MAC: its maker was killed before it could set the alias."""
    if link is None:
        return ABSENT
    by_alias = link.alias == link_alias(tag, network.id)
    by_mac = not link.alias and link.mac == bridge_mac(network)
    return OURS if link.kind == "bridge" and (by_alias or by_mac) else FOREIGN


def ready(network: Network, tag: str) -> Ready:
    """How far the network is there: two messages and their answers, some 0.1 ms (the hot path asks at every run)."""
    link = inspect_link(network.bridge)
    return Ready(state_of(network, tag, link), link, installed(tag))


def own_link(network: Network, tag: str, netlink: Socket) -> Link | None:
    """The network's bridge, None if there is none. Raises ConflictError for a foreign link of its name."""
    link = inspect_link(network.bridge, netlink)
    if link is not None and state_of(network, tag, link) == FOREIGN:
        raise ConflictError(
            f"network `{network.name}`: a link called `{network.bridge}` exists already and was not made by minidocker",
            "give the network another bridge: minidocker network create --bridge NAME ...",
        )
    return link
