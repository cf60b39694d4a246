"""Containers that attack whoever makes and enters them. Each test is named after the published flaw it stands for."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from minidocker.errors import MinidockerError, TargetNotExecutable, TargetNotFound
from minidocker.kernel import cgroups
from minidocker.runtime import stub
from minidocker.runtime.enter import Entry
from tests.kernel.launched import OWN, Container, configuration, make_rootfs, run

INTERPRETER = os.path.realpath(sys.executable)


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    return make_rootfs(tmp_path)


def entered(container: Container, *args: str, filter: tuple[bytes, int] | None = None) -> str:
    """What an exec in `container` wrote, or the error that it ended with."""
    reader, writer = os.pipe()
    null = os.open("/dev/null", os.O_RDONLY)
    child = os.fork()  # an exec leaves its caller in the container's PID namespace
    if child == 0:
        process = {"args": list(args), "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}, "noNewPrivileges": True}
        try:
            entry = Entry("one", container.launch.state, process, cgroups.detect(), filter, (null, writer, writer))
            entry.run()
            code = os.waitstatus_to_exitcode(os.waitpid(entry.pid, 0)[1])
            if code:
                os.write(writer, b"ended with %d" % code)
        except MinidockerError as error:
            os.write(writer, f"{type(error).__name__}: {error}".encode())
        os._exit(0)
    os.close(writer)
    os.close(null)
    with open(reader) as output:
        text = output.read()
    os.waitpid(child, 0)
    return text


CAT_EXE = "#!/proc/self/exe\n"


@pytest.mark.parametrize("way", ["script", "link", "run-script"])
def test_cve_2019_5736_whoever_executes_proc_self_exe_executes_nothing_of_the_host_s(rootfs: Path, tmp_path: Path, way: str) -> None:
    (rootfs / "bin/evil").write_text(CAT_EXE)
    (rootfs / "bin/evil").chmod(0o755)
    (rootfs / "bin/link").symlink_to("/proc/self/exe")
    if way == "run-script":
        spec = configuration(rootfs, "")
        spec["process"]["args"] = ["/bin/evil"]
        assert Container(spec, tmp_path).start().finish() == (126, ""), "the stub was executed, found itself out, and ended"
        return
    container = Container(configuration(rootfs, "sleep 100"), tmp_path).start()
    try:
        assert entered(container, "/bin/evil" if way == "script" else "/bin/link") == "ended with 126"
    finally:
        os.kill(container.launch.at.pid, signal.SIGKILL)
        container.finish()


# What it won is named by the descriptor that it holds: between readlink and open the process may have become another program, its own.
HOSTILE = """
while true; do
    for exe in /proc/[0-9]*/exe; do
        link=$(readlink $exe) || continue
        case $link in /bin/busybox|"") continue;; esac
        echo "$link" >> /tmp/seen
        (exec 3< $exe
         held=$(readlink /proc/self/fd/3)
         case $held in /bin/busybox) exit 1;; esac
         for n in 1 2 3 4 5 6 7 8 9; do echo -n "" >> /proc/self/fd/3 && echo "$held" >> /tmp/won && exit 0; sleep 0.05; done) 2>/dev/null
    done
done
"""


def test_cve_2019_5736_a_container_that_tries_in_a_loop_never_opens_our_interpreter_to_write(rootfs: Path, tmp_path: Path) -> None:
    """Root of the host's, all capabilities that docker gives and SYS_PTRACE besides would reach /proc/PID/exe: here without the last."""
    before = Path(INTERPRETER).stat()
    names = [f"CAP_{name}" for name in ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID", "SYS_CHROOT", "MKNOD")]
    spec = configuration(rootfs, HOSTILE)
    spec["process"]["capabilities"] = {name: names for name in ("bounding", "effective", "permitted")}
    spec["process"]["noNewPrivileges"] = False
    (rootfs / "bin/evil").write_text(CAT_EXE)
    (rootfs / "bin/evil").chmod(0o755)
    container = Container(spec, tmp_path).start()
    try:
        for _ in range(15):
            entered(container, "/bin/true")
            entered(container, "/bin/evil")
    finally:
        os.kill(container.launch.at.pid, signal.SIGKILL)
        container.finish()
    seen = set((rootfs / "tmp/seen").read_text().split("\n")) if (rootfs / "tmp/seen").exists() else set()
    assert not [link for link in seen if "python" in link], "a process that is not dumpable shows nobody what it executes"
    assert won(rootfs) == []
    after = Path(INTERPRETER).stat()
    assert (after.st_mtime_ns, after.st_size) == (before.st_mtime_ns, before.st_size)


def won(rootfs: Path) -> list[str]:
    """What it could open to be written to; the stub is not counted, which is sealed."""
    file = rootfs / "tmp/won"
    return [line for line in file.read_text().splitlines() if not line.startswith("/memfd:minidocker")] if file.exists() else []


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """minidocker-oci by an interpreter of its own, so that no harm is done should a container get at it."""
    (tmp_path / "venv/bin").mkdir(parents=True)
    (tmp_path / "venv/bin/python3").write_bytes(Path(INTERPRETER).read_bytes())
    (tmp_path / "venv/bin/python3").chmod(0o755)
    (tmp_path / "venv/pyvenv.cfg").write_text(f"home = {os.path.dirname(INTERPRETER)}\n")
    paths = [str(Path(stub.__file__).parents[2]), *(path for path in sys.path if path.endswith("site-packages"))]
    code = f"import sys; sys.path[:0] = {paths!r}; from minidocker.__main__ import start; start('minidocker.cli.oci')"
    return [str(tmp_path / "venv/bin/python3"), "-I", "-S", "-c", code, "--root", str(tmp_path / "state")]


def test_cve_2019_5736_with_sys_ptrace_too_it_sees_our_interpreter_and_cannot_write_to_it(
    rootfs: Path, tmp_path: Path, command: list[str]
) -> None:
    names = [f"CAP_{name}" for name in ("DAC_OVERRIDE", "KILL", "SYS_PTRACE")]
    spec = configuration(rootfs, HOSTILE)
    spec["process"]["capabilities"] = {name: names for name in ("bounding", "effective", "permitted")}
    (tmp_path / "config.json").write_text(json.dumps(spec))
    before = (tmp_path / "venv/bin/python3").stat()

    def oci(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, cwd=tmp_path)

    with open(tmp_path / "log", "w") as log:
        subprocess.run([*command, "create", "-b", str(tmp_path), "hostile"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True)
    try:
        assert oci("start", "hostile").returncode == 0
        for _ in range(12):
            done = oci("exec", "hostile", "/bin/true")
            assert done.returncode == 0, done.stderr
    finally:
        oci("delete", "--force", "hostile")
        cgroups.detect().remove(f"{OWN}/one", OWN)  # what an absolute path is below is nobody's to remove
    seen = (rootfs / "tmp/seen").read_text().splitlines()
    assert "/" in seen, "the interpreter, on a mount that is mounted nowhere"
    assert won(rootfs) == []
    after = (tmp_path / "venv/bin/python3").stat()
    assert (after.st_mtime_ns, after.st_size) == (before.st_mtime_ns, before.st_size)


def test_the_stub_is_sealed_and_nothing_in_it_is_the_host_s(rootfs: Path) -> None:
    file = stub._sealed(stub.image(b"/bin/true", 9, None))
    try:
        with pytest.raises(PermissionError):
            os.write(file, b"x")
        with pytest.raises(PermissionError):
            os.ftruncate(file, 0)
    finally:
        os.close(file)


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("noloader", b"#!/nosuch\n", TargetNotFound, "execute `/bin/noloader`: its interpreter does not exist in the container"),
        ("garbage", b"\x01\x02\x03", TargetNotExecutable, "execute `/bin/garbage`: it is neither a binary for this machine nor"),
    ],
)
@pytest.mark.parametrize("filtered", [False, True])
def test_what_keeps_the_program_from_running_is_told_by_the_stub(
    rootfs: Path, tmp_path: Path, name: str, content: bytes, error: type[MinidockerError], message: str, filtered: bool
) -> None:
    (rootfs / "bin" / name).write_bytes(content)
    (rootfs / "bin" / name).chmod(0o755)
    spec = configuration(rootfs, "")
    spec["process"]["args"] = [f"/bin/{name}"]
    if filtered:
        spec["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}
    container = Container(spec, tmp_path)
    with pytest.raises(error) as raised:
        container.start()
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize("quiet", [True, False])
def test_a_filter_that_forbids_execveat_starts_all_the_same_and_refuses_links(rootfs: Path, tmp_path: Path, quiet: bool) -> None:
    (rootfs / "bin/evil").write_text(CAT_EXE)
    (rootfs / "bin/evil").chmod(0o755)
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["execveat", "mkdir"], "action": "SCMP_ACT_ERRNO"}]}
    spec = configuration(rootfs, "mkdir /tmp/x 2>/dev/null || echo refused", seccomp=profile)
    spec["process"]["noNewPrivileges"] = quiet
    assert run(spec, tmp_path) == "refused\n"
    spec["process"]["args"] = ["/bin/evil"]
    container = Container(spec, tmp_path)
    if quiet:  # the stub was executed before it loaded the filter, and is what is found
        assert container.start().finish() == (126, "")
    else:
        with pytest.raises(TargetNotExecutable, match="execute `/proc/self/exe`: a link of /proc's leads to it"):
            container.start()


def test_arguments_environment_and_descriptors_pass_through_the_stub(rootfs: Path, tmp_path: Path) -> None:
    spec = configuration(rootfs, "")
    script = 'echo "$#|$1|$2|$A|$(ls /proc/self/fd | wc -l)"; cat /proc/$$/comm; true'
    spec["process"].update(args=["/bin/sh", "-c", script, "sh", "", "a b"], env=["PATH=/bin", "A=x y"])
    assert run(spec, tmp_path) == "2||a b|x y|4\nsh\n", "0, 1, 2, and what ls reads with"


# Looking up and writing.


def test_cve_2024_21626_no_directory_of_the_host_s_is_reached_by_a_descriptor(rootfs: Path, tmp_path: Path) -> None:
    for number in range(3, 12):
        spec = configuration(rootfs, "ls -d /proc/self/cwd/etc/passwd; pwd")
        spec["process"]["cwd"] = f"/proc/self/fd/{number}"
        try:
            container = Container(spec, tmp_path).start()
        except MinidockerError:
            continue
        assert "passwd" not in container.finish()[1].replace("ls: /proc/self/cwd/etc/passwd: No such file", "")


def test_cve_2019_19921_a_link_at_proc_is_not_mounted_through(rootfs: Path, tmp_path: Path) -> None:
    (rootfs / "proc").rmdir()
    (rootfs / "other/proc").mkdir(parents=True)
    (rootfs / "proc").symlink_to("other/proc")
    with pytest.raises(MinidockerError, match="mount `proc` on `/proc`: the root file system has a link there"):
        Container(configuration(rootfs, "true"), tmp_path)


@pytest.mark.parametrize("place", ["/masked", "/readonly"])
def test_cve_2023_27561_protected_paths_follow_no_link_out_of_the_root(rootfs: Path, tmp_path: Path, place: str) -> None:
    """And CVE-2023-28642: a /proc that is a link into a volume."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("host's")
    (rootfs / place[1:]).symlink_to(outside)
    spec = configuration(rootfs, "true", maskedPaths=["/masked/file"], readonlyPaths=["/readonly/file"])
    run(spec, tmp_path)
    assert (outside / "file").read_text() == "host's"


def test_cve_2021_30465_a_destination_that_becomes_a_link_meanwhile_is_looked_up_in_the_root(rootfs: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    shared = tmp_path / "shared"
    (shared / "place").mkdir(parents=True)
    swapper = subprocess.Popen(
        ["sh", "-c", f"while true; do mv {shared}/place {shared}/away; ln -s {outside} {shared}/place; rm {shared}/place; "
                     f"mv {shared}/away {shared}/place; done"], stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(15):
            spec = configuration(rootfs, "cat /proc/self/mountinfo")
            spec["mounts"].append({"destination": "/shared", "type": "bind", "source": str(shared), "options": ["bind"]})
            spec["mounts"].append({"destination": "/shared/place", "type": "tmpfs", "source": "tmpfs"})
            try:
                run(spec, tmp_path)
            except MinidockerError:
                continue  # it was away, or a file's name was taken meanwhile
    finally:
        swapper.kill()
        swapper.wait()
    assert list(outside.iterdir()) == []


def test_cve_2024_45310_what_is_missing_is_made_inside_the_root_alone(rootfs: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (rootfs / "link").symlink_to(outside)
    spec = configuration(rootfs, "true")
    spec["mounts"].append({"destination": "/link/made/here", "type": "tmpfs", "source": "tmpfs"})
    run(spec, tmp_path)
    assert list(outside.iterdir()) == []


def test_cve_2025_52565_the_console_is_bound_over_nothing_outside(rootfs: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("host's")
    spec = configuration(rootfs, "true")
    spec["mounts"][1] = {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]}
    (rootfs / "dev/console").symlink_to(outside)
    spec["process"]["terminal"] = True
    container = Container(spec, tmp_path)
    assert container.launch.terminal >= 0
    os.close(container.launch.terminal)
    container.start()
    os.waitpid(container.launch.at.pid, 0)
    os.close(container.reader)
    container.face.remove(container.launch.cgroup.name, OWN)
    assert outside.read_text() == "host's"


@pytest.mark.parametrize("kind", ["fifo", "gigabytes", "link"])
def test_hostile_files_in_the_root_neither_hang_nor_fill_us(rootfs: Path, tmp_path: Path, kind: str) -> None:
    """CVE-2019-14271 and CVE-2024-9676 among others: nothing in the root is opened to be read, but the first line of the program."""
    for name in ("passwd", "group", "nsswitch.conf", "ld.so.cache", "ld.so.preload", "localtime"):
        path = rootfs / "etc" / name
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "link":
            path.symlink_to("/proc/self/fd/0")
        else:
            with open(path, "wb") as file:
                file.truncate(8 << 30)
    assert run(configuration(rootfs, "echo fine"), tmp_path) == "fine\n"


@pytest.mark.parametrize("program", ["/bin/true", "/nosuch", "/bin/garbage"])
def test_cve_2019_14271_nothing_is_loaded_after_the_pivot(rootfs: Path, tmp_path: Path, program: str) -> None:
    """strace sees every file that is opened between pivot_root and execve, on the way of an error too: none is looked for."""
    (rootfs / "bin/garbage").write_bytes(b"\x01\x02\x03")
    (rootfs / "bin/garbage").chmod(0o755)
    log = tmp_path / "strace"
    driver = f"""
import sys
sys.path[:0] = {[str(Path(__file__).resolve().parents[2]), *[p for p in sys.path if p.endswith("site-packages")]]!r}
from tests.kernel.launched import *
from minidocker.errors import MinidockerError
spec = configuration(Path({str(rootfs)!r}), "")
spec["process"]["args"] = [{program!r}]
spec["process"]["env"].append("HOME=/")  # else it is looked up, in the open: home directories are in /etc/passwd
spec["linux"]["seccomp"] = {{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}}]}}
spec["linux"]["cgroupsPath"] = {f"/{OWN}/traced"!r}
try:
    container = Container(spec, Path({str(tmp_path)!r}))
    try:
        container.start().finish()
    except MinidockerError as error:
        print(error)
finally:
    cgroups.detect().remove({f"{OWN}/traced"!r}, {OWN!r})
"""
    done = subprocess.run(["strace", "-f", "-qq", "-o", str(log), "-e", "trace=pivot_root,open,openat,openat2,execve,execveat",
                           sys.executable, "-c", driver], capture_output=True, text=True, check=False)  # fmt: skip
    lines = log.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if "pivot_root" in line)
    child = lines[at].split()[0]
    after = [line for line in lines[at + 1 :] if line.split()[0] == child]
    end = next((i for i, line in enumerate(after) if "execveat" in line), len(after))
    opened = [line for line in after[:end] if re.search(r"\bopen", line)]
    assert opened == [], done.stderr
    assert any("execveat" in line for line in after) == (program != "/nosuch")


