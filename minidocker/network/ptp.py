"""A point-to-point network: one cable straight between exactly two containers, and nothing of the host in it.

    first container              this host                 second container
    eth0 ═══════════════════════ md1a2b3c4d1 (down)                            the first is alone: its cable's end lies here
    eth0 ════════════════════════════════════════════════ eth0                 the second has come: the end was moved to it

The kernel takes a veth away with either of its ends' namespaces. So when one container ends, the other is without a cable until somebody
comes again, and is then given a new one.
"""

from __future__ import annotations

import errno

from minidocker.errors import KernelError
from minidocker.kernel.netlink import Socket
from minidocker.kernel.rtnetlink import link_delete, link_move, link_set, veth_create
from minidocker.network.inside import Configure, Unplug
from minidocker.network.ipam import host_mac_of
from minidocker.network.ownership import inspect_link, link_alias
from minidocker.plan import NETWORK, At, Step, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minidocker.spec.records import Endpoint, Network

DEFAULT_MTU = 1500


class Peer:
    """The other container of the network: its endpoint, and a descriptor of its namespace (-1: it is not up yet)."""

    __slots__ = ("endpoint", "netns", "pid")

    def __init__(self, endpoint: Endpoint, pid: int, netns: int) -> None:
        self.endpoint = endpoint
        self.pid = pid
        self.netns = netns


class Cable(Step):
    """Take the end that the other container's cable has on the host; where there is none, lay a new cable: to the other container if that
    is up, else with its end on the host for whoever comes."""

    title = NETWORK

    def __init__(self, network: Network, tag: str, endpoint: Endpoint, peer: Peer | None) -> None:
        self.network = network
        self.tag = tag
        self.endpoint = endpoint
        self.peer = peer
        self.mtu = network.mtu or DEFAULT_MTU
        self.alias = link_alias(tag, endpoint.container_id)
        with Socket() as netlink:
            self.waiting = bool(self._waiting(netlink))
        self.why = (
            "the other end of the cable that waits here" if self.waiting
            else "a new cable between the two" if peer is not None and peer.netns >= 0
            else "a cable; its other end waits here for the second container"
        )  # fmt: skip

    def shell(self) -> str:
        e = self.endpoint
        if self.waiting and self.peer is not None:
            return f"ip link set {quote(self.peer.endpoint.host_link)} netns \"$PID\" name {quote(e.interface)} address {e.mac}"
        lines = [f"ip link add {quote(e.host_link)} mtu {self.mtu} address {host_mac_of(e.ip)} type veth "
                 f"peer name {quote(e.interface)} mtu {self.mtu} address {e.mac} netns \"$PID\"",
                 f"ip link set {quote(e.host_link)} alias {quote(self.alias)}"]  # fmt: skip
        if self.peer is not None and self.peer.netns >= 0:
            other = self.peer.endpoint
            lines.append(f"ip link set {quote(e.host_link)} netns {self.peer.pid} name {quote(other.interface)} address {other.mac}")
            lines += [line.replace('"$PID"', str(self.peer.pid)) for line in Configure(self.network, other, False).shell().splitlines()]
        return "\n".join(lines)

    def describe(self) -> str:
        return f"connect `{self.endpoint.container_name}` to network `{self.network.name}`"

    def apply(self, at: At) -> None:
        with Socket() as netlink:
            waiting = self._waiting(netlink)
            if waiting:
                netlink.batch([link_move(waiting, self.endpoint.interface, self.endpoint.mac, at.netns)])
                return
            e = self.endpoint
            netlink.batch([veth_create(e.host_link, host_mac_of(e.ip), self.mtu, 0, e.interface, e.mac, at.netns)])
            try:
                netlink.batch([link_set(e.host_link, alias=self.alias)])
                if self.peer is not None and self.peer.netns >= 0:
                    self._give_to(self.peer, netlink)
            except KernelError:
                self.undo(at)
                raise

    def _waiting(self, netlink: Socket) -> int:
        """The index of the end that waits on the host for this container, 0 where none does."""
        if self.peer is None:
            return 0
        link = inspect_link(self.peer.endpoint.host_link, netlink)
        ours = link is not None and link.alias == link_alias(self.tag, self.peer.endpoint.container_id)
        return link.index if link is not None and ours else 0

    def _give_to(self, peer: Peer, netlink: Socket) -> None:
        with Socket(peer.netns) as theirs:
            old = inspect_link(peer.endpoint.interface, theirs)
            if old is not None and old.mac == peer.endpoint.mac:  # of a cable whose other end is dying
                theirs.batch([link_delete(old.index, old.name)], tolerate=(errno.ENODEV,))
        link = inspect_link(self.endpoint.host_link, netlink)
        if link is None:
            raise KernelError(self.describe(), errno.ENODEV)
        netlink.batch([link_move(link.index, peer.endpoint.interface, peer.endpoint.mac, peer.netns)])
        Configure(self.network, peer.endpoint, False).apply(At(pid=peer.pid, netns=peer.netns))

    def undo(self, at: At) -> None:
        """Either end takes the cable with it, in a container that goes on, too."""
        with Socket() as netlink:
            link = inspect_link(self.endpoint.host_link, netlink)
            if link is not None and link.alias in ("", self.alias) and link.mac == host_mac_of(self.endpoint.ip):
                netlink.batch([link_delete(link.index, link.name)], tolerate=(errno.ENODEV,))
                return
        Unplug(self.endpoint).apply(at)
