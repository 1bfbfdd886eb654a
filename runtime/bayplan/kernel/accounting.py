"""What a container uses and has used, by its cgroup's files; and that as `runc events` writes it."""

from __future__ import annotations

import os

from bayplan.kernel import cgroup_files
from bayplan.kernel.cgroup_files import number, rows
from bayplan.kernel.cgroups import Cgroup, oom_path
from bayplan.kernel.oom import OomWatch
from bayplan.kernel.pressure import Pressure, Stall, measure
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

_UNLIMITED = (1 << 64) - 1
_TICK = 10_000_000  # nanoseconds; USER_HZ is 100 on both machines
# the first fields of BlockIo, as version 1's files are named, and as runc's document names them
_BLOCK_V1 = ("io_service_bytes", "io_serviced", "io_queued", "io_service_time", "io_wait_time", "io_merged", "time", "sectors")
_BLOCK_V2 = {
    "rbytes": ("service_bytes", "Read"),
    "wbytes": ("service_bytes", "Write"),
    "rios": ("serviced", "Read"),
    "wios": ("serviced", "Write"),
}
_BLOCK_NAMES = (
    "ioServiceBytesRecursive",
    "ioServicedRecursive",
    "ioQueueRecursive",
    "ioServiceTimeRecursive",
    "ioWaitTimeRecursive",
    "ioMergedRecursive",
    "ioTimeRecursive",
    "sectorsRecursive",
)


class Cpu(NamedTuple):
    """Nanoseconds; of each processor only on version 1. `periods` of the quota, those in which it was used up, and the wait for more."""

    usage: int = 0
    user: int = 0
    system: int = 0
    per_cpu: tuple[int, ...] = ()
    per_cpu_user: tuple[int, ...] = ()
    per_cpu_system: tuple[int, ...] = ()
    periods: int = 0
    throttled_periods: int = 0
    throttled_time: int = 0
    pressure: Pressure | None = None


class Amount(NamedTuple):
    """Bytes: now, at most so far, allowed (None: unlimited); and how often the limit was met. None where nothing counts it."""

    usage: int | None = None
    maximum: int | None = None
    limit: int | None = None
    failures: int = 0


class Memory(NamedTuple):
    """`swap` counts memory and swap together, as the specification's limit does. `cache` is of files, `rss` is not;
    `statistics` are the rows of memory.stat."""

    usage: Amount = Amount()
    swap: Amount = Amount()
    kernel: Amount = Amount()
    kernel_tcp: Amount = Amount()
    cache: int = 0
    rss: int = 0
    statistics: tuple[tuple[str, int], ...] = ()
    pressure: Pressure | None = None
    oom_kills: int = 0

    @property
    def in_use(self) -> int | None:
        """Without the files' pages that could be dropped at any time."""
        idle = dict(self.statistics)
        idle_files = idle.get("total_inactive_file", idle.get("inactive_file", 0))
        return None if self.usage.usage is None else max(self.usage.usage - idle_files, 0)


class Pids(NamedTuple):
    current: int | None = None
    limit: int | None = None


class BlockEntry(NamedTuple):
    major: int
    minor: int
    operation: str
    value: int


class BlockIo(NamedTuple):
    """Bytes, operations, and what only the BFQ scheduler counts. Version 2 knows reads and writes, of the first two."""

    service_bytes: tuple[BlockEntry, ...] = ()
    serviced: tuple[BlockEntry, ...] = ()
    queued: tuple[BlockEntry, ...] = ()
    service_time: tuple[BlockEntry, ...] = ()
    wait_time: tuple[BlockEntry, ...] = ()
    merged: tuple[BlockEntry, ...] = ()
    time: tuple[BlockEntry, ...] = ()
    sectors: tuple[BlockEntry, ...] = ()
    pressure: Pressure | None = None


class Accounting(NamedTuple):
    """All of it. On version 1 what the container's hierarchies count: block I/O and huge pages only where it was put into theirs.
    `hugetlb` are (page size as "2MB", amount)."""

    cpu: Cpu
    memory: Memory
    pids: Pids
    block_io: BlockIo
    hugetlb: tuple[tuple[str, Amount], ...]


def read(cgroup: Cgroup) -> Accounting:
    """What its files say now. What is not counted is zero or None; a cgroup that is gone counts nothing."""
    if cgroup.version == 2:
        leaf = cgroup.directories[0][1]
        return Accounting(_cpu_v2(leaf), _memory_v2(leaf, cgroup), _pids(leaf), _block_v2(leaf), _hugetlb_v2(leaf))
    at = dict(cgroup.directories)
    return Accounting(
        _cpu_v1(at.get("cpu", ""), at.get("cpuacct", "")),
        _memory_v1(at.get("memory", ""), cgroup),
        _pids(at.get("pids", "")),
        _block_v1(at.get("blkio", "")),
        _hugetlb_v1(at.get("hugetlb", "")),
    )


def watch_oom(cgroup: Cgroup) -> OomWatch:
    """Be told when it runs out of memory. Raises Unavailable, Kernel."""
    return OomWatch(cgroup)


def _cpu_v1(cpu: str, cpuacct: str) -> Cpu:
    spent, ticks = rows(f"{cpu}/cpu.stat"), rows(f"{cpuacct}/cpuacct.stat")
    each = [line.split() for line in (cgroup_files.read(f"{cpuacct}/cpuacct.usage_all") or "").splitlines()[1:]]
    return Cpu(
        number(f"{cpuacct}/cpuacct.usage") or 0,
        ticks.get("user", 0) * _TICK,  # cpuacct.usage_user is finer and less true: whole ticks, not fitted to what was used
        ticks.get("system", 0) * _TICK,
        tuple(int(word) for word in (cgroup_files.read(f"{cpuacct}/cpuacct.usage_percpu") or "").split()),
        tuple(int(row[1]) for row in each),
        tuple(int(row[2]) for row in each),
        spent.get("nr_periods", 0),
        spent.get("nr_throttled", 0),
        spent.get("throttled_time", 0),
    )


def _cpu_v2(leaf: str) -> Cpu:
    spent = rows(f"{leaf}/cpu.stat")
    usage, user, system, throttled = (spent.get(f"{name}_usec", 0) * 1000 for name in ("usage", "user", "system", "throttled"))
    return Cpu(usage, user, system, (), (), (), spent.get("nr_periods", 0), spent.get("nr_throttled", 0), throttled, measure(leaf, "cpu"))


def _memory_v1(directory: str, cgroup: Cgroup) -> Memory:
    told = rows(f"{directory}/memory.stat")
    usage, swap, kernel, kernel_tcp = (_amount_v1(f"{directory}/memory{part}") for part in ("", ".memsw", ".kmem", ".kmem.tcp"))
    cache, rss = told.get("cache", 0), told.get("rss", 0)
    return Memory(usage, swap, kernel, kernel_tcp, cache, rss, tuple(told.items()), None, _oom_kills(cgroup))


def _amount_v1(prefix: str) -> Amount:
    limit = number(f"{prefix}.limit_in_bytes")
    return Amount(
        number(f"{prefix}.usage_in_bytes"),
        number(f"{prefix}.max_usage_in_bytes"),
        None if limit is not None and limit >= 1 << 62 else limit,  # "unlimited" is the last whole page
        number(f"{prefix}.failcnt") or 0,
    )


def _memory_v2(leaf: str, cgroup: Cgroup) -> Memory:
    told, events = rows(f"{leaf}/memory.stat"), rows(f"{leaf}/memory.events")
    usage, limit = number(f"{leaf}/memory.current"), number(f"{leaf}/memory.max")
    memory = Amount(usage, number(f"{leaf}/memory.peak"), limit, events.get("max", 0))
    swapped, swap_limit = number(f"{leaf}/memory.swap.current"), number(f"{leaf}/memory.swap.max")
    swap = Amount(
        None if usage is None or swapped is None else usage + swapped,
        None,
        None if limit is None or swap_limit is None else limit + swap_limit,
        rows(f"{leaf}/memory.swap.events").get("max", 0),
    )
    return Memory(
        memory,
        swap,
        Amount(told.get("kernel")),
        Amount(),
        told.get("file", 0),
        told.get("anon", 0),
        tuple(told.items()),
        measure(leaf, "memory"),
        _oom_kills(cgroup),
    )


def _oom_kills(cgroup: Cgroup) -> int:
    return rows(oom_path(cgroup)).get("oom_kill", 0)


def _pids(directory: str) -> Pids:
    return Pids(number(f"{directory}/pids.current"), number(f"{directory}/pids.max"))


def _block_v1(directory: str) -> BlockIo:
    # BFQ counts what it schedules; where another scheduler works, or an old kernel's CFQ, the others do
    for form in ("blkio.bfq.{}_recursive", "blkio.{}_recursive", "blkio.throttle.{}_recursive", "blkio.throttle.{}"):
        found = [_entries(f"{directory}/{form.format(file)}") for file in _BLOCK_V1]
        if any(found):
            return BlockIo._make([*found, None])
    return BlockIo()


def _entries(path: str) -> tuple[BlockEntry, ...]:
    """Rows such as `8:0 Read 4096`, or `8:0 12`; the last says the total of all devices."""
    found = []
    for line in (cgroup_files.read(path) or "").splitlines():
        device, *operation, value = line.split()
        if ":" in device:
            major, minor = device.split(":")
            found.append(BlockEntry(int(major), int(minor), "".join(operation), int(value)))
    return tuple(found)


def _block_v2(leaf: str) -> BlockIo:
    found: dict[str, list[BlockEntry]] = {"service_bytes": [], "serviced": []}
    for line in (cgroup_files.read(f"{leaf}/io.stat") or "").splitlines():
        device, *words = line.split()
        if ":" not in device:
            continue
        major, minor = (int(part) for part in device.split(":"))
        for key, _, value in (word.partition("=") for word in words):
            if key in _BLOCK_V2:
                field, operation = _BLOCK_V2[key]
                found[field].append(BlockEntry(major, minor, operation, int(value)))
    return BlockIo(tuple(found["service_bytes"]), tuple(found["serviced"]), pressure=measure(leaf, "io"))


def _hugetlb_v1(directory: str) -> tuple[tuple[str, Amount], ...]:
    sizes = _page_sizes(directory, ".usage_in_bytes")
    return tuple((size, _amount_v1(f"{directory}/hugetlb.{size}")) for size in sizes)


def _hugetlb_v2(leaf: str) -> tuple[tuple[str, Amount], ...]:
    found = []
    for size in _page_sizes(leaf, ".current"):
        prefix = f"{leaf}/hugetlb.{size}"
        failures = rows(f"{prefix}.events").get("max", 0)
        found.append((size, Amount(number(f"{prefix}.current"), None, number(f"{prefix}.max"), failures)))
    return tuple(found)


def _page_sizes(directory: str, suffix: str) -> list[str]:
    try:
        names = os.listdir(directory) if directory else []
    except FileNotFoundError:
        return []
    sizes = (name[len("hugetlb.") : -len(suffix)] for name in names if name.startswith("hugetlb.") and name.endswith(suffix))
    return sorted(size for size in sizes if "." not in size)  # those of reservations have one more word


def document(accounting: Accounting) -> dict[str, Any]:
    """The JSON object of `runc events --stats`, but for its "id": nanoseconds, bytes; an unlimited amount is 2**64 - 1."""
    cpu, memory = accounting.cpu, accounting.memory
    each = {"percpu": list(cpu.per_cpu), "percpu_kernel": list(cpu.per_cpu_system), "percpu_user": list(cpu.per_cpu_user)}
    usage = {**_present(total=cpu.usage, **each), "kernel": cpu.system, "user": cpu.user}
    throttling = _present(periods=cpu.periods, throttledPeriods=cpu.throttled_periods, throttledTime=cpu.throttled_time)
    counted = {"usage": memory.usage, "swap": memory.swap, "kernel": memory.kernel, "kernelTCP": memory.kernel_tcp}
    *counts, _ = accounting.block_io
    block = {name: _block_document(entries) for name, entries in zip(_BLOCK_NAMES, counts)}
    return {
        "type": "stats",
        "data": {
            "cpu": {"usage": usage, "throttling": throttling, **_present(psi=_pressure_document(cpu.pressure))},
            "memory": {
                **_present(cache=memory.cache),
                **{name: _amount_document(amount) for name, amount in counted.items()},
                **_present(raw=dict(memory.statistics), psi=_pressure_document(memory.pressure)),
            },
            "pids": _present(current=accounting.pids.current, limit=accounting.pids.limit),
            "blkio": {**_present(**block), **_present(psi=_pressure_document(accounting.block_io.pressure))},
            "hugetlb": {size: _hugetlb_document(amount) for size, amount in accounting.hugetlb},
            "intel_rdt": {},
            "network_interfaces": None,
        },
    }


def _present(**members: object) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value}


def _amount_document(amount: Amount) -> dict[str, int]:
    counted = amount.usage is not None
    limit = (_UNLIMITED if amount.limit is None else amount.limit) if counted else 0
    return {"limit": limit, **_present(usage=amount.usage, max=amount.maximum), "failcnt": amount.failures}


def _hugetlb_document(amount: Amount) -> dict[str, int]:
    return {**_present(usage=amount.usage, max=amount.maximum), "failcnt": amount.failures}


def _block_document(entries: tuple[BlockEntry, ...]) -> list[dict[str, Any]]:
    return [_present(major=one.major, minor=one.minor, op=one.operation, value=one.value) for one in entries]


def _pressure_document(pressure: Pressure | None) -> dict[str, Any] | None:
    return pressure and {"some": pressure.some._asdict(), "full": (pressure.full or Stall())._asdict()}
