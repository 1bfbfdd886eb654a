"""Whether a container that has ended starts again, and when. Pure."""

from __future__ import annotations

FIRST_DELAY = 0.1  # seconds
LONGEST_DELAY = 60.0
STABLE_AFTER = 10.0  # seconds of running after which the delay starts from the beginning


def delay(streak: int) -> float:
    """Seconds to wait after `streak` short lives in a row: 0.1, 0.2, 0.4 up to 60."""
    return min(LONGEST_DELAY, FIRST_DELAY * float(1 << min(streak, 16)))


def wants_restart(policy: str, limit: int, exit_code: int, restarts: int) -> bool:
    """The policy's word alone. `limit` counts restarts under on-failure:N; 0 is none."""
    if policy == "on-failure":
        return exit_code != 0 and (limit == 0 or restarts < limit)
    return policy in ("always", "unless-stopped")


def decide(
    policy: str, *, limit: int, exit_code: int, stopped: bool, restarts: int, streak: int, ran: float
) -> tuple[float, int, int] | None:
    """(seconds to wait, restarts, streak) for the next life, or None when there is none.

    `stopped`: the user's stop wins over any policy. `ran` is how many seconds the container lived.
    """
    if stopped or not wants_restart(policy, limit, exit_code, restarts):
        return None
    if ran >= STABLE_AFTER:
        streak = 0
    return delay(streak), restarts + 1, streak + 1
