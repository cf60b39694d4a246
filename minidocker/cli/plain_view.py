"""The commands that show networks as they are: graph, trace."""

from __future__ import annotations

import os
import time

from minidocker.cli import output
from minidocker.cli.table import cells_of, shorten, terminal_width
from minidocker.errors import KernelError, UsageError
from minidocker.spec import parse, parse_view, template

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minidocker.cli.call import Call
    from minidocker.engine.host import Host
    from minidocker.network.graph_text import Piece, Rates
    from minidocker.network.topology import Topology
    from minidocker.network.trace import Journey
    from minidocker.network.trace_path import Hop, Passage

_RED, _GREEN, _BOLD, _GREY, _PLAIN = "\x1b[31m", "\x1b[32m", "\x1b[1m", "\x1b[90m", "\x1b[0m"
_WIDTH = 11
_BLUE, _CYAN = "\x1b[34m", "\x1b[36m"
_HOME_AND_CLEAR = "\x1b[H\x1b[J"
_STYLES = {"link": _CYAN, "name": _BOLD, "address": _BLUE, "grey": _GREY, "bad": _RED}
_FORMATS = ("tree", "svg", "png", "dot", "mermaid", "json")


def colour(code: str, text: str) -> str:
    """`text` in colour where stdout is a terminal and nobody has said NO_COLOR (no-color.org)."""
    return f"{code}{text}{_PLAIN}" if os.isatty(output.STDOUT) and not os.environ.get("NO_COLOR") else text


def graph(call: Call) -> int:
    """`network graph`"""
    path = call.text("output")
    suffix = (path or "").rpartition(".")[2]
    format = parse.choice("--format", call.text("format") or (suffix if path and suffix in _FORMATS else "tree"), _FORMATS)
    if call.flag("live") and (format != "tree" or path):
        raise UsageError("--live is for the tree on the terminal", "leave --format and -o out")
    if format == "png" and path is None and os.isatty(output.STDOUT):
        raise UsageError("a PNG is nothing for a terminal", "-o FILE.png writes it to a file")
    host = call.host()
    from minidocker.engine import graph as engine

    if call.flag("live"):
        return _live(host, call.arguments)
    data = _drawn(engine.look(host, call.arguments), format)
    if path is None:
        output.write(output.STDOUT, data)
        return 0
    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as error:
        raise KernelError.of(f"write {path}", error) from error
    return 0


def _drawn(seen: Topology, format: str) -> bytes:
    from minidocker.engine.graph import png
    from minidocker.network import graph_svg, graph_text

    if format == "png":
        return png(graph_svg.svg(seen))
    text: dict[str, Callable[[Topology], str]] = {"svg": graph_svg.svg, "dot": graph_text.dot, "mermaid": graph_text.mermaid, "tree": _tree}
    drawn = text[format](seen) if format in text else template.to_json(seen.data(), indent=4) + "\n"
    return drawn.encode("utf-8", "surrogateescape")


def _tree(seen: Topology, rates: Rates | None = None) -> str:
    from minidocker.network import graph_text

    width = terminal_width()
    return "".join(f"{_cut(line, width)}\n" for line in graph_text.tree(seen, rates))


def _cut(line: list[Piece], width: int | None) -> str:
    """A line in colour, and no wider than the terminal."""
    shown, left = [], width
    for style, text in line:
        text = output.printable(text)
        if left is not None and cells_of(text) > left:
            shown.append(colour(_STYLES.get(style, ""), shorten(text, left)) if left else "")
            break
        shown.append(colour(_STYLES[style], text) if style in _STYLES else text)
        left = left - cells_of(text) if left is not None else None
    return "".join(shown).rstrip()


def _live(host: Host, references: list[str]) -> int:
    """Until Ctrl-C; on a terminal each in the place of the one before, no longer than it is high."""
    from minidocker.engine import graph as engine

    on_terminal = os.isatty(output.STDOUT)
    try:
        for seen, rates in engine.live(host, references):
            lines = _tree(seen, rates).splitlines()
            if on_terminal:
                lines = lines[: max(1, os.get_terminal_size(output.STDOUT).lines - 1)]
            output.say_text((_HOME_AND_CLEAR if on_terminal else "") + "".join(f"{line}\n" for line in lines) + "\n" * (not on_terminal))
    except KeyboardInterrupt:
        pass
    return 0


def trace(call: Call) -> int:
    """`network trace`: 0 where an answer came and nothing is wrong, else 1."""
    from minidocker.engine import trace as engine

    format = call.text("format")
    if format is not None:
        parse.choice("--format", format, ("json",))
    target, port = parse_view.target(call.arguments[1])
    request = engine.Request(call.arguments[0], target, port, parse_view.protocol(call.text("proto"), port))
    host = call.host()
    if call.flag("listen"):
        return _listen(engine.listen(host, request), format is not None)
    journey = engine.once(host, request)
    if format is not None:
        output.say(template.to_json(_data(journey, request.protocol), indent=4))
    else:
        output.say_text(_text(journey, request.protocol))
    return 0 if journey.is_answered and journey.finding is None else 1


def _data(journey: Journey, protocol: str) -> dict[str, object]:
    finding, flow, outcome = journey.finding, journey.flow, journey.outcome
    return {
        "from": {"name": journey.source.text, "address": journey.source_address},
        "to": {"name": journey.target.text, "address": journey.target_address, "port": journey.port}, "protocol": protocol,
        "outcome": outcome.kind, "errno": outcome.errno, "said_by": outcome.offender, "hops": [hop.data() for hop in journey.path],
        "conntrack": None if flow is None else {
            "from": [flow.source, flow.source_port], "to": [flow.to, flow.to_port],
            "answered_by": [flow.answered_by, flow.answered_by_port], "answered_to": [flow.answered_to, flow.answered_to_port],
        },
        "notes": journey.notes,
        "finding": None if finding is None else {key: getattr(finding, key) for key in ("cause", "network", "found", "why", "mend")},
    }  # fmt: skip


def _text(journey: Journey, protocol: str) -> str:
    source = f"{journey.source.text} ({journey.source_address or 'no address'})"
    to = f"{journey.target.text} ({journey.target_address}{f':{journey.port}' if journey.port else ''})"
    lines = [colour(_BOLD, f"{source} to {to}, {protocol}")]
    place = way = ""
    for hop in journey.path:
        if hop.direction != way:
            way = hop.direction
            lines += ["", "the answer"] if way == "answer" else []
            place = ""
        if hop.place != place:
            place = hop.place
            lines.append(colour(_BOLD, "on the host" if place == "host" else f"in {place}"))
        lines += _lines(hop)
    flow = journey.flow
    if flow is not None and (flow.source, flow.to) != (flow.answered_to, flow.answered_by):
        lines.append(f"conntrack: {_end(flow.source, flow.source_port)} to {_end(flow.to, flow.to_port)}, answers "
                     f"{_end(flow.answered_by, flow.answered_by_port)} to {_end(flow.answered_to, flow.answered_to_port)}")
    lines += [f"note: {note}" for note in journey.notes]
    finding = journey.finding
    if finding is None:
        lines.append(colour(_GREEN, "✓ answered"))
    else:
        network = f"network `{finding.network}`: " if finding.network and f"`{finding.network}`" not in finding.found else ""
        lines += [colour(_RED, f"✗ {network}{finding.found}"), f"  why:  {finding.why}", f"  mend: {finding.mend}"]
    return "".join(f"{line}\n" for line in lines)


def _end(address: str, port: int) -> str:
    return address if not port else f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _lines(hop: Hop) -> list[str]:
    mark = colour(_RED, " ✗") if hop.dropped else ""
    if hop.kind != "rules":
        return [f"  {hop.kind:{_WIDTH}} {hop.text}{mark}"]
    head, _, chain = hop.text.partition(" ")
    first, *more = hop.steps or [""]
    lines = [f"  {head:{_WIDTH}} {colour(_GREY, chain)}: {first}", *(f"  {'':{_WIDTH + 2}} {step}" for step in more)]
    return [*lines[:-1], lines[-1] + mark]


def _listen(found: object, as_json: bool) -> int:
    """Line by line until Ctrl-C, which is how one says that it is enough."""
    from minidocker.network.trace_path import describe

    try:
        for passage in found:  # type: ignore[attr-defined]
            output.say(_heard(passage, describe(passage.packet), as_json))
    except KeyboardInterrupt:
        pass
    return 0


def _heard(passage: Passage, packet: str, as_json: bool) -> str:
    rules = [text for _, text, _ in passage.steps]
    chain = "" if passage.marker else passage.name
    now = time.strftime("%H:%M:%S")
    if as_json:
        return template.to_json({"time": now, "place": passage.place.name, "hook": passage.hook, "family": passage.family, "chain": chain,
                                 "packet": packet, "rules": rules, "verdict": passage.verdict})  # fmt: skip
    done = f"{chain}: {'; '.join(rules)}" if chain else f"came through ({passage.family})"
    return f"{now} {passage.place.name} {passage.hook:11} {packet}  {done}" + (colour(_RED, " ✗") if passage.is_dropped else "")
