"""The elements of our tables: as they are typed, and as nft says that they are."""

from __future__ import annotations

import pytest

from minidocker.network import doctor_rules


@pytest.mark.parametrize("protocol", ["tcp", 6])
def test_a_protocol_is_the_same_where_nft_has_no_name_for_it(protocol: str | int) -> None:
    """Without /etc/protocols nft prints numbers; a port of that number is none of its business."""
    value = {"concat": ["172.17.0.2", 6]}
    found = [
        {"map": {"name": "ports", "elem": [[{"concat": [protocol, 17]}, value]]}},
        {"map": {"name": "ports_at", "elem": [[{"concat": ["192.0.2.1", protocol, 6]}, value]]}},
        {"set": {"name": "subnets", "elem": [{"prefix": {"addr": "172.17.0.0", "len": 16}}]}},
    ]
    assert list(doctor_rules.elements(found)) == [
        doctor_rules.element("ports { tcp . 17 : 172.17.0.2 . 6 }"),
        doctor_rules.element("ports_at { 192.0.2.1 . tcp . 6 : 172.17.0.2 . 6 }"),
        doctor_rules.element("subnets { 172.17.0.0/16 }"),
    ]
