"""Many containers on one host: whether the last starts as the first did, how long it takes to list them, what they keep in memory."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import engines
from engines import Engine

THRESHOLDS = {1: 1024, 2: 4096, 3: 8192}  # as the role `host` sets them: one table of neighbours is all namespaces' (arp(7))
GROUP = 25  # starts that are compared, at either end
LISTINGS = 15
NETWORK, SUBNET = "many", "10.222.0.0/20"  # that of a network by default has 252 addresses


class Scale(NamedTuple):
    """Seconds of each start, in order; seconds of `ps` with all of them."""

    starts: tuple[float, ...]
    listings: tuple[float, ...]

    @property
    def first(self) -> float:
        return statistics.median(self.starts[:GROUP])

    @property
    def last(self) -> float:
        return statistics.median(self.starts[-GROUP:])


@contextmanager
def raised_thresholds() -> Iterator[None]:
    """Where they are this network namespace's to set: they are the first one's."""
    places = {Path(f"/proc/sys/net/ipv4/neigh/default/gc_thresh{level}"): value for level, value in THRESHOLDS.items()}
    there = {place: place.read_text() for place in places if place.exists()}
    for place in there:
        place.write_text(str(places[place]))
    try:
        yield
    finally:
        for place, before in there.items():
            place.write_text(before)


def measure(engine: Engine, number: int) -> Scale:
    """Start `number` containers one after the other, list them; they are left running."""
    with raised_thresholds():
        engine.do("network", "create", "--subnet", SUBNET, NETWORK)
        run = ("run", "--detach", "--network", NETWORK, "--name")
        engine.do(*run, "warm", engines.IMAGE, "sleep", "100000")
        starts = tuple(seconds(engine, *run, f"c{each}", engines.IMAGE, "sleep", "100000") for each in range(number))
        return Scale(starts, tuple(seconds(engine, "ps") for _ in range(LISTINGS)))


def seconds(engine: Engine, *words: str) -> float:
    began = time.perf_counter()
    subprocess.run((*engine.argv, *words), env=engine.environment, stdout=subprocess.DEVNULL, check=True, timeout=60)
    return time.perf_counter() - began


def remove(engine: Engine, names: Sequence[str]) -> None:
    for begin in range(0, len(names), 50):
        engine.do("rm", "--force", *names[begin : begin + 50])
    engine.do("network", "rm", NETWORK)
