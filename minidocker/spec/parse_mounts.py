"""What `--mount`, and `-v` with a volume's name or none, ask for. Loaded only where one of them is given.

Pure, as parse.py is. A mount is (kind, source, destination, options, fill): `kind` bind, volume or tmpfs; `source` a host path, a volume's
name ("" for an anonymous one, which gets its name later), "" for tmpfs; `options` as an OCI mount has them; `fill` whether an empty volume
gets what the root file system has at its place.
"""

from __future__ import annotations

from minidocker.errors import UsageError
from minidocker.spec.parse import boolean, choice, host_path, normal, refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    Mount = tuple[str, str, str, list[str], bool]

BIND, VOLUME, TMPFS = "bind", "volume", "tmpfs"
_KINDS = (BIND, VOLUME, TMPFS)
_PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_SAME = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
# key -> the kinds of mount that it is for
_KEYS = {
    "type": _KINDS, "source": (BIND, VOLUME), "target": _KINDS, "readonly": _KINDS, "bind-propagation": (BIND,),
    "bind-nonrecursive": (BIND,), "volume-nocopy": (VOLUME,), "tmpfs-size": (TMPFS,), "tmpfs-mode": (TMPFS,),
}  # fmt: skip
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
_LONGEST_NAME = 255  # NAME_MAX, limits.h: it is a directory's name
_LARGEST_MODE = 0o7777


def volume_name(option: str, text: str) -> str:
    """[a-zA-Z0-9][a-zA-Z0-9_.-]*, at most 255 characters: nothing that means another directory than one of that name."""
    if len(text) > _LONGEST_NAME:
        raise refused(option, text, f"{len(text)} characters; at most {_LONGEST_NAME} are allowed")
    if not text or not _NAME.issuperset(text) or text[0] in "_.-":
        raise refused(option, text, "a volume's name has letters, digits, `_`, `.` and `-`, the first a letter or digit")
    return text


def volume(text: str) -> Mount:
    """`-v NAME:DST[:ro]`, `-v DST`; the options `rw` and `nocopy` besides."""
    parts = text.split(":")
    name, target, given = ("", parts[0], "") if len(parts) == 1 else (parts[0], parts[1], ":".join(parts[2:]))
    if len(parts) > 3 or not target:
        raise refused("--volume", text, "SRC:DST[:ro], NAME:DST[:ro] or DST is allowed")
    if len(parts) > 1:
        volume_name("--volume", name)
    words = given.split(",") if len(parts) == 3 else []
    for word in words:
        choice(f"--volume `{text}`: mode", word, ("ro", "rw", "nocopy"))
    if "ro" in words and "rw" in words:
        raise refused("--volume", text, "ro and rw contradict each other")
    return VOLUME, name, _target("--volume", text, target), _bound("ro" in words), "nocopy" not in words


def mount(text: str, cwd: str) -> Mount:
    """`--mount type=volume,src=...,dst=...`: comma-separated, a field in double quotes may hold commas; `readonly` alone is true."""
    given: dict[str, str] = {}
    for field in _fields(text):
        key, equals, value = field.partition("=")
        key = _SAME.get(key.lower(), key.lower())
        if key not in _KEYS:
            raise refused("--mount", text, f"unknown key `{key}`; there are " + ", ".join(sorted([*_KEYS, *_SAME])))
        if key in given:
            raise refused("--mount", text, f"`{key}` is given twice")
        if not equals and key not in ("readonly", "bind-nonrecursive", "volume-nocopy"):
            raise refused("--mount", text, f"`{field}` must be KEY=VALUE")
        given[key] = value if equals else "true"
    kind = choice("--mount type", given.get("type", VOLUME), _KINDS)
    for key in given:
        if kind not in _KEYS[key]:
            raise refused("--mount", text, f"`{key}` is nothing for a mount of type {kind}")
    if "target" not in given:
        raise refused("--mount", text, "the target is missing: dst=/a/path/in/the/container")
    target = _target("--mount", text, given["target"])
    readonly = boolean("--mount readonly", given.get("readonly", "false"))
    if kind == TMPFS:
        return kind, "", target, _tmpfs(given, readonly), False
    if kind == BIND:
        if not given.get("source"):
            raise refused("--mount", text, "a bind mount needs a source: src=/a/path/of/the/host")
        recursive = not boolean("--mount bind-nonrecursive", given.get("bind-nonrecursive", "false"))
        propagation = choice("--mount bind-propagation", given.get("bind-propagation", "rprivate"), _PROPAGATIONS)
        return kind, host_path("--mount", given["source"], cwd), target, _bound(readonly, propagation, recursive), False
    name = volume_name("--mount source", given["source"]) if given.get("source") else ""
    return kind, name, target, _bound(readonly), not boolean("--mount volume-nocopy", given.get("volume-nocopy", "false"))


def _fields(text: str) -> list[str]:
    """One record of RFC 4180."""
    fields, rest = [], text
    while True:
        if rest[:1] == '"':
            field, rest = "", rest[1:]
            while True:
                part, quote, rest = rest.partition('"')
                if not quote:
                    raise refused("--mount", text, "a quotation mark is not closed")
                field += part
                if rest[:1] != '"':
                    break
                field, rest = field + '"', rest[1:]
            if rest[:1] not in ("", ","):
                raise refused("--mount", text, "a quoted field ends in the middle")
        else:
            end = rest.find(",") if "," in rest else len(rest)
            field, rest = rest[:end], rest[end:]
        fields.append(field)
        if not rest:
            return fields
        rest = rest[1:]


def _target(option: str, text: str, target: str) -> str:
    if not target.startswith("/") or "\0" in target or normal(target) == "/":
        raise refused(option, text, f"DST `{target}` must be an absolute path below /")
    return normal(target)


def _bound(readonly: bool, propagation: str = "rprivate", recursive: bool = True) -> list[str]:
    return ["rbind" if recursive else "bind", propagation, *(["rro" if recursive else "ro"] if readonly else [])]


def _tmpfs(given: dict[str, str], readonly: bool) -> list[str]:
    from minidocker.spec.parse_limits import size

    options = ["ro"] if readonly else []
    if "tmpfs-size" in given:
        options.append(f"size={size('--mount tmpfs-size', given['tmpfs-size'])}")
    mode = given.get("tmpfs-mode", "1777")
    if not mode or not set(mode) <= set("01234567") or int(mode, 8) > _LARGEST_MODE:
        raise UsageError(f"--mount tmpfs-mode `{mode}`: an octal mode such as 1770 is allowed")
    return [*options, f"mode={int(mode, 8):o}"]


def label_filter(text: str) -> tuple[str, str]:
    """`volume ls --filter` and `volume prune --filter`: KEY=VALUE."""
    key, _, value = text.partition("=")
    if key not in ("name", "label", "dangling", "driver") or not value:
        raise refused("--filter", text, "name=, label=, driver= and dangling=true|false with a value are allowed")
    if key == "dangling":
        boolean("--filter dangling", value)
    return key, value


