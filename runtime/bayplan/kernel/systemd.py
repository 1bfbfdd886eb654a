"""systemd's part in a container: a transient scope, so that container and monitor outlive the session that started them.

Spoken to over its private socket, which needs no bus and answers root only; the messages are D-Bus's
(https://dbus.freedesktop.org/doc/dbus-specification.html), the method is in org.freedesktop.systemd1(5). The scope is delegated:
what is beneath its cgroup is ours (https://systemd.io/CGROUP_DELEGATION/).
"""

from __future__ import annotations

import _socket
import os
import struct
import time

from bayplan.errors import Unavailable
from bayplan.model.value import NamedTuple

SLICE = "bayplan.slice"
UNIT = "bayplan.service"  # the one that stops containers at a shutdown
_SOCKET = "/run/systemd/private"
_SECONDS = 10.0
_EXISTS = "org.freedesktop.systemd1.UnitExists"
_RETURN, _ERROR = 2, 3
_UNLIMITED = 2**64 - 1


class _Scope(NamedTuple):
    """A transient scope to make for one process; `before` is a unit that is stopped after it, or nothing."""

    name: str
    pid: int
    slice: str
    description: str
    before: str = ""


class _Refused(Exception):
    """An error message: its name and its text."""


def enter_scope(name: str, *, description: str) -> None:
    """Move this process into the scope `name`, which is made for it; nothing happens where the process is there already.

    Scopes are stopped after `UNIT`, which by then has stopped the containers in them. Unavailable if systemd does not answer or
    refuses, with what it says. A scope of that name which just ends is waited for.
    """
    _make(_Scope(name, os.getpid(), SLICE, description, before=UNIT))


def make_scope(name: str, *, pid: int, slice_name: str, description: str) -> None:
    """Make the scope `name` beneath the slice for process `pid`, which is in it on return. It ends with the last process in it.

    Unavailable where there is no systemd, or where it refuses, with what it says: a scope of that name that runs, say.
    """
    _make(_Scope(name, pid, slice_name, description))


def _make(scope: _Scope) -> None:
    deadline = time.monotonic() + _SECONDS
    while not _is_inside(scope):
        try:
            _call("StartTransientUnit", _arguments(scope))
            _await(scope, deadline)
        except _Refused as refusal:
            if refusal.args[0] != _EXISTS or time.monotonic() > deadline:
                raise Unavailable(f"making the scope {scope.name}: systemd refuses: {refusal.args[1]}") from refusal
            time.sleep(0.02)
        except OSError as error:
            said = f"systemd does not answer at {_SOCKET}: {error.strerror or error}"
            raise Unavailable(f"making the scope {scope.name}: {said}; on a host without it leave systemd out") from error


def _is_inside(scope: _Scope) -> bool:
    """On version 1, systemd's own hierarchy decides."""
    name = scope.name
    with open(f"/proc/{scope.pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        places = [line.rstrip("\n").split(":", 2) for line in file]
    return any(f"/{name}" in path + "/" and path.split(f"/{name}", 1)[1][:1] in ("", "/")
               for _, controller, path in places if controller in ("", "name=systemd"))  # fmt: skip


def _await(scope: _Scope, deadline: float) -> None:
    """The answer comes when the job is queued; it is done when the process has moved."""
    while not _is_inside(scope):
        if time.monotonic() > deadline:
            raise Unavailable(f"making the scope {scope.name}: systemd has not done it in {_SECONDS:.0f} s")
        time.sleep(0.001)


def _arguments(scope: _Scope) -> bytes:
    """Those of StartTransientUnit: ssa(sv)a(sa(sv))."""
    properties = (
        ("Description", "s", _string(scope.description)),
        ("Slice", "s", _string(scope.slice)),
        ("PIDs", "au", struct.pack("<II", 4, scope.pid)),
        ("Delegate", "b", struct.pack("<I", 1)),
        # without a unit that stops it before, it is the engine's: at a shutdown systemd leaves it to that, as with runc
        ("Before", "as", _strings(scope.before)) if scope.before else ("DefaultDependencies", "b", struct.pack("<I", 0)),
        ("CollectMode", "s", _string("inactive-or-failed")),
        ("TasksMax", "t", struct.pack("<Q", _UNLIMITED)),
    )
    body = _padded(_string(scope.name), 4) + _string("fail")
    return _padded(_padded(_array(body, properties), 4) + struct.pack("<I", 0), 8)  # an empty array is padded, too


def _array(body: bytes, properties: tuple[tuple[str, str, bytes], ...]) -> bytes:
    """Append a(sv); a struct starts at a multiple of eight, which its array's length does not count."""
    body = _padded(body, 4)
    items = b""
    for key, signature, value in properties:
        items = _padded(items, 8) + _string(key)
        items += bytes((len(signature),)) + signature.encode() + b"\0"
        items = _padded(items, 8 if signature == "t" else 4) + value
    return _padded(body + struct.pack("<I", len(items)), 8) + items


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<I", len(raw)) + raw + b"\0"


def _strings(text: str) -> bytes:
    return struct.pack("<I", len(_string(text))) + _string(text)


def _padded(raw: bytes, multiple: int) -> bytes:
    return raw + b"\0" * (-len(raw) % multiple)


def _message(member: str, signature: str, body: bytes) -> bytes:
    """A method call to the manager; header fields in the specification's numbers: path, interface, member, destination."""
    fields = b""
    for code, kind, text in (
        (1, "o", "/org/freedesktop/systemd1"), (2, "s", "org.freedesktop.systemd1.Manager"), (3, "s", member),
        (6, "s", "org.freedesktop.systemd1"),
    ):  # fmt: skip
        fields = _padded(fields, 8) + bytes((code, 1)) + kind.encode() + b"\0" + _string(text)
    fields = _padded(fields, 8) + bytes((8, 1)) + b"g\0" + bytes((len(signature),)) + signature.encode() + b"\0"
    head = struct.pack("<cBBBIII", b"l", 1, 0, 1, len(body), 1, len(fields))
    return _padded(head + fields, 8) + body


def _call(member: str, body: bytes) -> None:
    """One call on a connection of its own. OSError, or _Refused with the error's name and text."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        sock.settimeout(_SECONDS)
        sock.connect(_SOCKET)
        sock.sendall(b"\0AUTH EXTERNAL " + str(os.geteuid()).encode().hex().encode() + b"\r\nBEGIN\r\n")
        line = b""
        while not line.endswith(b"\r\n"):
            line += _receive(sock, 1)
        if not line.startswith(b"OK "):
            raise OSError(0, line.decode("ascii", "replace").strip())
        sock.sendall(_message(member, "ssa(sv)a(sa(sv))", body))
        _read_answer(sock)
    finally:
        sock.close()


def _read_answer(sock: _socket.socket) -> None:
    """Signals that come before it are passed over."""
    while True:
        order, kind, _, _, length, _, fields_length = struct.unpack("<cBBBIII", _receive(sock, 16))
        if order != b"l" or length + fields_length > 1 << 20:
            raise OSError(0, "its answer is none of D-Bus's")
        fields = _receive(sock, fields_length + -fields_length % 8)
        body = _receive(sock, length)
        if kind == _RETURN:
            return
        if kind == _ERROR:
            raise _Refused(_error_name(fields), body[4:-1].decode("utf-8", "replace"))


def _error_name(fields: bytes) -> str:
    """Field 4, ERROR_NAME, which is a string."""
    found = fields.find(b"\x04\x01s\0")
    size = struct.unpack_from("<I", fields, found + 4)[0] if 0 <= found <= len(fields) - 8 else 0
    return fields[found + 8 : found + 8 + size].decode("ascii", "replace")


def _receive(sock: _socket.socket, size: int) -> bytes:
    raw = b""
    while len(raw) < size:
        more = sock.recv(size - len(raw))
        if not more:
            raise OSError(0, "it closed the connection")
        raw += more
    return raw
