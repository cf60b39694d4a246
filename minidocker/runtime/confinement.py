"""OCI `process.apparmorProfile` and `process.selinuxLabel`, and `linux.mountLabel` (config.md, config-linux.md).

What is asked for is refused where its security module is off, before anything is made. It is asked for while the host's own /proc is in
sight (a container's may be anything), and holds from execve on.
"""

from __future__ import annotations

from minidocker.errors import UnsupportedError
from minidocker.plan import CHILD, PRIVILEGES, At, Step, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Whose files SELinux labels by a mount option; bound files keep their own, /proc and /sys have the policy's.
_LABELLED = ("tmpfs", "devpts", "overlay", "ramfs")


class Confine(Step):
    """The label that the program runs under: `set` of kernel/lsm.py, called with it."""

    actor = CHILD
    title = PRIVILEGES
    why = "what the security module lets the program do, from its first instruction on"

    def __init__(self, kind: str, label: str) -> None:
        """Raises UnsupportedError where this host cannot do it."""
        # here alone: few ask for it, and the hot path does not pay for it
        from minidocker.kernel import lsm

        self.kind = kind
        self.label = label
        self.by = f"{'aa-exec -p' if kind == lsm.APPARMOR else 'runcon'} {quote(label)}"
        check, self.set = {lsm.APPARMOR: (lsm.check_profile, lsm.set_profile), lsm.SELINUX: (lsm.check_context, lsm.set_context)}[kind]
        check(label)

    def shell(self) -> str:
        return f"# {self.kind}'s `{self.label}` is left out: a program of its own asks for it, {self.by} in front of the container's"

    def describe(self) -> str:
        return f"ask for {self.kind}'s `{self.label}`"

    def apply(self, at: At) -> None:
        self.set(self.label)


def steps(process: dict[str, Any]) -> list[Step]:
    """What OCI `process` asks for; none for most. Raises UnsupportedError."""
    asked = (("AppArmor", process.get("apparmorProfile")), ("SELinux", process.get("selinuxLabel")))
    return [Confine(kind, label) for kind, label in asked if label]


def labelled(mounts: list[dict[str, Any]], label: str) -> list[dict[str, Any]]:
    """OCI `mounts` whose files get SELinux's `label`, where it is the mount that labels them. Raises UnsupportedError."""
    from minidocker.kernel import lsm

    if not lsm.selinux():
        raise UnsupportedError(f"linux.mountLabel `{label}`: SELinux is not on here", "leave it out, or boot with selinux=1")
    context = f'context="{label}"'  # quoted, as a level holds commas
    return [
        {**entry, "options": [*entry.get("options", []), context]} if entry.get("type") in _LABELLED else entry for entry in mounts
    ]
