"""Netlink sockets: many messages in one send, every acknowledgement read, the first failure raised by the name of what failed.

What a message says is not here: rtnetlink.py has links, addresses, routes and neighbours, nftables.py, nfset.py and
conntrack.py the few of nfnetlink that we speak ourselves. netlink(7), linux/netlink.h.

The kernel works through a batch inside the sending system call and goes on after a message that failed; so whatever must not
happen when an earlier message failed belongs in a later batch, or, where the subsystem has them, in a transaction.
"""

from __future__ import annotations

import errno
import os
from _socket import AF_NETLINK, MSG_DONTWAIT, SO_RCVBUF, SO_SNDBUF, SOCK_CLOEXEC, SOCK_RAW, SOL_SOCKET, socket
from _struct import Struct

from minidocker.errors import KernelError
from minidocker.kernel import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NETLINK_ROUTE, NETLINK_NETFILTER = 0, 12
SOL_NETLINK = 270
NETLINK_ADD_MEMBERSHIP, NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK = 1, 10, 11, 12
SO_SNDBUFFORCE = 32  # asm-generic/socket.h; _socket does not have it
CLONE_NEWNET = 0x40000000

NLMSG_NOOP, NLMSG_ERROR, NLMSG_DONE, NLMSG_OVERRUN = 1, 2, 3, 4
NLM_F_REQUEST, NLM_F_MULTI, NLM_F_ACK, NLM_F_DUMP_INTR = 0x1, 0x2, 0x4, 0x10
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE, NLM_F_DUMP = 0x100, 0x200, 0x400, 0x300
NLM_F_CAPPED, NLM_F_ACK_TLVS = 0x100, 0x200  # on an acknowledgement
NLA_F_NESTED, NLA_TYPE_MASK = 0x8000, 0x3FFF
NLMSGERR_ATTR_MSG = 1

HEADER = Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_ATTRIBUTE = Struct("=HH")
_SEQUENCE = Struct("=I")
_ERROR = Struct("=i")

# Messages a send of a batch: their acknowledgements (under 1 KiB each as the kernel accounts them) must fit the default receive buffer.
_MESSAGES_A_SEND = 64
_RECEIVE = 1 << 16
_SEND_OVERHEAD = 32  # what netlink_sendmsg keeps of the send buffer


class Message(bytes):
    """One netlink message on the wire (its sequence number still 0), with `what`: verb and object, for the error if it fails."""

    what: str

    @classmethod
    def build(cls, what: str, type_: int, flags: int, *parts: bytes) -> Message:
        """A message of `type_`; its body is `parts`, each of them padded already."""
        body = b"".join(parts)
        message = cls(HEADER.pack(HEADER.size + len(body), type_, flags | NLM_F_REQUEST, 0, 0) + body)
        message.what = what
        return message


def attribute(type_: int, value: bytes) -> bytes:
    """One attribute: length, type, value, padded to 4 bytes (netlink(7))."""
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, type_) + value + b"\0" * (-length & 3)


def text(type_: int, value: str) -> bytes:
    """A NUL-terminated string attribute."""
    return attribute(type_, value.encode() + b"\0")


def number(type_: int, value: int) -> bytes:
    """An unsigned 32-bit attribute in the machine's byte order."""
    return attribute(type_, _SEQUENCE.pack(value))


def nest(type_: int, *members: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(type_, b"".join(members))


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes in `data` from `offset` on: type without its flag bits -> value. Of one type the last counts."""
    found: dict[int, bytes] = {}
    while offset + _ATTRIBUTE.size <= len(data):
        length, type_ = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            break
        found[type_ & NLA_TYPE_MASK] = data[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    return found


def string(value: bytes) -> str:
    """A string attribute's text."""
    return value.rstrip(b"\0").decode(errors="replace")


class Socket:
    """A netlink socket of the calling thread's network namespace, or of the one that `netns_fd` refers to.

    A socket keeps the namespace it was made in, so the thread goes there for one system call and comes straight back; the
    process must have no other thread that minds. Use as a context manager, or close().
    """

    __slots__ = ("_sequence", "_socket")

    def __init__(self, netns_fd: int | None = None, protocol: int = NETLINK_ROUTE) -> None:
        self._sequence = 0
        try:
            self._socket = _open(protocol) if netns_fd is None else _open_in(netns_fd, protocol)
            self._socket.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
            self._socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
        except OSError as error:
            raise KernelError.of("open a netlink socket", error) from error

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def batch(self, messages: Sequence[Message], tolerate: tuple[int, ...] = ()) -> None:
        """Send `messages` in one system call and read every acknowledgement.

        Raises KernelError for the first that failed with an errno not in `tolerate`, after all of them were worked through.
        """
        failure: KernelError | None = None
        for start in range(0, len(messages), _MESSAGES_A_SEND):
            failure = self._exchange(messages[start : start + _MESSAGES_A_SEND], tolerate)
            if failure is not None:
                raise failure

    def transaction(self, messages: Sequence[Message]) -> None:
        """Send `messages`, which the subsystem does as a whole or not at all, in one system call however long they are.

        One of them at least must ask for its acknowledgement (NLM_F_ACK); of the others only a failure is told. Raises
        KernelError for the first that failed; then nothing has changed.
        """
        self._make_room(sum(map(len, messages)))
        first = self._send(messages)
        failure: KernelError | None = None
        answered = False
        # The kernel has said all that it will when send returns, so nothing is ever waited for.
        for type_, _, body in self._replies(lowest=first, flags=MSG_DONTWAIT):
            if type_ == NLMSG_ERROR:
                answered = True
                failure = failure or _failure(messages[_SEQUENCE.unpack_from(body, _ERROR.size + 8)[0] - first], body)
        if failure is not None:
            raise failure
        if not answered:
            raise KernelError(messages[0].what, 0, "no answer")

    def get(self, message: Message) -> bytes:
        """The body of the one message that answers `message`. Raises KernelError (ENODEV: no such link)."""
        self._send([message])
        for type_, _, body in self._replies():
            if type_ == NLMSG_ERROR:
                raise _failure(message, body) or KernelError(message.what, 0, "acknowledged without an answer")
            return body
        raise KernelError(message.what, 0, "no answer")

    def dump(self, message: Message) -> list[bytes]:
        """The bodies of all messages that answer a dump; asked again while the kernel says that it changed meanwhile."""
        self._socket.setsockopt(SOL_SOCKET, SO_RCVBUF, 1 << 20)
        while True:
            bodies, consistent = self._dump_once(message)
            if consistent:
                return bodies

    def join(self, group: int) -> None:
        """Hear what is told to a multicast group. On a socket of its own: the news would come between a command and its answer."""
        try:
            self._socket.setsockopt(SOL_SOCKET, SO_RCVBUF, 1 << 20)
            self._socket.bind((0, 0))  # without a number it is taken for the kernel itself, which told it
            self._socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
        except OSError as error:
            raise KernelError.of(f"listen to netlink group {group}", error) from error

    def fileno(self) -> int:
        return self._socket.fileno()

    def told(self) -> Iterator[tuple[int, bytes]]:
        """(type, body) of what a group was told since; never waits."""
        for type_, _, body in self._replies(flags=MSG_DONTWAIT, news=True):
            yield type_, body

    def _dump_once(self, message: Message) -> tuple[list[bytes], bool]:
        self._send([message])
        bodies: list[bytes] = []
        consistent = True
        for type_, flags, body in self._replies():
            consistent = consistent and not flags & NLM_F_DUMP_INTR
            if type_ == NLMSG_DONE:
                return bodies, consistent
            if type_ == NLMSG_ERROR:
                raise _failure(message, body) or KernelError(message.what, 0, "acknowledged without an answer")
            bodies.append(body)
        return bodies, consistent

    def _exchange(self, messages: Sequence[Message], tolerate: tuple[int, ...]) -> KernelError | None:
        first = self._send(messages)
        failures: dict[int, KernelError] = {}
        replies = self._replies(lowest=first)
        for _ in messages:
            type_, _, body = next(replies)
            while type_ != NLMSG_ERROR:  # an answer may come before its acknowledgement
                type_, _, body = next(replies)
            index = _SEQUENCE.unpack_from(body, _ERROR.size + 8)[0] - first
            failure = _failure(messages[index], body)
            if failure is not None and failure.errno not in tolerate:
                failures[index] = failure
        return failures[min(failures)] if failures else None

    def _send(self, messages: Sequence[Message]) -> int:
        """Number the messages and send them; the first one's number."""
        first = self._sequence + 1
        whole = bytearray()
        for message in messages:
            self._sequence += 1
            at = len(whole)
            whole += message
            _SEQUENCE.pack_into(whole, at + 8, self._sequence)
        try:
            self._socket.send(whole)
        except OSError as error:
            raise KernelError.of(messages[0].what, error) from error
        return first

    def _make_room(self, size: int) -> None:
        """Let one send be of `size` bytes: a message has to fit the send buffer, 208 KiB where nobody changed it. Beyond
        net.core.wmem_max only the host's root gets; where that is too little the send says so (EMSGSIZE)."""
        if size + _SEND_OVERHEAD <= self._socket.getsockopt(SOL_SOCKET, SO_SNDBUF):
            return
        try:
            self._socket.setsockopt(SOL_SOCKET, SO_SNDBUFFORCE, size)  # the kernel doubles it, for its own needs
        except PermissionError:  # root of a user namespace
            self._socket.setsockopt(SOL_SOCKET, SO_SNDBUF, size)

    def _replies(self, lowest: int = 0, flags: int = 0, news: bool = False) -> Iterator[tuple[int, int, bytes]]:
        """(type, flags, body) of each message that answers what was sent last, or since number `lowest`. With MSG_DONTWAIT it
        ends with what is there, and that some did not fit the receive buffer is no matter: the first ones are there. `news` answer
        nothing, and have whatever numbers."""
        lowest = lowest or self._sequence
        while True:
            try:
                data = self._socket.recv(_RECEIVE, flags)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.ENOBUFS and flags & MSG_DONTWAIT:
                    continue
                raise KernelError.of("read from netlink", error) from error
            offset = 0
            while offset + HEADER.size <= len(data):
                length, type_, marks, sequence, _ = HEADER.unpack_from(data, offset)
                if (sequence >= lowest or news) and type_ != NLMSG_NOOP:
                    body = data[offset + HEADER.size : offset + length]
                    yield type_, marks, _with_text(body, marks) if type_ == NLMSG_ERROR else body
                offset += (max(length, HEADER.size) + 3) & ~3


_kept: tuple[int, int, Socket] | None = None


def netfilter() -> Socket:
    """This process's socket to netfilter in the thread's network namespace. It stays open, not to be closed by who uses it: closing
    one waits until the kernel has freed what nftables deleted before, an RCU grace period of 8 to 24 ms."""
    global _kept
    here = os.getpid(), os.stat("/proc/thread-self/ns/net").st_ino  # a forked child must not read its parent's answers
    if _kept is None or _kept[:2] != here:
        if _kept is not None:
            _kept[2].close()
        _kept = (*here, Socket(protocol=NETLINK_NETFILTER))
    return _kept[2]


def _open(protocol: int) -> socket:
    return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol)


def _open_in(netns_fd: int, protocol: int) -> socket:
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc.setns(netns_fd, CLONE_NEWNET)
        try:
            return _open(protocol)
        finally:
            libc.go_home(home, CLONE_NEWNET)
    finally:
        os.close(home)


def _with_text(body: bytes, flags: int) -> bytes:
    """An acknowledgement's body as errno and header (both fixed in size), then the kernel's own words, if it gave any."""
    fixed = _ERROR.size + HEADER.size
    if not flags & NLM_F_ACK_TLVS:
        return body[:fixed]
    if not flags & NLM_F_CAPPED:  # the whole message comes back, and the attributes after it
        fixed_and_message = _ERROR.size + ((HEADER.unpack_from(body, _ERROR.size)[0] + 3) & ~3)
        return body[:fixed] + attributes(body, fixed_and_message).get(NLMSGERR_ATTR_MSG, b"")
    return body[:fixed] + attributes(body, fixed).get(NLMSGERR_ATTR_MSG, b"")


def _failure(message: Message, body: bytes) -> KernelError | None:
    """The error in an acknowledgement, None if it says that all is well."""
    code = _ERROR.unpack_from(body)[0]
    return KernelError(message.what, -code, string(body[_ERROR.size + HEADER.size :])) if code else None
