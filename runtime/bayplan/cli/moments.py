"""Times and sizes as people read them, in Docker's words. No datetime: it costs more than all of `ps` may."""

from __future__ import annotations

import time

from bayplan.errors import Invalid

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_STAMP = r"(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9})\d*)?)?)?(Z|z|[+-]\d\d:\d\d)?"


def epoch(text: str) -> float:
    """Seconds since 1970 of an RFC 3339 time, UTC where it names no zone; raises Invalid."""
    fields = _recorded(text) or _written(text)
    year, month, day, hour, minute, second = fields[0]
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second <= 60):
        raise Invalid(f"{text!r} is not a time that there is")
    return _days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second + fields[1] - fields[2]


def _recorded(text: str) -> tuple[tuple[int, ...], float, int] | None:
    """A time as our records spell it, read without re, which costs more than a list of containers; None where it is spelt otherwise."""
    digits = text[0:4] + text[5:7] + text[8:10] + text[11:13] + text[14:16] + text[17:19]
    marks = text[4:5] + text[7:8] + text[10:11] + text[13:14] + text[16:17] + text[19:20]
    fraction = text[20:-1]
    if marks != "--T::." or text[-1:] != "Z" or not (digits + fraction).isdigit() or not fraction or not text.isascii():
        return None
    parts = (int(digits[:4]), *(int(digits[at : at + 2]) for at in range(4, 14, 2)))
    return parts, float(f"0.{fraction}"), 0


def _written(text: str) -> tuple[tuple[int, ...], float, int]:
    """Any other spelling; raises Invalid."""
    import re

    match = re.fullmatch(_STAMP, text, re.ASCII)
    if match is None:
        raise Invalid(f"{text!r} is not a time such as 2026-01-02T03:04:05Z")
    return tuple(int(part or 0) for part in match.groups()[:6]), float(f"0.{match[7] or 0}"), _offset(match[8])


def _days(year: int, month: int, day: int) -> int:
    """Days since 1970 in the Gregorian calendar; years begin in March here, so that the leap day is the last."""
    year, month = (year - 1, month + 9) if month < 3 else (year, month - 3)
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * month + 2) // 5 + day - 1 - 719468


def _offset(zone: str | None) -> int:
    if not zone or zone in "Zz":
        return 0
    seconds = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
    return -seconds if zone[0] == "-" else seconds


def duration(text: str) -> float:
    """Seconds of 90, 1m30s, 2h, 1d; raises Invalid."""
    import re

    if re.fullmatch(r"\d+(\.\d*)?", text, re.ASCII):
        return float(text)
    parts = re.findall(r"(\d+(?:\.\d*)?)(ms|h|m|s|d)", text, re.ASCII)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise Invalid(f"{text!r} is not a duration such as 1m30s")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def moment(text: str) -> float:
    """Seconds since 1970 of a time, of a duration before now, or of a number of seconds since 1970, as `--since` takes them."""
    import re

    if re.fullmatch(r"\d+(\.\d*)?", text, re.ASCII):
        return float(text)
    return epoch(text) if re.fullmatch(_STAMP, text, re.ASCII) else time.time() - duration(text)


def span(seconds: float) -> str:
    """Docker's words for a length of time: "About a minute", "3 hours", "2 weeks"."""
    whole = int(max(seconds, 0))
    minutes, hours = whole // 60, int(whole / 3600 + 0.5)
    if whole < 60:
        return "Less than a second" if whole < 1 else "1 second" if whole == 1 else f"{whole} seconds"
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    for limit, length, unit in ((24 * 14, 24, "days"), (24 * 60, 24 * 7, "weeks"), (24 * 365 * 2, 24 * 30, "months")):
        if hours < limit:
            return f"{hours // length} {unit}"
    return f"{hours // (24 * 365)} years"


def ago(text: str) -> str:
    """How long ago an RFC 3339 time was: "3 hours ago"; "N/A" where there is no time."""
    try:
        return f"{span(time.time() - epoch(text))} ago"
    except Invalid:
        return "N/A"


def local(text: str) -> str:
    """Docker's CreatedAt: "2026-01-02 03:04:05 +0000 UTC"."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC", time.gmtime(epoch(text)))
    except (Invalid, OverflowError, OSError, ValueError):
        return "N/A"


def size(count: float) -> str:
    """Decimal units, at most three digits after the first: 4.26MB, 12kB."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            break
        count /= 1000
    return f"{count:.3g}{unit}" if count < 1000 else f"{count:.0f}{unit}"
