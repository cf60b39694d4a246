"""What a network is made of, as users write it: subnets, gateways, ranges, driver options. Pure; see parse.py for the errors."""

from __future__ import annotations

from minidocker.spec.parse import boolean, number, refused
from minidocker.spec.parse_network import canonical6, dotted, is_local6, packed, packed6, unpacked6

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from minidocker.spec.request import NetworkRequest

SHORTEST_PREFIX, LONGEST_PREFIX = 8, 30
SHORTEST_PREFIX6, LONGEST_PREFIX6 = 16, 96  # a container's IPv6 address ends in its IPv4 one
SMALLEST_MTU, LARGEST_MTU = 68, 65_535  # RFC 791; the largest a bridge takes
SMALLEST_MTU6 = 1280  # RFC 8200
LONGEST_INTERFACE = 15  # IFNAMSIZ less its NUL
MACVLAN_MODES = ("bridge", "private", "vepa")
# docker's names for what are options of our own, in the driver options of `network create -o`
_DRIVER_OPTIONS = {
    "com.docker.network.bridge.name": "bridge", "com.docker.network.driver.mtu": "mtu", "com.docker.network.bridge.enable_icc": "icc",
    "mtu": "mtu", "parent": "parent", "macvlan_mode": "mode", "mode": "mode",
}  # fmt: skip


def subnet(text: str, option: str = "--subnet") -> str:
    """A subnet by its first address, "10.9.0.0/24" or "fd00:9::/64", with room for a gateway and a container."""
    first, slash, length = text.partition("/")
    prefix = number(length)
    if ":" in first:
        return _subnet6(text, first, prefix if slash else None, option)
    value = packed(first)
    if value is None or not slash or prefix is None or prefix > 32:
        raise refused(option, text, "a subnet is allowed, as in 10.9.0.0/24 or fd00:9::/64")
    longest = LONGEST_PREFIX if option == "--subnet" else 32
    if not SHORTEST_PREFIX <= prefix <= longest:
        raise refused(option, text, f"/{SHORTEST_PREFIX} to /{longest} are allowed")
    base = value >> (32 - prefix) << (32 - prefix)
    if base != value:
        raise refused(option, text, f"host bits are set; {dotted(base)}/{prefix} is the subnet of this address")
    if value >> 28 >= 0xE or value >> 24 in (0, 127):
        raise refused(option, text, "no interface can have these addresses (unspecified, loopback, multicast or reserved)")
    return f"{dotted(value)}/{prefix}"


def _subnet6(text: str, first: str, prefix: int | None, option: str) -> str:
    value = packed6(first)
    if value is None or prefix is None or prefix > 128:
        raise refused(option, text, "an IPv6 subnet is allowed, as in fd00:9::/64")
    if not SHORTEST_PREFIX6 <= prefix <= LONGEST_PREFIX6:
        raise refused(option, text, f"/{SHORTEST_PREFIX6} to /{LONGEST_PREFIX6} are allowed; /64 is usual")
    host_bits = (1 << 128 - prefix) - 1
    if int.from_bytes(value, "big") & host_bits:
        base = (int.from_bytes(value, "big") & ~host_bits).to_bytes(16, "big")
        raise refused(option, text, f"host bits are set; {unpacked6(base)}/{prefix} is the subnet of this address")
    if is_local6(value) or value[:8] == bytes(8):
        raise refused(option, text, "containers cannot have these addresses (unspecified, loopback, link-local or multicast)")
    return f"{canonical6(first)}/{prefix}"


def subnets(request: NetworkRequest, given: Iterable[str], gateways: Iterable[str]) -> None:
    """--subnet and --gateway, one of each family at most, into `request`; an IPv6 subnet asks for IPv6."""
    for text in given:
        found = subnet(text)
        if (request.subnet6 if ":" in found else request.subnet) is not None:
            raise refused("--subnet", text, "one IPv4 and one IPv6 subnet are allowed")
        if ":" in found:
            request.subnet6, request.ipv6 = found, True
        else:
            request.subnet = found
    for text in gateways:
        is_ipv6 = ":" in text
        if (request.gateway6 if is_ipv6 else request.gateway) is not None:
            raise refused("--gateway", text, "one IPv4 and one IPv6 gateway are allowed")
        if is_ipv6:
            request.gateway6 = _gateway6(text, request.subnet6)
        else:
            request.gateway = gateway(text, request.subnet)


def gateway(text: str, within: str | None) -> str:
    """An address that a host of the subnet `within` can have."""
    value = packed(text)
    if value is None:
        raise refused("--gateway", text, "an IPv4 or IPv6 address is allowed, as in 10.9.0.1")
    if within is None:
        raise refused("--gateway", text, "--subnet is needed with it")
    base, _, length = within.partition("/")
    first = packed(base) or 0
    if not first < value < first + (1 << 32 - int(length)) - 1:
        raise refused("--gateway", text, f"it must be a host's address in {within}")
    return text


def _gateway6(text: str, within: str | None) -> str:
    value = packed6(text)
    if value is None:
        raise refused("--gateway", text, "an IPv4 or IPv6 address is allowed, as in fd00:9::1")
    if within is None:
        raise refused("--gateway", text, "an IPv6 --subnet is needed with it")
    base, _, length = within.partition("/")
    offset = int.from_bytes(value, "big") - int.from_bytes(packed6(base) or b"", "big")
    if not 0 < offset < 1 << 128 - int(length):
        raise refused("--gateway", text, f"it must be a host's address in {within}")
    return canonical6(text)


def ip_range(text: str, within: str | None) -> str:
    """--ip-range: the part of the subnet `within` that addresses are taken from."""
    found = subnet(text, "--ip-range")
    if ":" in found:
        raise refused("--ip-range", text, "an IPv4 range is allowed; IPv6 addresses follow from the IPv4 ones")
    if within is None:
        raise refused("--ip-range", text, "--subnet is needed with it")
    (base, _, length), (first, _, prefix) = within.partition("/"), found.partition("/")
    if int(prefix) < int(length) or (packed(first) or 0) >> 32 - int(length) != (packed(base) or 0) >> 32 - int(length):
        raise refused("--ip-range", text, f"it must lie in {within}")
    return found


def driver_option(request: NetworkRequest, text: str) -> None:
    """One `-o KEY=VALUE` of `network create`, into `request`."""
    key, _, value = text.partition("=")
    meaning = _DRIVER_OPTIONS.get(key)
    if meaning is None or not value:
        raise refused("--opt", text, "there are " + ", ".join(f"{name}=" for name in _DRIVER_OPTIONS))
    if meaning == "mtu":
        request.mtu = mtu(value)
    elif meaning == "bridge":
        request.bridge = interface("--opt", value)
    elif meaning == "parent":
        request.parent = interface("--opt", value)
    elif meaning == "mode":
        if value not in MACVLAN_MODES:
            raise refused("--opt", text, "the mode is " + ", ".join(MACVLAN_MODES))
        request.mode = value
    else:
        request.isolated = not boolean(f"--opt {key}", value)


def mtu(text: str) -> int:
    """Bytes, 68 to 65535."""
    value = number(text)
    if value is None or not SMALLEST_MTU <= value <= LARGEST_MTU:
        raise refused("--mtu", text, f"{SMALLEST_MTU} to {LARGEST_MTU} bytes are allowed")
    return value


def interface(option: str, text: str) -> str:
    """A name for a network interface, as the kernel's dev_valid_name and `ip` take it."""
    readable = text.isascii() and text.isprintable() and not set(text) & set("/: %")
    if not 0 < len(text) <= LONGEST_INTERFACE or text in (".", "..") or not readable:
        raise refused(option, text, f"1 to {LONGEST_INTERFACE} characters without space, `/`, `:` and `%` are allowed")
    return text
