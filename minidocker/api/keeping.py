"""What a test process has made goes with it, however it ends: a label on each container and network, and a watcher.

    test process ── makes containers and networks, labelled with OWNER: its pid, start time, PID namespace and boot
         │ pidfd
    watcher ─────── waits for its end, then removes what has that label; in a session of its own, so that no Ctrl-C ends it

Where the watcher was killed as well, whoever comes next removes what is labelled with an owner that is no more (`sweep`).
"""

from __future__ import annotations

import functools
import os
import select
import signal
import sys
import time

from minidocker.api import calling
from minidocker.engine import lifecycle, networks, reconcile
from minidocker.engine.host import Host
from minidocker.errors import MinidockerError, NotFoundError
from minidocker.storage import containers
from minidocker.storage import networks as records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

LABEL = "minidocker.pytest"
_PIDFD = 3
# A container may be half made when its test process ends: it is looked for until so many looks in a row have found nothing.
_LOOKS, _PAUSE = 3, 0.3


def owner(pid: int = 0) -> str:
    """PID:START:NAMESPACE:BOOT of a living process, of this one by default: no other has ever had the same. Raises FileNotFoundError and
    ProcessLookupError when it is no more (proc(5): starttime is the 20th field after the name)."""
    pid = pid or os.getpid()
    with open(f"/proc/{pid}/stat", "rb") as file:
        start = file.read().rpartition(b")")[2].split()[19].decode()
    with open("/proc/sys/kernel/random/boot_id") as text:
        boot = text.read().strip()
    return f"{pid}:{start}:{_pid_namespace()}:{boot}"


def _pid_namespace() -> int:
    return os.stat("/proc/self/ns/pid").st_ino


def is_over(label: str) -> bool:
    """Whether the process that a label speaks of has ended. Of another PID namespace under this boot nothing can be said."""
    pid, _, rest = label.partition(":")
    _, namespace, boot = rest.split(":")
    with open("/proc/sys/kernel/random/boot_id") as text:
        if boot != text.read().strip():
            return True
    if namespace != str(_pid_namespace()):
        return False
    try:
        return owner(int(pid)) != label
    except (FileNotFoundError, ProcessLookupError):
        return True


def sweep(host: Host, own: str = "") -> int:
    """Remove all containers, then all networks, whose owner has ended, and those of `own`; returns how many."""
    reconcile.look(host)
    count = 0
    for record in containers.every(host.state):
        if _goes(record.request.labels, own):
            count += _removed(functools.partial(lifecycle.remove, host, record.id, True, volumes=True))
    for network in records.every(host.state):
        if _goes(network.labels, own):
            count += _removed(functools.partial(networks.remove, host, network.name))
    return count


def _goes(labels: dict[str, str], own: str) -> bool:
    label = labels.get(LABEL)
    return label is not None and label.count(":") == 3 and (label == own or is_over(label))


def _removed(remove: Callable[[], None]) -> int:
    try:
        remove()
    except NotFoundError:
        return 0  # somebody else was faster
    return 1


def start_watcher(root: str) -> None:
    """Fork off who removes what this process has made on the data root `root`, once it has ended."""
    this = os.pidfd_open(os.getpid())
    null = os.open("/dev/null", os.O_RDWR)
    try:
        calling.spawn("minidocker.api.keeping", "watch", (null, null, null, this), (root, owner()))
    finally:
        os.close(this)
        os.close(null)


def watch() -> NoReturn:
    """The watcher's whole life: argv has the data root and the label."""
    root, own = sys.argv[1:]
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # whoever ends all of a job's processes ends the tests among them, and then it is time
    poll = select.poll()
    poll.register(_PIDFD, select.POLLIN)
    poll.poll()
    host = Host(root, lambda text: None)
    quiet = 0
    while quiet < _LOOKS:
        try:
            quiet = 0 if sweep(host, own) else quiet + 1
        except MinidockerError:
            quiet += 1  # what it is shows when somebody uses minidocker next: here is nobody to tell
        time.sleep(_PAUSE)
    os._exit(0)
