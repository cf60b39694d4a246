"""minidocker-oci: exec, terminals, and what is asked of a container and changed: ps, list, pause, update, events, spec, features."""

from __future__ import annotations

import array
import fcntl
import json
import os
import pty
import select
import socket
import struct
import subprocess
import termios
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.oci import HIERARCHIES, Oci
from tests.e2e.support import poll


def cgroup_file(oci: Oci, name: str, controller: str, v1: str, v2: str) -> str:
    """What the kernel says of a container's limit."""
    v1_path = Path(HIERARCHIES, controller) / oci.cgroups[1:] / name / v1
    return (v1_path if v1_path.exists() else Path(HIERARCHIES) / oci.cgroups[1:] / name / v2).read_text().strip()


# --- exec ---------------------------------------------------------------------------------------------------------------------------


def test_exec_runs_a_command_as_the_container_would(oci: Oci) -> None:
    oci.running("c", "sh", "-c", "cd /tmp; exec sleep 1000", env=["PATH=/bin:/usr/bin", "OWN=1"])
    done = oci("exec", "-e", "A=1", "--env=OWN=2", "--cwd", "/tmp", "c", "sh", "-c", "echo $A $OWN; pwd; ls /shared; exit 7", check=False)
    assert (done.returncode, done.stdout) == (7, "1 2\n/tmp\n")
    assert oci("exec", "c", "--", "echo", "--", "-x").stdout == "-- -x\n"
    assert oci("exec", "c", "sh", "-c", "kill -9 $$", check=False).returncode == 137


def test_exec_as_another_user_with_groups_and_capabilities(oci: Oci) -> None:
    oci.running("c")
    script = "id -u; id -g; id -G; grep -E 'Cap(Eff|Prm|Bnd|Inh|Amb)|NoNewPrivs' /proc/self/status"
    said = oci("exec", "-u", "1000:1001", "-g", "7,8", "--additional-gids", "9", "--cap", "net_raw", "c", "sh", "-c", script).stdout.split()
    assert said[:2] == ["1000", "1001"] and set(said[2:6]) == {"1001", "7", "8", "9"}
    values = dict(zip(said[6::2], said[7::2], strict=True))
    assert int(values["CapEff:"], 16) >> 13 & 1 and int(values["CapBnd:"], 16) >> 13 & 1 and values["NoNewPrivs:"] == "1"
    plain = oci("exec", "-u", "1000", "c", "grep", "CapEff", "/proc/self/status").stdout
    assert int(plain.split()[1], 16) == 0
    for value in ("root", "-1", "1:x", "4294967295"):
        assert "is not a numeric id" in oci.refused("exec", f"--user={value}", "c", "true", code=125)
    assert "unknown capability" in oci.refused("exec", "--cap", "fly", "c", "true", code=125)


def test_exec_of_a_process_in_a_file(oci: Oci) -> None:
    oci.running("c")
    process: dict[str, Any] = {"args": ["sh", "-c", "echo $X; id -u; pwd"], "cwd": "/tmp", "env": ["PATH=/bin:/usr/bin", "X=y"]}
    process["user"] = {"uid": 5, "gid": 0}
    file = oci.place / "process.json"
    file.write_text(json.dumps(process))
    assert oci("exec", "--process", file, "c").stdout == "y\n5\n/tmp\n"
    assert oci("exec", "--process", "-", "c", input=json.dumps(process).encode()).stdout == "y\n5\n/tmp\n"
    for text, part in (("{", "JSON"), ('{"args": [], "cwd": "/"}', "args"), ('{"args": ["x"], "cwd": "rel"}', "cwd"), ("[]", "process")):
        file.write_text(text)
        assert part in oci.refused("exec", "--process", file, "c", code=125)
    assert "read `/no/such`" in oci.refused("exec", "--process", "/no/such", "c", code=125)
    assert "twice" in oci.refused("exec", "--process", file, "c", "true", code=125)
    assert "neither a command nor" in oci.refused("exec", "c", code=125)


def test_exec_fails_in_words_and_leaves_nothing(oci: Oci) -> None:
    oci.running("c")
    assert "executable file not found in $PATH" in oci.refused("exec", "c", "nosuch", code=127)
    assert "permission denied" in oci.refused("exec", "c", "/etc", code=126)
    assert "no such file or directory" in oci.refused("exec", "--cwd", "/no/such", "c", "true", code=125).lower()
    assert "absolute" in oci.refused("exec", "--cwd", "rel", "c", "true", code=125)
    assert json.loads(oci("ps", "--format", "json", "c").stdout) == [oci.state("c")["pid"]]
    oci("kill", "c", "KILL")
    oci.until("c", "stopped")
    assert "container not running" in oci.refused("exec", "c", "true", code=1)
    assert "does not exist" in oci.refused("exec", "other", "true", code=1)


def test_a_detached_exec_is_the_child_of_whoever_reaps(oci: Oci) -> None:
    """conmon and the shims are subreapers: they wait for the process by the pid in the file."""
    oci.running("c")
    script = f"""if True:
        import ctypes, os, subprocess, sys
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
        subprocess.run({oci.argv("exec", "--detach", "--pid-file", oci.place / "pid", "c", "sh", "-c", "exit 9")!r}, check=True)
        pid = int(open({str(oci.place / "pid")!r}).read())
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"""
    done = subprocess.run(["python3", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "9\n", done.stderr


def test_exec_and_its_pid_file_that_cannot_be(oci: Oci) -> None:
    oci.running("c")
    (oci.place / "taken").mkdir()
    assert "write the pid file" in oci.refused("exec", "-d", "--pid-file", oci.place / "taken", "c", "sleep", "1000", code=125)
    poll(lambda: json.loads(oci("ps", "-f", "json", "c").stdout) == [oci.state("c")["pid"]], "what was begun has ended")


def test_exec_into_a_paused_container_waits_with_it(oci: Oci) -> None:
    oci.running("c")
    oci("pause", "c")
    with oci.open("exec", "--ignore-paused", "c", "echo", "later") as waiting:
        time.sleep(0.2)
        assert waiting.poll() is None
        oci("resume", "c")
        assert waiting.line() == "later" and waiting.wait(20) == 0


# --- terminals ----------------------------------------------------------------------------------------------------------------------


class Console(threading.Thread):
    """A --console-socket: takes one connection and keeps the master that came with it."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(os.path.relpath(path))
        self.listener.listen()
        self.master = -1
        self.start()

    def run(self) -> None:
        connection, _ = self.listener.accept()
        with connection:
            data, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4))
            assert data and ancillary[0][:2] == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
            self.master = array.array("i", ancillary[0][2])[0]

    def read_until(self, text: bytes) -> bytes:
        self.join(20)
        found = b""
        while text not in found:
            ready, _, _ = select.select([self.master], [], [], 20)
            assert ready, found
            try:
                found += os.read(self.master, 4096)
            except OSError:
                break
        assert text in found, found
        return found

    def close(self) -> None:
        self.listener.close()
        if self.master >= 0:
            os.close(self.master)


@pytest.fixture
def console(oci: Oci, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(oci.place)
    made = Console(oci.place / "console")
    yield made
    made.close()


def test_the_master_of_a_created_containers_terminal_arrives(oci: Oci, console: Console) -> None:
    script = "tty; stty -a | head -1; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo terminal; ls -l /dev/console; read line; echo got $line"
    bundle = oci.bundle("c", "sh", "-c", script, terminal=True, consoleSize={"height": 33, "width": 77})
    bundle.create("--console-socket", console.path)
    console.join(20)
    assert os.isatty(console.master)
    oci("start", "c")
    said = console.read_until(b"/dev/console\r\n")
    assert b"/dev/pts/0" in said and b"33 rows" in said.replace(b"rows 33", b"33 rows") and b"terminal\r\n" in said
    os.write(console.master, b"hello\n")
    console.read_until(b"got hello\r\n")
    oci.until("c", "stopped")


def test_the_master_of_an_execs_terminal_arrives(oci: Oci, console: Console) -> None:
    oci.running("c")
    process = {"args": ["sh", "-c", "tty; read line; echo got $line"], "cwd": "/", "env": ["PATH=/bin:/usr/bin"], "terminal": True}
    (oci.place / "process.json").write_text(json.dumps({**process, "user": {"uid": 0, "gid": 0}}))
    words = ["--process", oci.place / "process.json", "--console-socket", console.path, "--pid-file", oci.place / "pid"]
    oci("exec", "--detach", *words, "c")
    console.read_until(b"/dev/pts/")
    assert int((oci.place / "pid").read_text()) in json.loads(oci("ps", "-f", "json", "c").stdout)
    os.write(console.master, b"hello\n")
    console.read_until(b"got hello\r\n")


@pytest.mark.parametrize("way", ["run", "exec"])
def test_a_terminal_in_the_foreground_is_carried_both_ways(oci: Oci, way: str) -> None:
    script = "stty size; read line; echo got $line; exit 5"
    if way == "run":
        words = oci.argv("run", "--bundle", oci.bundle("c", "sh", "-c", script, terminal=True).write(), "c")
    else:
        oci.running("c")
        words = oci.argv("exec", "--tty", "c", "sh", "-c", script)
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 41, 99, 0, 0))
    before = termios.tcgetattr(slave)
    command = subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    found = b""
    while b"41 99" not in found:
        assert select.select([master], [], [], 20)[0], found
        found += os.read(master, 4096)
    os.write(master, b"hello\r")
    while b"got hello" not in found:
        assert select.select([master], [], [], 20)[0], found
        found += os.read(master, 4096)
    assert command.wait(20) == 5
    assert termios.tcgetattr(slave) == before, "the caller's terminal is as it was"
    os.close(master)
    os.close(slave)


# --- asking and changing ------------------------------------------------------------------------------------------------------------


def test_list_and_ps(oci: Oci) -> None:
    assert oci("list", "-q").stdout == "" and json.loads(oci("list", "--format", "json").stdout) == []
    oci.running("one")
    oci.bundle("two", "true").create()
    assert oci("list", "--quiet").stdout.split() == ["one", "two"]
    first, second = json.loads(oci("list", "-f", "json").stdout)
    assert (first["id"], first["status"], first["owner"], second["status"]) == ("one", "running", "root", "created")
    assert first["pid"] == oci.state("one")["pid"] and first["created"] < second["created"]
    lines = oci("list").stdout.splitlines()
    assert lines[0].split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"] and len(lines) == 3
    oci("exec", "-d", "one", "sleep", "2000")
    assert [line.split()[-1] for line in oci("ps", "one").stdout.splitlines()[1:]] == ["1000", "2000"]
    assert oci("ps", "one", "-o", "pid,comm").stdout.split()[:2] == ["PID", "COMMAND"]
    assert "no column PID" in oci.refused("ps", "one", "-o", "comm")
    assert "ps --nonsense" in oci.refused("ps", "one", "--nonsense")
    assert "neither table nor json" in oci.refused("ps", "--format", "xml", "one")


def test_pause_stops_and_resume_goes_on(oci: Oci) -> None:
    bundle = oci.running("c", "sh", "-c", "while :; do echo x >> /shared/ticks; sleep 0.01; done")
    poll(lambda: (bundle.shared / "ticks").exists(), "it ticks")
    oci("pause", "c")
    before = (bundle.shared / "ticks").read_text()
    time.sleep(0.2)
    assert (bundle.shared / "ticks").read_text() == before and oci.status("c") == "paused"
    oci("resume", "c")
    poll(lambda: (bundle.shared / "ticks").read_text() != before, "it ticks again")
    assert "it is not paused" in oci.refused("resume", "c")
    oci("kill", "c", "KILL")
    oci.until("c", "stopped")
    assert "container not running" in oci.refused("pause", "c")


def test_update_by_flags_and_by_json(oci: Oci) -> None:
    bundle = oci.bundle("c", "sleep", "1000")
    bundle.config["linux"]["resources"]["pids"] = {"limit": 50}
    bundle.create()
    oci("start", "c")
    oci("update", "--memory", "33554432", "--pids-limit", "77", "--cpu-share", "512", "--cpuset-cpus", "0", "c")
    assert cgroup_file(oci, "c", "memory", "memory.limit_in_bytes", "memory.max") == "33554432"
    assert cgroup_file(oci, "c", "pids", "pids.max", "pids.max") == "77"
    assert cgroup_file(oci, "c", "cpuset", "cpuset.cpus", "cpuset.cpus") == "0"
    resources = {"memory": {"limit": 67108864}, "devices": [{"allow": False, "access": "rwm"}], "pids": {"limit": -1}}
    oci("update", "--resources", "-", "c", input=json.dumps(resources).encode())
    assert cgroup_file(oci, "c", "memory", "memory.limit_in_bytes", "memory.max") == "67108864"
    assert cgroup_file(oci, "c", "pids", "pids.max", "pids.max") == "max"
    for words, part in (
        (["--memory", "much", "c"], "not a whole number"),
        (["c"], "what is to change"),
        (["--resources", "/no/such", "c"], "read `/no/such`"),
        (["--blkio-weight", "5", "c"], "weight"),
        (["--pids-limit", "3", "x"], "does not exist"),
    ):
        assert part in oci.refused("update", *words)
    other = {"devices": [{"allow": True, "type": "c", "major": 1, "minor": 11, "access": "rwm"}]}
    assert "devices" in oci("update", "-r", "-", "c", check=False, input=json.dumps(other).encode()).stderr


def test_events_count_and_tell_of_memory_killings(oci: Oci) -> None:
    bundle = oci.bundle("c", "sh", "-c", "while [ ! -e /shared/go ]; do sleep 0.05; done; sleep 0.5; (tail /dev/zero); exec sleep 1000")
    bundle.config["linux"]["resources"]["memory"] = {"limit": 16777216}
    bundle.create()
    oci("start", "c")
    once = json.loads(oci("events", "--stats", "c").stdout)
    data = once["data"]
    assert (once["type"], once["id"]) == ("stats", "c") and data["pids"]["current"] >= 1
    assert data["memory"]["usage"]["limit"] == 16777216 and data["memory"]["usage"]["usage"] > 0 and data["cpu"]["usage"]["total"] > 0
    with oci.open("events", "--interval", "100ms", "c") as following:
        assert json.loads(following.line())["type"] == "stats" and json.loads(following.line())["type"] == "stats"
        (bundle.shared / "go").touch()
        poll(lambda: json.loads(following.line())["type"] == "oom", "the kernel has killed", 30)
        oci("kill", "c", "KILL")
        following.communicate(timeout=20)
        assert following.returncode == 0, "it ends with the container"
    oci.running("d")
    assert "not a time" in oci.refused("events", "--interval", "soon", "d")


@pytest.mark.parametrize("rootless", [False, True])
def test_spec_writes_a_configuration_that_runs(oci: Oci, rootless: bool) -> None:
    place = oci.place / "made"
    place.mkdir()
    oci("spec", "--bundle", place, *(["--rootless"] if rootless else []))
    assert "exists already" in oci.refused("spec", "--bundle", place)
    file = place / "config.json"
    config = json.loads(file.read_text())
    assert (any(one["type"] == "user" for one in config["linux"]["namespaces"])) == rootless
    (place / "rootfs").symlink_to(oci.rootfs)
    config["process"].update(terminal=False, args=["sh", "-c", "hostname; id -u; touch /x || echo read-only"])
    config["linux"]["cgroupsPath"] = f"{oci.cgroups}/c"
    file.write_text(json.dumps(config))
    said = oci("run", "--bundle", place, "c").stdout
    assert said == "minidocker\n0\nread-only\n"


def test_features_says_what_the_specification_asks(oci: Oci) -> None:
    known = json.loads(oci("features").stdout)
    assert known["ociVersionMin"] == "1.0.0" and known["ociVersionMax"].startswith("1.")
    assert set(known["hooks"]) == {"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"}
    assert {"ro", "rro", "rbind", "rshared", "idmap", "noatime", "tmpcopyup"} <= set(known["mountOptions"])
    linux = known["linux"]
    assert {"user", "time", "cgroup"} <= set(linux["namespaces"]) and "CAP_SYS_ADMIN" in linux["capabilities"]
    assert linux["cgroup"]["v1"] and linux["cgroup"]["v2"] and linux["seccomp"]["enabled"]
    assert "SCMP_ACT_NOTIFY" in linux["seccomp"]["actions"] and not linux["intelRdt"]["enabled"]
