"""What every command does first: finish whatever a crash left unfinished. Nothing needs a daemon for that.

A container is abandoned when the record says it is not over and no process holds its monitor's lock. In the usual case there
is none, and this costs one query, and one look at a lock for each running container.
"""

from __future__ import annotations

import os
import time

from minidocker.engine.host import Host, is_locked, lock_holder
from minidocker.errors import MinidockerError
from minidocker.storage import containers


def sweep(host: Host, but: str = "") -> None:
    """Finish every container whose monitor is gone, and remove run directories that no record speaks of. `but` is our own id."""
    unfinished = [record.id for record in containers.unfinished(host.state)]
    for id in {*unfinished, *os.listdir(f"{host.run}/containers")}:
        if id != but and not lock_holder(f"{host.run_directory(id)}/lock"):
            _settle(host, id)
    for id, network in containers.half_connected(host.state):
        if not is_locked(host.moving(id)):
            from minidocker.engine import connection

            connection.undo(host, id, network)
    if host.state.row("SELECT 1 FROM volumes WHERE removing"):
        from minidocker.storage import volumes

        for trouble in volumes.settle(host.state, host.root):
            host.notice(f"removing a volume: {trouble}")
    _tend_dns(host)


def _tend_dns(host: Host) -> None:
    """Only where there is some: what is needed for it costs milliseconds to load."""
    if os.path.isdir(f"{host.run}/resolvers") and (names := os.listdir(f"{host.run}/resolvers")):
        for name in names:
            if not is_locked(f"{host.run}/resolvers/{name}") or not containers.is_lively(host.state, name):
                from minidocker.engine import resolver

                resolver.settle(host, name)


def look(host: Host) -> None:
    """`sweep` for commands that only look, or make room: what cannot be cleaned up now (the disk is full) does not keep them from it."""
    containers.unfinished(host.state)  # a state that cannot even be read is an error all the same
    try:
        sweep(host)
    except MinidockerError as error:
        host.notice(f"what a crash left could not be cleaned up: {error}")


def _settle(host: Host, id: str) -> None:
    """Finish one that seems abandoned, unless somebody else is faster. What is true is asked again once it is ours: its monitor may just
    have written down its end, which is not to be overwritten."""
    lock = host.claim(id)
    if lock < 0:
        return
    try:
        record = containers.get(host.state, id)
        if record is None or record.status in containers.AT_REST:
            host.drop_run_directory(id)
        else:
            _end(host, record)
    finally:
        os.close(lock)


def _end(host: Host, record: containers.Record) -> None:
    """Finish it, and have it started again where its policy says so; after the host went down that is `system boot`'s to do."""
    alive = record.boot == host.boot
    if record.status != containers.RESTARTING:
        _finish(host, record, by_policy=alive and record.status in (containers.RUNNING, containers.STARTING))
    elif record.stopped or not alive:
        containers.end_wait(host.state, record.id)
        host.drop_run_directory(record.id)
    if containers.waiting(host.state, record) is not None:
        from minidocker.engine import restarts

        host.drop_run_directory(record.id)
        restarts.resume(host, record.id)


def _finish(host: Host, record: containers.Record, by_policy: bool) -> None:
    from minidocker.engine import teardown  # with all of the network: only when there is something to do

    exit_code, finished = _noted_end(host.run_directory(record.id))
    unseen = "its monitor was killed" if record.boot == host.boot else "the host went down"
    error = "" if exit_code is not None else unseen
    for trouble in teardown.finish(host, record, exit_code, finished, error, by_policy):
        host.notice(f"cleaning up after `{record.name}`: {trouble}")


def _noted_end(directory: str) -> tuple[int | None, float]:
    """What the monitor noted of the end, when it was killed while it tidied up: (exit code, time)."""
    from minidocker.engine import monitor

    try:
        with open(f"{directory}/exit", "rb", buffering=0) as file:
            status, finished = file.read().split()
        return monitor.exit_code_of(int(status)), float(finished)
    except (FileNotFoundError, ValueError):
        return None, time.time()
