"""exec: one more process in a container that is there already."""

from __future__ import annotations

from minidocker.cli.oci import console, files, listing, surroundings
from minidocker.errors import StateError, UsageError
from minidocker.kernel import cgroups
from minidocker.kernel.terminal import hold_signals
from minidocker.runtime import filters, state, stub
from minidocker.runtime.enter import Entry
from minidocker.spec import capabilities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minidocker.cli.oci.parse import Call

_SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")
_LARGEST_ID = (1 << 32) - 2  # (uid_t) -1 is nobody's, setresuid(2)


def execute(call: Call) -> int:
    """Run a process in a container; returns its exit code, with --detach 0 as soon as it runs. With --detach it becomes the child of
    whoever reaps ours, a shim or conmon, which has its pid from --pid-file."""
    store = surroundings.store(call)
    with store.find(call.arguments[0]) as home:
        known = home.state()
        status = home.status(known)
        if status not in (state.CREATED, state.RUNNING):
            raise StateError(f"cannot exec in container `{home.id}`: container not running: it is {status}")
        if not call.flag("ignore_paused") and listing.is_paused(known):
            raise StateError(f"cannot exec in container `{home.id}`: it is paused", "resume it, or --ignore-paused")
        document = home.configuration()
    if stub.sees_us(document, joins=True):
        stub.execute_read_only()
    process = _process(call, document["process"])
    terminal = console.Socket.of(call, bool(process.get("terminal")), call.flag("detach"))
    pid_file = files.pid_file(call)
    preserved = files.preserved(call, process)
    profile = document["linux"].get("seccomp")
    filter = filters.cached(profile, store.filters) if profile else None
    face = cgroups.detect() if known.cgroup else cgroups.Face([])
    entry = Entry(known.id, known, process, face, filter, (0, 1, 2), preserve_fds=preserved, seccomp=profile)

    def ready() -> None:
        terminal.send(entry.terminal)
        files.write_pid(pid_file, entry.pid)

    if not call.flag("detach"):
        hold_signals()
    entry.run(ready)
    return 0 if call.flag("detach") else console.carry(entry.pid, entry.pidfd, entry.terminal)


def _process(call: Call, own: dict[str, Any]) -> dict[str, Any]:
    """The OCI process section: that of --process, or the container's `own` with what the options say. UsageError."""
    command, file = call.arguments[1:], call.text("process")
    if file:
        if command:
            raise UsageError("exec: a command and --process say the same thing twice")
        from minidocker.cli.oci import bundle
        from minidocker.spec import oci_config

        process = oci_config.process(bundle.read(file))
    elif command:
        process = {**own, "args": command, "env": [*own.get("env", ()), *call.texts("env")]}
        process["terminal"] = False
        _become(process, call)
        _gain(process, call.texts("cap"))
    else:
        raise UsageError("exec: neither a command nor --process FILE is given")
    if call.flag("tty"):
        process["terminal"] = True
    if call.text("cwd"):
        process["cwd"] = call.text("cwd")
    if call.flag("no_new_privs"):
        process["noNewPrivileges"] = True
    for option, key in (("apparmor", "apparmorProfile"), ("process_label", "selinuxLabel")):
        if call.text(option):
            process[key] = call.text(option)
    if not process["cwd"].startswith("/"):
        raise UsageError(f"exec: the working directory `{process['cwd']}` is not an absolute path")
    return process


def _become(process: dict[str, Any], call: Call) -> None:
    user = dict(process.get("user") or {})
    if call.text("user"):
        uid, colon, gid = call.text("user").partition(":")
        user = {**user, "uid": _id(uid, "--user")}
        if colon:
            user["gid"] = _id(gid, "--user")
    groups = [_id(group, "--additional-gids") for value in call.texts("additional_gids") for group in value.split(",")]
    if groups:
        user["additionalGids"] = [*user.get("additionalGids", ()), *groups]
    process["user"] = user


def _id(text: str, option: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) > _LARGEST_ID:
        raise UsageError(f"{option}: `{text}` is not a numeric id", "names are the engine's to look up: only it knows the image")
    return int(text)


def _gain(process: dict[str, Any], asked: list[str]) -> None:
    """Add capabilities to all sets but the inheritable one, and the ambient one for who is not root and would lose them at execve."""
    if not asked:
        return
    names = [name.upper() if name.upper().startswith("CAP_") else f"CAP_{name.upper()}" for name in asked]
    for name in names:
        if name not in capabilities.NAMES:
            raise UsageError(f"--cap: unknown capability `{name}`")
    sets = process.get("capabilities") or {}
    gaining = ["bounding", "effective", "permitted"] if not process["user"].get("uid") else list(_SETS)
    process["capabilities"] = {key: [*sets.get(key, ()), *(names if key in gaining else ())] for key in _SETS}
