"""The commands on a container's life between its making and its end, but `run`, `stop`, `kill` and `rm`, which are in containers.py."""

from __future__ import annotations

import os

from minidocker.cli import output, requests
from minidocker.cli.call import Call
from minidocker.cli.containers import each, working_directory


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
