"""Measuring: the wall time of commands taken in turn, and the memory of processes."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

_SAMPLE_SECONDS = 0.05
_SETTLE_SECONDS = 0.3


class Command(NamedTuple):
    """What is measured; `before` runs before each time and is not."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    before: Callable[[], None] | None = None


class Result(NamedTuple):
    """Seconds of each run; `peak` bytes where memory was sampled."""

    seconds: tuple[float, ...]
    peak: int = 0

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def interleaved(commands: Mapping[str, Command], *, rounds: int) -> dict[str, Result]:
    """Run the commands in turn, A B C A B C, so that what else happens on the machine meets all alike. What one leaves to do when
    it has ended (a daemon's clearing up) is over before the next begins, and one more round first is not counted.

    Raises RuntimeError, with its output, for a command that fails.
    """
    found: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            time.sleep(_SETTLE_SECONDS)
            seconds = timed(command)
            if number:
                found[name].append(seconds)
    return {name: Result(tuple(seconds)) for name, seconds in found.items()}


def timed(command: Command) -> float:
    """Seconds of one run, from its start to its end."""
    if command.before:
        command.before()
    begin = time.perf_counter()
    done = subprocess.run(command.argv, env=command.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900)
    seconds = time.perf_counter() - begin
    if done.returncode:
        raise RuntimeError(f"{' '.join(command.argv)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return seconds


def with_peak(command: Command, *, server: int = 0) -> tuple[float, int]:
    """Seconds of one run, and the most memory in bytes that its processes, and a server's that does the work, had at once."""
    if command.before:
        command.before()
    begin, peak = time.perf_counter(), 0
    process = subprocess.Popen(command.argv, env=command.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        peak = max(peak, sum(map(share, [pid for root in (process.pid, server) if root for pid in (root, *descendants(root))])))
        time.sleep(_SAMPLE_SECONDS)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command.argv)}: exit status {process.returncode}")
    return time.perf_counter() - begin, peak


def share(pid: int) -> int:
    """The process's proportional set size in bytes (proc(5), smaps_rollup); 0 for one that has ended."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        return 0
    return 0


def descendants(pid: int) -> list[int]:
    """All processes below `pid`."""
    found: list[int] = []
    for task in _listed(f"/proc/{pid}/task"):
        for child in _words(f"/proc/{pid}/task/{task}/children"):
            found += [int(child), *descendants(int(child))]
    return found


def _listed(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def _words(path: str) -> list[str]:
    try:
        return Path(path).read_text().split()
    except OSError:
        return []
