"""`Resources` as the files of cgroup v1 and v2 want them. Pure; the rules of runc where the two versions differ.

What a version has no equivalent for is refused, by the name that the specification's `linux.resources` has for it. One exception:
`memory.kernel` and `memory.kernelTCP` are accepted and have no effect, as runc documents of its own (runc-update(8): "Ignored"):
Linux 5.16 and later ignores the first itself, and what the kernel keeps for a container counts as its memory either way.
"""

from __future__ import annotations

from bayplan.errors import Invalid, Unavailable
from bayplan.model.runtime import BlockDevice, BlockIo, RdmaLimit, Resources
from bayplan.model.value import NamedTuple

_UNSET_SWAPPINESS = (None, -1, (1 << 64) - 1)  # engines write -1, and some write it as an unsigned number
_THROTTLES = (
    ("throttleReadBpsDevice", "read_bps", "rbps"),
    ("throttleWriteBpsDevice", "write_bps", "wbps"),
    ("throttleReadIOPSDevice", "read_iops", "riops"),
    ("throttleWriteIOPSDevice", "write_iops", "wiops"),
)


class Setting(NamedTuple):
    """One write of `value` to `file`, which the member `field` of `linux.resources` asks for.

    Where the file is missing, the first of `instead` (file, value) that is there. Without `required`, a kernel that has none is fine.
    """

    controller: str
    file: str
    value: str
    field: str = ""
    required: bool = True
    instead: tuple[tuple[str, str], ...] = ()


def check(resources: Resources) -> None:
    """Invalid for values that no version takes."""
    r = resources
    if r.memory_swap is not None and r.memory_swap > 0 and r.memory_limit and r.memory_swap < r.memory_limit:
        raise Invalid(f"memory plus swap ({r.memory_swap}) is less than the memory limit ({r.memory_limit})")
    if r.memory_limit and r.memory_reservation and r.memory_reservation > r.memory_limit > 0:
        raise Invalid(f"the memory reservation ({r.memory_reservation}) is above the limit ({r.memory_limit})")
    if r.memory_limit and 0 < r.memory_limit < 6 << 20:
        raise Invalid(f"a memory limit of {r.memory_limit} bytes is too small to start anything; the least is 6 MiB")
    if r.memory_swappiness not in _UNSET_SWAPPINESS and not 0 <= (r.memory_swappiness or 0) <= 100:
        raise Invalid(f"memory.swappiness is {r.memory_swappiness}; it goes from 0 to 100")
    if r.cpu_idle not in (None, 0, 1):
        raise Invalid(f"cpu.idle is {r.cpu_idle}; it is 0 or 1")
    if r.block_io:
        _check_weights(r.block_io)
    _check_names(r)


def _check_weights(block: BlockIo) -> None:
    weights = [("blockIO.weight", block.weight), ("blockIO.leafWeight", block.leaf_weight)]
    for device in block.weight_devices:
        weights += [("blockIO.weightDevice.weight", device.value), ("blockIO.weightDevice.leafWeight", device.leaf_weight)]
    for field, weight in weights:
        if weight and not 10 <= weight <= 1000:
            raise Invalid(f"{field} is {weight}; it goes from 10 to 1000")


def _check_names(r: Resources) -> None:
    # each becomes part of a file's name, or of a line whose words are separated by spaces
    for size, _ in r.hugepages:
        if not (size[:-2].isdecimal() and size[-2:] in ("KB", "MB", "GB")):
            raise Invalid(f"hugepageLimits.pageSize is {size!r}; it is a number and KB, MB or GB, such as 2MB")
    for field, name in (*(("rdma", one.device) for one in r.rdma), *(("network.priorities.name", one) for one, _ in r.network_priorities)):
        if not name or len(name.split()) != 1 or name.split()[0] != name:
            raise Invalid(f"{field} has the name {name!r}; it is one word")
    for file, _ in r.unified:
        controller, dot, parameter = file.partition(".")
        if "/" in file or not (controller and dot and parameter):
            raise Invalid(f"unified has {file!r}; it is the name of a file, as CONTROLLER.PARAMETER and without a slash")


def settings_v1(resources: Resources) -> list[Setting]:
    """The writes in an order that a fresh cgroup accepts. Unavailable for what only version 2 has."""
    r = resources
    if r.unified:
        raise Unavailable("limiting the container: unified is for cgroup version 2, and this host has version 1; leave it out")
    swap = r.memory_swap or (-1 if r.memory_limit and r.memory_limit < 0 else None)  # unlimited memory is not held back by swap
    given = [
        ("memory", "memory.limit_in_bytes", _unlimited(r.memory_limit), "memory.limit", True),
        # without swap accounting (swapaccount=0) there is nothing to limit, and no file
        ("memory", "memory.memsw.limit_in_bytes", _unlimited(swap), "memory.swap", False),
        ("memory", "memory.soft_limit_in_bytes", _unlimited(r.memory_reservation), "memory.reservation", True),
        ("memory", "memory.swappiness", _swappiness(r), "memory.swappiness", True),
        ("memory", "memory.oom_control", 1 if r.oom_kill_disable else None, "memory.disableOOMKiller", True),
        *_processor_v1(r),
        ("cpuset", "cpuset.cpus", r.cpuset_cpus or None, "cpu.cpus", True),
        ("cpuset", "cpuset.mems", r.cpuset_mems or None, "cpu.mems", True),
        ("pids", "pids.max", _at_most(r.pids_limit), "pids.limit", True),
        ("net_cls", "net_cls.classid", r.network_class or None, "network.classID", True),
        *(("net_prio", "net_prio.ifpriomap", f"{name} {n}", "network.priorities", True) for name, n in r.network_priorities),
    ]
    settings = [Setting(c, file, str(value), field, required) for c, file, value, field, required in given if value is not None]
    return [*settings, *(_block_v1(r.block_io) if r.block_io else ()), *_huge_pages(r, "limit_in_bytes"), *map(_rdma, r.rdma)]


def settings_v2(resources: Resources) -> list[Setting]:
    """The same for the unified hierarchy. Unavailable for what only version 1 has."""
    r = resources
    _refuse_v2(r)
    given = [
        ("memory", "memory.swap.max", _swap_v2(r), "memory.swap", False),
        ("memory", "memory.max", _at_most(r.memory_limit or None), "memory.limit", True),
        ("memory", "memory.low", _at_most(r.memory_reservation or None), "memory.reservation", True),
        ("cpu", "cpu.idle", r.cpu_idle, "cpu.idle", True),
        ("cpu", "cpu.weight", weight(r.cpu_shares) if r.cpu_shares and not r.cpu_idle else None, "cpu.shares", True),
        ("cpu", "cpu.max", _cpu_max(r), "cpu.quota", True),
        ("cpu", "cpu.max.burst", r.cpu_burst, "cpu.burst", True),
        ("cpuset", "cpuset.cpus", r.cpuset_cpus or None, "cpu.cpus", True),
        ("cpuset", "cpuset.mems", r.cpuset_mems or None, "cpu.mems", True),
        ("pids", "pids.max", _at_most(r.pids_limit), "pids.limit", True),
    ]
    settings = [Setting(c, file, str(value), field, required) for c, file, value, field, required in given if value is not None]
    settings += [*(_block_v2(r.block_io) if r.block_io else ()), *_huge_pages(r, "max"), *map(_rdma, r.rdma)]
    # the kernel takes one line a write
    unified = ((file, line) for file, content in r.unified for line in content.splitlines() or [""])
    return [*settings, *(Setting(file.partition(".")[0], file, line, f"unified.{file}") for file, line in unified)]


def _refuse_v2(r: Resources) -> None:
    block = r.block_io or BlockIo()
    leaf = block.leaf_weight or any(device.leaf_weight for device in block.weight_devices)
    for field, given in (
        ("memory.swappiness", r.memory_swappiness not in _UNSET_SWAPPINESS),
        ("memory.disableOOMKiller", r.oom_kill_disable),
        ("cpu.realtimeRuntime", r.cpu_realtime_runtime),
        ("cpu.realtimePeriod", r.cpu_realtime_period),
        ("blockIO.leafWeight", leaf),
        ("network.classID (the net_cls controller)", r.network_class),
        ("network.priorities (the net_prio controller)", r.network_priorities),
    ):
        if given:
            raise Unavailable(f"limiting the container: cgroup version 2, which this host has, knows no {field}; leave it out")


def _processor_v1(r: Resources) -> list[tuple[str, str, int | None, str, bool]]:
    return [
        # a group that is idle has the least of all weights, and the kernel refuses to set another (sched_group_set_shares)
        ("cpu", "cpu.idle", r.cpu_idle, "cpu.idle", True),
        ("cpu", "cpu.shares", r.cpu_shares or None if not r.cpu_idle else None, "cpu.shares", True),
        ("cpu", "cpu.cfs_period_us", r.cpu_period or None, "cpu.period", True),
        ("cpu", "cpu.cfs_quota_us", r.cpu_quota or None, "cpu.quota", True),
        ("cpu", "cpu.cfs_burst_us", r.cpu_burst, "cpu.burst", True),
        ("cpu", "cpu.rt_period_us", r.cpu_realtime_period or None, "cpu.realtimePeriod", True),
        ("cpu", "cpu.rt_runtime_us", r.cpu_realtime_runtime or None, "cpu.realtimeRuntime", True),
    ]


def weight(shares: int) -> int:
    """cpu.weight (1 to 10000, 100 by default) for v1's shares (2 to 262144, 1024 by default), as runc 1.3.2 maps them."""
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    import math

    octave = math.log2(shares)
    return math.ceil(10 ** ((octave * octave + 125 * octave) / 612 - 7 / 34))


def block_weight(weight: int) -> int:
    """io.weight (1 to 10000) for v1's weight (10 to 1000), as runc maps them: linearly."""
    return 1 + (weight - 10) * 9999 // 990


def _swappiness(r: Resources) -> int | None:
    return None if r.memory_swappiness in _UNSET_SWAPPINESS else r.memory_swappiness


def _unlimited(limit: int | None) -> int | None:
    return max(limit, -1) if limit else None


def _at_most(limit: int | None) -> str | None:
    if limit is None:
        return None
    return "max" if limit <= 0 else str(limit)


def _swap_v2(r: Resources) -> str | None:
    limit = r.memory_limit or 0
    if not r.memory_swap:
        return "max" if limit < 0 else None  # unlimited memory is not held back by swap
    if r.memory_swap < 0:
        return "max"
    if not limit:
        raise Invalid("memory.swap counts memory and swap together: it needs memory.limit beside it, or -1 for no limit")
    return str(r.memory_swap - max(limit, 0))  # version 2 counts swap alone


def _cpu_max(r: Resources) -> str | None:
    if not r.cpu_quota and not r.cpu_period:
        return None
    quota = "max" if not r.cpu_quota or r.cpu_quota < 0 else str(r.cpu_quota)
    return f"{quota} {r.cpu_period or 100000}"


def _block_v1(block: BlockIo) -> list[Setting]:
    found = []
    if block.weight:  # the one of BFQ, or of CFQ before Linux 5.0
        cfq = ("blkio.weight", str(block.weight))
        found.append(Setting("blkio", "blkio.bfq.weight", str(block.weight), "blockIO.weight", instead=(cfq,)))
    if block.leaf_weight:
        found.append(Setting("blkio", "blkio.leaf_weight", str(block.leaf_weight), "blockIO.leafWeight"))
    for device in block.weight_devices:
        number = f"{device.major}:{device.minor}"
        if device.value:
            line = f"{number} {device.value}"
            cfq = ("blkio.weight_device", line)
            found.append(Setting("blkio", "blkio.bfq.weight_device", line, "blockIO.weightDevice.weight", instead=(cfq,)))
        if device.leaf_weight:
            line = f"{number} {device.leaf_weight}"
            found.append(Setting("blkio", "blkio.leaf_weight_device", line, "blockIO.weightDevice.leafWeight"))
    for field, name, _ in _THROTTLES:
        for device in _throttled(block, name):
            line = f"{device.major}:{device.minor} {device.value or 0}"  # 0 lifts the throttle
            found.append(Setting("blkio", f"blkio.throttle.{name}_device", line, f"blockIO.{field}"))
    return found


def _block_v2(block: BlockIo) -> list[Setting]:
    found = []
    if block.weight:
        converted = ("io.weight", str(block_weight(block.weight)))
        found.append(Setting("io", "io.bfq.weight", str(block.weight), "blockIO.weight", instead=(converted,)))
    for device in block.weight_devices:
        if device.value:
            number = f"{device.major}:{device.minor}"
            converted = ("io.weight", f"{number} {block_weight(device.value)}")
            line = f"{number} {device.value}"
            found.append(Setting("io", "io.bfq.weight", line, "blockIO.weightDevice.weight", instead=(converted,)))
    for field, name, key in _THROTTLES:
        for device in _throttled(block, name):
            found.append(Setting("io", "io.max", f"{device.major}:{device.minor} {key}={device.value or 'max'}", f"blockIO.{field}"))
    return found


def _throttled(block: BlockIo, name: str) -> tuple[BlockDevice, ...]:
    return {
        "read_bps": block.read_bps,
        "write_bps": block.write_bps,
        "read_iops": block.read_iops,
        "write_iops": block.write_iops,
    }[name]


def _huge_pages(r: Resources, suffix: str) -> list[Setting]:
    found = []
    for size, limit in r.hugepages:
        found.append(Setting("hugetlb", f"hugetlb.{size}.{suffix}", str(limit), "hugepageLimits"))
        # with the limit on reservations (Linux 5.7), what is too much fails when it is mapped, not by a signal when it is touched
        found.append(Setting("hugetlb", f"hugetlb.{size}.rsvd.{suffix}", str(limit), "hugepageLimits", required=False))
    return found


def _rdma(limit: RdmaLimit) -> Setting:
    words = [limit.device]
    words += [f"hca_{name}={n}" for name, n in (("handle", limit.handles), ("object", limit.objects)) if n is not None]
    return Setting("rdma", "rdma.max", " ".join(words), "rdma")
