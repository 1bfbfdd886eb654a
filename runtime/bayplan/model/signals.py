"""Linux's signals by name (signal(7)); the same numbers on x86-64 and aarch64."""

from __future__ import annotations

from bayplan.errors import Invalid

_NAMES = (
    "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ"
    " VTALRM PROF WINCH IO PWR SYS"
).split()
SIGNALS = {**{name: number for number, name in enumerate(_NAMES, 1)}, "IOT": 6, "POLL": 29, "CLD": 17}
RTMIN, RTMAX = 34, 64
KILL, TERM = 9, 15


def parse_signal(text: str) -> int:
    """The number of "TERM", "SIGTERM", "15", "SIGRTMIN+3" or "RTMAX-1", in any case; raises Invalid."""
    name = text.strip().upper()
    name = name[3:] if name.startswith("SIG") else name
    number = int(name) if name.isascii() and name.isdigit() else SIGNALS.get(name) or _realtime(name)
    if not 1 <= number <= RTMAX:
        raise Invalid(f"reading the signal {text!r}: it is neither a name such as SIGTERM nor a number from 1 to {RTMAX}")
    return number


def _realtime(name: str) -> int:
    base, sign = (RTMIN, 1) if name.startswith("RTMIN") else (RTMAX, -1) if name.startswith("RTMAX") else (0, 0)
    rest = name[5:]
    if not base or not (rest == "" or (rest[1:].isdigit() and rest[0] == ("+" if sign > 0 else "-"))):
        return 0
    number = base + sign * int(rest[1:] or 0)
    return number if RTMIN <= number <= RTMAX else 0
