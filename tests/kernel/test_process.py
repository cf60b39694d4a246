"""Limits, users, capabilities and process handles on the real kernel; each in a forked child."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from minidocker.errors import KernelError, UnsupportedError
from minidocker.kernel import process as kernel
from minidocker.plan import CHILD, PARENT, At
from minidocker.runtime import privileges
from minidocker.spec.capabilities import DEFAULT, NAMES, mask, names
from tests.kernel.child import attempt, in_child

GIVEN = [name for name in sorted(DEFAULT) if name in names(kernel.bounding())]


def status(*fields: str) -> dict[str, str]:
    with open("/proc/self/status") as file:
        lines = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    return {field: lines[field] for field in fields}


def capability_sets() -> list[int]:
    found = status("CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb")
    return [int(value, 16) for value in found.values()]


def apply(process: dict[str, Any]) -> None:
    privileges.plan(process, None).run(At(), CHILD)


def sets(bounding: list[str], held: list[str], inheritable: list[str] | None = None, ambient: list[str] | None = None) -> dict[str, Any]:
    return {
        "bounding": bounding, "effective": held, "permitted": held, "inheritable": inheritable or [], "ambient": ambient or [],
    }  # fmt: skip


# --- the plan, read back -----------------------------------------------------------------------------------------------------------


def test_root_keeps_the_listed_capabilities_and_no_other() -> None:
    def child() -> Any:
        apply({"user": {"uid": 0, "gid": 0}, "capabilities": sets(GIVEN, GIVEN), "noNewPrivileges": True})
        return capability_sets(), status("NoNewPrivs", "Seccomp"), attempt(os.mknod, "/dev/kmsg-of-mine", 0o20600, os.makedev(1, 11))

    found, flags, _ = in_child(child)
    assert found == [mask(GIVEN), mask(GIVEN), mask(GIVEN), 0, 0]
    assert flags == {"NoNewPrivs": "1", "Seccomp": "0"}


def test_another_user_holds_nothing_and_is_bounded() -> None:
    def child() -> Any:
        apply({"user": {"uid": 1000, "gid": 1001, "additionalGids": [4, 27], "umask": 0o27}, "capabilities": sets(GIVEN, [])})
        umask = os.umask(0)
        return capability_sets(), status("Uid", "Gid", "Groups", "NoNewPrivs"), umask, attempt(os.setuid, 0), attempt(os.chroot, "/")

    found, ids, umask, setuid, chroot = in_child(child)
    assert found == [mask(GIVEN), 0, 0, 0, 0]
    assert ids["Uid"].split() == ["1000"] * 4 and ids["Gid"].split() == ["1001"] * 4 and ids["Groups"].split() == ["4", "27"]
    assert ids["NoNewPrivs"] == "0"
    assert umask == 0o27
    assert setuid == chroot == errno.EPERM


def test_ambient_capabilities_reach_a_program_of_another_user() -> None:
    bind = ["CAP_NET_BIND_SERVICE"]

    def child() -> Any:
        apply({"user": {"uid": 1000, "gid": 1000}, "capabilities": sets(bind, bind, bind, bind), "noNewPrivileges": True})
        before = capability_sets()
        code, out, _ = kernel.run_tool(["grep", "CapEff", "/proc/self/status"])
        return before, code, int(out.split()[1], 16)

    before, code, effective = in_child(child)
    assert before == [mask(bind)] * 5
    assert (code, effective) == (0, mask(bind))


def test_all_capabilities_may_be_dropped() -> None:
    assert in_child(lambda: (apply({}), capability_sets())[1]) == [0] * 5


def test_what_this_host_withholds_is_left_out_and_named() -> None:
    def child() -> Any:
        for number in (mask(["CAP_KILL"]).bit_length() - 1,):
            kernel.drop_from_bounding(number)
        effective, permitted, inheritable = kernel.capabilities()
        without = ~mask(["CAP_KILL"])
        kernel.set_capabilities(effective & without, permitted & without, inheritable & without)
        process = {"capabilities": sets(["CAP_KILL", "CAP_CHOWN"], ["CAP_KILL", "CAP_CHOWN"])}
        missing = privileges.unavailable(process)
        apply(process)
        return missing, capability_sets()

    missing, found = in_child(child)
    assert missing == ["CAP_KILL"]
    assert found == [mask(["CAP_CHOWN"])] * 3 + [0, 0]


def test_setpriv_line_does_the_same() -> None:
    process = {
        "user": {"uid": 1000, "gid": 1001, "additionalGids": [4, 27]},
        "capabilities": sets(["CAP_KILL", "CAP_CHOWN"], ["CAP_KILL"], ["CAP_KILL"], ["CAP_KILL"]),
        "noNewPrivileges": True,
    }
    fields = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs")
    program = ["grep", "-E", "^(" + "|".join(fields) + "):", "/proc/self/status"]
    (line,) = [step.shell() for step in privileges.plan(process, None).steps if "setpriv --" in step.shell()]
    code, said, _ = kernel.run_tool(["env", f"PROGRAM=exec {shlex.join(program)}", "bash", "-c", line])
    assert code == 0

    def child() -> Any:
        apply(process)
        return kernel.run_tool(program)[1].decode()

    assert said.decode() == in_child(child)


def test_limits_are_set_and_one_too_high_is_named() -> None:
    def child() -> Any:
        limits = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]
        apply({"rlimits": limits})  # which leaves no capability behind
        try:
            apply({"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 300}]})
        except KernelError as error:
            return kernel.rlimit(7), kernel.rlimit(4), str(error), error.hint, error.errno
        return None

    nofile, core, message, hint, number = in_child(child)
    assert (nofile, core) == ([100, 200], [0, 0])
    assert message == "set RLIMIT_NOFILE from 100:200 to 100:300: operation not permitted"
    assert "CAP_SYS_RESOURCE" in hint and number == errno.EPERM


def test_unlimited_is_minus_one_or_the_largest_number() -> None:
    def child() -> Any:
        apply({"rlimits": [{"type": "RLIMIT_CPU", "soft": -1, "hard": kernel.RLIM_INFINITY}]})
        return kernel.rlimit(0)

    if kernel.rlimit(0)[1] != kernel.RLIM_INFINITY:
        pytest.fail("this test needs a machine without a CPU time limit")
    assert in_child(child) == [kernel.RLIM_INFINITY] * 2


def test_oom_score_is_the_parents_to_set(sleeper: int) -> None:
    plan = privileges.plan({"oomScoreAdj": 700}, None)
    plan.run(At(pid=sleeper), PARENT)
    with open(f"/proc/{sleeper}/oom_score_adj") as file:
        assert file.read() == "700\n"


def test_apply_opens_and_imports_nothing() -> None:
    """Law 6: an audit hook in the child sees no open, no import and no dlopen while the plan is applied."""

    def child() -> Any:
        import sys

        plan = privileges.plan(
            {
                "user": {"uid": 1000, "gid": 1000, "additionalGids": [5], "umask": 0o22},
                "capabilities": sets(GIVEN, GIVEN, GIVEN, GIVEN),
                "rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}],
                "noNewPrivileges": True,
            },
            (b"\x06\x00\x00\x00\x00\x00\xff\x7f", 0),
        )
        seen: list[str] = []
        watching = [True]
        forbidden = ("open", "import", "ctypes.dlopen", "ctypes.dlsym")
        sys.addaudithook(lambda event, _: seen.append(event) if watching and event in forbidden else None)
        plan.run(At(), CHILD)
        watching.clear()
        return seen

    assert in_child(child) == []


# --- flags -------------------------------------------------------------------------------------------------------------------------


def test_flags_of_the_process() -> None:
    def child() -> Any:
        kernel.set_dumpable(False)
        kernel.keep_capabilities(True)
        kernel.set_child_subreaper(True)
        kernel.set_no_new_privileges()
        return kernel.dumpable(), kernel.securebits() & 0x10, kernel.no_new_privileges()

    assert in_child(child) == [False, 0x10, True]


def test_securebits() -> None:
    noroot = 1
    assert in_child(lambda: (kernel.set_securebits(noroot), kernel.securebits())[1]) == noroot


def test_subreaper_gets_the_orphan() -> None:
    def child() -> Any:
        kernel.set_child_subreaper(True)
        reader, writer = os.pipe()
        middle = os.fork()
        if middle == 0:
            if os.fork() == 0:
                while os.getppid() != int(os.environ["REAPER"]):
                    time.sleep(0.001)
                os.write(writer, b"mine")
            os._exit(0)
        os.waitpid(middle, 0)
        return os.read(reader, 9).decode(), os.waitpid(-1, 0)[1]

    def run() -> Any:
        os.environ["REAPER"] = str(os.getpid())
        return child()

    assert in_child(run) == ["mine", 0]


def test_parent_death_signal() -> None:
    reader, writer = os.pipe()
    middle = os.fork()
    if middle == 0:
        if os.fork() == 0:
            kernel.set_parent_death_signal(signal.SIGKILL)
            os.write(writer, b"ready")
            signal.pause()
        os.read(reader, 5)
        os._exit(0)
    os.close(writer)
    os.waitpid(middle, 0)
    assert os.read(reader, 1) == b"", "the grandchild died and with it the last writer"
    os.close(reader)


def test_bounding_set_ends_where_the_kernels_does() -> None:
    with open("/proc/sys/kernel/cap_last_cap") as file:
        last = int(file.read())
    assert kernel.bounding() == int(status("CapBnd")["CapBnd"], 16)
    assert kernel.bounding() < 1 << (last + 1)
    assert len(NAMES) > last, "a capability this kernel has is missing from the table"


# --- handles -----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def sleeper() -> Iterator[int]:
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    yield pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_start_time_tells_processes_apart(sleeper: int) -> None:
    own, other = kernel.start_time(os.getpid()), kernel.start_time(sleeper)
    assert 0 < own <= other
    assert kernel.start_time(sleeper) == other
    assert kernel.start_time(2**22) == 0


def test_start_time_of_a_process_with_a_treacherous_name() -> None:
    def child() -> Any:
        before = kernel.start_time(os.getpid())
        with open("/proc/self/comm", "w") as file:
            file.write("a) R 1 (b) c")
        return before, kernel.start_time(os.getpid())

    before, after = in_child(child)
    assert before == after > 0


def test_pidfd_waits_and_signals() -> None:
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    pidfd = kernel.pidfd_open(pid)
    try:
        assert not kernel.pidfd_ended(pidfd)
        kernel.pidfd_send_signal(pidfd, signal.SIGTERM)
        assert kernel.pidfd_ended(pidfd, None)
        assert kernel.pidfd_wait(pidfd) == 128 + signal.SIGTERM
        with pytest.raises(ProcessLookupError):
            kernel.pidfd_send_signal(pidfd, 0)
    finally:
        os.close(pidfd)
    with pytest.raises(ProcessLookupError):
        kernel.pidfd_open(pid)


def test_close_range_closes_and_marks() -> None:
    def child() -> Any:
        first = os.dup(0)
        second = os.dup(0)
        os.set_inheritable(first, True)
        kernel.close_range(first, first, kernel.CLOSE_RANGE_CLOEXEC)
        kernel.close_range(second, second)
        return os.get_inheritable(first), attempt(os.fstat, second)

    assert in_child(child) == [False, errno.EBADF]


# --- run_tool ----------------------------------------------------------------------------------------------------------------------


def test_run_tool_keeps_streams_apart_and_byte_exact() -> None:
    data = bytes(range(256)) * 4096  # more than a pipe holds
    assert kernel.run_tool(["cat"], data) == (0, data, b"")
    assert kernel.run_tool(["sh", "-c", "printf a; printf b >&2; exit 3"]) == (3, b"a", b"b")
    assert kernel.run_tool(["sh", "-c", "kill -9 $$"])[0] == 137


def test_run_tool_hands_on_no_descriptor_and_no_ignored_signal() -> None:
    held = os.memfd_create("held")
    code, out, _ = kernel.run_tool(["sh", "-c", "ls -l /proc/self/fd | grep -c memfd; grep SigIgn /proc/self/status"])
    os.close(held)
    descriptors, ignored = out.split(b"\n")[:2]
    assert code == 0
    assert descriptors == b"2", "ls's stdin and stderr; its stdout is the pipe, and `held` is not there"
    assert int(ignored.split()[1], 16) & (1 << (signal.SIGPIPE - 1)) == 0


def test_run_tool_failures() -> None:
    with pytest.raises(UnsupportedError, match="not installed"):
        kernel.run_tool(["no-such-tool-anywhere"])
    with pytest.raises(KernelError, match="killed after"):
        kernel.run_tool(["sleep", "30"], timeout=0.05)
