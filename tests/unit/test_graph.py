"""The pictures of a topology: nothing lies upon anything, no text runs out of its box, whatever things are called."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as some

from minidocker.kernel.routes import Port
from minidocker.network import graph_svg, graph_text
from minidocker.network.graph_svg import CHARACTER, Box
from minidocker.network.topology import Joint, Segment, Topology, Uplink


def topology(networks: int, containers: int, ports: int = 2, name: str = "c", uplinks: int = 1, foreign: int = 1) -> Topology:
    made = Topology("host")
    for number in range(uplinks):
        port = object.__new__(Port)
        port.name, port.index, port.mac, port.flags = f"eth{number}", 2 + number, "02:00:00:00:00:01", 1
        made.uplinks.append(Uplink(port, [f"192.0.2.{number}/24", "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff/64"], ["192.0.2.254"]))
    made.routes = [f"10.{n}.0.0/16 dev br{n}" for n in range(networks + 4)]
    for n in range(networks):
        segment = Segment(f"net{n}", "bridge", f"br{n}", True)
        segment.subnets, segment.addresses, segment.notes = [f"10.{n}.0.0/16"], [f"10.{n}.0.1/16"], ["masqueraded outward"]
        segment.index, segment.is_up = 10 + n, True
        for c in range(containers // networks + (n < containers % networks)):
            published = [(f"0.0.0.0:{8000 + p}", f"{p}/tcp") for p in range((c * ports) % 7)]
            joint = Joint(f"md{n:04x}{c:04x}1", f"{name}{n}-{c}", "eth0", [f"10.{n}.0.{c + 2}"], "02:42:0a:00:00:02", published)
            joint.index, joint.is_up = 100 + c, c % 5 != 0
            segment.joints.append(joint)
        made.segments.append(segment)
    for n in range(foreign):
        segment = Segment(f"docker{n}", "bridge", f"docker{n}", False)
        segment.joints = [Joint("veth1"), Joint("veth2")]
        made.segments.append(segment)
    return made


def overlapping(one: Box, other: Box) -> bool:
    return (one.x < other.x + other.width and other.x < one.x + one.width
            and one.y < other.y + other.height and other.y < one.y + one.height)  # fmt: skip


def holds(outer: Box, inner: Box) -> bool:
    return (outer.x <= inner.x and outer.y <= inner.y and inner.x + inner.width <= outer.x + outer.width
            and inner.y + inner.height <= outer.y + outer.height)  # fmt: skip


def crosses(points: list[tuple[float, float]], box: Box) -> bool:
    """Whether a line of horizontal and vertical parts goes through the inside of a box (to touch its edge is what it is for)."""
    for (x1, y1), (x2, y2) in pairwise(points):
        low_x, high_x, low_y, high_y = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)
        if high_x > box.x and low_x < box.x + box.width and high_y > box.y and low_y < box.y + box.height:
            return True
    return False


def check(made: Topology) -> None:
    picture = graph_svg.layout(made)
    for number, box in enumerate(picture.boxes):
        assert not [other for other in picture.boxes[number + 1 :] if overlapping(box, other)]
        assert box.x >= 0 and box.y >= 0 and box.x + box.width <= picture.width and box.y + box.height <= picture.height
        for place, card in enumerate(box.inside):
            assert holds(box, card)
            assert not [other for other in box.inside[place + 1 :] if overlapping(card, other)]
            assert card.y >= box.y + graph_svg.PADDING + len(box.lines) * graph_svg.LINE - 8, "a card lies on its panel's title"
        for one in box.all():
            assert len(one.lines) * graph_svg.LINE <= one.height
            assert all(len(text) * CHARACTER <= one.width - 2 * graph_svg.PADDING + CHARACTER for text, _, _ in one.lines)
    cards = [card for box in picture.boxes for card in box.inside]
    outer = [box for box in picture.boxes if box.kind not in ("panel", "cable")]
    assert not [(points, card) for points, _, _ in picture.lines for card in (*cards, *outer) if crosses(points, card)]
    panels = [box for box in picture.boxes if box.kind in ("panel", "cable")]
    stubs = [points for panel in panels for points, _, _ in graph_svg._bus(panel)]
    assert not [points for points, _, _ in picture.lines if points not in stubs for panel in panels if crosses(points, panel)]


def test_fifty_containers_on_five_networks() -> None:
    check(topology(5, 50))
    drawn = graph_svg.svg(topology(5, 50))
    assert drawn.count(">c0-") == 10 and len(ElementTree.fromstring(drawn)) > 100


@given(some.integers(1, 12), some.integers(0, 120), some.integers(0, 6), some.integers(0, 4), some.integers(0, 3))
def test_nothing_lies_upon_anything(networks: int, containers: int, ports: int, uplinks: int, foreign: int) -> None:
    check(topology(networks, containers, ports, uplinks=uplinks, foreign=foreign))


@given(some.text(max_size=80))
def test_whatever_things_are_called(name: str) -> None:
    made = topology(2, 5, name=name)
    made.host = name
    made.segments[0].driver = "ptp"
    check(made)
    ElementTree.fromstring(graph_svg.svg(made))
    for text in (graph_text.dot(made), graph_text.mermaid(made)):
        assert text.count("c1_1") >= 1
    assert all(isinstance(style, str) and isinstance(text, str) for line in graph_text.tree(made) for style, text in line)


def test_nothing_at_all() -> None:
    made = Topology("alone")
    check(made)
    assert graph_text.tree(made) == [[("name", "alone"), ("plain", "  this host")]]


def test_what_links_carry_a_second() -> None:
    assert graph_text.rates({1: (0, 0, 0, 0)}, {1: (10, 20, 3000, 4000), 2: (1, 1, 1, 1)}, 2.0) == {1: (5, 10, 1500, 2000)}
    assert [graph_text.size(n) for n in (0, 999, 1000, 123456, 5e6, 7e12)] == [
        "0 B/s", "999 B/s", "1.0 kB/s", "123 kB/s", "5.0 MB/s", "7000.0 GB/s"]  # fmt: skip
