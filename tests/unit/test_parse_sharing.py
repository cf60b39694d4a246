"""spec/parse_sharing.py: devices, kernel settings, groups, namespaces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidocker.errors import UsageError
from minidocker.spec import parse_sharing as parse


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("/dev/a", ("/dev/a", "/dev/a", "rwm")), ("/dev/a:/dev/b", ("/dev/a", "/dev/b", "rwm")), ("/dev/a:r", ("/dev/a", "/dev/a", "r")),
        ("/dev/a:/dev/b:rw", ("/dev/a", "/dev/b", "rw")), ("/dev/../dev/a:/x/../dev/b:m", ("/dev/a", "/dev/b", "m")),
    ],
)  # fmt: skip
def test_devices(text: str, made: tuple[str, str, str]) -> None:
    assert parse.device(text) == made


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("c 1:3 rwm", {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"}),
        ("b 8:* r", {"allow": True, "type": "b", "major": 8, "access": "r"}), ("a *:* rwm", {"allow": True, "type": "a", "access": "rwm"}),
    ],
)  # fmt: skip
def test_device_rules(text: str, made: dict[str, Any]) -> None:
    assert parse.device_rule(text) == made


def test_settings() -> None:
    for text in ("net.core.somaxconn=9", "kernel.shmmax=1", "fs.mqueue.msg_max=5", "kernel.sem=1 2 3 4", "net/ipv4/conf/a.b/forwarding=1"):
        assert "=".join(parse.sysctl(text)) == text
    parse.namespaces_agree({"net.core.somaxconn": "9", "kernel.shmmax": "1"}, "", "none")
    for ipc, network, said in (("", "host", "--net host: it is the host's"), ("", "container:a", "it is that container's"),
                               ("host", "", "--ipc host"), ("container:a", "", "--ipc container:a")):  # fmt: skip
        with pytest.raises(UsageError, match=said):
            parse.namespaces_agree({"net.core.somaxconn": "9"} if network else {"kernel.shmmax": "1"}, ipc, network)


@pytest.mark.parametrize(
    ("function", "texts"),
    [
        (parse.device, ["", "dev/a", "/dev/a:b", "/dev/a:/b:x", "/dev/a:/b:rr", "/dev/a:/b:", "/a:/b:r:w", "/dev/a:/", "/dev/a\0"]),
        (parse.device_rule, ["", "c 1:3", "x 1:3 r", "c 1 r", "c 1:3 q", "c -1:3 r", "c 9999:1 r", "c 1:9999999 r"]),
        (parse.sysctl, ["", "net", "net.a", "net.a=", "=1", "vm.swappiness=1", "kernel.hostname=a", "kernel.panic=1", "user.max_x=1",
                        "net/../vm/swappiness=1", "net..a=1", "net.a=1\n2"]),
        (parse.group, ["", "a b", "a:b", "-1", "../x", "a,b"]), (parse.oom_score, ["", "x", "1001", "-1001", "--5", "1.5"]),
        (lambda text: parse.namespace("--ipc", text), ["shared", "container:", "container:../x", "Host"]),
    ],
    ids=["device", "rule", "sysctl", "group", "score", "namespace"],
)  # fmt: skip
def test_what_is_refused(function: Callable[[str], object], texts: list[str]) -> None:
    for text in texts:
        with pytest.raises(UsageError, match="--"):
            function(text)


def test_scores_groups_and_namespaces() -> None:
    assert [parse.oom_score(text) for text in ("0", "-1000", "1000")] == [0, -1000, 1000]
    assert (parse.group("video"), parse.group("44")) == ("video", "44")
    assert [parse.namespace("--pid", text) for text in ("private", "", "host", "container:a")] == ["", "", "host", "container:a"]


@given(st.text(max_size=30))
def test_any_text_is_taken_or_refused(text: str) -> None:
    functions: tuple[Callable[[str], object], ...] = (
        parse.device, parse.device_rule, parse.sysctl, parse.group, parse.oom_score, lambda text: parse.namespace("--pid", text)
    )  # fmt: skip
    for function in functions:
        try:
            function(text)
        except UsageError:
            continue
