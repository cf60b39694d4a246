"""create: a container that is not started yet. It is a record, with its name, addresses and ports kept for it, and a directory for its
files; the kernel hears of it at its start (launch.py)."""

from __future__ import annotations

from minidocker.engine import idfiles, launch, reconcile
from minidocker.engine.host import Host
from minidocker.engine.prepare import Prepared, new_id
from minidocker.plan import At
from minidocker.spec.request import RunRequest
from minidocker.storage import containers, rootfs


def create(host: Host, request: RunRequest) -> str:
    """Returns its id. All that `run` refuses is refused here, before anything is written."""
    reconcile.sweep(host)
    prepared = Prepared(host, request, new_id())
    launch.register(host, prepared, containers.CREATED)
    try:
        rootfs.make_layers(host.data_directory(prepared.id))  # what is copied into it before its first start is put there
        if request.cidfile:
            idfiles.WriteId(request.cidfile, prepared.id).apply(At())
    except BaseException:
        containers.delete(host.state, prepared.id)
        rootfs.remove_tree(host.data_directory(prepared.id))
        raise
    return prepared.id
