"""What a running container uses, as `stats` shows it: its cgroup's counts, and those of the interfaces in its network namespace."""

from __future__ import annotations

import time

from bayplan.engine import cgroup, containers
from bayplan.engine.containers import Record
from bayplan.engine.state import State
from bayplan.kernel import accounting
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bayplan.kernel.accounting import BlockEntry


class Sample(NamedTuple):
    """At one moment (`at`, nanoseconds of the monotonic clock). `cpu` is nanoseconds spent, the rest bytes, but for `pids`.

    `memory` is without the files' pages that could be dropped. `memory_limit` is the host's memory where there is none.
    """

    at: int = 0
    cpu: int = 0
    memory: int = 0
    memory_limit: int = 0
    received: int = 0
    sent: int = 0
    read: int = 0
    written: int = 0
    pids: int = 0


def sample(state: State, record: Record) -> Sample:
    """All zero where the container does not run."""
    run = containers.run_of(state, record.id)
    own = cgroup.find(state, record.id) if run.pid else None
    if own is None:
        return Sample()
    used = accounting.read(own)
    received, sent = (0, 0) if record.spec.network_mode == "host" else _network(run.pid)
    limit = min(used.memory.usage.limit or _host_memory(), _host_memory())
    blocks = used.block_io.service_bytes
    return Sample(
        at=time.monotonic_ns(),
        cpu=used.cpu.usage,
        memory=used.memory.in_use or 0,
        memory_limit=limit,
        received=received,
        sent=sent,
        read=_total(blocks, "Read"),
        written=_total(blocks, "Write"),
        pids=used.pids.current or 0,
    )


def processors_used(before: Sample, now: Sample) -> float:
    """How many processors it kept busy between two samples: 1.5 is one and a half. 0 for one that was not there, or began anew."""
    if not before.at or now.at <= before.at or now.cpu < before.cpu:
        return 0.0
    return (now.cpu - before.cpu) / (now.at - before.at)


def _total(entries: Iterable[BlockEntry], operation: str) -> int:
    return sum(each.value for each in entries if each.operation == operation)


def _network(pid: int) -> tuple[int, int]:
    """Bytes received and sent by all interfaces but the loopback one (proc(5), /proc/PID/net/dev)."""
    received = sent = 0
    try:
        with open(f"/proc/{pid}/net/dev", encoding="utf-8", errors="replace") as file:
            rows = [line.partition(":") for line in file if ":" in line]
    except OSError:  # it has ended
        return 0, 0
    for name, _, counts in rows:
        if name.strip() != "lo":
            numbers = counts.split()
            received, sent = received + int(numbers[0]), sent + int(numbers[8])
    return received, sent


def _host_memory() -> int:
    with open("/proc/meminfo", encoding="utf-8") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("MemTotal:"))
