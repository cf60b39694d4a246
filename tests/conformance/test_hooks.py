"""config.md, Hooks: six kinds, each at its time, in its namespace, with the state on its stdin; what their failure does."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.box import Box, bind

HOOKS = "config.md#posix-platform-hooks"
AT_CREATE = ("prestart", "createRuntime", "createContainer")
ALL = (*AT_CREATE, "startContainer", "poststart", "poststop")


@pytest.fixture
def log(box: Box) -> Path:
    """A directory that hooks write into, by one path in the runtime's namespace and the container's."""
    made = box.bundle / "log"
    made.mkdir()
    box.mount(bind(made, str(made)))
    return made


def hook(box: Box, kind: str, script: str, **more: Any) -> None:
    box.config.setdefault("hooks", {}).setdefault(kind, []).append({"path": "/bin/sh", "args": ["sh", "-c", script], **more})


def through(box: Box) -> None:
    """The whole life of a container that writes `process` into the log."""
    box.started("/bin/sh", "-c", f"echo process >> {box.bundle}/log/order; sleep 0.3")
    box.until("stopped")
    box.command("delete")


@pytest.mark.spec(HOOKS)
@pytest.mark.differs(runc="1.1 runs poststart at create", crun="does not wait for startContainer")
def test_each_kind_at_its_time_in_the_order_listed(box: Box, log: Path) -> None:
    for kind in ALL:
        for number in (1, 2):
            hook(box, kind, f"cat >/dev/null; echo {kind} {number} >> {log}/order")
    through(box)
    order = (log / "order").read_text().splitlines()
    expected = [f"{kind} {number}" for kind in ALL for number in (1, 2)]
    assert [word for word in order if word != "process"] == expected
    assert order.index("startContainer 2") < order.index("process") < order.index("poststop 1")


@pytest.mark.spec(HOOKS)
@pytest.mark.differs(runc="1.1 runs poststart at create", crun="does not wait for startContainer")
def test_create_runs_the_first_three_and_start_the_next_two(box: Box, log: Path) -> None:
    for kind in ALL:
        hook(box, kind, f"cat >/dev/null; echo {kind} >> {log}/order")
    box.created("/bin/sleep", "1000")
    assert (log / "order").read_text().split() == list(AT_CREATE)
    box.command("start")
    assert (log / "order").read_text().split() == [*AT_CREATE, "startContainer", "poststart"]
    box.command("delete", options=("--force",))
    assert (log / "order").read_text().split() == list(ALL)


@pytest.mark.spec(HOOKS)
@pytest.mark.parametrize(("kind", "statuses"), [("prestart", {"creating", "created"}), ("createRuntime", {"creating", "created"}),
                                                ("createContainer", {"creating", "created"}), ("startContainer", {"created", "creating"}),
                                                ("poststart", {"running", "stopped"}), ("poststop", {"stopped"})])  # fmt: skip
@pytest.mark.differs(runc="1.1 runs poststart at create", crun="has another bundle for startContainer")
def test_the_state_is_on_stdin(box: Box, log: Path, kind: str, statuses: set[str]) -> None:
    hook(box, kind, f"cat > {log}/state")
    box.config["annotations"] = {"key": "value"}
    through(box)
    state = json.loads((log / "state").read_text())
    assert (state["id"], state["bundle"], state["annotations"]["key"]) == (box.id, str(box.bundle), "value")
    assert state["status"] in statuses and state["ociVersion"].startswith("1.")
    assert kind in ("createContainer", "startContainer", "poststop") or state["pid"] > 1  # in the container the pid is whatever it is there


@pytest.mark.spec(HOOKS)
@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer", "poststart", "poststop"])
def test_the_namespace(box: Box, log: Path, kind: str) -> None:
    """createContainer's is the container's, with the host's files still there; the others' that of the runtime."""
    hook(box, kind, f"readlink /proc/self/ns/mnt > {log}/namespace")
    box.started()
    inside = os.readlink(f"/proc/{box.state()['pid']}/ns/mnt")
    box.command("delete", options=("--force",))
    assert (log / "namespace").read_text().strip() == (inside if kind == "createContainer" else os.readlink("/proc/self/ns/mnt"))


@pytest.mark.spec(HOOKS)
def test_start_container_runs_in_the_container(box: Box, log: Path) -> None:
    (box.root / "only-here").write_text("")
    hook(box, "startContainer", f"ls /only-here > {log}/seen; readlink /proc/self/ns/pid > {log}/pid")
    box.started()
    assert (log / "seen").read_text() == "/only-here\n"
    assert (log / "pid").read_text().strip() == os.readlink(f"/proc/{box.state()['pid']}/ns/pid")


@pytest.mark.spec(HOOKS)
def test_create_runtime_finds_the_network_of_the_container(box: Box, log: Path) -> None:
    """What CNI's and other network hooks live by: the pid in the state leads to it."""
    hook(box, "createRuntime", f"""pid=$(sed 's/.*"pid": *\\([0-9]*\\).*/\\1/' | tr -d '\\n'); readlink /proc/$pid/ns/net > {log}/net""")
    box.started()
    assert (log / "net").read_text().strip() == os.readlink(f"/proc/{box.state()['pid']}/ns/net") != os.readlink("/proc/self/ns/net")


@pytest.mark.spec(HOOKS)
def test_arguments_and_environment(box: Box, log: Path) -> None:
    args = ["name", "-c", f'echo "$0" "$1" > {log}/a; env > {log}/env', "zero", "one"]
    box.config["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": args, "env": ["PATH=/usr/bin:/bin", "ONLY=this"]}]}
    box.created()
    assert (log / "a").read_text() == "zero one\n"
    found = {line for line in (log / "env").read_text().splitlines() if not line.startswith(("PWD=", "SHLVL=", "_="))}
    assert found == {"PATH=/usr/bin:/bin", "ONLY=this"}


@pytest.mark.spec(HOOKS)
@pytest.mark.parametrize("kind", AT_CREATE)
def test_a_failure_at_create_is_an_error_that_leaves_nothing(box: Box, log: Path, kind: str) -> None:
    hook(box, kind, "cat >/dev/null; exit 3")
    hook(box, kind, f"touch {log}/second")
    box.refused()
    assert not (log / "second").exists()


@pytest.mark.spec(HOOKS)
@pytest.mark.differs(crun="1.8 does not")
def test_a_failure_at_create_runs_what_stands_for_after_the_end(box: Box, log: Path) -> None:
    """"continue the lifecycle at step 12": runtime.md."""
    hook(box, "createRuntime", "exit 3")
    hook(box, "poststop", f"touch {log}/stopped")
    box.refused()
    assert (log / "stopped").exists()


@pytest.mark.spec(HOOKS)
@pytest.mark.differs(runc="1.1 does not wait for it", crun="does not wait for it")
def test_a_failure_of_start_container_is_an_error_of_start(box: Box, log: Path) -> None:
    hook(box, "startContainer", "exit 3")
    box.created("/bin/touch", f"{log}/ran")
    box.fails("start")
    box.until("stopped")
    assert not (log / "ran").exists()


@pytest.mark.spec(HOOKS)
@pytest.mark.differs(runc="1.1 ends the container", crun="1.8 makes it an error")
def test_a_failure_after_start_is_a_warning(box: Box, log: Path) -> None:
    hook(box, "poststart", "exit 3")
    hook(box, "poststart", f"touch {log}/second")
    box.started()
    assert box.state()["status"] == "running" and (log / "second").exists()


@pytest.mark.spec(HOOKS)
@pytest.mark.differs(runc="1.1 stops at the first")
def test_a_failure_after_the_end_is_a_warning(box: Box, log: Path) -> None:
    hook(box, "poststop", "exit 3")
    hook(box, "poststop", f"touch {log}/second")
    box.started("/bin/true")
    box.until("stopped")
    box.command("delete")
    box.fails("state")
    assert not box.cgroups() and (log / "second").exists()


@pytest.mark.spec(HOOKS)
@pytest.mark.parametrize("kind", ["createRuntime", "createContainer"])
def test_a_hook_that_takes_longer_than_its_timeout_is_an_error(box: Box, log: Path, kind: str) -> None:
    hook(box, kind, f"sleep 30; touch {log}/late", timeout=1)
    box.refused()
    assert not (log / "late").exists()


@pytest.mark.spec(HOOKS)
def test_a_hook_that_is_not_there_is_an_error(box: Box) -> None:
    box.config["hooks"] = {"createRuntime": [{"path": "/no/such/hook"}]}
    box.refused()


@pytest.mark.spec(HOOKS)
@pytest.mark.parametrize("entry", [{"path": "bin/sh"}, {}, *({"path": "/bin/true", "timeout": number} for number in (0, -1))], ids=str)
@pytest.mark.differs(runc="1.1 looks at none of them", crun="looks at none of them")
def test_a_hook_that_is_not_valid_is_an_error(box: Box, entry: dict[str, Any]) -> None:
    box.config["hooks"] = {"poststop": [entry]}
    assert "hooks.poststop[0]" in box.refused()
