"""`Resources` as the files of cgroup v1 and v2 want them. Pure; the rules of runc where the two versions differ."""

from __future__ import annotations

from bayplan.errors import Invalid
from bayplan.model.runtime import DeviceRule, Resources
from bayplan.model.value import NamedTuple

_TYPES = {"a": "a", "b": "b", "c": "c", "u": "c"}


class Setting(NamedTuple):
    """One write. Without `required`, a kernel that lacks the file is fine."""

    controller: str
    file: str
    value: str
    required: bool = True


def check(resources: Resources) -> None:
    """Invalid for values that no version takes."""
    r = resources
    if r.memory_swap is not None and r.memory_swap > 0 and r.memory_limit and r.memory_swap < r.memory_limit:
        raise Invalid(f"memory plus swap ({r.memory_swap}) is less than the memory limit ({r.memory_limit})")
    if r.memory_limit and r.memory_reservation and r.memory_reservation > r.memory_limit > 0:
        raise Invalid(f"the memory reservation ({r.memory_reservation}) is above the limit ({r.memory_limit})")
    if r.memory_limit and 0 < r.memory_limit < 6 << 20:
        raise Invalid(f"a memory limit of {r.memory_limit} bytes is too small to start anything; the least is 6 MiB")


def settings_v1(resources: Resources) -> list[Setting]:
    """The writes in an order that a fresh cgroup accepts."""
    r = resources
    swap = -1 if r.memory_swap is not None and r.memory_swap < 0 else r.memory_swap
    given = [
        ("memory", "memory.limit_in_bytes", r.memory_limit, True),
        # without swap accounting (swapaccount=0) there is nothing to limit, and no file
        ("memory", "memory.memsw.limit_in_bytes", swap, False),
        ("memory", "memory.soft_limit_in_bytes", r.memory_reservation, True),
        ("memory", "memory.swappiness", r.memory_swappiness, True),
        ("memory", "memory.oom_control", 1 if r.oom_kill_disable else None, True),
        ("cpu", "cpu.shares", r.cpu_shares or None, True),
        ("cpu", "cpu.cfs_period_us", r.cpu_period or None, True),
        ("cpu", "cpu.cfs_quota_us", r.cpu_quota or None, True),
        ("cpuset", "cpuset.cpus", r.cpuset_cpus or None, True),
        ("cpuset", "cpuset.mems", r.cpuset_mems or None, True),
        ("pids", "pids.max", _unlimited(r.pids_limit), True),
    ]
    return [Setting(c, file, str(value), required) for c, file, value, required in given if value is not None]


def settings_v2(resources: Resources) -> list[Setting]:
    """The same for the unified hierarchy. `oom_kill_disable` and swappiness have no equivalent there."""
    r = resources
    given = [
        ("memory", "memory.max", _unlimited(r.memory_limit), True),
        ("memory", "memory.low", r.memory_reservation, True),
        ("memory", "memory.swap.max", _swap_v2(r), False),
        ("cpu", "cpu.weight", weight(r.cpu_shares) if r.cpu_shares else None, True),
        ("cpu", "cpu.max", _cpu_max(r), True),
        ("cpuset", "cpuset.cpus", r.cpuset_cpus or None, True),
        ("cpuset", "cpuset.mems", r.cpuset_mems or None, True),
        ("pids", "pids.max", _unlimited(r.pids_limit), True),
    ]
    return [Setting(c, file, str(value), required) for c, file, value, required in given if value is not None]


def weight(shares: int) -> int:
    """cpu.weight (1 to 10000, 100 by default) for v1's shares (2 to 262144, 1024 by default), as runc 1.3.2 maps them."""
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    import math

    octave = math.log2(shares)
    return math.ceil(10 ** ((octave * octave + 125 * octave) / 612 - 7 / 34))


def _unlimited(limit: int | None) -> str | None:
    if limit is None:
        return None
    return "max" if limit < 0 else str(limit)


def _swap_v2(r: Resources) -> str | None:
    if r.memory_swap is None:
        return None
    if r.memory_swap < 0:
        return "max"
    return str(r.memory_swap - max(r.memory_limit or 0, 0))  # v1 counts memory and swap together, v2 swap alone


def _cpu_max(r: Resources) -> str | None:
    if r.cpu_quota is None and r.cpu_period is None:
        return None
    quota = "max" if not r.cpu_quota or r.cpu_quota < 0 else str(r.cpu_quota)
    return f"{quota} {r.cpu_period or 100000}"


def device_line(rule: DeviceRule) -> str:
    """A rule as v1's devices.allow and devices.deny take it; "a" alone is everything."""
    if rule.type == "a" and rule.major is None and rule.minor is None:
        return "a"
    major, minor = ("*" if n is None or n < 0 else str(n) for n in (rule.major, rule.minor))
    return f"{_TYPES[rule.type]} {major}:{minor} {rule.access}"
