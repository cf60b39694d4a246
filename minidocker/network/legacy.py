"""The other iptables: rules of x_tables, which judge packets beside nftables and stand in no `nft list ruleset`. Cold."""

from __future__ import annotations

_NAMES = (("ip_tables_names", "iptables-legacy"), ("ip6_tables_names", "ip6tables-legacy"))


def tables() -> list[tuple[str, list[str]]]:
    """(program, its tables) of those that have any, in the calling thread's network namespace."""
    found = ((program, _read(f"/proc/thread-self/net/{name}").split()) for name, program in _NAMES)
    return [(program, names) for program, names in found if names]


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except FileNotFoundError:
        return ""  # a kernel without it
