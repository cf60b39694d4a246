"""Living with other firewalls of the host: what of theirs would drop what containers send, and docker's own place for exceptions.

Every base chain at the forward hook has its say, and one drop is enough: our table cannot overrule a foreign one, and does not touch it.
There is one exception, which docker means for this: its chain DOCKER-USER, which it never flushes, gets one rule per direction of each
bridge of ours, with our comment, and loses them with the network. For all others there is a notice that says what to type.
"""

from __future__ import annotations

from minidocker.kernel import nftables
from minidocker.kernel.nftables import quoted
from minidocker.network.ownership import FAMILY, link_alias, table
from minidocker.plan import NETWORK, At, Step, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minidocker.spec.records import Network

_HOOK = ("ip", "filter", "DOCKER-USER")
_DOCKERS = ("ip", "filter", "FORWARD")
_FAMILIES = ("ip", "inet")


class Seen:
    """The foreign rules that matter to forwarding: `hook` whether docker's chain is there and docker drops by policy; `drops` the base
    chains (family, table, chain) that let nothing pass which they do not know; `ufw` whether ufw's chains are."""

    __slots__ = ("drops", "hook", "ufw")

    def __init__(self, ruleset: list[dict[str, Any]], tag: str) -> None:
        chains = {_key(item["chain"], "name"): item["chain"] for item in ruleset if "chain" in item}
        last: dict[tuple[str, str, str], dict[str, Any]] = {}
        for item in ruleset:
            if "rule" in item:
                last[_key(item["rule"], "chain")] = item["rule"]
        closed = [
            key for key, chain in chains.items()
            if chain.get("hook") == "forward" and key[0] in _FAMILIES and key[:2] != (FAMILY, table(tag))
            and (chain.get("policy") == "drop" or _ends_all(last.get(key)))
        ]  # fmt: skip
        self.hook = _HOOK in chains and _DOCKERS in closed
        self.ufw = ("ip", "filter", "ufw-before-forward") in chains
        self.drops = [key for key in closed if not (self.hook and key == _DOCKERS)]


def _key(item: dict[str, Any], name: str) -> tuple[str, str, str]:
    return item["family"], item["table"], item[name]


def _ends_all(rule: dict[str, Any] | None) -> bool:
    """Whether a chain's last rule drops or rejects whatever came so far (firewalld's way)."""
    statements = [statement for statement in (rule or {}).get("expr", []) if "counter" not in statement]
    return len(statements) == 1 and ("drop" in statements[0] or "reject" in statements[0])


def seen(tag: str) -> Seen:
    """Read it. Cold: the whole ruleset, by nft."""
    return Seen(nftables.list_ruleset_json(), tag)


def may_have_hook() -> bool:
    """Whether docker's chain may be there: one message to the kernel, and no nft."""
    return nftables.table_exists(*_HOOK[:2])


def advice(drops: Seen, bridge: str) -> list[str]:
    """For each foreign chain that drops: which, and what to type; one line each."""
    drop = f"of another firewall drops what containers of `{bridge}` send; to let it pass"
    return [f"{' '.join(key)} {drop}: {_command(key, drops.ufw, bridge)}" for key in drops.drops]


def _command(key: tuple[str, str, str], ufw: bool, bridge: str) -> str:
    family, name, chain = key
    if name == "firewalld":
        return f"firewall-cmd --zone=trusted --add-interface={quote(bridge)}"
    if key == _DOCKERS and ufw:
        return f"ufw route allow in on {quote(bridge)} && ufw route allow out on {quote(bridge)}"
    if key == _DOCKERS:
        return f"iptables -I FORWARD -i {quote(bridge)} -j ACCEPT && iptables -I FORWARD -o {quote(bridge)} -j ACCEPT"
    rules = (f"nft insert rule {family} {name} {chain} {way} {bridge} accept" for way in ("iifname", "oifname"))
    return " && ".join(rules)


class Admit(Step):
    """Two rules in docker's chain DOCKER-USER: what our table lets pass, docker's lets pass, too."""

    title = NETWORK
    why = "docker drops what it does not know; this is its place for exceptions, and what is denied in our table stays denied"

    def __init__(self, network: Network, tag: str) -> None:
        self.network = network
        self.tag = tag
        self.comment = link_alias(tag, network.id)

    def _rules(self) -> list[str]:
        rest = f"{quoted(self.network.bridge)} counter accept comment {quoted(self.comment)}"
        return [f"insert rule {' '.join(_HOOK)} {way} {rest}" for way in ("iifname", "oifname")]

    def shell(self) -> str:
        return "\n".join(f"nft {quote(rule)}" for rule in self._rules())

    def apply(self, at: At) -> None:
        if not _handles(self.comment):
            nftables.apply("".join(f"{rule}\n" for rule in self._rules()))

    def undo(self, at: At) -> None:
        Withdraw(self.network, self.tag).apply(at)


class Withdraw(Step):
    """Take our rules out of docker's chain again; nothing where there are none."""

    title = NETWORK
    why = "docker's chain as it was"

    def __init__(self, network: Network, tag: str) -> None:
        self.comment = link_alias(tag, network.id)

    def shell(self) -> str:
        chain = " ".join(_HOOK)
        return (f"for handle in $(nft -a list chain {chain} | grep -F {quote(self.comment)} | sed 's/.*# handle //'); do\n"
                f"  nft delete rule {chain} handle $handle\ndone")  # fmt: skip

    def apply(self, at: At) -> None:
        nftables.apply("".join(f"delete rule {' '.join(_HOOK)} handle {handle}\n" for handle in _handles(self.comment)))


def _handles(comment: str) -> list[int]:
    rules = (item["rule"] for item in nftables.list_ruleset_json() if "rule" in item)
    return [rule["handle"] for rule in rules if _key(rule, "chain") == _HOOK and rule.get("comment") == comment]
