"""The launcher finds the interpreter and the package in every layout that pip makes, and starts them bare."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import _prctl
import click
import prctl
import pyroute2
import pytest

import minidocker

REPOSITORY = Path(__file__).resolve().parent.parent.parent
LAUNCHER = REPOSITORY / "minidocker/cli/bin/minidocker"
VERSION = f"python3.{sys.version_info.minor}"
PYTHON = os.path.realpath(sys.executable)

# Stands in for minidocker/__main__.py: says how it was started.
REPORT = """
import json, sys
def start(face):
    print(json.dumps({"argv": sys.argv, "path": sys.path, "isolated": sys.flags.isolated, "site": "site" in sys.modules,
                      "executable": sys.executable, "from": __file__, "face": face}))
"""


def modules(directory: Path, *, dependencies: bool = True) -> Path:
    """A made-up minidocker, with made-up dependencies beside it, in `directory`."""
    (directory / "minidocker").mkdir(parents=True)
    (directory / "minidocker/__init__.py").touch()
    (directory / "minidocker/__main__.py").write_text(REPORT)
    if dependencies:
        depend(directory)
    return directory


def depend(directory: Path) -> None:
    for name in ("click", "pyroute2"):
        (directory / name).mkdir(parents=True)
        (directory / name / "__init__.py").touch()
    (directory / "prctl.py").touch()


def programs(directory: Path, *interpreters: str) -> Path:
    """The launcher in `directory`, with `interpreters` beside it; the launcher's path."""
    directory.mkdir(parents=True)
    for name in interpreters:
        (directory / name).symlink_to(PYTHON)
    shutil.copy(LAUNCHER, directory / "minidocker")
    return directory / "minidocker"


def launch(launcher: Path | str, *arguments: str, **options: object) -> dict[str, object]:
    done = subprocess.run([launcher, *arguments], capture_output=True, text=True, timeout=60, **options)  # type: ignore[call-overload]
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """What `python -m venv` and pip leave, as far as the launcher looks; the launcher's path."""
    root = tmp_path / "venv"
    modules(root / "lib" / VERSION / "site-packages")
    launcher = programs(root / "bin", "python3", VERSION)
    (root / "pyvenv.cfg").write_text(f"home = {os.path.dirname(PYTHON)}\ninclude-system-site-packages = false\n")
    return launcher


@pytest.fixture
def no_python(tmp_path: Path) -> dict[str, str]:
    """An environment on whose PATH no interpreter is, though the launcher's own tools are."""
    empty = tmp_path / "path"
    empty.mkdir()
    for tool in ("sh", "readlink"):
        (empty / tool).symlink_to(shutil.which(tool) or f"/bin/{tool}")
    return {"PATH": str(empty)}


@pytest.fixture
def path_python(no_python: dict[str, str]) -> dict[str, str]:
    """An environment on whose PATH an interpreter is that has none of our packages."""
    for name in ("python3", VERSION):
        (Path(no_python["PATH"]) / name).symlink_to(PYTHON)
    return no_python


def test_a_venv_is_started_bare_with_one_directory_added(venv: Path, no_python: dict[str, str]) -> None:
    report = launch(venv, "run", "--net", "br0", env=no_python)
    assert report["isolated"] and not report["site"]
    assert report["executable"] == str(venv.parent / VERSION)
    path = report["path"]
    assert isinstance(path, list) and os.path.samefile(path[-1], venv.parent.parent / "lib" / VERSION / "site-packages")
    assert not any("site-packages" in place or place == "" for place in path[:-1])


@pytest.mark.parametrize(
    "arguments",
    [[], [""], ["a b", "$HOME", "*", "`id`", '"', "'", "\\", "\n"], ["--", "-c", "-I", "--help"], ["é\u202e"], ["x" * 100_000]],
)
def test_arguments_arrive_as_they_were_given(venv: Path, arguments: list[str]) -> None:
    assert launch(venv, *arguments)["argv"] == ["-c", *arguments]


def test_what_the_environment_says_of_modules_is_not_heard(venv: Path, tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('a stranger was imported')")
    launch(venv, env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONSTARTUP": "x"}, cwd=tmp_path)


def test_symlinks_are_followed_relative_ones_and_chains(venv: Path, tmp_path: Path, no_python: dict[str, str]) -> None:
    local = tmp_path / "home with blank/bin"
    local.mkdir(parents=True)
    (local / "first").symlink_to(venv)
    (local / "minidocker").symlink_to("first")
    (local / "relative").symlink_to(os.path.relpath(venv, local))
    package = venv.parent.parent / "lib" / VERSION / "site-packages/minidocker/__main__.py"
    for name in ("first", "minidocker", "relative"):
        report = launch(local / name, "x", env=no_python)
        assert report["isolated"] and os.path.samefile(str(report["from"]), package)


def test_by_the_name_of_minidocker_oci_it_is_the_runtime_whatever_links_lead_there(venv: Path, tmp_path: Path) -> None:
    assert launch(venv)["face"] == "minidocker.cli"
    installed = venv.with_name("minidocker-oci")
    shutil.copy(REPOSITORY / "minidocker/cli/bin/minidocker-oci", installed)  # in the checkout a link, after pip a file
    (tmp_path / "runc").symlink_to(installed)
    (tmp_path / "minidocker-oci").symlink_to(venv)
    for path in (installed, tmp_path / "runc", tmp_path / "minidocker-oci"):
        assert launch(path)["face"] == "minidocker.cli.oci"
    (tmp_path / "minidocker-ocx").symlink_to(venv)
    assert launch(tmp_path / "minidocker-ocx")["face"] == "minidocker.cli"


def test_a_linked_directory_above_does_not_mislead(venv: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/tools").symlink_to(venv.parent)
    assert launch(tmp_path / "elsewhere/tools/minidocker")["isolated"]


def test_a_relative_call_adds_an_absolute_directory(venv: Path) -> None:
    """The program changes directory and imports some of its modules after that."""
    for call, where in (("./minidocker", venv.parent), ("bin/minidocker", venv.parent.parent)):
        report = launch(call, cwd=where)
        assert report["isolated"] and all(os.path.isabs(place) for place in report["path"])  # type: ignore[attr-defined]


def test_a_call_by_bare_name_through_path(venv: Path, no_python: dict[str, str]) -> None:
    path = {"PATH": f"{venv.parent}:{no_python['PATH']}"}
    done = subprocess.run([no_python["PATH"] + "/sh", "-c", "minidocker x"], env=path, capture_output=True, text=True)
    assert json.loads(done.stdout)["argv"] == ["-c", "x"], done.stderr


@pytest.mark.parametrize("packages", ["site-packages", "dist-packages"])
def test_a_prefix_takes_the_interpreter_of_its_version_from_path(tmp_path: Path, path_python: dict[str, str], packages: str) -> None:
    modules(tmp_path / "prefix/lib" / VERSION / packages)
    report = launch(programs(tmp_path / "prefix/bin"), env=path_python)
    assert report["isolated"] and not report["site"]
    assert os.path.realpath(str(report["executable"])) == PYTHON


def test_a_version_whose_interpreter_is_gone_is_passed_over(tmp_path: Path, path_python: dict[str, str]) -> None:
    """As after a distribution's upgrade, when the old version's directory is still there."""
    modules(tmp_path / "prefix/lib/python3.0/site-packages")
    kept = modules(tmp_path / "prefix/lib" / VERSION / "site-packages")
    report = launch(programs(tmp_path / "prefix/bin"), env=path_python)
    assert os.path.samefile(str(report["from"]), kept / "minidocker/__main__.py")


def test_a_target_directory(tmp_path: Path, path_python: dict[str, str]) -> None:
    target = modules(tmp_path / "target")
    report = launch(programs(target / "bin"), env=path_python)
    assert report["isolated"] and os.path.samefile(str(report["from"]), target / "minidocker/__main__.py")


def test_dependencies_elsewhere_need_an_ordinary_start(tmp_path: Path, path_python: dict[str, str]) -> None:
    modules(tmp_path / "prefix/lib" / VERSION / "site-packages", dependencies=False)
    depend(tmp_path / "elsewhere")
    report = launch(programs(tmp_path / "prefix/bin"), "x", "", env={**path_python, "PYTHONPATH": str(tmp_path / "elsewhere")})
    assert report["site"] and report["argv"] == ["-c", "x", ""]


def test_a_checkout(tmp_path: Path, path_python: dict[str, str]) -> None:
    """And a module of the working directory is not imported, though `python -c` would."""
    checkout = modules(tmp_path / "checkout", dependencies=False)
    depend(tmp_path / "elsewhere")
    trap = tmp_path / "trap"
    modules(trap)
    launcher = programs(checkout / "minidocker/cli/bin")
    report = launch(launcher, env={**path_python, "PYTHONPATH": str(tmp_path / "elsewhere")}, cwd=trap)
    assert os.path.samefile(str(report["from"]), checkout / "minidocker/__main__.py")


def test_what_is_missing_is_named_in_one_line(tmp_path: Path, path_python: dict[str, str], no_python: dict[str, str]) -> None:
    launcher = programs(tmp_path / "alone/bin")
    done = subprocess.run([launcher], env=path_python, capture_output=True, text=True)
    assert done.returncode == 125 and done.stdout == ""
    assert "cannot import minidocker" in done.stderr and "Traceback" not in done.stderr
    for name in ("python3", VERSION):
        os.unlink(Path(no_python["PATH"]) / name)
    done = subprocess.run([launcher], env=no_python, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (125, "minidocker: no python3 on PATH to run with\n")


def test_nothing_is_forked_in_a_venv(venv: Path, tmp_path: Path) -> None:
    """The pid that was started is the pid that answers, and no tool is needed on PATH on the way."""
    site = venv.parent.parent / "lib" / VERSION / "site-packages"
    (site / "minidocker/__main__.py").write_text("import os\ndef start(face):\n    print(os.getpid())\n")
    with subprocess.Popen([venv], stdout=subprocess.PIPE, text=True, env={"PATH": str(tmp_path)}) as child:
        out, _ = child.communicate()
    assert int(out) == child.pid
    code = [line for line in LAUNCHER.read_text().splitlines() if not line.startswith("#")]
    assert sum("$(" in line or "`" in line for line in code) == 1, "readlink's is the only command substitution, thus fork"


def real(directory: Path) -> Path:
    """This checkout's package and this interpreter's own dependencies, laid out as in a venv; the launcher's path."""
    site = directory / "lib" / VERSION / "site-packages"
    site.mkdir(parents=True)
    (site / "minidocker").symlink_to(REPOSITORY / "minidocker")
    for module in (click, prctl, _prctl, pyroute2):
        origin = Path(str(module.__file__))
        origin = origin.parent if origin.name == "__init__.py" else origin
        (site / origin.name).symlink_to(origin)
    (directory / "pyvenv.cfg").write_text(f"home = {os.path.dirname(PYTHON)}\n")
    return programs(directory / "bin", VERSION)


def test_the_real_program_starts_and_its_output_reaches_a_pipe(tmp_path: Path) -> None:
    """It ends by os._exit, which flushes nothing by itself."""
    launcher = real(tmp_path / "venv")
    done = subprocess.run([launcher, "--version"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "") and minidocker.__version__ in done.stdout
    assert len(subprocess.run([launcher, "--help"], capture_output=True, timeout=60).stdout) > 200
    done = subprocess.run([launcher, "no-such-command"], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and done.stdout == "" and "no-such-command" in done.stderr and "Traceback" not in done.stderr
