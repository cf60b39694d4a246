"""Whether our two nftables tables are what they should be: their rules counted chain by chain, their elements compared one by one. Cold."""

from __future__ import annotations

from minidocker.kernel import nftables
from minidocker.network import causes, ruleset
from minidocker.network.causes import Finding
from minidocker.network.ownership import FAMILY, FRAMES, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from minidocker.network.ruleset import Wanted

Element = tuple[str, ...]  # the set's name, then the fields of the element as nft prints them

# nft prints an address read as raw payload as a number: what is in that set comes and goes with `senders6`, which is compared.
_UNREADABLE = ("targets6",)
# It names a protocol by /etc/protocols, which small systems lack (Debian: netbase), and prints the number there: which field that is.
_PROTOCOL = {"ports": 0, "ports6": 0, "ports_at": 1, "ports6_at": 1}
_NAMES = {"6": "tcp", "17": "udp", "132": "sctp"}  # IANA's
_LEADS_OUT = ("postrouting", "subnets")


def of_tables(tag: str, wanted: Wanted) -> Iterator[Finding]:
    """What is missing from our tables, and what stands there that should not; nothing where a table is gone altogether."""
    packets, frames = ruleset.elements(wanted)
    chains = _chains(ruleset.skeleton(tag, wanted.outward.closed6))
    for family, texts in ((FAMILY, packets), (FRAMES, frames)):
        if not nftables.table_exists(family, table(tag)):
            continue
        found = nftables.list_table_json(family, table(tag))
        for where, what in _of_chains(found, chains[family]):
            yield causes.rules_changed(f"{family} {table(tag)}", what, where in _LEADS_OUT)
        should, is_there = {element(text) for text in texts}, set(elements(found))
        for one in sorted(should - is_there):
            yield causes.rules_changed(f"{family} {table(tag)}", f"set {one[0]} lacks {' . '.join(one[1:])}", one[0] in _LEADS_OUT)
        for one in sorted(is_there - should):
            yield causes.rules_changed(f"{family} {table(tag)}", f"set {one[0]} has a stray {' . '.join(one[1:])}", False)


def element(text: str) -> Element:
    """`ports { tcp . 8080 : 172.17.0.2 . 80 }`, as it is typed."""
    name, _, rest = text.partition(" { ")
    return (name, *(field.strip('"') for field in rest.removesuffix(" }").replace(" : ", " . ").split(" . ")))


def _chains(text: str) -> dict[str, dict[str, int]]:
    """family -> chain -> how many rules it has, from the script that makes both tables."""
    found: dict[str, dict[str, int]] = {}
    for part in text.split("add table ")[1:]:
        counts = found[part.partition(" ")[0]] = {}
        for chain in part.split("\tchain ")[1:]:
            body = chain.partition("\n\t}")[0].splitlines()[1:]
            counts[chain.partition(" ")[0]] = sum(bool(line.strip()) and not line.strip().startswith("type ") for line in body)
    return found


def _of_chains(found: list[dict[str, Any]], wanted: dict[str, int]) -> Iterator[tuple[str, str]]:
    """(chain, what is wrong with it)."""
    rules = [item["rule"]["chain"] for item in found if "rule" in item]
    there = {item["chain"]["name"] for item in found if "chain" in item}
    for chain, count in wanted.items():
        if chain not in there:
            yield chain, f"chain {chain} is gone"
        elif rules.count(chain) != count:
            yield chain, f"chain {chain} has {rules.count(chain)} rules, and should have {count}"
    for chain in sorted(there - set(wanted)):
        yield chain, f"chain {chain} is not of ours"


def elements(found: list[dict[str, Any]]) -> Iterator[Element]:
    """What is in the sets and maps of a table in nft's JSON."""
    for item in found:
        held = item.get("set") or item.get("map")
        if held and held["name"] not in _UNREADABLE:
            for one in held.get("elem", ()):
                fields = list(_flat(one))
                if (at := _PROTOCOL.get(held["name"])) is not None:
                    fields[at] = _NAMES.get(fields[at], fields[at])
                yield (held["name"], *fields)


def _flat(value: Any) -> Iterator[str]:
    """The fields of an element in nft's JSON (libnftables-json(5)), one by one."""
    if isinstance(value, list):
        for one in value:
            yield from _flat(one)
    elif not isinstance(value, dict):
        yield str(value)
    elif "prefix" in value:
        yield f"{value['prefix']['addr']}/{value['prefix']['len']}"
    elif "elem" in value:
        yield from _flat(value["elem"]["val"])
    else:
        for one in value.values():
            yield from _flat(one)
