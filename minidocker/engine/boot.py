"""After the host came up: which containers should be up again; and the unit files that have systemd see to it."""

from __future__ import annotations

from minidocker.engine import reconcile
from minidocker.engine.host import Host
from minidocker.errors import StateError
from minidocker.spec import restart, systemd_unit
from minidocker.storage import containers

_STOP_TIMEOUT = 10.0


def due(host: Host) -> list[str]:
    """The ids of those to be started: of an earlier boot, by their policies; the oldest first, and those that join another's network after
    it. As docker has it an `always` one comes up again though the user had stopped it, an `unless-stopped` one does not.

    What the last boot left is cleaned up before: it gives back its addresses and ports."""
    reconcile.sweep(host)
    found = [
        record for record in containers.every(host.state)
        if record.status == containers.EXITED and record.boot != host.boot and (record.started or record.generation > 1)
        and (record.request.restart == restart.ALWAYS or (record.request.restart == restart.UNLESS_STOPPED and not record.stopped))
    ]  # fmt: skip
    found.sort(key=lambda record: (record.request.mode.startswith("container:"), record.created))
    return [record.id for record in found]


def name(host: Host, id: str) -> str:
    return str(containers.find(host.state, id).name)


def unit(host: Host, reference: str | None, anew: bool, program: list[str]) -> str:
    """The unit file of a container, or, without one, of `system boot`. `program` begins each of its command lines."""
    if reference is None:
        return systemd_unit.boot(program, host.root)
    record = containers.find(host.state, reference)
    request = record.request
    timeout = _STOP_TIMEOUT if request.stop_timeout is None else request.stop_timeout
    if not anew:
        if request.remove:
            raise StateError(f"container `{record.name}` was run with --rm: there is nothing to start when it has ended",
                             f"minidocker generate systemd --new {record.name} makes it anew each time")  # fmt: skip
        return systemd_unit.container(program, host.root, record.name, timeout)
    if not request.asked:
        raise StateError(f"how container `{record.name}` was run is not recorded: it was made by an older minidocker, or not by `run`",
                         "run it again")  # fmt: skip
    directory, *words = request.asked
    return systemd_unit.anew(program, host.root, record.name, words, directory, request.restart, timeout)
