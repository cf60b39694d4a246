"""`inspect`: whatever has that name, or what `--type` says."""

from __future__ import annotations

from minidocker.cli import listing
from minidocker.errors import NotFoundError
from minidocker.spec import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minidocker.cli.call import Call
    from minidocker.engine.host import Host

    Find = Callable[[Host, str], list[dict[str, object]]]


def inspect(call: Call) -> int:
    """`inspect`: a JSON array, or a line of the template for each; of two that have one name the container."""
    kind = call.text("type")
    wanted = list(_FINDERS) if kind is None else [parse.choice("--type", kind, tuple(_FINDERS))]

    def lookup() -> Callable[[str], list[dict[str, object]]]:
        host = call.host()
        return lambda reference: _first(host, reference, [_FINDERS[one] for one in wanted])

    return listing.print_documents(call, lookup)


def _first(host: Host, reference: str, finders: list[Find]) -> list[dict[str, object]]:
    """What the first that knows it finds; where none does, the first one's error, with its near misses."""
    missing: NotFoundError | None = None
    for find in finders:
        try:
            return find(host, reference)
        except NotFoundError as error:
            missing = missing or error
    assert missing is not None  # noqa: S101  (there is at least one finder)
    raise missing


def _container(host: Host, reference: str) -> list[dict[str, object]]:
    from minidocker.engine import listing as containers

    return containers.inspect(host, [reference])


def _network(host: Host, reference: str) -> list[dict[str, object]]:
    from minidocker.engine import describe

    return describe.inspect(host, [reference])


def _volume(host: Host, reference: str) -> list[dict[str, object]]:
    from minidocker.engine import volumes

    return [volumes.inspect(host, reference)]


_FINDERS: dict[str, Find] = {"container": _container, "network": _network, "volume": _volume}
