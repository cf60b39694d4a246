"""runtime.md: the state of a container, and what each operation may and may not do in it."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conformance.box import PARENT, Box
from tests.e2e.support import poll

STATE, LIFECYCLE = "runtime.md#state", "runtime.md#lifecycle"
CREATE, START, KILL, DELETE = "runtime.md#create", "runtime.md#start", "runtime.md#kill", "runtime.md#delete"


def is_alive(pid: int) -> bool:
    """Whether it runs: somebody else's child may stay as a zombie for a moment."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.mark.spec(STATE)
def test_state_has_the_fields_that_must_be_there(box: Box) -> None:
    box.config["annotations"] = {"com.example.key": "a value", "empty": ""}
    box.started()
    state = box.state()
    assert (state["id"], state["status"], state["bundle"]) == (box.id, "running", str(box.bundle))
    assert state["annotations"].items() >= {"com.example.key": "a value", "empty": ""}.items()
    assert state["ociVersion"].startswith("1.")
    cmdline = Path(f"/proc/{state['pid']}/cmdline")
    poll(lambda: cmdline.read_bytes() == b"/bin/sleep\x001000\x00", "the process is the user's")  # runc returns a moment before


@pytest.mark.spec(STATE)
def test_the_bundle_is_absolute_though_it_was_given_relatively(box: Box) -> None:
    box.process["args"] = ["/bin/true"]
    box.write()
    with box.stdout.open("wb") as out:
        done = box.runtime("create", "--bundle", "bundle", box.id, cwd=box.bundle.parent, stdout=out, stderr=out)
    assert done.returncode == 0, box.stdout.read_text()
    assert box.state()["bundle"] == str(box.bundle)


@pytest.mark.spec(STATE)
def test_the_bundle_is_the_working_directory_by_default(box: Box) -> None:
    box.write()
    with box.stdout.open("wb") as out:
        done = box.runtime("create", box.id, cwd=box.bundle, stdout=out, stderr=out)
    assert done.returncode == 0, box.stdout.read_text()
    assert box.state()["bundle"] == str(box.bundle)


@pytest.mark.spec("runtime.md#query-state")
def test_state_of_what_does_not_exist_is_an_error(box: Box) -> None:
    box.fails("state")


@pytest.mark.spec("runtime.md#query-state")
def test_state_without_an_id_is_an_error(box: Box) -> None:
    assert box.runtime("state").returncode != 0


@pytest.mark.spec(CREATE)
def test_create_runs_nothing_of_the_users(box: Box) -> None:
    box.created("/bin/touch", "/ran")
    state = box.state()
    assert state["status"] == "created" and is_alive(state["pid"])
    assert not (box.root / "ran").exists()
    box.command("start")
    box.until("stopped")
    assert (box.root / "ran").exists()


@pytest.mark.spec(CREATE)
def test_create_without_a_bundle_or_an_id_is_an_error(box: Box) -> None:
    assert box.runtime("create").returncode != 0
    assert box.runtime("create", box.id, cwd="/").returncode != 0  # no config.json there


@pytest.mark.spec(CREATE)
def test_an_id_that_is_taken_is_an_error_and_the_first_goes_on(box: Box) -> None:
    box.started()
    before = box.state()
    done = box.runtime("create", "--bundle", box.bundle, box.id)
    assert done.returncode != 0 and "exist" in done.stderr
    assert box.state() == before and is_alive(before["pid"])


@pytest.mark.spec(CREATE)
@pytest.mark.parametrize("id", [".", "..", "../escape", "a/b", "/a", "a b", "a\nb", ""], ids=repr)
@pytest.mark.differs(crun="1.8 refuses only a slash, and takes `a b`")
def test_an_id_that_is_a_path_or_not_a_word_is_an_error(box: Box, id: str) -> None:
    box.write()
    done = box.runtime("create", "--bundle", box.bundle, id)
    box.runtime("delete", "--force", id)
    assert done.returncode != 0 and not (box.runtime.root.parent / "escape").exists()


@pytest.mark.spec(CREATE)
@pytest.mark.parametrize("id", ["a", "A-1_2.3+4", "0", "x" * 64])
def test_ids_that_engines_use_are_taken(box: Box, id: str) -> None:
    box.runtime.root.joinpath("ids").mkdir(parents=True, exist_ok=True)
    box.runtime = replace(box.runtime, root=box.runtime.root / "ids")
    box.id = id
    box.linux["cgroupsPath"] = f"{PARENT}/{id}"
    box.created()
    assert box.state()["id"] == id


@pytest.mark.spec(LIFECYCLE)
def test_a_config_that_changes_after_create_has_no_effect(box: Box) -> None:
    box.created("/bin/sh", "-c", "echo $WHO")
    box.process["env"] = ["WHO=late"]
    box.write()
    (box.bundle / "config.json").write_text("{")
    box.command("start")
    assert box.wait() == ""


@pytest.mark.spec(LIFECYCLE)
def test_an_environment_that_cannot_be_made_is_an_error_that_leaves_nothing(box: Box) -> None:
    box.mount({"destination": "/x", "type": "nosuchfs", "source": "none"})
    box.refused()
    assert box.runtime("state", box.id).returncode != 0


@pytest.mark.spec(LIFECYCLE)
def test_a_missing_program_is_an_error_of_create(box: Box) -> None:
    box.process["args"] = ["/no/such/program"]
    assert "/no/such/program" in box.refused()


@pytest.mark.spec(LIFECYCLE)
@pytest.mark.parametrize("program", ["nosuchprogram", "/etc/passwd", "/etc"])
def test_what_cannot_be_executed_is_an_error(box: Box, program: str) -> None:
    box.process["args"] = [program]
    box.refused()


@pytest.mark.spec(START)
def test_start_of_what_does_not_exist_is_an_error(box: Box) -> None:
    box.fails("start")


@pytest.mark.spec(START)
def test_start_of_a_running_container_is_an_error_without_effect(box: Box) -> None:
    box.started()
    before = box.state()
    box.fails("start")
    assert box.state() == before and is_alive(before["pid"])


@pytest.mark.spec(START)
def test_start_of_a_stopped_container_is_an_error(box: Box) -> None:
    box.started("/bin/true")
    box.until("stopped")
    box.fails("start")
    assert box.state()["status"] == "stopped"


@pytest.mark.spec(START)
@pytest.mark.differs(runc="does not look until it is started", crun="crashes")
def test_a_config_without_a_process_can_be_created_and_not_started(box: Box) -> None:
    del box.config["process"]
    box.write()
    done = box.runtime("run", "--bundle", box.bundle, box.id)
    assert done.returncode != 0 and "process" in done.stderr and "panic" not in done.stderr


@pytest.mark.spec(KILL)
@pytest.mark.parametrize("spelling", ["USR1", "SIGUSR1", "10"])
def test_a_signal_reaches_the_process(box: Box, spelling: str) -> None:
    box.started("/bin/sh", "-c", "trap 'echo got it; exit 0' USR1; echo ready; while :; do sleep 0.02; done")
    poll(lambda: "ready" in box.stdout.read_text(), "the trap is set")
    box.command("kill", spelling)
    assert box.wait() == "ready\ngot it"


@pytest.mark.spec(KILL)
def test_kill_without_a_signal_is_sigterm(box: Box) -> None:
    box.started("/bin/sh", "-c", "trap 'echo term; exit 0' TERM; echo ready; while :; do sleep 0.02; done")
    poll(lambda: "ready" in box.stdout.read_text(), "the trap is set")
    box.command("kill")
    assert box.wait() == "ready\nterm"


@pytest.mark.spec(KILL)
@pytest.mark.differs(crun="takes any word for signal 0")
def test_a_signal_that_does_not_exist_is_an_error(box: Box) -> None:
    box.started()
    box.fails("kill", "NOSUCH")
    box.fails("kill", "999")
    assert box.state()["status"] == "running"


@pytest.mark.spec(KILL)
def test_a_created_container_can_be_killed(box: Box) -> None:
    box.created()
    pid = box.state()["pid"]
    box.command("kill", "KILL")
    box.until("stopped")
    assert not is_alive(pid)


@pytest.mark.spec(KILL)
def test_kill_of_a_stopped_container_is_an_error(box: Box) -> None:
    box.started("/bin/true")
    box.until("stopped")
    box.fails("kill", "KILL")
    assert box.state()["status"] == "stopped"


@pytest.mark.spec(KILL)
def test_kill_of_what_does_not_exist_is_an_error(box: Box) -> None:
    box.fails("kill", "KILL")


@pytest.mark.spec(KILL)
def test_kill_all_reaches_every_process_where_pids_are_shared(box: Box) -> None:
    box.without("pid")
    box.started("/bin/sh", "-c", "sleep 1000 & echo $!; exec sleep 1000")
    child = int(poll(lambda: box.stdout.read_text().strip(), "the child's pid is written"))
    assert is_alive(child)
    box.command("kill", "KILL", options=("--all",))
    box.until("stopped")
    poll(lambda: not is_alive(child), "the child has ended")


@pytest.mark.spec(DELETE)
def test_delete_of_what_does_not_exist_is_an_error(box: Box) -> None:
    box.fails("delete")


@pytest.mark.spec("command line")
def test_delete_with_force_of_what_does_not_exist_is_none(box: Box) -> None:
    box.command("delete", options=("--force",))


@pytest.mark.spec(DELETE)
def test_delete_of_a_running_container_is_an_error_without_effect(box: Box) -> None:
    box.started()
    before = box.state()
    box.fails("delete")
    assert box.state() == before and is_alive(before["pid"])


@pytest.mark.spec("command line")
def test_delete_with_force_ends_what_runs(box: Box) -> None:
    box.started()
    pid = box.state()["pid"]
    box.command("delete", options=("--force",))
    assert not is_alive(pid)
    box.fails("state")


@pytest.mark.spec(DELETE)
def test_delete_takes_away_what_create_made_and_the_id_is_free(box: Box) -> None:
    for _ in range(2):
        box.started("/bin/true")
        box.until("stopped")
        box.command("delete")
        box.fails("state")
        assert not box.cgroups()


@pytest.mark.spec(DELETE)
def test_delete_leaves_what_the_container_did_not_create(box: Box, other: Box) -> None:
    other.started()
    pid = other.state()["pid"]
    for type in ("network", "ipc", "uts"):
        box.namespace(type, path=f"/proc/{pid}/ns/{'net' if type == 'network' else type}")
    box.started("/bin/true")
    box.until("stopped")
    box.command("delete")
    assert other.state()["status"] == "running" and is_alive(pid)
    assert box.root.is_dir() and (box.bundle / "config.json").is_file()


@pytest.mark.spec(STATE)
@pytest.mark.parametrize(("script", "signals"), [("exit 3", False), ("kill -9 $$", False), ("sleep 1000", True)])
def test_a_process_that_has_ended_in_any_way_is_stopped(box: Box, script: str, signals: bool) -> None:
    box.without("pid")
    box.started("/bin/sh", "-c", script)
    if signals:
        os.kill(box.state()["pid"], signal.SIGKILL)
    box.until("stopped")


@pytest.mark.spec("command line")
@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -TERM $$", 143)])
def test_run_answers_with_the_exit_code(box: Box, script: str, code: int) -> None:
    box.without("pid")  # the first process of a pid namespace is deaf to signals that it does not await
    assert box.run("/bin/sh", "-c", script).returncode == code
    box.fails("state")


@pytest.mark.spec("config.md#annotations")
def test_annotations_are_optional_and_unknown_ones_are_kept(box: Box) -> None:
    box.config["annotations"] = {"org.opencontainers.image.os": "linux", "nobody.knows/this": json.dumps({"a": 1})}
    box.created()
    assert box.state()["annotations"].items() >= box.config["annotations"].items()


@pytest.mark.spec("config.md#extensibility")
def test_what_the_specification_does_not_know_is_ignored(box: Box) -> None:
    box.config["unknown"] = {"a": [1]}
    box.process["unknown"] = box.linux["unknown"] = box.config["root"]["unknown"] = 1
    assert box.sh("echo ran") == "ran"


@pytest.mark.spec("config.md#specification-version")
@pytest.mark.differs(crun="1.8 knows 1.0 and 1.1")
@pytest.mark.parametrize("version", ["1.0.0", "1.0.2", "1.1.0", "1.2.0", "1.2.1"])
def test_versions_of_1_are_taken(box: Box, version: str) -> None:
    box.config["ociVersion"] = version
    assert box.sh("echo ran") == "ran"


@pytest.mark.spec("config.md#specification-version")
@pytest.mark.parametrize("version", ["2.0.0", "one", "", None])
@pytest.mark.differs(runc="1.1 does not look at it", crun="1.8 looks only whether it is there")
def test_other_versions_are_an_error(box: Box, version: str | None) -> None:
    box.config["ociVersion"] = version
    assert "ociVersion" in box.refused()


@pytest.mark.spec("bundle.md")
@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"ociVersion":'])
def test_a_config_that_is_no_object_is_an_error(box: Box, text: str) -> None:
    (box.bundle / "config.json").write_text(text)
    done = box.runtime("create", "--bundle", box.bundle, box.id)
    assert done.returncode != 0 and done.stderr and "Traceback" not in done.stderr
