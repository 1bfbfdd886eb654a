"""What rules are made of: nf_tables' expressions as bytes (linux/netfilter/nf_tables.h).

Each goes on to the next one or ends its rule. Registers are the 32-bit ones, counted from 0: a value of n bytes takes n/4 of them.
"""

from __future__ import annotations

import struct

from .netlink import attribute, big, nested, text

IN_NAME, OUT_NAME, PROTOCOL = 6, 7, 16  # keys of meta
NETWORK, TRANSPORT = 1, 2  # bases of payload
STATE, STATUS = 0, 2  # keys of connection
ESTABLISHED, RELATED, NEW = 2, 4, 8  # a connection's state
TRANSLATED = 32  # in its status: IPS_DST_NAT

ITEM = 1  # NFTA_LIST_ELEM
VALUE, VERDICT = 1, 2  # NFTA_DATA_*


def meta(key: int, *, register: int = 0) -> bytes:
    return _expression("meta", big(1, 8 + register), big(2, key))


def payload(base: int, offset: int, length: int, *, register: int = 0) -> bytes:
    return _expression("payload", big(1, 8 + register), big(2, base), big(3, offset), big(4, length))


def store_port(offset: int, port: int, *, checksum: int) -> tuple[bytes, bytes]:
    """Overwrite a port in the transport header; `checksum` is where that header's checksum is."""
    value = _expression("immediate", big(1, 8), nested(2, attribute(VALUE, struct.pack(">H", port))))
    where = (big(5, 8), big(2, TRANSPORT), big(3, offset), big(4, 2))
    return value, _expression("payload", *where, big(6, 1), big(7, checksum))


def equals(value: bytes, *, register: int = 0, inverted: bool = False) -> bytes:
    return _expression("cmp", big(1, 8 + register), big(2, int(inverted)), nested(3, attribute(VALUE, value)))


def in_set(name: str, *, inverted: bool = False) -> bytes:
    return _expression("lookup", text(1, name), big(2, 8), *([big(5, 1)] if inverted else []))


def from_map(name: str) -> bytes:
    """Replace the key in the first registers by its value in the map; no value ends the rule."""
    return _expression("lookup", text(1, name), big(2, 8), big(3, 8))


def verdict_from_map(name: str) -> bytes:
    return _expression("lookup", text(1, name), big(2, 8), big(3, 0))


def any_bit(mask: int) -> tuple[bytes, bytes]:
    """Go on if any of the bits, in the host's byte order, is set in the first register."""
    return masked(struct.pack("=I", mask)), equals(bytes(4), inverted=True)


def masked(mask: bytes) -> bytes:
    """Keep only these bits of the first registers."""
    zero = bytes(len(mask))
    values = (nested(4, attribute(VALUE, mask)), nested(5, attribute(VALUE, zero)))
    return _expression("bitwise", big(1, 8), big(2, 8), big(3, len(mask)), *values)


def connection(key: int) -> bytes:
    return _expression("ct", big(1, 8), big(2, key))


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
    return _expression("immediate", big(1, 0), nested(2, encoded_verdict(code, chain)))


def encoded_verdict(code: int, chain: str) -> bytes:
    target = (text(2, chain),) if chain else ()
    return nested(VERDICT, attribute(1, struct.pack(">i", code)), *target)


def _expression(name: str, *data: bytes) -> bytes:
    return nested(ITEM, text(1, name), nested(2, *data))
