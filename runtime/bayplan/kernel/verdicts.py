"""What a foreign chain does with a packet of ours: its rules read one by one, without sending anything.

Only what is known of the packet is weighed: it opens a connection, and one of the links that it comes from and leaves by is a bridge of
ours. A rule that asks for anything else (an address, a port) is for some packets only, and is passed over: neither its accept nor its
drop is taken for an answer to all.
"""

from __future__ import annotations

import struct

from bayplan.model.value import TYPE_CHECKING, NamedTuple

from . import expressions as expr
from . import nftables as nft
from .netlink import attributes, read_text
from .nftables import Chain, Element, Found

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_DEPTH = 16  # the kernel's own limit of nested jumps
_HARMLESS = ("counter", "log", "notrack", "objref")
_XTABLES_HARMLESS = ("comment", "LOG", "NFLOG", "ULOG")
_XTABLES_REJECT = ("REJECT", "DROP")


class Packet(NamedTuple):
    """entering and leaving are links' names, "" for one that is not known; translated is: to a published port."""

    entering: str
    leaving: str
    translated: bool = False


class Table(NamedTuple):
    """A foreign table: its chains and rules by the chain's name; elements reads a set of it, None if that cannot be read."""

    chains: Mapping[str, Chain]
    rules: Mapping[str, Sequence[Found]]
    elements: Callable[[str], Sequence[Element] | None]


class Dropped(NamedTuple):
    """chain is where the packet ends; by is "its policy" or "a rule"."""

    chain: str
    by: str


def judge(table: Table, base: str, packet: Packet) -> Dropped | None:
    """Return where the base chain drops or rejects the packet, None if it lets it pass as far as we can tell."""
    ended, dropped = _walk(table, base, packet, depth=0)
    if not ended and table.chains[base].policy == nft.DROP:
        return Dropped(base, "its policy")
    return dropped


def _walk(table: Table, chain: str, packet: Packet, *, depth: int) -> tuple[bool, Dropped | None]:
    """Return whether the chain decides, and where the packet is dropped if that is the decision."""
    for rule in table.rules.get(chain, ()):
        code, target = _verdict_of(table, rule, packet)
        if code == nft.ACCEPT:
            return True, None
        if code == nft.DROP:
            return True, Dropped(chain, "a rule")
        if code == nft.RETURN:
            return False, None
        if code in (nft.JUMP, nft.GOTO) and depth < _DEPTH:
            ended, dropped = _walk(table, target, packet, depth=depth + 1)
            if ended or code == nft.GOTO:
                return ended, dropped
    return False, None


def _verdict_of(table: Table, rule: Found, packet: Packet) -> tuple[int | None, str]:
    """Return the verdict (code, chain) if the rule is surely about this packet, (None, "") else."""
    registers: dict[int, bytes | None] = {}
    for name, fields in rule.expressions:
        if name in _HARMLESS:
            continue
        if name == "reject":
            return nft.DROP, ""
        if name in ("match", "target"):
            if read_text(fields.get(1, b"")) in _XTABLES_HARMLESS:
                continue
            return (nft.DROP if name == "target" and read_text(fields.get(1, b"")) in _XTABLES_REJECT else None), ""
        if name == "immediate" and _number(fields, 1) == 0:
            return nft.read_verdict(dict(attributes(fields.get(2, b""))))
        if name == "lookup" and 3 in fields and _number(fields, 3) == 0:
            return _mapped(table, fields, registers)
        if not _applies(table, name, fields, registers, packet):
            return None, ""
    return None, ""


def _applies(table: Table, name: str, fields: dict[int, bytes], registers: dict[int, bytes | None], packet: Packet) -> bool:
    """Go through one expression; False if it does not hold or if that is not known."""
    if name in ("meta", "ct") and 1 in fields:
        registers[_register(fields, 1)] = _loaded(name, _number(fields, 2), packet)
        return True
    if name == "bitwise":
        registers[_register(fields, 2)] = _masked(registers.get(_register(fields, 1)), fields)
        return True
    if name == "cmp":
        return _compared(registers.get(_register(fields, 1)), fields)
    if name == "lookup" and 3 not in fields:
        return _contained(table, fields, registers)
    return False


def _loaded(name: str, key: int, packet: Packet) -> bytes | None:
    if name == "meta":
        link = {expr.IN_NAME: packet.entering, expr.OUT_NAME: packet.leaving}.get(key, "")
        return link.encode().ljust(16, b"\0") if link else None
    if key == expr.STATE:
        return struct.pack("=I", expr.NEW)
    return struct.pack("=I", expr.TRANSLATED if packet.translated else 0) if key == expr.STATUS else None


def _masked(value: bytes | None, fields: dict[int, bytes]) -> bytes | None:
    mask = dict(attributes(fields.get(4, b""))).get(1, b"")
    flip = dict(attributes(fields.get(5, b""))).get(1, b"")
    if value is None or not len(mask) == len(flip) <= len(value):
        return None
    return bytes((byte & keep) ^ other for byte, keep, other in zip(value, mask, flip))


def _compared(value: bytes | None, fields: dict[int, bytes]) -> bool:
    """Compare as many bytes as the rule has: fewer than a whole name are a prefix ("bp1a2b3c*")."""
    wanted = dict(attributes(fields.get(3, b""))).get(1, b"")
    operation = _number(fields, 2)
    if value is None or operation > 1 or len(wanted) > len(value):
        return False
    return (value[: len(wanted)] == wanted) == (operation == 0)


def _contained(table: Table, fields: dict[int, bytes], registers: dict[int, bytes | None]) -> bool:
    found = _found(table, fields, registers)
    return False if found is None else bool(found) != bool(_number(fields, 5) & 1)


def _mapped(table: Table, fields: dict[int, bytes], registers: dict[int, bytes | None]) -> tuple[int | None, str]:
    found = _found(table, fields, registers)
    return (found[0].code, found[0].jump) if found else (None, "")


def _found(table: Table, fields: dict[int, bytes], registers: dict[int, bytes | None]) -> list[Element] | None:
    """Return the elements that the value matches; None if the value or the set is not known."""
    value = registers.get(_register(fields, 2))
    elements = table.elements(read_text(fields.get(1, b"")))
    if value is None or elements is None or any(each.end for each in elements):
        return None
    return [each for each in elements if each.key == value[: len(each.key)]]


def _register(fields: dict[int, bytes], key: int) -> int:
    """Return the register's number among the 32-bit ones: 1 to 4 are the old names of every fourth."""
    number = _number(fields, key)
    return number - 8 if number >= 8 else 4 * (number - 1)


def _number(fields: dict[int, bytes], key: int) -> int:
    return int(struct.unpack(">I", fields[key])[0]) if len(fields.get(key, b"")) == 4 else 0
