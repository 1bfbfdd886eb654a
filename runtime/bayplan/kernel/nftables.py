"""nf_tables as bytes: tables, chains, rules, sets and their elements (linux/netfilter/nf_tables.h).

Encoders return a Message for netlink.Channel.transact; decoders take what netlink.Channel.dump returned. `family` is IPV4 or IPV6 (or,
in what others made, INET or BRIDGE).
"""

from __future__ import annotations

import struct

from bayplan.model.value import TYPE_CHECKING, NamedTuple

from .expressions import ITEM, VALUE, VERDICT, encoded_verdict
from .netlink import ACK, APPEND, CREATE, EXCLUSIVE, Message, attribute, attributes, big, nested, read_text, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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
    """expressions are encoded, each by a function of expressions.py."""

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
    encoded = [nested(ITEM, *_element(element)) for element in elements]
    for start in range(0, len(encoded), _ELEMENTS_IN_A_MESSAGE):
        items = nested(3, *encoded[start : start + _ELEMENTS_IN_A_MESSAGE])
        yield _message(kind, family, text(1, table) + text(2, name) + items, flags=flags)


def _element(element: Element) -> Iterator[bytes]:
    yield nested(1, attribute(VALUE, element.key))
    if element.jump:
        yield nested(2, encoded_verdict(JUMP, element.jump))
    elif element.data:
        yield nested(2, attribute(VALUE, element.data))
    if element.end:
        yield big(3, _INTERVAL_END)


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
            key = dict(attributes(parts.get(1, b""))).get(VALUE, b"")
            code, jump = read_verdict(data)
            yield Element(key, data.get(VALUE, b""), jump, end, code)


def read_verdict(data: dict[int, bytes]) -> tuple[int | None, str]:
    """Return (code, chain) of NFTA_DATA_* attributes, (None, "") if they hold no verdict."""
    parts = dict(attributes(data.get(VERDICT, b"")))
    return (struct.unpack(">i", parts[1])[0] if 1 in parts else None), read_text(parts.get(2, b""))


def _fields(message: Message) -> dict[int, bytes]:
    return dict(attributes(message.body, 4))
