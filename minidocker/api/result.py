"""What calls give back."""

from __future__ import annotations


class Notice(UserWarning):
    """Something that the user of a network or a container should know though nothing failed: what the command says on stderr."""


class Result:
    """How a command ended. `exit_code` is docker's: the command's own, 128 and the number of the signal that killed it. `stdout` and
    `stderr` are what it wrote, as UTF-8; bytes that are none are kept as surrogates, so that `os.fsencode(result.stdout)` are the bytes
    that were written."""

    __slots__ = ("exit_code", "stderr", "stdout")

    def __init__(self, exit_code: int, stdout: str, stderr: str) -> None:
        self.exit_code = exit_code
        self.stdout = stdout
        self.stderr = stderr

    def __repr__(self) -> str:
        return f"Result(exit_code={self.exit_code}, stdout={self.stdout!r}, stderr={self.stderr!r})"
