"""Signals to exactly the process that is meant: by pidfd, or by number and start time where there is none."""

from __future__ import annotations

import errno
import os

from bayplan.errors import Kernel, NotFound
from bayplan.kernel import linux
from bayplan.model.value import NamedTuple


class Handle(NamedTuple):
    """A process as a record can keep it: `start_time` in clock ticks since boot (field 22 of proc(5)'s stat)."""

    pid: int
    start_time: int


def open_pidfd(pid: int) -> int:
    """A close-on-exec pidfd, or -1 before Linux 5.3. OSError ESRCH if there is no such process."""
    try:
        return linux.pidfd_open(pid)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        return -1


def read_start_time(pid: int) -> int:
    """Field 22 of /proc/PID/stat; 0 if there is no such process, or only its unreaped remains."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def is_alive(handle: Handle) -> bool:
    """Whether that very process runs (or is stopped); its zombie does not count."""
    return handle.pid > 0 and read_start_time(handle.pid) == handle.start_time != 0


def kill(handle: Handle, signal: int) -> None:
    """Send `signal` to that very process, never to one that was given its number later. NotFound if it has ended."""
    try:
        pidfd = open_pidfd(handle.pid)
        try:
            if not is_alive(handle):  # checked after the pidfd is held, so that nothing can change in between
                raise ProcessLookupError(errno.ESRCH, "no such process")
            if pidfd >= 0:
                linux.pidfd_send_signal(pidfd, signal)
            else:
                os.kill(handle.pid, signal)
        finally:
            if pidfd >= 0:
                os.close(pidfd)
    except ProcessLookupError as error:
        raise NotFound(f"sending signal {signal}: process {handle.pid} has ended") from error
    except OSError as error:
        raise Kernel(f"sending signal {signal} to process {handle.pid}", error) from error
