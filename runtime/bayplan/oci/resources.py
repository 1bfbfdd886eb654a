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
_SIZES = {
    "memory": "memory_limit",
    "memory-reservation": "memory_reservation",
    "memory-swap": "memory_swap",
    "kernel-memory": "memory_kernel",
    "kernel-memory-tcp": "memory_kernel_tcp",
}
_TEXTS = {"cpuset-cpus": "cpuset_cpus", "cpuset-mems": "cpuset_mems"}


def update(call: Invocation) -> None:
    """Change what is given, and nothing else. Conflict where the container does not run, Invalid for what makes no sense."""
    found = record.read(call.root, call.arguments[0])
    wanted = _from_document(call.text("resources")) if call.given("resources") else _from_options(call)
    own = cgroup.find(found)
    if own is None or control.status(call.root, found) == "stopped":
        raise Conflict(f"updating container {found.id}: container not running")
    cgroups.update(cgroups.observe_host(), own, found.cgroup, wanted)


def _from_document(path: str) -> Resources:
    try:
        if path == "-":
            text = sys.stdin.read()
        else:
            with open(path, encoding="utf-8") as file:
                text = file.read()
    except OSError as error:
        raise Unavailable(f"reading {path}: {error.strerror}") from error
    resources = bundle_parser.parse_resources(bundle.document(text, path), reading=f"reading {path}")
    # engines send zero for what is not to change (runc's update does not tell the two apart either)
    unsaid: dict[str, Any] = {name: None for name, value in resources._asdict().items() if value == 0 and not isinstance(value, bool)}
    return resources._replace(devices=(), **unsaid)


def _from_options(call: Invocation) -> Resources:
    if call.given("l3-cache-schema") or call.given("mem-bw-schema"):
        raise Unavailable("--l3-cache-schema, --mem-bw-schema: resctrl groups are not supported")
    given: dict[str, Any] = {field: call.number(name) for name, field in _NUMBERS.items() if call.number(name)}
    given.update((field, _bytes(name, call.text(name))) for name, field in _SIZES.items() if call.text(name) not in ("", "0"))
    given.update((field, call.text(name)) for name, field in _TEXTS.items() if call.text(name))
    if call.number("blkio-weight"):
        given["block_io"] = BlockIo(weight=call.number("blkio-weight"))
    if not given:
        raise Invalid("update: nothing to change was given; see --help, or give --resources")
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
