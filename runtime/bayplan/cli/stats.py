"""`stats`: what containers use, once or live."""

from __future__ import annotations

import sys
import time

from bayplan.cli import moments
from bayplan.cli.call import Call
from bayplan.cli.output import listing, short
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from bayplan.engine.containers import Record
    from bayplan.engine.state import State
    from bayplan.engine.stats import Sample

_COLUMNS = (
    ("CONTAINER ID", "ID"),
    ("NAME", "Name"),
    ("CPU %", "CPUPerc"),
    ("MEM USAGE / LIMIT", "MemUsage"),
    ("MEM %", "MemPerc"),
    ("NET I/O", "NetIO"),
    ("BLOCK I/O", "BlockIO"),
    ("PIDS", "PIDs"),
)
_SECONDS = 1.0
_CLEAR = "\033[H\033[2J"


def stats(call: Call) -> int:
    """A second's worth of the containers named, or of all that run; again each second until interrupted, unless --no-stream."""
    state = call.state()
    from bayplan.engine import stats as engine

    before: dict[str, Sample] = {record.id: engine.sample(state, record) for record in _chosen(call, state)}
    try:
        while True:
            time.sleep(_SECONDS)
            chosen = _chosen(call, state)
            now = {record.id: engine.sample(state, record) for record in chosen}
            _show(call, [_document(call, each, before.get(each.id, engine.Sample()), now[each.id]) for each in chosen])
            if call.flag("no-stream"):
                return 0
            before = now
    except KeyboardInterrupt:  # that is how it ends
        return 0


def _chosen(call: Call, state: State) -> list[Record]:
    from bayplan.engine import containers

    if call.arguments:
        return [containers.find(state, name) for name in call.arguments]
    ordered = sorted(containers.all_records(state), key=lambda record: record.created, reverse=True)
    return [each for each in ordered if call.flag("all") or containers.run_of(state, each.id).pid]


def _show(call: Call, documents: list[dict[str, Any]]) -> None:
    if sys.stdout.isatty() and not call.flag("no-stream"):
        sys.stdout.write(_CLEAR)
    listing(call, documents, _COLUMNS)
    sys.stdout.flush()


def _document(call: Call, record: Record, before: Sample, now: Sample) -> dict[str, Any]:
    """One container in Docker's words."""
    from bayplan.engine.stats import processors_used

    share = now.memory / now.memory_limit if now.memory_limit else 0.0
    identity = record.id if call.flag("no-trunc") else short(record.id)
    return {
        "BlockIO": f"{moments.size(now.read)} / {moments.size(now.written)}",
        "CPUPerc": f"{processors_used(before, now):.2%}",
        "Container": identity,
        "ID": identity,
        "MemPerc": f"{share:.2%}",
        "MemUsage": f"{_binary(now.memory)} / {_binary(now.memory_limit)}",
        "Name": record.name,
        "NetIO": f"{moments.size(now.received)} / {moments.size(now.sent)}",
        "PIDs": str(now.pids),
    }


def _binary(count: float) -> str:
    """Binary units, four digits: 1.523MiB."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            break
        count /= 1024
    return f"{count:.4g}{unit}" if count < 1000 else f"{count:.0f}{unit}"
