"""seccomp filters (seccomp(2)): from a profile to the bytes of a classic BPF program. Pure.

The program is a search tree over the numbers of the system calls, one tree for each architecture that the machine
executes: some nine comparisons for any call, where a list would need hundreds. A call that does not exist in the profile's
world yet answers ENOSYS, so that libraries fall back; a call that is refused answers EPERM.
"""

from __future__ import annotations

import struct

from bayplan.errors import Invalid
from bayplan.kernel.seccomp_table import ALLOWED, BY_CAPABILITY, NEWEST, NUMBERS
from bayplan.model.runtime import Seccomp
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

_ARCHITECTURES = {  # machine -> the names of its own and of its 32-bit entry
    "x86_64": ("x86_64", "i386"),
    "aarch64": ("aarch64", "arm"),
}
_AUDIT_ARCH = {"x86_64": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7, "arm": 0x40000028}
_SCMP_ARCH = {
    "x86_64": "SCMP_ARCH_X86_64",
    "i386": "SCMP_ARCH_X86",
    "aarch64": "SCMP_ARCH_AARCH64",
    "arm": "SCMP_ARCH_ARM",
}
_X32 = 0x40000000
_ARM_PRIVATE = 0x0F0000
_EPERM, _EINVAL, _ENOSYS = 1, 22, 38
_ALLOW, _ERRNO = 0x7FFF0000, 0x50000
_ACTIONS = {
    "SCMP_ACT_ALLOW": _ALLOW,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_ERRNO": _ERRNO,
    "SCMP_ACT_TRAP": 0x30000,
    "SCMP_ACT_KILL": 0,
    "SCMP_ACT_KILL_THREAD": 0,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
}
_LOAD, _JUMP, _EQUAL, _GREATER, _AT_LEAST, _AND, _RETURN = 0x20, 0x05, 0x15, 0x25, 0x35, 0x54, 0x06
_LOW = 0xFFFFFFFF
# clone(2)'s flags that make a namespace; clone3's are in memory, out of a filter's reach, so that call is ENOSYS
_NAMESPACES = 0x7E020000
_AF_ALG, _AF_VSOCK = 38, 40

# What comes to a call: conditions that must all hold, then what the filter returns. (argument, operator, value, mask)
Condition = tuple[int, str, int, int]


class Rule(NamedTuple):
    action: int
    conditions: tuple[Condition, ...] = ()


Rules = tuple[Rule, ...]
Instruction = tuple[int, int, int, int]


def filter_bytes(profile: Seccomp, capabilities: Iterable[str], *, machine: str) -> bytes:
    """The program for `profile` (our default one, or a custom one) and a process with `capabilities` (CAP_... names).

    `machine` is uname's: x86_64 or aarch64. Invalid for a custom profile with an action or operator that is not known.
    """
    if machine not in _ARCHITECTURES:
        raise Invalid(f"seccomp filters are not known for {machine}")
    granted = frozenset(capabilities)
    program: list[Instruction] = [(_LOAD, 0, 0, 4)]
    for architecture in _ARCHITECTURES[machine]:
        if profile.profile == "default":
            rules, default = _default_rules(architecture, granted), _ERRNO | _EPERM
        else:
            rules, default = _custom_rules(profile, architecture)
        body = _architecture(architecture, rules, default)
        program += [(_EQUAL, 1, 0, _AUDIT_ARCH[architecture]), (_JUMP, 0, 0, len(body)), *body]
    program.append((_RETURN, 0, 0, _ERRNO | _ENOSYS))
    if len(program) > 4096:
        raise Invalid(f"the seccomp profile makes {len(program)} instructions; the kernel takes 4096")
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def numbers(architecture: str) -> dict[str, int]:
    """The system calls of x86_64, i386, aarch64 or arm."""
    table, following = {}, 0
    for word in NUMBERS[architecture].split():
        if word[0] == "@":
            following = int(word[1:])
        else:
            table[word] = following
            following += 1
    return table


def _default_rules(architecture: str, granted: frozenset[str]) -> dict[int, Rules]:
    allowed = set(ALLOWED.split())
    for capability, names in BY_CAPABILITY.items():
        if capability in granted:
            allowed.update(names.split())
    table = numbers(architecture)
    rules: dict[int, Rules] = {table[name]: (Rule(_ALLOW),) for name in allowed if name in table}
    special = _special_rules("CAP_SYS_ADMIN" in granted)
    rules.update({table[name]: rule for name, rule in special.items() if name in table})
    return rules


def _special_rules(admin: bool) -> dict[str, Rules]:
    refuse = Rule(_ERRNO | _EPERM)
    families = tuple((0, "masked", family, _LOW) for family in (_AF_ALG, _AF_VSOCK))
    special: dict[str, Rules] = {
        "personality": tuple(Rule(_ALLOW, ((0, "masked", value, _LOW),)) for value in (0, 8, 0x20000, 0x20008, _LOW)),
        "socket": (*(Rule(_ERRNO | _EPERM, (family,)) for family in families), Rule(_ALLOW)),
        # i386: the family of socketcall(SYS_SOCKET) is in memory; libraries have had a call of its own since Linux 4.3
        "socketcall": (Rule(_ERRNO | _ENOSYS, ((0, "masked", 1, _LOW),)), Rule(_ALLOW)),
    }
    if not admin:
        special["clone"] = (Rule(_ALLOW, ((0, "masked", 0, _NAMESPACES),)), refuse)
        special["clone3"] = (Rule(_ERRNO | _ENOSYS),)
    return special


def _custom_rules(profile: Seccomp, architecture: str) -> tuple[dict[int, Rules], int]:
    default = _action(profile.default_action, profile.default_errno)
    if profile.architectures and _SCMP_ARCH[architecture] not in profile.architectures:
        return {}, default
    table = numbers(architecture)
    rules: dict[int, Rules] = {}
    for entry in profile.syscalls:
        rule = Rule(_action(entry.action, entry.errno), tuple(_condition(*arg) for arg in entry.args))
        for name in entry.names:
            if name in table:  # a profile lists the calls of every machine and every kernel
                rules[table[name]] = (*rules.get(table[name], ()), rule)
    return rules, default


def _action(name: str, errno: int | None) -> int:
    if name not in _ACTIONS:
        raise Invalid(f"seccomp action {name!r} is not known")
    return _ACTIONS[name] | (((_EPERM if errno is None else errno) & 0xFFF) if name == "SCMP_ACT_ERRNO" else 0)


def _condition(index: int, value: int, second: int, operator: str) -> Condition:
    name = operator.replace("SCMP_CMP_", "").lower()
    if name not in ("ne", "lt", "le", "eq", "ge", "gt", "masked_eq") or not 0 <= index < 6:
        raise Invalid(f"seccomp condition {operator!r} on argument {index} is not known")
    return (index, "masked", second, value) if name == "masked_eq" else (index, name, value, 0)


def _architecture(architecture: str, rules: dict[int, Rules], default: int) -> list[Instruction]:
    leaves = _leaves(rules, default, newest=max(NEWEST, *rules, 0) if architecture != "arm" else NEWEST)
    code: list[Instruction] = [(_LOAD, 0, 0, 0)]
    if architecture == "x86_64":  # x32's numbers: a second, rarely tested way to the same calls
        code += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _ERRNO | _ENOSYS)]
    return code + _tree(leaves, default)


def _leaves(rules: dict[int, Rules], default: int, *, newest: int) -> list[tuple[int, Rules]]:
    """Intervals as (first number, rules), in order, from 0; neighbours with the same rules are one."""
    refused: Rules = (Rule(default),)
    absent: Rules = (Rule(_ERRNO | _ENOSYS if default & 0xFFFF0000 == _ERRNO else default),)
    leaves: list[tuple[int, Rules]] = []

    def add(first: int, wanted: Rules) -> None:
        if not leaves or leaves[-1][1] != wanted:
            leaves.append((first, wanted))

    following = 0
    for number in sorted(rules):
        if number > following:
            add(following, refused if following <= newest else absent)
            if following <= newest < number - 1:
                add(newest + 1, absent)
        add(number, rules[number])
        following = number + 1
    if following <= newest:
        add(following, refused)
    add(max(following, newest + 1), absent)
    return leaves


def _tree(leaves: list[tuple[int, Rules]], default: int) -> list[Instruction]:
    if len(leaves) == 1:
        return _leaf(leaves[0][1], default)
    middle = len(leaves) // 2
    left, right = _tree(leaves[:middle], default), _tree(leaves[middle:], default)
    if len(left) < 256:
        return [(_AT_LEAST, len(left), 0, leaves[middle][0]), *left, *right]
    return [(_AT_LEAST, 0, 1, leaves[middle][0]), (_JUMP, 0, 0, len(left)), *left, *right]


def _leaf(rules: Rules, default: int) -> list[Instruction]:
    code: list[Instruction] = []
    for rule in rules:
        code += _rule(rule)
        if not rule.conditions:
            return code
    return [*code, (_RETURN, 0, 0, default)]


def _rule(rule: Rule) -> list[Instruction]:
    """The rule's code: falls out at its end where a condition does not hold."""
    tail: list[Instruction] = [(_RETURN, 0, 0, rule.action)]
    for condition in reversed(rule.conditions):
        tail = [*_test(condition, len(tail)), *tail]
    return tail


def _test(condition: Condition, miss: int) -> list[Instruction]:
    """Falls through where the condition holds, else jumps over `miss` instructions more. 64 bits, in two halves."""
    index, operator, value, mask = condition
    low, high = 16 + 8 * index, 20 + 8 * index  # struct seccomp_data, little-endian
    low_value, high_value = value & _LOW, value >> 32
    if operator == "masked":
        code: list[Instruction] = []
        if mask & _LOW:
            code = [(_LOAD, 0, 0, low), (_AND, 0, 0, mask & _LOW), (_EQUAL, 0, miss, low_value & mask)]
        if mask >> 32:
            top = [
                (_LOAD, 0, 0, high),
                (_AND, 0, 0, mask >> 32),
                (_EQUAL, 0, miss + len(code), high_value & (mask >> 32)),
            ]
            code = [*top, *code]
        return code
    if operator == "eq":
        return [
            (_LOAD, 0, 0, high),
            (_EQUAL, 0, miss + 2, high_value),
            (_LOAD, 0, 0, low),
            (_EQUAL, 0, miss, low_value),
        ]
    if operator == "ne":
        return [(_LOAD, 0, 0, high), (_EQUAL, 0, 2, high_value), (_LOAD, 0, 0, low), (_EQUAL, miss, 0, low_value)]
    jump = _GREATER if operator in ("gt", "le") else _AT_LEAST
    if operator in ("gt", "ge"):
        return [
            (_LOAD, 0, 0, high),
            (_GREATER, 3, 0, high_value),
            (_EQUAL, 0, miss + 2, high_value),
            (_LOAD, 0, 0, low),
            (jump, 0, miss, low_value),
        ]
    return [
        (_LOAD, 0, 0, high),
        (_GREATER, miss + 3, 0, high_value),
        (_EQUAL, 0, 2, high_value),
        (_LOAD, 0, 0, low),
        (jump, miss, 0, low_value),
    ]
