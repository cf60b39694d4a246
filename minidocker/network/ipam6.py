"""IPv6 subnets and addresses: pure functions on text. A container's address ends in its IPv4 one, so that whoever has a lease of the one
has the other, too: nothing more is handed out, and nothing more can run out.

A subnet is CIDR text ("fd3f:a9c1:d2e4:b5::/64"), an address as RFC 5952 writes it.
"""

from __future__ import annotations

from _socket import AF_INET6, inet_ntop, inet_pton

from minidocker.errors import UsageError
from minidocker.network import ipam

LONGEST = 96  # what is left beside an IPv4 address


def number(ip: str) -> int:
    """An address's value. Raises UsageError for what is none."""
    try:
        return int.from_bytes(inet_pton(AF_INET6, ip), "big")
    except (OSError, ValueError):
        raise UsageError(f"`{ip}` is not an IPv6 address", "write it like fd00:9::2") from None


def text(value: int) -> str:
    """The address of `value`."""
    return inet_ntop(AF_INET6, value.to_bytes(16, "big"))


def split(subnet: str) -> tuple[int, int]:
    """(network address, prefix length) of well-formed CIDR text."""
    ip, _, prefix = subnet.partition("/")
    return number(ip), int(prefix)


def unique_local(network_id: str) -> str:
    """A network's own subnet, from its id (12 hexadecimal digits): fd, 40 bits of global id, 16 of subnet id (RFC 4193, section 3.1)."""
    value = 0xFD << 120 | int(network_id[:10], 16) << 80 | int(network_id[10:12], 16) << 64
    return f"{text(value)}/64"


def gateway(subnet: str) -> str:
    """The subnet's first address after the subnet-router anycast address (RFC 4291, section 2.6.1)."""
    return text(split(subnet)[0] + 1)


def of_container(subnet: str, ip: str) -> str:
    """The address in `subnet` that goes with the container's IPv4 address `ip`."""
    return text(split(subnet)[0] | ipam.number(ip))


def check_address(subnet: str, gateway: str, ip: str) -> str:
    """`ip` (from --ip6) if a container can ever have it, else UsageError; who has it now is for the leases to say."""
    (base, bits), value = split(subnet), number(ip)
    if value >> 128 - bits != base >> 128 - bits or value == base:
        raise UsageError(f"address `{ip}` is not a host address of subnet {subnet}", f"take one like {text(base + 0x99)}")
    if gateway and value == number(gateway):
        raise UsageError(f"address `{ip}` is the gateway of subnet {subnet}", "take another, or leave --ip6 out")
    return text(value)


def overlapping(one: str, other: str) -> bool:
    (a, a_bits), (b, b_bits) = split(one), split(other)
    shift = 128 - min(a_bits, b_bits)
    return a >> shift == b >> shift


def link_local(mac: str) -> str:
    """The address that the kernel gives an interface with this MAC by itself (RFC 4291, appendix A: modified EUI-64)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    return inet_ntop(AF_INET6, b"\xfe\x80" + bytes(6) + bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:])
