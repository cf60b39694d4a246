"""One parsed command line: which command, with which options and arguments. What hot.py and app.py both make."""

from __future__ import annotations

import os

from minidocker.cli import output
from minidocker.errors import MinidockerError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minidocker.cli.options import Command
    from minidocker.engine.host import Host
    from minidocker.plan import Plan, Tell

DEFAULT_ROOT = "/var/lib/minidocker"


def silent(make: Callable[[], Plan], pid: int = 0) -> None:
    """Nobody has asked to be told: what would be told is not even made. (plan.py's, which this must not load.)"""


class Call:
    """`given` holds only the options that were given, by key: True, a str, or a list of str (see options.py)."""

    __slots__ = ("arguments", "command", "debug", "given", "root")

    def __init__(
        self,
        command: Command,
        given: dict[str, bool | str | list[str]],
        arguments: list[str],
        root: str | None = None,
        debug: bool = False,
    ) -> None:
        self.command = command
        self.given = given
        self.arguments = arguments
        self.root = root
        self.debug = debug

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Call) and all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Call({self.command.name!r}, {self.given!r}, {self.arguments!r}, root={self.root!r}, debug={self.debug!r})"

    def flag(self, key: str) -> bool:
        """Whether the flag was given."""
        return self.given.get(key) is True

    def text(self, key: str) -> str | None:
        """The value of an option that takes one; None when it was not given."""
        value = self.given.get(key)
        return value if isinstance(value, str) else None

    def list(self, key: str) -> list[str]:
        """The values of a repeatable option, in order."""
        value = self.given.get(key)
        return value if isinstance(value, list) else []

    def teller(self) -> Tell:
        """Whom the engine tells what it is about to do: with --explain the reader of stderr."""
        def tell(make: Callable[[], Plan], pid: int = 0) -> None:
            output.explain(make().explain(pid) or "# nothing is changed in the kernel\n")

        return tell if self.flag("explain") else silent

    def root_directory(self) -> str:
        """The data root: --root, else MINIDOCKER_ROOT, else /var/lib/minidocker; absolute. Raises UsageError when empty."""
        root = self.root if self.root is not None else os.environ.get("MINIDOCKER_ROOT") or DEFAULT_ROOT
        if not root:
            raise UsageError("--root is empty", "give a directory, as in --root /var/lib/minidocker")
        return os.path.abspath(root)

    def host(self) -> Host:
        """The engine's Host for this data root. Raises MinidockerError when this user may not."""
        root = self.root_directory()
        if self.command.root and os.geteuid() != 0:
            raise MinidockerError(f"`minidocker {self.command.name}` must be run as root", "use sudo")
        from minidocker.engine.host import Host

        return Host(root, output.notice)
