"""Filters compiled, cached and loaded: what the kernel then answers. Every filter is loaded in a forked child."""

from __future__ import annotations

import ctypes
import errno
import operator
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from minidocker.errors import UnsupportedError, UsageError
from minidocker.kernel import libc
from minidocker.kernel import process as kernel
from minidocker.plan import CHILD, At
from minidocker.runtime import filters, privileges
from minidocker.runtime import seccomp as compiler
from minidocker.spec import seccomp
from minidocker.spec.capabilities import DEFAULT, NAMES, names
from tests.kernel.child import attempt, in_child, outcome

ARCH = os.uname().machine
HELD = names(kernel.bounding())
GIVEN = [name for name in sorted(DEFAULT) if name in HELD]
OURS = 123  # ENOMEDIUM: an answer no system call here gives of itself
_resolve = ctypes.CDLL("libseccomp.so.2").seccomp_syscall_resolve_name


def call(name: str, *arguments: int) -> int:
    """0 or the errno of the system call, by number, with `arguments` and zeros after them."""
    number = _resolve(name.encode())
    assert number >= 0, f"{name} is not a system call here"
    return attempt(libc.syscall, number, *[*arguments, 0, 0, 0, 0, 0, 0][:6])


def under(profile: dict[str, Any], function: Any, uid: int = 0, capabilities: list[str] = GIVEN, quiet: bool = True) -> Any:
    """What `function` returns in a child that is set up as a container's process is."""
    return in_child(lambda: _enter(profile, function, uid, capabilities, quiet))


def _enter(profile: dict[str, Any], function: Any, uid: int, capabilities: list[str], quiet: bool) -> Any:
    held = capabilities if uid == 0 else []
    process = {
        "user": {"uid": uid, "gid": uid},
        "capabilities": {"bounding": capabilities, "effective": held, "permitted": held},
        "noNewPrivileges": quiet,
    }
    privileges.plan(process, compiler.compile(profile)).run(At(), CHILD)
    return function()


def default(capabilities: list[str] = GIVEN, **changes: Any) -> dict[str, Any]:
    return {**seccomp.default_profile(frozenset(capabilities), ARCH), **changes}


def only(*rules: dict[str, Any], action: str = "SCMP_ACT_ALLOW", **more: Any) -> dict[str, Any]:
    return {"defaultAction": action, "architectures": [], "syscalls": list(rules), **more}


def rule(name: str, action: str, number: int | None = None, *args: tuple[int, str, int, int]) -> dict[str, Any]:
    said = [{"index": i, "op": f"SCMP_CMP_{op}", "value": value, "valueTwo": two} for i, op, value, two in args]
    return {"names": [name], "action": f"SCMP_ACT_{action}", "errnoRet": number, "args": said}


# --- the default profile -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.parametrize("quiet", [True, False])
def test_default_profile_from_inside(uid: int, quiet: bool) -> None:
    def child() -> dict[str, Any]:
        with open("/proc/self/status") as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        sockets = {
            family: attempt(lambda family=family: socket.socket(family, socket.SOCK_STREAM).close())
            for family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, 38, 40)
        }
        thread = threading.Thread(target=lambda: None)  # libc tries clone3 and falls back to clone
        thread.start()
        thread.join()
        return {
            "Seccomp": status["Seccomp"],
            "NoNewPrivs": status["NoNewPrivs"],
            "sockets": list(sockets.values()),
            "vsock with a high bit": call("socket", (1 << 32) + 40, 1),
            "netlink": call("socket", 16, 3),
            "unshare user": attempt(libc.unshare, 0x10000000),
            "clone3": call("clone3"),
            "clone newuser": call("clone", 0x10000000 | signal.SIGCHLD),
            "fork": in_child(os.getpid) > 0,
            "keyctl": call("keyctl"),
            "personality read": call("personality", 0xFFFFFFFF),
            "personality 32": call("personality", 0x8),
            "personality no aslr": call("personality", 0x0040000),
            "a call of the future": attempt(libc.syscall, 5000),
        }

    found = under(default(), child, uid, quiet=quiet)
    assert found.pop("sockets") == [0, 0, 0, errno.EPERM, errno.EPERM]
    assert found == {
        "Seccomp": "2",
        "NoNewPrivs": str(int(quiet)),
        "vsock with a high bit": errno.EPERM,
        "netlink": 0,
        "unshare user": errno.EPERM,
        "clone3": errno.ENOSYS,
        "clone newuser": errno.EPERM,
        "fork": True,
        "keyctl": errno.EPERM,
        "personality read": 0,
        "personality 32": 0,
        "personality no aslr": errno.EPERM,
        "a call of the future": errno.ENOSYS,
    }


# What docker's documentation lists as blocked, and its shape blocks; `vm86` and the like exist on no machine of 64 bits.
_BLOCKED = """
    acct add_key bpf clock_settime delete_module finit_module fanotify_init fsconfig fsmount fsopen fspick get_mempolicy init_module
    io_uring_enter io_uring_register io_uring_setup kcmp kexec_file_load kexec_load keyctl lookup_dcookie mbind migrate_pages mount
    mount_setattr move_mount move_pages nfsservctl open_by_handle_at open_tree perf_event_open pidfd_getfd pivot_root process_madvise
    quotactl quotactl_fd reboot request_key set_mempolicy setdomainname sethostname setns settimeofday swapoff swapon syslog
    umount2 unshare userfaultfd vhangup
"""
BLOCKED = _BLOCKED.split()
# Harmless as called here: with all arguments 0 or wrong
_PASSED = """
    getpid gettid getuid getppid sched_yield capget close_range copy_file_range dup epoll_create1 eventfd2 faccessat2 fchmodat2 fcntl
    fstat futex getrandom getcwd ioctl kill landlock_create_ruleset listen lseek membarrier memfd_create mincore mprotect munmap
    name_to_handle_at openat openat2 pidfd_open pipe2 prctl preadv2 prlimit64 process_vm_readv ptrace read sched_getaffinity seccomp
    sendmsg shmget socketpair splice statx timer_create timerfd_create umask uname utimensat write
"""
PASSED = _PASSED.split()


def test_default_profile_refuses_what_docker_documents() -> None:
    """The filter's own errno is changed, so that its refusal is told from the kernel's; the child could not do harm if it failed."""
    profile = default([], defaultErrnoRet=OURS)
    found = under(profile, lambda: {name: call(name) for name in BLOCKED}, uid=1000, capabilities=[])
    assert found == dict.fromkeys(BLOCKED, OURS)


def test_default_profile_passes_what_programs_need() -> None:
    profile = default([], defaultErrnoRet=OURS)

    def child() -> list[str]:
        # close_range(2^31..) closes nothing; the others fail on their arguments or only ask
        arguments = {"close_range": (1 << 31, 1 << 31), "kill": (0, 0), "umask": (0o22,), "dup": (99,), "ptrace": (99,), "read": (99,)}
        return [name for name in PASSED if call(name, *arguments.get(name, (0,))) == OURS]

    assert under(profile, child, uid=1000, capabilities=[]) == []


def test_sys_admin_opens_what_it_is_for() -> None:
    capabilities = [*GIVEN, "CAP_SYS_ADMIN"]

    def child() -> list[int]:
        return [call(name) for name in ("mount", "setns", "bpf", "fsopen", "unshare")] + [call("keyctl"), call("io_uring_setup")]

    found = under(default(capabilities, defaultErrnoRet=OURS), child, capabilities=capabilities)
    assert OURS not in found[:5]
    assert found[5:] == [OURS, OURS]


def test_a_program_runs_under_the_default_profile() -> None:
    code = "import subprocess, threading, socket; print(subprocess.check_output(['id', '-u']).decode().strip())"
    found = under(default(), lambda: [str(part) for part in kernel.run_tool([sys.executable, "-c", code])])
    assert found == ["0", "b'0\\n'", "b''"]


# --- every action, every operator --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["KILL", "KILL_THREAD", "KILL_PROCESS", "TRAP"])
def test_actions_that_end_the_process(action: str) -> None:
    profile = only(rule("getpgid", action))
    _, status = outcome(lambda: _enter(profile, lambda: call("getpgid"), 0, GIVEN, True))
    assert status == -signal.SIGSYS


@pytest.mark.parametrize(
    ("action", "number", "expected"),
    [("ERRNO", 77, 77), ("ERRNO", None, errno.EPERM), ("ERRNO", 0, 0), ("LOG", None, 0), ("ALLOW", None, 0), ("TRACE", 1, errno.ENOSYS)],
)
def test_actions_that_answer(action: str, number: int | None, expected: int) -> None:
    assert under(only(rule("getpgid", action, number)), lambda: call("getpgid")) == expected


def test_action_as_default() -> None:
    needed = [rule(name, "ALLOW") for name in ("write", "exit_group", "rt_sigaction", "brk", "mmap", "munmap", "close", "futex")]
    profile = only(*needed, action="SCMP_ACT_ERRNO", defaultErrnoRet=OURS)
    assert under(profile, lambda: (call("getpgid"), attempt(libc.syscall, 5000))) == [OURS, errno.ENOSYS]
    assert under({**profile, "defaultErrnoRet": errno.ENOSYS}, lambda: call("getpgid")) == errno.ENOSYS
    assert under(only(rule("getpgid", "ERRNO", 5)), lambda: attempt(libc.syscall, 5000)) == errno.ENOSYS, "the kernel's own"


VALUES = [0, 4, 5, 6, (1 << 32) + 5, (1 << 63) + 5, (1 << 64) - 1]


@pytest.mark.parametrize("op", ["NE", "LT", "LE", "EQ", "GE", "GT"])
def test_comparisons_are_unsigned_and_64_bits_wide(op: str) -> None:
    profile = only(rule("lseek", "ERRNO", OURS, (1, op, 5, 0)))
    found = under(profile, lambda: [call("lseek", -1, value) == OURS for value in VALUES])
    assert found == [getattr(operator, op.lower())(value, 5) for value in VALUES]


def test_masked_comparison() -> None:
    profile = only(rule("lseek", "ERRNO", OURS, (1, "MASKED_EQ", 0xF0, 0x20)))
    assert under(profile, lambda: [call("lseek", -1, value) == OURS for value in (0x20, 0x2F, 0x120, 0x30, 0)]) == [
        True, True, True, False, False,
    ]  # fmt: skip


def test_arguments_of_one_rule_must_all_hold_and_rules_are_alternatives() -> None:
    both = rule("lseek", "ERRNO", OURS, (1, "EQ", 1, 0), (2, "EQ", 2, 0))
    other = rule("lseek", "ERRNO", OURS, (1, "EQ", 7, 0))
    found = under(only(both, other), lambda: [call("lseek", -1, a, b) == OURS for a, b in ((1, 2), (1, 3), (0, 2), (7, 0))])
    assert found == [True, False, False, True]


def test_two_comparisons_of_one_argument_are_alternatives() -> None:
    profile = only(rule("lseek", "ERRNO", OURS, (1, "EQ", 1, 0), (1, "EQ", 3, 0)))
    assert under(profile, lambda: [call("lseek", -1, a) == OURS for a in (1, 2, 3)]) == [True, False, True]


# --- what cannot be compiled -------------------------------------------------------------------------------------------------------


def test_unknown_names_are_skipped_and_told() -> None:
    skipped: list[str] = []
    compiler.compile(only({"names": ["getpgid", "frobnicate"], "action": "SCMP_ACT_LOG"}), skipped)
    assert skipped == ["frobnicate"]


@pytest.mark.parametrize(
    ("profile", "kind", "message"),
    [
        (only(action="SCMP_ACT_FOO"), UsageError, "defaultAction: unknown action `SCMP_ACT_FOO`"),
        (only(rule("read", "NOTIFY")), UnsupportedError, r"syscalls\[0\].action: SCMP_ACT_NOTIFY"),
        (only(rule("read", "ERRNO", 1, (0, "XX", 1, 0))), UsageError, r"syscalls\[0\].args\[0\].op: unknown operator"),
        (only(architectures=["SCMP_ARCH_Z80"]), UsageError, r"architectures\[0\]: unknown architecture"),
        (only(architectures=["SCMP_ARCH_S390X"]), UnsupportedError, r"architectures\[0\]: `SCMP_ARCH_S390X` cannot share"),
        (only(flags=["SECCOMP_FILTER_FLAG_X"]), UsageError, r"flags\[0\]: unknown flag"),
        (
            only(rule("lseek", "ERRNO", 5, (1, "EQ", 1, 0)), rule("lseek", "ERRNO", 6, (1, "EQ", 1, 0))),
            UsageError,
            r"syscalls\[1\]: `lseek`: contradicts",
        ),
    ],
)
def test_what_is_wrong_is_named(profile: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        compiler.compile(profile)


def test_said_twice_is_no_contradiction() -> None:
    one = rule("lseek", "ERRNO", 5, (1, "EQ", 1, 0))
    assert compiler.compile(only(one, one)) == compiler.compile(only(one)) != compiler.compile(only())


def test_flags() -> None:
    assert compiler.compile(only())[1] == kernel.SECCOMP_FILTER_FLAG_SPEC_ALLOW
    assert compiler.compile(only(flags=[]))[1] == 0
    both = ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"]
    assert compiler.compile(only(flags=both))[1] == kernel.SECCOMP_FILTER_FLAG_LOG
    assert under(only(rule("getpgid", "ERRNO", OURS), flags=both), lambda: call("getpgid")) == OURS


def test_without_the_library_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "_LIBRARY", "libseccomp-not-here.so.2")
    with pytest.raises(UnsupportedError, match="not installed") as caught:
        compiler.compile(only())
    assert "libseccomp2" in caught.value.hint


# --- the cache ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by one with each compilation."""
    calls: list[str] = []
    real = compiler.compile
    monkeypatch.setattr(compiler, "compile", lambda profile: (calls.append("compiled"), real(profile))[1])
    return calls


def entry(directory: Path) -> Path:
    (path,) = directory.iterdir()
    return path


def test_cache_hit_is_the_same_filter(tmp_path: Path, compiled: list[str]) -> None:
    directory = tmp_path / "made" / "as needed"
    first = filters.cached(default(), str(directory))
    assert filters.cached(default(), str(directory)) == first == compiler.compile(default())
    assert compiled == ["compiled"] * 2
    assert entry(directory).stat().st_mode & 0o777 == 0o600
    assert directory.stat().st_mode & 0o777 == 0o700


def test_cache_hit_imports_and_loads_little(tmp_path: Path) -> None:
    filters.cached(default(), str(tmp_path))
    code = f"""
import sys
from minidocker.runtime import filters as c
from minidocker.spec import seccomp as s
c.cached(s.default_profile(frozenset({GIVEN!r}), {ARCH!r}), {str(tmp_path)!r})
assert "libseccomp" not in open("/proc/self/maps").read(), "loaded on a hit"
print(sorted(set(sys.modules) & set("json hashlib re typing enum dataclasses collections subprocess pathlib tempfile logging".split())))
"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, cwd=root, env=_site())
    assert (done.stdout, done.stderr) == ("[]\n", "")


def _site() -> dict[str, str]:
    """-S keeps site-packages' .pth files from importing things of their own; python-prctl is still to be found."""
    import _prctl

    return {"PYTHONPATH": str(Path(_prctl.__file__).parent)}


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "flags", "other", "writable", "owner", "symlink", "directory"])
def test_an_entry_not_to_be_trusted_is_compiled_anew(tmp_path: Path, compiled: list[str], damage: str) -> None:
    directory = tmp_path / "cache"
    good = filters.cached(default(), str(directory))
    path = entry(directory)
    content = path.read_bytes()
    if damage == "flip":
        path.write_bytes(content[:-4] + bytes([content[-4] ^ 1]) + content[-3:])
    elif damage == "truncate":
        path.write_bytes(content[:-8])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "flags":
        path.write_bytes(content[:6] + b"\xff" + content[7:])
    elif damage == "other":  # a whole, sound entry, but of another profile
        filters.cached(only(), str(directory))
        other = next(found for found in directory.iterdir() if found != path)
        other.rename(path)
    elif damage == "writable":
        path.chmod(0o666)
    elif damage == "owner":
        os.chown(path, 1000, 1000)
    elif damage == "symlink":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    elif damage == "directory":
        path.unlink()
        path.mkdir()
    compiled.clear()
    assert filters.cached(default(), str(directory)) == good
    assert compiled == ["compiled"]
    compiled.clear()
    assert filters.cached(default(), str(directory)) == good
    assert compiled == ([] if damage != "directory" else ["compiled"])
    assert not [found for found in directory.iterdir() if found.suffix != ".bpf"], "nothing half written is left"


def test_a_directory_that_cannot_be_written_is_gone_without(tmp_path: Path) -> None:
    def child() -> list[Any]:
        os.setresuid(1000, 1000, 1000)
        bpf, flags = filters.cached(only(), "/proc/cache")
        return [len(bpf) > 0, flags]

    assert in_child(child) == [True, kernel.SECCOMP_FILTER_FLAG_SPEC_ALLOW]
    file = tmp_path / "file"
    file.write_text("")
    assert filters.cached(only(), str(file)) == compiler.compile(only())


def test_old_entries_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "_KEPT", 3)
    for number in range(5):
        filters.cached(only(rule("getpgid", "ERRNO", number + 1)), str(tmp_path))
        os.utime(max(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns), ns=(number, number))
    assert len(list(tmp_path.iterdir())) == 3


def test_names_cover_this_kernels_capabilities() -> None:
    assert set(HELD) <= set(NAMES)
