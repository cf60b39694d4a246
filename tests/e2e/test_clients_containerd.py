"""containerd with our runtime: `ctr` does what Kubernetes' CRI does. The shim is containerd's own, for runc's command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from hashlib import sha256
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests import pretend
from tests.e2e import clients
from tests.e2e.support import TIMEOUT, Terminal, poll

CGROUP = "minidocker-test-containerd"
RUN = Path("/run/containerd-test")
IMAGE = "docker.io/library/busybox:test"


class Containerd:
    """A daemon of our own; `ctr("tasks", "ls")` runs any command of its client."""

    def __init__(self, work: Path, runtime: str) -> None:
        self.work, self.runtime = work, runtime
        configuration = work / "config.toml"
        configuration.write_text(f'version = 2\nroot = "{work}/root"\nstate = "{RUN}/state"\n'
                                 f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "{RUN}/socket"\n')  # fmt: skip
        with (work / "log").open("ab") as log:
            self.process = subprocess.Popen(["containerd", "--config", configuration], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        poll(lambda: self.try_("version").returncode == 0, "containerd answers", TIMEOUT)

    def argv(self, *words: object) -> list[str]:
        return ["ctr", "--address", f"{RUN}/socket", *map(str, words)]

    def try_(self, *words: object, **options: Any) -> subprocess.CompletedProcess[str]:
        settings: dict[str, Any] = {"stdin": subprocess.DEVNULL, "timeout": TIMEOUT, **options}
        return subprocess.run(self.argv(*words), capture_output=True, text=True, **settings)

    def __call__(self, *words: object, **options: Any) -> str:
        done = self.try_(*words, **options)
        assert done.returncode == 0, f"{words}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout.rstrip("\n")

    def words(self, *words: object, options: tuple[object, ...] = ()) -> list[object]:
        """Of `run`: the options, the image, then the container's id and its command."""
        return ["run", "--snapshotter", "native", "--runc-binary", self.runtime, "--runc-root", RUN / "runc", *options, IMAGE, *words]

    def cgroup(self, id: str) -> tuple[str, str]:
        return "--cgroup", f"/{CGROUP}/{id}"

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(TIMEOUT)
        finally:
            self.process.kill()
            self.process.wait()


def image(busybox: Path, place: Path) -> None:
    """An archive of the OCI image layout, of one layer."""
    layer = BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(busybox, ".")
    blobs: dict[str, bytes] = {}

    def blob(data: bytes, type: str) -> dict[str, Any]:
        digest = sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {"mediaType": f"application/vnd.oci.image.{type}", "digest": f"sha256:{digest}", "size": len(data)}

    rootfs = blob(layer.getvalue(), "layer.v1.tar")
    config = {"architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine], "os": "linux",
              "config": {"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["sh"]},
              "rootfs": {"type": "layers", "diff_ids": [rootfs["digest"]]}}  # fmt: skip
    manifest = {"schemaVersion": 2, "config": blob(json.dumps(config).encode(), "config.v1+json"), "layers": [rootfs]}
    entry = {**blob(json.dumps(manifest).encode(), "manifest.v1+json"), "annotations": {"io.containerd.image.name": IMAGE}}
    blobs["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    blobs["oci-layout"] = b'{"imageLayoutVersion": "1.0.0"}'
    with tarfile.open(place, "w") as tar:
        for name, data in blobs.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, BytesIO(data))


@pytest.fixture(scope="module")
def ctr(tmp_path_factory: pytest.TempPathFactory, busybox: Path) -> Iterator[Containerd]:
    work = tmp_path_factory.mktemp("containerd")
    with clients.guests(RUN, CGROUP):
        daemon = Containerd(work, clients.runtime(work))
        try:
            image(busybox, work / "image.tar")
            daemon("images", "import", "--snapshotter", "native", work / "image.tar")
            yield daemon
        finally:
            for id in daemon("containers", "ls", "--quiet").split():
                daemon.try_("tasks", "rm", "--force", id)
                daemon("containers", "rm", id)
            daemon.stop()


def test_run_and_its_exit_code(ctr: Containerd) -> None:
    assert ctr(*ctr.words("one", "echo", "hello", options=("--rm", *ctr.cgroup("one")))) == "hello"
    assert ctr.try_(*ctr.words("two", "sh", "-c", "exit 7", options=("--rm", *ctr.cgroup("two")))).returncode == 7
    assert ctr("containers", "ls", "--quiet") == ""


def test_what_is_missing_is_an_error_that_names_it(ctr: Containerd) -> None:
    done = ctr.try_(*ctr.words("missing", "/no/such/program", options=("--rm", *ctr.cgroup("missing"))))
    assert done.returncode != 0 and "/no/such/program" in done.stderr
    ctr.try_("containers", "rm", "missing")


def test_the_container_is_what_was_asked_for(ctr: Containerd, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    options = ("--rm", *ctr.cgroup("asked"), "--env", "A=b", "--cwd", "/usr", "--memory-limit", str(64 << 20),
               "--mount", f"type=bind,src={tmp_path},dst=/data,options=rbind:ro", "--read-only", "--seccomp")  # fmt: skip
    script = "echo $A; pwd; cat /data/file; echo; cat /proc/self/cgroup; touch /x 2>&1; grep Seccomp: /proc/self/status"
    said = ctr(*ctr.words("asked", "sh", "-c", script, options=options))
    assert said.splitlines()[:3] == ["b", "/usr", "content"] and f"/{CGROUP}/asked" in said
    assert "Read-only" in said and "Seccomp:\t2" in said


def test_a_terminal(ctr: Containerd) -> None:
    with Terminal(ctr.argv(*ctr.words("tty", "sh", options=("--rm", "--tty", *ctr.cgroup("tty")))), rows=33, columns=111) as terminal:
        terminal.until(b"# ")
        terminal.type(b"stty size; exit 5\n")
        terminal.until(b"33 111")
        assert terminal.wait(TIMEOUT) == 5


@pytest.fixture(scope="module")
def task(ctr: Containerd) -> Iterator[str]:
    ctr(*ctr.words("task", "sleep", "1000", options=("--detach", *ctr.cgroup("task"))))
    yield "task"
    ctr("tasks", "kill", "--signal", "KILL", "task")
    poll(lambda: "STOPPED" in ctr("tasks", "ls"), "it has ended")
    ctr("tasks", "rm", "task")
    ctr("containers", "rm", "task")


def test_a_task_its_exec_and_its_processes(ctr: Containerd, task: str) -> None:
    assert "RUNNING" in ctr("tasks", "ls")
    assert ctr("tasks", "exec", "--exec-id", "a", task, "sh", "-c", "cat /proc/1/cmdline | tr '\\0' ' '").strip() == "sleep 1000"
    assert ctr.try_("tasks", "exec", "--exec-id", "b", task, "sh", "-c", "exit 9").returncode == 9
    assert ctr.try_("tasks", "exec", "--exec-id", "c", task, "/no/such/program").returncode != 0
    assert len(ctr("tasks", "ps", task).splitlines()) == 2


def test_pause_and_resume(ctr: Containerd, task: str) -> None:
    ctr("tasks", "pause", task)
    assert "PAUSED" in ctr("tasks", "ls")
    ctr("tasks", "resume", task)
    assert "RUNNING" in ctr("tasks", "ls")


def test_metrics(ctr: Containerd, task: str) -> None:
    assert "memory" in ctr("tasks", "metrics", task)


def test_signals_reach_the_process(ctr: Containerd) -> None:
    script = "trap 'exit 3' TERM; touch /ready; while :; do sleep 0.05; done"
    ctr(*ctr.words("deaf", "sh", "-c", script, options=("--detach", *ctr.cgroup("deaf"))))
    numbers = count()
    look = ("test", "-e", "/ready")
    poll(lambda: ctr.try_("tasks", "exec", "--exec-id", f"look-{next(numbers)}", "deaf", *look).returncode == 0, "the trap is set")
    ctr("tasks", "kill", "--signal", "TERM", "deaf")
    poll(lambda: "STOPPED" in ctr("tasks", "ls"), "it has ended")
    assert "exit code 3" in ctr.try_("tasks", "delete", "deaf").stderr
    ctr("containers", "rm", "deaf")


def test_the_daemon_comes_back_to_what_runs(ctr: Containerd, task: str) -> None:
    before = pretend.sh(f"cat /proc/{ctr('tasks', 'ls').split()[-2]}/stat").split()[21]
    assert before
    ctr.stop()
    ctr.__init__(ctr.work, ctr.runtime)  # type: ignore[misc]
    assert "RUNNING" in ctr("tasks", "ls")
    assert ctr("tasks", "exec", "--exec-id", "after", task, "echo", "still") == "still"
