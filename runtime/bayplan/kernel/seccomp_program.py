"""Classic BPF programs for seccomp(2): from what comes to each number of a system call to the instructions. Pure.

A program is a search tree over the numbers, one for each architecture (the kernel's AUDIT_ARCH): some nine comparisons for any
call, where a list would need hundreds. What comes to a number is a list of rules, of which the first whose conditions hold decides.
"""

from __future__ import annotations

import struct

from bayplan.errors import Invalid
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LOW, ALL = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF
_LOAD, _JUMP, _EQUAL, _GREATER, _AT_LEAST, _AND, _RETURN = 0x20, 0x05, 0x15, 0x25, 0x35, 0x54, 0x06
_MOST = 4096  # BPF_MAXINSNS
_FARTHEST = 255  # of a conditional jump

# (argument, operator, value, mask): `mask` has the bits that are compared, for the operators of order LOW or ALL
Condition = tuple[int, str, int, int]


class Rule(NamedTuple):
    """What the filter returns where all conditions hold."""

    action: int
    conditions: tuple[Condition, ...] = ()


Rules = tuple[Rule, ...]
Leaf = tuple[int, Rules]  # from this number on
Instruction = tuple[int, int, int, int]


def assemble(architectures: Sequence[tuple[int, Sequence[Leaf]]], *, otherwise: int) -> bytes:
    """The program for (AUDIT_ARCH, leaves in the order of their numbers, from 0 on); `otherwise` is for calls of any other architecture.

    Every leaf's last rule has no conditions. Invalid if the kernel would not take so many instructions.
    """
    program: list[Instruction] = [(_LOAD, 0, 0, 4)]
    for audit, leaves in architectures:
        body = [(_LOAD, 0, 0, 0), *_search(leaves)]
        program += [(_EQUAL, 1, 0, audit), (_JUMP, 0, 0, len(body)), *body]
    program.append((_RETURN, 0, 0, otherwise))
    if len(program) > _MOST:
        raise Invalid(
            f"compiling linux.seccomp: its rules make {len(program)} instructions, and the kernel takes {_MOST}; give it fewer "
            "conditions or architectures"
        )
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def spread(rules: Mapping[int, Rules], ground: Sequence[Leaf]) -> list[Leaf]:
    """`ground` from its numbers on, except where `rules` has a number; neighbours with the same rules are one leaf."""
    points = sorted({first for first, _ in ground} | set(rules) | {number + 1 for number in rules if number < LOW})
    leaves: list[Leaf] = []
    at = 0
    for point in points:
        while at + 1 < len(ground) and ground[at + 1][0] <= point:
            at += 1
        wanted = rules.get(point, ground[at][1])
        if not leaves or leaves[-1][1] != wanted:
            leaves.append((point, wanted))
    return leaves


def _search(leaves: Sequence[Leaf]) -> list[Instruction]:
    """The tree, and behind it once each what has conditions: profiles give many calls the same ones."""
    conditional: dict[Rules, int] = {rules: 0 for _, rules in leaves if rules[0].conditions}
    code = _tree(leaves, list(conditional))
    for rules in conditional:
        conditional[rules] = len(code)
        for rule in rules:
            code += _rule(rule)
    starts = list(conditional.values())
    for at, (opcode, _, _, k) in enumerate(code):
        if opcode == _JUMP and k < 0:
            code[at] = (_JUMP, 0, 0, starts[~k] - at - 1)
    return code


def _tree(leaves: Sequence[Leaf], conditional: list[Rules]) -> list[Instruction]:
    """A leaf with conditions is a jump to the complement of its place in `conditional`, for `_search` to resolve."""
    if len(leaves) == 1:
        rules = leaves[0][1]
        return [(_JUMP, 0, 0, ~conditional.index(rules))] if rules[0].conditions else [(_RETURN, 0, 0, rules[0].action)]
    middle = len(leaves) // 2
    left, right = _tree(leaves[:middle], conditional), _tree(leaves[middle:], conditional)
    if len(left) <= _FARTHEST:
        return [(_AT_LEAST, len(left), 0, leaves[middle][0]), *left, *right]
    return [(_AT_LEAST, 0, 1, leaves[middle][0]), (_JUMP, 0, 0, len(left)), *left, *right]


def _rule(rule: Rule) -> list[Instruction]:
    """The rule's code: falls out at its end where a condition does not hold."""
    tail: list[Instruction] = [(_RETURN, 0, 0, rule.action)]
    for condition in reversed(rule.conditions):
        tail = [*_test(condition, len(tail)), *tail]
    return tail


def _test(condition: Condition, miss: int) -> list[Instruction]:
    """Falls through where the condition holds, else jumps over `miss` instructions more. 64 bits are compared in two halves."""
    index, operator, value, mask = condition
    low, high = 16 + 8 * index, 20 + 8 * index  # struct seccomp_data, little-endian
    wide = mask > LOW
    if operator == "eq":
        code = _matches(low, value & LOW, mask & LOW, miss)
        return [*_matches(high, value >> 32, mask >> 32, miss + len(code)), *code]
    if operator == "ne":
        code = [(_LOAD, 0, 0, low), (_EQUAL, miss, 0, value & LOW)]
        return [(_LOAD, 0, 0, high), (_EQUAL, 0, 2, value >> 32), *code] if wide else code
    jump = _GREATER if operator in ("gt", "le") else _AT_LEAST
    if operator in ("gt", "ge"):
        code = [(_LOAD, 0, 0, low), (jump, 0, miss, value & LOW)]
        above = [(_LOAD, 0, 0, high), (_GREATER, 3, 0, value >> 32), (_EQUAL, 0, miss + 2, value >> 32)]
    else:
        code = [(_LOAD, 0, 0, low), (jump, miss, 0, value & LOW)]
        above = [(_LOAD, 0, 0, high), (_GREATER, miss + 3, 0, value >> 32), (_EQUAL, 0, 2, value >> 32)]
    return [*above, *code] if wide else code


def _matches(offset: int, value: int, mask: int, miss: int) -> list[Instruction]:
    if not mask:
        return []
    keep = [(_AND, 0, 0, mask)] if mask != LOW else []
    return [(_LOAD, 0, 0, offset), *keep, (_EQUAL, 0, miss, value & mask)]
