"""The Python API against real containers: what it returns, raises, and leaves in the process that uses it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import minidocker
from minidocker.errors import ConflictError, NotFoundError, StateError, TargetNotExecutable, TargetNotFound, UsageError
from tests.e2e.support import REPOSITORY, Minidocker, poll
from tests.pretend import sh


@pytest.fixture
def client(md: Minidocker) -> Iterator[minidocker.Client]:
    """One on the data root of `md`; what it opened in this process is closed again, what it started is reaped."""
    before = opened() | children()
    yield minidocker.Client(md.root)
    assert opened() | children() <= before  # what other tests have left in this process may go meanwhile


def opened() -> set[str]:
    return {f"descriptor {number}" for number in os.listdir("/proc/self/fd")}


def children() -> set[str]:
    return {f"child {pid}" for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


def test_a_detached_container_is_an_object_and_goes_with_its_block(
    client: minidocker.Client, md: Minidocker, busybox: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script = "echo hello; echo oops >&2; exec sleep 1000"
    with client.run(["sh", "-c", script], name="web", net="br0", rootfs=str(busybox), env={"A": 1}, detach=True) as c:
        assert c.name == "web" and c.status == "running" and c.exit_code is None
        assert c.ips == {"br0": c.ip} and f" {c.ip}/24 " in c.exec(["ip", "addr"]).stdout
        poll(lambda: c.logs() == "hello\noops\n", "both lines are in the log")
        assert c.logs(tail=1) == "oops\n" and c.logs(timestamps=True).startswith("20")
        done = c.exec(["sh", "-c", "echo $A; cat; echo e >&2; exit 3"], input="typed")
        assert (done.exit_code, done.stdout, done.stderr) == (3, "1\ntyped", "e\n")
        assert client.containers.list() == [c] and client.containers.get(c.id[:12]) == c
        with pytest.raises(StateError):
            c.remove()
    assert client.containers.list(all=True) == [] == md.ps()
    assert capfd.readouterr() == ("", "")


def test_without_detach_it_waits_and_says_how_it_ended(client: minidocker.Client, busybox: Path, capfd: pytest.CaptureFixture[str]) -> None:
    options: Any = {"net": "none", "rootfs": str(busybox), "rm": True}
    done = client.run(["sh", "-c", "cat; echo e >&2; exit 5"], input=b"in\xff\n", **options)
    assert (done.exit_code, os.fsencode(done.stdout), done.stderr) == (5, b"in\xff\n", "e\n")
    much = client.run(["dd", "if=/dev/zero", "bs=1k", "count=3000"], **options)
    assert much.exit_code == 0 and len(much.stdout) == 3000 * 1024
    assert capfd.readouterr() == ("", "") and client.containers.list(all=True) == []


def test_its_errors_are_ours(client: minidocker.Client, busybox: Path, tmp_path: Path) -> None:
    with pytest.raises(TargetNotFound) as missing:
        client.run(["nosuch"], net="none")
    assert missing.value.exit_code == 127 and "`nosuch` is not found" in str(missing.value) and missing.value.hint
    (tmp_path / "text").write_text("no program")
    with pytest.raises(TargetNotExecutable):
        client.run([str(tmp_path / "text")], net="none")
    with pytest.raises(UsageError, match="--memory"):
        client.run(["true"], memory="much")
    with pytest.raises(NotFoundError, match="no such container: x"):
        client.containers.get("x")
    with client.run(["sleep", "1000"], name="a", net="none", rootfs=str(busybox), detach=True), pytest.raises(ConflictError, match="`a`"):
        client.containers.create(["true"], name="a", net="none")
    assert client.containers.list(all=True) == []


def test_the_life_of_a_container_and_of_a_network(client: minidocker.Client, busybox: Path) -> None:
    lab = client.networks.create("lab", subnet="10.77.5.0/24")
    assert (lab.subnet, lab.gateway) == ("10.77.5.0/24", "10.77.5.1") and client.networks.list() == [lab] == [client.networks.get("lab")]
    c = client.containers.create(["sh", "-c", "trap 'exit 4' TERM; sleep 1000 & wait"], name="c", net="none", rootfs=str(busybox))
    assert c.status == "created" and client.containers.list() == []
    c.start()
    with pytest.raises(StateError, match="no address"):
        c.ip  # noqa: B018
    with pytest.raises(StateError, match="still runs"):
        c.wait(timeout=0)
    poll(lambda: c.exec(["pidof", "sleep"]).exit_code == 0, "it waits for its signal")
    c.kill("TERM")
    assert c.wait() == 4 == c.exit_code and client.containers.list(all=True, filter={"status": "exited"}) == [c]
    c.restart()
    c.pause()
    assert c.status == "paused"
    c.unpause()
    with pytest.raises(StateError, match="still runs after 0.2 s"):
        c.wait(timeout=0.2)
    c.kill()
    assert c.exit_code == 137
    c.remove()
    with client.run(["sleep", "1000"], net="br0", rootfs=str(busybox), detach=True) as d:
        lab.connect(d, ip="10.77.5.77")
        assert d.ips["lab"] == "10.77.5.77"
        with pytest.raises(StateError):
            lab.remove()
        lab.disconnect(d)
        assert list(d.ips) == ["br0"]
    lab.remove()
    with pytest.raises(NotFoundError):
        lab.inspect()


def test_many_threads_at_once(client: minidocker.Client, busybox: Path) -> None:
    found: dict[int, str] = {}

    def one(number: int) -> None:
        with client.run(["sleep", "1000"], net="br0", rootfs=str(busybox), detach=True) as c:
            found[number] = c.exec(["echo", str(number), c.ip]).stdout

    threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {number: text.split()[0] for number, text in found.items()} == {number: str(number) for number in range(6)}
    assert len({text.split()[1] for text in found.values()}) == 6


PROGRAM = """if True:
    import os, signal, sys
    import minidocker
    client = minidocker.Client(sys.argv[1])
    if sys.argv[2] == "reap":  # as a supervisor does
        signal.signal(signal.SIGCHLD, lambda number, frame: os.waitpid(-1, os.WNOHANG))
    elif sys.argv[2] == "ignore":
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    options = dict(net="none", rootfs=sys.argv[3])
    with client.run(["sleep", "1000"], detach=True, **options) as c:
        print(c.exec(["sh", "-c", "exit 3"]).exit_code, client.run(["sh", "-c", "exit 5"], rm=True, **options).exit_code, c.status)
        if sys.argv[2] == "wait":
            print("waiting", flush=True)
            client.run(["sleep", "1001"], name="foreground", **options)
"""


def test_by_another_interpreter_than_the_container_s_monitor(md: Minidocker, busybox: Path, tmp_path: Path) -> None:
    """The helper executes itself anew from a read-only mount before it enters a container (engine/execute.py), and still knows its task."""
    python = shutil.copy(os.path.realpath(sys.executable), tmp_path / "python3")
    md.start("--name", "web", "--net", "none", "--rootfs", busybox, "sleep", "1000")
    program = "import sys, minidocker; print(minidocker.Client(sys.argv[1]).containers.get('web').exec(['cat'], input='typed'))"
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{Path(click.__file__).parents[1]}"}
    done = subprocess.run([python, "-c", program, str(md.root)], capture_output=True, text=True, env=environment)
    assert done.stdout == "Result(exit_code=0, stdout='typed', stderr='')\n", done.stderr


def test_its_anonymous_volumes_go_with_it(client: minidocker.Client, md: Minidocker, busybox: Path) -> None:
    with client.run(["sleep", "1000"], net="none", rootfs=str(busybox), volume=["/data", "named:/kept"], detach=True):
        assert len(md("volume", "ls", "-q").stdout.splitlines()) == 2
    assert md("volume", "ls", "-q").stdout == "named\n"
    md("volume", "rm", "named")


@pytest.mark.parametrize("kind", ["reap", "ignore"])
def test_a_process_that_reaps_for_itself(md: Minidocker, busybox: Path, kind: str) -> None:
    argv = [sys.executable, "-c", PROGRAM, str(md.root), kind, str(busybox)]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=REPOSITORY)
    assert (done.stdout, done.stderr, done.returncode) == ("3 5 running\n", "", 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_what_is_in_the_foreground_ends_with_whoever_waits(md: Minidocker, busybox: Path, number: int) -> None:
    argv = [sys.executable, "-c", PROGRAM, str(md.root), "wait", str(busybox)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY) as waiting:
        poll(lambda: any(record["Names"] == "foreground" and record["State"] == "running" for record in md.ps()), "it runs")
        waiting.send_signal(number)
        _, complaint = waiting.communicate()
    assert ("KeyboardInterrupt" in complaint) == (number == signal.SIGINT)
    poll(lambda: md.inspect("foreground")["State"]["Status"] == "exited", "it has ended")
    # the detached one goes where its block could be left
    assert [record["State"] for record in md.ps() if record["Names"] != "foreground"] == ["running"] * (number == signal.SIGKILL)


def test_a_notice_is_a_warning(client: minidocker.Client, busybox: Path) -> None:
    sh("ip link add taken0 type bridge; ip addr add 172.17.0.5/24 dev taken0; ip link set taken0 up")
    try:
        with pytest.warns(minidocker.Notice, match=r"br0 takes 172\.17\.1\.0"):
            client.run(["true"], net="br0", rootfs=str(busybox), rm=True)
    finally:
        sh("ip link del taken0")
