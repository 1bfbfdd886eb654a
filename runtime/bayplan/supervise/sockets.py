"""The few things to do with C's socket type that the `socket` module would do at ten times the memory. Lean, see loop.py."""

from __future__ import annotations

import _socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class _Listener(Protocol):
        def _accept(self) -> tuple[int, object]: ...


def adopt(descriptor: int) -> _socket.socket:
    """Owns a descriptor from now on; it is set to non-blocking."""
    sock = _socket.socket(-1, -1, -1, descriptor)
    sock.setblocking(False)
    return sock


def accept(listener: _socket.socket) -> int:
    """A new connection's descriptor, closed on exec. Raises OSError; BlockingIOError when there is none."""
    accepting: _Listener = listener  # type: ignore[assignment]
    return accepting._accept()[0]


def internet(address: str, style: int) -> _socket.socket:
    """An unconnected, non-blocking socket of the address's family; `style` is SOCK_STREAM or SOCK_DGRAM."""
    family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
    return _socket.socket(family, style | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
