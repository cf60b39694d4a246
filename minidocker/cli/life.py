"""The commands on a container's life between its making and its end, but `run`, `stop`, `kill` and `rm`, which are in containers.py."""

from __future__ import annotations

import os

from minidocker.cli import output, requests
from minidocker.cli.call import Call
from minidocker.cli.containers import each, working_directory
from minidocker.errors import MinidockerError, UsageError
from minidocker.spec import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def create(call: Call) -> int:
    """`create`: the id is printed."""
    request = requests.run_request(call, os.environ, working_directory())
    host = call.host()
    from minidocker.engine.creation import create as create_container

    output.say(create_container(host, request))
    return 0


def pause(call: Call) -> int:
    """`pause`: each container's name once it stands still."""
    host = call.host()
    from minidocker.engine import pausing

    return each(call.arguments, lambda reference: pausing.pause(host, reference, call.teller()))


def unpause(call: Call) -> int:
    """`unpause`: each container's name as it goes on."""
    host = call.host()
    from minidocker.engine import pausing

    return each(call.arguments, lambda reference: pausing.unpause(host, reference, call.teller()))


def start_attached(call: Call) -> int:
    """`start -a`, `start -i`: the container's exit code."""
    if len(call.arguments) > 1:
        raise UsageError("only one container can be attached to", "leave out -a and -i, or start the others first")
    keys = _keys(call)
    host = call.host()
    from minidocker.engine import run as runs

    return runs.start_attached(host, call.arguments[0], output.write, output.explain, call.flag("interactive"), keys)


def attach(call: Call) -> int:
    """`attach`: the container's exit code, 0 when the user leaves it."""
    proxy = parse.choice("--sig-proxy", call.text("sig_proxy") or "true", ("true", "false")) == "true"
    keys = _keys(call)
    host = call.host()
    from minidocker.engine import attach as attaching

    return attaching.attach(host, call.arguments[0], output.write, stdin=not call.flag("no_stdin"), proxy=proxy, keys=keys)


def _keys(call: Call) -> bytes | None:
    text = call.text("detach_keys")
    return None if text is None else parse.detach_keys(text)


def wait(call: Call) -> int:
    """`wait`: each container's exit code, in the order in which they were named."""
    host = call.host()
    from minidocker.engine import waiting

    found: list[Callable[[], int]] = []
    code = 0
    for reference in call.arguments:  # all are held before the first is waited for
        try:
            found.append(waiting.ending(host, reference))
        except MinidockerError as error:
            output.report(error)
            code = 1
    for ending in found:
        try:
            output.say(str(ending()))
        except MinidockerError as error:
            output.report(error)
            code = 1
    return code


def update(call: Call) -> int:
    """`update`: each container's name as it has its new limits."""
    from minidocker.spec import parse_limits

    parsers: dict[str, Callable[[str], object]] = {
        "memory": lambda text: parse_limits.memory("--memory", text),
        "memory_reservation": lambda text: parse_limits.memory("--memory-reservation", text),
        "memory_swap": parse_limits.memory_swap, "cpus": parse_limits.cpus, "cpu_shares": parse_limits.cpu_shares,
        "cpuset_cpus": parse_limits.cpuset, "pids_limit": parse_limits.pids_limit,
    }  # fmt: skip
    limits = {key: parser(text) for key, parser in parsers.items() if (text := call.text(key)) is not None}
    if not limits:
        raise UsageError("`minidocker update` needs a limit that is to change", "as in minidocker update -m 512m web")
    host = call.host()
    from minidocker.engine import updating

    return each(call.arguments, lambda reference: updating.update(host, reference, limits, call.teller()))


def rename(call: Call) -> int:
    """`rename`: nothing is printed."""
    name = parse.name("NEW", call.arguments[1])
    host = call.host()
    from minidocker.engine import renaming

    renaming.rename(host, call.arguments[0], name, call.teller())
    return 0


def top(call: Call) -> int:
    """`top`: what ps(1) says of the container's processes."""
    host = call.host()
    from minidocker.engine import processes

    output.say_text(processes.top(host, call.arguments[0], call.arguments[1:]))
    return 0
