"""Our own terminal, lent to a container: raw while it has it, its size passed on, as it was afterwards."""

from __future__ import annotations

import fcntl
import signal
import struct
import termios
from contextlib import contextmanager

from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any


class Terminal:
    """The terminal that `descriptor` is open on."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def size(self) -> tuple[int, int]:
        """Rows and columns (ioctl_tty(2), TIOCGWINSZ); 0 and 0 where the terminal does not know."""
        answer = fcntl.ioctl(self._descriptor, termios.TIOCGWINSZ, bytes(8))
        rows, columns, _, _ = struct.unpack("4H", answer)
        return rows, columns

    @contextmanager
    def raw(self, resize: Callable[[int, int], None]) -> Iterator[None]:
        """Every key goes through unchanged; `resize` is told the size, now and whenever it changes."""
        before = termios.tcgetattr(self._descriptor)
        handler = signal.signal(signal.SIGWINCH, lambda *_: resize(*self.size()))
        try:
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, _raw(before))
            resize(*self.size())
            yield
        finally:
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, before)
            signal.signal(signal.SIGWINCH, handler)


def _raw(attributes: list[Any]) -> list[Any]:
    """What cfmakeraw does (termios(3))."""
    incoming, outgoing, control, local, in_speed, out_speed, characters = attributes
    incoming &= ~(
        termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
    )
    outgoing &= ~termios.OPOST
    local &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    control = control & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    keys = list(characters)
    keys[termios.VMIN], keys[termios.VTIME] = 1, 0
    return [incoming, outgoing, control, local, in_speed, out_speed, keys]
