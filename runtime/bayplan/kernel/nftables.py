"""nf_tables as bytes: tables, chains, rules, sets and the expressions that rules are made of (linux/netfilter/nf_tables.h).

Encoders return a Message for netlink.Channel.transact; decoders take what netlink.Channel.dump returned. `family` is IPV4 or IPV6 (or,
in what others made, INET or BRIDGE). Registers are the 32-bit ones, counted from 0: a value of n bytes takes n/4 of them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from bayplan.model.value import NamedTuple

from .netlink import ACK, APPEND, CREATE, EXCLUSIVE, Message, attribute, attributes, big, nested, read_text, text

INET, IPV4, BRIDGE, IPV6 = 1, 2, 7, 10
PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING = range(5)
DROP, ACCEPT, JUMP, GOTO, RETURN = 0, 1, -3, -4, -5
TCP, UDP, ICMPV6, SCTP = 6, 17, 58, 132

# What `nft list` shows a key as; a concatenation's parts are six bits each.
TYPE_IPV4, TYPE_IPV6, TYPE_PROTOCOL, TYPE_PORT, TYPE_NAME, TYPE_VERDICT = 7, 8, 12, 13, 41, 0xFFFFFF00

_SUBSYSTEM = 10 << 8
(_NEWTABLE, GETTABLE, _DELTABLE, _NEWCHAIN, GETCHAIN, _DELCHAIN, _NEWRULE, GETRULE, _DELRULE, _NEWSET, _GETSET, _DELSET) = (
    _SUBSYSTEM + each for each in range(12)
)
_NEWELEMENT, GETELEMENT, _DELELEMENT = (_SUBSYSTEM + each for each in (12, 13, 14))

_ITEM = 1  # NFTA_LIST_ELEM
_VALUE, _VERDICT = 1, 2  # NFTA_DATA_*
_SET_INTERVAL, _SET_MAP = 4, 8
_INTERVAL_END = 1
_COMMENT = 0  # the type in a rule's user data that nft shows as its comment
_ELEMENTS_IN_A_MESSAGE = 400  # a nested attribute holds 64 KiB


class Set(NamedTuple):
    """A set, or with `data_length` a map. Lengths in bytes; `interval` holds ranges as pairs of start and excluded end."""

    name: str
    key_type: int
    key_length: int
    data_type: int = 0
    data_length: int = 0
    interval: bool = False


class Chain(NamedTuple):
    """kind "" is a chain that is only jumped to. policy None: not said (it accepts, if it is a base chain)."""

    name: str
    kind: str = ""
    hook: int = 0
    priority: int = 0
    policy: int | None = None


class Rule(NamedTuple):
    """expressions are encoded, each by one of the functions below."""

    chain: str
    comment: str
    expressions: tuple[bytes, ...]


class Element(NamedTuple):
    """In a map whose values are verdicts, `jump` is the chain that is jumped to; one that was read has the verdict's code as well."""

    key: bytes
    data: bytes = b""
    jump: str = ""
    end: bool = False
    code: int | None = None


class Found(NamedTuple):
    """A rule as the kernel lists it; expressions are (name, attributes)."""

    family: int
    table: str
    chain: str
    handle: int
    comment: str
    expressions: tuple[tuple[str, dict[int, bytes]], ...]


# Tables, chains, rules


def new_table(family: int, table: str, *, exclusive: bool = False) -> Message:
    """With `exclusive`, a table that is there already refuses the transaction with EEXIST."""
    return _message(_NEWTABLE, family, text(1, table), flags=CREATE | EXCLUSIVE if exclusive else CREATE)


def delete_table(family: int, table: str) -> Message:
    return _message(_DELTABLE, family, text(1, table))


def new_chain(family: int, table: str, chain: Chain) -> Message:
    body = text(1, table) + text(3, chain.name)
    if chain.kind:
        hook = nested(4, big(1, chain.hook), attribute(2, struct.pack(">i", chain.priority)))
        body += hook + big(5, ACCEPT) + text(7, chain.kind)
    return _message(_NEWCHAIN, family, body, flags=CREATE)


def delete_chain(family: int, table: str, name: str) -> Message:
    return _message(_DELCHAIN, family, text(1, table) + text(3, name))


def new_rule(family: int, table: str, rule: Rule, *, first: bool = False) -> Message:
    """The rule is put at its chain's end, with `first` at its beginning."""
    body = text(1, table) + text(2, rule.chain) + nested(4, *rule.expressions)
    if rule.comment:
        comment = rule.comment.encode()[:127] + b"\0"
        body += attribute(7, bytes((_COMMENT, len(comment))) + comment)
    return _message(_NEWRULE, family, body, flags=CREATE if first else CREATE | APPEND)


def delete_rules(family: int, table: str, chain: str, *, handle: int = 0) -> Message:
    """Delete the rule of that handle, or all of the chain."""
    which = attribute(3, struct.pack(">Q", handle)) if handle else b""
    return _message(_DELRULE, family, text(1, table) + text(2, chain) + which)


# Sets and maps


def new_set(family: int, table: str, wanted: Set, *, number: int) -> Message:
    """`number` tells the sets of one batch apart."""
    flags = (_SET_INTERVAL if wanted.interval else 0) | (_SET_MAP if wanted.data_length else 0)
    body = text(1, table) + text(2, wanted.name) + big(3, flags) + big(4, wanted.key_type) + big(5, wanted.key_length)
    if wanted.data_length:
        body += big(6, wanted.data_type)
        if wanted.data_type != TYPE_VERDICT:
            body += big(7, wanted.data_length)
    if wanted.key_type == TYPE_NAME:
        body += attribute(13, b"\0\4" + struct.pack("=I", 1))  # user data for nft: the key is in the host's byte order
    return _message(_NEWSET, family, body + big(10, number), flags=CREATE)


def new_elements(family: int, table: str, name: str, elements: Iterable[Element]) -> Iterator[Message]:
    return _elements(_NEWELEMENT, family, table, name, elements, flags=CREATE)


def delete_elements(family: int, table: str, name: str, elements: Iterable[Element]) -> Iterator[Message]:
    return _elements(_DELELEMENT, family, table, name, elements, flags=0)


def _elements(kind: int, family: int, table: str, name: str, elements: Iterable[Element], *, flags: int) -> Iterator[Message]:
    encoded = [nested(_ITEM, *_element(element)) for element in elements]
    for start in range(0, len(encoded), _ELEMENTS_IN_A_MESSAGE):
        items = nested(3, *encoded[start : start + _ELEMENTS_IN_A_MESSAGE])
        yield _message(kind, family, text(1, table) + text(2, name) + items, flags=flags)


def _element(element: Element) -> Iterator[bytes]:
    yield nested(1, attribute(_VALUE, element.key))
    if element.jump:
        yield nested(2, _verdict(JUMP, element.jump))
    elif element.data:
        yield nested(2, attribute(_VALUE, element.data))
    if element.end:
        yield big(3, _INTERVAL_END)


# Expressions


def meta(key: int, *, register: int = 0) -> bytes:
    return _expression("meta", big(1, 8 + register), big(2, key))


IN_NAME, OUT_NAME, PROTOCOL = 6, 7, 16  # keys of meta
NETWORK, TRANSPORT = 1, 2  # bases of payload


def payload(base: int, offset: int, length: int, *, register: int = 0) -> bytes:
    return _expression("payload", big(1, 8 + register), big(2, base), big(3, offset), big(4, length))


def store_port(offset: int, port: int, *, checksum: int) -> tuple[bytes, bytes]:
    """Overwrite a port in the transport header; `checksum` is where that header's checksum is."""
    value = _expression("immediate", big(1, 8), nested(2, attribute(_VALUE, struct.pack(">H", port))))
    where = (big(5, 8), big(2, TRANSPORT), big(3, offset), big(4, 2))
    return value, _expression("payload", *where, big(6, 1), big(7, checksum))


def equals(value: bytes, *, register: int = 0, inverted: bool = False) -> bytes:
    return _expression("cmp", big(1, 8 + register), big(2, int(inverted)), nested(3, attribute(_VALUE, value)))


def in_set(name: str, *, inverted: bool = False) -> bytes:
    return _expression("lookup", text(1, name), big(2, 8), *([big(5, 1)] if inverted else []))


def from_map(name: str) -> bytes:
    """Replace the key in the first registers by its value in the map; no value ends the rule."""
    return _expression("lookup", text(1, name), big(2, 8), big(3, 8))


def verdict_from_map(name: str) -> bytes:
    return _expression("lookup", text(1, name), big(2, 8), big(3, 0))


def any_bit(mask: int) -> tuple[bytes, bytes]:
    """Go on if any of the bits, in the host's byte order, is set in the first register."""
    zero, bits = struct.pack("=I", 0), struct.pack("=I", mask)
    masked = (nested(4, attribute(_VALUE, bits)), nested(5, attribute(_VALUE, zero)))
    differs = _expression("cmp", big(1, 8), big(2, 1), nested(3, attribute(_VALUE, zero)))
    return _expression("bitwise", big(1, 8), big(2, 8), big(3, 4), *masked), differs


def masked(mask: bytes) -> bytes:
    zero = bytes(len(mask))
    values = (nested(4, attribute(_VALUE, mask)), nested(5, attribute(_VALUE, zero)))
    return _expression("bitwise", big(1, 8), big(2, 8), big(3, len(mask)), *values)


def connection(key: int) -> bytes:
    return _expression("ct", big(1, 8), big(2, key))


STATE, STATUS = 0, 2  # keys of connection
ESTABLISHED, RELATED, NEW = 2, 4, 8
TRANSLATED = 32  # IPS_DST_NAT


def to_this_host() -> tuple[bytes, bytes]:
    """Go on if the destination is an address of this host."""
    return _expression("fib", big(1, 8), big(2, 3), big(3, 2)), equals(struct.pack("=I", 2))


def destination_nat(family: int, *, port_register: int) -> bytes:
    """Send the packet to the address in the first registers, port in `port_register`."""
    return _expression("nat", big(1, 1), big(2, family), big(3, 8), big(5, 8 + port_register))


def masquerade() -> bytes:
    return _expression("masq")


def counter() -> bytes:
    return _expression("counter", attribute(1, bytes(8)), attribute(2, bytes(8)))


def verdict(code: int, *, chain: str = "") -> bytes:
    return _expression("immediate", big(1, 0), nested(2, _verdict(code, chain)))


def _verdict(code: int, chain: str) -> bytes:
    target = (text(2, chain),) if chain else ()
    return nested(_VERDICT, attribute(1, struct.pack(">i", code)), *target)


def _expression(name: str, *data: bytes) -> bytes:
    return nested(_ITEM, text(1, name), nested(2, *data))


def _message(kind: int, family: int, body: bytes, *, flags: int = 0) -> Message:
    return Message(kind, flags & ~ACK, struct.pack(">BBH", family, 0, 0) + body)


# Reading


def ask(kind: int, family: int, *, table: str = "", name: str = "") -> Message:
    """A request for Channel.dump: GETTABLE, GETCHAIN, GETRULE, or GETELEMENT of the set `name`."""
    which = (text(1, table) if table else b"") + (text(2, name) if name else b"")
    return _message(kind, family, which)


def read_table(message: Message) -> str:
    return read_text(_fields(message).get(1, b""))


def read_chain(message: Message) -> tuple[int, str, Chain]:
    """Return (family, table, chain)."""
    found = _fields(message)
    hook = dict(attributes(found.get(4, b"")))
    number = struct.unpack(">I", hook[1])[0] if 1 in hook else 0
    priority = struct.unpack(">i", hook[2])[0] if 2 in hook else 0
    policy = struct.unpack(">I", found[5])[0] if 5 in found else None
    chain = Chain(read_text(found.get(3, b"")), read_text(found.get(7, b"")), number, priority, policy)
    return message.body[0], read_text(found.get(1, b"")), chain


def read_rule(message: Message) -> Found:
    found = _fields(message)
    expressions = []
    for _, item in attributes(found.get(4, b"")):
        parts = dict(attributes(item))
        expressions.append((read_text(parts.get(1, b"")), dict(attributes(parts.get(2, b"")))))
    handle = struct.unpack(">Q", found[3])[0] if 3 in found else 0
    names = read_text(found.get(1, b"")), read_text(found.get(2, b""))
    return Found(message.body[0], *names, handle, _read_comment(found.get(7, b"")), tuple(expressions))


def _read_comment(data: bytes) -> str:
    while len(data) >= 2:
        kind, length = data[0], data[1]
        if kind == _COMMENT:
            return read_text(data[2 : 2 + length])
        data = data[2 + length :]
    return ""


def read_elements(messages: Iterable[Message]) -> Iterator[Element]:
    for message in messages:
        for _, item in attributes(_fields(message).get(3, b"")):
            parts = dict(attributes(item))
            data = dict(attributes(parts.get(2, b"")))
            end = bool(struct.unpack(">I", parts[3])[0] & _INTERVAL_END) if 3 in parts else False
            key = dict(attributes(parts.get(1, b""))).get(_VALUE, b"")
            code, jump = read_verdict(data)
            yield Element(key, data.get(_VALUE, b""), jump, end, code)


def read_verdict(data: dict[int, bytes]) -> tuple[int | None, str]:
    """Return (code, chain) of NFTA_DATA_* attributes, (None, "") if they hold no verdict."""
    parts = dict(attributes(data.get(_VERDICT, b"")))
    return (struct.unpack(">i", parts[1])[0] if 1 in parts else None), read_text(parts.get(2, b""))


def _fields(message: Message) -> dict[int, bytes]:
    return dict(attributes(message.body, 4))
