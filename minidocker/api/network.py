"""One network, as a program has it in its hands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minidocker.api.handle import Handle
from minidocker.api.options import given
from minidocker.errors import NotFoundError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Unpack

    from minidocker.api.container import Container
    from minidocker.api.options import ConnectOptions


class Network(Handle):
    """`id`, `name`. As a context manager it is removed at the end, which containers must have left by then."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Network({self.name!r})"

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.remove()
        except NotFoundError:
            return

    def inspect(self) -> dict[str, Any]:
        """Docker's inspect document of a network."""
        document: dict[str, Any] = self._client._ask("network_inspect", [self.name]).value
        return document

    @property
    def subnet(self) -> str:
        """10.9.0.0/24"""
        return str(self.inspect()["IPAM"]["Config"][0]["Subnet"])

    @property
    def gateway(self) -> str:
        """The host's address in it; "" where it has none."""
        return str(self.inspect()["IPAM"]["Config"][0]["Gateway"])

    def connect(self, container: Container | str, **keywords: Unpack[ConnectOptions]) -> None:
        """Put a container into it, with the options of `minidocker network connect`."""
        from minidocker.cli.options_networks import NETWORK_CONNECT

        self._client._ask("network_connect", [self.name, _id(container)], given(NETWORK_CONNECT, dict(keywords)))

    def disconnect(self, container: Container | str, *, force: bool = False) -> None:
        """Take a container out of it."""
        self._client._ask("network_disconnect", [self.name, _id(container)], force=force)

    def remove(self) -> None:
        """Take it down and forget it. Raises StateError while containers are in it."""
        self._client._ask("network_remove", [self.name])


def _id(container: Container | str) -> str:
    return container if isinstance(container, str) else container.id
