"""Linux security modules that confine a process by a label it asks for before execve: AppArmor's profile, SELinux's context.

/proc/PID/attr is procfs's face of them (kernel documentation, admin-guide/LSM: AppArmor.rst, index.rst; aa_change_onexec(2),
setexeccon(3)): what is written to `exec` there holds from the next execve of the writing thread on.
"""

from __future__ import annotations

import errno
import os

from minidocker.errors import KernelError, UnsupportedError
from minidocker.kernel import foreign as ctypes
from minidocker.kernel import libc

APPARMOR, SELINUX = "AppArmor", "SELinux"

_ENABLED = "/sys/module/apparmor/parameters/enabled"
_SELINUXFS = "/sys/fs/selinux"  # the kernel makes the directory where SELinux was not switched off at boot
_PROFILES = "/sys/kernel/security/apparmor/profiles"
_ATTRIBUTES = "/proc/thread-self/attr"
_PROC_SUPER_MAGIC = 0x9FA0

_fstatfs = libc.prototype("fstatfs", ctypes.c_int, ctypes.c_void_p)


def apparmor() -> bool:
    """Whether AppArmor is on."""
    return _content(_ENABLED).strip() == "Y"


def selinux() -> bool:
    """Whether SELinux is on, enforcing or not."""
    return os.path.isdir(_SELINUXFS)


def check_profile(name: str) -> None:
    """Raises UnsupportedError unless a process of this host can be put under the AppArmor profile; where the list of profiles is not to
    be seen, a profile that is not loaded is found out by `set_profile`."""
    if not apparmor():
        raise UnsupportedError(f"the AppArmor profile `{name}`: AppArmor is not on here", "leave it out, or boot with apparmor=1")
    loaded = {line.rpartition(" (")[0] for line in _content(_PROFILES).splitlines()}
    if loaded and name not in loaded and name != "unconfined" and "//" not in name:
        raise _unknown(name)


def check_context(context: str) -> None:
    """Raises UnsupportedError unless the context is one of the policy of this host's SELinux."""
    if not selinux():
        raise UnsupportedError(f"the SELinux context `{context}`: SELinux is not on here", "leave it out, or boot with selinux=1")
    try:
        asked = os.open(f"{_SELINUXFS}/context", os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # selinuxfs is not mounted: execve will tell
    try:
        os.write(asked, context.encode() + b"\0")  # security_check_context(3)
    except OSError as error:
        raise UnsupportedError(f"the SELinux context `{context}`: this host's policy has none such ({error.strerror})") from error
    finally:
        os.close(asked)


def context(parts: list[str]) -> str:
    """This process's own SELinux context with `parts` of it replaced ("type:container_t"), as runcon(1) does. Raises UnsupportedError."""
    own = _content(f"{_ATTRIBUTES}/current").rstrip("\0\n").split(":", 3)
    if not selinux() or len(own) < 3:
        raise UnsupportedError(f"label `{parts[0]}`: SELinux is not on here, or has no policy", "leave it out, or boot with selinux=1")
    found = dict(zip(("user", "role", "type", "level"), own, strict=False))
    found.update(part.split(":", 1) for part in parts)  # type: ignore[misc]
    return ":".join(found.values())


def set_profile(name: str) -> None:
    """The AppArmor profile that this thread's next execve changes to. Raises UnsupportedError where it is not loaded, KernelError."""
    directory = f"{_ATTRIBUTES}/apparmor"  # Linux 5.8; before, AppArmor had the one file to itself
    try:
        _write_exec(directory if os.path.isdir(directory) else _ATTRIBUTES, f"exec {name}")
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise _unknown(name) from error
        raise KernelError.of(f"ask for the AppArmor profile `{name}`", error) from error


def set_context(context: str) -> None:
    """The SELinux context that this thread's next execve changes to. Raises KernelError."""
    try:
        _write_exec(_ATTRIBUTES, context)
    except OSError as error:
        raise KernelError.of(f"ask for the SELinux context `{context}`", error) from error


def _unknown(name: str) -> UnsupportedError:
    return UnsupportedError(f"the AppArmor profile `{name}` is not loaded", "apparmor_parser -r FILE loads one, aa-status lists them")


def _write_exec(directory: str, text: str) -> None:
    """Only ever into procfs: whoever mounts something else there would have us run unconfined and believe otherwise (CVE-2019-16884)."""
    file = os.open(f"{directory}/exec", os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        status = ctypes.create_string_buffer(256)  # struct statfs: its first word is the type
        _fstatfs(file, status)
        if int.from_bytes(status.raw[: ctypes.sizeof(ctypes.c_long)], "little") != _PROC_SUPER_MAGIC:
            raise OSError(errno.EXDEV, "/proc is not procfs")
        os.write(file, text.encode())
    finally:
        os.close(file)


def _content(path: str) -> str:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read().decode(errors="replace")
    except OSError:
        return ""
