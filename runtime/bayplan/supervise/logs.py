"""Reading a container's json-file log back: across rotation, from its end, and as it grows."""

from __future__ import annotations

import fcntl
import json
import os
import time

from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.supervise.log import LOCK_FLAGS, timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FILE_NAME = "json.log"
BLOCK = 65536  # bytes that are read at once
LONGEST_LINE = 1 << 20  # bytes: the monitor writes none as long
POLL = 0.1  # seconds between looks at a log that is followed


class LogLine(NamedTuple):
    """One line of output, or a piece of a very long one; then `text` does not end with a newline."""

    stream: str  # stdout or stderr
    time: str  # RFC 3339, UTC, nine digits
    text: str


class LogQuery(NamedTuple):
    """Which lines: `tail` counts from the end (None: all); times are wall clock nanoseconds since 1970, inclusive."""

    tail: int | None = None
    since_ns: int | None = None
    until_ns: int | None = None


def read_log(directory: str, query: LogQuery) -> Iterator[LogLine]:
    """The lines written so far, oldest first. A container without a log has none. Raises OSError."""
    files = _open_all(directory)
    try:
        yield from _select(_lines(files, query.tail), query)
    finally:
        _close(files)


def follow_log(directory: str, query: LogQuery, alive: Callable[[], bool]) -> Iterator[LogLine]:
    """The lines written so far, then each new one, until `alive()` is false and all is read. Raises OSError."""
    files = _open_all(directory)
    try:
        yield from _select(_growing(directory, files, query.tail, alive), query)
    finally:
        _close(files)


def _select(lines: Iterator[bytes], query: LogQuery) -> Iterator[LogLine]:
    """Times have a fixed form, so that they compare as text."""
    since = "" if query.since_ns is None else timestamp(query.since_ns)
    until = "~" if query.until_ns is None else timestamp(query.until_ns)
    for raw in lines:
        line = parse_line(raw)
        if line is not None and line.time > until:
            return
        if line is not None and line.time >= since:
            yield line


def parse_line(raw: bytes) -> LogLine | None:
    """None for a line that is damaged, as a full disk or a loss of power leaves it."""
    try:
        fields = json.loads(raw)
        line = LogLine(fields["stream"], fields["time"], fields["log"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return line if all(isinstance(field, str) for field in line) else None


def _open_all(directory: str) -> list[int]:
    """Oldest first, of one moment: no rotation happens meanwhile."""
    files: list[int] = []
    try:
        lock = os.open(f"{directory}/{FILE_NAME}.lock", LOCK_FLAGS, 0o600)
    except FileNotFoundError:
        return files  # the container is gone
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        while True:
            path = f"{directory}/{FILE_NAME}" + (f".{len(files)}" if files else "")
            files.insert(0, os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC))
    except FileNotFoundError:
        return files
    finally:
        os.close(lock)


def _close(files: list[int]) -> None:
    for descriptor in files:
        os.close(descriptor)


def _lines(files: list[int], tail: int | None) -> Iterator[bytes]:
    first, offset = (0, 0) if tail is None else _from_end(files, tail)
    for number in range(first, len(files)):
        yield from _file_lines(files[number], offset if number == first else 0)


def _file_lines(descriptor: int, offset: int) -> Iterator[bytes]:
    """Complete lines from the offset to the present end; the file's position is left after the last of them."""
    rest = b""
    position = offset
    while True:
        block = os.pread(descriptor, BLOCK, position)
        position += len(block)
        *complete, rest = (rest + block).split(b"\n")
        yield from complete
        if len(rest) > LONGEST_LINE:
            rest = b""
        if not block:
            os.lseek(descriptor, position - len(rest), os.SEEK_SET)
            return


def _from_end(files: list[int], wanted: int) -> tuple[int, int]:
    """(which file, offset in it) where the last `wanted` lines begin."""
    number = len(files)
    while number > 0:
        number -= 1
        offset, found = _back(files[number], wanted)
        if found >= wanted:
            return number, offset
        wanted -= found
    return 0, 0


def _back(descriptor: int, wanted: int) -> tuple[int, int]:
    """(offset, lines) of at most the last `wanted` complete lines of one file."""
    end = os.fstat(descriptor).st_size
    found = 0
    limit = end  # what is behind it has been counted
    while limit > 0:
        start = max(0, limit - BLOCK)
        block = os.pread(descriptor, limit - start, start)
        at = len(block)
        while True:
            at = block.rfind(b"\n", 0, at)
            if at < 0:
                break
            if found == wanted:
                return start + at + 1, found
            found += 1
        limit = start
    return 0, found


def _growing(directory: str, files: list[int], tail: int | None, alive: Callable[[], bool]) -> Iterator[bytes]:
    yield from _lines(files, tail)
    while True:
        last_look = not alive()  # asked first: what is written before the end is then read
        grown = False
        for raw in _new_lines(directory, files):
            grown = True
            yield raw
        if last_look:
            return
        if not grown:
            time.sleep(POLL)


def _new_lines(directory: str, files: list[int]) -> Iterator[bytes]:
    """What came since the last call, in the newest file that was read and those that came after it."""
    if files:
        yield from _file_lines(files[-1], os.lseek(files[-1], 0, os.SEEK_CUR))
    newest = os.fstat(files[-1]).st_ino if files else 0
    present = _open_all(directory)
    inodes = [os.fstat(descriptor).st_ino for descriptor in present]
    if present and inodes[-1] == newest:
        _close(present)
        return
    fresh = inodes.index(newest) + 1 if newest in inodes else 0
    # the old one may have grown between the first look and the rotation
    last = list(_file_lines(files[-1], os.lseek(files[-1], 0, os.SEEK_CUR))) if files else []
    _close(files + present[:fresh])
    files[:] = present[fresh:]
    yield from last
    for descriptor in files:
        yield from _file_lines(descriptor, 0)
