"""system check: state.db, the records and the kernel held against each other; containers that run are unharmed by all of it."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from minidocker.storage.state import MIGRATIONS
from tests import pretend
from tests.e2e.support import Minidocker, poll
from tests.e2e.test_names import monitor_of

PAGE = 4096


def check(md: Minidocker, *words: str) -> tuple[list[str], str]:
    """What it found, and what it said besides; the exit code is 1 where there was any."""
    done = md("system", "check", *words, "--format", "json", check=False)
    found = [finding["found"] for finding in json.loads(done.stdout)]
    assert done.returncode == (1 if found else 0), done.stderr
    return found, done.stderr


def refusal(md: Minidocker, *words: str) -> str:
    """What it says who cannot do it."""
    done = md(*words, check=False)
    assert done.returncode and not done.stdout and "Traceback" not in done.stderr
    return str(done.stderr)


def overwrite(md: Minidocker, table: str) -> None:
    """The first page of a table."""
    with closing(sqlite3.connect(md.root / "state.db")) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    with open(md.root / "state.db", "r+b") as file:
        file.seek(PAGE * (page - 1))
        file.write(b"\xff" * PAGE)


@pytest.fixture
def running(md: Minidocker, busybox: Path) -> int:
    """A container that serves; its process."""
    md.start("--name", "web", "--net", "br0", "-p", "18080:8081", "--rootfs", busybox, "httpd", "-f", "-p", "8081", "-h", "/bin")
    poll(answers, "it serves")
    return int(md.inspect("web")["State"]["Pid"])


def answers() -> bool:
    return pretend.sh("curl -s -o /dev/null --noproxy '*' --max-time 5 -w '%{http_code}' http://127.0.0.1:18080/sh", check=False) == "200"


def test_nothing_is_wrong(md: Minidocker, running: int) -> None:
    assert check(md) == check(md, "--repair") == ([], "")
    assert md("system", "check").stdout == "nothing is wrong\n"


def test_leases_that_were_lost_are_told_and_the_container_goes_on(md: Minidocker, running: int) -> None:
    overwrite(md, "endpoints")
    hint = "running containers go on; minidocker system check --repair saves what can be read"
    assert refusal(md, "ps").endswith(f"minidocker: use the state in {md.root}/state.db: it is damaged\n  hint: {hint}\n")
    [found], _ = check(md)
    assert found.startswith("state.db is damaged: ")
    left, told = check(md, "--repair")
    assert left == [] and "saved of state.db: containers 1, networks 1; what it was is in " in told
    assert [row["State"] for row in md.ps()] == ["running"] and answers() and os.path.exists(f"/proc/{running}")
    assert len(list(md.root.glob("state.db.damaged-*"))) == 1


def test_a_container_whose_record_was_lost_runs_on_and_can_be_taken_away(md: Minidocker, running: int) -> None:
    [id] = os.listdir(md.root / "containers")
    monitor = monitor_of(md, "web")
    (md.root / "state.db").write_bytes(b"nothing " * 1000)
    for name in ("state.db-wal", "state.db-shm"):
        (md.root / name).unlink(missing_ok=True)
    assert "it is not a database" in refusal(md, "stop", "web")
    found, told = check(md, "--repair")
    assert f"container {id[:12]} runs, and no record speaks of it" in found and "link `br0` is ours" in " ".join(found)
    assert "saved of state.db: containers 0, networks 0;" in told
    check(md, "--repair")
    assert answers() and md.cgroups(id) and os.path.exists(f"/proc/{running}"), "what runs is not touched"
    os.kill(monitor, 9)
    poll(lambda: not os.path.exists(f"/proc/{running}"), "it has ended")
    found, _ = check(md, "--repair")
    nameless = "the name /run/netns/web leads to a process that has ended"
    directory = f"the directory {md.root}/containers/{id} is left over: no record speaks of it"
    assert found == [directory, nameless], "as long as somebody may want its files; and nothing says whose the name is"
    os.unlink("/run/netns/web")
    for path in md.root.glob("state.db.damaged-*"):
        path.unlink()
    assert check(md, "--repair")[0] == []
    md.assert_nothing_left()


def test_what_is_left_over_is_listed_and_taken_away(md: Minidocker, busybox: Path) -> None:
    """Of each kind one, as a state.db that was deleted leaves them."""
    md.start("--name", "web", "--net", "br0", "-p", "18080:80", "--rootfs", busybox, "sleep", "1000")
    [id] = os.listdir(md.root / "containers")
    os.kill(monitor_of(md, "web"), 9)
    for path in md.root.glob("state.db*"):
        path.unlink()
    place = md.root / "containers" / id / "mounted"
    place.mkdir()
    pretend.sh(f"mount -t tmpfs tmpfs {place}")
    found, _ = check(md)
    for what in ("directory", "cgroup", "link", "table inet", "table bridge", "mount", f"{md.run_directory}/networks/br0"):
        assert [text for text in found if what in text], (what, found)
    assert check(md)[0] == found, "to look changes nothing"
    assert check(md, "--repair")[0] == ["the name /run/netns/web leads to a process that has ended"]
    os.unlink("/run/netns/web")
    md.assert_nothing_left()
    assert pretend.sh("nft list tables") == ""
    (md.root / "containers").rmdir()


def test_files_that_have_gone_are_told(md: Minidocker, busybox: Path) -> None:
    md.run("--name", "job", "--net", "none", "--rootfs", busybox, "true")
    [id] = os.listdir(md.root / "containers")
    pretend.sh(f"rm -r {md.root}/containers/{id}")
    assert check(md)[0] == ["the files of container `job` are gone"]
    md("rm", "job")
    assert check(md)[0] == []


def test_a_state_of_a_newer_version_is_refused_and_its_containers_run(md: Minidocker, running: int) -> None:
    with closing(sqlite3.connect(md.root / "state.db")) as database:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        database.execute(f"PRAGMA user_version = {version + 1}")
    assert version == len(MIGRATIONS)
    for words in (["ps"], ["stop", "web"], ["system", "check", "--repair"]):
        assert "made by a newer minidocker" in refusal(md, *words)
    assert answers()
    with closing(sqlite3.connect(md.root / "state.db")) as database:
        database.execute(f"PRAGMA user_version = {version}")
    assert [row["State"] for row in md.ps()] == ["running"]


def test_a_state_that_cannot_be_written_is_told_and_its_containers_run(md: Minidocker, running: int) -> None:
    """Read-only, as a file system becomes that has met an error."""
    pretend.sh(f"mount --bind {md.root} {md.root} && mount -o remount,bind,ro {md.root}")
    try:
        for words in (["run", "-d", "--net", "none", "true"], ["network", "create", "more"]):
            told = refusal(md, *words)
            assert f"{md.root}" in told and "read-only" in told, told
        assert os.path.exists(f"/proc/{running}") and answers()
    finally:
        pretend.sh(f"umount {md.root}")
    assert [row["State"] for row in md.ps()] == ["running"]
