"""Capabilities (capabilities(7)): their names, and which ones a container gets."""

from __future__ import annotations

from bayplan.errors import Invalid
from bayplan.model.runtime import Capabilities
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# in the order of their numbers, from 0 (linux/capability.h)
NAMES = tuple(
    "CAP_" + name
    for name in (
        "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
        "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
        "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE "
        "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
    ).split()
)
DEFAULT = tuple(
    "CAP_" + name
    for name in (
        "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL "
        "AUDIT_WRITE"
    ).split()
)
STRICT = tuple(name for name in DEFAULT if name not in ("CAP_MKNOD", "CAP_NET_RAW", "CAP_AUDIT_WRITE"))


def granted(
    *, add: Iterable[str] = (), drop: Iterable[str] = (), privileged: bool = False, strict: bool = False
) -> Capabilities:
    """The sets of a container. Names in any case, with or without `CAP_`; ALL in either list is everything.

    As Docker has it: `add` wins over `drop`, `drop: ALL` leaves exactly `add`, `add: ALL` everything but `drop`, and
    `privileged` heeds neither. Inheritable and ambient stay empty (an inheritable set let image files gain them:
    CVE-2022-24769). Unknown: Invalid.
    """
    added, dropped = {_name(name) for name in add}, {_name(name) for name in drop}
    if privileged:
        names = set(NAMES)
    elif "ALL" in added:
        names = set(NAMES) - dropped
    else:
        names = added if "ALL" in dropped else (set(STRICT if strict else DEFAULT) - dropped) | added
    chosen = tuple(name for name in NAMES if name in names)
    return Capabilities(bounding=chosen, effective=chosen, permitted=chosen)


def mask(names: Iterable[str]) -> int:
    """Bit n for the capability of number n. Unknown: Invalid."""
    return sum(1 << NAMES.index(_name(name)) for name in set(names))


def _name(text: str) -> str:
    name = text.upper()
    name = name if name == "ALL" or name.startswith("CAP_") else "CAP_" + name
    if name != "ALL" and name not in NAMES:
        raise Invalid(f"granting capabilities: {text!r} is not a capability of Linux; capabilities(7) lists them")
    return name
