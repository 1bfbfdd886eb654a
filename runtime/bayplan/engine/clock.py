"""The time of day as records and documents spell it (RFC 3339, UTC, nanoseconds)."""

from __future__ import annotations

import time


def now() -> str:
    return rfc3339(time.time_ns())


def rfc3339(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09d}Z"
