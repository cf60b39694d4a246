"""The networks that other container engines have defined, whether or not anything of them is up: podman's, CNI's, docker's.

They are read where each engine keeps them, and only as the engine itself would read them. What cannot be read or makes no sense is
passed over: an engine's broken file keeps that engine from working, and must not keep ours. Cold path.
"""

from __future__ import annotations

import os
from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from minidocker.network import bbolt
from minidocker.spec import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

# podman-network(1), containers.conf(5): later files win. Of the directories podman 5 reads only /etc/containers/containers.conf.d.
PODMAN_NETWORKS = "/etc/containers/networks"
PODMAN_CONFIGS = ("/usr/share/containers/containers.conf", "/etc/containers/containers.conf")
PODMAN_CONFIG_DIRECTORIES = (
    "/usr/share/containers/containers.conf.d", "/usr/share/containers/containers.rootful.conf.d",
    "/etc/containers/containers.conf.d", "/etc/containers/containers.rootful.conf.d",
)  # fmt: skip
# Its default network is in no file until it is changed. Configuration under /etc/containers proves nothing, as skopeo brings it too:
# the program does, or buildah's, which builds in the same network.
PODMAN_PROGRAMS = ("podman", "buildah")
PODMAN_DEFAULT = ("podman", "10.88.0.0/16")
CNI_NETWORKS = "/etc/cni/net.d"
# dockerd(8), "daemon configuration file"; libnetwork/datastore
DOCKER_CONFIG = "/etc/docker/daemon.json"
DOCKER_DATA = "/var/lib/docker"
DOCKER_STORE = "network/files/local-kv.db"

LARGEST = bbolt.LARGEST
_CNI_SUFFIXES = (".conflist", ".conf", ".json")  # libcni, ConfFiles
_STORE_BUCKET = b"libnetwork"
_STORE_KEYS = b"docker/network/v1.0/network/"
_STORE_INDEX = 8  # bytes before each value: libkv's count of changes


def defined() -> list[tuple[str, str]]:
    """(subnet, owner) of each: CIDR text of IPv4 or IPv6 without host bits, and who it is in words (``podman network `podman```,
    ``CNI network `cbr0```, ``docker network `bridge` (docker0)``). Never fails."""
    settings = _podman_settings()
    return list(dict.fromkeys([*_podman(settings), *_cni(settings), *_docker()]))


def _podman(settings: dict[str, Any]) -> Iterator[tuple[str, str]]:
    default, subnet = _text(settings.get("default_network")) or PODMAN_DEFAULT[0], settings.get("default_subnet") or PODMAN_DEFAULT[1]
    for path in _files(_text(settings.get("network_config_dir")) or PODMAN_NETWORKS, (".json",)):
        network = _mapping(_json(path))
        name = _text(network.get("name"))
        if f"{name}.json" != os.path.basename(path):
            continue  # podman does not load it, either
        if name == default:
            default = ""
        yield from _owned(f"podman network {_quoted(name)}", [_mapping(entry).get("subnet") for entry in _items(network.get("subnets"))])
    if default and _installed(PODMAN_PROGRAMS):
        yield from _owned(f"podman network {_quoted(default)}", [subnet])


def _podman_settings() -> dict[str, Any]:
    """What containers.conf's table `network` says of where networks are, and of the default one."""
    wanted = (b"network_config_dir", b"default_network", b"default_subnet")
    found: dict[str, Any] = {}
    for path in [*PODMAN_CONFIGS, *(path for directory in PODMAN_CONFIG_DIRECTORIES for path in _files(directory, (".conf",)))]:
        data = _read(path)
        # Most have them in comments alone: then a parser that costs 20 ms has nothing to find.
        if not any(word in line for line in data.splitlines() if not line.lstrip().startswith(b"#") for word in wanted):
            continue
        import tomllib

        try:
            found |= _mapping(tomllib.loads(data.decode()).get("network"))
        except (ValueError, RecursionError):
            continue
    return found


def _cni(settings: dict[str, Any]) -> Iterator[tuple[str, str]]:
    moved = _text(settings.get("network_config_dir"))  # before podman 5, its CNI networks are there, too
    places = [CNI_NETWORKS, *([moved] if moved else [])]
    places += [path for place in places for path in _files(place, ("",)) if os.path.isdir(path)]  # nerdctl's, by namespace
    for path in (path for place in places for path in _files(place, _CNI_SUFFIXES)):
        document = _mapping(_json(path))
        owner = f"CNI network {_quoted(_text(document.get('name')) or os.path.basename(path))}"
        for ipam in _ipams(document):
            ranges = [_mapping(one).get("subnet") for group in _items(ipam.get("ranges")) for one in _items(group)]
            yield from _owned(owner, [ipam.get("subnet"), *ranges])


def _ipams(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every object called `ipam` in a configuration: a plugin's, one of a list of plugins, one that a plugin delegates to."""
    stack: list[Any] = [document]
    while stack:
        one = stack.pop()
        if isinstance(one, dict):
            if found := _mapping(one.get("ipam")):
                yield found
            stack += reversed(one.values())
        elif isinstance(one, list):
            stack += reversed(one)


def _docker() -> Iterator[tuple[str, str]]:
    config = _mapping(_json(DOCKER_CONFIG))
    link = _text(config.get("bridge")) or "docker0"
    if link != "none":
        asked = [config.get(key) for key in ("bip", "bip6", "fixed-cidr", "fixed-cidr-v6")]
        yield from _owned(_docker_owner("bridge", link), asked)
    data = _text(config.get("data-root")) or _text(config.get("graph")) or DOCKER_DATA
    # With user namespaces remapped everything lies in a directory called UID.GID.
    remapped = [path for path in _files(data, ("",)) if os.path.basename(path).replace(".", "", 1).isdigit()]
    for place in (data, *remapped):
        yield from _stored(f"{place}/{DOCKER_STORE}")


def _stored(path: str) -> Iterator[tuple[str, str]]:
    """The networks in one of docker's stores (libnetwork's Network.MarshalJSON: JSON in strings in JSON in strings in JSON). The subnets
    in use are in ipamV4Info and ipamV6Info; those in ipamV4Config were asked for, perhaps only as a template for networks to be."""
    try:
        descriptor = _open(path)
        try:
            pairs = bbolt.pairs(descriptor, _STORE_BUCKET)
        finally:
            os.close(descriptor)
    except (OSError, ValueError):
        return
    for key, value in pairs:
        network = _mapping(_parsed(value[_STORE_INDEX:])) if key.startswith(_STORE_KEYS) else {}
        if not network or network.get("inDelete"):  # dockerd finishes deleting it when it starts
            continue
        options = _mapping(_mapping(network.get("generic")).get("com.docker.network.generic"))
        link = _text(options.get("com.docker.network.bridge.name"))
        infos = [info for family in ("ipamV4Info", "ipamV6Info") for info in _items(_parsed(network.get(family)))]
        pools = [_mapping(_parsed(_mapping(info).get("IPAMData"))).get("Pool") for info in infos]
        yield from _owned(_docker_owner(_text(network.get("name")), link), pools)


def _docker_owner(name: str, link: str) -> str:
    return f"docker network {_quoted(name)}" + (f" ({_shown(link)})" if link else "")


def _owned(owner: str, subnets: list[Any]) -> Iterator[tuple[str, str]]:
    """Those of `subnets` that are any, as `defined` gives them."""
    for subnet in map(_network, subnets):
        if subnet:
            yield subnet, owner


def _network(text: Any) -> str:
    """The subnet that `text`, an address and a prefix length, is in; "" for anything else."""
    ip, slash, length = _text(text).partition("/")
    family, bits = (AF_INET6, 128) if ":" in ip else (AF_INET, 32)
    if not slash or not (length.isascii() and length.isdigit() and len(length) <= 3) or int(length) > bits:
        return ""
    try:
        packed = inet_pton(family, ip)
    except (OSError, ValueError):
        return ""
    host = bits - int(length)
    base = int.from_bytes(packed, "big") >> host << host
    return f"{inet_ntop(family, base.to_bytes(len(packed), 'big'))}/{int(length)}"


def _shown(name: str) -> str:
    """A name for a message: on one line, whatever the file says."""
    return name if name.isprintable() else ascii(name)


def _quoted(name: str) -> str:
    return f"`{_shown(name)}`"


def _installed(programs: tuple[str, ...]) -> bool:
    places = os.environ.get("PATH", os.defpath).split(":")
    return any(os.access(f"{place}/{program}", os.X_OK) for place in places for program in programs)


def _files(directory: str, suffixes: tuple[str, ...]) -> list[str]:
    """The paths in a directory that end in one of `suffixes`, sorted; none where there is no such directory."""
    try:
        names = os.listdir(directory)
    except (OSError, ValueError):
        return []
    return [f"{directory}/{name}" for name in sorted(names) if name.endswith(suffixes)]


def _json(path: str) -> Any:
    return _parsed(_read(path))


def _parsed(text: Any) -> Any:
    """The value of JSON text, str or UTF-8 bytes; None of anything else."""
    try:
        if isinstance(text, bytes):
            text = text.decode()
        return fastjson.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None


def _read(path: str) -> bytes:
    """A regular file's content, b"" where there is none that can be read or it is larger than any that makes sense."""
    try:
        descriptor = _open(path)
        try:
            size = os.fstat(descriptor).st_size
            return os.pread(descriptor, size, 0) if size <= LARGEST else b""
        finally:
            os.close(descriptor)
    except (OSError, ValueError):
        return b""


def _open(path: str) -> int:
    """A descriptor for reading; a named pipe, which nobody might ever write to, is not waited for."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
