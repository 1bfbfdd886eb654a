"""Told when a cgroup runs out of memory: an eventfd on version 1 (cgroup-v1/memory), inotify(7) on version 2 (cgroup-v2)."""

from __future__ import annotations

import errno
import os
import select
import struct

from bayplan.errors import Kernel, Unavailable
from bayplan.kernel import linux
from bayplan.kernel.cgroup_files import rows
from bayplan.kernel.cgroups import Cgroup, oom_path

_DOING = "watching the container's memory"
_IN_MODIFY = 2


class OomWatch:
    """A descriptor that becomes readable when it may have run out of memory, or is removed."""

    def __init__(self, cgroup: Cgroup) -> None:
        """Begin to watch. Unavailable where nothing counts its memory."""
        self._path, self._version = oom_path(cgroup), cgroup.version
        if not self._path or not os.path.exists(self._path):
            raise Unavailable("watching the container's memory: it is in no cgroup of the memory controller")
        self._seen = rows(self._path).get("oom_kill", 0)
        self._fd = linux.eventfd() if cgroup.version == 1 else linux.inotify()
        try:
            if cgroup.version == 1:
                self._register()
            else:
                linux.inotify_add_watch(self._fd, self._path, _IN_MODIFY)
        except OSError as error:
            self.close()
            raise Kernel(_DOING, error) from error

    def _register(self) -> None:
        # the kernel keeps what it needs of both; only the eventfd has to stay open
        directory = os.path.dirname(self._path)
        watched = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        control = os.open(f"{directory}/cgroup.event_control", os.O_WRONLY | os.O_CLOEXEC)
        os.write(control, f"{self._fd} {watched}".encode())
        os.close(control)
        os.close(watched)

    def fileno(self) -> int:
        return self._fd

    def take(self) -> int | None:
        """How many times it has run out of memory since the last call; None once it is gone. Does not wait."""
        told = self._drain()
        if not os.path.exists(self._path):  # a removal wakes the watcher too
            return None
        if self._version == 1:
            # told before the kernel kills, and also where killing is disabled: `oom_kill` may not count it yet, or ever
            return struct.unpack("=Q", told)[0] if told else 0
        before, self._seen = self._seen, rows(self._path).get("oom_kill", 0)
        return self._seen - before

    def wait(self, seconds: float) -> bool:
        """Whether it ran out of memory before `seconds` were over; False at once when it is gone."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        while poll.poll(seconds * 1000):
            taken = self.take()
            if taken != 0:
                return bool(taken)
            seconds = 0  # woken for another event of the same file
        return False

    def _drain(self) -> bytes:
        try:
            return os.read(self._fd, 4096)
        except OSError as error:
            if error.errno != errno.EAGAIN:
                raise
            return b""

    def close(self) -> None:
        os.close(self._fd)
