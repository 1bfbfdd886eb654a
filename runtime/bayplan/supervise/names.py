"""Looking names up in the files that say who is on a network: lines "ADDRESS NAME NAME... PID:START".

A line holds as long as that process, which started START clock ticks after the boot, lives: nobody takes out the line of a container
whose monitor was killed. The files' bytes are kept as they are and searched: a table of them would cost each monitor some hundred
kilobytes on a large network. Lean, see loop.py.
"""

from __future__ import annotations

import _socket
import posix

from bayplan.supervise.settings import read_all, read_file

LARGEST = 4 << 20  # bytes of one file


class Names:
    """The networks of one container. A file is read again when another was renamed over it, or it was changed."""

    __slots__ = ("_contents", "_paths", "_stamps")

    def __init__(self, paths: tuple[str, ...]) -> None:
        self._paths = paths
        self._stamps: dict[str, tuple[int, int, int]] = {}
        self._contents: dict[str, bytes] = {}

    def addresses(self, name: bytes) -> list[str]:
        """All addresses of a name (lower case), in the files' order."""
        found = []
        for content in self._current():
            at = content.find(b" " + name + b" ")
            while at >= 0:
                line = content[content.rfind(b"\n", 0, at) + 1 : content.find(b"\n", at)].split()
                address = line[0].decode("ascii", "replace")
                if address not in found and _lives(line[-1]):
                    found.append(address)
                at = content.find(b" " + name + b" ", at + 1)
        return found

    def name_of(self, address: str) -> bytes:
        """The first name of an address; empty if there is none."""
        packed = pack(address)
        for content in self._current() if packed else ():
            for line in content.split(b"\n"):
                words = line.split()
                if len(words) > 2 and pack(words[0].decode("ascii", "replace")) == packed and _lives(words[-1]):
                    return words[1]
        return b""

    def _current(self) -> list[bytes]:
        return [self._content(path) for path in self._paths]

    def _content(self, path: str) -> bytes:
        try:
            status = posix.stat(path)
            stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
            if self._stamps.get(path) != stamp:
                descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW | posix.O_NONBLOCK)
                data = read_all(descriptor, LARGEST)
                self._contents[path] = b"".join(_padded(line) for line in data.lower().split(b"\n"))
                self._stamps[path] = stamp
            return self._contents[path]
        except OSError:  # the network is gone, or not there yet
            self._stamps.pop(path, None)
            self._contents.pop(path, None)
            return b""


def _padded(line: bytes) -> bytes:
    """One space between words and one after the last, so that " NAME " finds whole names only."""
    return b" ".join(line.split()) + b" \n"


def _lives(process: bytes) -> bool:
    pid, _, start = process.partition(b":")
    try:
        fields = read_file(f"/proc/{int(pid)}/stat", 4096).rpartition(b")")[2].split()
    except (OSError, ValueError):
        return False
    return fields[0] not in (b"Z", b"X") and fields[19] == start


def pack(address: str) -> bytes:
    """The 4 or 16 bytes of an address; empty if it is none."""
    try:
        return _socket.inet_pton(_socket.AF_INET6 if ":" in address else _socket.AF_INET, address)
    except OSError:
        return b""
