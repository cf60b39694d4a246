"""What a caller hands over besides the configuration: a file for the pid, descriptors to pass on."""

from __future__ import annotations

import os

from minidocker.errors import KernelError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minidocker.cli.oci.parse import Call

_MOST = 1 << 20


def pid_file(call: Call) -> str:
    """The path of --pid-file, "" for none; its directory must be there. UsageError."""
    path = call.text("pid_file")
    if path and not os.path.isdir(os.path.dirname(path) or "."):
        raise UsageError(f"--pid-file {path}: there is no such directory")
    return path


def write_pid(path: str, pid: int) -> None:
    """Have `path` say `pid`, all at once: whoever waits for the file reads it whole."""
    if not path:
        return
    directory, _, name = path.rpartition("/")
    temporary = f"{directory or '.'}/.{name}.{os.getpid()}"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            os.write(descriptor, str(pid).encode())
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
    except OSError as error:
        raise KernelError.of(f"write the pid file `{path}`", error) from error


def preserved(call: Call, process: dict[str, Any]) -> int:
    """How many descriptors from 3 on go along: those of --preserve-fds, after those of socket activation, of which the process is then
    told (sd_listen_fds(3)). UsageError when one of them is not open, as something of ours would be taken for it."""
    asked = call.number("preserve_fds") or 0
    if not 0 <= asked <= _MOST:
        raise UsageError(f"--preserve-fds {asked}: not from 0 to {_MOST}")
    activated = _activated()
    for descriptor in range(3, 3 + activated + asked):
        try:
            os.fstat(descriptor)
        except OSError:
            raise UsageError(f"--preserve-fds {asked}: descriptor {descriptor} is not open") from None
    if activated:
        process["env"] = [*process.get("env", ()), f"LISTEN_FDS={activated}", "LISTEN_PID=1"]
    return activated + asked


def _activated() -> int:
    """How many sockets a service manager has given us; not those of somebody whose environment we have inherited."""
    count = os.environ.get("LISTEN_FDS", "")
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal():
        return 0
    return min(int(count), _MOST)
