"""What the commands that look at networks are given: the ends of a trace. Pure; see parse.py for the errors."""

from __future__ import annotations

from minidocker.errors import UsageError
from minidocker.spec.parse import choice, number, refused
from minidocker.spec.parse_network import LARGEST_PORT, packed6

PROTOCOLS = ("tcp", "udp", "icmp")


def target(text: str) -> tuple[str, int]:
    """`web:80`, `192.0.2.2`, `[fd00::1]:80`, `fd00::1` as (name or address, port or 0)."""
    if packed6(text) is not None:
        return text, 0
    host, colon, port = text.rpartition(":")
    if not colon:
        return text, 0
    value = number(port)
    if value is None or not 0 < value <= LARGEST_PORT or not host:
        raise refused("TO", text, "NAME, NAME:PORT, ADDRESS:PORT or [ADDRESS]:PORT, as in web:80")
    if "[" in host or "]" in host:
        host = host.removeprefix("[").removesuffix("]")
        if f"[{host}]:{port}" != text or packed6(host) is None:
            raise refused("TO", text, "what is in brackets is no IPv6 address")
    return host, value


def protocol(text: str | None, port: int) -> str:
    """The protocol asked for, else tcp where there is a port and icmp where there is none."""
    chosen = choice("--proto", text, PROTOCOLS) if text is not None else "tcp" if port else "icmp"
    if chosen == "icmp" and port:
        raise UsageError("--proto icmp has no ports", "leave the port out")
    if chosen != "icmp" and not port:
        raise UsageError(f"--proto {chosen} needs a port", "give it as in web:80")
    return chosen
