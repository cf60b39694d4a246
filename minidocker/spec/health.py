"""Health checks, as docker has them: what is asked for, and what a container is after one more look. Pure.

What is asked for (RunRequest.health, {} for nothing): command, interval, timeout and start_period in seconds, retries; {"none": True} for
--no-healthcheck. What a container is: {"status", "streak", "log"}, the log its last looks with start, end, code and output each.
"""

from __future__ import annotations

from minidocker.errors import UsageError
from minidocker.spec.parse import number, refused
from minidocker.spec.parse_time import LONGEST_WAIT, duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

STARTING, HEALTHY, UNHEALTHY = "starting", "healthy", "unhealthy"
KEPT = 5  # looks
MOST_OUTPUT = 4096  # bytes of one
NO_CODE = -1  # of a look that took too long, or did not come about
_DEFAULTS: dict[str, Any] = {"interval": 30.0, "timeout": 30.0, "start_period": 0.0, "retries": 3}
_SHORTEST = 0.001
_OPTIONS = ("health_cmd", "health_interval", "health_timeout", "health_start_period", "health_retries")


def check(given: Mapping[str, object]) -> dict[str, Any]:
    """The --health options (`given` by their keys) as RunRequest.health. 0 is the default, as docker has it."""
    texts = {key.removeprefix("health_"): str(given[key]) for key in _OPTIONS if key in given}
    if given.get("no_healthcheck"):
        if texts:
            raise UsageError("--no-healthcheck is against any --health option", "leave out one of them")
        return {"none": True}
    command = texts.pop("cmd", "")
    if not command:
        raise UsageError("a health check needs its command", "--health-cmd 'wget -qO- http://127.0.0.1/ || exit 1'")
    asked: dict[str, Any] = {"command": command, **_DEFAULTS}
    for key, text in texts.items():
        asked[key] = (_retries(text) if key == "retries" else _seconds(key, text)) or _DEFAULTS[key]
    return asked


def _seconds(key: str, text: str) -> float:
    value = 0.0 if text == "0" else duration(text)
    if value is None or (value and not _SHORTEST <= value <= LONGEST_WAIT):
        raise refused("--health-" + key.replace("_", "-"), text, "a duration from 1ms on is allowed (10s, 1m30s)")
    return value


def _retries(text: str) -> int:
    value = number(text)
    if value is None or value > 1000:
        raise refused("--health-retries", text, "a number up to 1000 is allowed")
    return value


def beginning() -> dict[str, Any]:
    """What a container is before anybody has looked."""
    return {"status": STARTING, "streak": 0, "log": []}


def judged(before: dict[str, Any], look: dict[str, Any], asked: dict[str, Any], started: float) -> dict[str, Any]:
    """What it is after `look`; `started` when its program was. While it is starting, and in its start period, no failure counts."""
    status, streak = before["status"], before["streak"]
    if look["code"] == 0:
        status, streak = HEALTHY, 0
    elif status != STARTING or look["start"] - started >= asked["start_period"]:
        streak += 1
        status = UNHEALTHY if streak >= asked["retries"] else status
    return {"status": status, "streak": streak, "log": [*before["log"], look][-KEPT:]}
