"""What a container may not see, reach or do, looked at from inside by its own programs and from outside in /proc."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from minidocker.spec import capabilities, config
from tests import pretend
from tests.e2e.support import Minidocker, Terminal, poll

Box = Callable[..., subprocess.CompletedProcess[Any]]
NAMESPACES = ("mnt", "pid", "uts", "ipc", "net", "cgroup")


def status(text: str) -> dict[str, str]:
    """A /proc/PID/status as a mapping."""
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


def mask(*names: str) -> str:
    """Capabilities as /proc/PID/status writes a set of them."""
    return f"{sum(1 << capabilities.NAMES.index('CAP_' + name) for name in names):016x}"


# docker's default set (moby oci/caps/defaults.go) less NET_RAW
DEFAULT = (
    "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "SETGID", "SETUID", "SETFCAP", "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT",
    "KILL", "AUDIT_WRITE",
)  # fmt: skip
RAW_NO_KILL = {*DEFAULT, "NET_RAW"} - {"KILL"}


@pytest.fixture
def lasting(md: Minidocker, busybox: Path) -> Callable[..., int]:
    """Start a container that stays; its first process's pid, as the host sees it."""

    def start(*options: object) -> int:
        name = f"lasting{len(md.ps())}"
        md.start("--net", "none", "--rootfs", busybox, "--name", name, *options, "sleep", "1000")
        return int(md.inspect(name)["State"]["Pid"])

    return start


# --- namespaces -------------------------------------------------------------------------------------------------------------------


def test_all_six_namespaces_are_new_and_each_containers_own(md: Minidocker, lasting: Callable[..., int]) -> None:
    def inodes(pid: int | str) -> dict[str, int]:
        return {name: os.stat(f"/proc/{pid}/ns/{name}").st_ino for name in NAMESPACES}

    host, one, two = inodes("self"), inodes(lasting()), inodes(lasting())
    for name in NAMESPACES:
        assert len({host[name], one[name], two[name]}) == 3, name
    pid = md.inspect("lasting0")["State"]["Pid"]
    assert os.stat(f"/proc/{pid}/ns/user").st_ino == os.stat("/proc/self/ns/user").st_ino, "a user namespace only where asked for"
    joined = md("exec", "lasting0", "sh", "-c", "cd /proc/self/ns; for n in *; do echo $n $(readlink $n); done").stdout
    seen = {name: int(link.split("[")[1][:-1]) for name, link in (line.split() for line in joined.splitlines())}
    assert {name: seen[name] for name in NAMESPACES} == one, "exec joins them all"


def test_the_host_and_its_processes_are_out_of_sight(box: Box) -> None:
    assert box("sh", "-c", "echo $$; ls -d /proc/[0-9]*").stdout.split()[:2] == ["1", "/proc/1"]
    assert box("hostname").stdout.strip() != os.uname().nodename
    assert box("sh", "-c", "ls /sys/class/net").stdout.split() == ["lo"]
    assert box("ip", "-o", "link").stdout.count("\n") == 1
    lines = box("cat", "/proc/self/cgroup").stdout.split()
    assert lines and all(line.endswith(":/") for line in lines if "name=" not in line and not line.startswith("0::")), lines
    assert [box("cat", f"/proc/sysvipc/{kind}").stdout.count("\n") for kind in ("shm", "sem", "msg")] == [1, 1, 1], "headings alone"


def test_net_host_and_cgroupns_host_share_the_hosts(md: Minidocker, busybox: Path) -> None:
    def link(*words: str) -> str:
        return str(md.run("--rm", "--rootfs", busybox, *words[:-1], "readlink", f"/proc/self/ns/{words[-1]}").stdout).strip()

    for words in (("--net", "host", "net"), ("--net", "none", "--cgroupns", "host", "cgroup"), ("--net", "none", "--privileged", "cgroup")):
        assert link(*words) == os.readlink(f"/proc/self/ns/{words[-1]}"), words
    assert link("--net", "none", "--cgroupns", "private", "--privileged", "cgroup") != os.readlink("/proc/self/ns/cgroup")


def test_nothing_of_the_host_is_mounted_or_mounts_into_the_container(md: Minidocker, lasting: Callable[..., int], tmp_path: Path) -> None:
    pid = lasting("-v", f"{tmp_path}:/volume")
    listed = Path(f"/proc/{pid}/mountinfo").read_text()
    assert "shared:" not in listed and "master:" not in listed, "neither side's later mounts are seen by the other"
    assert {line.split()[4] for line in listed.splitlines() if not line.split()[4].startswith(("/proc", "/sys", "/dev"))} == {
        "/", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/volume",
    }  # fmt: skip
    (tmp_path / "later").mkdir()
    pretend.sh(f"mount -t tmpfs tmpfs {tmp_path}/later && touch {tmp_path}/later/secret")
    try:
        assert md("exec", "lasting0", "ls", "/volume/later").stdout == ""
    finally:
        pretend.sh(f"umount {tmp_path}/later")


# --- file systems -------------------------------------------------------------------------------------------------------------------


def mounts(text: str) -> dict[str, tuple[set[str], str, str]]:
    """mountinfo as {mount point: (options, type, super options)}; of several on one point the last."""
    found = {}
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        found[before.split()[4]] = (set(before.split()[5].split(",")), kind, options)
    return found


def test_proc_sys_and_dev_are_fresh_and_guarded(box: Box) -> None:
    seen = mounts(box("cat", "/proc/self/mountinfo").stdout)
    expected = {
        "/proc": ("proc", {"rw", "nosuid", "nodev", "noexec"}),
        "/sys": ("sysfs", {"ro", "nosuid", "nodev", "noexec"}),
        "/dev": ("tmpfs", {"rw", "nosuid", "noexec"}),
        "/dev/pts": ("devpts", {"rw", "nosuid", "noexec"}),
        "/dev/shm": ("tmpfs", {"rw", "nosuid", "nodev", "noexec"}),
        "/dev/mqueue": ("mqueue", {"rw", "nosuid", "nodev", "noexec"}),
    }
    for place, (kind, options) in expected.items():
        assert seen[place][1] == kind and options <= seen[place][0], (place, seen[place])
    assert "size=65536k" in seen["/dev/shm"][2]
    for place in [place for place in seen if place.startswith("/sys/fs/cgroup")]:
        assert "ro" in seen[place][0], (place, seen[place])
    for command in ("mkdir /sys/fs/cgroup/x", "mkdir /sys/fs/cgroup/memory/x", ": > /sys/kernel/uevent_helper"):
        done = box("sh", "-c", command, check=False)
        assert done.returncode != 0 and "Permission" not in done.stderr, (command, done.stderr)


def test_masked_paths_are_empty_and_read_only_ones_cannot_be_written(box: Box) -> None:
    seen = mounts(box("cat", "/proc/self/mountinfo").stdout)
    masked = [path for path in config.MASKED_PATHS if os.path.exists(path)]
    readonly = [path for path in config.READONLY_PATHS if os.path.exists(path)]
    assert {"/proc/kcore", "/proc/keys", "/proc/sys", "/proc/sysrq-trigger"} & {*masked, *readonly}, "a host without any tells nothing"
    for path in masked:
        assert path in seen, path
        content = box("sh", "-c", f"if [ -d {path} ]; then ls -A {path}; else cat {path}; fi", check=False)
        assert (content.stdout, content.returncode) == ("", 0), path
    for path in readonly:
        assert "ro" in seen[path][0], path
    written = ("/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches")
    for path in filter(os.path.exists, written):
        assert "Read-only file system" in box("sh", "-c", f": > {path}", check=False).stderr, path
    assert "perm" in box("sh", "-c", "umount /proc/sys", check=False).stderr.lower()


def test_docker_masks_these() -> None:
    """The lists themselves: moby oci/defaults.go, v27."""
    assert set(config.MASKED_PATHS) >= {
        "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
        "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
    }  # fmt: skip
    assert set(config.READONLY_PATHS) >= {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}


def test_dev_holds_this_and_nothing_else(box: Box, busybox: Path, md: Minidocker) -> None:
    listing = "cd /dev; for f in *; do if [ -L $f ]; then echo $f = $(readlink $f); else stat -c '%n %a %F %t:%T' $f; fi; done"
    seen = box("sh", "-c", listing).stdout.splitlines()
    assert seen == [
        "fd = /proc/self/fd", "full 666 character special file 1:7", "mqueue 1777 directory 0:0", "null 666 character special file 1:3",
        "ptmx = pts/ptmx", "pts 755 directory 0:0", "random 666 character special file 1:8", "shm 1777 directory 0:0",
        "stderr = /proc/self/fd/2", "stdin = /proc/self/fd/0", "stdout = /proc/self/fd/1", "tty 666 character special file 5:0",
        "urandom 666 character special file 1:9", "zero 666 character special file 1:5",
    ]  # fmt: skip
    with Terminal(md.argv("run", "--rm", "--net", "none", "-t", "--rootfs", busybox, "ls", "/dev")) as terminal:
        assert terminal.wait() == 0
        assert b"console" in terminal.shown, "with -t, and then only"
    script = "head -c 4 /dev/zero | od -An -tx1; echo x > /dev/null; head -c 2 /dev/urandom | wc -c; echo x > /dev/full; ls /dev/pts"
    done = box("sh", "-c", script, check=False)
    assert done.stdout.split() == ["00", "00", "00", "00", "2", "ptmx"] and "No space left" in done.stderr


def test_a_hostile_root_file_system_does_not_lead_out(md: Minidocker, busybox: Path, tmp_path: Path) -> None:
    """Links in DIR where we mount: everything stays below the new root."""
    target = tmp_path / "outside"
    target.mkdir()
    tree = tmp_path / "tree"
    subprocess.run(["cp", "-a", busybox, tree], check=True)
    for name in ("dev", "proc", "sys"):
        (tree / name).rmdir()
        (tree / name).symlink_to(f"/../../../../../../../..{target}")
    for name in ("hosts", "hostname", "resolv.conf"):
        (tree / "etc" / name).unlink(missing_ok=True)
        (tree / "etc" / name).symlink_to(f"/../../..{target}/{name}")
    (tree / "volume").symlink_to(f"../../../../../../..{target}")
    volume = ("-v", f"{busybox}:/volume/deep:ro", "--tmpfs", "/volume/tmp", "-w", "/volume/cwd")
    md.run("--rm", "--net", "none", "--rootfs", tree, *volume, "true", check=False)
    assert os.listdir(target) == []


def test_proc_self_cwd_and_root_lead_nowhere_else(box: Box, md: Minidocker, busybox: Path) -> None:
    script = "readlink /proc/self/cwd; readlink /proc/self/root; cd /proc/self/cwd/../../../..; pwd -P; "
    lines = box("sh", "-c", script + "stat -L -c %i / /proc/self/cwd /proc/1/root").stdout.split()
    assert lines[:3] == ["/", "/", "/"] and len(set(lines[3:])) == 1
    for number in range(3, 10):  # CVE-2024-21626
        done = box("-w", f"/proc/self/fd/{number}", "ls", "/", check=False)
        assert done.returncode == 125 or "etc" in done.stdout.split(), "refused, or the container's own"
    md.start("--net", "none", "--rootfs", busybox, "--name", "one", "sleep", "1000")
    for number in range(3, 10):
        done = md("exec", "-w", f"/proc/self/fd/{number}", "one", "pwd", check=False)
        assert done.returncode != 0 or not done.stdout.startswith(str(md.root.parent)), (number, done.stdout)


# --- descriptors (law 7) --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def open_files(tmp_path: Path) -> Iterator[list[int]]:
    """Descriptors that the caller forgot to close, a directory of the host's among them."""
    numbers = []
    for wanted in (3, 9, 200, 1000):
        descriptor = os.open(tmp_path, os.O_RDONLY)
        os.dup2(descriptor, wanted) if wanted > 100 else None
        numbers += [descriptor] + ([wanted] if wanted > 100 else [])
    for number in numbers:
        os.set_inheritable(number, True)
    yield numbers
    for number in numbers:
        os.close(number)


def descriptors(pid: int | str) -> dict[str, str]:
    """What a process has open, as the host sees it: number -> what."""
    return {number: os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")}


@pytest.mark.parametrize("options", [(), ("-i",), ("-t",), ("--init",), ("--privileged",)], ids=str)
def test_no_descriptor_of_ours_or_the_callers_reaches_the_container(
    md: Minidocker, busybox: Path, open_files: list[int], options: tuple[str, ...]
) -> None:
    # close_fds=False hands on all that are inheritable
    words = ("run", "--rm", "--net", "none", "--rootfs", busybox, "--name", "one", *options, "sleep", "1000")
    with md.open(*words, close_fds=False, stdin=subprocess.DEVNULL):
        [record] = poll(lambda: [row for row in md.ps() if row["State"] == "running"], "it runs")
        procs = md.cgroup(record["ID"], "pids") / "cgroup.procs"
        pids = poll(lambda: len(p := procs.read_text().split()) == (2 if "--init" in options else 1) and p, "its processes are there")
        for pid in pids:
            found = descriptors(pid)
            assert set(found) == {"0", "1", "2"}, found
            for what in found.values():
                assert what.startswith("pipe:") or what in ("/dev/null", "/dev/pts/0"), found
        md("kill", "one")


def test_the_program_sees_no_other_descriptor(box: Box, open_files: list[int]) -> None:
    done = box("ls", "-l", "/proc/self/fd", close_fds=False, check=False)
    assert [line.split()[8] for line in done.stdout.splitlines()[1:]] == ["0", "1", "2", "3"]
    assert "fd/3: cannot read link" in done.stderr, "3 is ls reading this very directory, and closed by now"


def command(pid: str) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


def runs(pid: str) -> bool:
    return command(pid) == "sleep 999 " and "memfd" not in os.readlink(f"/proc/{pid}/exe")


@pytest.mark.parametrize("options", [(), ("-i",), ("-t",), ("-d",)], ids=str)
def test_exec_hands_no_descriptor_on_either(md: Minidocker, busybox: Path, open_files: list[int], options: tuple[str, ...]) -> None:
    id = md.start("--net", "none", "--rootfs", busybox, "--name", "one", "sleep", "1000", close_fds=False)
    first = str(md.inspect("one")["State"]["Pid"])
    assert set(descriptors(first)) == {"0", "1", "2"}
    with md.open("exec", *options, "one", "sleep", "999", close_fds=False, stdin=subprocess.DEVNULL):
        procs = md.cgroup(id, "pids") / "cgroup.procs"
        [pid] = poll(lambda: [p for p in procs.read_text().split() if runs(p)], "it runs")
        found = descriptors(pid)
        assert set(found) == {"0", "1", "2"}, found
        md("kill", "one")


# --- privileges -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "bounding", "effective", "quiet", "filtered"),
    [
        ((), DEFAULT, DEFAULT, "1", "2"),
        (("-u", "1000"), DEFAULT, (), "1", "2"),
        (("--cap-add", "NET_RAW"), (*DEFAULT, "NET_RAW"), (*DEFAULT, "NET_RAW"), "1", "2"),
        (("--cap-add", "cap_net_raw", "--cap-drop", "KILL"), RAW_NO_KILL, RAW_NO_KILL, "1", "2"),
        (("--cap-drop", "ALL"), (), (), "1", "2"),
        (("--cap-drop", "ALL", "--cap-add", "CHOWN"), ("CHOWN",), ("CHOWN",), "1", "2"),
        (("--security-opt", "no-new-privileges=false"), DEFAULT, DEFAULT, "0", "2"),
        (("--security-opt", "no-new-privileges:true"), DEFAULT, DEFAULT, "1", "2"),
        (("--security-opt", "no-new-privileges"), DEFAULT, DEFAULT, "1", "2"),
        (("--security-opt", "seccomp=unconfined"), DEFAULT, DEFAULT, "1", "0"),
    ],
    ids=str,
)
def test_capabilities_no_new_privileges_and_seccomp(
    md: Minidocker, box: Box, busybox: Path, options: tuple[str, ...], bounding: tuple[str, ...], effective: tuple[str, ...],
    quiet: str, filtered: str,
) -> None:  # fmt: skip
    expected = {
        "CapBnd": mask(*bounding), "CapEff": mask(*effective), "CapPrm": mask(*effective), "CapInh": mask(), "CapAmb": mask(),
        "NoNewPrivs": quiet, "Seccomp": filtered,
    }  # fmt: skip
    seen = status(box(*options, "cat", "/proc/self/status").stdout)
    assert {name: seen[name] for name in expected} == expected
    md.start("--net", "none", "--rootfs", busybox, "--name", "one", *options, "sleep", "1000")
    seen = status(md("exec", "one", "cat", "/proc/self/status").stdout)
    assert {name: seen[name] for name in expected} == expected, "exec has what the container has"


def test_privileged_has_all_that_we_have(box: Box) -> None:
    ours = status(Path("/proc/self/status").read_text())
    seen = status(box("--privileged", "cat", "/proc/self/status").stdout)
    assert (seen["CapBnd"], seen["CapEff"]) == (ours["CapBnd"], ours["CapBnd"])
    assert (seen["NoNewPrivs"], seen["Seccomp"]) == ("0", ours["Seccomp"])
    box("--privileged", "sh", "-c", "mkdir -p /mnt && mount -t tmpfs none /mnt")
    listed = mounts(box("--privileged", "cat", "/proc/self/mountinfo").stdout)
    assert "rw" in listed["/sys"][0] and "/proc/kcore" not in listed and "/proc/sys" not in listed
    devices = [name for name in ("kmsg", "loop-control", "fuse", "mem", "net") if os.path.exists(f"/dev/{name}")]
    assert set(devices) <= set(box("--privileged", "ls", "/dev").stdout.split())
    readable = next((name for name in ("mem", "kmsg", "loop-control") if os.path.exists(f"/dev/{name}")), None)
    if readable:
        assert box("--privileged", "sh", "-c", f"exec 3</dev/{readable}", check=False).returncode == 0, "no device is refused"
    seen = status(box("--privileged", "--security-opt", "no-new-privileges", "cat", "/proc/self/status").stdout)
    assert seen["NoNewPrivs"] == "1"


def test_no_new_privileges_makes_setuid_programs_harmless(md: Minidocker, busybox: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    subprocess.run(["cp", "-a", busybox, tree], check=True)
    (tree / "setuid").mkdir()
    subprocess.run(["cp", tree / "bin/busybox", tree / "setuid/su"], check=True)
    (tree / "setuid/su").chmod(0o4755)

    def su(*options: str) -> str:
        words = ("--rm", "--net", "none", "-i", "--rootfs", tree, "-u", "1000", *options, "/setuid/su", "-c", "true")
        return str(md.run(*words, input="\n", check=False).stderr)

    assert "must be suid" in su()
    assert "incorrect password" in su("--security-opt", "no-new-privileges=false"), "there it is setuid, and asks"


SECCOMP_DENIES = ("unshare -m true", "mount -t tmpfs none /tmp", "sh -c 'unshare -U true'")


@pytest.mark.parametrize("command", SECCOMP_DENIES)
def test_the_default_seccomp_profile_denies(box: Box, command: str) -> None:
    assert box("-u", "1000", "sh", "-c", command, check=False).returncode == 1
    if "-U" in command and Path("/proc/sys/user/max_user_namespaces").read_text().strip() != "0":
        unconfined = box("-u", "1000", "--security-opt", "seccomp=unconfined", "sh", "-c", command, check=False)
        assert unconfined.returncode == 0, "it is the profile that denies it"


def test_a_seccomp_profile_of_the_users(md: Minidocker, box: Box, tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    profile.write_text(
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}'
    )
    done = box("--security-opt", "seccomp=profile.json", "sh", "-c", "mkdir /x; echo $?", cwd=tmp_path, check=False)
    assert done.stdout == "1\n" and "No space left" in done.stderr
    profile.write_text("{]")
    assert "profile.json" in md.refused("run", "--net", "none", "--security-opt", f"seccomp={profile}", "true")
    assert "missing.json" in md.refused("run", "--net", "none", "--security-opt", "seccomp=/missing.json", "true")
    for wrong in ("seccomp", "seccomp=", "no-new-privileges=maybe", "apparmor=", "label=x", "label=type:a b"):
        assert "--security-opt" in md.refused("run", "--net", "none", "--security-opt", wrong, "true")
    assert md.ps() == []


def test_a_label_of_a_security_module_is_refused_where_it_cannot_be_had(md: Minidocker, box: Box) -> None:
    """tests/vm has a host with AppArmor, and tries it there."""
    said = md.refused("run", "--net", "none", "--security-opt", "apparmor=no-such-profile", "true")
    assert "the AppArmor profile `no-such-profile`" in said and ("is not on here" in said or "is not loaded" in said)
    if not os.path.isdir("/sys/fs/selinux"):
        assert "SELinux is not on here" in md.refused("run", "--net", "none", "--security-opt", "label=type:container_t", "true")
    assert md.ps() == []
    assert box("--security-opt", "apparmor=unconfined", "--security-opt", "label=disable", "echo", "fine").stdout == "fine\n"


def test_devices_are_denied_though_nodes_can_be_made(box: Box) -> None:
    """mknod is a capability, to open what it made is the devices controller's business."""
    script = "cd /tmp; mknod kmsg c 1 11 && cat kmsg; mknod disk b 7 0 && cat disk; mknod null c 1 3 && echo x > null && ls"
    done = box("sh", "-c", script, check=False)
    assert done.stdout.split() == ["disk", "kmsg", "null"]
    assert done.stderr.count("Operation not permitted") == 2, done.stderr
    assert "Operation not permitted" in box("--cap-drop", "MKNOD", "mknod", "/tmp/x", "c", "1", "3", check=False).stderr


@pytest.mark.parametrize(
    "command",
    [  # none does harm should it succeed after all
        "mount -t proc proc /mnt", "hostname other", "chroot / unshare -m true", "sysctl -w kernel.panic=$(cat /proc/sys/kernel/panic)",
        "ip link add dummy0 type dummy", "insmod /etc/passwd", "reboot -f", "renice -5 1", "swapon /etc/passwd", "dmesg",
        "mknod /x c 1 11 && cat /x", "ulimit -Hn 99999999",
    ],
)  # fmt: skip
def test_root_in_a_container_cannot(box: Box, command: str) -> None:
    assert box("sh", "-c", f"mkdir -p /mnt; {command}", check=False).returncode not in (0, 127), command


def test_root_in_a_container_cannot_set_the_clock(box: Box) -> None:
    assert "Operation not permitted" in box("sh", "-c", "date -s @$(date +%s)", check=False).stderr


def test_dmesg_and_the_keyring_are_the_containers_own(box: Box) -> None:
    assert box("dmesg", check=False).returncode != 0
    assert box("cat", "/proc/keys").stdout == ""


# --- what still works --------------------------------------------------------------------------------------------------------------------


def test_ping_works_without_net_raw(md: Minidocker, busybox: Path) -> None:
    """iputils'; Debian's busybox has one that asks for a raw socket and no other."""
    for options in ((), ("-u", "1000"), ("--cap-drop", "ALL")):
        done = md.run("--rm", "--net", "br0", *options, "ping", "-c", "1", "-W", "5", "172.17.0.1")
        assert "1 received" in done.stdout
    words = ("run", "--rm", "--net", "br0", "--rootfs", busybox)
    assert md(*words, "ping", "-c", "1", "172.17.0.1", check=False).returncode == 1, "NET_RAW is not given"
    assert md(*words, "--cap-add", "NET_RAW", "ping", "-c", "1", "-W", "5", "172.17.0.1").returncode == 0


@pytest.mark.parametrize("network", ["none", "br0"])
def test_low_ports_can_be_bound_by_anybody(md: Minidocker, busybox: Path, network: str) -> None:
    script = "nc -l -p 80 -e echo served & for i in 1 2 3 4 5 6 7 8 9; do nc 127.0.0.1 80 </dev/null && exit; sleep 0.1; done"
    words = ("--rm", "--net", network, "-u", "1000", "--cap-drop", "ALL", "--rootfs", busybox)
    assert "served" in md.run(*words, "sh", "-c", script, check=False).stdout
    assert md.run(*words, "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start").stdout == "0\n"


# --- law 6: after the pivot nothing is imported, dlopened or resolved --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words", "code"),
    [
        ((), ("true",), 0),
        ((), ("no-such-program",), 127),
        ((), ("/etc/passwd",), 126),
        ((), ("/broken",), 126),
        (("-u", "daemon"), ("true",), 0),
        (("--ulimit", "nofile=64"), ("true",), 0),
        (("--privileged", "--cap-drop", "KILL"), ("true",), 0),
    ],
    ids=str,
)
def test_after_the_pivot_the_child_opens_no_code(
    md: Minidocker, busybox: Path, tmp_path: Path, options: tuple[str, ...], words: tuple[str, ...], code: int
) -> None:
    """strace of the command and all its children: from pivot_root to execve no file is opened that could be code, a codec's or NSS's."""
    md.run("--rm", "--net", "none", "--rootfs", busybox, "true")  # caches are filled, as they may be read before the pivot alone
    (tmp_path / "broken").write_bytes(b"\x7fELF and nothing behind it")  # what fails as late as can be, in execve itself
    (tmp_path / "broken").chmod(0o755)
    trace = tmp_path / "trace"
    calls = "trace=open,openat,openat2,execve,pivot_root,connect,socket"
    argv = ["strace", "-ff", "-o", str(trace), "-e", calls, "-e", "signal=none", "--"]
    done = subprocess.run(
        [*argv, *md.argv("run", "--rm", "--net", "none", "--rootfs", str(busybox), "-v", f"{tmp_path}/broken:/broken", *options, *words)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    children = [path.read_text() for path in tmp_path.glob("trace.*") if "pivot_root(" in path.read_text()]
    assert len(children) == 1
    after = children[0].partition("pivot_root(")[2].split("\n")[1:]
    own = [line for line in after if line and not line.startswith(("+++", "---"))]
    until_execve = []
    for line in own:
        if line.startswith("execve(") and line.endswith("= 0"):
            break
        until_execve.append(line)
    allowed = ("/proc/self/", "/proc/sys/", "/proc/thread-self/")
    for line in until_execve:
        if line.startswith(("open", "connect", "socket")):
            name = line.split('"')[1] if '"' in line else ""
            assert name.startswith(allowed), f"opened in the container's file system: {line}"


def test_after_the_pivot_an_exec_opens_no_code_either(md: Minidocker, busybox: Path, tmp_path: Path) -> None:
    md.start("--net", "none", "--rootfs", busybox, "--name", "one", "sleep", "1000")
    for words, code in ((("true",), 0), (("no-such",), 127), (("/etc/passwd",), 126)):
        for path in tmp_path.glob("trace*"):
            path.unlink()
        calls = "trace=open,openat,openat2,execve,setns,connect,socket"
        argv = ["strace", "-ff", "-o", str(tmp_path / "trace"), "-e", calls, "-e", "signal=none", "--"]
        done = subprocess.run(
            [*argv, *md.argv("exec", "-u", "daemon", "one", *words)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == code, done.stderr
        joined = [text for text in (path.read_text() for path in tmp_path.glob("trace.*")) if "CLONE_NEWNS" in text]
        assert len(joined) == 1
        lines = joined[0].splitlines()
        last = max(at for at, line in enumerate(lines) if line.startswith("setns("))
        for line in lines[last + 1 :]:
            if line.startswith("execve(") and line.endswith("= 0"):
                break
            if line.startswith(("open", "connect", "socket")) and '"' in line:
                name = line.split('"')[1]
                assert name == "/" or name.startswith("/proc/"), line
                assert not name.endswith((".py", ".pyc", ".so"))


def test_the_setting_up_process_cannot_be_looked_into(md: Minidocker, busybox: Path, tmp_path: Path) -> None:
    """Non-dumpable before it joins a namespace (CVE-2016-9962): prctl comes before unshare and setns in each child."""
    md.start("--net", "none", "--rootfs", busybox, "--name", "one", "sleep", "1000")
    for words in (("run", "--rm", "--net", "none", "--rootfs", str(busybox), "true"), ("exec", "one", "true")):
        for path in tmp_path.glob("trace*"):
            path.unlink()
        argv = ["strace", "-ff", "-o", str(tmp_path / "trace"), "-e", "trace=prctl,unshare,setns,execve", "-e", "signal=none", "--"]
        subprocess.run([*argv, *md.argv(*words)], stdin=subprocess.DEVNULL, check=True, timeout=60)
        children = [text for text in (path.read_text() for path in tmp_path.glob("trace.*")) if "PR_SET_DUMPABLE" in text]
        assert children
        for text in children:
            entering = min(at for at in (text.find("unshare("), text.find("setns(")) if at >= 0)
            assert 0 <= text.find("prctl(PR_SET_DUMPABLE, SUID_DUMP_DISABLE") < entering, text[:300]
