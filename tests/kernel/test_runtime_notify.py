"""runtime/notify.py: SCMP_ACT_NOTIFY, its listener handed to an agent (config-linux.md, "Seccomp"), and every action of a filter."""

from __future__ import annotations

import array
import ctypes
import fcntl
import json
import os
import socket
import struct
import threading
from pathlib import Path
from typing import Any

import pytest

from minidocker.errors import MinidockerError
from minidocker.runtime import filters
from tests.kernel.launched import Container, configuration, execute, make_rootfs

# linux/seccomp.h: struct seccomp_notif is 80 bytes, struct seccomp_notif_resp 24
NOTIF_RECV, NOTIF_SEND = 0xC0502100, 0xC0182101
CONTINUE = 1


class Agent(threading.Thread):
    """Listens at `path`; answers each call with -errno, or lets it go on when that is 0. `state` is what came with the descriptor."""

    def __init__(self, path: Path, answer: int) -> None:
        super().__init__(daemon=True)
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(path))
        self.server.listen()
        self.answer = answer
        self.calls: list[int] = []
        self.state: dict[str, Any] = {}
        self.rest = b"?"
        self.start()

    def run(self) -> None:
        connection, _ = self.server.accept()
        data, ancillary, _, _ = connection.recvmsg(1 << 16, socket.CMSG_SPACE(4))
        self.state = json.loads(data)
        self.rest = connection.recv(1)  # the connection is closed after the one message
        fds = array.array("i")
        fds.frombytes(ancillary[0][2])
        self.serve(fds[0])

    def serve(self, listener: int) -> None:
        while True:
            call = ctypes.create_string_buffer(80)
            try:
                fcntl.ioctl(listener, NOTIF_RECV, call)
            except OSError:  # nobody is left under the filter
                os.close(listener)
                return
            cookie, _, _, number = struct.unpack_from("=QIIi", call.raw)
            self.calls.append(number)
            reply = struct.pack("=QqiI", cookie, 0, -self.answer, 0 if self.answer else CONTINUE)
            try:
                fcntl.ioctl(listener, NOTIF_SEND, reply)
            except OSError:
                continue


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    return make_rootfs(tmp_path)


def profile(path: Path, *names: str, **more: Any) -> dict[str, Any]:
    rules = [{"names": list(names), "action": "SCMP_ACT_NOTIFY"}]
    return {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": str(path), "listenerMetadata": "meta", "syscalls": rules, **more}


@pytest.mark.parametrize("quiet", [True, False], ids=["no_new_privs", "without"])
def test_an_agent_answers_for_the_kernel(rootfs: Path, tmp_path: Path, quiet: bool) -> None:
    agent = Agent(tmp_path / "agent", 28)
    spec = configuration(rootfs, "mkdir /tmp/x", seccomp=profile(tmp_path / "agent", "mkdir", "mkdirat"))
    spec["process"]["noNewPrivileges"] = quiet
    spec["annotations"] = {"a": "b"}
    container = Container(spec, tmp_path)
    pid = container.launch.at.pid
    code, output = container.start().finish()
    agent.join(10)
    assert code == 1 and "No space left on device" in output
    assert agent.state["fds"] == ["seccompFd"] and agent.state["pid"] == agent.state["state"]["pid"] == pid
    assert (agent.state["metadata"], agent.state["ociVersion"], agent.rest) == ("meta", "1.2.0", b"")
    assert agent.state["state"]["id"] == "one" and agent.state["state"]["annotations"] == {"a": "b"}


def test_even_the_calls_that_we_make_ourselves_may_be_asked_about(rootfs: Path, tmp_path: Path) -> None:
    agent = Agent(tmp_path / "agent", 0)
    names = ("recvmsg", "sendmsg", "read", "write", "execve", "close")
    container = Container(configuration(rootfs, "echo on", seccomp=profile(tmp_path / "agent", *names)), tmp_path)
    assert container.start().finish() == (0, "on\n")
    agent.join(10)
    assert agent.calls


def test_without_an_agent_the_start_fails(rootfs: Path, tmp_path: Path) -> None:
    container = Container(configuration(rootfs, "true", seccomp=profile(tmp_path / "nobody", "mkdir")), tmp_path)
    with pytest.raises(MinidockerError) as raised:
        container.start()
    assert str(raised.value) == f"hand the seccomp listener to `{tmp_path}/nobody`: no such file or directory"


def test_an_exec_has_its_own_listener(rootfs: Path, tmp_path: Path) -> None:
    container = Container(configuration(rootfs, "sleep 100"), tmp_path).start()
    agent = Agent(tmp_path / "agent", 13)
    seccomp = profile(tmp_path / "agent", "mkdir", "mkdirat")
    try:
        process = {"args": ["mkdir", "/tmp/x"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}, "noNewPrivileges": True}
        filter = filters.cached(seccomp, str(tmp_path / "filters"))
        assert "Permission denied" in execute(container, process, filter, seccomp=seccomp)
        agent.join(10)
        assert agent.state["state"]["status"] == "running"
    finally:
        os.kill(container.launch.at.pid, 9)
        container.finish()


@pytest.mark.parametrize("flags", ["WAIT_KILLABLE_RECV", "TSYNC LOG", "SPEC_ALLOW", ""])
def test_flags_go_with_a_listener(rootfs: Path, tmp_path: Path, flags: str) -> None:
    Agent(tmp_path / "agent", 28)
    given = [f"SECCOMP_FILTER_FLAG_{flag}" for flag in flags.split()]
    spec = configuration(rootfs, "mkdir /tmp/x", seccomp=profile(tmp_path / "agent", "mkdir", "mkdirat", flags=given))
    code, output = Container(spec, tmp_path).start().finish()
    assert code == 1 and "No space left on device" in output


@pytest.mark.parametrize(
    ("action", "result"),
    [("SCMP_ACT_KILL", 159), ("SCMP_ACT_KILL_THREAD", 159), ("SCMP_ACT_KILL_PROCESS", 159), ("SCMP_ACT_TRAP", 159), ("SCMP_ACT_ERRNO", 1),
     ("SCMP_ACT_TRACE", 1), ("SCMP_ACT_LOG", 0), ("SCMP_ACT_ALLOW", 0)],
)  # fmt: skip
def test_every_action(rootfs: Path, tmp_path: Path, action: str, result: int) -> None:
    rules = {"defaultAction": "SCMP_ACT_ALLOW" if action != "SCMP_ACT_ALLOW" else "SCMP_ACT_LOG",
             "syscalls": [{"names": ["mkdir", "mkdirat"], "action": action}]}  # fmt: skip
    container = Container(configuration(rootfs, "mkdir /tmp/x 2>/dev/null; echo $?", seccomp=rules), tmp_path)
    assert container.start().finish()[1].split()[-1] == str(result)
