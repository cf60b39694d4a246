"""Times as users write them: RFC 3339, seconds since the epoch, Go's durations. Pure; see parse.py for the errors."""

from __future__ import annotations

from minidocker.spec.parse import number, refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Broken = tuple[int, int, int, int, int, int, int, int, int]

FOREVER = -1.0
LONGEST_WAIT = 2_000_000  # seconds; poll(2) counts milliseconds in an int
_UNITS = (("ms", 1e-3), ("us", 1e-6), ("µs", 1e-6), ("ns", 1e-9), ("h", 3600.0), ("m", 60.0), ("s", 1.0))
_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def decimal(text: str) -> float | None:
    """A number with an optional fraction, no sign and no exponent."""
    whole, point, fraction = text.partition(".")
    if number(whole) is None or (point and number(fraction) is None):
        return None
    return float(text)


def duration(text: str) -> float | None:
    """Seconds of a duration as Go writes them, 10s, 1.5h, 1h30m, 250ms; None when it is none."""
    total, rest = 0.0, text
    while rest:
        at = 0
        while at < len(rest) and rest[at] in "0123456789.":
            at += 1
        value = decimal(rest[:at])
        unit = next(((name, seconds) for name, seconds in _UNITS if rest.startswith(name, at)), None)
        if value is None or unit is None:
            return None
        total += value * unit[1]
        rest = rest[at + len(unit[0]) :]
    return total if text else None


def since(text: str, now: float, local: Callable[[Broken], float], option: str = "--since") -> float:
    """--since, or --until, as seconds since the epoch: RFC 3339 (the zone may be missing: `local`, such as time.mktime, says), an epoch, or
    a duration before `now`."""
    value = decimal(text)
    if value is None and (span := duration(text)) is not None:
        value = now - span
    if value is None:
        value = _rfc3339(text, local)
    if value is None:
        raise refused(option, text, "a time (2024-05-01T10:00:00Z), seconds since 1970, or a duration (90s, 1h30m) is allowed")
    return value


def _rfc3339(text: str, local: Callable[[Broken], float]) -> float | None:
    """RFC 3339, section 5.6; like docker also without zone, seconds, or time of day."""
    day, separator, clock = text.replace("t", "T").replace(" ", "T").partition("T")
    date = [number(part) for part in day.split("-")]
    if [len(part) for part in day.split("-")] != [4, 2, 2] or None in date:
        return None
    year, month, dom = (part or 0 for part in date)
    if not (1 <= month <= 12 and 1 <= dom <= _DAYS[month - 1] + (month == 2 and _leap(year)) and year >= 1970):
        return None
    offset: int | None = None
    seconds = 0.0
    if separator:
        clock, offset, good = _zone(clock)
        time_of_day = _clock(clock)
        if time_of_day is None or not good:
            return None
        seconds = time_of_day
    if offset is not None:
        return _days(year, month, dom) * 86400 + seconds - offset
    try:
        return local((year, month, dom, 0, 0, int(seconds), 0, 0, -1)) + seconds % 1
    except (OverflowError, ValueError):
        return None


def _zone(clock: str) -> tuple[str, int | None, bool]:
    """The clock without its zone, the zone in seconds east of Greenwich (None: none given), whether that was well formed."""
    if clock[-1:] in ("Z", "z"):
        return clock[:-1], 0, True
    at = max(clock.find("+"), clock.find("-"))
    if at < 0:
        return clock, None, True
    zone = clock[at + 1 :]
    hours, minutes = number(zone[:2]), number(zone[3:])
    good = len(zone) == 5 and zone[2] == ":" and hours is not None and minutes is not None and hours < 24 and minutes < 60
    return clock[:at], ((hours or 0) * 3600 + (minutes or 0) * 60) * (-1 if clock[at] == "-" else 1), good


def _clock(text: str) -> float | None:
    """HH:MM[:SS[.fraction]] as seconds of the day."""
    hour, _, rest = text.partition(":")
    minute, colon, second = rest.partition(":")
    hours, minutes, seconds = number(hour), number(minute), decimal(second) if colon else 0.0
    if hours is None or minutes is None or seconds is None or len(hour) != 2 or len(minute) != 2:
        return None
    if (colon and len(second.partition(".")[0]) != 2) or hours > 23 or minutes > 59 or seconds >= 61:
        return None
    return hours * 3600 + minutes * 60 + seconds


def _leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def _days(year: int, month: int, dom: int) -> int:
    """Days from 1970-01-01 in the Gregorian calendar."""
    before = year - 1
    leaps = before // 4 - before // 100 + before // 400 - (1969 // 4 - 1969 // 100 + 1969 // 400)
    return (year - 1970) * 365 + leaps + sum(_DAYS[: month - 1]) + (month > 2 and _leap(year)) + dom - 1


def timeout(text: str, option: str = "--time") -> float:
    """--time of `stop` in seconds; -1 is for ever."""
    value = FOREVER if text == "-1" else decimal(text)
    if value is None or value > LONGEST_WAIT:
        raise refused(option, text, f"seconds up to {LONGEST_WAIT} are allowed (-1 is for ever)")
    return value


def tail(text: str) -> int | None:
    """--tail: a number of lines; None for all."""
    if text in ("all", "-1"):
        return None
    value = number(text)
    if value is None:
        raise refused("--tail", text, "a number of lines, or all, is allowed")
    return value
