"""The last stage of a container's process, from a sealed memory file: a program of some 150 bytes that executes the container's.

CVE-2019-5736: a container's program may be `#!/proc/self/exe`, or be swapped for such a script in the moment before execve. Then the
kernel executes, as the script's interpreter, whatever file the process is of, and the container has it open as /proc/self/exe: as root,
to be written to as soon as nobody executes it. Were that our interpreter, the host would be lost. So before the container's program
comes a process of a file that is nobody's: sealed, in memory, made for this start alone.

    python ── execveat(memory file) ──► stub ── fcntl(channel, close on exec) ─ seccomp ─ execve(program) ──► program
                                          └── on failure: one message on the channel, "X" path errno, and exit

Nor is the stub within the container's reach: who traced it before it has loaded the filter would be free of that (CVE-2016-9962). The
kernel makes a process not dumpable when it executes what it may not read (fs/exec.c, would_dump): so the file's mode is 0111.

There is no race, as it does not matter what `program` is when execve comes. A stub that was executed by its own execve, as the script's
interpreter, knows it by the channel that was closed, and ends with 126. It costs 0.15 ms (a second interpreter from a read-only
mount: 10). The filter is the stub's to load, where no_new_privs lets it: so under the filter nothing is called but execve. Where the stub
cannot be (another machine's code, a filter that was on before and forbids execveat) the program and its interpreters are looked up once
more, and refused if a link of /proc's leads to one: that has a race, against a container that changes its files at this instant.
"""

from __future__ import annotations

import _struct as struct
import errno
import fcntl
import os
import sys

from minidocker.errors import KernelError, MinidockerError, TargetNotExecutable
from minidocker.kernel import foreign as ctypes
from minidocker.kernel import libc, mounts, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from minidocker.kernel.process import Filter

FAILED = b"X"
_READING = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: capabilities(7)
_MACHINE = os.uname().machine
_EXECVEAT = {"x86_64": 322}.get(_MACHINE, -1)
_AT_EMPTY_PATH = 0x1000
_BASE = 0x400000
_HEADERS = 64 + 2 * 56
_MFD_ALLOW_SEALING, _MFD_EXEC = 0x2, 0x10
_F_ADD_SEALS, _ALL_SEALS = 1033, 0xF  # seal, shrink, grow, write: fcntl(2)
_ET_EXEC, _EM_X86_64, _PT_LOAD, _READ_EXECUTE = 2, 62, 1, 5
_PT_GNU_STACK, _READ_WRITE = 0x6474E551, 6  # a stack that is not executed
_OF_SECCOMP = 4096  # added to the errno of seccomp(2), to tell it from execve's
_MOST_INTERPRETERS = 5  # BINPRM's depth of `#!` of `#!`, fs/exec.c
_FIRST_LINE = 256  # BINPRM_BUF_SIZE

# What the program is, in the order in which it does it. Numbers in <> are filled in.
_BEGIN = bytes.fromhex("488b1c24" "4c8d642408" "4d8d6cdc08")      # rbx=argc  r12=argv  r13=envp, from the stack
_CLOSE_ON_EXEC = "bf{channel} be02000000 ba01000000 b848000000 0f05"  # fcntl(channel, F_SETFD, FD_CLOEXEC)
_ONCE = "85c0 790c bf7e000000 b8e7000000 0f05"                       # if there is no channel any more: exit_group(126)
_SECCOMP = "bf01000000 be{flags} ba{program} b83d010000 0f05"       # seccomp(SECCOMP_SET_MODE_FILTER, flags, program)
_CHECK = "4885c0 7408 482d00100000 eb{over}"                       # if it failed: rax -= 4096, and on to _TELL
_EXECUTE = "bf{path} 4c89e6 4c89ea b83b000000 0f05"                # execve(path, argv, envp)
# writev(channel, {{"X" path}, {rax}}, 2), then exit_group(1)
_TELL = "50 4889e1 6a08 51 6a00 48c70424{size} 68{said} bf{channel} 4889e6 ba02000000 b814000000 0f05 bf01000000 b8e7000000 0f05"


def _code(template: str, **values: int) -> bytes:
    filled = template.format(**{name: value.to_bytes(4, "little").hex() for name, value in values.items()})
    return bytes.fromhex(filled)


def image(path: bytes, channel: int, filter: Filter | None) -> bytes:
    """The ELF file, elf(5): one segment, read and executed. Its data comes before its code, so that all addresses are known."""
    said = _BASE + _HEADERS
    data = FAILED + path + b"\0"
    data += bytes(-len(data) % 8)
    body = b""
    if filter is not None:
        instructions = filter.instructions
        program = said + len(data)
        data += struct.pack("=HxxxxxxQ", filter.length, program + 16) + instructions  # struct sock_fprog
    end = _code(_TELL, size=1 + len(path), said=said, channel=channel)
    execute = _code(_EXECUTE, path=said + 1)
    if filter is not None:
        over = len(execute).to_bytes(1, "little").hex()
        body = _code(_SECCOMP, flags=filter.flags, program=program) + bytes.fromhex(_CHECK.format(over=over))
    code = _BEGIN + _code(_CLOSE_ON_EXEC, channel=channel) + bytes.fromhex(_ONCE) + body + execute + end
    size = _HEADERS + len(data) + len(code)
    header = struct.pack(
        "=4sBBBB8xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 0, _ET_EXEC, _EM_X86_64, 1, said + len(data), 64, 0, 0, 64, 56, 2, 0, 0, 0
    )
    segment = struct.pack("=IIQQQQQQ", _PT_LOAD, _READ_EXECUTE, 0, _BASE, _BASE, size, size, 0x1000)
    stack = struct.pack("=IIQQQQQQ", _PT_GNU_STACK, _READ_WRITE, 0, 0, 0, 0, 0, 16)
    return header + segment + stack + data + code


def execute(
    path: str, args: list[str], environment: Mapping[bytes, bytes], channel: int, filter: Filter | None
) -> None:
    """execve by the stub, with `filter` loaded before it; returns only by raising OSError or MinidockerError."""
    effective, permitted, inheritable = process.capabilities()
    try:
        file = _sealed(image(os.fsencode(path), channel, filter))
        process.set_capabilities(effective & ~_READING, permitted, inheritable)  # execve makes the effective set anew
        os.set_inheritable(channel, True)
        argv = _pointers([os.fsencode(word) for word in args])
        envp = _pointers([name + b"=" + value for name, value in environment.items()])
        libc.syscall(_EXECVEAT, file, b"", argv, envp, _AT_EMPTY_PATH)
    except OSError as error:
        if error.errno in (errno.E2BIG, errno.ENOMEM):
            raise
    process.set_capabilities(effective, permitted, inheritable)
    os.set_inheritable(channel, False)
    if filter is not None:
        filter.load()
    _refuse_links(path)
    os.execve(path, args, environment)


def _sealed(content: bytes) -> int:
    if _EXECVEAT < 0:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    try:
        file = os.memfd_create("minidocker", os.MFD_CLOEXEC | _MFD_ALLOW_SEALING | _MFD_EXEC)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a kernel before 6.3, where all may be executed
            raise
        file = os.memfd_create("minidocker", os.MFD_CLOEXEC | _MFD_ALLOW_SEALING)
    os.write(file, content)
    os.fchmod(file, 0o111)
    fcntl.fcntl(file, _F_ADD_SEALS, _ALL_SEALS)
    return file


def _pointers(words: Sequence[bytes]) -> object:
    """char *[], NULL at its end. The bytes live as long as the array does."""
    return (ctypes.c_char_p * (len(words) + 1))(*words, None)


def execute_read_only() -> None:
    """Execute this command anew, from a mount of our interpreter that is read-only, unless that is so already (10 ms).

    For who meets processes that may look at it before it has become the stub: one that is not dumpable is hidden from all but those with
    CAP_SYS_PTRACE, who can open its /proc/PID/exe, and write to that once nobody executes it any more. To be called before anything is
    held or made; descriptors that are closed by execve are closed.
    """
    if os.statvfs("/proc/self/exe").f_flag & os.ST_RDONLY:
        return
    tree = mounts.open_tree("/proc/self/exe")
    mounts.set_attributes(tree, mounts.ATTR_RDONLY)
    os.execv(f"/proc/self/fd/{tree}", sys.orig_argv)


def sees_us(spec: dict[str, Any], joins: bool) -> bool:
    """Whether processes that may have CAP_SYS_PTRACE over us meet us in this container: those of a PID namespace that it joins itself, a
    pod's say; and its own, when one more `joins` it."""
    kinds = {entry["type"]: entry.get("path") for entry in spec["linux"]["namespaces"]}
    if "user" in kinds:  # what it can do it can do to its own users' processes
        return False
    bounding = (spec["process"].get("capabilities") or {}).get("bounding") or ()
    return bool(kinds.get("pid")) or (joins and "CAP_SYS_PTRACE" in bounding)


def _refuse_links(path: str) -> None:
    """The program, and the interpreters that its first lines name, must not be reached by a link of /proc's."""
    for _ in range(_MOST_INTERPRETERS):
        try:
            file = mounts.open_plainly(path)
        except OSError as error:
            if error.errno != errno.ELOOP:
                return  # execve has the word
            raise TargetNotExecutable(f"execute `{path}`: a link of /proc's leads to it") from None
        try:
            first = os.read(file, _FIRST_LINE).partition(b"\n")[0]
        finally:
            os.close(file)
        words = first[2:].split()
        if first[:2] != b"#!" or not words:
            return
        path = os.fsdecode(words[0])


def failure(message: bytes) -> MinidockerError:
    """What the stub said: "X", the path, and what the kernel answered, as a signed number of 8 bytes."""
    from minidocker.runtime.init import exec_failure

    number = -int.from_bytes(message[-8:], "little", signed=True)
    path = os.fsdecode(message[1:-8])
    if number > _OF_SECCOMP:
        return KernelError("load the seccomp filter", number - _OF_SECCOMP)
    return exec_failure(path, OSError(number, ""))
