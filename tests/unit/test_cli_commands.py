"""Each command: what it asks of the engine (a pretend one), what it prints, how it exits."""

from __future__ import annotations

import json
import os
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest

import minidocker.engine
from minidocker import cli
from minidocker.cli import options_groups, output
from minidocker.errors import ConflictError, KernelError, MinidockerError, NotFoundError, StateError, TargetNotFound
from minidocker.plan import Plan, Step
from minidocker.spec.records import Port
from minidocker.spec.request import Attachment, NetworkRequest

ID = "0123456789abcdef" * 4
RECORD: dict[str, object] = {
    "ID": ID, "Names": "web", "Command": './server "a b" and much more', "CreatedAt": 0.0, "Status": "Up 3 seconds", "State": "running",
    "Networks": "br0", "IP": "172.17.0.2", "Ports": ["0.0.0.0:80->80/tcp"], "Labels": {"a": "b", "flag": ""},
}  # fmt: skip
NETWORK = {
    "ID": "0123456789abcdef", "Name": "br0", "Driver": "bridge", "Subnet": "172.17.0.0/24", "Gateway": "172.17.0.1", "Bridge": "br0",
    "Containers": 2,
}  # fmt: skip


class Host:
    def __init__(self, root: str, notice: Callable[[str], None]) -> None:
        self.root = root
        self.notice = notice


class Engine:
    """The engine's modules, each function noting its arguments, but for whom it tells what it does: that tells of a step where somebody
    has asked; `fail` is raised by all of them when set."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.host: Host | None = None
        self.fail: dict[str, BaseException] = {}

    def note(self, name: str, result: object = None) -> Callable[..., Any]:
        def function(host: Host, *arguments: Any) -> Any:
            self.host = host
            for tell in (argument for argument in arguments if getattr(argument, "__name__", "") in ("tell", "silent")):
                tell(lambda: Plan([Told()]), 7)
            arguments = tuple(argument for argument in arguments if getattr(argument, "__name__", "") not in ("tell", "silent"))
            self.calls.append((name, arguments))
            named = [name, *(word for argument in arguments for word in (argument if isinstance(argument, list) else [argument]))]
            for word in named:
                if isinstance(word, str) and word in self.fail:
                    raise self.fail[word]
            return result(*arguments) if callable(result) else result

        return function

    def remover(
        self, host: Host, references: list[str], force: bool, tell: Callable[..., None], volumes: bool
    ) -> Callable[[str], Any]:
        self.calls.append(("remover", (references, force, volumes)))
        remove = self.note("remove")
        return lambda reference: remove(host, reference, tell)


class Told(Step):
    title = "network"
    why = "it is told"

    def shell(self) -> str:
        return 'nsenter --target "$PID"'


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    made = Engine()
    modules: dict[str, dict[str, object]] = {
        "host": {"Host": Host},
        "run": {
            "run": made.note("run", 42), "detach": made.note("detach", ID), "script": made.note("script", "unshare -n\n"),
            "start": made.note("start"), "restart": made.note("restart"),
        },
        "execute": {"execute": made.note("execute", 7)},
        "listing": {
            "ps": made.note("ps", [RECORD]),
            "inspect": made.note("inspect", lambda names: [{"Name": names[0], "State": {"Pid": 7}}]),
            "published": made.note("published", [Port(8080, 80, "0.0.0.0"), Port(8080, 80, "::"), Port(53, 53, "127.0.0.1", "udp")]),
        },
        "logs": {"copy": made.note("copy", lambda reference, write, *rest: (write(1, b"out\xff\n"), write(2, b"err\n")))},
        "lifecycle": {**{name: made.note(name) for name in ("stop", "kill")}, "remover": made.remover},
        "networks": {
            "create": made.note("create", "abc"), "remove": made.note("remove"), "prune": made.note("prune", ["a", "lab"]),
            "reload": made.note("reload"),
        },
        "describe": {"ls": made.note("ls", [NETWORK]), "inspect": made.note("inspect", lambda names: [{"Name": names[0]}])},
        "volumes": {"inspect": made.note("inspect", lambda name: {"Name": name})},
        "connection": {name: made.note(name) for name in ("connect", "disconnect")},
        "info": {"info": made.note("info", {"Containers": 3, "Cgroup": {"Version": 2, "Controllers": ["cpu", "memory"]}, "Swap": None})},
    }
    for name, functions in modules.items():
        module = types.ModuleType(f"minidocker.engine.{name}")
        vars(module).update(functions)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(minidocker.engine, name, module, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for variable in ("MINIDOCKER_ROOT", "_MINIDOCKER_COMPLETE"):
        monkeypatch.delenv(variable, raising=False)
    return made


@pytest.fixture
def minidocker_(engine: Engine, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """A command line's exit code, stdout and stderr."""

    def call(*words: str) -> tuple[int, str, str]:
        code = cli.main(list(words))
        sys.stdout.flush()
        return (code, *capfd.readouterr())

    return call


Run = Callable[..., tuple[int, str, str]]


def test_run_returns_the_commands_exit_code(engine: Engine, minidocker_: Run) -> None:
    assert minidocker_("--root", "/tmp/x", "run", "--rm", "--net", "lab", "true", "-x") == (42, "", "")
    name, (request, _, explain) = engine.calls[0]
    assert (name, request.command, request.network, request.remove) == ("run", ["true", "-x"], "lab", True)
    assert engine.host is not None and engine.host.root == "/tmp/x"
    explain("# network\n")
    engine.host.notice("br0 uses 172.18.0.0/24\x1b[2J")


def test_explanations_and_notices_go_to_stderr(engine: Engine, minidocker_: Run, capfd: pytest.CaptureFixture[str]) -> None:
    minidocker_("run", "true")
    assert engine.host is not None
    _, write, explain = engine.calls[0][1]
    write(1, b"out")
    explain("# network\n")
    engine.host.notice("br0 uses 172.18.0.0/24\x1b[2J")
    assert capfd.readouterr() == ("out", "# network\nminidocker: br0 uses 172.18.0.0/24\\x1b[2J\n")


def test_run_detached_prints_the_id(engine: Engine, minidocker_: Run) -> None:
    assert minidocker_("run", "-dit", "true") == (0, ID + "\n", "")


def test_dry_run_prints_the_script(engine: Engine, minidocker_: Run) -> None:
    assert minidocker_("run", "--dry-run", "-d", "true") == (0, "unshare -n\n", "")
    assert [name for name, _ in engine.calls] == ["script"]


def test_a_terminal_is_needed_for_it(engine: Engine, minidocker_: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "isatty", lambda descriptor: False)
    message = "minidocker: -i with -t needs a terminal, and stdin is none\n  hint: leave out -t\n"
    assert minidocker_("run", "-it", "sh") == (125, "", message)
    assert minidocker_("exec", "-it", "web", "sh") == (125, "", message)
    assert not engine.calls
    assert minidocker_("run", "-t", "sh")[0] == 42


@pytest.mark.parametrize(
    ("error", "run_code", "exec_code"),
    [(NotFoundError("no"), 125, 1), (ConflictError("no"), 125, 1), (TargetNotFound("no"), 127, 127), (KernelError("mount x", 1), 125, 125)],
)
def test_exit_codes_of_errors(engine: Engine, minidocker_: Run, error: MinidockerError, run_code: int, exec_code: int) -> None:
    engine.fail = {"run": error, "execute": error}
    assert minidocker_("run", "true") == (run_code, "", f"minidocker: {error}\n")
    assert minidocker_("exec", "web", "true") == (exec_code, "", f"minidocker: {error}\n")


def test_an_error_is_one_line_and_its_hint_another(engine: Engine, minidocker_: Run) -> None:
    engine.fail = {"run": StateError("a\nb\x1b]", "try c")}
    assert minidocker_("run", "true") == (125, "", "minidocker: a\\nb\\x1b]\n  hint: try c\n")


def test_only_debug_shows_a_traceback(engine: Engine, minidocker_: Run) -> None:
    engine.fail = {"run": ValueError("oops"), "execute": NotFoundError("no container `web`")}
    assert minidocker_("run", "true") == (
        125, "", "minidocker: internal error: ValueError: oops (run with --debug for the traceback)\n",
    )  # fmt: skip
    code, _, complaint = minidocker_("--root", "/tmp/x", "--debug", "run", "true")
    assert code == 125 and "Traceback" in complaint and complaint.endswith("ValueError: oops\n")
    code, _, complaint = minidocker_("--debug", "exec", "web", "true")
    assert code == 1 and "Traceback" in complaint and complaint.endswith("minidocker: no container `web`\n")
    assert "Traceback" not in minidocker_("run", "true", "--debug")[2]


def test_interrupts_and_closed_pipes_are_quiet(engine: Engine, minidocker_: Run) -> None:
    engine.fail = {"ps": KeyboardInterrupt(), "copy": BrokenPipeError()}
    assert minidocker_("ps") == (130, "", "")
    assert minidocker_("logs", "web") == (141, "", "")


def test_root_is_needed_for_what_touches_the_host(engine: Engine, minidocker_: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for words in (["ps"], ["run", "true"], ["network", "ls"], ["info"], ["rm", "x"]):
        name = " ".join(words[:2]) if words[0] == "network" else words[0]
        assert minidocker_(*words) == (125, "", f"minidocker: `minidocker {name}` must be run as root\n  hint: use sudo\n")
    for words in (["version"], ["--version"], ["--help"], ["run", "--help"], ["completion", "bash"], []):
        assert minidocker_(*words)[0] == 0
    assert not engine.calls


def test_exec(engine: Engine, minidocker_: Run) -> None:
    assert minidocker_("exec", "-w", "/srv", "-u", "5", "-e", "A=1", "web", "ls", "-l") == (7, "", "")
    request = engine.calls[0][1][0]
    assert (request.container, request.command, request.workdir, request.user, request.env) == ("web", ["ls", "-l"], "/srv", "5", ["A=1"])


def test_ps_as_a_table(engine: Engine, minidocker_: Run) -> None:
    code, out, _ = minidocker_("ps", "-a", "-f", "name=w", "--filter=label=a=b")
    assert engine.calls == [("ps", (True, [("name", "w"), ("label", "a=b")]))]
    headings, row = out.splitlines()
    assert code == 0
    assert headings.split("   ")[0] == "CONTAINER ID"
    assert row.startswith('0123456789ab   "./server \\"a b\\" and …"   ')
    assert row.endswith(" ago   Up 3 seconds   br0       172.17.0.2   0.0.0.0:80->80/tcp   web")


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["-q"], "0123456789ab\n"),
        (["-q", "--no-trunc"], ID + "\n"),
        (["--format", "{{.Names}} {{.IP}} {{.Labels}}"], "web 172.17.0.2 a=b,flag\n"),
        (["--format", "{{.ID}}\\t{{json .State}}"], '0123456789ab\t"running"\n'),
        (["--no-trunc", "--format={{.Command}}"], '"./server \\"a b\\" and much more"\n'),
        (["--format", "table {{.Names}}\\t{{.State}}"], "NAMES   STATE\nweb     running\n"),
    ],
)
def test_ps_otherwise(engine: Engine, minidocker_: Run, words: list[str], wanted: str) -> None:
    assert minidocker_("ps", *words) == (0, wanted, "")


def test_ps_as_json(engine: Engine, minidocker_: Run) -> None:
    assert json.loads(minidocker_("ps", "--format", "json")[1]) == [{**RECORD, "CreatedAt": "1970-01-01T00:00:00Z"}]


def test_a_bad_format_is_refused_before_anything_is_asked(engine: Engine, minidocker_: Run) -> None:
    bad = (["ps", "--format", "{{range .}}"], ["inspect", "-f", "{{", "x"], ["network", "ls", "--format={{end}}"], ["info", "-f{{}}"])
    for words in bad:
        code, out, complaint = minidocker_(*words)
        assert (code, out) == (125, "") and complaint.startswith("minidocker: --format")
    assert minidocker_("ps", "-q", "--format", "x")[2].startswith("minidocker: --quiet and --format contradict each other\n")
    assert not engine.calls
    complaint = minidocker_("ps", "--format", "{{.Nme}}")[2]
    assert complaint.startswith("minidocker: --format: `.Nme`: no field `Nme` in `.`\n  hint: did you mean `.Names`? there are: ")


def test_logs_are_copied_byte_for_byte(engine: Engine, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert cli.main(["logs", "-ft", "--tail", "3", "--since", "0", "web"]) == 0
    reference, _, *rest = engine.calls[0][1]
    assert (reference, rest) == ("web", [True, 3, True, 0.0])
    assert capfdbinary.readouterr() == (b"out\xff\n", b"err\n")


def test_logs_without_options(engine: Engine, minidocker_: Run) -> None:
    minidocker_("logs", "web")
    assert engine.calls[0][1][2:] == (False, None, False, None)


@pytest.mark.parametrize(
    ("words", "name", "rest"),
    [
        (["stop"], "stop", (None,)),
        (["stop", "-t", "0"], "stop", (0.0,)),
        (["stop", "--timeout=-1"], "stop", (-1.0,)),
        (["kill"], "kill", (9,)),
        (["kill", "-s", "hup"], "kill", (1,)),
        (["network", "rm"], "remove", ()),
        (["restart"], "restart", (None, output.explain)),
        (["restart", "-t", "2.5"], "restart", (2.5, output.explain)),
        (["start"], "start", (output.explain,)),
    ],
)
def test_many_are_done_one_after_the_other(engine: Engine, minidocker_: Run, words: list[str], name: str, rest: tuple[object, ...]) -> None:
    engine.fail = {"b": NotFoundError("no container `b`", "did you mean `c`?")}
    complaint = "minidocker: no container `b`\n  hint: did you mean `c`?\n"
    assert minidocker_(*words, "a", "b", "c") == (1, "a\nc\n", complaint)
    assert engine.calls == [(name, (reference, *rest)) for reference in "abc"]


@pytest.mark.parametrize(("words", "force"), [(["rm"], False), (["rm", "-f"], True)])
def test_rm_knows_of_all_before_the_first_goes(engine: Engine, minidocker_: Run, words: list[str], force: bool) -> None:
    engine.fail = {"b": NotFoundError("no container `b`")}
    assert minidocker_(*words, "a", "b", "c") == (1, "a\nc\n", "minidocker: no container `b`\n")
    assert engine.calls == [("remover", (["a", "b", "c"], force, False)), *(("remove", (reference,)) for reference in "abc")]


def test_inspect(engine: Engine, minidocker_: Run) -> None:
    engine.fail = {"b": NotFoundError("no container `b`")}
    code, out, complaint = minidocker_("inspect", "a", "b", "c")
    assert (code, complaint) == (1, "minidocker: no container `b`\n")
    assert [document["Name"] for document in json.loads(out)] == ["a", "c"]
    assert minidocker_("inspect", "-f", "{{.Name}} {{.State.Pid}}", "a", "c") == (0, "a 7\nc 7\n", "")
    assert minidocker_("inspect", "b") == (1, "[]\n", "minidocker: no container `b`\n")
    assert minidocker_("network", "inspect", "-f", "json", "n") == (0, '[{"Name":"n"}]\n', "")


def test_network_create(engine: Engine, minidocker_: Run) -> None:
    words = ["--subnet", "10.9.0.0/24", "--gateway=10.9.0.254", "--mtu", "1400", "--bridge", "br9", "--label", "a=b", "--internal"]
    assert minidocker_("network", "create", *words, "-d", "bridge", "lab") == (0, "abc\n", "")
    request = engine.calls[0][1][0]
    assert vars(request) == {
        "name": "lab", "driver": "bridge", "subnet": "10.9.0.0/24", "gateway": "10.9.0.254", "bridge": "br9", "mtu": 1400, "internal": True,
        "labels": {"a": "b"}, "ip_range": None, "ipv6": False, "subnet6": None, "gateway6": None, "isolated": False, "parent": None,
        "mode": None, "exist_ok": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["lab"], {}),
        (["--ipv6", "lab"], {"ipv6": True}),
        (
            ["lab", "--subnet=10.9.0.0/24", "--subnet", "fd00:9::/64", "--gateway=fd00:9::fe", "--ip-range=10.9.0.128/25", "--isolated"],
            {"subnet": "10.9.0.0/24", "subnet6": "fd00:9::/64", "gateway6": "fd00:9::fe", "ip_range": "10.9.0.128/25", "ipv6": True,
             "isolated": True},
        ),
        (["-d", "ptp", "lab", "--exist-ok"], {"driver": "ptp", "exist_ok": True}),
        (["-d", "macvlan", "-o", "parent=eth0", "-o", "mode=private", "lab"], {"driver": "macvlan", "parent": "eth0", "mode": "private"}),
        (["-o", "mtu=1400", "--mtu=1500", "lab"], {"mtu": 1500}),
        (["-o", "com.docker.network.bridge.enable_icc=false", "-o", "com.docker.network.bridge.name=br9", "lab"],
         {"isolated": True, "bridge": "br9"}),
        (["--subnet=fd00:9::/64", "--mtu=1280", "lab"], {"subnet6": "fd00:9::/64", "ipv6": True, "mtu": 1280}),
    ],
)  # fmt: skip
def test_networks_of_every_kind(engine: Engine, minidocker_: Run, words: list[str], asked: dict[str, object]) -> None:
    assert minidocker_("network", "create", *words) == (0, "abc\n", "")
    request = engine.calls[0][1][0]
    assert vars(request) == vars(NetworkRequest("lab")) | asked


def test_network_connect(engine: Engine, minidocker_: Run) -> None:
    words = ["--ip=10.9.0.9", "--ip6", "FD00:9:0::9", "--mac", "02-42-0A-09-00-09", "--alias=db", "--alias=db.example", "--gw-priority=-3"]
    assert minidocker_("network", "connect", *words, "lab", "web") == (0, "", "")
    [(name, (attachment, container))] = engine.calls
    assert (name, container) == ("connect", "web")
    assert {key: getattr(attachment, key) for key in Attachment.__slots__} == {
        "name": "lab", "ip": "10.9.0.9", "ip6": "fd00:9::9", "mac": "02:42:0a:09:00:09", "aliases": ["db", "db.example"], "priority": -3}
    minidocker_("network", "connect", "lab", "web")
    assert {key: getattr(engine.calls[1][1][0], key) for key in Attachment.__slots__} == {
        "name": "lab", "ip": "", "ip6": "", "mac": "", "aliases": [], "priority": 0}


def test_network_disconnect_and_reload(engine: Engine, minidocker_: Run) -> None:
    assert minidocker_("network", "disconnect", "lab", "web") == (0, "", "")
    assert minidocker_("network", "disconnect", "-f", "lab", "web") == (0, "", "")
    assert minidocker_("network", "reload") == (0, "", "")
    assert engine.calls == [("disconnect", ("web", "lab", False)), ("disconnect", ("web", "lab", True)), ("reload", ())]


@pytest.mark.parametrize(
    "words",
    [("stop", "web"), ("rm", "-f", "web"), ("network", "create", "lab"), ("network", "rm", "lab"), ("network", "connect", "lab", "web"),
     ("network", "disconnect", "lab", "web")],
    ids=" ".join,
)  # fmt: skip
def test_explain_tells_on_stderr_what_is_done(engine: Engine, minidocker_: Run, words: tuple[str, ...]) -> None:
    code, out, err = minidocker_(*words, "--explain")
    assert (code, err) == (0, "# network\n  # it is told\n  nsenter --target 7\n")
    assert minidocker_(*words) == (0, out, "")


def test_network_prune_asks_first(engine: Engine, minidocker_: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert minidocker_("network", "prune", "-f") == (0, "a\nlab\n", "")
    monkeypatch.setattr(os, "isatty", lambda descriptor: False)
    assert minidocker_("network", "prune") == (
        125, "", "minidocker: This removes every network that no container uses. Without a terminal there is nobody to ask\n"
                 "  hint: -f does it without asking\n")  # fmt: skip
    monkeypatch.setattr(os, "isatty", lambda descriptor: True)
    for answer, done in ((b"y\n", True), (b" YES\n", True), (b"n\n", False), (b"\n", False), (b"", False), (b"yesterday\n", False)):
        monkeypatch.setattr(os, "read", lambda descriptor, size, answer=answer: answer)
        engine.calls.clear()
        assert minidocker_("network", "prune") == (
            0, "a\nlab\n" if done else "", "This removes every network that no container uses. Go on? [y/N] ")
        assert bool(engine.calls) == done


@pytest.mark.parametrize(
    "words",
    [["container", "prune", "--filter", "name=web"], ["system", "prune", "-f", "--filter", "label="],
     ["container", "prune", "-f", "--filter", "until=yesterday"]],
)  # fmt: skip
def test_prune_refuses_a_filter_that_it_does_not_know(engine: Engine, minidocker_: Run, words: list[str]) -> None:
    code, out, complaint = minidocker_(*words)
    assert (code, out) == (125, "") and words[-1].partition("=")[2] in complaint and "allowed" in complaint
    assert not engine.calls and engine.host is None


def test_port(engine: Engine, minidocker_: Run) -> None:
    assert minidocker_("port", "web") == (0, "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n53/udp -> 127.0.0.1:53\n", "")
    assert minidocker_("port", "web", "80") == (0, "0.0.0.0:8080\n[::]:8080\n127.0.0.1:53\n", "")
    assert [arguments for _, arguments in engine.calls] == [("web", None), ("web", (80, "tcp"))]
    assert minidocker_("port", "-q", "web")[1] == minidocker_("port", "web", "80")[1]
    assert minidocker_("port", "--format", "{{.HostIp}} {{.HostPort}}", "web", "80")[1] == "0.0.0.0 8080\n:: 8080\n127.0.0.1 53\n"
    first = {"Port": "80/tcp", "Host": "0.0.0.0:8080", "HostIp": "0.0.0.0", "HostPort": 8080}
    assert json.loads(minidocker_("port", "web", "--format", "json")[1])[0] == first
    assert minidocker_("port", "web", "--format", "table")[1].splitlines()[0].split() == ["PORT", "HOST", "HOST", "IP", "HOST", "PORT"]


def test_network_ls(engine: Engine, minidocker_: Run) -> None:
    headings, row = minidocker_("network", "ls")[1].splitlines()
    assert headings.split() == ["NETWORK", "ID", "NAME", "DRIVER", "SUBNET", "GATEWAY", "BRIDGE", "CONTAINERS"]
    assert row.split() == ["0123456789ab", "br0", "bridge", "172.17.0.0/24", "172.17.0.1", "br0", "2"]
    assert minidocker_("network", "ls", "-q") == (0, "0123456789ab\n", "")
    assert minidocker_("network", "ls", "--format", "{{.Name}} {{.Containers}}") == (0, "br0 2\n", "")
    assert json.loads(minidocker_("network", "ls", "--format", "json")[1]) == [NETWORK]


def test_info_and_version(engine: Engine, minidocker_: Run) -> None:
    assert minidocker_("info") == (0, "Containers: 3\nCgroup:\n  Version: 2\n  Controllers: cpu, memory\nSwap: -\n", "")
    assert minidocker_("info", "-f", "{{.Cgroup.Version}}") == (0, "2\n", "")
    assert json.loads(minidocker_("version", "--format", "json")[1])["Version"] == "0.1.0"
    assert minidocker_("--version") == (0, "minidocker 0.1.0\n", "")


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["rnu", "x"], "unknown command `minidocker rnu`", "did you mean `minidocker run`?"),
        (["./server", "x"], "unknown command `minidocker ./server`", "did you mean `minidocker run ./server`?"),
        (["qqq"], "unknown command `minidocker qqq`", "see `minidocker --help`"),
        (["network", "creat"], "unknown command `minidocker network creat`", "did you mean `minidocker network create`?"),
        (["run", "--detatch", "x"], "`minidocker run`: unknown option `--detatch`", "did you mean `--detach` or `--detach-keys`?"),
        (["run", "-Z", "x"], "`minidocker run`: unknown option `-Z`", "see `minidocker run --help`"),
        (["--rot", "x", "ps"], "`minidocker`: unknown option `--rot`", "did you mean `--root`?"),
        (["run"], "`minidocker run` needs COMMAND [ARG...]", "usage: minidocker run [OPTIONS] COMMAND [ARG...]"),
        (
            ["exec", "web"],
            "`minidocker exec` needs CONTAINER COMMAND [ARG...]",
            "usage: minidocker exec [OPTIONS] CONTAINER COMMAND [ARG...]",
        ),
        (["run", "--name"], "`minidocker run`: option `--name` needs a value", "see `minidocker run --help`"),
        (["run", "-em", "-m"], "`minidocker run`: option `-m` needs a value", "see `minidocker run --help`"),
        (["run", "--help=x"], "`minidocker run`: option `--help` takes no value", "see `minidocker run --help`"),
        (["ps", "web"], "`minidocker ps`: unexpected argument `web`", "usage: minidocker ps [OPTIONS]"),
        (["logs", "a", "b"], "`minidocker logs`: unexpected argument `b`", "usage: minidocker logs [OPTIONS] CONTAINER"),
        (["completion", "tcsh"], "shell `tcsh`: bash, zsh or fish is allowed", ""),
        (["run", ""], "the COMMAND is empty", "the first word after the options is the program to run"),
        (["run", "--rm=maybe", "x"], "--rm `maybe`: true or false is allowed", ""),
        (["run", "-v", "/a:/b", "--tmpfs", "/b/", "x"], "two mounts on `/b`", "give each --volume, --mount and --tmpfs a place of its own"),
        (["run", "--net=a", "--net=b", "--net=a:ip=10.9.0.9", "x"], "--network `a` is given twice",
         "aliases go together: NETWORK:alias=a,alias=b"),
        (["run", "--net=none", "--net=a", "x"], "--network none stands alone", "leave out the other networks"),
        (["run", "--net=a", "--net=container:web", "x"], "--network container:web stands alone", "leave out the other networks"),
        (["run", *(f"--net=n{n}" for n in range(17)), "x"], "--network given 17 times: a container is in at most 16 networks", ""),
        (["run", "--net=a:ip=10.9.0.9", "--ip=10.9.0.9", "x"], "--ip and --network a:ip= say the same", "leave one out"),
        (["run", "--net=a:ip6=fd00:9::9", "--ip6=fd00:9::8", "x"], "--ip6 and --network a:ip6= say the same", "leave one out"),
        (["run", "--net=a:mac=02:42:ac:11:00:09", "--mac-address=02:42:ac:11:00:08", "x"],
         "--mac-address and --network a:mac= say the same", "leave one out"),
        (["run", "--net=a:b", "x"], "--network `a:b`: NETWORK:KEY=VALUE,... with ip, ip6, mac, alias and gw-priority, none, host or "
         "container:NAME is allowed", ""),
        (["network", "create", "-d", "vxlan", "x"], "--driver `vxlan`: bridge, ptp or macvlan is allowed", ""),
        (["network", "create", "-d", "ptp", "--subnet=10.9.0.0/24", "--gateway=10.9.0.1", "x"],
         "--gateway has no meaning for a ptp network", "leave it out: it joins two containers, and there is no host between them"),
        (["network", "create", "-d", "ptp", "--subnet=fd00:9::/64", "--gateway=fd00:9::1", "x"],
         "--gateway has no meaning for a ptp network", "leave it out: it joins two containers, and there is no host between them"),
        (["network", "create", "-d", "ptp", "--internal", "x"], "--internal has no meaning for a ptp network",
         "leave it out: it leads nowhere else anyway"),
        (["network", "create", "-d", "ptp", "--isolated", "x"], "--isolated has no meaning for a ptp network",
         "leave it out: it is there for its two containers to meet"),
        (["network", "create", "-d", "ptp", "--bridge=b", "x"], "--bridge has no meaning for a ptp network", "leave it out"),
        (["network", "create", "-d", "ptp", "-o", "parent=b", "x"], "--opt parent= has no meaning for a ptp network", "leave it out"),
        (["network", "create", "-o", "mode=vepa", "x"], "--opt mode= has no meaning for a bridge network", "leave it out"),
        (["network", "create", "-d", "macvlan", "x"], "a macvlan network needs the host's interface that it is to be on", "-o parent=eth0"),
        (["network", "create", "-d", "macvlan", "-o", "parent=eth0", "--isolated", "x"], "--isolated has no meaning for a macvlan network",
         "leave it out; -o mode=private keeps its containers apart"),
        (["network", "create", "-d", "macvlan", "-o", "parent=eth0", "--bridge=b", "x"], "--bridge has no meaning for a macvlan network",
         "leave it out"),
        (["network", "create", "--ip-range=10.9.0.0/25", "x"], "--ip-range `10.9.0.0/25`: --subnet is needed with it", ""),
        (["network", "create", "--ipv6", "--mtu=1279", "x"], "--mtu 1279 is too small for IPv6", "at least 1280 bytes (RFC 8200)"),
        (["network", "create", "--subnet=fd00:9::/64", "-o", "mtu=1279", "x"], "--mtu 1279 is too small for IPv6",
         "at least 1280 bytes (RFC 8200)"),
        (["network", "connect", "lab"], "`minidocker network connect` needs NETWORK CONTAINER",
         "usage: minidocker network connect [OPTIONS] NETWORK CONTAINER"),
        (["network", "connect", "--gw-priority=x", "lab", "web"],
         "--gw-priority `x`: a number from -2147483647 to 2147483647 is allowed", ""),
        (["network", "disconnect", "lab", "web", "more"], "`minidocker network disconnect`: unexpected argument `more`",
         "usage: minidocker network disconnect [OPTIONS] NETWORK CONTAINER"),
        (
            ["run", "-m", "1g", "--memory-swap=9m", "x"],
            "--memory-swap is below --memory",
            "it is the limit of memory and swap together; -1 is no limit",
        ),
        (
            ["run", "--memory-swap=9m", "x"],
            "--memory-swap is the limit of memory and swap together: it needs --memory",
            "add -m, as in -m 256m",
        ),
        (
            ["run", "-m9m", "--memory-reservation=10m", "x"],
            "--memory-reservation is above --memory",
            "the reservation is the lower, soft limit",
        ),
        (["network", "create", "host"], "network `host`: the name has a meaning of its own in --network", "choose another name"),
        (["--root", "", "ps"], "--root is empty", "give a directory, as in --root /var/lib/minidocker"),
    ],
)
def test_bad_lines(engine: Engine, minidocker_: Run, words: list[str], message: str, hint: str) -> None:
    assert minidocker_(*words) == (125, "", f"minidocker: {message}\n" + (f"  hint: {hint}\n" if hint else ""))
    assert not engine.calls


HELP = [
    [], *([group.name] for group in options_groups.GROUPS), *(words.split() for words, _ in options_groups.every()),
]  # fmt: skip


@pytest.mark.parametrize("words", HELP, ids=" ".join)
def test_help_fits_eighty_columns(engine: Engine, minidocker_: Run, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    """And each option has one line."""
    monkeypatch.setenv("COLUMNS", "80")
    code, out, complaint = minidocker_(*words, "--help")
    assert (code, complaint) == (0, "")
    assert out.startswith("Usage: " + " ".join(["minidocker", *words]))
    lines = out.splitlines()
    described = out.partition("Options:\n")[2].partition("\n\n")[0].splitlines()
    assert all(line.lstrip().startswith("-") for line in described)
    assert all(len(line) <= 80 for line in lines)


@pytest.mark.parametrize("longer", ["ls", "ps", "list"])
def test_docker_s_longer_names_are_the_same_commands(engine: Engine, minidocker_: Run, longer: str) -> None:
    assert minidocker_("container", longer, "-aq") == minidocker_("ps", "-aq") == (0, ID[:12] + "\n", "")
    assert minidocker_("container", longer, "-a", "--quiet=true") == minidocker_("ps", "-aq")  # by click
    assert minidocker_("container", "remove", "-f", "web") == minidocker_("rm", "-f", "web") == (0, "web\n", "")
    assert minidocker_("container", "run", "true") == (42, "", "")
    assert minidocker_("system", "info", "-f", "{{.Containers}}") == (0, "3\n", "")


def test_help_is_given_wherever_it_is_asked_for(engine: Engine, minidocker_: Run) -> None:
    assert minidocker_("run", "--rm", "--help", "x")[1].startswith("Usage: minidocker run")
    assert minidocker_("logs", "web", "--help")[1].startswith("Usage: minidocker logs")
    assert minidocker_("run", "x", "--help") == (42, "", "")
    assert minidocker_() == minidocker_("--help") == minidocker_("-h")
    assert minidocker_("network") == minidocker_("network", "--help")
    assert "Examples:\n  # a program of the host" in minidocker_("run", "--help")[1]
