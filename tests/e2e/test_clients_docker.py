"""dockerd with our runtime, beside its own and in its place; and under Swarm, three replicas on two hosts and an overlay network."""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import pretend
from tests.e2e import clients
from tests.e2e.dockerd import Docker, emptied
from tests.e2e.support import poll

CGROUP = "minidocker-test-dockerd"
RUN = Path("/run/dockerd-test")
SWARM = "minidocker-test-swarm"
SWARM_RUN = Path("/run/swarm-test")
OVERLAY = "10.77.0.0/24"


class Client(Docker):
    """What the `docker` command does, in words like its own."""

    def run_(self, *words: str, name: str = "", detach: bool = False, **host: Any) -> str:
        """`docker run`; the id where it is detached, else what it prints, which is then gone. `host` is of HostConfig."""
        top = {key: host.pop(key) for key in ("Tty", "User", "Env", "WorkingDir", "Hostname", "ExposedPorts") if key in host}
        body = {"Image": "image", "Cmd": list(words), "HostConfig": host, **top}
        id = str(self.ask("POST", f"/containers/create?name={name}", body)["Id"])
        try:
            self.ask("POST", f"/containers/{id}/start")
            if detach:
                return id
            code = self.ask("POST", f"/containers/{id}/wait")["StatusCode"]
            said = self.logs(id)
            assert code == 0, f"{words}: exit {code}: {said}"
            return said
        finally:
            if not detach:
                self.rm(id)

    def logs(self, id: str) -> str:
        return demultiplexed(self.request("GET", f"/containers/{id}/logs?stdout=1&stderr=1")[1])

    def exec(self, id: str, *words: str, **more: Any) -> tuple[int, str]:
        """`docker exec`: its exit code and both its outputs."""
        made = self.ask("POST", f"/containers/{id}/exec", {"Cmd": list(words), "AttachStdout": True, "AttachStderr": True, **more})["Id"]
        status, output, _ = self.request("POST", f"/exec/{made}/start", {"Detach": False})
        assert status < 400, output
        return int(self.ask("GET", f"/exec/{made}/json")["ExitCode"]), demultiplexed(output)

    def inspect(self, id: str) -> dict[str, Any]:
        return self.ask("GET", f"/containers/{id}/json")  # type: ignore[no-any-return]

    def rm(self, id: str) -> None:
        self.ask("DELETE", f"/containers/{id}?force=1&v=1")


def demultiplexed(data: bytes) -> str:
    """The streams of an attached container in one: each piece has a head of eight bytes, kind and length."""
    text = b""
    while len(data) >= 8 and data[0] in (0, 1, 2) and data[1:4] == b"\0\0\0":
        (length,) = struct.unpack_from(">I", data, 4)
        text, data = text + data[8 : 8 + length], data[8 + length :]
    return (text or data).decode().rstrip("\n")


def image(daemon: Docker, busybox: Path, work: Path) -> None:
    """The whole of busybox, called `image`."""
    pretend.sh(f"tar -C {busybox} -cf {work}/image.tar .")
    daemon.ask("POST", "/images/create?fromSrc=-&repo=image", (work / "image.tar").read_bytes(), "application/x-tar")


@contextmanager
def daemon(work: Path, busybox: Path, *words: object, run: Path = RUN, cgroup: str = CGROUP,
           before: tuple[str, ...] = ()) -> Iterator[Client]:
    """One that answers and has an image; its containers are gone afterwards."""
    work.mkdir(exist_ok=True)
    run.mkdir(parents=True, exist_ok=True)
    made = Client(work, run, cgroup, "--data-root", work / "data", "--storage-driver", "vfs", *words, before=before)
    try:
        made.start()
        image(made, busybox, work)
        yield made
        for container in made.ask("GET", "/containers/json?all=1"):
            made.rm(container["Id"])
    finally:
        made.stop()
        pretend.sh(f"grep -o ' {work}/[^ ]*' /proc/self/mountinfo | tac | xargs -r umount -l", check=False)


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory, busybox: Path) -> Iterator[Client]:
    """Ours is its default runtime, and has a name of its own besides."""
    work = tmp_path_factory.mktemp("dockerd")
    runtime = clients.runtime(work)
    with emptied("/etc/docker"), clients.guests(RUN, CGROUP), \
            daemon(work, busybox, "--add-runtime", f"mine={runtime}", "--default-runtime", "mine") as made:  # fmt: skip
        yield made


def test_ours_is_the_default_and_another_is_beside_it(docker: Client) -> None:
    info = docker.ask("GET", "/info")
    assert info["DefaultRuntime"] == "mine" and {"mine", "runc"} <= set(info["Runtimes"])
    assert docker.run_("echo", "hello") == "hello"
    assert docker.run_("echo", "hello", Runtime="mine") == "hello"
    assert docker.run_("echo", "hello", Runtime="runc") == "hello"


def test_exit_codes_and_what_is_missing(docker: Client) -> None:
    assert docker.run_("sh", "-c", "echo out; echo error >&2").split() in (["out", "error"], ["error", "out"])
    id = docker.run_("sh", "-c", "exit 7", detach=True)
    assert docker.ask("POST", f"/containers/{id}/wait")["StatusCode"] == 7
    docker.rm(id)
    made = docker.ask("POST", "/containers/create", {"Image": "image", "Cmd": ["/no/such/program"]})["Id"]
    status, answer, _ = docker.request("POST", f"/containers/{made}/start")
    assert status == 400 and b"/no/such/program" in answer and docker.inspect(made)["State"]["ExitCode"] == 127, answer
    docker.rm(made)


def test_the_container_is_what_was_asked_for(docker: Client, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    tmp_path.chmod(0o755)
    tmp_path.parent.chmod(0o755)
    script = "id -u; pwd; echo $A; hostname; cat /data/file; echo; cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory.max; " \
             "touch /x /data/x; grep -E 'CapEff|Seccomp:|NoNew' /proc/self/status; cat /proc/sys/net/core/somaxconn; ulimit -n"  # fmt: skip
    said = docker.run_("sh", "-c", f"({script}) 2>&1", User="1000:1001", WorkingDir="/usr", Env=["A=b c"], Hostname="box",
                       ReadonlyRootfs=True, Binds=[f"{tmp_path}:/data:ro"], Memory=64 << 20, CapDrop=["ALL"],
                       SecurityOpt=["no-new-privileges"],
                       Sysctls={"net.core.somaxconn": "321"}, Ulimits=[{"Name": "nofile", "Soft": 100, "Hard": 200}])  # fmt: skip
    assert said.splitlines()[:5] == ["1000", "/usr", "b c", "box", "content"] and str(64 << 20) in said and said.count("Read-only") == 2
    assert "CapEff:\t0000000000000000" in said and "Seccomp:\t2" in said and "NoNewPrivs:\t1" in said and said.endswith("321\n100")


def test_privileged(docker: Client) -> None:
    """dockerd asks for every capability there is; runc refuses where the host itself lacks one, as CAP_SYS_RESOURCE in a sandbox."""
    assert "Seccomp:\t0" in docker.run_("grep", "-E", "Seccomp:|CapEff", "/proc/self/status", Privileged=True)


def test_the_namespaces_of_the_host(docker: Client) -> None:
    for mode, kind in (("PidMode", "pid"), ("NetworkMode", "net"), ("IpcMode", "ipc"), ("UTSMode", "uts")):
        assert docker.run_("readlink", f"/proc/self/ns/{kind}", **{mode: "host"}) == os.readlink(f"/proc/self/ns/{kind}")


def test_an_init_reaps(docker: Client) -> None:
    assert "init" in docker.run_("cat", "/proc/1/cmdline", Init=True)


def test_exec_stats_top_pause_and_update(docker: Client) -> None:
    id = docker.run_("sleep", "1000", detach=True, Memory=64 << 20, MemorySwap=64 << 20)
    assert docker.exec(id, "sh", "-c", "echo out; id -u; exit 9", User="1000") == (9, "out\n1000")
    assert docker.exec(id, "tty", Tty=True)[1].strip() == "/dev/pts/0"
    assert docker.exec(id, "/no/such/program")[0] in (126, 127)
    assert docker.ask("GET", f"/containers/{id}/stats?stream=0")["memory_stats"]["limit"] == 64 << 20
    assert docker.ask("GET", f"/containers/{id}/top")["Processes"][0][-1] == "sleep 1000"
    docker.ask("POST", f"/containers/{id}/pause")
    assert docker.inspect(id)["State"]["Status"] == "paused"
    docker.ask("POST", f"/containers/{id}/unpause")
    docker.ask("POST", f"/containers/{id}/update", {"Memory": 96 << 20, "MemorySwap": 96 << 20})
    assert docker.ask("GET", f"/containers/{id}/stats?stream=0")["memory_stats"]["limit"] == 96 << 20
    docker.ask("POST", f"/containers/{id}/kill?signal=KILL")
    assert docker.ask("POST", f"/containers/{id}/wait")["StatusCode"] == 137
    docker.rm(id)


def test_stop_start_and_restart(docker: Client) -> None:
    id = docker.run_("sh", "-c", "trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done", detach=True)
    poll(lambda: docker.logs(id), "the trap is set")
    docker.ask("POST", f"/containers/{id}/stop?t=20")
    assert docker.inspect(id)["State"]["ExitCode"] == 3
    docker.ask("POST", f"/containers/{id}/start")
    docker.ask("POST", f"/containers/{id}/restart?t=0")
    assert docker.inspect(id)["State"]["Running"]
    docker.rm(id)


def test_restart_policies(docker: Client) -> None:
    id = docker.run_("sh", "-c", "echo started; exit 4", detach=True, RestartPolicy={"Name": "on-failure", "MaximumRetryCount": 2})
    poll(lambda: (found := docker.inspect(id)) and found["State"]["Status"] == "exited" and found["RestartCount"] == 2, "it gives up")
    assert docker.logs(id) == "started\nstarted\nstarted"
    docker.rm(id)
    id = docker.run_("sleep", "1000", detach=True, RestartPolicy={"Name": "always"})
    before = docker.inspect(id)["State"]["Pid"]
    pretend.sh(f"kill -9 {before}")
    poll(lambda: (state := docker.inspect(id)["State"])["Running"] and state["Pid"] not in (0, before), "it runs again")
    docker.rm(id)


def test_a_published_port_and_the_network(docker: Client) -> None:
    id = docker.run_("httpd", "-f", "-h", "/etc", name="web", detach=True, ExposedPorts={"80/tcp": {}},
                     PortBindings={"80/tcp": [{"HostPort": "8090"}]})  # fmt: skip
    assert "localhost" in poll(lambda: pretend.sh("curl -sm 5 http://127.0.0.1:8090/hosts", check=False), "the port answers")
    address = docker.inspect(id)["NetworkSettings"]["IPAddress"]
    assert "localhost" in docker.run_("wget", "-qO-", f"http://{address}/hosts")
    docker.rm(id)


def test_a_health_check(docker: Client) -> None:
    health = {"Test": ["CMD-SHELL", "true"], "Interval": 10**8, "Timeout": 10**10}
    body = {"Image": "image", "Cmd": ["sleep", "1000"], "Healthcheck": health}
    id = docker.ask("POST", "/containers/create", body)["Id"]
    docker.ask("POST", f"/containers/{id}/start")
    poll(lambda: docker.inspect(id)["State"]["Health"]["Status"] == "healthy", "it is healthy", 40)
    docker.rm(id)


# Swarm


@contextmanager
def two_hosts() -> Iterator[list[str]]:
    """Two network namespaces on one wire. They are entered by nsenter: `ip netns exec` mounts a new /sys, without the cgroups."""
    pretend.sh("""ip netns add host1 && ip netns add host2 && ip link add wire netns host1 type veth peer name wire netns host2
                  for n in 1 2; do ip -n host$n addr add 192.0.2.$n/24 dev wire
                  ip -n host$n link set wire up && ip -n host$n link set lo up
                  ip -n host$n route add default via 192.0.2.$((3 - n)); done""")
    try:
        yield ["host1", "host2"]
    finally:
        pretend.sh("ip netns del host1; ip netns del host2")


@pytest.fixture
def swarm(tmp_path: Path, busybox: Path) -> Iterator[list[Client]]:
    """A manager and a worker, each a daemon with its own /run, data and cgroup."""
    if "Unknown device type" in pretend.sh("ip link add vxlan-try type vxlan id 1 dstport 4789 2>&1 && ip link del vxlan-try", check=False):
        pytest.skip("this kernel has no VXLAN, which an overlay network is made of")
    runtime = clients.runtime(tmp_path)
    with ExitStack() as stack:
        stack.enter_context(emptied("/etc/docker"))
        stack.enter_context(clients.guests(SWARM_RUN, SWARM))
        made = []
        for number, host in enumerate(stack.enter_context(two_hosts()), 1):
            own = f"{SWARM_RUN}/own{number}"
            enter = ("nsenter", f"--net=/run/netns/{host}", "unshare", "--mount", "--propagation", "private", "sh", "-c",
                     f'mkdir -p {own} && mount --bind {own} /run/docker && exec "$@"', "sh")  # fmt: skip
            Path("/run/docker").mkdir(exist_ok=True)
            ours = ("--add-runtime", f"mine={runtime}", "--default-runtime", "mine")
            made.append(stack.enter_context(daemon(tmp_path / host, busybox, *ours, run=SWARM_RUN / host, cgroup=SWARM, before=enter)))
        manager, worker = made
        manager.ask("POST", "/swarm/init", {"ListenAddr": "192.0.2.1:2377", "AdvertiseAddr": "192.0.2.1",
                                            "DefaultAddrPool": ["10.78.0.0/16"], "SubnetSize": 24})  # fmt: skip
        token = manager.ask("GET", "/swarm")["JoinTokens"]["Worker"]
        worker.ask("POST", "/swarm/join", {"ListenAddr": "192.0.2.2:2377", "AdvertiseAddr": "192.0.2.2", "RemoteAddrs": ["192.0.2.1:2377"],
                                           "JoinToken": token})  # fmt: skip
        yield made
        worker.ask("POST", "/swarm/leave?force=1")
        manager.ask("POST", "/swarm/leave?force=1")


def running(manager: Client) -> list[dict[str, Any]]:
    """The tasks of the service that run."""
    tasks = manager.ask("GET", "/tasks?filters=" + json.dumps({"service": ["web"]}).replace('"', "%22").replace(" ", ""))
    return [task for task in tasks if task["Status"]["State"] == "running"]


@pytest.mark.slow
def test_three_replicas_on_two_hosts(swarm: list[Client]) -> None:
    manager, worker = swarm
    network = manager.ask("POST", "/networks/create", {"Name": "lan", "Driver": "overlay", "Attachable": True, "CheckDuplicate": True,
                                                       "IPAM": {"Config": [{"Subnet": OVERLAY}]}})["Id"]  # fmt: skip
    service = {"Name": "web", "Mode": {"Replicated": {"Replicas": 3}}, "EndpointSpec": {"Mode": "dnsrr"},
               "TaskTemplate": {"ContainerSpec": {"Image": "image", "Command": ["httpd", "-f", "-h", "/etc"]},
                                "Networks": [{"Target": network}], "RestartPolicy": {"Condition": "any", "Delay": 0}}}  # fmt: skip
    id = manager.ask("POST", "/services/create", service)["ID"]
    # The first task waits some 20 seconds for a registry that is not there, before it takes the image that is.
    tasks = poll(lambda: len(found := running(manager)) == 3 and found, "three replicas run", 120)
    assert len({task["NodeID"] for task in tasks}) == 2
    addresses = sorted(re.sub("/.*", "", task["NetworksAttachments"][0]["Addresses"][0]) for task in tasks)
    assert len(set(addresses)) == 3
    for host in swarm:  # every replica is reached from each host, over the overlay where it is on the other
        assert all(container["Image"].startswith("image") for container in host.ask("GET", "/containers/json"))
        [mine, *_] = host.ask("GET", "/containers/json")
        assert host.inspect(mine["Id"])["HostConfig"]["Runtime"] == "mine"
        for address in addresses:
            code, said = host.exec(mine["Id"], "wget", "-qO-", f"http://{address}/hosts")
            assert code == 0 and "localhost" in said, (host.run_directory, address, said)
        code, said = host.exec(mine["Id"], "nslookup", "web")
        assert all(address in said for address in addresses), said
    [victim, *_] = worker.ask("GET", "/containers/json")
    worker.ask("POST", f"/containers/{victim['Id']}/kill")
    poll(lambda: len(found := running(manager)) == 3 and victim["Id"] not in
         [task["Status"]["ContainerStatus"]["ContainerID"] for task in found], "the one that was killed is replaced", 120)  # fmt: skip
    manager.ask("DELETE", f"/services/{id}")
    poll(lambda: not any(host.ask("GET", "/containers/json?all=1") for host in swarm), "the containers are gone", 60)
    manager.ask("DELETE", f"/networks/{network}")
