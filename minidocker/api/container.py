"""One container, as a program has it in its hands."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from minidocker.api.calling import Expired
from minidocker.api.handle import Handle
from minidocker.api.options import given
from minidocker.api.result import Result
from minidocker.cli import options
from minidocker.errors import NotFoundError, StateError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Unpack

    from minidocker.api.options import ExecOptions


class Container(Handle):
    """`id` in full, `name`. What changes while it lives is asked for each time: `ip`, `status`, `inspect()`.

    As a context manager it is removed at the end with its anonymous volumes, killed where it still runs."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Container({self.name!r}, id={self.id[:12]!r})"

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.remove(force=True, volumes=True)
        except NotFoundError:
            return  # with `rm` it is gone when it ends

    def inspect(self) -> dict[str, Any]:
        """Docker's inspect document."""
        document: dict[str, Any] = self._client._ask("inspect", [self.id]).value
        return document

    @property
    def ips(self) -> dict[str, str]:
        """Network name -> IPv4 address, eth0's first; empty when it does not run, or has no network of its own."""
        networks = self.inspect()["NetworkSettings"]["Networks"]
        return {name: place["IPAddress"] for name, place in networks.items() if place["IPAddress"]}

    @property
    def ip(self) -> str:
        """Its IPv4 address in its first network. Raises StateError when it has none."""
        for address in self.ips.values():
            return address
        raise StateError(f"container `{self.name}` has no address", "it has ended, or is in no network of its own")

    @property
    def status(self) -> str:
        """created, running, exited and so on: State.Status of docker's."""
        return str(self.inspect()["State"]["Status"])

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs, or when nobody saw its end."""
        state = self.inspect()["State"]
        return None if state["Running"] else state["ExitCode"]

    def exec(self, command: Sequence[str], *, input: bytes | str | None = None, **keywords: Unpack[ExecOptions]) -> Result:
        """Run one more command in it, with the options of `minidocker exec`, and wait for it (not with `detach`). Raises StateError when
        the container does not run, TargetNotFound and TargetNotExecutable for a command that cannot be run."""
        from minidocker.api.client import _bytes, _words

        options_ = given(options.EXEC, dict(keywords))
        if input is not None:
            options_["interactive"] = True
        answer = self._client._ask("execute", [self.id, *_words(command)], options_, stdin=_bytes(input))
        return Result(answer.value, os.fsdecode(answer.stdout), os.fsdecode(answer.stderr))

    def logs(self, *, tail: int | None = None, since: float | None = None, timestamps: bool = False) -> str:
        """What it has written so far, stdout's lines and stderr's in the order in which they came; of it the last `tail` lines, or what
        was written since a time (seconds since the epoch)."""
        answer = self._client._ask("logs", [self.id], tail=tail, since=since, timestamps=timestamps)
        return os.fsdecode(answer.stdout)

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended: its exit code. Raises StateError when it still runs after `timeout` seconds, or nobody has seen how it
        ended."""
        try:
            return int(self._client._ask("wait", [self.id], timeout=timeout).value)
        except Expired:
            raise StateError(f"container `{self.name}` still runs after {timeout:g} s", "stop() ends it") from None

    def stop(self, time: float | None = None) -> None:
        """Ask it to end by its stop signal, and kill it after `time` seconds (10; -1: never)."""
        self._client._ask("stop", [self.id], time=time)

    def kill(self, signal: str | int = "KILL") -> None:
        """Send its first process a signal. Raises StateError when it does not run."""
        self._client._ask("kill", [self.id], signal=str(signal))

    def start(self) -> None:
        """Start it, or start it again."""
        self._client._ask("start", [self.id])

    def restart(self, time: float | None = None) -> None:
        """Stop it, if it runs, and start it again."""
        self._client._ask("restart", [self.id], time=time)

    def pause(self) -> None:
        """Stop all of its processes where they are."""
        self._client._ask("pause", [self.id])

    def unpause(self) -> None:
        """Let them go on."""
        self._client._ask("unpause", [self.id])

    def remove(self, *, force: bool = False, volumes: bool = False) -> None:
        """Remove it and its files, and with `volumes` its anonymous ones. Raises StateError when it runs, unless `force` kills it."""
        self._client._ask("remove", [self.id], force=force, volumes=volumes)
