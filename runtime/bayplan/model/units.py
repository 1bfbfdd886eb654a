"""Sizes, durations and CPU counts as the Compose Specification writes them, in bytes, nanoseconds and nano-CPUs."""

from __future__ import annotations

from bayplan.model.node import Node
from bayplan.model.regular import findall, fullmatch, without

SECOND = 1_000_000_000
_SIZE = r"(?ai)(\d{1,19})(?:\.(\d{1,9}))?\s*([kmgtp]?)(?:i?b)?"
_DURATION = r"(?a)(\d{1,19})(?:\.(\d{1,9}))?(ns|us|µs|ms|s|m|h|d)"
_CPUS = r"(?a)(\d{1,6})(?:\.(\d{1,9}))?"
_POWERS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}
_NANOSECONDS = {"ns": 1, "us": 1000, "µs": 1000, "ms": 10**6, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND, "d": 86400 * SECOND}
_MAXIMUM = 2**63 - 1


def size(node: Node) -> int:
    """Bytes from a whole number or a text such as `512m` or `1.5gb` (multiples of 1024); Invalid otherwise."""
    match = fullmatch(_SIZE, str(node.word()).strip())
    if not match:
        raise node.expected("a size such as 512m or 1.5g")
    return _bounded(node, _scaled(match[1], match[2], 1 << _POWERS[match[3].lower()]))


def duration(node: Node) -> int:
    """Nanoseconds from a text such as `1m30s` or `500ms`; a bare number has no unit and is Invalid, but for 0."""
    if node.value in (0, "0") and not isinstance(node.value, bool):
        return 0
    text = node.text() if isinstance(node.value, str) else ""
    if not text or without(_DURATION, text):
        raise node.expected("a duration with its unit, such as 10s or 1m30s,")
    return _bounded(node, sum(_scaled(whole, part, _NANOSECONDS[unit]) for whole, part, unit in findall(_DURATION, text)))


def seconds(node: Node) -> int:
    """Nanoseconds from a whole number of seconds, or from a duration."""
    if isinstance(node.value, int) and not isinstance(node.value, bool):
        return _bounded(node, node.integer() * SECOND)
    return duration(node)


def cpus(node: Node) -> int:
    """Nano-CPUs from `1.5` as a number or text, to nine digits after the point."""
    plain = isinstance(node.value, (int, float)) and not isinstance(node.value, bool)
    match = fullmatch(_CPUS, _decimal(node.value) if plain else node.text())
    if not match:
        raise node.expected("a number of CPUs such as 1.5")
    return _scaled(match[1], match[2], SECOND)


def cpus_text(nano: int) -> str:
    """The text that `cpus` reads as `nano`."""
    whole, part = divmod(nano, SECOND)
    return f"{whole}.{part:09d}".rstrip("0").rstrip(".")


def duration_text(nanoseconds: int) -> str:
    """The shortest single-unit text that `duration` reads as `nanoseconds`."""
    for unit in ("s", "ms", "us"):
        if nanoseconds % _NANOSECONDS[unit] == 0:
            return f"{nanoseconds // _NANOSECONDS[unit]}{unit}"
    return f"{nanoseconds}ns"


def _scaled(whole: str, part: str | None, unit: int) -> int:
    return int(whole) * unit + (int(part) * unit // 10 ** len(part) if part else 0)


def _bounded(node: Node, value: int) -> int:
    if value > _MAXIMUM:
        raise node.wrong("the value does not fit into 64 bits")
    return value


def _decimal(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.9f}"
