"""Control groups on the real kernel: limits that hold, counting, freezing, killing, and nothing left behind."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from minidocker.errors import ConflictError, KernelError, MinidockerError
from minidocker.kernel import cgroupfs, cgroups, namespaces
from minidocker.plan import CHILD, PARENT, At, Plan, undo
from minidocker.runtime import limits, resources
from tests.pretend import sh

OWN = f"minidocker-test-{os.getpid()}"
NAME = f"{OWN}/c1"
FORK_AND_SLEEP = "for _ in range({count}):\n if os.fork() == 0: time.sleep(600); os._exit(0)\n"


def v2_alone() -> cgroups.Face:
    """What the v2 hierarchy of this host gives by itself, as on a host that has no other."""
    unified = cgroups.detect().unified
    if unified is None:
        pytest.skip("no cgroup v2 is mounted")
    return cgroups.Face([unified])


@pytest.fixture(params=["detected", "v2 alone"])
def face(request: pytest.FixtureRequest) -> Iterator[cgroups.Face]:
    yield from _clean(cgroups.detect() if request.param == "detected" else v2_alone())


@pytest.fixture
def host() -> Iterator[cgroups.Face]:
    yield from _clean(cgroups.detect())


@pytest.fixture
def v2() -> Iterator[cgroups.Face]:
    yield from _clean(v2_alone())


def _clean(face: cgroups.Face) -> Iterator[cgroups.Face]:
    """Whatever a test does, afterwards nothing of ours is left in any hierarchy, and v2's root passes on what it did before."""
    control = Path(face.unified.mount, "cgroup.subtree_control") if face.unified else None
    before = set(control.read_text().split()) if control else set()
    try:
        yield face
        left = [hierarchy.path(OWN) for hierarchy in cgroups.detect().hierarchies if os.path.exists(hierarchy.path(OWN))]
        assert left == []
    finally:
        below = [path for hierarchy in face.hierarchies for path in cgroupfs.children(hierarchy.path(OWN))]
        for name in {os.path.basename(path) for path in below}:
            face.kill(f"{OWN}/{name}")
            face.remove(f"{OWN}/{name}", OWN)
        for controller in set(control.read_text().split()) - before if control else ():
            _disable(control, controller)


def _disable(control: Path | None, controller: str) -> None:
    try:
        assert control
        control.write_text(f"-{controller}")
    except OSError as error:
        if error.errno != errno.EBUSY:  # somebody else's cgroup uses it by now
            raise


def start(face: cgroups.Face, code: str, name: str = NAME, also: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """A Python process running `code` in cgroup `name`, joined by itself before it executes anything."""
    return subprocess.Popen(
        [sys.executable, "-S", "-c", "import os, sys, time\n" + code],
        preexec_fn=lambda: face.enter(name, also),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def eventually(condition: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def test_create_is_in_every_hierarchy_and_remove_takes_all_of_it(face: cgroups.Face) -> None:
    face.create(NAME)
    if face.version == "hybrid":
        assert len(face.paths(NAME)) > 1
    assert all(os.path.isdir(path) for path in face.paths(NAME))
    assert face.pids(NAME) == []
    for path in face.paths(NAME):  # a container with the right to may make its own below
        os.makedirs(f"{path}/nested/deeper")
    face.remove(NAME, OWN)
    assert not any(os.path.exists(path) for path in face.paths(OWN))
    face.remove(NAME, OWN)  # gone already


def test_the_parent_stays_while_a_sibling_lives(face: cgroups.Face) -> None:
    face.create(NAME)
    face.create(f"{OWN}/c2")
    face.remove(NAME, OWN)
    assert all(os.path.isdir(path) for path in face.paths(f"{OWN}/c2"))
    face.remove(f"{OWN}/c2")
    assert all(os.path.isdir(path) for path in face.paths(OWN))  # not said to be ours: not removed
    face.remove(f"{OWN}/c2", OWN)


def test_making_and_removing_at_the_same_time(face: cgroups.Face) -> None:
    """The last one out removes the parent while the next one comes in."""
    children = []
    for number in range(4):
        pid = os.fork()
        if pid == 0:
            try:
                for turn in range(60):
                    face.create(f"{OWN}/{number}-{turn}", own=OWN)
                    face.remove(f"{OWN}/{number}-{turn}", OWN)
                os._exit(0)
            except MinidockerError as error:
                os.write(2, f"{error}\n".encode())
            finally:
                os._exit(1)
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * 4


def test_a_cgroup_with_strangers_in_it_is_refused(face: cgroups.Face) -> None:
    face.create(NAME)
    with start(face, "time.sleep(600)"):
        with pytest.raises(ConflictError, match="exists and holds processes"):
            face.create(NAME)
        with pytest.raises(KernelError, match=r"remove cgroup .*: device or resource busy \(1 processes in it\)") as failure:
            face.remove(NAME, OWN, patience=0.05)
        assert failure.value.errno == errno.EBUSY
        face.kill(NAME)
    face.remove(NAME, OWN)


def test_a_process_is_moved_into_every_hierarchy(face: cgroups.Face) -> None:
    cgroup = resources.Cgroup(face, NAME, {}, OWN)
    made = cgroup.make().run(At())
    wanted = {"" if h.version == 2 else ",".join(sorted(h.controllers)) for h in face.used()}
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        for _ in range(2):  # moving twice is no error
            cgroup.join(PARENT).run(At(pid=process.pid), PARENT)
        lines = Path(f"/proc/{process.pid}/cgroup").read_text().splitlines()
        assert {line.split(":")[1] for line in lines if line.endswith(f":/{NAME}")} == wanted
        assert face.pids(NAME) == [process.pid]
    assert undo(made, At()) == []


def test_a_process_moves_itself(face: cgroups.Face) -> None:
    cgroup = resources.Cgroup(face, NAME, {}, OWN)
    made = cgroup.make().run(At())
    pid = os.fork()
    if pid == 0:
        try:
            cgroup.join(CHILD).run(At(), CHILD)
            everywhere = all(Path(path, "cgroup.procs").read_text() == f"{os.getpid()}\n" for path in face.paths(NAME))
            os._exit(0 if everywhere else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert undo(made, At()) == []


def test_a_process_is_born_in_its_v2_cgroup(v2: cgroups.Face) -> None:
    cgroup = resources.Cgroup(v2, NAME, {}, OWN)
    made = cgroup.make().run(At())
    descriptor = cgroup.descriptor()
    pid, pidfd = namespaces.clone(0, descriptor)
    if pid == 0:
        try:
            cgroup.join(CHILD, born=True).run(At(), CHILD)
            os._exit(0 if f"0::/{NAME}\n" in Path("/proc/self/cgroup").read_text() else 1)
        finally:
            os._exit(2)
    os.close(descriptor)
    os.close(pidfd)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert undo(made, At()) == []


def test_no_descriptor_is_needed_where_the_container_is_in_no_v2_cgroup(host: cgroups.Face) -> None:
    if host.version == "hybrid" and host.unified not in host.used():
        assert resources.Cgroup(host, NAME, {}).descriptor() == -1


# Limits.


def make(face: cgroups.Face, asked: dict[str, object], name: str = NAME) -> resources.Cgroup:
    cgroup = resources.Cgroup(face, name, asked, OWN)
    cgroup.make().run(At())
    return cgroup


def test_a_memory_hog_is_killed_at_its_limit_and_counted(host: cgroups.Face) -> None:
    asked = {"limit": 48 << 20, "swap": 48 << 20} if host.limits_swap() else {"limit": 48 << 20}
    make(host, {"memory": asked})
    make(host, {"memory": asked}, f"{OWN}/c2")
    with start(host, "print(flush=True); sys.stdin.read()", f"{OWN}/c2") as neighbour:
        assert neighbour.stdout
        neighbour.stdout.readline()
        with start(host, "hog = bytearray(b'x') * (400 << 20)") as hog:
            assert hog.wait(60) == -9
        assert host.oom_kills(NAME) == 1
        assert host.oom_kills(f"{OWN}/c2") == 0
        assert neighbour.poll() is None
        assert 0 < (host.usage(f"{OWN}/c2").memory_bytes or 0) <= 48 << 20
        host.kill(f"{OWN}/c2")
    host.remove(NAME, OWN)
    host.remove(f"{OWN}/c2", OWN)


def test_memory_can_be_raised_and_lowered_with_its_swap(host: cgroups.Face) -> None:
    if host.of["memory"].version != 1 or not host.limits_swap():
        pytest.skip("one limit is that of memory and swap together on v1 only")
    host.create(NAME)
    directory = host.path(NAME, "memory")
    for limit, both in ((64 << 20, 64 << 20), (128 << 20, 256 << 20), (32 << 20, 48 << 20)):
        limits.SetMemory(directory, limit, both).apply(At())
        assert sh(f"cat {directory}/memory.limit_in_bytes {directory}/memory.memsw.limit_in_bytes").split() == [str(limit), str(both)]
    host.remove(NAME, OWN)


def test_forks_stop_at_the_pids_limit(host: cgroups.Face) -> None:
    make(host, {"pids": {"limit": 6}})
    code = """
forked = 0
try:
    while forked < 50:
        if os.fork() == 0: time.sleep(600)
        forked += 1
except BlockingIOError:
    print(forked, flush=True)
sys.stdin.read()
"""
    with start(host, code) as process:
        assert process.stdout
        assert process.stdout.readline() == "5\n"
        assert host.usage(NAME).pids == 6
        host.kill(NAME)
    host.remove(NAME, OWN)


def test_a_quota_of_processor_time_holds(host: cgroups.Face) -> None:
    make(host, {"cpu": {"quota": 20000, "period": 100000}})
    with start(host, "while True: pass"):
        time.sleep(0.2)  # what it had before it was throttled for the first time
        begin, used = time.monotonic(), host.usage(NAME).cpu_ns or 0
        time.sleep(1)
        share = ((host.usage(NAME).cpu_ns or 0) - used) / (time.monotonic() - begin) / 1e9
        host.kill(NAME)
    assert share < 0.35  # 0.2, and the edges of two periods; unlimited it is 1, or what a busy machine leaves
    host.remove(NAME, OWN)


def test_a_process_sees_the_processors_of_its_cpuset(host: cgroups.Face) -> None:
    last = max(os.sched_getaffinity(0))
    cgroup = make(host, {"cpu": {"cpus": str(last)}})
    with start(host, "print(os.sched_getaffinity(0))", also=cgroup.controllers) as process:
        output, errors = process.communicate()
    assert (output, errors) == (f"{{{last}}}\n", "")
    host.remove(NAME, OWN)


def test_a_cpuset_is_made_only_when_asked_for(host: cgroups.Face) -> None:
    if host.of["cpuset"].version == 1:
        make(host, {"pids": {"limit": 5}})
        assert not os.path.exists(host.path(NAME, "cpuset"))
        host.remove(NAME, OWN)


def test_v2_controllers_are_enabled_on_the_way_down(host: cgroups.Face) -> None:
    size = "2MB"
    if host.of.get("hugetlb") is not host.unified or not os.path.isdir("/sys/kernel/mm/hugepages/hugepages-2048kB"):
        pytest.skip("hugetlb is not on cgroup v2")
    cgroup = make(host, {"hugepageLimits": [{"pageSize": size, "limit": 4 << 20}]})
    assert sh(f"cat {host.path(NAME, 'hugetlb')}/hugetlb.2MB.max") == f"{4 << 20}\n"
    assert "hugetlb" in sh(f"cat {host.path(OWN, 'hugetlb')}/cgroup.subtree_control").split()
    with start(host, "print(open('/proc/self/cgroup').read())", also=cgroup.controllers) as process:
        assert f"0::/{NAME}\n" in process.communicate()[0]
    host.remove(NAME, OWN)


def test_a_value_the_kernel_does_not_take_leaves_nothing(host: cgroups.Face) -> None:
    cgroup = resources.Cgroup(host, NAME, {"pids": {"limit": 9}, "cpu": {"cpus": "4095"}}, OWN)
    with pytest.raises(KernelError, match=r"^set cpuset.cpus to 4095: "):
        cgroup.make().run(At())
    assert not any(os.path.exists(path) for path in host.paths(NAME, cgroup.controllers))


def test_a_huge_page_size_the_kernel_does_not_have_is_refused(host: cgroups.Face) -> None:
    if "hugetlb" not in host.of:
        pytest.skip("no hugetlb")
    with pytest.raises(MinidockerError, match=r"set hugetlb.3MB\..* this kernel has no hugetlb.3MB"):
        resources.Cgroup(host, NAME, {"hugepageLimits": [{"pageSize": "3MB", "limit": 1}]}, OWN).make().run(At())


def test_the_printed_commands_do_the_same(host: cgroups.Face) -> None:
    asked = {
        "memory": {"limit": 64 << 20, "reservation": 32 << 20}, "pids": {"limit": 9},
        "cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0"},
    }  # fmt: skip
    compared = ("memory.limit", "memory.soft", "memory.max", "memory.low", "cpu.shares", "cpu.cfs", "cpu.max", "cpu.weight", "pids.max",
                "cpuset.cpus", "cpuset.mems", "devices.list", "cgroup.procs", "tasks")  # fmt: skip
    seen = []
    for by_shell in (False, True):
        cgroup = resources.Cgroup(host, NAME, asked, OWN)
        plan = Plan(cgroup.make().steps + cgroup.join().steps)
        with subprocess.Popen(["sleep", "600"]) as process:
            if by_shell:
                sh(f"set -eu\nPID={process.pid}\n" + "\n".join(step.shell() for step in plan.steps))
            else:
                plan.run(At(pid=process.pid))
            assert host.pids(NAME) == [process.pid]
            paths = host.paths(NAME, cgroup.controllers)
            files = [f"{path}/{file}" for path in paths for file in os.listdir(path) if file.startswith(compared)]
            seen.append(sh("head -n 99 " + " ".join(files)).replace(str(process.pid), "PID"))
            host.kill(NAME)
        host.remove(NAME, OWN)
    assert "67108864" in seen[0] and seen[0] == seen[1]


# Freezing, killing, counting.


def test_freeze_stops_and_thaw_goes_on(face: cgroups.Face) -> None:
    face.create(NAME)
    with start(face, "print(flush=True)\nwhile True: pass") as process:
        assert process.stdout
        process.stdout.readline()
        face.freeze(NAME)
        assert face.is_frozen(NAME)
        used = face.usage(NAME).cpu_ns or 0
        time.sleep(0.1)
        assert face.usage(NAME).cpu_ns == used > 0
        face.thaw(NAME)
        assert not face.is_frozen(NAME)
        assert eventually(lambda: (face.usage(NAME).cpu_ns or 0) > used)
        face.kill(NAME)
    face.remove(NAME, OWN)


@pytest.mark.parametrize("frozen", [False, True])
def test_kill_ends_two_hundred_processes(face: cgroups.Face, frozen: bool) -> None:
    face.create(NAME)
    with start(face, FORK_AND_SLEEP.format(count=200) + "sys.stdin.read()") as process:
        assert eventually(lambda: len(face.pids(NAME)) == 201)
        if frozen:
            face.freeze(NAME)
        face.kill(NAME)
        assert face.pids(NAME) == []
        assert process.wait(10) == -9
    face.remove(NAME, OWN)


def test_kill_ends_those_who_fork_all_the_time(host: cgroups.Face) -> None:
    make(host, {"pids": {"limit": 60}})
    # Children live for some milliseconds and fork as well; the first reaps them by not waiting for them.
    bomb = """
import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
first = os.getpid()
while True:
    try:
        if os.fork() == 0:
            born = time.monotonic()
    except BlockingIOError:
        time.sleep(0.001)
    if os.getpid() != first and time.monotonic() > born + 0.02:
        os._exit(0)
"""
    with start(host, bomb) as process:
        assert eventually(lambda: len(host.pids(NAME)) > 20)
        host.kill(NAME)
        assert host.pids(NAME) == []
        assert process.wait(10) == -9
    host.remove(NAME, OWN)


def test_kill_and_pids_of_a_cgroup_that_is_gone(face: cgroups.Face) -> None:
    face.kill(NAME)
    assert face.pids(NAME) == []


def test_kill_reaches_nested_cgroups(face: cgroups.Face) -> None:
    face.create(NAME)
    face.create(f"{NAME}/inner")
    with start(face, "time.sleep(600)", f"{NAME}/inner") as process:
        assert face.pids(NAME) == [process.pid]
        face.kill(NAME)
        assert process.wait(10) == -9
    face.remove(NAME, OWN)


def test_remove_waits_for_those_who_are_leaving(face: cgroups.Face) -> None:
    face.create(NAME)
    with start(face, "print(flush=True); time.sleep(0.2)") as process:
        assert process.stdout
        process.stdout.readline()
        face.remove(NAME, OWN, patience=20)
    assert not any(os.path.exists(path) for path in face.paths(NAME))


def test_detect_counts_what_the_kernel_says(host: cgroups.Face) -> None:
    enabled = {line.split()[0] for line in Path("/proc/cgroups").read_text().splitlines()[1:] if line.split()[1] != "0"}
    on_v1 = {controller for h in host.hierarchies if h.version == 1 for controller in h.controllers}
    assert on_v1 == enabled
