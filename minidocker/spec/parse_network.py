"""Addresses and ports as users write them. Pure; see parse.py for the errors.

IPv4 is read strictly, as inet_pton(3) does: four decimal numbers without leading zeros (`010` is 8 to some programs and 10 to others).
"""

from __future__ import annotations

from minidocker.spec.parse import hostname, number, refused
from minidocker.spec.records import Port

PROTOCOLS = ("tcp", "udp", "sctp")
LARGEST_PORT = 65_535
SHORTEST_PREFIX, LONGEST_PREFIX = 8, 30
SMALLEST_MTU, LARGEST_MTU = 68, 65_535  # RFC 791; the largest a bridge takes
LONGEST_INTERFACE = 15  # IFNAMSIZ less its NUL


def packed(text: str) -> int | None:
    """An IPv4 address as a number, None when it is not one."""
    parts = text.split(".")
    if len(parts) != 4:
        return None
    value = 0
    for part in parts:
        byte = number(part) if len(part) <= 3 and (part == "0" or not part.startswith("0")) else None
        if byte is None or byte > 255:
            return None
        value = value << 8 | byte
    return value


def dotted(value: int) -> str:
    """A number as an IPv4 address."""
    return ".".join(str(value >> shift & 255) for shift in (24, 16, 8, 0))


def _is_ipv6(text: str) -> bool:
    if ":" not in text or not text.isascii():
        return False
    from _socket import AF_INET6, inet_pton

    try:
        inet_pton(AF_INET6, text)
    except (OSError, ValueError):
        return False
    return True


def ipv4(option: str, text: str) -> str:
    """An IPv4 address."""
    if packed(text) is None:
        raise refused(option, text, "an IPv4 address is allowed, as in 172.17.0.9")
    return text


def address(option: str, text: str) -> str:
    """An IPv4 or IPv6 address."""
    if packed(text) is None and not _is_ipv6(text):
        raise refused(option, text, "an IPv4 or IPv6 address is allowed")
    return text


def container_address(text: str) -> str:
    """--ip: an IPv4 address that an interface can have; whether it is in the network's subnet the engine knows."""
    value = packed(text)
    if value is None:
        raise refused("--ip", text, "an IPv4 address is allowed, as in 172.17.0.9")
    if value >> 28 >= 0xE or value >> 24 in (0, 127):
        raise refused("--ip", text, "no interface can have this address (unspecified, loopback, multicast or reserved)")
    return text


def mac(text: str) -> str:
    """A unicast hardware address, in lower case with colons."""
    parts = text.lower().replace("-", ":").split(":")
    if len(parts) != 6 or not all(len(part) == 2 and frozenset("0123456789abcdef").issuperset(part) for part in parts):
        raise refused("--mac-address", text, "six bytes in hexadecimal are allowed, as in 02:42:ac:11:00:09")
    if int(parts[0], 16) & 1 or not any(int(part, 16) for part in parts):
        raise refused("--mac-address", text, "a multicast or all-zero address cannot be an interface's")
    return ":".join(parts)


def host_entry(text: str) -> tuple[str, str]:
    """NAME:IP of --add-host as (name, address)."""
    name, colon, given = text.partition(":")
    if not colon or not name:
        raise refused("--add-host", text, "NAME:IP is allowed, as in db:192.0.2.7")
    return hostname("--add-host", name), address("--add-host", given.removeprefix("[").removesuffix("]") if given[:1] == "[" else given)


def dns_option(text: str) -> str:
    """One option of resolv.conf(5)."""
    if not text or not text.isprintable() or " " in text:
        raise refused("--dns-option", text, "one option of resolv.conf is allowed, as in ndots:2")
    return text


def publish(text: str) -> list[Port]:
    """[[HOSTIP:][HOSTPORT]:]CPORT[/PROTO], ports or ranges of the same length; host port 0 is one that the engine chooses."""
    rest, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in PROTOCOLS:
        raise refused("--publish", text, "the protocol is tcp, udp or sctp")
    before, _, inside = rest.rpartition(":")
    host_ip, host = _host_part(text, before)
    first, last = _ports("--publish", text, inside)
    count = last - first + 1
    if not host:
        return [Port(0, port, host_ip, protocol) for port in range(first, last + 1)]
    host_first, host_last = _ports("--publish", text, host)
    if host_last - host_first + 1 != count:
        raise refused("--publish", text, f"{host_last - host_first + 1} host ports for {count} of the container; the same number is needed")
    return [Port(host_first + i, first + i, host_ip, protocol) for i in range(count)]


def _host_part(text: str, before: str) -> tuple[str, str]:
    """What stands before the container's port: "", "8080", "127.0.0.1:8080", "127.0.0.1:", "[::1]:8080", as (address, port)."""
    if before.startswith("["):
        inside, bracket, after = before[1:].partition("]")
        if not bracket or not after.startswith(":") or not _is_ipv6(inside):
            raise refused("--publish", text, "an IPv6 host address is written [::1]:8080:80")
        return inside, after[1:]
    host_ip, colon, port = before.rpartition(":")
    if colon and packed(host_ip) is None:
        raise refused("--publish", text, f"`{host_ip}` is not an IPv4 address ([HOSTIP:][HOSTPORT]:PORT; IPv6 in brackets)")
    return host_ip, port


def _ports(option: str, text: str, given: str) -> tuple[int, int]:
    low, dash, high = given.partition("-")
    first = number(low)
    last = number(high) if dash else first
    if first is None or last is None or not 1 <= first <= last <= LARGEST_PORT:
        raise refused(option, text, f"`{given}` is not a port or a range; 1 to {LARGEST_PORT} are allowed")
    return first, last


def expose(text: str) -> list[tuple[int, str]]:
    """PORT[-PORT][/PROTO] as (port, protocol) each."""
    return _container_ports("--expose", text)


def container_port(text: str) -> tuple[int, str]:
    """PORT[/PROTO] as (port, protocol), tcp where it is not said."""
    found = _container_ports("PORT", text)
    if len(found) > 1:
        raise refused("PORT", text, "one port, not a range")
    return found[0]


def _container_ports(option: str, text: str) -> list[tuple[int, str]]:
    given, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in PROTOCOLS:
        raise refused(option, text, "the protocol is tcp, udp or sctp")
    first, last = _ports(option, text, given)
    return [(port, protocol) for port in range(first, last + 1)]


def subnet(text: str) -> str:
    """A subnet by its first address, "10.9.0.0/24", with room for a gateway and a container."""
    first, slash, length = text.partition("/")
    if ":" in first:
        raise refused("--subnet", text, "IPv6 subnets are not supported yet; an IPv4 subnet is allowed, as in 10.9.0.0/24")
    value, prefix = packed(first), number(length)
    if value is None or not slash or prefix is None or prefix > 32:
        raise refused("--subnet", text, "an IPv4 subnet is allowed, as in 10.9.0.0/24")
    if not SHORTEST_PREFIX <= prefix <= LONGEST_PREFIX:
        raise refused("--subnet", text, f"/{SHORTEST_PREFIX} to /{LONGEST_PREFIX} are allowed")
    base = value >> (32 - prefix) << (32 - prefix)
    if base != value:
        raise refused("--subnet", text, f"host bits are set; {dotted(base)}/{prefix} is the subnet of this address")
    if value >> 28 >= 0xE or value >> 24 in (0, 127):
        raise refused("--subnet", text, "no interface can have these addresses (unspecified, loopback, multicast or reserved)")
    return f"{dotted(value)}/{prefix}"


def gateway(text: str, within: str | None) -> str:
    """An address that a host of the subnet `within` can have."""
    value = packed(text)
    if value is None:
        raise refused("--gateway", text, "an IPv4 address is allowed, as in 10.9.0.1")
    if within is None:
        raise refused("--gateway", text, "--subnet is needed with it")
    base, _, length = within.partition("/")
    first = packed(base) or 0
    if not first < value < first + (1 << 32 - int(length)) - 1:
        raise refused("--gateway", text, f"it must be a host's address in {within}")
    return text


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
