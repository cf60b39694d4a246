"""A topology as a picture, by a layout of our own: nothing need be installed for it. Pure.

    outside, uplinks      a row of boxes on top of the host
    the host              one box over all of the width, with the routes that are not of a network's own
    networks              panels in rows; in each its containers as cards, in columns, each on a line from the panel's own bus
    a trunk               from the host down the left margin, with a branch over each row of panels: no line crosses a box

A container in several networks has a card in each of them. Everything is placed by the width of a fixed-width font.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minidocker.network.topology import Joint, Segment, Topology, Uplink

MARGIN, GAP, PADDING, LINE = 28, 20, 12, 17
CARD, STUB, COLUMN_GAP = 232, 22, 16  # a card's width, the line to it, and what is between columns
CHARACTER = 7.3  # of the font, at 12 pixels: DejaVu Sans Mono's 0.602, and a little for other fonts
WIDEST = 1500
_MOST_PORTS, _MOST_ROUTES = 4, 6
_INK, _GREY, _FAINT, _RED = "#1f2933", "#9aa5b1", "#e4e7eb", "#ba2525"
_COLOURS = ("#0b69a3", "#0c6b58", "#8d2b0b", "#5d2b9e", "#7a5b00", "#a61b5e")


class Box:
    """A rectangle with lines of text in it: `x`, `y`, `width`, `height` in pixels; `lines` of (text, colour, bold); `kind` "host",
    "uplink", "outside", "panel", "cable" (a panel that is not joined to the host) or "card"; `colour` of its edge; `inside` the boxes
    in it."""

    __slots__ = ("colour", "height", "inside", "kind", "lines", "width", "x", "y")

    def __init__(self, kind: str, width: float, lines: list[tuple[str, str, bool]], colour: str) -> None:
        self.kind, self.width, self.colour = kind, width, colour
        self.lines = [(fitted(text, width - 2 * PADDING), ink, bold) for text, ink, bold in lines if text]
        self.x = self.y = 0.0
        self.height = len(self.lines) * LINE + 2 * PADDING - 4.0
        self.inside: list[Box] = []

    def moved(self, x: float, y: float) -> Box:
        """Itself, and what is in it, at another place."""
        for box in self.inside:
            box.moved(box.x + x - self.x, box.y + y - self.y)
        self.x, self.y = x, y
        return self

    def all(self) -> Iterator[Box]:
        yield self
        for box in self.inside:
            yield from box.all()


class Picture:
    """What is to be drawn: `boxes` (panels hold their cards), `lines` as (points, colour, width), and the size of it all."""

    __slots__ = ("boxes", "height", "lines", "width")

    def __init__(self) -> None:
        self.boxes: list[Box] = []
        self.lines: list[tuple[list[tuple[float, float]], str, float]] = []
        self.width = self.height = 0.0


def fitted(text: str, width: float) -> str:
    """`text`, cut so that it is no wider."""
    most = int(width / CHARACTER)
    return text if len(text) <= most else text[: most - 1] + "…"


def layout(topology: Topology) -> Picture:
    """Place everything."""
    picture = Picture()
    panels = [_panel(segment, _GREY if not segment.ours else _COLOURS[number % len(_COLOURS)])
              for number, segment in enumerate(topology.segments)]  # fmt: skip
    rows = _rows(panels)
    width = max([sum(panel.width for panel in row) + GAP * (len(row) - 1) for row in rows] + [len(topology.uplinks) * (CARD + GAP) + CARD])
    y = _top(picture, topology, width)
    trunk = MARGIN / 2
    bottom = y
    y += GAP
    for row in rows:
        x = float(MARGIN)
        for panel in row:
            picture.boxes.append(panel.moved(x, y + GAP))
            if panel.kind == "panel":
                middle = x + panel.width / 2
                picture.lines.append(([(trunk, y), (middle, y)], _INK, 1.5))
                picture.lines.append(([(middle, y), (middle, y + GAP)], panel.colour, 1.5))
                bottom = y
            x += panel.width + GAP
        y += GAP + max(panel.height for panel in row) + GAP
    if bottom != picture.boxes[0].y + picture.boxes[0].height:
        picture.lines.append(([(MARGIN, picture.boxes[0].y + 20), (trunk, picture.boxes[0].y + 20), (trunk, bottom)], _INK, 2))
    for panel in panels:
        picture.lines += list(_bus(panel))
    picture.width, picture.height = width + 2 * MARGIN, y + MARGIN - GAP
    return picture


def _top(picture: Picture, topology: Topology, width: float) -> float:
    """The host, and what is above it; returns where it ends."""
    outside = [_outside(uplink) for uplink in topology.uplinks]
    uplinks = [_uplink(uplink) for uplink in topology.uplinks]
    y = float(MARGIN)
    above = max((box.height for box in outside if box is not None), default=0)
    below = max((box.height for box in uplinks), default=0)
    routes = [(route, _INK, False) for route in topology.routes[:_MOST_ROUTES]]
    more = len(topology.routes) - _MOST_ROUTES
    routes += [(f"and {more} routes more", _GREY, False)] if more > 0 else []
    host = Box("host", width, [(f"{topology.host} (this host)", _INK, True), *routes], _INK)
    top = y + above + (GAP if above else 0) + below + (GAP if below else 0)
    picture.boxes.append(host.moved(MARGIN, top))
    x = float(MARGIN)
    for world, uplink in zip(outside, uplinks, strict=True):
        uplink.moved(x, top - GAP - uplink.height)
        middle = x + CARD / 2
        picture.lines.append(([(middle, uplink.y + uplink.height), (middle, top)], uplink.colour, 1.5))
        picture.boxes.append(uplink)
        if world is not None:
            world.moved(x, y + above - world.height)
            picture.lines.append(([(middle, world.y + world.height), (middle, uplink.y)], _INK, 1.5))
            picture.boxes.append(world)
        x += CARD + GAP
    return top + host.height


def _outside(uplink: Uplink) -> Box | None:
    return Box("outside", CARD, [("outside", _INK, True), *((f"by {one}", _INK, False) for one in uplink.gateways)], _INK) if (
        uplink.gateways) else None  # fmt: skip


def _uplink(uplink: Uplink) -> Box:
    down = [] if uplink.is_up else [("down", _RED, False)]
    return Box("uplink", CARD, [(uplink.name, _INK, True), *((one, _INK, False) for one in uplink.addresses), *down], _INK)


def _panel(segment: Segment, colour: str) -> Box:
    """A network, and its containers as cards in columns."""
    count = len(segment.joints)
    columns = 1 if count <= 4 else 2 if count <= 12 else 3 if count <= 30 else 4
    width = columns * (CARD + STUB) + (columns - 1) * COLUMN_GAP + 2 * PADDING
    ink = _INK if segment.ours else _GREY
    title = segment.name if segment.link in (segment.name, "") else f"{segment.name} ({segment.link})"
    bad = not segment.is_up and segment.driver == "bridge"
    lines = [(title, colour, True), *((one, ink, False) for one in segment.addresses or segment.subnets),
             *((note, _RED if bad or note.startswith("NOT") else _GREY, False) for note in segment.notes)]
    panel = Box("panel" if segment.driver != "ptp" else "cable", width, lines, colour)
    head = panel.height
    ends = [head] * columns
    for number, joint in enumerate(segment.joints):
        column = number % columns
        card = _card(joint, colour)
        panel.inside.append(card.moved(PADDING + column * (CARD + STUB + COLUMN_GAP) + STUB, ends[column] + 6))
        ends[column] += card.height + 12
    panel.height = max(ends) + (PADDING / 2 if count else 0)
    return panel


def _card(joint: Joint, colour: str) -> Box:
    if not joint.container:
        return Box("card", CARD, [(joint.link, _GREY, False)], _FAINT)
    down = " (down)" if joint.index and not joint.is_up else ""
    ports = [(f"{outer} → {inner}", _INK, False) for outer, inner in joint.ports[:_MOST_PORTS]]
    more = len(joint.ports) - _MOST_PORTS
    ports += [(f"and {more} ports more", _GREY, False)] if more > 0 else []
    cable = f"{joint.link} ═ {joint.interface}" if joint.link else joint.interface
    return Box("card", CARD, [(joint.container, _INK, True), *((one, _INK, False) for one in joint.addresses),
                              (f"{cable}{down}", _RED if down else _GREY, False), (joint.mac, _GREY, False), *ports], colour)


def _rows(panels: list[Box]) -> list[list[Box]]:
    rows: list[list[Box]] = []
    used = 0.0
    for panel in panels:
        if not rows or used + panel.width > WIDEST:
            rows.append([])
            used = 0.0
        rows[-1].append(panel)
        used += panel.width + GAP
    return rows


def _bus(panel: Box) -> Iterator[tuple[list[tuple[float, float]], str, float]]:
    """A line down each column of cards, and a stub to each."""
    columns: dict[float, list[Box]] = {}
    for card in panel.inside:
        columns.setdefault(card.x, []).append(card)
    for x, cards in columns.items():
        down = x - STUB / 2
        top = min(card.y for card in cards) - 6
        yield [(down, top), (down, cards[-1].y + 18)], panel.colour, 1.5
        for card in cards:
            yield [(down, card.y + 18), (x, card.y + 18)], panel.colour, 1.5


def svg(topology: Topology) -> str:
    """The picture as SVG 1.1."""
    picture = layout(topology)
    size = f'{picture.width:.0f}" height="{picture.height:.0f}" viewBox="0 0 {picture.width:.0f} {picture.height:.0f}'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{size}" font-family="DejaVu Sans Mono, monospace" font-size="12">',
             f"<title>{_text(f'The networks of {topology.host}')}</title>", '<rect width="100%" height="100%" fill="#ffffff"/>']
    parts += map(_drawn, picture.boxes)
    for points, colour, width in picture.lines:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>')
    parts += [_drawn(card) for box in picture.boxes for card in box.inside]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _drawn(box: Box) -> str:
    fill = {"panel": "#fafbfc", "cable": "#fafbfc", "host": "#f0f4f8", "outside": "#f0f4f8"}.get(box.kind, "#ffffff")
    corner = min(box.height / 2, 18) if box.kind == "outside" else 6
    parts = [f'<rect x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="{corner:.0f}" '
             f'fill="{fill}" stroke="{box.colour}" stroke-width="{1.5 if box.kind != "card" else 1}"/>']
    for number, (text, ink, bold) in enumerate(box.lines):
        weight = ' font-weight="bold"' if bold else ""
        y = box.y + PADDING + 8 + number * LINE
        parts.append(f'<text x="{box.x + PADDING:.1f}" y="{y:.1f}" fill="{ink}"{weight}>{_text(text)}</text>')
    return "\n".join(parts)


def _text(text: str) -> str:
    """As XML has it; what is not printable is not in a picture."""
    shown = "".join(c if c.isprintable() else "?" for c in text)
    return shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
