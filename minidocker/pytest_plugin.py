"""Fixtures of pytest for who tests networked programs: containers and networks that go with their test, and with pytest however that ends.

    def test_it_answers(minidocker_run, minidocker_network):
        server = minidocker_run(["./server", "a"])
        client = minidocker_run(["curl", "-s", f"http://{server.ip}:8081"], detach=False)
        assert client.stdout == "a\\n"

`minidocker_client` gives another data root where a test suite defines a fixture of that name. See api/keeping.py for who cleans up.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from minidocker.api import Client, Container, Network, Result


class Keeper:
    """What one pytest process has made, by its label."""

    def __init__(self, client: Client) -> None:
        from minidocker.api import keeping
        from minidocker.cli import options
        from minidocker.cli.call import Call

        self.client = client
        self.label = {keeping.LABEL: keeping.owner()}
        client._ask("sweep", own="")
        keeping.start_watcher(Call(options.RUN, {}, [], client.root).root_directory())

    def end(self) -> None:
        [own] = self.label.values()
        self.client._ask("sweep", own=own)

    def run(self, command: list[str], *, detach: bool = True, **keywords: Any) -> Container | Result:
        labels = keywords.pop("label", [])
        labels = [f"{key}={value}" for key, value in labels.items()] if isinstance(labels, dict) else labels
        labels = [labels] if isinstance(labels, str) else [*labels]
        mine = [f"{key}={value}" for key, value in self.label.items()]
        made: Container | Result = self.client.run(command, detach=detach, label=labels + mine, **keywords)  # type: ignore[call-overload]
        return made

    def empty(self, network: Network) -> None:
        """Remove the containers of ours that are in it."""
        members = network.inspect()["Containers"]
        for container in self.client.containers.list(all=True, filter={"label": "=".join(*self.label.items())}):
            if container.id in members:
                container.remove(force=True, volumes=True)


@pytest.fixture(scope="session")
def minidocker_client() -> Client:
    """The data root: MINIDOCKER_ROOT, or /var/lib/minidocker."""
    from minidocker.api import Client

    return Client()


@pytest.fixture(scope="session")
def _minidocker_keeper(minidocker_client: Client) -> Iterator[Keeper]:
    keeper = Keeper(minidocker_client)
    yield keeper
    keeper.end()


@pytest.fixture
def minidocker_network(_minidocker_keeper: Keeper) -> Iterator[Network]:
    """A network of the test's own, with a subnet that nobody uses: `name`, `subnet`, `gateway`."""
    network = _minidocker_keeper.client.networks.create(f"test-{secrets.token_hex(4)}", label=_minidocker_keeper.label)
    yield network
    _minidocker_keeper.empty(network)
    network.remove()


@pytest.fixture
def minidocker_run(request: pytest.FixtureRequest, _minidocker_keeper: Keeper) -> Iterator[Callable[..., Any]]:
    """`minidocker_run(COMMAND, **options)` runs a container in the background, with the options of `minidocker run`, in the test's own
    network where none is named: a Container, which is removed after the test. With `detach=False` it waits: a Result."""
    from minidocker.api import Container
    from minidocker.errors import NotFoundError

    made: list[Container] = []

    def run(command: list[str], **keywords: Any) -> Container | Result:
        if "net" not in keywords and "network" not in keywords:
            keywords["net"] = request.getfixturevalue("minidocker_network").name
        found = _minidocker_keeper.run(command, **keywords)
        if isinstance(found, Container):
            made.append(found)
        return found

    yield run
    for container in reversed(made):
        try:
            container.remove(force=True, volumes=True)
        except NotFoundError:
            continue  # with `rm` it has gone by itself, and with its network before
