"""What mends a finding by netlink: `--fix` applies what a finding says is to be typed."""

from __future__ import annotations

import os

from minidocker.kernel.netlink import Socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from minidocker.kernel.netlink import Message


class Mend:
    """Messages to the kernel, in the network namespace of process `pid` (0: here)."""

    __slots__ = ("messages", "pid")

    def __init__(self, pid: int, messages: Sequence[Message]) -> None:
        self.pid = pid
        self.messages = messages

    def __call__(self) -> None:
        """Raises KernelError; FileNotFoundError where the container has ended."""
        if not self.pid:
            with Socket() as netlink:
                netlink.batch(self.messages)
            return
        netns = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            with Socket(netns) as netlink:
                netlink.batch(self.messages)
        finally:
            os.close(netns)
