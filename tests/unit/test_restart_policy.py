"""What a monitor decides when its container has ended, as a table."""

from __future__ import annotations

from typing import Any

import pytest

from bayplan.supervise.restart import decide, delay

BASE: dict[str, Any] = {"limit": 0, "exit_code": 0, "stopped": False, "restarts": 0, "streak": 0, "ran": 1.0}

TABLE = [
    ("no", {"exit_code": 1}, None),
    ("no", {}, None),
    ("on-failure", {}, None),
    ("on-failure", {"exit_code": 1}, (0.1, 1, 1)),
    ("on-failure", {"exit_code": 137}, (0.1, 1, 1)),
    ("on-failure", {"exit_code": 1, "limit": 3, "restarts": 2, "streak": 2}, (0.4, 3, 3)),
    ("on-failure", {"exit_code": 1, "limit": 3, "restarts": 3, "streak": 3}, None),
    ("on-failure", {"exit_code": 1, "limit": 3, "restarts": 3, "streak": 3, "ran": 60.0}, None),
    ("always", {}, (0.1, 1, 1)),
    ("always", {"exit_code": 1, "restarts": 7, "streak": 3}, (0.8, 8, 4)),
    ("always", {"restarts": 7, "streak": 7, "ran": 10.0}, (0.1, 8, 1)),
    ("always", {"restarts": 7, "streak": 7, "ran": 9.9}, (12.8, 8, 8)),
    ("always", {"stopped": True}, None),
    ("unless-stopped", {"exit_code": 3}, (0.1, 1, 1)),
    ("unless-stopped", {"exit_code": 143, "stopped": True}, None),
    ("on-failure", {"exit_code": 143, "stopped": True}, None),
    ("nonsense", {"exit_code": 1}, None),
]


@pytest.mark.parametrize(("policy", "facts", "decision"), TABLE)
def test_the_policy_the_limit_and_the_users_stop_decide_about_the_next_life(
    policy: str, facts: dict[str, Any], decision: tuple[float, int, int] | None
) -> None:
    assert decide(policy, **{**BASE, **facts}) == decision, f"{policy} with {facts}"


def test_the_delay_doubles_from_a_tenth_of_a_second_to_a_minute() -> None:
    assert [delay(streak) for streak in range(11)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60.0]
    assert delay(1_000_000) == 60.0, "no streak, however long, waits longer"
