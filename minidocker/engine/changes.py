"""diff: what a container has changed in its file system."""

from __future__ import annotations

import os

from minidocker.engine import reconcile
from minidocker.engine.host import Host
from minidocker.spec.request import RunRequest
from minidocker.storage import changes, containers, rootfs

# What every container gets mounted (spec/config.py, namefiles.py).
_POINTS = ("/proc", "/dev", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf")


def diff(host: Host, reference: str) -> list[tuple[str, str]]:
    """(A, C or D, path) of what was added, changed and deleted since it was made, in its layer over --rootfs, or over the tree under the
    host's programs. What is in volumes and other mounts is not the container's, and no part of it."""
    reconcile.look(host)
    record = containers.find(host.state, reference)
    directory = host.data_directory(record.id)
    request = record.request
    view = rootfs.directory_view(request.rootfs, directory) if request.rootfs else rootfs.host_view(host.root, directory)
    if not os.path.isdir(f"{directory}/upper"):
        return []
    points = [str(entry["destination"]) for entry in view.mounts[1:]] + _places(request)
    return changes.between(f"{directory}/upper", view.lower, frozenset([*points, *map(view.inside, points)]))


def _places(request: RunRequest) -> list[str]:
    places = [*_POINTS, *(volume[1] for volume in request.volumes), *(tmpfs[0] for tmpfs in request.tmpfs)]
    places += [mount[2] for mount in request.mounts]
    if request.directory:  # COMMAND is a file of the host's, bound at its own path
        places.append(os.path.normpath(os.path.join(request.directory, request.command[0])))
    return places
