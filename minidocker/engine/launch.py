"""What a monitor does first: bring one container up, step by step, so that a kill at any instant leaves what the record can undo.

    lock ─ sweep ─ prepare ─ record ─ layers and files ─ runtime create (+ network) ─ start ─ record "running" ─ watch ─ finish
     │      (looks, touches nothing)   (the first write)
     └ held until this process ends: whoever finds it free finds the container abandoned
"""

from __future__ import annotations

import os
import select
import sys
import time

from minidocker.engine import attach, leases, monitor, namefiles, reconcile, teardown, wiring
from minidocker.engine.host import Host
from minidocker.engine.leases import Link
from minidocker.engine.logfile import LOG_FILES, LOG_LIMIT, Log
from minidocker.engine.prepare import Prepared, new_id, random_name
from minidocker.errors import ConflictError, KernelError, MinidockerError, StateError
from minidocker.kernel import namespaces, process
from minidocker.network import names
from minidocker.plan import START, At, Plan, Step, undo
from minidocker.runtime.container import Launch
from minidocker.runtime.namespaces import End
from minidocker.spec.request import RunRequest
from minidocker.storage import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import NoReturn

    from minidocker.engine.activation import Activation

_NAME_TRIES = 100


def become_monitor(host: Host, request: RunRequest, client: _socket.socket, id: str = "") -> NoReturn:
    """Run one container from beginning to end in this process, which is a fork of the command: a new one, or that with this id again;
    never returns."""
    try:
        os.setsid()
        host.notice = lambda text: client.sendall(b"N" + os.fsencode(text))
        Session(host, request, client, id).live()
    except MinidockerError as error:
        _tell(client, monitor.failure_message(error))
    except OSError as error:
        _tell(client, monitor.failure_message(KernelError("run the container", error.errno or 0, str(error.filename or ""))))
    except BaseException as error:
        if os.environ.get("MINIDOCKER_DEBUG"):
            import traceback

            traceback.print_exc()
        _tell(client, monitor.failure_message(MinidockerError(f"internal error in the monitor: {error!r}")))
    os._exit(0)


def _tell(client: _socket.socket, message: bytes) -> bool:
    """False when the command is gone and there is nobody to tell."""
    try:
        client.sendall(message)
    except OSError:
        return False
    return True


def _is_gone(client: _socket.socket) -> bool:
    poll = select.poll()
    poll.register(client, select.POLLHUP)
    return any(events & select.POLLHUP for _, events in poll.poll(0))


class Session:
    """One container's run, as its monitor goes through it."""

    def __init__(self, host: Host, request: RunRequest, client: _socket.socket, id: str = "", waited: bool = False, placed: bool = False):
        """`waited` when it is its policy that starts it again, in the process that has claimed it; `placed` when that is where a monitor
        is to be already."""
        self.host = host
        self.request = request
        self.client = client
        self.again = bool(id)
        self.waited = waited
        self.placed = placed
        self.id = id or new_id()
        self.run_directory = host.run_directory(self.id)
        self.links: list[Link] = []
        self.activations: list[Activation] = []

    def live(self) -> None:
        self.lock = self.host.renew(self.id) if self.waited else self.host.claim(self.id)
        if self.lock < 0:
            raise StateError("the container is running already, or about to")
        try:
            reconcile.sweep(self.host, but=self.id)
            prepared = Prepared(self.host, self.request, self.id, self.again)
            if _is_gone(self.client):
                raise MinidockerError("the command was killed")  # whoever killed it wants no container
            self.record, self.links = revive(self.host, prepared, self.waited) if self.again else register(self.host, prepared)
        except BaseException:
            self.host.drop_run_directory(self.id)
            raise
        try:
            if not self.placed and self._outlives():
                prepared.place.manager.move_monitor(prepared.place.name, prepared.place.own, os.getpid())
            launch = self._create(prepared)
            self._start(launch)
            if not _tell(self.client, b"S" + self.id.encode()):
                raise MinidockerError("the command was killed before its container had started")
        except BaseException as error:
            self._give_up(error)
            raise
        if self.request.detach:
            self._become_resident(launch)
        else:
            self._stay(launch)

    def _outlives(self) -> bool:
        """Whether this process may live longer than the command."""
        request = self.request
        return request.detach or self.again or (request.tty and request.interactive) or request.has_policy

    def _create(self, prepared: Prepared) -> Launch:
        host = self.host
        files = namefiles.plan(host, prepared, self.links)
        files.run(At())
        network = wiring.bring_up(host, self.links)
        if any(link.endpoint.ports for link in self.links):
            from minidocker.engine.ports import say_who_is_blind

            say_who_is_blind(host)
        answers = wiring.answer(host, self.links, self.id, self.activations)
        answers.run(At())
        self._pipes()
        launch = Launch(
            self.id, prepared.configuration(host), host.face, directory=self.run_directory,
            own=prepared.place.own, manager=prepared.place.manager, on_namespaces=wiring.plan(host, prepared, self.links),
            filter=prepared.filter(host), stdio=self.stdio, die_with_parent=True,
        )  # fmt: skip
        self.naming = naming(self.record, self.request, self.again)
        if self.request.explain:
            _tell(self.client, b"P" + os.fsencode((files + network + answers + launch.plan + self.naming).explain()))
        if self.request.shares:
            from minidocker.engine import sharing

            sharing.lend(host, prepared, launch)
            launch.create()
            sharing.check(prepared, launch)
        else:
            launch.create()
        return launch

    def _pipes(self) -> None:
        """What becomes 0, 1 and 2 of the program; a terminal replaces all three when it is opened. -1 closes nothing."""
        if self.request.tty:
            self.ends = (-1, -1, -1)
            null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            self.stdio = (null, null, null)
            return
        output, error = os.pipe(), os.pipe()
        source = os.pipe() if self.request.interactive else (os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC), -1)
        self.stdio = (source[0], output[1], error[1])
        self.ends = (source[1], output[0], error[0])

    def _start(self, launch: Launch) -> None:
        self.log = Log(self.host.log_file(self.id), self.request.log_size or LOG_LIMIT, self.request.log_files or LOG_FILES)
        netns = namespaces.inode_of(launch.at.pid, "net")
        monitor.expect_end(self.run_directory)
        self.door = attach.door(self.run_directory) if self._outlives() else -1
        if self.request.has_check:
            self._expect_looks()
        launch.start()
        for descriptor in set(self.stdio):
            os.close(descriptor)
        containers.update(self.host.state, self.id, status=containers.RUNNING, pid=launch.at.pid, netns=netns, started=time.time())
        for link in self.links:
            if link.made:
                self.host.event("network", "create", link.network.id, link.network.name, type=link.network.driver)
            self.host.event("network", "connect", link.network.id, link.network.name, container=self.id, type=link.network.driver)
        self.host.event("container", "start", self.id, self.record.name, **self.request.labels)
        self.naming.run(launch.at, START)

    def _expect_looks(self) -> None:
        from minidocker.engine import interpreter, pulse

        look = [*interpreter.command(interpreter.prctl()), "minidocker.engine.healthcheck", "probe", self.host.root, self.id]
        pulse.write(self.run_directory, self.request.health["interval"], look)
        containers.update(self.host.state, self.id, health="")

    def _give_up(self, error: BaseException) -> None:
        """Nothing of a run that failed is left but its error."""
        for activation in self.activations:
            activation.leave()
        if not self.again:
            containers.update(self.host.state, self.id, status=containers.REMOVING)
        # read again: it may have got as far as to have a process and a name under /run/netns
        record = containers.get(self.host.state, self.id) or self.record
        code, text = (error.exit_code, error.message) if isinstance(error, MinidockerError) else (None, "")
        troubles = teardown.finish(self.host, record, code, time.time(), text)
        troubles += wiring.unmake(self.host, self.links)
        if self.request.cidfile and not self.again:
            from minidocker.engine import idfiles

            troubles += undo([idfiles.WriteId(self.request.cidfile, self.id)], At())
        if troubles and isinstance(error, MinidockerError):
            error.message += "; cleaning up then met: " + "; ".join(troubles)

    def _stay(self, launch: Launch) -> None:
        """Watch over it in this process, with the command as the client, until that leaves."""
        stdin, output, error = self.ends
        sources = {1: launch.terminal} if launch.terminal >= 0 else {1: output, 2: error}
        watching = monitor.Monitor(launch.at.pid, launch.pidfd, sources, stdin if launch.terminal < 0 else launch.terminal, launch.terminal,
                                   self.log, self.client, self.activations, tied=not self.again, door=self.door,
                                   pulse=monitor.pulse_of(self.run_directory) if self.request.has_check else None)  # fmt: skip
        try:
            status = watching.watch()
        except monitor.Left:
            self.ends = (watching.stdin, output, error)
            self._become_resident(launch)
        watching.leave()
        monitor.note_end(self.run_directory, status)
        waits = finish_ended(self.host, self.id, status)
        if watching.client is not None:
            _tell(watching.client, b"X%d" % monitor.exit_code_of(status))
        if waits is not None:
            from minidocker.engine import restarts

            restarts.become_waiter(self.host, waits, placed=True)

    def _become_resident(self, launch: Launch) -> NoReturn:
        """Exec a fresh interpreter that has nothing in it but the watching, and of the caller's nothing open: no terminal to be hung up,
        no pipe whose reader waits for the end, no lock, no working directory."""
        self.client.close()
        stdin, output, error = self.ends
        if launch.terminal >= 0:
            stdin, output, error = launch.terminal if self.request.interactive else -1, launch.terminal, -1
        process.close_range(3, flags=process.CLOSE_RANGE_CLOEXEC)
        for descriptor in {launch.pidfd, self.lock, self.door, stdin, output, error} - {-1}:
            os.set_inheritable(descriptor, True)
        null = os.open("/dev/null", os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        os.close(null)
        os.chdir("/")
        stays_open = (self.record if self.again else self).request.detach  # as docker has it: but for run -d, stdin ends with a client's
        numbers = (launch.at.pid, launch.pidfd, output, error, int(launch.terminal >= 0), stdin, int(not stays_open), self.door)
        watch = ["minidocker.engine.monitor", "resident", *map(str, numbers), str(self.log.limit),
                 str(self.log.files), self.log.path, self.run_directory, str(len(self.activations))]  # fmt: skip
        watch += [word for activation in self.activations for word in activation.packed()]
        finish = ["minidocker.engine.launch", "finish_resident", self.host.root, self.id]
        from minidocker.engine import interpreter

        python = interpreter.command(interpreter.prctl())
        os.execv(sys.executable, [*python, *watch, *python, *finish])


def finish_resident(arguments: list[str]) -> None:
    """What the resident monitor execs at the end: data root, id, wait status."""
    root, id, status = arguments
    host = Host(root, lambda text: None)
    waits = finish_ended(host, id, int(status))
    if waits is not None:
        from minidocker.engine import restarts

        restarts.become_waiter(host, waits, placed=True)
    os._exit(0)


def finish_ended(host: Host, id: str, status: int) -> containers.Record | None:
    """Init has ended with wait status `status`; the container's record where its policy has it started again."""
    record = containers.get(host.state, id)
    if record is None:
        return None
    teardown.finish(host, record, monitor.exit_code_of(status), time.time(), by_policy=True)
    return containers.waiting(host.state, record)


def register(host: Host, prepared: Prepared, status: str = containers.CREATING) -> tuple[containers.Record, list[Link]]:
    """The first write: record, leases and ports in one transaction; what is taken is refused here and nothing has changed."""
    request = prepared.request
    with host.state.transaction() as state:
        for attempt in range(_NAME_TRIES):
            name = request.name or random_name() + (str(attempt) if attempt > 9 else "")
            try:
                containers.insert(state, prepared.id, name, request, host.boot, time.time(), status)
                break
            except ConflictError:
                if request.name:
                    raise
        links = leases.take(host, request, leases.Owner(prepared.id, name, hostname=request.hostname))
        if request.mounts:
            from minidocker.engine import volumes

            volumes.take(state, prepared.id, request)
    record = containers.get(host.state, prepared.id)
    assert record is not None  # noqa: S101  (inserted above, and its lock is ours)
    host.event("container", "create", record.id, record.name, **request.labels)
    return record, links


def revive(host: Host, prepared: Prepared, waited: bool = False) -> tuple[containers.Record, list[Link]]:
    """The first write of a start again: its leases and ports anew, the addresses that it had where they are free. By its policy after it
    has `waited`, or by the user, with whom its policy begins anew."""
    with host.state.transaction() as state:
        record = containers.get(state, prepared.id)
        if record is None:
            raise StateError("the container has just been removed")
        if waited and (record.status != containers.RESTARTING or record.stopped):
            raise StateError("the container has just been stopped")
        if not waited and record.status not in containers.AT_REST:
            raise StateError("the container is running already")
        # what it is to be in now: another command may have connected or disconnected it since it was looked at
        prepared.request.mode, prepared.request.networks = record.request.mode, record.request.networks
        generation = record.generation + 1
        if not waited:
            containers.update(state, record.id, restarts=0, backoff=0, stopped=0)
        owner = leases.again(host, record, generation, prepared.request.hostname)
        containers.update(state, record.id, status=containers.STARTING, boot=host.boot, generation=generation, started=0, finished=0,
                          exit_code=None, oom_killed=0, error="")  # fmt: skip
        links = leases.take(host, prepared.request, owner)
    record = containers.get(host.state, prepared.id)
    assert record is not None  # noqa: S101  (updated above, and its lock is ours)
    return record, links


def naming(record: containers.Record, request: RunRequest, again: bool = False) -> Plan:
    """What makes the container's network namespace, and who it is, known once its program runs."""
    steps: list[Step] = [names.NameNetns(record.name)] if request.mode != "host" else []
    if request.cidfile or request.pidfile:
        from minidocker.engine import idfiles

        steps += idfiles.steps(request, record.id, again)
    return Plan(steps)


def planned(host: Host, request: RunRequest) -> tuple[Plan, Plan]:
    """The whole plan of a run that is not run, for --dry-run: what would be made, with the addresses it would get; and of what is taken
    away when it ends."""
    id = new_id()
    reconcile.sweep(host)
    prepared = Prepared(host, request, id)
    links: list[Link] = []
    try:
        with host.state.transaction() as state:
            name = request.name or random_name()
            containers.insert(state, id, name, request, host.boot, time.time())
            links = leases.take(host, request, leases.Owner(id, name, hostname=request.hostname))
            record = containers.find(state, id)
            afterwards = Plan()
            if request.mounts:
                from minidocker.engine import volumes

                afterwards = volumes.unborn(host, id, request)
            raise _NotForReal
    except _NotForReal:
        network = wiring.planned_up(host, links)
    files = namefiles.plan(host, prepared, links)
    document = prepared.configuration(host)
    for entry in document["mounts"]:  # we follow links inside the root, which mount(8) does not
        entry["destination"] = prepared.view.inside(entry["destination"])
    document["process"]["cwd"] = prepared.view.inside(document["process"]["cwd"])
    launch = Launch(id, document, host.face, directory=host.run_directory(id), own=prepared.place.own,
                    manager=prepared.place.manager, on_namespaces=wiring.plan(host, prepared, links), filter=prepared.filter(host),
                    stdio=(0 if request.interactive or request.tty else -1, 1, 2))  # fmt: skip
    plan = files + network + wiring.answer(host, links, id, []) + launch.plan + naming(record, request)
    places = [(link.network, link.endpoint) for link in links]
    return plan, Plan([End()]) + teardown.ended(host, record, places, files=True) + afterwards


class _NotForReal(Exception):
    """Rolls back the transaction in which a dry run has looked what it would get."""
