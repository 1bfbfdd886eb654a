"""How a process comes into a pid namespace that others are in: what makes it stays outside of it, and reports by the wire.

    the caller                    the one between, outside                       the process, a child of the caller's
      clone ────────────────────────► namespaces, limits, rights, filter
                                      trampoline: clone, CLONE_PARENT ────────────► waits at the gate
      knows the process ◄──────────── its number, and ends
      G ──────────────────────────────────────────────────────────────────────────► executes the program

From its first instruction on the process has the program's rights and no more, and the trampoline for its `/proc/PID/exe`. Whoever may
trace it there can take its end of the wire: so nothing is believed of who speaks there but what the kernel says, and nothing waits for
the wire alone.
"""

from __future__ import annotations

import _socket
import os
import select
import struct
from contextlib import suppress

from bayplan.errors import BayplanError, Kernel
from bayplan.kernel.process import program_error
from bayplan.kernel.wire import CONTINUE, GO, LISTENER, ask_for_senders, decode_error, receive_from, send
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_PID, _ERRNO = struct.Struct("=Q"), struct.Struct("=I")
_TICK = 100  # milliseconds
_OURS = "/memfd:bayplan"  # the trampoline, as /proc/PID/exe has it


def receive_child(wire: _socket.socket, between: int, listen: Callable[[int], None] | None) -> int:
    """Wait for what our child `between` says, and reap it; the pid of the process that it has made, another child of ours.

    `wire` was asked for senders (wire.py). `listen` gets the number of a listener that `between` holds. Raises what went wrong; then
    `between` has not been reaped.
    """
    believed = {between}
    while True:
        message, fds, sender = receive_from(wire)
        for fd in fds:
            os.close(fd)
        if message and sender not in believed:  # somebody in the container, who has taken the wire
            continue
        if not (listen and message[:1] == LISTENER and message[1:].isdigit()):
            break
        listen(int(message[1:]) if message[1:].isdigit() else -1)
        ask_for_senders(wire, False)
        send(wire, CONTINUE)
        ask_for_senders(wire, True)
        believed.add(0)  # it may have been quicker than that
    if len(message) != _PID.size:
        raise _trouble(message)
    with suppress(ChildProcessError):  # a caller that ignores SIGCHLD has it reaped by the kernel
        os.waitpid(between, 0)
    return int(_PID.unpack(message)[0])


def _trouble(message: bytes) -> BayplanError:
    if len(message) != _ERRNO.size:
        return decode_error(message)
    number = int(_ERRNO.unpack(message)[0])
    hint = "its limit of processes has no room for this one and the one that makes it" if number == 11 else "clone"
    return Kernel("making a process in the container", OSError(number, os.strerror(number), hint))


def open_gate(wire: _socket.socket) -> None:
    """Let the process go on. One that has been killed is found to have ended later."""
    ask_for_senders(wire, False)
    with suppress(BrokenPipeError):
        send(wire, GO)


def await_execution(wire: _socket.socket, pid: int, pidfd: int, program: str) -> None:
    """Wait until our child `pid`, told to go, executes its program, or has ended. ProgramNotFound, ProgramRefused.

    The end of file says so; but where somebody in the container has a copy of the other end it does not come, and messages may.
    """
    poll = select.poll()
    for fd in (wire.fileno(), pidfd):
        if fd >= 0:
            poll.register(fd, select.POLLIN)
    while not poll.poll(_TICK):
        if _executes(pid):
            return
    try:
        message, fds, _ = receive_from_now(wire)
    except BlockingIOError:
        return
    for fd in fds:
        os.close(fd)
    if len(message) == _ERRNO.size:
        raise program_error(program, _ERRNO.unpack(message)[0])


def receive_from_now(wire: _socket.socket) -> tuple[bytes, list[int], int]:
    """As `receive_from`; BlockingIOError where nothing is there."""
    os.set_blocking(wire.fileno(), False)
    return receive_from(wire)


def _executes(pid: int) -> bool:
    """Whether it is no longer the trampoline, by what the kernel says."""
    try:
        return not os.readlink(f"/proc/{pid}/exe").startswith(_OURS)
    except OSError:  # it has ended
        return True
