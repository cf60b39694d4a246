"""The command line of a light interpreter of ours: what a detached monitor and a network's DNS are."""

from __future__ import annotations

import os
import sys


def command(*imports: str) -> list[str]:
    """An interpreter that calls a function with the rest of its arguments: module, function, arguments. `imports` are directories to
    import from besides ours. -S: no site, 3 ms and 1 MB."""
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    code = (
        f"import sys; sys.path += {[package, *imports]!r}; "
        "module = __import__(sys.argv[1], fromlist=['_']); getattr(module, sys.argv[2])(sys.argv[3:])"
    )
    return [sys.executable, "-I", "-S", "-c", code]


def prctl() -> str:
    """The directory that python-prctl is imported from."""
    import _prctl

    return os.path.dirname(str(_prctl.__file__))
