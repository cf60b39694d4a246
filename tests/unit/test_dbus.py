"""D-Bus by hand: every message byte for byte as jeepney makes it, and a conversation with a stand-in for systemd."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jeepney import low_level as oracle

from minidocker.errors import KernelError, MinidockerError, UnsupportedError, UsageError
from minidocker.kernel import dbus, systemd

MANAGER = "org.freedesktop.systemd1.Manager"
_NUMBERS = {"y": (0, 255), "n": (-1 << 15, (1 << 15) - 1), "q": (0, (1 << 16) - 1), "i": (-1 << 31, (1 << 31) - 1), "u": (0, (1 << 32) - 1),
            "x": (-1 << 63, (1 << 63) - 1), "t": (0, (1 << 64) - 1)}  # fmt: skip
_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9)


def _typed(kind: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[str, Any]]:
    return values.map(lambda value: (kind, value))


_SINGLE = st.one_of(
    *(_typed(kind, st.integers(*ends)) for kind, ends in _NUMBERS.items()), _typed("b", st.booleans()), _typed("s", _TEXT),
    _typed("ay", st.binary(max_size=9)),
)  # fmt: skip
_ANY = st.recursive(
    _SINGLE,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: (f"({''.join(kind for kind, _ in parts)})", tuple(v for _, v in parts))),
        inner.flatmap(lambda one: st.lists(st.just(one[1]), max_size=3).map(lambda items: ("a" + one[0], items)))
        .filter(lambda pair: pair[0] != "ay"),
        inner.map(lambda one: ("v", one)),
    ),
    max_leaves=8,
)


def message_of_jeepney(serial: int, member: str, signature: str, body: tuple[Any, ...]) -> bytes:
    header = oracle.Header(oracle.Endianness.little, oracle.MessageType.method_call, 0, 1, -1, serial, {
        oracle.HeaderFields.path: "/org/freedesktop/systemd1", oracle.HeaderFields.interface: MANAGER, oracle.HeaderFields.member: member,
        oracle.HeaderFields.destination: "org.freedesktop.systemd1",
        **({oracle.HeaderFields.signature: signature} if signature else {}),
    })  # fmt: skip
    return bytes(oracle.Message(header, body).serialise(serial=serial))


def message_of_ours(serial: int, member: str, signature: str, body: tuple[Any, ...]) -> bytes:
    fields = [(1, ("o", "/org/freedesktop/systemd1")), (2, ("s", MANAGER)), (3, ("s", member)), (6, ("s", "org.freedesktop.systemd1"))]
    return dbus.message(dbus.CALL, serial, fields, signature, body)


@settings(deadline=None)
@given(st.integers(1, 1 << 31), st.lists(_ANY, max_size=4))
def test_messages_are_those_of_jeepney_and_are_read_back(serial: int, parts: list[tuple[str, Any]]) -> None:
    signature, body = "".join(kind for kind, _ in parts), tuple(value for _, value in parts)
    ours = message_of_ours(serial, "Anything", signature, body)
    assert ours == message_of_jeepney(serial, "Anything", signature, body)
    assert dbus.length_of(ours[:16]) == len(ours)
    read = dbus.Message(ours)
    assert (read.kind, read.member, tuple(read.values)) == (dbus.CALL, "Anything", body)


def test_the_call_that_starts_a_scope_is_jeepney_s() -> None:
    properties = [
        ("Slice", ("s", "a.slice")), ("Delegate", ("b", True)), ("PIDs", ("au", [7])), ("MemoryMax", ("t", (1 << 64) - 1)),
        ("AllowedCPUs", ("ay", b"\x05")), ("DeviceAllow", ("a(ss)", [("/dev/char/1:3", "rwm")])), ("IOReadBandwidthMax", ("a(st)", [])),
    ]  # fmt: skip
    body = ("a.scope", "replace", properties, [("a.slice", [("StopWhenUnneeded", ("b", True))])])
    signature = "ssa(sv)a(sa(sv))"
    assert message_of_ours(1, "StartTransientUnit", signature, body) == message_of_jeepney(1, "StartTransientUnit", signature, body)


@given(st.binary(min_size=16, max_size=80))
def test_rubbish_is_refused_and_nothing_else_happens(data: bytes) -> None:
    for read in (lambda: dbus.length_of(data[:16]), lambda: dbus.Message(data)):
        try:
            read()
        except ValueError:
            pass


def test_a_message_cut_anywhere_is_refused() -> None:
    whole = dbus.encode("sa(sv)ay", ("text", [("x", ("t", 5))], b"abc"))
    for length in range(len(whole)):
        with pytest.raises(ValueError, match=r"cut short|signature"):
            dbus.decode("sa(sv)ay", whole[:length])


@pytest.mark.parametrize("signature", ["a", "(s", "z", "a(", "s)", "{"])
def test_what_is_no_signature(signature: str) -> None:
    with pytest.raises(ValueError, match="signature"):
        dbus.split(signature)


def test_a_message_from_a_machine_of_the_other_order() -> None:
    body = struct.pack(">I", 3) + b"abc\0"
    fields = b"\x08\x01g\x00\x01s\x00" + b"\0"
    header = b"B\x04\x00\x01" + struct.pack(">III", len(body), 9, 7) + fields
    assert dbus.Message(header + body).values == ["abc"]
    assert dbus.length_of((header + body)[:16]) == len(header + body)


# Talking.


class Peer:
    """A stand-in for systemd at a socket: `answer(member, values)` gives what it sends for a call, as messages."""

    def __init__(self, path: Path, answer: Callable[[str, list[Any]], list[bytes]], greeting: bytes = b"OK 1234deadbeef\r\n") -> None:
        self.calls: list[tuple[str, list[Any]]] = []
        self.answer, self.greeting = answer, greeting
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        data = b""
        while not data.endswith(b"BEGIN\r\n"):
            data += connection.recv(4096)
        assert data.startswith(b"\0AUTH EXTERNAL ")
        connection.sendall(self.greeting)
        data = b""
        while more := connection.recv(4096):
            data += more
            while len(data) >= 16 and len(data) >= (length := dbus.length_of(data)):
                came, data = dbus.Message(data[:length]), data[length:]
                self.calls.append((came.member, came.values))
                connection.sendall(b"".join(self.answer(came.member, came.values)))


def reply(serial: int, signature: str = "", *values: Any) -> bytes:
    return dbus.message(dbus.RETURN, 100, [(5, ("u", serial))], signature, values)


def failure(serial: int, name: str, text: str = "no") -> bytes:
    return dbus.message(dbus.ERROR, 100, [(5, ("u", serial)), (4, ("s", f"org.freedesktop.systemd1.{name}"))], "s", (text,))


def removed(job: str, result: str = "done") -> bytes:
    fields = [(1, ("o", "/org/freedesktop/systemd1")), (2, ("s", MANAGER)), (3, ("s", "JobRemoved"))]
    return dbus.message(dbus.SIGNAL, 100, fields, "uoss", (1, job, "a.scope", result))


@pytest.fixture
def peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Peer]:
    def start(answer: Callable[[str, list[Any]], list[bytes]], **options: Any) -> Peer:
        monkeypatch.setattr(systemd, "SOCKET", str(tmp_path / "private"))
        monkeypatch.setattr(systemd, "booted", lambda: True)
        return Peer(tmp_path / "private", answer, **options)

    return start


def test_a_start_waits_for_its_own_job_even_when_the_signal_comes_first(peer: Callable[..., Peer]) -> None:
    said = peer(lambda member, values: [removed("/job/1"), removed("/job/2"), reply(1, "o", "/job/2")])
    with systemd.Systemd() as manager:
        manager.start_transient("a.scope", [("Delegate", "b", True)], [("a.slice", [("StopWhenUnneeded", "b", True)])])
    aux = [("a.slice", [("StopWhenUnneeded", ("b", True))])]
    assert said.calls == [("StartTransientUnit", ["a.scope", "replace", [("Delegate", ("b", True))], aux])]


def test_a_job_that_fails_is_an_error(peer: Callable[..., Peer]) -> None:
    peer(lambda member, values: [reply(1, "o", "/job/2"), removed("/job/2", "failed")])
    with systemd.Systemd() as manager, pytest.raises(MinidockerError, match=r"systemd could not start a\.scope: failed") as error:
        manager.start_transient("a.scope", [])
    assert error.value.hint == "journalctl -u a.scope"


def test_a_unit_that_has_failed_before_is_forgotten_and_started(peer: Callable[..., Peer]) -> None:
    calls: list[str] = []

    def answer(member: str, values: list[Any]) -> list[bytes]:
        calls.append(member)
        serial = len(calls)
        if serial == 1:
            return [failure(serial, "UnitExists")]
        return [reply(serial)] if member == "ResetFailedUnit" else [reply(serial, "o", "/job/3"), removed("/job/3")]

    peer(answer)
    with systemd.Systemd() as manager:
        manager.start_transient("a.scope", [])
    assert calls == ["StartTransientUnit", "ResetFailedUnit", "StartTransientUnit"]


def test_stopping_what_is_not_there_is_no_error_and_other_failures_are(peer: Callable[..., Peer]) -> None:
    serials = iter(range(1, 9))
    peer(lambda member, values: [failure(next(serials), "NoSuchUnit" if values[0] == "gone.scope" else "Other", "why")])
    with systemd.Systemd() as manager:
        manager.stop("gone.scope")
        assert manager.reset_failed("gone.scope") is False
        with pytest.raises(dbus.DBusError, match="why"):
            manager.stop("a.scope")


def test_nobody_there_no_answer_and_a_refusal_are_told(
    peer: Callable[..., Peer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "_BOOTED", str(tmp_path / "none"))
    with pytest.raises(UnsupportedError, match="systemd does not run here"):
        systemd.Systemd()
    monkeypatch.setattr(systemd, "booted", lambda: True)
    monkeypatch.setattr(systemd, "SOCKET", str(tmp_path / "none"))
    with pytest.raises(KernelError, match="connect to systemd"):
        systemd.Systemd()
    peer(lambda member, values: [], greeting=b"REJECTED EXTERNAL\r\n")
    with pytest.raises(KernelError, match=r"log in at .*: permission denied \(REJECTED EXTERNAL\)"):
        systemd.Systemd()


def test_silence_ends(peer: Callable[..., Peer], monkeypatch: pytest.MonkeyPatch) -> None:
    peer(lambda member, values: [])
    with systemd.Systemd() as manager:
        manager.connection.patience = 0.05
        with pytest.raises(KernelError, match="wait for an answer of .*: connection timed out"):
            manager.stop("a.scope")


# Names.


@pytest.mark.parametrize(("unit", "path"), [
    ("-.slice", ""), ("a.slice", "a.slice"), ("a-b-c.slice", "a.slice/a-b.slice/a-b-c.slice"), ("a_b:c.slice", "a_b:c.slice"),
])  # fmt: skip
def test_a_slice_s_place_follows_from_its_name(unit: str, path: str) -> None:
    assert systemd.slice_path(unit) == path


@pytest.mark.parametrize("unit", ["", ".slice", "a", "a.scope", "a--b.slice", "-a.slice", "a-.slice", "a/b.slice", "a b.slice", "é.slice"])
def test_what_is_no_slice(unit: str) -> None:
    with pytest.raises(UsageError):
        systemd.slice_path(unit)


def test_a_name_too_long_for_systemd() -> None:
    systemd.check_name("a" * 249 + ".scope")
    with pytest.raises(UsageError) as error:
        systemd.check_name("a" * 250 + ".scope")
    assert "at most 255" in error.value.hint
