"""minidocker-oci: create, start, run, state, kill, delete, and what engines rely on in them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.oci import Oci
from tests.e2e.support import poll


def test_create_leaves_init_ready_and_start_lets_the_program_run(oci: Oci) -> None:
    bundle = oci.bundle("c", "sh", "-c", "echo ran > /shared/ran; exec sleep 1000")
    bundle.config["annotations"] = {"com.example": "ü \" \\"}
    bundle.create("--pid-file", oci.place / "pid")
    state = oci.state("c")
    assert (oci.place / "pid").read_text() == str(state["pid"]) and Path(f"/proc/{state['pid']}").exists()
    assert {key: state[key] for key in ("ociVersion", "id", "status", "bundle", "annotations")} == {
        "ociVersion": "1.2.0", "id": "c", "status": "created", "bundle": str(bundle.directory), "annotations": {"com.example": "ü \" \\"},
    }  # fmt: skip
    assert not (bundle.shared / "ran").exists()
    oci("start", "c")
    poll((bundle.shared / "ran").exists, "the program runs")
    assert oci.state("c") == {**state, "status": "running"}
    oci("kill", "c", "KILL")
    oci.until("c", "stopped")
    assert oci.state("c")["pid"] == 0
    oci("delete", "c")
    assert "container `c` does not exist" in oci.refused("state", "c")
    assert not oci.left()


def test_a_config_that_changes_after_create_does_not_matter(oci: Oci) -> None:
    bundle = oci.bundle("c", "sleep", "1000")
    bundle.create()
    (bundle.directory / "config.json").write_text("nonsense")
    oci("start", "c")
    assert oci("exec", "c", "echo", "in").stdout == "in\n"
    (bundle.directory / "config.json").unlink()
    oci("delete", "--force", "c")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["nosuch"], "executable file not found in $PATH"),
        (["/no/such"], "no such file or directory"),
        (["/etc/passwd"], "permission denied"),
        (["/etc"], "permission denied"),
    ],
)
def test_a_program_that_cannot_run_fails_at_create_in_the_words_engines_know(oci: Oci, args: list[str], words: str) -> None:
    bundle = oci.bundle("c", *args)
    error = oci.refused("create", "--bundle", bundle.write(), "c")
    assert words in error and args[0] in error
    assert not oci.left()
    assert bundle.run(check=False).returncode == (126 if words == "permission denied" else 127)


def test_run_passes_exit_codes_on(oci: Oci) -> None:
    for script, code in (("exit 0", 0), ("exit 7", 7), ("kill -9 $$; sleep 9", 0), ("exit 255", 255)):
        done = oci.bundle("c", "sh", "-c", script).run(check=False)
        assert done.returncode == (code if "kill" not in script else done.returncode)
    without = oci.bundle("c", "sh", "-c", "kill -TERM $$; sleep 9")
    without.config["linux"]["namespaces"] = [one for one in without.config["linux"]["namespaces"] if one["type"] != "pid"]
    assert without.run(check=False).returncode == 128 + 15
    assert not oci.left()


def test_run_forwards_signals(oci: Oci) -> None:
    bundle = oci.bundle("c", "sh", "-c", "trap 'echo got; exit 3' TERM; echo up; while :; do sleep 0.05; done")
    with oci.open("run", "--bundle", bundle.write(), "c") as running:
        assert running.line() == "up"
        running.send_signal(signal.SIGTERM)
        assert running.line() == "got" and running.wait(20) == 3
    assert not oci.left()


def test_run_keep_and_detach(oci: Oci) -> None:
    oci.bundle("kept", "true").run("--keep")
    assert oci.status("kept") == "stopped"
    oci.bundle("away", "sleep", "1000").run("--detach", "--pid-file", oci.place / "pid")
    assert oci.status("away") == "running"
    assert oci.state("away")["pid"] == int((oci.place / "pid").read_text())
    assert "exists already" in oci.bundle("away", "true").run(check=False).stderr


def test_start_is_once(oci: Oci) -> None:
    oci.running("c")
    assert "cannot start container `c`: it is running, not created" in oci.refused("start", "c")
    oci("kill", "c", "9")
    oci.until("c", "stopped")
    assert "it is stopped" in oci.refused("start", "c")
    assert "does not exist" in oci.refused("start", "other")


def test_a_start_that_was_killed_half_way_leaves_the_truth(oci: Oci) -> None:
    """Its socket is still there; the program runs."""
    oci.bundle("c", "sleep", "1000").create()
    (oci.root / "c/kept").hardlink_to(oci.root / "c/start")
    assert oci.status("c") == "created"
    oci("start", "c")
    (oci.root / "c/kept").rename(oci.root / "c/start")
    assert oci.status("c") == "running"
    assert "it is running" in oci.refused("start", "c")
    oci("delete", "--force", "c")


def hook(oci: Oci, name: str, code: int = 0) -> dict[str, Any]:
    """A hook that notes its name and the status it is told, and exits with `code`."""
    told = f"""sed -E 's/.*"status": ?"([a-z]+)".*/{name} \\1/'"""
    script = f"{{ {told}; echo; }} >> {oci.place}/hooks; echo words of {name} >&2; exit {code}"
    return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}


def test_hooks_after_the_fact(oci: Oci) -> None:
    bundle = oci.bundle("c", "sleep", "1000")
    bundle.config["hooks"] = {"poststart": [hook(oci, "poststart")], "poststop": [hook(oci, "first", 3), hook(oci, "second")]}
    bundle.create()
    (bundle.directory / "config.json").unlink()
    assert not (oci.place / "hooks").exists()
    oci("start", "c")
    assert (oci.place / "hooks").read_text() == "poststart running\n"
    done = oci("delete", "--force", "c")
    assert (oci.place / "hooks").read_text() == "poststart running\nfirst stopped\nsecond stopped\n"
    assert "poststop" in done.stderr and "words of first" in done.stderr and "second" not in done.stderr


def test_a_poststart_hook_that_fails_is_told_of_and_the_others_follow(oci: Oci) -> None:
    bundle = oci.bundle("c", "sleep", "1000")
    bundle.config["hooks"] = {"poststart": [hook(oci, "one", 7), hook(oci, "two")]}
    bundle.create()
    assert "words of one" in oci("start", "c").stderr
    assert (oci.place / "hooks").read_text() == "one running\ntwo running\n"
    assert oci.status("c") == "running"


def test_a_start_that_fails_leaves_the_container_stopped_and_run_takes_it_away(oci: Oci) -> None:
    bundle = oci.bundle("c", "sh", "-c", "echo ran > /shared/ran")
    bundle.config["hooks"] = {"startContainer": [{"path": "/bin/false"}], "poststop": [hook(oci, "after")]}
    bundle.create()
    assert "/bin/false" in oci.refused("start", "c")
    assert oci.status("c") == "stopped" and not (bundle.shared / "ran").exists()
    oci("delete", "c")
    assert bundle.run(check=False).returncode != 0
    assert (oci.place / "hooks").read_text() == "after stopped\n" * 2
    assert not oci.left()


def test_a_hook_that_fails_create_undoes_it_and_poststop_follows(oci: Oci) -> None:
    for kind in ("prestart", "createRuntime"):
        bundle = oci.bundle("c", "sleep", "1000")
        bundle.config["hooks"] = {kind: [hook(oci, kind, 7), hook(oci, "other")], "poststop": [hook(oci, "after")]}
        assert f"words of {kind}" in oci.refused("create", "--bundle", bundle.write(), "c")
        assert [line.split()[0] for line in (oci.place / "hooks").read_text().splitlines()] == [kind, "after"]
        assert not oci.left()
        (oci.place / "hooks").unlink()


def test_the_state_is_creating_while_it_is_created_and_force_ends_that(oci: Oci) -> None:
    bundle = oci.bundle("c", "true")
    bundle.config["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "while [ -d /proc/$PPID ]; do sleep 0.05; done"]}]}
    creating = oci.open("create", "--bundle", bundle.write(), "c")
    poll(lambda: oci("state", "c", check=False).returncode == 0, "it is there")
    assert oci.status("c") == "creating"
    assert "it is creating" in oci.refused("kill", "c")
    creating.kill()
    creating.communicate()
    oci.until("c", "stopped")
    oci("delete", "--force", "c")
    assert not oci.left()


def test_of_starts_at_once_one_wins(oci: Oci) -> None:
    oci.bundle("c", "sleep", "1000").create()
    commands = [oci.open("start", "c") for _ in range(6)]
    codes = sorted(command.wait(30) for command in commands)
    for command in commands:
        command.communicate()
    assert codes == [0, 1, 1, 1, 1, 1] and oci.status("c") == "running"


def test_of_creates_at_once_one_wins_and_of_deletes_all_are_content(oci: Oci) -> None:
    bundle = oci.bundle("c", "sleep", "1000")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
    creating = [oci.open("create", "--bundle", bundle.write(), "c", **quiet) for _ in range(5)]
    assert sorted(command.wait(30) for command in creating) == [0, 1, 1, 1, 1]
    deleting = [oci.open("delete", "--force", "c", **quiet) for _ in range(5)]
    assert [command.wait(30) for command in deleting] == [0] * 5
    assert not oci.left()


def test_kill_of_what_has_ended_and_delete_of_what_runs_are_errors(oci: Oci) -> None:
    oci.bundle("c", "sleep", "1000").create()
    assert "that is not stopped: it is created" in oci.refused("delete", "c")
    oci("start", "c")
    assert "that is not stopped: it is running" in oci.refused("delete", "c")
    assert oci.status("c") == "running"
    oci("kill", "c", "KILL")
    oci.until("c", "stopped")
    assert "container not running" in oci.refused("kill", "c", "TERM")
    oci("kill", "--all", "c", "KILL")  # nobody is left, which is what was wanted; as runc has it
    assert "does not exist" in oci.refused("kill", "other") and "does not exist" in oci.refused("delete", "other")


def test_kill_all_reaches_every_process(oci: Oci) -> None:
    child = "(trap 'echo got >> /shared/got; exit' USR1; echo up >> /shared/up; while :; do sleep 0.05; done)"
    bundle = oci.running("c", "sh", "-c", f"trap : USR1; {child} & {child} & wait; exec sleep 1000")
    poll(lambda: (bundle.shared / "up").exists() and (bundle.shared / "up").read_text() == "up\n" * 2, "both are up")
    oci("kill", "--all", "c", "USR1")
    poll(lambda: (bundle.shared / "got").exists() and (bundle.shared / "got").read_text() == "got\n" * 2, "both have got it")


def test_what_a_container_on_the_hosts_pids_left_behind_goes_with_it(oci: Oci) -> None:
    bundle = oci.bundle("c", "sh", "-c", "sleep 1000 & echo $! > /shared/pid; exit 0")
    bundle.config["linux"]["namespaces"] = [one for one in bundle.config["linux"]["namespaces"] if one["type"] != "pid"]
    bundle.run("--keep")
    left = int((bundle.shared / "pid").read_text())
    assert Path(f"/proc/{left}/cmdline").read_bytes()
    oci("delete", "c")
    poll(lambda: not Path(f"/proc/{left}").exists() or not Path(f"/proc/{left}/cmdline").read_bytes(), "it is gone")


def test_a_paused_container_can_be_killed_and_deleted(oci: Oci) -> None:
    for way in (["kill", "c", "KILL"], ["kill", "--all", "c", "KILL"], ["delete", "--force", "c"]):
        oci.running("c")
        oci("pause", "c")
        assert oci.status("c") == "paused"
        assert "it is paused" in oci.refused("exec", "c", "true", code=1)
        oci(*way)
        if way[0] == "kill":
            oci.until("c", "stopped")
            oci("delete", "c")
        assert not oci.left()


@pytest.mark.parametrize("made", ["nothing", "config", "state", "torn"])
def test_delete_force_takes_what_a_crash_left(oci: Oci, made: str) -> None:
    directory = oci.root / "c"
    directory.mkdir(parents=True)
    if made != "nothing":
        (directory / "config.json").write_text("{}")
    if made == "state":
        oci.running("other")
        state = json.loads((oci.root / "other/state.json").read_text())
        (directory / "state.json").write_text(json.dumps({**state, "id": "c", "pid": 0, "startTime": 0, "cgroup": f"{oci.cgroups[1:]}/c"}))
    if made == "torn":
        (directory / "state.json.new").write_text('{"id": ')
    assert oci.status("c") == "stopped" and "c" in oci("list", "-q").stdout.split()
    oci.refused("start", "c")
    oci.refused("exec", "c", "true", code=1)
    oci("delete", "--force", "c")
    assert not directory.exists()


def test_create_killed_at_any_moment_leaves_nothing_that_delete_force_does_not_take(oci: Oci) -> None:
    bundle = oci.bundle("c", "sleep", "1000")
    started = time.monotonic()
    bundle.create()
    whole = time.monotonic() - started
    oci("delete", "--force", "c")
    for part in range(12):
        creating = oci.open("create", "--bundle", bundle.write(), "c", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(whole * (part + 1) / 10)
        creating.kill()
        creating.wait()
        if creating.stdin:
            creating.stdin.close()
        oci("delete", "--force", "c")
        assert not oci.left(), part


def test_a_pid_that_is_used_again_is_not_the_container(oci: Oci) -> None:
    oci.running("c")
    file = oci.root / "c/state.json"
    state = json.loads(file.read_text())
    other = subprocess.Popen(["sleep", "1000"])
    try:
        file.write_text(json.dumps({**state, "pid": other.pid}))
        assert oci.status("c") == "stopped"
        assert "container not running" in oci.refused("kill", "c", "KILL")
        file.write_text(json.dumps(state))
        oci("delete", "--force", "c")
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize("id", ["", ".", "..", "../c", "a/b", "/etc", "a b", "ü", "@filters", "x" * 256, "a\nb", "~", "*"])
def test_an_id_is_no_path(oci: Oci, id: str) -> None:
    bundle = oci.bundle("c", "true").write()
    oci.root.mkdir()
    for words in (["create", "--bundle", bundle], ["run", "--bundle", bundle], ["start"], ["state"], ["kill"], ["delete"],
                  ["delete", "--force"], ["pause"], ["exec"]):  # fmt: skip
        done = oci(*words, "--", id, *(["true"] if words == ["exec"] else []), check=False)
        assert done.returncode != 0 and "is not an id" in done.stderr, (words, done.stderr)
    assert sorted(path.name for path in oci.root.iterdir()) == [] and bundle.is_dir()


def test_ids_as_engines_make_them(oci: Oci) -> None:
    for id in ("a" * 64, "k8s_POD.1-2+3", "_x", "-"):
        oci.bundle("c", "true").write()
        oci("run", "--bundle", oci.place / "bundle-c", "--", id)


def test_paths_longer_than_a_sockets_address(oci: Oci, tmp_path: Path) -> None:
    oci.root = tmp_path / ("d" * 120) / "root"
    oci.bundle("c" * 64, "true").create()
    oci("start", "c" * 64)
    oci.until("c" * 64, "stopped")




def test_descriptors_and_variables_of_conmon_stay_outside(oci: Oci, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret\n")
    with secret.open() as one, secret.open() as two:
        environment = {**os.environ, "_OCI_SYNCPIPE": str(one.fileno()), "_OCI_STARTPIPE": str(two.fileno()), "NOTIFY_SOCKET": "/x"}
        bundle = oci.bundle("c", "sh", "-c", "ls -l /proc/self/fd/; env")
        said = bundle.out(pass_fds=(one.fileno(), two.fileno()), env=environment)
        assert "secret" not in said and "OCI" not in said and "NOTIFY" not in said
        bundle = oci.running("c")
        said = oci("exec", "c", "sh", "-c", "ls -l /proc/self/fd/; env", pass_fds=(one.fileno(), two.fileno()), env=environment).stdout
        assert "secret" not in said and "OCI" not in said


def passing(files: list[Path], command: list[str]) -> list[str]:
    """A shell that opens `files` as descriptors 3, 4 ... and becomes `command`."""
    opened = " ".join(f"{3 + number}<'{path}'" for number, path in enumerate(files))
    return ["bash", "-c", f'exec "$@" {opened}', "bash", *command]


@pytest.mark.parametrize("way", ["run", "exec"])
def test_preserve_fds(oci: Oci, tmp_path: Path, way: str) -> None:
    files = [tmp_path / name for name in ("one", "two", "three")]
    for file in files:
        file.write_text(f"{file.name}\n")
    script = "cat <&3; cat <&4; [ -e /proc/self/fd/5 ] || echo closed"
    bundle = oci.bundle("c", "sh", "-c", script)
    words = oci.argv("run", "--preserve-fds", "2", "--bundle", bundle.write(), "c")
    if way == "exec":
        oci.running("c")
        words = oci.argv("exec", "--preserve-fds=2", "c", "sh", "-c", script)
    done = subprocess.run(passing(files, words), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "one\ntwo\nclosed\n"), done.stderr


def test_preserve_fds_that_are_not_open_are_refused(oci: Oci) -> None:
    bundle = oci.bundle("c", "true").write()
    for value, part in (("2", "descriptor 3 is not open"), ("-1", "not from 0"), ("x", "not a whole number"), ("99999999", "not from 0")):
        assert part in oci.refused("create", "--preserve-fds", value, "--bundle", bundle, "c")
    assert not oci.left()


def test_socket_activation(oci: Oci, tmp_path: Path) -> None:
    file = tmp_path / "listening"
    file.write_text("listening\n")
    bundle = oci.bundle("c", "sh", "-c", "echo $LISTEN_FDS $LISTEN_PID; cat <&3")
    inner = 'export LISTEN_FDS=1 LISTEN_PID=$$; exec "$@"'
    words = ["bash", "-c", inner, "bash", *oci.argv("run", "--bundle", bundle.write(), "c")]
    done = subprocess.run(passing([file], words), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "1 1\nlistening\n"), done.stderr
    environment = {**os.environ, "LISTEN_FDS": "1", "LISTEN_PID": "1"}  # somebody else's
    assert bundle.out(env=environment, check=False) == ""


def test_the_pid_file_is_whole_and_an_impossible_one_undoes_everything(oci: Oci) -> None:
    bundle = oci.bundle("c", "sleep", "1000").write()
    assert "no such directory" in oci.refused("create", "--pid-file", "/no/such/pid", "--bundle", bundle, "c")
    taken = oci.place / "taken"
    taken.mkdir()
    assert "write the pid file" in oci.refused("create", "--pid-file", taken, "--bundle", bundle, "c")
    assert not oci.left()


def test_logs(oci: Oci, tmp_path: Path) -> None:
    log = tmp_path / "log"
    oci.refused("--log", log, "--log-format", "json", "state", "x")
    (line,) = log.read_text().splitlines()
    said = json.loads(line)
    assert sorted(said) == ["level", "msg", "time"] and said["level"] == "error" and said["msg"] == "container `x` does not exist"
    time.strptime(said["time"], "%Y-%m-%dT%H:%M:%SZ")
    oci.refused("--log", log, "state", "x")
    assert log.read_text().splitlines()[1].endswith('level=error msg="container `x` does not exist"')
    assert "neither text nor json" in oci.refused("--log-format", "xml", "list")
    assert "open the log" in oci.refused("--log", "/no/such/log", "list")
    debugged = oci("--debug", "state", "x", check=False)
    assert debugged.returncode == 1 and "Traceback" in debugged.stderr


def test_a_user_who_wants_systemd_where_there_is_none_is_told_what_to_set(oci: Oci) -> None:
    bundle = oci.bundle("c", "true")
    bundle.config["linux"]["cgroupsPath"] = "system.slice:minidocker:c"
    error = oci.refused("--systemd-cgroup", "create", "--bundle", bundle.write(), "c")
    assert "systemd" in error and "cgroupfs" in error
    assert not oci.left()


def test_without_cgroups(oci: Oci) -> None:
    bundle = oci.bundle("c", "sleep", "1000")
    del bundle.config["linux"]["resources"]
    oci("--cgroup-manager", "disabled", "create", "--bundle", bundle.write(), "c")
    oci("start", "c")
    pid = oci.state("c")["pid"]
    own, ours = (Path(f"/proc/{who}/cgroup").read_text() for who in (pid, "self"))
    assert own == ours
    assert oci("exec", "c", "echo", "in").stdout == "in\n"
    assert Path("/proc/self/cgroup").read_text() == ours
    for words in (["pause", "c"], ["ps", "c"], ["events", "--stats", "c"], ["update", "--memory", "10000000", "c"]):
        assert "no cgroup" in oci.refused(*words)
    oci("delete", "--force", "c")
    poll(lambda: not Path(f"/proc/{pid}").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes(), "it is gone")
    limited = oci.bundle("c", "true")
    limited.config["linux"]["resources"] = {"memory": {"limit": 10000000}}
    assert "no cgroup hierarchy" in oci.refused("--cgroup-manager", "disabled", "create", "--bundle", limited.write(), "c")
    assert "none of" in oci.refused("--cgroup-manager", "mine", "create", "--bundle", limited.write(), "c")


def test_rootless_goes_without_a_cgroup_where_none_can_be_made(oci: Oci) -> None:
    bundle = oci.bundle("c", "echo", "ran")
    del bundle.config["linux"]["resources"]
    place = bundle.write()
    locked = "for m in $(findmnt -nlo TARGET -t cgroup,cgroup2); do mount -o remount,bind,ro $m; done; exec \"$@\""
    for mode, code in (("--rootless=true", 0), ("--rootless", 0), ("--rootless=auto", 125), ("--rootless=false", 125)):
        words = ["unshare", "-m", "sh", "-c", locked, "sh", *oci.argv(mode, "run", "--bundle", place, "c")]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (code, "" if code else "ran\n"), (mode, done.stderr)
        assert not code or "cgroup" in done.stderr
    assert "neither true, false nor auto" in oci.refused("--rootless=perhaps", "create", "--bundle", place, "c")
    assert not oci.left()


def test_no_pivot(oci: Oci) -> None:
    bundle = oci.bundle("c", "sh", "-c", "ls /; touch /file; echo $?; cat /proc/1/mountinfo")
    bundle.config["root"]["readonly"] = True
    moved, pivoted = bundle.out("--no-pivot"), bundle.out()
    for said in (moved, pivoted):
        names, _, mounted = said.partition("\n1\n")
        assert {"bin", "shared"} <= set(names.split()) and not {"work", "root/work"} & set(names.split())
        seen = [line.split()[4] for line in mounted.splitlines()]
        assert "/shared" in seen and "/sys/fs/cgroup" not in seen


def test_the_session_keyring_is_its_own_unless_it_is_not_to_be(oci: Oci) -> None:
    own, kept = (oci.bundle(name, "cat", "/proc/keys") for name in ("own-keys", "callers-keys"))
    assert "_ses.own-keys:" in own.out() and "_ses.callers-keys:" not in kept.out("--no-new-keyring")


def test_home_comes_from_the_containers_passwd(oci: Oci, busybox: Path) -> None:
    assert "HOME=/root" in oci.bundle("c", "env").out().splitlines()
    assert "HOME=/" in oci.bundle("c", "env", user={"uid": 4711, "gid": 0}).out().splitlines()
    assert "HOME=/given" in oci.bundle("c", "env", env=["PATH=/bin:/usr/bin", "HOME=/given"]).out().splitlines()
    assert (busybox / "etc/passwd").read_text().startswith("root:")


@pytest.mark.parametrize("kind", ["fifo", "directory", "huge", "device", "text"])
def test_a_hostile_passwd_neither_hangs_nor_swamps(oci: Oci, kind: str) -> None:
    place = oci.place / "passwd"
    bundle = oci.bundle("c", "env")
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "directory":
        place.mkdir()
    elif kind == "huge":
        with place.open("wb") as file:
            file.truncate(1 << 40)
    elif kind == "device":
        place = Path("/dev/zero")
    else:
        place.write_text("root:x:0:0\nroot\0:x:0:0:::\n:::::::\nroot:x:0:0:r:not/absolute:/bin/sh\n")
    destination = "/etc" if kind == "directory" else "/etc/passwd"
    bundle.config["mounts"].append({"destination": destination, "type": "bind", "source": str(place), "options": ["bind", "ro"]})
    homes = [line for line in bundle.out().splitlines() if line.startswith("HOME=")]
    assert homes == ["HOME=/"]


def test_a_socket_that_is_not_there_and_a_terminal_that_nobody_gets(oci: Oci) -> None:
    bundle = oci.bundle("c", "true")
    assert "process.terminal is false" in oci.refused("create", "--console-socket", "/x", "--bundle", bundle.write(), "c")
    bundle = oci.bundle("c", "true", terminal=True)
    assert "--console-socket PATH" in oci.refused("create", "--bundle", bundle.write(), "c")
    assert "no such socket" in oci.refused("create", "--console-socket", "/no/such", "--bundle", bundle.write(), "c")
    dead = oci.place / "dead"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(dead))
    assert "hand the terminal to" in oci.refused("create", "--console-socket", dead, "--bundle", bundle.write(), "c")
    assert not oci.left()
