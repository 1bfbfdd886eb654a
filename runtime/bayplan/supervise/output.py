"""What the container writes: read from its pipes or its terminal, logged, and passed to whoever is attached.

Memory is bounded by one read and one unfinished piece per stream, however long a line is. Lean, see loop.py.
"""

from __future__ import annotations

import posix

from bayplan.supervise.log import pieces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from bayplan.supervise.log import Discard, JsonFile
    from bayplan.supervise.loop import Loop
    from bayplan.supervise.shipping import Shipper

    Driver = Discard | JsonFile | Shipper

CHUNK = 16384  # bytes of one read
REOPEN = 1.0  # seconds: a terminal that nobody has open reports an error until somebody opens it again


class Output:
    """Both streams. `attached` is called with each chunk as it came, before it is split into lines."""

    __slots__ = (
        "_attached", "_ended", "_loop", "_paused", "_rests", "_streams", "driver", "moved", "remaining", "terminal",
    )

    def __init__(
        self, loop: Loop, driver: Driver, attached: Callable[[int, bytes], None], ended: Callable[[], None]
    ) -> None:
        self._loop = loop
        self.driver = driver
        self._attached = attached
        self._ended = ended
        self._streams: dict[int, int] = {}  # descriptor: 1 or 2
        self._rests: dict[int, bytes] = {}
        self._paused = False
        self.terminal = -1
        self.moved = False  # whether anything was read since somebody set this to False
        self.remaining = -1  # bytes that are still taken, once the container has ended; below 0: no end yet

    def add(self, descriptor: int, stream: int) -> None:
        """Takes the read end of a pipe, or a terminal's master; from now on it is closed by this object."""
        posix.set_blocking(descriptor, False)
        self._streams[descriptor] = stream
        self._rests[descriptor] = b""
        self._watch(descriptor)

    @property
    def open(self) -> bool:
        return bool(self._streams)

    def pause(self, wanted: bool) -> None:
        """While paused nothing is read, so that the container waits as it would for a slow terminal.

        After the container's end there is nobody to wait: the rest is read, and kept for who is slow.
        """
        wanted = wanted and self.remaining < 0
        if wanted == self._paused:
            return
        self._paused = wanted
        for descriptor in self._streams:
            if wanted:  # taken out altogether: a hang-up cannot be masked
                self._loop.forget(descriptor)
            else:
                self._watch(descriptor)

    def expect_end(self, remaining: int) -> None:
        """The container has ended: what is in the pipes is all there will be, `remaining` bytes at most."""
        self.remaining = remaining
        self.moved = True
        self.pause(False)
        for descriptor in self._streams:
            self._watch(descriptor)

    def finish(self) -> None:
        """Closes what is still open and logs the unfinished lines."""
        for descriptor in list(self._streams):
            self._close(descriptor)
        self.driver.close()

    def _watch(self, descriptor: int) -> None:
        if descriptor in self._streams and not self._paused:
            self._loop.watch(descriptor, lambda _: self._read(descriptor))

    def _read(self, descriptor: int) -> None:
        try:
            chunk = posix.read(descriptor, CHUNK)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if chunk:
            self._take(descriptor, chunk)
        elif descriptor == self.terminal and self.remaining < 0:
            self._loop.forget(descriptor)
            self._loop.later(("terminal", descriptor), REOPEN, lambda: self._watch(descriptor))
        else:
            self._close(descriptor)
            if not self._streams:
                self._ended()

    def _take(self, descriptor: int, chunk: bytes) -> None:
        self.moved = True
        if self.remaining >= 0:
            self.remaining = max(0, self.remaining - len(chunk))
        stream = self._streams[descriptor]
        self._attached(stream, chunk)
        done, self._rests[descriptor] = pieces(self._rests[descriptor] + chunk)
        if done:
            self.driver.write(stream, done)

    def _close(self, descriptor: int) -> None:
        self._loop.cancel(("terminal", descriptor))
        self._loop.forget(descriptor)
        posix.close(descriptor)
        stream = self._streams.pop(descriptor)
        rest = self._rests.pop(descriptor)
        if rest:
            self.driver.write(stream, [rest])
