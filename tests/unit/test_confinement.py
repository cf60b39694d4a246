"""AppArmor's profiles and SELinux's contexts: what is written where, and what is refused; the kernel's files are made-up ones.

tests/vm applies a real profile on a kernel that has AppArmor.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from minidocker.engine import prepare
from minidocker.errors import KernelError, UnsupportedError
from minidocker.kernel import lsm
from minidocker.plan import CHILD, At
from minidocker.runtime import confinement
from minidocker.runtime.program import confined
from minidocker.spec.request import RunRequest

CONTEXT = "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023"


class Fake:
    """A host's /sys and /proc/thread-self/attr, as far as lsm.py looks."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place = place
        self.attributes = place / "attr"
        self.attributes.mkdir()
        (self.attributes / "exec").touch()
        monkeypatch.setattr(lsm, "_ENABLED", str(place / "enabled"))
        monkeypatch.setattr(lsm, "_PROFILES", str(place / "profiles"))
        monkeypatch.setattr(lsm, "_SELINUXFS", str(place / "selinux"))
        monkeypatch.setattr(lsm, "_ATTRIBUTES", str(self.attributes))

    def with_apparmor(self, own_directory: bool = True, enabled: str = "Y\n") -> Fake:
        (self.place / "enabled").write_text(enabled)
        (self.place / "profiles").write_text("docker-default (enforce)\nsnap (of spaces) (complain)\n")
        if own_directory:
            (self.attributes / "apparmor").mkdir()
            (self.attributes / "apparmor/exec").touch()
        return self

    def with_selinux(self, context: str = CONTEXT) -> Fake:
        (self.place / "selinux").mkdir()
        (self.place / "selinux/context").touch()
        (self.attributes / "current").write_text(context + "\0")
        return self

    def is_procfs(self, monkeypatch: pytest.MonkeyPatch) -> Fake:
        def fstatfs(file: int, status: Any) -> int:
            status[:8] = lsm._PROC_SUPER_MAGIC.to_bytes(8, "little")
            return 0

        monkeypatch.setattr(lsm, "_fstatfs", fstatfs)
        return self


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    return Fake(tmp_path, monkeypatch)


def request(apparmor: str = "", *selinux: str) -> RunRequest:
    made = RunRequest(["true"])
    made.apparmor, made.selinux = apparmor, list(selinux)
    return made


def test_most_containers_ask_for_nothing(fake: Fake) -> None:
    assert prepare.security_labels(request()) == {} and confined({}) == confined({"apparmorProfile": "", "selinuxLabel": ""}) == []


@pytest.mark.parametrize("enabled", ["", "N\n"])
def test_without_apparmor_a_profile_is_refused_before_anything_is_made(fake: Fake, enabled: str) -> None:
    fake.with_apparmor(enabled=enabled)
    for refused in (lambda: prepare.security_labels(request("docker-default")), lambda: confined({"apparmorProfile": "docker-default"})):
        with pytest.raises(UnsupportedError, match="`docker-default`: AppArmor is not on here"):
            refused()
    assert prepare.security_labels(request("unconfined")) == {}, "that all are already"


@pytest.mark.parametrize("name", ["docker-default", "snap (of spaces)", "unconfined", "docker-default//child"])
def test_a_profile_that_is_loaded_is_asked_for(fake: Fake, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    fake.with_apparmor().is_procfs(monkeypatch)
    labels = prepare.security_labels(request(name))
    assert labels == {"apparmorProfile": name}
    [step] = confined(labels)
    assert step.actor == CHILD and f"aa-exec -p {confinement.quote(name)}" in step.shell()
    step.apply(At())
    assert (fake.attributes / "apparmor/exec").read_text() == f"exec {name}"
    assert (fake.attributes / "exec").read_text() == "", "that is another module's"


def test_a_kernel_before_5_8_has_one_file_for_all(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.with_apparmor(own_directory=False).is_procfs(monkeypatch)
    confined({"apparmorProfile": "docker-default"})[0].apply(At())
    assert (fake.attributes / "exec").read_text() == "exec docker-default"


def test_a_profile_that_is_not_loaded_is_named(fake: Fake) -> None:
    fake.with_apparmor()
    with pytest.raises(UnsupportedError, match="the AppArmor profile `mine` is not loaded") as caught:
        prepare.security_labels(request("mine"))
    assert "apparmor_parser" in caught.value.hint
    (fake.place / "profiles").unlink()
    assert prepare.security_labels(request("mine")), "securityfs is not mounted: the kernel will tell"


def test_nothing_is_written_where_proc_is_something_else(fake: Fake) -> None:
    """A /proc that is a tmpfs takes any profile, and applies none (CVE-2019-16884)."""
    fake.with_apparmor().with_selinux()
    for process in ({"apparmorProfile": "docker-default"}, {"selinuxLabel": CONTEXT}):
        with pytest.raises(KernelError, match="ask for"):
            confined(process)[0].apply(At())
    assert (fake.attributes / "apparmor/exec").read_text() == (fake.attributes / "exec").read_text() == ""


@pytest.mark.parametrize(
    ("parts", "context"),
    [
        (["type:container_t"], "unconfined_u:unconfined_r:container_t:s0-s0:c0.c1023"),
        (["level:s0:c1,c2", "role:system_r", "user:system_u"], "system_u:system_r:unconfined_t:s0:c1,c2"),
    ],
)
def test_parts_of_the_context_are_replaced(fake: Fake, monkeypatch: pytest.MonkeyPatch, parts: list[str], context: str) -> None:
    fake.with_selinux().is_procfs(monkeypatch)
    labels = prepare.security_labels(request("", *parts))
    assert labels == {"selinuxLabel": context}
    assert (fake.place / "selinux/context").read_bytes() == context.encode() + b"\0", "the policy was asked"
    confined(labels)[0].apply(At())
    assert (fake.attributes / "exec").read_text() == context


def test_without_selinux_a_label_is_refused(fake: Fake) -> None:
    for refused in (
        lambda: prepare.security_labels(request("", "type:container_t")),
        lambda: confined({"selinuxLabel": CONTEXT}),
        lambda: confinement.labelled([], "system_u:object_r:container_file_t:s0"),
    ):
        with pytest.raises(UnsupportedError, match="SELinux is not on here"):
            refused()


def test_a_context_that_the_policy_does_not_know_is_refused(fake: Fake) -> None:
    fake.with_selinux()
    (fake.place / "selinux/context").unlink()
    (fake.place / "selinux/context").symlink_to("/dev/full")  # as a file that takes no such write
    with pytest.raises(UnsupportedError, match="this host's policy has none such"):
        prepare.security_labels(request("", "type:nonsense_t"))


def test_files_are_labelled_by_the_mounts_that_can(fake: Fake) -> None:
    fake.with_selinux()
    mounts = [{"destination": f"/{kind}", "type": kind, "options": ["nosuid"]} for kind in ("proc", "tmpfs", "bind", "devpts", "sysfs")]
    label = "system_u:object_r:container_file_t:s0:c1,c2"
    found = confinement.labelled(mounts, label)
    assert [f'context="{label}"' in entry["options"] for entry in found] == [False, True, False, True, False]
    assert mounts[1]["options"] == ["nosuid"], "what was given is left as it was"
