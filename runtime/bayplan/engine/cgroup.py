"""The cgroup of each container: where it is, and what of it belongs to this state.

Under systemd every container has a transient scope in bayplan.slice, made as its builder begins. On version 2 that is the
container's cgroup, delegated; on version 1 it only takes the processes out of the session that started them.
"""

from __future__ import annotations

import os

from bayplan.engine.state import State
from bayplan.kernel import cgroups
from bayplan.kernel.cgroups import Cgroup, Host
from bayplan.model.runtime import Resources

MONITORS = "monitors"
SLICE = "bayplan.slice"
BOOTED = "/run/systemd/system"  # sd_booted(3)
BESIDE = f"{cgroups.ROOT}/unified"  # version 2's tree beside version 1: other runtimes put their processes there, too


def path(state: State, container_id: str) -> str:
    """The name of a container's cgroup beneath each hierarchy's root, as the bundle says it."""
    return "/" + _name(cgroups.observe_host(), state, container_id)


def _name(host: Host, state: State, container_id: str) -> str:
    return f"{SLICE}/{_scope(state, container_id)}" if _has_scopes(host) else f"bayplan-{state.id}/{container_id}"


def _scope(state: State, container_id: str) -> str:
    return f"bayplan-{state.id}-{container_id}.scope"


def _has_scopes(host: Host) -> bool:
    return host.version == 2 and os.path.isdir(BOOTED)


def create(state: State, container_id: str, resources: Resources, *, also: tuple[str, ...] = ()) -> Cgroup:
    """Make it with its limits; `also` as cgroups.create has it. Under systemd this process, the builder, is in the container's scope
    afterwards."""
    host = cgroups.observe_host()
    name = _name(host, state, container_id)
    if os.path.isdir(BOOTED):
        from bayplan.kernel import systemd

        systemd.enter_scope(_scope(state, container_id), description=f"Container {container_id[:12]} of bayplan")
    if _has_scopes(host):  # a cgroup that hands on controllers has no processes of its own
        cgroups.adopt(host, f"{name}/monitor", os.getpid())
    return cgroups.create(host, name, resources, also=also)


def prepare(state: State, container_id: str) -> None:
    """Before there is a builder to `adopt`: on version 1 the two would wait for each other."""
    cgroups.prepare(cgroups.observe_host(), f"bayplan-{state.id}/{container_id}")


def find(state: State, container_id: str, *, beside: int = 0) -> Cgroup | None:
    """Given its first process, where one beside it may be."""
    host = cgroups.observe_host()
    found = cgroups.find(host, _name(host, state, container_id))
    return cgroups.beside(found, beside) if found and beside else found


def update(state: State, container_id: str, resources: Resources) -> None:
    """Change the limits of a running container. Raises Kernel, Unavailable."""
    host = cgroups.observe_host()
    name = _name(host, state, container_id)
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
    host = cgroups.observe_host()
    for container_id in names(state):
        remove(state, container_id)
    if host.version == 2:
        cgroups.remove(Cgroup(2, (("", f"{host.mounts[0][1]}/bayplan-{state.id}/{MONITORS}"),)))
        return
    found = cgroups.find(host, f"bayplan-{state.id}")
    if found:
        cgroups.remove(found)
    _remove_beside(f"bayplan-{state.id}")


def remove_rest(state: State, container_id: str) -> None:
    """What another runtime leaves of a container's cgroup when it has removed it: on version 2 its parent, which has our own leaves,
    and what it has made in the tree of version 2 beside version 1."""
    host = cgroups.observe_host()
    if host.version == 2:
        cgroups.remove(Cgroup(2, (("", f"{host.mounts[0][1]}/{_name(host, state, container_id)}/container"),)))
    else:
        _remove_beside(f"bayplan-{state.id}/{container_id}")


def _remove_beside(name: str) -> None:
    if os.path.isdir(f"{BESIDE}/{name}"):
        cgroups.remove(Cgroup(2, (("", f"{BESIDE}/{name}"),)), leaf="")


def adopt(state: State, builder: int) -> None:
    """Take a builder out of the session that started it: its monitor is to outlive that, and shares no limit with it.

    Its caller does this while the builder works: the wait that the kernel imposes on the first move is then over when the
    container's first process is moved. Under systemd the builder does it itself.
    """
    if not os.path.isdir(BOOTED):
        cgroups.adopt(cgroups.observe_host(), f"bayplan-{state.id}/{MONITORS}", builder)


def names(state: State) -> frozenset[str]:
    """The ids whose cgroups are there."""
    host = cgroups.observe_host()
    if not _has_scopes(host):
        return cgroups.names(host, f"bayplan-{state.id}") - {MONITORS}
    begin, end = _scope(state, "\n").split("\n")
    scopes = (name for name in cgroups.names(host, SLICE) if name.startswith(begin) and name.endswith(end))
    return frozenset(name[len(begin) : -len(end)] for name in scopes)
