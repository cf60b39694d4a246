"""OCI `linux.seccomp` to BPF by libseccomp; filters.py keeps what comes out.

The filter that libseccomp makes is preceded by a few instructions of ours: a call with a number above all that the profile names is
younger than the profile and gets ENOSYS, upon which a C library falls back to an older call; EPERM would be believed.
"""

from __future__ import annotations

import _struct
import errno
import os

from minidocker.errors import KernelError, UnsupportedError, UsageError
from minidocker.kernel import process
from minidocker.spec import seccomp as words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_LIBRARY = "libseccomp.so.2"

# OCI flag -> seccomp(2) flag. TSYNC is about the caller's other threads, of which there are none.
_FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 0,
    "SECCOMP_FILTER_FLAG_LOG": process.SECCOMP_FILTER_FLAG_LOG,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": process.SECCOMP_FILTER_FLAG_SPEC_ALLOW,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": process.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
}

# classic BPF, linux/bpf_common.h
_LD_ABS, _JEQ, _JGT, _RET = 0x20, 0x15, 0x25, 0x06
_NUMBER, _ARCH = 0, 4  # offsets in struct seccomp_data
_X32_BIT = 0x40000000

_CTL_OPTIMIZE = 8  # enum scmp_filter_attr; 2: a binary tree of the numbers instead of a list
_UNKNOWN = -1  # __NR_SCMP_ERROR


def compile(profile: dict[str, Any], skipped: list[str] | None = None) -> tuple[bytes, int]:
    """(BPF, seccomp(2) flags) of an OCI profile. Names no system call of libseccomp's has are appended to `skipped`.

    Rules on one call are alternatives; the `args` of one rule must all hold, but for two on the same argument, which are
    alternatives too (libseccomp cannot join them, and runc and crun read them so).
    With a rule whose action is SCMP_ACT_NOTIFY, NEW_LISTENER is among the flags (notify.py).
    Raises UsageError naming what in the profile is wrong, UnsupportedError without libseccomp or for SCMP_ACT_NOTIFY without a
    listenerPath.
    """
    listens = bool(profile.get("listenerPath"))
    flags = _flags(profile)
    if listens and _notifies(profile):
        flags |= process.SECCOMP_FILTER_FLAG_NEW_LISTENER
    default = _action(profile.get("defaultAction"), profile.get("defaultErrnoRet"), "defaultAction")
    builder = _Builder(default)
    try:
        builder.add_architectures(profile.get("architectures") or ())
        unknown: list[str] = []
        for position, rule in enumerate(profile.get("syscalls") or ()):
            builder.add_rule(rule, f"syscalls[{position}]", unknown, listens)
        if skipped is not None:
            skipped.extend(unknown)
        bpf = builder.export()
        if default in (words.ACTIONS["SCMP_ACT_ALLOW"], words.ACTIONS["SCMP_ACT_LOG"], words.ACTIONS["SCMP_ACT_ERRNO"] | words.ENOSYS):
            return bpf, flags
        return builder.unknown_numbers(profile) + bpf, flags
    finally:
        builder.release()


def _flags(profile: dict[str, Any]) -> int:
    flags = profile.get("flags")
    if flags is None:
        # As runc: a filter is no reason to slow every container down by the speculative-store-bypass mitigation.
        return process.SECCOMP_FILTER_FLAG_SPEC_ALLOW
    bits = 0
    for position, flag in enumerate(flags):
        if flag not in _FLAGS:
            raise UsageError(f"seccomp profile: flags[{position}]: unknown flag `{flag}`", "one of " + ", ".join(_FLAGS))
        bits |= _FLAGS[flag]
    if bits & process.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV and not _notifies(profile):
        raise UsageError("seccomp profile: flags: `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV` goes with SCMP_ACT_NOTIFY, which no rule has")
    return bits


def _notifies(profile: dict[str, Any]) -> bool:
    return any(rule.get("action") == "SCMP_ACT_NOTIFY" for rule in profile.get("syscalls") or ())


def _action(name: Any, data: int | None, where: str, listens: bool = False) -> int:
    """libseccomp's number for an OCI action and its errnoRet."""
    if name not in words.ACTIONS:
        raise UsageError(f"seccomp profile: {where}: unknown action `{name}`", "one of " + ", ".join(words.ACTIONS))
    if name == "SCMP_ACT_NOTIFY" and not listens:
        raise UnsupportedError(f"seccomp profile: {where}: SCMP_ACT_NOTIFY needs a listener, and there is no listenerPath")
    number = words.ACTIONS[name]
    if name in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"):
        number |= words.EPERM if data is None else data & 0xFFFF
    return number


class _Builder:
    """One libseccomp filter context."""

    def __init__(self, default: int) -> None:
        # Late and here alone: a cache hit must not pay for libseccomp.
        import ctypes

        self.ctypes = ctypes
        try:
            self.library = ctypes.CDLL(_LIBRARY)
        except OSError:
            from minidocker.kernel import packages

            hint = f"{packages.install('libseccomp')}, or --security-opt seccomp=unconfined to go without a filter"
            raise UnsupportedError(f"compile a seccomp profile: {_LIBRARY} is not installed", hint) from None
        self.library.seccomp_init.restype = ctypes.c_void_p
        self.library.seccomp_arch_native.restype = ctypes.c_uint32
        self.default = default
        self.seen: set[tuple[Any, ...]] = set()
        context = self.library.seccomp_init(ctypes.c_uint32(default))
        if not context:
            raise UnsupportedError(f"compile a seccomp profile: {_LIBRARY} refuses default action {default:#x}")
        self.context = ctypes.c_void_p(context)
        self.architectures: list[int] = [self.library.seccomp_arch_native()]
        # Refused by libseccomp before 2.5, whose filters are merely slower.
        self.library.seccomp_attr_set(self.context, _CTL_OPTIMIZE, ctypes.c_uint32(2))

    def release(self) -> None:
        self.library.seccomp_release(self.context)

    def add_architectures(self, names: Iterable[str]) -> None:
        for position, name in enumerate(names):
            if name not in words.ARCHITECTURES:
                raise UsageError(f"seccomp profile: architectures[{position}]: unknown architecture `{name}`")
            token = words.ARCHITECTURES[name]
            result = self.library.seccomp_arch_add(self.context, self.ctypes.c_uint32(token))
            if result not in (0, -errno.EEXIST):
                why = "cannot share a filter with this machine's" if result == -errno.EDOM else f"is not known to {_LIBRARY}"
                raise UnsupportedError(f"seccomp profile: architectures[{position}]: `{name}` {why}")
            if token not in self.architectures:
                self.architectures.append(token)

    def add_rule(self, rule: dict[str, Any], where: str, unknown: list[str], listens: bool) -> None:
        action = _action(rule.get("action"), rule.get("errnoRet"), f"{where}.action", listens)
        if action == self.default:
            return  # libseccomp refuses a rule that changes nothing
        conditions = [self._condition(arg, f"{where}.args[{i}]") for i, arg in enumerate(rule.get("args") or ())]
        alternatives = [conditions]
        if len({condition[0] for condition in conditions}) < len(conditions):
            alternatives = [[condition] for condition in conditions]
        for name in rule.get("names") or ():
            number = self.library.seccomp_syscall_resolve_name(name.encode())
            if number == _UNKNOWN:
                unknown.append(name)
                continue
            for alternative in alternatives:
                self._add(action, number, alternative, f"{where}: `{name}`")

    def _condition(self, arg: dict[str, Any], where: str) -> tuple[int, int, int, int]:
        operator = words.OPERATORS.get(arg.get("op", ""))
        if operator is None:
            raise UsageError(f"seccomp profile: {where}.op: unknown operator `{arg.get('op')}`", "one of " + ", ".join(words.OPERATORS))
        # For MASKED_EQ the spec's value is the mask and valueTwo what must remain, in libseccomp's own order.
        return arg["index"], operator, arg["value"], arg.get("valueTwo", 0)

    def _add(self, action: int, number: int, conditions: list[tuple[int, int, int, int]], where: str) -> None:
        ctypes = self.ctypes
        # struct scmp_arg_cmp { unsigned arg; enum op; uint64_t datum_a, datum_b; }, seccomp_rule_add(3)
        array = b"".join(_struct.pack("=IiQQ", *condition) for condition in conditions)
        result = self.library.seccomp_rule_add_array(
            self.context, ctypes.c_uint32(action), number, len(conditions), ctypes.create_string_buffer(array, len(array) or 1)
        )
        rule = (action, number, *conditions)
        if result == -errno.EEXIST and rule in self.seen:
            return  # said twice
        self.seen.add(rule)
        if result == -errno.EEXIST:
            raise UsageError(f"seccomp profile: {where}: contradicts an earlier rule for the same call")
        if result != 0:
            raise UsageError(f"seccomp profile: {where}: {_LIBRARY} refuses the rule: {os.strerror(-result).lower()}")

    def export(self) -> bytes:
        fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
        try:
            result = self.library.seccomp_export_bpf(self.context, fd)
            if result != 0:
                raise KernelError("export a seccomp filter", -result)
            return os.pread(fd, os.fstat(fd).st_size, 0)
        finally:
            os.close(fd)

    def unknown_numbers(self, profile: dict[str, Any]) -> bytes:
        """Instructions that answer a number above the highest the profile names with ENOSYS and leave the rest to what follows."""
        names = {name for rule in profile.get("syscalls") or () for name in rule.get("names") or ()}
        highest = {architecture: self._highest(architecture, names) for architecture in self.architectures}
        x32 = highest.pop(words.ARCHITECTURES["SCMP_ARCH_X32"], 0)
        program: list[tuple[int, int, int, int]] = []
        for architecture, last in highest.items():
            ranges = [(last, 0xFFFFFFFF)]
            if architecture == words.ARCHITECTURES["SCMP_ARCH_X86_64"]:
                # x32 has x86_64's word for the architecture and a bit in the number that tells it apart
                ranges = [(last, _X32_BIT - 1), (x32, 0xFFFFFFFF)] if x32 else [(last, _X32_BIT - 1)]
            body = [(_LD_ABS, 0, 0, _NUMBER)]
            for low, high in ranges:
                # low < number <= high
                body += [(_JGT, 0, 2, low), (_JGT, 1, 0, high), (_RET, 0, 0, words.ACTIONS["SCMP_ACT_ERRNO"] | words.ENOSYS)]
            if last > 0:
                program += [(_LD_ABS, 0, 0, _ARCH), (_JEQ, 0, len(body), architecture), *body]
        # struct sock_filter { u16 code; u8 jt, jf; u32 k; }
        return b"".join(_struct.pack("=HBBI", *instruction) for instruction in program)

    def _highest(self, architecture: int, names: Iterable[str]) -> int:
        """The highest number `names` have there; numbers below 0 are libseccomp's own, for calls an architecture lacks."""
        resolve = self.library.seccomp_syscall_resolve_name_arch
        token = self.ctypes.c_uint32(architecture)
        return max((resolve(token, name.encode()) for name in names), default=0)


# --- the cache ---------------------------------------------------------------------------------------------------------------------
