"""The Python API without an engine: what importing it costs, and keyword arguments as options."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest

import minidocker
from minidocker.api import calling
from minidocker.api import options as keywords
from minidocker.api.calling import _raise
from minidocker.cli import options
from minidocker.cli.options_life import CREATE
from minidocker.cli.options_networks import NETWORK_CONNECT, NETWORK_CREATE
from minidocker.errors import KernelError, MinidockerError, NotFoundError, UsageError

REPOSITORY = Path(__file__).resolve().parents[2]


def test_importing_it_loads_nothing_but_itself() -> None:
    program = "import sys; before = set(sys.modules); import minidocker; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY, check=True)
    assert done.stdout == "['minidocker']\n"


def test_what_it_offers_is_there_when_it_is_asked_for() -> None:
    assert {name: callable(getattr(minidocker, name)) for name in ("run", "Client", "Container", "Network", "Result", "Notice")}
    assert minidocker.containers is not None and minidocker.networks is not None
    program = "import minidocker; print(minidocker.errors.NotFoundError.exit_code)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY).stdout == "1\n"
    with pytest.raises(AttributeError, match="`nonsense`"):
        minidocker.nonsense  # noqa: B018
    assert (Path(minidocker.__file__).parent / "py.typed").exists()  # PEP 561


def test_keyword_arguments_are_the_command_line_s_options() -> None:
    found = keywords.given(
        options.RUN,
        {
            "net": ["a", "b"], "env": {"A": 1, "B": None}, "publish": {8080: 80}, "memory": "64m", "cpus": 0.5, "rm": True,
            "read_only": False, "volume": "/a:/b", "user": 1000, "hostname": None, "label": ("x=1",), "network_alias": "db",
            "add_host": {"one": "10.0.0.1"},
        },
    )  # fmt: skip
    assert found == {
        "network": ["a", "b"], "env": ["A=1", "B"], "publish": ["8080:80"], "memory": "64m", "cpus": "0.5", "rm": True, "volume": ["/a:/b"],
        "user": "1000", "label": ["x=1"], "network_alias": ["db"], "add_host": ["one:10.0.0.1"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "message", "hint"),
    [
        ({"memry": "1m"}, "unknown option `memry`", "did you mean `memory`?"),
        ({"explain": True}, "unknown option `explain`", "see `minidocker run --help`"),
        ({"net": "a", "network": "b"}, "`network` is given twice, by two of its names", "leave one out"),
        ({"rm": "yes"}, "`rm` is a flag, and 'yes' is neither True nor False", ""),
        ({"memory": True}, "`memory`: True is neither text nor a number", ""),
        ({"env": [b"A=1"]}, "`env`: b'A=1' is neither text nor a number", ""),
        ({"cap_add": {"a": 1}}, "`cap_add` takes no pairs", "a list, as for --cap-add CAP"),
    ],
)
def test_what_is_no_option_is_refused(given: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        keywords.given(options.RUN, given)
    assert (caught.value.message, caught.value.hint) == (message, hint)


@pytest.mark.parametrize(
    ("typed", "command"),
    [(keywords.CreateOptions, options.RUN), (keywords.CreateOptions, CREATE), (keywords.ExecOptions, options.EXEC),
     (keywords.NetworkOptions, NETWORK_CREATE), (keywords.ConnectOptions, NETWORK_CONNECT)],
)  # fmt: skip
def test_what_type_checkers_are_told_is_what_the_table_has(typed: Any, command: options.Command) -> None:
    by_kind = {options.FLAG: keywords.Flag, options.VALUE: keywords.Value, options.LIST: keywords.Many}
    table = {name[2:].replace("-", "_"): by_kind[option.kind] for option in command.options for name in option.names}
    told = typing.get_type_hints(typed)
    for name, type_ in told.items():
        assert table[name] == type_, name
    # `detach` and `input`, which is `interactive`, are parameters of their own; the others mean nothing to a program
    assert {option.key for option in command.options} - set(told) <= {"detach", "interactive", "detach_keys", "dry_run", "explain"}


def test_errors_come_back_as_they_were_raised() -> None:
    for error in (NotFoundError("no such container: x", "look"), KernelError("mount `a`", 13, "detail", "hint"), MinidockerError("m")):
        with pytest.raises(type(error)) as caught:
            _raise({"class": type(error).__name__, "exit_code": error.exit_code, **vars(error)})
        assert type(caught.value) is type(error) and vars(caught.value) == {**vars(error), "exit_code": error.exit_code}
        assert str(caught.value) == str(error)


def test_a_command_that_a_shell_would_have_to_split_is_refused() -> None:
    for command, message in (("echo a", "the command is a string"), ([], "the command is empty")):
        with pytest.raises(UsageError, match=message):
            minidocker.run(command, net="none")
    with pytest.raises(UsageError, match="needs somebody who waits"):
        minidocker.run(["cat"], detach=True, input="x")  # type: ignore[call-overload]


def test_a_helper_whose_caller_is_gone_before_it_said_go_does_nothing(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    request = os.memfd_create("request")
    asked = {"do": "ps", "root": str(tmp_path / "root"), "caller": 1, "arguments": [], "given": {}, "extra": {"all": True, "filters": []}}
    os.write(request, json.dumps(asked).encode())
    with open(os.devnull) as null:
        pid = calling.spawn("minidocker.api.serving", "serve", (null.fileno(), null.fileno(), null.fileno(), request, theirs.fileno()))
    theirs.close()
    os.close(request)
    ours.close()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    assert not (tmp_path / "root").exists()
