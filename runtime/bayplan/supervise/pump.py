"""Connecting this process's standard streams with an attached container."""

from __future__ import annotations

import os
import select

from bayplan.model.value import NamedTuple
from bayplan.store.status import ExitStatus
from bayplan.supervise.client import Session, exit_of
from bayplan.supervise.frames import STDERR, STDIN, STDOUT

DETACH = b"\x10\x11"  # ctrl-p ctrl-q, Docker's default
CHUNK = 16384


class Streams(NamedTuple):
    """Descriptors; stdin -1: nothing is typed. `detach` is the key sequence that leaves, empty: none does."""

    stdin: int = 0
    stdout: int = 1
    stderr: int = 2
    detach: bytes = b""


class Keys:
    """Looks for the detaching sequence in what is typed; a beginning of it is kept back until the next key decides."""

    __slots__ = ("_held", "_sequence")

    def __init__(self, sequence: bytes) -> None:
        self._sequence = sequence
        self._held = b""

    def filter(self, data: bytes) -> tuple[bytes, bool]:
        """(what to pass on, whether to leave)."""
        data = self._held + data
        if not self._sequence:
            return data, False
        before, found, _ = data.partition(self._sequence)
        if found:
            return before, True
        kept = next(n for n in range(len(self._sequence) - 1, -1, -1) if data.endswith(self._sequence[:n]))
        self._held = data[len(data) - kept :]
        return data[: len(data) - kept], False


def pump(session: Session, streams: Streams) -> ExitStatus | None:
    """Copies until the container ends; None if the user detached, or nobody reads standard output any more.

    The caller's signal handlers run in between (window size, signals to pass on). Raises Unavailable if the monitor
    vanishes, OSError if an output cannot be written for another reason than its reader being gone.
    """
    keys = Keys(streams.detach)
    socket = session.socket.fileno()
    typing = streams.stdin
    while True:
        listens = typing >= 0 and session.can_take
        wanted = [socket, typing] if listens else [socket]
        readable, writable, _ = select.select(wanted, [] if session.can_take else [socket], [])
        if writable:
            session.flush()
        if listens and typing in readable:
            typed = os.read(typing, CHUNK)
            data, leaves = keys.filter(typed)
            if leaves:
                return None
            _pass_on(session, data, ended=not typed)
            typing = typing if typed else -1
        if socket in readable:
            for kind, payload in session.receive():
                status = exit_of(kind, payload)
                if status is not None or not _show(streams, kind, payload):
                    return status


def _pass_on(session: Session, data: bytes, *, ended: bool) -> None:
    if data:
        session.send(STDIN, data)
    if ended:
        session.send(STDIN, b"")


def _show(streams: Streams, kind: int, payload: bytes) -> bool:
    """Writes one frame's output; False if its reader is gone."""
    descriptor = {STDOUT: streams.stdout, STDERR: streams.stderr}.get(kind, -1)
    try:
        while payload and descriptor >= 0:
            payload = payload[os.write(descriptor, payload) :]
    except BrokenPipeError:
        return False
    return True
