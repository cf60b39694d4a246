"""A running container's hosts and resolv.conf, and its networks' DNS, when it joins a network or leaves one: as steps.

Of the networks' side connection.py has the order, network/ the steps. The hosts file that a container shares with its first network's
others is no longer right once it is in several: it gets one of its own then, bound over the shared one from outside.
"""

from __future__ import annotations

import os

from minidocker.engine import namefiles, resolver
from minidocker.engine.host import Host
from minidocker.network import names
from minidocker.plan import FILESYSTEM, At, Step, inline, quote
from minidocker.runtime import enter
from minidocker.runtime.state import State
from minidocker.storage import containers
from minidocker.storage.containers import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minidocker.spec.records import Endpoint, Network

    Members = list[tuple[Network, Endpoint]]


def own_hosts(host: Host, record: Record) -> str:
    return f"{host.run_directory(record.id)}/{names.HOSTS}"


class OwnHosts(Step):
    """Bind a hosts file of its own over that which it shares with its first network: nobody else is in just these networks."""

    title = FILESYSTEM
    why = "a hosts file of its own, as no other is in just these networks"

    def __init__(self, host: Host, record: Record, members: Members) -> None:
        self.host = host
        self.record = record
        self.path = own_hosts(host, record)
        self.making = namefiles.OwnHosts(self.path, [host.names_directory(network.name) for network, _ in members], record.id,
                                         record.request.add_hosts)  # fmt: skip

    def shell(self) -> str:
        bound = f'# by open_tree(2), setns(2) and move_mount(2), for which there is no command: {self.path} over /etc/hosts in "$PID"'
        return f"{self.making.shell()}\n{bound}"

    def describe(self) -> str:
        return f"give `{self.record.name}` a hosts file of its own"

    def apply(self, at: At) -> None:
        names.create_private(f"{self.path}.new", self.making.directories, self.record.id, self.record.request.add_hosts)
        enter.bind_file(State(self.host.run_directory(self.record.id)).open(), f"{self.path}.new", "/etc/hosts")
        os.rename(f"{self.path}.new", self.path)  # last: from now on it is known to be there


class JoinHosts(Step):
    """Have its own hosts file get another network's lines, too."""

    title = FILESYSTEM
    why = "its new neighbours' names"

    def __init__(self, host: Host, record: Record, network: Network) -> None:
        self.path = own_hosts(host, record)
        self.directory = host.names_directory(network.name)
        self.id = record.id

    def shell(self) -> str:
        shared = quote(f"{self.directory}/{names.HOSTS}")
        skip = names.hosts_header().count("\n") + 1
        return (f"mkdir -p {quote(self.directory)}\n[ -e {shared} ] || printf %s {inline(names.hosts_header())} > {shared}\n"
                f"tail -n +{skip} {shared} >> {quote(self.path)}\nln -f {quote(self.path)} {shared}.{self.id}")  # fmt: skip

    def apply(self, at: At) -> None:
        names.join_private(self.path, self.directory, self.id)


class LeaveHosts(Step):
    """Take it out of a network's hosts files, and the network out of its own."""

    title = FILESYSTEM
    why = "neither finds the other by name any more"

    def __init__(self, host: Host, record: Record, network: Network, place: Endpoint) -> None:
        self.host = host
        self.network = network
        self.directory = host.names_directory(network.name)
        self.path = own_hosts(host, record)
        self.leaving = names.Leave(self.directory, record.id, [place.ip, place.ip6])

    def shell(self) -> str:
        theirs = " ".join(f"-e {quote(f'/^{ip}	.* {id[:names.SHORT_ID]}$/d')}" for id, ip in self._members())
        path = quote(self.path)
        return f'{self.leaving.shell()}\n[ ! -e {path} ] || {{ text=$(sed {theirs or "-n p"} {path}) && echo "$text" > {path}; }}'

    def describe(self) -> str:
        return self.leaving.describe()

    def _members(self) -> list[tuple[str, str]]:
        others = [one for group in containers.endpoints(self.host.state).values() for one in group if one.network == self.network.name]
        return [(one.container_id, ip) for one in others for ip in (one.ip, one.ip6) if ip]

    def apply(self, at: At) -> None:
        self.leaving.apply(at)
        for path in (self.path, f"{self.path}.new"):  # the second where whoever had just bound it was killed
            if os.path.exists(path):
                names.leave_private(path, self.directory, self._members())


class ResolvConf(Step):
    """Name the DNS of the networks that it is in now, unless the container has written something of its own there."""

    title = FILESYSTEM
    why = "the DNS of the networks that it is in now, unless it has written its own"

    def __init__(self, path: str, was: str, now: str) -> None:
        self.path = path
        self.was = was
        self.now = now

    def shell(self) -> str:
        path = quote(self.path)
        return f'[ "$(cat {path})" != {inline(self.was.rstrip())} ] || printf %s {inline(self.now)} > {path}'

    def apply(self, at: At) -> None:
        with open(self.path, "r+b", buffering=0) as file:
            if file.read() == self.was.encode():
                file.seek(0)
                file.write(self.now.encode())
                file.truncate()


class AnswerNow(resolver.Answer):
    """The network's DNS by a server, at once: this command does not stay to wait for the first question."""

    def apply(self, at: At) -> None:
        activation = resolver.ensure(self.host, self.network, self.short_id)
        if activation is not None:
            activation.wake()
