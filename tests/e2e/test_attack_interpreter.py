"""CVE-2019-5736: a container has whoever makes or enters it execute, in there, the interpreter that it is of (`#!/proc/self/exe`), or looks
at it in /proc/PID/exe; opens that; and writes to it, as the host's root, as soon as nobody executes it any more. Each test tries in a
loop. All use an interpreter of their own, so that no harm is done should one succeed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.oci import Oci
from tests.e2e.support import Minidocker

# Shell and Python at once: opens what it is executed by, becomes the host's own Python, and tries to write to what it has opened.
EVIL = """#!/proc/self/exe
import os
os.dup2(os.open("/proc/self/exe", os.O_RDONLY), 3)
print("opened", flush=True)
os.execv("/usr/bin/python3", ["python3", "-I", "-S", "-c", '''
import os, sys, time
deadline = time.monotonic() + float(os.environ["SECONDS"])
while time.monotonic() < deadline:
    try:
        file = os.open("/proc/self/fd/3", os.O_WRONLY)
    except OSError as error:
        continue
    os.write(file, b"owned")
    os.write(1, b"written")
    sys.exit()
os.write(1, b"given up")
'''])
"""


@pytest.fixture
def interpreter(tmp_path: Path) -> Iterator[Path]:
    """That must stay as it is."""
    if "MINIDOCKER_BIN" in os.environ:
        pytest.skip("the launcher chooses the interpreter")
    path = tmp_path / "own/bin/interpreter"
    path.parent.mkdir(parents=True)
    shutil.copy2(os.path.realpath(sys.executable), path)
    (tmp_path / "own/pyvenv.cfg").write_text(f"home = {sys.base_prefix}/bin\n")
    before = path.read_bytes()
    yield path
    assert path.read_bytes() == before


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """With /evil in it."""
    place = tmp_path / "volume"
    place.mkdir()
    (place / "evil").write_text(EVIL)
    (place / "evil").chmod(0o755)
    return place


def by(interpreter: Path, md: Minidocker, *words: object) -> subprocess.CompletedProcess[str]:
    argv = [str(interpreter), *md.argv(*words)[1:]]
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)


def test_a_program_that_is_proc_self_exe_executes_nothing_of_ours(md: Minidocker, interpreter: Path, volume: Path) -> None:
    """Nor would it do that monitors execute the file: in the moment in which one is killed its container could write to it."""
    evil = volume / "evil"
    for _ in range(5):
        done = by(interpreter, md, "run", "--rm", "--net", "none", "-e", "SECONDS=3", evil)
        assert (done.returncode, done.stdout) == (126, ""), done
    assert by(interpreter, md, "run", "-d", "--net", "none", "--name", "one", "-v", f"{volume}:/v", "sleep", "1000").returncode == 0
    md("exec", "one", "ln", "-s", "/proc/self/exe", "/tmp/link")
    for program in ("/v/evil", "/tmp/link"):
        for _ in range(5):
            done = by(interpreter, md, "exec", "-e", "SECONDS=3", "one", program, "-c", "print(1)")
            assert (done.returncode, done.stdout) == (126, ""), done


@pytest.mark.parametrize("way", ["script", "link"])
def test_a_bundle_whose_program_is_proc_self_exe_executes_nothing_of_ours(oci: Oci, way: str) -> None:
    """By run, by create and start, and by exec, again and again."""
    bundle = oci.bundle("c", "/shared/evil")
    if way == "link":
        (bundle.shared / "evil").symlink_to("/proc/self/exe")
    else:
        (bundle.shared / "evil").write_text(EVIL)
        (bundle.shared / "evil").chmod(0o755)
    for _ in range(5):
        done = bundle.run(check=False)
        assert (done.returncode, done.stdout) == (126, ""), done
    bundle.create()
    oci("start", "c")
    oci.until("c", "stopped")
    oci("delete", "c")
    bundle.config["process"]["args"] = ["sleep", "1000"]
    bundle.create()
    oci("start", "c")
    for _ in range(5):
        done = oci("exec", "c", "/shared/evil", check=False)
        assert (done.returncode, done.stdout) == (126, ""), done


# Whoever execs into this container: what does it execute, and what lets itself be looked at?
LOOK = """
while [ ! -e /tmp/stop ]; do for p in /proc/[0-9]*; do
    case $p in /proc/1|/proc/$$) continue;; esac
    link=$(readlink $p/exe) && [ "$link" != /bin/busybox ] && echo "$link"
done; done"""


def test_nothing_of_ours_is_looked_at_or_traced_between_the_interpreter_and_the_program(oci: Oci) -> None:
    """What stands in between is not dumpable either: it loads the filter, and whoever traced it would be free of that (CVE-2016-9962)."""
    bundle = oci.running("c", "sh", "-c", LOOK + " > /shared/seen")
    for _ in range(60):
        oci("exec", "c", "true")
    assert (bundle.shared / "seen").read_text() == ""
