"""The seccomp agent of a container (`linux.seccomp.listenerPath`): it answers the calls that the profile notifies it of."""

from __future__ import annotations

import os

from bayplan.errors import Kernel
from bayplan.kernel import linux, seccomp_listener
from bayplan.kernel.pids import open_pidfd
from bayplan.model import jsontext
from bayplan.model.runtime import Config
from bayplan.model.value import TYPE_CHECKING
from bayplan.oci import record
from bayplan.oci.record import Record

if TYPE_CHECKING:
    from collections.abc import Callable


def listening(found: Record, config: Config, status: str) -> Callable[[int, int], None] | None:
    """What gives the agent the listener of a process of this container; None where its profile names no agent."""
    profile = config.linux.seccomp
    if profile is None or not profile.listener_path:
        return None

    def give(pid: int, number: int) -> None:
        listener = _take(pid, number)
        agent = seccomp_listener.connect(profile.listener_path)
        state = record.state(found._replace(pid=found.pid or pid), status, config.annotations)
        told = seccomp_listener.process_state(state, pid=pid, metadata=profile.listener_metadata)
        seccomp_listener.send(agent, listener, jsontext.dumps(told).encode())
        os.close(agent)
        os.close(listener)

    return give


def _take(pid: int, number: int) -> int:
    """A copy of descriptor `number` of process `pid`, which waits for us: it can do little else any more."""
    try:
        pidfd = open_pidfd(pid)
        try:
            return linux.pidfd_getfd(pidfd, number)
        finally:
            os.close(pidfd)
    except OSError as error:
        raise Kernel("taking the seccomp listener for its agent (Linux 5.6)", error) from error
