"""The house's rules (DESIGN.md), held by reading the source: who imports whom, what the hot path pays for, who may exit."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent.parent / "minidocker"

# cli -> engine -> runtime | network | storage -> plan -> kernel | spec -> errors: what each floor may import besides itself.
BELOW = {
    "errors": set[str](),
    "imports": set[str](),
    "spec": {"errors"},
    "kernel": {"errors"},
    "plan": {"errors", "kernel", "spec"},
}
for _floor in ("runtime", "network", "storage"):
    BELOW[_floor] = {"plan", *BELOW["plan"]}
BELOW["engine"] = {"runtime", "network", "storage", "plan", *BELOW["plan"]}
BELOW["cli"] = {"engine", *BELOW["engine"]} - {"runtime"}
BELOW["__main__"] = {"cli", "errors", "imports"}
BELOW["api"] = {"cli", "imports", *BELOW["cli"]}
BELOW["pytest_plugin"] = {"api", *BELOW["api"]}
BELOW["__init__"] = {"api", "errors"}
# The OCI command line drives the runtime without an engine.
ALSO = {"cli/oci/": {"runtime"}}

# Modules that run, ps, exec, logs and stop never load: they may import at will. A hot module imports them only inside a function.
COLD = (
    "cli/app.py",
    "api/*.py",
    "pytest_plugin.py",
    "spec/seccomp_file.py",
)

# What costs more than the hot path can pay (COSTS.md), imported when a module is.
COSTLY = """
    argparse asyncio click collections concurrent contextlib copy dataclasses datetime decimal email enum fractions functools getpass glob
    gzip hashlib http importlib inspect ipaddress json locale logging multiprocessing numbers pathlib pickle platform pprint pyroute2 queue
    random re secrets selectors shlex shutil signal socket sqlite3 ssl statistics string struct subprocess tempfile textwrap threading
    traceback types typing unittest urllib uuid warnings weakref zipfile
"""

# A process that is not the command's ends itself: a container's first, a monitor. Nobody else below cli/ does. (file, function)
EXITS = {
    ("api/keeping.py", "watch"),
    ("api/serving.py", "serve"),
    ("api/serving.py", "_end_with_caller"),
    ("engine/launch.py", "become_monitor"),
    ("engine/launch.py", "finish_resident"),
    ("engine/healthcheck.py", "probe"),
    ("engine/pulse.py", "_become"),
    ("engine/restarts.py", "again"),
    ("engine/restarts.py", "pick_up"),
    ("runtime/init.py", "become_child"),
    ("runtime/init.py", "_report"),
    ("runtime/init.py", "apply"),
    ("runtime/enter.py", "_bind_in"),
    ("runtime/hooks.py", "_become"),  # a hook in the container
    ("runtime/joining.py", "_lend"),  # who goes into a container's mount namespace for a copy of what is there
    ("runtime/joining.py", "_enter_and_clone"),  # who goes into a user namespace in its parent's stead
    ("runtime/idmaps.py", "user_namespace"),  # who holds one until it is mapped
    ("runtime/scope.py", "_wait"),  # keeps a scope of systemd's alive until the container's first process does
    ("runtime/enter.py", "run"),  # between a detached exec and the container's init
    ("engine/execute.py", "_keep"),
    ("engine/activation.py", "_exec_apart"),  # between a monitor and a DNS server, which is nobody's child
}

LINES_OF_A_FILE = 400
LINES_OF_A_FUNCTION = 60


class Source:
    """One module: its path inside the package, and its tree."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text
        self.tree = ast.parse(text, path)

    @property
    def floor(self) -> str:
        return self.path.partition("/")[0].removesuffix(".py")

    @property
    def cold(self) -> bool:
        return is_cold(self.path)

    def imports(self, *, at_load: bool = False) -> Iterator[tuple[int, str]]:
        """(line, module) of every import; `at_load` only of those that happen when this module is imported.

        `from minidocker.kernel import libc` is `minidocker.kernel.libc`.
        """
        for node in _walk(self.tree, at_load):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, name.name) for name in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = self._base(node)
                if base.partition(".")[0] == "minidocker":
                    yield from ((node.lineno, f"{base}.{name.name}") for name in node.names)
                else:
                    yield node.lineno, base
            elif isinstance(node, ast.Call) and _name(node.func) in ("__import__", "importlib.import_module", "import_module"):
                yield from ((node.lineno, str(word.value)) for word in node.args[:1] if isinstance(word, ast.Constant))

    def _base(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        package = ["minidocker", *self.path.split("/")][: -node.level]
        return ".".join([*package, *([node.module] if node.module else [])])

    def functions(self) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node.name, node


def is_cold(path: str) -> bool:
    return any(Path(path).match(pattern) for pattern in COLD)


def _walk(node: ast.AST, at_load: bool) -> Iterator[ast.AST]:
    """Every node; with `at_load` none of function bodies, of `if TYPE_CHECKING:`, and of what stands in for a missing module."""
    for child in ast.iter_child_nodes(node):
        if at_load and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if at_load and isinstance(child, ast.ExceptHandler) and "ImportError" in ast.dump(child.type or child):
            continue
        if at_load and isinstance(child, ast.If) and _name(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for other in child.orelse:
                yield other
                yield from _walk(other, at_load)
            continue
        yield child
        yield from _walk(child, at_load)


def _name(node: ast.AST) -> str:
    """`a.b.c` of a dotted name, "" of anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value)}.{node.attr}"
    return ""


def wrong_floor(source: Source) -> Iterator[str]:
    """Imports go one way, and what a `|` joins never imports its neighbour; imports for types alone count too."""
    allowed = {source.floor, "__init__", *BELOW.get(source.floor, ())}
    for place, floors in ALSO.items():
        if source.path.startswith(place):
            allowed |= floors
    if source.floor not in BELOW:
        yield f"{source.path}: no floor of the house is called {source.floor}"
    for line, module in source.imports():
        parts = module.split(".")
        if parts[0] != "minidocker":
            continue
        floor = parts[1] if len(parts) > 1 else "__init__"
        floor = "__init__" if floor == "__version__" else floor
        if floor not in allowed:
            yield f"{source.path}:{line}: {source.floor} imports {module}"


def wrong_pyroute2(source: Source) -> Iterator[str]:
    """kernel/netlink*.py alone imports pyroute2 (344 modules), and only inside functions."""
    at_home = Path(source.path).match("kernel/netlink*.py")
    at_load = set(source.imports(at_load=True))
    for line, module in source.imports():
        if module.partition(".")[0] == "pyroute2" and (not at_home or (line, module) in at_load):
            yield f"{source.path}:{line}: imports {module}" + (" when it is loaded" if at_home else "")


def wrong_nft(source: Source) -> Iterator[str]:
    """kernel/nftables.py alone runs nft or loads libnftables; elsewhere `nft` stands only in text that is shown.

    `info` says which tools are installed, and `doctor` what that means.
    """
    if source.path in ("kernel/nftables.py", "engine/info.py", "engine/health.py"):
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            value = node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value
            if value.rpartition("/")[2] == "nft" or value.startswith("libnftables.so"):
                yield f"{source.path}:{node.lineno}: names the program {value!r}"


def wrong_exit(source: Source) -> Iterator[str]:
    """Below cli/ errors are raised; only a forked child ends the process (law 5)."""
    if source.floor in ("cli", "__main__"):
        return
    for owner, node in _owned(source.tree, ""):
        called = _name(node.func) if isinstance(node, ast.Call) else _name(node.exc) if isinstance(node, ast.Raise) and node.exc else ""
        if called in ("sys.exit", "os._exit", "exit", "quit", "SystemExit", "os.abort") and (source.path, owner) not in EXITS:
            yield f"{source.path}:{node.lineno}: {called} in {owner or 'the module'}"


def _owned(node: ast.AST, owner: str) -> Iterator[tuple[str, ast.expr | ast.stmt]]:
    for child in ast.iter_child_nodes(node):
        inside = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else owner
        if isinstance(child, ast.expr | ast.stmt):
            yield inside, child
        yield from _owned(child, inside)


def too_costly(source: Source) -> Iterator[str]:
    """A module of the hot path imports nothing costly when it is loaded, nor a module that does (law 8)."""
    if source.cold:
        return
    for line, module in source.imports(at_load=True):
        if module.partition(".")[0] in COSTLY.split():
            yield f"{source.path}:{line}: loads {module}"
        elif module.startswith("minidocker.") and any(is_cold(path) for path in _paths(module)):
            yield f"{source.path}:{line}: loads {module}, which is cold"


def _paths(module: str) -> Iterator[str]:
    """The files `minidocker.a.b` may mean: a/b.py, or something in a.py."""
    parts = module.split(".")[1:]
    yield "/".join(parts) + ".py"
    yield "/".join(parts[:-1]) + ".py"


def too_long(source: Source) -> Iterator[str]:
    lines = source.text.count("\n")
    if lines > LINES_OF_A_FILE:
        yield f"{source.path}: {lines} lines"
    for name, node in source.functions():
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if length > LINES_OF_A_FUNCTION:
            yield f"{source.path}:{node.lineno}: {name} has {length} lines"


def undocumented(source: Source) -> Iterator[str]:
    if len(ast.get_docstring(source.tree) or "") < 10:
        yield f"{source.path}: no docstring says what it is for"


CHECKS: list[Callable[[Source], Iterator[str]]] = [
    wrong_floor, wrong_pyroute2, wrong_nft, wrong_exit, too_costly, too_long, undocumented,
]  # fmt: skip


@pytest.fixture(scope="module")
def sources() -> list[Source]:
    paths = (path for path in sorted(PACKAGE.rglob("*.py")) if path.parent.name != "packaging")  # what builds it, and is no part of it
    found = [Source(str(path.relative_to(PACKAGE)), path.read_text()) for path in paths]
    assert len(found) > 10
    return found


@pytest.mark.parametrize("check", CHECKS)
def test_the_house_keeps_its_rules(check: Callable[[Source], Iterator[str]], sources: list[Source]) -> None:
    findings = [finding for source in sources for finding in check(source)]
    assert not findings, "\n" + "\n".join(findings)


def test_what_is_excepted_is_there(sources: list[Source]) -> None:
    """An exception whose reason is gone goes too."""
    paths = {source.path for source in sources}
    assert not [pattern for pattern in COLD if not any(Path(path).match(pattern) for path in paths)]
    functions = {(source.path, name) for source in sources for name, _ in source.functions()}
    assert not EXITS - functions


TYPES = "TYPE_CHECKING = False\nif TYPE_CHECKING:\n    "


@pytest.mark.parametrize(
    ("check", "path", "text"),
    [
        (wrong_floor, "spec/x.py", "import minidocker.kernel.libc"),
        (wrong_floor, "spec/x.py", "from minidocker import kernel"),
        (wrong_floor, "kernel/x.py", "from minidocker.spec.records import Port"),
        (wrong_floor, "kernel/x.py", "from minidocker.plan import Step"),
        (wrong_floor, "plan.py", "from minidocker.runtime import init"),
        (wrong_floor, "errors.py", "from minidocker import plan"),
        (wrong_floor, "network/x.py", "from minidocker.storage import state"),
        (wrong_floor, "network/x.py", "from ..storage import state"),
        (wrong_floor, "runtime/x.py", "def f():\n    from minidocker.network import bridge"),
        (wrong_floor, "storage/x.py", TYPES + "from minidocker.engine import run"),
        (wrong_floor, "storage/x.py", "__import__('minidocker.engine.run')"),
        (wrong_floor, "engine/x.py", "from minidocker.cli import main"),
        (wrong_floor, "cli/ocilike.py", "from minidocker.runtime import container"),
        (wrong_floor, "cli/ps.py", "from minidocker.runtime import container"),
        (wrong_floor, "stranger/x.py", ""),
        (wrong_pyroute2, "network/bridge.py", "def f():\n    import pyroute2"),
        (wrong_pyroute2, "network/bridge.py", "from pyroute2.netlink import rtnl"),
        (wrong_pyroute2, "kernel/netlink.py", "from pyroute2 import IPRoute"),
        (wrong_nft, "network/publish.py", "spawn(['nft', '-f', '-'])"),
        (wrong_nft, "network/publish.py", "spawn('/usr/sbin/nft')"),
        (wrong_nft, "network/publish.py", "CDLL('libnftables.so.1')"),
        (wrong_exit, "engine/run.py", "def f():\n    sys.exit(1)"),
        (wrong_exit, "runtime/x.py", "def f():\n    os._exit(1)"),
        (wrong_exit, "storage/x.py", "raise SystemExit"),
        (wrong_exit, "storage/x.py", "raise SystemExit(1)"),
        (too_costly, "engine/run.py", "import re"),
        (too_costly, "engine/run.py", "import os, urllib.request"),
        (too_costly, "engine/run.py", "from collections.abc import Iterable"),
        (too_costly, "engine/run.py", "class A:\n    import json"),
        (too_costly, "engine/run.py", "try:\n    import typing\nexcept ImportError:\n    pass"),
        (too_costly, "engine/run.py", "if TYPE_CHECKING:\n    pass\nelse:\n    import enum"),
        (too_costly, "cli/main.py", "from minidocker.cli import app"),
        (too_costly, "cli/main.py", "from minidocker.cli.app import main"),
        (too_long, "x.py", "\n" * (LINES_OF_A_FILE + 1)),
        (too_long, "x.py", "class A:\n  def f():\n" + "    pass\n" * LINES_OF_A_FUNCTION),
        (undocumented, "x.py", "import os"),
        (undocumented, "x.py", "'x'"),
    ],
)
def test_each_rule_finds_what_breaks_it(check: Callable[[Source], Iterator[str]], path: str, text: str) -> None:
    assert list(check(Source(path, text)))


@pytest.mark.parametrize(
    ("check", "path", "text"),
    [
        (wrong_floor, "engine/x.py", "from minidocker.runtime import container\nfrom minidocker.network.bridge import plan\nimport os"),
        (wrong_floor, "cli/oci/lifecycle.py", "from minidocker.runtime import container"),
        (wrong_floor, "cli/main.py", "from minidocker import __version__"),
        (wrong_floor, "kernel/mounts.py", "from minidocker.kernel import libc\nfrom . import libc\nfrom ..errors import KernelError"),
        (wrong_pyroute2, "kernel/netlink.py", "def f():\n    from pyroute2 import IPRoute"),
        (wrong_nft, "network/publish.py", "x = 'nft add element inet minidocker ports'"),
        (wrong_nft, "kernel/nftables.py", "spawn(['nft', '-f', '-'])"),
        (wrong_exit, "cli/main.py", "sys.exit(1)"),
        (too_costly, "engine/run.py", "import os\nimport _socket\nfrom minidocker.kernel import libc\ndef f():\n    import json"),
        (too_costly, "engine/run.py", TYPES + "from typing import Any"),
        (too_costly, "engine/run.py", "try:\n    import _json\nexcept (ImportError, TypeError):\n    import json"),
        (too_costly, "cli/app.py", "import json"),
        (too_long, "x.py", "def f():\n" + "    pass\n" * (LINES_OF_A_FUNCTION - 1)),
        (undocumented, "x.py", "'''What it is for.'''"),
    ],
)
def test_no_rule_finds_fault_with_what_keeps_it(check: Callable[[Source], Iterator[str]], path: str, text: str) -> None:
    assert not list(check(Source(path, text)))
