"""A network's DNS before it was asked: what a monitor hands on over an exec, when the server is started, and what that is given."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minidocker.engine import activation, logfile, monitor
from minidocker.engine.activation import Activation, others, unpacked
from minidocker.engine.logfile import LOG_HEADER, Log
from minidocker.engine.monitor import Monitor
from minidocker.network import names

A, B = "a" * 64, "b" * 64
words = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=10)

# Stands in for the server: writes down how it was started, with its first argument the file.
REPORT = """
import json, os, sys
descriptors = {}
for d in os.listdir("/proc/self/fd"):
    try:
        descriptors[d] = os.readlink("/proc/self/fd/" + d)
    except FileNotFoundError:
        pass
with open(sys.argv[1] + ".new", "w") as file:
    json.dump({"descriptors": descriptors, "leads": os.getsid(0) == os.getpid(), "cwd": os.getcwd(),
               "environment": dict(os.environ), "rest": sys.argv[2:]}, file)
os.rename(sys.argv[1] + ".new", sys.argv[1])
"""


def report(path: Path) -> dict[str, object]:
    """What the server that writes to `path` has said of itself."""
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, "it was not started"
        time.sleep(0.005)
    return json.loads(path.read_text())  # type: ignore[no-any-return]


class Sockets:
    """The pair of sockets and the locked file of one network's DNS."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.udp, self.tcp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.udp.bind(("127.0.0.1", 0))
        self.tcp.bind(self.udp.getsockname())
        self.tcp.listen()
        self.address = self.udp.getsockname()
        self.lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        self.said = directory / "said"
        names.create(str(directory / "net"))

    def activation(self) -> Activation:
        argv = [sys.executable, "-I", "-S", "-c", REPORT, str(self.said), "more"]
        udp, tcp = self.udp.detach(), self.tcp.detach()
        return Activation(udp, tcp, self.lock, str(self.directory / "net/hosts"), A[:12], argv)

    def add(self, ip: str, id: str) -> None:
        names.add(str(self.directory / "net"), names.hosts_lines([ip], "x", [], id))

    @property
    def is_held(self) -> bool:
        descriptor = os.open(self.directory / "lock", os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False


@pytest.fixture
def sockets(tmp_path: Path) -> Sockets:
    return Sockets(tmp_path)


# --- over an exec -----------------------------------------------------------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(words, words, st.lists(words, max_size=5)), max_size=4), st.lists(words, max_size=4))
def test_what_is_packed_is_unpacked_and_the_rest_is_left(packed: list[tuple[str, str, list[str]]], rest: list[str]) -> None:
    ends = [os.pipe() for _ in packed]
    try:
        every = [Activation(read, write, read, *fields) for (read, write), fields in zip(ends, packed, strict=True)]
        assert not any(os.get_inheritable(descriptor) for pair in ends for descriptor in pair)
        line = [str(len(every)), *(word for one in every for word in one.packed()), *rest]
        found, left = unpacked(line)
        assert [[getattr(one, name) for name in Activation.__slots__] for one in found] == [
            [getattr(one, name) for name in Activation.__slots__] for one in every]
        assert left == rest
        assert all(os.get_inheritable(descriptor) for pair in ends for descriptor in pair)
    finally:
        for pair in ends:
            for descriptor in pair:
                os.close(descriptor)


# --- who else is there ------------------------------------------------------------------------------------------------------------------


def test_others_are_the_lines_of_other_containers(tmp_path: Path) -> None:
    directory = str(tmp_path / "net")
    hosts = names.create(directory)
    assert not others(hosts, A[:12])
    names.add(directory, names.hosts_lines(["10.9.0.2", "fd00:9::2"], "one", ["web"], A))
    assert not others(hosts, A[:12])
    assert others(hosts, B[:12]) and others(hosts, "")
    names.add(directory, names.hosts_lines(["10.9.0.3"], "two", [A[:12]], B))
    assert others(hosts, A[:12])
    names.remove(directory, B, ["10.9.0.3"])
    assert not others(hosts, A[:12])
    names.remove(directory, A, ["10.9.0.2", "fd00:9::2"])
    assert not others(hosts, "")


@pytest.mark.parametrize("content", [b"", b"127.0.0.1\tlocalhost\n", b"127.0.0.1\tlocalhost", b"\n\n#x y z\n", b"\xff\n"])
def test_a_file_without_containers_has_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "hosts").write_bytes(content)
    assert not others(str(tmp_path / "hosts"), A[:12])
    assert not others(str(tmp_path / "absent"), A[:12])


# --- the server -------------------------------------------------------------------------------------------------------------------------


def offspring() -> set[str]:
    """Our children, dead ones too; other tests may have left some."""
    return {pid for task in os.listdir("/proc/self/task") for pid in Path(f"/proc/self/task/{task}/children").read_text().split()}


def test_the_server_gets_the_sockets_and_the_lock_and_nothing_else(sockets: Sockets, tmp_path: Path) -> None:
    before = offspring()
    secret = os.open(tmp_path / "secret", os.O_RDWR | os.O_CREAT)
    os.set_inheritable(secret, True)
    one = sockets.activation()
    kept = {str(descriptor): os.readlink(f"/proc/self/fd/{descriptor}") for descriptor in (one.udp, one.tcp, one.lock)}
    one.wake()
    os.close(secret)
    said = report(sockets.said)
    opened = said["descriptors"]
    assert isinstance(opened, dict)
    assert {number: link for number, link in opened.items() if int(number) < 3} == {str(number): "/dev/null" for number in (0, 1, 2)}
    others_ = {number: link for number, link in opened.items() if int(number) > 2 and not link.startswith("/proc/")}
    assert others_ == kept, "by the same numbers"
    assert said["cwd"] == "/" and said["environment"] in ({}, {"LC_CTYPE": "C.UTF-8"}) and said["rest"] == ["more"]
    assert said["leads"] is True, "a session of its own, without our terminal"
    for descriptor in (one.udp, one.tcp, one.lock):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
    assert offspring() <= before, "it is nobody's child"


def test_the_lock_is_held_as_long_as_the_server_lives(sockets: Sockets, tmp_path: Path) -> None:
    one = sockets.activation()
    one.argv = ["/bin/sh", "-c", f"echo $$ > {tmp_path}/pid.new && mv {tmp_path}/pid.new {tmp_path}/pid && exec sleep 1000"]
    one.wake()
    deadline = time.monotonic() + 20
    while not (tmp_path / "pid").exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert sockets.is_held
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    while sockets.is_held:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_server_that_cannot_be_started_leaves_nothing_behind(sockets: Sockets) -> None:
    before = offspring()
    one = sockets.activation()
    one.argv = ["/does/not/exist"]
    one.wake()
    deadline = time.monotonic() + 20
    while sockets.is_held:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert offspring() <= before


def test_whoever_is_left_is_answered(sockets: Sockets) -> None:
    sockets.add("10.9.0.2", A)
    sockets.add("10.9.0.3", B)
    sockets.activation().leave()
    assert report(sockets.said)["rest"] == ["more"]


def test_with_nobody_left_it_is_let_go(sockets: Sockets) -> None:
    sockets.add("10.9.0.2", A)
    sockets.activation().leave()
    assert not sockets.is_held and not sockets.said.exists()


# --- the monitor ------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, Monitor, threading.Thread, Sockets]]:
    """A child's pid, the monitor that watches it with an activation, the thread, and the sockets."""
    # a monitor ignores SIGTERM; here it is a thread, which has no say in that (signal(2) by way of Python)
    monkeypatch.setattr(monitor, "_signal", SimpleNamespace(**{**vars(monitor._signal), "signal": lambda number, action: None}))
    sockets = Sockets(tmp_path)
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    watching = Monitor(child, os.pidfd_open(child), {}, -1, -1, Log(str(tmp_path / "log")), None, [sockets.activation()])
    thread = threading.Thread(target=watching.watch, daemon=True)
    thread.start()
    yield child, watching, thread, sockets
    if thread.is_alive():
        os.kill(child, signal.SIGKILL)
        thread.join(20)
    watching.leave()


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_the_first_question_starts_the_server_and_the_child_goes_on(
    watched: tuple[int, Monitor, threading.Thread, Sockets], kind: socket.SocketKind,
) -> None:  # fmt: skip
    child, watching, thread, sockets = watched
    assert not sockets.said.exists()
    with socket.socket(socket.AF_INET, kind) as asker:
        asker.connect(sockets.address)
        if kind == socket.SOCK_DGRAM:
            asker.send(b"?")
        report(sockets.said)
    assert watching.activations == [] and thread.is_alive()
    os.kill(child, signal.SIGKILL)
    thread.join(20)
    assert not thread.is_alive()


def test_a_container_that_asks_nothing_costs_no_server(watched: tuple[int, Monitor, threading.Thread, Sockets]) -> None:
    child, watching, thread, sockets = watched
    sockets.add("10.9.0.2", A)
    os.kill(child, signal.SIGKILL)
    thread.join(20)
    assert len(watching.activations) == 1
    watching.leave()
    watching.leave()
    assert watching.activations == [] and not sockets.is_held and not sockets.said.exists()


def test_the_resident_monitor_takes_over_what_it_is_given_and_leaves_it(tmp_path: Path) -> None:
    """Its whole command line, in an interpreter of its own: activations between the run directory and what tidies up."""
    sockets = Sockets(tmp_path)
    sockets.add("10.9.0.2", A)
    sockets.add("10.9.0.3", B)
    (tmp_path / "run").mkdir()
    program = f"""if True:
        import os, sys
        sys.path.insert(0, {str(Path(monitor.__file__).parents[2])!r})
        from minidocker.engine import monitor
        child = os.fork()
        if child == 0:
            os.write(1, b"the last words")
            os._exit(3)
        out, err = os.pipe(), os.pipe()
        os.write(out[1], b"out"); os.close(out[1]); os.close(err[1])
        monitor.resident([str(child), str(os.pidfd_open(child)), str(out[0]), str(err[0]), "0", "-1", "1", "-1", "1024", "2",
                          {str(tmp_path / "log")!r}, {str(tmp_path / "run")!r}, *sys.argv[1:]])"""
    one = sockets.activation()
    given_ = ["1", *one.packed(), "/bin/sh", "-c", 'echo "$0 $1" > ' + str(tmp_path / "finished"), "tidy"]
    subprocess.run([sys.executable, "-I", "-S", "-c", program, *given_], check=True, pass_fds=(one.udp, one.tcp, one.lock))
    one.close()
    assert (tmp_path / "finished").read_text() == f"tidy {3 << 8}\n"
    assert (tmp_path / "run/exit").read_text().split()[0] == str(3 << 8)
    assert struct.calcsize(LOG_HEADER) + 3 == (tmp_path / "log").stat().st_size
    assert report(sockets.said)["rest"] == ["more"], "another container is in the network"


def test_it_stays_as_light_as_its_monitor() -> None:
    program = f"import sys; sys.path.insert(0, {str(Path(monitor.__file__).parents[2])!r}); before = set(sys.modules); " \
              "import minidocker.engine.monitor; print(*sorted(m for m in set(sys.modules) - before if m.startswith('minidocker')))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["minidocker", "minidocker.engine", activation.__name__, logfile.__name__, monitor.__name__]
