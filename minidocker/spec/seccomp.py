"""The default seccomp profile, as OCI runtime-spec `linux.seccomp` data, and the words such data is made of.

It is an allow list of docker's shape: a system call nobody thought of here is refused with EPERM, and one that is younger than
libseccomp with ENOSYS (runtime/seccomp.py), so that a C library falls back to what it did before. What is refused, and why:

    add_key, keyctl, request_key      the kernel's key rings belong to no namespace
    io_uring_*                        does by its queue what this filter refuses by number; a long list of kernel escapes
    userfaultfd                       stalls the kernel at a page fault of one's choosing: the tool that makes races winnable
    unshare, setns, clone(NEW*)       a new user namespace opens mount, netfilter and the rest of the kernel's root-only code
    clone3                            its flags lie in memory, which a filter cannot read: ENOSYS, and libc uses clone
    mount, umount2, pivot_root, fs*   the container's view of its file system is ours to make
    bpf, perf_event_open, syslog      see the whole host
    kexec_*, *_module, swap*, reboot  are the whole host
    settimeofday, clock_settime       the clock belongs to no namespace (adjtimex reads too: the kernel asks for SYS_TIME itself)
    acct, quotactl, nfsservctl        accounting of the host's own
    ioperm, iopl, vm86*               hardware
    move_pages, migrate_pages, mbind  the host's NUMA placement
    open_by_handle_at                 opens files by inode number, past every mount: how containers were once escaped from
    socket(AF_VSOCK), socket(AF_ALG)  the hypervisor, past every network namespace; the kernel's crypto, rarely used and often broken
    personality(most)                 ADDR_NO_RANDOMIZE and old ABIs' bugs
    uselib, ustat, sysfs, _sysctl ... dead calls, kept by the kernel for programs of the last century

Those that a capability is about come back with the capability.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ALLOW = "SCMP_ACT_ALLOW"
ERRNO = "SCMP_ACT_ERRNO"
EPERM = 1
ENOSYS = 38

# seccomp.h of libseccomp: OCI's words are its constants' names. ERRNO and TRACE carry 16 bits of data.
ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000, "SCMP_ACT_KILL_THREAD": 0x00000000, "SCMP_ACT_KILL_PROCESS": 0x80000000, "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000, "SCMP_ACT_TRACE": 0x7FF00000, "SCMP_ACT_LOG": 0x7FFC0000, "SCMP_ACT_ALLOW": 0x7FFF0000,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
}  # fmt: skip
OPERATORS = {
    "SCMP_CMP_NE": 1, "SCMP_CMP_LT": 2, "SCMP_CMP_LE": 3, "SCMP_CMP_EQ": 4, "SCMP_CMP_GE": 5, "SCMP_CMP_GT": 6, "SCMP_CMP_MASKED_EQ": 7,
}  # fmt: skip
# The numbers are the kernel's AUDIT_ARCH_* (linux/audit.h), but for X32, which is libseccomp's own.
ARCHITECTURES = {
    "SCMP_ARCH_X86": 0x40000003, "SCMP_ARCH_X86_64": 0xC000003E, "SCMP_ARCH_X32": 0x4000003E, "SCMP_ARCH_ARM": 0x40000028,
    "SCMP_ARCH_AARCH64": 0xC00000B7, "SCMP_ARCH_MIPS": 0x00000008, "SCMP_ARCH_MIPS64": 0x80000008, "SCMP_ARCH_MIPS64N32": 0xA0000008,
    "SCMP_ARCH_MIPSEL": 0x40000008, "SCMP_ARCH_MIPSEL64": 0xC0000008, "SCMP_ARCH_MIPSEL64N32": 0xE0000008, "SCMP_ARCH_PPC": 0x00000014,
    "SCMP_ARCH_PPC64": 0x80000015, "SCMP_ARCH_PPC64LE": 0xC0000015, "SCMP_ARCH_S390": 0x00000016, "SCMP_ARCH_S390X": 0x80000016,
    "SCMP_ARCH_PARISC": 0x0000000F, "SCMP_ARCH_PARISC64": 0x8000000F, "SCMP_ARCH_RISCV64": 0xC00000F3,
    "SCMP_ARCH_LOONGARCH64": 0xC0000102, "SCMP_ARCH_M68K": 0x00000004, "SCMP_ARCH_SH": 0x4000002A, "SCMP_ARCH_SHEB": 0x0000002A,
}  # fmt: skip
# The machine (uname -m) -> its native architecture and those it can also run, which a filter for one alone would leave open
MACHINES = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
    "armv7l": ("SCMP_ARCH_ARM",),
    "i686": ("SCMP_ARCH_X86",),
    "ppc64le": ("SCMP_ARCH_PPC64LE",),
    "s390x": ("SCMP_ARCH_S390X", "SCMP_ARCH_S390"),
    "riscv64": ("SCMP_ARCH_RISCV64",),
    "loongarch64": ("SCMP_ARCH_LOONGARCH64",),
}

# Every variant of a call that some architecture has is named: libseccomp skips what an architecture lacks.
_GROUPS = (
    # files and directories
    "open openat openat2 creat close close_range read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2 lseek _llseek",
    "stat stat64 lstat lstat64 fstat fstat64 fstatat64 newfstatat statx access faccessat faccessat2 getdents getdents64 getcwd",
    "chdir fchdir mkdir mkdirat rmdir mknod mknodat link linkat symlink symlinkat readlink readlinkat unlink unlinkat",
    "rename renameat renameat2",
    "chmod fchmod fchmodat fchmodat2 chown chown32 fchown fchown32 fchownat lchown lchown32 umask utime utimes futimesat",
    "utimensat utimensat_time64 truncate truncate64 ftruncate ftruncate64 fallocate fadvise64 fadvise64_64 readahead copy_file_range",
    "sendfile sendfile64 splice tee vmsplice sync syncfs fsync fdatasync sync_file_range flock fcntl fcntl64 ioctl dup dup2 dup3",
    "setxattr lsetxattr fsetxattr setxattrat getxattr lgetxattr fgetxattr getxattrat listxattr llistxattr flistxattr listxattrat",
    "removexattr lremovexattr fremovexattr removexattrat statfs statfs64 fstatfs fstatfs64 file_getattr file_setattr cachestat",
    # a handle names a file and opens none; what is mounted, in one's own mount namespace
    "name_to_handle_at statmount listmount",
    # watching files; marks need the descriptor that fanotify_init, refused, makes
    "inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark",
    # memory
    "mmap mmap2 munmap mremap mprotect madvise msync mincore mlock mlock2 mlockall munlock munlockall brk remap_file_pages",
    "memfd_create memfd_secret membarrier mseal pkey_alloc pkey_free pkey_mprotect map_shadow_stack process_mrelease",
    # processes and threads; clone and clone3 have rules of their own
    "fork vfork execve execveat exit exit_group wait4 waitid waitpid getpid getppid gettid getpgid getpgrp setpgid getsid setsid",
    "set_tid_address set_robust_list get_robust_list set_thread_area get_thread_area rseq restart_syscall prctl",
    "pidfd_open pidfd_send_signal futex futex_time64 futex_wait futex_wake futex_requeue futex_waitv uretprobe uprobe",
    # signals
    "kill tkill tgkill pause sigaltstack signalfd signalfd4 sigprocmask sigreturn sigaction sigpending sigsuspend signal",
    "rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64",
    "rt_tgsigqueueinfo",
    # users, groups, capabilities: within what the bounding set leaves
    "getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 getresuid getresuid32 getresgid getresgid32 getgroups getgroups32",
    "setuid setuid32 setgid setgid32 setreuid setreuid32 setregid setregid32 setresuid setresuid32 setresgid setresgid32",
    "setfsuid setfsuid32 setfsgid setfsgid32 setgroups setgroups32 capget capset",
    # a program may sandbox itself further
    "seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self",
    # limits, priorities, scheduling: cgroups and RLIMIT_* are the bound
    "getrlimit ugetrlimit setrlimit prlimit64 getrusage getpriority setpriority nice ioprio_get ioprio_set getcpu times sysinfo uname",
    "sched_yield sched_getaffinity sched_setaffinity sched_getattr sched_setattr sched_getparam sched_setparam sched_getscheduler",
    "sched_setscheduler sched_get_priority_max sched_get_priority_min sched_rr_get_interval sched_rr_get_interval_time64",
    # time and timers; the adjusting calls are also how time quality is read
    "time gettimeofday clock_gettime clock_gettime64 clock_getres clock_getres_time64 clock_nanosleep clock_nanosleep_time64 nanosleep",
    "adjtimex clock_adjtime clock_adjtime64 alarm getitimer setitimer timer_create timer_delete timer_getoverrun timer_gettime",
    "timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64",
    # waiting for descriptors
    "select _newselect pselect6 pselect6_time64 poll ppoll ppoll_time64 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_wait",
    "epoll_wait_old epoll_pwait epoll_pwait2 eventfd eventfd2 pipe pipe2",
    "io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents io_pgetevents_time64",
    # sockets. socket has rules of its own; socketcall, 32-bit x86's one door to all of them, keeps its arguments in memory
    # where no filter sees them, and a 32-bit C library knows no other
    "socketcall socketpair bind connect listen accept accept4 shutdown getsockname getpeername getsockopt setsockopt",
    "send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64",
    # System V and POSIX IPC: namespaced
    "ipc shmget shmat shmdt shmctl semget semop semtimedop semtimedop_time64 semctl msgget msgsnd msgrcv msgctl",
    "mq_open mq_unlink mq_timedsend mq_timedsend_time64 mq_timedreceive mq_timedreceive_time64 mq_notify mq_getsetattr",
    "getrandom",
)  # fmt: skip
_ALWAYS = tuple(" ".join(_GROUPS).split())

_BY_MACHINE = {
    "x86_64": ("arch_prctl", "modify_ldt"),
    "i686": ("modify_ldt",),
    "aarch64": ("arm_fadvise64_64", "arm_sync_file_range", "sync_file_range2", "breakpoint", "cacheflush", "set_tls"),
    "armv7l": ("arm_fadvise64_64", "arm_sync_file_range", "sync_file_range2", "breakpoint", "cacheflush", "set_tls"),
    "ppc64le": ("sync_file_range2", "swapcontext"),
    "s390x": ("s390_pci_mmio_read", "s390_pci_mmio_write", "s390_runtime_instr"),
    "riscv64": ("riscv_flush_icache", "riscv_hwprobe"),
}

# The capability is what the kernel itself asks for, so these calls are refused only where they would mostly fail anyway.
_BY_CAPABILITY = (
    ("CAP_BPF", ("bpf",)),
    ("CAP_DAC_READ_SEARCH", ("open_by_handle_at",)),
    ("CAP_PERFMON", ("perf_event_open",)),
    ("CAP_SYSLOG", ("syslog",)),
    (
        "CAP_SYS_ADMIN",
        (
            "bpf", "clone", "clone3", "fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick", "lookup_dcookie", "lsm_get_self_attr",
            "lsm_list_modules", "lsm_set_self_attr", "mount", "mount_setattr", "move_mount", "open_tree", "open_tree_attr",
            "perf_event_open", "quotactl", "quotactl_fd", "setdomainname", "sethostname", "setns", "syslog", "umount", "umount2", "unshare",
        ),
    ),
    ("CAP_SYS_BOOT", ("reboot",)),
    ("CAP_SYS_CHROOT", ("chroot",)),
    ("CAP_SYS_MODULE", ("delete_module", "init_module", "finit_module")),
    ("CAP_SYS_NICE", ("get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node")),
    ("CAP_SYS_PACCT", ("acct",)),
    ("CAP_SYS_PTRACE", ("kcmp", "pidfd_getfd", "process_madvise")),
    ("CAP_SYS_RAWIO", ("iopl", "ioperm")),
    ("CAP_SYS_TIME", ("settimeofday", "stime", "clock_settime", "clock_settime64")),
    ("CAP_SYS_TTY_CONFIG", ("vhangup",)),
)  # fmt: skip

# Before 4.8 a tracer could change a call after the filter had passed it.
_TRACING = ("process_vm_readv", "process_vm_writev", "ptrace")
_TRACING_SINCE = (4, 8)

# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET (clone(2); NEWTIME is not for clone)
_NAMESPACE_FLAGS = 0x7E020000


def _rule(names: tuple[str, ...], *args: tuple[int, str, int, int]) -> dict[str, Any]:
    rule: dict[str, Any] = {"names": names, "action": ALLOW}
    if args:
        rule["args"] = tuple({"index": i, "op": "SCMP_CMP_" + op, "value": value, "valueTwo": two} for i, op, value, two in args)
    return rule


# Address families up to the last that is in use, less AF_ALG (38) and AF_VSOCK (40). Named one by one rather than "all but", because
# the kernel looks at 32 bits of the argument and the filter at 64: 2^32 + 40 is not 40, yet makes an AF_VSOCK socket.
_SOCKETS = (
    _rule(("socket",), (0, "LT", 38, 0)),
    *(_rule(("socket",), (0, "EQ", family, 0)) for family in (39, 41, 42, 43, 44, 45)),
)
# PER_LINUX, PER_LINUX32, both with UNAME26 (old programs' fear of 3.x), and "just ask"
_PERSONALITIES = tuple(_rule(("personality",), (0, "EQ", value, 0)) for value in (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF))
_COMMON = (_rule(_ALWAYS), *_SOCKETS, *_PERSONALITIES)
_CLONE_IN_SAME_NAMESPACES = _rule(("clone",), (0, "MASKED_EQ", _NAMESPACE_FLAGS, 0))
_CLONE_ON_S390 = _rule(("clone",), (1, "MASKED_EQ", _NAMESPACE_FLAGS, 0))  # its first two parameters are the other way round
_CLONE3_UNKNOWN = {"names": ("clone3",), "action": ERRNO, "errnoRet": ENOSYS}
_TRACE = _rule(_TRACING)
_MACHINE_RULES = {machine: _rule(names) for machine, names in _BY_MACHINE.items()}
_CAPABILITY_RULES = tuple((capability, _rule(names)) for capability, names in _BY_CAPABILITY)


def default_profile(capabilities: frozenset[str], arch: str, kernel: tuple[int, int] = _TRACING_SINCE) -> dict[str, Any]:
    """The profile for a container with these capabilities (OCI names), as OCI `linux.seccomp`.

    `arch` as in uname -m; `kernel` (major, minor). The parts are shared constants and tuples: not to be changed in place.
    An architecture not known here gets a filter for itself alone.
    """
    rules = list(_COMMON)
    if arch in _MACHINE_RULES:
        rules.append(_MACHINE_RULES[arch])
    if kernel >= _TRACING_SINCE or "CAP_SYS_PTRACE" in capabilities:
        rules.append(_TRACE)
    rules.extend(rule for capability, rule in _CAPABILITY_RULES if capability in capabilities)
    if "CAP_SYS_ADMIN" not in capabilities:
        rules.append(_CLONE_ON_S390 if arch == "s390x" else _CLONE_IN_SAME_NAMESPACES)
        rules.append(_CLONE3_UNKNOWN)
    return {"defaultAction": ERRNO, "defaultErrnoRet": EPERM, "architectures": MACHINES.get(arch, ()), "syscalls": rules}
