"""The monitor's event loop: descriptors and timers, one thread.

This and the other modules that monitor.py loads are lean on purpose: builtin and C modules only, annotations never evaluated,
plain classes with slots instead of NamedTuples. Each import here is paid once per running container.
"""

from __future__ import annotations

import select
import time

TYPE_CHECKING = False  # typing itself is not loaded; type checkers take the name for true
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
HANGUP = select.EPOLLHUP | select.EPOLLERR
MOST_EVENTS = 64  # of one turn; the kernel hands out the others first in the next
LONGEST = 86400.0  # seconds of one wait: epoll takes no more than 24 days, and an image may ask for a health check in a century
PAUSE_AFTER_BUG = 0.05  # seconds: a handler that raises at every event must not eat a processor


class Loop:
    """Calls handlers. A handler must tolerate being called when there is nothing to do."""

    __slots__ = ("_epoll", "_handlers", "_masks", "_timers", "report", "running")

    def __init__(self, report: Callable[[Exception], None]) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._masks: dict[int, int] = {}
        self._timers: dict[Hashable, tuple[float, Callable[[], None]]] = {}
        self.report = report
        self.running = True

    def watch(self, descriptor: int, handler: Callable[[int], None], mask: int = READ) -> None:
        """Calls `handler` with the event mask; watching again replaces handler and mask."""
        if descriptor not in self._handlers:
            self._epoll.register(descriptor, mask)
        elif self._masks[descriptor] != mask:
            self._epoll.modify(descriptor, mask)
        self._handlers[descriptor] = handler
        self._masks[descriptor] = mask

    def forget(self, descriptor: int) -> None:
        """Must come before the descriptor is closed: another one may get its number at once."""
        if self._handlers.pop(descriptor, None) is not None:
            del self._masks[descriptor]
            self._epoll.unregister(descriptor)

    def later(self, key: Hashable, seconds: float, callback: Callable[[], None]) -> None:
        """Calls `callback` once; another call with the same key replaces it."""
        self._timers[key] = (time.monotonic() + seconds, callback)

    def cancel(self, key: Hashable) -> None:
        self._timers.pop(key, None)

    def pending(self, key: Hashable) -> bool:
        return key in self._timers

    def run(self) -> None:
        """Until a handler sets `running` to False."""
        while self.running:
            self.turn()

    def turn(self) -> None:
        """One wait and the handlers that it calls. Bugs in them are reported, and never end the monitor: the
        container's exit status would be lost with it.
        """
        for descriptor, events in self._epoll.poll(self._patience(), MOST_EVENTS):
            handler = self._handlers.get(descriptor)
            if handler is not None:
                self._guard(handler, events)
        now = time.monotonic()
        for key in [key for key, timer in self._timers.items() if timer[0] <= now]:
            timer = self._timers.pop(key, None)
            if timer is not None:
                self._guard(timer[1])

    def _patience(self) -> float:
        if not self._timers:
            return -1
        return min(LONGEST, max(0.0, min(timer[0] for timer in self._timers.values()) - time.monotonic()))

    def _guard(self, handler: Callable[..., None], *events: int) -> None:
        try:
            handler(*events)
        except Exception as error:
            self.report(error)
            time.sleep(PAUSE_AFTER_BUG)
