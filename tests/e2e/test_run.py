"""`run`: which program, in which root file system, with which streams, signals, terminal and exit code."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from tests import pretend
from tests.e2e.support import REPOSITORY, Background, Minidocker, Terminal, poll

Box = Callable[..., subprocess.CompletedProcess[Any]]
QUIET = ("--rm", "--net", "none")
NO_SECRET = "host-secret-9d1f"


# --- which program -----------------------------------------------------------------------------------------------------------------


def script(path: Path, text: str, mode: int = 0o755) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_bare_name_is_looked_up_in_the_containers_path(md: Minidocker, box: Box, tmp_path: Path) -> None:
    assert box("sh", "-c", "echo $0 $PATH").stdout == "sh /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
    script(tmp_path / "only-here", "#!/bin/sh\necho no\n")
    words = (*QUIET, "only-here")
    error = md.refused("run", *words, code=127, cwd=tmp_path, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert "only-here" in error and "./only-here" in error, "a program that is on the host's PATH alone is not the container's"
    assert box("-e", "PATH=/nowhere:/bin", "busybox", "echo", "found").stdout == "found\n"
    assert box("-e", "PATH=/nowhere", "echo", check=False).returncode == 127


def test_a_file_of_the_host_runs_at_its_own_path_with_the_working_directory_kept(md: Minidocker, tmp_path: Path) -> None:
    program = script(tmp_path / "where", '#!/bin/sh\necho "$0 $(pwd)"; ls "$(dirname "$0")"; echo change >> "$0"\n')
    (tmp_path / "beside").touch()
    done = md.run(*QUIET, "./where", cwd=tmp_path, check=False)
    assert done.stdout.splitlines() == [f"./where {tmp_path}", "where"], "the file is there, and nothing beside it"
    assert "ead-only" in done.stderr and "change" not in program.read_text().splitlines()
    assert md.run(*QUIET, program, cwd="/", check=False).stdout.splitlines()[0] == f"{program} /"
    assert md.run(*QUIET, "../where", cwd=(tmp_path / "root").parent / "root", check=False).stdout.startswith(f"../where {tmp_path}/root\n")


def test_a_working_directory_that_is_asked_for_does_not_change_which_file_runs(md: Minidocker, tmp_path: Path) -> None:
    script(tmp_path / "where", "#!/bin/sh\npwd\n")
    assert md.run(*QUIET, "-w", "/srv", "./where", cwd=tmp_path).stdout == "/srv\n"


def test_a_working_directory_that_was_removed_matters_only_where_it_is_needed(md: Minidocker, busybox: Path, tmp_path: Path) -> None:
    def in_removed(*words: object) -> tuple[int, str, str]:
        place = tmp_path / "removed"
        place.mkdir()
        command = f"cd {place} && rmdir {place} && exec {' '.join(map(quote, md.argv(*words)))}"
        done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False, timeout=60)
        # the launcher's own shell says this before it reads a line of the launcher (dash, getpwd())
        return done.returncode, done.stdout, done.stderr.removeprefix("sh: 0: getcwd() failed: No such file or directory\n")

    md.start("--net", "none", "--name", "one", "--rootfs", busybox, "sleep", "1000")
    assert in_removed("run", *QUIET, "pwd") == (0, "/\n", "")
    assert in_removed("exec", "one", "pwd") == (0, "/\n", "")
    for words in (("./server",), ("-v", "./src:/src", "true"), ("--rootfs", "./tree", "true")):
        code, _, error = in_removed("run", *QUIET, *words)
        assert code == 125 and error.count("\n") <= 2 and ("removed" in error or "not exist" in error), (words, error)


def test_with_a_rootfs_paths_mean_the_containers(md: Minidocker, box: Box, busybox: Path, tmp_path: Path) -> None:
    assert box("/bin/busybox", "echo", "hi").stdout == "hi\n"
    mine = script(tmp_path / "mine", "#!/bin/sh\necho from the host\n")
    assert "mine" in md.refused("run", *QUIET, "--rootfs", busybox, mine, code=127), "an absolute path is the container's"
    assert box("./mine", cwd=tmp_path).stdout == "from the host\n", "an explicit ./ that only the host has is brought in"
    # what the root file system has at that place goes first
    assert box("./busybox", "echo", "the container's", cwd="/bin").stdout == "the container's\n"


@pytest.mark.parametrize(
    ("make", "code", "says"),
    [
        (lambda path: None, 127, "does not exist"),
        (lambda path: path.mkdir(), 126, "is a directory"),
        (lambda path: script(path, "#!/bin/sh\n", 0o644), 126, "not executable"),
        (lambda path: script(path, "echo no first line\n"), 126, "#!"),
        (lambda path: script(path, "\x7fELF and nothing behind it"), 126, "binary"),
        (lambda path: script(path, "#!/no/such/interpreter\n"), 127, "interpreter"),
        (lambda path: path.symlink_to("nowhere"), 127, "does not exist"),
    ],
    ids=["missing", "directory", "not executable", "no shebang", "broken ELF", "missing interpreter", "dangling link"],
)
def test_what_cannot_be_run_is_126_or_127(
    md: Minidocker, busybox: Path, tmp_path: Path, make: Callable[[Path], object], code: int, says: str
) -> None:
    place = tmp_path / "program"
    make(place)
    for more in ((), ("--rootfs", busybox), ("-d",)):
        if more[:1] == ("--rootfs",) and not place.exists():
            continue  # then the path is the container's
        error = md.refused("run", "--net", "none", *more, "./program", code=code, cwd=tmp_path)
        assert says in error and "program" in error, (more, error)
    assert md.ps() == [], "nothing of a container that never ran stays"


def test_what_the_rootfs_cannot_run_is_126_or_127(md: Minidocker, box: Box, busybox: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    subprocess.run(["cp", "-a", busybox, tree], check=True)
    script(tree / "bin/data", "text\n")
    script(tree / "bin/secret", "#!/bin/sh\n", 0o644)
    expected = {"no-such": 127, "/bin/sh/x": 127, "/etc": 126, "data": 126, "secret": 126, "/etc/passwd": 126}
    for name, code in expected.items():
        md.refused("run", *QUIET, "--rootfs", tree, name, code=code)
    assert md.ps() == []


# --- exit codes, streams, signals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "code"), [("exit 0", 0), ("exit 1", 1), ("exit 125", 125), ("exit 255", 255), ("kill -9 $$", 137)])
def test_the_exit_code_is_the_commands(md: Minidocker, busybox: Path, words: str, code: int) -> None:
    # a PID namespace's init ignores what it has not asked for (pid_namespaces(7)); so the command is not PID 1 here
    done = md.run("--net", "none", "--rootfs", busybox, "--name", "one", "sh", "-c", f"sh -c '{words}'; exit $?", check=False)
    assert (done.returncode, done.stdout) == (code, "")
    state = md.inspect("one")["State"]
    assert (state["Status"], state["Running"], state["ExitCode"], state["OOMKilled"]) == ("exited", False, code, False)


def test_our_own_errors_are_125(md: Minidocker, busybox: Path) -> None:
    for words in (["--no-such-option", "true"], ["--rootfs", "/no/such", "true"], ["--net", "nowhere", "true"], []):
        assert md.refused("run", *words)


def test_stdout_and_stderr_stay_apart_byte_for_byte(md: Minidocker, box: Box) -> None:
    every_byte = bytes(range(256)) * 33
    program = "cat; printf '\\000err\\377\\r\\n' >&2"
    done = box("-i", "sh", "-c", program, input=every_byte, check=False)
    assert (done.stdout, done.stderr, done.returncode) == (every_byte, b"\0err\xff\r\n", 0)


def test_a_long_output_comes_whole_through_a_slow_reader(md: Minidocker, busybox: Path) -> None:
    size = 3_000_000
    program = f"yes | head -c {size}; yes e | head -c {size} >&2"
    with md.open("run", *QUIET, "--rootfs", busybox, "sh", "-c", program, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT) as child:
        assert child.stdout is not None
        read = 0
        while chunk := os.read(child.stdout.fileno(), 777):
            read += len(chunk)
    assert (read, child.returncode) == (2 * size, 0)


def test_an_output_that_cannot_be_written_is_waited_for_or_told(md: Minidocker, busybox: Path) -> None:
    words = (*QUIET, "--rootfs", busybox)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)  # as whoever shares it with us may have done
    with md.open("run", *words, "head", "-c", 1_000_000, "/dev/zero", stdout=writing) as child, open(reading, "rb") as pipe:
        os.close(writing)
        assert len(pipe.read()) == 1_000_000
        assert child.wait(20) == 0
    with open("/dev/full", "wb") as full:
        done = md.run(*words, "yes", stdout=full, check=False)
    assert (done.returncode, done.stderr) == (125, "minidocker: write to stdout: no space left on device\n")


def test_stdin_reaches_the_command_with_i_alone(md: Minidocker, box: Box) -> None:
    assert box("cat", input="not for you").stdout == ""
    assert box("-i", "cat", input="for you").stdout == "for you"
    big = os.urandom(2_000_000)
    assert box("-i", "sh", "-c", "cat", input=big).stdout == big
    # a command that does not read to the end is no error
    assert box("-i", "head", "-c", "3", input=big, text=False).stdout == big[:3]
    assert box("readlink", "/proc/self/fd/0").stdout == "/dev/null\n"


def test_i_without_an_end_of_stdin_lets_the_command_end(md: Minidocker, busybox: Path) -> None:
    with md.open("run", *QUIET, "-i", "--rootfs", busybox, "echo", "over") as child:
        assert child.line() == "over"
        assert child.wait(20) == 0


def open_flood() -> int:
    """A file of 64 MB of nothing."""
    descriptor = os.memfd_create("flood")
    os.ftruncate(descriptor, 64 << 20)
    return descriptor


def test_input_that_nobody_reads_hinders_neither_output_nor_signals(md: Minidocker, busybox: Path) -> None:
    """More of it than fits into all buffers on the way."""
    flood = bytes(4_000_000)
    words = ("run", "--rm", "--net", "none", "-i", "--rootfs", busybox, "sh", "-c")
    assert len(md(*words, "yes | head -c 3000000", input=flood).stdout) == 3_000_000
    assert md(*words, "tee /dev/stderr", input=flood, check=False).stderr == flood, "out by two ways what comes in by one"
    with md.open(*words, "trap 'echo over; exit 3' TERM; echo up; while :; do sleep 0.01; done", stdin=open_flood()) as child:
        assert child.line() == "up"
        child.send_signal(signal.SIGTERM)
        assert child.line() == "over"
        assert child.wait(20) == 3


def test_a_reader_that_leaves_ends_the_command(md: Minidocker, busybox: Path) -> None:
    done = pretend.sh(f"{' '.join(map(quote, md.argv('run', *QUIET, '--rootfs', str(busybox), 'yes')))} | head -n 1", timeout=30)
    assert done == "y\n"


def quote(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


TRAPS = "for s in HUP INT QUIT TERM USR1 USR2 ALRM CONT; do trap \"echo $s\" $s; done; echo ready; while :; do sleep 0.01; done"


def test_signals_are_forwarded(md: Minidocker, busybox: Path) -> None:
    with md.open("run", "--net", "none", "--name", "one", "--rootfs", busybox, "sh", "-c", TRAPS) as child:
        assert child.line() == "ready"
        for name in ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "ALRM", "CONT"):
            child.send_signal(getattr(signal, f"SIG{name}"))
            assert child.line() == name
        md("kill", "one")
        assert child.wait(20) == 137


def test_under_nohup_a_hangup_is_not_forwarded(md: Minidocker, busybox: Path) -> None:
    md.start("--net", "none", "--name", "one", "--rootfs", busybox, "sleep", "1000")
    for words in (("run", "--net", "none", "--rm", "--rootfs", busybox), ("exec", "one")):
        argv = md.argv(*words, "sh", "-c", TRAPS)
        with Background(["nohup", *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
            assert child.line() == "ready"
            child.send_signal(signal.SIGHUP)
            child.send_signal(signal.SIGUSR1)
            assert child.line() == "USR1", "and nothing before it"
            child.kill()


def test_the_third_interrupt_ends_a_container_that_will_not(md: Minidocker, busybox: Path) -> None:
    with md.open("run", "--net", "none", "--rm", "--rootfs", busybox, "sh", "-c", TRAPS) as child:
        assert child.line() == "ready"
        for _ in range(2):
            child.send_signal(signal.SIGINT)
            assert child.line() == "INT"
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 130
    poll(lambda: md.ps() == [], "it goes")


def test_a_command_that_dies_of_a_signal_is_128_and_n(md: Minidocker, box: Box) -> None:
    # PID 1 dies only of what reaches it from outside; TERM with its default action does not
    with md.open("run", "--net", "none", "--name", "one", "--init", "sh", "-c", "echo up; sleep 1000") as child:
        assert child.line() == "up"
        child.send_signal(signal.SIGTERM)
        assert child.wait(20) == 143


def test_the_command_gets_the_default_signal_actions(md: Minidocker, box: Box) -> None:
    """Python ignores SIGPIPE, SIGXFSZ; what the user's shell ignored is the user's business, but none is blocked."""
    status = dict(line.split(":\t", 1) for line in box("cat", "/proc/self/status").stdout.splitlines() if ":\t" in line)
    assert (status["SigIgn"], status["SigCgt"], status["SigBlk"]) == ("0" * 16,) * 3


# --- -t ---------------------------------------------------------------------------------------------------------------------------


def test_t_is_a_terminal_of_the_containers_own_and_follows_the_window(md: Minidocker, busybox: Path) -> None:
    program = "tty; stty size; trap 'stty size' WINCH; echo ready; while :; do sleep 0.01; done"
    with Terminal(md.argv("run", *QUIET, "--name", "one", "-it", "--rootfs", busybox, "sh", "-c", program), 33, 99) as terminal:
        shown = terminal.until(b"ready\r\n")
        assert shown.startswith(b"/dev/console\r\n") or shown.startswith(b"/dev/pts/0\r\n")
        if b"33 99" not in shown:
            terminal.until(b"33 99\r\n")
        assert not terminal.is_restored(), "the user's terminal is raw meanwhile"
        for rows, columns in ((10, 40), (50, 200)):
            terminal.resize(rows, columns)
            terminal.until(b"%d %d\r\n" % (rows, columns))
        md("kill", "one")
        assert terminal.wait() == 137
        assert terminal.is_restored()


def test_keys_reach_the_terminal_of_the_container_untranslated(md: Minidocker, busybox: Path) -> None:
    program = "stty raw -echo; echo ready; head -c 5 | od -An -tx1"
    with Terminal(md.argv("run", *QUIET, "-it", "--rootfs", busybox, "sh", "-c", program)) as terminal:
        terminal.until(b"ready")
        terminal.type(b"\x03\x1c\r\x04\xff")
        assert b"03 1c 0d 04 ff" in terminal.until(b"ff")
        assert terminal.wait() == 0


def test_ctrl_c_and_ctrl_d_work_as_at_any_terminal(md: Minidocker, busybox: Path) -> None:
    program = "trap 'echo interrupted' INT; echo ready; cat; echo over; exit 7"
    with Terminal(md.argv("run", *QUIET, "-it", "--rootfs", busybox, "sh", "-c", program)) as terminal:
        terminal.until(b"ready")
        terminal.type(b"hello\r")
        terminal.until(b"hello\r\nhello\r\n")  # its echo, and cat's
        terminal.type(b"\x04")
        terminal.until(b"over\r\n")
        assert terminal.wait() == 7


def test_t_alone_needs_no_terminal_here(md: Minidocker, box: Box) -> None:
    done = box("-t", "sh", "-c", "test -t 0 && test -t 1 && test -t 2 && echo $TERM; echo err >&2", text=False)
    assert (done.stdout, done.stderr) == (b"xterm\r\nerr\r\n", b"")
    assert "terminal" in md.refused("run", "-it", "--net", "none", "true", input="")


def test_t_alone_leaves_the_terminal_as_it_is_so_that_ctrl_c_works(md: Minidocker, busybox: Path) -> None:
    program = "trap 'echo interrupted; exit 3' INT; echo ready; while :; do sleep 0.01; done"
    md.start("--net", "none", "--name", "one", "--rootfs", busybox, "sleep", "1000")
    for words in (("run", *QUIET, "-t", "--rootfs", busybox), ("exec", "-t", "one")):
        with Terminal(md.argv(*words, "sh", "-c", program)) as terminal:
            terminal.until(b"ready")
            assert terminal.is_restored()
            terminal.type(b"\x03")
            terminal.until(b"interrupted")
            assert terminal.wait() == 3


@pytest.mark.parametrize(("option", "keys"), [((), b"\x10\x11"), (("--detach-keys", "ctrl-a,x"), b"\x01x")])
def test_the_detach_keys_leave_the_container_running(md: Minidocker, busybox: Path, option: tuple[str, ...], keys: bytes) -> None:
    words = ("run", "--net", "none", "-it", *option, "--name", "one", "--rootfs", busybox, "sh", "-c", "echo up; exec cat")
    with Terminal(md.argv(*words)) as terminal:
        terminal.until(b"up")
        terminal.type(keys[:1] + b"z")  # only half of them: passed on
        terminal.until(b"z")
        terminal.type(keys[:1])
        terminal.type(keys[1:])
        assert terminal.wait() == 0
        assert terminal.is_restored()
        # whoever waits for the terminal to be closed, or unmounts the directory, does not wait for the container
        monitor = poll(lambda: resident_monitor(md, "one"), "the monitor becomes a resident one")
        assert not any(os.path.samestat(os.fstat(terminal.slave), path.stat()) for path in (monitor / "fd").iterdir())
        assert os.readlink(monitor / "cwd") == "/"
    assert md.inspect("one")["State"]["Running"] is True
    assert md("exec", "one", "echo", "still there").stdout == "still there\n"
    md("kill", "one")
    assert md.wait("one")["State"]["ExitCode"] == 137
    assert "up" in md.logs("one")


def resident_monitor(md: Minidocker, name: str) -> Path | None:
    """The /proc directory of a container's parent once that is an interpreter with nothing but the watching."""
    status = Path(f"/proc/{md.inspect(name)['State']['Pid']}/status").read_text()
    [parent] = [line.split()[1] for line in status.splitlines() if line.startswith("PPid:")]
    monitor = Path("/proc", parent)
    return monitor if b"resident" in (monitor / "cmdline").read_bytes() else None


def test_what_stays_behind_keeps_nothing_of_the_callers(md: Minidocker, busybox: Path, tmp_path: Path) -> None:
    """A lock that a script holds while it starts containers goes with the script."""
    reading, writing = os.pipe()
    held = (writing,)
    md.start("--net", "none", "--name", "one", "--rootfs", busybox, "sleep", "1000", pass_fds=held)
    md("exec", "-d", "one", "sleep", "1000", pass_fds=held)
    md("exec", "-d", "-t", "one", "sleep", "1000", pass_fds=held)
    os.close(writing)
    ready, _, _ = select.select([reading], [], [], 20)
    assert ready and os.read(reading, 1) == b"", "nobody has the other end open any more"
    os.close(reading)


# --- the root file system -----------------------------------------------------------------------------------------------------------


def test_the_rootfs_is_never_written_and_the_private_layer_goes(md: Minidocker, box: Box, busybox: Path) -> None:
    def content() -> str:
        return pretend.sh(f"cd {busybox} && find . -printf '%p %m %s %T@ %i\\n' | sort")

    before = content()
    assert box("sh", "-c", "echo x > /new; rm /etc/passwd; chmod 700 /bin; mkdir /etc/d; cat /new").stdout == "x\n"
    assert box("-v", f"{busybox}/etc:/not/there/yet", "-w", "/also/new", "pwd").stdout == "/also/new\n"
    assert content() == before
    assert box("ls", "/new", check=False).returncode == 1, "each container has a layer of its own"


def test_a_bad_rootfs_is_refused(md: Minidocker, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    assert "does not exist" in md.refused("run", *QUIET, "--rootfs", tmp_path / "missing", "sh")
    assert "not a directory" in md.refused("run", *QUIET, "--rootfs", tmp_path / "file", "sh")
    assert "the host's own" in md.refused("run", *QUIET, "--rootfs", "/", "sh")
    assert "sh" in md.refused("run", *QUIET, "--rootfs", tmp_path / "empty", "sh", code=127)
    assert sorted(os.listdir(tmp_path / "empty")) == []


def test_a_rootfs_with_a_difficult_name(md: Minidocker, busybox: Path, tmp_path: Path) -> None:
    place = tmp_path / "a:b,c\\d e"
    subprocess.run(["cp", "-a", busybox, place], check=True)
    assert md.run(*QUIET, "--rootfs", place, "echo", "hi").stdout == "hi\n"
    assert md.run(*QUIET, "--rootfs", place.name, "echo", "hi", cwd=tmp_path).stdout == "hi\n"


def test_bytes_that_are_not_utf_8_are_passed_on_as_they_are(busybox: Path, tmp_path: Path) -> None:
    place = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    tree = f"{place}/tree"
    os.mkdir(place)
    subprocess.run(["cp", "-a", busybox, tree], check=True)
    md = Minidocker(Path(place, "data"))
    words = ("-v", f"{tree}/bin:/v\udcff:ro", "-w", "/w\udcff", "-e", "V=\udcff", "--rootfs", tree)
    done = md.run(*QUIET, *words, "sh", "-c", 'pwd; echo "$V"; echo "$1"; echo /v?', "-", "\udcff", text=False)
    assert done.stdout == b"/w\xff\n\xff\n\xff\n/v\xff\n"
    md.start("--name", "one", "-l", "key=\udcff", "sh", "-c", "sleep 1000", "\udcff")
    assert md.inspect("one")["Config"]["Labels"] == {"key": "\udcff"}
    assert md("exec", "one", "echo", "\udcff", text=False).stdout == b"\xff\n"
    for wrong in (("inspect",), ("rm",), ("logs",), ("network", "inspect"), ("network", "rm")):
        done = md(*wrong, "\udcff", check=False)
        assert done.returncode == 1 and "no such" in done.stderr and "internal" not in done.stderr, (wrong, done.stderr)
    assert os.fsencode(place) in md.run(*QUIET, "--explain", "true", text=False, check=False).stderr
    assert os.fsencode(place) in md.run("--dry-run", *QUIET, "true", text=False).stdout
    md.close()


@pytest.fixture
def secrets() -> Any:
    """What no container may see, in those places of the pretend host that are nobody's but ours or are taken away again."""
    made = []
    for directory in ("/run", "/run/lock", "/home", "/root", "/var/tmp", "/tmp", "/srv", "/mnt"):
        if os.path.isdir(directory):
            made.append(Path(directory) / NO_SECRET)
            made[-1].write_text(NO_SECRET)
    yield made
    for path in made:
        path.unlink()


def test_the_host_view_shows_programs_and_no_secret(md: Minidocker, secrets: list[Path]) -> None:
    found = md.run(*QUIET, "find", "/", "-xdev", "-name", NO_SECRET).stdout
    assert found == "" and len(secrets) >= 4
    listing = {d: md.run(*QUIET, "ls", "-A", d).stdout.split() for d in ("/root", "/home", "/tmp", "/run", "/etc", "/var/log", "/")}
    assert listing["/root"] == listing["/home"] == listing["/tmp"] == listing["/var/log"] == []
    assert listing["/run"] == ["lock"]
    allowed = {
        "alternatives", "group", "host.conf", "hostname", "hosts", "ld.so.cache", "localtime", "mime.types", "mtab", "nsswitch.conf",
        "os-release", "passwd", "pki", "protocols", "resolv.conf", "services", "ssl",
    }  # fmt: skip
    assert {"passwd", "group", "hosts", "hostname", "resolv.conf", "nsswitch.conf", "ld.so.cache"} <= set(listing["/etc"]) <= allowed
    assert set(listing["/"]) <= {
        "bin", "dev", "etc", "gnu", "home", "lib", "lib32", "lib64", "libx32", "mnt", "nix", "opt", "proc", "root", "run", "sbin", "srv",
        "sys", "tmp", "usr", "var",
    }  # fmt: skip
    assert md.run(*QUIET, "cat", "/etc/shadow", check=False).returncode == 1
    assert md.run(*QUIET, "ls", "/etc/ssl").stdout.split() in (["certs", "openssl.cnf"], ["certs"], ["openssl.cnf"], [])
    passwd = md.run(*QUIET, "cat", "/etc/passwd").stdout
    assert {line.split(":")[0] for line in passwd.splitlines()} == {"root", "daemon", "nobody"}


def test_the_host_views_programs_are_read_only_nosuid_and_nodev(md: Minidocker) -> None:
    mounts = {}
    for line in md.run(*QUIET, "cat", "/proc/self/mountinfo").stdout.splitlines():
        fields = line.split()
        mounts[fields[4]] = set(fields[5].split(","))
    seen = [path for path in ("/usr", "/opt", "/bin", "/lib", "/sbin", "/etc/ld.so.cache", "/etc/alternatives") if path in mounts]
    assert "/usr" in seen
    for path, options in mounts.items():
        if path.startswith(("/usr", "/opt", "/bin", "/lib", "/sbin", "/etc/alternatives", "/etc/ld", "/etc/ssl")):
            assert {"ro", "nosuid", "nodev"} <= options, (path, options)
    for path in ("/usr/x", "/usr/bin/x", "/opt/x"):
        done = md.run(*QUIET, "touch", path, check=False)
        assert done.returncode == 1 and "Read-only file system" in done.stderr


def test_a_mount_of_the_hosts_below_usr_is_read_only_too(md: Minidocker) -> None:
    place = Path("/usr/local/src")
    if not place.is_dir():
        pytest.skip("this host has no /usr/local/src to mount on")
    pretend.sh(f"mount -t tmpfs tmpfs {place} && touch {place}/seen")
    try:
        assert "Read-only file system" in md.run(*QUIET, "touch", place / "x", check=False).stderr
    finally:
        pretend.sh(f"umount {place}")


@pytest.mark.parametrize("directory", ["/tmp", "/run", "/var", "/root", "/home", "/etc"])
def test_the_host_view_has_private_writable_directories_that_go(md: Minidocker, directory: str) -> None:
    mark = f"{directory}/mark-{os.getpid()}"
    md.run("--net", "none", "--name", "one", "sh", "-c", f"echo mine > {mark}")
    assert not os.path.exists(mark)
    on_disk = list((md.root / "containers").rglob(os.path.basename(mark)))
    assert [path.read_text() for path in on_disk] == ["mine\n"], "it lives on disk, with the container"
    assert md.run(*QUIET, "cat", mark, check=False).returncode == 1, "the next container does not see it"
    md("rm", "one")
    assert not list(md.root.rglob(os.path.basename(mark)))


# --- names ------------------------------------------------------------------------------------------------------------------------


def test_a_container_is_named_by_name_id_or_unique_prefix(md: Minidocker, busybox: Path) -> None:
    ids = [md.start("--net", "none", "--rootfs", busybox, "--name", f"name{i}", "sleep", "1000") for i in range(2)]
    for reference in (ids[0], ids[0][:12], ids[0][:6], "name0", md.inspect("name0")["Name"]):
        assert md.inspect(reference)["Id"] == ids[0]
    assert md.refused("rm", "nam0", code=1).count("name0") == 1, "what was perhaps meant"
    error = md.refused("stop", "zzz-nothing-like-it", code=1)
    assert "zzz-nothing-like-it" in error and "ps -a" in error
    assert "name0" in md.refused("run", "--net", "none", "--name", "name0", "true")
    assert md.refused("rm", "name0", code=1).count("name0") >= 1, "which container is running"
    assert [row["Names"] for row in md.ps()] == ["name1", "name0"]


def test_names_default_to_readable_ones_and_bad_ones_are_refused(md: Minidocker, busybox: Path) -> None:
    md.run("--net", "none", "--rootfs", busybox, "true")
    [row] = md.ps()
    first, _, second = row["Names"].partition("_")
    assert first.isalpha() and second.isalpha()
    for name in ("a/b", "x" * 300, "-a", "", "a b", "ä"):
        md.refused("run", "--net", "none", "--name", name, "true")
    assert len(md.ps()) == 1


def test_the_data_root_comes_from_the_option_or_the_environment(md: Minidocker, busybox: Path, tmp_path: Path) -> None:
    other = Minidocker(tmp_path / "other")
    words = [word for word in other.argv("run", "--net", "none", "--name", "there", "--rootfs", str(busybox), "true")]
    at = words.index("--root")
    environment = {**os.environ, "MINIDOCKER_ROOT": words[at + 1]}
    subprocess.run(words[:at] + words[at + 2 :], env=environment, check=True, stdin=subprocess.DEVNULL, timeout=30)
    assert [row["Names"] for row in other.ps()] == ["there"]
    assert md.ps() == []
    other.close()


# --- the hot path (DESIGN.md, law 8) --------------------------------------------------------------------------------------------------

# struct is not among them only because ctypes itself imports it.
BANNED = {
    "pyroute2", "click", "asyncio", "dataclasses", "typing", "pathlib", "logging", "subprocess", "re", "enum", "signal", "socket", "json",
    "collections", "contextlib", "functools", "tempfile", "shutil", "shlex", "ipaddress", "hashlib", "uuid",
}  # fmt: skip
# In every process of the command, the monitor's and the container's first among them, the names of all modules are written at its end;
# for the latter the directory of that file is a volume.
SPY = """
import sys, os
sys.path[:0] = sys.argv.pop(1).split(":")
def note():
    names = " ".join(sorted(set(sys.modules)))
    with open(os.environ["SPY"], "ab", buffering=0) as file:
        file.write(("%d %s\\n" % (os.getpid(), names)).encode())
def noting(function):
    def called(*arguments):
        note()
        return function(*arguments)
    return called
os._exit, os.execv, os.memfd_create = map(noting, (os._exit, os.execv, os.memfd_create))  # that, for the stub, comes last
from minidocker.__main__ import start
start()
"""


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--rm", "--net", "none", "--rootfs", "ROOTFS", "true"),
        ("run", "--rm", "--net", "br0", "--rootfs", "ROOTFS", "true"),
        ("run", "--rm", "--net", "none", "true"),
        ("run", "-d", "--rm", "--net", "none", "--rootfs", "ROOTFS", "-m", "64m", "--cpus", "0.5", "-e", "A=1", "-u", "1", "true"),
        ("ps",),
        ("ps", "-a"),
        ("exec", "one", "true"),
        ("logs", "one"),
        ("logs", "--tail", "1", "-t", "one"),
        ("stop", "-t", "0", "one"),
    ],
    ids=" ".join,
)
def test_a_well_formed_use_loads_nothing_dear_in_any_of_its_processes(
    md: Minidocker, busybox: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    notes.chmod(0o777)
    volume = ["-v", f"{notes}:{notes}"]
    # what is made once is there: br0, the filter's cache
    md.start("--name", "one", "--net", "br0", *volume, "--rootfs", busybox, "sleep", "1000")
    places = f"{REPOSITORY}:{Path(click.__file__).parents[1]}"
    given = [str(busybox) if word == "ROOTFS" else word for word in words]
    more = volume if words[0] == "run" else []
    argv = [sys.executable, "-I", "-S", "-c", SPY, places, "--root", str(md.root), given[0], *more, *given[1:]]
    environment = {**os.environ, "SPY": str(notes / "modules")}
    done = subprocess.run(argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    seen = [line.split()[1:] for line in (notes / "modules").read_text().splitlines()]
    assert len(seen) >= {"run": 3, "exec": 2}.get(words[0], 1), "the command, its monitor, the container's first process"
    for modules in seen:
        assert not {module for module in modules if module.partition(".")[0] in BANNED}
