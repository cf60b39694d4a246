"""Addresses, ports and places in networks as users write them. Pure; see parse.py for the errors.

IPv4 is read strictly, as inet_pton(3) does: four decimal numbers without leading zeros (`010` is 8 to some programs and 10 to others).
"""

from __future__ import annotations

from minidocker.spec.parse import hostname, name, number, refused
from minidocker.spec.records import Port
from minidocker.spec.request import Attachment

PROTOCOLS = ("tcp", "udp", "sctp")
LARGEST_PORT = 65_535
LARGEST_PRIORITY = (1 << 31) - 1


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


def packed6(text: str) -> bytes | None:
    """An IPv6 address as 16 bytes, None when it is not one (a zone, `fe80::1%eth0`, is not part of an address)."""
    if ":" not in text or not text.isascii():
        return None
    from _socket import AF_INET6, inet_pton

    try:
        return inet_pton(AF_INET6, text)
    except (OSError, ValueError):
        return None


def unpacked6(value: bytes) -> str:
    """16 bytes as RFC 5952 writes them."""
    from _socket import AF_INET6, inet_ntop

    return inet_ntop(AF_INET6, value)


def canonical6(text: str) -> str:
    """An IPv6 address as RFC 5952 writes it."""
    value = packed6(text)
    return unpacked6(value) if value is not None else text


def is_local6(value: bytes) -> bool:
    """Whether it is link-local (RFC 4291, 2.5.6) or multicast: of use on one link alone, or nobody's."""
    return value[0] == 0xFF or (value[0] == 0xFE and value[1] & 0xC0 == 0x80)


def ipv4(option: str, text: str) -> str:
    """An IPv4 address."""
    if packed(text) is None:
        raise refused(option, text, "an IPv4 address is allowed, as in 172.17.0.9")
    return text


def address(option: str, text: str) -> str:
    """An IPv4 or IPv6 address."""
    if packed(text) is None and packed6(text) is None:
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


def container_address6(text: str) -> str:
    """--ip6: a unicast IPv6 address that an interface can have, as RFC 5952 writes it."""
    value = packed6(text)
    if value is None:
        raise refused("--ip6", text, "an IPv6 address is allowed, as in fd00:9::9")
    if is_local6(value) or int.from_bytes(value, "big") <= 1:
        raise refused("--ip6", text, "no interface can be given this address (unspecified, loopback, link-local or multicast)")
    return canonical6(text)


def mac(text: str, option: str = "--mac-address") -> str:
    """A unicast hardware address, in lower case with colons."""
    parts = text.lower().replace("-", ":").split(":")
    if len(parts) != 6 or not all(len(part) == 2 and frozenset("0123456789abcdef").issuperset(part) for part in parts):
        raise refused(option, text, "six bytes in hexadecimal are allowed, as in 02:42:ac:11:00:09")
    if int(parts[0], 16) & 1 or not any(int(part, 16) for part in parts):
        raise refused(option, text, "a multicast or all-zero address cannot be an interface's")
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
    """[[HOSTIP:][HOSTPORT]:]CPORT[/PROTO], ports or ranges; host port 0 is one that the engine chooses, from a range of host ports where
    there is one port of the container's."""
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
    if count == 1 and host_first != host_last:
        return [Port(host_first, first, host_ip, protocol, host_last)]
    if host_last - host_first + 1 != count:
        raise refused("--publish", text, f"{host_last - host_first + 1} host ports for {count} of the container; the same number is needed")
    return [Port(host_first + i, first + i, host_ip, protocol) for i in range(count)]


def _host_part(text: str, before: str) -> tuple[str, str]:
    """What stands before the container's port: "", "8080", "127.0.0.1:8080", "127.0.0.1:", "[::]:8080", as (address, port)."""
    if before.startswith("["):
        inside, bracket, after = before[1:].partition("]")
        value = packed6(inside)
        if not bracket or not after.startswith(":") or value is None:
            raise refused("--publish", text, "an IPv6 host address is written [2001:db8::1]:8080:80")
        if is_local6(value) or value[:12] == bytes(10) + b"\xff\xff":
            raise refused("--publish", text, "nothing is led from a link-local, multicast or IPv4-mapped address")
        if canonical6(inside) == "::1":
            raise refused("--publish", text, "the kernel leads nothing from ::1 to a container (it has no route_localnet for IPv6); "
                          "127.0.0.1 or [::] is possible")  # fmt: skip
        return canonical6(inside), after[1:]
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


def attachment(text: str) -> Attachment:
    """NETWORK[:KEY=VALUE,...] or docker's name=NETWORK,KEY=VALUE,...: ip, ip6, mac, alias (again and again), gw-priority."""
    before, _, rest = text.partition(":")
    words = rest.split(",") if "=" not in before else text.split(",")
    found = Attachment("" if "=" in before else name("--network", before))
    for word in words:
        key, _, value = word.partition("=")
        _attach(found, text, key.replace("_", "-"), value)
    if not found.name:
        raise refused("--network", text, "name=NETWORK is needed")
    return found


def _attach(found: Attachment, text: str, key: str, value: str) -> None:
    taken = {"name": found.name, "ip": found.ip, "ip6": found.ip6, "mac": found.mac, "mac-address": found.mac,
             "gw-priority": found.priority}  # fmt: skip
    if taken.get(key):
        raise refused("--network", text, f"`{key}` is given twice")
    if key == "name":
        found.name = name("--network", value)
    elif key == "ip":
        found.ip = container_address(value)
    elif key == "ip6":
        found.ip6 = container_address6(value)
    elif key in ("mac", "mac-address"):
        found.mac = mac(value, "--network mac")
    elif key == "alias":
        found.aliases.append(hostname("--network alias", value))
    elif key == "gw-priority":
        found.priority = priority("--network gw-priority", value)
    else:
        raise refused("--network", text, "NETWORK:KEY=VALUE,... with ip, ip6, mac, alias and gw-priority, none, host or container:NAME "
                      "is allowed")  # fmt: skip


def priority(option: str, text: str) -> int:
    """A gateway's priority, negative ones too."""
    value = number(text.removeprefix("-"))
    if value is None or value > LARGEST_PRIORITY:
        raise refused(option, text, f"a number from -{LARGEST_PRIORITY} to {LARGEST_PRIORITY} is allowed")
    return -value if text.startswith("-") else value
