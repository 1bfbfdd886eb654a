from __future__ import annotations

import itertools
import struct

import pytest

from bayplan.errors import Invalid, Unavailable
from bayplan.kernel import device_filter, device_list, limits
from bayplan.kernel.linux import MS_NODEV, MS_PRIVATE, MS_RDONLY, MS_REC
from bayplan.kernel.mounts import parse_options
from bayplan.model.capabilities import DEFAULT, NAMES, STRICT, granted, mask
from bayplan.model.runtime import BlockDevice, BlockIo, DeviceRule, RdmaLimit, Resources


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
    assert one["memory.limit_in_bytes"] == str(100 << 20) and one["memory.memsw.limit_in_bytes"] == str(150 << 20), "v1 counts both"
    assert two["memory.max"] == str(100 << 20) and two["memory.swap.max"] == str(50 << 20), "v2 counts swap alone"
    assert (one["cpu.cfs_quota_us"], two["cpu.max"]) == ("50000", "50000 100000"), "quota and period"
    assert two["cpuset.cpus"] == one["cpuset.cpus"] == "0-1", "processors"


def test_unlimited_is_said_in_each_versions_words() -> None:
    r = Resources(memory_swap=-1, pids_limit=-1, cpu_quota=-1)
    assert files(limits.settings_v2(r)) == {"memory.swap.max": "max", "pids.max": "max", "cpu.max": "max 100000"}, "v2"
    assert files(limits.settings_v1(r))["memory.memsw.limit_in_bytes"] == "-1", "v1"
    assert limits.settings_v1(Resources()) == [] == limits.settings_v2(Resources()), "nothing asked, nothing written"


DISK = (BlockDevice(8, 16, 4096), BlockDevice(8, 32))
FIELDS: list[tuple[Resources, dict[str, str] | str, dict[str, str] | str]] = [
    # what is asked, and what it is in the files of version 1 and 2; a string is a part of the refusal
    (Resources(memory_limit=1 << 30), {"memory.limit_in_bytes": "1073741824"}, {"memory.max": "1073741824"}),
    (
        Resources(memory_limit=-1),
        {"memory.limit_in_bytes": "-1", "memory.memsw.limit_in_bytes": "-1"},
        {"memory.swap.max": "max", "memory.max": "max"},
    ),
    (Resources(memory_limit=0, memory_swap=0, memory_reservation=0), {}, {}),
    (Resources(memory_reservation=1 << 20), {"memory.soft_limit_in_bytes": "1048576"}, {"memory.low": "1048576"}),
    (Resources(memory_reservation=-1), {"memory.soft_limit_in_bytes": "-1"}, {"memory.low": "max"}),
    (Resources(memory_swap=1 << 20), {"memory.memsw.limit_in_bytes": "1048576"}, "memory.swap"),
    (Resources(memory_swap=-1), {"memory.memsw.limit_in_bytes": "-1"}, {"memory.swap.max": "max"}),
    (Resources(memory_swappiness=60), {"memory.swappiness": "60"}, "memory.swappiness"),
    (Resources(memory_swappiness=0), {"memory.swappiness": "0"}, "memory.swappiness"),
    (Resources(memory_swappiness=(1 << 64) - 1), {}, {}),
    (Resources(oom_kill_disable=True), {"memory.oom_control": "1"}, "memory.disableOOMKiller"),
    (Resources(memory_kernel=1 << 20, memory_kernel_tcp=1 << 20), {}, {}),
    (Resources(cpu_shares=1024), {"cpu.shares": "1024"}, {"cpu.weight": "100"}),
    (Resources(cpu_shares=0), {}, {}),
    (Resources(cpu_quota=5000), {"cpu.cfs_quota_us": "5000"}, {"cpu.max": "5000 100000"}),
    (Resources(cpu_period=20000), {"cpu.cfs_period_us": "20000"}, {"cpu.max": "max 20000"}),
    (Resources(cpu_burst=3000), {"cpu.cfs_burst_us": "3000"}, {"cpu.max.burst": "3000"}),
    (Resources(cpu_burst=0), {"cpu.cfs_burst_us": "0"}, {"cpu.max.burst": "0"}),
    (Resources(cpu_idle=1, cpu_shares=512), {"cpu.idle": "1"}, {"cpu.idle": "1"}),
    (Resources(cpu_idle=0, cpu_shares=512), {"cpu.idle": "0", "cpu.shares": "512"}, {"cpu.idle": "0", "cpu.weight": "59"}),
    (Resources(cpu_realtime_runtime=1000), {"cpu.rt_runtime_us": "1000"}, "cpu.realtimeRuntime"),
    (Resources(cpu_realtime_period=1000), {"cpu.rt_period_us": "1000"}, "cpu.realtimePeriod"),
    (Resources(cpuset_cpus="0-1,3"), {"cpuset.cpus": "0-1,3"}, {"cpuset.cpus": "0-1,3"}),
    (Resources(cpuset_mems="0"), {"cpuset.mems": "0"}, {"cpuset.mems": "0"}),
    (Resources(pids_limit=0), {"pids.max": "max"}, {"pids.max": "max"}),
    (Resources(pids_limit=7), {"pids.max": "7"}, {"pids.max": "7"}),
    (Resources(block_io=BlockIo()), {}, {}),
    (Resources(block_io=BlockIo(weight=0)), {}, {}),
    (Resources(block_io=BlockIo(weight=300)), {"blkio.bfq.weight": "300"}, {"io.bfq.weight": "300"}),
    (Resources(block_io=BlockIo(leaf_weight=300)), {"blkio.leaf_weight": "300"}, "blockIO.leafWeight"),
    (
        Resources(block_io=BlockIo(weight_devices=(BlockDevice(8, 0, 300),))),
        {"blkio.bfq.weight_device": "8:0 300"},
        {"io.bfq.weight": "8:0 300"},
    ),
    (
        Resources(block_io=BlockIo(weight_devices=(BlockDevice(8, 0, None, 300),))),
        {"blkio.leaf_weight_device": "8:0 300"},
        "blockIO.leafWeight",
    ),
    (
        Resources(block_io=BlockIo(read_bps=DISK)),
        {"blkio.throttle.read_bps_device": "8:16 4096|8:32 0"},
        {"io.max": "8:16 rbps=4096|8:32 rbps=max"},
    ),
    (
        Resources(block_io=BlockIo(write_bps=DISK)),
        {"blkio.throttle.write_bps_device": "8:16 4096|8:32 0"},
        {"io.max": "8:16 wbps=4096|8:32 wbps=max"},
    ),
    (
        Resources(block_io=BlockIo(read_iops=DISK)),
        {"blkio.throttle.read_iops_device": "8:16 4096|8:32 0"},
        {"io.max": "8:16 riops=4096|8:32 riops=max"},
    ),
    (
        Resources(block_io=BlockIo(write_iops=DISK)),
        {"blkio.throttle.write_iops_device": "8:16 4096|8:32 0"},
        {"io.max": "8:16 wiops=4096|8:32 wiops=max"},
    ),
    (
        Resources(hugepages=(("2MB", 4096),)),
        {"hugetlb.2MB.limit_in_bytes": "4096", "hugetlb.2MB.rsvd.limit_in_bytes": "4096"},
        {"hugetlb.2MB.max": "4096", "hugetlb.2MB.rsvd.max": "4096"},
    ),
    (
        Resources(rdma=(RdmaLimit("mlx5_1", 3, 10000), RdmaLimit("mlx4_0", None, 1000))),
        {"rdma.max": "mlx5_1 hca_handle=3 hca_object=10000|mlx4_0 hca_object=1000"},
        {"rdma.max": "mlx5_1 hca_handle=3 hca_object=10000|mlx4_0 hca_object=1000"},
    ),
    (Resources(network_class=0x100001), {"net_cls.classid": "1048577"}, "network.classID"),
    (Resources(network_priorities=(("eth0", 500), ("lo", 5))), {"net_prio.ifpriomap": "eth0 500|lo 5"}, "network.priorities"),
    (
        Resources(unified=(("memory.high", "1"), ("io.max", "8:0 rbps=1\n8:16 rbps=2\n"))),
        "unified",
        {"memory.high": "1", "io.max": "8:0 rbps=1|8:16 rbps=2"},
    ),
]


@pytest.mark.parametrize(("asked", "first", "second"), FIELDS)
def test_each_resource_is_a_file_of_each_version_or_refused_by_name(
    asked: Resources, first: dict[str, str] | str, second: dict[str, str] | str
) -> None:
    limits.check(asked)
    for settings, expected in ((limits.settings_v1, first), (limits.settings_v2, second)):
        if isinstance(expected, str):
            with pytest.raises((Unavailable, Invalid), match=expected):
                settings(asked)
            continue
        found: dict[str, list[str]] = {}
        for setting in settings(asked):
            found.setdefault(setting.file, []).append(setting.value)
            assert setting.field and setting.file.startswith(setting.controller + "."), "it knows what asked for it, and its controller"
        assert {file: "|".join(values) for file, values in found.items()} == expected, "each file and value"


def test_every_resource_is_in_the_table() -> None:
    seen = {name for asked, _, _ in FIELDS for name, value in asked._asdict().items() if value != Resources._field_defaults[name]}
    assert set(Resources._fields) - seen == {"memory_check_before_update", "devices"}, "the two that are not written to a file as they are"


@pytest.mark.parametrize(("weight", "converted"), [(10, 1), (100, 910), (500, 4950), (1000, 10000)])
def test_a_block_weight_without_bfq_is_converted_as_runc_does(weight: int, converted: int) -> None:
    (setting,) = limits.settings_v2(Resources(block_io=BlockIo(weight=weight)))
    assert setting.instead == (("io.weight", str(converted)),), "linearly from 10..1000 to 1..10000"


@pytest.mark.parametrize(
    ("r", "word"),
    [
        (Resources(memory_swappiness=101), "memory.swappiness"),
        (Resources(cpu_idle=2), "cpu.idle"),
        (Resources(block_io=BlockIo(weight=9)), "blockIO.weight"),
        (Resources(block_io=BlockIo(leaf_weight=1001)), "blockIO.leafWeight"),
        (Resources(block_io=BlockIo(weight_devices=(BlockDevice(8, 0, 1),))), "blockIO.weightDevice.weight"),
        (Resources(hugepages=(("../../x", 1),)), "hugepageLimits.pageSize"),
        (Resources(hugepages=(("MB", 1),)), "hugepageLimits.pageSize"),
        (Resources(rdma=(RdmaLimit("a b", 1),)), "rdma"),
        (Resources(network_priorities=(("lo\nlo", 1),)), "network.priorities.name"),
        (Resources(network_priorities=(("", 1),)), "network.priorities.name"),
        (Resources(unified=(("../x.y", "1"),)), "unified"),
        (Resources(unified=(("x", "1"),)), "unified"),
        (Resources(unified=(("..", "1"),)), "unified"),
    ],
)
def test_what_no_version_takes_is_invalid_by_name(r: Resources, word: str) -> None:
    with pytest.raises(Invalid, match=word):
        limits.check(r)


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (1024, 100), (262144, 10000), (1, 1), (999999, 10000)])
def test_shares_keep_their_meaning_as_a_weight(shares: int, weight: int) -> None:
    assert limits.weight(shares) == weight, "least, default and most map to each other"


@pytest.mark.parametrize("r", [Resources(memory_limit=1 << 20), Resources(64 << 20, None, 32 << 20), Resources(64 << 20, 128 << 20)])
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


@pytest.mark.parametrize("everything", [DeviceRule(True), DeviceRule(True, "a", -1, -1, "mrw")])
def test_the_device_program_ends_where_nothing_can_be_reached_any_more(everything: DeviceRule) -> None:
    program = device_filter.assemble((DeviceRule(False), everything))
    assert len(program) // 8 == 8 and run_ebpf(program, 7, 1, 8, 0) == 1, "the kernel refuses one with unreachable code"


def test_device_rules_become_a_list_of_exceptions() -> None:
    rules = (
        DeviceRule(True),
        DeviceRule(False),
        DeviceRule(True, "c", 1, None, "rw"),
        DeviceRule(True, "a", 1),
        DeviceRule(False, "b", 1, access="m"),
    )
    wanted = device_list.reduce(rules)
    assert wanted == (False, ((("c", 1, None), "rwm"), (("b", 1, None), "rw"))), "a type of a with numbers is not everything"
    assert device_list.lines(None, wanted) == [
        ("devices.deny", "a"),
        ("devices.allow", "c 1:* rwm"),
        ("devices.allow", "b 1:* rw"),
    ], "from whatever was before"
    assert device_list.lines(device_list.parse("c 1:* rw\nb 8:0 rwm\n"), wanted) == [
        ("devices.allow", "c 1:* m"),
        ("devices.allow", "b 1:* rw"),
        ("devices.deny", "b 8:0 rwm"),
    ], "a list that is there is changed where it differs"
    assert device_list.lines(device_list.parse("c 1:* rwm\nb 1:* rw\n"), wanted) == [], "and left alone where it does not"


def test_an_exception_to_an_exception_is_refused_on_version_1() -> None:
    whole, part = DeviceRule(True, "c", 10), DeviceRule(False, "c", 10, 5, "w")
    with pytest.raises(Invalid, match=r"deny c 10:5 w after one for c 10:\* rwm"):
        device_list.reduce((DeviceRule(False), whole, part))
    with pytest.raises(Invalid, match="exception"):
        device_list.reduce((DeviceRule(True), DeviceRule(False, "c", 10), DeviceRule(True, "c", 10, 5)))
    assert device_list.reduce((DeviceRule(True), DeviceRule(False, "b", access="w"))) == (True, ((("b", None, None), "w"),)), "one is fine"


def test_a_device_list_that_allows_by_default_does_not_tell_its_exceptions() -> None:
    assert device_list.parse("a *:* rwm\n") is None, "so it is written anew"


def test_mount_options_are_sorted_by_what_they_are_for() -> None:
    options = parse_options(("rbind", "ro", "nodev", "rprivate", "size=64k", "mode=755", "dev", "rro"))
    assert options.flags & MS_RDONLY and not options.flags & MS_NODEV, "the later of two that clash wins"
    assert (options.propagation, options.data, options.recursive) == ((MS_PRIVATE | MS_REC,), "size=64k,mode=755", 1), "the rest"


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
