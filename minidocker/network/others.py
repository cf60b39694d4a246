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
    from collections.abc import Collection, Sequence
    from typing import Any

    from minidocker.spec.records import Network

Chain = tuple[str, str, str]  # family, table, name

_HOOK = ("ip", "filter", "DOCKER-USER")
_DOCKERS = ("ip", "filter", "FORWARD")
_DOCKERS6 = ("ip6", "filter", "FORWARD")
_IPTABLES_INPUT = ("ip", "filter", "INPUT")
_FAMILIES = ("ip", "ip6", "inet")


class Seen:
    """The foreign rules that matter to containers: `hook` whether docker's chain is there and docker drops by policy; `drops` the base
    chains (family, table, chain) at the forward hook, and `refuses` those at the input hook, that let nothing pass which they do not know;
    `ufw` whether ufw's chains are there. `knows` says whether a base chain has a rule, itself or in a chain that it leads to, which lets a
    bridge pass."""

    __slots__ = ("_accepting", "_rules", "drops", "hook", "refuses", "ufw")

    def __init__(self, ruleset: list[dict[str, Any]], tag: str) -> None:
        chains = {_key(item["chain"], "name"): item["chain"] for item in ruleset if "chain" in item}
        self._rules: dict[Chain, list[dict[str, Any]]] = {key: [] for key in chains}
        for item in ruleset:
            if "rule" in item:
                self._rules.setdefault(_key(item["rule"], "chain"), []).append(item["rule"])
        self._accepting = {key for key, rules in self._rules.items() if _ends_all(rules, ("accept",))}
        closed = [
            key for key, chain in chains.items()
            if key[0] in _FAMILIES and key[:2] != (FAMILY, table(tag)) and (chain.get("policy") == "drop" or _ends_all(self._rules[key]))
        ]  # fmt: skip
        forward = [key for key in closed if chains[key].get("hook") == "forward"]
        self.hook = _HOOK in chains and _DOCKERS in forward
        self.ufw = ("ip", "filter", "ufw-before-forward") in chains
        self.drops = [key for key in forward if not (self.hook and key == _DOCKERS)]
        self.refuses = [key for key in closed if chains[key].get("hook") == "input" and key[0] != "ip6"]  # DNS is asked by IPv4

    def knows(self, key: Chain, bridge: str) -> bool:
        return any(bridge in _let_pass(rule, self._accepting) for chain in self._led_to(key) for rule in self._rules.get(chain, ()))

    def _led_to(self, key: Chain) -> set[Chain]:
        """The chain, and all that a packet in it may be led to."""
        found, waiting = {key}, [key]
        while waiting:
            targets = {target for rule in self._rules.get(waiting.pop(), ()) for target in _targets(rule)} - found
            found |= targets
            waiting += targets
        return found


def _let_pass(rule: dict[str, Any], accepting: Collection[Chain]) -> list[str]:
    """The interfaces by which a rule lets come in what it then accepts, itself or by a chain that does (a zone of firewalld's)."""
    statements = rule.get("expr", [])
    if not any("accept" in statement for statement in statements) and not any(target in accepting for target in _targets(rule)):
        return []
    matches = (statement["match"] for statement in statements if "match" in statement)
    return [str(match["right"]) for match in matches if match.get("left") == {"meta": {"key": "iifname"}}]


def _targets(rule: dict[str, Any]) -> list[Chain]:
    """The chains to which a rule leads."""
    place = rule["family"], rule["table"]
    return [(*place, one[verb]["target"]) for one in rule.get("expr", []) for verb in ("goto", "jump") if verb in one]


def _key(item: dict[str, Any], name: str) -> Chain:
    return item["family"], item["table"], item[name]


def _ends_all(rules: Sequence[dict[str, Any]], verdicts: Collection[str] = ("drop", "reject")) -> bool:
    """Whether a chain's last rule drops or rejects whatever came so far (firewalld's way), or has another one of `verdicts` for it."""
    statements = [statement for rule in rules[-1:] for statement in rule.get("expr", []) if "counter" not in statement]
    return len(statements) == 1 and any(verdict in statements[0] for verdict in verdicts)


def seen(tag: str) -> Seen:
    """Read it. Cold: the whole ruleset, by nft."""
    return Seen(nftables.list_ruleset_json(), tag)


def may_have_hook() -> bool:
    """Whether docker's chain may be there: one message to the kernel, and no nft."""
    return nftables.table_exists(*_HOOK[:2])


def advice(seen: Seen, bridge: str, ipv6: bool = False) -> list[str]:
    """For each foreign chain that drops, and has no rule for the bridge: which, and what to type; one line each. What is of IPv6 alone
    matters to a network that has it, `ipv6`."""
    drop = f"of another firewall drops what containers of `{bridge}` send; to let it pass"
    refuse = f"of another firewall drops what containers of `{bridge}` ask this host, their DNS among it; to let that pass"
    drops = (key for key in seen.drops if not seen.knows(key, bridge) and (ipv6 or key[0] != "ip6"))
    lines = [f"{' '.join(key)} {drop}: {passing(key, seen.ufw, bridge)}" for key in drops]
    return lines + [f"{' '.join(key)} {refuse}: {_admit(key, seen.ufw, bridge)}" for key in seen.refuses if not seen.knows(key, bridge)]


def passing(key: Chain, ufw: bool, bridge: str) -> str:
    """What to type so that a foreign base chain at the forward hook lets a bridge pass."""
    family, name, chain = key
    if name == "firewalld":
        return _zone(bridge)
    if key in (_DOCKERS, _DOCKERS6) and ufw:
        return f"ufw route allow in on {quote(bridge)} && ufw route allow out on {quote(bridge)}"
    if key in (_DOCKERS, _DOCKERS6):
        program = "ip6tables" if key == _DOCKERS6 else "iptables"
        return f"{program} -I FORWARD -i {quote(bridge)} -j ACCEPT && {program} -I FORWARD -o {quote(bridge)} -j ACCEPT"
    rules = (f"nft insert rule {family} {name} {chain} {way} {bridge} accept" for way in ("iifname", "oifname"))
    return " && ".join(rules)


def _admit(key: Chain, ufw: bool, bridge: str) -> str:
    family, name, chain = key
    if name == "firewalld":
        return _zone(bridge)
    if key == _IPTABLES_INPUT and ufw:
        return f"ufw allow in on {quote(bridge)} to any port 53"
    if key == _IPTABLES_INPUT:
        return " && ".join(f"iptables -I INPUT -i {quote(bridge)} -p {kind} --dport 53 -j ACCEPT" for kind in ("udp", "tcp"))
    return f"nft insert rule {family} {name} {chain} iifname {bridge} meta l4proto {{ tcp, udp }} th dport 53 accept"


def _zone(bridge: str) -> str:
    return f"firewall-cmd --zone=trusted --add-interface={quote(bridge)}"


def blind() -> str:
    """The name of a firewall that is active here and does not see what is led to containers: "ufw", "firewalld" or "". Three messages."""
    if nftables.table_exists("inet", "firewalld"):
        return "firewalld"
    return "ufw" if nftables.chain_exists("ip", "filter", "ufw-before-input") else ""


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
