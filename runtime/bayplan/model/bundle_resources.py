"""`linux.resources` of the runtime specification 1.2, read (config-linux.md, "Control groups").

Where runc takes 0 for "not set" (limits of memory, processor time and processes, weights, the class of packets), so does this.
"""

from __future__ import annotations

from bayplan.model.fields import INT64, UINT32, UINT64, Fields, shown
from bayplan.model.runtime import BlockDevice, BlockIo, DeviceRule, RdmaLimit, Resources
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

_LIMIT = range(-1, 1 << 63)  # -1 is unlimited
_WEIGHTS = range(10, 1001)
_DEVICE_NUMBERS = range(1 << 31)
_SWAPPINESS = range(101)
_UNSET = UINT64.stop - 1  # -1, as a program in Go writes it into a uint64


def read_resources(given: Fields) -> Resources:
    """Invalid, with the path of what is wrong, for what is no `linux.resources` object."""
    network = given.inside("network")
    return Resources(
        **_read_memory(given.inside("memory")),
        **_read_cpu(given.inside("cpu")),
        pids_limit=_read_pids(given),
        devices=tuple(_read_rule(rule) for rule in given.objects("devices")),
        block_io=_read_block_io(given.inside("blockIO")),
        hugepages=tuple(_read_hugepages(limit) for limit in given.objects("hugepageLimits")),
        rdma=tuple(_read_rdma(device, limit) for device, limit in given.entries("rdma")),
        network_class=network.number("classID", UINT32) or None,
        network_priorities=tuple(_read_priority(priority) for priority in network.objects("priorities")),
        unified=_read_unified(given),
    )


def _read_memory(memory: Fields) -> dict[str, Any]:
    swappiness = None if memory.number("swappiness", UINT64) == _UNSET else memory.number("swappiness", _SWAPPINESS)
    if memory.has("useHierarchy") and not memory.flag("useHierarchy"):
        raise memory.wrong("useHierarchy", "memory is always accounted by hierarchy; leave this out")
    return {
        "memory_limit": memory.number("limit", _LIMIT) or None,
        "memory_reservation": memory.number("reservation", _LIMIT) or None,
        "memory_swap": memory.number("swap", _LIMIT) or None,
        "memory_swappiness": swappiness,
        "oom_kill_disable": memory.flag("disableOOMKiller"),
        "memory_kernel": memory.number("kernel", _LIMIT) or None,
        "memory_kernel_tcp": memory.number("kernelTCP", _LIMIT) or None,
        "memory_check_before_update": memory.flag("checkBeforeUpdate"),
    }


def _read_cpu(cpu: Fields) -> dict[str, Any]:
    quota, burst = cpu.number("quota", _LIMIT) or None, cpu.number("burst", UINT64)
    if quota and burst and 0 < quota < burst:
        raise cpu.wrong("burst", f"{burst} is more than the quota, {quota}")
    return {
        "cpu_shares": cpu.number("shares", UINT64) or None,
        "cpu_quota": quota,
        "cpu_period": cpu.number("period", UINT64) or None,
        "cpu_burst": burst,
        "cpu_idle": cpu.number("idle", range(2)),
        "cpu_realtime_runtime": cpu.number("realtimeRuntime", _LIMIT) or None,
        "cpu_realtime_period": cpu.number("realtimePeriod", UINT64) or None,
        "cpuset_cpus": cpu.text("cpus"),
        "cpuset_mems": cpu.text("mems"),
    }


def _read_pids(given: Fields) -> int | None:
    pids = given.inside("pids")
    if given.has("pids"):
        pids.need("limit")
    return pids.number("limit", _LIMIT) or None


def _read_rule(rule: Fields) -> DeviceRule:
    rule.need("allow")
    access = rule.text("access") or "rwm"
    if access.strip("rwm"):
        raise rule.wrong("access", f"{shown(access)} has other letters than r, w and m")
    return DeviceRule(
        rule.flag("allow"),
        rule.choice("type", ("a", "b", "c")) or "a",
        _any_device(rule.number("major", INT64)),
        _any_device(rule.number("minor", INT64)),
        access,
    )


def _any_device(number: int | None) -> int | None:
    return None if number == -1 else number  # Docker's spelling of "*"


def _read_block_io(block: Fields) -> BlockIo | None:
    read = BlockIo(
        weight=_read_weight(block, "weight"),
        leaf_weight=_read_weight(block, "leafWeight"),
        weight_devices=tuple(_read_weights(device) for device in block.objects("weightDevice")),
        read_bps=_read_throttles(block, "throttleReadBpsDevice"),
        write_bps=_read_throttles(block, "throttleWriteBpsDevice"),
        read_iops=_read_throttles(block, "throttleReadIOPSDevice"),
        write_iops=_read_throttles(block, "throttleWriteIOPSDevice"),
    )
    return None if read == BlockIo() else read


def _read_weight(given: Fields, name: str) -> int | None:
    return None if given.number(name, UINT64) == 0 else given.number(name, _WEIGHTS)


def _read_weights(device: Fields) -> BlockDevice:
    device.need("major", "minor")
    if not device.has("weight") and not device.has("leafWeight"):
        raise device.wrong("weight", "it is missing, and so is leafWeight")
    return BlockDevice(*_block_numbers(device), device.number("weight", _WEIGHTS), device.number("leafWeight", _WEIGHTS))


def _read_throttles(block: Fields, name: str) -> tuple[BlockDevice, ...]:
    devices = block.objects(name)
    for device in devices:
        device.need("major", "minor", "rate")
    return tuple(BlockDevice(*_block_numbers(device), device.number("rate", UINT64)) for device in devices)


def _block_numbers(device: Fields) -> tuple[int, int]:
    return device.whole("major", _DEVICE_NUMBERS), device.whole("minor", _DEVICE_NUMBERS)


def _read_hugepages(limit: Fields) -> tuple[str, int]:
    limit.need("pageSize", "limit")
    size = limit.text("pageSize")
    if not (size[:-2].isdecimal() and size.isascii() and size[-2:] in ("KB", "MB", "GB")):
        raise limit.wrong("pageSize", f"{shown(size)} is not a size such as 64KB, 2MB or 1GB")
    return size, limit.whole("limit", UINT64)


def _read_rdma(device: str, limit: Fields) -> RdmaLimit:
    handles, objects = limit.number("hcaHandles", UINT32), limit.number("hcaObjects", UINT32)
    if handles is None and objects is None:
        raise limit.wrong("hcaHandles", "it is missing, and so is hcaObjects")
    return RdmaLimit(device, handles, objects)


def _read_priority(priority: Fields) -> tuple[str, int]:
    priority.need("name", "priority")
    name = priority.text("name")
    if name.split() != [name]:
        raise priority.wrong("name", f"{shown(name)} is not the name of an interface")
    return name, priority.whole("priority", UINT32)


def _read_unified(given: Fields) -> tuple[tuple[str, str], ...]:
    pairs = given.pairs("unified")
    for file, _ in pairs:
        if "/" in file or file in (".", ".."):
            raise given.inside("unified").wrong(file, "it is not the name of a cgroup's file")
    return pairs
