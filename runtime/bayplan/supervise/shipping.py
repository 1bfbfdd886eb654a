"""The log drivers that hand each line to somebody else: syslog and journald.

Formats: RFC 5424, RFC 3164, and systemd's native journal protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/).
A receiver that is away is tried again; meanwhile a bounded queue keeps the newest lines. The container never waits.
Lean, see loop.py.
"""

from __future__ import annotations

import _socket
import errno
import posix
import time

from bayplan.supervise.log import timestamp
from bayplan.supervise.loop import HANGUP, READ, WRITE
from bayplan.supervise.names import pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from bayplan.supervise.loop import Loop
    from bayplan.supervise.settings import Config

    Format = Callable[[int, bytes], bytes]

QUEUE = 131072  # bytes of messages that wait for the receiver
RETRY = 1.0  # seconds
JOURNAL = "/run/systemd/journal/socket"
PRIORITY = (0, 6, 3)  # per stream: informational, error


class Shipper:
    """One receiver: connects, sends, connects again. Message boundaries are kept on datagram sockets."""

    __slots__ = ("_connecting", "_format", "_loop", "_queue", "_queued", "_socket", "_target")

    def __init__(self, loop: Loop, target: tuple[str, str, int], message: Format) -> None:
        self._loop = loop
        self._target = target
        self._format = message
        self._queue: list[bytes] = []
        self._queued = 0
        self._socket: _socket.socket | None = None
        self._connecting = False

    def limit(self, size: int, files: int) -> None:
        """Nothing here is limited by size."""

    def write(self, stream: int, done: list[bytes]) -> None:
        """Queues pieces of output and sends what can be sent now."""
        for piece in done:
            message = self._format(stream, piece)
            self._queue.append(message)
            self._queued += len(message)
        while self._queued > QUEUE:
            self._queued -= len(self._queue.pop(0))
        self._flush()

    def close(self) -> None:
        """One last try without waiting."""
        if self._queue:
            self._flush()
        self._disconnect()

    def _flush(self) -> None:
        if self._socket is None and not self._loop.pending(self):
            self._connect()
        while self._queue and self._socket is not None and not self._connecting:
            message = self._queue[0]
            try:
                sent = self._socket.send(message)
            except BlockingIOError:
                self._loop.watch(self._socket.fileno(), self._ready, WRITE)
                return
            except OSError as error:
                self._refused(error)
                continue
            self._sent(message, sent)
        if self._socket is not None and not self._connecting:
            self._loop.watch(self._socket.fileno(), self._ready, READ)

    def _sent(self, message: bytes, sent: int) -> None:
        self._queued -= sent
        if sent == len(message):
            self._queue.pop(0)
        else:
            self._queue[0] = message[sent:]

    def _refused(self, error: OSError) -> None:
        if error.errno == errno.EMSGSIZE:
            self._queued -= len(self._queue.pop(0))
            return
        self._disconnect()
        self._loop.later(self, RETRY, self._flush)

    def _connect(self) -> None:
        kind, address, port = self._target
        if kind != "unix" and not pack(address):  # looking a name up would block; the builder does that
            return
        for style in ((_socket.SOCK_DGRAM, _socket.SOCK_STREAM) if kind == "unix" else (_style(kind),)):
            connection = _socket.socket(_family(kind, address), style | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
            code = connection.connect_ex(address if kind == "unix" else (address, port))
            if code in (0, errno.EINPROGRESS):
                self._socket = connection
                self._connecting = code != 0
                self._loop.watch(connection.fileno(), self._ready, WRITE if self._connecting else READ)
                return
            connection.close()
        self._loop.later(self, RETRY, self._flush)

    def _ready(self, events: int) -> None:
        assert self._socket is not None
        if self._connecting and events & (WRITE | HANGUP):
            self._connecting = False
            if self._socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR):
                self._disconnect()
                self._loop.later(self, RETRY, self._flush)
                return
        elif events & READ and self._has_ended():
            self._disconnect()
            self._loop.later(self, RETRY, self._flush)
            return
        self._flush()

    def _has_ended(self) -> bool:
        """Receivers say nothing; what can be read is the end of the connection or an ICMP error."""
        assert self._socket is not None
        try:
            return not self._socket.recv(512)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._loop.forget(self._socket.fileno())
            self._socket.close()
            self._socket = None
        self._connecting = False
        self._loop.cancel(self)


def _style(kind: str) -> int:
    return _socket.SOCK_DGRAM if kind == "udp" else _socket.SOCK_STREAM


def _family(kind: str, address: str) -> int:
    if kind == "unix":
        return _socket.AF_UNIX
    return _socket.AF_INET6 if ":" in address else _socket.AF_INET


def journal(config: Config) -> Format:
    """Messages of the native protocol. Pieces hold no newline but their last byte, so the short form serves."""
    fields = [
        ("CONTAINER_ID", config.id[:12]),
        ("CONTAINER_ID_FULL", config.id),
        ("CONTAINER_NAME", config.name),
        ("CONTAINER_TAG", config.log_tag or config.id[:12]),
        ("SYSLOG_IDENTIFIER", config.log_tag or config.id[:12]),
        *((name, value) for name, value in config.log_labels if _is_field(name)),
    ]
    common = "".join(f"{name}={_one_line(value)}\n" for name, value in fields).encode("utf-8", "replace")

    def message(stream: int, piece: bytes) -> bytes:
        partial = b"" if piece.endswith(b"\n") else b"CONTAINER_PARTIAL_MESSAGE=true\n"
        return b"PRIORITY=%d\n%b%bMESSAGE=%b\n" % (PRIORITY[stream], common, partial, piece.rstrip(b"\n"))

    return message


def syslog(config: Config) -> Format:
    """Messages in `config.log_format`; each ends with a newline where the transport is a byte stream."""
    tag = _one_line(config.log_tag or config.id[:12]).replace(" ", "_")[:48]
    end = b"\n" if config.log_target[0] == "tcp" else b""
    process, host = posix.getpid(), posix.uname().nodename

    def head(priority: int) -> str:
        if config.log_format.startswith("rfc5424"):
            stamp = timestamp(time.time_ns() // 1000 * 1000)[:26] + "Z"
            return f"<{priority}>1 {stamp} {host} {tag} {process} {tag} - "
        host_part = f"{host} " if config.log_format == "rfc3164" else ""
        return f"<{priority}>{time.strftime('%b %e %H:%M:%S')} {host_part}{tag}[{process}]: "

    def message(stream: int, piece: bytes) -> bytes:
        text = piece.rstrip(b"\n").replace(b"\0", b" ")
        return head(config.log_facility * 8 + PRIORITY[stream]).encode("utf-8", "replace") + text + end

    return message


def _is_field(name: str) -> bool:
    """systemd.journal-fields(7): others are dropped with the whole message, and a leading _ would claim trust."""
    plain = name.isascii() and name.replace("_", "").isalnum() and name == name.upper()
    return plain and name[0].isalpha() and len(name) <= 64


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
