"""config.md, Process: directory, environment, arguments, user, limits, capabilities, and what else a Linux process has."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.box import PATH, Box
from tests.conformance.terminal import console

PROCESS, RLIMITS, USER = "config.md#process", "config.md#posix-process", "config.md#user"
LINUX = "config.md#linux-process"

def may_raise() -> bool:
    """Whether this process has CAP_SYS_RESOURCE, 24."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff")]
    return bool(int(line.split()[1], 16) & 1 << 24)


HIGHEST = resource.getrlimit(resource.RLIMIT_NOFILE)[1]


@pytest.mark.spec(PROCESS)
def test_cwd(box: Box) -> None:
    box.process["cwd"] = "/usr/bin"
    assert box.sh("pwd") == "/usr/bin"


@pytest.mark.spec(PROCESS)
@pytest.mark.parametrize("cwd", ["usr/bin", ".", ""])
@pytest.mark.differs(crun="enters it from the root")
def test_a_cwd_that_is_not_absolute_is_an_error(box: Box, cwd: str) -> None:
    box.process["cwd"] = cwd
    box.not_run()


@pytest.mark.spec(PROCESS)
def test_a_cwd_that_is_a_file_is_an_error(box: Box) -> None:
    box.process["cwd"] = "/etc/passwd"
    box.not_run()


@pytest.mark.spec(PROCESS)
def test_the_environment_is_that_of_the_config_alone(box: Box) -> None:
    box.process["env"] = [PATH, "A=1", "B=two words", "EMPTY=", "EQ=a=b", "UTF=é"]
    box.process["args"] = ["/usr/bin/env"]
    found = set(box.run().stdout.splitlines())
    assert found - {"HOME=/root"} == set(box.process["env"])  # engines expect HOME when the image has none


@pytest.mark.spec(PROCESS)
def test_the_program_is_looked_up_in_the_path_of_its_environment(box: Box) -> None:
    (box.root / "tools").mkdir()
    (box.root / "tools/mine").write_text("#!/bin/sh\necho mine $*\n")
    (box.root / "tools/mine").chmod(0o755)
    box.process["env"] = ["PATH=/nowhere:/tools"]
    assert box.run("mine", "a", "b").stdout == "mine a b\n"


@pytest.mark.spec(PROCESS)
def test_arguments_arrive_as_they_are(box: Box) -> None:
    box.process["args"] = ["/bin/sh", "-c", "for a; do echo \"[$a]\"; done", "name", "", "two words", "*", "$HOME", "é\n"]
    assert box.run().stdout == "[]\n[two words]\n[*]\n[$HOME]\n[é\n]\n"


@pytest.mark.spec(PROCESS)
@pytest.mark.parametrize("args", [[], None, [""]], ids=str)
@pytest.mark.differs(crun="1.8 creates without args")
def test_no_program_is_an_error(box: Box, args: list[str] | None) -> None:
    box.process["args"] = args
    if args is None:
        del box.process["args"]
    box.refused()


@pytest.mark.spec(PROCESS)
@pytest.mark.parametrize("size", [None, {"height": 33, "width": 111}], ids=str)
def test_a_terminal_is_handed_over_the_console_socket(box: Box, size: dict[str, int] | None) -> None:
    box.process["terminal"] = True
    if size:
        box.process["consoleSize"] = size
    with console(box.bundle) as (path, master):
        box.created("/bin/sh", "-c", "tty; stty size; ls -l /dev/console | cut -c1; tty < /dev/console; "
                    "test -t 0 && test -t 1 && test -t 2 && echo all; echo for-the-terminal > /dev/tty",
                    options=("--console-socket", path))  # fmt: skip
        terminal = master()
        box.command("start")
        shown = terminal.read(b"for-the-terminal").decode().split("\r\n")
    assert shown[0] in ("/dev/pts/0", "/dev/console") and shown[2] == "c" and shown[3] in ("/dev/pts/0", "/dev/console")
    assert shown[4] == "all"
    if size:
        assert shown[1] == "33 111"


@pytest.mark.spec(PROCESS)
def test_a_console_size_without_a_terminal_is_ignored(box: Box) -> None:
    box.process["consoleSize"] = {"height": 33, "width": 111}
    assert box.sh("test -t 0 || echo none") == "none"


@pytest.mark.spec("command line")
def test_a_terminal_without_a_console_socket_is_an_error_of_create(box: Box) -> None:
    box.process["terminal"] = True
    box.refused()


@pytest.mark.spec("command line")
def test_no_descriptor_but_the_three_is_in_the_container(box: Box) -> None:
    reader, writer = os.pipe()
    try:
        assert box.sh("ls /proc/self/fd", pass_fds=(reader, writer)).split() == ["0", "1", "2", "3"]  # 3 is the directory, opened by ls
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.spec("command line")
def test_descriptors_are_kept_when_asked_for(box: Box) -> None:
    reader, writer = os.pipe()
    saved = os.dup(3) if os.path.exists("/proc/self/fd/3") else -1
    os.dup2(writer, 3)
    try:
        box.process["args"] = ["/bin/sh", "-c", "echo hello >&3"]
        box.write()
        done = box.runtime("run", "--bundle", box.bundle, "--preserve-fds", "1", box.id, pass_fds=(3,))
        assert done.returncode == 0, done.stderr
        assert os.read(reader, 100) == b"hello\n"
    finally:
        os.close(3)
        if saved != -1:
            os.dup2(saved, 3)
            os.close(saved)
        os.close(reader)
        os.close(writer)


@pytest.mark.spec(USER)
def test_uid_gid_and_additional_gids(box: Box) -> None:
    box.process["user"] = {"uid": 1000, "gid": 1001, "additionalGids": [5, 1005]}
    del box.process["capabilities"]
    assert box.status("Uid", "Gid", "Groups") == ["1000\t1000\t1000\t1000", "1001\t1001\t1001\t1001", "5 1005"]


@pytest.mark.spec(USER)
def test_without_additional_gids_there_are_none(box: Box) -> None:
    box.process["user"] = {"uid": 1000, "gid": 1001}
    assert box.status("Groups") in ([""], ["1001"])


@pytest.mark.spec(USER)
@pytest.mark.parametrize("mask", [0o027, 0, 0o777])
def test_umask(box: Box, mask: int) -> None:
    box.process["user"]["umask"] = mask
    assert box.sh("umask") == f"{mask:04o}"


@pytest.mark.spec(USER)
def test_a_user_needs_no_entry_in_etc_passwd(box: Box) -> None:
    (box.root / "etc/passwd").unlink()
    box.process["user"] = {"uid": 4242, "gid": 4242}
    assert box.sh("id -u") == "4242"


@pytest.mark.spec(USER)
@pytest.mark.parametrize("user", [{"uid": -1, "gid": 0}, {"uid": "root", "gid": 0}, {"uid": 0, "gid": 2**33}], ids=str)
@pytest.mark.differs(crun="looks at none of them")
def test_a_user_that_is_no_number_is_an_error(box: Box, user: dict[str, Any]) -> None:
    box.process["user"] = user
    box.refused()


@pytest.mark.spec(RLIMITS)
@pytest.mark.parametrize(("type", "shown"), [("NOFILE", "Max open files"), ("CORE", "Max core file size"), ("NPROC", "Max processes"),
                                             ("FSIZE", "Max file size"), ("STACK", "Max stack size"), ("AS", "Max address space"),
                                             ("CPU", "Max cpu time"), ("DATA", "Max data size"), ("RSS", "Max resident set"),
                                             ("MEMLOCK", "Max locked memory"), ("LOCKS", "Max file locks"),
                                             ("MSGQUEUE", "Max msgqueue size"),
                                             ("SIGPENDING", "Max pending signals"), ("NICE", "Max nice priority"),
                                             ("RTPRIO", "Max realtime priority"), ("RTTIME", "Max realtime timeout")])  # fmt: skip
def test_an_rlimit(box: Box, type: str, shown: str) -> None:
    hard = resource.getrlimit(getattr(resource, f"RLIMIT_{type}", 10))[1] if type != "LOCKS" else resource.RLIM_INFINITY
    limit = 2**30 if hard == resource.RLIM_INFINITY else hard
    box.process["rlimits"] = [{"type": f"RLIMIT_{type}", "soft": limit // 2, "hard": limit}]
    [line] = [line for line in box.sh("exec cat /proc/self/limits").splitlines() if line.startswith(shown)]
    assert line[len("Max realtime priority     "):].split()[:2] == [str(limit // 2), str(limit)]


@pytest.mark.spec(RLIMITS)
def test_a_limit_of_what_does_not_exist_is_an_error(box: Box) -> None:
    box.process["rlimits"] = [{"type": "RLIMIT_NOSUCH", "soft": 1, "hard": 1}]
    assert "RLIMIT_NOSUCH" in box.refused()


@pytest.mark.spec(RLIMITS)
@pytest.mark.differs(runc="1.1 takes the last", crun="takes the last")
def test_a_limit_given_twice_is_an_error(box: Box) -> None:
    box.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": soft, "hard": 64} for soft in (10, 20)]
    assert "process.rlimits" in box.refused()


@pytest.mark.spec(RLIMITS)
def test_a_soft_limit_above_the_hard_one_is_an_error(box: Box) -> None:
    box.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 65, "hard": 64}]
    box.refused()


@pytest.mark.spec(RLIMITS)
@pytest.mark.skipif(may_raise(), reason="with CAP_SYS_RESOURCE limits can be raised")
def test_a_limit_that_cannot_be_raised_is_an_error(box: Box) -> None:
    box.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": HIGHEST + 1, "hard": HIGHEST + 1}]
    box.refused()


def sets(box: Box) -> dict[str, int]:
    return dict(zip(("inheritable", "permitted", "effective", "bounding", "ambient"),
                    (int(word, 16) for word in box.status("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")), strict=True))  # fmt: skip


CHOWN, KILL, NET_BIND, NET_RAW = 1 << 0, 1 << 5, 1 << 10, 1 << 13


@pytest.mark.spec(LINUX)
def test_the_five_sets_of_capabilities(box: Box) -> None:
    """For a user, whose exec gives what is ambient and no more: capabilities(7)."""
    box.process["user"] = {"uid": 1000, "gid": 1000}
    both = ["CAP_KILL", "CAP_NET_BIND_SERVICE"]
    box.process["capabilities"] = {"bounding": [*both, "CAP_CHOWN", "CAP_NET_RAW"], "permitted": both, "effective": ["CAP_KILL"],
                                   "inheritable": both, "ambient": ["CAP_NET_BIND_SERVICE"]}  # fmt: skip
    assert sets(box) == {"bounding": CHOWN | KILL | NET_BIND | NET_RAW, "permitted": NET_BIND, "effective": NET_BIND,
                         "inheritable": KILL | NET_BIND, "ambient": NET_BIND}  # fmt: skip


@pytest.mark.spec(LINUX)
def test_root_has_what_the_bounding_set_leaves(box: Box) -> None:
    box.process["capabilities"] = {name: ["CAP_KILL", "CAP_CHOWN"] for name in ("bounding", "permitted", "effective")}
    found = sets(box)
    assert found["bounding"] == found["permitted"] == found["effective"] == KILL | CHOWN and not found["inheritable"] | found["ambient"]


@pytest.mark.spec(LINUX)
def test_without_capabilities_root_has_none(box: Box) -> None:
    box.process["capabilities"] = {}
    assert not any(sets(box).values())


@pytest.mark.spec(LINUX)
@pytest.mark.differs(crun="1.8 says nothing")
def test_a_capability_that_does_not_exist_is_a_warning(box: Box) -> None:
    """Since 1.1: the rest is given."""
    box.process["capabilities"]["bounding"].append("CAP_NOSUCH")
    done = box.run("/bin/grep", "CapBnd", "/proc/self/status")
    assert done.returncode == 0 and int(done.stdout.split()[1], 16) & KILL
    assert "CAP_NOSUCH" in done.stderr


@pytest.mark.spec(LINUX)
@pytest.mark.parametrize("value", [True, False])
def test_no_new_privileges(box: Box, value: bool) -> None:
    box.process["noNewPrivileges"] = value
    assert box.status("NoNewPrivs") == [str(int(value))]


@pytest.mark.spec(LINUX)
@pytest.mark.parametrize("value", [100, 1000])
def test_oom_score_adj(box: Box, value: int) -> None:
    box.process["oomScoreAdj"] = value
    assert box.sh("cat /proc/self/oom_score_adj") == str(value)


@pytest.mark.spec(LINUX)
def test_without_oom_score_adj_it_is_left_as_it_is(box: Box) -> None:
    mine = Path("/proc/self/oom_score_adj")
    before = mine.read_text()
    mine.write_text("77")
    try:
        assert box.sh("cat /proc/self/oom_score_adj") == "77"
    finally:
        mine.write_text(before)


@pytest.mark.spec(LINUX)
@pytest.mark.parametrize("value", [1001, -1001])
def test_an_oom_score_out_of_bounds_is_an_error(box: Box, value: int) -> None:
    box.process["oomScoreAdj"] = value
    box.refused()


@pytest.mark.spec(LINUX)
@pytest.mark.parametrize(("scheduler", "shown"), [({"policy": "SCHED_BATCH", "nice": 5}, "3"), ({"policy": "SCHED_IDLE"}, "5"),
                                                  ({"policy": "SCHED_OTHER", "nice": 7}, "0")], ids=str)  # fmt: skip
@pytest.mark.differs(runc="1.1 does not know it", crun="1.8 does not know it")
def test_scheduler(box: Box, scheduler: dict[str, Any], shown: str) -> None:
    box.process["scheduler"] = scheduler
    fields = box.sh("exec cat /proc/self/stat").rpartition(")")[2].split()  # field 3 is the first
    assert (fields[41 - 3], fields[19 - 3]) == (shown, str(scheduler.get("nice", 0)))


@pytest.mark.spec(LINUX)
@pytest.mark.differs(runc="1.1 does not know it", crun="1.8 does not know it")
def test_a_scheduler_that_does_not_exist_is_an_error(box: Box) -> None:
    box.process["scheduler"] = {"policy": "SCHED_NOSUCH"}
    assert "SCHED_NOSUCH" in box.refused()


@pytest.mark.spec(LINUX)
@pytest.mark.parametrize(("priority", "shown"), [({"class": "IOPRIO_CLASS_BE", "priority": 6}, "best-effort: prio 6"),
                                                 ({"class": "IOPRIO_CLASS_IDLE", "priority": 0}, "idle")], ids=str)  # fmt: skip
@pytest.mark.differs(runc="1.1 does not know it", crun="1.8 does not know it")
def test_io_priority(box: Box, priority: dict[str, Any], shown: str) -> None:
    box.process["ioPriority"] = priority
    assert shown in box.sh("ionice")


@pytest.mark.spec(LINUX)
@pytest.mark.parametrize(("field", "value"), [("apparmorProfile", "nosuchprofile"), ("selinuxLabel", "system_u:system_r:nosuch_t:s0")])
@pytest.mark.skipif(Path("/sys/kernel/security/lsm").exists(), reason="for a kernel without them")
def test_a_profile_of_a_security_module_that_is_absent_is_an_error(box: Box, field: str, value: str) -> None:
    box.process[field] = value
    box.refused()
