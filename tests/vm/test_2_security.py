"""AppArmor, which Debian's kernel has on: a container is under the profile that it was given, from its first instruction on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from minidocker.kernel import lsm
from tests.e2e.support import Minidocker
from tests.pretend import sh

pytestmark = pytest.mark.vm

NAME = "minidocker-test"
PROFILE = f"""
profile {NAME} flags=(attach_disconnected,mediate_deleted) {{
  file,
  capability,
  network,
  signal,
  deny /etc/passwd r,
}}
"""
WHO = ("cat", "/proc/self/attr/current")


@pytest.fixture
def profile(tmp_path: Path) -> Iterator[str]:
    """One that is loaded, and lets its processes do all but read the list of users; its option."""
    (tmp_path / "profile").write_text(PROFILE)
    sh(f"apparmor_parser -r {tmp_path}/profile")
    yield f"apparmor={NAME}"
    sh(f"apparmor_parser -R {tmp_path}/profile")


def test_apparmor_is_on_and_selinux_is_not(md: Minidocker) -> None:
    assert lsm.apparmor() and not lsm.selinux()
    assert md("info", "--format", "{{.AppArmor}} {{.SELinux}}").stdout == "true false\n"


def test_a_container_has_the_profile_it_was_given(md: Minidocker, busybox: Path, profile: str) -> None:
    for options in ((), ("-u", "1000"), ("--security-opt", "no-new-privileges=false"), ("--privileged",)):
        done = md.run("--rm", "--net", "none", "--rootfs", busybox, *options, "--security-opt", profile, *WHO)
        assert done.stdout == f"{NAME} (enforce)\n", options
    denied = md.run("--rm", "--net", "none", "--rootfs", busybox, "--security-opt", profile, "cat", "/etc/passwd", check=False)
    assert denied.returncode == 1 and "Permission denied" in denied.stderr
    assert md.run("--rm", "--net", "none", "--rootfs", busybox, "cat", "/etc/passwd").stdout.startswith("root:")


def test_so_has_an_exec_and_inspect_says_so(md: Minidocker, busybox: Path, profile: str) -> None:
    md.start("--name", "one", "--net", "none", "--rootfs", busybox, "--security-opt", profile, "sleep", "1000")
    assert md("exec", "one", *WHO).stdout == f"{NAME} (enforce)\n"
    assert md("exec", "one", "cat", "/etc/passwd", check=False).returncode == 1
    described = md.inspect("one")
    assert (described["AppArmorProfile"], described["HostConfig"]["SecurityOpt"]) == (NAME, [profile])


def test_without_one_it_is_as_unconfined_as_we_are(md: Minidocker, busybox: Path) -> None:
    for options in ((), ("--security-opt", "apparmor=unconfined")):
        assert md.run("--rm", "--net", "none", "--rootfs", busybox, *options, *WHO).stdout == "unconfined\n"


def test_one_that_is_not_loaded_is_refused_before_anything_is_made(md: Minidocker, busybox: Path) -> None:
    said = md.refused("run", "--net", "none", "--rootfs", busybox, "--security-opt", "apparmor=nosuch", "true")
    assert said.startswith("minidocker: the AppArmor profile `nosuch` is not loaded\n") and "apparmor_parser -r" in said
    assert md.ps() == []
