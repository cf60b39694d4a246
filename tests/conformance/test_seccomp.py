"""config-linux.md, Seccomp: actions, errno values, comparisons of arguments, flags, architectures, and the listener."""

from __future__ import annotations

import json
import os
import platform
import socket
from typing import Any

import pytest

from tests.conformance.box import Box

SECCOMP, STATE = "config-linux.md#seccomp", "config-linux.md#the-container-process-state"
ARCHITECTURE = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}.get(platform.machine(), "")
MKDIR = ["mkdir", "mkdirat"]
# What `kill -USR1 1` gives to kill(2): pid 1, signal 10. The shell is pid 1, which is deaf to it.
ASK = "kill -USR1 1 2>&1 && echo allowed; true"


def filtered(box: Box, *syscalls: dict[str, Any], default: str = "SCMP_ACT_ALLOW", **more: Any) -> None:
    box.linux["seccomp"] = {"defaultAction": default, "syscalls": list(syscalls), **more}
    if ARCHITECTURE:
        box.linux["seccomp"].setdefault("architectures", [ARCHITECTURE])
    box.process["noNewPrivileges"] = True


def rule(action: str, *names: str, **more: Any) -> dict[str, Any]:
    return {"names": list(names), "action": f"SCMP_ACT_{action}", **more}


@pytest.mark.spec(SECCOMP)
def test_a_filter_is_loaded(box: Box) -> None:
    filtered(box, rule("ERRNO", *MKDIR))
    assert box.status("Seccomp")[0] == "2"


@pytest.mark.spec(SECCOMP)
def test_errno_is_eperm_by_default(box: Box) -> None:
    filtered(box, rule("ERRNO", *MKDIR))
    assert "Operation not permitted" in box.sh("mkdir /tmp/x 2>&1; true")


@pytest.mark.spec(SECCOMP)
@pytest.mark.parametrize(("number", "text"), [(38, "not implemented"), (13, "Permission denied"), (28, "No space"), (17, "File exists")])
def test_errno_is_what_errno_ret_says(box: Box, number: int, text: str) -> None:
    filtered(box, rule("ERRNO", *MKDIR, errnoRet=number))
    assert text in box.sh("mkdir /tmp/x 2>&1; true")


@pytest.mark.spec(SECCOMP)
def test_an_errno_of_nought_pretends(box: Box) -> None:
    filtered(box, rule("ERRNO", *MKDIR, errnoRet=0))
    assert box.sh("mkdir /tmp/x && ls /tmp") == ""


@pytest.mark.spec(SECCOMP)
@pytest.mark.parametrize(("action", "code"), [("KILL", 159), ("KILL_PROCESS", 159), ("KILL_THREAD", 159), ("TRAP", 159)])
def test_actions_that_kill(box: Box, action: str, code: int) -> None:
    filtered(box, rule(action, *MKDIR))
    assert box.sh("mkdir /tmp/x; echo $?").splitlines()[-1] == str(code)


@pytest.mark.spec(SECCOMP)
@pytest.mark.parametrize("action", ["ALLOW", "LOG"])
def test_actions_that_let_it_pass(box: Box, action: str) -> None:
    filtered(box, rule(action, *MKDIR))
    assert box.sh("mkdir /tmp/x && ls /tmp") == "x"


@pytest.mark.spec(SECCOMP)
def test_trace_without_a_tracer_is_enosys(box: Box) -> None:
    filtered(box, rule("TRACE", *MKDIR, errnoRet=5))
    assert "not implemented" in box.sh("mkdir /tmp/x 2>&1; true")


@pytest.mark.spec(SECCOMP)
@pytest.mark.parametrize(("value", "shown"), [({}, "Operation not permitted"), ({"defaultErrnoRet": 38}, "not implemented")], ids=str)
def test_the_default_action_has_an_errno_too(box: Box, value: dict[str, int], shown: str) -> None:
    names = """read write writev open openat close fstat newfstatat stat lstat mmap mprotect munmap brk rt_sigaction rt_sigprocmask
        rt_sigreturn ioctl execve exit exit_group arch_prctl getpid getppid getuid geteuid getgid getegid setuid setgid setgroups capget
        capset prctl futex getdents64 getcwd chdir fchdir dup dup2 dup3 fcntl pipe pipe2 clone clone3 vfork fork wait4 set_tid_address
        set_robust_list rseq prlimit64 getrandom uname faccessat faccessat2 access statfs fstatfs epoll_create1 epoll_ctl epoll_wait
        epoll_pwait sigaltstack gettid tgkill kill nanosleep clock_nanosleep sched_yield sched_getaffinity readlink readlinkat pread64
        pwrite64 lseek socket connect sendto sendmsg recvmsg recvfrom shutdown close_range poll ppoll unlink unlinkat umask fchown chown
        fchownat openat2 execveat getsockopt setsockopt socketpair madvise mincore seccomp getpgrp setsid setpgid getsid accept accept4
        eventfd2 select pselect6 time clock_gettime gettimeofday getrlimit setrlimit statx fchmod memfd_create pidfd_open personality
        getresuid getresgid getgroups setresuid setresgid timer_settime tkill restart_syscall keyctl setitimer readv pidfd_send_signal
        lgetxattr getxattr""".split()  # noqa: SIM905
    filtered(box, rule("ALLOW", *names), default="SCMP_ACT_ERRNO", **value)
    assert shown in box.sh("mkdir /tmp/x 2>&1; true")


@pytest.mark.spec(SECCOMP)
@pytest.mark.parametrize(("op", "value", "two", "denied"), [
    ("EQ", 10, 0, True), ("EQ", 11, 0, False), ("NE", 10, 0, False), ("NE", 11, 0, True), ("LT", 11, 0, True), ("LT", 10, 0, False),
    ("LE", 10, 0, True), ("LE", 9, 0, False), ("GT", 9, 0, True), ("GT", 10, 0, False), ("GE", 10, 0, True), ("GE", 11, 0, False),
    ("MASKED_EQ", 0x8, 0x8, True), ("MASKED_EQ", 0x5, 0x4, False)])  # fmt: skip
def test_comparisons_of_an_argument(box: Box, op: str, value: int, two: int, denied: bool) -> None:
    filtered(box, rule("ERRNO", "kill", args=[{"index": 1, "value": value, "valueTwo": two, "op": f"SCMP_CMP_{op}"}]))
    assert ("not permitted" in box.sh(ASK)) == denied


@pytest.mark.spec(SECCOMP)
@pytest.mark.parametrize(("pid", "denied"), [(1, True), (2, False)])
def test_several_arguments_must_all_match(box: Box, pid: int, denied: bool) -> None:
    args = [{"index": index, "value": value, "op": "SCMP_CMP_EQ"} for index, value in enumerate((pid, 10))]
    filtered(box, rule("ERRNO", "kill", args=args))
    assert ("not permitted" in box.sh(ASK)) == denied


@pytest.mark.spec(SECCOMP)
def test_one_of_several_rules_is_enough(box: Box) -> None:
    filtered(box, *(rule("ERRNO", "kill", args=[{"index": 1, "value": value, "op": "SCMP_CMP_EQ"}]) for value in (12, 10)))
    assert "not permitted" in box.sh(ASK)


@pytest.mark.spec(SECCOMP)
@pytest.mark.parametrize("value", [2**32 + 10, 2**63], ids=hex)
def test_values_have_64_bits(box: Box, value: int) -> None:
    filtered(box, rule("ERRNO", "kill", args=[{"index": 1, "value": value, "op": "SCMP_CMP_EQ"}]))
    assert box.sh(ASK) == "allowed"


@pytest.mark.spec(SECCOMP)
def test_a_call_that_this_machine_does_not_have_is_passed_over(box: Box) -> None:
    filtered(box, rule("ERRNO", "no_such_call", *MKDIR))
    assert "not permitted" in box.sh("mkdir /tmp/x 2>&1; true")


@pytest.mark.spec(SECCOMP)
@pytest.mark.parametrize("flag", ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"])
@pytest.mark.differs(runc="of Debian 12 does not know them")
def test_flags(box: Box, flag: str) -> None:
    filtered(box, rule("ERRNO", *MKDIR), flags=[flag])
    assert "not permitted" in box.sh("mkdir /tmp/x 2>&1; true")


@pytest.mark.spec(SECCOMP)
@pytest.mark.parametrize("architectures", [[], ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]], ids=len)
@pytest.mark.skipif(ARCHITECTURE != "SCMP_ARCH_X86_64", reason="for x86_64")
def test_architectures(box: Box, architectures: list[str]) -> None:
    filtered(box, rule("ERRNO", *MKDIR), architectures=architectures)
    assert "not permitted" in box.sh("mkdir /tmp/x 2>&1; true")


@pytest.mark.spec(SECCOMP)
@pytest.mark.parametrize("change", [{"defaultAction": "SCMP_ACT_NOSUCH"}, {"architectures": ["SCMP_ARCH_NOSUCH"]}, {"flags": ["NOSUCH"]},
                                    {"syscalls": [rule("NOSUCH", "mkdir")]}, {"defaultAction": None},
                                    {"syscalls": [rule("ERRNO", "kill", args=[{"index": 1, "value": 1, "op": "NOSUCH"}])]},
                                    {"syscalls": [rule("ERRNO", "kill", args=[{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}])]}],
                         ids=lambda change: str(change)[:48])  # fmt: skip
@pytest.mark.differs(crun="1.8 takes a flag or a default action that it does not know")
def test_what_does_not_exist_is_an_error(box: Box, change: dict[str, Any]) -> None:
    filtered(box, rule("ERRNO", *MKDIR))
    box.linux["seccomp"].update(change)
    box.refused()


@pytest.mark.spec(SECCOMP)
@pytest.mark.parametrize("where", ["syscalls", "default"])
@pytest.mark.differs(runc="1.1 ignores it", crun="ignores it")
def test_an_errno_for_an_action_without_one_is_an_error(box: Box, where: str) -> None:
    filtered(box, rule("ALLOW", *MKDIR, **({"errnoRet": 5} if where == "syscalls" else {})))
    if where == "default":
        box.linux["seccomp"]["defaultErrnoRet"] = 5
    assert "linux.seccomp" in box.refused()


def received(listener: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """What one connection says until it is closed, and the descriptors that come with it."""
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(20)
        data, descriptors, _, _ = socket.recv_fds(connection, 65536, 4)
        while more := connection.recv(65536):
            data += more
    return json.loads(data), descriptors


@pytest.mark.spec(STATE)
@pytest.mark.differs(crun="1.8 sends another state")
def test_the_listener_gets_the_state_and_the_descriptor(box: Box) -> None:
    """Its supervisor then answers for the call that the container makes: here with an error of its own choice, EUCLEAN."""
    import ctypes
    import fcntl
    import struct

    path = f"/run/conformance-{os.getpid()}.socket"
    filtered(box, rule("NOTIFY", *MKDIR), listenerPath=path, listenerMetadata="opaque words")
    box.config["annotations"] = {"a": "b"}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        try:
            listener.listen(1)
            listener.settimeout(20)
            box.started("/bin/sh", "-c", "mkdir /tmp/x; exit 0")
            state, [descriptor] = received(listener)
            notification = bytearray(80)
            fcntl.ioctl(descriptor, 0xC0502100, notification)  # SECCOMP_IOCTL_NOTIF_RECV
            id, pid = struct.unpack_from("QI", notification)
            answer = struct.pack("QqiI", id, 0, -117, 0)
            fcntl.ioctl(descriptor, 0xC0182101, bytearray(answer))  # SECCOMP_IOCTL_NOTIF_SEND
            os.close(descriptor)
            assert pid and ctypes.sizeof(ctypes.c_void_p) == 8
            box.wait()
        finally:
            os.unlink(path)
    assert "Structure needs cleaning" in box.stderr.read_text()
    assert state["fds"] == ["seccompFd"] and state["metadata"] == "opaque words" and state["ociVersion"].startswith("1.")
    assert state["state"]["id"] == box.id and state["state"]["bundle"] == str(box.bundle) and state["pid"] == state["state"]["pid"]
    assert state["state"]["annotations"] == {"a": "b"}


@pytest.mark.spec(SECCOMP)
def test_a_listener_that_is_not_there_is_an_error(box: Box) -> None:
    filtered(box, rule("NOTIFY", *MKDIR), listenerPath="/no/such/socket")
    box.not_run()


@pytest.mark.spec(SECCOMP)
@pytest.mark.differs(crun="goes on")
def test_notify_without_a_listener_is_an_error(box: Box) -> None:
    filtered(box, rule("NOTIFY", *MKDIR))
    box.not_run()


@pytest.mark.spec(SECCOMP)
def test_a_filter_holds_for_exec_too(box: Box) -> None:
    filtered(box, rule("ERRNO", *MKDIR))
    box.started()
    assert "not permitted" in box.exec("mkdir /tmp/x 2>&1; true")
