"""minidocker-oci under attack, by its command line: hostile root file systems and bundles, and processes of the host's that swap files
while a container is made. Each test is named after the published flaw it stands for, and passes when we are safe.

One attack at a time, by the runtime's own steps, is in tests/kernel/test_runtime_attack.py; minidocker's own are in test_attack.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.oci import Bundle, Oci
from tests.e2e.support import Terminal

SECONDS = 4.0  # what a race is given; each has many rounds in that

# Swaps the two names for each other, as fast as can be: renameat2(2) with RENAME_EXCHANGE. Says how often when it is ended.
SWAPPER = """
import ctypes, signal, sys
call, times = ctypes.CDLL(None, use_errno=True).renameat2, 0
one, other = map(str.encode, sys.argv[1:])
signal.signal(signal.SIGTERM, lambda *_: (print(times), sys.exit()))
print("ready", flush=True)
while True:
    assert call(-100, one, -100, other, 2) == 0
    times += 1
"""


@pytest.fixture
def tree(oci: Oci) -> Path:
    """The root file system of all bundles, to be made hostile."""
    place = oci.place / "tree"
    subprocess.run(["cp", "-a", oci.rootfs, place], check=True)
    oci.rootfs = place
    return place


@pytest.fixture
def victim(victim: Path) -> Iterator[Path]:
    """A directory of the host's that must stay as it is, and on which nothing must be mounted."""
    before = mounts_of("self")
    yield victim
    assert mounts_of("self") == before


def mounts_of(pid: object) -> set[str]:
    """Where a process sees something mounted."""
    return {line.split()[4] for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()}


@contextlib.contextmanager
def swapping(one: Path, other: Path) -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", SWAPPER, one, other], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        try:
            yield
        finally:
            process.terminate()
            times = process.stdout.read()
            assert int(times) > 100, "it was a race"


def rounds(seconds: float = SECONDS) -> Iterator[int]:
    deadline = time.monotonic() + seconds
    number = 0
    while time.monotonic() < deadline:
        yield number
        number += 1
    assert number > 3


def orderly(done: subprocess.CompletedProcess[str]) -> bool:
    """It was made, or refused in one line and a hint: nothing internal, no signal."""
    refused = done.returncode in (1, 125, 126, 127) and done.stderr.startswith("minidocker-oci: ") and done.stderr.count("\n") <= 2
    return (done.returncode == 0 or refused) and "internal" not in done.stderr and "Traceback" not in done.stderr


def link_to(target: object) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(str(target))


def gigabytes(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(64 << 30)


def replace(path: Path, make: Callable[[Path], object]) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    make(path)


def guarded(bundle: Bundle, script: str) -> Bundle:
    """A bundle whose /proc is protected as docker's; `script` is what it runs."""
    bundle.config["process"]["args"] = ["sh", "-c", script]
    bundle.config["linux"].update(maskedPaths=["/proc/kcore", "/proc/keys"], readonlyPaths=["/proc/sys", "/proc/sysrq-trigger"])
    return bundle


# --- /proc ---------------------------------------------------------------------------------------------------------------------------

# Opens for writing, and writes nothing: whatever is called core_pattern, wherever a procfs is mounted.
OPEN_PROC = """cut -d ' ' -f 5,8- /proc/self/mountinfo > /tmp/mounts
for place in /proc /elsewhere /shared /shared/proc /other/proc $(grep ' proc ' /tmp/mounts | cut -d ' ' -f 1); do
    ( : >> $place/sys/kernel/core_pattern ) 2> /dev/null && [ -e $place/self/status ] && echo writable $place
    [ -s $place/keys ] && echo unmasked $place
done; true"""


@pytest.mark.parametrize("name", ["proc", "sys"])
@pytest.mark.parametrize("where", ["last", "parent"])
def test_cve_2019_19921_and_2023_27561_a_link_in_the_way_to_proc_is_refused(oci: Oci, tree: Path, name: str, where: str) -> None:
    """The last name, or a directory before it: links lead to a directory while it is mounted on, and to another while it is masked."""
    kind = {"proc": "proc", "sys": "sysfs"}[name]
    (tree / "real" / name).mkdir(parents=True)
    bundle = guarded(oci.bundle("c"), OPEN_PROC)
    [mount] = [entry for entry in bundle.config["mounts"] if entry["destination"] == "/proc"]
    mount.update(type=kind, source=kind)
    if where == "last":
        replace(tree / name, link_to(f"real/{name}"))
        mount["destination"] = f"/{name}"
    else:
        (tree / "link").symlink_to("real")
        mount["destination"] = f"/link/{name}"
    error = oci.refused("run", "--bundle", bundle.write(), "c", code=125)
    assert f"mount `{kind}` on `{mount['destination']}`" in error and "link" in error


def test_cve_2023_28642_a_link_in_a_volume_is_refused_too(oci: Oci, victim: Path) -> None:
    """The volume comes first, and with it what another container made of it."""
    bundle = guarded(oci.bundle("c"), OPEN_PROC)
    (bundle.shared / "real").mkdir()
    (bundle.shared / "proc").symlink_to("real")
    bundle.config["mounts"].append({"destination": "/shared/proc", "type": "proc", "source": "proc"})
    assert "on `/shared/proc`" in oci.refused("run", "--bundle", bundle.write(), "c", code=125)
    (bundle.shared / "proc").unlink()
    (bundle.shared / "proc").symlink_to(victim)
    assert "on `/shared/proc`" in oci.refused("run", "--bundle", bundle.write(), "c", code=125)


@pytest.mark.parametrize("other", ["directory", "link"])
def test_cve_2023_27561_proc_swapped_while_it_is_made_is_never_left_unmasked(oci: Oci, tree: Path, other: str) -> None:
    """Whoever else has the root file system renames what /proc is mounted on: the mount goes along, and its masks must."""
    replace(tree / "elsewhere", Path.mkdir if other == "directory" else link_to("/shared"))
    bundle = guarded(oci.bundle("c"), "true")
    there = [path for key in ("maskedPaths", "readonlyPaths") for path in bundle.config["linux"][key] if os.path.exists(path)]
    made = 0
    with swapping(tree / "proc", tree / "elsewhere"):
        for _ in rounds():
            done = bundle.create(check=False)
            assert orderly(done), done.stderr
            if done.returncode == 0:
                made += 1
                pid = oci.state("c")["pid"]
                lines = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
                for mount in (line[0] for line in lines if line[line.index("-") + 1] == "proc" and line[3] == "/"):
                    assert sum(line[1] == mount for line in lines) == len(there), "one over each path"
                oci("delete", "--force", "c")
    assert made


# --- mount points and what is made for them -------------------------------------------------------------------------------------------


def test_cve_2021_30465_a_target_swapped_for_a_link_is_mounted_on_in_the_container_alone(oci: Oci, victim: Path) -> None:
    """Another container that has the same volume swaps the directory for a link to the host's, again and again."""
    bundle = oci.bundle("c", "true")
    (bundle.shared / "place").mkdir()
    (bundle.shared / "link").symlink_to("/" + "../" * 20 + str(victim)[1:])
    bundle.config["mounts"].append({"destination": "/shared/place", "type": "tmpfs", "source": "tmpfs"})
    bundle.config["mounts"].append({"destination": "/shared/place/below", "type": "bind", "source": "/etc", "options": ["bind"]})
    made = 0
    with swapping(bundle.shared / "place", bundle.shared / "link"):
        for _ in rounds():
            done = bundle.create(check=False)
            assert orderly(done), done.stderr
            if done.returncode == 0:
                made += 1
                below = {"/", "/proc", "/dev", "/dev/pts", "/shared", "/tmp"}
                rest = mounts_of(oci.state("c")["pid"]) - below
                assert all(path.startswith(("/shared/", str(victim))) for path in rest), rest
                oci("delete", "--force", "c")
    assert made


@pytest.mark.parametrize("missing", ["place/new", "place/new/deep/file"])
def test_cve_2024_45310_what_is_missing_behind_a_racing_link_is_made_in_the_container_alone(oci: Oci, victim: Path, missing: str) -> None:
    bundle = oci.bundle("c", "true")
    (bundle.shared / "place").mkdir()
    (bundle.shared / "link").symlink_to(victim)
    bundle.config["mounts"].append({"destination": f"/shared/{missing}", "type": "bind", "source": "/etc/hostname", "options": ["bind"]})
    with swapping(bundle.shared / "place", bundle.shared / "link"):
        for _ in rounds():
            done = bundle.run(check=False)
            assert orderly(done), done.stderr
            shutil.rmtree(bundle.shared / "place/new", ignore_errors=True)


def test_cve_2025_52565_the_console_is_bound_over_nothing_of_the_host_s(oci: Oci, tree: Path, victim: Path) -> None:
    """/dev is the root file system's own, and its /dev/console is swapped for a link while the terminal is made."""
    bundle = guarded(oci.bundle("c", terminal=True), "tty; ( : >> /proc/sys/kernel/core_pattern ) 2> /dev/null && echo writable; true")
    bundle.config["mounts"] = [entry for entry in bundle.config["mounts"] if entry["destination"] != "/dev"]
    (tree / "dev/console").touch()
    (tree / "dev/link").symlink_to(victim / "file")
    (tree / "dev/pts").mkdir(exist_ok=True)
    with swapping(tree / "dev/console", tree / "dev/link"):
        for _ in rounds():
            with Terminal(oci.argv("run", "--bundle", bundle.write(), "c")) as terminal:
                code = terminal.wait()
                assert code in (0, 1, 125) and b"writable" not in terminal.shown and b"internal" not in terminal.shown, terminal.shown
                assert code or b"/dev/pts/0" in terminal.shown, terminal.shown


# --- hostile root file systems --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["dev", "proc", "sys", "etc", "etc/passwd", "etc/group", "etc/nsswitch.conf", "bin/sh"])
def test_cve_2019_14271_and_2024_9676_a_hostile_root_file_system_neither_hangs_nor_leads_out(
    oci: Oci, tree: Path, victim: Path, place: str
) -> None:
    """Nothing in it is opened to be read, nor waited for, nor followed to the host. HOME is looked up in /etc/passwd: that is in bounds."""
    for make in (os.mkfifo, gigabytes, link_to(victim), link_to(victim / "file"), link_to("/" + "../" * 20 + str(victim)[1:]),
                 link_to("/proc/self/fd/0"), link_to("/proc/self/root"), link_to(f"/{place}")):  # fmt: skip
        (tree / place).parent.mkdir(parents=True, exist_ok=True)
        replace(tree / place, make)
        bundle = guarded(oci.bundle("c"), "true")
        bundle.config["mounts"].append({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]})
        done = bundle.run(check=False)
        assert orderly(done), (make, done)
        left = oci("list", "-q").stdout.split()
        assert left == []


def test_cve_2024_21626_no_descriptor_of_ours_or_the_caller_s_is_a_working_directory(oci: Oci) -> None:
    held = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in ("/", "/etc", "/sys/fs/cgroup")]
    try:
        look = ["sh", "-c", "pwd; ls -d /proc/self/cwd/etc /proc/self/cwd/../../../etc/shadow; ls /proc/self/fd"]
        oci.running("lasting")
        for number in (*range(3, 12), *held):
            cwd = f"/proc/self/fd/{number}"
            bundle = oci.bundle("c", *look, cwd=cwd)
            assert not bundle.run(check=False, pass_fds=held).stdout, cwd
            assert not oci("exec", "--cwd", cwd, "lasting", *look, check=False, pass_fds=held).stdout, cwd
        said = oci("exec", "lasting", "ls", "/proc/self/fd", pass_fds=held).stdout.split()
        assert said == ["0", "1", "2", "3"], "3 is what ls reads with"
    finally:
        for descriptor in held:
            os.close(descriptor)


def test_cve_2022_29162_nothing_is_inherited(oci: Oci) -> None:
    """Neither capabilities nor groups of whoever starts it, by run and by exec."""
    before = os.getgroups()
    os.setgroups([4242])
    try:
        bundle = oci.bundle("c", "grep", "-E", "CapInh|CapAmb|Groups", "/proc/self/status")
        said = [bundle.out()]
        oci.running("lasting")
        said.append(oci("exec", "lasting", "grep", "-E", "CapInh|CapAmb|Groups", "/proc/self/status").stdout.rstrip("\n"))
    finally:
        os.setgroups(before)
    for text in said:
        values = dict(line.split(":") for line in text.splitlines())
        assert values["CapInh"].strip() == values["CapAmb"].strip() == "0" * 16 and values["Groups"].split() in ([], ["0"]), text


def test_cve_2022_0492_the_default_configurations_cgroups_are_read_only(oci: Oci, tmp_path: Path) -> None:
    """Every one that `spec` has mounted; and nobody mounts one who did not ask for it."""
    oci("spec", "--bundle", tmp_path)
    default = [entry for entry in json.loads((tmp_path / "config.json").read_text())["mounts"] if entry["type"] == "cgroup"]
    make = "for at in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $at/made 2> /dev/null && echo made in $at; done"
    bundle = oci.bundle("c", "sh", "-c", f"{make}; grep cgroup /proc/self/mounts")
    assert default and bundle.run(check=False).stdout == ""
    bundle.config["mounts"] += default
    lines = bundle.out().splitlines()
    assert lines and not [line for line in lines if line.startswith("made in")]
    assert all("ro" in line.split()[3].split(",") for line in lines), lines


@pytest.mark.parametrize(("words", "code"), [(["true"], 0), (["no-such"], 127), (["/etc/passwd"], 126)])
def test_cve_2019_14271_after_joining_nothing_is_loaded(oci: Oci, tmp_path: Path, words: list[str], code: int) -> None:
    """strace of exec, its errors too: between setns and execveat nothing is opened but below /proc. HOME is given: it would be looked up in
    /etc/passwd, which is no code."""
    oci.running("c", env=["PATH=/bin", "HOME=/"])
    argv = ["strace", "-ff", "-o", str(tmp_path / "trace"), "-e", "trace=open,openat,openat2,execve,execveat,setns,connect,socket"]
    done = subprocess.run([*argv, "--", *oci.argv("exec", "c", *words)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=60, check=False)  # fmt: skip
    assert done.returncode == code, done.stderr
    [joined] = [text for text in (path.read_text() for path in tmp_path.glob("trace.*")) if "CLONE_NEWNS" in text]
    lines = joined.splitlines()
    for line in lines[max(at for at, line in enumerate(lines) if line.startswith("setns(")) + 1 :]:
        if line.startswith("execveat("):
            break
        if line.startswith(("open", "connect", "socket")):
            assert line.split('"')[1] == "/" or line.split('"')[1].startswith("/proc/"), line
