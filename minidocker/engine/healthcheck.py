"""One look at a container's health: its command in the container, as `exec` does it, and what the container is after it in its record."""

from __future__ import annotations

import os
import select
import time

from minidocker.engine import execute
from minidocker.engine.host import Host
from minidocker.engine.monitor import exit_code_of
from minidocker.errors import MinidockerError
from minidocker.kernel import process
from minidocker.spec import fastjson, health
from minidocker.spec.request import ExecRequest
from minidocker.storage import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SIGKILL = 9


def probe(arguments: list[str]) -> None:
    """What the monitor starts at each beat of its pulse: data root, id."""
    root, id = arguments
    try:
        look(Host(root, lambda text: None), id)
    finally:
        os._exit(0)


def look(host: Host, id: str) -> None:
    """Look once. A paused container is left as it is, and what ends meanwhile keeps what it was."""
    record = containers.get(host.state, id)
    if record is None or record.status != containers.RUNNING or host.is_paused(id):
        return
    asked = record.request.health
    start = time.time()
    try:
        code, output = _run(host, record, asked)
    except MinidockerError as error:
        code, output = health.NO_CODE, error.message
    seen = {"start": start, "end": time.time(), "code": code, "output": output}
    before: dict[str, Any] = fastjson.loads(record.health) if record.health else health.beginning()
    after = health.judged(before, seen, asked, record.started)
    if containers.set_health(host.state, record, after) and after["status"] != before["status"]:
        host.event("container", f"health_status: {after['status']}", record.id, record.name, **record.request.labels)


def _run(host: Host, record: containers.Record, asked: dict[str, Any]) -> tuple[int, str]:
    """(exit code, what it said on both streams), of one that takes too long NO_CODE."""
    reading, writing = os.pipe()
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    entry = execute.enter(host, record, ExecRequest(record.id, ["/bin/sh", "-c", asked["command"]]), (null, writing, writing))
    entry.run()
    os.close(writing)
    os.set_blocking(reading, False)
    deadline = time.monotonic() + asked["timeout"]
    said = b""
    poll = select.poll()
    for descriptor in (entry.pidfd, reading):
        poll.register(descriptor, select.POLLIN)
    while (left := deadline - time.monotonic()) > 0:
        ready = dict(poll.poll(left * 1000))
        if reading in ready and not (more := _read(reading)):
            poll.unregister(reading)
        elif reading in ready:
            said = (said + more)[: health.MOST_OUTPUT]
        if entry.pidfd in ready:
            said = (said + _read(reading))[: health.MOST_OUTPUT]
            return exit_code_of(os.waitpid(entry.pid, 0)[1]), said.decode(errors="replace")
    process.pidfd_send_signal(entry.pidfd, _SIGKILL)
    os.waitpid(entry.pid, 0)
    return health.NO_CODE, f"the health check took longer than {asked['timeout']:g} s"


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except BlockingIOError:
        return b""
