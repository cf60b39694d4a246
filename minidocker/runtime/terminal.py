"""A terminal of the container's own, for an init and an exec alike."""

from __future__ import annotations

import _struct as struct
import fcntl
import os

from minidocker.kernel import mounts as k
from minidocker.kernel.terminal import set_window_size
from minidocker.plan import CHILD, FILESYSTEM, At, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_TIOCSPTLCK = 0x40045431
_TIOCGPTPEER = 0x5441


class Terminal(Step):
    """A pseudo terminal from the container's own devpts; its master goes to the parent by `send`, its slave is 0, 1 and 2.

    The slave is opened through the master (TIOCGPTPEER), so no path of the container is trusted, and bound over /dev/console.
    """

    actor = CHILD
    title = FILESYSTEM
    why = "the terminal belongs to the container's own devpts"

    def __init__(self, send: Callable[[int], None], size: dict[str, int] | None, console: bool = True) -> None:
        self.send = send
        self.size = size
        if console:
            from minidocker.runtime.mounts import make_in_root  # an exec has none, and loads no mounts

            self.make = make_in_root
        self.console = console

    def shell(self) -> str:
        return "# (a terminal of its own: here the script's own is used)"

    def describe(self) -> str:
        return "open a terminal"

    def apply(self, at: At) -> None:
        master = k.open_in_root(at.root, "/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
        fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
        slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY)
        if self.size:
            set_window_size(slave, self.size["height"], self.size["width"])
        if self.console:
            console = self.make(at.root, "/dev/console", directory=False)
            tree = k.open_tree("", directory=slave)
            k.move_mount(tree, console)
            os.close(tree)
            os.close(console)
        self.send(master)
        os.close(master)
        for standard in (0, 1, 2):
            os.dup2(slave, standard)
        os.close(slave)
        fcntl.ioctl(0, 0x540E, 0)  # TIOCSCTTY: init leads a session (setsid) and this becomes its terminal
