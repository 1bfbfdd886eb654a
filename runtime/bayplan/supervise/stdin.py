"""What attached clients type, on its way to the container's standard input or terminal. Lean, see loop.py."""

from __future__ import annotations

import fcntl
import posix
import sys

from bayplan.supervise.loop import WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from bayplan.supervise.loop import Loop

FULL = 65536  # bytes that wait; beyond it clients are not read
TIOCSWINSZ = 0x5414  # ioctl_tty(2)


class Stdin:
    """A pipe's write end, or a duplicate of the terminal's master; absent when `descriptor` is -1."""

    __slots__ = ("_descriptor", "_drained", "_loop", "_once", "_pending", "_terminal")

    def __init__(self, loop: Loop, descriptor: int, *, terminal: bool, once: bool, drained: Callable[[], None]) -> None:
        self._loop = loop
        self._descriptor = descriptor
        self._terminal = terminal
        self._once = once and not terminal
        self._pending = bytearray()
        self._drained = drained
        if descriptor >= 0:
            posix.set_blocking(descriptor, False)

    @property
    def full(self) -> bool:
        return len(self._pending) >= FULL

    def put(self, data: bytes) -> None:
        """Queues what was typed; without a standard input it is dropped."""
        if self._descriptor >= 0:
            self._pending += data
            self._flush(0)

    def end(self) -> None:
        """A client has ended its input: closes the container's if it was to serve one client only."""
        if not self._once or self._descriptor < 0:
            return
        if self._pending:
            self._loop.later("stdin", 0.05, self.end)
        else:
            self.close()

    def resize(self, rows: int, columns: int) -> None:
        """Sets the terminal's size; without a terminal nothing happens."""
        if self._terminal and self._descriptor >= 0:
            size = b"".join(number.to_bytes(2, sys.byteorder) for number in (rows & 0xFFFF, columns & 0xFFFF, 0, 0))
            fcntl.ioctl(self._descriptor, TIOCSWINSZ, size)

    def close(self) -> None:
        if self._descriptor >= 0:
            self._loop.cancel("stdin")
            self._loop.forget(self._descriptor)
            posix.close(self._descriptor)
            self._descriptor = -1
        self._pending.clear()
        self._drained()

    def _flush(self, _: int) -> None:
        was_full = self.full
        try:
            while self._pending:
                del self._pending[: posix.write(self._descriptor, bytes(self._pending[:4096]))]
            self._loop.forget(self._descriptor)
        except BlockingIOError:
            self._loop.watch(self._descriptor, self._flush, WRITE)
        except OSError:  # nobody reads it any more
            self.close()
        if was_full and not self.full:
            self._drained()
