"""The helper process's side of calling.py: what can be asked, each one call of the engine."""

from __future__ import annotations

import _socket
import os

from minidocker import imports

imports.shorten()

from minidocker.cli import options, requests  # noqa: E402
from minidocker.cli.call import Call  # noqa: E402
from minidocker.cli.output import write  # noqa: E402
from minidocker.engine.host import Host  # noqa: E402
from minidocker.errors import MinidockerError  # noqa: E402
from minidocker.plan import silent  # noqa: E402
from minidocker.spec import fastjson  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

REQUEST, CHANNEL = 3, 4
_SIGKILL = 9


class Ask:
    """One call: `do` names the operation, `arguments` and `given` are those of a command line (see cli/call.py), `extra` what has no
    option."""

    def __init__(self, asked: dict[str, Any]) -> None:
        self.do: str = asked["do"]
        self.root: str | None = asked["root"]
        self.caller: int = asked["caller"]
        self.arguments: list[str] = asked["arguments"]
        self.given: dict[str, Any] = asked["given"]
        self.extra: dict[str, Any] = asked["extra"]

    def call(self, command: options.Command) -> Call:
        return Call(command, self.given, self.arguments, self.root)

    def host(self) -> Host:
        return Host(self.call(options.RUN).root_directory(), lambda text: tell({"notice": text}))


def serve() -> NoReturn:
    """Wait for the word, do what is asked, say how it went, and end."""
    channel = _socket.socket(fileno=CHANNEL)
    if not channel.recv(1, _socket.MSG_PEEK):  # the byte is not taken: what is executed anew waits for it again
        os._exit(1)  # whoever asked has gone
    channel.detach()
    ask = Ask(fastjson.loads(os.pread(REQUEST, os.fstat(REQUEST).st_size, 0).decode("ascii")))
    try:
        outcome: dict[str, Any] = {"value": OPERATIONS[ask.do](ask)}
    except MinidockerError as error:
        outcome = {"error": {"class": type(error).__name__, "exit_code": error.exit_code, **vars(error)}}
    except Exception as error:
        import traceback

        text = f"internal error: {type(error).__name__}: {error}"
        outcome = {"error": {"class": "MinidockerError", "exit_code": 125, "message": text, "hint": traceback.format_exc()}}
    tell(outcome)
    os._exit(0)


def tell(message: dict[str, Any]) -> None:
    """One line to whoever asked."""
    write(CHANNEL, fastjson.dumps(message).encode("ascii") + b"\n")


def _silent(text: str) -> None:
    """Nobody has asked for an explanation."""


def _end_with_caller(ask: Ask) -> None:
    """What is in the foreground goes with whoever waits for it, however that ends (PR_SET_PDEATHSIG(2const))."""
    from minidocker.kernel import process

    process.set_parent_death_signal(_SIGKILL)
    if os.getppid() != ask.caller:
        os._exit(1)


def run(ask: Ask) -> Any:
    """The exit code; with `detach` [id, name]."""
    request = requests.run_request(ask.call(options.RUN), os.environ, os.getcwd())
    host = ask.host()
    from minidocker.engine import run as runs

    _end_with_caller(ask)  # with `detach` too: whose caller has gone before it has started is not wanted
    if request.detach:
        return _named(host, runs.detach(host, request, write, _silent), request.name)
    return runs.run(host, request, write, _silent)


def create(ask: Ask) -> list[str]:
    from minidocker.cli.options_life import CREATE
    from minidocker.engine import creation

    request = requests.run_request(ask.call(CREATE), os.environ, os.getcwd())
    host = ask.host()
    return _named(host, creation.create(host, request), request.name)


def _named(host: Host, id: str, asked: str | None) -> list[str]:
    from minidocker.storage import containers

    record = containers.get(host.state, id)  # None with `rm` where it has ended already
    return [id, record.name if record else asked or id[:12]]


def execute(ask: Ask) -> int:
    request = requests.exec_request(ask.call(options.EXEC), os.environ, os.getcwd())
    _end_with_caller(ask)
    from minidocker.engine import execute as exec_

    return exec_.execute(ask.host(), request, write)


def logs(ask: Ask) -> None:
    from minidocker.engine import logs as log

    extra = ask.extra
    both = lambda stream, data: write(1, data)  # noqa: E731  (in the order in which they came)
    log.copy(ask.host(), ask.arguments[0], both, False, extra["tail"], extra["timestamps"], extra["since"])


def stop(ask: Ask) -> None:
    from minidocker.engine import lifecycle

    lifecycle.stop(ask.host(), ask.arguments[0], ask.extra["time"])


def kill(ask: Ask) -> None:
    from minidocker.engine import lifecycle
    from minidocker.spec import parse

    lifecycle.kill(ask.host(), ask.arguments[0], parse.signal("signal", ask.extra["signal"]))


def start(ask: Ask) -> None:
    from minidocker.engine import run as runs

    runs.start(ask.host(), ask.arguments[0], _silent)


def restart(ask: Ask) -> None:
    from minidocker.engine import run as runs

    runs.restart(ask.host(), ask.arguments[0], ask.extra["time"], _silent)


def remove(ask: Ask) -> None:
    from minidocker.engine import lifecycle

    lifecycle.remove(ask.host(), ask.arguments[0], ask.extra["force"], silent, ask.extra["volumes"])


def wait(ask: Ask) -> int:
    from minidocker.engine import waiting

    return waiting.ending(ask.host(), ask.arguments[0])()


def pause(ask: Ask) -> None:
    from minidocker.engine import pausing

    pausing.pause(ask.host(), ask.arguments[0], silent)


def unpause(ask: Ask) -> None:
    from minidocker.engine import pausing

    pausing.unpause(ask.host(), ask.arguments[0], silent)


def ps(ask: Ask) -> list[list[object]]:
    """[id, name] of each."""
    from minidocker.engine import listing
    from minidocker.spec import parse

    filters = [parse.ps_filter(text) for text in ask.extra["filters"]]
    return [[record["ID"], record["Names"]] for record in listing.ps(ask.host(), ask.extra["all"], filters)]


def inspect(ask: Ask) -> dict[str, object]:
    from minidocker.engine import listing

    return listing.inspect(ask.host(), ask.arguments)[0]


def network_create(ask: Ask) -> list[str]:
    from minidocker.cli.options_networks import NETWORK_CREATE
    from minidocker.engine import networks

    request = requests.network_request(ask.call(NETWORK_CREATE))
    return [networks.create(ask.host(), request, silent), request.name]


def network_ls(ask: Ask) -> list[list[object]]:
    from minidocker.engine import describe

    return [[record["ID"], record["Name"]] for record in describe.ls(ask.host())]


def network_inspect(ask: Ask) -> dict[str, object]:
    from minidocker.engine import describe

    return describe.inspect(ask.host(), ask.arguments)[0]


def network_remove(ask: Ask) -> None:
    from minidocker.engine import networks

    networks.remove(ask.host(), ask.arguments[0], silent)


def network_connect(ask: Ask) -> None:
    from minidocker.cli.options_networks import NETWORK_CONNECT
    from minidocker.engine import connection

    attachment = requests.attachment(ask.call(NETWORK_CONNECT))
    connection.connect(ask.host(), attachment, ask.arguments[1], silent)


def network_disconnect(ask: Ask) -> None:
    from minidocker.engine import connection

    connection.disconnect(ask.host(), ask.arguments[1], ask.arguments[0], ask.extra["force"], silent)


def sweep(ask: Ask) -> int:
    from minidocker.api import keeping

    return keeping.sweep(ask.host(), ask.extra["own"])


OPERATIONS: dict[str, Callable[[Ask], Any]] = {
    function.__name__: function
    for function in (
        run, create, execute, logs, stop, kill, start, restart, remove, wait, pause, unpause, ps, inspect,
        network_create, network_ls, network_inspect, network_remove, network_connect, network_disconnect, sweep,
    )
}  # fmt: skip
