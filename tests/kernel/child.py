"""Run a function in a forked child and return what it returned; what it raises fails the test, with its text."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any


def outcome(function: Callable[[], Any]) -> tuple[Any, int]:
    """(what `function` returned or None, the wait status as exit code; -n when signal n killed it)."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reader)
            os.write(writer, json.dumps(function()).encode())
            status = 0
        except BaseException as error:
            os.write(writer, json.dumps(f"{type(error).__name__}: {error}").encode())
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader, "rb") as file:
        text = file.read()
    _, status = os.waitpid(pid, 0)
    return json.loads(text or "null"), os.waitstatus_to_exitcode(status)


def in_child(function: Callable[[], Any]) -> Any:
    value, status = outcome(function)
    assert status == 0, (status, value)
    return value


def attempt(function: Callable[..., Any], *arguments: Any) -> int:
    """0, or the errno it failed with."""
    try:
        function(*arguments)
    except OSError as error:
        return error.errno or -1
    return 0
