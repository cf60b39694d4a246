"""Completion: what is offered where the cursor is, and that it costs no more than it must."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidocker.cli import complete, options_groups, shells
from minidocker.cli.options_networks import NETWORK_COMMANDS
from minidocker.spec.records import Network
from minidocker.spec.request import RunRequest
from minidocker.storage import containers
from minidocker.storage.networks import insert as insert_network
from minidocker.storage.state import State

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A data root with containers in several states, and two networks."""
    place = tmp_path_factory.mktemp("root")
    state = State(f"{place}/state.db")
    for number, (name, status) in enumerate((("web", "running"), ("wiki", "exited"), ("db", "running"), ("frozen", "paused"))):
        containers.insert(state, f"{number:064x}", name, RunRequest(["true"]), "boot", 0.0)
        containers.update(state, f"{number:064x}", status=status)
    for number, name in enumerate(("br0", "back")):
        subnet, gateway = f"10.7{number}.0.0/24", f"10.7{number}.0.1"
        insert_network(state, Network(f"{number:012x}", name, subnet, gateway, name, "bridge", 1500, False, {}, 0.0))
    return str(place)


def offered(root: str, line: str, shell: str = "fish") -> list[str]:
    words = ["--root", root, *line.split(" ")]
    return [found.partition("\t")[0] for found in complete.answer(words, shell).splitlines()]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("ru", "run"),
        ("network ", " ".join(command.name.split()[1] for command in NETWORK_COMMANDS)),
        ("network create -d ", "bridge ptp macvlan"),
        ("run --priv", "--privileged"),
        ("run --net", "--network --network-alias"),
        ("run --net-", "--net-alias"),  # a second name, where no first one fits
        ("run --rm -e A=1 --cgroupns ", "private host"),
        ("run --cgroupns=h", "--cgroupns=host"),
        ("run --rootfs ", ":dir"),
        ("run --rm ./ser", ":file"),
        ("run --rm ls --no", ":file"),
        ("run --network b", "br0 back"),
        ("run --net=c", "--net=container:web --net=container:db"),
        ("run --network container:", "container:web container:db"),
        ("run -m 5m --network n", "none"),
        ("run -itm 5m --network=ba", "--network=back"),
        ("run -itm5m --network ba", "back"),
        ("run --memory ", ""),
        ("--root ", ":dir"),
        ("completion ", "bash zsh fish"),
        ("kill -s US", "USR1 USR2"),
        ("stop w", "web"),
        ("stop web d", "db"),
        ("stop --time 5 ", "web db frozen"),
        ("start ", "wiki"),
        ("rm -f ", "db frozen web wiki"),
        ("container rm ", "db frozen web wiki"),
        ("container ps --qui", "--quiet"),
        ("logs w", "web wiki"),
        ("logs web ", ""),
        ("exec ", "web db frozen"),
        ("exec web ", ":file"),
        ("exec -it web l", ":file"),
        ("network rm ", "br0 back"),
        ("network connect b", "br0 back"),
        ("network connect br0 d", "db"),
        ("network connect br0 db ", ""),
        ("network create n", ""),
        ("network trace web:", ""),
        ("network trace web o", "outside"),
        ("inspect b", "back br0"),
        ("inspect --type ", "container network volume"),
        ("ps --format ", "table json"),
        ("nonsense ", ""),
        ("man unp", "unpause"),
        ("man network cr", "create"),
        ("man network create ", ""),
        ("man -o ", ":dir"),
        ("network nonsense ", ""),
        ("run -- --pr", ":file"),
        ("--d", "--debug"),
    ],
)
def test_what_is_offered(root: str, line: str, wanted: str) -> None:
    assert sorted(offered(root, line)) == sorted(wanted.split())


def test_in_bash_it_is_what_stands_behind_the_break(root: str) -> None:
    """bash hands over `--network=container:w` as five words, and replaces the last."""
    assert offered(root, "run --network = container : w", "bash") == ["web"]
    assert offered(root, "run --network =", "bash")[:2] == ["none", "host"]
    assert offered(root, "run --network=", "bash")[:2] == ["none", "host"]
    assert offered(root, "stop w", "bash") == ["web"]


def test_every_command_offers_its_own_options(root: str) -> None:
    for words, command in options_groups.every():
        found = offered(root, f"{words} --")
        assert found == [option.shown[-1] for option in command.options] + ["--help"], words


@pytest.mark.parametrize("name", ["state.db", "nothing"])
def test_a_state_that_cannot_be_read_offers_nothing_and_is_not_touched(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("no database at all" * 100)
    assert offered(str(tmp_path), "stop ") == []
    assert os.listdir(tmp_path) == [name]


@given(st.lists(st.one_of(st.text(), st.sampled_from(["run", "network", "--net", "=", ":", "-it", "--", "container"])), max_size=6))
@settings(max_examples=200, deadline=None)
def test_whatever_is_typed_is_no_error(words: list[str]) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert isinstance(complete.answer(["--root", "/nonexistent", *words], shell), str)


def test_it_loads_no_more_than_the_table_and_the_names(root: str) -> None:
    program = (
        "import sys; sys.path.append(sys.argv.pop(1)); import os; os._exit = lambda code: print(*sys.modules)\n"
        "from minidocker.__main__ import start; start()"
    )
    argv = [sys.executable, "-I", "-S", "-c", program, str(REPOSITORY), "--root", root, "stop", "w"]
    done = subprocess.run(argv, capture_output=True, text=True, env={**os.environ, "_MINIDOCKER_COMPLETE": "bash"})
    assert done.stdout.startswith("web\trunning\n")
    assert not {"click", "re", "typing", "sqlite3", "json", "enum", "dataclasses", "minidocker.engine"} & set(done.stdout.split())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts_ask_us(shell: str) -> None:
    assert f"_MINIDOCKER_COMPLETE={shell} " in shells.SCRIPTS[shell]
