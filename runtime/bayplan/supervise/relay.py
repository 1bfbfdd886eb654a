"""Connections to a published port on ::1, passed on to the container's address: the kernel's NAT cannot serve ::1.

Bounded in connections and in bytes; a half-closed connection stays half-closed on the other side. Lean, see loop.py.
"""

from __future__ import annotations

import _socket
import errno
import posix

from bayplan.supervise.loop import HANGUP, READ, WRITE
from bayplan.supervise.sockets import accept, adopt, internet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from bayplan.supervise.loop import Loop

MOST_CONNECTIONS = 96
BUFFER = 32768  # bytes, per direction


class _End:
    """One of the two sockets of a relayed connection."""

    __slots__ = ("connecting", "ended", "out", "shut", "socket")

    def __init__(self, socket: _socket.socket) -> None:
        self.socket = socket
        self.out = bytearray()  # waits to be sent here
        self.ended = False  # nothing more can be read here
        self.shut = False  # nothing more will be sent here
        self.connecting = False


class _Connection:
    __slots__ = ("_ends", "_loop", "_relays")

    def __init__(self, relays: Relays, loop: Loop, client: _socket.socket, server: _socket.socket) -> None:
        self._relays = relays
        self._loop = loop
        self._ends = (_End(client), _End(server))

    def start(self, address: str, port: int) -> None:
        code = self._ends[1].socket.connect_ex((address, port))
        if code not in (0, errno.EINPROGRESS):
            self.close()
            return
        self._ends[1].connecting = code != 0
        self._watch()

    def close(self) -> None:
        for end in self._ends:
            if end.socket.fileno() >= 0:
                self._loop.forget(end.socket.fileno())
                end.socket.close()
        self._relays.left(self)

    def _watch(self) -> None:
        for number, end in enumerate(self._ends):
            other = self._ends[1 - number]
            mask = WRITE if end.connecting or end.out else 0
            if not end.connecting and not end.ended and len(other.out) < BUFFER:
                mask |= READ
            descriptor = end.socket.fileno()
            if mask:
                self._loop.watch(descriptor, self._handler(number), mask)
            else:  # a hang-up cannot be masked, and would be reported without end
                self._loop.forget(descriptor)

    def _handler(self, number: int) -> Callable[[int], None]:
        return lambda events: self._ready(number, events)

    def _ready(self, number: int, events: int) -> None:
        end, other = self._ends[number], self._ends[1 - number]
        try:
            if end.connecting and events & (WRITE | HANGUP):
                self._connected(end)
            self._send(end)
            if events & (READ | HANGUP) and not end.ended and not end.connecting:
                self._read(end, other)
            self._send(other)
        except OSError:
            self.close()
            return
        if all(each.ended and each.shut for each in self._ends):
            self.close()
        else:
            self._watch()

    def _connected(self, end: _End) -> None:
        code = end.socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
        if code:
            raise OSError(code, "connect")
        end.connecting = False

    def _read(self, end: _End, other: _End) -> None:
        if len(other.out) >= BUFFER:
            return
        try:
            data = end.socket.recv(BUFFER)
        except BlockingIOError:
            return
        other.out += data
        end.ended = not data

    def _send(self, end: _End) -> None:
        """Sends what waits; passes the other side's end on once all is sent."""
        if end.connecting or end.shut:
            return
        try:
            while end.out:
                del end.out[: end.socket.send(end.out)]
        except BlockingIOError:
            return
        if self._other(end).ended:
            end.socket.shutdown(_socket.SHUT_WR)
            end.shut = True

    def _other(self, end: _End) -> _End:
        return self._ends[1] if end is self._ends[0] else self._ends[0]


class Relays:
    """The listening sockets, each with its target, and what only keeps a port taken."""

    __slots__ = ("_connections", "_held", "_listeners", "_loop")

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._connections: set[_Connection] = set()
        self._listeners: dict[int, tuple[_socket.socket, str, int]] = {}
        self._held: list[int] = []

    def add(self, ports: list[tuple[int, str, int]]) -> None:
        """Takes (descriptor, address, port); an empty address only keeps the port taken."""
        for descriptor, address, port in ports:
            if not address:
                self._held.append(descriptor)
                continue
            self._listeners[descriptor] = (adopt(descriptor), address, port)
            self._listen(descriptor)

    def release(self) -> None:
        """Gives the ports up; connections that are there stay."""
        for descriptor, (listener, _, _) in self._listeners.items():
            self._loop.forget(descriptor)
            listener.close()
        self._listeners.clear()
        for descriptor in self._held:
            posix.close(descriptor)
        self._held.clear()

    def hang_up(self) -> None:
        """Ends all connections."""
        for connection in list(self._connections):
            connection.close()

    def left(self, connection: _Connection) -> None:
        """A connection has ended: there is room for another."""
        self._connections.discard(connection)
        for descriptor in self._listeners:
            self._listen(descriptor)

    def _listen(self, descriptor: int) -> None:
        self._loop.watch(descriptor, lambda _: self._accept(descriptor))

    def _accept(self, descriptor: int) -> None:
        if len(self._connections) >= MOST_CONNECTIONS:
            for each in self._listeners:  # the others wait in the kernel's queue
                self._loop.forget(each)
            return
        listener, address, port = self._listeners[descriptor]
        try:
            accepted = accept(listener)
        except OSError:
            return
        connection = _Connection(self, self._loop, adopt(accepted), internet(address, _socket.SOCK_STREAM))
        self._connections.add(connection)
        connection.start(address, port)
