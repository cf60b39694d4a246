"""Networks on a kernel whose nf_tables are modules, with br_netfilter absent and loaded; from another host on a veth."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import pretend
from tests.e2e.support import Minidocker, poll
from tests.pretend import sh
from tests.vm import machine

pytestmark = pytest.mark.vm

PING = ("--cap-add", "NET_RAW")  # what busybox's takes


@pytest.fixture
def outside() -> Iterator[str]:
    """Another host on the wire, with IPv4 alone: what IPv6 adds by itself comes seconds later, and nobody is to be blamed for it."""
    with pretend.outside() as name:
        sh("sysctl -qw net.ipv6.conf.lan0.disable_ipv6=1")
        yield name


@pytest.fixture
def outside6() -> Iterator[str]:
    with pretend.outside() as name:
        sh(f"""ip link set lan0 addrgenmode none && ip addr flush dev lan0 scope link &&
               ip addr add 2001:db8::1/64 dev lan0 nodad && ip -n {name} addr add 2001:db8::2/64 dev eth0 nodad""")
        yield name


def get(md: Minidocker, url: str, container: str = "", netns: str = "", seconds: int = 20) -> str:
    """What is answered to a container, with the host's programs in the host view, or to another host; curl's error in its place."""
    curl = ("curl", "-sS", "--max-time", str(seconds), url)
    if container:
        done = md("exec", container, *curl, check=False)
        return str(done.stdout) or str(done.stderr)
    return sh(f"ip netns exec {netns} {' '.join(curl)} 2>&1", check=False)


def client(md: Minidocker, name: str, *options: object) -> None:
    md.start("--name", name, *PING, *options, "sleep", "10000")


def serve(md: Minidocker, busybox: Path, name: str, *options: object, files: Path) -> None:
    """A web server whose every page is its name."""
    (files / name).write_text(f"{name}\n")
    page = f"{files}/{name}:/www/index.html:ro"
    md.start("--name", name, *PING, "-v", page, "--rootfs", busybox, *options, "httpd", "-f", "-h", "/www")


def test_published_ports_and_names(outside: str, br_netfilter: bool, md: Minidocker, busybox: Path, tmp_path: Path) -> None:
    serve(md, busybox, "web", "--net", "br0", "-p", "8080:80", files=tmp_path)
    client(md, "client", "--net", "br0")
    assert machine.fetch("http://127.0.0.1:8080/") == "web\n"
    assert get(md, "http://192.0.2.1:8080/", netns=outside) == "web\n", "from the LAN"
    assert get(md, "http://web/", "client") == "web\n", "by name, within the bridge"
    assert get(md, "http://192.0.2.1:8080/", "client") == "web\n", "by the host's address, and back into the same bridge"
    itself = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 20 192.0.2.1 8080"
    assert md("exec", "web", "sh", "-c", itself).stdout.endswith("\nweb\n"), "the container itself, by the same way"
    md("rm", "-f", "web")
    assert "curl: (7)" in get(md, "http://192.0.2.1:8080/", netns=outside), "refused, not dropped"


def test_networks_are_apart_and_the_way_out_is_masked(
    outside: str, br_netfilter: bool, md: Minidocker, busybox: Path, tmp_path: Path
) -> None:
    serve(md, busybox, "one", "--net", "br0", files=tmp_path)
    client(md, "beside", "--net", "br0")
    md("network", "create", "other")
    serve(md, busybox, "two", "--net", "other", files=tmp_path)
    md("network", "create", "--internal", "inner")
    client(md, "locked", "--net", "inner")
    address = {name: str(next(iter(md.inspect(name)["NetworkSettings"]["Networks"].values()))["IPAddress"]) for name in ("one", "two")}
    assert machine.fetch(f"http://{address['one']}/") == "one\n" and machine.fetch(f"http://{address['two']}/") == "two\n"
    assert "two" not in get(md, f"http://{address['two']}/", "beside", seconds=8), "from one network into another"
    assert md("exec", "beside", "ping", "-c", "1", "-W", "20", "192.0.2.2").returncode == 0, "masqueraded: no route leads back"
    assert md("exec", "locked", "ping", "-c", "1", "-W", "2", "192.0.2.2", check=False).returncode != 0
    sh(f"ip -n {outside} route add 172.16.0.0/12 via 192.0.2.1")
    assert "one" not in get(md, f"http://{address['one']}/", netns=outside, seconds=8), "in from the LAN, but by a published port"


def test_neighbours_cannot_take_each_others_address(br_netfilter: bool, md: Minidocker) -> None:
    """What is bridged is judged too: with br_netfilter by both families' rules, without it by the bridge's alone."""
    client(md, "good", "--net", "br0")
    client(md, "forger", "--net", "br0", "--cap-add", "NET_ADMIN")
    address = md.inspect("good")["NetworkSettings"]["Networks"]["br0"]["IPAddress"]
    assert md("exec", "forger", "ping", "-c", "1", "-W", "20", address).returncode == 0
    md("exec", "forger", "ip", "addr", "add", "172.17.0.99/16", "dev", "eth0")
    assert md("exec", "forger", "ping", "-c", "1", "-W", "2", "-I", "172.17.0.99", address, check=False).returncode != 0


def test_a_cable_for_two(md: Minidocker) -> None:
    md("network", "create", "--driver", "ptp", "cable")
    client(md, "here", "--net", "cable")
    client(md, "there", "--net", "cable")
    address = md.inspect("there")["NetworkSettings"]["Networks"]["cable"]["IPAddress"]
    assert md("exec", "here", "ping", "-c", "1", "-W", "20", address).returncode == 0


def test_on_the_wire_of_the_host(outside: str, md: Minidocker) -> None:
    """macvlan's module comes on demand, too."""
    options = ("-o", "parent=lan0", "--subnet", "192.0.2.0/24", "--ip-range", "192.0.2.128/25")
    md("network", "create", "--driver", "macvlan", *options, "lan")
    assert md.run("--rm", "--net", "lan", *PING, "ping", "-c", "1", "-W", "20", "192.0.2.2").returncode == 0


def test_ipv6(outside6: str, br_netfilter: bool, md: Minidocker, busybox: Path, tmp_path: Path) -> None:
    done = md("network", "create", "--ipv6", "six", check=False)
    assert done.returncode == 0, done.stderr  # where it says on stderr that the host goes on taking router advertisements
    serve(md, busybox, "web", "--net", "six", "-p", "8080:80", files=tmp_path)
    machine.fetch("http://127.0.0.1:8080/")
    assert get(md, "http://[2001:db8::1]:8080/", netns=outside6) == "web\n"
    assert md("exec", "web", "ping", "-c", "1", "-W", "20", "2001:db8::2").returncode == 0


def test_the_explained_commands_are_the_hosts_own(md: Minidocker, busybox: Path, tmp_path: Path) -> None:
    """The script that --dry-run prints, run by bash with this distribution's ip, nft and mount, is a container that works. systemd,
    reloaded while there were slices of ours, believes their files are there still: it cannot load them by their names alone."""
    client(md, "before", "--net", "none")
    sh("systemctl daemon-reload")
    md("rm", "-f", "before")
    poll(lambda: not list(machine.UNIFIED.glob("minidocker*")), "its slices go with it", 60)
    script = md.run("--dry-run", "--net", "br0", "--name", "web", "-p", "8080:80", "--rootfs", busybox, "hostname", "-i").stdout
    (tmp_path / "script").write_text(script)
    # The network stays, as after any `run`: what it makes of that goes with these namespaces.
    alone = "mkdir -p /run/minidocker && unshare --net --mount bash -c 'mount -t tmpfs run /run/minidocker && ip link set lo up"
    said = sh(f"{alone} && bash {tmp_path}/script'")
    assert said.strip().endswith("172.17.0.2")
    poll(lambda: not list(machine.UNIFIED.glob("minidocker*")), "its slices go with it", 60)


def test_what_is_gone_is_gone(md: Minidocker, busybox: Path) -> None:
    md.start("--net", "br0", "--name", "web", "-p", "8080:80", "--rootfs", busybox, "httpd", "-f")
    md("rm", "-f", "web")
    md("network", "rm", "br0")
    assert sh("nft list ruleset") == ""
    assert [link["ifname"] for link in json.loads(sh("ip -j link"))] == ["lo"]
