"""The world that tests of networks begin with: another host on the same wire, and nothing of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import pretend
from tests.kernel.world import LAN6, PEER6, World, link_local
from tests.pretend import sh

BRIDGE_NF = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


@pytest.fixture
def world() -> Iterator[World]:
    with pretend.outside():
        made = World()
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def world6(world: World) -> World:
    """The same with IPv6 on the wire, as `outside` has IPv4."""
    sh(f"""{link_local('lan0', 1)} && {link_local('eth0', 2, 'outside')} &&
           ip addr add {LAN6}/64 dev lan0 nodad && ip -n outside addr add {PEER6}/64 dev eth0 nodad &&
           ip -6 route add default via {PEER6}""")
    return world


@pytest.fixture(params=["bridge-nf-call 0", "bridge-nf-call 1"])
def either(request: pytest.FixtureRequest) -> Iterator[None]:
    """With br_netfilter's calls off and on; where it is absent, once without."""
    if request.param.endswith("1") and not BRIDGE_NF.exists():
        pytest.skip("br_netfilter is not loaded")
    with bridge_calls(request.param[-1]):
        yield


@pytest.fixture
def unfiltered() -> Iterator[None]:
    """With br_netfilter's calls off: what is bridged meets no rule for packets."""
    with bridge_calls("0"):
        yield


@contextmanager
def bridge_calls(value: str) -> Iterator[None]:
    paths = [BRIDGE_NF, BRIDGE_NF.with_name("bridge-nf-call-ip6tables")] if BRIDGE_NF.exists() else []
    before = [path.read_text() for path in paths]
    for path in paths:
        path.write_text(value)
    yield
    for path, text in zip(paths, before, strict=True):
        path.write_text(text)
