"""What the specification leaves open and engines rely on: the commands beyond its five, their options, and the logs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.box import CAPABILITIES, PATH, Box
from tests.conformance.terminal import console
from tests.e2e.support import poll

LINE = "command line"


@pytest.mark.spec(LINE)
@pytest.mark.parametrize("command", ["create", "run"])
def test_the_pid_file_is_there_when_the_command_has_returned(box: Box, command: str) -> None:
    pid_file = box.bundle / "pid"
    box.process["args"] = ["/bin/sleep", "1000"]
    options = ("--pid-file", pid_file, *(["--detach"] if command == "run" else []))
    box.write()
    with box.stdout.open("wb") as out:
        assert box.runtime(command, "--bundle", box.bundle, *options, box.id, stdout=out, stderr=out).returncode == 0
    assert pid_file.read_text() == str(box.state()["pid"])


@pytest.mark.spec(LINE)
def test_run_detached_leaves_it_running(box: Box) -> None:
    box.process["args"] = ["/bin/sleep", "1000"]
    box.write()
    with box.stdout.open("wb") as out:
        assert box.runtime("run", "--detach", "--bundle", box.bundle, box.id, stdout=out, stderr=out).returncode == 0
    assert box.state()["status"] == "running"


@pytest.mark.spec(LINE)
def test_run_gives_stdin_and_takes_both_outputs_apart(box: Box) -> None:
    (box.bundle / "in").write_text("words\n")
    with (box.bundle / "in").open() as stdin:
        done = box.run("/bin/sh", "-c", "cat; echo error >&2", stdin=stdin)
    assert (done.stdout, done.stderr) == ("words\n", "error\n")


@pytest.mark.spec(LINE)
def test_exec_runs_in_the_container(box: Box) -> None:
    box.config["hostname"] = "inside"
    box.started()
    pid = box.state()["pid"]
    assert box.exec("hostname; readlink /proc/self/ns/net; cat /proc/1/cmdline").splitlines() == [
        "inside", os.readlink(f"/proc/{pid}/ns/net"), "/bin/sleep\x001000\x00"]  # fmt: skip
    assert f"{box.linux['cgroupsPath']}" in box.exec("cat /proc/self/cgroup")


@pytest.mark.spec(LINE)
@pytest.mark.parametrize("code", [0, 1, 42])
def test_exec_answers_with_the_exit_code(box: Box, code: int) -> None:
    box.started()
    assert box.runtime("exec", box.id, "/bin/sh", "-c", f"exit {code}").returncode == code


@pytest.mark.spec(LINE)
def test_execs_options(box: Box) -> None:
    box.started()
    said = box.exec("pwd; echo $A; id -u; id -g; umask", "--cwd", "/usr", "--env", "A=b", "--user", "1000:1001")
    assert said.splitlines()[:4] == ["/usr", "b", "1000", "1001"]


@pytest.mark.spec(LINE)
@pytest.mark.differs(crun="enters the root")
def test_exec_has_the_processs_environment_and_directory(box: Box) -> None:
    box.process.update(env=[PATH, "FROM=config"], cwd="/usr")
    box.started()
    assert box.exec("pwd; echo $FROM") == "/usr\nconfig"


@pytest.mark.spec(LINE)
def test_exec_by_a_process_file(box: Box) -> None:
    box.started()
    process: dict[str, Any] = {"args": ["/bin/sh", "-c", "id -u; pwd; echo $X; grep -E 'CapEff|NoNewPrivs' /proc/self/status; ulimit -n"],
                               "cwd": "/tmp", "env": [PATH, "X=y"], "user": {"uid": 0, "gid": 0}, "noNewPrivileges": True,
                               "capabilities": {name: ["CAP_KILL"] for name in ("bounding", "effective", "permitted")},
                               "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 40, "hard": 50}]}  # fmt: skip
    (box.bundle / "process.json").write_text(json.dumps(process))
    done = box.runtime("exec", "--process", box.bundle / "process.json", box.id)
    assert done.stdout.splitlines() == ["0", "/tmp", "y", "CapEff:\t0000000000000020", "NoNewPrivs:\t1", "40"], done


@pytest.mark.spec(LINE)
def test_exec_detached_writes_its_pid(box: Box) -> None:
    box.started()
    pid_file = box.bundle / "exec.pid"
    with box.stdout.open("wb") as out:
        assert box.runtime("exec", "--detach", "--pid-file", pid_file, box.id, "/bin/sleep", "500", stdout=out, stderr=out).returncode == 0
    assert Path(f"/proc/{pid_file.read_text()}/cmdline").read_bytes() == b"/bin/sleep\x00500\x00"


@pytest.mark.spec(LINE)
def test_exec_on_a_terminal(box: Box) -> None:
    box.started()
    with console(box.bundle) as (path, master), box.stdout.open("wb") as out:
        options = ("--tty", "--detach", "--console-socket", path)
        done = box.runtime("exec", *options, box.id, "/bin/sh", "-c", "tty; sleep 5", stdout=out, stderr=out)
        assert done.returncode == 0, box.stdout.read_text()
        assert b"/dev/pts/" in master().read(b"\n")


@pytest.mark.spec(LINE)
@pytest.mark.parametrize("program", ["/no/such/program", "nosuch"])
def test_exec_of_what_is_not_there_is_an_error(box: Box, program: str) -> None:
    box.started()
    done = box.runtime("exec", box.id, program)
    assert done.returncode != 0 and done.stderr and "Traceback" not in done.stderr
    assert box.state()["status"] == "running"


@pytest.mark.spec(LINE)
def test_exec_in_what_does_not_run_is_an_error(box: Box) -> None:
    box.started("/bin/true")
    box.until("stopped")
    done = box.runtime("exec", box.id, "/bin/true")
    assert done.returncode != 0 and done.stderr


@pytest.mark.spec(LINE)
def test_exec_has_no_more_than_the_process(box: Box) -> None:
    box.process["capabilities"] = {name: ["CAP_KILL", "CAP_CHOWN"] for name in ("bounding", "effective", "permitted")}
    box.started()
    said = box.exec("grep -E 'CapEff|CapBnd' /proc/self/status; ls /proc/self/fd | wc -l").split()
    assert said == ["CapEff:", "0000000000000021", "CapBnd:", "0000000000000021", "4"]
    assert "CAP_SYS_ADMIN" not in CAPABILITIES


@pytest.mark.spec(LINE)
def test_pause_and_resume(box: Box) -> None:
    box.started("/bin/sh", "-c", "while :; do echo x; sleep 0.01; done")
    poll(lambda: box.stdout.stat().st_size, "it writes")
    box.command("pause")
    assert box.state()["status"] == "paused"
    before = box.stdout.stat().st_size
    assert box.runtime("exec", box.id, "/bin/true", timeout=20).returncode != 0
    assert box.stdout.stat().st_size == before
    box.command("resume")
    assert box.state()["status"] == "running"
    poll(lambda: box.stdout.stat().st_size > before, "it goes on")


@pytest.mark.spec(LINE)
def test_a_paused_container_can_be_killed_and_deleted(box: Box) -> None:
    box.started()
    box.command("pause")
    box.command("delete", options=("--force",))
    box.fails("state")


@pytest.mark.spec(LINE)
def test_pause_of_what_does_not_run_is_an_error(box: Box) -> None:
    box.started("/bin/true")
    box.until("stopped")
    box.fails("pause")
    box.fails("resume")


@pytest.mark.spec(LINE)
def test_ps_lists_its_processes(box: Box) -> None:
    box.started("/bin/sh", "-c", "sleep 1000 & exec sleep 1000")
    pid = box.state()["pid"]
    found = poll(lambda: len(pids := json.loads(box.command("ps", options=("--format", "json")))) == 2 and pids, "both are there")
    assert pid in found
    assert str(pid) in box.command("ps")


@pytest.mark.spec(LINE)
def test_list(box: Box, other: Box) -> None:
    box.started()
    other.created()
    listed = {entry["id"]: entry for entry in json.loads(box.runtime("list", "--format", "json").stdout)}
    assert (listed[box.id]["status"], listed[other.id]["status"]) == ("running", "created")
    assert (listed[box.id]["pid"], listed[box.id]["bundle"]) == (box.state()["pid"], str(box.bundle))
    assert set(box.runtime("list", "--quiet").stdout.split()) >= {box.id, other.id}


@pytest.mark.spec(LINE)
@pytest.mark.differs(crun="has no events")
def test_stats(box: Box) -> None:
    box.linux["resources"].update(memory={"limit": 64 << 20}, pids={"limit": 20})
    box.started()
    pids = "pids/pids.current"
    poll(lambda: box.cgroup(pids, "pids.current") == "1", "the runtime's own threads have ended")  # runc's, for a moment
    data = json.loads(box.runtime("events", "--stats", box.id).stdout)
    assert (data["type"], data["id"]) == ("stats", box.id)
    assert data["data"]["pids"]["current"] == 1 and data["data"]["pids"]["limit"] == 20
    assert data["data"]["memory"]["usage"]["limit"] == 64 << 20 and data["data"]["cpu"]["usage"]["total"] > 0


@pytest.mark.spec(LINE)
@pytest.mark.parametrize("options", [(), ("--rootless",)], ids=str)
def test_spec_writes_a_config_that_runs(box: Box, options: tuple[str, ...]) -> None:
    done = box.runtime("spec", *options, cwd=box.bundle)
    assert done.returncode == 0, done.stderr
    made = json.loads((box.bundle / "config.json").read_text())
    assert made["ociVersion"].startswith("1.") and made["root"]["path"] == "rootfs" and made["process"]["args"] == ["sh"]
    if not options:
        box.config = made
        box.process.update(terminal=False, rlimits=[])
        box.linux["cgroupsPath"] = f"{box.linux.get('cgroupsPath', '')}" or None
        del box.linux["cgroupsPath"]
        assert box.sh("echo ran") == "ran"


@pytest.mark.spec("features.md")
@pytest.mark.differs(crun="1.8 has no features")
def test_features(box: Box) -> None:
    found = json.loads(box.runtime("features").stdout)
    assert found["ociVersionMin"].startswith("1.") and found["ociVersionMax"].startswith("1.")
    assert set(found["hooks"]) >= {"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"}
    assert {"bind", "rbind", "ro", "rprivate"} <= set(found["mountOptions"])
    assert {"pid", "mount", "network", "user"} <= set(found["linux"]["namespaces"])
    assert "CAP_CHOWN" in found["linux"]["capabilities"] and found["linux"]["seccomp"]["enabled"] is True


@pytest.mark.spec(LINE)
def test_an_error_is_logged_as_json_for_the_engine(box: Box) -> None:
    """How podman and containerd learn what went wrong."""
    log = box.bundle / "log.json"
    box.process["args"] = ["/no/such/program"]
    box.write()
    done = box.runtime("--log", log, "--log-format", "json", "create", "--bundle", box.bundle, box.id)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert done.returncode != 0
    assert any(line["level"] == "error" and "/no/such/program" in line["msg"] and line["time"] for line in lines), lines


@pytest.mark.spec(LINE)
@pytest.mark.parametrize("words", [("--version",), ("--help",)], ids=str)
def test_version_and_help(box: Box, words: tuple[str, ...]) -> None:
    done = box.runtime(*words)
    assert done.returncode == 0 and box.runtime.name in done.stdout


@pytest.mark.spec(LINE)
@pytest.mark.parametrize("words", [("nosuchcommand",), ("create", "--nosuchoption"), ("state",)], ids=str)
def test_a_wrong_command_line_is_an_error(box: Box, words: tuple[str, ...]) -> None:
    done = box.runtime(*words)
    assert done.returncode != 0 and "Traceback" not in done.stderr


@pytest.mark.spec(LINE)
def test_the_config_may_have_another_name(box: Box) -> None:
    if "--config" not in box.runtime("create", "--help").stdout:
        pytest.skip(f"{box.runtime.name} has no --config")
    box.process["args"] = ["/bin/echo", "from elsewhere"]
    box.write()
    (box.bundle / "config.json").rename(box.bundle / "other.json")
    done = box.runtime("run", "--bundle", box.bundle, "--config", box.bundle / "other.json", box.id)
    assert done.stdout == "from elsewhere\n", done.stderr
