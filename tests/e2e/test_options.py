"""`run`'s options that shape what the container sees: user, environment, names, volumes, tmpfs, terminal-less details, --init."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minidocker.engine import prepare
from tests import pretend
from tests.e2e.support import Minidocker, poll

Box = Callable[..., subprocess.CompletedProcess[Any]]
READ_ONLY = "Read-only file system"


# --- environment, user, directory, names ------------------------------------------------------------------------------------------------


def test_the_environment_is_ours_then_files_then_e(box: Box, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("# comment\n\nA=from first\nB=from first\nPASSED\nUNSET\nQUOTED=\"as it is\"\nEMPTY=\n")
    second.write_bytes(b"\xef\xbb\xbfB=from second\r\nEQUALS=a=b\r\n")
    options = ("--env-file", first, "--env-file", second, "-e", "A=from -e", "--env", "OTHER", "-e", "MISSING")
    lines = box(*options, "env", env={"PASSED": "on", "OTHER": "side", "SECRET": "of the host"}).stdout.splitlines()
    seen = dict(line.split("=", 1) for line in lines)
    host = seen.pop("HOSTNAME")
    assert len(host) == 12 and seen == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "A": "from -e", "B": "from second",
        "PASSED": "on", "OTHER": "side", "QUOTED": '"as it is"', "EMPTY": "", "EQUALS": "a=b",
    }  # fmt: skip


def test_an_env_file_with_junk_is_refused_by_line(md: Minidocker, tmp_path: Path) -> None:
    for junk in (b"GOOD=1\nexport A=1\n", b"GOOD=1\n=x\n", b"GOOD=1\n\xff\xfe=1\n"):
        (tmp_path / "env").write_bytes(junk)
        assert "line 2" in md.refused("run", "--net", "none", "--env-file", tmp_path / "env", "true")
    assert "missing" in md.refused("run", "--net", "none", "--env-file", tmp_path / "missing", "true")


def test_the_user_is_looked_up_in_the_container(md: Minidocker, busybox: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    subprocess.run(["cp", "-a", busybox, tree], check=True)
    with open(tree / "etc/passwd", "a") as passwd, open(tree / "etc/group", "a") as group:
        passwd.write("alice:x:1500:1600::/home/alice:/bin/sh\n")
        group.write("alices:x:1600:\nextra:x:1700:alice,bob\n")
    for user, uid, gid, groups, home in (
        ("alice", 1500, 1600, "1600 1700", "/home/alice"), ("alice:extra", 1500, 1700, "1700", "/home/alice"),
        ("1500", 1500, 1600, "1600 1700", "/home/alice"), ("alice:9", 1500, 9, "9", "/home/alice"), ("4242", 4242, 0, "0", "/"),
        ("4242:4343", 4242, 4343, "4343", "/"), ("0:1600", 0, 1600, "1600", "/root"),
    ):  # fmt: skip
        script = "id -u; id -g; id -G; echo $HOME; grep -c ^Groups /proc/self/status"
        lines = md.run("--rm", "--net", "none", "--rootfs", tree, "-u", user, "sh", "-c", script).stdout.splitlines()
        assert lines == [str(uid), str(gid), groups, home, "1"], user
    for user in ("nobody-such", "alice:none-such"):
        error = md.refused("run", "--net", "none", "--rootfs", tree, "-u", user, "true")
        assert user.split(":")[-1] in error
    md.refused("run", "--net", "none", "--rootfs", tree, "-u", "99999999999", "true")


def test_the_working_directory(md: Minidocker, box: Box, busybox: Path) -> None:
    assert box("pwd").stdout == "/\n"
    assert box("-w", "/made/for/it", "sh", "-c", "pwd; stat -c %u:%a .").stdout.split() == ["/made/for/it", "0:755"]
    assert "absolute" in md.refused("run", "--net", "none", "-w", "relative", "true")
    assert md.run("--net", "none", "--rootfs", busybox, "-w", "/etc/passwd", "true", check=False).returncode == 125


def test_hostname_and_hosts(box: Box) -> None:
    assert box("--hostname", "some.host", "sh", "-c", "hostname; cat /etc/hostname; echo $HOSTNAME").stdout.split() == ["some.host"] * 3
    name = box("sh", "-c", "hostname; cat /etc/hostname; echo $HOSTNAME").stdout.split()
    assert len(set(name)) == 1 and len(name[0]) == 12
    hosts = box("--add-host", "db:10.1.2.3", "--add-host", "six:fd00::1", "cat", "/etc/hosts").stdout
    lines = [line.split() for line in hosts.splitlines()]
    assert ["127.0.0.1", "localhost"] in lines and ["10.1.2.3", "db"] in lines and ["fd00::1", "six"] in lines


def test_add_host_is_one_containers_own(md: Minidocker, busybox: Path) -> None:
    words = ("--rm", "--net", "br0", "--rootfs", busybox)
    md.start("--net", "br0", "--rootfs", busybox, "--name", "other", "sleep", "1000")
    mine = md.run(*words, "--add-host", "db:10.1.2.3", "cat", "/etc/hosts").stdout
    assert "10.1.2.3\tdb" in mine and "other" in mine, "and its network's names"
    assert "10.1.2.3" not in md.run(*words, "cat", "/etc/hosts").stdout
    assert "10.1.2.3" not in md("exec", "other", "cat", "/etc/hosts").stdout


@pytest.mark.parametrize("network", ["none", "br0"])
def test_resolv_conf(md: Minidocker, busybox: Path, network: str) -> None:
    options = ("--dns", "10.9.9.9", "--dns", "10.9.9.8", "--dns-search", "example.org", "--dns-search", "b.example.org",
               "--dns-option", "ndots:2", "--dns-option", "rotate")  # fmt: skip
    text = md.run("--rm", "--net", network, "--rootfs", busybox, *options, "cat", "/etc/resolv.conf").stdout
    lines = [line.split() for line in text.splitlines() if not line.startswith("#")]
    assert [line for line in lines if line[0] == "nameserver"] == [["nameserver", "10.9.9.9"], ["nameserver", "10.9.9.8"]]
    assert ["search", "example.org", "b.example.org"] in lines and ["options", "ndots:2", "rotate"] in lines and len(lines) == 4
    none = md.run("--rm", "--net", network, "--rootfs", busybox, "--dns", "10.9.9.9", "--dns-search", ".", "cat", "/etc/resolv.conf").stdout
    assert not any(line.startswith("search") and len(line.split()) > 1 and line.split()[1] != "." for line in none.splitlines())
    wrongs = (("--dns", "nonsense"), ("--dns", "10.0.0.256"), ("--dns-search", "a..b"), ("--add-host", "x"), ("--add-host", "x:y"))
    for option, wrong in wrongs:
        assert option in md.refused("run", "--net", network, option, wrong, "true")


def test_expose_and_labels(md: Minidocker, busybox: Path) -> None:
    options = ("--expose", "80", "--expose", "53/udp", "--label", "a=1", "--label", "b", "-l", "c=x=y")
    md.start("--net", "none", "--rootfs", busybox, "--name", "one", *options, "sleep", "1000")
    one = md.inspect("one")
    assert one["Config"]["ExposedPorts"] == {"80/tcp": {}, "53/udp": {}}
    assert one["Config"]["Labels"] == {"a": "1", "b": "", "c": "x=y"}
    [row] = md.ps()
    assert row["Ports"] == "80/tcp, 53/udp" and row["Labels"] == "a=1,b=,c=x=y"
    assert "--expose" in md.refused("run", "--net", "none", "--expose", "0", "true")
    assert "--label" in md.refused("run", "--net", "none", "--label", "=x", "true")


# --- volumes, tmpfs, read-only, shm -------------------------------------------------------------------------------------------------------


def test_a_volume_is_the_hosts_directory_or_file(md: Minidocker, box: Box, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("from the host\n")
    script = "cat /volume/in; echo from inside > /volume/out; cat /file"
    assert box("-v", f"{tmp_path}:/volume", "-v", f"{tmp_path}/in:/file", "sh", "-c", script).stdout == "from the host\n" * 2
    assert (tmp_path / "out").read_text() == "from inside\n"
    assert box("-v", f"{tmp_path}:/volume:rw", "touch", "/volume/rw").returncode == 0
    assert box("-v", "./:/volume", "ls", "/volume", cwd=tmp_path).stdout.split() == sorted(os.listdir(tmp_path))
    assert "from the host" in md.run("--rm", "--net", "none", "-v", f"{tmp_path}:/srv", "cat", "/srv/in").stdout, "in the host view, too"


def test_ro_is_read_only_with_all_that_is_mounted_below(box: Box, tmp_path: Path) -> None:
    below = tmp_path / "below"
    below.mkdir()
    pretend.sh(f"mount -t tmpfs tmpfs {below} && touch {below}/seen")
    try:
        for path in ("/volume/x", "/volume/below/x"):
            done = box("-v", f"{tmp_path}:/volume:ro", "touch", path, check=False)
            assert done.returncode == 1 and READ_ONLY in done.stderr, path
        assert box("-v", f"{tmp_path}:/volume:ro", "ls", "/volume/below").stdout == "seen\n"
        box("-v", f"{tmp_path}:/volume", "touch", "/volume/below/x")
        assert (below / "x").exists(), "without ro all of it can be written"
    finally:
        pretend.sh(f"umount {below}")


def test_wrong_volumes_are_refused_and_nothing_is_made(md: Minidocker, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    error = md.refused("run", "--net", "none", "-v", f"{missing}:/x", "true")
    assert str(missing) in error and not missing.exists(), "docker would make it, as root; the difference is meant"
    for wrong in (f"{tmp_path}:relative", "./here", f"{tmp_path}:/x:zz", "a/b:/x", f"{tmp_path}:/", ":/x", f"{tmp_path}:/x:ro:z"):
        assert "volume" in md.refused("run", "--net", "none", "-v", wrong, "true"), wrong
    assert "a directory cannot be mounted on a file" in md.refused("run", "--net", "none", "-v", f"{tmp_path}:/etc/passwd", "true")
    assert "a file cannot be mounted on a directory" in md.refused("run", "--net", "none", "-v", "/etc/passwd:/tmp", "true")
    assert md.ps() == []


def test_mounts_keep_the_order_they_were_given_in(box: Box, tmp_path: Path) -> None:
    outer, inner = tmp_path / "outer", tmp_path / "inner"
    (outer / "deep").mkdir(parents=True)
    inner.mkdir()
    (inner / "seen").touch()
    assert box("-v", f"{outer}:/v", "-v", f"{inner}:/v/deep", "ls", "/v/deep").stdout == "seen\n"


def test_tmpfs(md: Minidocker, box: Box) -> None:
    seen = {}
    options = ("--tmpfs", "/plain", "--tmpfs", "/made/sized:size=1m,mode=750,uid=5,noatime", "--tmpfs", "/runs:exec")
    for line in box(*options, "cat", "/proc/self/mounts").stdout.splitlines():
        _, place, kind, words, *_ = line.split()
        seen[place] = (kind, set(words.split(",")))
    assert seen["/plain"][0] == "tmpfs" and {"rw", "nosuid", "nodev", "noexec"} <= seen["/plain"][1]
    assert {"size=1024k", "mode=750", "uid=5", "noatime"} <= seen["/made/sized"][1]
    assert "noexec" not in seen["/runs"][1] and {"nosuid", "nodev"} <= seen["/runs"][1]
    full = box("--tmpfs", "/t:size=64k", "sh", "-c", "dd if=/dev/zero of=/t/x bs=1k count=100", check=False)
    assert full.returncode == 1 and "No space left" in full.stderr
    assert box("--tmpfs", "/etc", "ls", "/etc").stdout == "", "it covers what is there, our own files too"
    for wrong in ("relative", "/x:nonsense", "/x:size=", "/"):
        assert "--tmpfs" in md.refused("run", "--net", "none", "--tmpfs", wrong, "true")


def test_read_only(md: Minidocker, box: Box, tmp_path: Path) -> None:
    for path in ("/x", "/etc/x", "/tmp/x"):
        done = box("--read-only", "touch", path, check=False)
        assert done.returncode == 1 and READ_ONLY in done.stderr, path
    assert READ_ONLY in md.run("--rm", "--net", "none", "--read-only", "touch", "/var/x", check=False).stderr, "the host view, too"
    options = ("--read-only", "--tmpfs", "/tmp", "-v", f"{tmp_path}:/volume")
    assert box(*options, "sh", "-c", "touch /tmp/x /volume/x /dev/shm/x && echo x > /dev/null && echo fine").stdout == "fine\n"
    assert box("--read-only", "-w", "/new/place", "pwd").stdout == "/new/place\n", "what we make ourselves is made before"


def test_shm_size(box: Box) -> None:
    assert box("--shm-size", "1m", "sh", "-c", "df -k /dev/shm | tail -n 1").stdout.split()[1] == "1024"
    assert box("sh", "-c", "df -k /dev/shm | tail -n 1").stdout.split()[1] == str(64 << 10)
    assert "No space left" in box("--shm-size", "64k", "sh", "-c", "dd if=/dev/zero of=/dev/shm/x bs=1k count=100", check=False).stderr


def test_flags_take_values_as_dockers_do(box: Box) -> None:
    assert box("--read-only=false", "touch", "/x").returncode == 0
    assert box("--read-only=true", "touch", "/x", check=False).returncode == 1
    assert box("--memory=64m", "--cpus=0.5", "--env=A=1", "-eB=2", "sh", "-c", "echo $A$B").stdout == "12\n"


# --- --init -------------------------------------------------------------------------------------------------------------------------------

# The inner sleep outlives its parent and so becomes the child of process 1.
ORPHAN = "(sleep 0.1 & exec true) & exec sleep 1000"


def test_init_reaps_orphans_and_passes_signals_and_the_exit_code_on(md: Minidocker, box: Box, busybox: Path) -> None:
    assert box("--init", "sh", "-c", "readlink /proc/1/exe; test $$ -gt 1").stdout == "/dev/init\n"
    assert box("--init", "sh", "-c", "exit 9", check=False).returncode == 9
    id = md.start("--net", "none", "--rootfs", busybox, "--init", "sh", "-c", ORPHAN)
    procs = md.cgroup(id, "pids") / "cgroup.procs"
    poll(lambda: len(procs.read_text().split()) == 2, "only init and sleep are left: an orphan that ended is reaped")
    without = md.start("--net", "none", "--rootfs", busybox, "sh", "-c", ORPHAN)
    pid = md.inspect(without)["State"]["Pid"]
    poll(lambda: "Z" in pretend.sh(f"ps --ppid {pid} -o stat=", check=False), "without it they stay as zombies: the difference shows")
    md("stop", "-t", "20", id)
    assert md.inspect(id)["State"]["ExitCode"] == 143, "sleep is not PID 1 now, so TERM ends it"


def test_init_in_the_host_view_and_read_only(md: Minidocker) -> None:
    for options in ((), ("--read-only",), ("-u", "1000"), ("--cap-drop", "ALL")):
        assert md.run("--rm", "--net", "none", "--init", *options, "sh", "-c", "echo $$").stdout.strip() != "1"


def test_init_is_refused_with_a_hint_where_there_is_none(md: Minidocker, tmp_path: Path) -> None:
    """In a mount namespace of its own, where whiteouts of an overlay hide what there is."""
    hidden = [path for path in prepare._INITS if os.path.exists(path)]
    assert hidden, "tini or catatonit must be installed, or the other tests of --init prove nothing"
    hide = []
    for directory in sorted({os.path.dirname(path) for path in hidden}):
        upper, work = (tmp_path / f"{name}{directory.replace('/', '-')}" for name in ("upper", "work"))
        upper.mkdir()
        work.mkdir()
        for path in hidden:
            if os.path.dirname(path) == directory:
                os.mknod(upper / os.path.basename(path), 0o020000, 0)  # a whiteout: character device 0:0
        hide.append(f"mount -t overlay -o lowerdir={directory},upperdir={upper},workdir={work} overlay {directory}")
    argv = ["unshare", "-m", "--propagation", "private", "sh", "-c", " && ".join([*hide, 'exec "$@"']), "sh"]
    done = subprocess.run(
        [*argv, *md.argv("run", "--net", "none", "--init", "true")], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == "minidocker: --init needs tini or catatonit, and neither is installed\n  hint: apt-get install tini\n"
    assert md.ps() == []
