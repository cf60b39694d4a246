"""What a start loads: a fresh interpreter, the real command line, an engine that only notes it was called (DESIGN.md, law 8)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

# The interpreter as the launcher starts it; modules that are compiled into it cost nothing to import.
SCRIPT = """
import sys
sys.path.append(sys.argv.pop(1))
before = set(sys.modules)
import os
def called(*arguments):
    loaded = sorted(set(sys.modules) - before - set(sys.builtin_module_names) - FAKES)
    os.write(1, " ".join(loaded).encode())
    os._exit(0)
MODULE = type(sys)
FAKES = set()
for name in ("host", "run", "execute", "listing", "logs", "lifecycle"):
    module = MODULE("minidocker.engine." + name)
    FAKES.add(module.__name__)
    sys.modules[module.__name__] = module
    for function in ("run", "detach", "execute", "ps", "copy", "stop"):
        setattr(module, function, called)
    module.Host = lambda root, notice: None
os.geteuid = lambda: 0
sys.argv = ["minidocker", *sys.argv[1:]]
from minidocker.__main__ import start
start()
"""
# What every start has: the interpreter's own, us, and os with what os needs.
COMMON = {
    "__future__", "os", "os.path", "posixpath", "genericpath", "stat", "_collections_abc", "minidocker", "minidocker.__main__",
    "minidocker.imports",
    "minidocker.cli", "minidocker.cli.hot", "minidocker.cli.options", "minidocker.cli.call", "minidocker.cli.output", "minidocker.errors",
    "minidocker.cli.containers", "minidocker.cli.requests", "minidocker.spec", "minidocker.spec.parse", "minidocker.spec.request",
    "minidocker.spec.records", "minidocker.engine",
}  # fmt: skip
LIMITS, ADDRESSES, TIMES = "minidocker.spec.parse_limits", "minidocker.spec.parse_network", "minidocker.spec.parse_time"


def loaded(*words: str) -> set[str]:
    environment = {key: value for key, value in os.environ.items() if key != "_MINIDOCKER_COMPLETE"}
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", SCRIPT, str(REPOSITORY), *words], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "more"),
    [
        (["run", "--rm", "--net", "br0", "true"], set()),
        (["run", "-d", "--name", "web", "-it", "-e", "A=1", "-v", "/a:/b:ro", "-u", "5", "-w", "/srv", "./server", "web"], set()),
        (["run", "-P", "--net", "lab", "--net", "back", "--network-alias", "db", "true"], set()),
        (["run", "--net", "lab:alias=db", "true"], {ADDRESSES}),
        (["run", "-d", "-m", "512m", "--cpus=0.5", "-p", "8080:80", "true"], {LIMITS, ADDRESSES}),
        (["exec", "web", "true"], set()),
        (["ps"], {"minidocker.cli.listing", "minidocker.cli.table"}),
        (["ps", "--format", "{{.Names}}"], {"minidocker.cli.listing", "minidocker.cli.table", "minidocker.spec.template"}),
        (["logs", "-f", "--tail", "10", "web"], {TIMES}),
        (["stop", "-t", "1", "web"], {TIMES}),
    ],
    ids=" ".join,
)
def test_a_well_formed_start_loads_nothing_but_this(words: list[str], more: set[str]) -> None:
    """An import more is a decision (COSTS.md): it is made here, by name."""
    assert loaded(*words) <= COMMON | more


def test_the_door_flushes_and_leaves_with_the_code() -> None:
    done = subprocess.run([sys.executable, "-m", "minidocker", "--version"], capture_output=True, text=True, cwd=REPOSITORY)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("minidocker ")
    done = subprocess.run([sys.executable, "-m", "minidocker", "nonsense"], capture_output=True, text=True, cwd=REPOSITORY)
    assert (done.returncode, done.stdout) == (125, "") and "Traceback" not in done.stderr


def test_a_reader_that_has_gone_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    for words in (["--help"], ["version"]):
        command = [sys.executable, "-m", "minidocker", *words]
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY)
        assert done.stderr == ""
    os.close(writer)


def test_streams_that_the_caller_closed_are_not_given_to_what_is_opened_next() -> None:
    program = """if True:
        import os
        from minidocker import __main__ as door
        door._open_standard_streams()
        os.write(9, repr([os.readlink(f"/proc/self/fd/{number}") for number in (0, 1, 2)]).encode())"""
    read, write = os.pipe()
    closing = f'exec "$0" -c "$1" 9>&{write} <&- >&- 2>&-'
    done = subprocess.run(["bash", "-c", closing, sys.executable, program], cwd=REPOSITORY, pass_fds=[write])
    os.close(write)
    assert done.returncode == 0
    assert os.read(read, 1000) == b"['/dev/null', '/dev/null', '/dev/null']"
    os.close(read)
