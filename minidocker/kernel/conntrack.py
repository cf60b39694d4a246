"""Connection tracking: list the flows of a protocol, and delete some. libnetfilter_conntrack's part of nfnetlink, spoken directly.

Cold paths only: a list is as long as the machine is busy. linux/netfilter/nfnetlink_conntrack.h.
"""

from __future__ import annotations

import errno
from _socket import AF_INET, AF_INET6, AF_UNSPEC, inet_ntop
from _struct import Struct

from minidocker.kernel.netlink import NLM_F_ACK, NLM_F_DUMP, Message, attribute, attributes, netfilter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET, IPCTNL_MSG_CT_DELETE = 1, 1, 2
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_ID, CTA_ZONE = 1, 2, 12, 18
CTA_TUPLE_IP, CTA_TUPLE_PROTO = 1, 2
CTA_IP_V4_SRC, CTA_IP_V4_DST, CTA_IP_V6_SRC, CTA_IP_V6_DST = 1, 2, 3, 4
CTA_PROTO_NUM, CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT = 1, 2, 3
NLA_F_NESTED = 0x8000
UDP = 17

_NFGENMSG = Struct("=BBH")  # struct nfgenmsg: family, version, resource
_PORT = Struct(">H")
_SOURCE_AND_DESTINATION = {AF_INET: (CTA_IP_V4_SRC, CTA_IP_V4_DST, 4), AF_INET6: (CTA_IP_V6_SRC, CTA_IP_V6_DST, 16)}


class Flow:
    """One tracked flow: `family` AF_INET or AF_INET6; `protocol` a number of IANA's; `source` and `source_port` who sent its first packet,
    `to` and `to_port` where to; `answered_by` and `answered_by_port` who the answers come from, `answered_to` and `answered_to_port` where
    they go: others when it was translated. Addresses are texts."""

    __slots__ = (
        "answered_by", "answered_by_port", "answered_to", "answered_to_port", "family", "identity", "protocol", "source", "source_port",
        "to", "to_port",
    )  # fmt: skip

    def __init__(self, body: bytes) -> None:
        self.family = _NFGENMSG.unpack_from(body)[0]
        found = attributes(body, _NFGENMSG.size)
        self.source, self.to, self.source_port, self.to_port, self.protocol = _tuple(self.family, found.get(CTA_TUPLE_ORIG, b""))
        self.answered_by, self.answered_to, self.answered_by_port, self.answered_to_port, _ = _tuple(
            self.family, found.get(CTA_TUPLE_REPLY, b""))
        # what a deletion names it by: with its id, so that a later flow between the same ends is left alone
        self.identity = b"".join(
            attribute(kind | (NLA_F_NESTED if kind == CTA_TUPLE_ORIG else 0), found[kind])
            for kind in (CTA_TUPLE_ORIG, CTA_ID, CTA_ZONE) if kind in found
        )  # fmt: skip


def _tuple(family: int, data: bytes) -> tuple[str, str, int, int, int]:
    """(source, destination, source port, destination port, protocol); ports are 0 where the protocol has none."""
    parts = attributes(data)
    addresses, protocol = attributes(parts.get(CTA_TUPLE_IP, b"")), attributes(parts.get(CTA_TUPLE_PROTO, b""))
    *kinds, size = _SOURCE_AND_DESTINATION[family]
    source, destination = (inet_ntop(family, addresses.get(kind, bytes(size))) for kind in kinds)
    ports = [_PORT.unpack(protocol.get(kind, b"\0\0"))[0] for kind in (CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT)]
    return source, destination, ports[0], ports[1], protocol.get(CTA_PROTO_NUM, b"\0")[0]


def flows(family: int = AF_UNSPEC) -> list[Flow]:
    """Every flow of this network namespace, or those of AF_INET or AF_INET6 alone. Raises KernelError."""
    return [Flow(body) for body in netfilter().dump(flows_dump(family))]


def delete(doomed: Iterable[Flow]) -> None:
    """Forget these flows: the next packet of each is looked at anew. What is gone already is no matter."""
    netfilter().batch([flow_delete(flow) for flow in doomed], tolerate=(errno.ENOENT,))


def flows_dump(family: int) -> Message:
    return Message.build("list the tracked flows", NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET, NLM_F_DUMP,
                         _NFGENMSG.pack(family, 0, 0))


def flow_delete(flow: Flow) -> Message:
    return Message.build(f"forget the flow to `{flow.to}` port {flow.to_port}", NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE,
                         NLM_F_ACK, _NFGENMSG.pack(flow.family, 0, 0), flow.identity)
