"""network capture: whose namespace is heard, by which interfaces, and who is behind each of them."""

from __future__ import annotations

import os

from minidocker.engine import reconcile, wiring
from minidocker.engine.host import Host
from minidocker.errors import NotFoundError, StateError, UsageError
from minidocker.network import capture_filter
from minidocker.network.capture import Capture
from minidocker.spec.records import BRIDGE
from minidocker.storage import containers, networks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from minidocker.network.capture import Seen
    from minidocker.storage.containers import Record


class Session:
    """A capture of a container, or of a bridge network where no container is called so. `who` says who is behind an interface. Raises
    what looking them up does, and UsageError for a filter that makes no sense."""

    def __init__(self, host: Host, reference: str, interface: str, filter: Sequence[str]) -> None:
        reconcile.look(host)
        groups = containers.endpoints(host.state)
        named = {one.container_name: [ip for other in group for ip in (other.ip, other.ip6) if ip] for group in groups.values()
                 for one in group}  # fmt: skip
        self.test = capture_filter.parse(filter, named)
        self.who: dict[str, str] = {}
        self._record: Record | None = None
        self._netns = -1
        try:
            self._record = containers.find(host.state, reference)
        except NotFoundError as missing:
            self._of_network(host, reference, interface, missing)
            return
        self._of_container(self._record, interface, host)

    def _of_container(self, record: Record, interface: str, host: Host) -> None:
        if record.status != containers.RUNNING:
            raise StateError(f"container `{record.name}` is {record.status}", "it has packets only while it runs")
        self._netns = wiring.namespace(record)
        if self._netns < 0 and record.request.mode.partition(":")[0] == "host":
            self._netns = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        elif self._netns < 0:
            raise StateError(f"container `{record.name}` has just ended")
        for one in containers.endpoints(host.state, record).get(record.id, []):
            self.who[one.interface] = f"container {record.name}, network {one.network}, {one.ip}"
        self.capture = Capture(self._netns, interface)

    def _of_network(self, host: Host, reference: str, interface: str, missing: NotFoundError) -> None:
        network = networks.get(host.state, reference)
        if network is None:
            raise NotFoundError(f"no such container or network: {reference}", missing.hint) from missing
        if network.driver != BRIDGE:
            raise UsageError(f"network `{network.name}` is {network.driver}: this host has no end of it",
                             "capture one of its containers: minidocker network capture CONTAINER")
        for group in containers.endpoints(host.state).values():
            for one in group:
                if one.network == network.name:
                    self.who[one.host_link] = f"container {one.container_name}, network {network.name}, {one.ip}"
        self.who[network.bridge] = f"this host, network {network.name}"
        self.capture = Capture(None, interface, "" if interface else network.bridge)

    def packets(self, most: int, stop: int) -> Iterator[Seen]:
        """Those that pass the filter, at most so many (0: all), until the container has ended, or something can be read from `stop`."""
        count = 0
        for seen in self.capture.packets(self._goes_on, stop):
            if self.test(seen.packet):
                yield seen
                count += 1
                if count == most:
                    return

    def _goes_on(self) -> bool:
        record = self._record
        if record is None or not record.netns:
            return True
        descriptor = wiring.namespace(record)
        if descriptor >= 0:
            os.close(descriptor)
        return descriptor >= 0

    def close(self) -> None:
        if hasattr(self, "capture"):
            self.capture.close()
        if self._netns >= 0:
            os.close(self._netns)
