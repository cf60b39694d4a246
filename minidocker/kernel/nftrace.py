"""nftables' own account of a packet: each rule that matched it, in the order in which the packet met them. Cold.

Whose packet has `meta nftrace set 1` is told of to the multicast group NFNLGRP_NFTRACE of the packet's network namespace. The packet's
headers come with the first message of each base chain that it enters. linux/netfilter/nf_tables.h, net/netfilter/nf_tables_trace.c.
"""

from __future__ import annotations

from _struct import Struct

from minidocker.kernel import packet
from minidocker.kernel.netlink import NETLINK_NETFILTER, Socket, attributes, string
from minidocker.kernel.nftables import NFPROTO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minidocker.kernel.packet import Packet

NFNLGRP_NFTRACE = 9
_NFT_MSG_TRACE = 10 << 8 | 17  # NFNL_SUBSYS_NFTABLES, NFT_MSG_TRACE
_TABLE, _CHAIN, _HANDLE, _TYPE, _VERDICT, _ID, _NETWORK, _TRANSPORT, _IIF, _OIF, _MARK, _POLICY = (
    1, 2, 3, 4, 5, 6, 8, 9, 10, 12, 14, 16)
_VERDICT_CODE, _VERDICT_CHAIN = 1, 2
_KINDS = {1: "policy", 2: "return", 3: "rule"}
_VERDICTS = {0: "drop", 1: "accept", 2: "stolen", 3: "queue", -1: "continue", -2: "break", -3: "jump", -4: "goto", -5: "return"}
_FAMILIES = {number: name for name, number in NFPROTO.items()}
_NFGENMSG_SIZE = 4
_BE32, _SIGNED, _BE64 = Struct("!I"), Struct("!i"), Struct("!Q")


class Event:
    """One step of one packet: `id` is the packet's, within a namespace; `family`, `table` and `chain` name the chain; `kind` "rule",
    "return" (the chain's end was met) or "policy"; `handle` the rule's (0: none); `verdict` ("accept", "drop", "jump", ...) and `target`
    of a jump; `iif` and `oif` link indices (0: not known there); `mark` the packet's; `packet` its headers, None where they are as in the
    message before."""

    __slots__ = ("chain", "family", "handle", "id", "iif", "kind", "mark", "oif", "packet", "table", "target", "verdict")

    def __init__(self, body: bytes) -> None:
        self.family = _FAMILIES.get(body[0], str(body[0]))
        found = attributes(body, _NFGENMSG_SIZE)
        self.id = _be32(found.get(_ID))
        self.table, self.chain = string(found.get(_TABLE, b"")), string(found.get(_CHAIN, b""))
        self.kind = _KINDS.get(_be32(found.get(_TYPE)), "")
        self.handle = _BE64.unpack(found[_HANDLE])[0] if _HANDLE in found else 0
        verdict = attributes(found.get(_VERDICT, b""))
        code = _SIGNED.unpack(verdict[_VERDICT_CODE])[0] if _VERDICT_CODE in verdict else -1
        if self.kind == "policy" and _POLICY in found:
            code = _SIGNED.unpack(found[_POLICY])[0]
        self.verdict = _VERDICTS.get(code if code < 0 else code & 0xFF, str(code))
        self.target = string(verdict.get(_VERDICT_CHAIN, b""))
        self.iif, self.oif, self.mark = (_be32(found.get(kind)) for kind in (_IIF, _OIF, _MARK))
        self.packet: Packet | None = None
        if _NETWORK in found:
            self.packet = packet.packet(found[_NETWORK] + found.get(_TRANSPORT, b""))


class Listener(Socket):
    """Hears what is told in one network namespace from now on (None: the caller's)."""

    __slots__ = ()

    def __init__(self, netns: int | None) -> None:
        super().__init__(netns, NETLINK_NETFILTER)
        self.join(NFNLGRP_NFTRACE)

    def events(self) -> Iterator[Event]:
        """What has been told since; never waits. Raises KernelError (ENOBUFS: more than could be kept)."""
        for kind, body in self.told():
            if kind == _NFT_MSG_TRACE:
                yield Event(body)


def _be32(value: bytes | None) -> int:
    return int(_BE32.unpack(value)[0]) if value else 0
