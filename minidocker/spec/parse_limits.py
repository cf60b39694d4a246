"""Sizes and resource limits as users write them, as numbers. Pure; see parse.py for the errors."""

from __future__ import annotations

from minidocker.spec.parse import number, refused

SMALLEST_MEMORY = 6 << 20  # below this a process is killed before it runs; docker's own floor
PERIOD, LEAST_QUOTA = 100_000, 1_000  # of the CPU controller, in microseconds: the kernel's smallest quota is 1 ms
LEAST_SHARES, MOST_SHARES = 2, 262_144
MOST_PIDS = 1 << 22  # PID_MAX_LIMIT
MOST_LOG_FILES = 1000
MOST_CPU = 8191  # CONFIG_NR_CPUS goes up to 8192
UNLIMITED = -1

_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
_ULIMITS = (
    "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio", "rttime", "sigpending",
    "stack",
)  # fmt: skip


def size(option: str, text: str) -> int:
    """Bytes: a number, decimals allowed, with b, k, m, g or t (powers of 1024; kb and kib are k, and so on)."""
    word = text.lower()
    digits = word.rstrip("bikmgt")
    unit = word[len(digits) :]
    prefix = unit[: 1 if unit[:1] in _UNITS else 0]
    whole, point, fraction = digits.partition(".")
    if number(whole) is None or (point and number(fraction) is None) or unit[len(prefix) :] not in ("", "b", "ib")[: 3 if prefix else 2]:
        raise refused(option, text, "not a size; a number with b, k, m or g is allowed, as in 512m")
    factor = 1 << _UNITS[prefix]
    value = int(whole) * factor + (int(fraction) * factor // 10 ** len(fraction) if fraction else 0)
    if value >= 1 << 63:
        raise refused(option, text, "too large")
    return value


def memory(option: str, text: str) -> int:
    """A memory limit in bytes; 0 is none, else at least 6 MiB."""
    value = size(option, text)
    if 0 < value < SMALLEST_MEMORY:
        raise refused(option, text, "a process needs at least 6m (0 is no limit)")
    return value


def memory_swap(text: str) -> int | None:
    """Memory and swap together, in bytes: -1 unlimited, None for docker's 0 ("not set")."""
    if text == "-1":
        return UNLIMITED
    return size("--memory-swap", text) or None


def shm_size(text: str) -> int:
    """Bytes of /dev/shm, at least one."""
    value = size("--shm-size", text)
    if value == 0:
        raise refused("--shm-size", text, "at least 1 byte is needed")
    return value


def cpus(text: str) -> float | None:
    """How many CPUs, 0.01 or more; None for 0, which is no limit."""
    whole, point, fraction = text.partition(".")
    if (whole and number(whole) is None) or (fraction and number(fraction) is None) or not (whole or fraction) or (point and not fraction):
        raise refused("--cpus", text, "a number of CPUs is allowed, as in 0.5 or 2")
    value = float(text)
    if value == 0:
        return None
    if value * PERIOD < LEAST_QUOTA or value > MOST_CPU + 1:
        raise refused("--cpus", text, f"from 0.01 to {MOST_CPU + 1} is allowed (0 is no limit)")
    return value


def cpu_shares(text: str) -> int | None:
    """The weight, 2 to 262144; None for 0, the default."""
    value = number(text)
    if value == 0:
        return None
    if value is None or not LEAST_SHARES <= value <= MOST_SHARES:
        raise refused("--cpu-shares", text, f"a whole number from {LEAST_SHARES} to {MOST_SHARES} is allowed (0 is the default)")
    return value


def cpuset(text: str) -> str:
    """A list of CPUs, "0-2,4", as cpuset(7) has it; checked in form only."""
    for part in text.split(","):
        low, dash, high = part.partition("-")
        first, last = number(low), number(high) if dash else number(low)
        if first is None or last is None or not first <= last <= MOST_CPU:
            raise refused("--cpuset-cpus", text, "CPU numbers and ranges are allowed, as in 0-2,4")
    return text


def cpu_numbers(text: str) -> set[int]:
    """The numbers in a list of CPUs of the right form; none in ""."""
    ranges = [part.partition("-") for part in text.split(",") if part]
    return {cpu for low, _, high in ranges for cpu in range(int(low), int(high or low) + 1)}


def pids_limit(text: str) -> int:
    """How many processes and threads; -1 and 0 are no limit."""
    value = UNLIMITED if text == "-1" else number(text)
    if value is None or value > MOST_PIDS:
        raise refused("--pids-limit", text, f"a whole number up to {MOST_PIDS} is allowed (-1 is no limit)")
    return value


def cgroup_file(text: str) -> tuple[str, str]:
    """FILE=VALUE of cgroup v2 as (file, value); a memory file's size may have a unit, as everywhere else."""
    file, equals, value = text.partition("=")
    controller, point, name = file.partition(".")
    if not (equals and value and point and name and controller.isalnum() and text.isprintable()) or "/" in file:
        raise refused("--cgroup-conf", text, "FILE=VALUE is allowed, FILE one of cgroup v2's, as in memory.high=200m")
    if controller == "memory" and value[-1:].isalpha() and value[:1].isdigit():
        value = str(size("--cgroup-conf", value))
    return file, value


def ulimit(text: str) -> tuple[str, int, int]:
    """NAME=SOFT[:HARD] as (name, soft, hard), -1 unlimited; units are those of setrlimit(2)."""
    name, equals, limits = text.partition("=")
    if not equals or name not in _ULIMITS:
        raise refused("--ulimit", text, "NAME=SOFT[:HARD] is allowed, NAME one of " + " ".join(_ULIMITS))
    soft, colon, hard = limits.partition(":")
    pair = [UNLIMITED if word in ("-1", "unlimited") else number(word) for word in (soft, hard if colon else soft)]
    low, high = pair
    if low is None or high is None or max(low, high) >= 1 << 63:
        raise refused("--ulimit", text, "SOFT and HARD are whole numbers, or -1 for no limit")
    if high != UNLIMITED and (low == UNLIMITED or low > high):
        raise refused("--ulimit", text, "SOFT is above HARD")
    return name, low, high


def log_option(text: str) -> tuple[str, int]:
    """KEY=VALUE of --log-opt: ("max-size", bytes of a file of the log, at least 1 KiB) or ("max-file", how many there are, 1 to 1000)."""
    key, _, value = text.partition("=")
    if key == "max-size":
        bytes_ = size("--log-opt max-size", value)
        if bytes_ < 1024:
            raise refused("--log-opt", text, "a file of the log needs at least 1k, as in max-size=10m")
        return key, bytes_
    if key == "max-file":
        count = number(value)
        if count is None or not 1 <= count <= MOST_LOG_FILES:
            raise refused("--log-opt", text, f"a number from 1 to {MOST_LOG_FILES} is allowed, as in max-file=3")
        return key, count
    raise refused("--log-opt", text, "max-size=SIZE and max-file=N are allowed")
