"""The commands on containers: each is one engine call with its arguments before it and its printing after it.

The engine is imported inside each function: `ps` must not pay for what `run` needs.
"""

from __future__ import annotations

import os
import time

from minidocker.cli import output, requests
from minidocker.errors import MinidockerError, UsageError
from minidocker.spec import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minidocker.cli.call import Call


def run(call: Call) -> int:
    """`run`: the command's exit code; with -d the id is printed, with --dry-run the script."""
    request = requests.run_request(call, os.environ, working_directory())
    if request.dry_run:
        from minidocker.engine.run import script

        output.say_text(script(call.host(), request))
        return 0
    if request.detach:
        from minidocker.engine.run import detach

        output.say(detach(call.host(), request, output.write, output.explain))
        return 0
    _need_terminal(request.interactive and request.tty)
    host = call.host()
    from minidocker.engine.run import run as run_container

    return run_container(host, request, output.write, output.explain)


def execute(call: Call) -> int:
    """`exec`: the command's exit code."""
    request = requests.exec_request(call, os.environ, working_directory())
    _need_terminal(request.interactive and request.tty and not request.detach)
    host = call.host()
    from minidocker.engine.execute import execute as execute_in

    return execute_in(host, request, output.write)


def ps(call: Call) -> int:
    """`ps`: the list, or the ids, or each by a template."""
    from minidocker.cli.listing import containers_view, json_record, row

    filters = [parse.ps_filter(text) for text in call.list("filter")]
    view = containers_view(call)
    host = call.host()
    from minidocker.engine.listing import ps as list_containers

    records = list_containers(host, call.flag("all"), filters)
    now, full = time.time(), call.flag("no_trunc")
    view.print([json_record(record) for record in records] if view.format == "json" else records, lambda record: row(record, now, full))
    return 0


def logs(call: Call) -> int:
    """`logs`: what the container printed, stdout and stderr apart."""
    tail, since = call.text("tail"), call.text("since")
    if tail is not None or since is not None:
        from minidocker.spec import parse_time
    lines = None if tail is None else parse_time.tail(tail)
    start = None if since is None else parse_time.since(since, time.time(), time.mktime)
    host = call.host()
    from minidocker.engine.logs import copy

    copy(host, call.arguments[0], output.write, call.flag("follow"), lines, call.flag("timestamps"), start)
    return 0


def stop(call: Call) -> int:
    """`stop`: each container's name as it has stopped."""
    timeout = requests.timeout(call, "time")
    host = call.host()
    from minidocker.engine import lifecycle

    return each(call.arguments, lambda reference: lifecycle.stop(host, reference, timeout, call.teller()))


def start(call: Call) -> int:
    """`start`: each container's name as it runs; with -a or -i the exit code of the one."""
    if call.flag("attach") or call.flag("interactive"):
        from minidocker.cli import life

        return life.start_attached(call)
    if "detach_keys" in call.given:
        raise UsageError("--detach-keys is for a container that is attached to", "add -a")
    host = call.host()
    from minidocker.engine import run as runs

    return each(call.arguments, lambda reference: runs.start(host, reference, output.explain))


def restart(call: Call) -> int:
    """`restart`: each container's name as it runs again."""
    timeout = requests.timeout(call, "time")
    host = call.host()
    from minidocker.engine import run as runs

    return each(call.arguments, lambda reference: runs.restart(host, reference, timeout, output.explain))



def kill(call: Call) -> int:
    """`kill`: each container's name once it was sent the signal."""
    number = parse.signal("--signal", call.text("signal") or "KILL")
    host = call.host()
    from minidocker.engine import lifecycle

    return each(call.arguments, lambda reference: lifecycle.kill(host, reference, number))


def remove(call: Call) -> int:
    """`rm`: each container's name as it is gone."""
    host = call.host()
    from minidocker.cli.progress import Progress
    from minidocker.engine import lifecycle

    with Progress(lambda: f"ending {len(call.arguments)} containers"):  # all that run at once, with -f
        one = lifecycle.remover(host, call.arguments, call.flag("force"), call.teller(), call.flag("volumes"))
    return each(call.arguments, one)


def inspect(call: Call) -> int:
    """`inspect`: a JSON array, or a line of the template for each."""
    from minidocker.cli.listing import print_documents

    def lookup() -> Callable[[str], list[dict[str, object]]]:
        host = call.host()
        from minidocker.engine import listing

        return lambda reference: listing.inspect(host, [reference])

    return print_documents(call, lookup)


def port(call: Call) -> int:
    """`port`: a line for each published port, `80/tcp -> 0.0.0.0:8080`; of one port asked for, or with -q, only where it is."""
    from minidocker.cli.table import Column, View
    from minidocker.spec.parse_network import container_port

    reference, *rest = call.arguments
    wanted = container_port(rest[0]) if rest else None
    columns = [Column("PORT", "Port"), Column("HOST", "Host"), Column("HOST IP", "HostIp"), Column("HOST PORT", "HostPort")]
    quiet, usual = call.flag("quiet"), "{{.Host}}" if wanted else "{{.Port}} -> {{.Host}}"
    view = View(columns, call.text("format") or (None if quiet else usual), quiet, True, "Host")
    host = call.host()
    from minidocker.engine.listing import published

    records: list[dict[str, object]] = [
        {"Port": f"{one.container_port}/{one.protocol}", "Host": f"{one.host}:{one.host_port}",
         "HostIp": one.host_ip, "HostPort": one.host_port}
        for one in published(host, reference, wanted)
    ]  # fmt: skip
    view.print(records, lambda record: {key: str(value) for key, value in record.items()})
    return 0


def each(references: list[str], action: Callable[[str], None]) -> int:
    """Do `action` to each, print those done, report those that failed and go on; 0, or 1 when any failed, as docker."""
    code = 0
    if os.isatty(output.STDERR):
        action = _shown(action, references)
    for reference in references:
        try:
            action(reference)
        except MinidockerError as error:
            output.report(error)
            code = 1
        else:
            output.say(reference)
    return code


def _shown(action: Callable[[str], None], references: list[str]) -> Callable[[str], None]:
    """`action`, with a line on the terminal while it takes long."""
    from minidocker.cli.progress import Progress

    done: list[str] = []

    def one(reference: str) -> None:
        done.append(reference)
        with Progress(lambda: f"{len(done)} of {len(references)}: {reference}" if len(references) > 1 else reference):
            action(reference)

    return one


def _need_terminal(asked: bool) -> None:
    if asked and not os.isatty(0):
        raise UsageError("-i with -t needs a terminal, and stdin is none", "leave out -t")


def working_directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "/proc/self/cwd"  # it was removed: no matter, unless something is looked for in it, and nothing is found in this
