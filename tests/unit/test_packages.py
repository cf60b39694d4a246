"""What is missing is named as the distribution at hand names it; and the build says so before pip buries it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from minidocker.kernel import packages

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("release", "types"),
    [
        ('PRETTY_NAME="Debian"\nID=debian\n', "apt-get install nftables libseccomp2 gcc python3-dev libcap-dev"),
        ("ID=ubuntu\nID_LIKE=debian\n", "apt-get install nftables libseccomp2 gcc python3-dev libcap-dev"),
        ("ID=linuxmint\nID_LIKE='ubuntu debian'\n", "apt-get install nftables libseccomp2 gcc python3-dev libcap-dev"),
        ("ID=fedora\n", "dnf install nftables libseccomp gcc python3-devel libcap-devel"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', "dnf install nftables libseccomp gcc python3-devel libcap-devel"),
        ("ID=alpine\n", "apk add nftables libseccomp gcc musl-dev linux-headers python3-dev libcap-dev"),
        ("ID=arch\n", "pacman -S nftables libseccomp gcc python libcap"),
        ('ID="opensuse-tumbleweed"\nID_LIKE="opensuse suse"\n', "zypper install nftables libseccomp2 gcc python3-devel libcap-devel"),
        ("ID=plan9\n", "install nftables libseccomp2 gcc python3-dev libcap-dev (the names are Debian's)"),
        (None, "install nftables libseccomp2 gcc python3-dev libcap-dev (the names are Debian's)"),
    ],
)
def test_each_family_has_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str | None, types: str) -> None:
    if release is not None:
        (tmp_path / "os-release").write_text(release)
    monkeypatch.setattr(packages, "_RELEASES", (str(tmp_path / "nowhere"), str(tmp_path / "os-release")))
    assert packages.install("nftables", "libseccomp", "gcc", "Python.h", "sys/capability.h") == types


def hook(tools: Path, settings: str = "None", installed: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The first hook that pip calls, as pip calls it, with no program on PATH but those in `tools`; `installed` is where packages are."""
    code = f"import backend; print(backend.get_requires_for_build_wheel({settings}))"
    path = os.pathsep.join(map(str, filter(None, (REPOSITORY / "minidocker/packaging", installed))))
    environment = {**os.environ, "PATH": str(tools), "PYTHONPATH": path}
    return subprocess.run([sys.executable, "-P", "-c", code], cwd=REPOSITORY, env=environment, capture_output=True, text=True)


def compiler(directory: Path, body: str) -> Path:
    (directory / "gcc").write_text(f"#!/bin/sh\n{body}\n")
    (directory / "gcc").chmod(0o755)
    return directory


def test_a_build_without_a_compiler_says_what_to_install(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", reason="pip brings it to a build; this interpreter has none")
    done = hook(tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("minidocker: python-prctl cannot be built: gcc") and packages.install("gcc") in done.stderr
    assert hook(tmp_path, '{"prctl": "built"}').returncode == 0


def test_a_build_beside_an_older_minidocker_uses_its_own_source(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", reason="pip brings it to a build; this interpreter has none")
    older = tmp_path / "site-packages/minidocker/kernel"
    older.mkdir(parents=True)
    (older / "__init__.py").touch()
    (older.parent / "__init__.py").touch()
    done = hook(tmp_path, '{"prctl": "built"}', tmp_path / "site-packages")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_build_without_libcaps_header_says_what_to_install(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", reason="pip brings it to a build; this interpreter has none")
    done = hook(compiler(tmp_path, "! read -r first"))  # it takes an empty program alone
    assert done.returncode == 1 and "sys/capability.h missing" in done.stderr and packages.install("sys/capability.h") in done.stderr
    assert hook(compiler(tmp_path, "exit 0")).returncode == 0 or "Python.h" in hook(tmp_path).stderr
