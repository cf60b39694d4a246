"""A container by runtime.Launch alone, for tests of what an OCI configuration may say: made, run to its end, and nothing of it left."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from minidocker.kernel import cgroups
from minidocker.runtime import filters
from minidocker.runtime.container import Launch
from minidocker.runtime.enter import Entry

OWN = f"minidocker-test-oci-{os.getpid()}"
APPLETS = ("sh", "cat", "true", "false", "sleep", "id", "readlink", "ls", "stat", "mount", "grep", "uname", "touch", "mkdir", "env", "head",
           "wc", "echo", "hostname", "ip", "nice", "test", "dd", "date", "ln", "rm", "ps", "umount")  # fmt: skip


def make_rootfs(directory: Path) -> Path:
    """A root with busybox and nothing else."""
    root = directory / "root"
    for name in ("bin", "proc", "dev", "sys", "tmp", "etc"):
        (root / name).mkdir(parents=True)
    (root / "bin/busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (root / "bin/busybox").chmod(0o755)
    for applet in APPLETS:
        (root / "bin" / applet).symlink_to("busybox")
    for parent in (directory, *directory.parents):
        if parent != Path("/") and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    return root


def configuration(rootfs: Path, script: str, **linux: Any) -> dict[str, Any]:
    """What runs `script` with every namespace of its own but the user's."""
    return {
        "ociVersion": "1.2.0",
        "process": {
            "args": ["/bin/sh", "-c", script], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}, "noNewPrivileges": True,
        },
        "root": {"path": str(rootfs)},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}, {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}],
        "linux": {
            "namespaces": [{"type": name} for name in ("pid", "mount", "uts", "ipc", "network", "cgroup")],
            "cgroupsPath": f"/{OWN}/one",
            **linux,
        },
    }  # fmt: skip


class Container:
    """Created when made; `output` and `code` are there after `finish`."""

    def __init__(self, spec: dict[str, Any], directory: Path, **options: Any) -> None:
        self.reader, writer = os.pipe()
        self.face = cgroups.detect()
        null = os.open("/dev/null", os.O_RDONLY)
        profile = spec["linux"].get("seccomp")
        filter = filters.cached(profile, str(directory / "filters")) if profile else None
        try:
            self.launch = Launch("one", spec, self.face, directory=str(directory), own=OWN, stdio=(null, writer, writer), filter=filter,
                                 **options)  # fmt: skip
            self.launch.create()
        except BaseException:
            os.close(self.reader)
            raise
        finally:
            os.close(writer)
            os.close(null)

    def start(self) -> Container:
        try:
            self.launch.start()
        except BaseException:
            os.close(self.reader)
            raise
        return self

    def finish(self) -> tuple[int, str]:
        output = b""
        while chunk := os.read(self.reader, 65536):
            output += chunk
        code = os.waitstatus_to_exitcode(os.waitpid(self.launch.at.pid, 0)[1])
        os.close(self.reader)
        os.close(self.launch.pidfd)
        self.face.remove(self.launch.cgroup.name, OWN)
        return code, output.decode()


def run(spec: dict[str, Any], directory: Path, **options: Any) -> str:
    """What it wrote; it exits with 0."""
    code, output = Container(spec, directory, **options).start().finish()
    assert code == 0, output
    return output


def execute(container: Container, process: dict[str, Any], filter: tuple[bytes, int] | None = None, **options: Any) -> str:
    """What one more process of a container that runs wrote, and it has ended. A child does it: an exec leaves its caller in the container's
    PID namespace. `options` are Entry's."""
    reader, writer = os.pipe()
    null = os.open("/dev/null", os.O_RDONLY)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            entry = Entry("one", container.launch.state, process, cgroups.detect(), filter, (null, writer, writer), **options)
            entry.run()
            os.waitpid(entry.pid, 0)
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    os.close(null)
    with open(reader) as output:
        said = output.read()
    assert os.waitpid(child, 0)[1] == 0
    return said
