"""One connection to the monitor's control socket. Lean, see loop.py."""

from __future__ import annotations

import _socket
import posix

from bayplan.supervise.frames import CLEANED, EXIT, RESIZE, STDIN, Broken, frame, take
from bayplan.supervise.loop import HANGUP, READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bayplan.supervise.control import Control
    from bayplan.supervise.loop import Loop

LINE = 65536  # bytes of a command, its newline included
FULL = 65536  # bytes of output that wait for a client; then the container waits too
STALLED = 5.0  # seconds after which a client that takes nothing is dropped, the owner excepted
MOST_DESCRIPTORS = 253  # SCM_MAX_FD, unix(7)


class Client:
    """Starts by reading one command line; `attach` makes it exchange frames from then on."""

    __slots__ = (
        "_control", "_inbox", "_loop", "_outbox", "_socket", "_stdin",
        "attached", "closing", "descriptors", "full", "owner", "waiting",
    )  # fmt: skip

    def __init__(self, control: Control, loop: Loop, descriptor: int) -> None:
        self._control = control
        self._loop = loop
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, descriptor)
        self._socket.setblocking(False)
        self._inbox = bytearray()
        self._outbox = bytearray()
        self._stdin = False
        self.attached = False
        self.owner = False
        self.waiting = False
        self.closing = False
        self.full = False  # from FULL bytes on until all are gone
        self.descriptors: list[int] = []  # received beside the command
        self._watch()

    @property
    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def has_output(self) -> bool:
        return bool(self._outbox)

    def attach(self, *, stdin: bool) -> None:
        """From now on frames go both ways."""
        self.attached = True
        self._stdin = stdin

    def send(self, data: bytes) -> None:
        """Sends now what can be sent, keeps the rest."""
        if self.fileno < 0:
            return
        self._outbox += data
        self._flush()

    def finish(self, data: bytes) -> None:
        """Sends the last words; the connection ends once they are gone."""
        self.closing = True
        self.send(data)

    def end(self, status: bytes) -> None:
        """The container has ended. The owner stays: it has to say that it has cleaned up."""
        if self.attached and self.owner:
            self.send(frame(EXIT, status))
        elif self.attached:
            self.finish(frame(EXIT, status))

    def resume(self) -> None:
        """Input is wanted again."""
        self._watch()

    def drop(self) -> None:
        if self.fileno < 0:
            return
        self._loop.cancel(self)
        self._loop.forget(self.fileno)
        self._socket.close()
        for descriptor in self.descriptors:
            posix.close(descriptor)
        self.descriptors.clear()
        self._outbox.clear()
        if self._stdin:
            self._control.stdin.end()
        self._control.left(self)

    def _watch(self) -> None:
        if self.fileno < 0:
            return
        wanted = WRITE if self._outbox else 0
        if not self.closing and not (self._stdin and self._control.stdin.full):
            wanted |= READ
        self._loop.watch(self.fileno, self._ready, wanted)

    def _ready(self, events: int) -> None:
        if events & READ and not self.closing:
            self._read()
        elif events & HANGUP:
            self.drop()
        if events & WRITE and self.fileno >= 0:
            self._flush()

    def _read(self) -> None:
        try:
            data = self._receive()
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._ended()
            return
        if self.waiting:
            return
        self._inbox += data
        try:
            self._command() if not self.attached else None
            self._frames() if self.attached else None
        except (Broken, ValueError, UnicodeDecodeError):
            self.drop()
        self._watch()

    def _receive(self) -> bytes:
        """recv() alone would leave descriptors sent to an attached client with the kernel, which closes them."""
        if self.attached or self.waiting:
            return self._socket.recv(16384)
        data, ancillary, _, _ = self._socket.recvmsg(16384, _socket.CMSG_SPACE(4 * MOST_DESCRIPTORS), _CLOSE_ON_EXEC)
        for level, kind, body in ancillary:
            if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
                self.descriptors += memoryview(body[: len(body) // 4 * 4]).cast("i").tolist()
        return data

    def _ended(self) -> None:
        """An attached client may have ended only its input: it stays until it hangs up altogether."""
        if not self.attached or self.owner:
            self.drop()
            return
        if self._stdin:
            self._stdin = False
            self._control.stdin.end()
        self._loop.watch(self.fileno, self._ready, WRITE if self._outbox else 0)
        self._inbox = bytearray()

    def _command(self) -> None:
        newline = self._inbox.find(b"\n")
        if newline < 0:
            if len(self._inbox) >= LINE:
                self.finish(b"error the command is too long\n")
            return
        line = self._inbox[:newline].decode()
        del self._inbox[: newline + 1]
        self._control.command(self, line)

    def _frames(self) -> None:
        while self.fileno >= 0:
            taken = take(self._inbox)
            if taken is None:
                return
            kind, payload = taken
            if kind == STDIN and self._stdin:
                self._control.stdin.put(payload) if payload else self._control.stdin.end()
            elif kind == RESIZE:
                rows, columns = payload.split()
                self._control.stdin.resize(int(rows), int(columns))
            elif kind == CLEANED and self.owner:
                self._control.cleaned()

    def _flush(self) -> None:
        try:
            while self._outbox:
                del self._outbox[: self._socket.send(self._outbox)]
        except BlockingIOError:
            pass
        except OSError:
            self.drop()
            return
        if not self._outbox and self.closing:
            self.drop()
            return
        self._note_fullness()
        self._watch()
        self._control.pressure()

    def _note_fullness(self) -> None:
        if not self._outbox:
            self.full = False
            self._loop.cancel(self)
        elif len(self._outbox) >= FULL and not self.full:
            self.full = True
            if not self.owner:
                self._loop.later(self, STALLED, self.drop)


_CLOSE_ON_EXEC = _socket.MSG_CMSG_CLOEXEC
