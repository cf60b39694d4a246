"""A request as it is stored and read again, what older versions stored among it, and the records' names and families."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidocker.spec import fastjson
from minidocker.spec.records import MOST_NETWORKS, Endpoint, Port
from minidocker.spec.request import Attachment, RunRequest, from_data, to_data

words = st.text(min_size=1, max_size=8)
attachments = st.builds(Attachment, words, words | st.just(""), words | st.just(""), words | st.just(""), st.lists(words, max_size=3),
                        st.integers(-(1 << 31), 1 << 31))  # fmt: skip
ports = st.builds(Port, st.integers(0, 65535), st.integers(1, 65535), st.sampled_from(["", "0.0.0.0", "::", "127.0.0.1", "2001:db8::1"]),
                  st.sampled_from(["tcp", "udp", "sctp"]), st.integers(0, 65535))  # fmt: skip

# What the version before several networks wrote for `run --rm -d --net lab --ip 10.9.0.9 --mac-address 02:42:0a:09:00:09
# --network-alias db -p 127.0.0.1:8080:80 -v /a:/b:ro ./server a`.
OLD = {
    "command": ["./server", "a"], "name": None, "detach": True, "remove": True, "interactive": False, "tty": False, "env": [],
    "workdir": None, "user": None, "hostname": None, "volumes": [["/a", "/b", True]], "tmpfs": [], "rootfs": None, "read_only": False,
    "network": "lab", "ip": "10.9.0.9", "mac_address": "02:42:0a:09:00:09", "network_aliases": ["db"], "add_hosts": [], "dns": [],
    "dns_search": [], "dns_options": [], "publish": [[8080, 80, "127.0.0.1", "tcp"]], "expose": [[80, "tcp"]], "memory": None,
    "memory_swap": None, "memory_reservation": None, "cpus": None, "cpu_shares": None, "cpuset_cpus": None, "pids_limit": None,
    "ulimits": [], "shm_size": 67108864, "cgroup_parent": None, "cgroupns": None, "detach_keys": "\x10\x11", "cap_add": [],
    "cap_drop": [], "privileged": False, "no_new_privileges": None, "seccomp": None, "labels": {"a": "b"}, "stop_signal": 15,
    "init": False, "explain": False, "dry_run": False,
}  # fmt: skip


def fields(attachment: Attachment) -> tuple[object, ...]:
    return tuple(getattr(attachment, name) for name in Attachment.__slots__)


def plain(request: RunRequest) -> dict[str, object]:
    return {**vars(request), "networks": [fields(one) for one in request.networks]}


@given(st.lists(attachments, max_size=4), st.lists(ports, max_size=4), st.binary(max_size=4), st.booleans())
def test_a_request_comes_back_as_it_was_stored(networks: list[Attachment], published: list[Port], keys: bytes, all: bool) -> None:
    request = RunRequest(["true", "ä\0"])
    request.networks, request.publish, request.detach_keys, request.publish_all = networks, published, keys, all
    request.volumes, request.expose, request.add_hosts = [("/a", "/b", True)], [(80, "tcp")], [("db", "fd00::9")]
    again = from_data(fastjson.loads(fastjson.dumps(to_data(request))))
    assert plain(again) == plain(request)
    assert to_data(again) == to_data(request)


def test_a_stored_request_has_no_part_in_the_one_it_was_made_from() -> None:
    request = RunRequest(["true"])
    data = to_data(request)
    assert isinstance(request.networks[0], Attachment)
    assert data["networks"] == [["br0", "", "", "", [], 0]]
    assert from_data(json.loads(json.dumps(data))).networks[0].name == "br0"


def test_what_an_older_version_stored_is_one_network() -> None:
    request = from_data(json.loads(json.dumps(OLD)))
    assert (request.mode, request.network) == ("", "lab")
    [one] = request.networks
    assert fields(one) == (["db"], "10.9.0.9", "", "02:42:0a:09:00:09", "lab", 0)
    assert request.publish == [Port(8080, 80, "127.0.0.1")]
    assert (request.publish_all, request.volumes, request.expose) == (False, [("/a", "/b", True)], [(80, "tcp")])
    assert set(vars(request)) == set(vars(RunRequest([]))), "nothing of the old names is left"
    assert plain(from_data(json.loads(fastjson.dumps(to_data(request))))) == plain(request)


def test_what_an_older_version_left_to_be_chosen_is_left_still() -> None:
    [one] = from_data({**OLD, "network": "br0", "ip": None, "mac_address": None, "network_aliases": []}).networks
    assert fields(one) == ([], "", "", "", "br0", 0)


@pytest.mark.parametrize("mode", ["none", "host", "container:web"])
def test_what_an_older_version_called_a_network_may_be_a_mode(mode: str) -> None:
    request = from_data({**OLD, "network": mode, "ip": None, "mac_address": None, "network_aliases": []})
    assert (request.mode, request.networks, request.network) == (mode, [], mode)


def test_the_network_that_a_request_is_shown_with() -> None:
    request = RunRequest(["true"])
    assert (request.mode, request.network) == ("", "br0")
    request.networks = [Attachment("lab"), Attachment("br0", priority=9)]
    assert request.network == "lab"
    request.networks = []
    assert request.network == "none", "it was disconnected from the last one"
    request.mode = "container:web"
    assert request.network == "container:web"


@pytest.mark.parametrize(
    ("host_ip", "ipv4", "ipv6", "said"),
    [
        ("", True, True, "0.0.0.0:8080->80/tcp"),
        ("0.0.0.0", True, False, "0.0.0.0:8080->80/tcp"),
        ("127.0.0.1", True, False, "127.0.0.1:8080->80/tcp"),
        ("::", False, True, "[::]:8080->80/tcp"),
        ("2001:db8::1", False, True, "[2001:db8::1]:8080->80/tcp"),
    ],
)
def test_a_ports_families(host_ip: str, ipv4: bool, ipv6: bool, said: str) -> None:
    port = Port(8080, 80, host_ip)
    assert (port.is_ipv4, port.is_ipv6, str(port), port.host) == (ipv4, ipv6, said, said.partition(":8080")[0])


@given(ports, ports)
def test_ports_are_the_same_when_all_of_them_is(one: Port, other: Port) -> None:
    same = all(getattr(one, name) == getattr(other, name) for name in Port.__slots__)
    assert (one == other) == same
    assert not same or hash(one) == hash(other)


def test_every_address_and_every_ipv4_one_are_not_the_same_port() -> None:
    assert Port(80, 80) != Port(80, 80, "0.0.0.0")
    assert Port(80, 80) != Port(80, 80, host_last=90)
    assert Port(80, 80) != "0.0.0.0:80->80/tcp"


def place(generation: int, number: int, id: str = "0123456789ab" + "c" * 52) -> Endpoint:
    return Endpoint("lab", id, "web", "10.9.0.2", "02:42:0a:09:00:02", generation, interface=f"eth{number}")


def test_the_hosts_end_of_a_cable_is_named_by_container_start_and_interface() -> None:
    assert (place(1, 0).host_link, place(17, 0).host_link) == ("md012345671", "md0123456711")
    assert (place(1, 1).host_link, place(17, 15).host_link) == ("md012345671.1", "md0123456711.f")
    assert place(1, 12).number == 12


@given(st.integers(1, 1 << 40), st.integers(1, 1 << 40), st.integers(0, MOST_NETWORKS - 1), st.integers(0, MOST_NETWORKS - 1))
def test_it_fits_the_kernels_room_and_is_no_other_interfaces(one: int, other: int, number: int, another: int) -> None:
    links = place(one, number).host_link, place(other, another).host_link
    assert all(len(link) <= 15 for link in links)
    assert (links[0] == links[1]) == ((one & 0xFFF, number) == (other & 0xFFF, another))
