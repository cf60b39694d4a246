"""Setuptools as it is (PEP 517), after a look at what python-prctl takes to be built: it is built after us, and pip and pipx bury its
complaint. Not a part of the package: no file of this directory is installed.

    pip install --config-settings prctl=built .     where python-prctl is there already, or a wheel of it: nothing is looked at
"""

from __future__ import annotations

import glob
import os
import subprocess
import sys
import sysconfig

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403  (the hooks that are not here)

# The source tree, in which every hook is run (PEP 517), before an older minidocker that is installed where this one is to go.
sys.path.insert(0, os.getcwd())
from minidocker.kernel import packages


def get_requires_for_build_wheel(config_settings: dict[str, str] | None = None) -> list[str]:
    """The first hook that pip calls."""
    if (config_settings or {}).get("prctl") != "built":
        missing = _missing()
        if missing:
            sys.exit(f"minidocker: python-prctl cannot be built: {', '.join(missing)} missing. Try: {packages.install(*missing)}")
    needed: list[str] = build_meta.get_requires_for_build_wheel(config_settings)
    return needed


def build_wheel(
    wheel_directory: str, config_settings: dict[str, str] | None = None, metadata_directory: str | None = None
) -> str:
    """The manual pages are made on the way, from the table that --help is made from (pyproject.toml says where they go)."""
    from minidocker.cli import man

    for page in glob.glob("build/man/*.1"):  # of what an older checkout had
        os.unlink(page)
    man.write_all("build/man")
    made: str = build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)
    return made


def _missing() -> list[str]:
    """Of a compiler and two headers, those that are not there."""
    compiles = _accepts("")
    found = [] if compiles else ["gcc"]
    if not os.path.exists(f"{sysconfig.get_path('include')}/Python.h"):
        found.append("Python.h")
    if not (_accepts("#include <sys/capability.h>\n") if compiles else os.path.exists("/usr/include/sys/capability.h")):
        found.append("sys/capability.h")
    return found


def _accepts(source: str) -> bool:
    """Whether gcc finds what `source` includes."""
    try:
        done = subprocess.run(["gcc", "-E", "-x", "c", "-o", os.devnull, "-"], input=source.encode(), capture_output=True)  # noqa: TID251
    except FileNotFoundError:
        return False
    return done.returncode == 0
