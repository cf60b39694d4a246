"""What `process`, `personality` and the like make of the container's first process (config.md, "Process")."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from minidocker.errors import KernelError, MinidockerError
from tests.kernel.launched import Container, configuration, execute, make_rootfs, run


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    return make_rootfs(tmp_path)


def of(rootfs: Path, script: str, **process: Any) -> dict[str, Any]:
    spec = configuration(rootfs, script)
    spec["process"].update(process)
    return spec


def test_user_groups_and_umask(rootfs: Path, tmp_path: Path) -> None:
    user = {"uid": 12, "gid": 34, "additionalGids": [56, 78], "umask": 0o027}
    assert run(of(rootfs, "id -u; id -g; id -G; umask", user=user), tmp_path).split() == ["12", "34", "34", "56", "78", "0027"]


def test_setgroups_is_called_for_nobody_s_groups_too(rootfs: Path, tmp_path: Path) -> None:
    """CVE-2022-29162's neighbour: whoever started us has groups, and the container has none of them."""
    before = os.getgroups()
    os.setgroups([4242])
    try:
        assert run(of(rootfs, "id -G"), tmp_path).split() == ["0"]
    finally:
        os.setgroups(before)


def test_inheritable_capabilities_are_those_that_were_asked_for(rootfs: Path, tmp_path: Path) -> None:
    """CVE-2022-29162: none, unless the configuration has some."""
    sets = {"bounding": ["CAP_KILL", "CAP_CHOWN"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"]}
    lines = dict(line.split(":\t") for line in run(of(rootfs, "grep Cap /proc/self/status", capabilities=sets), tmp_path).splitlines())
    assert lines["CapInh"] == lines["CapAmb"] == "0" * 16
    assert lines["CapBnd"] == f"{1 << 5 | 1:016x}"


def test_ambient_capabilities_reach_a_user(rootfs: Path, tmp_path: Path) -> None:
    sets = {name: ["CAP_KILL"] for name in ("bounding", "permitted", "effective", "inheritable", "ambient")}
    spec = of(rootfs, "grep -E 'Cap(Eff|Amb)' /proc/self/status", capabilities=sets, user={"uid": 7, "gid": 7})
    assert [line.split()[1] for line in run(spec, tmp_path).splitlines()] == [f"{1 << 5:016x}"] * 2


def test_environment_and_directory(rootfs: Path, tmp_path: Path) -> None:
    spec = of(rootfs, "env; echo $PWD", env=["PATH=/bin", "A=x=y", "A=last", "EMPTY="], cwd="/made/here")
    lines = run(spec, tmp_path).splitlines()
    assert {"A=last", "EMPTY=", "/made/here"} <= set(lines)


def test_limits(rootfs: Path, tmp_path: Path) -> None:
    limits = [{"type": "RLIMIT_NOFILE", "soft": 50, "hard": 60}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]
    found = run(of(rootfs, "ulimit -Sn; ulimit -Hn; ulimit -c", rlimits=limits), tmp_path)
    assert found.split() == ["50", "60", "0"]


def test_a_limit_that_cannot_be_raised_says_so(rootfs: Path, tmp_path: Path) -> None:
    from minidocker.kernel import process

    if process.capabilities()[0] >> 24 & 1:
        pytest.skip("this machine has CAP_SYS_RESOURCE, which may raise limits")
    limits = [{"type": "RLIMIT_MSGQUEUE", "soft": 1, "hard": (1 << 64) - 1}]
    with pytest.raises(KernelError) as raised:
        Container(of(rootfs, "true", rlimits=limits), tmp_path)
    assert str(raised.value).startswith("set RLIMIT_MSGQUEUE from ") and "CAP_SYS_RESOURCE" in raised.value.hint


def test_oom_score(rootfs: Path, tmp_path: Path) -> None:
    assert run(of(rootfs, "cat /proc/self/oom_score_adj", oomScoreAdj=321), tmp_path) == "321\n"


def test_an_oom_score_that_cannot_be_lowered_says_so(rootfs: Path, tmp_path: Path) -> None:
    from minidocker.kernel import process

    if process.capabilities()[0] >> 24 & 1:
        pytest.skip("this machine has CAP_SYS_RESOURCE, which may lower the score")
    with pytest.raises(KernelError) as raised:
        Container(of(rootfs, "true", oomScoreAdj=-1000), tmp_path)
    assert str(raised.value) == "set the OOM score adjustment to -1000: permission denied" and "CAP_SYS_RESOURCE" in raised.value.hint


@pytest.mark.parametrize(
    ("scheduler", "shown"),
    [
        ({"policy": "SCHED_BATCH", "nice": 5}, ("5", "3")),
        ({"policy": "SCHED_OTHER", "nice": 7, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}, ("7", "0")),
        ({"policy": "SCHED_IDLE"}, ("", "5")),
    ],
)
def test_scheduler(rootfs: Path, tmp_path: Path, scheduler: dict[str, Any], shown: tuple[str, str]) -> None:
    fields = run(of(rootfs, "read line < /proc/self/stat; echo $line", scheduler=scheduler), tmp_path).rpartition(")")[2].split()
    assert (fields[16] if shown[0] else "", fields[38]) == shown  # nice and policy, proc_pid_stat(5)


def test_a_deadline_that_cannot_be_kept_is_an_error_of_the_kernel_s(rootfs: Path, tmp_path: Path) -> None:
    scheduler = {"policy": "SCHED_DEADLINE", "runtime": 50, "deadline": 10, "period": 10}
    with pytest.raises(MinidockerError, match="set the scheduling policy SCHED_DEADLINE: invalid argument"):
        Container(of(rootfs, "true", scheduler=scheduler), tmp_path).start()


def test_io_priority(rootfs: Path, tmp_path: Path) -> None:
    (rootfs / "bin/ionice").symlink_to("busybox")
    assert run(of(rootfs, "ionice -p $$", ioPriority={"class": "IOPRIO_CLASS_BE", "priority": 6}), tmp_path) == "best-effort: prio 6\n"
    assert run(of(rootfs, "ionice -p $$", ioPriority={"class": "IOPRIO_CLASS_IDLE"}), tmp_path).startswith("idle")


def test_personality(rootfs: Path, tmp_path: Path) -> None:
    machine = os.uname().machine
    assert run(configuration(rootfs, "uname -m", personality={"domain": "LINUX"}), tmp_path).strip() == machine
    if machine == "x86_64":
        assert run(configuration(rootfs, "uname -m", personality={"domain": "LINUX32"}), tmp_path).strip() == "i686"


def test_memory_policy(rootfs: Path, tmp_path: Path) -> None:
    spec = configuration(rootfs, "head -1 /proc/self/numa_maps", memoryPolicy={"mode": "MPOL_BIND", "nodes": "0", "flags": []})
    if not os.path.exists("/proc/self/numa_maps"):
        with pytest.raises(MinidockerError, match="set the memory policy MPOL_BIND: function not implemented"):
            Container(spec, tmp_path).start()
    else:
        assert "bind:0" in run(spec, tmp_path)


def test_an_exec_has_its_processors_and_its_scheduler(rootfs: Path, tmp_path: Path) -> None:
    container = Container(configuration(rootfs, "sleep 100"), tmp_path).start()
    try:
        cpu = max(os.sched_getaffinity(0))
        process = {
            "args": ["/bin/sh", "-c", "grep Cpus_allowed_list /proc/self/status; cat /proc/self/stat"], "cwd": "/", "env": ["PATH=/bin"],
            "user": {"uid": 0, "gid": 0}, "execCPUAffinity": {"initial": "0", "final": str(cpu)},
            "scheduler": {"policy": "SCHED_OTHER", "nice": 4},
        }  # fmt: skip
        words = execute(container, process).split()
        assert words[:2] == ["Cpus_allowed_list:", str(cpu)] and words[2:][18] == "4", "proc_pid_stat(5): nice"
    finally:
        os.kill(container.launch.at.pid, 9)
        container.finish()
