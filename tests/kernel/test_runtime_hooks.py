"""runtime/hooks.py: who is told what, when, where and by whom; and what comes of one that fails (runtime.md, "Lifecycle")."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from minidocker.errors import MinidockerError
from minidocker.kernel import cgroups
from minidocker.runtime import hooks
from tests.kernel.launched import Container, configuration, make_rootfs

STATE = {"ociVersion": "1.2.0", "id": "one", "status": "running", "pid": 1, "bundle": "/b", "annotations": {}}


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    return make_rootfs(tmp_path)


def shell(script: str, **more: Any) -> dict[str, Any]:
    return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": [], **more}


def told(log: Path) -> list[list[str]]:
    return [line.split("|") for line in log.read_text().splitlines()]


def test_each_kind_is_told_in_order_and_in_its_place(rootfs: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    # which hook, whose network and mounts, whether pivoted, and the state
    script = 'echo "$NAME|$(readlink /proc/self/ns/net)|$(readlink /proc/self/ns/mnt)|$(cat)" >> ' + str(log)
    inside = 'echo "startContainer|$(readlink /proc/self/ns/net)|$(readlink /proc/self/ns/mnt)|$(cat)" >> /log'
    spec = configuration(rootfs, "cat /log; readlink /proc/self/ns/net")
    (rootfs / "log").touch()
    spec["annotations"] = {"a": "b"}
    spec["hooks"] = {
        kind: [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": [f"NAME={kind}", "PATH=/usr/bin:/bin"]}]
        for kind in ("prestart", "createRuntime", "createContainer")
    }
    spec["hooks"]["startContainer"] = [{"path": "/bin/sh", "args": ["sh", "-c", inside], "env": ["PATH=/bin"]}]
    container = Container(spec, tmp_path)
    lines = told(log)
    assert [line[0] for line in lines] == ["prestart", "createRuntime", "createContainer"]
    pid = container.launch.at.pid
    mine = {name: os.readlink(f"/proc/self/ns/{name}") for name in ("net", "mnt")}
    theirs = {name: os.readlink(f"/proc/{pid}/ns/{name}") for name in ("net", "mnt")}
    assert [line[1] for line in lines] == [mine["net"], mine["net"], theirs["net"]]
    assert [line[2] for line in lines] == [mine["mnt"], mine["mnt"], theirs["mnt"]]
    for line in lines:
        state = json.loads(line[3])
        assert (state["id"], state["pid"], state["status"], state["annotations"]) == ("one", pid, "creating", {"a": "b"})
    code, output = container.start().finish()
    line, network = output.splitlines()
    kind, net, mnt, state_text = line.split("|")
    assert (code, kind, net, mnt) == (0, "startContainer", theirs["net"], theirs["mnt"])
    assert network == theirs["net"] and json.loads(state_text)["pid"] == pid


def test_a_runtime_hook_may_still_mount_into_the_root(rootfs: Path, tmp_path: Path) -> None:
    """What createRuntime is for (legacy NVIDIA hooks): the namespaces and mounts are there, the pivot is not."""
    (tmp_path / "given").write_text("given")
    (rootfs / "etc/given").touch()
    script = f"""pid=$(sed 's/.*"pid": *//; s/[^0-9].*//'); nsenter -t $pid -m mount --bind {tmp_path}/given {rootfs}/etc/given"""
    spec = configuration(rootfs, "cat /etc/given")
    spec["hooks"] = {"createRuntime": [shell(script, env=["PATH=/usr/bin:/bin:/usr/sbin:/sbin"])]}
    assert Container(spec, tmp_path).start().finish() == (0, "given")


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_one_that_fails_before_it_is_created_leaves_nothing(rootfs: Path, tmp_path: Path, kind: str) -> None:
    spec = configuration(rootfs, "true")
    spec["hooks"] = {kind: [shell("true"), shell("echo no such luck >&2; exit 3"), shell(f"touch {tmp_path}/third")]}
    with pytest.raises(MinidockerError) as raised:
        Container(spec, tmp_path)
    assert str(raised.value) == "run hook `/bin/sh`: it exited with 3: no such luck"
    assert not (tmp_path / "third").exists()
    assert [path for path in cgroups.detect().paths(spec["linux"]["cgroupsPath"][1:]) if os.path.exists(path)] == []


def test_one_that_fails_at_the_start_keeps_the_program_from_running(rootfs: Path, tmp_path: Path) -> None:
    spec = configuration(rootfs, "touch /ran")
    spec["hooks"] = {"startContainer": [shell("exit 1")]}
    container = Container(spec, tmp_path)
    with pytest.raises(MinidockerError, match="run hook `/bin/sh`: it exited with 1"):
        container.start()
    assert not (rootfs / "ran").exists()


def test_a_start_hook_is_confined_as_the_program_is(rootfs: Path, tmp_path: Path) -> None:
    spec = configuration(rootfs, "true")
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
               "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}  # fmt: skip
    spec["linux"]["seccomp"] = profile
    spec["process"]["user"] = {"uid": 7, "gid": 8}
    (rootfs / "tmp").chmod(0o777)
    script = "(id -u; grep -E 'CapEff|CapBnd|NoNewPrivs|^Seccomp:' /proc/self/status; mkdir /tmp/x) > /tmp/log 2>&1; true"
    spec["hooks"] = {"startContainer": [shell(script, env=["PATH=/bin"])]}
    assert Container(spec, tmp_path).start().finish()[0] == 0
    words = (rootfs / "tmp/log").read_text().split()
    assert words[0] == "7" and words[2] == words[4] == "0" * 16
    assert words[6] == "1" and words[8] == "2" and "No space left on device" in " ".join(words)


def test_one_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(MinidockerError, match="run hook `/bin/sh`: killed after 1 s"):
        hooks.run([shell("exec sleep 100", timeout=1)], STATE)
    assert time.monotonic() - begun < 60


def test_a_hook_s_surroundings_are_its_own(tmp_path: Path) -> None:
    script = f"(env | grep -v -E '^(PWD|SHLVL|_)='; ls /proc/$$/fd; cat) > {tmp_path}/log"
    os.set_inheritable(spare := os.dup(0), True)
    hooks.run([shell(script, env=["A=1", "PATH=/usr/bin:/bin"])], STATE)
    os.close(spare)
    lines = (tmp_path / "log").read_text().splitlines()
    assert sorted(lines[:2]) == ["A=1", "PATH=/usr/bin:/bin"]
    assert set(lines[2:-1]) <= {"0", "1", "2", "10"}, "no descriptor of ours nor of our caller's; 10 is the shell's own"
    assert json.loads(lines[-1]) == STATE


def test_those_after_the_fact_are_all_run_and_what_failed_is_told(tmp_path: Path) -> None:
    given = [shell("exit 2"), {"path": "/nosuch/hook"}, shell(f"touch {tmp_path}/third")]
    assert hooks.run_each(given, STATE) == ["run hook `/bin/sh`: it exited with 2", "run hook `/nosuch/hook`: no such file or directory"]
    assert (tmp_path / "third").exists()
