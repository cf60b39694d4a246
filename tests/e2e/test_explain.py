"""--explain says what is done, and does it; --dry-run says it as a script, and does nothing; the script does it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import pretend
from tests.e2e.support import Minidocker
from tests.e2e.world import PORT, await_state, settled, state

# What a program sees of its container, without what differs from one to the next: ids, and the devices behind mounts.
FACTS = r"""
grep -E '^(Cap|NoNewPrivs|Uid|Gid|Groups)' /proc/self/status
while read -r _ _ _ _ point options rest; do echo "$point $options ${rest##* - }"; done < /proc/self/mountinfo | cut -d' ' -f1-3
cat /proc/sys/kernel/hostname /etc/hostname
cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2> /dev/null
cut -d: -f2,3 /proc/self/cgroup
cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/net/route /proc/net/fib_trie
ls -l /proc/self/ns | sed 's/.* \([a-z_]*\) -> .*/\1/'
ls /dev / | sort
ls -l /dev/null /dev/pts /dev/ptmx | cut -d' ' -f1-5
grep open /proc/self/limits
umask
pwd
env | sort
cat /etc/resolv.conf
"""
OPTIONS = {
    "plain": (),
    "limits": ("-m", "64m", "--pids-limit", "50", "--cpus", "0.5", "--ulimit", "nofile=100:200"),
    "user": ("-u", "65534:65534", "-w", "/tmp", "-e", "A=it's b"),
    "read-only": ("--read-only", "--tmpfs", "/mnt:size=1m"),
    "capabilities": ("--cap-add", "NET_ADMIN", "--cap-drop", "CHOWN", "--security-opt", "no-new-privileges=false"),
    "privileged": ("--privileged",),
    "links": ("--tmpfs", "/var/run/sub", "-w", "/var/run/dir"),
    "none": ("--net", "none"),
    "host": ("--net", "host"),
    "names": ("--add-host", "db:10.1.2.3", "--network-alias", "web", "--dns", "192.0.2.53", "--ip", "172.17.0.9"),
}
PROGRAMS = ("sh", "cat", "cut", "env", "grep", "ls", "pwd", "sed", "sleep", "sort")
# A host nobody has used: network, /run and the data root are empty.
FRESH = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private", "bash", "-c")
FRESH_SETUP = 'mount -t tmpfs tmpfs /run; mkdir -p "$1"; mount -t tmpfs tmpfs "$1"; ip link set lo up; shift; "$@"'


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system like Debian's, of the few programs that these tests need."""
    place = tmp_path_factory.mktemp("tree")
    for directory in ("usr/bin", "usr/sbin", "etc", "tmp", "root", "proc", "sys", "dev", "mnt", "run", "var"):
        (place / directory).mkdir(parents=True)
    (place / "bin").symlink_to("usr/bin")
    (place / "var/run").symlink_to("/run")
    (place / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    for name in PROGRAMS:
        source = shutil.which(name)
        assert source
        shutil.copy(source, place / "usr/bin" / name)
        for library in re.findall(r"(/\S+) \(0x", pretend.sh(f"ldd {source}", check=False)):
            target = place / library.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                shutil.copy(library, target)
    return place


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    (tmp_path / "volume").mkdir()
    return tmp_path / "volume"


def script_of(md: Minidocker, *words: object) -> str:
    return str(md.run("--dry-run", *words).stdout)


def run_fresh(md: Minidocker, tmp_path: Path, script: str, then: str = "") -> subprocess.CompletedProcess[str]:
    """Run the script on a fresh host, beside `then`; it takes away its container's cgroups itself."""
    path = tmp_path / "script"
    path.write_text(script)
    command = f"bash {path}" if not then else f"bash {path} & {then}"
    done = subprocess.run([*FRESH, FRESH_SETUP, "_", md.root, "bash", "-c", command], capture_output=True, text=True, timeout=60,
                          stdin=subprocess.DEVNULL)  # fmt: skip
    assert md.cgroups() == []
    return done


def machine(md: Minidocker) -> dict[str, object]:
    left = {**state(), "cgroups": md.cgroups(), "containers": sorted(os.listdir(md.root / "containers"))}
    left["run"] = sorted(str(path) for path in md.run_directory.rglob("*"))
    return {**left, "ps": [one["Names"] for one in md.ps()], "networks": md("network", "ls").stdout}


def test_explain_tells_on_stderr_and_runs_as_usual(md: Minidocker) -> None:
    done = md.run("--rm", "--explain", "--name", "one", "sh", "-c", "echo out; echo err >&2; exit 7", check=False)
    assert (done.returncode, done.stdout) == (7, "out\n")
    assert done.stderr.endswith("err\n")
    text = done.stderr.removesuffix("err\n")
    titles = [line[2:] for line in text.splitlines() if line.startswith("# ")]
    assert set(titles) == {"filesystem", "network", "cgroup", "namespaces", "privileges", "exec"}
    for command in (
        r"ip link add br0 .* type bridge", r"nft -f -", r"ip link add md\S+ .* netns .\$PID", r"mkdir -p /sys/fs/cgroup/", "unshare ",
        "mount -t overlay ", r"mknod -m 666 \S+/null c 1 3", r"pivot_root \. \.", "setpriv ", "exec ",
    ):  # fmt: skip
        assert re.search(f"^ *.*{command}", text, re.MULTILINE), command
    for title, first in re.findall(r"^# (.*)\n(.*)$", text, re.MULTILINE):
        assert first.startswith("  # "), f"{title} begins without a reason: {first}"
    assert md.ps() == []


def test_every_step_has_a_reason(md: Minidocker) -> None:
    """In the script each step is its reason, a comment, and its commands; no two steps' commands stand together."""
    script = script_of(md, "-p", "8080:80", "-m", "64m", "--read-only", "--tmpfs", "/mnt", "true")
    mounts = re.findall(r"^(.*)\nmkdir -p \S+\nmount (?:-t (?!cgroup)|--r?bind )", script, re.MULTILINE)
    assert len(mounts) > 5 and all(line.startswith("# ") for line in mounts), mounts


def test_a_dry_run_changes_nothing(md: Minidocker, server: Path) -> None:
    md.start("--name", "other", "sleep", "100")
    before = machine(md)
    script = script_of(md, "-p", "18081:8081", "-m", "64m", "--name", "one", "--add-host", "db:10.1.2.3", server, "one")
    assert script.startswith("#!/bin/bash\n") and "172.17.0.3" in script
    md.run("--dry-run", "--net", "none", "true")
    assert machine(md) == before
    assert "no-such" in md.refused("run", "--dry-run", "--rootfs", "/no-such", "true")
    assert "other" in md.refused("run", "--dry-run", "--name", "other", "true")
    assert machine(md) == before


def test_a_dry_run_on_a_fresh_host_changes_nothing_but_our_own_files(md: Minidocker) -> None:
    before = settled()
    script_of(md, "true")
    assert settled() == before
    assert md.cgroups() == [] and md.ps() == [] and md("network", "ls", "--format", "json").stdout.strip() in ("", "[]")


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_script_is_clean_bash(md: Minidocker, options: tuple[str, ...], tmp_path: Path) -> None:
    script = script_of(md, *options, "sh", "-c", "echo \"it's\" '$HOME'")
    parts = {"script": script}
    for name in ("OUTSIDE", "INSIDE", "PROGRAM"):
        parts[name] = "#!/bin/bash\n" + re.search(f"<<'{name}_END'\n(.*)\n{name}_END\n", script, re.DOTALL)[1]  # type: ignore[index]
    for name, text in parts.items():
        (tmp_path / name).write_text(text)
        done = subprocess.run(["shellcheck", tmp_path / name], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("view", ["host view", "tree"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_script_makes_the_container_that_run_makes(
    md: Minidocker, tree: Path, volume: Path, tmp_path: Path, options: tuple[str, ...], view: str
) -> None:
    root = ("--rootfs", tree) if view == "tree" else ()
    words = ("--rm", "--hostname", "box", "-v", f"{volume}:/data:ro", *root, *options, "sh", "-c", FACTS)
    script = script_of(md, *words)
    real = md.run(*words).stdout
    done = run_fresh(md, tmp_path, script)
    assert (done.returncode, done.stderr) == (0, "")
    assert _without_ids(done.stdout) == _without_ids(real)


def _without_ids(text: str) -> list[str]:
    """The facts without ids; of the routing tables which addresses and prefixes they hold, as a host that has had a policy rule keeps
    its local and main tables apart for ever after."""
    lines = re.sub(r"[0-9a-f]{64}|\b[0-9a-f]{12}\b", "ID", text).splitlines()
    tables = {line.strip() for line in lines if line.lstrip().startswith(("|--", "+--"))}
    prefixes = {line.split()[1].partition("/")[0] for line in tables}
    inside = ("Main:", "Local:", "  ")
    return [line for line in lines if not line.startswith(inside)] + sorted(prefixes)


def test_the_script_starts_a_server(md: Minidocker, server: Path, tmp_path: Path) -> None:
    script = script_of(md, "-p", f"18081:{PORT}", "--name", "alice", server, "alice")
    ask = "curl -s --noproxy '*' --retry 50 --retry-delay 1 --retry-connrefused"
    done = run_fresh(md, tmp_path, script, f"sleep 0.5; {ask} http://127.0.0.1:18081; {ask} http://172.17.0.2:8081; kill %1; wait")
    assert sorted(done.stdout.split()) == sorted(["alice", "listen", ":8081", "req", "alice", "req", "alice"]), done.stderr


@pytest.mark.parametrize(("command", "code"), [(("sh", "-c", "exit 7"), 7), (("no-such-program",), 127)])
def test_the_script_exits_as_run_does(md: Minidocker, tmp_path: Path, command: tuple[str, ...], code: int) -> None:
    assert run_fresh(md, tmp_path, script_of(md, *command)).returncode == code
    assert md.run("--rm", *command, check=False).returncode == code


def test_a_second_script_finds_the_network_that_is_there(md: Minidocker, tmp_path: Path) -> None:
    """With br0 up the plan is shorter: what is there is not made again, and the names of others stay in the hosts file."""
    md.start("--name", "other", "sleep", "100")
    script = script_of(md, "--name", "one", "cat", "/etc/hosts")
    assert "type bridge\n" not in script and "nft -f" not in script
    path = tmp_path / "script"
    path.write_text(script)
    before = state()
    for _ in range(2):  # what it made it takes away, so it runs again
        shown = pretend.sh(f"bash {path}")
        assert "172.17.0.2\tother " in shown and "172.17.0.3\tone " in shown
    await_state(before)
    assert sorted(os.listdir(md.root / "containers")) == [md.inspect("other")["Id"]]
    assert "one" not in md("exec", "other", "cat", "/etc/hosts").stdout
    assert {directory.name for directory in md.cgroups()} == {f"minidocker-{md.tag}", md.inspect("other")["Id"]}


def test_the_container_needs_no_tool_but_its_program(md: Minidocker, server: Path, tmp_path: Path) -> None:
    """A root file system of one static program, without a shell, and without a directory to mount on."""
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(server, alone / "server")
    script = script_of(md, "--rootfs", alone, "-u", "65534", "--ulimit", "nofile=64", "-e", "A.B=c", "-e", "UID=7", "/server", "alice")
    ask = "ip netns exec \"$(ls /run/netns)\" curl -s --noproxy '*' http://127.0.0.1:8081"
    facts = "tr '\\0' '\\n' < /proc/$p/environ; grep -E 'Uid|CapBnd|NoNew|SigIgn' /proc/$p/status"
    then = f"until [ -e /run/netns/*_* ] && {ask}; do sleep 0.1; done; p=$(pgrep -x server); {facts}; kill $p; wait"
    done = run_fresh(md, tmp_path, script, then)
    assert "alice" in done.stdout, done.stderr
    assert {"A.B=c", "UID=7", "HOME=/"} <= set(done.stdout.split()) and not re.search("^(SHLVL|PWD|_)=", done.stdout, re.MULTILINE)
    assert "Uid:\t65534" in done.stdout and "NoNewPrivs:\t1" in done.stdout and "SigIgn:\t0000000000000000" in done.stdout


@pytest.mark.parametrize(("broken", "word"), [("mkdir -p DIRECTORY", "there already"), ("ip link add br0 type bridge", "br0")])
def test_a_script_that_cannot_go_through_does_not_begin(md: Minidocker, tmp_path: Path, broken: str, word: str) -> None:
    script = script_of(md, "true")
    directory = re.search(rf"{md.root}/containers/[0-9a-f]{{64}}", script)[0]  # type: ignore[index]
    (tmp_path / "script").write_text(script)
    now = f'"$(ip -o link; ls -R /run {md.root}; nft list ruleset)"'
    command = f"{broken.replace('DIRECTORY', directory)}; a={now}; bash {tmp_path}/script; echo $?; [ \"$a\" = {now} ] && echo same"
    done = subprocess.run([*FRESH, FRESH_SETUP, "_", md.root, "bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["125", "same"] and word in done.stderr, done


def test_a_script_that_fails_halfway_takes_back_what_it_did(md: Minidocker, tmp_path: Path) -> None:
    """A volume whose source is gone by then: the container's network stands, and its cgroup."""
    source = tmp_path / "source"
    source.mkdir()
    script = script_of(md, "-v", f"{source}:/data", "true")
    source.rmdir()
    left = f"ip -o link | grep -c md; find {md.root} /run/minidocker -path '*containers/*'; cat /run/minidocker/*/networks/br0/hosts"
    done = run_fresh(md, tmp_path, script, f"wait %1; [ $? != 0 ] && echo failed; {left}")
    assert done.stdout.splitlines() == ["failed", "0", "127.0.0.1\tlocalhost"], done
    assert str(source) in done.stderr
