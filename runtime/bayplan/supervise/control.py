"""The monitor's control socket, containers/ID/monitor.sock.

A client sends one line and gets an answer that ends with the connection, unless said otherwise:

    attach stdin|nostdin   frames in both directions (frames.py) until the container ends
    wait                   the exit status as JSON and a newline, when the container ends. The connection then stays open
                           until what cleans up after the container is through: its end says "all is removed"
    resize ROWS COLUMNS    the terminal's size
    health                 the file `health`: JSON, empty without a health check
    signal NUMBER          sends a signal to the container's first process, whose number cannot have been given to another
    reload                 takes monitor.settings
    stop                   looks for the file `stopped`: a container that waits for its restart stays down
    ports ITEM...          takes the descriptors sent along, one per ITEM, instead of those of before: `-` only keeps the
                           port taken, ADDRESS/PORT relays connections there. `ports+` adds to them

The answer is "ok" or "error WHY". A client may leave at any time. Lean, see loop.py.
"""

from __future__ import annotations

import posix

from bayplan.supervise.clients import Client
from bayplan.supervise.sockets import accept, adopt

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable

    from bayplan.supervise.loop import Loop
    from bayplan.supervise.output import Output
    from bayplan.supervise.stdin import Stdin

    Ports = Callable[[list[tuple[int, str, int]], bool], None]

MOST_CLIENTS = 128
LAST_WORDS = 5.0  # seconds that a client has to take the exit status


class Control:
    """All connections. The callbacks are the monitor's."""

    __slots__ = (
        "_clients", "_health", "_left", "_listener", "_loop", "_output", "_ports", "_reload", "_signal", "_status",
        "_stop", "owner", "owner_cleaned", "stdin",
    )  # fmt: skip

    def __init__(
        self, loop: Loop, *, health: Callable[[], bytes], reload: Callable[[], None], stop: Callable[[], None],
        ports: Ports, signal: Callable[[int], None], left: Callable[[], None],
    ) -> None:  # fmt: skip
        self._loop = loop
        self._clients: list[Client] = []
        self._health = health
        self._reload = reload
        self._stop = stop
        self._ports = ports
        self._signal = signal
        self._left = left
        self._status = b""
        self._listener: _socket.socket
        self._output: Output
        self.stdin: Stdin
        self.owner: Client | None = None
        self.owner_cleaned = False

    def start(self, output: Output, stdin: Stdin, descriptor: int, owner_descriptor: int) -> None:
        """Begins to serve; the owner's may be -1."""
        self._output = output
        self.stdin = stdin
        if owner_descriptor >= 0:
            self.owner = Client(self, self._loop, owner_descriptor)
            self.owner.owner = True
            self.owner.attach(stdin=True)
            self._clients.append(self.owner)
        self._listener = adopt(descriptor)
        self._loop.watch(descriptor, self._accept)

    def output(self, stream: int, chunk: bytes) -> None:
        """Passes output to all who are attached."""
        header = bytes((stream, 0, 0, 0)) + len(chunk).to_bytes(4, "big")
        for client in self._clients[:]:
            if client.attached:
                client.send(header + chunk)

    def pressure(self) -> None:
        """One client that is full holds the container's output back; see clients.STALLED."""
        self._output.pause(any(client.full for client in self._clients))

    def drained(self) -> None:
        """Standard input can take more."""
        for client in self._clients[:]:
            client.resume()

    def finished(self, status: bytes) -> None:
        """Tells everybody the exit status."""
        self._status = status
        for client in self._clients[:]:
            client.end(status)
            if client.waiting:
                client.send(status + b"\n")
        self._loop.later("last words", LAST_WORDS, self._hang_up)

    def next_life(self) -> None:
        """Before a restart: who waited has the answer."""
        for client in self._clients[:]:
            client.drop()

    @property
    def quiet(self) -> bool:
        """Nothing waits to be sent, and no owner has still to clean up."""
        return self.owner is None and not any(client.has_output for client in self._clients)

    def keep_waiting(self) -> None:
        """Lets the socket and its connections outlive the coming exec, so that they end with what it runs.

        Who connects from now on is not answered, but learns in the same way when all is removed.
        """
        for descriptor in (self._listener.fileno(), *(client.fileno for client in self._clients)):
            posix.set_inheritable(descriptor, True)

    def left(self, client: Client) -> None:
        """A connection has ended."""
        if client in self._clients:
            self._clients.remove(client)
        if client is self.owner:
            self.owner = None
        self.pressure()
        self._left()

    def cleaned(self) -> None:
        """The owner has done what `after_argv` would do."""
        self.owner_cleaned = True
        if self.owner is not None:
            self.owner.drop()

    def command(self, client: Client, line: str) -> None:
        """Carries out one line and answers."""
        verb, *words = line.split() or [""]
        if verb == "attach" and words in (["stdin"], ["nostdin"]):
            client.attach(stdin=words == ["stdin"])
            if self._status:
                client.end(self._status)
        elif verb == "wait" and not words:
            client.waiting = True
            if self._status:
                client.send(self._status + b"\n")
        elif verb == "health" and not words:
            client.finish(self._health())
        else:
            client.finish(self._simple(client, verb, words))

    def _simple(self, client: Client, verb: str, words: list[str]) -> bytes:
        try:
            if verb == "resize" and len(words) == 2:
                self.stdin.resize(int(words[0]), int(words[1]))
            elif verb == "signal" and len(words) == 1:
                self._signal(int(words[0]))
            elif verb == "reload" and not words:
                self._reload()
            elif verb == "stop" and not words:
                self._stop()
            elif verb in ("ports", "ports+"):
                self._take_ports(client, words, adding=verb == "ports+")
            else:
                return b"error no such command\n"
        except (OSError, ValueError, EOFError, TypeError, KeyError) as error:
            return f"error {error!r}".encode("utf-8", "replace")[:512] + b"\n"
        return b"ok\n"

    def _take_ports(self, client: Client, words: list[str], *, adding: bool) -> None:
        if len(words) != len(client.descriptors):
            raise ValueError(f"{len(words)} ports with {len(client.descriptors)} descriptors")
        taken = []
        for word, descriptor in zip(words, client.descriptors):
            address, _, port = word.rpartition("/")
            taken.append((descriptor, address, int(port) if address else 0))
        client.descriptors = []
        self._ports(taken, adding)

    def _accept(self, _: int) -> None:
        try:
            descriptor = accept(self._listener)
        except OSError:
            return
        if len(self._clients) >= MOST_CLIENTS:
            posix.close(descriptor)
        else:
            self._clients.append(Client(self, self._loop, descriptor))

    def _hang_up(self) -> None:
        for client in self._clients[:]:
            if not client.owner and client.has_output:
                client.drop()
        self._left()
