"""The device controller of cgroup v2: an eBPF program, assembled here, attached to the cgroup (BPF_CGROUP_DEVICE)."""

from __future__ import annotations

import errno
import os
import struct

from bayplan.kernel import linux
from bayplan.model.runtime import DeviceRule

_DEVICE_PROGRAM, _DEVICE_ATTACH, _ALLOW_MULTI = 15, 6, 2
_ATTACH, _DETACH, _GET_FD_BY_ID, _QUERY = 8, 9, 13, 16
_BLOCK, _CHARACTER = 1, 2
_ACCESS = {"m": 1, "r": 2, "w": 4}
# struct bpf_cgroup_dev_ctx: access_type (access << 16 | type), major, minor
_R0, _R1, _TYPE, _WANTED, _MAJOR, _MINOR, _SCRATCH = 0, 1, 2, 3, 4, 5, 6
_LOAD, _MOVE, _MOVE_REGISTER, _AND, _SHIFT_RIGHT, _JUMP_NOT_EQUAL, _JUMP_EQUAL, _EXIT = (
    0x61,
    0xB4,
    0xBC,
    0x54,
    0x74,
    0x55,
    0x15,
    0x95,
)


def assemble(rules: tuple[DeviceRule, ...]) -> bytes:
    """The program for `rules`: the last that matches an access wins, none refuses.

    A rule that allows matches if it covers all of what is wanted, one that denies if it covers any of it.
    """
    code = [
        _instruction(_LOAD, _TYPE, _R1, 0),
        _instruction(_MOVE_REGISTER, _WANTED, _TYPE, 0),
        _instruction(_AND, _TYPE, 0, 0, 0xFFFF),
        _instruction(_SHIFT_RIGHT, _WANTED, 0, 0, 16),
        _instruction(_LOAD, _MAJOR, _R1, 4),
        _instruction(_LOAD, _MINOR, _R1, 8),
    ]
    for rule in reversed(rules):
        instructions = _rule(rule)
        code += instructions
        if len(instructions) == 2:  # it matches everything, and the kernel refuses a program with unreachable code
            return b"".join(code)
    return b"".join([*code, _instruction(_MOVE, _R0, 0, 0, 0), _instruction(_EXIT, 0, 0, 0)])


def _rule(rule: DeviceRule) -> list[bytes]:
    tests: list[tuple[int, int, int]] = []
    if rule.type != "a":
        tests.append((_JUMP_NOT_EQUAL, _TYPE, _BLOCK if rule.type == "b" else _CHARACTER))
    tests += [(_JUMP_NOT_EQUAL, r, n) for r, n in ((_MAJOR, rule.major), (_MINOR, rule.minor)) if n is not None and n >= 0]
    access = sum(_ACCESS[letter] for letter in set(rule.access))
    masks = [] if access == 7 else [(~access & 7) if rule.allow else access]
    left = len(tests) + 3 * len(masks) + 2
    code = []
    for opcode, register, number in tests:
        left -= 1
        code.append(_instruction(opcode, register, 0, left, number))
    for mask in masks:
        opcode = _JUMP_NOT_EQUAL if rule.allow else _JUMP_EQUAL
        code += [_instruction(_MOVE_REGISTER, _SCRATCH, _WANTED, 0), _instruction(_AND, _SCRATCH, 0, 0, mask)]
        code.append(_instruction(opcode, _SCRATCH, 0, 2, 0))
    return [*code, _instruction(_MOVE, _R0, 0, 0, int(rule.allow)), _instruction(_EXIT, 0, 0, 0)]


def _instruction(opcode: int, target: int, source: int, offset: int, immediate: int = 0) -> bytes:
    return struct.pack("=BBhi", opcode, source << 4 | target, offset, immediate)


def attach(directory: str, rules: tuple[DeviceRule, ...]) -> None:
    """Put the filter for `rules` on the cgroup, then take off those that were there. OSError if the kernel has no such."""
    cgroup = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        before = _attached(cgroup)
        program = linux.bpf_load(_DEVICE_PROGRAM, assemble(rules))
        try:
            linux.bpf(_ATTACH, struct.pack("=IIII", cgroup, program, _DEVICE_ATTACH, _ALLOW_MULTI))
        finally:
            os.close(program)
        for identity in before:
            old = linux.bpf(_GET_FD_BY_ID, struct.pack("=III", identity, 0, 0))
            linux.bpf(_DETACH, struct.pack("=IIII", cgroup, old, _DEVICE_ATTACH, 0))
            os.close(old)
    finally:
        os.close(cgroup)


def _attached(cgroup: int) -> tuple[int, ...]:
    try:
        return linux.bpf_query(cgroup, _DEVICE_ATTACH, 64)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EPERM):
            return ()
        raise
