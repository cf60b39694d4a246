"""Attacks from inside a container and through hostile inputs, each named after what it stands for; a test passes when we are safe.

What else holds against them is in test_isolation.py (namespaces, masked paths, capabilities, devices, descriptors) and test_crash.py
(reused pids). What a container does is written for busybox's shell, or for the host's Python in the host view.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.support import Minidocker, Terminal, poll

Box = Callable[..., subprocess.CompletedProcess[Any]]
NOBODY = 65534
PYTHON = ("--rm", "--net", "none", "/usr/bin/python3", "-c")


@pytest.fixture
def tree(busybox: Path, tmp_path: Path) -> Path:
    """A root file system to make hostile."""
    place = tmp_path / "tree"
    subprocess.run(["cp", "-a", busybox, place], check=True)
    return place


def replace(path: Path, make: Callable[[Path], object]) -> None:
    """Put something else at `path`."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    make(path)


def link_to(target: object) -> Callable[[Path], object]:
    return lambda path: path.symlink_to(str(target))


def orderly(done: subprocess.CompletedProcess[Any]) -> bool:
    """It ran, or was refused in one line and a hint: no traceback, nothing internal, no signal."""
    error = str(done.stderr)
    refused = done.returncode in (125, 126, 127) and error.startswith("minidocker: ") and error.count("\n") <= 2
    return (done.returncode == 0 or refused) and "internal" not in error and "Traceback" not in error


# --- hostile root file systems --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["proc", "sys"])
def test_cve_2019_19921_proc_behind_a_link_is_not_left_unmasked(md: Minidocker, tree: Path, name: str) -> None:
    """Links lead to it when it is mounted, and no longer when it is masked: our /dev covers one of them."""
    replace(tree / name, link_to("/dev/there"))
    replace(tree / "dev/there", link_to("/here"))
    (tree / "here").mkdir()
    error = md.refused("run", "--rm", "--net", "none", "--rootfs", tree, "sh", "-c", ": 3>> /here/sys/kernel/core_pattern && echo got it")
    assert f"on `/{name}`" in error and "link" in error


@pytest.mark.parametrize(
    "place", ["proc", "sys", "dev", "etc", "tmp", "run", "bin/sh", "etc/hosts", "etc/resolv.conf", "etc/passwd", "etc/group", "cwd"]
)
def test_a_hostile_root_file_system_leads_nowhere(md: Minidocker, busybox: Path, tree: Path, victim: Path, place: str) -> None:
    for how in ("/" + "../" * 20 + str(victim)[1:], "/", f"/{place}", "/proc/self/root", "/dev/null", "a fifo"):
        replace(tree / place, os.mkfifo if how == "a fifo" else link_to(how))
        options = ("--rm", "--net", "none", "--rootfs", tree, "-w", "/cwd", "-u", "0")
        done = md.run(*options, "/bin/sh", "-c", "(echo x > /cwd/x); true", check=False)
        assert orderly(done) or "can't create" in done.stderr, (how, done)


HOSTILE_TABLES = [
    "root:x:0:abc::/root:", "root:x:\u00b2:0::/root:", f"root:x:{'9' * 5000}:0::/root:", "root:x:4294967295:0::/root:",
    "root:x:-1:0::/root:", "root:x:0:4294967295::/root:", "root:x:1000:1000::/r\0oot:", "root", ":" * 6, "\n" * 4096, "\udcff",
]  # fmt: skip


def test_hostile_user_tables(md: Minidocker, tree: Path) -> None:
    """-1 is "unchanged" for setuid(2): whoever takes it from a table stays root of everything."""
    for line in HOSTILE_TABLES:
        for table in ("passwd", "group"):
            (tree / "etc" / table).write_bytes(line.encode(errors="surrogateescape") + b"\n")
        for user in ("root", "0", "0:root"):
            done = md.run("--rm", "--net", "none", "-u", user, "--rootfs", tree, "sh", "-c", "grep -c . /proc/self/status", check=False)
            assert orderly(done), (line[:40], user, done)


def test_a_user_table_of_a_terabyte(md: Minidocker, tree: Path) -> None:
    with (tree / "etc/passwd").open("w") as file:
        file.truncate(1 << 40)
    assert orderly(md.run("--rm", "--net", "none", "-u", "root", "--rootfs", tree, "true", check=False))


def test_no_file_of_a_container_is_opened_but_a_regular_one(md: Minidocker, busybox: Path) -> None:
    """To open a device node is to do something to the device, and we may open what the container may not. A fifo tells of it."""
    md.start("--net", "none", "--rootfs", busybox, "--name", "one", "sleep", "1000")
    md("exec", "-d", "one", "sh", "-c", "rm -f /etc/passwd; mkfifo /etc/passwd; : > /etc/passwd; touch /opened")
    poll(lambda: "fifo" in md("exec", "one", "stat", "-c", "%F", "/etc/passwd", check=False).stdout, "the fifo is there")
    md("exec", "-u", "0", "one", "true")
    assert md("exec", "-u", "0", "one", "sh", "-c", "usleep 200000; ls /").stdout.count("opened") == 0


def test_volumes_whose_source_or_target_is_a_link(md: Minidocker, tree: Path, victim: Path, tmp_path: Path) -> None:
    """A source is the host's and its link is followed; a target is the container's, and no link leads out, not even one in a volume that
    another container writes to."""
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "up").symlink_to("/" + "../" * 20 + str(victim)[1:])
    (shared / "magic").symlink_to("/proc/self/root")
    (tree / "target").symlink_to(victim)
    link = tmp_path / "link"
    link.symlink_to(shared)
    volumes = ("-v", f"{link}:/s", "-v", f"{tree}:/s/up/deep:ro", "-v", f"{tree}:/target/deep:ro")
    done = md.run("--rm", "--net", "none", "--rootfs", tree, *volumes, "-w", "/s/up/w", "ls", "/s", str(victim))
    assert done.stdout.split()[-2:] == ["deep", "w"], "made inside, at the very path"
    error = md.refused("run", "--rm", "--net", "none", "--rootfs", tree, "-v", f"{link}:/s", "-v", f"{link}:/s/magic/x", "true")
    assert "symbolic links" in error


def test_cve_2024_21626_a_working_directory_through_a_link_to_a_descriptor(md: Minidocker, tree: Path) -> None:
    for number in range(3, 12):
        replace(tree / "cwd", link_to(f"/proc/self/fd/{number}"))
        assert md.run("--rm", "--net", "none", "--rootfs", tree, "-w", "/cwd", "pwd", check=False).returncode == 125


# --- hostile processes, while we join ------------------------------------------------------------------------------------------------


CATCH = """
while :; do for p in /proc/[0-9]*; do n=${p#/proc/}
    [ $n != 1 ] && [ $n != $$ ] && ! readlink $p/exe > /dev/null 2>&1 && kill -STOP $n 2> /dev/null && grep -q '^State:.T' $p/status && {
        for f in exe cwd root fd/0 fd/3 fd/7; do readlink $p/$f && echo leaks $f; done
        ls $p/map_files | grep -q . && echo leaks map_files
        for f in environ maps mem auxv; do head -c 1 $p/$f | grep -q . && echo leaks $f; done
        echo caught; exit; }
done; done"""


@pytest.mark.parametrize("user", ["0", "1000"])
def test_cve_2016_9962_a_joining_process_is_out_of_reach(md: Minidocker, busybox: Path, user: str) -> None:
    """Root in there can stop the process that is about to join, and then has all the time to look at it: it is not dumpable."""
    md.start("--net", "none", "--rootfs", busybox, "--name", "one", "sleep", "1000")
    with md.open("exec", "one", "sh", "-c", CATCH) as hunter:
        def stopped() -> bool:
            with md.open("exec", "-u", user, "one", "true") as process:
                try:
                    process.wait(2)
                except subprocess.TimeoutExpired:
                    assert hunter.line() == "caught"
                    md("kill", "one")
                    assert process.wait(10) != 0
                    return True
            return False

        poll(stopped, "one is caught", 40)


WRITE_EXE = """
opened=
while [ ! -e /tmp/stop ]; do for p in /proc/[0-9]*; do
    case $(readlink $p/exe) in *INTERPRETER|/) [ -z "$opened" ] && exec 3< $p/exe && opened=$p && echo opened;; esac
    if [ "$opened" ] && (exec 4>> /proc/self/fd/3 && echo owned >&4) 2> /dev/null; then echo written; exit; fi
    if [ "$opened" ] && ! readlink $opened/exe > /dev/null; then i=$((i + 1)); [ $i -gt 100 ] && { echo given up; exit; }; fi
done; done"""


@pytest.mark.parametrize("upgraded", [False, True])
def test_cve_2019_5736_our_interpreter_is_not_written_to(md: Minidocker, tmp_path: Path, upgraded: bool) -> None:
    """A container that may trace opens our interpreter while we join, and writes to it when it has ended. What keeps it from that: its
    monitor executes the same file; and where that is another file by now, what we execute is on a read-only mount."""
    interpreters = []
    for name in ("old", "new"):
        bin = tmp_path / name / "bin"
        bin.mkdir(parents=True)
        shutil.copy2(os.path.realpath(sys.executable), bin / "interpreter")
        (tmp_path / name / "pyvenv.cfg").write_text(f"home = {sys.base_prefix}/bin\n")
        interpreters.append(bin / "interpreter")
    before = interpreters[0].read_bytes()

    def by(interpreter: Path, *words: str) -> subprocess.CompletedProcess[str]:
        argv = [str(interpreter), *md.argv(*words)[1:]]
        return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)

    if "MINIDOCKER_BIN" in os.environ:
        pytest.skip("the launcher chooses the interpreter")
    old, new = interpreters
    assert by(old, "run", "-d", "--net", "none", "--cap-add", "SYS_PTRACE", "--name", "one", "sleep", "1000").returncode == 0
    with md.open("exec", "one", "sh", "-c", WRITE_EXE.replace("INTERPRETER", "/interpreter")) as attack:
        used = new if upgraded else old
        with ThreadPoolExecutor() as pool:
            opened = pool.submit(attack.line)
            poll(lambda: by(used, "exec", "one", "true").returncode == 0 and opened.done(), "it catches us at it")
        assert opened.result() == "opened"
        assert attack.line() == "given up"
    assert [interpreter.read_bytes() == before for interpreter in interpreters] == [True, True]


# --- terminals -----------------------------------------------------------------------------------------------------------------------


def test_exec_without_t_leaves_the_users_terminal_alone(md: Minidocker, busybox: Path) -> None:
    """A process that stays behind with it could read what is typed there later, and TIOCSTI would type into it."""
    md.start("--net", "none", "--rootfs", busybox, "--name", "one", "sleep", "1000")
    thief = "trap '' HUP; (exec < &1; while read x; do echo stolen $x; done) 2> /dev/null & [ -t 0 ] || [ -t 1 ] || [ -t 2 ] || echo none"
    with Terminal(md.argv("exec", "one", "sh", "-c", thief.replace("< &", "<&"))) as terminal:
        terminal.until(b"none")
        assert terminal.wait() == 0
        terminal.type(b"password\n")
        terminal.until(b"password\r\n")
        md("exec", "one", "usleep", "200000")
        assert b"stolen" not in terminal.shown
    talker = "read x; echo got $x; cat; echo bad >&2; [ -t 0 ]; exit $((3 + $?))"
    with Terminal(md.argv("exec", "-i", "one", "sh", "-c", talker)) as terminal:
        terminal.type(b"hello\n")
        terminal.until(b"got hello")
        terminal.type(b"more\n\x04")
        assert terminal.wait() == 4
        assert terminal.shown.count(b"more") == 2 and terminal.shown.endswith(b"bad\r\n")


def test_a_terminal_of_the_containers_own_is_what_it_can_type_into(md: Minidocker) -> None:
    code = "import fcntl; fcntl.ioctl(0, 0x5412, b'x')"  # TIOCSTI
    with Terminal(md.argv("run", "--rm", "--net", "none", "-t", "/usr/bin/python3", "-c", code)) as terminal:
        assert terminal.wait() in (0, 1), "dev.tty.legacy_tiocsti may be 0"
        assert terminal.is_restored()
        os.set_blocking(terminal.slave, False)
        with pytest.raises(BlockingIOError):
            os.read(terminal.slave, 1)


# --- the kernel ----------------------------------------------------------------------------------------------------------------------


CALLS = {  # by machine: x86_64, aarch64
    "add_key": (248, 217), "keyctl": (250, 219), "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "kexec_load": (246, 104), "init_module": (175, 105), "finit_module": (313, 273), "pivot_root": (155, 41),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "mount_setattr": (442, 442), "open_by_handle_at": (304, 265),
    "mount": (165, 40), "umount2": (166, 39), "swapon": (167, 224), "acct": (163, 89), "setns": (308, 268), "quotactl": (179, 60),
}  # fmt: skip


def test_system_calls_that_reach_the_host(md: Minidocker) -> None:
    """With null for every argument: what is not refused at the door fails by its arguments, and harms nobody."""
    numbers = {name: pair[os.uname().machine == "aarch64"] for name, pair in CALLS.items()}
    code = f"""
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
for name, number in {numbers}.items():
    assert libc.syscall(number, 0, 0, 0, 0, 0, 0) == -1
    if ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS):
        print(name, errno.errorcode[ctypes.get_errno()])
for flags in (0x10000000, 0x00020000, 0x02000000):  # CVE-2022-0492: a user namespace gives the capabilities to mount a cgroup v1
    assert libc.unshare(flags) == -1 and ctypes.get_errno() == errno.EPERM, hex(flags)
"""
    assert md.run(*PYTHON, code).stdout == ""


def test_files_of_the_kernel_that_reach_the_host(md: Minidocker) -> None:
    """Opened for writing, never written to, by root with every capability that it may have: core_pattern and uevent_helper name programs
    that the kernel starts on the host, release_agent too (CVE-2022-0492); CVE-2025-31133 is about the masks."""
    code = """
import glob, os
places = ["/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/fs/binfmt_misc/register",
          "/proc/kcore", "/sys/kernel/uevent_helper", "/sys/power/state", "/dev/kmsg", "/dev/mem", *glob.glob("/proc/sys/net/ipv4/*")]
places += [name for end in ("release_agent", "*.procs") for name in glob.glob("/sys/fs/cgroup/**/" + end, recursive=True)]
for place in filter(os.path.exists, places):
    try:
        os.close(os.open(place, os.O_WRONLY))
        if place != "/proc/kcore":  # that one is /dev/null here
            print(place)
    except OSError:
        pass
assert os.stat("/proc/keys").st_rdev == os.stat("/dev/null").st_rdev == os.makedev(1, 3)
"""
    for options in ((), ("--cap-add", "ALL")):
        assert md.run(*options, *PYTHON, code).stdout == "", options


def test_chroot_does_not_lead_out_of_a_pivoted_root(md: Minidocker) -> None:
    """The classic: a root below the working directory, and then up and up."""
    code = """
import os
before = os.stat("/").st_ino, os.stat("/").st_dev, sorted(os.listdir("/"))
os.makedirs("/tmp/x"); os.chroot("/tmp/x")
for _ in range(64): os.chdir("..")
os.chroot(".")
assert (os.stat("/").st_ino, os.stat("/").st_dev, sorted(os.listdir("/"))) == before
"""
    md.run(*PYTHON, code)


def test_what_a_privileged_container_mounts_stays_in_there(md: Minidocker, busybox: Path, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    md.start("--net", "none", "--privileged", "--rootfs", busybox, "-v", f"{volume}:/v", "--name", "one", "sleep", "1000")
    md("exec", "one", "sh", "-c", "mount -t tmpfs tmpfs /v && touch /v/inside && mount --make-rshared /")
    assert md("exec", "one", "ls", "/v").stdout == "inside\n"
    assert os.listdir(volume) == [] and str(volume) not in Path("/proc/self/mountinfo").read_text()


def test_abstract_sockets_are_the_network_namespaces(md: Minidocker) -> None:
    """CVE-2020-15257: a container with --net host reaches the host's, in any runtime; every other has none of them."""
    code = "import socket; socket.socket(socket.AF_UNIX).connect(chr(0) + 'minidocker-attack'); print('connected')"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0minidocker-attack")
        listener.listen()
        assert "refused" in md.run(*PYTHON, code, check=False).stderr
        assert md.run("--rm", "--net", "host", *PYTHON[3:], code).stdout == "connected\n"
    assert b"minidocker" not in Path("/proc/net/unix").read_bytes(), "we listen on no abstract socket"


def test_devices_stay_closed_with_every_capability(box: Box) -> None:
    done = box("--cap-add", "ALL", "sh", "-c", "mknod /k c 1 11; mknod /d b 7 0; cat /k; cat /d; true", check=False)
    assert (done.stdout, done.stderr.count("Operation not permitted")) == ("", 2), done


def test_setuid_programs_of_the_host_are_none_in_the_host_view(md: Minidocker) -> None:
    options = ("-u", "1000", "--security-opt", "no-new-privileges=false")
    mounts = md.run("--rm", "--net", "none", *options, "cat", "/proc/self/mountinfo").stdout
    [usr] = [line.split() for line in mounts.splitlines() if line.split()[4] == "/usr"]
    assert {"nosuid", "nodev", "ro"} <= set(usr[5].split(","))
    code = "import os; os.execv('/usr/bin/su', ['su', '-c', 'id -u'])"
    assert "0\n" not in md.run(*options, *PYTHON, code, check=False).stdout


# --- the monitor ---------------------------------------------------------------------------------------------------------------------


def monitor_of(md: Minidocker, id: str) -> int:
    return int(Path(f"/proc/{md.inspect(id)['State']['Pid']}/status").read_text().split("PPid:")[1].split()[0])


def test_a_flood_without_newlines_is_kept_in_bounds(md: Minidocker, busybox: Path) -> None:
    script = "head -c 256m /dev/zero; head -c 1m /dev/urandom >&2; touch /done; exec sleep 1000"
    id = md.start("--net", "none", "--rootfs", busybox, "--name", "one", "sh", "-c", script)
    poll(lambda: md("exec", "one", "ls", "/").stdout.count("done"), "all is written", 50)
    status = Path(f"/proc/{monitor_of(md, 'one')}/status").read_text()
    assert int(status.split("VmHWM:")[1].split()[0]) < 40_000, "kB"
    assert sum(file.stat().st_size for file in (md.root / "containers" / id).glob("log*")) < (64 << 20) + (1 << 20)
    lines = poll(lambda: md("logs", "--tail", "1", "one", text=False, check=False).stderr, "the end is in the log")
    assert len(lines) > 0


def test_closed_streams_do_not_make_the_monitor_spin(md: Minidocker, busybox: Path) -> None:
    for options in ((), ("-t",)):
        name = f"closed{len(options)}"
        script = "exec 0<&- >/dev/null 2>&1; [ -e /dev/console ] && exec < /dev/null; exec sleep 1000"
        md.start("--net", "none", "--rootfs", busybox, "--name", name, *options, "sh", "-c", script)
        place = Path(f"/proc/{monitor_of(md, name)}/stat")
        poll(lambda name=name: md("exec", name, "readlink", "/proc/1/exe").stdout, "it is there")

        def ticks(place: Path = place) -> int:
            return sum(map(int, place.read_text().rpartition(")")[2].split()[11:13]))

        before = ticks()
        md("exec", name, "sleep", "0.6")
        assert ticks() - before < 30, "of 60 hundredths of a second"


def test_a_pipe_that_another_container_writes_to_for_ever_does_not_keep_ours(md: Minidocker, tmp_path: Path) -> None:
    """Handed over through a socket in a volume, it outlives all processes of the container whose standard output it was."""
    take = (
        "import array, socket, os; s = socket.socket(socket.AF_UNIX); s.bind('/v/s'); s.listen(); c = s.accept()[0]; "
        "fd = array.array('i', c.recvmsg(1, 64)[1][0][2])[0]; c.send(b'x'); [os.fork() for _ in range(3)]\n"
        "while True: os.write(fd, b'x' * 65536)"
    )
    give = (
        "import array, socket; s = socket.socket(socket.AF_UNIX); s.connect('/v/s'); "
        "s.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [1]))]); s.recv(1)"
    )
    volume = ("--net", "none", "-v", f"{tmp_path}:/v")
    md.start(*volume, "--name", "writer", "/usr/bin/python3", "-c", take)
    poll((tmp_path / "s").exists, "it listens")
    assert md.run("--rm", *volume, "/usr/bin/python3", "-c", give, stdout=subprocess.DEVNULL).returncode == 0
    md("rm", "-f", "writer")


# --- names and logs ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--name", "--hostname", "--network-alias", "--add-host", "--dns", "--dns-search", "--dns-option"])
def test_nothing_is_injected_into_the_hosts_file(md: Minidocker, option: str) -> None:
    harmless = ("a#", "../a") if option == "--dns-option" else ()  # one word of a line of its own
    for text in {"a\n1.2.3.4 bank", "a\tbank", "a bank", "a\r", "a#", "../a", "a\u2028b", ""}.difference(harmless):
        md.refused("run", "--rm", option, text + (":1.2.3.4" if option == "--add-host" else ""), "true")
    assert md.ps() == []


def test_a_container_cannot_rename_its_neighbours(md: Minidocker, busybox: Path) -> None:
    md.start("--rootfs", busybox, "--name", "one", "sleep", "1000")
    for command in (": >> /etc/hosts", "chmod 666 /etc/hosts", "mount -o remount,rw /etc/hosts", "umount /etc/hosts", "mv /etc/hosts /x"):
        assert md("exec", "one", "sh", "-c", f"({command})", check=False).returncode != 0, command
    md("rm", "-f", "one")
    md("network", "rm", "br0")


def test_a_log_tells_nothing_that_the_container_did_not_write(md: Minidocker, busybox: Path) -> None:
    """Records have lengths: what looks like one, or like a note of ours, stays a part of the container's own output."""
    forged = struct.pack("<QBI", 1, 2, 5) + b"forge"
    octal = "".join(f"\\{byte:03o}" for byte in forged)
    md.run("--net", "none", "--rootfs", busybox, "--name", "one", "printf", octal, text=False)
    done = md("logs", "one", text=False)
    assert (done.stdout, done.stderr) == (forged, b"")


# --- files on the host ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def public() -> Iterator[Minidocker]:
    """A data root that everybody can get to, made with the loosest umask."""
    place = Path("/var/lib/minidocker/attack")
    place.parent.chmod(0o755)
    before = os.umask(0)
    minidocker = Minidocker(place / "root")
    try:
        yield minidocker
        minidocker.close()
    finally:
        os.umask(before)
        shutil.rmtree(place, ignore_errors=True)


def test_cve_2021_41091_other_users_reach_nothing(public: Minidocker, busybox: Path) -> None:
    """Neither a setuid program that a container makes, nor its secrets, nor its log; and they can change nothing."""
    id = public.start("--net", "none", "--rootfs", busybox, "-e", "SECRET=hunter2", "--name", "one", "sh", "-c",
                      "cp /bin/busybox /evil; chmod 4755 /evil; echo secret; exec sleep 1000")  # fmt: skip
    evil = public.root / "containers" / id / "upper/evil"
    poll(lambda: evil.exists() and evil.stat().st_mode & stat.S_ISUID, "it is made")

    def nobody(*words: object) -> int:
        return subprocess.run([*map(str, words)], user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True).returncode

    assert nobody("ls", public.root.parent) == 0, "as far as here they may"
    assert nobody("test", "-e", evil) != 0
    for place in (*public.root.rglob("*"), public.root, public.run_directory.parent, *public.run_directory.rglob("*")):
        assert nobody("test", "-w", place) != 0 or place.is_symlink(), place
    for name in ("state.db", "state.db-wal", f"containers/{id}/log"):
        assert nobody("cat", public.root / name) != 0, name
    assert stat.S_IMODE((public.root / "cache").stat().st_mode) == 0o700, "compiled filters"


def test_rm_of_a_hostile_tree(md: Minidocker, victim: Path) -> None:
    """Deep, closed, with links out, with names of our own making."""
    code = f"""
import os, socket
for i in range(3000): os.mkdir("d" * 100); os.chdir("d" * 100)
os.chdir("/tmp")
for i in range(50): os.makedirs(f".removing-{{i}}/.removing-{{i + 1}}/x")
os.symlink({str(victim)!r}, "link"); os.symlink("/", "root"); os.mkfifo("fifo"); socket.socket(socket.AF_UNIX).bind("socket")
os.makedirs("closed/x/y"); os.chmod("closed/x", 0); os.chmod("closed", 0); os.mkdir("\\n\\udcff\\\\ -rf")
os.mknod("null", 0o20666, os.makedev(1, 3))
"""
    id = md.start("--net", "none", "--name", "one", "/usr/bin/python3", "-c", code)
    assert md.wait("one")["State"]["ExitCode"] == 0, md.logs("one")
    top = md.root / "containers" / id
    for place in (".removing-1/full", ".removing-2/full", "upper/tmp/a/b/c", "upper/tmp/e/f/g"):
        (top / place).mkdir(parents=True)  # an rm that was killed
    md("rm", "one")
    assert not top.exists()


def test_rm_says_what_an_immutable_file_keeps_it_from(md: Minidocker, busybox: Path) -> None:
    id = md.start("--net", "none", "--rootfs", busybox, "--name", "one", "touch", "/file")
    md.wait("one")
    with (md.root / "containers" / id / "upper/file").open() as file:
        try:
            fcntl.ioctl(file, 0x40086602, struct.pack("l", 0x10))  # FS_IOC_SETFLAGS, FS_IMMUTABLE_FL
        except OSError:
            pytest.skip("this file system has no such attribute")
        try:
            assert "operation not permitted" in md.refused("rm", "one", code=1)
            assert [row["Names"] for row in md.ps()] == ["one"]
        finally:
            fcntl.ioctl(file, 0x40086602, struct.pack("l", 0))
    md("rm", "one")


def test_a_link_in_the_place_of_our_runtime_files_is_not_followed(md: Minidocker, busybox: Path, victim: Path) -> None:
    """Root's own /run and /var/lib are not for others to write to; what stands at a container's name under /run/netns is left alone."""
    (link := Path("/run/netns/one")).symlink_to(victim / "file")
    try:
        md.run("--net", "none", "--rootfs", busybox, "--rm", "--name", "one", "true", check=False)
        assert os.readlink(link) == str(victim / "file")
    finally:
        link.unlink()

