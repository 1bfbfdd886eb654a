"""Room on the state's file system. A reserve of it stays free for what runs there: a full disk would hurt every container on it.

BAYPLAN_RESERVE says how much: 5%, 512M, 2G, 0; as it says nothing, the smaller one of 5 % and 1 GiB. Of the inodes, 5 % or 100,000.
"""

from __future__ import annotations

import os

from bayplan.errors import Full, Invalid
from bayplan.model.value import NamedTuple

_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_PERCENT, _MOST_BYTES, _MOST_INODES = 5, 1 << 30, 100_000
_SHORTEST, _LONGEST = 64 << 10, 8 << 20  # bytes between two looks
_WRITERS = 8  # that may use up together what each of them has seen
_LEAST_FILE = 512  # bytes of an archive: a header
_REMEDY = "remove what is not used (bayplan system prune), or make room"


class Room(NamedTuple):
    """What may still be used, in bytes and inodes, and the reserve; negative where the reserve is in use already."""

    bytes: int
    inodes: int
    reserve: int


def left(path: str) -> Room:
    """Raises OSError, Invalid where the reserve is spelt wrong."""
    found = os.statvfs(path)
    reserve = _reserve(found.f_blocks * found.f_frsize)
    kept = min(found.f_files * _PERCENT // 100, _MOST_INODES) if reserve else 0
    inodes = found.f_favail - kept if found.f_files else 1 << 62  # btrfs has no number of them
    return Room(found.f_bavail * found.f_frsize - reserve, inodes, reserve)


def _reserve(size: int) -> int:
    text = os.environ.get("BAYPLAN_RESERVE", "")
    if not text:
        return min(size * _PERCENT // 100, _MOST_BYTES)
    number = text[:-1] if text[-1] in "%KMGT" else text
    if not (number.isascii() and number.isdigit()) or (text[-1] == "%" and int(number) >= 100):
        raise Invalid(f"reading BAYPLAN_RESERVE: {text!r} is no size such as 5%, 512M or 2G")
    return size * int(number) // 100 if text[-1] == "%" else int(number) * _UNITS.get(text[-1], 1)


def check(path: str, doing: str, *, need: int = 0, files: int = 0) -> Room:
    """What is left; raises Full unless there is room for `need` bytes and `files` inodes, and for at least something, beside the
    reserve."""
    found = left(path)
    if found.inodes <= files:
        raise Full(f"{doing}: the disk is full: it has no inodes left but the reserve that stays for what runs; {_REMEDY}")
    if found.bytes <= need:
        wanted = f" {_megabytes(need)} are needed," if need else ""
        there = f"{_megabytes(max(found.bytes, 0))} may be used, and {_megabytes(found.reserve)} stay for what runs (BAYPLAN_RESERVE)"
        raise Full(f"{doing}: the disk is full:{wanted} {there}; {_REMEDY}")
    return found


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


class Watch:
    """Looks now and then, while something is written to the file system of `path`."""

    def __init__(self, path: str, doing: str) -> None:
        self._path, self._doing = path, doing
        self._until = 0

    def take(self, count: int) -> None:
        """So many bytes of an archive are about to be written, or as files; raises Full."""
        self._until -= count
        if self._until <= 0:
            found = check(self._path, self._doing, need=count, files=count // _LEAST_FILE)
            self._until = max(_SHORTEST, min(_LONGEST, found.bytes // _WRITERS, found.inodes * _LEAST_FILE // _WRITERS))
