"""runtime/: a Launch by itself, as the engine and the OCI command line use it: created, started, failed, undone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minidocker.errors import KernelError, MinidockerError, StateError, TargetNotExecutable, TargetNotFound
from minidocker.kernel import cgroups, process
from minidocker.plan import NETWORK, At, Plan, Step
from minidocker.runtime import sync
from minidocker.runtime.container import Launch
from minidocker.runtime.state import State
from tests.kernel.launched import make_rootfs

OWN = f"minidocker-test-{os.getpid()}"


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    return make_rootfs(tmp_path)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    mounts = Path("/proc/self/mountinfo").read_text()
    yield
    assert Path("/proc/self/mountinfo").read_text() == mounts
    face = cgroups.detect()
    assert [path for path in face.paths(OWN) if os.path.exists(path)] == []


def configuration(rootfs: Path, *args: str, **linux: Any) -> dict[str, Any]:
    return {
        "ociVersion": "1.2.0",
        "process": {"args": list(args), "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}, "noNewPrivileges": True},
        "root": {"path": str(rootfs)},
        "hostname": "here",
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}, {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}],
        "linux": {
            "namespaces": [{"type": name} for name in ("pid", "mount", "uts", "ipc", "network", "cgroup")],
            "cgroupsPath": f"/{OWN}/one",
            **linux,
        },
    }


class Run:
    """A launch with its output on a pipe, cleaned up like a container's owner would."""

    def __init__(self, spec: dict[str, Any], directory: Path, **options: Any) -> None:
        self.read, write = os.pipe()
        self.face = cgroups.detect()
        null = os.open("/dev/null", os.O_RDONLY)
        self.launch = Launch("one", spec, self.face, directory=str(directory), own=OWN, stdio=(null, write, write), **options)
        try:
            self.launch.create()
        finally:
            os.close(write)
            os.close(null)

    def finish(self) -> tuple[int, str]:
        """(exit code, output), the cgroup removed."""
        output = b""
        while chunk := os.read(self.read, 65536):
            output += chunk
        code = os.waitstatus_to_exitcode(os.waitpid(self.launch.at.pid, 0)[1])
        os.close(self.read)
        os.close(self.launch.pidfd)
        self.face.remove(f"{OWN}/one", OWN)
        return code, output.decode()


def test_created_is_set_up_but_nothing_of_it_runs_until_start(rootfs: Path, tmp_path: Path) -> None:
    run = Run(configuration(rootfs, "sh", "-c", "hostname; echo $$"), tmp_path)
    pid = run.launch.at.pid
    assert "busybox" not in os.readlink(f"/proc/{pid}/exe"), "still our own interpreter"
    assert sorted(os.listdir(f"/proc/{pid}/root")) == sorted(os.listdir(rootfs)), "pivoted"
    state = State(str(tmp_path))
    os.close(state.open())
    assert (state.pid, state.start_time) == (pid, process.start_time(pid))
    run.launch.start()
    code, output = run.finish()
    assert (code, output.split()) == (0, ["here", "1"])
    with pytest.raises(StateError):
        State(str(tmp_path)).open()


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        (("/bin/nosuch",), TargetNotFound, "`/bin/nosuch` does not exist in the container"),
        (("nosuch",), TargetNotFound, "`nosuch` is not found in the container"),
        (("/etc",), TargetNotExecutable, "`/etc` is a directory, not a program"),
    ],
)
def test_a_program_that_cannot_run_fails_at_create_and_leaves_nothing(
    rootfs: Path, tmp_path: Path, args: tuple[str, ...], error: type[MinidockerError], message: str
) -> None:
    with pytest.raises(error) as raised:
        Run(configuration(rootfs, *args), tmp_path)
    assert str(raised.value) == message
    assert not (tmp_path / "state.json").exists()


class Fails(Step):
    title = NETWORK

    def shell(self) -> str:
        return "ip link add fails"

    def apply(self, at: At) -> None:
        assert os.stat(f"/proc/self/fd/{at.netns}").st_ino == os.stat(f"/proc/{at.pid}/ns/net").st_ino
        Fails.pid = at.pid
        raise OSError(1, "no")

    pid = 0


def test_a_caller_s_step_that_fails_undoes_the_whole_launch(rootfs: Path, tmp_path: Path) -> None:
    with pytest.raises(KernelError) as raised:
        Run(configuration(rootfs, "true"), tmp_path, on_namespaces=Plan([Fails()]))
    assert str(raised.value) == "ip link add fails: operation not permitted"
    assert not os.path.exists(f"/proc/{Fails.pid}")


def test_a_mount_that_fails_is_named(rootfs: Path, tmp_path: Path) -> None:
    spec = configuration(rootfs, "true")
    spec["mounts"].append({"destination": "/tmp", "type": "bind", "source": "/nosuch", "options": ["bind"]})
    with pytest.raises(MinidockerError) as raised:
        Run(spec, tmp_path)
    assert str(raised.value) == "mount `/nosuch` on `/tmp`: no such file or directory"


def test_a_child_that_has_failed_before_the_parent_looks_still_says_why(
    rootfs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expect = sync.Channel.expect

    def late(channel: sync.Channel, message: bytes) -> int:
        descriptor = expect(channel, message)
        if message == sync.NAMESPACES:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        return descriptor

    monkeypatch.setattr(sync.Channel, "expect", late)
    spec = configuration(rootfs, "true")
    spec["mounts"].append({"destination": "/tmp", "type": "bind", "source": "/nosuch", "options": ["bind"]})
    with pytest.raises(MinidockerError) as raised:
        Run(spec, tmp_path)
    assert str(raised.value) == "mount `/nosuch` on `/tmp`: no such file or directory"


def test_a_link_in_the_root_leads_no_mount_out_of_it(rootfs: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (rootfs / "out").symlink_to("../outside")
    (rootfs / "abs").symlink_to(tmp_path / "outside")
    (rootfs / "data").mkdir()
    (rootfs / "data/file").write_text("inside")
    spec = configuration(rootfs, "sh", "-c", "cat /out/file /abs/file")
    for destination in ("/out", "/abs"):
        spec["mounts"].append({"destination": destination, "type": "bind", "source": str(rootfs / "data"), "options": ["bind", "ro"]})
    run = Run(spec, tmp_path)
    run.launch.start()
    assert run.finish() == (0, "insideinside"), "what the links point to was made inside the root"
    assert list((tmp_path / "outside").iterdir()) == []
    assert (rootfs / "outside").is_dir() and (rootfs / str(tmp_path / "outside").lstrip("/")).is_dir()


def test_a_user_namespace_of_its_own_maps_the_ids_it_was_given(rootfs: Path, tmp_path: Path) -> None:
    for directory, _, files in os.walk(rootfs):
        for name in ("", *files):
            os.lchown(os.path.join(directory, name), 100000, 100000)
    mapping = [{"containerID": 0, "hostID": 100000, "size": 1000}]
    spec = configuration(rootfs, "sh", "-c", "id -u; cat /proc/self/uid_map /proc/self/gid_map; test -c /dev/null && echo null",
                         uidMappings=mapping, gidMappings=mapping)  # fmt: skip
    spec["linux"]["namespaces"].append({"type": "user"})
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent != Path("/") and not os.stat(parent).st_mode & 0o001:
            parent.chmod(0o711)
    run = Run(spec, tmp_path)
    assert os.stat(f"/proc/{run.launch.at.pid}/ns/user").st_ino != os.stat("/proc/self/ns/user").st_ino
    run.launch.start()
    code, output = run.finish()
    assert code == 0, output
    assert output.split() == ["0", "0", "100000", "1000", "0", "100000", "1000", "null"]


def test_a_namespace_given_by_path_is_joined(rootfs: Path, tmp_path: Path) -> None:
    first = Run(configuration(rootfs, "sleep", "100"), tmp_path)
    first.launch.start()
    other = tmp_path / "second"
    other.mkdir()
    spec = configuration(rootfs, "readlink", "/proc/self/ns/net", cgroupsPath=f"/{OWN}/two")
    spec["linux"]["namespaces"] = [entry for entry in spec["linux"]["namespaces"] if entry["type"] != "network"]
    spec["linux"]["namespaces"].append({"type": "network", "path": f"/proc/{first.launch.at.pid}/ns/net"})
    second = Run(spec, other)
    second.launch.start()
    inode = os.stat(f"/proc/{first.launch.at.pid}/ns/net").st_ino
    output = b""
    while chunk := os.read(second.read, 4096):
        output += chunk
    assert output.decode().strip() == f"net:[{inode}]"
    os.waitpid(second.launch.at.pid, 0)
    second.face.remove(f"{OWN}/two", OWN)
    os.kill(first.launch.at.pid, 9)
    assert first.finish()[0] == -9


def test_the_container_dies_with_its_parent(rootfs: Path, tmp_path: Path) -> None:
    read, write = os.pipe()
    parent = os.fork()
    if parent == 0:
        try:
            run = Run(configuration(rootfs, "sleep", "100"), tmp_path, die_with_parent=True)
            run.launch.start()
            os.write(write, b"%d" % run.launch.at.pid)
        finally:
            os._exit(0)  # without a word to the container
    pid = int(os.read(read, 100))
    pidfd = -1
    try:
        pidfd = process.pidfd_open(pid)
    except ProcessLookupError:
        pass
    assert pidfd < 0 or process.pidfd_ended(pidfd, 5)
    os.waitpid(parent, 0)
    cgroups.detect().remove(f"{OWN}/one", OWN)
