"""Restart policies, as docker has them: when a container that has ended is started again, and after how long. Pure."""

from __future__ import annotations

from minidocker.spec.parse import number, refused

NO, ON_FAILURE, ALWAYS, UNLESS_STOPPED = "no", "on-failure", "always", "unless-stopped"
POLICIES = (NO, ON_FAILURE, ALWAYS, UNLESS_STOPPED)

SHORTEST_WAIT, LONGEST_WAIT = 0.1, 60.0  # seconds: the first wait, twice as long each time, and the longest
STEADY = 10.0  # seconds that it has to be up for the next wait to be the first again


def policy(text: str) -> tuple[str, int]:
    """--restart as (policy, how often at most); 0 is as often as it takes, "" is no policy."""
    name, colon, most = text.partition(":")
    if name not in POLICIES and text:
        raise refused("--restart", text, "no, on-failure[:N], always and unless-stopped are allowed")
    if not colon:
        return name or NO, 0
    count = number(most)
    if name != ON_FAILURE or count is None:
        raise refused("--restart", text, "a number of times goes with on-failure alone, as in on-failure:5")
    return name, count


def wait(name: str, most: int, restarts: int, last: float, ran: float, failed: bool) -> float | None:
    """How many seconds after its end a container is started again, None for not at all; the user has not ended it. `restarts` is how
    often it was, `last` how long the last wait was (0: there was none), `ran` how long it was up, `failed` whether its exit code was
    another than 0 or nobody saw it."""
    if name == NO or (name == ON_FAILURE and (not failed or 0 < most <= restarts)):
        return None
    if ran >= STEADY or not last:
        return SHORTEST_WAIT
    return min(2 * last, LONGEST_WAIT)
