"""A topology as text: a tree for a terminal, Graphviz's DOT, Mermaid. Pure."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from minidocker.network.topology import Joint, Segment, Topology, Uplink

    Piece = tuple[str, str]  # style, text
    Rates = dict[int, tuple[float, float, float, float]]  # link index: packets and bytes a second, in and out

PLAIN, LINK, NAME, ADDRESS, GREY, BAD = "plain", "link", "name", "address", "grey", "bad"
_UNITS = ("B/s", "kB/s", "MB/s", "GB/s")


def tree(topology: Topology, rates: Rates | None = None) -> list[list[Piece]]:
    """Lines of (style, text); whoever prints them colours and cuts them."""
    branches: list[tuple[list[Piece], list[list[list[Piece]]]]] = [(_uplink(one, rates), []) for one in topology.uplinks]
    branches += [_segment(one, rates) for one in topology.segments]
    if topology.routes:
        branches.append(([(PLAIN, "routes")], [[[(GREY, route)]] for route in topology.routes]))
    lines: list[list[Piece]] = [[(NAME, topology.host), (PLAIN, "  this host")]]
    for number, (head, twigs) in enumerate(branches):
        last = number == len(branches) - 1
        lines.append([(GREY, "└─ " if last else "├─ "), *head])
        for place, twig in enumerate(twigs):
            ends = place == len(twigs) - 1
            stem = "   " if last else "│  "
            lines.append([(GREY, stem + ("└─ " if ends else "├─ ")), *twig[0]])
            lines += [[(GREY, stem + ("   " if ends else "│  ") + "     "), *leaf] for leaf in twig[1:]]
    return lines


def _uplink(one: Uplink, rates: Rates | None) -> list[Piece]:
    pieces = [(LINK, one.name), (PLAIN, "  "), (ADDRESS, ", ".join(one.addresses) or "no address")]
    pieces += [(PLAIN, f"  default by {', '.join(one.gateways)}")] if one.gateways else []
    return pieces + ([] if one.is_up else [(BAD, "  down")]) + _rate(rates, one.index)


def _segment(one: Segment, rates: Rates | None) -> tuple[list[Piece], list[list[list[Piece]]]]:
    if not one.ours:
        head = [(GREY, "  ".join(filter(None, (one.link, ", ".join(one.addresses), ", ".join(one.notes)))))]
        return head + _rate(rates, one.index), [[[(GREY, joint.link), *_rate(rates, joint.index)]] for joint in one.joints]
    head = [(LINK, one.link or one.name), (PLAIN, "  "), (ADDRESS, ", ".join(one.addresses or one.subnets))]
    head += [(PLAIN, f"  network {one.name}")] if one.link not in ("", one.name) else []
    bad = any(note.startswith(("NOT", "its bridge", "down")) for note in one.notes)
    head += [(BAD if bad else GREY, f"  {', '.join(one.notes)}")] if one.notes else []
    return head + _rate(rates, one.index), [_joint(joint, rates) for joint in one.joints]


def _joint(joint: Joint, rates: Rates | None) -> list[list[Piece]]:
    cable: list[Piece] = [(LINK, joint.link), (PLAIN, " ══ ")] if joint.link else []
    first = [*cable, (PLAIN, f"{joint.interface}  "), (NAME, joint.container), (PLAIN, "  "), (ADDRESS, ", ".join(joint.addresses)),
             (GREY, f"  {joint.mac}")]  # fmt: skip
    first += [(BAD, "  down")] if joint.index and not joint.is_up else []
    return [first + _rate(rates, joint.index), *([(PLAIN, f"{outer} ─► {inner}")] for outer, inner in joint.ports)]


def _rate(rates: Rates | None, index: int) -> list[Piece]:
    if rates is None or index not in rates:
        return []
    packets_in, packets_out, bytes_in, bytes_out = rates[index]
    return [(PLAIN, f"  ↓ {packets_in:.0f} p/s {size(bytes_in)}  ↑ {packets_out:.0f} p/s {size(bytes_out)}")]


def size(bytes_a_second: float) -> str:
    """`812 B/s`, `1.3 MB/s`."""
    value = bytes_a_second
    for unit in _UNITS[:-1]:
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B/s" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} {_UNITS[-1]}"


def rates(before: Mapping[int, tuple[int, ...]], now: Mapping[int, tuple[int, ...]], seconds: float) -> Rates:
    """What was carried a second, of those links that were there before."""
    found: Rates = {}
    for index, counted in now.items():
        if index in before and seconds > 0:
            a, b, c, d = ((new - old) / seconds for new, old in zip(counted, before[index], strict=True))
            found[index] = (a, b, c, d)
    return found


# --- for other programs' layout -----------------------------------------------------------------------------------------------------------


def dot(topology: Topology) -> str:
    """Graphviz's language: `dot -Tsvg`."""
    lines = ["graph minidocker {", '  rankdir=TB; node [shape=box, style=rounded, fontname="sans-serif"]; edge [fontname="sans-serif"];',
             f"  host [label={_dot((topology.host, 'this host'))}, style=bold];"]  # fmt: skip
    for number, uplink in enumerate(topology.uplinks):
        lines += [f"  up{number} [label={_dot((uplink.name, *uplink.addresses))}];", f"  up{number} -- host;"]
        lines += [f"  out{number} [label={_dot(('outside', *uplink.gateways))}, shape=ellipse]; out{number} -- up{number};"] if (
            uplink.gateways) else []  # fmt: skip
    for number, segment in enumerate(topology.segments):
        grey = "" if segment.ours else ", color=gray, fontcolor=gray"
        lines.append(f"  net{number} [label={_dot(_words(segment))}{grey}];")
        lines += [f"  host -- net{number}{' [color=gray]' if grey else ''};"] if segment.driver != "ptp" else []
        for place, joint in enumerate(segment.joints):
            node = f"c{number}_{place}"
            lines.append(f"  {node} [label={_dot((joint.container or joint.link, *_facts(joint)))}{grey}];")
            lines.append(f"  net{number} -- {node} [label={_dot((joint.link, joint.interface))}{grey}];")
    return "\n".join([*lines, "}"]) + "\n"


def _words(segment: Segment) -> list[str]:
    return [segment.name, segment.link if segment.link != segment.name else "", *(segment.addresses or segment.subnets), *segment.notes]


def _facts(joint: Joint) -> list[str]:
    return [*joint.addresses, joint.mac, *(f"{outer} -> {inner}" for outer, inner in joint.ports)]


def _dot(words: Sequence[str]) -> str:
    text = "\\n".join(word.replace("\\", "\\\\").replace('"', '\\"') for word in words if word)
    return f'"{text}"'


def mermaid(topology: Topology) -> str:
    """Mermaid's language, as forges render it in Markdown."""
    lines = ["flowchart TB", f"  host[{_mermaid((topology.host, 'this host'))}]"]
    for number, uplink in enumerate(topology.uplinks):
        lines.append(f"  up{number}[{_mermaid((uplink.name, *uplink.addresses))}] --- host")
        if uplink.gateways:
            lines.append(f"  out{number}([{_mermaid(('outside', *uplink.gateways))}]) --- up{number}")
    for number, segment in enumerate(topology.segments):
        style = "" if segment.ours else ":::foreign"
        node = f"net{number}[{_mermaid(_words(segment))}]{style}"
        lines.append(f"  {node}" if segment.driver == "ptp" else f"  host --- {node}")
        for place, joint in enumerate(segment.joints):
            cable = _mermaid((" ".join(filter(None, (joint.link, joint.interface))) or "-",))
            words = (joint.container or joint.link, *_facts(joint))
            lines.append(f"  net{number} ---|{cable}| c{number}_{place}[{_mermaid(words)}]{style}")
    return "\n".join([*lines, "  classDef foreign stroke:#999,color:#999"]) + "\n"


def _mermaid(words: Sequence[str]) -> str:
    escaped = (word.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;") for word in words if word)
    return f'"{"<br/>".join(escaped)}"'
