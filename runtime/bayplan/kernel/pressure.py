"""How long what is in a cgroup waits for a resource: pressure stall information (accounting/psi; version 2, Linux 4.20)."""

from __future__ import annotations

from bayplan.kernel.cgroup_files import read
from bayplan.model.value import NamedTuple


class Stall(NamedTuple):
    """Percent of the last 10, 60 and 300 seconds, and microseconds in all."""

    avg10: float = 0.0
    avg60: float = 0.0
    avg300: float = 0.0
    total: int = 0


class Pressure(NamedTuple):
    """When `some` of the tasks waited, and when all that were not idle did (`full`; None before Linux 5.13 for the processor)."""

    some: Stall
    full: Stall | None


def measure(directory: str, resource: str) -> Pressure | None:
    """The pressure on "cpu", "memory" or "io"; None where the kernel does not measure it."""
    found = {}
    for line in (read(f"{directory}/{resource}.pressure") or "").splitlines():
        kind, *words = line.split()
        given = dict(word.split("=") for word in words)
        found[kind] = Stall(float(given["avg10"]), float(given["avg60"]), float(given["avg300"]), int(given["total"]))
    return Pressure(found["some"], found.get("full")) if "some" in found else None
