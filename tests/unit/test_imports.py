"""The shorter way to our modules: it serves what is compiled from the source as it is, and leaves the rest to the interpreter."""

from __future__ import annotations

import os
import py_compile
import subprocess
import sys
from pathlib import Path

import pytest

import minidocker

PACKAGE = Path(minidocker.__file__).parent


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A package `minidocker` of two modules, compiled."""
    package = tmp_path / "minidocker"
    (package / "room").mkdir(parents=True)
    (package / "imports.py").write_bytes((PACKAGE / "imports.py").read_bytes())
    (package / "__init__.py").write_text("")
    (package / "room/__init__.py").write_text("")
    (package / "room/module.py").write_text("value = 'first'\n")
    for source in package.rglob("*.py"):
        py_compile.compile(str(source))
    return tmp_path


def load(copy: Path, expression: str, *flags: str) -> str:
    program = (
        f"import sys; sys.path.insert(0, {str(copy)!r}); from minidocker import imports; imports.shorten(); "
        f"import minidocker.room.module as m; print(({expression}))"
    )
    done = subprocess.run([sys.executable, "-I", "-S", *flags, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.strip()


BY_US = "type(m.__loader__).__name__ == 'Finder'"


def test_compiled_modules_are_served_with_all_that_a_module_has(copy: Path) -> None:
    source = copy / "minidocker/room/module.py"
    assert load(copy, f"m.value, {BY_US}, m.__file__, m.__package__, m.__name__") == str(
        ("first", True, str(source), "minidocker.room", "minidocker.room.module")
    )
    assert load(copy, "sys.modules['minidocker.room'].__path__") == str([str(source.parent)])


def test_a_changed_source_is_what_is_run(copy: Path) -> None:
    source = copy / "minidocker/room/module.py"
    source.write_text("value = 'second, longer'\n")
    assert load(copy, f"m.value, {BY_US}") == str(("second, longer", False))
    assert load(copy, f"m.value, {BY_US}") == str(("second, longer", True)), "compiled anew by the interpreter"
    status = source.stat()
    source.write_text("value = 'third., longer'\n")
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns + 2_000_000_000))
    assert load(copy, "m.value") == "third., longer"


@pytest.mark.parametrize("damage", ["missing", "short", "hash-based"])
def test_bytecode_that_will_not_do_is_left_to_the_interpreter(copy: Path, damage: str) -> None:
    [cached] = (copy / "minidocker/room/__pycache__").glob("module.*.pyc")
    if damage == "missing":
        cached.unlink()
    elif damage == "short":
        cached.write_bytes(cached.read_bytes()[:10])
    else:
        py_compile.compile(
            str(copy / "minidocker/room/module.py"), str(cached), invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH
        )
    assert load(copy, f"m.value, {BY_US}") == str(("first", False))


def test_optimized_interpreters_read_their_own_files(copy: Path) -> None:
    assert load(copy, f"m.value, {BY_US}", "-O") == str(("first", False))


def test_what_is_not_ours_is_not_looked_at(copy: Path) -> None:
    assert load(copy, "type(__import__('string').__loader__).__name__ != 'Finder'") == "True"
