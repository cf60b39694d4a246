"""D-Bus by hand, as much as a call of systemd takes (D-Bus Specification 0.43, "Message Protocol" and "Authentication Protocol").

    Connection(path) ── call(...) ──► the values of the reply
                     └─ signal(member, deadline) ──► the values of the next signal of that name

A start of a container makes two calls; the library that does it (jeepney) takes 16 ms to load, this takes 1. The library is the oracle
that messages of ours are tested against. Values are Python's own: int for the numbers, bool for `b`, str for `s`, `o` and `g`, a list for
an array, bytes for `ay`, a tuple for a struct and for a dictionary's entry, (signature, value) for a variant.
"""

from __future__ import annotations

import _socket
import _struct as struct
import errno
import os
import time

from minidocker.errors import KernelError, MinidockerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CALL, RETURN, ERROR, SIGNAL = 1, 2, 3, 4
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_SERIAL, _DESTINATION, _SENDER, _SIGNATURE = range(1, 9)
_NUMBERS = {"y": "B", "b": "I", "n": "h", "q": "H", "i": "i", "u": "I", "x": "q", "t": "Q", "d": "d", "h": "I"}
_WIDTHS = {"y": 1, "n": 2, "q": 2, "x": 8, "t": 8, "d": 8, "(": 8, "{": 8, "g": 1, "v": 1}  # what is not here is aligned to 4
_LONGEST = 1 << 27  # of a message, 128 MiB
_CHUNK = 1 << 16


class DBusError(MinidockerError):
    """The other side answered with an error: `name` is org.freedesktop.systemd1.NoSuchUnit, for instance."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message or name)
        self.name = name


def split(signature: str) -> list[str]:
    """A signature as its complete types: "sa(sv)u" is s, a(sv) and u. ValueError for what is none."""
    types: list[str] = []
    start = at = 0
    while at < len(signature):
        while signature[at : at + 1] == "a":
            at += 1
        opening = signature[at : at + 1]
        if opening in ("(", "{"):
            depth = 0
            for at in range(at, len(signature)):  # noqa: B020  (goes on from where it is)
                depth += {"(": 1, "{": 1, ")": -1, "}": -1}.get(signature[at], 0)
                if not depth:
                    break
            if depth:
                raise ValueError(f"signature {signature!r}")
        elif not opening or (opening not in _NUMBERS and opening not in "sogv"):
            raise ValueError(f"signature {signature!r}")
        at += 1
        types.append(signature[start:at])
        start = at
    return types


def encode(signature: str, values: Any, before: int = 0) -> bytes:
    """`values`, one for each complete type, little-endian, as they stand `before` bytes into a message whose start is aligned."""
    out = bytearray(before)
    for kind, value in zip(split(signature), values, strict=True):
        _put(out, kind, value)
    return bytes(out[before:])


def _put(out: bytearray, kind: str, value: Any) -> None:
    code = kind[0]
    out += bytes(-len(out) % _WIDTHS.get(code, 4))
    if code in _NUMBERS:
        out += struct.pack("<" + _NUMBERS[code], value)
    elif code in "so":
        text = value.encode()
        out += struct.pack("<I", len(text)) + text + b"\0"
    elif code == "g":
        out += bytes((len(value),)) + value.encode() + b"\0"
    elif code == "v":
        _put(out, "g", value[0])
        _put(out, *value)
    elif code == "a":
        at = len(out)
        out += bytes(4)
        out += bytes(-len(out) % _WIDTHS.get(kind[1], 4))
        start = len(out)
        for item in value:
            _put(out, kind[1:], item)
        struct.pack_into("<I", out, at, len(out) - start)  # without the padding before the first
    else:
        for part, item in zip(split(kind[1:-1]), value, strict=True):
            _put(out, part, item)


def decode(signature: str, data: bytes, at: int = 0, order: str = "<") -> list[Any]:
    """The values at `at` in a message; `order` "<" or ">". ValueError when they are not all there."""
    values: list[Any] = []
    try:
        for kind in split(signature):
            value, at = _take(kind, data, at, order)
            values.append(value)
    except (struct.error, IndexError) as error:  # type: ignore[attr-defined]
        raise ValueError(f"a D-Bus message is cut short: {error}") from None
    return values


def _take(kind: str, data: bytes, at: int, order: str) -> tuple[Any, int]:
    code = kind[0]
    at += -at % _WIDTHS.get(code, 4)
    if code in _NUMBERS:
        form = order + _NUMBERS[code]
        (number,) = struct.unpack_from(form, data, at)
        return (bool(number) if code == "b" else number), at + struct.calcsize(form)
    if code in "sog":
        (length,), at = (data[at : at + 1], at + 1) if code == "g" else (struct.unpack_from(order + "I", data, at), at + 4)
        if at + length >= len(data):
            raise ValueError("a D-Bus message is cut short: a string ends behind it")
        return data[at : at + length].decode(), at + length + 1
    if code == "v":
        inner, at = _take("g", data, at, order)
        (inner,) = split(inner)
        value, at = _take(inner, data, at, order)
        return (inner, value), at
    if code == "a":
        return _take_array(kind[1:], data, at, order)
    items = []
    for part in split(kind[1:-1]):
        item, at = _take(part, data, at, order)
        items.append(item)
    return tuple(items), at


def _take_array(kind: str, data: bytes, at: int, order: str) -> tuple[Any, int]:
    (length,) = struct.unpack_from(order + "I", data, at)
    at += 4
    at += -at % _WIDTHS.get(kind[0], 4)
    end = at + length
    if end > len(data):
        raise ValueError("a D-Bus message is cut short: an array ends behind it")
    if kind == "y":
        return data[at:end], end
    items = []
    while at < end:
        item, at = _take(kind, data, at, order)
        items.append(item)
    return items, at


def message(kind: int, serial: int, fields: list[tuple[int, tuple[str, Any]]], signature: str = "", values: Any = ()) -> bytes:
    """One message: header, padding, body. `fields` are (number, (signature, value)) as in "Header Fields"."""
    body = encode(signature, values)
    if signature:
        fields = [*fields, (_SIGNATURE, ("g", signature))]
    header = encode("yyyyuua(yv)", (ord("l"), kind, 0, 1, len(body), serial, fields))
    return header + bytes(-len(header) % 8) + body


class Message:
    """One that came: `kind`, `fields` by number, `values` of the body."""

    __slots__ = ("fields", "kind", "values")

    def __init__(self, data: bytes) -> None:
        order = "<" if data[:1] == b"l" else ">"
        _, self.kind, _, _, length, _, fields = decode("yyyyuua(yv)", data, 0, order)
        self.fields: dict[int, Any] = {number: value for number, (_, value) in fields}
        self.values = decode(self.fields.get(_SIGNATURE, ""), data[len(data) - length :], 0, order)

    @property
    def member(self) -> str:
        return str(self.fields.get(_MEMBER, ""))


def length_of(start: bytes) -> int:
    """How long the message is that begins with these 16 bytes. ValueError for more than D-Bus allows."""
    order = "<" if start[:1] == b"l" else ">"
    body, _, fields = struct.unpack_from(order + "III", start, 4)
    header = 16 + fields
    length = header + -header % 8 + body
    if start[:1] not in (b"l", b"B") or length > _LONGEST:
        raise ValueError("not a D-Bus message")
    return int(length)


class Connection:
    """A connection to a peer, no bus between, by its socket's `path`, as the user that we are; `patience` seconds for each answer.

    OSError when nobody is there; DBusError for an answer that is one; KernelError (ETIMEDOUT, EPROTO) when there is none."""

    def __init__(self, path: str, patience: float = 30.0) -> None:
        self.path = path
        self.patience = patience
        self.socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        self.serial = 0
        self.buffer = b""
        self.signals: list[Message] = []
        self.socket.settimeout(patience)
        try:
            self.socket.connect(path)
            self._authenticate()
        except BaseException:
            self.socket.close()
            raise

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _authenticate(self) -> None:
        """SASL's EXTERNAL: the kernel tells the other side who we are (SO_PEERCRED), we only name ourselves.

        All in one, as systemctl says it, and nothing before the answer: a call that systemd reads together with BEGIN it leaves lying
        until something else comes."""
        self.socket.sendall(b"\0AUTH EXTERNAL " + str(os.geteuid()).encode().hex().encode() + b"\r\nBEGIN\r\n")
        deadline = time.monotonic() + self.patience
        while b"\r\n" not in self.buffer:
            self._more(deadline)
        answer, _, self.buffer = self.buffer.partition(b"\r\n")
        if not answer.startswith(b"OK "):
            raise KernelError(f"log in at {self.path}", errno.EACCES, answer.decode("ascii", "replace"))

    def call(self, destination: str, path: str, interface: str, member: str, signature: str = "", *values: Any) -> list[Any]:
        """Call a method; the values of its reply. Signals that come before it are kept for `signal`."""
        self.serial += 1
        fields = [(_PATH, ("o", path)), (_INTERFACE, ("s", interface)), (_MEMBER, ("s", member)), (_DESTINATION, ("s", destination))]
        self.socket.sendall(message(CALL, self.serial, fields, signature, values))
        deadline = time.monotonic() + self.patience
        while True:
            came = self._next(deadline)
            if came.kind == SIGNAL:
                self.signals.append(came)
            elif came.fields.get(_REPLY_SERIAL) == self.serial:
                if came.kind == ERROR:
                    text = came.values[0] if came.values and isinstance(came.values[0], str) else ""
                    raise DBusError(came.fields.get(_ERROR_NAME, ""), text)
                return came.values

    def signal(self, member: str, deadline: float) -> list[Any]:
        """The values of the next signal of that name, until `deadline` (monotonic)."""
        while True:
            came = self.signals.pop(0) if self.signals else self._next(deadline)
            if came.kind == SIGNAL and came.member == member:
                return came.values

    def _next(self, deadline: float) -> Message:
        try:
            while len(self.buffer) < 16 or len(self.buffer) < length_of(self.buffer):
                self._more(deadline)
            length = length_of(self.buffer)
            data, self.buffer = self.buffer[:length], self.buffer[length:]
            return Message(data)
        except (ValueError, UnicodeDecodeError) as error:
            raise KernelError(f"understand {self.path}", errno.EPROTO, str(error)) from error

    def _more(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise KernelError(f"wait for an answer of {self.path}", errno.ETIMEDOUT)
        self.socket.settimeout(left)
        try:
            data = self.socket.recv(_CHUNK)
        except TimeoutError:
            raise KernelError(f"wait for an answer of {self.path}", errno.ETIMEDOUT) from None
        if not data:
            raise KernelError(f"wait for an answer of {self.path}", errno.ECONNRESET)
        self.buffer += data
