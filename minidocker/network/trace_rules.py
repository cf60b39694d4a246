"""What a trace has nftables say: the tables that mark a probe's packets, and everybody's rules by the handles that the answers name.

Our tables have a chain before everybody else's and one after, at each hook: so it is seen how far a packet came where no rule of anybody's
matched it, too. They bear `flags owner`: they go with the process.
"""

from __future__ import annotations

from minidocker.kernel.packet import ICMP, ICMP6, TCP, UDP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_FIRST, _LAST, _TRACKED = -(1 << 31), (1 << 31) - 1, -190  # priorities: the last is just after connection tracking's, -200
_HOOKS = ("prerouting", "input", "forward", "output", "postrouting")
FIRST, LAST = "first", "last"
_MARK = "meta nftrace set 1"


class Spec:
    """Whose packets are marked: `protocol` a number, `source` and `destination` "" for any, `port` the source port (or the echo's number)
    of a probe, `destination_port` 0 for any. Of real traffic (`listen`) `port` is 0, and the first and last packets of a connection are
    meant, by at most so many a second."""

    __slots__ = ("destination", "destination_port", "ipv6", "port", "protocol", "source")

    def __init__(self, protocol: int, source: str, destination: str, port: int, destination_port: int, ipv6: bool) -> None:
        self.protocol, self.source, self.destination = protocol, source, destination
        self.port, self.destination_port, self.ipv6 = port, destination_port, ipv6

    def marks(self, exact: bool) -> list[str]:
        """The rules for packets that no address translation has touched; where it may have (`exact` False), those of the port alone."""
        family, name = ("ip6" if self.ipv6 else "ip"), {TCP: "tcp", UDP: "udp", ICMP: "icmp", ICMP6: "icmpv6"}[self.protocol]
        if self.protocol in (ICMP, ICMP6):
            echo = f"{name} id {self.port}"
            return [f"{name} type {{ echo-request, echo-reply }} {echo} {_MARK}"]
        there = f"{family} saddr {self.source} {family} daddr {self.destination} " if exact else ""
        to = f" {name} dport {self.destination_port}" if exact else ""
        return [f"{there}{name} sport {self.port}{to} {_MARK}", f"{name} dport {self.port} {_MARK}"]

    def tracked(self) -> list[str]:
        """The rules for answers that have another port by now, and for errors about the probe's flow."""
        if self.protocol in (ICMP, ICMP6):
            return []
        family, name, errors = ("ip6", "icmpv6", ICMP6) if self.ipv6 else ("ip", "icmp", ICMP)
        flow = f"ct original {family} saddr {self.source} ct original {family} daddr {self.destination}"
        protocol = {TCP: "tcp", UDP: "udp"}[self.protocol]
        return [f"{flow} meta l4proto {protocol} ct original proto-src {self.port} {_MARK}",
                f"{flow} ct original protocol {protocol} meta l4proto {errors} {name} type destination-unreachable {_MARK}"]


class Watch(Spec):
    """The same for real traffic between any of `sources` and any of `destinations` (empty: anybody), to any of `ports`."""

    __slots__ = ("destinations", "ports", "sources")

    def __init__(self, protocol: int, sources: Sequence[str], destinations: Sequence[str], ports: Sequence[int], ipv6: bool) -> None:
        super().__init__(protocol, "", "", 0, 0, ipv6)
        self.sources, self.destinations, self.ports = sources, destinations, ports

    def marks(self, exact: bool) -> list[str]:
        """Of TCP what opens and ends a connection, and not the data between."""
        family, name = self._names()
        found = []
        for way, back, port in (("saddr", "daddr", "dport"), ("daddr", "saddr", "sport")):
            words = _among(f"{family} {way}", self.sources) + _among(f"{family} {back}", self.destinations)
            words += _among(f"{name} {port}", [str(number) for number in self.ports])
            found.append(f"meta nfproto {'ipv6' if self.ipv6 else 'ipv4'}{words}{self._which(name)}")
        return found

    def tracked(self) -> list[str]:
        """Answers that are on their way to where the sender seemed to be."""
        family, name = self._names()
        words = _among(f"ct original {family} saddr", self.sources) + _among(f"ct original {family} daddr", self.destinations)
        ports = _among(f"{name} sport", [str(number) for number in self.ports])
        return [f"ct direction reply{words}{ports}{self._which(name)}"] if words else []

    def _names(self) -> tuple[str, str]:
        return "ip6" if self.ipv6 else "ip", {TCP: "tcp", UDP: "udp", ICMP: "icmp", ICMP6: "icmpv6"}[self.protocol]

    def _which(self, name: str) -> str:
        which = {TCP: "tcp flags & (syn | rst | fin) != 0x0", UDP: "meta l4proto udp"}.get(
            self.protocol, f"{name} type {{ echo-request, echo-reply }}")
        return f" {which} limit rate 50/second burst 50 packets {_MARK}"


def _among(key: str, values: Sequence[str]) -> str:
    return f" {key} {{ {', '.join(values)} }}" if values else ""


def script(name: str, spec: Spec, host: bool) -> str:
    """Both tables, for the host's namespace or a container's, which is not made to track connections for our sake."""
    marks = spec.marks(exact=host)
    return _table("inet", name, marks, spec.tracked() if host else []) + (_table("bridge", name, _bridged(marks), []) if host else "")


def _bridged(marks: Sequence[str]) -> list[str]:
    return [mark.replace("meta nfproto ipv4", "ether type ip").replace("meta nfproto ipv6", "ether type ip6") for mark in marks]


def _table(family: str, name: str, marks: Sequence[str], tracked: Sequence[str]) -> str:
    lines = [f"table {family} {name} {{", "flags owner"]
    for hook in _HOOKS:
        rules = "; ".join(marks) + "; " if hook in ("prerouting", "output") and marks else ""
        lines.append(f"chain {FIRST}_{hook} {{ type filter hook {hook} priority {_FIRST}; {rules}}}")
        if tracked and hook in ("prerouting", "output"):
            lines.append(f"chain tracked_{hook} {{ type filter hook {hook} priority {_TRACKED}; {'; '.join(tracked)}; }}")
        lines.append(f"chain {LAST}_{hook} {{ type filter hook {hook} priority {_LAST}; }}")
    return "\n".join([*lines, "}\n"])


class Rules:
    """Everybody's rules of one namespace: `text(family, table, handle)`, and of each chain the hook that it is at ("": it is led to)."""

    __slots__ = ("_rules", "hooks")

    def __init__(self, listed: str) -> None:
        self._rules: dict[tuple[str, str, int], str] = {}
        self.hooks: dict[tuple[str, str, str], str] = {}
        family = table = chain = pending = ""
        for line in map(str.strip, listed.splitlines()):
            words = line.split()
            body, _, handle = line.rpartition(" # handle ")
            if line.startswith("table ") and len(words) >= 3:
                family, table, chain = words[1], words[2], ""
            elif words[:1] == ["chain"] and line.partition(" # ")[0].endswith("{"):
                chain, pending = words[1], ""
                self.hooks[family, table, chain] = ""
            elif chain and words[:1] == ["type"] and "hook" in words:
                self.hooks[family, table, chain] = words[words.index("hook") + 1]
            elif line == "}":
                chain = pending = ""
            elif chain and body and handle.isdigit():
                self._rules[family, table, int(handle)] = f"{pending} {body}".strip()
                pending = ""
            elif chain and line:
                pending = f"{pending} {line}".strip()

    def text(self, family: str, table: str, handle: int) -> str:
        return self._rules.get((family, table, handle), f"rule {handle}, which is gone")
