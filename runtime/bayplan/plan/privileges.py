"""What a container may do by default, as data: device rules, masked and read-only paths. Capabilities are in model/capabilities.py."""

from __future__ import annotations

from bayplan.errors import Invalid
from bayplan.model.runtime import DeviceRule

MASKED_PATHS = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
    "/sys/devices/virtual/powercap", "/sys/firmware",
)  # fmt: skip
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

DEFAULT_DEVICE_RULES = (
    DeviceRule(False),
    DeviceRule(True, "c", None, None, "m"),
    DeviceRule(True, "b", None, None, "m"),
    *(DeviceRule(True, "c", 1, minor) for minor in (3, 5, 7, 8, 9)),
    DeviceRule(True, "c", 5, 0),
    DeviceRule(True, "c", 5, 2),
    DeviceRule(True, "c", 136, None),
)
PRIVILEGED_DEVICE_RULES = (DeviceRule(True),)


def thermal_paths(cpus: int) -> tuple[str, ...]:
    """Per-CPU thermal counters, a side channel; masked as /sys/firmware is."""
    return tuple(f"/sys/devices/system/cpu/cpu{cpu}/thermal_throttle" for cpu in range(cpus))


def device_rule(text: str) -> DeviceRule:
    """One line of --device-cgroup-rule: "c 1:3 rwm", "b *:* r", "a *:* rwm"."""
    words = text.split()
    numbers = words[1].split(":") if len(words) == 3 else []
    valid = (
        len(words) == 3
        and words[0] in ("a", "b", "c")
        and len(numbers) == 2
        and all(number == "*" or number.isdigit() for number in numbers)
        and words[2]
        and not set(words[2]) - set("rwm")
    )
    if not valid:
        raise Invalid(f"reading the device rule {text!r}: it is TYPE MAJOR:MINOR ACCESS, such as `c 10:200 rwm`")
    major, minor = (None if number == "*" else int(number) for number in numbers)
    return DeviceRule(True, words[0], major, minor, words[2])
