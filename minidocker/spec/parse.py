"""What users write, checked and turned into data: names, environments, paths, mounts, signals. Limits, addresses and times have
their own files beside this one.

Pure: what depends on the process (working directory, environment, files) is handed in. Each function raises UsageError in one
line: the option, what was given, what is allowed. Regular expressions are not used, as importing `re` costs 11 ms.
"""

from __future__ import annotations

from minidocker.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_DIGITS = frozenset("0123456789")
_NAME_START = _LETTERS | _DIGITS
_NAME = _NAME_START | frozenset("_.-")
_VARIABLE = _NAME
_TMPFS_FLAGS = frozenset((
    "ro", "rw", "nosuid", "suid", "nodev", "dev", "noexec", "exec", "sync", "async", "dirsync", "mand", "nomand", "atime", "noatime",
    "diratime", "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime",
))  # fmt: skip
_TMPFS_VALUES = frozenset(("size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"))
_STATES = ("created", "running", "paused", "restarting", "exited", "dead")
MAX_NAME, MAX_HOSTNAME, MAX_ID, LAST_SIGNAL = 63, 64, (1 << 31) - 1, 64


def refused(option: str, given: str, allowed: str) -> UsageError:
    """The one shape of all these errors; what is long is cut."""
    return UsageError(f"{option} `{given if len(given) <= 80 else given[:77] + '...'}`: {allowed}")


def number(text: str) -> int | None:
    """A decimal number of ASCII digits, else None. (int() would take `1_0`, ` 1` and other scripts' digits.)"""
    return int(text) if text and len(text) <= 19 and _DIGITS.issuperset(text) else None


def name(option: str, text: str) -> str:
    """A container's or a network's name: [a-zA-Z0-9][a-zA-Z0-9_.-]*, at most 63 characters."""
    if len(text) > MAX_NAME:
        raise refused(option, text, f"{len(text)} characters; at most {MAX_NAME} are allowed")
    if not text or text[0] not in _NAME_START or not _NAME.issuperset(text):
        raise refused(option, text, "letters, digits, `_`, `.` and `-` are allowed, the first a letter or digit")
    return text


def network(text: str) -> str:
    """--network: a network's name, none, host, or container:NAME."""
    kind, colon, of = text.partition(":")
    if colon:
        if kind != "container":
            raise refused("--network", text, "a network's name, none, host or container:NAME is allowed")
        name("--network container:", of)
        return text
    return name("--network", text)


def hostname(option: str, text: str) -> str:
    """A host name for sethostname(2): letters, digits, `-`, `_` and `.` between labels of at most 63; at most 64 in all."""
    if len(text) > MAX_HOSTNAME:
        raise refused(option, text, f"{len(text)} characters; at most {MAX_HOSTNAME} are allowed")
    labels = text.split(".")
    if not all(0 < len(label) <= MAX_NAME and _NAME.issuperset(label) and "-" not in (label[0], label[-1]) for label in labels):
        raise refused(option, text, "letters, digits, `-`, `_` and single dots are allowed")
    return text


def domain(option: str, text: str) -> str:
    """A DNS search domain: like a host name, up to 253 characters, a final dot allowed; `.` alone means none."""
    labels = text.removesuffix(".").split(".") if text != "." else ()
    if len(text) > 253 or not all(0 < len(label) <= MAX_NAME and _NAME.issuperset(label) for label in labels):
        raise refused(option, text, "a domain such as example.org, or `.` for none, is allowed")
    return text


def environment(
    files: list[str], variables: list[str], environ: Mapping[str, str], read: Callable[[str], bytes]
) -> list[str]:
    """All of --env-file, then all of -e, as "NAME=value". A NAME alone takes its value from `environ`, and is left out when not there.

    `read` returns a file's bytes or raises OSError.
    """
    found: list[str] = []
    for path in files:
        found.extend(_environment_file(path, environ, read))
    for given in variables:
        variable, equals, _ = given.partition("=")
        if not variable or variable.isspace() or "\0" in given:
            raise refused("--env", given, "NAME=VALUE, or NAME to pass it on, is allowed")
        if equals:
            found.append(given)
        elif variable in environ:
            found.append(f"{variable}={environ[variable]}")
    return found


def _environment_file(path: str, environ: Mapping[str, str], read: Callable[[str], bytes]) -> list[str]:
    """One file in docker's format: NAME=value or NAME a line, taken literally; empty lines and those that start with # are skipped."""
    try:
        content = read(path).removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise UsageError(f"read env file `{path}`: {(error.strerror or str(error)).lower()}") from error
    found: list[str] = []
    for at, raw in enumerate(content.split(b"\n"), 1):
        try:
            line = raw.removesuffix(b"\r").decode().lstrip()
        except UnicodeDecodeError:
            raise UsageError(f"env file `{path}`, line {at}: not UTF-8 text") from None
        if not line or line.startswith("#"):
            continue
        variable, equals, _ = line.partition("=")
        if not variable or not _VARIABLE.issuperset(variable) or "\0" in line:
            raise UsageError(
                f"env file `{path}`, line {at}: `{line[:40]}` is not NAME=VALUE",
                "lines are taken literally: no `export`, no spaces around the name" if " " in variable else "",
            )
        if equals:
            found.append(line)
        elif variable in environ:
            found.append(f"{variable}={environ[variable]}")
    return found


def normal(path: str) -> str:
    """An absolute path without empty, `.` and `..` parts, by its letters alone, as docker does it."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part and part != ".":
            parts.append(part)
    return "/" + "/".join(parts)


def absolute(option: str, text: str) -> str:
    """A path in the container: absolute."""
    if not text.startswith("/"):
        raise refused(option, text, "a path in the container must be absolute")
    return normal(text)


def host_path(option: str, text: str, cwd: str) -> str:
    """A path on the host, made absolute from `cwd`."""
    if not text or "\0" in text:
        raise refused(option, text, "a path is needed")
    return normal(text if text.startswith("/") else f"{cwd}/{text}")


def volume(text: str, cwd: str) -> tuple[str, str, bool]:
    """SRC:DST[:ro|rw] as (host path, container path, read-only). SRC is absolute or starts with `./`; volumes are parse_mounts.py's."""
    parts = text.split(":")
    if not 2 <= len(parts) <= 3:
        raise refused("--volume", text, "SRC:DST or SRC:DST:ro is allowed")
    source, target, mode = parts[0], parts[1], parts[2] if len(parts) == 3 else "rw"
    if source not in (".", "..") and not source.startswith(("/", "./", "../")):
        raise refused("--volume", text, f"SRC `{source}` must start with / or ./")
    if not target.startswith("/") or normal(target) == "/":
        raise refused("--volume", text, f"DST `{target}` must be an absolute path below /")
    if mode not in ("ro", "rw"):
        raise refused("--volume", text, f"mode `{mode}` must be ro or rw")
    return host_path("--volume", source, cwd), normal(target), mode == "ro"


def tmpfs(text: str) -> tuple[str, str]:
    """PATH[:opts] as (container path, mount options of mount(8) and tmpfs(5))."""
    path, _, given = text.partition(":")
    if not path.startswith("/") or normal(path) == "/":
        raise refused("--tmpfs", text, "PATH must be an absolute path below /")
    for option in given.split(",") if given else ():
        key, equals, value = option.partition("=")
        if not (key in _TMPFS_VALUES and value if equals else key in _TMPFS_FLAGS):
            raise refused("--tmpfs", text, f"option `{option}` is unknown; size=, mode=, uid=, gid=, ro, noexec and such are allowed")
    return normal(path), given


def user(text: str) -> str:
    """USER[:GROUP], names or numbers up to 2147483647."""
    parts = text.split(":")
    if len(parts) > 2 or not all(parts):
        raise refused("--user", text, "USER or USER:GROUP, names or numbers, is allowed")
    for part in parts:
        if not part.isprintable() or " " in part or "/" in part or part[0] in "-+":
            raise refused("--user", text, f"`{part}` is neither a name nor a number")
        if _DIGITS.issuperset(part) and (len(part) > 10 or int(part) > MAX_ID):
            raise refused("--user", text, f"numbers from 0 to {MAX_ID} are allowed")
    return text


def label(text: str) -> tuple[str, str]:
    """KEY or KEY=VALUE as (key, value); the value of a KEY alone is empty."""
    key, _, value = text.partition("=")
    if not key or key.isspace():
        raise refused("--label", text, "KEY or KEY=VALUE is allowed")
    return key, value


def signal(option: str, text: str) -> int:
    """A signal by number (1-64) or name: TERM, SIGTERM, term, RTMIN+3."""
    given = number(text)
    if given is None:
        import _signal  # the signal module without its enums, built into the interpreter

        word = text.upper().removeprefix("SIG")
        base, sign, offset = word.partition("+" if "+" in word else "-")
        found = getattr(_signal, "SIG" + base, None) if base.isalnum() else None
        if isinstance(found, int) and not sign:
            given = int(found)
        elif isinstance(found, int) and base in ("RTMIN", "RTMAX") and (steps := number(offset)) is not None:
            given = int(found) + (steps if sign == "+" else -steps)
            given = given if _signal.SIGRTMIN <= given <= _signal.SIGRTMAX else None
    if given is None or not 1 <= given <= LAST_SIGNAL:
        raise refused(option, text, f"a signal's name (TERM, KILL, USR1, ...) or number (1 to {LAST_SIGNAL}) is allowed")
    return given


def detach_keys(text: str) -> bytes:
    """Docker's syntax, keys joined by commas, as the bytes a terminal sends: a character, or ctrl- and a letter or one of @[\\]^_."""
    found = bytearray()
    for key in text.split(","):
        base = key[5:].upper() if key.lower().startswith("ctrl-") else ""
        if len(key) == 1 and key.isascii() and key.isprintable():
            found.append(ord(key))
        elif len(base) == 1 and "@" <= base <= "_":
            found.append(ord(base) - 64)
        elif key == "DEL":
            found.append(127)
        else:
            raise refused("--detach-keys", text, f"`{key}` is not a key; `a` or `ctrl-a`, joined by commas, is allowed")
    return bytes(found)


def capability(option: str, text: str) -> str:
    """A capability's name without CAP_, in upper case, or ALL."""
    from minidocker.spec import capabilities

    word = text.upper().removeprefix("CAP_")
    return word if word == "ALL" else capabilities.check(word)


def boolean(option: str, text: str) -> bool:
    """What Go's strconv.ParseBool takes."""
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise refused(option, text, "true or false is allowed")


def security_option(text: str, cwd: str) -> tuple[str, bool | str]:
    """("no-new-privileges", bool), ("seccomp", "unconfined" or an absolute path), ("apparmor", profile), ("label", as it is)."""
    at = min((i for i in (text.find("="), text.find(":")) if i >= 0), default=len(text))
    key, value = text[:at], text[at + 1 :]
    if key == "no-new-privileges":
        return key, boolean(f"--security-opt {key}", value) if at < len(text) else True
    if key == "seccomp" and value:
        return key, value if value == "unconfined" else host_path("--security-opt", value, cwd)
    # what would end a line or a word of the kernel's lists
    if key == "apparmor" and value.isprintable() and value and not value.isspace():
        return key, value
    if key == "label" and (value == "disable" or _is_part_of_context(*value.partition(":")[::2])):
        return key, value
    raise refused(
        "--security-opt", text, "no-new-privileges[=true|false], seccomp=FILE|unconfined, apparmor=PROFILE|unconfined, label=disable and "
        "label=user|role|type|level:VALUE are allowed"
    )  # fmt: skip


def _is_part_of_context(part: str, value: str) -> bool:
    """A level may have colons and commas (s0:c1,c2), the others are words."""
    allowed = "_-." + ":," * (part == "level")
    return part in ("user", "role", "type", "level") and bool(value) and all(c.isascii() and (c.isalnum() or c in allowed) for c in value)


def choice(option: str, text: str, allowed: tuple[str, ...]) -> str:
    """One of a few words."""
    if text not in allowed:
        raise refused(option, text, " or ".join([", ".join(allowed[:-1])] * (len(allowed) > 1) + [allowed[-1]]) + " is allowed")
    return text


def cgroup_parent(text: str) -> str:
    """A cgroup's path, absolute or below ours, that does not climb."""
    if not text.strip("/") or ".." in text.split("/") or not text.isprintable():
        raise refused("--cgroup-parent", text, "a path of cgroups without `..` is allowed")
    return text


_HEALTH = ("starting", "healthy", "unhealthy", "none")


def ps_filter(text: str) -> tuple[str, str]:
    """KEY=VALUE of `ps --filter`."""
    key, _, value = text.partition("=")
    if key not in ("name", "status", "network", "label", "health") or not value:
        raise refused("--filter", text, "name=, status=, network=, label= and health= with a value are allowed")
    if key == "health" and value not in _HEALTH:
        raise refused("--filter", text, "health is one of " + ", ".join(_HEALTH))
    if key == "status" and value not in _STATES:
        raise refused("--filter", text, "the status is one of " + ", ".join(_STATES))
    return key, value
