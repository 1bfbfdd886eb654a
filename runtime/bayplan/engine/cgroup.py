"""The cgroup of each container: where it is, and what of it belongs to this state."""

from __future__ import annotations

from bayplan.engine.state import State
from bayplan.kernel import cgroups
from bayplan.kernel.cgroups import Cgroup
from bayplan.model.runtime import Resources

MONITORS = "monitors"


def path(state: State, container_id: str) -> str:
    """The name of a container's cgroup beneath each hierarchy's root, as the bundle says it."""
    return f"/bayplan-{state.id}/{container_id}"


def _name(state: State, container_id: str) -> str:
    return path(state, container_id).lstrip("/")


def create(state: State, container_id: str, resources: Resources) -> Cgroup:
    return cgroups.create(cgroups.observe_host(), _name(state, container_id), resources)


def find(state: State, container_id: str) -> Cgroup | None:
    return cgroups.find(cgroups.observe_host(), _name(state, container_id))


def update(state: State, container_id: str, resources: Resources) -> None:
    """Change the limits of a running container. Raises Kernel, Unavailable."""
    host, name = cgroups.observe_host(), _name(state, container_id)
    found = cgroups.find(host, name)
    if found:
        cgroups.update(host, found, name, resources)


def remove(state: State, container_id: str) -> None:
    """Kill what is left in it, and remove it; one that is gone is no error."""
    found = find(state, container_id)
    if found:
        cgroups.remove(found)


def remove_all(state: State) -> None:
    """Remove the cgroup of the whole state, and kill what is left in it."""
    found = cgroups.find(cgroups.observe_host(), f"bayplan-{state.id}")
    if found:
        cgroups.remove(found)


def adopt(state: State, builder: int) -> None:
    """Take a builder out of the session that started it: its monitor is to outlive that, and shares no limit with it.

    Its caller does this while the builder works: the wait that the kernel imposes on the first move is then over when the
    container's first process is moved.
    """
    cgroups.adopt(cgroups.observe_host(), f"bayplan-{state.id}/{MONITORS}", builder)


def names(state: State) -> frozenset[str]:
    """The ids whose cgroups are there."""
    return cgroups.names(cgroups.observe_host(), f"bayplan-{state.id}") - {MONITORS}
