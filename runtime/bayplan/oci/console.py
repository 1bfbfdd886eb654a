"""A container's standard streams: ours as they are where it is detached, copied where we stay; a terminal's master for who asks for it."""

from __future__ import annotations

import _socket
import os

from bayplan.errors import Invalid, Unavailable
from bayplan.kernel import wire
from bayplan.kernel.linux import set_window_size
from bayplan.model.runtime import Config, Process
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable
    from typing import TypeAlias

    from bayplan.cli.relay import Ends
else:
    import _signal  # without the enumerations of `signal`

Stdio: TypeAlias = "tuple[int, int, int] | None"
Chooser: TypeAlias = "Callable[[Config], Stdio]"
_NAME = b"/dev/ptmx"  # what runc sends beside the descriptor; nobody reads it


def passed(process: Process, socket_path: str, *, detached: bool) -> Stdio:
    """Our own three streams, or None for a terminal, whose master `give` sends. Invalid where nobody would have the terminal."""
    if process.terminal and detached and not socket_path:
        raise Invalid("process.terminal: --console-socket must say who gets the terminal of a container that is left alone")
    if socket_path and not process.terminal:
        raise Invalid("--console-socket: the process has no terminal (process.terminal)")
    return None if process.terminal else (0, 1, 2)


def give(path: str, terminal: int) -> None:
    """Send the master to the stream socket at `path`, and close ours."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        by_short_name(path, sock.connect)
        wire.send(sock, _NAME, terminal)
    except OSError as error:
        raise Unavailable(f"sending the terminal to the console socket {path}: {error.strerror}") from error
    finally:
        sock.close()
        os.close(terminal)


def by_short_name(path: str, act: Callable[[str], None]) -> None:
    """Connect or bind a socket to `path` by a name that is never too long (unix(7): 107 bytes)."""
    parent, _, name = path.rpartition("/")
    fd = os.open(parent or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        act(f"/proc/self/fd/{fd}/{name}")
    finally:
        os.close(fd)


def forget_inherited(*, keep: int) -> None:
    """Close what our caller has left open in us, but the standard streams and `keep` more: a container that waits for its start must not
    keep anybody waiting. What we open ourselves is close-on-exec, what was inherited is not.

    Invalid where one of the `keep` was not inherited: the number may be that of a file of ours, which is nobody's (CVE-2024-21626)."""
    if keep < 0:
        raise Invalid(f"--preserve-fds {keep}: it is a number of descriptors")
    for fd in range(3, 3 + keep):
        try:
            inherited = os.get_inheritable(fd)
        except OSError:
            inherited = False
        if not inherited:
            raise Invalid(f"passing the descriptors 3 to {2 + keep} on: descriptor {fd} is not open")
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        try:
            if fd >= 3 + keep and os.get_inheritable(fd):
                os.close(fd)
        except OSError:  # that of the listing itself
            continue


class Streams:
    """The streams of a process that we may stay with: it never has our own, which it could read back or type at (TIOCSTI)."""

    def __init__(self) -> None:
        self._ends: Ends | None = None

    def open(self, process: Process, socket_path: str, *, detached: bool) -> Stdio:
        """What the process gets; see `passed`."""
        if detached or socket_path:
            return passed(process, socket_path, detached=detached)
        from bayplan.cli.relay import open_ends

        self._ends = open_ends(attended=True, interactive=True, terminal=process.terminal)
        return None if process.terminal else self._ends.inside

    @staticmethod
    def fit(terminal: int) -> None:
        """Give the terminal whose master is `terminal` the size of ours, before anybody asks for it; -1 is none."""
        if terminal >= 0 and os.isatty(0):
            columns, rows = os.get_terminal_size(0)
            if rows and columns:  # one that has no size does not take away what `consoleSize` says
                set_window_size(terminal, rows=rows, columns=columns)

    def attend(self, pid: int, pidfd: int, terminal: int) -> int:
        """Copy both ways and pass signals on until our child `pid` has ended; its exit status, as a shell says it."""
        from bayplan.cli.relay import Ends, Relay

        ends = self._ends or Ends((-1, -1, -1))
        ends.close_inside()
        if terminal >= 0:
            ends = Ends((-1, -1, -1), os.dup(terminal), terminal)
        _pass_signals_on(pid, pidfd)
        relay = Relay(ends, source=0)
        if terminal >= 0 and os.isatty(0):
            from bayplan.cli.terminal import Terminal

            with Terminal(0).raw(lambda *_: self.fit(terminal)):
                status = relay.run(pid, pidfd)
        else:
            status = relay.run(pid, pidfd)
        return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _pass_signals_on(pid: int, pidfd: int) -> None:
    """Every signal that can be caught, to our child, which has not been reaped: its number is nobody else's."""
    from bayplan.kernel.linux import pidfd_send_signal

    def forward(number: int, _: object) -> None:
        try:
            if pidfd >= 0:
                pidfd_send_signal(pidfd, number)
            else:
                os.kill(pid, number)
        except ProcessLookupError:
            return

    for name in ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "ALRM", "CONT", "TSTP"):
        _signal.signal(getattr(_signal, f"SIG{name}"), forward)
