"""Talking to a container's monitor: attach, wait, resize, reload. The protocol is described in control.py and frames.py."""

from __future__ import annotations

import _socket
import os
import struct

from bayplan.errors import BayplanError, Conflict, NotFound, Unavailable
from bayplan.model.value import NamedTuple
from bayplan.store.status import ExitStatus, parse_exit, read_exit
from bayplan.supervise.frames import CLEANED, EXIT, RESIZE, Broken, frame, take

SOCKET_NAME = "monitor.sock"
DESCRIPTORS_AT_ONCE = 200  # SCM_MAX_FD is 253, unix(7)


class Port(NamedTuple):
    """A published port's socket: only held if `address` is empty, else connections are relayed there."""

    descriptor: int
    address: str = ""
    port: int = 0


def listen(directory: str) -> int:
    """Makes `directory`/monitor.sock, mode 0600, and returns the listening descriptor (not inheritable). Raises OSError."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    os.fchmod(sock.fileno(), 0o600)  # the file takes the socket's mode at bind
    parent = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _remove(SOCKET_NAME, parent)
        sock.bind(_short_path(parent))
        sock.listen(64)
        return sock.detach()
    except OSError:
        sock.close()
        raise
    finally:
        os.close(parent)


def _remove(name: str, parent: int) -> None:
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return


def connect(directory: str) -> _socket.socket:
    """A connection to the container's monitor. Raises NotFound if no monitor is there."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        parent = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            sock.connect(_short_path(parent))
        finally:
            os.close(parent)
    except OSError as error:
        sock.close()
        raise NotFound(f"connecting to the container's monitor: it is not running ({error.strerror})") from error
    return sock


def wait(directory: str, *, cleaned: bool = False) -> ExitStatus:
    """Blocks until this life of the container ends; with `cleaned` also until its network and cgroup are removed.

    Raises NotFound if no monitor is there, Unavailable if it vanishes without a word.
    """
    waiting = _ask(directory, "wait")
    try:
        answer = _receive_line(waiting)
        while cleaned and answer and waiting.recv(512):
            pass
    except ConnectionResetError:
        answer = b""
    finally:
        waiting.close()
    # asked too late to be answered: the connection has ended with the cleaning or the restart, the record is there
    status = parse_exit(answer) if answer else read_exit(directory)
    if status is None:
        raise Unavailable("waiting for the container's end: its monitor has vanished")
    return status


def resize(directory: str, rows: int, columns: int) -> None:
    """Sets the size of the container's terminal; without a terminal nothing happens. Raises as command()."""
    command(directory, f"resize {rows} {columns}")


def send_signal(directory: str, number: int) -> None:
    """Signals the container's first process, never another one that got its number. Raises as command()."""
    command(directory, f"signal {number}")


def reload(directory: str) -> None:
    """Makes the monitor take what launch.write_settings() wrote. Raises as command()."""
    command(directory, "reload")


def notify_stop(directory: str) -> None:
    """After the file `stopped` was made: ends the wait for a restart, if the container is in one. Raises as command()."""
    command(directory, "stop")


def health(directory: str) -> bytes:
    """The health check's state as JSON; empty if there is no check. Raises NotFound, Unavailable."""
    return _talk(directory, "health")


def replace_ports(directory: str, ports: tuple[Port, ...]) -> None:
    """Gives the monitor new sockets for all published ports; those it had are closed. Raises as command().

    The caller's descriptors stay open and are the caller's to close.
    """
    verb = "ports"
    for start in range(0, max(len(ports), 1), DESCRIPTORS_AT_ONCE):
        some = ports[start : start + DESCRIPTORS_AT_ONCE]
        items = (f"{port.address}/{port.port}" if port.address else "-" for port in some)
        command(directory, " ".join((verb, *items)), tuple(port.descriptor for port in some))
        verb = "ports+"


def command(directory: str, line: str, descriptors: tuple[int, ...] = ()) -> None:
    """One command that is answered by "ok". Raises NotFound (no monitor), Unavailable (it vanished), Conflict (refused)."""
    answer = _talk(directory, line, descriptors).decode("utf-8", "replace").strip()
    if answer != "ok":
        raise Conflict(f"asking the container's monitor to {line.split()[0]}: {answer or 'it has vanished'}")


def _short_path(parent: int) -> str:
    """A path that fits sun_path's 108 bytes, unix(7), however long the state root's is."""
    return f"/proc/self/fd/{parent}/{SOCKET_NAME}"


def _ask(directory: str, line: str, descriptors: tuple[int, ...] = ()) -> _socket.socket:
    sock = connect(directory)
    rights = struct.pack(f"{len(descriptors)}i", *descriptors)
    ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)] if descriptors else []
    try:
        sock.sendmsg([line.encode() + b"\n"], ancillary)
    except OSError as error:
        sock.close()
        raise Unavailable(f"asking the container's monitor: {error.strerror}") from error
    return sock


def _talk(directory: str, line: str, descriptors: tuple[int, ...] = ()) -> bytes:
    sock = _ask(directory, line, descriptors)
    answer = b""
    try:
        while True:
            more = sock.recv(65536)
            if not more:
                return answer
            answer += more
    except OSError as error:
        raise Unavailable(f"asking the container's monitor: {error.strerror}") from error
    finally:
        sock.close()


def _receive_line(sock: _socket.socket) -> bytes:
    answer = b""
    while not answer.endswith(b"\n"):
        more = sock.recv(4096)
        if not more:
            return b""
        answer += more
    return answer


class Session:
    """An attached connection: the owner's end of `owner_fd`, or what attach() returned."""

    __slots__ = ("_inbox", "_outbox", "socket")

    def __init__(self, sock: _socket.socket) -> None:
        self.socket = sock
        self.socket.setblocking(False)
        self._inbox = bytearray()
        self._outbox = bytearray()

    @property
    def can_take(self) -> bool:
        """Whether more input should be offered; if not, wait for the socket to become writable and flush()."""
        return not self._outbox

    def send(self, kind: int, payload: bytes) -> None:
        """Queues a frame and sends what can be sent now. Raises Unavailable if the monitor has vanished."""
        self._outbox += frame(kind, payload)
        self.flush()

    def flush(self) -> None:
        """Sends what can be sent now. Raises Unavailable if the monitor has vanished."""
        try:
            while self._outbox:
                del self._outbox[: self.socket.send(self._outbox)]
        except BlockingIOError:
            return
        except OSError as error:
            raise _vanished() from error

    def receive(self) -> list[tuple[int, bytes]]:
        """The frames that are there, possibly none. Raises Unavailable if the monitor has vanished."""
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return []
        except OSError as error:
            raise _vanished() from error
        if not data:
            raise _vanished()
        self._inbox += data
        return self._frames()

    def resize(self, rows: int, columns: int) -> None:
        """The terminal's new size. Raises Unavailable."""
        self.send(RESIZE, b"%d %d" % (rows, columns))

    def cleaned(self) -> None:
        """The owner's last word: network, cgroup and records are as they should be; the monitor just ends."""
        self.socket.setblocking(True)
        self.send(CLEANED, b"")
        self.socket.close()

    def close(self) -> None:
        """Leaves. An owner that leaves without cleaned() makes the monitor do it."""
        self.socket.close()

    def _frames(self) -> list[tuple[int, bytes]]:
        frames: list[tuple[int, bytes]] = []
        try:
            while True:
                taken = take(self._inbox)
                if taken is None:
                    return frames
                frames.append(taken)
        except Broken as error:
            raise Unavailable("reading from the container's monitor: it does not speak our protocol") from error


def attach(directory: str, *, stdin: bool) -> Session:
    """Attaches to a running container. Raises NotFound, Unavailable."""
    return Session(_ask(directory, "attach stdin" if stdin else "attach nostdin"))


def exit_of(kind: int, payload: bytes) -> ExitStatus | None:
    """The exit status if the frame carries it. Raises Invalid."""
    return parse_exit(payload) if kind == EXIT else None


def _vanished() -> BayplanError:
    return Unavailable("talking to the container's monitor: it has vanished")
