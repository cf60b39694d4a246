"""The OCI `process` section's privileges as Steps: limits, user, capabilities, no_new_privs, seccomp.

The order matters (capabilities(7), seccomp(2)):

    rlimits                raising one needs CAP_SYS_RESOURCE
    umask
    seccomp, nnp off       needs CAP_SYS_ADMIN, which is about to go; the filter must let the rest pass
    bounding set           dropping needs CAP_SETPCAP
    groups, gid, uid       keepcaps, as leaving uid 0 would empty the permitted set
    capset, ambient        an ambient capability must be permitted and inheritable first
    what the caller does last (descriptors, working directory, parent-death signal: cleared by a change of credentials)
    no_new_privs, seccomp  with nnp on; last, so that the filter sees no more of us than the execve

Everything is looked up and allocated in the constructors: `apply` runs in the container's file system (DESIGN.md, law 6).
"""

from __future__ import annotations

import errno
import os

from minidocker.errors import KernelError, UsageError
from minidocker.kernel import process as kernel
from minidocker.plan import CHILD, PARENT, PRIVILEGES, PROGRAM, At, Plan, Step, quote
from minidocker.spec import capabilities as names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

_CAP_SYS_RESOURCE = 24
_SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")
_NO_CAPABILITIES: dict[str, list[str]] = {name: [] for name in _SETS}


def plan(
    process: dict[str, Any],
    seccomp: tuple[bytes, int] | None,
    last: Step | None = None,
    first: Sequence[Step] = (),
    listening: Callable[[kernel.Filter], Step] | None = None,
    deferred: bool = False,
) -> Plan:
    """The steps from a privileged child to what OCI `process` says, short of the execve.

    `seccomp`: BPF and flags, of runtime/seccomp.py; `last`: a step to be done when credentials no longer change and no filter is
    on yet (but for no_new_privs off); `first`: what takes the privileges that go (scheduling.py); `listening`: makes the step that
    loads a filter with a listener (notify.py), without which such a filter is loaded as if nobody listened; `deferred`: with
    no_new_privs on, whoever executes the program loads a filter that has no listener. Raises UsageError for an unknown limit.
    """
    quiet = bool(process.get("noNewPrivileges"))
    user = process.get("user") or {}
    steps: list[Step] = list(first)
    filters = [_filter(*seccomp, listening)] if seccomp else []
    if process.get("oomScoreAdj") is not None:
        steps.append(OomScore(process["oomScoreAdj"]))
    if process.get("rlimits"):
        steps.append(Limits(process["rlimits"]))
    if user.get("umask") is not None:
        steps.append(Umask(user["umask"]))
    if not quiet:
        steps += filters
    steps.append(Credentials(user, process.get("capabilities") or _NO_CAPABILITIES, quiet, process.get("env") or ()))
    if last:
        steps.append(last)
    if quiet:
        steps += [NoNewPrivileges(), *filters]
        for step in filters:
            if isinstance(step, Seccomp):
                step.deferred = deferred
    return Plan(steps)


def _filter(bpf: bytes, flags: int, listening: Callable[[kernel.Filter], Step] | None) -> Step:
    if flags & kernel.SECCOMP_FILTER_FLAG_NEW_LISTENER and listening:
        return listening(kernel.Filter(bpf, flags))
    alone = kernel.SECCOMP_FILTER_FLAG_NEW_LISTENER | kernel.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
    return Seccomp(bpf, flags & ~alone)


def unavailable(process: dict[str, Any]) -> list[str]:
    """The capabilities `process` asks for and this process cannot give, sorted: the spec wants a warning, not a failure."""
    asked = {name for listed in (process.get("capabilities") or {}).values() for name in listed}
    held = names.names(kernel.bounding() & kernel.capabilities()[1])
    return sorted(asked.difference(held))


class OomScore(Step):
    """The parent's: /proc may be read-only, or not there, where the child is by now."""

    actor = PARENT
    title = PRIVILEGES
    why = "how soon the kernel picks this process when memory runs out"

    def __init__(self, score: int) -> None:
        self.score = score

    def shell(self) -> str:
        return f'echo {self.score} > "/proc/$PID/oom_score_adj"'

    def apply(self, at: At) -> None:
        try:
            kernel.set_oom_score_adjustment(at.pid, self.score)
        except OSError as error:
            hint = "a value below our own needs CAP_SYS_RESOURCE" if error.errno == errno.EACCES else ""
            raise KernelError(f"set the OOM score adjustment to {self.score}", error.errno or 0, hint=hint) from error


class Limits(Step):
    actor = CHILD
    title = PRIVILEGES
    why = "limits of the process, while it may still raise them"

    def __init__(self, rlimits: list[dict[str, Any]]) -> None:
        """OCI `process.rlimits`; -1 and 2^64-1 are no limit."""
        self.limits: list[tuple[str, int, int, int]] = []
        for limit in rlimits:
            number = kernel.RLIMITS.get(limit["type"])
            if number is None:
                raise UsageError(f"unknown limit `{limit['type']}`", "one of " + ", ".join(kernel.RLIMITS))
            soft, hard = limit["soft"] & kernel.RLIM_INFINITY, limit["hard"] & kernel.RLIM_INFINITY
            if soft > hard:
                raise UsageError(f"limit {limit['type']}: soft ({_amount(soft)}) is above hard ({_amount(hard)})")
            self.limits.append((limit["type"], number, soft, hard))
        self._check()

    def _check(self) -> None:
        """That no limit is raised which cannot be, before anything is made; what we have, the child will have."""
        if kernel.capabilities()[0] >> _CAP_SYS_RESOURCE & 1:
            return
        for name, number, soft, hard in self.limits:
            if hard > kernel.rlimit(number)[1]:
                raise self._refused(name, number, soft, hard, errno.EPERM)

    def _refused(self, name: str, number: int, soft: int, hard: int, code: int) -> KernelError:
        was = ":".join(_amount(value) for value in kernel.rlimit(number))
        action = f"set {name} from {was} to {_amount(soft)}:{_amount(hard)}"
        hint = "raising a hard limit needs CAP_SYS_RESOURCE, which minidocker does not have here"
        if name == "RLIMIT_NOFILE" and hard > 1 << 20:
            hint += "; and fs.nr_open is the most that NOFILE can be"
        return KernelError(action, code, hint=hint if code == errno.EPERM else "")

    def shell(self) -> str:
        options = (f"--{name[7:].lower()}={_amount(soft)}:{_amount(hard)}" for name, _, soft, hard in self.limits)
        return "prlimit --pid $$ " + " ".join(options)

    def apply(self, at: At) -> None:
        for name, number, soft, hard in self.limits:
            try:
                kernel.set_rlimit(number, soft, hard)
            except OSError as error:
                raise self._refused(name, number, soft, hard, error.errno or 0) from error


class Umask(Step):
    actor = CHILD
    title = PRIVILEGES
    why = "the mode bits that new files do not get"

    def __init__(self, umask: int) -> None:
        self.umask = umask

    def shell(self) -> str:
        return f"umask {self.umask:04o}"

    def apply(self, at: At) -> None:
        os.umask(self.umask)


class Credentials(Step):
    """User, groups and the five capability sets: one step, as setpriv(1) is one command."""

    actor = CHILD
    title = PRIVILEGES
    why = "become the user, and keep no capability but those listed, now or by any setuid program"

    def __init__(
        self, user: dict[str, Any], capabilities: dict[str, list[str]], no_new_privileges: bool, env: Sequence[str] = ()
    ) -> None:
        """OCI `process.user` and `process.capabilities`; a set that is missing is empty. Unknown names are left out, as the spec wants.
        `env` is only said, not done."""
        self.env = env
        self.uid: int = user.get("uid", 0)
        self.gid: int = user.get("gid", 0)
        self.groups: list[int] = list(user.get("additionalGids") or ())
        self.masks = tuple(names.mask(capabilities.get(name) or ()) for name in _SETS)
        self.no_new_privileges = no_new_privileges

    def shell(self) -> str:
        """What setpriv sets, it sets for the program that it starts: a shell that waits for its root, and then becomes the user's."""
        bounding, _, _, inheritable, ambient = self.masks
        words = ["setpriv", f"--reuid={self.uid}", f"--regid={self.gid}"]
        words.append("--groups=" + ",".join(map(str, self.groups)) if self.groups else "--clear-groups")
        for option, bits in (("bounding-set", bounding), ("inh-caps", inheritable), ("ambient-caps", ambient)):
            words.append(f"--{option}=" + ",".join(["-all", *("+" + name[4:].lower() for name in names.names(bits))]))
        if self.no_new_privileges:
            words.append("--no-new-privs")
        words += ["env", "-i", *(quote(variable) for variable in self.env if not exportable(variable))]
        return f'exec {" ".join(words)} bash -c "$PROGRAM"'

    def describe(self) -> str:
        return f"become user {self.uid}:{self.gid} with the container's capabilities"

    def apply(self, at: At) -> None:
        bounding, effective, permitted, inheritable, ambient = self.masks
        held = kernel.capabilities()[1]
        self._bound(bounding)
        self._become()
        # What we do not have ourselves we cannot give; the spec wants that to be no failure.
        permitted &= held
        effective &= permitted
        inheritable &= held & bounding
        try:
            kernel.set_capabilities(effective, permitted, inheritable)
        except OSError as error:
            raise KernelError.of("set the capabilities", error) from error
        self._raise_ambient(ambient & permitted & inheritable)

    def _bound(self, bounding: int) -> None:
        extra = kernel.bounding() & ~bounding
        try:
            for number in range(extra.bit_length()):
                if extra >> number & 1:
                    kernel.drop_from_bounding(number)
        except OSError as error:
            raise KernelError("drop capabilities from the bounding set", error.errno or 0, hint="it needs CAP_SETPCAP") from error

    def _become(self) -> None:
        try:
            if self.uid:
                kernel.keep_capabilities(True)
            kernel.set_user(self.uid, self.gid, self.groups)
            if self.uid:
                kernel.keep_capabilities(False)
        except OSError as error:
            hint = "in a user namespace, only ids mapped into it exist" if error.errno == errno.EINVAL else ""
            raise KernelError(f"become user {self.uid}:{self.gid}", error.errno or 0, hint=hint) from error

    def _raise_ambient(self, ambient: int) -> None:
        try:
            kernel.clear_ambient()
            for number in range(ambient.bit_length()):
                if ambient >> number & 1:
                    kernel.raise_ambient(number)
        except OSError as error:
            raise KernelError.of("set the ambient capabilities", error) from error


class NoNewPrivileges(Step):
    actor = CHILD
    typed = PROGRAM
    title = PRIVILEGES
    why = "no setuid program or file capability gives anything back; the filter below may be loaded without CAP_SYS_ADMIN"

    def shell(self) -> str:
        return "# no_new_privs: by setpriv, above"

    def describe(self) -> str:
        return "set no_new_privs"

    def apply(self, at: At) -> None:
        kernel.set_no_new_privileges()


class Seccomp(Step):
    actor = CHILD
    typed = PROGRAM
    title = PRIVILEGES
    why = "refuse the system calls that a container has no use for"

    def __init__(self, bpf: bytes, flags: int) -> None:
        self.filter = kernel.Filter(bpf, flags)
        self.deferred = False  # whoever executes the program loads it

    def shell(self) -> str:
        return f"# the seccomp filter, {self.filter.length} BPF instructions, is left out: no stock tool loads one"

    def describe(self) -> str:
        return "load the seccomp filter"

    def apply(self, at: At) -> None:
        if not self.deferred:
            self.filter.load()


def _amount(value: int) -> str:
    return "unlimited" if value == kernel.RLIM_INFINITY else str(value)


# What bash holds to be its own, and read-only.
_BASHS = ("BASHOPTS", "BASH_VERSINFO", "EUID", "PPID", "SHELLOPTS", "UID")


def exportable(variable: str) -> bool:
    """Whether bash can export NAME=VALUE; what it cannot it passes on where it was started with it."""
    name = variable.partition("=")[0]
    return name.isascii() and name.isidentifier() and name not in _BASHS
