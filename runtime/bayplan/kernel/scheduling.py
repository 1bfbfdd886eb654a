"""How the kernel schedules a container's process: its processors, its policy, and its turn at block devices.

What a caller had of these is not inherited: all are reset where the container says nothing.
"""

from __future__ import annotations

import errno
import os
import struct

from bayplan.errors import Invalid
from bayplan.kernel import linux
from bayplan.kernel.rootfs import Step
from bayplan.model.runtime import CpuAffinity, IoPriority, Process, Scheduler
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# numbers and bits are places in these (linux/sched.h, linux/ioprio.h)
_POLICIES = ("SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_ISO", "SCHED_IDLE", "SCHED_DEADLINE")
_FLAGS = tuple(
    "SCHED_FLAG_" + name
    for name in ("RESET_ON_FORK", "RECLAIM", "DL_OVERRUN", "KEEP_POLICY", "KEEP_PARAMS", "UTIL_CLAMP_MIN", "UTIL_CLAMP_MAX")
)
_IO_CLASSES = ("", "IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE")
_MOST_PROCESSORS = 8192
_TIMER_SLACK = 50_000  # nanoseconds: what the kernel gives process 1 (prctl(2), PR_SET_TIMERSLACK)


def enter_initially(affinity: CpuAffinity | None) -> None:
    """Where a process that is executed in a container is built, before it joins the container's cgroup."""
    if affinity and affinity.initial:
        _set_affinity("initial", affinity.initial)


def schedule(process: Process, *, entering: bool = False) -> None:
    """Processors, policy and priorities of this process, which has its cgroup and its privileges still.

    `entering` is for a process that is executed in a running container: `process.cpu_affinity` is of such only. Invalid names the
    member of config.json that makes no sense, Kernel the one that the kernel refuses.
    """
    affinity = process.cpu_affinity if entering else None
    if affinity and affinity.final:
        _set_affinity("final", affinity.final)
    elif not affinity or not affinity.initial:
        _reset(linux.allow_all_processors)
    if process.scheduler:
        if not (entering and is_lost_by_fork(process.scheduler)):
            _set_policy(process.scheduler)
    else:
        _reset(_reset_policy)
    if process.io_priority:
        _set_io_priority(process.io_priority)
    else:
        _reset(_reset_io_priority)
    linux.prctl(linux.PR_SET_TIMERSLACK, _TIMER_SLACK)


def is_lost_by_fork(wanted: Scheduler | None) -> bool:
    """Whether a child has another policy, or cannot be made (sched(7)): then `set_policy_of` gives the child its own."""
    return wanted is not None and (wanted.policy == "SCHED_DEADLINE" or "SCHED_FLAG_RESET_ON_FORK" in wanted.flags)


def set_policy_of(pid: int, wanted: Scheduler) -> None:
    """The policy of a process that waits. Invalid and Kernel as `schedule`."""
    _set_policy(wanted, pid)


def parse_processors(text: str) -> frozenset[int]:
    """The numbers of a list such as "0-2,4"; ValueError for anything else (cpuset(7), "List format")."""
    numbers: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not (first.isascii() and first.isdecimal()) or (dash and not (last.isascii() and last.isdecimal())):
            raise ValueError(f"{part!r} is neither a processor's number nor a range of them")
        start, end = int(first), int(last or first)
        if not start <= end < _MOST_PROCESSORS:
            raise ValueError(f"{part!r} goes backwards, or beyond {_MOST_PROCESSORS - 1}")
        numbers.update(range(start, end + 1))
    return frozenset(numbers)


def _reset(action: Callable[[], None]) -> None:
    """What only tidies up may be refused: a kernel without it, or a caller without CAP_SYS_NICE, has nothing better to give."""
    try:
        action()
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EINVAL, errno.ENOSYS):
            raise


def _set_affinity(member: str, text: str) -> None:
    try:
        processors = parse_processors(text)
    except ValueError as error:
        raise Invalid(f"process.execCPUAffinity.{member}: {error}") from error
    with Step(f"setting process.execCPUAffinity.{member} to {text} (the host and the container's cpuset must have one of these)"):
        os.sched_setaffinity(0, processors)


def _reset_policy() -> None:
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _reset_io_priority() -> None:
    linux.set_io_priority(0)


def _set_policy(wanted: Scheduler, pid: int = 0) -> None:
    _check(wanted)
    flags = sum(1 << _FLAGS.index(name) for name in set(wanted.flags))
    times = (wanted.runtime, wanted.deadline, wanted.period)
    attributes = struct.pack("=IIQiI3Q", 48, _POLICIES.index(wanted.policy), flags, wanted.nice, wanted.priority, *times)
    deadline = wanted.policy == "SCHED_DEADLINE"
    hint = "it needs CAP_SYS_NICE" + (" and a cpuset of all processors" if deadline else " unless it lowers the priority")
    with Step(f"setting process.scheduler to {wanted.policy} ({hint})"):
        linux.set_scheduler(attributes, pid)


def _check(wanted: Scheduler) -> None:
    """What the kernel would clamp or ignore instead of refusing it, and names that it has no number for."""
    if wanted.policy not in _POLICIES:
        raise Invalid(f"process.scheduler.policy {wanted.policy!r} is none of {', '.join(_POLICIES)}")
    unknown = [name for name in wanted.flags if name not in _FLAGS]
    if unknown:
        raise Invalid(f"process.scheduler.flags: {unknown[0]!r} is none of {', '.join(_FLAGS)}")
    if not -20 <= wanted.nice <= 19:
        raise Invalid(f"process.scheduler.nice {wanted.nice} is not from -20 to 19")
    if wanted.priority and wanted.policy not in ("SCHED_FIFO", "SCHED_RR"):
        raise Invalid("process.scheduler.priority is for the policies SCHED_FIFO and SCHED_RR only")
    if wanted.nice and wanted.policy not in ("SCHED_OTHER", "SCHED_BATCH"):
        raise Invalid("process.scheduler.nice is for the policies SCHED_OTHER and SCHED_BATCH only")
    if (wanted.runtime or wanted.deadline or wanted.period) and wanted.policy != "SCHED_DEADLINE":
        raise Invalid("process.scheduler.runtime, deadline and period are for the policy SCHED_DEADLINE only")


def _set_io_priority(wanted: IoPriority) -> None:
    if wanted.type not in _IO_CLASSES[1:]:
        raise Invalid(f"process.ioPriority.class {wanted.type!r} is none of {', '.join(_IO_CLASSES[1:])}")
    if not 0 <= wanted.priority <= 7:
        raise Invalid(f"process.ioPriority.priority {wanted.priority} is not from 0 to 7")
    with Step(f"setting process.ioPriority to {wanted.type} (IOPRIO_CLASS_RT needs CAP_SYS_NICE or CAP_SYS_ADMIN)"):
        linux.set_io_priority(_IO_CLASSES.index(wanted.type) << 13 | wanted.priority)
