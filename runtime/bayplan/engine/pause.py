"""Holding all processes of a container where they are, and letting them go on."""

from __future__ import annotations

from bayplan.engine import cgroup, containers
from bayplan.engine.containers import Record
from bayplan.engine.state import State
from bayplan.errors import Conflict, NotFound
from bayplan.store import status


def pause(state: State, record: Record) -> None:
    """Freeze it; its health check rests meanwhile. Raises Conflict where it does not run or is paused, Unavailable without a freezer."""
    from bayplan.kernel import freezer

    run = containers.run_of(state, record.id)
    if run.status != "running" or not run.pid:
        raise Conflict(f"pausing container {record.name}: it is {run.status}, and only a running one can be paused")
    directory = state.root.container(record.id)
    status.mark_paused(directory)  # first: a probe that began now would be frozen with it
    try:
        own = cgroup.find(state, record.id)
        if own is None:
            raise NotFound(f"pausing container {record.name}: its cgroup is gone")
        freezer.freeze(own)
    except BaseException:
        status.clear_paused(directory)
        raise


def unpause(state: State, record: Record) -> None:
    """Let it go on. Raises Conflict where it is not paused."""
    if containers.run_of(state, record.id).status != "paused":
        raise Conflict(f"unpausing container {record.name}: it is not paused")
    thaw(state, record)


def thaw(state: State, record: Record) -> None:
    """As `unpause`; one that is not paused is no error."""
    from bayplan.kernel import freezer

    directory = state.root.container(record.id)
    if not status.marked_paused(directory):
        return
    own = cgroup.find(state, record.id)
    if own:
        freezer.thaw(own)
    status.clear_paused(directory)
