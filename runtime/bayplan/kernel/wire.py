"""What a child that builds a container says to its parent: one message a packet, errors with their class."""

from __future__ import annotations

import _socket
import os
import struct

from bayplan import errors
from bayplan.kernel.process import ProgramNotFound, ProgramRefused

_LARGEST = 8192
_FD = struct.Struct("i")
_CREDENTIALS = struct.Struct("=iII")  # struct ucred (unix(7)): process, user, group
_KINDS: dict[str, type[errors.BayplanError]] = {
    kind.__name__: kind
    for kind in (
        errors.Invalid,
        errors.NotFound,
        errors.Conflict,
        errors.Denied,
        errors.Unavailable,
        ProgramNotFound,
        ProgramRefused,
    )
}


class Refused(errors.Kernel):
    """Kernel, come from another process: the message is finished there."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__("", OSError(number, ""))
        self.args = (message,)


READY, BUILT, GO, CONTINUE, WAIT, LISTENER = b"R", b"H", b"G", b"C", b"W", b"L"


def send(wire: _socket.socket, message: bytes, fd: int = -1) -> None:
    """One message, with the descriptor `fd` where it is not -1."""
    wire.sendmsg([message], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, _FD.pack(fd))] if fd >= 0 else [])


def await_continue(wire: _socket.socket) -> None:
    """Tell the parent that the container is built, and wait for what it does about that. Ends the process where nobody says go on."""
    send(wire, BUILT)
    if wire.recv(1) != CONTINUE:
        os._exit(127)


def await_go(wire: _socket.socket) -> _socket.socket:
    """Wait for `GO`, and return where it came from; ends the process where it cannot come any more.

    A parent that is not going to say it itself says `WAIT`, with a listening socket: whoever connects there says it.
    """
    message, fds = receive(wire)
    if message != WAIT or not fds:
        return wire if message == GO else os._exit(127)
    wire.close()
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fds[0])
    while True:
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, listener._accept()[0])  # type: ignore[attr-defined]
        if connection.recv(1) == GO:
            return connection
        connection.close()  # it was killed before it could say so


def send_error(wire: _socket.socket, error: BaseException) -> None:
    """Best effort: the parent may have gone."""
    number = error.errno if isinstance(error, errors.Kernel) else 0
    known = isinstance(error, errors.BayplanError)
    kind = "Kernel" if isinstance(error, errors.Kernel) else type(error).__name__
    text = str(error) if known else f"building the container: {type(error).__name__}: {error}"
    message = f"E\0{kind}\0{number}\0{text}".encode("utf-8", "replace")
    try:
        wire.send(message[:_LARGEST])
    except OSError:
        os._exit(127)


def decode_error(message: bytes) -> errors.BayplanError:
    """The exception of `send_error`; an end of file before "ready" means that the child was killed."""
    parts = message.decode("utf-8", "replace").split("\0", 3)
    if len(parts) < 4 or parts[0] != "E":
        return Refused("building the container: its first process was killed (out of memory within its limit?)", 0)
    _, kind, number, text = parts
    return _KINDS[kind](text) if kind in _KINDS else Refused(text, int(number) if number.isascii() and number.isdigit() else 0)


def receive(wire: _socket.socket) -> tuple[bytes, list[int]]:
    """One message and the descriptors with it (close-on-exec); empty at the end of file."""
    return receive_from(wire)[:2]


def ask_for_senders(wire: _socket.socket, wanted: bool) -> None:
    """Whether the kernel says of what is sent here from now on who has sent it. Who asks for that must not send: the kernel would give
    the socket an abstract address (unix(7), "Autobind feature")."""
    wire.setsockopt(_socket.SOL_SOCKET, _socket.SO_PASSCRED, wanted)


def receive_from(wire: _socket.socket) -> tuple[bytes, list[int], int]:
    """As `receive`, and the sender's pid, which nobody can make up who does not see that process; 0 without `ask_for_senders`."""
    space = _socket.CMSG_SPACE(_FD.size) + _socket.CMSG_SPACE(_CREDENTIALS.size)
    message, ancillary, _, _ = wire.recvmsg(_LARGEST, space, _socket.MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    sender = 0
    for level, kind, data in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            fds += (fd for (fd,) in _FD.iter_unpack(data[: len(data) - len(data) % _FD.size]))
        elif level == _socket.SOL_SOCKET and kind == _socket.SCM_CREDENTIALS and len(data) == _CREDENTIALS.size:
            sender = _CREDENTIALS.unpack(data)[0]
    return message, fds, sender
