"""Netlink: messages and attributes as bytes, and a channel that sends them and reads the answers.

Everything that networks need of the kernel goes through here: links, addresses and routes (rtnetlink(7)), tables
(nf_tables) and connection tracking (both on netlink's netfilter protocol). A library that does the same costs
a quarter of a second to import, which is more than a whole container start may take.

The kernel works a request off inside sendmsg(2), so an answer is waiting when it returns: nothing here blocks.
"""

from __future__ import annotations

import _socket
import errno
import os
import struct

from bayplan.errors import Kernel, Unavailable
from bayplan.model.value import TYPE_CHECKING, NamedTuple

from .linux import CLONE_NEWNET, setns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TypeVar

    T = TypeVar("T")

ROUTE = 0
NETFILTER = 12

# Flags of a request (netlink(7)).
REQUEST, ACK = 0x001, 0x004
REPLACE, EXCLUSIVE, CREATE, APPEND = 0x100, 0x200, 0x400, 0x800
_DUMP = 0x300

_NOOP, _ERROR, _DONE = 1, 2, 3
_INTERRUPTED, _CAPPED, _TLVS = 0x10, 0x100, 0x200
_NESTED, _TYPE_MASK = 0x8000, 0x3FFF
_SOL_NETLINK, _CAP_ACK, _EXT_ACK = 270, 10, 11
_SO_SNDBUFFORCE = 32
_ERROR_TEXT = 1  # NLMSGERR_ATTR_MSG
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_RECEIVE = 1 << 16
_ATTEMPTS = 8


class Message(NamedTuple):
    """One message, without the sequence number that a channel gives it; `flags` needs no REQUEST."""

    kind: int
    flags: int
    body: bytes


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to four bytes. Its length field has 16 bits: a longer payload is a bug of the caller."""
    length = 4 + len(payload)
    return _ATTRIBUTE.pack(length, kind) + payload + b"\0" * (-length % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    return attribute(kind | _NESTED, b"".join(attributes))


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def number(kind: int, value: int) -> bytes:
    """A 32-bit number in the host's byte order, as rtnetlink has them."""
    return attribute(kind, struct.pack("=I", value))


def big(kind: int, value: int) -> bytes:
    """A 32-bit number in network byte order, as netfilter has them."""
    return attribute(kind, struct.pack(">I", value))


def attributes(data: bytes, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield (kind, payload) of the attributes in `data`; stop at the first that does not fit."""
    end = len(data)
    while start + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, start)
        if length < 4 or start + length > end:
            return
        yield kind & _TYPE_MASK, data[start + 4 : start + length]
        start += (length + 3) & ~3


def read_text(payload: bytes) -> str:
    return payload.partition(b"\0")[0].decode("utf-8", "replace")


def messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield (kind, flags, sequence, body) of the messages in one datagram; stop at the first that does not fit."""
    start, end = 0, len(data)
    while start + 16 <= end:
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, start)
        if length < 16 or start + length > end:
            return
        yield kind, flags, sequence, data[start + 16 : start + length]
        start += (length + 3) & ~3


def pack(message: Message, sequence: int) -> bytes:
    length = 16 + len(message.body)
    header = _HEADER.pack(length, message.kind, message.flags | REQUEST, sequence, 0)
    return header + message.body + b"\0" * (-length % 4)


class Channel:
    """A netlink socket; `doing` of its methods is the noun phrase that an error begins with.

    With `netns`, the descriptor of a network namespace, the socket speaks to that one for as long as it is open.
    """

    def __init__(self, protocol: int, *, netns: int | None = None) -> None:
        self._sequence = 1
        self._socket = _open(protocol) if netns is None else inside(netns, lambda: _open(protocol))

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def request(self, doing: str, *wanted: Message) -> None:
        """Send all in one datagram; raise Kernel for the first that the kernel refuses.

        rtnetlink goes on after a refused message: whoever sends several has to undo the others.
        """
        first = self._send(doing, [Message(each.kind, each.flags | ACK, each.body) for each in wanted])
        self._collect(doing, first, count=len(wanted))

    def transact(self, doing: str, wanted: Sequence[Message]) -> None:
        """Send a batch that the kernel takes as a whole or not at all (nf_tables); raise Kernel for the first refusal."""
        last = wanted[-1]
        edge = struct.pack(">BBH", 0, 0, _NFTABLES)
        batch = [Message(_BATCH_BEGIN, 0, edge), *wanted[:-1]]
        batch += [Message(last.kind, last.flags | ACK, last.body), Message(_BATCH_END, 0, edge)]
        first = self._send(doing, batch)
        self._collect(doing, first, count=1)

    def query(self, doing: str, wanted: Message) -> list[Message]:
        """Return the answers to one request that is no dump."""
        first = self._send(doing, [Message(wanted.kind, wanted.flags | ACK, wanted.body)])
        return self._collect(doing, first, count=1)

    def dump(self, doing: str, wanted: Message) -> list[Message]:
        """Return all that the kernel lists. One that changed under our hands is asked for again."""
        for _ in range(_ATTEMPTS):
            first = self._send(doing, [Message(wanted.kind, wanted.flags | _DUMP, wanted.body)])
            found, whole = self._listing(doing, first)
            if whole:
                return found
        raise Unavailable(f"{doing}: the kernel's list kept changing while it was read; try again")

    def _send(self, doing: str, wanted: Sequence[Message]) -> int:
        first = self._sequence
        self._sequence += len(wanted)
        data = b"".join(pack(message, first + place) for place, message in enumerate(wanted))
        try:
            if len(data) > 100_000:  # half of the usual send buffer, of which overheads take a share
                self._socket.setsockopt(_socket.SOL_SOCKET, _SO_SNDBUFFORCE, 4 * len(data))
            self._socket.send(data)
        except OSError as error:
            raise Kernel(doing, error) from error
        return first

    def _receive(self, doing: str) -> bytes:
        try:
            return self._socket.recv(_RECEIVE, _socket.MSG_DONTWAIT)
        except OSError as error:
            raise Kernel(f"{doing}: reading the kernel's answer", error) from error

    def _collect(self, doing: str, first: int, *, count: int) -> list[Message]:
        found = []
        while count:
            for kind, flags, sequence, body in messages(self._receive(doing)):
                if sequence < first or kind == _NOOP:
                    continue  # left over from a request that raised before all its answers were read
                if kind == _ERROR:
                    _raise_for(doing, flags, body)
                    count -= 1
                else:
                    found.append(Message(kind, flags, body))
        return found

    def _listing(self, doing: str, first: int) -> tuple[list[Message], bool]:
        found: list[Message] = []
        whole = True
        while True:
            for kind, flags, sequence, body in messages(self._receive(doing)):
                if sequence < first:
                    continue
                whole = whole and not flags & _INTERRUPTED
                if kind == _DONE:
                    _raise_for_status(doing, body)
                    return found, whole
                if kind == _ERROR:
                    _raise_for(doing, flags, body)
                    return found, whole
                found.append(Message(kind, flags, body))


_NFTABLES = 10  # NFNL_SUBSYS_NFTABLES
_BATCH_BEGIN, _BATCH_END = 16, 17


def inside(netns: int, action: Callable[[], T]) -> T:
    """Call `action` in the network namespace of the descriptor `netns`, and come back.

    The thread's own namespace is what is entered and left. /proc/sys/net shows, too, the one that the
    thread is in. Raises Kernel, in which case it is back or was never away.
    """
    try:
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(netns, CLONE_NEWNET)
            try:
                return action()
            finally:
                setns(home, CLONE_NEWNET)
        finally:
            os.close(home)
    except OSError as error:
        raise Kernel("working inside a network namespace", error) from error


def _open(protocol: int) -> _socket.socket:
    try:
        channel = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, protocol)
        for option in (_CAP_ACK, _EXT_ACK):
            channel.setsockopt(_SOL_NETLINK, option, 1)
        channel.bind((0, 0))
    except OSError as error:
        if error.errno in (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT):
            raise Unavailable(_MISSING.get(protocol, "this kernel has no netlink")) from error
        raise Kernel("opening a netlink socket", error) from error
    return channel


_MISSING = {
    NETFILTER: "this kernel has no netfilter (nfnetlink); load the module nf_tables or boot a kernel that has it, "
    "or use the network mode host or none"
}


def _raise_for(doing: str, flags: int, body: bytes) -> None:
    """Raise for an NLMSG_ERROR message whose error is not 0; its text is the kernel's own explanation."""
    code = -struct.unpack_from("=i", body)[0]
    if not code:
        return
    start = 20 if flags & _CAPPED else 4 + struct.unpack_from("=I", body, 4)[0]
    found = dict(attributes(body, start)) if flags & _TLVS else {}
    _refuse(doing, code, read_text(found.get(_ERROR_TEXT, b"")))


def _raise_for_status(doing: str, body: bytes) -> None:
    """Raise if a dump ended with an error: NLMSG_DONE carries one since Linux 4.14."""
    code = -struct.unpack_from("=i", body)[0] if len(body) >= 4 else 0
    if code > 0:
        _refuse(doing, code, "")


def _refuse(doing: str, code: int, explanation: str) -> None:
    reason = os.strerror(code) + (f": {explanation}" if explanation else "")
    raise Kernel(doing, OSError(code, reason))
