"""`exec`: one more process in a running container, with that container's privileges and limits."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.support import Minidocker, Terminal, poll


@pytest.fixture
def one(md: Minidocker, busybox: Path) -> str:
    """A running container called `one`, made with some options that an exec has to take over; its id."""
    options = ("-e", "MADE=1", "-e", "BOTH=made", "-w", "/srv/made", "--hostname", "host-one", "--net", "none")
    return md.start("--name", "one", *options, "--rootfs", busybox, "sleep", "1000")


def test_it_runs_beside_what_runs(md: Minidocker, one: str) -> None:
    assert md("exec", "one", "sh", "-c", "echo out; echo err >&2; exit 7", check=False).returncode == 7
    done = md("exec", "one", "sh", "-c", "hostname; pwd; echo $MADE $BOTH $HOME; id -u", check=False)
    assert (done.stdout.split("\n"), done.stderr) == (["host-one", "/srv/made", "1 made /root", "0", ""], "")
    assert "sleep 1000" in md("exec", one[:12], "ps").stdout


def test_environment_directory_and_user_are_its_own_to_choose(md: Minidocker, one: str, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("# a comment\nFROM_FILE=a b\n")
    options = ("-e", "BOTH=exec", "-e", "PASSED", "--env-file", tmp_path / "env", "-w", "/tmp", "-u", "daemon")
    script = "echo $MADE $BOTH $PASSED $FROM_FILE; pwd; id"
    done = md("exec", *options, "one", "sh", "-c", script, env={"PASSED": "on"})
    assert done.stdout.splitlines() == ["1 exec on a b", "/tmp", "uid=1(daemon) gid=1(daemon) groups=1(daemon)"]
    assert md("exec", "-u", "1234:5678", "one", "id").stdout == "uid=1234 gid=5678 groups=5678\n"
    for user in ("nobody-such", "root:no-such-group"):
        assert user.split(":")[-1] in md.refused("exec", "-u", user, "one", "id", code=1)


def test_streams_are_byte_exact_and_stdin_comes_with_i_alone(md: Minidocker, one: str) -> None:
    data = os.urandom(1_000_000)
    done = md("exec", "-i", "one", "sh", "-c", "cat; printf '\\000\\377' >&2", input=data, check=False)
    assert (done.stdout, done.stderr, done.returncode) == (data, b"\0\xff", 0)
    assert md("exec", "one", "cat", input="not for you").stdout == ""


@pytest.mark.parametrize(("words", "code"), [(("no-such",), 127), (("/etc",), 126), (("/etc/passwd",), 126), (("./x/y",), 127)])
def test_what_cannot_be_run(md: Minidocker, one: str, words: tuple[str, ...], code: int) -> None:
    for option in ((), ("-d",), ("-t",)):
        md.refused("exec", *option, "one", *words, code=code)


def test_signals_are_forwarded_and_a_death_by_signal_is_told(md: Minidocker, one: str) -> None:
    with md.open("exec", "one", "sh", "-c", "trap 'echo got; exit 5' TERM; echo up; while :; do sleep 0.01; done") as child:
        assert child.line() == "up"
        child.send_signal(signal.SIGTERM)
        assert child.line() == "got"
        assert child.wait(20) == 5
    with md.open("exec", "one", "sh", "-c", "echo up; while :; do sleep 0.01; done") as child:
        assert child.line() == "up"
        child.send_signal(signal.SIGTERM)
        assert child.wait(20) == 128 + signal.SIGTERM


def test_on_a_terminal(md: Minidocker, one: str) -> None:
    program = "tty; stty size; echo $TERM; trap 'stty size' WINCH; echo ready; while :; do sleep 0.01; done"
    with Terminal(md.argv("exec", "-it", "one", "sh", "-c", program), 30, 90) as terminal:
        assert terminal.until(b"ready\r\n").splitlines() == [b"/dev/pts/0", b"30 90", b"xterm", b"ready"]
        terminal.resize(11, 22)
        terminal.until(b"11 22\r\n")
        terminal.type(b"\x03")
        assert terminal.wait() == 130
        assert terminal.is_restored()


def test_the_detach_keys_leave_it_running(md: Minidocker, one: str) -> None:
    with Terminal(md.argv("exec", "-it", "--detach-keys", "ctrl-a,d", "one", "sh", "-c", "echo up; sleep 997")) as terminal:
        terminal.until(b"up")
        terminal.type(b"\x01d")
        assert terminal.wait() == 0
        assert terminal.is_restored()
    assert "sleep 997" in md("exec", "one", "ps").stdout


def test_detached_it_prints_nothing_and_goes_on(md: Minidocker, one: str) -> None:
    assert md("exec", "-d", "one", "sh", "-c", "echo lost; sleep 998; exit 3").stdout == ""
    assert "sleep 998" in md("exec", "one", "ps").stdout
    parents = md("exec", "one", "ps", "-o", "ppid,args").stdout
    assert any(line.split()[0] == "1" and "sleep 998" in line for line in parents.splitlines()), "the container's init reaps it"


def test_detached_with_a_terminal(md: Minidocker, one: str) -> None:
    md("exec", "-dt", "one", "sh", "-c", "test -t 1 && tty > /tmp/name && sleep 996")
    poll(lambda: "sleep 996" in md("exec", "one", "ps").stdout, "it lives on with its terminal")
    assert md("exec", "one", "cat", "/tmp/name").stdout == "/dev/pts/0\n"
    md("exec", "one", "sh", "-c", "kill $(pidof sleep | tr ' ' '\\n' | grep -v '^1$')")


def test_it_goes_with_the_container(md: Minidocker, one: str) -> None:
    with md.open("exec", "one", "sleep", "1000") as child:
        poll(lambda: md("exec", "one", "ps").stdout.count("sleep 1000") == 2, "it runs")
        md("kill", "one")
        assert child.wait(20) == 137
    assert "not running" in md.refused("exec", "one", "true", code=1)
    assert "one" in md.refused("exec", "oen", "true", code=1)


def test_it_has_the_containers_root_even_after_the_image_changed_hands(md: Minidocker, busybox: Path, tmp_path: Path) -> None:
    """/etc/passwd of the running container counts, as it is now."""
    md.start("--name", "two", "--net", "none", "--rootfs", busybox, "sleep", "1000")
    md("exec", "two", "sh", "-c", "echo 'new:x:77:78::/tmp:/bin/sh' >> /etc/passwd")
    assert md("exec", "-u", "new", "two", "sh", "-c", "id -u; id -g; echo $HOME").stdout.split() == ["77", "78", "/tmp"]


def test_a_missing_working_directory_is_made_as_docker_does(md: Minidocker, one: str) -> None:
    assert "change to the working directory `/new/place`: no such file" in md.refused("exec", "-w", "/new/place", "one", "pwd").lower()
    assert md("exec", "one", "ls", "/new", check=False).returncode == 1, "nothing was made"
    assert "absolute" in md.refused("exec", "-w", "new", "one", "pwd")
    assert md("exec", "-w", "/etc/passwd", "one", "pwd", check=False).returncode == 125


def test_many_at_once(md: Minidocker, one: str) -> None:
    children = [md.open("exec", "one", "echo", str(number), stdin=subprocess.DEVNULL) for number in range(20)]
    results: list[Any] = [child.communicate(timeout=60) for child in children]
    assert [out for out, _ in results] == [b"%d\n" % number for number in range(20)]
    assert {err for _, err in results} == {b""}
