"""Fixtures of the conformance suite, and its table of results.

Every test cites what it stands for by `@pytest.mark.spec("FILE#SECTION")`, of the OCI runtime-spec (1.2), or "command line" for what
the specification leaves open and all engines that drive a runtime rely on. `@pytest.mark.differs(runc="why")` says that a peer is
known not to do it; a test that fails with any other peer is wrong.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.conformance import runtimes
from tests.conformance.box import PARENT, Box, hierarchies, remove
from tests.conformance.runtimes import Runtime

HERE = Path(__file__).parent
WORDS = {"passed": "ok", "failed": "FAIL", "error": "ERROR", "skipped": "skip", "xfailed": "differs", "xpassed": "ok"}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "spec(section): the section of the OCI runtime-spec that the test stands for")
    config.addinivalue_line("markers", "differs(**why): peers, by name, that are known not to do this")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE not in item.path.parents:
            continue
        cited = item.get_closest_marker("spec")
        if cited is None:
            raise pytest.UsageError(f"{item.nodeid} cites no section of the specification")
        callspec = getattr(item, "callspec", None)
        runtime = Path(callspec.params["runtime"]).name if callspec and "runtime" in callspec.params else ""
        name = item.name.removeprefix("test_").replace(f"[{runtime}]", "").replace(f"[{runtime}-", "[")
        item.user_properties.append(("conformance", (cited.args[0], name, runtime)))
        for mark in item.iter_markers("differs"):
            if runtime in mark.kwargs:
                item.add_marker(pytest.mark.xfail(reason=f"{runtime}: {mark.kwargs[runtime]}", strict=False))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Section and test x runtime."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    columns: list[str] = []
    for outcome, word in WORDS.items():
        for report in terminalreporter.stats.get(outcome, []):
            for key, value in getattr(report, "user_properties", []):
                if key == "conformance":
                    section, name, runtime = value
                    row = rows.setdefault((section, name), {})
                    if row.get(runtime, "ok") == "ok":  # an error in tearing down comes after a success
                        row[runtime] = word
                    columns += [runtime] if runtime not in columns else []
    if not rows:
        return
    terminalreporter.section("conformance to the OCI runtime-spec")
    for section in sorted({section for section, _ in rows}):
        terminalreporter.write_line("")
        terminalreporter.write_line(f"{section:<92}" + "".join(f"{name:<16}" for name in columns))
        for (of, name), row in sorted(rows.items()):
            if of == section:
                terminalreporter.write_line(f"  {name[:88]:<90}" + "".join(f"{row.get(column, '-'):<16}" for column in columns))
    terminalreporter.write_line("")
    for word in ("ok", "FAIL", "ERROR", "differs", "skip"):
        counts = [sum(row.get(column) == word for row in rows.values()) for column in columns]
        terminalreporter.write_line(f"{word:<92}" + "".join(f"{count:<16}" for count in counts))


@pytest.fixture(scope="session", params=runtimes.chosen(), ids=lambda path: Path(path).name)
def runtime(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """One after the other: all tests of one runtime, then of the next."""
    name = Path(request.param).name
    path = runtimes.ours(tmp_path_factory.mktemp("ours")) if request.param == runtimes.OURS else request.param
    subprocess.run([path, "--version"], check=True, capture_output=True, timeout=60)
    with runtimes.no_unified() if name == "crun" else nullcontext():
        yield Runtime(name, [path], Path("/run/conformance") / name)
    for top in hierarchies():
        if (parent := Path(f"{top}{PARENT}")).is_dir():
            remove(parent)


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """busybox's root file system, which bundles link to: with those of its 400 names alone that the tests use."""
    place = tmp_path_factory.mktemp("conformance") / "busybox"
    subprocess.run([runtimes.REPOSITORY / "rootfs/busybox", place], check=True, timeout=60)
    used = set(re.findall(r"\w+", "".join(file.read_text() for file in HERE.glob("test_*.py")))) | {"busybox", "["}
    for link in place.glob("**/*bin/*"):
        if link.name not in used:
            link.unlink()
    return place


@pytest.fixture
def box(runtime: Runtime, rootfs: Path, tmp_path: Path) -> Iterator[Box]:
    """A bundle under the runtime whose turn it is; its container is gone afterwards, and nothing of it is left."""
    made = Box(runtime, tmp_path / "bundle", rootfs)
    yield made
    made.close()


@pytest.fixture
def other(runtime: Runtime, rootfs: Path, tmp_path: Path) -> Iterator[Box]:
    """A second one."""
    made = Box(runtime, tmp_path / "other", rootfs)
    yield made
    made.close()
