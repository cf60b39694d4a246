"""Capabilities: the names, and which of them a container gets by --cap-add, --cap-drop and --privileged (capabilities(7))."""

from __future__ import annotations

from minidocker.errors import UnsupportedError, UsageError
from minidocker.spec.near import near

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

# The position is the kernel's number, linux/capability.h.
NAMES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
    "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK",
    "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE",
    "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
)  # fmt: skip
_NUMBERS = {name: number for number, name in enumerate(NAMES)}

# What an unmodified image may rely on. Docker gives NET_RAW besides: with it any container can forge its neighbours' ARP and
# IP packets; ping works without, by net.ipv4.ping_group_range.
DEFAULT = (
    "CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
)  # fmt: skip


def mask(names: Iterable[str]) -> int:
    """OCI names as the kernel's bit mask; a name this table lacks is left out, as the OCI runtime-spec wants it."""
    bits = 0
    for name in names:
        if name in _NUMBERS:
            bits |= 1 << _NUMBERS[name]
    return bits


def names(bits: int) -> list[str]:
    """A bit mask as OCI names, in the kernel's order; bits this table lacks are left out."""
    return [name for number, name in enumerate(NAMES) if bits >> number & 1]


def check(word: str) -> str:
    """`net_admin` or `CAP_NET_ADMIN` -> `NET_ADMIN`. Raises UsageError for what is no capability, with near misses."""
    name = word.upper().removeprefix("CAP_")
    if "CAP_" + name not in _NUMBERS:
        close = near("CAP_" + name, NAMES, edits=3)
        hint = "did you mean " + " or ".join(f"`{other[4:]}`" for other in close) + "?" if close else "see capabilities(7)"
        raise UsageError(f"unknown capability `{word}`", hint)
    return name


def granted(add: Sequence[str], drop: Sequence[str], privileged: bool, available: Collection[str] = NAMES) -> list[str]:
    """The container's capabilities, as sorted OCI names (`CAP_KILL`).

    `add` and `drop` are the options' values, with or without CAP_, in any case, `ALL` among them; `available` those that we
    hold and so can give.

    As docker: ALL added is everything but what is dropped; ALL dropped is nothing but what is added; else what is added
    wins over what is dropped. --privileged starts from everything, and, unlike docker's, leaves --cap-drop its effect. What comes
    by ALL, by --privileged or by default and is not available is left out; what was asked for by name is refused.
    Raises UsageError for a name that is no capability, UnsupportedError for one we cannot give.
    """
    added = {_normal(value) for value in add}
    dropped = {_normal(value) for value in drop}
    named = added - {"ALL"}
    if "ALL" in added:
        base = set(NAMES) - dropped
    elif "ALL" in dropped:
        base = named
    else:
        base = (set(NAMES if privileged else DEFAULT) - dropped) | named
    for name in sorted(base & named):
        if name not in available:
            raise UnsupportedError(
                f"give capability `{name[4:]}`: minidocker does not hold it itself",
                "the host, or the container minidocker runs in, withholds it: `grep CapBnd /proc/self/status`",
            )
    return sorted(base.intersection(available))


def _normal(value: str) -> str:
    return "ALL" if value.upper() in ("ALL", "CAP_ALL") else "CAP_" + check(value)
