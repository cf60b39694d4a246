"""Subnets and addresses: pure functions on text and integers, no state, no I/O.

A subnet is CIDR text ("172.17.0.0/24"), an address a dotted quad; both are integers only within this file (the standard
ipaddress module costs 9 ms to import). What is of IPv6 alone is in ipam6.py; who has what is judged here for both.
"""

from __future__ import annotations

from minidocker.errors import ConflictError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

DEFAULT_SUBNET = "172.17.0.0/24"
# Where the next free subnet is looked for when the default one is in use here: private space (RFC 1918), away from its
# most popular corners.
POOL = ("172.17.0.0/16", "172.18.0.0/15", "172.20.0.0/14", "172.24.0.0/13", "10.64.0.0/10", "192.168.128.0/17")
# A route wider than this is a way out (0.0.0.0/0, or a VPN's two halves of it), not a network that somebody has.
WIDEST_OCCUPIED = 8

_ALL = 0xFFFFFFFF
_RESERVED = (  # (subnet, what it is): never a network of containers (RFC 6890)
    ("0.0.0.0/8", "the addresses of \"this network\""),
    ("127.0.0.0/8", "the loopback addresses"),
    ("169.254.0.0/16", "the link-local addresses"),
    ("224.0.0.0/4", "the multicast addresses"),
    ("240.0.0.0/4", "reserved addresses"),
)


class Occupied:
    """A range of addresses somebody has: `subnet`, and `owner`, who it is in words (``route 172.17.0.0/16 dev docker0``)."""

    __slots__ = ("owner", "subnet")

    def __init__(self, subnet: str, owner: str) -> None:
        self.subnet = subnet
        self.owner = owner

    def __repr__(self) -> str:
        return f"{self.subnet} ({self.owner})"


def number(ip: str) -> int:
    """A dotted quad's value, UsageError for anything else (leading zeros too: some readers take them for octal)."""
    parts = ip.split(".")
    if len(parts) != 4 or not all(p.isascii() and p.isdigit() and len(p) <= 3 and str(int(p)) == p and int(p) < 256 for p in parts):
        raise UsageError(f"`{ip}` is not an IPv4 address", "write it like 172.17.0.2")
    a, b, c, d = (int(p) for p in parts)
    return a << 24 | b << 16 | c << 8 | d


def dotted(value: int) -> str:
    """The dotted quad of `value`."""
    return f"{value >> 24}.{value >> 16 & 255}.{value >> 8 & 255}.{value & 255}"


def split(subnet: str) -> tuple[int, int]:
    """(network address, prefix length) of well-formed CIDR text."""
    ip, _, prefix = subnet.partition("/")
    return number(ip), int(prefix)


def prefix_length(subnet: str) -> int:
    return int(subnet.partition("/")[2])


def check_subnet(subnet: str) -> str:
    """`subnet` if containers can have it; UsageError otherwise, one line that says what is wrong."""
    ip, slash, prefix = subnet.partition("/")
    if not slash or not (prefix.isascii() and prefix.isdigit()) or str(int(prefix)) != prefix or int(prefix) > 32:
        raise UsageError(f"subnet `{subnet}`: not of the form ADDRESS/PREFIX", "write it like 10.9.0.0/24")
    base, bits = number(ip), int(prefix)
    if bits > 30:
        raise UsageError(f"subnet `{subnet}` has no room for a gateway and a container", "the smallest is a /30")
    if bits < WIDEST_OCCUPIED:
        raise UsageError(f"subnet `{subnet}` is wider than any private network", "the widest is a /8, like 10.0.0.0/8")
    if base & ~_mask(bits):
        right = f"{dotted(base & _mask(bits))}/{bits}"
        raise UsageError(f"subnet `{subnet}` has host bits set", f"did you mean {right}?")
    for reserved, what in _RESERVED:
        if _overlapping(split(subnet), split(reserved)):
            raise UsageError(f"subnet `{subnet}` lies in {what} ({reserved})", "take one from 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16")
    return subnet


def gateway(subnet: str) -> str:
    """The subnet's first address."""
    return dotted(split(subnet)[0] + 1)


def check_gateway(subnet: str, ip: str) -> str:
    """`ip` if it can be the subnet's gateway."""
    value = number(ip)
    first, last = _hosts(subnet)
    if not first <= value <= last:
        raise UsageError(f"gateway `{ip}` is not a host address of subnet {subnet}", f"take one of {dotted(first)} to {dotted(last)}")
    return ip


def check_address(subnet: str, gateway: str, ip: str) -> str:
    """`ip` (from --ip) if a container can ever have it, else UsageError; who has it now is for the leases to say."""
    value = number(ip)
    first, last = _hosts(subnet)
    if not first <= value <= last:
        what = {first - 1: "the network address of", last + 1: "the broadcast address of"}.get(value, "outside of")
        raise UsageError(f"address `{ip}` is {what} subnet {subnet}", f"take one of {dotted(first)} to {dotted(last)}")
    if gateway and value == number(gateway):
        raise UsageError(f"address `{ip}` is the gateway of subnet {subnet}", "take another, or leave --ip out")
    return ip


def allocate(subnet: str, taken: Iterable[str], last: str = "", gateway: str = "", within: str = "") -> str:
    """The next address after `last` (the one handed out before, "" at first) that nobody in `taken` has, nor the gateway ("" where
    there is none), in the part `within` of the subnet ("" is all of it).

    Going on from the last one, and round, lets an address rest before it is used again, so that no neighbour table still
    has its former owner.
    """
    low, high = _hosts(subnet)
    if within:
        first, end = _span(within)
        low, high = max(low, first), min(high, end)
    used = {number(ip) for ip in taken}
    if gateway:
        used.add(number(gateway))
    after = number(last) if last else low - 1
    start = after + 1 if low - 1 <= after < high else low
    for values in (range(start, high + 1), range(low, start)):
        for candidate in values:
            if candidate not in used:
                return dotted(candidate)
    room = high - low + 1 - (1 if gateway and low <= number(gateway) <= high else 0)
    where = f"range {within} of subnet {subnet}" if within else f"subnet {subnet}"
    said = f"all of its {room} addresses for containers are" if room != 1 else "its only address for containers is"
    raise ConflictError(f"{where} is full: {said} in use", f"remove containers, or make a wider network: {_wider(subnet, within)}")


def usable(subnet: str, gateway: str, within: str, ip: str) -> bool:
    """Whether `allocate` could ever give `ip`, as things are now: an address of another time may be of another subnet."""
    low, high = _hosts(subnet)
    first, last = _span(within) if within else (low, high)
    return max(low, first) <= number(ip) <= min(high, last) and ip != gateway


def _wider(subnet: str, within: str) -> str:
    """The command that makes a network with more room."""
    if within:
        return f"minidocker network create --subnet {subnet} NAME"
    base, bits = split(subnet)
    return f"minidocker network create --subnet {dotted(base & _mask(bits - 1))}/{bits - 1} NAME"


def mac_of(ip: str) -> str:
    """The MAC of the container that has `ip`: locally administered, unicast, and the same whenever the address is."""
    return f"02:42:{_hex(ip)}"


def host_mac_of(ip: str) -> str:
    """The MAC of the host's end of that container's veth: another one, which nobody ever sends to."""
    return f"06:42:{_hex(ip)}"


def overlap(subnet: str, occupied: Iterable[Occupied]) -> str:
    """Who has a part of `subnet` (of either family), in words, or ""."""
    found = _first_overlap(subnet, occupied)
    return found.owner if found else ""


def choose_subnet(
    wanted: str, occupied: Sequence[Occupied], pool: Sequence[str] = POOL
) -> tuple[str, list[tuple[str, str]]]:
    """The first free subnet: `wanted`, else the next of its size in `pool`; and what was passed over as (subnet, owner)."""
    _, bits = split(wanted)
    size = 1 << 32 - bits
    skipped: list[tuple[str, str]] = []
    for low, high in map(_span, (wanted, *pool)):
        candidate = -(-low // size) * size
        while candidate + size - 1 <= high:
            found = _first_overlap(f"{dotted(candidate)}/{bits}", occupied)
            if found is None:
                return f"{dotted(candidate)}/{bits}", skipped
            if not skipped or skipped[-1][1] != found.owner:
                skipped.append((f"{dotted(candidate)}/{bits}", found.owner))
            candidate = (max(candidate, _span(found.subnet)[1]) // size + 1) * size
    raise ConflictError(f"no /{bits} is free in {', '.join(pool)}", "give one: minidocker network create --subnet SUBNET NAME")


def _span(subnet: str) -> tuple[int, int]:
    """The first and the last address of a subnet, network and broadcast addresses included."""
    base, bits = split(subnet)
    return base, base | ~_mask(bits) & _ALL


def _mask(bits: int) -> int:
    return _ALL << 32 - bits & _ALL


def _hosts(subnet: str) -> tuple[int, int]:
    """The first and the last address that an interface can have."""
    first, last = _span(subnet)
    return first + 1, last - 1


def _overlapping(one: tuple[int, int], other: tuple[int, int]) -> bool:
    mask = _mask(min(one[1], other[1]))
    return one[0] & mask == other[0] & mask


def _first_overlap(subnet: str, occupied: Iterable[Occupied]) -> Occupied | None:
    if ":" in subnet:
        from minidocker.network import ipam6

        return next((entry for entry in occupied if ":" in entry.subnet and ipam6.overlapping(subnet, entry.subnet)), None)
    wanted = split(subnet)
    return next((entry for entry in occupied if ":" not in entry.subnet and _overlapping(wanted, split(entry.subnet))), None)


def _hex(ip: str) -> str:
    return number(ip).to_bytes(4, "big").hex(":")
