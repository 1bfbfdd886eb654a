from __future__ import annotations

import itertools
import struct

import pytest

from bayplan.errors import Invalid
from bayplan.kernel import device_filter, limits
from bayplan.kernel.linux import MS_NODEV, MS_PRIVATE, MS_RDONLY, MS_REC
from bayplan.kernel.mounts import parse_options
from bayplan.model.capabilities import DEFAULT, NAMES, STRICT, granted, mask
from bayplan.model.runtime import DeviceRule, Resources


def files(settings: list[limits.Setting]) -> dict[str, str]:
    return {setting.file: setting.value for setting in settings}


def test_limits_translate_for_both_versions() -> None:
    r = Resources(
        memory_limit=100 << 20,
        memory_reservation=50 << 20,
        memory_swap=150 << 20,
        cpu_shares=512,
        cpu_quota=50000,
        cpu_period=100000,
        cpuset_cpus="0-1",
        cpuset_mems="0",
        pids_limit=64,
    )
    one, two = files(limits.settings_v1(r)), files(limits.settings_v2(r))
    assert one["memory.limit_in_bytes"] == str(100 << 20) and one["memory.memsw.limit_in_bytes"] == str(150 << 20), (
        "v1 counts both"
    )
    assert two["memory.max"] == str(100 << 20) and two["memory.swap.max"] == str(50 << 20), "v2 counts swap alone"
    assert (one["cpu.cfs_quota_us"], two["cpu.max"]) == ("50000", "50000 100000"), "quota and period"
    assert two["cpuset.cpus"] == one["cpuset.cpus"] == "0-1", "processors"


def test_unlimited_is_said_in_each_versions_words() -> None:
    r = Resources(memory_swap=-1, pids_limit=-1, cpu_quota=-1)
    assert files(limits.settings_v2(r)) == {"memory.swap.max": "max", "pids.max": "max", "cpu.max": "max 100000"}, "v2"
    assert files(limits.settings_v1(r))["memory.memsw.limit_in_bytes"] == "-1", "v1"
    assert limits.settings_v1(Resources()) == [] == limits.settings_v2(Resources()), "nothing asked, nothing written"


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (1024, 100), (262144, 10000), (1, 1), (999999, 10000)])
def test_shares_keep_their_meaning_as_a_weight(shares: int, weight: int) -> None:
    assert limits.weight(shares) == weight, "least, default and most map to each other"


@pytest.mark.parametrize(
    "r", [Resources(memory_limit=1 << 20), Resources(64 << 20, None, 32 << 20), Resources(64 << 20, 128 << 20)]
)
def test_contradicting_limits_are_invalid(r: Resources) -> None:
    with pytest.raises(Invalid):
        limits.check(r)


def run_ebpf(program: bytes, access: int, kind: int, major: int, minor: int) -> int:
    registers = [0] * 11
    context = {0: access << 16 | kind, 4: major, 8: minor}
    at = 0
    while True:
        opcode, both, offset, immediate = struct.unpack_from("=BBhi", program, at * 8)
        target, source = both & 15, both >> 4
        at += 1
        if opcode == 0x61:
            registers[target] = context[offset]
        elif opcode == 0xB4:
            registers[target] = immediate
        elif opcode == 0xBC:
            registers[target] = registers[source]
        elif opcode == 0x54:
            registers[target] &= immediate
        elif opcode == 0x74:
            registers[target] >>= immediate
        elif opcode == 0x55:
            at += offset if registers[target] != immediate else 0
        elif opcode == 0x15:
            at += offset if registers[target] == immediate else 0
        else:
            return registers[0]


def test_the_device_program_lets_the_last_matching_rule_win() -> None:
    rules = (
        DeviceRule(False),
        DeviceRule(True, "c", None, None, "m"),
        DeviceRule(True, "c", 1, 3),
        DeviceRule(True, "b", 8, None, "r"),
        DeviceRule(True, "c", 10, None),
        DeviceRule(False, "c", 10, 5, "w"),
    )
    program = device_filter.assemble(rules)
    for kind, major, minor, access in itertools.product((1, 2), (1, 8, 10), (0, 3, 5), range(1, 8)):
        expected = 0
        for rule in rules:
            matches = rule.type in ("a", "bc"[kind - 1]) and rule.major in (None, major) and rule.minor in (None, minor)
            bits = sum({"m": 1, "r": 2, "w": 4}[letter] for letter in rule.access)
            if matches and ((access & ~bits) == 0 if rule.allow else access & bits):
                expected = int(rule.allow)
        assert run_ebpf(program, access, kind, major, minor) == expected, f"{kind} {major}:{minor} {access}"


def test_mount_options_are_sorted_by_what_they_are_for() -> None:
    options = parse_options(("rbind", "ro", "nodev", "rprivate", "size=64k", "mode=755", "dev", "rro"))
    assert options.flags & MS_RDONLY and not options.flags & MS_NODEV, "the later of two that clash wins"
    assert (options.propagation, options.data, options.recursive) == ((MS_PRIVATE | MS_REC,), "size=64k,mode=755", 1), (
        "the rest"
    )


def test_capabilities_are_added_and_dropped_by_any_spelling() -> None:
    assert granted().bounding == tuple(n for n in NAMES if n in DEFAULT) and len(DEFAULT) == 14, "Docker's fourteen"
    assert len(granted(strict=True).bounding) == len(STRICT) == 11, "the strict profile's eleven"
    assert granted(add=["net_admin"], drop=["ALL"]).effective == ("CAP_NET_ADMIN",), "drop all, add one"
    assert "CAP_CHOWN" not in granted(add=["ALL"], drop=["CAP_CHOWN"]).bounding, "all but one"
    assert "CAP_NET_RAW" in granted(add=["NET_RAW"], drop=["NET_RAW"]).bounding, "what is added is there"
    assert granted(privileged=True, drop=["ALL"]).bounding == NAMES, "a privileged container has all"
    assert granted(privileged=True).inheritable == () == granted(privileged=True).ambient, "never inheritable"
    assert mask(["CAP_CHOWN", "sys_admin"]) == 1 | 1 << 21, "numbers are those of the header"
    with pytest.raises(Invalid):
        granted(add=["CAP_FLY"])
