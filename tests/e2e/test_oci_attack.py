"""minidocker-oci under attack, by its command line: hostile root file systems and bundles, and processes of the host's that swap files
while a container is made. Each test is named after the published flaw it stands for, and passes when we are safe.

One attack at a time, by the runtime's own steps, is in tests/kernel/test_runtime_attack.py; minidocker's own are in test_attack.py.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.oci import Bundle, Oci

SECONDS = 4.0  # what a race is given; each has many rounds in that

# Swaps the two names for each other, as fast as can be: renameat2(2) with RENAME_EXCHANGE. Says how often when it is ended.
SWAPPER = """
import ctypes, signal, sys
call, times = ctypes.CDLL(None, use_errno=True).renameat2, 0
one, other = map(str.encode, sys.argv[1:])
signal.signal(signal.SIGTERM, lambda *_: (print(times), sys.exit()))
print("ready", flush=True)
while True:
    assert call(-100, one, -100, other, 2) == 0
    times += 1
"""


@pytest.fixture
def tree(oci: Oci) -> Path:
    """The root file system of all bundles, to be made hostile."""
    place = oci.place / "tree"
    subprocess.run(["cp", "-a", oci.rootfs, place], check=True)
    oci.rootfs = place
    return place


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A directory of the host's that must stay as it is, and on which nothing must be mounted."""
    place = tmp_path / "victim"
    place.mkdir()
    (place / "file").write_text("precious")
    before = mounts_of("self")
    yield place
    assert os.listdir(place) == ["file"] and (place / "file").read_text() == "precious"
    assert mounts_of("self") == before


def mounts_of(pid: object) -> set[str]:
    """Where a process sees something mounted."""
    return {line.split()[4] for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()}


@contextlib.contextmanager
def swapping(one: Path, other: Path) -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", SWAPPER, one, other], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        try:
            yield
        finally:
            process.terminate()
            times = process.stdout.read()
            assert int(times) > 100, "it was a race"


def rounds(seconds: float = SECONDS) -> Iterator[int]:
    deadline = time.monotonic() + seconds
    number = 0
    while time.monotonic() < deadline:
        yield number
        number += 1
    assert number > 3


def orderly(done: subprocess.CompletedProcess[str]) -> bool:
    """It was made, or refused in one line and a hint: nothing internal, no signal."""
    refused = done.returncode in (1, 125, 126, 127) and done.stderr.startswith("minidocker-oci: ") and done.stderr.count("\n") <= 2
    return (done.returncode == 0 or refused) and "internal" not in done.stderr and "Traceback" not in done.stderr


def link_to(target: object) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(str(target))


def gigabytes(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(64 << 30)


def replace(path: Path, make: Callable[[Path], object]) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)
    make(path)


def guarded(bundle: Bundle, script: str) -> Bundle:
    """A bundle whose /proc is protected as docker's; `script` is what it runs."""
    bundle.config["process"]["args"] = ["sh", "-c", script]
    bundle.config["linux"].update(maskedPaths=["/proc/kcore", "/proc/keys"], readonlyPaths=["/proc/sys", "/proc/sysrq-trigger"])
    return bundle


# --- /proc ---------------------------------------------------------------------------------------------------------------------------

# Opens for writing, and writes nothing: whatever is called core_pattern, wherever a procfs is mounted.
OPEN_PROC = """cut -d ' ' -f 5,8- /proc/self/mountinfo > /tmp/mounts
for place in /proc /elsewhere /shared /shared/proc /other/proc $(grep ' proc ' /tmp/mounts | cut -d ' ' -f 1); do
    ( : >> $place/sys/kernel/core_pattern ) 2> /dev/null && [ -e $place/self/status ] && echo writable $place
    [ -s $place/keys ] && echo unmasked $place
done; true"""


@pytest.mark.parametrize("name", ["proc", "sys"])
@pytest.mark.parametrize("where", ["last", "parent"])
def test_cve_2019_19921_and_2023_27561_a_link_in_the_way_to_proc_is_refused(oci: Oci, tree: Path, name: str, where: str) -> None:
    """The last name, or a directory before it: links lead to a directory while it is mounted on, and to another while it is masked."""
    kind = {"proc": "proc", "sys": "sysfs"}[name]
    (tree / "real" / name).mkdir(parents=True)
    bundle = guarded(oci.bundle("c"), OPEN_PROC)
    [mount] = [entry for entry in bundle.config["mounts"] if entry["destination"] == "/proc"]
    mount.update(type=kind, source=kind)
    if where == "last":
        replace(tree / name, link_to(f"real/{name}"))
        mount["destination"] = f"/{name}"
    else:
        (tree / "link").symlink_to("real")
        mount["destination"] = f"/link/{name}"
    error = oci.refused("run", "--bundle", bundle.write(), "c", code=125)
    assert f"mount `{kind}` on `{mount['destination']}`" in error and "link" in error


def test_cve_2023_28642_a_link_in_a_volume_is_refused_too(oci: Oci, victim: Path) -> None:
    """The volume comes first, and with it what another container made of it."""
    bundle = guarded(oci.bundle("c"), OPEN_PROC)
    (bundle.shared / "real").mkdir()
    (bundle.shared / "proc").symlink_to("real")
    bundle.config["mounts"].append({"destination": "/shared/proc", "type": "proc", "source": "proc"})
    assert "on `/shared/proc`" in oci.refused("run", "--bundle", bundle.write(), "c", code=125)
    (bundle.shared / "proc").unlink()
    (bundle.shared / "proc").symlink_to(victim)
    assert "on `/shared/proc`" in oci.refused("run", "--bundle", bundle.write(), "c", code=125)


@pytest.mark.parametrize("other", ["directory", "link"])
def test_cve_2023_27561_proc_swapped_while_it_is_made_is_never_left_unmasked(oci: Oci, tree: Path, other: str) -> None:
    """Whoever else has the root file system renames what /proc is mounted on: the mount goes along, and its masks must."""
    replace(tree / "elsewhere", Path.mkdir if other == "directory" else link_to("/shared"))
    bundle = guarded(oci.bundle("c"), "true")
    there = [path for key in ("maskedPaths", "readonlyPaths") for path in bundle.config["linux"][key] if os.path.exists(path)]
    made = 0
    with swapping(tree / "proc", tree / "elsewhere"):
        for _ in rounds():
            done = bundle.create(check=False)
            assert orderly(done), done.stderr
            if done.returncode == 0:
                made += 1
                pid = oci.state("c")["pid"]
                lines = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
                for mount in (line[0] for line in lines if line[line.index("-") + 1] == "proc" and line[3] == "/"):
                    assert sum(line[1] == mount for line in lines) == len(there), "one over each path"
                oci("delete", "--force", "c")
    assert made
