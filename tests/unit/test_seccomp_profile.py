"""The default profile as data, the cache's key, and what is said about a user's profile that is wrong."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidocker.errors import UnsupportedError, UsageError
from minidocker.runtime import filters
from minidocker.spec import seccomp
from minidocker.spec.capabilities import DEFAULT, NAMES
from minidocker.spec.seccomp_file import load, parse

PLAIN = frozenset(DEFAULT)


def allowed(profile: dict[str, object]) -> set[str]:
    """The calls allowed whatever their arguments."""
    return {name for rule in profile["syscalls"] if rule["action"] == seccomp.ALLOW and not rule.get("args") for name in rule["names"]}


def rules(profile: dict[str, object], name: str) -> list[tuple[object, ...]]:
    found = []
    for rule in profile["syscalls"]:
        if name in rule["names"]:
            args = [(arg["index"], arg["op"], arg["value"], arg["valueTwo"]) for arg in rule.get("args", ())]
            found.append((rule["action"], rule.get("errnoRet"), *args))
    return found


def test_default_action_is_a_plain_refusal() -> None:
    profile = seccomp.default_profile(PLAIN, "x86_64")
    assert (profile["defaultAction"], profile["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", 1)


@pytest.mark.parametrize(
    ("arch", "expected"),
    [
        ("x86_64", ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]),
        ("aarch64", ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]),
        ("riscv64", ["SCMP_ARCH_RISCV64"]),
        ("vax", []),
    ],
)
def test_architectures_go_with_the_machine(arch: str, expected: list[str]) -> None:
    assert list(seccomp.default_profile(PLAIN, arch)["architectures"]) == expected


_REFUSED = """
    acct add_key bpf clock_settime clock_settime64 create_module delete_module fanotify_init finit_module fsconfig fsmount fsopen fspick
    get_kernel_syms get_mempolicy init_module io_uring_enter io_uring_register io_uring_setup ioperm iopl kcmp kexec_file_load kexec_load
    keyctl lookup_dcookie mbind migrate_pages mount mount_setattr move_mount move_pages nfsservctl open_by_handle_at open_tree
    open_tree_attr perf_event_open pidfd_getfd pivot_root process_madvise query_module quotactl quotactl_fd reboot request_key
    set_mempolicy setdomainname sethostname setns settimeofday socket stime swapoff swapon _sysctl sysfs syslog umount umount2
    unshare uselib userfaultfd ustat vhangup vm86 vm86old
"""
REFUSED = _REFUSED.split()
_NEEDED = """
    accept4 arch_prctl bind brk capset chroot clock_gettime close_range connect copy_file_range epoll_pwait2 eventfd2 execve execveat
    exit_group faccessat2 fchmodat2 fork futex futex_waitv getrandom ioctl kill landlock_restrict_self listen membarrier memfd_create mknod
    mmap mprotect mseal name_to_handle_at nanosleep openat2 pidfd_open pidfd_send_signal pipe2 poll prctl preadv2 prlimit64 ptrace read
    renameat2 rseq rt_sigaction sched_setaffinity seccomp sendmmsg set_robust_list setresuid shmget signalfd4 statx timerfd_create
    umask vfork wait4 waitid write
"""
NEEDED = _NEEDED.split()


@pytest.mark.parametrize("name", REFUSED)
def test_refused_without_a_capability(name: str) -> None:
    assert name not in allowed(seccomp.default_profile(PLAIN, "x86_64"))


@pytest.mark.parametrize("name", NEEDED)
def test_allowed_to_everybody(name: str) -> None:
    assert name in allowed(seccomp.default_profile(PLAIN, "x86_64"))


@pytest.mark.parametrize(
    ("capability", "opened"),
    [
        ("CAP_BPF", ["bpf"]),
        ("CAP_DAC_READ_SEARCH", ["open_by_handle_at"]),
        ("CAP_PERFMON", ["perf_event_open"]),
        ("CAP_SYSLOG", ["syslog"]),
        ("CAP_SYS_ADMIN", ["mount", "umount2", "unshare", "setns", "clone", "clone3", "bpf", "perf_event_open", "sethostname", "fsopen"]),
        ("CAP_SYS_BOOT", ["reboot"]),
        ("CAP_SYS_CHROOT", ["chroot"]),
        ("CAP_SYS_MODULE", ["init_module", "finit_module", "delete_module"]),
        ("CAP_SYS_NICE", ["mbind", "set_mempolicy", "get_mempolicy"]),
        ("CAP_SYS_PACCT", ["acct"]),
        ("CAP_SYS_PTRACE", ["kcmp", "pidfd_getfd", "process_madvise"]),
        ("CAP_SYS_RAWIO", ["iopl", "ioperm"]),
        ("CAP_SYS_TIME", ["settimeofday", "clock_settime"]),
        ("CAP_SYS_TTY_CONFIG", ["vhangup"]),
    ],
)
def test_a_capability_opens_its_calls(capability: str, opened: list[str]) -> None:
    without = allowed(seccomp.default_profile(frozenset(), "x86_64"))
    having = allowed(seccomp.default_profile(frozenset({capability}), "x86_64"))
    assert set(opened) <= having
    assert not set(opened) & without


@pytest.mark.parametrize("name", ["io_uring_setup", "keyctl", "add_key", "userfaultfd", "kexec_load", "swapon", "pivot_root"])
def test_refused_even_with_every_capability(name: str) -> None:
    assert name not in allowed(seccomp.default_profile(frozenset(NAMES), "x86_64"))


def test_clone_may_make_no_namespace_and_clone3_is_unknown() -> None:
    profile = seccomp.default_profile(PLAIN, "x86_64")
    assert rules(profile, "clone") == [("SCMP_ACT_ALLOW", None, (0, "SCMP_CMP_MASKED_EQ", 0x7E020000, 0))]
    assert rules(profile, "clone3") == [("SCMP_ACT_ERRNO", 38)]
    assert rules(seccomp.default_profile(PLAIN, "s390x"), "clone")[0][2][0] == 1  # type: ignore[index]


def test_clone_is_free_with_sys_admin() -> None:
    profile = seccomp.default_profile(PLAIN | {"CAP_SYS_ADMIN"}, "x86_64")
    assert rules(profile, "clone") == rules(profile, "clone3") == [("SCMP_ACT_ALLOW", None)]


def test_tracing_needs_a_kernel_that_looks_at_the_filter_after_the_tracer() -> None:
    for name in ("ptrace", "process_vm_readv", "process_vm_writev"):
        assert name in allowed(seccomp.default_profile(PLAIN, "x86_64", (4, 8)))
        assert name not in allowed(seccomp.default_profile(PLAIN, "x86_64", (4, 7)))
        assert name in allowed(seccomp.default_profile(PLAIN | {"CAP_SYS_PTRACE"}, "x86_64", (4, 7)))


def test_personality_takes_five_values() -> None:
    found = rules(seccomp.default_profile(PLAIN, "x86_64"), "personality")
    assert found == [("SCMP_ACT_ALLOW", None, (0, "SCMP_CMP_EQ", value, 0)) for value in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)]


@given(st.sets(st.sampled_from(NAMES)), st.sampled_from(sorted(seccomp.MACHINES)))
def test_every_profile_is_oci_data(capabilities: set[str], arch: str) -> None:
    profile = seccomp.default_profile(frozenset(capabilities), arch)
    again = parse(json.dumps(profile), "default", capabilities, arch, (6, 1))
    assert len(again["syscalls"]) == len(profile["syscalls"])
    assert again["architectures"] == list(profile["architectures"])


# --- the cache's key ---------------------------------------------------------------------------------------------------------------


def test_key_is_the_same_in_another_process() -> None:
    root = Path(__file__).resolve().parents[2]
    code = (
        "from minidocker.runtime import filters as c; from minidocker.spec import seccomp as s;"
        "print(c._key(s.default_profile(frozenset({'CAP_KILL', 'CAP_CHOWN', 'CAP_SYS_ADMIN'}), 'x86_64')))"
    )
    keys = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root, env={"PYTHONHASHSEED": seed}
        ).stdout.strip()
        for seed in ("1", "2")
    }
    profile = seccomp.default_profile(frozenset({"CAP_KILL", "CAP_CHOWN", "CAP_SYS_ADMIN"}), "x86_64")
    assert keys == {filters._key(profile)}


def test_key_does_not_depend_on_sharing_of_objects() -> None:
    profile = seccomp.default_profile(PLAIN, "x86_64")
    assert filters._key(profile) == filters._key(copy.deepcopy(profile))


def test_key_depends_on_content() -> None:
    profiles = [
        seccomp.default_profile(PLAIN, "x86_64"),
        seccomp.default_profile(PLAIN | {"CAP_SYS_ADMIN"}, "x86_64"),
        seccomp.default_profile(PLAIN, "aarch64"),
        {**seccomp.default_profile(PLAIN, "x86_64"), "defaultErrnoRet": 38},
        {**seccomp.default_profile(PLAIN, "x86_64"), "flags": ()},
    ]
    assert len({filters._key(profile) for profile in profiles}) == len(profiles)


# --- a user's profile --------------------------------------------------------------------------------------------------------------


def read(
    profile: object, capabilities: frozenset[str] = PLAIN, arch: str = "x86_64", kernel: tuple[int, int] = (6, 1)
) -> dict[str, object]:
    return parse(json.dumps(profile), "my.json", capabilities, arch, kernel)


def test_dockers_conditions_are_decided() -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": None},
        ],
        "syscalls": [
            {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW", "args": None, "comment": "all"},
            {"name": "mount", "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"name": "clone", "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"name": "arch_prctl", "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "x32"]}},
            {"name": "ptrace", "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}, "excludes": {}},
        ],
    }
    plain = read(profile)
    assert plain["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert [rule["names"] for rule in plain["syscalls"]] == [["read", "write"], ["clone"], ["arch_prctl"], ["ptrace"]]
    other = read(profile, PLAIN | {"CAP_SYS_ADMIN"}, "aarch64", (4, 7))
    assert other["architectures"] == ["SCMP_ARCH_AARCH64"]
    assert [rule["names"] for rule in other["syscalls"]] == [["read", "write"], ["mount"]]


RULE = {"names": ["read"], "action": "SCMP_ACT_ALLOW"}


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ([], "not an object"),
        ({}, "defaultAction: missing"),
        ({"defaultAction": "SCMP_ACT_ALOW"}, 'defaultAction: unknown action "SCMP_ACT_ALOW"'),
        ({"defaultAction": "SCMP_ACT_ALLOW", "sycalls": []}, "sycalls: unknown key"),
        ({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": -1}, "defaultErrnoRet: -1 is not a whole number from 0 to 4095"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": {}}, "syscalls: not an array"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [RULE, 3]}, "syscalls\\[1\\]: not an object"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_LOG"}]}, "syscalls\\[0\\].names: missing or empty"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{**RULE, "names": ["a b"]}]}, "names\\[0\\]: \"a b\" is no system call"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{**RULE, "name": "x"}]}, "syscalls\\[0\\].name: goes not together"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["x"]}]}, "syscalls\\[0\\].action: missing"),
        (
            {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{**RULE, "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}]},
            "syscalls\\[0\\].args\\[0\\].index: 6 is not a whole number from 0 to 5",
        ),
        (
            {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{**RULE, "args": [{"index": 0, "value": 1, "op": "=="}]}]},
            "syscalls\\[0\\].args\\[0\\].op: unknown operator",
        ),
        (
            {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{**RULE, "args": [{"index": 0, "value": True, "op": "SCMP_CMP_EQ"}]}]},
            "args\\[0\\].value: true is not",
        ),
        ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{**RULE, "includes": {"cap": []}}]}, "includes.cap: unknown key"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{**RULE, "includes": {"minKernel": 5}}]}, "minKernel: 5 is no kernel version"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["x86"]}, "architectures\\[0\\]: unknown architecture"),
        (
            {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "archMap": [{"architecture": "SCMP_ARCH_X86"}]},
            "archMap: goes not together",
        ),
        ({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["LOG"]}, "flags\\[0\\]: unknown flag"),
    ],
)
def test_errors_name_the_place(profile: object, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        read(profile)
    assert "`my.json`" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", b"\xff\xfe\x00", "[" * 100_000])
def test_what_is_not_json(text: str | bytes) -> None:
    with pytest.raises(UsageError, match="not JSON"):
        parse(text, "my.json", PLAIN, "x86_64", (6, 1))


def test_a_file_is_loaded_for_this_machine(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    rule = {"name": "x", "action": "SCMP_ACT_LOG", "includes": {"minKernel": "4.8"}}
    path.write_text(json.dumps({"defaultAction": "SCMP_ACT_LOG", "syscalls": [rule]}))
    assert load(str(path), PLAIN)["syscalls"] == [{"names": ["x"], "action": "SCMP_ACT_LOG"}]
    with pytest.raises(UsageError, match="no such file"):
        load(str(tmp_path / "none"), PLAIN)
    with pytest.raises(UsageError, match="is a directory"):
        load(str(tmp_path), PLAIN)
    path.write_text(" " * (5 << 20))
    with pytest.raises(UsageError, match="larger than 4 MiB"):
        load(str(path), PLAIN)


def test_notify_is_refused_clearly() -> None:
    with pytest.raises(UnsupportedError, match=r"syscalls\[0\].action: SCMP_ACT_NOTIFY"):
        read({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{**RULE, "action": "SCMP_ACT_NOTIFY"}]})
    with pytest.raises(UnsupportedError, match="listenerPath"):
        read({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/x"})


KEYS = ("names", "name", "action", "args", "index", "value", "op", "includes", "caps", "minKernel", "arches", "errnoRet")
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["SCMP_ACT_ALLOW", "read", "SCMP_CMP_EQ", "4.8", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(json_values, max_size=4), json_values, json_values)
def test_any_json_is_read_or_refused(syscalls: list[object], architectures: object, flags: object) -> None:
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": syscalls, "archMap": architectures, "flags": flags}
    try:
        read(profile)
    except (UsageError, UnsupportedError):
        pass
