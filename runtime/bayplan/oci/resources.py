"""update and events: a container's limits changed in place, and what it uses."""

from __future__ import annotations

import sys

from bayplan.cli.output import json_text
from bayplan.errors import Conflict, Invalid, Unavailable
from bayplan.kernel import cgroups
from bayplan.model import bundle_parser
from bayplan.model.runtime import BlockIo, Resources
from bayplan.model.value import TYPE_CHECKING
from bayplan.oci import bundle, cgroup, control, record
from bayplan.oci.commands import Invocation

if TYPE_CHECKING:
    from typing import Any

_NUMBERS = {
    "cpu-period": "cpu_period",
    "cpu-quota": "cpu_quota",
    "cpu-burst": "cpu_burst",
    "cpu-share": "cpu_shares",
    "cpu-rt-period": "cpu_realtime_period",
    "cpu-rt-runtime": "cpu_realtime_runtime",
    "cpu-idle": "cpu_idle",
    "pids-limit": "pids_limit",
}
_SIZES = {"memory": "memory_limit", "memory-reservation": "memory_reservation", "memory-swap": "memory_swap"}
_ZERO_IS_MEANT = ("burst", "idle", "swappiness", "cpu-burst", "cpu-idle")
_TEXTS = {"cpuset-cpus": "cpuset_cpus", "cpuset-mems": "cpuset_mems"}


def update(call: Invocation) -> None:
    """Change what is given, and nothing else. Conflict where the container does not run, Invalid for what makes no sense."""
    found = record.read(call.root, call.arguments[0])
    wanted = _from_document(call.text("resources")) if call.given("resources") else _from_options(call)
    own = cgroup.find(found)
    if own is None or control.status(call.root, found) == "stopped":
        raise Conflict(f"updating container {found.id}: container not running")
    if wanted.memory_limit == -1 and wanted.memory_swap is None:  # which cannot be less
        wanted = wanted._replace(memory_swap=-1)
    cgroups.update(cgroups.observe_host(), own, found.cgroup, wanted)


def _from_document(path: str) -> Resources:
    document = bundle.document(bundle.read("/dev/stdin" if path == "-" else path), path)
    resources = bundle_parser.parse_resources(_without_zeros(document), reading=f"reading {path}")
    return resources._replace(devices=())


def _without_zeros(document: Any) -> Any:
    """Engines send zero for what is not to change, and runc's update does not tell the two apart either."""
    if not isinstance(document, dict):
        return document
    said = {name: _without_zeros(value) for name, value in document.items() if value != 0 or value is False or name in _ZERO_IS_MEANT}
    return {name: value for name, value in said.items() if value != {}}


def _from_options(call: Invocation) -> Resources:
    if call.given("l3-cache-schema") or call.given("mem-bw-schema"):
        raise Unavailable("--l3-cache-schema, --mem-bw-schema: resctrl groups are not supported")
    for name in ("kernel-memory", "kernel-memory-tcp"):
        if call.text(name):
            sys.stderr.write(f"bayplan-oci: warning: --{name} has no effect: the kernel has no such limit any more\n")
    told = [name for name in _NUMBERS if call.given(name) and (call.number(name) or name in _ZERO_IS_MEANT)]
    given: dict[str, Any] = {_NUMBERS[name]: call.number(name) for name in told}
    given.update((field, _bytes(name, call.text(name))) for name, field in _SIZES.items() if call.text(name) not in ("", "0"))
    given.update((field, call.text(name)) for name, field in _TEXTS.items() if call.text(name))
    if call.number("blkio-weight"):
        given["block_io"] = BlockIo(weight=call.number("blkio-weight"))
    return Resources()._replace(**given)


def _bytes(name: str, text: str) -> int:
    """ "64m", "1g", "-1", as docker and runc read sizes."""
    from bayplan.model.node import Node
    from bayplan.model.units import size

    return -1 if text == "-1" else size(Node(text, f"--{name}"))


def events(call: Invocation) -> None:
    """Once with --stats; else at every interval, and whenever it runs out of memory, until it ends."""
    from bayplan.kernel import accounting

    found = record.read(call.root, call.arguments[0])
    own = cgroup.find(found)
    if own is None or control.status(call.root, found) == "stopped":
        raise Conflict(f"measuring container {found.id}: container not running")

    def tell() -> None:
        said = {**accounting.document(accounting.read(own)), "id": found.id}
        print(json_text(said), flush=True)

    if call.flag("stats"):
        tell()
        return
    watched = accounting.watch_oom(own)
    interval = _seconds(call.text("interval", "5s"))
    while control.status(call.root, found) != "stopped":
        if watched.wait(interval):
            print(json_text({"type": "oom", "id": found.id}), flush=True)
        else:
            tell()


def _seconds(text: str) -> float:
    from bayplan.model.node import Node
    from bayplan.model.units import SECOND, duration

    nanoseconds = duration(Node(text, "--interval"))
    if nanoseconds <= 0:
        raise Invalid(f"--interval {text}: it is above zero")
    return nanoseconds / SECOND
