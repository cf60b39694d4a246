"""Containers and networks of one data root, for programs.

    import minidocker

    with minidocker.run(["./server", "a"], net="br0", detach=True) as c:
        print(c.ip, c.exec(["ip", "route"]).stdout, c.logs())

Every call is one of a helper process (calling.py): it costs what the command costs, and leaves nothing behind in this one, neither an open
file nor a child. Errors are those of minidocker.errors; nothing is printed, and notices are warnings (`minidocker.Notice`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from minidocker.api import calling
from minidocker.api.container import Container
from minidocker.api.network import Network
from minidocker.api.options import given
from minidocker.api.result import Result
from minidocker.cli import options
from minidocker.errors import UsageError

if TYPE_CHECKING:
    from typing import Unpack

    from minidocker.api.options import CreateOptions, NetworkOptions


class Client:
    """`root` is the data root: by default MINIDOCKER_ROOT, or /var/lib/minidocker. Any number of threads may use one."""

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        self.root = None if root is None else os.fspath(root)
        self.containers = Containers(self)
        self.networks = Networks(self)

    def __repr__(self) -> str:
        return f"Client({self.root!r})"

    @overload
    def run(self, command: Sequence[str], *, detach: Literal[True], **keywords: Unpack[CreateOptions]) -> Container: ...

    @overload
    def run(
        self, command: Sequence[str], *, detach: Literal[False] = False, input: bytes | str | None = None, **keywords: Unpack[CreateOptions]
    ) -> Result: ...

    def run(
        self, command: Sequence[str], *, detach: bool = False, input: bytes | str | None = None, **keywords: Unpack[CreateOptions]
    ) -> Container | Result:
        """Run `command` in a new container, with the options of `minidocker run` (options.py says how they are written).

        With `detach` it returns as soon as the program runs: the Container, which `with` removes at its end. Otherwise it waits, and
        returns how the program ended; `input` is its standard input. Where the wait is interrupted, the container ends.

        Raises UsageError for what contradicts itself, TargetNotFound and TargetNotExecutable for a program that cannot be run,
        ConflictError and others for what is taken or cannot be had.
        """
        options_ = given(options.RUN, dict(keywords))
        if detach:
            if input is not None:
                raise UsageError("`input` needs somebody who waits for the command", "leave out `detach`")
            id, name = self._ask("run", _words(command), {**options_, "detach": True}).value
            return Container(self, id, name)
        if input is not None:
            options_["interactive"] = True
        answer = self._ask("run", _words(command), options_, stdin=_bytes(input))
        return Result(answer.value, os.fsdecode(answer.stdout), os.fsdecode(answer.stderr))

    def _ask(
        self, do: str, arguments: Sequence[str] = (), given: Mapping[str, Any] | None = None, *,
        stdin: bytes | None = None, timeout: float | None = None, **extra: Any,
    ) -> calling.Answer:  # fmt: skip
        what = {"do": do, "root": self.root, "arguments": list(arguments), "given": dict(given or {}), "extra": extra}
        return calling.ask(what, stdin, timeout)


class Containers:
    """`Client.containers`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def list(self, *, all: bool = False, filter: Mapping[str, str] | None = None) -> list[Container]:
        """Those that run, or all, the latest first. `filter` as in `ps --filter`: {"label": "stage=test"}, {"status": "exited"}."""
        filters = [f"{key}={value}" for key, value in (filter or {}).items()]
        return [Container(self._client, id, name) for id, name in self._client._ask("ps", all=all, filters=filters).value]

    def get(self, reference: str) -> Container:
        """By name, id or the beginning of an id. Raises NotFoundError."""
        document = self._client._ask("inspect", [reference]).value
        return Container(self._client, document["Id"], document["Name"].lstrip("/"))

    def create(self, command: Sequence[str], **keywords: Unpack[CreateOptions]) -> Container:
        """A container that is not started yet: `start()` does."""
        from minidocker.cli.options_life import CREATE

        id, name = self._client._ask("create", _words(command), given(CREATE, dict(keywords))).value
        return Container(self._client, id, name)


class Networks:
    """`Client.networks`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def list(self) -> list[Network]:
        """All of them, the oldest first."""
        return [Network(self._client, id, name) for id, name in self._client._ask("network_ls").value]

    def get(self, reference: str) -> Network:
        """By name or id. Raises NotFoundError."""
        document = self._client._ask("network_inspect", [reference]).value
        return Network(self._client, document["Id"], document["Name"])

    def create(self, name: str, **keywords: Unpack[NetworkOptions]) -> Network:
        """Make a network and bring it up, with the options of `minidocker network create`. Raises ConflictError for what overlaps."""
        from minidocker.cli.options_networks import NETWORK_CREATE

        id, name = self._client._ask("network_create", [name], given(NETWORK_CREATE, dict(keywords))).value
        return Network(self._client, id, name)


def _words(command: Sequence[str]) -> list[str]:
    if isinstance(command, str):
        raise UsageError("the command is a string, and no shell splits it into words", f"a list: [{command!r}], or ['sh', '-c', ...]")
    if not command:
        raise UsageError("the command is empty", "the first word is the program to run")
    return [os.fspath(word) for word in command]


def _bytes(input: bytes | str | None) -> bytes | None:
    return os.fsencode(input) if isinstance(input, str) else input
