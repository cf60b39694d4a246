"""Our nftables tables (ruleset.py) as steps: made with the first network, changed by elements, gone with the last network.

What a container needs is added and removed by messages of our own (kernel/nfset.py, a tenth of a millisecond); what a network
needs by nft, which alone knows intervals and rules.
"""

from __future__ import annotations

import errno

from minidocker.errors import ConflictError, KernelError
from minidocker.kernel import nfset, nftables
from minidocker.network import ruleset
from minidocker.network.ownership import FAMILY, FRAMES, installed, table
from minidocker.network.ruleset import adding, removing, texts
from minidocker.plan import NETWORK, At, Step, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from minidocker.kernel.nfset import Element
    from minidocker.spec.records import Endpoint

_FEW = 6


class Change(Step):
    """Elements of one container in one of our tables; undone by removing them."""

    title = NETWORK

    def __init__(self, tag: str, family: str, elements: Sequence[Element], why: str) -> None:
        self.tag = tag
        self.family = family
        self.elements = list(elements)
        self.why = why

    def shell(self) -> str:
        return _typed(adding(self.tag, texts(self.elements), self.family))

    def describe(self) -> str:
        return f"change nftables table `{self.family} {table(self.tag)}`"

    def apply(self, at: At) -> None:
        nfset.change(self.family, table(self.tag), self.elements)

    def undo(self, at: At) -> None:
        nfset.remove(self.family, table(self.tag), self.elements)


class Guard(Change):
    """The container's port of the bridge: what it may send with."""

    def __init__(self, tag: str, endpoint: Endpoint) -> None:
        super().__init__(tag, FRAMES, ruleset.sender_elements(endpoint), "from its port only its own MAC and addresses are let in")


class Publish(Change):
    """The container's published ports, in one transaction."""

    def __init__(self, tag: str, endpoint: Endpoint) -> None:
        from minidocker.network import publish  # only with -p

        self.endpoint = endpoint
        super().__init__(tag, FAMILY, publish.elements(endpoint), "its published ports")

    def apply(self, at: At) -> None:
        try:
            super().apply(at)
        except KernelError as error:
            if error.errno != errno.EEXIST:
                raise
            ports = ", ".join(map(str, self.endpoint.ports))
            raise ConflictError(f"publish {ports}: a port is published by another container already",
                                "see which: minidocker ps") from error


class Remove(Change):
    """Take elements of a container out of a table; what is gone already, the whole table included, is no matter, and none is put back."""

    def shell(self) -> str:
        return _typed(removing(self.tag, texts(self.elements), self.family))

    def apply(self, at: At) -> None:
        super().undo(at)

    def undo(self, at: At) -> None:
        """What was taken back stays so."""


class Rules(Step):
    """One nft transaction that makes the tables or a network's part of them; undone by removing the elements it added."""

    title = NETWORK

    def __init__(self, tag: str, script: str, why: str, added: Sequence[str] = ()) -> None:
        self.tag = tag
        self.script = script
        self.why = why
        self.added = list(added)

    def shell(self) -> str:
        return _typed(self.script)

    def describe(self) -> str:
        return f"change nftables tables `{table(self.tag)}`"

    def apply(self, at: At) -> None:
        nftables.apply(self.script)

    def undo(self, at: At) -> None:
        remove(self.tag, self.added)


class Install(Rules):
    """Make the tables and add a network to them; undone to nothing at all where this was the first network."""

    def undo(self, at: At) -> None:
        remove(self.tag, self.added)
        if installed(self.tag) and not _elements(table(self.tag), "bridges"):
            nftables.apply(ruleset.deletion(self.tag))


class RemoveRules(Step):
    """Take a network's elements out of the table; what is gone already is no matter."""

    title = NETWORK
    why = "its rules go with the network"

    def __init__(self, tag: str, elements: Sequence[str]) -> None:
        self.tag = tag
        self.elements = list(elements)

    def shell(self) -> str:
        return _typed(removing(self.tag, self.elements))

    def apply(self, at: At) -> None:
        remove(self.tag, self.elements)


class Delete(Step):
    """Delete both tables, if they are there."""

    title = NETWORK
    why = "no network is left"

    def __init__(self, tag: str) -> None:
        self.tag = tag

    def shell(self) -> str:
        return f"nft delete table {FAMILY} {table(self.tag)}\nnft delete table {FRAMES} {table(self.tag)}"

    def apply(self, at: At) -> None:
        if any(nftables.table_exists(family, table(self.tag)) for family in (FAMILY, FRAMES)):
            nftables.apply(ruleset.deletion(self.tag))


def remove(tag: str, elements: Sequence[str]) -> None:
    """Remove a network's elements in one transaction; where one of them has become another's, that one stays and the others go."""
    if not elements or not nftables.table_exists(FAMILY, table(tag)):
        return
    try:
        nftables.apply(removing(tag, elements))
    except nftables.NftError as error:
        if not error.clash:
            raise
        if len(elements) > 1:
            for element in elements:
                remove(tag, [element])


def guarded_by_others(tag: str) -> tuple[set[str], set[str], set[str]]:
    """The uplinks, of IPv4 and of IPv6, that networks of other data roots on this host keep from forwarding what is not theirs, and those
    that for their sake believe router advertisements though the host forwards. Cold."""
    found: tuple[set[str], set[str], set[str]] = (set(), set(), set())
    for name in nftables.tables(FAMILY):
        if name.startswith(table("")) and name != table(tag):
            for one, which in zip(found, ("uplinks", "uplinks6", "advertised"), strict=True):
                one.update(_elements(name, which))
    return found


def _elements(table_name: str, set_name: str) -> list[str]:
    """The elements of a set of strings. Cold."""
    listed = nftables.list_table_json(FAMILY, table_name)
    return [str(element) for item in listed if item.get("set", {}).get("name") == set_name for element in item["set"].get("elem", ())]


def _typed(script: str) -> str:
    """A few changes as commands of their own; many as one, by a here-string, not a here-document: it may be indented where it is shown."""
    lines = script.splitlines()
    if len(lines) <= _FEW:
        return "\n".join(f"nft {quote(line)}" for line in lines)
    return f"nft -f - <<< {quote(script)}"
