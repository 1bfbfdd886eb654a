"""What a child that builds a container says to its parent: one message a packet, errors with their class."""

from __future__ import annotations

import _socket
import os
import struct

from bayplan import errors
from bayplan.kernel.process import ProgramNotFound, ProgramRefused

_LARGEST = 8192
_FD = struct.Struct("i")
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


def send_ready(wire: _socket.socket, terminal: int) -> None:
    ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, _FD.pack(terminal))] if terminal >= 0 else []
    wire.sendmsg([b"R"], ancillary)


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
    if not message.startswith(b"E\0"):
        return Refused("building the container: its first process was killed (out of memory within its limit?)", 0)
    _, kind, number, text = message.decode("utf-8", "replace").split("\0", 3)
    return _KINDS[kind](text) if kind in _KINDS else Refused(text, int(number))


def receive(wire: _socket.socket) -> tuple[bytes, list[int]]:
    """One message and the descriptors with it (close-on-exec); empty at the end of file."""
    message, ancillary, _, _ = wire.recvmsg(_LARGEST, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, data in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            fds += (fd for (fd,) in _FD.iter_unpack(data[: len(data) - len(data) % _FD.size]))
    return message, fds
