"""Kernel settings of networks as steps."""

from __future__ import annotations

import os

from minidocker.kernel.sysctl import write
from minidocker.plan import NETWORK, At, Step


class Set(Step):
    """Set `name` to `value`, of a link that is ours and takes the setting with it. `optional`: a kernel without it needs it not."""

    title = NETWORK

    def __init__(self, name: str, value: str, why: str, optional: bool = False) -> None:
        self.name = name
        self.value = value
        self.why = why
        self.optional = optional

    def shell(self) -> str:
        return f"sysctl -q -w {self.name}={self.value}"

    def apply(self, at: At) -> None:
        if not self.optional or os.path.exists(f"/proc/sys/{self.name}"):
            write(self.name, self.value)
