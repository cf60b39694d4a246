"""spec/oci_*.py: a configuration that is valid is made whole; one that is not is refused, naming the place, what was found, what may be."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidocker.errors import UsageError
from minidocker.spec import oci_config
from minidocker.spec.oci_linux import sysctl_path

BUNDLE = "/bundles/one"
NAMESPACES = [{"type": name} for name in ("pid", "network", "mount", "ipc", "uts", "cgroup")]
VALID: dict[str, Any] = {
    "ociVersion": "1.2.0",
    "process": {"args": ["/bin/sh"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}},
    "root": {"path": "rootfs"},
    "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
    "linux": {"namespaces": NAMESPACES},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """VALID with one value put in: `process.rlimits`, `linux.namespaces.0.type`."""
    document = copy.deepcopy(VALID)
    *parents, last = path.split(".")
    at: Any = document
    for key in parents:
        at = at[int(key)] if isinstance(at, list) else at.setdefault(key, {})
    if isinstance(at, list):
        at[int(last)] = value
    else:
        at[last] = value
    return document


def read(document: Any) -> dict[str, Any]:
    return oci_config.configuration(json.dumps(document), BUNDLE)


def test_a_valid_one_is_made_whole() -> None:
    found = read(changed("mounts", [{"destination": "data", "source": "files", "options": ["rbind", "ro"]}]))
    assert found["root"] == {"path": "/bundles/one/rootfs", "readonly": False}
    assert found["mounts"] == [{"destination": "/data", "source": "/bundles/one/files", "options": ["rbind", "ro"]}]
    assert found["process"]["terminal"] is found["process"]["noNewPrivileges"] is False
    linux = found["linux"]
    assert (linux["devices"], linux["resources"], linux["sysctl"], linux["cgroupsPath"]) == ([], {}, {}, "")
    assert found["hooks"] == found["annotations"] == {}


@pytest.mark.parametrize("version", ["1.0.0", "1.0.2-dev", "1.1.0+1", "1.2.1", "1.3.0"])
def test_these_versions_are_understood(version: str) -> None:
    assert read(changed("ociVersion", version))["ociVersion"] == version


def test_null_is_absent_and_what_is_unknown_is_let_be() -> None:
    document = changed("linux.resources", {"memory": {"limit": None, "disableOOMKiller": False}, "cpu": {"shares": 0}, "pids": None})
    document.update(hooks=None, annotations=None, hostname=None, surprise={"a": [1]})
    document["process"].update(rlimits=None, apparmorProfile="", selinuxLabel=None, surprise=1)
    found = read(document)
    assert found["linux"]["resources"] == {}, "nobody has asked for a controller"
    assert "surprise" not in found and "apparmorProfile" not in found["process"]


WRONG = [
    ("ociVersion", None, "ociVersion: missing: it is required"),
    ("ociVersion", "one", 'ociVersion: "one" is not a version'),
    ("ociVersion", "2.0.0", 'ociVersion: "2.0.0" is not understood'),
    ("root", None, "root: missing: it is required"),
    ("root.path", 7, "root.path: 7 is not a string"),
    ("process.args", [], "process.args: empty: its first entry is the program"),
    ("process.args", ["a\0b"], 'process.args[0]: "a\\u0000b" has a character that no string of the kernel\'s can have'),
    ("process.cwd", "tmp", 'process.cwd: "tmp" is not an absolute path'),
    ("process.env", ["A=1", "B"], 'process.env[1]: "B" is not NAME=VALUE'),
    ("process.terminal", "yes", 'process.terminal: "yes" is neither true nor false'),
    ("process.user.uid", -1, "process.user.uid: -1 is not from 0 to 4294967294"),
    ("process.user.umask", 0o1000, "process.user.umask: 512 is not from 0 to 511"),
    ("process.user.additionalGids", [1, 2.5], "process.user.additionalGids[1]: 2.5 is not a whole number"),
    ("process.oomScoreAdj", 1001, "process.oomScoreAdj: 1001 is not from -1000 to 1000"),
    ("process.capabilities", {"bounding": ["chown"]}, "process.capabilities.bounding[0]: \"chown\" is not a capability's name"),
    ("process.capabilities", {"effective": ["CAP_KILL"]}, "process.capabilities.effective[0]: CAP_KILL is not in permitted"),
    ("process.ioPriority", {"class": "IOPRIO_CLASS_BEST"}, 'process.ioPriority.class: "IOPRIO_CLASS_BEST" is no class of input and output'),
    ("process.ioPriority", {"class": "IOPRIO_CLASS_BE", "priority": 8}, "process.ioPriority.priority: 8 is not from 0 to 7"),
    ("process.scheduler", {"policy": "SCHED_FIFO"}, "process.scheduler.priority: 0 is not from 1 to 99, as SCHED_FIFO wants"),
    ("process.scheduler", {"policy": "SCHED_BATCH", "runtime": 5},
     "process.scheduler.runtime: 5: it goes with SCHED_DEADLINE, not with SCHED_BATCH"),
    ("process.execCPUAffinity", {"final": "3-1"}, 'process.execCPUAffinity.final: "3-1": the range 3-1 ends before it begins'),
    ("hostname", "h" * 65, 'hostname: "' + "h" * 56 + "... is longer than 64 bytes"),
    ("mounts", [{"type": "tmpfs"}], "mounts[0].destination: missing: it is required"),
    ("mounts", [{"destination": "/a/..", "type": "tmpfs"}], 'mounts[0].destination: "/a/.." is the root itself'),
    ("mounts", [{"destination": "/a"}], "mounts[0].type: missing: what is neither bind nor rbind has a file system type"),
    ("mounts", [{"destination": "/a", "options": ["rbind"]}], "mounts[0].source: missing: it is required"),
    ("mounts", [{"destination": "/a", "type": "bind", "source": "/a", "options": ["ridmap"]}],
     "mounts[0].options: idmap without uidMappings means the container's own, which has none"),
    ("hooks", {"poststop": [{"path": "sh"}]}, 'hooks.poststop[0].path: "sh" is not an absolute path'),
    ("hooks", {"prestart": [{"path": "/a", "timeout": 0}]}, "hooks.prestart[0].timeout: 0 is not from 1 to 9223372036854775807"),
    ("annotations", {"a": 1}, "annotations.a: 1 is not a string"),
    ("windows", {"a": 1}, "windows: this is a container for another platform"),
    ("linux.namespaces", [*NAMESPACES, {"type": "pid"}],
     'linux.namespaces[6].type: "pid": a second namespace of the type, the first is linux.namespaces[0].type'),
    ("linux.namespaces", [{"type": "net"}], 'linux.namespaces[0].type: "net" is no type of namespace'),
    ("linux.namespaces.0.path", "proc/1/ns/pid", 'linux.namespaces[0].path: "proc/1/ns/pid" is not an absolute path'),
    ("linux.namespaces", [{"type": "pid"}], "linux.namespaces: without a mount namespace the container's mounts would be the host's"),
    ("linux.namespaces", [*NAMESPACES, {"type": "user"}], "linux.namespaces: a new user namespace needs linux.uidMappings"),
    ("linux.uidMappings", [{"containerID": 0, "hostID": 0, "size": 1}], "linux.uidMappings: there is no user namespace for it"),
    ("linux.uidMappings", [{"containerID": 0, "hostID": 0, "size": 0}], "linux.uidMappings[0].size: 0 is not from 1 to 4294967295"),
    ("linux.uidMappings", [{"containerID": 0, "hostID": 0, "size": 9}, {"containerID": 8, "hostID": 20, "size": 1}],
     "linux.uidMappings[1].containerID: 8 is in the range of linux.uidMappings[0] too"),
    ("linux.timeOffsets", {"monotonic": {"secs": 1}}, "linux.timeOffsets: there is no time namespace for it"),
    ("linux.timeOffsets", {"realtime": {}}, 'linux.timeOffsets.realtime: "realtime" is no clock of a time namespace'),
    ("linux.devices", [{"type": "c", "path": "/dev/x", "minor": 1}], "linux.devices[0].major: missing: it is required"),
    ("linux.devices", [{"type": "c", "path": "/dev/..", "major": 1, "minor": 1}], 'linux.devices[0].path: "/dev/.." names no file'),
    ("linux.cgroupsPath", "/a/../b", 'linux.cgroupsPath: "/a/../b" is not a path below the root of a cgroup hierarchy'),
    ("linux.rootfsPropagation", "sharde", 'linux.rootfsPropagation: "sharde" is no propagation'),
    ("linux.maskedPaths", ["proc"], 'linux.maskedPaths[0]: "proc" is not an absolute path'),
    ("linux.personality", {"domain": "LINUX32", "flags": ["x"]}, 'linux.personality.flags[0]: "x": the specification has no flags'),
    ("linux.intelRdt", {"closID": "a"}, "linux.intelRdt: minidocker does not do Intel's Resource Director Technology"),
    ("linux.netDevices", {"e/0": {}}, 'linux.netDevices["e/0"]: "e/0" is no network device\'s name'),
    ("linux.netDevices", {"a": {"name": "c"}, "b": {"name": "c"}},
     'linux.netDevices.b: "c": a second device of the name inside, the first is linux.netDevices.a'),
    ("linux.sysctl", {"vm.swappiness": "1"}, "linux.sysctl[\"vm.swappiness\"]: it is the whole host's, not a namespace's"),
    ("linux.sysctl", {"kernel.hostname": "a"}, 'linux.sysctl["kernel.hostname"]: kernel.hostname has a field of its own'),
    ("linux.sysctl", {"net.//.kernel.x": "a"}, 'linux.sysctl["net.//.kernel.x"]: "net.//.kernel.x" is no setting\'s name'),
    ("linux.sysctl", {"net/../vm/swappiness": "1"}, 'linux.sysctl["net/../vm/swappiness"]: "net/../vm/swappiness" is no setting\'s name'),
    ("linux.memoryPolicy", {"mode": "MPOL_BIND"}, "linux.memoryPolicy.nodes: missing: MPOL_BIND needs them"),
    ("linux.resources.devices", [{"access": "r"}], "linux.resources.devices[0].allow: missing: it is required"),
    ("linux.resources.memory", {"swap": 5},
     "linux.resources.memory.swap: 5: it is memory and swap together, and there is no limit of memory"),
    ("linux.resources.memory", {"swappiness": 101}, "linux.resources.memory.swappiness: 101 is not from 0 to 100"),
    ("linux.resources.cpu", {"quota": 5, "burst": 6}, "linux.resources.cpu.burst: 6 is above quota 5"),
    ("linux.resources.cpu", {"cpus": "a"}, 'linux.resources.cpu.cpus: "a" is not a list of numbers and ranges'),
    ("linux.resources.blockIO", {"weight": 5}, "linux.resources.blockIO.weight: 5 is not from 10 to 1000"),
    ("linux.resources.blockIO", {"weightDevice": [{"major": 8, "minor": 0}]},
     "linux.resources.blockIO.weightDevice[0]: neither weight nor leafWeight is there: one is required"),
    ("linux.resources.hugepageLimits", [{"pageSize": "2mb", "limit": 1}],
     'linux.resources.hugepageLimits[0].pageSize: "2mb" is no size of pages'),
    ("linux.resources.rdma", {"mlx": {}}, "linux.resources.rdma.mlx: neither hcaHandles nor hcaObjects is there: one is required"),
    ("linux.resources.unified", {"../x.y": "1"}, 'linux.resources.unified["../x.y"]: "../x.y" is not the name of a cgroup v2 file'),
    ("linux.seccomp", {}, "linux.seccomp.defaultAction: missing: it is required"),
    ("linux.seccomp", {"defaultAction": "SCMP_ACT_KILL", "defaultErrnoRet": 3},
     "linux.seccomp.defaultErrnoRet: 3: SCMP_ACT_KILL carries no number"),
    ("linux.seccomp", {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]},
     "linux.seccomp.listenerPath: missing: syscalls[0] has the action SCMP_ACT_NOTIFY"),
    ("linux.seccomp", {"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"},
     "linux.seccomp.listenerMetadata: there is no listenerPath to send it to"),
    ("linux.seccomp", {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_LOG", "args": [{"index": 6}]}]},
     "linux.seccomp.syscalls[0].args[0].index: 6 is not from 0 to 5"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "message"), WRONG, ids=[f"{i}-{path}" for i, (path, _, _) in enumerate(WRONG)])
def test_what_is_wrong_is_named(path: str, value: Any, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        read(changed(path, value))
    assert str(raised.value) == message


def test_a_limit_that_contradicts_itself_says_which_of_several() -> None:
    limits = [{"type": f"RLIMIT_{name}", "soft": 1, "hard": 5} for name in ("CPU", "CORE")]
    with pytest.raises(UsageError) as raised:
        read(changed("process.rlimits", [*limits, {"type": "RLIMIT_NOFILE", "soft": 10, "hard": 5}]))
    assert str(raised.value) == "process.rlimits[2].soft: 10 is above hard 5"
    with pytest.raises(UsageError, match=r'process.rlimits\[2\].type: "RLIMIT_CPU": a second limit of the kind'):
        read(changed("process.rlimits", [*limits, limits[0]]))


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [("net.core.somaxconn", "1", "network"), ("kernel.shmmax", "1", "ipc"), ("fs.mqueue.msg_max", "1", "ipc"),
     ("user.max_user_namespaces", "1", "user")],
)  # fmt: skip
def test_a_setting_needs_its_namespace(key: str, value: str, kind: str) -> None:
    mapping = [{"containerID": 0, "hostID": 1000, "size": 10}]
    document = changed("linux", {"namespaces": [*NAMESPACES, {"type": "user"}], "uidMappings": mapping, "gidMappings": mapping})
    document["linux"]["sysctl"] = {key: value}
    assert read(document)["linux"]["sysctl"] == {key: value}
    document["linux"]["namespaces"] = [entry for entry in document["linux"]["namespaces"] if entry["type"] != kind]
    if kind == "user":
        del document["linux"]["uidMappings"], document["linux"]["gidMappings"]
    with pytest.raises(UsageError, match=f"there is no {kind} namespace"):
        read(document)


def test_the_host_s_name_is_the_host_s() -> None:
    document = changed("hostname", "mine")
    document["linux"]["namespaces"] = [{"type": "mount"}]
    with pytest.raises(UsageError, match="hostname: it would be the host's: there is no uts namespace"):
        read(document)


def test_settings_are_named_as_sysctl_names_them() -> None:
    assert sysctl_path("net.ipv4.conf.eth0/100.forwarding") == "net/ipv4/conf/eth0.100/forwarding"
    assert sysctl_path("net/ipv4/conf/eth0.100/forwarding") == "net/ipv4/conf/eth0.100/forwarding"


def test_a_console_size_without_a_terminal_is_ignored() -> None:
    document = changed("process.consoleSize", {"height": 1, "width": 2})
    assert "consoleSize" not in read(document)["process"]
    document["process"]["terminal"] = True
    assert read(document)["process"]["consoleSize"] == {"height": 1, "width": 2}


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"ociVersion": NaN}', "[" * 100_000, '"\\ud800"', b"\xff", "1" * 5000])
def test_what_is_no_configuration_is_refused(text: str | bytes) -> None:
    with pytest.raises(UsageError):
        oci_config.configuration(text, BUNDLE)


def test_sections_by_themselves() -> None:
    assert oci_config.process('{"args": ["a"], "cwd": "/"}')["env"] == []
    assert oci_config.resources('{"pids": {"limit": -5}, "cpu": {"idle": 0}}') == {"pids": {"limit": -1}, "cpu": {"idle": 0}}
    with pytest.raises(UsageError, match=r"resources.pids.limit: \"9\" is not a whole number"):
        oci_config.resources('{"pids": {"limit": "9"}}')


# Made configurations.

FULL: dict[str, Any] = changed("hostname", "here")
FULL["process"].update(
    terminal=True, consoleSize={"height": 24, "width": 80}, oomScoreAdj=5, noNewPrivileges=True,
    user={"uid": 1, "gid": 2, "umask": 18, "additionalGids": [3, 4]},
    rlimits=[{"type": "RLIMIT_NOFILE", "soft": 5, "hard": 6}],
    capabilities={name: ["CAP_KILL"] for name in ("bounding", "effective", "permitted", "inheritable", "ambient")},
    ioPriority={"class": "IOPRIO_CLASS_BE", "priority": 3}, scheduler={"policy": "SCHED_BATCH", "nice": 3, "flags": []},
    execCPUAffinity={"initial": "0-1", "final": "0"},
)  # fmt: skip
FULL["linux"].update(
    namespaces=[*NAMESPACES, {"type": "time"}], timeOffsets={"monotonic": {"secs": 5, "nanosecs": 6}},
    devices=[{"type": "c", "path": "/dev/fuse", "major": 10, "minor": 229, "fileMode": 438, "uid": 0, "gid": 0}],
    cgroupsPath="/a/b", sysctl={"net.core.somaxconn": "256"}, rootfsPropagation="slave", maskedPaths=["/proc/kcore"],
    readonlyPaths=["/proc/sys"], personality={"domain": "LINUX"}, netDevices={"eth0": {"name": "eth1"}},
    resources={
        "devices": [{"allow": False, "access": "rwm"}], "memory": {"limit": 1 << 20, "swap": 1 << 21, "swappiness": 0},
        "cpu": {"shares": 1024, "quota": 5000, "period": 10000, "cpus": "0-1"}, "pids": {"limit": 5},
        "blockIO": {"weight": 10, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 5}]},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 5}], "network": {"classID": 5, "priorities": [{"name": "lo", "priority": 1}]},
        "rdma": {"a": {"hcaHandles": 3}}, "unified": {"memory.high": "max"},
    },
    seccomp={
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "architectures": ["SCMP_ARCH_X86_64"], "flags": [],
        "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]}],
    },
)  # fmt: skip
FULL["hooks"] = {kind: [{"path": "/bin/true", "args": ["true"], "env": ["A=1"], "timeout": 5}] for kind in oci_config.HOOKS}
FULL["annotations"] = {"a.b": "c"}


def test_everything_at_once_is_valid_and_reading_it_again_changes_nothing() -> None:
    once = read(FULL)
    assert read(once) == once
    assert once["linux"]["resources"] == FULL["linux"]["resources"]


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at] if at else []
    if isinstance(value, dict):
        for key, entry in value.items():
            found += places(entry, (*at, key))
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            found += places(entry, (*at, index))
    return found


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8) | st.sampled_from(["/", "", "0-", "\0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(places(FULL)), JSON)
def test_one_value_that_is_anything_is_taken_or_refused_at_its_place(place: tuple[Any, ...], value: Any) -> None:
    document = copy.deepcopy(FULL)
    at: Any = document
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    try:
        json.dumps(read(document))
    except UsageError as error:
        assert str(error) and "\n" not in str(error)


@given(JSON)
def test_anything_at_all_is_taken_or_refused(value: Any) -> None:
    for read_it in (oci_config.resources, oci_config.process, lambda text: oci_config.configuration(text, BUNDLE)):
        try:
            read_it(json.dumps(value))
        except UsageError as error:
            assert str(error)
