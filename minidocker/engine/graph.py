"""network graph: the records' names on what the kernel has; once, or again whenever a link changes."""

from __future__ import annotations

import os
import select
import time

from minidocker.engine import reconcile
from minidocker.engine.host import Host
from minidocker.errors import KernelError, MinidockerError, UnsupportedError
from minidocker.kernel import routes
from minidocker.kernel.netlink import Socket
from minidocker.network import graph_text, topology
from minidocker.storage import containers, networks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from minidocker.network.graph_text import Rates
    from minidocker.network.topology import Topology

REFRESH = 1.0  # seconds between two looks where nothing changes
_RSVG = "rsvg-convert"


def look(host: Host, references: Sequence[str]) -> Topology:
    """What there is; of the networks named alone, where any is."""
    reconcile.look(host)
    return _read(host, references)


def _read(host: Host, references: Sequence[str]) -> Topology:
    names = [networks.find(host.state, reference).name for reference in references]
    running = {record.id for record in containers.every(host.state) if record.status == containers.RUNNING}
    joined = [endpoint for id, places in containers.endpoints(host.state).items() if id in running for endpoint in places]
    return topology.read(networks.every(host.state), joined, host.tag, names)


def live(host: Host, references: Sequence[str]) -> Iterator[tuple[Topology, Rates]]:
    """The same for ever, each time with what links carried since the last: at once when a link comes, goes or changes, else once a
    second."""
    reconcile.look(host)
    with Socket() as news, Socket() as netlink:
        news.join(routes.RTNLGRP_LINK)
        before, then = routes.counters(netlink), time.monotonic()
        rates: Rates = {}
        while True:
            yield _read(host, references), rates
            select.select([news.fileno()], [], [], REFRESH)
            list(news.told())
            now, moment = routes.counters(netlink), time.monotonic()
            if moment - then >= REFRESH / 2:  # of a shorter time a rate says little
                rates, before, then = graph_text.rates(before, now, moment - then), now, moment


def png(svg: str) -> bytes:
    """The picture in pixels, by librsvg's program. Raises UnsupportedError where there is none."""
    program = next((path for path in (f"{directory}/{_RSVG}" for directory in os.environ.get("PATH", "").split(":"))
                    if path.startswith("/") and os.access(path, os.X_OK)), "")  # fmt: skip
    if not program:
        raise UnsupportedError(f"a PNG needs the program `{_RSVG}`", "apt-get install librsvg2-bin; or --format svg, which needs nothing")
    given, made = (os.memfd_create(name, os.MFD_CLOEXEC) for name in ("svg", "png"))
    try:
        with open(given, "wb", closefd=False) as file:
            file.write(svg.encode())
        os.lseek(given, 0, os.SEEK_SET)
        pid = os.posix_spawn(program, [_RSVG, "-f", "png"], os.environ, file_actions=[
            (os.POSIX_SPAWN_DUP2, given, 0), (os.POSIX_SPAWN_DUP2, made, 1)])  # fmt: skip
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0:
            raise MinidockerError(f"`{_RSVG}` did not draw the picture", "its complaint stands above; --format svg needs no other program")
        return os.pread(made, os.fstat(made).st_size, 0)
    except OSError as error:
        raise KernelError.of(f"run `{program}`", error) from error
    finally:
        os.close(given)
        os.close(made)
