"""Every error minidocker raises on purpose.

    MinidockerError           125   something of ours failed; the message says what and, in `hint`, what to try
    ├── UsageError            125   the request itself is wrong; nothing was touched
    ├── NotFoundError           1   no such container, network, file
    ├── ConflictError           1   taken already: a name, an address, a port, a bridge that is not ours
    ├── StateError              1   the object is not in a state in which this can be done
    ├── UnsupportedError      125   this kernel or host cannot give what was asked for; names what is missing
    ├── KernelError           125   a system call failed: verb, object, cause
    ├── TargetNotFound        127   the program to run does not exist in the container
    └── TargetNotExecutable   126   it exists and cannot be executed

`exit_code` is what the command line exits with; `run` and `create` turn 1 into 125, as docker does. Messages are
one line: verb, object, cause. Foreign exceptions are translated once, in `kernel/`, by `KernelError.of`.
"""

from __future__ import annotations

import os


class MinidockerError(Exception):
    """A failure to tell the user about: one line of message, an optional line that says what to try next."""

    exit_code = 125

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class UsageError(MinidockerError):
    """The request is malformed or contradicts itself."""


class NotFoundError(MinidockerError):
    """The named object does not exist."""

    exit_code = 1


class ConflictError(MinidockerError):
    """What was asked for is taken already."""

    exit_code = 1


class StateError(MinidockerError):
    """The object exists but is not in a state in which this can be done."""

    exit_code = 1


class UnsupportedError(MinidockerError):
    """The kernel or the host cannot give what was asked for."""


class TargetNotFound(MinidockerError):
    """The program to run does not exist in the container."""

    exit_code = 127


class TargetNotExecutable(MinidockerError):
    """The program to run exists but cannot be executed."""

    exit_code = 126


class KernelError(MinidockerError):
    """A system call failed. `errno` is the kernel's number, `action` the verb and object that failed."""

    def __init__(self, action: str, errno: int, detail: str = "", hint: str = "") -> None:
        cause = os.strerror(errno).lower()
        super().__init__(f"{action}: {cause}" + (f" ({detail})" if detail else ""), hint)
        self.action = action
        self.errno = errno
        self.detail = detail

    @classmethod
    def of(cls, action: str, error: OSError) -> KernelError:
        """Translate an OSError met while doing `action` (``mount `proc` on `/proc` ``)."""
        return cls(action, error.errno or 0)
