"""`inspect`: dotted paths, JSON, types, and what is not there."""

from __future__ import annotations

import json
from pathlib import Path

from tests.e2e.support import Minidocker


def test_paths_into_the_document_are_what_the_kernel_has(md: Minidocker, busybox: Path) -> None:
    md("network", "create", "--subnet", "10.77.3.0/24", "lab")
    md.start("--name", "web", "--net", "lab", "-e", "A=1", "--rootfs", busybox, "sleep", "1000")
    pid = md("inspect", "-f", "{{.State.Pid}}", "web").stdout.strip()
    assert Path(f"/proc/{pid}/comm").read_text() == "sleep\n"
    address = md("inspect", "--format", "{{.NetworkSettings.Networks.lab.IPAddress}}", "web").stdout.strip()
    assert f" {address}/24 " in md("exec", "web", "ip", "addr").stdout
    configuration = json.loads(md("inspect", "--format={{json .Config}}", "web").stdout)
    assert configuration["Cmd"] == ["sleep", "1000"] and "A=1" in configuration["Env"]
    assert "did you mean `.NetworkSettings.Networks.lab.IPAddress`?" in md.refused("inspect", "-f", "{{.IPAddress}}", "web")


def test_of_two_that_have_one_name_the_type_says_which(md: Minidocker, busybox: Path) -> None:
    md("network", "create", "--subnet", "10.77.3.0/24", "both")
    md("network", "create", "--subnet", "10.77.4.0/24", "lab")
    md.run("--name", "both", "--net", "none", "--rootfs", busybox, "true")
    assert md("inspect", "-f", "{{.Name}}", "both").stdout == "/both\n"
    assert md("inspect", "--type", "network", "-f", "{{.Bridge}}", "both").stdout == "both\n"
    assert md("inspect", "-f", "{{.Bridge}}", "lab").stdout == "lab\n"
    md("volume", "create", "both")
    assert md("inspect", "--type", "volume", "-f", "{{.Mountpoint}}", "both").stdout == f"{md.root}/volumes/both/_data\n"
    for words in (("inspect", "--type", "container", "lab"), ("container", "inspect", "lab"), ("inspect", "lap")):
        done = md(*words, check=False)
        assert (done.returncode, done.stdout) == (1, "[]\n") and done.stderr.startswith(f"minidocker: no such container: {words[-1]}\n")
    assert "image" in md.refused("inspect", "--type", "image", "both")
