"""What containers and networks have in common, as a program has them in its hands."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self

    from minidocker.api.client import Client


class Handle:
    """`id` in full, `name`. Two are equal that are of one kind and of one id."""

    __slots__ = ("_client", "id", "name")

    def __init__(self, client: Client, id: str, name: str) -> None:
        self._client = client
        self.id = id
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __enter__(self) -> Self:
        return self
