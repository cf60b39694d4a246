"""Device access by control group, deny by default: v1's devices.allow and devices.deny, v2's BPF_PROG_TYPE_CGROUP_DEVICE.

A rule is OCI's (runtime-spec, config-linux.md, "Allowed Device list"): {"allow": bool, "type": "a"|"b"|"c", "major": int, "minor": int,
"access": "rwm"}; what is left out, or -1, is any. Of the rules that match a device, the last one that speaks of a kind of access (read,
write, mknod) decides on it; what no rule speaks of is denied. Every kind that a request asks for must be allowed.
"""

from __future__ import annotations

import _struct as struct
import os

from minidocker.errors import KernelError, UnsupportedError, UsageError
from minidocker.kernel import foreign as ctypes
from minidocker.kernel import libc
from minidocker.kernel.cgroupfs import write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from minidocker.kernel.cgroups import Face

LIST = "list"
BPF = "bpf"

# linux/bpf.h: BPF_DEVCG_DEV_* and BPF_DEVCG_ACC_*
_TYPES = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}
FULL = 7
_ANY = -1
_LARGEST = {"major": (1 << 12) - 1, "minor": (1 << 20) - 1}  # MINORBITS, linux/kdev_t.h


class Rule:
    """One OCI rule, checked: `type` "b" or "c", `major` and `minor` -1 for any, `access` bits as in linux/bpf.h."""

    __slots__ = ("access", "allow", "major", "minor", "type")

    def __init__(self, allow: bool, type: str, major: int, minor: int, access: int) -> None:
        self.allow = allow
        self.type = type
        self.major = major
        self.minor = minor
        self.access = access

    @property
    def device(self) -> tuple[str, int, int]:
        return self.type, self.major, self.minor

    @property
    def is_every_device(self) -> bool:
        return self.major == self.minor == _ANY

    def __str__(self) -> str:
        """As the v1 files take it: `c 1:3 rwm`."""
        major, minor = ("*" if number == _ANY else str(number) for number in (self.major, self.minor))
        return f"{self.type} {major}:{minor} {''.join(letter for letter in 'rwm' if self.access & _ACCESS[letter])}"


def parse(rules: Iterable[dict[str, Any]]) -> list[Rule]:
    """OCI's rules, those of type "a" as one for each type. UsageError names what is wrong."""
    parsed: list[Rule] = []
    for rule in rules:
        kind = rule.get("type") or "a"
        access = 0
        for letter in rule.get("access") or "rwm":
            if letter not in _ACCESS:
                raise UsageError(f"device rule: access {rule['access']!r} is not made of r, w and m")
            access |= _ACCESS[letter]
        if kind not in ("a", "b", "c"):
            raise UsageError(f"device rule: type {kind!r} is none of a, b and c")
        major, minor = _number(rule, "major"), _number(rule, "minor")
        parsed.extend(Rule(bool(rule.get("allow")), one, major, minor, access) for one in ("bc" if kind == "a" else kind))
    return parsed


def _number(rule: dict[str, Any], name: str) -> int:
    number = rule.get(name)
    if number is None or number == _ANY:
        return _ANY
    if not isinstance(number, int) or not 0 <= number <= _LARGEST[name]:
        raise UsageError(f"device rule: {name} {number!r} is not a number from 0 to {_LARGEST[name]}")
    return number


def how(face: Face) -> str:
    """How device access can be limited here: LIST (v1), BPF (v2), or "" when it cannot."""
    hierarchy = face.of.get("devices")
    if hierarchy is None:
        return ""
    if hierarchy.version == 1:
        return LIST
    try:
        os.close(load(program([])))
    except KernelError:
        return ""  # no bpf(2), or not for us: what is asked here is just that
    return BPF


# v1: an answer for everything else and a list of exceptions (Documentation/admin-guide/cgroup-v1/devices.rst).


def lines(rules: Sequence[Rule]) -> list[tuple[str, str]]:
    """What to write to v1's files, in order: [("devices.deny", "a"), ("devices.allow", "c 1:3 rwm"), ...].

    UnsupportedError for rules that v1 cannot hold: an exception to an exception ("all of major 1, but not 1:5").
    """
    default, first = _default(rules)
    exceptions: dict[tuple[str, int, int], Rule] = {}
    for rule in rules[first:]:
        if rule.allow != default:
            merged = exceptions.get(rule.device)
            access = rule.access | (merged.access if merged else 0)
            exceptions[rule.device] = Rule(rule.allow, *rule.device, access)
            continue
        for device, exception in list(exceptions.items()):
            if not exception.access & rule.access or not _overlap(exception, rule):
                continue
            if not _covers(rule, exception):
                raise UnsupportedError(f"cgroup v1 cannot {'allow' if rule.allow else 'deny'} the devices `{rule}` within `{exception}`")
            exceptions[device] = Rule(exception.allow, *device, exception.access & ~rule.access)
    if not default:  # v1 wants one line to allow all that a request asks for: let each tell what wider ones allow too
        for outer in [rule for rule in exceptions.values() if _ANY in (rule.major, rule.minor)]:
            for inner in exceptions.values():
                if inner.access and _covers(outer, inner):
                    inner.access |= outer.access
    to_default, to_exceptions = ("devices.allow", "devices.deny") if default else ("devices.deny", "devices.allow")
    return [(to_default, "a"), *((to_exceptions, str(rule)) for rule in exceptions.values() if rule.access)]


def _default(rules: Sequence[Rule]) -> tuple[bool, int]:
    """The answer for every device that the rules end in, and the index of the first rule that is an exception to it."""
    last: dict[str, tuple[bool, int]] = {}
    for index, rule in enumerate(rules):
        if rule.is_every_device and rule.access == FULL:
            last[rule.type] = rule.allow, index
    if len(last) == 2 and last["b"][0] == last["c"][0]:
        return last["b"][0], min(last["b"][1], last["c"][1])
    return False, 0


def _overlap(a: Rule, b: Rule) -> bool:
    return a.type == b.type and (a.major == b.major or _ANY in (a.major, b.major)) and (a.minor == b.minor or _ANY in (a.minor, b.minor))


def _covers(outer: Rule, inner: Rule) -> bool:
    return outer.type == inner.type and outer.major in (_ANY, inner.major) and outer.minor in (_ANY, inner.minor)


def apply_list(directory: str, lines: Iterable[tuple[str, str]]) -> None:
    """Give the v1 cgroup at `directory` the device list that `lines` made."""
    for file, line in lines:
        write(f"{directory}/{file}", line)


# v2: a program (linux/bpf.h, linux/filter.h; struct bpf_cgroup_dev_ctx {u32 access_type, major, minor}).

_LOAD_WORD = 0x61       # BPF_LDX | BPF_MEM | BPF_W    dst = *(u32 *)(src + offset)
_MOVE, _MOVE_REGISTER = 0xB7, 0xBF
_AND, _SHIFT_RIGHT = 0x57, 0x77
_UNLESS_EQUAL = 0x55    # BPF_JMP | BPF_JNE | BPF_K
_IF_ANY_BIT = 0x45      # BPF_JMP | BPF_JSET | BPF_K
_GO = 0x05
_EXIT = 0x95
_R0, _R1, _TYPE, _PENDING, _MAJOR, _MINOR = range(6)

_BPF_PROG_LOAD, _BPF_PROG_ATTACH = 5, 8
_BPF_PROG_TYPE_CGROUP_DEVICE = 15
_BPF_CGROUP_DEVICE = 6
_BPF_F_ALLOW_MULTI = 2


def program(rules: Sequence[Rule]) -> bytes:
    """The rules as BPF, 8 bytes an instruction: r0 is 1 to allow and 0 to deny.

    The rules are tried from the last to the first. r3 holds the kinds of access asked for and not yet allowed: an allowing rule takes its
    kinds out, and when none is left the answer is yes; a denying rule that meets one of its kinds there answers no; so does the end.
    """
    code = [
        _instruction(_LOAD_WORD, _TYPE, _R1, 0),
        _instruction(_MOVE_REGISTER, _PENDING, _TYPE),
        _instruction(_AND, _TYPE, constant=0xFFFF),
        _instruction(_SHIFT_RIGHT, _PENDING, constant=16),
        _instruction(_LOAD_WORD, _MAJOR, _R1, 4),
        _instruction(_LOAD_WORD, _MINOR, _R1, 8),
        _instruction(_MOVE, _R0, constant=0),
    ]
    for rule in reversed(rules):
        decide = _decide(rule)
        tests = [(_TYPE, _TYPES[rule.type])]
        tests += [(register, number) for register, number in ((_MAJOR, rule.major), (_MINOR, rule.minor)) if number != _ANY]
        for left, (register, number) in zip(range(len(tests) - 1, -1, -1), tests, strict=True):
            code.append(_instruction(_UNLESS_EQUAL, register, offset=left + len(decide), constant=number))
        code += decide
    code.append(_instruction(_EXIT))
    return b"".join(code)


def _decide(rule: Rule) -> list[bytes]:
    """What to do with a request for a device that `rule` matches; falls through when that does not settle it."""
    if rule.allow:
        return [
            _instruction(_AND, _PENDING, constant=~rule.access & FULL),
            _instruction(_UNLESS_EQUAL, _PENDING, offset=2),
            _instruction(_MOVE, _R0, constant=1),
            _instruction(_EXIT),
        ]
    return [_instruction(_IF_ANY_BIT, _PENDING, offset=1, constant=rule.access), _instruction(_GO, offset=1), _instruction(_EXIT)]


def _instruction(code: int, destination: int = 0, source: int = 0, offset: int = 0, constant: int = 0) -> bytes:
    return struct.pack("=BBhi", code, source << 4 | destination, offset, constant)


def load(code: bytes) -> int:
    """Load a device program: its descriptor. KernelError (ENOSYS without bpf(2), EPERM without the right to)."""
    instructions = ctypes.create_string_buffer(code, len(code))
    license = ctypes.create_string_buffer(b"GPL")
    attributes = struct.pack(
        "=IIQQ", _BPF_PROG_TYPE_CGROUP_DEVICE, len(code) // 8, ctypes.addressof(instructions), ctypes.addressof(license)
    )
    return _bpf(_BPF_PROG_LOAD, attributes, "load the device program")


def attach(directory: str, code: bytes) -> None:
    """Have the device program guard the v2 cgroup at `directory`, besides those of its ancestors, for as long as it exists."""
    descriptor = load(code)
    try:
        action = f"attach the device program to cgroup {directory}"
        try:
            cgroup = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise KernelError.of(action, error) from error
        try:
            _bpf(_BPF_PROG_ATTACH, struct.pack("=IIII", cgroup, descriptor, _BPF_CGROUP_DEVICE, _BPF_F_ALLOW_MULTI), action)
        finally:
            os.close(cgroup)
    finally:
        os.close(descriptor)


def _bpf(command: int, attributes: bytes, action: str) -> int:
    """bpf(2); the kernel takes what `attributes` leaves out as zero."""
    try:
        return libc.syscall(libc.SYS.bpf, command, ctypes.create_string_buffer(attributes, len(attributes)), len(attributes))
    except OSError as error:
        raise KernelError.of(action, error) from error
