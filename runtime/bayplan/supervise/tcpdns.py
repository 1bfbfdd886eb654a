"""DNS over TCP: the container's connections, and the queries that go on to the host's resolvers.

Specification: RFC 1035 section 4.2.2, RFC 7766. Queries of one connection are answered in order. Lean, see loop.py.
"""

from __future__ import annotations

import _socket
import errno

from bayplan.supervise import dns
from bayplan.supervise.loop import HANGUP, READ, WRITE
from bayplan.supervise.sockets import internet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bayplan.supervise.resolver import Resolver

IDLE = 10.0  # seconds after which a silent connection is closed
PATIENCE = 3.0  # seconds for one resolver
LARGEST = 65535


class TcpClient:
    """One connection from the container."""

    __slots__ = ("_ended", "_forward", "_inbox", "_outbox", "_resolver", "_socket")

    def __init__(self, resolver: Resolver, sock: _socket.socket) -> None:
        self._resolver = resolver
        self._socket = sock
        self._inbox = bytearray()
        self._outbox = bytearray()
        self._forward: _TcpForward | None = None
        self._ended = False
        self._watch()

    def close(self) -> None:
        if self._forward is not None:
            self._forward.close()
        self._resolver.loop.cancel(self)
        if self._socket.fileno() >= 0:
            self._resolver.loop.forget(self._socket.fileno())
            self._socket.close()
        self._resolver.left(self)

    def reply(self, response: bytes) -> None:
        """Sends what a resolver answered and goes on to the next query."""
        self._forward = None
        self._queue(response)
        self._flush()

    def _queue(self, response: bytes) -> None:
        self._outbox += len(response).to_bytes(2, "big") + response

    def _watch(self) -> None:
        """While an answer is awaited or cannot be sent, nothing more is read."""
        self._resolver.loop.later(self, IDLE, self.close)
        busy = self._forward is not None
        mask = WRITE if self._outbox else 0 if busy else READ
        if mask:
            self._resolver.loop.watch(self._socket.fileno(), self._ready, mask)
        else:
            self._resolver.loop.forget(self._socket.fileno())

    def _ready(self, events: int) -> None:
        if events & WRITE or self._outbox:
            self._flush()
            return
        try:
            data = self._socket.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._inbox += data
        self._ended = not data
        self._next()

    def _flush(self) -> None:
        try:
            while self._outbox:
                del self._outbox[: self._socket.send(self._outbox)]
        except BlockingIOError:
            self._watch()
            return
        except OSError:
            self.close()
            return
        self._next()

    def _next(self) -> None:
        """Answers complete queries until one has to be forwarded."""
        while self._forward is None and len(self._inbox) >= 2 and len(self._outbox) < LARGEST:
            length = int.from_bytes(self._inbox[:2], "big")
            if len(self._inbox) < 2 + length:
                break
            packet = bytes(self._inbox[2 : 2 + length])
            del self._inbox[: 2 + length]
            try:
                self._answer(packet)
            except dns.Malformed:
                self.close()
                return
        if self._ended and not self._outbox and self._forward is None:
            self.close()
        else:
            self._watch()

    def _answer(self, packet: bytes) -> None:
        query = dns.parse(packet)
        response = self._resolver.local(packet, query, LARGEST)
        if response:
            self._queue(response)
        else:
            self._forward = _TcpForward(self._resolver, self, packet, query)
            self._resolver.loop.later(self._forward, 0, self._forward.ask)


class _TcpForward:
    """One query on its way to the host's resolvers."""

    __slots__ = ("_attempt", "_client", "_connecting", "_inbox", "_outbox", "_packet", "_query", "_resolver", "_socket")

    def __init__(self, resolver: Resolver, client: TcpClient, packet: bytes, query: dns.Query) -> None:
        self._resolver = resolver
        self._client = client
        self._packet = packet
        self._query = query
        self._attempt = 0
        self._inbox = bytearray()
        self._outbox = bytearray()
        self._connecting = False
        self._socket: _socket.socket | None = None

    def ask(self) -> None:
        """Connects to the next resolver that can be reached."""
        upstreams = self._resolver.upstreams
        while self._attempt < len(upstreams):
            self.close()
            address, port = upstreams[self._attempt]
            self._attempt += 1
            if self._connect(address, port):
                return
        self.close()
        self._client.reply(dns.answer(self._packet, self._query, dns.SERVFAIL, [], LARGEST))

    def close(self) -> None:
        self._resolver.loop.cancel(self)
        if self._socket is not None:
            self._resolver.loop.forget(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _connect(self, address: str, port: int) -> bool:
        try:
            sock = self._socket = internet(address, _socket.SOCK_STREAM)
            code = sock.connect_ex((address, port))
        except OSError:
            return False
        if code not in (0, errno.EINPROGRESS):
            return False
        self._inbox = bytearray()
        self._outbox = bytearray(len(self._packet).to_bytes(2, "big") + self._packet)
        self._connecting = True
        self._resolver.loop.watch(sock.fileno(), self._ready, WRITE)
        self._resolver.loop.later(self, PATIENCE, self.ask)
        return True

    def _ready(self, events: int) -> None:
        try:
            if self._connecting and events & (WRITE | HANGUP):
                self._send()
            elif events & (READ | HANGUP):
                self._receive()
        except BlockingIOError:
            return
        except OSError:
            self.ask()

    def _send(self) -> None:
        assert self._socket is not None
        while self._outbox:
            del self._outbox[: self._socket.send(self._outbox)]
        self._connecting = False
        self._resolver.loop.watch(self._socket.fileno(), self._ready, READ)

    def _receive(self) -> None:
        assert self._socket is not None
        data = self._socket.recv(16384)
        if not data:
            raise ConnectionResetError
        self._inbox += data
        length = int.from_bytes(self._inbox[:2], "big")
        if len(self._inbox) < 2 or len(self._inbox) < 2 + length:
            return
        response = bytes(self._inbox[2 : 2 + length])
        if not dns.answers(self._packet, self._query, response):
            raise ConnectionResetError
        self.close()
        self._client.reply(response)
