"""What is known of containers afterwards and from outside: logs, stop, kill, rm, inspect, ps, info, version."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from minidocker.kernel import lsm
from tests.e2e.support import TIMEOUT, Minidocker, poll

STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z ")


def start(md: Minidocker, busybox: Path, *words: str, options: tuple[str, ...] = ()) -> str:
    return md.start("--net", "none", "--name", "one", *options, "--rootfs", busybox, *words)


# --- logs -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("detached", [True, False])
def test_logs_are_what_was_written_by_stream_and_byte(md: Minidocker, busybox: Path, detached: bool) -> None:
    script = "printf 'a\\000\\377b'; echo err >&2; echo; head -c 200000 /dev/zero"
    if detached:
        start(md, busybox, "sh", "-c", script)
        md.wait("one")
    else:
        md.run("--net", "none", "--name", "one", "--rootfs", busybox, "sh", "-c", script, text=False, check=False)
    done = md("logs", "one", text=False, check=False)
    assert (done.stdout, done.stderr, done.returncode) == (b"a\0\xffb\n" + bytes(200000), b"err\n", 0)


def test_tail(md: Minidocker, busybox: Path) -> None:
    start(md, busybox, "sh", "-c", "for i in 0 1 2 3 4 5 6 7 8 9; do echo $i; done")
    md.wait("one")
    for tail, number in (("0", 0), ("1", 1), ("3", 3), ("10", 10), ("100", 10), ("all", 10)):
        for option in ("--tail", "-n"):
            assert md("logs", option, tail, "one").stdout == "".join(f"{i}\n" for i in range(10 - number, 10)), tail


def test_follow_shows_what_comes_until_the_end(md: Minidocker, busybox: Path) -> None:
    start(md, busybox, "sh", "-c", "echo first; until [ -e /go ]; do sleep 0.01; done; echo second; echo bad >&2; exit 3")
    with md.open("logs", "-f", "--tail", "all", "one", stdin=subprocess.DEVNULL) as child:
        assert child.line() == "first"
        md("exec", "one", "touch", "/go")
        assert child.line() == "second"
        out, error = child.communicate(timeout=20)
        assert (out, error, child.returncode) == (b"", b"bad\n", 0)


def test_follow_ends_when_the_container_is_removed_or_its_reader_leaves(md: Minidocker, busybox: Path) -> None:
    start(md, busybox, "sh", "-c", "echo first; sleep 1000")
    with md.open("logs", "-f", "one", stdin=subprocess.DEVNULL) as one, md.open("logs", "-f", "one", stdin=subprocess.DEVNULL) as two:
        assert one.line() == two.line() == "first"
        md("rm", "-f", "one")
        assert one.wait(20) == two.wait(20) == 0


def test_timestamps_and_since(md: Minidocker, busybox: Path) -> None:
    start(md, busybox, "sh", "-c", "echo old; until [ -e /go ]; do sleep 0.01; done; echo new; sleep 1000")
    poll(lambda: md("logs", "one").stdout == "old\n", "the first line")
    time.sleep(0.05)
    between = time.time()
    md("exec", "one", "touch", "/go")
    poll(lambda: "new" in md("logs", "one").stdout, "the second line")
    lines = md("logs", "-t", "one").stdout.splitlines()
    assert [STAMP.sub("", line) for line in lines] == ["old", "new"] and all(map(STAMP.match, lines))
    assert lines == sorted(lines)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(between)) + f"{between % 1:.9f}"[1:] + "Z"
    for since in (stamp, f"{between:.6f}"):
        assert md("logs", "--since", since, "one").stdout == "new\n", since
    assert md("logs", "--since", "1h", "one").stdout == "old\nnew\n"
    assert md("logs", "--since", "2999-01-01T00:00:00Z", "one").stdout == ""
    assert "--since" in md.refused("logs", "--since", "yesterday", "one")
    assert "--tail" in md.refused("logs", "--tail", "-3", "one")


def test_logs_of_a_terminal_and_of_nothing(md: Minidocker, busybox: Path) -> None:
    start(md, busybox, "sh", "-c", "echo out; echo err >&2", options=("-t",))
    md.wait("one")
    done = md("logs", "one", text=False)
    assert (done.stdout, done.stderr) == (b"out\r\nerr\r\n", b""), "a terminal has one stream, with its line ends"
    md.run("--net", "none", "--name", "silent", "--rootfs", busybox, "true")
    assert md("logs", "silent").stdout == ""
    assert "silent" in md.refused("logs", "silnt", code=1)


@pytest.mark.parametrize("detached", [True, False])
def test_log_options_bound_what_is_kept(md: Minidocker, busybox: Path, detached: bool) -> None:
    options = ("--log-opt", "max-size=10k", "--log-opt", "max-file=3")
    words = ("--net", "none", "--name", "one", *options, "--rootfs", busybox, "seq", "100000")
    (md.start if detached else md.run)(*words)
    document = md.wait("one")
    assert document["HostConfig"]["LogConfig"] == {"Type": "local", "Config": {"max-size": "10240", "max-file": "3"}}
    files = sorted(Path(document["LogPath"]).parent.glob("log*"))
    assert [file.name for file in files] == ["log", "log.1", "log.2"]
    assert all(file.stat().st_size < 10240 + 13 + 65536 for file in files)  # a record begins below the limit
    lines = md.logs("one").split()[1:]  # the first may be the end of one
    assert lines == [str(number) for number in range(100001 - len(lines), 100001)] and len(lines) > 1000
    md("start", "one")
    assert md.wait("one")["HostConfig"]["LogConfig"]["Config"]["max-file"] == "3"
    assert len(list(Path(document["LogPath"]).parent.glob("log*"))) == 3


@pytest.mark.parametrize(
    "option", ["max-size=0", "max-size=10q", "max-size=", "max-file=0", "max-file=1001", "max-file=two", "compress=true", ""]
)
def test_a_log_option_that_is_none_is_refused(md: Minidocker, option: str) -> None:
    assert "--log-opt" in md.refused("run", "--net", "none", "--log-opt", option, "true")


def test_follow_loses_no_line_over_rotations(md: Minidocker, busybox: Path) -> None:
    """Forty times what is kept of it, as fast as it can be written."""
    count = 300_000
    start(md, busybox, "sh", "-c", f"until [ -e /go ]; do sleep 0.01; done; seq {count}",
          options=("--log-opt", "max-size=16k", "--log-opt", "max-file=2"))  # fmt: skip
    with md.open("logs", "-f", "one", stdin=subprocess.DEVNULL) as child:
        md("exec", "one", "touch", "/go")
        out, error = child.communicate(timeout=TIMEOUT)
    assert (error, child.returncode) == (b"", 0)
    assert out.split() == [b"%d" % number for number in range(1, count + 1)]


def test_a_flood_is_bounded_in_memory_and_on_disk_and_its_readers_do_not_hold_it_up(md: Minidocker, busybox: Path) -> None:
    """300 MB as fast as the machine can write them, with a follower that stands still."""
    script = "echo begun; until [ -e /go ]; do sleep 0.01; done; head -c 300000000 /dev/zero; echo end >&2; sleep 1000"
    start(md, busybox, "sh", "-c", script, options=("--log-opt", "max-size=8m"))
    monitor = int(Path(f"/proc/{md.inspect('one')['State']['Pid']}/stat").read_text().rpartition(")")[2].split()[1])
    with md.open("logs", "-f", "one", stdin=subprocess.DEVNULL) as idle:
        assert idle.line() == "begun"
        idle.send_signal(signal.SIGSTOP)
        md("exec", "one", "touch", "/go")
        directory = Path(md.inspect("one")["LogPath"]).parent
        poll(lambda: b"end\n" in md("logs", "--tail", "1", "one", check=False, text=False).stderr, "all of it is in the log", TIMEOUT)
        idle.kill()
    memory = int(Path(f"/proc/{monitor}/status").read_text().split("VmHWM:")[1].split()[0])
    assert memory < 12 << 10, f"the monitor had {memory} kB"
    files = sorted(directory.glob("log*"))
    assert [file.name for file in files] == ["log", "log.1"] and sum(file.stat().st_size for file in files) < 17 << 20


# --- stop, kill, rm -------------------------------------------------------------------------------------------------------------------

TRAP = "trap 'echo term; exit 9' TERM; trap 'echo usr; exit 8' USR1; echo up; while :; do sleep 0.01; done"


def up(md: Minidocker) -> None:
    poll(lambda: md("logs", "one").stdout == "up\n", "its traps are set")


def test_stop_sends_the_stop_signal(md: Minidocker, busybox: Path) -> None:
    start(md, busybox, "sh", "-c", TRAP)
    up(md)
    assert md("stop", "one").stdout == "one\n"
    assert (md.inspect("one")["State"]["ExitCode"], md("logs", "one").stdout) == (9, "up\nterm\n")
    assert md("stop", "one").stdout == "one\n", "one that has ended is left alone"


def test_stop_signal_is_the_containers_to_choose(md: Minidocker, busybox: Path) -> None:
    start(md, busybox, "sh", "-c", TRAP, options=("--stop-signal", "SIGUSR1"))
    up(md)
    md("stop", "one")
    assert md.inspect("one")["State"]["ExitCode"] == 8
    assert md.inspect("one")["Config"]["StopSignal"] == "SIGUSR1"
    assert "--stop-signal" in md.refused("run", "--net", "none", "--stop-signal", "NOPE", "true")


def test_stop_kills_what_does_not_go(md: Minidocker, busybox: Path) -> None:
    start(md, busybox, "sleep", "1000")  # as PID 1 it ignores TERM
    begun = time.monotonic()
    md("stop", "-t", "1", "one")
    assert time.monotonic() - begun >= 0.9
    assert md.inspect("one")["State"]["ExitCode"] == 137
    start2 = md.start("--net", "none", "--rootfs", busybox, "sleep", "1000")
    md("stop", "-t", "0", start2)
    assert md.inspect(start2)["State"]["ExitCode"] == 137


def test_kill_sends_what_is_asked_for(md: Minidocker, busybox: Path) -> None:
    start(md, busybox, "sh", "-c", TRAP)
    up(md)
    assert md("kill", "-s", "USR1", "one").stdout == "one\n"
    assert md.wait("one")["State"]["ExitCode"] == 8
    assert "not running" in md.refused("kill", "one", code=1)
    assert "--signal" in md.refused("kill", "-s", "NOPE", "one")
    other = md.start("--net", "none", "--rootfs", busybox, "sleep", "1000")
    md("kill", other)
    assert md.inspect(other)["State"]["ExitCode"] == 137


def test_several_at_once_and_one_that_is_missing(md: Minidocker, busybox: Path) -> None:
    for name in ("a", "b"):
        md.start("--net", "none", "--rootfs", busybox, "--name", name, "sleep", "1000")
    done = md("stop", "-t", "0", "a", "nope", "b", check=False)
    assert (done.returncode, done.stdout) == (1, "a\nb\n") and "nope" in done.stderr, "the others are stopped all the same"
    done = md("rm", "a", "nope", "b", check=False)
    assert (done.returncode, done.stdout) == (1, "a\nb\n") and "nope" in done.stderr
    assert md.ps() == []


def test_rm(md: Minidocker, busybox: Path) -> None:
    id = start(md, busybox, "sleep", "1000")
    assert "running" in md.refused("rm", "one", code=1)
    assert md("rm", "-f", "one").stdout == "one\n"
    assert md.ps() == [] and not (md.root / "containers" / id).exists()
    md.run("--rm", "--net", "none", "--name", "one", "--rootfs", busybox, "true")
    assert md.ps() == [], "--rm: gone when run returns, and its name is free"
    md.run("--net", "none", "--name", "one", "--rootfs", busybox, "true")
    assert "one" in md.refused("run", "--net", "none", "--name", "one", "--rootfs", busybox, "true")
    md("rm", "one")


# --- inspect, ps, info ------------------------------------------------------------------------------------------------------------------


def test_inspect_has_dockers_fields(md: Minidocker, busybox: Path, tmp_path: Path) -> None:
    options = (
        "--name", "one", "--net", "br0", "--ip", "172.17.0.77", "--mac-address", "02:42:ac:11:00:aa", "-e", "A=1", "-w", "/srv",
        "-u", "1:2", "--hostname", "host-one", "--label", "k=v", "-v", f"{tmp_path}:/volume:ro", "--tmpfs", "/scratch:size=1m",
        "-m", "64m", "--cpus", "0.5", "--pids-limit", "50", "--read-only", "--cap-add", "NET_ADMIN", "--cap-drop", "KILL",
        "--expose", "80", "-p", "127.0.0.1:8099:80",
        "--add-host", "a:10.0.0.1", "--dns", "10.0.0.53", "--shm-size", "32m", "--ulimit", "nofile=9:99", "--init",
    )  # fmt: skip
    id = md.start(*options, "--rootfs", busybox, "sleep", "1000")
    one = md.inspect("one")
    assert (one["Id"], one["Name"]) == (id, "/one")
    state = one["State"]
    assert (state["Status"], state["Running"], state["ExitCode"], state["OOMKilled"]) == ("running", True, 0, False)
    assert os.path.exists(f"/proc/{state['Pid']}")
    assert STAMP.match(state["StartedAt"] + " ") and state["FinishedAt"] == "0001-01-01T00:00:00Z"
    config = one["Config"]
    assert config["Hostname"] == "host-one" and "A=1" in config["Env"] and config["Labels"] == {"k": "v"}
    assert (config["User"], config["WorkingDir"], config["Cmd"]) == ("1:2", "/srv", ["sleep", "1000"])
    assert config["ExposedPorts"] == {"80/tcp": {}}
    host = one["HostConfig"]
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"], host["ShmSize"]) == (64 << 20, 500_000_000, 50, 32 << 20)
    assert (host["ReadonlyRootfs"], host["Privileged"], host["Init"], host["NetworkMode"]) == (True, False, True, "br0")
    assert host["CapAdd"] in (["NET_ADMIN"], ["CAP_NET_ADMIN"]) and host["CapDrop"] in (["KILL"], ["CAP_KILL"])
    assert host["PortBindings"] == {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8099"}]}
    assert host["ExtraHosts"] == ["a:10.0.0.1"] and host["Dns"] == ["10.0.0.53"]
    assert host["Ulimits"] == [{"Name": "nofile", "Soft": 9, "Hard": 99}]
    mounts = {mount["Destination"]: mount for mount in one["Mounts"]}
    assert (mounts["/volume"]["Type"], mounts["/volume"]["Source"], mounts["/volume"]["RW"]) == ("bind", str(tmp_path), False)
    network = one["NetworkSettings"]["Networks"]["br0"]
    assert (network["IPAddress"], network["IPPrefixLen"]) == ("172.17.0.77", 24)
    assert (network["Gateway"], network["MacAddress"]) == ("172.17.0.1", "02:42:ac:11:00:aa")
    md("stop", "-t", "0", "one")
    state = md.inspect("one")["State"]
    assert (state["Status"], state["Running"], state["Pid"]) == ("exited", False, 0) and STAMP.match(state["FinishedAt"] + " ")


def test_inspect_by_template_and_several(md: Minidocker, busybox: Path) -> None:
    for name in ("a", "b"):
        md.run("--net", "none", "--rootfs", busybox, "--name", name, "sh", "-c", "exit 4", check=False)
    assert md("inspect", "-f", "{{.State.ExitCode}} {{json .State.Running}} {{.Name}}", "a", "b").stdout == "4 false /a\n4 false /b\n"
    assert [document["Name"] for document in json.loads(md("inspect", "a", "b").stdout)] == ["/a", "/b"]
    done = md("inspect", "a", "nope", check=False)
    assert done.returncode == 1 and json.loads(done.stdout)[0]["Name"] == "/a" and "nope" in done.stderr
    assert "Nope" in md.refused("inspect", "-f", "{{.Nope}}", "a")
    assert md.refused("inspect", "-f", "{{.State", "a")


def test_ps_shows_and_filters(md: Minidocker, busybox: Path) -> None:
    md.start("--net", "br0", "--rootfs", busybox, "--name", "web", "--label", "tier=front", "-p", "127.0.0.1:8098:80", "sleep", "1000")
    md.run("--net", "none", "--rootfs", busybox, "--name", "job", "--label", "tier=back", "sh", "-c", "exit 3", check=False)
    header, line = md("ps").stdout.splitlines()
    assert re.split(r"\s{2,}", header) == ["CONTAINER ID", "COMMAND", "CREATED", "STATUS", "NETWORK", "IP", "PORTS", "NAMES"]
    id = md.inspect("web")["Id"]
    ip = md.inspect("web")["NetworkSettings"]["Networks"]["br0"]["IPAddress"]
    for word in (id[:12], '"sleep 1000"', "Up", "br0", ip, "127.0.0.1:8098->80/tcp", "web"):
        assert word in line, word

    def names(*options: str) -> list[str]:
        return str(md("ps", *options, "--format", "{{.Names}}").stdout).split()

    assert names() == ["web"] and names("-a") == ["job", "web"]
    for text, expected in {
        "name=we": ["web"], "status=exited": ["job"], "status=running": ["web"], "network=br0": ["web"], "network=none": ["job"],
        "label=tier": ["job", "web"], "label=tier=back": ["job"], "name=zzz": [],
    }.items():  # fmt: skip
        assert names("-a", "--filter", text) == expected, text
    assert names("-a", "-f", "name=web", "-f", "name=job") == ["job", "web"]
    assert names("-a", "-f", "name=web", "-f", "label=tier=back") == []
    assert md("ps", "-q").stdout == f"{id[:12]}\n" and md("ps", "-q", "--no-trunc").stdout == f"{id}\n"
    row = next(row for row in md.ps() if row["Names"] == "web")
    assert (row["ID"], row["IP"], row["State"], row["Command"]) == (id, ip, "running", "sleep 1000")
    assert re.match(r"Exited \(3\) ", next(row for row in md.ps() if row["Names"] == "job")["Status"])
    assert "--filter" in md.refused("ps", "--filter", "nonsense=1") and "--filter" in md.refused("ps", "--filter", "status=odd")


def test_info_and_version(md: Minidocker, busybox: Path) -> None:
    md.start("--net", "none", "--rootfs", busybox, "sleep", "1000")
    info = json.loads(md("info", "--format", "json").stdout)
    assert (info["Root"], info["Containers"], info["Running"]) == (str(md.root), 1, 1)
    assert info["Kernel"] == os.uname().release and info["CgroupVersion"] in ("1", "2", "hybrid")
    assert {"memory", "pids", "cpu"} <= set(info["CgroupControllers"]) and info["DeviceControl"] != "none"
    assert (info["AppArmor"], info["SELinux"]) == (lsm.apparmor(), lsm.selinux())
    assert "Root: " in md("info").stdout
    version = json.loads(md("version", "--format", "json").stdout)
    assert md("--version").stdout.strip() == f"minidocker {version['Version']}"
    assert info["Version"] == version["Version"]
