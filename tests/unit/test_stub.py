"""runtime/stub.py: who could look at our interpreter, and so gets it read-only (CVE-2019-5736)."""

from __future__ import annotations

from typing import Any

import pytest

from minidocker.runtime import stub

NEW, JOINED, OWN_USERS = {"type": "pid"}, {"type": "pid", "path": "/proc/1/ns/pid"}, {"type": "user"}


@pytest.mark.parametrize(
    ("namespaces", "bounding", "created", "joined"),
    [
        ([NEW], [], False, False),
        ([NEW], ["CAP_SYS_PTRACE"], False, True),
        ([JOINED], [], True, True),  # a neighbour of the pod may have it, whatever this one has
        ([JOINED], ["CAP_SYS_PTRACE"], True, True),
        ([JOINED, OWN_USERS], ["CAP_SYS_PTRACE"], False, False),
    ],
)
def test_whoever_may_be_traced_in_there_goes_in_read_only(
    namespaces: list[dict[str, str]], bounding: list[str], created: bool, joined: bool
) -> None:
    spec: dict[str, Any] = {"linux": {"namespaces": namespaces}, "process": {"capabilities": {"bounding": bounding}}}
    assert (stub.sees_us(spec, joins=False), stub.sees_us(spec, joins=True)) == (created, joined)
