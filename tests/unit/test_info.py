"""`info`: versions out of what tools say of themselves, and what is off as a function of what was found."""

from __future__ import annotations

from typing import Any

import pytest

from minidocker.engine import info
from minidocker.kernel import packages

GOOD: dict[str, Any] = {
    "CgroupVersion": "2", "CgroupControllers": ["cpu", "cpuset", "io", "memory", "pids"], "Systemd": "252", "SwapLimit": True,
    "Pressure": True, "DeviceControl": "bpf", "Overlay": True, "IPv6": True, "Seccomp": True, "LackingCapabilities": [],
    "Libraries": {"python": "3.11.2", "libseccomp": "2.5.4"},
    "Tools": {name: {"Path": f"/usr/bin/{name}", "Version": "1"} for name in ("nft", "ip", "tini", "catatonit")},
}  # fmt: skip
NONE = {"Path": "", "Version": ""}


@pytest.mark.parametrize(("line", "number"), [
    ("nftables v1.0.6 (Lester Gooch #5)", "1.0.6"), ("ip utility, iproute2-6.1.0, libbpf 1.1.0", "6.1.0"),
    ("tini version 0.19.0", "0.19.0"),
    ("setpriv from util-linux 2.38.1", "2.38.1"), ("mmdebstrap 1.3.5", "1.3.5"), ("debootstrap 1.0.128+nmu2", "1.0.128+nmu2"),
    ("nftables v1.1.1 (Commodore Bullmoose #2)", "1.1.1"), ("what is this", ""), ("", ""),
])  # fmt: skip
def test_a_version_is_found_in_what_a_tool_says(line: str, number: str) -> None:
    assert info.number_in(line) == number


def test_nothing_is_off_where_all_is_there() -> None:
    assert info.off(GOOD) == []


@pytest.mark.parametrize(("change", "said"), [
    ({"CgroupControllers": ["cpu", "io", "memory", "pids"]}, "--cpuset-cpus: no cgroup controller cpuset"),
    ({"CgroupVersion": "hybrid"}, "--cgroup-manager systemd: it needs cgroup v2 alone, and this is v1 and v2"),
    ({"Systemd": ""}, "--cgroup-manager systemd: systemd is not the init"),
    ({"SwapLimit": False}, "--memory-swap: swap is not accounted; boot with swapaccount=1"),
    ({"Pressure": False}, "pressure in stats: the kernel does not count it; boot with psi=1"),
    ({"DeviceControl": "none"}, "device nodes made in containers: access to devices cannot be limited (no cgroup v1 devices, no bpf(2))"),
    ({"Overlay": False}, "run: the kernel has no overlay file system"),
    ({"Libraries": {"python": "3", "libseccomp": ""}},
     "run without --security-opt seccomp=unconfined: libseccomp is not installed; INSTALL libseccomp"),
    ({"Seccomp": False}, "run without --security-opt seccomp=unconfined: the kernel has no seccomp"),
    ({"Tools": {**GOOD["Tools"], "nft": NONE}}, "bridge networks and published ports: nft is not installed; INSTALL nftables"),
    ({"Tools": {**GOOD["Tools"], "tini": NONE, "catatonit": NONE}}, "--init: neither tini nor catatonit is installed; INSTALL tini"),
    ({"IPv6": False}, "network create --ipv6: the kernel has no IPv6, or it is disabled at boot"),
    ({"LackingCapabilities": ["CAP_SYS_TIME"]}, "--cap-add and --privileged: not CAP_SYS_TIME, which we do not have ourselves"),
])  # fmt: skip
def test_what_is_lacking_is_said_with_what_is_off(change: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "install", lambda *names: f"INSTALL {' '.join(names)}")
    assert info.off({**GOOD, **change}) == [said]


def test_one_of_two_inits_is_enough() -> None:
    assert info.off({**GOOD, "Tools": {**GOOD["Tools"], "tini": NONE}}) == []
