"""A UDP query on its way to the host's resolvers, one after the other, and back. Lean, see loop.py."""

from __future__ import annotations

import _socket

from bayplan.supervise import dns
from bayplan.supervise.sockets import internet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable

    from bayplan.supervise.resolver import Resolver

PATIENCE = 2.0  # seconds for one resolver
ATTEMPTS = 3  # in all, unless there are more resolvers
NEXT_ONE = (dns.SERVFAIL, dns.NOTIMP, dns.REFUSED)  # answers after which another resolver is asked


class UdpForward:
    """Each attempt has a socket of its own: its random port is half of what a forger would have to guess."""

    __slots__ = ("_asker", "_attempt", "_key", "_last", "_packet", "_query", "_resolver", "_server", "_socket")

    def __init__(
        self, resolver: Resolver, key: Hashable, server: _socket.socket, asker: tuple[object, ...], packet: bytes,
        query: dns.Query,
    ) -> None:  # fmt: skip
        self._resolver = resolver
        self._key = key
        self._server = server
        self._asker = asker
        self._packet = packet
        self._query = query
        self._attempt = 0
        self._last = b""  # an answer to give if no resolver has a better one
        self._socket: _socket.socket | None = None

    def ask(self) -> None:
        """Sends the query, unchanged, to the next resolver that can be reached."""
        upstreams = self._resolver.upstreams
        while self._attempt < max(ATTEMPTS, len(upstreams)) and upstreams:
            self._drop_socket()
            address, port = upstreams[self._attempt % len(upstreams)]
            self._attempt += 1
            if self._try(address, port):
                return
        self._finish(self._last or dns.answer(self._packet, self._query, dns.SERVFAIL, [], self._query.limit))

    def close(self) -> None:
        self._drop_socket()
        self._resolver.forwards.pop(self._key, None)

    def _try(self, address: str, port: int) -> bool:
        try:
            sock = self._socket = internet(address, _socket.SOCK_DGRAM)
            sock.connect((address, port))
            sock.send(self._packet)
        except OSError:
            return False
        self._resolver.loop.watch(sock.fileno(), self._ready)
        self._resolver.loop.later(self, PATIENCE, self.ask)
        return True

    def _ready(self, _: int) -> None:
        assert self._socket is not None
        try:
            response = self._socket.recv(dns.EDNS_LIMIT)
        except BlockingIOError:
            return
        except OSError:  # nobody listens there
            self.ask()
            return
        if not dns.answers(self._packet, self._query, response):
            return
        if dns.response_code(response) in NEXT_ONE and self._attempt < len(self._resolver.upstreams):
            self._last = response
            self.ask()
        else:
            self._finish(response)

    def _finish(self, response: bytes) -> None:
        self.close()
        try:
            self._server.sendto(response, self._asker)
        except OSError:
            return  # who does not get it asks again

    def _drop_socket(self) -> None:
        self._resolver.loop.cancel(self)
        if self._socket is not None:
            self._resolver.loop.forget(self._socket.fileno())
            self._socket.close()
            self._socket = None
