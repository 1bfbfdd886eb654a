"""What a container may do by default, as data: capabilities, device rules, masked and read-only paths."""

from __future__ import annotations

from bayplan.errors import Invalid
from bayplan.model.runtime import Capabilities, DeviceRule

# Docker's fourteen; `strict` leaves out what lets a process make devices, raw packets and audit records.
DEFAULT_CAPABILITIES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
)  # fmt: skip
STRICT_LEAVES_OUT = ("CAP_MKNOD", "CAP_NET_RAW", "CAP_AUDIT_WRITE")

ALL_CAPABILITIES = tuple(
    "CAP_" + name
    for name in (
        "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE"
        " NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN"
        " SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE"
        " MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
    ).split()
)

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


def granted(*, privileged: bool, strict: bool, add: tuple[str, ...], drop: tuple[str, ...]) -> Capabilities:
    """The sets of a container's first process: `add` and `drop` as Docker reads them ("ALL", "NET_ADMIN", "CAP_NET_ADMIN").

    The inheritable set stays empty (CVE-2022-24769); raises Invalid for a name that no kernel knows.
    """
    added, dropped = tuple(map(_named, add)), tuple(map(_named, drop))
    if privileged:
        start = ALL_CAPABILITIES
    elif "ALL" in dropped:
        start = ()
    else:
        start = tuple(name for name in DEFAULT_CAPABILITIES if not (strict and name in STRICT_LEAVES_OUT))
    if "ALL" in added:
        start = ALL_CAPABILITIES
    kept = {*start, *added} - set(dropped) - {"ALL"}
    names = tuple(name for name in ALL_CAPABILITIES if name in kept)
    return Capabilities(bounding=names, effective=names, permitted=names)


def _named(name: str) -> str:
    upper = name.upper()
    if upper in ("ALL", "CAP_ALL"):
        return "ALL"
    full = upper if upper.startswith("CAP_") else f"CAP_{upper}"
    if full not in ALL_CAPABILITIES:
        raise Invalid(f"granting capabilities: {name!r} is not a capability of Linux")
    return full


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
