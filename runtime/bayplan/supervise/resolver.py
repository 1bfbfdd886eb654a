"""Answers the container's DNS queries: its networks' names from their files, the rest from the host's resolvers.

The listening sockets live in the container's network namespace, where a rule redirects 127.0.0.11 port 53 to them; the
sockets that ask the host's resolvers are made here, in the host's namespace. Lean, see loop.py.
"""

from __future__ import annotations

from bayplan.supervise import dns
from bayplan.supervise.forward import UdpForward
from bayplan.supervise.names import Names, pack
from bayplan.supervise.sockets import accept, adopt
from bayplan.supervise.tcpdns import TcpClient

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Hashable

    from bayplan.supervise.loop import Loop
    from bayplan.supervise.settings import Settings

MOST_FORWARDS = 96  # queries that wait for the host's resolvers; more are refused with SERVFAIL
MOST_TCP_CLIENTS = 24
BURST = 16  # packets that are read before others get their turn


class Resolver:
    """All DNS of one container."""

    __slots__ = ("_listeners", "_names", "_sockets", "_turn", "clients", "forwards", "internal", "loop", "upstreams")

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self._sockets: list[_socket.socket] = []
        self._listeners: list[_socket.socket] = []
        self._turn = 0
        self.forwards: dict[Hashable, UdpForward] = {}
        self.clients: set[TcpClient] = set()
        self._names = Names(())
        self.upstreams: tuple[tuple[str, int], ...] = ()
        self.internal = True

    def set(self, settings: Settings) -> None:
        """Takes the networks and the host's resolvers from the settings."""
        self._names = Names(settings.name_files)
        self.upstreams = settings.upstreams
        self.internal = settings.internal

    def listen(self, udp: tuple[int, ...], tcp: tuple[int, ...]) -> None:
        """Takes bound UDP sockets and listening TCP sockets."""
        for descriptor in udp:
            self._sockets.append(adopt(descriptor))
            self._watch_udp(self._sockets[-1])
        for descriptor in tcp:
            self._listeners.append(adopt(descriptor))
            self._watch_tcp(self._listeners[-1])

    def close(self) -> None:
        """Closes everything: an open socket would keep the container's network namespace alive."""
        for forward in list(self.forwards.values()):
            forward.close()
        for client in list(self.clients):
            client.close()
        for sock in self._sockets + self._listeners:
            self.loop.forget(sock.fileno())
            sock.close()
        self._sockets.clear()
        self._listeners.clear()

    def local(self, packet: bytes, query: dns.Query, limit: int) -> bytes:
        """The answer that needs nobody else's word; empty if the host's resolvers are to be asked."""
        if query.opcode != 0:
            return dns.answer(packet, query, dns.NOTIMP, [], limit)
        records = self._records(query) if query.klass == dns.INTERNET and query.name else None
        if records is not None:
            return dns.answer(packet, query, dns.NOERROR, records, limit)
        if self.internal:  # nothing may leave: not even as a name that somebody outside would see asked
            return dns.answer(packet, query, dns.NXDOMAIN, [], limit)
        if not self.upstreams:
            return dns.answer(packet, query, dns.SERVFAIL, [], limit)
        return b""

    def _records(self, query: dns.Query) -> list[dns.Record] | None:
        """None when no network of ours knows the name."""
        address = dns.reverse_address(query.name)
        if address:
            name = self._names.name_of(address)
            return None if not name else [(dns.PTR, dns.encode_name(name))] if query.kind == dns.PTR else []
        addresses = self._names.addresses(query.name)
        if not addresses:
            return None
        packed = [data for data in map(pack, addresses) if data]
        records = [(dns.A if len(data) == 4 else dns.AAAA, data) for data in packed]
        wanted = [record for record in records if query.kind in (record[0], dns.ANY)]
        self._turn += 1
        start = self._turn % (len(wanted) or 1)
        return wanted[start:] + wanted[:start]

    def _watch_udp(self, sock: _socket.socket) -> None:
        self.loop.watch(sock.fileno(), lambda _: self._packets(sock))

    def _watch_tcp(self, sock: _socket.socket) -> None:
        self.loop.watch(sock.fileno(), lambda _: self._connection(sock))

    def _packets(self, sock: _socket.socket) -> None:
        for _ in range(BURST):
            try:
                packet, sender = sock.recvfrom(dns.EDNS_LIMIT)
            except OSError:  # none left, or an ICMP error about an answer of ours
                return
            try:
                self._packet(sock, packet, sender)
            except dns.Malformed:
                continue

    def _packet(self, sock: _socket.socket, packet: bytes, sender: tuple[object, ...]) -> None:
        query = dns.parse(packet)
        response = self.local(packet, query, query.limit)
        key = (sender, packet[:2], packet[12 : query.end])
        if not response and key in self.forwards:
            return  # asked again: the answer is on its way
        if not response and len(self.forwards) >= MOST_FORWARDS:
            response = dns.answer(packet, query, dns.SERVFAIL, [], query.limit)
        if response:
            send(sock, response, sender)
        else:
            self.forwards[key] = UdpForward(self, key, sock, sender, packet, query)
            self.forwards[key].ask()

    def _connection(self, listener: _socket.socket) -> None:
        if len(self.clients) >= MOST_TCP_CLIENTS:
            self.loop.forget(listener.fileno())  # waits in the kernel's queue until left()
            return
        try:
            descriptor = accept(listener)
        except OSError:
            return
        self.clients.add(TcpClient(self, adopt(descriptor)))

    def left(self, client: TcpClient) -> None:
        """A TCP connection has ended: there is room for another."""
        self.clients.discard(client)
        for listener in self._listeners:
            if listener.fileno() >= 0:
                self._watch_tcp(listener)


def send(sock: _socket.socket, response: bytes, receiver: tuple[object, ...]) -> None:
    """Answers once; who does not get it asks again."""
    try:
        sock.sendto(response, receiver)
    except OSError:
        return
