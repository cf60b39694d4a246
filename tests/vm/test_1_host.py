"""What the other tests here take for granted of this machine, and its first container: the modules come by themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.support import Minidocker
from tests.pretend import sh
from tests.vm import machine

pytestmark = pytest.mark.vm

ON_DEMAND = {"bridge", "veth", "nf_tables", "nft_chain_nat", "nf_conntrack", "overlay", "br_netfilter", "macvlan"}


def test_it_is_a_stock_host() -> None:
    assert Path("/proc/1/comm").read_text() == "systemd\n"
    assert sh("systemctl is-system-running --wait", check=False).strip() == "running"
    assert Path("/proc/self/cgroup").read_text() == "0::/system.slice/guest.service\n", "v2 alone, in a cgroup that systemd manages"
    assert "cloud-amd64" in sh("uname -r")
    assert [link["ifname"] for link in json.loads(sh("ip -j link"))] == ["lo"], "no way out"
    assert machine.modules() & ON_DEMAND == set() and not Path("/run/netns").exists()


def test_the_first_container_finds_its_modules(md: Minidocker, busybox: Path) -> None:
    assert md.run("--rm", "--net", "br0", "--rootfs", busybox, "hostname", "-i").stdout == "172.17.0.2\n"
    assert machine.modules() >= {"bridge", "veth", "nf_tables", "nf_conntrack"}
    assert "br_netfilter" not in machine.modules(), "which would change how every bridge of this machine works"


def test_a_program_of_the_host(md: Minidocker) -> None:
    assert md.run("--rm", "--net", "none", "python3", "-c", "print(1 + 2)").stdout == "3\n"
    assert "overlay" in machine.modules()


def test_info_says_what_it_found(md: Minidocker) -> None:
    info = json.loads(md("info", "--format", "json").stdout)
    assert str(info["CgroupVersion"]) == "2"
    assert md("info", "--format", "{{.SwapLimit}}").stdout == "true\n"


def test_doctor_finds_a_healthy_network_without_fault(md: Minidocker, busybox: Path) -> None:
    md.start("--net", "br0", "--name", "web", "-p", "8080:80", "--rootfs", busybox, "httpd", "-f")
    done = md("network", "doctor", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
