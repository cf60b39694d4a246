"""The OCI command line's parser: what engines type, what people mistype, and anything at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import _prctl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidocker.cli import oci
from minidocker.cli.oci import commands, parse, report, usage
from minidocker.cli.oci.ending import signal_number
from minidocker.errors import MinidockerError, TargetNotExecutable, TargetNotFound, UsageError

REPOSITORY = Path(__file__).resolve().parents[2]


def test_what_conmon_types() -> None:
    call = parse.parse(["--root", "/r", "create", "--bundle", "/b", "--pid-file", "/p", "--console-socket", "/c", "--no-pivot", "ID"])
    assert (call.name, call.globals, call.arguments) == ("create", {"root": "/r"}, ["ID"])
    assert call.options == {"bundle": "/b", "pid_file": "/p", "console_socket": "/c", "no_pivot": True}
    call = parse.parse(["exec", "--pid-file", "/p", "--process", "/f", "--tty", "--detach", "ID"])
    assert call.options == {"pid_file": "/p", "process": "/f", "tty": True, "detach": True} and call.arguments == ["ID"]


def test_what_containerd_types() -> None:
    words = ["--root", "/r", "--log", "/l", "--log-format", "json", "--systemd-cgroup", "--rootless=true"]
    call = parse.parse([*words, "kill", "--all", "ID", "9"])
    assert call.globals == {"root": "/r", "log": "/l", "log_format": "json", "systemd_cgroup": True, "rootless": "true"}
    assert (call.flag("all"), call.arguments) == (True, ["ID", "9"])
    assert parse.parse(["update", "--resources=-", "ID"]).text("resources") == "-"
    assert parse.parse(["events", "--interval=5s", "ID"]).text("interval") == "5s"
    assert parse.parse(["ps", "--format", "json", "ID"]).arguments == ["ID"]


@pytest.mark.parametrize(
    ("words", "options", "arguments"),
    [
        (["delete", "-f", "ID"], {"force": True}, ["ID"]),
        (["delete", "ID", "--force"], {"force": True}, ["ID"]),
        (["delete", "--force=false", "ID"], {"force": False}, ["ID"]),
        (["delete", "--", "-f"], {}, ["-f"]),
        (["run", "-b/b", "ID"], None, None),
        (["run", "-b=/b", "ID"], {"bundle": "/b"}, ["ID"]),
        (["run", "--bundle=/b=c", "ID"], {"bundle": "/b=c"}, ["ID"]),
        (["exec", "-dt", "ID", "ls", "-l", "--", "x"], {"detach": True, "tty": True}, ["ID", "ls", "-l", "--", "x"]),
        (["exec", "ID", "--", "ls", "-l"], {}, ["ID", "ls", "-l"]),
        (["exec", "-e", "A=1", "--env=B=2", "ID", "env"], {"env": ["A=1", "B=2"]}, ["ID", "env"]),
        (["ps", "ID", "-ef"], {}, ["ID", "-ef"]),
        (["list", "-q"], {"quiet": True}, []),
    ],
)
def test_spellings(words: list[str], options: dict[str, object] | None, arguments: list[str] | None) -> None:
    if options is None:
        with pytest.raises(UsageError):
            parse.parse(words)
        return
    call = parse.parse(words)
    assert (call.options, call.arguments) == (options, arguments)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["crate", "x"], "did you mean `create`"),
        (["--rooot", "/x", "list"], "did you mean `--root`"),
        (["create"], "the id of a container is missing"),
        (["start", "a", "b"], "`b` is one argument too many"),
        (["create", "--bundle"], "--bundle needs a value"),
        (["delete", "--force=maybe", "x"], "neither true nor false"),
        (["kill", "-9", "x"], "unknown option `-9`"),
        (["run", "--deatch", "x"], "did you mean `--detach`"),
    ],
)
def test_what_is_mistyped_is_told_and_what_was_meant(words: list[str], part: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse.parse(words)
    assert part in f"{caught.value.message} ({caught.value.hint})"


@pytest.mark.parametrize(
    ("words", "mode"), [("--rootless", "true"), ("--rootless auto", "auto"), ("--rootless=auto", "auto"), ("--rootless false", "false")]
)
def test_the_mode_of_rootless_may_be_left_out_or_follow(words: str, mode: str) -> None:
    call = parse.parse([*words.split(), "list"])
    assert (call.name, call.globals) == ("list", {"rootless": mode})


def test_a_number_is_a_whole_one() -> None:
    assert parse.parse(["run", "--preserve-fds", "3", "x"]).number("preserve_fds") == 3
    assert parse.parse(["update", "--memory", "-1", "x"]).number("memory") == -1
    assert parse.parse(["run", "x"]).number("preserve_fds") is None
    for value in ("", "three", "1.5", "1e3", "0x10", "٣", "-", "9" * 30):
        with pytest.raises(UsageError):
            parse.parse(["run", "--preserve-fds", value, "x"]).number("preserve_fds")


def test_every_option_has_a_text_and_no_name_twice() -> None:
    for name, command in {"": None, **commands.COMMANDS}.items():
        text = command.options if command else commands.GLOBAL
        names = [word.rstrip(",") for line in text.splitlines() for word in line.partition("  ")[0].split() if word[0] == "-"]
        assert len(names) == len(set(names)), name
        assert all(line.partition("  ")[2].strip() for line in text.splitlines() if line), name


def test_every_command_has_its_function() -> None:
    for name in commands.COMMANDS:
        assert callable(oci._function(parse.Call(name, {}, {}, []))), name


def test_help_and_version(capfd: pytest.CaptureFixture[str]) -> None:
    assert oci.main(["--version"]) == 0
    said = capfd.readouterr().out.splitlines()
    assert said[0].startswith("minidocker-oci version ") and said[1].startswith("spec: 1.")
    assert oci.main(["--help"]) == 0 and oci.main([]) == 1
    for name, command in commands.COMMANDS.items():
        assert oci.main([name, "--help"]) == 0
        text = capfd.readouterr().out
        assert command.summary in text and all(option.spelling in text for option in parse.table(command.options).values())


_WORDS = st.one_of(
    st.sampled_from([*commands.COMMANDS, *parse.table(commands.GLOBAL), "--", "-", "", "--x=", "-abc", "--help", "ID", "=", "--rootless"]),
    st.sampled_from([name for command in commands.COMMANDS.values() for name in parse.table(command.options)]),
    st.text(max_size=8),
)


@given(st.lists(_WORDS, max_size=8))
def test_anything_at_all_is_a_call_or_a_usage_error(words: list[str]) -> None:
    try:
        call = parse.parse(words)
    except UsageError as error:
        assert error.message
        return
    assert call.name in ("", *commands.COMMANDS)
    if call.name and not call.options.get("help"):
        command = commands.COMMANDS[call.name]
        assert len(call.arguments) >= command.least and (command.most < 0 or len(call.arguments) <= command.most)


@given(st.text(max_size=10))
def test_a_signal_is_a_number_up_to_64_or_an_error(name: str) -> None:
    try:
        assert 0 <= signal_number(name) <= 64
    except UsageError as error:
        assert "is not a signal" in error.message


@pytest.mark.parametrize(
    ("name", "number"), [("TERM", 15), ("SIGTERM", 15), ("sigkill", 9), ("9", 9), ("RTMIN+3", 37), ("SIGRTMAX", 64), ("0", 0)]
)
def test_signals(name: str, number: int) -> None:
    assert signal_number(name) == number


@pytest.mark.parametrize("name", ["", "65", "-1", "DFL", "_DFL", "SIG", "TERM+1", "RTMIN+99", "BLOCK", "_BLOCK", "SIG_IGN", "1.0", "²"])
def test_what_is_no_signal(name: str) -> None:
    with pytest.raises(UsageError):
        signal_number(name)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TargetNotFound("`x` is not found in the container"), "executable file not found in $PATH"),
        (TargetNotFound("`/x` does not exist in the container"), "no such file or directory"),
        (TargetNotExecutable("`/x` is not executable"), "permission denied"),
        (TargetNotExecutable("`/x` is a directory, not a program"), "permission denied"),
    ],
)
def test_engines_find_the_words_for_126_and_127(error: MinidockerError, words: str, capfd: pytest.CaptureFixture[str]) -> None:
    """podman: (?i)executable file not found in|no such file or directory, permission denied; docker the same, in lower case."""
    report.failure(error)
    assert f"{error.message}: {words}" in capfd.readouterr().err


SCRIPT = """
import os, sys  # the interpreter's door loads os in any case
sys.path[:0] = [sys.argv.pop(1)]
from minidocker import imports
imports.shorten()
before = set(sys.modules)
from minidocker.cli.oci import parse, report
parse.parse(sys.argv[1:])
print("\\n".join(set(sys.modules) - before))
"""


def test_parsing_loads_hardly_anything() -> None:
    """Under 3 ms with what it imports (1 ms on the machine this was written on); time is not asserted, what takes it is."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", SCRIPT, str(REPOSITORY), "--root", "/r", "create", "--bundle", "/b", "ID"],
        capture_output=True, text=True, env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 0 and done.stderr == ""
    own = {"minidocker.cli", "minidocker.cli.output", "minidocker.errors", "minidocker.cli.oci", "minidocker.cli.oci.commands",
           "minidocker.cli.oci.parse", "minidocker.cli.oci.report"}  # fmt: skip
    assert set(done.stdout.split()) <= own


LOADING = """
import os, sys
sys.path[:0] = [sys.argv[1], sys.argv[2]]
from minidocker import imports
imports.shorten()
before = set(sys.modules)
__import__("minidocker.cli.oci." + sys.argv[3])
print("\\n".join(set(sys.modules) - before))
"""
SMALL = {"starting", "listing", "ending"}  # asked at every turn: no ctypes, no plan, nothing of what makes a container


@pytest.mark.parametrize("module", ["starting", "listing", "ending", "lifecycle", "execute"])
def test_what_engines_call_all_the_time_loads_nothing_costly(module: str) -> None:
    dependencies = str(Path(_prctl.__file__).parent)
    words = [sys.executable, "-I", "-S", "-c", LOADING, str(REPOSITORY), dependencies, module]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    loaded = set(done.stdout.split())
    assert not loaded & {"json", "re", "enum", "typing", "subprocess", "click", "ctypes", "signal", "socket", "select.epoll", "logging"}
    assert not [name for name in loaded if name.startswith(("minidocker.engine", "minidocker.network", "minidocker.storage"))]
    if module in SMALL:
        assert not loaded & {"_ctypes", "_prctl", "minidocker.plan", "minidocker.runtime.container", "minidocker.kernel.cgroups"}


def test_usage_shows_all_commands(capfd: pytest.CaptureFixture[str]) -> None:
    assert usage.show(parse.Call("", {"help": True}, {}, [])) == 0
    text = capfd.readouterr().out
    assert all(f"\n  {name} " in text for name in commands.COMMANDS)
