"""podman with our runtime: what a user does with containers, and pods, on netavark and CNI, with no registry and no daemon."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import pretend
from tests.conformance.runtimes import no_unified
from tests.e2e import clients
from tests.e2e.dockerd import emptied, programs
from tests.e2e.support import TIMEOUT, Terminal, poll

CONFIGURATION = """
[containers]
default_ulimits = []
log_driver = "k8s-file"
[network]
network_backend = "{backend}"
network_config_dir = "{networks}"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


def cgroup(backend: str) -> str:
    return f"minidocker-test-podman-{backend}"


def place(backend: str) -> Path:
    return Path(f"/run/podman-{backend}")


class Podman:
    """`podman("ps")` runs any command, which must succeed, and returns its output; `run` adds what a container needs here."""

    def __init__(self, work: Path, runtime: str, backend: str) -> None:
        self.cgroup = f"/{cgroup(backend)}"
        run = place(backend)
        configuration, networks = work / "containers.conf", run / "networks"
        networks.mkdir()
        configuration.write_text(CONFIGURATION.format(backend=backend, networks=networks))
        self.environment = {**os.environ, "PATH": programs(work / "bin"), "CONTAINERS_CONF": str(configuration), "TMPDIR": str(work)}
        self.argv = ["podman", "--root", str(work / "root"), "--runroot", str(run / "run"), "--tmpdir", str(run / "tmp"),
                     "--storage-driver", "vfs", "--runtime", runtime]  # fmt: skip

    def try_(self, *words: object, **options: Any) -> subprocess.CompletedProcess[str]:
        settings: dict[str, Any] = {"stdin": subprocess.DEVNULL, "timeout": TIMEOUT, **options}
        return subprocess.run([*self.argv, *map(str, words)], capture_output=True, text=True, env=self.environment, **settings)

    def __call__(self, *words: object, **options: Any) -> str:
        done = self.try_(*words, **options)
        assert done.returncode == 0, f"{words}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout.rstrip("\n")

    def words(self, *words: object) -> list[str]:
        """Of a run: limits of the host, as raising them takes CAP_SYS_RESOURCE, and a cgroup of the test's own."""
        return ["run", "--ulimit", "host", "--cgroup-parent", self.cgroup, *map(str, words)]

    def run(self, *words: object, **options: Any) -> str:
        return self(*self.words(*words), **options)

    def inspect(self, name: str) -> dict[str, Any]:
        [document] = json.loads(self("inspect", name))
        return document  # type: ignore[no-any-return]


def engine(tmp_path_factory: pytest.TempPathFactory, busybox: Path, backend: str) -> Iterator[Podman]:
    work = tmp_path_factory.mktemp(backend)
    with emptied("/var/lib/cni"), clients.guests(place(backend), cgroup(backend)), no_unified():
        podman = Podman(work, clients.runtime(work), backend)
        image = work / "image.tar"
        pretend.sh(f"tar -C {busybox} -cf {image} .")
        podman("import", image, "busybox")
        try:
            yield podman
        finally:
            podman("pod", "rm", "--all", "--force", "--time", "0")
            podman("rm", "--all", "--force", "--time", "0")
            assert podman("ps", "--all", "--quiet") == ""


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory, busybox: Path) -> Iterator[Podman]:
    yield from engine(tmp_path_factory, busybox, "netavark")


@pytest.fixture
def cni(tmp_path_factory: pytest.TempPathFactory, busybox: Path) -> Iterator[Podman]:
    yield from engine(tmp_path_factory, busybox, "cni")


def test_run_and_its_exit_code(podman: Podman) -> None:
    assert podman.run("--rm", "busybox", "echo", "hello") == "hello"
    assert podman.try_(*podman.words("--rm", "busybox", "sh", "-c", "exit 7")).returncode == 7
    assert podman.run("--rm", "-i", "busybox", "cat", stdin=None, input="words") == "words"


@pytest.mark.parametrize(("program", "code"), [("/no/such/program", 127), ("/etc", 126), ("/etc/passwd", 126)])
def test_the_exit_code_of_what_cannot_be_run(podman: Podman, program: str, code: int) -> None:
    done = podman.try_(*podman.words("--rm", "busybox", program))
    assert done.returncode == code and program in done.stderr, done


def test_a_user_a_directory_an_environment_a_volume(podman: Podman, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    tmp_path.chmod(0o755)
    said = podman.run("--rm", "-u", "1000:1001", "-w", "/usr", "-e", "A=b c", "-v", f"{tmp_path}:/data:ro", "--hostname", "box", "busybox",
                      "sh", "-c", "id -u; id -g; pwd; echo $A; hostname; cat /data/file; touch /data/x 2>&1 || true")  # fmt: skip
    assert said.splitlines()[:5] == ["1000", "1001", "/usr", "b c", "box"] and said.count("content") == 1 and "Read-only" in said


def test_read_only_capabilities_and_seccomp(podman: Podman) -> None:
    script = "touch /x 2>&1; grep -E 'CapEff|Seccomp:' /proc/self/status"
    said = podman.run("--rm", "--read-only", "--cap-drop", "all", "--cap-add", "kill", "busybox", "sh", "-c", script)
    assert "Read-only" in said and "0000000000000020" in said and "Seccomp:\t2" in said
    assert "0000000000000020" not in podman.run("--rm", "--privileged", "busybox", "sh", "-c", script)


def test_a_root_file_system_in_place(podman: Podman, busybox: Path, tmp_path: Path) -> None:
    pretend.sh(f"cp -a {busybox} {tmp_path}/root")
    assert podman.run("--rm", "--rootfs", tmp_path / "root", "cat", "/etc/passwd").startswith("root:")


def test_a_terminal(podman: Podman) -> None:
    with Terminal([*podman.argv, *podman.words("--rm", "-it", "busybox", "sh")], rows=33, columns=111, env=podman.environment) as terminal:
        terminal.until(b"# ")
        terminal.type(b"stty size; tty; exit 5\n")
        terminal.until(b"33 111")
        assert terminal.wait(TIMEOUT) == 5


@pytest.fixture(scope="module")
def web(podman: Podman) -> Iterator[str]:
    """A detached container that serves, and says what it serves; with limits."""
    podman.run("-d", "--name", "web", "-p", "8080:80", "--memory", "64m", "--pids-limit", "50", "--cpus", "0.5", "busybox", "sh", "-c",
               "echo ready; echo wrong >&2; exec httpd -f -v -h /etc")  # fmt: skip
    yield "web"
    podman("rm", "--force", "--time", "0", "web")


def test_detached(podman: Podman, web: str) -> None:
    assert podman("ps", "--format", "{{.Names}} {{.Status}}").startswith("web Up")
    document = podman.inspect(web)
    assert document["State"]["Pid"] > 1 and document["OCIRuntime"] and document["State"]["ConmonPid"] > 1


def test_a_published_port(podman: Podman, web: str) -> None:
    assert "localhost" in poll(lambda: pretend.sh("curl -sm 5 http://127.0.0.1:8080/hosts", check=False), "the port answers")
    with pretend.outside():
        assert "localhost" in pretend.sh("ip netns exec outside curl -sm 5 http://192.0.2.1:8080/hosts")


def test_limits_are_those_of_the_cgroup(podman: Podman, web: str) -> None:
    cgroup = podman.inspect(web)["State"]["CgroupPath"]
    v1 = Path("/sys/fs/cgroup/memory").is_dir()
    top = "/sys/fs/cgroup/memory" if v1 else "/sys/fs/cgroup"
    assert Path(f"{top}{cgroup}", "memory.limit_in_bytes" if v1 else "memory.max").read_text().strip() == str(64 << 20)


def test_exec(podman: Podman, web: str) -> None:
    assert podman("exec", "-e", "A=b", "-w", "/usr", "-u", "1000", web, "sh", "-c", "echo $A $(pwd) $(id -u)") == "b /usr 1000"
    assert podman.try_("exec", web, "sh", "-c", "exit 9").returncode == 9
    assert podman.try_("exec", web, "/no/such/program").returncode == 127
    assert podman("exec", "-i", web, "cat", stdin=None, input="through") == "through"
    podman("exec", "-d", web, "sh", "-c", "touch /made; sleep 1000")
    poll(lambda: podman.try_("exec", web, "test", "-e", "/made").returncode == 0, "the detached exec has run")
    assert podman("exec", "-t", web, "tty").strip() == "/dev/pts/0"


def test_stats_top_and_logs(podman: Podman, web: str) -> None:
    [stats] = json.loads(podman("stats", "--no-stream", "--format", "json", web))
    assert stats["name"] == web and "/ 67.11MB" in stats["mem_usage"] and int(stats["pids"]) >= 1
    assert "httpd -f" in podman("top", web) and "httpd" in podman("top", web, "pid", "comm", "huser")
    done = podman.try_("logs", web)
    assert done.stdout.startswith("ready\n") and done.stderr.startswith("wrong\n")


def test_pause_and_unpause(podman: Podman, web: str) -> None:
    podman("pause", web)
    assert podman.inspect(web)["State"]["Status"] == "paused"
    assert podman.try_("exec", web, "true").returncode != 0
    podman("unpause", web)
    assert podman.inspect(web)["State"]["Status"] == "running"
    assert "localhost" in pretend.sh("curl -sm 5 http://127.0.0.1:8080/hosts")


def test_update(podman: Podman, web: str) -> None:
    podman("update", "--memory", "96m", "--cpus", "0.25", web)
    cgroup = podman.inspect(web)["State"]["CgroupPath"]
    v1 = Path("/sys/fs/cgroup/memory").is_dir()
    top = "/sys/fs/cgroup/memory" if v1 else "/sys/fs/cgroup"
    assert Path(f"{top}{cgroup}", "memory.limit_in_bytes" if v1 else "memory.max").read_text().strip() == str(96 << 20)


def test_a_health_check(podman: Podman) -> None:
    podman.run("-d", "--name", "health", "--health-cmd", "test -e /tmp/well", "--health-interval", "disable", "busybox", "sleep", "1000")
    assert podman.try_("healthcheck", "run", "health").returncode == 1
    podman("exec", "health", "touch", "/tmp/well")
    podman("healthcheck", "run", "health")
    assert podman.inspect("health")["State"]["Health"]["Status"] in ("healthy", "starting")
    podman("rm", "--force", "--time", "0", "health")


def test_kill_stop_start_and_rm(podman: Podman) -> None:
    podman.run("-d", "--name", "life", "busybox", "sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.05; done")
    assert podman.try_("rm", "life").returncode != 0
    podman("stop", "life")
    assert podman("wait", "life") == "3"
    podman("start", "life")
    podman("kill", "--signal", "KILL", "life")
    assert podman("wait", "life") == "137"
    podman("restart", "--time", "0", "life")
    assert podman.inspect("life")["State"]["Status"] == "running"
    podman("rm", "--force", "--time", "0", "life")
    assert podman.try_("inspect", "life").returncode != 0


def test_a_restart_policy(podman: Podman) -> None:
    podman.run("-d", "--name", "again", "--restart", "on-failure:2", "busybox", "sh", "-c", "echo started; exit 4")
    poll(lambda: (found := podman.inspect("again"))["State"]["Status"] == "exited" and found["RestartCount"] == 2, "it gives up")
    assert podman("logs", "again") == "started\nstarted\nstarted"
    podman("rm", "again")


def test_memory_that_runs_out(podman: Podman) -> None:
    done = podman.try_(*podman.words("--name", "greedy", "--memory", "16m", "--memory-swap", "16m", "busybox", "sh", "-c",
                                     "head -c 64m /dev/zero | tail -c 64m > /dev/null; exit $?"))  # fmt: skip
    assert done.returncode == 137, done
    podman("rm", "greedy")


def test_a_pod_shares_its_network(podman: Podman) -> None:
    podman("pod", "create", "--name", "pod", "--cgroup-parent", podman.cgroup, "-p", "8081:80", "--infra-image", "busybox",
           "--infra-command", "sleep 1000")  # fmt: skip
    podman("run", "-d", "--pod", "pod", "--ulimit", "host", "--name", "in-pod", "busybox", "httpd", "-f", "-h", "/etc")
    assert "localhost" in podman("run", "--rm", "--pod", "pod", "--ulimit", "host", "busybox", "wget", "-qO-", "http://127.0.0.1/hosts")
    assert "localhost" in poll(lambda: pretend.sh("curl -sm 5 http://127.0.0.1:8081/hosts", check=False), "the port answers")
    podman("pod", "pause", "pod")
    podman("pod", "unpause", "pod")
    podman("pod", "kill", "pod")
    podman("pod", "rm", "--force", "--time", "0", "pod")


def test_containers_find_each_other_by_name(podman: Podman) -> None:
    podman("network", "create", "--subnet", "10.89.7.0/24", "lan")
    podman.run("-d", "--name", "server", "--network", "lan", "busybox", "sleep", "1000")
    address = podman.inspect("server")["NetworkSettings"]["Networks"]["lan"]["IPAddress"]
    assert address in podman.run("--rm", "--network", "lan", "busybox", "nslookup", "server")
    podman("rm", "--force", "--time", "0", "server")
    podman("network", "rm", "lan")


def test_the_network_of_another_container_or_of_the_host(podman: Podman, web: str) -> None:
    assert "localhost" in podman.run("--rm", "--network", f"container:{web}", "busybox", "wget", "-qO-", "http://127.0.0.1/hosts")
    inside = podman.run("--rm", "--network", "host", "busybox", "readlink", "/proc/self/ns/net")
    assert inside == os.readlink("/proc/self/ns/net")


def test_on_cni(cni: Podman) -> None:
    cni("network", "create", "--disable-dns", "--subnet", "10.89.8.0/24", "lan")
    cni.run("-d", "--name", "web", "--network", "lan", "-p", "8082:80", "busybox", "httpd", "-f", "-h", "/etc")
    assert "localhost" in poll(lambda: pretend.sh("curl -sm 5 http://127.0.0.1:8082/hosts", check=False), "the port answers")
    address = cni.inspect("web")["NetworkSettings"]["Networks"]["lan"]["IPAddress"]
    assert "localhost" in cni.run("--rm", "--network", "lan", "busybox", "wget", "-qO-", f"http://{address}/hosts")
