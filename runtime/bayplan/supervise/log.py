"""Docker's json-file log: one JSON object a line, rotated by size and count.

Specification: https://docs.docker.com/engine/logging/drivers/json-file/. Lean, see loop.py.
"""

from __future__ import annotations

import fcntl
import posix
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from json.encoder import encode_basestring
else:
    from _json import encode_basestring

PIECE = 16384  # bytes: a longer line is logged in pieces, of which only the last ends with a newline
BATCH = 65536  # bytes of encoded lines that are written at once
# Held shared by who opens the files, exclusive during a rotation: names move from file to file.
LOCK_FLAGS = posix.O_RDWR | posix.O_CREAT | posix.O_CLOEXEC | posix.O_NOFOLLOW
STREAMS = ("", '","stream":"stdout","time":"', '","stream":"stderr","time":"')


def pieces(data: bytes) -> tuple[list[bytes], bytes]:
    """Splits at newlines (kept) and at PIECE bytes; what is neither complete nor that long yet comes second."""
    done: list[bytes] = []
    start = 0
    while True:
        newline = data.find(b"\n", start, start + PIECE)
        end = newline + 1 if newline >= 0 else _cut(data, start)
        if end == 0:
            return done, data[start:]
        done.append(data[start:end])
        start = end


def _cut(data: bytes, start: int) -> int:
    """The end of a piece of an over-long line, not inside a UTF-8 character; 0 when the line is not over-long."""
    end = start + PIECE
    if len(data) <= end:
        return 0
    for back in range(4):
        if data[end - back] & 0xC0 != 0x80:
            return end - back
    return end


def timestamp(nanoseconds: int) -> str:
    """RFC 3339 in UTC with nine digits."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    year, month, day, hour, minute, second = time.gmtime(seconds)[:6]
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:09}Z"


def encode(stream: int, piece: bytes, stamp: str) -> bytes:
    """One line of the log file. `stream` is 1 or 2; bytes that are not UTF-8 become U+FFFD."""
    text: str = encode_basestring(piece.decode("utf-8", "replace"))
    return f'{{"log":{text[:-1]}{STREAMS[stream]}{stamp}"}}\n'.encode()


class Discard:
    """The driver `none`."""

    __slots__ = ()

    def write(self, stream: int, done: list[bytes]) -> None:
        pass

    def limit(self, size: int, files: int) -> None:
        pass

    def close(self) -> None:
        pass


class JsonFile:
    """The driver `json-file`. A full disk loses lines, never blocks the container nor leaves half a line."""

    __slots__ = ("_descriptor", "_files", "_limit", "_path", "_size")

    def __init__(self, path: str, size: int, files: int) -> None:
        self._path = path
        self.limit(size, files)
        self._size = 0
        self._descriptor = -1
        self._open()

    def limit(self, size: int, files: int) -> None:
        """Holds from the next rotation on; a size of 0 or less is no limit."""
        self._limit = size if size > 0 else 1 << 62
        self._files = files

    def write(self, stream: int, done: list[bytes]) -> None:
        """Appends pieces of output, all with the present time."""
        stamp = timestamp(time.time_ns())
        batch: list[bytes] = []
        length = 0
        for piece in done:
            line = encode(stream, piece, stamp)
            if length + len(line) > BATCH or self._size + length + len(line) > self._limit:
                self._append(b"".join(batch))
                batch, length = [], 0
                if self._size and self._size + len(line) > self._limit:
                    self._make_room()
            batch.append(line)
            length += len(line)
        self._append(b"".join(batch))

    def close(self) -> None:
        if self._descriptor >= 0:
            posix.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> None:
        flags = posix.O_RDWR | posix.O_CREAT | posix.O_APPEND | posix.O_CLOEXEC | posix.O_NOFOLLOW
        self._size = 0
        try:
            self._descriptor = posix.open(self._path, flags, 0o600)
            self._size = posix.fstat(self._descriptor).st_size
            if self._size and posix.pread(self._descriptor, 1, self._size - 1) != b"\n":
                self._append(b"\n")  # a machine that lost power left half a line
        except OSError:
            self.close()

    def _append(self, data: bytes) -> None:
        if not data:
            return
        if self._descriptor < 0:
            self._open()
        try:
            written = posix.write(self._descriptor, data)
            if written < len(data):
                posix.ftruncate(self._descriptor, self._size)
            else:
                self._size += written
        except OSError:
            return  # no space, or no file: these lines are lost

    def _make_room(self) -> None:
        """A reader that is opening the files delays the rotation (it takes microseconds), but not for ever."""
        try:
            lock = posix.open(self._path + ".lock", LOCK_FLAGS, 0o600)
        except OSError:  # no space for an empty file: rotating makes some
            self._rotate()
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._rotate()
        except BlockingIOError:
            if self._size > 2 * self._limit:
                self._rotate()
        finally:
            posix.close(lock)

    def _rotate(self) -> None:
        self.close()
        try:
            if self._files < 2:
                posix.unlink(self._path)
            for number in range(self._files - 1, 0, -1):
                older = self._path if number == 1 else f"{self._path}.{number - 1}"
                _rename_if_there(older, f"{self._path}.{number}")
        except OSError:
            pass  # the next write opens the same file and rotates again
        self._open()


def _rename_if_there(source: str, target: str) -> None:
    try:
        posix.rename(source, target)
    except FileNotFoundError:
        return
