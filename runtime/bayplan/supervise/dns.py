"""The codec of DNS messages, as much as a responder for containers' names needs. Pure.

Specifications: RFC 1035 (messages), RFC 6891 (EDNS), RFC 3596 (AAAA, ip6.arpa). Lean, see loop.py.
"""

from __future__ import annotations

A, PTR, AAAA, OPT, ANY = 1, 12, 28, 41, 255
INTERNET = 1
NOERROR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 2, 3, 4, 5
PLAIN_LIMIT = 512  # bytes of a UDP answer to who does not speak EDNS, RFC 1035 section 4.2.1
EDNS_LIMIT = 4096  # bytes of any UDP answer of ours
ADVERTISED = 1232  # bytes that we would take in a UDP query, dnsflagday.net/2020
TTL = 5  # seconds: a replaced container has another address soon
LONGEST_NAME = 255
_NAME_BYTES = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_")

TYPE_CHECKING = False
if TYPE_CHECKING:
    Record = tuple[int, bytes]  # (type, data)


class Malformed(Exception):
    """Not a query that deserves an answer."""


class Query:
    """A query with exactly one question."""

    __slots__ = ("edns", "end", "flags", "kind", "klass", "limit", "name", "opcode")

    name: bytes  # lower case, no final dot; empty if it has bytes that no container's name has
    kind: int
    klass: int
    end: int  # where the question ends
    limit: int  # bytes that an answer over UDP may have
    edns: bool
    flags: int
    opcode: int


def parse(packet: bytes) -> Query:
    """Reads a query. Raises Malformed."""
    if len(packet) < 12:
        raise Malformed
    query = Query()
    query.flags = packet[2] << 8 | packet[3]
    query.opcode = query.flags >> 11 & 15
    if query.flags & 0x8000 or packet[4:6] != b"\0\1":
        raise Malformed
    query.name, position = _question_name(packet)
    if len(packet) < position + 4:
        raise Malformed
    query.kind = packet[position] << 8 | packet[position + 1]
    query.klass = packet[position + 2] << 8 | packet[position + 3]
    query.end = position + 4
    query.edns, query.limit = _edns(packet, query.end)
    return query


def _question_name(packet: bytes) -> tuple[bytes, int]:
    """(name, where it ends). A question has nothing before it that a pointer could mean, so pointers are refused."""
    labels: list[bytes] = []
    position = 12
    plain = True
    while True:
        if position >= len(packet) or position - 12 >= LONGEST_NAME:
            raise Malformed
        length = packet[position]
        position += 1
        if length == 0:
            return (b".".join(labels) if plain else b""), position
        if length > 63 or position + length > len(packet):
            raise Malformed
        label = packet[position : position + length].lower()
        plain = plain and _NAME_BYTES.issuperset(label)
        labels.append(label)
        position += length


def _edns(packet: bytes, end: int) -> tuple[bool, int]:
    """Whether the first additional record is an OPT, and the answer's limit."""
    additional = packet[10:12] != b"\0\0" and packet[6:10] == b"\0\0\0\0"
    if not additional or len(packet) < end + 11 or packet[end : end + 3] != b"\0\0" + bytes((OPT,)):
        return False, PLAIN_LIMIT
    size = packet[end + 3] << 8 | packet[end + 4]
    return True, max(PLAIN_LIMIT, min(size, EDNS_LIMIT))


def answer(packet: bytes, query: Query, code: int, records: list[Record], limit: int) -> bytes:
    """A response of at most `limit` bytes; truncated (TC) to the bare question if the records do not fit.

    The question is repeated byte for byte: resolvers compare its letters' case with what they sent.
    """
    option = b"\0\0\x29" + ADVERTISED.to_bytes(2, "big") + b"\0" * 6 if query.edns else b""
    body = b"".join(
        b"\xc0\x0c" + kind.to_bytes(2, "big") + b"\0\1" + TTL.to_bytes(4, "big") + len(data).to_bytes(2, "big") + data
        for kind, data in records
    )
    flags = 0x8480 | query.flags & 0x7910 | code  # QR, AA, RA; opcode, RD and CD as asked
    count = len(records)
    if query.end + len(body) + len(option) > limit:
        flags, body, count = flags | 0x0200, b"", 0
    head = packet[:2] + flags.to_bytes(2, "big") + b"\0\1" + count.to_bytes(2, "big") + b"\0\0"
    return head + (b"\0\1" if option else b"\0\0") + packet[12 : query.end] + body + option


def answers(packet: bytes, query: Query, response: bytes) -> bool:
    """Whether a response is to this query: its number, its question, and that it is a response at all."""
    if len(response) < 12 or response[:2] != packet[:2] or not response[2] & 0x80:
        return False
    if response[4:6] == b"\0\0":  # some servers refuse without repeating the question
        return response_code(response) != NOERROR
    return response[12 : query.end].lower() == packet[12 : query.end].lower()


def response_code(response: bytes) -> int:
    return response[3] & 15


def encode_name(name: bytes) -> bytes:
    """Labels with their lengths. Raises Malformed for a name that has no such form."""
    labels = name.split(b".")
    if any(not 0 < len(label) < 64 for label in labels) or len(name) > LONGEST_NAME - 2:
        raise Malformed
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


def reverse_address(name: bytes) -> str:
    """The address that a name under in-addr.arpa or ip6.arpa stands for; empty if it stands for none."""
    labels = name.split(b".")[::-1]
    if labels[:2] == [b"arpa", b"in-addr"] and len(labels) == 6:
        numbers = [label.decode() for label in labels[2:]]
        return ".".join(numbers) if all(_is_octet(number) for number in numbers) else ""
    if labels[:2] == [b"arpa", b"ip6"] and len(labels) == 34:
        digits = b"".join(labels[2:]).decode()
        if len(digits) == 32 and all(digit in "0123456789abcdef" for digit in digits):
            return ":".join(digits[start : start + 4] for start in range(0, 32, 4))
    return ""


def _is_octet(text: str) -> bool:
    return text.isdecimal() and text == str(int(text)) and int(text) < 256
