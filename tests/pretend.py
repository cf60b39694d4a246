"""A pretend host, made in this process: `enter()` once, then links, mounts and nft rules are nobody's but ours.

`outside()` adds the rest of the world: a network namespace on a veth, so that "out" and "in from the LAN" can be tested
with no route to the real network.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minidocker.kernel import libc

CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000
MS_PRIVATE, MS_REC, MS_BIND, MS_MOVE = 1 << 18, 0x4000, 0x1000, 0x2000

_entered = False


def sh(command: str, *, check: bool = True, **options: object) -> str:
    """Run one shell command and return its stdout; its stderr is in the failure."""
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, **options)  # type: ignore[call-overload]
    if check and done.returncode != 0:
        raise AssertionError(f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return str(done.stdout)


def ip(*arguments: str) -> list[dict[str, object]]:
    """`ip -d -j ARGUMENTS` as data."""
    return json.loads(sh("ip -d -j " + " ".join(arguments)) or "[]")  # type: ignore[no-any-return]


def is_thrown_away() -> bool:
    """Whether this is the virtual machine of tests/vm: all of it is a pretend host, there is no need to make one."""
    return os.path.exists("/etc/minidocker-vm")


def enter() -> None:
    """Unshare network and mounts, give /run, /var/lib/minidocker and /sys faces of their own, bring lo up."""
    global _entered
    if _entered:
        return
    libc.unshare(CLONE_NEWNS | CLONE_NEWNET)
    libc.mount(None, b"/", None, MS_PRIVATE | MS_REC, None)
    # /sys shows the interfaces of the namespace it was mounted in: a new one, with the cgroup mounts carried over.
    fresh = Path("/tmp/.pretend-sys")
    fresh.mkdir(exist_ok=True)
    libc.mount(b"sysfs", str(fresh).encode(), b"sysfs", 0, None)
    libc.mount(b"/sys/fs/cgroup", str(fresh / "fs/cgroup").encode(), None, MS_BIND | MS_REC, None)
    sh("umount -l /sys")  # not merely covered: /proc/self/mountinfo would tell of it, and cgroups be looked for there
    libc.mount(str(fresh).encode(), b"/sys", None, MS_MOVE, None)
    libc.mount(b"tmpfs", b"/run", b"tmpfs", 0, b"mode=755")
    for directory in ("/run/netns", "/run/lock", "/var/lib/minidocker"):
        os.makedirs(directory, exist_ok=True)
    libc.mount(b"tmpfs", b"/var/lib/minidocker", b"tmpfs", 0, b"mode=711")
    sh("ip link set lo up")
    _entered = True


@contextmanager
def outside(name: str = "outside", lan: str = "192.0.2") -> Iterator[str]:
    """Another host on the same wire: our `lan0` is LAN.1/24 with the default route by LAN.2, which `name` has.

    Commands run there by `ip netns exec NAME ...`. The other host has no route back to any container network, as a real
    one has none.
    """
    sh(f"""ip netns add {name} && ip link add lan0 type veth peer name eth0 netns {name} &&
           ip addr add {lan}.1/24 dev lan0 && ip link set lan0 up && ip route add default via {lan}.2 &&
           ip -n {name} link set lo up && ip -n {name} addr add {lan}.2/24 dev eth0 && ip -n {name} link set eth0 up""")
    try:
        yield name
    finally:
        sh(f"ip link del lan0; ip netns del {name}", check=False)
