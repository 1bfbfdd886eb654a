"""The files of a cgroup: one value, rows of a name and a number, one write."""

from __future__ import annotations

import os

from bayplan.errors import Kernel


def write(path: str, value: str, doing: str) -> None:
    """Write `value` at once, as the kernel wants it. Kernel says `doing`, and the file."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode() or b"\n")  # a write of nothing does not reach the kernel
        finally:
            os.close(fd)
    except OSError as error:
        raise Kernel(doing, OSError(error.errno, error.strerror, path)) from error


def read(path: str) -> str | None:
    """What it says; None where it is not there, or has no answer."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return None


def number(path: str) -> int | None:
    """A file of one number; None also for "max"."""
    text = (read(path) or "").strip()
    return int(text) if text.isdecimal() else None


def rows(path: str) -> dict[str, int]:
    """A file of rows such as `oom_kill 0`; empty where it is not there."""
    pairs = (line.split() for line in (read(path) or "").splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}
