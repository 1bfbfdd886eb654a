"""Copying between our standard streams and a process of ours in a container.

The process never has our own descriptors: it could read back what they are open on, or type at our terminal (TIOCSTI).
"""

from __future__ import annotations

import os
import select

from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bayplan.supervise.pump import Keys

_CHUNK = 65536
_LAST_WORDS = 0.1  # seconds for output that a process that has ended left in its pipes, or that its children go on writing
_MOST_LAST_WORDS = 2 << 20  # bytes: more than both pipes hold (pipe(7), pipe-max-size)
_TICK = 20  # milliseconds between two looks where there is no pidfd, before Linux 5.3


class Ends(NamedTuple):
    """inside: the process's descriptors. Ours: stdin to write to, stdout and stderr to read from; -1 is none."""

    inside: tuple[int, int, int]
    stdin: int = -1
    stdout: int = -1
    stderr: int = -1

    def close_inside(self) -> None:
        for descriptor in set(self.inside) - {-1}:
            os.close(descriptor)


def open_ends(*, attended: bool, interactive: bool, terminal: bool) -> Ends:
    """Pipes for what is copied, /dev/null for the rest; with a terminal none, since that carries all."""
    if terminal:
        return Ends((-1, -1, -1))
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    if not attended:
        return Ends((null, null, null))
    out, err = os.pipe(), os.pipe()
    if not interactive:
        return Ends((null, out[1], err[1]), -1, out[0], err[0])
    os.close(null)
    into = os.pipe()
    return Ends((into[0], out[1], err[1]), into[1], out[0], err[0])


def set_size(terminal: int, rows: int, columns: int) -> None:
    """Tell a terminal's master how large ours is (ioctl_tty(2), TIOCSWINSZ)."""
    import fcntl
    import struct
    import termios

    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))


class Left(Exception):
    """Somebody has typed the keys that detach; the process runs on."""


class Relay:
    """`source` is what is copied to the process's standard input, -1 nothing; `keys` looks for those that detach."""

    def __init__(self, ends: Ends, *, source: int, keys: Keys | None = None) -> None:
        self._keys = keys
        self._sinks = {descriptor: ours for descriptor, ours in ((ends.stdout, 1), (ends.stderr, 2)) if descriptor >= 0}
        self._source = source if ends.stdin >= 0 else -1
        self._stdin = ends.stdin
        self._typed = b""
        if self._stdin >= 0:
            os.set_blocking(self._stdin, False)

    def run(self, pid: int, pidfd: int) -> int:
        """Copy until our child `pid` has ended and what it wrote is written; its wait status. Raises Left."""
        while True:
            status = self._ended(pid)
            if status is not None:
                self._source, self._typed = -1, b""
                self._copy_last_words()
                return status
            self._copy(self._poll(pidfd, -1 if pidfd >= 0 else _TICK))

    def _copy_last_words(self) -> None:
        """What is left in the pipes; a child that it left behind and that writes for ever does not keep us."""
        left = _MOST_LAST_WORDS
        while self._sinks and left > 0:
            copied = self._copy(self._poll(-1, _LAST_WORDS * 1000))
            left = left - copied if copied else 0

    @staticmethod
    def _ended(pid: int) -> int | None:
        done, status = os.waitpid(pid, os.WNOHANG)
        return status if done else None

    def _poll(self, pidfd: int, milliseconds: float) -> list[tuple[int, int]]:
        poll = select.poll()
        for descriptor in self._sinks:
            poll.register(descriptor, select.POLLIN)
        if pidfd >= 0:
            poll.register(pidfd, select.POLLIN)
        if self._typed:
            poll.register(self._stdin, select.POLLOUT)
        elif self._source >= 0:
            poll.register(self._source, select.POLLIN)
        return poll.poll(milliseconds)

    def _copy(self, ready: list[tuple[int, int]]) -> int:
        """How many bytes of output were copied."""
        copied = 0
        for descriptor, _ in ready:
            if descriptor in self._sinks:
                copied += self._show(descriptor)
            elif descriptor == self._source and not self._typed:
                self._take()
            elif descriptor == self._stdin:
                self._give()
        return copied

    def _show(self, descriptor: int) -> int:
        """A terminal's master answers EIO when the last process has closed the other side."""
        try:
            data = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return 0
        except OSError:
            data = b""
        if not data:
            del self._sinks[descriptor]
            os.close(descriptor)
        sink = self._sinks.get(descriptor, -1)
        written = 0
        while written < len(data):
            written += os.write(sink, data[written:])
        return written

    def _take(self) -> None:
        typed = os.read(self._source, _CHUNK)
        self._typed, leaves = self._keys.filter(typed) if self._keys else (typed, False)
        if self._typed:
            self._give()
        if leaves:
            raise Left
        if not typed:
            self._source = -1
            self._hang_up()

    def _give(self) -> None:
        try:
            self._typed = self._typed[os.write(self._stdin, self._typed) :]
        except BlockingIOError:
            return
        except OSError:  # nobody reads any more
            self._typed, self._source = b"", -1
            self._hang_up()

    def _hang_up(self) -> None:
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1
