"""A container's life between its making and its end: create, start, wait, attach, pause, rename, update, top."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from minidocker.engine.host import lock_holder
from tests import pretend
from tests.e2e.support import Minidocker, Terminal, poll


def listed(md: Minidocker, name: str) -> dict[str, Any]:
    [row] = [row for row in md.ps() if row["Names"] == name]
    return row


def test_a_created_container_has_what_it_will_have_and_holds_nothing_of_the_kernel(md: Minidocker, busybox: Path) -> None:
    words = ("--name", "web", "-p", "8080:80", "-p", "81", "--rootfs", busybox, "sleep", "1000")
    id = md("create", *words).stdout.strip()
    created = listed(md, "web")
    assert (created["ID"], created["State"], created["Status"]) == (id, "created", "Created")
    assert created["IP"] and created["Ports"].startswith("0.0.0.0:8080->80/tcp, 0.0.0.0:")
    assert md("ps", "-q").stdout == "", "it does not run"
    assert not md.cgroups(id) and "br0" not in [link["ifname"] for link in pretend.ip("link")] and not list(md.run_directory.glob("*/*"))
    state = md.inspect("web")["State"]
    assert (state["Status"], state["Running"], state["ExitCode"], state["Pid"]) == ("created", False, 0, 0)
    for words in (("kill", "web"), ("exec", "web", "true")):
        assert "created" in md.refused(*words, code=1)
    assert md("stop", "web").stdout == "web\n" and md.logs("web") == ""

    md("start", "web")
    started = listed(md, "web")
    assert [started[key] for key in ("ID", "State", "IP", "Ports")] == [id, "running", created["IP"], created["Ports"]]
    assert md("exec", "web", "hostname", "-i").stdout.strip() == created["IP"]


def test_what_a_created_container_has_nobody_else_gets(md: Minidocker, busybox: Path) -> None:
    made = ("create", "--name", "one", "-p", "8080:80", "--ip", "172.17.0.9", "--rootfs", busybox, "sleep", "1000")
    md(*made)
    for options in (("--name", "one"), ("-p", "8080:1"), ("--ip", "172.17.0.9")):
        refused = md.refused("run", "--rm", *options, "--rootfs", busybox, "true")
        assert "in use" in refused or "published by container `one`" in refused
    assert "rm -f one" in md.refused("network", "rm", "br0", code=1)
    md.start("--name", "two", "--rootfs", busybox, "sleep", "1000")
    assert json.loads(md("network", "inspect", "br0").stdout)[0]["Containers"].keys() == {listed(md, "two")["ID"]}, "only who is in it"
    assert "`one`" not in md("network", "doctor", check=False).stdout
    md("rm", "one")
    assert md.run("--rm", "-p", "8080:80", "--ip", "172.17.0.9", "--rootfs", busybox, "echo", "free").stdout == "free\n"


def test_a_created_container_moves_between_networks(md: Minidocker, busybox: Path) -> None:
    md("network", "create", "back")
    md("create", "--name", "web", "--net", "back", "-p", "80:80", "--rootfs", busybox, "sleep", "1000")
    before = listed(md, "web")
    md("network", "connect", "br0", "web")
    both = listed(md, "web")
    assert both["Networks"] == "back, br0" and both["IP"].startswith(before["IP"] + ", ") and both["Ports"] == before["Ports"]
    md("network", "disconnect", "back", "web")
    only = listed(md, "web")
    assert (only["Networks"], only["IP"]) == ("br0", both["IP"].split(", ")[1])
    md("network", "rm", "back")
    md("start", "web")
    assert listed(md, "web")["IP"] == only["IP"]


def test_create_refuses_what_run_does_and_leaves_nothing(md: Minidocker, busybox: Path) -> None:
    assert "no such" in md.refused("create", "--net", "nowhere", "--rootfs", busybox, "true").lower()
    assert "does not exist" in md.refused("create", "-v", "/no/such:/x", "--rootfs", busybox, "true")
    assert "unknown option" in md.refused("create", "-d", "true", code=125)
    assert md.ps() == [] and not list((md.root / "containers").glob("*"))


def test_a_created_container_outlives_a_reboot_and_a_start_that_fails(md: Minidocker, busybox: Path) -> None:
    md("create", "--name", "bad", "--rootfs", busybox, "no-such-program")
    md("create", "--name", "gone", "--rm", "--rootfs", busybox, "true")
    with sqlite3.connect(md.root / "state.db") as state:
        state.execute("UPDATE containers SET boot = 'another'")
    assert {row["Names"]: row["State"] for row in md.ps()} == {"bad": "created", "gone": "created"}
    assert "no-such-program" in md.refused("start", "bad", code=1)
    assert listed(md, "bad")["State"] == "exited" and listed(md, "bad")["IP"] == ""
    md("start", "gone")
    poll(lambda: [row["Names"] for row in md.ps()] == ["bad"], "--rm takes it away when it ends")


def test_the_id_goes_into_a_file_that_was_not_there(md: Minidocker, busybox: Path, tmp_path: Path) -> None:
    one, two, three, taken = (tmp_path / name for name in ("one", "two", "three", "taken"))
    taken.write_text("another's")
    assert md.start("--cidfile", one, "--name", "one", "--net", "none", "--rootfs", busybox, "sleep", "1000") == one.read_text()
    made = md("create", "--cidfile", "two", "--rootfs", busybox, "true", cwd=tmp_path).stdout.strip()
    assert made == two.read_text() and md.inspect(made)["HostConfig"]["ContainerIDFile"] == str(two)
    read = md.run("--rm", "--cidfile", three, "--net", "none", "-v", f"{tmp_path}:/here", "--rootfs", busybox, "sh", "-c",
                  "until [ -s /here/three ]; do sleep 0.01; done; cat /here/three").stdout  # fmt: skip
    assert read == three.read_text() and len(read) == 64, "it is there while the program runs"
    for words in (("run", "--rm"), ("run", "-d"), ("create",)):
        assert "exists already" in md.refused(*words, "--cidfile", taken, "--rootfs", busybox, "true")
    assert taken.read_text() == "another's"
    md.refused("run", "--cidfile", tmp_path / "four", "--rootfs", busybox, "no-such", code=127)
    assert "no/where" in md.refused("run", "--cidfile", tmp_path / "no/where", "--rootfs", busybox, "true")
    assert not (tmp_path / "four").exists(), "what did not start has no id"
    md("restart", "-t", "0", "one")
    assert one.read_text() == md.inspect("one")["Id"]


def test_the_pid_is_in_a_file_as_long_as_the_process_lives(md: Minidocker, busybox: Path, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    file.write_text("1")
    md.start("--pidfile", file, "--name", "one", "--net", "none", "--rootfs", busybox, "sleep", "1000")
    assert int(file.read_text()) == md.inspect("one")["State"]["Pid"]
    first = file.read_text()
    md("kill", "one")
    assert not file.exists()
    md("start", "one")
    assert int(file.read_text()) == md.inspect("one")["State"]["Pid"] and file.read_text() != first
    file.write_text("1")
    md("rm", "-f", "one")
    assert file.read_text() == "1", "what is not ours stays"
    assert str(file) in md.run("--dry-run", "--pidfile", file, "--rootfs", busybox, "true").stdout


def test_each_container_has_its_own_patience(md: Minidocker, busybox: Path) -> None:
    deaf = ("--net", "none", "--rootfs", busybox, "sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done")
    md.start("--name", "one", "--stop-timeout", "0", *deaf)
    poll(lambda: md.logs("one") == "up\n", "it ignores TERM")
    assert "timeout 1 " in md("stop", "-t", "1", "--explain", "one", check=False).stderr, "what stop is told counts more"
    assert md.inspect("one")["State"]["ExitCode"] == 137 and md.inspect("one")["Config"]["StopTimeout"] == 0
    md("start", "one")
    poll(lambda: md.logs("one") == "up\nup\n", "it ignores TERM")
    explained = md("stop", "--explain", "one", check=False).stderr
    assert "timeout" not in explained and "kill -KILL" in explained
    assert "seconds" in md.refused("run", "--stop-timeout", "soon", "--rootfs", busybox, "true")


def ticking(md: Minidocker, busybox: Path, name: str, *options: str) -> str:
    """A container that writes a number ten times a second; its id."""
    loop = "n=0; while :; do n=$((n+1)); echo $n > /tick; sleep 0.1; done"
    id = md.start("--name", name, "--net", "none", *options, "--rootfs", busybox, "sh", "-c", loop)
    poll(lambda: tick(md, id) > 0, "it ticks")
    return id


def tick(md: Minidocker, id: str) -> int:
    file = md.root / "containers" / id / "upper" / "tick"
    return int(file.read_text() or 0) if file.exists() else 0


def stands_still(md: Minidocker, id: str) -> bool:
    before = tick(md, id)
    time.sleep(0.35)
    return tick(md, id) == before


def test_a_paused_container_stands_still_and_goes_on(md: Minidocker, busybox: Path) -> None:
    id = ticking(md, busybox, "one")
    assert md("pause", "one").stdout == "one\n"
    assert stands_still(md, id)
    row = listed(md, "one")
    assert row["State"] == "paused" and row["Status"].startswith("Up ") and row["Status"].endswith(" (Paused)")
    assert md("ps", "-q", "-f", "status=paused").stdout.strip() == md("ps", "-q").stdout.strip() == id[:12]
    assert md("ps", "-aq", "-f", "status=running").stdout == ""
    state = md.inspect("one")["State"]
    assert (state["Status"], state["Running"], state["Paused"]) == ("paused", True, True)
    assert "is paused" in md.refused("exec", "one", "true", code=1)
    assert "paused already" in md.refused("pause", "one", code=1)
    assert "unpause" in md.refused("start", "one", code=1)
    md("unpause", "one")
    assert not stands_still(md, id) and listed(md, "one")["State"] == "running" and not md.inspect("one")["State"]["Paused"]
    assert "not paused" in md.refused("unpause", "one", code=1)
    assert md("exec", "one", "echo", "again").stdout == "again\n"


@pytest.mark.parametrize("words", [("stop", "-t", "5"), ("kill",), ("kill", "-s", "TERM"), ("rm", "-f"), ("restart", "-t", "5")])
def test_a_paused_container_can_be_ended(md: Minidocker, busybox: Path, words: tuple[str, ...]) -> None:
    trap = "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done"
    for name in ("one", "two"):
        md.start("--name", name, "--net", "none", "--rootfs", busybox, "sh", "-c", trap)
    poll(lambda: md.logs("one") == md.logs("two") == "up\n", "both listen")
    md("pause", "one", "two")
    assert md(*words, "one", "two").stdout == "one\ntwo\n"
    if words[0] == "rm":
        assert md.ps() == []
    elif words[0] == "restart":
        assert [row["State"] for row in md.ps()] == ["running", "running"]
    else:
        code = 137 if words == ("kill",) else 5
        assert [md.wait(name)["State"]["ExitCode"] for name in ("one", "two")] == [code, code]
        assert [row["State"] for row in md.ps()] == ["exited", "exited"]


def test_a_paused_container_whose_monitor_was_killed_is_gone(md: Minidocker, busybox: Path) -> None:
    ticking(md, busybox, "one")
    md("pause", "one")
    lock = md.run_directory / "containers" / md.inspect("one")["Id"] / "lock"
    os.kill(lock_holder(str(lock)), signal.SIGKILL)
    poll(lambda: md("ps", "-q", check=False).stdout == "", "it is known to have ended")
    assert "unknown" in listed(md, "one")["Status"]
    md("start", "one")
    assert listed(md, "one")["State"] == "running", "a new run is not paused"


def test_pausing_is_explained(md: Minidocker, busybox: Path) -> None:
    id = ticking(md, busybox, "one")
    for command, words in (("pause", ("FROZEN", "echo 1")), ("unpause", ("THAWED", "echo 0"))):
        said = md(command, "--explain", "one", check=False)
        assert said.returncode == 0 and any(word in said.stderr for word in words) and id in said.stderr and "freeze" in said.stderr
    assert "not running" in md.refused("pause", md("create", "--rootfs", busybox, "true").stdout.strip(), code=1)


def test_wait_prints_how_each_has_ended(md: Minidocker, busybox: Path, tmp_path: Path) -> None:
    script = "until [ -e /here/$0 ]; do sleep 0.05; done; exit $1"
    end = ("-v", f"{tmp_path}:/here", "--net", "none", "--rootfs", busybox, "sh", "-c", script)
    md.start("--name", "kept", *end, "a", "3")
    md.start("--name", "gone", "--rm", *end, "b", "4")
    md("create", "--name", "made", *end, "c", "5")
    with md.open("wait", "kept", "gone", "made") as waiting:
        time.sleep(0.5)
        assert waiting.poll() is None
        (tmp_path / "b").touch()  # this one's record goes before it is waited for
        poll(lambda: [row["Names"] for row in md.ps()] == ["made", "kept"], "--rm has taken it away")
        (tmp_path / "a").touch()
        assert [waiting.line(), waiting.line(), waiting.line()] == ["3", "4", "0"]
        assert waiting.wait(20) == 0
    assert listed(md, "kept")["State"] == "exited", "it is written down by then"
    assert md("wait", "kept").stdout == "3\n"
    done = md("wait", "nobody", "kept", check=False)
    assert (done.returncode, done.stdout) == (1, "3\n") and "no such container: nobody" in done.stderr


def test_wait_for_one_in_the_foreground_and_one_whose_end_nobody_saw(md: Minidocker, busybox: Path) -> None:
    script = "echo up; read x; exit 6"
    with md.open("run", "-i", "--rm", "--name", "front", "--net", "none", "--rootfs", busybox, "sh", "-c", script) as run:
        assert run.line() == "up"
        with md.open("wait", "front") as waiting:
            time.sleep(0.3)
            run.communicate(b"x\n", timeout=20)
            assert waiting.line() == "6"
    md.start("--name", "one", "--net", "none", "--rootfs", busybox, "sleep", "1000")
    with md.open("wait", "one") as waiting:
        time.sleep(0.3)
        os.kill(lock_holder(str(md.run_directory / "containers" / md.inspect("one")["Id"] / "lock")), signal.SIGKILL)
        assert waiting.wait(20) == 1
        assert waiting.stdout is not None and waiting.stdout.read() == b""
        assert waiting.stderr is not None and b"unknown" in waiting.stderr.read()


def test_start_attached_is_its_client_from_the_first_byte_on(md: Minidocker, busybox: Path) -> None:
    md("create", "--name", "one", "-i", "--net", "none", "--rootfs", busybox, "sh", "-c", "echo out; echo err >&2; cat; exit 7")
    done = md("start", "-ai", "one", input="typed", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\ntyped", "err\n")
    with md.open("start", "-a", "one") as child:  # no stdin: cat waits
        assert child.line() == "out"
        child.kill()
    assert listed(md, "one")["State"] == "running", "its client's death is not its own"
    done = md("attach", "one", input="more", check=False)
    assert (done.returncode, done.stdout) == (7, "more")
    assert md("logs", "one", check=False).stdout == "out\ntypedout\nmore"
    assert "only one" in md.refused("start", "-a", "one", "one", code=125)
    assert "no-such" in md.refused("start", "-a", md("create", "--rootfs", busybox, "no-such").stdout.strip(), code=127)


def test_attach_one_after_the_other(md: Minidocker, busybox: Path) -> None:
    script = "trap 'echo int' INT; while read x; do echo got $x; [ $x = end ] && exit 9; done"
    md.start("-it", "--name", "one", "--net", "none", "--rootfs", busybox, "sh", "-c", script)
    for number in range(3):
        with Terminal(md.argv("attach", "--detach-keys", "ctrl-a,d", "one"), 30, 90) as terminal:
            terminal.type(b"%d\n" % number)
            terminal.until(b"got %d\r\n" % number)
            if number == 1:
                assert "attached to the container already" in md.refused("attach", "--no-stdin", "one", code=1)
            terminal.type(b"\x01d")
            assert terminal.wait() == 0 and terminal.is_restored()
    with Terminal(md.argv("attach", "one"), 33, 99) as terminal:
        poll(lambda: md("exec", "one", "stty", "-F", "/dev/pts/0", "size").stdout == "33 99\n", "the window's size is passed on")
        terminal.process.kill()
    assert listed(md, "one")["State"] == "running"
    with Terminal(md.argv("attach", "one")) as terminal:
        terminal.type(b"end\n")
        terminal.until(b"got end\r\n")
        assert terminal.wait() == 9
    assert listed(md, "one")["State"] == "exited"
    for words in (("attach", "one"), ("attach", "--sig-proxy=perhaps", "one")):
        md.refused(*words, code=1 if len(words) == 2 else 125)


def test_attach_passes_signals_on_unless_it_is_not_to(md: Minidocker, busybox: Path) -> None:
    script = "trap 'echo int' INT; trap 'exit 4' TERM; while :; do sleep 0.05; echo .; done"
    md.start("--name", "one", "--net", "none", "--rootfs", busybox, "sh", "-c", script)
    with md.open("attach", "--sig-proxy=false", "one", stdin=subprocess.DEVNULL) as child:
        assert child.line() == "."
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 130
    assert "int" not in md.logs("one")
    with md.open("attach", "one", stdin=subprocess.DEVNULL) as child:
        assert child.line() == "."
        child.send_signal(signal.SIGINT)
        poll(lambda: child.line() == "int", "the program gets it")
        child.send_signal(signal.SIGTERM)
        assert child.wait(20) == 4
    md("start", "one")
    md("pause", "one")
    assert "paused" in md.refused("attach", "one", code=1)
    with md.open("run", "--rm", "--name", "front", "--net", "none", "--rootfs", busybox, "sh", "-c", "echo up; sleep 1000") as run:
        assert run.line() == "up"
        assert "logs -f front" in md.refused("attach", "front", code=1)
        md("kill", "front")


def test_stdin_of_a_detached_container_stays_open(md: Minidocker, busybox: Path) -> None:
    md.start("-i", "--name", "one", "--net", "none", "--rootfs", busybox, "sh", "-c", "cat; echo over")
    for word in ("a", "b"):
        with md.open("attach", "one") as child:
            assert child.stdin is not None
            child.stdin.write(word.encode() + b"\n")
            child.stdin.close()
            assert child.line() == word
            child.kill()
    assert md.logs("one") == "a\nb\n" and listed(md, "one")["State"] == "running"


def test_exec_on_a_terminal_ends_as_its_command_does(md: Minidocker, busybox: Path) -> None:
    md.start("--name", "one", "--net", "none", "--rootfs", busybox, "sleep", "1000")
    script = "stty size; trap 'stty size; exit 42' WINCH; echo up; while :; do sleep 0.05; done"
    with Terminal(md.argv("exec", "-it", "one", "sh", "-c", script), 20, 70) as terminal:
        assert b"20 70" in terminal.until(b"up\r\n")
        terminal.resize(21, 71)
        terminal.until(b"21 71\r\n")
        assert terminal.wait() == 42 and terminal.is_restored()


def limits_of(md: Minidocker, id: str) -> dict[str, str]:
    """What the kernel holds it to, by v1's names or v2's."""
    files = {
        "memory": ("memory.limit_in_bytes", "memory.max"), "pids": ("pids.max",), "cpuset": ("cpuset.cpus",),
        "cpu": ("cpu.cfs_quota_us", "cpu.max"),
    }  # fmt: skip
    found = {}
    for controller, names in files.items():
        directory = md.cgroup(id, controller)
        found[controller] = next((directory / name).read_text().split()[0] for name in names if (directory / name).exists())
    return found


def test_limits_change_at_once_and_stay(md: Minidocker, busybox: Path) -> None:
    options = ("-m", "64m", "--cpus", "1", "--cpuset-cpus", "0", "--pids-limit", "20", "--net", "none", "--rootfs", busybox)
    id = md.start("--name", "one", *options, "sleep", "1000")
    changed = md("update", "-m", "128m", "--cpus", "0.5", "-c", "512", "--pids-limit", "30", "--memory-reservation", "32m", "one")
    assert changed.stdout == "one\n"
    now = limits_of(md, id)
    assert (now["memory"], now["cpu"], now["pids"], now["cpuset"]) == (str(128 << 20), "50000", "30", "0")
    md("restart", "-t", "0", "one")
    assert limits_of(md, id) == now, "its next start has them, too"
    config = md.inspect("one")["HostConfig"]
    assert (config["Memory"], config["NanoCpus"], config["CpuShares"], config["PidsLimit"]) == (128 << 20, 5 * 10**8, 512, 30)
    md("update", "-m", "0", "--memory-reservation", "0", "--cpus", "0", "--pids-limit", "-1", "one")
    free = limits_of(md, id)
    assert free["memory"] == "max" or int(free["memory"]) > 1 << 60
    assert (free["cpu"] in ("-1", "max"), free["pids"]) == (True, "max")
    md("stop", "-t", "0", "one")
    md("update", "-m", "96m", "one")
    md("start", "one")
    assert limits_of(md, id)["memory"] == str(96 << 20)


def test_limits_that_contradict_each_other_change_nothing(md: Minidocker, busybox: Path) -> None:
    id = md.start("--name", "one", "-m", "64m", "--memory-reservation", "32m", "--net", "none", "--rootfs", busybox, "sleep", "1000")
    before = md.inspect("one")["HostConfig"]
    assert "below --memory" in md.refused("update", "--memory-swap", "16m", "one", code=1)
    assert "above --memory" in md.refused("update", "-m", "16m", "one", code=1)
    assert "there" in md.refused("update", "--cpuset-cpus", "4000", "one", code=1)
    assert "needs a limit" in md.refused("update", "one", code=125)
    assert "no such container" in md.refused("update", "-m", "64m", "two", code=1)
    assert md.inspect("one")["HostConfig"] == before
    said = md("update", "--explain", "-m", "65m", "one", check=False)
    assert said.returncode == 0 and str(65 << 20) in said.stderr and id in said.stderr


def test_a_renamed_container_is_found_by_its_new_name_at_once(md: Minidocker, busybox: Path) -> None:
    md("network", "create", "back")
    id = md.start("--name", "old", "--net", "br0:alias=db", "--net", "back", "--rootfs", busybox, "sleep", "1000")
    md.start("--name", "one", "--rootfs", busybox, "sleep", "1000")
    md.start("--name", "sharer", "--net", "container:old", "--rootfs", busybox, "sleep", "1000")
    ip = listed(md, "old")["IP"].split(", ")[0]
    assert md("exec", "one", "nslookup", "old", check=False).returncode == 0
    said = md("rename", "--explain", "old", "new", check=False)
    assert (said.returncode, said.stdout) == (0, "") and "/run/netns/new" in said.stderr and f"new db {id[:12]}" in said.stderr
    hosts = md("exec", "one", "grep", "-v", "^#", "/etc/hosts").stdout
    assert hosts.count(id[:12]) == 1 and f"{ip}\tnew db {id[:12]}" in hosts
    assert md("exec", "new", "grep", "-c", f"^[^#].*new.*{id[:12]}", "/etc/hosts").stdout == "2\n", "in its own file, of both networks"
    answer = md("exec", "one", "nslookup", "new", check=False)
    assert answer.returncode == 0 and ip in answer.stdout
    assert md("exec", "one", "nslookup", "old", check=False).returncode != 0
    assert "new" in os.listdir("/run/netns") and "old" not in os.listdir("/run/netns")
    assert listed(md, "new")["ID"] == id and md.inspect("new")["Name"] == "/new"
    md("stop", "-t", "0", "sharer")
    md("start", "sharer")
    assert md.inspect("sharer")["HostConfig"]["NetworkMode"] == "container:new"
    md("restart", "-t", "0", "new")
    assert md("exec", "one", "nslookup", "new", check=False).returncode == 0
    md("rm", "-f", "new", "sharer")
    assert "new" not in os.listdir("/run/netns") and id[:12] not in md("exec", "one", "grep", "-v", "^#", "/etc/hosts").stdout


def test_a_name_that_is_taken_or_wrong_is_refused_and_changes_nothing(md: Minidocker, busybox: Path) -> None:
    md("create", "--name", "one", "--rootfs", busybox, "true")
    md.start("--name", "two", "--rootfs", busybox, "sleep", "1000")
    before = md("exec", "two", "cat", "/etc/hosts").stdout
    assert "in use by container" in md.refused("rename", "two", "one", code=1)
    assert "already" in md.refused("rename", "two", "two", code=1)
    assert "no such container" in md.refused("rename", "three", "four", code=1)
    md.refused("rename", "two", "a b", code=125)
    assert md("exec", "two", "cat", "/etc/hosts").stdout == before and listed(md, "two")["State"] == "running"
    md("rename", "one", "three")
    assert listed(md, "three")["State"] == "created"
    md("rename", "two", "one")
    assert listed(md, "one")["State"] == "running"


def test_top_shows_its_processes_as_ps_does(md: Minidocker, busybox: Path) -> None:
    md.start("--name", "one", "--net", "none", "--rootfs", busybox, "sh", "-c", "sleep 1001 & exec sleep 1000")
    md.start("--name", "two", "--net", "none", "--rootfs", busybox, "sleep", "1002")
    md("exec", "-d", "one", "sleep", "1003")
    pid = md.inspect("one")["State"]["Pid"]
    poll(lambda: "sleep 1001" in md("top", "one").stdout, "both run")
    heading, *lines = md("top", "one").stdout.splitlines()
    assert heading.split()[:3] == ["UID", "PID", "PPID"]
    assert sorted(line.split(None, 7)[7] for line in lines) == ["sleep 1000", "sleep 1001", "sleep 1003"]
    assert str(pid) in [line.split()[1] for line in lines]
    for words in (("pid,args",), ("pid", "args")):
        heading, *lines = md("top", "one", *words).stdout.splitlines()
        assert heading.split() == ["PID", "COMMAND"] and f"{pid} sleep 1000" in [line.strip() for line in lines] and len(lines) == 3
    assert md("top", "one", "comm").stdout == "COMMAND\n" + 3 * "sleep\n"
    assert md("top", "one", "aux").stdout.splitlines()[0].split()[:2] == ["USER", "PID"]
    assert len(md("top", "one", "-eo", "user,pid").stdout.splitlines()) == 4
    assert "no column PID" in md.refused("top", "one", "-eo", "user", code=125)
    assert "ps --no-such" in md.refused("top", "one", "--no-such", code=125)
    md("pause", "one")
    assert len(md("top", "one").stdout.splitlines()) == 4
    md("stop", "-t", "0", "one")
    assert "exited" in md.refused("top", "one", code=1)
